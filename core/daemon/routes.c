/* routes: one table; each row a small function from request to answer. */
#include "core/daemon/int.h"

#include "core/clock.h"
#include "core/fs.h"
#include "core/json.h"

#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WAIT_MAX_MS 30000
#define MODEL_NAME_MAX 200

struct match {
    int64_t n;              /* the # of the pattern */
    char s[STORE_NAME_MAX]; /* the $ */
    json_t *body;           /* parsed, when the row wants JSON */
};

typedef int route_fn(const struct request *q, const struct match *m,
                     struct answer *a, struct err *err);

enum { BODY_NONE, BODY_JSON, BODY_BYTES };

struct route_row {
    const char *method, *path;
    int body;
    route_fn *fn;
};

static const char *arg(const struct request *q, const char *name) {
    return MHD_lookup_connection_value(q->conn, MHD_GET_ARGUMENT_KIND, name);
}

static int done(struct answer *a) {
    a->json = json_pack("{s:b}", "ok", 1);
    return 0;
}

/* ---- the daemon ---- */

static int r_health(const struct request *q, const struct match *m,
                    struct answer *a, struct err *err) {
    (void)q;
    (void)m;
    (void)err;
    return done(a);
}

json_t *status_json(struct daemon *d) {
    static const char *const states[] = {"starting", "ready", "down"};
    json_t *workers = json_array();
    struct store_runs rows = {0};
    int64_t jobs = 0;
    for (int i = 0; i < d->n_workers; i++) {
        const struct worker *w = d->worker[i];
        if (w->state == WORKER_DOWN)
            continue;
        json_array_append_new(workers,
                              json_pack("{s:i, s:s, s:s, s:s}", "pid",
                                        (int)w->pid, "model", w->name, "device",
                                        w->device, "state", states[w->state]));
    }
    for (const struct jobproc *j = d->jobs; j; j = j->next)
        jobs++;
    store_runs_free(&rows);
    return json_pack("{s:i, s:s, s:s?, s:o, s:I}", "pid", (int)getpid(),
                     "socket", d->socket, "tcp", d->o.tcp, "workers", workers,
                     "jobs", (json_int_t)jobs);
}

static int r_status(const struct request *q, const struct match *m,
                    struct answer *a, struct err *err) {
    (void)m;
    (void)err;
    a->json = status_json(q->d);
    return 0;
}

static int r_stop(const struct request *q, const struct match *m,
                  struct answer *a, struct err *err) {
    (void)m;
    (void)err;
    q->d->stopping = true;
    daemon_wake(q->d);
    a->json = json_pack("{s:i}", "pid", (int)getpid());
    return 0;
}

/* ---- base models ---- */

static json_t *model_json(const struct store_model *r) {
    return json_pack("{s:s, s:s, s:s, s:I}", "name", r->name, "dir", r->dir,
                     "family", r->family, "params", (json_int_t)r->params);
}

static int r_models(const struct request *q, const struct match *m,
                    struct answer *a, struct err *err) {
    struct store_models rows = {0};
    const char *name = arg(q, "name");
    (void)m;
    int rc = name ? store_model_get(q->d->st, name, &rows)
                  : store_models(q->d->st, &rows);
    if (rc == STORE_OK) {
        a->json = json_array();
        for (int i = 0; i < rows.n; i++)
            json_array_append_new(a->json, model_json(&rows.row[i]));
    }
    store_models_free(&rows);
    return err_store(err, q->d->st, rc);
}

/* As Hugging Face names models: parts with / between. */
static int check_model_name(const char *name, struct err *err) {
    char part[MODEL_NAME_MAX + 1];
    size_t n = strlen(name);
    if (n > MODEL_NAME_MAX)
        return err_set(err, ERR_INVAL, "model: a name of %zu bytes, at most %d",
                       n, MODEL_NAME_MAX);
    for (;; name += n + 1) {
        n = strcspn(name, "/");
        memcpy(part, name, n);
        part[n] = 0;
        if (fs_check_name("model: part of a name", part, err) < 0)
            return -1;
        if (!name[n])
            return 0;
    }
}

static int r_model_add(const struct request *q, const struct match *m,
                       struct answer *a, struct err *err) {
    struct store_model row = {.added_us = clock_wall_us()};
    if (json_get_str(m->body, "name", &row.name, "", err) < 0 ||
        json_get_str(m->body, "dir", &row.dir, "", err) < 0 ||
        json_get_str(m->body, "family", &row.family, "", err) < 0 ||
        json_get_int(m->body, "params", &row.params, 0, err) < 0)
        return -1;
    if (check_model_name(row.name, err) < 0)
        return -1;
    if (row.dir[0] != '/')
        return err_set(err, ERR_INVAL, "model: an absolute dir is wanted");
    int rc = store_model_add(q->d->st, &row);
    return rc == STORE_OK ? done(a) : err_store(err, q->d->st, rc);
}

static bool is_model(struct daemon *d, const char *name) {
    struct store_models rows = {0};
    int rc = store_model_get(d->st, name, &rows);
    store_models_free(&rows);
    return rc == STORE_OK;
}

/* The registration only, and the worker that was started for it. */
static int r_model_rm(const struct request *q, const struct match *m,
                      struct answer *a, struct err *err) {
    const char *name;
    if (json_get_str(m->body, "name", &name, "", err) < 0)
        return -1;
    if (worker_idle(q->d, name, err) < 0)
        return -1;
    int rc = store_model_rm(q->d->st, name);
    if (rc != STORE_OK)
        return err_store(err, q->d->st, rc);
    worker_retire(q->d, name);
    return done(a);
}

/* ---- runs ---- */

static int r_run_add(const struct request *q, const struct match *m,
                     struct answer *a, struct err *err) {
    struct store_run r = {.created_us = clock_wall_us()};
    struct store_models base = {0};
    int64_t run;
    json_t *config = json_object_get(m->body, "config");
    if (json_get_str(m->body, "recipe", &r.recipe, "", err) < 0 ||
        json_get_str(m->body, "name", &r.name, "", err) < 0 ||
        json_get_str(m->body, "model", &r.model, "", err) < 0)
        return -1;
    if (!json_is_object(config) || !*r.recipe)
        return err_set(err, ERR_INVAL, "run: recipe and config are wanted");
    int rc = store_model_get(q->d->st, r.model, &base);
    store_models_free(&base);
    if (rc == STORE_NOTFOUND)
        return err_set(
            err, ERR_NOTFOUND,
            "no model '%.100s' (fettle model list; fettle model add)", r.model);
    char *text = json_dumps(config, JSON_COMPACT | JSON_PRESERVE_ORDER);
    CHECK(text, "out of memory for a config");
    r.config = text;
    rc = rc == STORE_OK ? store_run_add(q->d->st, &r, &run) : rc;
    free(text);
    if (rc != STORE_OK)
        return err_store(err, q->d->st, rc);
    if (job_start(q->d, run, err) < 0) {
        job_end(q->d, run, STORE_RUN_FAILED, err->msg);
        return -1;
    }
    a->json = json_pack("{s:I}", "run", (json_int_t)run);
    return 0;
}

static json_t *run_json(struct daemon *d, const struct store_run *r) {
    struct store_models base = {0};
    store_model_get(d->st, r->model, &base);
    json_t *config = json_loads(r->config, 0, NULL);
    json_t *j = json_pack(
        "{s:I, s:s, s:s, s:s, s:s, s:I, s:I, s:s, s:s, s:s, s:o}", "run",
        (json_int_t)r->id, "name", r->name, "recipe", r->recipe, "model",
        r->model, "state", store_run_state_name(r->state), "cursor",
        (json_int_t)r->cursor, "planned", (json_int_t)r->planned, "tmodel",
        r->tmodel, "error", r->error, "model_dir", base.n ? base.row->dir : "",
        "config", config ? config : json_object());
    store_models_free(&base);
    return j;
}

static int r_run(const struct request *q, const struct match *m,
                 struct answer *a, struct err *err) {
    struct store_runs rows = {0};
    int rc = store_run_get(q->d->st, m->n, &rows);
    if (rc == STORE_OK)
        a->json = run_json(q->d, rows.row);
    store_runs_free(&rows);
    return err_store(err, q->d->st, rc);
}

static int run_state(struct daemon *d, int64_t run, enum store_run_state *s,
                     struct err *err) {
    struct store_runs rows = {0};
    int rc = store_run_get(d->st, run, &rows);
    *s = STORE_RUN_FAILED;
    if (rc == STORE_OK)
        *s = rows.row->state;
    store_runs_free(&rows);
    return err_store(err, d->st, rc);
}

static int run_is(enum store_run_state s, enum store_run_state want,
                  int64_t run, const char *what, struct err *err) {
    if (s == want)
        return 0;
    return err_set(err, ERR_CONFLICT, "%s run %lld: it is %s", what,
                   (long long)run, store_run_state_name(s));
}

static int r_pause(const struct request *q, const struct match *m,
                   struct answer *a, struct err *err) {
    enum store_run_state s;
    if (run_state(q->d, m->n, &s, err) < 0)
        return -1;
    if (s != STORE_RUN_PAUSED) {
        if (run_is(s, STORE_RUN_RUNNING, m->n, "pause", err) < 0)
            return -1;
        int rc = store_run_state(q->d->st, m->n, STORE_RUN_PAUSED, NULL,
                                 clock_wall_us());
        if (rc != STORE_OK)
            return err_store(err, q->d->st, rc);
    }
    return done(a);
}

static struct tmodel *run_model(struct daemon *d, int64_t run) {
    struct tmodel *t = d->tmodels;
    while (t && t->run != run)
        t = t->next;
    return t;
}

/* A run that failed keeps its model: what made it fail may have passed. */
static void run_revive(struct daemon *d, int64_t run) {
    struct tmodel *t = run_model(d, run);
    if (t)
        tmodel_retry(d, t);
}

static int r_resume(const struct request *q, const struct match *m,
                    struct answer *a, struct err *err) {
    enum store_run_state s;
    if (run_state(q->d, m->n, &s, err) < 0)
        return -1;
    if (s == STORE_RUN_RUNNING)
        return done(a);
    if (s == STORE_RUN_FAILED)
        run_revive(q->d, m->n);
    else if (run_is(s, STORE_RUN_PAUSED, m->n, "resume", err) < 0)
        return -1;
    for (const struct jobproc *j = q->d->jobs; j; j = j->next)
        if (j->run == m->n) { /* its job waits */
            int rc = store_run_state(q->d->st, m->n, STORE_RUN_RUNNING, NULL,
                                     clock_wall_us());
            return rc == STORE_OK ? done(a) : err_store(err, q->d->st, rc);
        }
    return job_start(q->d, m->n, err) < 0 ? -1 : done(a);
}

static int r_kill(const struct request *q, const struct match *m,
                  struct answer *a, struct err *err) {
    enum store_run_state s;
    if (run_state(q->d, m->n, &s, err) < 0)
        return -1;
    if (s == STORE_RUN_KILLED)
        return done(a);
    if (s == STORE_RUN_DONE ||
        (s == STORE_RUN_FAILED && !run_model(q->d, m->n)))
        return run_is(s, STORE_RUN_RUNNING, m->n, "kill", err);
    job_end(q->d, m->n, STORE_RUN_KILLED, NULL);
    return done(a);
}

static int put_points(struct daemon *d, int64_t run, const json_t *list,
                      int64_t now) {
    size_t i, n = json_array_size(list);
    json_t *p;
    struct store_point *points = calloc(n + 1, sizeof *points);
    CHECK(points, "out of memory for points");
    json_array_foreach((json_t *)list, i, p) {
        const char *name = json_string_value(json_object_get(p, "name"));
        points[i].name = name ? name : "";
        points[i].step = json_integer_value(json_object_get(p, "step"));
        points[i].time_us = now;
        json_to_num(json_object_get(p, "value"), &points[i].value);
    }
    int rc = store_points_add(d->st, run, points, (int)n);
    free(points);
    return rc;
}

static int put_samples(struct daemon *d, int64_t run, const json_t *list,
                       int64_t now) {
    size_t i;
    json_t *s;
    int rc = STORE_OK;
    json_array_foreach((json_t *)list, i, s) {
        if (rc != STORE_OK)
            break;
        rc = store_sample_add(
            d->st,
            &(struct store_sample){
                .run = run,
                .step = json_integer_value(json_object_get(s, "step")),
                .prompt_index =
                    (int)json_integer_value(json_object_get(s, "index")),
                .prompt = json_string_value(json_object_get(s, "prompt")),
                .text = json_string_value(json_object_get(s, "text")),
                .tokens = (int)json_integer_value(json_object_get(s, "tokens")),
                .stop = json_string_value(json_object_get(s, "stop")),
                .logprob_sum = json_number_value(json_object_get(s, "logprob")),
                .time_us = now});
    }
    return rc;
}

static int put_events(struct daemon *d, int64_t run, const json_t *list,
                      int64_t now) {
    size_t i;
    json_t *e;
    int rc = STORE_OK;
    json_array_foreach((json_t *)list, i, e) {
        const char *level = json_string_value(json_object_get(e, "level"));
        bool warn = level && strcmp(level, "warn") == 0;
        if (rc == STORE_OK)
            rc = store_event_add(
                d->st,
                &(struct store_event){
                    .time_us = now,
                    .run = run,
                    .step = json_integer_value(json_object_get(e, "step")),
                    .kind = json_string_value(json_object_get(e, "kind")),
                    .level = warn ? STORE_WARN : STORE_INFO,
                    .text = json_string_value(json_object_get(e, "text"))},
                true);
    }
    return rc;
}

/* One transaction: the step's points, samples and events, and the cursor. */
static int r_points(const struct request *q, const struct match *m,
                    struct answer *a, struct err *err) {
    struct daemon *d = q->d;
    int64_t cursor, run_us, planned, now = clock_wall_us();
    enum store_run_state s;
    if (json_get_int(m->body, "cursor", &cursor, 0, err) < 0 ||
        json_get_int(m->body, "run_us", &run_us, 0, err) < 0 ||
        json_get_int(m->body, "planned", &planned, 0, err) < 0 ||
        run_state(d, m->n, &s, err) < 0)
        return -1;
    int rc = store_begin(d->st);
    if (rc == STORE_OK)
        rc = put_points(d, m->n, json_object_get(m->body, "points"), now);
    if (rc == STORE_OK)
        rc = put_samples(d, m->n, json_object_get(m->body, "samples"), now);
    if (rc == STORE_OK)
        rc = put_events(d, m->n, json_object_get(m->body, "events"), now);
    if (rc == STORE_OK && planned > 0)
        rc = store_run_plan(d->st, m->n, planned);
    if (rc == STORE_OK)
        rc = store_run_advance(d->st, m->n, cursor, run_us);
    if (rc == STORE_OK)
        rc = store_commit(d->st);
    if (rc != STORE_OK) {
        err_store(err, d->st, rc);
        store_rollback(d->st);
        return -1;
    }
    a->json = json_pack("{s:s}", "state", store_run_state_name(s));
    return 0;
}

static int r_finish(const struct request *q, const struct match *m,
                    struct answer *a, struct err *err) {
    const char *state, *error;
    enum store_run_state s;
    if (json_get_str(m->body, "state", &state, "done", err) < 0 ||
        json_get_str(m->body, "error", &error, "", err) < 0 ||
        run_state(q->d, m->n, &s, err) < 0)
        return -1;
    bool failed = strcmp(state, "failed") == 0;
    if (s != STORE_RUN_KILLED && s != STORE_RUN_DONE)
        job_end(q->d, m->n, failed ? STORE_RUN_FAILED : STORE_RUN_DONE,
                failed ? error : NULL);
    return done(a);
}

/* ---- ops ---- */

static int put_op(struct daemon *d, struct tmodel *t, const struct op *op,
                  const uint8_t *bytes, size_t len, struct err *err) {
    struct store_op row = {.model = t->id,
                           .seq = (int64_t)op->seq,
                           .kind = op->kind,
                           .payload = bytes,
                           .payload_len = len,
                           .created_us = clock_wall_us()};
    SHA256(bytes, len, row.sha);
    int rc = store_op_put(d->st, &row, NULL);
    if (rc == STORE_CONFLICT)
        return err_set(err, ERR_CONFLICT,
                       "op %s/%llu was submitted before with other contents "
                       "(has the data changed since the run began?)",
                       t->id, (unsigned long long)op->seq);
    if (rc != STORE_OK)
        return err_store(err, d->st, rc);
    tmodel_pump(d, t);
    return 0;
}

static int r_create(const struct request *q, const struct match *m,
                    struct answer *a, struct err *err) {
    struct daemon *d = q->d;
    struct op op;
    struct store_models base = {0};
    struct buf b;
    uint8_t sha[STORE_SHA_LEN];
    char id[STORE_NAME_MAX];
    const char *run = arg(q, "run");
    int64_t n = run ? strtoll(run, NULL, 10) : 0;
    (void)m;
    if (op_decode(&op, q->body, q->len, err) < 0)
        return -1;
    int rc = op.kind == OP_CREATE
                 ? store_model_get(d->st, op.create.base, &base)
                 : STORE_INVAL;
    store_models_free(&base);
    if (op.kind != OP_CREATE || rc != STORE_OK) {
        if (op.kind != OP_CREATE)
            err_set(err, ERR_INVAL, "create: another kind of op");
        else
            err_store(err, d->st, rc);
        op_release(&op);
        return -1;
    }
    SHA256(q->body, q->len, sha);
    rc = store_tmodel_add(d->st, n, op.create.base, sha, clock_wall_us(), id);
    if (rc == STORE_OK && n > 0)
        rc = store_run_tmodel(d->st, n, id);
    int ok = err_store(err, d->st, rc);
    if (ok == 0) {
        struct tmodel *t = tmodel_add(d, id, op.create.base, n);
        free(op.model);
        op.model = strdup(id);
        op.seq = 0;
        buf_init(&b, WIRE_MAX);
        op_encode(&op, &b);
        ok = put_op(d, t, &op, b.data, b.len, err);
        buf_release(&b);
    }
    op_release(&op);
    if (ok == 0)
        a->json = json_pack("{s:s}", "model", id);
    return ok;
}

static int r_op(const struct request *q, const struct match *m,
                struct answer *a, struct err *err) {
    struct op op;
    (void)m;
    if (op_decode(&op, q->body, q->len, err) < 0)
        return -1;
    struct tmodel *t = tmodel_find(q->d, op.model);
    int rc;
    if (!t)
        rc = err_set(err, ERR_NOTFOUND, "no training model '%.64s'", op.model);
    else if (op.seq == 0 || op.kind == OP_CREATE || op.kind == OP_LOGPROBS)
        rc = err_set(err, ERR_INVAL, "%s with seq %llu is no ordered op",
                     op_kind_name(op.kind), (unsigned long long)op.seq);
    else
        rc = put_op(q->d, t, &op, q->body, q->len, err);
    if (rc == 0)
        a->json = json_pack("{s:s, s:I}", "model", op.model, "seq",
                            (json_int_t)op.seq);
    op_release(&op);
    return rc;
}

static int op_answer(const struct store_op *op, struct answer *a,
                     struct err *err) {
    if (op->result.status == STORE_OP_FAILED) {
        a->status = WIRE_HTTP_FAILED;
        a->json = json_pack("{s:{s:s, s:s}}", "error", "code", op->result.code,
                            "message", op->result.error);
        return 0;
    }
    if (op->is_expired)
        return err_set(err, ERR_CANCELED, "the result of %s/%lld is gone",
                       op->model, (long long)op->seq);
    a->len = op->result.len;
    a->bytes = malloc(a->len + 1);
    CHECK(a->bytes, "out of memory for a result");
    memcpy(a->bytes, op->result.data, a->len);
    return 0;
}

static int r_op_get(const struct request *q, const struct match *m,
                    struct answer *a, struct err *err) {
    struct daemon *d = q->d;
    struct store_ops rows = {0};
    const char *wait = arg(q, "wait_ms");
    int64_t ms = wait ? strtoll(wait, NULL, 10) : 0;
    int rc = store_op_get(d->st, m->s, m->n, &rows);
    if (rc != STORE_OK) {
        store_ops_free(&rows);
        return err_store(err, d->st, rc);
    }
    if (rows.row->result.status != STORE_OP_PENDING) {
        rc = op_answer(rows.row, a, err);
        store_ops_free(&rows);
        return rc;
    }
    store_ops_free(&rows);
    /* A resumed request comes here again; it waits once. */
    const char *again =
        MHD_lookup_connection_value(q->conn, MHD_HEADER_KIND, "X-Waited");
    if (ms <= 0 || again || d->stopping) {
        a->status = 202;
        a->json = json_pack("{s:s}", "status", "pending");
        return 0;
    }
    struct waiter *w = calloc(1, sizeof *w);
    CHECK(w, "out of memory for a wait");
    w->conn = q->conn;
    w->seq = m->n;
    snprintf(w->model, sizeof w->model, "%s", m->s);
    w->deadline_us =
        clock_mono_us() + (ms < WAIT_MAX_MS ? ms : WAIT_MAX_MS) * 1000;
    w->next = d->waiters;
    d->waiters = w;
    MHD_set_connection_value(q->conn, MHD_HEADER_KIND, "X-Waited", "1");
    MHD_suspend_connection(q->conn);
    a->suspended = true;
    return 0;
}

static int r_run_op(const struct request *q, const struct match *m,
                    struct answer *a, struct err *err) {
    const char *target = arg(q, "target");
    struct store_target t;
    struct op op;
    struct buf b;
    (void)m;
    int rc = store_target(q->d->st, target ? target : "", &t);
    if (rc == STORE_NOTFOUND)
        return err_set(err, ERR_NOTFOUND,
                       "no model, checkpoint or deployment '%.100s'",
                       target ? target : "");
    if (rc != STORE_OK)
        return err_store(err, q->d->st, rc);
    if (op_decode(&op, q->body, q->len, err) < 0)
        return -1;
    char **ckpt = op.kind == OP_SAMPLE     ? &op.sample.target.ckpt
                  : op.kind == OP_LOGPROBS ? &op.logprobs.target.ckpt
                                           : NULL;
    if (!ckpt || op.seq != 0) {
        op_release(&op);
        return err_set(err, ERR_INVAL, "only samples and logprobs run alone");
    }
    free(*ckpt);
    *ckpt = strdup(t.ckpt);
    int precision = precision_by_name(t.precision);
    (op.kind == OP_SAMPLE ? &op.sample.target : &op.logprobs.target)
        ->precision = (enum precision)(precision < 0 ? 0 : precision);
    buf_init(&b, WIRE_MAX);
    op_encode(&op, &b);
    op_release(&op);
    struct flow *f = flow_new(q->d, FLOW_FRAMES);
    f->op = buf_take(&b, &f->op_len);
    flow_start(f, t.model);
    a->flow = f;
    return 0;
}

/* ---- checkpoints and deployments ---- */

static int r_promote(const struct request *q, const struct match *m,
                     struct answer *a, struct err *err) {
    const char *ckpt, *name;
    if (json_get_str(m->body, "ckpt", &ckpt, "", err) < 0 ||
        json_get_str(m->body, "name", &name, "", err) < 0 ||
        fs_check_name("name", name, err) < 0)
        return -1;
    int rc = store_promote(q->d->st, name, ckpt, clock_wall_us());
    return rc == STORE_OK ? done(a) : err_store(err, q->d->st, rc);
}

/* Serving begins when the worker has read a token on it. */
static int r_deploy(const struct request *q, const struct match *m,
                    struct answer *a, struct err *err) {
    const char *ckpt, *name, *as;
    struct store_target t;
    struct daemon *d = q->d;
    uint32_t token = 0;
    int version;
    struct buf b;
    if (json_get_str(m->body, "ckpt", &ckpt, "", err) < 0 ||
        json_get_str(m->body, "name", &name, "", err) < 0 ||
        json_get_str(m->body, "precision", &as, "exact", err) < 0 ||
        fs_check_name("name", name, err) < 0)
        return -1;
    int precision = precision_by_name(as);
    if (precision < 0)
        return err_set(err, ERR_INVAL,
                       "precision '%.40s': exact, q8 or q4 is wanted", as);
    if (is_model(d, name))
        return err_set(err, ERR_CONFLICT,
                       "deploy %s: a model is registered as %s (take another "
                       "name)",
                       name, name);
    int rc = store_target(d->st, ckpt, &t);
    if (rc == STORE_NOTFOUND)
        return err_set(err, ERR_NOTFOUND, "no checkpoint or model '%.100s'",
                       ckpt);
    if (rc == STORE_OK)
        rc = store_deploy(d->st, name, t.ckpt, t.model, as, clock_wall_us(),
                          &version);
    if (rc != STORE_OK)
        return err_store(err, d->st, rc);
    struct op op = {.kind = OP_LOGPROBS, .model = ""};
    op.logprobs = (struct op_logprobs){
        .target = {.ckpt = t.ckpt, .precision = (enum precision)precision},
        .n = 1,
        .tokens = &token};
    buf_init(&b, 8192);
    op_encode(&op, &b);
    struct flow *f = flow_new(d, FLOW_DEPLOY);
    f->op = buf_take(&b, &f->op_len);
    snprintf(f->name, sizeof f->name, "%s", name);
    flow_start(f, t.model);
    a->flow = f;
    return 0;
}

static int r_undeploy(const struct request *q, const struct match *m,
                      struct answer *a, struct err *err) {
    const char *name;
    struct store_deployments rows = {0};
    if (json_get_str(m->body, "name", &name, "", err) < 0)
        return -1;
    int rc = store_deployment_get(q->d->st, name, &rows);
    if (rc == STORE_OK && rows.row->state == STORE_DEPLOY_STOPPED)
        rc = STORE_NOTFOUND;
    store_deployments_free(&rows);
    if (rc == STORE_NOTFOUND)
        return err_set(err, ERR_NOTFOUND, "no deployment '%.100s'", name);
    if (rc == STORE_OK)
        rc = store_deploy_state(q->d->st, name, STORE_DEPLOY_STOPPED, NULL,
                                clock_wall_us());
    return rc == STORE_OK ? done(a) : err_store(err, q->d->st, rc);
}

static int r_ckpt_rm(const struct request *q, const struct match *m,
                     struct answer *a, struct err *err) {
    const char *id;
    struct store_ckpts rows = {0};
    if (json_get_str(m->body, "id", &id, "", err) < 0)
        return -1;
    int rc = store_ckpt_get(q->d->st, id, &rows);
    if (rc == STORE_OK)
        rc = store_ckpt_deleting(q->d->st, rows.row->id);
    if (rc != STORE_OK) {
        store_ckpts_free(&rows);
        return err_store(err, q->d->st, rc);
    }
    char *path = fs_path("%s/ckpt/%s", q->d->o.home, rows.row->id);
    int gone = fs_remove_tree(path, err);
    if (gone == 0)
        rc = store_ckpt_rm(q->d->st, rows.row->id);
    free(path);
    store_ckpts_free(&rows);
    if (gone < 0)
        return -1;
    return rc == STORE_OK ? done(a) : err_store(err, q->d->st, rc);
}

static int r_alerts_read(const struct request *q, const struct match *m,
                         struct answer *a, struct err *err) {
    (void)m;
    int rc = store_events_read(q->d->st, INT64_MAX);
    return rc == STORE_OK ? done(a) : err_store(err, q->d->st, rc);
}

/* ---- OpenAI ---- */

static int r_oa_models(const struct request *q, const struct match *m,
                       struct answer *a, struct err *err) {
    (void)m;
    (void)err;
    a->json = openai_models(q->d);
    return 0;
}

static int r_oa_run(const struct request *q, const struct match *m,
                    struct answer *a, struct err *err) {
    return openai_request(q->d, q->path, m->body, &a->flow, err);
}

/* ---- the table ---- */

static const struct route_row route_rows[] = {
    {"GET", "/healthz", BODY_NONE, r_health},
    {"GET", "/fettle/v1/status", BODY_NONE, r_status},
    {"POST", "/fettle/v1/stop", BODY_NONE, r_stop},
    {"GET", "/fettle/v1/models", BODY_NONE, r_models},
    {"POST", "/fettle/v1/models", BODY_JSON, r_model_add},
    {"DELETE", "/fettle/v1/models", BODY_JSON, r_model_rm},
    {"POST", "/fettle/v1/runs", BODY_JSON, r_run_add},
    {"GET", "/fettle/v1/runs/#", BODY_NONE, r_run},
    {"POST", "/fettle/v1/runs/#/pause", BODY_NONE, r_pause},
    {"POST", "/fettle/v1/runs/#/resume", BODY_NONE, r_resume},
    {"POST", "/fettle/v1/runs/#/kill", BODY_NONE, r_kill},
    {"POST", "/fettle/v1/runs/#/points", BODY_JSON, r_points},
    {"POST", "/fettle/v1/runs/#/finish", BODY_JSON, r_finish},
    {"POST", "/fettle/v1/create", BODY_BYTES, r_create},
    {"POST", "/fettle/v1/ops", BODY_BYTES, r_op},
    {"GET", "/fettle/v1/ops/$/#", BODY_NONE, r_op_get},
    {"POST", "/fettle/v1/run", BODY_BYTES, r_run_op},
    {"POST", "/fettle/v1/promote", BODY_JSON, r_promote},
    {"POST", "/fettle/v1/deployments", BODY_JSON, r_deploy},
    {"DELETE", "/fettle/v1/deployments", BODY_JSON, r_undeploy},
    {"DELETE", "/fettle/v1/checkpoints", BODY_JSON, r_ckpt_rm},
    {"POST", "/fettle/v1/alerts/read", BODY_NONE, r_alerts_read},
    {"GET", "/v1/models", BODY_NONE, r_oa_models},
    {"POST", "/v1/completions", BODY_JSON, r_oa_run},
    {"POST", "/v1/chat/completions", BODY_JSON, r_oa_run},
};

/* '#' takes digits, '$' takes anything but '/'. */
static bool path_matches(const char *pat, const char *path, struct match *m) {
    for (; *pat; pat++) {
        size_t n = 0;
        if (*pat == '#') {
            n = strspn(path, "0123456789");
            if (n == 0 || n > 18)
                return false;
            m->n = strtoll(path, NULL, 10);
        } else if (*pat == '$') {
            n = strcspn(path, "/");
            if (n == 0 || n >= sizeof m->s)
                return false;
            snprintf(m->s, sizeof m->s, "%.*s", (int)n, path);
        } else if (*pat == *path) {
            n = 1;
        } else {
            return false;
        }
        path += n;
    }
    return *path == 0;
}

static int route_find(const struct request *q, struct match *m,
                      const struct route_row **row, struct err *err) {
    bool other = false;
    for (size_t i = 0; i < sizeof route_rows / sizeof *route_rows; i++) {
        *row = &route_rows[i];
        if (!path_matches((*row)->path, q->path, m))
            continue;
        if (strcmp((*row)->method, q->method) == 0)
            return 0;
        other = true;
    }
    return other ? err_set(err, ERR_UNSUPPORTED, "%s is not for %s", q->method,
                           q->path)
                 : err_set(err, ERR_NOTFOUND, "no route %.200s", q->path);
}

void route(const struct request *q, struct answer *a) {
    struct match m = {0};
    struct err err = {0};
    const struct route_row *row = NULL;
    int rc = route_find(q, &m, &row, &err);
    if (rc == 0 && row->body == BODY_JSON) {
        m.body = json_read(q->body ? (const char *)q->body : "", q->len, "body",
                           &err);
        rc = m.body ? 0 : -1;
        if (m.body && !json_is_object(m.body))
            rc = err_set(&err, ERR_INVAL, "body: a JSON object is wanted");
    }
    if (rc == 0 && row->body == BODY_BYTES && q->len == 0)
        rc = err_set(&err, ERR_INVAL, "the body is empty");
    if (rc == 0)
        rc = row->fn(q, &m, a, &err);
    json_decref(m.body);
    if (rc == 0)
        return;
    a->status = err_http(err.code);
    json_decref(a->json);
    a->json = json_pack("{s:{s:s, s:s}}", "error", "code", err_name(err.code),
                        "message", err.msg);
    if (!a->json) /* a message that is not UTF-8 */
        a->json = json_pack("{s:{s:s, s:s}}", "error", "code",
                            err_name(err.code), "message", "bad request");
}
