/*
 * series - points and their pyramids.
 *
 * Level L of a pyramid has buckets of 8^L steps; level 0 is the points.
 * Invariants:
 * 1. Bucket b of level L is stored exactly when it is closed, b < last_step /
 *    8^L, and not empty. Open ones, at most seven children a level, are put
 *    together when they are read. So a point costs 1 + 1/8 + 1/64 … rows.
 * 2. A bucket is always computed from its up to eight children in ascending
 *    order: its sum has one value, whatever order the points came in.
 * 3. The summary in table series is that of all points of the curve.
 */
#include "store/series.h"
#include "store/db.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHIFT 3      /* log2 of the fan-out */
#define LEVEL_MAX 13 /* 8^13 > STORE_STEP_MAX */

enum kind { KIND_FINITE, KIND_NAN, KIND_INF, KIND_NINF, KIND_NZERO };

/* ---- values ---- */

static enum kind kind_of(double v) {
    if (isnan(v))
        return KIND_NAN;
    if (isinf(v))
        return v > 0 ? KIND_INF : KIND_NINF;
    return v == 0 && signbit(v) ? KIND_NZERO : KIND_FINITE;
}

static double value_stored(double v) { return isfinite(v) ? v : 0; }

static double value_at(sqlite3_stmt *q, int value, int kind) {
    switch (sqlite3_column_int(q, kind)) {
    case KIND_NAN: return NAN;
    case KIND_INF: return INFINITY;
    case KIND_NINF: return -INFINITY;
    case KIND_NZERO: return -0.0;
    }
    return sqlite3_column_double(q, value);
}

/* ---- buckets ---- */

static struct store_bucket point_bucket(int64_t step, double v) {
    bool ok = isfinite(v);
    return (struct store_bucket){
        .step0 = step,
        .step1 = step,
        .min = ok ? v : NAN,
        .max = ok ? v : NAN,
        .sum = ok ? v : 0,
        .last = v,
        .n = 1,
        .nonfinite = !ok,
    };
}

/* Appends a bucket of later steps. fmin and fmax ignore a NAN. */
static void bucket_append(struct store_bucket *b,
                          const struct store_bucket *c) {
    if (b->n == 0) {
        *b = *c;
        return;
    }
    b->step1 = c->step1;
    b->min = fmin(b->min, c->min);
    b->max = fmax(b->max, c->max);
    b->sum += c->sum;
    b->last = c->last;
    b->n += c->n;
    b->nonfinite += c->nonfinite;
}

/* Children of level `level` with index lo … hi; points are level 0. */
static int children_query(struct store *st, sqlite3_stmt **q, int64_t series,
                          int level, int64_t lo, int64_t hi) {
    if (level == 0)
        return db_query(st, q,
                        "SELECT step,value,kind FROM point WHERE series=?"
                        " AND step BETWEEN ? AND ? ORDER BY step",
                        "lll", series, lo, hi);
    return db_query(st, q,
                    "SELECT step0,last,kind,step1,min,max,sum,n,nonfinite"
                    " FROM pyramid WHERE series=? AND level=?"
                    " AND bucket BETWEEN ? AND ? ORDER BY bucket",
                    "ldll", series, level, lo, hi);
}

static struct store_bucket child_at(sqlite3_stmt *q, int level) {
    int64_t step = sqlite3_column_int64(q, 0);
    double last = value_at(q, 1, 2);
    if (level == 0)
        return point_bucket(step, last);
    return (struct store_bucket){
        .step0 = step,
        .step1 = sqlite3_column_int64(q, 3),
        .min = db_real(q, 4),
        .max = db_real(q, 5),
        .sum = db_real(q, 6),
        .last = last,
        .n = sqlite3_column_int64(q, 7),
        .nonfinite = sqlite3_column_int64(q, 8),
    };
}

static int bucket_from_children(struct store *st, int64_t series, int level,
                                int64_t b, struct store_bucket *out) {
    sqlite3_stmt *q;
    *out = (struct store_bucket){0};
    int64_t lo = b << SHIFT;
    int rc = children_query(st, &q, series, level - 1, lo, lo + 7);
    if (rc < 0)
        return rc;
    while ((rc = db_next(st, q)) == 1) {
        struct store_bucket c = child_at(q, level - 1);
        bucket_append(out, &c);
    }
    return rc;
}

static int bucket_close(struct store *st, int64_t series, int level,
                        int64_t b) {
    struct store_bucket s;
    int rc = bucket_from_children(st, series, level, b, &s);
    if (rc < 0 || s.n == 0)
        return rc;
    return db_exec(st,
                   "INSERT OR REPLACE INTO pyramid VALUES"
                   "(?,?,?,?,?,?,?,?,?,?,?,?)",
                   "ldlllffffdll", series, level, b, s.step0, s.step1, s.min,
                   s.max, s.sum, value_stored(s.last), (int)kind_of(s.last),
                   s.n, s.nonfinite);
}

/* ---- one curve while it is written ---- */

struct curve {
    int64_t id; /* 0 = none loaded */
    const char *name;
    struct store_series s;
    bool is_changed;
};

#define SERIES_COLUMNS \
    "name,first_step,last_step,last_us,n,nonfinite,last,kind,min,max,sum," \
    "min_step,max_step"

static void series_at(sqlite3_stmt *q, struct store_series *s) {
    *s = (struct store_series){
        .first_step = sqlite3_column_int64(q, 1),
        .last_step = sqlite3_column_int64(q, 2),
        .last_us = sqlite3_column_int64(q, 3),
        .n = sqlite3_column_int64(q, 4),
        .nonfinite = sqlite3_column_int64(q, 5),
        .last = value_at(q, 6, 7),
        .min = db_real(q, 8),
        .max = db_real(q, 9),
        .sum = db_real(q, 10),
        .min_step = sqlite3_column_int64(q, 11),
        .max_step = sqlite3_column_int64(q, 12),
    };
}

/* 1 = found. */
static int curve_find(struct store *st, struct curve *c, int64_t run,
                      const char *name) {
    sqlite3_stmt *q;
    *c = (struct curve){0};
    int rc = db_query(st, &q,
                      "SELECT " SERIES_COLUMNS ",id FROM series WHERE run=?"
                      " AND name=?",
                      "ls", run, name);
    if (rc == 0)
        rc = db_next(st, q);
    if (rc != 1)
        return rc;
    series_at(q, &c->s);
    c->id = sqlite3_column_int64(q, 13);
    c->name = name;
    db_end(q);
    return 1;
}

static int curve_make(struct store *st, struct curve *c, int64_t run,
                      const char *name) {
    int rc = name_check(st, "the metric's name", name);
    if (rc == 0)
        rc = db_exec(st,
                     "INSERT INTO series(run,name,first_step,last_step,last_us,"
                     "n,nonfinite,last,kind,sum,min_step,max_step)"
                     " VALUES(?,?,0,-1,0,0,0,0,0,0,0,0)",
                     "ls", run, name);
    if (rc < 0)
        return rc;
    *c = (struct curve){.id = sqlite3_last_insert_rowid(st->db), .name = name};
    c->s = (struct store_series){.last_step = -1, .min = NAN, .max = NAN};
    return STORE_OK;
}

static int curve_flush(struct store *st, struct curve *c) {
    const struct store_series *s = &c->s;
    if (!c->is_changed)
        return STORE_OK;
    c->is_changed = false;
    return db_exec(st,
                   "UPDATE series SET first_step=?,last_step=?,last_us=?,n=?,"
                   "nonfinite=?,last=?,kind=?,min=?,max=?,sum=?,min_step=?,"
                   "max_step=? WHERE id=?",
                   "lllllfdffflll", s->first_step, s->last_step, s->last_us,
                   s->n, s->nonfinite, value_stored(s->last),
                   (int)kind_of(s->last), s->min, s->max, s->sum, s->min_step,
                   s->max_step, c->id);
}

/* Keeps invariant 3. */
static void curve_sum_up(struct store_series *s, const struct store_point *p) {
    if (s->n == 0 || p->step < s->first_step)
        s->first_step = p->step;
    if (s->n == 0 || p->step > s->last_step) {
        s->last_step = p->step;
        s->last_us = p->time_us;
        s->last = p->value;
    }
    s->n++;
    if (!isfinite(p->value)) {
        s->nonfinite++;
        return;
    }
    s->sum += p->value;
    if (!(s->min <= p->value)) {
        s->min = p->value;
        s->min_step = p->step;
    }
    if (!(s->max >= p->value)) {
        s->max = p->value;
        s->max_step = p->step;
    }
}

/* Keeps invariant 1 once p is in: a later step closes buckets around the last
 * one; an earlier step changes those closed around itself. */
static int curve_close(struct store *st, struct curve *c, int64_t step) {
    int64_t last = c->s.last_step;
    int64_t at = step > last ? last : step;
    int64_t end = step > last ? step : last;
    if (c->s.n == 0)
        return STORE_OK;
    for (int level = 1; level <= LEVEL_MAX; level++) {
        int up = SHIFT * level;
        if (at >> up == end >> up)
            break;
        int rc = bucket_close(st, c->id, level, at >> up);
        if (rc < 0)
            return rc;
    }
    return STORE_OK;
}

static int curve_add(struct store *st, struct curve *c,
                     const struct store_point *p) {
    if (p->step < 0 || p->step > STORE_STEP_MAX)
        return db_err(st, STORE_INVAL, "%s: step %lld is not 0 to %lld",
                      p->name, (long long)p->step, (long long)STORE_STEP_MAX);
    int rc = db_exec(st, "INSERT OR IGNORE INTO point VALUES(?,?,?,?,?)",
                     "llfdl", c->id, p->step, value_stored(p->value),
                     (int)kind_of(p->value), p->time_us);
    if (rc < 0 || db_changes(st) == 0)
        return rc;
    rc = curve_close(st, c, p->step);
    curve_sum_up(&c->s, p);
    c->is_changed = true;
    return rc;
}

/* ---- store_points_add ---- */

/* By name, then step; equal ones stay in the order given, so that the first
 * is the one that counts. */
static int point_order(const void *pa, const void *pb) {
    const struct store_point *a = *(const struct store_point *const *)pa;
    const struct store_point *b = *(const struct store_point *const *)pb;
    int c = a->name == b->name ? 0 : strcmp(a->name, b->name);
    if (c != 0)
        return c;
    if (a->step != b->step)
        return a->step < b->step ? -1 : 1;
    return a < b ? -1 : a > b;
}

static int points_sorted(struct store *st, const struct store_point *points,
                         int n, const struct store_point ***out) {
    const struct store_point **order = malloc((size_t)n * sizeof *order);
    bool sorted = true;
    if (!order)
        return db_err(st, STORE_NOMEM, "out of memory");
    for (int i = 0; i < n; i++) {
        order[i] = &points[i];
        if (!points[i].name) {
            free(order);
            return db_err(st, STORE_INVAL, "a point has no name");
        }
        if (i > 0 && sorted)
            sorted = point_order(&order[i - 1], &order[i]) <= 0;
    }
    if (!sorted)
        qsort(order, (size_t)n, sizeof *order, point_order);
    *out = order;
    return STORE_OK;
}

static int curve_switch(struct store *st, struct curve *c, int64_t run,
                        const char *name) {
    if (c->id && (c->name == name || strcmp(c->name, name) == 0))
        return STORE_OK;
    int rc = curve_flush(st, c);
    if (rc == 0)
        rc = curve_find(st, c, run, name);
    if (rc == 0)
        rc = curve_make(st, c, run, name);
    return rc < 0 ? rc : STORE_OK;
}

static int points_insert(struct store *st, int64_t run,
                         const struct store_point **order, int n) {
    struct curve c = {0};
    int rc = run_check(st, run);
    for (int i = 0; i < n && rc == 0; i++) {
        rc = curve_switch(st, &c, run, order[i]->name);
        if (rc == 0)
            rc = curve_add(st, &c, order[i]);
    }
    return rc < 0 ? rc : curve_flush(st, &c);
}

int store_points_add(struct store *st, int64_t run,
                     const struct store_point *points, int n) {
    const struct store_point **order = NULL;
    int rc = tx_enter(st, "record points");
    if (rc < 0)
        return rc;
    if (n > 0)
        rc = points_sorted(st, points, n, &order);
    if (rc == 0)
        rc = points_insert(st, run, order, n);
    free(order);
    return tx_leave(st, rc);
}

/* ---- summaries ---- */

static void series_row(struct rows *r, sqlite3_stmt *q, void *row) {
    struct store_series *s = row;
    series_at(q, s);
    s->name = rows_text(r, q, 0);
}

static int series_read_rows(struct store *st, sqlite3_stmt *q,
                            struct store_series_list *rows) {
    struct rows r = {0};
    int rc = rows_read(st, q, &r, sizeof(struct store_series), series_row);
    ROWS_MOVE(rows, &r);
    return rc;
}

int store_series_list(struct store *st, int64_t run,
                      struct store_series_list *rows) {
    sqlite3_stmt *q;
    *rows = (struct store_series_list){0};
    read_enter(st, "list metrics");
    int rc = run_check(st, run);
    if (rc == 0)
        rc = db_query(st, &q,
                      "SELECT " SERIES_COLUMNS " FROM series WHERE run=?"
                      " ORDER BY name",
                      "l", run);
    return rc < 0 ? rc : series_read_rows(st, q, rows);
}

static int no_metric(struct store *st, int64_t run, const char *name) {
    return db_err(st, STORE_NOTFOUND, "run %lld has no metric '%s'",
                  (long long)run, name);
}

int store_series_get(struct store *st, int64_t run, const char *name,
                     struct store_series_list *rows) {
    sqlite3_stmt *q;
    *rows = (struct store_series_list){0};
    read_enter(st, "find metric");
    int rc = db_query(st, &q,
                      "SELECT " SERIES_COLUMNS " FROM series WHERE run=?"
                      " AND name=?",
                      "ls", run, name);
    if (rc == 0)
        rc = series_read_rows(st, q, rows);
    return rc == 0 && rows->n == 0 ? no_metric(st, run, name) : rc;
}

void store_series_list_free(struct store_series_list *rows) { ROWS_FREE(rows); }

int store_metric_last(struct store *st, int64_t run, const char *name,
                      double *value) {
    struct curve c;
    *value = NAN;
    read_enter(st, "read metric");
    int rc = curve_find(st, &c, run, name);
    if (rc == 1)
        *value = c.s.last;
    return rc == 1 ? STORE_OK : rc < 0 ? rc : no_metric(st, run, name);
}

/* ---- reading at a resolution ---- */

struct reader {
    struct store *st;
    int64_t series, last_step;
    int64_t width;
    struct store_curve *out;
    int cap;
};

/* The coarsest level that still cuts a bucket of this width into at least
 * four, so that rounding the width up to it costs a quarter at most. */
static int level_for(int64_t width) {
    int level = 0;
    while (level < LEVEL_MAX && (int64_t)4 << (SHIFT * (level + 1)) <= width)
        level++;
    return level;
}

/* Least width, a multiple of its level's bucket, for which the range spans at
 * most max buckets that begin at multiples of it. */
static int64_t width_for(int64_t first, int64_t last, int64_t max) {
    int64_t width = (last - first) / max + 1;
    for (;;) {
        int64_t unit = (int64_t)1 << (SHIFT * level_for(width));
        width = (width + unit - 1) / unit * unit;
        if (last / width - first / width < max)
            return width;
        width += unit;
    }
}

static int emit(struct reader *r, const struct store_bucket *b) {
    struct store_curve *c = r->out;
    struct store_bucket *prev = c->n > 0 ? &c->row[c->n - 1] : NULL;
    if (prev && prev->step0 / r->width == b->step0 / r->width) {
        bucket_append(prev, b);
        return STORE_OK;
    }
    if (c->n == r->cap) {
        int cap = r->cap ? r->cap * 2 : 64;
        struct store_bucket *grown =
            realloc(c->row, (size_t)cap * sizeof *grown);
        if (!grown)
            return db_err(r->st, STORE_NOMEM, "out of memory");
        c->row = grown;
        r->cap = cap;
    }
    c->row[c->n++] = *b;
    return STORE_OK;
}

static int emit_level(struct reader *r, int level, int64_t lo, int64_t hi) {
    sqlite3_stmt *q;
    int rc = children_query(r->st, &q, r->series, level, lo, hi);
    if (rc < 0)
        return rc;
    while ((rc = db_next(r->st, q)) == 1) {
        struct store_bucket b = child_at(q, level);
        rc = emit(r, &b);
        if (rc < 0) {
            db_end(q);
            return rc;
        }
    }
    return rc;
}

/* Steps first … last, ascending: whole closed buckets of this level in the
 * middle, both edges from the levels below. */
static int cover(struct reader *r, int level, int64_t first, int64_t last) {
    if (first > last)
        return STORE_OK;
    if (level == 0)
        return emit_level(r, 0, first, last);
    int up = SHIFT * level;
    int64_t lo = (first + ((int64_t)1 << up) - 1) >> up;
    int64_t hi = ((last + 1) >> up) - 1;
    if (hi >= r->last_step >> up)
        hi = (r->last_step >> up) - 1;
    if (lo > hi)
        return cover(r, level - 1, first, last);
    int rc = cover(r, level - 1, first, (lo << up) - 1);
    if (rc == 0)
        rc = emit_level(r, level, lo, hi);
    return rc < 0 ? rc : cover(r, level - 1, (hi + 1) << up, last);
}

static int curve_read(struct store *st, int64_t run, const char *name,
                      int64_t first, int64_t last, int max_buckets,
                      struct store_curve *out) {
    struct curve c;
    int rc = curve_find(st, &c, run, name);
    if (rc != 1)
        return rc < 0 ? rc : no_metric(st, run, name);
    if (first < 0)
        first = 0;
    if (last > STORE_STEP_MAX)
        last = c.s.last_step;
    if (first > last)
        return STORE_OK;
    struct reader r = {.st = st,
                       .series = c.id,
                       .last_step = c.s.last_step,
                       .width = width_for(first, last, max_buckets),
                       .out = out};
    out->width = r.width;
    if (last > c.s.last_step)
        last = c.s.last_step;
    return cover(&r, level_for(r.width), first, last);
}

int store_series_read(struct store *st, int64_t run, const char *name,
                      int64_t first_step, int64_t last_step, int max_buckets,
                      struct store_curve *c) {
    *c = (struct store_curve){.width = 1};
    read_enter(st, "read curve");
    if (max_buckets < 2 || max_buckets > STORE_BUCKETS_MAX)
        return db_err(st, STORE_INVAL, "%d buckets are not 2 to %d",
                      max_buckets, STORE_BUCKETS_MAX);
    /* One snapshot: the writer may add points between the statements. */
    bool own = sqlite3_get_autocommit(st->db);
    int rc = own ? db_exec(st, "BEGIN", "") : STORE_OK;
    if (rc < 0)
        return rc;
    rc = curve_read(st, run, name, first_step, last_step, max_buckets, c);
    if (own)
        sqlite3_exec(st->db, "COMMIT", NULL, NULL, NULL);
    if (rc < 0)
        store_curve_free(c);
    return rc;
}

void store_curve_free(struct store_curve *c) {
    free(c->row);
    *c = (struct store_curve){.width = 1};
}

/* ---- raw points ---- */

static void point_row(struct rows *r, sqlite3_stmt *q, void *row) {
    (void)r;
    *(struct store_point *)row = (struct store_point){
        .step = sqlite3_column_int64(q, 0),
        .value = value_at(q, 1, 2),
        .time_us = sqlite3_column_int64(q, 3),
    };
}

int store_points(struct store *st, int64_t run, const char *name,
                 int64_t after_step, int limit, struct store_points *rows) {
    struct curve c;
    sqlite3_stmt *q;
    struct rows r = {0};
    *rows = (struct store_points){0};
    read_enter(st, "read points");
    int rc = curve_find(st, &c, run, name);
    if (rc != 1)
        return rc < 0 ? rc : no_metric(st, run, name);
    rc = db_query(st, &q,
                  "SELECT step,value,kind,time_us FROM point WHERE series=?"
                  " AND step>? ORDER BY step LIMIT ?",
                  "lld", c.id, after_step, limit);
    if (rc == 0)
        rc = rows_read(st, q, &r, sizeof(struct store_point), point_row);
    rows->n = r.n;
    rows->row = (void *)r.row;
    return rc;
}

void store_points_free(struct store_points *rows) {
    free(rows->row);
    *rows = (struct store_points){0};
}

/* ---- fsck ---- */

/* How many curves contradict their points. */
static const char sql_bad_summary[] =
    "SELECT count(*) FROM series s LEFT JOIN (SELECT series, count(*) n,"
    " min(step) a, max(step) b, sum(kind BETWEEN 1 AND 3) bad FROM point"
    " GROUP BY series) p ON p.series=s.id WHERE s.n IS NOT p.n OR"
    " s.first_step IS NOT p.a OR s.last_step IS NOT p.b OR"
    " s.nonfinite IS NOT p.bad";
/* How many closed buckets of level ?1 contradict their children. */
static const char sql_bad_first[] =
    "SELECT count(*) FROM (SELECT p.series s, p.step>>3 b, count(*) n,"
    " sum(p.kind BETWEEN 1 AND 3) bad, min(iif(p.kind IN (0,4),value,NULL)) lo,"
    " max(iif(p.kind IN (0,4),value,NULL)) hi FROM point p JOIN series ON"
    " series.id=p.series AND p.step>>3 < last_step>>3 GROUP BY 1,2) c"
    " LEFT JOIN pyramid y ON y.series=c.s AND y.level=?1 AND y.bucket=c.b"
    " WHERE y.n IS NOT c.n OR y.nonfinite IS NOT c.bad OR y.min IS NOT c.lo"
    " OR y.max IS NOT c.hi";
static const char sql_bad_level[] =
    "SELECT count(*) FROM (SELECT p.series s, p.bucket>>3 b, sum(p.n) n,"
    " sum(p.nonfinite) bad, min(p.min) lo, max(p.max) hi FROM pyramid p"
    " JOIN series ON series.id=p.series AND p.bucket>>3 < last_step>>(3*?1)"
    " WHERE p.level=?1-1 GROUP BY 1,2) c"
    " LEFT JOIN pyramid y ON y.series=c.s AND y.level=?1 AND y.bucket=c.b"
    " WHERE y.n IS NOT c.n OR y.nonfinite IS NOT c.bad OR y.min IS NOT c.lo"
    " OR y.max IS NOT c.hi";

static int count_bad(struct store *st, const char *sql, int level,
                     const char *what, store_report_fn *report, void *arg,
                     int *findings) {
    int64_t n = 0;
    char text[128];
    int rc = level ? db_int(st, &n, sql, "d", level) : db_int(st, &n, sql, "");
    if (rc == 0 && n > 0) {
        snprintf(text, sizeof text,
                 "%lld %s of level %d disagree with the "
                 "points",
                 (long long)n, what, level);
        report(arg, text);
        ++*findings;
    }
    return rc;
}

int series_check(struct store *st, store_report_fn *report, void *arg,
                 int *findings) {
    int rc = count_bad(st, sql_bad_summary, 0, "curves", report, arg, findings);
    if (rc == 0)
        rc = count_bad(st, sql_bad_first, 1, "buckets", report, arg, findings);
    for (int level = 2; level <= LEVEL_MAX && rc == 0; level++)
        rc = count_bad(st, sql_bad_level, level, "buckets", report, arg,
                       findings);
    return rc;
}
