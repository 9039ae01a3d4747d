/* embed: rows of a table; backward adds rows in token order. */
#include "kernels/cpu/isa.h"

static void embed_rows(void *arg, int64_t t, int64_t end) {
    const struct kern_embed *a = arg;
    vf s = v_set(a->scale);
    for (; t < end; t++)
        for (int64_t c = 0; c < a->C; c += VL) {
            int n = a->C - c < VL ? (int)(a->C - c) : VL;
            int64_t at = (int64_t)a->tokens[t] * a->C + c;
            vf x = v_mul(v_loadn_any(a->table, a->tt, at, n), s);
            if (n < VL)
                v_storen(a->y + t * a->C + c, x, n);
            else
                v_store(a->y + t * a->C + c, x);
        }
}

int ISA(embed)(struct kern *k, const struct kern_embed *a) {
    for (int32_t t = 0; t < a->T; t++)
        if (a->tokens[t] < 0 || a->tokens[t] >= a->V)
            return KERN_EINVAL;
    ISA(ranges)(k, a->T, 16, embed_rows, (void *)a);
    return KERN_OK;
}

static void embed_columns(void *arg, int64_t c0, int64_t end) {
    const struct kern_embed *a = arg;
    vf s = v_set(a->scale);
    for (int32_t t = 0; t < a->T; t++) {
        if (a->tokens[t] == a->skip)
            continue;
        for (int64_t c = c0; c < end; c += VL) {
            int n = end - c < VL ? (int)(end - c) : VL;
            float *d = a->dtable + (int64_t)a->tokens[t] * a->C + c;
            vf x = v_fma(v_loadn_any(a->dy, KERN_F32, (int64_t)t * a->C + c, n),
                         s, v_loadn_any(d, KERN_F32, 0, n));
            if (n < VL)
                v_storen(d, x, n);
            else
                v_store(d, x);
        }
    }
}

int ISA(embed_bwd)(struct kern *k, const struct kern_embed *a) {
    for (int32_t t = 0; t < a->T; t++)
        if (a->tokens[t] < 0 || a->tokens[t] >= a->V)
            return KERN_EINVAL;
    ISA(ranges)(k, a->C, 64, embed_columns, (void *)a);
    return KERN_OK;
}
