/*
 * paint - two frames in, the bytes that turn one into the other out. The only
 * user of ncurses; private to term.c.
 *
 * ncurses writes into a memory file, never to the tty: producing a frame
 * cannot block, and its size is known before it is sent.
 *
 *     struct paint *p = paint_open("xterm-256color", 80, 24, why, cap);
 *     paint_frame(p, s, &theme);
 *     size_t n = paint_take(p, &bytes);
 *
 * One in a process, since curses has but one screen. UI thread only.
 */
#ifndef FETTLE_TUI_PAINT_H
#define FETTLE_TUI_PAINT_H

#include "tui/style.h"
#include "tui/surf.h"

struct paint;

struct paint *paint_open(const char *term, int w, int h, char *why, size_t cap);
void paint_close(struct paint *p); /* emits nothing; see paint_leave */
int paint_colors(const struct paint *p);
bool paint_utf8(const struct paint *p);
void paint_resize(struct paint *p, int w, int h);
void paint_all(struct paint *p); /* the next frame repaints everything */
/* ascii: only ASCII glyphs leave. */
void paint_frame(struct paint *p, const struct surf *s, enum color_mode mode,
                 bool light, bool ascii);
/* Leaves the alternate screen; the next frame enters it again. */
void paint_leave(struct paint *p);
/* The bytes since the last call; borrowed until the next call. */
size_t paint_take(struct paint *p, const char **bytes);
/* What paint_leave would send from any state: for a crash. Returns length. */
size_t paint_restore(const struct paint *p, char *buf, size_t cap);

#endif
