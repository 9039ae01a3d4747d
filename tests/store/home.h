/*
 * home - for the store's tests: a directory of its own for each test, and the
 * store in it. Static functions, since every test file is a program.
 */
#ifndef FETTLE_TESTS_STORE_HOME_H
#define FETTLE_TESTS_STORE_HOME_H

#include "store/journal.h"
#include "store/series.h"

#include <check.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct home {
    char dir[64];
    struct store *st;
};

static int home_rm_one(const char *path, const struct stat *s, int type,
                       struct FTW *f) {
    (void)s, (void)type, (void)f;
    return remove(path);
}

#define ok(st, call) ck_assert_msg((call) == 0, "%s", store_errmsg(st))

static struct store *home_open(const struct home *h, enum store_mode mode) {
    struct store *st;
    ok(st, store_open(&st, &(struct store_opts){
                               .dir = h->dir, .mode = mode, .any_fs = true}));
    return st;
}

static void home_make(struct home *h) {
    snprintf(h->dir, sizeof h->dir, "/tmp/fettle-store-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(h->dir));
    h->st = NULL;
}

static void __attribute__((unused)) home_init(struct home *h) {
    home_make(h);
    h->st = home_open(h, STORE_WRITE);
}

static void home_release(struct home *h) {
    store_close(h->st);
    nftw(h->dir, home_rm_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void __attribute__((unused))
home_path(const struct home *h, const char *name, char out[256]) {
    snprintf(out, 256, "%s/%s", h->dir, name);
}

static int64_t __attribute__((unused))
home_run(struct home *h, const char *name) {
    int64_t run;
    ok(h->st, store_run_add(h->st,
                            &(struct store_run){.name = name,
                                                .recipe = "sft",
                                                .model = "m",
                                                .config = "{}"},
                            &run));
    return run;
}

/* splitmix64: the same numbers in every run. */
static uint64_t __attribute__((unused)) home_rand(uint64_t *s) {
    uint64_t z = (*s += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

#endif
