/* csr: sparse tensors of the protocols, made dense. */
#include "core/wire.h"

#include <stdlib.h>
#include <string.h>

static int64_t csr_i64(const void *p, size_t i) {
    int64_t v; /* little-endian as the machine, maybe not aligned */
    memcpy(&v, (const uint8_t *)p + i * sizeof v, sizeof v);
    return v;
}

/* One row: columns ascend, so that no cell is there twice. */
static bool csr_row(const struct csr *c, int64_t r, uint8_t *out) {
    int64_t at = csr_i64(c->crow, (size_t)r);
    int64_t end = csr_i64(c->crow, (size_t)r + 1), last = -1;
    if (at < 0 || end < at || end > (int64_t)c->n)
        return false;
    for (; at < end; at++) {
        int64_t col = csr_i64(c->col, (size_t)at);
        if (col <= last || col >= c->cols)
            return false;
        last = col;
        memcpy(out + (size_t)(r * c->cols + col) * c->width,
               (const uint8_t *)c->values + (size_t)at * c->width, c->width);
    }
    return true;
}

void *csr_dense(const struct csr *c, struct err *err) {
    int64_t most = WIRE_MAX / (int64_t)c->width;
    if (c->rows < 0 || c->cols < 0 ||
        (c->cols > 0 && c->rows > most / c->cols)) {
        err_set(err, ERR_TOOBIG, "a sparse tensor of %lld x %lld",
                (long long)c->rows, (long long)c->cols);
        return NULL;
    }
    uint8_t *out = calloc((size_t)(c->rows * c->cols) + 1, c->width);
    bool ok = out && csr_i64(c->crow, 0) == 0 &&
              csr_i64(c->crow, (size_t)c->rows) == (int64_t)c->n;
    for (int64_t r = 0; ok && r < c->rows; r++)
        ok = csr_row(c, r, out);
    if (ok)
        return out;
    err_set(err, out ? ERR_INVAL : ERR_NOMEM,
            out ? "a sparse tensor whose row bounds or columns do not fit"
                : "no memory for a sparse tensor");
    free(out);
    return NULL;
}
