/* export: a checkpoint for peft and transformers. */
#include "core/ckpt/int.h"

#include "core/fs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One weight of the merged model: the base's, plus scaling * B·A. */
struct merge {
    const struct model *base;
    struct kern *kern;
    const struct adapter *adapter;
};

static void merge_pair(float *w, const struct lora_pair *p, int32_t R,
                       float scaling) {
    for (int64_t o = 0; o < p->out; o++)
        for (int64_t i = 0; i < p->in; i++) {
            double s = 0;
            for (int32_t r = 0; r < R; r++)
                s += (double)p->b[o * R + r] * (double)p->a[r * p->in + i];
            w[o * p->in + i] =
                (float)((double)w[o * p->in + i] + (double)scaling * s);
        }
}

/* Tensor i of the model; behind the last, a head of its own when an adapter
 * sits on the head of a tied model. */
static int merge_fill(void *arg, int i, void *out, struct err *err) {
    const struct merge *m = arg;
    bool head = i == model_count(m->base);
    int at = head ? model_index(m->base, SLOT_EMBED, -1) : i;
    const struct weight_info *info = model_info(m->base, at);
    const struct weight *w = &model_weights(m->base)->w[at];
    int rc = m->kern->ops->widen(m->kern, out, w->dev, w->dtype,
                                 info->rows * info->cols);
    if (rc)
        return err_kern(err, rc, info->name);
    for (int p = 0; m->adapter && p < m->adapter->n; p++) {
        const struct lora_pair *x = &m->adapter->pair[p];
        bool tied_head = x->is_head && info->slot == SLOT_EMBED;
        if (x->weight == at && tied_head == head)
            merge_pair(out, x, m->adapter->conf.rank, m->adapter->scaling);
    }
    return 0;
}

static bool merge_unties(const struct merge *m) {
    for (int p = 0; m->adapter && p < m->adapter->n; p++)
        if (m->adapter->pair[p].is_head && model_conf(m->base)->tied)
            return true;
    return false;
}

static int merge_write(const char *path, const char *base_dir, const char *tmp,
                       struct err *err) {
    static const struct st_meta_kv meta[] = {{"format", "pt"}};
    struct merge m = {0};
    struct ckpt_policy *p = NULL;
    struct st_out *out = NULL;
    char *file = fs_path("%s/%s", tmp, CKPT_MODEL);
    int rc = kern_open(&m.kern, &(struct kern_opts){.device = "cpu"});
    if (rc) {
        rc = err_kern(err, rc, "open cpu");
        goto out;
    }
    rc = -1;
    struct model *base = model_open(base_dir, m.kern, err);
    m.base = base;
    if (!base || !(p = ckpt_open(path, base, m.kern, err)))
        goto out;
    m.adapter = ckpt_policy(p).adapter;
    int n = model_count(base);
    bool unties = merge_unties(&m);
    out = calloc((size_t)n + 1, sizeof *out);
    CHECK(out, "out of memory for an export");
    for (int i = 0; i < n; i++) {
        const struct weight_info *w = model_info(base, i);
        out[i] =
            (struct st_out){.name = w->name,
                            .dtype = KERN_F32,
                            .rank = w->rank,
                            .shape = {w->shape[0], w->shape[1], w->shape[2]}};
    }
    if (unties) {
        out[n] = out[model_index(base, SLOT_EMBED, -1)];
        out[n].name = "lm_head.weight";
    }
    rc = space_check(file, 4 * model_floats(base), err);
    if (rc == 0)
        rc = base_files_copy(base_dir, tmp, err);
    if (rc == 0 && unties)
        rc = conf_edit(tmp, tmp, "tie_word_embeddings", json_false(), err);
    if (rc == 0)
        rc = st_write(file, out, n + unties, meta, 1, merge_fill, &m, err);
out:
    free(out);
    free(file);
    ckpt_close(p);
    model_close((struct model *)m.base);
    if (m.kern)
        m.kern->ops->close(m.kern);
    return rc;
}

static int copy_all(const char *path, const char *tmp, const char *const *names,
                    int n, struct err *err) {
    int rc = 0;
    for (int i = 0; rc == 0 && i < n; i++) {
        char *from = fs_path("%s/%s", path, names[i]);
        char *to = fs_path("%s/%s", tmp, names[i]);
        if (fs_exists(from))
            rc = fs_copy_file(from, to, err);
        free(from);
        free(to);
    }
    return rc;
}

/* ---- bf16 ---- */

/* To nearest, ties to even; NaN stays NaN. */
static uint16_t bf16_of(float v) {
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    if ((u & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static int narrow_fill(void *arg, int i, void *out, struct err *err) {
    const struct st_tensor *t = st_at(arg, i);
    const float *w = t->data;
    uint16_t *o = out;
    (void)err;
    for (int64_t k = 0; k < t->bytes / 4; k++)
        o[k] = bf16_of(w[k]);
    return 0;
}

/* Replaces the f32 weights of a complete model by bf16 ones. */
static int narrow(const char *dir, struct err *err) {
    static const struct st_meta_kv meta[] = {{"format", "pt"}};
    char *wide = fs_path("%s/%s", dir, CKPT_MODEL);
    char *half = fs_path("%s/.half", dir);
    struct st *st = st_open_file(wide, err);
    int n = st ? st_count(st) : 0, rc = -1;
    struct st_out *out = calloc((size_t)n + 1, sizeof *out);
    CHECK(out, "out of memory for an export");
    for (int i = 0; i < n; i++) {
        const struct st_tensor *t = st_at(st, i);
        out[i].name = t->name;
        out[i].dtype = KERN_BF16;
        out[i].rank = t->rank;
        memcpy(out[i].shape, t->shape, sizeof t->shape);
    }
    if (st)
        rc = st_write(half, out, n, meta, 1, narrow_fill, st, err);
    if (rc == 0 && rename(half, wide) < 0)
        rc = err_sys(err, "rename %s", half);
    if (rc == 0)
        rc = conf_edit(dir, dir, "dtype", json_string("bfloat16"), err);
    free(out);
    st_close(st);
    free(half);
    free(wide);
    return rc;
}

static int export_to(const char *path, const char *base_dir,
                     enum ckpt_export as, bool is_bf16, const char *out,
                     struct err *err) {
    static const char *const peft[] = {CKPT_ADAPTER_CONF, CKPT_ADAPTER};
    static const char *const full[] = {"config.json", CKPT_MODEL};
    struct manifest m;
    if (ckpt_verify(path, &m, err) < 0)
        return -1;
    if (as == EXPORT_PEFT && m.lora_rank == 0)
        return err_set(err, ERR_INVAL,
                       "export %s: full weights have no adapter (use --as hf)",
                       path);
    if (fs_exists(out))
        return err_set(err, ERR_EXISTS,
                       "export to %s: it exists (name a new directory)", out);
    char *tmp = tmp_dir_new(out, err);
    if (!tmp)
        return -1;
    int rc = as == EXPORT_PEFT  ? copy_all(path, tmp, peft, 2, err)
             : m.lora_rank == 0 ? copy_all(path, tmp, full, 2, err)
                                : merge_write(path, base_dir, tmp, err);
    if (rc == 0 && as == EXPORT_HF && m.lora_rank == 0)
        rc = text_files_copy(path, tmp, err);
    if (rc == 0 && as == EXPORT_HF && is_bf16)
        rc = narrow(tmp, err);
    if (rc == 0)
        rc = fs_dir_commit(tmp, out, err);
    if (rc < 0) {
        struct err ignored = {0};
        fs_remove_tree(tmp, &ignored);
        err_ctx(err, "export %s", path);
    }
    free(tmp);
    return rc;
}

int ckpt_export(const char *path, const char *base_dir, enum ckpt_export as,
                bool is_bf16, const char *out, struct err *err) {
    size_t n = strlen(out);
    while (n > 1 && out[n - 1] == '/')
        n--;
    if (n == 0)
        return err_set(err, ERR_USAGE, "export: a directory's name is wanted");
    char *dir = fs_path("%.*s", (int)n, out);
    int rc = export_to(path, base_dir, as, is_bf16, dir, err);
    free(dir);
    return rc;
}
