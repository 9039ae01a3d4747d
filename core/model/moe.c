/*
 * moe: a sparse mlp. Rows are gathered behind each other by expert, within one
 * in token order; each expert's maps run over its rows; a token's output is
 * the chain of its experts' by rank. So a token's bits depend on its own row
 * alone, and an expert's gradients are chains in token order, however a batch
 * is split. How many rows an expert gets is known on the host, which waits for
 * the router once a layer.
 */
#include "core/model/int.h"

#include <string.h>

void moe_carve(struct net *n, struct acts *a, int64_t T) {
    const struct conf *c = n->c;
    struct space *s = &n->keep;
    int64_t P = T * c->top;
    a->logits = space_take(s, T * c->E);
    a->share = space_take(s, P);
    a->expert = (int32_t *)space_take(s, P);
    a->slot = (int32_t *)space_take(s, P);
    a->token = (int32_t *)space_take(s, P);
    a->xgu = space_take(s, 2 * P * c->expert_F);
    a->xact = space_take(s, P * c->expert_F);
    a->xo = space_take(s, P * c->C);
}

void moe_back_carve(struct net *n, struct back *b, int64_t T) {
    const struct conf *c = n->c;
    struct space *s = &n->work;
    int64_t P = T * c->top;
    b->dlogits = space_take(s, T * c->E);
    b->dshare = space_take(s, P);
    b->dxo = space_take(s, P * c->C);
    b->dxact = space_take(s, P * c->expert_F);
    b->dxgu = space_take(s, 2 * P * c->expert_F);
    b->dxe = space_take(s, P * c->C);
}

/* ---- which rows ---- */

/* Sorts the pairs by expert (stable): first, slot, token. */
static void sort_pairs(const struct net *n, struct acts *a,
                       const int32_t *expert, int32_t *slot, int32_t *token) {
    const struct conf *c = n->c;
    int64_t P = (int64_t)n->T * c->top;
    int32_t *next = a->first + 1; /* counts, then an expert's next place */
    memset(a->first, 0, ((size_t)c->E + 1) * sizeof *a->first);
    for (int64_t i = 0; i < P; i++)
        next[expert[i]]++;
    int32_t at = 0;
    for (int e = 0; e < c->E; e++) {
        int32_t count = next[e];
        next[e] = at;
        at += count;
    }
    for (int64_t i = 0; i < P; i++) {
        slot[i] = next[expert[i]]++;
        token[slot[i]] = (int32_t)(i / c->top);
    }
}

static struct kern_route route_args(const struct net *n, const struct acts *a) {
    return (struct kern_route){.T = n->T,
                               .E = n->c->E,
                               .top = n->c->top,
                               .norm = n->c->norm_top,
                               .logits = a->logits,
                               .expert = a->expert,
                               .share = a->share};
}

static void route(struct net *n, struct acts *a) {
    const struct kern_ops *ops = n->kern->ops;
    size_t P = (size_t)n->T * (size_t)n->c->top, bytes = P * sizeof(int32_t);
    int32_t *expert = n->host, *slot = expert + P, *token = slot + P;
    struct kern_route r = route_args(n, a);
    kn(n, ops->route(n->kern, &r));
    kn(n, ops->copy_out(n->kern, expert, a->expert, bytes));
    if (n->rc)
        return;
    sort_pairs(n, a, expert, slot, token);
    kn(n, ops->copy_in(n->kern, a->slot, slot, bytes));
    kn(n, ops->copy_in(n->kern, a->token, token, bytes));
}

static void gather(struct net *n, const struct acts *a, const float *h) {
    kn(n, n->kern->ops->gather(n->kern, &(struct kern_gather){
                                            .n = n->T * n->c->top,
                                            .C = n->c->C,
                                            .from = a->token,
                                            .x = h,
                                            .y = n->xe,
                                        }));
}

/* ---- one expert: maps and biases ---- */

static bool is_stacked(const struct net *n) {
    return n->c->has & HAS_STACKED_EXPERTS;
}

/* Expert e of a slot; ldy as its output lies. */
static struct map expert_map(const struct net *n, const struct policy *p,
                             enum slot slot, int l, int e, int64_t ldy) {
    int i = model_index(n->model, slot, l) + (is_stacked(n) ? 0 : e);
    const struct weight_info *w = model_info(n->model, i);
    struct map m = {.w = p->weights->w[i],
                    .index = i,
                    .at = model_offset(n->model, i),
                    .is_part = is_stacked(n),
                    .in = w->cols,
                    .out = w->rows,
                    .ldy = ldy};
    if (is_stacked(n)) {
        int64_t skip = e * w->shape[1] * w->shape[2];
        m.in = w->shape[1];
        m.out = w->shape[2];
        m.is_turned = true;
        m.at += skip;
        m.w.dev =
            (const char *)m.w.dev + skip * (int64_t)kern_dtype_size(m.w.dtype);
    }
    return m;
}

static void expert_bias(struct net *n, const struct policy *p, enum slot slot,
                        int l, int e, float *y, int32_t rows, int64_t cols) {
    kn(n,
       n->kern->ops->bias(n->kern, y, cols, small_at(n, p, slot, l) + e * cols,
                          rows, (int32_t)cols));
}

static void expert_bias_grad(struct net *n, struct net_grads *g, enum slot slot,
                             int l, int e, const float *dy, int32_t rows,
                             int64_t cols) {
    float *db = small_grad(n, g, slot, l);
    if (db)
        kn(n, n->kern->ops->bias_bwd(n->kern, db + e * cols, dy, cols, rows,
                                     (int32_t)cols));
}

static struct kern_glu glu_args(const struct net *n, const struct acts *a) {
    int64_t F = n->c->expert_F;
    return (struct kern_glu){.T = n->T * n->c->top,
                             .F = (int32_t)F,
                             .act = n->c->act,
                             .gate = a->xgu,
                             .up = a->xgu + F,
                             .ldg = 2 * F,
                             .y = a->xact};
}

static struct kern_swiglu swiglu_args(const struct net *n,
                                      const struct acts *a) {
    return (struct kern_swiglu){.T = n->T * n->c->top,
                                .F = n->c->expert_F,
                                .alpha = n->c->glu_alpha,
                                .limit = n->c->glu_limit,
                                .x = a->xgu,
                                .y = a->xact};
}

/* ---- all experts, map by map ---- */

static void experts_in(struct net *n, const struct policy *p, int l) {
    const struct acts *a = &n->acts[l];
    int64_t F = n->c->expert_F, C = n->c->C;
    for (int e = 0; e < n->c->E; e++) {
        int64_t at = a->first[e];
        int32_t rows = a->first[e + 1] - a->first[e];
        const float *x = n->xe + at * C;
        float *y = a->xgu + at * 2 * F;
        if (rows == 0)
            continue;
        if (is_stacked(n)) {
            struct map m = expert_map(n, p, SLOT_EXPERTS_GATE_UP, l, e, 2 * F);
            map_forward(n, &m, x, rows, y, NULL);
            expert_bias(n, p, SLOT_EXPERTS_GATE_UP_BIAS, l, e, y, rows, 2 * F);
        } else {
            struct map g = expert_map(n, p, SLOT_EXPERT_GATE, l, e, 2 * F);
            struct map u = expert_map(n, p, SLOT_EXPERT_UP, l, e, 2 * F);
            map_forward(n, &g, x, rows, y, NULL);
            map_forward(n, &u, x, rows, y + F, NULL);
        }
    }
}

static void experts_out(struct net *n, const struct policy *p, int l) {
    const struct acts *a = &n->acts[l];
    int64_t F = n->c->expert_F, C = n->c->C;
    enum slot down = is_stacked(n) ? SLOT_EXPERTS_DOWN : SLOT_EXPERT_DOWN;
    for (int e = 0; e < n->c->E; e++) {
        int64_t at = a->first[e];
        int32_t rows = a->first[e + 1] - a->first[e];
        if (rows == 0)
            continue;
        struct map m = expert_map(n, p, down, l, e, C);
        map_forward(n, &m, a->xact + at * F, rows, a->xo + at * C, NULL);
        if (is_stacked(n))
            expert_bias(n, p, SLOT_EXPERTS_DOWN_BIAS, l, e, a->xo + at * C,
                        rows, C);
    }
}

void moe_forward(struct net *n, const struct policy *p, int l, const float *h,
                 float *y) {
    const struct kern_ops *ops = n->kern->ops;
    struct acts *a = &n->acts[l];
    struct map router = map_at(n, p, SLOT_ROUTER, l);
    map_forward(n, &router, h, n->T, a->logits, NULL);
    bias_add(n, p, SLOT_ROUTER_BIAS, l, a->logits, n->T, n->c->E);
    route(n, a);
    if (n->rc)
        return;
    gather(n, a, h);
    experts_in(n, p, l);
    struct kern_glu glu = glu_args(n, a);
    struct kern_swiglu swiglu = swiglu_args(n, a);
    kn(n,
       is_stacked(n) ? ops->swiglu(n->kern, &swiglu) : ops->glu(n->kern, &glu));
    experts_out(n, p, l);
    kn(n, ops->combine(n->kern, &(struct kern_combine){.T = n->T,
                                                       .top = n->c->top,
                                                       .C = n->c->C,
                                                       .at = a->slot,
                                                       .share = a->share,
                                                       .x = a->xo,
                                                       .y = y}));
}

/* ---- backward ---- */

static void experts_out_backward(struct net *n, const struct policy *p, int l,
                                 struct net_grads *g, struct back *b) {
    const struct acts *a = &n->acts[l];
    int64_t F = n->c->expert_F, C = n->c->C;
    enum slot down = is_stacked(n) ? SLOT_EXPERTS_DOWN : SLOT_EXPERT_DOWN;
    for (int e = 0; e < n->c->E; e++) {
        int64_t at = a->first[e];
        int32_t rows = a->first[e + 1] - a->first[e];
        const float *dy = b->dxo + at * C;
        if (rows == 0)
            continue;
        struct map m = expert_map(n, p, down, l, e, C);
        if (is_stacked(n))
            expert_bias_grad(n, g, SLOT_EXPERTS_DOWN_BIAS, l, e, dy, rows, C);
        map_backward(n, &m, g, a->xact + at * F, NULL, dy, rows,
                     b->dxact + at * F, false, NULL);
    }
}

static void experts_in_backward(struct net *n, const struct policy *p, int l,
                                struct net_grads *g, struct back *b) {
    const struct acts *a = &n->acts[l];
    int64_t F = n->c->expert_F, C = n->c->C;
    for (int e = 0; e < n->c->E; e++) {
        int64_t at = a->first[e];
        int32_t rows = a->first[e + 1] - a->first[e];
        const float *x = n->xe + at * C, *dy = b->dxgu + at * 2 * F;
        float *dx = b->dxe + at * C;
        if (rows == 0)
            continue;
        if (is_stacked(n)) {
            struct map m = expert_map(n, p, SLOT_EXPERTS_GATE_UP, l, e, 2 * F);
            expert_bias_grad(n, g, SLOT_EXPERTS_GATE_UP_BIAS, l, e, dy, rows,
                             2 * F);
            map_backward(n, &m, g, x, NULL, dy, rows, dx, false, NULL);
        } else {
            struct map m = expert_map(n, p, SLOT_EXPERT_GATE, l, e, 2 * F);
            struct map u = expert_map(n, p, SLOT_EXPERT_UP, l, e, 2 * F);
            map_backward(n, &m, g, x, NULL, dy, rows, dx, false, NULL);
            map_backward(n, &u, g, x, NULL, dy + F, rows, dx, true, NULL);
        }
    }
}

static void act_backward(struct net *n, const struct acts *a, struct back *b) {
    const struct kern_ops *ops = n->kern->ops;
    struct kern_glu glu = glu_args(n, a);
    struct kern_swiglu swiglu = swiglu_args(n, a);
    glu.dy = swiglu.dy = b->dxact;
    glu.dgate = swiglu.dx = b->dxgu;
    glu.dup = b->dxgu + n->c->expert_F;
    kn(n, is_stacked(n) ? ops->swiglu_bwd(n->kern, &swiglu)
                        : ops->glu_bwd(n->kern, &glu));
}

void moe_backward(struct net *n, const struct policy *p, int l,
                  struct net_grads *g, struct back *b, const float *h,
                  const float *dy, float *dh, bool acc) {
    const struct kern_ops *ops = n->kern->ops;
    struct acts *a = &n->acts[l];
    struct map router = map_at(n, p, SLOT_ROUTER, l);
    struct kern_combine out = {.T = n->T,
                               .top = n->c->top,
                               .C = n->c->C,
                               .at = a->slot,
                               .share = a->share,
                               .x = a->xo,
                               .dy = dy,
                               .dx = b->dxo,
                               .dshare = b->dshare};
    struct kern_combine in = {.T = n->T,
                              .top = n->c->top,
                              .C = n->c->C,
                              .at = a->slot,
                              .x = b->dxe,
                              .y = dh,
                              .acc = acc};
    kn(n, ops->combine_bwd(n->kern, &out));
    gather(n, a, h);
    experts_out_backward(n, p, l, g, b);
    act_backward(n, a, b);
    experts_in_backward(n, p, l, g, b);
    kn(n, ops->combine(n->kern, &in));
    struct kern_route r = route_args(n, a);
    r.dshare = b->dshare;
    r.dlogits = b->dlogits;
    kn(n, ops->route_bwd(n->kern, &r));
    bias_grad(n, g, SLOT_ROUTER_BIAS, l, b->dlogits, n->T, n->c->E);
    map_backward(n, &router, g, h, NULL, b->dlogits, n->T, dh, true, NULL);
}
