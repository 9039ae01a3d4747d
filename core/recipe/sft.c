/* sft: rows, batches, schedules and op numbers: everything about the loop that
 * is a function of config, data and step. */
#include "core/recipe/int.h"

#include "core/fs.h"
#include "core/json.h"
#include "core/model.h"
#include "core/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define EVAL_ROWS 32              /* rows of an evaluation pass */
#define PROMPTS_MAX 3             /* prompts taken from rows */
#define STEP_TOKENS_MAX (1 << 24) /* of a step's op: id, target, weight */

static int conf_strings(struct sft_conf *c, const json_t *j, struct err *err) {
    const char *on, *reduction, *precision, *format, *untrained, *packing;
    if (json_get_str(j, "model", &c->model, "", err) < 0 ||
        json_get_str(j, "data", &c->data, "", err) < 0 ||
        json_get_str(j, "eval_data", &c->eval_data, "", err) < 0 ||
        json_get_str(j, "renderer", &c->renderer, "auto", err) < 0 ||
        json_get_str(j, "data_format", &format, "auto", err) < 0 ||
        json_get_str(j, "lr_schedule", &c->lr_schedule, "linear", err) < 0 ||
        json_get_str(j, "train_on_what", &on, "all_assistant_messages", err) <
            0 ||
        json_get_str(j, "reduction", &reduction, "mean", err) < 0 ||
        json_get_str(j, "precision", &precision, "fp32", err) < 0 ||
        json_get_str(j, "packing", &packing, "off", err) < 0 ||
        json_get_str(j, "untrained_rows", &untrained, "error", err) < 0 ||
        json_get_bool(j, "compat", &c->compat, false, err) < 0 ||
        json_get_bool(j, "shuffle", &c->shuffle, true, err) < 0)
        return -1;
    c->tuning =
        strcmp(precision, tuning_name(TUNE_BF16)) == 0 ? TUNE_BF16 : TUNE_FP32;
    int w = train_on_by_name(on);
    if (w < 0)
        return err_set(err, ERR_INVAL, "train_on_what=%.40s is unknown", on);
    c->train_on = (enum train_on)w;
    c->format = row_format_by_name(format);
    if (c->format < 0 && strcmp(format, "auto") != 0)
        return err_set(err, ERR_INVAL, "data_format=%.40s is unknown", format);
    c->reduction = strcmp(reduction, "mean") == 0    ? REDUCE_MEAN
                   : strcmp(reduction, "token") == 0 ? REDUCE_TOKEN
                                                     : REDUCE_SUM;
    c->skip = strcmp(untrained, "skip") == 0;
    c->packs = strcmp(packing, "best_fit") == 0;
    c->prompts = json_object_get(j, "sample_prompts");
    return 0;
}

static int conf_numbers(struct sft_conf *c, const json_t *j, struct err *err) {
    const struct {
        const char *key;
        int64_t *v, dflt;
    } ints[] = {
        {"warmup_steps", &c->warmup, 0},
        {"batch_size", &c->batch, 8},
        {"max_length", &c->max_length, 2048},
        {"num_epochs", &c->epochs, 1},
        {"max_steps", &c->max_steps, 0},
        {"lora_rank", &c->lora_rank, 32},
        {"seed", &c->seed, 0},
        {"save_every", &c->save_every, 20},
        {"eval_every", &c->eval_every, 10},
        {"sample_every", &c->sample_every, 20},
        {"sample_max_tokens", &c->sample_max, 64},
        {"submit_ahead", &c->ahead, 1},
    };
    const struct {
        const char *key;
        double *v, dflt;
    } nums[] = {
        {"test_size", &c->test_size, 0},
        {"learning_rate", &c->lr, 1e-4},
        {"lora_alpha", &c->lora_alpha, 32},
        {"adam_beta1", &c->beta1, 0.9},
        {"adam_beta2", &c->beta2, 0.95},
        {"adam_eps", &c->eps, 1e-8},
        {"weight_decay", &c->decay, 0},
        {"grad_clip_norm", &c->clip, 0},
        {"sample_temperature", &c->sample_temperature, 0},
    };
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++)
        if (json_get_int(j, ints[i].key, ints[i].v, ints[i].dflt, err) < 0)
            return -1;
    for (size_t i = 0; i < sizeof nums / sizeof *nums; i++)
        if (json_get_num(j, nums[i].key, nums[i].v, nums[i].dflt, err) < 0)
            return -1;
    return 0;
}

/* Rows in the order of their units' places in perm; how many lie in the first
 * `first` units. */
static size_t rows_by_unit(struct dataset *d, const uint32_t *perm,
                           size_t first) {
    struct example *all = malloc(d->n * sizeof *all);
    size_t *at = calloc(d->units + 1u, sizeof *at), n = 0, n_first = 0;
    CHECK(all && at, "out of memory for %zu rows", d->n);
    for (size_t i = 0; i < d->n; i++)
        at[d->row[i].unit + 1] = i + 1; /* where the next unit begins */
    for (size_t u = 0; u < d->units; u++) {
        for (size_t i = at[perm[u]]; i < at[perm[u] + 1]; i++)
            all[n++] = d->row[i];
        if (u < first)
            n_first = n;
    }
    memcpy(d->row, all, d->n * sizeof *all);
    free(all);
    free(at);
    return n_first;
}

/* By conversation: turns of one on both sides would be trained on what they
 * are tested with. Which: a shuffle of its own, the same for every epoch. */
static int sft_hold_out(struct sft *s, struct err *err) {
    uint32_t units = s->rows.units;
    double t = s->c.test_size;
    size_t held = t < 1 ? (size_t)llround(t * units) : (size_t)t;
    s->n_train = s->rows.n;
    if (*s->c.eval_data) {
        s->eval = s->evals.row;
        s->n_eval = s->evals.n;
        return 0;
    }
    if (held >= units)
        return err_set(err, ERR_INVAL, "%s: test_size holds out %zu of %u rows",
                       s->c.data, held, units);
    if (held == 0)
        return 0;
    uint32_t *perm = malloc(units * sizeof *perm);
    CHECK(perm, "out of memory for %u rows", units);
    for (uint32_t i = 0; i < units; i++)
        perm[i] = i;
    rng_shuffle(perm, units, (uint64_t)s->c.seed, rng_stream("hold-out"));
    s->n_train = rows_by_unit(&s->rows, perm, units - held);
    free(perm);
    s->eval = s->rows.row + s->n_train;
    s->n_eval = s->rows.n - s->n_train;
    return 0;
}

static int text_open(struct recipe_text *t, const struct sft_conf *c,
                     const char *model_dir, struct err *err) {
    struct conf mc;
    if (conf_read(&mc, model_dir, err) < 0)
        return -1;
    int64_t vocab = mc.V, most = mc.max_pos + 1; /* targets are one behind */
    t->context = mc.max_pos;
    conf_release(&mc);
    t->tok = tok_open(model_dir, &t->no_text);
    if (!t->tok && t->no_text.code != ERR_NOTFOUND &&
        t->no_text.code != ERR_UNSUPPORTED)
        return err_set(err, t->no_text.code, "%s", t->no_text.msg);
    if (t->tok &&
        !(t->render = render_open(c->renderer, t->tok, model_dir, err)))
        return -1;
    if (t->render && c->compat)
        render_set_compat(t->render);
    t->row = (struct row_conf){
        .tok = t->tok,
        .render = t->render,
        .why = t->no_text.msg,
        .on = c->train_on,
        .format = c->format,
        .max_length = (size_t)(c->max_length < most ? c->max_length : most),
        .vocab = vocab,
        .skip = c->skip};
    return 0;
}

int recipe_text_open(struct recipe_text *t, const json_t *config,
                     const char *model_dir, struct err *err) {
    struct sft_conf c = {0};
    *t = (struct recipe_text){0};
    if (conf_strings(&c, config, err) == 0 &&
        conf_numbers(&c, config, err) == 0 &&
        text_open(t, &c, model_dir, err) == 0)
        return 0;
    recipe_text_close(t);
    return -1;
}

void recipe_text_close(struct recipe_text *t) {
    render_close(t->render);
    tok_close(t->tok);
    *t = (struct recipe_text){0};
}

static int sft_rows(struct sft *s, const char *model_dir, struct err *err) {
    if (text_open(&s->text, &s->c, model_dir, err) < 0 ||
        dataset_read(&s->rows, s->c.data, &s->text.row, err) < 0)
        return -1;
    if (*s->c.eval_data &&
        dataset_read(&s->evals, s->c.eval_data, &s->text.row, err) < 0)
        return -1;
    s->most = s->text.row.max_length;
    return sft_hold_out(s, err);
}

/* The last, incomplete batch of rows is left out of an epoch, unless it is the
 * only one; one of bins is not: there may be few, of many rows each. */
static int sft_steps(struct sft *s, struct err *err) {
    int64_t batch = s->c.batch;
    if (s->c.packs && batch > STEP_TOKENS_MAX / (int64_t)s->most)
        return err_set(err, ERR_INVAL,
                       "packing=best_fit: batch_size=%lld bins of %zu tokens "
                       "are more than the %d that a step can have: lower "
                       "batch_size",
                       (long long)batch, s->most, STEP_TOKENS_MAX);
    epoch_open(s);
    s->per_epoch = (s->epoch.n_bins + (s->c.packs ? batch - 1 : 0)) / batch;
    if (s->per_epoch == 0)
        s->per_epoch = 1;
    return 0;
}

int sft_open(struct sft *s, const json_t *config, const char *model_dir,
             struct err *err) {
    memset(s, 0, sizeof *s);
    if (conf_strings(&s->c, config, err) < 0 ||
        conf_numbers(&s->c, config, err) < 0 ||
        sft_rows(s, model_dir, err) < 0) {
        sft_close(s);
        return -1;
    }
    if (s->c.tuning == TUNE_BF16 && s->c.lora_rank > 0) {
        sft_close(s);
        return err_set(err, ERR_INVAL,
                       "precision=bf16 is for full tuning: set lora_rank=0");
    }
    if (sft_steps(s, err) < 0) {
        sft_close(s);
        return -1;
    }
    s->total = s->c.epochs > INT64_MAX / s->per_epoch
                   ? INT64_MAX
                   : s->per_epoch * s->c.epochs;
    if (s->c.max_steps > 0 && s->c.max_steps < s->total)
        s->total = s->c.max_steps;
    s->n_prompts = (int64_t)json_array_size(s->c.prompts);
    if (s->n_prompts == 0 && s->text.tok) {
        size_t have = s->n_eval ? s->n_eval : s->n_train;
        s->n_prompts = have < PROMPTS_MAX ? (int64_t)have : PROMPTS_MAX;
    }
    if (!s->text.tok)
        s->n_prompts = 0;
    return 0;
}

void sft_close(struct sft *s) {
    dataset_release(&s->rows);
    dataset_release(&s->evals);
    recipe_text_close(&s->text);
    epoch_release(&s->epoch);
    memset(s, 0, sizeof *s);
}

static double row_weight(const struct example *e) {
    double sum = 0;
    for (size_t i = 1; i < e->tokens.n; i++)
        sum += (double)e->weights[i];
    return sum;
}

struct op_pass sft_pass(const struct sft *s, const struct example *const *rows,
                        size_t n, enum sft_reduction how) {
    struct op_pass p = {.loss = LOSS_CROSS_ENTROPY,
                        .clip_low = NAN,
                        .clip_high = NAN,
                        .beta = NAN,
                        .n = (uint32_t)n};
    double total = 0;
    (void)s;
    p.datums = calloc(n + 1, sizeof *p.datums);
    CHECK(p.datums, "out of memory for a batch");
    for (size_t i = 0; i < n; i++)
        total += row_weight(rows[i]);
    for (size_t i = 0; i < n; i++) {
        const struct example *e = rows[i];
        struct datum *d = &p.datums[i];
        double scale = how == REDUCE_MEAN    ? row_weight(e)
                       : how == REDUCE_TOKEN ? total
                                             : 1;
        float *w = malloc(e->tokens.n * sizeof *w);
        CHECK(w, "out of memory for a batch");
        d->n = (uint32_t)e->tokens.n - 1;
        d->k = 1;
        d->tokens = e->tokens.id; /* borrowed */
        d->targets = e->tokens.id + 1;
        for (uint32_t t = 0; t < d->n; t++)
            w[t] = scale == 0 ? e->weights[t + 1]
                              : (float)((double)e->weights[t + 1] / scale);
        d->field[DATUM_WEIGHTS] = w;
    }
    return p;
}

void sft_pass_release(struct op_pass *p) {
    for (uint32_t i = 0; i < p->n; i++)
        free(p->datums[i].field[DATUM_WEIGHTS]);
    free(p->datums);
    memset(p, 0, sizeof *p);
}

double sft_lr(const struct sft *s, int64_t k) {
    double at = (double)k / (double)s->total, lr = s->c.lr;
    if (k < s->c.warmup)
        return lr * (double)(k + 1) / (double)s->c.warmup;
    if (strcmp(s->c.lr_schedule, "linear") == 0)
        return lr * (1 - at);
    if (strcmp(s->c.lr_schedule, "cosine") == 0)
        return lr * 0.5 * (1 + cos(3.14159265358979323846 * at));
    return lr;
}

int64_t sft_eval_ops(const struct sft *s) {
    return ((int64_t)s->n_eval + EVAL_ROWS - 1) / EVAL_ROWS;
}

bool sft_due(int64_t k, int64_t every) { return every > 0 && k % every == 0; }

/* How many k of 0 … n-1 are due. */
static int64_t due_before(int64_t n, int64_t every) {
    return every > 0 ? (n + every - 1) / every : 0;
}

uint64_t sft_seq(const struct sft *s, int64_t k) {
    /* Saves stand behind steps every, 2*every, … but for the last step. */
    int64_t saves = s->c.save_every > 0 ? k / s->c.save_every : 0;
    if (k == s->total && k > 0 && sft_due(k, s->c.save_every))
        saves--;
    return (uint64_t)(1 + 2 * k + saves +
                      due_before(k, s->c.eval_every) * sft_eval_ops(s) +
                      due_before(k, s->c.sample_every) * s->n_prompts);
}
