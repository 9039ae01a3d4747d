/* The decoder: a table of byte strings, each split everywhere; garbage. */
#include "tui/input.h"

#include "tests/quick.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Suite *input_suite(void);

#define C(ch) (MOD_CTRL | (ch))
#define M(k) (MOD_ALT | (k))
#define S(k) (MOD_SHIFT | (k))

/* An event as text, so that one table can hold all kinds. */
static void show(const struct ev *ev, char *buf, size_t cap) {
    char key[40];
    switch (ev->kind) {
    case EV_KEY:
        key_name(ev->key, key, sizeof key);
        snprintf(buf, cap, "%s ", key);
        return;
    case EV_PASTE:
        snprintf(buf, cap, "paste(%.*s) ", (int)ev->n, ev->text);
        return;
    case EV_MOUSE:
        snprintf(buf, cap, "mouse%d.%d@%d,%d%s%s ", ev->button, ev->act, ev->x,
                 ev->y, ev->key & MOD_SHIFT ? "S" : "",
                 ev->key & MOD_CTRL ? "C" : "");
        return;
    case EV_FOCUS: snprintf(buf, cap, "focus "); return;
    case EV_BLUR: snprintf(buf, cap, "blur "); return;
    case EV_REPLY:
        snprintf(buf, cap, "reply%d:%x,%d ", (int)ev->reply, ev->value,
                 ev->value2);
        return;
    default: snprintf(buf, cap, "?%d ", (int)ev->kind);
    }
}

static void take_all(struct input *in, int64_t now, char *out, size_t cap) {
    struct ev ev;
    while (input_next(in, now, &ev)) {
        size_t n = strlen(out);
        show(&ev, out + n, cap - n);
    }
}

static const struct {
    const char *bytes;
    int n; /* 0 = strlen */
    const char *events;
} TABLE[] = {
    {"aZ~", 0, "a Z ~ "},
    {" ", 0, "Space "},
    {"\r\t\x7f\x08", 0, "Enter Tab BS BS "},
    {"\n", 0, "C-j "},
    {"\x01\x1a\x1f", 0, "C-a C-z C-_ "},
    {"\0", 1, "C-Space "},
    {"é漢😀", 0, "é 漢 😀 "},
    {"\033", 0, "Esc "},
    {"\033\033", 0, "Esc Esc "},
    {"\033x", 0, "M-x "},
    {"\033\r", 0, "M-Enter "},
    {"\033é", 0, "M-é "},
    {"\033\x10", 0, "C-M-p "},
    {"\033[A\033[B\033[C\033[D", 0, "Up Down Right Left "},
    {"\033OA\033OB\033OC\033OD", 0, "Up Down Right Left "},
    {"\033OH\033OF\033[H\033[F", 0, "Home End Home End "},
    {"\033[1~\033[4~\033[7~\033[8~", 0, "Home End Home End "},
    {"\033[2~\033[3~\033[5~\033[6~", 0, "Ins Del PgUp PgDn "},
    {"\033OP\033OQ\033OR\033OS", 0, "F1 F2 F3 F4 "},
    {"\033[[A\033[[E", 0, "F1 F5 "},
    {"\033[11~\033[15~\033[17~\033[21~\033[23~\033[24~", 0,
     "F1 F5 F6 F10 F11 F12 "},
    {"\033[1;5A\033[1;2C\033[1;3D\033[3;5~", 0, "C-Up S-Right M-Left C-Del "},
    {"\033[1;8F", 0, "C-M-S-End "},
    {"\033[Z", 0, "S-Tab "},
    {"\033[97;5u", 0, "C-a "},
    {"\033[105;5u", 0, "C-i "},
    {"\033[97;2u", 0, "A "},
    {"\033[13;3u", 0, "M-Enter "},
    {"\033[9;2u", 0, "S-Tab "},
    {"\033[27u", 0, "Esc "},
    {"\033[97;5:3u", 0, ""}, /* a release */
    {"\033[57441;1u", 0, ""},
    {"\033[27;5;105~", 0, "C-i "},
    {"\033[200~rm -rf\r\033[A\033[201~x", 0, "paste(rm -rf\r\033[A) x "},
    {"\033[200~\033[201~", 0, "paste() "},
    {"\033[200~\033[20\033[201~", 0, "paste(\033[20) "},
    {"\033[201~q", 0, "q "},
    {"\033[I\033[O", 0, "focus blur "},
    {"\033[<0;1;1M\033[<0;1;1m", 0, "mouse0.0@0,0 mouse0.1@0,0 "},
    {"\033[<2;200;99M", 0, "mouse2.0@199,98 "},
    {"\033[<32;5;6M", 0, "mouse0.2@4,5 "},
    {"\033[<64;5;6M\033[<69;5;6M", 0, "mouse3.0@4,5 mouse4.0@4,5S "},
    {"\033[<35;5;6M", 0, ""}, /* motion without a button */
    {"\033[<0;0;0M\033[<0;5M", 0, ""},
    {"\033[M !!x", 0, "x "}, /* old report: swallowed */
    {"\033[0n", 0, "reply1:0,0 "},
    {"\033[?2026;2$y", 0, "reply3:7ea,2 "},
    {"\033[?62;22c", 0, ""},
    {"\033]11;rgb:1e1e/2f2f/ffff\033\\", 0, "reply2:1e2fff,0 "},
    {"\033]11;rgb:1/2/f\007", 0, "reply2:1122ff,0 "},
    {"\033]11;rgb:zz\007y", 0, "y "},
    {"\033]52;c;aGk=\007z", 0, "z "},
    {"\033P1$r0m\033\\z", 0, "z "},
    {"\033_Gi=1;OK\033\\z", 0, "z "},
    {"\033^x\033\\\033Xy\033\\z", 0, "z "},
    {"\033]0;evil\030z", 0, "z "},
    {"\033[38;5;1mz", 0, "z "}, /* no key: swallowed whole */
    {"\033[99999999999;1Az", 0, "Up z "},
    {"\033[1\033[A", 0, "Up "}, /* broken off by the next */
    {"\033]11;\033[A", 0, "Up "},
    {"\xff\xc3(\xe2\x82z", 0, "( z "},
    {"\xc2\x85z", 0, "z "}, /* C1 */
    {"\xed\xa0\x80z", 0, "z "},
    {"\033Ox", 0, "8 "},
    {"\033OM", 0, "Enter "},
};

START_TEST(bytes_decode_whole_and_split_everywhere) {
    const char *s = TABLE[_i].bytes;
    size_t n = TABLE[_i].n ? (size_t)TABLE[_i].n : strlen(s);
    for (size_t cut = 0; cut <= n; cut++)
        for (size_t cut2 = cut; cut2 <= n; cut2++) {
            struct input *in = input_new(0);
            char got[512] = "";
            input_feed(in, s, cut, 0);
            take_all(in, 0, got, sizeof got);
            input_feed(in, s + cut, cut2 - cut, 1);
            take_all(in, 1, got, sizeof got);
            input_feed(in, s + cut2, n - cut2, 2);
            take_all(in, 2, got, sizeof got);
            take_all(in, 5000, got, sizeof got); /* nothing more comes */
            ck_assert_msg(strcmp(got, TABLE[_i].events) == 0,
                          "row %d cut %zu %zu: got \"%s\" want \"%s\"", _i, cut,
                          cut2, got, TABLE[_i].events);
            ck_assert_int_eq(input_wait(in, 5000), -1);
            input_free(in);
        }
}
END_TEST

START_TEST(escape_waits_its_time_and_no_longer) {
    struct input *in = input_new(25);
    struct ev ev;
    input_feed(in, "\033", 1, 100);
    ck_assert(!input_next(in, 100, &ev));
    ck_assert_int_eq(input_wait(in, 100), 25);
    ck_assert_int_eq(input_wait(in, 110), 15);
    ck_assert(!input_next(in, 124, &ev));
    ck_assert(input_next(in, 125, &ev));
    ck_assert_uint_eq(ev.key, KEY_ESC);
    ck_assert_int_eq(input_wait(in, 125), -1);
    /* In time: one key. */
    input_feed(in, "\033", 1, 200);
    ck_assert(!input_next(in, 210, &ev));
    input_feed(in, "[A", 2, 220);
    ck_assert(input_next(in, 220, &ev));
    ck_assert_uint_eq(ev.key, KEY_UP);
    /* Alt-[ is a key too, after the same time. */
    input_feed(in, "\033[", 2, 300);
    ck_assert(!input_next(in, 324, &ev));
    ck_assert(input_next(in, 325, &ev));
    ck_assert_uint_eq(ev.key, M('['));
    input_free(in);
}
END_TEST

START_TEST(a_cut_sequence_is_dropped_not_typed) {
    struct input *in = input_new(0);
    struct ev ev;
    input_feed(in, "\033[1;5", 5, 0);
    ck_assert(!input_next(in, 100, &ev));
    ck_assert(!input_next(in, 1000, &ev));
    input_feed(in, "q", 1, 1001);
    ck_assert(input_next(in, 1001, &ev));
    ck_assert_uint_eq(ev.key, 'q');
    input_free(in);
}
END_TEST

static uint32_t next_random(uint64_t *seed) {
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33);
}

/* A byte that makes sequences likely. */
static char spicy(uint64_t *seed) {
    static const char soup[] = "\033\033\033[[[O]P_^X<?;:0123456789ABMmuyn~$\\"
                               "\007\030\xc3\xa9\xe2\x80\xf0\xff";
    uint32_t r = next_random(seed);
    return r % 3 ? soup[r / 3 % (sizeof soup - 1)] : (char)(r >> 8);
}

static uint64_t hash_events(struct input *in, int64_t now, uint64_t h) {
    struct ev ev;
    while (input_next(in, now, &ev)) {
        uint64_t v[] = {(uint64_t)ev.kind, ev.key, (uint64_t)ev.x,
                        (uint64_t)ev.y,    ev.n,   (uint64_t)ev.reply};
        ck_assert(ev.kind > EV_NONE && ev.kind <= EV_REPLY);
        if (ev.kind == EV_KEY)
            ck_assert_msg((ev.key & ~MOD_MASK) < KEY_LAST, "%x", ev.key);
        for (size_t i = 0; i < sizeof v / sizeof *v; i++)
            h = (h ^ v[i]) * 1099511628211u;
    }
    return h;
}

START_TEST(a_million_random_bytes_mean_the_same_however_split) {
    enum { N = 1000000 };
    char *b = malloc(N);
    uint64_t seed = 42;
    for (int i = 0; i < N; i++)
        b[i] = spicy(&seed);
    /* An unclosed paste would swallow the rest: let none begin. */
    for (char *p = b; (p = memmem(p, (size_t)(b + N - p), "200~", 4));)
        *p = '3';
    uint64_t want = 0;
    for (int way = 0; way < 3; way++) {
        struct input *in = input_new(0);
        uint64_t h = 1469598103934665603u;
        for (size_t i = 0; i < N;) {
            size_t n = way == 0   ? 1
                       : way == 1 ? 1 + next_random(&seed) % 40
                                  : 4096;
            n = n < N - i ? n : N - i;
            input_feed(in, b + i, n, 0);
            h = hash_events(in, 0, h);
            i += n;
        }
        h = hash_events(in, 100000, h);
        input_free(in);
        if (way == 0)
            want = h;
        ck_assert_msg(h == want, "way %d", way);
    }
    free(b);
}
END_TEST

START_TEST(endless_sequences_and_pastes_stay_bounded) {
    struct input *in = input_new(0);
    struct ev ev;
    char block[4096];
    memset(block, '7', sizeof block);
    input_feed(in, "\033[", 2, 0);
    for (int i = 0; i < 1000; i++) {
        input_feed(in, block, sizeof block, 0);
        ck_assert(!input_next(in, 0, &ev));
    }
    input_feed(in, "Aq", 2, 0);
    ck_assert(input_next(in, 0, &ev));
    ck_assert_uint_eq(ev.key, 'q');
    input_feed(in, "\033]0;", 4, 0);
    for (int i = 0; i < 1000; i++) {
        input_feed(in, block, sizeof block, 0);
        ck_assert(!input_next(in, 0, &ev));
    }
    input_feed(in, "\033\\r", 3, 0);
    ck_assert(input_next(in, 0, &ev));
    ck_assert_uint_eq(ev.key, 'r');
    input_feed(in, "\033[200~", 6, 0);
    for (int i = 0; i < 1000; i++) {
        input_feed(in, block, sizeof block, 0);
        ck_assert(!input_next(in, 0, &ev));
    }
    input_feed(in, "\033[201~", 6, 0);
    ck_assert(input_next(in, 0, &ev));
    ck_assert_int_eq(ev.kind, EV_PASTE);
    ck_assert_uint_eq(ev.n, INPUT_PASTE_MAX);
    input_free(in);
}
END_TEST

START_TEST(key_names_read_back) {
    uint32_t bases[200];
    int n = 0;
    for (uint32_t k = '!'; k < 0x7f; k++)
        bases[n++] = k;
    for (uint32_t k = KEY_UP; k < KEY_LAST; k++)
        bases[n++] = k;
    bases[n++] = ' ';
    bases[n++] = KEY_ENTER;
    bases[n++] = KEY_TAB;
    bases[n++] = KEY_ESC;
    bases[n++] = KEY_BACKSPACE;
    bases[n++] = 0xe9;
    for (int i = 0; i < n; i++)
        for (uint32_t m = 0; m < 8; m++) {
            uint32_t key = m << 24 | bases[i];
            bool is_named = bases[i] > KEY_FIRST || bases[i] <= ' ' ||
                            bases[i] == KEY_BACKSPACE;
            if ((key & MOD_SHIFT && !is_named) ||
                (key & MOD_CTRL && bases[i] >= 'A' && bases[i] <= 'Z'))
                continue; /* written another way */
            char name[40];
            size_t len = key_name(key, name, sizeof name);
            ck_assert_msg(key_parse(name, len) == key, "%s", name);
        }
    ck_assert_uint_eq(key_parse("Nonsense", 8), KEY_NONE);
    ck_assert_uint_eq(key_parse("F13", 3), KEY_NONE);
    ck_assert_uint_eq(key_parse("", 0), KEY_NONE);
    ck_assert_uint_eq(key_text(C('a')), 0);
    ck_assert_uint_eq(key_text(S(KEY_TAB)), 0);
    ck_assert_uint_eq(key_text('x'), 'x');
}
END_TEST

Suite *input_suite(void) {
    Suite *s = suite_create("input");
    TCase *t = tcase_create("input");
    tcase_set_timeout(t, 30);
    tcase_add_loop_test(t, bytes_decode_whole_and_split_everywhere, 0,
                        sizeof TABLE / sizeof *TABLE);
    tcase_add_test(t, escape_waits_its_time_and_no_longer);
    tcase_add_test(t, a_cut_sequence_is_dropped_not_typed);
    tcase_add_test(t, a_million_random_bytes_mean_the_same_however_split);
    tcase_add_test(t, endless_sequences_and_pastes_stay_bounded);
    tcase_add_test(t, key_names_read_back);
    suite_add_tcase(s, t);
    return s;
}
