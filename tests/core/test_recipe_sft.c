/* The sft loop's plan: which rows it takes, which it holds out, in what steps.
 */
#include "core/recipe/int.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

Suite *recipe_sft_suite(void);

#define MODEL "core/starter/model"

static char path[64];

static void setup(void) {
    snprintf(path, sizeof path, "/tmp/fettle-sft-%d.jsonl", (int)getpid());
}

static void teardown(void) { unlink(path); }

/* n conversations of 1 to 3 turns, each with words of its own. */
static void write_talks(int n) {
    FILE *f = fopen(path, "we");
    ck_assert_ptr_nonnull(f);
    for (int i = 0; i < n; i++) {
        fputs("{\"messages\":[", f);
        for (int t = 0; t <= i % 3; t++)
            fprintf(f,
                    "%s{\"role\":\"user\",\"content\":\"%d and %d\"},"
                    "{\"role\":\"assistant\",\"content\":\"%d\"}",
                    t ? "," : "", i, t, i * 10 + t);
        fputs("]}\n", f);
    }
    ck_assert_int_eq(fclose(f), 0);
}

/* Opens with these keys behind model and data; ends with NULL. */
static int open_sft(struct sft *s, const char *const *more, struct err *err) {
    char *words[16], data[96], model[] = "model=starter";
    int n = 2;
    snprintf(data, sizeof data, "data=%s", path);
    words[0] = model;
    words[1] = data;
    for (; more[n - 2]; n++)
        words[n] = (char *)more[n - 2];
    json_t *config = recipe_config(recipe_find("sft"), words, n, err);
    int rc = config ? sft_open(s, config, MODEL, err) : -1;
    json_decref(config);
    return rc;
}

#define OPEN(s, ...) \
    do { \
        static const char *const more_[] = {__VA_ARGS__, NULL}; \
        struct err err_ = {0}; \
        ck_assert_msg(open_sft(s, more_, &err_) == 0, "%s", err_.msg); \
    } while (0)

START_TEST(turns_of_a_conversation_stay_on_one_side) {
    struct sft s;
    bool seen[2][30] = {{0}};
    write_talks(30);
    OPEN(&s, "renderer=qwen3", "test_size=0.4", "batch_size=1");
    ck_assert_uint_eq(s.rows.n, 60);
    ck_assert_uint_eq(s.rows.units, 30);
    ck_assert_uint_eq(s.n_train + s.n_eval, 60);
    for (size_t i = 0; i < s.rows.n; i++)
        seen[i >= s.n_train][s.rows.row[i].unit] = true;
    int held = 0;
    for (int u = 0; u < 30; u++) {
        ck_assert(seen[0][u] != seen[1][u]);
        held += seen[1][u];
    }
    ck_assert_int_eq(held, 12);
    sft_close(&s);
}
END_TEST

START_TEST(a_row_that_trains_nothing_stops_the_run_or_is_skipped) {
    static const char *const none[] = {"batch_size=1", NULL};
    struct err err = {0};
    struct sft s;
    FILE *f = fopen(path, "we");
    ck_assert_ptr_nonnull(f);
    fputs("{\"tokens\":[1,2,3]}\n\n{\"tokens\":[1,2],\"weights\":[1,0]}\n", f);
    ck_assert_int_eq(fclose(f), 0);
    ck_assert_int_eq(open_sft(&s, none, &err), -1);
    ck_assert_msg(
        strstr(err.msg, ":3: no token of it is trained (untrained_") != NULL,
        "%s", err.msg);
    OPEN(&s, "untrained_rows=skip", "batch_size=1");
    ck_assert_uint_eq(s.rows.n, 1);
    ck_assert_uint_eq(s.rows.skipped, 1);
    sft_close(&s);
}
END_TEST

START_TEST(holding_everything_out_is_refused) {
    static const char *const all[] = {"test_size=30", NULL};
    struct err err = {0};
    struct sft s;
    write_talks(30);
    ck_assert_int_eq(open_sft(&s, all, &err), -1);
    ck_assert_msg(strstr(err.msg, "holds out 30 of 30 rows") != NULL, "%s",
                  err.msg);
}
END_TEST

/* ---- packing ---- */

/* Counts the rows of an epoch's steps; the bins of a step hold no more than
 * they may. */
static void count_rows(struct sft *s, int64_t epoch, int *count) {
    for (int64_t k = 0; k < s->per_epoch; k++) {
        size_t n, tokens = 0;
        const struct example **rows =
            sft_batch(s, epoch * s->per_epoch + k, &n);
        for (size_t i = 0; i < n; i++) {
            count[rows[i] - s->rows.row]++;
            tokens += rows[i]->tokens.n;
        }
        ck_assert_uint_gt(n, 0);
        ck_assert_uint_le(tokens, (size_t)s->c.batch * s->most);
        free(rows);
    }
}

START_TEST(packed_steps_take_every_row_once_an_epoch) {
    struct sft s;
    write_talks(40);
    OPEN(&s, "packing=best_fit", "batch_size=3", "max_length=120",
         "num_epochs=3");
    ck_assert_int_eq(s.per_epoch, (s.epoch.n_bins + 2) / 3);
    ck_assert_uint_lt(s.epoch.n_bins, s.rows.n / 2);
    ck_assert(sft_fill(&s) > 0.8 && sft_fill(&s) <= 1);
    uint32_t bins = s.epoch.n_bins;
    for (int64_t epoch = 0; epoch < 3; epoch++) {
        int count[128] = {0};
        count_rows(&s, epoch, count);
        ck_assert_uint_eq(s.epoch.n_bins, bins);
        for (size_t i = 0; i < s.n_train; i++)
            ck_assert_int_eq(count[i], 1);
    }
    sft_close(&s);
}
END_TEST

START_TEST(packed_steps_depend_on_nothing_but_seed_and_number) {
    struct sft a, b;
    bool differs = false;
    write_talks(40);
    OPEN(&a, "packing=best_fit", "batch_size=2", "max_length=100", "seed=4");
    OPEN(&b, "packing=best_fit", "batch_size=2", "max_length=100", "seed=4");
    for (int64_t k = a.per_epoch * 2; k-- > 0;) { /* another way round */
        size_t n, m, o;
        const struct example **x = sft_batch(&a, k, &n);
        free(sft_batch(&b, a.per_epoch * 2 - 1 - k, &o));
        const struct example **y = sft_batch(&b, k, &m);
        ck_assert_uint_eq(n, m);
        for (size_t i = 0; i < n; i++)
            ck_assert_int_eq(x[i] - a.rows.row, y[i] - b.rows.row);
        free(y);
        y = sft_batch(&b, k ? k - 1 : 1, &m);
        differs |= n != m || x[0] - a.rows.row != y[0] - b.rows.row;
        free(x);
        free(y);
    }
    ck_assert(differs);
    sft_close(&a);
    sft_close(&b);
}
END_TEST

START_TEST(more_tokens_than_a_step_can_have_are_refused) {
    static const char *const much[] = {"packing=best_fit", "batch_size=100000",
                                       NULL};
    struct err err = {0};
    struct sft s;
    write_talks(3);
    ck_assert_int_eq(open_sft(&s, much, &err), -1);
    ck_assert_msg(strstr(err.msg, "lower batch_size") != NULL, "%s", err.msg);
}
END_TEST

START_TEST(the_check_foretells_the_packing_of_the_run) {
    struct err err = {0};
    struct sft s;
    write_talks(40);
    OPEN(&s, "packing=best_fit", "max_length=100");
    struct check_conf c = {.row = s.text.row};
    json_t *j = data_check(path, &c, &err);
    ck_assert_msg(j != NULL, "%s", err.msg);
    json_t *p = json_object_get(j, "packing");
    ck_assert_int_eq(json_integer_value(json_object_get(p, "bins")),
                     s.epoch.n_bins);
    ck_assert(json_real_value(json_object_get(p, "fill")) == sft_fill(&s));
    json_decref(j);
    sft_close(&s);
}
END_TEST

Suite *recipe_sft_suite(void) {
    Suite *s = suite_create("sft");
    TCase *tc = tcase_create("sft");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, turns_of_a_conversation_stay_on_one_side);
    tcase_add_test(tc, a_row_that_trains_nothing_stops_the_run_or_is_skipped);
    tcase_add_test(tc, holding_everything_out_is_refused);
    tcase_add_test(tc, packed_steps_take_every_row_once_an_epoch);
    tcase_add_test(tc, packed_steps_depend_on_nothing_but_seed_and_number);
    tcase_add_test(tc, more_tokens_than_a_step_can_have_are_refused);
    tcase_add_test(tc, the_check_foretells_the_packing_of_the_run);
    suite_add_tcase(s, tc);
    return s;
}
