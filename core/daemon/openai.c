/* openai: what flows make of a worker's frames: raw frames, the answers of
 * OpenAI's API whole or as events, the end of a deployment's warm-up. */
#include "core/daemon/int.h"

#include "core/clock.h"
#include "core/json.h"
#include "core/rng.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void put_json(struct buf *b, json_t *j) {
    char *text = j ? json_dumps(j, JSON_COMPACT | JSON_PRESERVE_ORDER) : NULL;
    if (text)
        buf_puts(b, text);
    free(text);
    json_decref(j);
}

static void put_event(struct flow *f, json_t *j) {
    buf_puts(&f->out, "data: ");
    put_json(&f->out, j);
    buf_puts(&f->out, "\n\n");
}

static void put_frame(struct flow *f, const struct frame *fr) {
    buf_u32(&f->out, 0x31524646u);
    buf_u32(&f->out, fr->type);
    buf_u64(&f->out, fr->id);
    buf_u64(&f->out, fr->len);
    buf_bytes(&f->out, fr->data, fr->len);
}

static void flow_end(struct flow *f) {
    f->done = true;
    flow_wake(f);
}

static json_t *oa_head(const struct flow *f, const char *object) {
    char id[48];
    snprintf(id, sizeof id, "%s-%llx",
             f->mode == FLOW_CHAT ? "chatcmpl" : "cmpl",
             (unsigned long long)(uintptr_t)f);
    return json_pack("{s:s, s:s, s:I, s:s}", "id", id, "object", object,
                     "created", (json_int_t)(clock_wall_us() / 1000000),
                     "model", f->name);
}

/* ---- logprobs ---- */

/* One token as the API tells of it. */
struct told {
    const char *text;
    double logprob; /* NAN = none: the first token of a prompt */
    uint32_t k;
    const char *top_text[WIRE_TOP_MAX];
    double top_logprob[WIRE_TOP_MAX];
};

/* The API has no infinity. */
static json_t *oa_number(double v) {
    return json_real(isfinite(v) ? v : -9999.0);
}

static json_t *chat_token(const char *text, double logprob) {
    json_t *bytes = json_array();
    for (const char *p = text; *p; p++)
        json_array_append_new(bytes, json_integer((unsigned char)*p));
    if (strstr(text, "\xef\xbf\xbd")) { /* a part of a character */
        json_decref(bytes);
        bytes = json_null();
    }
    return json_pack("{s:s, s:o, s:o}", "token", text, "logprob",
                     oa_number(logprob), "bytes", bytes);
}

/* {"content":[{token, logprob, bytes, top_logprobs}, …]} */
static void chat_told(json_t *logprobs, const struct told *t) {
    json_t *j = chat_token(t->text, t->logprob), *top = json_array();
    for (uint32_t i = 0; i < t->k; i++)
        json_array_append_new(top,
                              chat_token(t->top_text[i], t->top_logprob[i]));
    json_object_set_new(j, "top_logprobs", top);
    json_array_append_new(json_object_get(logprobs, "content"), j);
}

/* {"tokens":[…],"token_logprobs":[…],"top_logprobs":[{text:lp}],
 * "text_offset":[…]}; the offset counts bytes. */
static void text_told(json_t *logprobs, const struct told *t, size_t offset) {
    json_t *top = t->k && !isnan(t->logprob) ? json_object() : json_null();
    for (uint32_t i = 0; i < t->k && json_is_object(top); i++)
        if (!json_object_get(top, t->top_text[i]))
            json_object_set_new(top, t->top_text[i],
                                oa_number(t->top_logprob[i]));
    if (json_is_object(top) && !json_object_get(top, t->text))
        json_object_set_new(top, t->text, oa_number(t->logprob));
    json_array_append_new(json_object_get(logprobs, "tokens"),
                          json_string(t->text));
    json_array_append_new(json_object_get(logprobs, "token_logprobs"),
                          isnan(t->logprob) ? json_null()
                                            : oa_number(t->logprob));
    json_array_append_new(json_object_get(logprobs, "top_logprobs"), top);
    json_array_append_new(json_object_get(logprobs, "text_offset"),
                          json_integer((json_int_t)offset));
}

static json_t *logprobs_new(const struct flow *f) {
    return f->mode == FLOW_CHAT
               ? json_pack("{s:[], s:n}", "content", "refusal")
               : json_pack("{s:[], s:[], s:[], s:[]}", "tokens",
                           "token_logprobs", "top_logprobs", "text_offset");
}

static size_t logprobs_add(const struct flow *f, json_t *logprobs,
                           const struct told *t, size_t offset) {
    if (f->mode == FLOW_CHAT)
        chat_told(logprobs, t);
    else
        text_told(logprobs, t, offset);
    return offset + strlen(t->text);
}

/* Place i of n tokens in a result. */
static struct told told_at(const struct result *r, const uint32_t *tokens,
                           const float *logprobs, const struct top *top,
                           uint32_t i) {
    struct told t = {.text = result_piece(r, tokens[i]),
                     .logprob = (double)logprobs[i],
                     .k = top->k};
    for (uint32_t k = 0; k < top->k; k++) {
        size_t at = (size_t)i * top->k + k;
        t.top_text[k] = result_piece(r, top->tokens[at]);
        t.top_logprob[k] = (double)top->logprobs[at];
    }
    return t;
}

static json_t *oa_logprobs(const struct flow *f, const struct result *r,
                           const struct sample *s) {
    size_t offset = 0;
    if (!f->logprobs)
        return json_null();
    json_t *j = logprobs_new(f);
    for (uint32_t i = 0; f->echo && r->prompt_logprobs && i < r->n_prompt;
         i++) {
        struct told t =
            told_at(r, r->prompt_tokens, r->prompt_logprobs, &r->prompt_top, i);
        offset = logprobs_add(f, j, &t, offset);
    }
    for (uint32_t i = 0; !f->drop && i < s->n; i++) {
        struct told t = told_at(r, s->tokens, s->logprobs, &s->top, i);
        offset = logprobs_add(f, j, &t, offset);
    }
    return j;
}

/* ---- answers ---- */

/* Takes logprobs. */
static json_t *oa_chunk(const struct flow *f, uint32_t index, const char *text,
                        const char *finish, json_t *logprobs) {
    bool chat = f->mode == FLOW_CHAT;
    json_t *j = oa_head(f, chat ? "chat.completion.chunk" : "text_completion");
    json_t *choice = json_pack("{s:i}", "index", (int)index);
    if (chat)
        json_object_set_new(choice, "delta",
                            finish ? json_object()
                                   : json_pack("{s:s, s:s}", "role",
                                               "assistant", "content", text));
    else
        json_object_set_new(choice, "text", json_string(finish ? "" : text));
    json_object_set_new(choice, "logprobs", logprobs);
    json_object_set_new(choice, "finish_reason",
                        finish ? json_string(finish) : json_null());
    json_object_set_new(j, "choices", json_pack("[o]", choice));
    return j;
}

/* The message that the worker read in the answer, or its text as one. */
static json_t *oa_message(const struct sample *s, const char *text) {
    json_t *m = s->message ? json_loads(s->message, 0, NULL) : NULL;
    if (!json_is_object(m)) {
        json_decref(m);
        return json_pack("{s:s, s:s}", "role", "assistant", "content", text);
    }
    const json_t *content = json_object_get(m, "content");
    if (json_array_size(json_object_get(m, "tool_calls")) > 0 &&
        json_string_length(content) == 0)
        json_object_set_new(m, "content", json_null());
    return m;
}

static bool has_calls(const json_t *message) {
    return json_array_size(json_object_get(message, "tool_calls")) > 0;
}

static const char *oa_finish(const struct sample *s, const json_t *message) {
    return has_calls(message) ? "tool_calls" : stop_reason_name(s->stop);
}

static char *oa_text(const struct flow *f, const struct result *r,
                     const struct sample *s) {
    struct buf b;
    buf_init(&b, WIRE_MAX);
    if (f->echo && f->prompt)
        buf_puts(&b, f->prompt);
    for (uint32_t i = 0; f->echo && !f->prompt && i < r->n_prompt; i++)
        buf_puts(&b, result_piece(r, r->prompt_tokens[i]));
    if (!f->drop)
        buf_puts(&b, s->text);
    char *text = strdup(buf_str(&b));
    CHECK(text, "out of memory for text");
    buf_release(&b);
    return text;
}

static json_t *oa_choice(const struct flow *f, const struct result *r,
                         uint32_t i) {
    const struct sample *s = &r->samples[i];
    json_t *c = json_pack("{s:i, s:s, s:o}", "index", (int)i, "finish_reason",
                          stop_reason_name(f->drop ? STOP_LENGTH : s->stop),
                          "logprobs", oa_logprobs(f, r, s));
    char *text = oa_text(f, r, s);
    if (f->mode == FLOW_CHAT) {
        json_t *m = oa_message(s, text);
        json_object_set_new(c, "finish_reason", json_string(oa_finish(s, m)));
        json_object_set_new(c, "message", m);
    } else {
        json_object_set_new(c, "text", json_string(text));
    }
    free(text);
    return c;
}

static json_t *oa_whole(const struct flow *f, const struct result *r) {
    bool chat = f->mode == FLOW_CHAT;
    json_t *j = oa_head(f, chat ? "chat.completion" : "text_completion");
    json_t *choices = json_array();
    int64_t made = 0;
    for (uint32_t i = 0; i < r->n_samples; i++) {
        made += f->drop ? 0 : r->samples[i].n;
        json_array_append_new(choices, oa_choice(f, r, i));
    }
    json_object_set_new(j, "choices", choices);
    json_object_set_new(j, "usage",
                        json_pack("{s:I, s:I, s:I}", "prompt_tokens",
                                  (json_int_t)r->n_prompt, "completion_tokens",
                                  (json_int_t)made, "total_tokens",
                                  (json_int_t)(made + r->n_prompt)));
    return j;
}

/* What a partial frame tells of its token; *text of each are the caller's. */
static json_t *partial_logprobs(const struct flow *f, struct cur *c,
                                double logprob) {
    struct told t = {.logprob = logprob, .k = cur_u32(c)};
    char *text[WIRE_TOP_MAX + 1] = {0};
    json_t *j = logprobs_new(f);
    if (t.k > WIRE_TOP_MAX)
        c->bad = true;
    cur_bytes(c, c->bad ? 0 : (size_t)t.k * 4);
    for (uint32_t i = 0; i < t.k && !c->bad; i++)
        t.top_logprob[i] = (double)cur_f32(c);
    for (uint32_t i = 0; i <= t.k && !c->bad; i++) {
        text[i] = cur_lstr(c, 1 << 16);
        *(i ? &t.top_text[i - 1] : &t.text) = text[i] ? text[i] : "";
    }
    if (!c->bad)
        logprobs_add(f, j, &t, 0);
    for (int i = 0; i <= WIRE_TOP_MAX; i++)
        free(text[i]);
    return j;
}

static void oa_partial(struct flow *f, const struct frame *fr) {
    struct cur c;
    cur_init(&c, fr->data, fr->len);
    uint32_t index = cur_u32(&c), n = cur_u32(&c);
    cur_bytes(&c, (size_t)n * 4);
    float logprob = cur_f32(&c);
    char *text = cur_lstr(&c, 1 << 20);
    bool silent = !text || (f->hold ? !f->logprobs : !*text && !f->logprobs);
    if (f->stream && !silent) {
        json_t *told = f->logprobs ? partial_logprobs(f, &c, (double)logprob)
                                   : json_null();
        f->started = true;
        put_event(f, oa_chunk(f, index, f->hold ? "" : text, NULL, told));
        flow_wake(f);
    }
    free(text);
}

/* A message as one event: calls have their places in a stream. */
static void put_message(struct flow *f, uint32_t index, const json_t *message) {
    json_t *chunk = oa_chunk(f, index, "", NULL, json_null());
    json_t *choice = json_array_get(json_object_get(chunk, "choices"), 0),
           *call;
    json_t *delta = json_deep_copy(message);
    size_t i;
    json_array_foreach(json_object_get(delta, "tool_calls"), i, call)
        json_object_set_new(call, "index", json_integer((json_int_t)i));
    json_object_set_new(choice, "delta", delta);
    put_event(f, chunk);
}

static void put_end(struct flow *f, uint32_t index, const struct sample *s) {
    json_t *m = f->hold ? oa_message(s, s->text) : NULL;
    if (m)
        put_message(f, index, m);
    put_event(f, oa_chunk(f, index, "", oa_finish(s, m), json_null()));
    json_decref(m);
}

static void oa_result(struct flow *f, const struct frame *fr) {
    struct result r;
    struct err err = {0};
    if (result_decode(&r, fr->data, fr->len, &err) < 0) {
        flow_error(f, ERR_BUG, err.msg);
        return;
    }
    if (f->stream) {
        for (uint32_t i = 0; i < r.n_samples; i++)
            put_end(f, i, &r.samples[i]);
        buf_puts(&f->out, "data: [DONE]\n\n");
    } else {
        put_json(&f->out, oa_whole(f, &r));
    }
    result_release(&r);
    flow_end(f);
}

static void deploy_end(struct flow *f, const char *error) {
    struct daemon *d = f->d;
    store_deploy_state(d->st, f->name,
                       error ? STORE_DEPLOY_FAILED : STORE_DEPLOY_SERVING,
                       error, clock_wall_us());
    if (!error)
        put_json(&f->out,
                 json_pack("{s:s, s:s}", "name", f->name, "state", "serving"));
}

void flow_error(struct flow *f, enum err_code code, const char *msg) {
    struct buf b;
    json_t *j = json_pack("{s:{s:s, s:s}}", "error", "code", err_name(code),
                          "message", msg);
    if (f->done) {
        json_decref(j);
        return;
    }
    if (f->mode == FLOW_DEPLOY)
        deploy_end(f, msg);
    if (f->mode == FLOW_FRAMES) {
        buf_init(&b, 4096);
        buf_lstr(&b, err_name(code));
        buf_lstr(&b, msg);
        put_frame(f, &(struct frame){FRAME_ERROR, 0, b.data, b.len});
        buf_release(&b);
        json_decref(j);
    } else if (f->stream) {
        put_event(f, j);
    } else {
        f->status = err_http(code);
        put_json(&f->out, j);
    }
    flow_end(f);
}

void flow_frame(struct flow *f, const struct frame *fr) {
    struct cur c;
    if (f->done)
        return;
    if (f->mode == FLOW_FRAMES) {
        put_frame(f, fr);
        f->started = true;
        if (fr->type == FRAME_PARTIAL)
            flow_wake(f);
        else
            flow_end(f);
        return;
    }
    if (fr->type == FRAME_PARTIAL) {
        oa_partial(f, fr);
    } else if (fr->type == FRAME_ERROR) {
        cur_init(&c, fr->data, fr->len);
        char *code = cur_lstr(&c, 64), *msg = cur_lstr(&c, 4096);
        flow_error(f, err_by_name(code), msg ? msg : "?");
        free(code);
        free(msg);
    } else if (f->mode == FLOW_DEPLOY) {
        deploy_end(f, NULL);
        flow_end(f);
    } else {
        oa_result(f, fr);
    }
}

/* ---- requests ---- */

static int oa_stops(const json_t *body, struct op_sample *o, char *stops[16],
                    struct err *err) {
    const json_t *s = json_object_get(body, "stop");
    size_t n = json_is_array(s) ? json_array_size(s) : json_is_string(s);
    if (n > 16 ||
        (s && !json_is_array(s) && !json_is_string(s) && !json_is_null(s)))
        return err_set(err, ERR_INVAL,
                       "stop: a string or at most 16 of them are wanted");
    for (size_t i = 0; i < n; i++) {
        const char *text =
            json_string_value(json_is_array(s) ? json_array_get(s, i) : s);
        if (!text)
            return err_set(err, ERR_INVAL, "stop: strings are wanted");
        stops[o->n_stops++] = (char *)text;
    }
    o->stops = stops;
    return 0;
}

static int oa_sampling(const json_t *body, struct op_sample *o,
                       struct err *err) {
    int64_t n, seed, top_k;
    double temperature, top_p, min_p;
    if (json_get_int(body, "n", &n, 1, err) < 0 ||
        json_get_int(body, "seed", &seed, -1, err) < 0 ||
        json_get_int(body, "top_k", &top_k, -1, err) < 0 ||
        json_get_num(body, "temperature", &temperature, 1, err) < 0 ||
        json_get_num(body, "top_p", &top_p, 1, err) < 0 ||
        json_get_num(body, "min_p", &min_p, 0, err) < 0)
        return -1;
    if (n < 1 || n > 128 || top_k < -1 || top_k > INT32_MAX)
        return err_set(err, ERR_INVAL, "n or top_k is out of range");
    o->n = (uint32_t)n;
    o->temperature = (float)temperature;
    o->top_p = (float)top_p;
    o->min_p = (float)min_p;
    o->top_k = top_k > 0 ? (int32_t)top_k : -1;
    o->seed = seed >= 0 ? (uint64_t)seed
                        : rng_u64((uint64_t)clock_wall_us(),
                                  (uint64_t)clock_mono_us(), 0);
    o->default_stop = true;
    return 0;
}

/* chat: logprobs true, top_logprobs K; text: logprobs K. */
static int oa_tells(const json_t *body, struct flow *f, struct op_sample *o,
                    struct err *err) {
    bool chat = f->mode == FLOW_CHAT;
    const json_t *text = chat ? NULL : json_object_get(body, "logprobs");
    int64_t top;
    f->logprobs = text && !json_is_null(text) && !json_is_false(text);
    if ((chat &&
         json_get_bool(body, "logprobs", &f->logprobs, false, err) < 0) ||
        json_get_bool(body, "echo", &f->echo, false, err) < 0)
        return -1;
    if (json_is_true(text))
        top = 1;
    else if (json_is_false(text))
        top = 0;
    else if (json_get_int(body, chat ? "top_logprobs" : "logprobs", &top, 0,
                          err) < 0)
        return -1;
    if (top < 0 || top > WIRE_TOP_MAX)
        return err_set(err, ERR_INVAL, "logprobs: 0 to %d are told",
                       WIRE_TOP_MAX);
    if (chat && (f->echo || (top && !f->logprobs)))
        return err_set(err, ERR_INVAL,
                       f->echo ? "echo is of completions, not of chat"
                               : "top_logprobs wants logprobs: true");
    if (f->echo && f->stream)
        return err_set(err, ERR_UNSUPPORTED, "echo is not for streams");
    o->pieces = f->logprobs || f->echo;
    o->top_k_out = (uint32_t)top;
    o->prompt_logprobs = f->echo && f->logprobs;
    o->prompt_top_k_out = o->prompt_logprobs ? (uint32_t)top : 0;
    return 0;
}

static int oa_params(const json_t *body, struct flow *f, struct op_sample *o,
                     struct err *err) {
    int64_t max, max2;
    if (json_get_bool(body, "stream", &f->stream, false, err) < 0 ||
        oa_sampling(body, o, err) < 0 || oa_tells(body, f, o, err) < 0 ||
        json_get_int(body, "max_tokens", &max, 256, err) < 0 ||
        json_get_int(body, "max_completion_tokens", &max2, max, err) < 0)
        return -1;
    f->drop = max2 == 0 && f->echo; /* the prompt is scored */
    if (max2 < 0 || max2 > WIRE_TOKENS_MAX || (max2 == 0 && !f->drop))
        return err_set(err, ERR_INVAL, "max_tokens is out of range");
    o->max_tokens = f->drop ? 1 : (uint32_t)max2;
    o->stream = f->stream;
    return 0;
}

static int oa_tokens(const json_t *list, struct op_sample *o, struct err *err) {
    size_t n = json_array_size(list);
    o->tokens = calloc(n + 1, sizeof *o->tokens);
    CHECK(o->tokens, "out of memory for a prompt");
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(list, i);
        json_int_t id = json_integer_value(v);
        if (!json_is_integer(v) || id < 0 || id > INT32_MAX)
            return err_set(err, ERR_INVAL, "prompt: token ids are wanted");
        o->tokens[i] = (uint32_t)id;
    }
    o->n_tokens = (uint32_t)n;
    o->prompt = PROMPT_TOKENS;
    o->text = "";
    return 0;
}

/* The tools that a model may call; NULL: none. */
static int oa_tools(const json_t *body, const json_t **tools, struct err *err) {
    const json_t *list = json_object_get(body, "tools");
    const json_t *choice = json_object_get(body, "tool_choice");
    const char *how = json_string_value(choice);
    bool none = how && strcmp(how, "none") == 0;
    if (list && !json_is_null(list) && !json_is_array(list))
        return err_set(err, ERR_INVAL, "tools: a list is wanted");
    if (choice && !json_is_null(choice) && !none &&
        !(how && strcmp(how, "auto") == 0))
        return err_set(err, ERR_UNSUPPORTED,
                       "tool_choice: a model cannot be made to call a tool "
                       "(supported: auto, none)");
    *tools = none || json_array_size(list) == 0 ? NULL : list;
    return 0;
}

static int oa_chat(const json_t *body, struct flow *f, struct op_sample *o,
                   char **owned, struct err *err) {
    const json_t *tools = NULL;
    if (oa_tools(body, &tools, err) < 0)
        return -1;
    json_t *all =
        json_pack("{s:O}", "messages", json_object_get(body, "messages"));
    if (tools)
        json_object_set(all, "tools", (json_t *)tools);
    o->prompt = PROMPT_MESSAGES;
    o->parse = tools || !f->stream;
    f->hold = tools && f->stream;
    o->text = *owned = json_dumps(all, JSON_COMPACT);
    json_decref(all);
    return 0;
}

/* A text, tokens, or a list of one of them; messages for chat. *owned is
 * freed by the caller. */
static int oa_prompt(const json_t *body, struct flow *f, struct op_sample *o,
                     char **owned, struct err *err) {
    bool chat = f->mode == FLOW_CHAT;
    const json_t *p = json_object_get(body, chat ? "messages" : "prompt");
    if (!p || (chat && !json_is_array(p)))
        return err_set(err, ERR_INVAL, "%s is missing",
                       chat ? "messages" : "prompt");
    if (chat)
        return oa_chat(body, f, o, owned, err);
    const json_t *first = json_array_get(p, 0);
    if (json_array_size(p) == 1 && !json_is_integer(first))
        p = first;
    if (json_is_array(p) && json_is_integer(json_array_get(p, 0)))
        return oa_tokens(p, o, err);
    if (!json_is_string(p))
        return err_set(err, ERR_INVAL,
                       "prompt: one text or one list of token ids is wanted");
    o->prompt = PROMPT_TEXT;
    o->text = (char *)json_string_value(p);
    f->prompt = f->echo ? strdup(o->text) : NULL;
    return 0;
}

static int oa_target(struct daemon *d, const json_t *body, struct flow *f,
                     struct store_target *t, struct err *err) {
    const char *model;
    if (json_get_str(body, "model", &model, "", err) < 0)
        return -1;
    int rc = store_target(d->st, model, t);
    if (rc == STORE_NOTFOUND)
        return err_set(err, ERR_NOTFOUND, "no model '%.100s'", model);
    snprintf(f->name, sizeof f->name, "%s", model);
    return rc == STORE_OK ? 0 : err_store(err, d->st, rc);
}

int openai_request(struct daemon *d, const char *path, const json_t *body,
                   struct flow **flow, struct err *err) {
    struct flow *f =
        flow_new(d, strstr(path, "/chat/") ? FLOW_CHAT : FLOW_TEXT);
    char *stops[16], *owned = NULL;
    struct store_target t;
    struct op op = {.kind = OP_SAMPLE, .model = ""};
    struct buf b;
    int rc = 0;
    buf_init(&b, WIRE_MAX);
    if (oa_params(body, f, &op.sample, err) < 0 ||
        oa_stops(body, &op.sample, stops, err) < 0 ||
        oa_prompt(body, f, &op.sample, &owned, err) < 0 ||
        oa_target(d, body, f, &t, err) < 0)
        rc = -1;
    if (rc == 0) {
        int precision = precision_by_name(t.precision);
        op.sample.target.ckpt = t.ckpt;
        op.sample.target.precision =
            (enum precision)(precision < 0 ? 0 : precision);
        op_encode(&op, &b);
        rc = buf_check(&b, "encode op", err);
    }
    free(owned);
    free(op.sample.tokens);
    if (rc < 0) {
        buf_release(&b);
        flow_cancel(f);
        return -1;
    }
    f->op = buf_take(&b, &f->op_len);
    flow_start(f, t.model);
    *flow = f;
    return 0;
}

static void oa_model_add(json_t *data, const char *id, int64_t us) {
    json_array_append_new(data, json_pack("{s:s, s:s, s:I, s:s}", "id", id,
                                          "object", "model", "created",
                                          (json_int_t)(us / 1000000),
                                          "owned_by", "fettle"));
}

json_t *openai_models(struct daemon *d) {
    json_t *data = json_array();
    struct store_deployments dep = {0};
    struct store_models models = {0};
    if (store_deployments(d->st, &dep) == STORE_OK)
        for (int i = 0; i < dep.n; i++)
            oa_model_add(data, dep.row[i].name, dep.row[i].created_us);
    if (store_models(d->st, &models) == STORE_OK)
        for (int i = 0; i < models.n; i++)
            oa_model_add(data, models.row[i].name, models.row[i].added_us);
    store_deployments_free(&dep);
    store_models_free(&models);
    return json_pack("{s:s, s:o}", "object", "list", "data", data);
}
