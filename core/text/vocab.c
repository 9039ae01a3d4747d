/* vocab: entries in order of arrival; a table by string, an index by id. */
#include "core/text/vocab.h"

#include "core/err.h"
#include "core/table.h"

#include <stdlib.h>
#include <string.h>

/* Eight bytes at a time; the rest as one number. */
static uint32_t hash_text(const char *s, size_t n) {
    uint64_t h = n * 0x9e3779b97f4a7c15u, w;
    for (; n >= 8; s += 8, n -= 8) {
        memcpy(&w, s, 8);
        h = (h ^ w) * 0x9e3779b97f4a7c15u;
        h ^= h >> 29;
    }
    w = 0;
    for (size_t i = 0; i < n; i++)
        w |= (uint64_t)(unsigned char)s[i] << 8 * i;
    h = (h ^ w) * 0xbf58476d1ce4e5b9u;
    return (uint32_t)(h ^ h >> 32);
}

/* The slot that holds the string, or the free one where it belongs. */
static struct vocab_slot *slot_of(const struct vocab *v, const char *s,
                                  size_t len, uint32_t hash) {
    uint32_t mask = v->n_slot - 1, i = hash & mask;
    for (; v->slot[i].entry; i = (i + 1) & mask) {
        if (v->slot[i].hash != hash)
            continue;
        const struct vocab_entry *e = &v->entry[v->slot[i].entry - 1];
        if (e->len == len && memcmp(v->arena + e->at, s, len) == 0)
            break;
    }
    return &v->slot[i];
}

static void slots_grow(struct vocab *v, uint32_t n) {
    struct vocab_slot *old = v->slot;
    uint32_t was = v->n_slot;
    v->n_slot = n;
    v->slot = table_new(n * sizeof *v->slot);
    for (uint32_t k = 0; k < was; k++) {
        uint32_t i = old[k].hash & (n - 1);
        while (old[k].entry && v->slot[i].entry)
            i = (i + 1) & (n - 1);
        if (old[k].entry)
            v->slot[i] = old[k];
    }
    table_free(old, was * sizeof *old);
}

#define SLOTS_MIN 1024

static void arena_grow(struct vocab *v, size_t cap) {
    v->cap = cap;
    v->arena = realloc(v->arena, cap);
    CHECK(v->arena, "out of memory for a vocabulary");
}

static void entries_grow(struct vocab *v, size_t cap) {
    v->n_cap = (uint32_t)cap;
    v->entry = realloc(v->entry, cap * sizeof *v->entry);
    CHECK(v->entry, "out of memory for a vocabulary");
}

void vocab_reserve(struct vocab *v, size_t n, size_t bytes) {
    uint32_t slots = SLOTS_MIN;
    n = n < VOCAB_IDS_MAX ? n : VOCAB_IDS_MAX;
    while (slots < 2 * n + 2)
        slots *= 2;
    slots_grow(v, slots);
    entries_grow(v, n + 1);
    arena_grow(v, bytes + n + 1);
}

static void ids_grow(struct vocab *v, uint32_t id) {
    uint32_t cap = v->size_cap ? v->size_cap : 512;
    while (cap <= id)
        cap *= 2;
    if (cap > v->size_cap) {
        v->by_id = realloc(v->by_id, cap * sizeof *v->by_id);
        CHECK(v->by_id, "out of memory for a vocabulary");
        memset(v->by_id + v->size_cap, 0,
               (cap - v->size_cap) * sizeof *v->by_id);
        v->size_cap = cap;
    }
    v->size = id + 1;
}

static uint32_t arena_put(struct vocab *v, const char *s, size_t len) {
    size_t at = v->len, need = at + len + 1;
    CHECK(need < UINT32_MAX, "a vocabulary of 4 GiB");
    if (need > v->cap)
        arena_grow(v, need > 2 * v->cap ? need + 4096 : 2 * v->cap);
    memcpy(v->arena + at, s, len);
    v->arena[at + len] = 0;
    v->len = need;
    return (uint32_t)at;
}

static uint32_t entry_put(struct vocab *v, const char *s, size_t len) {
    if (v->n == v->n_cap)
        entries_grow(v, v->n_cap ? 2 * (size_t)v->n_cap : 256);
    v->entry[v->n] =
        (struct vocab_entry){.at = arena_put(v, s, len), .len = (uint32_t)len};
    return v->n++;
}

static void add(struct vocab *v, const char *s, size_t len, uint32_t hash,
                uint32_t id) {
    CHECK(id < VOCAB_IDS_MAX, "token %u", id);
    if (2 * (v->n + 1) > v->n_slot)
        slots_grow(v, v->n_slot ? 4 * v->n_slot : SLOTS_MIN);
    struct vocab_slot *slot = slot_of(v, s, len, hash);
    if (slot->entry) { /* its old id becomes a hole */
        uint32_t old = v->entry[slot->entry - 1].id;
        if (v->by_id[old] == slot->entry)
            v->by_id[old] = 0;
    } else {
        *slot = (struct vocab_slot){hash, entry_put(v, s, len) + 1};
    }
    if (id >= v->size)
        ids_grow(v, id);
    v->entry[slot->entry - 1].id = id;
    v->by_id[id] = slot->entry;
}

void vocab_add(struct vocab *v, const char *s, size_t len, uint32_t id) {
    add(v, s, len, hash_text(s, len), id);
}

uint32_t vocab_find(const struct vocab *v, const char *s, size_t len) {
    if (v->n_slot == 0)
        return VOCAB_NONE;
    uint32_t at = slot_of(v, s, len, hash_text(s, len))->entry;
    return at ? v->entry[at - 1].id : VOCAB_NONE;
}

/* Hashes, and asks for what a look at them will read. */
static void keys_hash(const struct vocab *v, struct vocab_key *key, size_t n) {
    for (size_t i = 0; i < n; i++) {
        key[i].hash = hash_text(key[i].s, key[i].len);
        if (v->n_slot)
            __builtin_prefetch(&v->slot[key[i].hash & (v->n_slot - 1)]);
    }
}

void vocab_add_all(struct vocab *v, struct vocab_key *key, size_t n) {
    keys_hash(v, key, n);
    for (size_t i = 0; i < n; i++)
        add(v, key[i].s, key[i].len, key[i].hash, key[i].id);
}

static uint32_t first_entry(const struct vocab *v, const struct vocab_key *k) {
    return v->slot[k->hash & (v->n_slot - 1)].entry;
}

void vocab_find_all(const struct vocab *v, struct vocab_key *key, size_t n) {
    uint32_t at;
    keys_hash(v, key, n);
    for (size_t i = 0; i < n && v->n > 0; i++)
        if ((at = first_entry(v, &key[i])))
            __builtin_prefetch(&v->entry[at - 1]);
    for (size_t i = 0; i < n && v->n > 0; i++)
        if ((at = first_entry(v, &key[i])))
            __builtin_prefetch(v->arena + v->entry[at - 1].at);
    for (size_t i = 0; i < n; i++) {
        at = v->n ? slot_of(v, key[i].s, key[i].len, key[i].hash)->entry : 0;
        key[i].id = at ? v->entry[at - 1].id : VOCAB_NONE;
    }
}

const char *vocab_text(const struct vocab *v, uint32_t id, size_t *len) {
    if (id >= v->size || !v->by_id[id])
        return NULL;
    const struct vocab_entry *e = &v->entry[v->by_id[id] - 1];
    *len = e->len;
    return v->arena + e->at;
}

void vocab_release(struct vocab *v) {
    free(v->arena);
    free(v->entry);
    table_free(v->slot, v->n_slot * sizeof *v->slot);
    free(v->by_id);
    memset(v, 0, sizeof *v);
}

void tok_pieces_push(struct tok_pieces *p, struct tok_piece t) {
    if (p->n == p->cap) {
        p->cap = p->cap ? 2 * p->cap : 64;
        p->at = realloc(p->at, p->cap * sizeof *p->at);
        CHECK(p->at, "out of memory for %zu tokens", p->cap);
    }
    p->at[p->n++] = t;
}
