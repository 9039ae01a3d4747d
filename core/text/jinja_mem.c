/* jinja_mem: memory of templates and runs, and growing text with marks. */
#include "core/text/jinja_int.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK_BYTES 32768

struct arena_block {
    struct arena_block *below;
    size_t used, cap;
    _Alignas(16) char data[];
};

void *arena_get(struct arena *a, size_t n) {
    struct arena_block *b = a->top;
    if (n > a->max)
        return NULL;
    n = (n + 15) & ~(size_t)15;
    if (!b || b->cap - b->used < n) {
        size_t cap = n > BLOCK_BYTES ? n : BLOCK_BYTES;
        if (a->used + cap > a->max)
            return NULL;
        b = calloc(1, sizeof *b + cap);
        if (!b)
            return NULL;
        b->cap = cap;
        b->below = a->top;
        a->top = b;
        a->used += cap;
    }
    void *p = b->data + b->used;
    b->used += n;
    return p;
}

void arena_release(struct arena *a) {
    while (a->top) {
        struct arena_block *below = a->top->below;
        free(a->top);
        a->top = below;
    }
    a->used = 0;
}

void *vm_get(struct vm *m, size_t n) {
    void *p = arena_get(&m->mem, n);
    if (!p && !m->failed) {
        m->failed = true;
        err_set(m->err, ERR_TOOBIG,
                "line %d: the template takes over %d MB of memory", m->line,
                JINJA_MEMORY_MAX >> 20);
    }
    return p;
}

/* ---- growing text ---- */

static bool jbuf_room(struct vm *m, struct jbuf *b, size_t n) {
    if (b->cap - b->len >= n)
        return true;
    if (b->len + n > JINJA_OUTPUT_MAX) {
        vm_fail(m, "text of over %d MB", JINJA_OUTPUT_MAX >> 20);
        return false;
    }
    size_t cap = b->cap ? b->cap * 2 : 64;
    while (cap < b->len + n)
        cap *= 2;
    char *p = vm_get(m, cap);
    uint8_t *mark = vm_get(m, cap);
    if (!p || !mark)
        return false;
    if (b->len) {
        memcpy(p, b->p, b->len);
        memcpy(mark, b->mark, b->len);
    }
    b->p = p;
    b->mark = mark;
    b->cap = cap;
    return true;
}

void jbuf_put(struct vm *m, struct jbuf *b, const char *p, size_t n,
              uint8_t mark) {
    if (n == 0 || !vm_step(m, n / 64) || !jbuf_room(m, b, n))
        return;
    memcpy(b->p + b->len, p, n);
    memset(b->mark + b->len, mark, n);
    b->len += n;
}

void jbuf_puts(struct vm *m, struct jbuf *b, const char *s) {
    jbuf_put(m, b, s, strlen(s), 0);
}

void jbuf_str(struct vm *m, struct jbuf *b, const struct jstr *s) {
    size_t at = b->len;
    jbuf_put(m, b, s->p, s->len, s->all);
    if (s->mark && b->len == at + s->len && s->len)
        memcpy(b->mark + at, s->mark, s->len);
}

void jbuf_char(struct vm *m, struct jbuf *b, uint32_t c, uint8_t mark) {
    char s[4];
    jbuf_put(m, b, s, (size_t)utf8_put(c, s), mark);
}

struct jval jbuf_take(struct vm *m, struct jbuf *b) {
    struct jstr *s = vm_get(m, sizeof *s);
    if (!s)
        return jv_undef(NULL);
    s->p = b->p ? b->p : "";
    s->len = b->len;
    s->all = b->len ? b->mark[0] : 0;
    for (size_t i = 1; i < b->len && !s->mark; i++)
        if (b->mark[i] != s->all)
            s->mark = b->mark;
    *b = (struct jbuf){0};
    return jv_of(s);
}
