/*
 * model: the weights of a directory by the table below; embeddings and
 * matrices stay mapped in their stored type, 1-dimensional ones become f32.
 */
#include "core/model.h"

#include "core/fs.h"
#include "core/model/int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum dim { DIM_NONE, DIM_C, DIM_Q, DIM_KV, DIM_D, DIM_F, DIM_V };

/* Why a model has the slot. */
enum has { HAS_ALWAYS, HAS_HEAD, HAS_QKV_BIAS, HAS_O_BIAS, HAS_QK_NORM };

struct slot_row {
    const char *name; /* of a layer's: behind "model.layers.N." */
    enum dim rows, cols;
    enum has has;
    bool is_lora;
};

static const struct slot_row slot_rows[SLOTS] = {
    [SLOT_EMBED] = {"model.embed_tokens.weight", DIM_V, DIM_C, HAS_ALWAYS, 0},
    [SLOT_NORM] = {"model.norm.weight", DIM_C, DIM_NONE, HAS_ALWAYS, 0},
    [SLOT_HEAD] = {"lm_head.weight", DIM_V, DIM_C, HAS_HEAD, 1},
    [SLOT_ATTN_NORM] = {"input_layernorm.weight", DIM_C, DIM_NONE, HAS_ALWAYS,
                        0},
    [SLOT_Q] = {"self_attn.q_proj.weight", DIM_Q, DIM_C, HAS_ALWAYS, 1},
    [SLOT_K] = {"self_attn.k_proj.weight", DIM_KV, DIM_C, HAS_ALWAYS, 1},
    [SLOT_V] = {"self_attn.v_proj.weight", DIM_KV, DIM_C, HAS_ALWAYS, 1},
    [SLOT_O] = {"self_attn.o_proj.weight", DIM_C, DIM_Q, HAS_ALWAYS, 1},
    [SLOT_Q_BIAS] = {"self_attn.q_proj.bias", DIM_Q, DIM_NONE, HAS_QKV_BIAS, 0},
    [SLOT_K_BIAS] = {"self_attn.k_proj.bias", DIM_KV, DIM_NONE, HAS_QKV_BIAS,
                     0},
    [SLOT_V_BIAS] = {"self_attn.v_proj.bias", DIM_KV, DIM_NONE, HAS_QKV_BIAS,
                     0},
    [SLOT_O_BIAS] = {"self_attn.o_proj.bias", DIM_C, DIM_NONE, HAS_O_BIAS, 0},
    [SLOT_Q_NORM] = {"self_attn.q_norm.weight", DIM_D, DIM_NONE, HAS_QK_NORM,
                     0},
    [SLOT_K_NORM] = {"self_attn.k_norm.weight", DIM_D, DIM_NONE, HAS_QK_NORM,
                     0},
    [SLOT_MLP_NORM] = {"post_attention_layernorm.weight", DIM_C, DIM_NONE,
                       HAS_ALWAYS, 0},
    [SLOT_GATE] = {"mlp.gate_proj.weight", DIM_F, DIM_C, HAS_ALWAYS, 1},
    [SLOT_UP] = {"mlp.up_proj.weight", DIM_F, DIM_C, HAS_ALWAYS, 1},
    [SLOT_DOWN] = {"mlp.down_proj.weight", DIM_C, DIM_F, HAS_ALWAYS, 1},
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
    float *small;  /* the 1-dimensional ones, f32 */
    void **copies; /* (n) of weights that could not be used in place */
};

static int64_t dim_of(const struct conf *c, enum dim d) {
    switch (d) {
    case DIM_C: return c->C;
    case DIM_Q: return (int64_t)c->H * c->D;
    case DIM_KV: return (int64_t)c->K * c->D;
    case DIM_D: return c->D;
    case DIM_F: return c->F;
    case DIM_V: return c->V;
    default: return 1;
    }
}

static bool has_slot(const struct conf *c, enum has h) {
    switch (h) {
    case HAS_HEAD: return !c->tied;
    case HAS_QKV_BIAS: return c->qkv_bias;
    case HAS_O_BIAS: return c->o_bias;
    case HAS_QK_NORM: return c->qk_norm;
    default: return true;
    }
}

static void model_add(struct model *m, enum slot slot, int layer) {
    const struct slot_row *row = &slot_rows[slot];
    if (!has_slot(&m->conf, row->has))
        return;
    struct weight_info *w = &m->info[m->n];
    w->slot = slot;
    w->layer = layer;
    w->rows = dim_of(&m->conf, row->rows);
    w->cols = dim_of(&m->conf, row->cols);
    w->rank = row->cols == DIM_NONE ? 1 : 2;
    w->is_lora = row->is_lora;
    if (layer < 0)
        snprintf(w->name, sizeof w->name, "%s", row->name);
    else
        snprintf(w->name, sizeof w->name, "model.layers.%d.%s", layer,
                 row->name);
    m->offset[m->n + 1] = m->offset[m->n] + w->rows * w->cols;
    m->index[(int)slot * (m->conf.L + 1) + layer + 1] = m->n++;
}

static void model_table(struct model *m) {
    size_t most = (size_t)SLOTS * (size_t)(m->conf.L + 1);
    m->info = calloc(most, sizeof *m->info);
    m->offset = calloc(most + 1, sizeof *m->offset);
    m->index = calloc(most, sizeof *m->index);
    m->copies = calloc(most, sizeof *m->copies);
    m->weights.w = calloc(most, sizeof *m->weights.w);
    CHECK(m->info && m->offset && m->index && m->copies && m->weights.w,
          "out of memory for %zu weights", most);
    for (size_t i = 0; i < most; i++)
        m->index[i] = -1;
    for (int s = 0; s < SLOT_ATTN_NORM; s++)
        model_add(m, (enum slot)s, -1);
    for (int l = 0; l < m->conf.L; l++)
        for (int s = SLOT_ATTN_NORM; s < SLOTS; s++)
            model_add(m, (enum slot)s, l);
}

static int model_bind_small(struct model *m, int i, const struct st_tensor *t,
                            float **at, struct err *err) {
    int rc =
        m->kern->ops->widen(m->kern, *at, t->data, t->dtype, m->info[i].rows);
    m->weights.w[i] = (struct weight){*at, KERN_F32};
    *at += m->info[i].rows;
    return rc ? err_kern(err, rc, t->name) : 0;
}

static int model_bind(struct model *m, int i, float **small, struct err *err) {
    const struct weight_info *w = &m->info[i];
    const struct st_tensor *t = st_find(m->st, w->name);
    if (!t)
        return err_set(err, ERR_CORRUPT, "tensor %s is missing", w->name);
    if (t->rank != w->rank || t->shape[0] != w->rows ||
        (w->rank == 2 && t->shape[1] != w->cols))
        return err_set(err, ERR_CORRUPT,
                       "tensor %s has another shape than config.json says "
                       "(wanted %lld x %lld)",
                       w->name, (long long)w->rows, (long long)w->cols);
    if (w->rank == 1)
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
        small += m->info[i].rank == 1 ? m->info[i].rows : 0;
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
    for (int i = 0; i < st_count(m->st); i++)
        n += st_at(m->st, i)->bytes;
    return n;
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
    return 0;
}

int err_kern(struct err *err, int rc, const char *what) {
    enum err_code code = rc == KERN_ENOMEM   ? ERR_NOMEM
                         : rc == KERN_EINVAL ? ERR_INVAL
                                             : ERR_DEVICE;
    return err_set(err, code, "%s: %s", what, kern_strerror(rc));
}
