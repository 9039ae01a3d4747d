/*
 * width.c - clusters by the table in width_table.h.
 *
 * Invariants: 1. a cluster's bytes are well-formed UTF-8 without any C0, DEL,
 * C1 or format character; 2. it has at most one base and four marks, which is
 * what a curses cell holds; 3. every call takes at least one byte.
 */
#include "tui/width.h"
#include "tui/utf8.h"
#include "tui/width_table.h"

#include <string.h>

#define MARKS_MAX 4

static int kind_of(uint32_t cp) {
    if (cp >= 0x20 && cp < 0x7F)
        return KIND_PLAIN;
    size_t lo = 0, hi = sizeof WIDTH_RANGES / sizeof *WIDTH_RANGES;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        const struct width_range *r = &WIDTH_RANGES[mid];
        if (cp > r->hi)
            lo = mid + 1;
        else if (cp < r->lo)
            hi = mid;
        else
            return r->kind;
    }
    return cp > 0x10FFFF ? KIND_BAD : KIND_PLAIN;
}

int cp_width(uint32_t cp) {
    switch (kind_of(cp)) {
    case KIND_PLAIN: return 1;
    case KIND_WIDE:
    case KIND_TONE: return 2;
    case KIND_ZERO:
    case KIND_JOINER:
    case KIND_VARIANT: return 0;
    default: return -1;
    }
}

static void put_cp(struct cluster *c, uint32_t cp) {
    char b[4];
    size_t n = utf8_encode(cp, b);
    if (c->len + n > CLUSTER_BYTES)
        return;
    memcpy(c->s + c->len, b, n);
    c->len = (uint8_t)(c->len + n);
    c->s[c->len] = 0;
}

/* "<U+202E>" */
static void put_name(struct cluster *c, uint32_t cp) {
    static const char hex[] = "0123456789ABCDEF";
    char *p = c->s;
    memcpy(p, "<U+", 3);
    p += 3;
    for (int sh = cp > 0xFFFFF ? 20 : cp > 0xFFFF ? 16 : 12; sh >= 0; sh -= 4)
        *p++ = hex[cp >> sh & 15];
    *p++ = '>';
    *p = 0;
    c->len = c->width = (uint8_t)(p - c->s);
    c->odd = true;
}

/* Scripts whose letters take another shape beside a joiner. */
static bool joins(uint32_t cp) { return cp >= 0x600 && cp <= 0xDFF; }

/* Takes what combines with the base: marks kept up to MARKS_MAX, selectors,
 * tones and most joiners dropped. */
static size_t take_marks(const char *s, size_t n, uint32_t base, int kind,
                         struct cluster *c) {
    size_t at = 0;
    int marks = 0;
    while (at < n) {
        uint32_t cp, after;
        size_t used = utf8_decode(s + at, n - at, &cp);
        int k = kind_of(cp);
        if (k == KIND_JOINER) {
            /* Only between two printable characters outside ASCII. */
            size_t left = n - at - used;
            if (base < 0x80 || left == 0)
                break;
            utf8_decode(s + at + used, left, &after);
            if (after < 0x80 || cp_width(after) < 0)
                break;
            if (joins(base) && marks < MARKS_MAX) {
                put_cp(c, cp);
                marks++;
            }
        } else if (k == KIND_ZERO) {
            if (marks < MARKS_MAX) {
                put_cp(c, cp);
                marks++;
            }
        } else if (k != KIND_VARIANT &&
                   !(k == KIND_TONE && kind == KIND_WIDE)) {
            break;
        }
        at += used;
    }
    return at;
}

size_t text_next(const char *s, size_t n, struct cluster *c) {
    uint32_t cp;
    c->len = c->width = 0;
    c->odd = false;
    c->s[0] = 0;
    size_t used = utf8_decode(s, n, &cp);
    if (used == 0)
        return 1; /* nothing there: still never stands still */
    int kind = kind_of(cp);
    switch (kind) {
    case KIND_CONTROL:
        put_cp(c, cp == 0x7F ? 0x2421 : 0x2400 + cp);
        c->width = 1;
        c->odd = true;
        return used;
    case KIND_NAMED:
    case KIND_JOINER: put_name(c, cp); return used;
    case KIND_VARIANT: return used;
    case KIND_BAD:
        put_cp(c, UTF8_BAD);
        c->width = 1;
        c->odd = true;
        return used;
    case KIND_ZERO: /* without a base: on a dotted circle */
        put_cp(c, 0x25CC);
        put_cp(c, cp);
        c->width = 1;
        return used + take_marks(s + used, n - used, cp, kind, c);
    default:
        put_cp(c, cp);
        c->width = kind == KIND_PLAIN ? 1 : 2;
        c->odd = cp == UTF8_BAD;
        /* The usual case first. */
        if (used == n || (unsigned char)s[used] < 0x80)
            return used;
        return used + take_marks(s + used, n - used, cp, kind, c);
    }
}

int text_width_n(const char *s, size_t n) {
    int w = 0;
    for (size_t i = 0; i < n;) {
        struct cluster c;
        i += text_next(s + i, n - i, &c);
        w += c.width;
    }
    return w;
}

int text_width(const char *s) { return text_width_n(s, strlen(s)); }

size_t text_head(const char *s, size_t n, int w) {
    size_t i = 0;
    while (i < n) {
        struct cluster c;
        size_t used = text_next(s + i, n - i, &c);
        if (c.width > w)
            break;
        w -= c.width;
        i += used;
    }
    return i;
}

int text_trunc(char *dst, size_t cap, const char *s, int w) {
    size_t n = strlen(s), out = 0;
    int cells = 0;
    bool cut = text_head(s, n, w) < n;
    if (cap == 0)
        return 0;
    int room = cut ? w - 1 : w;
    for (size_t i = 0; i < n;) {
        struct cluster c;
        i += text_next(s + i, n - i, &c);
        if (cells + c.width > room || out + c.len + (cut ? 3 : 0) >= cap)
            break;
        memcpy(dst + out, c.s, c.len);
        out += c.len;
        cells += c.width;
    }
    if (cut && w > 0 && out + 3 < cap) {
        memcpy(dst + out, "…", 3);
        out += 3;
        cells++;
    }
    dst[out] = 0;
    return cells;
}
