/* samples: what the run wrote for its fixed prompts, step by step. */
#include "views/app_int.h"

#include "tui/layout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct list_col cols[] = {{"PROMPT", 10, 40, 1, 9, ALIGN_LEFT}};

/* The distinct steps that have samples, ascending; how many. */
static int steps_of(const struct snap *s, int64_t *steps, int max) {
    int n = 0;
    for (int i = 0; i < s->samples.n; i++) {
        int64_t step = s->samples.row[i].step;
        if ((n == 0 || steps[n - 1] != step) && n < max)
            steps[n++] = step;
    }
    return n;
}

static const struct store_sample *sample_at(const struct snap *s, int64_t step,
                                            int prompt) {
    for (int i = 0; i < s->samples.n; i++)
        if (s->samples.row[i].step == step &&
            s->samples.row[i].prompt_index == prompt)
            return &s->samples.row[i];
    return NULL;
}

/* The newest sample of prompt `row`. */
static const struct store_sample *prompt_at(const struct snap *s, int row) {
    for (int i = s->samples.n - 1; i >= 0; i--)
        if (s->samples.row[i].prompt_index == row)
            return &s->samples.row[i];
    return NULL;
}

static int count(void *arg) {
    const struct app *a = arg;
    int n = 0;
    while (prompt_at(a->snap, n))
        n++;
    return n;
}

static int64_t id(void *arg, int row) {
    (void)arg;
    return row + 1;
}

static void cell(void *arg, int row, int col, char *buf, size_t cap,
                 enum role *r) {
    const struct app *a = arg;
    const struct store_sample *s = prompt_at(a->snap, row);
    (void)col;
    (void)r;
    snprintf(buf, cap, "p%d %s", row + 1, s ? s->prompt : "");
    for (char *p = buf; *p; p++)
        if (*p == '\n')
            *p = ' ';
}

struct list *prompts_list(struct app *a) {
    struct list *l = list_new((struct list_src){count, id, cell, a}, cols, 1);
    if (l)
        list_empty_text(l,
                        "No samples yet.\n\nsample_every and\nsample_prompts "
                        "of the\nrun say when and what.");
    return l;
}

void draw_wrapped(struct surf *s, struct rect r, enum role role,
                  const char *text) {
    struct text *t = text_new(500);
    if (!t)
        return;
    text_add(t, role, text, strlen(text));
    text_follow(t, false);
    text_top(t);
    text_draw(t, s, r);
    text_free(t);
}

static void draw_one(struct surf *s, struct rect r, const char *title,
                     const struct store_sample *k) {
    char right[64] = "";
    if (k)
        snprintf(right, sizeof right, "%d tok  %s", k->tokens, k->stop);
    surf_rule(s, r.x, r.y, r.w, false, title, *right ? right : NULL);
    draw_wrapped(s, (struct rect){r.x, r.y + 1, r.w, r.h - 1},
                 k ? ROLE_TEXT : ROLE_DIM, k ? k->text : "(not sampled)");
}

static void draw(struct app *a, struct surf *s, struct rect r) {
    int64_t steps[512];
    char title[80];
    int n = steps_of(a->snap, steps, 512), left = r.w / 3 < 40 ? r.w / 3 : 40;
    int at = a->sample_at < 0 || a->sample_at >= n ? n - 1 : a->sample_at;
    int prompt = list_row(a->prompts);
    surf_rule(s, r.x, r.y, left, true, "Prompts", NULL);
    list_head(a->prompts, false);
    list_draw(a->prompts, s, (struct rect){r.x, r.y + 1, left, r.h - 1}, true);
    surf_vline(s, r.x + left, r.y, r.h, ROLE_RULE);
    if (n == 0 || prompt < 0)
        return;
    struct lay p = {.min_h = 3, .prio = 2};
    struct lay first = {.min_h = 3}, second = {.min_h = 3, .prio = 1};
    struct lay *kids[] = {&p, &first, &second};
    struct lay all = {.dir = LAY_COL, .kid = kids, .n = 3};
    lay_solve(&all, (struct rect){r.x + left + 1, r.y, r.w - left - 1, r.h});
    const struct store_sample *any = prompt_at(a->snap, prompt);
    surf_rule(s, p.r.x, p.r.y, p.r.w, false, "prompt", NULL);
    draw_wrapped(s, (struct rect){p.r.x, p.r.y + 1, p.r.w, p.r.h - 1}, ROLE_DIM,
                 any ? any->prompt : "");
    if (first.shown) {
        snprintf(title, sizeof title, "A  step %lld", (long long)steps[0]);
        draw_one(s, first.r, title, sample_at(a->snap, steps[0], prompt));
    }
    snprintf(title, sizeof title, "B  step %lld  (%d of %d, , . moves)",
             (long long)steps[at], at + 1, n);
    draw_one(s, second.r, title, sample_at(a->snap, steps[at], prompt));
}

static bool key(struct app *a, const struct ev *ev) {
    int64_t steps[512];
    int n = steps_of(a->snap, steps, 512);
    int at = a->sample_at < 0 || a->sample_at >= n ? n - 1 : a->sample_at;
    if (ev->key == ',' || ev->key == '.') {
        at += ev->key == '.' ? 1 : -1;
        a->sample_at = at < 0 ? 0 : at >= n - 1 ? -1 : at;
        return true;
    }
    return list_key(a->prompts, ev->key);
}

const struct view view_samples = {"4:Samp", "samples", draw, key};
