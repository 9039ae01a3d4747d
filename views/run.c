/* run: one run's curves, events and log. */
#include "views/app_int.h"

#include <math.h>
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

static void draw_head(struct app *a, struct surf *s, int x, int y, int w) {
    const struct store_run *r = a->snap->run;
    const struct job_row *j = job_of(a->snap, r->id);
    enum role role;
    const char *glyph, *word = state_word(r->state, &role, &glyph);
    char eta[16], nll[24], test[24];
    int at = surf_text(s, x, y, w, ROLE_TITLE, r->name);
    at += surf_printf(s, x + at, y, w - at, role, "  %s %s", glyph, word);
    double left = (double)(r->planned - r->cursor) * (j ? j->step_s : NAN);
    fmt_secs(left, eta, sizeof eta);
    fmt_num(j ? j->loss : NAN, nll, sizeof nll);
    fmt_num(j ? j->eval : NAN, test, sizeof test);
    at += surf_printf(s, x + at, y, w - at, ROLE_TEXT,
                      " %lld/%lld  loss %s  eval %s", (long long)r->cursor,
                      (long long)r->planned, nll, test);
    if (r->state == STORE_RUN_RUNNING)
        at += surf_printf(s, x + at, y, w - at, ROLE_TEXT, "  ETA %s", eta);
    if (*r->error)
        surf_printf(s, x + at, y, w - at, ROLE_BAD, "  %s", r->error);
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

static void draw(struct app *a, struct surf *s, struct rect r) {
    static const char *const names[] = {"train_mean_nll", "test/nll", NULL};
    if (!a->snap->run) {
        surf_text(s, r.x, r.y + 1, r.w, ROLE_DIM,
                  "No run is selected: 1 shows the list, Enter opens one.");
        return;
    }
    int log_h = r.h >= 30 ? r.h / 5 : 4, strip_h = 6, side = 0;
    int chart_h = r.h - 1 - strip_h - log_h;
    draw_head(a, s, r.x, r.y, r.w);
    draw_curves(a, a->chart, s, (struct rect){r.x, r.y + 1, r.w, chart_h},
                names, "loss  a train  b eval");
    int y = r.y + 1 + chart_h;
    side = r.w * 3 / 5;
    surf_rule(s, r.x, y, side, false, "metrics", NULL);
    surf_rule(s, r.x + side + 1, y, r.w - side - 1, false, "events", NULL);
    draw_strips(a, s, (struct rect){r.x, y + 1, side, strip_h - 1});
    draw_events(
        a, s,
        (struct rect){r.x + side + 1, y + 1, r.w - side - 1, strip_h - 1});
    y += strip_h;
    surf_rule(s, r.x, y, r.w, false, "log",
              text_following(a->log) ? "following" : "f follows");
    draw_log(a, s, (struct rect){r.x, y + 1, r.w, log_h - 1});
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
