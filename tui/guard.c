/* guard.c - see guard.h; everything in on_crash() is async-signal-safe. */
#include "tui/guard.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define STACK_BYTES (64 * 1024)

static const int SIGNALS[GUARD_SIGNALS] = {SIGSEGV, SIGBUS,  SIGILL, SIGFPE,
                                           SIGABRT, SIGQUIT, SIGSYS, SIGTRAP};

/* The descriptor may be full and must not block for ever. */
static void put(int fd, const char *s, size_t n) {
    for (int tries = 0; n > 0 && tries < 20; tries++) {
        ssize_t k = write(fd, s, n);
        if (k > 0) {
            s += k;
            n -= (size_t)k;
        } else {
            struct pollfd p = {.fd = fd, .events = POLLOUT};
            poll(&p, 1, 10);
        }
    }
}

/* What was said on stderr last (an assertion, a sanitizer) is shown now. */
static void put_messages(const struct guard *g) {
    char buf[4096];
    struct stat st;
    if (g->msg_fd < 0 || g->err_fd < 0 || fstat(g->msg_fd, &st) < 0)
        return;
    off_t from =
        st.st_size > (off_t)sizeof buf ? st.st_size - (off_t)sizeof buf : 0;
    ssize_t n = pread(g->msg_fd, buf, sizeof buf, from);
    for (ssize_t i = 0; i < n; i++) /* as harmless as a log should be */
        if ((buf[i] < ' ' && buf[i] != '\n' && buf[i] != '\t') ||
            buf[i] == 0x7f)
            buf[i] = '?';
    if (n > 0)
        put(g->err_fd, buf, (size_t)n);
}

static void on_crash(int sig) {
    struct guard g;
    if (pread(GUARD_FD, &g, sizeof g, 0) == (ssize_t)sizeof g &&
        g.pid == getpid()) {
        sigset_t ttou;
        sigemptyset(&ttou);
        sigaddset(&ttou, SIGTTOU); /* also from the background */
        pthread_sigmask(SIG_BLOCK, &ttou, NULL);
        put(g.tty, g.bytes, g.n <= sizeof g.bytes ? g.n : 0);
        tcsetattr(g.tty, TCSAFLUSH, &g.termios);
        put_messages(&g);
        if (g.err_fd >= 0)
            dup2(g.err_fd, STDERR_FILENO);
    }
    /* SA_RESETHAND: the default action, with the default core dump. */
    raise(sig);
}

int guard_set(const struct guard *g, struct guard_old *old) {
    struct guard rec = *g;
    rec.pid = getpid();
    old->stack_mem = NULL;
    if (fcntl(GUARD_FD, F_GETFD) >= 0)
        return -1;
    int fd = memfd_create("fettle-guard", MFD_CLOEXEC);
    if (fd < 0 || write(fd, &rec, sizeof rec) != (ssize_t)sizeof rec ||
        dup3(fd, GUARD_FD, O_CLOEXEC) < 0) {
        if (fd >= 0)
            close(fd);
        return -1;
    }
    close(fd);
    /* A stack of its own, so that a stack overflow restores too. */
    old->stack_mem = malloc(STACK_BYTES);
    stack_t st = {.ss_sp = old->stack_mem, .ss_size = STACK_BYTES};
    if (old->stack_mem && sigaltstack(&st, &old->stack) < 0) {
        free(old->stack_mem);
        old->stack_mem = NULL;
    }
    struct sigaction sa = {.sa_handler = on_crash,
                           .sa_flags = SA_RESETHAND | SA_NODEFER | SA_ONSTACK};
    sigemptyset(&sa.sa_mask);
    for (int i = 0; i < GUARD_SIGNALS; i++)
        sigaction(SIGNALS[i], &sa, &old->act[i]);
    return 0;
}

void guard_clear(struct guard_old *old) {
    for (int i = 0; i < GUARD_SIGNALS; i++)
        sigaction(SIGNALS[i], &old->act[i], NULL);
    if (old->stack_mem) {
        sigaltstack(&old->stack, NULL);
        free(old->stack_mem);
        old->stack_mem = NULL;
    }
    close(GUARD_FD);
}
