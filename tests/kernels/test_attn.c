/* Attention: beside a double oracle and its differences; packed, alone and
 * paged rows have equal bits. */
#include "tests/kernels/kt.h"

Suite *attn_suite(void);

#define SEQS_MAX 5

struct attn_case {
    int H, K, D;
    int window;
    float softcap;
    bool has_sinks;
    int n_seq, len[SEQS_MAX];
    int pad; /* added to every row stride */
};

static const struct attn_case cases[] = {
    {1, 1, 1, 0, 0, false, 1, {1}, 0},
    {1, 1, 4, 0, 0, false, 1, {9}, 0},
    {2, 1, 8, 0, 0, false, 2, {17, 5}, 3},
    {4, 2, 16, 0, 0, false, 3, {33, 1, 12}, 0},
    {3, 3, 20, 0, 0, true, 2, {14, 40}, 1},
    {2, 2, 64, 0, 0, false, 1, {70}, 0},
    {6, 2, 5, 7, 0, false, 2, {30, 8}, 0},
    {2, 1, 16, 16, 30.0f, false, 2, {50, 19}, 2},
    {2, 1, 33, 1, 0, true, 1, {20}, 0},
    {4, 1, 12, 20, 2.0f, true, 5, {3, 0, 66, 2, 31}, 0},
    {2, 2, 128, 0, 0, false, 2, {65, 130}, 0},
};

struct attn_input {
    const struct attn_case *c;
    struct kern_attn a; /* outputs not set */
    float *q, *k, *v, *d_o, *sinks;
    int32_t start[SEQS_MAX + 1];
    size_t no, nq, nk; /* floats of o; dq; dk and dv */
};

static size_t attn_floats(int T, int64_t ld, int used) {
    return T ? (size_t)((T - 1) * ld + used) : 0;
}

static void attn_draw(struct attn_input *in, const struct attn_case *c,
                      uint64_t seed) {
    *in = (struct attn_input){.c = c};
    int T = 0, longest = 0;
    for (int s = 0; s < c->n_seq; s++) {
        T += c->len[s];
        in->start[s + 1] = T;
        longest = c->len[s] > longest ? c->len[s] : longest;
    }
    int64_t ldq = c->H * c->D + c->pad, ldk = c->K * c->D + c->pad;
    in->q = kt_rows(T, c->H * c->D, ldq, seed, 2.0f);
    in->k = kt_rows(T, c->K * c->D, ldk, seed + 1, 2.0f);
    in->v = kt_rows(T, c->K * c->D, ldk, seed + 2, 1.0f);
    in->d_o = kt_rows(T, c->H * c->D, ldq, seed + 3, 1.0f);
    in->sinks = kt_draw((size_t)c->H, seed + 4, 3.0f);
    in->nq = in->no = attn_floats(T, ldq, c->H * c->D);
    in->nk = attn_floats(T, ldk, c->K * c->D);
    in->a = (struct kern_attn){.T = T,
                               .n_seq = c->n_seq,
                               .H = c->H,
                               .K = c->K,
                               .D = c->D,
                               .start = in->start,
                               .max_len = longest,
                               .window = c->window,
                               .scale = 1.0f / sqrtf((float)c->D),
                               .softcap = c->softcap,
                               .sinks = c->has_sinks ? in->sinks : NULL,
                               .q = in->q,
                               .k = in->k,
                               .v = in->v,
                               .ldq = ldq,
                               .ldk = ldk,
                               .ldv = ldk,
                               .ldo = ldq,
                               .d_o = in->d_o};
}

static void attn_free(struct attn_input *in) {
    free(in->q);
    free(in->k);
    free(in->v);
    free(in->d_o);
    free(in->sinks);
}

/* ---- the oracle: one row of one head in double ---- */

struct attn_ref {
    double q[128], k[256][128], v[256][128], d_o[128]; /* keys lo … hi */
    double p[256], o[128], lse, sink;
    int D, n;
    double scale, softcap;
    bool has_sink;
};

static double ref_score(const struct attn_ref *r, int j) {
    double s = 0;
    for (int d = 0; d < r->D; d++)
        s += r->q[d] * r->k[j][d];
    s *= r->scale;
    return r->softcap > 0 ? r->softcap * tanh(s / r->softcap) : s;
}

static void ref_forward(struct attn_ref *r) {
    double m = r->has_sink ? r->sink : -INFINITY, l = 0;
    for (int j = 0; j < r->n; j++) {
        r->p[j] = ref_score(r, j);
        m = fmax(m, r->p[j]);
    }
    for (int j = 0; j < r->n; j++)
        l += r->p[j] = exp(r->p[j] - m);
    l += r->has_sink ? exp(r->sink - m) : 0;
    r->lse = m + log(l);
    memset(r->o, 0, sizeof r->o);
    for (int j = 0; j < r->n; j++) {
        r->p[j] /= l;
        for (int d = 0; d < r->D; d++)
            r->o[d] += r->p[j] * r->v[j][d];
    }
}

/* The scalar whose gradient the backward computes: Σ d_o * o. */
static double ref_dot(struct attn_ref *r) {
    double x = 0;
    ref_forward(r);
    for (int d = 0; d < r->D; d++)
        x += r->d_o[d] * r->o[d];
    return x;
}

static double ref_diff(struct attn_ref *r, double *at) {
    const double h = 1e-5, old = *at;
    *at = old + h;
    double up = ref_dot(r);
    *at = old - h;
    double down = ref_dot(r);
    *at = old;
    return (up - down) / (2 * h);
}

/* Row i of sequence s, head h. Returns its first visible key. */
static int ref_load(struct attn_ref *r, const struct attn_input *in, int s,
                    int i, int h) {
    const struct kern_attn *a = &in->a;
    int base = in->start[s], kv = h / (a->H / a->K);
    int lo = a->window > 0 && i + 1 > a->window ? i + 1 - a->window : 0;
    r->D = a->D;
    r->n = i - lo + 1;
    r->scale = a->scale;
    r->softcap = a->softcap;
    r->has_sink = a->sinks != NULL;
    r->sink = a->sinks ? a->sinks[h] : 0;
    for (int d = 0; d < a->D; d++) {
        r->q[d] = a->q[(base + i) * a->ldq + h * a->D + d];
        r->d_o[d] = a->d_o[(base + i) * a->ldo + h * a->D + d];
        for (int j = 0; j < r->n; j++) {
            int64_t t = base + lo + j;
            r->k[j][d] = a->k[t * a->ldk + kv * a->D + d];
            r->v[j][d] = a->v[t * a->ldv + kv * a->D + d];
        }
    }
    return lo;
}

/* ---- running ---- */

/* o then lse. */
static void attn_forward(struct kern *k, const void *arg, float *out) {
    const struct attn_input *in = arg;
    struct kern_attn a = in->a;
    a.o = out;
    a.lse = out + in->no;
    ck_assert_int_eq(k->ops->attn(k, &a), KERN_OK);
}

/* dq, dk, dv, dsinks. */
static void attn_backward(struct kern *k, const void *arg, float *out) {
    const struct attn_input *in = arg;
    struct kern_attn a = in->a;
    size_t n = in->no + (size_t)(a.T * a.H);
    float *fwd = kt_fill(n, 0);
    attn_forward(k, arg, fwd);
    a.o = fwd;
    a.lse = fwd + in->no;
    a.dq = out;
    a.dk = a.dq + in->nq;
    a.dv = a.dk + in->nk;
    a.dsinks = a.sinks ? a.dv + in->nk : NULL;
    ck_assert_int_eq(k->ops->attn_bwd(k, &a), KERN_OK);
    free(fwd);
}

START_TEST(attn_matches_the_double_oracle_on_every_set) {
    struct attn_ref *r = kt_buf(1, sizeof *r);
    for (int c = 0; c < KT_COUNT(cases); c++) {
        struct attn_input in;
        attn_draw(&in, &cases[c], (uint64_t)(20 * c));
        const struct kern_attn *a = &in.a;
        size_t n = in.no + (size_t)(a->T * a->H);
        float *out = kt_fill(n, 0);
        kt_agree(attn_forward, &in, out, n);
        for (int s = 0; s < a->n_seq; s++)
            for (int i = 0; i < in.c->len[s]; i++)
                for (int h = 0; h < a->H; h++) {
                    int64_t t = in.start[s] + i;
                    ref_load(r, &in, s, i, h);
                    ref_forward(r);
                    for (int d = 0; d < a->D; d++)
                        kt_expect_near(out[t * a->ldo + h * a->D + d], r->o[d],
                                       2e-6, "o", t);
                    kt_expect_near(out[in.no + (size_t)(t * a->H + h)], r->lse,
                                   4e-6, "lse", t);
                }
        free(out);
        attn_free(&in);
    }
    free(r);
}
END_TEST

/* The oracle's gradients by differences, summed into double buffers laid out
 * as dq, dk, dv, dsinks. */
static double *ref_gradients(const struct attn_input *in) {
    const struct kern_attn *a = &in->a;
    double *g = calloc(in->nq + 2 * in->nk + (size_t)a->H, sizeof *g);
    double *dk = g + in->nq, *dv = dk + in->nk, *dsinks = dv + in->nk;
    struct attn_ref *r = kt_buf(1, sizeof *r);
    for (int s = 0; s < a->n_seq; s++)
        for (int i = 0; i < in->c->len[s]; i++)
            for (int h = 0; h < a->H; h++) {
                int lo = ref_load(r, in, s, i, h);
                int64_t t = in->start[s] + i, kv = h / (a->H / a->K);
                for (int d = 0; d < a->D; d++)
                    g[t * a->ldq + h * a->D + d] = ref_diff(r, &r->q[d]);
                for (int j = 0; j < r->n; j++)
                    for (int d = 0; d < a->D; d++) {
                        int64_t at =
                            (in->start[s] + lo + j) * a->ldk + kv * a->D + d;
                        dk[at] += ref_diff(r, &r->k[j][d]);
                        dv[at] += ref_diff(r, &r->v[j][d]);
                    }
                if (r->has_sink)
                    dsinks[h] += ref_diff(r, &r->sink);
            }
    free(r);
    return g;
}

START_TEST(attn_backward_matches_differences_on_every_set) {
    for (int c = 0; c < KT_COUNT(cases); c++) {
        struct attn_input in;
        attn_draw(&in, &cases[c], (uint64_t)(20 * c));
        size_t n = in.nq + 2 * in.nk + (size_t)in.a.H;
        float *out = kt_fill(n, 0);
        kt_agree(attn_backward, &in, out, n);
        if (in.a.D <= 20) { /* the oracle is slow on the large ones */
            double *want = ref_gradients(&in);
            for (size_t i = 0; i < n; i++)
                kt_expect_near(out[i], want[i], 1e-5 * (1 + fabs(want[i])),
                               "gradient", (int64_t)i);
            free(want);
        }
        free(out);
        attn_free(&in);
    }
}
END_TEST

/* The input of sequence s alone. */
static struct attn_input attn_alone(const struct attn_input *in, int s) {
    struct attn_input one = *in;
    int64_t t = in->start[s];
    one.a.T = one.a.max_len = in->c->len[s];
    one.a.n_seq = 1;
    one.start[0] = 0;
    one.start[1] = in->c->len[s];
    one.a.q += t * in->a.ldq;
    one.a.k += t * in->a.ldk;
    one.a.v += t * in->a.ldv;
    one.a.d_o += t * in->a.ldo;
    one.no = one.nq = attn_floats(one.a.T, in->a.ldq, in->a.H * in->a.D);
    one.nk = attn_floats(one.a.T, in->a.ldk, in->a.K * in->a.D);
    return one;
}

START_TEST(attn_packed_sequences_have_the_bits_of_sequences_alone) {
    struct kern *k = kt_best();
    for (int c = 0; c < KT_COUNT(cases); c++) {
        struct attn_input in;
        attn_draw(&in, &cases[c], (uint64_t)(20 * c));
        size_t n = in.no + (size_t)(in.a.T * in.a.H);
        size_t nb = in.nq + 2 * in.nk + (size_t)in.a.H;
        float *fwd = kt_fill(n, 0), *bwd = kt_fill(nb, 0);
        float *fwd1 = kt_fill(n, 0), *bwd1 = kt_fill(nb, 0);
        attn_forward(k, &in, fwd);
        attn_backward(k, &in, bwd);
        for (int s = 0; s < in.a.n_seq; s++) {
            struct attn_input one = attn_alone(&in, s);
            one.a.start = one.start;
            size_t t = (size_t)in.start[s];
            size_t q = t * (size_t)in.a.ldq, kv = t * (size_t)in.a.ldk;
            memset(fwd1, 0, n * sizeof *fwd1);
            memset(bwd1, 0, nb * sizeof *bwd1);
            attn_forward(k, &one, fwd1);
            attn_backward(k, &one, bwd1);
            kt_expect_same(fwd1, fwd + q, one.no, "o");
            kt_expect_same(fwd1 + one.no, fwd + in.no + t * (size_t)in.a.H,
                           (size_t)(one.a.T * one.a.H), "lse");
            kt_expect_same(bwd1, bwd + q, one.nq, "dq");
            kt_expect_same(bwd1 + one.nq, bwd + in.nq + kv, one.nk, "dk");
            kt_expect_same(bwd1 + one.nq + one.nk, bwd + in.nq + in.nk + kv,
                           one.nk, "dv");
        }
        free(fwd);
        free(bwd);
        free(fwd1);
        free(bwd1);
        attn_free(&in);
    }
    k->ops->close(k);
}
END_TEST

/* ---- the paged cache ---- */

struct paged {
    float *pages, *q, *o;
    int32_t *table, *seq, *pos;
    int max_blocks, n_pages;
};

/* Pages in a scattered order, filled with NaN. */
static void paged_init(struct paged *p, const struct attn_input *in) {
    const struct kern_attn *a = &in->a;
    p->max_blocks = (a->max_len + KERN_PAGE - 1) / KERN_PAGE + 1;
    p->n_pages = a->n_seq * p->max_blocks + 1;
    p->pages = kt_fill(
        (size_t)p->n_pages * 2 * (size_t)(a->K * KERN_PAGE * a->D), NAN);
    p->table = kt_buf((size_t)(a->n_seq * p->max_blocks), sizeof *p->table);
    p->seq = kt_buf((size_t)a->T, sizeof *p->seq);
    p->pos = kt_buf((size_t)a->T, sizeof *p->pos);
    p->o = kt_fill(in->no, 0);
    for (int i = 0; i < a->n_seq * p->max_blocks; i++)
        p->table[i] = p->n_pages - 1 - i;
    for (int s = 0; s < a->n_seq; s++)
        for (int i = 0; i < in->c->len[s]; i++) {
            p->seq[in->start[s] + i] = s;
            p->pos[in->start[s] + i] = i;
        }
}

static void paged_free(struct paged *p) {
    free(p->pages);
    free(p->table);
    free(p->seq);
    free(p->pos);
    free(p->o);
}

/* Writes and attends rows t … t+n. */
static void paged_step(struct kern *k, const struct attn_input *in,
                       struct paged *p, int t, int n) {
    const struct kern_attn *a = &in->a;
    struct kern_kv kv = {
        n,          a->K,      a->D,     a->k + t * a->ldk, a->v + t * a->ldv,
        a->ldk,     a->ldv,    p->pages, p->table,          p->max_blocks,
        p->seq + t, p->pos + t};
    struct kern_attn_paged at = {n,
                                 a->H,
                                 a->K,
                                 a->D,
                                 a->window,
                                 a->scale,
                                 a->softcap,
                                 a->sinks,
                                 a->q + t * a->ldq,
                                 a->ldq,
                                 p->pages,
                                 p->table,
                                 p->max_blocks,
                                 p->seq + t,
                                 p->pos + t,
                                 p->o + t * a->ldo,
                                 a->ldo};
    ck_assert_int_eq(k->ops->kv_write(k, &kv), KERN_OK);
    ck_assert_int_eq(k->ops->attn_paged(k, &at), KERN_OK);
}

START_TEST(attn_over_pages_has_the_bits_of_packed_attention) {
    static const int chunks[] = {1 << 20, 1, 2, 13, 64};
    for (int c = 0; c < KT_COUNT(cases); c++) {
        struct attn_input in;
        attn_draw(&in, &cases[c], (uint64_t)(20 * c));
        size_t n = in.no + (size_t)(in.a.T * in.a.H);
        float *want = kt_fill(n, 0);
        for (int v = 0; v < KT_COUNT(kt_devs); v++) {
            struct kern *k = kt_open(&kt_devs[v]);
            if (k == NULL)
                continue;
            attn_forward(k, &in, want);
            for (int s = 0; s < KT_COUNT(chunks); s++) {
                struct paged p;
                paged_init(&p, &in);
                for (int t = 0; t < in.a.T; t += chunks[s]) {
                    int left = in.a.T - t;
                    paged_step(k, &in, &p, t,
                               left < chunks[s] ? left : chunks[s]);
                }
                kt_expect_same(p.o, want, in.no, "paged o");
                paged_free(&p);
            }
            k->ops->close(k);
        }
        free(want);
        attn_free(&in);
    }
}
END_TEST

START_TEST(attn_later_rows_and_other_sequences_never_matter) {
    static const struct attn_case c = {2,     1, 16,           9, 0,
                                       false, 3, {21, 40, 30}, 0};
    struct attn_input in;
    attn_draw(&in, &c, 77);
    size_t n = in.no + (size_t)(in.a.T * in.a.H);
    float *want = kt_fill(n, 0), *got = kt_fill(n, 0);
    kt_agree(attn_forward, &in, want, n);
    /* All but rows 10 … 24 of the middle one turn to NaN. */
    int first = in.start[1] + 10, last = in.start[1] + 24;
    for (int t = 0; t < in.a.T; t++)
        for (int d = 0; d < 16; d++)
            if (t < first || t > last)
                in.k[t * 16 + d] = in.v[t * 16 + d] = NAN;
    kt_agree(attn_forward, &in, got, n);
    /* Row 18 is the first whose window of 9 begins at row 10. */
    for (int t = in.start[1] + 18; t <= last; t++)
        kt_expect_same(got + t * 32, want + t * 32, 32, "o");
    for (int t = in.start[1] + 9; t < in.start[1] + 18; t++)
        for (int d = 0; d < 32; d++)
            ck_assert(isnan(got[t * 32 + d]));
    free(want);
    free(got);
    attn_free(&in);
}
END_TEST

START_TEST(attn_refuses_bad_shapes) {
    struct attn_input in;
    attn_draw(&in, &cases[3], 1);
    struct kern *k = kt_best();
    struct kern_attn bad[9];
    float *o = kt_fill(in.no, 0);
    int32_t down[] = {0, 33, 12, 46}, past[] = {0, 33, 34, 47};
    int32_t before[] = {-1, 33, 34, 46};
    in.a.o = o;
    for (int i = 0; i < 9; i++)
        bad[i] = in.a;
    bad[0].D = 0;
    bad[1].K = 0;
    bad[2].H = 3;
    bad[3].max_len = 32;
    bad[4].start = down;
    bad[5].start = past;
    bad[6].start = before;
    bad[7].ldq = 63;
    bad[8].T = -1;
    for (int i = 0; i < 9; i++) {
        ck_assert_msg(k->ops->attn(k, &bad[i]) == KERN_EINVAL, "case %d", i);
        ck_assert_msg(k->ops->attn_bwd(k, &bad[i]) == KERN_EINVAL,
                      "backward, case %d", i);
    }
    struct kern_attn none = in.a;
    none.T = none.n_seq = none.max_len = 0;
    ck_assert_int_eq(k->ops->attn(k, &none), KERN_OK);
    free(o);
    attn_free(&in);
    k->ops->close(k);
}
END_TEST

START_TEST(attn_refuses_positions_outside_the_table) {
    float q[8] = {0}, o[8], pages[2 * 64 * 8] = {0};
    int32_t table[] = {0}, seq[] = {0};
    struct kern *k = kt_best();
    for (int p = -1; p <= 64; p += 65) {
        int32_t pos[] = {p};
        struct kern_attn_paged a = {.T = 1,
                                    .H = 1,
                                    .K = 1,
                                    .D = 8,
                                    .scale = 1,
                                    .q = q,
                                    .ldq = 8,
                                    .pages = pages,
                                    .table = table,
                                    .max_blocks = 1,
                                    .seq = seq,
                                    .pos = pos,
                                    .o = o,
                                    .ldo = 8};
        struct kern_kv kv = {1, 1, 8, q, q, 8, 8, pages, table, 1, seq, pos};
        ck_assert_int_eq(k->ops->attn_paged(k, &a), KERN_EINVAL);
        ck_assert_int_eq(k->ops->kv_write(k, &kv), KERN_EINVAL);
    }
    k->ops->close(k);
}
END_TEST

Suite *attn_suite(void) {
    Suite *s = suite_create("attn");
    TCase *tc = tcase_create("attn");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, attn_matches_the_double_oracle_on_every_set);
    tcase_add_test(tc, attn_backward_matches_differences_on_every_set);
    tcase_add_test(tc, attn_packed_sequences_have_the_bits_of_sequences_alone);
    tcase_add_test(tc, attn_over_pages_has_the_bits_of_packed_attention);
    tcase_add_test(tc, attn_later_rows_and_other_sequences_never_matter);
    tcase_add_test(tc, attn_refuses_bad_shapes);
    tcase_add_test(tc, attn_refuses_positions_outside_the_table);
    suite_add_tcase(s, tc);
    return s;
}
