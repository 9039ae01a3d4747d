/*
 * quant: matrices of 8- and 4-bit integers with a scale every KERN_QBLOCK, and
 * the product with rows that are quantised to 8 bits on the way.
 *
 * Layout: panels of QN rows of the matrix (columns of C), one after the other;
 * of each, its blocks along k; then the scales in the same order, QN bf16 a
 * block. In a block of Q8, [k/4][row][k%4], bytes hold q + 128; of Q4, byte
 * [k/4 % 4][row][k%4] holds q + 8 of k in its low half and of k + 16 in its
 * high half. So unsigned weights meet signed activations, as VPDPBUSD wants
 * them, and the sum over a block starts at -128 (or -8) times the sum of the
 * activations.
 *
 * Invariants: 1. sums over a block are integers below 2^24, exact in every
 * order and as floats; 2. C carries the chain from one piece of k to the next.
 */
#include "kernels/cpu/isa.h"

#define QN VL
#define Q_GROUPS (KERN_QBLOCK / 4)
#define Q_PIECE 76    /* blocks of k for all rows, in the second cache */
#define Q_AHEAD 8     /* blocks to prefetch; for one row the processor does */
#define Q_TASK 131072 /* bytes of weights that are worth a task */
#define Q_ROWS_MIN 48 /* rows of a task */

#if defined(KERN_ISA_avx512)
#define Q_M 4 /* rows of a tile */
#define Q_P 3 /* panels of a tile */
#elif defined(KERN_ISA_avx2)
#define Q_M 2
#define Q_P 1
#else
#define Q_M 1
#define Q_P 1
#endif

/* ---- sixteen integer lanes ---- */

#if defined(KERN_ISA_avx512)

typedef __m512i qi;
typedef struct {
    __m512i even, odd; /* with VNNI: all bytes, and nothing */
} qw;
INLINE qi q_set(int32_t x) { return _mm512_set1_epi32(x); }
INLINE vf q_float(qi x) { return _mm512_cvtepi32_ps(x); }
INLINE __m512i q_bytes(const uint8_t *p) {
    return _mm512_loadu_si512((const void *)p);
}
INLINE __m512i q_low(__m512i x) {
    return _mm512_and_si512(x, _mm512_set1_epi8(15));
}
INLINE __m512i q_high(__m512i x) { return q_low(_mm512_srli_epi16(x, 4)); }
INLINE qw q_weights(__m512i x, bool vnni) {
    if (vnni)
        return (qw){x, x};
    return (qw){_mm512_and_si512(x, _mm512_set1_epi16(255)),
                _mm512_srli_epi16(x, 8)};
}
INLINE qw q_acts(int32_t four, bool vnni) {
    __m512i x = _mm512_set1_epi32(four);
    if (vnni)
        return (qw){x, x};
    return (qw){_mm512_srai_epi16(_mm512_slli_epi16(x, 8), 8),
                _mm512_srai_epi16(x, 8)};
}
/* acc + the four products of each lane. The instruction by name: this file is
 * compiled for processors without it, too. */
INLINE qi q_dot(qi acc, qw w, qw a, bool vnni) {
    if (vnni) {
        __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(w.even), "v"(a.even));
        return acc;
    }
    acc = _mm512_add_epi32(acc, _mm512_madd_epi16(w.even, a.even));
    return _mm512_add_epi32(acc, _mm512_madd_epi16(w.odd, a.odd));
}
INLINE void q_prefetch(const uint8_t *p) {
    _mm_prefetch((const char *)p, _MM_HINT_T1);
}

#elif defined(KERN_ISA_avx2)

typedef struct {
    __m256i l, h;
} qi;
typedef struct {
    qi even, odd;
} qw;
INLINE qi q_set(int32_t x) {
    return (qi){_mm256_set1_epi32(x), _mm256_set1_epi32(x)};
}
INLINE vf q_float(qi x) {
    return (vf){_mm256_cvtepi32_ps(x.l), _mm256_cvtepi32_ps(x.h)};
}
INLINE qi q_bytes(const uint8_t *p) {
    return (qi){_mm256_loadu_si256((const void *)p),
                _mm256_loadu_si256((const void *)(p + 32))};
}
INLINE qi q_and(qi x, __m256i m) {
    return (qi){_mm256_and_si256(x.l, m), _mm256_and_si256(x.h, m)};
}
INLINE qi q_low(qi x) { return q_and(x, _mm256_set1_epi8(15)); }
INLINE qi q_high(qi x) {
    return q_low((qi){_mm256_srli_epi16(x.l, 4), _mm256_srli_epi16(x.h, 4)});
}
INLINE qw q_weights(qi x, bool vnni) {
    (void)vnni;
    return (qw){q_and(x, _mm256_set1_epi16(255)),
                {_mm256_srli_epi16(x.l, 8), _mm256_srli_epi16(x.h, 8)}};
}
INLINE qw q_acts(int32_t four, bool vnni) {
    (void)vnni;
    __m256i x = _mm256_set1_epi32(four);
    __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8);
    __m256i odd = _mm256_srai_epi16(x, 8);
    return (qw){{even, even}, {odd, odd}};
}
INLINE __m256i q_dot8(__m256i acc, __m256i we, __m256i wo, const qw *a) {
    acc = _mm256_add_epi32(acc, _mm256_madd_epi16(we, a->even.l));
    return _mm256_add_epi32(acc, _mm256_madd_epi16(wo, a->odd.l));
}
INLINE qi q_dot(qi acc, qw w, qw a, bool vnni) {
    (void)vnni;
    return (qi){q_dot8(acc.l, w.even.l, w.odd.l, &a),
                q_dot8(acc.h, w.even.h, w.odd.h, &a)};
}
INLINE void q_prefetch(const uint8_t *p) {
    _mm_prefetch((const char *)p, _MM_HINT_T1);
}

#else

typedef int32_t qi __attribute__((vector_size(64)));
typedef struct {
    uint8_t b[64];
} qbytes;
typedef qbytes qw;
INLINE qi q_set(int32_t x) {
    return (qi){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x};
}
INLINE vf q_float(qi x) { return __builtin_convertvector(x, vf); }
INLINE qbytes q_bytes(const uint8_t *p) {
    qbytes x;
    memcpy(x.b, p, sizeof x.b);
    return x;
}
INLINE qbytes q_low(qbytes x) {
    for (int i = 0; i < 64; i++)
        x.b[i] &= 15;
    return x;
}
INLINE qbytes q_high(qbytes x) {
    for (int i = 0; i < 64; i++)
        x.b[i] >>= 4;
    return x;
}
INLINE qw q_weights(qbytes x, bool vnni) {
    (void)vnni;
    return x;
}
INLINE qw q_acts(int32_t four, bool vnni) {
    qw x;
    (void)vnni;
    memcpy(x.b, &four, 4);
    return x;
}
INLINE qi q_dot(qi acc, qw w, qw a, bool vnni) {
    (void)vnni;
    for (int i = 0; i < QN; i++)
        for (int j = 0; j < 4; j++)
            acc[i] += (int32_t)w.b[4 * i + j] * (int8_t)a.b[j];
    return acc;
}
INLINE void q_prefetch(const uint8_t *p) { (void)p; }

#endif

/* ---- the matrix ---- */

static int64_t q_blocks(int64_t k) {
    return (k + KERN_QBLOCK - 1) / KERN_QBLOCK;
}

static int64_t q_panels(int64_t n) { return (n + QN - 1) / QN; }

static int q_block_bytes(enum kern_dtype t) {
    return KERN_QBLOCK * QN / (t == KERN_Q4 ? 2 : 1);
}

static const uint16_t *q_scales(const void *b, enum kern_dtype t, int64_t n,
                                int64_t k) {
    return (const uint16_t *)((const uint8_t *)b +
                              q_panels(n) * q_blocks(k) * q_block_bytes(t));
}

static uint32_t q_bits(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static float q_bf16(uint16_t h) {
    uint32_t u = (uint32_t)h << 16;
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* To nearest even; |x| < 2^22. */
static int q_round(float x) {
    return (int)(q_bits(x + 12582912.0f) - 0x4b400000u);
}

/* The largest |x| of a block as bits, which order like the numbers, with
 * those that are not finite on top. */
static uint32_t q_largest(const float *x) {
    uint32_t m = 0;
    for (int i = 0; i < KERN_QBLOCK; i++) {
        uint32_t u = q_bits(x[i]) & 0x7fffffffu;
        m = u > m ? u : m;
    }
    return m;
}

static float q_value(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

#define Q_NAN 0x7fc0
#define Q_INF 0x7f800000u

/* The scale, bf16, and the integers of one block of weights. */
static uint16_t q8_block(const float *x, int8_t *q) {
    uint32_t m = q_largest(x);
    uint32_t u = q_bits(q_value(m) / 127.0f);
    uint16_t d = (uint16_t)((u + 0xffff) >> 16); /* up */
    memset(q, 0, KERN_QBLOCK);
    if (m >= Q_INF)
        return Q_NAN;
    if (q_value(m) < KERN_QTINY)
        return 0;
    for (int i = 0; i < KERN_QBLOCK; i++)
        q[i] = (int8_t)q_round(x[i] / q_bf16(d));
    return d;
}

static uint16_t q4_block(const float *x, int8_t *q) {
    uint32_t m = q_largest(x);
    int at = 0;
    memset(q, 0, KERN_QBLOCK);
    if (m >= Q_INF)
        return Q_NAN;
    if (q_value(m) < KERN_QTINY)
        return 0;
    while ((q_bits(x[at]) & 0x7fffffffu) != m)
        at++;
    uint32_t u = q_bits(x[at] / -8.0f);
    uint16_t d = (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
    for (int i = 0; i < KERN_QBLOCK; i++) {
        int v = q_round(x[i] / q_bf16(d));
        q[i] = (int8_t)(v > 7 ? 7 : v < -8 ? -8 : v);
    }
    return d;
}

/* Integers of row j into its panel's block. */
static void q_put(uint8_t *block, enum kern_dtype t, int j, const int8_t *q) {
    for (int k = 0; k < KERN_QBLOCK; k++) {
        if (t == KERN_Q8)
            block[k / 4 * 4 * QN + j * 4 + k % 4] = (uint8_t)(q[k] + 128);
        else if (k < KERN_QBLOCK / 2)
            block[k / 4 * 4 * QN + j * 4 + k % 4] =
                (uint8_t)((q[k] + 8) | (q[k + KERN_QBLOCK / 2] + 8) << 4);
    }
}

static void q_panel(void *arg, int64_t p, int64_t end) {
    const struct kern_quant *a = arg;
    int64_t nb = q_blocks(a->cols);
    uint16_t *scales =
        (uint16_t *)(uintptr_t)q_scales(a->y, a->t, a->rows, a->cols);
    for (; p < end; p++)
        for (int64_t i = 0; i < QN * nb; i++) {
            int j = (int)(i / nb);
            int64_t b = i % nb, row = p * QN + j, k0 = b * KERN_QBLOCK;
            float x[KERN_QBLOCK] = {0};
            int8_t q[KERN_QBLOCK];
            for (int v = 0; v < KERN_QBLOCK && row < a->rows; v += VL) {
                int64_t left = a->cols - k0 - v;
                if (left > 0)
                    v_store(x + v,
                            v_loadn_any(a->x, a->xt, row * a->cols + k0 + v,
                                        left < VL ? (int)left : VL));
            }
            scales[(p * nb + b) * QN + j] =
                a->t == KERN_Q8 ? q8_block(x, q) : q4_block(x, q);
            q_put((uint8_t *)a->y + (p * nb + b) * q_block_bytes(a->t), a->t, j,
                  q);
        }
}

int ISA(quant)(struct kern *k, const struct kern_quant *a) {
    if ((a->t != KERN_Q8 && a->t != KERN_Q4) || a->rows < 0 || a->cols < 0 ||
        (unsigned)a->xt >= KERN_DTYPES)
        return KERN_EINVAL;
    ISA(ranges)(k, q_panels(a->rows), 1, q_panel, (void *)a);
    return KERN_OK;
}

/* ---- the rows of A ---- */

/* q (m, 32*nb); s (m, nb); start (m, nb): what sums over a block begin with. */
struct q_acts {
    int8_t *q;
    float *s;
    int32_t *start;
};

struct q_run {
    const struct kern_mm *a;
    struct q_acts x;
    const uint8_t *w;
    const uint16_t *scales;
    int64_t nb, panels, rows; /* rows of a task */
    int per_task, row_blocks; /* panels of a task */
    bool vnni;
};

static void q_pack_block(const struct q_run *r, const float *x, int64_t at) {
    int8_t *q = r->x.q + at * KERN_QBLOCK;
    uint32_t m = q_largest(x);
    float amax = q_value(m);
    bool ok = m < Q_INF && !(amax < KERN_QTINY);
    float inv = ok ? 127.0f / amax : 0.0f;
    int32_t sum = 0;
    r->x.s[at] = ok ? amax / 127.0f : m >= Q_INF ? NAN : 0.0f;
    if (!ok) {
        memset(q, 0, KERN_QBLOCK);
    } else {
        for (int i = 0; i < KERN_QBLOCK; i++) {
            int v = q_round(x[i] * inv);
            q[i] = (int8_t)v;
            sum += v;
        }
    }
    r->x.start[at] = sum * (r->a->bt == KERN_Q4 ? -8 : -128);
}

static void q_pack_rows(void *arg, int64_t i, int64_t end) {
    const struct q_run *r = arg;
    int64_t whole = r->a->k / KERN_QBLOCK;
    for (; i < end; i++) {
        const float *row = r->a->a + i * r->a->lda;
        for (int64_t b = 0; b < whole; b++)
            q_pack_block(r, row + b * KERN_QBLOCK, i * r->nb + b);
        if (whole < r->nb) {
            float x[KERN_QBLOCK] = {0};
            memcpy(x, row + whole * KERN_QBLOCK,
                   (size_t)(r->a->k - whole * KERN_QBLOCK) * sizeof *x);
            q_pack_block(r, x, i * r->nb + whole);
        }
    }
}

/* ---- the product ---- */

/* Some rows of A by some panels, over blocks b0 … b1-1. */
struct q_tile {
    const int8_t *q;
    const float *s;
    const int32_t *start; /* of the first row, block 0 */
    int64_t nb;
    const uint8_t *w;       /* of the first panel, block 0 */
    const uint16_t *scales; /* likewise */
    int64_t b0, b1;
    int64_t ahead;   /* prefetch this many blocks on, 0 = never */
    int turn, turns; /* of the blocks with b % turns == turn */
    float *c;
    int64_t ldc;
    int64_t n; /* columns from the first on that C has */
    bool acc;
};

INLINE int32_t q_four(const int8_t *q) {
    int32_t x;
    memcpy(&x, q, sizeof x);
    return x;
}

/* m, p, q4, vnni are constants in every call. */
INLINE void q_tile(const struct q_tile *t, const int m, const int p,
                   const bool q4, const bool vnni) {
    const int bytes = KERN_QBLOCK * QN / (q4 ? 2 : 1);
    vf c[Q_M][Q_P];
    for (int i = 0; i < m; i++)
        for (int j = 0; j < p; j++)
            c[i][j] = t->acc && t->n > j * QN
                          ? v_get(t->c + i * t->ldc + j * QN, t->n - j * QN)
                          : v_set(0.0f);
    for (int64_t b = t->b0; b < t->b1; b++) {
        const uint8_t *w[Q_P];
        qi acc[Q_M][Q_P];
        for (int j = 0; j < p; j++)
            w[j] = t->w + (j * t->nb + b) * bytes;
        if (t->ahead && b % t->turns == t->turn)
            for (int j = 0; j < p; j++)
                for (int l = 0; l < bytes; l += 64)
                    q_prefetch(w[j] + t->ahead * bytes + l);
        for (int i = 0; i < m; i++)
            for (int j = 0; j < p; j++)
                acc[i][j] = q_set(t->start[i * t->nb + b]);
        const int8_t *q = t->q + b * KERN_QBLOCK;
#pragma GCC unroll 8
        for (int g = 0; g < Q_GROUPS; g++) {
            qw wv[Q_P];
            for (int j = 0; j < p; j++) {
                if (!q4)
                    wv[j] = q_weights(q_bytes(w[j] + g * 4 * QN), vnni);
                else if (g < Q_GROUPS / 2)
                    wv[j] = q_weights(q_low(q_bytes(w[j] + g * 4 * QN)), vnni);
                else
                    wv[j] = q_weights(
                        q_high(q_bytes(w[j] + (g - Q_GROUPS / 2) * 4 * QN)),
                        vnni);
            }
            for (int i = 0; i < m; i++) {
                qw a =
                    q_acts(q_four(q + i * t->nb * KERN_QBLOCK + g * 4), vnni);
                for (int j = 0; j < p; j++)
                    acc[i][j] = q_dot(acc[i][j], wv[j], a, vnni);
            }
        }
        for (int j = 0; j < p; j++) {
            vf d = v_load_bf16(t->scales + (j * t->nb + b) * QN);
            for (int i = 0; i < m; i++)
                c[i][j] = v_fma(q_float(acc[i][j]),
                                v_mul(v_set(t->s[i * t->nb + b]), d), c[i][j]);
        }
    }
    for (int i = 0; i < m; i++)
        for (int j = 0; j < p; j++)
            if (t->n > j * QN)
                v_put(t->c + i * t->ldc + j * QN, c[i][j], t->n - j * QN);
}

#define Q_VARIANT(name, q4, vnni) \
    static __attribute__((noinline)) void name(const struct q_tile *t, int m, \
                                               int p) { \
        switch (p * 8 + m) { Q_SIZES(q4, vnni) } \
    }
#define Q_CASE(m, p, q4, vnni) \
    case p * 8 + m: \
        q_tile(t, m, p, q4, vnni); \
        break;
#if Q_M == 4
#define Q_SIZES(q4, vnni) \
    Q_CASE(1, 1, q4, vnni) \
    Q_CASE(2, 1, q4, vnni) \
    Q_CASE(3, 1, q4, vnni) \
    Q_CASE(4, 1, q4, vnni) \
    Q_CASE(1, 3, q4, vnni) \
    Q_CASE(2, 3, q4, vnni) \
    Q_CASE(3, 3, q4, vnni) \
    Q_CASE(4, 3, q4, vnni)
#elif Q_M == 2
#define Q_SIZES(q4, vnni) Q_CASE(1, 1, q4, vnni) Q_CASE(2, 1, q4, vnni)
#else
#define Q_SIZES(q4, vnni) Q_CASE(1, 1, q4, vnni)
#endif
Q_VARIANT(q8_tile, false, false)
Q_VARIANT(q4_tile, true, false)
#if defined(KERN_ISA_avx512)
Q_VARIANT(q8_tile_vnni, false, true)
Q_VARIANT(q4_tile_vnni, true, true)
#else
#define q8_tile_vnni q8_tile
#define q4_tile_vnni q4_tile
#endif

static void q_tile_run(const struct q_run *r, const struct q_tile *t, int m,
                       int p) {
    if (r->a->bt == KERN_Q4)
        (r->vnni ? q4_tile_vnni : q4_tile)(t, m, p);
    else
        (r->vnni ? q8_tile_vnni : q8_tile)(t, m, p);
}

/* p panels from p0 on by rows i0 … i1-1, by pieces of k. Weights of the next
 * piece are on their way while all the rows use this one. */
static void q_columns(const struct q_run *r, int64_t p0, int p, int64_t i0,
                      int64_t i1) {
    const struct kern_mm *a = r->a;
    int64_t bytes = q_block_bytes(a->bt);
    int turns = (int)((i1 - i0 + Q_M - 1) / Q_M);
    int64_t piece = turns > 1 ? Q_PIECE : r->nb;
    struct q_tile t = {.nb = r->nb,
                       .w = r->w + p0 * r->nb * bytes,
                       .scales = r->scales + p0 * r->nb * QN,
                       .ahead = turns > 1     ? piece
                                : i1 - i0 > 1 ? Q_AHEAD
                                              : 0,
                       .turns = turns,
                       .ldc = a->ldc,
                       .n = a->n - p0 * QN};
    for (int64_t b = 0; b < r->nb || b == 0; b += piece) {
        t.b0 = b;
        t.b1 = b + piece < r->nb ? b + piece : r->nb;
        t.acc = a->acc || b > 0;
        t.turn = 0;
        for (int64_t i = i0; i < i1; i += Q_M, t.turn++) {
            t.q = r->x.q + i * r->nb * KERN_QBLOCK;
            t.s = r->x.s + i * r->nb;
            t.start = r->x.start + i * r->nb;
            t.c = a->c + i * a->ldc + p0 * QN;
            q_tile_run(r, &t, i1 - i < Q_M ? (int)(i1 - i) : Q_M, p);
        }
    }
}

static void q_task(void *arg, int task, int thread) {
    const struct q_run *r = arg;
    int64_t p = (int64_t)(task / r->row_blocks) * r->per_task;
    int64_t end = p + r->per_task < r->panels ? p + r->per_task : r->panels;
    int64_t i0 = task % r->row_blocks * r->rows, i1 = i0 + r->rows;
    (void)thread;
    i1 = i1 < r->a->m ? i1 : r->a->m;
    /* Weights that are used once are read in the order of memory. */
    int most = i1 - i0 > Q_M ? Q_P : 1, n;
    for (; p < end; p += n) {
        n = end - p >= most ? most : 1;
        q_columns(r, p, n, i0, i1);
    }
}

/* Panels of a task, so that its weights are worth one; few tasks are cut by
 * rows, so that every thread has some. */
static void q_cut(struct q_run *r, int threads) {
    int64_t bytes = r->nb * q_block_bytes(r->a->bt) + 1, m = r->a->m;
    int64_t groups = Q_TASK / (bytes * Q_P), most = r->panels / (2 * threads);
    if (m > 4 * Q_M || groups < 1)
        groups = 1;
    if (groups > most / Q_P)
        groups = most / Q_P > 1 ? most / Q_P : 1;
    r->per_task = (int)groups * Q_P;
    int64_t tasks = (r->panels + r->per_task - 1) / r->per_task;
    int64_t wanted = threads > 1 ? 4 * threads / tasks : 1;
    r->rows = wanted > 1 ? m / wanted : m;
    if (r->rows < Q_ROWS_MIN)
        r->rows = Q_ROWS_MIN;
    r->rows = (r->rows + Q_M - 1) / Q_M * Q_M;
    r->row_blocks = (int)((m + r->rows - 1) / r->rows);
}

static size_t q_size(const struct q_run *r) {
    return (size_t)r->a->m * (size_t)r->nb * (KERN_QBLOCK + 8);
}

static void q_carve(struct q_run *r, uint8_t *at) {
    size_t blocks = (size_t)r->a->m * (size_t)r->nb;
    r->x.q = (int8_t *)at;
    r->x.s = (float *)(void *)(at + blocks * KERN_QBLOCK);
    r->x.start = (int32_t *)(void *)(at + blocks * (KERN_QBLOCK + 4));
}

static bool q_is_shaped(const struct kern_mm *a) {
    return a->form == KERN_NT && a->m >= 0 && a->n >= 0 && a->k >= 0 &&
           a->lda >= a->k && a->ldc >= a->n;
}

int ISA(mm_quant)(struct kern *k, const struct kern_mm *a) {
    struct cpu *cpu = cpu_of(k);
    struct q_run r = {.a = a, .w = a->b, .vnni = cpu->has_vnni};
    if (!q_is_shaped(a))
        return KERN_EINVAL;
    if (a->m == 0 || a->n == 0)
        return KERN_OK;
    r.nb = q_blocks(a->k);
    r.panels = q_panels(a->n);
    r.scales = q_scales(a->b, a->bt, a->n, a->k);
    int rc = cpu_reserve(cpu, q_size(&r) + 1);
    if (rc)
        return rc;
    q_carve(&r, cpu->scratch[0]);
    ISA(ranges)(k, a->m, 1 + 16384 / (a->k + 1), q_pack_rows, &r);
    q_cut(&r, pool_threads(cpu->pool));
    int64_t tasks = (r.panels + r.per_task - 1) / r.per_task;
    pool_run(cpu->pool, (int)(tasks * r.row_blocks), q_task, &r);
    return KERN_OK;
}
