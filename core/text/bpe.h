/*
 * bpe - byte pair encoding: a piece's characters (or bytes) are merged, the
 * lowest rank first, ties to the left, in O(n log n).
 *
 *     struct bpe *b = bpe_new(&conf);
 *     bpe_merge(b, left, right, rank, id);          for each merge
 *     bpe_seal(b);
 *     struct bpe_run *r = bpe_run_new(b, banned);   one a thread
 *     bpe_ids(r, "hello", 5, &ids);
 *
 * Immutable after the last merge; a run belongs to one thread.
 */
#ifndef FETTLE_CORE_TEXT_BPE_H
#define FETTLE_CORE_TEXT_BPE_H

#include "core/text.h"
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
/* A pair that is there gets the new rank. */
void bpe_merge(struct bpe *b, uint32_t left, uint32_t right, uint32_t rank,
               uint32_t id);
/* After the last merge: prepares what makes encoding quick. */
void bpe_seal(struct bpe *b);

struct bpe_run;
/* banned: (vocab_size) ids that text may not become, or NULL; borrowed.
 * work: bytes of text that are to come, which decides how much is remembered.
 * What a run remembers outlives it: a later one of the same b goes on with it.
 */
struct bpe_run *bpe_run_new(const struct bpe *b, const uint8_t *banned,
                            size_t work);
void bpe_run_free(struct bpe_run *r);
/* Appends the tokens of a piece: ids alone, or with what they cover. */
void bpe_ids(struct bpe_run *r, const char *s, size_t len, struct tok_ids *out);
void bpe_pieces(struct bpe_run *r, const char *s, size_t len,
                struct tok_pieces *out);

#endif
