/* openai: what flows make of a worker's frames: raw frames, the answers of
 * OpenAI's API whole or as events, the end of a deployment's warm-up. */
#include "core/daemon/int.h"

#include "core/clock.h"
#include "core/json.h"
#include "core/rng.h"

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

static json_t *oa_chunk(const struct flow *f, uint32_t index, const char *text,
                        const char *finish) {
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
    json_object_set_new(choice, "finish_reason",
                        finish ? json_string(finish) : json_null());
    json_object_set_new(j, "choices", json_pack("[o]", choice));
    return j;
}

static json_t *oa_whole(const struct flow *f, const struct result *r) {
    bool chat = f->mode == FLOW_CHAT;
    json_t *j = oa_head(f, chat ? "chat.completion" : "text_completion");
    json_t *choices = json_array();
    int64_t made = 0;
    for (uint32_t i = 0; i < r->n_samples; i++) {
        const struct sample *s = &r->samples[i];
        made += s->n;
        json_t *c = json_pack("{s:i, s:s}", "index", (int)i, "finish_reason",
                              stop_reason_name(s->stop));
        if (chat)
            json_object_set_new(c, "message",
                                json_pack("{s:s, s:s}", "role", "assistant",
                                          "content", s->text));
        else
            json_object_set_new(c, "text", json_string(s->text));
        json_array_append_new(choices, c);
    }
    json_object_set_new(j, "choices", choices);
    json_object_set_new(j, "usage",
                        json_pack("{s:I, s:I, s:I}", "prompt_tokens",
                                  (json_int_t)r->n_prompt, "completion_tokens",
                                  (json_int_t)made, "total_tokens",
                                  (json_int_t)(made + r->n_prompt)));
    return j;
}

static void oa_partial(struct flow *f, const struct frame *fr) {
    struct cur c;
    cur_init(&c, fr->data, fr->len);
    uint32_t index = cur_u32(&c), n = cur_u32(&c);
    cur_bytes(&c, (size_t)n * 8);
    char *text = cur_lstr(&c, 1 << 20);
    if (f->stream && text && *text) {
        f->started = true;
        put_event(f, oa_chunk(f, index, text, NULL));
        flow_wake(f);
    }
    free(text);
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
            put_event(f,
                      oa_chunk(f, i, "", stop_reason_name(r.samples[i].stop)));
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

static int oa_params(const json_t *body, struct op_sample *o, bool *stream,
                     struct err *err) {
    int64_t max, max2, n, seed, none = -1;
    double temperature, top_p;
    if (json_get_int(body, "max_tokens", &max, 256, err) < 0 ||
        json_get_int(body, "max_completion_tokens", &max2, max, err) < 0 ||
        json_get_int(body, "n", &n, 1, err) < 0 ||
        json_get_int(body, "seed", &seed, none, err) < 0 ||
        json_get_num(body, "temperature", &temperature, 1, err) < 0 ||
        json_get_num(body, "top_p", &top_p, 1, err) < 0 ||
        json_get_bool(body, "stream", stream, false, err) < 0)
        return -1;
    if (max2 < 0 || max2 > WIRE_TOKENS_MAX || n < 1 || n > 128)
        return err_set(err, ERR_INVAL, "max_tokens or n is out of range");
    o->max_tokens = (uint32_t)max2;
    o->n = (uint32_t)n;
    o->temperature = (float)temperature;
    o->top_p = (float)top_p;
    o->top_k = -1;
    o->seed = seed >= 0 ? (uint64_t)seed
                        : rng_u64((uint64_t)clock_wall_us(),
                                  (uint64_t)clock_mono_us(), 0);
    o->default_stop = true;
    o->stream = *stream;
    return 0;
}

int openai_request(struct daemon *d, const char *path, const json_t *body,
                   struct flow **flow, struct err *err) {
    bool chat = strstr(path, "/chat/") != NULL, stream;
    const char *model, *prompt = NULL;
    char *stops[16], *messages = NULL;
    struct store_target t;
    struct op op = {.kind = OP_SAMPLE, .model = ""};
    if (json_get_str(body, "model", &model, "", err) < 0 ||
        oa_params(body, &op.sample, &stream, err) < 0 ||
        oa_stops(body, &op.sample, stops, err) < 0 ||
        (!chat && json_get_str(body, "prompt", &prompt, NULL, err) < 0))
        return -1;
    const json_t *list = json_object_get(body, "messages");
    if (chat ? !json_is_array(list) : !prompt)
        return err_set(err, ERR_INVAL, "%s is missing",
                       chat ? "messages" : "prompt");
    int rc = store_target(d->st, model, &t);
    if (rc == STORE_NOTFOUND)
        return err_set(err, ERR_NOTFOUND, "no model '%.100s'", model);
    if (rc != STORE_OK)
        return err_store(err, d->st, rc);
    if (chat)
        messages = json_dumps(list, JSON_COMPACT);
    op.sample.prompt = chat ? PROMPT_MESSAGES : PROMPT_TEXT;
    op.sample.text = chat ? messages : (char *)prompt;
    op.sample.target.ckpt = t.ckpt;
    struct buf b;
    buf_init(&b, WIRE_MAX);
    op_encode(&op, &b);
    free(messages);
    struct flow *f = flow_new(d, chat ? FLOW_CHAT : FLOW_TEXT);
    f->stream = stream;
    f->op = buf_take(&b, &f->op_len);
    snprintf(f->name, sizeof f->name, "%s", model);
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
