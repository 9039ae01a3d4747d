/*
 * net: the forward pass, once, for packed sequences (trainer) and for a paged
 * cache (sampler); the chunked head; the backward pass.
 * Invariants: 1. both ways through a layer call the same kernels on a row, so
 * a row's bits depend on its sequence and the weights only; 2. gradients
 * accumulate as chains in row order, so splitting a batch changes nothing;
 * 3. buffers only grow; in the steady state nothing is allocated.
 * A failed kernel is remembered in net.rc and reported once at the end.
 */
#include "core/model/int.h"

#include <stdlib.h>
#include <string.h>

#define NET_HEAD_FLOATS (16 << 20) /* logits held at once */
#define NET_HEAD_ROWS 512

void kn(struct net *n, int rc) {
    if (n->rc == KERN_OK)
        n->rc = rc;
}

static int net_done(struct net *n, const char *what, struct err *err) {
    int rc = n->rc;
    n->rc = KERN_OK;
    return rc ? err_kern(err, rc, what) : 0;
}

/* Row lengths that follow from the configuration. */
static void net_shape(struct net *n) {
    const struct conf *c = n->c;
    int64_t hd = (int64_t)c->H * c->D, kd = (int64_t)c->K * c->D;
    bool fused = c->has & HAS_FUSED_QKV;
    n->ldq = fused ? hd + 2 * kd : hd;
    n->ldk = fused ? hd + 2 * kd : kd;
    n->ldg = c->has & HAS_FUSED_MLP ? 2 * (int64_t)c->F : c->F;
}

struct net *net_new(const struct model *m, struct kern *k, struct err *err) {
    struct net *n = calloc(1, sizeof *n);
    CHECK(n, "out of memory for a net");
    n->model = m;
    n->c = model_conf(m);
    n->kern = k;
    const struct conf *c = n->c;
    net_shape(n);
    n->acts = calloc((size_t)c->L, sizeof *n->acts);
    n->first = calloc((size_t)c->L * ((size_t)c->E + 1), sizeof *n->first);
    CHECK(n->acts && n->first, "out of memory for a net");
    (void)err;
    return n;
}

void net_free(struct net *n) {
    if (!n)
        return;
    void *dev[] = {n->keep.dev, n->work.dev, n->ints};
    rope_release(n);
    for (size_t i = 0; i < sizeof dev / sizeof *dev; i++)
        if (dev[i])
            n->kern->ops->free(n->kern, dev[i]);
    free(n->acts);
    free(n->row);
    free(n->first);
    free(n->host);
    free(n);
}

/* ---- space ---- */

float *space_take(struct space *s, int64_t floats) {
    float *at = s->dev ? s->dev + s->used : NULL;
    s->used += (floats + 15) & ~(int64_t)15;
    return at;
}

/* Carves twice: once to learn the size, once for real. */
static int space_fit(struct net *n, struct space *s, struct err *err) {
    if (s->used <= s->cap)
        return 0;
    if (s->dev)
        n->kern->ops->free(n->kern, s->dev);
    s->cap = 0;
    s->dev = n->kern->ops->alloc(n->kern, (size_t)s->used * sizeof(float));
    if (!s->dev)
        return err_set(err, ERR_NOMEM,
                       "no memory for %lld MiB of activations (make "
                       "batch_size or max_length smaller)",
                       (long long)(s->used >> 18));
    s->cap = s->used;
    return 0;
}

/* What any layer has. */
static uint32_t net_any(const struct net *n) {
    uint32_t any = 0;
    for (int l = 0; l < n->c->L; l++)
        any |= conf_layer_has(n->c, l);
    return any;
}

/* Without keep all layers use the same activations, x apart: it is the
 * residual that the next layer writes. */
static void carve_keep(struct net *n, int64_t T, int32_t R, bool keep) {
    uint32_t any = net_any(n);
    n->keep.used = 0;
    acts_share(n, any, T);
    for (int l = 0; l < n->c->L; l++)
        if (l == 0 || keep)
            acts_carve(n, &n->acts[l], keep ? conf_layer_has(n->c, l) : any, T,
                       R);
        else
            n->acts[l] = n->acts[0];
    for (int l = 0; n->first && l < n->c->L; l++)
        n->acts[l].first = n->first + (int64_t)l * (n->c->E + 1);
    n->xe = space_take(&n->keep, T * n->c->top * n->c->C);
    n->xf = space_take(&n->keep, T * n->c->C);
    n->hf = space_take(&n->keep, T * n->c->C);
    n->rstdf = space_take(&n->keep, T);
    if (!keep && n->c->L > 1)
        for (int l = 1; l < n->c->L; l += 2)
            n->acts[l].x = n->xf; /* two residuals in turn */
}

static int host_fit(struct net *n, int64_t want, struct err *err) {
    if (want <= n->host_cap)
        return 0;
    free(n->host);
    n->host_cap = 0;
    n->host = malloc((size_t)want * sizeof *n->host);
    if (!n->host)
        return err_set(err, ERR_NOMEM, "no memory for %lld token ids",
                       (long long)want);
    n->host_cap = want;
    return 0;
}

static int net_space(struct net *n, int64_t T, int32_t R, bool keep,
                     struct err *err) {
    carve_keep(n, T, R, keep);
    if (space_fit(n, &n->keep, err) < 0 ||
        host_fit(n, 3 * T * n->c->top, err) < 0)
        return -1;
    carve_keep(n, T, R, keep);
    return 0;
}

static int net_ints(struct net *n, int64_t want, struct err *err) {
    if (want <= n->ints_cap)
        return 0;
    if (n->ints)
        n->kern->ops->free(n->kern, n->ints);
    n->ints_cap = 0;
    n->ints = n->kern->ops->alloc(n->kern, (size_t)want * sizeof *n->ints);
    if (!n->ints)
        return err_kern(err, KERN_ENOMEM, "token ids");
    n->ints_cap = want;
    return 0;
}

static int32_t *put_ints(struct net *n, int32_t **at, const int32_t *host,
                         int64_t count) {
    int32_t *dev = *at;
    kn(n,
       n->kern->ops->copy_in(n->kern, dev, host, (size_t)count * sizeof *host));
    *at += count;
    return dev;
}

/* Embedding, layers, last norm; with a cache or without. */
static void net_layers(struct net *n, const struct policy *p, struct kv *kv,
                       int32_t max_blocks) {
    const struct conf *c = n->c;
    const struct weight *e =
        &p->weights->w[model_index(n->model, SLOT_EMBED, -1)];
    kn(n, n->kern->ops->embed(n->kern, &(struct kern_embed){
                                           .T = n->T,
                                           .C = c->C,
                                           .V = c->V,
                                           .tokens = n->d_tokens,
                                           .table = e->dev,
                                           .tt = e->dtype,
                                           .scale = c->embed_scale,
                                           .y = n->acts[0].x,
                                       }));
    for (int l = 0; l < c->L; l++)
        layer_forward(n, p, l, l + 1 < c->L ? n->acts[l + 1].x : n->xf, kv,
                      max_blocks);
    norm_forward(n, small_at(n, p, SLOT_NORM, -1), n->xf, n->T, c->C, n->hf,
                 n->rstdf);
}

static int check_tokens(const struct net *n, const int32_t *tokens, int32_t T,
                        struct err *err) {
    for (int32_t t = 0; t < T; t++)
        if (tokens[t] < 0 || tokens[t] >= n->c->V)
            return err_set(err, ERR_INVAL,
                           "token %d at position %d: the vocabulary has %d",
                           tokens[t], t, n->c->V);
    return 0;
}

int net_pass(struct net *n, const struct policy *p, const struct net_batch *b,
             bool keep, struct err *err) {
    int32_t R = p->adapter ? p->adapter->conf.rank : 0;
    n->T = b->T;
    n->n_seq = b->n_seq;
    n->max_len = 0;
    for (int32_t s = 0; s < b->n_seq; s++)
        if (b->start[s + 1] - b->start[s] > n->max_len)
            n->max_len = b->start[s + 1] - b->start[s];
    if (check_tokens(n, b->tokens, b->T, err) < 0 ||
        rope_fit(n, n->max_len, err) < 0 ||
        net_space(n, b->T, R, keep, err) < 0 ||
        net_ints(n, 2 * (int64_t)b->T + b->n_seq + 1, err) < 0)
        return -1;
    int32_t *pos = malloc(((size_t)b->T + 1) * sizeof *pos), *at = n->ints;
    CHECK(pos, "out of memory for positions");
    for (int32_t s = 0; s < b->n_seq; s++)
        for (int32_t t = b->start[s]; t < b->start[s + 1]; t++)
            pos[t] = t - b->start[s];
    n->d_tokens = put_ints(n, &at, b->tokens, b->T);
    n->d_pos = put_ints(n, &at, pos, b->T);
    n->d_start = put_ints(n, &at, b->start, b->n_seq + 1);
    free(pos);
    net_layers(n, p, NULL, 0);
    return net_done(n, "forward pass", err);
}

/* ---- the head ---- */

static int32_t head_rows(const struct net *n, int32_t T) {
    int32_t rows = NET_HEAD_FLOATS / n->c->V;
    rows = rows < 16 ? 16 : rows > NET_HEAD_ROWS ? NET_HEAD_ROWS : rows;
    return rows < T ? rows : T;
}

struct head_space {
    float *logits, *s, *ds, *lse, *lp, *g, *dh;
    float *capped; /* the logits again, for the cap's backward pass */
    int32_t *targets;
};

static void carve_head(struct net *n, struct head_space *h, int64_t rows,
                       int32_t k, int32_t R, int64_t dh_rows) {
    n->work.used = 0;
    h->dh = space_take(&n->work, dh_rows * n->c->C);
    h->logits = space_take(&n->work, rows * n->c->V);
    h->capped =
        n->c->final_cap > 0 ? space_take(&n->work, rows * n->c->V) : NULL;
    h->s = space_take(&n->work, rows * R);
    h->ds = space_take(&n->work, rows * R);
    h->lse = space_take(&n->work, rows);
    h->lp = space_take(&n->work, rows * k);
    h->g = space_take(&n->work, rows * k);
    h->targets = (int32_t *)space_take(&n->work, rows * k);
}

static int head_space(struct net *n, struct head_space *h, int64_t rows,
                      int32_t k, int32_t R, int64_t dh_rows, struct err *err) {
    carve_head(n, h, rows, k, R, dh_rows);
    if (space_fit(n, &n->work, err) < 0)
        return -1;
    carve_head(n, h, rows, k, R, dh_rows);
    return 0;
}

static struct kern_xent xent_args(const struct net *n,
                                  const struct head_space *w, int32_t rows,
                                  int32_t k) {
    return (struct kern_xent){.rows = rows,
                              .V = n->c->V,
                              .k = k,
                              .logits = w->logits,
                              .ld = n->c->V,
                              .targets = w->targets,
                              .logprobs = w->lp,
                              .lse = w->lse,
                              .g = w->g};
}

/* Logits and logprobs of `rows` hidden rows x. */
static void head_logprobs(struct net *n, const struct map *m,
                          struct head_space *w, const float *x, int32_t rows,
                          int32_t k, const int32_t *targets, float *logprobs) {
    const struct kern_ops *ops = n->kern->ops;
    size_t bytes = (size_t)rows * (size_t)k * sizeof(float);
    map_forward(n, m, x, rows, w->logits, w->s);
    if (n->c->final_cap > 0)
        kn(n, ops->cap(n->kern, &(struct kern_cap){
                                    .n = (int64_t)rows * n->c->V,
                                    .cap = n->c->final_cap,
                                    .x = w->logits,
                                }));
    kn(n, ops->copy_in(n->kern, w->targets, targets, bytes));
    struct kern_xent a = xent_args(n, w, rows, k);
    kn(n, ops->xent(n->kern, &a));
    kn(n, ops->copy_out(n->kern, logprobs, w->lp, bytes));
}

/* Logits become their gradient, before the cap. */
static void head_gradient(struct net *n, struct head_space *w, int32_t rows,
                          int32_t k) {
    const struct kern_ops *ops = n->kern->ops;
    struct kern_xent a = xent_args(n, w, rows, k);
    int64_t count = (int64_t)rows * n->c->V;
    if (w->capped)
        kn(n, ops->copy(n->kern, w->capped, w->logits,
                        (size_t)count * sizeof(float)));
    kn(n, ops->xent_bwd(n->kern, &a));
    if (w->capped)
        kn(n, ops->cap_bwd(n->kern, &(struct kern_cap){
                                        .n = count,
                                        .cap = n->c->final_cap,
                                        .x = w->capped,
                                        .dx = w->logits,
                                    }));
}

static int head_chunk(struct net *n, const struct map *m,
                      const struct net_head *h, struct head_space *w,
                      int32_t first, int32_t rows, float *g, struct err *err) {
    const struct kern_ops *ops = n->kern->ops;
    const float *x = n->hf + (int64_t)first * n->c->C;
    int64_t at = (int64_t)first * h->k, count = (int64_t)rows * h->k;
    head_logprobs(n, m, w, x, rows, h->k, h->targets + at, h->logprobs + at);
    if (!h->loss || n->rc)
        return 0;
    if (h->loss(h->arg, first, rows, h->logprobs + at, g, err) < 0)
        return -1;
    float *dh = w->dh + (int64_t)first * n->c->C;
    bool zero = true;
    for (int64_t i = 0; i < count; i++)
        zero &= g[i] == 0.0f;
    if (zero) { /* exact: these rows would add zeros */
        kn(n,
           ops->zero(n->kern, dh, (size_t)rows * (size_t)n->c->C * sizeof *dh));
        return 0;
    }
    kn(n, ops->copy_in(n->kern, w->g, g, (size_t)count * sizeof *g));
    head_gradient(n, w, rows, h->k);
    map_backward(n, m, h->grads, x, w->s, w->logits, rows, dh, false, w->ds);
    return 0;
}

int net_head(struct net *n, const struct policy *p, const struct net_head *h,
             struct err *err) {
    struct map m = map_at(n, p, SLOT_HEAD, -1);
    struct head_space w;
    int32_t rows = head_rows(n, n->T);
    if (head_space(n, &w, rows, h->k, m.R, h->loss ? n->T : 0, err) < 0)
        return -1;
    n->dh = w.dh;
    float *g = malloc(((size_t)rows * (size_t)h->k + 1) * sizeof *g);
    CHECK(g, "out of memory for a chunk");
    int rc = check_tokens(n, h->targets, n->T * h->k, err);
    for (int32_t t = 0; rc == 0 && t < n->T; t += rows)
        rc = head_chunk(n, &m, h, &w, t, n->T - t < rows ? n->T - t : rows, g,
                        err);
    free(g);
    return rc < 0 ? -1 : net_done(n, "loss head", err);
}

/* ---- backward ---- */

/* Behind dh (T,C), which net_head left at the start of the work space. */
static void carve_back(struct net *n, struct back *b, int64_t T, int32_t R) {
    n->work.used = 0;
    n->dh = space_take(&n->work, T * n->c->C);
    back_carve(n, b, net_any(n), T, R);
}

/* The work space grows without losing dh. */
static int back_space(struct net *n, struct back *b, int32_t R,
                      struct err *err) {
    struct space old = n->work;
    carve_back(n, b, n->T, R);
    if (n->work.used <= old.cap)
        return 0;
    size_t dh = (size_t)n->T * (size_t)n->c->C * sizeof(float);
    n->work.dev = NULL;
    n->work.cap = 0;
    int rc = space_fit(n, &n->work, err);
    if (rc == 0) {
        kn(n, n->kern->ops->copy(n->kern, n->work.dev, old.dev, dh));
        carve_back(n, b, n->T, R);
    }
    n->kern->ops->free(n->kern, old.dev);
    return rc;
}

int net_backward(struct net *n, const struct policy *p, struct net_grads *g,
                 struct err *err) {
    struct back b;
    const struct conf *c = n->c;
    if (back_space(n, &b, p->adapter ? p->adapter->conf.rank : 0, err) < 0)
        return -1;
    norm_backward(n, p, g, SLOT_NORM, -1, n->xf, n->rstdf, n->dh, n->T, c->C,
                  b.dx, false);
    for (int l = c->L - 1; l >= 0; l--)
        layer_backward(n, p, l, g, &b);
    if (g->weights)
        kn(n, n->kern->ops->embed_bwd(
                  n->kern,
                  &(struct kern_embed){
                      .T = n->T,
                      .C = c->C,
                      .V = c->V,
                      .tokens = n->d_tokens,
                      .scale = c->embed_scale,
                      .skip = c->pad,
                      .dy = b.dx,
                      .dtable = g->lookup ? g->lookup
                                          : small_grad(n, g, SLOT_EMBED, -1),
                  }));
    return net_done(n, "backward pass", err);
}

/* ---- sizes ---- */

/* The same carving as for real, so that the sizes are the true ones. */
static void carve_train(struct net *n, int32_t T, int32_t R, int32_t k,
                        bool keep) {
    struct head_space h;
    struct back b;
    carve_keep(n, T, R, keep);
    carve_head(n, &h, head_rows(n, T), k, R, keep ? T : 0);
    int64_t head = n->work.used;
    if (keep)
        carve_back(n, &b, T, R);
    n->work.used = head > n->work.used ? head : n->work.used;
}

struct net_size net_bytes(const struct conf *c, int32_t T, int32_t R, int32_t k,
                          bool keep) {
    struct net n = {.c = c, .acts = calloc((size_t)c->L, sizeof *n.acts)};
    CHECK(n.acts, "out of memory for a net");
    net_shape(&n);
    carve_train(&n, T, R, k, keep);
    free(n.acts);
    return (struct net_size){n.keep.used * (int64_t)sizeof(float),
                             n.work.used * (int64_t)sizeof(float)};
}

int net_reserve(struct net *n, int32_t T, int32_t R, int32_t k, bool keep,
                struct err *err) {
    carve_train(n, T, R, k, keep);
    return space_fit(n, &n->keep, err) < 0 || space_fit(n, &n->work, err) < 0 ||
                   host_fit(n, (int64_t)3 * T * n->c->top, err) < 0
               ? -1
               : 0;
}

/* ---- the sampler's step ---- */

/* Gives the rows that lie in w one by one to who wants them. */
static void step_give(struct net *n, const struct head_space *w,
                      const struct net_step *s, int32_t i, int32_t count,
                      const float *lp) {
    const struct kern_ops *ops = n->kern->ops;
    float lse[NET_HEAD_ROWS];
    size_t V = (size_t)n->c->V;
    kn(n, ops->copy_out(n->kern, lse, w->lse, (size_t)count * sizeof *lse));
    for (int32_t j = 0; j < count && n->rc == KERN_OK; j++) {
        if (s->full[i + j])
            kn(n, ops->copy_out(n->kern, n->row, w->logits + (size_t)j * V,
                                V * sizeof(float)));
        if (n->rc == KERN_OK)
            s->row(s->arg, i + j, s->full[i + j] ? n->row : NULL, lse[j],
                   lp[j]);
    }
}

/* Rows i … i+count of s, gathered behind each other. */
static void step_chunk(struct net *n, const struct map *m, struct head_space *w,
                       const struct net_step *s, int32_t i, int32_t count,
                       int32_t *zeros, float *lp) {
    const struct kern_ops *ops = n->kern->ops;
    size_t row = (size_t)n->c->C * sizeof(float);
    for (int32_t j = 0; j < count; j++)
        kn(n, ops->copy(n->kern, w->dh + (int64_t)j * n->c->C,
                        n->hf + (int64_t)s->rows[i + j] * n->c->C, row));
    head_logprobs(n, m, w, w->dh, count, 1, s->targets ? s->targets + i : zeros,
                  s->logprobs ? s->logprobs + i : lp);
    if (s->row)
        step_give(n, w, s, i, count, s->logprobs ? s->logprobs + i : lp);
    if (s->lse)
        kn(n, ops->copy_out(n->kern, s->lse + i, w->lse,
                            (size_t)count * sizeof(float)));
    if (s->logits)
        kn(n,
           ops->copy_out(n->kern, s->logits + (int64_t)i * n->c->V, w->logits,
                         (size_t)count * (size_t)n->c->V * sizeof(float)));
}

static int step_rows(struct net *n, const struct policy *p,
                     const struct net_step *s, struct err *err) {
    struct map m = map_at(n, p, SLOT_HEAD, -1);
    struct head_space w;
    int32_t rows = head_rows(n, s->n_rows), zeros[NET_HEAD_ROWS] = {0};
    float lp[NET_HEAD_ROWS];
    if (s->n_rows == 0)
        return 0;
    if (s->row && !n->row)
        n->row = malloc((size_t)n->c->V * sizeof *n->row);
    if (s->row && !n->row)
        return err_set(err, ERR_NOMEM, "no memory for a row of logits");
    if (head_space(n, &w, rows, 1, m.R, rows, err) < 0)
        return -1;
    for (int32_t i = 0; i < s->n_rows; i += rows)
        step_chunk(n, &m, &w, s, i, s->n_rows - i < rows ? s->n_rows - i : rows,
                   zeros, lp);
    return 0;
}

int net_step(struct net *n, const struct policy *p, struct kv *kv,
             const struct net_step *s, struct err *err) {
    int32_t R = p->adapter ? p->adapter->conf.rank : 0, last = 0;
    for (int32_t t = 0; t < s->T; t++)
        last = s->pos[t] > last ? s->pos[t] : last;
    int64_t cells = (int64_t)s->n_seq * s->max_blocks;
    n->T = s->T;
    n->n_seq = 0;
    if (check_tokens(n, s->tokens, s->T, err) < 0 ||
        (s->targets && check_tokens(n, s->targets, s->n_rows, err) < 0) ||
        rope_fit(n, last + 1, err) < 0 ||
        net_space(n, s->T, R, false, err) < 0 ||
        net_ints(n, 3 * (int64_t)s->T + cells, err) < 0)
        return -1;
    int32_t *at = n->ints;
    n->d_tokens = put_ints(n, &at, s->tokens, s->T);
    n->d_pos = put_ints(n, &at, s->pos, s->T);
    n->d_seq = put_ints(n, &at, s->seq, s->T);
    n->d_table = put_ints(n, &at, s->table, cells);
    net_layers(n, p, kv, s->max_blocks);
    if (step_rows(n, p, s, err) < 0)
        return -1;
    return net_done(n, "decode step", err);
}
