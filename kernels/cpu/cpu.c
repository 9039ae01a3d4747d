/* cpu: opens the device: picks the widest instruction set that the processor
 * has, or the one asked for (opts->isa, else $FETTLE_ISA). */
#include "kernels/cpu/cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct cpu_isa {
    const char *name;
    const struct kern_ops *ops;
};

/* Widest first. */
static const struct cpu_isa cpu_isas[] = {
    {"avx512", &cpu_ops_avx512},
    {"avx2", &cpu_ops_avx2},
    {"scalar", &cpu_ops_scalar},
};

static bool cpu_has(const char *isa) {
    __builtin_cpu_init();
    if (strcmp(isa, "avx512") == 0)
        return __builtin_cpu_supports("avx512f") &&
               __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("f16c");
    if (strcmp(isa, "avx2") == 0)
        return __builtin_cpu_supports("avx2") &&
               __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    return true;
}

static const struct cpu_isa *cpu_pick(const char *want) {
    for (size_t i = 0; i < sizeof cpu_isas / sizeof *cpu_isas; i++) {
        const struct cpu_isa *isa = &cpu_isas[i];
        if (want && *want && strcmp(want, isa->name) != 0)
            continue;
        if (cpu_has(isa->name))
            return isa;
    }
    return NULL;
}

static int cpu_cores(void) {
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : n > CPU_THREADS_MAX ? CPU_THREADS_MAX : (int)n;
}

/* The table of an instruction set with the memory functions filled in. The
 * device owns it, since tables of constants cannot call each other's rows. */
struct cpu_dev {
    struct cpu cpu; /* first */
    struct kern_ops ops;
};

int kern_open(struct kern **k, const struct kern_opts *o) {
    *k = NULL;
    const char *device = o->device ? o->device : "cpu";
    if (strcmp(device, "cpu") != 0 || o->threads < 0 ||
        o->threads > CPU_THREADS_MAX)
        return KERN_ENODEV;
    const struct cpu_isa *isa =
        cpu_pick(o->isa ? o->isa : getenv("FETTLE_ISA"));
    if (!isa)
        return KERN_ENODEV;
    struct cpu_dev *d = calloc(1, sizeof *d);
    if (!d)
        return KERN_ENOMEM;
    int threads = o->threads ? o->threads : cpu_cores();
    d->ops = *isa->ops;
    cpu_mem_ops(&d->ops);
    d->cpu.kern.ops = &d->ops;
    d->cpu.pool = pool_new(threads);
    if (!d->cpu.pool) {
        free(d);
        return KERN_ENOMEM;
    }
    snprintf(d->cpu.describe, sizeof d->cpu.describe, "cpu %s, %d thread%s",
             isa->name, threads, threads == 1 ? "" : "s");
    *k = &d->cpu.kern;
    return KERN_OK;
}

const char *kern_describe(const struct kern *k) {
    return ((const struct cpu *)k)->describe;
}
