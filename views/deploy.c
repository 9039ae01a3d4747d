/* deploy: what is served under which name. */
#include "views/app_int.h"

#include "tui/layout.h"

#include <stdio.h>
#include <string.h>

static const struct list_col cols[] = {
    {"NAME", 12, 24, 2, 9, ALIGN_LEFT},
    {"STATE", 8, 9, 0, 8, ALIGN_LEFT},
    {"VER", 4, 4, 0, 5, ALIGN_RIGHT},
    {"CHECKPOINT", 12, 20, 1, 7, ALIGN_LEFT},
    {"MODEL", 10, 24, 1, 6, ALIGN_LEFT},
    {"SINCE", 6, 6, 0, 4, ALIGN_RIGHT},
};

static int count(void *arg) {
    const struct app *a = arg;
    return a->snap->deployments.n;
}

static int64_t id(void *arg, int row) {
    const struct app *a = arg;
    return id_of(a->snap->deployments.row[row].name);
}

static void cell(void *arg, int row, int col, char *buf, size_t cap,
                 enum role *r) {
    const struct app *a = arg;
    const struct store_deployment *d = &a->snap->deployments.row[row];
    switch (col) {
    case 0: snprintf(buf, cap, "%s", d->name); break;
    case 1:
        snprintf(buf, cap, "%s", store_deploy_state_name(d->state));
        *r = d->state == STORE_DEPLOY_SERVING  ? ROLE_OK
             : d->state == STORE_DEPLOY_FAILED ? ROLE_BAD
                                               : ROLE_WARN;
        break;
    case 2: snprintf(buf, cap, "%d", d->version); break;
    case 3:
        snprintf(buf, cap, "%s%s%s", *d->ckpt ? d->ckpt : "(base)",
                 strcmp(d->precision, "exact") ? " " : "",
                 strcmp(d->precision, "exact") ? d->precision : "");
        break;
    case 4: snprintf(buf, cap, "%s", d->model); break;
    default: fmt_age(d->updated_us, buf, cap); break;
    }
}

struct list *deploys_list(struct app *a) {
    struct list *l = list_new((struct list_src){count, id, cell, a}, cols,
                              (int)(sizeof cols / sizeof *cols));
    if (l)
        list_empty_text(l, "Nothing is served: D on a checkpoint (3) deploys "
                           "it.");
    return l;
}

const struct store_deployment *deploy_selected(const struct app *a) {
    int row = list_row(a->deploys);
    return row < 0 || row >= a->snap->deployments.n
               ? NULL
               : &a->snap->deployments.row[row];
}

static void draw(struct app *a, struct surf *s, struct rect r) {
    const struct store_deployment *d = deploy_selected(a);
    struct lay list = {.min_h = 5}, low = {.min_h = 6, .max_h = 6, .prio = -1};
    struct lay *kids[] = {&list, &low};
    struct lay all = {.dir = LAY_COL, .kid = kids, .n = 2};
    lay_solve(&all, r);
    surf_rule(s, r.x, r.y, r.w, true, "Deployments", NULL);
    list_draw(a->deploys, s, (struct rect){r.x, r.y + 1, r.w, list.r.h - 1},
              true);
    if (!low.shown)
        return;
    int y = low.r.y;
    surf_rule(s, r.x, y++, r.w, false, "how to ask it", NULL);
    if (!d)
        return;
    surf_printf(s, r.x, y++, r.w, ROLE_TEXT, "fettle chat %s", d->name);
    surf_printf(s, r.x, y++, r.w, ROLE_DIM,
                "curl --unix-socket $FETTLE_HOME/run/d.sock "
                "http://localhost/v1/chat/completions \\");
    surf_printf(s, r.x, y++, r.w, ROLE_DIM,
                "  -H 'Content-Type: application/json' -d '{\"model\":\"%s\","
                "\"messages\":[…]}'",
                d->name);
    if (*d->error)
        surf_text(s, r.x, y, r.w, ROLE_BAD, d->error);
}

static bool key(struct app *a, const struct ev *ev) {
    return list_key(a->deploys, ev->key);
}

const struct view view_deploy = {"6:Depl", "deploy", draw, key};
