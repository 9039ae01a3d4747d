/* plot.c - see plot.h. */
#include "tui/plot.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DOT_APART 4 /* samples this far apart are shown as dots */

int plot_begin(struct plot *p, int w, int h, int dy) {
    size_t cells = (size_t)w * (size_t)h,
           need = cells > (size_t)w * 2 ? cells : (size_t)w * 2;
    if (need > p->cap) {
        plot_release(p);
        p->bits = malloc(need);
        p->role = malloc(need);
        p->dots = malloc(need);
        p->bad = malloc(need * sizeof *p->bad);
        p->col = malloc(need * sizeof *p->col);
        if (!p->bits || !p->role || !p->dots || !p->bad || !p->col) {
            plot_release(p);
            return -1;
        }
        p->cap = need;
    }
    p->w = w;
    p->h = h;
    p->dy = dy;
    memset(p->bits, 0, cells);
    memset(p->role, 0, cells);
    memset(p->bad, 0, (size_t)w * sizeof *p->bad);
    return 0;
}

void plot_release(struct plot *p) {
    free(p->bits);
    free(p->role);
    free(p->dots);
    free(p->bad);
    free(p->col);
    *p = (struct plot){0};
}

static void add_value(struct plot_col *c, double min, double max, double last) {
    if (!c->has_value || min < c->min)
        c->min = min;
    if (!c->has_value || max > c->max)
        c->max = max;
    c->last = last;
    c->has_value = true;
}

void plot_columns(struct plot *p, const struct chart_series *s, double x0,
                  double x1, double smooth) {
    int cols = p->w * 2;
    double ema = 0, bias = 1;
    memset(p->col, 0, (size_t)cols * sizeof *p->col);
    for (int i = 0; i < s->n; i++) {
        const struct chart_pt *pt = &s->pt[i];
        double good = (double)(pt->n - pt->nonfinite), v = NAN;
        if (good > 0 && smooth > 0) {
            /* n values of mean m: exact when they are all m. */
            double keep = pow(smooth, good);
            ema = keep * ema + (1 - keep) * (pt->sum / good);
            bias *= keep;
            v = ema / (1 - bias);
        }
        double pos = ((pt->x0 + pt->x1) / 2 - x0) / (x1 - x0);
        if (!(pos >= 0 && pos <= 1))
            continue;
        int at = (int)(pos * cols);
        struct plot_col *c = &p->col[at < cols ? at : cols - 1];
        c->has_bad |= pt->nonfinite > 0;
        if (good <= 0)
            continue;
        if (smooth > 0)
            add_value(c, v, v, v);
        else
            add_value(c, pt->min, pt->max,
                      isfinite(pt->last)  ? pt->last
                      : isfinite(pt->max) ? pt->max
                                          : pt->min);
    }
    for (int i = 0; i < cols; i++) {
        p->col[i].is_gap = p->col[i].has_bad && !p->col[i].has_value;
        p->bad[i / 2] |= p->col[i].has_bad;
    }
}

int plot_row(const struct plot *p, const struct axis *y, double v) {
    double pos = axis_pos(y, v);
    int rows = p->h * p->dy;
    if (isnan(pos))
        return -1;
    double at = (1 - pos) * rows;
    return at <= 0 ? 0 : at >= rows ? rows - 1 : (int)at;
}

/* Dots a..b (either order) of a dot column. */
static void span(struct plot *p, int x, int a, int b) {
    if (a > b) {
        int t = a;
        a = b;
        b = t;
    }
    for (int r = a; r <= b; r++)
        p->dots[r / p->dy * p->w + x / 2] |=
            (uint8_t)(1u << (r % p->dy * 2 + x % 2));
}

/* From (x0, r0), drawn already, to (x1, r1): each column its share. */
static void join(struct plot *p, int x0, int r0, int x1, int r1) {
    int prev = r0;
    for (int x = x0 + 1; x <= x1; x++) {
        int r = r0 + (int)lround((double)(r1 - r0) * (x - x0) / (x1 - x0));
        span(p, x, r > prev ? prev + 1 : r < prev ? prev - 1 : r, r);
        prev = r;
    }
}

/* The series alone, into dots. Returns the last column drawn, -1 = none. */
static int draw_columns(struct plot *p, const struct axis *y) {
    int cols = p->w * 2, end = -1;
    int prev = -1, prev_row = 0; /* what the next column is joined to */
    for (int x = 0; x < cols; x++) {
        const struct plot_col *c = &p->col[x];
        if (c->is_gap)
            prev = -1;
        if (!c->has_value)
            continue;
        int top = plot_row(p, y, c->max), low = plot_row(p, y, c->min);
        int last = plot_row(p, y, c->last);
        if (top < 0) /* nothing of it has a place on this axis */
            continue;
        low = low < 0 ? p->h * p->dy - 1 : low;
        last = last < 0 ? low : last;
        span(p, x, top, low);
        if (prev >= 0) {
            int to = prev_row < top ? top : prev_row > low ? low : prev_row;
            join(p, prev, prev_row, x, to);
        }
        if (prev >= 0 && x - prev >= DOT_APART) /* a knot on the line */
            span(p, x, last, last > 0 ? last - 1 : 1);
        prev = end = x;
        prev_row = last;
    }
    return end;
}

int plot_draw(struct plot *p, const struct axis *y, enum role r, int pattern,
              int *end) {
    size_t cells = (size_t)p->w * (size_t)p->h;
    memset(p->dots, 0, cells);
    int last = draw_columns(p, y);
    if (last < 0)
        return -1;
    for (size_t i = 0; i < cells; i++) {
        unsigned bits = p->dots[i];
        int x = (int)(i % (size_t)p->w) * 2;
        if (!(pattern >> (3 - x % 4) & 1))
            bits &= 0xAA; /* without the left dot column */
        if (!(pattern >> (3 - (x + 1) % 4) & 1))
            bits &= 0x55;
        if (bits) {
            p->bits[i] = (uint8_t)bits;
            p->role[i] = (uint8_t)r;
        }
    }
    *end = last / 2;
    int row = plot_row(p, y, p->col[last].last);
    return (row < 0 ? p->h * p->dy - 1 : row) / p->dy;
}
