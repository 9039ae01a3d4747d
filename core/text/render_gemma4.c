/*
 * render_gemma4: Gemma 4's turns, and the notation of its calls and tools:
 * name:value pairs sorted by name, strings between <|"|>.
 *
 * A turn of the model goes on over its calls: the answers of tools are part of
 * it, and the token that begins the first of them is what ends the calls.
 */
#include "core/text/render_shape.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define QUOTE "<|\"|>"

/* ---- the notation ---- */

static void put_data(struct rich *to, const char *s) {
    rich_data(to, s, strlen(s));
}

static void put_quoted(struct rich *to, const char *s, bool upper) {
    rich_fmt(to, QUOTE);
    for (size_t i = 0; s[i]; i++) {
        char c = (char)(upper ? toupper((unsigned char)s[i]) : s[i]);
        rich_data(to, &c, 1);
    }
    rich_fmt(to, QUOTE);
}

static int by_key(const void *a, const void *b) {
    return strcasecmp(*(const char *const *)a, *(const char *const *)b);
}

/* Keys as Jinja's dictsort has them; free() the list. */
static const char **sorted_keys(const json_t *o, size_t *n) {
    const char **key = calloc(json_object_size(o) + 1, sizeof *key), *k;
    json_t *v;
    CHECK(key, "out of memory for keys");
    *n = 0;
    json_object_foreach((json_t *)o, k, v) key[(*n)++] = k;
    qsort(key, *n, sizeof *key, by_key);
    return key;
}

static void put_value(struct rich *to, const json_t *v, bool quote_keys);

static void put_pairs(struct rich *to, const json_t *o, bool quote_keys) {
    size_t n;
    const char **key = sorted_keys(o, &n);
    for (size_t i = 0; i < n; i++) {
        rich_fmt(to, i ? "," : "");
        if (quote_keys)
            put_quoted(to, key[i], false);
        else
            put_data(to, key[i]);
        rich_fmt(to, ":");
        put_value(to, json_object_get(o, key[i]), quote_keys);
    }
    free(key);
}

static void put_value(struct rich *to, const json_t *v, bool quote_keys) {
    size_t i;
    json_t *item;
    if (json_is_string(v)) {
        rich_fmt(to, QUOTE);
        py_str(&to->text, v);
        rich_fmt(to, QUOTE);
    } else if (json_is_object(v)) {
        rich_fmt(to, "{");
        put_pairs(to, v, quote_keys);
        rich_fmt(to, "}");
    } else if (json_is_array(v)) {
        rich_fmt(to, "[");
        json_array_foreach((json_t *)v, i, item) {
            rich_fmt(to, i ? "," : "");
            put_value(to, item, quote_keys);
        }
        rich_fmt(to, "]");
    } else {
        py_dumps(&to->text, v, 0); /* true, null, numbers */
    }
}

/* ---- declarations ---- */

static const char *str_of(const json_t *o, const char *key) {
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static void put_names(struct rich *to, const json_t *list) {
    size_t i;
    json_t *v;
    rich_fmt(to, "required:[");
    json_array_foreach((json_t *)list, i, v) {
        rich_fmt(to, i ? "," : "");
        put_quoted(to, json_string_value(v) ? json_string_value(v) : "", false);
    }
    rich_fmt(to, "]");
}

static void put_schemas(struct rich *to, const json_t *props, bool filter);

/* What an array holds, key by key. */
static void put_items(struct rich *to, const json_t *items) {
    size_t n;
    const char **key = sorted_keys(items, &n);
    bool more = false;
    rich_fmt(to, "items:{");
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_object_get(items, key[i]);
        if (json_is_null(v))
            continue;
        rich_fmt(to, more ? "," : "");
        more = true;
        if (strcmp(key[i], "required") == 0) {
            put_names(to, v);
            continue;
        }
        put_data(to, key[i]);
        rich_fmt(to, ":");
        if (strcmp(key[i], "properties") == 0) {
            rich_fmt(to, "{");
            put_schemas(to, v, false);
            rich_fmt(to, "}");
        } else if (strcmp(key[i], "type") == 0 && json_is_string(v)) {
            put_quoted(to, json_string_value(v), true);
        } else {
            put_value(to, v, true);
        }
    }
    rich_fmt(to, "}");
    free(key);
}

/* The comma before a field that is not the first. */
static void put_field(struct rich *to, bool *more, const char *name) {
    rich_fmt(to, *more ? "," : "");
    rich_fmt(to, name);
    *more = true;
}

static void put_object(struct rich *to, const json_t *s, bool *more) {
    const json_t *props = json_object_get(s, "properties");
    const json_t *required = json_object_get(s, "required");
    put_field(to, more, "properties:{");
    put_schemas(to, json_is_object(props) ? props : s, !json_is_object(props));
    rich_fmt(to, "}");
    if (json_array_size(required)) {
        put_field(to, more, "");
        put_names(to, required);
    }
}

static void put_schema(struct rich *to, const json_t *s) {
    const char *type = str_of(s, "type");
    const json_t *items = json_object_get(s, "items");
    bool more = false;
    if (*str_of(s, "description")) {
        put_field(to, &more, "description:");
        put_quoted(to, str_of(s, "description"), false);
    }
    if (strcasecmp(type, "string") == 0 &&
        json_array_size(json_object_get(s, "enum"))) {
        put_field(to, &more, "enum:");
        put_value(to, json_object_get(s, "enum"), true);
    } else if (strcasecmp(type, "array") == 0 && json_object_size(items)) {
        put_field(to, &more, "");
        put_items(to, items);
    }
    if (json_is_true(json_object_get(s, "nullable")))
        put_field(to, &more, "nullable:true");
    if (strcasecmp(type, "object") == 0)
        put_object(to, s, &more);
    put_field(to, &more, "type:");
    put_quoted(to, type, true);
    rich_fmt(to, "}");
}

/* filter: props is a schema itself, whose own words are no properties. */
static void put_schemas(struct rich *to, const json_t *props, bool filter) {
    static const char *const own[] = {"description", "type", "properties",
                                      "required", "nullable"};
    size_t n;
    const char **key = sorted_keys(props, &n);
    bool more = false;
    for (size_t i = 0; i < n; i++) {
        bool skip = false;
        for (size_t k = 0; filter && k < sizeof own / sizeof *own; k++)
            skip = skip || strcmp(own[k], key[i]) == 0;
        if (skip)
            continue;
        put_field(to, &more, "");
        put_data(to, key[i]);
        rich_fmt(to, ":{");
        put_schema(to, json_object_get(props, key[i]));
    }
    free(key);
}

void tools_gemma4(const json_t *function, struct rich *to) {
    const json_t *p = json_object_get(function, "parameters");
    const json_t *props = json_object_get(p, "properties");
    const json_t *required = json_object_get(p, "required");
    rich_fmt(to, "<|tool>declaration:");
    put_data(to, str_of(function, "name"));
    rich_fmt(to, "{description:");
    put_quoted(to, str_of(function, "description"), false);
    if (json_object_size(p)) {
        rich_fmt(to, ",parameters:{");
        if (json_object_size(props)) {
            rich_fmt(to, "properties:{");
            put_schemas(to, props, false);
            rich_fmt(to, "},");
        }
        if (json_array_size(required)) {
            put_names(to, required);
            rich_fmt(to, ",");
        }
        if (*str_of(p, "type")) {
            rich_fmt(to, "type:");
            put_quoted(to, str_of(p, "type"), true);
            rich_fmt(to, "}");
        }
    }
    rich_fmt(to, "}<tool|>");
}

/* ---- turns ---- */

/* The next message that is no tool's, c->n = none. */
static size_t next_speaker(const struct chat *c, size_t i) {
    while (++i < c->n && c->m[i].role == ROLE_TOOL)
        ;
    return i;
}

/* The message before i that is no tool's, -1 = none. */
static int64_t last_speaker(const struct chat *c, size_t i) {
    int64_t k = (int64_t)i - 1;
    while (k >= 0 && c->m[k].role == ROLE_TOOL)
        k--;
    return k;
}

static bool is_answered(const struct chat *c, size_t i) {
    return c->m[i].n_call && i + 1 < c->n && c->m[i + 1].role == ROLE_TOOL;
}

static bool has_text(const struct msg *m) {
    struct rich text;
    rich_init(&text);
    msg_text(m, &text);
    struct view v = view_strip(view_of(&text), NULL, BOTH);
    bool has = view_len(&v) > 0;
    rich_release(&text);
    return has;
}

/* What ends message i, its tools' answers included; "" = the turn goes on. */
static const char *end_of(const struct chat *c, size_t i) {
    const struct msg *m = &c->m[i];
    size_t next = next_speaker(c, i);
    if (m->n_call && !is_answered(c, i))
        return "<|tool_response>";
    if (m->role == ROLE_ASSISTANT && next < c->n &&
        c->m[next].role == ROLE_ASSISTANT)
        return "";
    return m->n_call && !has_text(m) && next == c->n ? "" : "<turn|>";
}

static void gemma4_header(struct turn *t) {
    int64_t prev = last_speaker(t->c, t->i);
    const struct msg *p = prev >= 0 ? &t->c->m[prev] : NULL;
    bool model = t->m->role == ROLE_ASSISTANT;
    turn_unit(t, false);
    if (t->m->role == ROLE_TOOL) {
        if (t->i > 0 && t->c->m[t->i - 1].role == ROLE_TOOL)
            script_fmt(t->s, "<|tool_response>");
        return;
    }
    if (p && strcmp(end_of(t->c, (size_t)prev), "<turn|>") == 0)
        script_fmt(t->s, "\n");
    if (model && p && p->role == ROLE_ASSISTANT &&
        (!t->is_suffix || p->n_call)) {
        if (t->is_suffix && t->f->hint && turn_follows(t, ROLE_TOOL))
            script_fmt(t->s, t->f->think[0]);
        return;
    }
    script_fmt(t->s, "<|turn>");
    if (model)
        script_fmt(t->s, "model");
    else
        script_data(t->s, t->m->role_name, strlen(t->m->role_name));
    script_fmt(t->s, "\n");
}

static void put_text(struct turn *t, size_t i) {
    struct rich text;
    rich_init(&text);
    msg_text(&t->c->m[i], &text);
    bool system = i == 0 && t->c->m[0].role == ROLE_SYSTEM; /* is trimmed */
    script_unit(t->s, (int64_t)i, true);
    script_view(t->s, system ? view_of(&text)
                             : view_strip(view_of(&text), NULL, BOTH));
    rich_release(&text);
}

static void put_end_of(struct turn *t, size_t i) {
    script_unit(t->s, (int64_t)i, true);
    script_fmt(t->s, end_of(t->c, i));
}

static int gemma4_answer(struct turn *t, struct err *err) {
    struct rich body;
    rich_init(&body);
    for (size_t i = 0; i < t->m->n_part; i++)
        if (t->m->part[i].is_thinking && (int64_t)t->i > t->last_user) {
            rich_fmt(&body, t->f->think[0]);
            rich_view(&body, view_of(&t->m->part[i].text));
            rich_fmt(&body, t->f->think[1]);
        }
    int rc = calls_write(t, &body, err);
    turn_unit(t, true);
    script_rich(t->s, &body);
    rich_release(&body);
    if (is_answered(t->c, t->i)) {
        turn_unit(t, true);
        script_fmt(t->s, "<|tool_response>");
        return rc;
    }
    put_text(t, t->i);
    put_end_of(t, t->i);
    return rc;
}

/* The name of the call that a tool's message answers. */
static const char *name_of(const struct msg *calls, const struct msg *m) {
    for (size_t k = 0; m->call_id && k < calls->n_call; k++)
        if (calls->call[k].id && strcmp(calls->call[k].id, m->call_id) == 0)
            return calls->call[k].name;
    return m->name && *m->name ? m->name : "unknown";
}

static int gemma4_result(struct turn *t, struct err *err) {
    int64_t at = last_speaker(t->c, t->i);
    const struct msg *calls = at >= 0 ? &t->c->m[at] : NULL;
    struct rich text;
    if (!calls || !calls->n_call)
        return err_set(err, ERR_UNSUPPORTED,
                       "messages[%zu]: %s takes a tool's message behind the "
                       "answer that calls it",
                       t->i, t->f->name);
    rich_init(&text);
    msg_text(t->m, &text);
    turn_unit(t, true);
    script_fmt(t->s, "response:");
    script_data(t->s, name_of(calls, t->m), strlen(name_of(calls, t->m)));
    script_fmt(t->s, "{value:" QUOTE);
    script_rich(t->s, &text);
    script_fmt(t->s, QUOTE "}<tool_response|>");
    rich_release(&text);
    if (!turn_precedes(t, ROLE_TOOL)) { /* the rest of the turn that called */
        put_text(t, (size_t)at);
        put_end_of(t, (size_t)at);
    }
    return 0;
}

static int gemma4_output(struct turn *t, struct err *err) {
    if (turn_check(t, err) < 0)
        return -1;
    if (t->m->role == ROLE_TOOL)
        return gemma4_result(t, err);
    if (t->m->role == ROLE_ASSISTANT)
        return gemma4_answer(t, err);
    if (!t->m->is_text && msg_has_thinking(t->m, true))
        return msg_check_text(t->c, t->i, err);
    put_text(t, t->i);
    put_end_of(t, t->i);
    return 0;
}

/* A system message is there when it has something to say. */
static int gemma4_prepare(const struct render *r, struct chat *c,
                          struct err *err) {
    const char *hint = r->family->hint;
    struct rich all, text;
    (void)err;
    if (c->n && c->m[0].role == ROLE_OTHER &&
        strcmp(c->m[0].role_name, "developer") == 0) {
        c->m[0].role = ROLE_SYSTEM;
        c->m[0].role_name = "system";
    }
    if (!hint && (c->n == 0 || c->m[0].role != ROLE_SYSTEM))
        return 0;
    rich_init(&all);
    rich_init(&text);
    rich_fmt(&all, hint ? hint : "");
    if (c->n && c->m[0].role == ROLE_SYSTEM)
        msg_text(&c->m[0], &text);
    else
        chat_insert(c, 0, ROLE_SYSTEM, "system");
    rich_view(&all, view_strip(view_of(&text), NULL, BOTH));
    rich_view(msg_set_text(&c->m[0]), view_of(&all));
    rich_release(&all);
    rich_release(&text);
    return 0;
}

int call_gemma4(const struct call *c, struct rich *to, struct err *err) {
    json_t *args = py_loads(c->args, c->args_len, "arguments of a call", err);
    if (args && !json_is_object(args)) {
        json_decref(args);
        return err_set(err, ERR_INVAL,
                       "arguments of %.64s: a JSON object is wanted", c->name);
    }
    if (!args)
        return -1;
    rich_fmt(to, "<|tool_call>call:");
    put_data(to, c->name);
    rich_fmt(to, "{");
    put_pairs(to, args, false);
    rich_fmt(to, "}<tool_call|>");
    json_decref(args);
    return 0;
}

/* ---- reading the notation ---- */

/* A cursor over the pairs of a call; depth bounds recursion. */
struct notes {
    const char *p, *end;
    int depth;
};

static bool notes_take(struct notes *n, const char *s) {
    size_t len = strlen(s);
    if ((size_t)(n->end - n->p) < len || memcmp(n->p, s, len) != 0)
        return false;
    n->p += len;
    return true;
}

static json_t *notes_value(struct notes *n);

static json_t *notes_string(struct notes *n) {
    const char *at =
        memmem(n->p, (size_t)(n->end - n->p), QUOTE, strlen(QUOTE));
    if (!at)
        return NULL;
    json_t *s = json_stringn(n->p, (size_t)(at - n->p));
    n->p = at + strlen(QUOTE);
    return s;
}

/* name:value,… up to shut. */
static json_t *notes_object(struct notes *n) {
    json_t *o = json_object();
    while (!notes_take(n, "}")) {
        json_t *key, *v = NULL;
        notes_take(n, ",");
        if (notes_take(n, QUOTE)) {
            key = notes_string(n);
        } else {
            const char *colon = memchr(n->p, ':', (size_t)(n->end - n->p));
            key = colon ? json_stringn(n->p, (size_t)(colon - n->p)) : NULL;
            n->p = colon ? colon : n->end;
        }
        if (key && notes_take(n, ":"))
            v = notes_value(n);
        if (v)
            json_object_set(o, json_string_value(key), v);
        json_decref(key);
        if (!v) {
            json_decref(o);
            return NULL;
        }
        json_decref(v);
    }
    return o;
}

static json_t *notes_array(struct notes *n) {
    json_t *a = json_array();
    while (!notes_take(n, "]")) {
        notes_take(n, ",");
        json_t *v = notes_value(n);
        if (!v) {
            json_decref(a);
            return NULL;
        }
        json_array_append_new(a, v);
    }
    return a;
}

static json_t *notes_value(struct notes *n) {
    struct err no = {0};
    json_t *v = NULL;
    const char *from = n->p;
    if (++n->depth > 64 || from == n->end)
        return NULL;
    if (notes_take(n, QUOTE)) {
        v = notes_string(n);
    } else if (notes_take(n, "{")) {
        v = notes_object(n);
    } else if (notes_take(n, "[")) {
        v = notes_array(n);
    } else {
        while (n->p < n->end && !strchr(",}]", *n->p))
            n->p++;
        v = py_loads(from, (size_t)(n->p - from), "", &no);
    }
    n->depth--;
    return v;
}

json_t *gemma4_args(const char *s, size_t len) {
    struct notes n = {s, s + len, 0};
    json_t *o = notes_take(&n, "{") ? notes_object(&n) : NULL;
    if (o && n.p != n.end) {
        json_decref(o);
        return NULL;
    }
    return o;
}

const struct shape shape_gemma4 = {.prepare = gemma4_prepare,
                                   .header = gemma4_header,
                                   .output = gemma4_output,
                                   .parse = parse_gemma4};
