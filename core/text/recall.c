/*
 * recall: two tables. Two short words that hash alike lie in one line of the
 * processor's cache; a new one takes the second place and gets the first when
 * it is met again, so that those that are met once do not drive out those that
 * are met often. A long word, or one of many tokens, has a place of its own,
 * which a new one takes from it. Both grow before they are half full, up to
 * their limits.
 */
#include "core/text/recall.h"

#include "core/table.h"

#include <string.h>

#define IDS_MAX 3
struct word {
    uint64_t key[2]; /* the last byte is the length; 0 = free */
    uint32_t id[IDS_MAX], n;
};
struct line {
    struct word way[2];
};
#define LINES_MIN 64
#define LINES_MAX 131072 /* 8 MB */
#define MANY UINT32_MAX  /* tokens: they are with the long words */

#define LONG_BYTES 47
#define LONG_IDS 19
#define LONG_KEYS 6
struct long_word {
    uint64_t key[LONG_KEYS]; /* the last byte is the length; 0 = free */
    uint32_t id[LONG_IDS], n;
};
#define LONGS_MIN 16
#define LONGS_MAX 16384 /* 2 MB */

void recall_release(struct recall *m) {
    table_free(m->line, m->lines * sizeof *m->line);
    table_free(m->long_word, m->longs * sizeof *m->long_word);
    memset(m, 0, sizeof *m);
}

/* ---- keys ---- */

static uint64_t load8(const char *s) {
    uint64_t v;
    memcpy(&v, s, sizeof v);
    return v;
}

static uint64_t load4(const char *s) {
    uint32_t v;
    memcpy(&v, s, sizeof v);
    return v;
}

/* 0 < len <= RECALL_SHORT bytes and the length, by loads that overlap. */
static void short_key(const char *s, size_t len, uint64_t key[2]) {
    key[1] = (uint64_t)len << 56;
    if (len > 8) {
        key[0] = load8(s);
        key[1] |= load8(s + len - 8) >> 8 * (16 - len);
    } else if (len == 8) {
        key[0] = load8(s);
    } else if (len >= 4) {
        key[0] = load4(s) | load4(s + len - 4) << 8 * (len - 4);
    } else {
        size_t mid = len / 2, last = len - 1;
        key[0] = (unsigned char)s[0] |
                 (uint64_t)(unsigned char)s[mid] << 8 * mid |
                 (uint64_t)(unsigned char)s[last] << 8 * last;
    }
}

static uint32_t short_hash(const uint64_t key[2]) {
    uint64_t h = (key[0] ^ key[1] * 0xbf58476d1ce4e5b9u) * 0x9e3779b97f4a7c15u;
    return (uint32_t)(h >> 32);
}

static bool is_long(const struct recall_key *k) {
    return k->len > RECALL_SHORT;
}

static inline void key_set(struct recall_key *k, const char *s, size_t len,
                           bool part) {
    k->s = s;
    k->len = (uint32_t)len;
    k->hash = 0;
    k->part = part;
    if (len > RECALL_SHORT)
        return;
    short_key(s, len, k->key);
    k->key[1] |= (uint64_t)part << 63;
    k->hash = short_hash(k->key);
}

struct recall_key recall_part(const char *s, size_t len) {
    struct recall_key k = {0};
    key_set(&k, s, len, true);
    return k;
}

static struct line *line_at(const struct recall *m, uint32_t hash) {
    return &m->line[hash & (m->lines - 1)];
}

void recall_keys(const struct recall *m, const struct piece *piece, size_t n,
                 struct recall_key *key) {
    for (size_t i = 0; i < n; i++) {
        key_set(&key[i], piece[i].s, piece[i].len, false);
        if (m->lines)
            __builtin_prefetch(line_at(m, key[i].hash));
    }
}

/* ---- short words ---- */

static bool word_is(const struct word *w, const uint64_t key[2]) {
    return w->key[0] == key[0] && w->key[1] == key[1];
}

/* The word, when it is remembered; NULL. */
static const struct word *word_of(struct recall *m,
                                  const struct recall_key *k) {
    if (is_long(k) || m->lines == 0)
        return NULL;
    struct word *w = line_at(m, k->hash)->way;
    if (!word_is(&w[0], k->key)) {
        if (!word_is(&w[1], k->key))
            return NULL;
        struct word again = w[1];
        w[1] = w[0];
        w[0] = again;
    }
    return &w[0];
}

void recall_look(struct recall *m, struct recall_key *key, size_t n) {
    for (size_t i = 0; i < n; i++)
        key[i].known = word_of(m, &key[i]) != NULL;
}

static void word_put(struct recall *m, const struct word *w) {
    struct word *way = line_at(m, short_hash(w->key))->way;
    struct word *to = &way[way[0].key[1] != 0];
    m->words += to->key[1] == 0;
    *to = *w;
}

static void lines_grow(struct recall *m) {
    struct recall old = *m;
    m->lines = old.lines ? 2 * old.lines : LINES_MIN;
    m->line = table_new(m->lines * sizeof *m->line);
    m->words = 0;
    for (size_t i = 0; i < 2 * old.lines; i++) {
        const struct word *w = &old.line[i / 2].way[i % 2];
        if (w->key[1])
            word_put(m, w);
    }
    table_free(old.line, old.lines * sizeof *old.line);
}

/* ---- long words ---- */

static struct long_word *long_at(const struct recall *m,
                                 const uint64_t key[LONG_KEYS]) {
    uint64_t h = 0;
    for (int i = 0; i < LONG_KEYS; i++) {
        h = (h ^ key[i]) * 0x9e3779b97f4a7c15u;
        h ^= h >> 32;
    }
    return &m->long_word[h & (m->longs - 1)];
}

static void long_key(const struct recall_key *k, uint64_t key[LONG_KEYS]) {
    memset(key, 0, LONG_KEYS * sizeof *key);
    memcpy(key, k->s, k->len);
    key[LONG_KEYS - 1] |= (uint64_t)k->len << 56 | (uint64_t)k->part << 63;
}

static bool long_ids(const struct recall *m, const struct recall_key *k,
                     struct tok_ids *out) {
    uint64_t key[LONG_KEYS];
    if (k->len > LONG_BYTES || m->longs == 0)
        return false;
    long_key(k, key);
    const struct long_word *w = long_at(m, key);
    if (memcmp(w->key, key, sizeof key) != 0)
        return false;
    for (uint32_t i = 0; i < w->n; i++)
        tok_ids_push(out, w->id[i]);
    return true;
}

static void longs_grow(struct recall *m) {
    struct recall old = *m;
    m->longs = old.longs ? 2 * old.longs : LONGS_MIN;
    m->long_word = table_new(m->longs * sizeof *m->long_word);
    m->long_words = 0;
    for (size_t i = 0; i < old.longs; i++) {
        const struct long_word *w = &old.long_word[i];
        if (!w->key[LONG_KEYS - 1])
            continue;
        struct long_word *to = long_at(m, w->key);
        m->long_words += !to->key[LONG_KEYS - 1];
        *to = *w;
    }
    table_free(old.long_word, old.longs * sizeof *old.long_word);
}

static void long_put(struct recall *m, const struct recall_key *k,
                     const uint32_t *id, size_t n) {
    uint64_t key[LONG_KEYS];
    if (k->len > LONG_BYTES || n > LONG_IDS)
        return;
    if (2 * m->long_words >= m->longs && m->longs < LONGS_MAX)
        longs_grow(m);
    long_key(k, key);
    struct long_word *w = long_at(m, key);
    m->long_words += !w->key[LONG_KEYS - 1];
    memcpy(w->key, key, sizeof key);
    w->n = (uint32_t)n;
    for (size_t i = 0; i < n; i++) /* id may be NULL when n is 0 */
        w->id[i] = id[i];
}

/* ---- words of any length ---- */

static void ids_put(struct tok_ids *out, const struct word *w) {
    if (out->n + IDS_MAX > out->cap) {
        for (uint32_t i = 0; i < w->n; i++)
            tok_ids_push(out, w->id[i]);
        return;
    }
    memcpy(out->id + out->n, w->id, sizeof w->id);
    out->n += w->n;
}

static inline bool word_ids(struct recall *m, const struct recall_key *k,
                            struct tok_ids *out) {
    const struct word *w = word_of(m, k);
    if (w && w->n != MANY) {
        ids_put(out, w);
        return true;
    }
    return (w || is_long(k)) && long_ids(m, k, out);
}

size_t recall_ids(struct recall *m, const struct recall_key *key, size_t n,
                  struct tok_ids *out) {
    size_t i = 0;
    while (i < n && word_ids(m, &key[i], out))
        i++;
    return i;
}

void recall_put(struct recall *m, const struct recall_key *k,
                const uint32_t *id, size_t n) {
    bool many = n > IDS_MAX;
    if (many || is_long(k))
        long_put(m, k, id, n);
    if (is_long(k))
        return;
    struct word w = {.key = {k->key[0], k->key[1]},
                     .n = many ? MANY : (uint32_t)n};
    for (size_t i = 0; i < n && !many; i++)
        w.id[i] = id[i];
    if (2 * m->words >= m->lines && m->lines < LINES_MAX)
        lines_grow(m);
    word_put(m, &w);
}
