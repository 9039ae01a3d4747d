/*
 * bench: how fast texts become tokens and tokens text. Texts are those that
 * are given, or made of the vocabulary's own words, the frequent ones as
 * often as in languages (Zipf); lower ids are the more frequent.
 */
#include "core/text.h"

#include "core/clock.h"
#include "core/rng.h"
#include "core/text/unicode.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PART 100000 /* bytes that are encoded at once, as long rows are */

static const char *const kinds[TOK_BENCH_N] = {
    [TOK_BENCH_ENGLISH] = "english",
    [TOK_BENCH_CODE] = "code",
    [TOK_BENCH_CJK] = "cjk",
    [TOK_BENCH_MIXED] = "mixed",
};

const char *tok_bench_name(enum tok_bench_kind kind) { return kinds[kind]; }

/* ---- texts ---- */

struct words {
    char **at; /* (n) owned */
    size_t n;
};

/* Is all of a token letters (behind a space, if it has one) that are ASCII,
 * or ideographs? */
static bool is_word(const char *s, bool han) {
    uint32_t c;
    s += *s == ' ' && !han;
    if (!*s)
        return false;
    for (int n; *s; s += n) {
        n = uni_get(s, &c);
        bool ascii = (c | 32) >= 'a' && (c | 32) <= 'z';
        if (han ? !(uni_class(c) & UNI_HAN) : !ascii)
            return false;
    }
    return true;
}

static struct words words_of(const struct tok *t, bool han) {
    struct words w = {calloc((size_t)tok_size(t) + 1, sizeof *w.at), 0};
    CHECK(w.at, "out of memory for words");
    for (uint32_t id = 0; id < (uint32_t)tok_size(t); id++) {
        char *s = tok_decode(t, &id, 1, true);
        if (is_word(s, han))
            w.at[w.n++] = s;
        else
            free(s);
    }
    if (w.n == 0) {
        w.at[w.n++] = strdup(han ? "\xe4\xb8\xad" : " a");
        CHECK(w.at[0], "out of memory for words");
    }
    return w;
}

static void words_release(struct words *w) {
    for (size_t i = 0; i < w->n; i++)
        free(w->at[i]);
    free(w->at);
}

/* Word i about as often as 1 / i. */
static const char *drawn(const struct words *w, uint64_t r) {
    double u = (double)(r >> 11) * 0x1p-53;
    size_t i = (size_t)(exp(u * log((double)w->n + 1)) - 1);
    return w->at[i < w->n ? i : w->n - 1];
}

/* What stands behind a word, one in sixteen. */
static const char *const behind[TOK_BENCH_N][16] = {
    {"", "", "", "", "", "", "", "", "", "", ",", ",", ".", ".\n", "'s", " 17"},
    {"", "", "", ".", "_", "(", "):\n    ", ", ", " = ", "\n    ", "\n\n",
     "[0]", "()\n        ", " != ", "\"", ": "},
    {"", "", "", "", "", "", "", "", "", "", "", "\xef\xbc\x8c", "\xef\xbc\x8c",
     "\xe3\x80\x82", "\xe3\x80\x82\n", "12"},
};

char *tok_bench_text(const struct tok *t, enum tok_bench_kind kind,
                     size_t len) {
    struct words latin = words_of(t, false), han = words_of(t, true);
    char *text = malloc(len + 1);
    size_t n = 0;
    CHECK(text, "out of memory for a text");
    for (uint64_t i = 0; n < len; i++) {
        enum tok_bench_kind k = kind;
        if (k == TOK_BENCH_MIXED)
            k = (enum tok_bench_kind)(i / 64 % TOK_BENCH_MIXED);
        uint64_t r = rng_u64(1, 0, i);
        const char *parts[] = {drawn(k == TOK_BENCH_CJK ? &han : &latin, r),
                               behind[k][r & 15]};
        for (int p = 0; p < 2; p++)
            for (const char *s = parts[p]; *s && n < len; s++)
                text[n++] = *s;
    }
    text[n] = 0;
    words_release(&latin);
    words_release(&han);
    return text;
}

/* ---- figures ---- */

/* The end of the part that begins at `at`, not inside of a character. */
static size_t part_end(const char *text, size_t at, size_t len) {
    size_t to = len - at > PART ? at + PART : len;
    while (to < len && to > at + 1 && uni_is_inner(text[to]))
        to--;
    return to;
}

struct tok_speed tok_bench(const struct tok *t, const char *text, size_t len) {
    struct tok_speed s = {0};
    struct tok_ids ids = {0};
    size_t got;
    struct err err = {0};
    int64_t start = clock_mono_us();
    for (size_t at = 0, to; at < len; at = to) {
        to = part_end(text, at, len);
        tok_encode(t, text + at, to - at, 0, &ids);
    }
    int64_t mid = clock_mono_us();
    free(tok_decode_all(t, ids.id, ids.n, &got, &err));
    s.encode_s = 1e-6 * (double)(mid - start);
    s.decode_s = 1e-6 * (double)(clock_mono_us() - mid);
    s.tokens = ids.n;
    free(ids.id);
    return s;
}
