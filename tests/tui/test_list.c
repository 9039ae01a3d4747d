/* Tables: the selection is an id and follows its row wherever it goes. */
#include "tests/tui/golden.h"
#include "tui/input.h"
#include "tui/w_list.h"

Suite *list_suite(void);

struct rows {
    int64_t id[200];
    int n;
    int asked; /* cells asked for */
};

static int row_count(void *arg) { return ((struct rows *)arg)->n; }
static int64_t row_id(void *arg, int row) {
    return ((struct rows *)arg)->id[row];
}
static void row_cell(void *arg, int row, int col, char *buf, size_t cap,
                     enum role *r) {
    struct rows *t = arg;
    t->asked++;
    if (col == 0)
        snprintf(buf, cap, "run-%d", (int)t->id[row]);
    else if (col == 1)
        snprintf(buf, cap, "%d", (int)t->id[row] * 100);
    else
        snprintf(buf, cap, "模型 %d\033[31m", (int)t->id[row]);
    if (col == 1 && t->id[row] % 3 == 0)
        *r = ROLE_BAD;
}

static const struct list_col cols[] = {
    {"NAME", 8, 16, 1, 9, ALIGN_LEFT},
    {"STEP", 6, 8, 0, 5, ALIGN_RIGHT},
    {"NOTE", 10, 12, 0, 1, ALIGN_LEFT},
};

static struct list *open_rows(struct rows *t, int n) {
    t->n = n;
    t->asked = 0;
    for (int i = 0; i < n; i++)
        t->id[i] = i + 1;
    return list_new((struct list_src){row_count, row_id, row_cell, t}, cols, 3);
}

START_TEST(grids_are_as_recorded) {
    static const int w[] = {80, 40, 20, 12};
    struct rows t;
    for (size_t i = 0; i < sizeof w / sizeof w[0]; i++) {
        char name[32];
        struct list *l = open_rows(&t, 30);
        struct surf *s = surf_new(w[i], 8);
        list_select(l, 12);
        list_mark(l, 11, true);
        list_sort(l, 1, false);
        list_draw(l, s, (struct rect){0, 0, w[i], 8}, true);
        snprintf(name, sizeof name, "list-%dx8", w[i]);
        golden_check(s, name);
        surf_free(s);
        list_free(l);
    }
}
END_TEST

START_TEST(selection_follows_its_row) {
    struct rows t;
    struct list *l = open_rows(&t, 100);
    uint64_t seed = 3;
    ck_assert(list_select(l, 40));
    for (int round = 0; round < 200; round++) {
        for (int i = t.n - 1; i > 0; i--) { /* shuffle */
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            int k = (int)((seed >> 33) % (unsigned)(i + 1));
            int64_t x = t.id[i];
            t.id[i] = t.id[k];
            t.id[k] = x;
        }
        ck_assert(!list_sync(l));
        ck_assert_int_eq(list_id(l), 40);
        ck_assert_int_eq(t.id[list_row(l)], 40);
    }
    list_free(l);
}
END_TEST

START_TEST(an_untouched_list_can_keep_its_top) {
    struct rows t;
    struct list *l = open_rows(&t, 3);
    list_keeps_top(l, true);
    t.id[0] = 99; /* a new first row */
    ck_assert(list_sync(l));
    ck_assert_int_eq(list_id(l), 99);
    list_move(l, 1);
    int64_t chosen = list_id(l);
    t.id[2] = chosen;
    t.id[1] = 77;
    ck_assert(!list_sync(l));
    ck_assert_int_eq(list_id(l), chosen);
    ck_assert_int_eq(list_row(l), 2);
    list_free(l);
}
END_TEST

START_TEST(a_lost_row_gives_the_selection_to_its_neighbour) {
    struct rows t;
    struct list *l = open_rows(&t, 5);
    list_select(l, 3);
    memmove(t.id + 2, t.id + 3, 2 * sizeof t.id[0]);
    t.n = 4;
    ck_assert(list_sync(l));
    ck_assert_int_eq(list_id(l), 4);
    t.n = 2;
    ck_assert(list_sync(l));
    ck_assert_int_eq(list_id(l), 2);
    t.n = 0;
    list_sync(l);
    ck_assert_int_eq(list_id(l), 0);
    ck_assert_int_eq(list_row(l), -1);
    ck_assert(!list_key(l, 'j'));
    t.n = 3;
    list_sync(l);
    ck_assert_int_eq(list_row(l), 0);
    list_free(l);
}
END_TEST

START_TEST(keys_move_and_stop_at_the_ends) {
    static const struct {
        uint32_t key;
        int row;
    } t[] = {
        {'j', 1},
        {KEY_DOWN, 2},
        {'k', 1},
        {KEY_UP, 0},
        {'k', 0},
        {'G', 49},
        {'j', 49},
        {'g', 0},
        {KEY_END, 49},
        {KEY_HOME, 0},
        {KEY_PGDN, 10},
        {MOD_CTRL | 'f', 20},
        {MOD_CTRL | 'd', 25},
        {MOD_CTRL | 'u', 20},
        {KEY_PGUP, 10},
        {MOD_CTRL | 'b', 0},
    };
    struct rows rows;
    struct list *l = open_rows(&rows, 50);
    struct surf *s = surf_new(40, 11);
    list_draw(l, s, (struct rect){0, 0, 40, 11}, true);
    ck_assert_int_eq(list_page(l), 10);
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        ck_assert(list_key(l, t[i].key));
        ck_assert_msg(list_row(l) == t[i].row, "key %zu: row %d not %d", i,
                      list_row(l), t[i].row);
    }
    ck_assert(!list_key(l, 'x'));
    list_move(l, INT32_MAX);
    ck_assert_int_eq(list_row(l), 49);
    list_move(l, -INT32_MAX);
    ck_assert_int_eq(list_row(l), 0);
    surf_free(s);
    list_free(l);
}
END_TEST

START_TEST(only_visible_rows_are_asked_for) {
    struct rows t;
    struct list *l = open_rows(&t, 200);
    struct surf *s = surf_new(80, 10);
    for (int row = 0; row < 200; row += 7) {
        int x = -1, y = -1;
        list_select_row(l, row);
        t.asked = 0;
        surf_clear(s);
        list_draw(l, s, (struct rect){0, 0, 80, 10}, true);
        ck_assert_int_le(t.asked, 9 * 3);
        ck_assert(surf_cursor_at(s, &x, &y));
        ck_assert(y >= 1 && y < 10);
        ck_assert_str_eq(surf_cell(s, 0, y)->s, ">");
    }
    surf_free(s);
    list_free(l);
}
END_TEST

START_TEST(marks_are_a_set_that_stays) {
    struct rows t;
    int64_t ids[8];
    struct list *l = open_rows(&t, 20);
    list_mark(l, 7, true);
    list_mark(l, 3, true);
    list_mark(l, 7, true);
    ck_assert_int_eq(list_marks(l, ids, 8), 2);
    ck_assert(ids[0] == 3 && ids[1] == 7);
    ck_assert(list_key(l, ' ')); /* marks 1, goes on */
    ck_assert(list_marked(l, 1) && list_row(l) == 1);
    list_mark(l, 3, false);
    ck_assert(!list_marked(l, 3));
    list_mark_all(l, true);
    ck_assert_int_eq(list_marks(l, ids, 8), 20);
    list_mark_all(l, false);
    ck_assert_int_eq(list_marks(l, ids, 8), 0);
    list_free(l);
}
END_TEST

START_TEST(every_size_draws_inside) {
    struct rows t;
    struct list *l = open_rows(&t, 30);
    list_select_row(l, 17);
    for (int w = 0; w < 60; w++)
        for (int h = 0; h < 12; h++) {
            struct surf *s = surf_new(64, 16);
            surf_fill(s, (struct rect){0, 0, 64, 16}, ROLE_TEXT, "#");
            list_draw(l, s, (struct rect){2, 2, w, h}, h % 2);
            for (int y = 0; y < 16; y++)
                for (int x = 0; x < 64; x++)
                    if (!rect_has((struct rect){2, 2, w, h}, x, y))
                        ck_assert_str_eq(surf_cell(s, x, y)->s, "#");
            surf_free(s);
        }
    list_free(l);
}
END_TEST

START_TEST(an_empty_list_says_so) {
    struct rows t;
    char range[64];
    struct list *l = open_rows(&t, 0);
    struct surf *s = surf_new(40, 8);
    list_empty_text(l, "no runs yet\nA starts one");
    list_draw(l, s, (struct rect){0, 0, 40, 8}, true);
    golden_check(s, "list-empty-40x8");
    list_range(l, range, sizeof range);
    ck_assert_str_eq(range, "");
    surf_free(s);
    list_free(l);
}
END_TEST

Suite *list_suite(void) {
    Suite *s = suite_create("list");
    TCase *t = tcase_create("list");
    tcase_add_test(t, grids_are_as_recorded);
    tcase_add_test(t, selection_follows_its_row);
    tcase_add_test(t, an_untouched_list_can_keep_its_top);
    tcase_add_test(t, a_lost_row_gives_the_selection_to_its_neighbour);
    tcase_add_test(t, keys_move_and_stop_at_the_ends);
    tcase_add_test(t, only_visible_rows_are_asked_for);
    tcase_add_test(t, marks_are_a_set_that_stays);
    tcase_add_test(t, every_size_draws_inside);
    tcase_add_test(t, an_empty_list_says_so);
    suite_add_tcase(s, t);
    return s;
}
