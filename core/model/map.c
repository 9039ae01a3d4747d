/* map: the pieces of a layer that have weights: linear maps, with an adapter's
 * when there is one, biases and norms; forward and backward. */
#include "core/model/int.h"

static void mm(struct net *n, const struct kern_mm *a) {
    kn(n, n->kern->ops->mm(n->kern, a));
}

struct map map_at(const struct net *n, const struct policy *p, enum slot slot,
                  int layer) {
    struct map m = {.is_head = slot == SLOT_HEAD};
    int i = model_index(n->model, slot, layer);
    if (i < 0 && m.is_head) /* tied */
        i = model_index(n->model, SLOT_EMBED, -1);
    const struct weight_info *w = model_info(n->model, i);
    m.in = w->cols;
    m.out = m.ldy = w->rows;
    m.w = m.is_head && p->weights->head ? *p->weights->head : p->weights->w[i];
    m.index = i;
    m.at = model_offset(n->model, i);
    m.lora = adapter_pair(p->adapter, i, m.is_head);
    if (m.lora) {
        m.R = p->adapter->conf.rank;
        m.scaling = p->adapter->scaling;
    }
    return m;
}

void map_forward(struct net *n, const struct map *m, const float *x, int64_t T,
                 float *y, float *s) {
    mm(n, &(struct kern_mm){.form = m->is_turned ? KERN_NN : KERN_NT,
                            .m = (int32_t)T,
                            .n = (int32_t)m->out,
                            .k = (int32_t)m->in,
                            .a = x,
                            .lda = m->in,
                            .b = m->w.dev,
                            .bt = m->w.dtype,
                            .ldb = m->is_turned ? m->out : m->in,
                            .c = y,
                            .ldc = m->ldy});
    if (!m->lora)
        return;
    mm(n, &(struct kern_mm){.form = KERN_NT,
                            .m = (int32_t)T,
                            .n = m->R,
                            .k = (int32_t)m->in,
                            .a = x,
                            .lda = m->in,
                            .b = m->lora->a,
                            .ldb = m->in,
                            .c = s,
                            .ldc = m->R});
    kn(n, n->kern->ops->scale(n->kern, s, m->scaling, T * m->R));
    mm(n, &(struct kern_mm){.form = KERN_NT,
                            .m = (int32_t)T,
                            .n = (int32_t)m->out,
                            .k = m->R,
                            .a = s,
                            .lda = m->R,
                            .b = m->lora->b,
                            .ldb = m->R,
                            .c = y,
                            .ldc = m->ldy,
                            .acc = true});
}

/* c (rows,cols) (=|+=) aᵀ · b over T rows. */
static void grad_add(struct net *n, float *c, bool acc, int64_t rows,
                     int64_t cols, const float *a, int64_t lda, const float *b,
                     int64_t ldb, int64_t T) {
    mm(n, &(struct kern_mm){.form = KERN_TN,
                            .m = (int32_t)rows,
                            .n = (int32_t)cols,
                            .k = (int32_t)T,
                            .a = a,
                            .lda = lda,
                            .b = b,
                            .ldb = ldb,
                            .c = c,
                            .ldc = cols,
                            .acc = acc});
}

static void lora_backward(struct net *n, const struct map *m,
                          struct net_grads *g, const float *x, const float *s,
                          const float *dy, int64_t T, float *dx, float *ds) {
    if (g->adapter)
        grad_add(n, g->adapter + m->lora->b_at, true, m->out, m->R, dy, m->ldy,
                 s, m->R, T);
    mm(n, &(struct kern_mm){.form = KERN_NN,
                            .m = (int32_t)T,
                            .n = m->R,
                            .k = (int32_t)m->out,
                            .a = dy,
                            .lda = m->ldy,
                            .b = m->lora->b,
                            .ldb = m->R,
                            .c = ds,
                            .ldc = m->R});
    kn(n, n->kern->ops->scale(n->kern, ds, m->scaling, T * m->R));
    if (g->adapter)
        grad_add(n, g->adapter + m->lora->a_at, true, m->R, m->in, ds, m->R, x,
                 m->in, T);
    if (!dx)
        return;
    mm(n, &(struct kern_mm){.form = KERN_NN,
                            .m = (int32_t)T,
                            .n = (int32_t)m->in,
                            .k = m->R,
                            .a = ds,
                            .lda = m->R,
                            .b = m->lora->a,
                            .ldb = m->in,
                            .c = dx,
                            .ldc = m->in,
                            .acc = true});
}

int net_grad_set(const struct model *m, struct kern *k, struct net_grads *g,
                 int i) {
    if (!g->unset || !g->unset[i])
        return KERN_OK;
    const struct weight_info *w = model_info(m, i);
    g->unset[i] = false;
    return k->ops->zero(k, g->weights + model_offset(m, i),
                        (size_t)(w->rows * w->cols) * sizeof(float));
}

static void weight_backward(struct net *n, const struct map *m,
                            struct net_grads *g, const float *x,
                            const float *dy, int64_t T) {
    float *dw = g->weights + m->at;
    if (m->is_part)
        kn(n, net_grad_set(n->model, n->kern, g, m->index));
    bool acc = !g->unset || !g->unset[m->index];
    if (m->is_turned)
        grad_add(n, dw, acc, m->in, m->out, x, m->in, dy, m->ldy, T);
    else
        grad_add(n, dw, acc, m->out, m->in, dy, m->ldy, x, m->in, T);
    if (!acc)
        g->unset[m->index] = false;
}

void map_backward(struct net *n, const struct map *m, struct net_grads *g,
                  const float *x, const float *s, const float *dy, int64_t T,
                  float *dx, bool acc, float *ds) {
    if (g->weights)
        weight_backward(n, m, g, x, dy, T);
    if (dx)
        mm(n, &(struct kern_mm){.form = m->is_turned ? KERN_NT : KERN_NN,
                                .m = (int32_t)T,
                                .n = (int32_t)m->in,
                                .k = (int32_t)m->out,
                                .a = dy,
                                .lda = m->ldy,
                                .b = m->w.dev,
                                .bt = m->w.dtype,
                                .ldb = m->is_turned ? m->out : m->in,
                                .c = dx,
                                .ldc = m->in,
                                .acc = acc});
    if (m->lora)
        lora_backward(n, m, g, x, s, dy, T, dx, ds);
}

bool layer_has(const struct net *n, enum slot slot, int layer) {
    return model_index(n->model, slot, layer) >= 0;
}

const float *small_at(const struct net *n, const struct policy *p,
                      enum slot slot, int layer) {
    int i = model_index(n->model, slot, layer);
    return i < 0 ? NULL : p->weights->w[i].dev;
}

float *small_grad(struct net *n, struct net_grads *g, enum slot slot,
                  int layer) {
    int i = model_index(n->model, slot, layer);
    if (i < 0 || !g->weights)
        return NULL;
    kn(n, net_grad_set(n->model, n->kern, g, i));
    return g->weights + model_offset(n->model, i);
}

void bias_add(struct net *n, const struct policy *p, enum slot slot, int layer,
              float *y, int64_t T, int64_t cols) {
    const float *b = small_at(n, p, slot, layer);
    if (b)
        kn(n,
           n->kern->ops->bias(n->kern, y, cols, b, (int32_t)T, (int32_t)cols));
}

void bias_grad(struct net *n, struct net_grads *g, enum slot slot, int layer,
               const float *dy, int64_t T, int64_t cols) {
    float *db = small_grad(n, g, slot, layer);
    if (db)
        kn(n, n->kern->ops->bias_bwd(n->kern, db, dy, cols, (int32_t)T,
                                     (int32_t)cols));
}

static struct kern_norm norm_args(const struct net *n, const float *w,
                                  int64_t rows, int64_t C) {
    return (struct kern_norm){.rows = (int32_t)rows,
                              .C = (int32_t)C,
                              .eps = n->c->norm_eps,
                              .plus = n->c->norm_plus,
                              .w = w,
                              .ldx = C,
                              .ldy = C};
}

void norm_forward(struct net *n, const float *w, const float *x, int64_t rows,
                  int64_t C, float *y, float *rstd) {
    struct kern_norm a = norm_args(n, w, rows, C);
    a.x = x;
    a.y = y;
    a.rstd = rstd;
    kn(n, n->kern->ops->rmsnorm(n->kern, &a));
}

void norm_backward(struct net *n, const struct policy *p, struct net_grads *g,
                   enum slot slot, int layer, const float *x, float *rstd,
                   const float *dy, int64_t rows, int64_t C, float *dx,
                   bool acc) {
    struct kern_norm a = norm_args(n, small_at(n, p, slot, layer), rows, C);
    a.x = x;
    a.rstd = rstd;
    a.dy = dy;
    a.dx = dx;
    a.dw = small_grad(n, g, slot, layer);
    a.acc = acc;
    kn(n, n->kern->ops->rmsnorm_bwd(n->kern, &a));
}
