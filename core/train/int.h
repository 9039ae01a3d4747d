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
bool pack_next(struct pack *p, const struct op_pass *op, int32_t budget);
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
/* For gspo, before the losses: p->q becomes the log of each sequence's ratio,
 * out of all its logprobs. */
void losses_ratios(const struct op_pass *op, struct pack *p, const float *lp);
int losses_chunk(void *arg, int32_t first, int32_t rows, const float *logprobs,
                 float *g, struct err *err);
void losses_release(struct losses *l);

/* ---- parked activations ---- */

#define TRAIN_SLOTS 8
#define TRAIN_PARK_BYTES ((int64_t)1 << 30)

struct trainer;

/* Buffers for one pack's activations, and whose they are. */
struct parked {
    struct net *net;
    bool is_parked;
    const struct trainer *owner; /* of the parked ones */
    int32_t T, n_seq;
    int32_t *tokens, *start; /* (T) (n_seq+1) of the parked pack, owned */
    int64_t bytes;           /* of activations; never falls */
    uint64_t tick;
};

/* The buffers of one trainer, or of several over one model. */
struct buffers {
    int refs;
    struct parked park[TRAIN_SLOTS]; /* filled from the front */
    int64_t park_max;
    uint64_t tick;
};

struct trainer {
    const struct model *model;
    struct kern *kern;
    struct op_create op;     /* base and from are owned copies */
    struct adapter *adapter; /* NULL = full tuning */
    struct weights weights;  /* full tuning: into block w */
    float *w, *g, *m, *v;    /* dev (floats); w NULL with precision bf16: */
    uint16_t *hi;            /* dev (floats): the master in two words, see */
    int16_t *lo;             /* kernels.h; hi is what passes see … */
    float *small;            /* … but for vectors: dev, f32 of their hi */
    float *g_lookup;         /* dev (V,C) when the head is tied, else NULL; */
    int32_t *rows, *d_rows; /* … its rows that hold something (V), dev too, */
    int32_t n_rows;
    bool *has_row; /* … and which those are (V) */
    bool *unset;   /* full tuning, by parameter: see struct net_grads */
    int64_t floats, lookup_floats;
    double *norm; /* dev, one */
    int n;
    struct train_param *param;
    int64_t steps;
    bool pending;
    struct losses losses;
    struct buffers *buffers;
    int32_t micro; /* tokens of a micro-batch */
    int64_t forwards;
};

/* The slot that has p's activations, NULL = none. */
struct parked *park_find(struct trainer *tr, const struct pack *p);
/* A slot to run a pack in; *keep: its activations shall stay, which a pass
 * without backward wants only where memory allows it. NULL and an error. */
struct parked *park_take(struct trainer *tr, const struct pack *p, bool *keep,
                         struct err *err);
/* s holds p's activations from now on. */
void park_mark(struct trainer *tr, struct parked *s, const struct pack *p);
/* Forgets tr's activations. */
void park_drop(struct trainer *tr);

/* With one net, one reference. */
struct buffers *buffers_new(const struct model *m, struct kern *k,
                            int64_t park_max, struct err *err);
void buffers_drop(struct buffers *b); /* a reference; NULL is fine */

/* ---- the master in two words, with precision bf16 ---- */

/* Fills tr->hi, lo, small and weights out of the base's; params are set. */
int words_init(struct trainer *tr, struct err *err);
/* Parameter i as f32 on the host: TRAIN_WEIGHTS or TRAIN_LOW. A kern_status,
 * as the next two. */
int words_read(struct trainer *tr, enum train_part part, int i, float *host);
int words_write(struct trainer *tr, int i, const float *host);
int words_write_low(struct trainer *tr, int i, const float *host);
/* The vectors' f32 copies, after an update. */
int words_refresh(struct trainer *tr, struct err *err);

/* Device memory, zeroed; NULL and an error. */
float *block_new(struct trainer *tr, int64_t floats, struct err *err);
/* What a pass writes to. */
struct net_grads trainer_grads(const struct trainer *tr);
/* Gradients to zero. */
int trainer_clear(struct trainer *tr, struct err *err);
/* Rows of g_lookup that a pass will write to. */
void lookup_mark(struct trainer *tr, const int32_t *tokens, int32_t n);

#endif
