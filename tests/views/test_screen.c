/* The screen over a made-up snapshot: every view at every size. */
#include "core/clock.h"
#include "tests/tui/golden.h"
#include "views/app_int.h"
#include "views/cli.h"

#include <math.h>

Suite *screen_suite(void);

#define STEPS 120
#define CURVES 4
#define MINUTE_US 60000000LL

static struct world {
    struct snap snap;
    struct store_run run[3];
    struct job_row job[3];
    struct store_ckpt ckpt[2];
    struct store_deployment deploy[1];
    struct store_sample sample[4];
    struct store_event event[2];
    struct store_config_kv config[3];
    struct store_series series[CURVES];
    struct store_bucket bucket[CURVES][STEPS];
    char *log[2];
    struct store_model model[2];
    struct model_row model_row[2];
    struct page page;
    struct inspect example;
    struct inspect_token token[8];
} w;

static void make_curve(int k, const char *name, double from, double to) {
    w.series[k] = (struct store_series){.name = name,
                                        .last_step = STEPS - 1,
                                        .n = STEPS,
                                        .min = to,
                                        .max = from};
    for (int i = 0; i < STEPS; i++) {
        double v = to + (from - to) * exp(-i / 30.0);
        w.bucket[k][i] = (struct store_bucket){.step0 = i,
                                               .step1 = i,
                                               .min = v,
                                               .max = v,
                                               .sum = v,
                                               .last = v,
                                               .n = 1};
        w.series[k].last = v;
    }
    w.snap.curves[k] =
        (struct snap_curve){&w.series[k], {STEPS, w.bucket[k], 1}};
}

static void make_runs(int64_t now) {
    static const char *const names[] = {"town-2", "town-1",
                                        "a\x1b[31m\tbad name"};
    for (int i = 0; i < 3; i++) {
        w.run[i] = (struct store_run){
            .id = 3 - i,
            .name = names[i],
            .recipe = "sft",
            .model = "starter",
            .config = "{}",
            .state = i == 0   ? STORE_RUN_RUNNING
                     : i == 1 ? STORE_RUN_DONE
                              : STORE_RUN_FAILED,
            .error = i == 2 ? "worker: not enough memory" : "",
            .cursor = i == 0 ? STEPS : 300,
            .planned = 300,
            .created_us = now - (i + 1) * 10 * MINUTE_US,
            .tmodel = "",
            .note = "",
            .tags = ""};
        w.job[i] = (struct job_row){.run = &w.run[i],
                                    .loss = 0.5 + i,
                                    .eval = NAN,
                                    .tok_s = 2500,
                                    .step_s = 0.1,
                                    .lr = 1e-4,
                                    .n_trend = 4,
                                    .trend = {4, 3, 2, 1}};
        w.snap.counts[w.run[i].state]++;
    }
}

/* A row of data: control, header, content, trained content, its end. */
static void make_page(void) {
    static char text[] = "<s>user\nWho?<e>\nMira <e>.<e>";
    static const struct inspect_token tokens[] = {
        {1, 0, 3, 0, ORIGIN_HEADER, true},
        {2, 3, 5, 0, ORIGIN_HEADER, false},
        {3, 8, 4, 0, ORIGIN_CONTENT, false},
        {4, 12, 3, 0, ORIGIN_TEMPLATE, true},
        {5, 15, 1, 0, ORIGIN_TEMPLATE, false},
        {6, 16, 5, 1, ORIGIN_CONTENT, false},
        {7, 21, 4, 1, ORIGIN_CONTENT, false},
        {4, 25, 3, 1, ORIGIN_TEMPLATE, true},
    };
    memcpy(w.token, tokens, sizeof tokens);
    w.example = (struct inspect){w.token, 8, text, 3, 2, 0};
    w.page = (struct page){.want = {.run = 3, .row = 2},
                           .source = "chat.jsonl",
                           .renderer = "qwen3",
                           .row = 2,
                           .line = 3,
                           .rows = 1234,
                           .example = &w.example,
                           .n = 1,
                           .tokens = 8,
                           .trained = 3,
                           .lost = 2};
    atomic_init(&w.page.refs, 1000); /* never freed */
    w.snap.page = &w.page;
}

static void make_models(int64_t now) {
    static json_t *report; /* leaves with the process */
    if (!report)
        report = json_pack("{s:s, s:i, s:i, s:i, s:i, s:[{s:s,s:s,s:s,s:s},"
                           "{s:s,s:s,s:s}]}",
                           "renderer", "qwen3", "scenarios", 51, "equal", 49,
                           "known", 1, "different", 1, "rows", "scenario",
                           "two_rounds", "verdict", "different", "ours",
                           "ours\nhere\x1b[31m", "template", "theirs",
                           "scenario", "user_parts", "verdict", "known", "why",
                           "a content of parts");
    for (int i = 0; i < 2; i++) {
        w.model[i] =
            (struct store_model){.name = i ? "starter" : "Qwen/Qwen3-0.6B",
                                 .dir = i ? "/models/s" : "/models/q",
                                 .family = "qwen3",
                                 .params = i ? 2600000 : 596000000,
                                 .added_us = now - 60 * MINUTE_US};
        w.model_row[i] = (struct model_row){&w.model[i], i ? NULL : report};
    }
    w.snap.models = (struct store_models){2, w.model, NULL};
    w.snap.model_rows = w.model_row;
}

static const struct snap *make_world(void) {
    int64_t now = clock_wall_us();
    memset(&w, 0, sizeof w);
    make_runs(now);
    make_page();
    make_models(now);
    for (int i = 0; i < 2; i++)
        w.ckpt[i] = (struct store_ckpt){.id = i ? "2/step-100" : "2/final",
                                        .run = 2,
                                        .name = i ? "step-100" : "final",
                                        .step = i ? 100 : 300,
                                        .kind = "state",
                                        .model = "starter",
                                        .promoted = i ? "" : "prod",
                                        .bytes = 1234567,
                                        .created_us = now - 10 * MINUTE_US};
    w.deploy[0] = (struct store_deployment){.name = "prod",
                                            .ckpt = "2/final",
                                            .model = "starter",
                                            .precision = "exact",
                                            .state = STORE_DEPLOY_SERVING,
                                            .error = "",
                                            .version = 1,
                                            .versions = 1,
                                            .created_us = now - MINUTE_US,
                                            .updated_us = now - MINUTE_US};
    for (int i = 0; i < 4; i++)
        w.sample[i] = (struct store_sample){
            .run = 3,
            .step = i / 2 * 100,
            .prompt_index = i % 2,
            .prompt = i % 2 ? "Who keeps a goat?" : "What is 2+3?",
            .text = i < 2 ? "The the the" : "Mira.\x1b]0;owned\x07 模型",
            .tokens = 3,
            .stop = "stop"};
    make_curve(0, "train_mean_nll", 6, 0.5);
    make_curve(1, "test/nll", 6, 0.9);
    make_curve(2, "grad_norm", 9, 1);
    make_curve(3, "tokens_per_s", 0, 11000);
    static const char *const key[] = {"model", "renderer", "learning_rate"};
    static const char *const value[] = {"starter", "qwen3", "0.0001"};
    for (int i = 0; i < 3; i++)
        w.config[i] = (struct store_config_kv){key[i], value[i], NAN};
    for (int i = 0; i < 2; i++)
        w.event[i] =
            (struct store_event){.id = 2 - i,
                                 .time_us = now - MINUTE_US,
                                 .run = 3,
                                 .step = i ? 50 : 100,
                                 .kind = i ? "restart" : "checkpoint",
                                 .level = i ? STORE_WARN : STORE_INFO,
                                 .text = i ? "the worker died" : "3/step-100",
                                 .is_read = true};
    w.log[0] = "step 118/300 nll 0.61";
    w.log[1] = "step 119/300 nll 0.60";
    w.snap.daemon = true;
    w.snap.runs = (struct store_runs){3, w.run, NULL};
    w.snap.jobs = w.job;
    w.snap.ckpts = (struct store_ckpts){2, w.ckpt, NULL};
    w.snap.deployments = (struct store_deployments){1, w.deploy, NULL};
    w.snap.samples = (struct store_samples){4, w.sample, NULL};
    w.snap.config = (struct store_config){3, w.config, NULL};
    w.snap.events = (struct store_events){2, w.event, NULL};
    w.snap.series = (struct store_series_list){CURVES, w.series, NULL};
    w.snap.n_curves = CURVES;
    w.snap.run = &w.run[0];
    w.snap.log = w.log;
    w.snap.n_log = 2;
    return &w.snap;
}

static void open_app(struct app *a) {
    struct err err = {0};
    memset(a, 0, sizeof *a);
    ck_assert_msg(app_init(a, &err) == 0, "%s", err.msg);
}

static const char *const view_names[VIEWS] = {"jobs",    "run",  "ckpt",
                                              "samples", "chat", "deploy",
                                              "models",  "rows", "parity"};

static const int golden_size[][2] = {{40, 10}, {60, 15}, {80, 24}, {200, 60}};
#define GOLDEN_SIZES ((int)(sizeof golden_size / sizeof *golden_size))

START_TEST(views_are_as_recorded) {
    const int *size = golden_size[_i / VIEWS];
    enum view_id v = (enum view_id)(_i % VIEWS);
    struct app a;
    char name[64];
    setenv("TZ", "UTC0", 1);
    open_app(&a);
    app_snap(&a, make_world());
    struct surf *s = surf_new(size[0], size[1]);
    a.ckpt_all = true;
    a.wall_us = 12 * 60 * MINUTE_US;
    a.page = w.page.want;
    app_go(&a, v);
    app_draw(&a, s);
    snprintf(name, sizeof name, "view-%s-%dx%d", view_names[v], size[0],
             size[1]);
    golden_check(s, name);
    surf_free(s);
    app_release(&a);
}
END_TEST

/* The screen's text at a size; free() it. */
static char *drawn(struct app *a, int w_cells, int h) {
    struct surf *s = surf_new(w_cells, h);
    app_draw(a, s);
    char *text = surf_dump(s);
    ck_assert_ptr_nonnull(text);
    surf_free(s);
    return text;
}

static void shows(struct app *a, const char *what) {
    char *text = drawn(a, 80, 24);
    ck_assert_msg(strstr(text, what), "no '%s' on:\n%s", what, text);
    free(text);
}

START_TEST(every_view_shows_its_main_pane_at_every_size) {
    static const char *const main_pane[VIEWS][4] = {
        [VIEW_JOBS] = {"NAME", "town-2", "town-1"},
        [VIEW_RUN] = {"town-2", "● RUN", "─ loss", "└"},
        [VIEW_CKPT] = {"CHECKPOINT", "2/final", "2/step-100"},
        [VIEW_SAMPLES] = {"p1 ", "prompt", "B  step"},
        [VIEW_CHAT] = {"Nobody to talk to", ":chat NAME"},
        [VIEW_DEPLOY] = {"NAME", "prod", "serving"},
        [VIEW_MODELS] = {"NAME", "Qwen/Qwen", "49/51 !", "starter"},
        [VIEW_ROWS] = {"chat.jsonl", "row 2/1234+ line 3", "8 tokens", "Who?"},
        [VIEW_PARITY] = {"SCENARIO", "two_rounds", "different"},
    };
    struct app a;
    open_app(&a);
    app_snap(&a, make_world());
    a.ckpt_all = true;
    a.page = w.page.want;
    app_go(&a, (enum view_id)_i);
    for (int cells = 40; cells <= 120; cells += 10)
        for (int h = 10; h <= 40; h++) {
            char *text = drawn(&a, cells, h);
            for (int i = 0; i < 4 && main_pane[_i][i]; i++)
                ck_assert_msg(strstr(text, main_pane[_i][i]),
                              "no '%s' at %dx%d:\n%s", main_pane[_i][i], cells,
                              h, text);
            free(text);
        }
    app_release(&a);
}
END_TEST

/* A strip's value and an event's step are whole, a blank between. */
START_TEST(panes_of_a_run_do_not_overlap) {
    struct app a;
    open_app(&a);
    app_snap(&a, make_world());
    w.event[0].step = 70000;
    app_go(&a, VIEW_RUN);
    for (int cells = 40; cells <= 120; cells++)
        for (int h = 10; h <= 40; h++) {
            char *text = drawn(&a, cells, h);
            bool has_metrics = strstr(text, "─ metrics");
            bool has_events = strstr(text, "─ events");
            const char *row = strstr(text, "grad_norm         1.1515 ");
            ck_assert_msg(!has_metrics == !row, "%dx%d:\n%s", cells, h, text);
            ck_assert_msg(!has_events || strstr(row, " 70000 ◆ 3/step-100\n"),
                          "%dx%d:\n%s", cells, h, text);
            ck_assert_msg(!has_events || has_metrics, "%dx%d", cells, h);
            free(text);
        }
    app_release(&a);
}
END_TEST

START_TEST(every_view_draws_at_every_size) {
    static const int size[][2] = {{1, 1},   {20, 5},   {40, 10},
                                  {80, 24}, {120, 40}, {200, 60}};
    struct app a;
    open_app(&a);
    app_go(&a, (enum view_id)_i);
    for (int world = 0; world < 2; world++) { /* empty, then full */
        if (world)
            app_snap(&a, make_world());
        for (size_t k = 0; k < sizeof size / sizeof *size; k++) {
            struct surf *s = surf_new(size[k][0], size[k][1]);
            app_draw(&a, s);
            char *text = surf_dump(s);
            ck_assert_ptr_nonnull(text);
            ck_assert_ptr_null(strchr(text, '\x1b'));
            ck_assert_ptr_null(strchr(text, '\x07'));
            free(text);
            surf_free(s);
        }
    }
    app_release(&a);
}
END_TEST

START_TEST(the_newest_run_is_shown_until_one_is_chosen) {
    struct app a;
    open_app(&a);
    const struct snap *s = make_world();
    w.snap.runs = (struct store_runs){2, w.run + 1, NULL};
    app_snap(&a, s);
    ck_assert_int_eq(a.run, 2);
    w.snap.runs = (struct store_runs){3, w.run, NULL};
    app_snap(&a, s);
    ck_assert_int_eq(a.run, 3);
    list_move(a.jobs, 1);
    a.run = list_id(a.jobs);
    app_snap(&a, s);
    ck_assert_int_eq(a.run, 2);
    app_release(&a);
}
END_TEST

START_TEST(a_store_that_is_away_for_a_moment_changes_no_selection) {
    static const struct snap away = {.error = "the store is locked"};
    struct app a;
    open_app(&a);
    app_snap(&a, make_world());
    app_open_run(&a, 2);
    app_snap(&a, &away);
    ck_assert_int_eq(a.run, 2);
    app_snap(&a, &w.snap);
    ck_assert_int_eq(a.run, 2);
    ck_assert_int_eq(list_id(a.jobs), 2);
    app_release(&a);
}
END_TEST

static void press(struct app *a, uint32_t key) {
    app_event(a, &(struct ev){.kind = EV_KEY, .key = key});
}

static void type(struct app *a, const char *text) {
    for (; *text; text++)
        press(a, (uint32_t)*text);
}

static void ask(struct app *a, const char *text) {
    type(a, text);
    press(a, KEY_ENTER);
}

static void answer(struct app *a, bool ok, const char *text) {
    char copy[128];
    snprintf(copy, sizeof copy, "%s", text);
    struct act_result piece = {ACT_CHAT, true, true, copy};
    struct act_result end = {ACT_CHAT, false, ok, ok ? "" : copy};
    if (ok)
        chat_result(a, &piece);
    chat_result(a, &end);
}

#define TOO_LONG "a prompt of 1045 tokens leaves no room in the context of 1024"

START_TEST(a_turn_that_failed_leaves_the_talk_and_is_offered_again) {
    struct app a;
    open_app(&a);
    chat_open(&a, "prod");
    ask(&a, "short");
    answer(&a, true, "Mira.");
    ck_assert_uint_eq(json_array_size(a.messages), 2);
    ask(&a, "very long");
    ck_assert_uint_eq(json_array_size(a.messages), 3);
    answer(&a, false, TOO_LONG);
    ck_assert_uint_eq(json_array_size(a.messages), 2);
    ck_assert_str_eq(edit_text(a.say), "very long");
    shows(&a, "> very long");
    shows(&a, "no room in the context of 1024");
    shows(&a, "no longer fits the context: C-t starts a new one");
    press(&a, MOD_CTRL | 'u');
    ask(&a, "brief");
    answer(&a, true, "Yes.");
    ck_assert_uint_eq(json_array_size(a.messages), 4);
    const char *said = json_string_value(
        json_object_get(json_array_get(a.messages, 2), "content"));
    ck_assert_str_eq(said, "brief");
    app_release(&a);
}
END_TEST

START_TEST(a_stopped_answer_stays_in_the_talk) {
    struct app a;
    open_app(&a);
    chat_open(&a, "prod");
    ask(&a, "tell");
    struct act_result piece = {ACT_CHAT, true, true, "Once"};
    chat_result(&a, &piece);
    shows(&a, "C-x stops the answer");
    press(&a, MOD_CTRL | 'x');
    answer(&a, false, "stopped");
    ck_assert_uint_eq(json_array_size(a.messages), 2);
    ck_assert_str_eq(edit_text(a.say), "");
    app_release(&a);
}
END_TEST

START_TEST(a_new_talk_forgets_the_former_and_its_answer) {
    struct app a;
    open_app(&a);
    chat_open(&a, "prod");
    shows(&a, "Enter sends  C-t new talk  Esc leaves the line");
    ask(&a, "one");
    answer(&a, true, "Mira.");
    ask(&a, "two");
    press(&a, MOD_CTRL | 't'); /* while the answer is under way */
    ck_assert(!a.talking);
    ck_assert_uint_eq(json_array_size(a.messages), 0);
    ck_assert_int_eq(text_lines(a.talk), 0);
    ask(&a, "three");
    answer(&a, true, "late"); /* to the dropped question */
    ck_assert(a.talking);
    ck_assert_uint_eq(json_array_size(a.messages), 1);
    answer(&a, true, "Goat.");
    ck_assert_uint_eq(json_array_size(a.messages), 2);
    press(&a, KEY_ESC);
    shows(&a, "n new talk");
    press(&a, 'n');
    ck_assert_uint_eq(json_array_size(a.messages), 0);
    ck_assert(a.typing);
    app_release(&a);
}
END_TEST

START_TEST(without_a_target_nothing_is_typed) {
    static const uint32_t keys[] = {'i', KEY_ENTER, 'n', MOD_CTRL | 't'};
    struct app a;
    open_app(&a);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        press(&a, '5');
        press(&a, keys[i]);
        ck_assert(!a.typing);
        press(&a, '1'); /* not swallowed */
        ck_assert_int_eq(a.view, VIEW_JOBS);
    }
    type(&a, ":chat prod");
    press(&a, KEY_ENTER);
    ck_assert(a.typing);
    ck_assert_str_eq(a.target, "prod");
    app_release(&a);
}
END_TEST

START_TEST(what_stands_still_is_resumed_by_the_key_that_pauses) {
    struct app a;
    open_app(&a);
    app_snap(&a, make_world());
    shows(&a, "Z pause");
    w.run[0].state = STORE_RUN_FAILED;
    shows(&a, "Z resume");
    press(&a, 'Z');
    ck_assert_ptr_nonnull(a.sheet);
    ck_assert_int_eq(a.act.kind, ACT_RESUME);
    app_release(&a);
}
END_TEST

/* ---- the inspector ---- */

START_TEST(the_data_of_the_run_is_a_key_away_and_back) {
    struct app a;
    open_app(&a);
    app_snap(&a, make_world());
    press(&a, 'i');
    ck_assert_int_eq(a.view, VIEW_ROWS);
    ck_assert_int_eq(a.page.run, 3);
    ck_assert_int_eq(a.page.row, 1);
    shows(&a, "n/p row  r number  w text/ids/facts");
    press(&a, 'q');
    ck_assert_int_eq(a.view, VIEW_JOBS);
    press(&a, '8');
    ck_assert_int_eq(a.view, VIEW_ROWS);
    app_release(&a);
}
END_TEST

START_TEST(rows_are_walked_and_asked_for_by_number) {
    struct app a;
    open_app(&a);
    app_snap(&a, make_world());
    press(&a, '8');
    press(&a, 'p');
    ck_assert_int_eq(a.page.row, 1);
    shows(&a, "this is the first row");
    press(&a, 'n');
    ck_assert_int_eq(a.page.row, 2);
    type(&a, "r99");
    press(&a, KEY_ENTER);
    ck_assert_int_eq(a.page.row, 99);
    w.page.is_all = true;
    type(&a, ":row 5000");
    press(&a, KEY_ENTER);
    ck_assert_int_eq(a.page.row, 1234);
    press(&a, 'n');
    ck_assert_int_eq(a.page.row, 1234);
    shows(&a, "this is the last row");
    type(&a, ":row x");
    press(&a, KEY_ENTER);
    ck_assert_int_eq(a.page.row, 1234);
    shows(&a, "a number from 1 on is wanted");
    app_release(&a);
}
END_TEST

START_TEST(tokens_are_shown_by_text_ids_and_facts) {
    struct app a;
    open_app(&a);
    app_snap(&a, make_world());
    press(&a, '8');
    shows(&a, "█Mira <e>.<e>");
    press(&a, 'w');
    shows(&a, "▒1 2 3 4 5 6 7 4");
    press(&a, 'w');
    shows(&a, "    7      4    1 template* <e>");
    press(&a, 'w');
    shows(&a, "█Mira <e>.<e>");
    app_release(&a);
}
END_TEST

START_TEST(what_keeps_a_row_away_is_said_in_its_place) {
    struct app a;
    open_app(&a);
    app_snap(&a, make_world());
    press(&a, '8');
    snprintf(w.page.error, sizeof w.page.error,
             "open data /x/chat.jsonl: No such file or directory");
    shows(&a, "open data /x/chat.jsonl: No such file");
    w.page.want.run = 1; /* another's: this run's is not read yet */
    shows(&a, "reading …");
    app_release(&a);
}
END_TEST

START_TEST(a_scenario_that_differs_is_shown_side_by_side_then_by_token) {
    struct app a;
    open_app(&a);
    app_snap(&a, make_world());
    press(&a, '7');
    shows(&a, "qwen3: 49 of 51 scenarios equal to the template; known: user_");
    press(&a, KEY_ENTER);
    ck_assert_int_eq(a.view, VIEW_PARITY);
    shows(&a, "[7:Models]");
    shows(&a, "not a known difference");
    shows(&a, "theirs");
    press(&a, 'j');
    shows(&a, "a content of parts");
    press(&a, 'i');
    ck_assert_int_eq(a.view, VIEW_ROWS);
    ck_assert_str_eq(a.page.model, "Qwen/Qwen3-0.6B");
    ck_assert_str_eq(scenario_id((int)a.page.row - 1), "user_parts");
    press(&a, 'q');
    ck_assert_int_eq(a.view, VIEW_PARITY);
    app_release(&a);
}
END_TEST

START_TEST(the_command_table_has_no_fault) {
    char why[256] = "";
    ck_assert_msg(cmd_check(app_cmds, app_n_cmds, why, sizeof why) == 0, "%s",
                  why);
}
END_TEST

START_TEST(every_verb_says_what_it_does) {
    int n = 0;
    for (const struct cli_verb *v; (v = cli_verbs(n)) != NULL; n++) {
        ck_assert_msg(*v->name && *v->help, "verb %d", n);
        ck_assert_ptr_nonnull(v->fn);
        ck_assert_msg(v->max < 0 || v->min <= v->max, "%s", v->name);
        int opts = 0;
        for (const struct cli_opt *o = v->opts; o && o->name; o++, opts++)
            ck_assert_msg(o->name[0] == '-' && *o->help, "%s %s", v->name,
                          o->name);
        ck_assert_int_le(opts, CLI_OPTS_MAX);
    }
    ck_assert_int_gt(n, 30);
}
END_TEST

Suite *screen_suite(void) {
    Suite *s = suite_create("screen");
    TCase *t = tcase_create("screen");
    tcase_add_loop_test(t, views_are_as_recorded, 0, VIEWS * GOLDEN_SIZES);
    tcase_add_loop_test(t, every_view_shows_its_main_pane_at_every_size, 0,
                        VIEWS);
    tcase_add_test(t, panes_of_a_run_do_not_overlap);
    tcase_add_loop_test(t, every_view_draws_at_every_size, 0, VIEWS);
    tcase_add_test(t, the_newest_run_is_shown_until_one_is_chosen);
    tcase_add_test(t, a_store_that_is_away_for_a_moment_changes_no_selection);
    tcase_add_test(t, a_turn_that_failed_leaves_the_talk_and_is_offered_again);
    tcase_add_test(t, a_stopped_answer_stays_in_the_talk);
    tcase_add_test(t, a_new_talk_forgets_the_former_and_its_answer);
    tcase_add_test(t, without_a_target_nothing_is_typed);
    tcase_add_test(t, what_stands_still_is_resumed_by_the_key_that_pauses);
    tcase_add_test(t, the_data_of_the_run_is_a_key_away_and_back);
    tcase_add_test(t, rows_are_walked_and_asked_for_by_number);
    tcase_add_test(t, tokens_are_shown_by_text_ids_and_facts);
    tcase_add_test(t, what_keeps_a_row_away_is_said_in_its_place);
    tcase_add_test(t,
                   a_scenario_that_differs_is_shown_side_by_side_then_by_token);
    tcase_add_test(t, the_command_table_has_no_fault);
    tcase_add_test(t, every_verb_says_what_it_does);
    suite_add_tcase(s, t);
    return s;
}
