/* int - what the files of core/text share. */
#ifndef FETTLE_CORE_TEXT_INT_H
#define FETTLE_CORE_TEXT_INT_H

#include "core/text.h"

/* ---- merges, by the pair that they join ---- */

/* Pairs of ids to the rank of their merge, ranks to the id that it makes:
 * merges of one rank make the same. */
#define RANK_NONE 0xffffffu /* above every rank */
struct pairmap {
    uint64_t *slot; /* (cap) left, right, rank + 1 (20, 20, 24 bits); 0: free */
    size_t n, cap;
    uint32_t *made; /* (made_cap) by rank */
    size_t made_cap;
    uint64_t *bits; /* not set: no pair of that hash */
    int shift;      /* of the hash, to a bit's place */
};
/* Room for n pairs, before the first. */
void pairmap_reserve(struct pairmap *m, size_t n);
/* A pair that is there gets the new rank. */
void pairmap_put(struct pairmap *m, uint32_t l, uint32_t r, uint32_t rank,
                 uint32_t id);
/* Begins to fetch what a look at the pair will read. */
void pairmap_fetch(const struct pairmap *m, uint32_t l, uint32_t r);
/* RANK_NONE: they do not merge. */
uint32_t pairmap_rank(const struct pairmap *m, uint32_t l, uint32_t r);
static inline uint32_t pairmap_id(const struct pairmap *m, uint32_t rank) {
    return m->made[rank];
}
void pairmap_release(struct pairmap *m);

/* ---- the byte alphabet ---- */

/* The character that stands for byte b in a byte-level vocabulary, GPT-2's:
 * printable bytes stand for themselves, others for U+0100+n. */
static inline uint32_t byte_char(int b) {
    if ((b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174)
        return (uint32_t)b;
    int n = b < 33 ? b : b < 161 ? b - 127 + 33 : 67;
    return 256 + (uint32_t)n;
}
/* The byte that character c < 512 stands for, or -1. */
static inline int byte_of_char(uint32_t c) {
    if (c < 256)
        return byte_char((int)c) == c ? (int)c : -1;
    uint32_t n = c - 256;
    return n < 33 ? (int)n : n < 67 ? (int)n + 94 : n == 67 ? 173 : -1;
}

/* ---- utf8 ---- */

bool utf8_ok(const char *bytes, size_t len);
/* Valid UTF-8 with U+FFFD for every maximal invalid part; free() it. */
char *utf8_lossy(const char *bytes, size_t len, size_t *out_len);
/* Length of the longest prefix that ends with a whole character; bytes that
 * can never become one count as whole. */
size_t utf8_whole(const char *bytes, size_t len);

#endif
