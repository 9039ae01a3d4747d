/* Every fuzz target for a short while, and the mutations themselves. */
#include "tests/fuzz/fuzz.h"

#include "core/fs.h"

#include <check.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

Suite *smoke_suite(void);

#define RUNS 3000
#define SEEDS 64

struct seeds {
    uint8_t *data[SEEDS];
    size_t len[SEEDS];
    int n;
};

static void keep(void *arg, const void *data, size_t len) {
    struct seeds *s = arg;
    ck_assert_int_lt(s->n, SEEDS);
    s->data[s->n] = malloc(len + 1);
    memcpy(s->data[s->n], data, len);
    s->len[s->n++] = len;
}

static void drop(struct seeds *s) {
    for (int i = 0; i < s->n; i++)
        free(s->data[i]);
}

START_TEST(target_takes_its_seeds_and_whatever_they_become) {
    const struct fuzz_target *t = fuzz_targets[_i];
    static uint8_t data[FUZZ_MAX];
    struct seeds s = {.n = 0};
    t->seeds(keep, &s);
    ck_assert_int_gt(s.n, 0);
    for (int i = 0; i < s.n; i++)
        ck_assert_int_eq(t->run(s.data[i], s.len[i]), 0);
    for (int i = 0; i < RUNS; i++) {
        int from = i % s.n, other = (i / s.n) % s.n;
        memcpy(data, s.data[from], s.len[from]);
        size_t len = fuzz_mutate(data, s.len[from], s.data[other], s.len[other],
                                 t->words, 99, (uint64_t)i);
        ck_assert_int_eq(t->run(data, len), 0);
    }
    drop(&s);
}
END_TEST

/* The corpus holds inputs that were once taken wrongly; see main.c. */
START_TEST(target_takes_what_once_failed) {
    const struct fuzz_target *t = fuzz_targets[_i];
    char *dir = fs_path("tests/fuzz/corpus/%s", t->name);
    DIR *d = opendir(dir);
    int n = 0;
    for (struct dirent *e; d && (e = readdir(d));) {
        struct err err = {0};
        size_t len;
        if (e->d_name[0] == '.')
            continue;
        char *path = fs_path("%s/%s", dir, e->d_name);
        char *data = fs_read(path, FUZZ_MAX, &len, &err);
        ck_assert_msg(data != NULL, "%s", err.msg);
        ck_assert_int_eq(t->run((uint8_t *)data, len), 0);
        free(data);
        free(path);
        n++;
    }
    if (d)
        closedir(d);
    ck_assert(n > 0 || strcmp(t->name, "config") != 0);
    free(dir);
}
END_TEST

START_TEST(mutations_change_inputs_repeatably_and_stay_in_bounds) {
    static uint8_t a[FUZZ_MAX + 1], b[FUZZ_MAX + 1];
    static const uint8_t other[] = "0123456789";
    int changed = 0;
    for (uint64_t r = 0; r < 2000; r++) {
        size_t n = r % 3 ? 100 : r % 2 ? FUZZ_MAX : 0;
        memset(a, 'x', n);
        memset(b, 'x', n);
        a[FUZZ_MAX] = 77;
        size_t x = fuzz_mutate(a, n, other, 10, NULL, 5, r);
        size_t y = fuzz_mutate(b, n, other, 10, NULL, 5, r);
        ck_assert_uint_le(x, FUZZ_MAX);
        ck_assert(x == y && memcmp(a, b, x) == 0 && a[FUZZ_MAX] == 77);
        changed += x != n || (n && a[0] != 'x') || memchr(a, 0, x);
    }
    ck_assert_int_gt(changed, 1000);
}
END_TEST

Suite *smoke_suite(void) {
    Suite *s = suite_create("fuzz");
    TCase *tc = tcase_create("smoke");
    int n = 0;
    while (fuzz_targets[n])
        n++;
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, target_takes_its_seeds_and_whatever_they_become, 0,
                        n);
    tcase_add_loop_test(tc, target_takes_what_once_failed, 0, n);
    tcase_add_test(tc, mutations_change_inputs_repeatably_and_stay_in_bounds);
    suite_add_tcase(s, tc);
    return s;
}
