/* err: the error type; one table names every code. */
#include "core/err.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct err_row {
    const char *name;
    int http;
    int exit;
    const char *category;
    bool retry;
};

static const struct err_row err_rows[ERR_N] = {
#define ERR_ROW(id, name, http, exit, category, retry) \
    [ERR_##id] = {name, http, exit, category, retry},
    ERR_TABLE(ERR_ROW)
#undef ERR_ROW
};

static const struct err_row *err_row(enum err_code code) {
    return &err_rows[(unsigned)code < ERR_N ? code : ERR_BUG];
}

/* Bytes of the UTF-8 character at s that a screen may show, 0 = none such. */
static size_t shown_at(const unsigned char *s) {
    unsigned c = s[0], lo = 0x80, hi = 0xbf;
    if (c < 0x80)
        return c >= 0x20 && c != 0x7f;
    size_t n = c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;
    lo = c == 0xc2 || c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : lo; /* C1; short */
    hi = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : hi; /* surrogates; the end */
    if (n && (s[1] < lo || s[1] > hi))
        return 0;
    for (size_t i = 2; i < n; i++)
        if (s[i] < 0x80 || s[i] > 0xbf)
            return 0;
    return n;
}

/* Messages quote files and requests: what is no text, or would steer a
 * terminal, becomes '?'; so does half a character where a quote was cut. */
static void make_shown(char *msg) {
    unsigned char *s = (unsigned char *)msg;
    while (*s) {
        size_t n = shown_at(s);
        if (!n)
            *s = '?';
        s += n ? n : 1;
    }
}

int err_vset(struct err *err, enum err_code code, const char *fmt, va_list ap) {
    if (err->code != ERR_NONE)
        return -1;
    err->code = code;
    vsnprintf(err->msg, sizeof err->msg, fmt, ap);
    make_shown(err->msg);
    return -1;
}

int err_set(struct err *err, enum err_code code, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    err_vset(err, code, fmt, ap);
    va_end(ap);
    return -1;
}

static enum err_code err_of_errno(int e) {
    switch (e) {
    case ENOSPC:
    case EDQUOT: return ERR_NOSPACE;
    case ENOENT: return ERR_NOTFOUND;
    case EACCES:
    case EPERM: return ERR_PERM;
    case EEXIST: return ERR_EXISTS;
    case ENOMEM: return ERR_NOMEM;
    case ECONNREFUSED:
    case ECONNRESET:
    case EPIPE: return ERR_UNAVAILABLE;
    case ETIMEDOUT: return ERR_TIMEOUT;
    default: return ERR_IO;
    }
}

int err_sys(struct err *err, const char *fmt, ...) {
    int e = errno;
    char what[384];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return err_set(err, err_of_errno(e), "%s: %s", what, strerror(e));
}

int err_ctx(struct err *err, const char *fmt, ...) {
    char prefix[256], msg[sizeof err->msg + sizeof prefix + 3];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(prefix, sizeof prefix, fmt, ap);
    va_end(ap);
    snprintf(msg, sizeof msg, "%s: %s", prefix, err->msg);
    msg[sizeof err->msg - 1] = 0;
    memcpy(err->msg, msg, sizeof err->msg);
    make_shown(err->msg);
    return -1;
}

const char *err_name(enum err_code code) { return err_row(code)->name; }
int err_http(enum err_code code) { return err_row(code)->http; }
int err_exit(enum err_code code) { return err_row(code)->exit; }
const char *err_category(enum err_code code) { return err_row(code)->category; }
bool err_retryable(enum err_code code) { return err_row(code)->retry; }

enum err_code err_by_name(const char *name) {
    for (int i = 0; name && i < ERR_N; i++)
        if (strcmp(err_rows[i].name, name) == 0)
            return (enum err_code)i;
    return ERR_BUG;
}

void err_check_failed(const char *file, int line, const char *cond,
                      const char *fmt, ...) {
    char why[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    fprintf(stderr, "fettle: bug: %s:%d: %s: %s\n", file, line, cond, why);
    abort();
}
