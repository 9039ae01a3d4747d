/* Host mathematics: beside libm in long double, and bits that every machine
 * must give. */
#include "tests/kernels/kt.h"

#define DIGEST 0xfee96f3302009cu

Suite *math_suite(void);

/* |got - want| in units of want's last place. */
static double ulps(double got, long double want) {
    if (got == (double)want || (isnan(got) && isnan((double)want)))
        return 0;
    double unit = nextafter(fabs((double)want), INFINITY) - fabs((double)want);
    return (double)(fabsl(got - want) / unit);
}

/* Uniform in (-range, range), or of every size up to it when `log`. */
static double draw(uint64_t i, double range, bool all_sizes) {
    double x = (double)kt_u64(1, 2 * i) * 0x1p-63 - 1;
    return all_sizes ? x * range *
                           exp2(-60.0 * (double)kt_u64(1, 2 * i + 1) * 0x1p-64)
                     : x * range;
}

START_TEST(math_exp_and_log_are_within_an_ulp) {
    for (uint64_t i = 0; i < 200000; i++) {
        double x = draw(i, 740, i % 2),
               y = fabs(draw(i, 1e300, i % 2)) + 1e-320;
        if (i % 3 == 0)
            y = 1 + draw(i, 0.5, true); /* near log's zero */
        ck_assert_msg(ulps(kern_exp(x), expl(x)) < 1.01, "exp(%a)", x);
        ck_assert_msg(ulps(kern_log(y), logl(y)) < 1.01, "log(%a)", y);
    }
    ck_assert(kern_exp(0) == 1 && kern_exp(-800) == 0);
    ck_assert(isinf(kern_exp(710)) && isnan(kern_exp(NAN)));
    ck_assert(isinf(kern_exp(INFINITY)) && kern_exp(-INFINITY) == 0);
    ck_assert(kern_log(1) == 0 && kern_log(0) == -INFINITY);
    ck_assert(isnan(kern_log(-1)) && isinf(kern_log(INFINITY)));
    ck_assert(isnan(kern_log(NAN)));
}
END_TEST

START_TEST(math_sincos_is_within_two_ulps_over_its_range) {
    for (uint64_t i = 0; i < 200000; i++) {
        double x = draw(i, 0x1p20, i % 2), s, c;
        if (i % 5 == 0) /* near the zeros */
            x = (double)(kt_u64(2, i) % 600000) * 1.5707963267948966;
        kern_sincos(x, &s, &c);
        long double ws = sinl(x), wc = cosl(x);
        ck_assert_msg(ulps(s, ws) < 2 || fabsl(s - ws) < 1e-17L, "sin(%a)", x);
        ck_assert_msg(ulps(c, wc) < 2 || fabsl(c - wc) < 1e-17L, "cos(%a)", x);
    }
    double s, c;
    kern_sincos(0, &s, &c);
    ck_assert(s == 0 && c == 1);
    kern_sincos(INFINITY, &s, &c);
    ck_assert(isnan(s) && isnan(c));
    kern_sincos(1e9, &s, &c);
    ck_assert(isnan(s) && isnan(c));
}
END_TEST

/* The relative error that kernels.h states. */
static void pow_check(double x, double y) {
    long double want = powl(x, y);
    double bound = (1 + fabs(y * log(x))) * 0x1p-52;
    ck_assert_msg(fabsl(kern_pow(x, y) - want) <= bound * want, "%g^%g", x, y);
}

START_TEST(math_pow_serves_frequencies_and_corrections) {
    for (int i = 0; i < 128; i++)
        pow_check(1e6, -i / 64.0);
    for (int t = 1; t < 5000; t = t * 3 / 2 + 1)
        pow_check(0.95, t);
}
END_TEST

/* A sum over many results: one bit elsewhere and it differs. */
START_TEST(math_gives_the_bits_written_here) {
    uint64_t sum = 0;
    for (uint64_t i = 0; i < 20000; i++) {
        double r[4], x = draw(i, 0x1p20, false);
        kern_sincos(x, &r[0], &r[1]);
        r[2] = kern_exp(x * 0x1p-12);
        r[3] = kern_log(fabs(x));
        for (int j = 0; j < 4; j++) {
            uint64_t u;
            memcpy(&u, &r[j], sizeof u);
            sum = kt_u64(sum, u);
        }
    }
    ck_assert_msg(sum == DIGEST, "digest %#llx", (unsigned long long)sum);
}
END_TEST

Suite *math_suite(void) {
    Suite *s = suite_create("math");
    TCase *tc = tcase_create("math");
    tcase_set_timeout(tc, 30);
    tcase_add_test(tc, math_exp_and_log_are_within_an_ulp);
    tcase_add_test(tc, math_sincos_is_within_two_ulps_over_its_range);
    tcase_add_test(tc, math_pow_serves_frequencies_and_corrections);
    tcase_add_test(tc, math_gives_the_bits_written_here);
    suite_add_tcase(s, tc);
    return s;
}
