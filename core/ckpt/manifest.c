/* manifest: MANIFEST.json, and the small files beside the tensors. */
#include "core/ckpt/int.h"

#include "core/fs.h"
#include "core/json.h"
#include "core/text.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define MANIFEST_MAX (1 << 20)
#define MANIFEST_FORMAT 1
#define SMALL_MAX (64 << 20)

static int name_order(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* {"name","size","sha256"} of every file of dir but the manifest, by name. */
static json_t *manifest_files(const char *dir, struct err *err) {
    char *names[64];
    int n = 0;
    DIR *d = opendir(dir);
    if (!d) {
        err_sys(err, "read %s", dir);
        return NULL;
    }
    for (struct dirent *e; n < 64 && (e = readdir(d));)
        if (e->d_name[0] != '.' && strcmp(e->d_name, CKPT_MANIFEST) != 0)
            names[n++] = fs_path("%s", e->d_name);
    closedir(d);
    qsort(names, (size_t)n, sizeof *names, name_order);
    json_t *files = json_array();
    for (int i = 0; i < n; i++) {
        char *path = fs_path("%s/%s", dir, names[i]), hex[65];
        if (files && fs_sha256_file(path, hex, err) == 0) {
            json_array_append_new(
                files, json_pack("{s:s, s:I, s:s}", "name", names[i], "size",
                                 (json_int_t)fs_size(path), "sha256", hex));
        } else {
            json_decref(files);
            files = NULL;
        }
        free(path);
        free(names[i]);
    }
    return files;
}

int manifest_write(const char *dir, const struct manifest *m, struct err *err) {
    json_t *files = manifest_files(dir, err);
    if (!files)
        return -1;
    char seed[32];
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)m->seed);
    json_t *j = json_pack(
        "{s:i, s:s, s:s, s:I, s:I, s:I, s:f, s:s, s:b, s:b, s:b, s:o}",
        "format", MANIFEST_FORMAT, "kind", ckpt_kind_name(m->kind), "base",
        m->base, "step", (json_int_t)m->step, "seq", (json_int_t)m->seq,
        "lora_rank", (json_int_t)m->lora_rank, "lora_alpha",
        (double)m->lora_alpha, "seed", seed, "train_attn", m->train_attn,
        "train_mlp", m->train_mlp, "train_unembed", m->train_unembed, "files",
        files);
    if (m->tuning != TUNE_FP32)
        json_object_set_new(j, "precision",
                            json_string(tuning_name(m->tuning)));
    if (*m->renderer)
        json_object_set_new(j, "renderer", json_string(m->renderer));
    char *text = json_dumps(j, JSON_INDENT(1) | JSON_PRESERVE_ORDER), hex[65];
    CHECK(text, "out of memory for a manifest");
    struct buf b;
    buf_init(&b, MANIFEST_MAX);
    buf_printf(&b, "%s\n", text);
    fs_sha256(b.data, b.len, hex);
    buf_printf(&b, "sha256 %s\n", hex);
    char *path = fs_path("%s/%s", dir, CKPT_MANIFEST);
    int rc = buf_check(&b, "write manifest", err);
    if (rc == 0)
        rc = fs_write_atomic(path, b.data, b.len, err);
    free(path);
    free(text);
    json_decref(j);
    buf_release(&b);
    return rc;
}

static int manifest_parse(const json_t *j, struct manifest *m,
                          struct err *err) {
    const char *kind, *base, *seed, *precision, *renderer;
    int64_t format, step, seq, rank;
    double alpha;
    if (json_get_str(j, "precision", &precision, "fp32", err) < 0 ||
        json_get_str(j, "renderer", &renderer, "", err) < 0 ||
        json_get_int(j, "format", &format, 0, err) < 0 ||
        json_get_str(j, "kind", &kind, "", err) < 0 ||
        json_get_str(j, "base", &base, "", err) < 0 ||
        json_get_str(j, "seed", &seed, "0", err) < 0 ||
        json_get_int(j, "step", &step, 0, err) < 0 ||
        json_get_int(j, "seq", &seq, 0, err) < 0 ||
        json_get_int(j, "lora_rank", &rank, 0, err) < 0 ||
        json_get_num(j, "lora_alpha", &alpha, 0, err) < 0 ||
        json_get_bool(j, "train_attn", &m->train_attn, false, err) < 0 ||
        json_get_bool(j, "train_mlp", &m->train_mlp, false, err) < 0 ||
        json_get_bool(j, "train_unembed", &m->train_unembed, false, err) < 0)
        return -1;
    if (format != MANIFEST_FORMAT)
        return err_set(err, ERR_UNSUPPORTED,
                       "checkpoint format %lld (this fettle reads %d)",
                       (long long)format, MANIFEST_FORMAT);
    m->kind = strcmp(kind, ckpt_kind_name(CKPT_SAMPLER)) == 0 ? CKPT_SAMPLER
                                                              : CKPT_STATE;
    m->tuning =
        strcmp(precision, tuning_name(TUNE_BF16)) == 0 ? TUNE_BF16 : TUNE_FP32;
    snprintf(m->base, sizeof m->base, "%s", base);
    snprintf(m->renderer, sizeof m->renderer, "%s", renderer);
    m->step = (uint64_t)step;
    m->seq = (uint64_t)seq;
    m->seed = strtoull(seed, NULL, 10);
    m->lora_rank = (uint32_t)rank;
    m->lora_alpha = (float)alpha;
    return 0;
}

int manifest_read(const char *dir, struct manifest *m, json_t **files,
                  struct err *err) {
    char *path = fs_path("%s/%s", dir, CKPT_MANIFEST), hex[65];
    size_t len;
    json_t *j = NULL;
    int rc = -1;
    memset(m, 0, sizeof *m);
    *files = NULL;
    char *text = fs_read(path, MANIFEST_MAX, &len, err);
    if (!text)
        goto out;
    size_t trailer = strlen("sha256 ") + 64 + 1;
    char *tail = len > trailer ? text + len - trailer : NULL;
    if (!tail || memcmp(tail, "sha256 ", 7) != 0) {
        err_set(err, ERR_CORRUPT, "%s: truncated", path);
        goto out;
    }
    fs_sha256(text, len - trailer, hex);
    if (memcmp(hex, tail + 7, 64) != 0) {
        err_set(err, ERR_CORRUPT, "%s: its checksum does not match", path);
        goto out;
    }
    j = json_read(text, len - trailer, path, err);
    if (!j || manifest_parse(j, m, err) < 0)
        goto out;
    m->bytes = (int64_t)len;
    *files = json_incref(json_object_get(j, "files"));
    rc = 0;
out:
    free(text);
    free(path);
    json_decref(j);
    return rc;
}

char *ckpt_renderer_of(const char *path) {
    struct manifest m;
    struct err ignored = {0};
    json_t *files = NULL;
    int rc = manifest_read(path, &m, &files, &ignored);
    json_decref(files);
    return fs_path("%s", rc == 0 ? m.renderer : "");
}

static int verify_file(const char *dir, const json_t *f, struct manifest *m,
                       struct err *err) {
    const char *name = json_string_value(json_object_get(f, "name"));
    const char *sha = json_string_value(json_object_get(f, "sha256"));
    int64_t size = json_integer_value(json_object_get(f, "size"));
    char hex[65];
    if (!name || !sha || strchr(name, '/') || name[0] == '.')
        return err_set(err, ERR_CORRUPT, "%s: bad file entry", CKPT_MANIFEST);
    char *path = fs_path("%s/%s", dir, name);
    int64_t have = fs_size(path);
    int rc = 0;
    if (have != size)
        rc = err_set(err, ERR_CORRUPT, "%s: %lld bytes, should be %lld", path,
                     (long long)have, (long long)size);
    else if (fs_sha256_file(path, hex, err) < 0)
        rc = -1;
    else if (strcmp(hex, sha) != 0)
        rc = err_set(err, ERR_CORRUPT, "%s: its SHA-256 does not match", path);
    m->bytes += size;
    free(path);
    return rc;
}

int ckpt_verify(const char *path, struct manifest *m, struct err *err) {
    json_t *files, *f;
    size_t i;
    int rc = manifest_read(path, m, &files, err);
    json_array_foreach(files, i, f) if (rc == 0) rc =
        verify_file(path, f, m, err);
    json_decref(files);
    return rc < 0 ? err_ctx(err, "checkpoint %s", path) : 0;
}

/* The adapted modules by their last name, each once. */
static json_t *peft_targets(const struct trainer *tr) {
    json_t *t = json_array(), *v;
    for (int i = 0; i < trainer_count(tr); i++) {
        char name[160];
        size_t k;
        bool seen = false;
        snprintf(name, sizeof name, "%s", trainer_param(tr, i)->name);
        char *end = strstr(name, ".lora_");
        if (end)
            *end = 0;
        char *last = strrchr(name, '.');
        json_array_foreach(t, k, v) seen |=
            strcmp(json_string_value(v), last ? last + 1 : name) == 0;
        if (!seen)
            json_array_append_new(t, json_string(last ? last + 1 : name));
    }
    return t;
}

int peft_conf_write(const char *path, const struct manifest *m,
                    const struct trainer *tr, struct err *err) {
    json_t *t = peft_targets(tr);
    json_t *j = json_pack(
        "{s:s, s:s, s:s, s:i, s:f, s:f, s:s, s:b, s:b, s:o}", "peft_type",
        "LORA", "task_type", "CAUSAL_LM", "base_model_name_or_path", m->base,
        "r", (int)m->lora_rank, "lora_alpha", (double)m->lora_alpha,
        "lora_dropout", 0.0, "bias", "none", "fan_in_fan_out", 0,
        "inference_mode", 1, "target_modules", t);
    char *text = json_dumps(j, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    CHECK(text, "out of memory for a config");
    int rc = fs_write_atomic(path, text, strlen(text), err);
    free(text);
    json_decref(j);
    return rc;
}

int conf_edit(const char *from_dir, const char *to_dir, const char *key,
              json_t *value, struct err *err) {
    char *from = fs_path("%s/config.json", from_dir);
    char *dest = fs_path("%s/config.json", to_dir);
    json_t *j = json_read_file(from, MANIFEST_MAX, err);
    int rc = -1;
    if (j) {
        bool old = strcmp(key, "dtype") == 0 &&
                   json_object_get(j, "torch_dtype"); /* transformers 4 */
        json_object_set(j, old ? "torch_dtype" : key, value);
        char *text = json_dumps(j, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
        CHECK(text, "out of memory for a config");
        rc = fs_write_atomic(dest, text, strlen(text), err);
        free(text);
    }
    json_decref(value);
    json_decref(j);
    free(from);
    free(dest);
    return rc;
}

static int copy_if_there(const char *from_dir, const char *to_dir,
                         const char *name, struct err *err) {
    char *from = fs_path("%s/%s", from_dir, name);
    char *dest = fs_path("%s/%s", to_dir, name);
    bool wanted = fs_exists(from) && !fs_exists(dest);
    int rc = wanted ? fs_copy_file(from, dest, err) : 0;
    free(from);
    free(dest);
    return rc;
}

int text_files_copy(const char *from_dir, const char *to_dir, struct err *err) {
    static const char *const names[] = {
        "generation_config.json", "special_tokens_map.json", "tokenizer.json",
        "tokenizer_config.json",  "chat_template.jinja",     "tokenizer.model",
        "tiktoken.model"};
    char *other = tok_file(from_dir); /* of which a .tiktoken has any name */
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < sizeof names / sizeof *names; i++)
        rc = copy_if_there(from_dir, to_dir, names[i], err);
    if (rc == 0 && other)
        rc = copy_if_there(from_dir, to_dir, other, err);
    free(other);
    return rc;
}

int base_files_copy(const char *base_dir, const char *to, struct err *err) {
    int rc = conf_edit(base_dir, to, "dtype", json_string("float32"), err);
    return rc < 0 ? rc : text_files_copy(base_dir, to, err);
}

int space_check(const char *path, int64_t bytes, struct err *err) {
    struct statvfs v;
    char *dir = fs_path("%s", path), *slash = strrchr(dir, '/');
    if (slash)
        *slash = 0;
    int rc = 0;
    if (statvfs(slash ? dir : ".", &v) == 0) {
        double room = (double)v.f_bavail * (double)v.f_frsize;
        if (room < (double)bytes + (1 << 20))
            rc = err_set(err, ERR_NOSPACE,
                         "save %s: needs %lld MiB, the disk has %.0f MiB left "
                         "(free some space, then resume the run)",
                         path, (long long)(bytes >> 20) + 1, room / (1 << 20));
    }
    free(dir);
    return rc;
}

/* Removes what a killed process left of the same directory. */
static void tmp_dirs_sweep(const char *parent, const char *name) {
    DIR *d = opendir(parent);
    if (!d)
        return;
    const struct dirent *e;
    while ((e = readdir(d))) {
        char *end;
        if (strncmp(e->d_name, ".tmp-", 5) != 0)
            continue;
        long pid = strtol(e->d_name + 5, &end, 10);
        if (pid < 1 || *end != '-' || strcmp(end + 1, name) != 0 ||
            kill((pid_t)pid, 0) == 0 || errno != ESRCH)
            continue;
        struct err ignored = {0};
        char *stale = fs_path("%s/%s", parent, e->d_name);
        fs_remove_tree(stale, &ignored);
        free(stale);
    }
    closedir(d);
}

char *tmp_dir_new(const char *path, struct err *err) {
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    char *parent =
        slash ? fs_path("%.*s", (int)(slash - path), path) : fs_path(".");
    tmp_dirs_sweep(parent, name);
    char *tmp = fs_path("%s/.tmp-%d-%s", parent, (int)getpid(), name);
    if (fs_remove_tree(tmp, err) < 0 || fs_mkdirs(tmp, err) < 0) {
        free(tmp);
        tmp = NULL;
    }
    free(parent);
    return tmp;
}
