/*
 * w_list - a table: columns, a selection, marks, a scroll position.
 *
 * The list owns no rows. It asks its source for a count, for the stable id of
 * row i and for a cell's text, and only for the rows that are visible. The
 * selection is an id: it follows its row when rows move, and goes to the
 * nearest neighbour when the row is gone.
 *
 *     static const struct list_col cols[] = {
 *         {"NAME", 12, 24, 1, 9, ALIGN_LEFT},
 *         {"STEP", 6, 10, 0, 5, ALIGN_RIGHT}, …
 *     };
 *     struct list *l = list_new((struct list_src){count, id, cell, app},
 *                               cols, 2);
 *     list_sync(l);                 // after the rows changed
 *     list_draw(l, s, pane, focused);
 *     if (list_key(l, ev->key)) loop_dirty(loop);
 *
 * UI thread only.
 */
#ifndef FETTLE_TUI_W_LIST_H
#define FETTLE_TUI_W_LIST_H

#include "tui/surf.h"

#define LIST_CELL_BYTES 512
#define LIST_COLS_MAX 48

struct list_col {
    const char *title;
    int min, ideal; /* cells; ideal 0 = min */
    int grow;       /* share of spare cells beyond ideal, 0 = none */
    int prio;       /* narrow: columns are dropped lowest first */
    enum align align;
};

struct list_src {
    int (*count)(void *arg);
    int64_t (*id)(void *arg, int row); /* unique, > 0 */
    /* Fills buf (UTF-8, need not be clean) and may change *r. The name column
     * (0) of the selected row is drawn in ROLE_SELECT. */
    void (*cell)(void *arg, int row, int col, char *buf, size_t cap,
                 enum role *r);
    void *arg;
};

struct list;

/* Borrows cols. NULL when memory is short. */
struct list *list_new(struct list_src src, const struct list_col *cols, int n);
void list_free(struct list *l);
/* The rows changed: finds the selection again. True when it had to move to a
 * neighbour because its row is gone. */
bool list_sync(struct list *l);
/* Shown instead of rows when there are none; borrowed. Lines by \n. */
void list_empty_text(struct list *l, const char *text);
void list_head(struct list *l, bool show); /* column heads, on by default */
/* Until the selection is first moved it is the first row, whatever arrives
 * above it; off by default. */
void list_keeps_top(struct list *l, bool on);
/* Which column is sorted, -1 none; shows ▼ or ▲. */
void list_sort(struct list *l, int col, bool ascending);

/* ---- selection ---- */

int list_row(const struct list *l);    /* -1 when empty */
int64_t list_id(const struct list *l); /* 0 when empty */
bool list_select(struct list *l, int64_t id);
void list_select_row(struct list *l, int row); /* clamped */
void list_move(struct list *l, int delta);
/* j k, arrows, g G, C-d C-u, C-f C-b, PgUp PgDn, Home End, Space (mark).
 * True when it did something. (g: one press goes to the top.) */
bool list_key(struct list *l, uint32_t key);

/* ---- marks: a set of ids, kept while rows move ---- */

void list_mark(struct list *l, int64_t id, bool on);
bool list_marked(const struct list *l, int64_t id);
void list_mark_all(struct list *l, bool on);
int list_marks(const struct list *l, int64_t *ids, int max); /* how many */

/* ---- drawing ---- */

/* Row 0 of r is the head. Each visible row is a hit region {hit_cmd, id}. Puts
 * the cursor on the selected row when focused. Scrolls by half pages. */
void list_draw(struct list *l, struct surf *s, struct rect r, bool focused);
void list_hits(struct list *l, int hit_cmd); /* 0 = none, the default */
/* Rows that the last drawing had room for. */
int list_page(const struct list *l);
/* "3-17 of 240"; "" when all is visible. */
void list_range(const struct list *l, char *buf, size_t cap);

#endif
