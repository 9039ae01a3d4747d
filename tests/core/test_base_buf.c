/* Bytes: what is put comes back; bounds hold on both sides. */
#include "core/buf.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

Suite *base_buf_suite(void);

START_TEST(buf_round_trips_every_type) {
    struct buf b;
    buf_init(&b, 1 << 16);
    buf_u8(&b, 200);
    buf_u32(&b, 0xdeadbeef);
    buf_u64(&b, 0x0123456789abcdef);
    buf_f32(&b, -1.5f);
    buf_f64(&b, INFINITY);
    buf_lstr(&b, "text");
    buf_lstr(&b, NULL);
    struct cur c;
    cur_init(&c, b.data, b.len);
    ck_assert_uint_eq(cur_u8(&c), 200);
    ck_assert_uint_eq(cur_u32(&c), 0xdeadbeef);
    ck_assert_uint_eq(cur_u64(&c), 0x0123456789abcdef);
    ck_assert(cur_f32(&c) == -1.5f);
    ck_assert(isinf(cur_f64(&c)));
    char *s = cur_lstr(&c, 100), *e = cur_lstr(&c, 100);
    ck_assert_str_eq(s, "text");
    ck_assert_str_eq(e, "");
    ck_assert(!c.bad);
    ck_assert_uint_eq(cur_left(&c), 0);
    free(s);
    free(e);
    buf_release(&b);
}
END_TEST

START_TEST(buf_refuses_more_than_its_maximum) {
    struct buf b;
    struct err err = {0};
    buf_init(&b, 8);
    buf_u64(&b, 1);
    ck_assert_int_eq(buf_check(&b, "x", &err), 0);
    buf_u8(&b, 1);
    ck_assert_int_eq(buf_check(&b, "encode op", &err), -1);
    ck_assert_int_eq(err.code, ERR_TOOBIG);
    ck_assert_uint_eq(b.len, 8);
    buf_release(&b);
}
END_TEST

START_TEST(cur_past_the_end_is_bad_and_yields_zero) {
    uint8_t bytes[3] = {1, 2, 3};
    struct cur c;
    cur_init(&c, bytes, 3);
    ck_assert_uint_eq(cur_u32(&c), 0);
    ck_assert(c.bad);
    ck_assert_uint_eq(cur_u8(&c), 0);
}
END_TEST

START_TEST(cur_lstr_refuses_length_beyond_bytes_or_limit) {
    uint8_t huge[] = {0xff, 0xff, 0xff, 0xff, 'a'};
    uint8_t nul[] = {2, 0, 0, 0, 'a', 0};
    struct cur c;
    cur_init(&c, huge, sizeof huge);
    ck_assert_ptr_null(cur_lstr(&c, UINT32_MAX));
    cur_init(&c, nul, sizeof nul);
    ck_assert_ptr_null(cur_lstr(&c, 10));
    cur_init(&c, nul, sizeof nul);
    ck_assert_ptr_null(cur_lstr(&c, 1));
}
END_TEST

Suite *base_buf_suite(void) {
    Suite *s = suite_create("buf");
    TCase *tc = tcase_create("buf");
    tcase_add_test(tc, buf_round_trips_every_type);
    tcase_add_test(tc, buf_refuses_more_than_its_maximum);
    tcase_add_test(tc, cur_past_the_end_is_bad_and_yields_zero);
    tcase_add_test(tc, cur_lstr_refuses_length_beyond_bytes_or_limit);
    suite_add_tcase(s, tc);
    return s;
}
