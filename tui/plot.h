/*
 * plot - curves as dots, private to w_chart.c; needs no axes and no text.
 *
 * A series is cut into dot columns: each holds the least, the greatest and the
 * last value of the buckets whose middle lies in it. A column draws the span
 * from least to greatest; columns are joined from the last value of one to the
 * nearest value of the next. Each cell belongs to the last series drawn in it.
 *
 * Caller's thread; the struct is reused from frame to frame and only grows.
 */
#ifndef FETTLE_TUI_PLOT_H
#define FETTLE_TUI_PLOT_H

#include "tui/axis.h"

struct plot_col {
    double min, max, last;
    bool has_value;
    bool has_bad; /* values that are not finite */
    bool is_gap;  /* only such */
};

struct plot {
    int w, h;      /* cells */
    int dy;        /* dots a cell is high: 4 braille, 2 block; always 2 wide */
    uint8_t *bits; /* w × h: bit y*2+x of the dot (x, y) in the cell */
    uint8_t *role; /* w × h */
    uint8_t *dots; /* scratch: the dots of one series */
    struct plot_col *col; /* 2 w */
    bool *bad;            /* w: a ! is due under this cell */
    size_t cap;
};

/* Empties the grid; -1 when memory is short. */
int plot_begin(struct plot *p, int w, int h, int dy);
void plot_release(struct plot *p);
/* Sorts buckets into columns of [x0, x1]. smooth > 0: their debiased EMA. */
void plot_columns(struct plot *p, const struct chart_series *s, double x0,
                  double x1, double smooth);
/* Draws the columns. pattern: which of four dot columns are drawn, 15 = all.
 * Returns the cell row of the last value, and its cell column in *end; -1 when
 * nothing was drawn. */
int plot_draw(struct plot *p, const struct axis *y, enum role r, int pattern,
              int *end);
/* The dot row of a value, 0 = top, clamped into the grid; -1 = no place. */
int plot_row(const struct plot *p, const struct axis *y, double v);

#endif
