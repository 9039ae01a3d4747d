/*
 * prefix: pages of former prompts and answers, found again by their tokens.
 * Invariants: 1. an entry is one whole page behind its parent entry (or the
 * root of a version of weights), compared by its tokens, so a hit is exact,
 * not likely; 2. the cache holds one reference on each entry's page; 3. only
 * an entry without children whose page nobody else holds is dropped, the one
 * that was used longest ago first.
 */
#include "core/sample/int.h"

#include "core/rng.h"

#include <stdlib.h>
#include <string.h>

#define PREFIX_ROOT (UINT64_C(1) << 63) /* parents that are versions */

struct entry {
    uint64_t id, parent; /* id 0 = free slot */
    uint64_t version;
    uint32_t tokens[KERN_PAGE];
    int32_t page, children;
    int32_t up;           /* slot of the parent, -1 = a root */
    int32_t next;         /* in its bucket, -1 = last; or in the free list */
    int32_t older, newer; /* by last use; -1 = the end */
};

struct prefix {
    struct kv *kv;
    int32_t slots, n_buckets, free; /* n_buckets: a power of two; -1 = none */
    int32_t oldest, newest;
    struct entry *entry; /* (slots) */
    int32_t *bucket;     /* (n_buckets) */
    uint64_t last_id;
};

struct prefix *prefix_new(struct kv *kv, int32_t slots) {
    struct prefix *p = calloc(1, sizeof *p);
    CHECK(p && slots > 0, "a prefix cache of %d pages", slots);
    p->kv = kv;
    p->slots = slots;
    p->oldest = p->newest = -1;
    for (p->n_buckets = 64; p->n_buckets < slots;)
        p->n_buckets *= 2;
    p->entry = calloc((size_t)slots, sizeof *p->entry);
    p->bucket = malloc((size_t)p->n_buckets * sizeof *p->bucket);
    CHECK(p->entry && p->bucket, "out of memory for a prefix cache");
    for (int32_t i = 0; i < p->n_buckets; i++)
        p->bucket[i] = -1;
    for (int32_t i = 0; i < slots; i++)
        p->entry[i].next = i + 1 < slots ? i + 1 : -1;
    return p;
}

void prefix_free(struct prefix *p) {
    if (!p)
        return;
    free(p->entry);
    free(p->bucket);
    free(p);
}

/* ---- order of use ---- */

static void use_unlink(struct prefix *p, struct entry *e) {
    *(e->older < 0 ? &p->oldest : &p->entry[e->older].newer) = e->newer;
    *(e->newer < 0 ? &p->newest : &p->entry[e->newer].older) = e->older;
}

static void use_append(struct prefix *p, int32_t slot) {
    struct entry *e = &p->entry[slot];
    e->older = p->newest;
    e->newer = -1;
    *(e->older < 0 ? &p->oldest : &p->entry[e->older].newer) = slot;
    p->newest = slot;
}

/* ---- by tokens ---- */

static uint64_t parent_id(const struct prefix *p, uint64_t version,
                          int32_t up) {
    return up < 0 ? PREFIX_ROOT | version : p->entry[up].id;
}

static int32_t *bucket_of(struct prefix *p, uint64_t parent,
                          const uint32_t *tokens) {
    uint64_t h = rng_u64(parent, 0, 0);
    for (int i = 0; i < KERN_PAGE; i++) { /* FNV-1a over words */
        h ^= tokens[i];
        h *= 0x100000001b3u;
    }
    h ^= h >> 32;
    return &p->bucket[h & (uint64_t)(p->n_buckets - 1)];
}

int32_t prefix_find(struct prefix *p, uint64_t version, int32_t up,
                    const uint32_t *tokens) {
    uint64_t parent = parent_id(p, version, up);
    for (int32_t i = *bucket_of(p, parent, tokens); i >= 0;
         i = p->entry[i].next) {
        struct entry *e = &p->entry[i];
        if (e->parent != parent ||
            memcmp(e->tokens, tokens, sizeof e->tokens) != 0)
            continue;
        use_unlink(p, e);
        use_append(p, i);
        return i;
    }
    return -1;
}

int32_t prefix_page(const struct prefix *p, int32_t slot) {
    return p->entry[slot].page;
}

static void entry_drop(struct prefix *p, int32_t slot) {
    struct entry *e = &p->entry[slot];
    int32_t *at = bucket_of(p, e->parent, e->tokens);
    while (*at != slot)
        at = &p->entry[*at].next;
    *at = e->next;
    if (e->up >= 0)
        p->entry[e->up].children--;
    kv_drop(p->kv, e->page);
    use_unlink(p, e);
    e->id = 0;
    e->next = p->free;
    p->free = slot;
}

bool prefix_evict(struct prefix *p) {
    for (int32_t i = p->oldest; i >= 0; i = p->entry[i].newer) {
        const struct entry *e = &p->entry[i];
        if (e->children == 0 && kv_refs(p->kv, e->page) == 1) {
            entry_drop(p, i);
            return true;
        }
    }
    return false;
}

int32_t prefix_add(struct prefix *p, uint64_t version, int32_t up,
                   const uint32_t *tokens, int32_t page) {
    int32_t slot = prefix_find(p, version, up, tokens);
    if (slot >= 0)
        return slot;
    if (p->free < 0)
        return -1;
    slot = p->free;
    struct entry *e = &p->entry[slot];
    p->free = e->next;
    *e = (struct entry){.id = ++p->last_id,
                        .parent = parent_id(p, version, up),
                        .version = version,
                        .page = page,
                        .up = up};
    memcpy(e->tokens, tokens, sizeof e->tokens);
    int32_t *bucket = bucket_of(p, e->parent, tokens);
    e->next = *bucket;
    *bucket = slot;
    use_append(p, slot);
    if (up >= 0)
        p->entry[up].children++;
    kv_share(p->kv, page);
    return slot;
}

void prefix_forget(struct prefix *p, uint64_t version) {
    for (int32_t i = 0; i < p->slots; i++)
        if (p->entry[i].id && p->entry[i].version == version)
            entry_drop(p, i);
}
