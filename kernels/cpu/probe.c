/* probe: what this machine can do at most, measured: chains of fma that
 * nothing but the units bounds; reading memory that no cache holds. */
#include "kernels/cpu/isa.h"
#include "kernels/cpu/tile.h"

#include <time.h>

#define PROBE_CHAINS (TILE_M * TILE_V) /* as many as the matrix tile has */
#define PROBE_STEPS 4096
#define PROBE_TASKS 64 /* a thread; small, for neighbours may take cores */
#define PROBE_READ 65536

static double probe_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void probe_fma(void *arg, int task, int thread) {
    float *sink = ((struct cpu *)arg)->scratch[thread];
    vf c[PROBE_CHAINS];
    const vf a = v_set(0.999f), b = v_set((float)task);
    for (int i = 0; i < PROBE_CHAINS; i++)
        c[i] = v_set((float)i);
    for (int s = 0; s < PROBE_STEPS; s++)
#pragma GCC unroll 32
        for (int i = 0; i < PROBE_CHAINS; i++)
            c[i] = v_fma(a, c[i], b);
    for (int i = 1; i < PROBE_CHAINS; i++)
        c[0] = v_add(c[0], c[i]);
    v_store(sink, c[0]);
}

struct probe_read {
    struct cpu *cpu;
    const float *x;
    int64_t n;
};

static void probe_read(void *arg, int task, int thread) {
    const struct probe_read *r = arg;
    int64_t i = (int64_t)task * PROBE_READ, end = i + PROBE_READ;
    vf s[4] = {v_set(0), v_set(0), v_set(0), v_set(0)};
    for (end = end < r->n ? end : r->n; i + 4 * VL <= end; i += 4 * VL)
        for (int j = 0; j < 4; j++)
            s[j] = v_add(s[j], v_load(r->x + i + j * VL));
    v_store(r->cpu->scratch[thread],
            v_add(v_add(s[0], s[1]), v_add(s[2], s[3])));
}

int ISA(probe)(struct kern *k, const struct kern_probe *a) {
    struct cpu *c = cpu_of(k);
    int threads = pool_threads(c->pool), rc = cpu_reserve(c, 64);
    if (rc != KERN_OK || a->n < 0)
        return rc != KERN_OK ? rc : KERN_EINVAL;
    struct probe_read r = {c, a->x, a->n};
    double start = probe_now(), amount;
    if (a->what == KERN_PROBE_FMA) {
        pool_run(c->pool, PROBE_TASKS * threads, probe_fma, c);
        amount = 2.0 * VL * PROBE_CHAINS * PROBE_STEPS * PROBE_TASKS * threads;
    } else {
        int tasks = (int)((a->n + PROBE_READ - 1) / PROBE_READ);
        pool_run(c->pool, tasks, probe_read, &r);
        amount = (double)a->n * sizeof *a->x;
    }
    *a->per_s = amount / (probe_now() - start);
    return KERN_OK;
}
