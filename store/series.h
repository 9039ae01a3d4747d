/*
 * series - the curves of a run: points (step, value) under a metric's name,
 * each written exactly once, readable at any resolution in the time that the
 * answer takes, not the curve.
 *
 *     struct store_point p[] = {{.name = "loss", .step = 7, .value = 2.5}};
 *     store_points_add(st, run, p, 1);
 *     struct store_curve c;
 *     store_series_read(st, run, "loss", 0, 4000, 160, &c);
 *     for (int i = 0; i < c.n; i++) plot(c.row[i].step0, c.row[i].min, …);
 *     store_curve_free(&c);
 *
 * NaN and the infinities are values like others: they come back as they went
 * in, are counted, and never enter a minimum, maximum or sum.
 * Handle, errors, memory and threads: store/store.h.
 */
#ifndef FETTLE_STORE_SERIES_H
#define FETTLE_STORE_SERIES_H

#include "store/store.h"

#define STORE_STEP_MAX (((int64_t)1 << 39) - 1)
#define STORE_BUCKETS_MAX 65536

struct store_point {
    const char *name;
    int64_t step; /* 0 … STORE_STEP_MAX, in any order */
    double value;
    int64_t time_us;
};
/* All or none. A (run, name, step) that is there already keeps its first
 * value and time: sending a batch twice is fine. */
int store_points_add(struct store *st, int64_t run,
                     const struct store_point *points, int n);

/* A curve in one line; kept up to date by the writer, so reading it costs
 * nothing. What a table's cell or a filter looks at. */
struct store_series {
    const char *name;
    int64_t first_step, last_step;
    int64_t last_us;      /* time of the last step's point */
    int64_t n, nonfinite; /* points, and how many of them are not finite */
    double last;          /* value at last_step, finite or not */
    double min, max, sum; /* of the finite ones; min, max NAN when none */
    int64_t min_step, max_step;
};
struct store_series_list {
    int n;
    struct store_series *row;
    void *mem;
};
/* All of a run by name; or one, else STORE_NOTFOUND. */
int store_series_list(struct store *st, int64_t run,
                      struct store_series_list *rows);
int store_series_get(struct store *st, int64_t run, const char *name,
                     struct store_series_list *rows);
void store_series_list_free(struct store_series_list *rows);
/* Only the last value; NAN and STORE_NOTFOUND when there is none. */
int store_metric_last(struct store *st, int64_t run, const char *name,
                      double *value);

struct store_bucket {
    int64_t step0, step1; /* of the first and last point in it */
    double min, max, sum; /* of the finite ones; min, max NAN when none */
    double last;          /* value at step1, finite or not */
    int64_t n, nonfinite; /* points, and how many of them are not finite */
};
struct store_curve {
    int n;
    struct store_bucket *row; /* ascending, none empty */
    int64_t width; /* steps a bucket spans; bucket i covers the multiple of
                      width that step0 lies in. 1 = these are the points */
};
/* Points of first_step … last_step (INT64_MAX = to the end) in at most
 * max_buckets buckets, each exact. Width is the least that the range asked
 * for allows, and bucket borders are multiples of it, so that a view with a
 * fixed range sees old buckets stand still while the curve grows. An unknown
 * name is STORE_NOTFOUND; a range without points gives n = 0. */
int store_series_read(struct store *st, int64_t run, const char *name,
                      int64_t first_step, int64_t last_step, int max_buckets,
                      struct store_curve *c);
void store_curve_free(struct store_curve *c);

/* Raw points of one metric with step > after_step, ascending, at most limit
 * (> 0); start with -1, go on from the last row's step. `name` is NULL in the
 * rows. */
struct store_points {
    int n;
    struct store_point *row;
};
int store_points(struct store *st, int64_t run, const char *name,
                 int64_t after_step, int limit, struct store_points *rows);
void store_points_free(struct store_points *rows);

#endif
