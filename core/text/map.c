/*
 * map: a hash table with linear probing, at most half full. Most pairs that
 * are looked for are not there: a bit for the hash, of at least eight a pair,
 * tells that from the processor's cache, where the table has no room.
 */
#include "core/table.h"
#include "core/text/int.h"
#include "core/text/vocab.h"

#include <stdlib.h>
#include <string.h>

#define BITS_A_SLOT 4
#define ID_BITS 20
#define RANK_BITS 24
_Static_assert(VOCAB_IDS_MAX <= 1u << ID_BITS, "two ids and a rank are a slot");
_Static_assert(RANK_NONE == (1u << RANK_BITS) - 1, "what a free slot gives");

static uint64_t key_of(uint32_t l, uint32_t r) {
    return (uint64_t)l << ID_BITS | r;
}

static uint64_t slot_of(uint64_t key, uint32_t rank) {
    return key << RANK_BITS | (rank + 1);
}

/* RANK_NONE: it is free. */
static uint32_t rank_of(uint64_t slot) {
    return (uint32_t)(slot - 1) & RANK_NONE;
}

static uint64_t pair_mix(uint64_t key) { return key * 0x9e3779b97f4a7c15u; }

static size_t pair_place(const struct pairmap *m, uint64_t key) {
    key = pair_mix(key);
    return (size_t)(key ^ key >> 32) & (m->cap - 1);
}

/* The bit of a pair, among those of m. */
static size_t pair_bit(const struct pairmap *m, uint64_t key) {
    return (size_t)(pair_mix(key) >> m->shift);
}

static bool may_have(const struct pairmap *m, uint64_t key) {
    size_t bit = pair_bit(m, key);
    return m->bits[bit / 64] >> bit % 64 & 1;
}

/* The slot that holds the pair, or the free one where it belongs. */
static size_t pairmap_at(const struct pairmap *m, uint64_t key) {
    size_t at = pair_place(m, key);
    while (m->slot[at] && m->slot[at] >> RANK_BITS != key)
        at = (at + 1) & (m->cap - 1);
    return at;
}

static void pairmap_set(struct pairmap *m, uint64_t key, uint32_t rank) {
    size_t bit = pair_bit(m, key), at = pairmap_at(m, key);
    m->n += m->slot[at] == 0;
    m->slot[at] = slot_of(key, rank);
    m->bits[bit / 64] |= UINT64_C(1) << bit % 64;
}

#define SLOTS_MIN 1024

static size_t bits_bytes(size_t cap) { return cap * BITS_A_SLOT / 8; }

static void tables_free(struct pairmap *m) {
    table_free(m->slot, m->cap * sizeof *m->slot);
    table_free(m->bits, bits_bytes(m->cap));
}

static void pairmap_grow(struct pairmap *m, size_t cap) {
    struct pairmap old = *m;
    m->cap = cap;
    m->n = 0;
    m->shift = 64 - __builtin_ctzll(cap * BITS_A_SLOT);
    m->slot = table_new(cap * sizeof *m->slot);
    m->bits = table_new(bits_bytes(cap));
    for (size_t i = 0; i < old.cap; i++)
        if (old.slot[i])
            pairmap_set(m, old.slot[i] >> RANK_BITS, rank_of(old.slot[i]));
    tables_free(&old);
}

static void made_grow(struct pairmap *m, size_t n) {
    m->made_cap = n;
    m->made = realloc(m->made, n * sizeof *m->made);
    CHECK(m->made, "out of memory for merges");
}

void pairmap_reserve(struct pairmap *m, size_t n) {
    size_t cap = SLOTS_MIN;
    while (cap < 2 * n)
        cap *= 2;
    if (n == 0)
        return;
    pairmap_grow(m, cap);
    made_grow(m, n);
}

void pairmap_put(struct pairmap *m, uint32_t l, uint32_t r, uint32_t rank,
                 uint32_t id) {
    CHECK(rank < RANK_NONE, "a merge of rank %u", rank);
    if (2 * (m->n + 1) > m->cap)
        pairmap_grow(m, m->cap ? 2 * m->cap : SLOTS_MIN);
    if (rank >= m->made_cap)
        made_grow(m, 2 * (size_t)rank + SLOTS_MIN);
    pairmap_set(m, key_of(l, r), rank);
    m->made[rank] = id;
}

void pairmap_fetch(const struct pairmap *m, uint32_t l, uint32_t r) {
    uint64_t key = key_of(l, r);
    if (m->cap == 0)
        return;
    __builtin_prefetch(&m->slot[pair_place(m, key)]);
    __builtin_prefetch(&m->bits[pair_bit(m, key) / 64]);
}

uint32_t pairmap_rank(const struct pairmap *m, uint32_t l, uint32_t r) {
    uint64_t key = key_of(l, r);
    if (m->cap == 0 || !may_have(m, key))
        return RANK_NONE;
    return rank_of(m->slot[pairmap_at(m, key)]);
}

void pairmap_release(struct pairmap *m) {
    tables_free(m);
    free(m->made);
    memset(m, 0, sizeof *m);
}
