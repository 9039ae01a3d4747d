/*
 * log - one line a message, with UTC time, level and the process's name.
 *
 * log_open() sends the lines to a file (appended, 0600) and, when `tty` is
 * set, to stderr too. Control bytes are escaped and secrets (tml-…, bearer
 * headers) blotted out. Any thread: a line is one write.
 */
#ifndef FETTLE_CORE_LOG_H
#define FETTLE_CORE_LOG_H

#include "core/err.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

struct log;

/* `path` NULL: stderr only. The caller's; log_close() it. */
struct log *log_open(const char *path, const char *who, bool tty,
                     struct err *err);
void log_close(struct log *l);
void log_line(struct log *l, enum log_level level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
