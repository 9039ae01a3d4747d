/*
 * buf - bounded growing bytes, and a reading cursor over bytes.
 *
 * A buf is born with a maximum; a write past it, or a failed allocation,
 * sets `failed` and drops the bytes, so that a run of puts is checked once:
 *
 *     struct buf b;
 *     buf_init(&b, 1 << 20);
 *     buf_u32(&b, n);
 *     buf_bytes(&b, p, len);
 *     if (buf_check(&b, "encode op", err) < 0) ...
 *     buf_release(&b);
 *
 * Integers are little-endian on the wire whatever the machine. A cur reads
 * them back; reading past the end sets `bad` and yields zeros, so that a run
 * of reads is checked once as well. Caller's storage; one thread at a time.
 */
#ifndef FETTLE_CORE_BUF_H
#define FETTLE_CORE_BUF_H

#include "core/err.h"

#include <stdint.h>

struct buf {
    uint8_t *data; /* owned; always has room for one more byte past len */
    size_t len, cap, max;
    bool failed;
};

void buf_init(struct buf *b, size_t max);
void buf_release(struct buf *b);
void buf_clear(struct buf *b);
/* Moves the bytes out; free() them. The buf is empty afterwards. */
uint8_t *buf_take(struct buf *b, size_t *len);
/* The bytes with a terminating 0 behind them; borrowed; "" when empty. */
const char *buf_str(struct buf *b);
/* -1 and an error when a put did not fit. */
int buf_check(const struct buf *b, const char *what, struct err *err);

/* n uninitialised bytes at the end, or NULL. */
void *buf_grow(struct buf *b, size_t n);
void buf_bytes(struct buf *b, const void *p, size_t n);
void buf_puts(struct buf *b, const char *s); /* without the 0 */
void buf_printf(struct buf *b, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void buf_u8(struct buf *b, uint8_t v);
void buf_u32(struct buf *b, uint32_t v);
void buf_u64(struct buf *b, uint64_t v);
void buf_f32(struct buf *b, float v);
void buf_f64(struct buf *b, double v);
/* u32 length, then the bytes; NULL is written as length 0. */
void buf_lstr(struct buf *b, const char *s);

struct cur {
    const uint8_t *p, *end;
    bool bad;
};

void cur_init(struct cur *c, const void *p, size_t n);
size_t cur_left(const struct cur *c);
uint8_t cur_u8(struct cur *c);
uint32_t cur_u32(struct cur *c);
uint64_t cur_u64(struct cur *c);
float cur_f32(struct cur *c);
double cur_f64(struct cur *c);
/* Borrowed bytes, or NULL and bad. */
const void *cur_bytes(struct cur *c, size_t n);
/* A length-prefixed string copied to the heap, 0-terminated; a string with a
 * 0 inside or longer than max is bad. NULL when bad; free() it. */
char *cur_lstr(struct cur *c, size_t max);

#endif
