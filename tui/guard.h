/*
 * guard - puts the terminal back when the process crashes. Private to term.c.
 *
 * What the handler needs lies in a memory file at a fixed descriptor, since a
 * signal handler gets no argument and this project keeps no globals; there it
 * is also out of reach of whatever trampled the heap. The handler only calls
 * what is async-signal-safe, in whichever thread crashed.
 *
 *     guard_set(&(struct guard){...});
 *     ...
 *     guard_clear();
 */
#ifndef FETTLE_TUI_GUARD_H
#define FETTLE_TUI_GUARD_H

#include <signal.h>
#include <stddef.h>
#include <sys/types.h>
#include <termios.h>

#define GUARD_FD 250
#define GUARD_BYTES 512
#define GUARD_SIGNALS 8

struct guard {
    pid_t pid;  /* set by guard_set: a forked child does not restore */
    int tty;    /* descriptor */
    int err_fd; /* the real stderr, -1 = not redirected */
    int msg_fd; /* what was written to stderr, -1 = none: copied after */
    struct termios termios; /* as it was before */
    size_t n;
    char bytes[GUARD_BYTES]; /* sequences that undo everything */
};

/* Caller's storage for the former handlers. */
struct guard_old {
    struct sigaction act[GUARD_SIGNALS];
    stack_t stack;
    void *stack_mem;
};

/* Arms it; -1 when GUARD_FD is taken or memory is short. */
int guard_set(const struct guard *g, struct guard_old *old);
void guard_clear(struct guard_old *old);

#endif
