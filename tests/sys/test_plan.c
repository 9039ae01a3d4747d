/* Memory: the plan that doctor prints, and runs that cannot fit. */
#include "tests/sys/sys.h"

Suite *plan_suite(void);

static json_t *plan_of(const char *words) {
    json_t *j = FETTLE_JSON(NULL, "doctor --plan starter %s --json", words);
    double sum = 0;
    size_t i;
    json_t *c;
    json_array_foreach(json_object_get(j, "plan"), i, c) sum +=
        num_at(c, "bytes");
    bool base = num_at(j, "lora_rank") > 0; /* else it is only mapped */
    sum -= base
               ? 0
               : num_at(json_array_get(json_object_get(j, "plan"), 0), "bytes");
    ck_assert(sum == num_at(j, "total_bytes"));
    return j;
}

START_TEST(doctor_plans_by_what_the_job_asks) {
    sys_add_starter();
    json_t *full = plan_of("lora_rank=0 max_length=256 batch_size=4");
    json_t *lora = plan_of("lora_rank=8 max_length=256 batch_size=4");
    json_t *wide = plan_of("lora_rank=8 max_length=256 batch_size=16");
    ck_assert(num_at(full, "micro_batch_tokens") == 1024);
    ck_assert(num_at(wide, "micro_batch_tokens") == 4096);
    ck_assert(num_at(wide, "total_bytes") > num_at(lora, "total_bytes"));
    ck_assert(json_is_true(json_object_get(lora, "fits")));
    struct out o = fettle(NULL, "doctor --plan starter lora_rank=8");
    ck_assert(o.status == 0 && strstr(o.out, "activations"));
    out_free(&o);
    setenv("FETTLE_MEMORY", "1M", 1);
    o = fettle(NULL, "doctor --plan starter lora_rank=8");
    ck_assert(o.status == 71 && strstr(o.out, "does NOT fit"));
    out_free(&o);
    unsetenv("FETTLE_MEMORY");
    fettle_fails(fettle(NULL, "doctor --plan starter lora=8"), 64, "lora=8");
    fettle_fails(fettle(NULL, "doctor --plan starter batch_size=0"), 64,
                 "batch_size");
    fettle_fails(fettle(NULL, "doctor lora_rank=8"), 64, "--plan");
    json_decref(full);
    json_decref(lora);
    json_decref(wide);
}
END_TEST

START_TEST(run_that_cannot_fit_is_refused_before_it_starts) {
    sys_add_starter();
    char *rows = sys_rows(8);
    setenv("FETTLE_MEMORY", "8M", 1);
    fettle_fails(
        fettle(NULL, "run sft model=starter data=%s lora_rank=0", rows), 71,
        "8 MiB are free");
    json_t *runs = FETTLE_JSON(NULL, "runs --json");
    ck_assert_uint_eq(json_array_size(runs), 0);
    json_decref(runs);
    unsetenv("FETTLE_MEMORY");
    free(rows);
}
END_TEST

START_TEST(run_with_bf16_weights_is_for_full_tuning) {
    sys_add_starter();
    char *rows = sys_rows(8);
    fettle_fails(
        fettle(NULL, "run sft model=starter data=%s precision=bf16", rows), 65,
        "lora_rank=0");
    json_t *j = FETTLE_JSON(NULL,
                            "run sft model=starter data=%s precision=bf16 "
                            "lora_rank=0 max_steps=2 batch_size=4 "
                            "sample_every=0 --wait --json",
                            rows);
    ck_assert_str_eq(str_at(j, "state"), "done");
    ck_assert(num_at(j, "steps") == 2);
    json_decref(j);
    free(rows);
}
END_TEST

Suite *plan_suite(void) {
    Suite *s = suite_create("plan");
    TCase *tc = tcase_create("plan");
    tcase_add_checked_fixture(tc, sys_setup, sys_teardown);
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, doctor_plans_by_what_the_job_asks);
    tcase_add_test(tc, run_that_cannot_fit_is_refused_before_it_starts);
    tcase_add_test(tc, run_with_bf16_weights_is_for_full_tuning);
    suite_add_tcase(s, tc);
    return s;
}
