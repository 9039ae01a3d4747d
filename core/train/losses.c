/* losses: the token losses of a chunk, on the device. */
#include "core/train/int.h"

#include <string.h>

static const enum kern_loss_kind loss_kinds[LOSS_N] = {
    [LOSS_CROSS_ENTROPY] = KERN_LOSS_CE,
    [LOSS_IMPORTANCE_SAMPLING] = KERN_LOSS_IS,
    [LOSS_PPO] = KERN_LOSS_PPO,
    [LOSS_CISPO] = KERN_LOSS_CISPO,
    [LOSS_DRO] = KERN_LOSS_DRO,
    [LOSS_GSPO] = KERN_LOSS_GSPO,
};
#define LOSS_BETA 0.05f       /* dro's default */
#define LOSS_LOG_RATIO_MAX 10 /* of a sequence, as its peers cap it */

/* The log of one sequence's ratio; 0 when no token counts. */
static float sequence_ratio(const struct pack *p, const struct datum *d,
                            int64_t at, const float *lp) {
    int64_t n = (int64_t)d->n * d->k, count = 0;
    const float *counts = d->field[DATUM_WEIGHTS] ? p->w : p->A;
    double sum = 0;
    for (int64_t i = at; i < at + n; i++) {
        if (counts[i] == 0.0f) {
            p->A[i] = 0.0f;
            continue;
        }
        sum += (double)lp[i] - (double)p->q[i];
        count++;
    }
    double mean = count ? sum / (double)count : 0;
    return mean > LOSS_LOG_RATIO_MAX ? LOSS_LOG_RATIO_MAX : (float)mean;
}

void losses_ratios(const struct op_pass *op, struct pack *p, const float *lp) {
    for (uint32_t i = p->first; i < p->end; i++) {
        const struct datum *d = &op->datums[i];
        int64_t at = (int64_t)p->start[i - p->first] * p->k;
        float ratio = sequence_ratio(p, d, at, lp);
        for (int64_t j = at; j < at + (int64_t)d->n * d->k; j++)
            p->q[j] = ratio;
    }
}

static int losses_space(struct losses *l, int64_t n, struct err *err) {
    if (n <= l->cap)
        return 0;
    losses_release(l);
    l->dev = l->kern->ops->alloc(l->kern, (size_t)n * 8 * sizeof *l->dev);
    if (!l->dev)
        return err_kern(err, KERN_ENOMEM, "token losses");
    l->cap = n;
    return 0;
}

int losses_chunk(void *arg, int32_t first, int32_t rows, const float *logprobs,
                 float *g, struct err *err) {
    struct losses *l = arg;
    const struct kern_ops *ops = l->kern->ops;
    int64_t n = (int64_t)rows * l->pack->k, at = (int64_t)first * l->pack->k;
    if (losses_space(l, n, err) < 0)
        return -1;
    size_t bytes = (size_t)n * sizeof(float);
    const float *host[6] = {logprobs,         l->pack->w + at,
                            l->pack->q + at,  l->pack->A + at,
                            l->pack->lo + at, l->pack->hi + at};
    float *dev[8];
    int rc = KERN_OK;
    for (int i = 0; i < 8; i++)
        dev[i] = l->dev + i * l->cap;
    for (int i = 0; i < 6 && rc == KERN_OK; i++)
        rc = ops->copy_in(l->kern, dev[i], host[i], bytes);
    bool clips = l->op->loss == LOSS_PPO || l->op->loss == LOSS_CISPO ||
                 l->op->loss == LOSS_GSPO;
    float beta = l->op->beta == l->op->beta ? l->op->beta : LOSS_BETA;
    if (rc == KERN_OK)
        rc = ops->loss(l->kern, &(struct kern_loss){
                                    .kind = loss_kinds[l->op->loss],
                                    .n = (int32_t)n,
                                    .lp = dev[0],
                                    .w = dev[1],
                                    .q = dev[2],
                                    .A = dev[3],
                                    .lo = clips ? dev[4] : NULL,
                                    .hi = clips ? dev[5] : NULL,
                                    .beta = beta,
                                    .loss = dev[6],
                                    .g = dev[7],
                                });
    if (rc == KERN_OK)
        rc = ops->copy_out(l->kern, g, dev[6], bytes);
    for (int64_t i = 0; i < n && rc == KERN_OK; i++)
        l->sum += (double)g[i];
    if (rc == KERN_OK)
        rc = ops->copy_out(l->kern, g, dev[7], bytes);
    bool ce = l->op->loss == LOSS_CROSS_ENTROPY;
    for (int64_t i = 0; i < n; i++)
        l->n_loss += (ce ? host[1][i] : host[3][i]) != 0.0f;
    return rc ? err_kern(err, rc, "token losses") : 0;
}

void losses_release(struct losses *l) {
    if (l->dev)
        l->kern->ops->free(l->kern, l->dev);
    l->dev = NULL;
    l->cap = 0;
}
