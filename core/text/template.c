/*
 * template: from messages to a template's variables, and from its text to a
 * script.
 *
 * Messages are prepared as transformers and the inference servers do: keys of
 * null are left out, reasoning goes by all of its names, and arguments of calls
 * that are JSON in a string become what they say.
 */
#include "core/text/template.h"

#include "core/fs.h"
#include "core/json.h"
#include "core/text/convert.h"

#include <stdlib.h>
#include <string.h>

struct template {
    struct jinja *plain, *tools; /* tools: for rows with tools; may be NULL */
    json_t *special;             /* bos_token and its like */
    char *stop; /* what it writes behind an answer; owned, may be NULL */
};

/* ---- opening ---- */

static const char *const special_keys[] = {
    "bos_token", "eos_token", "unk_token", "sep_token",
    "pad_token", "cls_token", "mask_token"};

/* The texts of special tokens: a string each, or an object's content. */
static json_t *read_special(const json_t *conf) {
    json_t *all = json_object();
    for (size_t i = 0; i < sizeof special_keys / sizeof *special_keys; i++) {
        json_t *v = json_object_get(conf, special_keys[i]);
        json_t *text = json_is_object(v) ? json_object_get(v, "content") : v;
        if (json_is_string(text))
            json_object_set(all, special_keys[i], text);
    }
    return all;
}

static int parse_one(struct jinja **j, const json_t *text, struct err *err) {
    if (!json_is_string(text) || *j)
        return 0;
    *j = jinja_parse(json_string_value(text), json_string_length(text), err);
    return *j ? 0 : -1;
}

/* chat_template: a text, or several of {"name","template"}. */
static int parse_all(struct template *t, const json_t *v, struct err *err) {
    size_t i;
    json_t *one;
    if (json_is_string(v))
        return parse_one(&t->plain, v, err);
    if (v && !json_is_array(v) && !json_is_null(v))
        return err_set(err, ERR_INVAL,
                       "chat_template: a text, or a list of them, is wanted");
    json_array_foreach((json_t *)v, i, one) {
        const char *name = json_string_value(json_object_get(one, "name"));
        struct jinja **to = !name                           ? NULL
                            : strcmp(name, "default") == 0  ? &t->plain
                            : strcmp(name, "tool_use") == 0 ? &t->tools
                                                            : NULL;
        if (to && parse_one(to, json_object_get(one, "template"), err) < 0)
            return -1;
    }
    return 0;
}

static int parse_file(struct template *t, const char *dir, struct err *err) {
    char *path = fs_path("%s/chat_template.jinja", dir);
    size_t len;
    char *text =
        fs_exists(path) ? fs_read(path, JINJA_SOURCE_MAX, &len, err) : NULL;
    if (text)
        t->plain = jinja_parse(text, len, err);
    free(text);
    free(path);
    return err->code ? -1 : 0;
}

bool template_is_there(const char *dir) {
    char *path = fs_path("%s/chat_template.jinja", dir);
    struct err none = {0};
    json_t *conf;
    convert_config(dir, &conf, &none);
    bool yes = json_object_get(conf, "chat_template") || fs_exists(path);
    json_decref(conf);
    free(path);
    return yes;
}

struct template *template_open(const char *dir, struct err *err) {
    struct template *t = calloc(1, sizeof *t);
    json_t *conf;
    struct err why = {0};
    CHECK(t, "out of memory for a template");
    int rc = convert_config(dir, &conf, &why);
    t->special = read_special(conf);
    if (rc == 0)
        rc = parse_file(t, dir, &why);
    if (rc == 0 && !t->plain)
        rc = parse_all(t, json_object_get(conf, "chat_template"), &why);
    if (rc == 0 && !t->plain)
        rc = err_set(&why, ERR_NOTFOUND,
                     "%s has no chat template (chat_template.jinja, or "
                     "chat_template in tokenizer_config.json)",
                     dir);
    json_decref(conf);
    if (rc == 0)
        return t;
    err_set(err, why.code, "%s", why.msg);
    template_close(t);
    return NULL;
}

void template_close(struct template *t) {
    if (!t)
        return;
    jinja_free(t->plain);
    jinja_free(t->tools);
    json_decref(t->special);
    free(t->stop);
    free(t);
}

/* ---- messages as templates expect them ---- */

static void name_reasoning(json_t *m) {
    static const char *const names[] = {"reasoning_content", "thinking",
                                        "reasoning"};
    json_t *why = NULL;
    for (size_t i = 0; !why && i < sizeof names / sizeof *names; i++)
        why = json_object_get(m, names[i]);
    if (!why)
        return;
    json_incref(why);
    if (!json_object_get(m, "thinking"))
        json_object_set(m, "thinking", why);
    json_object_set_new(m, "reasoning_content", why);
}

/* Parts of type thinking become the message's reasoning. */
static void move_thinking(json_t *m) {
    json_t *parts = json_object_get(m, "content"), *kept, *p;
    const json_t *why = NULL;
    size_t i;
    if (!json_is_array(parts))
        return;
    kept = json_array();
    json_array_foreach(parts, i, p) {
        const char *type = json_string_value(json_object_get(p, "type"));
        if (type && strcmp(type, "thinking") == 0)
            why = json_object_get(p, "thinking");
        else
            json_array_append(kept, p);
    }
    if (why) {
        json_object_set(m, "reasoning_content", (json_t *)why);
        json_object_set(m, "content", kept);
    }
    json_decref(kept);
}

/* How templates take the arguments of a call: most as an object, some as the
 * JSON text of it. */
enum arguments { ARGS_OBJECT, ARGS_TEXT };

static json_t *object_of(const json_t *args) {
    json_t *j = json_is_string(args)
                    ? json_loadb(json_string_value(args),
                                 json_string_length(args), 0, NULL)
                    : NULL;
    if (json_is_object(j))
        return j;
    json_decref(j);
    return json_incref((json_t *)args);
}

static json_t *text_of(const json_t *args) {
    struct buf b;
    if (!json_is_object(args))
        return json_incref((json_t *)args);
    buf_init(&b, RENDER_TEXT_MAX);
    py_dumps(&b, args, 0);
    json_t *j = json_string(buf_str(&b));
    buf_release(&b);
    return j;
}

static json_t *prepared_call(const json_t *call, enum arguments how) {
    const json_t *f = json_object_get(call, "function");
    const json_t *args = json_object_get(f, "arguments");
    json_t *copy = json_copy((json_t *)call), *fcopy = json_copy((json_t *)f);
    if (args)
        json_object_set_new(fcopy, "arguments",
                            how == ARGS_TEXT ? text_of(args) : object_of(args));
    if (fcopy)
        json_object_set_new(copy, "function", fcopy);
    return copy;
}

static json_t *prepared(const json_t *message, enum arguments how) {
    json_t *m = json_object(), *v, *call;
    const char *key;
    size_t i;
    json_object_foreach((json_t *)message, key, v) {
        if (!json_is_null(v))
            json_object_set(m, key, v);
    }
    json_t *calls = json_object_get(m, "tool_calls");
    if (json_is_array(calls)) {
        json_t *all = json_array();
        json_array_foreach(calls, i, call) {
            json_array_append_new(all, prepared_call(call, how));
        }
        json_object_set_new(m, "tool_calls", all);
    }
    move_thinking(m);
    name_reasoning(m);
    return m;
}

static json_t *variables(const struct template *t, const json_t *messages,
                         size_t n, const json_t *tools, enum arguments how) {
    json_t *vars = json_copy(t->special), *all = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(all, prepared(json_array_get(messages, i), how));
    json_object_set_new(vars, "messages", all);
    json_object_set_new(vars, "tools",
                        tools ? json_incref((json_t *)tools) : json_null());
    json_object_set_new(vars, "documents", json_null());
    return vars;
}

static bool has_calls(const json_t *messages, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (json_object_get(json_array_get(messages, i), "tool_calls"))
            return true;
    return false;
}

int template_text(const struct template *t, const json_t *messages, size_t n,
                  const json_t *tools, bool ask, struct jinja_out *out,
                  struct err *err) {
    const struct jinja *j = tools && t->tools ? t->tools : t->plain;
    struct err why = {0}, again = {0};
    int64_t steps = 0;
    int rc = -1, tries = has_calls(messages, n) ? 2 : 1;
    for (int how = ARGS_OBJECT; rc < 0 && how < tries; how++) {
        json_t *v = variables(t, messages, n, tools, (enum arguments)how);
        json_object_set_new(v, "add_generation_prompt", json_boolean(ask));
        rc = jinja_render(j, v, out, how == ARGS_OBJECT ? &why : &again);
        json_decref(v);
        out->steps += steps;
        steps = out->steps;
    }
    return rc == 0 ? 0 : err_set(err, why.code, "%s", why.msg);
}

/* ---- whose text is which ---- */

struct span {
    size_t from, to;
    int64_t msg;
};
struct spans {
    struct span *v; /* owned; in order */
    size_t n;
};

static bool is_answer(const json_t *m) {
    const char *role = json_string_value(json_object_get(m, "role"));
    return role && strcmp(role, "assistant") == 0;
}

static void span_add(struct spans *s, size_t from, size_t to, size_t msg) {
    if (to > from)
        s->v[s->n++] = (struct span){from, to, (int64_t)msg};
}

/* Stretches of {% generation %}, the k-th is the k-th answer's. False when
 * there are not as many as answers. */
static bool spans_by_mark(const struct jinja_out *out, const json_t *messages,
                          size_t n, struct spans *s) {
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        if (!is_answer(json_array_get(messages, i)))
            continue;
        while (at < out->len && !(out->mark[at] & JINJA_GENERATED))
            at++;
        size_t from = at;
        while (at < out->len && out->mark[at] & JINJA_GENERATED)
            at++;
        if (from == at)
            return false;
        span_add(s, from, at, i);
    }
    for (; at < out->len; at++)
        if (out->mark[at] & JINJA_GENERATED)
            return false;
    return true;
}

static bool begins_with(const struct jinja_out *all,
                        const struct jinja_out *part) {
    return part->len <= all->len &&
           memcmp(all->text, part->text, part->len) == 0;
}

/* Where an answer that ends at `to` really does: white space behind the token
 * that ends it is the next header's, for nobody samples it. */
static size_t answer_end(const struct template *t, const struct jinja_out *out,
                         size_t to) {
    size_t end = to, n = t->stop ? strlen(t->stop) : 0;
    while (end > 0 && out->text[end - 1] &&
           strchr(" \t\r\n", out->text[end - 1]))
        end--;
    return n && end >= n && memcmp(out->text + end - n, t->stop, n) == 0 ? end
                                                                         : to;
}

/* Steps that telling the answers of a conversation apart may take. */
#define SPAN_STEPS_MAX (10 * JINJA_STEPS_MAX)

/* Between the prompt of an answer and the conversation up to it, where both
 * begin the whole text. What no prompt asks for has no span. The template runs
 * twice an answer: of long conversations that is too much. */
static int spans_by_prefix(const struct template *t,
                           const struct jinja_out *all, const json_t *messages,
                           size_t n, const json_t *tools, struct spans *s,
                           struct err *err) {
    int64_t steps = 0;
    for (size_t i = 0; i < n; i++) {
        struct jinja_out ask = {0}, with = {0};
        struct err ignored = {0};
        if (!is_answer(json_array_get(messages, i)))
            continue;
        bool ok =
            template_text(t, messages, i, tools, true, &ask, &ignored) == 0 &&
            template_text(t, messages, i + 1, tools, false, &with, &ignored) ==
                0 &&
            begins_with(all, &with) && begins_with(all, &ask);
        if (ok)
            span_add(s, ask.len, answer_end(t, all, with.len), i);
        steps += ask.steps + with.steps;
        jinja_out_release(&ask);
        jinja_out_release(&with);
        if (steps > SPAN_STEPS_MAX)
            return err_set(err, ERR_TOOBIG,
                           "messages[%zu]: the chat template takes too long to "
                           "tell the answers of %zu messages apart (train "
                           "fewer of them a row, or by another renderer)",
                           i, n);
    }
    return 0;
}

/* ---- the renderer ---- */

/* Text [from, to) as pieces, by who wrote each byte. */
static void write_stretch(struct script *s, const struct jinja_out *out,
                          size_t from, size_t to) {
    while (from < to) {
        size_t end = from;
        bool text = out->mark[from] & JINJA_TEXT;
        while (end < to && text == (bool)(out->mark[end] & JINJA_TEXT))
            end++;
        script_put(s, out->text + from, end - from, !text);
        if (text)
            s->piece[s->n - 1].origin = ORIGIN_CONTENT;
        from = end;
    }
}

/* The whole is one unit: templates are tokenised as one text. */
static void write_spans(struct script *s, const struct jinja_out *out,
                        const struct spans *spans) {
    size_t at = 0;
    script_unit(s, 0, false);
    for (size_t i = 0; i < spans->n; i++) {
        const struct span *sp = &spans->v[i];
        write_stretch(s, out, at, sp->from);
        s->next.msg = (int32_t)sp->msg;
        s->next.is_output = true;
        write_stretch(s, out, sp->from, sp->to);
        s->next.msg = 0;
        s->next.is_output = false;
        at = sp->to;
    }
    write_stretch(s, out, at, out->len);
}

static int template_write(void *arg, const struct chat *c, bool prompt,
                          struct script *s, struct err *err) {
    const struct template *t = arg;
    const json_t *messages = json_is_object(c->hold)
                                 ? json_object_get(c->hold, "messages")
                                 : c->hold;
    struct jinja_out out;
    struct spans spans = {0};
    int rc = 0;
    if (template_text(t, messages, c->n, c->tools, prompt, &out, err) < 0)
        return -1;
    spans.v = calloc(c->n + 1, sizeof *spans.v);
    CHECK(spans.v, "out of memory for spans");
    if (!prompt && !spans_by_mark(&out, messages, c->n, &spans)) {
        spans.n = 0;
        rc = spans_by_prefix(t, &out, messages, c->n, c->tools, &spans, err);
    }
    if (rc == 0)
        write_spans(s, &out, &spans);
    free(spans.v);
    jinja_out_release(&out);
    return rc;
}

static void template_free(void *arg) { template_close(arg); }

static const struct shape no_shape = {0};
static const struct family template_family = {.name = TEMPLATE,
                                              .shape = &no_shape};

/* Every special token that a template may write, besides what families know. */
static void add_controls(struct render *r, const json_t *conf) {
    json_t *v;
    const char *key;
    json_object_foreach(json_object_get(conf, "added_tokens_decoder"), key, v) {
        const char *text = json_string_value(json_object_get(v, "content"));
        if (text && *text)
            render_control_add(r, text);
    }
    for (int32_t id = 0; id < tok_size(r->tok); id++) {
        uint32_t u = (uint32_t)id;
        char *text =
            tok_is_special(r->tok, u) ? tok_decode(r->tok, &u, 1, false) : NULL;
        if (text && *text)
            render_control_add(r, text);
        free(text);
    }
}

static void add_stop(struct render *r, int64_t id) {
    for (int i = 0; i < r->n_stop; i++)
        if (r->stop[i] == (uint32_t)id)
            return;
    if (id >= 0 && r->n_stop < (int)(sizeof r->stop / sizeof *r->stop))
        r->stop[r->n_stop++] = (uint32_t)id;
}

/* An answer ends with the token that the template writes behind it, or with
 * the tokenizer's own end. */
static void find_stops(struct render *r, struct template *t) {
    static const char mark[] = "@fettle@";
    json_t *m = json_pack("[{s:s, s:s}, {s:s, s:s}]", "role", "user", "content",
                          "a", "role", "assistant", "content", mark);
    struct jinja_out out = {0};
    struct err ignored = {0};
    struct tok_ids ids = {0};
    template_text(t, m, 2, NULL, false, &out, &ignored);
    const char *at = out.text ? strstr(out.text, mark) : NULL;
    if (at) {
        at += strlen(mark);
        tok_encode(r->tok, at, strlen(at), TOK_CONTROL, &ids);
    }
    if (ids.n && tok_is_special(r->tok, ids.id[0])) {
        add_stop(r, ids.id[0]);
        t->stop = tok_decode(r->tok, ids.id, 1, false);
    }
    if (r->eos)
        add_stop(r, tok_find(r->tok, r->eos));
    free(ids.id);
    jinja_out_release(&out);
    json_decref(m);
}

int template_render(struct render *r, const char *dir, const json_t *conf,
                    struct err *err) {
    struct template *t = template_open(dir, err);
    if (!t)
        return -1;
    r->family = &template_family;
    r->source = (struct render_source){t, template_write, template_free};
    add_controls(r, conf);
    find_stops(r, t);
    return 0;
}
