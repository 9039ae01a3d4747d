/* render_ts: JSON schemas as TypeScript, in the two dialects that models were
 * shown. Depth is that of the JSON, which its reader bounds. */
#include "core/text/render.h"

#include <stdlib.h>
#include <string.h>

/* ---- shared ---- */

static const char *str_of(const json_t *o, const char *key) {
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static bool is_in(const json_t *list, const char *name) {
    size_t i;
    json_t *v;
    json_array_foreach((json_t *)list, i, v) {
        if (json_is_string(v) && strcmp(json_string_value(v), name) == 0)
            return true;
    }
    return false;
}

static bool is_truthy(const json_t *v) {
    return v && !json_is_null(v) && !json_is_false(v) &&
           !(json_is_string(v) && json_string_length(v) == 0) &&
           !(json_is_array(v) && json_array_size(v) == 0) &&
           !(json_is_object(v) && json_object_size(v) == 0);
}

/* ---- harmony ---- */

static void harmony_type(struct buf *b, const json_t *schema);

static void harmony_types(struct buf *b, const json_t *list) {
    size_t i;
    json_t *v;
    json_array_foreach((json_t *)list, i, v) {
        buf_puts(b, i ? " | " : "");
        if (json_is_string(v)) {
            json_t *one = json_pack("{s:O}", "type", v);
            harmony_type(b, one);
            json_decref(one);
        } else {
            harmony_type(b, v);
        }
    }
}

static void harmony_object(struct buf *b, const json_t *schema) {
    const json_t *required = json_object_get(schema, "required");
    const char *key, *more = "";
    json_t *v;
    buf_puts(b, "{ ");
    json_object_foreach(json_object_get(schema, "properties"), key, v) {
        buf_printf(b, "%s%s%s: ", more, key, is_in(required, key) ? "" : "?");
        harmony_type(b, v);
        more = ", ";
    }
    buf_puts(b, " }");
}

static void harmony_type(struct buf *b, const json_t *schema) {
    const json_t *type = json_object_get(schema, "type");
    const json_t *one = json_object_get(schema, "oneOf");
    const json_t *values = json_object_get(schema, "enum");
    const char *name = json_is_string(type) ? json_string_value(type) : "any";
    size_t i;
    json_t *v;
    one = one ? one : json_object_get(schema, "anyOf");
    if (one || json_is_array(type)) {
        harmony_types(b, one ? one : type);
        return;
    }
    if (strcmp(name, "string") == 0 && values) {
        json_array_foreach((json_t *)values, i, v) {
            buf_puts(b, i ? " | " : "");
            py_dumps(b, v, PY_ASCII);
        }
        return;
    }
    if (strcmp(name, "string") == 0 || strcmp(name, "boolean") == 0) {
        buf_puts(b, name);
    } else if (strcmp(name, "number") == 0 || strcmp(name, "integer") == 0) {
        buf_puts(b, "number");
    } else if (strcmp(name, "array") == 0) {
        harmony_type(b, json_object_get(schema, "items"));
        buf_puts(b, "[]");
    } else if (strcmp(name, "object") == 0) {
        harmony_object(b, schema);
    } else {
        buf_puts(b, "any");
    }
    if (is_truthy(json_object_get(schema, "nullable")))
        buf_puts(b, " | null");
}

static void harmony_comments(struct buf *b, const json_t *schema) {
    const json_t *title = json_object_get(schema, "title");
    const json_t *text = json_object_get(schema, "description");
    const json_t *examples = json_object_get(schema, "examples");
    size_t i;
    json_t *v;
    if (is_truthy(title)) {
        buf_puts(b, "// ");
        py_str(b, title);
        buf_puts(b, "\n// \n");
    }
    if (is_truthy(text)) {
        buf_puts(b, "// ");
        py_str(b, text);
        buf_puts(b, "\n");
    }
    if (is_truthy(examples))
        buf_puts(b, "// Examples:\n");
    json_array_foreach((json_t *)examples, i, v) {
        buf_puts(b, "// - ");
        py_dumps(b, v, PY_ASCII);
        buf_puts(b, "\n");
    }
}

void ts_harmony(struct buf *b, const json_t *function) {
    const json_t *p = json_object_get(function, "parameters");
    const json_t *props = json_object_get(p, "properties"), *dflt;
    const char *key;
    json_t *v;
    if (*str_of(function, "description"))
        buf_printf(b, "// %s\n", str_of(function, "description"));
    buf_printf(b, "type %s = ", str_of(function, "name"));
    if (strcmp(str_of(p, "type"), "object") != 0 || !is_truthy(props)) {
        buf_puts(b, "() => any;");
        return;
    }
    buf_puts(b, "(_:");
    if (*str_of(p, "description"))
        buf_printf(b, " // %s", str_of(p, "description"));
    buf_puts(b, "\n{\n");
    json_object_foreach((json_t *)props, key, v) {
        harmony_comments(b, v);
        buf_printf(b, "%s%s: ", key,
                   is_in(json_object_get(p, "required"), key) ? "" : "?");
        harmony_type(b, v);
        buf_puts(b, ",");
        if ((dflt = json_object_get(v, "default"))) {
            buf_puts(b, " // default: ");
            py_dumps(b, dflt, PY_ASCII);
        }
        buf_puts(b, "\n");
    }
    buf_puts(b, "}) => any;");
}

/* ---- Kimi ---- */

struct kimi {
    struct buf *b;
    json_t *defs; /* owned: what $defs told, in order */
    bool refers_self;
    struct err *err;
};

static int kimi_type(struct kimi *k, const json_t *schema, int indent);

static void put_indent(struct buf *b, int n) { buf_printf(b, "%*s", n, ""); }

/* Lines of a description as comments; an empty line stays empty. */
static void kimi_lines(struct buf *b, const char *text, int indent) {
    for (;;) {
        size_t n = strcspn(text, "\n");
        if (n) {
            put_indent(b, indent);
            buf_puts(b, "// ");
            buf_bytes(b, text, n);
        }
        buf_puts(b, "\n");
        if (!text[n])
            return;
        text += n + 1;
    }
}

static bool is_type(const json_t *schema, const char *name) {
    return !json_object_get(schema, "$ref") &&
           !json_object_get(schema, "anyOf") &&
           !json_object_get(schema, "enum") &&
           strcmp(str_of(schema, "type"), name) == 0;
}

/* Description and limits, as comments in front of what they are of. */
static void kimi_comments(struct buf *b, const json_t *schema, int indent) {
    static const struct {
        const char *type, *key[3];
    } limits[] = {{"string", {"maxLength", "minLength", "pattern"}},
                  {"number", {"maximum", "minimum"}},
                  {"integer", {"maximum", "minimum"}},
                  {"array", {"maxItems", "minItems"}}};
    bool any = false;
    const json_t *v;
    if (*str_of(schema, "description"))
        kimi_lines(b, str_of(schema, "description"), indent);
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
        for (int n = 0; is_type(schema, limits[i].type) && n < 3; n++) {
            if (!limits[i].key[n] ||
                !(v = json_object_get(schema, limits[i].key[n])))
                continue;
            if (!any)
                put_indent(b, indent);
            buf_printf(b, "%s%s: ", any ? ", " : "// ", limits[i].key[n]);
            py_str(b, v);
            any = true;
        }
    if (any)
        buf_puts(b, "\n");
}

static int kimi_field(struct kimi *k, const char *name, const json_t *schema,
                      bool optional, int indent) {
    const json_t *dflt = json_object_get(schema, "default");
    kimi_comments(k->b, schema, indent);
    if (dflt && !json_is_null(dflt)) {
        put_indent(k->b, indent);
        buf_puts(k->b, "// Default: ");
        if (json_is_number(dflt) || json_is_boolean(dflt))
            py_str(k->b, dflt);
        else
            py_dumps(k->b, dflt, 0);
        buf_puts(k->b, "\n");
    }
    put_indent(k->b, indent);
    buf_printf(k->b, "%s%s: ", name, optional ? "?" : "");
    return kimi_type(k, schema, indent);
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Fields, required ones first, each kind by name; or all in their order. */
static int kimi_fields(struct kimi *k, const json_t *schema, bool sorted,
                       int indent, size_t *n_out) {
    json_t *props = json_object_get(schema, "properties"), *v;
    const json_t *required = json_object_get(schema, "required");
    size_t n = json_object_size(props), i = 0;
    const char **name = calloc(n + 1, sizeof *name), *key;
    int rc = 0;
    CHECK(name, "out of memory for %zu names", n);
    json_object_foreach(props, key, v) name[i++] = key;
    if (sorted)
        qsort(name, n, sizeof *name, by_name);
    *n_out = 0;
    for (int optional = 0; optional < (sorted ? 2 : 1); optional++)
        for (i = 0; rc == 0 && i < n; i++) {
            bool opt = !is_in(required, name[i]);
            if (sorted && opt != (optional == 1))
                continue;
            buf_puts(k->b, (*n_out)++ ? ",\n" : "\n");
            rc = kimi_field(k, name[i], json_object_get(props, name[i]), opt,
                            indent);
        }
    free(name);
    return rc;
}

static int kimi_object(struct kimi *k, const json_t *schema, int indent) {
    const json_t *more = json_object_get(schema, "additionalProperties");
    size_t n;
    buf_puts(k->b, "{");
    if (kimi_fields(k, schema, true, indent + 2, &n) < 0)
        return -1;
    if (more && !json_is_null(more)) {
        buf_puts(k->b, n++ ? ",\n" : "\n");
        put_indent(k->b, indent + 2);
        buf_puts(k->b, "[k: string]: ");
        if (json_is_object(more)) {
            if (kimi_type(k, more, indent + 2) < 0)
                return -1;
        } else {
            buf_puts(k->b, json_is_true(more) ? "any" : "never");
        }
    }
    if (n) {
        buf_puts(k->b, "\n");
        put_indent(k->b, indent);
    }
    buf_puts(k->b, "}");
    return 0;
}

static int kimi_array(struct kimi *k, const json_t *schema, int indent) {
    const json_t *items = json_object_get(schema, "items");
    struct buf *b = k->b;
    buf_puts(b, "Array<");
    size_t at = b->len;
    if (!is_truthy(items)) {
        buf_puts(b, "any>");
        return 0;
    }
    buf_puts(b, "\n");
    kimi_comments(b, items, indent + 2);
    bool told = b->len > at + 1;
    if (told)
        put_indent(b, indent + 2);
    else
        b->len = at;
    if (kimi_type(k, items, told ? indent + 2 : indent) < 0)
        return -1;
    if (told) {
        buf_puts(b, "\n");
        put_indent(b, indent);
    }
    buf_puts(b, ">");
    return 0;
}

static void kimi_enum(struct buf *b, const json_t *values) {
    size_t i;
    json_t *v;
    json_array_foreach((json_t *)values, i, v) {
        const char *quote = json_is_string(v) ? "\"" : "";
        buf_puts(b, i ? " | " : "");
        buf_puts(b, quote);
        py_str(b, v);
        buf_puts(b, quote);
    }
}

static void kimi_union(struct buf *b, const json_t *types) {
    size_t i;
    json_t *v;
    json_array_foreach((json_t *)types, i, v) {
        const char *s = json_is_string(v) ? json_string_value(v) : "any";
        buf_puts(b, i ? " | " : "");
        buf_puts(b, strcmp(s, "integer") == 0  ? "number"
                    : strcmp(s, "object") == 0 ? "{}"
                    : strcmp(s, "array") == 0  ? "Array<any>"
                                               : s);
    }
}

static int kimi_ref(struct kimi *k, const char *ref) {
    static const char in_defs[] = "#/$defs/";
    if (strcmp(ref, "#") == 0) {
        k->refers_self = true;
        buf_puts(k->b, "parameters");
        return 0;
    }
    const char *name = strrchr(ref, '/');
    if (strncmp(ref, in_defs, strlen(in_defs)) != 0 ||
        !json_object_get(k->defs, name + 1))
        return err_set(k->err, ERR_INVAL, "$ref %.64s: not found in $defs",
                       ref);
    buf_puts(k->b, name + 1);
    return 0;
}

static int kimi_any_of(struct kimi *k, const json_t *list, int indent) {
    size_t i;
    json_t *v;
    json_array_foreach((json_t *)list, i, v) {
        buf_puts(k->b, i ? " | " : "");
        if (kimi_type(k, v, indent) < 0)
            return -1;
    }
    return 0;
}

static int kimi_type(struct kimi *k, const json_t *schema, int indent) {
    const char *type = str_of(schema, "type");
    const json_t *any_of = json_object_get(schema, "anyOf");
    const json_t *values = json_object_get(schema, "enum");
    if (json_is_boolean(schema)) {
        buf_puts(k->b, json_is_true(schema) ? "any" : "null");
        return 0;
    }
    if (json_object_get(schema, "$ref"))
        return kimi_ref(k, str_of(schema, "$ref"));
    if (any_of)
        return kimi_any_of(k, any_of, indent);
    if (values)
        kimi_enum(k->b, values);
    else if (json_is_array(json_object_get(schema, "type")))
        kimi_union(k->b, json_object_get(schema, "type"));
    else if (strcmp(type, "object") == 0)
        return kimi_object(k, schema, indent);
    else if (strcmp(type, "array") == 0)
        return kimi_array(k, schema, indent);
    else if (*type)
        buf_puts(k->b, strcmp(type, "integer") == 0 ? "number" : type);
    else if (json_is_object(schema) && json_object_size(schema) == 0)
        buf_puts(k->b, "any");
    else
        return err_set(k->err, ERR_INVAL, "a JSON schema without a type");
    return 0;
}

/* All $defs of objects on the way down, as they are met. */
static void kimi_defs(struct kimi *k, const json_t *schema) {
    const char *key;
    size_t i;
    json_t *v;
    if (json_is_array(schema)) {
        json_array_foreach((json_t *)schema, i, v) kimi_defs(k, v);
        return;
    }
    json_object_foreach(json_object_get(schema, "$defs"), key, v)
        json_object_set(k->defs, key, v);
    json_object_foreach(json_object_get(schema, "properties"), key, v)
        kimi_defs(k, v);
    if (json_object_get(schema, "items"))
        kimi_defs(k, json_object_get(schema, "items"));
    if (json_object_get(schema, "anyOf"))
        kimi_defs(k, json_object_get(schema, "anyOf"));
    if (json_is_object(json_object_get(schema, "additionalProperties")))
        kimi_defs(k, json_object_get(schema, "additionalProperties"));
}

static int kimi_interfaces(struct kimi *k, const json_t *p) {
    const char *key;
    json_t *v;
    size_t n;
    if (k->refers_self) {
        buf_puts(k->b, "interface parameters {");
        if (kimi_fields(k, p, false, 2, &n) < 0)
            return -1;
        buf_puts(k->b, n ? "\n}\n" : "}\n");
    }
    json_object_foreach(k->defs, key, v) {
        if (*str_of(v, "description"))
            kimi_lines(k->b, str_of(v, "description"), 0);
        buf_printf(k->b, "interface %s ", key);
        if (kimi_type(k, v, 0) < 0)
            return -1;
        buf_puts(k->b, "\n");
    }
    return 0;
}

int ts_kimi(struct buf *b, const json_t *function, struct err *err) {
    const json_t *p = json_object_get(function, "parameters");
    struct buf type;
    struct kimi k = {.b = &type, .defs = json_object(), .err = err};
    buf_init(&type, RENDER_TEXT_MAX);
    kimi_defs(&k, p);
    int rc = kimi_object(&k, p, 0); /* tells whether it refers to itself */
    k.b = b;
    if (rc == 0)
        rc = kimi_interfaces(&k, p);
    if (rc == 0 && *str_of(function, "description"))
        kimi_lines(b, str_of(function, "description"), 0);
    buf_printf(b, "type %s = (_: %s) => any;", str_of(function, "name"),
               k.refers_self ? "parameters" : buf_str(&type));
    buf_release(&type);
    json_decref(k.defs);
    return rc;
}
