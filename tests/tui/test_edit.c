/* The line editor against a naive model, its keys, history and drawing. */
#include "tests/tui/golden.h"
#include "tui/utf8.h"
#include "tui/w_edit.h"

Suite *edit_suite(void);

static enum edit_result press(struct edit *e, const char *names) {
    enum edit_result r = EDIT_IGNORED;
    while (*names) {
        size_t k = strcspn(names, " ");
        uint32_t key = key_parse(names, k);
        ck_assert_msg(key != KEY_NONE, "%s", names);
        r = edit_event(e, &(struct ev){.kind = EV_KEY, .key = key});
        names += k + strspn(names + k, " ");
    }
    return r;
}

static enum edit_result paste(struct edit *e, const char *text) {
    return edit_event(
        e, &(struct ev){.kind = EV_PASTE, .text = text, .n = strlen(text)});
}

START_TEST(keys_do_what_the_table_says) {
    static const struct {
        const char *keys, *want;
    } t[] = {
        {"a b c", "abc"},
        {"a b c Left Left x", "axbc"},
        {"a b c Home x End y", "xabcy"},
        {"a b c C-a C-f x", "axbc"},
        {"a b c C-e C-b x", "abxc"},
        {"a b c Backspace", "ab"},
        {"a b c C-a Del", "bc"},
        {"a b c C-a C-d", "bc"},
        {"a b c Left C-k", "ab"},
        {"a b c Left C-u", "c"},
        {"a b Space c d C-w", "ab "},
        {"a b Space c d C-w C-y C-y", "ab cdcd"},
        {"a b Space c d M-b x", "ab xcd"},
        {"a b Space c d C-a M-f x", "abx cd"},
        {"a b Space c d C-a M-d", " cd"},
        {"F5 M-x C-q", ""},
    };
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct edit *e = edit_new((struct edit_opts){.prompt = ":"});
        press(e, t[i].keys);
        ck_assert_msg(strcmp(edit_text(e), t[i].want) == 0, "%s: \"%s\"",
                      t[i].keys, edit_text(e));
        edit_free(e);
    }
}
END_TEST

START_TEST(whole_characters_are_moved_over_and_erased) {
    struct edit *e = edit_new((struct edit_opts){0});
    paste(e, "e\u0301模🙂");
    press(e, "Left Left x");
    ck_assert_str_eq(edit_text(e), "e\u0301x模🙂");
    press(e, "Backspace Backspace");
    ck_assert_str_eq(edit_text(e), "模🙂");
    press(e, "Del");
    ck_assert_str_eq(edit_text(e), "🙂");
    edit_free(e);
}
END_TEST

START_TEST(history_goes_back_and_keeps_the_draft) {
    struct edit *e = edit_new((struct edit_opts){.history = 3});
    for (int i = 0; i < 5; i++) {
        char line[16];
        snprintf(line, sizeof line, "l%d", i);
        edit_set(e, line);
        edit_remember(e);
        ck_assert_str_eq(edit_text(e), "");
    }
    press(e, "d Up");
    ck_assert_str_eq(edit_text(e), "l4");
    press(e, "Up Up Up Up");
    ck_assert_str_eq(edit_text(e), "l2");
    press(e, "C-n C-n C-n");
    ck_assert_str_eq(edit_text(e), "d");
    edit_free(e);
}
END_TEST

START_TEST(ends_are_told) {
    struct edit *e = edit_new((struct edit_opts){0});
    ck_assert_int_eq(press(e, "a"), EDIT_CHANGED);
    ck_assert_int_eq(press(e, "Left"), EDIT_MOVED);
    ck_assert_int_eq(press(e, "F5"), EDIT_IGNORED);
    ck_assert_int_eq(press(e, "Enter"), EDIT_DONE);
    ck_assert_int_eq(press(e, "Esc"), EDIT_CANCEL);
    edit_set(e, "");
    ck_assert_int_eq(press(e, "Backspace"), EDIT_CANCEL);
    edit_free(e);
    e = edit_new((struct edit_opts){.keep_empty = true});
    ck_assert_int_eq(press(e, "Backspace"), EDIT_CHANGED);
    edit_free(e);
}
END_TEST

START_TEST(text_stays_below_its_maximum_and_well_formed) {
    struct edit *e = edit_new((struct edit_opts){.max = 10});
    for (int i = 0; i < 20; i++)
        paste(e, "模");
    size_t n = strlen(edit_text(e));
    ck_assert(n <= 10 && n % 3 == 0);
    edit_set(e, "模模模模模模模");
    ck_assert_int_le(strlen(edit_text(e)), 10);
    edit_free(e);
    e = edit_new((struct edit_opts){0});
    paste(e, "two\nlines\r\n");
    ck_assert_ptr_null(strchr(edit_text(e), '\n'));
    edit_free(e);
    e = edit_new((struct edit_opts){.multiline = true});
    paste(e, "two\nlines");
    press(e, "M-Enter x");
    ck_assert_str_eq(edit_text(e), "two\nlines\nx");
    edit_free(e);
}
END_TEST

/* Random keys: well-formed text, the cursor inside of the field. */
START_TEST(random_keys_keep_it_whole) {
    static const char *names[] = {
        "a",   "b",    "Space",     "Left", "Right", "Home", "End",
        "C-k", "C-u",  "C-w",       "C-y",  "M-b",   "M-f",  "M-d",
        "Up",  "Down", "Backspace", "Del",  "Tab",   "C-j",  "M-Enter"};
    uint64_t seed = 11;
    for (int multi = 0; multi < 2; multi++) {
        struct edit *e = edit_new((struct edit_opts){
            .prompt = "模> ", .multiline = multi, .keep_empty = true});
        struct surf *s = surf_new(30, 5);
        for (int i = 0; i < 30000; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            uint32_t r = (uint32_t)(seed >> 33);
            if (r % 9 == 0)
                paste(e, r % 2 ? "模型 e\u0301" : "🙂\tx");
            else if (r % 500 == 1)
                edit_remember(e);
            else
                press(e, names[r % (sizeof names / sizeof names[0])]);
            const char *text = edit_text(e);
            for (size_t k = 0, n = strlen(text); k < n;) {
                uint32_t cp;
                k += utf8_decode(text + k, n - k, &cp);
                ck_assert(cp != UTF8_BAD);
            }
            int x, y;
            struct rect area = {2, 1, 3 + (int)(r % 25), multi ? 3 : 1};
            surf_clear(s);
            edit_draw(e, s, area, true);
            ck_assert(surf_cursor_at(s, &x, &y));
            ck_assert_msg(rect_has(area, x, y), "%d %d", x, y);
        }
        surf_free(s);
        edit_free(e);
    }
}
END_TEST

static bool complete_ab(void *arg, const char *line, size_t from, size_t at,
                        int i, char *buf, size_t cap) {
    static const char *words[] = {"apple", "apricot", "banana"};
    (void)arg;
    for (int k = 0, hit = 0; k < 3; k++)
        if (strncmp(words[k], line + from, at - from) == 0 && hit++ == i) {
            snprintf(buf, cap, "%s", words[k]);
            return true;
        }
    return false;
}

START_TEST(tab_completes_and_goes_round) {
    struct edit *e = edit_new((struct edit_opts){.complete = complete_ab});
    press(e, "x Space a p Tab");
    ck_assert_str_eq(edit_text(e), "x apple");
    press(e, "Tab");
    ck_assert_str_eq(edit_text(e), "x apricot");
    press(e, "! Tab");
    ck_assert_str_eq(edit_text(e), "x apricot!");
    edit_free(e);
}
END_TEST

START_TEST(a_long_line_scrolls_sideways) {
    struct edit *e = edit_new((struct edit_opts){.prompt = ":"});
    struct surf *s = surf_new(12, 1);
    paste(e, "0123456789abcdef");
    edit_draw(e, s, (struct rect){0, 0, 12, 1}, true);
    char *d = surf_dump(s);
    ck_assert_msg(strstr(d, "9abcdef\n"), "%s", d);
    free(d);
    press(e, "Home");
    surf_clear(s);
    edit_draw(e, s, (struct rect){0, 0, 12, 1}, true);
    d = surf_dump(s);
    ck_assert_msg(strstr(d, "0123456789"), "%s", d);
    free(d);
    ck_assert_int_eq(edit_rows(e, 12), 2);
    surf_free(s);
    edit_free(e);
}
END_TEST

Suite *edit_suite(void) {
    Suite *s = suite_create("edit");
    TCase *t = tcase_create("edit");
    tcase_set_timeout(t, 30);
    tcase_add_test(t, keys_do_what_the_table_says);
    tcase_add_test(t, whole_characters_are_moved_over_and_erased);
    tcase_add_test(t, history_goes_back_and_keeps_the_draft);
    tcase_add_test(t, ends_are_told);
    tcase_add_test(t, text_stays_below_its_maximum_and_well_formed);
    tcase_add_test(t, random_keys_keep_it_whole);
    tcase_add_test(t, tab_completes_and_goes_round);
    tcase_add_test(t, a_long_line_scrolls_sideways);
    suite_add_tcase(s, t);
    return s;
}
