/*
 * wordpiece - words cut greedily from the left (WordPiece), or taken whole
 * (WordLevel).
 *
 *     struct wordpiece *w = wordpiece_new(&conf, &err);
 *     wordpiece_encode(w, banned, "text", 4, &pieces);
 *
 * Immutable, shared by threads. Borrows the vocabulary.
 */
#ifndef FETTLE_CORE_TEXT_WORDPIECE_H
#define FETTLE_CORE_TEXT_WORDPIECE_H

#include "core/err.h"
#include "core/text/vocab.h"

struct wordpiece_conf {
    const struct vocab *vocab;
    const char *unk;    /* must be in the vocabulary */
    const char *prefix; /* of what continues a word; NULL: words are whole */
    int64_t chars_max;  /* longer words are unknown */
};

struct wordpiece;
struct wordpiece *wordpiece_new(const struct wordpiece_conf *c,
                                struct err *err);
void wordpiece_free(struct wordpiece *w);
/* banned: (vocab_size) ids that text may not become, or NULL. */
void wordpiece_encode(const struct wordpiece *w, const uint8_t *banned,
                      const char *s, size_t len, struct tok_pieces *out);

#endif
