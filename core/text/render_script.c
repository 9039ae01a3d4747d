/*
 * render_script: text that knows who wrote it, and its way into tokens.
 *
 * Invariants: (1) no byte of a message is part of a control token, unless
 * `compat`; (2) a unit is encoded as one text, so that tokens form across the
 * edges of what the format and a message wrote, as they do in the cookbook.
 */
#include "core/text/render.h"

#include <stdlib.h>
#include <string.h>

/* ---- rich ---- */

void rich_init(struct rich *r) {
    *r = (struct rich){0};
    buf_init(&r->text, RENDER_TEXT_MAX);
}

void rich_release(struct rich *r) {
    buf_release(&r->text);
    free(r->fmt);
    *r = (struct rich){0};
}

static void rich_mark(struct rich *r, size_t from, size_t to) {
    if (from == to)
        return;
    if (r->n_fmt && r->fmt[r->n_fmt - 1].to == from) {
        r->fmt[r->n_fmt - 1].to = to;
        return;
    }
    if (r->n_fmt == r->cap) {
        r->cap = r->cap ? 2 * r->cap : 4;
        r->fmt = realloc(r->fmt, r->cap * sizeof *r->fmt);
        CHECK(r->fmt, "out of memory for a message");
    }
    r->fmt[r->n_fmt++] = (struct range){from, to};
}

void rich_fmt(struct rich *r, const char *s) {
    size_t from = r->text.len;
    buf_puts(&r->text, s);
    rich_mark(r, from, r->text.len);
}

void rich_data(struct rich *r, const void *s, size_t n) {
    buf_bytes(&r->text, s, n);
}

/* ---- view ---- */

struct view view_of(const struct rich *r) {
    return (struct view){r, 0, r->text.len};
}

const char *view_str(const struct view *v) {
    return v->rich->text.data ? (const char *)v->rich->text.data + v->from : "";
}

size_t view_len(const struct view *v) { return v->to - v->from; }

/* What str.isspace() says of a character that begins at s; its length. */
static size_t space_len(const unsigned char *s, size_t n) {
    static const char *const wide[] = {
        "\xc2\x85",     "\xc2\xa0",     "\xe1\x9a\x80", "\xe2\x80\xa8",
        "\xe2\x80\xa9", "\xe2\x80\xaf", "\xe2\x81\x9f", "\xe3\x80\x80"};
    if (n == 0)
        return 0;
    if (*s < 0x80)
        return *s == ' ' || (*s >= 9 && *s <= 13) || (*s >= 28 && *s <= 31);
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++) {
        size_t len = strlen(wide[i]);
        if (n >= len && memcmp(s, wide[i], len) == 0)
            return len;
    }
    if (n >= 3 && s[0] == 0xe2 && s[1] == 0x80 && s[2] >= 0x80 && s[2] <= 0x8a)
        return 3;
    return 0;
}

static size_t left_len(const struct view *v, const char *set) {
    const unsigned char *s = (const unsigned char *)view_str(v);
    if (view_len(v) == 0)
        return 0;
    if (set)
        return *s && strchr(set, *s) ? 1 : 0;
    return space_len(s, view_len(v));
}

static size_t right_len(const struct view *v, const char *set) {
    const unsigned char *s = (const unsigned char *)view_str(v);
    size_t n = view_len(v);
    if (n == 0)
        return 0;
    if (set)
        return s[n - 1] && strchr(set, s[n - 1]) ? 1 : 0;
    for (size_t len = 1; len <= 3 && len <= n; len++)
        if (space_len(s + n - len, len) == len)
            return len;
    return 0;
}

struct view view_strip(struct view v, const char *set, int ends) {
    size_t n;
    while ((ends & LEFT) && (n = left_len(&v, set)) > 0)
        v.from += n;
    while ((ends & RIGHT) && (n = right_len(&v, set)) > 0)
        v.to -= n;
    return v;
}

int64_t view_find(const struct view *v, size_t from, const char *s) {
    if (from > view_len(v))
        return -1;
    const char *base = view_str(v);
    const char *at = memmem(base + from, view_len(v) - from, s, strlen(s));
    return at ? at - base : -1;
}

/* Walks a view's stretches, told apart by who wrote them. */
typedef void stretch_fn(void *to, const char *s, size_t n, bool is_fmt);

static void view_walk(struct view v, stretch_fn *fn, void *to) {
    const struct rich *r = v.rich;
    const char *base = (const char *)r->text.data;
    size_t at = v.from;
    for (size_t i = 0; i < r->n_fmt && at < v.to; i++) {
        size_t from = r->fmt[i].from, end = r->fmt[i].to;
        if (end <= at)
            continue;
        from = from < at ? at : from > v.to ? v.to : from;
        end = end > v.to ? v.to : end;
        if (from > at)
            fn(to, base + at, from - at, false);
        if (end > from)
            fn(to, base + from, end - from, true);
        at = end > from ? end : from;
    }
    if (at < v.to)
        fn(to, base + at, v.to - at, false);
}

static void stretch_to_rich(void *to, const char *s, size_t n, bool is_fmt) {
    struct rich *r = to;
    size_t from = r->text.len;
    buf_bytes(&r->text, s, n);
    if (is_fmt)
        rich_mark(r, from, from + n);
}

void rich_view(struct rich *to, struct view v) {
    view_walk(v, stretch_to_rich, to);
}

/* ---- script ---- */

void script_init(struct script *s) {
    *s = (struct script){0};
    buf_init(&s->text, RENDER_TEXT_MAX);
}

void script_release(struct script *s) {
    buf_release(&s->text);
    free(s->piece);
    *s = (struct script){0};
}

void script_unit(struct script *s, int64_t msg, bool is_output) {
    s->next = (struct piece){
        .msg = (int32_t)msg, .is_output = is_output, .is_cut = true};
}

void script_put(struct script *s, const char *text, size_t n, bool is_fmt) {
    struct piece p = s->next;
    p.from = s->text.len;
    p.is_fmt = is_fmt;
    p.origin = !is_fmt && p.is_output     ? ORIGIN_CONTENT
               : p.is_output || p.msg < 0 ? ORIGIN_TEMPLATE
                                          : ORIGIN_HEADER;
    if (n == 0)
        return;
    if (s->n == s->cap) {
        s->cap = s->cap ? 2 * s->cap : 64;
        s->piece = realloc(s->piece, s->cap * sizeof *s->piece);
        CHECK(s->piece, "out of memory for a conversation");
    }
    s->piece[s->n++] = p;
    s->next.is_cut = false;
    buf_bytes(&s->text, text, n);
}

void script_fmt(struct script *s, const char *text) {
    script_put(s, text, strlen(text), true);
}

void script_data(struct script *s, const void *text, size_t n) {
    script_put(s, text, n, false);
}

static void stretch_to_script(void *to, const char *s, size_t n, bool is_fmt) {
    script_put(to, s, n, is_fmt);
}

void script_view(struct script *s, struct view v) {
    view_walk(v, stretch_to_script, s);
}

void script_rich(struct script *s, const struct rich *r) {
    script_view(s, view_of(r));
}

/* ---- encoding ---- */

struct encoding {
    const struct script *s;
    const struct render *r;
    struct encoded *e;
    size_t cap;
    struct buf run; /* text between control tokens */
};

static size_t piece_end(const struct script *s, size_t i) {
    return i + 1 < s->n ? s->piece[i + 1].from : s->text.len;
}

static const struct control *control_at(const struct render *r, const char *s,
                                        size_t len) {
    for (size_t i = 0; i < r->n_control; i++)
        if (r->control[i].len <= len &&
            memcmp(s, r->control[i].text, r->control[i].len) == 0)
            return &r->control[i];
    return NULL;
}

static void flush_run(struct encoding *g) {
    if (g->run.len)
        tok_encode(g->r->tok, buf_str(&g->run), g->run.len, TOK_PLAIN,
                   &g->e->ids);
    buf_clear(&g->run);
}

/* The format's own text: control tokens by their ids, the rest to the run. */
static void put_fmt(struct encoding *g, const char *s, size_t len) {
    for (size_t at = 0; at < len;) {
        const struct control *c = control_at(g->r, s + at, len - at);
        if (!c) {
            buf_u8(&g->run, (uint8_t)s[at++]);
            continue;
        }
        flush_run(g);
        tok_ids_push(&g->e->ids, c->id);
        at += c->len;
        while (c->eats_space && at < len && strchr(" \t\r\n", s[at]))
            at++;
    }
}

/* Pieces first..end-1 are a unit. */
static void encode_unit(struct encoding *g, size_t first, size_t end,
                        bool compat) {
    const struct script *s = g->s;
    const char *text = (const char *)s->text.data;
    size_t from = s->piece[first].from, to = piece_end(s, end - 1);
    if (compat) {
        tok_encode(g->r->tok, text + from, to - from,
                   s->piece[first].is_literal ? 0 : TOK_CONTROL, &g->e->ids);
        return;
    }
    for (size_t i = first; i < end; i++) {
        const char *p = text + s->piece[i].from;
        size_t n = piece_end(s, i) - s->piece[i].from;
        if (s->piece[i].is_fmt)
            put_fmt(g, p, n);
        else
            buf_bytes(&g->run, p, n);
    }
    flush_run(g);
}

static bool is_mixed(const struct script *s, size_t first, size_t end,
                     bool exact) {
    for (size_t i = first + 1; i < end; i++)
        if (exact || s->piece[i].is_output != s->piece[first].is_output)
            return true;
    return false;
}

/* Bytes that a token adds to the text; a character that several tokens make
 * up counts for the last of them. */
static size_t token_len(const struct tok *t, struct tok_stream *st,
                        uint32_t id) {
    char *text = tok_is_special(t, id) ? tok_decode(t, &id, 1, false)
                                       : tok_stream_next(t, st, id);
    size_t n = strlen(text);
    free(text);
    return n;
}

/* The piece of each token of the unit from token `at` on. */
static void place_tokens(struct encoding *g, size_t at, size_t first,
                         size_t end, bool exact) {
    const struct script *s = g->s;
    struct encoded *e = g->e;
    struct tok_stream st = {0};
    size_t pos = s->piece[first].from, piece = first;
    if (e->ids.n > g->cap) {
        g->cap = 2 * e->ids.n;
        e->piece = realloc(e->piece, g->cap * sizeof *e->piece);
        CHECK(e->piece, "out of memory for tokens");
    }
    bool mixed = is_mixed(s, first, end, exact);
    for (; at < e->ids.n; at++) {
        while (mixed && piece + 1 < end && pos >= s->piece[piece + 1].from)
            piece++;
        e->piece[at] = (uint32_t)piece;
        if (mixed)
            pos += token_len(g->r->tok, &st, e->ids.id[at]);
    }
}

void script_encode(const struct script *s, const struct render *r, bool compat,
                   bool exact, struct encoded *e) {
    struct encoding g = {.s = s, .r = r, .e = e};
    memset(e, 0, sizeof *e);
    buf_init(&g.run, RENDER_TEXT_MAX);
    for (size_t i = 0, end; i < s->n; i = end) {
        size_t at = e->ids.n;
        for (end = i + 1; end < s->n && !s->piece[end].is_cut; end++)
            ;
        encode_unit(&g, i, end, compat);
        place_tokens(&g, at, i, end, exact);
    }
    buf_release(&g.run);
}

void encoded_release(struct encoded *e) {
    free(e->ids.id);
    free(e->piece);
    memset(e, 0, sizeof *e);
}
