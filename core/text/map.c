/*
 * map: a hash table with linear probing, at most half full. Most pairs that
 * are looked for are not there: a bit for the hash, of at least eight a pair,
 * tells that from the processor's cache, where the table has no room.
 */
#include "core/text/int.h"

#include <stdlib.h>
#include <string.h>

#define BITS_A_SLOT 4

static uint64_t pair_mix(uint64_t key) { return key * 0x9e3779b97f4a7c15u; }

static size_t pair_hash(uint64_t key) {
    key = pair_mix(key);
    return (size_t)(key ^ key >> 32);
}

/* The bit of a pair, among those of m. */
static size_t pair_bit(const struct pairmap *m, uint64_t key) {
    return (size_t)(pair_mix(key) >> m->shift);
}

static bool may_have(const struct pairmap *m, uint64_t key) {
    size_t bit = pair_bit(m, key);
    return m->bits[bit / 64] >> bit % 64 & 1;
}

static void pairmap_set(struct pairmap *m, size_t at, struct pair p) {
    size_t bit = pair_bit(m, p.key);
    m->slot[at] = p;
    m->bits[bit / 64] |= UINT64_C(1) << bit % 64;
}

static size_t pairmap_at(const struct pairmap *m, uint64_t key) {
    size_t at = pair_hash(key) & (m->cap - 1);
    while (m->slot[at].rank != UINT32_MAX && m->slot[at].key != key)
        at = (at + 1) & (m->cap - 1);
    return at;
}

#define SLOTS_MIN 1024

static void pairmap_grow(struct pairmap *m, size_t cap) {
    struct pairmap big = {.cap = cap, .n = m->n};
    big.shift = 64 - __builtin_ctzll(big.cap * BITS_A_SLOT);
    big.slot = malloc(big.cap * sizeof *big.slot);
    big.bits = calloc(big.cap * BITS_A_SLOT / 64, sizeof *big.bits);
    CHECK(big.slot && big.bits, "out of memory for merges");
    memset(big.slot, 0xff, big.cap * sizeof *big.slot);
    for (size_t i = 0; i < m->cap; i++)
        if (m->slot[i].rank != UINT32_MAX)
            pairmap_set(&big, pairmap_at(&big, m->slot[i].key), m->slot[i]);
    pairmap_release(m);
    *m = big;
}

void pairmap_reserve(struct pairmap *m, size_t n) {
    size_t cap = SLOTS_MIN;
    while (cap < 2 * n)
        cap *= 2;
    if (n > 0)
        pairmap_grow(m, cap);
}

void pairmap_put(struct pairmap *m, uint32_t l, uint32_t r, uint32_t rank,
                 uint32_t id) {
    if (2 * (m->n + 1) > m->cap)
        pairmap_grow(m, m->cap ? 2 * m->cap : SLOTS_MIN);
    uint64_t key = (uint64_t)l << 32 | r;
    size_t at = pairmap_at(m, key);
    m->n += m->slot[at].rank == UINT32_MAX;
    pairmap_set(m, at, (struct pair){key, rank, id});
}

const struct pair *pairmap_get(const struct pairmap *m, uint32_t l,
                               uint32_t r) {
    uint64_t key = (uint64_t)l << 32 | r;
    if (m->cap == 0 || !may_have(m, key))
        return NULL;
    const struct pair *p = &m->slot[pairmap_at(m, key)];
    return p->rank == UINT32_MAX ? NULL : p;
}

void pairmap_release(struct pairmap *m) {
    free(m->slot);
    free(m->bits);
    memset(m, 0, sizeof *m);
}
