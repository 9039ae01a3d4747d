/*
 * loop.c - poll, timers, closures, frames.
 *
 * Invariants: 1. callbacks run only on the loop's thread; 2. a descriptor or
 * timer that a callback stops is not called again, even in the same turn;
 * 3. without anything due the loop sleeps in poll() without a timeout.
 */
#include "tui/loop.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define FRAME_MS 33
#define KEY_FRAME_MS 4 /* keys that come faster share a frame */
#define WATCH_MAX 64
#define TIMER_MAX 64

struct watch {
    int fd, events;
    loop_fd_fn *fn; /* NULL = free */
    void *arg;
};
struct timer {
    int id;
    int64_t at;
    int repeat_ms;
    loop_fn *fn; /* NULL = free */
    void *arg;
};
struct post {
    struct post *next;
    loop_fn *fn;
    void *arg;
};

struct loop {
    struct term *term;
    struct surf *surf;
    struct loop_handlers h;
    int64_t now, frame_at; /* when the last frame was made */
    bool is_dirty, is_urgent, must_quit;
    int code, wake_fd, last_id;
    struct watch watch[WATCH_MAX];
    struct timer timer[TIMER_MAX];
    pthread_mutex_t lock; /* of head, tail */
    struct post *head, **tail;
};

static int64_t clock_ms(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

struct loop *loop_new(struct term *t) {
    struct loop *l = calloc(1, sizeof *l);
    if (!l)
        return NULL;
    l->term = t;
    l->surf = t ? surf_new(term_caps(t)->w, term_caps(t)->h) : surf_new(80, 24);
    l->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (!l->surf || l->wake_fd < 0) {
        surf_free(l->surf);
        if (l->wake_fd >= 0)
            close(l->wake_fd);
        free(l);
        return NULL;
    }
    pthread_mutex_init(&l->lock, NULL);
    l->tail = &l->head;
    l->is_dirty = l->is_urgent = true;
    l->now = clock_ms();
    l->frame_at = l->now - FRAME_MS;
    return l;
}

static void run_posts(struct loop *l) {
    uint64_t count;
    if (read(l->wake_fd, &count, sizeof count) < 0 && errno != EAGAIN)
        return;
    pthread_mutex_lock(&l->lock);
    struct post *p = l->head;
    l->head = NULL;
    l->tail = &l->head;
    pthread_mutex_unlock(&l->lock);
    while (p) {
        struct post *next = p->next;
        p->fn(p->arg);
        free(p);
        p = next;
    }
}

void loop_free(struct loop *l) {
    if (!l)
        return;
    while (l->head)
        run_posts(l);
    pthread_mutex_destroy(&l->lock);
    close(l->wake_fd);
    surf_free(l->surf);
    free(l);
}

void loop_handlers(struct loop *l, struct loop_handlers h) { l->h = h; }
void loop_dirty(struct loop *l) { l->is_dirty = true; }
int64_t loop_now(const struct loop *l) { return l->now; }

void loop_quit(struct loop *l, int code) {
    if (!l->must_quit)
        l->code = code;
    l->must_quit = true;
}

bool loop_stopped(const struct loop *l, int *code) {
    *code = l->code;
    return l->must_quit;
}

/* ---- timers, descriptors, posts ---- */

int loop_timer(struct loop *l, int ms, int repeat_ms, loop_fn *fn, void *arg) {
    for (int i = 0; i < TIMER_MAX; i++) {
        struct timer *t = &l->timer[i];
        if (t->fn)
            continue;
        l->last_id = l->last_id == INT32_MAX ? 1 : l->last_id + 1;
        *t = (struct timer){l->last_id, clock_ms() + (ms > 0 ? ms : 0),
                            repeat_ms, fn, arg};
        return t->id;
    }
    return -1;
}

void loop_timer_stop(struct loop *l, int id) {
    for (int i = 0; i < TIMER_MAX; i++)
        if (l->timer[i].fn && l->timer[i].id == id)
            l->timer[i].fn = NULL;
}

static void run_timers(struct loop *l) {
    int64_t now = clock_ms();
    for (int i = 0; i < TIMER_MAX; i++) {
        struct timer *t = &l->timer[i];
        if (!t->fn || t->at > now)
            continue;
        loop_fn *fn = t->fn;
        void *arg = t->arg;
        if (t->repeat_ms > 0)
            t->at = now + t->repeat_ms; /* late ticks are not made up for */
        else
            t->fn = NULL;
        fn(arg);
    }
}

int loop_fd(struct loop *l, int fd, int events, loop_fd_fn *fn, void *arg) {
    loop_fd_stop(l, fd);
    for (int i = 0; i < WATCH_MAX; i++)
        if (!l->watch[i].fn) {
            l->watch[i] = (struct watch){fd, events, fn, arg};
            return 0;
        }
    return -1;
}

void loop_fd_stop(struct loop *l, int fd) {
    for (int i = 0; i < WATCH_MAX; i++)
        if (l->watch[i].fn && l->watch[i].fd == fd)
            l->watch[i].fn = NULL;
}

int loop_post(struct loop *l, loop_fn *fn, void *arg) {
    uint64_t one = 1;
    struct post *p = malloc(sizeof *p);
    if (!p)
        return -1;
    *p = (struct post){NULL, fn, arg};
    pthread_mutex_lock(&l->lock);
    *l->tail = p;
    l->tail = &p->next;
    pthread_mutex_unlock(&l->lock);
    /* EAGAIN: the counter is full, so the loop is awake anyway. */
    while (write(l->wake_fd, &one, sizeof one) < 0 && errno == EINTR) {
    }
    return 0;
}

/* ---- terminal ---- */

static void on_events(struct loop *l) {
    struct ev ev;
    while (!l->must_quit && term_next(l->term, &ev)) {
        if (ev.kind == EV_RESIZE && surf_resize(l->surf, ev.x, ev.y) < 0)
            loop_quit(l, 1);
        if (ev.kind == EV_RESUME)
            term_repaint(l->term);
        l->is_dirty = l->is_urgent = true;
        if (l->h.event)
            l->h.event(l->h.arg, &ev);
        if (ev.kind == EV_HANGUP)
            loop_quit(l, 0);
    }
}

/* Milliseconds until a frame may be made; -1 = none is wanted, or only the
 * terminal can say when. */
static int frame_wait(struct loop *l) {
    if (!l->is_dirty || !l->h.draw)
        return -1;
    int64_t due = l->frame_at + (l->is_urgent ? KEY_FRAME_MS : FRAME_MS);
    if (l->now < due)
        return (int)(due - l->now);
    if (!l->term)
        return 0;
    if (term_busy(l->term))
        return -1;
    return l->is_urgent || term_ready(l->term) ? 0 : FRAME_MS;
}

static void draw_frame(struct loop *l) {
    surf_clear(l->surf);
    l->is_dirty = l->is_urgent = false;
    l->h.draw(l->h.arg, l->surf);
    l->frame_at = clock_ms();
    if (l->term && term_frame(l->term, l->surf) < 0)
        l->is_dirty = true;
}

/* The shorter of two waits, -1 = for ever. */
static int sooner(int a, int b) { return a < 0 ? b : b < 0 || a < b ? a : b; }

static int time_to_wait(struct loop *l, int wait_ms) {
    int ms = sooner(wait_ms, frame_wait(l));
    if (l->term)
        ms = sooner(ms, term_wait(l->term));
    for (int i = 0; i < TIMER_MAX; i++)
        if (l->timer[i].fn) {
            int64_t left = l->timer[i].at - l->now;
            ms = sooner(ms, left > 0 ? (int)left : 0);
        }
    return ms;
}

void loop_turn(struct loop *l, int wait_ms) {
    struct pollfd p[WATCH_MAX + 3];
    int slot[WATCH_MAX + 3], n = 0;
    l->now = clock_ms();
    p[n++] = (struct pollfd){.fd = l->wake_fd, .events = POLLIN};
    if (l->term) {
        short out = term_busy(l->term) ? POLLOUT : 0;
        p[n++] = (struct pollfd){.fd = term_fd(l->term),
                                 .events = (short)(POLLIN | out)};
        p[n++] =
            (struct pollfd){.fd = term_signal_fd(l->term), .events = POLLIN};
    }
    int first = n;
    for (int i = 0; i < WATCH_MAX; i++)
        if (l->watch[i].fn) {
            slot[n] = i;
            p[n++] = (struct pollfd){.fd = l->watch[i].fd,
                                     .events = (short)l->watch[i].events};
        }
    int rc = poll(p, (nfds_t)n, time_to_wait(l, wait_ms));
    l->now = clock_ms();
    if (l->term && rc > 0 && (p[1].revents || p[2].revents))
        term_pump(l->term);
    if (l->term)
        on_events(l);
    if (rc > 0 && p[0].revents)
        run_posts(l);
    for (int i = first; i < n && rc > 0; i++) {
        struct watch *w = &l->watch[slot[i]];
        if (p[i].revents && w->fn && w->fd == p[i].fd)
            w->fn(w->arg, w->fd, p[i].revents);
    }
    run_timers(l);
    l->now = clock_ms();
    if (!l->must_quit && frame_wait(l) == 0)
        draw_frame(l);
}

int loop_run(struct loop *l) {
    l->must_quit = false;
    l->code = 0;
    while (!l->must_quit)
        loop_turn(l, -1);
    return l->code;
}
