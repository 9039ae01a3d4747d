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
            int n = a->C - c < VL ? a->C - c : VL;
            vf w =
                v_add(n < VL ? v_loadn(a->w + c, n) : v_load(a->w + c), plus);
            vf xv = n < VL ? v_loadn(x + c, n) : v_load(x + c);
            vf o = v_mul(v_mul(xv, rv), w);
            if (n < VL)
                v_storen(y + c, o, n);
            else
                v_store(y + c, o);
        }
    }
}

int ISA(rmsnorm)(struct kern *k, const struct kern_norm *a) {
    if (a->C <= 0 || a->rows < 0)
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
            int left = C - i < VL ? (int)(C - i) : VL;
            vf xh = v_mul(v_loadn_any(x, KERN_F32, i, left), r);
            vf g = v_mul(v_loadn_any(dy, KERN_F32, i, left),
                         v_add(v_loadn_any(a->w, KERN_F32, i, left), plus));
            vf d = v_mul(r, v_sub(g, v_mul(xh, m)));
            if (a->acc)
                d = v_add(v_loadn_any(dx, KERN_F32, i, left), d);
            if (left < VL)
                v_storen(dx + i, d, left);
            else
                v_store(dx + i, d);
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
            int n = end - i < VL ? (int)(end - i) : VL;
            vf d = v_fma(v_loadn_any(dy, KERN_F32, i, n),
                         v_mul(v_loadn_any(x, KERN_F32, i, n), r),
                         v_loadn_any(a->dw, KERN_F32, i, n));
            if (n < VL)
                v_storen(a->dw + i, d, n);
            else
                v_store(a->dw + i, d);
        }
    }
}

int ISA(rmsnorm_bwd)(struct kern *k, const struct kern_norm *a) {
    if (a->C <= 0 || a->rows < 0)
        return KERN_EINVAL;
    if (a->dw) /* first: dx may be dy's memory */
        ISA(ranges)(k, a->C, 64, norm_dw_columns, (void *)a);
    ISA(ranges)(k, a->rows, 16 + 4096 / a->C, norm_bwd_rows, (void *)a);
    return KERN_OK;
}
