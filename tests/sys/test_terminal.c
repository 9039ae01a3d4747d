/* The screen in a real terminal, over a real run: what a person would do. */
#include "tests/sys/sys.h"

#include <pty.h>
#include <time.h>
#include <vterm.h>

Suite *terminal_suite(void);

#define W 80
#define H 24
#define PATIENCE_MS 30000

struct scr {
    int fd; /* the master side */
    pid_t pid;
    VTerm *vt;
    VTermScreen *screen;
    char text[H * (W * 4 + 1) + 1];
};

static int64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void scr_open(struct scr *s) {
    struct winsize ws = {.ws_row = H, .ws_col = W};
    memset(s, 0, sizeof *s);
    s->pid = forkpty(&s->fd, NULL, NULL, &ws);
    ck_assert_int_ge(s->pid, 0);
    if (s->pid == 0) {
        setenv("TERM", "xterm-256color", 1);
        execl(sys_fettle(), "fettle", "--home", sys_home, (char *)NULL);
        _exit(127);
    }
    s->vt = vterm_new(H, W);
    vterm_set_utf8(s->vt, 1);
    s->screen = vterm_obtain_screen(s->vt);
    vterm_screen_enable_altscreen(s->screen, 1);
    vterm_screen_reset(s->screen, 1);
}

static void scr_close(struct scr *s) {
    close(s->fd);
    vterm_free(s->vt);
}

/* Reads what comes within ms; false when the other side is gone. */
static bool scr_pump(struct scr *s, int ms) {
    struct pollfd p = {s->fd, POLLIN, 0};
    char piece[8192], reply[512];
    if (poll(&p, 1, ms) <= 0)
        return true;
    ssize_t n = read(s->fd, piece, sizeof piece);
    if (n <= 0)
        return false;
    vterm_input_write(s->vt, piece, (size_t)n);
    size_t k = vterm_output_read(s->vt, reply, sizeof reply);
    if (k > 0 && write(s->fd, reply, k) < 0)
        return false;
    return true;
}

static const char *scr_text(struct scr *s) {
    size_t at = 0;
    for (int y = 0; y < H; y++) {
        VTermRect row = {y, y + 1, 0, W};
        at += vterm_screen_get_text(s->screen, s->text + at,
                                    sizeof s->text - at - 1, row);
        s->text[at++] = '\n';
    }
    s->text[at] = 0;
    return s->text;
}

static void scr_wait(struct scr *s, const char *want) {
    int64_t end = now_ms() + PATIENCE_MS;
    while (!strstr(scr_text(s), want)) {
        ck_assert_msg(now_ms() < end && scr_pump(s, 100),
                      "'%s' does not appear on:\n%s", want, scr_text(s));
    }
}

static void scr_keys(struct scr *s, const char *keys) {
    ck_assert_int_eq(write(s->fd, keys, strlen(keys)), (ssize_t)strlen(keys));
}

/* Exit status of the screen's process. */
static int scr_end(struct scr *s) {
    int st = -1;
    int64_t end = now_ms() + PATIENCE_MS;
    while (waitpid(s->pid, &st, WNOHANG) == 0) {
        ck_assert_msg(now_ms() < end, "the screen does not end");
        scr_pump(s, 50);
    }
    return WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
}

static void start_run(int steps) {
    char *rows = sys_rows(64);
    sys_add_starter();
    FETTLE_OK(NULL,
              "run sft model=starter data=%s max_steps=%d num_epochs=100000 "
              "batch_size=16 save_every=%d",
              rows, steps, steps / 2);
    free(rows);
}

START_TEST(a_checkpoint_is_promoted_deployed_and_asked_from_the_screen) {
    struct scr s;
    start_run(20);
    sys_wait_state(1, "done");
    scr_open(&s);
    scr_wait(&s, "sft-1");
    scr_keys(&s, "\r");
    scr_wait(&s, "DONE 20/20");
    scr_keys(&s, "3");
    scr_wait(&s, "1/final");
    scr_keys(&s, "P");
    scr_wait(&s, "Promote 1/final");
    scr_keys(&s, "best\r");
    scr_wait(&s, "promoted");
    scr_keys(&s, "D");
    scr_wait(&s, "Deploy 1/final");
    scr_keys(&s, "live\r");
    scr_wait(&s, "deployed");
    scr_keys(&s, "6");
    scr_wait(&s, "serving");
    scr_keys(&s, "C");
    scr_wait(&s, "Chat with live");
    scr_keys(&s, "What is 2+3?\r");
    scr_wait(&s, "> What is 2+3?");
    scr_keys(&s, "\x03\x03"); /* out of the line, then out of the screen */
    ck_assert_int_eq(scr_end(&s), 0);
    scr_close(&s);
    json_t *j = FETTLE_JSON(NULL, "deployments --json");
    ck_assert_str_eq(str_at(json_array_get(j, 0), "name"), "live");
    json_decref(j);
    j = FETTLE_JSON(NULL, "ckpt 1 --json");
    ck_assert_str_eq(str_at(json_array_get(j, 0), "id"), "1/final");
    ck_assert_str_eq(str_at(json_array_get(j, 0), "promoted"), "best");
    json_decref(j);
}
END_TEST

START_TEST(a_question_beyond_the_context_does_not_end_the_talk) {
    struct scr s;
    char line[3001];
    for (size_t i = 0; i + 1 < sizeof line; i++)
        line[i] = i % 2 ? ' ' : '7';
    line[sizeof line - 1] = 0;
    start_run(2);
    sys_wait_state(1, "done");
    scr_open(&s);
    scr_wait(&s, "sft-1");
    scr_keys(&s, "\r3");
    scr_wait(&s, "1/final");
    scr_keys(&s, "C");
    scr_wait(&s, "Chat with 1/final");
    scr_keys(&s, line);
    scr_keys(&s, "\r");
    scr_wait(&s, "The question does not fit the context");
    scr_keys(&s, "\x15What is 2+3?\r");
    scr_wait(&s, "> What is 2+3?");
    scr_wait(&s, "Enter sends"); /* answered: C-x stood there */
    const char *after = strstr(scr_text(&s), "> What is 2+3?");
    ck_assert_msg(after && !strstr(after, "context"), "%s", scr_text(&s));
    scr_keys(&s, "\x03\x03");
    ck_assert_int_eq(scr_end(&s), 0);
    scr_close(&s);
}
END_TEST

START_TEST(data_and_models_are_looked_at_token_by_token) {
    struct scr s;
    start_run(2);
    sys_wait_state(1, "done");
    scr_open(&s);
    scr_wait(&s, "sft-1");
    scr_keys(&s, "i");
    scr_wait(&s, "row 1/64 line 1");
    scr_wait(&s, "6 tokens, 5 trained");
    scr_keys(&s, "nn");
    scr_wait(&s, "row 3/64 line 3");
    scr_keys(&s, "r64\r");
    scr_wait(&s, "row 64/64 line 64");
    scr_keys(&s, "7");
    scr_wait(&s, "scenarios equal to the template");
    scr_keys(&s, "\r");
    scr_wait(&s, "starter and its chat template");
    scr_keys(&s, "i");
    scr_wait(&s, "scenarios by starter: user_parts");
    scr_wait(&s, "onetwo<|im_end|>");
    scr_keys(&s, "\x03");
    ck_assert_int_eq(scr_end(&s), 0);
    scr_close(&s);
}
END_TEST

START_TEST(a_closed_terminal_does_not_harm_the_run) {
    struct scr s;
    start_run(400);
    scr_open(&s);
    scr_wait(&s, "sft-1");
    scr_keys(&s, "\r");
    scr_wait(&s, "RUN");
    close(s.fd); /* the window is closed */
    s.fd = -1;
    int st = 0;
    ck_assert_int_eq(waitpid(s.pid, &st, 0), s.pid);
    ck_assert_msg(WIFEXITED(st), "killed by signal %d", WTERMSIG(st));
    vterm_free(s.vt);
    sys_wait_state(1, "done");
}
END_TEST

Suite *terminal_suite(void) {
    Suite *s = suite_create("terminal");
    TCase *t = tcase_create("terminal");
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, sys_setup, sys_teardown);
    tcase_add_test(t,
                   a_checkpoint_is_promoted_deployed_and_asked_from_the_screen);
    tcase_add_test(t, a_question_beyond_the_context_does_not_end_the_talk);
    tcase_add_test(t, data_and_models_are_looked_at_token_by_token);
    tcase_add_test(t, a_closed_terminal_does_not_harm_the_run);
    suite_add_tcase(s, t);
    return s;
}
