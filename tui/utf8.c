/*
 * utf8.c - decoding, and the sanitiser built on text_next(), so that what is
 * copied and what is drawn follow one set of rules.
 */
#include "tui/utf8.h"
#include "tui/width.h"

#include <stdbool.h>
#include <string.h>

/* The second byte's range per lead byte: what rules out overlong forms,
 * surrogates and values above 10FFFF (Unicode table 3-7). */
static bool second_ok(unsigned char lead, unsigned char b) {
    switch (lead) {
    case 0xE0: return b >= 0xA0 && b <= 0xBF;
    case 0xED: return b >= 0x80 && b <= 0x9F;
    case 0xF0: return b >= 0x90 && b <= 0xBF;
    case 0xF4: return b >= 0x80 && b <= 0x8F;
    default: return b >= 0x80 && b <= 0xBF;
    }
}

size_t utf8_decode(const char *s, size_t n, uint32_t *cp) {
    const unsigned char *p = (const unsigned char *)s;
    *cp = UTF8_BAD;
    if (n == 0)
        return 0;
    unsigned char lead = p[0];
    if (lead < 0x80) {
        *cp = lead;
        return 1;
    }
    size_t len = lead >= 0xC2 && lead <= 0xDF   ? 2
                 : lead >= 0xE0 && lead <= 0xEF ? 3
                 : lead >= 0xF0 && lead <= 0xF4 ? 4
                                                : 0;
    if (len == 0)
        return 1;
    uint32_t v = lead & (0xFFu >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        if (i >= n || (i == 1 ? !second_ok(lead, p[1]) : (p[i] & 0xC0) != 0x80))
            return i;
        v = v << 6 | (p[i] & 0x3Fu);
    }
    *cp = v;
    return len;
}

size_t utf8_encode(uint32_t cp, char out[4]) {
    if (cp > 0x10FFFF || (cp >= 0xD800 && cp <= 0xDFFF))
        cp = UTF8_BAD;
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (char)(0xC0 | cp >> 6);
        out[1] = (char)(0x80 | (cp & 0x3F));
        return 2;
    }
    if (cp < 0x10000) {
        out[0] = (char)(0xE0 | cp >> 12);
        out[1] = (char)(0x80 | (cp >> 6 & 0x3F));
        out[2] = (char)(0x80 | (cp & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | cp >> 18);
    out[1] = (char)(0x80 | (cp >> 12 & 0x3F));
    out[2] = (char)(0x80 | (cp >> 6 & 0x3F));
    out[3] = (char)(0x80 | (cp & 0x3F));
    return 4;
}

size_t utf8_prev(const char *s, size_t at) {
    size_t i = at;
    for (int k = 0; k < 4 && i > 0; k++) {
        i--;
        if (((unsigned char)s[i] & 0xC0) != 0x80)
            break;
    }
    uint32_t cp;
    /* A stray continuation byte is a character of its own. */
    if (at > 0 && utf8_decode(s + i, at - i, &cp) != at - i)
        return at - 1;
    return i;
}

size_t text_sanitize(char *dst, size_t cap, const char *src, size_t n,
                     unsigned keep) {
    size_t need = 0, fit = 0;
    for (size_t i = 0; i < n;) {
        struct cluster c;
        size_t used = text_next(src + i, n - i, &c);
        if ((src[i] == '\n' && (keep & TEXT_NL)) ||
            (src[i] == '\t' && (keep & TEXT_TAB))) {
            c.s[0] = src[i];
            c.s[1] = 0;
            c.len = 1;
        }
        need += c.len;
        if (need < cap && fit + c.len == need) {
            memcpy(dst + fit, c.s, c.len);
            fit = need;
        }
        i += used;
    }
    if (cap > 0)
        dst[fit] = 0;
    return need;
}
