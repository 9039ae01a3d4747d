/* int - what the files of core/train share. */
#ifndef FETTLE_CORE_TRAIN_INT_H
#define FETTLE_CORE_TRAIN_INT_H

#include "core/train.h"

/* Consecutive datums packed behind each other, all with the same k. */
struct pack {
    uint32_t first, end; /* datums */
    int32_t T, n_seq, k;
    int32_t *tokens, *start, *targets; /* (T) (n_seq+1) (T,k) */
    float *w, *q, *A, *lo, *hi;        /* (T,k) */
};

/* The next pack of op after p->end: as many datums as fit in the token budget,
 * at least one. false when there are none left. */
bool pack_next(struct pack *p, const struct op_pass *op);
void pack_release(struct pack *p);
/* Fields that the loss needs and lengths that fit; names the datum. */
int pack_check(const struct op_pass *op, const struct conf *c, struct err *err);

/* Token losses on the device, chunk by chunk (net_loss_fn's arg). */
struct losses {
    struct kern *kern;
    const struct op_pass *op;
    const struct pack *pack;
    float *dev; /* 8 arrays of cap */
    int64_t cap;
    double sum;
    int64_t n_loss;
};
int losses_chunk(void *arg, int32_t first, int32_t rows, const float *logprobs,
                 float *g, struct err *err);
void losses_release(struct losses *l);

#endif
