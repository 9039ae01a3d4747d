/* Full tuning with bf16 weights over an exact f32 master: the bits of a loop
 * that rounds an f32 model before every pass; and its checkpoints. */
#include "core/ckpt.h"
#include "core/fs.h"
#include "core/rng.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Suite *ckpt_precision_suite(void);

#define N 24
#define STEPS 4
/* Stored in f32; tied, with biases; stored in bf16; with stacked
 * experts. */
static const char *const families[] = {"llama", "qwen2", "qwen3_tied",
                                       "gpt_oss"};
#define N_FAMILIES ((int)(sizeof families / sizeof *families))

static char dir[64];
static struct kern *kern;
static struct model *model;

static void setup(void) {
    snprintf(dir, sizeof dir, "/tmp/fettle-precision-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void teardown(void) {
    struct err err = {0};
    fs_remove_tree(dir, &err);
    model_close(model);
    if (kern)
        kern->ops->close(kern);
    model = NULL;
    kern = NULL;
}

static void open_model(const char *family) {
    struct err err = {0};
    char *path = fs_path("tests/golden/models/%s", family);
    ck_assert_int_eq(kern_open(&kern, &(struct kern_opts){.threads = 2}), 0);
    model = model_open(path, kern, &err);
    ck_assert_msg(model != NULL, "%s", err.msg);
    free(path);
}

static struct trainer *trainer(enum tuning p) {
    struct err err = {0};
    struct op_create op = {.base = "m", .tuning = p};
    struct trainer *tr = trainer_new(model, kern, &op, &err);
    ck_assert_msg(tr != NULL, "%s", err.msg);
    return tr;
}

static void pass(struct trainer *tr, int k, struct result *r) {
    uint32_t tokens[N], targets[N];
    struct datum d = {N, 1, tokens, targets, {0}};
    struct op_pass p = {LOSS_CROSS_ENTROPY, NAN, NAN, NAN, 1, &d};
    struct err err = {0};
    for (uint32_t t = 0; t < N; t++) {
        tokens[t] = (uint32_t)(rng_u64(1, (uint64_t)k, t) % 257);
        targets[t] = (uint32_t)(rng_u64(2, (uint64_t)k, t) % 257);
    }
    ck_assert_msg(trainer_pass(tr, &p, true, r, &err) == 0, "%s", err.msg);
}

static void step(struct trainer *tr) {
    struct op_optim o = {1e-3, 0.9, 0.95, 1e-8, 0.1, 1.0};
    struct result r = {0};
    struct err err = {0};
    ck_assert_int_eq(trainer_optim(tr, &o, &r, &err), 0);
    ck_assert(result_get(&r, "skipped_nonfinite:sum") == 0);
    result_release(&r);
}

static float *part_of(struct trainer *tr, enum train_part part, int i) {
    struct err err = {0};
    float *x = malloc((size_t)trainer_param(tr, i)->count * sizeof *x);
    ck_assert_msg(trainer_read(tr, part, i, x, &err) == 0, "%s", err.msg);
    return x;
}

static void write_part(struct trainer *tr, enum train_part part, int i,
                       float *x) {
    struct err err = {0};
    ck_assert_int_eq(trainer_write(tr, part, i, x, &err), 0);
    free(x);
}

static void same(struct trainer *tr, int i, float *a, float *b,
                 const char *what) {
    const struct train_param *p = trainer_param(tr, i);
    ck_assert_msg(memcmp(a, b, (size_t)p->count * sizeof *a) == 0,
                  "%s of %s: other bits", what, p->name);
    free(a);
    free(b);
}

/* The f32 master of a bf16 trainer, out of weights and low words. */
static float *master_of(struct trainer *tr, int i) {
    float *w = part_of(tr, TRAIN_WEIGHTS, i), *lo = part_of(tr, TRAIN_LOW, i);
    for (int64_t j = 0; j < trainer_param(tr, i)->count; j++) {
        uint32_t bits;
        memcpy(&bits, &w[j], 4);
        ck_assert_uint_eq(bits & 0xffff, 0); /* a bf16 number */
        bits += (uint32_t)(int32_t)lo[j];
        memcpy(&w[j], &bits, 4);
    }
    free(lo);
    return w;
}

/* To bf16, ties away from 0. */
static float *rounded(float *x, int64_t n) {
    for (int64_t j = 0; j < n; j++) {
        uint32_t bits;
        memcpy(&bits, &x[j], 4);
        bits = (bits + 0x8000u) & 0xffff0000u;
        memcpy(&x[j], &bits, 4);
    }
    return x;
}

START_TEST(steps_are_those_of_a_rounded_model_and_an_f32_master) {
    open_model(families[_i]);
    struct trainer *bf16 = trainer(TUNE_BF16);
    struct trainer *eye = trainer(TUNE_FP32); /* rounded, runs passes */
    struct trainer *master = trainer(TUNE_FP32);
    for (int k = 0; k < STEPS; k++) {
        struct result a = {0}, b = {0};
        for (int i = 0; i < trainer_count(eye); i++)
            write_part(eye, TRAIN_WEIGHTS, i,
                       rounded(part_of(master, TRAIN_WEIGHTS, i),
                               trainer_param(eye, i)->count));
        pass(bf16, k, &a);
        pass(eye, k, &b);
        ck_assert_mem_eq(a.logprobs[0], b.logprobs[0], N * sizeof(float));
        result_release(&a);
        result_release(&b);
        for (int i = 0; i < trainer_count(eye); i++) {
            same(eye, i, part_of(bf16, TRAIN_GRAD, i),
                 part_of(eye, TRAIN_GRAD, i), "gradient");
            write_part(master, TRAIN_GRAD, i, part_of(eye, TRAIN_GRAD, i));
            if (trainer_param(eye, i)->has_lookup)
                write_part(master, TRAIN_GRAD_LOOKUP, i,
                           part_of(eye, TRAIN_GRAD_LOOKUP, i));
        }
        trainer_set(master, trainer_steps(master), true);
        step(bf16);
        step(master);
        trainer_set(eye, 0, true);
        step(eye); /* clears its gradients; its weights are written anew */
        for (int i = 0; i < trainer_count(eye); i++) {
            same(eye, i, master_of(bf16, i), part_of(master, TRAIN_WEIGHTS, i),
                 "master");
            same(eye, i, part_of(bf16, TRAIN_V, i), part_of(master, TRAIN_V, i),
                 "v");
        }
    }
    trainer_free(bf16);
    trainer_free(eye);
    trainer_free(master);
}
END_TEST

START_TEST(state_resumes_with_every_bit_of_the_master) {
    open_model(families[_i]);
    struct trainer *a = trainer(TUNE_BF16), *b = trainer(TUNE_BF16);
    struct result r = {0};
    struct err err = {0};
    int64_t bytes;
    char *path = fs_path("%s/state", dir);
    for (int k = 0; k < 2; k++) {
        pass(a, k, &r);
        result_release(&r);
        step(a);
    }
    ck_assert_msg(ckpt_save(path, a, CKPT_STATE, 1, &bytes, &err) == 0, "%s",
                  err.msg);
    ck_assert_msg(ckpt_load(path, b, true, &err) == 0, "%s", err.msg);
    struct manifest m;
    ck_assert_int_eq(ckpt_verify(path, &m, &err), 0);
    ck_assert_int_eq(m.tuning, TUNE_BF16);
    ck_assert_int_eq(ckpt_create(&m).tuning, TUNE_BF16);
    for (int k = 2; k < 4; k++) {
        pass(a, k, &r);
        result_release(&r);
        pass(b, k, &r);
        result_release(&r);
        step(a);
        step(b);
    }
    for (int i = 0; i < trainer_count(a); i++)
        same(a, i, master_of(a, i), master_of(b, i), "master");
    struct trainer *c = trainer(TUNE_FP32);
    ck_assert_int_eq(ckpt_load(path, c, true, &err), -1);
    ck_assert_int_eq(err.code, ERR_CONFLICT);
    trainer_free(a);
    trainer_free(b);
    trainer_free(c);
    free(path);
}
END_TEST

START_TEST(sampler_checkpoint_has_the_weights_that_passes_see) {
    open_model(families[_i]);
    struct trainer *a = trainer(TUNE_BF16);
    struct result r = {0};
    struct err err = {0};
    int64_t bytes;
    char *path = fs_path("%s/sampler", dir);
    pass(a, 0, &r);
    result_release(&r);
    step(a);
    ck_assert_msg(ckpt_save(path, a, CKPT_SAMPLER, 1, &bytes, &err) == 0, "%s",
                  err.msg);
    struct ckpt_policy *p = ckpt_open(path, model, kern, &err);
    ck_assert_msg(p != NULL, "%s", err.msg);
    struct net *net = net_new(model, kern, &err);
    struct policy policy = ckpt_policy(p);
    int32_t tokens[N], targets[N], start[] = {0, N};
    float lp[N];
    for (int t = 0; t < N; t++) {
        tokens[t] = (int32_t)(rng_u64(1, 1, (uint64_t)t) % 257);
        targets[t] = (int32_t)(rng_u64(2, 1, (uint64_t)t) % 257);
    }
    struct net_batch batch = {N, 1, tokens, start};
    struct net_head head = {.k = 1, .targets = targets, .logprobs = lp};
    ck_assert_int_eq(net_pass(net, &policy, &batch, false, &err), 0);
    ck_assert_int_eq(net_head(net, &policy, &head, &err), 0);
    pass(a, 1, &r);
    ck_assert_mem_eq(lp, r.logprobs[0], sizeof lp);
    result_release(&r);
    net_free(net);
    ckpt_close(p);
    trainer_free(a);
    free(path);
}
END_TEST

START_TEST(adapters_have_no_bf16_weights) {
    open_model("llama");
    struct err err = {0};
    struct op_create op = {.base = "m",
                           .lora_rank = 4,
                           .lora_alpha = 32,
                           .train_attn = true,
                           .tuning = TUNE_BF16};
    ck_assert_ptr_null(trainer_new(model, kern, &op, &err));
    ck_assert_int_eq(err.code, ERR_INVAL);
}
END_TEST

Suite *ckpt_precision_suite(void) {
    Suite *s = suite_create("bf16 weights");
    TCase *tc = tcase_create("precision");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 30);
    tcase_add_loop_test(tc,
                        steps_are_those_of_a_rounded_model_and_an_f32_master, 0,
                        N_FAMILIES);
    tcase_add_loop_test(tc, state_resumes_with_every_bit_of_the_master, 0,
                        N_FAMILIES);
    tcase_add_loop_test(tc, sampler_checkpoint_has_the_weights_that_passes_see,
                        0, N_FAMILIES);
    tcase_add_test(tc, adapters_have_no_bf16_weights);
    suite_add_tcase(s, tc);
    return s;
}
