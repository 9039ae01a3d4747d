/* Models against golden data of PyTorch and transformers: logits, logprobs,
 * loss, every gradient, three AdamW steps, full tuning and LoRA; and equal bits
 * for every way to split a batch. */
#include "core/fs.h"
#include "core/json.h"
#include "core/train.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

Suite *train_golden_suite(void);

#define GOLDEN "tests/golden/models"
#define TOLERANCE 2e-5
/* With eps 1e-12 Adam divides a gradient that is nearly zero by its own size,
 * so rounding in it shows. */
#define TOLERANCE_STEPS 2e-4

static const char *const families[] = {
    "llama",  "llama3",    "smollm",  "qwen2", "qwen3", "qwen3_tied",
    "gemma2", "gemma3",    "mistral", "phi3",  "olmo2", "olmo3",
    "glm4",   "qwen3_moe", "gpt_oss", "phi4"};
#define N_FAMILIES ((int)(sizeof families / sizeof *families))

struct fixture {
    struct kern *kern;
    struct model *model;
    json_t *golden;
    struct op_pass pass;
    char dir[256];
};

static float *floats_of(const json_t *a) {
    size_t n = json_array_size(a);
    float *v = calloc(n + 1, sizeof *v);
    for (size_t i = 0; i < n; i++)
        v[i] = (float)json_number_value(json_array_get(a, i));
    return v;
}

static uint32_t *ids_of(const json_t *a) {
    size_t n = json_array_size(a);
    uint32_t *v = calloc(n + 1, sizeof *v);
    for (size_t i = 0; i < n; i++)
        v[i] = (uint32_t)json_integer_value(json_array_get(a, i));
    return v;
}

static void open_fixture(struct fixture *f, const char *family) {
    struct err err = {0};
    snprintf(f->dir, sizeof f->dir, GOLDEN "/%s", family);
    ck_assert_int_eq(kern_open(&f->kern, &(struct kern_opts){"cpu", 1, NULL}),
                     KERN_OK);
    f->model = model_open(f->dir, f->kern, &err);
    ck_assert_msg(f->model != NULL, "%s", err.msg);
    char *path = fs_path("%s/golden.json", f->dir);
    f->golden = json_read_file(path, 1 << 24, &err);
    ck_assert_msg(f->golden != NULL, "%s", err.msg);
    free(path);
    const json_t *seqs = json_object_get(f->golden, "sequences");
    uint32_t n = (uint32_t)json_array_size(seqs);
    f->pass = (struct op_pass){.loss = LOSS_CROSS_ENTROPY,
                               .clip_low = NAN,
                               .clip_high = NAN,
                               .beta = NAN,
                               .n = n,
                               .datums = calloc(n, sizeof(struct datum))};
    for (uint32_t i = 0; i < n; i++) {
        const json_t *s = json_array_get(seqs, i);
        struct datum *d = &f->pass.datums[i];
        d->n = (uint32_t)json_array_size(json_object_get(s, "tokens"));
        d->k = 1;
        d->tokens = ids_of(json_object_get(s, "tokens"));
        d->targets = ids_of(json_object_get(s, "targets"));
        d->field[DATUM_WEIGHTS] = floats_of(json_object_get(s, "weights"));
    }
}

static void close_fixture(struct fixture *f) {
    struct op op = {.kind = OP_FORWARD, .pass = f->pass};
    op_release(&op);
    json_decref(f->golden);
    model_close(f->model);
    f->kern->ops->close(f->kern);
}

static double golden(const struct fixture *f, const char *a, const char *b,
                     const char *c, int i) {
    const json_t *j = json_object_get(f->golden, a);
    j = b ? json_object_get(j, b) : j;
    j = c ? json_object_get(j, c) : j;
    return json_number_value(i < 0 ? j : json_array_get(j, (size_t)i));
}

static void near(double got, double want, const char *what) {
    ck_assert_msg(fabs(got - want) <= TOLERANCE * (1 + fabs(want)),
                  "%s: %.9g, golden %.9g", what, got, want);
}

static void check_logprobs(const struct fixture *f, const struct result *r,
                           const json_t *want) {
    for (uint32_t i = 0; i < r->n_logprobs; i++)
        for (uint32_t t = 0; t < r->logprobs_len[i]; t++)
            near(r->logprobs[i][t],
                 json_number_value(json_array_get(json_array_get(want, i), t)),
                 f->dir);
}

static float largest(const float *x, int64_t n) {
    float max = 0;
    for (int64_t i = 0; i < n; i++)
        max = fabsf(x[i]) > max ? fabsf(x[i]) : max;
    return max;
}

/* Part `part` of every parameter against the tensors of a file, relative to
 * the largest value of each tensor. After AdamW steps an element whose
 * gradient is nothing but rounding (GLM's key biases where no rope turns them:
 * all scores of a row move alike) has gone anywhere, by at most the learning
 * rate each. */
static void check_tensors(struct trainer *tr, enum train_part part,
                          const char *dir, const char *file) {
    struct err err = {0};
    char *path = fs_path("%s/%s", dir, file);
    char *grads = fs_path("%s/%sgrad.safetensors", dir,
                          strncmp(file, "adapter", 7) ? "" : "adapter_");
    struct st *st = st_open_file(path, &err), *gs = st_open_file(grads, &err);
    ck_assert_msg(st && gs, "%s", err.msg);
    for (int i = 0; i < trainer_count(tr); i++) {
        const struct train_param *p = trainer_param(tr, i);
        const struct st_tensor *t = st_find(st, p->name);
        ck_assert_msg(t != NULL, "%s: no %s", path, p->name);
        ck_assert_int_eq(t->bytes, p->count * 4);
        float *got = calloc((size_t)p->count * 2, sizeof *got);
        const float *want = t->data;
        const struct st_tensor *grad = st_find(gs, p->name);
        ck_assert_int_eq(trainer_read(tr, part, i, got, &err), 0);
        if (p->has_lookup && part == TRAIN_GRAD) {
            trainer_read(tr, TRAIN_GRAD_LOOKUP, i, got + p->count, &err);
            for (int64_t j = 0; j < p->count; j++)
                got[j] += got[p->count + j];
        }
        const float *g = grad ? grad->data : want;
        float max = largest(want, p->count), top = largest(g, p->count);
        double fair = part == TRAIN_GRAD ? TOLERANCE : TOLERANCE_STEPS;
        for (int64_t j = 0; j < p->count; j++) {
            bool noise = part == TRAIN_WEIGHTS && fabsf(g[j]) < 1e-10f * top;
            double slack = noise ? 3.1e-3 : fair * (1e-3 + (double)max);
            ck_assert_msg(fabsf(got[j] - want[j]) <= slack,
                          "%s %s[%lld]: %.9g, golden %.9g (max %g)", file,
                          p->name, (long long)j, (double)got[j],
                          (double)want[j], (double)max);
        }
        free(got);
    }
    st_close(st);
    st_close(gs);
    free(path);
    free(grads);
}

static struct trainer *full(struct fixture *f) {
    struct err err = {0};
    struct trainer *tr =
        trainer_new(f->model, f->kern, &(struct op_create){.base = "m"}, &err);
    ck_assert_msg(tr != NULL, "%s", err.msg);
    return tr;
}

static void pass(struct fixture *f, struct trainer *tr, bool backward,
                 struct result *r) {
    struct err err = {0};
    ck_assert_msg(trainer_pass(tr, &f->pass, backward, r, &err) == 0, "%s",
                  err.msg);
}

static struct op_optim adam(double clip, double decay) {
    return (struct op_optim){1e-3, 0.9, 0.95, 1e-12, decay, clip};
}

/* Three steps on the same batch: losses before each, and norms. */
static void check_steps(struct fixture *f, struct trainer *tr, const char *a,
                        const char *b, double clip, double decay) {
    struct err err = {0};
    for (int s = 0; s < 3; s++) {
        struct result r = {0};
        pass(f, tr, true, &r);
        near(result_get(&r, "loss:sum"),
             golden(f, a, b ? b : "losses", b ? "losses" : NULL, s), "loss");
        result_release(&r);
        struct op_optim o = adam(clip, decay);
        ck_assert_int_eq(trainer_optim(tr, &o, &r, &err), 0);
        near(result_get(&r, "unclipped_grad_l2:mean"),
             golden(f, a, b ? b : "norms", b ? "norms" : NULL, s), "norm");
        result_release(&r);
    }
}

START_TEST(model_matches_golden_logprobs_loss_and_gradients) {
    struct fixture f;
    open_fixture(&f, families[_i]);
    struct trainer *tr = full(&f);
    struct result r = {0};
    pass(&f, tr, true, &r);
    near(result_get(&r, "loss:sum"), golden(&f, "loss", NULL, NULL, -1),
         "loss");
    const json_t *seqs = json_object_get(f.golden, "sequences");
    json_t *want = json_array(), *s;
    size_t i;
    json_array_foreach(seqs, i, s)
        json_array_append(want, json_object_get(s, "target_logprobs"));
    check_logprobs(&f, &r, want);
    json_decref(want);
    check_tensors(tr, TRAIN_GRAD, f.dir, "grad.safetensors");
    result_release(&r);
    trainer_free(tr);
    close_fixture(&f);
}
END_TEST

START_TEST(model_matches_golden_adamw_steps) {
    struct fixture f;
    open_fixture(&f, families[_i]);
    struct trainer *tr = full(&f);
    check_steps(&f, tr, "adamw", NULL, 0, 0);
    check_tensors(tr, TRAIN_WEIGHTS, f.dir, "after3.safetensors");
    trainer_free(tr);
    tr = full(&f);
    check_steps(&f, tr, "adamw_clip", NULL, 1.0, 0);
    trainer_free(tr);
    tr = full(&f);
    check_steps(&f, tr, "adamw_decay", NULL, 0, 0.1);
    trainer_free(tr);
    close_fixture(&f);
}
END_TEST

static struct trainer *lora(struct fixture *f) {
    struct err err = {0};
    const json_t *l = json_object_get(f->golden, "lora");
    const json_t *targets = json_object_get(l, "targets");
    bool attn = false, mlp = false, head = false;
    size_t i;
    json_t *t;
    json_array_foreach(targets, i, t) {
        attn |= strcmp(json_string_value(t), "o_proj") == 0;
        mlp |= strcmp(json_string_value(t), "down_proj") == 0;
        head |= strcmp(json_string_value(t), "lm_head") == 0;
    }
    struct op_create op = {.base = "m",
                           .lora_rank = 4,
                           .lora_alpha = 32,
                           .train_attn = attn,
                           .train_mlp = mlp,
                           .train_unembed = head};
    struct trainer *tr = trainer_new(f->model, f->kern, &op, &err);
    ck_assert_msg(tr != NULL, "%s", err.msg);
    char *path = fs_path("%s/adapter/adapter_model.safetensors", f->dir);
    struct st *st = st_open_file(path, &err);
    ck_assert_msg(st != NULL, "%s", err.msg);
    for (int p = 0; p < trainer_count(tr); p++) {
        const struct st_tensor *x = st_find(st, trainer_param(tr, p)->name);
        ck_assert_msg(x != NULL, "no %s", trainer_param(tr, p)->name);
        trainer_write(tr, TRAIN_WEIGHTS, p, x->data, &err);
    }
    st_close(st);
    free(path);
    return tr;
}

START_TEST(adapter_matches_golden_gradients_and_steps) {
    struct fixture f;
    open_fixture(&f, families[_i]);
    struct trainer *tr = lora(&f);
    struct result r = {0};
    pass(&f, tr, true, &r);
    near(result_get(&r, "loss:sum"), golden(&f, "lora", "loss", NULL, -1),
         "loss");
    check_logprobs(
        &f, &r,
        json_object_get(json_object_get(f.golden, "lora"), "target_logprobs"));
    check_tensors(tr, TRAIN_GRAD, f.dir, "adapter_grad.safetensors");
    result_release(&r);
    trainer_free(tr);
    tr = lora(&f);
    const json_t *steps =
        json_object_get(json_object_get(f.golden, "lora"), "adamw");
    struct err err = {0};
    for (int s = 0; s < 3; s++) {
        struct op_optim o = adam(0, 0);
        pass(&f, tr, true, &r);
        near(result_get(&r, "loss:sum"),
             json_number_value(
                 json_array_get(json_object_get(steps, "losses"), (size_t)s)),
             "loss");
        result_release(&r);
        ck_assert_int_eq(trainer_optim(tr, &o, &r, &err), 0);
        result_release(&r);
    }
    check_tensors(tr, TRAIN_WEIGHTS, f.dir, "adapter_after3.safetensors");
    trainer_free(tr);
    close_fixture(&f);
}
END_TEST

static float *all_grads(struct trainer *tr, size_t *n) {
    struct err err = {0};
    size_t total = 0, at = 0;
    for (int i = 0; i < trainer_count(tr); i++)
        total += (size_t)trainer_param(tr, i)->count * 2;
    float *g = calloc(total + 1, sizeof *g);
    for (int i = 0; i < trainer_count(tr); i++) {
        const struct train_param *p = trainer_param(tr, i);
        trainer_read(tr, TRAIN_GRAD, i, g + at, &err);
        at += (size_t)p->count;
        if (p->has_lookup)
            trainer_read(tr, TRAIN_GRAD_LOOKUP, i, g + at, &err);
        at += p->has_lookup ? (size_t)p->count : 0;
    }
    *n = at;
    return g;
}

START_TEST(gradient_bits_do_not_depend_on_how_a_batch_is_split) {
    struct fixture f;
    struct err err = {0};
    open_fixture(&f, families[_i]);
    size_t n, m;
    struct trainer *whole = full(&f), *parts = full(&f);
    struct result r = {0};
    pass(&f, whole, true, &r);
    for (uint32_t i = 0; i < f.pass.n; i++) {
        struct op_pass one = f.pass;
        struct result q = {0};
        one.n = 1;
        one.datums = &f.pass.datums[i];
        ck_assert_int_eq(trainer_pass(parts, &one, true, &q, &err), 0);
        ck_assert_mem_eq(q.logprobs[0], r.logprobs[i],
                         r.logprobs_len[i] * sizeof(float));
        result_release(&q);
    }
    float *a = all_grads(whole, &n), *b = all_grads(parts, &m);
    ck_assert_uint_eq(n, m);
    ck_assert_mem_eq(a, b, n * sizeof *a);
    free(a);
    free(b);
    result_release(&r);
    trainer_free(whole);
    trainer_free(parts);
    close_fixture(&f);
}
END_TEST

/* The sampler's path: a prefill in chunks of `chunk` tokens over pages. */
static void check_paged(struct fixture *f, struct net *net,
                        const struct policy *p, const struct datum *d,
                        const float *want, int chunk) {
    struct err err = {0};
    struct kv *kv = kv_new(f->model, f->kern, 4, &err);
    int32_t table[4], tokens[64], seq[64] = {0}, pos[64], rows[64], tgt[64];
    float lp[64];
    for (int i = 0; i < 4; i++)
        table[i] = kv_take(kv);
    for (uint32_t at = 0; at < d->n;) {
        int T = 0;
        for (; T < chunk && at + (uint32_t)T < d->n; T++) {
            tokens[T] = (int32_t)d->tokens[at + (uint32_t)T];
            tgt[T] = (int32_t)d->targets[at + (uint32_t)T];
            pos[T] = (int32_t)at + T;
            rows[T] = T;
        }
        struct net_step s = {.T = T,
                             .tokens = tokens,
                             .seq = seq,
                             .pos = pos,
                             .n_seq = 1,
                             .max_blocks = 4,
                             .table = table,
                             .n_rows = T,
                             .rows = rows,
                             .targets = tgt,
                             .logprobs = lp};
        ck_assert_msg(net_step(net, p, kv, &s, &err) == 0, "%s", err.msg);
        ck_assert_mem_eq(lp, want + at, (size_t)T * sizeof *lp);
        at += (uint32_t)T;
    }
    kv_free(kv);
}

START_TEST(sampler_path_gives_the_trainers_bits) {
    struct fixture f;
    struct err err = {0};
    open_fixture(&f, families[_i]);
    struct trainer *tr = lora(&f);
    struct policy p = trainer_policy(tr);
    struct net *net = net_new(f.model, f.kern, &err);
    struct result r = {0};
    pass(&f, tr, false, &r);
    for (uint32_t i = 0; i < f.pass.n; i++) {
        check_paged(&f, net, &p, &f.pass.datums[i], r.logprobs[i], 1);
        check_paged(&f, net, &p, &f.pass.datums[i], r.logprobs[i], 5);
        check_paged(&f, net, &p, &f.pass.datums[i], r.logprobs[i], 64);
    }
    result_release(&r);
    net_free(net);
    trainer_free(tr);
    close_fixture(&f);
}
END_TEST

/* A whole sequence through the sampler's path, every row's logits. */
static float *paged_logits(struct fixture *f, struct net *net,
                           const struct weights *w, const struct datum *d) {
    struct err err = {0};
    struct policy p = {.weights = w};
    struct kv *kv = kv_new(f->model, f->kern, 1, &err);
    int32_t table = kv_take(kv), tokens[64], seq[64] = {0}, pos[64];
    int64_t V = model_conf(f->model)->V;
    float *logits = calloc(d->n * (size_t)V, sizeof *logits);
    for (uint32_t t = 0; t < d->n; t++) {
        tokens[t] = (int32_t)d->tokens[t];
        pos[t] = (int32_t)t;
    }
    struct net_step s = {.T = (int32_t)d->n,
                         .tokens = tokens,
                         .seq = seq,
                         .pos = pos,
                         .n_seq = 1,
                         .max_blocks = 1,
                         .table = &table,
                         .n_rows = (int32_t)d->n,
                         .rows = pos,
                         .logits = logits};
    ck_assert_msg(net_step(net, &p, kv, &s, &err) == 0, "%s", err.msg);
    kv_free(kv);
    return logits;
}

START_TEST(sampler_path_gives_golden_logits) {
    struct fixture f;
    struct err err = {0};
    open_fixture(&f, families[_i]);
    struct net *net = net_new(f.model, f.kern, &err);
    char *path = fs_path("%s/logits.safetensors", f.dir), name[32];
    struct st *st = st_open_file(path, &err);
    ck_assert_msg(st != NULL, "%s", err.msg);
    for (uint32_t i = 0; i < f.pass.n; i++) {
        snprintf(name, sizeof name, "logits.%u", i);
        const struct st_tensor *t = st_find(st, name);
        ck_assert_ptr_nonnull(t);
        const float *want = t->data;
        float *got =
            paged_logits(&f, net, model_weights(f.model), &f.pass.datums[i]);
        ck_assert_int_eq(t->shape[0], f.pass.datums[i].n);
        for (int64_t j = 0; j < t->bytes / 4; j++)
            near(got[j], want[j], name);
        free(got);
    }
    st_close(st);
    free(path);
    net_free(net);
    close_fixture(&f);
}
END_TEST

START_TEST(eight_bit_weights_stay_near_the_exact_ones) {
    struct fixture f;
    struct err err = {0};
    open_fixture(&f, families[_i]);
    struct net *net = net_new(f.model, f.kern, &err);
    struct weights *q =
        weights_quant(model_weights(f.model), f.kern, KERN_Q8, &err);
    ck_assert_msg(q != NULL, "%s", err.msg);
    const struct datum *d = &f.pass.datums[0];
    float *x = paged_logits(&f, net, model_weights(f.model), d);
    float *y = paged_logits(&f, net, q, d);
    double far = 0, all = 0;
    for (int64_t i = 0; i < d->n * (int64_t)model_conf(f.model)->V; i++) {
        far += ((double)x[i] - y[i]) * ((double)x[i] - y[i]);
        all += (double)x[i] * x[i];
    }
    ck_assert_msg(far > 0 && far < 0.01 * all, "%s: %g of %g", f.dir, far, all);
    free(x);
    free(y);
    weights_free(q);
    net_free(net);
    close_fixture(&f);
}
END_TEST

START_TEST(bits_are_equal_on_every_instruction_set_and_thread_count) {
    static const char *const isas[] = {"scalar", "avx2", "avx512"};
    struct fixture f;
    struct err err = {0};
    float *first = NULL;
    size_t n = 0;
    open_fixture(&f, families[_i]);
    for (int i = 0; i < 6; i++) {
        struct kern *k;
        struct kern_opts o = {"cpu", 1 + i % 2, isas[i / 2]};
        if (kern_open(&k, &o) != KERN_OK)
            continue; /* this processor has no such instructions */
        struct model *m = model_open(f.dir, k, &err);
        struct trainer *tr =
            trainer_new(m, k, &(struct op_create){.base = "m"}, &err);
        struct result r = {0};
        struct op_optim ad = adam(1.0, 0.1);
        ck_assert_int_eq(trainer_pass(tr, &f.pass, true, &r, &err), 0);
        result_release(&r);
        ck_assert_int_eq(trainer_optim(tr, &ad, &r, &err), 0);
        result_release(&r);
        ck_assert_int_eq(trainer_pass(tr, &f.pass, true, &r, &err), 0);
        result_release(&r);
        float *g = all_grads(tr, &n);
        if (!first) {
            first = g;
        } else {
            ck_assert_msg(memcmp(first, g, n * sizeof *g) == 0,
                          "%s, %d threads: other bits", isas[i / 2], 1 + i % 2);
            free(g);
        }
        trainer_free(tr);
        model_close(m);
        k->ops->close(k);
    }
    free(first);
    close_fixture(&f);
}
END_TEST

START_TEST(nonfinite_gradient_changes_nothing) {
    struct fixture f;
    struct err err = {0};
    open_fixture(&f, "llama");
    struct trainer *tr = full(&f);
    struct result r = {0};
    size_t n = (size_t)trainer_param(tr, 0)->count;
    float *before = calloc(n, sizeof *before),
          *after = calloc(n, sizeof *after);
    trainer_read(tr, TRAIN_WEIGHTS, 0, before, &err);
    f.pass.datums[0].field[DATUM_WEIGHTS][0] = INFINITY;
    pass(&f, tr, true, &r);
    result_release(&r);
    struct op_optim o = adam(0, 0.1);
    ck_assert_int_eq(trainer_optim(tr, &o, &r, &err), 0);
    ck_assert(result_get(&r, "skipped_nonfinite:sum") == 1);
    ck_assert_int_eq(trainer_steps(tr), 0);
    trainer_read(tr, TRAIN_WEIGHTS, 0, after, &err);
    ck_assert_mem_eq(before, after, n * sizeof *before);
    result_release(&r);
    ck_assert_int_eq(trainer_optim(tr, &o, &r, &err), 0);
    ck_assert(result_get(&r, "skipped_empty:sum") == 1);
    result_release(&r);
    free(before);
    free(after);
    trainer_free(tr);
    close_fixture(&f);
}
END_TEST

Suite *train_golden_suite(void) {
    Suite *s = suite_create("golden models");
    TCase *tc = tcase_create("golden");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, model_matches_golden_logprobs_loss_and_gradients, 0,
                        N_FAMILIES);
    tcase_add_loop_test(tc, model_matches_golden_adamw_steps, 0, N_FAMILIES);
    tcase_add_loop_test(tc, adapter_matches_golden_gradients_and_steps, 0,
                        N_FAMILIES);
    tcase_add_loop_test(tc, gradient_bits_do_not_depend_on_how_a_batch_is_split,
                        0, N_FAMILIES);
    tcase_add_loop_test(tc, sampler_path_gives_the_trainers_bits, 0,
                        N_FAMILIES);
    tcase_add_loop_test(tc, sampler_path_gives_golden_logits, 0, N_FAMILIES);
    tcase_add_loop_test(tc, eight_bit_weights_stay_near_the_exact_ones, 0,
                        N_FAMILIES);
    tcase_add_loop_test(
        tc, bits_are_equal_on_every_instruction_set_and_thread_count, 0,
        N_FAMILIES);
    tcase_add_test(tc, nonfinite_gradient_changes_nothing);
    suite_add_tcase(s, tc);
    return s;
}
