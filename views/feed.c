/*
 * feed: two threads beside the UI's.
 * Invariants: 1. a published snapshot is never written again; 2. the lock is
 * held for pointer swaps only, never over a read or a call; 3. the reader has
 * its own store handle, the actor its own client.
 */
#include "views/feed.h"
#include "views/parity.h"

#include "core/client.h"
#include "core/fs.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define FEED_POLL_MS 250
#define FEED_LOG_BYTES (32 << 10)

struct act_node {
    struct act act;
    struct act_node *next;
};
struct result_node {
    struct act_result result;
    struct result_node *next;
};

struct feed {
    char *home;
    feed_wake_fn *wake;
    void *wake_arg;
    pthread_t reader, actor;
    pthread_mutex_t lock;
    pthread_cond_t read_cond, act_cond;
    bool stop;
    struct want want;
    bool want_changed;
    struct snap *next, *shown; /* published by the reader; the UI's */
    struct act_node *acts, **acts_end;
    struct result_node *results, **results_end;
    atomic_bool chat_stop;
};

/* What the reading thread reads from. */
struct reading {
    const char *home;
    struct store *st;
    struct pages *pages;
    struct page *page; /* the last one made */
    struct parity_cache *parity;
};

/* ---- snapshots ---- */

static void snap_free(struct snap *s) {
    if (!s)
        return;
    for (int i = 0; i < s->n_curves; i++)
        store_curve_free(&s->curves[i].curve);
    store_runs_free(&s->runs);
    free(s->jobs);
    store_ckpts_free(&s->ckpts);
    store_deployments_free(&s->deployments);
    for (int i = 0; s->model_rows && i < s->models.n; i++)
        json_decref(s->model_rows[i].parity);
    free(s->model_rows);
    store_models_free(&s->models);
    page_unref(s->page);
    store_events_free(&s->alerts);
    store_runs_free(&s->one);
    store_series_list_free(&s->series);
    store_events_free(&s->events);
    store_samples_free(&s->samples);
    store_config_free(&s->config);
    free(s->log);
    free(s->log_mem);
    free(s);
}

static struct snap *snap_new(void) {
    struct snap *s = calloc(1, sizeof *s);
    CHECK(s, "out of memory for a snapshot");
    return s;
}

static double snap_last(struct store *st, int64_t run, const char *name) {
    double v = NAN;
    store_metric_last(st, run, name, &v);
    return v;
}

static void snap_trend(struct store *st, struct job_row *j) {
    struct store_curve c = {0};
    if (store_series_read(st, j->run->id, "train_mean_nll", 0, INT64_MAX,
                          SNAP_TREND, &c) == STORE_OK)
        for (int i = 0; i < c.n && i < SNAP_TREND; i++)
            j->trend[j->n_trend++] = c.row[i].last;
    store_curve_free(&c);
}

static void snap_jobs(struct store *st, struct snap *s) {
    s->jobs = calloc((size_t)s->runs.n + 1, sizeof *s->jobs);
    CHECK(s->jobs, "out of memory for %d runs", s->runs.n);
    for (int i = 0; i < s->runs.n; i++) {
        struct job_row *j = &s->jobs[i];
        j->run = &s->runs.row[i];
        s->counts[j->run->state]++;
        j->loss = snap_last(st, j->run->id, "train_mean_nll");
        j->eval = snap_last(st, j->run->id, "test/nll");
        j->tok_s = snap_last(st, j->run->id, "tokens_per_s");
        j->step_s = snap_last(st, j->run->id, "time/step_s");
        j->lr = snap_last(st, j->run->id, "learning_rate");
        snap_trend(st, j);
    }
}

/* The metrics that a run's screen draws, in this order, then the others. */
static const char *const snap_first[] = {
    "train_mean_nll", "test/nll",     "grad_norm",
    "learning_rate",  "tokens_per_s", "time/step_s",
};

static int snap_rank(const char *name) {
    int n = (int)(sizeof snap_first / sizeof *snap_first);
    for (int i = 0; i < n; i++)
        if (strcmp(name, snap_first[i]) == 0)
            return i;
    return n;
}

static void snap_curves(struct store *st, struct snap *s,
                        const struct want *w) {
    int ranks = (int)(sizeof snap_first / sizeof *snap_first);
    int64_t last = s->run->planned > 1 ? s->run->planned - 1 : INT64_MAX;
    for (int rank = 0; rank <= ranks; rank++)
        for (int i = 0; i < s->series.n && s->n_curves < SNAP_CURVES; i++) {
            const struct store_series *se = &s->series.row[i];
            if (snap_rank(se->name) != rank)
                continue;
            struct snap_curve *c = &s->curves[s->n_curves];
            if (store_series_read(st, s->run->id, se->name, 0, last,
                                  w->dots > 0 ? w->dots : 160,
                                  &c->curve) != STORE_OK)
                continue;
            c->series = se;
            s->n_curves++;
        }
}

/* The last lines of the job's log file. */
static void snap_log(const char *home, struct snap *s) {
    char *path = fs_path("%s/log/job-%lld.log", home, (long long)s->run->id);
    FILE *f = fopen(path, "re");
    free(path);
    if (!f)
        return;
    fseek(f, 0, SEEK_END);
    long size = ftell(f),
         from = size > FEED_LOG_BYTES ? size - FEED_LOG_BYTES : 0;
    char *mem = malloc(FEED_LOG_BYTES + 1);
    s->log = calloc(SNAP_LOG, sizeof *s->log);
    CHECK(mem && s->log, "out of memory for a log");
    fseek(f, from, SEEK_SET);
    size_t n = fread(mem, 1, FEED_LOG_BYTES, f);
    fclose(f);
    mem[n] = 0;
    s->log_mem = mem;
    int total = 0;
    char *at = mem;
    if (from > 0 && (at = strchr(mem, '\n')))
        at++;
    for (char *nl; at && *at; at = nl ? nl + 1 : NULL) {
        nl = strchr(at, '\n');
        if (nl)
            *nl = 0;
        s->log[total++ % SNAP_LOG] = at;
    }
    s->n_log = total < SNAP_LOG ? total : SNAP_LOG;
    if (total > SNAP_LOG) { /* rotate so that the oldest comes first */
        char **lines = calloc(SNAP_LOG, sizeof *lines);
        CHECK(lines, "out of memory for a log");
        for (int i = 0; i < SNAP_LOG; i++)
            lines[i] = s->log[(total + i) % SNAP_LOG];
        free(s->log);
        s->log = lines;
    }
}

static void snap_run(struct store *st, const char *home, struct snap *s,
                     const struct want *w) {
    if (w->run <= 0 || store_run_get(st, w->run, &s->one) != STORE_OK)
        return;
    s->run = s->one.row;
    store_series_list(st, w->run, &s->series);
    snap_curves(st, s, w);
    store_events(st, &(struct store_event_query){.run = w->run, .limit = 200},
                 &s->events);
    store_samples(st, w->run, -1, -1, 0, &s->samples);
    store_config(st, w->run, &s->config);
    if (w->log)
        snap_log(home, s);
}

static void snap_models(struct reading *r, struct snap *s,
                        const struct want *w) {
    store_models(r->st, &s->models);
    s->model_rows = calloc((size_t)s->models.n + 1, sizeof *s->model_rows);
    CHECK(s->model_rows, "out of memory for %d models", s->models.n);
    for (int i = 0; i < s->models.n; i++) {
        const struct store_model *m = &s->models.row[i];
        s->model_rows[i].model = m;
        if (w->parity)
            s->model_rows[i].parity =
                parity_cached(r->parity, r->home, m->name);
    }
}

static struct snap *snap_read(struct reading *r, const struct want *w) {
    struct store *st = r->st;
    struct snap *s = snap_new();
    int rc = store_runs(
        st, &(struct store_run_query){.filter = w->filter, .limit = SNAP_JOBS},
        &s->runs);
    if (rc != STORE_OK)
        snprintf(s->error, sizeof s->error, "%s", store_errmsg(st));
    snap_jobs(st, s);
    store_ckpts(st, -1, &s->ckpts);
    store_deployments(st, &s->deployments);
    snap_models(r, s, w);
    s->page = page_ref(r->page);
    store_events(st,
                 &(struct store_event_query){
                     .level = STORE_WARN, .unread = true, .limit = 100},
                 &s->alerts);
    snap_run(st, r->home, s, w);
    return s;
}

/* ---- the reading thread ---- */

static void feed_publish(struct feed *m, struct snap *s) {
    pthread_mutex_lock(&m->lock);
    struct snap *old = m->next;
    m->next = s;
    pthread_mutex_unlock(&m->lock);
    snap_free(old);
    m->wake(m->wake_arg);
}

/* Waits for a new want, the poll's time (not when busy) or the end; false =
 * the end. */
static bool feed_wait(struct feed *m, struct want *w, bool busy,
                      bool *changed) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += busy ? 0 : FEED_POLL_MS * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    pthread_mutex_lock(&m->lock);
    int rc = 0;
    while (!m->stop && !m->want_changed && rc == 0)
        rc = pthread_cond_timedwait(&m->read_cond, &m->lock, &until);
    *w = m->want;
    *changed = m->want_changed;
    m->want_changed = false;
    bool go = !m->stop;
    pthread_mutex_unlock(&m->lock);
    return go;
}

static bool feed_daemon_answers(struct feed *m) {
    char *path = fs_path("%s/run/d.lock", m->home);
    struct err err = {0};
    int fd = fs_exists(path) ? fs_lock(path, &err) : -1;
    free(path);
    if (fd >= 0)
        close(fd);
    return fd < 0 && err.code == ERR_BUSY;
}

/* Opens the store; false: not yet, and a snapshot says why. */
static bool reading_open(struct feed *m, struct reading *r, char *said,
                         size_t cap, bool changed) {
    int rc = store_open(&r->st, &(struct store_opts){.dir = m->home,
                                                     .mode = STORE_READ,
                                                     .read_ms = 200});
    if (rc == STORE_OK)
        return true;
    struct snap *s = snap_new();
    if (rc != STORE_NOTFOUND)
        snprintf(s->error, sizeof s->error, "%s", store_errmsg(r->st));
    store_close(r->st);
    r->st = NULL;
    bool again = changed || strcmp(said, s->error) != 0;
    snprintf(said, cap, "%s", s->error);
    if (again)
        feed_publish(m, s);
    else
        snap_free(s);
    return false;
}

/* A piece of work on the page that is wanted; is there another one? */
static bool reading_page(struct reading *r, const struct page_want *w,
                         bool *busy) {
    struct page *g = pages_step(r->pages, r->st, w, busy);
    if (!g)
        return false;
    page_unref(r->page);
    r->page = g;
    return true;
}

static void *feed_reader(void *arg) {
    struct feed *m = arg;
    struct reading r = {
        .home = m->home, .pages = pages_new(), .parity = parity_cache_new()};
    struct want w;
    bool changed, daemon = false, busy = false;
    char said[256] = "";
    int64_t gen = -1;
    while (feed_wait(m, &w, busy, &changed)) {
        busy = false;
        if (!r.st) {
            if (!reading_open(m, &r, said, sizeof said, changed))
                continue;
            changed = true;
        }
        int64_t now = gen;
        bool alive = feed_daemon_answers(m);
        if (store_generation(r.st, &now) != STORE_OK) {
            store_close(r.st);
            r.st = NULL;
            continue;
        }
        if (reading_page(&r, &w.page, &busy))
            changed = true;
        if (!changed && now == gen && alive == daemon)
            continue;
        gen = now;
        daemon = alive;
        struct snap *s = snap_read(&r, &w);
        s->daemon = alive;
        feed_publish(m, s);
    }
    page_unref(r.page);
    pages_free(r.pages);
    parity_cache_free(r.parity);
    store_close(r.st);
    return NULL;
}

/* ---- the acting thread ---- */

static void feed_post(struct feed *m, enum act_kind kind, bool partial, bool ok,
                      const char *text) {
    struct result_node *n = calloc(1, sizeof *n);
    CHECK(n, "out of memory for a result");
    n->result = (struct act_result){.kind = kind,
                                    .is_partial = partial,
                                    .ok = ok,
                                    .text = fs_path("%s", text)};
    pthread_mutex_lock(&m->lock);
    *m->results_end = n;
    m->results_end = &n->next;
    pthread_mutex_unlock(&m->lock);
    m->wake(m->wake_arg);
}

static bool act_partial(void *arg, uint32_t index, const char *text) {
    struct feed *m = arg;
    (void)index;
    if (*text)
        feed_post(m, ACT_CHAT, true, true, text);
    return !atomic_load(&m->chat_stop);
}

static int act_chat(struct feed *m, struct client *c, const struct act *a,
                    struct err *err) {
    struct op op = {
        .kind = OP_SAMPLE,
        .model = "",
        .sample = {.target = {.ckpt = ""},
                   .prompt = PROMPT_MESSAGES,
                   .text = a->text,
                   .n = 1,
                   .max_tokens = 256,
                   .temperature = (float)a->temperature,
                   .top_k = -1,
                   .top_p = 1.0f,
                   .default_stop = true,
                   .stream = true},
    };
    struct result res = {0};
    atomic_store(&m->chat_stop, false);
    int rc = client_run(c, a->target, &op, act_partial, m, &res, err);
    result_release(&res);
    return rc;
}

struct act_row {
    const char *method, *path; /* path with %lld = run */
    const char *done;          /* %s = name or target */
};

static const struct act_row act_rows[] = {
    [ACT_PAUSE] = {"POST", "/fettle/v1/runs/%lld/pause", "paused"},
    [ACT_RESUME] = {"POST", "/fettle/v1/runs/%lld/resume", "resumed"},
    [ACT_KILL] = {"POST", "/fettle/v1/runs/%lld/kill", "stopped"},
    [ACT_PROMOTE] = {"POST", "/fettle/v1/promote", "promoted"},
    [ACT_DEPLOY] = {"POST", "/fettle/v1/deployments", "deployed"},
    [ACT_UNDEPLOY] = {"DELETE", "/fettle/v1/deployments", "undeployed"},
    [ACT_DELETE] = {"DELETE", "/fettle/v1/checkpoints", "deleted"},
    [ACT_READ] = {"POST", "/fettle/v1/alerts/read", "alerts read"},
};

static int act_call(struct client *c, const struct act *a, struct err *err) {
    const struct act_row *row = &act_rows[a->kind];
    char path[256];
    const char *slot = strstr(row->path, "%lld");
    if (slot)
        snprintf(path, sizeof path, "%.*s%lld%s", (int)(slot - row->path),
                 row->path, (long long)a->run, slot + 4);
    else
        snprintf(path, sizeof path, "%s", row->path);
    const char *key = a->kind == ACT_DELETE ? "id" : "ckpt";
    json_t *body = json_pack("{s:s, s:s}", key, a->target, "name", a->name);
    json_t *got = client_call(c, row->method, path, body, err);
    json_decref(body);
    json_decref(got);
    return got ? 0 : -1;
}

static void act_run(struct feed *m, struct act *a) {
    struct err err = {0};
    struct client *c = client_open(
        &(struct client_opts){.home = m->home, .retry_ms = 15000}, &err);
    int rc = !c                    ? -1
             : a->kind == ACT_CHAT ? act_chat(m, c, a, &err)
                                   : act_call(c, a, &err);
    client_close(c);
    char done[600];
    if (rc < 0)
        snprintf(done, sizeof done, "%s", err.msg);
    else if (a->kind == ACT_CHAT)
        done[0] = 0;
    else if (a->run)
        snprintf(done, sizeof done, "run %lld %s", (long long)a->run,
                 act_rows[a->kind].done);
    else if (*a->target && *a->name)
        snprintf(done, sizeof done, "%.200s %s as %.200s", a->target,
                 act_rows[a->kind].done, a->name);
    else
        snprintf(done, sizeof done, "%.200s%.200s %s", a->target, a->name,
                 act_rows[a->kind].done);
    feed_post(m, a->kind, false, rc == 0, done);
}

static void *feed_actor(void *arg) {
    struct feed *m = arg;
    for (;;) {
        pthread_mutex_lock(&m->lock);
        while (!m->stop && !m->acts)
            pthread_cond_wait(&m->act_cond, &m->lock);
        struct act_node *n = m->stop ? NULL : m->acts;
        if (n && !(m->acts = n->next))
            m->acts_end = &m->acts;
        pthread_mutex_unlock(&m->lock);
        if (!n)
            return NULL;
        act_run(m, &n->act);
        free(n->act.text);
        free(n);
    }
}

/* ---- the UI thread's side ---- */

struct feed *feed_open(const char *home, feed_wake_fn *wake, void *arg,
                       struct err *err) {
    struct feed *m = calloc(1, sizeof *m);
    CHECK(m, "out of memory for the screen's model");
    m->home = fs_path("%s", home);
    m->wake = wake;
    m->wake_arg = arg;
    m->acts_end = &m->acts;
    m->results_end = &m->results;
    m->shown = snap_new();
    m->want_changed = true;
    pthread_condattr_t ca;
    pthread_condattr_init(&ca);
    pthread_condattr_setclock(&ca, CLOCK_MONOTONIC);
    pthread_mutex_init(&m->lock, NULL);
    pthread_cond_init(&m->read_cond, &ca);
    pthread_cond_init(&m->act_cond, &ca);
    pthread_condattr_destroy(&ca);
    if (pthread_create(&m->reader, NULL, feed_reader, m) != 0 ||
        pthread_create(&m->actor, NULL, feed_actor, m) != 0) {
        /* Without threads nothing else works either; the process ends. */
        err_set(err, ERR_NOMEM, "open the screen: no thread could be made");
        return NULL;
    }
    return m;
}

void feed_close(struct feed *m) {
    if (!m)
        return;
    pthread_mutex_lock(&m->lock);
    m->stop = true;
    pthread_cond_broadcast(&m->read_cond);
    pthread_cond_broadcast(&m->act_cond);
    pthread_mutex_unlock(&m->lock);
    atomic_store(&m->chat_stop, true);
    pthread_join(m->reader, NULL);
    pthread_join(m->actor, NULL);
    struct act_result r;
    while (feed_result(m, &r))
        free(r.text);
    for (struct act_node *n = m->acts, *next; n; n = next) {
        next = n->next;
        free(n->act.text);
        free(n);
    }
    snap_free(m->next);
    snap_free(m->shown);
    pthread_cond_destroy(&m->read_cond);
    pthread_cond_destroy(&m->act_cond);
    pthread_mutex_destroy(&m->lock);
    free(m->home);
    free(m);
}

void feed_want(struct feed *m, const struct want *w) {
    pthread_mutex_lock(&m->lock);
    if (memcmp(&m->want, w, sizeof *w) != 0) {
        m->want = *w;
        m->want_changed = true;
        pthread_cond_signal(&m->read_cond);
    }
    pthread_mutex_unlock(&m->lock);
}

const struct snap *feed_snap(struct feed *m, bool *fresh) {
    pthread_mutex_lock(&m->lock);
    struct snap *old = NULL;
    if (m->next) {
        old = m->shown;
        m->shown = m->next;
        m->next = NULL;
    }
    pthread_mutex_unlock(&m->lock);
    if (fresh)
        *fresh = old != NULL;
    snap_free(old);
    return m->shown;
}

void feed_act(struct feed *m, struct act *a) {
    struct act_node *n = calloc(1, sizeof *n);
    CHECK(n, "out of memory for an action");
    n->act = *a;
    a->text = NULL;
    pthread_mutex_lock(&m->lock);
    *m->acts_end = n;
    m->acts_end = &n->next;
    pthread_cond_signal(&m->act_cond);
    pthread_mutex_unlock(&m->lock);
}

bool feed_result(struct feed *m, struct act_result *r) {
    pthread_mutex_lock(&m->lock);
    struct result_node *n = m->results;
    if (n && !(m->results = n->next))
        m->results_end = &m->results;
    pthread_mutex_unlock(&m->lock);
    if (!n)
        return false;
    *r = n->result;
    free(n);
    return true;
}

void feed_chat_stop(struct feed *m) { atomic_store(&m->chat_stop, true); }
