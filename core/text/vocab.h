/*
 * vocab - the strings of a vocabulary and their ids, over one arena.
 *
 *     struct vocab v = {0};
 *     vocab_add(&v, "ab", 2, 7);
 *     vocab_find(&v, "ab", 2);          7
 *     vocab_text(&v, 7, &len);          "ab"
 *     vocab_release(&v);
 *
 * Built by one thread, then immutable and shared.
 */
#ifndef FETTLE_CORE_TEXT_VOCAB_H
#define FETTLE_CORE_TEXT_VOCAB_H

#include <stddef.h>
#include <stdint.h>

#define VOCAB_IDS_MAX (1u << 20)
#define VOCAB_NONE UINT32_MAX

struct vocab_entry {
    uint32_t at, len, id; /* text in the arena */
};

struct vocab_slot {
    uint32_t hash, entry; /* entry + 1, 0 = free */
};

struct vocab {
    char *arena;
    size_t len, cap;
    struct vocab_entry *entry; /* (n) in the order in which they came */
    uint32_t n, n_cap;
    struct vocab_slot *slot; /* (n_slot) at most half full */
    uint32_t n_slot;
    uint32_t *by_id; /* (size) entry + 1, 0 = hole */
    uint32_t size, size_cap;
};

/* Room for n strings of so many bytes, before the first. */
void vocab_reserve(struct vocab *v, size_t n, size_t bytes);
/* id < VOCAB_IDS_MAX. A string that is there gets the new id. */
void vocab_add(struct vocab *v, const char *s, size_t len, uint32_t id);
/* The id of a string, VOCAB_NONE when it is not there. */
uint32_t vocab_find(const struct vocab *v, const char *s, size_t len);
/* The same of many at once, which is quicker where most is not in the
 * processor's cache. */
struct vocab_key {
    const char *s;
    size_t len;
    uint32_t id;   /* find: written */
    uint32_t hash; /* written */
};
void vocab_add_all(struct vocab *v, struct vocab_key *key, size_t n);
void vocab_find_all(const struct vocab *v, struct vocab_key *key, size_t n);
/* The string of an id, followed by a 0; NULL when there is none. */
const char *vocab_text(const struct vocab *v, uint32_t id, size_t *len);
static inline uint32_t vocab_size(const struct vocab *v) { return v->size; }
void vocab_release(struct vocab *v);

/* ---- what a model makes of a piece ---- */

struct tok_piece {
    uint32_t id, start, end; /* bytes of the piece that the token covers */
};
struct tok_pieces {
    struct tok_piece *at; /* owned; free() */
    size_t n, cap;
};
void tok_pieces_push(struct tok_pieces *p, struct tok_piece t);

#endif
