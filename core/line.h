/*
 * line - the lines of a file or a pipe, each as soon as it is there. Memory is
 * bounded by the longest line that is wanted, whatever the file holds. A byte
 * order mark before the first is no part of it.
 *
 *     struct lines l;
 *     lines_init(&l, fd, "chat.jsonl", 16 << 20);
 *     while ((rc = lines_next(&l, &err)) > 0)
 *         use(l.line, l.len, l.number);
 *     lines_release(&l);
 */
#ifndef FETTLE_CORE_LINE_H
#define FETTLE_CORE_LINE_H

#include "core/err.h"

#include <stddef.h>

struct lines {
    const char *line; /* a 0 for its \n; borrowed until the next call; NULL: it
                       * has more than max bytes and was skipped */
    size_t len, number;
    /* the reader's own */
    int fd;
    const char *name;
    char *buf; /* (cap) from … to are not yet given out */
    size_t cap, from, to, max;
};

/* Borrows fd, and name for messages. */
void lines_init(struct lines *l, int fd, const char *name, size_t max);
/* 1 a line, 0 the end; -1 it cannot be read, or a line has no end for 1 GB. */
int lines_next(struct lines *l, struct err *err);
void lines_release(struct lines *l);
/* Bytes of a byte order mark at the beginning of a file's first line, 0 or 3.
 */
size_t line_mark(const char *line, size_t len);

#endif
