/* vecops: elementwise sums, scales, biases, widening; sums of squares. */
#include "kernels/cpu/isa.h"

#define VEC_GRAIN 16384
#define SUMSQ_CHUNK 65536

struct range_run {
    int64_t n, grain;
    isa_range_fn *fn;
    void *arg;
};

static void range_task(void *arg, int task, int thread) {
    const struct range_run *r = arg;
    int64_t first = task * r->grain, end = first + r->grain;
    (void)thread;
    r->fn(r->arg, first, end < r->n ? end : r->n);
}

void ISA(ranges)(struct kern *k, int64_t n, int64_t grain, isa_range_fn *fn,
                 void *arg) {
    struct range_run r = {n, grain, fn, arg};
    if (n > 0)
        pool_run(cpu_of(k)->pool, (int)((n + grain - 1) / grain), range_task,
                 &r);
}

struct vec_run {
    float *y;
    const float *x;
    const void *any;
    enum kern_dtype t;
    float s;
};

static void add_range(void *arg, int64_t i, int64_t end) {
    const struct vec_run *r = arg;
    for (; i + VL <= end; i += VL)
        v_store(r->y + i, v_add(v_load(r->y + i), v_load(r->x + i)));
    for (; i < end; i++)
        r->y[i] = r->y[i] + r->x[i];
}

int ISA(add)(struct kern *k, float *y, const float *x, int64_t n) {
    if (n < 0)
        return KERN_EINVAL;
    struct vec_run r = {.y = y, .x = x};
    ISA(ranges)(k, n, VEC_GRAIN, add_range, &r);
    return KERN_OK;
}

static void scale_range(void *arg, int64_t i, int64_t end) {
    const struct vec_run *r = arg;
    vf s = v_set(r->s);
    for (; i + VL <= end; i += VL)
        v_store(r->y + i, v_mul(v_load(r->y + i), s));
    for (; i < end; i++)
        r->y[i] = r->y[i] * r->s;
}

int ISA(scale)(struct kern *k, float *x, float s, int64_t n) {
    if (n < 0)
        return KERN_EINVAL;
    struct vec_run r = {.y = x, .s = s};
    ISA(ranges)(k, n, VEC_GRAIN, scale_range, &r);
    return KERN_OK;
}

static void widen_range(void *arg, int64_t i, int64_t end) {
    const struct vec_run *r = arg;
    for (; i < end; i += VL) {
        int n = end - i < VL ? (int)(end - i) : VL;
        v_put(r->y + i, v_loadn_any(r->any, r->t, i, n), n);
    }
}

int ISA(widen)(struct kern *k, float *y, const void *x, enum kern_dtype t,
               int64_t n) {
    if (n < 0 || (unsigned)t >= KERN_DTYPES)
        return KERN_EINVAL;
    struct vec_run r = {.y = y, .any = x, .t = t};
    ISA(ranges)(k, n, VEC_GRAIN, widen_range, &r);
    return KERN_OK;
}

struct bias_run {
    float *y;
    const float *x;
    int64_t ld;
    int32_t T, C;
};

static void bias_rows(void *arg, int64_t t, int64_t end) {
    const struct bias_run *r = arg;
    for (; t < end; t++)
        for (int32_t c = 0; c < r->C; c++)
            r->y[t * r->ld + c] = r->y[t * r->ld + c] + r->x[c];
}

int ISA(bias)(struct kern *k, float *y, int64_t ldy, const float *b, int32_t T,
              int32_t C) {
    if (T < 0 || C < 0 || ldy < C)
        return KERN_EINVAL;
    struct bias_run r = {y, b, ldy, T, C};
    ISA(ranges)(k, T, 64, bias_rows, &r);
    return KERN_OK;
}

/* Columns first … end: each a chain over the rows. */
static void bias_columns(void *arg, int64_t c, int64_t end) {
    const struct bias_run *r = arg;
    for (int32_t t = 0; t < r->T; t++)
        for (int64_t j = c; j < end; j++)
            r->y[j] = r->y[j] + r->x[t * r->ld + j];
}

int ISA(bias_bwd)(struct kern *k, float *db, const float *dy, int64_t ldy,
                  int32_t T, int32_t C) {
    if (T < 0 || C < 0 || ldy < C)
        return KERN_EINVAL;
    struct bias_run r = {db, dy, ldy, T, C};
    ISA(ranges)(k, C, 64, bias_columns, &r);
    return KERN_OK;
}

struct sumsq_run {
    const float *x;
    int64_t n;
    double *chunks;
};

static void sumsq_chunk(void *arg, int64_t first, int64_t end) {
    const struct sumsq_run *r = arg;
    double s[VL] = {0};
    int64_t i = first;
    for (; i + VL <= end; i += VL)
        for (int j = 0; j < VL; j++)
            s[j] += (double)r->x[i + j] * (double)r->x[i + j];
    for (int j = 0; i + j < end; j++)
        s[j] += (double)r->x[i + j] * (double)r->x[i + j];
    for (int half = 8; half > 0; half /= 2)
        for (int j = 0; j < half; j++)
            s[j] += s[j + half];
    r->chunks[first / SUMSQ_CHUNK] = s[0];
}

int ISA(sumsq)(struct kern *k, double *out, const float *x, int64_t n) {
    if (n < 0)
        return KERN_EINVAL;
    struct cpu *c = cpu_of(k);
    int64_t chunks = (n + SUMSQ_CHUNK - 1) / SUMSQ_CHUNK;
    int rc = cpu_reserve(c, (size_t)(chunks + 1) * sizeof(double));
    if (rc)
        return rc;
    struct sumsq_run r = {x, n, c->scratch[0]};
    ISA(ranges)(k, n, SUMSQ_CHUNK, sumsq_chunk, &r);
    double sum = 0;
    for (int64_t i = 0; i < chunks; i++)
        sum += r.chunks[i];
    *out = sum;
    return KERN_OK;
}
