/*
 * w_text - scrollback: lines that arrive, wrapped, followed, searched.
 *
 * Keeps the newest max_lines lines. Text need not be clean. A part can be
 * appended without its newline (a streamed answer), the next continues it.
 * Long lines wrap at blanks; continuation lines keep the line's indent.
 *
 *     struct text *t = text_new(5000);
 *     text_add(t, ROLE_DIM, "14:02:11 ", 9);
 *     text_add(t, ROLE_TEXT, "step 1240 loss 1.2\n", 19);
 *     text_draw(t, s, pane);
 *
 * UI thread only.
 */
#ifndef FETTLE_TUI_W_TEXT_H
#define FETTLE_TUI_W_TEXT_H

#include "tui/surf.h"

struct text;

#define TEXT_LINE_MAX 65536 /* bytes; longer lines are broken there */

struct text *text_new(int max_lines); /* NULL when memory is short */
void text_free(struct text *t);
void text_clear(struct text *t);
/* Appends n bytes; \n ends a line. -1 when memory is short (text dropped). */
int text_add(struct text *t, enum role r, const char *s, size_t n);
int text_addf(struct text *t, enum role r, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
int text_lines(const struct text *t); /* unwrapped, an open last one too */

void text_wrap(struct text *t, bool on); /* on by default */
bool text_wrapped(const struct text *t);
/* Hanging indent of wrapped parts: -1 = the line's own (default). */
void text_indent(struct text *t, int cells);
/* Following keeps the newest line in view; scrolling up stops it. */
void text_follow(struct text *t, bool on);
bool text_following(const struct text *t);
void text_scroll(struct text *t, int rows); /* negative = up */
void text_top(struct text *t);
/* j k, arrows, C-d C-u, C-f C-b, PgUp PgDn, g G, Home End, f (follow),
 * w (wrap), n N (search). True when it did something. */
bool text_key(struct text *t, uint32_t key);

/* Case-insensitive (ASCII) search; hits are drawn in ROLE_MATCH. "" ends it.
 * Returns the number of lines that match and goes to the last of them. */
int text_search(struct text *t, const char *what);
bool text_search_next(struct text *t, bool up);

/* Newest at the bottom when it fills the area, else from the top. */
void text_draw(struct text *t, struct surf *s, struct rect r);
/* Rows that all lines take at a width. */
int text_rows(struct text *t, int w);

#endif
