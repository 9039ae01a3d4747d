/*
 * w_spark - a curve in a few cells of text, for table cells and strips.
 *
 *     char buf[SPARK_BYTES(8)];
 *     spark_text(buf, sizeof buf, v, n, 8, GLYPH_BRAILLE);   // "⣷⣦⣤⣀⣀⣀"
 *
 * Each cell shows two columns of values, the newest at the right, filled from
 * below; values that are not finite leave a gap. Pure; any thread.
 */
#ifndef FETTLE_TUI_W_SPARK_H
#define FETTLE_TUI_W_SPARK_H

#include "tui/surf.h"

#define SPARK_BYTES(cells) ((cells)*3 + 1)

/* Values are resampled to the columns (the mean of each share). Fewer values
 * than columns fill from the left. Returns the cells used. */
int spark_text(char *buf, size_t cap, const double *v, int n, int cells,
               enum glyphs g);
/* The same, scaled to [lo, hi] rather than to the values' own range. */
int spark_range(char *buf, size_t cap, const double *v, int n, int cells,
                enum glyphs g, double lo, double hi);
/* One row: "label   value ⣶⣶⣤⣀" with the label and value in given widths. */
void spark_strip(struct surf *s, int x, int y, int w, const char *label,
                 int label_w, const char *value, int value_w, const double *v,
                 int n, enum glyphs g, enum role r);
/* A bar of w cells, share 0…1 filled: ⣿⣿⣿⣀⣀ */
void spark_bar(struct surf *s, int x, int y, int w, double share, enum glyphs g,
               enum role r);

#endif
