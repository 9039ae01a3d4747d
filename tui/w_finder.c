/*
 * w_finder.c - help and palette: commands listed, narrowed as one types.
 */
#include "tui/w_edit.h"
#include "tui/w_popup.h"

#include <stdlib.h>
#include <string.h>

#define FINDER_MAX 512

struct finder {
    struct keymap *km;       /* help */
    const char *const *path; /* help */
    int npath;
    const struct cmd *cmd; /* palette */
    int ncmd;
    void *app;
    struct edit *edit;
    const struct cmd *hit[FINDER_MAX];
    int nhit, at, top;
};

static int by_score(const void *a, const void *b) {
    const int *x = a, *y = b;
    return x[0] != y[0] ? (x[0] < y[0] ? 1 : -1) : x[1] < y[1] ? -1 : 1;
}

static void search(struct finder *f) {
    const char *what = edit_text(f->edit);
    f->at = f->top = f->nhit = 0;
    if (f->km) {
        f->nhit =
            keymap_help(f->km, f->path, f->npath, what, f->hit, FINDER_MAX);
        return;
    }
    int rank[FINDER_MAX][2], n = 0;
    for (int i = 0; i < f->ncmd && n < FINDER_MAX; i++) {
        int score =
            f->cmd[i].flags & CMD_HIDDEN ? 0 : cmd_score(&f->cmd[i], what);
        if (score > 0) {
            rank[n][0] = score;
            rank[n++][1] = i;
        }
    }
    qsort(rank, (size_t)n, sizeof *rank, by_score);
    for (int i = 0; i < n; i++)
        f->hit[f->nhit++] = &f->cmd[rank[i][1]];
}

static struct finder *finder_new(void *app, const char *prompt) {
    struct finder *f = calloc(1, sizeof *f);
    if (!f)
        return NULL;
    f->app = app;
    f->edit =
        edit_new((struct edit_opts){.prompt = prompt, .keep_empty = true});
    if (!f->edit) {
        free(f);
        return NULL;
    }
    return f;
}

struct finder *finder_help(struct keymap *km, const char *const *path,
                           int npath, void *app) {
    struct finder *f = finder_new(app, "search> ");
    if (f) {
        f->km = km;
        f->path = path;
        f->npath = npath;
        search(f);
    }
    return f;
}

struct finder *finder_palette(const struct cmd *c, int n, void *app) {
    struct finder *f = finder_new(app, "> ");
    if (f) {
        f->cmd = c;
        f->ncmd = n;
        search(f);
    }
    return f;
}

void finder_free(struct finder *f) {
    if (!f)
        return;
    edit_free(f->edit);
    free(f);
}

static void move(struct finder *f, int by) {
    f->at += by;
    if (f->at >= f->nhit)
        f->at = f->nhit - 1;
    if (f->at < 0)
        f->at = 0;
}

enum popup_result finder_event(struct finder *f, const struct ev *ev) {
    uint32_t key = ev->kind == EV_KEY ? ev->key : KEY_NONE;
    switch (key) {
    case KEY_ESC:
    case MOD_CTRL | 'c':
    case MOD_CTRL | 'g': return POPUP_CANCEL;
    case KEY_ENTER: return finder_chosen(f) ? POPUP_DONE : POPUP_OPEN;
    case KEY_UP:
    case MOD_CTRL | 'p': move(f, -1); return POPUP_OPEN;
    case KEY_DOWN:
    case MOD_CTRL | 'n': move(f, 1); return POPUP_OPEN;
    case KEY_PGUP: move(f, -10); return POPUP_OPEN;
    case KEY_PGDN: move(f, 10); return POPUP_OPEN;
    default: break;
    }
    if (edit_event(f->edit, ev) == EDIT_CHANGED)
        search(f);
    return POPUP_OPEN;
}

const struct cmd *finder_chosen(const struct finder *f) {
    const struct cmd *c = f->at < f->nhit ? f->hit[f->at] : NULL;
    return c && c->enabled && c->enabled(f->app) ? NULL : c;
}

static void draw_hit(const struct finder *f, struct surf *s, struct rect r,
                     const struct cmd *c, bool on) {
    char keys[64];
    const char *why = c->enabled ? c->enabled(f->app) : NULL;
    enum role role = why ? ROLE_DIM : on ? ROLE_SELECT : ROLE_TEXT;
    keymap_keys(c, keys, sizeof keys, true);
    if (on)
        surf_put(s, r.x, r.y, ROLE_SELECT, ">");
    int kw = r.w > 60 ? 16 : 12, tw = r.w > 70 ? 28 : 22;
    int dw = r.w - kw - tw - 4;
    surf_field(s, r.x + 2, r.y, kw, ALIGN_LEFT, why ? ROLE_DIM : ROLE_KEY,
               keys);
    surf_field(s, r.x + 3 + kw, r.y, dw > 8 ? tw : r.w - kw - 3, ALIGN_LEFT,
               role, c->title);
    if (dw > 8)
        surf_field(s, r.x + 4 + kw + tw, r.y, dw, ALIGN_LEFT, ROLE_DIM,
                   why ? why : c->doc);
}

void finder_draw(struct finder *f, struct surf *s, struct rect area) {
    int w = area.w > 104 ? 100 : area.w - 4;
    struct rect box = rect_center(area, w, area.h > 8 ? area.h - 2 : area.h);
    struct rect in = rect_inset(box, 2, 1);
    struct rect outer = surf_clip(s, area);
    surf_box(s, box, f->km ? "Help" : "Commands");
    struct rect line = {in.x, in.y, in.w, 1};
    edit_draw(f->edit, s, line, true);
    struct rect r = {in.x, in.y + 1, in.w, in.h - 1};
    surf_clip(s, r);
    /* A rule with the context's name stands above each group of help. */
    int y = r.y, i = f->top;
    if (f->at < f->top)
        i = f->top = f->at;
    int lines = r.h - (f->km ? f->npath : 0);
    lines = lines > 1 ? lines : 1;
    if (f->at >= f->top + lines)
        i = f->top = f->at - lines + 1;
    for (const char *last = ""; i < f->nhit && y < r.y + r.h; i++, y++) {
        if (f->km && strcmp(f->hit[i]->context, last) != 0) {
            last = f->hit[i]->context;
            surf_rule(s, r.x, y++, r.w, false, last, NULL);
        }
        draw_hit(f, s, (struct rect){r.x, y, r.w, 1}, f->hit[i], i == f->at);
    }
    if (f->nhit == 0)
        surf_text(s, r.x + 2, r.y, r.w, ROLE_DIM, "nothing fits");
    surf_unclip(s, outer);
}
