/*
 * bpe - byte pair encoding: a piece's characters (or bytes) are merged, the
 * lowest rank first, ties to the left, in O(n log n).
 *
 *     struct bpe *b = bpe_new(&conf);
 *     bpe_merges(b, merges, n);                     in order, part by part
 *     bpe_seal(b);
 *     struct bpe_run *r = bpe_run_new(b, banned);   one a thread
 *     bpe_ids(r, pieces, n, &ids);
 *
 * Immutable after the last merge; a run belongs to one thread.
 */
#ifndef FETTLE_CORE_TEXT_BPE_H
#define FETTLE_CORE_TEXT_BPE_H

#include "core/text.h"
#include "core/text/split.h"
#include "core/text/vocab.h"

#define BPE_AFFIX_MAX 64 /* bytes of prefix and of suffix */

struct bpe_conf {
    const struct vocab *vocab; /* borrowed */
    bool bytes; /* the vocabulary is in letters of bytes, pieces are not */
    bool ignore_merges, byte_fallback, fuse_unk;
    uint32_t unk;  /* VOCAB_NONE: what has no token is dropped */
    size_t merges; /* about how many are to come */
    char prefix[BPE_AFFIX_MAX], suffix[BPE_AFFIX_MAX];
};

struct bpe;
struct bpe *bpe_new(const struct bpe_conf *c);
void bpe_free(struct bpe *b);
struct bpe_merge {
    uint32_t left, right, rank, id; /* one id for all merges of a rank */
};
/* A pair that is there gets the new rank. */
void bpe_merges(struct bpe *b, const struct bpe_merge *m, size_t n);
/* After the last merge: prepares what makes encoding quick. */
void bpe_seal(struct bpe *b);

struct bpe_run;
/* banned: (vocab_size) ids that text may not become, or NULL; borrowed.
 * What a run remembers outlives it: a later one of the same b goes on with it.
 */
struct bpe_run *bpe_run_new(const struct bpe *b, const uint8_t *banned);
void bpe_run_free(struct bpe_run *r);
/* Appends the tokens of pieces: ids alone, of as many pieces at once as there
 * are, or with what they cover. */
#define BPE_PIECES_MAX 32
void bpe_ids(struct bpe_run *r, const struct piece *piece, size_t n,
             struct tok_ids *out);
void bpe_pieces(struct bpe_run *r, const char *s, size_t len,
                struct tok_pieces *out);

#endif
