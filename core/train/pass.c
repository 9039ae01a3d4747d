/* pass: a pass over datums, pack by pack: forward (unless its activations are
 * parked), head with the losses, backward. */
#include "core/train/int.h"

#include <stdlib.h>
#include <string.h>

static void pass_logprobs(struct result *res, const struct op_pass *op,
                          const struct pack *p, const float *lp) {
    for (uint32_t i = p->first; i < p->end; i++) {
        size_t n = (size_t)op->datums[i].n * op->datums[i].k;
        res->logprobs_len[i] = (uint32_t)n;
        res->logprobs[i] = malloc((n + 1) * sizeof *lp);
        CHECK(res->logprobs[i], "out of memory for logprobs");
        memcpy(res->logprobs[i],
               lp + (size_t)p->start[i - p->first] * (size_t)p->k,
               n * sizeof *lp);
    }
}

/* A slot that holds p's activations; those of a pass without backward may be
 * gone, and s->is_parked says so. NULL and an error. */
static struct parked *pass_forward(struct trainer *tr, const struct pack *p,
                                   bool backward, struct err *err) {
    struct parked *s = park_find(tr, p);
    if (s)
        return s;
    struct policy policy = trainer_policy(tr);
    struct net_batch b = {p->T, p->n_seq, p->tokens, p->start};
    int32_t R = tr->adapter ? tr->adapter->conf.rank : 0;
    bool keep = backward;
    s = park_take(tr, p, &keep, err);
    if (!s || net_reserve(s->net, p->T, R, p->k, keep, err) < 0 ||
        net_pass(s->net, &policy, &b, keep, err) < 0)
        return NULL;
    tr->forwards++;
    if (keep)
        park_mark(tr, s, p);
    return s;
}

static int pass_losses(struct trainer *tr, const float *lp,
                       const struct pack *p, struct err *err) {
    float *g = malloc(((size_t)p->T * (size_t)p->k + 1) * sizeof *g);
    CHECK(g, "out of memory for losses");
    int rc = losses_chunk(&tr->losses, 0, p->T, lp, g, err);
    free(g);
    return rc;
}

/* Logprobs, losses, and with backward the gradients. A loss of whole sequences
 * needs all logprobs first, so its head runs twice. */
static int pass_head(struct trainer *tr, struct parked *s, struct pack *p,
                     bool backward, float *lp, struct err *err) {
    struct policy policy = trainer_policy(tr);
    const struct op_pass *op = tr->losses.op;
    struct net_grads g = trainer_grads(tr);
    struct net_head h = {.k = p->k, .targets = p->targets, .logprobs = lp};
    bool is_first = !backward || op->loss == LOSS_GSPO;
    if (is_first && net_head(s->net, &policy, &h, err) < 0)
        return -1;
    if (op->loss == LOSS_GSPO)
        losses_ratios(op, p, lp);
    if (!backward)
        return pass_losses(tr, lp, p, err);
    h.loss = losses_chunk;
    h.arg = &tr->losses;
    h.grads = &g;
    if (net_head(s->net, &policy, &h, err) < 0)
        return -1;
    s->is_parked = false; /* used up, and the next pack's */
    lookup_mark(tr, p->tokens, p->T);
    return net_backward(s->net, &policy, &g, err);
}

static int pass_pack(struct trainer *tr, struct pack *p, bool backward,
                     struct result *res, struct err *err) {
    float *lp = malloc(((size_t)p->T * (size_t)p->k + 1) * sizeof *lp);
    CHECK(lp, "out of memory for logprobs");
    struct parked *s = pass_forward(tr, p, backward, err);
    int rc = s ? pass_head(tr, s, p, backward, lp, err) : -1;
    if (rc == 0)
        pass_logprobs(res, tr->losses.op, p, lp);
    free(lp);
    return rc;
}

int trainer_pass(struct trainer *tr, const struct op_pass *op, bool backward,
                 struct result *res, struct err *err) {
    if (pack_check(op, model_conf(tr->model), err) < 0)
        return -1;
    struct pack p = {0};
    int64_t tokens = 0;
    int rc = 0;
    res->n_logprobs = op->n;
    res->logprobs = calloc((size_t)op->n + 1, sizeof *res->logprobs);
    res->logprobs_len = calloc((size_t)op->n + 1, sizeof *res->logprobs_len);
    CHECK(res->logprobs && res->logprobs_len, "out of memory for logprobs");
    tr->losses.op = op;
    tr->losses.pack = &p;
    tr->losses.sum = 0;
    tr->losses.n_loss = 0;
    while (rc == 0 && pack_next(&p, op, tr->micro)) {
        tokens += p.T;
        if (backward)
            tr->pending = true;
        if (p.T > 0)
            rc = pass_pack(tr, &p, backward, res, err);
    }
    pack_release(&p);
    if (rc < 0) {
        struct err ignored = {0};
        park_drop(tr);
        if (backward && trainer_clear(tr, &ignored) == 0)
            err_ctx(err, "pass failed, accumulated gradients dropped");
        result_release(res);
        return -1;
    }
    result_metric(res, "loss:sum", tr->losses.sum);
    result_metric(res, "num_tokens:sum", (double)tokens);
    result_metric(res, "num_loss_tokens:sum", (double)tr->losses.n_loss);
    return 0;
}
