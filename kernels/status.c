/* status: words for codes, sizes for types. */
#include "kernels/kernels.h"

const char *kern_strerror(int rc) {
    switch (rc) {
    case KERN_OK: return "ok";
    case KERN_ENOMEM: return "out of device memory";
    case KERN_EINVAL: return "a shape that the device cannot take";
    case KERN_EDEVICE: return "the device failed";
    case KERN_ENODEV: return "no such device";
    default: return "unknown kernel status";
    }
}

size_t kern_dtype_size(enum kern_dtype t) { return t == KERN_F32 ? 4 : 2; }

size_t kern_quant_bytes(enum kern_dtype t, int64_t rows, int64_t cols) {
    size_t blocks = (size_t)((rows + 15) / 16) *
                    (size_t)((cols + KERN_QBLOCK - 1) / KERN_QBLOCK);
    return blocks * 16 * (t == KERN_Q4 ? 18 : 34);
}
