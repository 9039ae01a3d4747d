/*
 * gen: prefill once, then all samples of the prompt step by step together.
 * Pages of the prompt that are full are shared by its samples; the last, part
 * full, is copied for each.
 */
#include "core/sample.h"

#include "core/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define GEN_CHUNK 256 /* tokens of a prefill step */
#define GEN_SAMPLES_MAX 256

struct seq {
    int32_t *table; /* pages */
    int32_t blocks;
    struct tok_ids ids;
    float *logprobs;
    size_t cap;
    struct tok_stream stream;
    struct buf text; /* decoded so far */
    size_t sent;     /* bytes of text given to the stream */
    enum stop_reason stop;
    bool done;
};

struct gen {
    const struct sampler *s;
    const struct policy *p;
    const struct op_sample *op;
    const struct conf *c;
    struct kv *kv;
    struct tok_ids prompt;
    uint32_t max_new;
    int32_t max_blocks;
    struct seq *seq; /* (op->n) */
    float *logits;   /* (op->n, V) */
    float *lse;      /* (op->n) */
};

/* ---- prompts ---- */

static int need_text(const struct sampler *s, struct err *err) {
    return s->tok ? 0
                  : err_set(err, ERR_UNSUPPORTED,
                            "the model has no tokenizer.json, which text "
                            "needs (send tokens)");
}

static int gen_prompt(struct gen *g, struct err *err) {
    const struct op_sample *op = g->op;
    switch (op->prompt) {
    case PROMPT_TOKENS:
        for (uint32_t i = 0; i < op->n_tokens; i++)
            tok_ids_push(&g->prompt, op->tokens[i]);
        break;
    case PROMPT_TEXT:
        if (need_text(g->s, err) < 0)
            return -1;
        tok_encode(g->s->tok, op->text, strlen(op->text), TOK_BOS, &g->prompt);
        break;
    case PROMPT_MESSAGES: {
        if (need_text(g->s, err) < 0)
            return -1;
        json_t *m = json_loads(op->text, 0, NULL);
        int rc = m ? render_prompt(g->s->render, m, false, &g->prompt, err)
                   : err_set(err, ERR_INVAL, "messages: not JSON");
        json_decref(m);
        if (rc < 0)
            return -1;
        break;
    }
    }
    if (g->prompt.n == 0)
        return err_set(err, ERR_INVAL, "an empty prompt");
    return 0;
}

static int gen_limits(struct gen *g, struct err *err) {
    const struct op_sample *op = g->op;
    size_t room = (size_t)g->c->max_pos;
    if (op->n == 0 || op->n > GEN_SAMPLES_MAX)
        return err_set(err, ERR_INVAL, "n is %u, must be 1 to %d", op->n,
                       GEN_SAMPLES_MAX);
    if (!(op->temperature >= 0) || !isfinite(op->temperature) ||
        !(op->top_p > 0))
        return err_set(err, ERR_INVAL,
                       "temperature %g or top_p %g is out of "
                       "range",
                       (double)op->temperature, (double)op->top_p);
    if (op->n_stops > 0 && need_text(g->s, err) < 0)
        return -1;
    if (g->prompt.n >= room || op->max_tokens > room - g->prompt.n)
        return err_set(err, ERR_INVAL,
                       "prompt of %zu tokens and max_tokens %u exceed the "
                       "context of %zu",
                       g->prompt.n, op->max_tokens, room);
    g->max_new =
        op->max_tokens ? op->max_tokens : (uint32_t)(room - g->prompt.n);
    size_t blocks = (g->prompt.n + g->max_new + KERN_PAGE - 1) / KERN_PAGE;
    g->max_blocks = (int32_t)blocks;
    return 0;
}

/* ---- the cache ---- */

static int gen_pool(struct gen *g, struct err *err) {
    int32_t full = (int32_t)(g->prompt.n / KERN_PAGE);
    int64_t pages = full + (int64_t)(g->op->n + 1) * (g->max_blocks - full) + 1;
    if (pages > INT32_MAX / 2)
        return err_set(err, ERR_TOOBIG, "a cache of %lld pages",
                       (long long)pages);
    g->kv = kv_new(g->s->model, g->s->kern, (int32_t)pages, err);
    return g->kv ? 0 : -1;
}

static int seq_page(struct gen *g, struct seq *q, int32_t pos,
                    struct err *err) {
    if (pos / KERN_PAGE < q->blocks)
        return 0;
    int32_t page = kv_take(g->kv);
    if (page < 0)
        return err_set(err, ERR_NOMEM, "the cache is used up");
    q->table[q->blocks++] = page;
    return 0;
}

static int seq_fork(struct gen *g, struct seq *to, const struct seq *from,
                    struct err *err) {
    int32_t full = (int32_t)(g->prompt.n / KERN_PAGE);
    for (int32_t i = 0; i < full; i++) {
        kv_share(g->kv, from->table[i]);
        to->table[to->blocks++] = from->table[i];
    }
    if (from->blocks == full)
        return 0;
    if (seq_page(g, to, full * KERN_PAGE, err) < 0)
        return -1;
    return kv_copy(g->kv, to->table[full], from->table[full], err);
}

/* Logits of the prompt's last row; prompt logprobs when they are wanted. */
static int gen_prefill(struct gen *g, struct seq *q, float *prompt_lp,
                       struct err *err) {
    size_t n = g->prompt.n;
    int32_t tokens[GEN_CHUNK], seq[GEN_CHUNK] = {0}, pos[GEN_CHUNK];
    int32_t rows[GEN_CHUNK], targets[GEN_CHUNK];
    float lp[GEN_CHUNK];
    for (size_t at = 0; at < n; at += GEN_CHUNK) {
        int32_t T = n - at < GEN_CHUNK ? (int32_t)(n - at) : GEN_CHUNK;
        bool last = at + (size_t)T == n;
        for (int32_t i = 0; i < T; i++) {
            size_t t = at + (size_t)i;
            tokens[i] = (int32_t)g->prompt.id[t];
            pos[i] = (int32_t)t;
            rows[i] = i;
            targets[i] = t + 1 < n ? (int32_t)g->prompt.id[t + 1] : 0;
            if (seq_page(g, q, pos[i], err) < 0)
                return -1;
        }
        struct net_step s = {.T = T,
                             .tokens = tokens,
                             .seq = seq,
                             .pos = pos,
                             .n_seq = 1,
                             .max_blocks = g->max_blocks,
                             .table = q->table};
        if (prompt_lp) {
            s.n_rows = T;
            s.rows = rows;
            s.targets = targets;
            s.logprobs = lp;
            if (net_step(g->s->net, g->p, g->kv, &s, err) < 0)
                return -1;
            for (int32_t i = 0; i < T; i++)
                if (at + (size_t)i + 1 < n)
                    prompt_lp[at + (size_t)i + 1] = lp[i];
        }
        if (prompt_lp && !last)
            continue;
        int32_t end = T - 1;
        s.n_rows = last;
        s.rows = &end;
        s.targets = NULL;
        s.logprobs = NULL;
        s.logits = g->logits;
        s.lse = g->lse;
        if (net_step(g->s->net, g->p, g->kv, &s, err) < 0)
            return -1;
    }
    return 0;
}

/* ---- stopping ---- */

static bool is_stop_token(const struct gen *g, uint32_t id) {
    const struct op_sample *op = g->op;
    for (uint32_t i = 0; i < op->n_stop_tokens; i++)
        if (op->stop_tokens[i] == id)
            return true;
    if (!op->default_stop)
        return false;
    for (int i = 0; i < g->c->n_eos; i++)
        if (g->c->eos[i] == id)
            return true;
    const uint32_t *ids;
    const char *const *strings;
    int n_strings;
    int n = g->s->render
                ? render_stops(g->s->render, &ids, &strings, &n_strings)
                : 0;
    for (int i = 0; i < n; i++)
        if (ids[i] == id)
            return true;
    return false;
}

/* Stop string i of the request, the renderer's behind its own. */
static const char *stop_string(const struct gen *g, uint32_t i) {
    const uint32_t *ids;
    const char *const *strings;
    int n = 0;
    if (i < g->op->n_stops)
        return g->op->stops[i];
    if (g->op->default_stop && g->s->render)
        render_stops(g->s->render, &ids, &strings, &n);
    i -= g->op->n_stops;
    return i < (uint32_t)n ? strings[i] : NULL;
}

/* Where the first stop string begins in the text, or -1. */
static int64_t find_stop(const struct gen *g, struct seq *q) {
    int64_t at = -1;
    const char *text = buf_str(&q->text), *stop, *hit;
    for (uint32_t i = 0; (stop = stop_string(g, i)); i++)
        if (*stop && (hit = strstr(text, stop)) && (at < 0 || hit - text < at))
            at = hit - text;
    return at;
}

/* Bytes of text that no stop string can take back any more. */
static size_t safe_text(const struct gen *g, struct seq *q) {
    const char *text = buf_str(&q->text), *stop;
    size_t safe = q->text.len;
    for (uint32_t i = 0; (stop = stop_string(g, i)); i++)
        for (size_t k = strlen(stop); k > 0; k--)
            if (k <= q->text.len && q->text.len - k < safe &&
                memcmp(text + q->text.len - k, stop, k) == 0)
                safe = q->text.len - k;
    return safe;
}

static void seq_send(struct gen *g, uint32_t index, uint32_t id, float lp,
                     size_t upto) {
    struct seq *q = &g->seq[index];
    if (!g->s->partial || !g->op->stream)
        return;
    const char *text = buf_str(&q->text);
    size_t from = q->sent < upto ? q->sent : upto;
    char *piece = strndup(text + from, upto - from);
    CHECK(piece, "out of memory for text");
    q->sent = upto > q->sent ? upto : q->sent;
    g->s->partial(g->s->arg, index, id, lp, piece);
    free(piece);
}

static void seq_text(struct gen *g, struct seq *q, uint32_t id) {
    if (!g->s->tok)
        return;
    char *more = tok_stream_next(g->s->tok, &q->stream, id);
    buf_puts(&q->text, more);
    free(more);
}

static void seq_take(struct gen *g, uint32_t index, uint32_t id, float lp) {
    struct seq *q = &g->seq[index];
    if (q->ids.n == q->cap) {
        q->cap = q->cap ? 2 * q->cap : 64;
        q->logprobs = realloc(q->logprobs, q->cap * sizeof *q->logprobs);
        CHECK(q->logprobs, "out of memory for logprobs");
    }
    q->logprobs[q->ids.n] = lp;
    tok_ids_push(&q->ids, id);
    if (is_stop_token(g, id)) {
        q->stop = STOP_TOKEN;
        q->done = true;
        seq_text(g, q, UINT32_MAX);
        seq_send(g, index, id, lp, q->text.len);
        return;
    }
    seq_text(g, q, id);
    int64_t at = find_stop(g, q);
    if (at >= 0) {
        q->stop = STOP_STRING;
        q->done = true;
        q->text.len = (size_t)at;
    } else if (q->ids.n >= g->max_new) {
        q->stop = STOP_LENGTH;
        q->done = true;
        seq_text(g, q, UINT32_MAX);
    }
    seq_send(g, index, id, lp, q->done ? q->text.len : safe_text(g, q));
}

/* ---- the loop ---- */

static float gen_logprob(const struct gen *g, const float *logits, float lse,
                         uint32_t id) {
    float t = g->op->temperature;
    if (t == 0 || t == 1)
        return logits[id] - lse;
    double max = -INFINITY, sum = 0;
    for (int32_t i = 0; i < g->c->V; i++)
        max = logits[i] > max ? logits[i] : max;
    for (int32_t i = 0; i < g->c->V; i++)
        sum += exp(((double)logits[i] - max) / t);
    return (float)(((double)logits[id] - max) / t - log(sum));
}

static void gen_draw(struct gen *g, uint32_t index, const float *logits,
                     float lse) {
    const struct op_sample *op = g->op;
    float u = rng_uniform(op->seed, index, g->seq[index].ids.n);
    uint32_t id =
        sample_draw(logits, g->c->V, op->temperature, op->top_k, op->top_p, u);
    seq_take(g, index, id, gen_logprob(g, logits, lse, id));
}

static bool gen_cancelled(const struct gen *g) {
    return g->s->cancel && atomic_load(g->s->cancel);
}

/* One token for every sample that is not done. 1 = go on, 0 = all done. */
static int gen_step(struct gen *g, int32_t *work, struct err *err) {
    uint32_t n = g->op->n;
    int32_t *tokens = work, *seq = work + n, *pos = work + 2 * n;
    int32_t *rows = work + 3 * n, *who = work + 4 * n, *table = work + 5 * n;
    int32_t T = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct seq *q = &g->seq[i];
        if (q->done)
            continue;
        tokens[T] = (int32_t)q->ids.id[q->ids.n - 1];
        pos[T] = (int32_t)(g->prompt.n + q->ids.n) - 1;
        seq[T] = rows[T] = T;
        who[T] = (int32_t)i;
        if (seq_page(g, q, pos[T], err) < 0)
            return -1;
        memcpy(table + (int64_t)T * g->max_blocks, q->table,
               (size_t)q->blocks * sizeof *table);
        T++;
    }
    if (T == 0)
        return 0;
    struct net_step s = {.T = T,
                         .tokens = tokens,
                         .seq = seq,
                         .pos = pos,
                         .n_seq = T,
                         .max_blocks = g->max_blocks,
                         .table = table,
                         .n_rows = T,
                         .rows = rows,
                         .logits = g->logits,
                         .lse = g->lse};
    if (net_step(g->s->net, g->p, g->kv, &s, err) < 0)
        return -1;
    for (int32_t t = 0; t < T; t++)
        gen_draw(g, (uint32_t)who[t], g->logits + (int64_t)t * g->c->V,
                 g->lse[t]);
    return 1;
}

static int gen_loop(struct gen *g, struct err *err) {
    size_t n = g->op->n;
    int32_t *work = calloc(n * (5 + (size_t)g->max_blocks) + 1, sizeof *work);
    CHECK(work, "out of memory for %zu samples", n);
    int rc = 1;
    while (rc == 1 && !gen_cancelled(g))
        rc = gen_step(g, work, err);
    for (uint32_t i = 0; i < n; i++)
        if (!g->seq[i].done)
            g->seq[i].stop = STOP_CANCELED;
    free(work);
    return rc < 0 ? -1 : 0;
}

static void gen_result(struct gen *g, float *prompt_lp, struct result *res) {
    res->n_samples = g->op->n;
    res->samples = calloc(g->op->n, sizeof *res->samples);
    CHECK(res->samples, "out of memory for samples");
    for (uint32_t i = 0; i < g->op->n; i++) {
        struct seq *q = &g->seq[i];
        struct sample *s = &res->samples[i];
        s->n = (uint32_t)q->ids.n;
        s->tokens = q->ids.id;
        s->logprobs = q->logprobs;
        s->stop = q->stop;
        s->text = strdup(buf_str(&q->text));
        CHECK(s->text, "out of memory for text");
        q->ids.id = NULL;
        q->logprobs = NULL;
    }
    res->n_prompt = (uint32_t)g->prompt.n;
    res->prompt_tokens = g->prompt.id;
    g->prompt.id = NULL;
    if (g->op->prompt_logprobs) {
        res->prompt_logprobs = prompt_lp;
        prompt_lp[0] = NAN;
    }
}

static void gen_release(struct gen *g) {
    for (uint32_t i = 0; g->seq && i < g->op->n; i++) {
        free(g->seq[i].table);
        free(g->seq[i].ids.id);
        free(g->seq[i].logprobs);
        buf_release(&g->seq[i].text);
    }
    free(g->seq);
    free(g->logits);
    free(g->lse);
    free(g->prompt.id);
    kv_free(g->kv);
}

static int gen_open(struct gen *g, struct err *err) {
    uint32_t n = g->op->n;
    g->seq = calloc(n, sizeof *g->seq);
    g->logits = malloc((size_t)n * (size_t)g->c->V * sizeof *g->logits);
    g->lse = malloc(n * sizeof *g->lse);
    if (!g->seq || !g->logits || !g->lse)
        return err_set(err, ERR_NOMEM, "no memory for %u samples", n);
    for (uint32_t i = 0; i < n; i++) {
        g->seq[i].table =
            calloc((size_t)g->max_blocks + 1, sizeof *g->seq[i].table);
        CHECK(g->seq[i].table, "out of memory for a block table");
        buf_init(&g->seq[i].text, 64u << 20);
    }
    return gen_pool(g, err);
}

int sample_run(const struct sampler *s, const struct policy *p,
               const struct op_sample *op, struct result *res,
               struct err *err) {
    struct gen g = {.s = s, .p = p, .op = op, .c = model_conf(s->model)};
    float *prompt_lp = NULL;
    int rc = -1;
    if (gen_prompt(&g, err) < 0 || gen_limits(&g, err) < 0 ||
        gen_open(&g, err) < 0)
        goto out;
    if (op->prompt_logprobs) {
        prompt_lp = calloc(g.prompt.n + 1, sizeof *prompt_lp);
        CHECK(prompt_lp, "out of memory for logprobs");
    }
    if (gen_prefill(&g, &g.seq[0], prompt_lp, err) < 0)
        goto out;
    for (uint32_t i = 1; i < op->n; i++)
        if (seq_fork(&g, &g.seq[i], &g.seq[0], err) < 0)
            goto out;
    for (uint32_t i = 0; i < op->n; i++)
        gen_draw(&g, i, g.logits, g.lse[0]);
    if (gen_loop(&g, err) < 0)
        goto out;
    gen_result(&g, prompt_lp, res);
    if (op->prompt_logprobs)
        prompt_lp = NULL;
    rc = 0;
out:
    free(prompt_lp);
    gen_release(&g);
    return rc;
}

/* ---- logprobs of given tokens ---- */

static int logprobs_trainer(const struct sampler *s, const struct policy *p,
                            const int32_t *ids, int32_t T, float *lp,
                            struct err *err) {
    int32_t start[2] = {0, T};
    struct net_batch b = {T, 1, ids, start};
    struct net_head h = {.k = 1, .targets = ids + 1, .logprobs = lp};
    if (net_pass(s->net, p, &b, false, err) < 0)
        return -1;
    return net_head(s->net, p, &h, err);
}

/* All but the last few tokens by prefill, those one by one. */
static int logprobs_sampler(const struct sampler *s, const struct policy *p,
                            const int32_t *ids, int32_t T, float *lp,
                            struct err *err) {
    int32_t blocks = (T + KERN_PAGE - 1) / KERN_PAGE, rc = 0;
    int32_t *work = calloc((size_t)T * 3 + (size_t)blocks + 3, sizeof *work);
    int32_t *pos = work, *seq = work + T, *rows = work + 2 * T;
    int32_t *table = work + 3 * T;
    CHECK(work, "out of memory for %d tokens", T);
    struct kv *kv = kv_new(s->model, s->kern, blocks, err);
    for (int32_t i = 0; kv && i < blocks; i++)
        table[i] = kv_take(kv);
    for (int32_t t = 0; t < T; t++) {
        pos[t] = t;
        rows[t] = t;
    }
    int32_t tail = T > 32 ? T - 16 : T / 2;
    for (int32_t at = 0; kv && rc == 0 && at < T;) {
        int32_t n =
            at < tail ? (tail - at < GEN_CHUNK ? tail - at : GEN_CHUNK) : 1;
        struct net_step st = {.T = n,
                              .tokens = ids + at,
                              .seq = seq,
                              .pos = pos + at,
                              .n_seq = 1,
                              .max_blocks = blocks,
                              .table = table,
                              .n_rows = n,
                              .rows = rows,
                              .targets = ids + at + 1,
                              .logprobs = lp + at};
        rc = net_step(s->net, p, kv, &st, err);
        at += n;
    }
    kv_free(kv);
    free(work);
    return kv ? rc : -1;
}

int sample_logprobs(const struct sampler *s, const struct policy *p,
                    const struct op_logprobs *op, struct result *res,
                    struct err *err) {
    const struct conf *c = model_conf(s->model);
    if (op->n == 0 || op->n > (uint32_t)c->max_pos)
        return err_set(err, ERR_INVAL, "%u tokens; 1 to %d are taken", op->n,
                       c->max_pos);
    int32_t *ids = malloc((size_t)op->n * sizeof *ids);
    float *lp = malloc((size_t)op->n * sizeof *lp);
    CHECK(ids && lp, "out of memory for %u tokens", op->n);
    for (uint32_t i = 0; i < op->n; i++)
        ids[i] = (int32_t)op->tokens[i];
    int32_t T = (int32_t)op->n - 1;
    int rc = 0;
    if (ids[T] < 0 || ids[T] >= c->V)
        rc = err_set(err, ERR_INVAL,
                     "token %d at position %d: the vocabulary "
                     "has %d",
                     ids[T], T, c->V);
    else if (T > 0)
        rc = op->sampler ? logprobs_sampler(s, p, ids, T, lp + 1, err)
                         : logprobs_trainer(s, p, ids, T, lp + 1, err);
    lp[0] = NAN;
    free(ids);
    if (rc < 0) {
        free(lp);
        return -1;
    }
    res->n_logprobs = 1;
    res->logprobs = calloc(1, sizeof *res->logprobs);
    res->logprobs_len = calloc(1, sizeof *res->logprobs_len);
    CHECK(res->logprobs && res->logprobs_len, "out of memory for logprobs");
    res->logprobs[0] = lp;
    res->logprobs_len[0] = op->n;
    return 0;
}
