/*
 * words: full tuning with bf16 weights. The f32 master lies in two arrays of
 * 16-bit words (kernels.h, kern_adamw): the high ones are the weights that
 * passes see, so nothing is held twice. Vectors are f32 for the kernels, and
 * get a small widened copy.
 */
#include "core/train/int.h"

#include <stdlib.h>
#include <string.h>

static void *words_new(struct trainer *tr, struct err *err) {
    void *dev = tr->kern->ops->alloc(tr->kern, (size_t)tr->floats * 2);
    if (!dev)
        err_kern(err, KERN_ENOMEM, "weights");
    return dev;
}

/* The f32 copy of vector i out of its high words. */
static int small_refresh(struct trainer *tr, int i) {
    const struct weight_info *w = model_info(tr->model, i);
    if (!w->is_small)
        return KERN_OK;
    return tr->kern->ops->widen(tr->kern, (float *)tr->weights.w[i].dev,
                                tr->hi + model_offset(tr->model, i), KERN_BF16,
                                w->rows * w->cols);
}

int words_write(struct trainer *tr, int i, const float *host) {
    size_t n = (size_t)tr->param[i].count;
    uint16_t *hi = malloc(n * 2);
    int16_t *lo = malloc(n * 2);
    CHECK(hi && lo, "out of memory for %s", tr->param[i].name);
    for (size_t j = 0; j < n; j++) {
        uint32_t bits;
        memcpy(&bits, &host[j], sizeof bits);
        hi[j] = (uint16_t)((bits + 0x8000u) >> 16);
        lo[j] = (int16_t)(uint16_t)bits;
    }
    const struct kern_ops *ops = tr->kern->ops;
    int64_t at = tr->param[i].offset;
    int rc = ops->copy_in(tr->kern, tr->hi + at, hi, n * 2);
    if (rc == KERN_OK)
        rc = ops->copy_in(tr->kern, tr->lo + at, lo, n * 2);
    if (rc == KERN_OK)
        rc = small_refresh(tr, i);
    free(hi);
    free(lo);
    return rc;
}

/* Weights, or their low words as whole numbers, to f32 on the host. */
int words_read(struct trainer *tr, enum train_part part, int i, float *host) {
    size_t n = (size_t)tr->param[i].count;
    uint16_t *x = malloc(n * 2);
    CHECK(x, "out of memory for %s", tr->param[i].name);
    const void *from = part == TRAIN_LOW
                           ? (const void *)(tr->lo + tr->param[i].offset)
                           : (const void *)(tr->hi + tr->param[i].offset);
    int rc = tr->kern->ops->copy_out(tr->kern, x, from, n * 2);
    for (size_t j = 0; rc == KERN_OK && j < n; j++) {
        uint32_t bits = (uint32_t)x[j] << 16;
        if (part == TRAIN_LOW)
            host[j] = (float)(int16_t)x[j];
        else
            memcpy(&host[j], &bits, sizeof bits);
    }
    free(x);
    return rc;
}

int words_write_low(struct trainer *tr, int i, const float *host) {
    size_t n = (size_t)tr->param[i].count;
    int16_t *lo = malloc(n * 2);
    CHECK(lo, "out of memory for %s", tr->param[i].name);
    for (size_t j = 0; j < n; j++) /* a file may hold anything */
        lo[j] = host[j] >= -32768 && host[j] <= 32767 ? (int16_t)host[j] : 0;
    int rc = tr->kern->ops->copy_in(tr->kern, tr->lo + tr->param[i].offset, lo,
                                    n * 2);
    free(lo);
    return rc;
}

/* Every weight of the base, widened, in words. */
static int words_fill(struct trainer *tr, struct err *err) {
    const struct model *m = tr->model;
    const struct kern_ops *ops = tr->kern->ops;
    int64_t most = 0;
    int rc = KERN_OK;
    for (int i = 0; i < tr->n; i++)
        most = tr->param[i].count > most ? tr->param[i].count : most;
    float *dev = block_new(tr, most, err);
    float *host = malloc((size_t)most * sizeof *host);
    CHECK(host, "out of memory for weights");
    for (int i = 0; dev && i < tr->n && rc == KERN_OK; i++) {
        const struct weight *w = &model_weights(m)->w[i];
        rc = ops->widen(tr->kern, dev, w->dev, w->dtype, tr->param[i].count);
        if (rc == KERN_OK)
            rc = ops->copy_out(tr->kern, host, dev,
                               (size_t)tr->param[i].count * sizeof *host);
        if (rc == KERN_OK)
            rc = words_write(tr, i, host);
    }
    if (dev)
        ops->free(tr->kern, dev);
    free(host);
    return rc ? err_kern(err, rc, "weights") : dev ? 0 : -1;
}

int words_init(struct trainer *tr, struct err *err) {
    int64_t small = 0;
    for (int i = 0; i < tr->n; i++)
        small += model_info(tr->model, i)->is_small ? tr->param[i].count : 0;
    tr->hi = words_new(tr, err);
    tr->lo = words_new(tr, err);
    tr->small = block_new(tr, small, err);
    if (!tr->hi || !tr->lo || !tr->small)
        return -1;
    float *at = tr->small;
    for (int i = 0; i < tr->n; i++) {
        bool is_small = model_info(tr->model, i)->is_small;
        tr->weights.w[i] =
            is_small ? (struct weight){at, KERN_F32}
                     : (struct weight){tr->hi + tr->param[i].offset, KERN_BF16};
        at += is_small ? tr->param[i].count : 0;
    }
    return words_fill(tr, err);
}

int words_refresh(struct trainer *tr, struct err *err) {
    int rc = KERN_OK;
    for (int i = 0; i < tr->n && rc == KERN_OK; i++)
        rc = small_refresh(tr, i);
    return rc ? err_kern(err, rc, "weights") : 0;
}
