/* The prefix cache: exact hits, what is dropped first, what never is. */
#include "core/sample/int.h"

#include <check.h>

Suite *sample_prefix_suite(void);

#define STARTER "core/starter/model"
#define PAGES 6

struct fixture {
    struct kern *kern;
    struct model *model;
    struct kv *kv;
    struct prefix *p;
};

static void open_fixture(struct fixture *f) {
    struct err err = {0};
    ck_assert_int_eq(kern_open(&f->kern, &(struct kern_opts){.threads = 1}),
                     KERN_OK);
    f->model = model_open(STARTER, f->kern, &err);
    f->kv = kv_new(f->model, f->kern, PAGES, &err);
    ck_assert_msg(f->kv != NULL, "%s", err.msg);
    f->p = prefix_new(f->kv, PAGES);
}

static void close_fixture(struct fixture *f) {
    prefix_free(f->p);
    kv_free(f->kv);
    model_close(f->model);
    f->kern->ops->close(f->kern);
}

/* A page of tokens that differ from those of another `what` in the last. */
static const uint32_t *page_of(uint32_t what) {
    static uint32_t tokens[KERN_PAGE];
    for (uint32_t i = 0; i < KERN_PAGE; i++)
        tokens[i] = i;
    tokens[KERN_PAGE - 1] = what;
    return tokens;
}

/* Fills a page and lets go of it: only the cache holds it then. */
static int32_t put(struct fixture *f, uint64_t version, int32_t up,
                   uint32_t what) {
    int32_t page = kv_take(f->kv);
    ck_assert_int_ge(page, 0);
    int32_t slot = prefix_add(f->p, version, up, page_of(what), page);
    kv_drop(f->kv, page);
    return slot;
}

static int32_t find(struct fixture *f, uint64_t version, int32_t up,
                    uint32_t what) {
    return prefix_find(f->p, version, up, page_of(what));
}

START_TEST(a_page_is_found_by_version_parent_and_every_token) {
    struct fixture f;
    open_fixture(&f);
    int32_t a = put(&f, 1, -1, 7), b = put(&f, 1, a, 8);
    ck_assert_int_eq(find(&f, 1, -1, 7), a);
    ck_assert_int_eq(find(&f, 1, a, 8), b);
    ck_assert_int_eq(find(&f, 1, -1, 8), -1);
    ck_assert_int_eq(find(&f, 1, b, 8), -1);
    ck_assert_int_eq(find(&f, 2, -1, 7), -1);
    ck_assert_int_eq(find(&f, 1, -1, 9), -1);
    int32_t page = kv_take(f.kv), kept = prefix_page(f.p, a);
    ck_assert_int_eq(prefix_add(f.p, 1, -1, page_of(7), page), a);
    ck_assert_int_eq(prefix_page(f.p, a), kept); /* the first stays */
    kv_drop(f.kv, page);
    ck_assert_int_eq(kv_left(f.kv), PAGES - 2);
    close_fixture(&f);
}
END_TEST

START_TEST(the_page_used_longest_ago_goes_first) {
    struct fixture f;
    open_fixture(&f);
    int32_t a = put(&f, 1, -1, 1), b = put(&f, 1, -1, 2);
    int32_t c = put(&f, 1, a, 3); /* a has a child, so it must not go */
    ck_assert_int_eq(find(&f, 1, -1, 1), a);
    ck_assert(prefix_evict(f.p));
    ck_assert_int_eq(find(&f, 1, -1, 2), -1);
    ck_assert(prefix_evict(f.p));
    ck_assert_int_eq(find(&f, 1, a, 3), -1);
    ck_assert(prefix_evict(f.p));
    ck_assert(!prefix_evict(f.p));
    ck_assert_int_eq(kv_left(f.kv), PAGES);
    ck_assert(b >= 0 && c >= 0);
    close_fixture(&f);
}
END_TEST

START_TEST(a_page_in_use_stays) {
    struct fixture f;
    open_fixture(&f);
    int32_t a = put(&f, 1, -1, 1);
    put(&f, 1, -1, 2);
    kv_share(f.kv, prefix_page(f.p, a));
    ck_assert(prefix_evict(f.p));
    ck_assert(!prefix_evict(f.p));
    ck_assert_int_eq(find(&f, 1, -1, 1), a);
    kv_drop(f.kv, prefix_page(f.p, a));
    ck_assert(prefix_evict(f.p));
    close_fixture(&f);
}
END_TEST

START_TEST(weights_that_are_gone_leave_no_page) {
    struct fixture f;
    open_fixture(&f);
    int32_t a = put(&f, 1, -1, 1), b = put(&f, 2, -1, 1);
    put(&f, 1, a, 2);
    put(&f, 2, b, 2);
    prefix_forget(f.p, 1);
    ck_assert_int_eq(kv_left(f.kv), PAGES - 2);
    ck_assert_int_eq(find(&f, 1, -1, 1), -1);
    ck_assert_int_eq(find(&f, 2, -1, 1), b);
    for (uint32_t i = 0; i < 20; i++) { /* slots and pages are used again */
        put(&f, 3, -1, 10 + i);
        if (kv_left(f.kv) == 0)
            ck_assert(prefix_evict(f.p));
    }
    prefix_forget(f.p, 2);
    prefix_forget(f.p, 3);
    ck_assert_int_eq(kv_left(f.kv), PAGES);
    close_fixture(&f);
}
END_TEST

Suite *sample_prefix_suite(void) {
    Suite *s = suite_create("sample prefix");
    TCase *tc = tcase_create("prefix");
    tcase_add_test(tc, a_page_is_found_by_version_parent_and_every_token);
    tcase_add_test(tc, the_page_used_longest_ago_goes_first);
    tcase_add_test(tc, a_page_in_use_stays);
    tcase_add_test(tc, weights_that_are_gone_leave_no_page);
    suite_add_tcase(s, tc);
    return s;
}
