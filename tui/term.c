/*
 * term.c - the tty: modes, signals, bytes in and out.
 *
 * Invariants: 1. only put_out()'s queue reaches the tty while it is open (and
 * guard.c after a crash); 2. the tty's own open file is non-blocking, the
 * shell's stays as it was; 3. modes that were switched on are in the restore
 * string before they are; 4. no frame is made while the last one waits.
 */
#include "tui/term.h"
#include "tui/guard.h"
#include "tui/paint.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define OUT_MAX (8 << 20)
#define RESIZE_MS 30    /* a burst of resizes is one */
#define ACK_AFTER 512   /* bytes that nobody acknowledged */
#define ACK_WINDOW 1024 /* at least this much may be under way */
#define ACK_LOST_MS 2000
#define ACK_LOST_MAX 2 /* then the terminal does not answer */
#define UNACKED_FRAME_MS 250
#define MSG_MAX (1 << 20)

static const char MODES_ON[] = "\033[?2004h";
static const char MODES_OFF[] = "\033[?2004l";
static const char MOUSE_ON[] = "\033[?1000h\033[?1002h\033[?1006h";
static const char MOUSE_OFF[] = "\033[?1006l\033[?1002l\033[?1000l";

struct term {
    int fd, sig_fd;
    struct term_opts opts;
    struct term_caps caps;
    struct input *in;
    struct paint *paint;
    struct termios saved;
    sigset_t old_mask;
    struct guard guard;
    struct guard_old guard_old;
    bool is_guarded;
    int err_fd, msg_fd; /* the real stderr; where it goes meanwhile; or -1 */
    char *out;          /* bytes at … len wait */
    size_t out_at, out_len, out_cap;
    uint64_t sent; /* into the queue, all in all */
    int64_t resize_at;
    bool hung_up;    /* the tty is gone */
    bool must_leave; /* that, or a signal said so */
    bool leave_told, resumed;
    struct { /* end-to-end acknowledgement */
        bool waits, is_dead;
        int lost;
        uint64_t mark, done; /* bytes asked about; known to have arrived */
        int64_t asked_ms;
        uint64_t window;
    } ack;
    bool bg_asked;
    int64_t frame_ms;
};

static int64_t now_ms(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* ---- output ---- */

static void put_out(struct term *t, const char *s, size_t n) {
    if (n == 0 || t->hung_up)
        return;
    if (t->out_at == t->out_len)
        t->out_at = t->out_len = 0;
    if (t->out_len + n > t->out_cap) {
        size_t want = (t->out_len + n) * 2;
        char *p = t->out_len + n <= OUT_MAX ? realloc(t->out, want) : NULL;
        if (!p) { /* what the terminal shows is unknown now: start over */
            paint_all(t->paint);
            return;
        }
        t->out = p;
        t->out_cap = want;
    }
    memcpy(t->out + t->out_len, s, n);
    t->out_len += n;
    t->sent += n;
}

static void puts_out(struct term *t, const char *s) {
    put_out(t, s, strlen(s));
}

static void write_some(struct term *t) {
    while (t->out_at < t->out_len && !t->hung_up) {
        ssize_t n = write(t->fd, t->out + t->out_at, t->out_len - t->out_at);
        if (n > 0)
            t->out_at += (size_t)n;
        else if (n < 0 && errno == EINTR)
            continue;
        else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return;
        else
            t->hung_up = t->must_leave = true;
    }
    if (t->hung_up)
        t->out_at = t->out_len = 0;
}

/* For leaving: waits a while for a slow line. */
static void write_all(struct term *t, int ms) {
    int64_t end = now_ms() + ms;
    write_some(t);
    while (t->out_at < t->out_len) {
        struct pollfd p = {.fd = t->fd, .events = POLLOUT};
        int64_t left = end - now_ms();
        if (left <= 0 || (poll(&p, 1, (int)left) < 0 && errno != EINTR) ||
            p.revents & (POLLERR | POLLNVAL))
            return;
        write_some(t);
    }
}

static void take_painted(struct term *t) {
    const char *s;
    size_t n = paint_take(t->paint, &s);
    put_out(t, s, n);
}

/* ---- modes ---- */

static void set_raw(struct term *t) {
    struct termios raw = t->saved;
    raw.c_iflag &= ~(tcflag_t)(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR |
                               IGNCR | ICRNL | IXON | IXOFF);
    raw.c_oflag &= ~(tcflag_t)OPOST;
    raw.c_lflag &= ~(tcflag_t)(ECHO | ECHONL | ICANON | ISIG | IEXTEN);
    raw.c_cflag &= ~(tcflag_t)(CSIZE | PARENB);
    raw.c_cflag |= CS8;
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    tcsetattr(t->fd, TCSANOW, &raw);
}

static void modes_on(struct term *t) {
    puts_out(t, MODES_ON);
    if (t->opts.mouse)
        puts_out(t, MOUSE_ON);
}

static void modes_off(struct term *t) {
    if (t->opts.mouse)
        puts_out(t, MOUSE_OFF);
    puts_out(t, MODES_OFF);
}

static void get_size(const struct term *t, int *w, int *h) {
    struct winsize ws = {0};
    *w = 80;
    *h = 24;
    if (ioctl(t->fd, TIOCGWINSZ, &ws) == 0 && ws.ws_col && ws.ws_row) {
        *w = ws.ws_col < SURF_MAX_W ? ws.ws_col : SURF_MAX_W;
        *h = ws.ws_row < SURF_MAX_H ? ws.ws_row : SURF_MAX_H;
    }
}

/* ---- stderr ---- */

/* Only a stderr that is the terminal is taken away from it. */
static void redirect_stderr(struct term *t) {
    t->err_fd = t->msg_fd = -1;
    if (!isatty(STDERR_FILENO))
        return;
    const char *path = t->opts.stderr_path;
    int fd = path ? open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600)
                  : memfd_create("fettle-stderr", MFD_CLOEXEC);
    if (fd < 0)
        return;
    if (!path)
        fcntl(fd, F_SETFL, O_APPEND);
    t->err_fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    if (t->err_fd < 0) {
        close(fd);
        return;
    }
    fflush(stderr);
    dup2(fd, STDERR_FILENO);
    t->msg_fd = fd;
}

static void restore_stderr(struct term *t) {
    if (t->err_fd >= 0) {
        fflush(stderr);
        dup2(t->err_fd, STDERR_FILENO);
        close(t->err_fd);
        close(t->msg_fd);
        t->err_fd = t->msg_fd = -1;
    }
}

size_t term_messages(const struct term *t, char *buf, size_t cap) {
    struct stat st;
    if (cap == 0)
        return 0;
    buf[0] = 0;
    if (t->msg_fd < 0 || fstat(t->msg_fd, &st) < 0)
        return 0;
    off_t room = (off_t)cap - 1;
    ssize_t n = pread(t->msg_fd, buf, (size_t)room,
                      st.st_size > room ? st.st_size - room : 0);
    buf[n > 0 ? n : 0] = 0;
    return n > 0 ? (size_t)n : 0;
}

/* ---- signals ---- */

static void signal_set(sigset_t *set) {
    static const int sig[] = {SIGWINCH, SIGTERM, SIGHUP, SIGINT,
                              SIGTSTP,  SIGCONT, SIGPIPE};
    sigemptyset(set);
    for (size_t i = 0; i < sizeof sig / sizeof *sig; i++)
        sigaddset(set, sig[i]);
}

void term_child_signals(void) {
    sigset_t none;
    sigemptyset(&none);
    struct sigaction dfl = {.sa_handler = SIG_DFL};
    for (int s = 1; s < NSIG; s++)
        sigaction(s, &dfl, NULL);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void on_signals(struct term *t) {
    struct signalfd_siginfo si;
    while (read(t->sig_fd, &si, sizeof si) == (ssize_t)sizeof si) {
        switch ((int)si.ssi_signo) {
        case SIGWINCH:
            if (!t->resize_at)
                t->resize_at = now_ms() + RESIZE_MS;
            break;
        case SIGTERM:
        case SIGHUP:
        case SIGINT: t->must_leave = true; break;
        case SIGTSTP: term_suspend(t); break;
        case SIGCONT:
            set_raw(t);
            term_repaint(t);
            t->resumed = true;
            break;
        default: break;
        }
    }
}

/* ---- open, close ---- */

/* Which glyphs and colours; what the terminal says later may change light. */
static void find_caps(struct term *t, const char *term) {
    struct term_caps *c = &t->caps;
    const char *fgbg = getenv("COLORFGBG");
    c->color = style_mode(getenv("NO_COLOR"), paint_colors(t->paint),
                          t->opts.color - 1);
    c->utf8 = paint_utf8(t->paint);
    c->glyphs = !c->utf8 || t->opts.ascii    ? GLYPH_ASCII
                : strcmp(term, "linux") == 0 ? GLYPH_BLOCK
                                             : GLYPH_BRAILLE;
    c->light = t->opts.light;
    const char *bg = fgbg ? strrchr(fgbg, ';') : NULL;
    if (bg && (strcmp(bg, ";7") == 0 || strcmp(bg, ";15") == 0))
        c->light = true;
    c->rtt_ms = -1;
}

/* Asks for the background colour where that is safe to ask. */
static void ask_background(struct term *t, const char *term) {
    static const char *const knows[] = {"xterm", "tmux",  "screen", "rxvt",
                                        "foot",  "alacr", "kitty",  "st-"};
    if (t->caps.color == COLOR_MONO || t->caps.light)
        return;
    for (size_t i = 0; i < sizeof knows / sizeof *knows; i++)
        if (strncmp(term, knows[i], strlen(knows[i])) == 0) {
            puts_out(t, "\033]11;?\033\\");
            t->bg_asked = true;
            return;
        }
}

static int open_tty(char *why, size_t cap) {
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) {
        snprintf(why, cap,
                 "standard input and output are not a terminal "
                 "(use the verbs: fettle help)");
        return -1;
    }
    const int flags = O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC;
    char name[128];
    int fd = open("/dev/tty", flags);
    if (fd < 0 && ttyname_r(STDIN_FILENO, name, sizeof name) == 0)
        fd = open(name, flags);
    if (fd < 0)
        snprintf(why, cap, "cannot open the terminal: errno %d", errno);
    return fd;
}

static int arm_guard(struct term *t) {
    struct guard *g = &t->guard;
    g->tty = t->fd;
    g->err_fd = t->err_fd;
    g->msg_fd = t->opts.stderr_path ? -1 : t->msg_fd;
    g->termios = t->saved;
    int n = snprintf(g->bytes, sizeof g->bytes, "%s%s", MOUSE_OFF, MODES_OFF);
    g->n = (size_t)n;
    g->n += paint_restore(t->paint, g->bytes + n, sizeof g->bytes - (size_t)n);
    return guard_set(g, &t->guard_old);
}

struct term *term_open(const struct term_opts *o, char *why, size_t cap) {
    sigset_t set;
    const char *term = getenv("TERM");
    struct term *t = calloc(1, sizeof *t);
    if (!t) {
        snprintf(why, cap, "out of memory");
        return NULL;
    }
    t->opts = *o;
    t->sig_fd = t->err_fd = t->msg_fd = -1;
    signal_set(&set);
    sigprocmask(SIG_BLOCK, &set, &t->old_mask);
    t->fd = open_tty(why, cap);
    if (t->fd < 0)
        goto fail;
    if (tcgetattr(t->fd, &t->saved) < 0) {
        snprintf(why, cap, "cannot read the terminal's settings: errno %d",
                 errno);
        goto fail;
    }
    get_size(t, &t->caps.w, &t->caps.h);
    t->in = input_new(o->esc_ms);
    t->paint = t->in ? paint_open(term, t->caps.w, t->caps.h, why, cap) : NULL;
    if (!t->paint) {
        if (!t->in)
            snprintf(why, cap, "out of memory");
        goto fail;
    }
    t->sig_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    redirect_stderr(t);
    if (t->sig_fd < 0 || arm_guard(t) < 0) {
        snprintf(why, cap,
                 "cannot watch for signals (descriptor %d in use, "
                 "or too many open files)",
                 GUARD_FD);
        goto fail;
    }
    t->is_guarded = true;
    find_caps(t, term);
    set_raw(t);
    modes_on(t);
    ask_background(t, term);
    write_some(t);
    return t;
fail:
    term_close(t);
    return NULL;
}

/* Answers that are still on their way must not become the shell's input. */
static void drain_replies(struct term *t) {
    bool waits = t->bg_asked || (t->ack.waits && t->caps.rtt_ms >= 0);
    int64_t end = now_ms() + (waits ? 100 : 0);
    char buf[4096];
    while (waits && !t->hung_up) {
        struct pollfd p = {.fd = t->fd, .events = POLLIN};
        struct ev ev;
        int64_t left = end - now_ms();
        if (left <= 0 || poll(&p, 1, (int)left) <= 0)
            return;
        ssize_t n = read(t->fd, buf, sizeof buf);
        if (n <= 0)
            return;
        input_feed(t->in, buf, (size_t)n, now_ms());
        while (input_next(t->in, now_ms(), &ev))
            if (ev.kind == EV_REPLY) {
                t->bg_asked &= ev.reply != REPLY_BG;
                t->ack.waits &= ev.reply != REPLY_ACK;
            }
        waits = t->bg_asked || (t->ack.waits && t->caps.rtt_ms >= 0);
    }
}

/* The screen as it was before; waits for a slow line at most ms. */
static void leave_screen(struct term *t, int ms) {
    modes_off(t);
    paint_leave(t->paint);
    take_painted(t);
    write_all(t, ms);
}

void term_close(struct term *t) {
    struct signalfd_siginfo si;
    if (!t)
        return;
    if (t->is_guarded) {
        leave_screen(t, t->must_leave ? 100 : 1000);
        drain_replies(t);
        if (!t->hung_up)
            tcsetattr(t->fd, TCSAFLUSH, &t->saved);
        guard_clear(&t->guard_old);
    }
    restore_stderr(t);
    if (t->sig_fd >= 0) { /* what still pends was meant for the screen */
        while (read(t->sig_fd, &si, sizeof si) == (ssize_t)sizeof si) {
        }
        close(t->sig_fd);
    }
    sigprocmask(SIG_SETMASK, &t->old_mask, NULL);
    paint_close(t->paint);
    input_free(t->in);
    if (t->fd >= 0)
        close(t->fd);
    free(t->out);
    free(t);
}

void term_leave(struct term *t) {
    leave_screen(t, 1000);
    tcsetattr(t->fd, TCSADRAIN, &t->saved);
}

void term_enter(struct term *t) {
    int w, h;
    set_raw(t);
    modes_on(t);
    get_size(t, &w, &h);
    if (w != t->caps.w || h != t->caps.h)
        t->resize_at = now_ms();
    paint_all(t->paint);
}

void term_suspend(struct term *t) {
    struct sigaction dfl = {.sa_handler = SIG_DFL}, old;
    sigset_t tstp;
    term_leave(t);
    sigemptyset(&tstp);
    sigaddset(&tstp, SIGTSTP);
    sigaction(SIGTSTP, &dfl, &old);
    kill(0, SIGTSTP); /* the whole job, as the key would */
    sigprocmask(SIG_UNBLOCK, &tstp, NULL);
    /* stopped here until SIGCONT */
    sigprocmask(SIG_BLOCK, &tstp, NULL);
    sigaction(SIGTSTP, &old, NULL);
    term_enter(t);
    t->resumed = true;
}

/* ---- descriptors, events ---- */

const struct term_caps *term_caps(const struct term *t) { return &t->caps; }
int term_fd(const struct term *t) { return t->fd; }
int term_signal_fd(const struct term *t) { return t->sig_fd; }
bool term_busy(const struct term *t) { return t->out_at < t->out_len; }
uint64_t term_bytes(const struct term *t) { return t->sent; }

void term_pump(struct term *t) {
    char buf[16384];
    on_signals(t);
    write_some(t);
    for (int i = 0; i < 16 && !t->hung_up; i++) {
        ssize_t n = read(t->fd, buf, sizeof buf);
        if (n > 0)
            input_feed(t->in, buf, (size_t)n, now_ms());
        else if (n == 0 || (errno != EAGAIN && errno != EINTR))
            t->hung_up = t->must_leave = true;
        if (n < (ssize_t)sizeof buf)
            break;
    }
    struct stat st;
    if (t->msg_fd >= 0 && !t->opts.stderr_path && fstat(t->msg_fd, &st) == 0 &&
        st.st_size > MSG_MAX && ftruncate(t->msg_fd, 0) < 0)
        return; /* then it stays long */
}

static void on_reply(struct term *t, const struct ev *ev) {
    if (ev->reply == REPLY_BG) {
        /* Brighter than middle grey: a light terminal. */
        int luma = (ev->value >> 16 & 255) * 3 + (ev->value >> 8 & 255) * 6 +
                   (ev->value & 255);
        bool is_light = luma > 1275;
        t->bg_asked = false;
        t->resumed |= is_light != t->caps.light;
        t->caps.light = is_light;
    } else if (ev->reply == REPLY_ACK && t->ack.waits) {
        t->ack.waits = false;
        t->ack.lost = 0;
        t->ack.window = (t->ack.mark - t->ack.done) * 3 / 2;
        t->ack.done = t->ack.mark;
        t->caps.rtt_ms = (int)(now_ms() - t->ack.asked_ms);
    }
}

static bool own_event(struct term *t, struct ev *ev) {
    int64_t now = now_ms();
    memset(ev, 0, sizeof *ev);
    if (t->must_leave && !t->leave_told) {
        t->leave_told = true;
        ev->kind = EV_HANGUP;
    } else if (t->resumed) {
        t->resumed = false;
        ev->kind = EV_RESUME;
    } else if (t->resize_at && now >= t->resize_at) {
        t->resize_at = 0;
        get_size(t, &t->caps.w, &t->caps.h);
        ev->kind = EV_RESIZE;
        ev->x = t->caps.w;
        ev->y = t->caps.h;
    }
    return ev->kind != EV_NONE;
}

bool term_next(struct term *t, struct ev *ev) {
    if (own_event(t, ev))
        return true;
    while (input_next(t->in, now_ms(), ev)) {
        if (ev->kind != EV_REPLY)
            return true;
        on_reply(t, ev);
    }
    return own_event(t, ev);
}

int term_wait(const struct term *t) {
    int64_t now = now_ms();
    int ms = input_wait(t->in, now);
    int64_t at = t->resize_at;
    if (t->ack.waits && (!at || t->ack.asked_ms + ACK_LOST_MS < at))
        at = t->ack.asked_ms + ACK_LOST_MS;
    if (at) {
        int left = at > now ? (int)(at - now) : 0;
        ms = ms < 0 || left < ms ? left : ms;
    }
    return ms;
}

/* ---- frames ---- */

/* Asks the terminal itself to answer once it has got this far. */
static void ask_ack(struct term *t) {
    if (t->ack.waits || t->ack.is_dead || t->sent - t->ack.done <= ACK_AFTER)
        return;
    puts_out(t, "\033[5n");
    t->ack.waits = true;
    t->ack.mark = t->sent;
    t->ack.asked_ms = now_ms();
}

static void check_ack(struct term *t) {
    if (!t->ack.waits || now_ms() - t->ack.asked_ms < ACK_LOST_MS)
        return;
    t->ack.waits = false;
    t->ack.done = t->sent;
    if (++t->ack.lost >= ACK_LOST_MAX)
        t->ack.is_dead = true;
}

bool term_ready(struct term *t) {
    check_ack(t);
    if (term_busy(t))
        return false;
    if (t->ack.is_dead)
        return now_ms() - t->frame_ms >= UNACKED_FRAME_MS;
    uint64_t window = t->ack.window > ACK_WINDOW ? t->ack.window : ACK_WINDOW;
    return !t->ack.waits || t->sent - t->ack.done <= window;
}

long term_frame(struct term *t, const struct surf *s) {
    if (t->hung_up)
        return 0;
    if (term_busy(t)) {
        write_some(t);
        if (term_busy(t))
            return -1;
    }
    uint64_t before = t->sent;
    paint_frame(t->paint, s, t->caps.color, t->caps.light,
                t->caps.glyphs == GLYPH_ASCII);
    take_painted(t);
    long n = (long)(t->sent - before);
    if (n > 0) {
        check_ack(t);
        ask_ack(t);
        t->frame_ms = now_ms();
    }
    write_some(t);
    return n;
}

void term_repaint(struct term *t) { paint_all(t->paint); }

void term_bell(struct term *t) {
    puts_out(t, "\a");
    write_some(t);
}
