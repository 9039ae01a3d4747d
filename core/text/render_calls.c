/* render_calls: the calls of tools that an answer makes, and declarations of
 * tools, in each family's words. */
#include "core/text/render_shape.h"

#include <stdlib.h>
#include <string.h>

/* ---- shared ---- */

static void put_data(struct rich *to, const char *s) {
    rich_data(to, s, strlen(s));
}

static void put_json(struct rich *to, const json_t *j, int flags) {
    py_dumps(&to->text, j, flags);
}

/* ---- calls ---- */

static json_t *call_args(const struct call *c, struct err *err) {
    if (c->args_len == 0)
        return json_object();
    return py_loads(c->args, c->args_len, "arguments of a tool call", err);
}

/* JSON is escaped to ASCII by the cookbook, not by the models' templates. */
static int call_json(const struct turn *t, const struct call *c,
                     struct rich *to, struct err *err) {
    json_t *args = call_args(c, err);
    if (!args)
        return -1;
    json_t *j = json_pack("{s:s, s:o}", "name", c->name, "arguments", args);
    rich_fmt(to, "<tool_call>\n");
    put_json(to, j, t->c->is_compat ? PY_ASCII : 0);
    rich_fmt(to, "\n</tool_call>");
    json_decref(j);
    return 0;
}

/* The pairs of a call's arguments, one by one. */
typedef void pair_fn(struct rich *to, const char *key, const json_t *v,
                     const struct turn *t);

static int each_pair(const struct turn *t, const struct call *c, pair_fn *fn,
                     struct rich *to, struct err *err) {
    json_t *args = call_args(c, err), *v;
    const char *key;
    if (!args)
        return -1;
    int rc =
        json_is_object(args)
            ? 0
            : err_set(err, ERR_INVAL,
                      "arguments of %.64s: a JSON object is wanted", c->name);
    json_object_foreach(args, key, v) fn(to, key, v, t);
    json_decref(args);
    return rc;
}

static void pair_xml(struct rich *to, const char *key, const json_t *v,
                     const struct turn *t) {
    rich_fmt(to, "<parameter=");
    put_data(to, key);
    rich_fmt(to, ">\n");
    if (json_is_object(v) || json_is_array(v) ||
        (t->f->values == VALUES_JSON && !json_is_string(v)))
        put_json(to, v, t->c->is_compat ? PY_ASCII : 0);
    else
        py_str(&to->text, v);
    rich_fmt(to, "\n</parameter>\n");
}

static int call_xml(const struct turn *t, const struct call *c, struct rich *to,
                    struct err *err) {
    rich_fmt(to, "<tool_call>\n<function=");
    put_data(to, c->name);
    rich_fmt(to, ">\n");
    int rc = each_pair(t, c, pair_xml, to, err);
    rich_fmt(to, "</function>\n</tool_call>");
    return rc;
}

static void pair_arg_key(struct rich *to, const char *key, const json_t *v,
                         const struct turn *t) {
    (void)t;
    rich_fmt(to, "<arg_key>");
    put_data(to, key);
    rich_fmt(to, "</arg_key><arg_value>");
    if (json_is_string(v))
        py_str(&to->text, v);
    else
        put_json(to, v, 0);
    rich_fmt(to, "</arg_value>");
}

static int call_arg_key(const struct turn *t, const struct call *c,
                        struct rich *to, struct err *err) {
    rich_fmt(to, "<tool_call>");
    put_data(to, c->name);
    int rc = each_pair(t, c, pair_arg_key, to, err);
    rich_fmt(to, "</tool_call>");
    return rc;
}

static void pair_dsml(struct rich *to, const char *key, const json_t *v) {
    bool string = json_is_string(v);
    rich_fmt(to, "<｜DSML｜ parameter name=\"");
    put_data(to, key);
    rich_fmt(to, string ? "\" string=\"true\">" : "\" string=\"false\">");
    if (string)
        py_str(&to->text, v);
    else
        put_json(to, v, 0);
    rich_fmt(to, "</｜DSML｜ parameter>");
}

/* Arguments that are no object, or JSON twice over, are taken as they are. */
static json_t *dsml_args(const struct call *c) {
    struct err no = {0};
    json_t *j = py_loads(c->args, c->args_len, "", &no);
    if (json_is_string(j)) {
        json_t *in =
            py_loads(json_string_value(j), json_string_length(j), "", &no);
        json_decref(j);
        j = in;
    }
    if (json_is_object(j))
        return j;
    json_decref(j);
    return json_pack("{s:s%}", "arguments", c->args, c->args_len);
}

static int call_dsml(const struct call *c, struct rich *to, struct err *err) {
    json_t *args = dsml_args(c), *v;
    const char *key, *more = "";
    if (!args)
        return err_set(err, ERR_INVAL, "arguments of %.64s: not UTF-8",
                       c->name);
    rich_fmt(to, "<｜DSML｜ invoke name=\"");
    put_data(to, c->name);
    rich_fmt(to, "\">\n");
    json_object_foreach(args, key, v) {
        rich_fmt(to, more);
        pair_dsml(to, key, v);
        more = "\n";
    }
    rich_fmt(to, "\n</｜DSML｜ invoke>");
    json_decref(args);
    return 0;
}

/* Name (or id) and arguments between tokens of the table. */
static void call_tokens(const struct family *f, const struct call *c, size_t i,
                        struct rich *to) {
    char index[24];
    rich_fmt(to, f->calls[1]);
    if (f->calls_style == CALLS_IDS && c->id && *c->id) {
        put_data(to, c->id);
    } else if (f->calls_style == CALLS_IDS) {
        snprintf(index, sizeof index, ":%zu", i);
        rich_fmt(to, "functions.");
        put_data(to, c->name);
        rich_fmt(to, index);
    } else {
        put_data(to, c->name);
    }
    rich_fmt(to, f->calls[2]);
    rich_data(to, c->args, c->args_len);
    rich_fmt(to, f->calls[3]);
}

/* What stands around all calls, and between two. */
static const char *const calls_frame[][3] = {
    [CALLS_JSON] = {"", "\n", ""},
    [CALLS_XML] = {"", "\n", ""},
    [CALLS_DSML] = {"\n\n<｜DSML｜ calls>\n", "\n", "\n</｜DSML｜ calls>"},
    [CALLS_ARG_KEY] = {"", "", ""},
    [CALLS_GEMMA4] = {"", "", ""},
};

int calls_write(const struct turn *t, struct rich *to, struct err *err) {
    const struct family *f = t->f;
    const struct msg *m = t->m;
    bool tokens = f->calls_style == CALLS_TOKENS || f->calls_style == CALLS_IDS;
    const char *const *frame = calls_frame[tokens ? 0 : f->calls_style];
    int rc = 0;
    if (m->n_call == 0 || f->calls_style == CALLS_NONE)
        return 0;
    rich_fmt(to, tokens ? f->calls[0] : frame[0]);
    for (size_t i = 0; rc == 0 && i < m->n_call; i++) {
        const char *sep = tokens ? f->calls_sep : frame[1];
        rich_fmt(to, i && sep ? sep : "");
        switch (f->calls_style) {
        case CALLS_JSON: rc = call_json(t, &m->call[i], to, err); break;
        case CALLS_XML: rc = call_xml(t, &m->call[i], to, err); break;
        case CALLS_DSML: rc = call_dsml(&m->call[i], to, err); break;
        case CALLS_ARG_KEY: rc = call_arg_key(t, &m->call[i], to, err); break;
        case CALLS_GEMMA4: rc = call_gemma4(&m->call[i], to, err); break;
        default: call_tokens(f, &m->call[i], i, to); break;
        }
    }
    rich_fmt(to, tokens ? f->calls[4] : frame[2]);
    return rc;
}
