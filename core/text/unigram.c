/*
 * unigram: Viterbi over bytes, as Hugging Face's tokenizers do it: in f64,
 * the first of equal paths wins, unknown characters cost the lowest score and
 * ten more, and come out fused.
 *
 * Tokens are sorted; those that begin with the text at hand are a range that
 * each further byte narrows.
 */
#include "core/text/unigram.h"

#include "core/text/unicode.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UNK_PENALTY 10.0
#define TOKEN_MAX 512 /* bytes: bounds the work of a byte of text */

struct sorted {
    const char *s;
    uint32_t len, id;
};

struct unigram {
    const struct vocab *vocab;
    double *score; /* (vocab_size) */
    double unk_score;
    int64_t unk;
    bool byte_fallback, float32;
    uint32_t fallback[256];
    struct sorted *token; /* (n) */
    uint32_t n;
    uint32_t from[257]; /* those that begin with byte b */
};

static int by_text(const void *x, const void *y) {
    const struct sorted *a = x, *b = y;
    int d = memcmp(a->s, b->s, a->len < b->len ? a->len : b->len);
    return d ? d : (a->len > b->len) - (a->len < b->len);
}

static int token_put(struct unigram *u, uint32_t id, struct err *err) {
    size_t len;
    const char *s = vocab_text(u->vocab, id, &len);
    if (!s || len == 0)
        return 0;
    if (len > TOKEN_MAX)
        return err_set(err, ERR_UNSUPPORTED,
                       "vocab[%u]: a token of %zu bytes (at most %d)", id, len,
                       TOKEN_MAX);
    u->token[u->n++] = (struct sorted){s, (uint32_t)len, id};
    return 0;
}

static void sort_tokens(struct unigram *u) {
    qsort(u->token, u->n, sizeof *u->token, by_text);
    for (uint32_t b = 0, i = 0; b <= 256; b++) {
        u->from[b] = i;
        while (i < u->n && (unsigned char)u->token[i].s[0] == b)
            i++;
    }
}

/* A piece that a user defined gets so much that it is mostly taken: the best
 * score for each of its bytes; the best one is never below 0. */
static double score_of(const struct unigram_conf *c, uint32_t id, float best) {
    size_t len;
    if (!c->types || c->types[id] != 'D' || !vocab_text(c->vocab, id, &len))
        return c->score[id];
    return (double)((float)len * best) - 0.1;
}

/* Copies the scores; of SentencePiece's only normal ones count as the least
 * and the best. */
static int load_scores(struct unigram *u, const struct unigram_conf *c,
                       struct err *err) {
    double least = INFINITY, best = (double)FLT_MIN;
    for (uint32_t i = 0; i < vocab_size(c->vocab); i++) {
        bool normal = !c->types || c->types[i] == 'N';
        least = normal && c->score[i] < least ? c->score[i] : least;
        best = normal && c->score[i] > best ? c->score[i] : best;
    }
    for (uint32_t i = 0; i < vocab_size(c->vocab); i++) {
        bool is_word = !c->types || strchr("ND", c->types[i]);
        u->score[i] = score_of(c, i, (float)best);
        if (is_word && token_put(u, i, err) < 0)
            return -1;
    }
    u->unk_score = least - UNK_PENALTY;
    return 0;
}

struct unigram *unigram_new(const struct unigram_conf *c, struct err *err) {
    struct unigram *u = calloc(1, sizeof *u);
    uint32_t n = vocab_size(c->vocab);
    CHECK(u, "out of memory for a tokenizer");
    *u = (struct unigram){.vocab = c->vocab,
                          .unk = c->unk,
                          .byte_fallback = c->byte_fallback,
                          .float32 = c->types != NULL};
    u->score = calloc(n + 1, sizeof *u->score);
    u->token = calloc(n + 1, sizeof *u->token);
    CHECK(u->score && u->token, "out of memory for a tokenizer");
    if (load_scores(u, c, err) < 0) {
        unigram_free(u);
        return NULL;
    }
    for (unsigned i = 0; i < 256; i++) {
        char code[8];
        int k = snprintf(code, sizeof code, "<0x%02X>", i);
        u->fallback[i] = vocab_find(c->vocab, code, (size_t)k);
    }
    sort_tokens(u);
    return u;
}

void unigram_free(struct unigram *u) {
    if (!u)
        return;
    free(u->score);
    free(u->token);
    free(u);
}

bool unigram_is_unk(const struct unigram *u, uint32_t id) {
    return (int64_t)id == u->unk;
}

/* ---- the best path ---- */

struct node { /* the best way to where it stands */
    double score;
    uint32_t from, id; /* from UINT32_MAX: there is none */
};

struct path {
    const struct unigram *u;
    const uint8_t *banned;
    const char *s;
    size_t len;
    struct node *node; /* (len + 1) */
};

#define UNKNOWN (VOCAB_NONE - 1)

static void offer(struct path *p, size_t from, size_t to, double score,
                  uint32_t id) {
    struct node *n = &p->node[to];
    score += p->node[from].score;
    if (p->u->float32)
        score = (double)(float)score;
    if (n->from == UINT32_MAX || score > n->score)
        *n = (struct node){score, (uint32_t)from, id};
}

static uint32_t narrow(const struct unigram *u, uint32_t lo, uint32_t hi,
                       size_t d, unsigned c) {
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if ((unsigned char)u->token[mid].s[d] < c)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* Offers all tokens at `at`; does one cover just the first character? */
static bool offer_all(struct path *p, size_t at, size_t first) {
    const struct unigram *u = p->u;
    bool single = false;
    unsigned c = (unsigned char)p->s[at];
    uint32_t lo = u->from[c], hi = u->from[c + 1];
    for (size_t d = 1; lo < hi; d++) {
        if (u->token[lo].len == d) {
            uint32_t id = u->token[lo++].id;
            if (!p->banned || !p->banned[id]) {
                offer(p, at, at + d, u->score[id], id == u->unk ? UNKNOWN : id);
                single = single || d == first;
            }
        }
        if (at + d == p->len)
            break;
        c = (unsigned char)p->s[at + d];
        lo = narrow(u, lo, hi, d, c);
        hi = narrow(u, lo, hi, d, c + 1);
    }
    return single;
}

/* A range is known by its text: a run of unknown characters may be a token,
 * too; to SentencePiece by its id. */
static void put(const struct path *p, uint32_t id, uint32_t from, uint32_t to,
                struct tok_pieces *out) {
    const struct unigram *u = p->u;
    if (!u->float32)
        id = vocab_find(u->vocab, p->s + from, to - from);
    else if (id == UNKNOWN)
        id = VOCAB_NONE;
    bool bytes = u->byte_fallback;
    if (id != VOCAB_NONE && !(p->banned && p->banned[id])) {
        tok_pieces_push(out, (struct tok_piece){id, from, to});
        return;
    }
    for (uint32_t i = from; bytes && i < to; i++)
        bytes = u->fallback[(unsigned char)p->s[i]] != VOCAB_NONE;
    for (uint32_t i = from; bytes && i < to; i++)
        tok_pieces_push(
            out,
            (struct tok_piece){u->fallback[(unsigned char)p->s[i]], from, to});
    if (!bytes && u->unk >= 0)
        tok_pieces_push(out, (struct tok_piece){(uint32_t)u->unk, from, to});
}

/* Ranges of the path, last first, turned round; unknown ones fused. */
static void put_path(const struct path *p, struct tok_pieces *out) {
    struct tok_pieces ranges = {0};
    for (uint32_t to = (uint32_t)p->len, from; to > 0; to = from) {
        from = p->node[to].from;
        uint32_t id = p->node[to].id;
        struct tok_piece *last = ranges.n ? &ranges.at[ranges.n - 1] : NULL;
        if (last && id == UNKNOWN && last->id == UNKNOWN)
            last->start = from;
        else
            tok_pieces_push(&ranges, (struct tok_piece){id, from, to});
    }
    for (size_t i = ranges.n; i-- > 0;)
        put(p, ranges.at[i].id, ranges.at[i].start, ranges.at[i].end, out);
    free(ranges.at);
}

void unigram_encode(const struct unigram *u, const uint8_t *banned,
                    const char *s, size_t len, struct tok_pieces *out) {
    struct path p = {u, banned, s, len, calloc(len + 1, sizeof *p.node)};
    CHECK(p.node, "out of memory for a word");
    for (size_t i = 1; i <= len; i++)
        p.node[i].from = UINT32_MAX;
    for (size_t at = 0; at < len;) {
        uint32_t c;
        size_t n = (size_t)uni_get(s + at, &c);
        if (!offer_all(&p, at, n))
            offer(&p, at, at + n, u->unk_score, UNKNOWN);
        at += n;
    }
    put_path(&p, out);
    free(p.node);
}
