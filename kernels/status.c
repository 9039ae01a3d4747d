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
