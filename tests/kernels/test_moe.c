/* Operations of sparse mlps: the router's choice, rows to experts and back,
 * the clamped activation. Each beside a double oracle, its backward beside
 * differences, equal bits on every instruction set and thread count. */
#include "tests/kernels/kt.h"

Suite *moe_suite(void);

#define E_MAX 130

/* ---- route ---- */

struct route_input {
    struct kern_route a; /* outputs not set */
    float *logits, *dshare;
    size_t pairs;
};

static struct route_input route_draw(int T, int E, int top, bool norm,
                                     uint64_t seed) {
    struct route_input in = {.a = {.T = T, .E = E, .top = top, .norm = norm},
                             .pairs = (size_t)T * (size_t)top};
    in.logits = kt_draw((size_t)T * (size_t)E, seed, 3.0f);
    in.dshare = kt_draw(in.pairs, seed + 1, 1.0f);
    in.a.logits = in.logits;
    in.a.dshare = in.dshare;
    return in;
}

static void route_free(struct route_input *in) {
    free(in->logits);
    free(in->dshare);
}

/* Experts as floats, shares, then the gradient of the logits. */
static void route_run(struct kern *k, const void *arg, float *out) {
    const struct route_input *in = arg;
    struct kern_route a = in->a;
    int32_t *expert = kt_buf(in->pairs, sizeof *expert);
    a.expert = expert;
    a.share = out + in->pairs;
    a.dlogits = out + 2 * in->pairs;
    ck_assert_int_eq(k->ops->route(k, &a), KERN_OK);
    ck_assert_int_eq(k->ops->route_bwd(k, &a), KERN_OK);
    for (size_t i = 0; i < in->pairs; i++)
        out[i] = (float)expert[i];
    free(expert);
}

/* Shares of the chosen experts in double, with logit `at` moved by h. */
static void route_shares(const struct kern_route *a, const float *x,
                         const float *expert, int at, double h, double *share) {
    double all = 0, chosen = 0, p[E_MAX];
    for (int e = 0; e < a->E; e++) {
        p[e] = exp((double)x[e] + (e == at ? h : 0));
        all += p[e];
    }
    for (int r = 0; r < a->top; r++)
        chosen += p[(int)expert[r]];
    for (int r = 0; r < a->top; r++)
        share[r] = p[(int)expert[r]] / (a->norm ? chosen : all);
}

static double route_loss(const struct kern_route *a, int t, const float *expert,
                         int at, double h) {
    double share[E_MAX], sum = 0;
    route_shares(a, a->logits + t * a->E, expert, at, h, share);
    for (int r = 0; r < a->top; r++)
        sum += share[r] * a->dshare[t * a->top + r];
    return sum;
}

/* Every expert that was not chosen comes after every one that was. */
static void route_check_choice(const struct kern_route *a, const float *x,
                               const float *expert) {
    bool chosen[E_MAX] = {false};
    for (int r = 0; r < a->top; r++) {
        int e = (int)expert[r];
        ck_assert(e >= 0 && e < a->E && !chosen[e]);
        chosen[e] = true;
        for (int o = 0; o < a->E; o++)
            ck_assert(chosen[o] || x[o] < x[e] || (x[o] == x[e] && o > e));
    }
}

static void route_check(const struct route_input *in, const float *out) {
    const struct kern_route *a = &in->a;
    const float *dl = out + 2 * in->pairs;
    for (int t = 0; t < a->T; t++) {
        const float *expert = out + t * a->top;
        double share[E_MAX];
        route_check_choice(a, a->logits + t * a->E, expert);
        route_shares(a, a->logits + t * a->E, expert, -1, 0, share);
        for (int r = 0; r < a->top; r++)
            kt_expect_near(out[in->pairs + (size_t)(t * a->top + r)], share[r],
                           1e-6, "share", t);
        for (int e = 0; e < a->E; e++) {
            double d = (route_loss(a, t, expert, e, 1e-5) -
                        route_loss(a, t, expert, e, -1e-5)) /
                       2e-5;
            kt_expect_near(dl[t * a->E + e], d, 1e-6, "dlogits", e);
        }
    }
}

START_TEST(route_chooses_the_largest_and_its_backward_matches_differences) {
    static const int shapes[][3] = {/* T E top */
                                    {1, 1, 1},  {5, 4, 2},   {3, 16, 16},
                                    {7, 17, 3}, {4, 128, 8}, {40, 6, 2}};
    for (int i = 0; i < 2 * KT_COUNT(shapes); i++) {
        const int *s = shapes[i / 2];
        struct route_input in =
            route_draw(s[0], s[1], s[2], i % 2, (uint64_t)i);
        size_t n = 2 * in.pairs + (size_t)s[0] * (size_t)s[1];
        float *out = kt_fill(n, 0);
        kt_agree(route_run, &in, out, n);
        route_check(&in, out);
        free(out);
        route_free(&in);
    }
}
END_TEST

START_TEST(route_takes_the_lower_of_equals_and_each_expert_once) {
    struct route_input in = route_draw(3, 5, 3, true, 1);
    float rows[] = {1, 2, 2, 1, 0, 0, 0, 0, 0, 0, NAN, 1, NAN, 3, 2}, out[33];
    memcpy(in.logits, rows, sizeof rows);
    struct kern *k = kt_best();
    route_run(k, &in, out);
    static const float want[] = {1, 2, 0, 0, 1, 2};
    kt_expect_same(out, want, 6, "expert");
    for (int i = 6; i < 9; i++)
        for (int j = 6; j < i; j++)
            ck_assert(out[i] != out[j] && out[i] >= 0 && out[i] < 5);
    k->ops->close(k);
    route_free(&in);
}
END_TEST

/* ---- gather, combine ---- */

struct combine_input {
    struct kern_combine a; /* outputs not set */
    int32_t *at;
    float *share, *x, *y0, *dy;
    size_t nx, ny;
};

static struct combine_input combine_draw(int T, int top, int C, bool acc,
                                         uint64_t seed) {
    struct combine_input in = {.a = {.T = T, .top = top, .C = C, .acc = acc}};
    int n = T * top;
    in.nx = (size_t)n * (size_t)C;
    in.ny = (size_t)T * (size_t)C;
    in.at = kt_buf((size_t)n, sizeof *in.at);
    for (int i = 0; i < n; i++)
        in.at[i] = i;
    for (int i = n - 1; i > 0; i--) { /* shuffled */
        int j = (int)(kt_u64(seed, (uint64_t)i) % (uint64_t)(i + 1));
        int32_t swap = in.at[i];
        in.at[i] = in.at[j];
        in.at[j] = swap;
    }
    in.share = kt_draw((size_t)n, seed + 1, 1.0f);
    in.x = kt_draw(in.nx, seed + 2, 1.0f);
    in.y0 = kt_draw(in.ny, seed + 3, 1.0f);
    in.dy = kt_draw(in.ny, seed + 4, 1.0f);
    in.a.at = in.at;
    in.a.x = in.x;
    in.a.dy = in.dy;
    return in;
}

static void combine_free(struct combine_input *in) {
    free(in->at);
    free(in->share);
    free(in->x);
    free(in->y0);
    free(in->dy);
}

/* y weighted, y plain, dx, dshare. */
static void combine_run(struct kern *k, const void *arg, float *out) {
    const struct combine_input *in = arg;
    struct kern_combine a = in->a;
    for (int plain = 0; plain < 2; plain++) {
        a.y = out + (size_t)plain * in->ny;
        a.share = plain ? NULL : in->share;
        memcpy(a.y, in->y0, in->ny * sizeof *out);
        ck_assert_int_eq(k->ops->combine(k, &a), KERN_OK);
    }
    a.share = in->share;
    a.dx = out + 2 * in->ny;
    a.dshare = a.dx + in->nx;
    ck_assert_int_eq(k->ops->combine_bwd(k, &a), KERN_OK);
}

static void combine_check(const struct combine_input *in, const float *out) {
    const struct kern_combine *a = &in->a;
    for (int t = 0; t < a->T; t++)
        for (int c = 0; c < a->C; c++) {
            float y = a->acc ? in->y0[t * a->C + c] : 0, plain = y;
            for (int r = t * a->top; r < (t + 1) * a->top; r++) {
                float x = in->x[in->at[r] * a->C + c];
                y = fmaf(in->share[r], x, y); /* by rank, rounded once each */
                plain = plain + x;
                float dx = in->share[r] * in->dy[t * a->C + c];
                kt_expect_same(
                    &out[2 * in->ny + (size_t)(in->at[r] * a->C + c)], &dx, 1,
                    "dx");
            }
            kt_expect_same(&out[t * a->C + c], &y, 1, "combined");
            kt_expect_same(&out[in->ny + (size_t)(t * a->C + c)], &plain, 1,
                           "summed");
        }
    for (int r = 0; r < a->T * a->top; r++) {
        double dot = 0;
        for (int c = 0; c < a->C; c++)
            dot += (double)in->dy[r / a->top * a->C + c] *
                   in->x[in->at[r] * a->C + c];
        kt_expect_near(out[2 * in->ny + in->nx + (size_t)r], dot,
                       1e-6 * (1 + a->C), "dshare", r);
    }
}

START_TEST(combine_sums_by_rank_and_its_backward_is_the_transpose) {
    static const int shapes[][3] = {/* T top C */
                                    {1, 1, 1},
                                    {3, 2, 7},
                                    {9, 3, 16},
                                    {4, 8, 33},
                                    {20, 2, 100}};
    for (int i = 0; i < 2 * KT_COUNT(shapes); i++) {
        const int *s = shapes[i / 2];
        struct combine_input in =
            combine_draw(s[0], s[1], s[2], i % 2, (uint64_t)i);
        size_t n = 2 * in.ny + in.nx + (size_t)(s[0] * s[1]);
        float *out = kt_fill(n, 0);
        kt_agree(combine_run, &in, out, n);
        combine_check(&in, out);
        free(out);
        combine_free(&in);
    }
}
END_TEST

START_TEST(a_tokens_sum_does_not_depend_on_its_batch) {
    struct combine_input in = combine_draw(9, 3, 33, false, 5);
    struct kern *k = kt_best();
    float *all = kt_fill(in.ny, 0), one[33];
    struct kern_combine a = in.a;
    a.share = in.share;
    a.y = all;
    ck_assert_int_eq(k->ops->combine(k, &a), KERN_OK);
    for (int t = 0; t < 9; t++) {
        a.T = 1;
        a.at = in.at + t * 3;
        a.share = in.share + t * 3;
        a.y = one;
        ck_assert_int_eq(k->ops->combine(k, &a), KERN_OK);
        kt_expect_same(one, all + t * 33, 33, "alone");
    }
    free(all);
    k->ops->close(k);
    combine_free(&in);
}
END_TEST

START_TEST(gather_copies_rows) {
    static const int32_t from[] = {2, 0, 2, 1};
    float *x = kt_draw(3 * 19, 7, 1.0f), *y = kt_fill(4 * 19, 0);
    struct kern *k = kt_best();
    ck_assert_int_eq(
        k->ops->gather(k, &(struct kern_gather){4, 19, from, x, y}), KERN_OK);
    for (int i = 0; i < 4; i++)
        kt_expect_same(y + i * 19, x + from[i] * 19, 19, "row");
    k->ops->close(k);
    free(x);
    free(y);
}
END_TEST

/* ---- swiglu ---- */

struct swiglu_input {
    struct kern_swiglu a;
    float *x, *dy;
    size_t n;
};

/* y, then dx. */
static void swiglu_run(struct kern *k, const void *arg, float *out) {
    const struct swiglu_input *in = arg;
    struct kern_swiglu a = in->a;
    a.y = out;
    a.dx = out + in->n;
    ck_assert_int_eq(k->ops->swiglu(k, &a), KERN_OK);
    ck_assert_int_eq(k->ops->swiglu_bwd(k, &a), KERN_OK);
}

static double swiglu_of(const struct kern_swiglu *a, double g, double u) {
    g = g < a->limit ? g : a->limit;
    u = u < a->limit ? u > -a->limit ? u : -a->limit : a->limit;
    return (u + 1) * g / (1 + exp(-a->alpha * g));
}

START_TEST(swiglu_and_its_backward_match_the_oracle) {
    static const int widths[] = {1, 2, 15, 16, 17, 33, 100};
    for (int i = 0; i < KT_COUNT(widths); i++) {
        int F = widths[i], T = 11;
        struct swiglu_input in = {
            .a = {.T = T, .F = F, .alpha = 1.702f, .limit = 2},
            .n = (size_t)(T * F)};
        in.a.x = in.x = kt_draw(2 * in.n, (uint64_t)i, 4.0f);
        in.a.dy = in.dy = kt_draw(in.n, (uint64_t)i + 50, 1.0f);
        float *out = kt_fill(3 * in.n, 0);
        kt_agree(swiglu_run, &in, out, 3 * in.n);
        for (size_t j = 0; j < in.n; j++) {
            double g = in.x[2 * j], u = in.x[2 * j + 1], h = 1e-6;
            double y = swiglu_of(&in.a, g, u);
            double dg =
                (swiglu_of(&in.a, g + h, u) - swiglu_of(&in.a, g - h, u)) /
                (2 * h) * in.dy[j];
            double du =
                (swiglu_of(&in.a, g, u + h) - swiglu_of(&in.a, g, u - h)) /
                (2 * h) * in.dy[j];
            int64_t at = (int64_t)j;
            kt_expect_near(out[j], y, 2e-6 * (1 + fabs(y)), "y", at);
            kt_expect_near(out[in.n + 2 * j], dg, 4e-6, "dgate", at);
            kt_expect_near(out[in.n + 2 * j + 1], du, 4e-6, "dup", at);
        }
        free(out);
        free(in.x);
        free(in.dy);
    }
}
END_TEST

START_TEST(sparse_operations_refuse_bad_shapes) {
    struct kern *k = kt_best();
    const struct kern_ops *o = k->ops;
    float x[8] = {0}, y[8], z[8];
    int32_t i[4] = {0};
    const struct kern_route r = {1, 4, 2, true, x, i, y, x, z};
    struct kern_route br[] = {r, r, r, r, r};
    br[0].T = -1, br[1].E = 0, br[2].E = KERN_EXPERTS_MAX + 1, br[3].top = 0,
    br[4].top = 5;
    for (int b = 0; b < KT_COUNT(br); b++) {
        ck_assert_int_eq(o->route(k, &br[b]), KERN_EINVAL);
        ck_assert_int_eq(o->route_bwd(k, &br[b]), KERN_EINVAL);
    }
    const struct kern_combine c = {1, 1, 4, i, x, x, y, false, x, y, z};
    struct kern_combine bc[] = {c, c, c};
    bc[0].T = -1, bc[1].top = 0, bc[2].C = 0;
    for (int b = 0; b < KT_COUNT(bc); b++) {
        ck_assert_int_eq(o->combine(k, &bc[b]), KERN_EINVAL);
        ck_assert_int_eq(o->combine_bwd(k, &bc[b]), KERN_EINVAL);
    }
    const struct kern_gather g = {1, 4, i, x, y};
    struct kern_gather bg[] = {g, g};
    bg[0].n = -1, bg[1].C = 0;
    for (int b = 0; b < KT_COUNT(bg); b++)
        ck_assert_int_eq(o->gather(k, &bg[b]), KERN_EINVAL);
    const struct kern_swiglu s = {1, 4, 1, 7, x, y, x, z};
    struct kern_swiglu bs[] = {s, s, s};
    bs[0].T = -1, bs[1].F = 0, bs[2].limit = 0;
    for (int b = 0; b < KT_COUNT(bs); b++) {
        ck_assert_int_eq(o->swiglu(k, &bs[b]), KERN_EINVAL);
        ck_assert_int_eq(o->swiglu_bwd(k, &bs[b]), KERN_EINVAL);
    }
    k->ops->close(k);
}
END_TEST

Suite *moe_suite(void) {
    Suite *s = suite_create("sparse mlps");
    TCase *tc = tcase_create("moe");
    tcase_set_timeout(tc, 20);
    tcase_add_test(
        tc, route_chooses_the_largest_and_its_backward_matches_differences);
    tcase_add_test(tc, route_takes_the_lower_of_equals_and_each_expert_once);
    tcase_add_test(tc, combine_sums_by_rank_and_its_backward_is_the_transpose);
    tcase_add_test(tc, a_tokens_sum_does_not_depend_on_its_batch);
    tcase_add_test(tc, gather_copies_rows);
    tcase_add_test(tc, swiglu_and_its_backward_match_the_oracle);
    tcase_add_test(tc, sparse_operations_refuse_bad_shapes);
    suite_add_tcase(s, tc);
    return s;
}
