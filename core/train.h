/*
 * train - a model being trained: weights or an adapter, their gradients and
 * AdamW's state, driven by the ops of core/wire.h.
 *
 *     struct trainer *tr = trainer_new(model, kern, &op->create, &err);
 *     trainer_pass(tr, &op->pass, true, &result, &err);  // accumulates
 *     trainer_optim(tr, &op->optim, &result, &err);      // updates
 *
 * Losses are plain sums over tokens and datums (spec/tinker-protocol §5.4);
 * gradients accumulate over any number of passes, and a batch or its pieces
 * in order give the same bits. A failed call leaves weights, moments and
 * gradients as they were, except that a pass which fails half-way drops the
 * gradients accumulated so far and says so. One thread at a time.
 */
#ifndef FETTLE_CORE_TRAIN_H
#define FETTLE_CORE_TRAIN_H

#include "core/model.h"
#include "core/wire.h"

struct trainer;

/* op->lora_rank 0 = full tuning: an own f32 copy of all weights. NOMEM when
 * the training state does not fit in plan_memory(). */
struct trainer *trainer_new(const struct model *m, struct kern *k,
                            const struct op_create *op, struct err *err);
void trainer_free(struct trainer *tr);

/* What runs now; valid as long as the trainer, changed by trainer_optim(). */
struct policy trainer_policy(const struct trainer *tr);
const struct op_create *trainer_op(const struct trainer *tr);
const struct model *trainer_model(const struct trainer *tr);
/* tr works in the buffers of `with` from now on, another trainer on the same
 * model and device: many adapters take the activations of one. */
void trainer_share(struct trainer *tr, struct trainer *with);
/* Buffers to sample with between passes. */
struct net *trainer_net(struct trainer *tr);

/* Activations of a forward pass are kept, in at most so many bytes beside
 * those of the first (at first 1 GiB, or an eighth of the memory), until
 * weights change: a backward pass over the same datums then needs no forward
 * pass, and has the same bits. */
void trainer_park(struct trainer *tr, int64_t bytes);
/* Forward passes of packed datums that the layers have run so far. */
int64_t trainer_forwards(const struct trainer *tr);

/* Fills logprobs of every datum (before the update) and the metrics loss:sum,
 * num_tokens:sum, num_loss_tokens:sum. */
int trainer_pass(struct trainer *tr, const struct op_pass *op, bool backward,
                 struct result *res, struct err *err);
/* torch.optim.AdamW with global-norm clipping. Without gradients nothing is
 * done (metric skipped_empty). Non-finite gradients are dropped and nothing
 * else changes (metric skipped_nonfinite). */
int trainer_optim(struct trainer *tr, const struct op_optim *op,
                  struct result *res, struct err *err);

/* ---- state, tensor by tensor, for checkpoints ---- */

enum train_part {
    TRAIN_WEIGHTS, /* what passes see; writing them sets the master, too */
    TRAIN_M,
    TRAIN_V,
    TRAIN_GRAD,
    TRAIN_LOW, /* with precision bf16: the master's bits less those of the
                  weights, as whole numbers; writing needs the weights
                  written before */
    TRAIN_GRAD_LOOKUP, /* of a tied embedding, without the head's part */
    TRAIN_PARTS
};

struct train_param {
    char name[160]; /* HF name, or PEFT's "….lora_A.weight" */
    int rank;
    int64_t shape[3], count;
    int64_t offset;  /* in each part's block, floats */
    bool has_lookup; /* has TRAIN_GRAD_LOOKUP */
};
int trainer_count(const struct trainer *tr);
const struct train_param *trainer_param(const struct trainer *tr, int i);
int trainer_read(struct trainer *tr, enum train_part part, int i, float *host,
                 struct err *err);
int trainer_write(struct trainer *tr, enum train_part part, int i,
                  const float *host, struct err *err);
/* Optimizer steps done (Adam's t), and whether gradients are pending. */
int64_t trainer_steps(const struct trainer *tr);
bool trainer_pending(const struct trainer *tr);
void trainer_set(struct trainer *tr, int64_t steps, bool pending);

#endif
