/*
 * super: workers and the training models in them.
 * Invariants: 1. ops of a model are sent in seq order without gaps; 2. after a
 * worker's death nothing it held counts: models are restored from snapshot
 * and journal when the next one says HELLO; 3. a result is stored before
 * anybody sees it.
 */
#include "core/daemon/int.h"

#include "core/clock.h"
#include "core/fs.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define SNAP_AFTER_US 500000 /* replay time worth a snapshot */
#define SNAP_RATIO 20        /* and times what a snapshot takes */
/* Deaths while one op runs, until it is held to be their cause: its own
 * signals count, SIGKILL (somebody's, or the OOM killer's) less so. */
#define CRASH_LIMIT 30
#define CRASH_FAULT 10
#define CRASH_KILL 1
#define START_FAILURES_MAX 4

static const int retry_ms[] = {0, 200, 500, 1000, 2000, 5000};

/* ---- pending answers ---- */

static struct pending *pending_add(struct worker *w, enum pending_kind kind) {
    struct pending *p = calloc(1, sizeof *p);
    CHECK(p, "out of memory for a frame");
    p->id = w->d->next_id++;
    p->kind = kind;
    p->next = w->pending;
    w->pending = p;
    return p;
}

static struct pending *pending_take(struct worker *w, uint64_t id) {
    for (struct pending **p = &w->pending; *p; p = &(*p)->next)
        if ((*p)->id == id) {
            struct pending *hit = *p;
            *p = hit->next;
            return hit;
        }
    return NULL;
}

static const struct pending *pending_find(const struct worker *w, uint64_t id) {
    for (const struct pending *p = w->pending; p; p = p->next)
        if (p->id == id)
            return p;
    return NULL;
}

/* A write that fails means the worker is dead; its reader will say so. */
static void worker_write(struct worker *w, enum frame_type type, uint64_t id,
                         const void *data, size_t len) {
    struct err ignored = {0};
    if (w->state == WORKER_READY)
        frame_write(w->fd, type, id, data, len, &ignored);
}

/* ---- training models ---- */

struct tmodel *tmodel_find(struct daemon *d, const char *id) {
    for (struct tmodel *t = d->tmodels; t; t = t->next)
        if (strcmp(t->id, id) == 0)
            return t;
    return NULL;
}

struct tmodel *tmodel_add(struct daemon *d, const char *id, const char *base,
                          int64_t run) {
    struct tmodel *t = tmodel_find(d, id);
    if (t)
        return t;
    t = calloc(1, sizeof *t);
    CHECK(t, "out of memory for a model");
    snprintf(t->id, sizeof t->id, "%s", id);
    snprintf(t->base, sizeof t->base, "%s", base);
    t->run = run;
    t->snap_seq = -1;
    t->crash_seq = -1;
    t->held_seq = -1;
    t->next = d->tmodels;
    d->tmodels = t;
    return t;
}

void tmodels_load(struct daemon *d) {
    struct store_tmodels rows = {0};
    if (store_tmodels(d->st, STORE_TMODEL_LIVE, &rows) != STORE_OK)
        return;
    for (int i = 0; i < rows.n; i++) {
        struct tmodel *t =
            tmodel_add(d, rows.row[i].id, rows.row[i].base, rows.row[i].run);
        t->snap_seq = rows.row[i].snapshot_seq;
        snprintf(t->snap_dir, sizeof t->snap_dir, "%s",
                 rows.row[i].snapshot_dir);
        if (rows.row[i].applied_seq + 1 < rows.row[i].next_seq)
            tmodel_pump(d, t); /* somebody waits for a result */
    }
    store_tmodels_free(&rows);
}

static void snap_remove(struct daemon *d, const char *dir) {
    struct err ignored = {0};
    char *path = fs_path("%s/%s", d->o.home, dir);
    if (*dir)
        fs_remove_tree(path, &ignored);
    free(path);
}

struct send {
    struct worker *w;
    struct tmodel *t;
    bool replay;
};

static void send_note(struct pending *p, const struct store_op *op) {
    struct op o;
    struct err ignored = {0};
    p->op_kind = op->kind;
    if (op->kind != OP_SAVE ||
        op_decode(&o, op->payload, op->payload_len, &ignored) < 0)
        return;
    snprintf(p->ckpt, sizeof p->ckpt, "%s", o.save.ckpt);
    p->ckpt_kind = (int)o.save.kind;
    p->step = o.save.step;
    op_release(&o);
}

static bool send_op(void *arg, const struct store_op *op) {
    struct send *s = arg;
    if (op->seq != s->t->next_send)
        return false; /* a gap: wait for what is missing */
    s->t->next_send++;
    if (op->result.status == STORE_OP_FAILED || !op->payload) {
        if (s->t->last_done == op->seq - 1)
            s->t->last_done = op->seq;
        return true; /* it changed nothing */
    }
    struct pending *p = pending_add(s->w, PENDING_OP);
    snprintf(p->model, sizeof p->model, "%s", s->t->id);
    p->seq = op->seq;
    send_note(p, op);
    worker_write(s->w, FRAME_OP, p->id, op->payload, op->payload_len);
    return true;
}

static void tmodel_restore(struct worker *w, struct tmodel *t) {
    t->loaded = true;
    t->snapping = false;
    t->exec_us = 0;
    t->next_send = t->snap_seq + 1;
    t->last_done = t->snap_seq;
    if (t->snap_seq < 0)
        return;
    struct pending *p = pending_add(w, PENDING_CONTROL);
    struct buf b;
    char *dir = fs_path("%s/%s", w->d->o.home, t->snap_dir);
    snprintf(p->model, sizeof p->model, "%s", t->id);
    buf_init(&b, 8192);
    buf_lstr(&b, t->id);
    buf_lstr(&b, dir);
    worker_write(w, FRAME_RESTORE, p->id, b.data, b.len);
    buf_release(&b);
    free(dir);
}

void tmodel_pump(struct daemon *d, struct tmodel *t) {
    struct err err = {0};
    struct worker *w = worker_get(d, t->base, &err);
    if (!w || w->state != WORKER_READY)
        return; /* HELLO pumps again */
    if (!t->loaded)
        tmodel_restore(w, t);
    struct send s = {.w = w, .t = t};
    store_ops_after(d->st, t->id, t->next_send - 1, send_op, &s);
}

void tmodel_unload(struct daemon *d, struct tmodel *t) {
    for (int i = 0; i < d->n_workers; i++) {
        struct worker *w = d->worker[i];
        if (strcmp(w->name, t->base) != 0 || !t->loaded)
            continue;
        struct pending *p = pending_add(w, PENDING_CONTROL);
        struct buf b;
        buf_init(&b, 4096);
        buf_lstr(&b, t->id);
        worker_write(w, FRAME_UNLOAD, p->id, b.data, b.len);
        buf_release(&b);
    }
    t->loaded = false;
}

#define RETRY_OPS_MAX 64

struct retry {
    int64_t seq[RETRY_OPS_MAX];
    int n;
};

static bool retry_note(void *arg, const struct store_op *op) {
    struct retry *r = arg;
    if (op->result.status == STORE_OP_FAILED && op->payload &&
        err_retryable(err_by_name(op->result.code)))
        r->seq[r->n++] = op->seq;
    return r->n < RETRY_OPS_MAX;
}

void tmodel_retry(struct daemon *d, struct tmodel *t) {
    struct retry r = {.n = 0};
    store_ops_after(d->st, t->id, t->snap_seq, retry_note, &r);
    for (int i = 0; i < r.n; i++)
        if (store_op_retry(d->st, t->id, r.seq[i]) != STORE_OK)
            log_line(d->log, LOG_ERROR, "%s", store_errmsg(d->st));
    t->held_seq = -1;
    tmodel_unload(d, t);
    tmodel_pump(d, t);
}

void tmodel_close(struct daemon *d, struct tmodel *t) {
    struct err ignored = {0};
    tmodel_unload(d, t);
    store_tmodel_state(d->st, t->id, STORE_TMODEL_CLOSED, NULL);
    char *snaps = fs_path("%s/ckpt/.snap/%s", d->o.home, t->id);
    fs_remove_tree(snaps, &ignored);
    free(snaps);
    for (struct tmodel **p = &d->tmodels; *p; p = &(*p)->next)
        if (*p == t) {
            *p = t->next;
            free(t);
            return;
        }
}

/* A snapshot of what was sent so far, when replaying it would be slow. */
static void tmodel_snapshot(struct worker *w, struct tmodel *t) {
    if (t->snapping || t->held_seq >= 0 || t->exec_us < SNAP_AFTER_US ||
        t->exec_us < SNAP_RATIO * t->snap_us)
        return;
    t->snapping = true;
    t->snap_pending_seq = t->next_send - 1;
    struct pending *p = pending_add(w, PENDING_SNAPSHOT);
    struct buf b;
    char *dir = fs_path("%s/ckpt/.snap/%s/%lld", w->d->o.home, t->id,
                        (long long)t->snap_pending_seq);
    snprintf(p->model, sizeof p->model, "%s", t->id);
    p->seq = t->snap_pending_seq;
    buf_init(&b, 8192);
    buf_lstr(&b, t->id);
    buf_lstr(&b, dir);
    worker_write(w, FRAME_SNAPSHOT, p->id, b.data, b.len);
    buf_release(&b);
    free(dir);
}

static void snapshot_done(struct worker *w, const struct pending *p,
                          const struct result *r) {
    struct daemon *d = w->d;
    struct tmodel *t = tmodel_find(d, p->model);
    char dir[STORE_NAME_MAX], old[STORE_NAME_MAX];
    if (!t)
        return;
    t->snapping = false;
    snprintf(dir, sizeof dir, "ckpt/.snap/%.200s/%lld", t->id,
             (long long)p->seq);
    if (t->held_seq >= 0 && p->seq >= t->held_seq) {
        snap_remove(d, dir);
        return;
    }
    if (store_snapshot_commit(d->st, t->id, p->seq, dir) != STORE_OK) {
        log_line(d->log, LOG_ERROR, "snapshot of %s: %s", t->id,
                 store_errmsg(d->st));
        return;
    }
    snprintf(old, sizeof old, "%s", t->snap_dir);
    snprintf(t->snap_dir, sizeof t->snap_dir, "%s", dir);
    t->snap_seq = p->seq;
    t->snap_us = r->exec_us;
    t->exec_us = 0;
    snap_remove(d, old);
}

/* ---- results ---- */

void waiters_wake(struct daemon *d, const char *model, int64_t seq) {
    for (struct waiter **p = &d->waiters; *p;) {
        struct waiter *w = *p;
        if (w->seq == seq && strcmp(w->model, model) == 0) {
            *p = w->next;
            MHD_resume_connection(w->conn);
            free(w);
        } else {
            p = &w->next;
        }
    }
}

void waiters_tick(struct daemon *d) {
    int64_t now = clock_mono_us();
    for (struct waiter **p = &d->waiters; *p;) {
        struct waiter *w = *p;
        if (now >= w->deadline_us || d->stopping) {
            *p = w->next;
            MHD_resume_connection(w->conn);
            free(w);
        } else {
            p = &w->next;
        }
    }
}

/* The checkpoint that an OP_SAVE made, in the transaction of its result. */
static int save_record(struct daemon *d, const struct tmodel *t,
                       const struct pending *p, const struct result *r) {
    const char *slash = strchr(p->ckpt, '/');
    char *end;
    int64_t run = strtoll(p->ckpt, &end, 10);
    if (!slash || end != slash)
        return STORE_OK;
    int64_t now = clock_wall_us();
    int rc = store_ckpt_add(
        d->st, &(struct store_ckpt){
                   .run = run,
                   .name = slash + 1,
                   .step = (int64_t)p->step,
                   .kind = ckpt_kind_name((enum ckpt_kind)p->ckpt_kind),
                   .model = t->base,
                   .bytes = (int64_t)r->bytes,
                   .created_us = now});
    if (rc == STORE_OK)
        rc = store_event_add(d->st,
                             &(struct store_event){.time_us = now,
                                                   .run = run,
                                                   .step = (int64_t)p->step,
                                                   .kind = "checkpoint",
                                                   .text = p->ckpt},
                             true);
    return rc;
}

static void op_done(struct worker *w, const struct pending *p,
                    const struct frame *f) {
    struct daemon *d = w->d;
    struct tmodel *t = tmodel_find(d, p->model);
    struct result r = {0};
    struct err err = {0};
    if (!t)
        return;
    bool ok = f->type == FRAME_RESULT;
    t->last_done = p->seq;
    if (ok && result_decode(&r, f->data, f->len, &err) < 0)
        ok = false;
    struct store_result s = {.status = ok ? STORE_OP_DONE : STORE_OP_FAILED,
                             .data = f->data,
                             .len = f->len};
    char *code = NULL, *msg = NULL;
    if (!ok) {
        struct cur c;
        cur_init(&c, f->data, f->len);
        code = cur_lstr(&c, 64);
        msg = cur_lstr(&c, 4096);
        s.data = NULL;
        s.len = 0;
        s.code = code ? code : "internal";
        s.error = msg ? msg : "damaged answer of a worker";
        if (t->held_seq < 0 && err_retryable(err_by_name(s.code)))
            t->held_seq = p->seq;
    }
    int rc = store_begin(d->st);
    if (rc == STORE_OK)
        rc = store_op_result(d->st, p->model, p->seq, &s, clock_wall_us());
    if (rc == STORE_OK && ok && p->op_kind == OP_SAVE)
        rc = save_record(d, t, p, &r);
    rc = rc == STORE_OK ? store_commit(d->st) : rc;
    if (rc != STORE_OK) {
        log_line(d->log, LOG_ERROR, "result of %s/%lld: %s", p->model,
                 (long long)p->seq, store_errmsg(d->st));
        store_rollback(d->st);
        /* Not stored, not told: the worker starts over from the journal. */
        kill(w->pid, SIGKILL);
    } else {
        t->exec_us += r.exec_us;
        if (p->seq > t->crash_seq)
            t->crashes = 0;
        waiters_wake(d, p->model, p->seq);
        if (p->op_kind == OP_OPTIM_STEP)
            tmodel_snapshot(w, t);
    }
    free(code);
    free(msg);
    result_release(&r);
}

static void control_failed(struct worker *w, const struct pending *p,
                           const struct frame *f) {
    struct cur c;
    cur_init(&c, f->data, f->len);
    char *code = cur_lstr(&c, 64), *msg = cur_lstr(&c, 4096);
    struct tmodel *t = tmodel_find(w->d, p->model);
    log_line(w->d->log, LOG_ERROR, "%s of %s: %s",
             p->kind == PENDING_SNAPSHOT ? "snapshot" : "restore", p->model,
             msg ? msg : "?");
    if (t && p->kind == PENDING_SNAPSHOT) {
        t->snapping = false;
        t->exec_us = 0; /* try again later */
    }
    free(code);
    free(msg);
}

static void worker_hello(struct worker *w, const struct frame *f) {
    struct cur c;
    struct daemon *d = w->d;
    cur_init(&c, f->data, f->len);
    cur_u32(&c);
    char *device = cur_lstr(&c, 256);
    snprintf(w->device, sizeof w->device, "%s", device ? device : "?");
    free(device);
    w->state = WORKER_READY;
    w->failures = 0;
    log_line(d->log, LOG_INFO, "worker %d of %s is up: %s", (int)w->pid,
             w->name, w->device);
    for (struct tmodel *t = d->tmodels; t; t = t->next)
        if (strcmp(t->base, w->name) == 0)
            tmodel_pump(d, t);
    for (struct flow *fl = d->flows, *next; fl; fl = next) {
        next = fl->next;
        if (!fl->done && fl->id == 0 && fl->worker == w)
            flow_start(fl, w->name);
    }
}

static void worker_frame(struct worker *w, const struct frame *f) {
    if (f->type == FRAME_HELLO) {
        worker_hello(w, f);
        return;
    }
    if (f->id == 0 && f->type == FRAME_ERROR) { /* it could not start */
        struct cur c;
        cur_init(&c, f->data, f->len);
        char *code = cur_lstr(&c, 64), *msg = cur_lstr(&c, 4096);
        snprintf(w->error, sizeof w->error, "%s", msg ? msg : "?");
        w->error_code = err_by_name(code ? code : "");
        free(code);
        free(msg);
        return;
    }
    const struct pending *found = pending_find(w, f->id);
    if (!found)
        return;
    if (f->type == FRAME_PARTIAL) {
        if (found->flow)
            flow_frame(found->flow, f);
        return;
    }
    struct pending *p = pending_take(w, f->id);
    struct result r = {0};
    struct err ignored = {0};
    switch (p->kind) {
    case PENDING_OP: op_done(w, p, f); break;
    case PENDING_FLOW:
        if (p->flow) {
            p->flow->id = 0;
            flow_frame(p->flow, f);
        }
        break;
    case PENDING_SNAPSHOT:
        if (f->type == FRAME_ERROR)
            control_failed(w, p, f);
        else if (result_decode(&r, f->data, f->len, &ignored) == 0)
            snapshot_done(w, p, &r);
        break;
    case PENDING_CONTROL:
        if (f->type == FRAME_ERROR)
            control_failed(w, p, f);
        break;
    }
    result_release(&r);
    free(p);
}

/* ---- a worker's life ---- */

static void *worker_reader(void *arg) {
    struct worker *w = arg;
    struct frame f;
    struct err err = {0};
    while (frame_read(w->fd, &f, &err) == 1) {
        pthread_mutex_lock(&w->d->lock);
        worker_frame(w, &f);
        pthread_mutex_unlock(&w->d->lock);
        free(f.data);
    }
    pthread_mutex_lock(&w->d->lock);
    w->reader_done = true;
    pthread_mutex_unlock(&w->d->lock);
    daemon_wake(w->d);
    return NULL;
}

/* Where its model is: the name may have come back with another directory. */
static int worker_find_dir(struct worker *w, struct err *err) {
    struct store_models rows = {0};
    int rc = store_model_get(w->d->st, w->name, &rows);
    if (rc == STORE_OK) {
        free(w->dir);
        w->dir = fs_path("%s", rows.row->dir);
    }
    store_models_free(&rows);
    return err_store(err, w->d->st, rc);
}

static int worker_spawn(struct worker *w, struct err *err) {
    struct daemon *d = w->d;
    int fd[2];
    char threads[16];
    if (worker_find_dir(w, err) < 0)
        return -1;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) < 0)
        return err_sys(err, "start worker");
    char *log = fs_path("%s/log/worker.log", d->o.home);
    snprintf(threads, sizeof threads, "%d", d->o.threads);
    char *argv[] = {"fettle",    "worker",
                    "--home",    (char *)d->o.home,
                    "--model",   w->name,
                    "--dir",     w->dir,
                    "--device",  (char *)(d->o.device ? d->o.device : "cpu"),
                    "--threads", threads,
                    NULL};
    w->pid = spawn(d->o.exe, argv, fd[1], log);
    free(log);
    close(fd[1]);
    if (w->pid < 0) {
        close(fd[0]);
        return err_sys(err, "start worker %s", d->o.exe);
    }
    w->fd = fd[0];
    w->state = WORKER_STARTING;
    w->started_us = clock_mono_us();
    w->reader_done = w->ends = false;
    w->error[0] = 0;
    if (pthread_create(&w->reader, NULL, worker_reader, w) != 0) {
        kill(w->pid, SIGKILL);
        waitpid(w->pid, NULL, 0);
        close(w->fd);
        w->state = WORKER_DOWN;
        return err_set(err, ERR_NOMEM, "start worker: no thread");
    }
    w->has_reader = true;
    return 0;
}

/* Somebody needs this base: a model with ops to run, a flow. */
static bool worker_wanted(const struct worker *w) {
    struct daemon *d = w->d;
    for (const struct flow *f = d->flows; f; f = f->next)
        if (f->worker == w && !f->done)
            return true;
    for (const struct tmodel *t = d->tmodels; t; t = t->next)
        if (strcmp(t->base, w->name) == 0)
            return true;
    struct store_deployments rows = {0};
    bool wanted = false;
    if (store_deployments(d->st, &rows) == STORE_OK)
        for (int i = 0; i < rows.n; i++)
            wanted |= strcmp(rows.row[i].model, w->name) == 0;
    store_deployments_free(&rows);
    return wanted;
}

static bool worker_is_over(const struct worker *w) {
    return w->state == WORKER_DOWN && !w->has_reader && !worker_wanted(w);
}

/* Where a worker can stand: behind the others, or in the place of one that is
 * down and that nobody needs; NULL when there is none. */
static struct worker **worker_place(struct daemon *d) {
    if (d->n_workers < WORKERS_MAX)
        return &d->worker[d->n_workers++];
    for (int i = 0; i < d->n_workers; i++) {
        struct worker *w = d->worker[i];
        if (!worker_is_over(w))
            continue;
        for (struct flow *f = d->flows; f; f = f->next)
            if (f->worker == w) /* answered */
                f->worker = NULL;
        free(w->dir);
        free(w);
        d->worker[i] = NULL;
        return &d->worker[i];
    }
    return NULL;
}

struct worker *worker_get(struct daemon *d, const char *base, struct err *err) {
    for (int i = 0; i < d->n_workers; i++)
        if (strcmp(d->worker[i]->name, base) == 0)
            return d->worker[i];
    struct store_models rows = {0};
    int rc = store_model_get(d->st, base, &rows);
    struct worker **place =
        rc == STORE_OK && !d->stopping ? worker_place(d) : NULL;
    if (!place) {
        if (rc != STORE_OK)
            err_store(err, d->st, rc);
        else
            err_set(err, ERR_BUSY, "no worker for %s: %s", base,
                    d->stopping ? "the daemon stops"
                                : "all are in use (try again)");
        store_models_free(&rows);
        return NULL;
    }
    struct worker *w = calloc(1, sizeof *w);
    CHECK(w, "out of memory for a worker");
    w->d = d;
    snprintf(w->name, sizeof w->name, "%s", base);
    w->state = WORKER_DOWN;
    store_models_free(&rows);
    *place = w;
    if (worker_spawn(w, err) < 0) {
        log_line(d->log, LOG_ERROR, "%s", err->msg);
        w->retry_us = clock_mono_us() + 1000000;
    }
    return w;
}

/* Which op the worker ran when it died: the first without an answer of this
 * worker. Only an op that really ran can be the cause. */
static void tmodel_crashed(struct daemon *d, struct tmodel *t, int weight) {
    int64_t head = t->last_done + 1;
    bool ran = t->loaded && head < t->next_send;
    t->loaded = false;
    t->snapping = false;
    if (!ran)
        return;
    t->crashes = head == t->crash_seq ? t->crashes + weight : weight;
    t->crash_seq = head;
    if (t->crashes < CRASH_LIMIT)
        return;
    log_line(d->log, LOG_ERROR, "op %s/%lld ends its worker: it fails", t->id,
             (long long)head);
    store_op_result(d->st, t->id, head,
                    &(struct store_result){.status = STORE_OP_FAILED,
                                           .code = "internal",
                                           .error = "this op ended its worker "
                                                    "again and again (see "
                                                    "log/worker.log)"},
                    clock_wall_us());
    t->crashes = 0;
    waiters_wake(d, t->id, head);
}

/* Nothing can run on this base: who waits is told. */
static void worker_give_up(struct worker *w) {
    struct daemon *d = w->d;
    for (struct flow *f = d->flows, *next; f; f = next) {
        next = f->next;
        if (f->worker == w && !f->done)
            flow_error(f, *w->error ? w->error_code : ERR_IO,
                       *w->error ? w->error
                                 : "the worker does not start (see "
                                   "log/worker.log)");
    }
    for (struct tmodel *t = d->tmodels; t; t = t->next) {
        struct store_tmodels rows = {0};
        if (strcmp(t->base, w->name) != 0 ||
            store_tmodel_get(d->st, t->id, &rows) != STORE_OK)
            continue;
        t->held_seq = rows.row->applied_seq + 1;
        for (int64_t s = rows.row->applied_seq + 1; s < rows.row->next_seq;
             s++) {
            store_op_result(d->st, t->id, s,
                            &(struct store_result){
                                .status = STORE_OP_FAILED,
                                .code = "unavailable",
                                .error = *w->error ? w->error
                                                   : "the worker does not "
                                                     "start"},
                            clock_wall_us());
            waiters_wake(d, t->id, s);
        }
        store_tmodels_free(&rows);
    }
}

static void worker_died(struct worker *w) {
    struct daemon *d = w->d;
    int status = 0;
    pthread_mutex_unlock(&d->lock); /* the reader may want it to end */
    pthread_join(w->reader, NULL);
    pthread_mutex_lock(&d->lock);
    w->has_reader = false;
    kill(w->pid, SIGKILL);
    waitpid(w->pid, &status, 0);
    close(w->fd);
    bool was_up = w->state == WORKER_READY;
    w->state = WORKER_DOWN;
    log_line(d->log, d->stopping || w->ends ? LOG_INFO : LOG_WARN,
             "worker %d of %s ended: %s %d%s%s", (int)w->pid, w->name,
             WIFSIGNALED(status) ? "signal" : "exit",
             WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
             *w->error ? ": " : "", w->error);
    for (struct pending *p = w->pending, *next; p; p = next) {
        next = p->next;
        if (p->flow && !p->flow->done) {
            p->flow->id = 0;
            if (p->flow->started)
                flow_error(p->flow, ERR_UNAVAILABLE, "the worker was lost");
        }
        free(p);
    }
    w->pending = NULL;
    if (d->stopping)
        return;
    bool fault = !WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL;
    for (struct tmodel *t = d->tmodels; t; t = t->next)
        if (strcmp(t->base, w->name) == 0)
            tmodel_crashed(d, t, fault ? CRASH_FAULT : CRASH_KILL);
    w->failures = was_up ? 0 : w->failures + 1;
    if (w->failures >= START_FAILURES_MAX || *w->error) {
        worker_give_up(w);
        w->failures = START_FAILURES_MAX;
    }
    int n = (int)(sizeof retry_ms / sizeof *retry_ms);
    int at = w->failures < n ? w->failures : n - 1;
    w->retry_us = clock_mono_us() + (int64_t)retry_ms[at] * 1000;
}

int worker_idle(struct daemon *d, const char *base, struct err *err) {
    for (const struct flow *f = d->flows; f; f = f->next)
        if (f->worker && !f->done && strcmp(f->worker->name, base) == 0)
            return err_set(err, ERR_CONFLICT,
                           "%s: a request runs on it (try again when it is "
                           "answered)",
                           base);
    return 0;
}

void worker_retire(struct daemon *d, const char *base) {
    for (int i = 0; i < d->n_workers; i++)
        if (strcmp(d->worker[i]->name, base) == 0 && d->worker[i]->has_reader)
            kill(d->worker[i]->pid, SIGKILL);
}

/* With every place taken, the worker that was started first of those that
 * nobody needs ends, for the next model. */
static void workers_make_room(struct daemon *d) {
    struct worker *oldest = NULL;
    for (int i = 0; i < d->n_workers; i++)
        if (d->worker[i]->ends || worker_is_over(d->worker[i]))
            return; /* there is room, or will be */
    for (int i = 0; i < d->n_workers; i++) {
        struct worker *w = d->worker[i];
        if (w->state == WORKER_READY && !worker_wanted(w) &&
            (!oldest || w->started_us < oldest->started_us))
            oldest = w;
    }
    if (!oldest)
        return;
    log_line(d->log, LOG_INFO, "worker %d of %s is not needed: room for others",
             (int)oldest->pid, oldest->name);
    oldest->ends = true;
    kill(oldest->pid, SIGKILL);
}

void workers_tick(struct daemon *d) {
    if (d->n_workers == WORKERS_MAX && !d->stopping)
        workers_make_room(d);
    for (int i = 0; i < d->n_workers; i++) {
        struct worker *w = d->worker[i];
        struct err err = {0};
        if (w->has_reader && w->reader_done)
            worker_died(w);
        if (w->state == WORKER_DOWN && !d->stopping &&
            clock_mono_us() >= w->retry_us && worker_wanted(w) &&
            worker_spawn(w, &err) < 0) {
            log_line(d->log, LOG_ERROR, "%s", err.msg);
            w->retry_us = clock_mono_us() + 1000000;
        }
    }
}

void workers_stop(struct daemon *d) {
    for (int i = 0; i < d->n_workers; i++) {
        struct worker *w = d->worker[i];
        pthread_mutex_lock(&d->lock);
        worker_write(w, FRAME_QUIT, 0, NULL, 0);
        pthread_mutex_unlock(&d->lock);
        for (int k = 0; w->has_reader && k < 300; k++) {
            pthread_mutex_lock(&d->lock);
            bool done = w->reader_done;
            pthread_mutex_unlock(&d->lock);
            if (done)
                break;
            clock_sleep_ms(10);
        }
        pthread_mutex_lock(&d->lock);
        if (w->has_reader) {
            kill(w->pid, SIGKILL);
            worker_died(w);
        }
        pthread_mutex_unlock(&d->lock);
        free(w->dir);
        free(w);
    }
    d->n_workers = 0;
    for (struct tmodel *t = d->tmodels, *next; t; t = next) {
        next = t->next;
        free(t);
    }
    d->tmodels = NULL;
}

/* ---- flows ---- */

struct flow *flow_new(struct daemon *d, enum flow_mode mode) {
    struct flow *f = calloc(1, sizeof *f);
    CHECK(f, "out of memory for a request");
    f->d = d;
    f->mode = mode;
    f->status = 200;
    buf_init(&f->out, WIRE_MAX);
    f->next = d->flows;
    d->flows = f;
    return f;
}

void flow_start(struct flow *f, const char *base) {
    struct err err = {0};
    struct worker *w = worker_get(f->d, base, &err);
    if (!w) {
        flow_error(f, err.code, err.msg);
        return;
    }
    f->worker = w;
    if (w->state != WORKER_READY) {
        if (w->failures >= START_FAILURES_MAX)
            w->failures = 0; /* a new request is a new try */
        return;
    }
    struct pending *p = pending_add(w, PENDING_FLOW);
    p->flow = f;
    f->id = p->id;
    worker_write(w, FRAME_OP, p->id, f->op, f->op_len);
}

void flow_wake(struct flow *f) {
    struct MHD_Connection *c = f->conn;
    f->conn = NULL;
    if (c)
        MHD_resume_connection(c);
}

void flow_cancel(struct flow *f) {
    struct daemon *d = f->d;
    if (f->worker && f->id) {
        worker_write(f->worker, FRAME_CANCEL, f->id, NULL, 0);
        for (struct pending *p = f->worker->pending; p; p = p->next)
            if (p->flow == f)
                p->flow = NULL;
    }
    for (struct flow **p = &d->flows; *p; p = &(*p)->next)
        if (*p == f) {
            *p = f->next;
            break;
        }
    buf_release(&f->out);
    free(f->prompt);
    free(f->op);
    free(f);
}
