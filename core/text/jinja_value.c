/* jinja_value: Python's values: making, comparing, printing, arithmetic. */
#include "core/text/jinja_int.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* ---- making ---- */

struct jval jv_none(void) {
    return (struct jval){.kind = J_NONE};
}
struct jval jv_undef(const struct jstr *name) {
    return (struct jval){.kind = J_UNDEF, .u.s = name};
}
struct jval jv_bool(bool b) {
    return (struct jval){.kind = J_BOOL, .u.b = b};
}
struct jval jv_int(int64_t i) {
    return (struct jval){.kind = J_INT, .u.i = i};
}
struct jval jv_float(double f) {
    return (struct jval){.kind = J_FLOAT, .u.f = f};
}
struct jval jv_of(const struct jstr *s) {
    return (struct jval){.kind = J_STR, .u.s = s};
}

struct jval jv_text(struct vm *m, const char *s) {
    struct jstr *r = vm_get(m, sizeof *r);
    if (!r)
        return jv_undef(NULL);
    *r = (struct jstr){.p = s, .len = strlen(s)};
    return jv_of(r);
}

struct jval jv_list(struct vm *m, enum jseq seq, size_t cap) {
    struct jlist *l = vm_get(m, sizeof *l);
    struct jval *v = cap < JINJA_MEMORY_MAX / sizeof *v
                         ? vm_get(m, (cap ? cap : 1) * sizeof *v)
                         : NULL;
    if (!l || !v) {
        vm_fail(m, "a list of %zu items", cap);
        return jv_undef(NULL);
    }
    *l = (struct jlist){.seq = seq, .v = v, .cap = cap ? cap : 1};
    return (struct jval){.kind = J_LIST, .u.l = l};
}

void jlist_push(struct vm *m, struct jlist *l, struct jval v) {
    if (l->n == l->cap) {
        size_t cap = 2 * l->cap + 4;
        struct jval *big = vm_get(m, cap * sizeof *big);
        if (!big)
            return;
        memcpy(big, l->v, l->n * sizeof *big);
        l->v = big;
        l->cap = cap;
    }
    l->v[l->n++] = v;
}

struct jval jv_dict(struct vm *m) {
    struct jdict *d = vm_get(m, sizeof *d);
    return d ? (struct jval){.kind = J_DICT, .u.d = d} : jv_undef(NULL);
}

const struct jval *jdict_get(struct vm *m, const struct jdict *d,
                             struct jval key) {
    if (!vm_step(m, d->n / 32))
        return NULL;
    for (size_t i = 0; i < d->n; i++)
        if (jv_is(m, d->p[i].key, key))
            return &d->p[i].val;
    return NULL;
}

const struct jval *jdict_gets(const struct jdict *d, const char *key) {
    for (size_t i = 0; i < d->n; i++)
        if (d->p[i].key.kind == J_STR && str_eq(d->p[i].key.u.s, key))
            return &d->p[i].val;
    return NULL;
}

bool jv_hashable(struct vm *m, const struct jval *key) {
    if (key->kind != J_DICT &&
        (key->kind != J_LIST || key->u.l->seq != SEQ_LIST))
        return true;
    vm_fail(m, "unhashable type: '%s'", jv_type(key));
    return false;
}

void jdict_put(struct vm *m, struct jdict *d, struct jval key, struct jval v) {
    struct jval *old = (struct jval *)jdict_get(m, d, key);
    if (old) {
        *old = v;
        return;
    }
    if (!jv_hashable(m, &key))
        return;
    if (d->n == d->cap) {
        size_t cap = d->cap ? 2 * d->cap : 8;
        struct jpair *p = vm_get(m, cap * sizeof *p);
        if (!p)
            return;
        if (d->n)
            memcpy(p, d->p, d->n * sizeof *p);
        d->p = p;
        d->cap = cap;
    }
    d->p[d->n++] = (struct jpair){key, v};
}

static struct jval text_value(struct vm *m, const char *s, size_t len,
                              uint8_t mark) {
    struct jstr *r = vm_get(m, sizeof *r);
    if (!r)
        return jv_undef(NULL);
    *r = (struct jstr){.p = s, .len = len, .all = mark};
    return jv_of(r);
}

/* Templates make control tokens of roles ('<|' + role + '|>'): these words are
 * nobody's text. */
static bool is_role(const char *key, const json_t *v) {
    static const char *const roles[] = {
        "system", "user",     "assistant", "tool",        "developer",
        "model",  "function", "ipython",   "observation", "environment"};
    if (strcmp(key, "role") != 0 || !json_is_string(v))
        return false;
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        if (strcmp(json_string_value(v), roles[i]) == 0)
            return true;
    return false;
}

static struct jval object_value(struct vm *m, const json_t *j, uint8_t mark,
                                int depth) {
    size_t n = json_object_size(j);
    struct jval r = jv_dict(m);
    const char *key;
    json_t *item;
    if (r.kind != J_DICT || n > JINJA_MEMORY_MAX / sizeof(struct jpair))
        return r;
    struct jdict *d = r.u.d;
    d->p = vm_get(m, (n ? n : 1) * sizeof *d->p);
    d->cap = d->p ? n : 0;
    json_object_foreach((json_t *)j, key, item) {
        if (d->n == d->cap)
            break;
        d->p[d->n].key = text_value(m, key, strlen(key), mark);
        d->p[d->n++].val =
            jv_json(m, item, is_role(key, item) ? 0 : mark, depth + 1);
    }
    return r;
}

/* Borrows the strings of j. */
struct jval jv_json(struct vm *m, const json_t *j, uint8_t mark, int depth) {
    struct jval r;
    size_t i;
    json_t *item;
    if (depth > JINJA_DEPTH_MAX)
        return vm_fail(m, "variables nest too deep");
    switch (json_typeof(j)) {
    case JSON_NULL: return jv_none();
    case JSON_TRUE: return jv_bool(true);
    case JSON_FALSE: return jv_bool(false);
    case JSON_INTEGER: return jv_int(json_integer_value(j));
    case JSON_REAL: return jv_float(json_real_value(j));
    case JSON_STRING:
        return text_value(m, json_string_value(j), json_string_length(j), mark);
    case JSON_ARRAY:
        r = jv_list(m, SEQ_LIST, json_array_size(j));
        json_array_foreach((json_t *)j, i, item) {
            if (r.kind == J_LIST && !m->failed)
                r.u.l->v[r.u.l->n++] = jv_json(m, item, mark, depth + 1);
        }
        return r;
    case JSON_OBJECT: return object_value(m, j, mark, depth);
    }
    return jv_none();
}

/* ---- what a value is ---- */

bool jv_true(const struct jval *v) {
    switch (v->kind) {
    case J_MISSING:
    case J_UNDEF:
    case J_NONE: return false;
    case J_BOOL: return v->u.b;
    case J_INT: return v->u.i != 0;
    case J_FLOAT: return v->u.f != 0;
    case J_STR: return v->u.s->len > 0;
    case J_LIST: return v->u.l->seq == SEQ_STREAM || v->u.l->n > 0;
    case J_DICT: return v->u.d->n > 0;
    default: return true;
    }
}

const char *jv_type(const struct jval *v) {
    static const char *const seqs[] = {
        [SEQ_LIST] = "list",          [SEQ_TUPLE] = "tuple",
        [SEQ_RANGE] = "range",        [SEQ_KEYS] = "dict_keys",
        [SEQ_VALUES] = "dict_values", [SEQ_ITEMS] = "dict_items",
        [SEQ_STREAM] = "generator"};
    static const char *const names[] = {
        [J_MISSING] = "Undefined", [J_UNDEF] = "Undefined",
        [J_NONE] = "NoneType",     [J_BOOL] = "bool",
        [J_INT] = "int",           [J_FLOAT] = "float",
        [J_STR] = "str",           [J_LIST] = "list",
        [J_DICT] = "dict",         [J_SPACE] = "Namespace",
        [J_LOOP] = "LoopContext",  [J_MACRO] = "Macro",
        [J_FN] = "function",       [J_BOUND] = "builtin_function_or_method"};
    return v->kind == J_LIST ? seqs[v->u.l->seq] : names[v->kind];
}

bool jv_number(const struct jval *v, double *f) {
    *f = v->kind == J_FLOAT  ? v->u.f
         : v->kind == J_INT  ? (double)v->u.i
         : v->kind == J_BOOL ? v->u.b
                             : 0;
    return v->kind == J_FLOAT || v->kind == J_INT || v->kind == J_BOOL;
}

int64_t jv_count(struct vm *m, const struct jval *v) {
    int64_t i = v->kind == J_INT ? v->u.i : v->kind == J_BOOL ? v->u.b : 0;
    if (v->kind != J_INT && v->kind != J_BOOL)
        vm_fail(m, "an integer is wanted, not %s", jv_type(v));
    if (i > JINJA_COUNT_MAX || i < -JINJA_COUNT_MAX) {
        vm_fail(m, "%lld is too big a number here", (long long)i);
        i = 0;
    }
    return i;
}

static struct jval undefined(struct vm *m, const struct jval *v) {
    const struct jstr *s = v->kind == J_UNDEF ? v->u.s : NULL;
    return s ? vm_fail(m, "'%.*s' is undefined",
                       (int)(s->len < 80 ? s->len : 80), s->p)
             : vm_fail(m, "an undefined value was used");
}

static bool is_undef(const struct jval *v) {
    return v->kind == J_UNDEF || v->kind == J_MISSING;
}

int64_t jv_len(struct vm *m, struct jval v) {
    switch (v.kind) {
    case J_STR:
        vm_step(m, v.u.s->len / 64);
        return (int64_t)utf8_count(v.u.s->p, v.u.s->len);
    case J_LIST:
        if (v.u.l->seq != SEQ_STREAM)
            return (int64_t)v.u.l->n;
        break;
    case J_DICT: return (int64_t)v.u.d->n;
    case J_UNDEF: return 0;
    default: break;
    }
    vm_fail(m, "object of type '%s' has no len()", jv_type(&v));
    return 0;
}

static struct jval str_chars(struct vm *m, const struct jstr *s) {
    struct jval r = jv_list(m, SEQ_LIST, utf8_count(s->p, s->len));
    struct jstr plain = *s; /* the characters of a Markup are none */
    size_t k;
    plain.is_safe = false;
    for (size_t i = 0; r.kind == J_LIST && i < s->len && vm_step(m, 1);
         i += k) {
        utf8_get(s->p + i, s->len - i, &k);
        jlist_push(m, r.u.l, str_slice(m, &plain, i, k));
    }
    return r;
}

static struct jval dict_keys(struct vm *m, const struct jdict *d) {
    struct jval r = jv_list(m, SEQ_KEYS, d->n);
    for (size_t i = 0; r.kind == J_LIST && i < d->n; i++)
        r.u.l->v[r.u.l->n++] = d->p[i].key;
    return r;
}

static struct jlist *stream_rest(struct vm *m, struct jlist *l) {
    struct jlist *rest = vm_get(m, sizeof *rest);
    if (!rest)
        return NULL;
    *rest = (struct jlist){.v = l->v + l->at, .n = l->n - l->at};
    l->at = l->n;
    return rest;
}

const struct jlist *jv_iter(struct vm *m, struct jval v) {
    struct jval r = v;
    if (v.kind == J_STR)
        r = str_chars(m, v.u.s);
    else if (v.kind == J_DICT)
        r = dict_keys(m, v.u.d);
    else if (is_undef(&v))
        r = jv_list(m, SEQ_LIST, 0);
    else if (v.kind == J_LIST && v.u.l->seq == SEQ_STREAM)
        return stream_rest(m, v.u.l);
    if (r.kind == J_LIST && vm_step(m, r.u.l->n / 64))
        return r.u.l;
    vm_fail(m, "'%s' object is not iterable", jv_type(&v));
    return NULL;
}

/* ---- comparing ---- */

static bool vm_deep(struct vm *m) {
    if (m->depth < JINJA_DEPTH_MAX && vm_step(m, 1))
        return false;
    vm_fail(m, "values nest too deep");
    return true;
}

static bool list_is(struct vm *m, const struct jlist *a,
                    const struct jlist *b) {
    bool same = a->n == b->n && (a->seq == SEQ_TUPLE) == (b->seq == SEQ_TUPLE);
    if (a->seq == SEQ_STREAM || b->seq == SEQ_STREAM)
        return a == b;
    if (vm_deep(m))
        return false;
    m->depth++;
    for (size_t i = 0; same && i < a->n; i++)
        same = jv_is(m, a->v[i], b->v[i]);
    m->depth--;
    return same;
}

static bool dict_is(struct vm *m, const struct jdict *a,
                    const struct jdict *b) {
    bool same = a->n == b->n;
    if (vm_deep(m))
        return false;
    m->depth++;
    for (size_t i = 0; same && i < a->n; i++) {
        const struct jval *v = jdict_get(m, b, a->p[i].key);
        same = v && jv_is(m, a->p[i].val, *v);
    }
    m->depth--;
    return same;
}

bool jv_is(struct vm *m, struct jval a, struct jval b) {
    double x, y;
    if (jv_number(&a, &x) && jv_number(&b, &y))
        return a.kind == J_INT && b.kind == J_INT ? a.u.i == b.u.i : x == y;
    if (is_undef(&a) || is_undef(&b))
        return is_undef(&a) && is_undef(&b);
    if (a.kind != b.kind)
        return false;
    switch (a.kind) {
    case J_STR:
        return a.u.s->len == b.u.s->len &&
               memcmp(a.u.s->p, b.u.s->p, a.u.s->len) == 0;
    case J_LIST: return list_is(m, a.u.l, b.u.l);
    case J_DICT: return dict_is(m, a.u.d, b.u.d);
    case J_NONE: return true;
    default: return a.u.d == b.u.d;
    }
}

static int str_cmp(const struct jstr *a, const struct jstr *b) {
    size_t n = a->len < b->len ? a->len : b->len;
    int c = memcmp(a->p, b->p, n); /* UTF-8 sorts as its characters do */
    return c ? c : (a->len > b->len) - (a->len < b->len);
}

static int list_cmp(struct vm *m, const struct jlist *a,
                    const struct jlist *b) {
    int c = 0;
    if (vm_deep(m))
        return 0;
    m->depth++;
    for (size_t i = 0; c == 0 && i < a->n && i < b->n; i++)
        if (!jv_is(m, a->v[i], b->v[i]))
            c = jv_cmp(m, a->v[i], b->v[i]);
    m->depth--;
    return c ? c : (a->n > b->n) - (a->n < b->n);
}

/* Below, equal or above 0; 2: neither, as NaN is. */
int jv_cmp(struct vm *m, struct jval a, struct jval b) {
    double x, y;
    if (a.kind == J_INT && b.kind == J_INT)
        return (a.u.i > b.u.i) - (a.u.i < b.u.i);
    if (jv_number(&a, &x) && jv_number(&b, &y))
        return isnan(x) || isnan(y) ? 2 : (x > y) - (x < y);
    if (a.kind == J_STR && b.kind == J_STR) {
        int c = str_cmp(a.u.s, b.u.s);
        return (c > 0) - (c < 0);
    }
    if (a.kind == J_LIST && b.kind == J_LIST && a.u.l->seq == b.u.l->seq &&
        a.u.l->seq <= SEQ_TUPLE)
        return list_cmp(m, a.u.l, b.u.l);
    if (is_undef(&a) || is_undef(&b))
        undefined(m, is_undef(&a) ? &a : &b);
    else
        vm_fail(m, "'%s' and '%s' have no order", jv_type(&a), jv_type(&b));
    return 0;
}

bool jv_in(struct vm *m, struct jval a, struct jval in) {
    if (in.kind == J_STR) {
        if (a.kind == J_STR)
            return vm_step(m, in.u.s->len / 64) &&
                   str_find(in.u.s, 0, a.u.s) != NULL;
        vm_fail(m, "'in <string>' requires string as left operand, not %s",
                jv_type(&a));
        return false;
    }
    if (in.kind == J_DICT)
        return jv_hashable(m, &a) && jdict_get(m, in.u.d, a) != NULL;
    const struct jlist *l = jv_iter(m, in);
    for (size_t i = 0; l && i < l->n; i++)
        if (jv_is(m, l->v[i], a))
            return true;
    return false;
}

/* Merges the sorted halves of v[0..n), keys along. */
static void merge(struct vm *m, struct jpair *p, struct jpair *tmp, size_t n,
                  bool reverse) {
    size_t half = n / 2, i = 0, j = half, k = 0;
    if (n < 2 || !vm_step(m, n / 8))
        return;
    merge(m, p, tmp, half, reverse);
    merge(m, p + half, tmp, n - half, reverse);
    while (i < half && j < n) {
        int c = jv_cmp(m, p[j].key, p[i].key);
        bool right = reverse ? c == 1 : c < 0;
        tmp[k++] = right ? p[j++] : p[i++];
    }
    while (i < half)
        tmp[k++] = p[i++];
    memcpy(p, tmp, k * sizeof *p);
}

void jv_sort(struct vm *m, struct jval *v, struct jval *key, size_t n,
             bool reverse) {
    struct jpair *p = vm_get(m, (n ? n : 1) * 2 * sizeof *p);
    if (!p)
        return;
    for (size_t i = 0; i < n; i++)
        p[i] = (struct jpair){key ? key[i] : v[i], v[i]};
    merge(m, p, p + n, n, reverse);
    for (size_t i = 0; i < n; i++)
        v[i] = p[i].val;
}

/* ---- printing ---- */

/* repr(float): the shortest digits that read back, 1e16 and 1e-05 style. */
void float_repr(double f, char out[32]) {
    char digits[40], *e;
    if (isnan(f) || isinf(f)) {
        snprintf(out, 32, "%s", isnan(f) ? "nan" : f < 0 ? "-inf" : "inf");
        return;
    }
    for (int p = 0; p < 17; p++) {
        snprintf(digits, sizeof digits, "%.*e", p, f);
        if (strtod(digits, NULL) == f)
            break;
    }
    e = strchr(digits, 'e');
    int exp = (int)strtol(e + 1, NULL, 10),
        n = (int)(e - digits) - (digits[0] == '-');
    n -= n > 1; /* the point */
    if (exp >= -4 && exp < 16) {
        int decimals = n - 1 - exp;
        snprintf(out, 32, "%.*f", decimals < 1 ? 1 : decimals, f);
        return;
    }
    *e = 0;
    snprintf(out, 32, "%.24se%c%02u", digits, exp < 0 ? '-' : '+',
             (unsigned)abs(exp) % 1000);
}

/* str.isprintable of one character. */
static bool printable(uint32_t c) {
    if (c < 0x7f)
        return c >= 0x20;
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS: return false;
    default: return true;
    }
}

static void repr_char(struct vm *m, struct jbuf *b, uint32_t c, char quote,
                      uint8_t mark) {
    char s[16];
    const char *simple = c == '\n'   ? "\\n"
                         : c == '\r' ? "\\r"
                         : c == '\t' ? "\\t"
                         : c == '\\' ? "\\\\"
                                     : NULL;
    if (simple)
        jbuf_put(m, b, simple, 2, mark);
    else if (c == (uint32_t)quote)
        jbuf_put(m, b, quote == '"' ? "\\\"" : "\\'", 2, mark);
    else if (printable(c))
        jbuf_char(m, b, c, mark);
    else {
        int n = snprintf(s, sizeof s,
                         c < 0x100     ? "\\x%02x"
                         : c < 0x10000 ? "\\u%04x"
                                       : "\\U%08x",
                         c);
        jbuf_put(m, b, s, (size_t)n, mark);
    }
}

static void repr_str(struct vm *m, struct jbuf *b, const struct jstr *s) {
    bool single = memchr(s->p, '\'', s->len), twice = memchr(s->p, '"', s->len);
    char quote = single && !twice ? '"' : '\'';
    size_t k;
    jbuf_puts(m, b, s->is_safe ? "Markup(" : "");
    jbuf_put(m, b, &quote, 1, 0);
    for (size_t i = 0; i < s->len && vm_step(m, 0); i += k) {
        uint32_t c = utf8_get(s->p + i, s->len - i, &k);
        repr_char(m, b, c, quote, str_mark(s, i));
    }
    jbuf_put(m, b, &quote, 1, 0);
    jbuf_puts(m, b, s->is_safe ? ")" : "");
}

static void repr_range(struct vm *m, struct jbuf *b, const struct jlist *l) {
    char s[96];
    if (l->step == 1)
        snprintf(s, sizeof s, "range(%lld, %lld)", (long long)l->first,
                 (long long)l->last);
    else
        snprintf(s, sizeof s, "range(%lld, %lld, %lld)", (long long)l->first,
                 (long long)l->last, (long long)l->step);
    jbuf_puts(m, b, s);
}

static void repr_list(struct vm *m, struct jbuf *b, const struct jlist *l) {
    static const char *const open[] = {[SEQ_LIST] = "[",
                                       [SEQ_TUPLE] = "(",
                                       [SEQ_RANGE] = "range(",
                                       [SEQ_KEYS] = "dict_keys([",
                                       [SEQ_VALUES] = "dict_values([",
                                       [SEQ_ITEMS] = "dict_items(["};
    static const char *const close[] = {
        [SEQ_LIST] = "]",  [SEQ_TUPLE] = ")",   [SEQ_RANGE] = ")",
        [SEQ_KEYS] = "])", [SEQ_VALUES] = "])", [SEQ_ITEMS] = "])"};
    if (l->seq == SEQ_RANGE) {
        repr_range(m, b, l);
        return;
    }
    if (l->seq == SEQ_STREAM) {
        vm_fail(m, "a generator is printed (use the list filter)");
        return;
    }
    jbuf_puts(m, b, open[l->seq]);
    for (size_t i = 0; i < l->n; i++) {
        if (i)
            jbuf_puts(m, b, ", ");
        put_repr(m, b, l->v[i]);
    }
    if (l->seq == SEQ_TUPLE && l->n == 1)
        jbuf_puts(m, b, ",");
    jbuf_puts(m, b, close[l->seq]);
}

static void repr_dict(struct vm *m, struct jbuf *b, const struct jdict *d) {
    jbuf_puts(m, b, "{");
    for (size_t i = 0; i < d->n; i++) {
        if (i)
            jbuf_puts(m, b, ", ");
        put_repr(m, b, d->p[i].key);
        jbuf_puts(m, b, ": ");
        put_repr(m, b, d->p[i].val);
    }
    jbuf_puts(m, b, "}");
}

void put_repr(struct vm *m, struct jbuf *b, struct jval v) {
    char s[64];
    if (vm_deep(m))
        return;
    m->depth++;
    switch (v.kind) {
    case J_MISSING:
    case J_UNDEF: jbuf_puts(m, b, "Undefined"); break;
    case J_NONE: jbuf_puts(m, b, "None"); break;
    case J_BOOL: jbuf_puts(m, b, v.u.b ? "True" : "False"); break;
    case J_INT:
        snprintf(s, sizeof s, "%lld", (long long)v.u.i);
        jbuf_puts(m, b, s);
        break;
    case J_FLOAT:
        float_repr(v.u.f, s);
        jbuf_puts(m, b, s);
        break;
    case J_STR: repr_str(m, b, v.u.s); break;
    case J_LIST: repr_list(m, b, v.u.l); break;
    case J_DICT: repr_dict(m, b, v.u.d); break;
    default: vm_fail(m, "a %s is printed", jv_type(&v)); break;
    }
    m->depth--;
}

void put_str(struct vm *m, struct jbuf *b, struct jval v) {
    if (v.kind == J_STR)
        jbuf_str(m, b, v.u.s);
    else if (!is_undef(&v))
        put_repr(m, b, v);
}

const struct jstr *jv_str(struct vm *m, struct jval v) {
    static const struct jstr empty = {.p = ""};
    if (v.kind == J_STR)
        return v.u.s;
    struct jbuf b = {0};
    put_str(m, &b, v);
    v = jbuf_take(m, &b);
    return v.kind == J_STR ? v.u.s : &empty;
}

/* ---- JSON, as json.dumps writes it ---- */

static void json_escape(struct vm *m, struct jbuf *b, uint32_t c,
                        uint8_t mark) {
    char s[16];
    int n = c < 0x10000 ? snprintf(s, sizeof s, "\\u%04x", c)
                        : snprintf(s, sizeof s, "\\u%04x\\u%04x",
                                   0xd7c0 + (c >> 10), 0xdc00 + (c & 0x3ff));
    jbuf_put(m, b, s, (size_t)n, mark);
}

static void json_string_put(struct vm *m, struct jbuf *b, const struct jstr *s,
                            bool ascii) {
    static const char from[] = "\"\\\n\r\t\f\b", to[] = "\"\\nrtfb";
    size_t k;
    jbuf_puts(m, b, "\"");
    for (size_t i = 0; i < s->len && vm_step(m, 0); i += k) {
        uint32_t c = utf8_get(s->p + i, s->len - i, &k);
        uint8_t mark = str_mark(s, i);
        const char *at = c && c < 0x80 ? strchr(from, (int)c) : NULL;
        if (at) {
            char e[2] = {'\\', to[at - from]};
            jbuf_put(m, b, e, 2, mark);
        } else if (c < 0x20 || (ascii && c > 0x7e)) {
            json_escape(m, b, c, mark);
        } else {
            jbuf_put(m, b, s->p + i, k, mark);
        }
    }
    jbuf_puts(m, b, "\"");
}

static void json_float(struct vm *m, struct jbuf *b, double f) {
    char s[32];
    float_repr(f, s);
    jbuf_puts(m, b,
              isnan(f)   ? "NaN"
              : isinf(f) ? (f < 0 ? "-Infinity" : "Infinity")
                         : s);
}

static void json_newline(struct vm *m, struct jbuf *b,
                         const struct json_style *s, int depth) {
    if (s->indent < 0 && !s->indent_text)
        return;
    jbuf_puts(m, b, "\n");
    for (int i = 0; i < depth && vm_step(m, 0); i++)
        if (s->indent_text)
            jbuf_str(m, b, s->indent_text);
        else
            for (int k = 0; k < s->indent; k++)
                jbuf_puts(m, b, " ");
}

static void json_comma(struct vm *m, struct jbuf *b,
                       const struct json_style *s) {
    if (s->comma)
        jbuf_str(m, b, s->comma);
    else
        jbuf_puts(m, b, s->indent < 0 && !s->indent_text ? ", " : ",");
}

static void json_key(struct vm *m, struct jbuf *b, struct jval k,
                     const struct json_style *s) {
    struct jbuf t = {0};
    if (k.kind != J_STR && k.kind > J_FLOAT)
        vm_fail(m, "keys of JSON must be str, int, float, bool or None, not %s",
                jv_type(&k));
    if (k.kind != J_STR) {
        put_json(m, &t, k, s, 0);
        k = jbuf_take(m, &t);
    }
    if (k.kind == J_STR)
        json_string_put(m, b, k.u.s, s->ascii);
    if (s->colon)
        jbuf_str(m, b, s->colon);
    else
        jbuf_puts(m, b, ": ");
}

static void json_dict(struct vm *m, struct jbuf *b, const struct jdict *d,
                      const struct json_style *s, int depth) {
    struct jval *at = vm_get(m, (d->n ? d->n : 1) * 2 * sizeof *at);
    if (d->n == 0)
        jbuf_puts(m, b, "{}");
    if (d->n == 0 || !at)
        return;
    for (size_t i = 0; i < d->n; i++) {
        at[i] = jv_int((int64_t)i);
        at[d->n + i] = d->p[i].key;
    }
    if (s->sort)
        jv_sort(m, at, at + d->n, d->n, false);
    jbuf_puts(m, b, "{");
    for (size_t i = 0; i < d->n; i++) {
        const struct jpair *p = &d->p[at[i].u.i];
        if (i)
            json_comma(m, b, s);
        json_newline(m, b, s, depth + 1);
        json_key(m, b, p->key, s);
        put_json(m, b, p->val, s, depth + 1);
    }
    json_newline(m, b, s, depth);
    jbuf_puts(m, b, "}");
}

static void json_list(struct vm *m, struct jbuf *b, const struct jlist *l,
                      const struct json_style *s, int depth) {
    if (l->seq > SEQ_TUPLE) {
        vm_fail(
            m, "Object of type %s is not JSON serializable",
            jv_type(&(struct jval){.kind = J_LIST, .u.l = (struct jlist *)l}));
        return;
    }
    if (l->n == 0) {
        jbuf_puts(m, b, "[]");
        return;
    }
    jbuf_puts(m, b, "[");
    for (size_t i = 0; i < l->n; i++) {
        if (i)
            json_comma(m, b, s);
        json_newline(m, b, s, depth + 1);
        put_json(m, b, l->v[i], s, depth + 1);
    }
    json_newline(m, b, s, depth);
    jbuf_puts(m, b, "]");
}

void put_json(struct vm *m, struct jbuf *b, struct jval v,
              const struct json_style *s, int depth) {
    if (vm_deep(m))
        return;
    m->depth++;
    switch (v.kind) {
    case J_NONE: jbuf_puts(m, b, "null"); break;
    case J_BOOL: jbuf_puts(m, b, v.u.b ? "true" : "false"); break;
    case J_INT: put_repr(m, b, v); break;
    case J_FLOAT: json_float(m, b, v.u.f); break;
    case J_STR: json_string_put(m, b, v.u.s, s->ascii); break;
    case J_LIST: json_list(m, b, v.u.l, s, depth); break;
    case J_DICT: json_dict(m, b, v.u.d, s, depth); break;
    default:
        vm_fail(m, "Object of type %s is not JSON serializable", jv_type(&v));
    }
    m->depth--;
}

/* ---- arithmetic ---- */

static const char op_text[][3] = {
    [OP_ADD] = "+", [OP_SUB] = "-",       [OP_MUL] = "*", [OP_DIV] = "/",
    [OP_MOD] = "%", [OP_FLOORDIV] = "//", [OP_POW] = "**"};

static struct jval bad_operands(struct vm *m, enum jop op, const struct jval *a,
                                const struct jval *b) {
    if (is_undef(a) || is_undef(b))
        return undefined(m, is_undef(a) ? a : b);
    return vm_fail(m, "unsupported operand type(s) for %s: '%s' and '%s'",
                   op_text[op], jv_type(a), jv_type(b));
}

static struct jval int_pow(struct vm *m, int64_t a, int64_t b) {
    int64_t r = 1;
    if (b < 0)
        return a == 0 ? vm_fail(m, "0.0 cannot be raised to a negative power")
                      : jv_float(pow((double)a, (double)b));
    if (a == 0 || a == 1 || a == -1)
        return jv_int(b == 0 || a == 1 ? 1 : a == 0 ? 0 : b % 2 ? -1 : 1);
    for (; b > 0; b--)
        if (__builtin_mul_overflow(r, a, &r))
            return vm_fail(m, "an integer beyond 64 bits");
    return jv_int(r);
}

static struct jval float_pow(struct vm *m, double a, double b) {
    double r = pow(a, b);
    if (a == 0 && b < 0)
        return vm_fail(m, "0.0 cannot be raised to a negative power");
    if (isfinite(a) && isfinite(b) && isinf(r))
        return vm_fail(m, "a power out of range");
    if (!isnan(a) && !isnan(b) && isnan(r))
        return vm_fail(m, "a power that is a complex number");
    return jv_float(r);
}

static struct jval int_binary(struct vm *m, enum jop op, int64_t a, int64_t b) {
    int64_t r = 0;
    bool over = false, down;
    if (b == 0 && (op == OP_DIV || op == OP_FLOORDIV || op == OP_MOD))
        return vm_fail(m, "division by zero");
    switch (op) {
    case OP_ADD: over = __builtin_add_overflow(a, b, &r); break;
    case OP_SUB: over = __builtin_sub_overflow(a, b, &r); break;
    case OP_MUL: over = __builtin_mul_overflow(a, b, &r); break;
    case OP_DIV: return jv_float((double)a / (double)b);
    case OP_POW: return int_pow(m, a, b);
    default:
        if (b == -1) { /* INT64_MIN / -1 traps */
            over = op == OP_FLOORDIV && __builtin_sub_overflow(0, a, &r);
            break;
        }
        down = a % b != 0 && (a < 0) != (b < 0); /* C rounds towards 0 */
        r = op == OP_MOD ? a % b + (down ? b : 0) : a / b - down;
        break;
    }
    return over ? vm_fail(m, "an integer beyond 64 bits") : jv_int(r);
}

static struct jval float_binary(struct vm *m, enum jop op, double a, double b) {
    double r;
    if (b == 0 && (op == OP_DIV || op == OP_FLOORDIV || op == OP_MOD))
        return vm_fail(m, "float division by zero");
    switch (op) {
    case OP_ADD: return jv_float(a + b);
    case OP_SUB: return jv_float(a - b);
    case OP_MUL: return jv_float(a * b);
    case OP_DIV: return jv_float(a / b);
    case OP_POW: return float_pow(m, a, b);
    default: break;
    }
    r = fmod(a, b);
    double q = (a - r) / b;
    if (r == 0)
        r = copysign(0, b);
    else if ((r < 0) != (b < 0))
        r += b, q -= 1;
    if (op == OP_MOD)
        return jv_float(r);
    double down = floor(q);
    return jv_float(q == 0 ? copysign(0, a / b) : down + (q - down > 0.5));
}

static struct jval str_add(struct vm *m, const struct jstr *a,
                           const struct jstr *b) {
    struct jbuf r = {0};
    bool safe = a->is_safe || b->is_safe;
    if (safe) { /* Markup escapes what joins it */
        a = jv_str(m, str_escape(m, a));
        b = jv_str(m, str_escape(m, b));
    }
    jbuf_str(m, &r, a);
    jbuf_str(m, &r, b);
    struct jval v = jbuf_take(m, &r);
    return safe && v.kind == J_STR ? str_safe(m, v.u.s) : v;
}

static struct jval list_add(struct vm *m, const struct jlist *a,
                            const struct jlist *b) {
    struct jval r = jv_list(m, a->seq, a->n + b->n);
    if (r.kind != J_LIST || !vm_step(m, (a->n + b->n) / 16))
        return r;
    memcpy(r.u.l->v, a->v, a->n * sizeof *a->v);
    memcpy(r.u.l->v + a->n, b->v, b->n * sizeof *b->v);
    r.u.l->n = a->n + b->n;
    return r;
}

static struct jval repeat(struct vm *m, struct jval v, int64_t n) {
    struct jbuf b = {0};
    if (v.kind == J_STR) {
        for (; n > 0 && v.u.s->len && vm_step(m, 1); n--)
            jbuf_str(m, &b, v.u.s);
        return jbuf_take(m, &b);
    }
    struct jval r = jv_list(m, v.u.l->seq, 0);
    for (; n > 0 && v.u.l->n && r.kind == J_LIST && vm_step(m, 1); n--)
        for (size_t i = 0; i < v.u.l->n && vm_step(m, 0); i++)
            jlist_push(m, r.u.l, v.u.l->v[i]);
    return r;
}

static bool repeats(const struct jval *v) {
    return v->kind == J_STR || (v->kind == J_LIST && v->u.l->seq <= SEQ_TUPLE);
}

struct jval jv_binary(struct vm *m, enum jop op, struct jval a, struct jval b) {
    double x, y;
    bool na = jv_number(&a, &x), nb = jv_number(&b, &y);
    if (na && nb && (a.kind == J_FLOAT || b.kind == J_FLOAT))
        return float_binary(m, op, x, y);
    if (na && nb)
        return int_binary(m, op, a.kind == J_INT ? a.u.i : a.u.b,
                          b.kind == J_INT ? b.u.i : b.u.b);
    if (op == OP_ADD && a.kind == J_STR && b.kind == J_STR)
        return str_add(m, a.u.s, b.u.s);
    if (op == OP_ADD && a.kind == J_LIST && b.kind == J_LIST &&
        a.u.l->seq == b.u.l->seq && a.u.l->seq <= SEQ_TUPLE)
        return list_add(m, a.u.l, b.u.l);
    if (op == OP_MUL && repeats(&a) && nb && b.kind != J_FLOAT)
        return repeat(m, a, b.kind == J_INT ? b.u.i : b.u.b);
    if (op == OP_MUL && repeats(&b) && na && a.kind != J_FLOAT)
        return repeat(m, b, a.kind == J_INT ? a.u.i : a.u.b);
    if (op == OP_MOD && a.kind == J_STR)
        return str_percent(m, a.u.s, b);
    return bad_operands(m, op, &a, &b);
}
