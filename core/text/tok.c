/*
 * tok: text to tokens and back. Text is cut at added tokens that are sought
 * in it as it is; what lies between is normalised and cut at those sought in
 * normalised text; what lies between is cut into pieces, which the model
 * encodes.
 */
#include "core/text/tok.h"

#include "core/fs.h"
#include "core/text/convert.h"
#include "core/text/int.h"
#include "core/text/unicode.h"

#include <stdlib.h>
#include <string.h>

#define TOK_FILE_MAX (64 << 20)

/* The bytes of `json`, or, when it is NULL, of what another kind of tokenizer
 * in dir is as one. */
static int read_file(const char *json, const char *dir, struct buf *out,
                     struct err *err) {
    size_t len;
    if (!json)
        return convert_dir(dir, out, err);
    char *text = fs_read(json, TOK_FILE_MAX, &len, err);
    if (text)
        *out = (struct buf){.data = (uint8_t *)text, .len = len};
    return text ? 0 : -1;
}

char *tok_file(const char *dir) {
    char *json = fs_path("%s/tokenizer.json", dir);
    bool is_json = fs_exists(json);
    free(json);
    return is_json ? fs_path("tokenizer.json") : convert_find(dir);
}

struct tok *tok_open(const char *dir, struct err *err) {
    struct buf b;
    struct err why = {0};
    struct tok *t = NULL;
    char *path = fs_path("%s/tokenizer.json", dir);
    const char *json = fs_exists(path) ? path : NULL;
    buf_init(&b, CONVERT_MAX);
    if (read_file(json, dir, &b, &why) == 0) {
        t = calloc(1, sizeof *t);
        CHECK(t, "out of memory for a tokenizer");
        if (tok_load(t, (const char *)b.data, b.len, &why) < 0) {
            err_ctx(&why, "%s", json ? json : dir);
            tok_close(t);
            t = NULL;
        }
    } else if (why.code == ERR_NOTFOUND && !json) {
        why = (struct err){0};
        err_set(&why, ERR_NOTFOUND,
                "%s: the model has no tokenizer.json, which text needs (rows "
                "of tokens work without)",
                dir);
    }
    if (!t)
        err_set(err, why.code, "%s", why.msg);
    buf_release(&b);
    free(path);
    return t;
}

void tok_close(struct tok *t) {
    if (!t)
        return;
    vocab_release(&t->vocab);
    added_release(&t->added);
    norm_free(t->norm);
    split_free(t->split);
    bpe_free(t->bpe);
    unigram_free(t->unigram);
    wordpiece_free(t->wordpiece);
    decoder_free(t->decoder);
    free(t->special);
    free(t);
}

int32_t tok_size(const struct tok *t) { return t->size; }

int64_t tok_find(const struct tok *t, const char *content) {
    size_t len = strlen(content);
    uint32_t id = vocab_find(&t->added.names, content, len);
    if (id == VOCAB_NONE)
        id = vocab_find(&t->vocab, content, len);
    return id == VOCAB_NONE ? -1 : (int64_t)id;
}

bool tok_is_special(const struct tok *t, uint32_t id) {
    return id < (uint32_t)t->size && t->special[id];
}

const char *tok_text(const struct tok *t, uint32_t id, size_t *len) {
    const char *s = vocab_text(&t->added.names, id, len);
    return s ? s : vocab_text(&t->vocab, id, len);
}

static void ids_reserve(struct tok_ids *ids) {
    if (ids->n < ids->cap)
        return;
    ids->cap = ids->cap ? 2 * ids->cap : 64;
    ids->id = realloc(ids->id, ids->cap * sizeof *ids->id);
    CHECK(ids->id, "out of memory for %zu tokens", ids->cap);
}

void tok_ids_push(struct tok_ids *ids, uint32_t id) {
    ids_reserve(ids);
    ids->id[ids->n++] = id;
}

/* ---- encoding ---- */

struct encode {
    const struct tok *t;
    int flags;
    const char *text; /* all of it */
    size_t len;
    struct bpe_run *bpe;   /* NULL: the model is another */
    const uint8_t *banned; /* special tokens that text must not become */
    struct split_run *split;
    struct norm_out norm;
    struct tok_ids *ids;
    struct tok_spans *at; /* NULL: not wanted */
    size_t at_first;      /* how many it has from before */
    struct tok_pieces pieces;
    size_t base;  /* of what is normalised, in the text */
    size_t piece; /* of what is cut into pieces, in what is normalised */
};

/* ---- what a token covers ---- */

static void put_span(struct encode *e, size_t from, size_t to) {
    struct tok_spans *a = e->at;
    if (!a)
        return;
    if (a->n == a->cap) {
        a->cap = a->cap ? 2 * a->cap : 64;
        a->at = realloc(a->at, a->cap * sizeof *a->at);
        CHECK(a->at, "out of memory for %zu tokens", a->cap);
    }
    a->at[a->n++] = (struct tok_span){(uint32_t)from, (uint32_t)to};
}

/* A range of normalised text, as one of the text. */
static struct tok_span span_of(const struct encode *e, size_t from, size_t to) {
    if (e->norm.at && to > from) {
        struct span a = e->norm.at[from], b = e->norm.at[to - 1];
        from = a.from;
        to = b.to;
    }
    return (struct tok_span){(uint32_t)(e->base + from),
                             (uint32_t)(e->base + to)};
}

static bool is_inside(const struct encode *e, size_t at) {
    return at < e->len && uni_is_inner(e->text[at]);
}

/* Also the letter that stands for the byte of one. */
static bool is_space(uint32_t c) {
    return c == byte_char(' ') || uni_is_space(c);
}

static int spaces_before(const char *s, size_t len) {
    int n = 0;
    uint32_t c;
    for (size_t i = 0; i < len; n++) {
        i += (size_t)uni_get(s + i, &c);
        if (!is_space(c))
            break;
    }
    return n;
}

static int spaces_behind(const char *s, size_t len) {
    int n = 0;
    uint32_t c;
    for (size_t i = len; i > 0; n++) {
        do
            i--;
        while (i > 0 && uni_is_inner(s[i]));
        uni_get(s + i, &c);
        if (!is_space(c))
            break;
    }
    return n;
}

/* A token's spaces off its span, a character of text for each, as far as
 * there are some. */
static void trim_span(const struct encode *e, const struct tok_trim *trim,
                      const char *s, size_t len, struct tok_span *at) {
    bool around = e->flags & TOK_BOS;
    int others = around ? e->t->before_n - trim->before_n : 0;
    bool first = e->at->n == e->at_first + (size_t)others;
    int lead = spaces_before(s, len), tail = spaces_behind(s, len);
    if (lead == 1 && trim->has_prefix && (first || at->from == 0))
        lead = 0;
    for (; lead > 0 && at->from < at->to; lead--)
        while (is_inside(e, ++at->from))
            ;
    uint32_t to = at->to;
    int left = tail;
    for (; left > 0 && to > 0; left--)
        while (is_inside(e, --to))
            ;
    if (left == 0)
        at->to = to > at->from ? to : at->from;
}

/* A token whose string is s. */
static void put_trimmed(struct encode *e, const char *s, size_t len,
                        struct tok_span at) {
    for (int i = 0; i < e->t->trims; i++)
        trim_span(e, &e->t->trim[i], s, len, &at);
    put_span(e, at.from, at.to);
}

/* ---- encoding ---- */

/* A token of part of a character covers all of it. */
static void put_piece(struct encode *e, const struct piece *p,
                      const struct tok_piece *k) {
    size_t off = p->at ? 0 : (size_t)(p->s - e->norm.text) - e->piece;
    size_t from = off + k->start, to = off + k->end;
    if (p->at && k->end > k->start) {
        from = p->at[k->start].from;
        to = p->at[k->end - 1].to;
    }
    struct tok_span s = span_of(e, e->piece + from, e->piece + to);
    while (s.from > 0 && is_inside(e, s.from))
        s.from--;
    while (is_inside(e, s.to))
        s.to++;
    if (s.to < s.from) /* an unknown one that comes behind later bytes */
        s.from = s.to;
    tok_ids_push(e->ids, k->id);
    if (!e->at)
        return;
    size_t len = k->end - k->start;
    const char *text = p->s + k->start; /* an unknown one is what it covers */
    if (!e->t->unigram || !unigram_is_unk(e->t->unigram, k->id))
        text = vocab_text(&e->t->vocab, k->id, &len);
    put_trimmed(e, text, len, s);
}

static void model_pieces(struct encode *e, const char *s, size_t len) {
    if (e->bpe)
        bpe_pieces(e->bpe, s, len, &e->pieces);
    else if (e->t->unigram)
        unigram_encode(e->t->unigram, e->banned, s, len, &e->pieces);
    else
        wordpiece_encode(e->t->wordpiece, e->banned, s, len, &e->pieces);
}

static void piece_put(struct encode *e, const struct piece *p) {
    e->pieces.n = 0;
    model_pieces(e, p->s, p->len);
    for (size_t i = 0; i < e->pieces.n; i++)
        put_piece(e, p, &e->pieces.at[i]);
}

static void encode_ids(struct encode *e) {
    struct piece p[BPE_PIECES_MAX];
    for (size_t n; (n = split_fill(e->split, p, BPE_PIECES_MAX)) > 0;)
        bpe_ids(e->bpe, p, n, e->ids);
}

/* Text without added tokens: [from, to) of what is normalised. */
static void encode_pieces(struct encode *e, size_t from, size_t to) {
    struct piece p;
    if (from == to)
        return;
    e->piece = from;
    split_begin(e->split, e->norm.text + from, to - from,
                e->base == 0 && from == 0);
    if (e->bpe && !e->at) {
        encode_ids(e);
        return;
    }
    while (split_next(e->split, &p))
        piece_put(e, &p);
}

typedef void between_fn(struct encode *e, size_t from, size_t to);

/* Added tokens, and by `fn` what lies between them. */
static void encode_added(struct encode *e, const struct added_query *q,
                         between_fn *fn) {
    size_t taken = 0, at = 0;
    for (;;) {
        struct added_hit h = added_find(&e->t->added, q, at, taken);
        if (!h.token)
            break;
        if (taken < h.from)
            fn(e, taken, h.from);
        tok_ids_push(e->ids, h.token->id);
        if (e->at)
            put_trimmed(
                e, q->s + h.from, h.to - h.from,
                q->when == ADDED_RAW
                    ? (struct tok_span){(uint32_t)h.from, (uint32_t)h.to}
                    : span_of(e, h.from, h.to));
        taken = h.to;
        at = h.next;
    }
    fn(e, taken, q->len > taken ? q->len : taken);
}

static void normalise(struct encode *e, size_t from, size_t to) {
    e->base = from;
    norm_apply(e->t->norm, e->text + from, to - from, &e->norm);
}

static void encode_plain(struct encode *e, size_t from, size_t to) {
    if (from == to)
        return;
    normalise(e, from, to);
    struct added_query q = {e->norm.text, e->norm.len, ADDED_NORMALIZED,
                            e->flags & TOK_CONTROL};
    encode_added(e, &q, encode_pieces);
}

static void encode_text(struct encode *e) {
    struct added_query q = {e->text, e->len, ADDED_RAW, e->flags & TOK_CONTROL};
    if (!(e->flags & TOK_PLAIN)) {
        encode_added(e, &q, encode_plain);
    } else if (e->len) {
        normalise(e, 0, e->len);
        encode_pieces(e, 0, e->norm.len);
    }
}

static void encode_run(struct encode *e) {
    const struct tok *t = e->t;
    bool ban = t->special_is_word && !(e->flags & TOK_CONTROL);
    e->banned = ban ? t->special : NULL;
    e->bpe = t->bpe ? bpe_run_new(t->bpe, e->banned) : NULL;
    e->split = split_run_new(t->split);
    e->norm.want_at = e->at != NULL;
    e->at_first = e->at ? e->at->n : 0;
    for (int i = 0; (e->flags & TOK_BOS) && i < t->before_n; i++) {
        tok_ids_push(e->ids, t->before[i]);
        put_span(e, 0, 0);
    }
    encode_text(e);
    for (int i = 0; (e->flags & TOK_BOS) && i < t->after_n; i++) {
        tok_ids_push(e->ids, t->after[i]);
        put_span(e, 0, 0);
    }
    bpe_run_free(e->bpe);
    split_run_free(e->split);
    norm_out_release(&e->norm);
    free(e->pieces.at);
}

void tok_encode_at(const struct tok *t, const char *text, size_t len, int flags,
                   struct tok_ids *ids, struct tok_spans *at) {
    char *clean = utf8_ok(text, len) ? NULL : utf8_lossy(text, len, &len);
    CHECK(len < UINT32_MAX, "a text of %zu bytes", len);
    struct encode e = {.t = t,
                       .flags = flags,
                       .text = clean ? clean : text,
                       .len = len,
                       .ids = ids,
                       .at = at};
    encode_run(&e);
    free(clean);
}

void tok_spans_chars(const char *text, size_t len, struct tok_spans *at) {
    uint32_t *nth = calloc(len + 1, sizeof *nth), n = 0;
    CHECK(nth, "out of memory for a text of %zu bytes", len);
    for (size_t i = 0; i < len; i++) {
        nth[i] = n;
        n += i + 1 == len || !uni_is_inner(text[i + 1]);
    }
    nth[len] = n;
    for (size_t i = 0; i < at->n; i++)
        at->at[i] = (struct tok_span){nth[at->at[i].from], nth[at->at[i].to]};
    free(nth);
}

void tok_encode(const struct tok *t, const char *text, size_t len, int flags,
                struct tok_ids *ids) {
    tok_encode_at(t, text, len, flags, ids, NULL);
}

/* ---- decoding ---- */

/* The text of ids in p, which is empty before. Those that have none are passed
 * over; the place of the first of them, or n. */
static size_t decode_ids(const struct tok *t, const uint32_t *id, size_t n,
                         bool skip, struct parts *p) {
    bool bytes = decoder_is_bytes(t->decoder);
    size_t unknown = n;
    for (size_t i = 0; i < n; i++) {
        size_t len;
        const char *s = tok_text(t, id[i], &len);
        if (!s && unknown == n)
            unknown = i;
        if (!s || (skip && tok_is_special(t, id[i])))
            continue;
        if (bytes) {
            decoder_bytes(p, s, len);
        } else {
            parts_put(p, s, len);
            parts_cut(p);
        }
    }
    if (!bytes)
        decoder_run(t->decoder, p);
    parts_put(p, "", 0);
    return unknown;
}

/* The bytes of p, made valid; moves them out. */
static char *text_of(struct parts *p, size_t *len) {
    char *text = p->s;
    *len = p->len;
    if (!utf8_ok(p->s, p->len)) {
        text = utf8_lossy(p->s, p->len, len);
        free(p->s);
    }
    p->s = NULL;
    parts_release(p);
    return text;
}

char *tok_decode(const struct tok *t, const uint32_t *id, size_t n, bool skip) {
    struct parts p = {0};
    size_t len;
    decode_ids(t, id, n, skip, &p);
    return text_of(&p, &len);
}

char *tok_decode_all(const struct tok *t, const uint32_t *id, size_t n,
                     size_t *len, struct err *err) {
    struct parts p = {0};
    size_t unknown = decode_ids(t, id, n, false, &p);
    if (unknown == n)
        return text_of(&p, len);
    err_set(err, ERR_INVAL, "token %u at position %zu: the vocabulary has %d",
            id[unknown], unknown, t->size);
    parts_release(&p);
    return NULL;
}

/* ---- one by one ---- */

/* Text that may hold NUL bytes; owned. */
struct window {
    char *s;
    size_t len;
};

static struct window window_text(const struct tok *t,
                                 const struct tok_stream *s, int n) {
    struct parts p = {0};
    struct window w;
    decode_ids(t, s->id, (size_t)n, !s->keep_special, &p);
    w.s = text_of(&p, &w.len);
    return w;
}

static bool ends_broken(const struct window *w) {
    return w->len >= 3 && memcmp(w->s + w->len - 3, "\xef\xbf\xbd", 3) == 0;
}

/* What `all` has behind what it has in common with `had`. */
static char *rest_of(const struct window *all, const struct window *had) {
    size_t n = 0;
    while (n < had->len && n < all->len && all->s[n] == had->s[n])
        n++;
    while (n > 0 && uni_is_inner(all->s[n]))
        n--;
    char *rest = malloc(all->len - n + 1);
    CHECK(rest, "out of memory for text");
    memcpy(rest, all->s + n, all->len - n + 1);
    return rest;
}

static void window_drop(struct tok_stream *s, int n) {
    memmove(s->id, s->id + n, (size_t)(s->n - n) * sizeof *s->id);
    s->n -= n;
    s->read = s->n;
}

/* What was returned already. While that is nothing, ids whose text is whole
 * count as read. */
static struct window window_read(const struct tok *t, struct tok_stream *s) {
    struct window had = window_text(t, s, s->read);
    if (had.len > 0 || s->n == 0)
        return had;
    struct window all = window_text(t, s, s->n);
    bool whole = !ends_broken(&all);
    free(whole ? had.s : all.s);
    if (whole)
        s->read = s->n;
    return whole ? all : had;
}

/* The ids in the window are decoded anew with each one that comes, as
 * Hugging Face's DecodeStream does: what a token's text is depends on those
 * before it. The first `read` of them were returned already. */
char *tok_stream_next(const struct tok *t, struct tok_stream *s, uint32_t id) {
    bool last = id == UINT32_MAX;
    struct window had = window_read(t, s);
    if (!last)
        s->id[s->n++] = id;
    struct window all = window_text(t, s, s->n);
    bool full = s->n == TOK_STREAM_MAX;
    bool whole = all.len > had.len && !ends_broken(&all);
    char *out = last || full || whole ? rest_of(&all, &had) : strdup("");
    CHECK(out, "out of memory for text");
    if (last)
        window_drop(s, s->n);
    else if (full || whole)
        window_drop(s, full && s->read == 0 ? s->n - 1 : s->read);
    free(had.s);
    free(all.s);
    return out;
}
