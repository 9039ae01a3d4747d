/* render_json: JSON as Python writes it, which chat formats were made with. */
#include "core/text/render.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PY_DEPTH_MAX 64

/* ---- numbers ---- */

/* repr(float): the shortest digits that read back the same, an exponent below
 * 1e-4 and from 1e16 on, and ".0" for whole numbers. */
static void put_real(struct buf *b, double v) {
    char s[40], digits[32];
    int prec = 1, exp;
    if (!isfinite(v)) {
        buf_puts(b, isnan(v) ? "NaN" : v > 0 ? "Infinity" : "-Infinity");
        return;
    }
    do
        snprintf(s, sizeof s, "%.*e", prec - 1, v);
    while (strtod(s, NULL) != v && ++prec <= 17);
    exp = (int)strtol(strchr(s, 'e') + 1, NULL, 10);
    size_t n = 0;
    for (const char *p = s; *p != 'e'; p++)
        if (*p >= '0' && *p <= '9')
            digits[n++] = *p;
    while (n > 1 && digits[n - 1] == '0')
        n--;
    if (signbit(v))
        buf_puts(b, "-");
    int len = (int)n;
    if (exp < -4 || exp >= 16) {
        buf_printf(b, "%c%s%.*se%c%02d", digits[0], len > 1 ? "." : "", len - 1,
                   digits + 1, exp < 0 ? '-' : '+', abs(exp));
    } else if (exp < 0) {
        buf_puts(b, "0.");
        for (int i = exp + 1; i < 0; i++)
            buf_puts(b, "0");
        buf_bytes(b, digits, n);
    } else {
        for (int i = 0; i <= exp; i++)
            buf_u8(b, (uint8_t)(i < len ? digits[i] : '0'));
        buf_puts(b, ".");
        if (len > exp + 1)
            buf_bytes(b, digits + exp + 1, n - (size_t)exp - 1);
        else
            buf_puts(b, "0");
    }
}

/* ---- strings ---- */

static uint32_t next_char(const unsigned char **p) {
    static const unsigned char lead[] = {0, 0, 0x1f, 0x0f, 0x07};
    const unsigned char *s = *p;
    int len = *s < 0x80 ? 1 : *s < 0xe0 ? 2 : *s < 0xf0 ? 3 : 4;
    uint32_t c = len == 1 ? *s : *s & lead[len];
    for (int i = 1; i < len; i++)
        c = c << 6 | (s[i] & 0x3f);
    *p += len;
    return c;
}

static void put_escape(struct buf *b, uint32_t c) {
    if (c >= 0x10000) {
        c -= 0x10000;
        buf_printf(b, "\\u%04x\\u%04x", 0xd800 + (c >> 10),
                   0xdc00 + (c & 0x3ff));
    } else {
        buf_printf(b, "\\u%04x", c);
    }
}

static void put_string(struct buf *b, const char *s, size_t len, int flags) {
    static const char plain[] = "\"\\\n\r\t\f\b", letter[] = "\"\\nrtfb";
    const unsigned char *p = (const unsigned char *)s, *end = p + len;
    buf_u8(b, '"');
    while (p < end) {
        const unsigned char *from = p;
        uint32_t c = next_char(&p);
        const char *at = c && c < 0x80 ? strchr(plain, (int)c) : NULL;
        if (at)
            buf_printf(b, "\\%c", letter[at - plain]);
        else if (c < 0x20 || (c > 0x7e && (flags & PY_ASCII)))
            put_escape(b, c);
        else
            buf_bytes(b, from, (size_t)(p - from));
    }
    buf_u8(b, '"');
}

/* ---- values ---- */

struct dump {
    struct buf *b;
    int flags;
};

static void dump_value(const struct dump *d, const json_t *j, int depth);

static int by_key(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void dump_pair(const struct dump *d, const char *key, const json_t *v,
                      int depth) {
    put_string(d->b, key, strlen(key), d->flags);
    buf_puts(d->b, d->flags & PY_COMPACT ? ":" : ": ");
    dump_value(d, v, depth);
}

static void dump_sorted(const struct dump *d, const json_t *j, int depth) {
    size_t n = json_object_size(j), i = 0;
    const char **key = calloc(n + 1, sizeof *key), *k;
    CHECK(key, "out of memory for %zu keys", n);
    json_t *v;
    json_object_foreach((json_t *)j, k, v) key[i++] = k;
    qsort(key, n, sizeof *key, by_key);
    for (i = 0; i < n; i++) {
        if (i)
            buf_puts(d->b, d->flags & PY_COMPACT ? "," : ", ");
        dump_pair(d, key[i], json_object_get(j, key[i]), depth);
    }
    free(key);
}

static void dump_object(const struct dump *d, const json_t *j, int depth) {
    const char *key;
    json_t *v;
    bool more = false;
    buf_puts(d->b, "{");
    if (d->flags & PY_SORT) {
        dump_sorted(d, j, depth);
    } else {
        json_object_foreach((json_t *)j, key, v) {
            if (more)
                buf_puts(d->b, d->flags & PY_COMPACT ? "," : ", ");
            dump_pair(d, key, v, depth);
            more = true;
        }
    }
    buf_puts(d->b, "}");
}

static void dump_array(const struct dump *d, const json_t *j, int depth) {
    size_t i;
    json_t *v;
    buf_puts(d->b, "[");
    json_array_foreach((json_t *)j, i, v) {
        if (i)
            buf_puts(d->b, d->flags & PY_COMPACT ? "," : ", ");
        dump_value(d, v, depth);
    }
    buf_puts(d->b, "]");
}

static void dump_value(const struct dump *d, const json_t *j, int depth) {
    if (depth > PY_DEPTH_MAX) /* readers refuse such a depth before */
        return;
    switch (json_typeof(j)) {
    case JSON_OBJECT: dump_object(d, j, depth + 1); break;
    case JSON_ARRAY: dump_array(d, j, depth + 1); break;
    case JSON_STRING:
        put_string(d->b, json_string_value(j), json_string_length(j), d->flags);
        break;
    case JSON_INTEGER:
        buf_printf(d->b, "%lld", (long long)json_integer_value(j));
        break;
    case JSON_REAL: put_real(d->b, json_real_value(j)); break;
    case JSON_TRUE: buf_puts(d->b, "true"); break;
    case JSON_FALSE: buf_puts(d->b, "false"); break;
    case JSON_NULL: buf_puts(d->b, "null"); break;
    }
}

void py_dumps(struct buf *b, const json_t *j, int flags) {
    dump_value(&(struct dump){b, flags}, j, 0);
}

/* repr(str): single quotes unless there are such in it, and no double ones. */
static void repr_string(struct buf *b, const char *s, size_t len) {
    static const char plain[] = "\\\n\r\t", letter[] = "\\nrt";
    char quote = memchr(s, '\'', len) && !memchr(s, '"', len) ? '"' : '\'';
    buf_u8(b, (uint8_t)quote);
    for (size_t i = 0; i < len; i++) {
        const char *at = s[i] ? strchr(plain, s[i]) : NULL;
        if (at)
            buf_printf(b, "\\%c", letter[at - plain]);
        else if (s[i] == quote)
            buf_printf(b, "\\%c", quote);
        else
            buf_u8(b, (uint8_t)s[i]);
    }
    buf_u8(b, (uint8_t)quote);
}

static void put_repr(struct buf *b, const json_t *j, int depth) {
    const char *key, *more = "";
    size_t i;
    json_t *v;
    if (depth > PY_DEPTH_MAX)
        return;
    if (json_is_array(j)) {
        buf_puts(b, "[");
        json_array_foreach((json_t *)j, i, v) {
            buf_puts(b, i ? ", " : "");
            put_repr(b, v, depth + 1);
        }
        buf_puts(b, "]");
    } else if (json_is_object(j)) {
        buf_puts(b, "{");
        json_object_foreach((json_t *)j, key, v) {
            buf_puts(b, more);
            repr_string(b, key, strlen(key));
            buf_puts(b, ": ");
            put_repr(b, v, depth + 1);
            more = ", ";
        }
        buf_puts(b, "}");
    } else if (json_is_string(j)) {
        repr_string(b, json_string_value(j), json_string_length(j));
    } else if (json_is_boolean(j)) {
        buf_puts(b, json_is_true(j) ? "True" : "False");
    } else if (json_is_null(j)) {
        buf_puts(b, "None");
    } else {
        py_dumps(b, j, PY_ASCII);
    }
}

void py_str(struct buf *b, const json_t *j) {
    if (json_is_string(j))
        buf_bytes(b, json_string_value(j), json_string_length(j));
    else
        put_repr(b, j, 0);
}

json_t *py_loads(const char *text, size_t len, const char *what,
                 struct err *err) {
    json_error_t e;
    json_t *j = json_loadb(text, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &e);
    if (!j)
        err_set(err, ERR_INVAL, "%s: not JSON: %s", what, e.text);
    return j;
}
