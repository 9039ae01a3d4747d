/* The optimizer around AdamW: the global norm, clipping, gradients that are
 * not finite, and its arguments. */
#include "core/fs.h"
#include "core/rng.h"
#include "core/train.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

Suite *train_optim_suite(void);

static const struct {
    const char *family;
    uint32_t rank;
} kinds[] = {{"llama", 0}, {"qwen3_tied", 0}, {"qwen3_tied", 4}};
#define N_KINDS ((int)(sizeof kinds / sizeof *kinds))

static struct kern *kern;
static struct model *model;

static struct trainer *open_trainer(int kind) {
    struct err err = {0};
    struct op_create op = {.base = "m",
                           .lora_rank = kinds[kind].rank,
                           .lora_alpha = 32,
                           .seed = 5,
                           .train_attn = true,
                           .train_mlp = true,
                           .train_unembed = true};
    if (!model) {
        char *path = fs_path("tests/golden/models/%s", kinds[kind].family);
        kern_open(&kern, &(struct kern_opts){.threads = 2});
        model = model_open(path, kern, &err);
        ck_assert_msg(model != NULL, "%s", err.msg);
        free(path);
    }
    struct trainer *tr = trainer_new(model, kern, &op, &err);
    ck_assert_msg(tr != NULL, "%s", err.msg);
    return tr;
}

static void teardown(void) {
    model_close(model);
    if (kern)
        kern->ops->close(kern);
    model = NULL;
    kern = NULL;
}

/* A part of a parameter; free() it. */
static float *part_of(struct trainer *tr, enum train_part part, int i) {
    struct err err = {0};
    float *x = malloc((size_t)trainer_param(tr, i)->count * sizeof *x);
    ck_assert_int_eq(trainer_read(tr, part, i, x, &err), 0);
    return x;
}

/* Drawn gradients, times scale; their squares' sum. */
static double draw_grads(struct trainer *tr, uint64_t seed, float scale) {
    struct err err = {0};
    double square = 0;
    for (int i = 0; i < trainer_count(tr); i++) {
        const struct train_param *p = trainer_param(tr, i);
        float *g = malloc((size_t)p->count * sizeof *g);
        for (int64_t j = 0; j < p->count; j++) {
            g[j] = rng_uniform(seed, (uint64_t)i, (uint64_t)j) - 0.5f;
            square += (double)g[j] * (double)g[j];
            g[j] *= scale;
        }
        ck_assert_int_eq(trainer_write(tr, TRAIN_GRAD, i, g, &err), 0);
        free(g);
    }
    trainer_set(tr, trainer_steps(tr), true);
    return square;
}

static void optim(struct trainer *tr, double clip, struct result *r) {
    struct op_optim o = {1e-2, 0.9, 0.95, 1e-8, 0.1, clip};
    struct err err = {0};
    ck_assert_msg(trainer_optim(tr, &o, r, &err) == 0, "%s", err.msg);
}

static void same(struct trainer *a, struct trainer *b, enum train_part part) {
    for (int i = 0; i < trainer_count(a); i++) {
        float *x = part_of(a, part, i), *y = part_of(b, part, i);
        ck_assert_msg(
            memcmp(x, y, (size_t)trainer_param(a, i)->count * sizeof *x) == 0,
            "%s, part %d: other bits", trainer_param(a, i)->name, (int)part);
        free(x);
        free(y);
    }
}

static void same_state(struct trainer *a, struct trainer *b) {
    for (int part = TRAIN_WEIGHTS; part <= TRAIN_GRAD; part++)
        same(a, b, (enum train_part)part);
    ck_assert_int_eq(trainer_steps(a), trainer_steps(b));
}

START_TEST(nonfinite_gradients_anywhere_change_nothing) {
    static const float bad[] = {INFINITY, -INFINITY, NAN, 1e30f};
    struct trainer *a = open_trainer(_i), *b = open_trainer(_i);
    struct err err = {0};
    struct result r = {0};
    draw_grads(a, 1, 1); /* moments other than 0 */
    draw_grads(b, 1, 1);
    optim(a, 0, &r);
    result_release(&r);
    optim(b, 0, &r);
    result_release(&r);
    for (int i = 0; i < trainer_count(a); i++) {
        const struct train_param *p = trainer_param(a, i);
        draw_grads(a, 2, 1);
        float *g = part_of(a, TRAIN_GRAD, i);
        g[rng_u64(9, 0, (uint64_t)i) % (uint64_t)p->count] = bad[i % 4];
        ck_assert_int_eq(trainer_write(a, TRAIN_GRAD, i, g, &err), 0);
        free(g);
        optim(a, i % 8 < 3 ? 1.0 : 0, &r); /* 1e30 would be clipped */
        ck_assert(result_get(&r, "skipped_nonfinite:sum") == 1);
        ck_assert(!trainer_pending(a));
        result_release(&r);
    }
    same_state(a, b);
    draw_grads(a, 3, 1); /* and it goes on as if nothing had been */
    draw_grads(b, 3, 1);
    optim(a, 0, &r);
    ck_assert(result_get(&r, "skipped_nonfinite:sum") == 0);
    result_release(&r);
    optim(b, 0, &r);
    result_release(&r);
    same_state(a, b);
    trainer_free(a);
    trainer_free(b);
}
END_TEST

START_TEST(norm_is_that_of_all_gradients_together) {
    struct trainer *a = open_trainer(_i);
    struct result r = {0};
    double norm = sqrt(draw_grads(a, 1, 1));
    optim(a, norm / 4, &r);
    ck_assert(fabs(result_get(&r, "unclipped_grad_l2:mean") / norm - 1) < 1e-9);
    ck_assert(fabs(result_get(&r, "grad_l2:mean") / (norm / 4) - 1) < 1e-5);
    ck_assert(result_get(&r, "clipped:mean") == 1);
    result_release(&r);
    trainer_free(a);
}
END_TEST

START_TEST(clipping_scales_all_gradients_by_one_factor) {
    struct trainer *a = open_trainer(_i), *b = open_trainer(_i);
    struct result r = {0};
    double norm = sqrt(draw_grads(a, 1, 1));
    draw_grads(b, 1, 0.25f); /* exact, and so is the clipped one nearly */
    optim(a, norm / 4, &r);
    result_release(&r);
    optim(b, 0, &r);
    result_release(&r);
    for (int i = 0; i < trainer_count(a); i++) {
        float *x = part_of(a, TRAIN_M, i), *y = part_of(b, TRAIN_M, i);
        for (int64_t j = 0; j < trainer_param(a, i)->count; j++)
            ck_assert(fabsf(x[j] - y[j]) <= 1e-6f * fabsf(y[j]));
        free(x);
        free(y);
    }
    trainer_free(a);
    trainer_free(b);
}
END_TEST

START_TEST(clipping_above_the_norm_leaves_every_bit) {
    struct trainer *a = open_trainer(_i), *b = open_trainer(_i);
    struct result r = {0};
    double norm = sqrt(draw_grads(a, 1, 1));
    draw_grads(b, 1, 1);
    optim(a, norm * 1.01, &r);
    ck_assert(result_get(&r, "clipped:mean") == 0);
    result_release(&r);
    optim(b, 0, &r);
    result_release(&r);
    same_state(a, b);
    trainer_free(a);
    trainer_free(b);
}
END_TEST

START_TEST(arguments_out_of_range_are_refused_and_change_nothing) {
    static const struct op_optim bad[] = {
        {NAN, 0.9, 0.95, 1e-8, 0, 0},     {INFINITY, 0.9, 0.95, 1e-8, 0, 0},
        {1e-3, 1.0, 0.95, 1e-8, 0, 0},    {1e-3, -0.1, 0.95, 1e-8, 0, 0},
        {1e-3, 0.9, NAN, 1e-8, 0, 0},     {1e-3, 0.9, 0.95, -1, 0, 0},
        {1e-3, 0.9, 0.95, 1e-8, NAN, 0},  {1e-3, 0.9, 0.95, 1e-8, 0, -1},
        {1e-3, 0.9, 0.95, INFINITY, 0, 0}};
    struct trainer *a = open_trainer(0), *b = open_trainer(0);
    draw_grads(a, 1, 1);
    draw_grads(b, 1, 1);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct result r = {0};
        struct err err = {0};
        ck_assert_int_eq(trainer_optim(a, &bad[i], &r, &err), -1);
        ck_assert_int_eq(err.code, ERR_INVAL);
    }
    ck_assert(trainer_pending(a));
    same_state(a, b);
    trainer_free(a);
    trainer_free(b);
}
END_TEST

Suite *train_optim_suite(void) {
    Suite *s = suite_create("optimizer");
    TCase *tc = tcase_create("optimizer");
    tcase_add_checked_fixture(tc, NULL, teardown);
    tcase_set_timeout(tc, 30);
    tcase_add_loop_test(tc, nonfinite_gradients_anywhere_change_nothing, 0,
                        N_KINDS);
    tcase_add_loop_test(tc, norm_is_that_of_all_gradients_together, 0, N_KINDS);
    tcase_add_loop_test(tc, clipping_scales_all_gradients_by_one_factor, 0,
                        N_KINDS);
    tcase_add_loop_test(tc, clipping_above_the_norm_leaves_every_bit, 0,
                        N_KINDS);
    tcase_add_test(tc, arguments_out_of_range_are_refused_and_change_nothing);
    suite_add_tcase(s, tc);
    return s;
}
