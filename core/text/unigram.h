/*
 * unigram - the cut of a piece whose tokens' scores add up to most.
 *
 *     struct unigram *u = unigram_new(&vocab, score, unk, false, &err);
 *     unigram_encode(u, banned, "text", 4, &pieces);
 *
 * Immutable, shared by threads. Borrows the vocabulary.
 */
#ifndef FETTLE_CORE_TEXT_UNIGRAM_H
#define FETTLE_CORE_TEXT_UNIGRAM_H

#include "core/err.h"
#include "core/text/vocab.h"

struct unigram;
/* score: (vocab_size). unk: its id, -1 = what has no token is dropped. */
struct unigram *unigram_new(const struct vocab *v, const double *score,
                            int64_t unk, bool byte_fallback, struct err *err);
void unigram_free(struct unigram *u);
bool unigram_is_unk(const struct unigram *u, uint32_t id);
/* banned: (vocab_size) ids that text may not become, or NULL. */
void unigram_encode(const struct unigram *u, const uint8_t *banned,
                    const char *s, size_t len, struct tok_pieces *out);

#endif
