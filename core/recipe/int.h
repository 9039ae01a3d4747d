/* int - what the files of core/recipe share: the sft loop, opened. */
#ifndef FETTLE_CORE_RECIPE_INT_H
#define FETTLE_CORE_RECIPE_INT_H

#include "core/client.h"
#include "core/recipe.h"

enum sft_reduction { REDUCE_MEAN, REDUCE_TOKEN, REDUCE_SUM };

/* The config, read once. */
struct sft_conf {
    const char *model, *data, *eval_data, *renderer, *lr_schedule;
    double test_size, lr, lora_alpha, beta1, beta2, eps, decay, clip;
    double sample_temperature;
    enum train_on train_on;
    int format; /* enum row_format, or -1 = what each row looks like */
    enum sft_reduction reduction;
    enum tuning tuning;
    int64_t warmup, batch, max_length, epochs, max_steps, lora_rank, seed;
    int64_t save_every, eval_every, sample_every, sample_max, ahead;
    bool shuffle, compat;
    bool skip;  /* rows that train nothing */
    bool packs; /* a step takes bins of rows, not rows */
    const json_t *prompts;
};

/* The order of rows in one pass over the data. */
struct epoch {
    int64_t at; /* its number, -1 = none yet */
    uint32_t n_rows, n_bins;
    uint32_t *row;   /* (n_rows) bin by bin */
    uint32_t *start; /* (n_bins + 1) into row */
};

struct sft {
    struct sft_conf c;
    struct recipe_text text;
    size_t most;         /* tokens of a row, or of a bin of rows */
    struct dataset rows; /* training rows; the held-out ones lie behind them */
    size_t n_train;
    struct dataset evals;       /* of eval_data */
    const struct example *eval; /* (n_eval) */
    size_t n_eval;
    int64_t per_epoch, total; /* steps */
    int64_t n_prompts;
    struct epoch epoch;
};

int sft_open(struct sft *s, const json_t *config, const char *model_dir,
             struct err *err);
void sft_close(struct sft *s);

void epoch_open(struct sft *s);
void epoch_release(struct epoch *e);
/* How full the bins are, 0 to 1. */
double sft_fill(const struct sft *s);
/* Rows of step k: those of at most c.batch bins; free() the array. */
const struct example **sft_batch(struct sft *s, int64_t k, size_t *n);
/* One op's datums for rows, weights scaled by the reduction. */
struct op_pass sft_pass(const struct sft *s, const struct example *const *rows,
                        size_t n, enum sft_reduction how);
void sft_pass_release(struct op_pass *p);
double sft_lr(const struct sft *s, int64_t k);
/* Passes over the held-out rows. */
int64_t sft_eval_ops(const struct sft *s);
bool sft_due(int64_t k, int64_t every);
/* Number of the first op of step k; that of step `total` is of the ops behind
 * the last step. */
uint64_t sft_seq(const struct sft *s, int64_t k);

#endif
