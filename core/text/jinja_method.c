/* jinja_method: methods of texts, dicts, lists and loops. */
#include "core/text/jinja_int.h"

#include <string.h>
#include <utf8proc.h>

static const struct jstr *text_of(struct vm *m, const struct jval *v,
                                  const char *what) {
    if (v->kind == J_STR)
        return v->u.s;
    vm_fail(m, "%s: a text is wanted, not %s", what, jv_type(v));
    return jv_str(m, jv_undef(NULL));
}

static const struct jstr *chars_of(struct vm *m, const struct jval *v) {
    return v->kind == J_MISSING || v->kind == J_NONE ? NULL
                                                     : text_of(m, v, "strip");
}

static int64_t int_or(struct vm *m, const struct jval *v, int64_t dflt) {
    return v->kind == J_MISSING || v->kind == J_NONE ? dflt : jv_count(m, v);
}

/* ---- str ---- */

JFN(s_strip) { return str_strip(m, v.u.s, chars_of(m, &a[0]), true, true); }
JFN(s_lstrip) { return str_strip(m, v.u.s, chars_of(m, &a[0]), true, false); }
JFN(s_rstrip) { return str_strip(m, v.u.s, chars_of(m, &a[0]), false, true); }
JFN(s_upper) { return str_case(m, v.u.s, 'u'); }
JFN(s_lower) { return str_case(m, v.u.s, 'l'); }
JFN(s_capitalize) { return str_case(m, v.u.s, 'c'); }
JFN(s_title) { return str_case(m, v.u.s, 't'); }

static void push_part(struct vm *m, struct jval list, const struct jstr *s,
                      size_t from, size_t to) {
    if (list.kind == J_LIST)
        jlist_push(m, list.u.l, str_slice(m, s, from, to - from));
}

/* Offset of the next white space (or of what is none) at or behind `at`. */
static size_t find_space(const struct jstr *s, size_t at, bool space) {
    size_t k;
    while (at < s->len &&
           uni_space(utf8_get(s->p + at, s->len - at, &k)) != space)
        at += k;
    return at;
}

static struct jval split_space(struct vm *m, const struct jstr *s,
                               int64_t max) {
    struct jval r = jv_list(m, SEQ_LIST, 4);
    size_t at = find_space(s, 0, false);
    while (at < s->len && vm_step(m, 1)) {
        if (max-- == 0) { /* the rest, without the space at its end */
            struct jval rest = str_slice(m, s, at, s->len - at);
            if (r.kind == J_LIST && rest.kind == J_STR)
                jlist_push(m, r.u.l, str_strip(m, rest.u.s, NULL, false, true));
            break;
        }
        size_t end = find_space(s, at, true);
        push_part(m, r, s, at, end);
        at = find_space(s, end, false);
    }
    return r;
}

JFN(s_split) {
    int64_t max = int_or(m, &a[1], -1);
    const struct jstr *s = v.u.s;
    if (a[0].kind == J_MISSING || a[0].kind == J_NONE)
        return split_space(m, s, max);
    const struct jstr *sep = text_of(m, &a[0], "split");
    struct jval r = jv_list(m, SEQ_LIST, 4);
    size_t at = 0;
    const char *hit;
    if (sep->len == 0)
        return vm_fail(m, "empty separator");
    while (max-- != 0 && (hit = str_find(s, at, sep)) && vm_step(m, 1)) {
        push_part(m, r, s, at, (size_t)(hit - s->p));
        at = (size_t)(hit - s->p) + sep->len;
    }
    push_part(m, r, s, at, s->len);
    return r;
}

/* The last hit of sep in s[0..end), or NULL. */
static const char *find_last(const struct jstr *s, size_t end,
                             const struct jstr *sep) {
    for (size_t i = end; i + 1 > sep->len; i--)
        if (memcmp(s->p + i - sep->len, sep->p, sep->len) == 0)
            return s->p + i - sep->len;
    return NULL;
}

static void reverse(struct jlist *l) {
    for (size_t i = 0; i < l->n / 2; i++) {
        struct jval t = l->v[i];
        l->v[i] = l->v[l->n - 1 - i];
        l->v[l->n - 1 - i] = t;
    }
}

/* The white space around the last word of s[0..*end): where the word begins;
 * *end becomes its end. */
static size_t last_word(const struct jstr *s, size_t *end) {
    size_t word = *end, at, k;
    bool in_word = false;
    for (at = *end; at > 0;) {
        size_t c = at - 1;
        while (c > 0 && ((unsigned char)s->p[c] & 0xc0) == 0x80)
            c--;
        bool space = uni_space(utf8_get(s->p + c, at - c, &k));
        if (space && in_word)
            break;
        if (!space && !in_word)
            word = at;
        in_word = in_word || !space;
        at = c;
    }
    *end = in_word ? word : 0;
    return at;
}

static struct jval rsplit_space(struct vm *m, const struct jstr *s,
                                int64_t max) {
    struct jval r = jv_list(m, SEQ_LIST, 4);
    size_t end = s->len;
    while (r.kind == J_LIST && vm_step(m, 1)) {
        size_t stop = end, from = last_word(s, &stop);
        if (stop == 0)
            break;
        if (max-- == 0) {
            size_t first = find_space(s, 0, false);
            push_part(m, r, s, first, stop);
            break;
        }
        push_part(m, r, s, from, stop);
        end = from;
    }
    if (r.kind == J_LIST)
        reverse(r.u.l);
    return r;
}

JFN(s_rsplit) {
    int64_t max = int_or(m, &a[1], -1);
    const struct jstr *s = v.u.s;
    if (a[0].kind == J_MISSING || a[0].kind == J_NONE)
        return rsplit_space(m, s, max);
    const struct jstr *sep = text_of(m, &a[0], "rsplit");
    struct jval r = jv_list(m, SEQ_LIST, 4);
    size_t end = s->len;
    const char *hit;
    if (sep->len == 0)
        return vm_fail(m, "empty separator");
    while (max-- != 0 && (hit = find_last(s, end, sep)) && vm_step(m, 1)) {
        push_part(m, r, s, (size_t)(hit - s->p) + sep->len, end);
        end = (size_t)(hit - s->p);
    }
    push_part(m, r, s, 0, end);
    if (r.kind == J_LIST)
        reverse(r.u.l);
    return r;
}

/* Bytes of the line end at i, 0 = none. */
static size_t line_end(const struct jstr *s, size_t i) {
    size_t k;
    if (s->p[i] == '\r')
        return i + 1 < s->len && s->p[i + 1] == '\n' ? 2 : 1;
    uint32_t c = utf8_get(s->p + i, s->len - i, &k);
    bool yes = (c >= 10 && c <= 12) || (c >= 0x1c && c <= 0x1e) || c == 0x85 ||
               c == 0x2028 || c == 0x2029;
    return yes ? k : 0;
}

struct jval str_lines(struct vm *m, const struct jstr *s, bool keep) {
    struct jval r = jv_list(m, SEQ_LIST, 4);
    size_t from = 0;
    for (size_t i = 0; i < s->len && vm_step(m, 0);) {
        size_t k = line_end(s, i);
        if (k) {
            push_part(m, r, s, from, keep ? i + k : i);
            from = i + k;
        }
        i += k ? k : 1;
    }
    if (from < s->len)
        push_part(m, r, s, from, s->len);
    return r;
}
JFN(s_splitlines) {
    return str_lines(m, v.u.s, a[0].kind != J_MISSING && jv_true(&a[0]));
}

static bool has_end(const struct jstr *s, const struct jstr *part, bool start) {
    return part->len <= s->len &&
           memcmp(start ? s->p : s->p + s->len - part->len, part->p,
                  part->len) == 0;
}

static struct jval any_end(struct vm *m, const struct jval *v,
                           const struct jval *part, bool start) {
    if (part->kind != J_LIST)
        return jv_bool(
            has_end(v->u.s, text_of(m, part, start ? "startswith" : "endswith"),
                    start));
    for (size_t i = 0; i < part->u.l->n; i++)
        if (has_end(v->u.s, text_of(m, &part->u.l->v[i], "startswith"), start))
            return jv_bool(true);
    return jv_bool(false);
}
JFN(s_startswith) { return any_end(m, &v, &a[0], true); }
JFN(s_endswith) { return any_end(m, &v, &a[0], false); }

static struct jval without(struct vm *m, const struct jstr *s,
                           const struct jval *part, bool start) {
    const struct jstr *p = text_of(m, part, "removeprefix");
    if (!has_end(s, p, start))
        return jv_of(s);
    return str_slice(m, s, start ? p->len : 0, s->len - p->len);
}
JFN(s_removeprefix) { return without(m, v.u.s, &a[0], true); }
JFN(s_removesuffix) { return without(m, v.u.s, &a[0], false); }

JFN(s_replace) {
    return str_replace(m, v.u.s, text_of(m, &a[0], "replace"),
                       text_of(m, &a[1], "replace"), int_or(m, &a[2], -1));
}

JFN(s_find) {
    const char *hit = str_find(v.u.s, 0, text_of(m, &a[0], "find"));
    vm_step(m, v.u.s->len / 64);
    return jv_int(hit ? (int64_t)utf8_count(v.u.s->p, (size_t)(hit - v.u.s->p))
                      : -1);
}
JFN(s_rfind) {
    const char *hit = find_last(v.u.s, v.u.s->len, text_of(m, &a[0], "rfind"));
    vm_step(m, v.u.s->len / 64);
    return jv_int(hit ? (int64_t)utf8_count(v.u.s->p, (size_t)(hit - v.u.s->p))
                      : -1);
}
JFN(s_index) {
    struct jval r = s_find(m, v, a, all);
    return r.u.i < 0 ? vm_fail(m, "substring not found") : r;
}

JFN(s_count) {
    const struct jstr *part = text_of(m, &a[0], "count");
    int64_t n = 0;
    if (part->len == 0)
        return jv_int((int64_t)utf8_count(v.u.s->p, v.u.s->len) + 1);
    for (size_t at = 0; vm_step(m, 1); n++) {
        const char *hit = str_find(v.u.s, at, part);
        if (!hit)
            break;
        at = (size_t)(hit - v.u.s->p) + part->len;
    }
    return jv_int(n);
}

/* Markup escapes what it joins. */
JFN(s_join) {
    const struct jlist *l = jv_iter(m, a[0]);
    bool safe = v.u.s->is_safe;
    struct jbuf b = {0};
    for (size_t i = 0; l && i < l->n; i++) {
        if (i)
            jbuf_str(m, &b, v.u.s);
        if (safe)
            put_str(m, &b, str_escape(m, jv_str(m, l->v[i])));
        else
            jbuf_str(m, &b, text_of(m, &l->v[i], "join"));
    }
    struct jval r = jbuf_take(m, &b);
    return safe && r.kind == J_STR ? str_safe(m, r.u.s) : r;
}

static struct jval parts(struct vm *m, const struct jstr *s, size_t at,
                         size_t n) {
    struct jval r = jv_list(m, SEQ_TUPLE, 3);
    push_part(m, r, s, 0, at);
    push_part(m, r, s, at, at + n);
    push_part(m, r, s, at + n, s->len);
    return r;
}
JFN(s_partition) {
    const struct jstr *sep = text_of(m, &a[0], "partition");
    const char *hit = str_find(v.u.s, 0, sep);
    return hit ? parts(m, v.u.s, (size_t)(hit - v.u.s->p), sep->len)
               : parts(m, v.u.s, v.u.s->len, 0);
}
JFN(s_rpartition) {
    const struct jstr *sep = text_of(m, &a[0], "rpartition");
    const char *hit = find_last(v.u.s, v.u.s->len, sep);
    return hit ? parts(m, v.u.s, (size_t)(hit - v.u.s->p), sep->len)
               : parts(m, v.u.s, 0, 0);
}

JFN(s_format) { return str_format(m, v.u.s, all); }

/* Every character, and at least one, is of a kind. */
static struct jval all_are(const struct jstr *s, bool (*is)(uint32_t c)) {
    size_t k;
    for (size_t i = 0; i < s->len; i += k)
        if (!is(utf8_get(s->p + i, s->len - i, &k)))
            return jv_bool(false);
    return jv_bool(s->len > 0);
}
static bool is_alpha(uint32_t c) {
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}
static bool is_decimal(uint32_t c) {
    return utf8proc_category((utf8proc_int32_t)c) == UTF8PROC_CATEGORY_ND;
}
static bool is_alnum(uint32_t c) {
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return is_alpha(c) ||
           (k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO);
}
JFN(s_isalpha) { return all_are(v.u.s, is_alpha); }
JFN(s_isdigit) { return all_are(v.u.s, is_decimal); }
JFN(s_isalnum) { return all_are(v.u.s, is_alnum); }
JFN(s_isspace) { return all_are(v.u.s, uni_space); }

/* Has letters with case, all of them of this one. */
bool str_one_case(const struct jstr *s, bool upper) {
    bool any = false;
    size_t k;
    for (size_t i = 0; i < s->len; i += k) {
        utf8proc_category_t c = utf8proc_category(
            (utf8proc_int32_t)utf8_get(s->p + i, s->len - i, &k));
        if (c == UTF8PROC_CATEGORY_LT ||
            c == (upper ? UTF8PROC_CATEGORY_LL : UTF8PROC_CATEGORY_LU))
            return false;
        any |= c == (upper ? UTF8PROC_CATEGORY_LU : UTF8PROC_CATEGORY_LL);
    }
    return any;
}
JFN(s_isupper) { return jv_bool(str_one_case(v.u.s, true)); }
JFN(s_islower) { return jv_bool(str_one_case(v.u.s, false)); }

struct jval str_fill(struct vm *m, const struct jstr *s, int64_t width,
                     const struct jval *fill, char where) {
    static const struct jstr space = {.p = " ", .len = 1};
    const struct jstr *f =
        fill->kind == J_MISSING ? &space : text_of(m, fill, "fill");
    int64_t pad = width - (int64_t)utf8_count(s->p, s->len);
    if (pad <= 0)
        return jv_of(s);
    int64_t left = where == 'l'   ? 0
                   : where == 'r' ? pad
                                  : pad / 2 + (pad & width & 1);
    struct jbuf b = {0};
    for (int64_t i = 0; i < left && vm_step(m, 1); i++)
        jbuf_str(m, &b, f);
    jbuf_str(m, &b, s);
    for (int64_t i = left; i < pad && vm_step(m, 1); i++)
        jbuf_str(m, &b, f);
    return jbuf_take(m, &b);
}
JFN(s_ljust) { return str_fill(m, v.u.s, int_or(m, &a[0], 0), &a[1], 'l'); }
JFN(s_rjust) { return str_fill(m, v.u.s, int_or(m, &a[0], 0), &a[1], 'r'); }
JFN(s_center) { return str_fill(m, v.u.s, int_or(m, &a[0], 0), &a[1], 'c'); }

JFN(s_zfill) {
    struct jval zero = jv_text(m, "0");
    size_t sign = v.u.s->len && (*v.u.s->p == '-' || *v.u.s->p == '+');
    struct jval digits = str_slice(m, v.u.s, sign, v.u.s->len - sign);
    struct jbuf b = {0};
    if (m->failed)
        return zero;
    jbuf_put(m, &b, v.u.s->p, sign, str_mark(v.u.s, 0));
    struct jval r = str_fill(m, digits.u.s, int_or(m, &a[0], 0) - (int64_t)sign,
                             &zero, 'r');
    put_str(m, &b, r);
    return jbuf_take(m, &b);
}

/* ---- dict ---- */

JFN(d_get) {
    const struct jval *hit =
        jv_hashable(m, &a[0]) ? jdict_get(m, v.u.d, a[0]) : NULL;
    return hit ? *hit : a[1].kind == J_MISSING ? jv_none() : a[1];
}

static struct jval dict_view(struct vm *m, const struct jdict *d,
                             enum jseq seq) {
    struct jval r = jv_list(m, seq, d->n);
    for (size_t i = 0; r.kind == J_LIST && i < d->n && vm_step(m, 0); i++) {
        struct jval pair = seq == SEQ_ITEMS  ? jv_list(m, SEQ_TUPLE, 2)
                           : seq == SEQ_KEYS ? d->p[i].key
                                             : d->p[i].val;
        if (seq == SEQ_ITEMS && pair.kind == J_LIST) {
            jlist_push(m, pair.u.l, d->p[i].key);
            jlist_push(m, pair.u.l, d->p[i].val);
        }
        jlist_push(m, r.u.l, pair);
    }
    return r;
}
JFN(d_keys) { return dict_view(m, v.u.d, SEQ_KEYS); }
JFN(d_values) { return dict_view(m, v.u.d, SEQ_VALUES); }
JFN(d_items) { return dict_view(m, v.u.d, SEQ_ITEMS); }
JFN(x_copy) { return v; /* nothing can change either */ }

/* ---- list ---- */

JFN(l_index) {
    for (size_t i = 0; i < v.u.l->n && vm_step(m, 0); i++)
        if (jv_is(m, v.u.l->v[i], a[0]))
            return jv_int((int64_t)i);
    return vm_fail(m, "index: the value is not in the list");
}
JFN(l_count) {
    int64_t n = 0;
    for (size_t i = 0; i < v.u.l->n && vm_step(m, 0); i++)
        n += jv_is(m, v.u.l->v[i], a[0]);
    return jv_int(n);
}

/* ---- loop ---- */

JFN(o_cycle) {
    if (all->n == 0)
        return vm_fail(m, "no items for cycling given");
    return all->v[v.u.loop->i % (size_t)all->n];
}
JFN(o_changed) {
    struct jval now = jv_list(m, SEQ_TUPLE, (size_t)all->n);
    for (int i = 0; now.kind == J_LIST && i < all->n; i++)
        jlist_push(m, now.u.l, all->v[i]);
    bool same =
        v.u.loop->seen.kind != J_MISSING && jv_is(m, v.u.loop->seen, now);
    v.u.loop->seen = now;
    return jv_bool(!same);
}

/* call NULL: changes its object, which no template may */
static const struct jfn str_methods[] = {
    {"capitalize", s_capitalize, "", 0},
    {"center", s_center, "width fillchar", 1},
    {"count", s_count, "sub", 1},
    {"endswith", s_endswith, "suffix", 1},
    {"find", s_find, "sub", 1},
    {"format", s_format, NULL, 0},
    {"index", s_index, "sub", 1},
    {"isalnum", s_isalnum, "", 0},
    {"isalpha", s_isalpha, "", 0},
    {"isdecimal", s_isdigit, "", 0},
    {"isdigit", s_isdigit, "", 0},
    {"islower", s_islower, "", 0},
    {"isspace", s_isspace, "", 0},
    {"isupper", s_isupper, "", 0},
    {"join", s_join, "iterable", 1},
    {"ljust", s_ljust, "width fillchar", 1},
    {"lower", s_lower, "", 0},
    {"lstrip", s_lstrip, "chars", 0},
    {"partition", s_partition, "sep", 1},
    {"removeprefix", s_removeprefix, "prefix", 1},
    {"removesuffix", s_removesuffix, "suffix", 1},
    {"replace", s_replace, "old new count", 2},
    {"rfind", s_rfind, "sub", 1},
    {"rjust", s_rjust, "width fillchar", 1},
    {"rpartition", s_rpartition, "sep", 1},
    {"rsplit", s_rsplit, "sep maxsplit", 0},
    {"rstrip", s_rstrip, "chars", 0},
    {"split", s_split, "sep maxsplit", 0},
    {"splitlines", s_splitlines, "keepends", 0},
    {"startswith", s_startswith, "prefix", 1},
    {"strip", s_strip, "chars", 0},
    {"title", s_title, "", 0},
    {"upper", s_upper, "", 0},
    {"zfill", s_zfill, "width", 1},
    {NULL},
};
static const struct jfn dict_methods[] = {
    {"clear", NULL, "", 0},
    {"copy", x_copy, "", 0},
    {"get", d_get, "key default", 1},
    {"items", d_items, "", 0},
    {"keys", d_keys, "", 0},
    {"pop", NULL, "", 0},
    {"popitem", NULL, "", 0},
    {"setdefault", NULL, "", 0},
    {"update", NULL, "", 0},
    {"values", d_values, "", 0},
    {NULL},
};
static const struct jfn list_methods[] = {
    {"append", NULL, "", 0}, {"clear", NULL, "", 0},
    {"copy", x_copy, "", 0}, {"count", l_count, "value", 1},
    {"extend", NULL, "", 0}, {"index", l_index, "value", 1},
    {"insert", NULL, "", 0}, {"pop", NULL, "", 0},
    {"remove", NULL, "", 0}, {"reverse", NULL, "", 0},
    {"sort", NULL, "", 0},   {NULL},
};
static const struct jfn tuple_methods[] = {
    {"count", l_count, "value", 1},
    {"index", l_index, "value", 1},
    {NULL},
};
static const struct jfn loop_methods[] = {
    {"cycle", o_cycle, NULL, 0},
    {"changed", o_changed, NULL, 0},
    {NULL},
};

const struct jfn *method_find(const struct jval *v, const char *name,
                              size_t len, bool *denied) {
    const struct jfn *t = v->kind == J_STR    ? str_methods
                          : v->kind == J_DICT ? dict_methods
                          : v->kind == J_LOOP ? loop_methods
                                              : NULL;
    struct jstr s = {.p = name, .len = len};
    if (v->kind == J_LIST && v->u.l->seq <= SEQ_RANGE)
        t = v->u.l->seq == SEQ_LIST ? list_methods : tuple_methods;
    for (*denied = false; t && t->name; t++)
        if (str_eq(&s, t->name)) {
            *denied = !t->call;
            return t->call ? t : NULL;
        }
    return NULL;
}
