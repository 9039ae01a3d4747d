/* jobs: recipe processes. A job holds run/job-N.lock while it lives, so that a
 * new daemon can tell the living from the dead. */
#include "core/daemon/int.h"

#include "core/clock.h"
#include "core/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define JOB_RESTARTS_MAX 5 /* in a row without a step */
#define JOB_CHECK_US 500000

/* fd3 becomes fd 3 of the child (-1 = none); its output goes to `log`. */
pid_t spawn(const char *exe, char *const argv[], int fd3, const char *log) {
    posix_spawn_file_actions_t fa;
    posix_spawnattr_t at;
    sigset_t none, dflt;
    pid_t pid = -1;
    extern char **environ;
    posix_spawn_file_actions_init(&fa);
    posix_spawnattr_init(&at);
    sigemptyset(&none);
    sigfillset(&dflt);
    posix_spawnattr_setsigmask(&at, &none);
    posix_spawnattr_setsigdefault(&at, &dflt);
    posix_spawnattr_setflags(&at,
                             POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&fa, 1, log, O_WRONLY | O_CREAT | O_APPEND,
                                     0600);
    posix_spawn_file_actions_adddup2(&fa, 1, 2);
    if (fd3 >= 0)
        posix_spawn_file_actions_adddup2(&fa, fd3, 3);
    int rc = posix_spawn(&pid, exe, &fa, &at, argv, environ);
    posix_spawn_file_actions_destroy(&fa);
    posix_spawnattr_destroy(&at);
    errno = rc;
    return rc ? -1 : pid;
}

static struct jobproc *job_find(struct daemon *d, int64_t run) {
    for (struct jobproc *j = d->jobs; j; j = j->next)
        if (j->run == run)
            return j;
    return NULL;
}

static void job_drop(struct daemon *d, struct jobproc *j) {
    for (struct jobproc **p = &d->jobs; *p; p = &(*p)->next)
        if (*p == j) {
            *p = j->next;
            free(j);
            return;
        }
}

static bool job_alive(struct daemon *d, int64_t run) {
    struct err err = {0};
    char *path = fs_path("%s/run/job-%lld.lock", d->o.home, (long long)run);
    int fd = fs_exists(path) ? fs_lock(path, &err) : -1;
    free(path);
    if (fd >= 0)
        close(fd);
    return fd < 0 && err.code == ERR_BUSY;
}

static int64_t job_cursor(struct daemon *d, int64_t run) {
    struct store_runs rows = {0};
    int64_t cursor =
        store_run_get(d->st, run, &rows) == STORE_OK ? rows.row->cursor : 0;
    store_runs_free(&rows);
    return cursor;
}

int job_start(struct daemon *d, int64_t run, struct err *err) {
    struct jobproc *j = job_find(d, run);
    char number[24];
    if (!j) {
        j = calloc(1, sizeof *j);
        CHECK(j, "out of memory for a job");
        j->run = run;
        j->next = d->jobs;
        d->jobs = j;
    }
    j->cursor = job_cursor(d, run);
    snprintf(number, sizeof number, "%lld", (long long)run);
    char *log = fs_path("%s/log/job-%lld.log", d->o.home, (long long)run);
    char *argv[] = {"fettle", "job", "--home", (char *)d->o.home, number, NULL};
    j->pid = spawn(d->o.exe, argv, -1, log);
    free(log);
    if (j->pid < 0) {
        job_drop(d, j);
        return err_sys(err, "start job of run %lld", (long long)run);
    }
    log_line(d->log, LOG_INFO, "job %d runs %lld", (int)j->pid, (long long)run);
    return err_store(
        err, d->st,
        store_run_state(d->st, run, STORE_RUN_RUNNING, NULL, clock_wall_us()));
}

void job_end(struct daemon *d, int64_t run, enum store_run_state state,
             const char *error) {
    store_run_state(d->st, run, state, error, clock_wall_us());
    if (state == STORE_RUN_FAILED)
        store_event_add(d->st,
                        &(struct store_event){.time_us = clock_wall_us(),
                                              .run = run,
                                              .step = -1,
                                              .kind = "failed",
                                              .level = STORE_ERROR,
                                              .text = error},
                        true);
    for (struct tmodel *t = d->tmodels, *next; t; t = next) {
        next = t->next;
        if (t->run == run && state == STORE_RUN_FAILED)
            tmodel_unload(d, t); /* kept: the run can be resumed */
        else if (t->run == run)
            tmodel_close(d, t);
    }
}

/* The last line that a dead job wrote, as its error. */
static void job_last_words(struct daemon *d, int64_t run, char *out,
                           size_t cap) {
    struct err ignored = {0};
    size_t len;
    char *path = fs_path("%s/log/job-%lld.log", d->o.home, (long long)run);
    char *text = fs_read(path, 64 << 20, &len, &ignored);
    free(path);
    while (text && len > 0 && text[len - 1] == '\n')
        text[--len] = 0;
    const char *line = text ? strrchr(text, '\n') : NULL;
    snprintf(out, cap, "the job ended without a word%s%.300s",
             text && *text ? ": " : "",
             line   ? line + 1
             : text ? text
                    : "");
    free(text);
}

static void job_died(struct daemon *d, struct jobproc *j) {
    struct store_runs rows = {0};
    int64_t run = j->run;
    j->pid = 0;
    if (store_run_get(d->st, run, &rows) != STORE_OK ||
        (rows.row->state != STORE_RUN_RUNNING &&
         rows.row->state != STORE_RUN_QUEUED)) {
        store_runs_free(&rows);
        job_drop(d, j);
        return;
    }
    bool moved = rows.row->cursor > j->cursor;
    store_runs_free(&rows);
    j->restarts = moved ? 1 : j->restarts + 1;
    if (d->stopping)
        return;
    if (j->restarts > JOB_RESTARTS_MAX) {
        char words[512];
        job_last_words(d, run, words, sizeof words);
        job_drop(d, j);
        job_end(d, run, STORE_RUN_FAILED, words);
        return;
    }
    struct err err = {0};
    log_line(d->log, LOG_WARN, "job of run %lld ended early: start again",
             (long long)run);
    if (job_start(d, run, &err) < 0)
        log_line(d->log, LOG_ERROR, "%s", err.msg);
}

void jobs_tick(struct daemon *d) {
    int64_t now = clock_mono_us();
    for (struct jobproc *j = d->jobs, *next; j; j = next) {
        next = j->next;
        if (j->pid > 0) {
            if (waitpid(j->pid, NULL, WNOHANG) == j->pid)
                job_died(d, j);
        } else if (now >= j->check_us) {
            j->check_us = now + JOB_CHECK_US;
            if (!job_alive(d, j->run))
                job_died(d, j);
        }
    }
}

void jobs_load(struct daemon *d) {
    struct store_runs rows = {0};
    struct err err = {0};
    static const char *const filters[] = {"state:running", "state:queued",
                                          "state:paused"};
    for (size_t f = 0; f < 3; f++) {
        if (store_runs(d->st, &(struct store_run_query){.filter = filters[f]},
                       &rows) != STORE_OK)
            continue;
        for (int i = 0; i < rows.n; i++) {
            int64_t run = rows.row[i].id;
            if (job_alive(d, run)) {
                struct jobproc *j = calloc(1, sizeof *j);
                CHECK(j, "out of memory for a job");
                j->run = run;
                j->cursor = rows.row[i].cursor;
                j->next = d->jobs;
                d->jobs = j;
            } else if (f < 2 && job_start(d, run, &err) < 0) {
                log_line(d->log, LOG_ERROR, "%s", err.msg);
            }
        }
        store_runs_free(&rows);
    }
}

/* Their runs stay `running`: the next daemon starts them again. */
void jobs_stop(struct daemon *d) {
    for (struct jobproc *j = d->jobs; j; j = j->next)
        if (j->pid > 0)
            kill(j->pid, SIGTERM);
    for (struct jobproc *j = d->jobs, *next; j; j = next) {
        next = j->next;
        for (int k = 0; j->pid > 0 && k < 200; k++) {
            if (waitpid(j->pid, NULL, WNOHANG) != 0)
                break;
            clock_sleep_ms(10);
            if (k == 150)
                kill(j->pid, SIGKILL);
        }
        free(j);
    }
    d->jobs = NULL;
}
