/* models: what is registered, and how each one's renderer compares with its
 * own chat template: in a line, then scenario by scenario. */
#include "views/app_int.h"
#include "views/parity.h"

#include "core/fs.h"
#include "tui/layout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct list_col model_cols[] = {
    {"NAME", 12, 30, 3, 9, ALIGN_LEFT},
    {"FAMILY", 8, 10, 0, 6, ALIGN_LEFT},
    {"PARAMS", 7, 7, 0, 5, ALIGN_RIGHT},
    {"TEMPLATE", 8, 8, 0, 8, ALIGN_LEFT},
    {"RENDERER", 10, 20, 1, 7, ALIGN_LEFT},
    {"ADDED", 5, 5, 0, 2, ALIGN_RIGHT},
};
static const struct list_col scenario_cols[] = {
    {"SCENARIO", 16, 26, 0, 9, ALIGN_LEFT},
    {"VERDICT", 9, 9, 0, 8, ALIGN_LEFT},
    {"WHY", 12, 40, 1, 5, ALIGN_LEFT},
};

/* ---- the list of models ---- */

static int model_count(void *arg) {
    const struct app *a = arg;
    return a->snap->models.n;
}

static const struct model_row *model_at(const struct app *a, int row) {
    return &a->snap->model_rows[row];
}

static int64_t model_id(void *arg, int row) {
    return id_of(model_at(arg, row)->model->name);
}

static const char *str(const json_t *j, const char *key) {
    const char *s = json_string_value(json_object_get(j, key));
    return s ? s : "";
}

static void fmt_params(int64_t n, char *buf, size_t cap) {
    if (n >= 1000000000)
        snprintf(buf, cap, "%.1fB", (double)n / 1e9);
    else if (n >= 1000000)
        snprintf(buf, cap, "%.1fM", (double)n / 1e6);
    else
        snprintf(buf, cap, "%lld", (long long)n);
}

static void model_cell(void *arg, int row, int col, char *buf, size_t cap,
                       enum role *r) {
    const struct model_row *m = model_at(arg, row);
    switch (col) {
    case 0: snprintf(buf, cap, "%s", m->model->name); break;
    case 1: snprintf(buf, cap, "%s", m->model->family); break;
    case 2: fmt_params(m->model->params, buf, cap); break;
    case 3:
        parity_brief(m->parity, buf, cap);
        *r = strchr(buf, '!') ? ROLE_WARN : ROLE_OK;
        break;
    case 4: snprintf(buf, cap, "%s", str(m->parity, "renderer")); break;
    default: fmt_age(m->model->added_us, buf, cap); break;
    }
}

struct list *models_list(struct app *a) {
    struct list *l =
        list_new((struct list_src){model_count, model_id, model_cell, a},
                 model_cols, (int)(sizeof model_cols / sizeof *model_cols));
    if (l)
        list_empty_text(l, "No models yet.\n\nfettle model add NAME DIR\n"
                           "registers a Hugging Face directory.");
    return l;
}

const struct model_row *model_selected(const struct app *a) {
    int row = list_row(a->models);
    return row < 0 || row >= a->snap->models.n ? NULL : model_at(a, row);
}

static const char no_report[] =
    "not compared with its chat template yet: fettle model parity does it";

static void draw_model(struct app *a, struct surf *s, struct rect r) {
    const struct model_row *m = model_selected(a);
    if (!m)
        return;
    char *line = m->parity ? parity_line(m->parity) : NULL;
    char *text = fs_path("%s\n%s\n", m->model->dir, line ? line : no_report);
    draw_wrapped(s, r, ROLE_TEXT, text);
    free(text);
    free(line);
}

static void draw_models(struct app *a, struct surf *s, struct rect r) {
    struct lay list = {.min_h = 4}, low = {.min_h = 4, .max_h = 8, .prio = -1};
    struct lay *kids[] = {&list, &low};
    struct lay all = {.dir = LAY_COL, .kid = kids, .n = 2};
    lay_solve(&all, r);
    surf_rule(s, r.x, r.y, r.w, true, "Models",
              "TEMPLATE: scenarios equal to it");
    list_draw(a->models, s, (struct rect){r.x, r.y + 1, r.w, list.r.h - 1},
              true);
    if (!low.shown)
        return;
    surf_rule(s, r.x, low.r.y, r.w, false, "selected", "Enter: scenarios");
    draw_model(a, s, (struct rect){r.x, low.r.y + 1, r.w, low.r.h - 1});
}

static bool key_models(struct app *a, const struct ev *ev) {
    return list_key(a->models, ev->key);
}

const struct view view_models = {"7:Models", "models", draw_models, key_models};

/* ---- one model's scenarios: those that differ, then the others ---- */

static const json_t *report_rows(const struct app *a) {
    const struct model_row *m = model_selected(a);
    return m ? json_object_get(m->parity, "rows") : NULL;
}

static const json_t *report_row(const struct app *a, const char *id) {
    const json_t *row;
    size_t i;
    json_array_foreach(report_rows(a), i, row) if (strcmp(str(row, "scenario"),
                                                          id) == 0) return row;
    return NULL;
}

static const struct verdict {
    const char *name;
    enum role role;
    const char *help; /* in front of the reason, or instead of it */
} verdicts[] = {
    {"different", ROLE_WARN, "not a known difference"},
    {"vanished", ROLE_WARN, "expected to differ, but equal: "},
    {"known", ROLE_DIM, ""},
    {"equal", ROLE_OK, "the same tokens: i shows them"},
    {"-", ROLE_DIM, "not compared: i shows the tokens"},
};
#define VERDICTS ((int)(sizeof verdicts / sizeof *verdicts))

static int verdict_of(const struct app *a, const char *id) {
    const struct model_row *m = model_selected(a);
    const json_t *row = report_row(a, id);
    bool is_compared = m && json_object_get(m->parity, "scenarios");
    const char *name = row ? str(row, "verdict") : is_compared ? "equal" : "-";
    for (int v = 0; v < VERDICTS; v++)
        if (strcmp(verdicts[v].name, name) == 0)
            return v;
    return VERDICTS - 1;
}

/* The scenario of a list's row, -1 = none: by verdict, then as in the bank. */
static int scenario_at(const struct app *a, int row) {
    for (int v = 0, k = 0; v < VERDICTS; v++)
        for (int i = 0; scenario_id(i); i++)
            if (verdict_of(a, scenario_id(i)) == v && k++ == row)
                return i;
    return -1;
}

static int scenario_count(void *arg) {
    int n = 0;
    while (model_selected(arg) && scenario_id(n))
        n++;
    return n;
}

static int64_t scenario_list_id(void *arg, int row) {
    int at = scenario_at(arg, row);
    return at < 0 ? INT32_MAX + (int64_t)row : at + 1;
}

static void scenario_cell(void *arg, int row, int col, char *buf, size_t cap,
                          enum role *r) {
    const struct app *a = arg;
    int at = scenario_at(a, row);
    const char *id = at < 0 ? "?" : scenario_id(at);
    const struct verdict *v = &verdicts[verdict_of(a, id)];
    switch (col) {
    case 0: snprintf(buf, cap, "%s", id); break;
    case 1:
        snprintf(buf, cap, "%s", v->name);
        *r = v->role;
        break;
    default: snprintf(buf, cap, "%s", str(report_row(a, id), "why")); break;
    }
}

struct list *scenarios_list(struct app *a) {
    struct list *l = list_new(
        (struct list_src){scenario_count, scenario_list_id, scenario_cell, a},
        scenario_cols, (int)(sizeof scenario_cols / sizeof *scenario_cols));
    if (l)
        list_empty_text(l, "No model is selected: 7 lists them.");
    return l;
}

int64_t scenario_selected(const struct app *a) {
    int row = list_row(a->scenarios);
    return row < 0 ? 0 : scenario_at(a, row) + 1;
}

static void draw_side(struct surf *s, struct rect r, const char *title,
                      const char *text) {
    surf_rule(s, r.x, r.y, r.w, false, title, NULL);
    draw_wrapped(s, (struct rect){r.x, r.y + 1, r.w, r.h - 1}, ROLE_TEXT, text);
}

/* Why it differs, and the text around the first difference on both sides. */
static void draw_difference(struct app *a, struct surf *s, struct rect r) {
    int64_t at = scenario_selected(a);
    const json_t *row = at ? report_row(a, scenario_id((int)at - 1)) : NULL;
    struct lay why = {.min_h = 2, .max_h = 3, .prio = 1};
    struct lay ours = {.min_h = 3}, theirs = {.min_h = 3};
    struct lay *kids[] = {&why, &ours, &theirs};
    struct lay all = {.dir = LAY_COL, .kid = kids, .n = 3};
    bool has_texts = *str(row, "ours") || *str(row, "template");
    ours.hidden = theirs.hidden = !has_texts;
    lay_solve(&all, r);
    const char *id = at ? scenario_id((int)at - 1) : "";
    char text[512];
    snprintf(text, sizeof text, "%s%s", verdicts[verdict_of(a, id)].help,
             str(row, "why"));
    surf_rule(s, why.r.x, why.r.y, why.r.w, false, "why", NULL);
    draw_wrapped(s, (struct rect){why.r.x, why.r.y + 1, why.r.w, why.r.h - 1},
                 ROLE_TEXT, text);
    if (ours.shown)
        draw_side(s, ours.r, "ours, where it begins to differ",
                  str(row, "ours"));
    if (theirs.shown)
        draw_side(s, theirs.r, "template", str(row, "template"));
}

static void draw_parity(struct app *a, struct surf *s, struct rect r) {
    const struct model_row *m = model_selected(a);
    struct lay list = {.min_h = 4}, low = {.min_h = 3, .prio = -1};
    struct lay *kids[] = {&list, &low};
    struct lay all = {.dir = LAY_COL, .kid = kids, .n = 2};
    char title[STORE_NAME_MAX + 40], brief[40] = "";
    lay_solve(&all, r);
    snprintf(title, sizeof title, "%s and its chat template",
             m ? m->model->name : "no model");
    if (m)
        parity_brief(m->parity, brief, sizeof brief);
    surf_rule(s, r.x, r.y, r.w, true, title, *brief ? brief : NULL);
    list_draw(a->scenarios, s, (struct rect){r.x, r.y + 1, r.w, list.r.h - 1},
              true);
    if (low.shown)
        draw_difference(a, s, low.r);
}

static bool key_parity(struct app *a, const struct ev *ev) {
    return list_key(a->scenarios, ev->key);
}

const struct view view_parity = {NULL, "parity", draw_parity, key_parity};
