/* Charts: golden grids, axes that keep still, nothing that breaks them. */
#include "tests/tui/golden.h"
#include "tui/axis.h"
#include "tui/input.h"
#include "tui/w_chart.h"
#include "tui/w_spark.h"

#include <math.h>

Suite *chart_suite(void);

#define POINTS 400

static struct chart_pt point(double x, double v) {
    bool is_finite = isfinite(v);
    return (struct chart_pt){.x0 = x,
                             .x1 = x,
                             .min = v,
                             .max = v,
                             .sum = is_finite ? v : 0,
                             .last = v,
                             .n = 1,
                             .nonfinite = !is_finite};
}

/* A loss: falls from 3.2 to 1.2 with a ripple. */
static int fill_loss(struct chart_pt *p, int n, double step) {
    for (int i = 0; i < n; i++)
        p[i] = point(i * step, 1.2 + 2 * exp(-i / 60.0) +
                                   0.1 * sin(i * 0.9) * exp(-i / 200.0));
    return n;
}

struct fixture {
    struct surf *s;
    struct chart *c;
    struct chart_pt p[POINTS], q[POINTS];
    struct chart_series se[2];
    struct chart_data d;
};

static struct fixture *open_fixture(int w, int h) {
    struct fixture *f = calloc(1, sizeof *f);
    f->s = surf_new(w, h);
    f->c = chart_new();
    f->se[0] = (struct chart_series){.pt = f->p, .role = ROLE_S1, .label = 'a'};
    f->se[1] = (struct chart_series){.pt = f->q, .role = ROLE_S2, .label = 'e'};
    f->d = (struct chart_data){
        .series = f->se, .nseries = 1, .title = "loss", .x_name = "step"};
    return f;
}

static void draw(struct fixture *f) {
    surf_clear(f->s);
    chart_draw(f->c, f->s, (struct rect){0, 0, surf_w(f->s), surf_h(f->s)},
               &f->d);
}

static void close_fixture(struct fixture *f) {
    chart_free(f->c);
    surf_free(f->s);
    free(f);
}

static const struct size { int w, h; } sizes[] = {{40, 10}, {80, 12}};

static void check_sizes(const char *name, void (*prepare)(struct fixture *f)) {
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        char file[64];
        struct fixture *f = open_fixture(sizes[i].w, sizes[i].h);
        prepare(f);
        draw(f);
        snprintf(file, sizeof file, "chart-%s-%dx%d", name, sizes[i].w,
                 sizes[i].h);
        golden_check(f->s, file);
        close_fixture(f);
    }
}

static const struct chart_mark marks[] = {{800, "◆", ROLE_MARK},
                                          {1600, "◆", ROLE_MARK},
                                          {2000, "E", ROLE_EDIT},
                                          {2001, "n", ROLE_EDIT}};

static void prepare_loss(struct fixture *f) {
    chart_plan(f->c, 4000);
    f->se[0].n = fill_loss(f->p, 250, 10);
    f->d.mark = marks;
    f->d.nmark = 4;
}

static void prepare_two(struct fixture *f) {
    prepare_loss(f);
    for (int i = 0; i < 6; i++)
        f->q[i] = point(i * 400, 2.4 - 0.18 * i);
    f->se[1].n = 6;
    f->d.nseries = 2;
    chart_smooth(f->c, 0.9);
    f->se[0].smooth = true;
}

static void prepare_nan(struct fixture *f) {
    prepare_loss(f);
    for (int i = 100; i < 130; i++)
        f->p[i] = point(i * 10, i % 2 ? NAN : INFINITY);
}

static void prepare_constant(struct fixture *f) {
    chart_plan(f->c, 100);
    for (int i = 0; i < 60; i++)
        f->p[i] = point(i, 2e-5);
    f->se[0].n = 60;
}

static void prepare_empty(struct fixture *f) { chart_plan(f->c, 1000); }

static void prepare_one(struct fixture *f) {
    f->p[0] = point(0, 0.5);
    f->se[0].n = 1;
}

static void prepare_ascii(struct fixture *f) {
    prepare_loss(f);
    chart_glyphs(f->c, GLYPH_ASCII);
}

static void prepare_block(struct fixture *f) {
    prepare_loss(f);
    chart_glyphs(f->c, GLYPH_BLOCK);
}

static void prepare_log(struct fixture *f) {
    chart_plan(f->c, 400);
    for (int i = 0; i < 400; i++)
        f->p[i] = point(i, i % 50 == 7 ? 0 : pow(10, 1 - i / 80.0));
    f->se[0].n = 400;
    chart_scale(f->c, CHART_LOG);
}

START_TEST(grids_are_as_recorded) {
    static const struct {
        const char *name;
        void (*prepare)(struct fixture *f);
    } t[] = {
        {"loss", prepare_loss},   {"two", prepare_two},
        {"nan", prepare_nan},     {"constant", prepare_constant},
        {"empty", prepare_empty}, {"one", prepare_one},
        {"ascii", prepare_ascii}, {"block", prepare_block},
        {"log", prepare_log},
    };
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++)
        check_sizes(t[i].name, t[i].prepare);
}
END_TEST

static int cells_changed(const struct surf *a, const struct surf *b) {
    int n = 0;
    for (int y = 0; y < surf_h(a); y++)
        for (int x = 0; x < surf_w(a); x++)
            n += strcmp(surf_cell(a, x, y)->s, surf_cell(b, x, y)->s) != 0;
    return n;
}

START_TEST(a_new_point_changes_few_cells) {
    struct fixture *f = open_fixture(80, 12);
    struct surf *old = surf_new(80, 12);
    prepare_loss(f);
    f->d.nmark = 0;
    fill_loss(f->p, POINTS, 10);
    int total = 0;
    for (int n = 60; n < POINTS; n++) {
        f->se[0].n = n;
        f->d.now_ms = n * 1000;
        surf_copy(old, f->s);
        draw(f);
        if (n > 60)
            total += cells_changed(old, f->s);
    }
    ck_assert_msg(total < 6 * POINTS, "%d cells changed", total);
    surf_free(old);
    close_fixture(f);
}
END_TEST

START_TEST(a_spike_is_seen_at_every_zoom) {
    struct fixture *f = open_fixture(80, 12);
    for (int i = 0; i < POINTS; i++)
        f->p[i] = (struct chart_pt){
            i * 100, i * 100 + 99, 1, i == 211 ? 9 : 1, 100, 1, 100, 0};
    f->se[0].n = POINTS;
    f->d.title = NULL;
    chart_range_y(f->c, 0, 10);
    chart_cursor(f->c, 21150);
    for (int zoom = 0; zoom < 8; zoom++) {
        draw(f);
        int top = surf_h(f->s);
        for (int y = surf_h(f->s) - 3; y >= 0; y--)
            for (int x = 8; x < 80; x++) {
                const char *g = surf_cell(f->s, x, y)->s;
                if ((unsigned char)g[0] == 0xE2 &&
                    (unsigned char)g[1] >= 0xA0 && (unsigned char)g[1] <= 0xA3)
                    top = y;
            }
        ck_assert_msg(top <= 1, "zoom %d: highest dot in row %d", zoom, top);
        chart_zoom(f->c, 0.5);
    }
    close_fixture(f);
}
END_TEST

START_TEST(y_widens_at_once_and_narrows_late) {
    struct fixture *f = open_fixture(40, 10);
    struct surf *wide = surf_new(40, 10);
    chart_plan(f->c, 100);
    for (int i = 0; i < 50; i++)
        f->p[i] = point(i, i == 0 ? 100 : 1);
    f->se[0].n = 50;
    draw(f);
    surf_copy(wide, f->s);
    f->p[0] = point(0, 1);
    f->d.now_ms = 1000;
    draw(f); /* labels stay */
    for (int y = 1; y < 8; y++)
        ck_assert_str_eq(surf_cell(f->s, 0, y)->s, surf_cell(wide, 0, y)->s);
    f->d.now_ms = 60000;
    draw(f);
    f->d.now_ms = 120000;
    draw(f);
    ck_assert_int_gt(cells_changed(wide, f->s), 10);
    f->p[10] = point(10, 1e6);
    draw(f);
    char *dump = surf_dump(f->s);
    ck_assert_msg(strstr(dump, "1M") || strstr(dump, "1000k"), "%s", dump);
    free(dump);
    surf_free(wide);
    close_fixture(f);
}
END_TEST

START_TEST(ranges_are_nice_and_hold_the_data) {
    uint64_t seed = 5;
    for (int i = 0; i < 20000; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        double a = ldexp((double)(int64_t)seed, -63 + (int)(seed >> 40) % 60);
        double b = a + fabs(a) * 1e-9 + ldexp((double)(seed >> 11), -60);
        struct axis ax = axis_nice(CHART_LINEAR, a, b, 2 + i % 8);
        ck_assert_msg(ax.lo <= a && ax.hi >= b && ax.lo < ax.hi,
                      "[%g %g]: %g %g", a, b, ax.lo, ax.hi);
        double tick[AXIS_TICKS], step;
        int n = axis_ticks(&ax, 24, 3, tick, &step);
        ck_assert_int_le(n, 9);
        for (int k = 0; k < n; k++)
            ck_assert_msg(axis_pos(&ax, tick[k]) > -1e-6 &&
                              axis_pos(&ax, tick[k]) < 1 + 1e-6 &&
                              (k == 0 || tick[k] > tick[k - 1]),
                          "tick %g of [%g %g]", tick[k], ax.lo, ax.hi);
    }
}
END_TEST

START_TEST(smoothing_is_debiased_and_passes_bad_values) {
    double v[] = {2, 2, 2, NAN, 2, 4}, out[6];
    chart_ema(v, 6, 0.9, out);
    for (int i = 0; i < 5; i++)
        ck_assert(i == 3 ? isnan(out[i]) : fabs(out[i] - 2) < 1e-12);
    ck_assert(out[5] > 2 && out[5] < 4);
    chart_ema(v, 6, 0, out);
    ck_assert(out[5] == 4);
}
END_TEST

/* Any data, keys and sizes: no crash, nothing outside of the area. */
START_TEST(random_data_and_keys_stay_inside) {
    static const char keys[] = "hlbw^$+-0<>mvot+++";
    static const double odd[] = {NAN,   INFINITY, -INFINITY, 0,
                                 1e308, -1e308,   1e-320,    -0.0};
    uint64_t seed = 9;
    for (int round = 0; round < 300; round++) {
        struct fixture *f = open_fixture(1 + round % 90, 1 + round % 17);
        double x = 0;
        for (int i = 0; i < POINTS; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            unsigned r = (unsigned)(seed >> 40);
            f->p[i] = point(x, r % 20 == 0 ? odd[r / 20 % 8]
                                           : (double)(int)(r % 2000) - 500);
            x += r % 7 ? r % 100 : 0;
        }
        f->se[0].n = (int)(seed >> 33) % (POINTS + 1);
        f->d.is_small = round % 3 == 0;
        f->d.mark = marks;
        f->d.nmark = round % 5;
        f->d.title = round % 4 ? "t" : NULL;
        chart_glyphs(f->c, (enum glyphs)(round % 3));
        chart_mono(f->c, round % 2);
        chart_plan(f->c, round % 2 ? 1000 : 0);
        surf_put(f->s, surf_w(f->s) - 1, 0, ROLE_TEXT, "#");
        for (int i = 0; i < 30; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            chart_key(f->c, (uint32_t)keys[(seed >> 33) % (sizeof keys - 1)]);
            struct rect r = {0, 0, surf_w(f->s) - 1, surf_h(f->s)};
            chart_draw(f->c, f->s, r, &f->d);
            f->d.now_ms += 5000;
            ck_assert_str_eq(surf_cell(f->s, surf_w(f->s) - 1, 0)->s, "#");
        }
        close_fixture(f);
    }
}
END_TEST

START_TEST(marks_and_values_are_found_by_the_crosshair) {
    struct fixture *f = open_fixture(80, 12);
    prepare_loss(f);
    draw(f);
    ck_assert(isnan(chart_cursor_get(f->c)));
    ck_assert(chart_cursor_mark(f->c, marks, 4, -1));
    ck_assert(chart_cursor_get(f->c) == 2001);
    ck_assert(chart_cursor_mark(f->c, marks, 4, -1));
    ck_assert(chart_cursor_mark(f->c, marks, 4, -1));
    ck_assert(chart_cursor_get(f->c) == 1600);
    ck_assert(chart_cursor_mark(f->c, marks, 4, 1));
    ck_assert(chart_cursor_get(f->c) == 2000);
    double at = 0;
    ck_assert(chart_value_at(&f->se[0], 1601, &at) == f->p[160].last);
    ck_assert(at == 1600);
    ck_assert(isnan(chart_value_at(&f->se[1], 1601, &at)));
    draw(f);
    golden_check(f->s, "chart-cursor-80x12");
    close_fixture(f);
}
END_TEST

START_TEST(sparks_fit_and_leave_gaps) {
    double v[100];
    char buf[SPARK_BYTES(20)];
    for (int i = 0; i < 100; i++)
        v[i] = 100 - i;
    for (int n = 0; n <= 100; n++)
        for (int cells = 0; cells <= 20; cells++)
            for (int g = 0; g < 3; g++) {
                int used =
                    spark_text(buf, sizeof buf, v, n, cells, (enum glyphs)g);
                ck_assert_int_le(used, cells);
                ck_assert_int_eq(used, text_width(buf));
            }
    spark_text(buf, sizeof buf, v, 100, 8, GLYPH_BRAILLE);
    ck_assert_str_eq(buf, "⣿⣿⣶⣶⣤⣤⣀⣀");
    v[3] = NAN;
    spark_text(buf, sizeof buf, v, 8, 4, GLYPH_BRAILLE);
    ck_assert_int_eq(text_width(buf), 4);
    for (int i = 0; i < 8; i++)
        v[i] = NAN;
    ck_assert_int_le(spark_text(buf, sizeof buf, v, 8, 4, GLYPH_BRAILLE), 4);
}
END_TEST

Suite *chart_suite(void) {
    Suite *s = suite_create("chart");
    TCase *t = tcase_create("chart");
    tcase_set_timeout(t, 30);
    tcase_add_test(t, grids_are_as_recorded);
    tcase_add_test(t, a_new_point_changes_few_cells);
    tcase_add_test(t, a_spike_is_seen_at_every_zoom);
    tcase_add_test(t, y_widens_at_once_and_narrows_late);
    tcase_add_test(t, ranges_are_nice_and_hold_the_data);
    tcase_add_test(t, smoothing_is_debiased_and_passes_bad_values);
    tcase_add_test(t, random_data_and_keys_stay_inside);
    tcase_add_test(t, marks_and_values_are_found_by_the_crosshair);
    tcase_add_test(t, sparks_fit_and_leave_gaps);
    suite_add_tcase(s, t);
    return s;
}
