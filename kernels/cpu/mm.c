/*
 * mm: C = A·B in three forms, by blocks. B is packed, panel by panel of TILE_N
 * columns (widened to f32, padded with zeros), by each thread for itself: what
 * one core writes and another reads may have to cross the whole chip.
 *
 * A(m,k): a task is some panels of C. For MM_KC steps of k after the other it
 * packs B's part, which stays in the second-level cache, and for each TILE_M
 * rows of A, which stay in the first-level one, runs the tile over all panels.
 *
 * A(k,m): a task is some rows of C and a group of panels, for MM_KC steps. The
 * thread has packed the group's B unless its last task did; it packs the rows'
 * part of A, which stays in the second-level cache, and for each panel runs the
 * tile over all rows.
 *
 * C carries the chain from one part of k to the next. While a tile computes,
 * what will be packed next is asked for.
 */
#include "kernels/cpu/isa.h"
#include "kernels/cpu/tile.h"

#define MM_KC 512      /* most steps of k packed at once */
#define MM_NP 6        /* most panels of a task, A(m,k) */
#define MM_TN_NP 32    /* most panels of a task, A(k,m) */
#define MM_TN_TILES 21 /* most tiles of rows of a task, A(k,m) */
#define MM_TASKS 6     /* wanted for each thread */
#define MM_MC_MIN 4    /* tiles of rows: fewer would not repay packing B */
#define MM_PACK_K 8    /* steps of k that A's columns are packed by */
#define MM_AHEAD 16    /* rows of B between its reading and its prefetch */
#define MM_PAGE 4096   /* rows so far apart collide in the first-level cache */

struct mm_run {
    const struct kern_mm *a;
    struct cpu *cpu;
    int tiles, row_blocks;       /* of rows; blocks of them */
    int panels, groups;          /* of columns; groups of them */
    int kc;                      /* steps of k packed at once */
    int64_t k0;                  /* the first of this time, A(k,m) */
    int packed[CPU_THREADS_MAX]; /* group whose B a thread has + 1, A(k,m) */
};

/* What is computed at a time: columns j0 … j0+n of rows i0 … i0+rows, kc steps
 * from k0. */
struct mm_block {
    int64_t j0, n, i0, rows, k0;
    int kc;
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

/* ---- blocks of C ---- */

/* m rows. */
static void mm_tile(const struct tile *t, int m, bool is_packed,
                    struct tile_ahead *h) {
#if !defined(KERN_ISA_scalar)
    if (m == TILE_M && is_packed)
        t->n > VL ? tile_full_packed(t, h) : tile_narrow_packed(t, h);
    else if (m == TILE_M)
        t->n > VL ? tile_full_rows(t, h) : tile_narrow_rows(t, h);
    else
#endif
        tile_run(t, m);
    (void)is_packed;
    (void)h;
}

static int mm_least(int64_t a, int64_t b) { return (int)(a < b ? a : b); }

static int mm_steps(const struct mm_run *r, int64_t k0) {
    return mm_least(r->a->k - k0, r->kc);
}

/* The block of a task, at its first steps; blocks of about the same size. */
static struct mm_block mm_block(const struct mm_run *r, int task) {
    int64_t g = task / r->row_blocks, i = task % r->row_blocks;
    int64_t p0 = g * r->panels / r->groups;
    int64_t p1 = (g + 1) * r->panels / r->groups;
    int64_t t0 = i * r->tiles / r->row_blocks;
    int64_t t1 = (i + 1) * r->tiles / r->row_blocks;
    struct mm_block t = {p0 * TILE_N, 0, t0 * TILE_M, 0, r->k0, 0};
    t.n = mm_least(r->a->n, p1 * TILE_N) - t.j0;
    t.rows = mm_least(r->a->m, t1 * TILE_M) - t.i0;
    t.kc = mm_steps(r, t.k0);
    return t;
}

/* A matrix's part of rows and columns from x on, while block t is computed. */
static struct tile_ahead mm_ahead(const struct mm_block *t, const void *x,
                                  int64_t rows, int64_t bytes, int64_t step) {
    int64_t tiles =
        mm_up(t->rows, TILE_M) / TILE_M * mm_up(t->n, TILE_N) / TILE_N;
    int64_t turns = tiles * (t->kc / TILE_HINT) + 1;
    int64_t lines = mm_up(bytes, CPU_ALIGN) / CPU_ALIGN;
    return (struct tile_ahead){.at = x,
                               .step = step,
                               .left = lines * rows,
                               .lines = (int)lines,
                               .each =
                                   (int)((lines * rows + turns - 1) / turns)};
}

/* ---- A(m,k) ---- */

static void mm_pack_b(const struct kern_mm *a, const struct mm_block *t,
                      float *b) {
    if (a->form != KERN_NT) {
        mm_pack_n(a, b, t->j0, (int)t->n, t->k0, t->kc);
        return;
    }
    for (int64_t j = 0; j < t->n; j += TILE_N)
        mm_pack_nt(a, b + j * t->kc, t->j0 + j, mm_least(t->n - j, TILE_N),
                   t->k0, t->kc);
}

/* What the thread is likely to pack of B after block t of that task. */
static struct tile_ahead mm_ahead_b(const struct mm_run *r, int task,
                                    const struct mm_block *t) {
    const struct kern_mm *a = r->a;
    int64_t size = a->bt == KERN_F32 ? 4 : 2, step = a->ldb * size;
    struct mm_block s = *t;
    s.k0 += t->kc;
    if (s.k0 >= a->k && task + 1 < r->groups * r->row_blocks)
        s = mm_block(r, task + 1);
    s.kc = mm_steps(r, s.k0);
    const char *b = a->b;
    if (a->form == KERN_NT)
        return mm_ahead(t, b + s.j0 * step + s.k0 * size, s.n, s.kc * size,
                        step);
    return mm_ahead(t, b + s.k0 * step + s.j0 * size, s.kc, s.n * size, step);
}

/* m rows from i on; `at`, where they are packed to, or NULL. */
static void mm_rows(const struct mm_run *r, const struct mm_block *t,
                    const float *b, float *at, int64_t i,
                    struct tile_ahead *h) {
    const struct kern_mm *a = r->a;
    int m = mm_least(t->rows - i, TILE_M);
    struct tile tile = {.k = t->kc,
                        .a = a->a + (t->i0 + i) * a->lda + t->k0,
                        .sa = a->lda,
                        .ka = 1,
                        .b = b,
                        .ldb = TILE_N,
                        .c = a->c + (t->i0 + i) * a->ldc + t->j0,
                        .ldc = a->ldc,
                        .acc = a->acc || t->k0 > 0,
                        .next = mm_least(t->rows - i - m, TILE_M)};
    if (at) {
        mm_pack_a(a, at, t->i0 + i, m, t->k0, t->kc);
        tile.a = at, tile.sa = 1, tile.ka = TILE_M;
    }
    for (int64_t j = 0; j < t->n; j += TILE_N) {
        tile.n = mm_least(t->n - j, TILE_N);
        mm_tile(&tile, m, at != NULL, h);
        tile.b += (int64_t)TILE_N * t->kc;
        tile.c += TILE_N;
    }
}

static void mm_task(void *arg, int task, int thread) {
    const struct mm_run *r = arg;
    float *b = r->cpu->scratch[thread];
    bool collides = r->a->lda * (int64_t)sizeof(float) % MM_PAGE == 0;
    float *at = collides ? b + MM_NP * MM_KC * TILE_N : NULL;
    struct mm_block t = mm_block(r, task);
    do {
        t.kc = mm_steps(r, t.k0);
        mm_pack_b(r->a, &t, b);
        struct tile_ahead h = mm_ahead_b(r, task, &t);
        for (int64_t i = 0; i < t.rows; i += TILE_M)
            mm_rows(r, &t, b, at, i, &h);
    } while ((t.k0 += t.kc) < r->a->k);
}

/* ---- A(k,m) ---- */

/* Columns j … of the block. */
static void mm_tn_panel(const struct mm_run *r, const struct mm_block *t,
                        const float *b, const float *at, int64_t j,
                        struct tile_ahead *h) {
    const struct kern_mm *a = r->a;
    struct tile tile = {.k = t->kc,
                        .a = at,
                        .sa = 1,
                        .ka = TILE_M,
                        .b = b + j * t->kc,
                        .ldb = TILE_N,
                        .c = a->c + t->i0 * a->ldc + t->j0 + j,
                        .ldc = a->ldc,
                        .n = mm_least(t->n - j, TILE_N),
                        .acc = a->acc || t->k0 > 0};
    for (int64_t i = 0; i < t->rows; i += TILE_M) {
        int m = mm_least(t->rows - i, TILE_M);
        tile.next = mm_least(t->rows - i - m, TILE_M);
        mm_tile(&tile, m, true, h);
        tile.a += (int64_t)TILE_M * t->kc;
        tile.c += m * a->ldc;
    }
}

static void mm_tn_task(void *arg, int task, int thread) {
    struct mm_run *r = arg;
    const struct kern_mm *a = r->a;
    int group = task / r->row_blocks + 1, tasks = r->groups * r->row_blocks;
    float *b = r->cpu->scratch[thread], *at = b + MM_TN_NP * MM_KC * TILE_N;
    struct mm_block t = mm_block(r, task);
    struct mm_block s = mm_block(r, task + 1 < tasks ? task + 1 : task);
    if (r->packed[thread] != group)
        mm_pack_n(a, b, t.j0, (int)t.n, t.k0, t.kc);
    r->packed[thread] = group;
    mm_pack_ta(a, at, (int64_t)t.kc * TILE_M, t.i0, t.rows, t.k0, t.kc);
    struct tile_ahead h = mm_ahead(&t, a->a + s.k0 * a->lda + s.i0, s.kc,
                                   s.rows * (int64_t)sizeof(float),
                                   a->lda * (int64_t)sizeof(float));
    for (int64_t j = 0; j < t.n; j += TILE_N)
        mm_tn_panel(r, &t, b, at, j, &h);
}

/* ---- all of it ---- */

static int mm_parts(int n, int most) { return (n + most - 1) / most; }

/* Raises the parts that n units are cut into until, with the others, there are
 * as many tasks as are wanted, the same for each thread if that can be. */
static void mm_split(int *parts, int n, int others, int wanted, int threads) {
    int least = mm_parts(wanted, others);
    *parts = least > *parts ? least : *parts;
    while (*parts < n && *parts * others % threads != 0)
        ++*parts;
    *parts = *parts < n ? *parts : n > 1 ? n : 1;
}

/* Blocks as large as the caches like, and small enough that every thread has
 * some. */
static void mm_cut(struct mm_run *r) {
    const struct kern_mm *a = r->a;
    bool tn = a->form == KERN_TN;
    int threads = pool_threads(r->cpu->pool);
    int wanted = threads > 1 ? MM_TASKS * threads : 1;
    int steps = (int)(mm_up(a->k, MM_KC) / MM_KC);
    r->kc = steps > 0 ? (int)mm_up((a->k + steps - 1) / steps, 32) : 1;
    r->tiles = (int)(mm_up(a->m, TILE_M) / TILE_M);
    r->panels = (int)(mm_up(a->n, TILE_N) / TILE_N);
    r->row_blocks = tn ? mm_parts(r->tiles, MM_TN_TILES) : 1;
    r->groups = mm_parts(r->panels, tn ? MM_TN_NP : MM_NP);
    if (tn)
        mm_split(&r->row_blocks, r->tiles, r->groups, wanted, threads);
    mm_split(&r->groups, r->panels, r->row_blocks, wanted, threads);
    if (!tn)
        mm_split(&r->row_blocks, r->tiles / MM_MC_MIN, r->groups, wanted,
                 threads);
}

static int mm_blocks(struct cpu *cpu, const struct kern_mm *a) {
    bool tn = a->form == KERN_TN;
    int64_t b = (tn ? MM_TN_NP : MM_NP) * TILE_N;
    int64_t at = (tn ? MM_TN_TILES : 1) * TILE_M;
    int rc = cpu_reserve(cpu, (size_t)((b + at) * MM_KC) * sizeof(float));
    if (rc != KERN_OK)
        return rc;
    struct mm_run r = {.a = a, .cpu = cpu};
    mm_cut(&r);
    int tasks = r.groups * r.row_blocks;
    if (!tn)
        pool_run(cpu->pool, tasks, mm_task, &r);
    for (bool is_first = true; tn && (is_first || r.k0 < a->k); r.k0 += r.kc) {
        is_first = false;
        memset(r.packed, 0, sizeof r.packed);
        pool_run(cpu->pool, tasks, mm_tn_task, &r);
    }
    return KERN_OK;
}

/* ---- few rows: B is read once, and turned in registers ---- */

#define MM_FEW 8       /* most rows at once … */
#define MM_FEW_MOST 16 /* … and in all */
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

static void mm_few_rows(const struct kern_mm *a, int64_t j, int64_t end) {
    if (a->m == 1)
        mm_few_1(a, j, end);
    else if (a->m == 2)
        mm_few_2(a, j, end);
    else if (a->m <= 4)
        mm_few_4(a, j, end);
    else
        mm_few_8(a, j, end);
}

static void mm_few_task(void *arg, int task, int thread) {
    struct kern_mm part = *(const struct kern_mm *)arg;
    int64_t j = (int64_t)task * MM_FEW_TASK;
    int32_t left = part.m;
    (void)thread;
    for (; left > 0; left -= MM_FEW) {
        part.m = mm_least(left, MM_FEW);
        mm_few_rows(&part, j, mm_least(j + MM_FEW_TASK, part.n));
        part.a += MM_FEW * part.lda;
        part.c += MM_FEW * part.ldc;
    }
}
#else
static void mm_few_task(void *arg, int task, int thread) {
    (void)arg, (void)task, (void)thread;
}
#endif

/* Columns of C done so, the rest is left to the blocks. */
static int64_t mm_few(struct cpu *cpu, const struct kern_mm *a) {
    bool is_word = a->bt == KERN_F32 || a->bt == KERN_BF16;
    if (!MM_TURNS || a->form != KERN_NT || a->m > MM_FEW_MOST || !is_word)
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
