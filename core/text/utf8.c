/* utf8: what is whole, what is broken. */
#include "core/text/int.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

/* Bytes of the character at s, or -k: k bytes that can never become one, or 0:
 * a character that needs more bytes than there are. */
static int utf8_at(const unsigned char *s, size_t n) {
    unsigned c = s[0];
    int want = c < 0x80   ? 1
               : c < 0xc2 ? -1
               : c < 0xe0 ? 2
               : c < 0xf0 ? 3
               : c < 0xf5 ? 4
                          : -1;
    for (int i = 1; i < want; i++) {
        if ((size_t)i >= n)
            return 0;
        unsigned lo = 0x80, hi = 0xbf;
        if (i == 1) {
            lo = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : lo;
            hi = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : hi;
        }
        if (s[i] < lo || s[i] > hi)
            return -i;
    }
    return want;
}

/* Three bytes of a character whose first allows any two that continue it, as
 * all but a few do. */
static bool is_plain3(const unsigned char *s) {
    return (s[0] & 0xf0) == 0xe0 && s[0] != 0xe0 && s[0] != 0xed &&
           (s[1] & 0xc0) == 0x80 && (s[2] & 0xc0) == 0x80;
}

/* The end of ASCII's characters from `at` on. */
static size_t ascii_end(const unsigned char *s, size_t at, size_t len) {
    const uint64_t tops = 0x8080808080808080u;
    uint64_t w[4];
    while (len - at >= sizeof w) {
        memcpy(w, s + at, sizeof w);
        if ((w[0] | w[1] | w[2] | w[3]) & tops)
            break;
        at += sizeof w;
    }
    for (; len - at >= 8; at += 8) {
        memcpy(w, s + at, 8);
        w[0] = le64toh(w[0]) & tops;
        if (w[0])
            return at + (size_t)__builtin_ctzll(w[0]) / 8;
    }
    while (at < len && s[at] < 0x80)
        at++;
    return at;
}

static bool is_plain2(const unsigned char *s) {
    return (s[0] & 0xe0) == 0xc0 && s[0] >= 0xc2 && (s[1] & 0xc0) == 0x80;
}

bool utf8_ok(const char *bytes, size_t len) {
    const unsigned char *s = (const unsigned char *)bytes;
    for (size_t i = ascii_end(s, 0, len); i < len;) {
        if (len - i >= 3 && is_plain3(s + i)) {
            i += 3;
        } else if (len - i >= 2 && is_plain2(s + i)) {
            i += 2;
        } else {
            int k = utf8_at(s + i, len - i);
            if (k <= 0)
                return false;
            i += (size_t)k;
        }
        if (i < len && s[i] < 0x80)
            i = ascii_end(s, i, len);
    }
    return true;
}

char *utf8_lossy(const char *bytes, size_t len, size_t *out_len) {
    const unsigned char *s = (const unsigned char *)bytes;
    char *out = malloc(3 * len + 1);
    size_t n = 0;
    CHECK(out, "out of memory for text");
    for (size_t i = 0; i < len;) {
        int k = utf8_at(s + i, len - i);
        if (k > 0) {
            memcpy(out + n, s + i, (size_t)k);
            n += (size_t)k;
            i += (size_t)k;
        } else {
            memcpy(out + n, "\xef\xbf\xbd", 3);
            n += 3;
            i += k < 0 ? (size_t)-k : len - i;
        }
    }
    out[n] = 0;
    if (out_len)
        *out_len = n;
    return out;
}

size_t utf8_whole(const char *bytes, size_t len) {
    const unsigned char *s = (const unsigned char *)bytes;
    for (size_t i = 0; i < len;) {
        int k = utf8_at(s + i, len - i);
        if (k == 0)
            return i;
        i += (size_t)(k > 0 ? k : -k);
    }
    return len;
}
