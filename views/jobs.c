/* jobs: what is running, what needs me? */
#include "views/app_int.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct list_col cols[] = {
    {"NAME", 14, 24, 3, 9, ALIGN_LEFT},  {"ST", 5, 5, 0, 8, ALIGN_LEFT},
    {"STEP", 9, 11, 0, 7, ALIGN_RIGHT},  {"LOSS", 7, 7, 0, 6, ALIGN_RIGHT},
    {"EVAL", 7, 7, 0, 3, ALIGN_RIGHT},   {"TREND", 8, 8, 0, 5, ALIGN_LEFT},
    {"TOK/S", 7, 7, 0, 4, ALIGN_RIGHT},  {"ETA", 6, 6, 0, 4, ALIGN_RIGHT},
    {"MODEL", 10, 20, 2, 1, ALIGN_LEFT}, {"RECIPE", 6, 8, 0, 1, ALIGN_LEFT},
    {"AGE", 5, 5, 0, 2, ALIGN_RIGHT},
};

static int jobs_count(void *arg) {
    const struct app *a = arg;
    return a->snap->runs.n;
}

static int64_t jobs_id(void *arg, int row) {
    const struct app *a = arg;
    return a->snap->runs.row[row].id;
}

static double job_eta(const struct job_row *j) {
    if (j->run->state != STORE_RUN_RUNNING || j->run->planned <= 0)
        return NAN;
    return (double)(j->run->planned - j->run->cursor) * j->step_s;
}

static void jobs_cell(void *arg, int row, int col, char *buf, size_t cap,
                      enum role *r) {
    const struct app *a = arg;
    const struct job_row *j = &a->snap->jobs[row];
    enum role sr;
    const char *glyph, *word = state_word(j->run->state, &sr, &glyph);
    bool runs = j->run->state == STORE_RUN_RUNNING;
    switch (col) {
    case 0: snprintf(buf, cap, "%s %s", glyph, j->run->name); break;
    case 1:
        snprintf(buf, cap, "%s", word);
        *r = sr;
        break;
    case 2:
        snprintf(buf, cap, "%lld/%lld", (long long)j->run->cursor,
                 (long long)j->run->planned);
        break;
    case 3: fmt_num(j->loss, buf, cap); break;
    case 4: fmt_num(j->eval, buf, cap); break;
    case 5:
        spark_text(buf, cap, j->trend, j->n_trend, 8, a->glyphs);
        *r = ROLE_S1;
        break;
    case 6: fmt_num(runs ? j->tok_s : NAN, buf, cap); break;
    case 7: fmt_secs(job_eta(j), buf, cap); break;
    case 8: snprintf(buf, cap, "%s", j->run->model); break;
    case 9: snprintf(buf, cap, "%s", j->run->recipe); break;
    default: fmt_age(j->run->created_us, buf, cap); break;
    }
}

struct list *jobs_list(struct app *a) {
    struct list *l =
        list_new((struct list_src){jobs_count, jobs_id, jobs_cell, a}, cols,
                 (int)(sizeof cols / sizeof *cols));
    if (!l)
        return NULL;
    list_keeps_top(l, true); /* the newest run until one is chosen */
    list_empty_text(l, "No runs yet.\n\n"
                       "fettle demo            trains the built-in model\n"
                       "fettle model add …     registers one of yours\n"
                       "fettle run sft model=… data=…");
    return l;
}

#define FACT_W 10 /* "renderer" and a gap */
static void fact(struct surf *s, struct rect r, int *y, const char *key,
                 const char *value) {
    if (*y >= r.y + r.h)
        return;
    surf_text(s, r.x, *y, FACT_W - 1, ROLE_DIM, key);
    surf_text(s, r.x + FACT_W, *y, r.w - FACT_W, ROLE_TEXT, value);
    (*y)++;
}

static void draw_facts(struct app *a, struct surf *s, struct rect r) {
    const struct snap *sn = a->snap;
    int y = r.y;
    char text[256];
    static const char *const keys[] = {
        "model",      "data",       "lora_rank", "learning_rate",
        "batch_size", "max_length", "renderer",  "reduction"};
    static const char *const names[] = {
        "base", "data", "rank", "lr", "batch", "length", "renderer", "reduce"};
    if (!sn->run)
        return;
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++)
        for (int i = 0; i < sn->config.n; i++)
            if (strcmp(sn->config.row[i].key, keys[k]) == 0) {
                const char *v = sn->config.row[i].text;
                const char *slash = strrchr(v, '/');
                bool path = strcmp(keys[k], "data") == 0 && slash;
                fact(s, r, &y, names[k], path ? slash + 1 : v);
            }
    int n = 0;
    for (int i = 0; i < sn->ckpts.n; i++)
        n += sn->ckpts.row[i].run == sn->run->id;
    snprintf(text, sizeof text, "%d", n);
    fact(s, r, &y, "ckpts", text);
    if (*sn->run->error)
        fact(s, r, &y, "error", sn->run->error);
}

static void draw(struct app *a, struct surf *s, struct rect r) {
    char right[64], range[40], title[300];
    bool wide = r.w >= 160;
    int list_h = wide ? r.h : r.h / 2 > 4 ? r.h / 2 : r.h;
    int list_w = wide ? r.w * 5 / 8 : r.w;
    snprintf(title, sizeof title, "Jobs %d%s%s", a->snap->runs.n,
             *a->filter ? " · filter: " : "", a->filter);
    list_range(a->jobs, range, sizeof range);
    snprintf(right, sizeof right, "%s", range);
    surf_rule(s, r.x, r.y, list_w, true, title, *right ? right : NULL);
    list_draw(a->jobs, s, (struct rect){r.x, r.y + 1, list_w, list_h - 1},
              true);
    struct rect low =
        wide ? (struct rect){r.x + list_w + 1, r.y, r.w - list_w - 1, r.h}
             : (struct rect){r.x, r.y + list_h, r.w, r.h - list_h};
    if (low.h < 5 || !a->snap->run)
        return;
    static const char *const names[] = {"train_mean_nll", "test/nll", NULL};
    int facts_w = low.w >= 70 ? 28 : 0;
    struct rect chart = low, facts = low;
    if (wide) {
        chart.h = low.h / 2;
        facts.y += chart.h;
        facts.h -= chart.h;
        facts_w = 1;
    } else {
        chart.w -= facts_w ? facts_w + 1 : 0;
        facts.x = low.x + chart.w + 1;
        facts.w = facts_w;
    }
    snprintf(title, sizeof title, "%s  loss", a->snap->run->name);
    draw_curves(a, a->small, s, chart, names, title);
    if (facts_w) {
        surf_rule(s, facts.x, facts.y, facts.w, false, "facts", NULL);
        draw_facts(a, s,
                   (struct rect){facts.x, facts.y + 1, facts.w, facts.h - 1});
    }
}

static bool key(struct app *a, const struct ev *ev) {
    if (!list_key(a->jobs, ev->key))
        return false;
    a->run = list_id(a->jobs);
    return true;
}

const struct view view_jobs = {"1:Jobs", "jobs", draw, key};
