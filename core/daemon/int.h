/*
 * int - what the files of core/daemon share.
 *
 * One lock, d->lock, guards everything here, the store included; every
 * function below wants it held unless it says otherwise. HTTP handlers take
 * it, worker readers take it, the main loop takes it; nobody takes another
 * lock under it but MHD's own (suspend, resume), which never call back.
 */
#ifndef FETTLE_CORE_DAEMON_INT_H
#define FETTLE_CORE_DAEMON_INT_H

#include "core/daemon.h"
#include "core/log.h"
#include "core/wire.h"
#include "store/journal.h"
#include "store/series.h"
#include "store/store.h"

#include <jansson.h>
#include <microhttpd.h>
#include <pthread.h>
#include <sys/types.h>

#define WORKERS_MAX 16

struct daemon;
struct worker;

/* An exchange that is answered later: a sample, a deployment's warm-up. */
enum flow_mode { FLOW_FRAMES, FLOW_TEXT, FLOW_CHAT, FLOW_DEPLOY };

struct flow {
    struct daemon *d;
    enum flow_mode mode;
    bool stream;               /* OpenAI: server-sent events */
    bool logprobs, echo, drop; /* OpenAI: tell of tokens; of the prompt too; of
                                  the prompt alone */
    bool hold;                 /* OpenAI: a stream that ends with one message,
                                  because calls of tools may be in it */
    char *prompt;              /* OpenAI: its text for echo, or NULL */
    bool done;                 /* nothing more will be appended to out */
    bool started; /* something was sent to the client: no second try */
    bool orphan;  /* the connection is gone: free when done */
    int status;   /* HTTP status of a whole answer */
    struct buf out;
    size_t sent;
    struct MHD_Connection *conn;  /* suspended, waiting for out; or NULL */
    struct MHD_Connection *owner; /* whose answer this is */
    struct worker *worker;
    uint64_t id; /* of its frame, 0 = not dispatched */
    uint8_t *op; /* bytes, for dispatch after a worker's start */
    size_t op_len;
    char name[STORE_NAME_MAX]; /* model or deployment as the client named it */
    struct flow *next;
};

/* A training model that lives in a worker. */
struct tmodel {
    char id[STORE_NAME_MAX], base[STORE_NAME_MAX];
    int64_t run;
    bool loaded;       /* the worker has it */
    int64_t next_send; /* seq of the next op to send */
    int64_t last_done; /* the last that this worker answered */
    int64_t snap_seq;  /* -1 = none */
    char snap_dir[STORE_NAME_MAX];
    bool snapping;
    int64_t snap_pending_seq;
    uint64_t exec_us; /* executed since the last snapshot */
    uint64_t snap_us; /* what the last one took */
    int64_t crash_seq;
    int crashes;
    int64_t held_seq; /* an op that failed and may be done again; -1 = none.
                         No snapshot passes it */
    struct tmodel *next;
};

enum worker_state { WORKER_STARTING, WORKER_READY, WORKER_DOWN };

struct worker {
    struct daemon *d;
    char name[STORE_NAME_MAX]; /* base model */
    char *dir;
    enum worker_state state;
    char device[64];
    pid_t pid;
    int fd;
    pthread_t reader;
    bool has_reader, reader_done;
    bool ends; /* as it shall: somebody else wants its place */
    int64_t started_us, retry_us; /* monotonic; when to start again */
    int failures;                 /* starts in a row that came to nothing */
    char error[256];              /* of the last failed start */
    enum err_code error_code;     /* of that */
    struct pending *pending;
};

enum pending_kind {
    PENDING_OP,
    PENDING_CONTROL,
    PENDING_SNAPSHOT,
    PENDING_FLOW
};

struct pending {
    uint64_t id;
    enum pending_kind kind;
    char model[STORE_NAME_MAX];
    int64_t seq;
    int op_kind;
    char ckpt[STORE_NAME_MAX]; /* of OP_SAVE */
    int ckpt_kind;
    uint64_t step;
    struct flow *flow;
    struct pending *next;
};

/* A connection that waits for an op's result. */
struct waiter {
    struct MHD_Connection *conn;
    char model[STORE_NAME_MAX];
    int64_t seq, deadline_us;
    struct waiter *next;
};

struct jobproc {
    int64_t run;
    pid_t pid; /* 0 = not our child: adopted from a daemon before */
    int restarts;
    int64_t cursor; /* when it was started */
    int64_t check_us;
    struct jobproc *next;
};

struct daemon {
    struct daemon_opts o;
    struct log *log;
    struct store *st;
    pthread_mutex_t lock;
    int lock_fd;
    char *socket;
    struct MHD_Daemon *unix_http, *tcp_http;
    struct worker *worker[WORKERS_MAX];
    int n_workers;
    struct tmodel *tmodels;
    struct waiter *waiters;
    struct flow *flows;
    struct jobproc *jobs;
    uint64_t next_id;
    bool stopping;
    int wake[2]; /* pipe that interrupts the main loop */
};

/* ---- store ---- */
int err_store(struct err *err, struct store *st, int rc);

/* ---- super.c: workers and training models ---- */
struct worker *worker_get(struct daemon *d, const char *base, struct err *err);
/* CONFLICT while a request runs on this base. */
int worker_idle(struct daemon *d, const char *base, struct err *err);
/* Its registration goes: the next worker takes what is registered then. */
void worker_retire(struct daemon *d, const char *base);
void workers_tick(struct daemon *d);
void workers_stop(struct daemon *d); /* takes the lock itself */
struct tmodel *tmodel_find(struct daemon *d, const char *id);
struct tmodel *tmodel_add(struct daemon *d, const char *id, const char *base,
                          int64_t run);
void tmodels_load(struct daemon *d);
/* Sends what is in order and not yet sent; starts the worker. */
void tmodel_pump(struct daemon *d, struct tmodel *t);
void tmodel_close(struct daemon *d, struct tmodel *t);
/* Out of its worker; snapshot and journal stay. */
void tmodel_unload(struct daemon *d, struct tmodel *t);
/* Takes back the errors that pass with time (a full disk), from the last
 * snapshot on, and goes on from there. */
void tmodel_retry(struct daemon *d, struct tmodel *t);
/* Dispatches f->op on base's worker, now or when it is up. */
void flow_start(struct flow *f, const char *base);
struct flow *flow_new(struct daemon *d, enum flow_mode mode);
void flow_cancel(struct flow *f);
void flow_wake(struct flow *f);
void waiters_wake(struct daemon *d, const char *model, int64_t seq);
void waiters_tick(struct daemon *d);

/* ---- openai.c: what a flow makes of frames ---- */
void flow_frame(struct flow *f, const struct frame *fr);
void flow_error(struct flow *f, enum err_code code, const char *msg);
int openai_request(struct daemon *d, const char *path, const json_t *body,
                   struct flow **flow, struct err *err);
json_t *openai_models(struct daemon *d);

/* ---- jobs.c ---- */
int job_start(struct daemon *d, int64_t run, struct err *err);
void jobs_tick(struct daemon *d);
void jobs_load(struct daemon *d);
void jobs_stop(struct daemon *d);
void job_end(struct daemon *d, int64_t run, enum store_run_state state,
             const char *error);
pid_t spawn(const char *exe, char *const argv[], int fd3, const char *log);

/* ---- routes.c ---- */
struct request {
    struct daemon *d;
    const char *method, *path;
    struct MHD_Connection *conn;
    const uint8_t *body;
    size_t len;
};
struct answer {
    int status;
    json_t *json;   /* or: */
    uint8_t *bytes; /* malloc'ed */
    size_t len;
    struct flow *flow; /* or: answered by it */
    bool suspended;    /* or: not yet, called again */
};
void route(const struct request *q, struct answer *a);
json_t *status_json(struct daemon *d);

/* ---- http.c ---- */
int http_open(struct daemon *d, struct err *err);
void http_close(struct daemon *d);

void daemon_wake(struct daemon *d);

#endif
