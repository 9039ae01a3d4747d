/* rope: rotates pairs (i, i + rot/2), or (2i, 2i + 1), of each head by the
 * position's angle. */
#include "kernels/cpu/isa.h"

static void rope_head(float *x, const float *cs, const float *sn, int half,
                      bool inverse, bool pairs) {
    int step = pairs ? 2 : 1, other = pairs ? 1 : half;
    for (int i = 0; i < half; i++) {
        float s = inverse ? -sn[i] : sn[i], *at = x + i * step;
        float a = at[0], b = at[other];
        at[0] = a * cs[i] - b * s;
        at[other] = b * cs[i] + a * s;
    }
}

static void rope_rows(void *arg, int64_t t, int64_t end) {
    const struct kern_rope *a = arg;
    int half = a->rot / 2;
    for (; t < end; t++) {
        int64_t at = (int64_t)a->pos[t] * half;
        for (int h = 0; h < a->heads; h++)
            rope_head(a->x + t * a->ldx + (int64_t)h * a->D, a->cos + at,
                      a->sin + at, half, a->inverse, a->pairs);
    }
}

int ISA(rope)(struct kern *k, const struct kern_rope *a) {
    if (a->T < 0 || a->heads < 0 || a->rot < 0 || a->rot > a->D || a->rot % 2 ||
        a->ldx < (int64_t)a->heads * a->D)
        return KERN_EINVAL;
    ISA(ranges)(k, a->T, 16, rope_rows, (void *)a);
    return KERN_OK;
}
