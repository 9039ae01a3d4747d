/* quant: a policy's matrices in 8 or 4 bits, for deployments. The embedding is
 * looked up as it is; a head that is tied to it gets a matrix of its own.
 * Routers, whose choice a small error can turn, and stacked experts, which are
 * stored the other way round, stay as they are. */
#include "core/model/int.h"

#include <stdlib.h>
#include <string.h>

struct quant {
    struct weights w; /* first */
    struct kern *kern;
    struct weight head;
    char *dev; /* one block, matrix after matrix */
};

static bool is_matrix(const struct weight_info *i) {
    return i->rank == 2 && !i->is_small && i->slot != SLOT_EMBED;
}

/* Index of what the head multiplies with, when that is the embedding. */
static int tied_head(const struct model *m) {
    return model_index(m, SLOT_HEAD, -1) < 0 ? model_index(m, SLOT_EMBED, -1)
                                             : -1;
}

static size_t quant_size(const struct weight_info *i, enum kern_dtype t) {
    return (kern_quant_bytes(t, i->rows, i->cols) + 63) / 64 * 64;
}

static int quant_put(struct quant *q, const struct weight_info *i,
                     const struct weight *from, enum kern_dtype t, size_t *at,
                     struct weight *to, struct err *err) {
    struct kern_quant a = {.t = t,
                           .rows = (int32_t)i->rows,
                           .cols = (int32_t)i->cols,
                           .x = from->dev,
                           .xt = from->dtype,
                           .y = q->dev + *at};
    int rc = q->kern->ops->quant(q->kern, &a);
    *to = (struct weight){a.y, t};
    *at += quant_size(i, t);
    return rc ? err_kern(err, rc, i->name) : 0;
}

static int quant_fill(struct quant *q, const struct weights *w,
                      enum kern_dtype t, struct err *err) {
    const struct model *m = w->model;
    int tied = tied_head(m);
    size_t at = 0;
    for (int i = 0; i < model_count(m); i++) {
        const struct weight_info *info = model_info(m, i);
        q->w.w[i] = w->w[i];
        if (is_matrix(info) &&
            quant_put(q, info, &w->w[i], t, &at, &q->w.w[i], err) < 0)
            return -1;
    }
    if (tied < 0)
        return 0;
    q->w.head = &q->head;
    return quant_put(q, model_info(m, tied), &w->w[tied], t, &at, &q->head,
                     err);
}

struct weights *weights_quant(const struct weights *w, struct kern *k,
                              enum kern_dtype t, struct err *err) {
    const struct model *m = w->model;
    size_t bytes = 0;
    for (int i = 0; i < model_count(m); i++)
        if (is_matrix(model_info(m, i)) || i == tied_head(m))
            bytes += quant_size(model_info(m, i), t);
    struct quant *q = calloc(1, sizeof *q);
    CHECK(q, "out of memory for weights");
    q->kern = k;
    q->w.model = m;
    q->w.w = calloc((size_t)model_count(m), sizeof *q->w.w);
    CHECK(q->w.w, "out of memory for weights");
    q->dev = k->ops->alloc(k, bytes);
    int rc = q->dev ? quant_fill(q, w, t, err)
                    : err_set(err, ERR_NOMEM,
                              "no memory for %zu MiB of quantised weights",
                              bytes >> 20);
    if (rc == 0)
        return &q->w;
    weights_free(&q->w);
    return NULL;
}

void weights_free(struct weights *w) {
    struct quant *q = (struct quant *)(void *)w;
    if (!q)
        return;
    if (q->dev)
        q->kern->ops->free(q->kern, q->dev);
    free(q->w.w);
    free(q);
}
