/*
 * seam: a token that lies across a place between two characters holds the end
 * of the one before (one byte of it or more) and the beginning of the one
 * behind. The set of such pairs, over all tokens and all places in them, is
 * kept as a filter of bits that forgets nothing, and sometimes takes a pair
 * for one that it has, which costs a cut and no exactness. Pairs of whole
 * characters are many and have a filter of their own.
 */
#include "core/text/seam.h"
#include "core/err.h"
#include "core/text/unicode.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define WHOLE_BITS 21
#define PART_BITS 18
#define CHAR_MAX_BYTES 4

struct seams {
    uint64_t whole[1 << (WHOLE_BITS - 6)], part[1 << (PART_BITS - 6)];
    uint16_t shapes; /* bit 4(l-1)+r-1: a pair of parts of l and r bytes */
};

/* What lies around a place: bytes before and behind, as far as wanted. */
struct seam {
    uint32_t before, behind; /* the last byte on top; the first below */
    int l, r;                /* bytes of the characters */
};

struct seams *seams_new(void) {
    struct seams *m = calloc(1, sizeof *m);
    CHECK(m, "out of memory for a tokenizer");
    return m;
}

void seams_free(struct seams *m) { free(m); }

static struct seam seam_at(const char *s, size_t at, size_t len) {
    struct seam p = {0, 0, 0, 0};
    do {
        p.l++;
        p.before |= (uint32_t)(unsigned char)s[at - (size_t)p.l]
                    << (32 - 8 * p.l);
    } while (p.l < CHAR_MAX_BYTES && (size_t)p.l < at &&
             uni_is_inner(s[at - (size_t)p.l]));
    do {
        p.behind |= (uint32_t)(unsigned char)s[at + (size_t)p.r] << 8 * p.r;
        p.r++;
    } while (p.r < CHAR_MAX_BYTES && at + (size_t)p.r < len &&
             uni_is_inner(s[at + (size_t)p.r]));
    return p;
}

/* Of the last l bytes before and the first r behind. */
static uint64_t pair_hash(const struct seam *p, int l, int r) {
    uint64_t before = p->before >> (32 - 8 * l);
    uint64_t behind = (uint64_t)p->behind << (32 - 8 * r) & 0xffffffffu;
    uint64_t h = (before << 32 | behind) * 0x9e3779b97f4a7c15u;
    return (h ^ h >> 29) * 0xbf58476d1ce4e5b9u;
}

static int length_of(unsigned char lead) {
    return lead < 0xc0 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
}

/* Whole characters: the one before begins with its first byte, and the one
 * behind has all of its. */
static bool is_whole(const struct seam *p) {
    unsigned char lead = p->before >> (32 - 8 * p->l);
    return length_of(lead) == p->l && (lead & 0xc0) != 0x80 &&
           length_of(p->behind & 0xff) == p->r;
}

static unsigned shape(int l, int r) { return 1u << (4 * (l - 1) + r - 1); }

/* Beginning of a character, and not inside a word of ASCII: those are short
 * and hardly have seams. */
static bool is_place(const char *s, size_t at) {
    return !uni_is_inner(s[at]) && ((s[at - 1] | s[at]) & 0x80);
}

void seams_add(struct seams *m, const char *token, size_t len) {
    for (size_t at = 1; at < len; at++) {
        if (!is_place(token, at))
            continue;
        struct seam p = seam_at(token, at, len);
        uint64_t h = pair_hash(&p, p.l, p.r);
        if (is_whole(&p)) {
            h >>= 64 - WHOLE_BITS;
            m->whole[h >> 6] |= UINT64_C(1) << (h & 63);
        } else {
            h >>= 64 - PART_BITS;
            m->part[h >> 6] |= UINT64_C(1) << (h & 63);
            m->shapes |= (uint16_t)shape(p.l, p.r);
        }
    }
}

static bool part_has(const struct seams *m, const struct seam *p, int l,
                     int r) {
    if (!(m->shapes & shape(l, r)))
        return false;
    uint64_t h = pair_hash(p, l, r) >> (64 - PART_BITS);
    return m->part[h >> 6] >> (h & 63) & 1;
}

static bool is_seam(const struct seams *m, const struct seam *p) {
    uint64_t h = pair_hash(p, p->l, p->r) >> (64 - WHOLE_BITS);
    if (m->whole[h >> 6] >> (h & 63) & 1)
        return false;
    for (int l = 1; l <= p->l; l++)
        for (int r = 1; r <= p->r; r++)
            if ((l < p->l || r < p->r) && part_has(m, p, l, r))
                return false;
    return true;
}

size_t seams_next(const struct seams *m, const char *s, size_t at, size_t len) {
    while (++at < len) {
        if (!is_place(s, at))
            continue;
        struct seam p = seam_at(s, at, len);
        if (is_seam(m, &p))
            return at;
    }
    return len;
}
