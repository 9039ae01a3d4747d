/* format: rows of the shapes that people have, as conversations. */
#include "core/text/int.h"

#include "core/buf.h"

#include <stdlib.h>
#include <string.h>

static json_t *message(const char *role, json_t *content) {
    return json_pack("{s:s, s:o}", "role", role, "content", content);
}

static int want_text(const json_t *row, const char *key, struct err *err) {
    return json_is_string(json_object_get(row, key))
               ? 0
               : err_set(err, ERR_INVAL, "%s: a text is wanted", key);
}

/* Appends what `key` holds: messages, or a text that `role` says. */
static int add_side(json_t *messages, const json_t *row, const char *key,
                    const char *role, struct err *err) {
    json_t *v = json_object_get(row, key);
    if (json_is_object(v)) /* {"messages"}, {"text"}, or one message */
        v = json_object_get(v, "messages") ? json_object_get(v, "messages")
            : json_object_get(v, "text")   ? json_object_get(v, "text")
                                           : v;
    if (json_is_array(v))
        return json_array_extend(messages, v);
    if (json_is_object(v) && json_object_get(v, "role"))
        return json_array_append(messages, v);
    if (json_is_string(v))
        return json_array_append_new(messages, message(role, json_incref(v)));
    return err_set(err, ERR_INVAL, "%s: a text or a list of messages is wanted",
                   key);
}

static int chat_messages(const json_t *row, json_t *out, struct err *err) {
    const json_t *m = json_object_get(row, "messages");
    return json_is_array(m)
               ? json_array_extend(out, (json_t *)m)
               : err_set(err, ERR_INVAL, "messages: a list is wanted");
}

static int prompt_messages(const json_t *row, json_t *out, struct err *err) {
    return add_side(out, row, "prompt", "user", err) < 0
               ? -1
               : add_side(out, row, "completion", "assistant", err);
}

/* The texts of the data set that gave the format its name. */
static int alpaca_messages(const json_t *row, json_t *out, struct err *err) {
    static const char head[] = "Below is an instruction that describes a task";
    static const char with[] =
        ", paired with an input that provides further context";
    static const char tail[] =
        ". Write a response that appropriately completes the request.";
    const char *input = json_string_value(json_object_get(row, "input"));
    if (want_text(row, "instruction", err) < 0 ||
        want_text(row, "output", err) < 0)
        return -1;
    struct buf b;
    buf_init(&b, ROW_LINE_MAX);
    buf_printf(&b, "%s%s%s\n\n### Instruction:\n%s\n\n", head,
               input && *input ? with : "", tail,
               json_string_value(json_object_get(row, "instruction")));
    if (input && *input)
        buf_printf(&b, "### Input:\n%s\n\n", input);
    buf_puts(&b, "### Response:\n");
    int rc = buf_check(&b, "a row", err);
    if (rc == 0)
        json_array_append_new(
            out, message("user", json_stringn((const char *)b.data, b.len)));
    buf_release(&b);
    if (rc == 0)
        json_array_append_new(
            out,
            message("assistant", json_incref(json_object_get(row, "output"))));
    return rc;
}

static const struct {
    const char *from, *role;
} sharegpt_roles[] = {
    {"system", "system"},       {"human", "user"},       {"user", "user"},
    {"gpt", "assistant"},       {"model", "assistant"},  {"tool", "tool"},
    {"assistant", "assistant"}, {"observation", "tool"},
};

static int sharegpt_messages(const json_t *row, json_t *out, struct err *err) {
    const json_t *turns = json_object_get(row, "conversations"), *t;
    size_t i;
    if (!json_is_array(turns))
        return err_set(err, ERR_INVAL, "conversations: a list is wanted");
    json_array_foreach(turns, i, t) {
        const char *from = json_string_value(json_object_get(t, "from"));
        const char *role = NULL;
        for (size_t k = 0;
             from && k < sizeof sharegpt_roles / sizeof *sharegpt_roles; k++)
            if (strcmp(from, sharegpt_roles[k].from) == 0)
                role = sharegpt_roles[k].role;
        if (!role)
            return err_set(err, ERR_INVAL,
                           "conversations[%zu]: from is %s%.40s, not human, "
                           "gpt, system or tool",
                           i, from ? "" : "not a text", from ? from : "");
        if (want_text(t, "value", err) < 0)
            return err_ctx(err, "conversations[%zu]", i);
        json_array_append_new(
            out, message(role, json_incref(json_object_get(t, "value"))));
    }
    return 0;
}

static int pair_side(const json_t *row, const char *key, json_t *out,
                     struct err *err) {
    if (json_object_get(row, "prompt") &&
        add_side(out, row, "prompt", "user", err) < 0)
        return -1;
    return add_side(out, row, key, "assistant", err);
}

static int pair_messages(const json_t *row, json_t *out, struct err *err) {
    return pair_side(row, "chosen", out, err);
}

static int answer_messages(const json_t *row, json_t *out, struct err *err) {
    return json_object_get(row, "messages")
               ? chat_messages(row, out, err)
               : add_side(out, row, "prompt", "user", err);
}

/* The first whose keys a row has is its format. */
static const struct {
    const char *name, *keys[3];
    int (*messages)(const json_t *row, json_t *out, struct err *err);
} formats[ROW_FORMATS_N] = {
    [ROW_TOKENS] = {"tokens", {"tokens"}, NULL},
    [ROW_PREFERENCE] = {"preference", {"chosen", "rejected"}, pair_messages},
    [ROW_GROUND_TRUTH] = {"ground_truth",
                          {"messages", "ground_truth"},
                          answer_messages},
    [ROW_CHAT] = {"chat", {"messages"}, chat_messages},
    [ROW_SHAREGPT] = {"sharegpt", {"conversations"}, sharegpt_messages},
    [ROW_ALPACA] = {"alpaca", {"instruction", "output"}, alpaca_messages},
    [ROW_PROMPT] = {"prompt", {"prompt", "completion"}, prompt_messages},
    [ROW_ANSWER] = {"answer", {"prompt", "answer"}, answer_messages},
    [ROW_TEXT] = {"text", {"text"}, NULL},
};

const char *row_format_name(enum row_format f) { return formats[f].name; }

int row_format_by_name(const char *name) {
    for (int i = 0; i < ROW_FORMATS_N; i++)
        if (strcmp(formats[i].name, name) == 0)
            return i;
    return -1;
}

static bool has_keys(const json_t *row, int f) {
    for (int k = 0; k < 3 && formats[f].keys[k]; k++)
        if (!json_object_get(row, formats[f].keys[k]))
            return false;
    return true;
}

/* "prompt, response" of a row. */
static void list_keys(const json_t *row, char *out, size_t room) {
    const char *key;
    json_t *v;
    size_t n = 0;
    *out = 0;
    json_object_foreach((json_t *)row, key, v) {
        int wrote = snprintf(out + n, room - n, "%s%.30s", n ? ", " : "", key);
        if (wrote < 0 || n + (size_t)wrote >= room)
            break;
        n += (size_t)wrote;
    }
}

int row_format(const json_t *row, struct err *err) {
    char found[200];
    if (!json_is_object(row))
        return err_set(err, ERR_INVAL, "a JSON object is wanted");
    for (int i = 0; i < ROW_FORMATS_N; i++)
        if (has_keys(row, i))
            return i;
    list_keys(row, found, sizeof found);
    return err_set(err, ERR_INVAL,
                   "its keys (%s) are of no known format: messages; "
                   "conversations; instruction, output; prompt, completion; "
                   "prompt, answer; chosen, rejected; text; tokens, weights",
                   found);
}

static json_t *with_tools(const json_t *row, json_t *messages) {
    json_t *chat = json_pack("{s:o}", "messages", messages);
    json_t *tools = json_object_get(row, "tools");
    if (tools) /* whatever it is: who reads the chat judges */
        json_object_set(chat, "tools", tools);
    return chat;
}

json_t *row_chat(const json_t *row, enum row_format f, struct err *err) {
    json_t *messages = json_array();
    if (!has_keys(row, (int)f)) {
        err_set(err, ERR_INVAL, "not a row of format %s: it lacks %s%s%s",
                formats[f].name, formats[f].keys[0],
                formats[f].keys[1] ? " or " : "",
                formats[f].keys[1] ? formats[f].keys[1] : "");
    } else if (formats[f].messages(row, messages, err) == 0) {
        return with_tools(row, messages);
    }
    json_decref(messages);
    return NULL;
}

json_t *row_rejected(const json_t *row, struct err *err) {
    json_t *messages = json_array();
    if (pair_side(row, "rejected", messages, err) == 0)
        return with_tools(row, messages);
    json_decref(messages);
    return NULL;
}
