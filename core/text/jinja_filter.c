/* jinja_filter: filters, tests and functions, a table of each. */
#include "core/text/jinja_int.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool given(const struct jval *v) { return v->kind != J_MISSING; }
static bool flag(const struct jval *v, bool dflt) {
    return given(v) ? jv_true(v) : dflt;
}

static int64_t int_of(struct vm *m, const struct jval *v, int64_t dflt) {
    return given(v) ? jv_count(m, v) : dflt;
}

static const struct jval *keyword(const struct jargs *all, const char *name) {
    for (int i = 0; i < all->n_kw; i++)
        if (strcmp(all->kw[i].name, name) == 0)
            return &all->kw[i].val;
    return NULL;
}

/* A stream of the items that l will hold. */
static struct jval stream(struct vm *m, size_t cap) {
    return jv_list(m, SEQ_STREAM, cap);
}

static void push(struct vm *m, struct jval list, struct jval v) {
    if (list.kind == J_LIST)
        jlist_push(m, list.u.l, v);
}

/* ---- attributes of items: "a.b.0" ---- */

static struct jval attr_part(struct vm *m, struct jval v, const char *p,
                             size_t n) {
    int64_t i = 0;
    bool digits = n > 0 && n < 10;
    for (size_t k = 0; k < n; k++) {
        digits = digits && p[k] >= '0' && p[k] <= '9';
        i = digits ? i * 10 + (p[k] - '0') : 0;
    }
    struct jstr *s = vm_get(m, sizeof *s);
    if (!s)
        return jv_undef(NULL);
    *s = (struct jstr){.p = p, .len = n};
    return get_item(m, v, digits ? jv_int(i) : jv_of(s));
}

static struct jval attr_path(struct vm *m, struct jval v, struct jval path) {
    if (path.kind == J_INT)
        return get_item(m, v, path);
    const struct jstr *s = jv_str(m, path);
    for (size_t at = 0; at <= s->len && vm_step(m, 1);) {
        const char *dot = memchr(s->p + at, '.', s->len - at);
        size_t end = dot ? (size_t)(dot - s->p) : s->len;
        v = attr_part(m, v, s->p + at, end - at);
        at = end + 1;
    }
    return v;
}

static struct jval item_key(struct vm *m, struct jval v,
                            const struct jval *path, bool fold) {
    if (path && given(path) && path->kind != J_NONE)
        v = attr_path(m, v, *path);
    return fold && v.kind == J_STR ? str_case(m, v.u.s, 'l') : v;
}

/* A fresh list of an iterable's items. */
static struct jval items_of(struct vm *m, struct jval v) {
    const struct jlist *l = jv_iter(m, v);
    struct jval r = jv_list(m, SEQ_LIST, l ? l->n : 0);
    for (size_t i = 0; l && r.kind == J_LIST && i < l->n && vm_step(m, 0); i++)
        jlist_push(m, r.u.l, l->v[i]);
    return r;
}

/* ---- texts ---- */

JFN(f_trim) {
    const struct jstr *s = jv_str(m, v);
    bool any = !given(&a[0]) || a[0].kind == J_NONE;
    return str_strip(m, s, any ? NULL : jv_str(m, a[0]), true, true);
}
JFN(f_upper) { return str_case(m, jv_str(m, v), 'u'); }
JFN(f_lower) { return str_case(m, jv_str(m, v), 'l'); }
JFN(f_capitalize) { return str_case(m, jv_str(m, v), 'c'); }

/* Words part at white space, - and opening brackets. */
JFN(f_title) {
    const struct jstr *s = jv_str(m, v);
    struct jbuf b = {0};
    size_t k;
    for (size_t i = 0; i < s->len && vm_step(m, 1);) {
        size_t from = i;
        for (; i < s->len; i += k) {
            uint32_t c = utf8_get(s->p + i, s->len - i, &k);
            if (uni_space(c) || (c < 0x80 && c && strchr("-({[<", (int)c)))
                break;
        }
        struct jval word = str_slice(m, s, from, i - from);
        if (word.kind == J_STR)
            put_str(m, &b, str_case(m, word.u.s, 'c'));
        if (i < s->len)
            jbuf_put(m, &b, s->p + i, k, str_mark(s, i));
        i += i < s->len ? k : 0;
    }
    return jbuf_take(m, &b);
}

JFN(f_string) { return v.kind == J_STR ? v : jv_of(jv_str(m, v)); }

JFN(f_safe) { return str_safe(m, jv_str(m, v)); }
JFN(f_escape) { return str_escape(m, jv_str(m, v)); }

JFN(f_replace) {
    return str_replace(m, jv_str(m, v), jv_str(m, a[0]), jv_str(m, a[1]),
                       a[2].kind == J_NONE ? -1 : int_of(m, &a[2], -1));
}

JFN(f_join) {
    const struct jlist *l = jv_iter(m, v);
    struct jbuf b = {0};
    for (size_t i = 0; l && i < l->n; i++) {
        if (i && given(&a[0]))
            put_str(m, &b, a[0]);
        put_str(m, &b, item_key(m, l->v[i], &a[1], false));
    }
    return jbuf_take(m, &b);
}

/* Lines of s with the indentation before all but the first (and the blank). */
JFN(f_indent) {
    static const struct jstr newline = {.p = "\n", .len = 1};
    struct jval four = jv_int(4);
    const struct jval *width = given(&a[0]) ? &a[0] : &four;
    struct jbuf b = {0}, whole = {0};
    struct jval pad = jv_text(m, "");
    if (width->kind == J_STR)
        pad = *width;
    else if (pad.kind == J_STR)
        pad = str_fill(m, pad.u.s, int_of(m, width, 4),
                       &(struct jval){.kind = J_MISSING}, 'l');
    if (v.kind != J_STR)
        return vm_fail(m, "indent: a text is wanted, not %s", jv_type(&v));
    jbuf_str(m, &whole, v.u.s);
    jbuf_str(m, &whole, &newline);
    struct jval text = jbuf_take(m, &whole);
    struct jval lines =
        text.kind == J_STR ? str_lines(m, text.u.s, false) : text;
    for (size_t i = 0; lines.kind == J_LIST && i < lines.u.l->n; i++) {
        const struct jstr *s = jv_str(m, lines.u.l->v[i]);
        if (i)
            jbuf_str(m, &b, &newline);
        if (i ? s->len || flag(&a[2], false) : flag(&a[1], false))
            put_str(m, &b, pad);
        jbuf_str(m, &b, s);
    }
    return jbuf_take(m, &b);
}

JFN(f_center) {
    return str_fill(m, jv_str(m, v), int_of(m, &a[0], 80),
                    &(struct jval){.kind = J_MISSING}, 'c');
}

JFN(f_format) {
    struct jval tuple = jv_list(m, SEQ_TUPLE, (size_t)all->n);
    for (int i = 0; i < all->n; i++)
        push(m, tuple, all->v[i]);
    if (all->n_kw && !all->n) {
        tuple = jv_dict(m);
        for (int i = 0; tuple.kind == J_DICT && i < all->n_kw; i++)
            jdict_put(m, tuple.u.d, jv_text(m, all->kw[i].name),
                      all->kw[i].val);
    }
    return m->failed ? tuple : str_percent(m, jv_str(m, v), tuple);
}

JFN(f_truncate) {
    if (jv_len(m, v) <= int_of(m, &a[0], 255) + int_of(m, &a[3], 5))
        return v;
    if (v.kind != J_STR)
        return vm_fail(m, "truncate: a text is wanted, not %s", jv_type(&v));
    const struct jstr *s = jv_str(m, v);
    int64_t length = int_of(m, &a[0], 255);
    struct jval dots = given(&a[2]) ? a[2] : jv_text(m, "...");
    const struct jstr *end = jv_str(m, dots);
    int64_t keep = length - (int64_t)utf8_count(end->p, end->len);
    size_t at = 0, k;
    struct jbuf b = {0};
    for (int64_t i = 0; i < keep && at < s->len; i++) {
        utf8_get(s->p + at, s->len - at, &k);
        at += k;
    }
    if (!flag(&a[1], false)) { /* back to the last space */
        const char *space = memrchr(s->p, ' ', at);
        at = space ? (size_t)(space - s->p) : at;
    }
    struct jval head = str_slice(m, s, 0, at);
    put_str(m, &b, head);
    jbuf_str(m, &b, end);
    return jbuf_take(m, &b);
}

/* whole: / is written like any other, and a space as +. */
static void put_url(struct vm *m, struct jbuf *b, struct jval v, bool whole) {
    static const char hex[] = "0123456789ABCDEF";
    const struct jstr *s = jv_str(m, v);
    for (size_t i = 0; i < s->len; i++) {
        unsigned char c = (unsigned char)s->p[i];
        bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
                     (c >= 'A' && c <= 'Z') || (c && strchr("_.-~", c)) ||
                     (c == '/' && !whole);
        char e[3] = {'%', hex[c >> 4], hex[c & 15]};
        if (plain)
            jbuf_put(m, b, s->p + i, 1, str_mark(s, i));
        else if (c == ' ' && whole)
            jbuf_put(m, b, "+", 1, str_mark(s, i));
        else
            jbuf_put(m, b, e, 3, str_mark(s, i));
    }
}

static void put_query(struct vm *m, struct jbuf *b, struct jval key,
                      struct jval v) {
    if (b->len > 0)
        jbuf_put(m, b, "&", 1, 0);
    put_url(m, b, key, true);
    jbuf_put(m, b, "=", 1, 0);
    put_url(m, b, v, true);
}

/* Names and values of a query, from a dict or a list of pairs. */
static struct jval url_query(struct vm *m, struct jval v) {
    struct jbuf b = {0};
    for (size_t i = 0; v.kind == J_DICT && i < v.u.d->n; i++)
        put_query(m, &b, v.u.d->p[i].key, v.u.d->p[i].val);
    const struct jlist *l = v.kind == J_DICT ? NULL : jv_iter(m, v);
    for (size_t i = 0; l && i < l->n && vm_step(m, 1); i++) {
        const struct jlist *pair = jv_iter(m, l->v[i]);
        if (!pair)
            break;
        if (pair->n != 2)
            return vm_fail(m, "urlencode: pairs of name and value are wanted");
        put_query(m, &b, pair->v[0], pair->v[1]);
    }
    return jbuf_take(m, &b);
}

JFN(f_urlencode) {
    struct jbuf b = {0};
    if (v.kind == J_LIST || v.kind == J_DICT || v.kind == J_UNDEF)
        return url_query(m, v);
    put_url(m, &b, v, false);
    return jbuf_take(m, &b);
}

JFN(f_tojson) {
    struct json_style s = {
        .indent = -1, .ascii = flag(&a[0], false), .sort = flag(&a[3], false)};
    struct jbuf b = {0};
    if (a[1].kind == J_STR)
        s.indent_text = a[1].u.s;
    else if (given(&a[1]) && a[1].kind != J_NONE)
        s.indent = (int)(int_of(m, &a[1], 0) & 0xff);
    const struct jlist *l =
        given(&a[2]) && a[2].kind != J_NONE ? jv_iter(m, a[2]) : NULL;
    if (l && l->n != 2)
        vm_fail(m, "tojson: separators are two texts");
    if (l && l->n == 2) {
        s.comma = jv_str(m, l->v[0]);
        s.colon = jv_str(m, l->v[1]);
    }
    put_json(m, &b, v, &s, 0);
    return jbuf_take(m, &b);
}

/* ---- numbers ---- */

JFN(f_abs) {
    double d;
    if (v.kind == J_FLOAT)
        return jv_float(fabs(v.u.f));
    if (!jv_number(&v, &d))
        return vm_fail(m, "bad operand type for abs(): '%s'", jv_type(&v));
    return v.kind == J_INT && v.u.i < 0 && v.u.i != INT64_MIN ? jv_int(-v.u.i)
           : v.kind == J_BOOL                                 ? jv_int(v.u.b)
                                                              : v;
}

/* The number that all of s is; false when it is none. */
static bool read_int(struct vm *m, const struct jstr *s, int base,
                     int64_t *out) {
    char text[80], *end;
    const struct jstr *t = jv_str(m, str_strip(m, s, NULL, true, true));
    if (t->len == 0 || t->len >= sizeof text || memchr(t->p, 0, t->len))
        return false;
    memcpy(text, t->p, t->len);
    text[t->len] = 0;
    errno = 0;
    *out = strtoll(text, &end, base);
    return *end == 0 && errno == 0 && !uni_space((unsigned char)text[0]);
}

static bool read_float(struct vm *m, const struct jstr *s, double *out) {
    char text[400], *end;
    const struct jstr *t = jv_str(m, str_strip(m, s, NULL, true, true));
    if (t->len == 0 || t->len >= sizeof text || memchr(t->p, 0, t->len) ||
        memchr(t->p, 'x', t->len) || memchr(t->p, 'X', t->len) ||
        memchr(t->p, '(', t->len))
        return false;
    memcpy(text, t->p, t->len);
    text[t->len] = 0;
    *out = strtod(text, &end);
    return *end == 0;
}

JFN(f_int) {
    double d = 0;
    int64_t i;
    struct jval dflt = given(&a[0]) ? a[0] : jv_int(0);
    int base = (int)int_of(m, &a[1], 10);
    if (v.kind == J_STR && base >= 0 && base != 1 && base <= 36 &&
        read_int(m, v.u.s, base, &i))
        return jv_int(i);
    if (v.kind == J_INT)
        return v;
    if (v.kind == J_UNDEF)
        return jv_binary(m, OP_ADD, v, v); /* fails by its name */
    if (!(v.kind == J_STR ? read_float(m, v.u.s, &d) : jv_number(&v, &d)))
        return dflt;
    if (isnan(d) || (isinf(d) && v.kind == J_STR))
        return dflt;
    if (!(d > -9.2e18 && d < 9.2e18))
        return vm_fail(m, "an integer beyond 64 bits");
    return jv_int((int64_t)d);
}

JFN(f_float) {
    double d = 0;
    if (v.kind == J_UNDEF)
        return jv_binary(m, OP_ADD, v, v); /* fails by its name */
    bool ok = v.kind == J_STR ? read_float(m, v.u.s, &d) : jv_number(&v, &d);
    return ok ? jv_float(d) : given(&a[0]) ? a[0] : jv_float(0);
}

/* Half to even, on the decimal digits. */
static double round_to(double d, int64_t precision) {
    char text[400];
    double scale = pow(10, (double)-precision);
    if (precision < 0)
        return nearbyint(d / scale) * scale;
    snprintf(text, sizeof text, "%.*f", precision > 60 ? 60 : (int)precision,
             d);
    return strtod(text, NULL);
}

JFN(f_round) {
    double d = 0;
    int64_t precision = int_of(m, &a[0], 0);
    const struct jstr *how = given(&a[1]) ? jv_str(m, a[1]) : NULL;
    if (!jv_number(&v, &d))
        return vm_fail(m, "type %s has no rounding", jv_type(&v));
    double scale = pow(10, (double)precision);
    if (how && str_eq(how, "ceil"))
        return jv_float(ceil(d * scale) / scale);
    if (how && str_eq(how, "floor"))
        return jv_float(floor(d * scale) / scale);
    if (how && !str_eq(how, "common"))
        return vm_fail(m, "round: method must be common, ceil or floor");
    if (v.kind != J_FLOAT && precision >= 0)
        return jv_int((int64_t)d);
    return v.kind == J_FLOAT
               ? jv_float(fabs(d) > 1e22 ? d : round_to(d, precision))
               : jv_int((int64_t)round_to(d, precision));
}

/* ---- defaults, parts of lists ---- */

JFN(f_default) {
    bool take = v.kind == J_UNDEF || v.kind == J_MISSING ||
                (flag(&a[1], false) && !jv_true(&v));
    if (!take)
        return v;
    return given(&a[0]) ? a[0] : jv_text(m, "");
}

JFN(f_length) { return jv_int(jv_len(m, v)); }
JFN(f_list) { return items_of(m, v); }

JFN(f_first) {
    if (v.kind == J_LIST && v.u.l->seq == SEQ_STREAM)
        return v.u.l->at < v.u.l->n ? v.u.l->v[v.u.l->at++] : jv_undef(NULL);
    const struct jlist *l = jv_iter(m, v);
    return l && l->n ? l->v[0] : jv_undef(NULL);
}
JFN(f_last) {
    if (v.kind == J_LIST && v.u.l->seq == SEQ_STREAM)
        return vm_fail(m, "a generator is not reversible");
    const struct jlist *l = jv_iter(m, v);
    return l && l->n ? l->v[l->n - 1] : jv_undef(NULL);
}

JFN(f_reverse) {
    struct jval r = items_of(m, v);
    struct jbuf b = {0};
    if (r.kind != J_LIST)
        return r;
    for (size_t i = 0; i < r.u.l->n / 2; i++) {
        struct jval t = r.u.l->v[i];
        r.u.l->v[i] = r.u.l->v[r.u.l->n - 1 - i];
        r.u.l->v[r.u.l->n - 1 - i] = t;
    }
    r.u.l->seq = SEQ_STREAM;
    if (v.kind != J_STR)
        return r;
    for (size_t i = 0; i < r.u.l->n; i++)
        put_str(m, &b, r.u.l->v[i]);
    return jbuf_take(m, &b);
}

JFN(f_items) {
    if (v.kind == J_UNDEF)
        return stream(m, 0);
    bool denied;
    if (v.kind != J_DICT)
        return vm_fail(m, "items: can only get item pairs from a mapping");
    struct jval r = fn_apply(m, method_find(&v, "items", 5, &denied), v, all);
    if (r.kind == J_LIST)
        r.u.l->seq = SEQ_STREAM;
    return r;
}

JFN(f_attr) {
    bool denied;
    const struct jstr *name = jv_str(m, a[0]);
    if (v.kind == J_DICT && !method_find(&v, name->p, name->len, &denied))
        return jv_undef(name);
    return get_attr(m, v, name);
}

JFN(f_batch) {
    const struct jlist *l = jv_iter(m, v);
    int64_t size = int_of(m, &a[0], 1);
    struct jval r = stream(m, 4), row = {.kind = J_MISSING};
    for (size_t i = 0; l && i < l->n && vm_step(m, 1); i++) {
        if (row.kind == J_LIST && (int64_t)row.u.l->n == size) {
            push(m, r, row);
            row.kind = J_MISSING;
        }
        if (row.kind != J_LIST)
            row = jv_list(m, SEQ_LIST, 4);
        push(m, row, l->v[i]);
    }
    if (row.kind != J_LIST)
        return r;
    while (given(&a[1]) && a[1].kind != J_NONE && (int64_t)row.u.l->n < size &&
           vm_step(m, 1))
        push(m, row, a[1]);
    push(m, r, row);
    return r;
}

JFN(f_slice) {
    struct jval items = items_of(m, v), r = stream(m, 4);
    int64_t slices = int_of(m, &a[0], 1), at = 0;
    if (slices <= 0 || items.kind != J_LIST)
        return vm_fail(m, "slice: a number above 0 is wanted");
    int64_t n = (int64_t)items.u.l->n, each = n / slices, more = n % slices;
    for (int64_t i = 0; i < slices && vm_step(m, 1); i++) {
        struct jval row = jv_list(m, SEQ_LIST, (size_t)each + 1);
        int64_t end = at + each + (i < more);
        for (; at < end && vm_step(m, 0); at++)
            push(m, row, items.u.l->v[at]);
        if (given(&a[1]) && a[1].kind != J_NONE && i >= more)
            push(m, row, a[1]);
        push(m, r, row);
    }
    return r;
}

/* ---- order ---- */

static struct jval keys_of(struct vm *m, struct jval items,
                           const struct jval *path, bool fold) {
    struct jval keys = jv_list(m, SEQ_LIST, 4);
    for (size_t i = 0;
         items.kind == J_LIST && i < items.u.l->n && vm_step(m, 1); i++)
        push(m, keys, item_key(m, items.u.l->v[i], path, fold));
    return keys;
}

JFN(f_sort) {
    struct jval items = items_of(m, v);
    struct jval keys = keys_of(m, items, &a[2], !flag(&a[1], false));
    if (!m->failed)
        jv_sort(m, items.u.l->v, keys.u.l->v, items.u.l->n, flag(&a[0], false));
    return items;
}

JFN(f_dictsort) {
    struct jval path =
        jv_int(given(&a[1]) && a[1].kind == J_STR && str_eq(a[1].u.s, "value"));
    if (v.kind != J_DICT)
        return vm_fail(m, "dictsort: '%s' object has no items", jv_type(&v));
    struct jval items = items_of(m, f_items(m, v, a, &(struct jargs){0}));
    struct jval keys = keys_of(m, items, &path, !flag(&a[0], false));
    if (!m->failed)
        jv_sort(m, items.u.l->v, keys.u.l->v, items.u.l->n, flag(&a[2], false));
    return items;
}

static struct jval extreme(struct vm *m, struct jval v, const struct jval *a,
                           int sign) {
    const struct jlist *l = jv_iter(m, v);
    struct jval best = jv_undef(NULL), key = best;
    for (size_t i = 0; l && i < l->n && vm_step(m, 1); i++) {
        struct jval k = item_key(m, l->v[i], &a[1], !flag(&a[0], false));
        if (i > 0 && jv_cmp(m, k, key) != sign)
            continue;
        best = l->v[i];
        key = k;
    }
    return best;
}
JFN(f_min) { return extreme(m, v, a, -1); }
JFN(f_max) { return extreme(m, v, a, 1); }

JFN(f_sum) {
    const struct jlist *l = jv_iter(m, v);
    struct jval r = given(&a[1]) ? a[1] : jv_int(0);
    for (size_t i = 0; l && i < l->n && vm_step(m, 1); i++)
        r = jv_binary(m, OP_ADD, r, item_key(m, l->v[i], &a[0], false));
    return r;
}

JFN(f_unique) {
    struct jval items = items_of(m, v), r = stream(m, 4);
    struct jval keys = keys_of(m, items, &a[1], !flag(&a[0], false));
    struct jval seen = jv_dict(m);
    for (size_t i = 0; !m->failed && i < items.u.l->n; i++) {
        struct jval k = keys.u.l->v[i];
        if (jdict_get(m, seen.u.d, k))
            continue;
        jdict_put(m, seen.u.d, k, jv_none());
        push(m, r, items.u.l->v[i]);
    }
    return r;
}

JFN(f_groupby) {
    struct jval items = items_of(m, v), r = jv_list(m, SEQ_LIST, 4);
    bool fold = !flag(&a[2], false);
    struct jval keys = keys_of(m, items, &a[0], fold), group = jv_none();
    for (size_t i = 0; !m->failed && given(&a[1]) && i < keys.u.l->n; i++)
        if (keys.u.l->v[i].kind == J_UNDEF)
            keys.u.l->v[i] = a[1];
    struct jval sorted = items_of(m, keys);
    if (m->failed)
        return r;
    jv_sort(m, items.u.l->v, keys.u.l->v, items.u.l->n, false);
    jv_sort(m, sorted.u.l->v, NULL, sorted.u.l->n, false);
    for (size_t i = 0; !m->failed && i < items.u.l->n; i++) {
        if (i == 0 || !jv_is(m, sorted.u.l->v[i], sorted.u.l->v[i - 1])) {
            struct jval pair = jv_list(m, SEQ_TUPLE, 2);
            group = jv_list(m, SEQ_LIST, 4);
            push(m, pair, item_key(m, items.u.l->v[i], &a[0], false));
            push(m, pair, group);
            push(m, r, pair);
        }
        push(m, group, items.u.l->v[i]);
    }
    return r;
}

/* ---- map, select and their like ---- */

/* Arguments without the first n. */
static struct jargs args_from(const struct jargs *all, int n) {
    struct jargs rest = *all;
    rest.v += n;
    rest.n -= n;
    return rest;
}

static struct jval map_attribute(struct vm *m, const struct jlist *l,
                                 const struct jval *path,
                                 const struct jval *dflt) {
    struct jval r = stream(m, l->n);
    for (size_t i = 0; i < l->n && vm_step(m, 1); i++) {
        struct jval v = attr_path(m, l->v[i], *path);
        push(m, r, v.kind == J_UNDEF && dflt ? *dflt : v);
    }
    return r;
}

JFN(f_map) {
    const struct jlist *l = jv_true(&v) ? jv_iter(m, v) : NULL;
    const struct jval *path = keyword(all, "attribute");
    if (!l) /* none of anything that is false */
        return stream(m, 0);
    if (all->n == 0 && path)
        return map_attribute(m, l, path, keyword(all, "default"));
    if (all->n == 0 || all->v[0].kind != J_STR)
        return vm_fail(m, "map requires a filter argument");
    struct jval name = all->v[0], r = stream(m, l->n);
    const struct jfn *fn = NULL;
    char *text = vm_get(m, name.u.s->len + 1);
    if (text) {
        memcpy(text, name.u.s->p, name.u.s->len);
        fn = filter_find(text);
    }
    if (!fn)
        return vm_fail(m, "no filter named '%s'", text ? text : "?");
    struct jargs rest = args_from(all, 1);
    for (size_t i = 0; i < l->n && vm_step(m, 1); i++)
        push(m, r, fn_apply(m, fn, l->v[i], &rest));
    return r;
}

/* Does an item pass the test that all names at `at` (true when none)? */
static bool passes(struct vm *m, struct jval v, const struct jargs *all, int at,
                   const struct jfn *fn) {
    if (all->n <= at)
        return jv_true(&v);
    struct jargs rest = args_from(all, at + 1);
    struct jval r = fn_apply(m, fn, v, &rest);
    return jv_true(&r);
}

static struct jval choose(struct vm *m, struct jval v, const struct jargs *all,
                          bool by_attr, bool want) {
    const struct jlist *l = jv_true(&v) ? jv_iter(m, v) : NULL;
    struct jval r = stream(m, 4);
    const struct jfn *fn = NULL;
    if (by_attr && all->n == 0)
        return vm_fail(m, "the name of an attribute is missing");
    if (all->n > by_attr) {
        const struct jstr *name = jv_str(m, all->v[by_attr]);
        char *text = vm_get(m, name->len + 1);
        if (text)
            fn = test_find(memcpy(text, name->p, name->len));
        if (!fn)
            return vm_fail(m, "no test named '%s'", text ? text : "?");
    }
    for (size_t i = 0; l && i < l->n && vm_step(m, 1); i++) {
        struct jval k = by_attr ? attr_path(m, l->v[i], all->v[0]) : l->v[i];
        if (passes(m, k, all, by_attr, fn) == want)
            push(m, r, l->v[i]);
    }
    return r;
}
JFN(f_select) { return choose(m, v, all, false, true); }
JFN(f_reject) { return choose(m, v, all, false, false); }
JFN(f_selectattr) { return choose(m, v, all, true, true); }
JFN(f_rejectattr) { return choose(m, v, all, true, false); }

static const struct jfn filters[] = {
    {"abs", f_abs, "", 0},
    {"attr", f_attr, "name", 1},
    {"batch", f_batch, "linecount fill_with", 1},
    {"capitalize", f_capitalize, "", 0},
    {"center", f_center, "width", 0},
    {"count", f_length, "", 0},
    {"d", f_default, "default_value boolean", 0},
    {"default", f_default, "default_value boolean", 0},
    {"dictsort", f_dictsort, "case_sensitive by reverse", 0},
    {"e", f_escape, "", 0},
    {"escape", f_escape, "", 0},
    {"first", f_first, "", 0},
    {"float", f_float, "default", 0},
    {"forceescape", f_escape, "", 0},
    {"format", f_format, NULL, 0},
    {"groupby", f_groupby, "attribute default case_sensitive", 1},
    {"indent", f_indent, "width first blank", 0},
    {"int", f_int, "default base", 0},
    {"items", f_items, "", 0},
    {"join", f_join, "d attribute", 0},
    {"last", f_last, "", 0},
    {"length", f_length, "", 0},
    {"list", f_list, "", 0},
    {"lower", f_lower, "", 0},
    {"map", f_map, NULL, 0},
    {"max", f_max, "case_sensitive attribute", 0},
    {"min", f_min, "case_sensitive attribute", 0},
    {"reject", f_reject, NULL, 0},
    {"rejectattr", f_rejectattr, NULL, 0},
    {"replace", f_replace, "old new count", 2},
    {"reverse", f_reverse, "", 0},
    {"round", f_round, "precision method", 0},
    {"safe", f_safe, "", 0},
    {"select", f_select, NULL, 0},
    {"selectattr", f_selectattr, NULL, 0},
    {"slice", f_slice, "slices fill_with", 1},
    {"sort", f_sort, "reverse case_sensitive attribute", 0},
    {"string", f_string, "", 0},
    {"sum", f_sum, "attribute start", 0},
    {"title", f_title, "", 0},
    {"tojson", f_tojson, "ensure_ascii indent separators sort_keys", 0},
    {"trim", f_trim, "chars", 0},
    {"truncate", f_truncate, "length killwords end leeway", 0},
    {"unique", f_unique, "case_sensitive attribute", 0},
    {"upper", f_upper, "", 0},
    {"urlencode", f_urlencode, "", 0},
    {NULL},
};

/* ---- tests ---- */

JFN(t_defined) { return jv_bool(v.kind != J_UNDEF && v.kind != J_MISSING); }
JFN(t_undefined) { return jv_bool(v.kind == J_UNDEF || v.kind == J_MISSING); }
JFN(t_none) { return jv_bool(v.kind == J_NONE); }
JFN(t_boolean) { return jv_bool(v.kind == J_BOOL); }
JFN(t_true) { return jv_bool(v.kind == J_BOOL && v.u.b); }
JFN(t_false) { return jv_bool(v.kind == J_BOOL && !v.u.b); }
JFN(t_integer) { return jv_bool(v.kind == J_INT); }
JFN(t_float) { return jv_bool(v.kind == J_FLOAT); }
JFN(t_string) { return jv_bool(v.kind == J_STR); }
JFN(t_mapping) { return jv_bool(v.kind == J_DICT); }
JFN(t_escaped) { return jv_bool(v.kind == J_STR && v.u.s->is_safe); }
JFN(t_number) {
    double d;
    return jv_bool(jv_number(&v, &d));
}
JFN(t_sequence) {
    return jv_bool(v.kind == J_STR || v.kind == J_DICT || v.kind == J_UNDEF ||
                   (v.kind == J_LIST && v.u.l->seq <= SEQ_RANGE));
}
JFN(t_iterable) {
    return jv_bool(v.kind == J_STR || v.kind == J_DICT || v.kind == J_UNDEF ||
                   v.kind == J_LIST || v.kind == J_LOOP);
}
JFN(t_callable) {
    return jv_bool(v.kind == J_MACRO || v.kind == J_FN || v.kind == J_BOUND ||
                   v.kind == J_UNDEF || v.kind == J_LOOP);
}
JFN(t_lower) { return jv_bool(str_one_case(jv_str(m, v), false)); }
JFN(t_upper) { return jv_bool(str_one_case(jv_str(m, v), true)); }

static struct jval modulo_is(struct vm *m, struct jval v, struct jval by,
                             int64_t want) {
    return jv_bool(jv_is(m, jv_binary(m, OP_MOD, v, by), jv_int(want)));
}
JFN(t_odd) { return modulo_is(m, v, jv_int(2), 1); }
JFN(t_even) { return modulo_is(m, v, jv_int(2), 0); }
JFN(t_divisibleby) { return modulo_is(m, v, a[0], 0); }

JFN(t_in) { return jv_bool(jv_in(m, v, a[0])); }
JFN(t_eq) { return jv_bool(jv_is(m, v, a[0])); }
JFN(t_ne) { return jv_bool(!jv_is(m, v, a[0])); }
JFN(t_lt) { return jv_bool(jv_cmp(m, v, a[0]) < 0); }
JFN(t_le) { return jv_bool(jv_cmp(m, v, a[0]) <= 0); }
JFN(t_gt) { return jv_bool(jv_cmp(m, v, a[0]) == 1); }
JFN(t_ge) { return jv_bool((unsigned)jv_cmp(m, v, a[0]) < 2); }

/* One and the same object: of small values, equal and of one type. */
JFN(t_sameas) {
    return jv_bool(v.kind == a[0].kind &&
                   (v.kind == J_LIST || v.kind == J_DICT ? v.u.d == a[0].u.d
                                                         : jv_is(m, v, a[0])));
}

static const struct jfn tests[] = {
    {"!=", t_ne, "other", 1},        {"<", t_lt, "other", 1},
    {"<=", t_le, "other", 1},        {"==", t_eq, "other", 1},
    {">", t_gt, "other", 1},         {">=", t_ge, "other", 1},
    {"boolean", t_boolean, "", 0},   {"callable", t_callable, "", 0},
    {"defined", t_defined, "", 0},   {"divisibleby", t_divisibleby, "num", 1},
    {"eq", t_eq, "other", 1},        {"equalto", t_eq, "other", 1},
    {"escaped", t_escaped, "", 0},   {"even", t_even, "", 0},
    {"false", t_false, "", 0},       {"float", t_float, "", 0},
    {"ge", t_ge, "other", 1},        {"greaterthan", t_gt, "other", 1},
    {"gt", t_gt, "other", 1},        {"in", t_in, "seq", 1},
    {"integer", t_integer, "", 0},   {"iterable", t_iterable, "", 0},
    {"le", t_le, "other", 1},        {"lessthan", t_lt, "other", 1},
    {"lower", t_lower, "", 0},       {"lt", t_lt, "other", 1},
    {"mapping", t_mapping, "", 0},   {"ne", t_ne, "other", 1},
    {"none", t_none, "", 0},         {"number", t_number, "", 0},
    {"odd", t_odd, "", 0},           {"sameas", t_sameas, "other", 1},
    {"sequence", t_sequence, "", 0}, {"string", t_string, "", 0},
    {"true", t_true, "", 0},         {"undefined", t_undefined, "", 0},
    {"upper", t_upper, "", 0},       {NULL},
};

/* ---- functions ---- */

#define RANGE_MAX 100000

JFN(g_range) {
    int64_t first = given(&a[1]) ? int_of(m, &a[0], 0) : 0;
    int64_t last = int_of(m, given(&a[1]) ? &a[1] : &a[0], 0);
    int64_t step = int_of(m, &a[2], 1), n = 0;
    if (step == 0)
        return vm_fail(m, "range() arg 3 must not be zero");
    double span = ((double)last - (double)first) / (double)step;
    if (span > RANGE_MAX)
        return vm_fail(m, "range too big: at most %d items", RANGE_MAX);
    n = span > 0 ? (int64_t)ceil(span) : 0;
    struct jval r = jv_list(m, SEQ_RANGE, (size_t)n);
    for (int64_t i = 0; i < n && vm_step(m, 0); i++)
        push(m, r, jv_int(first + i * step));
    if (r.kind == J_LIST) {
        r.u.l->first = first;
        r.u.l->last = last;
        r.u.l->step = step;
    }
    return r;
}

/* dict(mapping or pairs, key=value …) */
JFN(g_dict) {
    struct jval r = jv_dict(m);
    if (all->n > 1)
        return vm_fail(m, "dict expected at most 1 argument, got %d", all->n);
    if (all->n == 1 && all->v[0].kind == J_DICT) {
        const struct jdict *d = all->v[0].u.d;
        for (size_t i = 0; !m->failed && i < d->n; i++)
            jdict_put(m, r.u.d, d->p[i].key, d->p[i].val);
    } else if (all->n == 1) {
        const struct jlist *l = jv_iter(m, all->v[0]);
        for (size_t i = 0; l && !m->failed && i < l->n; i++) {
            const struct jlist *pair = jv_iter(m, l->v[i]);
            if (pair && pair->n != 2)
                vm_fail(m, "dict: a sequence of pairs is wanted");
            else if (pair)
                jdict_put(m, r.u.d, pair->v[0], pair->v[1]);
        }
    }
    for (int i = 0; !m->failed && i < all->n_kw; i++)
        jdict_put(m, r.u.d, jv_text(m, all->kw[i].name), all->kw[i].val);
    return r;
}

JFN(g_namespace) {
    struct jval r = g_dict(m, v, a, all);
    if (r.kind == J_DICT)
        r.kind = J_SPACE;
    return r;
}

JFN(g_raise_exception) {
    const struct jstr *s = jv_str(m, a[0]);
    return vm_fail(m, "the template refuses: %.*s",
                   (int)(s->len < 300 ? s->len : 300), s->p);
}
JFN(g_strftime_now) { return date_format(m, jv_str(m, a[0])); }

static const struct jfn globals[] = {
    {"dict", g_dict, NULL, 0},
    {"namespace", g_namespace, NULL, 0},
    {"raise_exception", g_raise_exception, "message", 1},
    {"range", g_range, "start stop step", 1},
    {"strftime_now", g_strftime_now, "format", 1},
    {NULL},
};

static const struct jfn *row_find(const struct jfn *t, const char *name) {
    for (; t->name; t++)
        if (strcmp(t->name, name) == 0)
            return t;
    return NULL;
}
const struct jfn *filter_find(const char *name) {
    return row_find(filters, name);
}
const struct jfn *test_find(const char *name) { return row_find(tests, name); }
const struct jfn *global_find(const char *name) {
    return row_find(globals, name);
}
