/* Quantised matrices: the contract of kernels.h in plain C, bit for bit on
 * every instruction set, and how near it is to what was quantised. */
#include "kernels/cpu/cpu.h"
#include "tests/kernels/kt.h"

Suite *quant_suite(void);

struct q_case {
    int m, n, k, pad;
};

static const struct q_case cases[] = {
    {1, 1, 1, 0},    {1, 16, 32, 0},   {2, 17, 31, 1},   {3, 48, 33, 0},
    {4, 50, 64, 2},  {5, 7, 100, 0},   {6, 96, 128, 0},  {7, 33, 0, 0},
    {9, 65, 520, 3}, {13, 31, 545, 0}, {17, 130, 96, 0}, {50, 49, 600, 1},
    {1, 400, 65, 0}, {200, 20, 40, 0},
};

struct q_input {
    struct kern_mm mm;
    enum kern_dtype xt;
    void *w; /* (n,k) of type xt */
    float *a, *c0;
    size_t nc;
    bool no_vnni;
};

static struct q_input q_draw(const struct q_case *s, enum kern_dtype bt,
                             enum kern_dtype xt, bool acc, uint64_t seed) {
    struct q_input in = {.xt = xt};
    in.mm = (struct kern_mm){.form = KERN_NT,
                             .m = s->m,
                             .n = s->n,
                             .k = s->k,
                             .lda = s->k + s->pad,
                             .bt = bt,
                             .ldb = s->k,
                             .ldc = s->n + s->pad,
                             .acc = acc};
    size_t nw = (size_t)s->n * (size_t)s->k;
    if (xt == KERN_F32) {
        in.w = kt_draw(nw, seed, 0.3f);
    } else {
        uint16_t *w = kt_buf(nw, sizeof *w);
        for (size_t i = 0; i < nw; i++)
            w[i] = kt_narrow(xt, seed, i);
        in.w = w;
    }
    in.a = kt_rows(s->m, s->k, in.mm.lda, seed + 1, 2.0f);
    in.nc = (size_t)((s->m - 1) * in.mm.ldc + s->n);
    in.c0 = kt_rows(s->m, s->n, in.mm.ldc, seed + 2, 4.0f);
    in.mm.a = in.a;
    return in;
}

static void q_free(struct q_input *in) {
    free(in->w);
    free(in->a);
    free(in->c0);
}

/* ---- the contract ---- */

static float bf16_up(float x) {
    uint32_t u;
    memcpy(&u, &x, 4);
    u = (u & 0xffff) ? (u | 0xffff) + 1 : u;
    memcpy(&x, &u, 4);
    return x;
}

static float bf16_near(float x) {
    uint32_t u;
    memcpy(&u, &x, 4);
    uint32_t low = u & 0xffff;
    u -= low;
    if (low > 0x8000 || (low == 0x8000 && (u & 0x10000)))
        u += 0x10000;
    memcpy(&x, &u, 4);
    return x;
}

/* max|x|, inf when one is not finite; *at is the first that has it. */
static float largest(const float *x, int n, int *at) {
    float m = -1;
    for (int i = 0; i < n; i++) {
        float v = isfinite(x[i]) ? fabsf(x[i]) : INFINITY;
        if (v > m) {
            m = v;
            *at = i;
        }
    }
    return m;
}

static float weight_block(const float *w, int n, enum kern_dtype t, int *q) {
    int at = 0;
    float m = largest(w, n, &at);
    for (int i = 0; i < n; i++)
        q[i] = 0;
    if (isinf(m))
        return NAN;
    if (m < KERN_QTINY)
        return 0;
    float d = t == KERN_Q8 ? bf16_up(m / 127.0f) : bf16_near(w[at] / -8.0f);
    for (int i = 0; i < n; i++) {
        q[i] = (int)rintf(w[i] / d);
        if (t == KERN_Q4)
            q[i] = q[i] > 7 ? 7 : q[i] < -8 ? -8 : q[i];
        ck_assert_int_le(abs(q[i]), 127);
    }
    return d;
}

static float act_block(const float *a, int n, int *q) {
    int at;
    float m = largest(a, n, &at);
    for (int i = 0; i < n; i++)
        q[i] = isinf(m) || m < KERN_QTINY ? 0 : (int)rintf(a[i] * (127.0f / m));
    return isinf(m) ? NAN : m < KERN_QTINY ? 0 : m / 127.0f;
}

/* *size: sum of the terms' sizes, with each factor's step. */
static float element(const struct q_input *in, int i, int j, double *exact,
                     double *size) {
    const struct kern_mm *x = &in->mm;
    float c = x->acc ? in->c0[i * x->ldc + j] : 0.0f;
    *exact = (double)c;
    *size = fabs(*exact);
    for (int k = 0; k < x->k; k += KERN_QBLOCK) {
        int n = x->k - k < KERN_QBLOCK ? x->k - k : KERN_QBLOCK, dot = 0;
        int qw[KERN_QBLOCK], qa[KERN_QBLOCK];
        float w[KERN_QBLOCK];
        const float *a = x->a + i * x->lda + k;
        for (int p = 0; p < n; p++)
            w[p] = kt_widen(in->w, in->xt, (int64_t)j * x->k + k + p);
        float d = weight_block(w, n, x->bt, qw), s = act_block(a, n, qa);
        for (int p = 0; p < n; p++) {
            dot += qw[p] * qa[p];
            *exact += (double)w[p] * (double)a[p];
            *size += (fabs((double)d) * 0.51 * (x->bt == KERN_Q4 ? 2 : 1)) *
                         fabs((double)a[p]) +
                     (double)s * 0.51 * (fabs((double)w[p]) + fabs((double)d));
        }
        c = fmaf((float)dot, s * d, c);
    }
    return c;
}

/* ---- tests ---- */

static void q_run(struct kern *k, const void *arg, float *out) {
    const struct q_input *in = arg;
    struct kern_mm mm = in->mm;
    void *b = kt_buf(kern_quant_bytes(mm.bt, mm.n, mm.k), 1);
    struct kern_quant q = {mm.bt, mm.n, mm.k, in->w, in->xt, b};
    if (in->no_vnni)
        cpu_of(k)->has_vnni = false;
    ck_assert_int_eq(k->ops->quant(k, &q), KERN_OK);
    memcpy(out, in->c0, in->nc * sizeof *out);
    mm.b = b;
    mm.c = out;
    ck_assert_int_eq(k->ops->mm(k, &mm), KERN_OK);
    free(b);
}

static void q_check(const struct q_input *in, const float *c) {
    char what[64];
    const struct kern_mm *x = &in->mm;
    snprintf(what, sizeof what, "q%d %dx%dx%d", x->bt == KERN_Q8 ? 8 : 4, x->m,
             x->n, x->k);
    for (int i = 0; i < x->m; i++)
        for (int j = 0; j < x->n; j++) {
            double exact, size;
            float want = element(in, i, j, &exact, &size);
            int64_t at = i * x->ldc + j;
            ck_assert_msg(kt_same(c[at], want), "%s: (%d,%d) is %a, not %a",
                          what, i, j, (double)c[at], (double)want);
            kt_expect_near((double)c[at], exact, size, what, at);
        }
    for (int i = 0; i + 1 < x->m; i++)
        for (int64_t j = x->n; j < x->ldc; j++)
            ck_assert_msg(isnan(c[i * x->ldc + j]), "%s: padding written",
                          what);
}

START_TEST(quantised_products_are_the_contract_on_every_set_and_thread_count) {
    for (int s = 0; s < KT_COUNT(cases); s++)
        for (int v = 0; v < 8; v++) {
            struct q_input in = q_draw(&cases[s], v % 2 ? KERN_Q4 : KERN_Q8,
                                       (enum kern_dtype)(v % 3), v / 2 % 2,
                                       (uint64_t)(50 * s + v));
            in.no_vnni = v >= 4;
            float *c = kt_buf(in.nc, sizeof *c);
            kt_agree(q_run, &in, c, in.nc);
            q_check(&in, c);
            free(c);
            q_free(&in);
        }
}
END_TEST

START_TEST(quantised_rows_alone_have_the_bits_of_rows_together) {
    struct q_case s = {11, 60, 700, 0};
    struct kern *k = kt_best();
    for (int t = 0; t < 2; t++) {
        struct q_input in =
            q_draw(&s, t ? KERN_Q4 : KERN_Q8, KERN_BF16, false, 7);
        float *all = kt_buf(in.nc, sizeof *all), *one = kt_fill(60, 0);
        q_run(k, &in, all);
        struct q_input row = in;
        row.mm.m = 1;
        row.nc = 60;
        for (int i = 0; i < s.m; i++) {
            row.mm.a = in.a + i * in.mm.lda;
            q_run(k, &row, one);
            kt_expect_same(one, all + i * in.mm.ldc, 60, "one row");
        }
        free(all);
        free(one);
        q_free(&in);
    }
    k->ops->close(k);
}
END_TEST

/* What is not finite reaches its row (of A) or column (of B), and no other. */
START_TEST(quantised_products_pass_on_what_is_not_finite) {
    struct q_case s = {5, 20, 70, 0};
    for (int v = 0; v < 4; v++) {
        struct q_input in =
            q_draw(&s, v % 2 ? KERN_Q4 : KERN_Q8, KERN_F32, false, 3);
        float *w = in.w;
        in.a[2 * in.mm.lda + 40] = v < 2 ? NAN : -INFINITY;
        w[11 * 70 + 69] = v < 2 ? INFINITY : NAN;
        for (int p = 0; p < 32; p++) {
            in.a[p] = 1e-38f; /* a block that counts as 0 */
            w[3 * 70 + p] = p % 2 ? 1e-40f : 0.0f;
        }
        float *c = kt_buf(in.nc, sizeof *c);
        kt_agree(q_run, &in, c, in.nc);
        for (int i = 0; i < s.m; i++)
            for (int j = 0; j < s.n; j++) {
                double exact, size;
                ck_assert_int_eq(isnan(c[i * 20 + j]) != 0, i == 2 || j == 11);
                ck_assert(
                    kt_same(c[i * 20 + j], element(&in, i, j, &exact, &size)));
            }
        free(c);
        q_free(&in);
    }
}
END_TEST

START_TEST(quantised_matrices_are_only_b_of_nt) {
    struct q_case s = {2, 16, 32, 0};
    struct kern *k = kt_best();
    struct q_input in = q_draw(&s, KERN_Q8, KERN_F32, false, 3);
    struct kern_mm mm = in.mm;
    float c[64], y[1024];
    mm.b = y;
    mm.c = c;
    mm.form = KERN_NN;
    ck_assert_int_eq(k->ops->mm(k, &mm), KERN_EINVAL);
    ck_assert_int_eq(k->ops->widen(k, y, in.w, KERN_Q8, 4), KERN_EINVAL);
    struct kern_quant q = {KERN_BF16, 16, 32, in.w, KERN_F32, y};
    ck_assert_int_eq(k->ops->quant(k, &q), KERN_EINVAL);
    q_free(&in);
    k->ops->close(k);
}
END_TEST

Suite *quant_suite(void) {
    Suite *s = suite_create("quant");
    TCase *tc = tcase_create("quant");
    tcase_set_timeout(tc, 60);
    tcase_add_test(
        tc, quantised_products_are_the_contract_on_every_set_and_thread_count);
    tcase_add_test(tc, quantised_rows_alone_have_the_bits_of_rows_together);
    tcase_add_test(tc, quantised_products_pass_on_what_is_not_finite);
    tcase_add_test(tc, quantised_matrices_are_only_b_of_nt);
    suite_add_tcase(s, tc);
    return s;
}
