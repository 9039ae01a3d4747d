/*
 * kt - what the kernel tests share: drawn inputs, exact-size buffers, and the
 * loop over instruction sets and thread counts that must agree to the bit.
 * The CPU's device memory is memory, so buffers are plain malloc'ed ones of
 * the exact size: a sanitizer sees one element too far.
 */
#ifndef FETTLE_TESTS_KT_H
#define FETTLE_TESTS_KT_H

#include "kernels/kernels.h"

#include "tests/quick.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KT __attribute__((unused)) static
#define KT_COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

/* ---- drawn numbers: splitmix64 of (seed, index) ---- */

KT uint64_t kt_u64(uint64_t seed, uint64_t i) {
    uint64_t z = seed * 0x9e3779b97f4a7c15u + i * 0xbf58476d1ce4e5b9u + 1;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Uniform in [-1, 1). */
KT float kt_unit(uint64_t seed, uint64_t i) {
    return (float)((double)(kt_u64(seed, i) >> 40) * 0x1p-23 - 1.0);
}

KT void *kt_buf(size_t n, size_t size) {
    void *p = malloc(n * size + (n == 0));
    ck_assert_ptr_nonnull(p);
    return p;
}

/* n drawn floats in (-range, range). */
KT float *kt_draw(size_t n, uint64_t seed, float range) {
    float *x = kt_buf(n, sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = kt_unit(seed, i) * range;
    return x;
}

KT float *kt_fill(size_t n, float value) {
    float *x = kt_buf(n, sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = value;
    return x;
}

KT void *kt_dup(const void *from, size_t bytes) {
    void *p = kt_buf(bytes, 1);
    memcpy(p, from, bytes);
    return p;
}

/* rows of C drawn floats, ld apart; NaN between them, which must not matter. */
KT float *kt_rows(int rows, int C, int64_t ld, uint64_t seed, float range) {
    size_t n = rows ? (size_t)((rows - 1) * ld + C) : 0;
    float *x = kt_fill(n, NAN);
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < C; c++)
            x[r * ld + c] =
                kt_unit(seed, (uint64_t)r * (uint64_t)C + (uint64_t)c) * range;
    return x;
}

/* ---- narrow floats, by the definition of the formats ---- */

KT float kt_bf16(uint16_t h) {
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

KT float kt_f16(uint16_t h) {
    int e = h >> 10 & 31, m = h & 1023;
    double x = e == 31  ? (m ? NAN : INFINITY)
               : e == 0 ? m * 0x1p-24
                        : (1024 + m) * pow(2, e - 25);
    return (float)(h & 0x8000 ? -x : x);
}

KT float kt_widen(const void *x, enum kern_dtype t, int64_t i) {
    if (t == KERN_F32)
        return ((const float *)x)[i];
    uint16_t h = ((const uint16_t *)x)[i];
    return t == KERN_BF16 ? kt_bf16(h) : kt_f16(h);
}

/* A drawn 16-bit float of ordinary size. */
KT uint16_t kt_narrow(enum kern_dtype t, uint64_t seed, uint64_t i) {
    uint64_t u = kt_u64(seed, i);
    uint16_t sign = u & 1 ? 0x8000 : 0;
    return t == KERN_BF16 ? (uint16_t)(sign | (0x3e00 + (u >> 8 & 0x1ff)))
                          : (uint16_t)(sign | (0x3000 + (u >> 8 & 0xfff)));
}

/* ---- comparing ---- */

/* Equal bits, or both NaN. */
KT bool kt_same(float a, float b) {
    return memcmp(&a, &b, sizeof a) == 0 || (isnan(a) && isnan(b));
}

KT void kt_expect_same(const float *got, const float *want, size_t n,
                       const char *what) {
    for (size_t i = 0; i < n; i++)
        ck_assert_msg(kt_same(got[i], want[i]),
                      "%s: element %zu: %a (%g), expected %a (%g)", what, i,
                      (double)got[i], (double)got[i], (double)want[i],
                      (double)want[i]);
}

KT void kt_expect_near(double got, double want, double tol, const char *what,
                       int64_t i) {
    ck_assert_msg(fabs(got - want) <= tol,
                  "%s: element %lld: %.9g, expected %.9g +- %.2g", what,
                  (long long)i, got, want, tol);
}

/* ---- devices ---- */

struct kt_dev {
    const char *isa;
    int threads;
};

static const struct kt_dev kt_devs[] = {
    {"scalar", 1}, {"scalar", 2}, {"avx2", 1},   {"avx2", 3},
    {"avx512", 1}, {"avx512", 2}, {"avx512", 5},
};

/* NULL where the machine lacks the set (said once, by test_cpu). */
KT struct kern *kt_open(const struct kt_dev *d) {
    struct kern *k = NULL;
    int rc = kern_open(&k, &(struct kern_opts){.device = "cpu",
                                               .threads = d->threads,
                                               .isa = d->isa});
    ck_assert(rc == KERN_OK || (rc == KERN_ENODEV && d->isa[0] == 'a'));
    return k;
}

/* The best set, two threads. */
KT struct kern *kt_best(void) {
    struct kern *k = NULL;
    ck_assert_int_eq(kern_open(&k, &(struct kern_opts){.threads = 2}), KERN_OK);
    return k;
}

/* Runs fn on every device; all must leave the same `n` floats in out. `want`
 * gets the first one's, for the comparison with an oracle. */
typedef void kt_run_fn(struct kern *k, const void *arg, float *out);
KT void kt_agree(kt_run_fn *fn, const void *arg, float *want, size_t n) {
    float *got = kt_buf(n, sizeof *got);
    char what[64];
    for (int i = 0; i < KT_COUNT(kt_devs); i++) {
        struct kern *k = kt_open(&kt_devs[i]);
        if (k == NULL)
            continue;
        memset(got, 0, n * sizeof *got);
        fn(k, arg, i == 0 ? want : got);
        k->ops->close(k);
        snprintf(what, sizeof what, "%s x %d beside scalar", kt_devs[i].isa,
                 kt_devs[i].threads);
        if (i > 0)
            kt_expect_same(got, want, n, what);
    }
    free(got);
}

#endif
