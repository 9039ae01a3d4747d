/*
 * vec - sixteen float lanes, three ways: AVX-512, a pair of AVX2 registers, or
 * an array. Every operation is IEEE's (+ - * / fma sqrt, comparisons,
 * conversions), so the three give equal bits; what is built from them here
 * (exp, sums) does too. Included by files that are compiled once for each
 * instruction set; KERN_ISA names it.
 */
#ifndef FETTLE_KERNELS_CPU_VEC_H
#define FETTLE_KERNELS_CPU_VEC_H

#include "kernels/cpu/cpu.h"

#include <math.h>
#include <string.h>
#if !defined(KERN_ISA_scalar)
#include <immintrin.h>
#endif

#define VL 16

/* ISA(name) is name_avx512, name_avx2 or name_scalar. */
#define ISA_CAT2(a, b) a##_##b
#define ISA_CAT(a, b) ISA_CAT2(a, b)
#define ISA(name) ISA_CAT(name, KERN_ISA)

#define INLINE static inline __attribute__((always_inline, unused))

#if defined(KERN_ISA_avx512)

typedef __m512 vf;
INLINE vf v_set(float x) { return _mm512_set1_ps(x); }
INLINE vf v_load(const float *p) { return _mm512_loadu_ps(p); }
INLINE void v_store(float *p, vf x) { _mm512_storeu_ps(p, x); }
INLINE vf v_loadn(const float *p, int n) {
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}
INLINE void v_storen(float *p, vf x, int n) {
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), x);
}
INLINE vf v_add(vf a, vf b) { return _mm512_add_ps(a, b); }
INLINE vf v_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
INLINE vf v_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
INLINE vf v_div(vf a, vf b) { return _mm512_div_ps(a, b); }
INLINE vf v_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
INLINE vf v_sqrt(vf a) { return _mm512_sqrt_ps(a); }
/* a < b ? x : y, false when either is NaN. */
INLINE vf v_lt(vf a, vf b, vf x, vf y) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x);
}
/* The float whose bits are those of `a` shifted left by 23, plus one's. */
INLINE vf v_pow2_bits(vf a) {
    __m512i i = _mm512_slli_epi32(_mm512_castps_si512(a), 23);
    return _mm512_castsi512_ps(
        _mm512_add_epi32(i, _mm512_set1_epi32(127 << 23)));
}
INLINE __m256 v_low(vf x) { return _mm512_castps512_ps256(x); }
INLINE __m256 v_high(vf x) { return _mm512_extractf32x8_ps(x, 1); }
INLINE vf v_load_bf16(const uint16_t *p) {
    __m512i i = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(i, 16));
}
INLINE vf v_load_f16(const uint16_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const void *)p));
}

#elif defined(KERN_ISA_avx2)

typedef struct {
    __m256 l, h;
} vf;
INLINE vf v_set(float x) { return (vf){_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
INLINE vf v_load(const float *p) {
    return (vf){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
INLINE void v_store(float *p, vf x) {
    _mm256_storeu_ps(p, x.l);
    _mm256_storeu_ps(p + 8, x.h);
}
INLINE __m256i v_mask8(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
INLINE vf v_loadn(const float *p, int n) {
    return (vf){_mm256_maskload_ps(p, v_mask8(n)),
                _mm256_maskload_ps(p + 8, v_mask8(n - 8))};
}
INLINE void v_storen(float *p, vf x, int n) {
    _mm256_maskstore_ps(p, v_mask8(n), x.l);
    _mm256_maskstore_ps(p + 8, v_mask8(n - 8), x.h);
}
INLINE vf v_add(vf a, vf b) {
    return (vf){_mm256_add_ps(a.l, b.l), _mm256_add_ps(a.h, b.h)};
}
INLINE vf v_sub(vf a, vf b) {
    return (vf){_mm256_sub_ps(a.l, b.l), _mm256_sub_ps(a.h, b.h)};
}
INLINE vf v_mul(vf a, vf b) {
    return (vf){_mm256_mul_ps(a.l, b.l), _mm256_mul_ps(a.h, b.h)};
}
INLINE vf v_div(vf a, vf b) {
    return (vf){_mm256_div_ps(a.l, b.l), _mm256_div_ps(a.h, b.h)};
}
INLINE vf v_fma(vf a, vf b, vf c) {
    return (vf){_mm256_fmadd_ps(a.l, b.l, c.l), _mm256_fmadd_ps(a.h, b.h, c.h)};
}
INLINE vf v_sqrt(vf a) {
    return (vf){_mm256_sqrt_ps(a.l), _mm256_sqrt_ps(a.h)};
}
INLINE vf v_lt(vf a, vf b, vf x, vf y) {
    return (vf){
        _mm256_blendv_ps(y.l, x.l, _mm256_cmp_ps(a.l, b.l, _CMP_LT_OQ)),
        _mm256_blendv_ps(y.h, x.h, _mm256_cmp_ps(a.h, b.h, _CMP_LT_OQ))};
}
INLINE __m256 v_pow2_bits8(__m256 a) {
    __m256i i = _mm256_slli_epi32(_mm256_castps_si256(a), 23);
    return _mm256_castsi256_ps(
        _mm256_add_epi32(i, _mm256_set1_epi32(127 << 23)));
}
INLINE vf v_pow2_bits(vf a) {
    return (vf){v_pow2_bits8(a.l), v_pow2_bits8(a.h)};
}
INLINE __m256 v_low(vf x) { return x.l; }
INLINE __m256 v_high(vf x) { return x.h; }
INLINE __m256 v_bf16x8(const uint16_t *p) {
    __m256i i = _mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(i, 16));
}
INLINE vf v_load_bf16(const uint16_t *p) {
    return (vf){v_bf16x8(p), v_bf16x8(p + 8)};
}
INLINE vf v_load_f16(const uint16_t *p) {
    return (vf){_mm256_cvtph_ps(_mm_loadu_si128((const void *)p)),
                _mm256_cvtph_ps(_mm_loadu_si128((const void *)(p + 8)))};
}

#else /* scalar: baseline instructions, whatever the compiler makes of them */

typedef float vf __attribute__((vector_size(64)));
typedef uint32_t vu __attribute__((vector_size(64)));
typedef double v2d __attribute__((vector_size(16)));
typedef int64_t v2l __attribute__((vector_size(16)));
typedef uint64_t v2ul __attribute__((vector_size(16)));

#define VEC_EACH(expr) \
    vf r; \
    for (int i = 0; i < VL; i++) \
        r[i] = (expr); \
    return r
INLINE float v_bits(uint32_t u) {
    float f;
    memcpy(&f, &u, 4);
    return f;
}
INLINE vf v_set(float x) {
    return (vf){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x};
}
INLINE vf v_load(const float *p) {
    vf x;
    memcpy(&x, p, sizeof x);
    return x;
}
INLINE void v_store(float *p, vf x) { memcpy(p, &x, sizeof x); }
INLINE vf v_loadn(const float *p, int n) {
    vf x = {0};
    memcpy(&x, p, (size_t)n * sizeof *p);
    return x;
}
INLINE void v_storen(float *p, vf x, int n) {
    memcpy(p, &x, (size_t)n * sizeof *p);
}
INLINE vf v_add(vf a, vf b) { return a + b; }
INLINE vf v_sub(vf a, vf b) { return a - b; }
INLINE vf v_mul(vf a, vf b) { return a * b; }
INLINE vf v_div(vf a, vf b) { return a / b; }
INLINE vf v_sqrt(vf a) { VEC_EACH(sqrtf(a[i])); }
INLINE vf v_lt(vf a, vf b, vf x, vf y) {
    vu m = (vu)(a < b);
    return (vf)((m & (vu)x) | (~m & (vu)y));
}
INLINE vf v_pow2_bits(vf a) { return (vf)(((vu)a << 23) + (127u << 23)); }

/* fma in double: the product is exact; the sum is rounded to odd (Boldo and
 * Melquiond 2008), by its error term (Knuth's two-sum), so that rounding it
 * again, to float, gives what one rounding would. */
INLINE v2d v_fma2(v2d a, v2d b, v2d c) {
    v2d p = a * b, s = p + c, t = s - p;
    v2d e = (p - (s - t)) + (c - t); /* NaN when s is not finite */
    v2l is_odd = -((v2l)s & 1), is_inexact = (e < 0) | (e > 0);
    v2l away = 1 - 2 * (v2l)((v2ul)((v2l)e ^ (v2l)s) >> 63); /* 1 or -1 */
    return (v2d)((v2l)s + (away & is_inexact & ~is_odd));
}
/* A function, for the size of what uses it. */
static __attribute__((unused, noinline)) vf v_fma(vf a, vf b, vf c) {
    for (int i = 0; i < VL; i += 2) {
        v2d x = v_fma2((v2d){a[i], a[i + 1]}, (v2d){b[i], b[i + 1]},
                       (v2d){c[i], c[i + 1]});
        c[i] = (float)x[0];
        c[i + 1] = (float)x[1];
    }
    return c;
}

INLINE vf v_load_bf16(const uint16_t *p) {
    VEC_EACH(v_bits((uint32_t)p[i] << 16));
}
INLINE float v_f16(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, e = h >> 10 & 31;
    uint32_t m = h & 1023;
    if (e == 31)
        return v_bits(sign | 0x7f800000 | m << 13 | (m ? 1u << 22 : 0));
    if (e == 0) /* zero or subnormal: m * 2^-24, exact */
        return v_bits(sign | 0x3f800000) * ((float)m * 0x1p-24f);
    return v_bits(sign | (e + 112) << 23 | m << 13);
}
INLINE vf v_load_f16(const uint16_t *p) { VEC_EACH(v_f16(p[i])); }
#undef VEC_EACH

#endif

/* ---- built from the above ---- */

INLINE vf v_load_any(const void *p, enum kern_dtype t, int64_t at) {
    if (t == KERN_F32)
        return v_load((const float *)p + at);
    const uint16_t *h = (const uint16_t *)p + at;
    return t == KERN_BF16 ? v_load_bf16(h) : v_load_f16(h);
}

INLINE vf v_loadn_any(const void *p, enum kern_dtype t, int64_t at, int n) {
    if (n >= VL)
        return v_load_any(p, t, at);
    if (t == KERN_F32)
        return v_loadn((const float *)p + at, n);
    uint16_t h[VL] = {0};
    memcpy(h, (const uint16_t *)p + at, (size_t)n * 2);
    return t == KERN_BF16 ? v_load_bf16(h) : v_load_f16(h);
}

/* The larger; of NaNs nothing is promised: where a row's maximum is wanted, a
 * NaN shows up again in the sum of exponentials. */
INLINE vf v_max(vf a, vf b) { return v_lt(a, b, b, a); }

/* The last part of sum16 (op is add) and of a row's maximum: lane j with lane
 * j+8, then j+4, j+2, j+1. */
#if !defined(KERN_ISA_scalar)
#define VEC_FOLD(x, op) \
    __m128 q = op(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1)); \
    q = op(q, _mm_movehl_ps(q, q)); \
    return _mm_cvtss_f32(op(q, _mm_movehdup_ps(q)))
INLINE float v_sum(vf x) {
    __m256 y = _mm256_add_ps(v_low(x), v_high(x));
    VEC_FOLD(y, _mm_add_ps);
}
INLINE float v_hmax(vf x) {
    __m256 y = _mm256_max_ps(v_low(x), v_high(x));
    VEC_FOLD(y, _mm_max_ps);
}
#else
#define VEC_FOLD(expr) \
    for (int half = 8; half > 0; half /= 2) \
        for (int j = 0; j < half; j++) \
            x[j] = (expr); \
    return x[0]
INLINE float v_sum(vf x) { VEC_FOLD(x[j] + x[j + half]); }
INLINE float v_hmax(vf x) { VEC_FOLD(x[j] > x[j + half] ? x[j] : x[j + half]); }
#endif
#undef VEC_FOLD

/* exp: n = round(x/ln 2), a polynomial of degree 6 on the rest (Cephes expf),
 * times 2^n. Below -87.3 it is 0, above 88.02 inf; 1 ulp between. */
INLINE vf v_exp(vf x) {
    const vf lo = v_set(-87.3f), hi = v_set(88.02f);
    const vf magic = v_set(12582912.0f); /* 1.5 * 2^23 */
    vf c = v_lt(x, lo, lo, v_lt(hi, x, hi, x));
    vf t = v_fma(c, v_set(1.44269504088896341f), magic);
    vf n = v_sub(t, magic);
    vf r = v_fma(n, v_set(-0.693359375f), c);
    r = v_fma(n, v_set(2.12194440e-4f), r);
    vf p = v_set(1.9875691500e-4f);
    p = v_fma(p, r, v_set(1.3981999507e-3f));
    p = v_fma(p, r, v_set(8.3334519073e-3f));
    p = v_fma(p, r, v_set(4.1665795894e-2f));
    p = v_fma(p, r, v_set(1.6666665459e-1f));
    p = v_fma(p, r, v_set(5.0000001201e-1f));
    p = v_add(v_fma(p, v_mul(r, r), r), v_set(1.0f));
    vf y = v_mul(p, v_pow2_bits(t));
    y = v_lt(x, lo, v_set(0.0f), y);
    return v_lt(hi, x, v_set(INFINITY), y);
}

/* 1 / (1 + exp(-x)) */
INLINE vf v_sigmoid(vf x) {
    vf e = v_exp(v_sub(v_set(0.0f), x));
    return v_div(v_set(1.0f), v_add(v_set(1.0f), e));
}

/* tanh: an odd polynomial near 0 (Cephes tanhf), else 1 - 2/(exp(2|x|)+1). */
INLINE vf v_tanh(vf x) {
    vf a = v_lt(x, v_set(0.0f), v_sub(v_set(0.0f), x), x);
    vf e = v_exp(v_add(a, a));
    vf big = v_sub(v_set(1.0f), v_div(v_set(2.0f), v_add(e, v_set(1.0f))));
    big = v_lt(x, v_set(0.0f), v_sub(v_set(0.0f), big), big);
    vf z = v_mul(x, x);
    vf p = v_set(-5.70498872745e-3f);
    p = v_fma(p, z, v_set(2.06390887954e-2f));
    p = v_fma(p, z, v_set(-5.37397155531e-2f));
    p = v_fma(p, z, v_set(1.33314422036e-1f));
    p = v_fma(p, z, v_set(-3.33332819422e-1f));
    vf small = v_fma(v_mul(p, z), x, x);
    return v_lt(a, v_set(0.625f), small, big);
}

/* log of a positive, normal number (Cephes logf); for row sums. */
INLINE float s_log(float x) {
    uint32_t u;
    if (!(x > 0.0f) || x > 3.0e38f)
        return x == 0.0f ? -INFINITY : x; /* inf and NaN stay */
    memcpy(&u, &x, 4);
    int e = (int)(u >> 23) - 126;
    u = (u & 0x7fffffu) | 126u << 23;
    float m, z, y;
    memcpy(&m, &u, 4);
    if (m < 0.707106781186547524f) {
        e--;
        m = m + m - 1.0f;
    } else {
        m = m - 1.0f;
    }
    z = m * m;
    y = 7.0376836292e-2f;
    y = fmaf(y, m, -1.1514610310e-1f);
    y = fmaf(y, m, 1.1676998740e-1f);
    y = fmaf(y, m, -1.2420140846e-1f);
    y = fmaf(y, m, 1.4249322787e-1f);
    y = fmaf(y, m, -1.6668057665e-1f);
    y = fmaf(y, m, 2.0000714765e-1f);
    y = fmaf(y, m, -2.4999993993e-1f);
    y = fmaf(y, m, 3.3333331174e-1f);
    y = y * m * z;
    y = fmaf((float)e, -2.12194440e-4f, y);
    y = fmaf(z, -0.5f, y);
    z = m + y;
    return fmaf((float)e, 0.693359375f, z);
}

INLINE float s_exp(float x) {
    float v[VL];
    v_store(v, v_exp(v_set(x)));
    return v[0];
}

/* n >= VL: a whole vector; else the first n lanes, the others 0. */
INLINE vf v_get(const float *p, int64_t n) {
    return n >= VL ? v_load(p) : v_loadn(p, (int)n);
}
INLINE void v_put(float *p, vf x, int64_t n) {
    if (n >= VL)
        v_store(p, x);
    else
        v_storen(p, x, (int)n);
}

/* sum16 over n contiguous elements of f(i, lanes). */
#define SUM16(n, expr_full, expr_tail) \
    __extension__({ \
        vf s_ = v_set(0.0f); \
        int64_t i = 0; \
        for (; i + VL <= (n); i += VL) \
            s_ = (expr_full); \
        if (i < (n)) { \
            int left = (int)((n)-i); \
            s_ = (expr_tail); \
        } \
        v_sum(s_); \
    })

#endif
