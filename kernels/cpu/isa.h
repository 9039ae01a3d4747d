/* isa - the operations as one instruction set names them: mm_avx512, …; the
 * math files define them, ops.c makes the table. */
#ifndef FETTLE_KERNELS_CPU_ISA_H
#define FETTLE_KERNELS_CPU_ISA_H

#include "kernels/cpu/vec.h"

#define ISA_DECLARE(name, args) int ISA(name)(struct kern * k, const args *a);
KERN_OPS(ISA_DECLARE)
#undef ISA_DECLARE

/* mm with a quantised B. */
int ISA(mm_quant)(struct kern *k, const struct kern_mm *a);

int ISA(add)(struct kern *k, float *y, const float *x, int64_t n);
int ISA(scale)(struct kern *k, float *x, float s, int64_t n);
int ISA(bias)(struct kern *k, float *y, int64_t ldy, const float *b, int32_t T,
              int32_t C);
int ISA(bias_bwd)(struct kern *k, float *db, const float *dy, int64_t ldy,
                  int32_t T, int32_t C);
int ISA(widen)(struct kern *k, float *y, const void *x, enum kern_dtype t,
               int64_t n);
int ISA(sumsq)(struct kern *k, double *out, const float *x, int64_t n);

/* Runs fn over rows or elements in pieces of `grain`, on all threads:
 * fn(arg, first, end). */
typedef void isa_range_fn(void *arg, int64_t first, int64_t end);
void ISA(ranges)(struct kern *k, int64_t n, int64_t grain, isa_range_fn *fn,
                 void *arg);

#endif
