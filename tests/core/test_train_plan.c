/* The memory plan beside what is really allocated, and the memory that there
 * is beside made-up machines. */
#include "core/fs.h"
#include "core/train.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

Suite *train_plan_suite(void);

static const struct {
    const char *family;
    uint32_t rank;
    bool attn, mlp, unembed;
} kinds[] = {{"qwen3", 0, 1, 1, 1},   {"qwen3_tied", 0, 1, 1, 1},
             {"llama", 8, 1, 1, 1},   {"qwen2", 4, 1, 0, 0},
             {"llama3", 4, 0, 1, 0},  {"qwen3_tied", 16, 0, 0, 1},
             {"gpt_oss", 0, 0, 0, 0}, {"phi3", 8, 1, 1, 1},
             {"gemma3", 0, 0, 0, 0},  {"qwen3_moe", 4, 1, 0, 1}};
#define N_KINDS ((int)(sizeof kinds / sizeof *kinds))
#define LENGTH 60
#define BATCH 5

static char dir[64];
static struct kern *kern;
static struct kern_ops counting;
static const struct kern_ops *plain;
static int64_t allocated;

static void *count_alloc(struct kern *k, size_t bytes) {
    allocated += (int64_t)bytes;
    return plain->alloc(k, bytes);
}

static void setup(void) {
    snprintf(dir, sizeof dir, "/tmp/fettle-plan-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    unsetenv("FETTLE_MEMORY");
    ck_assert_int_eq(kern_open(&kern, &(struct kern_opts){.threads = 1}), 0);
    plain = kern->ops;
    counting = *plain;
    counting.alloc = count_alloc;
    kern->ops = &counting;
}

static void teardown(void) {
    struct err err = {0};
    fs_remove_tree(dir, &err);
    kern->ops = plain;
    kern->ops->close(kern);
}

static struct plan_job job_of(int i) {
    return (struct plan_job){.lora = {.rank = (int32_t)kinds[i].rank,
                                      .alpha = 32,
                                      .attn = kinds[i].attn,
                                      .mlp = kinds[i].mlp,
                                      .unembed = kinds[i].unembed},
                             .max_length = LENGTH,
                             .batch_size = BATCH};
}

static struct op_create create_of(int i) {
    return (struct op_create){.base = "m",
                              .lora_rank = kinds[i].rank,
                              .lora_alpha = 32,
                              .train_attn = kinds[i].attn,
                              .train_mlp = kinds[i].mlp,
                              .train_unembed = kinds[i].unembed};
}

static struct model *outline(int i) {
    struct err err = {0};
    char *path = fs_path("tests/golden/models/%s", kinds[i].family);
    struct model *m = model_outline(path, &err);
    ck_assert_msg(m != NULL, "%s", err.msg);
    free(path);
    return m;
}

/* One step of BATCH datums of LENGTH tokens; bytes allocated. */
static int64_t run_job(int i, const struct model *m) {
    struct err err = {0};
    struct op_create op = create_of(i);
    struct datum d[BATCH];
    uint32_t ids[LENGTH];
    struct result r = {0};
    struct op_optim o = {1e-3, 0.9, 0.95, 1e-8, 0, 0};
    for (uint32_t t = 0; t < LENGTH; t++)
        ids[t] = t;
    for (int b = 0; b < BATCH; b++)
        d[b] = (struct datum){LENGTH, 1, ids, ids, {0}};
    struct op_pass p = {LOSS_CROSS_ENTROPY, NAN, NAN, NAN, BATCH, d};
    allocated = 0;
    struct trainer *tr = trainer_new(m, kern, &op, &err);
    ck_assert_msg(tr != NULL, "%s", err.msg);
    ck_assert_int_eq(trainer_pass(tr, &p, true, &r, &err), 0);
    result_release(&r);
    ck_assert_int_eq(trainer_optim(tr, &o, &r, &err), 0);
    result_release(&r);
    trainer_free(tr);
    return allocated;
}

START_TEST(plan_is_what_a_job_allocates) {
    struct err err = {0};
    struct model *sketch = outline(_i);
    struct plan_job job = job_of(_i);
    struct plan p;
    plan_make(sketch, &job, INT64_MAX, &p);
    ck_assert_int_eq(p.micro, LENGTH * BATCH);
    struct model *m = model_open(model_dir(sketch), kern, &err);
    int64_t got = run_job(_i, m);
    int64_t want = p.total - p.bytes[PLAN_KV] -
                   (kinds[_i].rank ? p.bytes[PLAN_WEIGHTS] : 0);
    /* beside it: token ids and token losses, some 40 bytes a token */
    ck_assert_msg(got >= want && got <= want + 64 * LENGTH * BATCH,
                  "planned %lld bytes, allocated %lld", (long long)want,
                  (long long)got);
    model_close(m);
    model_close(sketch);
}
END_TEST

START_TEST(micro_batches_shrink_before_a_job_is_refused) {
    struct model *m = outline(0);
    struct plan_job job = job_of(0);
    struct plan wide, tight;
    struct err err = {0};
    job.batch_size = 1000;
    plan_make(m, &job, INT64_MAX, &wide);
    ck_assert_int_eq(wide.micro, 4096 / LENGTH >= 1000 ? LENGTH * 1000 : 4096);
    plan_make(m, &job, wide.total / 2, &tight);
    ck_assert_int_lt(tight.micro, wide.micro);
    ck_assert_int_ge(tight.micro, 256);
    ck_assert_int_eq(plan_check(&tight, &job, &err), 0);
    plan_make(m, &job, 1 << 20, &tight);
    ck_assert_int_eq(plan_check(&tight, &job, &err), -1);
    ck_assert_int_eq(err.code, ERR_NOMEM);
    model_close(m);
}
END_TEST

START_TEST(refusal_names_figures_and_what_to_lower) {
    struct model *m = outline(0);
    struct plan_job job = job_of(0);
    struct plan p;
    struct err err = {0}, e2 = {0};
    plan_make(m, &job, 1000, &p);
    ck_assert_int_eq(plan_check(&p, &job, &err), -1);
    ck_assert_ptr_nonnull(strstr(err.msg, "0 MiB are free"));
    job.max_length = 1 << 20; /* cut to the model's context */
    plan_make(m, &job, 1000, &p);
    ck_assert_int_eq(p.micro, model_conf(m)->max_pos);
    p.bytes[PLAN_ACTIVATIONS] = p.total;
    p.total *= 2;
    ck_assert_int_eq(plan_check(&p, &job, &e2), -1);
    ck_assert_ptr_nonnull(strstr(e2.msg, "max_length"));
    model_close(m);
}
END_TEST

START_TEST(trainer_that_cannot_fit_is_refused_before_it_allocates) {
    struct err err = {0};
    struct model *sketch = outline(_i);
    struct model *m = model_open(model_dir(sketch), kern, &err);
    struct op_create op = create_of(_i);
    setenv("FETTLE_MEMORY", "100K", 1);
    allocated = 0;
    ck_assert_ptr_null(trainer_new(m, kern, &op, &err));
    ck_assert_int_eq(err.code, ERR_NOMEM);
    ck_assert_int_lt(allocated, 4096);
    model_close(m);
    model_close(sketch);
}
END_TEST

/* ---- machines ---- */

static void put(const char *name, const char *text) {
    struct err err = {0};
    char *path = fs_path("%s/%s", dir, name), *end;
    end = strrchr(path, '/');
    *end = 0;
    ck_assert_int_eq(fs_mkdirs(path, &err), 0);
    *end = '/';
    ck_assert_msg(fs_write_atomic(path, text, strlen(text), &err) == 0, "%s",
                  err.msg);
    free(path);
}

START_TEST(memory_is_the_least_of_machine_and_cgroups) {
    put("proc/meminfo", "MemTotal: 1000 kB\nMemFree: 10 kB\n"
                        "MemAvailable:     800 kB\n");
    ck_assert_int_eq(plan_memory_at(dir), 800 * 1024);
    put("proc/self/cgroup", "0::/user/job\n");
    put("sys/fs/cgroup/user/job/memory.max", "max\n");
    put("sys/fs/cgroup/user/job/memory.current", "5000\n");
    ck_assert_int_eq(plan_memory_at(dir), 800 * 1024);
    put("sys/fs/cgroup/user/memory.max", "100000\n");
    put("sys/fs/cgroup/user/memory.current", "60000\n");
    put("sys/fs/cgroup/user/memory.stat", "anon 1\ninactive_file 20000\n");
    ck_assert_int_eq(plan_memory_at(dir), 60000);
    put("sys/fs/cgroup/user/job/memory.max", "5001\n");
    ck_assert_int_eq(plan_memory_at(dir), 1);
    put("sys/fs/cgroup/user/job/memory.max", "4000\n"); /* lowered later */
    ck_assert_int_eq(plan_memory_at(dir), 0);
}
END_TEST

START_TEST(memory_of_the_first_cgroups_counts_too) {
    put("proc/meminfo", "MemAvailable: 800 kB\n");
    put("proc/self/cgroup", "5:cpu:/x\n4:memory:/box/1\n1:name=systemd:/\n");
    put("sys/fs/cgroup/memory/box/1/memory.limit_in_bytes",
        "9223372036854771712\n");
    put("sys/fs/cgroup/memory/box/1/memory.usage_in_bytes", "7000\n");
    ck_assert_int_eq(plan_memory_at(dir), 800 * 1024);
    put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9000\n");
    put("sys/fs/cgroup/memory/memory.usage_in_bytes", "8000\n");
    put("sys/fs/cgroup/memory/memory.stat",
        "inactive_file 1\ntotal_inactive_file 500\n");
    ck_assert_int_eq(plan_memory_at(dir), 1500);
}
END_TEST

START_TEST(memory_can_be_limited_by_the_environment) {
    int64_t have = plan_memory();
    ck_assert(have > 1 << 20 && have < INT64_MAX);
    setenv("FETTLE_MEMORY", "3000", 1);
    ck_assert_int_eq(plan_memory(), 3000);
    setenv("FETTLE_MEMORY", "2M", 1);
    ck_assert_int_eq(plan_memory(), 2 << 20);
    static const char *const no_size[] = {"",    "M",   "-5",
                                          "2MB", "1e3", "99999999999999999G"};
    for (int i = 0; i < 6; i++) {
        setenv("FETTLE_MEMORY", no_size[i], 1);
        ck_assert_int_gt(plan_memory(), 1 << 20);
    }
}
END_TEST

Suite *train_plan_suite(void) {
    Suite *s = suite_create("memory plan");
    TCase *tc = tcase_create("plan");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, plan_is_what_a_job_allocates, 0, N_KINDS);
    tcase_add_test(tc, micro_batches_shrink_before_a_job_is_refused);
    tcase_add_test(tc, refusal_names_figures_and_what_to_lower);
    tcase_add_loop_test(
        tc, trainer_that_cannot_fit_is_refused_before_it_allocates, 0, 3);
    tcase_add_test(tc, memory_is_the_least_of_machine_and_cgroups);
    tcase_add_test(tc, memory_of_the_first_cgroups_counts_too);
    tcase_add_test(tc, memory_can_be_limited_by_the_environment);
    suite_add_tcase(s, tc);
    return s;
}
