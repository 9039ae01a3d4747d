/* Bad input: one line that names it, the right exit status, nothing lost. */
#include "tests/sys/sys.h"

#include <dirent.h>
#include <sys/stat.h>

Suite *input_suite(void);

/* A copy of the starter model in the home, to be damaged. */
static char *model_copy(void) {
    char *dir = fs_path("%s/broken", sys_home);
    struct out o =
        sys_exec(NULL, (char *[]){"cp", "-R", (char *)STARTER, dir, NULL});
    ck_assert_int_eq(o.status, 0);
    out_free(&o);
    return dir;
}

static void add_fails(const char *dir, int status, const char *want) {
    fettle_fails(fettle(NULL, "model add m %s", dir), status, want);
    json_t *j = FETTLE_JSON(NULL, "model list --json");
    ck_assert_uint_eq(json_array_size(j), 0);
    json_decref(j);
}

/* Edits a JSON file of the copy: a key gets a value, NULL removes it. */
static void edit_json(const char *dir, const char *file, const char *key,
                      json_t *value) {
    char *path = fs_path("%s/%s", dir, file);
    json_t *j = json_load_file(path, 0, NULL);
    ck_assert_ptr_nonnull(j);
    if (value)
        json_object_set_new(j, key, value);
    else
        json_object_del(j, key);
    ck_assert_int_eq(json_dump_file(j, path, 0), 0);
    json_decref(j);
    free(path);
}

START_TEST(missing_weights_are_named) {
    char *dir = model_copy(), *w = fs_path("%s/model.safetensors", dir);
    unlink(w);
    add_fails(dir, 66, "model.safetensors");
    free(w);
    free(dir);
}
END_TEST

START_TEST(truncated_weights_are_named) {
    char *dir = model_copy(), *w = fs_path("%s/model.safetensors", dir);
    static const off_t cut[] = {0, 5, 100, 3000, 1000000};
    for (size_t i = sizeof cut / sizeof *cut; i-- > 0;) {
        ck_assert_int_eq(truncate(w, cut[i]), 0);
        add_fails(dir, 65, "model.safetensors");
    }
    free(w);
    free(dir);
}
END_TEST

START_TEST(a_weight_of_another_shape_is_named) {
    char *dir = model_copy();
    edit_json(dir, "config.json", "intermediate_size", json_integer(400));
    add_fails(dir, 65, "mlp.");
    free(dir);
}
END_TEST

START_TEST(an_unknown_architecture_is_refused_by_name) {
    char *dir = model_copy();
    edit_json(dir, "config.json", "model_type", json_string("mamba"));
    add_fails(dir, 65, "mamba");
    free(dir);
}
END_TEST

START_TEST(no_config_and_no_directory) {
    char *dir = model_copy(), *c = fs_path("%s/config.json", dir);
    unlink(c);
    add_fails(dir, 66, "config.json");
    add_fails("/nowhere/at/all", 66, "/nowhere/at/all");
    free(c);
    free(dir);
}
END_TEST

START_TEST(a_tokenizer_without_merges_is_named_and_tokens_still_work) {
    char *dir = model_copy(), *path = fs_path("%s/tokenizer.json", dir);
    json_t *j = json_load_file(path, 0, NULL);
    json_object_del(json_object_get(j, "model"), "merges");
    json_dump_file(j, path, 0);
    json_decref(j);
    FETTLE_OK(NULL, "model add m %s", dir);
    fettle_fails(fettle("{\"text\":\"x\"}\n", "tokenize m"), 65, "merges");
    struct out o = fettle("{\"tokens\":[5,6,7]}\n", "logprobs m");
    ck_assert_msg(o.status == 0, "%s", o.err);
    out_free(&o);
    free(path);
    free(dir);
}
END_TEST

START_TEST(a_model_without_a_tokenizer_says_so_and_trains_on_tokens) {
    char *dir = model_copy(), *path = fs_path("%s/tokenizer.json", dir);
    unlink(path);
    FETTLE_OK(NULL, "model add m %s", dir);
    fettle_fails(fettle("{\"text\":\"x\"}\n", "tokenize m"), 66,
                 "tokenizer.json");
    fettle_fails(fettle(NULL, "sample m --prompt x"), 65, "tokenizer.json");
    char *rows = sys_rows(8);
    json_t *j = FETTLE_JSON(
        NULL, "run sft model=m data=%s batch_size=4 --wait --json", rows);
    ck_assert_str_eq(str_at(j, "state"), "done");
    json_decref(j);
    free(rows);
    free(path);
    free(dir);
}
END_TEST

static void run_fails(const char *rows, const char *want) {
    char *path = sys_file("bad.jsonl", rows);
    fettle_fails(fettle(NULL, "run sft model=starter data=%s", path), 65, want);
    json_t *j = FETTLE_JSON(NULL, "runs --json");
    ck_assert_uint_eq(json_array_size(j), 0);
    json_decref(j);
    free(path);
}
#define GOOD "{\"tokens\":[5,6,7],\"weights\":[1,1,1]}\n"

START_TEST(a_broken_line_is_named_with_its_number) {
    sys_add_starter();
    run_fails(GOOD GOOD "{\"tokens\":[5,6\n" GOOD, "bad.jsonl:3");
    run_fails(GOOD "[]\n", "bad.jsonl:2");
    run_fails(GOOD "{\"text\":\"x\"}\n", "bad.jsonl:2");
    run_fails("{\"tokens\":[5,6,7],\"weights\":[1,1]}\n", "bad.jsonl:1");
    run_fails("{\"tokens\":[5,6,70000],\"weights\":[1,1,1]}\n", "bad.jsonl:1");
    run_fails("{\"tokens\":[5,-1],\"weights\":[1,1]}\n", "bad.jsonl:1");
    run_fails("{\"tokens\":[5,6],\"weights\":[1,\"x\"]}\n", "bad.jsonl:1");
    run_fails(GOOD "{\"messages\":[{\"role\":\"user\"}]}\n", "bad.jsonl:2");
    run_fails(GOOD "\xff\xfe\n", "bad.jsonl:2");
    run_fails("", "bad.jsonl");
    run_fails("\n\n", "bad.jsonl");
}
END_TEST

START_TEST(wrong_keys_are_named) {
    sys_add_starter();
    char *rows = sys_rows(8);
    static const struct {
        const char *word, *want;
    } t[] = {
        {"learning_rat=1", "learning_rate"},
        {"batch_size=0", "batch_size"},
        {"batch_size=x", "batch_size"},
        {"reduction=avg", "mean"},
        {"learning_rate=nan", "learning_rate"},
        {"lora_rank=-1", "lora_rank"},
        {"seed", "seed"},
        {"shuffle=7", "shuffle"},
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++)
        fettle_fails(
            fettle(NULL, "run sft model=starter data=%s %s", rows, t[i].word),
            64, t[i].want);
    fettle_fails(fettle(NULL, "run sft model=nobody data=%s", rows), 66,
                 "nobody");
    fettle_fails(fettle(NULL, "run sft model=starter data=/nowhere"), 66,
                 "/nowhere");
    fettle_fails(fettle(NULL, "run stf model=starter data=%s", rows), 64,
                 "stf");
    json_t *j = FETTLE_JSON(NULL, "runs --json");
    ck_assert_uint_eq(json_array_size(j), 0);
    json_decref(j);
    free(rows);
}
END_TEST

START_TEST(names_that_are_not_there) {
    sys_add_starter();
    fettle_fails(fettle(NULL, "show 9"), 66, "9");
    fettle_fails(fettle(NULL, "kill 9"), 66, "9");
    fettle_fails(fettle(NULL, "promote 9/final x"), 66, "9/final");
    fettle_fails(fettle(NULL, "deploy nobody x"), 66, "nobody");
    fettle_fails(fettle(NULL, "undeploy nobody"), 66, "nobody");
    fettle_fails(fettle(NULL, "export 9/final -o %s/x", sys_home), 66,
                 "9/final");
    fettle_fails(fettle("hi\n", "chat nobody"), 66, "nobody");
    fettle_fails(fettle(NULL, "frobnicate"), 64, "frobnicate");
    fettle_fails(fettle(NULL, "show"), 64, "RUN");
    fettle_fails(fettle(NULL, "show 1 --frob"), 64, "--frob");
}
END_TEST

START_TEST(a_second_daemon_is_refused) {
    sys_add_starter();
    fettle_fails(fettle(NULL, "serve --foreground"), 75, "daemon");
    json_decref(FETTLE_JSON(NULL, "status --json"));
}
END_TEST

START_TEST(a_port_in_use_is_named) {
    char other[64];
    sys_add_starter();
    FETTLE_OK(NULL, "stop");
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        setenv("FETTLE_TOKEN", "a-secret-of-tests", 1);
        execl(sys_fettle(), "fettle", "serve", "--tcp", "127.0.0.1:18741",
              "--home", sys_home, (char *)NULL);
        _exit(127);
    }
    for (int i = 0; i < 200; i++) {
        struct out o = fettle(NULL, "status");
        bool up = o.status == 0;
        out_free(&o);
        if (up)
            break;
        usleep(20000);
    }
    snprintf(other, sizeof other, "%s", sys_home);
    snprintf(sys_home, sizeof sys_home, "/tmp/fettle-sys-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(sys_home));
    setenv("FETTLE_TOKEN", "a-secret-of-tests", 1);
    fettle_fails(fettle(NULL, "serve --tcp 127.0.0.1:18741"), 75, "18741");
    unsetenv("FETTLE_TOKEN");
    fettle_fails(fettle(NULL, "serve --tcp 127.0.0.1:18742"), 78,
                 "FETTLE_TOKEN");
    struct err err = {0};
    fs_remove_tree(sys_home, &err);
    memcpy(sys_home, other, sizeof other);
    FETTLE_OK(NULL, "stop");
    waitpid(pid, NULL, 0);
}
END_TEST

START_TEST(a_corrupt_page_is_found_and_named) {
    sys_add_starter();
    char *rows = sys_rows(40);
    json_decref(FETTLE_JSON(
        NULL, "run sft model=starter data=%s batch_size=2 --wait --json",
        rows));
    FETTLE_OK(NULL, "stop");
    char *path = fs_path("%s/store.db", sys_home);
    int64_t size = fs_size(path);
    int fd = open(path, O_WRONLY);
    char junk[4096];
    memset(junk, 0xa5, sizeof junk);
    for (int64_t at = 4096; at < size; at += 8192)
        ck_assert_int_eq(pwrite(fd, junk, sizeof junk, at), sizeof junk);
    close(fd);
    fettle_fails(fettle(NULL, "fsck"), 65, "store.db");
    struct out o = fettle(NULL, "runs");
    ck_assert_int_lt(o.status, 128);
    out_free(&o);
    o = fettle(NULL, "model add again " STARTER);
    ck_assert_int_gt(o.status, 0);
    ck_assert_int_lt(o.status, 128);
    out_free(&o);
    free(rows);
    free(path);
}
END_TEST

START_TEST(a_damaged_checkpoint_is_never_used) {
    sys_add_starter();
    char *rows = sys_rows(8);
    json_decref(FETTLE_JSON(
        NULL, "run sft model=starter data=%s batch_size=4 --wait --json",
        rows));
    char *w = fs_path("%s/ckpt/1/final/adapter_model.safetensors", sys_home);
    int fd = open(w, O_WRONLY);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pwrite(fd, "xxxx", 4, fs_size(w) / 2), 4);
    close(fd);
    fettle_fails(fettle(NULL, "fsck"), 65, "1/final");
    fettle_fails(fettle("{\"tokens\":[5,6,7]}\n", "logprobs 1/final"), 65,
                 "adapter_model.safetensors");
    struct out o = fettle("{\"tokens\":[5,6,7]}\n", "logprobs starter");
    ck_assert_int_eq(o.status, 0);
    out_free(&o);
    free(w);
    free(rows);
}
END_TEST

START_TEST(lines_on_stdin_are_named_too) {
    sys_add_starter();
    fettle_fails(fettle("{\"text\":1}\n", "tokenize starter"), 65, "text");
    fettle_fails(fettle("{\"tokens\":[5]}\nnonsense\n", "detokenize starter"),
                 65, "2");
    fettle_fails(fettle("{\"tokens\":[99999]}\n", "logprobs starter"), 65,
                 "99999");
    fettle_fails(fettle("{\"messages\":[]}\n", "render starter"), 65,
                 "messages");
}
END_TEST

Suite *input_suite(void) {
    Suite *s = suite_create("input");
    TCase *t = tcase_create("input");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, sys_setup, sys_teardown);
    tcase_add_test(t, missing_weights_are_named);
    tcase_add_test(t, truncated_weights_are_named);
    tcase_add_test(t, a_weight_of_another_shape_is_named);
    tcase_add_test(t, an_unknown_architecture_is_refused_by_name);
    tcase_add_test(t, no_config_and_no_directory);
    tcase_add_test(t,
                   a_tokenizer_without_merges_is_named_and_tokens_still_work);
    tcase_add_test(t, a_model_without_a_tokenizer_says_so_and_trains_on_tokens);
    tcase_add_test(t, a_broken_line_is_named_with_its_number);
    tcase_add_test(t, wrong_keys_are_named);
    tcase_add_test(t, names_that_are_not_there);
    tcase_add_test(t, a_second_daemon_is_refused);
    tcase_add_test(t, a_port_in_use_is_named);
    tcase_add_test(t, a_corrupt_page_is_found_and_named);
    tcase_add_test(t, a_damaged_checkpoint_is_never_used);
    tcase_add_test(t, lines_on_stdin_are_named_too);
    suite_add_tcase(s, t);
    return s;
}
