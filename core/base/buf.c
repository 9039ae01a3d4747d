/* buf: bounded bytes. Invariant: data has cap bytes and len < cap once used. */
#include "core/buf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void buf_init(struct buf *b, size_t max) {
    memset(b, 0, sizeof *b);
    b->max = max;
}

void buf_release(struct buf *b) {
    free(b->data);
    b->data = NULL;
    b->len = b->cap = 0;
}

void buf_clear(struct buf *b) {
    b->len = 0;
    b->failed = false;
}

uint8_t *buf_take(struct buf *b, size_t *len) {
    uint8_t *p = b->data ? b->data : calloc(1, 1);
    *len = b->len;
    b->data = NULL;
    b->len = b->cap = 0;
    return p;
}

const char *buf_str(struct buf *b) {
    if (!b->data)
        return "";
    b->data[b->len] = 0;
    return (const char *)b->data;
}

int buf_check(const struct buf *b, const char *what, struct err *err) {
    if (!b->failed)
        return 0;
    return err_set(err, ERR_TOOBIG, "%s: more than %zu bytes", what, b->max);
}

void *buf_grow(struct buf *b, size_t n) {
    if (b->failed || n > b->max || b->len > b->max - n) {
        b->failed = true;
        return NULL;
    }
    if (b->len + n + 1 > b->cap) {
        size_t cap = b->cap ? b->cap : 64;
        while (cap < b->len + n + 1)
            cap *= 2;
        uint8_t *p = realloc(b->data, cap);
        if (!p) {
            b->failed = true;
            return NULL;
        }
        b->data = p;
        b->cap = cap;
    }
    void *at = b->data + b->len;
    b->len += n;
    return at;
}

void buf_bytes(struct buf *b, const void *p, size_t n) {
    void *at = buf_grow(b, n);
    if (at && n)
        memcpy(at, p, n);
}

void buf_puts(struct buf *b, const char *s) { buf_bytes(b, s, strlen(s)); }

void buf_printf(struct buf *b, const char *fmt, ...) {
    va_list ap, ap2;
    va_start(ap, fmt);
    va_copy(ap2, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *at = n < 0 ? NULL : buf_grow(b, (size_t)n);
    if (at)
        vsnprintf(at, (size_t)n + 1, fmt, ap2);
    va_end(ap2);
}

static void buf_le(struct buf *b, uint64_t v, int n) {
    uint8_t *at = buf_grow(b, (size_t)n);
    for (int i = 0; at && i < n; i++)
        at[i] = (uint8_t)(v >> (8 * i));
}

void buf_u8(struct buf *b, uint8_t v) { buf_le(b, v, 1); }
void buf_u32(struct buf *b, uint32_t v) { buf_le(b, v, 4); }
void buf_u64(struct buf *b, uint64_t v) { buf_le(b, v, 8); }

void buf_f32(struct buf *b, float v) {
    uint32_t u;
    memcpy(&u, &v, 4);
    buf_u32(b, u);
}

void buf_f64(struct buf *b, double v) {
    uint64_t u;
    memcpy(&u, &v, 8);
    buf_u64(b, u);
}

void buf_lstr(struct buf *b, const char *s) {
    size_t n = s ? strlen(s) : 0;
    buf_u32(b, (uint32_t)n);
    buf_bytes(b, s, n);
}

void cur_init(struct cur *c, const void *p, size_t n) {
    c->p = p;
    c->end = c->p + n;
    c->bad = false;
}

size_t cur_left(const struct cur *c) { return (size_t)(c->end - c->p); }

const void *cur_bytes(struct cur *c, size_t n) {
    if (c->bad || n > cur_left(c)) {
        c->bad = true;
        return NULL;
    }
    const void *at = c->p;
    c->p += n;
    return at;
}

static uint64_t cur_le(struct cur *c, int n) {
    const uint8_t *at = cur_bytes(c, (size_t)n);
    uint64_t v = 0;
    for (int i = 0; at && i < n; i++)
        v |= (uint64_t)at[i] << (8 * i);
    return v;
}

uint8_t cur_u8(struct cur *c) { return (uint8_t)cur_le(c, 1); }
uint32_t cur_u32(struct cur *c) { return (uint32_t)cur_le(c, 4); }
uint64_t cur_u64(struct cur *c) { return cur_le(c, 8); }

float cur_f32(struct cur *c) {
    uint32_t u = cur_u32(c);
    float v;
    memcpy(&v, &u, 4);
    return v;
}

double cur_f64(struct cur *c) {
    uint64_t u = cur_u64(c);
    double v;
    memcpy(&v, &u, 8);
    return v;
}

char *cur_lstr(struct cur *c, size_t max) {
    uint32_t n = cur_u32(c);
    const char *at = n <= max ? cur_bytes(c, n) : NULL;
    char *s = at && !memchr(at, 0, n) ? malloc((size_t)n + 1) : NULL;
    if (!s) {
        c->bad = true;
        return NULL;
    }
    memcpy(s, at, n);
    s[n] = 0;
    return s;
}
