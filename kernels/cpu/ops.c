/* ops: the table of this instruction set; cpu.c adds the memory functions. */
#include "kernels/cpu/isa.h"

const struct kern_ops ISA(cpu_ops) = {.name = "cpu",
                                      .add = ISA(add),
                                      .scale = ISA(scale),
                                      .bias = ISA(bias),
                                      .bias_bwd = ISA(bias_bwd),
                                      .widen = ISA(widen),
                                      .sumsq = ISA(sumsq),
#define ISA_ROW(name, args) .name = ISA(name),
                                      KERN_OPS(ISA_ROW)
#undef ISA_ROW
};
