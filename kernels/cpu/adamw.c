/* adamw: one fused pass over parameters, moments and gradient. */
#include "kernels/cpu/isa.h"

/* n <= VL parameters of i, out of either form; and back. */
static vf adamw_get(const struct kern_adamw *a, int64_t i, int64_t n) {
    if (a->p)
        return v_get(a->p + i, n);
    uint32_t bits[VL] = {0};
    float p[VL];
    for (int64_t j = 0; j < VL && j < n; j++)
        bits[j] = ((uint32_t)a->hi[i + j] << 16) + (uint32_t)a->lo[i + j];
    memcpy(p, bits, sizeof p);
    return v_load(p);
}

static void adamw_put(const struct kern_adamw *a, int64_t i, vf x, int64_t n) {
    if (a->p) {
        v_put(a->p + i, x, n);
        return;
    }
    uint32_t bits[VL];
    float p[VL];
    v_store(p, x);
    memcpy(bits, p, sizeof bits);
    for (int64_t j = 0; j < VL && j < n; j++) {
        a->hi[i + j] = (uint16_t)((bits[j] + 0x8000u) >> 16);
        a->lo[i + j] = (int16_t)(uint16_t)bits[j];
    }
}

static void adamw_range(void *arg, int64_t i, int64_t end) {
    const struct kern_adamw *a = arg;
    const vf b1 = v_set(a->beta1), b2 = v_set(a->beta2);
    const vf c1 = v_set(1.0f - a->beta1), c2 = v_set(1.0f - a->beta2);
    const vf decay = v_set(1.0f - a->lr * a->weight_decay);
    const vf step = v_set(a->lr / a->bias1), root = v_set(sqrtf(a->bias2));
    const vf eps = v_set(a->eps), gs = v_set(a->gscale);
    for (; i < end; i += VL) {
        int64_t n = end - i;
        vf g = v_mul(v_get(a->g + i, n), gs);
        vf m = v_fma(b1, v_get(a->m + i, n), v_mul(c1, g));
        vf v = v_fma(b2, v_get(a->v + i, n), v_mul(c2, v_mul(g, g)));
        vf d = v_add(v_div(v_sqrt(v), root), eps);
        vf p = v_mul(adamw_get(a, i, n), decay);
        p = v_sub(p, v_mul(step, v_div(m, d)));
        v_put(a->m + i, m, n);
        v_put(a->v + i, v, n);
        adamw_put(a, i, p, n);
    }
}

int ISA(adamw)(struct kern *k, const struct kern_adamw *a) {
    if (a->n < 0 || (!a->p && (!a->hi || !a->lo)))
        return KERN_EINVAL;
    ISA(ranges)(k, a->n, 16384, adamw_range, (void *)a);
    return KERN_OK;
}
