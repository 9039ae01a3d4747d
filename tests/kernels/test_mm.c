/* Matrix products: each element is one chain of fma, whatever the tiling. */
#include "tests/kernels/kt.h"

Suite *mm_suite(void);

struct mm_case {
    int m, n, k;
    int pad; /* added to every row stride */
};

static const struct mm_case cases[] = {
    {1, 1, 1, 0},    {1, 1, 0, 0},      {3, 5, 0, 1},      {1, 33, 64, 0},
    {1, 64, 70, 3},  {3, 48, 100, 1},   {5, 80, 33, 2},    {8, 17, 96, 0},
    {1, 40, 7, 3},   {2, 31, 16, 0},    {3, 3, 3, 0},      {4, 32, 8, 1},
    {5, 17, 130, 0}, {6, 16, 9, 0},     {7, 50, 33, 5},    {8, 8, 8, 0},
    {11, 65, 15, 0}, {12, 32, 32, 0},   {13, 33, 17, 0},   {14, 64, 100, 2},
    {15, 1, 515, 0}, {16, 16, 16, 0},   {17, 7, 1, 0},     {25, 9, 520, 0},
    {31, 95, 31, 1}, {40, 34, 1030, 0}, {33, 2, 257, 0},   {64, 24, 64, 0},
    {97, 13, 5, 0},  {400, 3, 4, 0},    {390, 40, 9, 0},   {1, 300, 20, 0},
    {530, 70, 2, 1}, {13, 300, 3, 0},   {37, 70, 1024, 0}, {26, 1060, 20, 0},
    {9, 40, 130, 1}, {12, 65, 33, 0},
};

static const char *const forms[] = {"NT", "NN", "TN"};

struct mm_input {
    struct kern_mm mm; /* c not set */
    float *a, *c0;
    void *b;
    size_t nc;
};

static struct mm_input mm_draw(enum kern_mm_form form, const struct mm_case *s,
                               enum kern_dtype bt, bool acc, uint64_t seed) {
    int am = form == KERN_TN ? s->k : s->m, ak = form == KERN_TN ? s->m : s->k;
    int br = form == KERN_NT ? s->n : s->k, bc = form == KERN_NT ? s->k : s->n;
    struct mm_input in = {.mm = {form, s->m, s->n, s->k, NULL, ak + s->pad,
                                 NULL, bt, bc + s->pad, NULL, s->n + s->pad,
                                 acc}};
    in.a = kt_rows(am, ak, in.mm.lda, seed, 1.0f);
    if (bt == KERN_F32) {
        in.b = kt_rows(br, bc, in.mm.ldb, seed + 1, 1.0f);
    } else {
        size_t nb = br ? (size_t)((br - 1) * in.mm.ldb + bc) : 0;
        uint16_t *b = kt_buf(nb, sizeof *b);
        for (size_t i = 0; i < nb; i++)
            b[i] = kt_narrow(bt, seed + 1, i);
        in.b = b;
    }
    in.nc = (size_t)((s->m - 1) * in.mm.ldc + s->n);
    in.c0 = kt_rows(s->m, s->n, in.mm.ldc, seed + 2, 4.0f);
    in.mm.a = in.a;
    in.mm.b = in.b;
    return in;
}

static void mm_free(struct mm_input *in) {
    free(in->a);
    free(in->b);
    free(in->c0);
}

static float mm_a(const struct kern_mm *x, int i, int p) {
    return x->form == KERN_TN ? x->a[p * x->lda + i] : x->a[i * x->lda + p];
}

static float mm_b(const struct kern_mm *x, int p, int j) {
    return kt_widen(x->b, x->bt,
                    x->form == KERN_NT ? j * x->ldb + p : p * x->ldb + j);
}

/* The contract in C; *exact and *size in double: the sum, and that of the
 * terms' sizes. */
static float mm_chain(const struct kern_mm *x, float c, int i, int j,
                      double *exact, double *size) {
    if (!x->acc)
        c = 0.0f;
    *exact = c;
    *size = fabs((double)c);
    for (int p = 0; p < x->k; p++) {
        float a = mm_a(x, i, p), b = mm_b(x, p, j);
        c = fmaf(a, b, c);
        *exact += (double)a * b;
        *size += fabs((double)a * b);
    }
    return c;
}

static void mm_run(struct kern *k, const void *arg, float *out) {
    const struct mm_input *in = arg;
    struct kern_mm mm = in->mm;
    memcpy(out, in->c0, in->nc * sizeof *out);
    mm.c = out;
    ck_assert_int_eq(k->ops->mm(k, &mm), KERN_OK);
}

static void mm_check(const struct mm_input *in, const float *c) {
    const struct kern_mm *x = &in->mm;
    char what[80];
    snprintf(what, sizeof what, "%s %dx%dx%d type %d acc %d", forms[x->form],
             x->m, x->n, x->k, (int)x->bt, x->acc);
    for (int i = 0; i < x->m; i++)
        for (int j = 0; j < x->n; j++) {
            int64_t at = i * x->ldc + j;
            double exact, size;
            float want = mm_chain(x, in->c0[at], i, j, &exact, &size);
            ck_assert_msg(kt_same(c[at], want), "%s: (%d,%d) %a, chain %a",
                          what, i, j, (double)c[at], (double)want);
            kt_expect_near(c[at], exact, (x->k + 1) * 6e-8 * size, what, at);
        }
    for (int i = 0; i + 1 < x->m; i++)
        for (int64_t j = x->n; j < x->ldc; j++)
            ck_assert_msg(isnan(c[i * x->ldc + j]), "%s: padding written",
                          what);
}

START_TEST(mm_is_a_chain_over_k_on_every_set_and_thread_count) {
    for (int s = 0; s < KT_COUNT(cases); s++)
        for (int v = 0; v < 18; v++) {
            struct mm_input in = mm_draw((enum kern_mm_form)(v % 3), &cases[s],
                                         (enum kern_dtype)(v / 3 % 3), v >= 9,
                                         (uint64_t)(100 * s + v));
            float *c = kt_buf(in.nc, sizeof *c);
            kt_agree(mm_run, &in, c, in.nc);
            mm_check(&in, c);
            free(c);
            mm_free(&in);
        }
}
END_TEST

/* More rows and steps than are packed at once. */
START_TEST(mm_in_parts_is_the_same_chain) {
    static const struct mm_case shapes[] = {
        {2070, 97, 1300, 1}, {300, 2100, 1024, 0}, {130, 500, 2048, 0}};
    struct kern *k = kt_best();
    for (int v = 0; v < 3 * KT_COUNT(shapes); v++) {
        const struct mm_case *s = &shapes[v / 3];
        int form = v % 3;
        struct mm_input in =
            mm_draw((enum kern_mm_form)form, s, KERN_F32, true, 11);
        float *c = kt_buf(in.nc, sizeof *c);
        mm_run(k, &in, c);
        for (uint64_t q = 0; q < 300; q++) {
            int i = (int)(kt_u64(5, q) % (uint64_t)s->m);
            int j = (int)(kt_u64(6, q) % (uint64_t)s->n);
            int64_t at = i * in.mm.ldc + j;
            double exact, size;
            float want = mm_chain(&in.mm, in.c0[at], i, j, &exact, &size);
            ck_assert_msg(kt_same(c[at], want), "%s (%d,%d)", forms[form], i,
                          j);
        }
        free(c);
        mm_free(&in);
    }
    k->ops->close(k);
}
END_TEST

START_TEST(mm_rows_alone_have_the_bits_of_rows_together) {
    struct mm_case s = {16, 100, 700, 0};
    struct kern *k = kt_best();
    for (int form = 0; form < 2; form++) {
        struct mm_input in =
            mm_draw((enum kern_mm_form)form, &s, KERN_BF16, false, 7);
        float *all = kt_buf(in.nc, sizeof *all), *one = kt_fill(100, 0);
        mm_run(k, &in, all);
        for (int i = 0; i < 16; i++) {
            struct kern_mm mm = in.mm;
            mm.m = 1;
            mm.a += i * mm.lda;
            mm.c = one;
            ck_assert_int_eq(k->ops->mm(k, &mm), KERN_OK);
            kt_expect_same(one, all + i * in.mm.ldc, 100, "one row");
        }
        free(all);
        free(one);
        mm_free(&in);
    }
    k->ops->close(k);
}
END_TEST

START_TEST(mm_gradients_of_pieces_in_order_continue_the_chain) {
    struct mm_case s = {37, 45, 530, 0};
    static const int cuts[] = {0, 1, 12, 200, 530};
    struct kern *k = kt_best();
    struct mm_input in = mm_draw(KERN_TN, &s, KERN_F32, true, 9);
    float *all = kt_buf(in.nc, sizeof *all);
    float *pieces = kt_dup(in.c0, in.nc * sizeof *pieces);
    mm_run(k, &in, all);
    for (int p = 0; p + 1 < KT_COUNT(cuts); p++) {
        struct kern_mm mm = in.mm;
        mm.a = in.a + cuts[p] * mm.lda;
        mm.b = (float *)in.b + cuts[p] * mm.ldb;
        mm.k = cuts[p + 1] - cuts[p];
        mm.c = pieces;
        ck_assert_int_eq(k->ops->mm(k, &mm), KERN_OK);
    }
    kt_expect_same(pieces, all, in.nc, "four pieces");
    free(all);
    free(pieces);
    mm_free(&in);
    k->ops->close(k);
}
END_TEST

START_TEST(mm_non_finite_values_stay_in_their_rows_and_columns) {
    struct mm_case s = {13, 37, 40, 0};
    struct mm_input in = mm_draw(KERN_NT, &s, KERN_F32, false, 11);
    in.a[3 * 40 + 5] = NAN;
    in.a[7 * 40 + 1] = INFINITY;
    ((float *)in.b)[30 * 40 + 2] = -INFINITY;
    in.a[9 * 40 + 2] = 0.0f;    /* 0 * -inf */
    in.a[11 * 40 + 2] = 1e-42f; /* a subnormal times inf is inf */
    float *c = kt_buf(in.nc, sizeof *c);
    kt_agree(mm_run, &in, c, in.nc);
    for (int i = 0; i < 13; i++)
        for (int j = 0; j < 37; j++) {
            float x = c[i * 37 + j];
            if (i == 3 || (i == 9 && j == 30))
                ck_assert(isnan(x));
            else if (j == 30 && i != 7)
                ck_assert(isinf(x));
            else if (i != 7)
                ck_assert(isfinite(x));
        }
    free(c);
    mm_free(&in);
}
END_TEST

START_TEST(mm_keeps_subnormals) {
    float a = 0x1p-100f, b = 0x1p-40f, c = 0.0f;
    for (int i = 0; i < KT_COUNT(kt_devs); i++) {
        struct kern *k = kt_open(&kt_devs[i]);
        if (k == NULL)
            continue;
        struct kern_mm mm = {KERN_NT, 1,        1, 1,  &a, 1,
                             &b,      KERN_F32, 1, &c, 1,  false};
        ck_assert_int_eq(k->ops->mm(k, &mm), KERN_OK);
        ck_assert(c == 0x1p-140f);
        k->ops->close(k);
    }
}
END_TEST

START_TEST(mm_refuses_bad_shapes_and_writes_nothing) {
    float a[16] = {0}, b[16] = {0}, c[16];
    struct kern *k = kt_best();
    const struct kern_mm good = {KERN_NT, 4,        4, 4, a, 4,
                                 b,       KERN_F32, 4, c, 4, false};
    struct kern_mm bad[8];
    for (int i = 0; i < 8; i++)
        bad[i] = good;
    bad[0].m = -1;
    bad[1].n = -1;
    bad[2].k = -1;
    bad[3].lda = 3;
    bad[4].ldb = 3;
    bad[5].ldc = 3;
    bad[6].bt = KERN_DTYPES;
    bad[7].form = (enum kern_mm_form)3;
    memset(c, 0x55, sizeof c);
    for (int i = 0; i < 8; i++)
        ck_assert_msg(k->ops->mm(k, &bad[i]) == KERN_EINVAL, "case %d", i);
    for (int i = 0; i < 16; i++)
        ck_assert(memcmp(&c[i], "UUUU", 4) == 0);
    struct kern_mm none = good;
    none.m = 0;
    ck_assert_int_eq(k->ops->mm(k, &none), KERN_OK);
    none = good;
    none.n = 0;
    ck_assert_int_eq(k->ops->mm(k, &none), KERN_OK);
    k->ops->close(k);
}
END_TEST

Suite *mm_suite(void) {
    Suite *s = suite_create("mm");
    TCase *tc = tcase_create("mm");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, mm_is_a_chain_over_k_on_every_set_and_thread_count);
    tcase_add_test(tc, mm_in_parts_is_the_same_chain);
    tcase_add_test(tc, mm_rows_alone_have_the_bits_of_rows_together);
    tcase_add_test(tc, mm_gradients_of_pieces_in_order_continue_the_chain);
    tcase_add_test(tc, mm_non_finite_values_stay_in_their_rows_and_columns);
    tcase_add_test(tc, mm_keeps_subnormals);
    tcase_add_test(tc, mm_refuses_bad_shapes_and_writes_nothing);
    suite_add_tcase(s, tc);
    return s;
}
