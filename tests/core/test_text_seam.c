/* Where words may be cut: never where a token lies across. */
#include "core/rng.h"
#include "core/text/seam.h"

#include <check.h>
#include <stdbool.h>
#include <string.h>

#define TOKENS 64
#define TEXTS 400
#define CHARS 12

/* Characters of one to four bytes, few enough for pairs to come again. */
static const char *const chars[] = {
    "a",  "b",  "\xc3\xa9", "\xd0\xb6",     "中",
    "文", "字", "，",       "\xe4\xb8\x80", "\xf0\x9f\x98\x80"};

static uint64_t draws;
static size_t draw(size_t n) {
    return (size_t)(rng_uniform(7, 1, draws++) * (double)n) % n;
}

static size_t text_draw(char *out) {
    out[0] = 0;
    for (size_t i = 0, n = 2 + draw(CHARS - 2); i < n; i++)
        strcat(out, chars[draw(sizeof chars / sizeof *chars)]);
    return strlen(out);
}

struct token {
    char s[8 * CHARS];
    size_t len;
};

/* Pieces of bytes, from and to anywhere. */
static void tokens_draw(struct token *t, struct seams *m) {
    for (int i = 0; i < TOKENS; i++) {
        char text[8 * CHARS];
        size_t len = text_draw(text), from = draw(len);
        t[i].len = 1 + draw(len - from < 8 ? len - from : 8);
        memcpy(t[i].s, text + from, t[i].len);
        seams_add(m, t[i].s, t[i].len);
    }
}

static bool lies_across(const struct token *t, const char *s, size_t len,
                        size_t at) {
    for (size_t from = at > t->len ? at - t->len + 1 : 0; from < at; from++)
        if (from + t->len > at && from + t->len <= len &&
            memcmp(s + from, t->s, t->len) == 0)
            return true;
    return false;
}

START_TEST(no_token_lies_across_a_seam) {
    static struct token t[TOKENS];
    char s[8 * CHARS];
    draws = 0;
    for (int round = 0; round < 8; round++) {
        struct seams *m = seams_new();
        tokens_draw(t, m);
        for (int i = 0; i < TEXTS; i++) {
            size_t len = text_draw(s);
            for (size_t at = 0; (at = seams_next(m, s, at, len)) < len;)
                for (int k = 0; k < TOKENS; k++)
                    ck_assert_msg(!lies_across(&t[k], s, len, at),
                                  "round %d: %s is cut at %zu", round, s, at);
        }
        seams_free(m);
    }
}
END_TEST

START_TEST(characters_of_no_common_token_are_parted) {
    struct seams *m = seams_new();
    const char *s = "中文字";
    seams_add(m, "中文", 6);
    ck_assert_uint_eq(seams_next(m, s, 0, 9), 6);
    ck_assert_uint_eq(seams_next(m, s, 6, 9), 9);
    seams_free(m);
}
END_TEST

START_TEST(a_token_that_ends_inside_a_character_keeps_all_that_it_may_begin) {
    struct seams *m = seams_new();
    seams_add(m, "中\xe6", 4);
    ck_assert_uint_eq(seams_next(m, "中文", 0, 6), 6);
    ck_assert_uint_eq(seams_next(m, "中一", 0, 6), 3);
    ck_assert_uint_eq(seams_next(m, "文文", 0, 6), 3);
    seams_free(m);
}
END_TEST

Suite *text_seam_suite(void);
Suite *text_seam_suite(void) {
    Suite *s = suite_create("text_seam");
    TCase *tc = tcase_create("seam");
    tcase_add_test(tc, no_token_lies_across_a_seam);
    tcase_add_test(tc, characters_of_no_common_token_are_parted);
    tcase_add_test(
        tc, a_token_that_ends_inside_a_character_keeps_all_that_it_may_begin);
    suite_add_tcase(s, tc);
    return s;
}
