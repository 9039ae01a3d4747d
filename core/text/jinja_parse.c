/*
 * jinja_parse: tokens to a tree, by recursive descent in jinja2's precedence:
 * cond < or < and < not < compare < + - < ~ < * / < ** < unary < postfix.
 *
 * What the fields of a node are (lists go by next):
 *   ATTR a.name  ITEM a[b]  SLICE a:b:c  CALL a(args)  DICT args = k, v, k, v
 *   FILTER, TEST of a with args (a NULL in a block's filter)
 *   COMPARE a with args, each op and a  COND b if a else c
 *   KEYWORD name=a  STAR *a  STARSTAR **a  SPACE_ATTR name.val
 *   IF a: body else orelse (flag: an elif)  FOR a in b if c: body else orelse
 *   SET a = b  SET_BLOCK a = body through filter b
 *   MACRO name(args: NAME with default a)  CALL_BLOCK (args) a: body
 *   FILTER_BLOCK a  WITH args = target, value, …
 */
#include "core/text/int.h"
#include "core/text/jinja_int.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define PARSE_DEPTH 100

struct parser {
    struct jinja *j;
    const struct jtoken *t;
    struct err *err;
    int depth, loops, maybe; /* maybe: inside a condition */
    bool failed;
    const struct jnode *unknown; /* the first filter or test that is */
};

static struct jnode *parse_expr(struct parser *p, bool cond);
static struct jnode *parse_unary(struct parser *p, bool filters);
static struct jnode *parse_body(struct parser *p, const char *const *ends);

static struct jnode *parse_fail(struct parser *p, enum err_code code,
                                const char *what, const struct jstr *s) {
    p->failed = true;
    if (s)
        err_set(p->err, code, "line %d: %s '%.*s'", p->t->line, what,
                (int)(s->len < 60 ? s->len : 60), s->p);
    else
        err_set(p->err, code, "line %d: %s", p->t->line, what);
    return NULL;
}

static struct jnode *syntax(struct parser *p, const char *what) {
    return parse_fail(p, ERR_INVAL, what, NULL);
}

static void *parse_get(struct parser *p, size_t n) {
    void *v = arena_get(&p->j->mem, n);
    if (!v)
        parse_fail(p, ERR_TOOBIG, "the template is too big", NULL);
    return v;
}

static struct jnode *node(struct parser *p, enum jtype type, struct jnode *a,
                          struct jnode *b) {
    struct jnode *n = parse_get(p, sizeof *n);
    if (!n)
        return NULL;
    n->type = type;
    n->line = p->t->line;
    n->a = a;
    n->b = b;
    return n;
}

struct name {
    int id;
    char text[];
};

int jinja_name_id(const char *name) {
    return ((const struct name *)(name - offsetof(struct name, text)))->id;
}

/* What stands for a name after a failure. */
static const char *no_name(void) {
    static const struct {
        int id;
        char text[sizeof(int)];
    } none = {0, ""};
    return none.text;
}

static const char *intern(struct parser *p, const struct jstr *s) {
    struct jinja *j = p->j;
    for (int i = 0; i < j->n_names; i++)
        if (str_eq(s, j->names[i]))
            return j->names[i];
    struct name *n = parse_get(p, sizeof *n + s->len + 1);
    if (n && j->n_names == JINJA_NAMES)
        syntax(p, "too many names");
    if (p->failed)
        return no_name();
    memcpy(n->text, s->p, s->len);
    n->id = j->n_names;
    return j->names[j->n_names++] = n->text;
}

static struct jval const_str(struct parser *p, const struct jstr *s) {
    struct jstr *copy = parse_get(p, sizeof *copy);
    if (!copy)
        return jv_none();
    *copy = *s;
    return jv_of(copy);
}

/* ---- tokens ---- */

static void next(struct parser *p) {
    if (p->t->type != T_END)
        p->t++;
}
static bool is_op(const struct parser *p, const char *op) {
    return p->t->type == T_OP && strcmp(p->t->op, op) == 0;
}
static bool is_word(const struct parser *p, const char *word) {
    return p->t->type == T_NAME && str_eq(&p->t->s, word);
}
static bool skip_op(struct parser *p, const char *op) {
    bool yes = is_op(p, op);
    if (yes)
        next(p);
    return yes;
}
static bool skip_word(struct parser *p, const char *word) {
    bool yes = is_word(p, word);
    if (yes)
        next(p);
    return yes;
}

static void want_op(struct parser *p, const char *op) {
    if (!skip_op(p, op)) {
        struct jstr s = {.p = op, .len = strlen(op)};
        parse_fail(p, ERR_INVAL, "expected", &s);
    }
}

static const char *want_name(struct parser *p) {
    if (p->t->type != T_NAME) {
        syntax(p, "expected a name");
        return no_name();
    }
    const char *name = intern(p, &p->t->s);
    next(p);
    return name;
}

/* ---- primaries ---- */

/* Appends to a list whose end is at *tail. */
static struct jnode **append(struct jnode **tail, struct jnode *n) {
    *tail = n;
    return n ? &n->next : tail;
}

static struct jnode *parse_name(struct parser *p, bool space) {
    static const struct {
        const char *word;
        enum jkind kind;
        bool b;
    } words[] = {{"true", J_BOOL, true},   {"True", J_BOOL, true},
                 {"false", J_BOOL, false}, {"False", J_BOOL, false},
                 {"none", J_NONE, false},  {"None", J_NONE, false}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (!is_word(p, words[i].word))
            continue;
        struct jnode *n = node(p, N_CONST, NULL, NULL);
        if (n)
            n->val = words[i].kind == J_BOOL ? jv_bool(words[i].b) : jv_none();
        next(p);
        return n;
    }
    struct jnode *n = node(p, N_NAME, NULL, NULL);
    const char *name = want_name(p);
    if (n)
        n->name = name;
    if (n && space && skip_op(p, ".")) {
        n->type = N_SPACE_ATTR;
        if (p->t->type != T_NAME)
            return syntax(p, "expected a name");
        n->val = const_str(p, &p->t->s);
        next(p);
    }
    return n;
}

/* Strings side by side are one. */
static struct jnode *parse_string(struct parser *p) {
    struct jnode *n = node(p, N_CONST, NULL, NULL);
    struct jstr all = p->t->s;
    next(p);
    while (p->t->type == T_STR) {
        char *s = parse_get(p, all.len + p->t->s.len + 1);
        if (!s)
            return NULL;
        memcpy(s, all.p, all.len);
        memcpy(s + all.len, p->t->s.p, p->t->s.len);
        all = (struct jstr){.p = s, .len = all.len + p->t->s.len};
        next(p);
    }
    if (n)
        n->val = const_str(p, &all);
    return n;
}

static bool tuple_ends(const struct parser *p, const char *end) {
    return p->t->type == T_PRINT_END || p->t->type == T_TAG_END ||
           is_op(p, ")") || (end && is_word(p, end));
}

/* An expression, or several between commas, which are a tuple. parens: nothing
 * at all is the empty tuple. */
static struct jnode *parse_tuple(struct parser *p, bool cond, bool parens,
                                 const char *end) {
    struct jnode *t = node(p, N_TUPLE, NULL, NULL);
    bool is_tuple = false;
    if (!t)
        return NULL;
    struct jnode **tail = &t->args;
    while (!p->failed && !tuple_ends(p, end)) {
        tail = append(tail, parse_expr(p, cond));
        if (!skip_op(p, ","))
            break;
        is_tuple = true;
    }
    if (!is_tuple && t->args)
        return t->args;
    if (!is_tuple && !parens)
        return syntax(p, "expected an expression");
    return t;
}

static struct jnode *parse_list(struct parser *p) {
    struct jnode *n = node(p, N_LIST, NULL, NULL);
    if (!n)
        return NULL;
    struct jnode **tail = &n->args;
    next(p);
    while (!p->failed && !is_op(p, "]")) {
        tail = append(tail, parse_expr(p, true));
        if (!skip_op(p, ","))
            break;
    }
    want_op(p, "]");
    return n;
}

static struct jnode *parse_dict(struct parser *p) {
    struct jnode *n = node(p, N_DICT, NULL, NULL);
    if (!n)
        return NULL;
    struct jnode **tail = &n->args;
    next(p);
    while (!p->failed && !is_op(p, "}")) {
        tail = append(tail, parse_expr(p, true));
        want_op(p, ":");
        tail = append(tail, parse_expr(p, true));
        if (!skip_op(p, ","))
            break;
    }
    want_op(p, "}");
    return n;
}

static struct jnode *parse_primary(struct parser *p, bool space) {
    struct jnode *n;
    switch (p->t->type) {
    case T_NAME: return parse_name(p, space);
    case T_STR: return parse_string(p);
    case T_INT:
    case T_FLOAT:
        n = node(p, N_CONST, NULL, NULL);
        if (n)
            n->val = p->t->type == T_INT ? jv_int(p->t->i) : jv_float(p->t->f);
        next(p);
        return n;
    default: break;
    }
    if (is_op(p, "["))
        return parse_list(p);
    if (is_op(p, "{"))
        return parse_dict(p);
    if (!skip_op(p, "("))
        return syntax(p, "expected an expression");
    n = parse_tuple(p, true, true, NULL);
    want_op(p, ")");
    return n;
}

/* ---- what follows a primary ---- */

static struct jnode *parse_arg(struct parser *p) {
    struct jnode *n = node(p, N_KEYWORD, NULL, NULL);
    if (!n)
        return NULL;
    if (skip_op(p, "*"))
        n->type = N_STAR;
    else if (skip_op(p, "**"))
        n->type = N_STARSTAR;
    else if (p->t->type == T_NAME && p->t[1].type == T_OP &&
             strcmp(p->t[1].op, "=") == 0) {
        n->name = want_name(p);
        next(p);
    } else {
        return parse_expr(p, true);
    }
    n->a = parse_expr(p, true);
    return n;
}

static struct jnode *parse_args(struct parser *p) {
    struct jnode *args = NULL, **tail = &args;
    int last = 0; /* 0 plain, 1 star or keyword, 2 starstar */
    want_op(p, "(");
    while (!p->failed && !is_op(p, ")")) {
        struct jnode *n = parse_arg(p);
        if (!n)
            return NULL;
        int rank = n->type == N_STARSTAR                       ? 2
                   : n->type == N_KEYWORD || n->type == N_STAR ? 1
                                                               : 0;
        if (rank < last || (rank == 2 && last == 2))
            return syntax(p, "arguments in an order that no call has");
        last = rank;
        tail = append(tail, n);
        if (!skip_op(p, ","))
            break;
    }
    want_op(p, ")");
    return args;
}

static struct jnode *parse_subscript_part(struct parser *p) {
    struct jnode *part[3] = {NULL};
    int colons = 0;
    while (!p->failed && !is_op(p, "]") && !is_op(p, ",")) {
        if (is_op(p, ":")) {
            if (++colons == 3)
                return syntax(p, "a slice of more than three parts");
            next(p);
        } else if (part[colons]) {
            return syntax(p, "expected ']'");
        } else {
            part[colons] = parse_expr(p, true);
        }
    }
    if (colons == 0)
        return part[0] ? part[0] : syntax(p, "expected an expression");
    struct jnode *n = node(p, N_SLICE, part[0], part[1]);
    if (n)
        n->c = part[2];
    return n;
}

static struct jnode *parse_subscript(struct parser *p, struct jnode *a) {
    struct jnode *n = node(p, N_ITEM, a, NULL);
    if (!n)
        return NULL;
    if (skip_op(p, ".")) {
        if (p->t->type == T_INT) {
            n->b = parse_primary(p, false);
            return n;
        }
        if (p->t->type != T_NAME)
            return syntax(p, "expected a name or a number");
        n->type = N_ATTR;
        n->val = const_str(p, &p->t->s);
        next(p);
        return n;
    }
    next(p);
    n->b = parse_subscript_part(p);
    if (is_op(p, ",")) {
        struct jnode *t = node(p, N_TUPLE, NULL, NULL);
        if (!t)
            return NULL;
        struct jnode **tail = append(&t->args, n->b);
        while (!p->failed && skip_op(p, ","))
            tail = append(tail, parse_subscript_part(p));
        n->b = t;
    }
    want_op(p, "]");
    return n;
}

static struct jnode *parse_call(struct parser *p, struct jnode *a) {
    struct jnode *n = node(p, N_CALL, a, NULL);
    if (n)
        n->args = parse_args(p);
    return n;
}

static struct jnode *parse_postfix(struct parser *p, struct jnode *n) {
    while (!p->failed) {
        if (is_op(p, ".") || is_op(p, "["))
            n = parse_subscript(p, n);
        else if (is_op(p, "("))
            n = parse_call(p, n);
        else
            break;
    }
    return n;
}

/* What has a scope of its own is no part of the condition that it stands in: a
 * loop, macro, call, filter or set of a block. What p->maybe is again behind.
 */
static int scope_in(struct parser *p) {
    int maybe = p->maybe;
    p->maybe = 0;
    return maybe;
}

/* Filters and tests that no table has fail the template, but for those inside a
 * condition, which may never run. */
static void check_known(struct parser *p, const struct jnode *n) {
    if (!n->fn && !p->maybe && !p->unknown)
        p->unknown = n;
}

static struct jnode *parse_filter(struct parser *p, struct jnode *a) {
    struct jnode *n = node(p, N_FILTER, a, NULL);
    if (!n)
        return NULL;
    n->name = want_name(p);
    n->fn = filter_find(n->name);
    check_known(p, n);
    if (is_op(p, "("))
        n->args = parse_args(p);
    return n;
}

static bool test_has_bare_arg(const struct parser *p) {
    if (is_word(p, "else") || is_word(p, "or") || is_word(p, "and"))
        return false;
    return p->t->type == T_NAME || p->t->type == T_STR || p->t->type == T_INT ||
           p->t->type == T_FLOAT || is_op(p, "[") || is_op(p, "{");
}

static struct jnode *parse_test(struct parser *p, struct jnode *a) {
    struct jnode *n = node(p, N_TEST, a, NULL);
    if (!n)
        return NULL;
    bool negated = skip_word(p, "not");
    n->name = want_name(p);
    n->fn = test_find(n->name);
    check_known(p, n);
    if (is_op(p, "("))
        n->args = parse_args(p);
    else if (is_word(p, "is"))
        return syntax(p, "tests cannot be chained with is");
    else if (test_has_bare_arg(p))
        n->args = parse_postfix(p, parse_primary(p, false));
    return negated ? node(p, N_NOT, n, NULL) : n;
}

static struct jnode *parse_filters(struct parser *p, struct jnode *n) {
    while (!p->failed) {
        if (skip_op(p, "|"))
            n = parse_filter(p, n);
        else if (skip_word(p, "is"))
            n = parse_test(p, n);
        else if (is_op(p, "("))
            n = parse_call(p, n);
        else
            break;
    }
    return n;
}

/* ---- operators ---- */

static struct jnode *parse_unary(struct parser *p, bool filters) {
    struct jnode *n;
    if (p->failed)
        return NULL;
    if (++p->depth > PARSE_DEPTH)
        return syntax(p, "expressions nest too deep");
    if (is_op(p, "-") || is_op(p, "+")) {
        enum jop op = is_op(p, "-") ? OP_SUB : OP_ADD;
        next(p);
        n = node(p, N_UNARY, parse_unary(p, false), NULL);
        if (n)
            n->op = op;
    } else {
        n = parse_primary(p, false);
    }
    n = parse_postfix(p, n);
    if (filters)
        n = parse_filters(p, n);
    p->depth--;
    return n;
}

struct level {
    const char *op;
    enum jop code;
};
static const struct level level_sum[] = {{"+", OP_ADD}, {"-", OP_SUB}, {0}};
static const struct level level_product[] = {
    {"*", OP_MUL}, {"/", OP_DIV}, {"//", OP_FLOORDIV}, {"%", OP_MOD}, {0}};
static const struct level level_power[] = {{"**", OP_POW}, {0}};
static const struct level level_compare[] = {
    {"==", OP_EQ}, {"!=", OP_NE}, {"<", OP_LT}, {"<=", OP_LE},
    {">", OP_GT},  {">=", OP_GE}, {0}};

static const struct level *level_at(const struct parser *p,
                                    const struct level *l) {
    for (; l->op; l++)
        if (is_op(p, l->op))
            return l;
    return NULL;
}

static struct jnode *parse_binary(struct parser *p, const struct level *l);

static struct jnode *parse_concat(struct parser *p) {
    struct jnode *first = parse_binary(p, level_product);
    if (!is_op(p, "~"))
        return first;
    struct jnode *n = node(p, N_CONCAT, NULL, NULL);
    if (!n)
        return NULL;
    struct jnode **tail = append(&n->args, first);
    while (!p->failed && skip_op(p, "~"))
        tail = append(tail, parse_binary(p, level_product));
    return n;
}

static struct jnode *parse_operand(struct parser *p, const struct level *l) {
    if (l == level_sum)
        return parse_concat(p);
    if (l == level_product)
        return parse_binary(p, level_power);
    return parse_unary(p, true);
}

static struct jnode *parse_binary(struct parser *p, const struct level *l) {
    struct jnode *n = parse_operand(p, l);
    const struct level *at;
    while (!p->failed && (at = level_at(p, l))) {
        next(p);
        n = node(p, N_BINARY, n, parse_operand(p, l));
        if (n)
            n->op = at->code;
    }
    return n;
}

/* The comparison that stands here, -1 = none. */
static int take_compare(struct parser *p) {
    const struct level *at = level_at(p, level_compare);
    if (at) {
        next(p);
        return (int)at->code;
    }
    if (skip_word(p, "in"))
        return OP_IN;
    if (is_word(p, "not") && p->t[1].type == T_NAME &&
        str_eq(&p->t[1].s, "in")) {
        next(p);
        next(p);
        return OP_NOT_IN;
    }
    return -1;
}

static struct jnode *parse_compare(struct parser *p) {
    struct jnode *first = parse_binary(p, level_sum), *all = NULL;
    struct jnode **tail = NULL;
    int op;
    while (!p->failed && (op = take_compare(p)) >= 0) {
        if (!all) {
            all = node(p, N_COMPARE, first, NULL);
            tail = all ? &all->args : NULL;
        }
        struct jnode *n = node(p, N_COMPARE, parse_binary(p, level_sum), NULL);
        if (!n || !tail)
            return NULL;
        n->op = (enum jop)op;
        tail = append(tail, n);
    }
    return all ? all : first;
}

static struct jnode *parse_not(struct parser *p) {
    if (!is_word(p, "not"))
        return parse_compare(p);
    if (++p->depth > PARSE_DEPTH)
        return syntax(p, "expressions nest too deep");
    next(p);
    struct jnode *n = node(p, N_NOT, parse_not(p), NULL);
    p->depth--;
    return n;
}

static struct jnode *parse_and(struct parser *p) {
    struct jnode *n = parse_not(p);
    while (!p->failed && skip_word(p, "and"))
        n = node(p, N_AND, n, parse_not(p));
    return n;
}

static struct jnode *parse_or(struct parser *p) {
    struct jnode *n = parse_and(p);
    while (!p->failed && skip_word(p, "or"))
        n = node(p, N_OR, n, parse_and(p));
    return n;
}

static struct jnode *parse_expr(struct parser *p, bool cond) {
    if (p->failed)
        return NULL;
    if (++p->depth > PARSE_DEPTH)
        return syntax(p, "expressions nest too deep");
    const struct jnode *before = p->unknown;
    struct jnode *n = parse_or(p);
    while (cond && !p->failed && skip_word(p, "if")) {
        p->unknown = before; /* what stands before the if may never run */
        p->maybe++;
        struct jnode *test = parse_or(p);
        n = node(p, N_COND, test, n);
        if (n && skip_word(p, "else"))
            n->c = parse_expr(p, true);
        p->maybe--;
    }
    p->depth--;
    return n;
}

/* ---- statements ---- */

static void want_tag_end(struct parser *p) {
    if (p->t->type != T_TAG_END)
        syntax(p, "expected the end of the tag");
    else
        next(p);
}

/* The body up to one of the words, which is skipped; which one it was. */
static int parse_until(struct parser *p, const char *const *ends,
                       struct jnode **body) {
    skip_op(p, ":");
    want_tag_end(p);
    *body = parse_body(p, ends);
    for (int i = 0; !p->failed && ends[i]; i++)
        if (skip_word(p, ends[i]))
            return i;
    return -1;
}

static struct jnode *parse_until_one(struct parser *p, const char *end) {
    const char *const ends[] = {end, NULL};
    struct jnode *body;
    parse_until(p, ends, &body);
    return body;
}

static bool can_assign(const struct jnode *n) {
    if (n->type == N_TUPLE)
        for (const struct jnode *a = n->args; a; a = a->next)
            if (!can_assign(a))
                return false;
    return n->type == N_TUPLE || n->type == N_NAME || n->type == N_SPACE_ATTR;
}

static struct jnode *parse_target(struct parser *p, const char *end,
                                  bool space) {
    struct jnode *t = node(p, N_TUPLE, NULL, NULL);
    bool is_tuple = false;
    if (!t)
        return NULL;
    struct jnode **tail = &t->args;
    while (!p->failed && !tuple_ends(p, end)) {
        tail = append(tail, parse_primary(p, space));
        if (!skip_op(p, ","))
            break;
        is_tuple = true;
    }
    struct jnode *n = is_tuple ? t : t->args;
    if (!p->failed && (!n || !can_assign(n)))
        return syntax(p, "nothing that can be assigned to");
    return n;
}

/* Of a loop: a scope of its own, as `with` is one. */
static struct jnode *parse_for_else(struct parser *p) {
    struct jnode *n = node(p, N_WITH, NULL, NULL);
    if (n)
        n->body = parse_until_one(p, "endfor");
    return n;
}

static struct jnode *parse_for(struct parser *p) {
    static const char *const ends[] = {"endfor", "else", NULL};
    struct jnode *n = node(p, N_FOR, NULL, NULL);
    if (!n)
        return NULL;
    n->name = intern(p, &(struct jstr){.p = "loop", .len = 4});
    n->a = parse_target(p, "in", false);
    if (!skip_word(p, "in"))
        return syntax(p, "expected 'in'");
    n->b = parse_tuple(p, false, false, "recursive");
    int maybe = scope_in(p);
    if (skip_word(p, "if"))
        n->c = parse_expr(p, true);
    n->flag = skip_word(p, "recursive");
    p->loops++;
    int end = parse_until(p, ends, &n->body);
    p->loops--;
    if (end == 1)
        n->orelse = parse_for_else(p);
    p->maybe = maybe;
    return n;
}

static struct jnode *parse_if(struct parser *p) {
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    struct jnode *first = node(p, N_IF, NULL, NULL), *n = first;
    p->maybe++;
    while (n && !p->failed) {
        n->a = parse_tuple(p, false, false, NULL);
        int end = parse_until(p, ends, &n->body);
        if (end == 1)
            n->orelse = parse_until_one(p, "endif");
        if (end != 0)
            break;
        n->orelse = node(p, N_IF, NULL, NULL);
        n = n->orelse;
        if (n)
            n->flag = true;
    }
    p->maybe--;
    return first;
}

static struct jnode *parse_block_filter(struct parser *p, struct jnode *n) {
    while (!p->failed && skip_op(p, "|"))
        n = parse_filter(p, n);
    return n;
}

static struct jnode *parse_set(struct parser *p) {
    struct jnode *n = node(p, N_SET, NULL, NULL);
    if (!n)
        return NULL;
    n->a = parse_target(p, NULL, true);
    if (skip_op(p, "=")) {
        n->b = parse_tuple(p, true, false, NULL);
        return n;
    }
    n->type = N_SET_BLOCK;
    int maybe = scope_in(p);
    n->b = parse_block_filter(p, NULL);
    n->body = parse_until_one(p, "endset");
    p->maybe = maybe;
    return n;
}

static struct jnode *parse_params(struct parser *p) {
    struct jnode *params = NULL, **tail = &params;
    bool defaults = false;
    int maybe = scope_in(p);
    want_op(p, "(");
    while (!p->failed && !is_op(p, ")")) {
        struct jnode *n = node(p, N_NAME, NULL, NULL);
        if (!n)
            return NULL;
        n->name = want_name(p);
        if (skip_op(p, "=")) {
            n->a = parse_expr(p, true);
            defaults = true;
        } else if (defaults) {
            return syntax(p, "a parameter without a default after one with");
        }
        tail = append(tail, n);
        if (!skip_op(p, ","))
            break;
    }
    want_op(p, ")");
    p->maybe = maybe;
    return params;
}

/* A body that runs elsewhere: no break of a loop around it. */
static struct jnode *parse_far_body(struct parser *p, const char *end) {
    int loops = p->loops, maybe = scope_in(p);
    p->loops = 0;
    struct jnode *body = parse_until_one(p, end);
    p->loops = loops;
    p->maybe = maybe;
    return body;
}

static struct jnode *parse_macro(struct parser *p) {
    struct jnode *n = node(p, N_MACRO, NULL, NULL);
    if (!n)
        return NULL;
    n->name = want_name(p);
    n->args = parse_params(p);
    n->body = parse_far_body(p, "endmacro");
    return n;
}

static struct jnode *parse_call_block(struct parser *p) {
    struct jnode *n = node(p, N_CALL_BLOCK, NULL, NULL);
    if (!n)
        return NULL;
    n->name = intern(p, &(struct jstr){.p = "caller", .len = 6});
    if (is_op(p, "("))
        n->args = parse_params(p);
    n->a = parse_expr(p, true);
    if (!p->failed && n->a->type != N_CALL)
        return syntax(p, "expected a call");
    n->body = parse_far_body(p, "endcall");
    return n;
}

static struct jnode *parse_filter_block(struct parser *p) {
    struct jnode *n = node(p, N_FILTER_BLOCK, NULL, NULL);
    if (!n)
        return NULL;
    int maybe = scope_in(p);
    n->a = parse_block_filter(p, parse_filter(p, NULL));
    n->body = parse_until_one(p, "endfilter");
    p->maybe = maybe;
    return n;
}

static struct jnode *parse_with(struct parser *p) {
    struct jnode *n = node(p, N_WITH, NULL, NULL);
    if (!n)
        return NULL;
    struct jnode **tail = &n->args;
    while (!p->failed && p->t->type != T_TAG_END) {
        struct jnode *target = parse_primary(p, false);
        if (!target || !can_assign(target))
            return syntax(p, "nothing that can be assigned to");
        tail = append(tail, target);
        want_op(p, "=");
        tail = append(tail, parse_expr(p, true));
        if (!skip_op(p, ","))
            break;
    }
    int maybe = scope_in(p);
    n->body = parse_until_one(p, "endwith");
    p->maybe = maybe;
    return n;
}

static struct jnode *parse_generation(struct parser *p) {
    struct jnode *n = node(p, N_GENERATION, NULL, NULL);
    p->j->has_generation = true;
    if (n)
        n->body = parse_far_body(p, "endgeneration");
    return n;
}

static struct jnode *parse_print(struct parser *p) {
    struct jnode *n = node(p, N_PRINT, NULL, NULL);
    if (n)
        n->a = parse_expr(p, true);
    return n;
}

static struct jnode *parse_control(struct parser *p, enum jtype type) {
    return p->loops ? node(p, type, NULL, NULL)
                    : syntax(p, "break or continue outside a loop");
}
static struct jnode *parse_break(struct parser *p) {
    return parse_control(p, N_BREAK);
}
static struct jnode *parse_continue(struct parser *p) {
    return parse_control(p, N_CONTINUE);
}

/* Tags that reach other templates, and ones that no chat template has. */
static struct jnode *parse_refused(struct parser *p) {
    return parse_fail(p, ERR_UNSUPPORTED,
                      "a chat template stands alone: there is no tag",
                      &p->t[-1].s);
}

static const struct {
    const char *word;
    struct jnode *(*parse)(struct parser *p);
} tags[] = {
    {"if", parse_if},
    {"for", parse_for},
    {"set", parse_set},
    {"macro", parse_macro},
    {"call", parse_call_block},
    {"filter", parse_filter_block},
    {"with", parse_with},
    {"generation", parse_generation},
    {"print", parse_print},
    {"break", parse_break},
    {"continue", parse_continue},
    {"include", parse_refused},
    {"extends", parse_refused},
    {"import", parse_refused},
    {"from", parse_refused},
    {"block", parse_refused},
    {"autoescape", parse_refused},
};

static struct jnode *parse_tag(struct parser *p) {
    for (size_t i = 0; i < sizeof tags / sizeof *tags; i++) {
        if (!is_word(p, tags[i].word))
            continue;
        next(p);
        return tags[i].parse(p);
    }
    if (p->t->type != T_NAME)
        return syntax(p, "expected the name of a tag");
    return parse_fail(p, ERR_INVAL, "unknown tag", &p->t->s);
}

static struct jnode *parse_piece(struct parser *p) {
    struct jnode *n;
    if (p->t->type == T_DATA) {
        n = node(p, N_DATA, NULL, NULL);
        if (n)
            n->val = const_str(p, &p->t->s);
        next(p);
        return n;
    }
    if (p->t->type == T_PRINT_BEGIN) {
        n = node(p, N_PRINT, NULL, NULL);
        next(p);
        if (n)
            n->a = parse_tuple(p, true, false, NULL);
        if (!p->failed && p->t->type != T_PRINT_END)
            return syntax(p, "expected '}}'");
        next(p);
        return n;
    }
    n = parse_tag(p);
    want_tag_end(p);
    return n;
}

static bool at_end_word(const struct parser *p, const char *const *ends) {
    for (int i = 0; ends && ends[i]; i++)
        if (is_word(p, ends[i]))
            return true;
    return false;
}

static struct jnode *parse_body(struct parser *p, const char *const *ends) {
    struct jnode *body = NULL, **tail = &body;
    if (++p->depth > PARSE_DEPTH)
        return syntax(p, "tags nest too deep");
    while (!p->failed && p->t->type != T_END) {
        if (p->t->type == T_TAG_BEGIN) {
            next(p);
            if (at_end_word(p, ends)) {
                p->depth--;
                return body;
            }
        }
        tail = append(tail, parse_piece(p));
    }
    p->depth--;
    if (ends && !p->failed) {
        struct jstr s = {.p = ends[0], .len = strlen(ends[0])};
        parse_fail(p, ERR_INVAL, "the template ends before", &s);
    }
    return body;
}

/* ---- opening ---- */

/* UTF-8 with newlines as \n, without the one at the end. */
static char *parse_source(struct jinja *j, const char *text, size_t *len) {
    char *valid = utf8_lossy(text, *len, len);
    char *s = arena_get(&j->mem, *len + 1);
    size_t n = 0;
    for (size_t i = 0; s && i < *len; i++) {
        if (valid[i] == '\r' && i + 1 < *len && valid[i + 1] == '\n')
            continue;
        s[n++] = valid[i] == '\r' ? '\n' : valid[i];
    }
    free(valid);
    *len = n - (n > 0 && s && s[n - 1] == '\n');
    return s;
}

static void unknown_name(struct parser *p) {
    p->failed = true;
    err_set(p->err, ERR_UNSUPPORTED, "line %d: no %s named '%.60s'",
            p->unknown->line, p->unknown->type == N_TEST ? "test" : "filter",
            p->unknown->name);
}

static void find_scopes(struct jinja *j) {
    struct parse_scope p = {&j->mem, calloc(JINJA_NAMES, sizeof *p.hidden)};
    CHECK(p.hidden, "out of memory");
    jinja_scopes(&p, &j->root);
    free(p.hidden);
}

struct jinja *jinja_parse(const char *text, size_t len, struct err *err) {
    if (len > JINJA_SOURCE_MAX) {
        err_set(err, ERR_TOOBIG, "chat template of %zu bytes (at most %d)", len,
                JINJA_SOURCE_MAX);
        return NULL;
    }
    struct jinja *j = calloc(1, sizeof *j);
    CHECK(j, "out of memory");
    j->mem.max = JINJA_MEMORY_MAX;
    j->steps = JINJA_STEPS_MAX;
    char *src = parse_source(j, text, &len);
    struct jlex lex = {.mem = &j->mem, .err = err};
    struct parser p = {.j = j, .err = err};
    j->names = arena_get(&j->mem, JINJA_NAMES * sizeof *j->names);
    p.failed = !src || !j->names || jinja_lex(&lex, src, len) < 0;
    p.t = lex.t;
    if (!p.failed)
        j->root.body = parse_body(&p, NULL);
    if (!p.failed && p.unknown)
        unknown_name(&p);
    if (!p.failed)
        find_scopes(j);
    if (!p.failed)
        return j;
    err_set(err, ERR_TOOBIG, "the template is too big");
    err_ctx(err, "chat template");
    jinja_free(j);
    return NULL;
}

void jinja_free(struct jinja *j) {
    if (!j)
        return;
    arena_release(&j->mem);
    free(j);
}

bool jinja_has_generation(const struct jinja *j) { return j->has_generation; }

void jinja_limit(struct jinja *j, int64_t steps) { j->steps = steps; }
