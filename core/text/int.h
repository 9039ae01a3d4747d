/* int - what the files of core/text share. */
#ifndef FETTLE_CORE_TEXT_INT_H
#define FETTLE_CORE_TEXT_INT_H

#include "core/text.h"

/* ---- table, open addressing ---- */

/* Pairs of ids to (rank, merged id). */
struct pair {
    uint64_t key; /* left << 32 | right */
    uint32_t rank, id;
};
struct pairmap {
    struct pair *slot; /* rank UINT32_MAX = empty */
    size_t n, cap;
    uint64_t *bits; /* not set: no pair of that hash */
    int shift;      /* of the hash, to a bit's place */
};
/* Room for n pairs, before the first. */
void pairmap_reserve(struct pairmap *m, size_t n);
void pairmap_put(struct pairmap *m, uint32_t l, uint32_t r, uint32_t rank,
                 uint32_t id);
const struct pair *pairmap_get(const struct pairmap *m, uint32_t l, uint32_t r);
void pairmap_release(struct pairmap *m);

/* ---- the byte alphabet ---- */

/* The character that stands for byte b in a byte-level vocabulary. */
uint32_t byte_char(int b);
/* The byte that character c < 512 stands for, or -1. */
int byte_of_char(uint32_t c);

/* ---- utf8 ---- */

bool utf8_ok(const char *bytes, size_t len);
/* Valid UTF-8 with U+FFFD for every maximal invalid part; free() it. */
char *utf8_lossy(const char *bytes, size_t len, size_t *out_len);
/* Length of the longest prefix that ends with a whole character; bytes that
 * can never become one count as whole. */
size_t utf8_whole(const char *bytes, size_t len);

#endif
