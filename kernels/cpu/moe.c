/* moe: a router's choice, rows to their experts and back, and the clamped
 * activation of experts whose gate and up lie by column. */
#include "kernels/cpu/isa.h"

/* ---- route ---- */

/* p = exp(x - max) over a row of E; returns its sum16. */
static float route_exps(const float *x, int E, float *p) {
    float m = x[0];
    for (int e = 1; e < E; e++)
        m = x[e] > m ? x[e] : m;
    vf max = v_set(m);
    for (int e = 0; e < E; e += VL)
        v_put(p + e, v_exp(v_sub(v_get(x + e, E - e), max)), E - e);
    return SUM16(E, v_add(v_load(p + i), s_), v_add(v_loadn(p + i, left), s_));
}

/* The largest that is not chosen yet; with NaNs any, but each once. */
static int32_t route_best(const float *x, int E, const int32_t *chosen, int n) {
    int32_t best = -1;
    for (int32_t e = 0; e < E; e++) {
        bool free = true;
        for (int i = 0; i < n; i++)
            free &= chosen[i] != e;
        if (free && (best < 0 || x[e] > x[best]))
            best = e;
    }
    return best;
}

static void route_rows(void *arg, int64_t t, int64_t end) {
    const struct kern_route *a = arg;
    float p[KERN_EXPERTS_MAX];
    for (; t < end; t++) {
        const float *x = a->logits + t * a->E;
        int32_t *expert = a->expert + t * a->top;
        float all = route_exps(x, a->E, p), chosen = 0;
        for (int r = 0; r < a->top; r++) {
            expert[r] = route_best(x, a->E, expert, r);
            chosen = chosen + p[expert[r]];
        }
        for (int r = 0; r < a->top; r++)
            a->share[t * a->top + r] = p[expert[r]] / (a->norm ? chosen : all);
    }
}

static bool route_is_shaped(const struct kern_route *a) {
    return a->T >= 0 && a->E > 0 && a->E <= KERN_EXPERTS_MAX && a->top > 0 &&
           a->top <= a->E;
}

int ISA(route)(struct kern *k, const struct kern_route *a) {
    if (!route_is_shaped(a))
        return KERN_EINVAL;
    ISA(ranges)(k, a->T, 16, route_rows, (void *)a);
    return KERN_OK;
}

static void route_bwd_rows(void *arg, int64_t t, int64_t end) {
    const struct kern_route *a = arg;
    float p[KERN_EXPERTS_MAX];
    for (; t < end; t++) {
        const int32_t *expert = a->expert + t * a->top;
        const float *share = a->share + t * a->top;
        const float *dshare = a->dshare + t * a->top;
        float *d = a->dlogits + t * a->E, s = 0;
        float all = a->norm ? 1 : route_exps(a->logits + t * a->E, a->E, p);
        for (int r = 0; r < a->top; r++)
            s = fmaf(share[r], dshare[r], s);
        for (int e = 0; e < a->E; e++)
            d[e] = a->norm ? 0.0f : p[e] / all * (0.0f - s);
        for (int r = 0; r < a->top; r++)
            d[expert[r]] = share[r] * (dshare[r] - s);
    }
}

int ISA(route_bwd)(struct kern *k, const struct kern_route *a) {
    if (!route_is_shaped(a))
        return KERN_EINVAL;
    ISA(ranges)(k, a->T, 16, route_bwd_rows, (void *)a);
    return KERN_OK;
}

/* ---- gather, combine ---- */

static void gather_rows(void *arg, int64_t i, int64_t end) {
    const struct kern_gather *a = arg;
    for (; i < end; i++)
        memcpy(a->y + i * a->C, a->x + (int64_t)a->from[i] * a->C,
               (size_t)a->C * sizeof *a->y);
}

int ISA(gather)(struct kern *k, const struct kern_gather *a) {
    if (a->n < 0 || a->C <= 0)
        return KERN_EINVAL;
    ISA(ranges)(k, a->n, 16, gather_rows, (void *)a);
    return KERN_OK;
}

static void combine_rows(void *arg, int64_t t, int64_t end) {
    const struct kern_combine *a = arg;
    for (; t < end; t++)
        for (int64_t c = 0; c < a->C; c += VL) {
            int64_t n = a->C - c;
            float *y = a->y + t * a->C + c;
            vf sum = a->acc ? v_get(y, n) : v_set(0.0f);
            for (int64_t r = t * a->top; r < (t + 1) * a->top; r++)
                sum = v_fma(v_set(a->share ? a->share[r] : 1.0f),
                            v_get(a->x + (int64_t)a->at[r] * a->C + c, n), sum);
            v_put(y, sum, n);
        }
}

static bool combine_is_shaped(const struct kern_combine *a) {
    return a->T >= 0 && a->top > 0 && a->C > 0;
}

int ISA(combine)(struct kern *k, const struct kern_combine *a) {
    if (!combine_is_shaped(a))
        return KERN_EINVAL;
    ISA(ranges)(k, a->T, 4, combine_rows, (void *)a);
    return KERN_OK;
}

static void combine_bwd_rows(void *arg, int64_t r, int64_t end) {
    const struct kern_combine *a = arg;
    int64_t C = a->C;
    for (; r < end; r++) {
        const float *dy = a->dy + r / a->top * C, *x = a->x + a->at[r] * C;
        float *dx = a->dx + a->at[r] * C;
        vf share = v_set(a->share[r]);
        a->dshare[r] =
            SUM16(C, v_fma(v_load(dy + i), v_load(x + i), s_),
                  v_fma(v_loadn(dy + i, left), v_loadn(x + i, left), s_));
        for (int64_t c = 0; c < C; c += VL)
            v_put(dx + c, v_mul(share, v_get(dy + c, C - c)), C - c);
    }
}

int ISA(combine_bwd)(struct kern *k, const struct kern_combine *a) {
    if (!combine_is_shaped(a))
        return KERN_EINVAL;
    ISA(ranges)(k, (int64_t)a->T * a->top, 8, combine_bwd_rows, (void *)a);
    return KERN_OK;
}

/* ---- swiglu ---- */

/* VL pairs of (gate, up) apart and together; n of them exist. */
static void split_pairs(const float *x, int64_t n, vf *gate, vf *up) {
    float g[VL] = {0}, u[VL] = {0};
    for (int i = 0; i < VL && i < n; i++) {
        g[i] = x[2 * i];
        u[i] = x[2 * i + 1];
    }
    *gate = v_load(g);
    *up = v_load(u);
}

static void join_pairs(float *x, int64_t n, vf gate, vf up) {
    float g[VL], u[VL];
    v_store(g, gate);
    v_store(u, up);
    for (int i = 0; i < VL && i < n; i++) {
        x[2 * i] = g[i];
        x[2 * i + 1] = u[i];
    }
}

static void swiglu_rows(void *arg, int64_t t, int64_t end) {
    const struct kern_swiglu *a = arg;
    vf hi = v_set(a->limit), lo = v_set(-a->limit);
    vf one = v_set(1.0f), alpha = v_set(a->alpha), g, u;
    for (; t < end; t++)
        for (int64_t f = 0; f < a->F; f += VL) {
            split_pairs(a->x + 2 * (t * a->F + f), a->F - f, &g, &u);
            g = v_lt(hi, g, hi, g);
            u = v_lt(hi, u, hi, v_lt(u, lo, lo, u));
            vf y = v_mul(g, v_sigmoid(v_mul(alpha, g)));
            v_put(a->y + t * a->F + f, v_mul(v_add(u, one), y), a->F - f);
        }
}

static bool swiglu_is_shaped(const struct kern_swiglu *a) {
    return a->T >= 0 && a->F > 0 && a->limit > 0;
}

int ISA(swiglu)(struct kern *k, const struct kern_swiglu *a) {
    if (!swiglu_is_shaped(a))
        return KERN_EINVAL;
    ISA(ranges)(k, a->T, 1 + 8192 / a->F, swiglu_rows, (void *)a);
    return KERN_OK;
}

static void swiglu_bwd_rows(void *arg, int64_t t, int64_t end) {
    const struct kern_swiglu *a = arg;
    vf hi = v_set(a->limit), lo = v_set(-a->limit), zero = v_set(0.0f);
    vf one = v_set(1.0f), alpha = v_set(a->alpha), g, u;
    for (; t < end; t++)
        for (int64_t f = 0; f < a->F; f += VL) {
            int64_t n = a->F - f, at = t * a->F + f;
            split_pairs(a->x + 2 * at, n, &g, &u);
            vf gc = v_lt(hi, g, hi, g);
            vf uc = v_lt(hi, u, hi, v_lt(u, lo, lo, u));
            vf dy = v_get(a->dy + at, n);
            vf z = v_mul(alpha, gc), s = v_sigmoid(z);
            vf d = v_mul(s, v_fma(z, v_sub(one, s), one));
            vf dg = v_mul(v_mul(dy, v_add(uc, one)), d);
            vf du = v_mul(dy, v_mul(gc, s));
            dg = v_lt(hi, g, zero, dg);
            du = v_lt(hi, u, zero, v_lt(u, lo, zero, du));
            join_pairs(a->dx + 2 * at, n, dg, du);
        }
}

int ISA(swiglu_bwd)(struct kern *k, const struct kern_swiglu *a) {
    if (!swiglu_is_shaped(a))
        return KERN_EINVAL;
    ISA(ranges)(k, a->T, 1 + 8192 / a->F, swiglu_bwd_rows, (void *)a);
    return KERN_OK;
}
