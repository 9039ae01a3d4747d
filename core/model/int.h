/*
 * int - what the files of core/model share: the net and its parts.
 *   net.c    a pass, the head, a step     layer.c  one layer
 *   map.c    linear maps, norms, biases   moe.c    a sparse mlp
 *   rope.c   tables of angles
 */
#ifndef FETTLE_CORE_MODEL_INT_H
#define FETTLE_CORE_MODEL_INT_H

#include "core/model.h"

/* The files' pages need not stay in memory; they are read again when used. */
void st_forget(struct st *s);

/* The pair of an adapter on a weight, NULL = none. */
const struct lora_pair *adapter_pair(const struct adapter *a, int weight,
                                     bool is_head);

/* One layer's pages, (pages, …) as kernels.h lays them out. */
float *kv_layer(struct kv *kv, int layer);

/* ---- the net ---- */

#define NET_TARGETS 9 /* adapted matrices a layer */
enum { S_Q, S_K, S_V, S_QKV, S_O, S_GATE, S_UP, S_GATE_UP, S_DOWN };

/* What a layer leaves for its backward pass; (T, …) f32 each. */
struct acts {
    float *x, *h1, *rstd1;    /* (T,C) (T,C) (T) */
    float *qr, *kr, *rq, *rk; /* before q/k norm; their rstd */
    float *q, *k, *v;         /* after rope; rows ldq, ldk apart */
    float *o, *lse;           /* attention's output (T,H,D), (T,H) */
    float *ao, *rstd_ao;      /* (T,C) before the norm of attention's output */
    float *xm, *h2, *rstd2;   /* the residual between attention and mlp */
    float *gate, *up, *act;   /* (T,F), rows ldg apart; (T,F) dense */
    float *mo, *rstd_mo;      /* (T,C) before the norm of the mlp's output */
    float *s[NET_TARGETS];    /* (T,R) x·Aᵀ scaled, of S_* */
    /* sparse: P = T * top pairs of token and expert, behind each other by
     * expert, within one by token */
    float *logits, *share;  /* (T,E) the router's; (T,top) of the chosen */
    int32_t *expert;        /* (T,top) dev */
    int32_t *slot, *token;  /* (T,top) a pair's place; (P) a place's token */
    float *xgu, *xact, *xo; /* (P,2F) (P,F) (P,C) */
    int32_t *first;         /* (E+1) host: an expert's first place */
};

/* Gradients on their way back through the layers; like acts. */
struct back {
    float *dx, *dh, *dy; /* (T,C) residual; a norm's output; its input */
    float *dq, *dk, *dv, *d_o, *dqr, *dkr;
    float *dact, *ds;
    float *dlogits, *dshare, *dxo, *dxact, *dxgu, *dxe; /* sparse */
};

struct space {
    float *dev;
    int64_t cap, used; /* floats */
};
/* `floats` of s; NULL while its size is only counted. */
float *space_take(struct space *s, int64_t floats);

struct net {
    const struct model *model;
    const struct conf *c;
    struct kern *kern;
    int rc;                  /* the first kernel that failed */
    struct space keep, work; /* activations; everything else */
    struct acts *acts;       /* (L) */
    int32_t T, n_seq, max_len;
    int64_t ldq, ldk, ldg; /* rows of q; of k and v; of gate and up */
    int32_t *ints;         /* dev: tokens, positions, starts, tables */
    int64_t ints_cap;
    int32_t *d_tokens, *d_pos, *d_start, *d_seq, *d_table;
    float *cos[2], *sin[2]; /* (rope_pos, rot/2) dev; the second of sliding
                               layers, NULL where c has one rope for all */
    int32_t rope_pos;
    float *row;             /* (V) host: logits on their way out */
    float *h, *act;         /* (T,C) (T,F) of the layer at work */
    float *xf, *hf, *rstdf; /* before and after the last norm */
    float *dh;              /* (T,C) gradient of hf, from net_head */
    float *xe;              /* (P,C) rows of a sparse layer by expert */
    int32_t *first;         /* (L, E+1) host, of acts */
    int32_t *host;          /* (3 P) host */
    int64_t host_cap;
};

/* Keeps the first failure. */
void kn(struct net *n, int rc);

/* rope.c */
double bf16_round(double v);
int rope_fit(struct net *n, int32_t positions, struct err *err);
void rope_apply(struct net *n, int layer, float *x, int64_t ldx, int32_t heads,
                bool inverse);
void rope_release(struct net *n);

/* map.c: y (T,out) = x · Wᵀ + s · Bᵀ, s (T,R) = scaling * x · Aᵀ. */
struct map {
    struct weight w;
    int index;    /* of its weight */
    int64_t at;   /* of its gradient in net_grads.weights */
    bool is_part; /* of that weight */
    bool is_head;
    bool is_turned; /* stored (in,out) */
    int64_t in, out;
    int64_t ldy;                  /* rows of y and dy; out unless set */
    const struct lora_pair *lora; /* NULL = none */
    int32_t R;
    float scaling;
};
struct map map_at(const struct net *n, const struct policy *p, enum slot slot,
                  int layer);
void map_forward(struct net *n, const struct map *m, const float *x, int64_t T,
                 float *y, float *s);
/* dx (=|+=) gradient of x, NULL = not wanted; weights' and adapter's gradients
 * +=. ds (T,R) is work space. */
void map_backward(struct net *n, const struct map *m, struct net_grads *g,
                  const float *x, const float *s, const float *dy, int64_t T,
                  float *dx, bool acc, float *ds);
bool layer_has(const struct net *n, enum slot slot, int layer);
/* A small weight, NULL = the model has none; its gradient, NULL = frozen. */
const float *small_at(const struct net *n, const struct policy *p,
                      enum slot slot, int layer);
float *small_grad(struct net *n, struct net_grads *g, enum slot slot,
                  int layer);
void bias_add(struct net *n, const struct policy *p, enum slot slot, int layer,
              float *y, int64_t T, int64_t cols);
void bias_grad(struct net *n, struct net_grads *g, enum slot slot, int layer,
               const float *dy, int64_t T, int64_t cols);
void norm_forward(struct net *n, const float *w, const float *x, int64_t rows,
                  int64_t C, float *y, float *rstd);
void norm_backward(struct net *n, const struct policy *p, struct net_grads *g,
                   enum slot slot, int layer, const float *x, float *rstd,
                   const float *dy, int64_t rows, int64_t C, float *dx,
                   bool acc);

/* layer.c */
/* Room for what a layer that has `has` (HAS_*) needs. */
/* h1, h2 and act are the same memory in all layers: they are cheap to compute
 * again. `any`: what any layer has. Before acts_carve(). */
void acts_share(struct net *n, uint32_t any, int64_t T);
void acts_carve(struct net *n, struct acts *a, uint32_t has, int64_t T,
                int32_t R);
void back_carve(struct net *n, struct back *b, uint32_t has, int64_t T,
                int32_t R);
/* With a cache (kv) or without; the residual after it goes to `next`. */
void layer_forward(struct net *n, const struct policy *p, int l, float *next,
                   struct kv *kv, int32_t max_blocks);
/* b->dx: the gradient of the residual after, then before. */
void layer_backward(struct net *n, const struct policy *p, int l,
                    struct net_grads *g, struct back *b);

/* moe.c: y (T,C) = the chosen experts of h, weighted. */
void moe_carve(struct net *n, struct acts *a, int64_t T);
void moe_back_carve(struct net *n, struct back *b, int64_t T);
void moe_forward(struct net *n, const struct policy *p, int l, const float *h,
                 float *y);
void moe_backward(struct net *n, const struct policy *p, int l,
                  struct net_grads *g, struct back *b, const float *h,
                  const float *dy, float *dh, bool acc);

#endif
