/*
 * jinja_str: Python's str, over UTF-8. Whatever is cut out of a text or put
 * together keeps its marks.
 */
#include "core/text/jinja_int.h"

#include <string.h>
#include <utf8proc.h>

/* ---- characters ---- */

/* str.isspace: White_Space and the separators U+001C to U+001F. */
bool uni_space(uint32_t c) {
    if (c < 0x80)
        return c == ' ' || (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x1f);
    return c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
           c == 0x202f || c == 0x205f || c == 0x3000;
}

uint32_t utf8_get(const char *p, size_t len, size_t *n) {
    utf8proc_int32_t c;
    *n = 1;
    if (len == 0)
        return 0xfffd;
    if ((unsigned char)*p < 0x80)
        return (unsigned char)*p;
    utf8proc_ssize_t k = utf8proc_iterate((const utf8proc_uint8_t *)p,
                                          (utf8proc_ssize_t)len, &c);
    if (k <= 0)
        return 0xfffd;
    *n = (size_t)k;
    return (uint32_t)c;
}

int utf8_put(uint32_t c, char out[4]) {
    return (int)utf8proc_encode_char((utf8proc_int32_t)c,
                                     (utf8proc_uint8_t *)out);
}

static bool is_start(char c) { return ((unsigned char)c & 0xc0) != 0x80; }

size_t utf8_count(const char *p, size_t len) {
    size_t n = 0;
    for (size_t i = 0; i < len; i++)
        n += is_start(p[i]);
    return n;
}

/* Byte offset of character i, at most the length. */
static size_t offset_of(const struct jstr *s, size_t i) {
    size_t at = 0;
    while (at < s->len && i > 0) {
        at++;
        while (at < s->len && !is_start(s->p[at]))
            at++;
        i--;
    }
    return at;
}

static size_t before(const char *p, size_t at) {
    do
        at--;
    while (at > 0 && !is_start(p[at]));
    return at;
}

/* ---- parts ---- */

bool str_eq(const struct jstr *a, const char *b) {
    return strlen(b) == a->len && memcmp(a->p, b, a->len) == 0;
}

uint8_t str_mark(const struct jstr *s, size_t i) {
    return s->mark ? s->mark[i] : s->all;
}

struct jval str_slice(struct vm *m, const struct jstr *s, size_t at,
                      size_t len) {
    struct jstr *r = vm_get(m, sizeof *r);
    if (!r)
        return jv_undef(NULL);
    *r = *s;
    r->p += at;
    r->len = len;
    if (r->mark)
        r->mark += at;
    return jv_of(r);
}

struct jval str_index(struct vm *m, const struct jstr *s, int64_t i) {
    int64_t n = (int64_t)utf8_count(s->p, s->len);
    if (!vm_step(m, s->len / 64))
        return jv_undef(NULL);
    if (i < 0)
        i += n;
    if (i < 0 || i >= n)
        return jv_undef(NULL);
    size_t at = offset_of(s, (size_t)i), k;
    utf8_get(s->p + at, s->len - at, &k);
    return str_slice(m, s, at, k);
}

/* memmem from an offset on. */
const char *str_find(const struct jstr *in, size_t from, const struct jstr *s) {
    if (from > in->len)
        return NULL;
    if (s->len == 0)
        return in->p + from;
    return memmem(in->p + from, in->len - from, s->p, s->len);
}

static bool in_chars(uint32_t c, const struct jstr *chars) {
    size_t k;
    if (!chars)
        return uni_space(c);
    for (size_t i = 0; i < chars->len; i += k)
        if (utf8_get(chars->p + i, chars->len - i, &k) == c)
            return true;
    return false;
}

struct jval str_strip(struct vm *m, const struct jstr *s,
                      const struct jstr *chars, bool left, bool right) {
    size_t from = 0, to = s->len, k;
    while (left && from < to &&
           in_chars(utf8_get(s->p + from, to - from, &k), chars) &&
           vm_step(m, chars ? chars->len / 64 : 0))
        from += k;
    while (right && to > from) {
        size_t at = before(s->p, to);
        if (!in_chars(utf8_get(s->p + at, to - at, &k), chars) ||
            !vm_step(m, chars ? chars->len / 64 : 0))
            break;
        to = at;
    }
    return str_slice(m, s, from, to - from);
}

/* ---- case ---- */

/* Letters that become several in upper case. */
static const struct {
    uint32_t c;
    const char *upper, *title;
} upper_many[] = {
    {0xdf, "SS", "Ss"},
    {0x149, "\u02bcN", "\u02bcN"},
    {0x1f0, "J\u030c", "J\u030c"},
    {0x587, "\u0535\u0552", "\u0535\u0582"},
    {0xfb00, "FF", "Ff"},
    {0xfb01, "FI", "Fi"},
    {0xfb02, "FL", "Fl"},
    {0xfb03, "FFI", "Ffi"},
    {0xfb04, "FFL", "Ffl"},
    {0xfb05, "ST", "St"},
    {0xfb06, "ST", "St"},
};

static void put_upper(struct vm *m, struct jbuf *b, uint32_t c, uint8_t mark,
                      bool title) {
    for (size_t i = 0; i < sizeof upper_many / sizeof *upper_many; i++)
        if (upper_many[i].c == c) {
            const char *s = title ? upper_many[i].title : upper_many[i].upper;
            jbuf_put(m, b, s, strlen(s), mark);
            return;
        }
    jbuf_char(
        m, b,
        (uint32_t)(title ? utf8proc_totitle((int)c) : utf8proc_toupper((int)c)),
        mark);
}

static bool is_cased(uint32_t c) {
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return k == UTF8PROC_CATEGORY_LU || k == UTF8PROC_CATEGORY_LL ||
           k == UTF8PROC_CATEGORY_LT;
}

/* A sigma at the end of a word. */
static bool final_sigma(const struct jstr *s, size_t at, bool after_cased) {
    size_t k;
    if (!after_cased || at + 2 >= s->len)
        return after_cased;
    return !is_cased(utf8_get(s->p + at + 2, s->len - at - 2, &k));
}

struct jval str_safe(struct vm *m, const struct jstr *s) {
    struct jval v = str_slice(m, s, 0, s->len);
    if (v.kind == J_STR)
        ((struct jstr *)v.u.s)->is_safe = true;
    return v;
}

/* how: u upper, l lower, c capitalize, t title. */
struct jval str_case(struct vm *m, const struct jstr *s, char how) {
    struct jbuf b = {0};
    bool in_word = false;
    size_t k;
    for (size_t i = 0; i < s->len && vm_step(m, 1); i += k) {
        uint32_t c = utf8_get(s->p + i, s->len - i, &k);
        uint8_t mark = str_mark(s, i);
        bool first = how == 'c' ? i == 0 : how == 't' && !in_word;
        if (how == 'u' || first)
            put_upper(m, &b, c, mark, first);
        else if (c == 0x130)
            jbuf_put(m, &b, "i\u0307", 3, mark);
        else if (c == 0x3a3)
            jbuf_char(m, &b, final_sigma(s, i, in_word) ? 0x3c2 : 0x3c3, mark);
        else
            jbuf_char(m, &b, (uint32_t)utf8proc_tolower((int)c), mark);
        in_word = is_cased(c);
    }
    struct jval v = jbuf_take(m, &b);
    return v.kind == J_STR && s->is_safe ? str_safe(m, v.u.s) : v;
}

/* ---- replace, escape ---- */

struct jval str_replace(struct vm *m, const struct jstr *s,
                        const struct jstr *from, const struct jstr *to,
                        int64_t count) {
    struct jbuf b = {0};
    size_t at = 0;
    while (count != 0 && vm_step(m, 1)) {
        const char *hit = str_find(s, at, from);
        if (!hit || (from->len == 0 && at > s->len))
            break;
        struct jval gap = str_slice(m, s, at, (size_t)(hit - s->p) - at);
        if (gap.kind == J_STR)
            jbuf_str(m, &b, gap.u.s);
        jbuf_str(m, &b, to);
        at = (size_t)(hit - s->p) + from->len;
        count--;
        if (from->len)
            continue;
        /* the empty string lies between all characters */
        if (at == s->len)
            break;
        size_t k;
        utf8_get(s->p + at, s->len - at, &k);
        jbuf_put(m, &b, s->p + at, k, str_mark(s, at));
        at += k;
    }
    if (at < s->len) {
        struct jval rest = str_slice(m, s, at, s->len - at);
        if (rest.kind == J_STR)
            jbuf_str(m, &b, rest.u.s);
    }
    return jbuf_take(m, &b);
}

struct jval str_escape(struct vm *m, const struct jstr *s) {
    struct jbuf b = {0};
    if (s->is_safe)
        return jv_of(s);
    for (size_t i = 0; i < s->len; i++) {
        const char *e = s->p[i] == '&'    ? "&amp;"
                        : s->p[i] == '<'  ? "&lt;"
                        : s->p[i] == '>'  ? "&gt;"
                        : s->p[i] == '\'' ? "&#39;"
                        : s->p[i] == '"'  ? "&#34;"
                                          : NULL;
        if (e)
            jbuf_put(m, &b, e, strlen(e), str_mark(s, i));
        else
            jbuf_put(m, &b, s->p + i, 1, str_mark(s, i));
    }
    struct jval v = jbuf_take(m, &b);
    return v.kind == J_STR ? str_safe(m, v.u.s) : v;
}
