/*
 * store - the experiment store: one SQLite file that holds what fettle knows
 * of models, runs, checkpoints, deployments, samples and events. Curves are in
 * store/series.h, the op journal in store/journal.h; all share this handle.
 *
 * One process, the daemon, opens the store for writing (STORE_WRITE, guarded
 * by a lock file; a second one gets STORE_BUSY) and does every checkpoint of
 * the log. Any number of processes read it (STORE_READ), beside the daemon or
 * without one; they never block it. What a call returned STORE_OK for outside
 * a transaction, or store_commit() did, survives kill -9 and power cuts.
 *
 *     struct store *st;
 *     if (store_open(&st, &(struct store_opts){.dir = home}) < 0)
 *         return fail(store_errmsg(st)), store_close(st);
 *     struct store_runs runs;
 *     if (store_runs(st, &(struct store_run_query){.limit = 50}, &runs) == 0)
 *         for (int i = 0; i < runs.n; i++)
 *             puts(runs.row[i].name);
 *     store_runs_free(&runs);
 *     store_close(st);
 *
 * Errors: every call returns STORE_OK or a negative status; store_errmsg(st)
 * says what was attempted, why it failed and what to do. A call that fails
 * changes nothing. After STORE_CORRUPT or STORE_IO the handle refuses to write
 * until it is closed and opened again; after STORE_NOSPACE it may be retried.
 * Memory: a row set owns its rows and their strings until X_free(), which is
 * safe on a zeroed set and on one that a failed call left (it is then empty).
 * Strings in rows are never NULL. Strings passed in are borrowed for the call;
 * NULL means "".
 * Time: the store reads no clock; who calls says when (microseconds since
 * 1970, for display: order is always by id, seq or step).
 * Threads: a handle is used by one thread at a time; open one for each. Never
 * carry a handle across fork().
 */
#ifndef FETTLE_STORE_H
#define FETTLE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STORE_NAME_MAX 256 /* bytes of any name or id, with the final 0 */

enum store_status {
    STORE_OK = 0,
    STORE_NOTFOUND = -1,
    STORE_EXISTS = -2,   /* the name is taken */
    STORE_CONFLICT = -3, /* contradicts what is recorded */
    STORE_INVAL = -4,    /* an argument; the message says which */
    STORE_BUSY = -5,     /* another daemon writes; or a lock, try again */
    STORE_CORRUPT = -6,  /* the file is damaged, or is no store of ours */
    STORE_NEWER = -7,    /* written by a newer fettle */
    STORE_OLDER = -8,    /* a reader met a store not yet migrated */
    STORE_NOSPACE = -9,  /* disk full; nothing was written */
    STORE_PERM = -10,    /* read-only file system, permissions */
    STORE_IO = -11,
    STORE_NOMEM = -12,
    STORE_BUG = -13, /* a defect of the store itself */
};
const char *store_status_name(int status); /* "not_found" */

enum store_mode { STORE_READ, STORE_WRITE };

struct store;

struct store_opts {
    const char *dir; /* FETTLE_HOME: store.db, store.lock, journal/ */
    enum store_mode mode;
    int read_ms; /* STORE_READ: a call that takes longer is given up with
                    STORE_BUSY, for it would hold up the log; 0 = never */
    bool any_fs; /* open on network and user-space file systems too */
};

/* *st is set even on failure (NULL when out of memory) so that store_errmsg
 * can tell why; always store_close() it. STORE_WRITE creates and migrates;
 * STORE_READ gets STORE_NOTFOUND when there is no store yet. */
int store_open(struct store **st, const struct store_opts *opts);
/* Rolls back an open transaction. NULL is fine. */
void store_close(struct store *st);
/* Of the last failed call; valid until the next call on st. NULL is fine. */
const char *store_errmsg(const struct store *st);

/* One transaction around any number of calls, the caller's batch. A call that
 * fails inside leaves the transaction as it was before that call; go on or
 * roll back. Writer only; does not nest. */
int store_begin(struct store *st);
int store_commit(struct store *st);
void store_rollback(struct store *st);

/* *gen differs from the last time when somebody committed in between. Cheap
 * (no query): poll it, then read again what is on the screen. */
int store_generation(struct store *st, int64_t *gen);

/* Verifies structure, references and journal files; full: every index entry,
 * curves against their points, every op's bytes too. Calls report (which may
 * be NULL) for each finding; returns STORE_OK when there was none, else
 * STORE_CORRUPT. Never writes. */
typedef void store_report_fn(void *arg, const char *finding);
int store_check(struct store *st, bool full, store_report_fn *report,
                void *arg);

/* ---- base models: registered Hugging Face directories ---- */

struct store_model {
    const char *name, *dir, *family;
    int64_t params, added_us;
};
struct store_models {
    int n;
    struct store_model *row;
    void *mem;
};
/* STORE_EXISTS when the name is taken with another directory; the same name
 * and directory again updates family and params. */
int store_model_add(struct store *st, const struct store_model *m);
/* The registration only. STORE_CONFLICT names what needs it: runs that are not
 * over or can be resumed, deployments that are not stopped, checkpoints. */
int store_model_rm(struct store *st, const char *name);
/* All by name; or the one of that name, else STORE_NOTFOUND. */
int store_models(struct store *st, struct store_models *rows);
int store_model_get(struct store *st, const char *name,
                    struct store_models *rows);
void store_models_free(struct store_models *rows);

/* ---- runs ---- */

enum store_run_state {
    STORE_RUN_QUEUED,
    STORE_RUN_RUNNING,
    STORE_RUN_PAUSED,
    STORE_RUN_DONE,
    STORE_RUN_FAILED,
    STORE_RUN_KILLED,
    STORE_RUN_STATES
};
const char *store_run_state_name(enum store_run_state s); /* "running" */
int store_run_state_by_name(const char *name);            /* or -1 */

struct store_run {
    int64_t id; /* 1, 2, …; never used again */
    const char *name, *recipe;
    const char *model;  /* base model's name */
    const char *config; /* JSON object */
    enum store_run_state state;
    const char *error;  /* of a failed run */
    int64_t cursor;     /* next step: those below are recorded */
    int64_t planned;    /* steps in all, 0 = not known yet */
    int64_t created_us; /* wall times, 0 = not yet */
    int64_t started_us, ended_us;
    int64_t run_us;          /* time spent running, over all restarts */
    const char *tmodel;      /* training model, "" = none yet */
    const char *note, *tags; /* tags: words with single spaces between */
};
struct store_runs {
    int n;
    struct store_run *row;
    void *mem;
};

/* Records r as queued and gives its number. Used of r: name ("" = the recipe
 * and the number, as "sft-12"), recipe, model, config, planned, created_us,
 * note, tags. A name is not only digits; it need not be new. */
int store_run_add(struct store *st, const struct store_run *r, int64_t *id);
/* Running sets started_us once; done, failed and killed set ended_us. */
int store_run_state(struct store *st, int64_t run, enum store_run_state state,
                    const char *error, int64_t now_us);
/* The cursor never goes back; run_us is added. Commit them in the transaction
 * of the step's points. */
int store_run_advance(struct store *st, int64_t run, int64_t cursor,
                      int64_t run_us);
int store_run_plan(struct store *st, int64_t run, int64_t planned);
int store_run_config(struct store *st, int64_t run, const char *config);
int store_run_tmodel(struct store *st, int64_t run, const char *tmodel);
int store_run_note(struct store *st, int64_t run, const char *note);
int store_run_tags(struct store *st, int64_t run, const char *tags);
/* With its curves, samples, events and journal. STORE_CONFLICT while it is
 * queued, running or paused, or has checkpoints. */
int store_run_rm(struct store *st, int64_t run);

/* Filter: words that must all occur, upper or lower case, in name, number,
 * recipe, model, tags or note; `field:text` looks in name, recipe, model,
 * state, tag, note; `cfg.KEY`, `step`, `id` or a metric's name compares:
 * `cfg.learning_rate>=1e-5 train_mean_nll<1.2`; = and != compare text too;
 * `-` before a term negates it, `|` separates alternatives, quotes ('…') keep
 * spaces. STORE_INVAL says what is wrong with it. */
struct store_run_query {
    const char *filter; /* NULL or "" = all */
    int limit, offset;  /* newest first; limit 0 = all */
};
int store_runs(struct store *st, const struct store_run_query *q,
               struct store_runs *rows);
/* How many runs match, for paging. */
int store_runs_count(struct store *st, const char *filter, int64_t *n);
int store_run_get(struct store *st, int64_t run, struct store_runs *rows);
/* RUN as a person types it: a number or a name that only one run has. */
int store_run_find(struct store *st, const char *run, struct store_runs *rows);
void store_runs_free(struct store_runs *rows);

/* A run's config, flattened: one row a leaf, "optim.beta1". */
struct store_config_kv {
    const char *key, *text; /* text as JSON would print it, strings bare */
    double num;             /* NAN unless a number or boolean */
};
struct store_config {
    int n;
    struct store_config_kv *row;
    void *mem;
};
int store_config(struct store *st, int64_t run, struct store_config *rows);
void store_config_free(struct store_config *rows);

/* ---- samples: what a run wrote for its fixed prompts ---- */

struct store_sample {
    int64_t run, step;
    int prompt_index;
    const char *prompt, *text;
    int tokens;       /* how many */
    const char *stop; /* "stop", "length", … */
    double logprob_sum;
    int64_t time_us;
};
struct store_samples {
    int n;
    struct store_sample *row;
    void *mem;
};
/* (run, step, prompt_index) is written once; again is fine and ignored. */
int store_sample_add(struct store *st, const struct store_sample *s);
/* By step, then prompt; step or prompt_index -1 = any. limit 0 = all. */
int store_samples(struct store *st, int64_t run, int64_t step, int prompt_index,
                  int limit, struct store_samples *rows);
void store_samples_free(struct store_samples *rows);
/* The steps of a run that have samples, ascending; free(*steps). */
int store_sample_steps(struct store *st, int64_t run, int64_t **steps, int *n);

/* ---- events ---- */

enum store_level { STORE_INFO, STORE_WARN, STORE_ERROR, STORE_LEVELS };
const char *store_level_name(enum store_level l); /* "info" */

struct store_event {
    int64_t id, time_us;
    int64_t run;      /* 0 = none */
    int64_t step;     /* -1 = none */
    const char *kind; /* "checkpoint", "restart", "spike", … */
    enum store_level level;
    const char *text;
    bool is_read; /* warnings and errors are alerts until they are read */
};
struct store_events {
    int n;
    struct store_event *row;
    void *mem;
};
struct store_event_query {
    int64_t run;                 /* 0 = any */
    enum store_level level;      /* at least */
    bool unread;                 /* only those */
    int64_t after_id, before_id; /* 0 = no bound */
    int limit;                   /* newest first; 0 = all */
};
/* once: the same (run, step, kind, text) is recorded a single time, for who
 * may have to repeat a request. */
int store_event_add(struct store *st, const struct store_event *e, bool once);
int store_events(struct store *st, const struct store_event_query *q,
                 struct store_events *rows);
/* Up to and with this id; INT64_MAX = all. */
int store_events_read(struct store *st, int64_t id);
void store_events_free(struct store_events *rows);

/* ---- checkpoints ---- */

struct store_ckpt {
    const char *id; /* "<run>/<name>", what CKPT means anywhere */
    int64_t run;    /* 0 = of no run: imported, or an SDK's */
    const char *name;
    int64_t step;
    const char *kind;     /* "state", "sampler" */
    const char *model;    /* base model's name */
    const char *promoted; /* names, single spaces between; "" = none */
    int64_t bytes, created_us;
    bool is_deleting; /* its directory is being removed */
};
struct store_ckpts {
    int n;
    struct store_ckpt *row;
    void *mem;
};
/* After its directory is committed. Used of c: run, name, step, kind, model,
 * bytes, created_us. The same one again is fine; the name with another step
 * or kind is STORE_CONFLICT. */
int store_ckpt_add(struct store *st, const struct store_ckpt *c);
/* First is_deleting, then the directory goes, then the row. STORE_CONFLICT
 * while a promoted name or a deployment stands on it. */
int store_ckpt_deleting(struct store *st, const char *id);
int store_ckpt_rm(struct store *st, const char *id);
/* Of a run, newest first; run -1 = of all. Deleting ones too: look at the
 * flag. */
int store_ckpts(struct store *st, int64_t run, struct store_ckpts *rows);
/* By id or by promoted name. */
int store_ckpt_get(struct store *st, const char *id, struct store_ckpts *rows);
void store_ckpts_free(struct store_ckpts *rows);

/* Lets `name` mean checkpoint `ckpt` from now on; "" takes the name away. The
 * name has no '/', is not only digits and is no base model's. */
int store_promote(struct store *st, const char *name, const char *ckpt,
                  int64_t now_us);

struct store_promotion {
    const char *name, *ckpt;
    int64_t time_us;
};
struct store_promotions {
    int n;
    struct store_promotion *row;
    void *mem;
};
/* History, newest first; name "" = of all names. */
int store_promotions(struct store *st, const char *name,
                     struct store_promotions *rows);
void store_promotions_free(struct store_promotions *rows);

/* ---- deployments ---- */

enum store_deploy_state {
    STORE_DEPLOY_LOADING,
    STORE_DEPLOY_SERVING,
    STORE_DEPLOY_FAILED,
    STORE_DEPLOY_STOPPED, /* undeployed; its history stays */
    STORE_DEPLOY_STATES
};
const char *store_deploy_state_name(enum store_deploy_state s);

struct store_deployment {
    const char *name;
    const char *ckpt;      /* "" = the base model itself */
    const char *model;     /* base model's name */
    const char *precision; /* "exact", or what the matrices are cut to */
    enum store_deploy_state state;
    const char *error;
    int version, versions; /* the one served; how many there have been */
    int64_t created_us, updated_us;
};
struct store_deployments {
    int n;
    struct store_deployment *row;
    void *mem;
};
struct store_version {
    int version;
    const char *ckpt, *model, *precision;
    int64_t time_us;
};
struct store_versions {
    int n;
    struct store_version *row;
    void *mem;
};
/* A new version of `name`, state loading; the same checkpoint as the live
 * version again is no new version. ckpt "" = base model `model`; precision
 * NULL = "exact". */
int store_deploy(struct store *st, const char *name, const char *ckpt,
                 const char *model, const char *precision, int64_t now_us,
                 int *version);
int store_deploy_state(struct store *st, const char *name,
                       enum store_deploy_state state, const char *error,
                       int64_t now_us);
/* Those not stopped, by name; or one, stopped or not. */
int store_deployments(struct store *st, struct store_deployments *rows);
int store_deployment_get(struct store *st, const char *name,
                         struct store_deployments *rows);
void store_deployments_free(struct store_deployments *rows);
/* Newest first. */
int store_versions(struct store *st, const char *name,
                   struct store_versions *rows);
void store_versions_free(struct store_versions *rows);

/* What TARGET means: a deployment (not stopped), a promoted name, a
 * checkpoint's id or a base model's name, looked up in this order. */
struct store_target {
    char model[STORE_NAME_MAX]; /* base model's name */
    char ckpt[STORE_NAME_MAX];  /* "" = the base model itself */
    char precision[16];         /* of a deployment; else "exact" */
};
int store_target(struct store *st, const char *target, struct store_target *t);

/* ---- small things kept by key: what a screen remembers ---- */

int store_ui_set(struct store *st, const char *key, const char *json);
/* The value, free() it; STORE_NOTFOUND when the key was never set. */
int store_ui_get(struct store *st, const char *key, char **json);

#endif
