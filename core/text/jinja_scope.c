/*
 * jinja_scope: which names a scope hides from the start.
 *
 * jinja2 compiles a scope's names to Python's local variables, and so a name
 * that is assigned in a scope, unconditionally and before that scope itself
 * reads it, is undefined until then, also for macros and loops inside, even if
 * the template was given a variable of this name. Names that scopes around know
 * are not hidden. What macros use of their extra arguments is found here, too.
 */
#include "core/text/jinja_int.h"

#include <string.h>

struct frame {
    struct frame *up;
    struct jnode *macro; /* the innermost around */
    uint64_t known[JINJA_NAMES / 64];
    const char **hidden; /* room for JINJA_NAMES, shared by all */
    int n_hidden, maybe;
};

static bool is_known(const struct frame *f, int id) {
    for (; f; f = f->up)
        if (f->known[id / 64] >> id % 64 & 1)
            return true;
    return false;
}

static void know(struct frame *f, int id) {
    f->known[id / 64] |= (uint64_t)1 << id % 64;
}

static void on_load(struct frame *f, const char *name) {
    static const struct {
        const char *name;
        int use;
    } special[] = {{"varargs", USES_VARARGS},
                   {"kwargs", USES_KWARGS},
                   {"caller", USES_CALLER}};
    if (!is_known(f, jinja_name_id(name)))
        know(f, jinja_name_id(name));
    for (size_t i = 0; f->macro && i < sizeof special / sizeof *special; i++)
        if (strcmp(name, special[i].name) == 0)
            f->macro->uses |= special[i].use;
}

static void on_store(struct frame *f, const char *name) {
    int id = jinja_name_id(name);
    bool own = f->known[id / 64] >> id % 64 & 1;
    if (!own && !f->maybe && !is_known(f->up, id))
        f->hidden[f->n_hidden++] = name;
    know(f, id);
}

static void on_target(struct frame *f, const struct jnode *t, bool is_param) {
    if (t->type == N_SPACE_ATTR)
        on_load(f, t->name);
    else if (t->type == N_NAME && is_param)
        know(f, jinja_name_id(t->name));
    else if (t->type == N_NAME)
        on_store(f, t->name);
    for (t = t->type == N_TUPLE ? t->args : NULL; t; t = t->next)
        on_target(f, t, is_param);
}

/* Long sums lean to the left: a is followed, the rest is shallow. */
static void on_expr(struct frame *f, const struct jnode *n) {
    for (; n; n = n->a) {
        if (n->type == N_NAME)
            on_load(f, n->name);
        on_expr(f, n->b);
        on_expr(f, n->c);
        for (const struct jnode *a = n->args; a; a = a->next)
            on_expr(f, a);
    }
}

/* ---- a scope's own statements, in order ---- */

static void on_body(struct frame *f, struct jnode *n);

static void on_if(struct frame *f, struct jnode *n) {
    int depth = f->maybe;
    for (; n; n = n->orelse) {
        on_expr(f, n->a);
        f->maybe = depth + 1;
        on_body(f, n->body);
        if (!n->orelse || !n->orelse->flag || n->orelse->type != N_IF) {
            on_body(f, n->orelse);
            break;
        }
    }
    f->maybe = depth;
}

static void on_statement(struct frame *f, struct jnode *n) {
    switch (n->type) {
    case N_PRINT: on_expr(f, n->a); break;
    case N_IF: on_if(f, n); break;
    case N_FOR: on_expr(f, n->b); break;
    case N_SET:
        on_expr(f, n->b);
        on_target(f, n->a, false);
        break;
    case N_SET_BLOCK: on_target(f, n->a, false); break;
    case N_MACRO: on_store(f, n->name); break;
    case N_CALL_BLOCK:
    case N_FILTER_BLOCK: on_expr(f, n->a); break;
    case N_WITH:
        for (struct jnode *t = n->args; t; t = t->next->next)
            on_expr(f, t->next);
        break;
    default: break;
    }
}

static void on_body(struct frame *f, struct jnode *n) {
    for (; n; n = n->next)
        on_statement(f, n);
}

/* ---- the scopes inside ---- */

static void scan_frames(struct parse_scope *p, struct frame *f,
                        struct jnode *n);

static void keep_hidden(struct parse_scope *p, const struct frame *f,
                        struct jnode *n) {
    if (f->n_hidden == 0)
        return;
    n->hidden = arena_get(p->mem, (size_t)f->n_hidden * sizeof *n->hidden);
    if (!n->hidden)
        return;
    memcpy(n->hidden, f->hidden, (size_t)f->n_hidden * sizeof *n->hidden);
    n->n_hidden = f->n_hidden;
}

static void scan_params(struct frame *f, struct jnode *n) {
    if (n->type == N_FOR) {
        know(f, jinja_name_id(n->name));
        on_target(f, n->a, true);
        on_expr(f, n->c);
    } else if (n->type == N_WITH) {
        for (struct jnode *t = n->args; t; t = t->next->next)
            on_target(f, t, true);
    } else if (n->type == N_MACRO || n->type == N_CALL_BLOCK) {
        f->macro = n;
        for (struct jnode *a = n->args; a; a = a->next) {
            on_expr(f, a->a);
            know(f, jinja_name_id(a->name));
        }
    }
}

static void scan_frame(struct parse_scope *p, struct frame *up,
                       struct jnode *n) {
    struct frame f = {
        .up = up, .macro = up ? up->macro : NULL, .hidden = p->hidden};
    scan_params(&f, n);
    on_body(&f, n->body);
    keep_hidden(p, &f, n);
    scan_frames(p, &f, n->body);
    if (n->type == N_FOR && n->orelse)
        scan_frames(p, up, n->orelse);
}

static void scan_frames(struct parse_scope *p, struct frame *f,
                        struct jnode *n) {
    for (; n; n = n->next) {
        if (n->type == N_IF) {
            scan_frames(p, f, n->body);
            scan_frames(p, f, n->orelse);
        } else if (n->type > N_IF && n->body) {
            scan_frame(p, f, n);
        }
    }
}

void jinja_scopes(struct parse_scope *p, struct jnode *root) {
    scan_frame(p, NULL, root);
}
