/* Text by the verbs of a user: tokenizers without a model, renderers that stay
 * with what they trained. */
#include "tests/sys/sys.h"

Suite *text_suite(void);

#define PIECES "tests/golden/sentencepiece/bpe"
#define QUESTION "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}\n"

/* ---- directories that have a tokenizer and no model ---- */

START_TEST(a_tokenizer_alone_is_a_model_for_text) {
    FETTLE_OK(NULL, "model add words %s", PIECES);
    json_t *j = FETTLE_JSON(NULL, "model info words --json");
    ck_assert_str_eq(str_at(j, "tokenizer_file"), "tokenizer.model");
    ck_assert_str_eq(str_at(json_object_get(j, "parity"), "renderer"),
                     "role_colon");
    json_decref(j);
    FETTLE_OK("{\"text\":\"ab x\"}\n", "tokenize words");
    FETTLE_OK("{\"text\":\"ab x\"}\n", "tokenize %s", PIECES);
    FETTLE_OK(QUESTION, "render %s --prompt", PIECES);
    fettle_fails(fettle(NULL, "sample words --prompt ab"), 66, "config.json");
}
END_TEST

START_TEST(offsets_of_tokens_are_told_in_characters_and_bytes) {
    json_t *j = FETTLE_JSON("{\"text\":\"\xc3\xa9 b\"}\n",
                            "tokenize core/starter/model --offsets");
    json_t *chars = json_object_get(j, "offsets");
    json_t *bytes = json_object_get(j, "byte_offsets");
    size_t last = json_array_size(chars) - 1;
    ck_assert_uint_eq(json_array_size(json_object_get(j, "tokens")), last + 1);
    ck_assert_int_eq(
        json_integer_value(json_array_get(json_array_get(chars, last), 1)), 3);
    ck_assert_int_eq(
        json_integer_value(json_array_get(json_array_get(bytes, last), 1)), 4);
    json_decref(j);
}
END_TEST

/* ---- renderers ---- */

static json_t *one_step(const char *more) {
    char *data = sys_rows(8);
    json_t *j = FETTLE_JSON(NULL,
                            "run sft model=starter data=%s batch_size=4 "
                            "max_steps=1 eval_every=0 sample_every=0 %s "
                            "--wait --json",
                            data, more);
    free(data);
    return j;
}

START_TEST(a_checkpoint_answers_by_the_renderer_it_was_trained_with) {
    sys_add_starter();
    json_decref(one_step("renderer=role_colon"));
    json_t *want =
        FETTLE_JSON(QUESTION, "render starter --prompt --renderer role_colon");
    json_t *other = FETTLE_JSON(QUESTION, "render starter --prompt");
    json_t *own = FETTLE_JSON(QUESTION, "render 1/final --prompt");
    ck_assert(json_equal(own, want) && !json_equal(own, other));
    FETTLE_OK(NULL, "deploy 1/final served");
    static const char *const targets[] = {"1/final", "served", "starter"};
    for (int i = 0; i < 3; i++) {
        json_t *j = FETTLE_JSON(QUESTION,
                                "sample %s --messages - --max-tokens 1 "
                                "--prompt-logprobs --json",
                                targets[i]);
        ck_assert_msg(
            json_equal(json_object_get(json_object_get(j, "prompt"), "tokens"),
                       json_object_get(i < 2 ? want : other, "tokens")),
            "%s", targets[i]);
        json_decref(j);
    }
    json_decref(want);
    json_decref(other);
    json_decref(own);
}
END_TEST

START_TEST(auto_is_written_down_as_what_it_meant) {
    sys_add_starter();
    json_decref(one_step(""));
    json_t *j = FETTLE_JSON(NULL, "show 1 --json");
    const char *name = str_at(json_object_get(j, "config"), "renderer");
    ck_assert_str_ne(name, "auto");
    char *path = fs_path("%s/ckpt/1/final/MANIFEST.json", sys_home);
    size_t len;
    char *text = fs_read(path, 1 << 20, &len, &(struct err){0});
    char *line = fs_path("\"renderer\": \"%s\"", name);
    ck_assert_msg(text && strstr(text, line), "%s", text);
    json_decref(j);
    free(text);
    free(line);
    free(path);
}
END_TEST

START_TEST(an_export_has_every_file_of_the_tokenizer) {
    FETTLE_OK(NULL, "stop");
    char *dir = fs_path("%s/base", sys_home);
    char *extra = fs_path("%s/special_tokens_map.json", dir);
    char *copy[] = {"cp", "-r", "core/starter/model", dir, NULL};
    struct out o = sys_exec(NULL, copy);
    ck_assert_int_eq(o.status, 0);
    out_free(&o);
    ck_assert_int_eq(fs_write_atomic(extra, "{}", 2, &(struct err){0}), 0);
    FETTLE_OK(NULL, "model add starter %s", dir);
    json_decref(one_step("lora_rank=0"));
    FETTLE_OK(NULL, "export 1/final --as hf -o %s/out", sys_home);
    static const char *const names[] = {"special_tokens_map.json",
                                        "tokenizer.json", "config.json"};
    for (int i = 0; i < 3; i++) {
        char *path = fs_path("%s/out/%s", sys_home, names[i]);
        ck_assert_msg(fs_exists(path), "%s", path);
        free(path);
    }
    free(extra);
    free(dir);
}
END_TEST

Suite *text_suite(void) {
    Suite *s = suite_create("text");
    TCase *t = tcase_create("text");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, sys_setup, sys_teardown);
    tcase_add_test(t, a_tokenizer_alone_is_a_model_for_text);
    tcase_add_test(t, offsets_of_tokens_are_told_in_characters_and_bytes);
    tcase_add_test(t, a_checkpoint_answers_by_the_renderer_it_was_trained_with);
    tcase_add_test(t, auto_is_written_down_as_what_it_meant);
    tcase_add_test(t, an_export_has_every_file_of_the_tokenizer);
    suite_add_tcase(s, t);
    return s;
}
