/* xent: log-softmax at the targets; the token losses; gradients in place. */
#include "kernels/cpu/isa.h"

static float xent_lse(const float *x, int64_t V) {
    vf mv = v_set(-INFINITY);
    int64_t j = 0;
    for (; j + VL <= V; j += VL)
        mv = v_max(mv, v_load(x + j));
    float m = v_hmax(mv);
    for (; j < V; j++)
        m = m < x[j] ? x[j] : m;
    vf mm = v_set(m);
    vf s = v_set(0.0f);
    for (j = 0; j + VL <= V; j += VL)
        s = v_add(s, v_exp(v_sub(v_load(x + j), mm)));
    if (j < V) { /* lanes past the row add exp(-inf) = 0 */
        float tail[VL];
        for (int i = 0; i < VL; i++)
            tail[i] = j + i < V ? x[j + i] : -INFINITY;
        s = v_add(s, v_exp(v_sub(v_load(tail), mm)));
    }
    return m + s_log(v_sum(s));
}

static void xent_rows(void *arg, int64_t r, int64_t end) {
    const struct kern_xent *a = arg;
    for (; r < end; r++) {
        const float *x = a->logits + r * a->ld;
        float lse = xent_lse(x, a->V);
        a->lse[r] = lse;
        for (int i = 0; i < a->k; i++)
            a->logprobs[r * a->k + i] = x[a->targets[r * a->k + i]] - lse;
    }
}

static int xent_check(const struct kern_xent *a) {
    if (a->rows < 0 || a->V <= 0 || a->k < 0 || a->ld < a->V)
        return KERN_EINVAL;
    for (int64_t i = 0; i < (int64_t)a->rows * a->k; i++)
        if (a->targets[i] < 0 || a->targets[i] >= a->V)
            return KERN_EINVAL;
    return KERN_OK;
}

int ISA(xent)(struct kern *k, const struct kern_xent *a) {
    int rc = xent_check(a);
    if (rc == KERN_OK)
        ISA(ranges)(k, a->rows, 4, xent_rows, (void *)a);
    return rc;
}

static void xent_bwd_rows(void *arg, int64_t r, int64_t end) {
    const struct kern_xent *a = arg;
    for (; r < end; r++) {
        float *x = a->logits + r * a->ld;
        const float *g = a->g + r * a->k;
        float sum = 0.0f;
        bool is_used = false;
        for (int i = 0; i < a->k; i++) {
            sum = sum + g[i];
            is_used |= g[i] != 0.0f;
        }
        if (!is_used) { /* whatever its logits are */
            memset(x, 0, (size_t)a->V * sizeof *x);
            continue;
        }
        vf neg = v_set(-sum), lse = v_set(a->lse[r]);
        for (int64_t j = 0; j < a->V; j += VL) {
            vf p = v_exp(v_sub(v_get(x + j, a->V - j), lse));
            v_put(x + j, v_mul(neg, p), a->V - j);
        }
        for (int i = 0; i < a->k; i++)
            x[a->targets[r * a->k + i]] += g[i];
    }
}

int ISA(xent_bwd)(struct kern *k, const struct kern_xent *a) {
    int rc = xent_check(a);
    if (rc == KERN_OK)
        ISA(ranges)(k, a->rows, 4, xent_bwd_rows, (void *)a);
    return rc;
}

static float loss_clip(float r, float lo, float hi) {
    return r < lo ? lo : hi < r ? hi : r;
}

static void loss_token(const struct kern_loss *a, int64_t i) {
    float lp = a->lp[i], loss = 0.0f, g = 0.0f;
    if (a->kind == KERN_LOSS_CE) {
        loss = -a->w[i] * lp;
        g = -a->w[i];
        if (a->w[i] == 0.0f) /* 0 * inf is no loss */
            loss = g = 0.0f;
    } else if (a->A[i] != 0.0f ||
               (a->kind == KERN_LOSS_DRO && a->q[i] < 0.0f)) {
        float A = a->A[i], d = lp - a->q[i];
        float r = a->kind == KERN_LOSS_DRO    ? 0.0f
                  : a->kind == KERN_LOSS_GSPO ? s_exp(a->q[i])
                                              : s_exp(d);
        float c = a->lo ? loss_clip(r, a->lo[i], a->hi[i]) : r;
        switch (a->kind) {
        case KERN_LOSS_IS:
            loss = -(r * A);
            g = loss;
            break;
        case KERN_LOSS_PPO:
        case KERN_LOSS_GSPO:
            loss = r * A <= c * A ? -(r * A) : -(c * A);
            g = r * A <= c * A ? -(r * A) : 0.0f;
            break;
        case KERN_LOSS_CISPO:
            loss = -(c * A * lp);
            g = -(c * A);
            break;
        default: /* DRO */
            loss = -(lp * A - 0.5f * a->beta * d * d);
            g = a->beta * d - A;
            break;
        }
    }
    a->loss[i] = loss;
    a->g[i] = g;
}

static void loss_range(void *arg, int64_t i, int64_t end) {
    for (; i < end; i++)
        loss_token(arg, i);
}

int ISA(loss)(struct kern *k, const struct kern_loss *a) {
    if (a->n < 0 || (unsigned)a->kind >= KERN_LOSS_KINDS)
        return KERN_EINVAL;
    ISA(ranges)(k, a->n, 4096, loss_range, (void *)a);
    return KERN_OK;
}
