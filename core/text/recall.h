/*
 * recall - words and the tokens that they became: text is made of few words,
 * most of them short (spec/renderers §10).
 *
 *     struct recall m = {0};
 *     recall_keys(&m, pieces, n, keys);
 *     for (i = 0; (i += recall_ids(&m, keys + i, n - i, &ids)) < n; i++) {
 *         … encode the word: ids->id[first …]
 *         recall_put(&m, &keys[i], ids->id + first, ids->n - first);
 *     }
 *     recall_release(&m);
 *
 * Exact: a word is compared, not its hash. What is remembered has a limit
 * (10 MB); the rare and the old give way. Of one thread.
 */
#ifndef FETTLE_CORE_TEXT_RECALL_H
#define FETTLE_CORE_TEXT_RECALL_H

#include "core/text.h"
#include "core/text/split.h"

#define RECALL_SHORT 15 /* bytes of a short word, at most */

struct recall {
    struct line *line; /* (lines) of short words, a power of two */
    size_t lines, words;
    struct long_word *long_word; /* (longs), a power of two */
    size_t longs, long_words;
};
void recall_release(struct recall *m);

struct recall_key {
    const char *s;      /* borrowed */
    uint32_t len, hash; /* hash: of a short word */
    uint64_t key[2];    /* of a short word: its bytes and its length */
    bool part;          /* it is not a piece of its own */
    bool known;         /* see recall_look() */
};
/* Keys of n pieces; begins to fetch what is remembered of them. */
void recall_keys(const struct recall *m, const struct piece *piece, size_t n,
                 struct recall_key *key);
struct recall_key recall_part(const char *s, size_t len);
/* Tells of each whether it is a short word that is remembered. */
void recall_look(struct recall *m, struct recall_key *key, size_t n);
/* Appends the tokens of words as far as they are remembered; how many. */
size_t recall_ids(struct recall *m, const struct recall_key *key, size_t n,
                  struct tok_ids *out);
void recall_put(struct recall *m, const struct recall_key *key,
                const uint32_t *id, size_t n);

#endif
