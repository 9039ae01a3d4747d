/*
 * mm: C = A·B in three forms, by blocks. A's rows are packed first, TILE_M of
 * them interleaved step by step, so that the tile reads them as one stream. A
 * task is a block of C: for KC steps of k after the other it packs B's columns,
 * panel by panel of TILE_N, into scratch (widened to f32, padded with zeros),
 * and runs the tile over both; B's panel stays in the first-level cache, A's
 * block and C's in the second-level one. C carries the chain from one KC block
 * to the next. Few rows, or few columns, are not worth packing A for.
 */
#include "kernels/cpu/isa.h"
#include "kernels/cpu/tile.h"

#define MM_KC 384           /* most steps of k packed at once */
#define MM_MC 516           /* most rows of a task */
#define MM_NP 8             /* most panels of a task */
#define MM_TASKS 4          /* wanted for each thread */
#define MM_PACK_K 8         /* steps of k that A's columns are packed by */
#define MM_PACK_TILES 8     /* row tiles of a packing task */
#define MM_MC_MIN 48        /* fewer would not repay the packing of B */
#define MM_A_PANELS 4       /* fewer panels would not repay that of A */
#define MM_A_FLOATS 2621440 /* of A packed at once: 10 MiB */
#define MM_A_ROWS 2064      /* most rows of it */
#define MM_AHEAD 16         /* rows of B between its reading and its prefetch */

struct mm_run {
    const struct kern_mm *a;
    struct cpu *cpu;
    float *at;           /* A packed, or NULL: KC block after KC block, */
                         /* in each tile after tile (kc,TILE_M) */
    int64_t first, rows; /* of C, this time */
    int64_t k0, k1;      /* steps of k, this time */
    int64_t mc, kc;      /* rows a task; steps of k packed at once */
    int row_blocks;
    int np, panels; /* panels a task; in all */
};

static int64_t mm_up(int64_t x, int64_t to) { return (x + to - 1) / to * to; }

/* ---- packing B ---- */

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

#if defined(KERN_ISA_avx512)
#define MM_TURNS true /* 16 rows of B at once */

/* Of two bf16 in a word, the first and the second. */
INLINE vf mm_even(vf w) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(w), 16));
}
INLINE vf mm_odd(vf w) {
    return _mm512_castsi512_ps(
        _mm512_and_si512(_mm512_castps_si512(w), _mm512_set1_epi32(-65536)));
}

/* Sixteen rows of B: 16 steps of f32, or 32 of bf16, two in a word. */
INLINE void mm_pack16(const struct kern_mm *a, float *dst, int64_t j, int64_t k,
                      int64_t ahead) {
    size_t size = a->bt == KERN_F32 ? 4 : 2;
    const char *row = (const char *)a->b + (size_t)(j * a->ldb + k) * size;
    size_t step = (size_t)a->ldb * size;
    __m512 r[16];
    for (int i = 0; i < 16; i++, row += step) {
        r[i] = _mm512_loadu_ps(row);
        if (ahead)
            __builtin_prefetch(row + (size_t)ahead * step);
    }
    tile_transpose16(r);
    for (int i = 0; i < 16; i++)
        if (a->bt == KERN_F32) {
            v_store(dst + i * TILE_N, r[i]);
        } else {
            v_store(dst + 2 * i * TILE_N, mm_even(r[i]));
            v_store(dst + (2 * i + 1) * TILE_N, mm_odd(r[i]));
        }
}
#else
#define MM_TURNS false
#endif

static float mm_b(const struct kern_mm *a, int64_t at) {
    float x[VL];
    v_store(x, v_loadn_any(a->b, a->bt, at, 1));
    return x[0];
}

/* The largest block that whole vectors make of B's rows j0 … j0+n. */
static void mm_pack_blocks(const struct kern_mm *a, float *dst, int64_t j0,
                           int64_t k0, int *n, int *kc) {
#if defined(KERN_ISA_avx512)
    if (a->bt != KERN_F16 && *n == TILE_N) {
        int step = a->bt == KERN_F32 ? 16 : 32;
        int64_t ahead = j0 + 2 * TILE_N <= a->n ? TILE_N : 0;
        *kc -= *kc % step;
        for (int k = 0; k < *kc; k += step)
            for (int j = 0; j < *n; j += 16)
                mm_pack16(a, dst + (int64_t)k * TILE_N + j, j0 + j, k0 + k,
                          ahead);
        return;
    }
#endif
#if defined(KERN_ISA_scalar)
    *n = *kc = 0;
    (void)a, (void)dst, (void)j0, (void)k0;
#else
    *n &= ~7;
    *kc &= ~7;
    for (int j = 0; j < *n; j += 8)
        for (int k = 0; k < *kc; k += 8)
            mm_pack8(a, dst + (int64_t)k * TILE_N + j, j0 + j, k0 + k);
#endif
}

/* B(n,k): columns j0 … j0+n of the panel are rows of B. */
static void mm_pack_nt(const struct kern_mm *a, float *dst, int64_t j0, int n,
                       int64_t k0, int kc) {
    int jd = n, kd = kc;
    mm_pack_blocks(a, dst, j0, k0, &jd, &kd);
    for (int j = 0; j < n; j++)
        for (int k = j < jd ? kd : 0; k < kc; k++)
            dst[(int64_t)k * TILE_N + j] = mm_b(a, (j0 + j) * a->ldb + k0 + k);
    for (int j = n; j < TILE_N; j++)
        for (int k = 0; k < kc; k++)
            dst[(int64_t)k * TILE_N + j] = 0.0f;
}

static void mm_prefetch(const char *p, size_t bytes) {
    const char *end = p + bytes;
    for (p -= (uintptr_t)p % CPU_ALIGN; p < end; p += CPU_ALIGN)
        __builtin_prefetch(p);
}

/* B(k,n): rows of the panels are pieces of B's rows. Those lie on pages of
 * their own or nearly so: all panels of a row at once, and the machine told of
 * the rows that follow. */
static void mm_pack_n(const struct kern_mm *a, float *dst, int64_t j0, int n,
                      int64_t k0, int kc) {
    size_t size = a->bt == KERN_F32 ? 4 : 2;
    for (int k = 0; k < kc; k++) {
        int64_t row = (k0 + k) * a->ldb + j0;
        if (k0 + k + MM_AHEAD < a->k)
            mm_prefetch((const char *)a->b +
                            (size_t)(row + MM_AHEAD * a->ldb) * size,
                        (size_t)n * size);
        for (int j = 0; j < n; j += VL)
            v_store(dst + (int64_t)(j / TILE_N * kc + k) * TILE_N + j % TILE_N,
                    v_loadn_any(a->b, a->bt, row + j, n - j < VL ? n - j : VL));
        for (int j = (int)mm_up(n, VL); j % TILE_N; j += VL)
            v_store(dst + (int64_t)(j / TILE_N * kc + k) * TILE_N + j % TILE_N,
                    v_set(0.0f));
    }
}

/* ---- packing A ---- */

/* Steps of k of A(m,k) as whole vectors; returns how many. */
static int mm_pack_rows8(const float *from, int64_t lda, float *to, int kc) {
#if defined(KERN_ISA_scalar)
    (void)from, (void)lda, (void)to, (void)kc;
    return 0;
#else
    __m256 r[8];
    float tmp[64];
    for (int k = 0; k + 8 <= kc; k += 8, to += 8 * TILE_M)
        for (int i0 = 0; i0 + 4 < TILE_M; i0 += 4) {
            /* rows 4 … 7 twice, or rows 6 and 7 for nothing */
            int m = TILE_M - i0 < 8 ? TILE_M - i0 : 8;
            for (int i = 0; i < 8; i++)
                r[i] = _mm256_loadu_ps(from + (i0 + (i < m ? i : 0)) * lda + k);
            if (m == 8) {
                tile_transpose8(to + i0, TILE_M, r);
                continue;
            }
            if (i0 > 0)
                break;
            tile_transpose8(tmp, 8, r);
            for (int p = 0; p < 8; p++)
                memcpy(to + p * TILE_M, tmp + p * 8, (size_t)m * sizeof *to);
        }
    return kc & ~7;
#endif
}

/* m rows from A(m,k). */
static void mm_pack_a(const struct kern_mm *a, float *to, int64_t i, int m,
                      int64_t k0, int kc) {
    const float *from = a->a + i * a->lda + k0;
    int done = m == TILE_M ? mm_pack_rows8(from, a->lda, to, kc) : 0;
    for (int k = done; k < kc; k++)
        for (int j = 0; j < m; j++)
            to[k * TILE_M + j] = from[j * a->lda + k];
}

/* Tiles of rows from A(k,m); a few steps of k at once, so that both sides are
 * read and written in runs. `tile`: floats between tiles. */
static void mm_pack_ta(const struct kern_mm *a, float *to, int64_t tile,
                       int64_t i0, int64_t rows, int64_t k0, int kc) {
    for (int k = 0; k < kc; k += MM_PACK_K)
        for (int64_t i = 0; i < rows; i += TILE_M) {
            int64_t left = rows - i;
            int end = kc - k < MM_PACK_K ? kc : k + MM_PACK_K;
            float *out = to + i / TILE_M * tile + k * TILE_M;
            const float *from = a->a + (k0 + k) * a->lda + i0 + i;
            for (int p = k; p < end; p++, out += TILE_M, from += a->lda)
                if (left >= TILE_M)
                    memcpy(out, from, TILE_M * sizeof *out);
                else
                    memcpy(out, from, (size_t)left * sizeof *out);
        }
}

static int mm_steps(const struct mm_run *r, int64_t k0) {
    return (int)(r->k1 - k0 < r->kc ? r->k1 - k0 : r->kc);
}

/* Where the tile of row i lies, of the rows of this time. */
static float *mm_at(const struct mm_run *r, int64_t i, int64_t k0) {
    return r->at + mm_up(r->rows, TILE_M) * (k0 - r->k0) + i * mm_steps(r, k0);
}

static void mm_pack_task(void *arg, int task, int thread) {
    const struct mm_run *r = arg;
    const struct kern_mm *a = r->a;
    int64_t i0 = (int64_t)task * MM_PACK_TILES * TILE_M;
    int64_t end = i0 + MM_PACK_TILES * TILE_M;
    end = end < r->rows ? end : r->rows;
    (void)thread;
    for (int64_t k0 = r->k0; k0 < r->k1; k0 += r->kc) {
        int kc = mm_steps(r, k0);
        if (a->form == KERN_TN) {
            mm_pack_ta(a, mm_at(r, i0, k0), (int64_t)kc * TILE_M, r->first + i0,
                       end - i0, k0, kc);
            continue;
        }
        for (int64_t i = i0; i < end; i += TILE_M)
            mm_pack_a(a, mm_at(r, i, k0), r->first + i,
                      end - i < TILE_M ? (int)(end - i) : TILE_M, k0, kc);
    }
}

/* ---- blocks of C ---- */

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

/* Columns j0 … of a task's panels, one KC block. */
static void mm_pack_b(const struct mm_run *r, float *b, int64_t j0,
                      int64_t k0) {
    const struct kern_mm *a = r->a;
    int64_t most = (int64_t)r->np * TILE_N;
    int n = (int)(a->n - j0 < most ? a->n - j0 : most), kc = mm_steps(r, k0);
    if (a->form != KERN_NT) {
        mm_pack_n(a, b, j0, n, k0, kc);
        return;
    }
    for (int j = 0; j < n; j += TILE_N)
        mm_pack_nt(a, b + (int64_t)j * kc, j0 + j,
                   n - j < TILE_N ? n - j : TILE_N, k0, kc);
}

/* Panel j0 … j0+n of the task's rows i0 … i0+rows, one KC block. */
static void mm_panel(const struct mm_run *r, const float *b, int64_t i0,
                     int64_t rows, int64_t j0, int64_t k0) {
    const struct kern_mm *a = r->a;
    int n = a->n - j0 < TILE_N ? (int)(a->n - j0) : TILE_N;
    int kc = mm_steps(r, k0);
    int64_t i = r->first + i0;
    struct tile t = {.k = kc,
                     .a = r->at ? mm_at(r, i0, k0) : a->a + i * a->lda + k0,
                     .sa = r->at ? 1 : a->lda,
                     .ka = r->at ? TILE_M : 1,
                     .b = b,
                     .ldb = TILE_N,
                     .c = a->c + i * a->ldc + j0,
                     .ldc = a->ldc,
                     .n = n,
                     .acc = a->acc || k0 > 0};
    for (i = 0; i < rows; i += TILE_M) {
        int64_t left = rows - i - TILE_M;
        int m = left < 0 ? (int)(rows - i) : TILE_M;
        mm_tile(&t, m, left < TILE_M ? (int)left : TILE_M, r->at != NULL);
        t.a += r->at ? (int64_t)kc * TILE_M : m * t.sa;
        t.c += m * t.ldc;
    }
}

static void mm_task(void *arg, int task, int thread) {
    const struct mm_run *r = arg;
    float *b = r->cpu->scratch[thread];
    int p0 = task / r->row_blocks * r->np;
    int p1 = p0 + r->np < r->panels ? p0 + r->np : r->panels;
    int64_t i0 = task % r->row_blocks * r->mc;
    int64_t rows = r->rows - i0 < r->mc ? r->rows - i0 : r->mc;
    for (int64_t k0 = r->k0; k0 < r->k1 || k0 == 0; k0 += r->kc) {
        mm_pack_b(r, b, (int64_t)p0 * TILE_N, k0);
        for (int p = p0; p < p1; p++)
            mm_panel(r, b + (int64_t)(p - p0) * TILE_N * mm_steps(r, k0), i0,
                     rows, (int64_t)p * TILE_N, k0);
    }
}

/* Blocks as large as the cache likes, and small enough that every thread has
 * some. */
static void mm_cut(struct mm_run *r) {
    int64_t m = r->rows, threads = pool_threads(r->cpu->pool);
    int64_t wanted = threads > 1 ? MM_TASKS * threads : 1;
    int64_t blocks = (m + MM_MC - 1) / MM_MC;
    int64_t steps = (r->a->k + MM_KC - 1) / MM_KC;
    r->kc = steps > 0 ? mm_up((r->a->k + steps - 1) / steps, 32) : 1;
    r->panels = (r->a->n + TILE_N - 1) / TILE_N;
    if (blocks * r->panels < wanted)
        blocks = (wanted + r->panels - 1) / r->panels;
    r->mc = (m + blocks - 1) / blocks;
    if (r->mc < MM_MC_MIN)
        r->mc = MM_MC_MIN;
    r->mc = mm_up(r->mc, TILE_M);
    r->row_blocks = (int)((m + r->mc - 1) / r->mc);
    int64_t np = (int64_t)r->panels * r->row_blocks / wanted;
    r->np = np < 1 ? 1 : np > MM_NP ? MM_NP : (int)np;
}

/* This time's rows and steps: packs them, if they are to be, and multiplies. */
static void mm_part(struct mm_run *r) {
    struct pool *pool = r->cpu->pool;
    int64_t tiles = (r->rows + TILE_M - 1) / TILE_M;
    if (r->at)
        pool_run(pool, (int)((tiles + MM_PACK_TILES - 1) / MM_PACK_TILES),
                 mm_pack_task, r);
    int groups = (r->panels + r->np - 1) / r->np;
    pool_run(pool, groups * r->row_blocks, mm_task, r);
}

static bool mm_packs(const struct kern_mm *a) {
    bool pays = a->m >= TILE_M && a->n > (MM_A_PANELS - 1) * TILE_N;
    return a->k > 0 && (pays || a->form == KERN_TN);
}

/* ---- few rows: B is read once, and turned in registers ---- */

#define MM_FEW 8       /* most rows */
#define MM_FEW_TASK 64 /* columns of a task */

#if defined(KERN_ISA_avx512)
INLINE void mm_few_step(vf acc[MM_FEW], const float *const row[MM_FEW],
                        int64_t k, vf b, const int m) {
#pragma GCC unroll 8
    for (int i = 0; i < m; i++)
        acc[i] = v_fma(v_set(row[i][k]), b, acc[i]);
}

/* Sixteen columns of C; rows beyond a->m are the last again. */
INLINE void mm_few16(const struct kern_mm *a, int64_t j, const int m) {
    const size_t size = a->bt == KERN_F32 ? 4 : 2, step = a->ldb * size;
    const char *b = (const char *)a->b + j * step;
    const float *row[MM_FEW];
    vf acc[MM_FEW], r[16];
    int64_t k = 0;
    for (int i = 0; i < m; i++) {
        int64_t at = i < a->m ? i : a->m - 1;
        row[i] = a->a + at * a->lda;
        acc[i] = a->acc ? v_load(a->c + at * a->ldc + j) : v_set(0.0f);
    }
    for (; k + (int64_t)(64 / size) <= a->k; b += 64) {
        for (int i = 0; i < 16; i++) {
            r[i] = _mm512_loadu_ps(b + i * step);
            __builtin_prefetch(b + (i + 16) * step, 0, 2);
        }
        tile_transpose16(r);
        for (int w = 0; w < 16; w++)
            if (a->bt == KERN_F32) {
                mm_few_step(acc, row, k++, r[w], m);
            } else {
                mm_few_step(acc, row, k++, mm_even(r[w]), m);
                mm_few_step(acc, row, k++, mm_odd(r[w]), m);
            }
    }
    for (; k < a->k; k++) {
        float column[16];
        for (int i = 0; i < 16; i++)
            column[i] = mm_b(a, (j + i) * a->ldb + k);
        mm_few_step(acc, row, k, v_load(column), m);
    }
    for (int i = 0; i < m && i < a->m; i++)
        v_store(a->c + i * a->ldc + j, acc[i]);
}

#define MM_FEW_ROWS(m) \
    static __attribute__((noinline)) void mm_few_##m(const struct kern_mm *a, \
                                                     int64_t j, int64_t end) { \
        for (; j < end; j += 16) \
            mm_few16(a, j, m); \
    }
MM_FEW_ROWS(1)
MM_FEW_ROWS(2)
MM_FEW_ROWS(4)
MM_FEW_ROWS(8)

static void mm_few_task(void *arg, int task, int thread) {
    const struct kern_mm *a = arg;
    int64_t j = (int64_t)task * MM_FEW_TASK, end = j + MM_FEW_TASK;
    end = end < a->n ? end : a->n;
    (void)thread;
    if (a->m == 1)
        mm_few_1(a, j, end);
    else if (a->m == 2)
        mm_few_2(a, j, end);
    else if (a->m <= 4)
        mm_few_4(a, j, end);
    else
        mm_few_8(a, j, end);
}
#else
static void mm_few_task(void *arg, int task, int thread) {
    (void)arg, (void)task, (void)thread;
}
#endif

/* Columns of C done so, the rest is left to the blocks. */
static int64_t mm_few(struct cpu *cpu, const struct kern_mm *a) {
    bool is_word = a->bt == KERN_F32 || a->bt == KERN_BF16;
    if (!MM_TURNS || a->form != KERN_NT || a->m > MM_FEW || !is_word)
        return 0;
    struct kern_mm whole = *a;
    whole.n = a->n & ~15;
    pool_run(cpu->pool, (whole.n + MM_FEW_TASK - 1) / MM_FEW_TASK, mm_few_task,
             &whole);
    return whole.n;
}

static bool mm_is_shaped(const struct kern_mm *a) {
    bool tn = a->form == KERN_TN, nt = a->form == KERN_NT;
    return (unsigned)a->form <= KERN_TN && (unsigned)a->bt < KERN_DTYPES &&
           a->m >= 0 && a->n >= 0 && a->k >= 0 &&
           a->lda >= (tn ? a->m : a->k) && a->ldb >= (nt ? a->k : a->n) &&
           a->ldc >= a->n;
}

static int mm_blocks(struct cpu *cpu, const struct kern_mm *a) {
    bool packs = mm_packs(a);
    int64_t rows = packs && a->m > MM_A_ROWS ? MM_A_ROWS : a->m;
    int64_t steps = packs ? MM_A_FLOATS / mm_up(rows, TILE_M) : a->k + MM_KC;
    int rc = cpu_reserve(cpu, MM_NP * MM_KC * TILE_N * sizeof(float));
    if (rc == KERN_OK && packs)
        rc = cpu_reserve_shared(cpu, MM_A_FLOATS * sizeof(float));
    if (rc != KERN_OK)
        return rc;
    struct mm_run r = {.a = a, .cpu = cpu, .at = packs ? cpu->shared : NULL};
    for (; r.first < a->m; r.first += rows) {
        r.rows = a->m - r.first < rows ? a->m - r.first : rows;
        mm_cut(&r);
        r.k0 = 0;
        do {
            r.k1 = r.k0 + steps / r.kc * r.kc;
            r.k1 = r.k1 < a->k ? r.k1 : a->k;
            mm_part(&r);
        } while ((r.k0 = r.k1) < a->k);
    }
    return KERN_OK;
}

int ISA(mm)(struct kern *k, const struct kern_mm *a) {
    if (a->bt == KERN_Q8 || a->bt == KERN_Q4)
        return ISA(mm_quant)(k, a);
    if (!mm_is_shaped(a))
        return KERN_EINVAL;
    if (a->m == 0 || a->n == 0)
        return KERN_OK;
    struct kern_mm rest = *a;
    int64_t done = mm_few(cpu_of(k), a);
    rest.b = (const char *)a->b +
             (size_t)(done * a->ldb) * (a->bt == KERN_F32 ? 4 : 2);
    rest.c += done;
    rest.n -= (int32_t)done;
    return rest.n > 0 ? mm_blocks(cpu_of(k), &rest) : KERN_OK;
}
