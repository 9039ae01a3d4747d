/* run: one run's curves, events and log. */
#include "views/app_int.h"

#include "tui/layout.h"
#include "tui/width.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SERIES_MAX 4
#define MARKS_MAX 256

static struct chart_pt *points_of(const struct snap_curve *c) {
    struct chart_pt *p = calloc((size_t)c->curve.n + 1, sizeof *p);
    for (int i = 0; p && i < c->curve.n; i++) {
        const struct store_bucket *b = &c->curve.row[i];
        p[i] = (struct chart_pt){
            (double)b->step0, (double)b->step1, b->min, b->max,
            b->sum,           b->last,          b->n,   b->nonfinite};
    }
    return p;
}

/* Checkpoints and alerts of the run, by step. */
static int marks_of(const struct app *a, struct chart_mark *m) {
    const struct snap *s = a->snap;
    int n = 0;
    for (int i = s->ckpts.n - 1; i >= 0 && n < MARKS_MAX; i--)
        if (s->ckpts.row[i].run == s->run->id)
            m[n++] = (struct chart_mark){(double)s->ckpts.row[i].step, "◆",
                                         ROLE_INFO};
    return n;
}

void draw_curves(struct app *a, struct chart *c, struct surf *s, struct rect r,
                 const char *const *names, const char *title) {
    const struct snap *sn = a->snap;
    struct chart_series se[SERIES_MAX];
    struct chart_pt *pts[SERIES_MAX];
    struct chart_mark marks[MARKS_MAX];
    int n = 0;
    if (!sn->run || r.h < 4 || r.w < 16)
        return;
    for (int i = 0; names[i] && n < SERIES_MAX; i++) {
        const struct snap_curve *k = curve_of(sn, names[i]);
        if (!k || !(pts[n] = points_of(k)))
            continue;
        se[n] = (struct chart_series){.pt = pts[n],
                                      .n = k->curve.n,
                                      .role = role_series(i),
                                      .label = (char)('a' + i),
                                      .smooth = i == 0};
        n++;
    }
    chart_plan(c, (double)sn->run->planned);
    chart_draw(c, s, r,
               &(struct chart_data){.series = se,
                                    .nseries = n,
                                    .mark = marks,
                                    .nmark = marks_of(a, marks),
                                    .now_ms = app_now(a),
                                    .title = title,
                                    .x_name = "step",
                                    .focused = c == a->chart});
    while (n > 0)
        free(pts[--n]);
}

/* A fact of the head, whole or not at all; *at moves behind it. */
__attribute__((format(printf, 6, 7))) static void
put_fact(struct surf *s, int *at, int end, int y, enum role role,
         const char *fmt, ...) {
    char text[128];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (text_width(text) <= end - *at)
        *at += surf_text(s, *at, y, end - *at, role, text);
}

static void draw_head(struct app *a, struct surf *s, int x, int y, int w) {
    const struct store_run *r = a->snap->run;
    const struct job_row *j = job_of(a->snap, r->id);
    enum role role;
    const char *glyph, *word = state_word(r->state, &role, &glyph);
    char eta[16], nll[24], test[24];
    int end = x + w, at = x + surf_text(s, x, y, w / 2, ROLE_TITLE, r->name);
    double left = (double)(r->planned - r->cursor) * (j ? j->step_s : NAN);
    fmt_secs(left, eta, sizeof eta);
    fmt_num(j ? j->loss : NAN, nll, sizeof nll);
    fmt_num(j ? j->eval : NAN, test, sizeof test);
    put_fact(s, &at, end, y, role, "  %s %s", glyph, word);
    put_fact(s, &at, end, y, ROLE_TEXT, " %lld/%lld", (long long)r->cursor,
             (long long)r->planned);
    put_fact(s, &at, end, y, ROLE_TEXT, "  loss %s", nll);
    put_fact(s, &at, end, y, ROLE_TEXT, "  eval %s", test);
    if (r->state == STORE_RUN_RUNNING)
        put_fact(s, &at, end, y, ROLE_TEXT, "  ETA %s", eta);
    if (*r->error)
        surf_printf(s, at, y, end - at, ROLE_BAD, "  %s", r->error);
}

static void draw_strips(struct app *a, struct surf *s, struct rect r) {
    static const char *const names[] = {"grad_norm", "learning_rate",
                                        "tokens_per_s", "time/step_s",
                                        "loss:sum"};
    int y = r.y;
    for (size_t i = 0; i < sizeof names / sizeof *names && y < r.y + r.h; i++) {
        const struct snap_curve *c = curve_of(a->snap, names[i]);
        char value[24];
        if (!c)
            continue;
        double *v = calloc((size_t)c->curve.n + 1, sizeof *v);
        for (int k = 0; v && k < c->curve.n; k++)
            v[k] = c->curve.row[k].last;
        fmt_num(c->series->last, value, sizeof value);
        if (v)
            spark_strip(s, r.x, y++, r.w, names[i], 14, value, 9, v, c->curve.n,
                        a->glyphs, role_series((int)i + 2));
        free(v);
    }
}

static void draw_events(struct app *a, struct surf *s, struct rect r) {
    const struct store_events *e = &a->snap->events;
    for (int i = 0; i < e->n && i < r.h; i++) {
        const struct store_event *v = &e->row[i];
        enum role role = v->level == STORE_ERROR  ? ROLE_BAD
                         : v->level == STORE_WARN ? ROLE_WARN
                                                  : ROLE_TEXT;
        surf_printf(
            s, r.x, r.y + i, r.w, role, "%5lld %s %s", (long long)v->step,
            strcmp(v->kind, "checkpoint") == 0 ? "◆" : v->kind, v->text);
    }
    if (e->n == 0)
        surf_text(s, r.x, r.y, r.w, ROLE_DIM, "nothing happened yet");
}

/* The log pane holds what the snapshot's tail has; it is small. */
static void draw_log(struct app *a, struct surf *s, struct rect r) {
    const struct snap *sn = a->snap;
    bool follow = text_following(a->log);
    text_clear(a->log);
    for (int i = 0; i < sn->n_log; i++)
        text_addf(a->log, ROLE_DIM, "%s\n", sn->log[i]);
    if (follow)
        text_follow(a->log, true);
    text_draw(a->log, s, r);
}

/* Draws a pane's title; what is left of it. */
static struct rect under_rule(struct surf *s, struct rect r, const char *title,
                              const char *right) {
    surf_rule(s, r.x, r.y, r.w, false, title, right);
    return (struct rect){r.x, r.y + 1, r.w, r.h - 1};
}

/* The head and the curves stay at any size; below them, what has room. */
static void draw(struct app *a, struct surf *s, struct rect r) {
    static const char *const names[] = {"train_mean_nll", "test/nll", NULL};
    int log_h = r.h >= 30 ? r.h / 5 : 4;
    struct lay head = {.min_h = 1, .max_h = 1, .prio = 4};
    struct lay curves = {.min_w = 16, .min_h = 6, .prio = 3};
    struct lay metrics = {.min_w = 31, .weight = 3, .prio = 1};
    struct lay events = {.min_w = 21, .weight = 2};
    struct lay log = {.min_h = log_h, .max_h = log_h, .prio = 1};
    struct lay *side[] = {&metrics, &events};
    struct lay low = {.dir = LAY_ROW,
                      .min_h = 3,
                      .max_h = 6,
                      .weight = 100, /* full before the curves grow */
                      .prio = 2,
                      .gap = 1,
                      .kid = side,
                      .n = 2};
    struct lay *kids[] = {&head, &curves, &low, &log};
    struct lay all = {.dir = LAY_COL, .kid = kids, .n = 4};
    if (!a->snap->run) {
        surf_text(s, r.x, r.y + 1, r.w, ROLE_DIM, "No run is selected:");
        surf_text(s, r.x, r.y + 2, r.w, ROLE_DIM,
                  "1 shows the list, Enter opens one.");
        return;
    }
    lay_solve(&all, r);
    draw_head(a, s, r.x, r.y, r.w);
    draw_curves(a, a->chart, s, curves.r, names, "loss  a train  b eval");
    if (metrics.shown)
        draw_strips(a, s, under_rule(s, metrics.r, "metrics", NULL));
    if (events.shown)
        draw_events(a, s, under_rule(s, events.r, "events", NULL));
    if (log.shown)
        draw_log(
            a, s,
            under_rule(s, log.r, "log",
                       text_following(a->log) ? "following" : "f follows"));
}

static bool key(struct app *a, const struct ev *ev) {
    struct chart_mark m[MARKS_MAX];
    if (!a->snap->run)
        return false;
    if (ev->key == '{' || ev->key == '}')
        return chart_cursor_mark(a->chart, m, marks_of(a, m),
                                 ev->key == '}' ? 1 : -1);
    return chart_key(a->chart, ev->key) || text_key(a->log, ev->key);
}

const struct view view_run = {"2:Run", "run", draw, key};
