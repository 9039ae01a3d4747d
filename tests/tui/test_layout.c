/* The layout solver: properties over all sizes and random trees. */
#include "tui/layout.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

Suite *layout_suite(void);

static uint32_t next_random(uint64_t *seed, uint32_t below) {
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33) % below;
}

struct tree {
    struct lay box[64];
    struct lay *kids[64][8];
    int n;
};

static struct lay *grow(struct tree *t, uint64_t *seed, int depth) {
    int i = t->n++;
    struct lay *b = &t->box[i];
    *b = (struct lay){.id = i + 1};
    b->prio = (int)next_random(seed, 5);
    b->weight = (int)next_random(seed, 4);
    b->hidden = next_random(seed, 12) == 0 && i > 0;
    if (depth == 0 || next_random(seed, 3) == 0) {
        b->min_w = (int)next_random(seed, 40);
        b->min_h = (int)next_random(seed, 12);
        if (next_random(seed, 3) == 0)
            b->max_w = b->min_w + 1 + (int)next_random(seed, 20);
        if (next_random(seed, 3) == 0)
            b->max_h = b->min_h + 1 + (int)next_random(seed, 6);
        return b;
    }
    b->dir = next_random(seed, 2) ? LAY_ROW : LAY_COL;
    b->gap = (int)next_random(seed, 2);
    b->kid = t->kids[i];
    int n = 1 + (int)next_random(seed, 4);
    for (int k = 0; k < n && t->n < 60; k++)
        b->kid[b->n++] = grow(t, seed, depth - 1);
    return b;
}

/* Every shown pane covers its cells alone and inside; returns how many. */
static int paint(const struct lay *b, struct rect area, uint8_t *cover,
                 int stride) {
    if (!b->shown)
        return 0;
    ck_assert(!b->hidden);
    ck_assert_int_gt(b->r.w, 0);
    ck_assert_int_gt(b->r.h, 0);
    ck_assert(b->r.x >= area.x && b->r.y >= area.y);
    ck_assert(b->r.x + b->r.w <= area.x + area.w);
    ck_assert(b->r.y + b->r.h <= area.y + area.h);
    if (b->dir == LAY_PANE) {
        int twice = 0;
        for (int y = b->r.y; y < b->r.y + b->r.h; y++)
            for (int x = b->r.x; x < b->r.x + b->r.w; x++)
                twice += cover[y * stride + x]++ != 0;
        ck_assert_int_eq(twice, 0);
        return 1;
    }
    int n = 0;
    for (int i = 0; i < b->n; i++)
        n += paint(b->kid[i], b->r, cover, stride);
    return n;
}

START_TEST(panes_are_disjoint_inside_and_not_empty) {
    static uint8_t cover[140 * 430];
    uint64_t seed = 7;
    for (int round = 0; round < 3000; round++) {
        struct tree t = {.n = 0};
        struct lay *root = grow(&t, &seed, 3);
        struct rect area = {
            (int)next_random(&seed, 3), (int)next_random(&seed, 3),
            5 + (int)next_random(&seed, 400), 2 + (int)next_random(&seed, 120)};
        memset(cover, 0, sizeof cover);
        lay_solve(root, area);
        paint(root, area, cover, 430);
    }
}
END_TEST

/* The Run view of the mock-ups. */
static struct lay *run_view(struct lay b[8], struct lay *k[2][4]) {
    b[0] = (struct lay){.id = 10, .dir = LAY_COL, .kid = k[0], .n = 3};
    b[1] =
        (struct lay){.id = 1, .min_w = 20, .min_h = 1, .max_h = 1, .prio = 5};
    b[2] = (struct lay){.id = 11,
                        .dir = LAY_ROW,
                        .gap = 1,
                        .kid = k[1],
                        .n = 2,
                        .prio = 9,
                        .weight = 3};
    b[3] = (struct lay){.id = 2, .min_w = 20, .min_h = 4, .prio = 2};
    b[4] =
        (struct lay){.id = 3, .min_w = 40, .min_h = 8, .prio = 9, .weight = 2};
    b[5] =
        (struct lay){.id = 4, .min_w = 24, .max_w = 34, .min_h = 8, .prio = 1};
    k[0][0] = &b[1];
    k[0][1] = &b[2];
    k[0][2] = &b[3];
    k[1][0] = &b[4];
    k[1][1] = &b[5];
    return &b[0];
}

START_TEST(the_primary_pane_stays_at_every_size) {
    for (int w = 1; w <= 400; w++)
        for (int h = 1; h <= 120; h += 1 + h / 12) {
            struct lay b[8], *k[2][4];
            struct lay *root = run_view(b, k);
            lay_solve(root, (struct rect){0, 0, w, h});
            ck_assert_msg(b[4].shown, "%dx%d", w, h);
            if (w >= 65 && h >= 13)
                ck_assert_msg(b[1].shown && b[3].shown && b[5].shown, "%dx%d",
                              w, h);
            for (int i = 1; i < 6; i++) /* alone: gets what there is */
                if (b[i].shown && b[i].dir == LAY_PANE && w >= 65 && h >= 13)
                    ck_assert(b[i].r.w >= b[i].min_w &&
                              b[i].r.h >= b[i].min_h &&
                              (b[i].max_w == 0 || b[i].r.w <= b[i].max_w));
        }
}
END_TEST

START_TEST(lowest_priority_is_dropped_first) {
    struct lay b[8], *k[2][4];
    struct lay *root = run_view(b, k);
    lay_solve(root, (struct rect){0, 0, 60, 24}); /* too narrow for the side */
    ck_assert(b[4].shown && !b[5].shown && b[3].shown && b[1].shown);
    ck_assert_int_eq(b[4].r.w, 60);
    lay_solve(root, (struct rect){0, 0, 120, 10}); /* too low for the log */
    ck_assert(b[4].shown && !b[3].shown && b[1].shown);
    lay_solve(root, (struct rect){0, 0, 120, 8});
    ck_assert(b[4].shown && !b[1].shown);
}
END_TEST

START_TEST(weights_share_what_is_left) {
    struct lay a = {.id = 1, .min_w = 10, .weight = 1};
    struct lay b = {.id = 2, .min_w = 10, .weight = 3};
    struct lay *kids[] = {&a, &b};
    struct lay root = {.dir = LAY_ROW, .gap = 1, .kid = kids, .n = 2};
    lay_solve(&root, (struct rect){0, 0, 101, 10});
    ck_assert_int_eq(a.r.w, 30);
    ck_assert_int_eq(b.r.w, 70);
    ck_assert_int_eq(b.r.x, 31);
    b.max_w = 40; /* what it leaves goes to the other */
    lay_solve(&root, (struct rect){0, 0, 101, 10});
    ck_assert_int_eq(a.r.w, 60);
    ck_assert_int_eq(b.r.w, 40);
    b.hidden = true;
    lay_solve(&root, (struct rect){0, 0, 101, 10});
    ck_assert(a.shown && !b.shown && a.r.w == 101);
    ck_assert_ptr_eq(lay_find(&root, 2), &b);
    ck_assert_ptr_eq(lay_at(&root, 50, 5), &a);
    ck_assert_ptr_null(lay_at(&root, 50, 10));
}
END_TEST

START_TEST(lines_stand_in_the_gaps_of_rows) {
    struct lay a = {.min_w = 3}, b = {.min_w = 3};
    struct lay *kids[] = {&a, &b};
    struct lay root = {.dir = LAY_ROW, .gap = 1, .kid = kids, .n = 2};
    struct surf *s = surf_new(7, 2);
    lay_solve(&root, (struct rect){0, 0, 7, 2});
    lay_lines(&root, s);
    char *d = surf_dump(s);
    ck_assert_str_eq(d, "   │\n   │\n");
    free(d);
    surf_free(s);
}
END_TEST

Suite *layout_suite(void) {
    Suite *s = suite_create("layout");
    TCase *t = tcase_create("layout");
    tcase_set_timeout(t, 30);
    tcase_add_test(t, panes_are_disjoint_inside_and_not_empty);
    tcase_add_test(t, the_primary_pane_stays_at_every_size);
    tcase_add_test(t, lowest_priority_is_dropped_first);
    tcase_add_test(t, weights_share_what_is_left);
    tcase_add_test(t, lines_stand_in_the_gaps_of_rows);
    suite_add_tcase(s, t);
    return s;
}
