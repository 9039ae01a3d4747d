/*
 * bpe: what Hugging Face's tokenizers do, to the order in which unknown
 * characters and their bytes come out.
 *
 * A short word's pairs lie in an array that is searched for the lowest rank;
 * a long one's in a heap over linked symbols. Words of up to fifteen bytes
 * are remembered: text is made of few of them (spec/renderers §10). Words in
 * scripts that put no spaces between them are cut first, where no token can
 * lie across (seam.h).
 */
#include "core/text/bpe.h"
#include "core/text/int.h"
#include "core/text/seam.h"
#include "core/text/unicode.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHORT 40 /* symbols, up to which the array is quicker than the heap */

struct offer { /* of two neighbours, to become id; UINT32_MAX: none */
    uint32_t rank, id;
};

/* Runs that are over and keep what they remember for the next one. */
#define IDLE_MAX 2
#define IDLE_SYMBOLS 65536
struct idle {
    pthread_mutex_t lock;
    struct bpe_run *run[IDLE_MAX]; /* NULL = none */
};

struct bpe {
    struct bpe_conf c;
    struct idle *idle;
    struct pairmap merges;
    struct seams *seams;        /* NULL: words are not cut */
    struct offer (*bytes)[256]; /* (256) of the units of two bytes, or NULL */
    bool all_bytes;             /* each byte has a token, always the same */
    size_t most;                /* symbols of a byte at most */
    uint32_t unit[256];         /* of a byte (bytes) or of an ASCII character */
    uint32_t fallback[256];     /* of <0xHH> */
};

struct symbol {
    uint32_t id, end; /* end: in bytes of the piece */
};

struct cand { /* sym[pos] and its next become id */
    uint32_t rank, pos, id;
};

/* Two words that hash alike lie in one line of the processor's cache. A new
 * one takes the second place and gets the first when it is met again: those
 * that are met once do not drive out those that are met often. */
#define KEY_MAX 15
#define IDS_MAX 3
struct word {
    uint64_t key[2]; /* the last byte is the length; 0 = free */
    uint32_t id[IDS_MAX], n;
};
struct words {
    struct word way[2];
};
#define WORDS_MIN 64
#define WORDS_MAX 32768 /* 2 MB */

struct bpe_run {
    const struct bpe *b;
    const uint8_t *banned;
    bool is_unit_banned;
    struct symbol *sym;
    int32_t *prev, *next; /* -1 = none; prev[i] == DEAD when merged away */
    size_t cap;
    struct cand *heap;
    size_t n_heap, heap_cap;
    struct words *words; /* (n_words), a power of two */
    size_t n_words;
    size_t work; /* bytes of text so far */
};
static void run_free(struct bpe_run *r);
#define DEAD (-2)

/* ---- the model ---- */

static uint32_t unit_of(const struct bpe_conf *c, unsigned byte) {
    char s[4];
    if (!c->bytes && byte >= 0x80)
        return VOCAB_NONE;
    int n = uni_put(c->bytes ? byte_char((int)byte) : byte, s);
    return vocab_find(c->vocab, s, (size_t)n);
}

struct bpe *bpe_new(const struct bpe_conf *c) {
    struct bpe *b = calloc(1, sizeof *b);
    CHECK(b, "out of memory for a tokenizer");
    b->c = *c;
    b->idle = calloc(1, sizeof *b->idle);
    CHECK(b->idle, "out of memory for a tokenizer");
    pthread_mutex_init(&b->idle->lock, NULL);
    pairmap_reserve(&b->merges, c->merges);
    b->most = (c->bytes ? 2 : 1) + strlen(c->prefix) + strlen(c->suffix);
    b->all_bytes = c->bytes && !*c->prefix && !*c->suffix;
    for (unsigned i = 0; i < 256; i++) {
        char code[8];
        int n = snprintf(code, sizeof code, "<0x%02X>", i);
        b->unit[i] = unit_of(c, i);
        b->fallback[i] = vocab_find(c->vocab, code, (size_t)n);
        b->all_bytes = b->all_bytes && b->unit[i] != VOCAB_NONE;
    }
    return b;
}

void bpe_free(struct bpe *b) {
    if (!b)
        return;
    for (int i = 0; i < IDLE_MAX; i++)
        run_free(b->idle->run[i]);
    pthread_mutex_destroy(&b->idle->lock);
    free(b->idle);
    pairmap_release(&b->merges);
    seams_free(b->seams);
    free(b->bytes);
    free(b);
}

void bpe_merge(struct bpe *b, uint32_t left, uint32_t right, uint32_t rank,
               uint32_t id) {
    pairmap_put(&b->merges, left, right, rank, id);
}

static struct offer offer_of(const struct bpe *b, uint32_t left,
                             uint32_t right) {
    const struct pair *p = pairmap_get(&b->merges, left, right);
    return p ? (struct offer){p->rank, p->id} : (struct offer){UINT32_MAX, 0};
}

static bool is_ascii(const char *s, size_t len) {
    unsigned char any = 0;
    for (size_t i = 0; i < len; i++)
        any |= (unsigned char)s[i];
    return any < 0x80;
}

/* The bytes of a token written in their letters, behind which lie others. */
static size_t bytes_of(const char *s, size_t len, char **out, size_t *cap) {
    size_t n = 0;
    uint32_t c;
    if (len > *cap) {
        *cap = 2 * len;
        *out = realloc(*out, *cap);
        CHECK(*out, "out of memory for a token");
    }
    for (size_t i = 0; i < len; n++) {
        i += (size_t)uni_get(s + i, &c);
        (*out)[n] = (char)(c < 512 ? byte_of_char(c) : 0);
    }
    return n;
}

/* No two strings may have one id: then what an id's text is would be open. */
static bool ids_are_strings(const struct vocab *v) {
    uint32_t ids = 0;
    for (uint32_t i = 0; i < v->size; i++)
        ids += v->by_id[i] != 0;
    return ids == v->n;
}

/* Over all tokens in the order in which they lie: those that no merge makes
 * do no harm. */
static struct seams *seams_of(const struct vocab *v) {
    struct seams *m = seams_new();
    char *bytes = NULL;
    size_t cap = 0;
    for (uint32_t i = 0; i < v->n; i++) {
        const char *s = v->arena + v->entry[i].at;
        size_t len = v->entry[i].len;
        if (is_ascii(s, len))
            continue;
        len = bytes_of(s, len, &bytes, &cap);
        seams_add(m, bytes, len);
    }
    free(bytes);
    return m;
}

void bpe_seal(struct bpe *b) {
    if (!b->all_bytes)
        return;
    b->bytes = malloc(256 * sizeof *b->bytes);
    CHECK(b->bytes, "out of memory for a tokenizer");
    for (int i = 0; i < 256; i++)
        for (int j = 0; j < 256; j++)
            b->bytes[i][j] = offer_of(b, b->unit[i], b->unit[j]);
    if (ids_are_strings(b->c.vocab))
        b->seams = seams_of(b->c.vocab);
}

/* ---- a run ---- */

static bool is_banned(const struct bpe_run *r, uint32_t id) {
    return r->banned && id != VOCAB_NONE && r->banned[id];
}

static void run_free(struct bpe_run *r) {
    if (!r)
        return;
    free(r->sym);
    free(r->prev);
    free(r->next);
    free(r->heap);
    free(r->words);
    free(r);
}

/* One that is idle, for the same banned tokens; NULL. */
static struct bpe_run *run_take(struct idle *d, const uint8_t *banned) {
    struct bpe_run *r = NULL;
    pthread_mutex_lock(&d->lock);
    for (int i = 0; i < IDLE_MAX && !r; i++)
        if (d->run[i] && d->run[i]->banned == banned) {
            r = d->run[i];
            d->run[i] = NULL;
        }
    pthread_mutex_unlock(&d->lock);
    return r;
}

static struct bpe_run *run_new(const struct bpe *b, const uint8_t *banned) {
    struct bpe_run *r = calloc(1, sizeof *r);
    CHECK(r, "out of memory for a tokenizer");
    r->b = b;
    r->banned = banned;
    for (int i = 0; i < 256; i++)
        r->is_unit_banned = r->is_unit_banned || is_banned(r, b->unit[i]);
    return r;
}

struct bpe_run *bpe_run_new(const struct bpe *b, const uint8_t *banned,
                            size_t work) {
    struct bpe_run *r = run_take(b->idle, banned);
    size_t n = WORDS_MIN;
    if (!r)
        r = run_new(b, banned);
    r->work += work < SIZE_MAX - r->work ? work : 0;
    while (n < WORDS_MAX && n < r->work / 64)
        n *= 2;
    if (n == r->n_words)
        return r;
    free(r->words);
    r->n_words = n;
    r->words = calloc(n, sizeof *r->words);
    CHECK(r->words, "out of memory for words");
    return r;
}

/* What one long piece needed does not stay. */
static void run_trim(struct bpe_run *r) {
    if (r->cap <= IDLE_SYMBOLS)
        return;
    free(r->sym);
    free(r->prev);
    free(r->next);
    free(r->heap);
    r->sym = NULL;
    r->prev = r->next = NULL;
    r->heap = NULL;
    r->cap = r->heap_cap = 0;
}

void bpe_run_free(struct bpe_run *r) {
    if (!r)
        return;
    run_trim(r);
    struct idle *d = r->b->idle;
    pthread_mutex_lock(&d->lock);
    for (int i = 0; i < IDLE_MAX && r; i++)
        if (!d->run[i]) {
            d->run[i] = r;
            r = NULL;
        }
    pthread_mutex_unlock(&d->lock);
    run_free(r);
}

static void run_reserve(struct bpe_run *r, size_t n) {
    if (n <= r->cap)
        return;
    r->cap = 2 * n + 64;
    r->sym = realloc(r->sym, r->cap * sizeof *r->sym);
    r->prev = realloc(r->prev, r->cap * sizeof *r->prev);
    r->next = realloc(r->next, r->cap * sizeof *r->next);
    CHECK(r->sym && r->prev && r->next, "out of memory for a word");
}

/* ---- symbols ---- */

/* The unit of text at s: its letters, bare and with the affixes that its
 * place asks for. */
struct unit {
    char text[2 * BPE_AFFIX_MAX + 4];
    size_t len, taken; /* bytes of text, of the piece */
};

static struct unit unit_at(const struct bpe *b, const char *s, size_t at,
                           size_t len) {
    struct unit u;
    char c[4];
    uint32_t ch = (unsigned char)s[at];
    u.taken = b->c.bytes ? 1 : (size_t)uni_get(s + at, &ch);
    if (b->c.bytes)
        ch = byte_char((int)ch);
    int n = uni_put(ch, c);
    const char *prefix = at > 0 ? b->c.prefix : "";
    const char *suffix = at + u.taken == len ? b->c.suffix : "";
    u.len = (size_t)snprintf(u.text, sizeof u.text, "%s", prefix);
    memcpy(u.text + u.len, c, (size_t)n);
    u.len += (size_t)n;
    u.len +=
        (size_t)snprintf(u.text + u.len, sizeof u.text - u.len, "%s", suffix);
    return u;
}

/* The unit's bytes as <0xHH>, all or none. Its last token ends it. */
static size_t fallback_put(const struct bpe *b, const struct unit *u,
                           struct symbol *out, size_t at) {
    for (size_t i = 0; i < u->len; i++)
        if (b->fallback[(unsigned char)u->text[i]] == VOCAB_NONE)
            return 0;
    for (size_t i = 0; i < u->len; i++) {
        size_t part = i + 1 < u->taken ? i + 1 : u->taken;
        out[i] = (struct symbol){b->fallback[(unsigned char)u->text[i]],
                                 (uint32_t)(at + part)};
    }
    return u->len;
}

/* Unknown units wait: they are put before the next known one, behind bytes
 * that fell back in between, as Hugging Face's do. */
static size_t symbols_slow(struct bpe_run *r, const char *s, size_t len) {
    const struct bpe *b = r->b;
    struct symbol *y = r->sym;
    struct symbol unk = {VOCAB_NONE, 0};
    size_t n = 0, k;
    for (size_t at = 0; at < len;) {
        struct unit u = unit_at(b, s, at, len);
        uint32_t end = (uint32_t)(at + u.taken);
        uint32_t id = vocab_find(b->c.vocab, u.text, u.len);
        if (id != VOCAB_NONE && !is_banned(r, id)) {
            if (unk.id != VOCAB_NONE)
                y[n++] = unk;
            unk.id = VOCAB_NONE;
            y[n++] = (struct symbol){id, end};
        } else if (b->c.byte_fallback &&
                   (k = fallback_put(b, &u, y + n, at)) > 0) {
            n += k;
        } else if (b->c.unk != VOCAB_NONE) {
            if (unk.id != VOCAB_NONE && !b->c.fuse_unk)
                y[n++] = unk;
            unk = (struct symbol){b->c.unk, end};
        }
        at = end;
    }
    if (unk.id != VOCAB_NONE)
        y[n++] = unk;
    return n;
}

static size_t symbols(struct bpe_run *r, const char *s, size_t len) {
    const struct bpe *b = r->b;
    if (!b->all_bytes || r->is_unit_banned) {
        run_reserve(r, len * b->most + 1);
        return symbols_slow(r, s, len);
    }
    run_reserve(r, len);
    for (size_t i = 0; i < len; i++)
        r->sym[i] =
            (struct symbol){b->unit[(unsigned char)s[i]], (uint32_t)i + 1};
    return len;
}

/* ---- merging ---- */

static struct offer allowed(const struct bpe_run *r, struct offer o) {
    if (o.rank != UINT32_MAX && is_banned(r, o.id))
        o.rank = UINT32_MAX;
    return o;
}

/* Of symbols i and i + 1. */
static struct offer offer_at(const struct bpe_run *r, size_t i) {
    return allowed(r, offer_of(r->b, r->sym[i].id, r->sym[i + 1].id));
}

/* The same, of symbols that are the bytes of s where that is known. */
static struct offer first_offer(const struct bpe_run *r, const char *s,
                                size_t i) {
    if (!s)
        return offer_at(r, i);
    return allowed(r,
                   r->b->bytes[(unsigned char)s[i]][(unsigned char)s[i + 1]]);
}

static size_t lowest(const struct offer *o, size_t n) {
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        best = o[i].rank < o[best].rank ? i : best;
    return best;
}

/* s: the bytes that the symbols are, or NULL. */
static size_t merge_short(struct bpe_run *r, const char *s, size_t n) {
    struct offer o[SHORT];
    struct symbol *y = r->sym;
    for (size_t i = 0; i + 1 < n; i++)
        o[i] = first_offer(r, s, i);
    while (n > 1) {
        size_t i = lowest(o, n - 1);
        if (o[i].rank == UINT32_MAX)
            break;
        y[i] = (struct symbol){o[i].id, y[i + 1].end};
        n--;
        memmove(y + i + 1, y + i + 2, (n - i - 1) * sizeof *y);
        memmove(o + i, o + i + 1, (n - i) * sizeof *o);
        if (i > 0)
            o[i - 1] = offer_at(r, i - 1);
        if (i + 1 < n)
            o[i] = offer_at(r, i);
    }
    return n;
}

static bool cand_before(const struct cand *a, const struct cand *b) {
    return a->rank != b->rank ? a->rank < b->rank : a->pos < b->pos;
}

static void heap_push(struct bpe_run *r, struct cand c) {
    if (r->n_heap == r->heap_cap) {
        r->heap_cap = r->heap_cap ? 2 * r->heap_cap : 64;
        r->heap = realloc(r->heap, r->heap_cap * sizeof *r->heap);
        CHECK(r->heap, "out of memory for merges");
    }
    struct cand *h = r->heap;
    size_t i = r->n_heap++;
    for (; i > 0 && cand_before(&c, &h[(i - 1) / 2]); i = (i - 1) / 2)
        h[i] = h[(i - 1) / 2];
    h[i] = c;
}

static struct cand heap_pop(struct bpe_run *r) {
    struct cand *h = r->heap, top = h[0], last = h[--r->n_heap];
    size_t i = 0;
    for (size_t kid; (kid = 2 * i + 1) < r->n_heap; i = kid) {
        if (kid + 1 < r->n_heap && cand_before(&h[kid + 1], &h[kid]))
            kid++;
        if (!cand_before(&h[kid], &last))
            break;
        h[i] = h[kid];
    }
    h[i] = last;
    return top;
}

static void heap_offer(struct bpe_run *r, int32_t left) {
    if (left < 0 || r->next[left] < 0)
        return;
    struct offer o =
        allowed(r, offer_of(r->b, r->sym[left].id, r->sym[r->next[left]].id));
    if (o.rank != UINT32_MAX)
        heap_push(r, (struct cand){o.rank, (uint32_t)left, o.id});
}

static void merge_one(struct bpe_run *r, struct cand c) {
    int32_t left = (int32_t)c.pos, right = r->next[left];
    if (r->prev[left] == DEAD || right < 0)
        return;
    struct offer o =
        allowed(r, offer_of(r->b, r->sym[left].id, r->sym[right].id));
    if (o.rank == UINT32_MAX || o.id != c.id) /* offered as another pair */
        return;
    r->sym[left] = (struct symbol){c.id, r->sym[right].end};
    r->next[left] = r->next[right];
    r->prev[right] = DEAD;
    if (r->next[left] >= 0)
        r->prev[r->next[left]] = left;
    heap_offer(r, r->prev[left]);
    heap_offer(r, left);
}

static size_t merge_long(struct bpe_run *r, size_t n) {
    for (size_t i = 0; i < n; i++) {
        r->prev[i] = (int32_t)i - 1;
        r->next[i] = i + 1 < n ? (int32_t)i + 1 : -1;
    }
    r->n_heap = 0;
    for (size_t i = 0; i + 1 < n; i++)
        heap_offer(r, (int32_t)i);
    while (r->n_heap > 0)
        merge_one(r, heap_pop(r));
    size_t kept = 0;
    for (int32_t i = 0; i >= 0; i = r->next[i])
        r->sym[kept++] = r->sym[i];
    return kept;
}

/* The whole piece, when it is a word of the vocabulary. */
static uint32_t whole_of(const struct bpe_run *r, const char *s, size_t len) {
    char key[512];
    size_t n = 0;
    const struct vocab *v = r->b->c.vocab;
    if (!r->b->c.bytes)
        return vocab_find(v, s, len);
    if (2 * len > sizeof key)
        return VOCAB_NONE;
    for (size_t i = 0; i < len; i++)
        n += (size_t)uni_put(byte_char((unsigned char)s[i]), key + n);
    return vocab_find(v, key, n);
}

static bool is_bytes(const struct bpe_run *r) {
    return r->b->bytes && !r->is_unit_banned;
}

/* Leaves the symbols of a piece, or of a part between seams, in r->sym; how
 * many. */
static size_t merge(struct bpe_run *r, const char *s, size_t len) {
    size_t n = symbols(r, s, len);
    if (n > SHORT)
        return merge_long(r, n);
    return n < 2 ? n : merge_short(r, is_bytes(r) ? s : NULL, n);
}

/* The token that a piece is as a whole, before any merge; VOCAB_NONE. */
static uint32_t unmerged(const struct bpe_run *r, const char *s, size_t len) {
    uint32_t id = r->b->c.ignore_merges ? whole_of(r, s, len) : VOCAB_NONE;
    return is_banned(r, id) ? VOCAB_NONE : id;
}

/* Leaves the piece's symbols in r->sym; how many. */
static size_t encode(struct bpe_run *r, const char *s, size_t len) {
    uint32_t id = unmerged(r, s, len);
    if (id == VOCAB_NONE)
        return merge(r, s, len);
    run_reserve(r, 1);
    r->sym[0] = (struct symbol){id, (uint32_t)len};
    return 1;
}

void bpe_pieces(struct bpe_run *r, const char *s, size_t len,
                struct tok_pieces *out) {
    size_t n = encode(r, s, len);
    for (size_t i = 0; i < n; i++)
        tok_pieces_push(out, (struct tok_piece){r->sym[i].id,
                                                i ? r->sym[i - 1].end : 0,
                                                r->sym[i].end});
}

/* ---- words seen before ---- */

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

/* 0 < len <= KEY_MAX bytes and the length, by loads that overlap. */
static void key_of(const char *s, size_t len, uint64_t key[2]) {
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

static struct words *words_of(struct bpe_run *r, const uint64_t key[2]) {
    uint64_t h = (key[0] ^ key[1] * 0xbf58476d1ce4e5b9u) * 0x9e3779b97f4a7c15u;
    return &r->words[(h >> 32) & (r->n_words - 1)];
}

static bool word_is(const struct word *w, const uint64_t key[2]) {
    return w->key[0] == key[0] && w->key[1] == key[1];
}

static void ids_put(struct tok_ids *out, const struct word *w) {
    if (out->n + IDS_MAX > out->cap) {
        for (uint32_t i = 0; i < w->n; i++)
            tok_ids_push(out, w->id[i]);
        return;
    }
    memcpy(out->id + out->n, w->id, sizeof w->id);
    out->n += w->n;
}

/* The tokens of a word that is remembered; false if it is not. Where it would
 * be: *ws, NULL if it is too long. part: not a piece of its own. */
static bool recall(struct bpe_run *r, const char *s, size_t len, bool part,
                   uint64_t key[2], struct words **ws, struct tok_ids *out) {
    *ws = NULL;
    if (len > KEY_MAX)
        return false;
    key_of(s, len, key);
    key[1] |= (uint64_t)part << 63;
    *ws = words_of(r, key);
    struct word *w = (*ws)->way;
    if (!word_is(&w[0], key)) {
        if (!word_is(&w[1], key))
            return false;
        struct word again = w[1];
        w[1] = w[0];
        w[0] = again;
    }
    ids_put(out, &w[0]);
    return true;
}

static void remember(struct words *ws, const uint64_t key[2],
                     const uint32_t *id, size_t n) {
    if (!ws || n > IDS_MAX)
        return;
    ws->way[1] = (struct word){.key = {key[0], key[1]}, .n = (uint32_t)n};
    for (size_t i = 0; i < n; i++) /* id may be NULL when n is 0 */
        ws->way[1].id[i] = id[i];
}

/* The tokens of a piece (or of a part of one) that merges make. */
static void merged_ids(struct bpe_run *r, const char *s, size_t len,
                       struct tok_ids *out) {
    size_t n = merge(r, s, len);
    for (size_t i = 0; i < n; i++)
        tok_ids_push(out, r->sym[i].id);
}

static void piece_ids(struct bpe_run *r, const char *s, size_t len,
                      struct tok_ids *out);

/* The tokens of a piece, or of a part of one, remembered or made. */
static void word_ids(struct bpe_run *r, const char *s, size_t len, bool part,
                     struct tok_ids *out) {
    uint64_t key[2] = {0};
    struct words *ws;
    size_t first = out->n;
    if (recall(r, s, len, part, key, &ws, out))
        return;
    if (part)
        merged_ids(r, s, len, out);
    else
        piece_ids(r, s, len, out);
    remember(ws, key, out->id + first, out->n - first);
}

/* A piece that is not remembered. */
static void piece_ids(struct bpe_run *r, const char *s, size_t len,
                      struct tok_ids *out) {
    uint32_t id = unmerged(r, s, len);
    if (id != VOCAB_NONE) {
        tok_ids_push(out, id);
        return;
    }
    if (!r->b->seams || r->is_unit_banned || is_ascii(s, len)) {
        merged_ids(r, s, len, out);
        return;
    }
    for (size_t at = 0, end; at < len; at = end) {
        end = seams_next(r->b->seams, s, at, len);
        word_ids(r, s + at, end - at, true, out);
    }
}

void bpe_ids(struct bpe_run *r, const char *s, size_t len,
             struct tok_ids *out) {
    word_ids(r, s, len, false, out);
}
