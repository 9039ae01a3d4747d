/*
 * render_chat: messages as OpenAI and the cookbook write them, read.
 *
 * content: a string, a list of parts {"type":"text"|"thinking"}, or null
 * beside tool_calls. reasoning_content: the reasoning of a string.
 */
#include "core/text/render.h"

#include "core/json.h"

#include <stdlib.h>
#include <string.h>

/* ---- lifetime ---- */

static void msg_clear_parts(struct msg *m) {
    for (size_t i = 0; i < m->n_part; i++)
        rich_release(&m->part[i].text);
    free(m->part);
    m->part = NULL;
    m->n_part = 0;
}

static void msg_release(struct msg *m) {
    msg_clear_parts(m);
    for (size_t i = 0; i < m->n_call; i++)
        free(m->call[i].args);
    free(m->call);
}

void chat_release(struct chat *c) {
    for (size_t i = 0; i < c->n; i++)
        msg_release(&c->m[i]);
    free(c->m);
    json_decref(c->hold);
    memset(c, 0, sizeof *c);
}

struct msg *chat_insert(struct chat *c, size_t at, enum role role,
                        const char *role_name) {
    if (c->n == c->cap) {
        c->cap = c->cap ? 2 * c->cap : 16;
        c->m = realloc(c->m, c->cap * sizeof *c->m);
        CHECK(c->m, "out of memory for %zu messages", c->cap);
    }
    memmove(c->m + at + 1, c->m + at, (c->n - at) * sizeof *c->m);
    c->n++;
    c->m[at] = (struct msg){
        .role = role, .role_name = role_name, .is_synthetic = true};
    return &c->m[at];
}

void chat_remove(struct chat *c, size_t at) {
    msg_release(&c->m[at]);
    memmove(c->m + at, c->m + at + 1, (--c->n - at) * sizeof *c->m);
}

static struct rich *msg_add_part(struct msg *m, bool is_thinking) {
    m->part = realloc(m->part, (m->n_part + 1) * sizeof *m->part);
    CHECK(m->part, "out of memory for a message");
    struct part *p = &m->part[m->n_part++];
    p->is_thinking = is_thinking;
    rich_init(&p->text);
    return &p->text;
}

struct rich *msg_set_text(struct msg *m) {
    msg_clear_parts(m);
    m->is_text = true;
    return msg_add_part(m, false);
}

void chat_split_thinking(struct chat *c) {
    for (size_t i = 0; i < c->n; i++) {
        struct msg *m = &c->m[i];
        if (!m->is_text || !m->part[0].text.n_fmt)
            continue;
        struct rich old = m->part[0].text;
        struct view all = view_of(&old), why = all, text = all;
        size_t open = (size_t)view_find(&all, 0, "<think>");
        size_t shut = (size_t)view_find(&all, 0, "</think>");
        why.from = open + strlen("<think>");
        why.to = shut;
        text.from = shut + strlen("</think>");
        why = view_strip(why, "\n", BOTH);
        rich_init(&m->part[0].text);
        msg_clear_parts(m);
        m->is_text = view_len(&why) == 0;
        if (!m->is_text)
            rich_view(msg_add_part(m, true), why);
        rich_view(msg_add_part(m, false), view_strip(text, "\n", LEFT));
        rich_release(&old);
    }
}

/* ---- looking ---- */

void msg_text(const struct msg *m, struct rich *to) {
    for (size_t i = 0; i < m->n_part; i++)
        if (!m->part[i].is_thinking)
            rich_view(to, view_of(&m->part[i].text));
}

bool msg_has_thinking(const struct msg *m, bool compat) {
    struct view v;
    if (m->is_text) {
        v = view_of(&m->part[0].text);
        return compat && view_find(&v, 0, "<think>") >= 0;
    }
    for (size_t i = 0; i < m->n_part; i++)
        if (m->part[i].is_thinking)
            return true;
    return false;
}

int msg_check_text(const struct chat *c, size_t i, struct err *err) {
    const struct msg *m = &c->m[i];
    if (m->is_text || (m->n_part == 1 && !m->part[0].is_thinking))
        return 0;
    return err_set(err, ERR_UNSUPPORTED,
                   "messages[%zu]: %s (role %s) takes one text", i,
                   m->n_part > 1 ? "several parts" : "reasoning", m->role_name);
}

int64_t chat_last(const struct chat *c, enum role role) {
    for (size_t i = c->n; i-- > 0;)
        if (c->m[i].role == role)
            return (int64_t)i;
    return -1;
}

/* ---- reading ---- */

static enum role role_by_name(const char *name) {
    static const char *const names[] = {"system", "user", "assistant", "tool",
                                        "tool_declare"};
    for (int i = 0; i < (int)(sizeof names / sizeof *names); i++)
        if (strcmp(names[i], name) == 0)
            return (enum role)i;
    return ROLE_OTHER;
}

/* A text that begins with <think> and closes it is reasoning and an answer:
 * these two tags are the format's (and see chat_split_thinking). */
static void read_string(struct msg *m, const char *s, size_t len) {
    static const char open[] = "<think>", shut[] = "</think>";
    struct rich *r = msg_add_part(m, false);
    const char *from = s, *end = s + len, *to;
    m->is_text = true;
    while (from < end && strchr(" \t\r\n", *from) && *from)
        from++;
    if (m->role == ROLE_ASSISTANT && (size_t)(end - from) > strlen(open) &&
        memcmp(from, open, strlen(open)) == 0 &&
        (to = memmem(from, (size_t)(end - from), shut, strlen(shut)))) {
        rich_data(r, s, (size_t)(from - s));
        rich_fmt(r, open);
        from += strlen(open);
        rich_data(r, from, (size_t)(to - from));
        rich_fmt(r, shut);
        s = to + strlen(shut);
    }
    rich_data(r, s, (size_t)(end - s));
}

static int read_part(struct msg *m, const json_t *p, struct err *err) {
    const char *type = json_string_value(json_object_get(p, "type"));
    if (!type)
        return err_set(err, ERR_INVAL, "a part of content has no type");
    if (strncmp(type, "image", 5) == 0)
        return err_set(err, ERR_UNSUPPORTED,
                       "images are not in this version (leave the part out)");
    bool thinking = strcmp(type, "thinking") == 0;
    if (!thinking && strcmp(type, "text") != 0)
        return err_set(err, ERR_UNSUPPORTED,
                       "a part of type %.32s is unknown (text, thinking)",
                       type);
    const json_t *text = json_object_get(p, type);
    if (!json_is_string(text))
        return err_set(err, ERR_INVAL, "a part has no %s", type);
    rich_data(msg_add_part(m, thinking), json_string_value(text),
              json_string_length(text));
    return 0;
}

static int read_content(struct msg *m, const json_t *j, struct err *err) {
    const json_t *content = json_object_get(j, "content"), *p;
    const json_t *why = json_object_get(j, "reasoning_content");
    size_t i;
    if (why && !json_is_string(why) && !json_is_null(why))
        return err_set(err, ERR_INVAL, "reasoning_content: a text is wanted");
    if (!json_string_length(why))
        why = NULL;
    if (why)
        rich_data(msg_add_part(m, true), json_string_value(why),
                  json_string_length(why));
    if ((!content || json_is_null(content)) &&
        json_array_size(json_object_get(j, "tool_calls")) > 0)
        content = NULL;
    else if (!content)
        return err_set(err, ERR_INVAL, "content is missing");
    else if (!json_is_string(content) && !json_is_array(content))
        return err_set(err, ERR_INVAL,
                       "content: a string or a list of parts is wanted");
    if (json_is_array(content)) {
        json_array_foreach((json_t *)content, i, p) {
            if (read_part(m, p, err) < 0)
                return -1;
        }
    } else if (why) {
        if (content && json_string_length(content))
            rich_data(msg_add_part(m, false), json_string_value(content),
                      json_string_length(content));
    } else {
        read_string(m, content ? json_string_value(content) : "",
                    content ? json_string_length(content) : 0);
    }
    return 0;
}

static int read_call(struct call *call, const json_t *j, struct err *err) {
    const json_t *f = json_object_get(j, "function");
    const json_t *args = json_object_get(f, "arguments");
    struct buf b;
    call->name = json_string_value(json_object_get(f, "name"));
    call->id = json_string_value(json_object_get(j, "id"));
    if (!call->name || !*call->name)
        return err_set(err, ERR_INVAL, "tool_calls: a function has no name");
    if (!json_is_string(args) && !json_is_object(args))
        return err_set(err, ERR_INVAL,
                       "tool_calls: arguments of %.64s: JSON in a string, or "
                       "an object, is wanted",
                       call->name);
    buf_init(&b, RENDER_TEXT_MAX);
    if (json_is_string(args))
        buf_bytes(&b, json_string_value(args), json_string_length(args));
    else
        py_dumps(&b, args, PY_ASCII);
    buf_u8(&b, 0);
    call->args = (char *)buf_take(&b, &call->args_len);
    call->args_len--;
    return 0;
}

static int read_calls(struct msg *m, const json_t *j, struct err *err) {
    const json_t *calls = json_object_get(j, "tool_calls");
    size_t n = json_array_size(calls);
    if (calls && !json_is_array(calls) && !json_is_null(calls))
        return err_set(err, ERR_INVAL, "tool_calls: a list is wanted");
    if (n == 0)
        return 0;
    if (n > CHAT_MAX)
        return err_set(err, ERR_TOOBIG, "tool_calls: more than %d", CHAT_MAX);
    m->call = calloc(n, sizeof *m->call);
    CHECK(m->call, "out of memory for calls");
    for (size_t i = 0; i < n; i++) {
        m->n_call++;
        if (read_call(&m->call[i], json_array_get(calls, i), err) < 0)
            return -1;
    }
    return 0;
}

static int read_message(struct chat *c, const json_t *j, struct err *err) {
    const char *role = json_string_value(json_object_get(j, "role"));
    if (!json_is_object(j))
        return err_set(err, ERR_INVAL, "an object is wanted");
    if (!role || !*role)
        return err_set(err, ERR_INVAL, "role is missing");
    struct msg *m = chat_insert(c, c->n, role_by_name(role), role);
    const json_t *trainable = json_object_get(j, "trainable");
    const json_t *weight = json_object_get(j, "weight");
    double w = 1;
    m->is_synthetic = false;
    m->name = json_string_value(json_object_get(j, "name"));
    m->call_id = json_string_value(json_object_get(j, "tool_call_id"));
    m->has_trainable = trainable != NULL;
    m->trainable = json_is_true(trainable);
    if (trainable && !json_is_boolean(trainable))
        return err_set(err, ERR_INVAL, "trainable: true or false is wanted");
    if (weight && !json_is_null(weight) &&
        (!json_to_num(weight, &w) || (w != 0 && w != 1)))
        return err_set(err, ERR_INVAL, "weight: 0 or 1 is wanted");
    m->untrained = w == 0;
    return read_content(m, j, err) < 0 ? -1 : read_calls(m, j, err);
}

int chat_read(struct chat *c, const json_t *messages, bool compat,
              struct err *err) {
    size_t i;
    json_t *j;
    *c = (struct chat){.is_compat = compat, .keep_from = -1};
    c->hold = json_incref((json_t *)messages);
    if (json_is_object(messages)) {
        c->tools = json_object_get(messages, "tools");
        messages = json_object_get(messages, "messages");
    }
    if (json_is_null(c->tools) ||
        (json_is_array(c->tools) && json_array_size(c->tools) == 0))
        c->tools = NULL;
    if (!json_is_array(messages) || json_array_size(messages) == 0)
        return err_set(err, ERR_INVAL,
                       "messages: a list of at least one is wanted");
    if (json_array_size(messages) > CHAT_MAX)
        return err_set(err, ERR_TOOBIG, "messages: more than %d", CHAT_MAX);
    if (c->tools && !json_is_array(c->tools))
        return err_set(err, ERR_INVAL, "tools: a list is wanted");
    json_array_foreach((json_t *)messages, i, j) {
        if (read_message(c, j, err) < 0)
            return err_ctx(err, "messages[%zu]", i);
    }
    return 0;
}
