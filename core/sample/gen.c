/* gen: one request alone; logprobs of given tokens by both paths. */
#include "core/sample/int.h"

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#define GEN_CHUNK 256 /* tokens of a prefill step */

/* ---- one request ---- */

/* The caller's sampler, and where its request ended. */
struct alone {
    const struct sampler *s;
    struct result *res;
    struct err *err;
    int rc;
};

static void alone_partial(void *arg, uint64_t id,
                          const struct sample_partial *p) {
    const struct alone *a = arg;
    a->s->partial(a->s->arg, id, p);
}

static void alone_done(void *arg, uint64_t id, struct result *res,
                       const struct err *err) {
    struct alone *a = arg;
    (void)id;
    *a->res = *res;
    a->rc = err ? err_set(a->err, err->code, "%s", err->msg) : 0;
}

/* As many pages as the request can want, or as the memory has room for; one
 * sequence has to fit. 0 = the request is not valid. */
static int32_t alone_pages(const struct sampler *s, const struct policy *p,
                           const struct op_sample *op, struct err *err) {
    struct req *r = req_new(s, p, NULL, op, INT32_MAX, err);
    if (!r)
        return 0;
    int64_t len = (int64_t)r->prompt.n + r->max_new;
    int64_t each = (len + KERN_PAGE - 1) / KERN_PAGE, all = each * op->n;
    int64_t room = sample_pages(s->model);
    req_free(r);
    return (int32_t)(all < room ? all : each > room ? each : room);
}

int32_t sample_pages(const struct model *m) {
    int64_t memory =
        (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE) / 8;
    int64_t pages = memory / kv_page_bytes(m);
    return (int32_t)(pages < 64 ? 64 : pages > 1 << 18 ? 1 << 18 : pages);
}

int sample_run(const struct sampler *s, const struct policy *p,
               const struct op_sample *op, struct result *res,
               struct err *err) {
    struct alone a = {.s = s, .res = res, .err = err};
    int32_t pages = alone_pages(s, p, op, err);
    if (pages == 0)
        return -1;
    struct sched_opts o = {.s = *s, .done = alone_done, .pages = pages};
    o.s.arg = &a;
    o.s.partial = s->partial ? alone_partial : NULL;
    o.no_prefix = true;
    struct sched *sched = sched_new(&o, err);
    if (!sched)
        return -1;
    a.rc = sched_add(sched, 0, 0, p, NULL, op, err);
    while (a.rc == 0 && sched_step(sched))
        ;
    sched_free(sched);
    return a.rc;
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
