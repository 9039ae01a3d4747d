/* Clusters, widths, UTF-8, and what foreign text may become. */
#include "tui/surf.h"
#include "tui/utf8.h"
#include "tui/width.h"

#include "tests/quick.h"
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

Suite *width_suite(void);

/* Nothing that a terminal would act on or that hides or reorders text. */
static bool is_harmless(const char *s, size_t n) {
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        size_t used = utf8_decode(s + i, n - i, &cp);
        if (cp == UTF8_BAD && memcmp(s + i, "\xEF\xBF\xBD", 3) != 0)
            return false; /* ill-formed */
        if (cp < 0x20 || (cp >= 0x7f && cp < 0xa0) || cp == 0x61C ||
            cp == 0x200B || cp == 0x200E || cp == 0x200F ||
            (cp >= 0x2028 && cp <= 0x202E) || (cp >= 0x2060 && cp <= 0x206F) ||
            cp == 0xFEFF || cp == 0xAD || (cp >= 0xFFF9 && cp <= 0xFFFB) ||
            cp == 0x115F || cp == 0x1160 || cp == 0x3164 || cp == 0xFFA0 ||
            (cp >= 0xE000 && cp <= 0xF8FF) || cp >= 0xE0000)
            return false;
        i += used;
    }
    return true;
}

START_TEST(sanitize_lets_no_code_point_through_that_acts) {
    for (uint32_t cp = 0; cp <= 0x10FFFF; cp++) {
        char in[24] = "a", out[64];
        size_t n = 1;
        if (cp >= 0xD800 && cp <= 0xDFFF) { /* as its would-be bytes */
            in[n++] = (char)(0xE0 | cp >> 12);
            in[n++] = (char)(0x80 | (cp >> 6 & 63));
            in[n++] = (char)(0x80 | (cp & 63));
        } else {
            n += utf8_encode(cp, in + n);
        }
        in[n++] = 'b';
        size_t need = text_sanitize(out, sizeof out, in, n, TEXT_LINE);
        ck_assert_msg(need < sizeof out && need == strlen(out), "U+%04X", cp);
        ck_assert_msg(is_harmless(out, need), "U+%04X: %s", cp, out);
        ck_assert_msg(out[0] == 'a' && out[need - 1] == 'b', "U+%04X", cp);
        /* Sanitised once is sanitised. */
        char again[64];
        text_sanitize(again, sizeof again, out, need, TEXT_LINE);
        ck_assert_msg(strcmp(again, out) == 0, "U+%04X: %s %s", cp, out, again);
    }
}
END_TEST

START_TEST(every_code_point_takes_the_cells_it_says) {
    struct surf *s = surf_new(16, 1);
    for (uint32_t cp = 0; cp <= 0x10FFFF; cp++) {
        char in[8];
        size_t n = utf8_encode(cp, in);
        struct cluster c;
        text_next(in, n, &c);
        surf_clear(s);
        int used = surf_textn(s, 1, 0, 15, ROLE_TEXT, in, n);
        bool is_blank = cp == '\t' || cp == '\n';
        ck_assert_msg(used == (is_blank ? 1 : c.width), "U+%04X", cp);
        int cells = 0;
        for (int x = 0; x < 16; x++) {
            const struct cell *k = surf_cell(s, x, 0);
            cells += k->width;
            ck_assert_msg(is_harmless(k->s, strlen(k->s)), "U+%04X", cp);
        }
        ck_assert_msg(cells == 16, "U+%04X", cp);
    }
    surf_free(s);
}
END_TEST

static const struct {
    const char *in, *out;
    int width;
} TABLE[] = {
    {"plain", "plain", 5},
    {"tab\tnl\n", "tab␉nl␊", 7},
    {"\033[31mred", "␛[31mred", 8},
    {"\x7f", "␡", 1},
    {"\xc2\x9b"
     "31m",
     "<U+009B>31m", 11},
    {"a\xe2\x80\xae"
     "b",
     "a<U+202E>b", 10},
    {"\xf3\xa0\x81\x81", "<U+E0041>", 9},
    {"\xee\x80\x80", "\xef\xbf\xbd", 1},         /* private use */
    {"\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd", 2}, /* overlong */
    {"\xe2\x82", "\xef\xbf\xbd", 1},             /* cut: one maximal part */
    {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd", 3},
    {"\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd", 4},
    {"\xff", "\xef\xbf\xbd", 1},
    {"漢字", "漢字", 4},
    {"한글", "한글", 4},
    {"ｆｗ", "ｆｗ", 4},
    {"😀", "😀", 2},
    {"e\xcc\x81", "e\xcc\x81", 1},
    {"\xcc\x81", "◌\xcc\x81", 1}, /* a mark without a base */
    {"e\xcc\x81\xcc\x82\xcc\x83\xcc\x84\xcc\x85\xcc\x86",
     "e\xcc\x81\xcc\x82\xcc\x83\xcc\x84", 1}, /* four marks at most */
    {"❤\xef\xb8\x8f", "❤", 1},                /* selector dropped */
    {"👩\xe2\x80\x8d🔬", "👩🔬", 4},              /* joiner dropped */
    {"👍🏽", "👍", 2},                     /* tone dropped */
    {"a\xe2\x80\x8d"
     "b",
     "a<U+200D>b", 10},
    {"─│●◆▲✓✗…⣿█", "─│●◆▲✓✗…⣿█", 10},
};

START_TEST(text_becomes_what_the_table_says) {
    char out[128];
    size_t n = strlen(TABLE[_i].in);
    size_t need = text_sanitize(out, sizeof out, TABLE[_i].in, n, TEXT_LINE);
    ck_assert_str_eq(out, TABLE[_i].out);
    ck_assert_uint_eq(need, strlen(out));
    ck_assert_int_eq(text_width(TABLE[_i].in), TABLE[_i].width);
    ck_assert_int_eq(text_width(out), TABLE[_i].width);
    /* Cut at any capacity: never half a character, always a 0. */
    for (size_t cap = 1; cap <= need; cap++) {
        char small[128];
        memset(small, 'x', sizeof small);
        ck_assert_uint_eq(text_sanitize(small, cap, TABLE[_i].in, n, 0), need);
        ck_assert(strlen(small) < cap && is_harmless(small, strlen(small)));
        ck_assert(strncmp(small, out, strlen(small)) == 0);
    }
}
END_TEST

START_TEST(sanitize_keeps_newlines_and_tabs_when_told) {
    char out[64];
    text_sanitize(out, sizeof out, "a\n\tb\r", 5, TEXT_NL | TEXT_TAB);
    ck_assert_str_eq(out, "a\n\tb␍");
}
END_TEST

START_TEST(truncation_ends_in_an_ellipsis_and_fits) {
    static const char *const in[] = {
        "hello world", "漢字漢字", "e\xcc\x81x", "\033\033\033\033", "", "ab"};
    for (size_t i = 0; i < sizeof in / sizeof *in; i++)
        for (int w = 0; w <= 12; w++) {
            char out[64];
            int used = text_trunc(out, sizeof out, in[i], w);
            ck_assert_int_le(used, w);
            ck_assert_int_eq(text_width(out), used);
            if (text_width(in[i]) > w && w > 0)
                ck_assert_ptr_nonnull(strstr(out, "…"));
            else if (w > 0)
                ck_assert_int_eq(used, text_width(in[i]));
        }
    char out[64];
    text_trunc(out, sizeof out, "hello world", 6);
    ck_assert_str_eq(out, "hello…");
    text_trunc(out, sizeof out, "漢字漢字", 6);
    ck_assert_str_eq(out, "漢字…");
}
END_TEST

START_TEST(random_bytes_never_make_an_escape) {
    uint64_t seed = 20240607;
    char in[64], out[1024];
    for (int round = 0; round < 20000; round++) {
        for (size_t i = 0; i < sizeof in; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            in[i] = (char)(seed >> 56);
        }
        size_t n = text_sanitize(out, sizeof out, in, sizeof in, TEXT_LINE);
        ck_assert_uint_lt(n, sizeof out);
        ck_assert(is_harmless(out, n));
    }
}
END_TEST

START_TEST(prev_finds_the_start_of_the_character_before) {
    const char *s = "aé漢😀\xff";
    size_t at = strlen(s), want[] = {10, 6, 3, 1, 0};
    for (int i = 0; i < 5; i++) {
        at = utf8_prev(s, at);
        ck_assert_uint_eq(at, want[i]);
    }
}
END_TEST

/* Only where both know the character: the table is what counts. */
START_TEST(widths_agree_with_the_c_library) {
    int differ = 0;
    if (!setlocale(LC_CTYPE, "C.UTF-8"))
        return;
    for (uint32_t cp = 0x20; cp <= 0x10FFFF; cp++) {
        int ours = cp_width(cp), theirs = wcwidth((wchar_t)cp);
        if (ours >= 0 && theirs >= 0 && ours != theirs)
            differ++;
    }
    setlocale(LC_CTYPE, "C");
    ck_assert_int_lt(differ, 200);
}
END_TEST

Suite *width_suite(void) {
    Suite *s = suite_create("width");
    TCase *t = tcase_create("width");
    tcase_set_timeout(t, 30);
    tcase_add_test(t, sanitize_lets_no_code_point_through_that_acts);
    tcase_add_test(t, every_code_point_takes_the_cells_it_says);
    tcase_add_loop_test(t, text_becomes_what_the_table_says, 0,
                        sizeof TABLE / sizeof *TABLE);
    tcase_add_test(t, sanitize_keeps_newlines_and_tabs_when_told);
    tcase_add_test(t, truncation_ends_in_an_ellipsis_and_fits);
    tcase_add_test(t, random_bytes_never_make_an_escape);
    tcase_add_test(t, prev_finds_the_start_of_the_character_before);
    tcase_add_test(t, widths_agree_with_the_c_library);
    suite_add_tcase(s, t);
    return s;
}
