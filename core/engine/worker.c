/*
 * worker: frames in, results out.
 * Invariants: 1. every id is answered by exactly one RESULT or ERROR; 2. only
 * the training thread touches trainers, only the sampling thread its net, its
 * scheduler and its cache of checkpoints; 3. the base model is immutable and
 * shared; 4. a checkpoint that a request runs on is not closed.
 */
#include "core/engine.h"

#include "core/ckpt.h"
#include "core/clock.h"
#include "core/fs.h"
#include "core/sample.h"
#include "core/train.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define WORKER_VERSION 1
#define WORKER_CACHE 8 /* checkpoints kept open for sampling */
#define WORKER_BASE_VERSION (UINT64_C(1) << 60) /* checkpoints count from 1 */

struct worker;

struct job {
    struct worker *w;
    struct frame frame;
    struct op op; /* of FRAME_OP, decoded */
    struct job *next;
};

struct queue {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    struct job *first, **last;
    bool stop;
};

struct cached {
    char id[WIRE_NAME_MAX];
    enum precision precision;
    struct ckpt_policy *policy; /* NULL = the slot is free */
    struct weights *quant;      /* of full weights in fewer bits, or NULL */
    uint64_t used, version;
};

/* A renderer that a checkpoint was trained with. */
struct named {
    char name[WIRE_NAME_MAX];
    struct render *render;
    struct named *next;
};

/* What one executing thread owns. */
struct lane {
    struct worker *w;
    struct queue queue;
    struct kern *kern;
    struct named *named; /* those that were asked for */
    pthread_t thread;
};

struct hosted {
    char id[WIRE_NAME_MAX];
    struct trainer *tr;
};

struct worker {
    struct engine_opts o;
    struct model *model;
    struct tok *tok;
    struct render *render;
    struct err no_text; /* why one of these is NULL */
    pthread_mutex_t out;
    struct lane train, sample;
    struct hosted *hosted;
    int n_hosted;
    struct net *net; /* the sampling thread's */
    struct sched *sched;
    struct job *sampling; /* what the scheduler has */
    struct cached cache[WORKER_CACHE];
    struct weights *base[PRECISION_N]; /* in fewer bits, once it is asked for */
    uint64_t tick;
};

/* ---- queues ---- */

static void queue_init(struct queue *q) {
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->cond, NULL);
    q->last = &q->first;
}

static void queue_put(struct queue *q, struct job *j) {
    pthread_mutex_lock(&q->lock);
    *q->last = j;
    q->last = &j->next;
    pthread_cond_signal(&q->cond);
    pthread_mutex_unlock(&q->lock);
}

/* NULL = stopped and empty, or just empty when nobody waits. */
static struct job *queue_take(struct queue *q, bool wait) {
    pthread_mutex_lock(&q->lock);
    while (!q->first && !q->stop && wait)
        pthread_cond_wait(&q->cond, &q->lock);
    struct job *j = q->first;
    if (j && !(q->first = j->next))
        q->last = &q->first;
    pthread_mutex_unlock(&q->lock);
    return j;
}

static bool queue_stopped(struct queue *q) {
    pthread_mutex_lock(&q->lock);
    bool stop = q->stop;
    pthread_mutex_unlock(&q->lock);
    return stop;
}

static void queue_stop(struct queue *q) {
    pthread_mutex_lock(&q->lock);
    q->stop = true;
    pthread_cond_signal(&q->cond);
    pthread_mutex_unlock(&q->lock);
}

static void job_free(struct job *j) {
    op_release(&j->op);
    free(j->frame.data);
    free(j);
}

/* ---- answers ---- */

static void worker_send(struct worker *w, enum frame_type type, uint64_t id,
                        const struct buf *b) {
    struct err err = {0};
    pthread_mutex_lock(&w->out);
    int rc = frame_write(w->o.fd, type, id, b->data, b->len, &err);
    pthread_mutex_unlock(&w->out);
    if (rc < 0) /* the daemon is gone, and nobody is left to tell */
        _exit(0);
}

static void worker_error(struct worker *w, uint64_t id, const struct err *e) {
    struct buf b;
    buf_init(&b, 4096);
    buf_lstr(&b, err_name(e->code));
    buf_lstr(&b, e->msg);
    worker_send(w, FRAME_ERROR, id, &b);
    buf_release(&b);
}

static void worker_result(struct worker *w, uint64_t id,
                          const struct result *r) {
    struct buf b;
    struct err err = {0};
    buf_init(&b, WIRE_MAX);
    result_encode(r, &b);
    if (buf_check(&b, "encode result", &err) < 0)
        worker_error(w, id, &err);
    else
        worker_send(w, FRAME_RESULT, id, &b);
    buf_release(&b);
}

static void put_partial(struct buf *b, const struct worker *w, bool pieces,
                        const struct sample_partial *p) {
    buf_u32(b, p->index);
    buf_u32(b, 1);
    buf_u32(b, p->token);
    buf_f32(b, p->logprob);
    buf_lstr(b, p->text);
    if (!pieces)
        return;
    buf_u32(b, p->k);
    for (uint32_t i = 0; i < p->k; i++)
        buf_u32(b, p->top_tokens[i]);
    for (uint32_t i = 0; i < p->k; i++)
        buf_f32(b, p->top_logprobs[i]);
    for (uint32_t i = 0; i <= p->k; i++) {
        const uint32_t *id = i ? &p->top_tokens[i - 1] : &p->token;
        char *text = tok_decode(w->tok, id, 1, false);
        buf_lstr(b, text);
        free(text);
    }
}

static void worker_partial(struct worker *w, uint64_t id, bool pieces,
                           const struct sample_partial *p) {
    struct buf b;
    buf_init(&b, 1 << 20);
    put_partial(&b, w, pieces, p);
    if (!b.failed)
        worker_send(w, FRAME_PARTIAL, id, &b);
    buf_release(&b);
}

/* ---- renderers ---- */

/* *out: the renderer of that name; NULL: the model's own will do. */
static int lane_render(struct lane *l, const char *name,
                       const struct render **out, struct err *err) {
    const struct worker *w = l->w;
    struct named *n = l->named;
    bool own = !w->tok || !name || !*name ||
               (w->render && strcmp(render_name(w->render), name) == 0);
    *out = NULL;
    while (!own && n && strcmp(n->name, name) != 0)
        n = n->next;
    if (own || n) {
        *out = own ? NULL : n->render;
        return 0;
    }
    struct render *r = render_open(name, w->tok, w->o.dir, err);
    if (!r)
        return err_ctx(err, "the checkpoint's renderer");
    n = calloc(1, sizeof *n);
    CHECK(n, "out of memory for a renderer");
    snprintf(n->name, sizeof n->name, "%s", name);
    n->render = r;
    n->next = l->named;
    l->named = n;
    *out = r;
    return 0;
}

static void lane_drop_renders(struct lane *l) {
    for (struct named *n; (n = l->named);) {
        l->named = n->next;
        render_close(n->render);
        free(n);
    }
}

/* ---- training ---- */

static char *ckpt_path(const struct worker *w, const char *id) {
    return fs_path("%s/ckpt/%s", w->o.home, id);
}

/* "<run>/<name>", nothing that climbs out of the checkpoint root. */
static int check_id(const char *id, struct err *err) {
    const char *slash = id ? strchr(id, '/') : NULL;
    if (!slash || strchr(slash + 1, '/') || strstr(id, "..") || id[0] == '/' ||
        id[0] == '.' || slash[1] == '.' || !slash[1])
        return err_set(err, ERR_INVAL, "'%.64s' is no checkpoint id", id);
    return 0;
}

static struct hosted *slot_find(struct worker *w, const char *id) {
    for (int i = 0; i < w->n_hosted; i++)
        if (strcmp(w->hosted[i].id, id) == 0)
            return &w->hosted[i];
    return NULL;
}

static void slot_drop(struct worker *w, const char *id) {
    struct hosted *s = slot_find(w, id);
    if (!s)
        return;
    trainer_free(s->tr);
    *s = w->hosted[--w->n_hosted];
}

static void slot_set(struct worker *w, const char *id, struct trainer *tr) {
    slot_drop(w, id);
    struct hosted *s =
        realloc(w->hosted, (size_t)(w->n_hosted + 1) * sizeof *w->hosted);
    CHECK(s, "out of memory for a model");
    w->hosted = s;
    snprintf(s[w->n_hosted].id, sizeof s[w->n_hosted].id, "%s", id);
    s[w->n_hosted++].tr = tr;
}

static struct trainer *new_trainer(struct worker *w, const struct op_create *op,
                                   struct err *err) {
    struct op_create own = *op;
    own.base = (char *)w->o.name;
    struct trainer *tr = trainer_new(w->model, w->train.kern, &own, err);
    if (tr && w->n_hosted > 0) /* one thread runs them all, one at a time */
        trainer_share(tr, w->hosted[0].tr);
    return tr;
}

/* From a checkpoint it has that one's renderer, when it is told none. */
static struct trainer *create_from(struct worker *w, const struct op_create *op,
                                   struct err *err) {
    if (check_id(op->from, err) < 0)
        return NULL;
    char *path = ckpt_path(w, op->from), *renderer = ckpt_renderer_of(path);
    struct op_create own = *op;
    if (!op->renderer || !*op->renderer)
        own.renderer = renderer;
    struct trainer *tr = new_trainer(w, &own, err);
    if (tr && ckpt_load(path, tr, false, err) < 0) {
        trainer_free(tr);
        tr = NULL;
    }
    free(renderer);
    free(path);
    return tr;
}

static int do_create(struct worker *w, const struct op *op, struct err *err) {
    bool has_from = op->create.from && *op->create.from;
    struct trainer *tr = has_from ? create_from(w, &op->create, err)
                                  : new_trainer(w, &op->create, err);
    const struct render *render;
    int rc = tr ? lane_render(&w->train, trainer_op(tr)->renderer, &render, err)
                : -1;
    if (rc < 0) {
        trainer_free(tr);
        return -1;
    }
    slot_set(w, op->model, tr);
    return 0;
}

static int do_restore(struct worker *w, const char *model, const char *dir,
                      struct err *err) {
    struct manifest m;
    if (ckpt_verify(dir, &m, err) < 0)
        return -1;
    struct op_create op = ckpt_create(&m);
    struct trainer *tr = new_trainer(w, &op, err);
    if (!tr)
        return -1;
    if (ckpt_load(dir, tr, true, err) < 0) {
        trainer_free(tr);
        return -1;
    }
    slot_set(w, model, tr);
    return 0;
}

static int do_save(struct worker *w, struct trainer *tr, const struct op *op,
                   struct result *res, struct err *err) {
    int64_t bytes = 0;
    char *path = ckpt_path(w, op->save.ckpt);
    int rc = check_id(op->save.ckpt, err);
    if (rc == 0)
        rc = ckpt_save(path, tr, op->save.kind, op->seq, &bytes, err);
    res->bytes = (uint64_t)bytes;
    free(path);
    return rc;
}

static int do_load(struct worker *w, struct trainer *tr, const struct op *op,
                   struct err *err) {
    char *path = ckpt_path(w, op->load.ckpt);
    int rc = check_id(op->load.ckpt, err);
    if (rc == 0)
        rc = ckpt_load(path, tr, op->load.optimizer, err);
    free(path);
    return rc;
}

/* arg: the job of an ordered sample. */
static void live_partial(void *arg, uint64_t id,
                         const struct sample_partial *p) {
    const struct job *j = arg;
    (void)id; /* sample_run() has no ids */
    worker_partial(j->w, j->frame.id, j->op.sample.pieces, p);
}

static int do_live_sample(struct worker *w, struct trainer *tr, struct job *j,
                          struct result *res, struct err *err) {
    struct policy p = trainer_policy(tr);
    struct sampler s = {.model = w->model,
                        .kern = w->train.kern,
                        .net = trainer_net(tr),
                        .tok = w->tok,
                        .render = w->render,
                        .no_text = w->no_text.msg,
                        .partial = live_partial,
                        .arg = j};
    const struct render *own;
    if (lane_render(&w->train, trainer_op(tr)->renderer, &own, err) < 0)
        return -1;
    s.render = own ? own : s.render;
    return sample_run(&s, &p, &j->op.sample, res, err);
}

static int do_op(struct worker *w, struct job *j, struct result *res,
                 struct err *err) {
    const struct op *op = &j->op;
    if (op->kind == OP_CREATE)
        return do_create(w, op, err);
    struct hosted *s = slot_find(w, op->model);
    if (!s)
        return err_set(err, ERR_NOTFOUND, "no model %s in this worker",
                       op->model);
    switch (op->kind) {
    case OP_FORWARD: return trainer_pass(s->tr, &op->pass, false, res, err);
    case OP_FORWARD_BACKWARD:
        return trainer_pass(s->tr, &op->pass, true, res, err);
    case OP_OPTIM_STEP: return trainer_optim(s->tr, &op->optim, res, err);
    case OP_SAVE: return do_save(w, s->tr, op, res, err);
    case OP_LOAD: return do_load(w, s->tr, op, err);
    case OP_SAMPLE: return do_live_sample(w, s->tr, j, res, err);
    default:
        return err_set(err, ERR_INVAL, "%s is no ordered op",
                       op_kind_name(op->kind));
    }
}

static int do_snapshot(struct worker *w, const char *model, const char *dir,
                       struct result *res, struct err *err) {
    struct hosted *s = slot_find(w, model);
    int64_t bytes = 0;
    if (!s)
        return err_set(err, ERR_NOTFOUND, "no model %s in this worker", model);
    int rc = ckpt_save(dir, s->tr, CKPT_STATE, 0, &bytes, err);
    res->bytes = (uint64_t)bytes;
    return rc;
}

/* RESTORE, SNAPSHOT, UNLOAD: a model's id and mostly a directory. */
static int do_control(struct worker *w, const struct frame *f,
                      struct result *res, struct err *err) {
    struct cur c;
    cur_init(&c, f->data, f->len);
    char *model = cur_lstr(&c, WIRE_NAME_MAX);
    char *dir = f->type == FRAME_UNLOAD ? NULL : cur_lstr(&c, WIRE_PATH_MAX);
    int rc = 0;
    if (c.bad)
        rc = err_set(err, ERR_INVAL, "damaged frame");
    else if (f->type == FRAME_RESTORE)
        rc = do_restore(w, model, dir, err);
    else if (f->type == FRAME_SNAPSHOT)
        rc = do_snapshot(w, model, dir, res, err);
    else
        slot_drop(w, model);
    free(model);
    free(dir);
    return rc;
}

/* ---- sampling ---- */

/* The one that was used longest ago and that nobody needs. */
static struct cached *cache_victim(struct worker *w, struct err *err) {
    struct cached *old = NULL;
    for (int i = 0; i < WORKER_CACHE; i++) {
        struct cached *c = &w->cache[i];
        bool busy = c->policy && sched_uses(w->sched, c->version);
        if (!busy && (!old || c->used < old->used))
            old = c;
    }
    if (!old)
        err_set(err, ERR_BUSY, "%d checkpoints are being sampled from already",
                WORKER_CACHE);
    return old;
}

static struct weights *quant_of(struct worker *w, const struct weights *from,
                                enum precision p, struct err *err) {
    return weights_quant(from, w->sample.kern,
                         p == PRECISION_Q8 ? KERN_Q8 : KERN_Q4, err);
}

/* The base model's weights, which adapters share. */
static const struct weights *base_weights(struct worker *w, enum precision p,
                                          struct err *err) {
    if (p == PRECISION_EXACT)
        return model_weights(w->model);
    if (!w->base[p])
        w->base[p] = quant_of(w, model_weights(w->model), p, err);
    return w->base[p];
}

static void cache_drop(struct worker *w, struct cached *c) {
    if (c->policy)
        sched_forget(w->sched, c->version);
    weights_free(c->quant);
    ckpt_close(c->policy);
    *c = (struct cached){0};
}

static struct cached *cache_find(struct worker *w, const struct op_target *t) {
    for (int i = 0; i < WORKER_CACHE; i++) {
        struct cached *c = &w->cache[i];
        if (c->policy && c->precision == t->precision &&
            strcmp(c->id, t->ckpt) == 0)
            return c;
    }
    return NULL;
}

static struct cached *cache_get(struct worker *w, const struct op_target *t,
                                struct err *err) {
    struct cached *c = cache_find(w, t);
    if (c) {
        c->used = ++w->tick;
        return c;
    }
    c = check_id(t->ckpt, err) < 0 ? NULL : cache_victim(w, err);
    if (!c)
        return NULL;
    char *path = ckpt_path(w, t->ckpt);
    struct ckpt_policy *p = ckpt_open(path, w->model, w->sample.kern, err);
    free(path);
    if (!p)
        return NULL;
    struct weights *quant = NULL;
    if (t->precision && !ckpt_policy(p).adapter) {
        quant = quant_of(w, ckpt_policy(p).weights, t->precision, err);
        if (!quant) {
            ckpt_close(p);
            return NULL;
        }
    }
    cache_drop(w, c);
    *c =
        (struct cached){.precision = t->precision, .policy = p, .quant = quant};
    c->used = c->version = ++w->tick;
    snprintf(c->id, sizeof c->id, "%s", t->ckpt);
    return c;
}

/* What an unordered op runs on. */
struct target {
    struct policy policy;
    uint64_t version; /* number of these weights */
    const char *renderer;
};

static int target_get(struct worker *w, const struct op_target *t,
                      struct target *out, struct err *err) {
    struct cached *c = NULL;
    *out = (struct target){.version =
                               WORKER_BASE_VERSION + (uint64_t)t->precision};
    if (t->ckpt && *t->ckpt) {
        c = cache_get(w, t, err);
        if (!c)
            return -1;
        out->policy = ckpt_policy(c->policy);
        out->version = c->version;
        out->renderer = ckpt_renderer(c->policy);
    }
    if (c && c->quant)
        out->policy.weights = c->quant;
    else if (!c || out->policy.adapter) /* an adapter itself stays as it is */
        out->policy.weights = base_weights(w, t->precision, err);
    return out->policy.weights ? 0 : -1;
}

static void answer(struct worker *w, uint64_t id, struct result *res,
                   const struct err *err) {
    if (err)
        worker_error(w, id, err);
    else
        worker_result(w, id, res);
    result_release(res);
}

/* The job that the scheduler knows by this id. */
static struct job **sampling_at(struct worker *w, uint64_t id) {
    struct job **at = &w->sampling;
    while (*at && (*at)->frame.id != id)
        at = &(*at)->next;
    return at;
}

static void on_partial(void *arg, uint64_t id, const struct sample_partial *p) {
    struct worker *w = arg;
    worker_partial(w, id, (*sampling_at(w, id))->op.sample.pieces, p);
}

static void on_done(void *arg, uint64_t id, struct result *res,
                    const struct err *err) {
    struct worker *w = arg;
    struct job **at = sampling_at(w, id), *j = *at;
    answer(w, id, res, err);
    *at = j->next;
    job_free(j);
}

static struct sampler sampling_env(struct worker *w) {
    return (struct sampler){.model = w->model,
                            .kern = w->sample.kern,
                            .net = w->net,
                            .tok = w->tok,
                            .render = w->render,
                            .no_text = w->no_text.msg,
                            .partial = on_partial,
                            .arg = w};
}

/* Between two steps. */
static void do_logprobs(struct worker *w, struct job *j) {
    struct result res = {0};
    struct err err = {0};
    struct target t;
    struct sampler s = sampling_env(w);
    int64_t start = clock_mono_us();
    int rc = target_get(w, &j->op.logprobs.target, &t, &err);
    if (rc == 0)
        rc = sample_logprobs(&s, &t.policy, &j->op.logprobs, &res, &err);
    res.exec_us = (uint64_t)(clock_mono_us() - start);
    answer(w, j->frame.id, &res, rc < 0 ? &err : NULL);
    job_free(j);
}

static void sampling_job(struct worker *w, struct job *j) {
    struct err err = {0};
    struct target t;
    const struct render *render;
    if (j->frame.type == FRAME_CANCEL) {
        sched_cancel(w->sched, j->frame.id);
        job_free(j);
        return;
    }
    if (j->op.kind == OP_LOGPROBS) {
        do_logprobs(w, j);
        return;
    }
    if (target_get(w, &j->op.sample.target, &t, &err) < 0 ||
        lane_render(&w->sample, t.renderer, &render, &err) < 0 ||
        sched_add(w->sched, j->frame.id, t.version, &t.policy, render,
                  &j->op.sample, &err) < 0) {
        worker_error(w, j->frame.id, &err);
        job_free(j);
        return;
    }
    j->next = w->sampling;
    w->sampling = j;
}

/* New requests join between the steps of those that run. */
static void *sampling_main(void *arg) {
    struct worker *w = arg;
    struct queue *q = &w->sample.queue;
    for (bool busy = false;;) {
        struct job *j = queue_take(q, !busy);
        if (j) {
            sampling_job(w, j);
            busy = true;
            continue;
        }
        if (queue_stopped(q)) {
            sched_cancel_all(w->sched);
            while (sched_step(w->sched))
                ;
            return NULL;
        }
        busy = sched_step(w->sched);
    }
}

/* ---- training's thread ---- */

static void training_job(struct worker *w, struct job *j) {
    struct result res = {0};
    struct err err = {0};
    int64_t start = clock_mono_us();
    int rc = j->frame.type == FRAME_OP ? do_op(w, j, &res, &err)
                                       : do_control(w, &j->frame, &res, &err);
    res.exec_us = (uint64_t)(clock_mono_us() - start);
    answer(w, j->frame.id, &res, rc < 0 ? &err : NULL);
    job_free(j);
}

static void *training_main(void *arg) {
    struct worker *w = arg;
    for (struct job *j; (j = queue_take(&w->train.queue, true));)
        training_job(w, j);
    return NULL;
}

static int lane_open(struct worker *w, struct lane *l, struct err *err) {
    l->w = w;
    queue_init(&l->queue);
    int rc = kern_open(&l->kern, &(struct kern_opts){.device = w->o.device,
                                                     .threads = w->o.threads});
    return rc ? err_kern(err, rc, w->o.device) : 0;
}

static int lane_start(struct lane *l, void *(*main)(void *), struct err *err) {
    return pthread_create(&l->thread, NULL, main, l->w)
               ? err_set(err, ERR_NOMEM, "no thread could be made")
               : 0;
}

/* ---- reading ---- */

static void worker_op(struct worker *w, struct job *j) {
    struct err err = {0};
    if (op_decode(&j->op, j->frame.data, j->frame.len, &err) < 0) {
        worker_error(w, j->frame.id, &err);
        job_free(j);
        return;
    }
    bool unordered = j->op.kind == OP_LOGPROBS ||
                     (j->op.kind == OP_SAMPLE && j->op.seq == 0);
    queue_put(unordered ? &w->sample.queue : &w->train.queue, j);
}

/* 1 = go on, 0 = quit. */
static int worker_frame(struct worker *w, struct frame *f) {
    struct job *j = calloc(1, sizeof *j);
    struct result empty = {0};
    CHECK(j, "out of memory for a frame");
    j->w = w;
    j->frame = *f;
    switch (f->type) {
    case FRAME_OP: worker_op(w, j); return 1;
    case FRAME_RESTORE:
    case FRAME_SNAPSHOT:
    case FRAME_UNLOAD: queue_put(&w->train.queue, j); return 1;
    case FRAME_CANCEL: queue_put(&w->sample.queue, j); return 1;
    case FRAME_PING: worker_result(w, f->id, &empty); break;
    case FRAME_QUIT: job_free(j); return 0;
    default: break;
    }
    job_free(j);
    return 1;
}

static void worker_hello(struct worker *w) {
    struct buf b;
    buf_init(&b, 4096);
    buf_u32(&b, WORKER_VERSION);
    buf_lstr(&b, kern_describe(w->train.kern));
    buf_u64(&b, 0);
    worker_send(w, FRAME_HELLO, 0, &b);
    buf_release(&b);
}

static int worker_open(struct worker *w, struct err *err) {
    if (lane_open(w, &w->train, err) < 0 || lane_open(w, &w->sample, err) < 0)
        return -1;
    w->model = model_open(w->o.dir, w->train.kern, err);
    if (!w->model)
        return -1;
    w->net = net_new(w->model, w->sample.kern, err);
    w->tok = tok_open(w->o.dir, &w->no_text);
    if (w->tok)
        w->render = render_open("auto", w->tok, w->o.dir, &w->no_text);
    struct sched_opts o = {
        .s = sampling_env(w), .done = on_done, .pages = sample_pages(w->model)};
    w->sched = sched_new(&o, err);
    return w->sched ? 0 : -1;
}

static void worker_release(struct worker *w) {
    for (int i = 0; i < w->n_hosted; i++)
        trainer_free(w->hosted[i].tr);
    free(w->hosted);
    for (int i = 0; i < WORKER_CACHE; i++)
        cache_drop(w, &w->cache[i]);
    for (int i = 0; i < PRECISION_N; i++)
        weights_free(w->base[i]);
    sched_free(w->sched);
    net_free(w->net);
    lane_drop_renders(&w->train);
    lane_drop_renders(&w->sample);
    render_close(w->render);
    tok_close(w->tok);
    model_close(w->model);
    struct kern *k[] = {w->train.kern, w->sample.kern};
    for (int i = 0; i < 2; i++)
        if (k[i])
            k[i]->ops->close(k[i]);
    free(w);
}

int engine_worker(const struct engine_opts *o, struct err *err) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct worker *w = calloc(1, sizeof *w);
    CHECK(w, "out of memory for a worker");
    w->o = *o;
    pthread_mutex_init(&w->out, NULL);
    int rc = worker_open(w, err);
    if (rc < 0) {
        worker_error(w, 0, err);
        worker_release(w);
        return -1;
    }
    worker_hello(w);
    if (lane_start(&w->train, training_main, err) < 0 ||
        lane_start(&w->sample, sampling_main, err) < 0)
        return -1;
    struct frame f;
    int got;
    while ((got = frame_read(o->fd, &f, err)) == 1 && worker_frame(w, &f))
        ;
    if (got != 1) /* the daemon is gone: whatever runs is not wanted */
        _exit(0);
    queue_stop(&w->train.queue);
    queue_stop(&w->sample.queue);
    pthread_join(w->train.thread, NULL);
    pthread_join(w->sample.thread, NULL);
    worker_release(w);
    return 0;
}
