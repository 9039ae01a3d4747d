/* mem: device memory of the CPU is memory. */
#include "kernels/cpu/cpu.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Large blocks lie on huge pages where the kernel grants them. */
#define HUGE_BYTES ((size_t)2 << 20)

void *cpu_aligned(size_t bytes) {
    size_t align = bytes >= 2 * HUGE_BYTES ? HUGE_BYTES : CPU_ALIGN;
    if (bytes > SIZE_MAX / 2)
        return NULL;
    size_t size = (bytes + align - 1) / align * align;
    void *p = aligned_alloc(align, size ? size : align);
    if (p && align == HUGE_BYTES)
        madvise(p, size, MADV_HUGEPAGE); /* a wish */
    return p;
}

int cpu_reserve(struct cpu *c, size_t bytes) {
    if (bytes <= c->scratch_bytes)
        return KERN_OK;
    for (int i = 0; i < pool_threads(c->pool); i++) {
        free(c->scratch[i]);
        c->scratch[i] = cpu_aligned(bytes);
        if (!c->scratch[i]) {
            c->scratch_bytes = 0;
            return KERN_ENOMEM;
        }
    }
    c->scratch_bytes = bytes;
    return KERN_OK;
}

static void cpu_close(struct kern *k) {
    struct cpu *c = cpu_of(k);
    for (int i = 0; i < CPU_THREADS_MAX; i++)
        free(c->scratch[i]);
    pool_free(c->pool);
    free(c);
}

static void *cpu_alloc(struct kern *k, size_t bytes) {
    (void)k;
    return cpu_aligned(bytes);
}

static void cpu_free(struct kern *k, void *dev) {
    (void)k;
    free(dev);
}

static int cpu_copy(struct kern *k, void *to, const void *from, size_t bytes) {
    (void)k;
    if (bytes)
        memmove(to, from, bytes);
    return KERN_OK;
}

struct zero_run {
    char *at;
    size_t bytes;
};

static void zero_task(void *arg, int task, int thread) {
    const struct zero_run *r = arg;
    size_t first = (size_t)task * HUGE_BYTES, left = r->bytes - first;
    (void)thread;
    memset(r->at + first, 0, left < HUGE_BYTES ? left : HUGE_BYTES);
}

static int cpu_zero(struct kern *k, void *dev, size_t bytes) {
    struct zero_run r = {dev, bytes};
    if (bytes)
        pool_run(cpu_of(k)->pool, (int)((bytes + HUGE_BYTES - 1) / HUGE_BYTES),
                 zero_task, &r);
    return KERN_OK;
}

/* Whole huge pages go back to the system, which gives zeros for them, to
 * whatever thread writes there first. */
static int cpu_release(struct kern *k, void *dev, size_t bytes) {
    uintptr_t at = (uintptr_t)dev, end = at + bytes;
    uintptr_t first = (at + HUGE_BYTES - 1) & ~(HUGE_BYTES - 1);
    uintptr_t last = end & ~(HUGE_BYTES - 1);
    if (bytes < 4 * HUGE_BYTES || first >= last ||
        madvise((void *)first, last - first, MADV_DONTNEED) != 0)
        return cpu_zero(k, dev, bytes);
    cpu_zero(k, dev, first - at);
    return cpu_zero(k, (void *)last, end - last);
}

/* Small pages, as far as they are whole. */
static void cpu_sparse(struct kern *k, void *dev, size_t bytes) {
    (void)k;
    if (bytes >= 2 * HUGE_BYTES) /* so cpu_aligned() made it */
        madvise(dev, bytes & ~(HUGE_BYTES - 1), MADV_NOHUGEPAGE);
}

static int cpu_sync(struct kern *k) {
    (void)k;
    return KERN_OK;
}

static const void *cpu_adopt(struct kern *k, const void *host, size_t bytes) {
    (void)k;
    (void)bytes;
    return host;
}

void cpu_mem_ops(struct kern_ops *ops) {
    ops->close = cpu_close;
    ops->alloc = cpu_alloc;
    ops->free = cpu_free;
    ops->copy_in = cpu_copy;
    ops->copy_out = cpu_copy;
    ops->copy = cpu_copy;
    ops->zero = cpu_zero;
    ops->release = cpu_release;
    ops->sparse = cpu_sparse;
    ops->sync = cpu_sync;
    ops->adopt = cpu_adopt;
}
