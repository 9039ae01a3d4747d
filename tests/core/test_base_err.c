/* Errors: first wins, context in front, tables consistent. */
#include "core/err.h"

#include <check.h>
#include <errno.h>
#include <string.h>

Suite *base_err_suite(void);

START_TEST(err_keeps_the_first_error) {
    struct err err = {0};
    ck_assert_int_eq(err_set(&err, ERR_IO, "first"), -1);
    err_set(&err, ERR_BUSY, "second");
    ck_assert_int_eq(err.code, ERR_IO);
    ck_assert_str_eq(err.msg, "first");
}
END_TEST

START_TEST(err_ctx_prefixes_and_never_overflows) {
    struct err err = {0};
    err_set(&err, ERR_CORRUPT, "header has %d bytes", 5);
    err_ctx(&err, "load %s", "step-400");
    ck_assert_str_eq(err.msg, "load step-400: header has 5 bytes");
    for (int i = 0; i < 100; i++)
        err_ctx(&err, "again and again and again");
    ck_assert_uint_lt(strlen(err.msg), sizeof err.msg);
}
END_TEST

START_TEST(err_shows_text_and_nothing_that_steers_a_terminal) {
    struct err err = {0}, cut = {0};
    err_set(&err, ERR_INVAL,
            "a\x1b[31m\tb \xc3\xa9 \xe4\xb8\xad \xf0\x9f\x98\x80 "
            "\xff\xc0\xaf\xed\xa0\x80\xc2\x9b\x7f|");
    ck_assert_str_eq(err.msg, "a?[31m?b \xc3\xa9 \xe4\xb8\xad \xf0\x9f\x98\x80 "
                              "?????"
                              "?"
                              "?"
                              "?"
                              "?|");
    err_set(&cut, ERR_INVAL, "%.2s", "a\xc3\xa9");
    err_ctx(&cut, "%s", "\x9b");
    ck_assert_str_eq(cut.msg, "?: a?");
}
END_TEST

START_TEST(err_sys_maps_errno_to_codes) {
    struct {
        int e;
        enum err_code code;
    } rows[] = {{ENOSPC, ERR_NOSPACE},
                {ENOENT, ERR_NOTFOUND},
                {EACCES, ERR_PERM},
                {EIO, ERR_IO}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct err err = {0};
        errno = rows[i].e;
        err_sys(&err, "open x");
        ck_assert_int_eq(err.code, rows[i].code);
        ck_assert_ptr_nonnull(strstr(err.msg, "open x: "));
    }
}
END_TEST

START_TEST(err_names_are_unique_and_found_again) {
    for (int i = 0; i < ERR_N; i++) {
        ck_assert_int_eq(err_by_name(err_name((enum err_code)i)), i);
        ck_assert_int_ge(err_http((enum err_code)i), 200);
    }
    ck_assert_int_eq(err_by_name("no such name"), ERR_BUG);
}
END_TEST

Suite *base_err_suite(void) {
    Suite *s = suite_create("err");
    TCase *tc = tcase_create("err");
    tcase_add_test(tc, err_keeps_the_first_error);
    tcase_add_test(tc, err_shows_text_and_nothing_that_steers_a_terminal);
    tcase_add_test(tc, err_ctx_prefixes_and_never_overflows);
    tcase_add_test(tc, err_sys_maps_errno_to_codes);
    tcase_add_test(tc, err_names_are_unique_and_found_again);
    suite_add_tcase(s, tc);
    return s;
}
