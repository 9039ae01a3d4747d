/*
 * tile - the one inner loop of all matrix work: a tile of C, rows by columns,
 * each element one chain of fma over k, started from 0 or from C.
 *   C[i][j] = fma(A[i*sa + p*ka], B[p*ldb + j], C[i][j])  for p ascending
 * Whatever the tiling, an element's bits are the same.
 */
#ifndef FETTLE_KERNELS_CPU_TILE_H
#define FETTLE_KERNELS_CPU_TILE_H

#include "kernels/cpu/vec.h"

#if defined(KERN_ISA_avx512)
#define TILE_M 12 /* rows; 24 accumulators */
#define TILE_V 2  /* vectors a row */
#elif defined(KERN_ISA_avx2)
#define TILE_M 6 /* 12 accumulators of 8 lanes */
#define TILE_V 1
#else
#define TILE_M 4
#define TILE_V 1
#endif
#define TILE_N (TILE_V * VL)

struct tile {
    int64_t k;
    const float *a;
    int64_t sa, ka; /* strides of A: a row, a step of k */
    const float *b; /* TILE_N readable floats at every step */
    int64_t ldb;
    float *c;
    int64_t ldc;
    int n;    /* columns stored, 1 … TILE_N */
    bool acc; /* start from C */
    int next; /* only in tile_full: rows of C below, wanted soon */
    /* Only in tile_edges and tile_part: m-1 more steps before the k ones, of
     * which row i takes part in the last m-1-i; m-1 more after, of which row
     * i takes part in the first i. A causal window has this form. */
    bool pre, post;
};

INLINE vf tile_c(const struct tile *t, int i, int v) {
    int left = t->n - v * VL;
    const float *p = t->c + i * t->ldc + v * VL;
    if (!t->acc || left <= 0)
        return v_set(0.0f);
    return left >= VL ? v_load(p) : v_loadn(p, left);
}

INLINE void tile_put(const struct tile *t, int i, int v, vf x) {
    int left = t->n - v * VL;
    float *p = t->c + i * t->ldc + v * VL;
    if (left >= VL)
        v_store(p, x);
    else if (left > 0)
        v_storen(p, x, left);
}

/* What a variant of the tile can do besides. */
#define TILE_EDGES 1 /* pre and post */
#define TILE_PART 2  /* B's rows end after n floats */

INLINE vf tile_b(const struct tile *t, const float *b, int v, const int can) {
    int left = t->n - v * VL;
    if (!(can & TILE_PART) || left >= VL)
        return v_load(b + v * VL);
    return left > 0 ? v_loadn(b + v * VL, left) : v_set(0.0f);
}

/* One step of k for rows from … to-1. */
INLINE void tile_step(const struct tile *t, vf acc[TILE_M][TILE_V],
                      const float *a, const float *b, const int m, int from,
                      int to, const int can) {
    vf bv[TILE_V];
    for (int v = 0; v < TILE_V; v++)
        bv[v] = tile_b(t, b, v, can);
#pragma GCC unroll 16
    for (int i = 0; i < m; i++) {
        if (i < from || i >= to)
            continue;
        vf x = v_set(a[i * t->sa]);
        for (int v = 0; v < TILE_V; v++)
            acc[i][v] = v_fma(x, bv[v], acc[i][v]);
    }
}

/* m and `can` are constants in every call, so all loops unroll. */
INLINE void tile_rows(const struct tile *t, const int m, const int can) {
    vf acc[TILE_M][TILE_V];
    for (int i = 0; i < m; i++)
        for (int v = 0; v < TILE_V; v++)
            acc[i][v] = tile_c(t, i, v);
    const float *a = t->a, *b = t->b;
    if ((can & TILE_EDGES) && t->pre)
        for (int s = 0; s < m - 1; s++, a += t->ka, b += t->ldb)
            tile_step(t, acc, a, b, m, 0, s + 1, can);
    for (int64_t p = 0; p < t->k; p++, a += t->ka, b += t->ldb)
        tile_step(t, acc, a, b, m, 0, m, can);
    if ((can & TILE_EDGES) && t->post)
        for (int s = 1; s < m; s++, a += t->ka, b += t->ldb)
            tile_step(t, acc, a, b, m, s, m, can);
    for (int i = 0; i < m; i++)
        for (int v = 0; v < TILE_V; v++)
            tile_put(t, i, v, acc[i][v]);
}

#if TILE_M == 12
#define TILE_SIZES(X) \
    X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12)
#elif TILE_M == 6
#define TILE_SIZES(X) X(1) X(2) X(3) X(4) X(5) X(6)
#else
#define TILE_SIZES(X) X(1) X(2) X(3) X(4)
#endif

#define TILE_VARIANT(name, can) \
    static __attribute__((unused, noinline)) void name(const struct tile *t, \
                                                       int m) { \
        switch (m) { TILE_SIZES(TILE_CASE_##can) } \
    }
#define TILE_CASE_0(m) \
    case m: \
        tile_rows(t, m, 0); \
        break;
#define TILE_CASE_1(m) \
    case m: \
        tile_rows(t, m, TILE_EDGES); \
        break;
#define TILE_CASE_3(m) \
    case m: tile_rows(t, m, TILE_EDGES | TILE_PART); break;
/* m rows, 1 … TILE_M. */
TILE_VARIANT(tile_run, 0)
TILE_VARIANT(tile_edges, 1)
TILE_VARIANT(tile_part, 3)
#undef TILE_VARIANT

/* Memory that is wanted soon, row after row. It is asked for little by little:
 * of what it is asked for all at once, a machine forgets most. */
struct tile_ahead {
    const char *at;
    int64_t step;    /* bytes between rows */
    int64_t left;    /* cache lines of all rows, not yet asked for */
    int lines, line; /* of a row; of those, asked for */
    int each;        /* lines asked for every TILE_HINT steps of k */
};
#define TILE_HINT 16

#if !defined(KERN_ISA_scalar)
INLINE void tile_hint(struct tile_ahead *h) {
    for (int i = 0; i < h->each && h->left > 0; i++, h->left--) {
        __builtin_prefetch(h->at + (int64_t)h->line * CPU_ALIGN);
        if (++h->line == h->lines) {
            h->line = 0;
            h->at += h->step;
        }
    }
}

/* Hides where a value comes from, so that the compiler keeps it in a register
 * instead of one for everything that is computed from it. */
#define TILE_OPAQUE(x) __asm__("" : "+r"(x))

/* Where four rows each of A begin, and how far rows are apart. */
struct tile_a {
    const float *at[(TILE_M + 3) / 4];
    int64_t sa, sa3;
};

/* Steps of k. A is packed (sa 1, ka TILE_M), or has ka 1 and few enough
 * registers for all rows' addresses. */
INLINE const float *tile_steps(vf acc[TILE_M][TILE_V], struct tile_a *a,
                               const float *b, const bool is_packed,
                               const int V, int64_t steps) {
    for (; steps > 0; steps--) {
        vf bv[TILE_V];
        for (int v = 0; v < V; v++)
            bv[v] = v_load(b + v * VL);
        b += TILE_N;
        for (int i = 0; !is_packed && i < TILE_M; i += 4)
            TILE_OPAQUE(a->at[i / 4]);
        if (!is_packed) {
            TILE_OPAQUE(a->sa);
            TILE_OPAQUE(a->sa3);
        }
#pragma GCC unroll 16
        for (int i = 0; i < TILE_M; i++) {
            vf x = v_set(a->at[i / 4][i % 4 == 3 ? a->sa3 : i % 4 * a->sa]);
            for (int v = 0; v < V; v++)
                acc[i][v] = v_fma(x, bv[v], acc[i][v]);
        }
        for (int i = 0; i < TILE_M; i += 4)
            a->at[i / 4] += is_packed ? TILE_M : 1;
    }
    return b;
}

/* tile_run of TILE_M rows, the one that has to be fast; V vectors of a row. */
INLINE void tile_full(const struct tile *t, const bool is_packed, const int V,
                      struct tile_ahead *h) {
    vf acc[TILE_M][TILE_V];
    struct tile_a a = {.sa = is_packed ? 1 : t->sa};
    const float *b = t->b;
    a.sa3 = 3 * a.sa;
    for (int i = 0; i < TILE_M; i++)
        for (int v = 0; v < V; v++)
            acc[i][v] = tile_c(t, i, v);
    for (int i = 0; i < t->next; i++)
        for (int v = 0; v < V; v++)
            __builtin_prefetch(t->c + (TILE_M + i) * t->ldc + v * VL, 1);
    for (int i = 0; i < TILE_M; i += 4)
        a.at[i / 4] = t->a + i * a.sa;
    int64_t k = t->k;
    for (; k >= TILE_HINT; k -= TILE_HINT) {
        tile_hint(h);
        b = tile_steps(acc, &a, b, is_packed, V, TILE_HINT);
    }
    tile_steps(acc, &a, b, is_packed, V, k);
    for (int i = 0; i < TILE_M; i++)
        for (int v = 0; v < V; v++)
            tile_put(t, i, v, acc[i][v]);
}

#define TILE_FULL(name, is_packed, V) \
    static __attribute__((unused, noinline)) void name(const struct tile *t, \
                                                       struct tile_ahead *h) { \
        tile_full(t, is_packed, V, h); \
    }
TILE_FULL(tile_full_rows, false, TILE_V)
TILE_FULL(tile_full_packed, true, TILE_V)
TILE_FULL(tile_narrow_rows, false, 1) /* n <= VL */
TILE_FULL(tile_narrow_packed, true, 1)
#undef TILE_FULL
#endif

#if !defined(KERN_ISA_scalar)
/* dst[p*ld + j] = r[j][p] for an 8x8 block. */
INLINE void tile_transpose8(float *dst, int64_t ld, const __m256 r[8]) {
    __m256 t[8], u[8];
    for (int i = 0; i < 4; i++) {
        t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    for (int h = 0; h < 2; h++)
        for (int i = 0; i < 2; i++) {
            __m256 x = t[4 * h + i], y = t[4 * h + i + 2];
            u[4 * h + 2 * i] = _mm256_shuffle_ps(x, y, 0x44);
            u[4 * h + 2 * i + 1] = _mm256_shuffle_ps(x, y, 0xee);
        }
    for (int i = 0; i < 4; i++) {
        __m256 lo = _mm256_permute2f128_ps(u[i], u[i + 4], 0x20);
        __m256 hi = _mm256_permute2f128_ps(u[i], u[i + 4], 0x31);
        _mm256_storeu_ps(dst + i * ld, lo);
        _mm256_storeu_ps(dst + (i + 4) * ld, hi);
    }
}
#endif

#if defined(KERN_ISA_avx512)
/* r[i][j] = r[j][i]. */
INLINE void tile_transpose16(__m512 r[16]) {
    __m512 t[16];
    for (int i = 0; i < 8; i++) {
        t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int h = 0; h < 2; h++) {
            __m512d x = _mm512_castps_pd(t[i + h]);
            __m512d y = _mm512_castps_pd(t[i + h + 2]);
            r[i + 2 * h] = _mm512_castpd_ps(_mm512_unpacklo_pd(x, y));
            r[i + 2 * h + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(x, y));
        }
    for (int i = 0; i < 4; i++)
        for (int h = 0; h < 2; h++) {
            __m512 x = r[8 * h + i], y = r[8 * h + i + 4];
            t[8 * h + i] = _mm512_shuffle_f32x4(x, y, 0x88);
            t[8 * h + i + 4] = _mm512_shuffle_f32x4(x, y, 0xdd);
        }
    for (int i = 0; i < 8; i++) {
        r[i] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0xdd);
    }
}
#endif

#endif
