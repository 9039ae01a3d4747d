/* From logits to tokens: against the oracle's exact distributions. */
#include "core/sample/int.h"

#include "core/json.h"
#include "core/rng.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

Suite *sample_logit_suite(void);

#define CASES "tests/golden/sampling/golden.json"
#define DRAWS 20000

struct drawn_case {
    float *logits;
    double *probs, *reported;
    int32_t V;
    struct filter f;
    float temperature, lse;
};

static double num(const json_t *c, const char *key) {
    return json_number_value(json_object_get(c, key));
}

/* "-inf" is a string there. */
static double at(const json_t *c, const char *key, int32_t i) {
    double v = NAN;
    json_to_num(json_array_get(json_object_get(c, key), (size_t)i), &v);
    return v;
}

static struct drawn_case case_of(const json_t *c) {
    struct drawn_case d = {
        .V = (int32_t)json_array_size(json_object_get(c, "logits")),
        .f = {(int32_t)num(c, "top_k"), (float)num(c, "top_p"),
              (float)num(c, "min_p")},
        .temperature = (float)num(c, "temperature")};
    size_t n = (size_t)d.V;
    double max = -INFINITY, sum = 0;
    d.logits = calloc(n, sizeof *d.logits);
    d.probs = calloc(n, sizeof *d.probs);
    d.reported = calloc(n, sizeof *d.reported);
    for (int32_t i = 0; i < d.V; i++) {
        d.logits[i] = (float)at(c, "logits", i);
        d.probs[i] = at(c, "probs", i);
        d.reported[i] = at(c, "reported_logprobs", i);
        max = fmax(max, (double)d.logits[i]);
    }
    for (int32_t i = 0; i < d.V; i++)
        sum += exp((double)d.logits[i] - max);
    d.lse = (float)(max + log(sum));
    return d;
}

static void case_free(struct drawn_case *d) {
    free(d->logits);
    free(d->probs);
    free(d->reported);
}

static json_t *cases(void) {
    struct err err = {0};
    json_t *g = json_read_file(CASES, 1 << 26, &err);
    ck_assert_msg(g != NULL, "%s", err.msg);
    return g;
}

START_TEST(distribution_and_logprobs_are_the_oracles) {
    json_t *g = cases(), *c;
    size_t i;
    json_array_foreach(json_object_get(g, "cases"), i, c) {
        struct drawn_case d = case_of(c);
        struct row r = row_of(d.logits, d.V, d.lse, d.temperature);
        double *probs = calloc((size_t)d.V, sizeof *probs);
        row_probs(&r, &d.f, probs);
        for (int32_t v = 0; v < d.V; v++) {
            double lp = (double)row_logprob(&r, (uint32_t)v);
            double ulp = 1.2e-7 * fabs((double)d.lse); /* lse is a float */
            ck_assert_msg(fabs(probs[v] - d.probs[v]) < 1e-5,
                          "case %zu token %d: p %.9g, oracle %.9g", i, v,
                          probs[v], d.probs[v]);
            ck_assert_msg(lp == d.reported[v] ||
                              fabs(lp - d.reported[v]) <
                                  2e-6 * (1 + fabs(d.reported[v])) + ulp,
                          "case %zu token %d: logprob %.9g, oracle %.9g", i, v,
                          lp, d.reported[v]);
        }
        free(probs);
        case_free(&d);
    }
    json_decref(g);
}
END_TEST

/* The 0.9999 quantile of chi-square with n degrees (Wilson and Hilferty). */
static double chi_limit(int n) {
    double h = 2.0 / (9 * n), t = 1 - h + 3.719 * sqrt(h);
    return n * t * t * t;
}

/* Every ninth case: the tokens that come out, counted. */
START_TEST(draws_follow_the_distribution) {
    json_t *g = cases(), *c;
    size_t i;
    json_array_foreach(json_object_get(g, "cases"), i, c) {
        if (i % 9 != 4)
            continue;
        struct drawn_case d = case_of(c);
        struct row r = row_of(d.logits, d.V, d.lse, d.temperature);
        int *seen = calloc((size_t)d.V, sizeof *seen), cells = -1;
        double chi = 0, rest_p = 0;
        int rest = 0;
        for (uint64_t k = 0; k < DRAWS; k++)
            seen[row_draw(&r, &d.f, rng_uniform(7, i, k))]++;
        for (int32_t v = 0; v < d.V; v++) {
            double want = d.probs[v] * DRAWS;
            ck_assert_msg(d.probs[v] > 0 || seen[v] == 0,
                          "case %zu: token %d was filtered and drawn", i, v);
            if (want < 5) {
                rest_p += want;
                rest += seen[v];
                continue;
            }
            chi += (seen[v] - want) * (seen[v] - want) / want;
            cells++;
        }
        if (rest_p >= 5) {
            chi += (rest - rest_p) * (rest - rest_p) / rest_p;
            cells++;
        }
        ck_assert_msg(cells < 1 || chi < chi_limit(cells),
                      "case %zu: chi-square %.1f over %d", i, chi, cells);
        free(seen);
        case_free(&d);
    }
    json_decref(g);
}
END_TEST

/* A draw looks only at as many candidates as it needs: the same token as one
 * over the whole row. */
START_TEST(draw_is_the_inverse_of_the_whole_distribution) {
    enum { V = 5000 };
    float *x = calloc(V, sizeof *x);
    double *p = calloc(V, sizeof *p), sum = 0;
    for (int spread = 1; spread < 40; spread += 6) {
        double max = -INFINITY;
        for (int i = 0; i < V; i++) {
            x[i] = (float)(spread * rng_normal(3, (uint64_t)spread,
                                               (uint64_t)i / 2)); /* ties */
            max = fmax(max, (double)x[i]);
        }
        sum = 0;
        for (int i = 0; i < V; i++)
            sum += exp((double)x[i] - max);
        struct row r = row_of(x, V, (float)(max + log(sum)), 1.0f);
        struct filter f = {-1, 1, 0};
        row_probs(&r, &f, p);
        for (int k = 0; k < 60; k++) {
            float u = rng_uniform(5, 0, (uint64_t)k);
            uint32_t id = row_draw(&r, &f, u);
            double before = 0; /* of all that come first in the order */
            for (uint32_t i = 0; i < V; i++)
                before += x[i] > x[id] || (x[i] == x[id] && i < id) ? p[i] : 0;
            ck_assert_msg(before - 1e-5 <= (double)u &&
                              (double)u <= before + p[id] + 1e-5,
                          "u %g gave token %u of [%g, %g]", (double)u, id,
                          before, before + p[id]);
        }
    }
    free(x);
    free(p);
}
END_TEST

START_TEST(likeliest_tokens_are_those_of_a_sort) {
    enum { V = 777, K = 20 };
    float x[V], lp[K];
    uint32_t ids[K];
    for (int temperature = 1; temperature < 4; temperature++) {
        double sum = 0;
        for (int i = 0; i < V; i++) {
            x[i] =
                (float)rng_normal(9, (uint64_t)temperature, (uint64_t)(i / 3));
            sum += exp((double)x[i] / temperature);
        }
        struct row r = row_of(x, V, (float)log(sum), (float)temperature);
        row_top(&r, K, ids, lp);
        for (int k = 0; k < K; k++) {
            int above = 0;
            for (int i = 0; i < V; i++)
                above += x[i] > x[ids[k]] ||
                         (x[i] == x[ids[k]] && (uint32_t)i < ids[k]);
            ck_assert_int_eq(above, k);
            double want = (double)x[ids[k]] / temperature - log(sum);
            ck_assert_double_eq_tol((double)lp[k], want, 2e-6);
        }
    }
    row_top(&(struct row){.logits = (float[]){1, 2}, .V = 2, .temperature = 1},
            3, ids, lp);
    ck_assert(ids[0] == 1 && ids[1] == 0 && isnan(lp[2]));
}
END_TEST

START_TEST(rows_that_are_not_finite_give_a_token) {
    float bad[3][4] = {{NAN, NAN, NAN, NAN},
                       {-INFINITY, -INFINITY, -INFINITY, -INFINITY},
                       {INFINITY, 1, NAN, -INFINITY}};
    for (int i = 0; i < 3; i++)
        for (int t = 0; t < 3; t++) {
            struct row r = row_of(bad[i], 4, NAN, (float)t * 0.5f);
            struct filter f = {t == 1 ? 2 : -1, t == 2 ? 0.5f : 1, 0.1f};
            ck_assert_uint_lt(row_draw(&r, &f, 0.7f), 4);
        }
}
END_TEST

Suite *sample_logit_suite(void) {
    Suite *s = suite_create("sample logit");
    TCase *tc = tcase_create("logit");
    tcase_set_timeout(tc, 30);
    tcase_add_test(tc, distribution_and_logprobs_are_the_oracles);
    tcase_add_test(tc, draws_follow_the_distribution);
    tcase_add_test(tc, draw_is_the_inverse_of_the_whole_distribution);
    tcase_add_test(tc, likeliest_tokens_are_those_of_a_sort);
    tcase_add_test(tc, rows_that_are_not_finite_give_a_token);
    suite_add_tcase(s, tc);
    return s;
}
