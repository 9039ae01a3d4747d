/* A renderer beside a chat template. */
#include "core/fs.h"
#include "core/text.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

Suite *text_parity_suite(void);

#define TOKENIZER "tests/golden/renderers/tokenizer"

/* ChatML as our renderer writes it, for what has no tools and no thoughts. */
static const char chatml[] =
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.content is "
    "string %}{{ m.content }}{% else %}{% for p in m.content %}{{ p.text }}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

static struct {
    struct tok *tok;
    char *dir;
} fx;

static void setup(void) {
    struct err err = {0};
    fx.dir = fs_path("/tmp/fettle-parity-%d", (int)getpid());
    ck_assert_int_eq(fs_mkdirs(fx.dir, &err), 0);
    fx.tok = tok_open(TOKENIZER, &err);
    ck_assert_msg(fx.tok != NULL, "%s", err.msg);
}

static void teardown(void) {
    struct err err = {0};
    tok_close(fx.tok);
    fs_remove_tree(fx.dir, &err);
    free(fx.dir);
}

static json_t *report(const char *template, const char *renderer) {
    struct err err = {0};
    char *path = fs_path("%s/chat_template.jinja", fx.dir);
    ck_assert_int_eq(fs_write_atomic(path, template, strlen(template), &err),
                     0);
    json_t *j = render_parity(renderer, fx.tok, fx.dir, &err);
    ck_assert_msg(j != NULL, "%s", err.msg);
    free(path);
    return j;
}

static json_int_t count(const json_t *j, const char *key) {
    return json_integer_value(json_object_get(j, key));
}

/* The row of a scenario, NULL when it is equal. */
static const json_t *row_of(const json_t *j, const char *scenario) {
    size_t i;
    json_t *row;
    json_array_foreach(json_object_get(j, "rows"), i, row) {
        if (strcmp(json_string_value(json_object_get(row, "scenario")),
                   scenario) == 0)
            return row;
    }
    return NULL;
}

static const char *field(const json_t *row, const char *key) {
    const char *s = json_string_value(json_object_get(row, key));
    return s ? s : "";
}

START_TEST(a_template_equals_itself_in_every_scenario) {
    json_t *j = report(chatml, "template");
    ck_assert_int_eq(count(j, "equal"), count(j, "scenarios"));
    ck_assert_uint_eq(json_array_size(json_object_get(j, "rows")), 0);
    json_decref(j);
}
END_TEST

START_TEST(words_alone_are_equal_and_what_differs_is_told_side_by_side) {
    json_t *j = report(chatml, "chatml");
    ck_assert_ptr_null(row_of(j, "multi_turn"));
    ck_assert_ptr_null(row_of(j, "control_text"));
    const json_t *row = row_of(j, "thought");
    ck_assert_str_eq(field(row, "verdict"), "different");
    ck_assert_str_ne(field(row, "ours"), "");
    ck_assert_str_ne(field(row, "template"), "");
    json_decref(j);
}
END_TEST

START_TEST(the_verdicts_add_up) {
    json_t *j = report(chatml, "qwen3");
    ck_assert_int_eq(count(j, "equal") + count(j, "known") +
                         count(j, "vanished") + count(j, "different"),
                     count(j, "scenarios"));
    ck_assert_int_eq(count(j, "scenarios") - count(j, "equal"),
                     (json_int_t)json_array_size(json_object_get(j, "rows")));
    json_decref(j);
}
END_TEST

START_TEST(a_known_difference_has_a_reason_and_is_missed_when_gone) {
    json_t *j = report(chatml, "qwen3");
    /* this template says what a developer says, as the renderer does */
    ck_assert_str_eq(field(row_of(j, "developer_first"), "verdict"),
                     "vanished");
    json_decref(j);
    j = report(chatml, "llama3");
    ck_assert_str_eq(field(row_of(j, "tools_declared"), "verdict"), "known");
    ck_assert_str_ne(field(row_of(j, "tools_declared"), "why"), "");
    json_decref(j);
}
END_TEST

/* Llama 3.1's system message. */
START_TEST(a_known_difference_may_be_of_one_template_only) {
    json_t *j = report("{{ bos_token }}<|start_header_id|>system"
                       "<|end_header_id|>\n\nCutting Knowledge Date: now",
                       "llama3");
    ck_assert_str_eq(field(row_of(j, "single_user"), "verdict"), "known");
    ck_assert_ptr_nonnull(
        strstr(field(row_of(j, "single_user"), "why"), "dates"));
    json_decref(j);
    j = report("{{ bos_token }}other", "llama3");
    ck_assert_str_eq(field(row_of(j, "single_user"), "verdict"), "different");
    json_decref(j);
}
END_TEST

START_TEST(a_template_without_words_for_tools_differs_there_as_is_known) {
    json_t *j = report("{% for m in messages %}<|im_start|>{{ m.role }}\n"
                       "{{ m.content }}<|im_end|>\n{% endfor %}",
                       "qwen3_instruct");
    const json_t *row = row_of(j, "call_answered");
    ck_assert_str_eq(field(row, "verdict"), "known");
    ck_assert_ptr_nonnull(strstr(field(row, "why"), "no words for tools"));
    json_decref(j);
    j = report("{{ tools }}{% for m in messages %}<|im_start|>{{ m.role }}\n"
               "{{ m.content }}<|im_end|>\n{% endfor %}",
               "qwen3_instruct");
    ck_assert_str_eq(field(row_of(j, "call_answered"), "verdict"), "different");
    json_decref(j);
}
END_TEST

START_TEST(a_template_that_refuses_is_a_difference_with_its_words) {
    json_t *j = report("{{ raise_exception('not today') }}", "chatml");
    ck_assert_int_eq(count(j, "equal") + count(j, "different"),
                     count(j, "scenarios"));
    ck_assert_ptr_nonnull(
        strstr(field(row_of(j, "single_user"), "template"), "not today"));
    json_decref(j);
}
END_TEST

START_TEST(a_template_that_runs_into_its_bounds_is_not_tried_again_and_again) {
    json_t *j = report("{% for i in range(3000) %}{% for k in range(3000) %}"
                       "{% endfor %}{% endfor %}",
                       "chatml");
    ck_assert_int_eq(count(j, "equal"), 0);
    ck_assert_ptr_nonnull(
        strstr(field(row_of(j, "single_user"), "template"), "takes over"));
    ck_assert_ptr_nonnull(
        strstr(field(row_of(j, "tools_declared"), "template"), "not tried"));
    json_decref(j);
}
END_TEST

START_TEST(without_a_template_there_is_no_report) {
    struct err err = {0};
    ck_assert_ptr_null(render_parity("chatml", fx.tok, fx.dir, &err));
    ck_assert_int_eq(err.code, ERR_NOTFOUND);
}
END_TEST

Suite *text_parity_suite(void) {
    Suite *s = suite_create("parity");
    TCase *tc = tcase_create("parity");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, a_template_equals_itself_in_every_scenario);
    tcase_add_test(tc,
                   words_alone_are_equal_and_what_differs_is_told_side_by_side);
    tcase_add_test(tc, the_verdicts_add_up);
    tcase_add_test(tc, a_known_difference_has_a_reason_and_is_missed_when_gone);
    tcase_add_test(tc, a_known_difference_may_be_of_one_template_only);
    tcase_add_test(
        tc, a_template_without_words_for_tools_differs_there_as_is_known);
    tcase_add_test(tc, a_template_that_refuses_is_a_difference_with_its_words);
    tcase_set_timeout(tc, 30);
    tcase_add_test(
        tc, a_template_that_runs_into_its_bounds_is_not_tried_again_and_again);
    tcase_add_test(tc, without_a_template_there_is_no_report);
    suite_add_tcase(s, tc);
    return s;
}
