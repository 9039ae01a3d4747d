/* Preference losses, group objectives, KL terms and advantages beside
 * PyTorch's in double, and their gradients beside finite differences. */
#include "core/recipe/objective.h"

#include "kernels/kernels.h"

#include <check.h>
#include <jansson.h>
#include <math.h>
#include <string.h>

Suite *recipe_objective_suite(void);

#define GOLDEN "tests/golden/losses/objectives.json"
#define SEQS 8
#define TOKENS 16

static json_t *doc;

static void setup(void) {
    json_error_t e;
    doc = json_load_file(GOLDEN, 0, &e);
    ck_assert_msg(doc != NULL, "%s: %s", GOLDEN, e.text);
}
static void teardown(void) { json_decref(doc); }

static void near(double got, double want, const char *what) {
    ck_assert_msg(fabs(got - want) <= 1e-5 * fmax(fabs(want), 0.1),
                  "%s: %.9g, golden %.9g", what, got, want);
}

static double num(const json_t *o, const char *key) {
    return json_number_value(json_object_get(o, key));
}

static size_t doubles(const json_t *a, double *out) {
    size_t n = json_array_size(a);
    ck_assert_uint_le(n, TOKENS);
    for (size_t i = 0; i < n; i++)
        out[i] = json_number_value(json_array_get(a, i));
    return n;
}

static size_t floats(const json_t *a, float *out) {
    double x[TOKENS];
    size_t n = doubles(a, x);
    for (size_t i = 0; i < n; i++)
        out[i] = (float)x[i];
    return n;
}

/* ---- preferences ---- */

struct side {
    struct pref_seq s;
    float lp[TOKENS], ref[TOKENS];
    double dlp[TOKENS];
};

static void side_load(struct side *x, const json_t *c, const char *lp,
                      const char *ref, size_t i) {
    x->s = (struct pref_seq){.lp = x->lp, .ref = x->ref, .dlp = x->dlp};
    x->s.n = floats(json_array_get(json_object_get(c, lp), i), x->lp);
    floats(json_array_get(json_object_get(c, ref), i), x->ref);
}

static struct pref_conf conf_of(const json_t *c) {
    const json_t *k = json_object_get(c, "config");
    struct pref_conf p = {.beta = num(k, "beta"),
                          .smoothing = num(k, "label_smoothing"),
                          .gamma = num(k, "gamma"),
                          .lambda = num(k, "lambda")};
    const char *name = json_string_value(json_object_get(c, "loss"));
    ck_assert_msg(pref_by_name(name, &p.loss), "%s", name);
    ck_assert_str_eq(pref_name(p.loss), name);
    return p;
}

static void side_check(const struct side *x, const json_t *c, const char *key,
                       size_t i) {
    double want[TOKENS];
    doubles(json_array_get(json_object_get(c, key), i), want);
    for (size_t t = 0; t < x->s.n; t++)
        near(x->dlp[t], want[t], key);
}

START_TEST(pair_losses_and_gradients_match_pytorch) {
    const json_t *cases = json_object_get(doc, "preference");
    int seen = 0;
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *c = json_array_get(cases, i);
        const json_t *pairs = json_object_get(c, "pair_losses");
        size_t n = json_array_size(pairs);
        double sum = 0;
        if (n == 0) /* bradley_terry */
            continue;
        struct pref_conf k = conf_of(c);
        for (size_t p = 0; p < n; p++) {
            struct side a, b;
            struct pref_result r;
            side_load(&a, c, "chosen", "ref_chosen", p);
            side_load(&b, c, "rejected", "ref_rejected", p);
            pref_pair(&k, &a.s, &b.s, 1.0 / (double)n, &r);
            near(r.loss, json_number_value(json_array_get(pairs, p)), "pair");
            side_check(&a, c, "dvalue_dchosen", p);
            side_check(&b, c, "dvalue_drejected", p);
            sum += r.loss / (double)n;
        }
        near(sum, num(c, "value"), "mean over pairs");
        seen |= 1 << k.loss;
    }
    ck_assert_int_eq(seen, (1 << PREF_N) - 1);
}
END_TEST

START_TEST(pair_gradients_are_the_slopes_of_the_loss) {
    for (int l = 0; l < PREF_N; l++) {
        struct pref_conf k = {(enum pref_loss)l, 0.3, 0.1, 0.5, 0.7};
        const float w[4] = {1, 0, 0.5f, 1};
        struct side x[2];
        struct pref_result r;
        for (int s = 0; s < 2; s++) {
            x[s].s = (struct pref_seq){4, x[s].lp, x[s].ref, w, x[s].dlp};
            for (int t = 0; t < 4; t++) {
                x[s].lp[t] = -0.5f - 0.25f * (float)((t + 2 * s) % 3);
                x[s].ref[t] = -1.0f + 0.125f * (float)t;
            }
        }
        pref_pair(&k, &x[0].s, &x[1].s, 1, &r);
        for (int i = 0; i < 8; i++) {
            struct side y[2] = {x[0], x[1]};
            double loss[2], h = 0x1p-9;
            y[0].s.lp = y[0].lp, y[1].s.lp = y[1].lp;
            double scratch[2][4];
            y[0].s.dlp = scratch[0], y[1].s.dlp = scratch[1];
            for (int up = 0; up < 2; up++) {
                y[i / 4].lp[i % 4] = x[i / 4].lp[i % 4] + (float)(up ? h : -h);
                pref_pair(&k, &y[0].s, &y[1].s, 1, &r);
                loss[up] = r.loss;
            }
            near(x[i / 4].dlp[i % 4], (loss[1] - loss[0]) / (2 * h),
                 pref_name(k.loss));
        }
    }
}
END_TEST

START_TEST(dpo_starts_at_log_2_and_ipo_at_a_quarter_over_beta_squared) {
    static const struct {
        enum pref_loss loss;
        double want;
    } starts[] = {
        {PREF_SIGMOID, 0.69314718055994531}, {PREF_IPO, 25}, {PREF_HINGE, 1}};
    float lp[] = {-1, -2, -0.5f};
    double d[3], e[3];
    struct pref_seq c = {3, lp, lp, NULL, d}, r = {2, lp + 1, lp + 1, NULL, e};
    for (int i = 0; i < 3; i++) {
        struct pref_conf k = {.loss = starts[i].loss, .beta = 0.1};
        struct pref_result got;
        pref_pair(&k, &c, &r, 1, &got);
        ck_assert(fabs(got.loss - starts[i].want) < 1e-12);
        ck_assert(got.margin == 0 && !got.is_correct);
    }
}
END_TEST

/* spec/recipes.md §4.1: chosen -10 (reference -11), rejected -12 (-11.5). */
START_TEST(margins_and_rewards_are_those_of_the_spec) {
    float c = -10, rc = -11, r = -12, rr = -11.5f;
    double dc, dr;
    struct pref_seq a = {1, &c, &rc, NULL, &dc}, b = {1, &r, &rr, NULL, &dr};
    struct pref_conf k = {.loss = PREF_SIGMOID, .beta = 0.1};
    struct pref_result got;
    pref_pair(&k, &a, &b, 1, &got);
    near(got.loss, 0.620957, "loss");
    near(dc, -0.0462570, "slope");
    ck_assert(got.margin_raw == 1.5 && fabs(got.margin - 0.15) < 1e-15);
    ck_assert(fabs(got.chosen_reward - 0.1) < 1e-15);
    ck_assert(fabs(got.rejected_reward + 0.05) < 1e-15 && got.is_correct);
    k.loss = PREF_ORPO;
    k.lambda = 1;
    c = -0.5f, r = -0.8f;
    pref_pair(&k, &a, &b, 1, &got);
    near(got.loss, 0.924833, "orpo");
}
END_TEST

START_TEST(extreme_scores_give_finite_losses_and_slopes) {
    for (int l = 0; l < PREF_N; l++)
        for (int i = 0; i < 4; i++) {
            float c = i & 1 ? -1e4f : 0, r = i & 2 ? -1e4f : 0, ref = 0;
            double dc, dr;
            struct pref_seq a = {1, &c, &ref, NULL, &dc};
            struct pref_seq b = {1, &r, &ref, NULL, &dr};
            struct pref_conf k = {(enum pref_loss)l, 0.5, 0.1, 0, 1};
            struct pref_result got;
            pref_pair(&k, &a, &b, 1, &got);
            ck_assert(isfinite(got.loss) && isfinite(dc) && isfinite(dr));
        }
}
END_TEST

START_TEST(bradley_terry_matches_pytorch) {
    const json_t *cases = json_object_get(doc, "preference");
    const json_t *c = json_array_get(cases, json_array_size(cases) - 1);
    double rc[TOKENS], rr[TOKENS], dc[TOKENS], dr[TOKENS], sum = 0;
    size_t n = doubles(json_object_get(c, "r_chosen"), rc);
    doubles(json_object_get(c, "r_rejected"), rr);
    doubles(json_object_get(c, "dvalue_dchosen"), dc);
    doubles(json_object_get(c, "dvalue_drejected"), dr);
    ck_assert_uint_eq(n, 5);
    for (size_t i = 0; i < n; i++) {
        double d;
        sum += pref_reward(rc[i], rr[i], &d) / (double)n;
        near(d / (double)n, dc[i], "slope");
        near(-d / (double)n, dr[i], "slope");
    }
    near(sum, num(c, "value"), "bradley_terry");
}
END_TEST

/* ---- groups ---- */

static double exact_mean(const float *p, const float *q, const double *m,
                         size_t n) {
    double sum = 0, count = 0;
    for (size_t t = 0; t < n; t++) {
        sum += m[t] * ((double)p[t] - (double)q[t]);
        count += m[t];
    }
    return sum / count;
}

/* What a recipe sends, through the loss kernel: sum of losses, gradients. */
START_TEST(group_objectives_by_scaled_advantages_match_pytorch) {
    const json_t *cases = json_object_get(doc, "group_objectives");
    struct kern *kern;
    int seen = 0;
    ck_assert_int_eq(kern_open(&kern, &(struct kern_opts){.threads = 1}), 0);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *c = json_array_get(cases, i);
        const json_t *k = json_object_get(c, "config");
        const char *name = json_string_value(json_object_get(c, "objective"));
        double A[SEQS], w[SEQS], tokens[SEQS] = {0}, sum = 0;
        double mask[SEQS][TOKENS], want[TOKENS];
        size_t n = doubles(json_object_get(c, "advantages"), A);
        int kind = 0;
        while (strcmp(group_name((enum group_kind)kind), name))
            kind++;
        for (size_t s = 0; s < n; s++) {
            size_t m =
                doubles(json_array_get(json_object_get(c, "mask"), s), mask[s]);
            for (size_t t = 0; t < m; t++)
                tokens[s] += mask[s][t];
        }
        group_weights((enum group_kind)kind, tokens, n, num(k, "max_length"),
                      w);
        for (size_t s = 0; s < n; s++) {
            float p[TOKENS], q[TOKENS], a[TOKENS], lo[TOKENS], hi[TOKENS];
            float loss[TOKENS], g[TOKENS];
            size_t m =
                floats(json_array_get(json_object_get(c, "logprobs"), s), p);
            floats(json_array_get(json_object_get(c, "old_logprobs"), s), q);
            for (size_t t = 0; t < m; t++) {
                a[t] = (float)(A[s] * w[s] * mask[s][t]);
                lo[t] = (float)(1 - num(k, "eps_low"));
                hi[t] = (float)(1 + num(k, "eps_high"));
            }
            double ratio = exact_mean(p, q, mask[s], m);
            for (size_t t = 0; t < m && kind == GROUP_GSPO; t++)
                q[t] = (float)ratio;
            struct kern_loss l = {.kind = kind == GROUP_GSPO ? KERN_LOSS_GSPO
                                                             : KERN_LOSS_PPO,
                                  .n = (int32_t)m,
                                  .lp = p,
                                  .q = q,
                                  .A = a,
                                  .lo = lo,
                                  .hi = hi,
                                  .loss = loss,
                                  .g = g};
            ck_assert_int_eq(kern->ops->loss(kern, &l), KERN_OK);
            doubles(json_array_get(json_object_get(c, "dloss_dlogprobs"), s),
                    want);
            for (size_t t = 0; t < m; t++) {
                near(g[t], want[t], name);
                sum += (double)loss[t];
            }
        }
        near(sum, num(c, "loss"), name);
        seen |= 1 << kind;
    }
    ck_assert_int_eq(seen, (1 << GROUP_N) - 1);
    kern->ops->close(kern);
}
END_TEST

START_TEST(advantages_match_pytorch) {
    static const char *const names[ADV_N] = {"centred", "grpo", "rloo"};
    const json_t *cases = json_object_get(doc, "advantages");
    ck_assert_uint_ge(json_array_size(cases), 4);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *c = json_array_get(cases, i);
        double r[TOKENS], want[TOKENS], got[TOKENS];
        size_t n = doubles(json_object_get(c, "rewards"), r);
        for (int k = 0; k < ADV_N; k++) {
            doubles(json_object_get(c, names[k]), want);
            advantages((enum adv_kind)k, r, n, num(c, "eps"), got);
            for (size_t j = 0; j < n; j++)
                near(got[j], want[j], names[k]);
        }
    }
    double one = 3, got;
    for (int k = 0; k < ADV_N; k++) {
        advantages((enum adv_kind)k, &one, 1, 1e-6, &got);
        ck_assert(got == 0); /* nothing to compare with */
    }
}
END_TEST

START_TEST(kl_terms_match_pytorch_and_their_slopes) {
    static const char *const names[KL_N] = {"k1", "k2", "k3"};
    const json_t *c = json_object_get(doc, "kl");
    double p[TOKENS], ref[TOKENS], want[TOKENS];
    size_t n = doubles(json_object_get(c, "p"), p);
    ck_assert_uint_ge(n, 8);
    doubles(json_object_get(c, "ref"), ref);
    for (int k = 0; k < KL_N; k++) {
        doubles(json_object_get(c, names[k]), want);
        for (size_t i = 0; i < n; i++) {
            double d, no, h = 1e-5;
            near(kl_term((enum kl_kind)k, p[i], ref[i], &d), want[i], names[k]);
            double up = kl_term((enum kl_kind)k, p[i] + h, ref[i], &no);
            double down = kl_term((enum kl_kind)k, p[i] - h, ref[i], &no);
            near(d, (up - down) / (2 * h), names[k]);
        }
    }
}
END_TEST

Suite *recipe_objective_suite(void) {
    Suite *s = suite_create("objectives");
    TCase *tc = tcase_create("objectives");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, pair_losses_and_gradients_match_pytorch);
    tcase_add_test(tc, pair_gradients_are_the_slopes_of_the_loss);
    tcase_add_test(tc,
                   dpo_starts_at_log_2_and_ipo_at_a_quarter_over_beta_squared);
    tcase_add_test(tc, margins_and_rewards_are_those_of_the_spec);
    tcase_add_test(tc, extreme_scores_give_finite_losses_and_slopes);
    tcase_add_test(tc, bradley_terry_matches_pytorch);
    tcase_add_test(tc, group_objectives_by_scaled_advantages_match_pytorch);
    tcase_add_test(tc, advantages_match_pytorch);
    tcase_add_test(tc, kl_terms_match_pytorch_and_their_slopes);
    suite_add_tcase(s, tc);
    return s;
}
