/* The CPU device: opening, memory, and the threads behind it. */
#include "tests/kernels/kt.h"

#include <pthread.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

Suite *cpu_suite(void);

static int open_rc(const char *device, int threads, const char *isa) {
    struct kern *k = NULL;
    int rc = kern_open(&k, &(struct kern_opts){device, threads, isa});
    ck_assert((rc == KERN_OK) == (k != NULL));
    if (k != NULL)
        k->ops->close(k);
    return rc;
}

START_TEST(cpu_opens_with_the_set_that_was_asked_for) {
    unsetenv("FETTLE_ISA");
    ck_assert_int_eq(open_rc(NULL, 0, NULL), KERN_OK);
    ck_assert_int_eq(open_rc("cpu", 3, "scalar"), KERN_OK);
    ck_assert_int_eq(open_rc("tpu", 1, NULL), KERN_ENODEV);
    ck_assert_int_eq(open_rc("cpu", 1, "mmx"), KERN_EINVAL);
    ck_assert_int_eq(open_rc("cpu", -1, NULL), KERN_EINVAL);
    struct kern *k = NULL;
    setenv("FETTLE_ISA", "scalar", 1);
    ck_assert_int_eq(kern_open(&k, &(struct kern_opts){.threads = 1}), KERN_OK);
    ck_assert_str_eq(kern_describe(k), "cpu scalar, 1 thread");
    k->ops->close(k);
    setenv("FETTLE_ISA", "altivec", 1);
    ck_assert_int_eq(open_rc("cpu", 1, NULL), KERN_EINVAL);
    setenv("FETTLE_ISA", "", 1);
    ck_assert_int_eq(open_rc("cpu", 1, NULL), KERN_OK);
}
END_TEST

START_TEST(cpu_sets_that_the_machine_lacks_are_named) {
    for (int i = 0; i < KT_COUNT(kt_devs); i++) {
        struct kern *k = kt_open(&kt_devs[i]);
        if (k == NULL)
            printf("not run here: %s\n", kt_devs[i].isa);
        else
            k->ops->close(k);
    }
}
END_TEST

START_TEST(cpu_table_is_full_and_status_has_words) {
    struct kern *k = kt_best();
    const struct kern_ops *o = k->ops;
    ck_assert(o->name && o->close && o->alloc && o->free && o->copy_in);
    ck_assert(o->copy_out && o->copy && o->zero && o->release && o->sparse &&
              o->sync && o->adopt);
    ck_assert(o->add && o->scale && o->bias && o->bias_bwd && o->widen);
    ck_assert(o->sumsq != NULL);
#define KT_HAS(name, args) ck_assert(o->name != NULL);
    KERN_OPS(KT_HAS)
#undef KT_HAS
    k->ops->close(k);
    for (int rc = 0; rc >= KERN_ENODEV; rc--)
        ck_assert_str_ne(kern_strerror(rc), kern_strerror(-99));
    ck_assert_uint_eq(kern_dtype_size(KERN_F32), 4);
    ck_assert_uint_eq(kern_dtype_size(KERN_BF16), 2);
    ck_assert_uint_eq(kern_dtype_size(KERN_F16), 2);
}
END_TEST

START_TEST(cpu_memory_is_aligned_and_what_was_put_there) {
    static const size_t sizes[] = {0, 1, 63, 65, 5000000};
    struct kern *k = kt_best();
    for (int i = 0; i < KT_COUNT(sizes); i++) {
        size_t n = sizes[i];
        uint8_t *host = kt_buf(n, 1), *back = kt_buf(n, 1);
        memset(host, 7 + i, n);
        uint8_t *a = k->ops->alloc(k, n), *b = k->ops->alloc(k, n);
        ck_assert(a && b && (uintptr_t)a % 64 == 0 && (uintptr_t)b % 64 == 0);
        ck_assert_int_eq(k->ops->copy_in(k, a, host, n), KERN_OK);
        ck_assert_int_eq(k->ops->copy(k, b, a, n), KERN_OK);
        ck_assert_int_eq(k->ops->zero(k, a, n), KERN_OK);
        ck_assert_int_eq(k->ops->copy_out(k, back, b, n), KERN_OK);
        ck_assert_int_eq(k->ops->sync(k), KERN_OK);
        ck_assert(memcmp(back, host, n) == 0);
        ck_assert_int_eq(k->ops->copy_out(k, back, a, n), KERN_OK);
        for (size_t j = 0; j < n; j++)
            ck_assert(back[j] == 0);
        ck_assert_ptr_eq(k->ops->adopt(k, host, n), host);
        k->ops->free(k, a);
        k->ops->free(k, b);
        free(host);
        free(back);
    }
    ck_assert_ptr_null(k->ops->alloc(k, SIZE_MAX));
    ck_assert_ptr_null(k->ops->alloc(k, SIZE_MAX / 2 + 1));
    k->ops->free(k, NULL);
    k->ops->close(k);
}
END_TEST

/* Resident bytes of this process. */
static int64_t resident(void) {
    long size, pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(fscanf(f, "%ld %ld", &size, &pages), 2);
    fclose(f);
    return (int64_t)pages * sysconf(_SC_PAGESIZE);
}

START_TEST(cpu_release_of_a_large_part_gives_its_memory_back) {
    static const size_t cuts[][2] = {{0, 0}, {1, 3}, {1 << 21, 64}, {777, 0}};
    size_t n = 40 << 20;
    struct kern *k = kt_best();
    for (int i = 0; i < KT_COUNT(cuts); i++) {
        size_t from = cuts[i][0], to = n - cuts[i][1];
        uint8_t *a = k->ops->alloc(k, n);
        ck_assert_ptr_nonnull(a);
        if (i == 3)
            k->ops->sparse(k, a, n);
        memset(a, 5, n);
        int64_t before = resident();
        ck_assert_int_eq(k->ops->release(k, a + from, to - from), KERN_OK);
        ck_assert_int_lt(resident(), before - (30 << 20));
        if (i == 3) {
            a[n / 2] = 1;
            ck_assert_int_lt(resident(), before - (30 << 20));
            a[n / 2] = 0;
        }
        size_t wrong = 0;
        for (size_t j = 0; j < n; j++)
            wrong += a[j] != (j < from || j >= to ? 5 : 0);
        ck_assert_uint_eq(wrong, 0);
        k->ops->free(k, a);
    }
    k->ops->close(k);
}
END_TEST

#define POOL_N 40000

/* Each add is a run of three tasks; a lost or doubled one shows. */
static void add_many(struct kern *k, int times) {
    float *x = kt_fill(POOL_N, 1.0f), *y = kt_fill(POOL_N, 0.0f);
    for (int i = 0; i < times; i++)
        ck_assert_int_eq(k->ops->add(k, y, x, POOL_N), KERN_OK);
    for (int i = 0; i < POOL_N; i++)
        ck_assert(y[i] == (float)times);
    free(x);
    free(y);
}

START_TEST(cpu_threads_run_each_task_once) {
    for (int threads = 1; threads <= 8; threads++) {
        struct kern *k = NULL;
        ck_assert_int_eq(kern_open(&k, &(struct kern_opts){.threads = threads}),
                         KERN_OK);
        add_many(k, 500);
        k->ops->close(k);
    }
}
END_TEST

START_TEST(cpu_threads_wake_after_they_slept) {
    struct kern *k = kt_best();
    for (int i = 0; i < 20; i++) {
        add_many(k, 2);
        usleep(i % 2 ? 30 : 2000); /* shorter and longer than they spin */
    }
    k->ops->close(k);
    k = kt_best(); /* closed without a run: no thread was started */
    k->ops->close(k);
}
END_TEST

static void *add_on_own_device(void *arg) {
    struct kern *k = kt_best();
    add_many(k, 300);
    k->ops->close(k);
    return arg;
}

START_TEST(cpu_devices_work_side_by_side) {
    pthread_t ids[3];
    for (int i = 0; i < 3; i++)
        ck_assert(pthread_create(&ids[i], NULL, add_on_own_device, NULL) == 0);
    for (int i = 0; i < 3; i++)
        pthread_join(ids[i], NULL);
}
END_TEST

START_TEST(cpu_may_be_opened_before_a_fork) {
    struct kern *k = kt_best();
    float x = 1, y = 1;
    ck_assert_int_eq(k->ops->add(k, &y, &x, 1), KERN_OK); /* one task */
    pid_t pid = fork();
    ck_assert(pid >= 0);
    if (pid == 0) {
        add_many(k, 50);
        k->ops->close(k);
        _exit(0);
    }
    add_many(k, 50);
    int status = -1;
    ck_assert(waitpid(pid, &status, 0) == pid && status == 0);
    k->ops->close(k);
}
END_TEST

static void *burn(void *stop) {
    while (!__atomic_load_n((bool *)stop, __ATOMIC_RELAXED))
        ;
    return NULL;
}

START_TEST(cpu_threads_finish_beside_busy_neighbours) {
    pthread_t ids[4];
    bool stop = false;
    for (int i = 0; i < 4; i++)
        ck_assert(pthread_create(&ids[i], NULL, burn, &stop) == 0);
    struct kern *k = NULL;
    ck_assert_int_eq(kern_open(&k, &(struct kern_opts){.threads = 4}), KERN_OK);
    add_many(k, 20);
    k->ops->close(k);
    __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
    for (int i = 0; i < 4; i++)
        pthread_join(ids[i], NULL);
}
END_TEST

Suite *cpu_suite(void) {
    Suite *s = suite_create("cpu");
    TCase *tc = tcase_create("cpu");
    tcase_set_timeout(tc, 30);
    tcase_add_test(tc, cpu_opens_with_the_set_that_was_asked_for);
    tcase_add_test(tc, cpu_sets_that_the_machine_lacks_are_named);
    tcase_add_test(tc, cpu_table_is_full_and_status_has_words);
    tcase_add_test(tc, cpu_memory_is_aligned_and_what_was_put_there);
    tcase_add_test(tc, cpu_release_of_a_large_part_gives_its_memory_back);
    tcase_add_test(tc, cpu_threads_run_each_task_once);
    tcase_add_test(tc, cpu_threads_wake_after_they_slept);
    tcase_add_test(tc, cpu_devices_work_side_by_side);
    tcase_add_test(tc, cpu_may_be_opened_before_a_fork);
    tcase_add_test(tc, cpu_threads_finish_beside_busy_neighbours);
    suite_add_tcase(s, tc);
    return s;
}
