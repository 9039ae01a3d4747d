/*
 * net: the forward pass, once, for packed sequences (trainer) and for a paged
 * cache (sampler); the chunked head; the backward pass.
 * Invariants: 1. both ways through a layer call the same kernels on a row, so
 * a row's bits depend on its sequence and the weights only; 2. gradients
 * accumulate as chains in row order, so splitting a batch changes nothing;
 * 3. buffers only grow; in the steady state nothing is allocated.
 * A failed kernel is remembered in net.rc and reported once at the end.
 */
#include "core/model/int.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define NET_HEAD_FLOATS (4 << 20) /* logits held at once */
#define NET_HEAD_ROWS 256
#define NET_TARGETS 7 /* adapted matrices a layer */

/* What a layer leaves for its backward pass; (T, …) f32 each. */
struct acts {
    float *x, *h1, *rstd1;      /* (T,C) (T,C) (T) */
    float *qr, *kr, *rq, *rk;   /* before q/k norm; their rstd (T*H) (T*K) */
    float *q, *k, *v, *o, *lse; /* after rope; attention's output */
    float *xm, *h2, *rstd2;     /* the residual between attention and mlp */
    float *gate, *up, *act;     /* (T,F) */
    float *s[NET_TARGETS]; /* (T,R) x·Aᵀ scaled, of q k v o gate up down */
};

enum { S_Q, S_K, S_V, S_O, S_GATE, S_UP, S_DOWN };

struct space {
    float *dev;
    int64_t cap, used; /* floats */
};

struct net {
    const struct model *model;
    const struct conf *c;
    struct kern *kern;
    int rc;
    struct space keep, work; /* activations; everything else */
    struct acts *acts;       /* (L) */
    int32_t T, n_seq, max_len;
    int32_t *ints; /* dev: tokens, positions, starts, tables */
    int64_t ints_cap;
    int32_t *d_tokens, *d_pos, *d_start, *d_seq, *d_table;
    float *cos, *sin; /* (rope_pos, D/2) dev */
    int32_t rope_pos;
    float *xf, *hf, *rstdf; /* before and after the last norm */
    float *dh;              /* (T,C) gradient of hf, from net_head */
    float *row;             /* (V) host: logits on their way out */
};

static void kn(struct net *n, int rc) {
    if (n->rc == KERN_OK)
        n->rc = rc;
}

static int net_done(struct net *n, const char *what, struct err *err) {
    int rc = n->rc;
    n->rc = KERN_OK;
    return rc ? err_kern(err, rc, what) : 0;
}

struct net *net_new(const struct model *m, struct kern *k, struct err *err) {
    struct net *n = calloc(1, sizeof *n);
    CHECK(n, "out of memory for a net");
    n->model = m;
    n->c = model_conf(m);
    n->kern = k;
    n->acts = calloc((size_t)n->c->L, sizeof *n->acts);
    CHECK(n->acts, "out of memory for a net");
    (void)err;
    return n;
}

void net_free(struct net *n) {
    if (!n)
        return;
    void *dev[] = {n->keep.dev, n->work.dev, n->ints, n->cos, n->sin};
    for (size_t i = 0; i < sizeof dev / sizeof *dev; i++)
        if (dev[i])
            n->kern->ops->free(n->kern, dev[i]);
    free(n->acts);
    free(n->row);
    free(n);
}

/* ---- space ---- */

static float *take(struct space *s, int64_t floats) {
    float *at = s->dev ? s->dev + s->used : NULL;
    s->used += (floats + 15) & ~(int64_t)15;
    return at;
}

/* Carves twice: once to learn the size, once for real. */
static int space_fit(struct net *n, struct space *s, struct err *err) {
    if (s->used <= s->cap)
        return 0;
    if (s->dev)
        n->kern->ops->free(n->kern, s->dev);
    s->cap = 0;
    s->dev = n->kern->ops->alloc(n->kern, (size_t)s->used * sizeof(float));
    if (!s->dev)
        return err_set(err, ERR_NOMEM,
                       "no memory for %lld MiB of activations (make "
                       "batch_size or max_length smaller)",
                       (long long)(s->used >> 18));
    s->cap = s->used;
    return 0;
}

static void carve_acts(struct net *n, struct acts *a, int64_t T, int32_t R) {
    const struct conf *c = n->c;
    int64_t hd = (int64_t)c->H * c->D, kd = (int64_t)c->K * c->D;
    struct space *s = &n->keep;
    a->x = take(s, T * c->C);
    a->h1 = take(s, T * c->C);
    a->rstd1 = take(s, T);
    a->q = take(s, T * hd);
    a->k = take(s, T * kd);
    a->v = take(s, T * kd);
    a->qr = c->qk_norm ? take(s, T * hd) : a->q;
    a->kr = c->qk_norm ? take(s, T * kd) : a->k;
    a->rq = take(s, T * c->H);
    a->rk = take(s, T * c->K);
    a->o = take(s, T * hd);
    a->lse = take(s, T * c->H);
    a->xm = take(s, T * c->C);
    a->h2 = take(s, T * c->C);
    a->rstd2 = take(s, T);
    a->gate = take(s, T * c->F);
    a->up = take(s, T * c->F);
    a->act = take(s, T * c->F);
    for (int i = 0; i < NET_TARGETS; i++)
        a->s[i] = R ? take(s, T * R) : NULL;
}

/* Without keep all layers use the same activations, x apart: it is the
 * residual that the next layer writes. */
static void carve_keep(struct net *n, int64_t T, int32_t R, bool keep) {
    n->keep.used = 0;
    for (int l = 0; l < n->c->L; l++)
        if (l == 0 || keep)
            carve_acts(n, &n->acts[l], T, R);
        else
            n->acts[l] = n->acts[0];
    n->xf = take(&n->keep, T * n->c->C);
    n->hf = take(&n->keep, T * n->c->C);
    n->rstdf = take(&n->keep, T);
    if (!keep && n->c->L > 1)
        for (int l = 1; l < n->c->L; l += 2)
            n->acts[l].x = n->xf; /* two residuals in turn */
}

static int net_space(struct net *n, int64_t T, int32_t R, bool keep,
                     struct err *err) {
    carve_keep(n, T, R, keep);
    if (space_fit(n, &n->keep, err) < 0)
        return -1;
    carve_keep(n, T, R, keep);
    return 0;
}

static int net_ints(struct net *n, int64_t want, struct err *err) {
    if (want <= n->ints_cap)
        return 0;
    if (n->ints)
        n->kern->ops->free(n->kern, n->ints);
    n->ints_cap = 0;
    n->ints = n->kern->ops->alloc(n->kern, (size_t)want * sizeof *n->ints);
    if (!n->ints)
        return err_kern(err, KERN_ENOMEM, "token ids");
    n->ints_cap = want;
    return 0;
}

static int32_t *put_ints(struct net *n, int32_t **at, const int32_t *host,
                         int64_t count) {
    int32_t *dev = *at;
    kn(n,
       n->kern->ops->copy_in(n->kern, dev, host, (size_t)count * sizeof *host));
    *at += count;
    return dev;
}

/* ---- rope ---- */

static double rope_plain(const struct conf *c, int i) {
    const struct rope_conf *r = &c->rope;
    double f = pow(r->theta, -2.0 * i / c->D);
    if (r->type == ROPE_LINEAR)
        return f / r->factor;
    if (r->type != ROPE_LLAMA3)
        return f;
    double wave = 2 * 3.14159265358979323846 / f;
    if (wave < r->original_max / r->high_freq_factor)
        return f;
    if (wave > r->original_max / r->low_freq_factor)
        return f / r->factor;
    double smooth = (r->original_max / wave - r->low_freq_factor) /
                    (r->high_freq_factor - r->low_freq_factor);
    return (1 - smooth) * f / r->factor + smooth * f;
}

static double rope_freq(const struct conf *c, int i) {
    double f = rope_plain(c, i);
    if (!c->rope.is_bf16)
        return f;
    float x = (float)f; /* to nearest even in 8 bits of mantissa */
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    u = (u + 0x7fff + (u >> 16 & 1)) & 0xffff0000u;
    memcpy(&x, &u, sizeof x);
    return x;
}

static int rope_fill(struct net *n, int32_t pos, struct err *err) {
    int half = n->c->D / 2;
    size_t floats = (size_t)pos * (size_t)half;
    float *cs = malloc(floats * sizeof *cs), *sn = malloc(floats * sizeof *sn);
    float *dc = n->kern->ops->alloc(n->kern, floats * sizeof *cs);
    float *ds = n->kern->ops->alloc(n->kern, floats * sizeof *sn);
    bool ok = cs && sn && dc && ds;
    for (int i = 0; ok && i < half; i++) {
        double f = rope_freq(n->c, i);
        for (int32_t p = 0; p < pos; p++) {
            cs[(size_t)p * (size_t)half + (size_t)i] = (float)cos(p * f);
            sn[(size_t)p * (size_t)half + (size_t)i] = (float)sin(p * f);
        }
    }
    if (ok) {
        kn(n, n->kern->ops->copy_in(n->kern, dc, cs, floats * sizeof *cs));
        kn(n, n->kern->ops->copy_in(n->kern, ds, sn, floats * sizeof *sn));
        if (n->cos)
            n->kern->ops->free(n->kern, n->cos);
        if (n->sin)
            n->kern->ops->free(n->kern, n->sin);
        n->cos = dc;
        n->sin = ds;
        n->rope_pos = pos;
    }
    free(cs);
    free(sn);
    return ok ? 0 : err_kern(err, KERN_ENOMEM, "rope table");
}

static int net_rope(struct net *n, int32_t positions, struct err *err) {
    int32_t want = n->rope_pos ? n->rope_pos : 256;
    if (positions > n->c->max_pos)
        return err_set(err, ERR_INVAL,
                       "a sequence of %d tokens; the model's context has %d",
                       positions, n->c->max_pos);
    while (want < positions)
        want *= 2;
    return want <= n->rope_pos ? 0 : rope_fill(n, want, err);
}

static void rope_apply(struct net *n, float *x, int32_t heads, int32_t T,
                       bool inverse) {
    kn(n, n->kern->ops->rope(n->kern, &(struct kern_rope){
                                          .T = T,
                                          .heads = heads,
                                          .D = n->c->D,
                                          .rot = n->c->D,
                                          .x = x,
                                          .ldx = (int64_t)heads * n->c->D,
                                          .pos = n->d_pos,
                                          .cos = n->cos,
                                          .sin = n->sin,
                                          .inverse = inverse,
                                      }));
}

/* ---- linear maps, with an adapter's when there is one ---- */

struct map {
    int index; /* weight */
    bool is_head;
    int64_t in, out;
    const struct weight *w;
    const struct lora_pair *lora; /* NULL = none */
    int32_t R;
    float scaling;
};

static struct map map_at(const struct net *n, const struct policy *p,
                         enum slot slot, int layer) {
    struct map m = {.is_head = slot == SLOT_HEAD};
    m.index = model_index(n->model, slot, layer);
    if (m.index < 0) /* a tied head */
        m.index = model_index(n->model, SLOT_EMBED, -1);
    const struct weight_info *i = model_info(n->model, m.index);
    m.in = i->cols;
    m.out = i->rows;
    m.w = m.is_head && p->weights->head ? p->weights->head
                                        : &p->weights->w[m.index];
    m.lora = adapter_pair(p->adapter, m.index, m.is_head);
    if (m.lora) {
        m.R = p->adapter->conf.rank;
        m.scaling = p->adapter->scaling;
    }
    return m;
}

static void mm(struct net *n, enum kern_mm_form form, int64_t rows,
               int64_t cols, int64_t k, const float *a, const void *b,
               enum kern_dtype bt, float *c, bool acc) {
    kn(n, n->kern->ops->mm(n->kern, &(struct kern_mm){
                                        .form = form,
                                        .m = (int32_t)rows,
                                        .n = (int32_t)cols,
                                        .k = (int32_t)k,
                                        .a = a,
                                        .lda = form == KERN_TN ? rows : k,
                                        .b = b,
                                        .bt = bt,
                                        .ldb = form == KERN_NT ? k : cols,
                                        .c = c,
                                        .ldc = cols,
                                        .acc = acc,
                                    }));
}

/* y (T,out) = x (T,in) · Wᵀ + s · Bᵀ, s (T,R) = scaling * x · Aᵀ. */
static void map_forward(struct net *n, const struct map *m, const float *x,
                        int64_t T, float *y, float *s) {
    mm(n, KERN_NT, T, m->out, m->in, x, m->w->dev, m->w->dtype, y, false);
    if (!m->lora)
        return;
    mm(n, KERN_NT, T, m->R, m->in, x, m->lora->a, KERN_F32, s, false);
    kn(n, n->kern->ops->scale(n->kern, s, m->scaling, T * m->R));
    mm(n, KERN_NT, T, m->out, m->R, s, m->lora->b, KERN_F32, y, true);
}

/* dx (=|+=) gradient of x; weights' and adapter's gradients +=. ds (T,R) is
 * work space. */
static void map_backward(struct net *n, const struct map *m,
                         struct net_grads *g, const float *x, const float *s,
                         const float *dy, int64_t T, float *dx, bool acc,
                         float *ds) {
    if (g->weights) {
        float *dw = m->is_head && g->head
                        ? g->head
                        : g->weights + model_offset(n->model, m->index);
        mm(n, KERN_TN, m->out, m->in, T, dy, x, KERN_F32, dw, true);
    }
    mm(n, KERN_NN, T, m->in, m->out, dy, m->w->dev, m->w->dtype, dx, acc);
    if (!m->lora)
        return;
    if (g->adapter)
        mm(n, KERN_TN, m->out, m->R, T, dy, s, KERN_F32,
           g->adapter + m->lora->b_at, true);
    mm(n, KERN_NN, T, m->R, m->out, dy, m->lora->b, KERN_F32, ds, false);
    kn(n, n->kern->ops->scale(n->kern, ds, m->scaling, T * m->R));
    if (g->adapter)
        mm(n, KERN_TN, m->R, m->in, T, ds, x, KERN_F32,
           g->adapter + m->lora->a_at, true);
    mm(n, KERN_NN, T, m->in, m->R, ds, m->lora->a, KERN_F32, dx, true);
}

static const float *small_at(const struct net *n, const struct policy *p,
                             enum slot slot, int layer) {
    int i = model_index(n->model, slot, layer);
    return i < 0 ? NULL : p->weights->w[i].dev;
}

static void bias_add(struct net *n, const struct policy *p, enum slot slot,
                     int layer, float *y, int64_t T, int64_t cols) {
    const float *b = small_at(n, p, slot, layer);
    if (b)
        kn(n,
           n->kern->ops->bias(n->kern, y, cols, b, (int32_t)T, (int32_t)cols));
}

static void bias_grad(struct net *n, struct net_grads *g, enum slot slot,
                      int layer, const float *dy, int64_t T, int64_t cols) {
    int i = model_index(n->model, slot, layer);
    if (i >= 0 && g->weights)
        kn(n, n->kern->ops->bias_bwd(n->kern,
                                     g->weights + model_offset(n->model, i), dy,
                                     cols, (int32_t)T, (int32_t)cols));
}

static struct kern_norm norm_args(const struct net *n, const float *w,
                                  int64_t rows, int64_t C) {
    return (struct kern_norm){.rows = (int32_t)rows,
                              .C = (int32_t)C,
                              .eps = n->c->norm_eps,
                              .w = w,
                              .ldx = C,
                              .ldy = C};
}

static void norm_forward(struct net *n, const float *w, const float *x,
                         int64_t rows, int64_t C, float *y, float *rstd) {
    struct kern_norm a = norm_args(n, w, rows, C);
    a.x = x;
    a.y = y;
    a.rstd = rstd;
    kn(n, n->kern->ops->rmsnorm(n->kern, &a));
}

static void norm_backward(struct net *n, const struct policy *p,
                          struct net_grads *g, enum slot slot, int layer,
                          const float *x, float *rstd, const float *dy,
                          int64_t rows, int64_t C, float *dx, bool acc) {
    int i = model_index(n->model, slot, layer);
    struct kern_norm a = norm_args(n, p->weights->w[i].dev, rows, C);
    a.x = x;
    a.rstd = rstd;
    a.dy = dy;
    a.dx = dx;
    a.dw = g->weights ? g->weights + model_offset(n->model, i) : NULL;
    a.acc = acc;
    kn(n, n->kern->ops->rmsnorm_bwd(n->kern, &a));
}

/* ---- a layer ---- */

static struct kern_attn attn_args(const struct net *n, int layer,
                                  const struct acts *a) {
    const struct conf *c = n->c;
    int64_t hd = (int64_t)c->H * c->D, kd = (int64_t)c->K * c->D;
    return (struct kern_attn){
        .T = n->T,
        .n_seq = n->n_seq,
        .H = c->H,
        .K = c->K,
        .D = c->D,
        .start = n->d_start,
        .max_len = n->max_len,
        .window = conf_slides(c, layer) ? c->window : 0,
        .scale = (float)(1.0 / sqrt((double)c->D)),
        .q = a->q,
        .k = a->k,
        .v = a->v,
        .ldq = hd,
        .ldk = kd,
        .ldv = kd,
        .o = a->o,
        .ldo = hd,
        .lse = a->lse,
    };
}

static void attend_paged(struct net *n, int layer, const struct acts *a,
                         struct kv *kv, int32_t max_blocks) {
    struct kern_attn k = attn_args(n, layer, a);
    float *pages = kv_layer(kv, layer);
    kn(n, n->kern->ops->kv_write(n->kern, &(struct kern_kv){
                                              .T = n->T,
                                              .K = k.K,
                                              .D = k.D,
                                              .k = k.k,
                                              .v = k.v,
                                              .ldk = k.ldk,
                                              .ldv = k.ldv,
                                              .pages = pages,
                                              .table = n->d_table,
                                              .max_blocks = max_blocks,
                                              .seq = n->d_seq,
                                              .pos = n->d_pos,
                                          }));
    kn(n, n->kern->ops->attn_paged(n->kern, &(struct kern_attn_paged){
                                                .T = n->T,
                                                .H = k.H,
                                                .K = k.K,
                                                .D = k.D,
                                                .window = k.window,
                                                .scale = k.scale,
                                                .q = k.q,
                                                .ldq = k.ldq,
                                                .pages = pages,
                                                .table = n->d_table,
                                                .max_blocks = max_blocks,
                                                .seq = n->d_seq,
                                                .pos = n->d_pos,
                                                .o = k.o,
                                                .ldo = k.ldo,
                                            }));
}

static void layer_qkv(struct net *n, const struct policy *p, int l,
                      struct acts *a) {
    const struct conf *c = n->c;
    int64_t T = n->T, hd = (int64_t)c->H * c->D, kd = (int64_t)c->K * c->D;
    struct map q = map_at(n, p, SLOT_Q, l), k = map_at(n, p, SLOT_K, l);
    struct map v = map_at(n, p, SLOT_V, l);
    norm_forward(n, small_at(n, p, SLOT_ATTN_NORM, l), a->x, T, c->C, a->h1,
                 a->rstd1);
    map_forward(n, &q, a->h1, T, a->qr, a->s[S_Q]);
    map_forward(n, &k, a->h1, T, a->kr, a->s[S_K]);
    map_forward(n, &v, a->h1, T, a->v, a->s[S_V]);
    bias_add(n, p, SLOT_Q_BIAS, l, a->qr, T, hd);
    bias_add(n, p, SLOT_K_BIAS, l, a->kr, T, kd);
    bias_add(n, p, SLOT_V_BIAS, l, a->v, T, kd);
    if (c->qk_norm) {
        norm_forward(n, small_at(n, p, SLOT_Q_NORM, l), a->qr, T * c->H, c->D,
                     a->q, a->rq);
        norm_forward(n, small_at(n, p, SLOT_K_NORM, l), a->kr, T * c->K, c->D,
                     a->k, a->rk);
    }
    rope_apply(n, a->q, c->H, n->T, false);
    rope_apply(n, a->k, c->K, n->T, false);
}

/* y = x + map(in): the map's output, then the residual on top. */
static void layer_residual(struct net *n, const struct map *m, const float *in,
                           float *s, const float *x, float *y) {
    map_forward(n, m, in, n->T, y, s);
    kn(n, n->kern->ops->add(n->kern, y, x, n->T * m->out));
}

static void layer_forward(struct net *n, const struct policy *p, int l,
                          float *next, struct kv *kv, int32_t max_blocks) {
    const struct conf *c = n->c;
    struct acts *a = &n->acts[l];
    layer_qkv(n, p, l, a);
    if (kv) {
        attend_paged(n, l, a, kv, max_blocks);
    } else {
        struct kern_attn k = attn_args(n, l, a);
        kn(n, n->kern->ops->attn(n->kern, &k));
    }
    struct map o = map_at(n, p, SLOT_O, l), down = map_at(n, p, SLOT_DOWN, l);
    struct map g = map_at(n, p, SLOT_GATE, l), u = map_at(n, p, SLOT_UP, l);
    map_forward(n, &o, a->o, n->T, a->xm, a->s[S_O]);
    bias_add(n, p, SLOT_O_BIAS, l, a->xm, n->T, c->C);
    kn(n, n->kern->ops->add(n->kern, a->xm, a->x, (int64_t)n->T * c->C));
    norm_forward(n, small_at(n, p, SLOT_MLP_NORM, l), a->xm, n->T, c->C, a->h2,
                 a->rstd2);
    map_forward(n, &g, a->h2, n->T, a->gate, a->s[S_GATE]);
    map_forward(n, &u, a->h2, n->T, a->up, a->s[S_UP]);
    kn(n, n->kern->ops->glu(n->kern, &(struct kern_glu){.T = n->T,
                                                        .F = c->F,
                                                        .act = KERN_SILU,
                                                        .gate = a->gate,
                                                        .up = a->up,
                                                        .ldg = c->F,
                                                        .y = a->act}));
    layer_residual(n, &down, a->act, a->s[S_DOWN], a->xm, next);
}

/* Embedding, layers, last norm; with a cache or without. */
static void net_layers(struct net *n, const struct policy *p, struct kv *kv,
                       int32_t max_blocks) {
    const struct conf *c = n->c;
    const struct weight *e =
        &p->weights->w[model_index(n->model, SLOT_EMBED, -1)];
    kn(n, n->kern->ops->embed(n->kern, &(struct kern_embed){
                                           .T = n->T,
                                           .C = c->C,
                                           .V = c->V,
                                           .tokens = n->d_tokens,
                                           .table = e->dev,
                                           .tt = e->dtype,
                                           .scale = 1.0f,
                                           .y = n->acts[0].x,
                                       }));
    for (int l = 0; l < c->L; l++)
        layer_forward(n, p, l, l + 1 < c->L ? n->acts[l + 1].x : n->xf, kv,
                      max_blocks);
    norm_forward(n, small_at(n, p, SLOT_NORM, -1), n->xf, n->T, c->C, n->hf,
                 n->rstdf);
}

static int check_tokens(const struct net *n, const int32_t *tokens, int32_t T,
                        struct err *err) {
    for (int32_t t = 0; t < T; t++)
        if (tokens[t] < 0 || tokens[t] >= n->c->V)
            return err_set(err, ERR_INVAL,
                           "token %d at position %d: the vocabulary has %d",
                           tokens[t], t, n->c->V);
    return 0;
}

int net_pass(struct net *n, const struct policy *p, const struct net_batch *b,
             bool keep, struct err *err) {
    int32_t R = p->adapter ? p->adapter->conf.rank : 0;
    n->T = b->T;
    n->n_seq = b->n_seq;
    n->max_len = 0;
    for (int32_t s = 0; s < b->n_seq; s++)
        if (b->start[s + 1] - b->start[s] > n->max_len)
            n->max_len = b->start[s + 1] - b->start[s];
    if (check_tokens(n, b->tokens, b->T, err) < 0 ||
        net_rope(n, n->max_len, err) < 0 ||
        net_space(n, b->T, R, keep, err) < 0 ||
        net_ints(n, 2 * (int64_t)b->T + b->n_seq + 1, err) < 0)
        return -1;
    int32_t *pos = malloc(((size_t)b->T + 1) * sizeof *pos), *at = n->ints;
    CHECK(pos, "out of memory for positions");
    for (int32_t s = 0; s < b->n_seq; s++)
        for (int32_t t = b->start[s]; t < b->start[s + 1]; t++)
            pos[t] = t - b->start[s];
    n->d_tokens = put_ints(n, &at, b->tokens, b->T);
    n->d_pos = put_ints(n, &at, pos, b->T);
    n->d_start = put_ints(n, &at, b->start, b->n_seq + 1);
    free(pos);
    net_layers(n, p, NULL, 0);
    return net_done(n, "forward pass", err);
}

/* ---- the head ---- */

static int32_t head_rows(const struct net *n, int32_t T) {
    int32_t rows = NET_HEAD_FLOATS / n->c->V;
    rows = rows < 16 ? 16 : rows > NET_HEAD_ROWS ? NET_HEAD_ROWS : rows;
    return rows < T ? rows : T;
}

struct head_space {
    float *logits, *s, *ds, *lse, *lp, *g, *dh;
    int32_t *targets;
};

static void carve_head(struct net *n, struct head_space *h, int64_t rows,
                       int32_t k, int32_t R, int64_t dh_rows) {
    n->work.used = 0;
    h->dh = take(&n->work, dh_rows * n->c->C);
    h->logits = take(&n->work, rows * n->c->V);
    h->s = take(&n->work, rows * R);
    h->ds = take(&n->work, rows * R);
    h->lse = take(&n->work, rows);
    h->lp = take(&n->work, rows * k);
    h->g = take(&n->work, rows * k);
    h->targets = (int32_t *)take(&n->work, rows * k);
}

static int head_space(struct net *n, struct head_space *h, int64_t rows,
                      int32_t k, int32_t R, int64_t dh_rows, struct err *err) {
    carve_head(n, h, rows, k, R, dh_rows);
    if (space_fit(n, &n->work, err) < 0)
        return -1;
    carve_head(n, h, rows, k, R, dh_rows);
    return 0;
}

static struct kern_xent xent_args(const struct net *n,
                                  const struct head_space *w, int32_t rows,
                                  int32_t k) {
    return (struct kern_xent){.rows = rows,
                              .V = n->c->V,
                              .k = k,
                              .logits = w->logits,
                              .ld = n->c->V,
                              .targets = w->targets,
                              .logprobs = w->lp,
                              .lse = w->lse,
                              .g = w->g};
}

/* Logits and logprobs of `rows` hidden rows x. */
static void head_logprobs(struct net *n, const struct map *m,
                          struct head_space *w, const float *x, int32_t rows,
                          int32_t k, const int32_t *targets, float *logprobs) {
    const struct kern_ops *ops = n->kern->ops;
    size_t bytes = (size_t)rows * (size_t)k * sizeof(float);
    map_forward(n, m, x, rows, w->logits, w->s);
    kn(n, ops->copy_in(n->kern, w->targets, targets, bytes));
    struct kern_xent a = xent_args(n, w, rows, k);
    kn(n, ops->xent(n->kern, &a));
    kn(n, ops->copy_out(n->kern, logprobs, w->lp, bytes));
}

static int head_chunk(struct net *n, const struct map *m,
                      const struct net_head *h, struct head_space *w,
                      int32_t first, int32_t rows, float *g, struct err *err) {
    const struct kern_ops *ops = n->kern->ops;
    const float *x = n->hf + (int64_t)first * n->c->C;
    int64_t at = (int64_t)first * h->k, count = (int64_t)rows * h->k;
    head_logprobs(n, m, w, x, rows, h->k, h->targets + at, h->logprobs + at);
    if (!h->loss || n->rc)
        return 0;
    if (h->loss(h->arg, first, rows, h->logprobs + at, g, err) < 0)
        return -1;
    float *dh = w->dh + (int64_t)first * n->c->C;
    bool zero = true;
    for (int64_t i = 0; i < count; i++)
        zero &= g[i] == 0.0f;
    if (zero) { /* exact: these rows would add zeros */
        kn(n,
           ops->zero(n->kern, dh, (size_t)rows * (size_t)n->c->C * sizeof *dh));
        return 0;
    }
    kn(n, ops->copy_in(n->kern, w->g, g, (size_t)count * sizeof *g));
    struct kern_xent a = xent_args(n, w, rows, h->k);
    kn(n, ops->xent_bwd(n->kern, &a));
    map_backward(n, m, h->grads, x, w->s, w->logits, rows, dh, false, w->ds);
    return 0;
}

int net_head(struct net *n, const struct policy *p, const struct net_head *h,
             struct err *err) {
    struct map m = map_at(n, p, SLOT_HEAD, -1);
    struct head_space w;
    int32_t rows = head_rows(n, n->T);
    if (head_space(n, &w, rows, h->k, m.R, h->loss ? n->T : 0, err) < 0)
        return -1;
    n->dh = w.dh;
    float *g = malloc(((size_t)rows * (size_t)h->k + 1) * sizeof *g);
    CHECK(g, "out of memory for a chunk");
    int rc = check_tokens(n, h->targets, n->T * h->k, err);
    for (int32_t t = 0; rc == 0 && t < n->T; t += rows)
        rc = head_chunk(n, &m, h, &w, t, n->T - t < rows ? n->T - t : rows, g,
                        err);
    free(g);
    return rc < 0 ? -1 : net_done(n, "loss head", err);
}

/* ---- backward ---- */

struct back {
    float *dx, *dh, *dq, *dk, *dv, *d_o, *dqr, *dkr; /* like acts */
    float *dgate, *dup, *dact, *ds;
};

/* Behind dh (T,C), which net_head left at the start of the work space. */
static void carve_back(struct net *n, struct back *b, int64_t T, int32_t R) {
    const struct conf *c = n->c;
    int64_t hd = (int64_t)c->H * c->D, kd = (int64_t)c->K * c->D;
    struct space *s = &n->work;
    s->used = 0;
    n->dh = take(s, T * c->C);
    b->dx = take(s, T * c->C);
    b->dh = take(s, T * c->C);
    b->dq = take(s, T * hd);
    b->dk = take(s, T * kd);
    b->dv = take(s, T * kd);
    b->d_o = take(s, T * hd);
    b->dqr = c->qk_norm ? take(s, T * hd) : b->dq;
    b->dkr = c->qk_norm ? take(s, T * kd) : b->dk;
    b->dgate = take(s, T * c->F);
    b->dup = take(s, T * c->F);
    b->dact = take(s, T * c->F);
    b->ds = take(s, T * R);
}

/* The work space grows without losing dh. */
static int back_space(struct net *n, struct back *b, int32_t R,
                      struct err *err) {
    struct space old = n->work;
    carve_back(n, b, n->T, R);
    if (n->work.used <= old.cap)
        return 0;
    size_t dh = (size_t)n->T * (size_t)n->c->C * sizeof(float);
    n->work.dev = NULL;
    n->work.cap = 0;
    int rc = space_fit(n, &n->work, err);
    if (rc == 0) {
        kn(n, n->kern->ops->copy(n->kern, n->work.dev, old.dev, dh));
        carve_back(n, b, n->T, R);
    }
    n->kern->ops->free(n->kern, old.dev);
    return rc;
}

static void mlp_backward(struct net *n, const struct policy *p, int l,
                         struct net_grads *g, struct back *b) {
    const struct conf *c = n->c;
    struct acts *a = &n->acts[l];
    struct map gm = map_at(n, p, SLOT_GATE, l), u = map_at(n, p, SLOT_UP, l);
    struct map down = map_at(n, p, SLOT_DOWN, l);
    map_backward(n, &down, g, a->act, a->s[S_DOWN], b->dx, n->T, b->dact, false,
                 b->ds);
    kn(n, n->kern->ops->glu_bwd(n->kern, &(struct kern_glu){.T = n->T,
                                                            .F = c->F,
                                                            .act = KERN_SILU,
                                                            .gate = a->gate,
                                                            .up = a->up,
                                                            .ldg = c->F,
                                                            .dy = b->dact,
                                                            .dgate = b->dgate,
                                                            .dup = b->dup}));
    map_backward(n, &gm, g, a->h2, a->s[S_GATE], b->dgate, n->T, b->dh, false,
                 b->ds);
    map_backward(n, &u, g, a->h2, a->s[S_UP], b->dup, n->T, b->dh, true, b->ds);
    norm_backward(n, p, g, SLOT_MLP_NORM, l, a->xm, a->rstd2, b->dh, n->T, c->C,
                  b->dx, true);
}

static void attn_backward(struct net *n, const struct policy *p, int l,
                          struct net_grads *g, struct back *b) {
    const struct conf *c = n->c;
    struct acts *a = &n->acts[l];
    int64_t T = n->T, hd = (int64_t)c->H * c->D, kd = (int64_t)c->K * c->D;
    struct map q = map_at(n, p, SLOT_Q, l), k = map_at(n, p, SLOT_K, l);
    struct map v = map_at(n, p, SLOT_V, l), o = map_at(n, p, SLOT_O, l);
    bias_grad(n, g, SLOT_O_BIAS, l, b->dx, T, c->C);
    map_backward(n, &o, g, a->o, a->s[S_O], b->dx, T, b->d_o, false, b->ds);
    struct kern_attn at = attn_args(n, l, a);
    at.d_o = b->d_o;
    at.dq = b->dq;
    at.dk = b->dk;
    at.dv = b->dv;
    kn(n, n->kern->ops->attn_bwd(n->kern, &at));
    rope_apply(n, b->dq, c->H, n->T, true);
    rope_apply(n, b->dk, c->K, n->T, true);
    if (c->qk_norm) {
        norm_backward(n, p, g, SLOT_Q_NORM, l, a->qr, a->rq, b->dq, T * c->H,
                      c->D, b->dqr, false);
        norm_backward(n, p, g, SLOT_K_NORM, l, a->kr, a->rk, b->dk, T * c->K,
                      c->D, b->dkr, false);
    }
    bias_grad(n, g, SLOT_Q_BIAS, l, b->dqr, T, hd);
    bias_grad(n, g, SLOT_K_BIAS, l, b->dkr, T, kd);
    bias_grad(n, g, SLOT_V_BIAS, l, b->dv, T, kd);
    map_backward(n, &q, g, a->h1, a->s[S_Q], b->dqr, T, b->dh, false, b->ds);
    map_backward(n, &k, g, a->h1, a->s[S_K], b->dkr, T, b->dh, true, b->ds);
    map_backward(n, &v, g, a->h1, a->s[S_V], b->dv, T, b->dh, true, b->ds);
    norm_backward(n, p, g, SLOT_ATTN_NORM, l, a->x, a->rstd1, b->dh, T, c->C,
                  b->dx, true);
}

int net_backward(struct net *n, const struct policy *p, struct net_grads *g,
                 struct err *err) {
    struct back b;
    const struct conf *c = n->c;
    int embed = model_index(n->model, SLOT_EMBED, -1);
    if (back_space(n, &b, p->adapter ? p->adapter->conf.rank : 0, err) < 0)
        return -1;
    norm_backward(n, p, g, SLOT_NORM, -1, n->xf, n->rstdf, n->dh, n->T, c->C,
                  b.dx, false);
    for (int l = c->L - 1; l >= 0; l--) {
        mlp_backward(n, p, l, g, &b);
        attn_backward(n, p, l, g, &b);
    }
    if (g->weights)
        kn(n, n->kern->ops->embed_bwd(
                  n->kern,
                  &(struct kern_embed){
                      .T = n->T,
                      .C = c->C,
                      .V = c->V,
                      .tokens = n->d_tokens,
                      .scale = 1.0f,
                      .dy = b.dx,
                      .dtable = g->weights + model_offset(n->model, embed),
                  }));
    return net_done(n, "backward pass", err);
}

/* ---- sizes ---- */

/* The same carving as for real, so that the sizes are the true ones. */
static void carve_train(struct net *n, int32_t T, int32_t R, int32_t k,
                        bool keep) {
    struct head_space h;
    struct back b;
    carve_keep(n, T, R, keep);
    carve_head(n, &h, head_rows(n, T), k, R, keep ? T : 0);
    int64_t head = n->work.used;
    if (keep)
        carve_back(n, &b, T, R);
    n->work.used = head > n->work.used ? head : n->work.used;
}

struct net_size net_bytes(const struct conf *c, int32_t T, int32_t R, int32_t k,
                          bool keep) {
    struct net n = {.c = c, .acts = calloc((size_t)c->L, sizeof *n.acts)};
    CHECK(n.acts, "out of memory for a net");
    carve_train(&n, T, R, k, keep);
    free(n.acts);
    return (struct net_size){n.keep.used * (int64_t)sizeof(float),
                             n.work.used * (int64_t)sizeof(float)};
}

int net_reserve(struct net *n, int32_t T, int32_t R, int32_t k, bool keep,
                struct err *err) {
    carve_train(n, T, R, k, keep);
    return space_fit(n, &n->keep, err) < 0 || space_fit(n, &n->work, err) < 0
               ? -1
               : 0;
}

/* ---- the sampler's step ---- */

/* Gives the rows that lie in w one by one to who wants them. */
static void step_give(struct net *n, const struct head_space *w,
                      const struct net_step *s, int32_t i, int32_t count,
                      const float *lp) {
    const struct kern_ops *ops = n->kern->ops;
    float lse[NET_HEAD_ROWS];
    size_t V = (size_t)n->c->V;
    kn(n, ops->copy_out(n->kern, lse, w->lse, (size_t)count * sizeof *lse));
    for (int32_t j = 0; j < count && n->rc == KERN_OK; j++) {
        if (s->full[i + j])
            kn(n, ops->copy_out(n->kern, n->row, w->logits + (size_t)j * V,
                                V * sizeof(float)));
        if (n->rc == KERN_OK)
            s->row(s->arg, i + j, s->full[i + j] ? n->row : NULL, lse[j],
                   lp[j]);
    }
}

/* Rows i … i+count of s, gathered behind each other. */
static void step_chunk(struct net *n, const struct map *m, struct head_space *w,
                       const struct net_step *s, int32_t i, int32_t count,
                       int32_t *zeros, float *lp) {
    const struct kern_ops *ops = n->kern->ops;
    size_t row = (size_t)n->c->C * sizeof(float);
    for (int32_t j = 0; j < count; j++)
        kn(n, ops->copy(n->kern, w->dh + (int64_t)j * n->c->C,
                        n->hf + (int64_t)s->rows[i + j] * n->c->C, row));
    head_logprobs(n, m, w, w->dh, count, 1, s->targets ? s->targets + i : zeros,
                  s->logprobs ? s->logprobs + i : lp);
    if (s->row)
        step_give(n, w, s, i, count, s->logprobs ? s->logprobs + i : lp);
    if (s->lse)
        kn(n, ops->copy_out(n->kern, s->lse + i, w->lse,
                            (size_t)count * sizeof(float)));
    if (s->logits)
        kn(n,
           ops->copy_out(n->kern, s->logits + (int64_t)i * n->c->V, w->logits,
                         (size_t)count * (size_t)n->c->V * sizeof(float)));
}

static int step_rows(struct net *n, const struct policy *p,
                     const struct net_step *s, struct err *err) {
    struct map m = map_at(n, p, SLOT_HEAD, -1);
    struct head_space w;
    int32_t rows = head_rows(n, s->n_rows), zeros[NET_HEAD_ROWS] = {0};
    float lp[NET_HEAD_ROWS];
    if (s->n_rows == 0)
        return 0;
    if (s->row && !n->row)
        n->row = malloc((size_t)n->c->V * sizeof *n->row);
    if (s->row && !n->row)
        return err_set(err, ERR_NOMEM, "no memory for a row of logits");
    if (head_space(n, &w, rows, 1, m.R, rows, err) < 0)
        return -1;
    for (int32_t i = 0; i < s->n_rows; i += rows)
        step_chunk(n, &m, &w, s, i, s->n_rows - i < rows ? s->n_rows - i : rows,
                   zeros, lp);
    return 0;
}

int net_step(struct net *n, const struct policy *p, struct kv *kv,
             const struct net_step *s, struct err *err) {
    int32_t R = p->adapter ? p->adapter->conf.rank : 0, last = 0;
    for (int32_t t = 0; t < s->T; t++)
        last = s->pos[t] > last ? s->pos[t] : last;
    int64_t cells = (int64_t)s->n_seq * s->max_blocks;
    n->T = s->T;
    n->n_seq = 0;
    if (check_tokens(n, s->tokens, s->T, err) < 0 ||
        (s->targets && check_tokens(n, s->targets, s->n_rows, err) < 0) ||
        net_rope(n, last + 1, err) < 0 ||
        net_space(n, s->T, R, false, err) < 0 ||
        net_ints(n, 3 * (int64_t)s->T + cells, err) < 0)
        return -1;
    int32_t *at = n->ints;
    n->d_tokens = put_ints(n, &at, s->tokens, s->T);
    n->d_pos = put_ints(n, &at, s->pos, s->T);
    n->d_seq = put_ints(n, &at, s->seq, s->T);
    n->d_table = put_ints(n, &at, s->table, cells);
    net_layers(n, p, kv, s->max_blocks);
    if (step_rows(n, p, s, err) < 0)
        return -1;
    return net_done(n, "decode step", err);
}
