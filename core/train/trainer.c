/*
 * trainer: parameters, gradients and moments in blocks of one layout; the
 * optimizer. Weights change only in trainer_optim and trainer_write, and both
 * drop parked activations.
 */
#include "core/train/int.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct train_param *param_add(struct trainer *tr, int rank, int64_t rows,
                                     int64_t cols, int64_t offset) {
    struct train_param *p = &tr->param[tr->n++];
    p->rank = rank;
    p->shape[0] = rows;
    p->shape[1] = cols;
    p->count = rows * cols;
    p->offset = offset;
    return p;
}

static void params_full(struct trainer *tr) {
    for (int i = 0; i < model_count(tr->model); i++) {
        const struct weight_info *w = model_info(tr->model, i);
        struct train_param *p = param_add(tr, w->rank, w->rows, w->cols,
                                          model_offset(tr->model, i));
        memcpy(p->shape, w->shape, sizeof w->shape);
        snprintf(p->name, sizeof p->name, "%s", w->name);
        p->has_lookup = tr->lookup_floats > 0 && w->slot == SLOT_EMBED;
    }
}

static void params_lora(struct trainer *tr) {
    int64_t R = tr->adapter->conf.rank;
    for (int i = 0; i < tr->adapter->n; i++) {
        const struct lora_pair *p = &tr->adapter->pair[i];
        struct train_param *a = param_add(tr, 2, R, p->in, p->a_at);
        struct train_param *b = param_add(tr, 2, p->out, R, p->b_at);
        snprintf(a->name, sizeof a->name, "%s.lora_A.weight", p->name);
        snprintf(b->name, sizeof b->name, "%s.lora_B.weight", p->name);
    }
}

float *block_new(struct trainer *tr, int64_t floats, struct err *err) {
    size_t bytes = (size_t)floats * sizeof(float);
    float *dev = tr->kern->ops->alloc(tr->kern, bytes);
    if (dev && tr->kern->ops->release(tr->kern, dev, bytes) == KERN_OK)
        return dev;
    err_set(err, ERR_NOMEM, "training state: no memory for %lld MiB",
            (long long)(floats >> 18));
    return NULL;
}

static int trainer_fp32(struct trainer *tr, struct err *err) {
    tr->w = block_new(tr, tr->floats, err);
    if (!tr->w || model_widen(tr->model, tr->kern, tr->w, err) < 0)
        return -1;
    for (int i = 0; i < tr->n; i++)
        tr->weights.w[i] =
            (struct weight){tr->w + tr->param[i].offset, KERN_F32};
    return 0;
}

/* ---- gradients ---- */

static int lookup_init(struct trainer *tr, struct err *err) {
    size_t V = (size_t)model_conf(tr->model)->V;
    tr->rows = malloc(V * sizeof *tr->rows);
    tr->has_row = calloc(V, sizeof *tr->has_row);
    CHECK(tr->rows && tr->has_row, "out of memory for a trainer");
    tr->g_lookup = block_new(tr, tr->lookup_floats, err);
    tr->d_rows = (int32_t *)block_new(tr, (int64_t)V, err);
    if (!tr->g_lookup || !tr->d_rows)
        return -1;
    /* a row for each token that occurs */
    tr->kern->ops->sparse(tr->kern, tr->g_lookup,
                          (size_t)tr->lookup_floats * sizeof(float));
    return 0;
}

void lookup_mark(struct trainer *tr, const int32_t *tokens, int32_t n) {
    for (int32_t i = 0; tr->g_lookup && i < n; i++)
        if (!tr->has_row[tokens[i]]) {
            tr->has_row[tokens[i]] = true;
            tr->rows[tr->n_rows++] = tokens[i];
        }
}

static void lookup_mark_all(struct trainer *tr) {
    int32_t V = model_conf(tr->model)->V;
    for (int32_t v = 0; v < V; v++)
        lookup_mark(tr, &v, 1);
}

/* Adds g_lookup's rows to the embedding's gradient; then it is 0. */
static int lookup_fold(struct trainer *tr) {
    const struct kern_ops *ops = tr->kern->ops;
    if (!tr->g_lookup)
        return KERN_OK;
    int64_t at =
        model_offset(tr->model, model_index(tr->model, SLOT_EMBED, -1));
    int rc = ops->copy_in(tr->kern, tr->d_rows, tr->rows,
                          (size_t)tr->n_rows * sizeof *tr->rows);
    if (rc == KERN_OK)
        rc = ops->fold(tr->kern, &(struct kern_fold){
                                     .n = tr->n_rows,
                                     .C = model_conf(tr->model)->C,
                                     .rows = tr->d_rows,
                                     .y = tr->g + at,
                                     .x = tr->g_lookup,
                                 });
    while (rc == KERN_OK && tr->n_rows > 0)
        tr->has_row[tr->rows[--tr->n_rows]] = false;
    return rc;
}

struct net_grads trainer_grads(const struct trainer *tr) {
    return (struct net_grads){.weights = tr->adapter ? NULL : tr->g,
                              .lookup = tr->g_lookup,
                              .adapter = tr->adapter ? tr->g : NULL,
                              .unset = tr->unset};
}

/* Zeros for what no pass has written to; before anything reads gradients. */
static int grads_settle(struct trainer *tr) {
    struct net_grads g = trainer_grads(tr);
    int rc = KERN_OK;
    for (int i = 0; tr->unset && rc == KERN_OK && i < tr->n; i++)
        rc = net_grad_set(tr->model, tr->kern, &g, i);
    return rc;
}

int trainer_clear(struct trainer *tr, struct err *err) {
    int rc = lookup_fold(tr); /* empties it */
    if (tr->unset)
        memset(tr->unset, true, (size_t)tr->n * sizeof *tr->unset);
    else if (rc == KERN_OK)
        rc = tr->kern->ops->zero(tr->kern, tr->g,
                                 (size_t)tr->floats * sizeof(float));
    tr->pending = false;
    return rc ? err_kern(err, rc, "clear gradients") : 0;
}

static int trainer_full(struct trainer *tr, struct err *err) {
    const struct conf *c = model_conf(tr->model);
    tr->floats = model_floats(tr->model);
    tr->lookup_floats = c->tied ? (int64_t)c->V * c->C : 0;
    tr->weights.model = tr->model;
    tr->weights.w =
        calloc((size_t)model_count(tr->model) + 1, sizeof *tr->weights.w);
    CHECK(tr->weights.w, "out of memory for weights");
    params_full(tr);
    tr->unset = malloc((size_t)tr->n * sizeof *tr->unset);
    CHECK(tr->unset, "out of memory for a trainer");
    memset(tr->unset, true, (size_t)tr->n * sizeof *tr->unset);
    if (c->tied && lookup_init(tr, err) < 0)
        return -1;
    return tr->op.tuning == TUNE_BF16 ? words_init(tr, err)
                                      : trainer_fp32(tr, err);
}

static struct lora_conf lora_of(const struct op_create *op) {
    return (struct lora_conf){.rank = (int32_t)op->lora_rank,
                              .alpha = op->lora_alpha,
                              .attn = op->train_attn,
                              .mlp = op->train_mlp,
                              .unembed = op->train_unembed};
}

static int trainer_lora(struct trainer *tr, struct err *err) {
    if (tr->op.tuning != TUNE_FP32)
        return err_set(err, ERR_INVAL,
                       "precision %s is for full tuning (lora_rank 0): an "
                       "adapter is f32 over the weights as they are stored",
                       tuning_name(tr->op.tuning));
    struct lora_conf c = lora_of(&tr->op);
    tr->adapter = adapter_new(tr->model, tr->kern, &c, tr->op.seed, err);
    if (!tr->adapter)
        return -1;
    tr->floats = tr->adapter->floats;
    tr->w = tr->adapter->dev;
    params_lora(tr);
    return 0;
}

static char *copy_text(const char *s) {
    char *c = strdup(s ? s : "");
    CHECK(c, "out of memory for a name");
    return c;
}

/* Refuses what cannot fit before anything is allocated: memory that is only
 * promised kills the process later. Decides the size of micro-batches. */
static int trainer_plan(struct trainer *tr, struct err *err) {
    int64_t memory = plan_memory();
    struct plan_job job = {lora_of(&tr->op), 1, 1};
    struct plan p;
    plan_make(tr->model, &job, memory, &p);
    if (plan_check(&p, &job, err) < 0)
        return -1;
    tr->micro =
        plan_micro(tr->model, (int32_t)tr->op.lora_rank, memory - p.total);
    int64_t park = memory / 8;
    tr->buffers =
        buffers_new(tr->model, tr->kern,
                    park < TRAIN_PARK_BYTES ? park : TRAIN_PARK_BYTES, err);
    return 0;
}

struct trainer *trainer_new(const struct model *m, struct kern *k,
                            const struct op_create *op, struct err *err) {
    if (op->lora_rank > 4096) {
        err_set(err, ERR_INVAL, "lora_rank %u: 0 (full tuning) to 4096",
                op->lora_rank);
        return NULL;
    }
    struct trainer *tr = calloc(1, sizeof *tr);
    CHECK(tr, "out of memory for a trainer");
    tr->model = m;
    tr->kern = tr->losses.kern = k;
    tr->op = *op;
    tr->op.base = copy_text(op->base);
    tr->op.from = copy_text(op->from);
    tr->op.renderer = copy_text(op->renderer);
    tr->param = calloc(2 * (size_t)model_count(m) + 2, sizeof *tr->param);
    CHECK(tr->param, "out of memory for a trainer");
    tr->norm = k->ops->alloc(k, sizeof *tr->norm);
    int rc = trainer_plan(tr, err);
    if (rc == 0)
        rc = op->lora_rank ? trainer_lora(tr, err) : trainer_full(tr, err);
    if (rc == 0 && tr->norm && (tr->g = block_new(tr, tr->floats, err)) &&
        (tr->m = block_new(tr, tr->floats, err)) &&
        (tr->v = block_new(tr, tr->floats, err)))
        return tr;
    trainer_free(tr);
    return NULL;
}

void trainer_free(struct trainer *tr) {
    if (!tr)
        return;
    void *dev[] = {tr->g,     tr->m,        tr->v,
                   tr->norm,  tr->g_lookup, tr->adapter ? NULL : tr->w,
                   tr->hi,    tr->lo,       tr->small,
                   tr->d_rows};
    for (size_t i = 0; i < sizeof dev / sizeof *dev; i++)
        if (dev[i])
            tr->kern->ops->free(tr->kern, dev[i]);
    losses_release(&tr->losses);
    adapter_free(tr->adapter);
    if (tr->buffers)
        park_drop(tr);
    buffers_drop(tr->buffers);
    free(tr->weights.w);
    free(tr->rows);
    free(tr->has_row);
    free(tr->unset);
    free(tr->param);
    free(tr->op.base);
    free(tr->op.from);
    free(tr->op.renderer);
    free(tr);
}

struct policy trainer_policy(const struct trainer *tr) {
    return (struct policy){.weights = tr->adapter ? model_weights(tr->model)
                                                  : &tr->weights,
                           .adapter = tr->adapter};
}

const struct op_create *trainer_op(const struct trainer *tr) { return &tr->op; }
const struct model *trainer_model(const struct trainer *tr) {
    return tr->model;
}

/* ---- the optimizer ---- */

/* Squares of larger gradients are infinite in f32, and so would v stay. */
#define OPTIM_NORM_MAX 1e18

static int optim_check(const struct op_optim *o, struct err *err) {
    bool ok = isfinite(o->lr) && o->beta1 >= 0 && o->beta1 < 1 &&
              o->beta2 >= 0 && o->beta2 < 1 && o->eps >= 0 &&
              isfinite(o->eps) && isfinite(o->weight_decay) &&
              o->grad_clip_norm >= 0 && isfinite(o->grad_clip_norm);
    return ok ? 0
              : err_set(err, ERR_INVAL,
                        "optim_step: learning_rate %g, beta1 %g, beta2 %g, eps "
                        "%g, weight_decay %g, grad_clip_norm %g: out of range",
                        o->lr, o->beta1, o->beta2, o->eps, o->weight_decay,
                        o->grad_clip_norm);
}

/* Global L2 norm: squares summed tensor by tensor, in order. */
static int optim_norm(struct trainer *tr, double *norm, struct err *err) {
    const struct kern_ops *ops = tr->kern->ops;
    double sum = 0;
    int rc = grads_settle(tr);
    if (rc == KERN_OK)
        rc = lookup_fold(tr);
    for (int i = 0; i < tr->n && rc == KERN_OK; i++) {
        double part;
        rc = ops->sumsq(tr->kern, tr->norm, tr->g + tr->param[i].offset,
                        tr->param[i].count);
        if (rc == KERN_OK)
            rc = ops->copy_out(tr->kern, &part, tr->norm, sizeof part);
        sum += rc == KERN_OK ? part : 0;
    }
    *norm = sqrt(sum);
    return rc ? err_kern(err, rc, "gradient norm") : 0;
}

static double optim_bias(double beta, double t) {
    return beta > 0 ? 1 - kern_pow(beta, t) : 1;
}

static int optim_update(struct trainer *tr, const struct op_optim *o,
                        double scale, struct err *err) {
    double t = (double)(tr->steps + 1);
    int rc = tr->kern->ops->adamw(tr->kern,
                                  &(struct kern_adamw){
                                      .n = tr->floats,
                                      .p = tr->w,
                                      .hi = tr->hi,
                                      .lo = tr->lo,
                                      .m = tr->m,
                                      .v = tr->v,
                                      .g = tr->g,
                                      .gscale = (float)scale,
                                      .lr = (float)o->lr,
                                      .beta1 = (float)o->beta1,
                                      .beta2 = (float)o->beta2,
                                      .eps = (float)o->eps,
                                      .weight_decay = (float)o->weight_decay,
                                      .bias1 = (float)optim_bias(o->beta1, t),
                                      .bias2 = (float)optim_bias(o->beta2, t),
                                  });
    if (rc)
        return err_kern(err, rc, "optimizer step");
    tr->steps++;
    return tr->hi ? words_refresh(tr, err) : 0;
}

int trainer_optim(struct trainer *tr, const struct op_optim *op,
                  struct result *res, struct err *err) {
    double norm;
    if (optim_check(op, err) < 0)
        return -1;
    if (!tr->pending) {
        result_metric(res, "skipped_empty:sum", 1);
        result_metric(res, "step:max", (double)tr->steps);
        return 0;
    }
    park_drop(tr);
    if (optim_norm(tr, &norm, err) < 0)
        return -1;
    double clip = op->grad_clip_norm;
    double scale = clip > 0 && norm > clip ? clip / (norm + 1e-6) : 1;
    bool finite = norm * scale < OPTIM_NORM_MAX;
    if (finite && optim_update(tr, op, scale, err) < 0)
        return -1;
    if (trainer_clear(tr, err) < 0)
        return -1;
    result_metric(res, "unclipped_grad_l2:mean", norm);
    result_metric(res, "grad_l2:mean", norm * scale);
    result_metric(res, "clipped:mean", scale < 1);
    result_metric(res, "lr:mean", op->lr);
    result_metric(res, "step:max", (double)tr->steps);
    result_metric(res, "skipped_nonfinite:sum", !finite);
    return 0;
}

/* ---- state ---- */

int trainer_count(const struct trainer *tr) { return tr->n; }
const struct train_param *trainer_param(const struct trainer *tr, int i) {
    return &tr->param[i];
}

static float *part_at(const struct trainer *tr, enum train_part part, int i) {
    float *blocks[TRAIN_PARTS] = {tr->w, tr->m, tr->v, tr->g};
    return part == TRAIN_GRAD_LOOKUP ? tr->g_lookup
                                     : blocks[part] + tr->param[i].offset;
}

static bool in_words(const struct trainer *tr, enum train_part part) {
    return part == TRAIN_LOW || (part == TRAIN_WEIGHTS && tr->hi);
}

int trainer_read(struct trainer *tr, enum train_part part, int i, float *host,
                 struct err *err) {
    CHECK(part != TRAIN_LOW || tr->hi, "low words of an f32 master");
    size_t bytes = (size_t)tr->param[i].count * sizeof *host;
    int rc = part == TRAIN_GRAD ? grads_settle(tr) : KERN_OK;
    if (rc == KERN_OK)
        rc = in_words(tr, part)
                 ? words_read(tr, part, i, host)
                 : tr->kern->ops->copy_out(tr->kern, host, part_at(tr, part, i),
                                           bytes);
    return rc ? err_kern(err, rc, tr->param[i].name) : 0;
}

int trainer_write(struct trainer *tr, enum train_part part, int i,
                  const float *host, struct err *err) {
    CHECK(part != TRAIN_LOW || tr->hi, "low words of an f32 master");
    size_t bytes = (size_t)tr->param[i].count * sizeof *host;
    park_drop(tr);
    if (part == TRAIN_GRAD && tr->unset)
        tr->unset[i] = false;
    if (part == TRAIN_GRAD_LOOKUP)
        lookup_mark_all(tr);
    int rc = part == TRAIN_LOW ? words_write_low(tr, i, host)
             : in_words(tr, part)
                 ? words_write(tr, i, host)
                 : tr->kern->ops->copy_in(tr->kern, part_at(tr, part, i), host,
                                          bytes);
    return rc ? err_kern(err, rc, tr->param[i].name) : 0;
}

int64_t trainer_steps(const struct trainer *tr) { return tr->steps; }
bool trainer_pending(const struct trainer *tr) { return tr->pending; }

void trainer_set(struct trainer *tr, int64_t steps, bool pending) {
    tr->steps = steps;
    tr->pending = pending;
}
