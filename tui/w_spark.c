/* w_spark.c - two columns a cell, four levels; filled from below. */
#include "tui/w_spark.h"
#include "tui/utf8.h"

#include <math.h>
#include <string.h>

/* Column i of cols: the mean of its share of the values, NAN when none. */
static double column(const double *v, int n, int i, int cols) {
    if (n <= cols)
        return i < n ? v[i] : NAN;
    int64_t a = (int64_t)i * n / cols, b = (int64_t)(i + 1) * n / cols;
    double sum = 0;
    int k = 0;
    for (int64_t j = a; j < b; j++)
        if (isfinite(v[j])) {
            sum += v[j];
            k++;
        }
    return k > 0 ? sum / k : NAN;
}

/* 1 … levels, 0 = nothing there. */
static int level_of(double v, double lo, double hi, int levels) {
    if (!isfinite(v))
        return 0;
    if (!(hi > lo))
        return 1;
    int k = (int)floor((v - lo) / (hi - lo) * levels) + 1;
    return k < 1 ? 1 : k > levels ? levels : k;
}

static uint32_t glyph(int a, int b, enum glyphs g) {
    /* Dots of the left and right column, lowest first. */
    static const uint8_t left[5] = {0, 0x40, 0x44, 0x46, 0x47};
    static const uint8_t right[5] = {0, 0x80, 0xA0, 0xB0, 0xB8};
    int top = a > b ? a : b;
    switch (g) {
    case GLYPH_BRAILLE: return 0x2800u | left[a] | right[b];
    case GLYPH_BLOCK: return top ? 0x2580u + 2u * (uint32_t)top : ' ';
    default: return (uint32_t) " .:o#"[top];
    }
}

int spark_range(char *buf, size_t cap, const double *v, int n, int cells,
                enum glyphs g, double lo, double hi) {
    size_t len = 0;
    int used = 0, cols = cells * 2;
    for (; used < cells && len + 4 < cap + 1; used++) {
        int a = level_of(column(v, n, used * 2, cols), lo, hi, 4);
        int b = level_of(column(v, n, used * 2 + 1, cols), lo, hi, 4);
        if (n <= used * 2)
            break;
        uint32_t cp = glyph(a, b, g);
        len += utf8_encode(cp == 0x2800 ? ' ' : cp, buf + len);
    }
    if (cap > 0)
        buf[len] = 0;
    return used;
}

int spark_text(char *buf, size_t cap, const double *v, int n, int cells,
               enum glyphs g) {
    double lo = INFINITY, hi = -INFINITY;
    for (int i = 0; i < cells * 2; i++) {
        double c = column(v, n, i, cells * 2);
        if (isfinite(c)) {
            lo = fmin(lo, c);
            hi = fmax(hi, c);
        }
    }
    return spark_range(buf, cap, v, n, cells, g, lo, hi);
}

void spark_strip(struct surf *s, int x, int y, int w, const char *label,
                 int label_w, const char *value, int value_w, const double *v,
                 int n, enum glyphs g, enum role r) {
    char buf[SPARK_BYTES(256)];
    int cells = w - label_w - value_w - 2;
    surf_field(s, x, y, label_w, ALIGN_LEFT, ROLE_DIM, label);
    surf_field(s, x + label_w + 1, y, value_w, ALIGN_RIGHT, ROLE_TEXT, value);
    if (cells <= 0)
        return;
    spark_text(buf, sizeof buf, v, n, cells < 256 ? cells : 256, g);
    surf_text(s, x + w - cells, y, cells, r, buf);
}

void spark_bar(struct surf *s, int x, int y, int w, double share, enum glyphs g,
               enum role r) {
    double filled = isfinite(share) ? fmin(fmax(share, 0), 1) * w : 0;
    for (int i = 0; i < w; i++) {
        bool on = i + 0.5 <= filled;
        surf_put(s, x + i, y, on ? r : ROLE_RULE,
                 g == GLYPH_BRAILLE ? (on ? "⣿" : "⣀")
                 : g == GLYPH_BLOCK ? (on ? "█" : "▁")
                                    : (on ? "#" : "."));
    }
}
