/*
 * precompiled: a double array (Darts) as SentencePiece writes it. A unit has a
 * label, the offset to its children, and whether one of them is a value. The
 * file is not trusted: every step is checked.
 */
#include "core/text/precompiled.h"
#include "core/text/base64.h"
#include "core/text/unicode.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

struct precompiled {
    uint8_t *data; /* decoded */
    uint32_t *unit;
    size_t n_units;
    const char *texts; /* in data */
    size_t texts_len;
};

static bool is_utf8(const char *s, size_t len) {
    utf8proc_int32_t c;
    while (len > 0) {
        utf8proc_ssize_t k = utf8proc_iterate((const utf8proc_uint8_t *)s,
                                              (utf8proc_ssize_t)len, &c);
        if (k <= 0)
            return false;
        s += k;
        len -= (size_t)k;
    }
    return true;
}

static int parse(struct precompiled *p, const char *base64, size_t len,
                 struct err *err) {
    size_t n;
    p->data = malloc(len + 4);
    CHECK(p->data, "out of memory for a charsmap");
    if (base64_decode(base64, len, p->data, &n) < 0 || n < 4)
        return err_set(err, ERR_INVAL, "Precompiled: not base64");
    size_t trie = (size_t)p->data[0] | (size_t)p->data[1] << 8 |
                  (size_t)p->data[2] << 16 | (size_t)p->data[3] << 24;
    if (trie % 4 || trie == 0 || trie > n - 4)
        return err_set(err, ERR_INVAL,
                       "Precompiled: a trie of %zu bytes in %zu", trie, n);
    p->n_units = trie / 4;
    p->unit = malloc(trie);
    CHECK(p->unit, "out of memory for a charsmap");
    for (size_t i = 0; i < p->n_units; i++) {
        const uint8_t *b = p->data + 4 + 4 * i;
        p->unit[i] = (uint32_t)b[0] | (uint32_t)b[1] << 8 |
                     (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
    }
    p->texts = (const char *)p->data + 4 + trie;
    p->texts_len = n - 4 - trie;
    if (!is_utf8(p->texts, p->texts_len))
        return err_set(err, ERR_INVAL, "Precompiled: texts that are not UTF-8");
    return 0;
}

struct precompiled *precompiled_new(const char *base64, size_t len,
                                    struct err *err) {
    struct precompiled *p = calloc(1, sizeof *p);
    CHECK(p, "out of memory for a charsmap");
    if (parse(p, base64, len, err) == 0)
        return p;
    precompiled_free(p);
    return NULL;
}

void precompiled_free(struct precompiled *p) {
    if (!p)
        return;
    free(p->data);
    free(p->unit);
    free(p);
}

static uint32_t unit_offset(uint32_t u) {
    return (u >> 10) << ((u & 1u << 9) >> 6);
}

/* The text that a node stands for; NULL: none. */
static const char *node_text(const struct precompiled *p, uint32_t node,
                             size_t *len) {
    uint32_t at = node < p->n_units ? p->unit[node] & 0x7fffffffu : ~0u;
    /* (a value in the middle of a character was never written) */
    if (at >= p->texts_len || (p->texts[at] & 0xc0) == 0x80)
        return NULL;
    *len = strnlen(p->texts + at, p->texts_len - at);
    return p->texts + at;
}

/* The first known beginning of text, or the last. */
static const char *find(const struct precompiled *p, const char *text,
                        size_t len, bool longest, size_t *used,
                        size_t *out_len) {
    uint32_t node = unit_offset(p->unit[0]);
    const char *best = NULL;
    for (size_t i = 0; i < len && text[i]; i++) {
        uint8_t c = (uint8_t)text[i];
        node ^= c;
        if (node >= p->n_units)
            break;
        uint32_t u = p->unit[node];
        if ((u & (1u << 31 | 0xff)) != c)
            break;
        node ^= unit_offset(u);
        if (!(u >> 8 & 1))
            continue;
        size_t n;
        const char *one = node_text(p, node, &n);
        if (one) {
            best = one;
            *used = i + 1;
            *out_len = n;
        }
        if (!longest)
            break;
    }
    return best;
}

const char *precompiled_find(const struct precompiled *p, const char *text,
                             size_t len, size_t *out_len) {
    size_t used;
    return find(p, text, len, false, &used, out_len);
}

const char *precompiled_longest(const struct precompiled *p, const char *text,
                                size_t len, size_t *used, size_t *out_len) {
    return find(p, text, len, true, used, out_len);
}

/* Does a cluster end between a and b? utf8proc may be too old for marks of
 * Unicode 16. */
static bool is_break(uint32_t a, uint32_t b, utf8proc_int32_t *state) {
    enum uni_gc before = uni_gc(a), g = uni_gc(b);
    bool ends = utf8proc_grapheme_break_stateful((utf8proc_int32_t)a,
                                                 (utf8proc_int32_t)b, state);
    bool control = before == UNI_CC || before == UNI_CF || before == UNI_ZL ||
                   before == UNI_ZP;
    return ends && (control || (g != UNI_MN && g != UNI_ME));
}

size_t precompiled_cluster(const char *text, size_t at, size_t len,
                           int *chars) {
    utf8proc_int32_t state = 0;
    uint32_t c, before = 0;
    *chars = 0;
    while (at < len) {
        int n = uni_get(text + at, &c);
        if (*chars && is_break(before, c, &state))
            break;
        before = c;
        at += (size_t)n;
        ++*chars;
    }
    return at;
}
