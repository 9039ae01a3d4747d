/* Random numbers: the published Philox vectors, and shuffles. */
#include "core/rng.h"

#include <check.h>
#include <math.h>

Suite *base_rng_suite(void);

/* Random123's kat_vectors for philox4x32 10: counter (0..), key 0; all ones. */
START_TEST(rng_matches_the_published_vectors) {
    struct rng_block z = rng_philox(0, 0, 0);
    ck_assert_uint_eq(z.x[0], 0x6627e8d5);
    ck_assert_uint_eq(z.x[1], 0xe169c58d);
    ck_assert_uint_eq(z.x[2], 0xbc57ac4c);
    ck_assert_uint_eq(z.x[3], 0x9b00dbd8);
    struct rng_block f = rng_philox(UINT64_MAX, UINT64_MAX, UINT64_MAX);
    ck_assert_uint_eq(f.x[0], 0x408f276d);
    ck_assert_uint_eq(f.x[1], 0x41c83b0e);
    ck_assert_uint_eq(f.x[2], 0xa20bc7c6);
    ck_assert_uint_eq(f.x[3], 0x6d5451fd);
}
END_TEST

START_TEST(rng_shuffle_is_a_permutation_and_repeats) {
    uint32_t a[257], b[257], seen[257] = {0};
    for (uint32_t i = 0; i < 257; i++)
        a[i] = b[i] = i;
    rng_shuffle(a, 257, 7, 3);
    rng_shuffle(b, 257, 7, 3);
    uint32_t moved = 0;
    for (uint32_t i = 0; i < 257; i++) {
        ck_assert_uint_eq(a[i], b[i]);
        seen[a[i]]++;
        moved += a[i] != i;
    }
    for (uint32_t i = 0; i < 257; i++)
        ck_assert_uint_eq(seen[i], 1);
    ck_assert_uint_gt(moved, 200);
}
END_TEST

START_TEST(rng_normal_has_mean_0_and_variance_1) {
    double sum = 0, sq = 0;
    int n = 20000;
    for (int i = 0; i < n; i++) {
        double x = rng_normal(1, 2, (uint64_t)i);
        sum += x;
        sq += x * x;
    }
    ck_assert(fabs(sum / n) < 0.03);
    ck_assert(fabs(sq / n - 1) < 0.05);
}
END_TEST

Suite *base_rng_suite(void) {
    Suite *s = suite_create("rng");
    TCase *tc = tcase_create("rng");
    tcase_add_test(tc, rng_matches_the_published_vectors);
    tcase_add_test(tc, rng_shuffle_is_a_permutation_and_repeats);
    tcase_add_test(tc, rng_normal_has_mean_0_and_variance_1);
    suite_add_tcase(s, tc);
    return s;
}
