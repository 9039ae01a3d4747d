/*
 * mm: C = A·B in three forms, by panels. A task is a panel of TILE_N columns
 * of C times a block of rows: it packs B's columns for KC steps of k into
 * scratch (widened to f32, padded with zeros) and runs the tile over its rows.
 * C carries the chain from one KC block to the next.
 */
#include "kernels/cpu/isa.h"
#include "kernels/cpu/tile.h"

#define MM_KC 512
#define MM_MC 384    /* most rows of a task: its A stays in the cache */
#define MM_MC_MIN 48 /* fewer would not repay the packing of B */

struct mm_run {
    const struct kern_mm *a;
    struct cpu *cpu;
    int64_t mc; /* rows a task */
    int row_blocks;
};

#if !defined(KERN_ISA_scalar)
INLINE __m256 mm_load8(const struct kern_mm *a, int64_t at) {
    if (a->bt == KERN_F32)
        return _mm256_loadu_ps((const float *)a->b + at);
    __m128i h = _mm_loadu_si128((const void *)((const uint16_t *)a->b + at));
    if (a->bt == KERN_F16)
        return _mm256_cvtph_ps(h);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

INLINE void mm_pack8(const struct kern_mm *a, float *dst, int64_t j,
                     int64_t k) {
    __m256 r[8];
    for (int i = 0; i < 8; i++)
        r[i] = mm_load8(a, (j + i) * a->ldb + k);
    tile_transpose8(dst, TILE_N, r);
}
#endif

static float mm_b(const struct kern_mm *a, int64_t at) {
    float x[VL];
    v_store(x, v_loadn_any(a->b, a->bt, at, 1));
    return x[0];
}

/* B(n,k): columns j0 … j0+n of the panel are rows of B. */
static void mm_pack_nt(const struct kern_mm *a, float *dst, int64_t j0, int n,
                       int64_t k0, int kc) {
    int jd = 0, kd = 0;
#if !defined(KERN_ISA_scalar)
    jd = n & ~7;
    kd = kc & ~7;
    for (int j = 0; j < jd; j += 8)
        for (int k = 0; k < kd; k += 8)
            mm_pack8(a, dst + (int64_t)k * TILE_N + j, j0 + j, k0 + k);
#endif
    for (int j = 0; j < n; j++)
        for (int k = j < jd ? kd : 0; k < kc; k++)
            dst[(int64_t)k * TILE_N + j] = mm_b(a, (j0 + j) * a->ldb + k0 + k);
    for (int j = n; j < TILE_N; j++)
        for (int k = 0; k < kc; k++)
            dst[(int64_t)k * TILE_N + j] = 0.0f;
}

/* B(k,n): rows of the panel are pieces of B's rows. */
static void mm_pack_n(const struct kern_mm *a, float *dst, int64_t j0, int n,
                      int64_t k0, int kc) {
    for (int k = 0; k < kc; k++)
        for (int v = 0; v < TILE_V; v++) {
            int left = n - v * VL < 0 ? 0 : n - v * VL;
            int64_t at = (k0 + k) * a->ldb + j0 + v * VL;
            v_store(dst + (int64_t)k * TILE_N + v * VL,
                    left ? v_loadn_any(a->b, a->bt, at, left) : v_set(0.0f));
        }
}

static void mm_task(void *arg, int task, int thread) {
    const struct mm_run *r = arg;
    const struct kern_mm *a = r->a;
    float *panel = r->cpu->scratch[thread];
    int64_t j0 = (int64_t)(task / r->row_blocks) * TILE_N;
    int64_t i0 = task % r->row_blocks * r->mc;
    int64_t rows = a->m - i0 < r->mc ? a->m - i0 : r->mc;
    int n = a->n - j0 < TILE_N ? (int)(a->n - j0) : TILE_N;
    bool tn = a->form == KERN_TN;
    for (int64_t k0 = 0; k0 < a->k || k0 == 0; k0 += MM_KC) {
        int kc = a->k - k0 < MM_KC ? (int)(a->k - k0) : MM_KC;
        if (a->form == KERN_NT)
            mm_pack_nt(a, panel, j0, n, k0, kc);
        else
            mm_pack_n(a, panel, j0, n, k0, kc);
        int64_t sa = tn ? 1 : a->lda, ka = tn ? a->lda : 1;
        tile_column((struct tile){.k = kc,
                                  .a = a->a + i0 * sa + k0 * ka,
                                  .sa = sa,
                                  .ka = ka,
                                  .b = panel,
                                  .ldb = TILE_N,
                                  .c = a->c + i0 * a->ldc + j0,
                                  .ldc = a->ldc,
                                  .n = n,
                                  .acc = a->acc || k0 > 0},
                    rows);
    }
}

/* Few panels are cut by rows, so that every thread has some tasks. */
static void mm_cut_rows(struct mm_run *r, int panels) {
    int64_t m = r->a->m, threads = pool_threads(r->cpu->pool);
    int64_t wanted = threads > 1 ? 4 * threads / panels : 1;
    r->mc = wanted > 1 ? m / wanted : m;
    if (r->mc > MM_MC)
        r->mc = MM_MC;
    if (r->mc < MM_MC_MIN)
        r->mc = MM_MC_MIN;
    r->mc = (r->mc + TILE_M - 1) / TILE_M * TILE_M;
    r->row_blocks = (int)((m + r->mc - 1) / r->mc);
}

static bool mm_is_shaped(const struct kern_mm *a) {
    bool tn = a->form == KERN_TN, nt = a->form == KERN_NT;
    return (unsigned)a->form <= KERN_TN && (unsigned)a->bt < KERN_DTYPES &&
           a->m >= 0 && a->n >= 0 && a->k >= 0 &&
           a->lda >= (tn ? a->m : a->k) && a->ldb >= (nt ? a->k : a->n) &&
           a->ldc >= a->n;
}

int ISA(mm)(struct kern *k, const struct kern_mm *a) {
    if (!mm_is_shaped(a))
        return KERN_EINVAL;
    if (a->m == 0 || a->n == 0)
        return KERN_OK;
    struct mm_run r = {.a = a, .cpu = cpu_of(k)};
    int rc = cpu_reserve(r.cpu, (size_t)MM_KC * TILE_N * sizeof(float));
    if (rc)
        return rc;
    int panels = (a->n + TILE_N - 1) / TILE_N;
    mm_cut_rows(&r, panels);
    pool_run(r.cpu->pool, panels * r.row_blocks, mm_task, &r);
    return KERN_OK;
}
