#include "core/text/base64.h"

#include <string.h>

static const char digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static int digit_value(char c) {
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

int base64_decode(const char *s, size_t len, uint8_t *out, size_t *n) {
    uint32_t bits = 0;
    int have = 0;
    while (len > 0 && s[len - 1] == '=')
        len--;
    *n = 0;
    for (size_t i = 0; i < len; i++) {
        int v = digit_value(s[i]);
        if (v < 0)
            return -1;
        bits = bits << 6 | (uint32_t)v;
        have += 6;
        if (have >= 8) {
            have -= 8;
            out[(*n)++] = (uint8_t)(bits >> have);
        }
    }
    return 0;
}

void base64_encode(struct buf *out, const uint8_t *s, size_t len) {
    for (size_t i = 0; i < len; i += 3) {
        size_t n = len - i < 3 ? len - i : 3;
        uint32_t bits = (uint32_t)s[i] << 16 |
                        (n > 1 ? (uint32_t)s[i + 1] << 8 : 0) |
                        (n > 2 ? s[i + 2] : 0);
        char c[4] = {digits[bits >> 18], digits[bits >> 12 & 63],
                     n > 1 ? digits[bits >> 6 & 63] : '=',
                     n > 2 ? digits[bits & 63] : '='};
        buf_bytes(out, c, 4);
    }
}
