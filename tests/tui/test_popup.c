/* Commands as data, keys to commands, sheets, menus, help, palette. */
#include "tests/tui/golden.h"
#include "tui/cmd.h"
#include "tui/keymap.h"
#include "tui/w_popup.h"

Suite *popup_suite(void);

static void run_none(void *app, const char *args) {
    (void)app;
    (void)args;
}
static const char *never(void *app) {
    (void)app;
    return "no run is selected";
}

static const struct cmd cmds[] = {
    {"app.help", "Help", "keys of this screen", "?", "global", 0, "help", NULL,
     run_none},
    {"app.palette", "Commands", "all of them, searched", "C-p", "global", 0, "",
     NULL, run_none},
    {"list.top", "First row", "to the top", "Home (g g)", "list", 0, "", NULL,
     run_none},
    {"list.end", "Last row", "to the end", "G End", "list", CMD_MOTION, "",
     NULL, run_none},
    {"job.open", "Open", "the run's dashboard", "Enter", "jobs", 0, "open",
     NULL, run_none},
    {"job.pause", "Pause or resume", "stops after the step", "Z", "jobs",
     CMD_MUTATES, "pause", never, run_none},
    {"job.mark", "Mark", "for comparing", "Space", "jobs", 0, "mark", NULL,
     run_none},
    {"job.add", "Start a run", "asks for a recipe", "A", "jobs", CMD_MUTATES,
     "add", NULL, run_none},
};
enum { NCMDS = sizeof cmds / sizeof cmds[0] };

static const char *const path[] = {"jobs", "list", "global"};

static enum popup_result key_of(enum popup_result (*to)(void *, uint32_t),
                                void *arg, const char *name) {
    return to(arg, key_parse(name, strlen(name)));
}
static enum popup_result to_sheet(void *sh, uint32_t key) {
    return sheet_event(sh, &(struct ev){.kind = EV_KEY, .key = key});
}
static enum popup_result to_menu(void *m, uint32_t key) {
    return menu_event(m, &(struct ev){.kind = EV_KEY, .key = key});
}
static enum popup_result to_finder(void *f, uint32_t key) {
    return finder_event(f, &(struct ev){.kind = EV_KEY, .key = key});
}

START_TEST(a_good_table_has_no_fault) {
    char why[256];
    ck_assert_msg(cmd_check(cmds, NCMDS, why, sizeof why) == 0, "%s", why);
}
END_TEST

START_TEST(a_bad_table_is_told_why) {
    static const struct {
        struct cmd c[2];
        const char *says;
    } t[] = {
        {{{"a.b", "T", "d", "j", "x", 0, "", NULL, run_none},
          {"a.c", "T", "d", "j", "x", 0, "", NULL, run_none}},
         "same key"},
        {{{"a.b", "T", "d", "g", "x", 0, "", NULL, run_none},
          {"a.c", "T", "d", "(g g)", "x", 0, "", NULL, run_none}},
         "same key"},
        {{{"a.b", "T", "d", "", "x", 0, "", NULL, run_none},
          {"a.b", "T", "d", "", "y", 0, "", NULL, run_none}},
         "twice"},
        {{{"a.b", "T", "d", "P", "x", 0, "", NULL, run_none},
          {"a.c", "T", "d", "", "x", 0, "", NULL, run_none}},
         "capital"},
        {{{"a.b", "T", "d", "p", "x", CMD_MUTATES, "", NULL, run_none},
          {"a.c", "T", "d", "", "x", 0, "", NULL, run_none}},
         "changes"},
        {{{"a.b", "T", "d", "Hoem", "x", 0, "", NULL, run_none},
          {"a.c", "T", "d", "", "x", 0, "", NULL, run_none}},
         "no such key"},
        {{{"a.b", "T", "d", "(g", "x", 0, "", NULL, run_none},
          {"a.c", "T", "d", "", "x", 0, "", NULL, run_none}},
         "no such key"},
        {{{"a.b", "", "d", "", "x", 0, "", NULL, run_none},
          {"a.c", "T", "d", "", "x", 0, "", NULL, run_none}},
         "title"},
        {{{"a.b", "T", "d\n", "", "x", 0, "", NULL, run_none},
          {"a.c", "T", "d", "", "x", 0, "", NULL, run_none}},
         "doc"},
        {{{"a.b", "T", "d", "", "x", 0, "", NULL, NULL},
          {"a.c", "T", "d", "", "x", 0, "", NULL, run_none}},
         "nothing"},
    };
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        char why[256];
        ck_assert_int_gt(cmd_check(t[i].c, 2, why, sizeof why), 0);
        ck_assert_msg(strstr(why, t[i].says), "%zu: %s", i, why);
    }
}
END_TEST

START_TEST(lines_name_commands) {
    static const struct {
        const char *line, *id, *args;
    } t[] = {
        {"job.pause", "job.pause", ""},
        {"pause  now ", "job.pause", "now "},
        {"  open", "job.open", ""},
        {"start x", "job.add", "x"},
        {"PAUSE", "job.pause", ""},
        {"job", NULL, NULL},
        {"", NULL, NULL},
        {"nonsense", NULL, NULL},
    };
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        const char *args = NULL;
        const struct cmd *c = cmd_parse(cmds, NCMDS, t[i].line, &args);
        ck_assert_msg(t[i].id ? c && strcmp(c->id, t[i].id) == 0 : !c, "\"%s\"",
                      t[i].line);
        if (t[i].id)
            ck_assert_str_eq(args, t[i].args);
    }
    ck_assert_int_eq(cmd_score(&cmds[0], "zzz"), 0);
    ck_assert_int_gt(cmd_score(&cmds[5], "pr"), cmd_score(&cmds[7], "pr"));
}
END_TEST

START_TEST(keys_find_the_innermost_command) {
    struct keymap *km = keymap_new(cmds, NCMDS);
    enum km_state st;
    ck_assert_ptr_eq(keymap_key(km, path, 3, 'Z', &st), &cmds[5]);
    ck_assert_int_eq(st, KM_FOUND);
    ck_assert_ptr_null(keymap_key(km, path + 1, 2, 'Z', &st));
    ck_assert_int_eq(st, KM_NONE);
    ck_assert_ptr_null(keymap_key(km, path, 3, 'g', &st));
    ck_assert_int_eq(st, KM_PENDING);
    ck_assert_str_eq(keymap_pending(km), "g");
    ck_assert_ptr_eq(keymap_key(km, path, 3, 'g', &st), &cmds[2]);
    keymap_key(km, path, 3, 'g', &st);
    keymap_reset(km);
    ck_assert_str_eq(keymap_pending(km), "");
    ck_assert_ptr_eq(keymap_key(km, path, 3, MOD_CTRL | 'p', &st), &cmds[1]);
    keymap_free(km);
}
END_TEST

START_TEST(hints_are_whole_at_every_width) {
    static const char *labels[] = {"open", "pause", "mark", "add", "help"};
    struct keymap *km = keymap_new(cmds, NCMDS);
    for (int w = 1; w <= 80; w++) {
        struct surf *s = surf_new(w, 1);
        keymap_hints(km, path, 3, NULL, s, 0, 0, w, 7);
        char *d = surf_dump(s);
        for (const char *p = d; *p;) { /* words of letters are labels or keys */
            size_t k = strspn(p, "abcdefghijklmnopqrstuvwxyz");
            bool is_known = k < 2;
            for (size_t i = 0; i < 5; i++)
                is_known |=
                    k == strlen(labels[i]) && strncmp(p, labels[i], k) == 0;
            ck_assert_msg(is_known, "%d: %s", w, d);
            p += k > 0 ? k : 1;
        }
        free(d);
        surf_free(s);
    }
    struct surf *s = surf_new(80, 1);
    keymap_hints(km, path, 3, NULL, s, 0, 0, 80, 7);
    golden_check(s, "hints-80");
    surf_free(s);
    keymap_free(km);
}
END_TEST

START_TEST(a_sheet_asks_for_the_name) {
    struct sheet *sh = sheet_new("Delete 3/final", "Delete");
    struct surf *s = surf_new(80, 24);
    ck_assert_int_eq(sheet_row(sh, "frees", ROLE_TEXT, "18 MB"), 0);
    ck_assert_int_eq(sheet_row(sh, "undo", ROLE_WARN,
                               "none: a deleted checkpoint is gone, and what "
                               "was trained from it cannot be resumed"),
                     0);
    ck_assert_int_eq(sheet_type(sh, "ok"), 0);
    ck_assert_int_eq(key_of(to_sheet, sh, "Enter"), POPUP_OPEN);
    sheet_draw(sh, s, (struct rect){0, 0, 80, 24});
    golden_check(s, "sheet-80x24");
    key_of(to_sheet, sh, "o");
    ck_assert_int_eq(key_of(to_sheet, sh, "Enter"), POPUP_OPEN);
    key_of(to_sheet, sh, "k");
    ck_assert_int_eq(key_of(to_sheet, sh, "Enter"), POPUP_DONE);
    key_of(to_sheet, sh, "k");
    ck_assert_int_eq(key_of(to_sheet, sh, "Enter"), POPUP_OPEN);
    ck_assert_int_eq(key_of(to_sheet, sh, "Esc"), POPUP_CANCEL);
    surf_free(s);
    sheet_free(sh);
}
END_TEST

START_TEST(a_sheet_has_fields) {
    struct sheet *sh = sheet_new("Fork", "Start");
    sheet_field(sh, "name", "sft-2");
    sheet_field(sh, "lr", "2e-5");
    key_of(to_sheet, sh, "End");
    key_of(to_sheet, sh, "x");
    key_of(to_sheet, sh, "Tab");
    key_of(to_sheet, sh, "Backspace");
    key_of(to_sheet, sh, "6");
    ck_assert_str_eq(sheet_value(sh, 0), "sft-2x");
    ck_assert_str_eq(sheet_value(sh, 1), "2e-6");
    ck_assert_str_eq(sheet_value(sh, 2), "");
    sheet_error(sh, "that name is taken");
    struct surf *s = surf_new(60, 10);
    sheet_draw(sh, s, (struct rect){0, 0, 60, 10});
    golden_check(s, "sheet-60x10");
    ck_assert_int_eq(key_of(to_sheet, sh, "Enter"), POPUP_DONE);
    surf_free(s);
    sheet_free(sh);
}
END_TEST

START_TEST(text_replaces_the_suggestion_of_a_field) {
    struct sheet *sh = sheet_new("Promote", "Promote");
    sheet_field(sh, "name", "final");
    key_of(to_sheet, sh, "p");
    key_of(to_sheet, sh, "q");
    ck_assert_str_eq(sheet_value(sh, 0), "pq");
    sheet_free(sh);
}
END_TEST

START_TEST(a_menu_refuses_what_cannot_be) {
    struct menu *m = menu_new("Compare");
    menu_add(m, 'w', "weights", NULL);
    menu_add(m, 'e', "evals", "no eval was run");
    menu_add(m, 's', "samples", NULL);
    ck_assert_int_eq(key_of(to_menu, m, "e"), POPUP_OPEN);
    ck_assert_int_eq(key_of(to_menu, m, "Enter"), POPUP_OPEN);
    ck_assert_int_eq(key_of(to_menu, m, "Down"), POPUP_OPEN);
    struct surf *s = surf_new(60, 10);
    menu_draw(m, s, (struct rect){0, 0, 60, 10});
    golden_check(s, "menu-60x10");
    ck_assert_int_eq(key_of(to_menu, m, "Enter"), POPUP_DONE);
    ck_assert_int_eq(menu_chosen(m), 2);
    ck_assert_int_eq(key_of(to_menu, m, "w"), POPUP_DONE);
    ck_assert_int_eq(menu_chosen(m), 0);
    surf_free(s);
    menu_free(m);
}
END_TEST

START_TEST(help_and_palette_narrow_as_one_types) {
    struct keymap *km = keymap_new(cmds, NCMDS);
    struct surf *s = surf_new(80, 20);
    struct finder *f = finder_help(km, path, 3, NULL);
    finder_draw(f, s, (struct rect){0, 0, 80, 20});
    golden_check(s, "help-80x20");
    finder_free(f);
    f = finder_palette(cmds, NCMDS, NULL);
    key_of(to_finder, f, "p");
    key_of(to_finder, f, "a");
    key_of(to_finder, f, "u");
    ck_assert_ptr_null(finder_chosen(f)); /* pause is off */
    ck_assert_int_eq(key_of(to_finder, f, "Enter"), POPUP_OPEN);
    surf_clear(s);
    finder_draw(f, s, (struct rect){0, 0, 80, 20});
    golden_check(s, "palette-80x20");
    for (int i = 0; i < 3; i++)
        key_of(to_finder, f, "Backspace");
    key_of(to_finder, f, "m");
    key_of(to_finder, f, "a");
    key_of(to_finder, f, "r");
    ck_assert_int_eq(key_of(to_finder, f, "Enter"), POPUP_DONE);
    ck_assert_str_eq(finder_chosen(f)->id, "job.mark");
    finder_free(f);
    surf_free(s);
    keymap_free(km);
}
END_TEST

START_TEST(popups_draw_inside_at_every_size) {
    struct sheet *sh = sheet_new("A title that is long 模型", "Go");
    struct menu *m = menu_new("M");
    struct keymap *km = keymap_new(cmds, NCMDS);
    struct finder *f = finder_help(km, path, 3, NULL);
    for (int i = 0; i < 20; i++) {
        sheet_row(sh, "label", ROLE_TEXT,
                  "some words and 模型 to wrap\nand on");
        menu_add(m, 0, "item", i % 2 ? "why not" : NULL);
    }
    sheet_type(sh, "x");
    for (int w = 0; w < 90; w++)
        for (int h = 0; h < 26; h++) {
            struct surf *s = surf_new(94, 28);
            struct rect r = {2, 1, w, h};
            surf_fill(s, surf_bounds(s), ROLE_TEXT, "#");
            sheet_draw(sh, s, r);
            menu_draw(m, s, r);
            finder_draw(f, s, r);
            to_menu(m, KEY_DOWN);
            to_finder(f, KEY_DOWN);
            for (int y = 0; y < 28; y++)
                for (int x = 0; x < 94; x++)
                    if (!rect_has(r, x, y))
                        ck_assert_msg(strcmp(surf_cell(s, x, y)->s, "#") == 0,
                                      "%dx%d at %d %d", w, h, x, y);
            surf_free(s);
        }
    sheet_free(sh);
    menu_free(m);
    finder_free(f);
    keymap_free(km);
}
END_TEST

Suite *popup_suite(void) {
    Suite *s = suite_create("popup");
    TCase *t = tcase_create("popup");
    tcase_set_timeout(t, 30);
    tcase_add_test(t, a_good_table_has_no_fault);
    tcase_add_test(t, a_bad_table_is_told_why);
    tcase_add_test(t, lines_name_commands);
    tcase_add_test(t, keys_find_the_innermost_command);
    tcase_add_test(t, hints_are_whole_at_every_width);
    tcase_add_test(t, a_sheet_asks_for_the_name);
    tcase_add_test(t, a_sheet_has_fields);
    tcase_add_test(t, text_replaces_the_suggestion_of_a_field);
    tcase_add_test(t, a_menu_refuses_what_cannot_be);
    tcase_add_test(t, help_and_palette_narrow_as_one_types);
    tcase_add_test(t, popups_draw_inside_at_every_size);
    suite_add_tcase(s, t);
    return s;
}
