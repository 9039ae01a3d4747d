/*
 * norm: a chain of steps, each of which reads the text before it and writes
 * the next one, character by character.
 *
 * Offsets follow Hugging Face's rule (edit_put): a character that replaces
 * one has its place; one that is inserted has the place of what was written
 * over or gone past last.
 */
#include "core/text/norm.h"
#include "core/text/int.h"
#include "core/text/precompiled.h"
#include "core/text/regex.h"
#include "core/text/unicode.h"

#include <stdlib.h>
#include <string.h>

#define STEPS_MAX 32
#define DEPTH_MAX 8

/* A text of n bytes is replaced by at most so many. */
#define GROWS_TO 16
#define GROWS_BY ((size_t)1 << 20)

/* A character on its way, and what it does to those that were there: 0
 * replaces one, 1 is inserted, -n replaces one and removes n. */
struct change {
    uint32_t c;
    int32_t change;
    uint32_t order; /* before sorting */
    uint8_t ccc;
};

struct side {
    char *text;
    struct span *at;
    size_t n, cap;
};

struct norm_buf {
    struct side side[2];
    int to; /* the side that is written */
    bool want_at;
    const char *text; /* what is read */
    size_t len;
    const struct span *at; /* NULL: text is the input */
    size_t off;            /* up to here it was replaced */
    size_t most;           /* bytes that replacing may make of a text */
    struct change *list;   /* marks that wait for their order */
    size_t n, cap;
};

struct step {
    void (*run)(const struct step *st, struct norm_buf *b);
    bool left, right;     /* Strip */
    bool compose, compat; /* NFC NFKC; NFKC NFKD */
    char *text;           /* of Prepend, Replace */
    size_t text_len;
    char *literal; /* what Replace looks for, or: */
    struct regex *regex;
    struct precompiled *map;
    bool (*keep)(uint32_t c); /* characters that stay */
    struct sp_norm *sp;
};

struct norm {
    struct step step[STEPS_MAX];
    int n;
};

/* ---- editing ---- */

static void edit_begin(struct norm_buf *b) {
    b->side[b->to].n = 0;
    b->off = 0;
}

static void edit_end(struct norm_buf *b) {
    struct side *s = &b->side[b->to];
    b->text = s->text ? s->text : "";
    b->len = s->n;
    b->at = s->at;
    b->to = !b->to;
}

/* Where the byte at i of what is read comes from. */
static struct span edit_span(const struct norm_buf *b, size_t i) {
    uint32_t c;
    if (b->at)
        return b->at[i];
    while (i > 0 && (b->text[i] & 0xc0) == 0x80)
        i--;
    int n = uni_get(b->text + i, &c);
    return (struct span){(uint32_t)i, (uint32_t)i + (uint32_t)n};
}

static void edit_skip(struct norm_buf *b, size_t chars) {
    uint32_t c;
    for (; chars > 0 && b->off < b->len; chars--)
        b->off += (size_t)uni_get(b->text + b->off, &c);
}

static void edit_room(struct norm_buf *b, size_t n) {
    struct side *s = &b->side[b->to];
    if (s->n + n <= s->cap)
        return;
    s->cap = 2 * s->cap + n + 256;
    s->text = realloc(s->text, s->cap);
    CHECK(s->text, "out of memory for a text");
    if (b->want_at)
        s->at = realloc(s->at, s->cap * sizeof *s->at);
    CHECK(s->at || !b->want_at, "out of memory for a text's offsets");
}

static void edit_put(struct norm_buf *b, uint32_t c, int32_t change) {
    struct side *s = &b->side[b->to];
    struct span from = {0, 0};
    edit_room(b, 4);
    if (b->want_at && change > 0 && b->off > 0)
        from = edit_span(b, b->off - 1);
    if (b->want_at && change <= 0 && b->off < b->len)
        from = edit_span(b, b->off);
    if (change <= 0)
        edit_skip(b, 1 + (size_t)-change);
    int n = uni_put(c, s->text + s->n);
    for (int i = 0; b->want_at && i < n; i++)
        s->at[s->n + (size_t)i] = from;
    s->n += (size_t)n;
}

/* What is read, unchanged, up to `to`. */
static void edit_copy(struct norm_buf *b, size_t to) {
    struct side *s = &b->side[b->to];
    size_t n = to - b->off;
    uint32_t c;
    if (n == 0)
        return;
    edit_room(b, n);
    memcpy(s->text + s->n, b->text + b->off, n);
    if (b->want_at && b->at)
        memcpy(s->at + s->n, b->at + b->off, n * sizeof *s->at);
    for (size_t i = 0, k; b->want_at && !b->at && i < n; i += k) {
        k = (size_t)uni_get(b->text + b->off + i, &c);
        struct span from = edit_span(b, b->off + i);
        for (size_t m = 0; m < k; m++)
            s->at[s->n + i + m] = from;
    }
    s->n += n;
    b->off = to;
}

/* ---- normal forms ---- */

static void list_push(struct norm_buf *b, uint32_t c, int32_t change) {
    if (b->n == b->cap) {
        b->cap = b->cap ? 2 * b->cap : 64;
        b->list = realloc(b->list, b->cap * sizeof *b->list);
        CHECK(b->list, "out of memory for a normal form");
    }
    b->list[b->n] =
        (struct change){c, change, (uint32_t)b->n, uni_form(c)->ccc};
    b->n++;
}

static int by_class(const void *a, const void *b) {
    const struct change *x = a, *y = b;
    if (x->ccc != y->ccc)
        return x->ccc < y->ccc ? -1 : 1;
    return x->order < y->order ? -1 : 1;
}

/* The marks from list[from] on in their order. */
static void list_sort(struct norm_buf *b, size_t from) {
    for (size_t i = from + 1; i < b->n; i++)
        if (b->list[i].ccc < b->list[i - 1].ccc) {
            qsort(b->list + from, b->n - from, sizeof *b->list, by_class);
            return;
        }
}

/* Composes list[0 … n) in place: a starter and what follows it, and so on. */
static void list_compose(struct norm_buf *b) {
    size_t to = 0, head = 0;
    bool has_head = false, has_last = false;
    uint8_t last = 0;
    for (size_t i = 0; i < b->n; i++) {
        struct change x = b->list[i];
        uint32_t r = 0;
        if (has_head && (!has_last || last < x.ccc))
            r = uni_composed(b->list[head].c, x.c);
        if (r) {
            b->list[head].c = r;
            b->list[head].change += x.change - 1;
            continue;
        }
        if (x.ccc == 0) {
            has_head = true;
            has_last = false;
            head = to;
        } else if (has_head) {
            has_last = true;
            last = x.ccc;
        }
        b->list[to++] = x;
    }
    b->n = to;
}

/* Is x a character that begins anew, whatever stands before it? */
static bool is_boundary(uint32_t c) {
    const struct uform *f = uni_form(c);
    return !f->ccc && !f->nfc_maybe;
}

static void list_flush(const struct step *st, struct norm_buf *b) {
    if (st->compose)
        list_compose(b);
    for (size_t i = 0; i < b->n; i++)
        edit_put(b, b->list[i].c, b->list[i].change);
    b->n = 0;
}

/* Decomposes a character, and sorts the marks before a new starter; `marks`:
 * where they begin. */
static void list_add(const struct step *st, struct norm_buf *b, uint32_t c,
                     size_t *marks) {
    uint32_t d[UNI_DECOMPOSED_MAX];
    int n = uni_decomposed(c, st->compat, d);
    for (int k = 0; k < n; k++) {
        if (uni_form(d[k])->ccc == 0) {
            list_sort(b, *marks);
            *marks = b->n + 1;
        }
        list_push(b, d[k], k > 0);
    }
}

/* May the form of c differ, whatever stands around it? */
static bool may_change(const struct step *st, uint32_t c) {
    const struct uform *f = uni_form(c);
    if (st->compat && f->compatible)
        return true;
    if (st->compose)
        return f->nfc_maybe;
    return f->ccc || f->canonical || (c >= 0xac00 && c < 0xd7a4);
}

/* The first character from `at` on that may change, or the end. */
static size_t form_skip(const struct step *st, const struct norm_buf *b,
                        size_t at) {
    uint32_t c;
    for (int n; at < b->len; at += (size_t)n) {
        n = 1;
        if ((unsigned char)b->text[at] < 0x80)
            continue;
        n = uni_get(b->text + at, &c);
        if (may_change(st, c))
            break;
    }
    return at;
}

/* Back from i to a character that nothing before it touches. */
static size_t form_back(const struct norm_buf *b, size_t i) {
    for (uint32_t c; i > b->off;) {
        do
            i--;
        while ((b->text[i] & 0xc0) == 0x80);
        uni_get(b->text + i, &c);
        if (is_boundary(c))
            break;
    }
    return i;
}

/* Only what lies between such characters and changes is worked on. */
static void run_form(const struct step *st, struct norm_buf *b) {
    size_t i = form_skip(st, b, 0);
    if (i == b->len)
        return;
    edit_begin(b);
    while (i < b->len) {
        size_t from = form_back(b, i), marks = 0;
        edit_copy(b, from);
        for (i = from; i < b->len;) {
            uint32_t c;
            int n = uni_get(b->text + i, &c);
            if (i > from && is_boundary(c) && !may_change(st, c))
                break;
            list_add(st, b, c, &marks);
            i += (size_t)n;
        }
        list_sort(b, marks);
        list_flush(st, b);
        i = form_skip(st, b, i);
    }
    edit_copy(b, b->len);
    edit_end(b);
}

/* ---- characters one by one ---- */

/* ASCII from b->off on, without offsets. */
static void lower_ascii(struct norm_buf *b) {
    struct side *s = &b->side[b->to];
    edit_room(b, b->len - b->off);
    for (; b->off < b->len; b->off++) {
        char c = b->text[b->off];
        if (c & 0x80)
            return;
        s->text[s->n++] = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
    }
}

static void run_lower(const struct step *st, struct norm_buf *b) {
    (void)st;
    edit_begin(b);
    for (uint32_t c; b->off < b->len;) {
        uint32_t low[2];
        if (!b->want_at && !(b->text[b->off] & 0x80)) {
            lower_ascii(b);
            continue;
        }
        uni_get(b->text + b->off, &c);
        int n = uni_lower_of(c, low);
        for (int i = 0; i < n; i++)
            edit_put(b, low[i], i > 0);
    }
    edit_end(b);
}

static bool keep_unmarked(uint32_t c) { return !UNI_IN(uni_mark_old, c); }
static bool keep_spacing(uint32_t c) { return !UNI_IN(uni_nonspacing_old, c); }
static bool keep_clean(uint32_t c) { return !UNI_IN(uni_bert_control, c); }
static bool keep_nmt(uint32_t c) {
    static const struct urange gone[] = {{0x1, 0x8},   {0xb, 0xb},
                                         {0xe, 0x1f},  {0x7f, 0x7f},
                                         {0x8f, 0x8f}, {0x9f, 0x9f}};
    return !uni_in(gone, sizeof gone / sizeof *gone, c);
}

static void run_keep(const struct step *st, struct norm_buf *b) {
    edit_begin(b);
    for (uint32_t c; b->off < b->len;) {
        uni_get(b->text + b->off, &c);
        if (st->keep(c))
            edit_put(b, c, 0);
        else
            edit_skip(b, 1);
    }
    edit_end(b);
}

static void run_nmt_spaces(const struct step *st, struct norm_buf *b) {
    static const struct urange space[] = {
        {0x9, 0xa},       {0xc, 0xd},       {0x1680, 0x1680}, {0x200b, 0x200f},
        {0x2028, 0x2029}, {0x2581, 0x2581}, {0xfeff, 0xfeff}, {0xfffd, 0xfffd}};
    (void)st;
    edit_begin(b);
    for (uint32_t c; b->off < b->len;) {
        uni_get(b->text + b->off, &c);
        bool is = uni_in(space, sizeof space / sizeof *space, c);
        edit_put(b, is ? ' ' : c, 0);
    }
    edit_end(b);
}

static void run_bert_spaces(const struct step *st, struct norm_buf *b) {
    (void)st;
    edit_begin(b);
    for (uint32_t c; b->off < b->len;) {
        uni_get(b->text + b->off, &c);
        edit_put(b, uni_is_space(c) ? ' ' : c, 0);
    }
    edit_end(b);
}

static void run_bert_han(const struct step *st, struct norm_buf *b) {
    (void)st;
    edit_begin(b);
    for (uint32_t c; b->off < b->len;) {
        uni_get(b->text + b->off, &c);
        bool is = c >= 0x3400 && UNI_IN(uni_bert_han, c);
        if (is)
            edit_put(b, ' ', 0);
        edit_put(b, c, is);
        if (is)
            edit_put(b, ' ', 1);
    }
    edit_end(b);
}

static void run_bytes(const struct step *st, struct norm_buf *b) {
    (void)st;
    edit_begin(b);
    for (uint32_t c; b->off < b->len;) {
        size_t at = b->off;
        int n = uni_get(b->text + at, &c);
        for (int i = 0; i < n; i++)
            edit_put(b, byte_char((unsigned char)b->text[at + (size_t)i]),
                     i > 0);
    }
    edit_end(b);
}

/* ---- pieces of text ---- */

static void run_strip(const struct step *st, struct norm_buf *b) {
    size_t from = 0, to = b->len;
    uint32_t c;
    for (int n; st->left && from < to; from += (size_t)n) {
        n = uni_get(b->text + from, &c);
        if (!uni_is_space(c))
            break;
    }
    while (st->right && to > from) {
        size_t i = to - 1;
        while ((b->text[i] & 0xc0) == 0x80)
            i--;
        uni_get(b->text + i, &c);
        if (!uni_is_space(c))
            break;
        to = i;
    }
    if (from == 0 && to == b->len)
        return;
    edit_begin(b);
    b->off = from;
    edit_copy(b, to);
    edit_end(b);
}

static bool has_room(const struct norm_buf *b, size_t made, size_t more) {
    return made + (b->len - b->off) + more <= b->most;
}

/* The text in front takes the place of the first character. */
static void run_prepend(const struct step *st, struct norm_buf *b) {
    uint32_t c, first;
    if (!b->len || !st->text_len || b->len + st->text_len > b->most)
        return;
    edit_begin(b);
    uni_get(b->text, &first);
    for (size_t i = 0; i < st->text_len;) {
        int n = uni_get(st->text + i, &c);
        edit_put(b, c, i > 0);
        i += (size_t)n;
    }
    edit_put(b, first, 1);
    edit_copy(b, b->len);
    edit_end(b);
}

static bool literal_find(const char *literal, const struct norm_buf *b,
                         size_t look, struct match *m) {
    size_t n = strlen(literal), left = b->len - look;
    const char *at = b->text + look;
    const char *hit =
        n == 1 ? memchr(at, literal[0], left) : memmem(at, left, literal, n);
    m->from = hit ? (size_t)(hit - b->text) : 0;
    m->to = m->from + n;
    return hit;
}

/* The next match at or behind `look`; see split.c for empty ones. */
static bool replace_find(const struct step *st, struct norm_buf *b,
                         struct regex_run *run, size_t look, bool has_last,
                         size_t last, struct match *m) {
    if (st->literal)
        return literal_find(st->literal, b, look, m);
    while (look <= b->len && regex_find(run, b->text, b->len, look, m)) {
        uint32_t c;
        if (m->to > m->from || !has_last || last != m->to)
            return true;
        look += look < b->len ? (size_t)uni_get(b->text + look, &c) : 1;
    }
    return false;
}

/* Characters of the content are inserted behind what they replace. */
static void put_content(const struct step *st, struct norm_buf *b) {
    uint32_t c;
    for (size_t i = 0; i < st->text_len;) {
        int n = uni_get(st->text + i, &c);
        edit_put(b, c, 1);
        i += (size_t)n;
    }
}

/* A single byte (a space, mostly), without offsets. False: there is no room
 * for all. */
static bool replace_byte(const struct step *st, struct norm_buf *b) {
    struct side *s = &b->side[b->to];
    char c = st->literal[0];
    size_t n = 0;
    for (size_t i = 0; i < b->len; i++)
        n += b->text[i] == c;
    if (n == 0)
        return true;
    if (b->len + n * st->text_len > b->most)
        return false;
    edit_begin(b);
    edit_room(b, b->len + n * st->text_len);
    for (size_t i = 0; i < b->len; i++) {
        if (b->text[i] != c) {
            s->text[s->n++] = b->text[i];
            continue;
        }
        memcpy(s->text + s->n, st->text, st->text_len);
        s->n += st->text_len;
    }
    edit_end(b);
    return true;
}

static void run_replace(const struct step *st, struct norm_buf *b) {
    struct match m;
    struct regex_run run = {0};
    uint64_t budget = regex_budget(b->len);
    bool any = false;
    size_t last = 0;
    if (!b->len)
        return;
    if (st->literal && !st->literal[1] && !b->want_at && replace_byte(st, b))
        return;
    if (st->regex)
        regex_run_init(&run, st->regex, &budget);
    while (replace_find(st, b, &run, last, any, last, &m)) {
        if (!any)
            edit_begin(b);
        any = true;
        edit_copy(b, m.from);
        if (!has_room(b, b->side[b->to].n, st->text_len))
            break;
        b->off = last = m.to;
        put_content(st, b);
    }
    regex_run_release(&run);
    if (!any)
        return;
    edit_copy(b, b->len);
    edit_end(b);
}

/* Characters of a charsmap's text on their way: the last one waits, because
 * characters that vanish behind it are counted as its change. Nothing waits
 * before the first, so there they are not counted at all, and the offsets of
 * what follows lag behind; Hugging Face's do, too. */
static void put_waiting(struct norm_buf *b, uint32_t c, int32_t change) {
    if (b->n)
        edit_put(b, b->list[0].c, b->list[0].change);
    b->n = 0;
    list_push(b, c, change);
}

/* `old` characters become the text of a charsmap, place by place. */
static void put_mapped(struct norm_buf *b, const char *text, size_t len,
                       int32_t old) {
    int32_t count = 0;
    uint32_t c;
    for (size_t k = 0; k < len; count++) {
        k += (size_t)uni_get(text + k, &c);
        put_waiting(b, c, count >= old);
    }
    if (count < old && b->n)
        b->list[0].change += count - old;
}

/* Whole clusters of up to five bytes first, then character by character; so
 * does SentencePiece's own, as Hugging Face's has it. */
static void run_precompiled(const struct step *st, struct norm_buf *b) {
    size_t len;
    edit_begin(b);
    b->n = 0;
    for (size_t at = 0, to; at < b->len; at = to) {
        int chars;
        to = precompiled_cluster(b->text, at, b->len, &chars);
        const char *text = NULL;
        if (to - at < 6)
            text = precompiled_find(st->map, b->text + at, to - at, &len);
        if (text)
            put_mapped(b, text, len, chars);
        for (uint32_t c; !text && at < to;) {
            int n = uni_get(b->text + at, &c);
            const char *one =
                precompiled_find(st->map, b->text + at, (size_t)n, &len);
            if (one)
                put_mapped(b, one, len, 1);
            else
                put_waiting(b, c, 0);
            at += (size_t)n;
        }
    }
    if (b->n)
        edit_put(b, b->list[0].c, b->list[0].change);
    b->n = 0;
    edit_end(b);
}

/* ---- SentencePiece's own, for what convert_sp.c writes ---- */

struct word {
    char *s; /* owned */
    size_t len;
};

struct sp_norm {
    struct precompiled *map; /* NULL: none */
    bool dummy_prefix, collapse, escape;
    bool at_end;       /* the dummy stands there */
    struct word *word; /* (n) user-defined pieces, which stay as they are: by
                        * first byte, the longest first */
    size_t n;
    uint32_t from[257]; /* those that begin with byte b */
};

static void sp_norm_free(struct sp_norm *m) {
    if (!m)
        return;
    for (size_t i = 0; i < m->n; i++)
        free(m->word[i].s);
    free(m->word);
    precompiled_free(m->map);
    free(m);
}

/* What the text at `at` begins with, and what becomes of it. */
struct rewrite {
    size_t used;
    const char *s;
    size_t len;
    struct span from;
};

static struct rewrite sp_next(const struct sp_norm *m, const struct norm_buf *b,
                              size_t at) {
    const char *text = b->text + at;
    size_t left = b->len - at;
    struct rewrite w = {.s = NULL};
    uint32_t c;
    unsigned byte = (unsigned char)*text;
    for (uint32_t i = m->from[byte]; !w.s && i < m->from[byte + 1]; i++)
        if (m->word[i].len <= left &&
            memcmp(text, m->word[i].s, m->word[i].len) == 0)
            w = (struct rewrite){m->word[i].len, text, m->word[i].len, {0, 0}};
    if (!w.s && m->map)
        w.s = precompiled_longest(m->map, text, left, &w.used, &w.len);
    if (!w.s) {
        w.s = text;
        w.used = w.len = (size_t)uni_get(text, &c);
    }
    w.from =
        (struct span){edit_span(b, at).from, edit_span(b, at + w.used - 1).to};
    return w;
}

static void sp_put(const struct sp_norm *m, struct norm_buf *b,
                   const struct rewrite *w) {
    struct side *s = &b->side[b->to];
    edit_room(b, 3 * w->len);
    for (size_t i = 0, n; i < w->len; i++, s->n += n) {
        bool mark = m->escape && w->s[i] == ' ';
        n = mark ? 3 : 1;
        memcpy(s->text + s->n, mark ? "\xe2\x96\x81" : w->s + i, n);
        for (size_t k = 0; b->want_at && k < n; k++)
            s->at[s->n + k] = w->from;
    }
}

static void sp_dummy(const struct sp_norm *m, struct norm_buf *b, uint32_t at) {
    sp_put(m, b, &(struct rewrite){0, " ", 1, {at, at}});
}

static void sp_trim(const struct sp_norm *m, struct norm_buf *b) {
    struct side *s = &b->side[b->to];
    const char *mark = m->escape ? "\xe2\x96\x81" : " ";
    size_t n = strlen(mark);
    while (s->n >= n && memcmp(s->text + s->n - n, mark, n) == 0)
        s->n -= n;
}

static void run_sentencepiece(const struct step *st, struct norm_buf *b) {
    const struct sp_norm *m = st->sp;
    struct rewrite w;
    size_t at = 0;
    edit_begin(b);
    for (; m->collapse && at < b->len; at += w.used) {
        w = sp_next(m, b, at);
        if (w.len != 1 || *w.s != ' ')
            break;
    }
    bool dummy = m->dummy_prefix && at < b->len;
    if (dummy && !m->at_end)
        sp_dummy(m, b, edit_span(b, at).from);
    for (bool space = m->collapse; at < b->len; at += w.used) {
        w = sp_next(m, b, at);
        for (; space && w.len && *w.s == ' '; w.len--)
            w.s++;
        if (w.len)
            space = m->collapse && w.s[w.len - 1] == ' ';
        sp_put(m, b, &w);
    }
    if (m->collapse)
        sp_trim(m, b);
    if (dummy && m->at_end)
        sp_dummy(m, b, edit_span(b, b->len - 1).to);
    edit_end(b);
}

/* ---- configuration ---- */

static struct step *
step_add(struct norm *n, void (*run)(const struct step *, struct norm_buf *),
         struct err *err) {
    if (n->n == STEPS_MAX) {
        err_set(err, ERR_UNSUPPORTED, "more than %d normalizers", STEPS_MAX);
        return NULL;
    }
    struct step *st = &n->step[n->n++];
    st->run = run;
    return st;
}

static bool flag(const json_t *j, const char *name, bool dflt) {
    const json_t *v = json_object_get(j, name);
    return json_is_boolean(v) ? json_is_true(v) : dflt;
}

static int add_keep(struct norm *n, bool (*keep)(uint32_t), struct err *err) {
    struct step *st = step_add(n, run_keep, err);
    if (st)
        st->keep = keep;
    return st ? 0 : -1;
}

static int add_form(struct norm *n, bool compose, bool compat,
                    struct err *err) {
    struct step *st = step_add(n, run_form, err);
    if (!st)
        return -1;
    st->compose = compose;
    st->compat = compat;
    return 0;
}

static int conf_form(struct norm *n, const json_t *j, struct err *err) {
    const char *type = json_string_value(json_object_get(j, "type"));
    return add_form(n, type[strlen(type) - 1] == 'C', type[2] == 'K', err);
}

static int conf_lower(struct norm *n, const json_t *j, struct err *err) {
    (void)j;
    return step_add(n, run_lower, err) ? 0 : -1;
}

static int conf_accents(struct norm *n, const json_t *j, struct err *err) {
    (void)j;
    return add_keep(n, keep_unmarked, err);
}

static int conf_nmt(struct norm *n, const json_t *j, struct err *err) {
    (void)j;
    if (add_keep(n, keep_nmt, err) < 0)
        return -1;
    return step_add(n, run_nmt_spaces, err) ? 0 : -1;
}

static int conf_bytes(struct norm *n, const json_t *j, struct err *err) {
    (void)j;
    return step_add(n, run_bytes, err) ? 0 : -1;
}

static int conf_strip(struct norm *n, const json_t *j, struct err *err) {
    struct step *st = step_add(n, run_strip, err);
    if (!st)
        return -1;
    st->left = flag(j, "strip_left", true);
    st->right = flag(j, "strip_right", true);
    return 0;
}

static int conf_bert(struct norm *n, const json_t *j, struct err *err) {
    bool lower = flag(j, "lowercase", true);
    if (flag(j, "clean_text", true) && (add_keep(n, keep_clean, err) < 0 ||
                                        !step_add(n, run_bert_spaces, err)))
        return -1;
    if (flag(j, "handle_chinese_chars", true) &&
        !step_add(n, run_bert_han, err))
        return -1;
    if (flag(j, "strip_accents", lower) &&
        (add_form(n, false, false, err) < 0 ||
         add_keep(n, keep_spacing, err) < 0))
        return -1;
    return !lower || step_add(n, run_lower, err) ? 0 : -1;
}

static char *dup_text(const json_t *j, size_t *len) {
    *len = json_string_length(j);
    char *s = malloc(*len + 1);
    CHECK(s, "out of memory for a normalizer");
    memcpy(s, json_string_value(j), *len + 1);
    return s;
}

static int conf_prepend(struct norm *n, const json_t *j, struct err *err) {
    const json_t *text = json_object_get(j, "prepend");
    struct step *st = step_add(n, run_prepend, err);
    if (!st)
        return -1;
    if (!json_is_string(text))
        return err_set(err, ERR_INVAL, "Prepend without a text");
    st->text = dup_text(text, &st->text_len);
    return 0;
}

static int conf_replace(struct norm *n, const json_t *j, struct err *err) {
    const json_t *p = json_object_get(j, "pattern");
    const json_t *regex = json_object_get(p, "Regex");
    const json_t *string = json_is_string(p) ? p : json_object_get(p, "String");
    const json_t *content = json_object_get(j, "content");
    struct step *st = step_add(n, run_replace, err);
    size_t len = json_string_length(string);
    if (!st)
        return -1;
    if (!json_is_string(content) || (!regex && !string))
        return err_set(err, ERR_INVAL, "Replace without pattern or content");
    st->text = dup_text(content, &st->text_len);
    if (len && !memchr(json_string_value(string), 0, len))
        st->literal = dup_text(string, &len);
    else if (string)
        st->regex = regex_literal(json_string_value(string), len, err);
    else if (json_is_string(regex))
        st->regex =
            regex_new(json_string_value(regex), json_string_length(regex), err);
    else
        err_set(err, ERR_INVAL, "Replace: its pattern is no text");
    return st->literal || st->regex ? 0 : -1;
}

static int conf_precompiled(struct norm *n, const json_t *j, struct err *err) {
    const json_t *map = json_object_get(j, "precompiled_charsmap");
    struct step *st = step_add(n, run_precompiled, err);
    if (!st)
        return -1;
    if (!json_is_string(map))
        return err_set(err, ERR_INVAL, "Precompiled without its charsmap");
    st->map =
        precompiled_new(json_string_value(map), json_string_length(map), err);
    return st->map ? 0 : -1;
}

static int by_byte(const void *x, const void *y) {
    const struct word *a = x, *b = y;
    int d = (unsigned char)*a->s - (unsigned char)*b->s;
    return d ? d : (a->len < b->len) - (a->len > b->len);
}

static void sp_words(struct sp_norm *m, const json_t *words) {
    size_t i;
    json_t *e;
    m->word = calloc(json_array_size(words) + 1, sizeof *m->word);
    CHECK(m->word, "out of memory for a normalizer");
    json_array_foreach((json_t *)words, i, e) {
        struct word *w = &m->word[m->n];
        if (json_string_length(e) == 0)
            continue;
        w->s = dup_text(e, &w->len);
        m->n++;
    }
    qsort(m->word, m->n, sizeof *m->word, by_byte);
    for (uint32_t b = 0, k = 0; b <= 256; b++) {
        m->from[b] = k;
        while (k < m->n && (unsigned char)m->word[k].s[0] == b)
            k++;
    }
}

static int conf_sentencepiece(struct norm *n, const json_t *j,
                              struct err *err) {
    const json_t *map = json_object_get(j, "precompiled_charsmap");
    struct step *st = step_add(n, run_sentencepiece, err);
    if (!st)
        return -1;
    st->sp = calloc(1, sizeof *st->sp);
    CHECK(st->sp, "out of memory for a normalizer");
    st->sp->dummy_prefix = flag(j, "add_dummy_prefix", true);
    st->sp->collapse = flag(j, "remove_extra_whitespaces", true);
    st->sp->at_end = flag(j, "treat_whitespace_as_suffix", false);
    st->sp->escape = flag(j, "escape_whitespaces", true);
    sp_words(st->sp, json_object_get(j, "user_defined"));
    if (!json_is_string(map))
        return 0;
    st->sp->map =
        precompiled_new(json_string_value(map), json_string_length(map), err);
    return st->sp->map ? 0 : -1;
}

static int conf_any(struct norm *n, const json_t *j, int depth,
                    struct err *err);

static int conf_sequence(struct norm *n, const json_t *j, int depth,
                         struct err *err) {
    const json_t *all = json_object_get(j, "normalizers");
    if (!json_is_array(all) || depth == DEPTH_MAX)
        return err_set(err, ERR_INVAL, "Sequence without normalizers");
    for (size_t i = 0; i < json_array_size(all); i++)
        if (conf_any(n, json_array_get(all, i), depth + 1, err) < 0)
            return -1;
    return 0;
}

static int conf_any(struct norm *n, const json_t *j, int depth,
                    struct err *err) {
    static const struct {
        const char *type;
        int (*add)(struct norm *n, const json_t *j, struct err *err);
    } kinds[] = {
        {"NFC", conf_form},
        {"NFD", conf_form},
        {"NFKC", conf_form},
        {"NFKD", conf_form},
        {"Lowercase", conf_lower},
        {"Strip", conf_strip},
        {"StripAccents", conf_accents},
        {"Replace", conf_replace},
        {"Prepend", conf_prepend},
        {"BertNormalizer", conf_bert},
        {"Nmt", conf_nmt},
        {"Precompiled", conf_precompiled},
        {"ByteLevel", conf_bytes},
        {"SentencePiece", conf_sentencepiece}, /* ours: convert.h */
    };
    const char *type = json_string_value(json_object_get(j, "type"));
    if (type && strcmp(type, "Sequence") == 0)
        return conf_sequence(n, j, depth, err);
    for (size_t i = 0; type && i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(type, kinds[i].type) == 0)
            return kinds[i].add(n, j, err);
    return err_set(err, ERR_UNSUPPORTED, "'%.40s' is not supported",
                   type ? type : "no type");
}

struct norm *norm_new(const json_t *conf, struct err *err) {
    struct norm *n = calloc(1, sizeof *n);
    CHECK(n, "out of memory for a normalizer");
    if (!conf || json_is_null(conf) || conf_any(n, conf, 0, err) == 0)
        return n;
    err_ctx(err, "normalizer");
    norm_free(n);
    return NULL;
}

void norm_free(struct norm *n) {
    if (!n)
        return;
    for (int i = 0; i < n->n; i++) {
        free(n->step[i].text);
        free(n->step[i].literal);
        regex_free(n->step[i].regex);
        precompiled_free(n->step[i].map);
        sp_norm_free(n->step[i].sp);
    }
    free(n);
}

bool norm_is_none(const struct norm *n) { return n->n == 0; }

void norm_apply(const struct norm *n, const char *text, size_t len,
                struct norm_out *out) {
    out->text = text;
    out->len = len;
    out->at = NULL;
    if (n->n == 0)
        return;
    CHECK(len < UINT32_MAX, "a text of %zu bytes", len);
    if (!out->buf)
        out->buf = calloc(1, sizeof *out->buf);
    struct norm_buf *b = out->buf;
    CHECK(b, "out of memory for a normal form");
    b->want_at = out->want_at;
    b->text = text;
    b->len = len;
    b->at = NULL;
    b->most = out->most ? out->most : norm_most(len);
    for (int i = 0; i < n->n; i++)
        n->step[i].run(&n->step[i], b);
    out->text = b->text;
    out->len = b->len;
    out->at = b->at;
}

size_t norm_most(size_t len) {
    size_t most = GROWS_TO * len + GROWS_BY;
    return most < INT32_MAX ? most : INT32_MAX;
}

void norm_out_release(struct norm_out *out) {
    struct norm_buf *b = out->buf;
    if (b) {
        for (int i = 0; i < 2; i++) {
            free(b->side[i].text);
            free(b->side[i].at);
        }
        free(b->list);
    }
    free(b);
    memset(out, 0, sizeof *out);
}
