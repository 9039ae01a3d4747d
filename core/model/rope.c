/* rope: tables of angles, computed in double by arithmetic that every machine
 * does alike; grown by doubling. */
#include "core/model/int.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PI 3.14159265358979323846

/* Frequency of pair i of `half`, before scaling. */
static double freq_plain(const struct rope_conf *r, int i, int half) {
    return kern_pow(r->theta, -(double)i / half);
}

static double freq_llama3(const struct rope_conf *r, double f) {
    double wave = 2 * PI / f;
    if (wave < r->original_max / r->high_freq_factor)
        return f;
    if (wave > r->original_max / r->low_freq_factor)
        return f / r->factor;
    double smooth = (r->original_max / wave - r->low_freq_factor) /
                    (r->high_freq_factor - r->low_freq_factor);
    return (1 - smooth) * f / r->factor + smooth * f;
}

/* The pair that turns `turns` times within the original context. */
static double yarn_pair(const struct rope_conf *r, double turns, int half) {
    return half * kern_log(r->original_max / (turns * 2 * PI)) /
           kern_log(r->theta);
}

/* Fast pairs keep their frequency, slow ones are divided, a ramp between. */
static double freq_yarn(const struct rope_conf *r, double f, int i, int half) {
    double low = yarn_pair(r, r->beta_fast, half);
    double high = yarn_pair(r, r->beta_slow, half);
    if (r->truncate) {
        low = floor(low);
        high = ceil(high);
    }
    low = low > 0 ? low : 0;
    high = high < 2 * half - 1 ? high : 2 * half - 1;
    if (low == high)
        high += 0.001;
    double ramp = (i - low) / (high - low);
    ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
    return f / r->factor * ramp + f * (1 - ramp);
}

double bf16_round(double v) {
    float x = (float)v; /* to nearest even in 8 bits of mantissa */
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    u = (u + 0x7fff + (u >> 16 & 1)) & 0xffff0000u;
    memcpy(&x, &u, sizeof x);
    return x;
}

static double rope_freq(const struct rope_conf *r, int i, int half) {
    double f = freq_plain(r, i, half);
    switch (r->type) {
    case ROPE_LINEAR: f = f / r->factor; break;
    case ROPE_LLAMA3: f = freq_llama3(r, f); break;
    case ROPE_YARN: f = freq_yarn(r, f, i, half); break;
    case ROPE_LONGROPE: f = f / r->divisor[i]; break;
    default: break;
    }
    return r->is_bf16 ? bf16_round(f) : f;
}

static int rope_fill(struct net *n, int which, int32_t pos) {
    const struct rope_conf *r = &n->c->rope[which];
    const struct kern_ops *ops = n->kern->ops;
    int half = n->c->rot / 2;
    size_t floats = (size_t)pos * (size_t)half, bytes = floats * sizeof(float);
    float *cs = malloc(bytes), *sn = malloc(bytes);
    float *dc = ops->alloc(n->kern, bytes), *ds = ops->alloc(n->kern, bytes);
    n->cos[which] = dc;
    n->sin[which] = ds;
    int rc = cs && sn && dc && ds ? KERN_OK : KERN_ENOMEM;
    for (int i = 0; rc == KERN_OK && i < half; i++) {
        double f = rope_freq(r, i, half);
        for (int32_t p = 0; p < pos; p++) {
            double s, c;
            kern_sincos(p * f, &s, &c);
            cs[(size_t)p * (size_t)half + (size_t)i] = (float)(c * r->scale);
            sn[(size_t)p * (size_t)half + (size_t)i] = (float)(s * r->scale);
        }
    }
    if (rc == KERN_OK)
        rc = ops->copy_in(n->kern, dc, cs, bytes);
    if (rc == KERN_OK)
        rc = ops->copy_in(n->kern, ds, sn, bytes);
    free(cs);
    free(sn);
    return rc;
}

void rope_release(struct net *n) {
    for (int i = 0; i < 2; i++) {
        if (n->cos[i])
            n->kern->ops->free(n->kern, n->cos[i]);
        if (n->sin[i])
            n->kern->ops->free(n->kern, n->sin[i]);
        n->cos[i] = n->sin[i] = NULL;
    }
    n->rope_pos = 0;
}

int rope_fit(struct net *n, int32_t positions, struct err *err) {
    int32_t want = n->rope_pos ? n->rope_pos : 256;
    if (positions > n->c->max_pos)
        return err_set(err, ERR_INVAL,
                       "a sequence of %d tokens; the model's context has %d",
                       positions, n->c->max_pos);
    while (want < positions)
        want *= 2;
    if (want <= n->rope_pos)
        return 0;
    rope_release(n);
    for (int i = 0; i < conf_ropes(n->c); i++) {
        int rc = rope_fill(n, i, want);
        if (rc) {
            rope_release(n);
            return err_kern(err, rc, "rope table");
        }
    }
    n->rope_pos = want;
    return 0;
}

void rope_apply(struct net *n, int layer, float *x, int64_t ldx, int32_t heads,
                bool inverse) {
    int which = n->cos[1] && conf_layer_is(n->c, layer, LAYER_SLIDES);
    if (conf_layer_is(n->c, layer, LAYER_NOPE))
        return;
    kn(n, n->kern->ops->rope(n->kern, &(struct kern_rope){
                                          .T = n->T,
                                          .heads = heads,
                                          .D = n->c->D,
                                          .rot = n->c->rot,
                                          .pairs = n->c->rope_pairs,
                                          .x = x,
                                          .ldx = ldx,
                                          .pos = n->d_pos,
                                          .cos = n->cos[which],
                                          .sin = n->sin[which],
                                          .inverse = inverse,
                                      }));
}
