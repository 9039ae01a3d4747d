/* The grid: clipping, halves of wide characters, hits, dumps, styles. */
#include "tests/tui/golden.h"
#include "tui/surf.h"
#include "tui/w_status.h"

Suite *surf_suite(void);

static uint32_t next_random(uint64_t *seed, uint32_t below) {
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33) % below;
}

/* Every row's widths add up and no half stands alone. */
static void check_grid(const struct surf *s) {
    for (int y = 0; y < surf_h(s); y++)
        for (int x = 0; x < surf_w(s); x++) {
            const struct cell *c = surf_cell(s, x, y);
            if (c->width == 2)
                ck_assert_int_eq(surf_cell(s, x + 1, y)->width, 0);
            else if (c->width == 0)
                ck_assert_int_eq(surf_cell(s, x - 1, y)->width, 2);
            else
                ck_assert(c->width == 1 && c->s[0]);
        }
}

START_TEST(nothing_is_drawn_outside_of_the_clip) {
    static const char *texts[] = {"plain",     "模型模型", "e\u0301e\u0301",
                                  "a\033[2Jb", "\xff\xfe", "🙂🙂🙂",
                                  "\t\n"};
    uint64_t seed = 1;
    struct surf *s = surf_new(40, 12);
    for (int round = 0; round < 20000; round++) {
        int x = (int)next_random(&seed, 60) - 10;
        int y = (int)next_random(&seed, 20) - 4;
        int w = (int)next_random(&seed, 50) - 5;
        int h = (int)next_random(&seed, 14) - 2;
        struct rect clip = {5, 2, 21, 7};
        if (round % 100 == 0) {
            surf_clear(s);
            surf_fill(s, surf_bounds(s), ROLE_TEXT, round % 200 ? "#" : "宽");
        }
        const char *t = texts[next_random(&seed, 7)];
        struct rect old = surf_clip(s, clip);
        switch (next_random(&seed, 9)) {
        case 0: surf_text(s, x, y, w, ROLE_WARN, t); break;
        case 1:
            surf_field(s, x, y, w, (enum align)next_random(&seed, 3), ROLE_OK,
                       t);
            break;
        case 2: surf_fill(s, (struct rect){x, y, w, h}, ROLE_OK, "宽"); break;
        case 3: surf_rule(s, x, y, w, true, t, "right"); break;
        case 4: surf_box(s, (struct rect){x, y, w, h}, t); break;
        case 5: surf_vline(s, x, y, h, ROLE_RULE); break;
        case 6: surf_put(s, x, y, ROLE_OK, "模"); break;
        case 7: surf_printf(s, x, y, w, ROLE_OK, "%s %d", t, round); break;
        default: surf_role(s, (struct rect){x, y, w, h}, ROLE_BAD); break;
        }
        surf_unclip(s, old);
        check_grid(s);
        if (round % 200 >= 100) { /* '#' outside stays */
            for (int cy = 0; cy < 12; cy++)
                for (int cx = 0; cx < 40; cx++)
                    if (!rect_has(clip, cx, cy))
                        ck_assert_str_eq(surf_cell(s, cx, cy)->s, "#");
        }
    }
    surf_free(s);
}
END_TEST

START_TEST(half_a_wide_character_is_a_blank) {
    struct surf *s = surf_new(6, 1);
    surf_text(s, 0, 0, 6, ROLE_TEXT, "模型模");
    surf_text(s, 1, 0, 1, ROLE_TEXT, "x");
    char *d = surf_dump(s);
    ck_assert_str_eq(d, " x型模\n");
    free(d);
    surf_text(s, 3, 0, 3, ROLE_TEXT, "y");
    d = surf_dump(s);
    ck_assert_str_eq(d, " x y模\n");
    free(d);
    surf_clear(s);
    ck_assert_int_eq(surf_text(s, 0, 0, 3, ROLE_TEXT, "模型"), 3);
    ck_assert_str_eq(surf_cell(s, 2, 0)->s, " ");
    surf_free(s);
}
END_TEST

START_TEST(fields_align_and_say_what_is_cut) {
    static const struct {
        enum align a;
        const char *text, *want;
    } t[] = {
        {ALIGN_LEFT, "abc", "[abc   ]"},
        {ALIGN_RIGHT, "abc", "[   abc]"},
        {ALIGN_CENTER, "ab", "[  ab  ]"},
        {ALIGN_LEFT, "abcdefg", "[abcde…]"},
        {ALIGN_LEFT, "模型模型", "[模型… ]"},
        {ALIGN_LEFT, "", "[      ]"},
    };
    struct surf *s = surf_new(8, 1);
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        surf_fill(s, surf_bounds(s), ROLE_TEXT, "#");
        surf_put(s, 0, 0, ROLE_TEXT, "[");
        surf_put(s, 7, 0, ROLE_TEXT, "]");
        surf_field(s, 1, 0, 6, t[i].a, ROLE_TEXT, t[i].text);
        char *d = surf_dump(s), want[32];
        snprintf(want, sizeof want, "%s\n", t[i].want);
        ck_assert_str_eq(d, want);
        free(d);
    }
    surf_free(s);
}
END_TEST

START_TEST(hits_lie_above_earlier_ones) {
    struct surf *s = surf_new(20, 5);
    surf_hit(s, (struct rect){0, 0, 20, 5}, 1, 10);
    surf_hit(s, (struct rect){2, 1, 4, 2}, 2, 20);
    ck_assert_int_eq(surf_hit_at(s, 0, 0)->cmd, 1);
    ck_assert_int_eq(surf_hit_at(s, 3, 2)->arg, 20);
    ck_assert_ptr_null(surf_hit_at(s, 30, 2));
    for (int i = 0; i < 2 * SURF_MAX_HITS; i++)
        surf_hit(s, (struct rect){0, 0, 1, 1}, 3, i);
    surf_clear(s);
    ck_assert_ptr_null(surf_hit_at(s, 0, 0));
    surf_free(s);
}
END_TEST

START_TEST(sizes_are_brought_into_bounds) {
    static const int t[][2] = {{0, 0}, {-5, 3}, {1, 1}, {5000, 2}, {3, 9000}};
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct surf *s = surf_new(t[i][0], t[i][1]);
        ck_assert(surf_w(s) >= 1 && surf_w(s) <= SURF_MAX_W);
        ck_assert(surf_h(s) >= 1 && surf_h(s) <= SURF_MAX_H);
        ck_assert_int_eq(surf_resize(s, t[i][1], t[i][0]), 0);
        ck_assert_ptr_null(surf_cell(s, -1, 0));
        ck_assert_ptr_null(surf_cell(s, surf_w(s), 0));
        surf_free(s);
    }
}
END_TEST

START_TEST(ascii_has_no_other_byte) {
    struct surf *s = surf_new(40, 6);
    surf_box(s, (struct rect){0, 0, 40, 6}, "模型 🙂");
    surf_text(s, 1, 1, 38, ROLE_TEXT, "◆ ● ✓ ✗ ⣿⣤⡀ ┤ └ … → é “x”");
    surf_text(s, 1, 2, 38, ROLE_TEXT, "a\033b\xff\u202e");
    surf_to_ascii(s);
    check_grid(s);
    char *d = surf_dump(s);
    for (const char *p = d; *p; p++)
        ck_assert_msg(*p == '\n' || (*p >= ' ' && *p < 127), "%s", d);
    free(d);
    surf_free(s);
}
END_TEST

START_TEST(header_keeps_the_active_tab_at_every_width) {
    static const char *tabs[] = {"1:Jobs", "2:Run",  "3:Ckpt", "4:Samp",
                                 "5:Cmp",  "6:Depl", "7:Cost"};
    for (int w = 40; w <= 200; w++)
        for (int a = 0; a < 7; a++) {
            struct surf *s = surf_new(w, 1);
            char want[16];
            header_draw(s, 0, w, "fettle", tabs, 7, a, "!2  local 3ms  14:02",
                        1);
            char *d = surf_dump(s);
            snprintf(want, sizeof want, "[%d", a + 1);
            ck_assert_msg(strstr(d, want), "%d: %s", w, d);
            free(d);
            check_grid(s);
            surf_free(s);
        }
    struct surf *s = surf_new(80, 1);
    header_draw(s, 0, 80, "fettle", tabs, 7, 0, "!2  local 3ms  14:02", 1);
    golden_check(s, "header-80");
    surf_free(s);
}
END_TEST

START_TEST(messages_fade_and_errors_stay) {
    struct message m = {0};
    ck_assert(!message_live(&m, 0));
    message_set(&m, 1000, ROLE_OK, "saved %d\033[2J", 3);
    ck_assert_ptr_null(strchr(m.text, 27));
    ck_assert(message_live(&m, 2000) && !message_live(&m, 60000));
    message_set(&m, 1000, ROLE_BAD, "lost");
    ck_assert(message_live(&m, 600000));
    message_clear(&m);
    ck_assert(!message_live(&m, 1000));
    struct surf *s = surf_new(30, 8);
    ck_assert(too_small_draw(s, 40, 10));
    surf_resize(s, 40, 10);
    ck_assert(!too_small_draw(s, 40, 10));
    surf_free(s);
}
END_TEST

START_TEST(styles_tell_roles_apart_in_every_mode) {
    for (int mode = 0; mode < COLOR_MODES; mode++)
        for (int light = 0; light < 2; light++)
            for (int r = 0; r < ROLE_N; r++) {
                struct style st =
                    style_get((enum color_mode)mode, light, (enum role)r);
                int top = mode == COLOR_MONO ? -1 : mode == COLOR_16 ? 15 : 255;
                ck_assert_msg(st.fg >= -1 && st.fg <= top && st.bg >= -1 &&
                                  st.bg <= top,
                              "%s", role_name((enum role)r));
            }
    ck_assert_int_eq(style_mode("1", 256, -1), COLOR_MONO);
    ck_assert_int_eq(style_mode("", 256, -1), COLOR_256);
    ck_assert_int_eq(style_mode(NULL, 8, -1), COLOR_16);
    ck_assert_int_eq(style_mode(NULL, 0, -1), COLOR_MONO);
    ck_assert_int_eq(style_get(COLOR_256, false, ROLE_S1).fg, 74);
    ck_assert_int_eq(role_series(8), ROLE_S1);
}
END_TEST

Suite *surf_suite(void) {
    Suite *s = suite_create("surf");
    TCase *t = tcase_create("surf");
    tcase_set_timeout(t, 30);
    tcase_add_test(t, nothing_is_drawn_outside_of_the_clip);
    tcase_add_test(t, half_a_wide_character_is_a_blank);
    tcase_add_test(t, fields_align_and_say_what_is_cut);
    tcase_add_test(t, hits_lie_above_earlier_ones);
    tcase_add_test(t, sizes_are_brought_into_bounds);
    tcase_add_test(t, ascii_has_no_other_byte);
    tcase_add_test(t, header_keeps_the_active_tab_at_every_width);
    tcase_add_test(t, messages_fade_and_errors_stay);
    tcase_add_test(t, styles_tell_roles_apart_in_every_mode);
    suite_add_tcase(s, t);
    return s;
}
