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

/* m is a constant in every call, so all loops unroll. */
INLINE void tile_rows(const struct tile *t, const int m) {
    vf acc[TILE_M][TILE_V];
    for (int i = 0; i < m; i++)
        for (int v = 0; v < TILE_V; v++)
            acc[i][v] = tile_c(t, i, v);
    const float *a = t->a, *b = t->b;
    for (int64_t p = 0; p < t->k; p++, a += t->ka, b += t->ldb) {
        vf bv[TILE_V];
        for (int v = 0; v < TILE_V; v++)
            bv[v] = v_load(b + v * VL);
#pragma GCC unroll 16
        for (int i = 0; i < m; i++) {
            vf x = v_set(a[i * t->sa]);
            for (int v = 0; v < TILE_V; v++)
                acc[i][v] = v_fma(x, bv[v], acc[i][v]);
        }
    }
    for (int i = 0; i < m; i++)
        for (int v = 0; v < TILE_V; v++)
            tile_put(t, i, v, acc[i][v]);
}

/* m rows, 1 … TILE_M. */
static __attribute__((unused, noinline)) void tile_run(const struct tile *t,
                                                       int m) {
    switch (m) {
    case 1: tile_rows(t, 1); break;
    case 2: tile_rows(t, 2); break;
    case 3: tile_rows(t, 3); break;
    case 4: tile_rows(t, 4); break;
#if TILE_M > 4
    case 5: tile_rows(t, 5); break;
    case 6: tile_rows(t, 6); break;
#endif
#if TILE_M > 6
    case 7: tile_rows(t, 7); break;
    case 8: tile_rows(t, 8); break;
    case 9: tile_rows(t, 9); break;
    case 10: tile_rows(t, 10); break;
    case 11: tile_rows(t, 11); break;
    case 12: tile_rows(t, 12); break;
#endif
    }
}

/* Any number of rows of one column tile. */
static __attribute__((unused)) void tile_column(struct tile t, int64_t m) {
    for (int64_t i = 0; i < m; i += TILE_M) {
        int rows = m - i < TILE_M ? (int)(m - i) : TILE_M;
        tile_run(&t, rows);
        t.a += rows * t.sa;
        t.c += rows * t.ldc;
    }
}

#endif
