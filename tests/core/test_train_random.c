/* The model without a directory that benches run: it plans, trains and has
 * the same weights for the same seed. */
#include "core/train.h"

#include <check.h>
#include <math.h>
#include <string.h>

Suite *train_random_suite(void);

static const struct conf small = {
    .family = "qwen2",
    .has = HAS_NORMS_LLAMA | HAS_SPLIT_QKV | HAS_SPLIT_MLP | HAS_QKV_BIAS,
    .C = 32,
    .L = 2,
    .H = 4,
    .K = 2,
    .D = 8,
    .F = 48,
    .V = 100,
    .max_pos = 64,
    .norm_eps = 1e-6f,
    .embed_scale = 1,
    .attn_scale = 0.35f,
    .tied = true,
    .rope = {{.theta = 1e4, .factor = 1, .scale = 1}},
    .rot = 8,
    .bos = -1,
    .pad = -1,
};

static double metric(const struct result *r, const char *name) {
    for (uint32_t i = 0; i < r->n_metrics; i++)
        if (strcmp(r->metrics[i].name, name) == 0)
            return r->metrics[i].value;
    return NAN;
}

/* The loss of a row of 9 tokens, then a step. */
static double train_once(struct trainer *tr) {
    uint32_t tokens[] = {1, 5, 9, 2, 4, 99, 0, 7, 5};
    uint32_t targets[] = {5, 9, 2, 4, 99, 0, 7, 5, 3};
    float weights[] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
    struct datum d = {9, 1, tokens, targets, {[DATUM_WEIGHTS] = weights}};
    struct op_pass pass = {
        .clip_low = NAN, .clip_high = NAN, .beta = NAN, .n = 1, .datums = &d};
    struct op_optim optim = {
        .lr = 1e-2, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8};
    struct result r = {0};
    struct err err = {0};
    ck_assert_msg(trainer_pass(tr, &pass, true, &r, &err) == 0, "%s", err.msg);
    double loss = metric(&r, "loss:sum");
    result_release(&r);
    ck_assert_msg(trainer_optim(tr, &optim, &r, &err) == 0, "%s", err.msg);
    result_release(&r);
    return loss;
}

START_TEST(random_models_train_and_are_the_same_for_a_seed) {
    double first[2] = {0};
    for (int run = 0; run < 4; run++) {
        struct op_create op = {.base = "random",
                               .from = "",
                               .lora_rank = run % 2 ? 4 : 0,
                               .lora_alpha = 8,
                               .train_attn = true,
                               .train_mlp = true};
        struct err err = {0};
        struct kern *k;
        ck_assert_int_eq(kern_open(&k, &(struct kern_opts){.threads = 2}), 0);
        struct model *m = model_random(&small, k, 3, &err);
        ck_assert_msg(m != NULL, "%s", err.msg);
        ck_assert_int_gt(model_bytes(m), 2 * small.V * small.C);
        struct trainer *tr = trainer_new(m, k, &op, &err);
        ck_assert_msg(tr != NULL, "%s", err.msg);
        double before = train_once(tr), after = train_once(tr);
        ck_assert_double_eq_tol(before, 9 * log(100), 1);
        ck_assert_double_lt(after, before);
        if (run < 2)
            first[run] = after;
        ck_assert(after == first[run % 2]);
        trainer_free(tr);
        model_close(m);
        k->ops->close(k);
    }
}
END_TEST

Suite *train_random_suite(void) {
    Suite *s = suite_create("random models");
    TCase *tc = tcase_create("random models");
    tcase_add_test(tc, random_models_train_and_are_the_same_for_a_seed);
    suite_add_tcase(s, tc);
    return s;
}
