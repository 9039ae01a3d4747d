/* pack: datums to packed micro-batches. A datum is never split, and order is
 * kept, so that gradients do not depend on the budget. */
#include "core/train/int.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Which fields a loss needs beside targets. */
static const unsigned loss_needs[LOSS_N] = {
    [LOSS_CROSS_ENTROPY] = 0,
    [LOSS_IMPORTANCE_SAMPLING] = 1u << DATUM_LOGPROBS | 1u << DATUM_ADVANTAGES,
    [LOSS_PPO] = 1u << DATUM_LOGPROBS | 1u << DATUM_ADVANTAGES,
    [LOSS_CISPO] = 1u << DATUM_LOGPROBS | 1u << DATUM_ADVANTAGES,
    [LOSS_DRO] = 1u << DATUM_LOGPROBS | 1u << DATUM_ADVANTAGES,
    [LOSS_GSPO] = 1u << DATUM_LOGPROBS | 1u << DATUM_ADVANTAGES,
};
static const char *const field_names[DATUM_FIELDS] = {
    "weights", "logprobs", "advantages", "clip_low_threshold",
    "clip_high_threshold"};

static int check_ids(const uint32_t *v, uint64_t n, const char *what,
                     uint32_t datum, const struct conf *c, struct err *err) {
    for (uint64_t i = 0; i < n; i++)
        if (v[i] >= (uint32_t)c->V)
            return err_set(err, ERR_INVAL,
                           "datum %u: %s[%llu] is %u, the vocabulary has %d",
                           datum, what, (unsigned long long)i, v[i], c->V);
    return 0;
}

int pack_check(const struct op_pass *op, const struct conf *c,
               struct err *err) {
    for (uint32_t i = 0; i < op->n; i++) {
        const struct datum *d = &op->datums[i];
        if (d->n > (uint32_t)c->max_pos)
            return err_set(err, ERR_INVAL,
                           "datum %u has %u tokens, the model's context %d", i,
                           d->n, c->max_pos);
        for (int f = 0; f < DATUM_FIELDS; f++)
            if ((loss_needs[op->loss] >> f & 1) && !d->field[f])
                return err_set(err, ERR_INVAL, "datum %u: %s needs %s", i,
                               loss_name(op->loss), field_names[f]);
        if (check_ids(d->tokens, d->n, "tokens", i, c, err) < 0 ||
            check_ids(d->targets, (uint64_t)d->n * d->k, "targets", i, c, err) <
                0)
            return -1;
    }
    return 0;
}

static void pack_field(float *to, const struct datum *d, enum datum_field f,
                       float dflt) {
    size_t nk = (size_t)d->n * d->k;
    for (size_t i = 0; i < nk; i++)
        to[i] = d->field[f] ? d->field[f][i] : dflt;
}

static float pack_default(float given, float dflt) {
    return isnan(given) ? dflt : given;
}

static void pack_fill(struct pack *p, const struct op_pass *op) {
    float lo = pack_default(op->clip_low, op->loss == LOSS_CISPO ? 0.0f : 0.8f);
    float hi =
        pack_default(op->clip_high, op->loss == LOSS_CISPO ? 4.0f : 1.2f);
    int32_t t = 0;
    for (uint32_t i = p->first; i < p->end; i++) {
        const struct datum *d = &op->datums[i];
        size_t nk = (size_t)d->n * d->k, at = (size_t)t * (size_t)p->k;
        for (uint32_t j = 0; j < d->n; j++)
            p->tokens[t + (int32_t)j] = (int32_t)d->tokens[j];
        for (size_t j = 0; j < nk; j++)
            p->targets[at + j] = (int32_t)d->targets[j];
        pack_field(p->w + at, d, DATUM_WEIGHTS, 1.0f);
        pack_field(p->q + at, d, DATUM_LOGPROBS, 0.0f);
        pack_field(p->A + at, d, DATUM_ADVANTAGES, 0.0f);
        pack_field(p->lo + at, d, DATUM_CLIP_LOW, lo);
        pack_field(p->hi + at, d, DATUM_CLIP_HIGH, hi);
        p->start[i - p->first] = t;
        t += (int32_t)d->n;
    }
    p->start[p->n_seq] = t;
}

bool pack_next(struct pack *p, const struct op_pass *op, int32_t budget) {
    uint32_t first = p->end, end = first, T = 0;
    pack_release(p);
    if (first >= op->n)
        return false;
    uint32_t k = op->datums[first].k;
    while (end < op->n && op->datums[end].k == k &&
           (end == first || T + op->datums[end].n <= (uint32_t)budget))
        T += op->datums[end++].n;
    *p = (struct pack){.first = first,
                       .end = end,
                       .T = (int32_t)T,
                       .n_seq = (int32_t)(end - first),
                       .k = (int32_t)k};
    size_t nk = (size_t)T * k + 1;
    p->tokens = calloc((size_t)T + 1, sizeof *p->tokens);
    p->start = calloc((size_t)p->n_seq + 1, sizeof *p->start);
    p->targets = calloc(nk, sizeof *p->targets);
    p->w = calloc(nk * 5, sizeof *p->w);
    CHECK(p->tokens && p->start && p->targets && p->w,
          "out of memory for %u tokens", T);
    p->q = p->w + nk;
    p->A = p->q + nk;
    p->lo = p->A + nk;
    p->hi = p->lo + nk;
    pack_fill(p, op);
    return true;
}

void pack_release(struct pack *p) {
    free(p->tokens);
    free(p->start);
    free(p->targets);
    free(p->w);
    p->tokens = p->start = p->targets = NULL;
    p->w = NULL;
}
