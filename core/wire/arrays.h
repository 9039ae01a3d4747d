/* arrays - counted arrays of the wire: u32 and f32, with checked counts. */
#ifndef FETTLE_CORE_WIRE_ARRAYS_H
#define FETTLE_CORE_WIRE_ARRAYS_H

#include "core/buf.h"

void put_u32s(struct buf *b, const uint32_t *v, size_t n);
void put_f32s(struct buf *b, const float *v, size_t n);
/* n items, checked against the bytes present before anything is allocated;
 * NULL with c->bad on failure, a valid pointer for n == 0. free() it. */
uint32_t *get_u32s(struct cur *c, size_t n);
float *get_f32s(struct cur *c, size_t n);
/* n zeroed items of `size`, bounded by the bytes left: each item takes at
 * least `least` bytes on the wire. */
void *get_items(struct cur *c, size_t n, size_t size, size_t least);

#endif
