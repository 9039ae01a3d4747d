/* log: one line, one write. */
#include "core/log.h"

#include "core/clock.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct log {
    int fd; /* -1: none */
    bool tty;
    char who[32];
};

static const char *const log_names[] = {"debug", "info", "warn", "error"};

struct log *log_open(const char *path, const char *who, bool tty,
                     struct err *err) {
    struct log *l = calloc(1, sizeof *l);
    CHECK(l, "out of memory for a log");
    l->fd = -1;
    l->tty = tty || !path;
    snprintf(l->who, sizeof l->who, "%s", who);
    if (path)
        l->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (path && l->fd < 0) {
        err_sys(err, "open log %s", path);
        free(l);
        return NULL;
    }
    return l;
}

void log_close(struct log *l) {
    if (!l)
        return;
    if (l->fd >= 0)
        close(l->fd);
    free(l);
}

/* Blots the rest of a word that starts with a secret's prefix. */
static void log_redact(char *s) {
    static const char *const prefixes[] = {"tml-", "Bearer ", "sk-", "hf_",
                                           "fw_"};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        for (char *at = s; (at = strstr(at, prefixes[i]));) {
            at += strlen(prefixes[i]);
            size_t n = strcspn(at, " \t\"',;)");
            if (n >= 12)
                memset(at, '*', n);
            at += n;
        }
    }
}

static void log_clean(char *s) {
    for (; *s; s++)
        if (iscntrl((unsigned char)*s))
            *s = '?';
}

void log_line(struct log *l, enum log_level level, const char *fmt, ...) {
    if (!l)
        return;
    char msg[1024], line[1200];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    log_clean(msg);
    log_redact(msg);
    int64_t us = clock_wall_us();
    time_t t = (time_t)(us / 1000000);
    struct tm tm;
    gmtime_r(&t, &tm);
    int n = snprintf(
        line, sizeof line, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ %-5s %s: %s\n",
        tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min,
        tm.tm_sec, (int)(us / 1000 % 1000), log_names[level], l->who, msg);
    ssize_t w = 0;
    if (l->fd >= 0)
        w = write(l->fd, line, (size_t)n);
    if (l->tty)
        w = write(STDERR_FILENO, line, (size_t)n);
    (void)w; /* a log that cannot be written has nowhere to complain */
}
