/*
 * w_popup - what opens above the panes: the sheet that asks before anything is
 * changed, the menu, the searchable list (help, palette).
 *
 * Each takes the events while it is open and says when it is done. Drawing
 * puts it in the middle of the area, never larger than it, with scrolling
 * where it does not fit.
 *
 *     struct sheet *sh = sheet_new("Promote 3/final → prod", "Promote");
 *     sheet_row(sh, "serving now", ROLE_TEXT, "3/step-20");
 *     sheet_row(sh, "cmd", ROLE_DIM, "fettle promote 3/final prod");
 *     sheet_type(sh, "prod");               // must be typed
 *     if (sheet_event(sh, ev) == POPUP_DONE) promote();
 *
 * Strings are copied. UI thread only.
 */
#ifndef FETTLE_TUI_W_POPUP_H
#define FETTLE_TUI_W_POPUP_H

#include "tui/cmd.h"
#include "tui/input.h"
#include "tui/keymap.h"
#include "tui/surf.h"

enum popup_result {
    POPUP_OPEN, /* still open (redraw) */
    POPUP_DONE,
    POPUP_CANCEL
};

/* ---- sheet: what is, what will be, how to undo, then Enter or Esc ---- */

struct sheet;

/* go: what the button says. NULL when memory is short. */
struct sheet *sheet_new(const char *title, const char *go);
void sheet_free(struct sheet *sh);
/* A line "label  text"; label "" continues, text may hold newlines and wraps.
 * -1 when memory is short: then do not ask, do not act. */
int sheet_row(struct sheet *sh, const char *label, enum role r,
              const char *text);
/* Enter works only after this was typed (names of what will be lost). */
int sheet_type(struct sheet *sh, const char *name);
/* A line to fill in, with a suggestion that the first text typed replaces (a
 * motion keeps it); sheet_value() reads field i from 0.
 * Tab and Up/Down go between fields. */
int sheet_field(struct sheet *sh, const char *label, const char *value);
const char *sheet_value(const struct sheet *sh, int i);
/* Shows an error under the fields; NULL = none. The sheet stays open. */
void sheet_error(struct sheet *sh, const char *text);
enum popup_result sheet_event(struct sheet *sh, const struct ev *ev);
void sheet_draw(struct sheet *sh, struct surf *s, struct rect area);

/* ---- menu: a few things to choose from ---- */

struct menu;

struct menu *menu_new(const char *title);
void menu_free(struct menu *m);
/* key: the letter that chooses it at once, 0 = none. why: NULL, or the reason
 * that it cannot be chosen (greyed). Returns its index, -1 without memory. */
int menu_add(struct menu *m, uint32_t key, const char *text, const char *why);
enum popup_result menu_event(struct menu *m, const struct ev *ev);
int menu_chosen(const struct menu *m); /* index of the selection, -1 = none */
void menu_draw(struct menu *m, struct surf *s, struct rect area);

/* ---- help and palette: the commands of a context path, searched ---- */

struct finder;

/* Help lists by context with docs; the palette ranks all commands by how well
 * they match, with their keys. Borrows km, path and app. */
struct finder *finder_help(struct keymap *km, const char *const *path,
                           int npath, void *app);
struct finder *finder_palette(const struct cmd *c, int n, void *app);
void finder_free(struct finder *f);
enum popup_result finder_event(struct finder *f, const struct ev *ev);
/* After POPUP_DONE: the command to run, or NULL. */
const struct cmd *finder_chosen(const struct finder *f);
void finder_draw(struct finder *f, struct surf *s, struct rect area);

#endif
