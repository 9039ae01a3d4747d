/*
 * pty.h - a small application on a pseudo-terminal, watched through libvterm.
 *
 * The child reports after every turn how many events it has seen and how many
 * bytes it has sent, so the parent knows when it has read a frame to its end:
 * no sleeps. Parent and child draw with the same function, so the emulator's
 * screen can be compared cell by cell with what was meant.
 */
#ifndef FETTLE_TESTS_TUI_PTY_H
#define FETTLE_TESTS_TUI_PTY_H

#include "tui/loop.h"
#include "tui/w_chart.h"
#include "tui/w_list.h"
#include "tui/utf8.h"

#include "tests/quick.h"
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <pty.h>
#include <utmp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>
#include <termios.h>
#include <unistd.h>
#include <vterm.h>

/* What the application shows; changed by keys, see app.h. */
struct state {
    int selected, points, hostile, calm;
};

struct report {
    int events, w, h, idle, glyphs, light, color;
    uint64_t bytes;
    char note[128];
};

struct pty {
    pid_t pid;
    int fd;       /* master */
    int ctl;      /* reports */
    uint64_t got; /* bytes read, all in all */
    char *log;    /* all of them */
    size_t cap;
    VTerm *vt;
    VTermScreen *screen;
    int w, h;
    int altscreen, cursor; /* as the emulator was told */
    int events;            /* sent, that the child will count */
    struct report last;
    struct termios before;
    struct state st;
};

/* ---- the application, drawn by both sides ---- */

#define POINTS_MAX 4000

struct app {
    struct state st;
    struct term *term;
    struct loop *loop;
    int ctl, events, drawn;
    char note[128];
};

static int app_count(void *arg) {
    (void)arg;
    return 40;
}
static int64_t app_id(void *arg, int row) {
    (void)arg;
    return row + 1;
}
static void app_cell(void *arg, int row, int col, char *buf, size_t cap,
                     enum role *r) {
    const struct state *st = arg;
    if (col == 0)
        snprintf(buf, cap,
                 st->hostile ? "\033]52;c;x\007\xc2\x9b"
                               "2J\033[2Jrun-%d"
                             : "run-of-some-name-%d",
                 row);
    else if (col == 1)
        snprintf(buf, cap, "%d/4000", row * 37);
    else
        snprintf(buf, cap, "%s", row % 3 ? "DONE" : "漢字 ●");
    if (col == 2)
        *r = row % 3 ? ROLE_DIM : ROLE_OK;
}

/* List and chart are rebuilt for each picture, from the state only. */
static void app_draw(const struct state *st, struct surf *s, enum glyphs g) {
    static const struct list_col cols[] = {{"NAME", 10, 24, 1, 9, ALIGN_LEFT},
                                           {"STEP", 6, 10, 0, 5, ALIGN_RIGHT},
                                           {"ST", 4, 8, 0, 3, ALIGN_LEFT}};
    int w = surf_w(s), h = surf_h(s);
    struct state copy = *st;
    struct list *l = list_new(
        (struct list_src){app_count, app_id, app_cell, &copy}, cols, 3);
    list_select_row(l, st->selected);
    surf_rule(s, 0, 0, w, true, "Jobs", "40");
    list_draw(l, s, (struct rect){0, 1, w, h / 2 - 1}, true);
    list_free(l);
    struct chart_pt *pt = calloc(POINTS_MAX, sizeof *pt);
    for (int i = 0; i < st->points; i++) {
        double v = 1.2 + 2 * exp(-i / 300.) + .1 * sin(i * 12.9) * sin(i * 3.7);
        pt[i] = (struct chart_pt){i, i, v, v, v, v, 1, 0};
    }
    struct chart *c = chart_new();
    struct chart_series se = {
        .pt = pt, .n = st->points, .role = ROLE_S1, .label = 'a'};
    chart_plan(c, POINTS_MAX);
    chart_glyphs(c, g);
    chart_range_y(c, 1, 3.5);
    chart_draw(
        c, s, (struct rect){0, h / 2, w, h - h / 2},
        &(struct chart_data){
            .series = &se, .nseries = 1, .title = "loss", .x_name = "step"});
    chart_free(c);
    free(pt);
}

static void *crash_thread(void *arg) {
    (void)arg;
    raise(SIGSEGV);
    return NULL;
}

static void app_event(void *arg, const struct ev *ev) {
    struct app *a = arg;
    pthread_t t;
    if (ev->kind != EV_KEY) {
        a->events += ev->kind == EV_PASTE;
        if (ev->kind == EV_PASTE)
            snprintf(a->note, sizeof a->note, "paste %zu", ev->n);
        return;
    }
    a->events++;
    switch (ev->key) {
    case 'j': a->st.selected = (a->st.selected + 1) % 40; break;
    case 'k': a->st.selected = (a->st.selected + 39) % 40; break;
    case 'p': a->st.points = (a->st.points + 25) % POINTS_MAX; break;
    case 'x': a->st.hostile = !a->st.hostile; break;
    case 'q': loop_quit(a->loop, 7); break;
    case 'l': term_repaint(a->term); break;
    case 'z': term_suspend(a->term); break;
    case 'S': raise(SIGSEGV); break;
    case 'A': abort();
    case 'T':
        pthread_create(&t, NULL, crash_thread, NULL);
        pthread_join(t, NULL);
        break;
    case 'e':
        if (write(STDERR_FILENO, "noise\033[2J", 9) == 9)
            term_messages(a->term, a->note, sizeof a->note);
        break;
    default: break;
    }
}

static void app_draw_frame(void *arg, struct surf *s) {
    struct app *a = arg;
    app_draw(&a->st, s, term_caps(a->term)->glyphs);
    a->drawn = a->events;
}

static void app_report(struct app *a) {
    const struct term_caps *c = term_caps(a->term);
    struct report r = {.events = a->events,
                       .w = c->w,
                       .h = c->h,
                       .idle = a->drawn == a->events && !term_busy(a->term),
                       .glyphs = (int)c->glyphs,
                       .light = c->light,
                       .color = (int)c->color,
                       .bytes = term_bytes(a->term)};
    snprintf(r.note, sizeof r.note, "%s", a->note);
    if (write(a->ctl, &r, sizeof r) < 0)
        return;
}

static int app_main(int ctl) {
    struct app a = {.ctl = ctl};
    int code = 0;
    char why[200];
    a.term = term_open(&(struct term_opts){0}, why, sizeof why);
    if (!a.term) {
        struct report r = {.events = -1};
        snprintf(r.note, sizeof r.note, "%.120s", why);
        return write(ctl, &r, sizeof r) > 0 ? 3 : 4;
    }
    a.loop = loop_new(a.term);
    loop_handlers(a.loop,
                  (struct loop_handlers){app_event, app_draw_frame, &a});
    /* loop_run(), with a report after every turn. */
    while (!loop_stopped(a.loop, &code)) {
        loop_turn(a.loop, -1);
        app_report(&a);
    }
    loop_free(a.loop);
    term_close(a.term);
    return code;
}

/* ---- the other side ---- */

static int64_t ms_now(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int on_prop(VTermProp prop, VTermValue *v, void *user) {
    struct pty *p = user;
    if (prop == VTERM_PROP_ALTSCREEN)
        p->altscreen = v->boolean;
    if (prop == VTERM_PROP_CURSORVISIBLE)
        p->cursor = v->boolean;
    return 1;
}

static const VTermScreenCallbacks CALLBACKS = {.settermprop = on_prop};

/* Waits like a shell: says when the job stops, continues it. */
static int shell_main(int ctl) {
    pid_t job = fork();
    if (job == 0) {
        setpgid(0, 0);
        while (tcgetpgrp(0) != getpid())
            sched_yield();
        _exit(app_main(ctl));
    }
    setpgid(job, job);
    signal(SIGTTOU, SIG_IGN);
    tcsetpgrp(0, job);
    for (;;) {
        int status;
        if (waitpid(job, &status, WUNTRACED) != job)
            return 9;
        if (!WIFSTOPPED(status))
            return WIFEXITED(status) ? WEXITSTATUS(status) : 10;
        struct termios t;
        struct report r = {.events = -2};
        tcgetattr(0, &t);
        r.idle = (t.c_lflag & ECHO) && (t.c_lflag & ICANON);
        if (write(ctl, &r, sizeof r) < 0)
            return 11;
        kill(-job, SIGCONT);
    }
}

/* env: NULL-terminated NAME=VALUE list on top of TERM=xterm-256color and
 * LC_ALL=C.UTF-8. as_shell: a process between, as a shell would be. */
static struct pty *pty_start(int w, int h, const char *const *env,
                             int as_shell) {
    struct pty *p = calloc(1, sizeof *p);
    struct winsize ws = {.ws_row = (unsigned short)h,
                         .ws_col = (unsigned short)w};
    int slave, ctl[2];
    ck_assert_int_eq(pipe2(ctl, 0), 0);
    ck_assert_int_eq(openpty(&p->fd, &slave, NULL, NULL, &ws), 0);
    ck_assert_int_eq(tcgetattr(slave, &p->before), 0);
    p->pid = fork();
    if (p->pid == 0) {
        close(p->fd);
        close(ctl[0]);
        fcntl(ctl[1], F_SETFD, FD_CLOEXEC);
        login_tty(slave);
        setenv("TERM", "xterm-256color", 1);
        setenv("LC_ALL", "C.UTF-8", 1);
        unsetenv("NO_COLOR");
        unsetenv("COLORFGBG");
        for (; env && *env; env++)
            putenv(strdup(*env));
        signal(SIGHUP, SIG_DFL);
        _exit(as_shell ? shell_main(ctl[1]) : app_main(ctl[1]));
    }
    close(slave);
    close(ctl[1]);
    p->ctl = ctl[0];
    p->w = w;
    p->h = h;
    p->cursor = 1;
    p->vt = vterm_new(h, w);
    vterm_set_utf8(p->vt, 1);
    p->screen = vterm_obtain_screen(p->vt);
    vterm_screen_enable_altscreen(p->screen, 1);
    vterm_screen_set_callbacks(p->screen, &CALLBACKS, p);
    vterm_screen_reset(p->screen, 1);
    return p;
}

/* Takes what can be read; false when the other end is gone. */
static int pty_read(struct pty *p) {
    char buf[16384], answer[256];
    ssize_t n = read(p->fd, buf, sizeof buf);
    if (n <= 0)
        return n < 0 && errno == EINTR;
    if (p->got + (size_t)n > p->cap) {
        p->cap = (p->got + (size_t)n) * 2;
        p->log = realloc(p->log, p->cap);
    }
    memcpy(p->log + p->got, buf, (size_t)n);
    p->got += (uint64_t)n;
    vterm_input_write(p->vt, buf, (size_t)n);
    size_t k = vterm_output_read(p->vt, answer, sizeof answer);
    if (k > 0 && write(p->fd, answer, k) < 0)
        return 0;
    return 1;
}

/* Reads until the last report holds and all its bytes are here; false after a
 * while, or when the child could not start. */
static int pty_settle(struct pty *p) {
    int64_t end = ms_now() + 10000;
    for (;;) {
        const struct report *r = &p->last;
        if (r->events == p->events && r->idle && r->w == p->w && r->h == p->h &&
            r->bytes == p->got)
            return 1;
        struct pollfd f[2] = {{.fd = p->fd, .events = POLLIN},
                              {.fd = p->ctl, .events = POLLIN}};
        int left = (int)(end - ms_now());
        if (left <= 0 || poll(f, 2, left) < 0)
            return 0;
        int is_there = !f[0].revents || pty_read(p);
        if ((f[1].revents || !is_there) &&
            read(p->ctl, &p->last, sizeof p->last) != (ssize_t)sizeof p->last)
            return 0;
        if (p->last.events == -1 || !is_there)
            return 0;
    }
}

/* Sends bytes that make n events, waits until they are drawn and read. */
static void pty_keys(struct pty *p, const char *bytes, int n) {
    p->events += n;
    ck_assert_int_eq(write(p->fd, bytes, strlen(bytes)),
                     (ssize_t)strlen(bytes));
    ck_assert_msg(pty_settle(p), "no answer to %s", bytes);
}

static void pty_resize(struct pty *p, int w, int h) {
    struct winsize ws = {.ws_row = (unsigned short)h,
                         .ws_col = (unsigned short)w};
    vterm_set_size(p->vt, h, w);
    p->w = w;
    p->h = h;
    ck_assert_int_eq(ioctl(p->fd, TIOCSWINSZ, &ws), 0);
}

/* Reads what comes until the child is gone; returns its wait status. */
static int pty_wait(struct pty *p) {
    int status = -1;
    while (pty_read(p)) {
    }
    waitpid(p->pid, &status, 0);
    p->pid = 0;
    return status;
}

static void pty_free(struct pty *p) {
    if (p->pid > 0) {
        kill(p->pid, SIGKILL);
        waitpid(p->pid, NULL, 0);
    }
    vterm_free(p->vt);
    if (p->fd >= 0)
        close(p->fd);
    close(p->ctl);
    free(p->log);
    free(p);
}

/* Fails unless the emulator shows what the state looks like. */
static void pty_check_screen(struct pty *p) {
    struct surf *s = surf_new(p->w, p->h);
    app_draw(&p->st, s, (enum glyphs)p->last.glyphs);
    if (p->last.glyphs == GLYPH_ASCII)
        surf_to_ascii(s);
    for (int y = 0; y < p->h; y++)
        for (int x = 0; x < p->w; x++) {
            VTermScreenCell got;
            char text[64];
            size_t n = 0;
            const struct cell *want = surf_cell(s, x, y);
            if (want->width == 0)
                continue;
            vterm_screen_get_cell(p->screen, (VTermPos){y, x}, &got);
            for (int i = 0; i < VTERM_MAX_CHARS_PER_CELL && got.chars[i]; i++)
                n += utf8_encode(got.chars[i], text + n);
            text[n] = 0;
            ck_assert_msg(strcmp(n ? text : " ", want->s) == 0,
                          "%dx%d at %d,%d: \"%s\" not \"%s\"", p->w, p->h, x, y,
                          text, want->s);
        }
    surf_free(s);
}

#endif
