/*
 * layout - a tree of boxes solved into rectangles; a pure function.
 *
 * A box is a row or column of boxes, or a pane. Sizes run along the parent's
 * direction: min, max and a weight that shares what is left. When the minimums
 * do not fit, shown boxes are dropped, lowest prio first (the later one among
 * equals), until they do; the last one stays whatever its size.
 *
 *     struct lay list = {.id = 1, .min_w = 40, .min_h = 5, .weight = 2};
 *     struct lay side = {.id = 2, .min_w = 20, .max_w = 34, .prio = -1};
 *     struct lay *kids[] = {&list, &side};
 *     struct lay root = {.dir = LAY_ROW, .gap = 1, .kid = kids, .n = 2};
 *     lay_solve(&root, (struct rect){0, 1, 80, 21});
 *     if (side.shown) draw_side(s, side.r);
 *
 * No two shown panes overlap; all lie inside the area. Any thread.
 */
#ifndef FETTLE_TUI_LAYOUT_H
#define FETTLE_TUI_LAYOUT_H

#include "tui/surf.h"

enum lay_dir {
    LAY_PANE,
    LAY_ROW, /* kids side by side */
    LAY_COL  /* kids below each other */
};

#define LAY_KIDS_MAX 32

struct lay {
    int id; /* the caller's; lay_find() */
    enum lay_dir dir;
    int min_w, min_h; /* of a box with kids: at least, else what they need */
    int max_w, max_h; /* 0 = no limit */
    int weight;       /* share of what is left; 0 counts as 1 */
    int prio;         /* higher stays longer */
    bool hidden;      /* set by the caller: leave it out */
    int gap;          /* cells between kids, for a line */
    struct lay **kid;
    int n; /* <= LAY_KIDS_MAX */
    /* results */
    struct rect r;
    bool shown;
};

void lay_solve(struct lay *root, struct rect area);
/* The box with this id, or NULL. */
struct lay *lay_find(struct lay *root, int id);
/* The shown pane at a cell, or NULL. */
struct lay *lay_at(struct lay *root, int x, int y);
/* Draws the vertical lines in the gaps of rows. */
void lay_lines(const struct lay *root, struct surf *s);

#endif
