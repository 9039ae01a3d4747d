/* line: lines out of a buffer that is filled by read(2). */
#include "core/line.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHUNK ((size_t)64 << 10)
#define SKIP_MAX ((size_t)1 << 30)

void lines_init(struct lines *l, int fd, const char *name, size_t max) {
    *l = (struct lines){.fd = fd, .name = name, .max = max};
}

void lines_release(struct lines *l) {
    free(l->buf);
    *l = (struct lines){.fd = -1};
}

size_t line_mark(const char *line, size_t len) {
    return len >= 3 && memcmp(line, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
}

static void make_room(struct lines *l) {
    if (l->from > 0)
        memmove(l->buf, l->buf + l->from, l->to - l->from);
    l->to -= l->from;
    l->from = 0;
    if (l->cap - l->to >= CHUNK)
        return;
    l->cap = l->cap < 2 * CHUNK ? 2 * CHUNK : 2 * l->cap;
    l->buf = realloc(l->buf, l->cap);
    CHECK(l->buf, "out of memory for a line of %zu bytes", l->cap);
}

/* Bytes that were added, 0 at the end of the file. */
static ssize_t fill(struct lines *l, struct err *err) {
    ssize_t n;
    make_room(l);
    do
        n = read(l->fd, l->buf + l->to, l->cap - l->to);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return err_sys(err, "read %s", l->name);
    l->to += (size_t)n;
    return n;
}

/* The next n bytes are the line, or the end of one that is skipped; then comes
 * its \n, or, at the end of the file, room for a byte. */
static int give(struct lines *l, size_t n, bool is_long) {
    char *line = l->buf + l->from;
    size_t past = l->from + n < l->to ? 1 : 0;
    line[n] = 0;
    l->line = is_long || n > l->max ? NULL : line;
    l->len = n;
    l->from += n + past;
    if (l->number == 1 && l->line) {
        size_t mark = line_mark(line, n);
        l->line += mark;
        l->len -= mark;
    }
    return 1;
}

int lines_next(struct lines *l, struct err *err) {
    size_t seen = 0, skipped = 0;
    l->number++;
    for (;;) {
        size_t have = l->to - l->from;
        const char *at = have > seen ? l->buf + l->from : NULL;
        const char *nl = at ? memchr(at + seen, '\n', have - seen) : NULL;
        if (nl)
            return give(l, (size_t)(nl - at), skipped > 0);
        seen = have;
        if (have > l->max) { /* only its end matters now */
            skipped += have;
            l->from = l->to;
            seen = 0;
        }
        if (skipped > SKIP_MAX)
            return err_set(err, ERR_TOOBIG,
                           "read %s: line %zu has no end after 1 GB", l->name,
                           l->number);
        ssize_t n = fill(l, err);
        if (n < 0)
            return -1;
        if (n == 0)
            return have ? give(l, l->to - l->from, skipped > 0) : 0;
    }
}
