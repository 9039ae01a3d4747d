/* Passes: gradients that do not depend on how a batch is cut into calls,
 * activations that a second call finds parked, steps that allocate nothing,
 * adapters that do not see each other. */
#include "core/fs.h"
#include "core/rng.h"
#include "core/train.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

Suite *train_pass_suite(void);

#define DATUMS 10
#define LONGEST 41
#define VOCAB 257

/* What is trained: an untied head, a tied one, biases, adapters. */
static const struct {
    const char *family;
    uint32_t rank;
} kinds[] = {{"qwen3", 0},      {"qwen2", 0}, {"qwen3_tied", 0},
             {"qwen3_tied", 4}, {"llama", 8}, {"qwen2", 3}};
#define N_KINDS ((int)(sizeof kinds / sizeof *kinds))

static struct kern *kern;
static struct model *model;
static struct kern_ops counting; /* the device's table, with counters */
static const struct kern_ops *plain;
static int n_alloc, n_embed;
static uint32_t tokens[DATUMS][LONGEST], targets[DATUMS][LONGEST];
static float weights[DATUMS][LONGEST];
static struct datum datums[DATUMS];

static void *count_alloc(struct kern *k, size_t bytes) {
    n_alloc++;
    return plain->alloc(k, bytes);
}

static int count_embed(struct kern *k, const struct kern_embed *a) {
    n_embed++;
    return plain->embed(k, a);
}

static void open_model(const char *family) {
    struct err err = {0};
    char *path = fs_path("tests/golden/models/%s", family);
    ck_assert_int_eq(kern_open(&kern, &(struct kern_opts){.threads = 2}), 0);
    plain = kern->ops;
    counting = *plain;
    counting.alloc = count_alloc;
    counting.embed = count_embed;
    kern->ops = &counting;
    model = model_open(path, kern, &err);
    ck_assert_msg(model != NULL, "%s", err.msg);
    free(path);
    for (uint32_t i = 0; i < DATUMS; i++) {
        datums[i] = (struct datum){.n = 3 + 38 * i / (DATUMS - 1),
                                   .k = 1,
                                   .tokens = tokens[i],
                                   .targets = targets[i]};
        datums[i].field[DATUM_WEIGHTS] = weights[i];
        for (uint32_t t = 0; t < datums[i].n; t++) {
            tokens[i][t] = (uint32_t)(rng_u64(1, i, t) % VOCAB);
            targets[i][t] = (uint32_t)(rng_u64(2, i, t) % VOCAB);
            weights[i][t] = rng_uniform(3, i, t) - 0.3f;
        }
    }
}

static void teardown(void) {
    model_close(model);
    if (kern) {
        kern->ops = plain;
        kern->ops->close(kern);
    }
    model = NULL;
    kern = NULL;
}

static struct trainer *trainer(uint32_t rank, uint64_t seed) {
    struct err err = {0};
    struct op_create op = {.base = "m",
                           .lora_rank = rank,
                           .lora_alpha = 32,
                           .seed = seed,
                           .train_attn = true,
                           .train_mlp = true,
                           .train_unembed = true};
    struct trainer *tr = trainer_new(model, kern, &op, &err);
    ck_assert_msg(tr != NULL, "%s", err.msg);
    return tr;
}

static struct op_pass pass_of(uint32_t first, uint32_t n) {
    return (struct op_pass){LOSS_CROSS_ENTROPY, NAN, NAN, NAN, n,
                            datums + first};
}

/* Datums first … first+n; the loss. */
static double pass(struct trainer *tr, uint32_t first, uint32_t n,
                   bool backward) {
    struct op_pass p = pass_of(first, n);
    struct result r = {0};
    struct err err = {0};
    ck_assert_msg(trainer_pass(tr, &p, backward, &r, &err) == 0, "%s", err.msg);
    double loss = result_get(&r, "loss:sum");
    result_release(&r);
    return loss;
}

static void step(struct trainer *tr, double lr, double clip) {
    struct op_optim o = {lr, 0.9, 0.95, 1e-8, 0.1, clip};
    struct result r = {0};
    struct err err = {0};
    ck_assert_msg(trainer_optim(tr, &o, &r, &err) == 0, "%s", err.msg);
    result_release(&r);
}

/* A part of all parameters, behind each other. */
static float *all_of(struct trainer *tr, enum train_part part, size_t *n) {
    struct err err = {0};
    float *out = NULL;
    *n = 0;
    for (int i = 0; i < trainer_count(tr); i++) {
        const struct train_param *p = trainer_param(tr, i);
        bool head = part == TRAIN_GRAD && p->has_lookup;
        out = realloc(out, (*n + 2 * (size_t)p->count) * sizeof *out);
        ck_assert_int_eq(trainer_read(tr, part, i, out + *n, &err), 0);
        *n += (size_t)p->count;
        if (head)
            trainer_read(tr, TRAIN_GRAD_LOOKUP, i, out + *n, &err);
        *n += head ? (size_t)p->count : 0;
    }
    return out;
}

static void same(struct trainer *a, struct trainer *b, enum train_part part,
                 const char *what) {
    size_t n, m;
    float *x = all_of(a, part, &n), *y = all_of(b, part, &m);
    ck_assert_uint_eq(n, m);
    ck_assert_msg(memcmp(x, y, n * sizeof *x) == 0, "%s: other bits", what);
    free(x);
    free(y);
}

/* ---- accumulation ---- */

START_TEST(gradient_bits_are_equal_over_one_two_or_five_calls) {
    open_model(kinds[_i].family);
    struct trainer *one = trainer(kinds[_i].rank, 7);
    if (kinds[_i].rank) { /* B is 0 at first, and so would be dA */
        pass(one, 0, 2, true);
        step(one, 1e-2, 0);
    }
    pass(one, 0, DATUMS, true);
    for (uint32_t calls = 2; calls <= 5; calls += 3) {
        struct trainer *tr = trainer(kinds[_i].rank, 7);
        if (kinds[_i].rank) {
            pass(tr, 0, 2, true);
            step(tr, 1e-2, 0);
        }
        for (uint32_t i = 0, at = 0; i < calls; i++) {
            uint32_t end = DATUMS * (i + 1) / calls;
            pass(tr, at, end - at, true);
            at = end;
        }
        same(one, tr, TRAIN_GRAD, "gradient");
        trainer_free(tr);
    }
    trainer_free(one);
}
END_TEST

/* Families that differ in what a pass may leave untouched: rows of the
 * embedding, experts, biases, sinks. */
static const char *const layouts[] = {"qwen2", "qwen3_tied", "qwen3_moe",
                                      "gpt_oss"};

START_TEST(step_leaves_nothing_in_the_gradients_of_the_next) {
    open_model(layouts[_i]);
    struct trainer *used = trainer(0, 7), *fresh = trainer(0, 7);
    pass(used, 0, DATUMS, true);
    step(used, 0, 0);
    pass(used, 0, 1, true);
    pass(fresh, 0, 1, true);
    same(used, fresh, TRAIN_GRAD, "gradient");
    trainer_free(used);
    trainer_free(fresh);
}
END_TEST

START_TEST(gradient_bits_do_not_depend_on_micro_batches) {
    /* Together more tokens than a micro-batch takes. */
    enum { MANY = 120 };
    open_model(kinds[_i].family);
    struct trainer *a = trainer(kinds[_i].rank, 7);
    struct trainer *b = trainer(kinds[_i].rank, 7);
    struct datum many[MANY];
    for (int i = 0; i < MANY; i++) {
        many[i] = datums[DATUMS - 1 - i % 2];
        struct op_pass p = {LOSS_CROSS_ENTROPY, NAN, NAN, NAN, 1, &many[i]};
        struct result r = {0};
        struct err err = {0};
        ck_assert_int_eq(trainer_pass(b, &p, true, &r, &err), 0);
        result_release(&r);
    }
    struct op_pass p = {LOSS_CROSS_ENTROPY, NAN, NAN, NAN, MANY, many};
    struct result r = {0};
    struct err err = {0};
    ck_assert_int_eq(trainer_pass(a, &p, true, &r, &err), 0);
    ck_assert(result_get(&r, "num_tokens:sum") > 4096);
    ck_assert_int_ge(trainer_forwards(a), 2);
    result_release(&r);
    same(a, b, TRAIN_GRAD, "gradient");
    trainer_free(a);
    trainer_free(b);
}
END_TEST

START_TEST(forward_changes_no_state_and_gives_the_loss) {
    open_model("qwen3_tied");
    struct trainer *a = trainer(0, 1), *b = trainer(0, 1);
    double loss = pass(a, 0, 4, false);
    ck_assert(!trainer_pending(a));
    ck_assert(loss == pass(a, 0, 4, true));
    pass(b, 0, 4, true);
    pass(a, 3, 5, false);
    same(a, b, TRAIN_GRAD, "gradient");
    same(a, b, TRAIN_WEIGHTS, "weights");
    trainer_free(a);
    trainer_free(b);
}
END_TEST

/* ---- parked activations ---- */

START_TEST(pass_over_the_datums_of_a_forward_needs_no_second_one) {
    open_model(kinds[_i].family);
    struct trainer *a = trainer(kinds[_i].rank, 7);
    struct trainer *b = trainer(kinds[_i].rank, 7);
    struct op_pass p = pass_of(0, 6);
    struct result r = {0}, q = {0};
    struct err err = {0};
    n_embed = 0;
    pass(a, 0, 6, false); /* forward_backward_custom: other weights … */
    for (uint32_t t = 0; t < 3; t++)
        weights[0][t] *= -2;
    ck_assert_int_eq(trainer_pass(a, &p, true, &r, &err), 0);
    ck_assert_int_eq(n_embed, 1);
    ck_assert_int_eq(trainer_forwards(a), 1);
    ck_assert_int_eq(trainer_pass(b, &p, true, &q, &err), 0); /* … alone */
    ck_assert(result_get(&r, "loss:sum") == result_get(&q, "loss:sum"));
    for (uint32_t i = 0; i < 6; i++)
        ck_assert_mem_eq(r.logprobs[i], q.logprobs[i],
                         r.logprobs_len[i] * sizeof(float));
    same(a, b, TRAIN_GRAD, "gradient");
    result_release(&r);
    result_release(&q);
    trainer_free(a);
    trainer_free(b);
}
END_TEST

START_TEST(chunks_are_parked_together) {
    open_model("llama");
    struct trainer *a = trainer(4, 7), *b = trainer(4, 7);
    for (uint32_t i = 0; i < 5; i++)
        pass(a, 2 * i, 2, false);
    for (uint32_t i = 0; i < 5; i++)
        pass(a, 2 * i, 2, true);
    ck_assert_int_eq(trainer_forwards(a), 5);
    pass(b, 0, DATUMS, true);
    same(a, b, TRAIN_GRAD, "gradient");
    trainer_free(a);
    trainer_free(b);
}
END_TEST

START_TEST(parked_activations_die_with_the_weights_they_are_of) {
    open_model("qwen2");
    struct trainer *a = trainer(0, 7), *b = trainer(0, 7);
    struct err err = {0};
    size_t n = (size_t)trainer_param(a, 2)->count;
    float *w = calloc(n, sizeof *w);
    pass(a, 0, 1, true);
    pass(a, 1, 3, false);
    step(a, 1e-2, 0);
    pass(a, 1, 3, true);
    ck_assert_int_eq(trainer_forwards(a), 3); /* an update */
    pass(a, 4, 3, false);
    ck_assert_int_eq(trainer_read(a, TRAIN_WEIGHTS, 2, w, &err), 0);
    w[0] += 1;
    ck_assert_int_eq(trainer_write(a, TRAIN_WEIGHTS, 2, w, &err), 0);
    pass(a, 4, 3, true);
    ck_assert_int_eq(trainer_forwards(a), 5); /* a load */
    pass(a, 7, 2, false);
    pass(a, 7, 3, true);
    ck_assert_int_eq(trainer_forwards(a), 7); /* other datums */
    pass(b, 0, 1, true);
    step(b, 1e-2, 0);
    pass(b, 1, 3, true);
    ck_assert_int_eq(trainer_write(b, TRAIN_WEIGHTS, 2, w, &err), 0);
    pass(b, 4, 3, true);
    pass(b, 7, 3, true);
    same(a, b, TRAIN_GRAD, "gradient");
    free(w);
    trainer_free(a);
    trainer_free(b);
}
END_TEST

START_TEST(sampling_between_the_passes_costs_only_what_it_overwrites) {
    open_model("qwen3");
    struct trainer *a = trainer(4, 7), *b = trainer(4, 7);
    struct err err = {0};
    struct policy p = trainer_policy(a);
    struct net_batch other = {3, 1, (int32_t[]){1, 2, 3}, (int32_t[]){0, 3}};
    pass(a, 0, 5, false);
    pass(a, 5, 5, false);
    ck_assert_int_eq(net_pass(trainer_net(a), &p, &other, false, &err), 0);
    pass(a, 0, 5, true);
    pass(a, 5, 5, true);
    ck_assert_int_le(trainer_forwards(a), 3);
    pass(b, 0, DATUMS, true);
    same(a, b, TRAIN_GRAD, "gradient");
    trainer_free(a);
    trainer_free(b);
}
END_TEST

START_TEST(passes_without_room_to_park_run_again) {
    open_model("qwen3");
    struct trainer *a = trainer(4, 7), *b = trainer(4, 7);
    trainer_park(a, 0);
    pass(a, 0, 5, false);
    pass(a, 5, 5, false);
    pass(a, 0, 5, true);
    pass(a, 5, 5, true);
    ck_assert_int_eq(trainer_forwards(a), 4);
    pass(b, 0, DATUMS, true);
    same(a, b, TRAIN_GRAD, "gradient");
    trainer_free(a);
    trainer_free(b);
}
END_TEST

/* ---- steady state ---- */

START_TEST(steps_after_the_first_allocate_nothing_on_the_device) {
    open_model(kinds[_i].family);
    struct trainer *tr = trainer(kinds[_i].rank, 7);
    for (int s = 0; s < 4; s++) {
        n_alloc = 0;
        pass(tr, 0, 5, false);
        pass(tr, 0, 5, true);
        pass(tr, 5, 5, true);
        step(tr, 1e-3, 1);
        ck_assert_msg(s == 0 || n_alloc == 0, "step %d: %d allocations", s,
                      n_alloc);
        ck_assert(s > 0 || n_alloc > 0);
    }
    trainer_free(tr);
}
END_TEST

START_TEST(net_bytes_are_what_a_step_allocates) {
    open_model(kinds[_i].family);
    struct trainer *tr = trainer(kinds[_i].rank, 7);
    uint32_t T = 0;
    for (uint32_t i = 0; i < DATUMS; i++)
        T += datums[i].n;
    struct net_size z = net_bytes(model_conf(model), (int32_t)T,
                                  (int32_t)kinds[_i].rank, 1, true);
    ck_assert(z.keep > 0 && z.work > 0);
    struct net *net = trainer_net(tr);
    struct err err = {0};
    ck_assert_int_eq(
        net_reserve(net, (int32_t)T, (int32_t)kinds[_i].rank, 1, true, &err),
        0);
    n_alloc = 0;
    pass(tr, 0, DATUMS, true);
    /* token ids, two rope tables and the token losses are the rest */
    ck_assert_int_le(n_alloc, 4);
    trainer_free(tr);
}
END_TEST

/* ---- adapters ---- */

START_TEST(adapters_over_one_base_do_not_see_each_other) {
    static const struct {
        uint32_t rank;
        uint64_t seed;
    } kind[3] = {{4, 1}, {16, 1}, {4, 2}};
    struct trainer *alone[3], *together[3];
    open_model(_i / 2 ? "qwen3_tied" : "llama");
    for (int i = 0; i < 3; i++) {
        alone[i] = trainer(kind[i].rank, kind[i].seed);
        for (uint32_t s = 0; s < 3; s++) {
            pass(alone[i], 3 * s, 2 + (uint32_t)i, true);
            step(alone[i], 1e-2, i == 1 ? 0.1 : 0);
        }
    }
    for (int i = 0; i < 3; i++) {
        together[i] = trainer(kind[i].rank, kind[i].seed);
        if (i > 0 && _i % 2)
            trainer_share(together[i], together[0]);
    }
    for (uint32_t s = 0; s < 3; s++) {
        for (int i = 0; i < 3; i++)
            pass(together[i], 3 * s, 2 + (uint32_t)i, true);
        for (int i = 2; i >= 0; i--)
            step(together[i], 1e-2, i == 1 ? 0.1 : 0);
    }
    size_t n, m;
    float *x = all_of(alone[0], TRAIN_WEIGHTS, &n);
    float *y = all_of(alone[2], TRAIN_WEIGHTS, &m);
    ck_assert(n == m && memcmp(x, y, n * sizeof *x) != 0); /* other seed */
    free(x);
    free(y);
    for (int i = 0; i < 3; i++) {
        same(alone[i], together[i], TRAIN_WEIGHTS, "weights");
        same(alone[i], together[i], TRAIN_V, "moments");
        trainer_free(alone[i]);
        trainer_free(together[i]);
    }
}
END_TEST

START_TEST(shared_buffers_are_allocated_once_and_outlive_their_first_owner) {
    open_model("llama");
    struct trainer *a = trainer(8, 1), *b = trainer(4, 2), *c = trainer(4, 2);
    trainer_share(b, a);
    pass(a, 0, DATUMS, true);
    step(a, 1e-3, 0);
    pass(b, 0, 4, true);
    n_alloc = 0;
    pass(b, 0, DATUMS, true);
    ck_assert_int_le(n_alloc, 1); /* b's own token losses */
    pass(a, 0, 4, false);         /* equal datums, other weights: not b's */
    pass(b, 0, 4, true);
    ck_assert_int_eq(trainer_forwards(b), 3);
    trainer_free(a);
    pass(b, 4, 4, true);
    pass(c, 0, 4, true);
    pass(c, 0, DATUMS, true);
    pass(c, 0, 4, true);
    pass(c, 4, 4, true);
    same(b, c, TRAIN_GRAD, "gradient");
    trainer_free(b);
    trainer_free(c);
}
END_TEST

Suite *train_pass_suite(void) {
    Suite *s = suite_create("passes");
    TCase *tc = tcase_create("passes");
    tcase_add_checked_fixture(tc, NULL, teardown);
    tcase_set_timeout(tc, 30);
    tcase_add_loop_test(tc, gradient_bits_are_equal_over_one_two_or_five_calls,
                        0, N_KINDS);
    tcase_add_loop_test(tc, step_leaves_nothing_in_the_gradients_of_the_next, 0,
                        sizeof layouts / sizeof *layouts);
    tcase_add_loop_test(tc, gradient_bits_do_not_depend_on_micro_batches, 2, 4);
    tcase_add_test(tc, forward_changes_no_state_and_gives_the_loss);
    tcase_add_loop_test(
        tc, pass_over_the_datums_of_a_forward_needs_no_second_one, 0, N_KINDS);
    tcase_add_test(tc, chunks_are_parked_together);
    tcase_add_test(tc, parked_activations_die_with_the_weights_they_are_of);
    tcase_add_test(tc,
                   sampling_between_the_passes_costs_only_what_it_overwrites);
    tcase_add_test(tc, passes_without_room_to_park_run_again);
    tcase_add_loop_test(
        tc, steps_after_the_first_allocate_nothing_on_the_device, 0, N_KINDS);
    tcase_add_loop_test(tc, net_bytes_are_what_a_step_allocates, 0, N_KINDS);
    tcase_add_loop_test(tc, adapters_over_one_base_do_not_see_each_other, 0, 4);
    tcase_add_test(
        tc, shared_buffers_are_allocated_once_and_outlive_their_first_owner);
    suite_add_tcase(s, tc);
    return s;
}
