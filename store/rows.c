/*
 * rows - collects what a query gives into one array of structs and one chain
 * of chunks that holds their strings, so that a set is freed in one go.
 */
#include "store/db.h"

#include <stdlib.h>
#include <string.h>

#define CHUNK 4096

struct chunk {
    struct chunk *next;
    size_t used, cap;
    char data[];
};

void *rows_alloc(struct rows *r, size_t len) {
    struct chunk *c = r->mem;
    len = (len + 15) & ~(size_t)15;
    if (!c || c->cap - c->used < len) {
        size_t cap = len > CHUNK ? len : CHUNK;
        struct chunk *fresh = malloc(sizeof *fresh + cap);
        if (!fresh) {
            r->nomem = true;
            return NULL;
        }
        *fresh = (struct chunk){.next = c, .cap = cap};
        r->mem = c = fresh;
    }
    void *p = c->data + c->used;
    c->used += len;
    return p;
}

const char *rows_text(struct rows *r, sqlite3_stmt *q, int col) {
    const void *text = sqlite3_column_text(q, col);
    size_t len = (size_t)sqlite3_column_bytes(q, col);
    if (!text || len == 0)
        return "";
    char *copy = rows_alloc(r, len + 1);
    if (!copy)
        return "";
    memcpy(copy, text, len);
    copy[len] = 0;
    return copy;
}

void rows_mem_free(void *mem) {
    for (struct chunk *c = mem, *next; c; c = next) {
        next = c->next;
        free(c);
    }
}

static void rows_clear(struct rows *r) {
    free(r->row);
    rows_mem_free(r->mem);
    *r = (struct rows){0};
}

static void *rows_push(struct rows *r) {
    if (r->n == r->cap) {
        int cap = r->cap ? r->cap * 2 : 16;
        char *grown =
            r->cap > (1 << 28) ? NULL : realloc(r->row, (size_t)cap * r->size);
        if (!grown) {
            r->nomem = true;
            return NULL;
        }
        r->row = grown;
        r->cap = cap;
    }
    char *row = r->row + (size_t)r->n * r->size;
    memset(row, 0, r->size);
    r->n++;
    return row;
}

int rows_read(struct store *st, sqlite3_stmt *q, struct rows *r, size_t size,
              row_fn *fn) {
    int rc;
    r->size = size;
    while ((rc = db_next(st, q)) == 1) {
        void *row = rows_push(r);
        if (row)
            fn(r, q, row);
        if (r->nomem) {
            db_end(q);
            rc = db_err(st, STORE_NOMEM, "out of memory");
            break;
        }
    }
    if (rc < 0)
        rows_clear(r);
    return rc;
}
