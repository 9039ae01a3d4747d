/* embed: rows of a table; backward adds rows in token order, or folds one
 * table's into another. */
#include "kernels/cpu/isa.h"

static void embed_rows(void *arg, int64_t t, int64_t end) {
    const struct kern_embed *a = arg;
    vf s = v_set(a->scale);
    for (; t < end; t++)
        for (int64_t c = 0; c < a->C; c += VL) {
            int n = a->C - c < VL ? (int)(a->C - c) : VL;
            int64_t at = (int64_t)a->tokens[t] * a->C + c;
            vf x = v_mul(v_loadn_any(a->table, a->tt, at, n), s);
            v_put(a->y + t * a->C + c, x, n);
        }
}

static bool embed_is_shaped(const struct kern_embed *a) {
    if (a->T < 0 || a->C <= 0 || (unsigned)a->tt >= KERN_DTYPES)
        return false;
    for (int32_t t = 0; t < a->T; t++)
        if (a->tokens[t] < 0 || a->tokens[t] >= a->V)
            return false;
    return true;
}

int ISA(embed)(struct kern *k, const struct kern_embed *a) {
    if (!embed_is_shaped(a))
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
            int64_t n = end - c;
            float *d = a->dtable + (int64_t)a->tokens[t] * a->C + c;
            vf dy = v_get(a->dy + (int64_t)t * a->C + c, n);
            v_put(d, v_fma(dy, s, v_get(d, n)), n);
        }
    }
}

int ISA(embed_bwd)(struct kern *k, const struct kern_embed *a) {
    if (!embed_is_shaped(a))
        return KERN_EINVAL;
    ISA(ranges)(k, a->C, 64, embed_columns, (void *)a);
    return KERN_OK;
}

static void fold_rows(void *arg, int64_t i, int64_t end) {
    const struct kern_fold *a = arg;
    for (; i < end; i++)
        for (int64_t c = 0; c < a->C; c += VL) {
            int64_t n = a->C - c, at = (int64_t)a->rows[i] * a->C + c;
            v_put(a->y + at, v_add(v_get(a->y + at, n), v_get(a->x + at, n)),
                  n);
            v_put(a->x + at, v_set(0.0f), n);
        }
}

int ISA(fold)(struct kern *k, const struct kern_fold *a) {
    if (a->n < 0 || a->C <= 0)
        return KERN_EINVAL;
    ISA(ranges)(k, a->n, 16, fold_rows, (void *)a);
    return KERN_OK;
}
