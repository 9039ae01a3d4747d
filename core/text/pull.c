/* pull: RFC 8259, one value at a time. */
#include "core/text/pull.h"

#include "core/err.h"
#include "core/text/unicode.h"

#include <endian.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 64

static void fault(struct pull *p, const char *why) {
    if (!p->bad)
        p->why = why;
    p->bad = true;
}

void pull_init(struct pull *p, const char *text, size_t len) {
    *p = (struct pull){.s = text, .end = text + len};
}

void pull_release(struct pull *p) { free(p->room); }

static bool is_space(char c) {
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static char peek_slow(struct pull *p) {
    while (!p->bad && p->s < p->end && is_space(*p->s))
        p->s++;
    return p->bad || p->s == p->end ? 0 : *p->s;
}

static inline char peek(struct pull *p) {
    bool here = !p->bad && p->s < p->end && !is_space(*p->s);
    return here ? *p->s : peek_slow(p);
}

char pull_peek(struct pull *p) { return peek(p); }

static bool take(struct pull *p, char c, const char *why) {
    if (peek(p) != c) {
        fault(p, why);
        return false;
    }
    p->s++;
    return true;
}

void pull_open(struct pull *p, char bracket) {
    take(p, bracket,
         bracket == '{' ? "an object is wanted"
                        : "a list is "
                          "wanted");
    p->first = true;
    if (++p->depth > DEPTH_MAX)
        fault(p, "it is nested too deeply");
}

bool pull_more(struct pull *p, char bracket) {
    char c = peek(p);
    if (c == bracket) {
        p->s++;
        p->depth--;
        p->first = false;
        return false;
    }
    if (!p->first)
        take(p, ',', "a comma is missing");
    p->first = false;
    return !p->bad;
}

static int hex4(const char *s, const char *end) {
    int v = 0;
    for (int i = 0; i < 4; i++, s++) {
        if (s == end)
            return -1;
        int d = *s >= '0' && *s <= '9'   ? *s - '0'
                : *s >= 'a' && *s <= 'f' ? *s - 'a' + 10
                : *s >= 'A' && *s <= 'F' ? *s - 'A' + 10
                                         : -1;
        if (d < 0)
            return -1;
        v = v * 16 + d;
    }
    return v;
}

/* The character of \uXXXX, p->s behind the u; a pair of surrogates is one. */
static uint32_t escape_u(struct pull *p) {
    int c = hex4(p->s, p->end);
    if (c < 0) {
        fault(p, "\\u without four digits");
        return 0;
    }
    p->s += 4;
    if (c < 0xd800 || c > 0xdfff)
        return (uint32_t)c;
    int low = -1;
    if (c < 0xdc00 && p->end - p->s >= 6 && p->s[0] == '\\' && p->s[1] == 'u')
        low = hex4(p->s + 2, p->end);
    if (low < 0xdc00 || low > 0xdfff) {
        fault(p, "half a surrogate pair");
        return 0;
    }
    p->s += 6;
    return 0x10000 + (((uint32_t)c & 0x3ff) << 10 | ((uint32_t)low & 0x3ff));
}

static int escape(struct pull *p, char out[4]) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    char c = p->s < p->end ? *p->s++ : 0;
    if (c == 'u')
        return uni_put(escape_u(p), out);
    const char *at = c ? strchr(from, c) : NULL;
    if (!at)
        fault(p, "an escape that JSON lacks");
    else
        out[0] = to[at - from];
    return 1;
}

static void room_for(struct pull *p, size_t need) {
    if (need <= p->cap)
        return;
    p->cap = 2 * need + 64;
    p->room = realloc(p->room, p->cap);
    CHECK(p->room, "out of memory for a string");
}

/* Behind the first n plain bytes at s, p->s at the backslash. */
static struct pull_str string_escaped(struct pull *p, const char *s, size_t n) {
    room_for(p, n + 4);
    memcpy(p->room, s, n);
    while (!p->bad && p->s < p->end && *p->s != '"') {
        char c = *p->s++;
        room_for(p, n + 4);
        if (c == '\\') {
            n += (size_t)escape(p, p->room + n);
        } else {
            if ((unsigned char)c < 0x20)
                fault(p, "a control character in a string");
            p->room[n++] = c;
        }
    }
    return (struct pull_str){p->room, n};
}

#define ONES 0x0101010101010101u
#define TOPS (0x80 * ONES)

/* The top bit of every byte that is c, and maybe of some behind one. */
static uint64_t bytes_like(uint64_t w, unsigned char c) {
    w ^= c * ONES;
    return (w - ONES) & ~w & TOPS;
}

/* The end of the plain characters at s, eight at a time: a loop over single
 * ones mispredicts its end in every string. */
static const char *plain_end(const char *s, const char *end) {
    for (; end - s >= 8; s += 8) {
        uint64_t w, stop;
        memcpy(&w, s, 8);
        w = le64toh(w);
        stop = bytes_like(w, '"') | bytes_like(w, '\\') |
               ((w - 0x20 * ONES) & ~w & TOPS);
        if (stop)
            return s + __builtin_ctzll(stop) / 8;
    }
    while (s < end && *s != '"' && *s != '\\' && (unsigned char)*s >= 0x20)
        s++;
    return s;
}

struct pull_str pull_string(struct pull *p) {
    if (!take(p, '"', "a string is wanted"))
        return (struct pull_str){"", 0};
    const char *s = p->s, *at = plain_end(s, p->end);
    p->s = at;
    struct pull_str v = {s, (size_t)(at - s)};
    if (at < p->end && *at != '"')
        v = string_escaped(p, s, v.len);
    if (p->bad || p->s == p->end) {
        fault(p, "a string without an end");
        return (struct pull_str){"", 0};
    }
    p->s++;
    return v;
}

struct pull_str pull_key(struct pull *p) {
    struct pull_str key = pull_string(p);
    take(p, ':', "a colon is missing");
    return p->bad ? (struct pull_str){"", 0} : key;
}

static bool is_digit(const struct pull *p, const char *s) {
    return s < p->end && *s >= '0' && *s <= '9';
}

/* The bytes of the number at p->s, which is passed; 0 = there is none. */
static size_t number_take(struct pull *p, bool *whole) {
    const char *from = p->s, *s = from;
    *whole = true;
    s += s < p->end && *s == '-';
    bool ok = is_digit(p, s);
    bool zero = ok && *s == '0';
    while (is_digit(p, s))
        s += 1;
    ok = ok && !(zero && s - from > 1 + (*from == '-'));
    if (s < p->end && *s == '.') {
        *whole = false;
        ok = ok && is_digit(p, ++s);
        while (is_digit(p, s))
            s++;
    }
    if (s < p->end && (*s == 'e' || *s == 'E')) {
        *whole = false;
        s++;
        s += s < p->end && (*s == '+' || *s == '-');
        ok = ok && is_digit(p, s);
        while (is_digit(p, s))
            s++;
    }
    if (!ok) {
        fault(p, "a value that is none");
        return 0;
    }
    p->s = s;
    return (size_t)(s - from);
}

/* 10^e for 0 <= e <= 308, as the compiler reads it. */
static double ten_to(int e) {
    char text[16];
    snprintf(text, sizeof text, "1e%d", e);
    return strtod(text, NULL);
}

static double scaled(double v, int e) {
    for (; e < -308 && v != 0; e += 308)
        v /= 1e308;
    if (e < 0)
        return v == 0 ? 0 : v / ten_to(-e);
    return e > 308 ? (v == 0 ? 0 : INFINITY) : v * ten_to(e);
}

/* As Hugging Face's tokenizers read numbers, which is not always the nearest
 * double: digits as far as 64 bits go, times or by a power of ten. Sums of
 * scores that are equal but for rounding depend on it. */
static double number_value(const char *s, size_t n) {
    uint64_t digits = 0;
    int e = 0;
    bool point = false, full = false;
    size_t i = *s == '-';
    for (; i < n && s[i] != 'e' && s[i] != 'E'; i++) {
        uint64_t d = (uint64_t)(s[i] - '0');
        if (s[i] == '.') {
            point = true;
            continue;
        }
        full = full || digits > (UINT64_MAX - d) / 10;
        digits = full ? digits : digits * 10 + d;
        e += full ? !point : -point;
    }
    if (i < n) {
        long x = strtol(s + i + 1, NULL, 10);
        e += x > 9999 ? 9999 : x < -9999 ? -9999 : (int)x;
    }
    double v = scaled((double)digits, e);
    return *s == '-' ? -v : v;
}

double pull_number(struct pull *p) {
    char text[64];
    bool whole;
    pull_peek(p);
    const char *s = p->s;
    size_t n = p->bad ? 0 : number_take(p, &whole);
    if (n == 0 || n >= sizeof text) {
        fault(p, "a number is wanted");
        return 0;
    }
    memcpy(text, s, n);
    text[n] = 0;
    double v = number_value(text, n);
    if (!isfinite(v))
        fault(p, "a number out of range");
    return v;
}

uint32_t pull_id(struct pull *p) {
    bool whole;
    uint64_t v = 0;
    pull_peek(p);
    const char *s = p->s;
    size_t n = p->bad ? 0 : number_take(p, &whole);
    if (n == 0 || n > 10 || !whole || *s == '-') {
        fault(p, "an id is wanted");
        return 0;
    }
    for (size_t i = 0; i < n; i++)
        v = v * 10 + (uint64_t)(s[i] - '0');
    if (v >= UINT32_MAX)
        fault(p, "an id is wanted");
    return p->bad ? 0 : (uint32_t)v;
}

static void word_take(struct pull *p, const char *word) {
    size_t n = strlen(word);
    if ((size_t)(p->end - p->s) < n || memcmp(p->s, word, n) != 0)
        fault(p, "a value that is none");
    else
        p->s += n;
}

bool pull_bool(struct pull *p) {
    char c = pull_peek(p);
    if (c != 't' && c != 'f' && c != 'n')
        fault(p, "true or false is wanted");
    else
        word_take(p, c == 't' ? "true" : c == 'f' ? "false" : "null");
    return !p->bad && c == 't';
}

struct pull_str pull_skip(struct pull *p) {
    bool whole;
    char c = pull_peek(p);
    const char *from = p->s;
    if (c == '{' || c == '[') {
        char close = c == '{' ? '}' : ']';
        size_t items = 0;
        for (pull_open(p, c); pull_more(p, close); pull_skip(p), items++)
            if (c == '{')
                pull_key(p);
        p->items = items;
    } else if (c == '"') {
        pull_string(p);
    } else if (c == 't' || c == 'f' || c == 'n') {
        pull_bool(p);
    } else if (!p->bad) {
        number_take(p, &whole);
    }
    if (p->bad)
        return (struct pull_str){"", 0};
    return (struct pull_str){from, (size_t)(p->s - from)};
}

bool pull_is(struct pull_str s, const char *name) {
    return s.len == strlen(name) && memcmp(s.s, name, s.len) == 0;
}
