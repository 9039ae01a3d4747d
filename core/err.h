/*
 * err - errors are values. A function of core that can fail takes a
 * `struct err *` last, returns 0/-1 or pointer/NULL, and fills it on failure.
 *
 * The struct lives in the caller, starts as {0}, and is untouched on success.
 * The first error wins: err_set() on a struct that already holds one is
 * ignored, so clean-up paths need no care. Context is added on the way up:
 *
 *     struct err err = {0};
 *     if (load(path, &err) < 0)
 *         return err_ctx(&err, "resume run %d", run);
 *     // "resume run 12: load step-400: header has 5 bytes, needs 8"
 *
 * A message says what was attempted, on what, why it failed, what to do next.
 * Any thread; a struct err itself is not shared.
 */
#ifndef FETTLE_CORE_ERR_H
#define FETTLE_CORE_ERR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

/* code, wire name, HTTP status, sysexits code, protocol category, retryable */
#define ERR_TABLE(X) \
    X(NONE, "ok", 200, 0, "unknown", 0) \
    X(USAGE, "usage", 400, 64, "user", 0) \
    X(INVAL, "invalid", 400, 65, "user", 0) \
    X(NOTFOUND, "not_found", 404, 66, "user", 0) \
    X(EXISTS, "exists", 422, 65, "user", 0) \
    X(CONFLICT, "conflict", 422, 65, "user", 0) \
    X(UNSUPPORTED, "unsupported", 400, 65, "user", 0) \
    X(CORRUPT, "corrupt", 422, 65, "user", 0) \
    X(TOOBIG, "too_big", 413, 65, "user", 0) \
    X(AUTH, "unauthorized", 401, 77, "user", 0) \
    X(PERM, "forbidden", 403, 77, "user", 0) \
    X(CONFIG, "config", 400, 78, "user", 0) \
    X(BUSY, "busy", 429, 75, "server", 1) \
    X(UNAVAILABLE, "unavailable", 503, 69, "server", 1) \
    X(TIMEOUT, "timeout", 408, 75, "server", 1) \
    X(CANCELED, "canceled", 410, 75, "user", 0) \
    X(NOSPACE, "disk_full", 503, 74, "server", 1) \
    X(IO, "io", 500, 74, "server", 0) \
    X(NOMEM, "out_of_memory", 503, 71, "server", 0) \
    X(DEVICE, "device", 500, 86, "server", 1) \
    X(BUG, "internal", 500, 70, "server", 0)

enum err_code {
#define ERR_ENUM(id, name, http, exit, category, retry) ERR_##id,
    ERR_TABLE(ERR_ENUM)
#undef ERR_ENUM
        ERR_N
};

struct err {
    enum err_code code;
    char msg[512];
};

/* Sets code and message unless one is set already. Always returns -1. */
int err_set(struct err *err, enum err_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
int err_vset(struct err *err, enum err_code code, const char *fmt, va_list ap);

/* Like err_set with ": " strerror(errno) appended; the code follows errno
 * (ENOSPC, EDQUOT: NOSPACE; ENOENT: NOTFOUND; EACCES: PERM; else IO). */
int err_sys(struct err *err, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Prefixes "fmt: " to the message. Always returns -1. */
int err_ctx(struct err *err, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

const char *err_name(enum err_code code);     /* "not_found" */
int err_http(enum err_code code);             /* 404 */
int err_exit(enum err_code code);             /* sysexits */
const char *err_category(enum err_code code); /* "user", "server", "unknown" */
bool err_retryable(enum err_code code);
/* The code of a wire name; ERR_BUG for a name that is not in the table. */
enum err_code err_by_name(const char *name);

/* Our own bugs at boundaries; always on, prints and aborts. Not for input. */
#define CHECK(cond, ...) \
    ((cond) ? (void)0 \
            : err_check_failed(__FILE__, __LINE__, #cond, __VA_ARGS__))
_Noreturn void err_check_failed(const char *file, int line, const char *cond,
                                const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

#endif
