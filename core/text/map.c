/* map: two hash tables with linear probing, at most half full. */
#include "core/text/int.h"

#include <stdlib.h>
#include <string.h>

static uint64_t hash_bytes(const char *s, size_t n) {
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)s[i]) * 0x100000001b3u;
    return h ^ h >> 29;
}

static void strmap_grow(struct strmap *m) {
    struct strmap big = {.cap = m->cap ? m->cap * 2 : 1024};
    big.key = calloc(big.cap, sizeof *big.key);
    big.len = calloc(big.cap, sizeof *big.len);
    big.value = calloc(big.cap, sizeof *big.value);
    CHECK(big.key && big.len && big.value, "out of memory for a vocabulary");
    for (size_t i = 0; i < m->cap; i++) {
        if (!m->key[i])
            continue;
        size_t at = hash_bytes(m->key[i], m->len[i]) & (big.cap - 1);
        while (big.key[at])
            at = (at + 1) & (big.cap - 1);
        big.key[at] = m->key[i];
        big.len[at] = m->len[i];
        big.value[at] = m->value[i];
    }
    big.n = m->n;
    free(m->key);
    free(m->len);
    free(m->value);
    *m = big;
}

static size_t strmap_at(const struct strmap *m, const char *key, size_t len) {
    size_t at = hash_bytes(key, len) & (m->cap - 1);
    while (m->key[at] &&
           (m->len[at] != len || memcmp(m->key[at], key, len) != 0))
        at = (at + 1) & (m->cap - 1);
    return at;
}

void strmap_put(struct strmap *m, const char *key, size_t len, uint32_t value) {
    if (2 * (m->n + 1) > m->cap)
        strmap_grow(m);
    size_t at = strmap_at(m, key, len);
    if (!m->key[at]) {
        m->key[at] = malloc(len + 1);
        CHECK(m->key[at], "out of memory for a vocabulary");
        memcpy(m->key[at], key, len);
        m->key[at][len] = 0;
        m->len[at] = (uint32_t)len;
        m->n++;
    }
    m->value[at] = value;
}

bool strmap_get(const struct strmap *m, const char *key, size_t len,
                uint32_t *value) {
    if (m->cap == 0)
        return false;
    size_t at = strmap_at(m, key, len);
    if (!m->key[at])
        return false;
    *value = m->value[at];
    return true;
}

void strmap_release(struct strmap *m) {
    for (size_t i = 0; i < m->cap; i++)
        free(m->key[i]);
    free(m->key);
    free(m->len);
    free(m->value);
    memset(m, 0, sizeof *m);
}

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
