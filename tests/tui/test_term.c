/* The terminal: opened, drawn, resized, left, crashed, on a real pty. */
#include "pty.h"

#include <pthread.h>

Suite *term_suite(void);

static struct pty *start(int w, int h) {
    struct pty *p = pty_start(w, h, NULL, 0);
    ck_assert_msg(pty_settle(p), "did not start: %s", p->last.note);
    return p;
}

START_TEST(the_emulator_shows_what_was_drawn) {
    static const int size[][2] = {{80, 24}, {120, 40}, {200, 60}};
    for (size_t i = 0; i < 3; i++) {
        struct pty *p = start(size[i][0], size[i][1]);
        ck_assert_int_eq(p->altscreen, 1);
        pty_check_screen(p);
        for (int k = 0; k < 30; k++) {
            pty_keys(p, "jp", 2);
            p->st.selected++;
            p->st.points += 25;
            pty_check_screen(p);
        }
        pty_keys(p, "l", 1);
        pty_check_screen(p);
        pty_free(p);
    }
}
END_TEST

START_TEST(bytes_stay_in_their_budget) {
    static const struct {
        int w, h;
        uint64_t full;
    } size[] = {{80, 24, 4096}, {120, 40, 10240}, {200, 60, 24576}};
    for (size_t i = 0; i < 3; i++) {
        struct pty *p = start(size[i].w, size[i].h);
        ck_assert_msg(p->got <= size[i].full, "first screen %lu", p->got);
        pty_keys(p, "n", 1); /* nothing changes */
        uint64_t at = p->got;
        for (int k = 0; k < 5; k++)
            pty_keys(p, "n", 1);
        ck_assert_uint_eq(p->got - at, 0);
        for (int k = 0; k < 6; k++) { /* within the page */
            at = p->got;
            pty_keys(p, "j", 1);
            ck_assert_msg(p->got - at <= 200, "j: %lu", p->got - at);
            ck_assert_uint_gt(p->got - at, 0);
        }
        for (int k = 0; k < 100; k++) { /* a column of the chart and more */
            at = p->got;
            pty_keys(p, "p", 1);
            ck_assert_msg(p->got - at <= 100, "p: %lu", p->got - at);
        }
        pty_free(p);
    }
}
END_TEST

START_TEST(two_hundred_sizes_are_redrawn_right) {
    struct pty *p = start(80, 24);
    uint64_t seed = 99;
    for (int i = 0; i < 200; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        int w = 20 + (int)(seed >> 33) % 281, h = 5 + (int)(seed >> 50) % 96;
        pty_resize(p, w, h);
        if (i % 3 == 0)
            continue; /* a burst: the next one follows at once */
        ck_assert_msg(pty_settle(p), "%dx%d: no answer", w, h);
        pty_check_screen(p);
    }
    pty_resize(p, 1, 1);
    ck_assert(pty_settle(p));
    pty_resize(p, 80, 24);
    ck_assert(pty_settle(p));
    pty_check_screen(p);
    pty_free(p);
}
END_TEST

static void check_restored(struct pty *p) {
    struct termios now;
    ck_assert_int_eq(p->altscreen, 0);
    ck_assert_int_eq(p->cursor, 1);
    ck_assert_ptr_nonnull(memmem(p->log, p->got, "\033[?2004l", 8));
    ck_assert_int_eq(tcgetattr(p->fd, &now), 0);
    ck_assert_uint_eq(now.c_lflag, p->before.c_lflag);
    ck_assert_uint_eq(now.c_iflag, p->before.c_iflag);
    ck_assert_uint_eq(now.c_oflag, p->before.c_oflag);
    /* The pen is back to normal. */
    vterm_input_write(p->vt, "x", 1);
    VTermScreenCell c;
    VTermPos pos;
    vterm_state_get_cursorpos(vterm_obtain_state(p->vt), &pos);
    vterm_screen_get_cell(p->screen, (VTermPos){pos.row, pos.col - 1}, &c);
    ck_assert_int_eq(c.chars[0], 'x');
    ck_assert(!c.attrs.bold && !c.attrs.reverse && !c.attrs.underline);
}

static const struct {
    const char *key;
    int sig, exits, by_signal;
} LEAVE[] = {
    {"q", 0, 7, 0},
    {NULL, SIGTERM, 0, 0},
    {NULL, SIGINT, 0, 0},
    {NULL, SIGHUP, 0, 0},
    {"S", 0, 0, SIGSEGV},
    {"A", 0, 0, SIGABRT},
    {"T", 0, 0, SIGSEGV},
    {NULL, SIGSEGV, 0, SIGSEGV},
    {NULL, SIGQUIT, 0, SIGQUIT},
};

START_TEST(every_way_out_restores_the_terminal) {
    struct pty *p = start(80, 24);
    pty_keys(p, "jjp", 3);
    if (LEAVE[_i].key)
        ck_assert_int_eq(write(p->fd, LEAVE[_i].key, 1), 1);
    else
        kill(p->pid, LEAVE[_i].sig);
    int status = pty_wait(p);
    if (LEAVE[_i].by_signal)
        ck_assert_msg(WIFSIGNALED(status) &&
                          WTERMSIG(status) == LEAVE[_i].by_signal,
                      "status %x", status);
    else
        ck_assert_msg(WIFEXITED(status) &&
                          WEXITSTATUS(status) == LEAVE[_i].exits,
                      "status %x", status);
    check_restored(p);
    pty_free(p);
}
END_TEST

START_TEST(a_hangup_ends_it_at_once) {
    struct pty *p = start(80, 24);
    int64_t t0 = ms_now();
    int status;
    close(p->fd);
    p->fd = -1;
    while (waitpid(p->pid, &status, WNOHANG) == 0) {
        ck_assert_msg(ms_now() - t0 < 5000, "still there");
        poll(NULL, 0, 1);
    }
    int64_t took = ms_now() - t0;
    p->pid = 0;
    ck_assert(WIFEXITED(status));
#ifndef __SANITIZE_ADDRESS__
    ck_assert_msg(took <= 200, "took %d ms", (int)took);
#else
    ck_assert_msg(took <= 2000, "took %d ms", (int)took);
#endif
    pty_free(p);
}
END_TEST

START_TEST(suspend_gives_the_terminal_back_and_resume_redraws) {
    struct pty *p = pty_start(80, 24, NULL, 1);
    ck_assert_msg(pty_settle(p), "did not start: %s", p->last.note);
    pty_keys(p, "jj", 2);
    p->st.selected = 2;
    p->events++;
    ck_assert_int_eq(write(p->fd, "z", 1), 1);
    /* The shell between saw it stop, with echo and lines on. */
    int64_t end = ms_now() + 10000;
    do {
        struct pollfd f[2] = {{.fd = p->fd, .events = POLLIN},
                              {.fd = p->ctl, .events = POLLIN}};
        ck_assert_int_gt(poll(f, 2, (int)(end - ms_now())), 0);
        if (f[0].revents)
            pty_read(p);
        if (f[1].revents)
            ck_assert_int_gt(read(p->ctl, &p->last, sizeof p->last), 0);
    } while (p->last.events != -2);
    ck_assert_int_eq(p->last.idle, 1);
    ck_assert_msg(pty_settle(p), "did not come back");
    ck_assert_int_eq(p->altscreen, 1);
    pty_check_screen(p);
    pty_keys(p, "j", 1);
    p->st.selected++;
    pty_check_screen(p);
    ck_assert_int_eq(write(p->fd, "q", 1), 1);
    ck_assert_int_eq(WEXITSTATUS(pty_wait(p)), 7);
    check_restored(p);
    pty_free(p);
}
END_TEST

START_TEST(stderr_does_not_reach_the_screen) {
    struct pty *p = start(80, 24);
    uint64_t at = p->got;
    pty_keys(p, "e", 1);
    ck_assert_str_eq(p->last.note, "noise\033[2J");
    ck_assert_ptr_null(memmem(p->log + at, p->got - at, "noise", 5));
    pty_check_screen(p);
    pty_free(p);
}
END_TEST

START_TEST(other_terminals_and_locales_work) {
    static const struct {
        const char *env[5];
        int glyphs, color;
    } way[] = {
        {{"LC_ALL=C", NULL}, GLYPH_ASCII, COLOR_256},
        {{"LC_ALL=no_SUCH", NULL}, GLYPH_ASCII, COLOR_256},
        {{"TERM=linux", NULL}, GLYPH_BLOCK, COLOR_16},
        {{"TERM=vt100", NULL}, GLYPH_BRAILLE, COLOR_MONO},
        {{"TERM=screen", NULL}, GLYPH_BRAILLE, COLOR_16},
        {{"TERM=tmux-256color", NULL}, GLYPH_BRAILLE, COLOR_256},
        {{"NO_COLOR=1", NULL}, GLYPH_BRAILLE, COLOR_MONO},
        {{"COLORFGBG=0;15", NULL}, GLYPH_BRAILLE, COLOR_256},
    };
    for (size_t i = 0; i < sizeof way / sizeof *way; i++) {
        struct pty *p = pty_start(100, 30, way[i].env, 0);
        ck_assert_msg(pty_settle(p), "%s: %s", way[i].env[0], p->last.note);
        ck_assert_msg(p->last.glyphs == way[i].glyphs &&
                          p->last.color == way[i].color,
                      "%s: glyphs %d color %d", way[i].env[0], p->last.glyphs,
                      p->last.color);
        pty_keys(p, "jp", 2);
        p->st.selected = 1;
        p->st.points = 25;
        pty_check_screen(p);
        if (way[i].glyphs == GLYPH_ASCII)
            for (uint64_t k = 0; k < p->got; k++)
                ck_assert((unsigned char)p->log[k] < 0x80);
        ck_assert_int_eq(write(p->fd, "q", 1), 1);
        ck_assert_int_eq(WEXITSTATUS(pty_wait(p)), 7);
        pty_free(p);
    }
}
END_TEST

START_TEST(a_terminal_that_cannot_is_refused_with_reason) {
    static const char *const bad[][2] = {
        {"TERM=dumb", NULL}, {"TERM=no-such-terminal", NULL}, {"TERM=", NULL}};
    for (size_t i = 0; i < 3; i++) {
        struct pty *p = pty_start(80, 24, bad[i], 0);
        ck_assert(!pty_settle(p));
        ck_assert_int_eq(p->last.events, -1);
        ck_assert_msg(strlen(p->last.note) > 20, "%s", p->last.note);
        ck_assert_int_eq(WEXITSTATUS(pty_wait(p)), 3);
        pty_free(p);
    }
}
END_TEST

/* The kinds of escape sequences in a stream: ESC, introducer, private mark and
 * final byte; parameters do not count. */
static int kinds(const char *s, size_t n, char out[][8], int max) {
    int k = 0;
    for (size_t i = 0; i + 2 < n; i++) {
        char kind[8] = {0};
        int len = 0;
        ck_assert_msg((unsigned char)s[i] >= 0x20 || s[i] == 27 ||
                          s[i] == '\r' || s[i] == '\n' || s[i] == '\b',
                      "control %02x", (unsigned char)s[i]);
        if (s[i] != 27)
            continue;
        kind[len++] = s[i + 1];
        size_t j = i + 2;
        if (s[i + 1] == '[') {
            if (strchr("<=>?", s[j]))
                kind[len++] = s[j++];
            while (j < n && s[j] >= ' ' && s[j] < '@')
                j++;
            kind[len++] = s[j];
        } else if (s[i + 1] == '(') {
            kind[len++] = s[j];
        }
        int known = 0;
        for (int m = 0; m < k; m++)
            known |= !strcmp(out[m], kind);
        if (!known && k < max)
            memcpy(out[k++], kind, sizeof kind);
    }
    return k;
}

START_TEST(hostile_names_add_no_kind_of_escape) {
    char calm[64][8], wild[64][8];
    struct pty *p = start(80, 24);
    for (int i = 0; i < 12; i++)
        pty_keys(p, "j", 1);
    pty_keys(p, "l", 1);
    int ncalm = 0, nwild;
    /* Behind the background query that opens the session. */
    char *from = memmem(p->log, p->got, "\033]11;?\033\\", 8);
    size_t skip = from ? (size_t)(from - p->log) + 8 : 0;
    ncalm = kinds(p->log + skip, p->got - skip, calm, 64);
    pty_keys(p, "x", 1);
    p->st.hostile = 1;
    p->st.selected = 12;
    for (int i = 0; i < 12; i++)
        pty_keys(p, "j", 1);
    p->st.selected = 24;
    pty_keys(p, "l", 1);
    pty_check_screen(p);
    nwild = kinds(p->log + skip, p->got - skip, wild, 64);
    for (int i = 0; i < nwild; i++) {
        int known = 0;
        for (int k = 0; k < ncalm; k++)
            known |= !strcmp(calm[k], wild[i]);
        ck_assert_msg(known, "new kind ESC %s", wild[i]);
    }
    pty_free(p);
}
END_TEST

START_TEST(a_paste_is_one_event_and_no_keys) {
    struct pty *p = start(80, 24);
    pty_keys(p, "\033[200~qqqSSS\r\033[201~", 1);
    ck_assert_str_eq(p->last.note, "paste 7");
    pty_check_screen(p);
    pty_free(p);
}
END_TEST

START_TEST(random_keys_do_no_harm) {
    struct pty *p = start(80, 24);
    uint64_t seed = 5;
    char buf[512];
    for (int round = 0; round < 40; round++) {
        for (size_t i = 0; i < sizeof buf; i++) {
            do {
                seed = seed * 6364136223846793005u + 1442695040888963407u;
                buf[i] = (char)(seed >> 56);
            } while (strchr("qzSATejkpx", buf[i])); /* also not 0 */
        }
        ck_assert_int_eq(write(p->fd, buf, sizeof buf), (ssize_t)sizeof buf);
        while (poll(&(struct pollfd){.fd = p->fd, .events = POLLIN}, 1, 0) > 0)
            pty_read(p);
    }
    /* Close what may be open: a string, a paste; then it still answers. */
    ck_assert_int_eq(write(p->fd, "\033\\\033[201~", 8), 8);
    int64_t end = ms_now() + 10000;
    pty_resize(p, 90, 30);
    while (p->last.w != 90 || !p->last.idle || p->last.bytes != p->got) {
        struct pollfd f[2] = {{.fd = p->fd, .events = POLLIN},
                              {.fd = p->ctl, .events = POLLIN}};
        ck_assert_msg(ms_now() < end, "no answer");
        poll(f, 2, 100);
        if (f[0].revents)
            ck_assert(pty_read(p));
        if (f[1].revents)
            ck_assert_int_gt(read(p->ctl, &p->last, sizeof p->last), 0);
    }
    pty_check_screen(p);
    pty_free(p);
}
END_TEST

/* Nobody reads the terminal: keys are still taken, memory stays bounded, and
 * what comes out in the end is the newest picture. */
START_TEST(a_reader_that_stalls_costs_frames_not_keys) {
    struct pty *p = start(200, 60);
    struct report r = {0};
    int64_t end = ms_now() + 10000;
    for (int i = 0; i < 200; i++) {
        ck_assert_int_eq(write(p->fd, "lj", 2), 2);
        p->events += 2;
        while (r.events < p->events) {
            ck_assert_msg(ms_now() < end, "stuck at %d", r.events);
            struct pollfd f = {.fd = p->ctl, .events = POLLIN};
            poll(&f, 1, 100);
            if (f.revents)
                ck_assert_int_gt(read(p->ctl, &r, sizeof r), 0);
        }
    }
    ck_assert_msg(r.bytes < 400000, "%lu bytes queued", r.bytes);
    p->st.selected = 200 % 40;
    p->last = r;
    ck_assert(pty_settle(p));
    pty_check_screen(p);
    pty_free(p);
}
END_TEST

/* ---- the loop without a terminal ---- */

struct order {
    struct loop *l;
    int n, seen[64], ticks, drawn;
};

struct item {
    struct order *o;
    int value;
};

static void on_item(void *arg) {
    struct item *i = arg;
    if (i->o->n < 64)
        i->o->seen[i->o->n] = i->value;
    i->o->n++;
    free(i);
}

static void *poster(void *arg) {
    for (int i = 0; i < 1000; i++) {
        struct item *it = malloc(sizeof *it);
        *it = (struct item){arg, i};
        loop_post(it->o->l, on_item, it);
    }
    return NULL;
}

START_TEST(posted_closures_all_run_in_order) {
    struct order o = {.l = loop_new(NULL)};
    pthread_t t[4];
    for (int i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, poster, &o);
    while (o.n < 4000)
        loop_turn(o.l, 1000);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    poster(&o); /* from one thread: in order; what is left runs at the end */
    o.n = 0;
    loop_free(o.l);
    ck_assert_int_eq(o.n, 1000);
    for (int i = 0; i < 64; i++)
        ck_assert_int_eq(o.seen[i], i);
}
END_TEST

static void on_tick(void *arg) {
    struct order *o = arg;
    if (++o->ticks == 5)
        loop_quit(o->l, 3);
}

static void on_draw(void *arg, struct surf *s) {
    struct order *o = arg;
    ck_assert_int_eq(surf_w(s), 80);
    o->drawn++;
}

START_TEST(timers_tick_and_frames_are_drawn_only_when_dirty) {
    struct order o = {.l = loop_new(NULL)};
    loop_handlers(o.l, (struct loop_handlers){NULL, on_draw, &o});
    int once = loop_timer(o.l, 1, 0, on_tick, &o);
    int often = loop_timer(o.l, 2, 2, on_tick, &o);
    ck_assert_int_gt(once, 0);
    ck_assert_int_ne(once, often);
    ck_assert_int_eq(loop_run(o.l), 3);
    ck_assert_int_eq(o.ticks, 5);
    ck_assert_int_eq(o.drawn, 1); /* the first one */
    loop_timer_stop(o.l, often);
    loop_timer_stop(o.l, often);
    int64_t t0 = ms_now();
    for (int i = 0; i < 100; i++) { /* dirty all the time: 30 a second */
        loop_dirty(o.l);
        loop_turn(o.l, 2);
    }
    ck_assert_int_le(o.drawn, 2 + (int)((ms_now() - t0) / 33));
    loop_free(o.l);
}
END_TEST

static void on_pipe(void *arg, int fd, int revents) {
    struct order *o = arg;
    char c;
    ck_assert(revents & POLLIN);
    ck_assert_int_eq(read(fd, &c, 1), 1);
    o->n++;
    loop_fd_stop(o->l, fd);
}

START_TEST(descriptors_are_watched_until_stopped) {
    struct order o = {.l = loop_new(NULL)};
    int fd[2];
    ck_assert_int_eq(pipe(fd), 0);
    ck_assert_int_eq(loop_fd(o.l, fd[0], POLLIN, on_pipe, &o), 0);
    ck_assert_int_eq(write(fd[1], "ab", 2), 2);
    loop_turn(o.l, 1000);
    ck_assert_int_eq(o.n, 1);
    loop_turn(o.l, 0); /* stopped: the second byte stays */
    ck_assert_int_eq(o.n, 1);
    close(fd[0]);
    close(fd[1]);
    loop_free(o.l);
}
END_TEST

Suite *term_suite(void) {
    Suite *s = suite_create("term");
    TCase *t = tcase_create("term");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, the_emulator_shows_what_was_drawn);
    tcase_add_test(t, bytes_stay_in_their_budget);
    tcase_add_test(t, two_hundred_sizes_are_redrawn_right);
    tcase_add_loop_test(t, every_way_out_restores_the_terminal, 0,
                        sizeof LEAVE / sizeof *LEAVE);
    tcase_add_test(t, a_hangup_ends_it_at_once);
    tcase_add_test(t, suspend_gives_the_terminal_back_and_resume_redraws);
    tcase_add_test(t, stderr_does_not_reach_the_screen);
    tcase_add_test(t, other_terminals_and_locales_work);
    tcase_add_test(t, a_terminal_that_cannot_is_refused_with_reason);
    tcase_add_test(t, hostile_names_add_no_kind_of_escape);
    tcase_add_test(t, a_paste_is_one_event_and_no_keys);
    tcase_add_test(t, random_keys_do_no_harm);
    tcase_add_test(t, a_reader_that_stalls_costs_frames_not_keys);
    tcase_add_test(t, posted_closures_all_run_in_order);
    tcase_add_test(t, timers_tick_and_frames_are_drawn_only_when_dirty);
    tcase_add_test(t, descriptors_are_watched_until_stopped);
    suite_add_tcase(s, t);
    return s;
}
