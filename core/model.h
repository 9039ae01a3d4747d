/*
 * model - a Hugging Face directory as a network: its configuration, weights,
 * adapters, and the one forward pass that trainer and sampler share.
 *
 *     struct model *m = model_open(dir, kern, &err);       // maps the weights
 *     struct net *net = net_new(m, kern, &err);            // one thread's
 * buffers struct policy p = {.weights = model_weights(m)};     // base, no
 * adapter net_pass(net, &p, &batch, false, &err);              // packed
 * sequences net_head(net, &p, &head, &err);                      // logprobs,
 * gradients
 *
 * A struct model is immutable after model_open and may be shared by threads;
 * a net belongs to one thread. Weights: (out, in) row-major as in the files.
 * Legend: T tokens, C width, H heads, K kv heads, D head size, F ffn width,
 * V vocab, L layers, R rank.
 */
#ifndef FETTLE_CORE_MODEL_H
#define FETTLE_CORE_MODEL_H

#include "core/err.h"
#include "kernels/kernels.h"

#include <stdint.h>

/* ---- configuration ---- */

#define CONF_EOS_MAX 8

enum rope_type {
    ROPE_DEFAULT,
    ROPE_LINEAR,
    ROPE_LLAMA3,
    ROPE_YARN,
    ROPE_LONGROPE
};
#define ROPE_PAIRS_MAX 256

struct rope_conf {
    enum rope_type type;
    double theta, factor;
    double low_freq_factor, high_freq_factor; /* llama3 */
    double beta_fast, beta_slow;              /* yarn */
    bool truncate;       /* yarn: its ramp starts and ends on whole pairs */
    double original_max; /* llama3, yarn, longrope */
    /* longrope: what divides each pair's frequency in contexts of up to
     * original_max. Longer ones would turn all positions otherwise, those in a
     * cache too: the model's max_pos ends there. */
    double divisor[ROPE_PAIRS_MAX];
    double scale; /* of cos and sin */
    bool is_bf16; /* frequencies (and embed_scale) were rounded to bf16
                     (inv_freq_dtype), as by a PyTorch model that was cast
                     whole; else exact */
};

/* What a model is made of: bits of conf.has. Every row of the table of weights
 * (model.c) says in which of them it exists. */
enum conf_has {
    HAS_HEAD = 1 << 0, /* an lm_head of its own */
    HAS_QKV_BIAS = 1 << 1,
    HAS_O_BIAS = 1 << 2,
    HAS_SINKS = 1 << 3,
    HAS_QK_NORM = 1 << 4,          /* rmsnorm over each head of q and k */
    HAS_QK_NORM_WIDE = 1 << 5,     /* or over their whole width */
    HAS_SPLIT_QKV = 1 << 6,        /* q_proj, k_proj, v_proj */
    HAS_FUSED_QKV = 1 << 7,        /* or one qkv_proj */
    HAS_SPLIT_MLP = 1 << 8,        /* gate_proj, up_proj */
    HAS_FUSED_MLP = 1 << 9,        /* or one gate_up_proj */
    HAS_EXPERTS = 1 << 10,         /* sparse layers: each expert by itself */
    HAS_STACKED_EXPERTS = 1 << 11, /* or (E,in,out), gate and up by column */
    /* Where the norms stand and what they are called. */
    HAS_NORMS_LLAMA = 1 << 12, /* before attention and mlp */
    HAS_NORMS_GEMMA = 1 << 13, /* before and after */
    HAS_NORMS_GLM = 1 << 14,   /* before and after */
    HAS_NORMS_OLMO = 1 << 15,  /* after */
};

/* What differs from layer to layer: bits of conf.layer[]. */
enum conf_layer {
    LAYER_SLIDES = 1, /* attends within the window */
    LAYER_SPARSE = 2, /* has experts */
    LAYER_NOPE = 4,   /* q and k are not rotated */
};

struct conf {
    char family[32]; /* model_type */
    uint32_t has;    /* HAS_* */
    int32_t C, L, H, K, D, F, V;
    int32_t max_pos;            /* context limit, tokens */
    float norm_eps, norm_plus;  /* norms multiply by (w + plus) */
    float embed_scale;          /* of embeddings */
    float attn_scale, attn_cap; /* of scores; cap 0 = none */
    float final_cap;            /* of logits, 0 = none */
    enum kern_act act;
    bool tied;                /* lm_head is the embedding */
    int32_t window;           /* of sliding layers, 0 = none */
    uint8_t *layer;           /* (L) LAYER_*; owned */
    struct rope_conf rope[2]; /* of full layers and of sliding ones */
    int32_t rot;              /* rotated elements of a head */
    bool rope_pairs;          /* pairs (2i, 2i+1), not (i, i + rot/2) */
    /* sparse layers: E experts of width expert_F, `top` chosen for a token */
    int32_t E, top, expert_F;
    bool norm_top;              /* the chosen ones' weights sum to 1 */
    float glu_alpha, glu_limit; /* of stacked experts */
    uint32_t eos[CONF_EOS_MAX];
    int n_eos;
    int64_t bos; /* -1 = none */
    int32_t pad; /* its embedding gets no gradient, -1 = none */
};

/* Reads DIR/config.json (and generation_config.json); UNSUPPORTED names what
 * this program has no implementation of. */
int conf_read(struct conf *c, const char *dir, struct err *err);
void conf_release(struct conf *c);
/* Whether the layer has the property (LAYER_*). */
bool conf_layer_is(const struct conf *c, int layer, enum conf_layer what);
/* What a layer has: conf.has less the other kind of mlp. */
uint32_t conf_layer_has(const struct conf *c, int layer);
/* Different ones of conf.rope: 1 or 2. */
int conf_ropes(const struct conf *c);
int64_t conf_params(const struct conf *c);

/* ---- safetensors ---- */

struct st_tensor {
    const char *name;
    enum kern_dtype dtype;
    int rank;
    int64_t shape[8];
    int64_t bytes;
    const void *data; /* mapped, read only */
};

struct st; /* one file, or the shards of an index */

/* DIR/model.safetensors, or what DIR/model.safetensors.index.json lists.
 * Everything is validated before anything is used. */
struct st *st_open_dir(const char *dir, struct err *err);
struct st *st_open_file(const char *path, struct err *err);
void st_close(struct st *s);
int st_count(const struct st *s);
const struct st_tensor *st_at(const struct st *s, int i); /* by name */
const struct st_tensor *st_find(const struct st *s, const char *name);
/* The value of a key in __metadata__ of the first file; NULL = absent. */
const char *st_meta(const struct st *s, const char *key);

/* Writes one file, the tensors sorted by name; the same bytes for the same
 * tensors. Data is asked for in that order, so nothing big is held twice. */
struct st_out {
    const char *name;
    enum kern_dtype dtype;
    int rank;
    int64_t shape[8];
};
/* Fills `out` (as many bytes as tensor i takes). */
typedef int st_fill_fn(void *arg, int i, void *out, struct err *err);
struct st_meta_kv {
    const char *key, *value;
};
int st_write(const char *path, const struct st_out *t, int n,
             const struct st_meta_kv *meta, int n_meta, st_fill_fn *fill,
             void *arg, struct err *err);
int64_t st_out_bytes(const struct st_out *t);

/* ---- the table of weights ---- */

enum slot {
    SLOT_EMBED,
    SLOT_NORM,
    SLOT_HEAD,
    SLOT_ATTN_NORM, /* from here on: one a layer */
    SLOT_Q,
    SLOT_K,
    SLOT_V,
    SLOT_QKV,
    SLOT_O,
    SLOT_Q_BIAS,
    SLOT_K_BIAS,
    SLOT_V_BIAS,
    SLOT_O_BIAS,
    SLOT_Q_NORM,
    SLOT_K_NORM,
    SLOT_SINKS,
    SLOT_ATTN_POST, /* the norm of attention's output */
    SLOT_MLP_NORM,
    SLOT_GATE,
    SLOT_UP,
    SLOT_GATE_UP,
    SLOT_DOWN,
    SLOT_ROUTER,
    SLOT_ROUTER_BIAS,
    SLOT_EXPERT_GATE, /* one an expert, behind each other */
    SLOT_EXPERT_UP,
    SLOT_EXPERT_DOWN,
    SLOT_EXPERTS_GATE_UP, /* (E,C,2F) */
    SLOT_EXPERTS_GATE_UP_BIAS,
    SLOT_EXPERTS_DOWN, /* (E,F,C) */
    SLOT_EXPERTS_DOWN_BIAS,
    SLOT_MLP_POST, /* the norm of the mlp's output */
    SLOTS
};

/* One weight of this model: which, where, what shape, and its name. */
struct weight_info {
    enum slot slot;
    int layer, expert; /* -1 = of the whole model; 0 where there is one */
    int rank;
    int64_t shape[3];
    int64_t rows, cols; /* of all: cols is the last dimension, 1 at rank 1 */
    bool is_lora;       /* an adapter can sit on it */
    bool is_small;      /* held as f32: norms, biases, sinks */
    char name[128];
};

/* A tensor on the device. */
struct weight {
    const void *dev;
    enum kern_dtype dtype;
};

struct model;

struct weights {
    const struct model *model;
    struct weight *w;          /* (model_count) in the model's order */
    const struct weight *head; /* when it is tied, but not the embedding's
                                  memory; else NULL */
};

struct model *model_open(const char *dir, struct kern *k, struct err *err);
/* Configuration, table of weights and files, checked, but no weights: for
 * plans. Nothing can run on it. */
struct model *model_outline(const char *dir, struct err *err);
/* The same without a directory: bf16 weights drawn from `seed`, for benches.
 * All its layers are alike: LAYER_* of none. */
struct model *model_random(const struct conf *c, struct kern *k, uint64_t seed,
                           struct err *err);
void model_close(struct model *m);
int64_t model_bytes(const struct model *m); /* of all tensors in its files */
const struct conf *model_conf(const struct model *m);
const char *model_dir(const struct model *m);
const struct weights *model_weights(const struct model *m);
/* The model's weights; the tied head has no entry of its own. */
int model_count(const struct model *m);
const struct weight_info *model_info(const struct model *m, int i);
/* Index of a weight (of its first expert's), -1 when the model has none. */
int model_index(const struct model *m, enum slot slot, int layer);

/* An own f32 copy of all weights, at *dev (one allocation, of
 * model_floats() floats, kern free()); offsets as in model_offset(). */
int64_t model_floats(const struct model *m);
int64_t model_offset(const struct model *m, int i);
int model_widen(const struct model *m, struct kern *k, float *dev,
                struct err *err);

/* w with its matrices in KERN_Q8 or KERN_Q4 (embedding, routers, stacked
 * experts and what is not a matrix stay w's, which must outlive it). For
 * sampling: never for training. */
struct weights *weights_quant(const struct weights *w, struct kern *k,
                              enum kern_dtype t, struct err *err);
void weights_free(struct weights *w); /* of weights_quant() only */

/* ---- adapters ---- */

struct lora_conf {
    int32_t rank;
    float alpha; /* scaling = alpha / rank */
    bool attn, unembed;
    bool mlp; /* of dense layers; experts take no adapter */
};

/* A, B of one adapted weight: y += (x·Aᵀ * scaling)·Bᵀ. */
struct lora_pair {
    int weight; /* index into the model's weights; the head's embedding with
                   is_head when tied */
    bool is_head;
    int64_t in, out;
    float *a, *b;       /* (R,in) (out,R) dev, inside the adapter's block */
    int64_t a_at, b_at; /* their offsets in the block, in floats */
    char name[128];     /* PEFT module path, "base_model.model.…q_proj" */
};

struct adapter {
    struct lora_conf conf;
    float scaling;
    int n;
    struct lora_pair *pair; /* (n) */
    float *dev;             /* one block, A and B of each pair in order */
    int64_t floats;
    struct kern *kern;
};

/* A is uniform within ±1/sqrt(in) from `seed`, B is 0. */
struct adapter *adapter_new(const struct model *m, struct kern *k,
                            const struct lora_conf *conf, uint64_t seed,
                            struct err *err);
void adapter_free(struct adapter *a);
/* Floats of its block, as adapter_new() would make it. */
int64_t adapter_floats(const struct model *m, const struct lora_conf *conf);

/* ---- running ---- */

/* What runs: weights, and an adapter or NULL. */
struct policy {
    const struct weights *weights;
    const struct adapter *adapter;
};

/* Gradients, laid out like what is trained; NULL members are not wanted. */
struct net_grads {
    float *weights; /* like model_widen's block, for full tuning */
    float *lookup;  /* (V,C) when tied: the embedding's part, kept apart from
                       the head's so that the order of neither depends on how
                       a batch is split */
    float *adapter; /* like the adapter's block */
    /* By weight: its gradient holds nothing yet and counts as 0; what writes it
     * first says false. NULL: all hold something. */
    bool *unset;
};
/* Zeros for the gradient of weight i if it holds nothing yet. */
int net_grad_set(const struct model *m, struct kern *k, struct net_grads *g,
                 int i);

struct net;
struct net *net_new(const struct model *m, struct kern *k, struct err *err);
void net_free(struct net *n);

/* Bytes of buffers for passes of T packed tokens with k targets each and an
 * adapter of rank R (0 = none); keep: with a backward pass. */
struct net_size {
    int64_t keep, work; /* activations; everything else */
};
struct net_size net_bytes(const struct conf *c, int32_t T, int32_t R, int32_t k,
                          bool keep);
/* Makes them at once, so that such a pass allocates nothing; whatever the
 * buffers held is lost. */
int net_reserve(struct net *n, int32_t T, int32_t R, int32_t k, bool keep,
                struct err *err);

/* Packed sequences: row t of sequence s has position t - start[s]. */
struct net_batch {
    int32_t T, n_seq;
    const int32_t *tokens; /* (T) host */
    const int32_t *start;  /* (n_seq+1) host */
};

/* Runs the layers; hidden states stay in the net for net_head(). keep: the
 * activations too, for net_backward(). */
int net_pass(struct net *n, const struct policy *p, const struct net_batch *b,
             bool keep, struct err *err);

/* The loss of one chunk of rows, called with logprobs (rows,k) host; fills g
 * = dLoss/dlogprob (rows,k) host. NULL: forward only. */
typedef int net_loss_fn(void *arg, int32_t first, int32_t rows,
                        const float *logprobs, float *g, struct err *err);
struct net_head {
    int32_t k;              /* targets a row */
    const int32_t *targets; /* (T,k) host */
    float *logprobs;        /* (T,k) host, out */
    net_loss_fn *loss;      /* NULL = forward only */
    void *arg;
    struct net_grads *grads; /* with loss: the head's gradients, += */
};
/* Logprobs of the targets for the rows of the last net_pass(), in chunks that
 * never hold all logits. With a loss the gradient of the hidden states stays
 * in the net for net_backward(). */
int net_head(struct net *n, const struct policy *p, const struct net_head *h,
             struct err *err);
/* After net_pass(keep) and net_head(loss): accumulates all gradients. */
int net_backward(struct net *n, const struct policy *p, struct net_grads *g,
                 struct err *err);

/* ---- the sampler's way: a paged cache ---- */

struct kv; /* a pool of pages for all layers */
struct kv *kv_new(const struct model *m, struct kern *k, int32_t pages,
                  struct err *err);
void kv_free(struct kv *kv);
/* A page, or -1 when the pool is used up; pages are counted references. */
int32_t kv_take(struct kv *kv);
void kv_share(struct kv *kv, int32_t page);
void kv_drop(struct kv *kv, int32_t page);
int32_t kv_left(const struct kv *kv);
int32_t kv_refs(const struct kv *kv, int32_t page);
int64_t kv_page_bytes(const struct model *m);
/* Copies the contents of a page (all layers). */
int kv_copy(struct kv *kv, int32_t to, int32_t from, struct err *err);

/* Row i of a step's rows: its logits (V) host, borrowed, NULL where `full`
 * does not ask for them; their lse; the logprob of its target. */
typedef void net_row_fn(void *arg, int32_t i, const float *logits, float lse,
                        float logprob);

/* New tokens of several sequences, appended to their caches. */
struct net_step {
    int32_t T;
    const int32_t *tokens, *seq,
        *pos; /* (T) host: token, table row, position */
    int32_t n_seq, max_blocks;
    const int32_t *table; /* (n_seq, max_blocks) host: page of each block */
    /* out: logits of these rows */
    int32_t n_rows;
    const int32_t *rows; /* (n_rows) host, into 0 … T-1 */
    float *logits;       /* (n_rows, V) host */
    /* and logprobs of one target for each row, when targets is not NULL: the
     * arithmetic of net_head(), bit for bit */
    const int32_t *targets; /* (n_rows) */
    float *logprobs;        /* (n_rows) host */
    float *lse; /* (n_rows) host or NULL: logits[t] - lse is t's logprob */
    /* or one row after the other, so that they are never held all */
    net_row_fn *row;
    void *arg;
    const bool *full; /* (n_rows), with row */
};
int net_step(struct net *n, const struct policy *p, struct kv *kv,
             const struct net_step *s, struct err *err);

/* ---- memory: what a job takes, known before it starts ---- */

enum plan_class {
    PLAN_WEIGHTS,     /* the base model's, as in its files */
    PLAN_MASTER,      /* full tuning's own f32 copy */
    PLAN_ADAPTER,     /* A and B */
    PLAN_GRADIENTS,   /* of whatever is trained */
    PLAN_OPTIMIZER,   /* AdamW's m and v */
    PLAN_ACTIVATIONS, /* of one micro-batch, kept for its backward pass */
    PLAN_WORK,        /* of head and backward pass, and rope's tables */
    PLAN_KV,          /* one sequence's cache while sampling */
    PLAN_CLASSES
};
const char *plan_name(enum plan_class c); /* "activations" */
const char *plan_help(enum plan_class c); /* a few words about it */

struct plan_job {
    struct lora_conf lora;          /* rank 0 = full tuning */
    int64_t max_length, batch_size; /* tokens of a datum, datums of a step */
};

struct plan {
    int64_t bytes[PLAN_CLASSES];
    int64_t total;  /* what must fit: all but full tuning's base, which is
                       mapped and read once */
    int64_t memory; /* what it was fitted in */
    int32_t micro;  /* tokens of a micro-batch: results do not depend on it,
                       so it gets smaller where memory is short */
};
/* m may be an outline. */
void plan_make(const struct model *m, const struct plan_job *job,
               int64_t memory, struct plan *p);
/* NOMEM, with the figures and what to lower, when the total is above the
 * memory. */
int plan_check(const struct plan *p, const struct plan_job *job,
               struct err *err);
/* Tokens of a micro-batch for passes in so much memory. */
int32_t plan_micro(const struct model *m, int32_t rank, int64_t memory);
/* Bytes that this process can still get: of the machine, its cgroups and
 * $FETTLE_MEMORY (a number with K, M, G or nothing behind it), the least. */
int64_t plan_memory(void);
/* The same by the files below `root` ("" = this machine's). */
int64_t plan_memory_at(const char *root);

/* Lifts a kernel status: "what: why". */
int err_kern(struct err *err, int rc, const char *what);

#endif
