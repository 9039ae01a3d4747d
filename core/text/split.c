/* split: the pieces of pretok, collected. */
#include "core/text/split.h"
#include "core/text/int.h"

#include <stdlib.h>
#include <string.h>

struct split {
    struct pretok *pretok;
    bool is_bytes;
};

struct split_run {
    const struct split *split;
    struct piece *piece;
    size_t n, cap, next;
};

struct split *split_new(const json_t *conf, struct err *err) {
    struct split *s = calloc(1, sizeof *s);
    CHECK(s, "out of memory for a pre-tokenizer");
    if (!conf || json_is_null(conf))
        return s;
    s->pretok = pretok_new(conf, &s->is_bytes, err);
    if (s->pretok)
        return s;
    split_free(s);
    return NULL;
}

void split_free(struct split *s) {
    if (s)
        pretok_free(s->pretok);
    free(s);
}

bool split_is_bytes(const struct split *s) { return s->is_bytes; }

struct split_run *split_run_new(const struct split *s) {
    struct split_run *r = calloc(1, sizeof *r);
    CHECK(r, "out of memory for pieces");
    r->split = s;
    return r;
}

void split_run_free(struct split_run *r) {
    if (r)
        free(r->piece);
    free(r);
}

static void collect(void *arg, const char *s, size_t len) {
    struct split_run *r = arg;
    if (r->n == r->cap) {
        r->cap = r->cap ? 2 * r->cap : 64;
        r->piece = realloc(r->piece, r->cap * sizeof *r->piece);
        CHECK(r->piece, "out of memory for pieces");
    }
    r->piece[r->n++] = (struct piece){s, len, NULL};
}

void split_begin(struct split_run *r, const char *text, size_t len,
                 bool first) {
    (void)first;
    r->n = r->next = 0;
    if (r->split->pretok)
        pretok_run(r->split->pretok, text, len, collect, r);
    else if (len)
        collect(r, text, len);
}

bool split_next(struct split_run *r, struct piece *p) {
    if (r->next == r->n)
        return false;
    *p = r->piece[r->next++];
    return true;
}

bool split_gave_up(const struct split_run *r) {
    (void)r;
    return false;
}
