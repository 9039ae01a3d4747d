/* Operations on rows and elements: norm, rope, gated activations, embedding,
 * bias, sums. Each beside a double oracle, its backward beside differences,
 * equal bits on every instruction set and thread count. */
#include "tests/kernels/kt.h"

Suite *rows_suite(void);

static const int widths[] = {1, 2, 7, 15, 16, 17, 31, 33, 64, 100, 896};
#define WIDTH_MAX 896

/* ---- rmsnorm ---- */

struct norm_input {
    struct kern_norm a; /* outputs not set */
    float *x, *w, *dy, *dx0, *dw0;
    size_t nx;
};

static struct norm_input norm_draw(int rows, int C, int pad, float plus,
                                   uint64_t seed) {
    struct norm_input in = {.a = {.rows = rows,
                                  .C = C,
                                  .eps = 1e-6f,
                                  .plus = plus,
                                  .ldx = C + pad,
                                  .ldy = C + pad}};
    in.nx = (size_t)((rows - 1) * in.a.ldx + C);
    in.x = kt_rows(rows, C, in.a.ldx, seed, 3.0f);
    in.dy = kt_rows(rows, C, in.a.ldy, seed + 1, 1.0f);
    in.dx0 = kt_rows(rows, C, in.a.ldx, seed + 2, 1.0f);
    in.w = kt_draw((size_t)C, seed + 3, 2.0f);
    in.dw0 = kt_draw((size_t)C, seed + 4, 1.0f);
    in.a.x = in.x;
    in.a.w = in.w;
    in.a.dy = in.dy;
    return in;
}

static void norm_free(struct norm_input *in) {
    free(in->x);
    free(in->w);
    free(in->dy);
    free(in->dx0);
    free(in->dw0);
}

/* y, then rstd. */
static void norm_forward(struct kern *k, const void *arg, float *out) {
    const struct norm_input *in = arg;
    struct kern_norm a = in->a;
    a.y = out;
    a.rstd = out + in->nx;
    ck_assert_int_eq(k->ops->rmsnorm(k, &a), KERN_OK);
}

/* dx added to dx0, then dw added to dw0. */
static void norm_backward(struct kern *k, const void *arg, float *out) {
    const struct norm_input *in = arg;
    struct kern_norm a = in->a;
    float *fwd = kt_fill(in->nx + (size_t)a.rows, 0);
    norm_forward(k, arg, fwd);
    memcpy(out, in->dx0, in->nx * sizeof *out);
    memcpy(out + in->nx, in->dw0, (size_t)a.C * sizeof *out);
    a.rstd = fwd + in->nx;
    a.acc = true;
    a.dx = out;
    a.dw = out + in->nx;
    ck_assert_int_eq(k->ops->rmsnorm_bwd(k, &a), KERN_OK);
    free(fwd);
}

/* Σ dy*y of a row in double, with x[at] moved by h. */
static double norm_dot(const struct kern_norm *a, int r, int at, double h) {
    const float *x = a->x + r * a->ldx, *dy = a->dy + r * a->ldy;
    double ss = 0, dot = 0;
    for (int c = 0; c < a->C; c++) {
        double v = x[c] + (c == at ? h : 0);
        ss += v * v;
        dot += v * (a->w[c] + (double)a->plus) * dy[c];
    }
    return dot / sqrt(ss / a->C + a->eps);
}

static void norm_check(const struct norm_input *in, const float *fwd,
                       const float *bwd) {
    const struct kern_norm *a = &in->a;
    double dw[WIDTH_MAX] = {0};
    for (int r = 0; r < a->rows; r++) {
        double ss = 0;
        for (int c = 0; c < a->C; c++)
            ss += (double)a->x[r * a->ldx + c] * a->x[r * a->ldx + c];
        double rstd = 1 / sqrt(ss / a->C + a->eps);
        kt_expect_near(fwd[in->nx + (size_t)r], rstd, 1e-6 * rstd, "rstd", r);
        for (int c = 0; c < a->C; c++) {
            int64_t at = r * a->ldx + c;
            double y = a->x[at] * rstd * (a->w[c] + (double)a->plus);
            kt_expect_near(fwd[at], y, 1e-6 * (1 + fabs(y)), "y", at);
            double dx =
                (norm_dot(a, r, c, 1e-5) - norm_dot(a, r, c, -1e-5)) / 2e-5;
            kt_expect_near(bwd[at], in->dx0[at] + dx, 2e-5 * (1 + fabs(dx)),
                           "dx", at);
            dw[c] += a->dy[at] * a->x[at] * rstd;
        }
    }
    for (int c = 0; c < a->C; c++)
        kt_expect_near(bwd[in->nx + (size_t)c], in->dw0[c] + dw[c], 1e-4, "dw",
                       c);
}

START_TEST(rmsnorm_and_its_backward_match_the_oracle) {
    for (int i = 0; i < KT_COUNT(widths); i++)
        for (int v = 0; v < 2; v++) {
            int C = widths[i], rows = C > 100 ? 3 : 40;
            struct norm_input in =
                norm_draw(rows, C, 3 * v, (float)v, (uint64_t)(10 * i + v));
            size_t nf = in.nx + (size_t)rows, nb = in.nx + (size_t)C;
            float *fwd = kt_fill(nf, 0), *bwd = kt_fill(nb, 0);
            kt_agree(norm_forward, &in, fwd, nf);
            kt_agree(norm_backward, &in, bwd, nb);
            norm_check(&in, fwd, bwd);
            free(fwd);
            free(bwd);
            norm_free(&in);
        }
}
END_TEST

START_TEST(rmsnorm_works_in_place_and_on_one_row_alone) {
    struct kern *k = kt_best();
    struct norm_input in = norm_draw(37, 100, 0, 0, 5);
    float *want = kt_fill(in.nx + 37, 0), *x = kt_dup(in.x, in.nx * 4);
    norm_forward(k, &in, want);
    struct kern_norm a = in.a;
    a.x = a.y = x;
    ck_assert_int_eq(k->ops->rmsnorm(k, &a), KERN_OK);
    kt_expect_same(x, want, in.nx, "in place");
    a.rows = 1;
    a.x = in.x + 36 * 100;
    ck_assert_int_eq(k->ops->rmsnorm(k, &a), KERN_OK);
    kt_expect_same(x, want + 36 * 100, 100, "alone");
    /* dx into dy's memory, dw frozen */
    float *bwd = kt_fill(in.nx + 100, 0), *dy = kt_dup(in.dy, in.nx * 4);
    memset(in.dx0, 0, in.nx * 4);
    norm_backward(k, &in, bwd);
    a = in.a;
    a.rstd = want + in.nx;
    a.dy = a.dx = dy;
    ck_assert_int_eq(k->ops->rmsnorm_bwd(k, &a), KERN_OK);
    for (size_t i = 0; i < in.nx; i++)
        ck_assert(dy[i] == bwd[i]);
    free(want);
    free(x);
    free(bwd);
    free(dy);
    norm_free(&in);
    k->ops->close(k);
}
END_TEST

START_TEST(rmsnorm_passes_on_what_is_not_finite) {
    struct norm_input in = norm_draw(3, 20, 0, 0, 8);
    in.x[25] = NAN;
    in.x[45] = INFINITY;
    float *y = kt_fill(in.nx + 3, 0);
    kt_agree(norm_forward, &in, y, in.nx + 3);
    for (int c = 0; c < 20; c++) {
        ck_assert(isfinite(y[c]));
        ck_assert(isnan(y[20 + c]));
        ck_assert(c == 5 ? isnan(y[45]) : y[40 + c] == 0);
    }
    free(y);
    norm_free(&in);
}
END_TEST

/* ---- rope ---- */

struct rope_input {
    struct kern_rope a;
    float *x, *cs, *sn;
    int32_t pos[9];
    size_t nx;
};

static void rope_run(struct kern *k, const void *arg, float *out) {
    const struct rope_input *in = arg;
    struct kern_rope a = in->a;
    memcpy(out, in->x, in->nx * sizeof *out);
    a.x = out;
    ck_assert_int_eq(k->ops->rope(k, &a), KERN_OK);
}

static void rope_check(const struct rope_input *in, const float *y) {
    const struct kern_rope *a = &in->a;
    int half = a->rot / 2;
    for (int t = 0; t < a->T; t++)
        for (int h = 0; h < a->heads; h++)
            for (int d = 0; d < a->D; d++) {
                int64_t at = t * a->ldx + h * a->D + d;
                double want = in->x[at];
                if (d < a->rot) {
                    int i = a->pairs ? d / 2 : d % half;
                    int far = a->pairs ? 1 : half;
                    bool first = a->pairs ? d % 2 == 0 : d < half;
                    int64_t table = (int64_t)in->pos[t] * half + i;
                    double s = in->sn[table] * (a->inverse ? -1.0 : 1.0);
                    double other = in->x[first ? at + far : at - far];
                    want = want * in->cs[table] + (first ? -s : s) * other;
                }
                kt_expect_near(y[at], want, 3e-7, "rope", at);
            }
}

START_TEST(rope_rotates_pairs_of_halves_or_of_neighbours) {
    static const int shapes[][3] = {/* heads D rot */
                                    {1, 2, 2},   {3, 8, 8},    {2, 20, 6},
                                    {4, 64, 64}, {1, 96, 34},  {2, 128, 128},
                                    {3, 5, 4},   {14, 64, 64}, {2, 7, 0}};
    for (int i = 0; i < KT_COUNT(shapes); i++)
        for (int v = 0; v < 4; v++) {
            int heads = shapes[i][0], D = shapes[i][1], rot = shapes[i][2];
            struct rope_input in = {
                .pos = {0, 5, 1, 9, 3, 3, 8, 2, 7},
                .nx = (size_t)(8 * (heads * D + 1) + heads * D)};
            in.x = kt_rows(9, heads * D, heads * D + 1, (uint64_t)i, 1.0f);
            in.cs = kt_draw((size_t)(5 * rot), 3, 1.0f);
            in.sn = kt_draw((size_t)(5 * rot), 4, 1.0f);
            in.a = (struct kern_rope){9,     heads,         D,      rot,
                                      NULL,  heads * D + 1, in.pos, in.cs,
                                      in.sn, v & 1,         v > 1};
            float *y = kt_fill(in.nx, 0);
            kt_agree(rope_run, &in, y, in.nx);
            rope_check(&in, y);
            free(y);
            free(in.x);
            free(in.cs);
            free(in.sn);
        }
}
END_TEST

/* ---- gated activations ---- */

static double act_ref(enum kern_act act, double x) {
    return act == KERN_SILU
               ? x / (1 + exp(-x))
               : 0.5 * x *
                     (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

struct glu_input {
    struct kern_glu a;
    size_t n, ng;
};

static void glu_run(struct kern *k, const void *arg, float *out) {
    const struct glu_input *in = arg;
    struct kern_glu a = in->a;
    a.y = out;
    a.dgate = out + in->n;
    a.dup = out + in->n + in->ng;
    ck_assert_int_eq(k->ops->glu(k, &a), KERN_OK);
    ck_assert_int_eq(k->ops->glu_bwd(k, &a), KERN_OK);
}

static void glu_check(const struct glu_input *in, const float *out) {
    const struct kern_glu *a = &in->a;
    for (int t = 0; t < a->T; t++)
        for (int f = 0; f < a->F; f++) {
            int64_t at = t * a->ldg + f, y = (int64_t)t * a->F + f;
            double g = a->gate[at], u = a->up[at], dy = a->dy[y];
            double act = act_ref(a->act, g), h = 1e-5;
            double slope =
                (act_ref(a->act, g + h) - act_ref(a->act, g - h)) / (2 * h);
            kt_expect_near(out[y], act * u, 4e-7 * (1 + fabs(act * u)), "glu",
                           y);
            kt_expect_near(out[in->n + (size_t)at], dy * u * slope,
                           3e-6 * (1 + fabs(u * slope)), "dgate", at);
            kt_expect_near(out[in->n + in->ng + (size_t)at], dy * act,
                           1e-6 * (1 + fabs(act)), "dup", at);
        }
}

START_TEST(glu_and_its_backward_match_the_oracle) {
    for (int i = 0; i < 2 * KT_COUNT(widths); i++) {
        int F = widths[i / 2], T = 5, ld = 2 * F + i % 3;
        struct glu_input in = {.n = (size_t)(T * F),
                               .ng = (size_t)((T - 1) * ld + F)};
        float *gate = kt_rows(T, F, ld, 20, 12.0f);
        float *up = kt_rows(T, F, ld, 21, 2.0f), *dy = kt_draw(in.n, 22, 1.0f);
        in.a = (struct kern_glu){.T = T,
                                 .F = F,
                                 .act = i % 2 ? KERN_GELU_TANH : KERN_SILU,
                                 .gate = gate,
                                 .up = up,
                                 .ldg = ld,
                                 .dy = dy};
        float *out = kt_fill(in.n + 2 * in.ng, 0);
        kt_agree(glu_run, &in, out, in.n + 2 * in.ng);
        glu_check(&in, out);
        free(out);
        free(gate);
        free(up);
        free(dy);
    }
}
END_TEST

START_TEST(glu_of_extreme_gates_saturates) {
    float gate[] = {-200, 200, -1e30f, 1e30f, 0, NAN, 1e-40f, -88};
    float up[] = {1, 1, 1, 1, 1, 1, 1, 1}, y[8];
    for (int i = 0; i < KT_COUNT(kt_devs); i++)
        for (int act = 0; act < 2; act++) {
            struct kern *k = kt_open(&kt_devs[i]);
            if (k == NULL)
                continue;
            struct kern_glu a = {.T = 1,
                                 .F = 8,
                                 .act = (enum kern_act)act,
                                 .gate = gate,
                                 .up = up,
                                 .ldg = 8,
                                 .y = y};
            ck_assert_int_eq(k->ops->glu(k, &a), KERN_OK);
            ck_assert(y[0] == 0 && y[1] == 200 && y[2] == 0);
            ck_assert(y[3] == 1e30f && y[4] == 0 && isnan(y[5]));
            ck_assert(fabsf(y[6] - 5e-41f) < 1e-44f && fabsf(y[7]) < 1e-30f);
            k->ops->close(k);
        }
}
END_TEST

/* ---- cap ---- */

struct cap_input {
    int n;
    float cap, *x, *dy;
};

/* The capped, then the gradient. */
static void cap_run(struct kern *k, const void *arg, float *out) {
    const struct cap_input *in = arg;
    size_t bytes = (size_t)in->n * sizeof *out;
    struct kern_cap a = {in->n, in->cap, out, out + in->n};
    memcpy(a.x, in->x, bytes);
    memcpy(a.dx, in->dy, bytes);
    ck_assert_int_eq(k->ops->cap(k, &a), KERN_OK);
    ck_assert_int_eq(k->ops->cap_bwd(k, &a), KERN_OK);
}

START_TEST(cap_and_its_backward_match_the_oracle) {
    static const float caps[] = {0.5f, 6, 30};
    for (int i = 0; i < KT_COUNT(caps) * KT_COUNT(widths); i++) {
        int n = widths[i / KT_COUNT(caps)];
        struct cap_input in = {n, caps[i % KT_COUNT(caps)], NULL, NULL};
        in.x = kt_draw((size_t)n, (uint64_t)i, 3 * in.cap);
        in.dy = kt_draw((size_t)n, (uint64_t)i + 99, 1);
        float *out = kt_fill((size_t)n * 2, 0);
        kt_agree(cap_run, &in, out, (size_t)n * 2);
        for (int j = 0; j < n; j++) {
            double cap = in.cap, x = in.x[j], h = 1e-5 * cap;
            double d = (tanh((x + h) / cap) - tanh((x - h) / cap)) * cap / 2;
            kt_expect_near(out[j], cap * tanh(x / cap), 3e-7 * cap, "cap", j);
            kt_expect_near(out[n + j], in.dy[j] * d / h, 1e-6, "dcap", j);
        }
        free(out);
        free(in.x);
        free(in.dy);
    }
}
END_TEST

/* ---- embedding ---- */

struct embed_input {
    struct kern_embed a;
    float *dtable0;
};

static void embed_run(struct kern *k, const void *arg, float *out) {
    const struct embed_input *in = arg;
    struct kern_embed a = in->a;
    size_t ny = (size_t)(a.T * a.C), nt = (size_t)(a.V * a.C);
    a.y = out;
    a.dtable = out + ny;
    memcpy(a.dtable, in->dtable0, nt * sizeof *out);
    ck_assert_int_eq(k->ops->embed(k, &a), KERN_OK);
    ck_assert_int_eq(k->ops->embed_bwd(k, &a), KERN_OK);
}

static void embed_check(const struct embed_input *in, const float *out) {
    const struct kern_embed *a = &in->a;
    int64_t ny = (int64_t)a->T * a->C;
    float *want = kt_dup(in->dtable0, (size_t)(a->V * a->C) * sizeof *want);
    for (int t = 0; t < a->T; t++)
        for (int c = 0; c < a->C; c++) {
            int64_t at = (int64_t)a->tokens[t] * a->C + c;
            float y = kt_widen(a->table, a->tt, at) * a->scale;
            ck_assert(kt_same(out[t * a->C + c], y));
            if (a->tokens[t] != a->skip)
                want[at] = fmaf(a->dy[t * a->C + c], a->scale, want[at]);
        }
    kt_expect_same(out + ny, want, (size_t)(a->V * a->C), "dtable");
    free(want);
}

START_TEST(embed_gathers_rows_and_adds_gradients_in_token_order) {
    int32_t tokens[40];
    for (int i = 0; i < 40; i++)
        tokens[i] = (int32_t)(kt_u64(3, (uint64_t)i) % 7);
    for (int i = 0; i < 3 * KT_COUNT(widths); i++) {
        int C = widths[i / 3];
        struct embed_input in = {.a = {.T = 40,
                                       .C = C,
                                       .V = 7,
                                       .tokens = tokens,
                                       .tt = (enum kern_dtype)(i % 3),
                                       .scale = i % 2 ? 1.0f : 7.3f,
                                       .skip = i % 4 ? -1 : 2}};
        size_t nt = (size_t)(7 * C);
        float *f32 = kt_draw(nt, 1, 1.0f);
        uint16_t *narrow = kt_buf(nt, 2);
        for (size_t j = 0; j < nt; j++)
            narrow[j] = kt_narrow(in.a.tt, 1, j);
        float *dy = kt_draw((size_t)(40 * C), 2, 1.0f);
        in.a.table = in.a.tt == KERN_F32 ? (void *)f32 : narrow;
        in.a.dy = dy;
        in.dtable0 = kt_draw(nt, 9, 1.0f);
        float *out = kt_fill((size_t)(40 * C) + nt, 0);
        kt_agree(embed_run, &in, out, (size_t)(40 * C) + nt);
        embed_check(&in, out);
        free(f32);
        free(narrow);
        free(dy);
        free(in.dtable0);
        free(out);
    }
}
END_TEST

static void fold_run(struct kern *k, const void *arg, float *out) {
    const int32_t rows[] = {4, 0, 2};
    const float *both = arg;
    int C = (int)both[0];
    memcpy(out, both + 1, (size_t)(10 * C) * sizeof *out);
    struct kern_fold a = {3, C, rows, out, out + 5 * C};
    ck_assert_int_eq(k->ops->fold(k, &a), KERN_OK);
}

START_TEST(fold_adds_the_named_rows_and_empties_them) {
    for (int i = 0; i < KT_COUNT(widths); i++) {
        int C = widths[i];
        float *both = kt_draw((size_t)(10 * C + 1), 4, 1.0f);
        both[0] = (float)C;
        float *out = kt_fill((size_t)(10 * C), 0);
        kt_agree(fold_run, both, out, (size_t)(10 * C));
        for (int at = 0; at < 5 * C; at++) {
            bool is_named = at / C % 2 == 0;
            float y = both[1 + at], x = both[1 + 5 * C + at];
            ck_assert(kt_same(out[at], is_named ? y + x : y));
            ck_assert(kt_same(out[5 * C + at], is_named ? 0.0f : x));
        }
        free(both);
        free(out);
    }
}
END_TEST

START_TEST(embed_refuses_tokens_outside_the_table) {
    float table[8] = {0}, y[8] = {0};
    struct kern *k = kt_best();
    for (int bad = -1; bad <= 2; bad += 3) {
        int32_t tokens[] = {0, bad};
        struct kern_embed a = {.T = 2,
                               .C = 4,
                               .V = 2,
                               .tokens = tokens,
                               .table = table,
                               .scale = 1,
                               .skip = -1,
                               .y = y,
                               .dy = y,
                               .dtable = table};
        ck_assert_int_eq(k->ops->embed(k, &a), KERN_EINVAL);
        ck_assert_int_eq(k->ops->embed_bwd(k, &a), KERN_EINVAL);
    }
    k->ops->close(k);
}
END_TEST

/* ---- elements ---- */

struct vec_input {
    float *x, *y, *b;
    int n;
};

/* y+x; x*s; y with bias rows (7 wide, 9 apart); the bias gradient. */
static void vec_run(struct kern *k, const void *arg, float *out) {
    const struct vec_input *in = arg;
    size_t n = (size_t)in->n;
    memcpy(out, in->y, n * sizeof *out);
    memcpy(out + n, in->x, n * sizeof *out);
    memcpy(out + 2 * n, in->y, n * sizeof *out);
    memcpy(out + 3 * n, in->b, 7 * sizeof *out);
    int T = (in->n - 7) / 9 + 1;
    ck_assert_int_eq(k->ops->add(k, out, in->x, in->n), KERN_OK);
    ck_assert_int_eq(k->ops->scale(k, out + n, -1.7f, in->n), KERN_OK);
    ck_assert_int_eq(k->ops->bias(k, out + 2 * n, 9, in->b, T, 7), KERN_OK);
    ck_assert_int_eq(k->ops->bias_bwd(k, out + 3 * n, in->x, 9, T, 7), KERN_OK);
}

START_TEST(add_scale_and_bias_are_what_they_say) {
    static const int sizes[] = {7, 15, 16, 33, 100, 40000};
    for (int i = 0; i < KT_COUNT(sizes); i++) {
        int n = sizes[i], T = (n - 7) / 9 + 1;
        struct vec_input in = {kt_draw((size_t)n, 1, 2),
                               kt_draw((size_t)n, 2, 2), kt_draw(7, 3, 2), n};
        float *out = kt_fill((size_t)(3 * n + 7), 0), db[7];
        kt_agree(vec_run, &in, out, (size_t)(3 * n + 7));
        memcpy(db, in.b, sizeof db);
        for (int j = 0; j < n; j++) {
            bool in_bias = j / 9 < T && j % 9 < 7;
            ck_assert(out[j] == in.y[j] + in.x[j]);
            ck_assert(out[n + j] == in.x[j] * -1.7f);
            ck_assert(out[2 * n + j] ==
                      (in_bias ? in.y[j] + in.b[j % 9] : in.y[j]));
            if (in_bias)
                db[j % 9] = db[j % 9] + in.x[j];
        }
        kt_expect_same(out + 3 * n, db, 7, "db");
        free(in.x);
        free(in.y);
        free(in.b);
        free(out);
    }
}
END_TEST

START_TEST(widen_is_exact_for_every_16_bit_float) {
    uint16_t *h = kt_buf(65536 + 5, 2);
    float *y = kt_buf(65536 + 5, 4);
    for (int i = 0; i < 65536 + 5; i++)
        h[i] = (uint16_t)i;
    for (int i = 0; i < KT_COUNT(kt_devs); i++) {
        struct kern *k = kt_open(&kt_devs[i]);
        if (k == NULL)
            continue;
        for (int t = KERN_BF16; t <= KERN_F16; t++) {
            ck_assert_int_eq(
                k->ops->widen(k, y, h, (enum kern_dtype)t, 65536 + 5), KERN_OK);
            for (int j = 0; j < 65536 + 5; j++)
                ck_assert(kt_same(y[j], kt_widen(h, (enum kern_dtype)t, j)));
        }
        k->ops->close(k);
    }
    free(h);
    free(y);
}
END_TEST

START_TEST(sumsq_is_the_same_double_everywhere) {
    static const int sizes[] = {0, 1, 15, 16, 17, 65536, 65537, 300001};
    float *x = kt_draw(300001, 4, 10.0f);
    for (int i = 0; i < KT_COUNT(sizes); i++) {
        double want = 0, first = 0;
        for (int j = 0; j < sizes[i]; j++)
            want += (double)x[j] * x[j];
        for (int d = 0; d < KT_COUNT(kt_devs); d++) {
            struct kern *k = kt_open(&kt_devs[d]);
            if (k == NULL)
                continue;
            double got = -1;
            ck_assert_int_eq(k->ops->sumsq(k, &got, x, sizes[i]), KERN_OK);
            k->ops->close(k);
            kt_expect_near(got, want, 1e-12 * want, "sumsq", sizes[i]);
            if (d == 0)
                first = got;
            ck_assert(memcmp(&got, &first, sizeof got) == 0);
        }
    }
    free(x);
}
END_TEST

START_TEST(rows_refuse_bad_shapes) {
    float x[8] = {0};
    int32_t i[8] = {0};
    struct kern *k = kt_best();
    const struct kern_ops *o = k->ops;
    const struct kern_norm n = {.rows = 2,
                                .C = 4,
                                .x = x,
                                .ldx = 4,
                                .w = x,
                                .y = x,
                                .ldy = 4,
                                .rstd = x,
                                .dy = x,
                                .dx = x};
    struct kern_norm bn[] = {n, n, n, n};
    bn[0].rows = -1, bn[1].C = 0, bn[2].ldx = 3, bn[3].ldy = 3;
    for (int b = 0; b < 4; b++) {
        ck_assert_int_eq(o->rmsnorm(k, &bn[b]), KERN_EINVAL);
        ck_assert_int_eq(o->rmsnorm_bwd(k, &bn[b]), KERN_EINVAL);
    }
    const struct kern_rope r = {1, 2, 4, 4, x, 8, i, x, x, false, false};
    struct kern_rope br[] = {r, r, r, r, r};
    br[0].T = -1, br[1].rot = 3, br[2].rot = 6, br[3].ldx = 7, br[4].rot = -2;
    for (int b = 0; b < 5; b++)
        ck_assert_int_eq(o->rope(k, &br[b]), KERN_EINVAL);
    const struct kern_glu g = {.T = 1,
                               .F = 4,
                               .gate = x,
                               .up = x,
                               .ldg = 4,
                               .y = x,
                               .dy = x,
                               .dgate = x,
                               .dup = x};
    struct kern_glu bg[] = {g, g, g, g};
    bg[0].T = -1, bg[1].F = 0, bg[2].ldg = 3, bg[3].act = (enum kern_act)2;
    for (int b = 0; b < 4; b++) {
        ck_assert_int_eq(o->glu(k, &bg[b]), KERN_EINVAL);
        ck_assert_int_eq(o->glu_bwd(k, &bg[b]), KERN_EINVAL);
    }
    const struct kern_embed e = {.T = 1,
                                 .C = 4,
                                 .V = 2,
                                 .tokens = i,
                                 .table = x,
                                 .y = x,
                                 .dy = x,
                                 .dtable = x};
    struct kern_embed be[] = {e, e, e};
    be[0].T = -1, be[1].C = 0, be[2].tt = KERN_DTYPES;
    for (int b = 0; b < 3; b++)
        ck_assert_int_eq(o->embed(k, &be[b]), KERN_EINVAL);
    ck_assert_int_eq(o->add(k, x, x, -1), KERN_EINVAL);
    ck_assert_int_eq(o->scale(k, x, 1, -1), KERN_EINVAL);
    ck_assert_int_eq(o->widen(k, x, x, KERN_F32, -1), KERN_EINVAL);
    ck_assert_int_eq(o->widen(k, x, x, KERN_DTYPES, 1), KERN_EINVAL);
    ck_assert_int_eq(o->bias(k, x, 3, x, 1, 4), KERN_EINVAL);
    ck_assert_int_eq(o->bias_bwd(k, x, x, 3, 1, 4), KERN_EINVAL);
    struct kern_cap bc[] = {{-1, 1, x, x}, {1, 0, x, x}, {1, NAN, x, x}};
    for (int b = 0; b < 3; b++) {
        ck_assert_int_eq(o->cap(k, &bc[b]), KERN_EINVAL);
        ck_assert_int_eq(o->cap_bwd(k, &bc[b]), KERN_EINVAL);
    }
    double sum;
    ck_assert_int_eq(o->sumsq(k, &sum, x, -1), KERN_EINVAL);
    k->ops->close(k);
}
END_TEST

Suite *rows_suite(void) {
    Suite *s = suite_create("rows");
    TCase *tc = tcase_create("rows");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, rmsnorm_and_its_backward_match_the_oracle);
    tcase_add_test(tc, rmsnorm_works_in_place_and_on_one_row_alone);
    tcase_add_test(tc, rmsnorm_passes_on_what_is_not_finite);
    tcase_add_test(tc, rope_rotates_pairs_of_halves_or_of_neighbours);
    tcase_add_test(tc, glu_and_its_backward_match_the_oracle);
    tcase_add_test(tc, glu_of_extreme_gates_saturates);
    tcase_add_test(tc, cap_and_its_backward_match_the_oracle);
    tcase_add_test(tc, embed_gathers_rows_and_adds_gradients_in_token_order);
    tcase_add_test(tc, fold_adds_the_named_rows_and_empties_them);
    tcase_add_test(tc, embed_refuses_tokens_outside_the_table);
    tcase_add_test(tc, add_scale_and_bias_are_what_they_say);
    tcase_add_test(tc, widen_is_exact_for_every_16_bit_float);
    tcase_add_test(tc, sumsq_is_the_same_double_everywhere);
    tcase_add_test(tc, rows_refuse_bad_shapes);
    suite_add_tcase(s, tc);
    return s;
}
