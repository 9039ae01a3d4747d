/*
 * w_chart - curves in braille dots on anchored axes.
 *
 * The chart keeps its axes still: x is [0, plan] when the end is known, else
 * it grows in jumps; y is a nice range that widens at once and narrows only
 * after a while. So a new point changes a cell or two, not the picture. Data
 * are buckets (min, max, last of some steps): no spike is lost, whatever the
 * zoom. Values that are not finite are left out, leave a gap and a ! below.
 *
 *     struct chart *c = chart_new();
 *     chart_plan(c, 4000);
 *     struct chart_series se = {.pt = pts, .n = n, .role = ROLE_S1,
 *                               .label = 'a'};
 *     chart_draw(c, s, pane, &(struct chart_data){.series = &se,
 *                .nseries = 1, .now_ms = now, .title = "loss"});
 *
 * Row 0 of the area is the title rule, then the plot, then the marker row,
 * then the x axis. Data are borrowed for the call. UI thread only.
 */
#ifndef FETTLE_TUI_W_CHART_H
#define FETTLE_TUI_W_CHART_H

#include "tui/surf.h"

/* What happened from x0 to x1; a single point has n = 1, x0 = x1. */
struct chart_pt {
    double x0, x1;
    double min, max, sum; /* of the finite values */
    double last;
    int64_t n, nonfinite; /* points; how many of them are not finite */
};

struct chart_series {
    const struct chart_pt *pt; /* ascending x */
    int n;
    enum role role; /* role_series(i) */
    char label;     /* at the right end of the curve; 0 = none */
    bool dim;       /* drawn thin: a parent's curve, a band */
    bool smooth;    /* the chart's smoothing applies */
};

struct chart_mark {
    double x;
    const char *glyph; /* "◆", "◇", "E", "!", "n", "F" */
    enum role role;
};

struct chart_data {
    const struct chart_series *series; /* painted in order, last on top */
    int nseries;
    const struct chart_mark *mark;
    int nmark;
    int64_t now_ms;     /* for the hysteresis of y */
    const char *title;  /* NULL = no title rule, the plot starts at row 0 */
    const char *right;  /* right-hand facts; NULL = the chart's own settings */
    const char *unit;   /* "", "%", "s" behind y labels */
    const char *x_name; /* "step" at the end of the x axis; may be NULL */
    bool focused;
    bool is_small; /* no marker row */
};

enum chart_scale { CHART_LINEAR, CHART_LOG, CHART_SYMLOG };

struct chart;

struct chart *chart_new(void); /* NULL when memory is short */
void chart_free(struct chart *c);
void chart_glyphs(struct chart *c, enum glyphs g);
/* Without colours: later series are dashed, told apart by pattern. */
void chart_mono(struct chart *c, bool on);

/* ---- axes ---- */

/* The x where the run is planned to end, 0 = unknown. */
void chart_plan(struct chart *c, double x_end);
void chart_scale(struct chart *c, enum chart_scale s);
enum chart_scale chart_scale_get(const struct chart *c);
void chart_range_y(struct chart *c, double lo, double hi); /* lo >= hi: auto */
/* Leaves out what lies outside 5-95 % when the range is chosen. */
void chart_clip(struct chart *c, bool on);
/* Debiased exponential smoothing, 0 = off … 0.99. */
void chart_smooth(struct chart *c, double weight);
double chart_smooth_get(const struct chart *c);
void chart_smooth_cycle(struct chart *c); /* 0 .6 .9 .97 .99 */
/* Fits all again: zoom, hysteresis and window are forgotten. */
void chart_fit(struct chart *c);
/* Zoom about the crosshair (or the middle); factor 0.5 = in, 2 = out. */
void chart_zoom(struct chart *c, double factor);
void chart_pan(struct chart *c, double share); /* of the width; + = right */
/* The x range that is shown: ask the store for this. Before the first drawing,
 * [0, plan or INFINITY]. */
void chart_view(const struct chart *c, double *x0, double *x1);
/* Dot columns of the last drawing: how many buckets are worth asking for. */
int chart_dots(const struct chart *c);

/* ---- crosshair ---- */

/* NAN = none (live). */
void chart_cursor(struct chart *c, double x);
double chart_cursor_get(const struct chart *c);
/* Moves by dot columns; starts at the last point when live. */
void chart_cursor_move(struct chart *c, int dots);
/* To the next (dir 1) or previous (-1) mark; false when there is none. */
bool chart_cursor_mark(struct chart *c, const struct chart_mark *m, int n,
                       int dir);
/* x of a column of the screen in the last drawing, NAN outside the plot. */
double chart_x_at(const struct chart *c, int col);
/* The raw value of a series nearest to x, NAN when it has none. */
double chart_value_at(const struct chart_series *s, double x, double *at);

/* h l w b ^ $ crosshair, + - zoom, 0 fit, < > pan, m smoothing, v scale,
 * o clip, t live. True when it did something. ({ } need the marks:
 * chart_cursor_mark.) */
bool chart_key(struct chart *c, uint32_t key);

void chart_draw(struct chart *c, struct surf *s, struct rect r,
                const struct chart_data *d);

/* ---- parts that stand alone ---- */

/* Nice ticks of [lo, hi]: at most max values, steps of 1, 2, 2.5, 5 × 10^k.
 * Returns how many; *step is their distance. */
int chart_ticks(double lo, double hi, int max, double *out, double *step);
/* "1.2k", "3.0", "2e-05": a label for v when ticks are step apart. */
void chart_label(double v, double step, char *buf, size_t cap);
/* out[i] = the debiased EMA up to value i; non-finite values pass through. */
void chart_ema(const double *v, int n, double weight, double *out);

#endif
