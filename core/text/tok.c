/*
 * tok: byte-level BPE of tokenizer.json. Text is cut at added tokens, then
 * normalised, then cut by the pre-tokenizer, then merged: lowest rank first,
 * ties to the left (a heap over linked symbols, O(n log n)).
 */
#include "core/fs.h"
#include "core/json.h"
#include "core/text/int.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#define TOK_FILE_MAX (64 << 20)
#define TOK_VOCAB_MAX (1 << 20)

struct added {
    char *text;
    size_t len;
    uint32_t id;
    bool special, lstrip, rstrip;
};

struct tok {
    struct strmap vocab; /* byte-mapped token to id */
    struct pairmap merges;
    struct pretok *pretok;
    bool nfc, ignore_merges;
    uint32_t byte_id[256];
    bool has_byte[256];
    struct added *added;
    size_t n_added;
    bool first[256]; /* an added token starts with this byte */
    int32_t size;
    char **bytes; /* (size) what id stands for, NULL = nothing */
    uint32_t *bytes_len;
    bool *special;                 /* (size) */
    uint32_t prefix[8], suffix[8]; /* the post-processor's */
    int n_prefix, n_suffix;
};

/* ---- the byte alphabet ---- */

/* GPT-2's map: printable bytes stand for themselves, others for U+0100+n. */
uint32_t byte_char(int b) {
    if ((b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174)
        return (uint32_t)b;
    int n = b < 33 ? b : b < 161 ? b - 127 + 33 : 67;
    return 256 + (uint32_t)n;
}

static int char_put(uint32_t c, char out[4]) {
    return (int)utf8proc_encode_char((utf8proc_int32_t)c,
                                     (utf8proc_uint8_t *)out);
}

/* The bytes of a token: each character mapped back, or, when one is not of
 * the alphabet, the token's own bytes. */
static char *token_bytes(const char *s, size_t len, uint32_t *out_len) {
    int back[512];
    memset(back, 0xff, sizeof back);
    for (int b = 0; b < 256; b++)
        back[byte_char(b)] = b;
    char *out = malloc(len + 1);
    size_t n = 0;
    CHECK(out, "out of memory for a token");
    for (size_t i = 0; i < len;) {
        utf8proc_int32_t c;
        utf8proc_ssize_t k = utf8proc_iterate((const utf8proc_uint8_t *)s + i,
                                              (utf8proc_ssize_t)(len - i), &c);
        if (k <= 0 || c >= 512 || back[c] < 0) {
            memcpy(out, s, len);
            n = len;
            break;
        }
        out[n++] = (char)back[c];
        i += (size_t)k;
    }
    out[n] = 0;
    *out_len = (uint32_t)n;
    return out;
}

/* ---- loading ---- */

static int load_vocab(struct tok *t, const json_t *vocab, struct err *err) {
    const char *key;
    json_t *v;
    if (!json_is_object(vocab) || json_object_size(vocab) == 0)
        return err_set(err, ERR_INVAL, "model.vocab is missing");
    json_object_foreach((json_t *)vocab, key, v) {
        int64_t id = json_is_integer(v) ? json_integer_value(v) : -1;
        if (id < 0 || id >= TOK_VOCAB_MAX)
            return err_set(err, ERR_INVAL, "model.vocab: bad id of '%.40s'",
                           key);
        strmap_put(&t->vocab, key, strlen(key), (uint32_t)id);
        if (id >= t->size)
            t->size = (int32_t)id + 1;
    }
    for (int b = 0; b < 256; b++) {
        char c[4];
        t->has_byte[b] = strmap_get(
            &t->vocab, c, (size_t)char_put(byte_char(b), c), &t->byte_id[b]);
    }
    return 0;
}

static int load_merge(struct tok *t, const json_t *m, uint32_t rank,
                      struct err *err) {
    const char *l, *r, *both = json_string_value(m);
    size_t nl, nr;
    if (both) {
        const char *space = strchr(both, ' ');
        if (!space || strchr(space + 1, ' '))
            return err_set(err, ERR_INVAL, "merge %u: two parts are wanted",
                           rank);
        l = both;
        nl = (size_t)(space - both);
        r = space + 1;
        nr = strlen(r);
    } else {
        l = json_string_value(json_array_get(m, 0));
        r = json_string_value(json_array_get(m, 1));
        if (!l || !r || json_array_size(m) != 2)
            return err_set(err, ERR_INVAL, "merge %u: two parts are wanted",
                           rank);
        nl = strlen(l);
        nr = strlen(r);
    }
    uint32_t a, b, c;
    char *cat = fs_path("%.*s%.*s", (int)nl, l, (int)nr, r);
    bool ok = strmap_get(&t->vocab, l, nl, &a) &&
              strmap_get(&t->vocab, r, nr, &b) &&
              strmap_get(&t->vocab, cat, nl + nr, &c);
    if (ok)
        pairmap_put(&t->merges, a, b, rank, c);
    else
        err_set(err, ERR_INVAL,
                "merge %u: '%.40s' or a part of it is not in "
                "the vocabulary",
                rank, cat);
    free(cat);
    return ok ? 0 : -1;
}

static int load_bpe(struct tok *t, const json_t *m, struct err *err) {
    const char *type;
    const json_t *merges = json_object_get(m, "merges"), *e;
    size_t i;
    if (json_get_str(m, "type", &type, "BPE", err) < 0)
        return -1;
    if (strcmp(type, "BPE") != 0)
        return err_set(err, ERR_UNSUPPORTED,
                       "tokenizer model '%.40s' is not supported (supported: "
                       "byte-level BPE)",
                       type);
    if (json_is_true(json_object_get(m, "byte_fallback")))
        return err_set(err, ERR_UNSUPPORTED,
                       "BPE with byte_fallback is not supported");
    if (json_is_string(json_object_get(m, "continuing_subword_prefix")) &&
        *json_string_value(json_object_get(m, "continuing_subword_prefix")))
        return err_set(err, ERR_UNSUPPORTED,
                       "continuing_subword_prefix is not supported");
    if (!json_is_array(merges))
        return err_set(err, ERR_INVAL,
                       "model.merges is missing: the tokenizer "
                       "cannot cut words");
    if (load_vocab(t, json_object_get(m, "vocab"), err) < 0)
        return -1;
    json_array_foreach((json_t *)merges, i,
                       e) if (load_merge(t, e, (uint32_t)i, err) < 0) return -1;
    t->ignore_merges = json_is_true(json_object_get(m, "ignore_merges"));
    return 0;
}

static int load_normalizer(struct tok *t, const json_t *n, struct err *err) {
    const char *type = json_string_value(json_object_get(n, "type"));
    if (!json_is_object(n))
        return 0;
    if (type && strcmp(type, "Sequence") == 0) {
        const json_t *all = json_object_get(n, "normalizers"), *e;
        size_t i;
        json_array_foreach((json_t *)all, i,
                           e) if (load_normalizer(t, e, err) < 0) return -1;
        return 0;
    }
    if (!type || strcmp(type, "NFC") != 0)
        return err_set(err, ERR_UNSUPPORTED,
                       "normalizer '%.40s' is not supported (supported: NFC)",
                       type ? type : "none");
    t->nfc = true;
    return 0;
}

static int added_longest(const void *a, const void *b) {
    const struct added *x = a, *y = b;
    return (y->len > x->len) - (y->len < x->len);
}

static int load_added(struct tok *t, const json_t *all, struct err *err) {
    size_t i, n = json_array_size(all);
    json_t *e;
    t->added = calloc(n + 1, sizeof *t->added);
    CHECK(t->added, "out of memory for added tokens");
    json_array_foreach((json_t *)all, i, e) {
        const char *text = json_string_value(json_object_get(e, "content"));
        const json_t *idj = json_object_get(e, "id");
        int64_t id = json_is_integer(idj) ? json_integer_value(idj) : -1;
        if (!text || id < 0 || id >= TOK_VOCAB_MAX)
            return err_set(err, ERR_INVAL, "added_tokens[%zu] is damaged", i);
        if (!*text)
            continue;
        if (json_is_true(json_object_get(e, "single_word")))
            return err_set(err, ERR_UNSUPPORTED,
                           "added token '%.40s': single_word is not supported",
                           text);
        struct added *a = &t->added[t->n_added++];
        *a = (struct added){
            .text = fs_path("%s", text),
            .len = strlen(text),
            .id = (uint32_t)id,
            .special = json_is_true(json_object_get(e, "special")),
            .lstrip = json_is_true(json_object_get(e, "lstrip")),
            .rstrip = json_is_true(json_object_get(e, "rstrip"))};
        t->first[(unsigned char)*text] = true;
        if (id >= t->size)
            t->size = (int32_t)id + 1;
    }
    qsort(t->added, t->n_added, sizeof *t->added, added_longest);
    return 0;
}

/* TemplateProcessing's `single`: special tokens around the sequence. */
static void load_post(struct tok *t, const json_t *p) {
    const char *type = json_string_value(json_object_get(p, "type"));
    const json_t *e;
    size_t i;
    if (type && strcmp(type, "Sequence") == 0) {
        const json_t *all = json_object_get(p, "processors");
        json_array_foreach((json_t *)all, i, e) load_post(t, e);
    }
    if (!type || strcmp(type, "TemplateProcessing") != 0)
        return;
    bool behind = false;
    const json_t *single = json_object_get(p, "single");
    json_array_foreach((json_t *)single, i, e) {
        const json_t *s = json_object_get(e, "SpecialToken");
        const char *name = json_string_value(json_object_get(s, "id"));
        int64_t id = name ? tok_find(t, name) : -1;
        if (json_object_get(e, "Sequence"))
            behind = true;
        else if (id >= 0 && behind && t->n_suffix < 8)
            t->suffix[t->n_suffix++] = (uint32_t)id;
        else if (id >= 0 && !behind && t->n_prefix < 8)
            t->prefix[t->n_prefix++] = (uint32_t)id;
    }
}

static void load_bytes(struct tok *t) {
    size_t n = (size_t)t->size;
    t->bytes = calloc(n + 1, sizeof *t->bytes);
    t->bytes_len = calloc(n + 1, sizeof *t->bytes_len);
    t->special = calloc(n + 1, sizeof *t->special);
    CHECK(t->bytes && t->bytes_len && t->special, "out of memory for tokens");
    for (size_t i = 0; i < t->vocab.cap; i++) {
        uint32_t id = t->vocab.value[i];
        if (t->vocab.key[i] && !t->bytes[id])
            t->bytes[id] = token_bytes(t->vocab.key[i], t->vocab.len[i],
                                       &t->bytes_len[id]);
    }
    for (size_t i = 0; i < t->n_added; i++) {
        const struct added *a = &t->added[i];
        free(t->bytes[a->id]);
        t->bytes[a->id] = token_bytes(a->text, a->len, &t->bytes_len[a->id]);
        t->special[a->id] = a->special;
    }
}

static int tok_load(struct tok *t, const json_t *j, struct err *err) {
    bool byte_level;
    const json_t *model = json_object_get(j, "model");
    if (!json_is_object(model))
        return err_set(err, ERR_INVAL, "no model in it");
    if (load_bpe(t, model, err) < 0 ||
        load_normalizer(t, json_object_get(j, "normalizer"), err) < 0 ||
        load_added(t, json_object_get(j, "added_tokens"), err) < 0)
        return -1;
    t->pretok =
        pretok_new(json_object_get(j, "pre_tokenizer"), &byte_level, err);
    if (!t->pretok)
        return -1;
    load_bytes(t);
    load_post(t, json_object_get(j, "post_processor"));
    return 0;
}

struct tok *tok_open(const char *dir, struct err *err) {
    char *path = fs_path("%s/tokenizer.json", dir);
    struct tok *t = NULL;
    if (!fs_exists(path)) {
        err_set(err, ERR_NOTFOUND,
                "%s: the model has no tokenizer.json, which text needs (rows "
                "of tokens work without)",
                dir);
        goto out;
    }
    json_t *j = json_read_file(path, TOK_FILE_MAX, err);
    if (!j)
        goto out;
    t = calloc(1, sizeof *t);
    CHECK(t, "out of memory for a tokenizer");
    if (tok_load(t, j, err) < 0) {
        err_ctx(err, "%s", path);
        tok_close(t);
        t = NULL;
    }
    json_decref(j);
out:
    free(path);
    return t;
}

void tok_close(struct tok *t) {
    if (!t)
        return;
    strmap_release(&t->vocab);
    pairmap_release(&t->merges);
    pretok_free(t->pretok);
    for (size_t i = 0; i < t->n_added; i++)
        free(t->added[i].text);
    for (int32_t i = 0; t->bytes && i < t->size; i++)
        free(t->bytes[i]);
    free(t->added);
    free(t->bytes);
    free(t->bytes_len);
    free(t->special);
    free(t);
}

int32_t tok_size(const struct tok *t) { return t->size; }

int64_t tok_find(const struct tok *t, const char *content) {
    uint32_t id;
    size_t len = strlen(content);
    for (size_t i = 0; i < t->n_added; i++)
        if (t->added[i].len == len &&
            memcmp(t->added[i].text, content, len) == 0)
            return t->added[i].id;
    return strmap_get(&t->vocab, content, len, &id) ? (int64_t)id : -1;
}

bool tok_is_special(const struct tok *t, uint32_t id) {
    return id < (uint32_t)t->size && t->special[id];
}

void tok_ids_push(struct tok_ids *ids, uint32_t id) {
    if (ids->n == ids->cap) {
        ids->cap = ids->cap ? 2 * ids->cap : 64;
        ids->id = realloc(ids->id, ids->cap * sizeof *ids->id);
        CHECK(ids->id, "out of memory for %zu tokens", ids->cap);
    }
    ids->id[ids->n++] = id;
}

/* ---- merging ---- */

struct symbol {
    int32_t prev, next; /* -1 = none */
    uint32_t id;
    bool dead;
};

struct cand {
    uint32_t rank, id;
    int32_t left;
    uint32_t left_id, right_id;
};

struct merge {
    const struct tok *t;
    struct symbol *sym;
    struct cand *heap;
    size_t n_heap, cap;
};

static bool cand_before(const struct cand *a, const struct cand *b) {
    return a->rank != b->rank ? a->rank < b->rank : a->left < b->left;
}

static void heap_push(struct merge *m, struct cand c) {
    if (m->n_heap == m->cap) {
        m->cap = m->cap ? 2 * m->cap : 64;
        m->heap = realloc(m->heap, m->cap * sizeof *m->heap);
        CHECK(m->heap, "out of memory for merges");
    }
    size_t i = m->n_heap++;
    for (; i > 0 && cand_before(&c, &m->heap[(i - 1) / 2]); i = (i - 1) / 2)
        m->heap[i] = m->heap[(i - 1) / 2];
    m->heap[i] = c;
}

static struct cand heap_pop(struct merge *m) {
    struct cand top = m->heap[0], last = m->heap[--m->n_heap];
    size_t i = 0;
    for (;;) {
        size_t kid = 2 * i + 1;
        if (kid >= m->n_heap)
            break;
        if (kid + 1 < m->n_heap &&
            cand_before(&m->heap[kid + 1], &m->heap[kid]))
            kid++;
        if (!cand_before(&m->heap[kid], &last))
            break;
        m->heap[i] = m->heap[kid];
        i = kid;
    }
    m->heap[i] = last;
    return top;
}

static void merge_offer(struct merge *m, int32_t left) {
    int32_t right = left < 0 ? -1 : m->sym[left].next;
    if (right < 0)
        return;
    uint32_t a = m->sym[left].id, b = m->sym[right].id;
    const struct pair *p = pairmap_get(&m->t->merges, a, b);
    if (p)
        heap_push(m, (struct cand){p->rank, p->id, left, a, b});
}

static void merge_run(struct merge *m) {
    while (m->n_heap > 0) {
        struct cand c = heap_pop(m);
        struct symbol *l = &m->sym[c.left];
        if (l->dead || l->next < 0 || l->id != c.left_id ||
            m->sym[l->next].id != c.right_id)
            continue;
        struct symbol *r = &m->sym[l->next];
        l->id = c.id;
        l->next = r->next;
        r->dead = true;
        if (r->next >= 0)
            m->sym[r->next].prev = c.left;
        merge_offer(m, l->prev);
        merge_offer(m, c.left);
    }
}

struct encode {
    const struct tok *t;
    struct tok_ids *ids;
    struct merge merge;
    size_t cap;
};

static bool encode_whole(const struct tok *t, const char *s, size_t len,
                         uint32_t *id) {
    char key[1024];
    size_t n = 0;
    if (len * 2 > sizeof key)
        return false;
    for (size_t i = 0; i < len; i++)
        n += (size_t)char_put(byte_char((unsigned char)s[i]), key + n);
    return strmap_get(&t->vocab, key, n, id);
}

static void encode_piece(void *arg, const char *s, size_t len) {
    struct encode *e = arg;
    uint32_t whole;
    if (e->t->ignore_merges && encode_whole(e->t, s, len, &whole)) {
        tok_ids_push(e->ids, whole);
        return;
    }
    struct merge *m = &e->merge;
    if (len > e->cap) {
        e->cap = len * 2;
        m->sym = realloc(m->sym, e->cap * sizeof *m->sym);
        CHECK(m->sym, "out of memory for a word");
    }
    int32_t n = 0;
    for (size_t i = 0; i < len; i++) { /* bytes without a token are dropped */
        unsigned char b = (unsigned char)s[i];
        if (!e->t->has_byte[b])
            continue;
        m->sym[n] = (struct symbol){n - 1, n + 1, e->t->byte_id[b], false};
        n++;
    }
    if (n == 0)
        return;
    m->sym[n - 1].next = -1;
    m->n_heap = 0;
    for (int32_t i = 0; i + 1 < n; i++)
        merge_offer(m, i);
    merge_run(m);
    for (int32_t i = 0; i >= 0; i = m->sym[i].next)
        tok_ids_push(e->ids, m->sym[i].id);
}

/* ---- encoding ---- */

static void encode_plain(struct encode *e, const char *s, size_t len) {
    if (len == 0)
        return;
    utf8proc_uint8_t *nfc = NULL;
    if (e->t->nfc) {
        utf8proc_ssize_t n = utf8proc_map(
            (const utf8proc_uint8_t *)s, (utf8proc_ssize_t)len, &nfc,
            (utf8proc_option_t)(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
        if (n >= 0) {
            pretok_run(e->t->pretok, (const char *)nfc, (size_t)n, encode_piece,
                       e);
            free(nfc);
            return;
        }
    }
    pretok_run(e->t->pretok, s, len, encode_piece, e);
}

static const struct added *added_at(const struct tok *t, const char *s,
                                    size_t len, bool control) {
    if (!t->first[(unsigned char)*s])
        return NULL;
    for (size_t i = 0; i < t->n_added; i++) { /* the longest first */
        const struct added *a = &t->added[i];
        if ((control || !a->special) && a->len <= len &&
            memcmp(a->text, s, a->len) == 0)
            return a;
    }
    return NULL;
}

static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static void encode_text(struct encode *e, const char *s, size_t len,
                        bool control) {
    size_t from = 0;
    for (size_t at = 0; at < len;) {
        const struct added *a = added_at(e->t, s + at, len - at, control);
        if (!a) {
            at++;
            continue;
        }
        size_t end = at;
        while (a->lstrip && end > from && is_space(s[end - 1]))
            end--;
        encode_plain(e, s + from, end - from);
        tok_ids_push(e->ids, a->id);
        at += a->len;
        while (a->rstrip && at < len && is_space(s[at]))
            at++;
        from = at;
    }
    encode_plain(e, s + from, len - from);
}

void tok_encode(const struct tok *t, const char *text, size_t len, int flags,
                struct tok_ids *ids) {
    struct encode e = {.t = t, .ids = ids, .merge = {.t = t}};
    size_t n;
    char *clean = utf8_lossy(text, len, &n);
    for (int i = 0; (flags & TOK_BOS) && i < t->n_prefix; i++)
        tok_ids_push(ids, t->prefix[i]);
    if (flags & TOK_PLAIN)
        encode_plain(&e, clean, n);
    else
        encode_text(&e, clean, n, flags & TOK_CONTROL);
    for (int i = 0; (flags & TOK_BOS) && i < t->n_suffix; i++)
        tok_ids_push(ids, t->suffix[i]);
    free(clean);
    free(e.merge.sym);
    free(e.merge.heap);
}

/* ---- decoding ---- */

static char *decode_raw(const struct tok *t, const uint32_t *id, size_t n,
                        bool skip, size_t *out_len) {
    size_t len = 0;
    for (size_t i = 0; i < n; i++)
        len += id[i] < (uint32_t)t->size ? t->bytes_len[id[i]] : 0;
    char *raw = malloc(len + 1);
    CHECK(raw, "out of memory for text");
    len = 0;
    for (size_t i = 0; i < n; i++) {
        if (id[i] >= (uint32_t)t->size || !t->bytes[id[i]] ||
            (skip && t->special[id[i]]))
            continue;
        memcpy(raw + len, t->bytes[id[i]], t->bytes_len[id[i]]);
        len += t->bytes_len[id[i]];
    }
    *out_len = len;
    return raw;
}

char *tok_decode(const struct tok *t, const uint32_t *id, size_t n, bool skip) {
    size_t len;
    char *raw = decode_raw(t, id, n, skip, &len);
    char *text = utf8_lossy(raw, len, NULL);
    free(raw);
    return text;
}

char *tok_decode_all(const struct tok *t, const uint32_t *id, size_t n,
                     size_t *len, struct err *err) {
    for (size_t i = 0; i < n; i++)
        if (id[i] >= (uint32_t)t->size || !t->bytes[id[i]]) {
            err_set(err, ERR_INVAL,
                    "token %u at position %zu: the vocabulary has %d", id[i], i,
                    t->size);
            return NULL;
        }
    char *raw = decode_raw(t, id, n, false, len);
    char *text = utf8_lossy(raw, *len, len);
    free(raw);
    return text;
}

char *tok_stream_next(const struct tok *t, struct tok_stream *s, uint32_t id) {
    size_t len = 0;
    bool last = id == UINT32_MAX;
    char *more = last ? NULL : decode_raw(t, &id, 1, true, &len);
    char *all = malloc((size_t)s->n + len + 1);
    CHECK(all, "out of memory for text");
    memcpy(all, s->pending, (size_t)s->n);
    if (len)
        memcpy(all + s->n, more, len);
    len += (size_t)s->n;
    size_t whole = last ? len : utf8_whole(all, len);
    s->n = (int)(len - whole);
    memcpy(s->pending, all + whole, (size_t)s->n);
    char *text = utf8_lossy(all, whole, NULL);
    free(all);
    free(more);
    return text;
}
