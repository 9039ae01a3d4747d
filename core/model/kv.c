/* kv: a pool of counted pages; a page holds KERN_PAGE positions of one
 * sequence for every layer. */
#include "core/model/int.h"

#include <stdlib.h>

struct kv {
    const struct model *model;
    struct kern *kern;
    float *dev; /* (L, pages, page) */
    int32_t pages, n_free;
    int64_t page_floats; /* of one layer */
    int32_t *refs, *free_list;
};

static int64_t kv_page_floats(const struct conf *c) {
    return (int64_t)2 * c->K * KERN_PAGE * c->D;
}

int64_t kv_page_bytes(const struct model *m) {
    const struct conf *c = model_conf(m);
    return kv_page_floats(c) * c->L * (int64_t)sizeof(float);
}

struct kv *kv_new(const struct model *m, struct kern *k, int32_t pages,
                  struct err *err) {
    struct kv *kv = calloc(1, sizeof *kv);
    CHECK(kv && pages > 0, "a cache of %d pages", pages);
    kv->model = m;
    kv->kern = k;
    kv->pages = kv->n_free = pages;
    kv->page_floats = kv_page_floats(model_conf(m));
    kv->refs = calloc((size_t)pages, sizeof *kv->refs);
    kv->free_list = calloc((size_t)pages, sizeof *kv->free_list);
    CHECK(kv->refs && kv->free_list, "out of memory for %d pages", pages);
    size_t bytes = (size_t)kv_page_bytes(m) * (size_t)pages;
    kv->dev = k->ops->alloc(k, bytes);
    if (!kv->dev) { /* not cleared: pages that are never used cost nothing */
        err_set(err, ERR_NOMEM, "KV cache: no memory for %zu MiB", bytes >> 20);
        kv_free(kv);
        return NULL;
    }
    for (int32_t i = 0; i < pages; i++)
        kv->free_list[i] = pages - 1 - i;
    return kv;
}

void kv_free(struct kv *kv) {
    if (!kv)
        return;
    if (kv->dev)
        kv->kern->ops->free(kv->kern, kv->dev);
    free(kv->refs);
    free(kv->free_list);
    free(kv);
}

int32_t kv_take(struct kv *kv) {
    if (kv->n_free == 0)
        return -1;
    int32_t page = kv->free_list[--kv->n_free];
    kv->refs[page] = 1;
    return page;
}

void kv_share(struct kv *kv, int32_t page) { kv->refs[page]++; }

void kv_drop(struct kv *kv, int32_t page) {
    if (--kv->refs[page] == 0)
        kv->free_list[kv->n_free++] = page;
}

int32_t kv_left(const struct kv *kv) { return kv->n_free; }

int32_t kv_refs(const struct kv *kv, int32_t page) { return kv->refs[page]; }

float *kv_layer(struct kv *kv, int layer) {
    return kv->dev + (int64_t)layer * kv->pages * kv->page_floats;
}

int kv_copy(struct kv *kv, int32_t to, int32_t from, struct err *err) {
    struct kern *k = kv->kern;
    for (int l = 0; l < model_conf(kv->model)->L; l++) {
        float *at = kv_layer(kv, l);
        int rc = k->ops->copy(k, at + to * kv->page_floats,
                              at + from * kv->page_floats,
                              (size_t)kv->page_floats * sizeof(float));
        if (rc)
            return err_kern(err, rc, "copy a cache page");
    }
    return 0;
}
