/*
 * mm: C = A·B in three forms, by blocks. A task is a block of C: for KC steps
 * of k after the other it packs B's columns, panel by panel of TILE_N, into
 * scratch (widened to f32, padded with zeros), for TN also A's rows, and runs
 * the tile over both; A's block and C's stay in the second-level cache. C
 * carries the chain from one KC block to the next.
 */
#include "kernels/cpu/isa.h"
#include "kernels/cpu/tile.h"

#define MM_KC 512    /* most steps of k packed at once */
#define MM_MC 516    /* most rows of a task */
#define MM_NP 4      /* most panels of a task */
#define MM_NP_TN 32  /* where rows of A are packed for them, too */
#define MM_TASKS 8   /* wanted for each thread */
#define MM_PACK_K 8  /* steps of k that A is packed by */
#define MM_MC_MIN 48 /* fewer would not repay the packing of B */

struct mm_run {
    const struct kern_mm *a;
    struct cpu *cpu;
    int64_t mc, kc; /* rows a task; steps of k packed at once */
    int row_blocks;
    int np, panels; /* panels a task; in all */
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
    size_t size = a->bt == KERN_F32 ? 4 : 2;
    for (int i = 0; i < 8; i++) {
        r[i] = mm_load8(a, (j + i) * a->ldb + k);
        if (k % 16 == 0 && j + i + 8 < a->n)
            __builtin_prefetch((const char *)a->b +
                               (size_t)((j + i + 8) * a->ldb + k) * size);
    }
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

/* A(k,m): TILE_M of its columns behind each other, for each step of k. A few
 * steps at once, so that both sides are read and written in runs. */
static void mm_pack_tn(const struct kern_mm *a, float *dst, int64_t i0,
                       int64_t rows, int64_t k0, int kc) {
    for (int k = 0; k < kc; k += MM_PACK_K)
        for (int64_t i = 0; i < rows; i += TILE_M) {
            int64_t left = rows - i;
            int end = kc - k < MM_PACK_K ? kc : k + MM_PACK_K;
            float *to = dst + i * kc + k * TILE_M;
            const float *from = a->a + (k0 + k) * a->lda + i0 + i;
            for (int p = k; p < end; p++, to += TILE_M, from += a->lda)
                if (left >= TILE_M)
                    memcpy(to, from, TILE_M * sizeof *to);
                else
                    memcpy(to, from, (size_t)left * sizeof *to);
        }
}

/* m rows, behind which come `next` more. */
static void mm_tile(const struct tile *t, int m, int next, bool is_packed) {
#if !defined(KERN_ISA_scalar)
    if (m == TILE_M && is_packed)
        t->n > VL ? tile_full_packed(t, next) : tile_narrow_packed(t, next);
    else if (m == TILE_M)
        t->n > VL ? tile_full_rows(t, next) : tile_narrow_rows(t, next);
    else
#endif
        tile_run(t, m);
    (void)next;
    (void)is_packed;
}

/* Panel j0 … j0+n of the task's rows, one KC block. */
static void mm_panel(const struct mm_run *r, float *b, const float *at,
                     int64_t i0, int64_t rows, int64_t j0, int64_t k0, int kc) {
    const struct kern_mm *a = r->a;
    int n = a->n - j0 < TILE_N ? (int)(a->n - j0) : TILE_N;
    bool tn = a->form == KERN_TN;
    struct tile t = {.k = kc,
                     .a = tn ? at : a->a + i0 * a->lda + k0,
                     .sa = tn ? 1 : a->lda,
                     .ka = tn ? TILE_M : 1,
                     .b = b,
                     .ldb = TILE_N,
                     .c = a->c + i0 * a->ldc + j0,
                     .ldc = a->ldc,
                     .n = n,
                     .acc = a->acc || k0 > 0};
    if (a->form == KERN_NT)
        mm_pack_nt(a, b, j0, n, k0, kc);
    else
        mm_pack_n(a, b, j0, n, k0, kc);
    for (int64_t i = 0; i < rows; i += TILE_M) {
        int64_t left = rows - i - TILE_M;
        int m = left < 0 ? (int)(rows - i) : TILE_M;
        mm_tile(&t, m, left < TILE_M ? (int)left : TILE_M, tn);
        t.a += tn ? (int64_t)kc * TILE_M : m * t.sa;
        t.c += m * t.ldc;
    }
}

static void mm_task(void *arg, int task, int thread) {
    const struct mm_run *r = arg;
    const struct kern_mm *a = r->a;
    float *b = r->cpu->scratch[thread], *at = b + MM_KC * TILE_N;
    int p0 = task / r->row_blocks * r->np;
    int p1 = p0 + r->np < r->panels ? p0 + r->np : r->panels;
    int64_t i0 = task % r->row_blocks * r->mc;
    int64_t rows = a->m - i0 < r->mc ? a->m - i0 : r->mc;
    for (int64_t k0 = 0; k0 < a->k || k0 == 0; k0 += r->kc) {
        int kc = (int)(a->k - k0 < r->kc ? a->k - k0 : r->kc);
        if (a->form == KERN_TN)
            mm_pack_tn(a, at, i0, rows, k0, kc);
        for (int p = p0; p < p1; p++)
            mm_panel(r, b, at, i0, rows, (int64_t)p * TILE_N, k0, kc);
    }
}

/* Blocks as large as the cache likes, and small enough that every thread has
 * some. */
static void mm_cut(struct mm_run *r) {
    int64_t m = r->a->m, threads = pool_threads(r->cpu->pool);
    int64_t wanted = threads > 1 ? MM_TASKS * threads : 1;
    int64_t blocks = (m + MM_MC - 1) / MM_MC;
    int64_t steps = (r->a->k + MM_KC - 1) / MM_KC;
    r->kc = steps > 0 ? (r->a->k + steps - 1) / steps : 1;
    r->panels = (r->a->n + TILE_N - 1) / TILE_N;
    if (blocks * r->panels < wanted)
        blocks = (wanted + r->panels - 1) / r->panels;
    r->mc = (m + blocks - 1) / blocks;
    if (r->mc < MM_MC_MIN)
        r->mc = MM_MC_MIN;
    r->mc = (r->mc + TILE_M - 1) / TILE_M * TILE_M;
    r->row_blocks = (int)((m + r->mc - 1) / r->mc);
    int64_t np = (int64_t)r->panels * r->row_blocks / wanted;
    int most = r->a->form == KERN_TN ? MM_NP_TN : MM_NP;
    r->np = np < 1 ? 1 : np > most ? most : (int)np;
}

static bool mm_is_shaped(const struct kern_mm *a) {
    bool tn = a->form == KERN_TN, nt = a->form == KERN_NT;
    return (unsigned)a->form <= KERN_TN && (unsigned)a->bt < KERN_DTYPES &&
           a->m >= 0 && a->n >= 0 && a->k >= 0 &&
           a->lda >= (tn ? a->m : a->k) && a->ldb >= (nt ? a->k : a->n) &&
           a->ldc >= a->n;
}

int ISA(mm)(struct kern *k, const struct kern_mm *a) {
    if (a->bt == KERN_Q8 || a->bt == KERN_Q4)
        return ISA(mm_quant)(k, a);
    if (!mm_is_shaped(a))
        return KERN_EINVAL;
    if (a->m == 0 || a->n == 0)
        return KERN_OK;
    struct mm_run r = {.a = a, .cpu = cpu_of(k)};
    mm_cut(&r);
    int64_t at = a->form == KERN_TN ? r.mc : 0;
    int rc =
        cpu_reserve(r.cpu, (size_t)(MM_KC * (TILE_N + at)) * sizeof(float));
    if (rc)
        return rc;
    int groups = (r.panels + r.np - 1) / r.np;
    pool_run(r.cpu->pool, groups * r.row_blocks, mm_task, &r);
    return KERN_OK;
}
