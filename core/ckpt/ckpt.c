/* ckpt: a trainer to a directory and back; a directory for sampling. */
#include "core/ckpt/int.h"

#include "core/fs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One tensor of a file: which part of which parameter. */
struct piece {
    enum train_part part;
    int param;
    char name[192];
};

struct save {
    struct trainer *tr;
    struct piece *piece; /* (n) */
    struct st_out *out;  /* (n) */
    int n;
};

static const char *const part_prefix[TRAIN_PARTS] = {
    [TRAIN_WEIGHTS] = "", [TRAIN_M] = "m.",
    [TRAIN_V] = "v.",     [TRAIN_GRAD] = "grad.",
    [TRAIN_LOW] = "low.", [TRAIN_GRAD_LOOKUP] = "grad_lookup.",
};

static void save_add(struct save *s, enum train_part part) {
    for (int i = 0; i < trainer_count(s->tr); i++) {
        const struct train_param *p = trainer_param(s->tr, i);
        if (part == TRAIN_GRAD_LOOKUP && !p->has_lookup)
            continue;
        struct piece *x = &s->piece[s->n];
        *x = (struct piece){.part = part, .param = i};
        snprintf(x->name, sizeof x->name, "%s%s", part_prefix[part], p->name);
        s->out[s->n] =
            (struct st_out){.name = x->name,
                            .dtype = KERN_F32,
                            .rank = p->rank,
                            .shape = {p->shape[0], p->shape[1], p->shape[2]}};
        s->n++;
    }
}

static struct save save_new(struct trainer *tr) {
    size_t most = (size_t)trainer_count(tr) * TRAIN_PARTS + 1;
    struct save s = {.tr = tr};
    s.piece = calloc(most, sizeof *s.piece);
    s.out = calloc(most, sizeof *s.out);
    CHECK(s.piece && s.out, "out of memory for a checkpoint");
    return s;
}

static void save_release(struct save *s) {
    free(s->piece);
    free(s->out);
}

static int save_fill(void *arg, int i, void *out, struct err *err) {
    struct save *s = arg;
    return trainer_read(s->tr, s->piece[i].part, s->piece[i].param, out, err);
}

static int64_t save_bytes(const struct save *s) {
    int64_t n = 0;
    for (int i = 0; i < s->n; i++)
        n += st_out_bytes(&s->out[i]) + 256;
    return n;
}

static int save_file(const char *dir, const char *name, struct save *s,
                     const struct st_meta_kv *meta, int n_meta,
                     struct err *err) {
    char *path = fs_path("%s/%s", dir, name);
    int rc = space_check(path, save_bytes(s), err);
    if (rc == 0)
        rc = st_write(path, s->out, s->n, meta, n_meta, save_fill, s, err);
    free(path);
    return rc;
}

static int save_weights(const char *dir, struct trainer *tr,
                        const struct manifest *m, struct err *err) {
    static const struct st_meta_kv meta[] = {{"format", "pt"}};
    struct save s = save_new(tr);
    save_add(&s, TRAIN_WEIGHTS);
    int rc = save_file(dir, m->lora_rank ? CKPT_ADAPTER : CKPT_MODEL, &s, meta,
                       1, err);
    if (rc == 0 && m->lora_rank) {
        char *conf = fs_path("%s/%s", dir, CKPT_ADAPTER_CONF);
        rc = peft_conf_write(conf, m, tr, err);
        free(conf);
    } else if (rc == 0) {
        rc = base_files_copy(model_dir(trainer_model(tr)), dir, err);
    }
    save_release(&s);
    return rc;
}

static int save_optimizer(const char *dir, struct trainer *tr,
                          struct err *err) {
    char steps[32];
    snprintf(steps, sizeof steps, "%lld", (long long)trainer_steps(tr));
    const struct st_meta_kv meta[] = {
        {"pending", trainer_pending(tr) ? "1" : "0"}, {"steps", steps}};
    struct save s = save_new(tr);
    save_add(&s, TRAIN_M);
    save_add(&s, TRAIN_V);
    if (trainer_op(tr)->tuning == TUNE_BF16)
        save_add(&s, TRAIN_LOW);
    if (trainer_pending(tr)) {
        save_add(&s, TRAIN_GRAD);
        save_add(&s, TRAIN_GRAD_LOOKUP);
    }
    int rc = save_file(dir, CKPT_OPTIMIZER, &s, meta, 2, err);
    save_release(&s);
    return rc;
}

static struct manifest manifest_of(const struct trainer *tr,
                                   enum ckpt_kind kind, uint64_t seq) {
    const struct op_create *op = trainer_op(tr);
    struct manifest m = {.kind = kind,
                         .step = (uint64_t)trainer_steps(tr),
                         .seq = seq,
                         .lora_rank = op->lora_rank,
                         .lora_alpha = op->lora_alpha,
                         .seed = op->seed,
                         .train_attn = op->train_attn,
                         .train_mlp = op->train_mlp,
                         .train_unembed = op->train_unembed,
                         .tuning = op->tuning};
    snprintf(m.base, sizeof m.base, "%s", op->base);
    snprintf(m.renderer, sizeof m.renderer, "%s", op->renderer);
    return m;
}

/* The directory that is there already: the same state, or somebody else's. */
static int save_kept(const char *path, const struct manifest *want,
                     int64_t *bytes, struct err *err) {
    struct manifest have;
    if (ckpt_verify(path, &have, err) < 0)
        return -1;
    *bytes = have.bytes;
    have.bytes = want->bytes;
    bool same = have.kind == want->kind && have.step == want->step &&
                have.seq == want->seq && have.lora_rank == want->lora_rank &&
                strcmp(have.base, want->base) == 0;
    return same ? 0
                : err_set(err, ERR_EXISTS,
                          "save %s: another checkpoint has this name", path);
}

int ckpt_save(const char *path, struct trainer *tr, enum ckpt_kind kind,
              uint64_t seq, int64_t *bytes, struct err *err) {
    struct manifest m = manifest_of(tr, kind, seq);
    if (fs_exists(path))
        return save_kept(path, &m, bytes, err);
    char *parent = fs_path("%s", path), *slash = strrchr(parent, '/');
    if (slash)
        *slash = 0;
    int rc = slash ? fs_mkdirs(parent, err) : 0;
    free(parent);
    char *tmp = rc == 0 ? tmp_dir_new(path, err) : NULL;
    if (!tmp)
        return -1;
    rc = save_weights(tmp, tr, &m, err);
    if (rc == 0 && kind == CKPT_STATE)
        rc = save_optimizer(tmp, tr, err);
    if (rc == 0)
        rc = manifest_write(tmp, &m, err);
    if (rc == 0) { /* sizes only: these bytes were just written */
        struct manifest back;
        json_t *files, *f;
        size_t i;
        rc = manifest_read(tmp, &back, &files, err);
        *bytes = back.bytes;
        json_array_foreach(files, i, f) *bytes +=
            json_integer_value(json_object_get(f, "size"));
        json_decref(files);
    }
    if (rc == 0)
        rc = fs_dir_commit(tmp, path, err);
    if (rc < 0) {
        struct err ignored = {0};
        fs_remove_tree(tmp, &ignored);
    }
    free(tmp);
    return rc;
}

/* ---- loading ---- */

static int load_check(const struct manifest *m, const struct trainer *tr,
                      struct err *err) {
    const struct op_create *op = trainer_op(tr);
    if (m->lora_rank != op->lora_rank || m->train_attn != op->train_attn ||
        m->train_mlp != op->train_mlp || m->train_unembed != op->train_unembed)
        return err_set(err, ERR_CONFLICT,
                       "the checkpoint has lora_rank %u (attn %d, mlp %d, "
                       "unembed %d), this model %u (%d, %d, %d)",
                       m->lora_rank, m->train_attn, m->train_mlp,
                       m->train_unembed, op->lora_rank, op->train_attn,
                       op->train_mlp, op->train_unembed);
    return 0;
}

/* Every tensor of the parts is in st with the right shape. */
static int load_pieces(struct save *s, const struct st *st, bool write,
                       struct err *err) {
    for (int i = 0; i < s->n; i++) {
        const struct st_tensor *t = st_find(st, s->piece[i].name);
        if (!t || t->dtype != KERN_F32 || t->bytes != st_out_bytes(&s->out[i]))
            return err_set(err, ERR_CORRUPT,
                           "tensor %s is missing or has another shape",
                           s->piece[i].name);
        if (write && trainer_write(s->tr, s->piece[i].part, s->piece[i].param,
                                   t->data, err) < 0)
            return -1;
    }
    return 0;
}

int ckpt_load(const char *path, struct trainer *tr, bool optimizer,
              struct err *err) {
    struct manifest m;
    if (ckpt_verify(path, &m, err) < 0)
        return -1;
    char *wp = fs_path("%s/%s", path, m.lora_rank ? CKPT_ADAPTER : CKPT_MODEL);
    char *op = fs_path("%s/%s", path, CKPT_OPTIMIZER);
    struct save w = save_new(tr), o = save_new(tr);
    struct st *ws = NULL, *os = NULL;
    bool pending = false;
    int64_t steps = 0;
    int rc = load_check(&m, tr, err);
    if (rc == 0 && optimizer && m.tuning != trainer_op(tr)->tuning)
        rc =
            err_set(err, ERR_CONFLICT,
                    "the checkpoint has precision %s, this model %s (load it "
                    "without the optimizer)",
                    tuning_name(m.tuning), tuning_name(trainer_op(tr)->tuning));
    if (rc == 0 && optimizer && m.kind != CKPT_STATE)
        rc = err_set(err, ERR_CONFLICT,
                     "a sampler checkpoint has no optimizer state (load it "
                     "without, or use a state checkpoint)");
    if (rc == 0)
        rc = (ws = st_open_file(wp, err)) ? 0 : -1;
    if (rc == 0 && optimizer)
        rc = (os = st_open_file(op, err)) ? 0 : -1;
    save_add(&w, TRAIN_WEIGHTS);
    if (rc == 0 && os) {
        const char *p = st_meta(os, "pending"), *n = st_meta(os, "steps");
        pending = p && strcmp(p, "1") == 0;
        steps = n ? strtoll(n, NULL, 10) : 0;
        save_add(&o, TRAIN_M);
        save_add(&o, TRAIN_V);
        if (m.tuning == TUNE_BF16)
            save_add(&o, TRAIN_LOW);
        if (pending) {
            save_add(&o, TRAIN_GRAD);
            save_add(&o, TRAIN_GRAD_LOOKUP);
        }
    }
    for (int write = 0; rc == 0 && write < 2; write++) {
        rc = load_pieces(&w, ws, write, err);
        if (rc == 0 && os)
            rc = load_pieces(&o, os, write, err);
    }
    if (rc == 0 && os)
        trainer_set(tr, steps, pending);
    st_close(ws);
    st_close(os);
    save_release(&w);
    save_release(&o);
    free(wp);
    free(op);
    return rc < 0 ? err_ctx(err, "load checkpoint %s", path) : 0;
}

struct op_create ckpt_create(const struct manifest *m) {
    return (struct op_create){.base = (char *)m->base,
                              .from = "",
                              .lora_rank = m->lora_rank,
                              .lora_alpha = m->lora_alpha,
                              .seed = m->seed,
                              .train_attn = m->train_attn,
                              .train_mlp = m->train_mlp,
                              .train_unembed = m->train_unembed,
                              .tuning = m->tuning,
                              .renderer = (char *)m->renderer};
}

/* ---- for sampling ---- */

struct ckpt_policy {
    const struct model *base;
    struct model *own; /* full weights: the checkpoint is a model directory */
    struct adapter *adapter;
    char renderer[WIRE_NAME_MAX];
};

static int policy_adapter(struct ckpt_policy *p, const char *path,
                          const struct manifest *m, struct kern *k,
                          struct err *err) {
    struct lora_conf c = {.rank = (int32_t)m->lora_rank,
                          .alpha = m->lora_alpha,
                          .attn = m->train_attn,
                          .mlp = m->train_mlp,
                          .unembed = m->train_unembed};
    char *file = fs_path("%s/%s", path, CKPT_ADAPTER);
    struct st *st = st_open_file(file, err);
    p->adapter = st ? adapter_new(p->base, k, &c, m->seed, err) : NULL;
    int rc = p->adapter ? 0 : -1;
    for (int i = 0; rc == 0 && i < 2 * p->adapter->n; i++) {
        const struct lora_pair *x = &p->adapter->pair[i / 2];
        char name[192];
        snprintf(name, sizeof name, "%s.lora_%c.weight", x->name,
                 i % 2 ? 'B' : 'A');
        const struct st_tensor *t = st_find(st, name);
        size_t bytes =
            (size_t)c.rank * (size_t)(i % 2 ? x->out : x->in) * sizeof(float);
        if (!t || t->dtype != KERN_F32 || (size_t)t->bytes != bytes)
            rc = err_set(err, ERR_CORRUPT,
                         "tensor %s is missing or has another shape", name);
        else if (k->ops->copy_in(k, i % 2 ? x->b : x->a, t->data, bytes))
            rc = err_kern(err, KERN_EDEVICE, name);
    }
    st_close(st);
    free(file);
    return rc;
}

struct ckpt_policy *ckpt_open(const char *path, const struct model *base,
                              struct kern *k, struct err *err) {
    struct manifest m;
    if (ckpt_verify(path, &m, err) < 0)
        return NULL;
    struct ckpt_policy *p = calloc(1, sizeof *p);
    CHECK(p, "out of memory for a checkpoint");
    p->base = base;
    memcpy(p->renderer, m.renderer, sizeof p->renderer);
    int rc;
    if (m.lora_rank)
        rc = policy_adapter(p, path, &m, k, err);
    else
        rc = (p->own = model_open(path, k, err)) ? 0 : -1;
    if (rc == 0)
        return p;
    err_ctx(err, "open checkpoint %s", path);
    ckpt_close(p);
    return NULL;
}

void ckpt_close(struct ckpt_policy *p) {
    if (!p)
        return;
    adapter_free(p->adapter);
    model_close(p->own);
    free(p);
}

struct policy ckpt_policy(const struct ckpt_policy *p) {
    return (struct policy){.weights = model_weights(p->own ? p->own : p->base),
                           .adapter = p->adapter};
}

const char *ckpt_renderer(const struct ckpt_policy *p) { return p->renderer; }
