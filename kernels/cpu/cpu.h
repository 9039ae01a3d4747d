/* cpu - what the files of the CPU backend share: the device, its threads and
 * scratch memory, and the names of one instruction set's functions. */
#ifndef FETTLE_KERNELS_CPU_H
#define FETTLE_KERNELS_CPU_H

#include "kernels/kernels.h"

#define CPU_THREADS_MAX 256
#define CPU_ALIGN 64

/* ---- pool: runs tasks 0 … n-1 on all threads, the caller's included ---- */

struct pool;
typedef void pool_fn(void *arg, int task, int thread);
/* threads >= 1; the others start at the first run that has use for them. */
struct pool *pool_new(int threads);
void pool_free(struct pool *p);
int pool_threads(const struct pool *p);
/* Returns when every task is done. Which thread runs a task is not defined;
 * results must not depend on it. */
void pool_run(struct pool *p, int n, pool_fn *fn, void *arg);

/* ---- the device ---- */

struct cpu {
    struct kern kern; /* first */
    struct pool *pool;
    void *scratch[CPU_THREADS_MAX]; /* one a thread, grown by cpu_reserve */
    size_t scratch_bytes;
    bool has_vnni; /* AVX512_VNNI, beside what its instruction set needs */
    char describe[64];
};

/* Every thread's scratch has at least `bytes`; KERN_ENOMEM. */
int cpu_reserve(struct cpu *c, size_t bytes);
void *cpu_aligned(size_t bytes);

/* mem.c: the parts of the table that no instruction set changes. */
void cpu_mem_ops(struct kern_ops *ops);

static inline struct cpu *cpu_of(struct kern *k) { return (struct cpu *)k; }

extern const struct kern_ops cpu_ops_scalar, cpu_ops_avx2, cpu_ops_avx512;

#endif
