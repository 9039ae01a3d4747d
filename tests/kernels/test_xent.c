/* Log-softmax, the token losses and AdamW: beside double oracles and the
 * golden losses that PyTorch computed. */
#include "tests/kernels/kt.h"

#include <jansson.h>

Suite *xent_suite(void);

#define GOLDEN "tests/golden/losses/token_losses.json"

struct xent_input {
    struct kern_xent a; /* outputs not set */
    float *logits, *g;
    int32_t *targets;
    size_t n; /* floats of logits */
};

static struct xent_input xent_draw(int rows, int V, int k, int pad,
                                   uint64_t seed, float range) {
    struct xent_input in = {.a = {.rows = rows, .V = V, .k = k, .ld = V + pad}};
    in.n = (size_t)((rows - 1) * in.a.ld + V);
    in.logits = kt_rows(rows, V, in.a.ld, seed, range);
    in.g = kt_draw((size_t)(rows * k), seed + 1, 1.0f);
    in.targets = kt_buf((size_t)(rows * k), sizeof *in.targets);
    for (int i = 0; i < rows * k; i++)
        in.targets[i] = (int32_t)(kt_u64(seed, (uint64_t)i + 99) % (uint64_t)V);
    in.a.targets = in.targets;
    in.a.g = in.g;
    return in;
}

static void xent_free(struct xent_input *in) {
    free(in->logits);
    free(in->g);
    free(in->targets);
}

/* Gradient of the logits, lse, logprobs. */
static void xent_run(struct kern *k, const void *arg, float *out) {
    const struct xent_input *in = arg;
    struct kern_xent a = in->a;
    memcpy(out, in->logits, in->n * sizeof *out);
    a.logits = out;
    a.lse = out + in->n;
    a.logprobs = a.lse + a.rows;
    ck_assert_int_eq(k->ops->xent(k, &a), KERN_OK);
    ck_assert_int_eq(k->ops->xent_bwd(k, &a), KERN_OK);
}

static void xent_check(const struct xent_input *in, const float *out) {
    const struct kern_xent *a = &in->a;
    for (int r = 0; r < a->rows; r++) {
        const float *x = in->logits + r * a->ld;
        double m = -INFINITY, l = 0, sum = 0;
        for (int v = 0; v < a->V; v++)
            m = fmax(m, x[v]);
        for (int v = 0; v < a->V; v++)
            l += exp(x[v] - m);
        double lse = m + log(l), tol = 3e-7 * (1 + fabs(lse));
        kt_expect_near(out[in->n + (size_t)r], lse, tol, "lse", r);
        for (int j = 0; j < a->k; j++) {
            int at = r * a->k + j;
            kt_expect_near(out[in->n + (size_t)(a->rows + at)],
                           x[in->targets[at]] - lse, 2 * tol, "logprob", at);
            sum += in->g[at];
        }
        for (int v = 0; v < a->V; v++) {
            double want = -sum * exp(x[v] - lse);
            for (int j = 0; j < a->k; j++)
                want +=
                    in->targets[r * a->k + j] == v ? in->g[r * a->k + j] : 0;
            kt_expect_near(out[r * a->ld + v], want, 4 * tol, "dlogit", v);
        }
    }
}

START_TEST(xent_and_its_backward_match_the_oracle) {
    static const int shapes[][4] = {
        /* rows V k pad */
        {1, 1, 1, 0},  {5, 2, 1, 0},   {9, 15, 2, 3},  {3, 16, 1, 0},
        {4, 17, 5, 1}, {7, 100, 1, 0}, {40, 33, 3, 0}, {2, 4099, 1, 0}};
    for (int s = 0; s < KT_COUNT(shapes); s++) {
        const int *x = shapes[s];
        struct xent_input in =
            xent_draw(x[0], x[1], x[2], x[3], (uint64_t)s, 9.0f);
        size_t n = in.n + (size_t)(x[0] + x[0] * x[2]);
        float *out = kt_fill(n, 0);
        kt_agree(xent_run, &in, out, n);
        xent_check(&in, out);
        free(out);
        xent_free(&in);
    }
}
END_TEST

START_TEST(xent_of_extreme_logits_is_exact_or_not_finite) {
    struct xent_input in = xent_draw(5, 20, 1, 0, 4, 1.0f);
    size_t n = in.n + 10;
    float *out = kt_fill(n, 0), *lse = out + in.n;
    for (int v = 0; v < 20; v++) {
        in.logits[v] = v == 3 ? 1e4f : -1e4f;
        in.logits[20 + v] = v == 3 ? 0.0f : -INFINITY;
        in.logits[60 + v] = -INFINITY;
    }
    in.logits[40 + 7] = NAN;
    in.logits[80 + 7] = INFINITY;
    in.targets[0] = in.targets[1] = 3;
    kt_agree(xent_run, &in, out, n);
    ck_assert(lse[0] == 1e4f && lse[5] == 0);
    ck_assert(lse[1] == 0 && lse[6] == 0);
    ck_assert(isnan(lse[2]) && isnan(lse[7]));
    ck_assert(isnan(lse[3]) && isnan(lse[4]));
    for (int v = 0; v < 20; v++)
        ck_assert(out[v] == 0 && out[20 + v] == 0);
    free(out);
    xent_free(&in);
}
END_TEST

START_TEST(xent_rows_without_weight_have_no_gradient) {
    struct xent_input in = xent_draw(2, 50, 2, 0, 4, 1.0f);
    size_t n = in.n + 6;
    float *out = kt_fill(n, 0);
    in.g[0] = in.g[1] = 0;
    in.logits[9] = NAN; /* as a row that nothing trained may hold */
    kt_agree(xent_run, &in, out, n);
    for (int v = 0; v < 50; v++)
        ck_assert(out[v] == 0 && out[50 + v] != 0);
    free(out);
    xent_free(&in);
}
END_TEST

START_TEST(xent_refuses_targets_outside_the_vocabulary) {
    struct kern *k = kt_best();
    struct xent_input in = xent_draw(3, 10, 2, 0, 4, 1.0f);
    float out[6], lse[3] = {0};
    struct kern_xent a = in.a;
    a.logits = in.logits;
    a.lse = lse;
    a.logprobs = out;
    struct kern_xent bad[] = {a, a, a, a};
    bad[0].rows = -1, bad[1].V = 0, bad[2].k = -1, bad[3].ld = 9;
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(k->ops->xent(k, &bad[i]), KERN_EINVAL);
        ck_assert_int_eq(k->ops->xent_bwd(k, &bad[i]), KERN_EINVAL);
    }
    for (int t = -1; t <= 10; t += 11) {
        in.targets[3] = t;
        ck_assert_int_eq(k->ops->xent(k, &a), KERN_EINVAL);
        ck_assert_int_eq(k->ops->xent_bwd(k, &a), KERN_EINVAL);
    }
    xent_free(&in);
    k->ops->close(k);
}
END_TEST

/* ---- the golden losses ---- */

/* Flattens numbers, nested lists or none (then `dflt`, n times). */
static size_t flat(const json_t *j, double *out) {
    if (json_is_number(j)) {
        *out = json_number_value(j);
        return 1;
    }
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(j); i++)
        n += flat(json_array_get(j, i), out + n);
    return n;
}

#define GOLD_MAX 256

struct gold {
    struct kern_loss loss;
    struct xent_input x;
    float in[5][GOLD_MAX]; /* w q A lo hi */
    double logprobs[GOLD_MAX], token_loss[GOLD_MAX], dlp[GOLD_MAX];
    double dlogits[GOLD_MAX];
};

static void gold_input(const json_t *from, const char *name, float *to,
                       double dflt) {
    double x[GOLD_MAX];
    size_t n = flat(json_object_get(from, name), x);
    for (size_t i = 0; i < GOLD_MAX; i++)
        to[i] = (float)(i < n ? x[i] : dflt);
}

static enum kern_loss_kind gold_kind(const char *name) {
    static const char *const names[] = {[KERN_LOSS_CE] = "cross_entropy",
                                        [KERN_LOSS_IS] = "importance_sampling",
                                        [KERN_LOSS_PPO] = "ppo",
                                        [KERN_LOSS_CISPO] = "cispo",
                                        [KERN_LOSS_DRO] = "dro"};
    for (int i = 0; i < KT_COUNT(names); i++)
        if (strcmp(name, names[i]) == 0)
            return (enum kern_loss_kind)i;
    ck_abort_msg("loss %s", name);
}

static void gold_load(struct gold *g, const json_t *c) {
    const json_t *in = json_object_get(c, "inputs");
    const json_t *conf = json_object_get(c, "loss_fn_config");
    const json_t *logits = json_object_get(c, "logits");
    double x[GOLD_MAX];
    *g = (struct gold){.loss = {.kind = gold_kind(json_string_value(
                                    json_object_get(c, "loss_fn")))}};
    gold_input(in, "weights", g->in[0], 1);
    gold_input(in, "logprobs", g->in[1], 0);
    gold_input(in, "advantages", g->in[2], 0);
    const char *bounds[] = {"clip_low_threshold", "clip_high_threshold"};
    for (int i = 0; i < 2; i++)
        gold_input(in, bounds[i], g->in[3 + i],
                   json_number_value(json_object_get(conf, bounds[i])));
    g->loss.beta = (float)json_number_value(json_object_get(conf, "beta"));
    size_t nt = flat(json_object_get(in, "target_tokens"), x);
    int rows = (int)json_array_size(logits);
    int V = (int)json_array_size(json_array_get(logits, 0));
    g->x = xent_draw(rows, V, (int)nt / rows, 0, 1, 1.0f);
    g->loss.n = (int32_t)nt;
    for (size_t i = 0; i < nt; i++)
        g->x.targets[i] = (int32_t)x[i];
    size_t nl = flat(logits, x);
    for (size_t i = 0; i < nl; i++)
        g->x.logits[i] = (float)x[i];
    flat(json_object_get(c, "logprobs"), g->logprobs);
    flat(json_object_get(c, "token_loss"), g->token_loss);
    flat(json_object_get(c, "dloss_dlogprobs"), g->dlp);
    flat(json_object_get(c, "dloss_dlogits"), g->dlogits);
}

/* Logprobs, losses, dloss/dlogprob, dloss/dlogits. */
static void gold_run(struct kern *k, const void *arg, float *out) {
    const struct gold *g = arg;
    struct kern_xent x = g->x.a;
    struct kern_loss l = g->loss;
    float lse[GOLD_MAX];
    x.logprobs = out;
    x.lse = lse;
    x.logits = out + 3 * l.n;
    memcpy(x.logits, g->x.logits, g->x.n * sizeof *out);
    ck_assert_int_eq(k->ops->xent(k, &x), KERN_OK);
    l.lp = out;
    l.w = g->in[0];
    l.q = g->in[1];
    l.A = g->in[2];
    l.lo = g->in[3];
    l.hi = g->in[4];
    l.loss = out + l.n;
    l.g = out + 2 * l.n;
    ck_assert_int_eq(k->ops->loss(k, &l), KERN_OK);
    x.g = l.g;
    ck_assert_int_eq(k->ops->xent_bwd(k, &x), KERN_OK);
}

static void gold_near(const float *got, const double *want, size_t n,
                      const char *what) {
    for (size_t i = 0; i < n; i++)
        kt_expect_near(got[i], want[i], 1e-5 * fmax(fabs(want[i]), 0.1), what,
                       (int64_t)i);
}

START_TEST(losses_match_the_golden_ones) {
    json_error_t err;
    json_t *doc = json_load_file(GOLDEN, 0, &err);
    ck_assert_msg(doc != NULL, "%s: %s", GOLDEN, err.text);
    json_t *cases = json_object_get(doc, "token_losses");
    ck_assert_uint_ge(json_array_size(cases), 14);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        struct gold g;
        gold_load(&g, json_array_get(cases, i));
        size_t nt = (size_t)g.loss.n, n = 3 * nt + g.x.n;
        float *out = kt_fill(n, 0);
        kt_agree(gold_run, &g, out, n);
        gold_near(out, g.logprobs, nt, "logprob");
        gold_near(out + nt, g.token_loss, nt, "loss");
        gold_near(out + 2 * nt, g.dlp, nt, "dloss/dlogprob");
        gold_near(out + 3 * nt, g.dlogits, g.x.n, "dloss/dlogit");
        free(out);
        xent_free(&g.x);
    }
    json_decref(doc);
}
END_TEST

START_TEST(losses_of_tokens_left_out_are_0) {
    /* A logprob of -inf and a ratio of inf, where weight and advantage are 0 */
    float lp[] = {-INFINITY, 0}, zero[2] = {0}, q[] = {0, -1000};
    float hi[] = {9, 9}, loss[2], g[2];
    struct kern *k = kt_best();
    for (int kind = KERN_LOSS_CE; kind <= KERN_LOSS_CISPO; kind++) {
        struct kern_loss l = {(enum kern_loss_kind)kind,
                              2,
                              lp,
                              zero,
                              q,
                              zero,
                              zero,
                              hi,
                              0,
                              loss,
                              g};
        ck_assert_int_eq(k->ops->loss(k, &l), KERN_OK);
        ck_assert(loss[0] == 0 && loss[1] == 0 && g[0] == 0 && g[1] == 0);
    }
    struct kern_loss bad = {.kind = KERN_LOSS_KINDS, .n = 0};
    ck_assert_int_eq(k->ops->loss(k, &bad), KERN_EINVAL);
    bad = (struct kern_loss){.n = -1};
    ck_assert_int_eq(k->ops->loss(k, &bad), KERN_EINVAL);
    k->ops->close(k);
}
END_TEST

/* ---- AdamW ---- */

#define ADAM_N 1003

struct adam_input {
    struct kern_adamw a;
    float *p, *g;
};

/* Three steps over p, m, v. */
static void adam_run(struct kern *k, const void *arg, float *out) {
    const struct adam_input *in = arg;
    struct kern_adamw a = in->a;
    memcpy(out, in->p, ADAM_N * sizeof *out);
    memset(out + ADAM_N, 0, 2 * ADAM_N * sizeof *out);
    a.p = out;
    a.m = out + ADAM_N;
    a.v = out + 2 * ADAM_N;
    for (int t = 1; t <= 3; t++) {
        a.bias1 = (float)(1 - pow(a.beta1, t));
        a.bias2 = (float)(1 - pow(a.beta2, t));
        a.g = in->g + (t - 1) * ADAM_N;
        ck_assert_int_eq(k->ops->adamw(k, &a), KERN_OK);
    }
}

/* torch.optim.AdamW in double. */
static double adam_ref(const struct adam_input *in, int i) {
    const struct kern_adamw *a = &in->a;
    double p = in->p[i], m = 0, v = 0;
    for (int t = 1; t <= 3; t++) {
        double g = in->g[(t - 1) * ADAM_N + i] * (double)a->gscale;
        p -= (double)a->lr * a->weight_decay * p;
        m = a->beta1 * m + (1 - (double)a->beta1) * g;
        v = a->beta2 * v + (1 - (double)a->beta2) * g * g;
        double vhat = v / (1 - pow(a->beta2, t));
        p -= a->lr * (m / (1 - pow(a->beta1, t))) / (sqrt(vhat) + a->eps);
    }
    return p;
}

START_TEST(adamw_takes_the_steps_of_the_oracle) {
    struct adam_input in = {.a = {.n = ADAM_N,
                                  .gscale = 0.7f,
                                  .lr = 1e-2f,
                                  .beta1 = 0.9f,
                                  .beta2 = 0.95f,
                                  .eps = 1e-8f},
                            .p = kt_draw(ADAM_N, 1, 1.0f),
                            .g = kt_draw(3 * ADAM_N, 2, 1e-2f)};
    float *out = kt_fill(3 * ADAM_N, 0);
    for (int decay = 0; decay < 2; decay++) {
        in.a.weight_decay = (float)decay * 0.1f;
        for (int i = 0; i < 3; i++)
            in.g[i * ADAM_N + 5] = 0; /* no gradient: only decay moves it */
        kt_agree(adam_run, &in, out, 3 * ADAM_N);
        for (int i = 0; i < ADAM_N; i++)
            kt_expect_near(out[i], adam_ref(&in, i), 2e-7, "p", i);
    }
    free(out);
    free(in.p);
    free(in.g);
}
END_TEST

/* The same steps with p in two words: high words, low words, m, v. */
static void adam_words_run(struct kern *k, const void *arg, float *out) {
    const struct adam_input *in = arg;
    struct kern_adamw a = in->a;
    uint16_t hi[ADAM_N];
    int16_t lo[ADAM_N];
    for (int i = 0; i < ADAM_N; i++) {
        uint32_t bits;
        memcpy(&bits, &in->p[i], 4);
        hi[i] = (uint16_t)((bits + 0x8000u) >> 16);
        lo[i] = (int16_t)(uint16_t)bits;
    }
    memset(out, 0, 3 * ADAM_N * sizeof *out);
    a.p = NULL;
    a.hi = hi;
    a.lo = lo;
    a.m = out + ADAM_N;
    a.v = out + 2 * ADAM_N;
    for (int t = 1; t <= 3; t++) {
        a.bias1 = (float)(1 - pow(a.beta1, t));
        a.bias2 = (float)(1 - pow(a.beta2, t));
        a.g = in->g + (t - 1) * ADAM_N;
        ck_assert_int_eq(k->ops->adamw(k, &a), KERN_OK);
    }
    for (int i = 0; i < ADAM_N; i++) {
        uint32_t bits = ((uint32_t)hi[i] << 16) + (uint32_t)lo[i];
        memcpy(&out[i], &bits, 4);
        ck_assert(fabsf(kt_bf16(hi[i]) - out[i]) <= fabsf(out[i]) * 0x1p-8f);
    }
}

START_TEST(adamw_in_two_words_has_the_bits_of_one) {
    struct adam_input in = {.a = {ADAM_N, NULL, NULL, NULL, NULL, NULL, NULL,
                                  0.7f, 1e-2f, 0.9f, 0.95f, 1e-8f, 0.1f, 0, 0},
                            .p = kt_draw(ADAM_N, 1, 1.0f),
                            .g = kt_draw(3 * ADAM_N, 2, 1e-2f)};
    float *one = kt_fill(3 * ADAM_N, 0), *two = kt_fill(3 * ADAM_N, 0);
    in.p[7] = 0;
    in.p[8] = 1e-40f; /* subnormal */
    in.p[9] = -3.3e38f;
    kt_agree(adam_run, &in, one, 3 * ADAM_N);
    kt_agree(adam_words_run, &in, two, 3 * ADAM_N);
    kt_expect_same(two, one, 3 * ADAM_N, "two words beside one");
    struct kern *k = kt_best();
    ck_assert_int_eq(k->ops->adamw(k, &in.a), KERN_EINVAL); /* neither */
    k->ops->close(k);
    free(one);
    free(two);
    free(in.p);
    free(in.g);
}
END_TEST

/* ppo's loss at the ratio exp(q), whatever the token's own is. */
START_TEST(gspo_is_ppo_at_the_sequences_ratio) {
    enum { N = 7 };
    static const float q[N] = {0, 0.1f, -0.1f, 0.5f, -0.5f, 0.5f, -0.5f};
    static const float A[N] = {1, 2, -2, 1, 1, -1, -1};
    float lp[N], lo[N], hi[N], w[N] = {0}, loss[2][N], g[2][N], at[N] = {0};
    struct kern *k = kt_best();
    for (int i = 0; i < N; i++) {
        lp[i] = -3.0f - (float)i;
        lo[i] = 0.8f;
        hi[i] = 1.28f;
    }
    struct kern_loss l = {KERN_LOSS_GSPO, N,   lp, w, q, A, lo, hi, 0,
                          loss[0],        g[0]};
    ck_assert_int_eq(k->ops->loss(k, &l), KERN_OK);
    l.kind = KERN_LOSS_PPO;
    l.lp = q; /* r = exp(q - 0) */
    l.q = at;
    l.loss = loss[1];
    l.g = g[1];
    ck_assert_int_eq(k->ops->loss(k, &l), KERN_OK);
    kt_expect_same(loss[0], loss[1], N, "loss");
    kt_expect_same(g[0], g[1], N, "gradient");
    ck_assert(g[0][3] == 0 && g[0][4] != 0 && g[0][5] != 0 && g[0][6] == 0);
    k->ops->close(k);
}
END_TEST

Suite *xent_suite(void) {
    Suite *s = suite_create("xent");
    TCase *tc = tcase_create("xent");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, xent_and_its_backward_match_the_oracle);
    tcase_add_test(tc, xent_of_extreme_logits_is_exact_or_not_finite);
    tcase_add_test(tc, xent_rows_without_weight_have_no_gradient);
    tcase_add_test(tc, xent_refuses_targets_outside_the_vocabulary);
    tcase_add_test(tc, losses_match_the_golden_ones);
    tcase_add_test(tc, losses_of_tokens_left_out_are_0);
    tcase_add_test(tc, adamw_takes_the_steps_of_the_oracle);
    tcase_add_test(tc, adamw_in_two_words_has_the_bits_of_one);
    tcase_add_test(tc, gspo_is_ppo_at_the_sequences_ratio);
    suite_add_tcase(s, tc);
    return s;
}
