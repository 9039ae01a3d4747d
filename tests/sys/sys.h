/* sys - the binary as a user runs it: a home of its own, verbs, what they
 * print, and that nothing is left running. */
#ifndef FETTLE_TESTS_SYS_H
#define FETTLE_TESTS_SYS_H

#include "core/buf.h"
#include "core/fs.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define STARTER "core/starter/model"

struct out {
    int status;      /* exit status, 128 + n when killed by signal n */
    char *out, *err; /* what it wrote */
};

static char sys_home[64];

static const char *sys_fettle(void) {
    const char *f = getenv("FETTLE");
    return f ? f : "build/fettle";
}

static void sys_read(int fd[2], struct buf b[2]) {
    struct pollfd p[2] = {{fd[0], POLLIN, 0}, {fd[1], POLLIN, 0}};
    while (p[0].fd >= 0 || p[1].fd >= 0) {
        poll(p, 2, -1);
        for (int i = 0; i < 2; i++) {
            char piece[4096];
            if (p[i].fd < 0 || !p[i].revents)
                continue;
            ssize_t n = read(p[i].fd, piece, sizeof piece);
            if (n > 0)
                buf_bytes(&b[i], piece, (size_t)n);
            else if (n == 0 || errno != EINTR)
                p[i].fd = -1;
        }
    }
}

/* argv ends with NULL; input may be NULL. */
static struct out sys_exec(const char *input, char *const *argv) {
    int in[2], out[2], err[2];
    ck_assert(pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0 &&
              pipe2(err, O_CLOEXEC) == 0);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        dup2(err[1], 2);
        execvp(argv[0], argv);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    close(err[1]);
    signal(SIGPIPE, SIG_IGN);
    for (size_t n = input ? strlen(input) : 0, at = 0; at < n;) {
        ssize_t k = write(in[1], input + at, n - at);
        if (k <= 0)
            break;
        at += (size_t)k;
    }
    close(in[1]);
    struct buf b[2];
    buf_init(&b[0], 64 << 20);
    buf_init(&b[1], 64 << 20);
    sys_read((int[]){out[0], err[0]}, b);
    close(out[0]);
    close(err[0]);
    int st = 0;
    waitpid(pid, &st, 0);
    struct out r = {.status =
                        WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st)};
    r.out = strdup(buf_str(&b[0]));
    r.err = strdup(buf_str(&b[1]));
    buf_release(&b[0]);
    buf_release(&b[1]);
    return r;
}

static void out_free(struct out *o) {
    free(o->out);
    free(o->err);
}

/* `fettle WORDS --home …`; the words are cut at spaces, '+' in a word stands
 * for a space. */
__attribute__((format(printf, 2, 3))) static struct out
fettle(const char *input, const char *fmt, ...) {
    char line[4096], *argv[64], *save;
    int n = 0;
    va_list ap;
    va_start(ap, fmt);
    int len = vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    ck_assert_int_lt(len, (int)sizeof line);
    argv[n++] = (char *)sys_fettle();
    for (char *w = strtok_r(line, " ", &save); w && n < 60;
         w = strtok_r(NULL, " ", &save)) {
        for (char *p = w; *p; p++)
            if (*p == '+')
                *p = ' ';
        argv[n++] = w;
    }
    argv[n++] = (char[]){"--home"};
    argv[n++] = sys_home;
    argv[n] = NULL;
    return sys_exec(input, argv);
}

/* Runs it, wants exit status 0, and parses what it prints. */
#define FETTLE_JSON(...) fettle_json(fettle(__VA_ARGS__))
static json_t *fettle_json(struct out o) {
    json_error_t e;
    ck_assert_msg(o.status == 0, "exit %d: %s", o.status, o.err);
    json_t *j = json_loads(o.out, JSON_DECODE_ANY, &e);
    ck_assert_msg(j != NULL, "%s in: %s", e.text, o.out);
    out_free(&o);
    return j;
}
#define FETTLE_OK(...) fettle_ok(fettle(__VA_ARGS__))
static void fettle_ok(struct out o) {
    ck_assert_msg(o.status == 0, "exit %d: %s", o.status, o.err);
    out_free(&o);
}

/* Wants this exit status, one line on stderr with `want` in it. */
__attribute__((unused)) static void fettle_fails(struct out o, int status,
                                                 const char *want) {
    ck_assert_msg(o.status == status, "exit %d, not %d: %s", o.status, status,
                  o.err);
    ck_assert_msg(strncmp(o.err, "fettle: ", 8) == 0, "%s", o.err);
    ck_assert_msg(strstr(o.err, want) != NULL, "no '%s' in: %s", want, o.err);
    ck_assert_msg(strchr(o.err, '\n') == o.err + strlen(o.err) - 1,
                  "more than a line: %s", o.err);
    out_free(&o);
}

__attribute__((unused)) static const char *str_at(const json_t *j,
                                                  const char *key) {
    const char *s = json_string_value(json_object_get(j, key));
    return s ? s : "";
}
__attribute__((unused)) static double num_at(const json_t *j, const char *key) {
    return json_number_value(json_object_get(j, key));
}

static void sys_setup(void) {
    snprintf(sys_home, sizeof sys_home, "/tmp/fettle-sys-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(sys_home));
    setenv("FETTLE_STARTER", STARTER, 0);
}

static void sys_teardown(void) {
    struct err err = {0};
    struct out o = fettle(NULL, "stop");
    out_free(&o);
    fs_remove_tree(sys_home, &err);
}

__attribute__((unused)) static void sys_add_starter(void) {
    FETTLE_OK(NULL, "model add starter " STARTER);
}

/* A file in the home. */
__attribute__((unused)) static char *sys_file(const char *name,
                                              const char *text) {
    struct err err = {0};
    char *path = fs_path("%s/%s", sys_home, name);
    ck_assert_msg(fs_write_atomic(path, text, strlen(text), &err) == 0, "%s",
                  err.msg);
    return path;
}

/* n rows of tokens that any model with 64 ids or more takes. */
__attribute__((unused)) static char *sys_rows(int n) {
    struct buf b;
    buf_init(&b, 1 << 20);
    for (int i = 0; i < n; i++)
        buf_printf(&b,
                   "{\"tokens\":[%d,%d,%d,%d,%d,%d],"
                   "\"weights\":[0,1,1,0.5,1,1]}\n",
                   3 + i % 50, 5 + i * 7 % 40, 9, 11 + i % 3, 13, 17 + i % 11);
    char *path = sys_file("rows.jsonl", buf_str(&b));
    buf_release(&b);
    return path;
}

__attribute__((unused)) static json_t *sys_run(int run) {
    return FETTLE_JSON(NULL, "show %d --json", run);
}

/* Until run N is in that state. */
__attribute__((unused)) static void sys_wait_state(int run, const char *want) {
    for (int i = 0;; i++) {
        json_t *j = sys_run(run);
        bool there = strcmp(str_at(j, "state"), want) == 0;
        ck_assert_msg(there || i < 3000, "run %d is %s, not %s", run,
                      str_at(j, "state"), want);
        json_decref(j);
        if (there)
            return;
        usleep(20000);
    }
}

#endif
