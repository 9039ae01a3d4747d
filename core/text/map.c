/* map: a hash table with linear probing, at most half full. */
#include "core/text/int.h"

#include <stdlib.h>
#include <string.h>

static size_t pair_hash(uint64_t key) {
    key *= 0x9e3779b97f4a7c15u;
    return (size_t)(key ^ key >> 32);
}

static size_t pairmap_at(const struct pairmap *m, uint64_t key) {
    size_t at = pair_hash(key) & (m->cap - 1);
    while (m->slot[at].rank != UINT32_MAX && m->slot[at].key != key)
        at = (at + 1) & (m->cap - 1);
    return at;
}

static void pairmap_grow(struct pairmap *m) {
    struct pairmap big = {.cap = m->cap ? m->cap * 2 : 1024, .n = m->n};
    big.slot = malloc(big.cap * sizeof *big.slot);
    CHECK(big.slot, "out of memory for merges");
    memset(big.slot, 0xff, big.cap * sizeof *big.slot);
    for (size_t i = 0; i < m->cap; i++)
        if (m->slot[i].rank != UINT32_MAX)
            big.slot[pairmap_at(&big, m->slot[i].key)] = m->slot[i];
    free(m->slot);
    *m = big;
}

void pairmap_put(struct pairmap *m, uint32_t l, uint32_t r, uint32_t rank,
                 uint32_t id) {
    if (2 * (m->n + 1) > m->cap)
        pairmap_grow(m);
    uint64_t key = (uint64_t)l << 32 | r;
    size_t at = pairmap_at(m, key);
    m->n += m->slot[at].rank == UINT32_MAX;
    m->slot[at] = (struct pair){key, rank, id};
}

const struct pair *pairmap_get(const struct pairmap *m, uint32_t l,
                               uint32_t r) {
    if (m->cap == 0)
        return NULL;
    const struct pair *p = &m->slot[pairmap_at(m, (uint64_t)l << 32 | r)];
    return p->rank == UINT32_MAX ? NULL : p;
}

void pairmap_release(struct pairmap *m) {
    free(m->slot);
    memset(m, 0, sizeof *m);
}
