/*
 * layer: x += norm(attention(norm(x))); x += norm(mlp(norm(x))), each norm
 * where the family has one; forward and backward. Trainer and sampler differ
 * in the attention kernel alone, which gives the same bits.
 */
#include "core/model/int.h"

#include <math.h>

#define PRE (HAS_NORMS_LLAMA | HAS_NORMS_GEMMA | HAS_NORMS_GLM)
#define POST (HAS_NORMS_OLMO | HAS_NORMS_GEMMA | HAS_NORMS_GLM)
#define QK_NORMS (HAS_QK_NORM | HAS_QK_NORM_WIDE)
#define DENSE (HAS_SPLIT_MLP | HAS_FUSED_MLP)
#define SPARSE (HAS_EXPERTS | HAS_STACKED_EXPERTS)

static float *take_if(struct space *s, bool is_used, int64_t floats) {
    return is_used ? space_take(s, floats) : NULL;
}

/* `at` floats behind x, which is NULL while sizes are only counted. */
static float *behind(float *x, int64_t at) { return x ? x + at : NULL; }

/* Whether such a layer has the map that a->s[i] belongs to. */
static bool layer_adapts(uint32_t has, int i) {
    static const uint32_t in[NET_TARGETS] = {
        [S_Q] = HAS_SPLIT_QKV,  [S_K] = HAS_SPLIT_QKV,
        [S_V] = HAS_SPLIT_QKV,  [S_QKV] = HAS_FUSED_QKV,
        [S_O] = UINT32_MAX,     [S_GATE] = HAS_SPLIT_MLP,
        [S_UP] = HAS_SPLIT_MLP, [S_GATE_UP] = HAS_FUSED_MLP,
        [S_DOWN] = DENSE,
    };
    return has & in[i];
}

void acts_share(struct net *n, uint32_t any, int64_t T) {
    n->h = take_if(&n->keep, any & PRE, T * n->c->C);
    n->act = take_if(&n->keep, any & DENSE, T * n->c->F);
}

void acts_carve(struct net *n, struct acts *a, uint32_t has, int64_t T,
                int32_t R) {
    const struct conf *c = n->c;
    int64_t hd = (int64_t)c->H * c->D, kd = (int64_t)c->K * c->D;
    struct space *s = &n->keep;
    bool fused = has & HAS_FUSED_QKV, norms = has & QK_NORMS;
    bool pre = has & PRE, post = has & POST, dense = has & DENSE;
    a->x = space_take(s, T * c->C);
    a->h1 = a->h2 = n->h;
    a->act = n->act;
    a->rstd1 = take_if(s, pre, T);
    a->q = space_take(s, T * n->ldq);
    a->k = fused ? behind(a->q, hd) : space_take(s, T * kd);
    a->v = fused ? behind(a->k, kd) : space_take(s, T * kd);
    a->qr = norms ? space_take(s, T * hd) : a->q;
    a->kr = norms ? space_take(s, T * kd) : a->k;
    a->rq = take_if(s, norms, T * c->H);
    a->rk = take_if(s, norms, T * c->K);
    a->o = space_take(s, T * hd);
    a->lse = space_take(s, T * c->H);
    a->ao = take_if(s, post, T * c->C);
    a->rstd_ao = take_if(s, post, T);
    a->xm = space_take(s, T * c->C);
    a->rstd2 = take_if(s, pre, T);
    a->gate = take_if(s, dense, T * n->ldg);
    a->up = has & HAS_FUSED_MLP ? behind(a->gate, c->F)
                                : take_if(s, dense, T * c->F);
    a->mo = take_if(s, post, T * c->C);
    a->rstd_mo = take_if(s, post, T);
    for (int i = 0; i < NET_TARGETS; i++)
        a->s[i] = take_if(s, R && layer_adapts(has, i), T * R);
    if (has & SPARSE)
        moe_carve(n, a, T);
}

void back_carve(struct net *n, struct back *b, uint32_t has, int64_t T,
                int32_t R) {
    const struct conf *c = n->c;
    int64_t hd = (int64_t)c->H * c->D, kd = (int64_t)c->K * c->D;
    struct space *s = &n->work;
    bool fused = has & HAS_FUSED_QKV, norms = has & QK_NORMS;
    bool pre = has & PRE, post = has & POST, dense = has & DENSE;
    b->dx = space_take(s, T * c->C);
    b->dh = take_if(s, pre, T * c->C);
    b->dy = take_if(s, post, T * c->C);
    b->dq = space_take(s, T * n->ldq);
    b->dk = fused ? behind(b->dq, hd) : space_take(s, T * kd);
    b->dv = fused ? behind(b->dk, kd) : space_take(s, T * kd);
    b->d_o = space_take(s, T * hd);
    b->dqr = norms ? space_take(s, T * hd) : b->dq;
    b->dkr = norms ? space_take(s, T * kd) : b->dk;
    b->dact = take_if(s, dense, T * c->F);
    b->ds = space_take(s, T * R);
    if (has & SPARSE)
        moe_back_carve(n, b, T);
}

/* ---- attention ---- */

static struct kern_attn attn_args(const struct net *n, const struct policy *p,
                                  int layer, const struct acts *a) {
    const struct conf *c = n->c;
    int64_t hd = (int64_t)c->H * c->D;
    return (struct kern_attn){
        .T = n->T,
        .n_seq = n->n_seq,
        .H = c->H,
        .K = c->K,
        .D = c->D,
        .start = n->d_start,
        .max_len = n->max_len,
        .window = conf_layer_is(c, layer, LAYER_SLIDES) ? c->window : 0,
        .scale = c->attn_scale,
        .softcap = c->attn_cap,
        .sinks = small_at(n, p, SLOT_SINKS, layer),
        .q = a->q,
        .k = a->k,
        .v = a->v,
        .ldq = n->ldq,
        .ldk = n->ldk,
        .ldv = n->ldk,
        .o = a->o,
        .ldo = hd,
        .lse = a->lse,
    };
}

static void attend_paged(struct net *n, const struct kern_attn *k, float *pages,
                         int32_t max_blocks) {
    kn(n, n->kern->ops->kv_write(n->kern, &(struct kern_kv){
                                              .T = n->T,
                                              .K = k->K,
                                              .D = k->D,
                                              .k = k->k,
                                              .v = k->v,
                                              .ldk = k->ldk,
                                              .ldv = k->ldv,
                                              .pages = pages,
                                              .table = n->d_table,
                                              .max_blocks = max_blocks,
                                              .seq = n->d_seq,
                                              .pos = n->d_pos,
                                          }));
    kn(n, n->kern->ops->attn_paged(n->kern, &(struct kern_attn_paged){
                                                .T = n->T,
                                                .H = k->H,
                                                .K = k->K,
                                                .D = k->D,
                                                .window = k->window,
                                                .scale = k->scale,
                                                .softcap = k->softcap,
                                                .sinks = k->sinks,
                                                .q = k->q,
                                                .ldq = k->ldq,
                                                .pages = pages,
                                                .table = n->d_table,
                                                .max_blocks = max_blocks,
                                                .seq = n->d_seq,
                                                .pos = n->d_pos,
                                                .o = k->o,
                                                .ldo = k->ldo,
                                            }));
}

/* x's norm into h, or x itself where the family has none there. */
static const float *normed(struct net *n, const struct policy *p,
                           enum slot slot, int l, const float *x, float *h,
                           float *rstd) {
    const float *w = small_at(n, p, slot, l);
    if (!w)
        return x;
    norm_forward(n, w, x, n->T, n->c->C, h, rstd);
    return h;
}

/* q/k norm's rows a token: heads, or one over the whole width. */
static int32_t norm_heads(const struct net *n, int32_t heads) {
    return n->c->has & HAS_QK_NORM_WIDE ? 1 : heads;
}

static void qk_norms(struct net *n, const struct policy *p, int l,
                     struct acts *a) {
    const struct conf *c = n->c;
    int64_t hd = (int64_t)c->H * c->D, kd = (int64_t)c->K * c->D;
    int32_t h = norm_heads(n, c->H), k = norm_heads(n, c->K);
    norm_forward(n, small_at(n, p, SLOT_Q_NORM, l), a->qr, (int64_t)n->T * h,
                 hd / h, a->q, a->rq);
    norm_forward(n, small_at(n, p, SLOT_K_NORM, l), a->kr, (int64_t)n->T * k,
                 kd / k, a->k, a->rk);
}

static void layer_qkv(struct net *n, const struct policy *p, int l,
                      struct acts *a, const float *h) {
    const struct conf *c = n->c;
    int64_t T = n->T, hd = (int64_t)c->H * c->D, kd = (int64_t)c->K * c->D;
    if (c->has & HAS_FUSED_QKV) {
        struct map m = map_at(n, p, SLOT_QKV, l);
        map_forward(n, &m, h, T, a->q, a->s[S_QKV]);
    } else {
        struct map q = map_at(n, p, SLOT_Q, l), k = map_at(n, p, SLOT_K, l);
        struct map v = map_at(n, p, SLOT_V, l);
        map_forward(n, &q, h, T, a->qr, a->s[S_Q]);
        map_forward(n, &k, h, T, a->kr, a->s[S_K]);
        map_forward(n, &v, h, T, a->v, a->s[S_V]);
    }
    bias_add(n, p, SLOT_Q_BIAS, l, a->qr, T, hd);
    bias_add(n, p, SLOT_K_BIAS, l, a->kr, T, kd);
    bias_add(n, p, SLOT_V_BIAS, l, a->v, T, kd);
    if (layer_has(n, SLOT_Q_NORM, l))
        qk_norms(n, p, l, a);
    rope_apply(n, l, a->q, n->ldq, c->H, false);
    rope_apply(n, l, a->k, n->ldk, c->K, false);
}

static void attn_forward(struct net *n, const struct policy *p, int l,
                         struct kv *kv, int32_t max_blocks) {
    struct acts *a = &n->acts[l];
    int64_t C = n->c->C;
    const float *h = normed(n, p, SLOT_ATTN_NORM, l, a->x, a->h1, a->rstd1);
    layer_qkv(n, p, l, a, h);
    struct kern_attn k = attn_args(n, p, l, a);
    if (kv)
        attend_paged(n, &k, kv_layer(kv, l), max_blocks);
    else
        kn(n, n->kern->ops->attn(n->kern, &k));
    struct map o = map_at(n, p, SLOT_O, l);
    const float *post = small_at(n, p, SLOT_ATTN_POST, l);
    float *y = post ? a->ao : a->xm;
    map_forward(n, &o, a->o, n->T, y, a->s[S_O]);
    bias_add(n, p, SLOT_O_BIAS, l, y, n->T, C);
    if (post)
        norm_forward(n, post, y, n->T, C, a->xm, a->rstd_ao);
    kn(n, n->kern->ops->add(n->kern, a->xm, a->x, n->T * C));
}

/* The gradient of what was normed: dx += from dh, unless dh is dx itself. */
static void unnormed(struct net *n, const struct policy *p, struct net_grads *g,
                     enum slot slot, int l, const float *x, float *rstd,
                     struct back *b) {
    if (layer_has(n, slot, l))
        norm_backward(n, p, g, slot, l, x, rstd, b->dh, n->T, n->c->C, b->dx,
                      true);
}

/* The gradient of a sublayer's output: dx, back through its norm. */
static const float *unposted(struct net *n, const struct policy *p,
                             struct net_grads *g, enum slot slot, int l,
                             const float *y, float *rstd, struct back *b) {
    if (!layer_has(n, slot, l))
        return b->dx;
    norm_backward(n, p, g, slot, l, y, rstd, b->dx, n->T, n->c->C, b->dy,
                  false);
    return b->dy;
}

static void qk_norms_backward(struct net *n, const struct policy *p, int l,
                              struct net_grads *g, struct back *b) {
    const struct conf *c = n->c;
    const struct acts *a = &n->acts[l];
    int64_t hd = (int64_t)c->H * c->D, kd = (int64_t)c->K * c->D;
    int32_t h = norm_heads(n, c->H), k = norm_heads(n, c->K);
    norm_backward(n, p, g, SLOT_Q_NORM, l, a->qr, a->rq, b->dq,
                  (int64_t)n->T * h, hd / h, b->dqr, false);
    norm_backward(n, p, g, SLOT_K_NORM, l, a->kr, a->rk, b->dk,
                  (int64_t)n->T * k, kd / k, b->dkr, false);
}

/* From dq, dk, dv to dh (=|+=), the gradient of h, unless NULL. */
static void qkv_backward(struct net *n, const struct policy *p, int l,
                         struct net_grads *g, struct back *b, const float *h,
                         float *dh, bool acc) {
    const struct conf *c = n->c;
    struct acts *a = &n->acts[l];
    int64_t T = n->T, hd = (int64_t)c->H * c->D, kd = (int64_t)c->K * c->D;
    if (c->has & HAS_FUSED_QKV) {
        struct map m = map_at(n, p, SLOT_QKV, l);
        map_backward(n, &m, g, h, a->s[S_QKV], b->dq, T, dh, acc, b->ds);
        return;
    }
    bias_grad(n, g, SLOT_Q_BIAS, l, b->dqr, T, hd);
    bias_grad(n, g, SLOT_K_BIAS, l, b->dkr, T, kd);
    bias_grad(n, g, SLOT_V_BIAS, l, b->dv, T, kd);
    struct map q = map_at(n, p, SLOT_Q, l), k = map_at(n, p, SLOT_K, l);
    struct map v = map_at(n, p, SLOT_V, l);
    map_backward(n, &q, g, h, a->s[S_Q], b->dqr, T, dh, acc, b->ds);
    map_backward(n, &k, g, h, a->s[S_K], b->dkr, T, dh, true, b->ds);
    map_backward(n, &v, g, h, a->s[S_V], b->dv, T, dh, true, b->ds);
}

static void attn_backward(struct net *n, const struct policy *p, int l,
                          struct net_grads *g, struct back *b) {
    const struct conf *c = n->c;
    struct acts *a = &n->acts[l];
    int64_t T = n->T;
    struct map o = map_at(n, p, SLOT_O, l);
    const float *dy =
        unposted(n, p, g, SLOT_ATTN_POST, l, a->ao, a->rstd_ao, b);
    bias_grad(n, g, SLOT_O_BIAS, l, dy, T, c->C);
    map_backward(n, &o, g, a->o, a->s[S_O], dy, T, b->d_o, false, b->ds);
    struct kern_attn at = attn_args(n, p, l, a);
    at.d_o = b->d_o;
    at.dq = b->dq;
    at.dk = b->dk;
    at.dv = b->dv;
    at.dsinks = small_grad(n, g, SLOT_SINKS, l);
    kn(n, n->kern->ops->attn_bwd(n->kern, &at));
    rope_apply(n, l, b->dq, n->ldq, c->H, true);
    rope_apply(n, l, b->dk, n->ldk, c->K, true);
    if (layer_has(n, SLOT_Q_NORM, l))
        qk_norms_backward(n, p, l, g, b);
    bool pre = layer_has(n, SLOT_ATTN_NORM, l);
    bool is_end = l == 0 && !g->weights; /* nothing below is trained */
    const float *h = normed(n, p, SLOT_ATTN_NORM, l, a->x, a->h1, a->rstd1);
    float *dh = is_end ? NULL : pre ? b->dh : b->dx;
    qkv_backward(n, p, l, g, b, h, dh, !pre);
    if (is_end)
        return;
    unnormed(n, p, g, SLOT_ATTN_NORM, l, a->x, a->rstd1, b);
}

/* ---- mlp ---- */

static struct kern_glu glu_args(const struct net *n, const struct acts *a) {
    return (struct kern_glu){.T = n->T,
                             .F = n->c->F,
                             .act = n->c->act,
                             .gate = a->gate,
                             .up = a->up,
                             .ldg = n->ldg,
                             .y = a->act};
}

static void dense_forward(struct net *n, const struct policy *p, int l,
                          const float *h, float *y) {
    struct acts *a = &n->acts[l];
    struct map down = map_at(n, p, SLOT_DOWN, l);
    if (n->c->has & HAS_FUSED_MLP) {
        struct map m = map_at(n, p, SLOT_GATE_UP, l);
        map_forward(n, &m, h, n->T, a->gate, a->s[S_GATE_UP]);
    } else {
        struct map g = map_at(n, p, SLOT_GATE, l), u = map_at(n, p, SLOT_UP, l);
        map_forward(n, &g, h, n->T, a->gate, a->s[S_GATE]);
        map_forward(n, &u, h, n->T, a->up, a->s[S_UP]);
    }
    struct kern_glu glu = glu_args(n, a);
    kn(n, n->kern->ops->glu(n->kern, &glu));
    map_forward(n, &down, a->act, n->T, y, a->s[S_DOWN]);
}

static void dense_backward(struct net *n, const struct policy *p, int l,
                           struct net_grads *g, struct back *b, const float *h,
                           const float *dy, float *dh, bool acc) {
    struct acts *a = &n->acts[l];
    struct map down = map_at(n, p, SLOT_DOWN, l);
    struct kern_glu glu = glu_args(n, a);
    kn(n, n->kern->ops->glu(n->kern, &glu)); /* act, again */
    map_backward(n, &down, g, a->act, a->s[S_DOWN], dy, n->T, b->dact, false,
                 b->ds);
    glu.dy = b->dact;
    glu.dgate = a->gate; /* the gradients take their places */
    glu.dup = a->up;
    kn(n, n->kern->ops->glu_bwd(n->kern, &glu));
    if (n->c->has & HAS_FUSED_MLP) {
        struct map m = map_at(n, p, SLOT_GATE_UP, l);
        map_backward(n, &m, g, h, a->s[S_GATE_UP], a->gate, n->T, dh, acc,
                     b->ds);
        return;
    }
    struct map m = map_at(n, p, SLOT_GATE, l), u = map_at(n, p, SLOT_UP, l);
    map_backward(n, &m, g, h, a->s[S_GATE], a->gate, n->T, dh, acc, b->ds);
    map_backward(n, &u, g, h, a->s[S_UP], a->up, n->T, dh, true, b->ds);
}

static void mlp_forward(struct net *n, const struct policy *p, int l,
                        float *next) {
    struct acts *a = &n->acts[l];
    int64_t C = n->c->C;
    const float *h = normed(n, p, SLOT_MLP_NORM, l, a->xm, a->h2, a->rstd2);
    const float *post = small_at(n, p, SLOT_MLP_POST, l);
    float *y = post ? a->mo : next;
    if (conf_layer_is(n->c, l, LAYER_SPARSE))
        moe_forward(n, p, l, h, y);
    else
        dense_forward(n, p, l, h, y);
    if (post)
        norm_forward(n, post, y, n->T, C, next, a->rstd_mo);
    kn(n, n->kern->ops->add(n->kern, next, a->xm, n->T * C));
}

static void mlp_backward(struct net *n, const struct policy *p, int l,
                         struct net_grads *g, struct back *b) {
    struct acts *a = &n->acts[l];
    const float *dy = unposted(n, p, g, SLOT_MLP_POST, l, a->mo, a->rstd_mo, b);
    bool pre = layer_has(n, SLOT_MLP_NORM, l);
    const float *h = normed(n, p, SLOT_MLP_NORM, l, a->xm, a->h2, a->rstd2);
    float *dh = pre ? b->dh : b->dx;
    if (conf_layer_is(n->c, l, LAYER_SPARSE))
        moe_backward(n, p, l, g, b, h, dy, dh, !pre);
    else
        dense_backward(n, p, l, g, b, h, dy, dh, !pre);
    unnormed(n, p, g, SLOT_MLP_NORM, l, a->xm, a->rstd2, b);
}

void layer_forward(struct net *n, const struct policy *p, int l, float *next,
                   struct kv *kv, int32_t max_blocks) {
    attn_forward(n, p, l, kv, max_blocks);
    mlp_forward(n, p, l, next);
}

void layer_backward(struct net *n, const struct policy *p, int l,
                    struct net_grads *g, struct back *b) {
    mlp_backward(n, p, l, g, b);
    attn_backward(n, p, l, g, b);
}
