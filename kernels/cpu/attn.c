/*
 * attn: causal attention over packed sequences and over a paged cache.
 * Invariants: 1. a row's scores, maximum, sum and output have one order, that
 * of key positions in its own sequence, in every path here; 2. one task owns
 * whatever it writes (a query head's rows forward, a kv head's backward);
 * 3. a key that a row does not see takes no part in the row's sums, not even
 * times 0.
 * In a page, K is kept transposed ([D][KERN_PAGE]) and V as it came.
 */
#include "kernels/cpu/isa.h"
#include "kernels/cpu/tile.h"

static int64_t attn_round(int64_t n) {
    return (n + TILE_N - 1) / TILE_N * TILE_N;
}

/* dst[d*Lp + j] = src[j*ld + d]; columns past L are 0. */
static void attn_pack_t(float *dst, const float *src, int64_t ld, int64_t L,
                        int D, int64_t Lp) {
    int64_t jd = 0;
    int dd = 0;
#if !defined(KERN_ISA_scalar)
    jd = L & ~(int64_t)7;
    dd = D & ~7;
    for (int64_t j = 0; j < jd; j += 8)
        for (int d = 0; d < dd; d += 8) {
            __m256 r[8];
            for (int i = 0; i < 8; i++)
                r[i] = _mm256_loadu_ps(src + (j + i) * ld + d);
            tile_transpose8(dst + d * Lp + j, Lp, r);
        }
#endif
    for (int64_t j = 0; j < L; j++)
        for (int d = j < jd ? dd : 0; d < D; d++)
            dst[d * Lp + j] = src[j * ld + d];
    for (int d = 0; d < D; d++)
        memset(dst + d * Lp + L, 0, (size_t)(Lp - L) * sizeof *dst);
}

/* dst[j*Dp + d] = src[j*ld + d]; columns past D are 0. */
static void attn_pack(float *dst, const float *src, int64_t ld, int64_t L,
                      int D, int64_t Dp) {
    for (int64_t j = 0; j < L; j++) {
        memcpy(dst + j * Dp, src + j * ld, (size_t)D * sizeof *dst);
        memset(dst + j * Dp + D, 0, (size_t)(Dp - D) * sizeof *dst);
    }
}

/* ---- one row ---- */

struct attn_row {
    int64_t lo, hi; /* visible keys lo … hi (hi is the row's own) */
    float scale, softcap;
    const float *sink; /* NULL = none */
};

static int64_t attn_lo(int64_t i, int32_t window) {
    return window > 0 && i >= window ? i - window + 1 : 0;
}

INLINE vf attn_score(const struct attn_row *r, vf s) {
    s = v_mul(s, v_set(r->scale));
    if (r->softcap > 0.0f)
        s = v_mul(v_set(r->softcap), v_tanh(v_div(s, v_set(r->softcap))));
    return s;
}

/* The lanes around keys lo … hi, to whole vectors, become -inf. */
static void attn_mask(const struct attn_row *r, float *s) {
    for (int64_t j = r->lo & ~(int64_t)(VL - 1); j < r->lo; j++)
        s[j] = -INFINITY;
    for (int64_t j = r->hi + 1; j & (VL - 1); j++)
        s[j] = -INFINITY;
}

/* Raw dot products of keys lo … hi in s become scores, masked; returns the
 * largest. */
static float attn_scores(const struct attn_row *r, float *s) {
    vf m = v_set(-INFINITY);
    attn_mask(r, s);
    for (int64_t j = r->lo & ~(int64_t)(VL - 1); j <= r->hi; j += VL) {
        vf x = attn_score(r, v_load(s + j));
        v_store(s + j, x);
        m = v_max(m, x);
    }
    if (r->softcap > 0.0f) /* which made -cap, the least score, of -inf */
        attn_mask(r, s);
    return v_hmax(m);
}

/* Scores to exponentials in place; returns their sum. *lse too. */
static float attn_softmax(const struct attn_row *r, float *s, float *lse) {
    float m = attn_scores(r, s);
    if (r->sink && m < *r->sink)
        m = *r->sink;
    vf sum = v_set(0.0f), mv = v_set(m);
    for (int64_t j = r->lo & ~(int64_t)(VL - 1); j <= r->hi; j += VL) {
        vf p = v_exp(v_sub(v_load(s + j), mv));
        v_store(s + j, p);
        sum = v_add(sum, p);
    }
    float l = v_sum(sum);
    if (r->sink)
        l = l + s_exp(*r->sink - m);
    *lse = m + s_log(l);
    return l;
}

static void attn_divide(float *o, float l, int D) {
    vf lv = v_set(l);
    for (int d = 0; d < D; d += VL)
        v_put(o + d, v_div(v_get(o + d, D - d), lv), D - d);
}

/* ---- blocks of rows ---- */

/* Up to TILE_M rows in a row, of positions i … i+m-1, of one query head; the
 * window, if any, has begun to move for all of them or for none. */
struct attn_span {
    int64_t i;
    int m;
    int64_t lo, full; /* the first row's first key; that of the last row */
    bool moves;       /* full > lo: the window cuts keys off */
};

static struct attn_span attn_span_at(int64_t i, int64_t left, int32_t window) {
    int64_t m = left < TILE_M ? left : TILE_M;
    if (window > 0) {
        if (m > window)
            m = window;
        if (i < window - 1 && i + m > window)
            m = window - i;
    }
    int64_t last = i + m - 1;
    return (struct attn_span){i, (int)m, attn_lo(i, window),
                              attn_lo(last, window),
                              attn_lo(last, window) > attn_lo(i, window)};
}

/* s (m, ld; column 0 is key 0): products of rows of x with keys lo … i+m-1. */
static void attn_dots(float *s, int64_t ld, const float *x, int64_t ldx,
                      const struct attn_span *b, const float *t, int64_t ldt,
                      int D) {
    int64_t end = b->i + b->m;
    for (int64_t j = b->lo / TILE_N * TILE_N; j < end; j += TILE_N)
        tile_run(&(struct tile){.k = D,
                                .a = x,
                                .sa = ldx,
                                .ka = 1,
                                .b = t + j,
                                .ldb = ldt,
                                .c = s + j,
                                .ldc = ld,
                                .n = TILE_N},
                 b->m);
}

/* One tile after the other over the D columns of b and c. */
static void attn_columns(struct tile t, int m, int D) {
    for (int d = 0; d < D; d += TILE_N) {
        t.n = D - d < TILE_N ? D - d : TILE_N;
        tile_edges(&t, m);
        t.b += TILE_N;
        t.c += TILE_N;
    }
}

/* c (m rows of D) = Σ over visible keys, ascending, of s[key] * v[key]. */
static void attn_over_keys(float *c, int64_t ldc, const float *s, int64_t lds,
                           const struct attn_span *b, const float *v,
                           int64_t ldv, int D) {
    attn_columns((struct tile){.k = b->i - b->full + 1,
                               .a = s + b->lo,
                               .sa = lds,
                               .ka = 1,
                               .b = v + b->lo * ldv,
                               .ldb = ldv,
                               .c = c,
                               .ldc = ldc,
                               .pre = b->moves,
                               .post = true},
                 b->m, D);
}

/* t: keys that all of t.k rows see. */
static void attn_over_seen(struct tile t, int64_t keys, int D) {
    for (int64_t n = 0; n < keys; n += TILE_M) {
        int m = keys - n < TILE_M ? (int)(keys - n) : TILE_M;
        attn_columns(t, m, D);
        t.a += m;
        t.c += m * t.ldc;
    }
}

/* c[key] (rows of D) += Σ over the rows that see it, ascending, of
 * s[row][key] * x[row]. */
static void attn_over_rows(float *c, int64_t ldc, const float *s, int64_t lds,
                           const struct attn_span *b, const float *x,
                           int64_t ldx, int D) {
    struct tile t = {.sa = 1,
                     .ka = lds,
                     .a = s + b->lo,
                     .b = x,
                     .ldb = ldx,
                     .c = c + b->lo * ldc,
                     .ldc = ldc,
                     .acc = true};
    if (b->moves) { /* m-1 keys, of which key n is seen by rows 0 … n */
        struct tile low = t;
        low.k = 1;
        low.post = true;
        attn_columns(low, b->m - 1, D);
    }
    int64_t skip = b->full - b->lo, all = b->i - b->full;
    t.a += skip;
    t.c += skip * ldc;
    t.k = b->m;
    attn_over_seen(t, all, D);
    t.a += all;
    t.c += all * ldc;
    t.k = 1; /* the rows' own keys: key n is seen by rows n … m-1 */
    t.pre = true;
    attn_columns(t, b->m, D);
}

/* ---- forward ---- */

struct attn_run {
    const struct kern_attn *a;
    struct cpu *cpu;
    int64_t Lp, Dp;
};

static struct attn_row attn_row_at(const struct kern_attn *a, int64_t i,
                                   int h) {
    return (struct attn_row){attn_lo(i, a->window), i, a->scale, a->softcap,
                             a->sinks ? a->sinks + h : NULL};
}

static void attn_block(const struct attn_run *r, const float *kt,
                       const float *vp, float *s, int64_t base,
                       const struct attn_span *b, int h) {
    const struct kern_attn *a = r->a;
    int64_t t = base + b->i, col = (int64_t)h * a->D;
    float *o = a->o + t * a->ldo + col, l[TILE_M], lse;
    attn_dots(s, r->Lp, a->q + t * a->ldq + col, a->ldq, b, kt, r->Lp, a->D);
    for (int i = 0; i < b->m; i++) {
        struct attn_row row = attn_row_at(a, b->i + i, h);
        l[i] = attn_softmax(&row, s + i * r->Lp, &lse);
        if (a->lse)
            a->lse[(t + i) * a->H + h] = lse;
    }
    attn_over_keys(o, a->ldo, s, r->Lp, b, vp, r->Dp, a->D);
    for (int i = 0; i < b->m; i++)
        attn_divide(o + i * a->ldo, l[i], a->D);
}

static void attn_task(void *arg, int task, int thread) {
    const struct attn_run *r = arg;
    const struct kern_attn *a = r->a;
    int seq = task / a->H, h = task % a->H, kv = h / (a->H / a->K);
    int64_t base = a->start[seq], L = a->start[seq + 1] - base;
    float *kt = r->cpu->scratch[thread], *vp = kt + a->D * r->Lp;
    float *s = vp + r->Lp * r->Dp;
    attn_pack_t(kt, a->k + base * a->ldk + (int64_t)kv * a->D, a->ldk, L, a->D,
                r->Lp);
    attn_pack(vp, a->v + base * a->ldv + (int64_t)kv * a->D, a->ldv, L, a->D,
              r->Dp);
    struct attn_span b;
    for (int64_t i = 0; i < L; i += b.m) {
        b = attn_span_at(i, L - i, a->window);
        attn_block(r, kt, vp, s, base, &b, h);
    }
}

static int attn_check(const struct kern_attn *a) {
    if (a->T < 0 || a->n_seq < 0 || a->D <= 0 || a->K <= 0 || a->H <= 0 ||
        a->H % a->K || a->max_len < 0)
        return KERN_EINVAL;
    int64_t wide = (int64_t)a->H * a->D, narrow = (int64_t)a->K * a->D;
    if (a->ldq < wide || a->ldo < wide || a->ldk < narrow || a->ldv < narrow)
        return KERN_EINVAL;
    for (int i = 0; i < a->n_seq; i++) {
        int64_t len = (int64_t)a->start[i + 1] - a->start[i];
        if (a->start[i] < 0 || len < 0 || len > a->max_len ||
            a->start[i + 1] > a->T)
            return KERN_EINVAL;
    }
    return KERN_OK;
}

static struct attn_run attn_run_of(struct kern *k, const struct kern_attn *a) {
    return (struct attn_run){a, cpu_of(k), attn_round(a->max_len),
                             attn_round(a->D)};
}

int ISA(attn)(struct kern *k, const struct kern_attn *a) {
    int rc = attn_check(a);
    if (rc != KERN_OK)
        return rc;
    struct attn_run r = attn_run_of(k, a);
    size_t floats = (size_t)(r.Lp * (a->D + r.Dp + TILE_M));
    rc = cpu_reserve(r.cpu, floats * sizeof(float));
    if (rc == KERN_OK)
        pool_run(r.cpu->pool, a->n_seq * a->H, attn_task, &r);
    return rc;
}

/* ---- backward ---- */

/* Rows whose part of dk and dv is added at once: keys before them all are read
 * and written once. */
#define ATTN_ROWS (4 * TILE_M)

struct attn_bwd {
    float *kt, *vt, *kp, *dk, *dv; /* (D,Lp) (D,Lp) (Lp,Dp) (Lp,Dp) (Lp,Dp) */
    float *p, *ds;                 /* (ATTN_ROWS, Lp) */
    float *q, *d_o;                /* (ATTN_ROWS, Dp) */
};

static struct attn_bwd attn_bwd_carve(float *at, const struct attn_run *r) {
    int64_t D = r->a->D, Lp = r->Lp, Dp = r->Dp;
    struct attn_bwd b;
    b.kt = at;
    b.vt = b.kt + D * Lp;
    b.kp = b.vt + D * Lp;
    b.dk = b.kp + Lp * Dp;
    b.dv = b.dk + Lp * Dp;
    b.p = b.dv + Lp * Dp;
    b.ds = b.p + ATTN_ROWS * Lp;
    b.q = b.ds + ATTN_ROWS * Lp;
    b.d_o = b.q + ATTN_ROWS * Dp;
    return b;
}

static float attn_delta(const struct kern_attn *a, int64_t t, int h) {
    const float *o = a->o + t * a->ldo + (int64_t)h * a->D;
    const float *g = a->d_o + t * a->ldo + (int64_t)h * a->D;
    return SUM16(a->D, v_fma(v_load(o + i), v_load(g + i), s_),
                 v_fma(v_loadn(o + i, left), v_loadn(g + i, left), s_));
}

/* One row: p from dots to probabilities, ds from d_o·v to gradients of dots. */
static void attn_bwd_row(const struct attn_row *r, float *p, float *ds,
                         float lse, float delta) {
    attn_scores(r, p);
    vf cap = v_set(r->softcap), one = v_set(1.0f);
    for (int64_t j = r->lo & ~(int64_t)(VL - 1); j <= r->hi; j += VL) {
        vf s = v_load(p + j), e = v_exp(v_sub(s, v_set(lse)));
        vf g = v_mul(e, v_sub(v_load(ds + j), v_set(delta)));
        g = v_mul(g, v_set(r->scale));
        if (r->softcap > 0.0f) {
            vf t = v_div(s, cap);
            g = v_mul(g, v_sub(one, v_mul(t, t)));
        }
        v_store(p + j, e);
        v_store(ds + j, g);
    }
}

/* What w has of its rows from `row` on. */
static struct attn_bwd attn_bwd_from(const struct attn_run *r,
                                     const struct attn_bwd *w, int64_t row) {
    struct attn_bwd x = *w;
    x.p += row * r->Lp;
    x.ds += row * r->Lp;
    x.q += row * r->Dp;
    x.d_o += row * r->Dp;
    return x;
}

/* p, ds, q, d_o and dq of the rows of b. */
static void attn_bwd_span(const struct attn_run *r, const struct attn_bwd *w,
                          int64_t base, const struct attn_span *b, int h) {
    const struct kern_attn *a = r->a;
    int64_t col = (int64_t)h * a->D, t = base + b->i;
    attn_pack(w->q, a->q + t * a->ldq + col, a->ldq, b->m, a->D, r->Dp);
    attn_pack(w->d_o, a->d_o + t * a->ldo + col, a->ldo, b->m, a->D, r->Dp);
    attn_dots(w->p, r->Lp, w->q, r->Dp, b, w->kt, r->Lp, a->D);
    attn_dots(w->ds, r->Lp, w->d_o, r->Dp, b, w->vt, r->Lp, a->D);
    for (int i = 0; i < b->m; i++) {
        struct attn_row row = attn_row_at(a, b->i + i, h);
        attn_bwd_row(&row, w->p + i * r->Lp, w->ds + i * r->Lp,
                     a->lse[(t + i) * a->H + h], attn_delta(a, t + i, h));
    }
    attn_over_keys(a->dq + t * a->ldq + col, a->ldq, w->ds, r->Lp, b, w->kp,
                   r->Dp, a->D);
}

/* dk and dv of the keys that the rows of b see, from `lo` on. */
static void attn_bwd_keys(const struct attn_run *r, const struct attn_bwd *w,
                          struct attn_span b, int64_t lo) {
    int D = r->a->D;
    if (!b.moves)
        b.lo = b.full = b.lo > lo ? b.lo : lo;
    attn_over_rows(w->dk, r->Dp, w->ds, r->Lp, &b, w->q, r->Dp, D);
    attn_over_rows(w->dv, r->Dp, w->p, r->Lp, &b, w->d_o, r->Dp, D);
}

/* Rows i … i+m-1 of one query head, none of which has a window that moves. */
static void attn_bwd_rows(const struct attn_run *r, const struct attn_bwd *w,
                          int64_t base, int64_t i, int m, int h) {
    struct tile t = {
        .sa = 1, .ka = r->Lp, .ldb = r->Dp, .ldc = r->Dp, .k = m, .acc = true};
    for (int n = 0; n < m; n += TILE_M) {
        struct attn_bwd x = attn_bwd_from(r, w, n);
        struct attn_span b = attn_span_at(i + n, m - n, 0);
        attn_bwd_span(r, &x, base, &b, h);
    }
    t.a = w->ds, t.b = w->q, t.c = w->dk;
    attn_over_seen(t, i, r->a->D);
    t.a = w->p, t.b = w->d_o, t.c = w->dv;
    attn_over_seen(t, i, r->a->D);
    for (int n = 0; n < m; n += TILE_M) {
        struct attn_bwd x = attn_bwd_from(r, w, n);
        attn_bwd_keys(r, &x, attn_span_at(i + n, m - n, 0), i);
    }
}

/* One query head, rows ascending. */
static void attn_bwd_head(const struct attn_run *r, const struct attn_bwd *w,
                          int64_t base, int64_t L, int h) {
    int64_t i = 0, free = r->a->window > 0 ? r->a->window : L;
    for (int m; i < L && i < free; i += m) {
        int64_t left = (L < free ? L : free) - i;
        m = left < ATTN_ROWS ? (int)left : ATTN_ROWS;
        attn_bwd_rows(r, w, base, i, m, h);
    }
    for (struct attn_span b; i < L; i += b.m) {
        b = attn_span_at(i, L - i, r->a->window);
        attn_bwd_span(r, w, base, &b, h);
        attn_bwd_keys(r, w, b, 0);
    }
}

static void attn_bwd_task(void *arg, int task, int thread) {
    const struct attn_run *r = arg;
    const struct kern_attn *a = r->a;
    int seq = task / a->K, kv = task % a->K, group = a->H / a->K;
    int64_t base = a->start[seq], L = a->start[seq + 1] - base;
    struct attn_bwd w = attn_bwd_carve(r->cpu->scratch[thread], r);
    const float *k = a->k + base * a->ldk + (int64_t)kv * a->D;
    const float *v = a->v + base * a->ldv + (int64_t)kv * a->D;
    attn_pack_t(w.kt, k, a->ldk, L, a->D, r->Lp);
    attn_pack_t(w.vt, v, a->ldv, L, a->D, r->Lp);
    attn_pack(w.kp, k, a->ldk, L, a->D, r->Dp);
    memset(w.dk, 0, (size_t)(L * r->Dp) * sizeof(float));
    memset(w.dv, 0, (size_t)(L * r->Dp) * sizeof(float));
    for (int h = kv * group; h < (kv + 1) * group; h++)
        attn_bwd_head(r, &w, base, L, h);
    for (int64_t j = 0; j < L; j++) {
        size_t row = (size_t)a->D * sizeof(float);
        memcpy(a->dk + (base + j) * a->ldk + (int64_t)kv * a->D,
               w.dk + j * r->Dp, row);
        memcpy(a->dv + (base + j) * a->ldv + (int64_t)kv * a->D,
               w.dv + j * r->Dp, row);
    }
}

/* dsink_h += Σ rows -exp(sink - lse) * delta, a chain over the rows. */
static void attn_dsinks(void *arg, int64_t h, int64_t end) {
    const struct kern_attn *a = arg;
    for (; h < end; h++)
        for (int64_t t = a->start[0]; t < a->start[a->n_seq]; t++) {
            float p = s_exp(a->sinks[h] - a->lse[t * a->H + h]);
            a->dsinks[h] = fmaf(-p, attn_delta(a, t, (int)h), a->dsinks[h]);
        }
}

int ISA(attn_bwd)(struct kern *k, const struct kern_attn *a) {
    int rc = attn_check(a);
    if (rc != KERN_OK)
        return rc;
    struct attn_run r = attn_run_of(k, a);
    size_t floats = (size_t)(r.Lp * (2 * a->D + 3 * r.Dp + 2 * ATTN_ROWS) +
                             2 * ATTN_ROWS * r.Dp);
    rc = cpu_reserve(r.cpu, floats * sizeof(float));
    if (rc != KERN_OK)
        return rc;
    pool_run(r.cpu->pool, a->n_seq * a->K, attn_bwd_task, &r);
    if (a->dsinks && a->sinks && a->n_seq > 0)
        ISA(ranges)(k, a->H, 1, attn_dsinks, (void *)a);
    return KERN_OK;
}

/* ---- the paged cache ---- */

INLINE int64_t kv_page_floats(int K, int D) {
    return (int64_t)2 * K * KERN_PAGE * D;
}

static void kv_rows(void *arg, int64_t t, int64_t end) {
    const struct kern_kv *a = arg;
    for (; t < end; t++) {
        int64_t block = a->pos[t] / KERN_PAGE, slot = a->pos[t] % KERN_PAGE;
        int64_t page = a->table[(int64_t)a->seq[t] * a->max_blocks + block];
        float *kp = a->pages + page * kv_page_floats(a->K, a->D);
        float *vp = kp + (int64_t)a->K * KERN_PAGE * a->D;
        for (int h = 0; h < a->K; h++) {
            int64_t at = (int64_t)h * KERN_PAGE * a->D;
            const float *kx = a->k + t * a->ldk + (int64_t)h * a->D;
            const float *vx = a->v + t * a->ldv + (int64_t)h * a->D;
            for (int d = 0; d < a->D; d++)
                kp[at + (int64_t)d * KERN_PAGE + slot] = kx[d];
            memcpy(vp + at + slot * a->D, vx, (size_t)a->D * sizeof *vx);
        }
    }
}

/* The largest of T positions, -1 of none; -2 when one is not in the table. */
static int64_t kv_last(const int32_t *seq, const int32_t *pos, int32_t T,
                       int32_t max_blocks) {
    int64_t last = -1;
    for (int32_t t = 0; t < T; t++) {
        if (seq[t] < 0 || pos[t] < 0 || pos[t] / KERN_PAGE >= max_blocks)
            return -2;
        last = pos[t] > last ? pos[t] : last;
    }
    return last;
}

int ISA(kv_write)(struct kern *k, const struct kern_kv *a) {
    if (a->T < 0 || a->D <= 0 || a->K <= 0 || a->ldk < (int64_t)a->K * a->D ||
        a->ldv < (int64_t)a->K * a->D ||
        kv_last(a->seq, a->pos, a->T, a->max_blocks) == -2)
        return KERN_EINVAL;
    ISA(ranges)(k, a->T, 64, kv_rows, (void *)a);
    return KERN_OK;
}

/* A task is a piece of PAGED_T rows times a kv head. In it, a run of rows that
 * follow each other in one sequence is a block for each query head; a row
 * alone is a block of all its query heads, which see the same keys. */
#define PAGED_T (4 * TILE_M)

struct paged_run {
    const struct kern_attn_paged *a;
    struct cpu *cpu;
    int64_t Lp; /* floats of a row of scores, whole pages */
};

/* The rows of one call of the tile: row n is q + n*ldq, positions b.i + n,
 * unless `heads`, when all are at b.i and are heads h, h+1, …. */
struct paged_block {
    const float *q;
    float *o;
    int64_t ldq, ldo;
    const int32_t *table;
    struct attn_span b;
    int h;
    bool heads;
};

static void paged_dots(const struct paged_run *r, const struct paged_block *p,
                       float *s, int kv) {
    const struct kern_attn_paged *a = r->a;
    int64_t end = p->heads ? p->b.i + 1 : p->b.i + p->b.m;
    for (int64_t j = p->b.lo / TILE_N * TILE_N; j < end; j += TILE_N) {
        const float *kt = a->pages +
                          p->table[j / KERN_PAGE] * kv_page_floats(a->K, a->D) +
                          (int64_t)kv * KERN_PAGE * a->D + j % KERN_PAGE;
        tile_run(&(struct tile){.k = a->D,
                                .a = p->q,
                                .sa = p->ldq,
                                .ka = 1,
                                .b = kt,
                                .ldb = KERN_PAGE,
                                .c = s + j,
                                .ldc = r->Lp,
                                .n = TILE_N},
                 p->b.m);
    }
}

/* Keys from … end of one page for rows of s; o continues. */
static void paged_keys(const struct paged_run *r, const struct paged_block *p,
                       const float *s, int kv, int first, int m, int64_t from,
                       int64_t end) {
    const struct kern_attn_paged *a = r->a;
    const float *v =
        a->pages + p->table[from / KERN_PAGE] * kv_page_floats(a->K, a->D) +
        (int64_t)(a->K + kv) * KERN_PAGE * a->D + from % KERN_PAGE * a->D;
    for (int d = 0; d < a->D; d += TILE_N) {
        struct tile t = {.k = end - from,
                         .a = s + first * r->Lp + from,
                         .sa = r->Lp,
                         .ka = 1,
                         .b = v + d,
                         .ldb = a->D,
                         .c = p->o + first * p->ldo + d,
                         .ldc = p->ldo,
                         .n = a->D - d < TILE_N ? a->D - d : TILE_N,
                         .acc = true};
        if (t.n < TILE_N)
            tile_part(&t, m);
        else
            tile_run(&t, m);
    }
}

/* Keys from … end, page by page. */
static void paged_range(const struct paged_run *r, const struct paged_block *p,
                        const float *s, int kv, int first, int m, int64_t from,
                        int64_t end) {
    while (from < end) {
        int64_t stop = (from / KERN_PAGE + 1) * KERN_PAGE;
        if (stop > end)
            stop = end;
        paged_keys(r, p, s, kv, first, m, from, stop);
        from = stop;
    }
}

static void paged_values(const struct paged_run *r, const struct paged_block *p,
                         const float *s, int kv) {
    const struct attn_span *b = &p->b;
    if (p->heads) {
        paged_range(r, p, s, kv, 0, b->m, b->lo, b->i + 1);
        return;
    }
    for (int i = 0; b->moves && i < b->m; i++)
        paged_range(r, p, s, kv, i, 1, b->lo + i, b->full);
    paged_range(r, p, s, kv, 0, b->m, b->full, b->i + 1);
    for (int i = 1; i < b->m; i++) /* key i+n: rows n … m-1 */
        paged_range(r, p, s, kv, i, b->m - i, b->i + i, b->i + i + 1);
}

static void paged_block(const struct paged_run *r, const struct paged_block *p,
                        float *s, int kv) {
    const struct kern_attn_paged *a = r->a;
    float l[TILE_M], lse;
    paged_dots(r, p, s, kv);
    for (int i = 0; i < p->b.m; i++) {
        int64_t pos = p->heads ? p->b.i : p->b.i + i;
        struct attn_row row = {
            attn_lo(pos, a->window), pos, a->scale, a->softcap,
            a->sinks ? a->sinks + p->h + p->heads * i : NULL};
        l[i] = attn_softmax(&row, s + i * r->Lp, &lse);
        memset(p->o + i * p->ldo, 0, (size_t)a->D * sizeof(float));
    }
    paged_values(r, p, s, kv);
    for (int i = 0; i < p->b.m; i++)
        attn_divide(p->o + i * p->ldo, l[i], a->D);
}

/* Rows t … t+n, which follow each other in one sequence. */
static void paged_rows(const struct paged_run *r, float *s, int64_t t, int n,
                       int kv) {
    const struct kern_attn_paged *a = r->a;
    int group = a->H / a->K;
    struct paged_block p = {.ldq = a->ldq,
                            .ldo = a->ldo,
                            .table =
                                a->table + (int64_t)a->seq[t] * a->max_blocks};
    for (int h = kv * group; h < (kv + 1) * group; h++)
        for (int i = 0; i < n; i += p.b.m) {
            p.b = attn_span_at(a->pos[t] + i, n - i, a->window);
            p.q = a->q + (t + i) * a->ldq + (int64_t)h * a->D;
            p.o = a->o + (t + i) * a->ldo + (int64_t)h * a->D;
            p.h = h;
            paged_block(r, &p, s, kv);
        }
}

/* All query heads of one row. */
static void paged_heads(const struct paged_run *r, float *s, int64_t t,
                        int kv) {
    const struct kern_attn_paged *a = r->a;
    int group = a->H / a->K, end = (kv + 1) * group;
    for (int h = kv * group; h < end; h += TILE_M) {
        int64_t lo = attn_lo(a->pos[t], a->window);
        struct paged_block p = {.q = a->q + t * a->ldq + (int64_t)h * a->D,
                                .o = a->o + t * a->ldo + (int64_t)h * a->D,
                                .ldq = a->D,
                                .ldo = a->D,
                                .table = a->table +
                                         (int64_t)a->seq[t] * a->max_blocks,
                                .b = {.i = a->pos[t],
                                      .m = end - h < TILE_M ? end - h : TILE_M,
                                      .lo = lo,
                                      .full = lo},
                                .h = h,
                                .heads = true};
        paged_block(r, &p, s, kv);
    }
}

static void paged_task(void *arg, int task, int thread) {
    const struct paged_run *r = arg;
    const struct kern_attn_paged *a = r->a;
    float *s = r->cpu->scratch[thread];
    int kv = task % a->K, n;
    int64_t t = (int64_t)(task / a->K) * PAGED_T, end = t + PAGED_T;
    for (end = end < a->T ? end : a->T; t < end; t += n) {
        for (n = 1; t + n < end && a->seq[t + n] == a->seq[t] &&
                    a->pos[t + n] == a->pos[t] + n;
             n++)
            ;
        if (n == 1)
            paged_heads(r, s, t, kv);
        else
            paged_rows(r, s, t, n, kv);
    }
}

int ISA(attn_paged)(struct kern *k, const struct kern_attn_paged *a) {
    if (a->T < 0 || a->D <= 0 || a->K <= 0 || a->H <= 0 || a->H % a->K ||
        a->ldq < (int64_t)a->H * a->D || a->ldo < (int64_t)a->H * a->D)
        return KERN_EINVAL;
    int64_t last = kv_last(a->seq, a->pos, a->T, a->max_blocks);
    if (last == -2)
        return KERN_EINVAL;
    struct paged_run r = {a, cpu_of(k), (last / KERN_PAGE + 1) * KERN_PAGE};
    int rc = cpu_reserve(r.cpu, (size_t)(TILE_M * r.Lp) * sizeof(float));
    int64_t pieces = ((int64_t)a->T + PAGED_T - 1) / PAGED_T;
    if (rc == KERN_OK)
        pool_run(r.cpu->pool, (int)(pieces * a->K), paged_task, &r);
    return rc;
}
