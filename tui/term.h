/*
 * term - the terminal: opened, drawn on, read from, and always put back.
 *
 * The only module that writes to the tty. ncurses works out what changed
 * between two frames, into a buffer; the bytes leave without ever blocking,
 * and while some still wait no new frame is made, so a slow line shows fewer
 * frames, not older ones. The terminal is restored on term_close(), on
 * SIGTERM and SIGHUP (as EV_HANGUP, so that the application leaves by the
 * front door), on stop and continue, and by a signal handler after a crash in
 * any thread.
 *
 *     char why[160];
 *     struct term *t = term_open(&(struct term_opts){0}, why, sizeof why);
 *     ... loop_run() ...
 *     term_close(t);
 *
 * One terminal a process, opened before other threads start: term_open()
 * blocks SIGWINCH, SIGTERM, SIGHUP, SIGINT, SIGTSTP, SIGCONT and SIGPIPE and
 * reads them from a descriptor; a child process must call
 * term_child_signals() (between fork and exec) to get them back.
 * UI thread only.
 */
#ifndef FETTLE_TUI_TERM_H
#define FETTLE_TUI_TERM_H

#include "tui/input.h"
#include "tui/style.h"
#include "tui/surf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct term_opts {
    const char *stderr_path; /* where fd 2 goes meanwhile; NULL = memory; see
                                term_messages() */
    int color;               /* 0 = auto, else 1 + enum color_mode */
    bool light;              /* light background (else asked of the terminal) */
    bool mouse;              /* off unless asked for */
    bool ascii;              /* ASCII glyphs though the locale is UTF-8 */
    int esc_ms;              /* 0 = INPUT_ESC_MS */
};

struct term_caps {
    int w, h;
    enum color_mode color;
    enum glyphs glyphs;
    bool light, utf8;
    int rtt_ms; /* round trip of the last acknowledged frame, -1 unknown */
};

struct term;

/* NULL and why, one line: what is wrong and what to do about it. */
struct term *term_open(const struct term_opts *o, char *why, size_t cap);
/* Restores the terminal, signals and stderr. NULL is fine. */
void term_close(struct term *t);
/* In a child before exec: default signals, empty mask. */
void term_child_signals(void);

const struct term_caps *term_caps(const struct term *t);

/* ---- for loop.c ---- */

int term_fd(const struct term *t);        /* poll for input (and output) */
int term_signal_fd(const struct term *t); /* poll for input */
bool term_busy(const struct term *t);     /* bytes wait: poll POLLOUT */
/* Takes what can be read, writes what can be written. */
void term_pump(struct term *t);
/* The next event; false when there is none. */
bool term_next(struct term *t, struct ev *ev);
/* Milliseconds until term_next() wants to be asked again, -1 = never. */
int term_wait(const struct term *t);

/* Shows the surface: what changed since the last frame is queued and as much
 * as possible written. Returns the bytes that this frame takes, 0 when nothing
 * changed, -1 when the line is still busy with the last one (try later). */
long term_frame(struct term *t, const struct surf *s);
/* False while the line is too far behind for a frame nobody asked for. */
bool term_ready(struct term *t);

/* ---- for the application ---- */

/* The next frame repaints everything (C-l). */
void term_repaint(struct term *t);
/* Gives the terminal back as if by C-z; returns after SIGCONT. */
void term_suspend(struct term *t);
/* Leave and enter again, to run an editor. */
void term_leave(struct term *t);
void term_enter(struct term *t);
void term_bell(struct term *t);
/* The last bytes written to stderr since opening; sanitise. Returns how many
 * were copied (a 0 follows). */
size_t term_messages(const struct term *t, char *buf, size_t cap);
/* All bytes sent so far. */
uint64_t term_bytes(const struct term *t);

#endif
