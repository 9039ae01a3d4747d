/* A training run whose every bit is known: the SHA-256 of its final weights
 * and moments is written here, and comes out for every instruction set and
 * thread count, on every machine. A change of it changes what all runs give:
 * then the new digest goes in with the reason. */
#include "core/fs.h"
#include "core/rng.h"
#include "core/train.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

Suite *train_digest_suite(void);

#define STEPS 4
#define ROWS 3
#define LONGEST 40

static const struct {
    const char *family;
    uint32_t rank;
    const char *sha256;
} runs[] = {
    {"qwen2", 0,
     "d8b5989a1376d3a776d2b631c7597ea42754e0d2c9dd76348f10ca5709cba0ed"},
    {"qwen3_tied", 0,
     "7daeb128de3a3fec4c14dca21077f2fbbc7a49d8cba891c54b0f336472d59bfa"},
    {"llama3", 0,
     "2b6deffb3f3a53ea2f169b7ffea87d82c0625fd4e425c548baefd07cbd84c046"},
    {"qwen3", 8,
     "a1f7947a0baeac8dca0fdc3fd62cb098d44d3e3ed1f2a7964179eac7ea5cda87"},
};

static const struct kern_opts devices[] = {
    {"cpu", 1, "scalar"}, {"cpu", 2, "scalar"}, {"cpu", 1, "avx2"},
    {"cpu", 2, "avx2"},   {"cpu", 1, "avx512"}, {"cpu", 2, "avx512"},
};

struct batch {
    uint32_t tokens[ROWS][LONGEST], targets[ROWS][LONGEST];
    float weights[ROWS][LONGEST];
    struct datum datums[ROWS];
};

/* Rows of 21, 30 and 39 tokens; the same for every step number. */
static void batch_draw(struct batch *b, uint64_t step, int32_t V) {
    for (uint32_t r = 0; r < ROWS; r++) {
        uint32_t n = 21 + 9 * r;
        for (uint32_t t = 0; t < n; t++) {
            uint64_t x = rng_u64(7, step, r * LONGEST + t);
            b->tokens[r][t] = (uint32_t)(x % (uint32_t)V);
            b->targets[r][t] = (uint32_t)(x >> 32) % (uint32_t)V;
            b->weights[r][t] = t % 5 == 0 ? 0.0f : 0.01f * (float)(t % 7);
        }
        b->datums[r] =
            (struct datum){.n = n,
                           .k = 1,
                           .tokens = b->tokens[r],
                           .targets = b->targets[r],
                           .field = {[DATUM_WEIGHTS] = b->weights[r]}};
    }
}

static void run_step(struct trainer *tr, uint64_t step) {
    static struct batch b;
    struct err err = {0};
    struct result r = {0};
    batch_draw(&b, step, model_conf(trainer_model(tr))->V);
    struct op_pass pass = {.loss = LOSS_CROSS_ENTROPY,
                           .clip_low = NAN,
                           .clip_high = NAN,
                           .beta = NAN,
                           .n = ROWS,
                           .datums = b.datums};
    struct op_optim optim = {.lr = 1e-3 / (double)(1 + step),
                             .beta1 = 0.9,
                             .beta2 = 0.95,
                             .eps = 1e-8,
                             .weight_decay = 0.1,
                             .grad_clip_norm = 0.5};
    ck_assert_msg(trainer_pass(tr, &pass, true, &r, &err) == 0, "%s", err.msg);
    result_release(&r);
    ck_assert_msg(trainer_optim(tr, &optim, &r, &err) == 0, "%s", err.msg);
    result_release(&r);
}

/* Weights, m, v of every parameter in order, as little-endian f32. */
static void run_digest(struct trainer *tr, char hex[65]) {
    static const enum train_part parts[] = {TRAIN_WEIGHTS, TRAIN_M, TRAIN_V};
    struct err err = {0};
    size_t n = 0, at = 0;
    for (int i = 0; i < trainer_count(tr); i++)
        n += 3 * (size_t)trainer_param(tr, i)->count;
    float *all = malloc(n * sizeof *all);
    ck_assert_ptr_nonnull(all);
    for (int p = 0; p < 3; p++)
        for (int i = 0; i < trainer_count(tr); i++) {
            ck_assert_int_eq(trainer_read(tr, parts[p], i, all + at, &err), 0);
            at += (size_t)trainer_param(tr, i)->count;
        }
    fs_sha256(all, n * sizeof *all, hex);
    free(all);
}

START_TEST(training_gives_the_written_digest_on_every_set_and_thread_count) {
    struct op_create op = {.base = "golden",
                           .from = "",
                           .lora_rank = runs[_i].rank,
                           .lora_alpha = 16,
                           .seed = 11,
                           .train_attn = true,
                           .train_mlp = true,
                           .train_unembed = true};
    char *dir = fs_path("tests/golden/models/%s", runs[_i].family), hex[65];
    for (size_t d = 0; d < sizeof devices / sizeof *devices; d++) {
        struct err err = {0};
        struct kern *k = NULL;
        int rc = kern_open(&k, &devices[d]);
        if (rc == KERN_ENODEV)
            continue; /* said by the kernels' tests */
        ck_assert_int_eq(rc, KERN_OK);
        struct model *m = model_open(dir, k, &err);
        struct trainer *tr = m ? trainer_new(m, k, &op, &err) : NULL;
        ck_assert_msg(tr != NULL, "%s", err.msg);
        for (uint64_t s = 0; s < STEPS; s++)
            run_step(tr, s);
        run_digest(tr, hex);
        ck_assert_msg(strcmp(hex, runs[_i].sha256) == 0, "%s on %s x %d: %s",
                      runs[_i].family, devices[d].isa, devices[d].threads, hex);
        trainer_free(tr);
        model_close(m);
        k->ops->close(k);
    }
    free(dir);
}
END_TEST

Suite *train_digest_suite(void) {
    Suite *s = suite_create("digest");
    TCase *tc = tcase_create("digest");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(
        tc, training_gives_the_written_digest_on_every_set_and_thread_count, 0,
        sizeof runs / sizeof *runs);
    suite_add_tcase(s, tc);
    return s;
}
