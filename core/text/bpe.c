/*
 * bpe: what Hugging Face's tokenizers do, to the order in which unknown
 * characters and their bytes come out.
 *
 * A short word's pairs lie in an array that is searched for the lowest rank;
 * a long one's in a heap over linked symbols. Words are remembered (recall.h).
 * Those in scripts that put no spaces between them are cut first, where no
 * token can lie across (seam.h).
 */
#include "core/text/bpe.h"

#include "core/text/int.h"
#include "core/text/recall.h"
#include "core/text/seam.h"
#include "core/text/unicode.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHORT 40 /* symbols, up to which the array is quicker than the heap */

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
    struct seams *seams;    /* NULL: words are not cut */
    uint32_t (*bytes)[256]; /* (256) ranks of two bytes' units, or NULL */
    bool all_bytes;         /* each byte has a token, always the same */
    size_t most;            /* symbols of a byte at most */
    uint32_t unit[256];     /* of a byte (bytes) or of an ASCII character */
    uint32_t fallback[256]; /* of <0xHH> */
};

struct symbol {
    uint32_t id, end; /* end: in bytes of the piece */
};

struct cand { /* sym[pos] and its next merge */
    uint32_t rank, pos;
};

struct bpe_run {
    const struct bpe *b;
    const uint8_t *banned;
    bool is_unit_banned;
    struct symbol *sym;
    int32_t *prev, *next; /* -1 = none; prev[i] == DEAD when merged away */
    size_t cap;
    struct cand *heap;
    size_t n_heap, heap_cap;
    struct recall words;
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

void bpe_merges(struct bpe *b, const struct bpe_merge *m, size_t n) {
    for (size_t i = 0; i < n; i++)
        pairmap_fetch(&b->merges, m[i].left, m[i].right);
    for (size_t i = 0; i < n; i++)
        pairmap_put(&b->merges, m[i].left, m[i].right, m[i].rank, m[i].id);
}

static bool is_ascii(const char *s, size_t len) {
    unsigned char any = 0;
    for (size_t i = 0; i < len; i++)
        any |= (unsigned char)s[i];
    return any < 0x80;
}

/* The bytes of a token written in their letters, behind which lie others. */
static size_t bytes_of(const char *s, size_t len, char *out) {
    size_t n = 0;
    uint32_t c;
    for (size_t i = 0; i < len; n++) {
        i += (size_t)uni_get(s + i, &c);
        out[n] = (char)(c < 512 ? byte_of_char(c) : 0);
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
        if (len > cap) {
            cap = 2 * len;
            bytes = realloc(bytes, cap);
            CHECK(bytes, "out of memory for a token");
        }
        len = bytes_of(s, len, bytes);
        if (!is_ascii(bytes, len))
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
            b->bytes[i][j] = pairmap_rank(&b->merges, b->unit[i], b->unit[j]);
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
    recall_release(&r->words);
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

struct bpe_run *bpe_run_new(const struct bpe *b, const uint8_t *banned) {
    struct bpe_run *r = run_take(b->idle, banned);
    return r ? r : run_new(b, banned);
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

/* Of symbols i and k, side by side. What a merge would make is read when it
 * is made. */
static uint32_t rank_at(const struct bpe_run *r, size_t i, size_t k) {
    const struct pairmap *m = &r->b->merges;
    uint32_t rank = pairmap_rank(m, r->sym[i].id, r->sym[k].id);
    if (rank != RANK_NONE)
        __builtin_prefetch(&m->made[rank]);
    return rank;
}

/* The same of the first ones: the bytes of s, where that is known. */
static uint32_t first_rank(const struct bpe_run *r, const char *s, size_t i) {
    if (!s)
        return rank_at(r, i, i + 1);
    return r->b->bytes[(unsigned char)s[i]][(unsigned char)s[i + 1]];
}

static size_t lowest(const uint32_t *rank, size_t n) {
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        best = rank[i] < rank[best] ? i : best;
    return best;
}

/* s: the bytes that the symbols are, or NULL. */
static size_t merge_short(struct bpe_run *r, const char *s, size_t n) {
    uint32_t rank[SHORT];
    struct symbol *y = r->sym;
    for (size_t i = 0; i + 1 < n; i++)
        rank[i] = first_rank(r, s, i);
    while (n > 1) {
        size_t i = lowest(rank, n - 1);
        if (rank[i] == RANK_NONE)
            break;
        uint32_t id = pairmap_id(&r->b->merges, rank[i]);
        if (is_banned(r, id)) {
            rank[i] = RANK_NONE;
            continue;
        }
        y[i] = (struct symbol){id, y[i + 1].end};
        n--;
        memmove(y + i + 1, y + i + 2, (n - i - 1) * sizeof *y);
        memmove(rank + i, rank + i + 1, (n - i) * sizeof *rank);
        if (i > 0)
            rank[i - 1] = rank_at(r, i - 1, i);
        if (i + 1 < n)
            rank[i] = rank_at(r, i, i + 1);
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
    uint32_t rank = rank_at(r, (size_t)left, (size_t)r->next[left]);
    if (rank != RANK_NONE)
        heap_push(r, (struct cand){rank, (uint32_t)left});
}

static void merge_one(struct bpe_run *r, struct cand c) {
    int32_t left = (int32_t)c.pos, right = r->next[left];
    if (r->prev[left] == DEAD || right < 0)
        return;
    if (rank_at(r, c.pos, (size_t)right) !=
        c.rank) /* offered as another pair */
        return;
    uint32_t id = pairmap_id(&r->b->merges, c.rank);
    if (is_banned(r, id))
        return;
    r->sym[left] = (struct symbol){id, r->sym[right].end};
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

/* Bytes of a piece in the vocabulary's letters. */
#define LETTERS_MAX 512
static size_t letters_of(const char *s, size_t len, char *out) {
    size_t n = 0;
    for (size_t i = 0; i < len; i++)
        n += (size_t)uni_put(byte_char((unsigned char)s[i]), out + n);
    return n;
}

/* The whole piece, when it is a word of the vocabulary. */
static uint32_t whole_of(const struct bpe_run *r, const char *s, size_t len) {
    char letters[LETTERS_MAX];
    const struct vocab *v = r->b->c.vocab;
    if (!r->b->c.bytes)
        return vocab_find(v, s, len);
    if (2 * len > sizeof letters)
        return VOCAB_NONE;
    return vocab_find(v, letters, letters_of(s, len, letters));
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

/* ---- words, remembered or made ---- */

/* The tokens of a piece (or of a part of one) that merges make. */
static void merged_ids(struct bpe_run *r, const char *s, size_t len,
                       struct tok_ids *out) {
    size_t n = merge(r, s, len);
    for (size_t i = 0; i < n; i++)
        tok_ids_push(out, r->sym[i].id);
}

/* The tokens of a part between seams. */
static void part_ids(struct bpe_run *r, const char *s, size_t len,
                     struct tok_ids *out) {
    struct recall_key k = recall_part(s, len);
    size_t first = out->n;
    if (recall_ids(&r->words, &k, 1, out))
        return;
    merged_ids(r, s, len, out);
    recall_put(&r->words, &k, out->id + first, out->n - first);
}

/* A piece that is not remembered, nor a word of the vocabulary. */
static void piece_ids(struct bpe_run *r, const char *s, size_t len,
                      struct tok_ids *out) {
    if (!r->b->seams || r->is_unit_banned || is_ascii(s, len)) {
        merged_ids(r, s, len, out);
        return;
    }
    for (size_t at = 0, end; at < len; at = end) {
        end = seams_next(r->b->seams, s, at, len);
        part_ids(r, s + at, end - at, out);
    }
}

/* whole[]: as unmerged() has it, of short words that are not remembered, and
 * NOT_SOUGHT of others. What is read of memory for all of them is asked for
 * together. */
#define NOT_SOUGHT (VOCAB_NONE - 1)
static void find_whole(struct bpe_run *r, struct recall_key *key, size_t n,
                       uint32_t *whole) {
    char letters[BPE_PIECES_MAX][2 * RECALL_SHORT];
    struct vocab_key look[BPE_PIECES_MAX];
    size_t of[BPE_PIECES_MAX], k = 0;
    recall_look(&r->words, key, n);
    for (size_t i = 0; i < n; i++) {
        whole[i] = NOT_SOUGHT;
        if (key[i].known || key[i].len > RECALL_SHORT)
            continue;
        look[k] = (struct vocab_key){key[i].s, key[i].len, 0, 0};
        if (r->b->c.bytes) {
            look[k].s = letters[k];
            look[k].len = letters_of(key[i].s, key[i].len, letters[k]);
        }
        of[k++] = i;
    }
    vocab_find_all(r->b->c.vocab, look, k);
    for (size_t i = 0; i < k; i++)
        whole[of[i]] = is_banned(r, look[i].id) ? VOCAB_NONE : look[i].id;
}

void bpe_ids(struct bpe_run *r, const struct piece *piece, size_t n,
             struct tok_ids *out) {
    struct recall_key key[BPE_PIECES_MAX];
    uint32_t whole[BPE_PIECES_MAX];
    bool may_be_whole = r->b->c.ignore_merges;
    recall_keys(&r->words, piece, n, key);
    if (may_be_whole)
        find_whole(r, key, n, whole);
    size_t i = 0;
    for (; (i += recall_ids(&r->words, key + i, n - i, out)) < n; i++) {
        const char *s = key[i].s;
        size_t len = key[i].len, first = out->n;
        uint32_t id = may_be_whole ? whole[i] : VOCAB_NONE;
        if (id == NOT_SOUGHT)
            id = unmerged(r, s, len);
        if (id != VOCAB_NONE)
            tok_ids_push(out, id);
        else
            piece_ids(r, s, len, out);
        recall_put(&r->words, &key[i], out->id + first, out->n - first);
    }
}
