/* adamw: one fused pass over parameters, moments and gradient. */
#include "kernels/cpu/isa.h"

INLINE vf adamw_at(const float *p, int n) {
    return n < VL ? v_loadn(p, n) : v_load(p);
}

INLINE void adamw_put(float *p, vf x, int n) {
    if (n < VL)
        v_storen(p, x, n);
    else
        v_store(p, x);
}

static void adamw_range(void *arg, int64_t i, int64_t end) {
    const struct kern_adamw *a = arg;
    const vf b1 = v_set(a->beta1), b2 = v_set(a->beta2);
    const vf c1 = v_set(1.0f - a->beta1), c2 = v_set(1.0f - a->beta2);
    const vf decay = v_set(1.0f - a->lr * a->weight_decay);
    const vf step = v_set(a->lr / a->bias1), root = v_set(sqrtf(a->bias2));
    const vf eps = v_set(a->eps), gs = v_set(a->gscale);
    for (; i < end; i += VL) {
        int n = end - i < VL ? (int)(end - i) : VL;
        vf g = v_mul(adamw_at(a->g + i, n), gs);
        vf m = v_fma(b1, adamw_at(a->m + i, n), v_mul(c1, g));
        vf v = v_fma(b2, adamw_at(a->v + i, n), v_mul(c2, v_mul(g, g)));
        vf d = v_add(v_div(v_sqrt(v), root), eps);
        vf p = v_mul(adamw_at(a->p + i, n), decay);
        p = v_sub(p, v_mul(step, v_div(m, d)));
        adamw_put(a->m + i, m, n);
        adamw_put(a->v + i, v, n);
        adamw_put(a->p + i, p, n);
    }
}

int ISA(adamw)(struct kern *k, const struct kern_adamw *a) {
    ISA(ranges)(k, a->n, 16384, adamw_range, (void *)a);
    return KERN_OK;
}
