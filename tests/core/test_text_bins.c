/* Packing: best fit decreasing, beside the same by trying every bin. */
#include "core/rng.h"
#include "core/text.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

Suite *text_bins_suite(void);

#define N 400

/* The rule, word for word: the longest row that is left goes where the least
 * room is left. */
static uint32_t slow(const uint32_t *length, uint32_t n, uint32_t room) {
    uint32_t left[N], bins = 0;
    bool done[N] = {false};
    for (uint32_t k = 0; k < n; k++) {
        uint32_t i = n, at = N;
        for (uint32_t j = 0; j < n; j++)
            if (!done[j] && (i == n || length[j] > length[i]))
                i = j;
        for (uint32_t b = 0; b < bins; b++)
            if (left[b] >= length[i] && (at == N || left[b] < left[at]))
                at = b;
        if (at == N)
            left[at = bins++] = room;
        left[at] -= length[i];
        done[i] = true;
    }
    return bins;
}

START_TEST(bins_hold_each_row_once_and_no_more_than_their_room) {
    uint64_t seed = (uint64_t)_i;
    uint32_t length[N], bin[N], again[N], sum[N] = {0};
    uint32_t n = 1 + (uint32_t)(rng_u64(seed, 1, 0) % N);
    uint32_t room = 1 + (uint32_t)(rng_u64(seed, 2, 0) % 300);
    uint64_t all = 0;
    for (uint32_t i = 0; i < n; i++) {
        length[i] = 1 + (uint32_t)(rng_u64(seed, 3, i) % room);
        if (_i % 3 == 0) /* mostly short */
            length[i] = 1 + length[i] / 8;
        length[i] = length[i] < room ? length[i] : room;
        all += length[i];
    }
    uint32_t bins = bins_best_fit(length, n, room, bin);
    for (uint32_t i = 0; i < n; i++) {
        ck_assert_uint_lt(bin[i], bins);
        sum[bin[i]] += length[i];
    }
    for (uint32_t b = 0; b < bins; b++)
        ck_assert(sum[b] > 0 && sum[b] <= room);
    ck_assert_uint_eq(bins, slow(length, n, room));
    /* 11/9 of the best there is, which is no less than the sum's */
    ck_assert_uint_le(bins_best_fit(length, n, room, again), bins);
    ck_assert_mem_eq(bin, again, n * sizeof *bin);
    if (_i % 3 == 0)
        ck_assert_uint_le(bins, (11 * (all / room + 1) + 8) / 9 + 1);
    /* the order changes what lies where, never how many bins there are */
    for (uint32_t i = 0; i < n / 2; i++) {
        uint32_t swap = length[i];
        length[i] = length[n - 1 - i];
        length[n - 1 - i] = swap;
    }
    ck_assert_uint_eq(bins_best_fit(length, n, room, again), bins);
}
END_TEST

START_TEST(many_rows_are_packed_at_once) {
    uint32_t n = 300000, room = 1000000;
    uint32_t *length = malloc(n * sizeof *length);
    uint32_t *bin = malloc(n * sizeof *bin);
    ck_assert(length && bin);
    for (uint32_t i = 0; i < n; i++)
        length[i] = 1 + (uint32_t)(rng_u64(1, 2, i) % room);
    ck_assert_uint_ge(bins_best_fit(length, n, room, bin), n / 3);
    free(length);
    free(bin);
}
END_TEST

Suite *text_bins_suite(void) {
    Suite *s = suite_create("bins");
    TCase *tc = tcase_create("bins");
    tcase_add_loop_test(tc, bins_hold_each_row_once_and_no_more_than_their_room,
                        0, 60);
    tcase_add_test(tc, many_rows_are_packed_at_once);
    suite_add_tcase(s, tc);
    return s;
}
