/* Pages: rows of a run's data by number, and the scenario bank. */
#include "views/page.h"

#include "core/fs.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

Suite *page_suite(void);

#define MODEL "core/starter/model"

static char home[64], data[96], model_dir[4096];
static struct store *st;
static struct pages *pages;

static void add_model(const char *name, const char *dir) {
    struct store_model m = {.name = name, .dir = dir, .family = "qwen3"};
    ck_assert_msg(store_model_add(st, &m) == STORE_OK, "%s", store_errmsg(st));
}

static void setup(void) {
    snprintf(home, sizeof home, "/tmp/fettle-page-%d", (int)getpid());
    struct err err = {0};
    ck_assert_int_eq(fs_mkdirs(home, &err), 0);
    snprintf(data, sizeof data, "%s/rows.jsonl", home);
    ck_assert_int_eq(
        store_open(&st, &(struct store_opts){.dir = home, .mode = STORE_WRITE}),
        STORE_OK);
    ck_assert_ptr_nonnull(realpath(MODEL, model_dir));
    add_model("m", model_dir);
    pages = pages_new();
}

static void teardown(void) {
    struct err err = {0};
    pages_free(pages);
    store_close(st);
    fs_remove_tree(home, &err);
}

static void write_data(const char *text) {
    FILE *f = fopen(data, "we");
    ck_assert_ptr_nonnull(f);
    ck_assert(fputs(text, f) >= 0);
    ck_assert_int_eq(fclose(f), 0);
}

static int64_t add_run(const char *model, const char *more) {
    char config[256];
    int64_t id = 0;
    snprintf(config, sizeof config, "{\"data\":\"%s\"%s}", data, more);
    struct store_run r = {.name = "",
                          .recipe = "sft",
                          .model = model,
                          .config = config,
                          .note = "",
                          .tags = ""};
    ck_assert_int_eq(store_run_add(st, &r, &id), STORE_OK);
    return id;
}

/* The page of a run's row, by as many steps as it takes. */
static struct page *page_of(int64_t run, int64_t row) {
    struct page_want w = {.run = run, .row = row};
    bool more = true;
    for (int i = 0; i < 100 && more; i++) {
        struct page *g = pages_step(pages, st, &w, &more);
        if (g)
            return g;
    }
    return NULL;
}

#define SAID(a) \
    "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"},{\"role\":" \
    "\"assistant\",\"content\":\"" a "\"}]}\n"

static void says(const struct page *g, const char *part) {
    ck_assert_ptr_nonnull(g);
    ck_assert_msg(strstr(g->error, part) != NULL, "%s", g->error);
}

START_TEST(a_page_names_its_row_and_its_line) {
    write_data("\n" SAID("One.") "  \n" SAID("Two."));
    struct page *g = page_of(add_run("m", ""), 2);
    ck_assert_ptr_nonnull(g);
    ck_assert_str_eq(g->error, "");
    ck_assert_int_eq(g->row, 2);
    ck_assert_int_eq(g->line, 4);
    ck_assert_int_eq(g->rows, 2);
    ck_assert(g->is_all && g->n == 1 && g->trained > 0);
    ck_assert_str_eq(g->source, "rows.jsonl");
    ck_assert_ptr_nonnull(strstr(g->example[0].text, "assistant\nTwo."));
    page_unref(g);
}
END_TEST

START_TEST(a_row_behind_the_last_is_the_last) {
    write_data(SAID("One.") SAID("Two."));
    struct page *g = page_of(add_run("m", ""), 99);
    ck_assert_int_eq(g->row, 2);
    page_unref(g);
}
END_TEST

START_TEST(a_page_is_made_once) {
    write_data(SAID("One."));
    int64_t run = add_run("m", "");
    page_unref(page_of(run, 1));
    ck_assert_ptr_null(page_of(run, 1));
}
END_TEST

START_TEST(rows_are_cut_as_the_run_cuts_them) {
    write_data("{\"tokens\":[1,2,3,4,5,6]}\n");
    struct page *g = page_of(add_run("m", ",\"max_length\":4"), 1);
    ck_assert_uint_eq(g->tokens, 4);
    ck_assert_uint_eq(g->trained, 3);
    ck_assert_uint_eq(g->lost, 2);
    page_unref(g);
}
END_TEST

START_TEST(a_bad_row_is_named_and_the_others_are_shown) {
    write_data("{oops\n" SAID("Two.") "{\"x\":1}\n");
    int64_t run = add_run("m", "");
    struct page *g = page_of(run, 1);
    says(g, "rows.jsonl:1: ");
    page_unref(g);
    g = page_of(run, 2);
    ck_assert_str_eq(g->error, "");
    page_unref(g);
    g = page_of(run, 3);
    says(g, "(x)");
    page_unref(g);
}
END_TEST

START_TEST(what_cannot_be_opened_is_said_once_and_tried_when_asked_again) {
    int64_t run = add_run("m", "");
    struct page *g = page_of(run, 1);
    says(g, "open data");
    page_unref(g);
    ck_assert_ptr_null(page_of(run, 1));
    write_data(SAID("One."));
    ck_assert_ptr_null(page_of(run, 1));
    ck_assert_ptr_null(page_of(0, 0)); /* looked away */
    g = page_of(run, 1);
    ck_assert_str_eq(g->error, "");
    page_unref(g);
}
END_TEST

START_TEST(what_is_missing_is_named) {
    write_data("\n");
    struct page *g = page_of(add_run("m", ""), 1);
    says(g, "no rows in it");
    page_unref(g);
    write_data(SAID("One."));
    g = page_of(add_run("gone", ""), 1);
    says(g, "gone is no longer registered");
    page_unref(g);
    g = page_of(4711, 1);
    says(g, "run 4711 is gone");
    page_unref(g);
}
END_TEST

/* The first row is there long before the last is known. */
START_TEST(held_out_rows_of_another_file_are_shown_too) {
    char more[160];
    write_data(SAID("One.") SAID("Two."));
    snprintf(more, sizeof more, ",\"eval_data\":\"%s\"", data);
    struct page_want w = {.run = add_run("m", more), .row = 2, .is_eval = true};
    bool again;
    struct page *g = pages_step(pages, st, &w, &again);
    ck_assert_str_eq(g->source, "rows.jsonl (eval_data)");
    ck_assert_int_eq(g->row, 2);
    page_unref(g);
    w.run = add_run("m", ",\"eval_data\":\"\"");
    g = pages_step(pages, st, &w, &again);
    says(g, "run 2 has no eval_data");
    page_unref(g);
}
END_TEST

START_TEST(a_large_file_is_read_by_pieces) {
    static const char row[] = SAID("Far.");
    off_t far = 80 << 20;
    write_data(SAID("Near."));
    FILE *f = fopen(data, "re+");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(fseeko(f, far, SEEK_SET), 0);
    ck_assert(fprintf(f, "\n%s", row) > 0); /* behind a line of zeros */
    ck_assert_int_eq(fclose(f), 0);
    struct page_want w = {.run = add_run("m", ""), .row = 1};
    bool more = false;
    struct page *g = pages_step(pages, st, &w, &more);
    ck_assert_ptr_nonnull(g);
    ck_assert(more && !g->is_all && g->rows == 1);
    page_unref(g);
    w.row = 3;
    ck_assert_ptr_null(pages_step(pages, st, &w, &more));
    ck_assert(more);
    g = page_of(w.run, 3);
    ck_assert(g->is_all && g->rows == 3 && g->line == 3);
    ck_assert_str_eq(g->error, "");
    page_unref(g);
    g = page_of(w.run, 2);
    says(g, "more than");
    page_unref(g);
}
END_TEST

START_TEST(a_model_shows_the_scenarios) {
    struct page_want w = {.model = "m", .row = 2};
    bool more;
    struct page *g = pages_step(pages, st, &w, &more);
    ck_assert_ptr_nonnull(g);
    ck_assert_str_eq(g->error, "");
    ck_assert_str_eq(g->name, scenario_id(1));
    ck_assert(!more && g->rows > 40 && g->line == 0 && g->tokens > 0);
    page_unref(g);
}
END_TEST

START_TEST(a_model_without_a_tokenizer_shows_no_scenarios) {
    char dir[96], to[128];
    struct err err = {0};
    snprintf(dir, sizeof dir, "%s/bare", home);
    snprintf(to, sizeof to, "%s/config.json", dir);
    ck_assert_int_eq(fs_mkdirs(dir, &err), 0);
    ck_assert_int_eq(fs_copy_file(MODEL "/config.json", to, &err), 0);
    add_model("bare", dir);
    struct page_want w = {.model = "bare", .row = 1};
    bool more;
    struct page *g = pages_step(pages, st, &w, &more);
    says(g, "model bare has no tokenizer");
    page_unref(g);
}
END_TEST

Suite *page_suite(void) {
    Suite *s = suite_create("page");
    TCase *tc = tcase_create("page");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, a_page_names_its_row_and_its_line);
    tcase_add_test(tc, a_row_behind_the_last_is_the_last);
    tcase_add_test(tc, a_page_is_made_once);
    tcase_add_test(tc, rows_are_cut_as_the_run_cuts_them);
    tcase_add_test(tc, a_bad_row_is_named_and_the_others_are_shown);
    tcase_add_test(
        tc, what_cannot_be_opened_is_said_once_and_tried_when_asked_again);
    tcase_add_test(tc, what_is_missing_is_named);
    tcase_add_test(tc, held_out_rows_of_another_file_are_shown_too);
    tcase_add_test(tc, a_large_file_is_read_by_pieces);
    tcase_add_test(tc, a_model_shows_the_scenarios);
    tcase_add_test(tc, a_model_without_a_tokenizer_shows_no_scenarios);
    suite_add_tcase(s, tc);
    return s;
}
