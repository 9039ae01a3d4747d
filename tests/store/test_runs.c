#include "tests/store/home.h"

#include <math.h>

static struct home h;

static void setup(void) { home_init(&h); }
static void teardown(void) { home_release(&h); }

static int64_t add(const char *name, const char *recipe, const char *config,
                   const char *tags) {
    int64_t run;
    ok(h.st, store_run_add(h.st,
                           &(struct store_run){.name = name,
                                               .recipe = recipe,
                                               .model = "Qwen/Qwen3-0.6B",
                                               .config = config,
                                               .tags = tags,
                                               .created_us = 5},
                           &run));
    return run;
}

static void metric(int64_t run, const char *name, double v) {
    struct store_point p = {.name = name, .step = 1, .value = v};
    ok(h.st, store_points_add(h.st, run, &p, 1));
}

START_TEST(a_run_lives_from_queued_to_done) {
    struct store_runs r;
    int64_t run = add("", "sft", NULL, NULL);
    ok(h.st, store_run_get(h.st, run, &r));
    ck_assert_str_eq(r.row[0].name, "sft-1");
    ck_assert_str_eq(r.row[0].config, "{}");
    ck_assert_int_eq(r.row[0].state, STORE_RUN_QUEUED);
    store_runs_free(&r);
    ok(h.st, store_run_state(h.st, run, STORE_RUN_RUNNING, NULL, 10));
    ok(h.st, store_run_plan(h.st, run, 200));
    ok(h.st, store_run_advance(h.st, run, 20, 3));
    ok(h.st, store_run_advance(h.st, run, 10, 4));
    ok(h.st, store_run_tmodel(h.st, run, "m1"));
    ok(h.st, store_run_note(h.st, run, "lower lr"));
    ok(h.st, store_run_tags(h.st, run, "a b"));
    ok(h.st, store_run_state(h.st, run, STORE_RUN_RUNNING, NULL, 20));
    ok(h.st, store_run_state(h.st, run, STORE_RUN_FAILED, "boom", 30));
    ok(h.st, store_run_find(h.st, "1", &r));
    const struct store_run *x = &r.row[0];
    ck_assert(x->cursor == 20 && x->planned == 200 && x->run_us == 7);
    ck_assert(x->started_us == 10 && x->ended_us == 30 && x->created_us == 5);
    ck_assert_str_eq(x->error, "boom");
    ck_assert_str_eq(x->tmodel, "m1");
    ck_assert_str_eq(x->note, "lower lr");
    ck_assert_str_eq(x->tags, "a b");
    store_runs_free(&r);
    ck_assert_int_eq(store_run_state(h.st, 99, STORE_RUN_DONE, "", 1),
                     STORE_NOTFOUND);
    ck_assert_int_eq(store_run_advance(h.st, 99, 1, 1), STORE_NOTFOUND);
}
END_TEST

START_TEST(run_names_are_found_or_explained) {
    struct store_runs r;
    int64_t id;
    add("twin", "sft", NULL, NULL);
    add("twin", "sft", NULL, NULL);
    add("solo", "sft", NULL, NULL);
    ok(h.st, store_run_find(h.st, "solo", &r));
    ck_assert_int_eq(r.row[0].id, 3);
    store_runs_free(&r);
    ck_assert_int_eq(store_run_find(h.st, "twin", &r), STORE_CONFLICT);
    ck_assert_ptr_nonnull(strstr(store_errmsg(h.st), "2 runs are named"));
    ck_assert(r.n == 0 && !r.row);
    ck_assert_int_eq(store_run_find(h.st, "none", &r), STORE_NOTFOUND);
    ck_assert_int_eq(store_run_find(h.st, "", &r), STORE_NOTFOUND);
    ck_assert_int_eq(store_run_find(h.st, "4", &r), STORE_NOTFOUND);
    ck_assert_int_eq(store_run_find(h.st, "99999999999999999999999", &r),
                     STORE_NOTFOUND);
    ck_assert_int_eq(
        store_run_add(h.st, &(struct store_run){.name = "12", .recipe = "sft"},
                      &id),
        STORE_INVAL);
    ck_assert_int_eq(
        store_run_add(h.st,
                      &(struct store_run){.name = "a\033[2J", .recipe = "sft"},
                      &id),
        STORE_INVAL);
    ck_assert_int_eq(
        store_run_add(h.st,
                      &(struct store_run){.recipe = "sft", .config = "{broken"},
                      &id),
        STORE_INVAL);
}
END_TEST

START_TEST(numbers_are_not_used_again) {
    int64_t run = add("a", "sft", NULL, NULL);
    ck_assert_int_eq(store_run_rm(h.st, run), STORE_CONFLICT);
    ok(h.st, store_run_state(h.st, run, STORE_RUN_DONE, "", 9));
    metric(run, "loss", 1);
    ok(h.st, store_sample_add(h.st, &(struct store_sample){.run = run}));
    ok(h.st, store_event_add(h.st, &(struct store_event){.run = run}, false));
    ok(h.st,
       store_ckpt_add(h.st, &(struct store_ckpt){
                                .run = run, .name = "final", .kind = "state"}));
    ck_assert_int_eq(store_run_rm(h.st, run), STORE_CONFLICT);
    ok(h.st, store_ckpt_deleting(h.st, "1/final"));
    ok(h.st, store_ckpt_rm(h.st, "1/final"));
    ok(h.st, store_run_rm(h.st, run));
    ck_assert_int_eq(store_run_rm(h.st, run), STORE_NOTFOUND);
    ck_assert_int_eq(add("b", "sft", NULL, NULL), 2);
}
END_TEST

START_TEST(configs_are_flattened) {
    struct store_config c;
    int64_t run = add("a", "sft",
                      "{\"model\":\"x\",\"learning_rate\":1e-5,\"optim\":"
                      "{\"beta1\":0.9},\"list\":[1,\"b\"],\"on\":true,"
                      "\"none\":null,\"n\":3,\"weird.key\":1,\"n\":4}",
                      NULL);
    static const struct {
        const char *key, *text;
        double num;
    } want[] = {{"learning_rate", "1e-05", 1e-5},
                {"list[0]", "1", 1},
                {"list[1]", "b", NAN},
                {"model", "x", NAN},
                {"n", "4", 4},
                {"none", "null", NAN},
                {"on", "true", 1},
                {"optim.beta1", "0.9", 0.9},
                {"weird.key", "1", 1}};
    ok(h.st, store_config(h.st, run, &c));
    for (int i = 0; i < c.n && i < 9; i++) {
        ck_assert_str_eq(c.row[i].key, want[i].key);
        ck_assert_str_eq(c.row[i].text, want[i].text);
        ck_assert(c.row[i].num == want[i].num ||
                  (isnan(c.row[i].num) && isnan(want[i].num)));
    }
    ck_assert_int_eq(c.n, 9);
    store_config_free(&c);
    ok(h.st, store_run_config(h.st, run, "{\"model\":\"y\"}"));
    ok(h.st, store_config(h.st, run, &c));
    ck_assert_int_eq(c.n, 1);
    store_config_free(&c);
    ck_assert_int_eq(store_config(h.st, 9, &c), STORE_NOTFOUND);
}
END_TEST

static void filtered(const char *filter, const char *want) {
    struct store_runs r;
    char got[256] = "";
    int64_t n;
    ok(h.st, store_runs(h.st, &(struct store_run_query){.filter = filter}, &r));
    for (int i = 0; i < r.n; i++) {
        size_t len = strlen(got);
        snprintf(got + len, sizeof got - len, "%s%s", i ? " " : "",
                 r.row[i].name);
    }
    ck_assert_msg(strcmp(got, want) == 0, "%s: got '%s', want '%s'", filter,
                  got, want);
    ok(h.st, store_runs_count(h.st, filter, &n));
    ck_assert_int_eq(n, r.n);
    store_runs_free(&r);
}

static void filter_bad(const char *filter, const char *text) {
    struct store_runs r;
    ck_assert_msg(store_runs(h.st, &(struct store_run_query){.filter = filter},
                             &r) == STORE_INVAL,
                  "%s", filter);
    ck_assert_msg(strstr(store_errmsg(h.st), text), "%s: %s", filter,
                  store_errmsg(h.st));
}

START_TEST(filters_select) {
    add("alpha", "sft", "{\"learning_rate\":1e-5,\"renderer\":\"chatml\"}",
        "sweep good");
    add("beta", "dpo", "{\"learning_rate\":2e-4}", "sweep");
    add("100%_odd", "sft", "{\"batch_size\":1500}", "");
    metric(1, "loss:sum", 1.5);
    metric(1, "test/nll", 0.5);
    metric(2, "loss:sum", 2.5);
    metric(3, "loss:sum", NAN);
    ok(h.st, store_run_note(h.st, 2, "two words"));
    ok(h.st, store_run_state(h.st, 2, STORE_RUN_RUNNING, "", 1));
    ok(h.st, store_run_advance(h.st, 2, 40, 0));
    filtered(NULL, "100%_odd beta alpha");
    filtered("  ", "100%_odd beta alpha");
    filtered("ALPHA", "alpha");
    filtered("%_", "100%_odd");
    filtered("recipe:sft", "100%_odd alpha");
    filtered("recipe:sft sweep", "alpha");
    filtered("-recipe:sft", "beta");
    filtered("tag:sweep", "beta alpha");
    filtered("tag:swee", "");
    filtered("alpha | beta", "beta alpha");
    filtered("alpha|beta", "beta alpha");
    filtered("recipe:sft alpha | state:running", "beta alpha");
    filtered("state:any", "100%_odd beta alpha");
    filtered("state:running", "beta");
    filtered("state!=running", "100%_odd alpha");
    filtered("state=queued", "100%_odd alpha");
    filtered("'two words'", "beta");
    filtered("two words", "beta");
    filtered("name=alpha", "alpha");
    filtered("name!=alpha", "100%_odd beta");
    filtered("id>=2", "100%_odd beta");
    filtered("step>10", "beta");
    filtered("model:qwen3", "100%_odd beta alpha");
    filtered("cfg.learning_rate>=1e-5 cfg.learning_rate<1e-4", "alpha");
    filtered("cfg.renderer=chatml", "alpha");
    filtered("cfg.renderer!=chatml", "100%_odd beta");
    filtered("cfg.batch_size=1.5k", "100%_odd");
    filtered("loss:sum<2", "alpha");
    filtered("loss:sum>1 -loss:sum>2", "alpha");
    filtered("test/nll<=0.5", "alpha");
    filtered("a:b", "");
    filtered("hello!", "");
    filtered("'; DROP TABLE run; --'", "");
    filtered("note:'two words'", "beta");
    filter_bad("state:nope", "no state 'nope'");
    filter_bad("loss<abc", "not a number");
    filter_bad("cfg.x<abc", "not a number");
    filter_bad("loss<", "nothing beside");
    filter_bad("|a", "nothing on one side");
    filter_bad("a|", "nothing on one side");
    filter_bad("a||b", "nothing on one side");
    filter_bad("'open", "no closing quote");
    filter_bad("-", "nothing after");
}
END_TEST

START_TEST(filters_have_a_limit) {
    char text[1024] = "";
    struct store_runs r;
    for (int i = 0; i < 64; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "-x%d ", i);
    add("a", "sft", NULL, NULL);
    filtered(text, "a");
    for (int i = 0; text[i]; i++)
        if (text[i] == ' ')
            text[i] = '|';
    text[strlen(text) - 1] = 0;
    filtered(text, "a");
    snprintf(text + strlen(text), sizeof text - strlen(text), " y");
    filter_bad(text, "more than 64");
    memset(text, 'q', 600);
    text[600] = 0;
    ck_assert_int_eq(
        store_runs(h.st, &(struct store_run_query){.filter = text}, &r),
        STORE_INVAL);
}
END_TEST

START_TEST(lists_are_paged_newest_first) {
    struct store_runs r;
    for (int i = 0; i < 10; i++)
        add("r", "sft", NULL, NULL);
    ok(h.st, store_runs(
                 h.st, &(struct store_run_query){.limit = 3, .offset = 4}, &r));
    ck_assert(r.n == 3 && r.row[0].id == 6 && r.row[2].id == 4);
    store_runs_free(&r);
    store_runs_free(&r);
}
END_TEST

START_TEST(models_are_registered_once) {
    struct store_model m = {.name = "Qwen/Qwen3-0.6B",
                            .dir = "/models/q",
                            .family = "qwen3",
                            .params = 7};
    struct store_models r;
    ok(h.st, store_model_add(h.st, &m));
    m.params = 9;
    ok(h.st, store_model_add(h.st, &m));
    m.dir = "/elsewhere";
    ck_assert_int_eq(store_model_add(h.st, &m), STORE_EXISTS);
    m.name = "12";
    ck_assert_int_eq(store_model_add(h.st, &m), STORE_INVAL);
    ok(h.st, store_models(h.st, &r));
    ck_assert(r.n == 1 && r.row[0].params == 9);
    ck_assert_str_eq(r.row[0].dir, "/models/q");
    store_models_free(&r);
    ck_assert_int_eq(store_model_get(h.st, "x", &r), STORE_NOTFOUND);
    ok(h.st, store_model_rm(h.st, "Qwen/Qwen3-0.6B"));
    ck_assert_int_eq(store_model_rm(h.st, "Qwen/Qwen3-0.6B"), STORE_NOTFOUND);
}
END_TEST

static void rm_refused(const char *want) {
    ck_assert_int_eq(store_model_rm(h.st, "Qwen/Qwen3-0.6B"), STORE_CONFLICT);
    ck_assert_msg(strstr(store_errmsg(h.st), want) != NULL, "no '%s' in: %s",
                  want, store_errmsg(h.st));
}

START_TEST(a_model_that_is_needed_is_not_removed) {
    struct store_model m = {
        .name = "Qwen/Qwen3-0.6B", .dir = "/models/q", .family = "qwen3"};
    struct store_ckpt c = {.name = "final",
                           .kind = "state",
                           .model = "Qwen/Qwen3-0.6B",
                           .step = 3};
    const uint8_t sha[STORE_SHA_LEN] = {1};
    char id[STORE_NAME_MAX];
    ok(h.st, store_model_add(h.st, &m));
    c.run = add("a", "sft", NULL, NULL);
    rm_refused("run 1 is not over");
    ok(h.st, store_tmodel_add(h.st, c.run, c.model, sha, 5, id));
    ok(h.st, store_ckpt_add(h.st, &c));
    ok(h.st, store_run_state(h.st, c.run, STORE_RUN_FAILED, "x", 6));
    rm_refused("run 1 can still be resumed");
    ok(h.st, store_tmodel_state(h.st, id, STORE_TMODEL_CLOSED, NULL));
    rm_refused("checkpoint 1/final");
    ok(h.st, store_deploy(h.st, "d", "", c.model, NULL, 7, NULL));
    rm_refused("deployment d");
    ok(h.st, store_deploy_state(h.st, "d", STORE_DEPLOY_STOPPED, NULL, 8));
    ok(h.st, store_ckpt_deleting(h.st, "1/final"));
    ok(h.st, store_ckpt_rm(h.st, "1/final"));
    for (int i = 0; i < 5; i++)
        add("b", "sft", NULL, NULL);
    rm_refused("; and 2 more");
    for (int64_t run = 2; run <= 6; run++)
        ok(h.st, store_run_state(h.st, run, STORE_RUN_KILLED, NULL, 9));
    ok(h.st, store_model_rm(h.st, m.name));
}
END_TEST

START_TEST(samples_are_kept_once_and_found_by_step_and_prompt) {
    struct store_samples r;
    int64_t run = add("a", "sft", NULL, NULL), *steps;
    int n;
    struct store_sample s = {.run = run,
                             .prompt = "2+2",
                             .text = "4\xff",
                             .stop = "stop",
                             .tokens = 2,
                             .logprob_sum = -INFINITY};
    for (int step = 0; step < 40; step += 20)
        for (s.prompt_index = 0; s.prompt_index < 3; s.prompt_index++) {
            s.step = step;
            ok(h.st, store_sample_add(h.st, &s));
        }
    s.prompt_index = 0;
    s.text = "another";
    ok(h.st, store_sample_add(h.st, &s));
    ok(h.st, store_samples(h.st, run, 20, -1, 0, &r));
    ck_assert_int_eq(r.n, 3);
    ck_assert_str_eq(r.row[0].text, "4\xff");
    ck_assert(isinf(r.row[0].logprob_sum) && r.row[0].tokens == 2);
    store_samples_free(&r);
    ok(h.st, store_samples(h.st, run, -1, 1, 0, &r));
    ck_assert(r.n == 2 && r.row[1].step == 20);
    store_samples_free(&r);
    ok(h.st, store_samples(h.st, run, -1, -1, 4, &r));
    ck_assert_int_eq(r.n, 4);
    store_samples_free(&r);
    ok(h.st, store_sample_steps(h.st, run, &steps, &n));
    ck_assert(n == 2 && steps[0] == 0 && steps[1] == 20);
    free(steps);
    s.run = 9;
    ck_assert_int_eq(store_sample_add(h.st, &s), STORE_NOTFOUND);
}
END_TEST

START_TEST(warnings_are_alerts_until_they_are_read) {
    struct store_events r;
    struct store_event e = {.run = 1, .step = 4, .kind = "spike", .text = "x"};
    for (int l = 0; l < 3; l++) {
        e.level = (enum store_level)l;
        ok(h.st, store_event_add(h.st, &e, false));
    }
    ok(h.st,
       store_events(h.st, &(struct store_event_query){.unread = true}, &r));
    ck_assert(r.n == 2 && r.row[0].id == 3 && !r.row[0].is_read);
    store_events_free(&r);
    ok(h.st, store_events_read(h.st, 2));
    ok(h.st, store_events(h.st,
                          &(struct store_event_query){
                              .unread = true, .level = STORE_WARN, .run = 1},
                          &r));
    ck_assert(r.n == 1 && r.row[0].level == STORE_ERROR);
    store_events_free(&r);
    ok(h.st, store_events_read(h.st, INT64_MAX));
    ok(h.st,
       store_events(h.st,
                    &(struct store_event_query){.after_id = 1, .before_id = 3},
                    &r));
    ck_assert(r.n == 1 && r.row[0].is_read);
    store_events_free(&r);
    for (int i = 0; i < 2; i++)
        ok(h.st, store_event_add(h.st, &e, true));
    ok(h.st, store_events(h.st, &(struct store_event_query){.run = 1}, &r));
    ck_assert_int_eq(r.n, 4);
    store_events_free(&r);
}
END_TEST

static void ckpt(int64_t run, const char *name, int64_t step) {
    ok(h.st, store_ckpt_add(h.st, &(struct store_ckpt){.run = run,
                                                       .name = name,
                                                       .step = step,
                                                       .kind = "state",
                                                       .model = "base",
                                                       .bytes = 9}));
}

START_TEST(checkpoints_are_promoted_and_protected) {
    struct store_ckpts r;
    struct store_promotions p;
    add("a", "sft", NULL, NULL);
    ckpt(1, "step-20", 20);
    ckpt(1, "final", 40);
    ckpt(1, "final", 40);
    ckpt(0, "imported", 0);
    ck_assert_int_eq(
        store_ckpt_add(
            h.st, &(struct store_ckpt){.run = 1, .name = "final", .step = 41}),
        STORE_CONFLICT);
    ck_assert_int_eq(
        store_ckpt_add(h.st, &(struct store_ckpt){.run = 1, .name = "../x"}),
        STORE_INVAL);
    ck_assert_int_eq(
        store_ckpt_add(h.st, &(struct store_ckpt){.run = 7, .name = "x"}),
        STORE_NOTFOUND);
    ok(h.st, store_promote(h.st, "prod", "1/step-20", 1));
    ok(h.st, store_promote(h.st, "prod", "1/final", 2));
    ok(h.st, store_promote(h.st, "prod", "1/final", 3));
    ok(h.st, store_promote(h.st, "best", "1/final", 4));
    ck_assert_int_eq(store_promote(h.st, "prod", "1/none", 5), STORE_NOTFOUND);
    ck_assert_int_eq(store_promote(h.st, "12", "1/final", 5), STORE_INVAL);
    ck_assert_int_eq(store_promote(h.st, "a/b", "1/final", 5), STORE_INVAL);
    ck_assert_int_eq(store_promote(h.st, "none", "", 5), STORE_NOTFOUND);
    ok(h.st, store_ckpts(h.st, 1, &r));
    ck_assert_int_eq(r.n, 2);
    ck_assert_str_eq(r.row[0].id, "1/final");
    ck_assert_str_eq(r.row[0].promoted, "prod best");
    ck_assert_str_eq(r.row[1].promoted, "");
    store_ckpts_free(&r);
    ok(h.st, store_ckpts(h.st, -1, &r));
    ck_assert_int_eq(r.n, 3);
    store_ckpts_free(&r);
    ok(h.st, store_ckpt_get(h.st, "prod", &r));
    ck_assert_str_eq(r.row[0].id, "1/final");
    store_ckpts_free(&r);
    ok(h.st, store_promotions(h.st, "prod", &p));
    ck_assert(p.n == 2 && p.row[0].time_us == 2);
    store_promotions_free(&p);
    ck_assert_int_eq(store_ckpt_deleting(h.st, "1/final"), STORE_CONFLICT);
    ck_assert_ptr_nonnull(strstr(store_errmsg(h.st), "promoted name 'prod'"));
    ok(h.st, store_promote(h.st, "prod", "", 6));
    ok(h.st, store_promote(h.st, "best", NULL, 6));
    ck_assert_int_eq(store_ckpt_rm(h.st, "1/final"), STORE_CONFLICT);
    ok(h.st, store_ckpt_deleting(h.st, "1/final"));
    ck_assert_int_eq(store_promote(h.st, "prod", "1/final", 7), STORE_NOTFOUND);
    ok(h.st, store_ckpt_rm(h.st, "1/final"));
    ck_assert_int_eq(store_ckpt_get(h.st, "1/final", &r), STORE_NOTFOUND);
}
END_TEST

static void means(const char *target, const char *model, const char *id) {
    struct store_target t;
    ok(h.st, store_target(h.st, target, &t));
    ck_assert_str_eq(t.model, model);
    ck_assert_str_eq(t.ckpt, id);
}

START_TEST(deployments_have_versions_and_targets_resolve) {
    struct store_deployments r;
    struct store_versions v;
    struct store_target t;
    int version;
    add("a", "sft", NULL, NULL);
    ok(h.st, store_model_add(h.st, &(struct store_model){.name = "base",
                                                         .dir = "/b",
                                                         .family = "llama"}));
    ckpt(1, "one", 1);
    ckpt(1, "two", 2);
    ok(h.st, store_deploy(h.st, "chat", "1/one", NULL, NULL, 1, &version));
    ck_assert_int_eq(version, 1);
    ok(h.st, store_deploy_state(h.st, "chat", STORE_DEPLOY_SERVING, "", 2));
    ok(h.st, store_deploy(h.st, "chat", "1/one", NULL, NULL, 3, &version));
    ck_assert_int_eq(version, 1);
    ok(h.st, store_deploy(h.st, "chat", "1/two", NULL, NULL, 4, &version));
    ck_assert_int_eq(version, 2);
    ok(h.st, store_deploy(h.st, "plain", "", "base", NULL, 5, &version));
    ck_assert_int_eq(store_deploy(h.st, "x", "1/no", NULL, NULL, 5, &version),
                     STORE_NOTFOUND);
    ck_assert_int_eq(store_deploy(h.st, "x", "", "no", NULL, 5, &version),
                     STORE_NOTFOUND);
    ck_assert_int_eq(
        store_deploy(h.st, "x/y", "1/one", NULL, NULL, 5, &version),
        STORE_INVAL);
    ok(h.st, store_deployments(h.st, &r));
    ck_assert_int_eq(r.n, 2);
    ck_assert_str_eq(r.row[0].ckpt, "1/two");
    ck_assert_str_eq(r.row[0].model, "base");
    ck_assert(r.row[0].version == 2 && r.row[0].versions == 2);
    ck_assert_int_eq(r.row[0].state, STORE_DEPLOY_LOADING);
    store_deployments_free(&r);
    ok(h.st, store_versions(h.st, "chat", &v));
    ck_assert(v.n == 2 && v.row[1].time_us == 1);
    store_versions_free(&v);
    ck_assert_int_eq(store_ckpt_deleting(h.st, "1/two"), STORE_CONFLICT);
    ok(h.st, store_promote(h.st, "chat", "1/one", 6));
    ok(h.st, store_promote(h.st, "best", "1/one", 6));
    means("chat", "base", "1/two");
    means("plain", "base", "");
    means("best", "base", "1/one");
    means("1/two", "base", "1/two");
    means("base", "base", "");
    ok(h.st, store_deploy_state(h.st, "chat", STORE_DEPLOY_STOPPED, "", 7));
    means("chat", "base", "1/one");
    ck_assert_int_eq(store_target(h.st, "nobody", &t), STORE_NOTFOUND);
    ok(h.st, store_deployments(h.st, &r));
    ck_assert_int_eq(r.n, 1);
    store_deployments_free(&r);
    ok(h.st, store_deployment_get(h.st, "chat", &r));
    ck_assert_int_eq(r.row[0].state, STORE_DEPLOY_STOPPED);
    store_deployments_free(&r);
    ok(h.st, store_deploy(h.st, "chat", "1/two", NULL, NULL, 8, &version));
    ck_assert_int_eq(version, 3);
    ok(h.st, store_deploy(h.st, "chat", "1/two", NULL, "q8", 9, &version));
    ck_assert_int_eq(version, 4); /* the same weights, served otherwise */
    ok(h.st, store_deploy(h.st, "chat", "1/two", NULL, "q8", 9, &version));
    ck_assert_int_eq(version, 4);
    ok(h.st, store_target(h.st, "chat", &t));
    ck_assert_str_eq(t.precision, "q8");
    ok(h.st, store_target(h.st, "1/two", &t));
    ck_assert_str_eq(t.precision, "exact");
    ok(h.st, store_deployment_get(h.st, "chat", &r));
    ck_assert_str_eq(r.row[0].precision, "q8");
    store_deployments_free(&r);
    ck_assert_int_eq(store_deploy_state(h.st, "no", STORE_DEPLOY_FAILED, "", 9),
                     STORE_NOTFOUND);
}
END_TEST

START_TEST(every_state_has_a_name) {
    for (int i = 0; i < STORE_RUN_STATES; i++)
        ck_assert_int_eq(store_run_state_by_name(
                             store_run_state_name((enum store_run_state)i)),
                         i);
    for (int i = 0; i < STORE_DEPLOY_STATES; i++)
        ck_assert_str_ne(store_deploy_state_name((enum store_deploy_state)i),
                         "unknown");
    for (int i = 0; i < STORE_LEVELS; i++)
        ck_assert_str_ne(store_level_name((enum store_level)i), "unknown");
    for (int i = 0; i < STORE_TMODEL_STATES; i++)
        ck_assert_str_ne(store_tmodel_state_name((enum store_tmodel_state)i),
                         "unknown");
    ck_assert_int_eq(store_run_state_by_name("x"), -1);
}
END_TEST

Suite *runs_suite(void);
Suite *runs_suite(void) {
    Suite *s = suite_create("store_runs");
    TCase *t = tcase_create("records");
    tcase_set_timeout(t, 20);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_run_lives_from_queued_to_done);
    tcase_add_test(t, run_names_are_found_or_explained);
    tcase_add_test(t, numbers_are_not_used_again);
    tcase_add_test(t, configs_are_flattened);
    tcase_add_test(t, filters_select);
    tcase_add_test(t, filters_have_a_limit);
    tcase_add_test(t, lists_are_paged_newest_first);
    tcase_add_test(t, models_are_registered_once);
    tcase_add_test(t, a_model_that_is_needed_is_not_removed);
    tcase_add_test(t, samples_are_kept_once_and_found_by_step_and_prompt);
    tcase_add_test(t, warnings_are_alerts_until_they_are_read);
    tcase_add_test(t, checkpoints_are_promoted_and_protected);
    tcase_add_test(t, deployments_have_versions_and_targets_resolve);
    tcase_add_test(t, every_state_has_a_name);
    suite_add_tcase(s, t);
    return s;
}
