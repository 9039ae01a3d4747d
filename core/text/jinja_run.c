/*
 * jinja_run: walks the tree.
 *
 *  1. After a failure vm_step() is false for good: loops end, values are
 *     undefined, the first error stands.
 *  2. Scopes: for, macro, with, and captured bodies have their own; if has
 *     not. A name is looked for outwards, then in the variables, then among
 *     the functions. Assigning makes it in the innermost scope.
 */
#include "core/text/jinja_int.h"

#include "core/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- failing and budgets ---- */

struct jval vm_vfail(struct vm *m, enum err_code code, const char *fmt,
                     va_list ap) {
    char what[400];
    if (!m->failed) {
        vsnprintf(what, sizeof what, fmt, ap);
        err_set(m->err, code, "line %d: %s", m->line, what);
    }
    m->failed = true;
    return jv_undef(NULL);
}

struct jval vm_fail(struct vm *m, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    struct jval v = vm_vfail(m, ERR_INVAL, fmt, ap);
    va_end(ap);
    return v;
}

static bool vm_stop(struct vm *m, enum err_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static bool vm_stop(struct vm *m, enum err_code code, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vm_vfail(m, code, fmt, ap);
    va_end(ap);
    return false;
}

bool vm_step(struct vm *m, size_t n) {
    int64_t before = m->steps;
    if (m->failed)
        return false;
    m->steps += n < JINJA_STEPS_MAX ? (int64_t)n : JINJA_STEPS_MAX;
    if (m->steps > m->steps_max)
        return vm_stop(m, ERR_TIMEOUT, "the template takes over %lld steps",
                       (long long)m->steps_max);
    if (before >> 12 != m->steps >> 12 && clock_mono_us() > m->deadline_us)
        return vm_stop(m, ERR_TIMEOUT, "the template takes over %d ms",
                       JINJA_TIME_MS);
    return true;
}

/* ---- names ---- */

static struct jval *scope_find(struct jscope *s, const char *name) {
    for (; s; s = s->up)
        for (struct jvar *v = s->vars; v; v = v->next)
            if (v->name == name)
                return &v->val;
    return NULL;
}

static struct jval name_load(struct vm *m, const char *name) {
    const struct jval *v = scope_find(m->scope, name);
    if (v && v->kind != J_MISSING)
        return *v;
    const struct jfn *fn = v ? NULL : global_find(name);
    if (fn)
        return (struct jval){.kind = J_FN, .u.fn = fn};
    struct jval text = jv_text(m, name);
    return jv_undef(text.kind == J_STR ? text.u.s : NULL);
}

static void name_store(struct vm *m, const char *name, struct jval v) {
    for (struct jvar *old = m->scope->vars; old; old = old->next)
        if (old->name == name) {
            old->val = v;
            return;
        }
    struct jvar *var = vm_get(m, sizeof *var);
    if (!var)
        return;
    *var = (struct jvar){name, v, m->scope->vars};
    m->scope->vars = var;
}

/* Stores under a name of the template that is equal to `word`. */
static void scope_put(struct vm *m, const char *word, struct jval v) {
    for (int i = 0; i < m->tpl->n_names; i++)
        if (strcmp(m->tpl->names[i], word) == 0)
            name_store(m, m->tpl->names[i], v);
}

/* A scope that macros made in it may keep; n: the node whose scope it is. */
static struct jscope *scope_new(struct vm *m, struct jscope *up,
                                const struct jnode *n) {
    struct jscope *s = vm_get(m, sizeof *s);
    if (!s)
        return NULL;
    s->up = up;
    for (int i = 0; i < n->n_hidden; i++) {
        struct jvar *var = vm_get(m, sizeof *var);
        if (!var)
            return NULL;
        *var = (struct jvar){n->hidden[i], {.kind = J_MISSING}, s->vars};
        s->vars = var;
    }
    return s;
}

static void assign(struct vm *m, const struct jnode *target, struct jval v);

static void assign_many(struct vm *m, const struct jnode *target,
                        struct jval v) {
    const struct jlist *l = jv_iter(m, v);
    size_t n = 0, i = 0;
    for (const struct jnode *t = target->args; t; t = t->next)
        n++;
    if (!l)
        return;
    if (l->n != n) {
        vm_fail(m, "%zu values for %zu names", l->n, n);
        return;
    }
    for (const struct jnode *t = target->args; t; t = t->next)
        assign(m, t, l->v[i++]);
}

static void assign_space(struct vm *m, const struct jnode *t, struct jval v) {
    struct jval space = name_load(m, t->name);
    if (space.kind != J_SPACE) {
        vm_fail(m, "cannot assign attribute on non-namespace object");
        return;
    }
    if (t->val.kind == J_STR && t->val.u.s->p[0] == '_') {
        vm_fail(m, "a namespace keeps no attribute that begins with '_'");
        return;
    }
    jdict_put(m, space.u.d, t->val, v);
}

static void assign(struct vm *m, const struct jnode *target, struct jval v) {
    if (target->type == N_NAME)
        name_store(m, target->name, v);
    else if (target->type == N_SPACE_ATTR)
        assign_space(m, target, v);
    else
        assign_many(m, target, v);
}

/* ---- attributes, items ---- */

static struct jval loop_attr(struct vm *m, struct jloop *l,
                             const struct jstr *name) {
    int64_t i = (int64_t)l->i, n = (int64_t)l->items->n;
    const struct {
        const char *name;
        struct jval v;
    } row[] = {
        {"index", jv_int(i + 1)},
        {"index0", jv_int(i)},
        {"first", jv_bool(i == 0)},
        {"last", jv_bool(i == n - 1)},
        {"length", jv_int(n)},
        {"revindex", jv_int(n - i)},
        {"revindex0", jv_int(n - i - 1)},
        {"depth", jv_int(l->depth + 1)},
        {"depth0", jv_int(l->depth)},
        {"previtem", i > 0 ? l->items->v[i - 1] : jv_undef(NULL)},
        {"nextitem", i + 1 < n ? l->items->v[i + 1] : jv_undef(NULL)},
    };
    (void)m;
    for (size_t k = 0; k < sizeof row / sizeof *row; k++)
        if (str_eq(name, row[k].name))
            return row[k].v;
    return jv_undef(name);
}

static struct jval method_of(struct vm *m, struct jval v,
                             const struct jstr *name, bool *denied) {
    struct jval self = {.kind = J_LOOP};
    const struct jfn *fn = method_find(&v, name->p, name->len, denied);
    if (!fn)
        return jv_undef(name);
    struct jbound *b = vm_get(m, sizeof *b);
    if (!b)
        return self;
    *b = (struct jbound){fn, v};
    return (struct jval){.kind = J_BOUND, .u.bound = b};
}

static bool fails_on_use(struct vm *m, const struct jval *v,
                         const struct jstr *name) {
    if (v->kind != J_UNDEF && v->kind != J_MISSING)
        return false;
    const struct jstr *s = v->kind == J_UNDEF ? v->u.s : NULL;
    vm_fail(m, "'%.*s' is undefined (its '%.*s' is wanted)",
            s ? (int)(s->len < 60 ? s->len : 60) : 1, s ? s->p : "?",
            (int)(name->len < 60 ? name->len : 60), name->p);
    return true;
}

struct jval get_attr(struct vm *m, struct jval v, const struct jstr *name) {
    bool denied = false;
    if (fails_on_use(m, &v, name))
        return jv_undef(NULL);
    if (v.kind == J_LOOP) {
        struct jval attr = loop_attr(m, v.u.loop, name);
        return attr.kind == J_UNDEF ? method_of(m, v, name, &denied) : attr;
    }
    struct jval method = method_of(m, v, name, &denied);
    if (method.kind != J_UNDEF || denied)
        return method;
    if (v.kind != J_DICT && v.kind != J_SPACE)
        return jv_undef(name);
    const struct jval *item = jdict_get(m, v.u.d, jv_of(name));
    return item ? *item : jv_undef(name);
}

/* start, stop, step of a slice over n items, as Python clips them. */
struct range {
    int64_t at, end, step, n;
};
static int64_t slice_end(const struct jval *v, int64_t n, int64_t step,
                         int64_t dflt) {
    int64_t i = v->kind == J_BOOL ? v->u.b : v->u.i;
    if (v->kind != J_INT && v->kind != J_BOOL)
        return dflt;
    if (i < 0)
        i = i < -n ? (step < 0 ? -1 : 0) : i + n;
    return i >= n ? (step < 0 ? n - 1 : n) : i;
}

static bool slice_bad(struct vm *m, const struct jval *v) {
    if (v->kind == J_INT || v->kind == J_NONE || v->kind == J_BOOL)
        return false;
    vm_fail(m, "slice indices must be integers or None");
    return true;
}

static struct range slice_range(struct vm *m, const struct jnode *n,
                                int64_t len) {
    struct jval a = n->a ? eval(m, n->a) : jv_none();
    struct jval b = n->b ? eval(m, n->b) : jv_none();
    struct jval c = n->c ? eval(m, n->c) : jv_none();
    struct range r = {.step = c.kind == J_INT ? c.u.i : 1};
    if (slice_bad(m, &a) || slice_bad(m, &b) || slice_bad(m, &c))
        return (struct range){.step = 1};
    if (r.step == 0) {
        vm_fail(m, "slice step cannot be zero");
        return (struct range){.step = 1};
    }
    if (r.step < -len - 1 || r.step > len + 1) /* one item at most */
        r.step = r.step < 0 ? -len - 1 : len + 1;
    r.at = slice_end(&a, len, r.step, r.step < 0 ? len - 1 : 0);
    r.end = slice_end(&b, len, r.step, r.step < 0 ? -1 : len);
    int64_t span = r.step < 0 ? r.at - r.end : r.end - r.at;
    int64_t by = r.step < 0 ? -r.step : r.step;
    r.n = span > 0 ? (span + by - 1) / by : 0;
    return r;
}

/* Byte offsets of all characters, and the end. */
static size_t *char_offsets(struct vm *m, const struct jstr *s, size_t n) {
    size_t *at = vm_get(m, (n + 1) * sizeof *at), k = 0, w;
    if (!at || !vm_step(m, s->len / 16))
        return NULL;
    for (size_t i = 0; i < s->len && k < n; i += w) {
        utf8_get(s->p + i, s->len - i, &w);
        at[k++] = i;
    }
    while (k <= n)
        at[k++] = s->len;
    return at;
}

static struct jval slice_str(struct vm *m, const struct jstr *s,
                             const struct jnode *node) {
    size_t len = utf8_count(s->p, s->len);
    struct range r = slice_range(m, node, (int64_t)len);
    size_t *at = char_offsets(m, s, len);
    struct jbuf b = {0};
    if (!at)
        return jv_undef(NULL);
    if (r.n > 0 && r.step == 1)
        return str_slice(m, s, at[r.at], at[r.at + r.n] - at[r.at]);
    for (int64_t i = 0; i < r.n && vm_step(m, 1); i++) {
        size_t from = at[r.at + i * r.step];
        jbuf_put(m, &b, s->p + from, at[r.at + i * r.step + 1] - from,
                 str_mark(s, from));
    }
    return jbuf_take(m, &b);
}

static struct jval slice_list(struct vm *m, const struct jlist *l,
                              const struct jnode *node) {
    struct range r = slice_range(m, node, (int64_t)l->n);
    struct jval out = jv_list(m, l->seq, (size_t)r.n);
    for (int64_t i = 0; out.kind == J_LIST && i < r.n && vm_step(m, 0); i++)
        jlist_push(m, out.u.l, l->v[r.at + i * r.step]);
    if (out.kind == J_LIST) {
        out.u.l->first = l->first + r.at * l->step;
        out.u.l->last = l->first + r.end * l->step;
        out.u.l->step = r.step * l->step;
    }
    return out;
}

static struct jval eval_slice(struct vm *m, struct jval v,
                              const struct jnode *n) {
    if (v.kind == J_STR)
        return slice_str(m, v.u.s, n);
    if (v.kind == J_LIST && v.u.l->seq <= SEQ_RANGE)
        return slice_list(m, v.u.l, n);
    static const struct jstr name = {.p = "slice", .len = 5};
    fails_on_use(m, &v, &name);
    return vm_fail(m, "'%s' object is not subscriptable", jv_type(&v));
}

struct jval get_item(struct vm *m, struct jval v, struct jval key) {
    static const struct jstr item = {.p = "item", .len = 4};
    bool denied;
    const struct jstr *name = key.kind == J_STR ? key.u.s : &item;
    if (fails_on_use(m, &v, name))
        return jv_undef(NULL);
    int64_t i = key.kind == J_BOOL ? key.u.b : key.u.i;
    bool is_index = key.kind == J_INT || key.kind == J_BOOL;
    if (v.kind == J_DICT) {
        const struct jval *hit = jdict_get(m, v.u.d, key);
        if (hit)
            return *hit;
    } else if (v.kind == J_STR && is_index) {
        return str_index(m, v.u.s, i);
    } else if (v.kind == J_LIST && is_index && v.u.l->seq <= SEQ_RANGE) {
        int64_t n = (int64_t)v.u.l->n;
        i += i < 0 ? n : 0;
        return i >= 0 && i < n ? v.u.l->v[i] : jv_undef(NULL);
    }
    if (key.kind != J_STR)
        return jv_undef(NULL);
    return v.kind == J_DICT ? method_of(m, v, name, &denied)
                            : get_attr(m, v, name);
}

/* ---- calls ---- */

static int count_args(const struct jnode *n) {
    int k = 0;
    for (; n; n = n->next)
        k++;
    return k;
}

static void args_star(struct vm *m, struct jargs *a, struct jval v) {
    const struct jlist *l = jv_iter(m, v);
    struct jval *all =
        l ? vm_get(m, ((size_t)a->n + l->n + 1) * sizeof *all) : NULL;
    if (!all)
        return;
    if (a->n)
        memcpy(all, a->v, (size_t)a->n * sizeof *all);
    if (l->n)
        memcpy(all + a->n, l->v, l->n * sizeof *all);
    a->v = all;
    a->n += (int)l->n;
}

static const char *key_text(struct vm *m, struct jval key) {
    char *s = key.kind == J_STR ? vm_get(m, key.u.s->len + 1) : NULL;
    if (!s) {
        vm_fail(m, "keywords must be strings");
        return "";
    }
    memcpy(s, key.u.s->p, key.u.s->len);
    return s;
}

static void args_starstar(struct vm *m, struct jargs *a, struct jval v) {
    if (v.kind != J_DICT) {
        vm_fail(m, "argument after ** must be a mapping, not %s", jv_type(&v));
        return;
    }
    struct jkw *kw = vm_get(m, ((size_t)a->n_kw + v.u.d->n + 1) * sizeof *kw);
    if (!kw)
        return;
    if (a->n_kw)
        memcpy(kw, a->kw, (size_t)a->n_kw * sizeof *kw);
    a->kw = kw;
    for (size_t i = 0; i < v.u.d->n; i++)
        kw[a->n_kw++] =
            (struct jkw){key_text(m, v.u.d->p[i].key), v.u.d->p[i].val};
}

static struct jargs eval_args(struct vm *m, const struct jnode *n) {
    size_t max = (size_t)count_args(n);
    struct jargs a = {0};
    if (max == 0)
        return a;
    /* room for all of either kind, whatever stars add later */
    a.v = vm_get(m, max * sizeof *a.v);
    a.kw = vm_get(m, max * sizeof *a.kw);
    for (; n && !m->failed && a.v && a.kw; n = n->next) {
        if (n->type == N_KEYWORD)
            a.kw[a.n_kw++] = (struct jkw){n->name, eval(m, n->a)};
        else if (n->type == N_STAR)
            args_star(m, &a, eval(m, n->a));
        else if (n->type == N_STARSTAR)
            args_starstar(m, &a, eval(m, n->a));
        else
            a.v[a.n++] = eval(m, n);
    }
    return a;
}

/* The i-th name of "old new count"; its length, 0 = there is none. */
static size_t param_at(const char *params, int i, const char **name) {
    while (*params) {
        size_t n = strcspn(params, " ");
        *name = params;
        if (i-- == 0)
            return n;
        params += n + (params[n] == ' ');
    }
    return 0;
}

static int param_find(const char *params, const char *name) {
    const char *p;
    size_t n;
    for (int i = 0; (n = param_at(params, i, &p)); i++)
        if (strlen(name) == n && memcmp(p, name, n) == 0)
            return i;
    return -1;
}

struct jval fn_apply(struct vm *m, const struct jfn *fn, struct jval v,
                     const struct jargs *args) {
    struct jval bound[JFN_ARGS] = {{.kind = J_MISSING}};
    const char *name = "";
    if (!vm_step(m, 1))
        return jv_undef(NULL);
    if (!fn->params)
        return fn->call(m, v, bound, args);
    for (int i = 0; i < args->n; i++) {
        if (!param_at(fn->params, i, &name))
            return vm_fail(m, "%s takes fewer than %d arguments", fn->name,
                           args->n);
        bound[i] = args->v[i];
    }
    for (int i = 0; i < args->n_kw; i++) {
        int at = param_find(fn->params, args->kw[i].name);
        if (at < 0 || bound[at].kind != J_MISSING)
            return vm_fail(m, "%s has no place for the argument '%s'", fn->name,
                           args->kw[i].name);
        bound[at] = args->kw[i].val;
    }
    for (int i = 0; i < fn->need; i++)
        if (bound[i].kind == J_MISSING) {
            size_t n = param_at(fn->params, i, &name);
            return vm_fail(m, "%s misses its argument '%.*s'", fn->name, (int)n,
                           name);
        }
    return fn->call(m, v, bound, args);
}

static bool vm_enter(struct vm *m) {
    if (m->depth >= JINJA_DEPTH_MAX)
        vm_fail(m, "calls nest too deep");
    return !m->failed && vm_step(m, 1) && ++m->depth;
}

/* What no parameter takes: varargs, kwargs and caller, if the macro uses them.
 */
static void bind_rest(struct vm *m, const struct jmacro *f,
                      const struct jargs *args, int taken,
                      const struct jdict *named) {
    const struct jnode *n = f->node;
    struct jval rest = jv_list(m, SEQ_TUPLE, 4), kwargs = jv_dict(m);
    for (int i = taken; i < args->n && rest.kind == J_LIST; i++)
        jlist_push(m, rest.u.l, args->v[i]);
    for (int k = 0; k < args->n_kw && kwargs.kind == J_DICT; k++) {
        const char *name = args->kw[k].name;
        if (strcmp(name, "caller") == 0 && n->uses & USES_CALLER)
            scope_put(m, "caller", args->kw[k].val);
        else if (!jdict_gets(named, name))
            jdict_put(m, kwargs.u.d, jv_text(m, name), args->kw[k].val);
    }
    if (m->failed)
        return;
    if (n->uses & USES_VARARGS)
        scope_put(m, "varargs", rest);
    else if (rest.u.l->n)
        vm_fail(m, "macro '%s' takes not more than %d argument(s)", n->name,
                taken);
    if (n->uses & USES_KWARGS)
        scope_put(m, "kwargs", kwargs);
    else if (kwargs.u.d->n)
        vm_fail(m, "macro '%s' takes no keyword argument '%s'", n->name,
                key_text(m, kwargs.u.d->p[0].key));
}

/* Binds positional and named arguments to a macro's parameters. */
static void macro_bind(struct vm *m, const struct jmacro *f,
                       const struct jargs *args) {
    struct jval named = jv_dict(m);
    int i = 0;
    for (const struct jnode *p = f->node->args; p && !m->failed;
         p = p->next, i++) {
        struct jval v = {.kind = J_MISSING}, name = jv_text(m, p->name);
        if (i < args->n)
            v = args->v[i];
        for (int k = 0; k < args->n_kw; k++)
            if (strcmp(args->kw[k].name, p->name) == 0)
                v = args->kw[k].val;
        if (v.kind == J_MISSING && p->a)
            v = eval(m, p->a);
        if (v.kind == J_MISSING)
            v = jv_undef(name.kind == J_STR ? name.u.s : NULL);
        name_store(m, p->name, v);
        if (!m->failed)
            jdict_put(m, named.u.d, name, v);
    }
    if (!m->failed)
        bind_rest(m, f, args, i, named.u.d);
}

struct jval macro_call(struct vm *m, const struct jmacro *f,
                       const struct jargs *args) {
    struct jbuf b = {0}, *out = m->out;
    struct jscope *scope = m->scope;
    enum jflow flow = m->flow;
    int line = m->line;
    if (!vm_enter(m))
        return jv_undef(NULL);
    m->scope = scope_new(m, f->scope, f->node);
    m->out = &b;
    if (m->scope) {
        macro_bind(m, f, args);
        run_body(m, f->node->body);
    }
    m->out = out;
    m->scope = scope;
    m->flow = flow;
    m->line = line;
    m->depth--;
    return jbuf_take(m, &b);
}

struct jval vm_call(struct vm *m, struct jval f, const struct jargs *args) {
    switch (f.kind) {
    case J_MACRO: return macro_call(m, f.u.macro, args);
    case J_FN: return fn_apply(m, f.u.fn, jv_none(), args);
    case J_BOUND: return fn_apply(m, f.u.bound->fn, f.u.bound->self, args);
    case J_LOOP:
        return args->n == 1 ? loop_call(m, f.u.loop, args->v[0])
                            : vm_fail(m, "loop() takes one argument");
    case J_UNDEF:
        if (f.u.s)
            return vm_fail(m, "'%.*s' is undefined (it is called)",
                           (int)(f.u.s->len < 80 ? f.u.s->len : 80), f.u.s->p);
        return vm_fail(m, "an undefined value is called");
    default: return vm_fail(m, "'%s' object is not callable", jv_type(&f));
    }
}

/* ---- expressions ---- */

static struct jval eval_list(struct vm *m, const struct jnode *n) {
    struct jval r = jv_list(m, n->type == N_TUPLE ? SEQ_TUPLE : SEQ_LIST,
                            (size_t)count_args(n->args));
    for (n = n->args; n && r.kind == J_LIST && !m->failed; n = n->next)
        jlist_push(m, r.u.l, eval(m, n));
    return r;
}

static struct jval eval_dict(struct vm *m, const struct jnode *n) {
    struct jval r = jv_dict(m);
    for (n = n->args; n && r.kind == J_DICT && !m->failed; n = n->next->next) {
        struct jval key = eval(m, n);
        jdict_put(m, r.u.d, key, eval(m, n->next));
    }
    return r;
}

static struct jval eval_call(struct vm *m, const struct jnode *n) {
    struct jval f = eval(m, n->a);
    struct jargs args = eval_args(m, n->args);
    m->line = n->line;
    return m->failed ? jv_undef(NULL) : vm_call(m, f, &args);
}

static struct jval eval_row(struct vm *m, const struct jnode *n,
                            struct jval v) {
    struct jargs args = eval_args(m, n->args);
    m->line = n->line;
    if (!n->fn)
        return vm_fail(m, "no %s named '%s'",
                       n->type == N_TEST ? "test" : "filter", n->name);
    return m->failed ? jv_undef(NULL) : fn_apply(m, n->fn, v, &args);
}

static struct jval eval_unary(struct vm *m, const struct jnode *n) {
    struct jval v = eval(m, n->a);
    return jv_binary(m, n->op, v.kind == J_FLOAT ? jv_float(-0.0) : jv_int(0),
                     v);
}

static struct jval eval_concat(struct vm *m, const struct jnode *n) {
    struct jbuf b = {0};
    for (n = n->args; n && !m->failed; n = n->next)
        put_str(m, &b, eval(m, n));
    return jbuf_take(m, &b);
}

static bool compare(struct vm *m, enum jop op, struct jval a, struct jval b) {
    switch (op) {
    case OP_EQ: return jv_is(m, a, b);
    case OP_NE: return !jv_is(m, a, b);
    case OP_IN: return jv_in(m, a, b);
    case OP_NOT_IN: return !jv_in(m, a, b);
    default: break;
    }
    int c = jv_cmp(m, a, b);
    return op == OP_LT   ? c < 0
           : op == OP_LE ? c <= 0
           : op == OP_GT ? c == 1
                         : c == 0 || c == 1;
}

static struct jval eval_compare(struct vm *m, const struct jnode *n) {
    struct jval a = eval(m, n->a);
    for (n = n->args; n && !m->failed; n = n->next) {
        struct jval b = eval(m, n->a);
        m->line = n->line;
        if (!compare(m, n->op, a, b))
            return jv_bool(false);
        a = b;
    }
    return jv_bool(true);
}

static struct jval eval_now(struct vm *m, const struct jnode *n) {
    struct jval v, w;
    switch (n->type) {
    case N_CONST: return n->val;
    case N_NAME: return name_load(m, n->name);
    case N_ATTR: v = eval(m, n->a); return get_attr(m, v, n->val.u.s);
    case N_ITEM:
        v = eval(m, n->a);
        if (n->b->type == N_SLICE)
            return eval_slice(m, v, n->b);
        w = eval(m, n->b);
        return get_item(m, v, w);
    case N_CALL: return eval_call(m, n);
    case N_FILTER:
    case N_TEST: return eval_row(m, n, eval(m, n->a));
    case N_LIST:
    case N_TUPLE: return eval_list(m, n);
    case N_DICT: return eval_dict(m, n);
    case N_UNARY: return eval_unary(m, n);
    case N_BINARY:
        v = eval(m, n->a);
        w = eval(m, n->b);
        m->line = n->line;
        return m->failed ? v : jv_binary(m, n->op, v, w);
    case N_CONCAT: return eval_concat(m, n);
    case N_AND: v = eval(m, n->a); return jv_true(&v) ? eval(m, n->b) : v;
    case N_OR: v = eval(m, n->a); return jv_true(&v) ? v : eval(m, n->b);
    case N_NOT: v = eval(m, n->a); return jv_bool(!jv_true(&v));
    case N_COMPARE: return eval_compare(m, n);
    case N_COND:
        v = eval(m, n->a);
        if (jv_true(&v))
            return eval(m, n->b);
        return n->c ? eval(m, n->c) : jv_undef(NULL);
    default: return vm_fail(m, "a slice outside an index");
    }
}

struct jval eval(struct vm *m, const struct jnode *n) {
    if (!vm_enter(m))
        return jv_undef(NULL);
    m->line = n->line;
    struct jval v = eval_now(m, n);
    m->depth--;
    return m->failed ? jv_undef(NULL) : v;
}

/* ---- statements ---- */

static void run_if(struct vm *m, const struct jnode *n) {
    for (;;) {
        struct jval v = eval(m, n->a);
        if (m->failed)
            return;
        if (jv_true(&v)) {
            run_body(m, n->body);
            return;
        }
        if (!n->orelse || !n->orelse->flag || n->orelse->type != N_IF) {
            run_body(m, n->orelse);
            return;
        }
        n = n->orelse;
    }
}

/* What a loop goes over: all items, less those its condition leaves out. */
static const struct jlist *for_items(struct vm *m, const struct jnode *n,
                                     struct jval over) {
    const struct jlist *l = jv_iter(m, over);
    struct jscope *outer = m->scope;
    if (!l || !n->c)
        return l;
    struct jval kept = jv_list(m, SEQ_LIST, l->n);
    for (size_t i = 0; kept.kind == J_LIST && i < l->n && vm_step(m, 1); i++) {
        m->scope = scope_new(m, outer, n);
        if (m->scope) {
            assign(m, n->a, l->v[i]);
            struct jval v = eval(m, n->c);
            if (jv_true(&v))
                jlist_push(m, kept.u.l, l->v[i]);
        }
        m->scope = outer;
    }
    return kept.kind == J_LIST ? kept.u.l : NULL;
}

static void run_loop(struct vm *m, const struct jnode *n, struct jval over,
                     int depth) {
    const struct jlist *items = for_items(m, n, over);
    struct jscope *outer = m->scope;
    bool ended = false;
    struct jloop *loop = vm_get(m, sizeof *loop);
    if (!items || !loop)
        return;
    *loop = (struct jloop){.items = items,
                           .depth = depth,
                           .node = n->flag ? n : NULL,
                           .scope = outer};
    loop->seen.kind = J_MISSING;
    for (size_t i = 0; i < items->n && vm_step(m, 1); i++) {
        struct jvar *var = vm_get(m, sizeof *var);
        m->scope = scope_new(m, outer, n);
        if (!m->scope || !var)
            break;
        loop->i = i;
        *var = (struct jvar){
            n->name, {.kind = J_LOOP, .u.loop = loop}, m->scope->vars};
        m->scope->vars = var;
        assign(m, n->a, items->v[i]);
        run_body(m, n->body);
        bool stop = m->flow == FLOW_BREAK;
        ended = ended || m->flow == FLOW_ON;
        m->flow = FLOW_ON;
        if (stop)
            break;
    }
    m->scope = outer;
    /* as jinja2 does it: when no turn came to the end of the body */
    if (!ended)
        run_body(m, n->orelse);
}

struct jval loop_call(struct vm *m, const struct jloop *l, struct jval items) {
    struct jbuf b = {0}, *out = m->out;
    struct jscope *scope = m->scope;
    if (!l->node)
        return vm_fail(m, "the loop is not recursive (for … recursive)");
    if (!vm_enter(m))
        return jv_undef(NULL);
    m->scope = l->scope;
    m->out = &b;
    run_loop(m, l->node, items, l->depth + 1);
    m->out = out;
    m->scope = scope;
    m->depth--;
    return jbuf_take(m, &b);
}

/* What a body prints, in a scope of its own. */
static struct jval capture(struct vm *m, const struct jnode *n) {
    struct jbuf b = {0}, *out = m->out;
    struct jscope *scope = m->scope;
    m->scope = scope_new(m, scope, n);
    m->out = &b;
    if (m->scope)
        run_body(m, n->body);
    m->out = out;
    m->scope = scope;
    return jbuf_take(m, &b);
}

/* Filters over a text: the innermost has no operand. */
static struct jval filter_text(struct vm *m, const struct jnode *n,
                               struct jval v) {
    if (!n || m->failed)
        return v;
    return eval_row(m, n, filter_text(m, n->a, v));
}

static struct jval make_macro(struct vm *m, const struct jnode *n) {
    struct jmacro *f = vm_get(m, sizeof *f);
    if (!f)
        return jv_undef(NULL);
    *f = (struct jmacro){n, m->scope};
    return (struct jval){.kind = J_MACRO, .u.macro = f};
}

static void run_call_block(struct vm *m, const struct jnode *n) {
    struct jval f = eval(m, n->a->a);
    struct jargs args = eval_args(m, n->a->args);
    struct jkw *kw = vm_get(m, ((size_t)args.n_kw + 1) * sizeof *kw);
    if (m->failed || !kw)
        return;
    if (args.n_kw)
        memcpy(kw, args.kw, (size_t)args.n_kw * sizeof *kw);
    kw[args.n_kw++] = (struct jkw){n->name, make_macro(m, n)};
    args.kw = kw;
    put_str(m, m->out, vm_call(m, f, &args));
}

static void run_with(struct vm *m, const struct jnode *n) {
    struct jscope *outer = m->scope, *inner = scope_new(m, outer, n);
    for (const struct jnode *t = n->args; t && inner; t = t->next->next) {
        struct jval v = eval(m, t->next);
        m->scope = inner;
        assign(m, t, v);
        m->scope = outer;
    }
    m->scope = inner;
    if (inner)
        run_body(m, n->body);
    m->scope = outer;
}

static void run_generation(struct vm *m, const struct jnode *n) {
    struct jval v = capture(m, n);
    size_t at = m->out->len;
    put_str(m, m->out, v);
    for (; at < m->out->len; at++)
        m->out->mark[at] |= JINJA_GENERATED;
}

static void run_filter_block(struct vm *m, const struct jnode *n) {
    struct jval v = filter_text(m, n->a, capture(m, n));
    if (v.kind == J_STR)
        jbuf_str(m, m->out, v.u.s);
    else
        vm_fail(m, "a filtered block is no text but %s", jv_type(&v));
}

static void run_one(struct vm *m, const struct jnode *n) {
    switch (n->type) {
    case N_DATA: jbuf_str(m, m->out, n->val.u.s); break;
    case N_PRINT: put_str(m, m->out, eval(m, n->a)); break;
    case N_IF: run_if(m, n); break;
    case N_FOR: run_loop(m, n, eval(m, n->b), 0); break;
    case N_SET: assign(m, n->a, eval(m, n->b)); break;
    case N_SET_BLOCK:
        assign(m, n->a, filter_text(m, n->b, capture(m, n)));
        break;
    case N_MACRO: name_store(m, n->name, make_macro(m, n)); break;
    case N_CALL_BLOCK: run_call_block(m, n); break;
    case N_FILTER_BLOCK: run_filter_block(m, n); break;
    case N_WITH: run_with(m, n); break;
    case N_GENERATION: run_generation(m, n); break;
    case N_BREAK: m->flow = FLOW_BREAK; break;
    case N_CONTINUE: m->flow = FLOW_CONTINUE; break;
    default: break;
    }
}

void run_body(struct vm *m, const struct jnode *n) {
    if (!n || !vm_enter(m))
        return;
    for (; n && m->flow == FLOW_ON && vm_step(m, 1); n = n->next) {
        m->line = n->line;
        run_one(m, n);
    }
    m->depth--;
}

/* ---- the whole ---- */

/* A text among the variables is the template's own, as bos_token is; what lies
 * in lists and objects is others' words. */
static void load_vars(struct vm *m, const struct jinja *j, const json_t *vars) {
    for (int i = 0; i < j->n_names && !m->failed; i++) {
        const json_t *v = json_object_get(vars, j->names[i]);
        if (v)
            name_store(m, j->names[i],
                       jv_json(m, v, json_is_string(v) ? 0 : JINJA_TEXT, 0));
    }
}

int jinja_render(const struct jinja *j, const json_t *vars,
                 struct jinja_out *out, struct err *err) {
    struct jscope given = {0};
    struct jbuf b = {0};
    struct vm m = {.mem.max = JINJA_MEMORY_MAX,
                   .tpl = j,
                   .scope = &given,
                   .out = &b,
                   .steps_max = j->steps,
                   .err = err,
                   .deadline_us = clock_mono_us() + JINJA_TIME_MS * 1000};
    memset(out, 0, sizeof *out);
    load_vars(&m, j, vars);
    m.scope = scope_new(&m, &given, &j->root);
    if (m.scope)
        run_body(&m, j->root.body);
    if (!m.failed) {
        out->text = malloc(b.len + 1);
        out->mark = malloc(b.len + 1);
        CHECK(out->text && out->mark, "out of memory for a rendered chat");
        if (b.len) {
            memcpy(out->text, b.p, b.len);
            memcpy(out->mark, b.mark, b.len);
        }
        out->text[b.len] = 0;
        out->len = b.len;
    }
    out->steps = m.steps;
    arena_release(&m.mem);
    return m.failed ? err_ctx(err, "chat template") : 0;
}

void jinja_out_release(struct jinja_out *out) {
    free(out->text);
    free(out->mark);
    memset(out, 0, sizeof *out);
}
