/*
 * attn: causal attention over packed sequences and over a paged cache.
 * Invariants: 1. a row's scores, maximum, sum and output have one order, that
 * of key positions in its own sequence, in every path here; 2. one task owns
 * whatever it writes (a query head's rows forward, a kv head's backward).
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
    for (int d = 0; d < D; d++)
        for (int64_t j = 0; j < Lp; j++)
            dst[d * Lp + j] = j < L ? src[j * ld + d] : 0.0f;
}

/* dst[j*Dp + d] = src[j*ld + d]; columns past D are 0. */
static void attn_pack(float *dst, const float *src, int64_t ld, int64_t L,
                      int D, int64_t Dp) {
    for (int64_t j = 0; j < L; j++) {
        memcpy(dst + j * Dp, src + j * ld, (size_t)D * sizeof *dst);
        memset(dst + j * Dp + D, 0, (size_t)(Dp - D) * sizeof *dst);
    }
}

struct attn_row {
    int64_t lo, hi; /* visible keys lo … hi (hi is the row's own) */
    float scale, softcap;
    const float *sink; /* NULL = none */
};

INLINE vf attn_score(const struct attn_row *r, vf s) {
    s = v_mul(s, v_set(r->scale));
    if (r->softcap > 0.0f)
        s = v_mul(v_set(r->softcap), v_tanh(v_div(s, v_set(r->softcap))));
    return s;
}

/* s[j] for lo <= j <= hi: raw dot products in, scores out; the lanes around
 * them, within vectors, become -inf. */
static void attn_mask(const struct attn_row *r, float *s) {
    int64_t first = r->lo & ~(int64_t)(VL - 1);
    for (int64_t j = first; j <= r->hi; j += VL)
        v_store(s + j, attn_score(r, v_load(s + j)));
    for (int64_t j = first; j < r->lo; j++)
        s[j] = -INFINITY;
    for (int64_t j = r->hi + 1; j & (VL - 1); j++)
        s[j] = -INFINITY;
}

/* Scores to exponentials in place; their sum by position mod 16. *lse too. */
static float attn_softmax(const struct attn_row *r, float *s, float *lse) {
    int64_t first = r->lo & ~(int64_t)(VL - 1);
    vf mv = v_set(-INFINITY), sum = v_set(0.0f);
    for (int64_t j = first; j <= r->hi; j += VL)
        mv = v_max(mv, v_load(s + j));
    float m = v_hmax(mv);
    if (r->sink && m < *r->sink)
        m = *r->sink;
    for (int64_t j = first; j <= r->hi; j += VL) {
        vf p = v_exp(v_sub(v_load(s + j), v_set(m)));
        v_store(s + j, p);
        sum = v_add(sum, p);
    }
    float l = v_sum(sum);
    if (r->sink)
        l = l + s_exp(*r->sink - m);
    *lse = m + s_log(l);
    return l;
}

static struct attn_row attn_row_at(const struct kern_attn *a, int64_t i,
                                   int h) {
    int64_t lo = a->window > 0 && i - a->window + 1 > 0 ? i - a->window + 1 : 0;
    return (struct attn_row){lo, i, a->scale, a->softcap,
                             a->sinks ? a->sinks + h : NULL};
}

struct attn_run {
    const struct kern_attn *a;
    struct cpu *cpu;
    int64_t Lp, Dp;
};

/* Raw dot products of rows i0 … i0+m with keys j0 … end, into s (m, Lp). */
static void attn_dots(float *s, int64_t Lp, const float *x, int64_t ldx, int m,
                      const float *t, int D, int64_t j0, int64_t end) {
    for (int64_t j = j0; j < end; j += TILE_N)
        tile_run(&(struct tile){.k = D,
                                .a = x,
                                .sa = ldx,
                                .ka = 1,
                                .b = t + j,
                                .ldb = Lp,
                                .c = s + j,
                                .ldc = Lp,
                                .n = TILE_N},
                 m);
}

/* c (m rows of D) (=|+=) x (m, k; rows ldx apart) · p (k, Dp). */
static void attn_times(float *c, int64_t ldc, const float *x, int64_t sx,
                       int64_t kx, int64_t m, const float *p, int64_t Dp, int D,
                       int64_t k, bool acc) {
    for (int d = 0; d < D; d += TILE_N)
        tile_column((struct tile){.k = k,
                                  .a = x,
                                  .sa = sx,
                                  .ka = kx,
                                  .b = p + d,
                                  .ldb = Dp,
                                  .c = c + d,
                                  .ldc = ldc,
                                  .n = D - d < TILE_N ? D - d : TILE_N,
                                  .acc = acc},
                    m);
}

static void attn_block(const struct attn_run *r, const float *kt,
                       const float *vp, float *s, int64_t base, int64_t i0,
                       int m, int h) {
    const struct kern_attn *a = r->a;
    int64_t j0 = attn_row_at(a, i0, h).lo / TILE_N * TILE_N, end = i0 + m;
    const float *q = a->q + (base + i0) * a->ldq + (int64_t)h * a->D;
    float *o = a->o + (base + i0) * a->ldo + (int64_t)h * a->D;
    float l[TILE_M];
    attn_dots(s, r->Lp, q, a->ldq, m, kt, a->D, j0, end);
    for (int i = 0; i < m; i++) {
        struct attn_row row = attn_row_at(a, i0 + i, h);
        float lse, *si = s + i * r->Lp;
        attn_mask(&row, si);
        l[i] = attn_softmax(&row, si, &lse);
        if (a->lse)
            a->lse[(base + i0 + i) * a->H + h] = lse;
        for (int64_t j = j0; j < row.lo; j++)
            si[j] = 0.0f;
        for (int64_t j = row.hi + 1; j < end; j++)
            si[j] = 0.0f;
    }
    attn_times(o, a->ldo, s + j0, r->Lp, 1, m, vp + j0 * r->Dp, r->Dp, a->D,
               end - j0, false);
    for (int i = 0; i < m; i++) {
        float inv = 1.0f / l[i];
        for (int d = 0; d < a->D; d++)
            o[i * a->ldo + d] = o[i * a->ldo + d] * inv;
    }
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
    for (int64_t i = 0; i < L; i += TILE_M)
        attn_block(r, kt, vp, s, base, i,
                   L - i < TILE_M ? (int)(L - i) : TILE_M, h);
}

static int attn_check(const struct kern_attn *a) {
    bool bad = a->D <= 0 || a->K <= 0 || a->H % a->K || a->n_seq < 0;
    for (int i = 0; !bad && i < a->n_seq; i++)
        bad = a->start[i + 1] < a->start[i] || a->start[i + 1] > a->T ||
              a->start[i + 1] - a->start[i] > a->max_len;
    return bad ? KERN_EINVAL : KERN_OK;
}

int ISA(attn)(struct kern *k, const struct kern_attn *a) {
    struct attn_run r = {a, cpu_of(k), attn_round(a->max_len),
                         attn_round(a->D)};
    int rc = attn_check(a);
    size_t floats = (size_t)(r.Lp * (a->D + r.Dp + TILE_M));
    if (rc == KERN_OK)
        rc = cpu_reserve(r.cpu, floats * sizeof(float));
    if (rc == KERN_OK)
        pool_run(r.cpu->pool, a->n_seq * a->H, attn_task, &r);
    return rc;
}

/* ---- backward ---- */

struct attn_bwd {
    float *kt, *vt, *kp, *dk, *dv; /* (D,Lp) (D,Lp) (Lp,Dp) (Lp,Dp) (Lp,Dp) */
    float *p, *ds;                 /* (TILE_M, Lp) */
    float *q, *d_o;                /* (TILE_M, Dp) */
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
    b.ds = b.p + TILE_M * Lp;
    b.q = b.ds + TILE_M * Lp;
    b.d_o = b.q + TILE_M * Dp;
    return b;
}

static float attn_delta(const struct kern_attn *a, int64_t t, int h) {
    const float *o = a->o + t * a->ldo + (int64_t)h * a->D;
    const float *g = a->d_o + t * a->ldo + (int64_t)h * a->D;
    float s = 0.0f;
    for (int d = 0; d < a->D; d++)
        s = fmaf(o[d], g[d], s);
    return s;
}

/* Row i: p and ds over its keys; zeros for the others of j0 … end. */
static void attn_bwd_row(const struct attn_run *r, const struct attn_row *row,
                         float *p, float *ds, float lse, float delta,
                         int64_t j0, int64_t end) {
    float scale = r->a->scale, cap = r->a->softcap;
    attn_mask(row, p);
    for (int64_t j = row->lo & ~(int64_t)(VL - 1); j <= row->hi; j += VL) {
        vf s = v_load(p + j), e = v_exp(v_sub(s, v_set(lse)));
        vf g =
            v_mul(v_mul(e, v_sub(v_load(ds + j), v_set(delta))), v_set(scale));
        if (cap > 0.0f) {
            vf t = v_div(s, v_set(cap));
            vf slope = v_sub(v_set(1.0f), v_mul(t, t));
            g = v_lt(v_set(0.0f), e, v_mul(g, slope), v_set(0.0f));
        }
        v_store(p + j, e);
        v_store(ds + j, g);
    }
    for (int64_t j = j0; j < row->lo; j++)
        p[j] = ds[j] = 0.0f;
    for (int64_t j = row->hi + 1; j < end; j++)
        p[j] = ds[j] = 0.0f;
}

static void attn_bwd_block(const struct attn_run *r, const struct attn_bwd *b,
                           int64_t base, int64_t i0, int m, int h) {
    const struct kern_attn *a = r->a;
    int64_t j0 = attn_row_at(a, i0, h).lo / TILE_N * TILE_N, end = i0 + m;
    int64_t col = (int64_t)h * a->D, t0 = base + i0;
    attn_pack(b->q, a->q + t0 * a->ldq + col, a->ldq, m, a->D, r->Dp);
    attn_pack(b->d_o, a->d_o + t0 * a->ldo + col, a->ldo, m, a->D, r->Dp);
    attn_dots(b->p, r->Lp, b->q, r->Dp, m, b->kt, a->D, j0, end);
    attn_dots(b->ds, r->Lp, b->d_o, r->Dp, m, b->vt, a->D, j0, end);
    for (int i = 0; i < m; i++) {
        struct attn_row row = attn_row_at(a, i0 + i, h);
        attn_bwd_row(r, &row, b->p + i * r->Lp, b->ds + i * r->Lp,
                     a->lse[(t0 + i) * a->H + h], attn_delta(a, t0 + i, h), j0,
                     end);
    }
    attn_times(a->dq + t0 * a->ldq + col, a->ldq, b->ds + j0, r->Lp, 1, m,
               b->kp + j0 * r->Dp, r->Dp, a->D, end - j0, false);
    attn_times(b->dk + j0 * r->Dp, r->Dp, b->ds + j0, 1, r->Lp, end - j0, b->q,
               r->Dp, a->D, m, true);
    attn_times(b->dv + j0 * r->Dp, r->Dp, b->p + j0, 1, r->Lp, end - j0, b->d_o,
               r->Dp, a->D, m, true);
}

static void attn_bwd_task(void *arg, int task, int thread) {
    const struct attn_run *r = arg;
    const struct kern_attn *a = r->a;
    int seq = task / a->K, kv = task % a->K, group = a->H / a->K;
    int64_t base = a->start[seq], L = a->start[seq + 1] - base;
    struct attn_bwd b = attn_bwd_carve(r->cpu->scratch[thread], r);
    const float *k = a->k + base * a->ldk + (int64_t)kv * a->D;
    const float *v = a->v + base * a->ldv + (int64_t)kv * a->D;
    attn_pack_t(b.kt, k, a->ldk, L, a->D, r->Lp);
    attn_pack_t(b.vt, v, a->ldv, L, a->D, r->Lp);
    attn_pack(b.kp, k, a->ldk, L, a->D, r->Dp);
    memset(b.dk, 0, (size_t)(2 * r->Lp * r->Dp) * sizeof(float));
    for (int h = kv * group; h < (kv + 1) * group; h++)
        for (int64_t i = 0; i < L; i += TILE_M)
            attn_bwd_block(r, &b, base, i,
                           L - i < TILE_M ? (int)(L - i) : TILE_M, h);
    for (int64_t j = 0; j < L; j++) {
        size_t row = (size_t)a->D * sizeof(float);
        memcpy(a->dk + (base + j) * a->ldk + (int64_t)kv * a->D,
               b.dk + j * r->Dp, row);
        memcpy(a->dv + (base + j) * a->ldv + (int64_t)kv * a->D,
               b.dv + j * r->Dp, row);
    }
}

/* dsink_h += Σ rows -exp(sink - lse) * delta, a chain over the rows. */
static void attn_dsinks(const struct kern_attn *a) {
    for (int h = 0; h < a->H; h++)
        for (int64_t t = 0; t < a->T; t++) {
            float p = s_exp(a->sinks[h] - a->lse[t * a->H + h]);
            a->dsinks[h] = fmaf(-p, attn_delta(a, t, h), a->dsinks[h]);
        }
}

int ISA(attn_bwd)(struct kern *k, const struct kern_attn *a) {
    struct attn_run r = {a, cpu_of(k), attn_round(a->max_len),
                         attn_round(a->D)};
    int rc = attn_check(a);
    size_t floats =
        (size_t)(r.Lp * (2 * a->D + 3 * r.Dp + 2 * TILE_M) + 2 * TILE_M * r.Dp);
    if (rc == KERN_OK)
        rc = cpu_reserve(r.cpu, floats * sizeof(float));
    if (rc != KERN_OK)
        return rc;
    pool_run(r.cpu->pool, a->n_seq * a->K, attn_bwd_task, &r);
    if (a->dsinks && a->sinks)
        attn_dsinks(a);
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

int ISA(kv_write)(struct kern *k, const struct kern_kv *a) {
    ISA(ranges)(k, a->T, 64, kv_rows, (void *)a);
    return KERN_OK;
}

struct paged_run {
    const struct kern_attn_paged *a;
    struct cpu *cpu;
};

static void paged_dots(const struct kern_attn_paged *a, const float *q,
                       const float *kt, float *s) {
    vf x[KERN_PAGE / VL];
    for (int v = 0; v < KERN_PAGE / VL; v++)
        x[v] = v_set(0.0f);
    for (int d = 0; d < a->D; d++) {
        vf qd = v_set(q[d]);
        for (int v = 0; v < KERN_PAGE / VL; v++)
            x[v] =
                v_fma(qd, v_load(kt + (int64_t)d * KERN_PAGE + v * VL), x[v]);
    }
    for (int v = 0; v < KERN_PAGE / VL; v++)
        v_store(s + v * VL, x[v]);
}

/* o += p[j] v[j] for keys j0 … end of one page, lanes over D. */
static void paged_values(const struct kern_attn_paged *a, const float *p,
                         const float *v, int64_t j0, int64_t end, float *o) {
    for (int d = 0; d < a->D; d += VL) {
        int n = a->D - d < VL ? a->D - d : VL;
        vf x = v_loadn_any(o + d, KERN_F32, 0, n);
        for (int64_t j = j0; j < end; j++)
            x = v_fma(v_set(p[j]), v_loadn_any(v, KERN_F32, j * a->D + d, n),
                      x);
        if (n < VL)
            v_storen(o + d, x, n);
        else
            v_store(o + d, x);
    }
}

static void paged_task(void *arg, int task, int thread) {
    const struct paged_run *r = arg;
    const struct kern_attn_paged *a = r->a;
    int64_t t = task / a->H, pos = a->pos[t];
    int h = task % a->H, kv = h / (a->H / a->K);
    const int32_t *table = a->table + (int64_t)a->seq[t] * a->max_blocks;
    const float *q = a->q + t * a->ldq + (int64_t)h * a->D;
    float *o = a->o + t * a->ldo + (int64_t)h * a->D;
    float *s = r->cpu->scratch[thread], lse;
    struct attn_row row = {
        a->window > 0 && pos - a->window + 1 > 0 ? pos - a->window + 1 : 0, pos,
        a->scale, a->softcap, a->sinks ? a->sinks + h : NULL};
    int64_t head = (int64_t)kv * KERN_PAGE * a->D;
    int64_t first = row.lo / KERN_PAGE, last = pos / KERN_PAGE;
    for (int64_t b = first; b <= last; b++)
        paged_dots(a, q,
                   a->pages + table[b] * kv_page_floats(a->K, a->D) + head,
                   s + b * KERN_PAGE);
    attn_mask(&row, s);
    float l = attn_softmax(&row, s, &lse);
    memset(o, 0, (size_t)a->D * sizeof *o);
    for (int64_t b = first; b <= last; b++) {
        const float *v = a->pages + table[b] * kv_page_floats(a->K, a->D) +
                         (int64_t)a->K * KERN_PAGE * a->D + head;
        int64_t j0 = b == first ? row.lo % KERN_PAGE : 0;
        int64_t end = b == last ? pos % KERN_PAGE + 1 : KERN_PAGE;
        paged_values(a, s + b * KERN_PAGE, v, j0, end, o);
    }
    float inv = 1.0f / l;
    for (int d = 0; d < a->D; d++)
        o[d] = o[d] * inv;
}

int ISA(attn_paged)(struct kern *k, const struct kern_attn_paged *a) {
    if (a->D <= 0 || a->K <= 0 || a->H % a->K)
        return KERN_EINVAL;
    for (int32_t t = 0; t < a->T; t++)
        if (a->pos[t] < 0 || a->pos[t] / KERN_PAGE >= a->max_blocks)
            return KERN_EINVAL;
    struct paged_run r = {a, cpu_of(k)};
    int rc =
        cpu_reserve(r.cpu, (size_t)a->max_blocks * KERN_PAGE * sizeof(float));
    if (rc == KERN_OK)
        pool_run(r.cpu->pool, a->T * a->H, paged_task, &r);
    return rc;
}
