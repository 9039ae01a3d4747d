/*
 * added: leftmost-longest search in sorted patterns. At each byte that begins
 * one the range of patterns that fit is narrowed byte by byte.
 */
#include "core/text/added.h"

#include "core/err.h"
#include "core/text/unicode.h"

#include <stdlib.h>
#include <string.h>

int added_put(struct added *a, const struct added_token *t,
              const struct vocab *model) {
    if (t->len == 0 || vocab_find(&a->names, t->text, t->len) != VOCAB_NONE)
        return 0;
    uint32_t id = vocab_find(model, t->text, t->len);
    if (id == VOCAB_NONE)
        id = a->last >= (int64_t)model->n ? (uint32_t)a->last + 1 : model->n;
    if (id >= VOCAB_IDS_MAX)
        return -1;
    if (a->n == a->cap) {
        a->cap = a->cap ? 2 * a->cap : 64;
        a->token = realloc(a->token, a->cap * sizeof *a->token);
        CHECK(a->token, "out of memory for added tokens");
    }
    struct added_token *mine = &a->token[a->n];
    *mine = *t;
    mine->text = malloc(t->len + 1);
    CHECK(mine->text, "out of memory for added tokens");
    memcpy(mine->text, t->text, t->len);
    mine->text[t->len] = 0;
    mine->id = id;
    vocab_add(&a->names, t->text, t->len, id);
    a->last = a->n == 0 || id > a->last ? id : a->last;
    a->n++;
    return 0;
}

/* ---- the sets ---- */

static int by_text(const void *x, const void *y) {
    const struct added_pattern *a = x, *b = y;
    size_t n = a->len < b->len ? a->len : b->len;
    int d = memcmp(a->text, b->text, n);
    if (d == 0 && a->len != b->len)
        d = a->len < b->len ? -1 : 1;
    return d ? d : a->order < b->order ? -1 : 1;
}

static bool same_text(const struct added_pattern *a,
                      const struct added_pattern *b) {
    return a->len == b->len && memcmp(a->text, b->text, a->len) == 0;
}

static void pattern_put(struct added_set *set, const struct added_token *t,
                        const char *s, size_t len) {
    if (len == 0 || len > 4 * ADDED_MAX) /* what a normalizer left of it */
        return;
    struct added_pattern *p = &set->at[set->n];
    *p = (struct added_pattern){t, malloc(len), len, (uint32_t)set->n};
    CHECK(p->text, "out of memory for added tokens");
    memcpy(p->text, s, len);
    set->n++;
}

static void set_fill(struct added *a, bool special, const struct norm *norm) {
    struct norm_out out = {0};
    for (size_t i = 0; i < a->n; i++) {
        const struct added_token *t = &a->token[i];
        if (t->special != special)
            continue;
        out.text = t->text;
        out.len = t->len;
        if (t->normalized && !t->verbatim && norm)
            norm_apply(norm, t->text, t->len, &out);
        pattern_put(&a->set[t->normalized ? ADDED_NORMALIZED : ADDED_RAW], t,
                    out.text, out.len);
    }
    norm_out_release(&out);
}

static void set_sort(struct added_set *set) {
    size_t kept = 0;
    qsort(set->at, set->n, sizeof *set->at, by_text);
    for (size_t i = 0; i < set->n; i++)
        if (kept && same_text(&set->at[kept - 1], &set->at[i]))
            free(set->at[i].text);
        else
            set->at[kept++] = set->at[i];
    set->n = kept;
    for (size_t b = 0, i = 0; b <= 256; b++) {
        set->from[b] = (uint32_t)i;
        while (i < kept && (unsigned char)set->at[i].text[0] == b)
            i++;
    }
    set->first = -1;
    if (kept && set->at[0].text[0] == set->at[kept - 1].text[0])
        set->first = (unsigned char)set->at[0].text[0];
}

void added_ready(struct added *a, const struct norm *norm) {
    for (int i = 0; i < 2; i++) {
        a->set[i].at = calloc(a->n + 1, sizeof *a->set[i].at);
        CHECK(a->set[i].at, "out of memory for added tokens");
    }
    set_fill(a, true, norm);
    set_fill(a, false, norm);
    for (int i = 0; i < 2; i++)
        set_sort(&a->set[i]);
}

void added_release(struct added *a) {
    for (size_t i = 0; i < a->n; i++)
        free(a->token[i].text);
    for (int i = 0; i < 2; i++) {
        for (size_t k = 0; k < a->set[i].n; k++)
            free(a->set[i].at[k].text);
        free(a->set[i].at);
    }
    free(a->token);
    vocab_release(&a->names);
    memset(a, 0, sizeof *a);
}

/* ---- search ---- */

/* The first in [lo, hi) whose byte d is not below c. */
static uint32_t narrow(const struct added_set *set, uint32_t lo, uint32_t hi,
                       size_t d, unsigned c) {
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if ((unsigned char)set->at[mid].text[d] < c)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* The longest pattern that s begins with, or NULL. */
static const struct added_pattern *longest(const struct added_set *set,
                                           const char *s, size_t len) {
    const struct added_pattern *best = NULL;
    unsigned c = (unsigned char)*s;
    uint32_t lo = set->from[c], hi = set->from[c + 1];
    for (size_t d = 1; lo < hi; d++) {
        if (set->at[lo].len == d)
            best = &set->at[lo++];
        if (d == len)
            break;
        c = (unsigned char)s[d];
        if (lo < hi && (unsigned char)set->at[lo].text[d] == c &&
            (unsigned char)set->at[hi - 1].text[d] == c)
            continue;
        lo = narrow(set, lo, hi, d, c);
        hi = narrow(set, lo, hi, d, c + 1);
    }
    return best;
}

/* Rust's \w. */
static bool is_word(uint32_t c) {
    return c == 0x200c || c == 0x200d || (uni_class(c) & UNI_WORD);
}

static size_t char_before(const char *s, size_t at) {
    do
        at--;
    while (at > 0 && uni_is_inner(s[at]));
    return at;
}

static bool stands_alone(const struct added_query *q, size_t from, size_t to) {
    uint32_t c;
    if (from > 0 && (uni_get(q->s + char_before(q->s, from), &c), is_word(c)))
        return false;
    return to == q->len || (uni_get(q->s + to, &c), !is_word(c));
}

static size_t spaces_before(const char *s, size_t at, size_t least) {
    uint32_t c;
    while (at > least) {
        size_t prev = char_before(s, at);
        uni_get(s + prev, &c);
        if (prev < least || !uni_is_space(c))
            break;
        at = prev;
    }
    return at;
}

static size_t spaces_behind(const struct added_query *q, size_t at) {
    uint32_t c;
    while (at < q->len) {
        int n = uni_get(q->s + at, &c);
        if (!uni_is_space(c))
            break;
        at += (size_t)n;
    }
    return at;
}

/* The first place from `at` on where a pattern could begin, or the end. */
static size_t candidate(const struct added_set *set,
                        const struct added_query *q, size_t at) {
    if (set->first >= 0) {
        const char *hit = memchr(q->s + at, set->first, q->len - at);
        return hit ? (size_t)(hit - q->s) : q->len;
    }
    for (; at < q->len; at++) {
        unsigned c = (unsigned char)q->s[at];
        if (set->from[c] < set->from[c + 1])
            break;
    }
    return at;
}

/* A special token that is not wanted is passed over, with what is inside. */
struct added_hit added_find(const struct added *a, const struct added_query *q,
                            size_t at, size_t taken) {
    const struct added_set *set = &a->set[q->when];
    while (set->n > 0 && (at = candidate(set, q, at)) < q->len) {
        const struct added_pattern *p = longest(set, q->s + at, q->len - at);
        if (!p) {
            at++;
            continue;
        }
        struct added_hit h = {p->token, at, at + p->len, at + p->len};
        at = h.next;
        if ((p->token->special && !q->control) ||
            (p->token->single_word && !stands_alone(q, h.from, h.to)))
            continue;
        if (p->token->lstrip)
            h.from =
                h.from < taken ? taken : spaces_before(q->s, h.from, taken);
        if (p->token->rstrip)
            h.to = spaces_behind(q, h.to);
        /* all of it was white space that the token before swallowed */
        if (p->token->lstrip && h.to <= h.from)
            continue;
        return h;
    }
    return (struct added_hit){0};
}
