/*
 * axis - scales, nice ranges and ticks of a chart; private to w_chart.c.
 * Pure functions.
 */
#ifndef FETTLE_TUI_AXIS_H
#define FETTLE_TUI_AXIS_H

#include "tui/w_chart.h"

#define AXIS_TICKS 64

struct axis {
    enum chart_scale scale;
    double lo, hi; /* values; lo < hi */
};

/* Where v lies on the axis: 0 at lo, 1 at hi; NAN where it has no place (a
 * value <= 0 on a logarithmic axis). Not clamped. */
double axis_pos(const struct axis *a, double v);
/* The value at a position. */
double axis_value(const struct axis *a, double pos);
/* A nice range around [lo, hi] for about n intervals. */
struct axis axis_nice(enum chart_scale scale, double lo, double hi, int n);
/* Values to label on an axis of some cells, at most one in every `apart`
 * cells; returns how many, ascending; *step as chart_label() wants it. */
int axis_ticks(const struct axis *a, int cells, int apart,
               double out[AXIS_TICKS], double *step);
/* The least nice number >= v > 0: 1, 2, 2.5 or 5 × 10^k. */
double nice_ceil(double v);

#endif
