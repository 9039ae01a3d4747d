/*
 * model: the weights of a directory by the table below; embeddings and
 * matrices stay mapped in their stored type, small ones become f32.
 */
#include "core/model.h"

#include "core/fs.h"
#include "core/rng.h"
#include "core/model/int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum dim {
    DIM_NONE,
    DIM_C,
    DIM_Q,
    DIM_KV,
    DIM_QKV,
    DIM_D,
    DIM_H,
    DIM_F,
    DIM_2F,
    DIM_V,
    DIM_E,
    DIM_EF, /* an expert's width */
    DIM_2EF,
};

enum { ROW_LORA = 1, ROW_EACH = 2 }; /* takes an adapter; one an expert */

#define MLP (HAS_SPLIT_MLP | HAS_FUSED_MLP)
#define MOE (HAS_EXPERTS | HAS_STACKED_EXPERTS)
#define QKV_BOTH (HAS_SPLIT_QKV | HAS_FUSED_QKV)
#define ALL QKV_BOTH /* every layer has one of the two */

/* The table of weights: a model has a row when it has one of `in`. Names of a
 * layer's rows stand behind "model.layers.N."; %d is the expert. Rows of one
 * slot never apply together. */
struct slot_row {
    enum slot slot;
    const char *name;
    uint32_t in;
    enum dim dim[3];
    int flags;
};

static const struct slot_row slot_rows[] = {
    {SLOT_EMBED, "model.embed_tokens.weight", ALL, {DIM_V, DIM_C}, 0},
    {SLOT_NORM, "model.norm.weight", ALL, {DIM_C}, 0},
    {SLOT_HEAD, "lm_head.weight", HAS_HEAD, {DIM_V, DIM_C}, ROW_LORA},
    /* norms */
    {SLOT_ATTN_NORM,
     "input_layernorm.weight",
     HAS_NORMS_LLAMA | HAS_NORMS_GEMMA | HAS_NORMS_GLM,
     {DIM_C},
     0},
    {SLOT_ATTN_POST,
     "post_attention_layernorm.weight",
     HAS_NORMS_GEMMA | HAS_NORMS_OLMO,
     {DIM_C},
     0},
    {SLOT_ATTN_POST,
     "post_self_attn_layernorm.weight",
     HAS_NORMS_GLM,
     {DIM_C},
     0},
    {SLOT_MLP_NORM,
     "post_attention_layernorm.weight",
     HAS_NORMS_LLAMA | HAS_NORMS_GLM,
     {DIM_C},
     0},
    {SLOT_MLP_NORM,
     "pre_feedforward_layernorm.weight",
     HAS_NORMS_GEMMA,
     {DIM_C},
     0},
    {SLOT_MLP_POST,
     "post_feedforward_layernorm.weight",
     HAS_NORMS_GEMMA | HAS_NORMS_OLMO,
     {DIM_C},
     0},
    {SLOT_MLP_POST, "post_mlp_layernorm.weight", HAS_NORMS_GLM, {DIM_C}, 0},
    /* attention */
    {SLOT_Q,
     "self_attn.q_proj.weight",
     HAS_SPLIT_QKV,
     {DIM_Q, DIM_C},
     ROW_LORA},
    {SLOT_K,
     "self_attn.k_proj.weight",
     HAS_SPLIT_QKV,
     {DIM_KV, DIM_C},
     ROW_LORA},
    {SLOT_V,
     "self_attn.v_proj.weight",
     HAS_SPLIT_QKV,
     {DIM_KV, DIM_C},
     ROW_LORA},
    {SLOT_QKV,
     "self_attn.qkv_proj.weight",
     HAS_FUSED_QKV,
     {DIM_QKV, DIM_C},
     ROW_LORA},
    {SLOT_O, "self_attn.o_proj.weight", ALL, {DIM_C, DIM_Q}, ROW_LORA},
    {SLOT_Q_BIAS, "self_attn.q_proj.bias", HAS_QKV_BIAS, {DIM_Q}, 0},
    {SLOT_K_BIAS, "self_attn.k_proj.bias", HAS_QKV_BIAS, {DIM_KV}, 0},
    {SLOT_V_BIAS, "self_attn.v_proj.bias", HAS_QKV_BIAS, {DIM_KV}, 0},
    {SLOT_O_BIAS, "self_attn.o_proj.bias", HAS_O_BIAS, {DIM_C}, 0},
    {SLOT_Q_NORM, "self_attn.q_norm.weight", HAS_QK_NORM, {DIM_D}, 0},
    {SLOT_K_NORM, "self_attn.k_norm.weight", HAS_QK_NORM, {DIM_D}, 0},
    {SLOT_Q_NORM, "self_attn.q_norm.weight", HAS_QK_NORM_WIDE, {DIM_Q}, 0},
    {SLOT_K_NORM, "self_attn.k_norm.weight", HAS_QK_NORM_WIDE, {DIM_KV}, 0},
    {SLOT_SINKS, "self_attn.sinks", HAS_SINKS, {DIM_H}, 0},
    /* a dense mlp */
    {SLOT_GATE,
     "mlp.gate_proj.weight",
     HAS_SPLIT_MLP,
     {DIM_F, DIM_C},
     ROW_LORA},
    {SLOT_UP, "mlp.up_proj.weight", HAS_SPLIT_MLP, {DIM_F, DIM_C}, ROW_LORA},
    {SLOT_GATE_UP,
     "mlp.gate_up_proj.weight",
     HAS_FUSED_MLP,
     {DIM_2F, DIM_C},
     ROW_LORA},
    {SLOT_DOWN, "mlp.down_proj.weight", MLP, {DIM_C, DIM_F}, ROW_LORA},
    /* experts */
    {SLOT_ROUTER, "mlp.gate.weight", HAS_EXPERTS, {DIM_E, DIM_C}, 0},
    {SLOT_ROUTER, "mlp.router.weight", HAS_STACKED_EXPERTS, {DIM_E, DIM_C}, 0},
    {SLOT_ROUTER_BIAS, "mlp.router.bias", HAS_STACKED_EXPERTS, {DIM_E}, 0},
    {SLOT_EXPERT_GATE,
     "mlp.experts.%d.gate_proj.weight",
     HAS_EXPERTS,
     {DIM_EF, DIM_C},
     ROW_EACH},
    {SLOT_EXPERT_UP,
     "mlp.experts.%d.up_proj.weight",
     HAS_EXPERTS,
     {DIM_EF, DIM_C},
     ROW_EACH},
    {SLOT_EXPERT_DOWN,
     "mlp.experts.%d.down_proj.weight",
     HAS_EXPERTS,
     {DIM_C, DIM_EF},
     ROW_EACH},
    {SLOT_EXPERTS_GATE_UP,
     "mlp.experts.gate_up_proj",
     HAS_STACKED_EXPERTS,
     {DIM_E, DIM_C, DIM_2EF},
     0},
    {SLOT_EXPERTS_GATE_UP_BIAS,
     "mlp.experts.gate_up_proj_bias",
     HAS_STACKED_EXPERTS,
     {DIM_E, DIM_2EF},
     0},
    {SLOT_EXPERTS_DOWN,
     "mlp.experts.down_proj",
     HAS_STACKED_EXPERTS,
     {DIM_E, DIM_EF, DIM_C},
     0},
    {SLOT_EXPERTS_DOWN_BIAS,
     "mlp.experts.down_proj_bias",
     HAS_STACKED_EXPERTS,
     {DIM_E, DIM_C},
     0},
};
#define N_ROWS (sizeof slot_rows / sizeof *slot_rows)

/* Where else a slot's weights may lie: part `part` of `parts` of a tensor with
 * all experts, (E, parts * rows, cols). transformers 5 holds them so. */
static const struct stacked_row {
    enum slot slot;
    const char *name;
    int part, parts;
} stacked_rows[] = {
    {SLOT_EXPERT_GATE, "mlp.experts.gate_up_proj", 0, 2},
    {SLOT_EXPERT_UP, "mlp.experts.gate_up_proj", 1, 2},
    {SLOT_EXPERT_DOWN, "mlp.experts.down_proj", 0, 1},
};

struct model {
    char *dir;
    struct conf conf;
    struct kern *kern;
    struct st *st;
    int n;
    struct weight_info *info;
    int64_t *offset; /* (n+1) floats, for a widened copy */
    int *index;      /* (SLOTS * (L+1)) */
    struct weights weights;
    float *small;  /* the small ones, f32 */
    void **copies; /* (n) of weights that could not be used in place */
};

static int64_t dim_of(const struct conf *c, enum dim d) {
    int64_t hd = (int64_t)c->H * c->D, kd = (int64_t)c->K * c->D;
    switch (d) {
    case DIM_C: return c->C;
    case DIM_Q: return hd;
    case DIM_KV: return kd;
    case DIM_QKV: return hd + 2 * kd;
    case DIM_D: return c->D;
    case DIM_H: return c->H;
    case DIM_F: return c->F;
    case DIM_2F: return (int64_t)2 * c->F;
    case DIM_V: return c->V;
    case DIM_E: return c->E;
    case DIM_EF: return c->expert_F;
    case DIM_2EF: return (int64_t)2 * c->expert_F;
    default: return 1;
    }
}

static struct weight_info row_info(const struct conf *c,
                                   const struct slot_row *row, int layer,
                                   int expert) {
    struct weight_info w = {.slot = row->slot,
                            .layer = layer,
                            .expert = expert,
                            .rows = 1,
                            .cols = 1,
                            .is_lora = row->flags & ROW_LORA};
    for (; w.rank < 3 && row->dim[w.rank]; w.rank++)
        w.shape[w.rank] = dim_of(c, row->dim[w.rank]);
    if (w.rank == 1)
        w.rows = w.shape[0];
    else
        w.cols = w.shape[w.rank - 1];
    for (int i = 0; w.rank > 1 && i < w.rank - 1; i++)
        w.rows *= w.shape[i];
    w.is_small = w.rank == 1 || row->slot == SLOT_EXPERTS_GATE_UP_BIAS ||
                 row->slot == SLOT_EXPERTS_DOWN_BIAS;
    return w;
}

/* Calls fn for each weight of such a model: the model's own, then layer by
 * layer, by slot, an expert's behind the one's before. */
typedef void weight_fn(void *arg, const struct slot_row *row, int layer,
                       int expert);
static void conf_weights(const struct conf *c, weight_fn *fn, void *arg) {
    const struct slot_row *of[SLOTS];
    for (int l = -1; l < c->L; l++) {
        uint32_t has = l < 0 ? c->has : conf_layer_has(c, l);
        memset(of, 0, sizeof of);
        for (size_t i = 0; i < N_ROWS; i++)
            if (slot_rows[i].in & has)
                of[slot_rows[i].slot] = &slot_rows[i];
        int first = l < 0 ? 0 : SLOT_ATTN_NORM;
        int end = l < 0 ? SLOT_ATTN_NORM : SLOTS;
        for (int s = first; s < end; s++)
            for (int e = 0; of[s] && e < (of[s]->flags & ROW_EACH ? c->E : 1);
                 e++)
                fn(arg, of[s], l, e);
    }
}

struct tally {
    const struct conf *c;
    int64_t n, floats;
};

static void weight_tally(void *arg, const struct slot_row *row, int layer,
                         int expert) {
    struct tally *t = arg;
    struct weight_info w = row_info(t->c, row, layer, expert);
    t->n++;
    t->floats += w.rows * w.cols;
}

int64_t conf_params(const struct conf *c) {
    struct tally t = {.c = c};
    conf_weights(c, weight_tally, &t);
    return t.floats;
}

static void model_add(void *arg, const struct slot_row *row, int layer,
                      int expert) {
    struct model *m = arg;
    struct weight_info *w = &m->info[m->n];
    size_t at = 0;
    *w = row_info(&m->conf, row, layer, expert);
    if (layer >= 0)
        at = (size_t)snprintf(w->name, sizeof w->name, "model.layers.%d.",
                              layer);
    const char *each = strstr(row->name, "%d");
    if (each)
        snprintf(w->name + at, sizeof w->name - at, "%.*s%d%s",
                 (int)(each - row->name), row->name, expert, each + 2);
    else
        snprintf(w->name + at, sizeof w->name - at, "%s", row->name);
    m->offset[m->n + 1] = m->offset[m->n] + w->rows * w->cols;
    if (expert == 0)
        m->index[(int)row->slot * (m->conf.L + 1) + layer + 1] = m->n;
    m->n++;
}

static void model_table(struct model *m) {
    struct tally t = {.c = &m->conf};
    conf_weights(&m->conf, weight_tally, &t);
    size_t most = (size_t)t.n, slots = (size_t)SLOTS * (size_t)(m->conf.L + 1);
    m->info = calloc(most, sizeof *m->info);
    m->offset = calloc(most + 1, sizeof *m->offset);
    m->index = calloc(slots, sizeof *m->index);
    m->copies = calloc(most, sizeof *m->copies);
    m->weights.w = calloc(most, sizeof *m->weights.w);
    CHECK(m->info && m->offset && m->index && m->copies && m->weights.w,
          "out of memory for %zu weights", most);
    for (size_t i = 0; i < slots; i++)
        m->index[i] = -1;
    conf_weights(&m->conf, model_add, m);
}

/* The tensor of a weight, shaped as wanted: by its own name, or a piece of the
 * stacked one. */
static int model_tensor(const struct model *m, const struct weight_info *w,
                        struct st_tensor *out, struct err *err) {
    const struct st_tensor *t = st_find(m->st, w->name);
    const struct stacked_row *r = NULL;
    struct st_tensor want = {.rank = w->rank};
    memcpy(want.shape, w->shape, sizeof w->shape);
    for (size_t i = 0; !t && i < sizeof stacked_rows / sizeof *stacked_rows;
         i++)
        if (stacked_rows[i].slot == w->slot) {
            char name[128];
            r = &stacked_rows[i];
            snprintf(name, sizeof name, "model.layers.%d.%s", w->layer,
                     r->name);
            t = st_find(m->st, name);
            want.rank = 3;
            want.shape[0] = m->conf.E;
            want.shape[1] = r->parts * w->rows;
            want.shape[2] = w->cols;
        }
    if (!t)
        return err_set(err, ERR_CORRUPT, "tensor %s is missing", w->name);
    if (t->rank != want.rank ||
        memcmp(t->shape, want.shape, (size_t)t->rank * sizeof *t->shape) != 0)
        return err_set(err, ERR_CORRUPT,
                       "tensor %s has another shape than config.json says "
                       "(wanted %lld x %lld)",
                       t->name, (long long)w->rows, (long long)w->cols);
    *out = *t;
    if (r) {
        int64_t piece = w->rows * w->cols * (int64_t)kern_dtype_size(t->dtype);
        out->data = (const char *)t->data +
                    ((int64_t)w->expert * r->parts + r->part) * piece;
        out->bytes = piece;
    }
    return 0;
}

static int model_bind_small(struct model *m, int i, const struct st_tensor *t,
                            float **at, struct err *err) {
    int64_t n = m->info[i].rows * m->info[i].cols;
    int rc = m->kern->ops->widen(m->kern, *at, t->data, t->dtype, n);
    m->weights.w[i] = (struct weight){*at, KERN_F32};
    *at += n;
    return rc ? err_kern(err, rc, t->name) : 0;
}

static int model_bind(struct model *m, int i, float **small, struct err *err) {
    const struct weight_info *w = &m->info[i];
    struct st_tensor x = {0}, *t = &x;
    if (model_tensor(m, w, t, err) < 0)
        return -1;
    if (w->is_small)
        return model_bind_small(m, i, t, small, err);
    struct kern *k = m->kern;
    bool aligned = (uintptr_t)t->data % kern_dtype_size(t->dtype) == 0;
    const void *dev =
        aligned ? k->ops->adopt(k, t->data, (size_t)t->bytes) : NULL;
    if (!dev) {
        m->copies[i] = k->ops->alloc(k, (size_t)t->bytes);
        if (!m->copies[i])
            return err_kern(err, KERN_ENOMEM, w->name);
        int rc = k->ops->copy_in(k, m->copies[i], t->data, (size_t)t->bytes);
        if (rc)
            return err_kern(err, rc, w->name);
        dev = m->copies[i];
    }
    m->weights.w[i] = (struct weight){dev, t->dtype};
    return 0;
}

static int model_load(struct model *m, struct err *err) {
    int64_t small = 0;
    for (int i = 0; i < m->n; i++)
        small += m->info[i].is_small ? m->info[i].rows * m->info[i].cols : 0;
    m->small = m->kern->ops->alloc(m->kern, (size_t)small * sizeof(float));
    if (!m->small)
        return err_kern(err, KERN_ENOMEM, "norms");
    float *at = m->small;
    for (int i = 0; i < m->n; i++)
        if (model_bind(m, i, &at, err) < 0)
            return -1;
    return 0;
}

struct model *model_open(const char *dir, struct kern *k, struct err *err) {
    struct model *m = calloc(1, sizeof *m);
    CHECK(m, "out of memory for a model");
    m->dir = fs_path("%s", dir);
    m->kern = k;
    m->weights.model = m;
    if (conf_read(&m->conf, dir, err) < 0)
        goto fail;
    model_table(m);
    m->st = st_open_dir(dir, err);
    if (!m->st || (k && model_load(m, err) < 0))
        goto fail;
    return m;
fail:
    err_ctx(err, "load model %s", dir);
    model_close(m);
    return NULL;
}

struct model *model_outline(const char *dir, struct err *err) {
    return model_open(dir, NULL, err);
}

int64_t model_bytes(const struct model *m) {
    int64_t n = 0;
    for (int i = 0; m->st && i < st_count(m->st); i++)
        n += st_at(m->st, i)->bytes;
    for (int i = 0; !m->st && i < m->n; i++) /* a random one */
        n += (m->offset[i + 1] - m->offset[i]) *
             (int64_t)kern_dtype_size(m->weights.w[i].dtype);
    return n;
}

/* Uniform in ±0.04, about what trained matrices have; 1-dimensional ones 1. */
static void random_fill(uint16_t *x, int64_t n, uint64_t seed) {
    for (int64_t i = 0; i < n; i++) {
        uint64_t r = rng_u64(seed, 0, (uint64_t)i / 4) >> i % 4 * 16;
        float f = ((float)(r & 0xffff) / 32768.0f - 1.0f) * 0.04f;
        uint32_t u;
        memcpy(&u, &f, sizeof u);
        x[i] = (uint16_t)(u >> 16);
    }
}

static int random_weight(struct model *m, int i, uint64_t seed,
                         struct err *err) {
    int64_t n = m->offset[i + 1] - m->offset[i];
    bool is_small = m->info[i].rank == 1;
    size_t bytes = (size_t)n * (is_small ? sizeof(float) : sizeof(uint16_t));
    void *host = malloc(bytes);
    m->copies[i] = m->kern->ops->alloc(m->kern, bytes);
    m->weights.w[i] =
        (struct weight){m->copies[i], is_small ? KERN_F32 : KERN_BF16};
    int rc = host && m->copies[i] ? KERN_OK : KERN_ENOMEM;
    if (rc == KERN_OK && is_small)
        for (int64_t j = 0; j < n; j++)
            ((float *)host)[j] = 1.0f;
    else if (rc == KERN_OK)
        random_fill(host, n, seed + (uint64_t)i);
    if (rc == KERN_OK)
        rc = m->kern->ops->copy_in(m->kern, m->copies[i], host, bytes);
    free(host);
    return rc ? err_kern(err, rc, m->info[i].name) : 0;
}

struct model *model_random(const struct conf *c, struct kern *k, uint64_t seed,
                           struct err *err) {
    struct model *m = calloc(1, sizeof *m);
    CHECK(m, "out of memory for a model");
    m->dir = fs_path("random");
    m->kern = k;
    m->conf = *c;
    m->conf.layer = calloc((size_t)c->L + 1, sizeof *c->layer);
    CHECK(m->conf.layer, "out of memory for a model");
    m->weights.model = m;
    model_table(m);
    for (int i = 0; i < m->n; i++)
        if (random_weight(m, i, seed, err) < 0) {
            model_close(m);
            return NULL;
        }
    return m;
}

void model_close(struct model *m) {
    if (!m)
        return;
    for (int i = 0; i < m->n; i++)
        if (m->copies[i])
            m->kern->ops->free(m->kern, m->copies[i]);
    if (m->small)
        m->kern->ops->free(m->kern, m->small);
    st_close(m->st);
    conf_release(&m->conf);
    free(m->info);
    free(m->offset);
    free(m->index);
    free(m->copies);
    free(m->weights.w);
    free(m->dir);
    free(m);
}

const struct conf *model_conf(const struct model *m) { return &m->conf; }
const char *model_dir(const struct model *m) { return m->dir; }
const struct weights *model_weights(const struct model *m) {
    return &m->weights;
}
int model_count(const struct model *m) { return m->n; }
const struct weight_info *model_info(const struct model *m, int i) {
    return &m->info[i];
}
int model_index(const struct model *m, enum slot slot, int layer) {
    return m->index[(int)slot * (m->conf.L + 1) + layer + 1];
}
int64_t model_floats(const struct model *m) { return m->offset[m->n]; }
int64_t model_offset(const struct model *m, int i) { return m->offset[i]; }

int model_widen(const struct model *m, struct kern *k, float *dev,
                struct err *err) {
    for (int i = 0; i < m->n; i++) {
        const struct weight *w = &m->weights.w[i];
        int rc = k->ops->widen(k, dev + m->offset[i], w->dev, w->dtype,
                               m->offset[i + 1] - m->offset[i]);
        if (rc)
            return err_kern(err, rc, m->info[i].name);
    }
    if (m->st)
        st_forget(m->st);
    return 0;
}

int err_kern(struct err *err, int rc, const char *what) {
    enum err_code code = rc == KERN_ENOMEM   ? ERR_NOMEM
                         : rc == KERN_EINVAL ? ERR_INVAL
                                             : ERR_DEVICE;
    return err_set(err, code, "%s: %s", what, kern_strerror(rc));
}
