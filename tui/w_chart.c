/*
 * w_chart.c - axes that stand still, and what is drawn on them.
 *
 * Invariants: 1. the y range changes only when data leave it, when they used
 * less than half of it for SHRINK_MS, or when the user changed the view; 2. the
 * label column never gets narrower while the chart lives, so the plot does not
 * shift; 3. a drawing never fails: without memory it shows only its title.
 */
#include "tui/w_chart.h"
#include "tui/axis.h"
#include "tui/input.h"
#include "tui/plot.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHRINK_MS 30000
#define X_APART 12 /* cells between x labels */
#define Y_APART 4
#define MIN_SPAN 4.0 /* steps that a zoom shows at least */

struct chart {
    enum glyphs glyphs;
    bool is_mono;
    double plan, smooth, cursor;
    bool is_clipped;
    double fix_lo, fix_hi; /* fix_lo < fix_hi: fixed by the user */
    bool is_zoomed;
    double zoom0, zoom1;
    struct axis y;
    bool has_y;
    int64_t small_since; /* data use less than half of y, 0 = they do not */
    int label_w;
    double grown; /* end of x when there is no plan */
    struct plot plot;
    /* of the last drawing */
    bool is_drawn;
    struct rect area; /* of the plot itself */
    double x0, x1, first_x, last_x;
    double *sort; /* for clipping */
    size_t sort_cap;
};

struct chart *chart_new(void) {
    struct chart *c = calloc(1, sizeof *c);
    if (c) {
        c->cursor = NAN;
        c->label_w = 3;
        c->x1 = c->last_x = 0;
    }
    return c;
}

void chart_free(struct chart *c) {
    if (!c)
        return;
    plot_release(&c->plot);
    free(c->sort);
    free(c);
}

/* ---- settings ---- */

void chart_glyphs(struct chart *c, enum glyphs g) { c->glyphs = g; }
void chart_mono(struct chart *c, bool on) { c->is_mono = on; }
void chart_plan(struct chart *c, double x_end) { c->plan = x_end; }
enum chart_scale chart_scale_get(const struct chart *c) { return c->y.scale; }
double chart_smooth_get(const struct chart *c) { return c->smooth; }
double chart_cursor_get(const struct chart *c) { return c->cursor; }
void chart_cursor(struct chart *c, double x) { c->cursor = x; }

void chart_scale(struct chart *c, enum chart_scale s) {
    c->y.scale = s;
    c->has_y = false;
}

void chart_range_y(struct chart *c, double lo, double hi) {
    c->fix_lo = lo;
    c->fix_hi = hi;
    c->has_y = false;
}

void chart_clip(struct chart *c, bool on) {
    c->is_clipped = on;
    c->has_y = false;
}

void chart_smooth(struct chart *c, double weight) {
    c->smooth = weight > 0 ? fmin(weight, 0.999) : 0;
}

void chart_smooth_cycle(struct chart *c) {
    static const double w[] = {0, 0.6, 0.9, 0.97, 0.99};
    for (size_t i = 0; i < 5; i++)
        if (c->smooth < w[i] - 1e-9) {
            c->smooth = w[i];
            return;
        }
    c->smooth = 0;
}

void chart_fit(struct chart *c) {
    c->is_zoomed = c->has_y = false;
    c->grown = 0;
    c->label_w = 3;
}

static void set_view(struct chart *c, double x0, double x1) {
    c->is_zoomed = true;
    c->has_y = false;
    c->zoom0 = x0;
    c->zoom1 = x1;
}

void chart_zoom(struct chart *c, double factor) {
    double span = c->x1 - c->x0, about = c->cursor, want = span * factor;
    if (!c->is_drawn || !(span > 0) || !(factor > 0))
        return;
    if (!(about >= c->x0 && about <= c->x1))
        about = (c->x0 + c->x1) / 2;
    if (factor > 1 && !c->is_zoomed)
        return; /* all is in view */
    want = fmax(want, fmin(MIN_SPAN, span));
    double end = fmax(c->plan, fmax(c->grown, c->last_x));
    double x0 = about - (about - c->x0) / span * want;
    x0 = fmax(0, fmin(x0, end - want));
    if (want >= end)
        chart_fit(c);
    else
        set_view(c, x0, x0 + want);
}

void chart_pan(struct chart *c, double share) {
    double span = c->x1 - c->x0;
    double end = fmax(c->plan, fmax(c->grown, c->last_x));
    if (!c->is_zoomed)
        return;
    double x0 = fmax(0, fmin(c->x0 + share * span, end - span));
    set_view(c, x0, x0 + span);
}

void chart_view(const struct chart *c, double *x0, double *x1) {
    *x0 = c->is_zoomed ? c->zoom0 : c->is_drawn ? c->x0 : 0;
    *x1 = c->is_zoomed  ? c->zoom1
          : c->is_drawn ? c->x1
          : c->plan > 0 ? c->plan
                        : INFINITY;
}

int chart_dots(const struct chart *c) {
    return c->is_drawn && c->area.w > 0 ? c->area.w * 2 : 160;
}

/* ---- crosshair ---- */

void chart_cursor_move(struct chart *c, int dots) {
    if (!c->is_drawn || c->area.w <= 0)
        return;
    double dot = (c->x1 - c->x0) / (c->area.w * 2);
    double x = isnan(c->cursor) ? fmin(c->last_x, c->x1) : c->cursor;
    c->cursor = fmax(c->x0, fmin(x + dots * dot, c->x1));
}

bool chart_cursor_mark(struct chart *c, const struct chart_mark *m, int n,
                       int dir) {
    double from = isnan(c->cursor) ? c->last_x : c->cursor, best = NAN;
    for (int i = 0; i < n; i++) {
        double x = m[i].x;
        if (dir > 0 ? x > from && !(x >= best) : x < from && !(x <= best))
            best = x;
    }
    if (isnan(best))
        return false;
    c->cursor = best;
    return true;
}

double chart_x_at(const struct chart *c, int col) {
    if (!c->is_drawn || col < c->area.x || col >= c->area.x + c->area.w)
        return NAN;
    return c->x0 + (c->x1 - c->x0) * (col - c->area.x + 0.5) / c->area.w;
}

double chart_value_at(const struct chart_series *s, double x, double *at) {
    int lo = 0, hi = s->n;
    if (s->n == 0 || isnan(x))
        return NAN;
    while (lo < hi) { /* the first that ends at or after x */
        int mid = (lo + hi) / 2;
        if (s->pt[mid].x1 < x)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo == s->n || (lo > 0 && s->pt[lo].x0 > x &&
                       x - s->pt[lo - 1].x1 <= s->pt[lo].x0 - x))
        lo--;
    if (at)
        *at = s->pt[lo].x1;
    return s->pt[lo].last;
}

bool chart_key(struct chart *c, uint32_t key) {
    switch (key) {
    case 'h':
    case KEY_LEFT: chart_cursor_move(c, -1); return true;
    case 'l':
    case KEY_RIGHT: chart_cursor_move(c, 1); return true;
    case 'b': chart_cursor_move(c, -10); return true;
    case 'w': chart_cursor_move(c, 10); return true;
    case '^': c->cursor = fmax(c->first_x, c->x0); return true;
    case '$': c->cursor = fmin(c->last_x, c->x1); return true;
    case '+':
    case '=': chart_zoom(c, 0.5); return true;
    case '-': chart_zoom(c, 2); return true;
    case '0': chart_fit(c); return true;
    case '<': chart_pan(c, -0.25); return true;
    case '>': chart_pan(c, 0.25); return true;
    case 'm': chart_smooth_cycle(c); return true;
    case 'v':
        chart_scale(c, (enum chart_scale)((c->y.scale + 1) % 3));
        return true;
    case 'o': chart_clip(c, !c->is_clipped); return true;
    case 't': c->cursor = NAN; return true;
    default: return false;
    }
}

/* ---- ranges ---- */

static void find_x(struct chart *c, const struct chart_data *d) {
    double first = INFINITY, last = -INFINITY;
    for (int i = 0; i < d->nseries; i++) {
        const struct chart_series *s = &d->series[i];
        if (s->n == 0)
            continue;
        first = fmin(first, s->pt[0].x0);
        last = fmax(last, s->pt[s->n - 1].x1);
    }
    /* What a zoomed store query returned says nothing about the whole. */
    if (first <= last) {
        c->first_x = c->is_zoomed ? fmin(first, c->first_x) : first;
        c->last_x = c->is_zoomed ? fmax(last, c->last_x) : last;
    }
    if (c->is_zoomed) {
        c->x0 = c->zoom0;
        c->x1 = c->zoom1;
        return;
    }
    c->x0 = c->first_x > c->last_x / 2 && c->plan <= 0 ? c->first_x : 0;
    if (c->plan > 0 && c->last_x <= c->plan) {
        c->x1 = c->plan;
    } else { /* grows in jumps */
        if (!(c->grown > c->last_x))
            c->grown = nice_ceil(fmax(c->last_x, 8) * 1.25);
        c->x1 = c->grown;
    }
    if (!(c->x1 > c->x0))
        c->x1 = c->x0 + 1;
}

static int cmp_double(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* 5 and 95 % of the visible buckets' ends. */
static void clip_range(struct chart *c, const struct chart_data *d, double *lo,
                       double *hi) {
    size_t n = 0, cap = 0;
    for (int i = 0; i < d->nseries; i++)
        cap += 2 * (size_t)d->series[i].n;
    if (cap > c->sort_cap) {
        double *p = realloc(c->sort, cap * sizeof *p);
        if (!p)
            return;
        c->sort = p;
        c->sort_cap = cap;
    }
    for (int i = 0; i < d->nseries; i++)
        for (int k = 0; k < d->series[i].n; k++) {
            const struct chart_pt *p = &d->series[i].pt[k];
            if (p->x1 < c->x0 || p->x0 > c->x1 || p->n <= p->nonfinite)
                continue;
            c->sort[n++] = p->min;
            c->sort[n++] = p->max;
        }
    if (n < 20)
        return; /* too few to call any an outlier */
    qsort(c->sort, n, sizeof *c->sort, cmp_double);
    *lo = fmax(*lo, c->sort[n / 20]);
    *hi = fmin(*hi, c->sort[n - 1 - n / 20]);
}

/* Range of the finite data in view; false when there is none. */
static bool data_range(struct chart *c, const struct chart_data *d, double *lo,
                       double *hi) {
    *lo = INFINITY;
    *hi = -INFINITY;
    for (int i = 0; i < d->nseries; i++)
        for (int k = 0; k < d->series[i].n; k++) {
            const struct chart_pt *p = &d->series[i].pt[k];
            if (p->x1 < c->x0 || p->x0 > c->x1 || p->n <= p->nonfinite)
                continue;
            double min = p->min;
            if (c->y.scale == CHART_LOG && !(min > 0))
                min = p->max;
            if (c->y.scale == CHART_LOG && !(min > 0))
                continue;
            *lo = fmin(*lo, min);
            *hi = fmax(*hi, p->max);
        }
    if (c->is_clipped)
        clip_range(c, d, lo, hi);
    return *lo <= *hi;
}

static void find_y(struct chart *c, const struct chart_data *d, int rows) {
    double lo, hi;
    enum chart_scale s = c->y.scale;
    if (c->fix_lo < c->fix_hi && !(s == CHART_LOG && c->fix_lo <= 0)) {
        c->y = (struct axis){s, c->fix_lo, c->fix_hi};
        c->has_y = true;
        return;
    }
    int n = rows > 4 ? rows / 2 : 2;
    if (!data_range(c, d, &lo, &hi)) {
        if (!c->has_y)
            c->y = axis_nice(s, s == CHART_LOG ? 0.1 : 0, 1, n);
        return;
    }
    bool is_out = !c->has_y || lo < c->y.lo || hi > c->y.hi;
    double used = axis_pos(&c->y, hi) - axis_pos(&c->y, lo);
    if (!is_out && used < 0.5) {
        if (c->small_since == 0)
            c->small_since = d->now_ms > 0 ? d->now_ms : 1;
        is_out = d->now_ms - c->small_since >= SHRINK_MS;
    } else {
        c->small_since = 0;
    }
    if (is_out) {
        c->y = axis_nice(s, lo, hi, n);
        c->has_y = true;
        c->small_since = 0;
    }
}

/* ---- drawing ---- */

static void draw_title(const struct chart *c, struct surf *s, struct rect r,
                       const struct chart_data *d) {
    static const char *const names[] = {"", "log", "symlog"};
    char right[96];
    char m[16] = "";
    if (c->smooth > 0) {
        snprintf(m, sizeof m, "  m %.2f", c->smooth);
        memmove(m + 4, m + 5, strlen(m + 4)); /* .90 */
    }
    snprintf(right, sizeof right, "%s%s%s%s", names[c->y.scale], m,
             c->is_clipped ? "  clip" : "", isnan(c->cursor) ? "" : "  frozen");
    surf_rule(s, r.x, r.y, r.w, d->focused, d->title,
              d->right ? d->right : right + strspn(right, " "));
}

static int label_width(const struct chart *c, const struct chart_data *d,
                       int rows) {
    double tick[AXIS_TICKS], step;
    char buf[48];
    int w = c->label_w, n = axis_ticks(&c->y, rows, Y_APART, tick, &step);
    int unit = d->unit ? text_width(d->unit) : 0;
    for (int i = 0; i < n; i++) {
        chart_label(tick[i], step, buf, sizeof buf);
        int k = text_width(buf) + unit;
        w = k > w ? k : w;
    }
    return w < 12 ? w : 12;
}

static void draw_y_axis(const struct chart *c, struct surf *s,
                        const struct chart_data *d) {
    double tick[AXIS_TICKS], step;
    char buf[48];
    int rows = c->area.h, n = axis_ticks(&c->y, rows, Y_APART, tick, &step);
    int axis = c->area.x - 1, last = -1;
    surf_vline(s, axis, c->area.y, rows, ROLE_AXIS);
    for (int i = n; i-- > 0;) {
        double pos = axis_pos(&c->y, tick[i]);
        int row = (int)((1 - pos) * rows);
        row = row < 0 ? 0 : row >= rows ? rows - 1 : row;
        if (row <= last)
            continue;
        last = row;
        chart_label(tick[i], step, buf, sizeof buf);
        snprintf(buf + strlen(buf), sizeof buf - strlen(buf), "%s",
                 d->unit ? d->unit : "");
        surf_field(s, axis - 1 - c->label_w, c->area.y + row, c->label_w,
                   ALIGN_RIGHT, ROLE_AXIS, buf);
        surf_put(s, axis, c->area.y + row, ROLE_AXIS, "┤");
    }
}

static int x_cell(const struct chart *c, double x) {
    double pos = (x - c->x0) / (c->x1 - c->x0);
    if (!(pos >= 0 && pos <= 1))
        return -1;
    int at = (int)(pos * c->area.w);
    return at < c->area.w ? at : c->area.w - 1;
}

static void draw_x_axis(const struct chart *c, struct surf *s, int y,
                        const char *name) {
    double tick[AXIS_TICKS], step;
    char buf[48];
    int w = c->area.w, free_from = 0, max = w / X_APART + 1;
    int n = chart_ticks(c->x0, c->x1,
                        max < 2            ? 2
                        : max < AXIS_TICKS ? max
                                           : AXIS_TICKS,
                        tick, &step);
    surf_put(s, c->area.x - 1, y, ROLE_AXIS, "└");
    surf_hline(s, c->area.x, y, w, ROLE_AXIS);
    for (int i = 0; i < n; i++) {
        chart_label(tick[i], step, buf, sizeof buf);
        int k = text_width(buf), at = x_cell(c, tick[i]) - k / 2;
        at = at < 0 ? 0 : at + k > w ? w - k : at;
        if (at < free_from || k > w)
            continue;
        surf_text(s, c->area.x + at, y, k, ROLE_AXIS, buf);
        free_from = at + k + 1;
    }
    if (name)
        surf_printf(s, c->area.x + w, y, 12, ROLE_AXIS, " %s", name);
}

static void draw_marks(const struct chart *c, struct surf *s, int y,
                       const struct chart_data *d) {
    for (int i = 0; i < c->area.w && c->plot.cap; i++)
        if (c->plot.bad[i])
            surf_put(s, c->area.x + i, y, ROLE_ALERT, "!");
    for (int i = 0; i < d->nmark; i++) {
        int at = x_cell(c, d->mark[i].x);
        if (at < 0)
            continue;
        const struct cell *there = surf_cell(s, c->area.x + at, y);
        bool is_free = !there || strcmp(there->s, " ") == 0 ||
                       strcmp(there->s, d->mark[i].glyph) == 0;
        surf_put(s, c->area.x + at, y, d->mark[i].role,
                 is_free ? d->mark[i].glyph : "+");
    }
}

/* One cell's dots as a glyph of up to four bytes. */
static const char *dot_glyph(enum glyphs g, unsigned bits, char buf[5]) {
    static const uint8_t braille[8] = {0x01, 0x08, 0x02, 0x10,
                                       0x04, 0x20, 0x40, 0x80};
    static const char *const quad[16] = {" ", "▘", "▝", "▀", "▖", "▌",
                                         "▞", "▛", "▗", "▚", "▐", "▜",
                                         "▄", "▙", "▟", "█"};
    unsigned cell = 0;
    if (g == GLYPH_BLOCK)
        return quad[bits & 15];
    for (int i = 0; i < 8; i++)
        if (bits >> i & 1)
            cell |= braille[i];
    buf[0] = (char)0xE2;
    buf[1] = (char)(0xA0 | cell >> 6);
    buf[2] = (char)(0x80 | (cell & 63));
    buf[3] = 0;
    if (g == GLYPH_ASCII) {
        buf[0] = glyph_ascii(buf);
        buf[1] = 0;
    }
    return buf;
}

static void blit(const struct chart *c, struct surf *s) {
    const struct plot *p = &c->plot;
    char buf[5];
    for (int y = 0; y < p->h; y++)
        for (int x = 0; x < p->w; x++) {
            unsigned bits = p->bits[y * p->w + x];
            if (bits)
                surf_put(s, c->area.x + x, c->area.y + y,
                         (enum role)p->role[y * p->w + x],
                         dot_glyph(c->glyphs, bits, buf));
        }
}

static void draw_crosshair(const struct chart *c, struct surf *s) {
    int at = isnan(c->cursor) ? -1 : x_cell(c, c->cursor);
    for (int y = 0; y < c->area.h && at >= 0; y++) {
        const struct cell *there = surf_cell(s, c->area.x + at, c->area.y + y);
        if (there && strcmp(there->s, " ") == 0)
            surf_put(s, c->area.x + at, c->area.y + y, ROLE_AXIS, "┊");
    }
}

struct end_label {
    int x, y;
    char letter;
    enum role role;
};

static void draw_curves(struct chart *c, struct surf *s,
                        const struct chart_data *d) {
    static const int dash[4] = {15, 12, 10, 8};
    struct end_label end[26];
    int nend = 0;
    for (int i = 0; i < d->nseries; i++) {
        const struct chart_series *se = &d->series[i];
        bool is_smooth = se->smooth && c->smooth > 0;
        int x, row, pattern = c->is_mono && !se->dim ? dash[i % 4] : 15;
        plot_columns(&c->plot, se, c->x0, c->x1, 0);
        row =
            plot_draw(&c->plot, &c->y,
                      is_smooth || se->dim ? ROLE_SDIM : se->role, pattern, &x);
        if (is_smooth) {
            plot_columns(&c->plot, se, c->x0, c->x1, c->smooth);
            row = plot_draw(&c->plot, &c->y, se->role, pattern, &x);
        }
        if (row >= 0 && se->label && nend < 26)
            end[nend++] = (struct end_label){x + 1, row, se->label, se->role};
    }
    blit(c, s);
    for (int i = 0; i < nend; i++) {
        char letter[2] = {end[i].letter, 0};
        int x = end[i].x < c->area.w ? end[i].x : c->area.w - 1;
        surf_put(s, c->area.x + x, c->area.y + end[i].y, end[i].role, letter);
    }
}

static bool has_points(const struct chart_data *d) {
    for (int i = 0; i < d->nseries; i++)
        for (int k = 0; k < d->series[i].n; k++)
            if (d->series[i].pt[k].n > d->series[i].pt[k].nonfinite)
                return true;
    return false;
}

/* Says why the plot is bare. */
static void draw_bare(const struct chart *c, struct surf *s,
                      const struct chart_data *d) {
    static const char text[] = "no points yet";
    if (!has_points(d) && c->area.w >= (int)sizeof text)
        surf_text(s, c->area.x + (c->area.w - (int)sizeof text + 1) / 2,
                  c->area.y + c->area.h / 2, c->area.w, ROLE_DIM, text);
}

void chart_draw(struct chart *c, struct surf *s, struct rect r,
                const struct chart_data *d) {
    struct rect old = surf_clip(s, r);
    bool has_title = d->title != NULL;
    int top = has_title, foot = d->is_small ? 1 : 2;
    int rows = r.h - top - foot;
    if (has_title)
        draw_title(c, s, r, d);
    c->area = (struct rect){0};
    if (rows < 1 || r.w < 12)
        goto out;
    find_x(c, d);
    find_y(c, d, rows);
    c->label_w = label_width(c, d, rows);
    int left = c->label_w + 2;
    const char *name = r.w - left >= 48 ? d->x_name : NULL;
    int right = name ? text_width(name) + 1 : 0;
    c->area = (struct rect){r.x + left, r.y + top, r.w - left - right, rows};
    c->is_drawn = true;
    if (c->area.w < 2 || plot_begin(&c->plot, c->area.w, rows,
                                    c->glyphs == GLYPH_BLOCK ? 2 : 4) < 0)
        goto out;
    draw_y_axis(c, s, d);
    draw_curves(c, s, d);
    draw_bare(c, s, d);
    draw_crosshair(c, s);
    if (!d->is_small)
        draw_marks(c, s, c->area.y + rows, d);
    draw_x_axis(c, s, c->area.y + rows + !d->is_small, name);
out:
    surf_unclip(s, old);
}
