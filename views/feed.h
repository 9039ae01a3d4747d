/*
 * feed - what the screen shows: immutable snapshots of the store, made by a
 * reading thread, and actions carried out by an acting thread. The UI thread
 * only swaps pointers; nothing in a draw path waits.
 *
 *     struct feed *m = feed_open(home, wake, arg, &err);
 *     feed_want(m, &(struct want){.run = 3, .dots = 160, ...});
 *     const struct snap *s = feed_snap(m);    // until the next feed_snap()
 *     feed_act(m, &(struct act){.kind = ACT_PAUSE, .run = 3});
 *     ... wake() is called from another thread when either has news:
 *     struct act_result r;
 *     while (feed_result(m, &r)) ...
 *
 * All functions belong to the UI thread, which also owns the struct feed.
 * wake() runs on the other threads and must only wake the UI's loop.
 */
#ifndef FETTLE_VIEWS_FEED_H
#define FETTLE_VIEWS_FEED_H

#include "core/err.h"
#include "store/series.h"
#include "store/store.h"
#include "views/page.h"

#include <jansson.h>

#include <stdbool.h>
#include <stdint.h>

#define SNAP_TREND 16  /* buckets of a row's sparkline */
#define SNAP_CURVES 12 /* curves read for one run */
#define SNAP_JOBS 500  /* runs read for the list */
#define SNAP_LOG 200   /* lines of a job's log */

/* What the UI needs read. Copied; a change makes the reader look at once. */
struct want {
    int64_t run; /* run in detail, 0 = none */
    int dots;    /* horizontal resolution of its curves */
    bool log;    /* read its log too */
    bool parity; /* read the models' comparisons */
    struct page_want page;
    char filter[128]; /* of the list of runs */
};

struct job_row {
    const struct store_run *run;
    double loss, eval, tok_s, step_s, lr; /* last values, NAN = none */
    int n_trend;
    double trend[SNAP_TREND]; /* of the loss, oldest first */
};

struct model_row {
    const struct store_model *model;
    json_t *parity; /* as parity_read(), NULL = none or not wanted; owned */
};

struct snap_curve {
    const struct store_series *series;
    struct store_curve curve;
};

struct snap {
    char error[256]; /* the store cannot be read, "" = fine */
    bool daemon;     /* a daemon answers */
    struct store_runs runs;
    struct job_row *jobs; /* (runs.n) */
    int counts[STORE_RUN_STATES];
    struct store_ckpts ckpts; /* of all runs, newest first */
    struct store_deployments deployments;
    struct store_models models;
    struct model_row *model_rows; /* (models.n) */
    struct page *page;            /* the last one made, NULL = none; counted */
    struct store_events alerts;   /* unread warnings and errors */
    /* the wanted run; run == NULL when it does not exist */
    struct store_runs one;
    const struct store_run *run;
    struct store_series_list series;
    struct snap_curve curves[SNAP_CURVES];
    int n_curves;
    struct store_events events;
    struct store_samples samples;
    struct store_config config;
    char **log; /* (n_log) lines, oldest first */
    int n_log;
    void *log_mem;
};

enum act_kind {
    ACT_PAUSE,
    ACT_RESUME,
    ACT_KILL,
    ACT_PROMOTE,  /* target = checkpoint, name */
    ACT_DEPLOY,   /* target = checkpoint, name */
    ACT_UNDEPLOY, /* name */
    ACT_DELETE,   /* target = checkpoint */
    ACT_READ,     /* alerts are read */
    ACT_CHAT,     /* target, text = messages as JSON; streams */
};

struct act {
    enum act_kind kind;
    int64_t run;
    char target[STORE_NAME_MAX], name[STORE_NAME_MAX];
    char *text; /* owned by the act; feed_act() takes it */
    double temperature;
};

struct act_result {
    enum act_kind kind;
    bool is_partial; /* a piece of a chat's answer, more follows */
    bool ok;
    char *text; /* the piece, the done message or the error; free() it */
};

struct feed;

typedef void feed_wake_fn(void *arg);
struct feed *feed_open(const char *home, feed_wake_fn *wake, void *arg,
                       struct err *err);
void feed_close(struct feed *m);

void feed_want(struct feed *m, const struct want *w);
/* The newest snapshot, never NULL; valid until the next call. `fresh` (may be
 * NULL) says whether it is another one than last time. */
const struct snap *feed_snap(struct feed *m, bool *fresh);

/* Queues an action; its result comes through feed_result(). */
void feed_act(struct feed *m, struct act *a);
bool feed_result(struct feed *m, struct act_result *r);
/* Asks a running chat to stop. */
void feed_chat_stop(struct feed *m);

#endif
