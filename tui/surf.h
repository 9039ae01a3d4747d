/*
 * surf - a grid of cells to draw on, without any terminal.
 *
 * A cell holds one cluster of text and a role (tui/style.h). Everything drawn
 * is clipped to the current clip rectangle, and every text is sanitised as
 * utf8.h says, so drawing can neither leave the grid nor send an escape. A
 * wide character that would be cut in half shows as a blank.
 *
 *     struct surf *s = surf_new(80, 24);
 *     surf_rule(s, 0, 0, 80, true, "Jobs", "sort:started");
 *     surf_printf(s, 0, 1, 80, ROLE_TEXT, "%d runs", n);
 *     struct rect old = surf_clip(s, (struct rect){0, 2, 40, 20});
 *     ...
 *     surf_unclip(s, old);
 *     char *golden = surf_dump(s);      // free() it
 *
 * Coordinates are the grid's, also within a clip. Strings are borrowed for
 * the call. One thread at a time.
 */
#ifndef FETTLE_TUI_SURF_H
#define FETTLE_TUI_SURF_H

#include "tui/style.h"
#include "tui/width.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rect {
    int x, y, w, h;
};
struct rect rect_cut(struct rect a, struct rect b); /* w, h >= 0 */
bool rect_has(struct rect r, int x, int y);
/* r without n rows or columns on each side. */
struct rect rect_inset(struct rect r, int nx, int ny);
/* A w × h rectangle in the middle of r, never larger than r. */
struct rect rect_center(struct rect r, int w, int h);

struct cell {
    char s[CLUSTER_BYTES + 1]; /* "" = right half of the wide cell before */
    uint8_t width;             /* 1 or 2; 0 = right half */
    uint8_t role;
};

struct surf;

#define SURF_MAX_W 1000
#define SURF_MAX_H 500

/* NULL when memory is short; sizes are brought into 1…SURF_MAX. */
struct surf *surf_new(int w, int h);
void surf_free(struct surf *s);
/* Blank at the new size; -1 (and unchanged) when memory is short. */
int surf_resize(struct surf *s, int w, int h);
int surf_w(const struct surf *s);
int surf_h(const struct surf *s);
/* Blanks the grid, forgets hits, cursor and clip. */
void surf_clear(struct surf *s);
/* The cells of from; both must have one size. */
void surf_copy(struct surf *to, const struct surf *from);
/* Borrowed; NULL outside. */
const struct cell *surf_cell(const struct surf *s, int x, int y);

/* Narrows the clip to r; returns the former one for surf_unclip(). */
struct rect surf_clip(struct surf *s, struct rect r);
void surf_unclip(struct surf *s, struct rect old);
struct rect surf_bounds(const struct surf *s); /* the clip */

/* ---- text: at most w cells from (x, y); returns the cells used ---- */

int surf_text(struct surf *s, int x, int y, int w, enum role r,
              const char *text);
int surf_textn(struct surf *s, int x, int y, int w, enum role r,
               const char *text, size_t n);
int surf_printf(struct surf *s, int x, int y, int w, enum role r,
                const char *fmt, ...) __attribute__((format(printf, 6, 7)));

enum align { ALIGN_LEFT, ALIGN_RIGHT, ALIGN_CENTER };
/* In a field of w cells, the rest blanked, … where it does not fit. */
void surf_field(struct surf *s, int x, int y, int w, enum align a, enum role r,
                const char *text);

/* ---- shapes ---- */

/* One glyph of one cell: "│", "◆", "x". */
void surf_put(struct surf *s, int x, int y, enum role r, const char *glyph);
void surf_fill(struct surf *s, struct rect area, enum role r,
               const char *glyph);
void surf_hline(struct surf *s, int x, int y, int w, enum role r);
void surf_vline(struct surf *s, int x, int y, int h, enum role r);
/* A pane's title rule: ─ title ──────── right ─. NULL = nothing there. In a
 * focused pane the title has ROLE_FOCUS. */
void surf_rule(struct surf *s, int x, int y, int w, bool focus,
               const char *title, const char *right);
/* Blank inside, a frame around, the title in it. For popups only. */
void surf_box(struct surf *s, struct rect area, const char *title);
/* Changes the role of what is there. */
void surf_role(struct surf *s, struct rect area, enum role r);

/* ---- cursor and hit regions ---- */

void surf_cursor(struct surf *s, int x, int y);
void surf_cursor_off(struct surf *s);
bool surf_cursor_at(const struct surf *s, int *x, int *y);

/* What a click there does: an id and an argument that the drawer chose. Later
 * regions lie above earlier ones. At most SURF_MAX_HITS, more are ignored. */
#define SURF_MAX_HITS 512
struct hit {
    struct rect r;
    int cmd;
    int64_t arg;
};
void surf_hit(struct surf *s, struct rect area, int cmd, int64_t arg);
const struct hit *surf_hit_at(const struct surf *s, int x, int y);

/* ---- what is there, for tests and recordings ---- */

/* Rows of text, trailing blanks cut, each ended by a newline; free() it. */
char *surf_dump(const struct surf *s);
/* The same with role letters; free() it. */
char *surf_dump_roles(const struct surf *s);
/* Every non-ASCII glyph as its ASCII stand-in (╴ no box lines, no braille). */
void surf_to_ascii(struct surf *s);
/* The ASCII stand-in of one glyph, '?' when there is none. */
char glyph_ascii(const char *glyph);

#endif
