/* jinja_format: Python's two ways to format values into a text; dates. */
#include "core/text/jinja_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FORMAT_WIDTH 10000
#define FORMAT_PRECISION 300

struct spec {
    uint32_t fill;
    char align; /* < > ^ =, 0 = as the value's type does */
    char sign;  /* + - space, 0 = - */
    bool alt, comma;
    int width, precision; /* -1 = none */
    char type;            /* 0 = as the value's type does */
};

static int read_count(const struct jstr *s, size_t *i) {
    int v = 0;
    while (*i < s->len && s->p[*i] >= '0' && s->p[*i] <= '9') {
        v = v * 10 + (s->p[(*i)++] - '0');
        if (v > FORMAT_WIDTH)
            v = FORMAT_WIDTH;
    }
    return v;
}

static void put_fill(struct vm *m, struct jbuf *b, const struct spec *f,
                     int64_t n) {
    for (; n > 0 && vm_step(m, 1); n--)
        jbuf_char(m, b, f->fill, 0);
}

/* sign and digits apart: '=' fills between them. */
static void put_padded(struct vm *m, struct jbuf *b, const struct spec *f,
                       const char *sign, const struct jstr *s) {
    int64_t pad = f->width - (int64_t)(strlen(sign) + utf8_count(s->p, s->len));
    int64_t left = pad < 0           ? 0
                   : f->align == '<' ? 0
                   : f->align == '^' ? pad / 2
                                     : pad;
    if (f->align == '=')
        jbuf_puts(m, b, sign);
    put_fill(m, b, f, left);
    if (f->align != '=')
        jbuf_puts(m, b, sign);
    jbuf_str(m, b, s);
    put_fill(m, b, f, pad - left);
}

static void put_text(struct vm *m, struct jbuf *b, struct spec f,
                     const struct jstr *s) {
    struct jstr cut = *s;
    if (f.precision >= 0) {
        size_t at = 0, k;
        for (int i = 0; i < f.precision && at < s->len; i++) {
            utf8_get(s->p + at, s->len - at, &k);
            at += k;
        }
        cut.len = at;
    }
    if (!f.align || f.align == '=')
        f.align = '<';
    put_padded(m, b, &f, "", &cut);
}

static const char *sign_of(const struct spec *f, bool negative) {
    return negative ? "-" : f->sign == '+' ? "+" : f->sign == ' ' ? " " : "";
}

/* Digits of v in a base, grouped by commas; where they begin in out. */
static const char *digits_of(const struct spec *f, uint64_t v, char out[96]) {
    unsigned base = f->type == 'x' || f->type == 'X' ? 16
                    : f->type == 'o'                 ? 8
                    : f->type == 'b'                 ? 2
                                                     : 10;
    const char *set = f->type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef";
    char *at = out + 95;
    *at = 0;
    int n = 0;
    do {
        if (f->comma && n && n % 3 == 0)
            *--at = ',';
        *--at = set[v % base];
        n++;
    } while ((v /= base));
    for (; n < f->precision && n < 60; n++)
        *--at = '0';
    return at;
}

static void put_int(struct vm *m, struct jbuf *b, struct spec f, int64_t i) {
    char text[96], sign[8];
    uint64_t v = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
    const char *d = digits_of(&f, v, text);
    const char *prefix = !f.alt || !f.type ? ""
                         : f.type == 'x'   ? "0x"
                         : f.type == 'X'   ? "0X"
                         : f.type == 'o'   ? "0o"
                         : f.type == 'b'   ? "0b"
                                           : "";
    snprintf(sign, sizeof sign, "%s%s", sign_of(&f, i < 0), prefix);
    if (!f.align)
        f.align = '>';
    put_padded(m, b, &f, sign, &(struct jstr){.p = d, .len = strlen(d)});
}

static void put_float(struct vm *m, struct jbuf *b, struct spec f, double v) {
    char text[512];
    int precision = f.precision < 0                  ? 6
                    : f.precision > FORMAT_PRECISION ? FORMAT_PRECISION
                                                     : f.precision;
    bool negative = v < 0 || (v == 0 && 1 / v < 0);
    double d = negative ? -v : v;
    switch (f.type) {
    case 0:
        if (f.precision < 0)
            float_repr(d, text);
        else
            snprintf(text, sizeof text, "%.*g", precision, d);
        break;
    case 'e': snprintf(text, sizeof text, "%.*e", precision, d); break;
    case 'E': snprintf(text, sizeof text, "%.*E", precision, d); break;
    case 'g': snprintf(text, sizeof text, "%.*g", precision, d); break;
    case 'G': snprintf(text, sizeof text, "%.*G", precision, d); break;
    case '%': snprintf(text, sizeof text, "%.*f%%", precision, d * 100); break;
    default: snprintf(text, sizeof text, "%.*f", precision, d); break;
    }
    if (!f.align)
        f.align = '>';
    put_padded(m, b, &f, sign_of(&f, negative),
               &(struct jstr){.p = text, .len = strlen(text)});
}

static void put_value(struct vm *m, struct jbuf *b, struct spec f,
                      struct jval v) {
    double d;
    bool whole = f.type && strchr("dxXobnc", f.type);
    bool real = f.type && strchr("eEfFgG%", f.type);
    bool plain = !f.type && !f.width && f.precision < 0 && !f.sign && !f.comma;
    if (v.kind == J_BOOL && !plain)
        v = jv_int(v.u.b);
    if (plain || (v.kind == J_STR && (!f.type || f.type == 's')))
        put_text(m, b, f, jv_str(m, v));
    else if (f.type == 'c' && v.kind == J_INT && v.u.i >= 0 &&
             v.u.i <= 0x10ffff)
        jbuf_char(m, b, (uint32_t)v.u.i, 0);
    else if (v.kind == J_INT && !real && f.type != 's' && f.type != 'c')
        put_int(m, b, f, v.u.i);
    else if (jv_number(&v, &d) && !whole && f.type != 's')
        put_float(m, b, f, d);
    else
        vm_fail(m, "unsupported format '%c' for %s", f.type ? f.type : '>',
                jv_type(&v));
}

/* ---- "…" % args ---- */

static struct spec read_percent(const struct jstr *s, size_t *i) {
    struct spec f = {.fill = ' ', .width = 0, .precision = -1, .align = '>'};
    for (; *i < s->len && s->p[*i] && strchr("-+ #0", s->p[*i]); ++*i) {
        char c = s->p[*i];
        if (c == '-')
            f.align = '<';
        else if (c == '#')
            f.alt = true;
        else if (c == '0')
            f.fill = '0';
        else if (f.sign != '+')
            f.sign = c;
    }
    if (f.align == '<')
        f.fill = ' ';
    else if (f.fill == '0')
        f.align = '=';
    f.width = read_count(s, i);
    if (*i < s->len && s->p[*i] == '.') {
        ++*i;
        f.precision = read_count(s, i);
    }
    return f;
}

static void put_percent(struct vm *m, struct jbuf *b, struct spec f,
                        struct jval v) {
    double d;
    char c = f.type;
    if (c == 's' || c == 'r' || c == 'a') {
        struct jbuf r = {0};
        if (c != 's')
            put_repr(m, &r, v);
        if (c != 's')
            v = jbuf_take(m, &r);
        f.type = 's';
        f.fill = ' ';
        if (f.align == '=')
            f.align = '>';
        put_text(m, b, f, jv_str(m, v));
        return;
    }
    if (!strchr("dixXofFeEgGuc", c) || !c) {
        vm_fail(m, "unsupported format character '%c'", c);
        return;
    }
    if (c == 'c' && v.kind == J_STR) {
        jbuf_str(m, b, v.u.s);
        return;
    }
    if (!jv_number(&v, &d)) {
        vm_fail(m, "%%%c format: a number is required, not %s", c, jv_type(&v));
        return;
    }
    if (c == 'i' || c == 'u')
        f.type = 'd';
    if (f.type == 'd' && v.kind == J_FLOAT)
        v = jv_int(d > -9e18 && d < 9e18 ? (int64_t)d : 0);
    put_value(m, b, f, v);
}

/* The mapping key of %(key)s, which is skipped. */
static struct jval percent_key(struct vm *m, const struct jstr *s, size_t *i,
                               struct jval args) {
    const char *close = memchr(s->p + *i, ')', s->len - *i);
    if (!close || args.kind != J_DICT)
        return vm_fail(m, "format requires a mapping");
    size_t from = *i + 1, n = (size_t)(close - s->p) - from;
    *i = from + n + 1;
    const struct jval *v = jdict_get(m, args.u.d, str_slice(m, s, from, n));
    return v ? *v : vm_fail(m, "format: no such key");
}

struct jval str_percent(struct vm *m, const struct jstr *s, struct jval args) {
    struct jbuf b = {0};
    bool many = args.kind == J_LIST && args.u.l->seq == SEQ_TUPLE;
    size_t n = many ? args.u.l->n : 1, used = 0;
    for (size_t i = 0; i < s->len && vm_step(m, 1);) {
        if (s->p[i] != '%') {
            jbuf_put(m, &b, s->p + i, 1, str_mark(s, i));
            i++;
            continue;
        }
        struct jval v = {.kind = J_MISSING};
        i++;
        if (i < s->len && s->p[i] == '(')
            v = percent_key(m, s, &i, args);
        if (v.kind != J_MISSING)
            used = n;
        struct spec f = read_percent(s, &i);
        if (i >= s->len)
            return vm_fail(m, "incomplete format");
        f.type = s->p[i++];
        if (f.type == '%') {
            jbuf_put(m, &b, "%", 1, 0);
            continue;
        }
        if (v.kind == J_MISSING && used == n)
            return vm_fail(m, "not enough arguments for format string");
        if (v.kind == J_MISSING)
            v = many ? args.u.l->v[used++] : (used++, args);
        put_percent(m, &b, f, v);
    }
    if (used < n && args.kind != J_DICT && args.kind != J_UNDEF &&
        (many || args.kind != J_LIST))
        return vm_fail(m, "not all arguments converted during string "
                          "formatting");
    return jbuf_take(m, &b);
}

/* ---- "…".format(…) ---- */

static struct spec read_spec(struct vm *m, const struct jstr *s) {
    struct spec f = {.fill = ' ', .precision = -1};
    size_t i = 0, k;
    uint32_t c = utf8_get(s->p, s->len, &k);
    if (s->len > k && strchr("<>^=", s->p[k]) && s->p[k]) {
        f.fill = c;
        f.align = s->p[k];
        i = k + 1;
    } else if (s->len && *s->p && strchr("<>^=", *s->p)) {
        f.align = s->p[i++];
    }
    if (i < s->len && s->p[i] && strchr("+- ", s->p[i]))
        f.sign = s->p[i++];
    if (i < s->len && s->p[i] == '#' && ++i)
        f.alt = true;
    if (i < s->len && s->p[i] == '0' && !f.align) {
        f.fill = '0';
        f.align = '=';
        i++;
    }
    f.width = read_count(s, &i);
    if (i < s->len && s->p[i] == ',' && ++i)
        f.comma = true;
    if (i < s->len && s->p[i] == '.') {
        i++;
        f.precision = read_count(s, &i);
    }
    if (i < s->len)
        f.type = s->p[i++];
    if (i < s->len || (f.type && !strchr("sdxXobncfFeEgG%", f.type)))
        vm_fail(m, "invalid format specifier '%.*s'", (int)s->len, s->p);
    return f;
}

static bool all_digits(const struct jstr *s) {
    for (size_t i = 0; i < s->len; i++)
        if (s->p[i] < '0' || s->p[i] > '9')
            return false;
    return s->len > 0;
}

static struct jval int_or_name(struct vm *m, const struct jstr *s) {
    size_t i = 0;
    return all_digits(s) ? jv_int(read_count(s, &i))
                         : str_slice(m, s, 0, s->len);
}

/* The value of a field's name: "", "0", "name", with .attr and [item]. */
static struct jval field_value(struct vm *m, const struct jstr *s,
                               const struct jargs *args, int *next) {
    size_t n = 0;
    while (n < s->len && s->p[n] != '.' && s->p[n] != '[')
        n++;
    struct jstr name = {.p = s->p, .len = n, .all = s->all};
    struct jval v = {.kind = J_MISSING};
    size_t at = 0;
    if (n == 0 || all_digits(&name)) {
        int i = n == 0 ? (*next)++ : read_count(&name, &at);
        if (i < args->n)
            v = args->v[i];
    } else {
        for (int i = 0; i < args->n_kw; i++)
            if (str_eq(&name, args->kw[i].name))
                v = args->kw[i].val;
    }
    if (v.kind == J_MISSING)
        return vm_fail(m, "format: there is no argument for '%.*s'",
                       (int)(n < 60 ? n : 60), s->p);
    while (n < s->len && vm_step(m, 1)) {
        bool item = s->p[n++] == '[';
        size_t end = n;
        while (end < s->len &&
               (item ? s->p[end] != ']' : s->p[end] != '.' && s->p[end] != '['))
            end++;
        struct jstr part = {.p = s->p + n, .len = end - n};
        v = item ? get_item(m, v, int_or_name(m, &part))
                 : get_attr(m, v, &part);
        n = end + item;
    }
    return v;
}

static void put_field(struct vm *m, struct jbuf *b, const struct jstr *s,
                      const struct jargs *args, int *next) {
    size_t n = 0, item = 0;
    while (n < s->len && (item || (s->p[n] != '!' && s->p[n] != ':'))) {
        item = s->p[n] == '[' || (item && s->p[n] != ']');
        n++;
    }
    char conv = 0;
    struct jstr name = {.p = s->p, .len = n}, rest = {.p = "", .len = 0};
    if (n + 1 < s->len && s->p[n] == '!') {
        conv = s->p[n + 1];
        n += 2;
    }
    if (n < s->len && s->p[n] == ':')
        rest = (struct jstr){.p = s->p + n + 1, .len = s->len - n - 1};
    struct jval v = field_value(m, &name, args, next);
    if (conv == 'r') {
        struct jbuf r = {0};
        put_repr(m, &r, v);
        v = jbuf_take(m, &r);
    } else if (conv) {
        v = jv_of(jv_str(m, v));
    }
    put_value(m, b, read_spec(m, &rest), v);
}

struct jval str_format(struct vm *m, const struct jstr *s,
                       const struct jargs *args) {
    struct jbuf b = {0};
    int next = 0;
    for (size_t i = 0; i < s->len && vm_step(m, 1); i++) {
        char c = s->p[i];
        bool twice = i + 1 < s->len && s->p[i + 1] == c;
        if (c == '{' && !twice) {
            const char *end = memchr(s->p + i, '}', s->len - i);
            if (!end)
                return vm_fail(m, "expected '}' before end of string");
            struct jstr field = {.p = s->p + i + 1,
                                 .len = (size_t)(end - s->p) - i - 1};
            put_field(m, &b, &field, args, &next);
            i = (size_t)(end - s->p);
            continue;
        }
        if (c == '}' && !twice)
            return vm_fail(m, "single '}' encountered in format string");
        jbuf_put(m, &b, &c, 1, str_mark(s, i));
        i += c == '{' || c == '}';
    }
    return jbuf_take(m, &b);
}

/* ---- dates ---- */

struct jval date_format(struct vm *m, const struct jstr *format) {
    char fmt[256], text[512];
    const char *pin = getenv("FETTLE_DATE");
    struct tm tm = {0};
    time_t now = time(NULL);
    if (!pin || !strptime(pin, "%Y-%m-%d", &tm))
        localtime_r(&now, &tm);
    if (format->len >= sizeof fmt)
        return vm_fail(m, "strftime_now: the format is too long");
    snprintf(fmt, sizeof fmt, "%.*s", (int)format->len, format->p);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    size_t n = strftime(text, sizeof text, fmt, &tm);
#pragma GCC diagnostic pop
    struct jbuf b = {0};
    jbuf_put(m, &b, text, n, 0);
    return jbuf_take(m, &b);
}
