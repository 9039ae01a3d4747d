/*
 * jinja_lex: a template's text to tokens, with the white space that its tags
 * take with them: "-" takes all of it, "+" none, and by default a tag takes
 * the indentation before it (lstrip_blocks) and one newline behind it
 * (trim_blocks); {{ }} takes neither.
 */
#include "core/text/jinja_int.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int lex_fail(struct jlex *l, const char *what) {
    return err_set(l->err, ERR_INVAL, "line %d: %s", l->line, what);
}

static struct jtoken *lex_push(struct jlex *l, enum jtok type) {
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 256;
        struct jtoken *t = arena_get(l->mem, cap * sizeof *t);
        if (!t) {
            lex_fail(l, "the template is too big");
            return NULL;
        }
        if (l->n)
            memcpy(t, l->t, l->n * sizeof *t);
        l->t = t;
        l->cap = cap;
    }
    struct jtoken *t = &l->t[l->n++];
    t->type = type;
    t->line = l->line;
    return t;
}

static int lex_push_str(struct jlex *l, enum jtok type, const char *p,
                        size_t n) {
    struct jtoken *t = lex_push(l, type);
    if (!t)
        return -1;
    t->s = (struct jstr){.p = p, .len = n};
    return 0;
}

/* Moves to `to`, counting lines. */
static void lex_move(struct jlex *l, size_t to) {
    for (; l->at < to; l->at++)
        l->line += l->src[l->at] == '\n';
}

static bool lex_at(const struct jlex *l, size_t at, const char *s) {
    size_t n = strlen(s);
    return at + n <= l->len && memcmp(l->src + at, s, n) == 0;
}

static size_t skip_space(const struct jlex *l, size_t at) {
    size_t n;
    while (at < l->len && uni_space(utf8_get(l->src + at, l->len - at, &n)))
        at += n;
    return at;
}

/* Length of text[0..n) without the white space at its end. */
static size_t trim_end(const char *p, size_t n) {
    while (n > 0) {
        size_t at = n - 1, k;
        while (at > 0 && ((unsigned char)p[at] & 0xc0) == 0x80)
            at--;
        if (!uni_space(utf8_get(p + at, n - at, &k)))
            break;
        n = at;
    }
    return n;
}

/* ---- text between tags ---- */

/* The end of the block tag at `at` (behind its name): its place, or 0. */
static size_t tag_end(const struct jlex *l, size_t at, const char *close,
                      bool trims) {
    if (at < l->len && l->src[at] == '-' && lex_at(l, at + 1, close))
        return skip_space(l, at + 3);
    if (trims && at < l->len && l->src[at] == '+' && lex_at(l, at + 1, close))
        return at + 3;
    if (!lex_at(l, at, close))
        return 0;
    at += 2;
    return trims && at < l->len && l->src[at] == '\n' ? at + 1 : at;
}

/* {% NAME %} at `at`? Its sign in *sign, where it ends; 0 = not. A raw tag
 * takes no newline, but its end does. */
static size_t bare_tag(const struct jlex *l, size_t at, const char *name,
                       bool trims, char *sign) {
    if (!lex_at(l, at, "{%"))
        return 0;
    at += 2;
    *sign = at < l->len && (l->src[at] == '-' || l->src[at] == '+') ? l->src[at]
                                                                    : 0;
    at = skip_space(l, at + (*sign != 0));
    if (!lex_at(l, at, name))
        return 0;
    at = skip_space(l, at + strlen(name));
    if (!trims && lex_at(l, at, "%}"))
        return at + 2;
    if (!trims && lex_at(l, at, "+%}"))
        return 0;
    return tag_end(l, at, "%}", trims);
}

/* The text before a tag, less what the tag takes of it. */
static int lex_data(struct jlex *l, size_t from, size_t n, char sign,
                    bool strips) {
    const char *p = l->src + from;
    size_t keep = n;
    if (sign == '-') {
        keep = trim_end(p, n);
    } else if (sign != '+' && strips) {
        size_t line = n;
        while (line > 0 && p[line - 1] != '\n')
            line--;
        if ((line > 0 || l->at_line_start) && trim_end(p, n) <= line)
            keep = line;
    }
    return keep ? lex_push_str(l, T_DATA, p, keep) : 0;
}

/* Where the next tag opens, or the end. */
static size_t next_tag(const struct jlex *l) {
    for (size_t i = l->at; i + 1 < l->len; i++)
        if (l->src[i] == '{' && (l->src[i + 1] == '{' || l->src[i + 1] == '%' ||
                                 l->src[i + 1] == '#'))
            return i;
    return l->len;
}

static int lex_comment(struct jlex *l, size_t at) {
    for (size_t i = at; i < l->len; i++) {
        size_t end = tag_end(l, i, "#}", true);
        if (end) {
            lex_move(l, end);
            return 0;
        }
    }
    return lex_fail(l, "a comment without an end");
}

static int lex_raw(struct jlex *l, size_t from) {
    char sign;
    lex_move(l, from);
    l->at_line_start = from > 0 && l->src[from - 1] == '\n';
    for (size_t i = from; i < l->len; i++) {
        size_t end = bare_tag(l, i, "endraw", true, &sign);
        if (!end)
            continue;
        if (lex_data(l, from, i - from, sign, true) < 0)
            return -1;
        lex_move(l, end);
        return 0;
    }
    return lex_fail(l, "raw without endraw");
}

/* ---- inside tags ---- */

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_name(char c) {
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           c == '_' || (unsigned char)c >= 0x80;
}

static size_t digits(const struct jlex *l, size_t at) {
    while (at < l->len &&
           (is_digit(l->src[at]) ||
            (l->src[at] == '_' && at + 1 < l->len && is_digit(l->src[at + 1]))))
        at++;
    return at;
}

/* Where the float at `at` ends, 0 = it is none. */
static size_t float_end(const struct jlex *l, size_t at) {
    size_t whole = digits(l, at), end = whole;
    if (end + 1 < l->len && l->src[end] == '.' && is_digit(l->src[end + 1]))
        end = digits(l, end + 1);
    size_t e = end;
    if (e < l->len && (l->src[e] == 'e' || l->src[e] == 'E')) {
        e++;
        e += e < l->len && (l->src[e] == '+' || l->src[e] == '-');
        if (e < l->len && is_digit(l->src[e]))
            end = digits(l, e);
    }
    return end > whole ? end : 0;
}

static size_t int_end(const struct jlex *l, size_t at, int *base) {
    static const char *const allowed[] = {
        [2] = "01_", [8] = "01234567_", [16] = "0123456789abcdefABCDEF_"};
    char x = at + 1 < l->len ? (char)(l->src[at + 1] | 0x20) : 0;
    *base = l->src[at] != '0' ? 10
            : x == 'x'        ? 16
            : x == 'o'        ? 8
            : x == 'b'        ? 2
                              : 10;
    if (*base == 10)
        return digits(l, at);
    size_t end = at + 2;
    while (end < l->len && l->src[end] && strchr(allowed[*base], l->src[end]))
        end++;
    return end;
}

static int lex_number(struct jlex *l) {
    char text[64];
    int base = 10;
    bool after_dot = l->at > 0 && l->src[l->at - 1] == '.';
    size_t fend = after_dot ? 0 : float_end(l, l->at), n = 0;
    size_t end = fend ? fend : int_end(l, l->at, &base);
    struct jtoken *t = lex_push(l, fend ? T_FLOAT : T_INT);
    if (!t)
        return -1;
    for (size_t i = l->at + (base == 10 ? 0 : 2); i < end; i++)
        if (l->src[i] != '_' && n + 1 < sizeof text)
            text[n++] = l->src[i];
    text[n] = 0;
    if (n == 0 || n + 1 == sizeof text)
        return lex_fail(l, "a number that cannot be read");
    char *stop;
    unsigned long long u = fend ? 0 : strtoull(text, &stop, base);
    t->f = fend ? strtod(text, NULL) : 0;
    t->i = (int64_t)u;
    if (u > INT64_MAX)
        return lex_fail(l, "an integer beyond 64 bits");
    lex_move(l, end);
    return 0;
}

static int hex_digits(const char *p, size_t n, size_t want, uint32_t *v) {
    *v = 0;
    if (n < want)
        return -1;
    for (size_t i = 0; i < want; i++) {
        char c = p[i] | 0x20;
        int d = is_digit(p[i])         ? p[i] - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                       : -1;
        if (d < 0)
            return -1;
        *v = *v << 4 | (uint32_t)d;
    }
    return 0;
}

/* Length of the escape at p (behind its backslash); what it says at out. 0: it
 * is none, the backslash stays; -1: a broken one. */
static int unescape(const char *p, size_t n, char *out, int *out_n) {
    static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
    const char *at = *p ? strchr(from, *p) : NULL;
    uint32_t v = 0;
    *out_n = 1;
    if (at) {
        *out = to[at - from];
        return 1;
    }
    if (*p == '\n') {
        *out_n = 0;
        return 1;
    }
    if (*p >= '0' && *p <= '7') {
        int k = 0;
        for (; k < 3 && (size_t)k < n && p[k] >= '0' && p[k] <= '7'; k++)
            v = v << 3 | (uint32_t)(p[k] - '0');
        *out_n = utf8_put(v, out);
        return k;
    }
    size_t want = *p == 'x' ? 2 : *p == 'u' ? 4 : *p == 'U' ? 8 : 0;
    if (want == 0)
        return *p == 'N' ? -1 : 0;
    if (hex_digits(p + 1, n - 1, want, &v) < 0 || v > 0x10ffff ||
        (v >= 0xd800 && v < 0xe000))
        return -1;
    *out_n = utf8_put(v, out);
    return (int)want + 1;
}

static int lex_string(struct jlex *l) {
    char quote = l->src[l->at];
    size_t from = l->at + 1, end = from, n = 0;
    while (end < l->len && l->src[end] != quote)
        end += l->src[end] == '\\' ? 2 : 1;
    if (end >= l->len)
        return lex_fail(l, "a string without an end");
    /* an escape is never shorter than what it says */
    char *s = arena_get(l->mem, end - from + 1);
    if (!s)
        return lex_fail(l, "the template is too big");
    for (size_t i = from; i < end;) {
        int k = 0, out_n = 0;
        if (l->src[i] == '\\')
            k = unescape(l->src + i + 1, end - i - 1, s + n, &out_n);
        if (k < 0)
            return lex_fail(l, "a string with a broken escape");
        if (k > 0) {
            n += (size_t)out_n;
            i += (size_t)k + 1;
        } else {
            s[n++] = l->src[i++];
        }
    }
    if (lex_push_str(l, T_STR, s, n) < 0)
        return -1;
    lex_move(l, end + 1);
    return 0;
}

static int lex_bracket(struct jlex *l, char c) {
    static const char open[] = "([{", close[] = ")]}";
    const char *o = strchr(open, c);
    if (o && l->n_close == (int)sizeof l->close)
        return lex_fail(l, "brackets nest too deep");
    if (o)
        l->close[l->n_close++] = close[o - open];
    else if (strchr(close, c) &&
             (l->n_close == 0 || l->close[--l->n_close] != c))
        return lex_fail(l, "a bracket that closes nothing");
    return 0;
}

static int lex_op(struct jlex *l) {
    static const char *const two[] = {"//", "**", "==", "!=", ">=", "<="};
    static const char one[] = "+-/*%~[](){}><=.:|,;";
    size_t n = 0;
    for (size_t i = 0; i < sizeof two / sizeof *two; i++)
        if (lex_at(l, l->at, two[i]))
            n = 2;
    if (n == 0 && l->src[l->at] && strchr(one, l->src[l->at]))
        n = 1;
    if (n == 0)
        return lex_fail(l, "a character that no expression has");
    struct jtoken *t = lex_push(l, T_OP);
    if (!t)
        return -1;
    memcpy(t->op, l->src + l->at, n);
    if (n == 1 && lex_bracket(l, l->src[l->at]) < 0)
        return -1;
    l->at += n;
    return 0;
}

/* From behind the opening to behind the end of a tag. */
static int lex_inside(struct jlex *l, const char *close, enum jtok end_type) {
    l->n_close = 0;
    for (;;) {
        size_t end;
        lex_move(l, skip_space(l, l->at));
        if (l->at >= l->len)
            return lex_fail(l, "a tag without an end");
        end = l->n_close ? 0 : tag_end(l, l->at, close, end_type == T_TAG_END);
        if (end) {
            if (!lex_push(l, end_type))
                return -1;
            lex_move(l, end);
            return 0;
        }
        char c = l->src[l->at];
        int rc;
        if (is_digit(c)) {
            rc = lex_number(l);
        } else if (is_name(c)) {
            size_t from = l->at;
            while (l->at < l->len && is_name(l->src[l->at]))
                l->at++;
            rc = lex_push_str(l, T_NAME, l->src + from, l->at - from);
        } else if (c == '"' || c == '\'') {
            rc = lex_string(l);
        } else {
            rc = lex_op(l);
        }
        if (rc < 0)
            return -1;
    }
}

/* ---- the whole ---- */

static int lex_tag(struct jlex *l, size_t from, size_t at) {
    char sign, kind = l->src[at + 1];
    size_t raw = bare_tag(l, at, "raw", false, &sign);
    if (!raw)
        sign =
            at + 2 < l->len && (l->src[at + 2] == '-' || l->src[at + 2] == '+')
                ? l->src[at + 2]
                : 0;
    if (lex_data(l, from, at - from, sign, kind != '{') < 0)
        return -1;
    lex_move(l, at);
    if (raw)
        return lex_raw(l, raw);
    if (kind == '#')
        return lex_comment(l, at + 2 + (sign != 0));
    if (!lex_push(l, kind == '{' ? T_PRINT_BEGIN : T_TAG_BEGIN))
        return -1;
    lex_move(l, at + 2 + (sign != 0));
    return kind == '{' ? lex_inside(l, "}}", T_PRINT_END)
                       : lex_inside(l, "%}", T_TAG_END);
}

int jinja_lex(struct jlex *l, const char *src, size_t len) {
    l->src = src;
    l->len = len;
    l->line = 1;
    l->at_line_start = true;
    while (l->at < len) {
        size_t from = l->at, at = next_tag(l);
        if (at >= len) {
            if (lex_push_str(l, T_DATA, src + from, len - from) < 0)
                return -1;
            lex_move(l, len);
            break;
        }
        if (lex_tag(l, from, at) < 0)
            return -1;
        l->at_line_start = l->at > 0 && src[l->at - 1] == '\n';
    }
    return lex_push(l, T_END) ? 0 : -1;
}
