/* Losses from the op's bytes through trainer and kernels, beside PyTorch's:
 * logprobs, loss, gradient of the logits. The model is made so that its logits
 * are any table wanted: one-hot embeddings, layers that add 0, and a head that
 * holds the table. */
#include "core/fs.h"
#include "core/json.h"
#include "core/train.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

Suite *train_losses_suite(void);

#define GOLDEN "tests/golden/losses/token_losses.json"
#define C 16   /* width and vocabulary; token t stands at position t */
#define NORM 4 /* what the last norm makes of a one-hot row: sqrt(C), exact */
#define CELLS 256

static const char config[] =
    "{\"model_type\":\"llama\",\"hidden_size\":16,\"num_hidden_layers\":1,"
    "\"num_attention_heads\":2,\"num_key_value_heads\":2,\"head_dim\":8,"
    "\"intermediate_size\":4,\"vocab_size\":16,\"rms_norm_eps\":1e-12,"
    "\"max_position_embeddings\":64,\"tie_word_embeddings\":false}";

static const struct st_out tensors[] = {
    {"lm_head.weight", KERN_F32, 2, {C, C}},
    {"model.embed_tokens.weight", KERN_F32, 2, {C, C}},
    {"model.layers.0.input_layernorm.weight", KERN_F32, 1, {C}},
    {"model.layers.0.mlp.down_proj.weight", KERN_F32, 2, {C, 4}},
    {"model.layers.0.mlp.gate_proj.weight", KERN_F32, 2, {4, C}},
    {"model.layers.0.mlp.up_proj.weight", KERN_F32, 2, {4, C}},
    {"model.layers.0.post_attention_layernorm.weight", KERN_F32, 1, {C}},
    {"model.layers.0.self_attn.k_proj.weight", KERN_F32, 2, {C, C}},
    {"model.layers.0.self_attn.o_proj.weight", KERN_F32, 2, {C, C}},
    {"model.layers.0.self_attn.q_proj.weight", KERN_F32, 2, {C, C}},
    {"model.layers.0.self_attn.v_proj.weight", KERN_F32, 2, {C, C}},
    {"model.norm.weight", KERN_F32, 1, {C}},
};
#define N_TENSORS ((int)(sizeof tensors / sizeof *tensors))

static char dir[64];
static struct kern *kern;
static struct model *model;
static struct trainer *tr;
static int head; /* the head's parameter */

static int fill(void *arg, int i, void *out, struct err *err) {
    float *x = out;
    (void)arg, (void)err;
    memset(out, 0, (size_t)st_out_bytes(&tensors[i]));
    if (strstr(tensors[i].name, "norm"))
        for (int c = 0; c < C; c++)
            x[c] = 1;
    if (strstr(tensors[i].name, "embed"))
        for (int c = 0; c < C; c++)
            x[c * C + c] = 1;
    return 0;
}

static void setup(void) {
    struct err err = {0};
    snprintf(dir, sizeof dir, "/tmp/fettle-losses-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    char *conf = fs_path("%s/config.json", dir);
    char *st = fs_path("%s/model.safetensors", dir);
    ck_assert_int_eq(fs_write_atomic(conf, config, strlen(config), &err), 0);
    ck_assert_int_eq(
        st_write(st, tensors, N_TENSORS, NULL, 0, fill, NULL, &err), 0);
    free(conf);
    free(st);
    kern_open(&kern, &(struct kern_opts){"cpu", 1, NULL});
    model = model_open(dir, kern, &err);
    ck_assert_msg(model != NULL, "%s", err.msg);
    tr = trainer_new(model, kern, &(struct op_create){.base = "m"}, &err);
    ck_assert_msg(tr != NULL, "%s", err.msg);
    for (head = 0; strcmp(trainer_param(tr, head)->name, "lm_head.weight");)
        head++;
}

static void teardown(void) {
    struct err err = {0};
    trainer_free(tr);
    model_close(model);
    kern->ops->close(kern);
    fs_remove_tree(dir, &err);
}

/* Logits (T,V) of the positions; ids V … C-1 cannot happen. */
static void set_logits(const float *logits, int T, int V) {
    float w[C * C];
    struct err err = {0};
    for (int v = 0; v < C; v++)
        for (int t = 0; t < C; t++)
            w[v * C + t] = v >= V  ? -1e4f
                           : t < T ? logits[t * V + v] / NORM
                                   : 0;
    ck_assert_int_eq(trainer_write(tr, TRAIN_WEIGHTS, head, w, &err), 0);
}

/* Gradient of the logits since the last call, and clears it. */
static void take_dlogits(float *out, int T, int V) {
    float g[C * C], zero[C * C] = {0};
    struct err err = {0};
    ck_assert_int_eq(trainer_read(tr, TRAIN_GRAD, head, g, &err), 0);
    ck_assert_int_eq(trainer_write(tr, TRAIN_GRAD, head, zero, &err), 0);
    for (int t = 0; t < T; t++)
        for (int v = 0; v < V; v++)
            out[t * V + v] = g[v * C + t] / NORM;
}

/* The pass as the worker gets it: out of its bytes. */
static void run(const struct op_pass *pass, bool backward, struct result *res) {
    struct op op = {.kind = backward ? OP_FORWARD_BACKWARD : OP_FORWARD,
                    .model = "m",
                    .pass = *pass},
              got;
    struct err err = {0};
    struct buf b;
    buf_init(&b, WIRE_MAX);
    op_encode(&op, &b);
    ck_assert_msg(op_decode(&got, b.data, b.len, &err) == 0, "%s", err.msg);
    ck_assert_msg(trainer_pass(tr, &got.pass, backward, res, &err) == 0, "%s",
                  err.msg);
    op_release(&got);
    buf_release(&b);
}

/* ---- golden cases ---- */

struct gold {
    int T, V, K;
    float logits[CELLS];
    struct datum d;
    uint32_t tokens[C], targets[CELLS];
    float field[DATUM_FIELDS][CELLS];
    struct op_pass pass;
    double logprobs[CELLS], dlogits[CELLS], loss;
};

static size_t flat(const json_t *j, double *out) {
    size_t n = json_is_number(j);
    if (n)
        *out = json_number_value(j);
    for (size_t i = 0; i < json_array_size(j); i++)
        n += flat(json_array_get(j, i), out + n);
    return n;
}

static float config_of(const json_t *c, const char *key) {
    const json_t *v =
        json_object_get(json_object_get(c, "loss_fn_config"), key);
    return v ? (float)json_number_value(v) : NAN;
}

static void load(struct gold *g, const json_t *c) {
    static const char *const names[DATUM_FIELDS] = {
        "weights", "logprobs", "advantages", "clip_low_threshold",
        "clip_high_threshold"};
    const json_t *in = json_object_get(c, "inputs");
    const json_t *logits = json_object_get(c, "logits");
    const char *name = json_string_value(json_object_get(c, "loss_fn"));
    double x[CELLS];
    memset(g, 0, sizeof *g);
    g->T = (int)json_array_size(logits);
    g->V = (int)json_array_size(json_array_get(logits, 0));
    for (size_t i = 0, n = flat(logits, x); i < n; i++)
        g->logits[i] = (float)x[i];
    size_t nt = flat(json_object_get(in, "target_tokens"), x);
    for (size_t i = 0; i < nt; i++)
        g->targets[i] = (uint32_t)x[i];
    for (uint32_t t = 0; t < C; t++)
        g->tokens[t] = t;
    g->K = (int)nt / g->T;
    g->d = (struct datum){
        (uint32_t)g->T, (uint32_t)g->K, g->tokens, g->targets, {0}};
    for (int f = 0; f < DATUM_FIELDS; f++) {
        size_t n = flat(json_object_get(in, names[f]), x);
        for (size_t i = 0; i < n; i++)
            g->field[f][i] = (float)x[i];
        g->d.field[f] = n ? g->field[f] : NULL;
    }
    g->pass = (struct op_pass){.clip_low = config_of(c, "clip_low_threshold"),
                               .clip_high = config_of(c, "clip_high_threshold"),
                               .beta = config_of(c, "beta"),
                               .n = 1,
                               .datums = &g->d};
    while (strcmp(loss_name(g->pass.loss), name))
        g->pass.loss++;
    flat(json_object_get(c, "logprobs"), g->logprobs);
    flat(json_object_get(c, "dloss_dlogits"), g->dlogits);
    g->loss = json_number_value(json_object_get(c, "loss_sum"));
}

static void near(double got, double want, const char *what) {
    ck_assert_msg(fabs(got - want) <= 1e-5 * fmax(fabs(want), 0.1),
                  "%s: %.9g, golden %.9g", what, got, want);
}

static void check_gold(const struct gold *g) {
    struct result r = {0};
    float dlogits[CELLS];
    set_logits(g->logits, g->T, g->V);
    for (int backward = 0; backward < 2; backward++) {
        run(&g->pass, backward, &r);
        near(result_get(&r, "loss:sum"), g->loss, "loss");
        ck_assert_int_eq(r.logprobs_len[0], g->T * g->K);
        for (int i = 0; i < g->T * g->K; i++)
            near(r.logprobs[0][i], g->logprobs[i], "logprob");
        result_release(&r);
    }
    take_dlogits(dlogits, g->T, g->V);
    for (int i = 0; i < g->T * g->V; i++)
        near(dlogits[i], g->dlogits[i], "dloss/dlogit");
}

static json_t *golden_cases(void) {
    struct err err = {0};
    json_t *doc = json_read_file(GOLDEN, 1 << 20, &err);
    ck_assert_msg(doc != NULL, "%s", err.msg);
    json_t *c = json_incref(json_object_get(doc, "token_losses"));
    ck_assert_uint_ge(json_array_size(c), 14);
    json_decref(doc);
    return c;
}

START_TEST(losses_of_an_op_match_pytorch) {
    json_t *cases = golden_cases();
    for (size_t i = 0; i < json_array_size(cases); i++) {
        struct gold g;
        load(&g, json_array_get(cases, i));
        check_gold(&g);
    }
    json_decref(cases);
}
END_TEST

START_TEST(loss_config_left_out_is_the_documented_default) {
    static const float bounds[LOSS_N][2] = {
        [LOSS_PPO] = {0.8f, 1.2f}, [LOSS_CISPO] = {0, 4}, [LOSS_DRO] = {0}};
    json_t *cases = golden_cases();
    int seen = 0;
    for (size_t i = 0; i < json_array_size(cases); i++) {
        struct gold g;
        load(&g, json_array_get(cases, i));
        bool is_default = g.pass.loss == LOSS_DRO
                              ? g.pass.beta == 0.05f
                              : g.pass.clip_low == bounds[g.pass.loss][0] &&
                                    g.pass.clip_high == bounds[g.pass.loss][1];
        if (!is_default)
            continue;
        g.pass.clip_low = g.pass.clip_high = g.pass.beta = NAN;
        check_gold(&g);
        seen |= 1 << g.pass.loss;
    }
    ck_assert_int_eq(seen, 1 << LOSS_PPO | 1 << LOSS_CISPO | 1 << LOSS_DRO);
    json_decref(cases);
}
END_TEST

/* Compressed rows of a dense (rows,cols) tensor: what is not zero. */
static void *compress(const void *dense, int rows, int cols, size_t width,
                      struct csr *c) {
    static const uint8_t zero[8];
    const uint8_t *from = dense;
    size_t cells = (size_t)(rows * cols), at = 0;
    int64_t *crow = calloc((size_t)rows + 1, 8), *col = calloc(cells + 1, 8);
    uint8_t *values = calloc(cells + 1, width);
    for (int r = 0; r < rows; r++) {
        for (int k = 0; k < cols; k++) {
            const uint8_t *x = from + (size_t)(r * cols + k) * width;
            if (memcmp(x, zero, width) == 0)
                continue;
            memcpy(values + at * width, x, width);
            col[at++] = k;
        }
        crow[r + 1] = (int64_t)at;
    }
    *c = (struct csr){.rows = rows,
                      .cols = cols,
                      .width = width,
                      .n = at,
                      .crow = crow,
                      .col = col,
                      .values = values};
    return values;
}

static void csr_free(struct csr *c) {
    free((void *)c->crow);
    free((void *)c->col);
    free((void *)c->values);
}

START_TEST(sparse_targets_and_weights_are_the_dense_ones) {
    json_t *cases = golden_cases();
    int seen = 0;
    for (size_t i = 0; i < json_array_size(cases); i++) {
        struct gold g;
        struct err err = {0};
        struct csr t, w;
        load(&g, json_array_get(cases, i));
        if (g.K == 1)
            continue;
        seen++;
        int64_t ids[CELLS];
        for (int j = 0; j < g.T * g.K; j++)
            ids[j] = g.targets[j];
        compress(ids, g.T, g.K, sizeof *ids, &t);
        compress(g.field[DATUM_WEIGHTS], g.T, g.K, sizeof(float), &w);
        ck_assert_uint_lt(w.n, (size_t)(g.T * g.K)); /* some are 0 */
        int64_t *dense_t = csr_dense(&t, &err);
        float *dense_w = csr_dense(&w, &err);
        ck_assert_msg(dense_t && dense_w, "%s", err.msg);
        for (int j = 0; j < g.T * g.K; j++)
            g.targets[j] = (uint32_t)dense_t[j];
        g.d.field[DATUM_WEIGHTS] = dense_w;
        check_gold(&g);
        free(dense_t);
        free(dense_w);
        csr_free(&t);
        csr_free(&w);
    }
    ck_assert_int_ge(seen, 1);
    json_decref(cases);
}
END_TEST

START_TEST(sparse_tensors_that_are_damaged_are_refused) {
    const int64_t crow[] = {0, 1, 1, 3}, col[] = {1, 0, 2};
    const float values[] = {1, 2, 3};
    const struct csr good = {3, 3, sizeof(float), 3, crow, col, values};
    struct err err = {0};
    float *x = csr_dense(&good, &err);
    const float want[] = {0, 1, 0, 0, 0, 0, 2, 0, 3};
    ck_assert_mem_eq(x, want, sizeof want);
    free(x);
    const int64_t rows[][4] = {
        {1, 1, 1, 3}, {0, 2, 1, 3}, {0, 1, 1, 2}, {0, 1, 1, 4}, {0, -1, 1, 3}};
    const int64_t cols[][3] = {{1, 0, 3}, {-1, 0, 2}, {1, 2, 0}, {1, 2, 2}};
    for (int i = 0; i < 5; i++) {
        struct csr bad = good;
        struct err e = {0};
        bad.crow = rows[i];
        ck_assert_ptr_null(csr_dense(&bad, &e));
        ck_assert_int_eq(e.code, ERR_INVAL);
    }
    for (int i = 0; i < 4; i++) {
        struct csr bad = good;
        struct err e = {0};
        bad.col = cols[i];
        ck_assert_ptr_null(csr_dense(&bad, &e));
        ck_assert_int_eq(e.code, ERR_INVAL);
    }
    struct csr huge = good;
    huge.rows = INT64_MAX / 2;
    ck_assert_ptr_null(csr_dense(&huge, &err));
    ck_assert_int_eq(err.code, ERR_TOOBIG);
}
END_TEST

/* ---- gspo ---- */

#define SEQ 6 /* tokens of either sequence of the gspo tests */

struct seqs {
    struct datum d[2];
    struct op_pass pass;
    uint32_t tokens[2][SEQ], targets[2][SEQ];
    float q[2][SEQ], A[2][SEQ], logits[2 * SEQ * 8];
};

/* Two sequences over positions 0 … 11; A is 0 where a token does not count,
 * else the sequence's advantage over its length. */
static void seqs_draw(struct seqs *s, double a0, double a1, double shift) {
    const int counts[2] = {4, 5};
    const double A[2] = {a0, a1};
    memset(s, 0, sizeof *s);
    for (uint32_t i = 0; i < 2 * SEQ * 8; i++)
        s->logits[i] = (float)sin(1.7 * i) * 2;
    for (uint32_t i = 0; i < 2; i++) {
        for (uint32_t t = 0; t < SEQ; t++) {
            s->tokens[i][t] = i * SEQ + t;
            s->targets[i][t] = (3 * t + i) % 8;
            bool count = i ? t != 2 : t % 3 != 0;
            s->A[i][t] = count ? (float)(A[i] / counts[i]) : 0;
        }
        s->d[i] = (struct datum){SEQ, 1, s->tokens[i], s->targets[i], {0}};
        s->d[i].field[DATUM_LOGPROBS] = s->q[i];
        s->d[i].field[DATUM_ADVANTAGES] = s->A[i];
    }
    s->pass = (struct op_pass){LOSS_GSPO, 0.8f, 1.28f, NAN, 2, s->d};
    set_logits(s->logits, 2 * SEQ, 8);
    struct result r = {0};
    run(&s->pass, false, &r);
    for (uint32_t i = 0; i < 2; i++)
        for (uint32_t t = 0; t < SEQ; t++)
            s->q[i][t] = r.logprobs[i][t] + (float)(0.4 * sin(9.0 * t) + shift);
    result_release(&r);
}

/* The objective in double, from the logprobs that the pass gives. */
static double gspo(const struct seqs *s, const struct result *r) {
    double loss = 0;
    for (int i = 0; i < 2; i++) {
        double sum = 0, A = 0;
        int n = 0;
        for (int t = 0; t < SEQ; t++)
            if (s->A[i][t] != 0) {
                sum += (double)r->logprobs[i][t] - (double)s->q[i][t];
                A += (double)s->A[i][t];
                n++;
            }
        double ratio = exp(sum / n);
        double cut = fmin(fmax(ratio, (double)s->pass.clip_low),
                          (double)s->pass.clip_high);
        loss -= fmin(ratio * A, cut * A);
    }
    return loss;
}

START_TEST(gspo_takes_one_ratio_a_sequence_over_the_tokens_that_count) {
    static const double cases[][3] = {
        /* advantages, shift of the old logprobs: inside the bounds, clipped
         * on either side */
        {0.7, -0.9, 0},
        {0.7, -0.9, -0.6},
        {0.7, -0.9, 0.6},
        {-1, 1, 0.3}};
    for (int i = 0; i < 4; i++) {
        struct seqs s;
        struct result r = {0};
        seqs_draw(&s, cases[i][0], cases[i][1], cases[i][2]);
        run(&s.pass, false, &r);
        near(result_get(&r, "loss:sum"), gspo(&s, &r), "gspo");
        ck_assert(result_get(&r, "num_loss_tokens:sum") == 9);
        result_release(&r);
    }
}
END_TEST

/* A is constant over the tokens of a sequence that count, so the token form's
 * gradient is the objective's own. */
START_TEST(gspo_gradient_is_the_slope_of_its_loss) {
    struct seqs s;
    struct result r = {0};
    float g[2 * SEQ * 8];
    seqs_draw(&s, 0.7, -0.9, 0.02);
    run(&s.pass, true, &r);
    result_release(&r);
    take_dlogits(g, 2 * SEQ, 8);
    for (int i = 0; i < 2 * SEQ * 8; i++) {
        const float h = 0x1p-6f;
        double loss[2];
        for (int up = 0; up < 2; up++) {
            float moved[2 * SEQ * 8];
            memcpy(moved, s.logits, sizeof moved);
            moved[i] += up ? h : -h;
            set_logits(moved, 2 * SEQ, 8);
            run(&s.pass, false, &r);
            loss[up] = gspo(&s, &r);
            result_release(&r);
        }
        double slope = (loss[1] - loss[0]) / (2 * (double)h);
        ck_assert_msg(fabs(slope - (double)g[i]) < 1e-4, "%d: %g, slope %g", i,
                      (double)g[i], slope);
    }
}
END_TEST

START_TEST(gspo_counts_by_weights_when_there_are_any) {
    struct seqs s;
    struct result a = {0}, b = {0};
    float w[2][SEQ];
    seqs_draw(&s, 0.7, -0.9, 0.1);
    run(&s.pass, false, &a);
    for (int i = 0; i < 2; i++) {
        for (int t = 0; t < SEQ; t++) {
            w[i][t] = s.A[i][t] != 0;
            if (s.A[i][t] == 0) /* left out, whatever it says */
                s.A[i][t] = 5;
        }
        s.d[i].field[DATUM_WEIGHTS] = w[i];
    }
    run(&s.pass, false, &b);
    ck_assert(result_get(&a, "loss:sum") == result_get(&b, "loss:sum"));
    result_release(&a);
    result_release(&b);
}
END_TEST

/* ---- what is left out ---- */

START_TEST(positions_left_out_never_reach_loss_or_gradient) {
    json_t *cases = golden_cases();
    for (size_t i = 0; i < json_array_size(cases); i++) {
        struct gold g;
        struct result a = {0}, b = {0};
        float x[CELLS], y[CELLS];
        load(&g, json_array_get(cases, i));
        bool ce = g.pass.loss == LOSS_CROSS_ENTROPY;
        float *off = g.field[ce ? DATUM_WEIGHTS : DATUM_ADVANTAGES];
        for (int t = 0; t < g.T * g.K; t += 2)
            off[t] = g.field[DATUM_LOGPROBS][t] = 0;
        set_logits(g.logits, g.T, g.V);
        run(&g.pass, true, &a);
        take_dlogits(x, g.T, g.V);
        for (int t = 0; t < g.T * g.K; t += 2) {
            g.field[DATUM_LOGPROBS][t] = NAN;
            g.targets[t] = (g.targets[t] + 1) % (uint32_t)g.V;
        }
        run(&g.pass, true, &b);
        take_dlogits(y, g.T, g.V);
        ck_assert(result_get(&a, "loss:sum") == result_get(&b, "loss:sum"));
        for (int j = 0; j < g.T * g.V; j++)
            ck_assert(x[j] == y[j]);
        result_release(&a);
        result_release(&b);
    }
    json_decref(cases);
}
END_TEST

START_TEST(loss_without_its_inputs_is_refused_by_name) {
    for (int loss = LOSS_IMPORTANCE_SAMPLING; loss < LOSS_N; loss++) {
        uint32_t ids[] = {1, 2};
        float q[] = {-1, -2};
        struct datum d = {2, 1, ids, ids, {0}};
        struct op_pass p = {(enum loss_kind)loss, NAN, NAN, NAN, 1, &d};
        struct result r = {0};
        struct err err = {0};
        d.field[DATUM_LOGPROBS] = q;
        ck_assert_int_eq(trainer_pass(tr, &p, true, &r, &err), -1);
        ck_assert_int_eq(err.code, ERR_INVAL);
        ck_assert_ptr_nonnull(strstr(err.msg, "advantages"));
        ck_assert_ptr_nonnull(strstr(err.msg, loss_name(p.loss)));
    }
}
END_TEST

Suite *train_losses_suite(void) {
    Suite *s = suite_create("losses");
    TCase *tc = tcase_create("losses");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 30);
    tcase_add_test(tc, losses_of_an_op_match_pytorch);
    tcase_add_test(tc, loss_config_left_out_is_the_documented_default);
    tcase_add_test(tc, sparse_targets_and_weights_are_the_dense_ones);
    tcase_add_test(tc, sparse_tensors_that_are_damaged_are_refused);
    tcase_add_test(tc,
                   gspo_takes_one_ratio_a_sequence_over_the_tokens_that_count);
    tcase_add_test(tc, gspo_gradient_is_the_slope_of_its_loss);
    tcase_add_test(tc, gspo_counts_by_weights_when_there_are_any);
    tcase_add_test(tc, positions_left_out_never_reach_loss_or_gradient);
    tcase_add_test(tc, loss_without_its_inputs_is_refused_by_name);
    suite_add_tcase(s, tc);
    return s;
}
