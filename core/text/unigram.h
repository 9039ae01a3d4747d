/*
 * unigram - the cut of a piece whose tokens' scores add up to most.
 *
 *     struct unigram *u = unigram_new(&conf, &err);
 *     unigram_encode(u, banned, "text", 4, &pieces);
 *
 * Immutable, shared by threads. Borrows the vocabulary.
 */
#ifndef FETTLE_CORE_TEXT_UNIGRAM_H
#define FETTLE_CORE_TEXT_UNIGRAM_H

#include "core/err.h"
#include "core/text/vocab.h"

struct unigram_conf {
    const struct vocab *vocab;
    const double *score; /* (vocab_size) */
    int64_t unk;         /* its id, -1 = what has no token is dropped */
    bool byte_fallback;
    /* (vocab_size) as SentencePiece: N normal, D defined by the user, else
     * text never matches; and its sums are in float32. NULL: as Hugging
     * Face's. */
    const char *types;
};
struct unigram;
struct unigram *unigram_new(const struct unigram_conf *c, struct err *err);
void unigram_free(struct unigram *u);
bool unigram_is_unk(const struct unigram *u, uint32_t id);
/* banned: (vocab_size) ids that text may not become, or NULL. */
void unigram_encode(const struct unigram *u, const uint8_t *banned,
                    const char *s, size_t len, struct tok_pieces *out);

#endif
