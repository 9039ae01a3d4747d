/* daemon: start, the main loop, a clean end. */
#include "core/daemon/int.h"

#include "core/clock.h"
#include "core/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define DAEMON_TICK_MS 100

int err_store(struct err *err, struct store *st, int rc) {
    static const enum err_code codes[] = {
        [-STORE_NOTFOUND] = ERR_NOTFOUND,
        [-STORE_EXISTS] = ERR_EXISTS,
        [-STORE_CONFLICT] = ERR_CONFLICT,
        [-STORE_INVAL] = ERR_INVAL,
        [-STORE_BUSY] = ERR_BUSY,
        [-STORE_CORRUPT] = ERR_CORRUPT,
        [-STORE_NEWER] = ERR_CONFIG,
        [-STORE_OLDER] = ERR_CONFIG,
        [-STORE_NOSPACE] = ERR_NOSPACE,
        [-STORE_PERM] = ERR_PERM,
        [-STORE_IO] = ERR_IO,
        [-STORE_NOMEM] = ERR_NOMEM,
        [-STORE_BUG] = ERR_BUG,
    };
    if (rc == STORE_OK)
        return 0;
    size_t i = (size_t)-rc;
    return err_set(err, i < sizeof codes / sizeof *codes ? codes[i] : ERR_BUG,
                   "%s", store_errmsg(st));
}

void daemon_wake(struct daemon *d) {
    ssize_t n = write(d->wake[1], "", 1);
    (void)n; /* a full pipe wakes as well */
}

static int daemon_open(struct daemon *d, struct err *err) {
    char *lock = fs_path("%s/run/d.lock", d->o.home);
    char *log = fs_path("%s/log/daemon.log", d->o.home);
    d->lock_fd = fs_lock(lock, err);
    int rc = 0;
    if (d->lock_fd < 0)
        rc = err->code == ERR_BUSY
                 ? err_ctx(err, "a daemon already serves %s (fettle status)",
                           d->o.home)
                 : -1;
    if (rc == 0 && !(d->log = log_open(log, "daemon", d->o.foreground, err)))
        rc = -1;
    free(lock);
    free(log);
    if (rc < 0)
        return -1;
    if (pipe2(d->wake, O_CLOEXEC | O_NONBLOCK) < 0)
        return err_sys(err, "open daemon");
    rc = store_open(
        &d->st, &(struct store_opts){.dir = d->o.home, .mode = STORE_WRITE});
    return err_store(err, d->st, rc);
}

static void daemon_close(struct daemon *d) {
    http_close(d);
    workers_stop(d);
    pthread_mutex_lock(&d->lock);
    jobs_stop(d);
    pthread_mutex_unlock(&d->lock);
    store_close(d->st);
    if (d->socket)
        unlink(d->socket);
    if (d->log)
        log_line(d->log, LOG_INFO, "stopped");
    log_close(d->log);
    for (int i = 0; i < 2; i++)
        if (d->wake[i] >= 0)
            close(d->wake[i]);
    if (d->lock_fd >= 0)
        close(d->lock_fd);
    free(d->socket);
    pthread_mutex_destroy(&d->lock);
    free(d);
}

static void daemon_loop(struct daemon *d, int sigfd) {
    struct pollfd p[2] = {{sigfd, POLLIN, 0}, {d->wake[0], POLLIN, 0}};
    for (bool stop = false; !stop;) {
        poll(p, 2, DAEMON_TICK_MS);
        char drop[256];
        while (read(d->wake[0], drop, sizeof drop) > 0)
            ;
        struct signalfd_siginfo si;
        while (read(sigfd, &si, sizeof si) == (ssize_t)sizeof si)
            if (si.ssi_signo == SIGTERM || si.ssi_signo == SIGINT)
                stop = true;
        pthread_mutex_lock(&d->lock);
        stop |= d->stopping;
        d->stopping = stop;
        jobs_tick(d);
        workers_tick(d);
        waiters_tick(d);
        pthread_mutex_unlock(&d->lock);
    }
}

static void stdio_let_go(void) {
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; null >= 0 && fd < 3; fd++)
        dup2(null, fd);
    if (null > 2)
        close(null);
}

int daemon_serve(const struct daemon_opts *o, struct err *err) {
    struct daemon *d = calloc(1, sizeof *d);
    CHECK(d, "out of memory for a daemon");
    d->o = *o;
    d->lock_fd = d->wake[0] = d->wake[1] = -1;
    d->next_id = 1;
    pthread_mutex_init(&d->lock, NULL);
    sigset_t set, old;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, &old); /* before any thread is made */
    signal(SIGPIPE, SIG_IGN);
    int sigfd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    int rc = sigfd < 0 ? err_sys(err, "open daemon") : daemon_open(d, err);
    if (rc == 0) {
        pthread_mutex_lock(&d->lock);
        tmodels_load(d);
        jobs_load(d);
        pthread_mutex_unlock(&d->lock);
        rc = http_open(d, err);
    }
    if (rc == 0) {
        log_line(d->log, LOG_INFO, "serving %s, pid %d", d->o.home,
                 (int)getpid());
        if (d->o.detach)
            stdio_let_go();
        daemon_loop(d, sigfd);
    }
    if (rc < 0 && d->log)
        log_line(d->log, LOG_ERROR, "%s", err->msg);
    daemon_close(d);
    if (sigfd >= 0)
        close(sigfd);
    sigprocmask(SIG_SETMASK, &old, NULL);
    return rc;
}
