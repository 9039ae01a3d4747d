/* request: from an op to prompt tokens; a sample's tokens and text, where it
 * stops, what is streamed; from the samples to a result. */
#include "core/sample/int.h"

#include "core/clock.h"
#include "core/rng.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REQ_SAMPLES_MAX 256
#define REQ_TEXT_MAX (64u << 20)

/* ---- prompts ---- */

static int need_text(const struct sampler *s, bool has, struct err *err) {
    return has ? 0
               : err_set(err, ERR_UNSUPPORTED, "text does not work: %s",
                         s->no_text ? s->no_text : "there is no tokenizer");
}

static int req_messages(struct req *r, struct err *err) {
    json_t *m = json_loads(r->op->text, 0, NULL);
    int rc = m ? render_prompt(r->render, m, 0, &r->prompt, err)
               : err_set(err, ERR_INVAL, "messages: not JSON");
    json_decref(m);
    return rc;
}

static int req_prompt(struct req *r, struct err *err) {
    const struct op_sample *op = r->op;
    int32_t V = model_conf(r->s->model)->V;
    if (op->prompt != PROMPT_TOKENS && need_text(r->s, r->s->tok, err) < 0)
        return -1;
    for (uint32_t i = 0; op->prompt == PROMPT_TOKENS && i < op->n_tokens; i++)
        tok_ids_push(&r->prompt, op->tokens[i]);
    if (op->prompt == PROMPT_TEXT)
        tok_encode(r->s->tok, op->text, strlen(op->text), TOK_BOS, &r->prompt);
    if (op->prompt == PROMPT_MESSAGES &&
        (need_text(r->s, r->render, err) < 0 || req_messages(r, err) < 0))
        return -1;
    if (r->prompt.n == 0)
        return err_set(err, ERR_INVAL, "an empty prompt");
    for (size_t i = 0; i < r->prompt.n; i++)
        if (r->prompt.id[i] >= (uint32_t)V)
            return err_set(err, ERR_INVAL,
                           "token %u at position %zu: the vocabulary has %d",
                           r->prompt.id[i], i, V);
    return 0;
}

static int req_params(const struct req *r, struct err *err) {
    const struct op_sample *op = r->op;
    if (op->n == 0 || op->n > REQ_SAMPLES_MAX)
        return err_set(err, ERR_INVAL, "n is %u, must be 1 to %d", op->n,
                       REQ_SAMPLES_MAX);
    if (!(op->temperature >= 0) || !isfinite(op->temperature) ||
        !(op->top_p > 0) || !(op->min_p >= 0 && op->min_p <= 1))
        return err_set(err, ERR_INVAL,
                       "temperature %g, top_p %g or min_p %g is out of range",
                       (double)op->temperature, (double)op->top_p,
                       (double)op->min_p);
    if (op->top_k_out > WIRE_TOP_MAX || op->prompt_top_k_out > WIRE_TOP_MAX)
        return err_set(err, ERR_INVAL, "at most %d likeliest tokens are told",
                       WIRE_TOP_MAX);
    return op->n_stops > 0 || op->pieces ? need_text(r->s, r->s->tok, err) : 0;
}

static int req_limits(struct req *r, int32_t most, struct err *err) {
    const struct op_sample *op = r->op;
    size_t context = (size_t)model_conf(r->s->model)->max_pos;
    if (r->prompt.n >= context)
        return err_set(err, ERR_INVAL,
                       "a prompt of %zu tokens leaves no room in the context "
                       "of %zu",
                       r->prompt.n, context);
    uint32_t left = (uint32_t)(context - r->prompt.n);
    r->max_new =
        op->max_tokens && op->max_tokens < left ? op->max_tokens : left;
    if (op->max_tokens == 0 && r->prompt.n < (size_t)most &&
        r->prompt.n + left > (size_t)most)
        r->max_new = (uint32_t)((size_t)most - r->prompt.n);
    if (r->prompt.n + r->max_new > (size_t)most)
        return err_set(err, ERR_INVAL,
                       "prompt of %zu tokens and max_tokens %u exceed the "
                       "cache of %d",
                       r->prompt.n, r->max_new, most);
    return 0;
}

static void top_alloc(struct top *t, uint32_t k, size_t n) {
    t->k = k;
    t->tokens = calloc(n * k + 1, sizeof *t->tokens);
    t->logprobs = calloc(n * k + 1, sizeof *t->logprobs);
    CHECK(t->tokens && t->logprobs, "out of memory for logprobs");
    for (uint32_t i = 0; i < k; i++) /* nothing comes before token 0 */
        t->logprobs[i] = NAN;
}

struct req *req_new(const struct sampler *s, const struct policy *p,
                    const struct render *render, const struct op_sample *op,
                    int32_t room, struct err *err) {
    struct req *r = calloc(1, sizeof *r);
    CHECK(r, "out of memory for a request");
    r->s = s;
    r->render = render ? render : s->render;
    r->op = op;
    r->policy = *p;
    r->start_us = clock_mono_us();
    if (req_params(r, err) < 0 || req_prompt(r, err) < 0 ||
        req_limits(r, room, err) < 0) {
        req_free(r);
        return NULL;
    }
    r->seq = calloc(op->n, sizeof *r->seq);
    CHECK(r->seq, "out of memory for %u samples", op->n);
    for (uint32_t i = 0; i < op->n; i++) {
        r->seq[i] = (struct seq){.req = r, .index = i, .up = -1};
        buf_init(&r->seq[i].text, REQ_TEXT_MAX);
    }
    if (op->prompt_logprobs) {
        r->prompt_lp = calloc(r->prompt.n, sizeof *r->prompt_lp);
        CHECK(r->prompt_lp, "out of memory for logprobs");
        r->prompt_lp[0] = NAN;
    }
    if (op->prompt_top_k_out)
        top_alloc(&r->prompt_top, op->prompt_top_k_out, r->prompt.n);
    return r;
}

static void seq_release(struct seq *q) {
    free(q->table);
    free(q->ids.id);
    free(q->logprobs);
    free(q->top.tokens);
    free(q->top.logprobs);
    buf_release(&q->text);
}

void req_free(struct req *r) {
    if (!r)
        return;
    for (uint32_t i = 0; r->seq && i < r->op->n; i++)
        seq_release(&r->seq[i]);
    free(r->seq);
    free(r->prompt.id);
    free(r->prompt_lp);
    free(r->prompt_top.tokens);
    free(r->prompt_top.logprobs);
    free(r);
}

bool req_is_done(const struct req *r) {
    for (uint32_t i = 0; i < r->op->n; i++)
        if (!r->seq[i].done)
            return false;
    return true;
}

int32_t seq_len(const struct seq *q) {
    return (int32_t)(q->req->prompt.n + q->ids.n);
}

uint32_t seq_token(const struct seq *q, int32_t pos) {
    size_t n = q->req->prompt.n, at = (size_t)pos;
    return at < n ? q->req->prompt.id[at] : q->ids.id[at - n];
}

/* ---- stopping ---- */

static bool is_stop_token(const struct req *r, uint32_t id) {
    const struct op_sample *op = r->op;
    const struct conf *c = model_conf(r->s->model);
    for (uint32_t i = 0; i < op->n_stop_tokens; i++)
        if (op->stop_tokens[i] == id)
            return true;
    if (!op->default_stop)
        return false;
    for (int i = 0; i < c->n_eos; i++)
        if (c->eos[i] == id)
            return true;
    const uint32_t *ids;
    const char *const *strings;
    int n_strings;
    int n = r->render ? render_stops(r->render, &ids, &strings, &n_strings) : 0;
    for (int i = 0; i < n; i++)
        if (ids[i] == id)
            return true;
    return false;
}

/* Stop string i of the request, the renderer's behind its own. */
static const char *stop_string(const struct req *r, uint32_t i) {
    const uint32_t *ids;
    const char *const *strings;
    int n = 0;
    if (i < r->op->n_stops)
        return r->op->stops[i];
    if (r->op->default_stop && r->render)
        render_stops(r->render, &ids, &strings, &n);
    i -= r->op->n_stops;
    return i < (uint32_t)n ? strings[i] : NULL;
}

/* Where the first stop string begins in the text, or -1. Only what the last
 * token added, and what a string may have begun in before, is looked at. */
static int64_t find_stop(struct seq *q, size_t added) {
    int64_t at = -1;
    const char *text = buf_str(&q->text), *stop, *hit;
    for (uint32_t i = 0; (stop = stop_string(q->req, i)); i++) {
        size_t back = added + strlen(stop);
        size_t from = back < q->text.len ? q->text.len - back : 0;
        if (*stop && (hit = strstr(text + from, stop)) &&
            (at < 0 || hit - text < at))
            at = hit - text;
    }
    return at;
}

/* Bytes of text that no stop string can take back any more. */
static size_t safe_text(struct seq *q) {
    const char *text = buf_str(&q->text), *stop;
    size_t safe = q->text.len;
    for (uint32_t i = 0; (stop = stop_string(q->req, i)); i++)
        for (size_t k = strlen(stop); k > 0; k--)
            if (k <= q->text.len && q->text.len - k < safe &&
                memcmp(text + q->text.len - k, stop, k) == 0)
                safe = q->text.len - k;
    return safe;
}

/* ---- a token more ---- */

static void seq_send(struct seq *q, size_t upto) {
    const struct sampler *s = q->req->s;
    if (!s->partial || !q->req->op->stream)
        return;
    const char *text = buf_str(&q->text);
    size_t from = q->sent < upto ? q->sent : upto, last = q->ids.n - 1;
    char *piece = strndup(text + from, upto - from);
    CHECK(piece, "out of memory for text");
    q->sent = upto > q->sent ? upto : q->sent;
    s->partial(s->arg, q->req->id,
               &(struct sample_partial){
                   .index = q->index,
                   .token = q->ids.id[last],
                   .logprob = q->logprobs[last],
                   .text = piece,
                   .k = q->top.k,
                   .top_tokens = q->top.tokens + last * q->top.k,
                   .top_logprobs = q->top.logprobs + last * q->top.k});
    free(piece);
}

static void seq_text(struct seq *q, uint32_t id) {
    const struct tok *tok = q->req->s->tok;
    if (!tok)
        return;
    char *more = tok_stream_next(tok, &q->stream, id);
    buf_puts(&q->text, more);
    free(more);
}

static void seq_stop(struct seq *q, enum stop_reason why) {
    q->stop = why;
    q->done = true;
}

/* Behind the new token: its text, and whether it is the last. */
static void seq_advance(struct seq *q, uint32_t id) {
    size_t before = q->text.len;
    if (is_stop_token(q->req, id)) {
        seq_stop(q, STOP_TOKEN);
        seq_text(q, UINT32_MAX);
        seq_send(q, q->text.len);
        return;
    }
    seq_text(q, id);
    bool last = q->ids.n >= q->req->max_new;
    if (last) /* what is left of a character may end a stop string */
        seq_text(q, UINT32_MAX);
    int64_t at = find_stop(q, q->text.len - before);
    if (at >= 0) {
        seq_stop(q, STOP_STRING);
        q->text.len = (size_t)at;
    } else if (last) {
        seq_stop(q, STOP_LENGTH);
    }
    seq_send(q, q->done ? q->text.len : safe_text(q));
}

static void seq_reserve(struct seq *q) {
    uint32_t k = q->req->op->top_k_out;
    if (q->ids.n < q->cap)
        return;
    q->cap = q->cap ? 2 * q->cap : 64;
    q->top.k = k;
    q->logprobs = realloc(q->logprobs, q->cap * sizeof *q->logprobs);
    q->top.tokens = realloc(q->top.tokens, (q->cap * k + 1) * sizeof(uint32_t));
    q->top.logprobs =
        realloc(q->top.logprobs, (q->cap * k + 1) * sizeof(float));
    CHECK(q->logprobs && q->top.tokens && q->top.logprobs,
          "out of memory for logprobs");
}

void seq_draw(struct seq *q, const float *logits, float lse) {
    const struct op_sample *op = q->req->op;
    size_t at = q->ids.n;
    struct row r =
        row_of(logits, model_conf(q->req->s->model)->V, lse, op->temperature);
    struct filter f = {op->top_k, op->top_p, op->min_p};
    uint32_t id = row_draw(&r, &f, rng_uniform(op->seed, q->index, at));
    seq_reserve(q);
    q->logprobs[at] = row_logprob(&r, id);
    if (q->top.k)
        row_top(&r, q->top.k, q->top.tokens + at * q->top.k,
                q->top.logprobs + at * q->top.k);
    tok_ids_push(&q->ids, id);
    seq_advance(q, id);
}

void req_prompt_row(struct req *r, int32_t pos, const float *logits, float lse,
                    float logprob) {
    size_t at = (size_t)pos + 1, k = r->prompt_top.k;
    if (r->prompt_lp)
        r->prompt_lp[at] = logprob;
    if (k == 0)
        return;
    struct row row = row_of(logits, model_conf(r->s->model)->V, lse, 1);
    row_top(&row, (uint32_t)k, r->prompt_top.tokens + at * k,
            r->prompt_top.logprobs + at * k);
}

/* ---- the result ---- */

static int by_id(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static void add_ids(struct tok_ids *to, const uint32_t *id, size_t n) {
    for (size_t i = 0; i < n; i++)
        tok_ids_push(to, id[i]);
}

/* The text of every token that the result names. */
static void req_pieces(const struct req *r, struct result *res) {
    struct tok_ids all = {0};
    for (uint32_t i = 0; i < res->n_samples; i++) {
        const struct sample *s = &res->samples[i];
        add_ids(&all, s->tokens, s->n);
        add_ids(&all, s->top.tokens, (size_t)s->n * s->top.k);
    }
    add_ids(&all, res->prompt_tokens, res->n_prompt);
    add_ids(&all, res->prompt_top.tokens,
            (size_t)res->n_prompt * res->prompt_top.k);
    qsort(all.id, all.n, sizeof *all.id, by_id);
    res->pieces = calloc(all.n + 1, sizeof *res->pieces);
    CHECK(res->pieces, "out of memory for text");
    for (size_t i = 0; i < all.n; i++)
        if (i == 0 || all.id[i] != all.id[i - 1])
            res->pieces[res->n_pieces++] = (struct token_text){
                all.id[i], tok_decode(r->s->tok, &all.id[i], 1, false)};
    free(all.id);
}

/* Calls of tools have ids of their own in OpenAI's API. */
static void name_calls(const struct seq *q, json_t *message) {
    size_t i;
    json_t *call;
    json_array_foreach(json_object_get(message, "tool_calls"), i, call) {
        char id[32];
        if (json_is_string(json_object_get(call, "id")))
            continue;
        snprintf(id, sizeof id, "call_%016llx",
                 (unsigned long long)rng_u64(q->req->op->seed, q->index, i));
        json_object_set_new(call, "id", json_string(id));
    }
}

/* The answer as a message; NULL where it ends otherwise than the renderer's
 * answers do, and its text says all. */
static char *seq_message(const struct seq *q) {
    const struct req *r = q->req;
    struct err why = {0};
    enum reply_end end;
    json_t *m = NULL;
    if (r->op->parse && r->render && r->op->prompt == PROMPT_MESSAGES &&
        !(q->stop == STOP_STRING && r->op->n_stops))
        m = render_parse(r->render, q->ids.id, q->ids.n, &end, &why);
    if (!m || end == REPLY_MALFORMED) {
        json_decref(m);
        return NULL;
    }
    json_t *plain = message_openai(m);
    name_calls(q, plain);
    char *text = json_dumps(plain, JSON_COMPACT | JSON_PRESERVE_ORDER);
    json_decref(plain);
    json_decref(m);
    return text;
}

static void seq_result(struct seq *q, struct sample *s) {
    s->message = seq_message(q);
    s->n = (uint32_t)q->ids.n;
    s->tokens = q->ids.id;
    s->logprobs = q->logprobs;
    s->stop = q->stop;
    s->top = q->top;
    s->text = strdup(buf_str(&q->text));
    CHECK(s->text, "out of memory for text");
    q->ids.id = NULL;
    q->logprobs = NULL;
    q->top = (struct top){0};
}

void req_result(struct req *r, struct result *res) {
    *res = (struct result){.n_samples = r->op->n,
                           .n_prompt = (uint32_t)r->prompt.n,
                           .prompt_tokens = r->prompt.id,
                           .prompt_logprobs = r->prompt_lp,
                           .prompt_top = r->prompt_top};
    res->samples = calloc(r->op->n, sizeof *res->samples);
    CHECK(res->samples, "out of memory for samples");
    for (uint32_t i = 0; i < r->op->n; i++)
        seq_result(&r->seq[i], &res->samples[i]);
    r->prompt.id = NULL;
    r->prompt_lp = NULL;
    r->prompt_top = (struct top){0};
    if (r->op->pieces)
        req_pieces(r, res);
    res->exec_us = (uint64_t)(clock_mono_us() - r->start_us);
}
