/*
 * loop - one thread that waits for keys, descriptors, timers and messages from
 * other threads, and draws when something changed.
 *
 * A frame is drawn after loop_dirty(), at most every 33 ms, a key's frame at
 * once; when nothing is dirty nothing is drawn, sent or woken. Callbacks run
 * on the loop's thread and must not block.
 *
 *     struct loop *l = loop_new(t);
 *     loop_handlers(l, (struct loop_handlers){on_event, on_draw, app});
 *     loop_timer(l, 1000, 1000, tick, app);
 *     loop_run(l);                       // until loop_quit()
 *     loop_free(l);
 *
 * Only loop_post() may be called from other threads.
 */
#ifndef FETTLE_TUI_LOOP_H
#define FETTLE_TUI_LOOP_H

#include "tui/input.h"
#include "tui/surf.h"
#include "tui/term.h"

#include <stdbool.h>
#include <stdint.h>

struct loop;

struct loop_handlers {
    void (*event)(void *arg, const struct ev *ev); /* dirties after keys */
    void (*draw)(void *arg, struct surf *s); /* on a blank grid of the size */
    void *arg;
};

/* term NULL: no terminal, for tests. NULL when memory is short. */
struct loop *loop_new(struct term *t);
void loop_free(struct loop *l);
void loop_handlers(struct loop *l, struct loop_handlers h);

/* Runs until loop_quit(); returns its code. */
int loop_run(struct loop *l);
void loop_quit(struct loop *l, int code);
/* For a loop of one's own over loop_turn(): true after loop_quit(). */
bool loop_stopped(const struct loop *l, int *code);
/* One turn, waiting at most wait_ms (-1 = as long as it takes). */
void loop_turn(struct loop *l, int wait_ms);

/* Draw soon. Cheap; call it whenever what is shown may have changed. */
void loop_dirty(struct loop *l);
int64_t loop_now(const struct loop *l); /* ms, monotonic, this turn's */

typedef void loop_fn(void *arg);
typedef void loop_fd_fn(void *arg, int fd, int revents);

/* Once after ms, then every repeat_ms (0 = once). Returns an id > 0, or -1. */
int loop_timer(struct loop *l, int ms, int repeat_ms, loop_fn *fn, void *arg);
void loop_timer_stop(struct loop *l, int id); /* 0 and gone ids are fine */
/* poll() events; the same fd again replaces. -1 when memory is short. */
int loop_fd(struct loop *l, int fd, int events, loop_fd_fn *fn, void *arg);
void loop_fd_stop(struct loop *l, int fd);
/* From any thread: fn(arg) runs on the loop's thread, in order. -1 when
 * memory is short. What is still queued when the loop is freed runs then. */
int loop_post(struct loop *l, loop_fn *fn, void *arg);

#endif
