/* norm: rmsnorm over rows, forward and backward. */
#include "kernels/cpu/isa.h"

static float norm_rstd(const struct kern_norm *a, const float *x) {
    int C = a->C;
    float ss = SUM16(C, v_fma(v_load(x + i), v_load(x + i), s_),
                     v_fma(v_loadn(x + i, left), v_loadn(x + i, left), s_));
    return 1.0f / sqrtf(ss / (float)C + a->eps);
}

static void norm_rows(void *arg, int64_t t, int64_t end) {
    const struct kern_norm *a = arg;
    vf plus = v_set(a->plus);
    for (; t < end; t++) {
        const float *x = a->x + t * a->ldx;
        float *y = a->y + t * a->ldy, r = norm_rstd(a, x);
        if (a->rstd)
            a->rstd[t] = r;
        vf rv = v_set(r);
        for (int c = 0; c < a->C; c += VL) {
            int n = a->C - c;
            vf w = v_add(v_get(a->w + c, n), plus);
            v_put(y + c, v_mul(v_mul(v_get(x + c, n), rv), w), n);
        }
    }
}

static bool norm_is_shaped(const struct kern_norm *a) {
    return a->rows >= 0 && a->C > 0 && a->ldx >= a->C && a->ldy >= a->C;
}

int ISA(rmsnorm)(struct kern *k, const struct kern_norm *a) {
    if (!norm_is_shaped(a))
        return KERN_EINVAL;
    ISA(ranges)(k, a->rows, 16 + 4096 / a->C, norm_rows, (void *)a);
    return KERN_OK;
}

/* dx = rstd * (dy*w - xhat * sum16(dy*w*xhat)/C), xhat = x*rstd. */
static void norm_bwd_rows(void *arg, int64_t t, int64_t end) {
    const struct kern_norm *a = arg;
    int C = a->C;
    vf plus = v_set(a->plus);
    for (; t < end; t++) {
        const float *x = a->x + t * a->ldx, *dy = a->dy + t * a->ldy;
        float *dx = a->dx + t * a->ldx;
        vf r = v_set(a->rstd[t]);
#define NORM_G(load) v_mul(load(dy + i), v_add(load(a->w + i), plus))
#define NORM_GN \
    v_mul(v_loadn(dy + i, left), v_add(v_loadn(a->w + i, left), plus))
        float s = SUM16(C, v_fma(NORM_G(v_load), v_mul(v_load(x + i), r), s_),
                        v_fma(NORM_GN, v_mul(v_loadn(x + i, left), r), s_));
        vf m = v_set(s / (float)C);
        for (int64_t i = 0; i < C; i += VL) {
            int64_t left = C - i;
            vf xh = v_mul(v_get(x + i, left), r);
            vf g =
                v_mul(v_get(dy + i, left), v_add(v_get(a->w + i, left), plus));
            vf d = v_mul(r, v_sub(g, v_mul(xh, m)));
            if (a->acc)
                d = v_add(v_get(dx + i, left), d);
            v_put(dx + i, d, left);
        }
#undef NORM_G
#undef NORM_GN
    }
}

static void norm_dw_columns(void *arg, int64_t c, int64_t end) {
    const struct kern_norm *a = arg;
    for (int64_t t = 0; t < a->rows; t++) {
        const float *x = a->x + t * a->ldx, *dy = a->dy + t * a->ldy;
        vf r = v_set(a->rstd[t]);
        for (int64_t i = c; i < end; i += VL) {
            int64_t n = end - i;
            vf xh = v_mul(v_get(x + i, n), r);
            v_put(a->dw + i, v_fma(v_get(dy + i, n), xh, v_get(a->dw + i, n)),
                  n);
        }
    }
}

int ISA(rmsnorm_bwd)(struct kern *k, const struct kern_norm *a) {
    if (!norm_is_shaped(a))
        return KERN_EINVAL;
    if (a->dw) /* first: dx may be dy's memory */
        ISA(ranges)(k, a->C, 64, norm_dw_columns, (void *)a);
    ISA(ranges)(k, a->rows, 16 + 4096 / a->C, norm_bwd_rows, (void *)a);
    return KERN_OK;
}
