#include "tests/store/home.h"

#include <math.h>
#include <time.h>

static struct home h;
static int64_t run;

static void setup(void) {
    home_init(&h);
    run = home_run(&h, "r");
}
static void teardown(void) { home_release(&h); }

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void add(const char *name, int64_t step, double value) {
    struct store_point p = {
        .name = name, .step = step, .value = value, .time_us = step * 10};
    ok(h.st, store_points_add(h.st, run, &p, 1));
}

static void check_clean(struct store *st);

START_TEST(values_come_back_bit_for_bit) {
    static const double values[] = {0.0,       -0.0,         NAN,    INFINITY,
                                    -INFINITY, 1e-308,       5e-324, 1.0 / 3,
                                    -1e308,    (double)0.1f, 3.0};
    enum { N = sizeof values / sizeof values[0] };
    struct store_points p;
    for (int i = 0; i < N; i++)
        add("x", i, values[i]);
    ok(h.st, store_points(h.st, run, "x", -1, 100, &p));
    ck_assert_int_eq(p.n, N);
    for (int i = 0; i < N; i++) {
        ck_assert_int_eq(p.row[i].step, i);
        ck_assert_int_eq(p.row[i].time_us, i * 10);
        if (isnan(values[i]))
            ck_assert(isnan(p.row[i].value));
        else
            ck_assert_int_eq(memcmp(&p.row[i].value, &values[i], 8), 0);
    }
    store_points_free(&p);
}
END_TEST

START_TEST(first_value_of_a_step_wins) {
    struct store_point p[] = {{.name = "loss", .step = 3, .value = 1},
                              {.name = "loss", .step = 3, .value = 2},
                              {.name = "a", .step = 3, .value = 9}};
    struct store_series_list s;
    ok(h.st, store_points_add(h.st, run, p, 3));
    p[0].value = 7;
    ok(h.st, store_points_add(h.st, run, p, 3));
    ok(h.st, store_series_get(h.st, run, "loss", &s));
    ck_assert_int_eq(s.row[0].n, 1);
    ck_assert(s.row[0].last == 1 && s.row[0].sum == 1);
    store_series_list_free(&s);
    ok(h.st, store_series_list(h.st, run, &s));
    ck_assert_int_eq(s.n, 2);
    ck_assert_str_eq(s.row[0].name, "a");
    store_series_list_free(&s);
}
END_TEST

START_TEST(a_bad_point_leaves_the_batch_out) {
    struct store_point p[] = {{.name = "loss", .step = 3, .value = 1},
                              {.name = "loss", .step = -1, .value = 2}};
    struct store_series_list s;
    ck_assert_int_eq(store_points_add(h.st, run, p, 2), STORE_INVAL);
    p[1].step = STORE_STEP_MAX + 1;
    ck_assert_int_eq(store_points_add(h.st, run, p, 2), STORE_INVAL);
    p[1].name = "";
    ck_assert_int_eq(store_points_add(h.st, run, p, 2), STORE_INVAL);
    ck_assert_int_eq(store_points_add(h.st, run + 1, p, 1), STORE_NOTFOUND);
    ok(h.st, store_series_list(h.st, run, &s));
    ck_assert_int_eq(s.n, 0);
    store_series_list_free(&s);
    p[1] = (struct store_point){.name = "loss", .step = STORE_STEP_MAX};
    ok(h.st, store_points_add(h.st, run, p, 2));
    check_clean(h.st);
}
END_TEST

START_TEST(summary_names_extremes_and_last) {
    double v;
    struct store_series_list s;
    add("m", 5, 2);
    add("m", 9, NAN);
    add("m", 2, 8);
    add("m", 7, -1);
    ok(h.st, store_series_get(h.st, run, "m", &s));
    struct store_series *m = &s.row[0];
    ck_assert(m->first_step == 2 && m->last_step == 9 && m->n == 4);
    ck_assert(m->nonfinite == 1 && isnan(m->last) && m->last_us == 90);
    ck_assert(m->min == -1 && m->min_step == 7);
    ck_assert(m->max == 8 && m->max_step == 2 && m->sum == 9);
    store_series_list_free(&s);
    ok(h.st, store_metric_last(h.st, run, "m", &v));
    ck_assert(isnan(v));
    ck_assert_int_eq(store_metric_last(h.st, run, "no", &v), STORE_NOTFOUND);
    ck_assert_ptr_nonnull(strstr(store_errmsg(h.st), "no metric 'no'"));
}
END_TEST

/* ---- against brute force ---- */

struct truth {
    int64_t n;
    int64_t *step;
    double *value;
};

static double draw(uint64_t *seed) {
    uint64_t r = home_rand(seed);
    switch (r % 23) {
    case 0: return NAN;
    case 1: return INFINITY;
    case 2: return -INFINITY;
    }
    return (double)(int64_t)(r >> 20) / 1e9 - 4000;
}

/* Steps with gaps, given in blocks that are shuffled: late points too. */
static void fill(struct truth *t, int n, uint64_t *seed, int gap, int block) {
    struct store_point *p = calloc((size_t)n, sizeof *p);
    int64_t step = 0;
    *t = (struct truth){.n = n};
    t->step = calloc((size_t)n, sizeof *t->step);
    t->value = calloc((size_t)n, sizeof *t->value);
    for (int i = 0; i < n; i++) {
        step += 1 + (int64_t)(home_rand(seed) % (uint64_t)gap);
        t->step[i] = step;
        t->value[i] = draw(seed);
        p[i] = (struct store_point){
            .name = "c", .step = step, .value = t->value[i]};
    }
    for (int at = 0; at < n; at += block) {
        int len = n - at < block ? n - at : block;
        for (int i = len - 1; i > 0; i--) {
            int j = (int)(home_rand(seed) % (uint64_t)(i + 1));
            struct store_point x = p[at + i];
            p[at + i] = p[at + j];
            p[at + j] = x;
        }
    }
    ok(h.st, store_begin(h.st));
    for (int at = 0; at < n; at += 7)
        ok(h.st, store_points_add(h.st, run, p + at, n - at < 7 ? n - at : 7));
    ok(h.st, store_commit(h.st));
    free(p);
}

static void truth_release(struct truth *t) {
    free(t->step);
    free(t->value);
}

static bool same(double a, double b) {
    return (isnan(a) && isnan(b)) || a == b;
}

static void check_bucket(const struct truth *t, const struct store_bucket *b,
                         int64_t lo, int64_t hi) {
    struct store_bucket w = {.min = NAN, .max = NAN};
    double size = 0;
    for (int64_t i = 0; i < t->n; i++) {
        double v = t->value[i];
        if (t->step[i] < lo || t->step[i] > hi)
            continue;
        if (w.n++ == 0)
            w.step0 = t->step[i];
        w.step1 = t->step[i];
        w.last = v;
        if (!isfinite(v)) {
            w.nonfinite++;
            continue;
        }
        w.min = fmin(w.min, v);
        w.max = fmax(w.max, v);
        w.sum += v;
        size += fabs(v);
    }
    ck_assert_int_eq(w.n, b->n);
    ck_assert_int_eq(w.nonfinite, b->nonfinite);
    ck_assert(w.step0 == b->step0 && w.step1 == b->step1);
    ck_assert(same(w.min, b->min) && same(w.max, b->max));
    ck_assert(same(w.last, b->last));
    ck_assert(fabs(w.sum - b->sum) <= 1e-12 * size);
}

static void check_range(const struct truth *t, int64_t first, int64_t last,
                        int max) {
    struct store_curve c;
    int64_t seen = 0, want = 0;
    ok(h.st, store_series_read(h.st, run, "c", first, last, max, &c));
    ck_assert_int_le(c.n, max);
    for (int i = 0; i < c.n; i++) {
        int64_t lo = c.row[i].step0 / c.width * c.width;
        int64_t hi = lo + c.width - 1;
        if (i > 0)
            ck_assert(c.row[i].step0 / c.width > c.row[i - 1].step0 / c.width);
        check_bucket(t, &c.row[i], lo < first ? first : lo,
                     hi > last ? last : hi);
        seen += c.row[i].n;
    }
    for (int64_t i = 0; i < t->n; i++)
        want += t->step[i] >= first && t->step[i] <= last;
    ck_assert_int_eq(seen, want);
    store_curve_free(&c);
}

START_TEST(pyramid_equals_brute_force) {
    static const struct {
        int n, gap, block;
    } cases[] = {{1, 1, 1},     {9, 1, 1},     {64, 1, 64},
                 {513, 1, 1},   {700, 3, 100}, {1500, 1, 40},
                 {800, 100, 9}, {900, 2, 900}, {300, 1 << 20, 30}};
    uint64_t seed = 20240607u + (uint64_t)_i;
    struct truth t;
    fill(&t, cases[_i].n, &seed, cases[_i].gap, cases[_i].block);
    int64_t last = t.step[t.n - 1];
    check_range(&t, 0, INT64_MAX, 2);
    check_range(&t, 0, INT64_MAX, 160);
    check_range(&t, 0, 2 * last, 37);
    for (int i = 0; i < 40; i++) {
        int64_t a = (int64_t)(home_rand(&seed) % (uint64_t)(last + 2));
        int64_t b = a + (int64_t)(home_rand(&seed) % (uint64_t)(last + 2));
        check_range(&t, a, b, 2 + (int)(home_rand(&seed) % 200));
    }
    check_clean(h.st);
    truth_release(&t);
}
END_TEST

START_TEST(order_of_arrival_changes_nothing) {
    struct store_curve a, b;
    int64_t other = home_run(&h, "other");
    for (int i = 0; i < 700; i++) {
        struct store_point p = {.name = "c", .step = i, .value = 1.0 / (i + 1)};
        struct store_point q = {
            .name = "c", .step = 699 - i, .value = 1.0 / (700 - i)};
        ok(h.st, store_points_add(h.st, run, &p, 1));
        ok(h.st, store_points_add(h.st, other, &q, 1));
    }
    ok(h.st, store_series_read(h.st, run, "c", 0, 699, 3, &a));
    ok(h.st, store_series_read(h.st, other, "c", 0, 699, 3, &b));
    ck_assert_int_eq(a.n, b.n);
    ck_assert_int_eq(memcmp(a.row, b.row, (size_t)a.n * sizeof *a.row), 0);
    store_curve_free(&a);
    store_curve_free(&b);
}
END_TEST

START_TEST(old_buckets_stand_still_while_a_curve_grows) {
    struct store_curve before, after;
    for (int i = 0; i < 500; i++)
        add("c", i, i * 0.5);
    ok(h.st, store_series_read(h.st, run, "c", 0, 4000, 100, &before));
    add("c", 500, -7);
    ok(h.st, store_series_read(h.st, run, "c", 0, 4000, 100, &after));
    ck_assert_int_eq(before.width, after.width);
    ck_assert_int_eq(memcmp(before.row, after.row,
                            (size_t)(before.n - 1) * sizeof *before.row),
                     0);
    store_curve_free(&before);
    store_curve_free(&after);
}
END_TEST

START_TEST(asking_for_nothing_gives_nothing) {
    struct store_curve c;
    struct store_points p;
    add("c", 10, 1);
    ok(h.st, store_series_read(h.st, run, "c", 11, 90, 10, &c));
    ck_assert_int_eq(c.n, 0);
    ok(h.st, store_series_read(h.st, run, "c", 5, 4, 10, &c));
    ck_assert_int_eq(c.n, 0);
    ck_assert_int_eq(store_series_read(h.st, run, "d", 0, 9, 10, &c),
                     STORE_NOTFOUND);
    ck_assert_int_eq(store_series_read(h.st, run, "c", 0, 9, 1, &c),
                     STORE_INVAL);
    ok(h.st, store_points(h.st, run, "c", 10, 10, &p));
    ck_assert_int_eq(p.n, 0);
    store_points_free(&p);
}
END_TEST

START_TEST(a_reader_sees_what_the_writer_committed) {
    int64_t g0, g1, g2;
    struct store_curve c;
    struct store *r = home_open(&h, STORE_READ);
    ok(r, store_generation(r, &g0));
    ok(r, store_generation(r, &g1));
    ck_assert_int_eq(g0, g1);
    ok(h.st, store_begin(h.st));
    add("c", 1, 1);
    ok(r, store_generation(r, &g1));
    ck_assert_int_eq(g0, g1);
    ck_assert_int_eq(store_series_read(r, run, "c", 0, 9, 10, &c),
                     STORE_NOTFOUND);
    ok(h.st, store_commit(h.st));
    ok(r, store_generation(r, &g2));
    ck_assert_int_ne(g1, g2);
    ok(r, store_series_read(r, run, "c", 0, 9, 10, &c));
    ck_assert_int_eq(c.n, 1);
    store_curve_free(&c);
    store_close(r);
}
END_TEST

/* Figures, never asserted: they are the machine's. */
START_TEST(a_million_points_go_in_and_come_out) {
    enum { N = 1000000, B = 10000 };
    struct store_point *p = calloc(B, sizeof *p);
    struct store_curve c;
    double t0 = seconds();
    for (int at = 0; at < N; at += B) {
        for (int i = 0; i < B; i++)
            p[i] = (struct store_point){
                .name = "loss", .step = at + i, .value = sin(at + i)};
        ok(h.st, store_points_add(h.st, run, p, B));
    }
    double t1 = seconds();
    ok(h.st, store_series_read(h.st, run, "loss", 0, INT64_MAX, 160, &c));
    double t2 = seconds();
    int64_t n = 0;
    for (int i = 0; i < c.n; i++)
        n += c.row[i].n;
    ck_assert_int_eq(n, N);
    printf("store: %.0f points/s in batches of %d; 160 buckets of 1e6 points "
           "in %.2f ms\n",
           N / (t1 - t0), B, (t2 - t1) * 1e3);
    store_curve_free(&c);
    free(p);
}
END_TEST

START_TEST(one_step_of_twenty_metrics_is_one_quick_commit) {
    enum { STEPS = 200, METRICS = 20 };
    char names[METRICS][16];
    struct store_point p[METRICS];
    double worst = 0, sum = 0;
    for (int i = 0; i < METRICS; i++)
        snprintf(names[i], sizeof names[i], "m%02d", i);
    for (int s = 0; s < STEPS; s++) {
        for (int i = 0; i < METRICS; i++)
            p[i] = (struct store_point){
                .name = names[i], .step = s, .value = s + i};
        double t = seconds();
        ok(h.st, store_begin(h.st));
        ok(h.st, store_points_add(h.st, run, p, METRICS));
        ok(h.st, store_run_advance(h.st, run, s + 1, 1000));
        ok(h.st, store_commit(h.st));
        t = seconds() - t;
        sum += t;
        worst = t > worst ? t : worst;
    }
    printf("store: a step of %d metrics commits in %.2f ms (worst %.1f)\n",
           METRICS, sum / STEPS * 1e3, worst * 1e3);
    struct store_runs r;
    ok(h.st, store_run_get(h.st, run, &r));
    ck_assert(r.row[0].cursor == STEPS && r.row[0].run_us == STEPS * 1000);
    store_runs_free(&r);
}
END_TEST

static void report(void *arg, const char *finding) {
    (void)arg;
    ck_abort_msg("%s", finding);
}

static void check_clean(struct store *st) {
    ok(st, store_check(st, true, report, NULL));
}

Suite *series_suite(void);
Suite *series_suite(void) {
    Suite *s = suite_create("store_series");
    TCase *t = tcase_create("series");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, values_come_back_bit_for_bit);
    tcase_add_test(t, first_value_of_a_step_wins);
    tcase_add_test(t, a_bad_point_leaves_the_batch_out);
    tcase_add_test(t, summary_names_extremes_and_last);
    tcase_add_loop_test(t, pyramid_equals_brute_force, 0, 9);
    tcase_add_test(t, order_of_arrival_changes_nothing);
    tcase_add_test(t, old_buckets_stand_still_while_a_curve_grows);
    tcase_add_test(t, asking_for_nothing_gives_nothing);
    tcase_add_test(t, a_reader_sees_what_the_writer_committed);
    tcase_add_test(t, a_million_points_go_in_and_come_out);
    tcase_add_test(t, one_step_of_twenty_metrics_is_one_quick_commit);
    suite_add_tcase(s, t);
    return s;
}
