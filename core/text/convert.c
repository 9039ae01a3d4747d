/* convert: finding the file, and the parts of a tokenizer.json that both
 * converters write. */
#include "core/fs.h"
#include "core/json.h"
#include "core/text/convert_int.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONVERT_FILE_MAX ((size_t)64 << 20)
#define CONVERT_CONFIG_MAX ((size_t)8 << 20)

void conv_release(struct conv *c) {
    for (size_t i = 0; i < c->n_added; i++)
        free(c->added[i].own);
    free(c->added);
    free(c->token);
    vocab_release(&c->ids);
}

void conv_add(struct conv *c, struct conv_added a) {
    if ((c->n_added & (c->n_added - 1)) == 0) { /* full at powers of two */
        size_t cap = c->n_added ? 2 * c->n_added : 1;
        c->added = realloc(c->added, cap * sizeof *c->added);
        CHECK(c->added, "out of memory for %zu added tokens", cap);
    }
    c->added[c->n_added++] = a;
}

/* ---- pieces of JSON ---- */

void conv_string(struct buf *out, const char *s, size_t len) {
    buf_u8(out, '"');
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c < 0x20)
            buf_printf(out, "\\u%04x", c);
        else {
            if (c == '"' || c == '\\')
                buf_u8(out, '\\');
            buf_u8(out, c);
        }
    }
    buf_u8(out, '"');
}

/* Does each added token get its own id when it is not in the vocabulary: the
 * number of tokens, or one above the last? */
static bool ids_follow(const struct conv *c) {
    int64_t next = c->ids.n;
    for (size_t i = 0; i < c->n_added; i++) {
        const struct conv_added *a = &c->added[i];
        uint32_t id = vocab_find(&c->ids, a->text, a->len);
        if (id == VOCAB_NONE && a->id != next)
            return false;
        if (a->id >= next)
            next = a->id + 1;
    }
    return true;
}

void conv_vocab(struct conv *c) {
    const char *comma = "";
    bool all = !ids_follow(c);
    buf_puts(c->out, "\"vocab\":{");
    for (size_t i = 0; i < c->n; i++) {
        if (!c->token[i].s)
            continue;
        buf_puts(c->out, comma);
        c->put(c->out, c->token[i].s, c->token[i].len);
        buf_printf(c->out, ":%zu", i);
        comma = ",";
    }
    for (size_t i = 0; all && i < c->n_added; i++) {
        buf_puts(c->out, ",");
        conv_string(c->out, c->added[i].text, c->added[i].len);
        buf_printf(c->out, ":%lld", (long long)c->added[i].id);
    }
    buf_puts(c->out, "}");
}

static bool is_cut(const struct conv_token *t, uint32_t at, bool at_chars) {
    return !at_chars || ((unsigned char)t->s[at] & 0xc0) != 0x80;
}

/* May merges take this part? */
static bool is_part(const struct conv *c, const char *s, size_t len) {
    uint32_t id = vocab_find(&c->ids, s, len);
    return id != VOCAB_NONE && c->token[id].merges;
}

void conv_merges(struct conv *c, const uint32_t *order, size_t n,
                 bool at_chars) {
    const char *comma = "";
    buf_puts(c->out, "\"merges\":[");
    for (size_t i = 0; i < n && !c->out->failed; i++) {
        const struct conv_token *t = &c->token[order[i]];
        for (uint32_t k = 1; k < t->len; k++) {
            if (!is_cut(t, k, at_chars) || !is_part(c, t->s, k) ||
                !is_part(c, t->s + k, t->len - k))
                continue;
            buf_puts(c->out, comma);
            buf_puts(c->out, "[");
            c->put(c->out, t->s, k);
            buf_puts(c->out, ",");
            c->put(c->out, t->s + k, t->len - k);
            buf_puts(c->out, "]");
            comma = ",";
        }
    }
    buf_puts(c->out, "]");
}

static const char *bool_json(bool b) { return b ? "true" : "false"; }

static void added_json(struct buf *out, const struct conv_added *a) {
    buf_printf(out, "{\"id\":%lld,\"content\":", (long long)a->id);
    conv_string(out, a->text, a->len);
    buf_printf(out,
               ",\"special\":%s,\"lstrip\":%s,\"rstrip\":%s,"
               "\"single_word\":%s,\"normalized\":%s%s}",
               bool_json(a->special), bool_json(a->lstrip),
               bool_json(a->rstrip), bool_json(a->single_word),
               bool_json(a->normalized),
               a->verbatim ? ",\"verbatim\":true" : "");
}

void conv_begin(struct conv *c) {
    buf_puts(c->out, "{\"version\":\"1.0\",\"added_tokens\":[");
    for (size_t i = 0; i < c->n_added; i++) {
        buf_puts(c->out, i ? "," : "");
        added_json(c->out, &c->added[i]);
    }
    buf_puts(c->out, "]");
}

/* The added token that the configuration wants at an end of each text; NULL:
 * none. key: "bos" or "eos"; dflt: the token's text when it says nothing. */
static const struct conv_added *end_token(const struct conv *c, const char *key,
                                          const char *dflt) {
    char name[24];
    snprintf(name, sizeof name, "add_%s_token", key);
    const json_t *want = json_object_get(c->config, name);
    snprintf(name, sizeof name, "%s_token", key);
    const json_t *token = json_object_get(c->config, name);
    if (json_is_object(token)) /* an AddedToken */
        token = json_object_get(token, "content");
    const char *text = json_is_string(token) ? json_string_value(token) : dflt;
    if (json_is_boolean(want) ? !json_is_true(want) : !dflt)
        return NULL;
    for (size_t i = 0; text && i < c->n_added; i++)
        if (c->added[i].len == strlen(text) &&
            memcmp(c->added[i].text, text, c->added[i].len) == 0)
            return &c->added[i];
    return NULL;
}

static void template_part(struct buf *out, const struct conv_added *a) {
    buf_puts(out, "{\"SpecialToken\":{\"id\":");
    conv_string(out, a->text, a->len);
    buf_puts(out, ",\"type_id\":0}}");
}

static void template_token(struct buf *out, const struct conv_added *a) {
    conv_string(out, a->text, a->len);
    buf_puts(out, ":{\"id\":");
    conv_string(out, a->text, a->len);
    buf_printf(out, ",\"ids\":[%lld],\"tokens\":[", (long long)a->id);
    conv_string(out, a->text, a->len);
    buf_puts(out, "]}");
}

void conv_post(struct conv *c, const char *bos) {
    const struct conv_added *first = end_token(c, "bos", bos);
    const struct conv_added *last = end_token(c, "eos", NULL);
    if (!first && !last)
        return;
    buf_puts(c->out, ",\"post_processor\":{\"type\":\"TemplateProcessing\","
                     "\"single\":[");
    if (first) {
        template_part(c->out, first);
        buf_puts(c->out, ",");
    }
    buf_puts(c->out, "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}");
    if (last) {
        buf_puts(c->out, ",");
        template_part(c->out, last);
    }
    buf_puts(c->out, "],\"pair\":[],\"special_tokens\":{");
    if (first)
        template_token(c->out, first);
    if (last && last != first) {
        buf_puts(c->out, first ? "," : "");
        template_token(c->out, last);
    }
    buf_puts(c->out, "}}");
}

bool conv_config_added(const json_t *config, int64_t id, struct conv_added *a) {
    char key[24];
    snprintf(key, sizeof key, "%lld", (long long)id);
    const json_t *e =
        json_object_get(json_object_get(config, "added_tokens_decoder"), key);
    const json_t *text = json_object_get(e, "content");
    if (!json_is_string(text) || json_string_length(text) == 0)
        return false;
    *a = (struct conv_added){
        .text = json_string_value(text),
        .len = json_string_length(text),
        .id = id,
        .special = json_is_true(json_object_get(e, "special")),
        .lstrip = json_is_true(json_object_get(e, "lstrip")),
        .rstrip = json_is_true(json_object_get(e, "rstrip")),
        .single_word = json_is_true(json_object_get(e, "single_word")),
        .normalized = json_is_true(json_object_get(e, "normalized"))};
    return true;
}

/* ---- the file ---- */

int convert_bytes(const char *name, const char *data, size_t len,
                  const json_t *config, struct buf *out, struct err *err) {
    /* a ModelProto begins with its first piece: field 1, a length */
    int rc = len > 0 && data[0] == '\n'
                 ? convert_sentencepiece(data, len, config, out, err)
                 : convert_tiktoken(name, data, len, config, out, err);
    if (rc == 0)
        rc = buf_check(out, "its tokenizer.json", err);
    return rc;
}

static bool is_tiktoken(const char *name) {
    const char *dot = strrchr(name, '.');
    return dot && strcmp(dot, ".tiktoken") == 0;
}

char *convert_find(const char *dir) {
    static const char *const names[] = {"tiktoken.model", "tokenizer.model"};
    char *best = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names && !best; i++) {
        char *path = fs_path("%s/%s", dir, names[i]);
        if (fs_exists(path))
            best = fs_path("%s", names[i]);
        free(path);
    }
    DIR *d = best ? NULL : opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));)
        if (is_tiktoken(e->d_name) && (!best || strcmp(e->d_name, best) < 0)) {
            free(best);
            best = fs_path("%s", e->d_name);
        }
    if (d)
        closedir(d);
    return best;
}

int convert_config(const char *dir, json_t **config, struct err *err) {
    char *path = fs_path("%s/tokenizer_config.json", dir), *text = NULL;
    json_error_t why;
    size_t len;
    bool is_there = fs_exists(path);
    *config = NULL;
    if (is_there)
        text = fs_read(path, CONVERT_CONFIG_MAX, &len, err);
    if (text)
        *config = json_loadb(text, len, JSON_DECODE_INT_AS_REAL, &why);
    if (text && !*config)
        err_set(err, ERR_INVAL, "%s: line %d, column %d: %s", path, why.line,
                why.column, why.text);
    if (*config && !json_is_object(*config)) {
        err_set(err, ERR_INVAL, "%s: an object is wanted", path);
        json_decref(*config);
        *config = NULL;
    }
    int rc = is_there && !*config ? -1 : 0;
    free(text);
    free(path);
    return rc;
}

int convert_dir(const char *dir, struct buf *out, struct err *err) {
    char *name = convert_find(dir), *path = NULL, *data = NULL;
    json_t *config = NULL;
    size_t len;
    int rc = -1;
    if (!name)
        return err_set(err, ERR_NOTFOUND,
                       "%s: no tokenizer.json, tokenizer.model or .tiktoken",
                       dir);
    path = fs_path("%s/%s", dir, name);
    if (convert_config(dir, &config, err) < 0 ||
        !(data = fs_read(path, CONVERT_FILE_MAX, &len, err)))
        goto out;
    rc = convert_bytes(name, data, len, config, out, err);
    if (rc < 0)
        err_ctx(err, "%s", path);
out:
    json_decref(config);
    free(data);
    free(path);
    free(name);
    return rc;
}
