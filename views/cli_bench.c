/*
 * bench: what this machine does beside what it could. Every figure is taken
 * in rounds, the ceiling first and then the work, so that both see the same
 * neighbours; medians of each, and their ratio.
 */
#include "views/cli.h"

#include "core/clock.h"
#include "core/train.h"

#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS_MAX 64
#define BENCH_T 512            /* tokens of a step */
#define BENCH_READ (64 << 20)  /* floats that no cache holds */
#define BENCH_ADAMW (24 << 20) /* parameters */
#define BENCH_LEAST_US 20000   /* a measurement is at least so long */
#define BENCH_HEAD_ROWS 256

/* Four layers of Qwen2.5-0.5B's width, 88 M parameters. */
static const struct conf bench_conf = {
    .family = "qwen2",
    .C = 896,
    .L = 4,
    .H = 14,
    .K = 2,
    .D = 64,
    .F = 4864,
    .V = 32000,
    .max_pos = 4096,
    .has = HAS_NORMS_LLAMA | HAS_SPLIT_QKV | HAS_SPLIT_MLP | HAS_QKV_BIAS,
    .norm_eps = 1e-6f,
    .embed_scale = 1,
    .attn_scale = 0.125f,
    .act = KERN_SILU,
    .tied = true,
    .rope = {{.theta = 1e6, .factor = 1, .scale = 1},
             {.theta = 1e6, .factor = 1, .scale = 1}},
    .rot = 64,
    .bos = -1,
    .pad = -1,
};

struct bench {
    struct cli *c;
    struct kern *k;
    int rounds;
    float *x, *y, *z; /* dev (BENCH_READ) each, drawn */
    int32_t *ints;    /* dev (BENCH_T): targets; 0 and T */
    struct model *model;
    struct trainer *full, *lora;
    struct net *net;
    struct kv *kv;
    uint32_t n, tokens[BENCH_T], targets[BENCH_T]; /* a step's */
    float weights[BENCH_T];
    json_t *rows;
};

/* One figure: `amount` FLOP, bytes or tokens a run. */
struct figure {
    const char *name, *unit;
    double scale; /* of the unit */
    enum { AGAINST_FMA, AGAINST_READ } ceiling;
    double amount; /* work of a run, in the ceiling's unit */
    double shown;  /* the same in the row's own unit, 0 = as amount */
    int (*run)(struct bench *b, const void *arg, struct err *err);
    const void *arg;
};

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *x, int n) {
    qsort(x, (size_t)n, sizeof *x, by_size);
    return n % 2 ? x[n / 2] : 0.5 * (x[n / 2 - 1] + x[n / 2]);
}

static int bench_ceiling(struct bench *b, int against, double *per_s,
                         struct err *err) {
    struct kern_probe p = {.what = against == AGAINST_FMA ? KERN_PROBE_FMA
                                                          : KERN_PROBE_READ,
                           .x = b->x,
                           .n = BENCH_READ,
                           .per_s = per_s};
    int rc = b->k->ops->probe(b->k, &p);
    return rc ? err_kern(err, rc, "ceiling") : 0;
}

/* Seconds of a run, averaged over as many as make BENCH_LEAST_US. */
static int bench_time(struct bench *b, const struct figure *f, double *s,
                      struct err *err) {
    int64_t start = clock_mono_us(), now = start;
    int n = 0;
    while (n == 0 || now - start < BENCH_LEAST_US) {
        if (f->run(b, f->arg, err) < 0)
            return -1;
        n++;
        now = clock_mono_us();
    }
    *s = 1e-6 * (double)(now - start) / n;
    return 0;
}

static void bench_print(struct bench *b, const struct figure *f, double s,
                        double least, double top) {
    double figure = (f->shown != 0 ? f->shown : f->amount) / s / f->scale;
    double ratio = f->amount / s / top;
    const char *ceiling = f->ceiling == AGAINST_FMA ? "fma" : "read";
    if (!b->c->json)
        printf("%-26s %9.2f %-8s %9.3f ms  %5.3f of %s %.1f %s\n", f->name,
               figure, f->unit, 1e3 * s, ratio, ceiling, top * 1e-9,
               f->ceiling == AGAINST_FMA ? "GFLOP/s" : "GB/s");
    fflush(stdout);
    json_array_append_new(
        b->rows, json_pack("{s:s, s:f, s:s, s:f, s:f, s:s, s:f, s:f}", "name",
                           f->name, "figure", figure, "unit", f->unit,
                           "seconds", s, "least_seconds", least, "ceiling",
                           ceiling, "ceiling_per_s", top, "ratio", ratio));
}

static int bench_row(struct bench *b, const struct figure *f, struct err *err) {
    double s[ROUNDS_MAX], top[ROUNDS_MAX];
    if (f->run(b, f->arg, err) < 0) /* to warm up */
        return -1;
    for (int i = 0; i < b->rounds; i++)
        if (bench_ceiling(b, f->ceiling, &top[i], err) < 0 ||
            bench_time(b, f, &s[i], err) < 0)
            return -1;
    double middle = median(s, b->rounds);
    bench_print(b, f, middle, s[0], median(top, b->rounds));
    return 0;
}

/* getrusage() counts what the parent had before exec(), too. */
double cli_peak_mib(void) {
    double mib = 0;
    char *line = NULL;
    size_t room = 0;
    FILE *f = fopen("/proc/self/status", "re");
    while (f && getline(&line, &room, f) > 0)
        if (strncmp(line, "VmHWM:", 6) == 0)
            mib = strtod(line + 6, NULL) / 1024;
    free(line);
    if (f)
        fclose(f);
    return mib;
}

/* ---- matrix products ---- */

/* Dense matrices, f32; where they are is the caller's. */
static struct kern_mm mm_of(enum kern_mm_form form, int32_t m, int32_t n,
                            int32_t k) {
    return (struct kern_mm){.form = form,
                            .m = m,
                            .n = n,
                            .k = k,
                            .lda = form == KERN_TN ? m : k,
                            .ldb = form == KERN_NT ? k : n,
                            .ldc = n};
}

static int run_mm(struct bench *b, const void *arg, struct err *err) {
    const struct kern_mm *m = arg;
    struct kern_mm a = mm_of(m->form, m->m, m->n, m->k);
    a.a = b->x;
    a.b = b->y;
    a.bt = m->bt;
    a.c = b->z;
    a.acc = m->acc;
    int rc = b->k->ops->mm(b->k, &a);
    return rc ? err_kern(err, rc, "mm") : 0;
}

static const struct {
    const char *name;
    struct kern_mm mm;
} bench_mms[] = {
    {"mm NT 512x4864x896", {.form = KERN_NT, .m = 512, .n = 4864, .k = 896}},
    {"mm NT 512x896x4864", {.form = KERN_NT, .m = 512, .n = 896, .k = 4864}},
    {"mm NT 512x4864x896 bf16",
     {.form = KERN_NT, .m = 512, .n = 4864, .k = 896, .bt = KERN_BF16}},
    {"mm NN 512x896x4864", {.form = KERN_NN, .m = 512, .n = 896, .k = 4864}},
    {"mm NN 512x896x4864 bf16",
     {.form = KERN_NN, .m = 512, .n = 896, .k = 4864, .bt = KERN_BF16}},
    {"mm TN 4864x896x512 acc",
     {.form = KERN_TN, .m = 4864, .n = 896, .k = 512, .acc = true}},
    {"mm TN 896x4864x512 acc",
     {.form = KERN_TN, .m = 896, .n = 4864, .k = 512, .acc = true}},
    {"mm NT 512x16x896", {.form = KERN_NT, .m = 512, .n = 16, .k = 896}},
    {"mm NT 512x4864x16 acc",
     {.form = KERN_NT, .m = 512, .n = 4864, .k = 16, .acc = true}},
};

static int bench_mm(struct bench *b, struct err *err) {
    for (size_t i = 0; i < sizeof bench_mms / sizeof *bench_mms; i++) {
        const struct kern_mm *m = &bench_mms[i].mm;
        struct figure f = {.name = bench_mms[i].name,
                           .unit = "GFLOP/s",
                           .scale = 1e9,
                           .amount = 2.0 * m->m * m->n * m->k,
                           .run = run_mm,
                           .arg = m};
        if (bench_row(b, &f, err) < 0)
            return -1;
    }
    return 0;
}

/* ---- oneDNN, where its library lies about ---- */

typedef int dnnl_sgemm_fn(char ta, char tb, int64_t m, int64_t n, int64_t k,
                          float alpha, const float *a, int64_t lda,
                          const float *b, int64_t ldb, float beta, float *c,
                          int64_t ldc);

static int run_dnnl(struct bench *b, const void *arg, struct err *err) {
    dnnl_sgemm_fn *sgemm;
    memcpy(&sgemm, arg, sizeof sgemm);
    int rc =
        sgemm('N', 'T', 512, 4864, 896, 1, b->x, 896, b->y, 896, 0, b->z, 4864);
    return rc ? err_set(err, ERR_DEVICE, "dnnl_sgemm: status %d", rc) : 0;
}

static int bench_dnnl(struct bench *b, struct err *err) {
    static const char *const names[] = {"libdnnl.so.3", "libdnnl.so.2",
                                        "libdnnl.so"};
    void *lib = NULL, *sgemm = NULL;
    /* Its threads are OpenMP's, which would spin while others are measured. */
    setenv("OMP_WAIT_POLICY", "passive", false);
    for (int i = 0; i < 3 && !lib; i++)
        lib = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (lib)
        sgemm = dlsym(lib, "dnnl_sgemm");
    if (!sgemm) {
        if (!b->c->json)
            printf("%-26s not installed\n", "oneDNN NT 512x4864x896");
        return 0;
    }
    struct figure f = {.name = "oneDNN NT 512x4864x896",
                       .unit = "GFLOP/s",
                       .scale = 1e9,
                       .amount = 2.0 * 512 * 4864 * 896,
                       .run = run_dnnl,
                       .arg = &sgemm};
    return bench_row(b, &f, err); /* the library stays: its threads run */
}

/* ---- the other kernels, in the shapes of a step ---- */

static struct kern_attn attn_of(const struct bench *b) {
    const struct conf *c = &bench_conf;
    int64_t hd = (int64_t)c->H * c->D, kd = (int64_t)c->K * c->D, T = BENCH_T;
    struct kern_attn a = {.T = BENCH_T,
                          .n_seq = 1,
                          .H = c->H,
                          .K = c->K,
                          .D = c->D,
                          .start = b->ints + BENCH_T,
                          .max_len = BENCH_T,
                          .scale = 0.125f,
                          .ldq = hd,
                          .ldk = kd,
                          .ldv = kd,
                          .ldo = hd};
    float *z = b->z;
    a.q = b->x;
    a.k = b->y;
    a.v = b->y + T * kd;
    a.o = z;
    a.lse = z + T * hd;
    a.d_o = b->x + T * hd;
    a.dq = z + 2 * T * hd;
    a.dk = z + 3 * T * hd;
    a.dv = z + 4 * T * hd;
    return a;
}

static int run_attn(struct bench *b, const void *arg, struct err *err) {
    struct kern_attn a = attn_of(b);
    int rc = arg ? b->k->ops->attn_bwd(b->k, &a) : b->k->ops->attn(b->k, &a);
    return rc ? err_kern(err, rc, "attn") : 0;
}

static int run_norm(struct bench *b, const void *arg, struct err *err) {
    const struct conf *c = &bench_conf;
    struct kern_norm a = {.rows = BENCH_T,
                          .C = c->C,
                          .eps = c->norm_eps,
                          .x = b->x,
                          .ldx = c->C,
                          .w = b->y,
                          .y = b->z,
                          .ldy = c->C};
    (void)arg;
    int rc = b->k->ops->rmsnorm(b->k, &a);
    return rc ? err_kern(err, rc, "rmsnorm") : 0;
}

static int run_glu(struct bench *b, const void *arg, struct err *err) {
    struct kern_glu a = {.T = BENCH_T,
                         .F = bench_conf.F,
                         .gate = b->x,
                         .up = b->y,
                         .ldg = bench_conf.F,
                         .y = b->z};
    (void)arg;
    int rc = b->k->ops->glu(b->k, &a);
    return rc ? err_kern(err, rc, "glu") : 0;
}

/* Linear map to the vocabulary, cross-entropy, and both gradients. */
static int run_head(struct bench *b, const void *arg, struct err *err) {
    const struct kern_ops *ops = b->k->ops;
    int32_t V = bench_conf.V, C = bench_conf.C, rows = BENCH_HEAD_ROWS;
    float *logits = b->z, *rest = b->z + (int64_t)rows * V;
    float *g = rest + 2 * rows, *dh = rest + 4 * rows;
    struct kern_xent x = {.rows = rows,
                          .V = V,
                          .k = 1,
                          .logits = logits,
                          .ld = V,
                          .targets = b->ints,
                          .logprobs = rest,
                          .lse = rest + rows,
                          .g = g};
    struct kern_mm nt = mm_of(KERN_NT, rows, V, C),
                   nn = mm_of(KERN_NN, rows, C, V);
    struct kern_mm tn = mm_of(KERN_TN, V, C, rows);
    nt.a = tn.b = b->x;
    nt.b = nn.b = b->y;
    nt.c = logits;
    nn.a = tn.a = logits;
    nn.c = dh;
    tn.c = b->y;
    tn.acc = true;
    (void)arg;
    int rc = ops->mm(b->k, &nt);
    rc = rc ? rc : ops->xent(b->k, &x);
    rc = rc ? rc : ops->zero(b->k, g, (size_t)rows * sizeof *g);
    rc = rc ? rc : ops->copy_in(b->k, g, b->weights, (size_t)rows * sizeof *g);
    rc = rc ? rc : ops->xent_bwd(b->k, &x);
    rc = rc ? rc : ops->mm(b->k, &nn);
    rc = rc ? rc : ops->mm(b->k, &tn);
    return rc ? err_kern(err, rc, "head") : 0;
}

static int run_adamw(struct bench *b, const void *arg, struct err *err) {
    int64_t n = BENCH_ADAMW;
    struct kern_adamw a = {.n = n,
                           .p = b->x,
                           .m = b->x + n,
                           .v = b->z,
                           .g = b->z + n,
                           .gscale = 1,
                           .lr = 0,
                           .beta1 = 0.9f,
                           .beta2 = 0.999f,
                           .eps = 1e-8f,
                           .bias1 = 0.1f,
                           .bias2 = 0.001f};
    (void)arg;
    int rc = b->k->ops->adamw(b->k, &a);
    return rc ? err_kern(err, rc, "adamw") : 0;
}

static int bench_kernels(struct bench *b, struct err *err) {
    const struct conf *c = &bench_conf;
    double T = BENCH_T, attn = 2.0 * c->H * c->D * T * (T + 1);
    double V = c->V, C = c->C;
    const struct figure rows[] = {
        {"attention forward", "GFLOP/s", 1e9, AGAINST_FMA, attn, 0, run_attn,
         NULL},
        {"attention backward", "GFLOP/s", 1e9, AGAINST_FMA, 2.5 * attn, 0,
         run_attn, ""},
        {"head + cross-entropy", "GFLOP/s", 1e9, AGAINST_FMA,
         6.0 * BENCH_HEAD_ROWS * V * C, 0, run_head, NULL},
        {"rmsnorm", "GB/s", 1e9, AGAINST_READ, 8 * T * C, 0, run_norm, NULL},
        {"glu", "GB/s", 1e9, AGAINST_READ, 12 * T * c->F, 0, run_glu, NULL},
        {"adamw", "GB/s", 1e9, AGAINST_READ, 28.0 * BENCH_ADAMW, 0, run_adamw,
         NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (bench_row(b, &rows[i], err) < 0)
            return -1;
    return 0;
}

/* ---- a model ---- */

static double params_of(const struct conf *c) {
    double attn = (double)c->C * (2 * c->H + 2 * c->K) * c->D;
    return c->L * (attn + 3.0 * c->C * c->F) + (double)c->V * c->C;
}

/* FLOP a step: 6 a parameter and token, 4 where weights get no gradient. */
static double step_flop(const struct conf *c, double per) {
    double T = BENCH_T;
    return T * (per * params_of(c) + 6.0 * c->L * c->H * c->D * T);
}

/* The fixed batch of every step: tests/bench/torch_step.py draws it alike. */
static void bench_tokens(struct bench *b, int32_t V) {
    for (uint32_t t = 0; t <= BENCH_T; t++) {
        uint32_t token = (t * 7919 + t * t % 1013) % (uint32_t)V;
        if (t < BENCH_T)
            b->tokens[t] = token;
        if (t > 0)
            b->targets[t - 1] = token;
    }
    for (int t = 0; t < BENCH_T; t++)
        b->weights[t] = 1;
}

static struct trainer *bench_trainer(struct bench *b, uint32_t rank,
                                     struct err *err) {
    struct op_create op = {.base = "bench",
                           .from = "",
                           .lora_rank = rank,
                           .lora_alpha = 2 * (float)rank,
                           .train_attn = true,
                           .train_mlp = true};
    return trainer_new(b->model, b->k, &op, err);
}

static double result_value(const struct result *r, const char *name) {
    for (uint32_t i = 0; i < r->n_metrics; i++)
        if (strcmp(r->metrics[i].name, name) == 0)
            return r->metrics[i].value;
    return NAN;
}

/* forward_backward and optim_step; the loss a token. */
static int bench_step(struct bench *b, struct trainer *tr, double *loss,
                      struct err *err) {
    struct datum d = {.n = b->n,
                      .k = 1,
                      .tokens = b->tokens,
                      .targets = b->targets,
                      .field = {[DATUM_WEIGHTS] = b->weights}};
    struct op_pass pass = {.loss = LOSS_CROSS_ENTROPY,
                           .clip_low = NAN,
                           .clip_high = NAN,
                           .beta = NAN,
                           .n = 1,
                           .datums = &d};
    struct op_optim optim = {.lr = 1e-4,
                             .beta1 = 0.9,
                             .beta2 = 0.999,
                             .eps = 1e-8,
                             .weight_decay = 0.01,
                             .grad_clip_norm = 1e9};
    struct result r = {0};
    int rc = trainer_pass(tr, &pass, true, &r, err);
    *loss = rc == 0 ? result_value(&r, "loss:sum") / b->n : NAN;
    result_release(&r);
    if (rc == 0)
        rc = trainer_optim(tr, &optim, &r, err);
    result_release(&r);
    return rc;
}

static int run_step(struct bench *b, const void *arg, struct err *err) {
    double loss;
    return bench_step(b, arg ? b->lora : b->full, &loss, err);
}

/* One token behind BENCH_T cached ones. */
static int run_decode(struct bench *b, const void *arg, struct err *err) {
    int32_t token = 1, seq = 0, pos = BENCH_T, row = 0;
    int32_t table[BENCH_T / KERN_PAGE + 1];
    for (int i = 0; i <= BENCH_T / KERN_PAGE; i++)
        table[i] = i;
    struct net_step s = {.T = 1,
                         .tokens = &token,
                         .seq = &seq,
                         .pos = &pos,
                         .n_seq = 1,
                         .max_blocks = BENCH_T / KERN_PAGE + 1,
                         .table = table,
                         .n_rows = 1,
                         .rows = &row,
                         .logits = b->z};
    struct policy p = {.weights = model_weights(b->model)};
    (void)arg;
    return net_step(b->net, &p, b->kv, &s, err);
}

static int bench_decode(struct bench *b, struct err *err) {
    int pages = BENCH_T / KERN_PAGE + 1;
    b->net = net_new(b->model, b->k, err);
    b->kv = b->net ? kv_new(b->model, b->k, pages, err) : NULL;
    if (!b->kv)
        return -1;
    for (int i = 0; i < pages; i++)
        kv_take(b->kv);
    double kv = (double)kv_page_bytes(b->model) * BENCH_T / KERN_PAGE;
    struct figure f = {
        "decode, 512 cached, bf16",      "tok/s", 1,          AGAINST_READ,
        2 * params_of(&bench_conf) + kv, 1,       run_decode, NULL};
    return bench_row(b, &f, err);
}

static int bench_model(struct bench *b, struct err *err) {
    const struct conf *c = &bench_conf;
    struct figure full = {"training step, full", "tok/s", 1,        AGAINST_FMA,
                          step_flop(c, 6),       BENCH_T, run_step, NULL};
    struct figure lora = {
        "training step, LoRA 16", "tok/s", 1,        AGAINST_FMA,
        step_flop(c, 4),          BENCH_T, run_step, ""};
    b->model = model_random(c, b->k, 1, err);
    if (!b->model || bench_decode(b, err) < 0)
        return -1;
    bench_tokens(b, c->V);
    b->lora = bench_trainer(b, 16, err);
    if (!b->lora || bench_row(b, &lora, err) < 0)
        return -1;
    trainer_free(b->lora);
    b->lora = NULL;
    b->full = bench_trainer(b, 0, err);
    return b->full ? bench_row(b, &full, err) : -1;
}

/* ---- fettle bench cpu ---- */

/* The bits of a number in (-1,1]. */
static uint32_t draw_bits(uint32_t *seed) {
    *seed = *seed * 1664525u + 1013904223u;
    float x = (float)(*seed >> 8) * 0x1p-23f - 1.0f;
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* Each float is two bf16 as well, and all three are in (-1,1]. */
static float *bench_drawn(struct bench *b, uint32_t seed) {
    size_t n = BENCH_READ;
    float *dev = b->k->ops->alloc(b->k, n * sizeof *dev);
    float *host = malloc(n * sizeof *host);
    CHECK(host, "out of memory for a bench");
    for (size_t i = 0; i < n; i++) {
        uint32_t high = draw_bits(&seed) & 0xffff0000u;
        uint32_t bits = high | draw_bits(&seed) >> 16;
        memcpy(&host[i], &bits, sizeof bits);
    }
    if (dev)
        b->k->ops->copy_in(b->k, dev, host, n * sizeof *host);
    free(host);
    return dev;
}

static int bench_buffers(struct bench *b, struct err *err) {
    int32_t ints[BENCH_T + 2];
    b->x = bench_drawn(b, 1);
    b->y = bench_drawn(b, 2);
    b->z = bench_drawn(b, 3);
    b->ints = b->k->ops->alloc(b->k, sizeof ints);
    if (!b->x || !b->y || !b->z || !b->ints)
        return err_kern(err, KERN_ENOMEM, "bench");
    for (int i = 0; i < BENCH_T; i++)
        ints[i] = i * 61 % bench_conf.V;
    ints[BENCH_T] = 0;
    ints[BENCH_T + 1] = BENCH_T;
    b->k->ops->copy_in(b->k, b->ints, ints, sizeof ints);
    return 0;
}

static void bench_release(struct bench *b) {
    void *dev[] = {b->x, b->y, b->z, b->ints};
    trainer_free(b->full);
    trainer_free(b->lora);
    kv_free(b->kv);
    net_free(b->net);
    model_close(b->model);
    for (size_t i = 0; b->k && i < sizeof dev / sizeof *dev; i++)
        if (dev[i])
            b->k->ops->free(b->k, dev[i]);
    if (b->k)
        b->k->ops->close(b->k);
    json_decref(b->rows);
}

static int bench_cpu(struct bench *b, struct err *err) {
    if (!b->c->json)
        printf("%s; medians of %d rounds\n", kern_describe(b->k), b->rounds);
    if (bench_buffers(b, err) < 0 || bench_mm(b, err) < 0 ||
        bench_dnnl(b, err) < 0 || bench_kernels(b, err) < 0 ||
        bench_model(b, err) < 0)
        return -1;
    if (b->c->json)
        cli_print_json(json_pack("{s:s, s:i, s:O}", "device",
                                 kern_describe(b->k), "rounds", b->rounds,
                                 "rows", b->rows),
                       false);
    return 0;
}

/* ---- fettle bench step DIR ---- */

static int bench_steps(struct bench *b, const char *dir, uint32_t rank,
                       struct err *err) {
    double s[ROUNDS_MAX], loss = NAN, third = NAN, first = NAN;
    int64_t begin = clock_mono_us();
    b->model = model_open(dir, b->k, err);
    if (!b->model)
        return -1;
    bench_tokens(b, model_conf(b->model)->V);
    struct trainer *tr = b->full = bench_trainer(b, rank, err);
    for (int i = -1; tr && i < b->rounds; i++) {
        int64_t start = clock_mono_us();
        if (bench_step(b, tr, &loss, err) < 0)
            return -1;
        if (i == 1)
            third = loss;
        if (i < 0)
            first = 1e-6 * (double)(clock_mono_us() - begin);
        else
            s[i] = 1e-6 * (double)(clock_mono_us() - start);
    }
    if (!tr)
        return -1;
    double middle = median(s, b->rounds);
    cli_print_json(json_pack("{s:f, s:f, s:f, s:f, s:i}", "s", middle, "min_s",
                             s[0], "first_step_s", first, "loss", third,
                             "rss_mib", (int)cli_peak_mib()),
                   true);
    return 0;
}

int cli_bench(struct cli *c, struct err *err) {
    if (strcmp(c->arg[0], "text") == 0)
        return cli_bench_text(c, err);
    struct bench b = {.c = c, .rows = json_array()};
    int64_t threads, rounds, rank, tokens;
    bool is_step = strcmp(c->arg[0], "step") == 0;
    int rc = -1;
    if (!is_step && strcmp(c->arg[0], "cpu") != 0)
        err_set(err, ERR_USAGE,
                "no bench '%.40s': there are cpu, step and text", c->arg[0]);
    else if (is_step != (c->n == 2))
        err_set(err, ERR_USAGE, "usage: fettle bench cpu | step DIR");
    else if (cli_opt_int(c, "--threads", 0, 0, 256, &threads, err) == 0 &&
             cli_opt_int(c, "--rounds", 5, 2, ROUNDS_MAX, &rounds, err) == 0 &&
             cli_opt_int(c, "--lora", 0, 0, 1024, &rank, err) == 0 &&
             cli_opt_int(c, "--tokens", BENCH_T, 1, BENCH_T, &tokens, err) ==
                 0) {
        b.n = (uint32_t)tokens;
        b.rounds = (int)rounds;
        rc = kern_open(&b.k, &(struct kern_opts){.threads = (int)threads});
        if (rc != KERN_OK)
            err_kern(err, rc, "open the CPU");
        else if (is_step)
            rc = bench_steps(&b, c->arg[1], (uint32_t)rank, err);
        else
            rc = bench_cpu(&b, err);
    }
    bench_release(&b);
    return rc < 0 ? -1 : 0;
}
