/* Rows of training data: what they are taken for, and what is found wrong. */
#include "core/text.h"

#include "core/json.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

Suite *text_dataset_suite(void);

#define MODEL "core/starter/model"

static struct tok *tok;
static struct render *ren;
static char path[64];

static void setup(void) {
    struct err err = {0};
    tok = tok_open(MODEL, &err);
    ren = tok ? render_open("auto", tok, MODEL, &err) : NULL;
    ck_assert_msg(ren != NULL, "%s", err.msg);
    snprintf(path, sizeof path, "/tmp/fettle-rows-%d.jsonl", (int)getpid());
}

static void teardown(void) {
    render_close(ren);
    tok_close(tok);
    unlink(path);
}

static void write_rows(const char *text) {
    FILE *f = fopen(path, "we");
    ck_assert_ptr_nonnull(f);
    ck_assert(fputs(text, f) >= 0);
    ck_assert_int_eq(fclose(f), 0);
}

static struct row_conf conf_of(size_t max_length) {
    return (struct row_conf){.tok = tok,
                             .render = ren,
                             .why = "it is broken",
                             .on = TRAIN_ALL_ASSISTANT,
                             .format = -1,
                             .max_length = max_length,
                             .vocab = tok_size(tok)};
}

static json_t *of(const char *text) {
    json_error_t e;
    json_t *j = json_loads(text, 0, &e);
    ck_assert_msg(j != NULL, "%s: %s", text, e.text);
    return j;
}

/* ---- formats ---- */

START_TEST(a_row_of_each_format_says_its_conversation) {
    static const struct {
        enum row_format f;
        const char *row, *chat;
    } cases[] = {
        {ROW_CHAT,
         "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"tools\":[1]}",
         "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"tools\":[1]"
         "}"},
        {ROW_PROMPT, "{\"prompt\":\"a\",\"completion\":\"b\"}",
         "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},"
         "{\"role\":\"assistant\",\"content\":\"b\"}]}"},
        {ROW_PROMPT,
         "{\"prompt\":[{\"role\":\"system\",\"content\":\"s\"}],"
         "\"completion\":[{\"role\":\"assistant\",\"content\":\"b\"}]}",
         "{\"messages\":[{\"role\":\"system\",\"content\":\"s\"},"
         "{\"role\":\"assistant\",\"content\":\"b\"}]}"},
        {ROW_SHAREGPT,
         "{\"conversations\":[{\"from\":\"system\",\"value\":\"s\"},"
         "{\"from\":\"human\",\"value\":\"a\"},"
         "{\"from\":\"gpt\",\"value\":\"b\"}]}",
         "{\"messages\":[{\"role\":\"system\",\"content\":\"s\"},"
         "{\"role\":\"user\",\"content\":\"a\"},"
         "{\"role\":\"assistant\",\"content\":\"b\"}]}"},
        {ROW_ALPACA, "{\"instruction\":\"Add.\",\"output\":\"3\"}",
         "{\"messages\":[{\"role\":\"user\",\"content\":\"Below is an "
         "instruction that describes a task. Write a response that "
         "appropriately completes the request.\\n\\n### "
         "Instruction:\\nAdd.\\n\\n### Response:\\n\"},"
         "{\"role\":\"assistant\",\"content\":\"3\"}]}"},
        {ROW_ALPACA,
         "{\"instruction\":\"Add.\",\"input\":\"1 2\",\"output\":\"3\"}",
         "{\"messages\":[{\"role\":\"user\",\"content\":\"Below is an "
         "instruction that describes a task, paired with an input that "
         "provides further context. Write a response that appropriately "
         "completes the request.\\n\\n### Instruction:\\nAdd.\\n\\n### "
         "Input:\\n1 2\\n\\n### Response:\\n\"},"
         "{\"role\":\"assistant\",\"content\":\"3\"}]}"},
        {ROW_PREFERENCE,
         "{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"c\"}",
         "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},"
         "{\"role\":\"assistant\",\"content\":\"b\"}]}"},
        {ROW_PREFERENCE,
         "{\"chosen\":{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]},"
         "\"rejected\":{\"messages\":[]}}",
         "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}"},
        {ROW_ANSWER, "{\"prompt\":\"2+2\",\"answer\":\"4\"}",
         "{\"messages\":[{\"role\":\"user\",\"content\":\"2+2\"}]}"},
        {ROW_GROUND_TRUTH,
         "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],"
         "\"ground_truth\":\"4\"}",
         "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err err = {0};
        json_t *row = of(cases[i].row), *want = of(cases[i].chat);
        ck_assert_int_eq(row_format(row, &err), (int)cases[i].f);
        json_t *chat = row_chat(row, cases[i].f, &err);
        ck_assert_msg(chat && json_equal(chat, want), "%s: %s", cases[i].row,
                      err.msg);
        json_decref(chat);
        json_decref(want);
        json_decref(row);
    }
}
END_TEST

START_TEST(a_pair_gives_two_examples_after_one_prompt) {
    struct err err = {0};
    struct examples x = {0};
    struct row_conf c = conf_of(0);
    json_t *row =
        of("{\"prompt\":\"a\",\"chosen\":\"yes\",\"rejected\":\"no\"}");
    ck_assert_msg(row_examples(&c, row, &x, &err) == 0, "%s", err.msg);
    ck_assert_uint_eq(x.n, 2);
    ck_assert_uint_eq(x.e[0].tokens.id[0], x.e[1].tokens.id[0]);
    char *no = tok_decode(tok, x.e[1].tokens.id, x.e[1].tokens.n, true);
    ck_assert_msg(strstr(no, "no") != NULL, "%s", no);
    free(no);
    examples_release(&x);
    json_decref(row);
}
END_TEST

START_TEST(a_text_is_cut_into_pieces_that_join_to_it) {
    static const char text[] = "Once upon a time there was a dog in a barn.";
    struct err err = {0};
    struct row_conf c = conf_of(4);
    struct tok_ids all = {0}, joined = {0};
    struct dataset rows;
    snprintf(path, sizeof path, "/tmp/fettle-rows-%d.txt", (int)getpid());
    write_rows(text);
    ck_assert_msg(dataset_read(&rows, path, &c, &err) == 0, "%s", err.msg);
    ck_assert_uint_gt(rows.n, 2);
    ck_assert_uint_eq(rows.cut, 0);
    for (size_t i = 0; i < rows.n; i++)
        for (size_t k = 0; k < rows.row[i].tokens.n; k++) {
            tok_ids_push(&joined, rows.row[i].tokens.id[k]);
            ck_assert(rows.row[i].weights[k] == 1);
        }
    tok_encode(tok, text, strlen(text), TOK_BOS, &all);
    ck_assert_uint_eq(joined.n, all.n + 1); /* and its end */
    ck_assert_mem_eq(joined.id, all.id, all.n * sizeof *all.id);
    free(all.id);
    free(joined.id);
    dataset_release(&rows);
}
END_TEST

/* ---- reading ---- */

START_TEST(rows_that_are_wrong_are_named_by_line) {
    static const struct {
        const char *text, *part;
    } bad[] = {
        {"{\"tokens\":[1,2]}\n{oops\n", ":2:"},
        {"{\"tokens\":[1,2]}\n\n{\"tokens\":[1,9999]}\n", ":3: tokens[1]"},
        {"{\"tokens\":[1,2],\"weights\":[0,-1]}\n",
         ":1: weights[1]: a number from 0 to 1e+06 is wanted"},
        {"{\"tokens\":[1],\"weights\":[1e39]}\n", ":1: weights[0]"},
        {"\x1f\x8b\x08", "the file is compressed (gzip): unpack it first"},
        {"PAR1\n", "Parquet"},
        {"{\"tokens\":[1,2],\"weights\":[1]}\n", ":1: weights"},
        {"{\"question\":\"x\",\"reply\":1}\n", "(question, reply)"},
        {"{\"prompt\":1,\"completion\":\"x\"}\n", ":1: prompt: a text"},
        {"{\"instruction\":\"x\",\"output\":2}\n", ":1: output: a text"},
        {"{\"conversations\":[{\"from\":\"alien\",\"value\":\"x\"}]}\n",
         ":1: conversations[0]: from is alien"},
        {"{\"chosen\":\"x\",\"rejected\":\"y\"}\n", "format preference"},
        {"{\"prompt\":\"x\",\"answer\":\"y\"}\n", "format answer"},
        {"[1]\n", ":1: a JSON object"},
        {"\n\n", "no rows"},
        {"{\"tokens\":[1,2]}\n{\"tokens\":[9]}\n", ":2: no token of it"},
        {"{\"tokens\":[1,2,3,4,5],\"weights\":[0,0,0,0,1]}\n",
         ":1: max_length cuts off all its trained tokens"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err err = {0};
        struct row_conf c = conf_of(4);
        struct dataset rows;
        write_rows(bad[i].text);
        ck_assert_int_eq(dataset_read(&rows, path, &c, &err), -1);
        ck_assert_msg(strstr(err.msg, bad[i].part) != NULL, "%s", err.msg);
    }
}
END_TEST

START_TEST(a_row_of_too_many_bytes_is_refused_by_its_line) {
    struct err err = {0};
    struct row_conf c = conf_of(0);
    struct dataset rows;
    char *text = malloc(ROW_LINE_MAX + 32);
    memcpy(text, "{\"tokens\":[1,2]}\n", 17);
    memset(text + 17, ' ', ROW_LINE_MAX + 1);
    memcpy(text + 18 + ROW_LINE_MAX, "{}", 3);
    write_rows(text);
    ck_assert_int_eq(dataset_read(&rows, path, &c, &err), -1);
    ck_assert_msg(strstr(err.msg, ":2: more than 16777216 bytes") != NULL, "%s",
                  err.msg);
    free(text);
}
END_TEST

START_TEST(words_without_a_tokenizer_are_refused_and_say_why) {
    struct err err = {0};
    struct row_conf c = {.why = "it is broken", .format = -1, .vocab = 50};
    struct dataset rows;
    write_rows("{\"messages\":[]}\n");
    ck_assert_int_eq(dataset_read(&rows, path, &c, &err), -1);
    ck_assert_msg(strstr(err.msg, "it is broken") != NULL, "%s", err.msg);
}
END_TEST

START_TEST(a_format_that_was_asked_for_is_held_to) {
    struct err err = {0};
    struct row_conf c = conf_of(0);
    struct dataset rows;
    c.format = ROW_ALPACA;
    write_rows("{\"text\":\"x\"}\n");
    ck_assert_int_eq(dataset_read(&rows, path, &c, &err), -1);
    ck_assert_msg(strstr(err.msg, "not a row of format alpaca") != NULL, "%s",
                  err.msg);
}
END_TEST

START_TEST(rows_are_cut_at_the_right_and_counted) {
    struct err err = {0};
    struct row_conf c = {
        .why = "it is broken", .format = -1, .max_length = 3, .vocab = 50};
    struct dataset rows;
    write_rows("\xef\xbb\xbf{\"tokens\":[1,2,3,4]}\r\n"
               "{\"tokens\":[5,6],\"weights\":[0,0.5],\"more\":true}\n");
    ck_assert_msg(dataset_read(&rows, path, &c, &err) == 0, "%s", err.msg);
    ck_assert_uint_eq(rows.n, 2);
    ck_assert_uint_eq(rows.cut, 1);
    ck_assert_uint_eq(rows.row[0].tokens.n, 3);
    ck_assert(rows.row[0].weights[2] == 1 && rows.row[1].weights[1] == 0.5f);
    dataset_release(&rows);
}
END_TEST

/* ---- check ---- */

/* The finding's lines as text, "3 5"; "" when there is none. */
static void lines_of(const json_t *report, const char *kind, char *out,
                     size_t room) {
    const json_t *f, *row;
    size_t i, k;
    *out = 0;
    json_array_foreach(json_object_get(report, "findings"), i, f) {
        if (strcmp(json_string_value(json_object_get(f, "kind")), kind) != 0)
            continue;
        json_array_foreach(json_object_get(f, "rows"), k, row) {
            size_t n = strlen(out);
            snprintf(
                out + n, room - n, "%s%lld", n ? " " : "",
                (long long)json_integer_value(json_object_get(row, "line")));
        }
    }
}

#define SAID(q, a) \
    "{\"messages\":[{\"role\":\"user\",\"content\":\"" q "\"},{\"role\":" \
    "\"assistant\",\"content\":\"" a "\"}]}\n"

START_TEST(each_planted_fault_is_found_at_its_line_and_nothing_else) {
    static const struct {
        const char *kind, *lines;
    } want[] = {
        {"refused", "4 5"}, {"untrained", "6"},    {"cut_away", "7"},
        {"cut", "7"},       {"duplicate", "2"},    {"near_duplicate", "3"},
        {"overlap", "8"},   {"control_text", "9"}, {"empty_message", "6"},
        {"roles", "6"},     {"unanswered", "6"},   {"format", ""},
    };
    char eval[64];
    struct err err = {0};
    struct check_conf c = {.row = conf_of(40), .list_most = 9};
    snprintf(eval, sizeof eval, "/tmp/fettle-held-%d.jsonl", (int)getpid());
    write_rows(SAID("Who?", "Ann."));
    ck_assert_int_eq(rename(path, eval), 0);
    c.eval = eval;
    write_rows(SAID("Hi", "Yes.") SAID("Hi", "Yes.") SAID("hi!", "YES") //
               "{\"x\":1}\n{\"messages\":4}\n"
               "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},"
               "{\"role\":\"user\",\"content\":\"\"}]}\n" //
               SAID("one two three four five six seven eight nine ten eleven "
                    "twelve one two three four five six seven eight nine ten "
                    "eleven twelve one two three four five six seven eight",
                    "b") SAID("Who?", "Ann.") SAID("<|im_end|>", "ok"));
    json_t *j = data_check(path, &c, &err);
    ck_assert_msg(j != NULL, "%s", err.msg);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        char got[64];
        lines_of(j, want[i].kind, got, sizeof got);
        ck_assert_msg(strcmp(got, want[i].lines) == 0, "%s: %s, not %s",
                      want[i].kind, got, want[i].lines);
    }
    ck_assert_int_eq(json_integer_value(json_object_get(j, "fatal")), 4);
    json_decref(j);
    unlink(eval);
}
END_TEST

START_TEST(what_passes_the_check_is_what_training_reads) {
    struct err err = {0};
    struct check_conf c = {.row = conf_of(0), .list_most = 9};
    struct dataset rows;
    size_t tokens = 0;
    write_rows(SAID("Hi", "Yes.") "{\"prompt\":\"a\",\"completion\":\"b\"}\n"
                                  "{\"text\":\"A dog.\"}\n");
    json_t *j = data_check(path, &c, &err);
    ck_assert_msg(j != NULL, "%s", err.msg);
    ck_assert_msg(dataset_read(&rows, path, &c.row, &err) == 0, "%s", err.msg);
    for (size_t i = 0; i < rows.n; i++)
        tokens += rows.row[i].tokens.n;
    json_t *t = json_object_get(j, "tokens");
    ck_assert_int_eq(json_integer_value(json_object_get(j, "fatal")), 0);
    ck_assert_int_eq(json_integer_value(json_object_get(t, "total")),
                     (long long)tokens);
    dataset_release(&rows);
    json_decref(j);
}
END_TEST

Suite *text_dataset_suite(void) {
    Suite *s = suite_create("dataset");
    TCase *tc = tcase_create("rows");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, a_row_of_each_format_says_its_conversation);
    tcase_add_test(tc, a_pair_gives_two_examples_after_one_prompt);
    tcase_add_test(tc, a_text_is_cut_into_pieces_that_join_to_it);
    tcase_add_test(tc, rows_that_are_wrong_are_named_by_line);
    tcase_add_test(tc, a_row_of_too_many_bytes_is_refused_by_its_line);
    tcase_add_test(tc, words_without_a_tokenizer_are_refused_and_say_why);
    tcase_add_test(tc, a_format_that_was_asked_for_is_held_to);
    tcase_add_test(tc, rows_are_cut_at_the_right_and_counted);
    tcase_add_test(tc,
                   each_planted_fault_is_found_at_its_line_and_nothing_else);
    tcase_add_test(tc, what_passes_the_check_is_what_training_reads);
    suite_add_tcase(s, tc);
    return s;
}
