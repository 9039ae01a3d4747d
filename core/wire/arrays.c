/* arrays: every count is checked against the bytes that are there. */
#include "core/wire/arrays.h"

#include <stdlib.h>
#include <string.h>

void put_u32s(struct buf *b, const uint32_t *v, size_t n) {
    for (size_t i = 0; i < n; i++)
        buf_u32(b, v[i]);
}

void put_f32s(struct buf *b, const float *v, size_t n) {
    for (size_t i = 0; i < n; i++)
        buf_f32(b, v[i]);
}

void *get_items(struct cur *c, size_t n, size_t size, size_t least) {
    if (c->bad || n > cur_left(c) / (least ? least : 1)) {
        c->bad = true;
        return NULL;
    }
    void *p = calloc(n + 1, size);
    if (!p)
        c->bad = true;
    return p;
}

uint32_t *get_u32s(struct cur *c, size_t n) {
    uint32_t *v = get_items(c, n, sizeof *v, 4);
    for (size_t i = 0; v && i < n; i++)
        v[i] = cur_u32(c);
    return v;
}

float *get_f32s(struct cur *c, size_t n) {
    float *v = get_items(c, n, sizeof *v, 4);
    for (size_t i = 0; v && i < n; i++)
        v[i] = cur_f32(c);
    return v;
}
