/* lora: adapters. One block holds A and B of every adapted weight, in the
 * model's order of weights, the head last. */
#include "core/model/int.h"

#include "core/rng.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Models with experts have no adapter on the mlp of their dense layers either:
 * PEFT takes its name for that of the experts and could not load it. */
static bool lora_wants(const struct lora_conf *c, const struct model *m,
                       enum slot s) {
    switch (s) {
    case SLOT_Q:
    case SLOT_K:
    case SLOT_V:
    case SLOT_QKV:
    case SLOT_O: return c->attn;
    case SLOT_GATE:
    case SLOT_UP:
    case SLOT_GATE_UP:
    case SLOT_DOWN: return c->mlp && model_conf(m)->E == 0;
    case SLOT_HEAD: return c->unembed;
    default: return false;
    }
}

/* Where the head's adapter sits. */
static int lora_head(const struct model *m) {
    int head = model_index(m, SLOT_HEAD, -1);
    return head >= 0 ? head : model_index(m, SLOT_EMBED, -1);
}

static bool lora_takes(const struct lora_conf *c, const struct model *m,
                       const struct weight_info *w) {
    return w->is_lora && w->slot != SLOT_HEAD && lora_wants(c, m, w->slot);
}

static void lora_pair_add(struct adapter *a, const struct model *m, int i,
                          bool is_head) {
    const struct weight_info *w = model_info(m, i);
    struct lora_pair *p = &a->pair[a->n++];
    const char *name = is_head ? "lm_head.weight" : w->name;
    p->weight = i;
    p->is_head = is_head;
    p->in = w->cols;
    p->out = w->rows;
    p->a_at = a->floats;
    p->b_at = p->a_at + a->conf.rank * p->in;
    a->floats = p->b_at + a->conf.rank * p->out;
    snprintf(p->name, sizeof p->name, "base_model.model.%.*s",
             (int)(strlen(name) - strlen(".weight")), name);
}

static int lora_init(struct adapter *a, uint64_t seed, struct err *err) {
    float *host = calloc((size_t)a->floats + 1, sizeof *host);
    if (!host)
        return err_set(err, ERR_NOMEM, "adapter of %lld floats",
                       (long long)a->floats);
    for (int i = 0; i < a->n; i++) {
        const struct lora_pair *p = &a->pair[i];
        uint64_t stream = rng_stream(p->name);
        float bound = (float)(1.0 / sqrt((double)p->in));
        for (int64_t j = 0; j < a->conf.rank * p->in; j++)
            host[p->a_at + j] =
                (2.0f * rng_uniform(seed, stream, (uint64_t)j) - 1.0f) * bound;
    }
    int rc = a->kern->ops->copy_in(a->kern, a->dev, host,
                                   (size_t)a->floats * sizeof *host);
    free(host);
    return rc ? err_kern(err, rc, "adapter") : 0;
}

/* All pairs that conf asks for; pair has room for every weight and one. */
static void lora_pairs(struct adapter *a, const struct model *m) {
    const struct lora_conf *conf = &a->conf;
    for (int i = 0; i < model_count(m); i++)
        if (lora_takes(conf, m, model_info(m, i)))
            lora_pair_add(a, m, i, false);
    if (conf->unembed)
        lora_pair_add(a, m, lora_head(m), true);
}

int64_t adapter_floats(const struct model *m, const struct lora_conf *conf) {
    struct adapter a = {.conf = *conf};
    a.pair = calloc((size_t)model_count(m) + 1, sizeof *a.pair);
    CHECK(a.pair, "out of memory for an adapter");
    lora_pairs(&a, m);
    free(a.pair);
    return a.floats;
}

struct adapter *adapter_new(const struct model *m, struct kern *k,
                            const struct lora_conf *conf, uint64_t seed,
                            struct err *err) {
    if (conf->rank < 1 || conf->rank > 4096 || !isfinite(conf->alpha)) {
        err_set(err, ERR_INVAL, "lora_rank %d: 1 to 4096", conf->rank);
        return NULL;
    }
    struct adapter *a = calloc(1, sizeof *a);
    CHECK(a, "out of memory for an adapter");
    a->conf = *conf;
    a->scaling = conf->alpha / (float)conf->rank;
    a->kern = k;
    a->pair = calloc((size_t)model_count(m) + 1, sizeof *a->pair);
    CHECK(a->pair, "out of memory for an adapter");
    lora_pairs(a, m);
    if (a->n == 0) {
        err_set(err, ERR_INVAL,
                "an adapter on nothing: train_attn, train_mlp "
                "or train_unembed must be on");
        adapter_free(a);
        return NULL;
    }
    a->dev = k->ops->alloc(k, (size_t)a->floats * sizeof(float));
    if (!a->dev) {
        err_kern(err, KERN_ENOMEM, "adapter");
        adapter_free(a);
        return NULL;
    }
    for (int i = 0; i < a->n; i++) {
        a->pair[i].a = a->dev + a->pair[i].a_at;
        a->pair[i].b = a->dev + a->pair[i].b_at;
    }
    if (lora_init(a, seed, err) < 0) {
        adapter_free(a);
        return NULL;
    }
    return a;
}

void adapter_free(struct adapter *a) {
    if (!a)
        return;
    if (a->dev)
        a->kern->ops->free(a->kern, a->dev);
    free(a->pair);
    free(a);
}

const struct lora_pair *adapter_pair(const struct adapter *a, int weight,
                                     bool is_head) {
    for (int i = 0; a && i < a->n; i++)
        if (a->pair[i].weight == weight && a->pair[i].is_head == is_head)
            return &a->pair[i];
    return NULL;
}
