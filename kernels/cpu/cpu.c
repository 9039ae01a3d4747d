/* cpu: opens the device: picks the widest instruction set that the processor
 * has, or the one asked for (opts->isa, else $FETTLE_ISA). */
#include "kernels/cpu/cpu.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* KERN_EINVAL for a name that there is not, KERN_ENODEV for a set that this
 * processor lacks. */
static int cpu_pick(const char *want, const struct cpu_isa **out) {
    int rc = KERN_EINVAL;
    for (size_t i = 0; i < sizeof cpu_isas / sizeof *cpu_isas; i++) {
        const struct cpu_isa *isa = &cpu_isas[i];
        if (want && *want && strcmp(want, isa->name) != 0)
            continue;
        rc = KERN_ENODEV;
        *out = isa;
        if (cpu_has(isa->name))
            return KERN_OK;
    }
    return rc;
}

/* Cores that this process may use. */
static int cpu_cores(void) {
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
    return n < 1 ? 1 : n > CPU_THREADS_MAX ? CPU_THREADS_MAX : n;
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
    if (strcmp(device, "cpu") != 0)
        return KERN_ENODEV;
    if (o->threads < 0 || o->threads > CPU_THREADS_MAX)
        return KERN_EINVAL;
    const struct cpu_isa *isa;
    int rc = cpu_pick(o->isa ? o->isa : getenv("FETTLE_ISA"), &isa);
    if (rc != KERN_OK)
        return rc;
    struct cpu_dev *d = calloc(1, sizeof *d);
    if (!d)
        return KERN_ENOMEM;
    int threads = o->threads ? o->threads : cpu_cores();
    d->ops = *isa->ops;
    cpu_mem_ops(&d->ops);
    d->cpu.kern.ops = &d->ops;
    d->cpu.has_vnni = strcmp(isa->name, "avx512") == 0 &&
                      __builtin_cpu_supports("avx512vnni");
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
