/* ckpt: checkpoints of a run, or of all; what promoting would mean. */
#include "views/app_int.h"

#include "tui/layout.h"

#include <stdio.h>
#include <string.h>

static const struct list_col cols[] = {
    {"CHECKPOINT", 12, 20, 2, 9, ALIGN_LEFT},
    {"STEP", 7, 8, 0, 8, ALIGN_RIGHT},
    {"KIND", 7, 8, 0, 6, ALIGN_LEFT},
    {"SIZE", 8, 8, 0, 5, ALIGN_RIGHT},
    {"AGE", 5, 6, 0, 4, ALIGN_RIGHT},
    {"PROMOTED", 10, 16, 1, 7, ALIGN_LEFT},
    {"SERVED AS", 10, 16, 1, 7, ALIGN_LEFT},
    {"MODEL", 10, 20, 1, 2, ALIGN_LEFT},
};

/* Row i of those shown: of the run, or of all. */
static const struct store_ckpt *row_at(const struct app *a, int row) {
    const struct store_ckpts *k = &a->snap->ckpts;
    for (int i = 0; i < k->n; i++)
        if ((a->ckpt_all || a->run == 0 || k->row[i].run == a->run) &&
            !k->row[i].is_deleting && row-- == 0)
            return &k->row[i];
    return NULL;
}

static int count(void *arg) {
    int n = 0;
    while (row_at(arg, n))
        n++;
    return n;
}

static int64_t id(void *arg, int row) { return id_of(row_at(arg, row)->id); }

static void served_as(const struct app *a, const char *ckpt, char *buf,
                      size_t cap) {
    size_t n = 0;
    buf[0] = 0;
    for (int i = 0; i < a->snap->deployments.n && n < cap; i++)
        if (strcmp(a->snap->deployments.row[i].ckpt, ckpt) == 0)
            n += (size_t)snprintf(buf + n, cap - n, "%s%s", n ? " " : "",
                                  a->snap->deployments.row[i].name);
}

static void cell(void *arg, int row, int col, char *buf, size_t cap,
                 enum role *r) {
    const struct app *a = arg;
    const struct store_ckpt *k = row_at(a, row);
    switch (col) {
    case 0: snprintf(buf, cap, "◆ %s", k->id); break;
    case 1: snprintf(buf, cap, "%lld", (long long)k->step); break;
    case 2: snprintf(buf, cap, "%s", k->kind); break;
    case 3: fmt_bytes(k->bytes, buf, cap); break;
    case 4: fmt_age(k->created_us, buf, cap); break;
    case 5:
        snprintf(buf, cap, "%s", k->promoted);
        *r = ROLE_OK;
        break;
    case 6:
        served_as(a, k->id, buf, cap);
        *r = ROLE_INFO;
        break;
    default: snprintf(buf, cap, "%s", k->model); break;
    }
}

struct list *ckpts_list(struct app *a) {
    struct list *l = list_new((struct list_src){count, id, cell, a}, cols,
                              (int)(sizeof cols / sizeof *cols));
    if (!l)
        return NULL;
    list_keeps_top(l, true);
    list_empty_text(l,
                    "No checkpoints yet.\n\nA run saves one every save_every "
                    "steps,\nand `final` at its end.");
    return l;
}

const struct store_ckpt *ckpt_selected(const struct app *a) {
    int row = list_row(a->ckpts);
    return row < 0 ? NULL : row_at(a, row);
}

static void draw_detail(struct app *a, struct surf *s, struct rect r) {
    const struct store_ckpt *k = ckpt_selected(a);
    char served[128];
    int y = r.y;
    if (!k)
        return;
    served_as(a, k->id, served, sizeof served);
    surf_printf(s, r.x, y++, r.w, ROLE_TEXT,
                "%s: %s after %lld optimizer steps on %s", k->id,
                strcmp(k->kind, "state") == 0 ? "resumable state" : k->kind,
                (long long)k->step, k->model);
    surf_printf(s, r.x, y++, r.w, ROLE_TEXT, "promoted as  %s",
                *k->promoted ? k->promoted : "(nothing)");
    surf_printf(s, r.x, y++, r.w, ROLE_TEXT, "served as    %s",
                *served ? served : "(nothing)");
    surf_printf(s, r.x, y++, r.w, ROLE_DIM,
                "fettle promote %s NAME · fettle deploy %s NAME", k->id, k->id);
    surf_printf(s, r.x, y, r.w, ROLE_DIM,
                "fettle export %s --as peft|hf -o DIR", k->id);
}

static void draw(struct app *a, struct surf *s, struct rect r) {
    struct lay list = {.min_h = 5}, low = {.min_h = 7, .max_h = 7, .prio = -1};
    struct lay *kids[] = {&list, &low};
    struct lay all = {.dir = LAY_COL, .kid = kids, .n = 2};
    char title[300];
    const struct store_run *run = a->snap->run;
    if (a->ckpt_all || !run)
        snprintf(title, sizeof title, "Checkpoints of all runs");
    else
        snprintf(title, sizeof title, "Checkpoints of %s", run->name);
    lay_solve(&all, r);
    surf_rule(s, r.x, r.y, r.w, true, title, "a all runs");
    list_draw(a->ckpts, s, (struct rect){r.x, r.y + 1, r.w, list.r.h - 1},
              true);
    if (!low.shown)
        return;
    surf_rule(s, r.x, low.r.y, r.w, false, "selected", NULL);
    draw_detail(a, s, (struct rect){r.x, low.r.y + 1, r.w, low.r.h - 1});
}

static bool key(struct app *a, const struct ev *ev) {
    if (ev->key == 'a') {
        a->ckpt_all = !a->ckpt_all;
        list_sync(a->ckpts);
        return true;
    }
    return list_key(a->ckpts, ev->key);
}

const struct view view_ckpt = {"3:Ckpt", "ckpt", draw, key};
