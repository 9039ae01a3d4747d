/* act: gated activations and caps. silu(x) = x σ(x); gelu_tanh as in PyTorch.
 */
#include "kernels/cpu/isa.h"

#define GELU_C 0.7978845608028654f /* sqrt(2/pi) */
#define GELU_A 0.044715f

/* act(x), and its derivative into *d. */
INLINE vf act_of(enum kern_act act, vf x, vf *d) {
    const vf one = v_set(1.0f), half = v_set(0.5f);
    if (act == KERN_SILU) {
        vf s = v_sigmoid(x);
        *d = v_mul(s, v_fma(x, v_sub(one, s), one));
        return v_mul(x, s);
    }
    vf x2 = v_mul(x, x);
    vf u = v_mul(v_mul(v_set(GELU_C), x), v_fma(v_set(GELU_A), x2, one));
    vf t = v_tanh(u);
    vf du = v_mul(v_set(GELU_C), v_fma(v_set(3.0f * GELU_A), x2, one));
    vf dt = v_mul(v_sub(one, v_mul(t, t)), du);
    *d = v_fma(v_mul(half, x), dt, v_mul(half, v_add(one, t)));
    return v_mul(v_mul(half, x), v_add(one, t));
}

static void glu_rows(void *arg, int64_t t, int64_t end) {
    const struct kern_glu *a = arg;
    vf d;
    for (; t < end; t++)
        for (int64_t f = 0; f < a->F; f += VL) {
            int64_t n = a->F - f;
            vf g = v_get(a->gate + t * a->ldg + f, n);
            vf u = v_get(a->up + t * a->ldg + f, n);
            v_put(a->y + t * a->F + f, v_mul(act_of(a->act, g, &d), u), n);
        }
}

static bool glu_is_shaped(const struct kern_glu *a) {
    return a->T >= 0 && a->F > 0 && a->ldg >= a->F &&
           (unsigned)a->act <= KERN_GELU_TANH;
}

int ISA(glu)(struct kern *k, const struct kern_glu *a) {
    if (!glu_is_shaped(a))
        return KERN_EINVAL;
    ISA(ranges)(k, a->T, 1 + 8192 / a->F, glu_rows, (void *)a);
    return KERN_OK;
}

static void glu_bwd_rows(void *arg, int64_t t, int64_t end) {
    const struct kern_glu *a = arg;
    vf d;
    for (; t < end; t++)
        for (int64_t f = 0; f < a->F; f += VL) {
            int64_t n = a->F - f, at = t * a->ldg + f;
            vf g = v_get(a->gate + at, n), u = v_get(a->up + at, n);
            vf dy = v_get(a->dy + t * a->F + f, n);
            vf y = act_of(a->act, g, &d);
            v_put(a->dgate + at, v_mul(v_mul(dy, u), d), n);
            v_put(a->dup + at, v_mul(dy, y), n);
        }
}

int ISA(glu_bwd)(struct kern *k, const struct kern_glu *a) {
    if (!glu_is_shaped(a))
        return KERN_EINVAL;
    ISA(ranges)(k, a->T, 1 + 8192 / a->F, glu_bwd_rows, (void *)a);
    return KERN_OK;
}

static void cap_range(void *arg, int64_t i, int64_t end) {
    const struct kern_cap *a = arg;
    vf cap = v_set(a->cap);
    for (; i < end; i += VL)
        v_put(a->x + i,
              v_mul(cap, v_tanh(v_div(v_get(a->x + i, end - i), cap))),
              end - i);
}

int ISA(cap)(struct kern *k, const struct kern_cap *a) {
    if (a->n < 0 || !(a->cap > 0))
        return KERN_EINVAL;
    ISA(ranges)(k, a->n, 8192, cap_range, (void *)a);
    return KERN_OK;
}

static void cap_bwd_range(void *arg, int64_t i, int64_t end) {
    const struct kern_cap *a = arg;
    vf cap = v_set(a->cap), one = v_set(1.0f);
    for (; i < end; i += VL) {
        vf t = v_div(v_get(a->x + i, end - i), cap);
        vf d = v_sub(one, v_mul(t, t));
        v_put(a->dx + i, v_mul(v_get(a->dx + i, end - i), d), end - i);
    }
}

int ISA(cap_bwd)(struct kern *k, const struct kern_cap *a) {
    if (a->n < 0 || !(a->cap > 0))
        return KERN_EINVAL;
    ISA(ranges)(k, a->n, 8192, cap_bwd_range, (void *)a);
    return KERN_OK;
}
