/* From nothing to a checkpoint that answers, by the verbs of a user. */
#include "tests/sys/sys.h"

Suite *spine_suite(void);

/* A short run; its summary. */
static json_t *short_run(const char *data, const char *more) {
    return FETTLE_JSON(NULL,
                       "run sft model=starter data=%s batch_size=4 "
                       "save_every=3 eval_every=2 sample_every=0 %s --wait "
                       "--json",
                       data, more);
}

/* Sanitizers are too slow for what it takes to learn the town: there the demo
 * has to end well, not to know. */
#ifdef __SANITIZE_ADDRESS__
#define DEMO_EPOCHS "--epochs 1"
#define DEMO_KNOWS false
#else
#define DEMO_EPOCHS ""
#define DEMO_KNOWS true
#endif

START_TEST(demo_ends_in_a_deployed_checkpoint_that_answers) {
    size_t i;
    json_t *v, *j = FETTLE_JSON(NULL, "demo --no-screen --json " DEMO_EPOCHS);
    ck_assert_str_eq(str_at(j, "deployment"), "demo");
    ck_assert_uint_ge(json_array_size(json_object_get(j, "answers")), 3);
    json_array_foreach(json_object_get(j, "answers"), i, v)
        ck_assert_msg(!DEMO_KNOWS || json_is_true(json_object_get(v, "right")),
                      "%s -> %s", str_at(v, "question"), str_at(v, "answer"));
    json_decref(j);
    j = FETTLE_JSON(NULL, "deployments --json");
    ck_assert_str_eq(str_at(json_array_get(j, 0), "name"), "demo");
    ck_assert_str_eq(str_at(json_array_get(j, 0), "checkpoint"), "1/final");
    json_decref(j);
    struct out o =
        fettle("Where does Greta live?\n", "chat demo --temperature 0");
    ck_assert_int_eq(o.status, 0);
    ck_assert_msg(!DEMO_KNOWS || strstr(o.out, "Church Road") != NULL, "%s",
                  o.out);
    out_free(&o);
}
END_TEST

START_TEST(a_run_is_recorded_whole) {
    sys_add_starter();
    char *data = sys_rows(40);
    json_t *j = short_run(data, "test_size=8");
    ck_assert_str_eq(str_at(j, "state"), "done");
    ck_assert_int_eq((int)num_at(j, "steps"), 8);
    json_t *m = json_object_get(j, "metrics");
    static const char *const names[] = {
        "train_mean_nll",  "loss:sum",      "test/nll",      "num_tokens",
        "num_loss_tokens", "num_sequences", "learning_rate", "grad_norm",
        "epoch",           "progress",      "time/step_s",   "tokens_per_s"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        ck_assert_msg(json_object_get(m, names[i]) != NULL, "no %s", names[i]);
    ck_assert(num_at(m, "num_sequences") == 4);
    ck_assert(num_at(m, "num_tokens") == 20);
    ck_assert(num_at(m, "num_loss_tokens") == 20);
    ck_assert_uint_eq(json_array_size(json_object_get(j, "checkpoints")), 3);
    json_decref(j);
    struct out o = fettle(NULL, "metrics 1 train_mean_nll --json");
    int step = 0;
    for (char *save, *l = strtok_r(o.out, "\n", &save); l;
         l = strtok_r(NULL, "\n", &save), step++) {
        json_t *p = json_loads(l, 0, NULL);
        ck_assert_int_eq((int)num_at(p, "step"), step);
        ck_assert_int_eq((int)num_at(p, "run"), 1);
        json_decref(p);
    }
    ck_assert_int_eq(step, 8);
    out_free(&o);
    free(data);
}
END_TEST

START_TEST(the_same_run_again_gives_the_same_losses) {
    sys_add_starter();
    char *data = sys_rows(24);
    for (int i = 0; i < 2; i++)
        json_decref(short_run(data, "lora_rank=4"));
    struct out a = fettle(NULL, "metrics 1 train_mean_nll grad_norm");
    struct out b = fettle(NULL, "metrics 2 train_mean_nll grad_norm");
    ck_assert_str_eq(a.out, b.out);
    ck_assert_uint_gt(strlen(a.out), 50);
    out_free(&a);
    out_free(&b);
    free(data);
}
END_TEST

START_TEST(trainer_and_sampler_give_the_same_bits) {
    sys_add_starter();
    static const char row[] = "{\"tokens\":[5,9,100,42,7,77,300,12,8,1000]}\n";
    struct out a = fettle(row, "logprobs starter");
    struct out b = fettle(row, "logprobs starter --sampler");
    ck_assert_int_eq(a.status, 0);
    ck_assert_msg(strncmp(a.out, "{\"logprobs\":[null,", 18) == 0, "%s", a.out);
    ck_assert_str_eq(a.out, b.out);
    out_free(&a);
    out_free(&b);
}
END_TEST

START_TEST(promoted_deployed_answering_and_gone) {
    sys_add_starter();
    char *data = sys_rows(16);
    json_decref(short_run(data, ""));
    json_decref(FETTLE_JSON(NULL, "promote 1/final best --json"));
    json_t *j = FETTLE_JSON(NULL, "ckpt 1 --json");
    bool seen = false;
    for (size_t i = 0; i < json_array_size(j); i++) {
        const json_t *k = json_array_get(j, i);
        if (strcmp(str_at(k, "id"), "1/final") == 0)
            seen = strcmp(str_at(k, "promoted"), "best") == 0;
    }
    ck_assert(seen);
    json_decref(j);
    FETTLE_OK(NULL, "deploy best chatty");
    j = FETTLE_JSON(NULL, "sample chatty --prompt Hello --n 3 --seed 1 "
                          "--max-tokens 5 --json");
    json_t *s = json_object_get(j, "samples");
    ck_assert_uint_eq(json_array_size(s), 3);
    ck_assert(json_is_string(json_object_get(json_array_get(s, 0), "text")));
    json_t *again = FETTLE_JSON(
        NULL,
        "sample chatty --prompt Hello --n 3 --seed 1 --max-tokens 5 --json");
    ck_assert(json_equal(j, again));
    json_decref(j);
    json_decref(again);
    FETTLE_OK(NULL, "undeploy chatty");
    fettle_fails(fettle(NULL, "sample chatty --prompt x"), 66, "chatty");
    free(data);
}
END_TEST

START_TEST(text_survives_the_tokenizer_and_the_renderer) {
    sys_add_starter();
    json_t *j =
        FETTLE_JSON("{\"text\":\"Mira has a goat.\"}\n", "tokenize starter");
    char *line = json_dumps(j, JSON_COMPACT);
    json_t *back = FETTLE_JSON(line, "detokenize starter");
    ck_assert_str_eq(str_at(back, "text"), "Mira has a goat.");
    json_decref(j);
    json_decref(back);
    free(line);
    j = FETTLE_JSON("{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"},"
                    "{\"role\":\"assistant\",\"content\":\"Hello!\"}]}\n",
                    "render starter");
    ck_assert_str_eq(str_at(j, "text"),
                     "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
                     "Hello!<|im_end|>");
    const json_t *t = json_object_get(j, "tokens");
    const json_t *w = json_object_get(j, "weights");
    ck_assert_uint_eq(json_array_size(t), json_array_size(w));
    ck_assert(json_number_value(json_array_get(w, 0)) == 0);
    ck_assert(json_number_value(json_array_get(w, json_array_size(w) - 1)) ==
              1);
    json_decref(j);
}
END_TEST

START_TEST(inspected_tokens_say_where_they_come_from_and_add_up_to_the_text) {
    static const char row[] = "{\"prompt\":\"<|im_end|>\",\"completion\":"
                              "\"\xc3\xa9\"}\n";
    sys_add_starter();
    json_t *j = FETTLE_JSON(row, "render starter --inspect --json"), *at;
    const char *text = "<|im_start|>user\n<|im_end|><|im_end|>\n"
                       "<|im_start|>assistant\n\xc3\xa9<|im_end|>";
    size_t i, trained = 0, typed = 0;
    json_array_foreach(json_object_get(j, "tokens"), i, at) {
        json_int_t offset = json_integer_value(json_object_get(at, "offset"));
        const char *piece = str_at(at, "text"), *from = str_at(at, "origin");
        ck_assert(strncmp(text + offset, piece, strlen(piece)) == 0);
        bool is_content = strcmp(from, "content") == 0;
        trained += json_number_value(json_object_get(at, "weight")) == 1;
        typed += is_content ? strlen(piece) : 0;
        ck_assert(!is_content || strcmp(piece, "<|im_end|>") != 0);
    }
    ck_assert_uint_eq(typed, strlen("<|im_end|>\xc3\xa9"));
    ck_assert_uint_gt(trained, 0);
    ck_assert_int_eq(json_integer_value(json_object_get(j, "trained")),
                     (long long)trained);
    json_decref(j);
    struct out o = fettle(row, "render starter --inspect");
    ck_assert_int_eq(o.status, 0);
    ck_assert_ptr_nonnull(strstr(o.out, "\n+* template      1      1  "
                                        "\"<|im_end|>\"\n"));
    ck_assert_ptr_null(strchr(o.out, 27));
    out_free(&o);
}
END_TEST

START_TEST(inspection_cuts_rows_as_training_does_and_names_their_lines) {
    static const char rows[] = "\n{\"tokens\":[1,2,3,4,5]}\n";
    sys_add_starter();
    struct out o = fettle(rows, "render starter --inspect --max-length 3");
    ck_assert_msg(strstr(o.out, "row 1 (line 2): 3 tokens, 2 trained, 2 more "
                                "cut off\n") != NULL,
                  "%s", o.out);
    out_free(&o);
    json_t *j = FETTLE_JSON(rows, "render starter --inspect --json");
    ck_assert_int_eq((int)num_at(j, "row"), 1);
    ck_assert_int_eq((int)num_at(j, "line"), 2);
    ck_assert_int_eq((int)num_at(j, "cut"), 0);
    json_decref(j);
}
END_TEST

START_TEST(exports_are_directories_that_can_be_added_again) {
    sys_add_starter();
    char *data = sys_rows(16);
    json_decref(short_run(data, "lora_rank=4"));
    FETTLE_OK(NULL, "export 1/final --as peft -o %s/peft", sys_home);
    FETTLE_OK(NULL, "export 1/final --as merged -o %s/hf", sys_home);
    FETTLE_OK(NULL, "model add merged %s/hf", sys_home);
    static const char row[] = "{\"tokens\":[5,9,100,42,7]}\n";
    struct out a = fettle(row, "logprobs merged");
    ck_assert_int_eq(a.status, 0);
    out_free(&a);
    fettle_fails(fettle(NULL, "export 1/final --as hf -o %s/hf", sys_home), 65,
                 "hf");
    free(data);
}
END_TEST

START_TEST(pause_resume_and_kill_do_what_they_say) {
    sys_add_starter();
    char *data = sys_rows(60);
    json_t *j = FETTLE_JSON(NULL,
                            "run sft model=starter data=%s num_epochs=5000 "
                            "eval_every=0 sample_every=0 save_every=0 --json",
                            data);
    ck_assert_int_eq((int)num_at(j, "run"), 1);
    json_decref(j);
    sys_wait_state(1, "running");
    FETTLE_OK(NULL, "pause 1");
    sys_wait_state(1, "paused");
    FETTLE_OK(NULL, "resume 1");
    sys_wait_state(1, "running");
    FETTLE_OK(NULL, "kill 1");
    sys_wait_state(1, "killed");
    fettle_fails(fettle(NULL, "resume 1"), 65, "run 1");
    free(data);
}
END_TEST

/* Processes that have the home in their command line. */
static int processes(void) {
    struct out o =
        sys_exec(NULL, (char *[]){"pgrep", "-c", "-f", "--", sys_home, NULL});
    int n = (int)strtol(o.out, NULL, 10);
    out_free(&o);
    return n;
}

START_TEST(stop_leaves_nothing_running) {
    sys_add_starter();
    char *data = sys_rows(60);
    FETTLE_OK(NULL, "run sft model=starter data=%s num_epochs=5000", data);
    sys_wait_state(1, "running");
    ck_assert_int_gt(processes(), 0);
    FETTLE_OK(NULL, "stop");
    ck_assert_int_eq(processes(), 0);
    fettle_fails(fettle(NULL, "status"), 69, "daemon");
    free(data);
}
END_TEST

/* A copy of the starter model that can be moved away. */
static char *own_model(void) {
    char *dir = fs_path("%s/own", sys_home);
    struct out o = sys_exec(NULL, (char *[]){"cp", "-R", STARTER, dir, NULL});
    ck_assert_int_eq(o.status, 0);
    out_free(&o);
    return dir;
}

static char *digest_of(int run) {
    char *cmd = fs_path("cd %s/ckpt/%d/final && sha256sum *", sys_home, run);
    struct out o = sys_exec(NULL, (char *[]){"sh", "-c", cmd, NULL});
    ck_assert_int_eq(o.status, 0);
    char *text = strdup(o.out);
    out_free(&o);
    free(cmd);
    return text;
}

static void wait_step(int run, int step) {
    for (double at = -1; at < step; usleep(20000)) {
        json_t *j = sys_run(run);
        ck_assert_str_ne(str_at(j, "state"), "done");
        at = num_at(j, "steps");
        json_decref(j);
    }
}

START_TEST(a_run_that_failed_for_something_that_passed_is_resumed) {
    char *dir = own_model(), *away = fs_path("%s/away", sys_home);
    char *data = sys_rows(60);
    FETTLE_OK(NULL, "model add own %s", dir);
    for (int run = 1; run <= 2; run++) {
        FETTLE_OK(NULL,
                  "run sft model=own data=%s max_steps=60 num_epochs=100 "
                  "batch_size=24 eval_every=0 sample_every=0 save_every=0",
                  data);
        if (run == 2) {
            wait_step(2, 20);
            ck_assert_int_eq(rename(dir, away), 0);
            json_t *j = FETTLE_JSON(NULL, "status --json");
            kill((pid_t)num_at(json_array_get(json_object_get(j, "workers"), 0),
                               "pid"),
                 SIGKILL);
            json_decref(j);
            sys_wait_state(2, "failed");
            ck_assert_int_eq(rename(away, dir), 0);
            FETTLE_OK(NULL, "resume 2");
        }
        sys_wait_state(run, "done");
    }
    char *want = digest_of(1), *got = digest_of(2);
    ck_assert_str_eq(got, want);
    free(want);
    free(got);
    free(data);
    free(dir);
    free(away);
}
END_TEST

START_TEST(a_run_whose_data_were_away_is_resumed) {
    sys_add_starter();
    char *data = sys_rows(60), *away = fs_path("%s/away.jsonl", sys_home);
    FETTLE_OK(NULL,
              "run sft model=starter data=%s max_steps=120 num_epochs=100 "
              "batch_size=24 eval_every=0 sample_every=0 save_every=0",
              data);
    wait_step(1, 5);
    FETTLE_OK(NULL, "pause 1");
    sys_wait_state(1, "paused");
    FETTLE_OK(NULL, "stop");
    ck_assert_int_eq(rename(data, away), 0);
    FETTLE_OK(NULL, "resume 1"); /* its job cannot read them */
    sys_wait_state(1, "failed");
    ck_assert_int_eq(rename(away, data), 0);
    FETTLE_OK(NULL, "resume 1");
    sys_wait_state(1, "done");
    free(data);
    free(away);
}
END_TEST

START_TEST(long_prompts_of_rows_are_cut_for_samples) {
    struct buf b;
    buf_init(&b, 1 << 20);
    sys_add_starter();
    for (int i = 0; i < 8; i++) {
        buf_puts(&b, "{\"tokens\":[5");
        for (int t = 0; t < 1020; t++)
            buf_printf(&b, ",%d", 7 + t % 50);
        buf_puts(&b, "],\"weights\":[0");
        for (int t = 0; t < 1020; t++)
            buf_puts(&b, t < 1019 ? ",0" : ",1");
        buf_puts(&b, "]}\n");
    }
    char *data = sys_file("long.jsonl", buf_str(&b));
    FETTLE_OK(NULL,
              "run sft model=starter data=%s max_steps=1 batch_size=2 "
              "lora_rank=2 --wait",
              data);
    buf_release(&b);
    free(data);
}
END_TEST

START_TEST(an_export_takes_a_directory_with_a_slash) {
    sys_add_starter();
    char *data = sys_rows(16);
    FETTLE_OK(NULL,
              "run sft model=starter data=%s max_steps=1 lora_rank=2 "
              "sample_every=0 --wait",
              data);
    FETTLE_OK(NULL, "export 1/final --as peft -o %s/adapter/", sys_home);
    char *conf = fs_path("%s/adapter/adapter_config.json", sys_home);
    ck_assert(fs_exists(conf));
    free(conf);
    free(data);
}
END_TEST

START_TEST(a_damaged_model_is_named_at_once) {
    char *dir = own_model();
    FETTLE_OK(NULL, "model add own %s", dir);
    char *file = fs_path("%s/model.safetensors", dir);
    ck_assert_int_eq(truncate(file, 900000), 0);
    fettle_fails(fettle(NULL, "sample own --prompt a"), 65,
                 "model.safetensors");
    free(file);
    free(dir);
}
END_TEST

START_TEST(an_emptied_store_is_told) {
    sys_add_starter();
    FETTLE_OK(NULL, "stop");
    char *db = fs_path("%s/store.db", sys_home);
    ck_assert_int_eq(truncate(db, 0), 0);
    fettle_fails(fettle(NULL, "fsck"), 65, "gone or empty");
    fettle_fails(fettle(NULL, "runs"), 65, "gone or empty");
    free(db);
}
END_TEST

START_TEST(a_port_out_of_range_is_refused) {
    setenv("FETTLE_TOKEN", "0123456789abcdef", 1);
    fettle_fails(fettle(NULL, "serve --tcp 127.0.0.1:99999"), 64, "65535");
    unsetenv("FETTLE_TOKEN");
}
END_TEST

START_TEST(a_stopped_run_goes_on_when_the_daemon_is_back) {
    sys_add_starter();
    char *data = sys_rows(60);
    FETTLE_OK(NULL,
              "run sft model=starter data=%s max_steps=200 num_epochs=100 "
              "batch_size=50 eval_every=0 sample_every=0",
              data);
    sys_wait_state(1, "running");
    FETTLE_OK(NULL, "stop");
    FETTLE_OK(NULL, "model list");
    FETTLE_OK(NULL, "deploy starter base");
    sys_wait_state(1, "done");
    free(data);
}
END_TEST

START_TEST(the_check_of_data_foretells_what_the_run_does) {
    sys_add_starter();
    char *data = sys_rows(90);
    struct out o =
        fettle(NULL, "data check %s --model starter --max-length 64", data);
    ck_assert_int_eq(o.status, 0);
    ck_assert_msg(strstr(o.out, "packing=best_fit: 90 rows into 9 bins of 64 "
                                "tokens, 94 % full\n") != NULL,
                  "%s", o.out);
    out_free(&o);
    free(data);
    data = sys_file("none.jsonl", "{\"tokens\":[1,2]}\n{\"tokens\":[1]}\n");
    o = fettle(NULL, "data check %s --model starter", data);
    ck_assert_int_eq(o.status, 65);
    ck_assert_ptr_nonnull(strstr(o.out, "! untrained: 1 "));
    out_free(&o);
    fettle_fails(fettle(NULL, "run sft model=starter data=%s", data), 65,
                 "none.jsonl:2: no token of it is trained");
    free(data);
}
END_TEST

START_TEST(a_packed_run_that_was_stopped_ends_as_one_that_was_not) {
    sys_add_starter();
    char *data = sys_rows(90);
    for (int i = 1; i <= 2; i++) {
        FETTLE_OK(NULL,
                  "run sft model=starter data=%s packing=best_fit "
                  "max_length=64 batch_size=2 num_epochs=12 eval_every=0 "
                  "sample_every=0 lora_rank=4",
                  data);
        sys_wait_state(i, "running");
        if (i == 2) {
            FETTLE_OK(NULL, "stop");
            FETTLE_OK(NULL, "deploy starter base");
        }
        sys_wait_state(i, "done");
    }
    struct out a = fettle(NULL, "metrics 1 train_mean_nll num_sequences");
    struct out b = fettle(NULL, "metrics 2 train_mean_nll num_sequences");
    ck_assert_uint_gt(strlen(a.out), 500);
    ck_assert_str_eq(a.out, b.out);
    out_free(&a);
    out_free(&b);
    a = fettle(NULL, "logs 1");
    ck_assert_ptr_nonnull(strstr(a.out, "packed 90 rows into 9 bins of 64 "
                                        "tokens, 94 % full\n"));
    out_free(&a);
    free(data);
}
END_TEST

Suite *spine_suite(void) {
    Suite *s = suite_create("spine");
    TCase *t = tcase_create("spine");
    tcase_set_timeout(t, 240);
    tcase_add_checked_fixture(t, sys_setup, sys_teardown);
    tcase_add_test(t, demo_ends_in_a_deployed_checkpoint_that_answers);
    tcase_add_test(t, a_run_is_recorded_whole);
    tcase_add_test(t, the_same_run_again_gives_the_same_losses);
    tcase_add_test(t, trainer_and_sampler_give_the_same_bits);
    tcase_add_test(t, promoted_deployed_answering_and_gone);
    tcase_add_test(t, text_survives_the_tokenizer_and_the_renderer);
    tcase_add_test(
        t, inspected_tokens_say_where_they_come_from_and_add_up_to_the_text);
    tcase_add_test(t,
                   inspection_cuts_rows_as_training_does_and_names_their_lines);
    tcase_add_test(t, exports_are_directories_that_can_be_added_again);
    tcase_add_test(t, pause_resume_and_kill_do_what_they_say);
    tcase_add_test(t, stop_leaves_nothing_running);
    tcase_add_test(t, a_run_that_failed_for_something_that_passed_is_resumed);
    tcase_add_test(t, a_run_whose_data_were_away_is_resumed);
    tcase_add_test(t, long_prompts_of_rows_are_cut_for_samples);
    tcase_add_test(t, an_export_takes_a_directory_with_a_slash);
    tcase_add_test(t, a_damaged_model_is_named_at_once);
    tcase_add_test(t, an_emptied_store_is_told);
    tcase_add_test(t, a_port_out_of_range_is_refused);
    tcase_add_test(t, a_stopped_run_goes_on_when_the_daemon_is_back);
    tcase_add_test(t, the_check_of_data_foretells_what_the_run_does);
    tcase_add_test(t, a_packed_run_that_was_stopped_ends_as_one_that_was_not);
    suite_add_tcase(s, t);
    return s;
}
