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

static void tokenizer_write(const char *dir, const char *text) {
    struct err err = {0};
    char *path = fs_path("%s/tokenizer.json", dir);
    ck_assert_int_eq(fs_write_atomic(path, text, strlen(text), &err), 0);
    free(path);
}

START_TEST(a_broken_tokenizer_is_refused_and_named) {
    char *dir = model_copy(), *path = fs_path("%s/tokenizer.json", dir);
    json_t *j = json_load_file(path, 0, NULL);
    json_object_del(json_object_get(j, "model"), "merges");
    json_dump_file(j, path, 0);
    add_fails(dir, 65, "tokenizer.json: model.merges");
    json_object_del(json_object_get(j, "model"), "vocab");
    json_object_set_new(json_object_get(j, "model"), "merges", json_array());
    json_dump_file(j, path, 0);
    add_fails(dir, 65, "tokenizer.json: model.vocab");
    json_decref(j);
    tokenizer_write(dir, "{}");
    add_fails(dir, 65, "tokenizer.json: no model");
    tokenizer_write(dir, "{\"model\":{\"type\":\"BPE\",");
    add_fails(dir, 65,
              "tokenizer.json: not JSON: a string is wanted (byte 23)");
    free(path);
    free(dir);
}
END_TEST

/* Kinds that this program does not have, and what of them is named. */
static const struct {
    const char *text, *named;
} unknown_tok[] = {
    {"{\"model\":{\"type\":\"Mystery\",\"vocab\":{\"a\":0}}}", "Mystery"},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},"
     "\"normalizer\":{\"type\":\"Folding\"}}",
     "Folding"},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},"
     "\"decoder\":{\"type\":\"Guess\"}}",
     "Guess"},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},"
     "\"pre_tokenizer\":{\"type\":\"Sentences\"}}",
     "Sentences"},
};

START_TEST(a_tokenizer_of_an_unknown_kind_warns_and_tokens_work) {
    char *dir = model_copy(), *rows = sys_rows(8);
    const char *named = unknown_tok[_i].named;
    tokenizer_write(dir, unknown_tok[_i].text);
    struct out o = fettle(NULL, "model add m %s", dir);
    ck_assert_msg(o.status == 0, "%s", o.err);
    ck_assert_msg(strstr(o.err, "text will not work: ") != NULL &&
                      strstr(o.err, named) != NULL &&
                      strchr(o.err, '\n') == o.err + strlen(o.err) - 1,
                  "%s", o.err);
    out_free(&o);
    fettle_fails(fettle("{\"text\":\"x\"}\n", "tokenize m"), 65, named);
    fettle_fails(fettle(NULL, "sample m --prompt x"), 65, named);
    json_decref(FETTLE_JSON("{\"tokens\":[5,6,7]}\n", "logprobs m"));
    json_t *j = FETTLE_JSON(
        NULL, "run sft model=m data=%s batch_size=4 --wait --json", rows);
    ck_assert_str_eq(str_at(j, "state"), "done");
    json_decref(j);
    char *talk = sys_file("talk.jsonl",
                          "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}"
                          "]}\n");
    fettle_fails(fettle(NULL, "run sft model=m data=%s", talk), 65, named);
    free(talk);
    free(rows);
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
    run_fails(GOOD GOOD "{\"tokens\":[5,6\n" GOOD,
              "bad.jsonl:3: JSON: column 14: ");
    run_fails(GOOD "[]\n", "bad.jsonl:2");
    run_fails(GOOD "{\"txt\":\"x\"}\n", "bad.jsonl:2");
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
        {"adam_beta1=1", "below 1"},
        {"adam_beta2=1.0", "below 1"},
        {"nokey=1", "fettle recipes sft lists them"},
        {"bach_size=1", "did you mean batch_size?"},
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

START_TEST(names_of_models_are_parts_with_slashes_between) {
    static const char *const bad[] = {"..", "a//b",   "/a",
                                      "a/", "a/../b", "a%b"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        fettle_fails(fettle(NULL, "model add %s " STARTER, bad[i]), 65,
                     "part of a name");
    FETTLE_OK(NULL, "model add org/model-1.5B " STARTER);
    json_t *j = FETTLE_JSON(NULL, "model list --json");
    ck_assert_uint_eq(json_array_size(j), 1);
    json_decref(j);
}
END_TEST

START_TEST(data_is_checked_before_anything_was_set_up) {
    static const char rows[] =
        "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},"
        "{\"role\":\"assistant\",\"content\":\"b\"}]}\n";
    char *data = sys_file("chat.jsonl", rows);
    struct out o = fettle(NULL, "data check %s", data);
    ck_assert_int_eq(o.status, 0);
    ck_assert_ptr_nonnull(strstr(o.out, "1 rows, 1 chat"));
    out_free(&o);
    free(data);
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

START_TEST(wrong_sampling_options_are_refused_first) {
    static const char *const words[] = {
        "--top-p 0",    "--top-p -1",       "--top-p 1.5",      "--min-p -0.1",
        "--min-p 1.01", "--temperature -1", "--temperature nan"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        char option[32];
        snprintf(option, sizeof option, "%.*s", (int)strcspn(words[i], " "),
                 words[i]);
        fettle_fails(fettle(NULL, "sample nobody --prompt x %s", words[i]), 64,
                     option);
    }
    fettle_fails(fettle("hi\n", "chat nobody --temperature -1"), 64,
                 "--temperature");
    struct out o = fettle(NULL, "status");
    ck_assert_msg(o.status != 0, "a daemon was started");
    out_free(&o);
}
END_TEST

START_TEST(nul_bytes_are_text_like_others) {
    sys_add_starter();
    json_t *ids =
        FETTLE_JSON("{\"text\":\"a\\u0000b\"}\n", "tokenize starter --json");
    ck_assert_uint_eq(json_array_size(json_object_get(ids, "tokens")), 3);
    char *line = json_dumps(ids, JSON_COMPACT);
    struct out o = fettle(line, "detokenize starter");
    ck_assert_str_eq(o.out, "{\"text\":\"a\\u0000b\"}\n");
    out_free(&o);
    free(line);
    json_decref(ids);
    fettle_fails(fettle("{\"messages\":[\"a\\u0000\"]}\n", "render starter"),
                 65, "u0000 is not allowed here");
    fettle_fails(fettle("{\"tokens\":[5,99999]}\n", "detokenize starter"), 65,
                 "stdin:1: token 99999 at position 1: the vocabulary has ");
}
END_TEST

START_TEST(a_registered_name_comes_before_a_directory) {
    struct err err = {0};
    char cwd[4096], *dir = fs_path("%s/names", sys_home);
    char *there = fs_path("%s/starter", dir);
    ck_assert_ptr_nonnull(getcwd(cwd, sizeof cwd));
    char *exe = realpath(sys_fettle(), NULL);
    setenv("FETTLE", exe, 1);
    sys_add_starter();
    ck_assert_int_eq(fs_mkdirs(there, &err), 0);
    char *conf = fs_path("%s/config.json", there);
    ck_assert_int_eq(fs_write_atomic(conf, "{}", 2, &err), 0);
    ck_assert_int_eq(chdir(dir), 0);
    json_decref(FETTLE_JSON("{\"text\":\"x\"}\n", "tokenize starter"));
    fettle_fails(fettle("{\"text\":\"x\"}\n", "tokenize ./starter"), 66,
                 "tokenizer.json");
    ck_assert_int_eq(chdir(cwd), 0);
    free(exe);
    free(conf);
    free(there);
    free(dir);
}
END_TEST

static void model_count(size_t want) {
    json_t *j = FETTLE_JSON(NULL, "model list --json");
    ck_assert_uint_eq(json_array_size(j), want);
    json_decref(j);
}

START_TEST(a_model_is_forgotten_when_nothing_needs_it) {
    char *rows = sys_rows(8), *copy = model_copy();
    sys_add_starter();
    json_decref(FETTLE_JSON(NULL, "help model rm --json"));
    fettle_fails(fettle(NULL, "model rm"), 64, "usage: fettle model rm NAME");
    fettle_fails(fettle(NULL, "model rm nobody"), 66, "nobody");
    json_decref(FETTLE_JSON(
        NULL, "run sft model=starter data=%s batch_size=8 --wait --json",
        rows));
    FETTLE_OK(NULL, "deploy starter d");
    fettle_fails(fettle(NULL, "model rm starter"), 65, "deployment d");
    fettle_fails(fettle(NULL, "model rm starter"), 65, "checkpoint 1/final");
    FETTLE_OK(NULL, "undeploy d");
    FETTLE_OK(NULL, "ckpt rm 1/final");
    json_decref(FETTLE_JSON(
        NULL, "run sft model=starter data=%s num_epochs=100000 --json", rows));
    fettle_fails(fettle(NULL, "model rm starter"), 65, "run 2 is not over");
    model_count(1);
    FETTLE_OK(NULL, "kill 2");
    json_t *j = FETTLE_JSON(NULL, "ckpt --json"), *e;
    size_t i;
    json_array_foreach(j, i, e) FETTLE_OK(NULL, "ckpt rm %s", str_at(e, "id"));
    json_decref(j);
    json_decref(FETTLE_JSON(NULL, "model rm starter --json"));
    model_count(0);
    fettle_fails(fettle("{\"tokens\":[5]}\n", "logprobs starter"), 66,
                 "starter");
    ck_assert(fs_exists(STARTER "/config.json"));
    free(rows);
    free(copy);
}
END_TEST

/* The worker of the old directory must not answer for the new one. */
START_TEST(a_name_that_comes_back_means_the_new_directory) {
    char *dir = model_copy();
    static const char ask[] = "{\"tokens\":[5,6,7,8]}\n";
    sys_add_starter();
    struct out was = fettle(ask, "logprobs starter");
    edit_json(dir, "config.json", "rope_theta", json_real(77));
    fettle_fails(fettle(NULL, "model add starter %s", dir), 65,
                 "fettle model rm starter");
    FETTLE_OK(NULL, "model rm starter");
    FETTLE_OK(NULL, "model add starter %s", dir);
    struct out is = fettle(ask, "logprobs starter");
    ck_assert_msg(was.status == 0 && is.status == 0, "%s%s", was.err, is.err);
    ck_assert_str_ne(was.out, is.out);
    out_free(&was);
    out_free(&is);
    free(dir);
}
END_TEST

START_TEST(a_deployment_takes_no_models_name) {
    sys_add_starter();
    fettle_fails(fettle(NULL, "deploy starter starter"), 65,
                 "a model is registered as starter");
    json_t *j = FETTLE_JSON(NULL, "deployments --json");
    ck_assert_uint_eq(json_array_size(j), 0);
    json_decref(j);
}
END_TEST

START_TEST(logs_are_json_lines_when_asked) {
    sys_add_starter();
    char *rows = sys_rows(8);
    json_decref(FETTLE_JSON(
        NULL, "run sft model=starter data=%s batch_size=4 --wait --json",
        rows));
    struct out o = fettle(NULL, "logs 1 --json");
    int n = 0;
    char *save = NULL;
    for (char *line = strtok_r(o.out, "\n", &save); line;
         line = strtok_r(NULL, "\n", &save), n++) {
        json_t *j = json_loads(line, 0, NULL);
        ck_assert_msg(json_is_string(json_object_get(j, "line")), "%s", line);
        json_decref(j);
    }
    ck_assert_int_gt(n, 0);
    out_free(&o);
    free(rows);
}
END_TEST

static void scratch(const char *ckpt) {
    char *w = fs_path("%s/ckpt/%s/adapter_model.safetensors", sys_home, ckpt);
    int fd = open(w, O_WRONLY);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pwrite(fd, "xxxx", 4, fs_size(w) / 2), 4);
    close(fd);
    free(w);
}

START_TEST(fsck_tells_all_findings_in_one_document) {
    sys_add_starter();
    char *rows = sys_rows(8);
    for (int i = 0; i < 2; i++)
        json_decref(FETTLE_JSON(
            NULL, "run sft model=starter data=%s batch_size=4 --wait --json",
            rows));
    json_t *j = FETTLE_JSON(NULL, "fsck --json");
    ck_assert(json_is_true(json_object_get(j, "ok")));
    ck_assert_uint_eq(json_array_size(json_object_get(j, "findings")), 0);
    json_decref(j);
    scratch("1/final");
    scratch("2/final");
    struct out o = fettle(NULL, "fsck --json");
    ck_assert_int_eq(o.status, 65);
    j = json_loads(o.out, 0, NULL);
    ck_assert_msg(json_is_false(json_object_get(j, "ok")), "%s", o.out);
    ck_assert_uint_eq(json_array_size(json_object_get(j, "findings")), 2);
    json_decref(j);
    out_free(&o);
    o = fettle(NULL, "fsck");
    ck_assert_ptr_nonnull(strstr(o.out, "ckpt/1/final"));
    ck_assert_ptr_nonnull(strstr(o.out, "ckpt/2/final"));
    out_free(&o);
    free(rows);
}
END_TEST

static json_t *parity_of(const char *name) {
    json_t *info = FETTLE_JSON(NULL, "model info %s --json", name);
    json_t *parity = json_incref(json_object_get(info, "parity"));
    ck_assert_ptr_nonnull(parity);
    json_decref(info);
    return parity;
}

START_TEST(model_info_tells_how_the_renderer_compares_with_the_template) {
    char *dir = model_copy();
    struct out o = fettle(NULL, "model add own %s", dir);
    ck_assert_msg(strstr(o.out, "scenarios equal to the template") != NULL,
                  "%s%s", o.out, o.err);
    out_free(&o);
    json_t *j = parity_of("own");
    ck_assert_int_gt(json_integer_value(json_object_get(j, "equal")), 20);
    json_decref(j);
    /* a name with a slash is a file all the same; no template, no numbers */
    edit_json(dir, "tokenizer_config.json", "chat_template", NULL);
    FETTLE_OK(NULL, "model add my/own %s", dir);
    j = parity_of("my/own");
    ck_assert_ptr_null(json_object_get(j, "equal"));
    ck_assert_ptr_nonnull(json_object_get(j, "renderer"));
    json_decref(j);
    FETTLE_OK(NULL, "model rm own");
    char *path = fs_path("%s/models/own.parity.json", sys_home);
    ck_assert(!fs_exists(path));
    free(path);
    free(dir);
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
    tcase_add_test(t, a_broken_tokenizer_is_refused_and_named);
    tcase_add_loop_test(t, a_tokenizer_of_an_unknown_kind_warns_and_tokens_work,
                        0, sizeof unknown_tok / sizeof *unknown_tok);
    tcase_add_test(t, a_model_without_a_tokenizer_says_so_and_trains_on_tokens);
    tcase_add_test(t, a_broken_line_is_named_with_its_number);
    tcase_add_test(t, wrong_keys_are_named);
    tcase_add_test(t, names_that_are_not_there);
    tcase_add_test(t, a_second_daemon_is_refused);
    tcase_add_test(t, a_port_in_use_is_named);
    tcase_add_test(t, a_corrupt_page_is_found_and_named);
    tcase_add_test(t, names_of_models_are_parts_with_slashes_between);
    tcase_add_test(t, data_is_checked_before_anything_was_set_up);
    tcase_add_test(t, a_damaged_checkpoint_is_never_used);
    tcase_add_test(t, lines_on_stdin_are_named_too);
    tcase_add_test(t, wrong_sampling_options_are_refused_first);
    tcase_add_test(t, nul_bytes_are_text_like_others);
    tcase_add_test(t, a_registered_name_comes_before_a_directory);
    tcase_add_test(t, a_model_is_forgotten_when_nothing_needs_it);
    tcase_add_test(t, a_name_that_comes_back_means_the_new_directory);
    tcase_add_test(t, a_deployment_takes_no_models_name);
    tcase_add_test(t, logs_are_json_lines_when_asked);
    tcase_add_test(t, fsck_tells_all_findings_in_one_document);
    tcase_add_test(
        t, model_info_tells_how_the_renderer_compares_with_the_template);
    suite_add_tcase(s, t);
    return s;
}
