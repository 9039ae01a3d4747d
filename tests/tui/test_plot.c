/* Charts: the raster against a slow reference, axes, smoothing, stillness. */
#include "tui/w_chart.h"
#include "tui/w_spark.h"

#include "tests/quick.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

Suite *plot_suite(void);

static double next_random(uint64_t *seed) {
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (double)(*seed >> 11) / 9007199254740992.0;
}

static struct chart_pt point(double x, double v) {
    return isfinite(v) ? (struct chart_pt){x, x, v, v, v, v, 1, 0}
                       : (struct chart_pt){x, x, NAN, NAN, 0, v, 1, 1};
}

/* ---- the reference: one dot at a time, from the definition ---- */

struct grid {
    int w, h; /* dots */
    char dot[400][400];
};

static int ref_row(double v, double lo, double hi, int h) {
    double at = (1 - (v - lo) / (hi - lo)) * h;
    return at <= 0 ? 0 : at >= h ? h - 1 : (int)at;
}

/* A column shows its span of values, and the line that comes from the last
 * value of the column before it that has any. */
static void reference(struct grid *g, const struct chart_pt *p, int n,
                      double x0, double x1, double lo, double hi) {
    memset(g->dot, 0, sizeof g->dot);
    int prev = -1;
    double prev_v = 0;
    for (int x = 0; x < g->w; x++) {
        double min = INFINITY, max = -INFINITY, last = NAN;
        int bad = 0;
        for (int i = 0; i < n; i++) {
            double pos = ((p[i].x0 + p[i].x1) / 2 - x0) / (x1 - x0);
            int at = (int)(pos * g->w);
            if (!(pos >= 0 && pos <= 1) || (at < g->w ? at : g->w - 1) != x)
                continue;
            bad |= p[i].nonfinite > 0;
            if (p[i].n > p[i].nonfinite) {
                min = fmin(min, p[i].min);
                max = fmax(max, p[i].max);
                last = p[i].last;
            }
        }
        if (isnan(last)) {
            if (bad)
                prev = -1;
            continue;
        }
        int top = ref_row(max, lo, hi, g->h), low = ref_row(min, lo, hi, g->h);
        for (int y = top; y <= low; y++)
            g->dot[y][x] = 1;
        if (prev >= 0) {
            int r0 = ref_row(prev_v, lo, hi, g->h), r1 = r0, before = r0;
            r1 = r1 < top ? top : r1 > low ? low : r1;
            for (int k = 1; k <= x - prev; k++) {
                int r = r0 + (int)lround((double)(r1 - r0) * k / (x - prev));
                int step = r > before ? 1 : -1;
                for (int y = before; y != r; y += step)
                    g->dot[y + step][prev + k] = 1;
                g->dot[r][prev + k] = 1;
                before = r;
            }
            if (x - prev >= 4) {
                int y = ref_row(last, lo, hi, g->h);
                g->dot[y > 0 ? y - 1 : 1][x] = 1;
            }
        }
        prev = x;
        prev_v = last;
    }
}

/* The dots that a braille cell of the picture shows. */
static int shown_dot(const struct surf *s, int cx, int cy, int x, int y) {
    static const unsigned bit[4][2] = {
        {0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};
    const struct cell *c = surf_cell(s, cx + x / 2, cy + y / 4);
    const unsigned char *u = (const unsigned char *)c->s;
    if (u[0] != 0xE2)
        return 0;
    unsigned cp = (u[0] & 15u) << 12 | (u[1] & 63u) << 6 | (u[2] & 63u);
    return cp >= 0x2800 && (cp - 0x2800) & bit[y % 4][x % 2] ? 1 : 0;
}

START_TEST(dots_are_where_the_definition_puts_them) {
    static struct grid g;
    uint64_t seed = 11;
    for (int round = 0; round < 150; round++) {
        int w = 20 + (int)(next_random(&seed) * 60),
            h = 3 + (int)(next_random(&seed) * 20),
            n = 1 + (int)(next_random(&seed) * (round % 2 ? 30 : 600));
        double span = 100 + next_random(&seed) * 1000, v = 5;
        struct chart_pt *p = calloc((size_t)n, sizeof *p);
        for (int i = 0; i < n; i++) {
            v += next_random(&seed) - 0.5;
            v = v < 0.1 ? 0.1 : v > 9.9 ? 9.9 : v;
            p[i] = point(span * i / n, next_random(&seed) < 0.02 ? NAN : v);
        }
        struct chart *c = chart_new();
        struct surf *s = surf_new(w + 5, h + 1);
        struct chart_series se = {.pt = p, .n = n, .role = ROLE_S1};
        chart_plan(c, span);
        chart_range_y(c, 0, 10);
        chart_draw(c, s, (struct rect){0, 0, w + 5, h + 1},
                   &(struct chart_data){
                       .series = &se, .nseries = 1, .is_small = true});
        g.w = chart_dots(c); /* the labels took what they need */
        int left = w + 5 - g.w / 2;
        g.h = h * 4;
        reference(&g, p, n, 0, span, 0, 10);
        for (int y = 0; y < g.h; y++)
            for (int x = 0; x < g.w; x++)
                ck_assert_msg(shown_dot(s, left, 0, x, y) == g.dot[y][x],
                              "round %d: %d,%d of %dx%d: %d", round, x, y, g.w,
                              g.h, g.dot[y][x]);
        free(p);
        chart_free(c);
        surf_free(s);
    }
}
END_TEST

START_TEST(no_spike_is_lost_at_any_width) {
    enum { N = 100000 };
    struct chart_pt *p = calloc(N, sizeof *p);
    for (int i = 0; i < N; i++)
        p[i] = point(i, i == 77777 ? 9.0 : 1.0);
    for (int w = 30; w <= 200; w += 17) {
        struct chart *c = chart_new();
        struct surf *s = surf_new(w, 20);
        struct chart_series se = {.pt = p, .n = N, .role = ROLE_S1};
        chart_range_y(c, 0, 10);
        chart_draw(c, s, (struct rect){0, 0, w, 20},
                   &(struct chart_data){.series = &se, .nseries = 1});
        int top = 0; /* something drawn in the upper rows */
        for (int x = 6; x < w; x++)
            top += surf_cell(s, x, 2)->role == ROLE_S1;
        ck_assert_int_gt(top, 0);
        chart_free(c);
        surf_free(s);
    }
    free(p);
}
END_TEST

START_TEST(any_size_and_any_data_is_drawn_without_harm) {
    uint64_t seed = 3;
    static const double odd[] = {0,    -1e300, 1e300, 5e-324, NAN,  INFINITY,
                                 1e-9, -1,     1,     1e15,   -0.0, 3};
    struct chart *c = chart_new();
    struct surf *s = surf_new(200, 60);
    for (int round = 0; round < 1500; round++) {
        struct chart_pt p[20];
        int n = (int)(next_random(&seed) * 20);
        for (int i = 0; i < n; i++)
            p[i] = point(i * (round % 7 ? 1 : 1e11),
                         odd[(int)(next_random(&seed) * 12)]);
        struct chart_series se = {.pt = p,
                                  .n = n,
                                  .role = ROLE_S1,
                                  .label = 'x',
                                  .smooth = round & 1};
        chart_scale(c, (enum chart_scale)(round % 3));
        chart_smooth(c, round & 2 ? 0.9 : 0);
        chart_glyphs(c, (enum glyphs)(round / 3 % 3));
        chart_clip(c, round & 8);
        chart_plan(c, round % 5 ? 0 : 10);
        struct rect r = {(int)(next_random(&seed) * 20) - 5,
                         (int)(next_random(&seed) * 20) - 5,
                         (int)(next_random(&seed) * 210),
                         (int)(next_random(&seed) * 70)};
        surf_clear(s);
        chart_draw(c, s, r,
                   &(struct chart_data){.series = &se,
                                        .nseries = 1,
                                        .now_ms = round * 1000,
                                        .title = round & 4 ? "t" : NULL});
        static const char keys[] = "hlwb^$+-0<>mvot+++";
        chart_key(c, (uint32_t)keys[(int)(next_random(&seed) * 18)]);
        double x0, x1;
        chart_view(c, &x0, &x1);
        ck_assert(x0 < x1);
        for (int y = 0; y < 60; y++) /* nothing outside its rectangle */
            for (int x = 0; x < 200; x++)
                if (!rect_has(r, x, y))
                    ck_assert(strcmp(surf_cell(s, x, y)->s, " ") == 0);
    }
    chart_free(c);
    surf_free(s);
}
END_TEST

/* ---- stillness ---- */

static int cells_changed(const struct surf *a, const struct surf *b) {
    int n = 0;
    for (int y = 0; y < surf_h(a); y++)
        for (int x = 0; x < surf_w(a); x++)
            n += strcmp(surf_cell(a, x, y)->s, surf_cell(b, x, y)->s) != 0;
    return n;
}

START_TEST(a_new_point_changes_a_few_cells) {
    struct chart *c = chart_new();
    struct surf *a = surf_new(120, 20), *b = surf_new(120, 20);
    struct chart_pt *p = calloc(2000, sizeof *p);
    uint64_t seed = 8;
    int jumps = 0;
    for (int i = 0; i < 2000; i++)
        p[i] = point(i, 1.2 + 2 * exp(-i / 300.) +
                            0.2 * (next_random(&seed) - 0.5));
    for (int n = 1; n <= 2000; n++) {
        struct chart_series se = {.pt = p, .n = n, .role = ROLE_S1};
        surf_clear(b);
        chart_draw(
            c, b, (struct rect){0, 0, 120, 20},
            &(struct chart_data){.series = &se, .nseries = 1, .now_ms = n});
        int k = cells_changed(a, b);
        if (n > 1 && k > 24)
            jumps++; /* an axis moved */
        surf_copy(a, b);
    }
    ck_assert_msg(jumps <= 32, "%d jumps", jumps); /* log(2000) / log(1.25) */
    chart_free(c);
    surf_free(a);
    surf_free(b);
    free(p);
}
END_TEST

/* The text of the label column after a chart of lo … hi was drawn at now. */
static char *labels_of(struct chart *c, double lo, double hi, int64_t now) {
    struct surf *s = surf_new(40, 14);
    struct chart_pt p[2] = {point(0, lo), point(1, hi)};
    struct chart_series se = {.pt = p, .n = 2, .role = ROLE_S1};
    chart_draw(
        c, s, (struct rect){0, 0, 40, 14},
        &(struct chart_data){.series = &se, .nseries = 1, .now_ms = now});
    struct surf *left = surf_new(5, 12);
    for (int y = 0; y < 12; y++)
        for (int x = 0; x < 5; x++)
            surf_put(left, x, y, ROLE_TEXT, surf_cell(s, x, y)->s);
    char *d = surf_dump(left);
    surf_free(left);
    surf_free(s);
    return d;
}

START_TEST(the_y_range_widens_at_once_and_narrows_late) {
    struct chart *c = chart_new();
    char *wide = labels_of(c, 0, 10, 1000);
    char *soon = labels_of(c, 4, 6, 2000); /* uses less than half: waits */
    char *yet = labels_of(c, 4, 6, 31000);
    char *late = labels_of(c, 4, 6, 32001); /* 30 s after it began to */
    char *out = labels_of(c, 4, 11, 32100); /* at once */
    ck_assert_str_eq(soon, wide);
    ck_assert_str_eq(yet, wide);
    ck_assert_str_ne(late, wide);
    ck_assert_str_ne(out, late);
    free(wide);
    free(soon);
    free(yet);
    free(late);
    free(out);
    chart_free(c);
}
END_TEST

START_TEST(zoom_pan_and_crosshair_walk_the_curve) {
    static struct chart_pt loss[1240];
    struct chart *c = chart_new();
    struct surf *s = surf_new(105, 20);
    struct chart_series se = {.pt = loss, .n = 1240, .role = ROLE_S1};
    struct chart_data d = {.series = &se, .nseries = 1};
    struct rect r = {0, 0, 105, 20};
    static const struct chart_mark m[] = {{400, "◆", ROLE_OK},
                                          {800, "◆", ROLE_OK}};
    double x0, x1, y0, y1, at;
    for (int i = 0; i < 1240; i++)
        loss[i] = point(i, 1 + i % 3);
    chart_plan(c, 4000);
    chart_view(c, &x0, &x1);
    ck_assert(x0 == 0 && x1 == 4000);
    chart_draw(c, s, r, &d);
    ck_assert_int_eq(chart_dots(c), 200);
    chart_key(c, 'h'); /* from live: one dot left of the last point */
    ck_assert_double_eq_tol(chart_cursor_get(c), 1239 - 20, 1e-6);
    ck_assert(chart_cursor_mark(c, m, 2, -1));
    ck_assert_double_eq(chart_cursor_get(c), 800);
    ck_assert(chart_cursor_mark(c, m, 2, -1));
    ck_assert(!chart_cursor_mark(c, m, 2, -1));
    ck_assert_double_eq(chart_cursor_get(c), 400);
    chart_key(c, '+');
    chart_draw(c, s, r, &d);
    chart_view(c, &x0, &x1);
    ck_assert_double_eq_tol(x1 - x0, 2000, 1e-9);
    ck_assert(x0 <= 400 && 400 <= x1);
    chart_key(c, '>');
    chart_draw(c, s, r, &d);
    chart_view(c, &y0, &y1);
    ck_assert_double_eq_tol(y0 - x0, 500, 1e-9);
    chart_key(c, '-');
    chart_draw(c, s, r, &d);
    chart_view(c, &x0, &x1);
    ck_assert(x0 == 0 && x1 == 4000);
    ck_assert_double_eq_tol(chart_x_at(c, 5), 20, 1e-9);
    ck_assert_double_nan(chart_x_at(c, 4));
    chart_key(c, 't');
    ck_assert_double_nan(chart_cursor_get(c));
    ck_assert_double_eq(chart_value_at(&se, 100.4, &at), loss[100].last);
    ck_assert_double_eq(at, 100);
    ck_assert_double_eq(chart_value_at(&se, 1e9, &at), loss[1239].last);
    ck_assert_double_eq(chart_value_at(&se, -5, &at), loss[0].last);
    chart_free(c);
    surf_free(s);
}
END_TEST

/* ---- parts ---- */

START_TEST(ticks_are_nice_unique_and_inside) {
    uint64_t seed = 4;
    for (int round = 0; round < 20000; round++) {
        double lo = (next_random(&seed) - 0.5) *
                    pow(10, (int)(next_random(&seed) * 20) - 10),
               hi = lo + next_random(&seed) *
                             pow(10, (int)(next_random(&seed) * 20) - 10),
               out[20], step;
        if (!(hi > lo) || (hi - lo) < 1e-3 * fabs(lo))
            continue; /* labels have six digits or so */
        int max = 2 + (int)(next_random(&seed) * 18);
        int n = chart_ticks(lo, hi, max, out, &step);
        ck_assert(n >= 1 && n <= max);
        double m = step / pow(10, floor(log10(step) + 1e-9));
        ck_assert_msg(fabs(m - 1) < 1e-6 || fabs(m - 2) < 1e-6 ||
                          fabs(m - 2.5) < 1e-6 || fabs(m - 5) < 1e-6,
                      "step %g", step);
        char last[64] = "";
        for (int i = 0; i < n; i++) {
            char label[64];
            ck_assert(out[i] >= lo - step * 1e-6 && out[i] <= hi + step * 1e-6);
            chart_label(out[i], step, label, sizeof label);
            ck_assert_msg(strcmp(label, last) != 0, "%s twice, step %g", label,
                          step);
            ck_assert_msg(strlen(label) <= 14, "%s", label);
            memcpy(last, label, sizeof last);
        }
    }
}
END_TEST

START_TEST(labels_read_well) {
    static const struct {
        double v, step;
        const char *want;
    } t[] = {{0, 1, "0"},
             {0, 0.5, "0.0"},
             {1.5, 0.5, "1.5"},
             {1000, 1000, "1k"},
             {4000, 500, "4.0k"},
             {2500, 500, "2.5k"},
             {2e6, 1e6, "2M"},
             {2e-5, 1e-5, "2e-5"},
             {1.5e-5, 5e-6, "1.5e-5"},
             {-0.25, 0.25, "-0.25"},
             {1240, 10, "1.24k"},
             {100, 20, "100"},
             {NAN, 1, "nan"},
             {3e9, 1e9, "3G"}};
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        char buf[48];
        chart_label(t[i].v, t[i].step, buf, sizeof buf);
        ck_assert_str_eq(buf, t[i].want);
    }
}
END_TEST

START_TEST(smoothing_is_the_debiased_average) {
    double v[50], out[50];
    uint64_t seed = 6;
    for (int i = 0; i < 50; i++)
        v[i] = i == 20 ? NAN : next_random(&seed);
    chart_ema(v, 50, 0.9, out);
    for (int i = 0; i < 50; i++) { /* by the formula, from the start */
        double num = 0, den = 0;
        int later = 0;
        for (int k = i; k >= 0; k--)
            if (isfinite(v[k])) {
                num += 0.1 * pow(0.9, later) * v[k];
                den += 0.1 * pow(0.9, later++);
            }
        if (i == 20)
            ck_assert_double_nan(out[i]);
        else
            ck_assert_double_eq_tol(out[i], num / den, 1e-12);
    }
    double same[5] = {0.1, 0.1, 0.1, 0.1, 0.1};
    chart_ema(same, 5, 0.99, out);
    for (int i = 0; i < 5; i++)
        ck_assert_double_eq(out[i], 0.1);
}
END_TEST

START_TEST(sparks_show_the_shape_in_their_cells) {
    char buf[SPARK_BYTES(8)];
    double up[] = {1, 2, 3, 4, 5, 6, 7, 8}, flat[] = {2, 2, 2},
           gap[4] = {1, NAN, 2, 3};
    ck_assert_int_eq(spark_text(buf, sizeof buf, up, 8, 4, GLYPH_BRAILLE), 4);
    ck_assert_str_eq(buf, "⣀⣤⣶⣿");
    ck_assert_int_eq(spark_text(buf, sizeof buf, flat, 3, 8, GLYPH_BRAILLE), 2);
    ck_assert_str_eq(buf, "⣀⡀");
    spark_text(buf, sizeof buf, gap, 4, 8, GLYPH_BRAILLE);
    ck_assert_str_eq(buf, "⡀⣾");
    spark_text(buf, sizeof buf, up, 8, 4, GLYPH_ASCII);
    ck_assert_str_eq(buf, ".:o#");
    spark_text(buf, sizeof buf, up, 8, 4, GLYPH_BLOCK);
    ck_assert_str_eq(buf, "▂▄▆█");
    ck_assert_int_eq(spark_text(buf, sizeof buf, up, 0, 4, GLYPH_BRAILLE), 0);
    ck_assert_str_eq(buf, "");
    for (size_t cap = 1; cap < sizeof buf; cap++) {
        spark_text(buf, cap, up, 8, 8, GLYPH_BRAILLE);
        ck_assert_uint_lt(strlen(buf), cap);
    }
}
END_TEST

Suite *plot_suite(void) {
    Suite *s = suite_create("plot");
    TCase *t = tcase_create("plot");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, dots_are_where_the_definition_puts_them);
    tcase_add_test(t, no_spike_is_lost_at_any_width);
    tcase_add_test(t, any_size_and_any_data_is_drawn_without_harm);
    tcase_add_test(t, a_new_point_changes_a_few_cells);
    tcase_add_test(t, the_y_range_widens_at_once_and_narrows_late);
    tcase_add_test(t, zoom_pan_and_crosshair_walk_the_curve);
    tcase_add_test(t, ticks_are_nice_unique_and_inside);
    tcase_add_test(t, labels_read_well);
    tcase_add_test(t, smoothing_is_the_debiased_average);
    tcase_add_test(t, sparks_show_the_shape_in_their_cells);
    suite_add_tcase(s, t);
    return s;
}
