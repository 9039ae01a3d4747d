/*
 * query - recursive descent over
 *     any  := all ('|' all)*
 *     all  := term+
 *     term := ['-'] (word | field ':' text | field op value)
 * where spaces and '|' end a term unless they stand in quotes '…'.
 */
#include "store/query.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct parse {
    struct store *st;
    struct query *w;
    const char *p;
};

/* A term without its quotes; op is where the operator starts, -1 = none. */
struct term {
    char text[STORE_NAME_MAX];
    int len, op, colon;
    bool is_negated;
};

/* ---- output ---- */

static int emit(struct parse *s, const char *sql) {
    size_t n = strlen(sql);
    struct query *w = s->w;
    if (w->len + n + 1 > w->cap) {
        size_t cap = (w->len + n + 1) * 2;
        char *grown = realloc(w->sql, cap);
        if (!grown)
            return db_err(s->st, STORE_NOMEM, "out of memory");
        w->sql = grown;
        w->cap = cap;
    }
    memcpy(w->sql + w->len, sql, n + 1);
    w->len += n;
    return STORE_OK;
}

static int value_text(struct parse *s, const char *text) {
    struct query_value *v = &s->w->value[s->w->n_values];
    v->text = strdup(text);
    if (!v->text)
        return db_err(s->st, STORE_NOMEM, "out of memory");
    s->w->n_values++;
    return STORE_OK;
}

static void value_num(struct parse *s, double num) {
    s->w->value[s->w->n_values++].num = num;
}

/* ---- terms ---- */

static int bad(struct parse *s, const char *why, const char *what) {
    return db_err(s->st, STORE_INVAL, "filter: %s '%s'", why, what);
}

/* "1.5k" is 1500. */
static bool number(const char *text, double *v) {
    static const struct {
        char suffix;
        double factor;
    } suffixes[] = {{'k', 1e3}, {'M', 1e6}, {'G', 1e9}};
    char *end;
    *v = strtod(text, &end);
    if (end == text)
        return false;
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++)
        if (*end == suffixes[i].suffix) {
            *v *= suffixes[i].factor;
            end++;
            break;
        }
    return *end == 0 && !isnan(*v);
}

static int word_term(struct parse *s, const char *word) {
    int rc = value_text(s, word);
    return rc < 0 ? rc
                  : emit(s, "instr(lower(name||char(10)||id||char(10)||recipe"
                            "||char(10)||model||char(10)||tags||char(10)"
                            "||note),lower(?))>0");
}

static const struct {
    const char *field, *sql;
} text_fields[] = {
    {"name", "instr(lower(name),lower(?))>0"},
    {"recipe", "instr(lower(recipe),lower(?))>0"},
    {"model", "instr(lower(model),lower(?))>0"},
    {"base", "instr(lower(model),lower(?))>0"},
    {"note", "instr(lower(note),lower(?))>0"},
    {"tag", "instr(' '||lower(tags)||' ',' '||lower(?)||' ')>0"},
};

static int state_term(struct parse *s, const char *name) {
    int state = store_run_state_by_name(name);
    if (strcmp(name, "any") == 0)
        return emit(s, "1");
    if (state < 0)
        return bad(s, "no state", name);
    value_num(s, state);
    return emit(s, "state=?");
}

/* field:text; 1 when the field is none of ours (then it is a word). */
static int text_term(struct parse *s, const char *field, const char *text) {
    if (strcmp(field, "state") == 0)
        return state_term(s, text);
    for (size_t i = 0; i < sizeof text_fields / sizeof text_fields[0]; i++)
        if (strcmp(field, text_fields[i].field) == 0) {
            int rc = value_text(s, text);
            return rc < 0 ? rc : emit(s, text_fields[i].sql);
        }
    return 1;
}

static const char *const ops[] = {"<=", ">=", "!=", "=", "<", ">"};
#define N_OPS (sizeof ops / sizeof ops[0])

/* `EXISTS(… AND column op ?)`, or NOT EXISTS(… = ?) for !=, so that a run
 * without the key differs from every value. */
static int exists_term(struct parse *s, const char *from, const char *column,
                       const char *op) {
    bool differs = strcmp(op, "!=") == 0;
    int rc = emit(s, differs ? "NOT EXISTS(" : "EXISTS(");
    if (rc == 0)
        rc = emit(s, from);
    if (rc == 0)
        rc = emit(s, column);
    if (rc == 0)
        rc = emit(s, differs ? "=" : op);
    return rc < 0 ? rc : emit(s, "?)");
}

static int config_term(struct parse *s, const char *key, const char *op,
                       const char *value) {
    double num;
    bool is_num = number(value, &num);
    int rc = value_text(s, key);
    if (rc < 0)
        return rc;
    if (is_num)
        value_num(s, num);
    else if (strpbrk(op, "<>"))
        return bad(s, "not a number:", value);
    else if ((rc = value_text(s, value)) < 0)
        return rc;
    return exists_term(
        s, "SELECT 1 FROM config_kv c WHERE c.run=run.id AND c.key=? AND ",
        is_num ? "c.num" : "c.text", op);
}

static int metric_term(struct parse *s, const char *name, const char *op,
                       const char *value) {
    double num;
    if (!number(value, &num))
        return bad(s, "not a number:", value);
    int rc = value_text(s, name);
    if (rc < 0)
        return rc;
    value_num(s, num);
    return exists_term(s,
                       "SELECT 1 FROM series m WHERE m.run=run.id AND"
                       " m.name=? AND m.kind IN (0,2,3,4) AND ",
                       "m.last", op);
}

static int column_term(struct parse *s, const char *column, const char *op,
                       const char *value) {
    double num;
    if (!number(value, &num))
        return bad(s, "not a number:", value);
    value_num(s, num);
    int rc = emit(s, column);
    if (rc == 0)
        rc = emit(s, op);
    return rc < 0 ? rc : emit(s, "?");
}

static int equal_term(struct parse *s, const char *field, const char *op,
                      const char *value) {
    static const char *const columns[] = {"name", "recipe", "model", "note"};
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++)
        if (strcmp(field, columns[i]) == 0) {
            int rc = value_text(s, value);
            if (rc == 0)
                rc = emit(s, columns[i]);
            if (rc == 0)
                rc = emit(s, op);
            return rc < 0 ? rc : emit(s, "?");
        }
    if (strcmp(field, "state") != 0)
        return 1;
    int rc = *op == '!' ? emit(s, "NOT ") : STORE_OK;
    return rc < 0 ? rc : state_term(s, value);
}

static int compare_term(struct parse *s, const char *field, const char *op,
                        const char *value) {
    if (!*field || !*value)
        return bad(s, "nothing beside", op);
    if (strcmp(op, "=") == 0 || strcmp(op, "!=") == 0) {
        int rc = equal_term(s, field, op, value);
        if (rc != 1)
            return rc;
    }
    if (strcmp(field, "id") == 0)
        return column_term(s, "id", op, value);
    if (strcmp(field, "step") == 0)
        return column_term(s, "cursor", op, value);
    if (strncmp(field, "cfg.", 4) == 0)
        return config_term(s, field + 4, op, value);
    return metric_term(s, field, op, value);
}

/* ---- the text ---- */

/* Notes the first operator and the first colon outside quotes. */
static void note_mark(struct term *t, char c) {
    if (t->op < 0 && (strchr("<>=", c) || c == '!'))
        t->op = t->len;
    if (t->colon < 0 && c == ':')
        t->colon = t->len;
}

static int scan_term(struct parse *s, struct term *t) {
    bool quoted = false;
    *t = (struct term){.op = -1, .colon = -1};
    if (*s->p == '-') {
        t->is_negated = true;
        s->p++;
    }
    for (; *s->p && (quoted || !strchr(" \t|", *s->p)); s->p++) {
        if (*s->p == '\'') {
            quoted = !quoted;
            continue;
        }
        if (t->len + 1 >= (int)sizeof t->text)
            return bad(s, "a term is too long:", t->text);
        if (!quoted)
            note_mark(t, *s->p);
        t->text[t->len++] = *s->p;
    }
    if (quoted)
        return bad(s, "no closing quote after", t->text);
    if (t->len == 0)
        return bad(s, "nothing after", "-");
    return STORE_OK;
}

static const char *op_at(const char *p) {
    for (size_t i = 0; i < N_OPS; i++)
        if (strncmp(p, ops[i], strlen(ops[i])) == 0)
            return ops[i];
    return NULL;
}

static int emit_term(struct parse *s, struct term *t) {
    const char *op = t->op >= 0 ? op_at(t->text + t->op) : NULL;
    if (op) {
        t->text[t->op] = 0;
        return compare_term(s, t->text, op, t->text + t->op + strlen(op));
    }
    if (t->colon > 0) {
        t->text[t->colon] = 0;
        int rc = text_term(s, t->text, t->text + t->colon + 1);
        t->text[t->colon] = ':';
        if (rc != 1)
            return rc;
    }
    return word_term(s, t->text);
}

static int parse_term(struct parse *s) {
    struct term t;
    if (s->w->n_terms++ == QUERY_TERMS)
        return db_err(s->st, STORE_INVAL, "filter: more than %d terms",
                      QUERY_TERMS);
    int rc = scan_term(s, &t);
    if (rc == 0)
        rc = emit(s, t.is_negated ? "NOT (" : "(");
    if (rc == 0)
        rc = emit_term(s, &t);
    return rc < 0 ? rc : emit(s, ")");
}

static void skip_space(struct parse *s) { s->p += strspn(s->p, " \t"); }

static int parse_all(struct parse *s) {
    int rc = emit(s, "(1"), n = 0;
    for (skip_space(s); rc == 0 && *s->p && *s->p != '|'; skip_space(s), n++) {
        rc = emit(s, " AND ");
        if (rc == 0)
            rc = parse_term(s);
    }
    if (rc == 0 && n == 0)
        return bad(s, "nothing on one side of", "|");
    return rc < 0 ? rc : emit(s, ")");
}

static int parse_any(struct parse *s) {
    int rc = parse_all(s);
    while (rc == 0 && *s->p == '|') {
        s->p++;
        rc = emit(s, " OR ");
        if (rc == 0)
            rc = parse_all(s);
    }
    return rc;
}

int query_compile(struct store *st, struct query *w, const char *head,
                  const char *filter, const char *tail) {
    struct parse s = {.st = st, .w = w, .p = filter ? filter : ""};
    *w = (struct query){0};
    skip_space(&s);
    int rc = emit(&s, head);
    if (rc == 0)
        rc = *s.p ? parse_any(&s) : emit(&s, "1");
    return rc < 0 ? rc : emit(&s, tail);
}

int query_prepare(struct store *st, struct query *w, sqlite3_stmt **q) {
    int rc = sqlite3_prepare_v2(st->db, w->sql, -1, q, NULL);
    for (int i = 0; i < w->n_values && rc == SQLITE_OK; i++) {
        const struct query_value *v = &w->value[i];
        rc = v->text
                 ? sqlite3_bind_text(*q, i + 1, v->text, -1, SQLITE_TRANSIENT)
                 : sqlite3_bind_double(*q, i + 1, v->num);
    }
    return rc == SQLITE_OK ? STORE_OK : db_sqlite_err(st, rc);
}

void query_release(struct query *w) {
    for (int i = 0; i < w->n_values; i++)
        free(w->value[i].text);
    free(w->sql);
}
