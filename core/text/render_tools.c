/* render_tools: declarations of tools, as messages that a family puts in
 * front of a conversation. */
#include "core/text/render_shape.h"

#include <stdlib.h>
#include <string.h>

/* What a declaration is made of. */
struct tools {
    const struct render *r;
    const json_t *list;
    struct rich system; /* the user's own */
    bool compat;
    int json; /* of py_dumps(): the cookbook escapes, templates do not */
};

/* {"type":"function","function":{…}} or the function itself. */
static const json_t *tool_function(const json_t *tool) {
    const json_t *f = json_object_get(tool, "function");
    return json_is_object(f) ? f : tool;
}

static int tools_check(const json_t *list, struct err *err) {
    size_t i;
    json_t *tool;
    json_array_foreach((json_t *)list, i, tool) {
        const json_t *f = tool_function(tool);
        const json_t *p = json_object_get(f, "parameters");
        if (!json_is_string(json_object_get(f, "name")))
            return err_set(err, ERR_INVAL,
                           "tools[%zu]: a function with a "
                           "name is wanted",
                           i);
        if (p && !json_is_null(p) && !json_is_object(p))
            return err_set(err, ERR_INVAL,
                           "tools[%zu]: parameters: a JSON schema is wanted",
                           i);
    }
    return 0;
}

static const char *tool_str(const json_t *f, const char *key) {
    const char *s = json_string_value(json_object_get(f, key));
    return s ? s : "";
}

static void put_str(struct rich *to, const char *s) {
    rich_data(to, s, strlen(s));
}

/* One function a line, each as `wrap` says: itself, or in its envelope. */
static void put_lines(const json_t *list, bool wrap, int flags,
                      struct rich *to) {
    size_t i;
    json_t *tool;
    json_array_foreach((json_t *)list, i, tool) {
        const json_t *f = tool_function(tool);
        json_t *j =
            wrap ? json_pack("{s:s, s:O}", "type", "function", "function", f)
                 : json_incref((json_t *)f);
        rich_data(to, i ? "\n" : "", i ? 1 : 0);
        py_dumps(&to->text, j, flags);
        json_decref(j);
    }
}

/* ---- texts ---- */

static void json_text(const struct tools *t, struct rich *to) {
    rich_fmt(to, "# Tools\n\nYou may call one or more functions to assist with "
                 "the user query.\n\nYou are provided with function signatures "
                 "within <tools></tools> XML tags:\n<tools>\n");
    put_lines(t->list, true, t->json, to);
    rich_fmt(to,
             "\n</tools>\n\nFor each function call, return a json object with "
             "function name and arguments within <tool_call></tool_call> XML "
             "tags:\n<tool_call>\n{\"name\": <function-name>, \"arguments\": "
             "<args-json-object>}\n</tool_call>");
}

static const char xml_head[] =
    "# Tools\n\nYou have access to the following functions:\n\n<tools>\n";
static const char xml_tail[] =
    "\n</tools>\n\nIf you choose to call a function ONLY reply in the "
    "following format with NO suffix:\n\n<tool_call>\n"
    "<function=example_function_name>\n<parameter=example_parameter_1>\n"
    "value_1\n</parameter>\n<parameter=example_parameter_2>\nThis is the value "
    "for the second parameter\nthat can span\nmultiple lines\n</parameter>\n"
    "</function>\n</tool_call>\n\n<IMPORTANT>\nReminder:\n- Function calls "
    "MUST follow the specified format: an inner <function=...></function> "
    "block must be nested within <tool_call></tool_call> XML tags\n- Required "
    "parameters MUST be specified\n- You may provide optional reasoning for "
    "your function call in natural language BEFORE the function call, but NOT "
    "after\n- If there is no function call available, answer the question like "
    "normal with your current knowledge and do not tell the user about "
    "function calls\n</IMPORTANT>";

static void xml_lines(const struct tools *t, struct rich *to) {
    rich_fmt(to, xml_head);
    put_lines(t->list, !t->compat, t->json, to); /* templates wrap */
    rich_fmt(to, xml_tail);
}

static void put_element(struct rich *to, const char *name, const json_t *v,
                        int json) {
    rich_fmt(to, "<");
    put_str(to, name);
    rich_fmt(to, ">");
    if (json_is_object(v) || json_is_array(v))
        py_dumps(&to->text, v, json);
    else
        py_str(&to->text, v);
    rich_fmt(to, "</");
    put_str(to, name);
    rich_fmt(to, ">\n");
}

static void put_extra(struct rich *to, const json_t *o,
                      const char *const *known, int json) {
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)o, key, v) {
        size_t i = 0;
        while (known[i] && strcmp(known[i], key) != 0)
            i++;
        if (!known[i])
            put_element(to, key, v, json);
    }
}

static void put_trimmed(struct rich *to, const char *name, const char *text) {
    struct rich r;
    rich_init(&r);
    put_str(&r, text);
    struct view v = view_strip(view_of(&r), NULL, BOTH);
    rich_fmt(to, "<");
    rich_fmt(to, name);
    rich_fmt(to, ">");
    rich_view(to, v);
    rich_fmt(to, "</");
    rich_fmt(to, name);
    rich_fmt(to, ">\n");
    rich_release(&r);
}

static void xml_parameter(struct rich *to, const char *name,
                          const json_t *fields, int json) {
    static const char *const known[] = {"name", "type", "description", "enum",
                                        NULL};
    const json_t *type = json_object_get(fields, "type");
    const json_t *values = json_object_get(fields, "enum");
    rich_fmt(to, "<parameter>\n<name>");
    put_str(to, name);
    rich_fmt(to, "</name>\n");
    if (type) {
        rich_fmt(to, "<type>");
        py_str(&to->text, type);
        rich_fmt(to, "</type>\n");
    }
    if (json_object_get(fields, "description"))
        put_trimmed(to, "description", tool_str(fields, "description"));
    if (values) {
        rich_fmt(to, "<enum>");
        py_dumps(&to->text, values, json);
        rich_fmt(to, "</enum>\n");
    }
    put_extra(to, fields, known, json);
    rich_fmt(to, "</parameter>\n");
}

static bool is_blank(const char *s) {
    struct rich r;
    rich_init(&r);
    put_str(&r, s);
    struct view v = view_strip(view_of(&r), NULL, BOTH);
    bool blank = view_len(&v) == 0;
    rich_release(&r);
    return blank;
}

static void xml_function(struct rich *to, const json_t *f, int json) {
    static const char *const known[] = {"type", "name", "description",
                                        "parameters", NULL};
    static const char *const known_in[] = {"type", "properties", "required",
                                           NULL};
    const json_t *p = json_object_get(f, "parameters");
    const json_t *required = json_object_get(p, "required");
    const char *key;
    json_t *v;
    rich_fmt(to, "<function>\n<name>");
    put_str(to, tool_str(f, "name"));
    rich_fmt(to, "</name>\n");
    if (!is_blank(tool_str(f, "description")))
        put_trimmed(to, "description", tool_str(f, "description"));
    rich_fmt(to, "<parameters>\n");
    json_object_foreach(json_object_get(p, "properties"), key, v)
        xml_parameter(to, key, v, json);
    put_extra(to, p, known_in, json);
    if (required) {
        rich_fmt(to, "<required>");
        py_dumps(&to->text, required, json);
        rich_fmt(to, "</required>\n");
    }
    rich_fmt(to, "</parameters>\n");
    put_extra(to, f, known, json);
    rich_fmt(to, "</function>");
}

static void xml_declarations(const struct tools *t, struct rich *to) {
    size_t i;
    json_t *tool;
    rich_fmt(to, xml_head);
    json_array_foreach((json_t *)t->list, i, tool) {
        rich_fmt(to, i ? "\n" : "");
        xml_function(to, tool_function(tool), t->json);
    }
    rich_fmt(to, xml_tail);
}

static void deepseek3_text(const struct tools *t, struct rich *to) {
    size_t i;
    json_t *tool;
    rich_fmt(to, "\n\n## Tools\nYou have access to the following tools:\n\n");
    json_array_foreach((json_t *)t->list, i, tool) {
        const json_t *f = tool_function(tool);
        const json_t *p = json_object_get(f, "parameters");
        rich_fmt(to, i ? "\n### " : "### ");
        put_str(to, tool_str(f, "name"));
        rich_fmt(to, "\nDescription: ");
        put_str(to, tool_str(f, "description"));
        rich_fmt(to, "\n\nParameters: ");
        if (p)
            py_dumps(&to->text, p, t->json);
        else
            rich_fmt(to, "{}");
    }
    rich_fmt(to,
             "\n\nIMPORTANT: ALWAYS adhere to this exact format for tool use:\n"
             "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>tool_call_name"
             "<｜tool▁sep｜>tool_call_arguments<｜tool▁call▁end｜>"
             "<｜tool▁calls▁end｜>\n\nWhere:\n- `tool_call_name` must be an "
             "exact match to one of the available tools\n- "
             "`tool_call_arguments` must be valid JSON that strictly follows "
             "the tool's Parameters Schema\n- For multiple tool calls, chain "
             "them directly without separators or spaces");
}

static void dsml_text(const json_t *list, struct rich *to) {
    rich_fmt(
        to,
        "## Tools\n\nYou have access to a set of tools to help answer the "
        "user's question. You can invoke tools by writing a "
        "\"<｜DSML｜ calls>\" block like the following:\n\n<｜DSML｜ calls>\n"
        "<｜DSML｜ invoke name=\"$TOOL_NAME\">\n"
        "<｜DSML｜ parameter name=\"$PARAMETER_NAME\" string=\"true|false\">"
        "$PARAMETER_VALUE</｜DSML｜ parameter>\n...\n</｜DSML｜ invoke>\n"
        "<｜DSML｜ invoke name=\"$TOOL_NAME2\">\n...\n</｜DSML｜ invoke>\n"
        "</｜DSML｜ calls>\n\nString parameters should be specified as is and "
        "set `string=\"true\"`. For all other types (numbers, booleans, "
        "arrays, objects), pass the value in JSON format and set "
        "`string=\"false\"`.\n\nIf thinking_mode is enabled (triggered by "
        "<think>), you MUST output your complete reasoning inside "
        "<think>...</think> BEFORE any tool calls or final response.\n\n"
        "Otherwise, output directly after </think> with tool calls or final "
        "response.\n\n### Available Tool Schemas\n\n");
    put_lines(list, false, 0, to);
    rich_fmt(to, "\n\nYou MUST strictly follow the above defined tool name and "
                 "parameter schemas to invoke tool calls.\n");
}

int tools_dsml(const struct rich *json, struct rich *to, struct err *err) {
    struct view v = view_of(json);
    json_t *list = py_loads(view_str(&v), view_len(&v), "tool_declare", err);
    int rc = !list ? -1
             : json_is_array(list)
                 ? tools_check(list, err)
                 : err_set(err, ERR_INVAL, "tool_declare: a list is wanted");
    if (rc == 0)
        dsml_text(list, to);
    json_decref(list);
    return rc;
}

static void glm_text(const struct tools *t, struct rich *to) {
    size_t i;
    json_t *tool;
    rich_fmt(to,
             "\n# Tools\n\nYou may call one or more functions to assist with "
             "the user query.\n\nYou are provided with function signatures "
             "within <tools></tools> XML tags:\n<tools>\n");
    json_array_foreach((json_t *)t->list, i, tool) {
        json_t *f = json_copy((json_t *)tool_function(tool));
        if (!json_is_true(json_object_get(f, "defer_loading"))) {
            json_object_del(f, "defer_loading");
            json_object_del(f, "strict");
            py_dumps(&to->text, f, 0);
            rich_fmt(to, "\n");
        }
        json_decref(f);
    }
    rich_fmt(to,
             "</tools>\n\nFor each function call, output the function name and "
             "arguments within the following XML format:\n"
             "<tool_call>{function-name}<arg_key>{arg-key-1}</arg_key>"
             "<arg_value>{arg-value-1}</arg_value><arg_key>{arg-key-2}"
             "</arg_key><arg_value>{arg-value-2}</arg_value>...</tool_call>");
}

static void json_list(const struct tools *t, int flags, struct rich *to) {
    json_t *all = json_array(), *tool;
    size_t i;
    json_array_foreach((json_t *)t->list, i, tool)
        json_array_append_new(all, json_pack("{s:s, s:O}", "type", "function",
                                             "function", tool_function(tool)));
    py_dumps(&to->text, all, flags);
    json_decref(all);
}

static int kimi_ts(const struct tools *t, struct rich *to, struct err *err) {
    size_t i;
    json_t *tool;
    rich_fmt(to, "# Tools\n\n## functions\nnamespace functions {\n");
    json_array_foreach((json_t *)t->list, i, tool) {
        if (ts_kimi(&to->text, tool_function(tool), err) < 0)
            return err_ctx(err, "tools[%zu]", i);
        rich_fmt(to, "\n");
    }
    rich_fmt(to, "}\n");
    return 0;
}

static void harmony_text(const struct tools *t, struct rich *to) {
    size_t i;
    json_t *tool;
    if (t->system.text.len) {
        rich_fmt(to, "# Instructions\n\n");
        rich_view(to, view_of(&t->system));
        rich_fmt(to, "\n\n");
    }
    rich_fmt(to, "# Tools\n\n## functions\n\nnamespace functions {\n\n");
    json_array_foreach((json_t *)t->list, i, tool) {
        rich_fmt(to, i ? "\n\n" : "");
        ts_harmony(&to->text, tool_function(tool));
    }
    rich_fmt(to, "\n\n} // namespace functions");
}

static void gemma4_text(const struct tools *t, struct rich *to) {
    size_t i;
    json_t *tool;
    rich_view(to, view_strip(view_of(&t->system), NULL, BOTH));
    json_array_foreach((json_t *)t->list, i, tool)
        tools_gemma4(tool_function(tool), to);
}

/* ---- messages ---- */

/* The system message: what is its own, and the tools' text, in either order.
 */
static void put_system(const struct tools *t, struct chat *c, bool tools_first,
                       const char *sep,
                       void (*text)(const struct tools *, struct rich *)) {
    struct rich *to = msg_set_text(chat_insert(c, 0, ROLE_SYSTEM, "system"));
    bool own = t->system.text.len > 0;
    if (tools_first)
        text(t, to);
    if (own && tools_first)
        rich_fmt(to, sep);
    rich_view(to, view_of(&t->system));
    if (own && !tools_first)
        rich_fmt(to, sep);
    if (!tools_first)
        text(t, to);
}

static struct rich *put_message(struct chat *c, size_t at, enum role role,
                                const char *name) {
    return msg_set_text(chat_insert(c, at, role, name));
}

static int put_tools(const struct tools *t, struct chat *c, struct err *err) {
    const char *system = t->r->family->system;
    bool own = t->system.text.len > 0;
    struct rich *to;
    switch (t->r->family->tools) {
    case TOOLS_NONE:
        return err_set(err, ERR_UNSUPPORTED,
                       "tools: %s has no words for them (leave tools out, or "
                       "take another renderer)",
                       t->r->family->name);
    case TOOLS_JSON: put_system(t, c, false, "\n\n", json_text); break;
    case TOOLS_XML: put_system(t, c, true, "\n\n", xml_lines); break;
    case TOOLS_XML_DECL:
        put_system(t, c, false, "\n\n", xml_declarations);
        break;
    case TOOLS_DEEPSEEK3: put_system(t, c, false, "", deepseek3_text); break;
    case TOOLS_DSML:
        if (own)
            rich_view(put_message(c, 0, ROLE_SYSTEM, "system"),
                      view_of(&t->system));
        json_list(t, PY_ASCII,
                  put_message(c, own, ROLE_DECLARE, "tool_declare"));
        break;
    case TOOLS_GLM:
        if (own)
            rich_view(put_message(c, 0, ROLE_SYSTEM, "system"),
                      view_of(&t->system));
        glm_text(t, put_message(c, 0, ROLE_SYSTEM, "system"));
        break;
    case TOOLS_KIMI_JSON:
    case TOOLS_KIMI_TS:
        to = put_message(c, 0, ROLE_SYSTEM, "system");
        rich_view(to, view_of(&t->system));
        if (!own)
            rich_fmt(to, system);
        to = put_message(c, 0, ROLE_DECLARE, "tool_declare");
        if (t->r->family->tools == TOOLS_KIMI_TS)
            return kimi_ts(t, to, err);
        json_list(t, PY_ASCII | PY_COMPACT | PY_SORT, to);
        break;
    case TOOLS_HARMONY:
        harmony_text(t, put_message(c, 0, ROLE_OTHER, "developer"));
        rich_fmt(put_message(c, 0, ROLE_BUILTIN, "system"),
                 "Calls to these tools must go to the commentary channel: "
                 "'functions'.");
        break;
    case TOOLS_GEMMA4:
        gemma4_text(t, put_message(c, 0, ROLE_SYSTEM, "system"));
        break;
    case TOOLS_MISTRAL:
        to = put_message(c, 0, ROLE_DECLARE, "tool_declare");
        json_list(t, 0, to);
        if (own)
            rich_view(put_message(c, 0, ROLE_SYSTEM, "system"),
                      view_of(&t->system));
        break;
    }
    return 0;
}

int tools_declare(const struct render *r, struct chat *c, struct err *err) {
    struct tools t = {.r = r,
                      .list = c->tools,
                      .compat = c->is_compat,
                      .json = c->is_compat ? PY_ASCII : 0};
    if (!c->tools)
        return 0;
    if (tools_check(c->tools, err) < 0)
        return -1;
    bool flags = false, system = c->m[0].role == ROLE_SYSTEM;
    for (size_t i = 0; i < c->n; i++)
        flags = flags || c->m[i].has_trainable;
    rich_init(&t.system);
    if (system) {
        msg_text(&c->m[0], &t.system);
        chat_remove(c, 0);
    } else if (r->family->system) {
        rich_fmt(&t.system, r->family->system);
    }
    c->is_declared = true;
    int rc = put_tools(&t, c, err);
    /* What the format writes is never trained on. */
    for (size_t i = 0; i < c->n && c->m[i].is_synthetic; i++)
        c->m[i].has_trainable = flags;
    rich_release(&t.system);
    return rc;
}
