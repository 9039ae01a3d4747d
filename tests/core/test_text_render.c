/*
 * Renderers: against tinker-cookbook's tokens and weights (golden.jsonl, see
 * tests/golden/README.md), and what every row of the table keeps.
 */
#include "core/fs.h"
#include "core/json.h"
#include "core/text/render.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Suite *text_render_suite(void);

#define DIR "tests/golden/renderers"

static struct tok *tok;
static char dir[64];          /* of tok */
static json_t *conversations; /* golden.jsonl's first line */

/* The golden tokenizer, and what families beyond the cookbook write. */
static void write_tokenizer(void) {
    static const char *const more[] = {"<bos>",
                                       "<eos>",
                                       "<start_of_turn>",
                                       "<end_of_turn>",
                                       "[INST]",
                                       "[/INST]",
                                       "[SYSTEM_PROMPT]",
                                       "[/SYSTEM_PROMPT]",
                                       "[AVAILABLE_TOOLS]",
                                       "[/AVAILABLE_TOOLS]",
                                       "[TOOL_CALLS]",
                                       "[ARGS]",
                                       "[TOOL_RESULTS]",
                                       "[/TOOL_RESULTS]",
                                       "<|im_sep|>",
                                       "<|turn>",
                                       "<turn|>",
                                       "<|channel>",
                                       "<channel|>",
                                       "<|think|>",
                                       "<|tool>",
                                       "<tool|>",
                                       "<|tool_call>",
                                       "<tool_call|>",
                                       "<|tool_response>",
                                       "<tool_response|>",
                                       "<|\"|>"};
    struct err err = {0};
    json_t *j = json_read_file(DIR "/tokenizer/tokenizer.json", 1 << 24, &err);
    json_t *added = json_object_get(j, "added_tokens");
    ck_assert_msg(j != NULL, "%s", err.msg);
    json_int_t id = json_integer_value(json_object_get(
        json_array_get(added, json_array_size(added) - 1), "id"));
    for (size_t i = 0; i < sizeof more / sizeof *more; i++)
        json_array_append_new(
            added, json_pack("{s:I,s:s,s:b,s:b,s:b,s:b,s:b}", "id", ++id,
                             "content", more[i], "single_word", 0, "lstrip", 0,
                             "rstrip", 0, "normalized", 0, "special", 1));
    char *path = fs_path("%s/tokenizer.json", dir);
    ck_assert_int_eq(json_dump_file(j, path, JSON_COMPACT), 0);
    free(path);
    path = fs_path("%s/tokenizer_config.json", dir);
    ck_assert_int_eq(
        fs_copy_file(DIR "/tokenizer/tokenizer_config.json", path, &err), 0);
    free(path);
    json_decref(j);
}

static void setup(void) {
    struct err err = {0};
    setenv("FETTLE_DATE", "2026-11-23", 1);
    snprintf(dir, sizeof dir, "/tmp/fettle-render-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    write_tokenizer();
    tok = tok_open(dir, &err);
    ck_assert_msg(tok != NULL, "%s", err.msg);
}

static void teardown(void) {
    struct err err = {0};
    fs_remove_tree(dir, &err);
    tok_close(tok);
    json_decref(conversations);
    conversations = NULL;
}

static struct render *open_as(const char *name) {
    struct err err = {0};
    struct render *r = render_open(name, tok, dir, &err);
    ck_assert_msg(r != NULL, "%s", err.msg);
    return r;
}

/* Name of row i of the table of families; NULL ends. */
static const char *row_name(int i) {
    const struct family *f = family_at((size_t)i);
    return f ? f->name : NULL;
}

static json_t *of_text(const char *text) {
    json_error_t e;
    json_t *j = json_loads(text, 0, &e);
    ck_assert_msg(j != NULL, "%s: %s", text, e.text);
    return j;
}

/* ---- golden ---- */

struct golden {
    struct render *r;
    const json_t *messages; /* of all conversations */
};

static void same_ids(const struct tok_ids *got, const uint32_t *want, size_t n,
                     const char *what) {
    for (size_t i = 0; i < got->n && i < n; i++)
        ck_assert_msg(got->id[i] == want[i], "%s: token %zu is %u, golden %u",
                      what, i, got->id[i], want[i]);
    ck_assert_msg(got->n == n, "%s: %zu tokens, golden %zu", what, got->n, n);
}

static uint32_t *ids_of(const json_t *j, size_t from, size_t *n) {
    *n = json_array_size(j) - from;
    uint32_t *ids = calloc(*n + 1, sizeof *ids);
    for (size_t i = 0; i < *n; i++)
        ids[i] = (uint32_t)json_integer_value(json_array_get(j, from + i));
    return ids;
}

/* runs: lengths of runs of weights 0, 1, 0, … */
static void same_weights(const struct example *e, const json_t *runs,
                         const char *what) {
    size_t at = 0;
    for (size_t k = 0; k < json_array_size(runs); k++)
        for (int64_t i = json_integer_value(json_array_get(runs, k)); i > 0;
             i--, at++)
            ck_assert_msg(e->weights[at] == (float)(k % 2),
                          "%s: weight %zu is %g", what, at,
                          (double)e->weights[at]);
    ck_assert_uint_eq(at, e->tokens.n);
}

static void check_mode(const struct golden *g, size_t i, enum train_on on,
                       const json_t *tokens, const json_t *runs) {
    const json_t *messages = json_array_get(g->messages, i);
    struct err err = {0};
    struct example e;
    char what[120];
    snprintf(what, sizeof what, "%s: conversation %zu, %s", render_name(g->r),
             i, train_on_name(on));
    int rc = render_example(g->r, messages, on, RENDER_COMPAT, &e, &err);
    if (json_is_null(runs)) {
        ck_assert_msg(rc < 0 && *err.msg, "%s: the cookbook refuses", what);
        return;
    }
    ck_assert_msg(rc == 0, "%s: %s", what, err.msg);
    size_t n;
    uint32_t *want = ids_of(tokens, 0, &n);
    same_ids(&e.tokens, want, n, what);
    same_weights(&e, runs, what);
    free(want);
    example_release(&e);
}

/* prompt: how many tokens of the example it begins with, then the others. */
static void check_prompt(const struct golden *g, size_t i, const json_t *tokens,
                         const json_t *prompt) {
    const json_t *messages = json_array_get(g->messages, i);
    size_t n = json_array_size(messages), m, shared;
    struct tok_ids ids = {0};
    struct err err = {0};
    const char *last = json_string_value(
        json_object_get(json_array_get(messages, n - 1), "role"));
    json_t *head = json_array();
    if (json_is_null(prompt)) {
        json_decref(head);
        return;
    }
    for (size_t k = 0; k < n - (strcmp(last, "assistant") == 0); k++)
        json_array_append(head, json_array_get(messages, k));
    ck_assert_msg(render_prompt(g->r, head, RENDER_COMPAT, &ids, &err) == 0,
                  "%s", err.msg);
    shared = (size_t)json_integer_value(json_array_get(prompt, 0));
    uint32_t *want = ids_of(tokens, 0, &n);
    uint32_t *rest = ids_of(prompt, 1, &m);
    want = realloc(want, (shared + m + 1) * sizeof *want);
    memcpy(want + shared, rest, m * sizeof *rest);
    same_ids(&ids, want, shared + m, "generation prompt");
    free(want);
    free(rest);
    free(ids.id);
    json_decref(head);
}

static void check_stops(const struct render *r, const json_t *want) {
    const uint32_t *ids;
    const char *const *strings;
    int n_strings, n = render_stops(r, &ids, &strings, &n_strings);
    ck_assert_uint_eq(json_array_size(want), (size_t)(n + n_strings));
    for (int i = 0; i < n; i++)
        ck_assert_int_eq(ids[i],
                         json_integer_value(json_array_get(want, (size_t)i)));
    for (int i = 0; i < n_strings; i++)
        ck_assert_str_eq(strings[i],
                         json_string_value(json_array_get(want, (size_t)i)));
}

static void check_renderer(const json_t *j, const json_t *messages) {
    struct golden g = {
        open_as(json_string_value(json_object_get(j, "renderer"))), messages};
    const json_t *rows = json_object_get(j, "rows");
    ck_assert_uint_eq(json_array_size(rows), json_array_size(messages));
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        const json_t *modes = json_array_get(row, 2);
        for (size_t on = 0; on < TRAIN_ON_N; on++)
            check_mode(&g, i, (enum train_on)on, json_array_get(row, 0),
                       json_array_get(modes, on));
        check_prompt(&g, i, json_array_get(row, 0), json_array_get(row, 1));
    }
    check_stops(g.r, json_object_get(j, "stop"));
    render_close(g.r);
}

/* Calls fn for each line behind the first; how many there were. */
static int each_renderer(void (*fn)(const json_t *, const json_t *)) {
    FILE *f = fopen(DIR "/golden.jsonl", "re");
    char *line = NULL;
    size_t room = 0;
    int n = 0;
    ck_assert_ptr_nonnull(f);
    for (; getline(&line, &room, f) > 0; n++) {
        json_t *j = of_text(line);
        if (n == 0)
            conversations = json_incref(json_object_get(j, "messages"));
        else
            fn(j, conversations);
        json_decref(j);
    }
    free(line);
    fclose(f);
    return n - 1;
}

START_TEST(renderers_give_the_cookbooks_tokens_weights_prompts_and_stops) {
    ck_assert_int_eq(each_renderer(check_renderer), 33);
}
END_TEST

/* Text alone: no control tokens, calls or lists. */
static bool is_plain(const json_t *messages) {
    size_t i;
    json_t *m;
    json_array_foreach((json_t *)messages, i, m) {
        const char *text = json_string_value(json_object_get(m, "content"));
        if (!text || strchr(text, '<') || json_object_get(m, "tool_calls"))
            return false;
    }
    return true;
}

static void check_plain(const json_t *j, const json_t *messages) {
    struct render *r =
        open_as(json_string_value(json_object_get(j, "renderer")));
    for (size_t i = 0; i < json_array_size(messages); i++) {
        const json_t *m = json_array_get(messages, i);
        struct example a, b;
        struct err err = {0};
        if (!is_plain(m) || render_example(r, m, TRAIN_ALL_MESSAGES,
                                           RENDER_COMPAT, &b, &err) < 0)
            continue;
        ck_assert_int_eq(render_example(r, m, TRAIN_ALL_MESSAGES, 0, &a, &err),
                         0);
        same_ids(&a.tokens, b.tokens.id, b.tokens.n, render_name(r));
        ck_assert_int_eq(
            memcmp(a.weights, b.weights, a.tokens.n * sizeof *a.weights), 0);
        example_release(&a);
        example_release(&b);
    }
    render_close(r);
}

START_TEST(text_without_control_tokens_is_the_same_without_compat) {
    each_renderer(check_plain);
}
END_TEST

/* ---- every row of the table ---- */

/* Control tokens among ids. */
static size_t count_controls(const struct render *r,
                             const struct tok_ids *ids) {
    size_t n = 0;
    for (size_t i = 0; i < ids->n; i++)
        for (size_t k = 0; k < r->n_control; k++)
            n += r->control[k].id == ids->id[i];
    return n;
}

static size_t controls_with(const struct render *r, const char *evil) {
    struct err err = {0};
    struct example e;
    bool calls = r->family->calls_style, tools = r->family->tools;
    json_t *m =
        json_pack("{s:[{s:s,s:s},{s:s,s:s},{s:s,s:s}]}", "messages", "role",
                  "system", "content", evil, "role", "user", "content", evil,
                  "role", "assistant", "content", evil);
    json_t *list = json_object_get(m, "messages");
    if (calls) {
        json_object_set_new(json_array_get(list, 2), "tool_calls",
                            json_pack("[{s:s,s:s,s:{s:s,s:{s:s}}}]", "id", evil,
                                      "type", "function", "function", "name",
                                      evil, "arguments", "k", evil));
        json_array_append_new(list, json_pack("{s:s,s:s,s:s,s:s}", "role",
                                              "tool", "content", evil, "name",
                                              evil, "tool_call_id", evil));
    }
    if (!r->family->head[ROLE_SYSTEM] && !(r->family->flags & FAM_FOLDS))
        json_array_remove(list, 0);
    if (tools)
        json_object_set_new(m, "tools",
                            json_pack("[{s:s,s:s,s:{s:s,s:{s:{s:s,s:s}}}}]",
                                      "name", evil, "description", evil,
                                      "parameters", "type", "object",
                                      "properties", "k", "type", "string",
                                      "description", evil));
    ck_assert_msg(render_example(r, m, TRAIN_ALL_TOKENS, 0, &e, &err) == 0,
                  "%s: %s", render_name(r), err.msg);
    size_t n = count_controls(r, &e.tokens);
    example_release(&e);
    json_decref(m);
    return n;
}

START_TEST(no_renderer_makes_control_tokens_of_message_text) {
    for (int i = 0; row_name(i); i++) {
        struct render *r = open_as(row_name(i));
        size_t none = controls_with(r, "x y");
        for (size_t k = 0; k < r->n_control; k++) {
            char *evil = fs_path("x %s y", r->control[k].text);
            ck_assert_msg(controls_with(r, evil) == none, "%s: %s",
                          render_name(r), evil);
            free(evil);
        }
        render_close(r);
    }
}
END_TEST

static const char talk[] =
    "[{\"role\":\"user\",\"content\":\"Where?\"},"
    "{\"role\":\"assistant\",\"content\":\"In Köln.\\n\\nYes\"}]";

/* The tokens of the last answer, as a sampler would give them. */
static struct tok_ids answer_of(const struct render *r, const char *text) {
    struct err err = {0};
    struct example e;
    struct tok_ids prompt = {0}, ids = {0};
    json_t *m = of_text(text), *head = json_deep_copy(m);
    json_array_remove(head, json_array_size(head) - 1);
    ck_assert_msg(render_example(r, m, TRAIN_LAST_ASSISTANT, 0, &e, &err) == 0,
                  "%s: %s", render_name(r), err.msg);
    ck_assert_int_eq(render_prompt(r, head, 0, &prompt, &err), 0);
    size_t at = 0;
    while (at < prompt.n && prompt.id[at] == e.tokens.id[at])
        at++;
    if (at < prompt.n) /* its prompt is not what the answer stands behind */
        while (at > 0 && e.weights[at - 1] > 0)
            at--;
    for (size_t i = at; i < e.tokens.n; i++)
        tok_ids_push(&ids, e.tokens.id[i]);
    free(prompt.id);
    example_release(&e);
    json_decref(m);
    json_decref(head);
    return ids;
}

START_TEST(an_answer_is_parsed_back_by_every_renderer) {
    for (int i = 0; row_name(i); i++) {
        struct err err = {0};
        enum reply_end end;
        struct render *r = open_as(row_name(i));
        struct tok_ids ids = answer_of(r, talk);
        json_t *m = render_parse(r, ids.id, ids.n, &end, &err);
        ck_assert_msg(m != NULL, "%s: %s", render_name(r), err.msg);
        json_t *plain = message_openai(m);
        ck_assert_str_eq(json_string_value(json_object_get(plain, "content")),
                         "In Köln.\n\nYes");
        ck_assert_str_eq(reply_end_name(end), "stop_sequence");
        json_decref(m);
        json_decref(plain);
        free(ids.id);
        render_close(r);
    }
}
END_TEST

static const char call_talk[] =
    "[{\"role\":\"user\",\"content\":\"Where?\"},"
    "{\"role\":\"assistant\",\"content\":[{\"type\":\"thinking\","
    "\"thinking\":\"look\"},{\"type\":\"text\",\"text\":\"I look.\"}],"
    "\"tool_calls\":[{\"type\":\"function\",\"id\":\"functions.find:0\","
    "\"function\":{\"name\":\"find\",\"arguments\":\"{\\\"q\\\": "
    "\\\"K\\\", \\\"n\\\": 2}\"}}]}]";

START_TEST(reasoning_and_calls_are_parsed_back) {
    int n = 0;
    for (int i = 0; row_name(i); i++) {
        struct err err = {0};
        enum reply_end end;
        struct render *r = open_as(row_name(i));
        if (!(r->family->flags & FAM_THINKS) ||
            (r->family->flags & FAM_CLOSED)) {
            render_close(r);
            continue;
        }
        struct tok_ids ids = answer_of(r, call_talk);
        json_t *m = render_parse(r, ids.id, ids.n, &end, &err);
        json_t *plain = message_openai(m);
        json_t *f = json_object_get(
            json_array_get(json_object_get(plain, "tool_calls"), 0),
            "function");
        const char *why =
            json_string_value(json_object_get(plain, "reasoning_content"));
        ck_assert_msg(why && strcmp(why, "look") == 0, "%s: %s", render_name(r),
                      why ? why : "no reasoning");
        ck_assert_str_eq(json_string_value(json_object_get(f, "name")), "find");
        json_t *args =
            of_text(json_string_value(json_object_get(f, "arguments")));
        json_t *want = of_text("{\"q\": \"K\", \"n\": 2}");
        ck_assert_msg(json_equal(args, want), "%s", render_name(r));
        json_decref(args);
        json_decref(want);
        ck_assert_ptr_nonnull(strstr(
            json_string_value(json_object_get(plain, "content")), "I look."));
        json_decref(m);
        json_decref(plain);
        free(ids.id);
        render_close(r);
        n++;
    }
    ck_assert_int_ge(n, 25);
}
END_TEST

START_TEST(an_answer_without_its_stop_is_malformed_and_with_two_refused) {
    struct err err = {0};
    enum reply_end end;
    struct render *r = open_as("qwen3");
    struct tok_ids ids = answer_of(r, talk);
    json_t *m = render_parse(r, ids.id, ids.n - 1, &end, &err);
    ck_assert_str_eq(reply_end_name(end), "malformed");
    ck_assert(json_is_string(json_object_get(m, "content")));
    json_decref(m);
    tok_ids_push(&ids, ids.id[ids.n - 1]);
    ck_assert_ptr_null(render_parse(r, ids.id, ids.n, &end, &err));
    ck_assert_ptr_nonnull(strstr(err.msg, "2 stop tokens"));
    free(ids.id);
    render_close(r);
}
END_TEST

START_TEST(a_call_that_cannot_be_read_is_told_and_the_text_stays) {
    static const char text[] = "I look.\n<tool_call>\n{\"name\": find}\n"
                               "</tool_call><|im_end|>";
    struct err err = {0};
    enum reply_end end;
    struct render *r = open_as("qwen3");
    struct tok_ids ids = {0};
    tok_encode(tok, text, strlen(text), TOK_CONTROL, &ids);
    json_t *m = render_parse(r, ids.id, ids.n, &end, &err);
    ck_assert_uint_eq(
        json_array_size(json_object_get(m, "unparsed_tool_calls")), 1);
    ck_assert_ptr_null(json_object_get(m, "tool_calls"));
    ck_assert_str_eq(reply_end_name(end), "stop_sequence");
    json_decref(m);
    free(ids.id);
    render_close(r);
}
END_TEST

/* ---- weights and origins ---- */

static float trained(const struct example *e) {
    float n = 0;
    for (size_t i = 0; i < e->tokens.n; i++)
        n += e->weights[i];
    return n;
}

START_TEST(weight_0_takes_an_answer_out_and_never_puts_one_in) {
    static const char two[] =
        "[{\"role\":\"user\",\"content\":\"a\",\"weight\":1},"
        "{\"role\":\"assistant\",\"content\":\"b\",\"weight\":0},"
        "{\"role\":\"user\",\"content\":\"c\"},"
        "{\"role\":\"assistant\",\"content\":\"d\"}]";
    struct err err = {0};
    struct example all, last;
    struct render *r = open_as("llama3");
    json_t *m = of_text(two);
    ck_assert_int_eq(render_example(r, m, TRAIN_ALL_ASSISTANT, 0, &all, &err),
                     0);
    ck_assert_int_eq(render_example(r, m, TRAIN_LAST_ASSISTANT, 0, &last, &err),
                     0);
    ck_assert(trained(&all) > 0 && trained(&all) == trained(&last));
    example_release(&all);
    example_release(&last);
    json_decref(m);
    render_close(r);
}
END_TEST

START_TEST(origins_tell_message_text_from_the_formats) {
    struct err err = {0};
    struct example e;
    struct render *r = open_as("llama3");
    json_t *m = of_text("[{\"role\":\"user\",\"content\":\"zq zq\"}]");
    ck_assert_int_eq(
        render_example(r, m, TRAIN_ALL_TOKENS, RENDER_ORIGIN, &e, &err), 0);
    for (size_t i = 0; i < e.tokens.n; i++) {
        char *text = tok_decode(tok, &e.tokens.id[i], 1, false);
        bool content = strchr(text, 'z') || strchr(text, 'q');
        if (content || tok_is_special(tok, e.tokens.id[i]))
            ck_assert_msg((e.origin[i] == ORIGIN_CONTENT) == content, "%s",
                          text);
        free(text);
    }
    ck_assert_int_eq(e.origin[0], ORIGIN_TEMPLATE);
    ck_assert_int_eq(e.origin[1], ORIGIN_HEADER);
    example_release(&e);
    json_decref(m);
    render_close(r);
}
END_TEST

START_TEST(a_renderer_that_drops_reasoning_gives_one_example_a_turn) {
    static const char two[] =
        "[{\"role\":\"user\",\"content\":\"a\"},"
        "{\"role\":\"assistant\",\"reasoning_content\":\"t\",\"content\":\"b\"}"
        ",{\"role\":\"user\",\"content\":\"c\"},"
        "{\"role\":\"assistant\",\"reasoning_content\":\"u\",\"content\":\"d\"}"
        "]";
    struct err err = {0};
    struct example *list;
    size_t n;
    json_t *m = of_text(two);
    struct render *r = open_as("qwen3"), *whole = open_as("llama3");
    ck_assert_int_eq(
        render_examples(r, m, TRAIN_ALL_ASSISTANT, 0, &list, &n, &err), 0);
    ck_assert_uint_eq(n, 2);
    for (size_t i = 0; i < n; i++) {
        char *text =
            tok_decode(tok, list[i].tokens.id, list[i].tokens.n, false);
        ck_assert_ptr_nonnull(strstr(text, i ? "<think>\nu" : "<think>\nt"));
        ck_assert_ptr_null(strstr(text, i ? "<think>\nt" : "<think>\nu"));
        free(text);
        example_release(&list[i]);
    }
    free(list);
    json_decref(m);
    m = of_text(talk);
    ck_assert_int_eq(
        render_examples(whole, m, TRAIN_ALL_ASSISTANT, 0, &list, &n, &err), 0);
    ck_assert_uint_eq(n, 1);
    example_release(list);
    free(list);
    json_decref(m);
    render_close(r);
    render_close(whole);
}
END_TEST

START_TEST(turns_with_tools_are_split_where_their_prompts_differ) {
    static const char text[] =
        "[{\"role\":\"user\",\"content\":\"a\"},"
        "{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"id\":"
        "\"c\",\"type\":\"function\",\"function\":{\"name\":\"f\","
        "\"arguments\":\"{}\"}}]},"
        "{\"role\":\"tool\",\"content\":\"r\",\"tool_call_id\":\"c\"},"
        "{\"role\":\"assistant\",\"content\":\"d\"}]";
    struct err err = {0};
    json_t *m = of_text(text);
    for (int i = 0; row_name(i); i++) {
        struct example *list;
        size_t n;
        struct render *r = open_as(row_name(i));
        if (!r->family->calls_style) {
            render_close(r);
            continue;
        }
        ck_assert_msg(
            render_examples(r, m, TRAIN_ALL_ASSISTANT, 0, &list, &n, &err) == 0,
            "%s: %s", render_name(r), err.msg);
        ck_assert(n == 1 || n == 2);
        for (size_t k = 0; k < n; k++) {
            ck_assert(trained(&list[k]) > 0);
            example_release(&list[k]);
        }
        free(list);
        render_close(r);
    }
    json_decref(m);
}
END_TEST

START_TEST(an_answer_that_begins_with_its_reasoning_is_split_as_templates_do) {
    static const char said[] =
        "[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\","
        "\"content\":\"<think>\\nt\\n</think>\\n\\nb\"}]";
    static const char parts[] =
        "[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\","
        "\"reasoning_content\":\"t\",\"content\":\"b\"}]";
    json_t *m = of_text(said), *n = of_text(parts);
    for (int i = 0; row_name(i); i++) {
        struct err err = {0};
        struct example a, b;
        struct render *r = open_as(row_name(i));
        if ((r->family->flags & (FAM_PARTS | FAM_AS_SAID)) == FAM_PARTS &&
            render_example(r, n, TRAIN_LAST_ASSISTANT, 0, &b, &err) == 0) {
            ck_assert_int_eq(
                render_example(r, m, TRAIN_LAST_ASSISTANT, 0, &a, &err), 0);
            same_ids(&a.tokens, b.tokens.id, b.tokens.n, render_name(r));
            example_release(&a);
            example_release(&b);
        }
        render_close(r);
    }
    json_decref(m);
    json_decref(n);
}
END_TEST

/* ---- families beyond the cookbook ---- */

START_TEST(families_beyond_the_cookbook_write_what_their_templates_do) {
    static const char chat[] =
        "[{\"role\":\"user\",\"content\":\" a \"},{\"role\":\"assistant\","
        "\"content\":\"b\"},{\"role\":\"user\",\"content\":\"c\"}]";
    static const struct {
        const char *renderer, *text;
    } row[] = {
        {"chatml", "<|im_start|>user\n a <|im_end|>\n<|im_start|>assistant\nb"
                   "<|im_end|>\n<|im_start|>user\nc<|im_end|>\n"
                   "<|im_start|>assistant\n"},
        {"gemma", "<bos><start_of_turn>user\na<end_of_turn>\n"
                  "<start_of_turn>model\nb<end_of_turn>\n"
                  "<start_of_turn>user\nc<end_of_turn>\n"
                  "<start_of_turn>model\n"},
        {"mistral", "<s>[INST] a [/INST]b</s>[INST]c[/INST]"},
        {"phi3", "<|user|>\n a <|end|>\n<|assistant|>\nb<|end|>\n<|user|>\nc"
                 "<|end|>\n<|assistant|>\n"},
        {"phi4", "<|im_start|>user<|im_sep|> a <|im_end|>"
                 "<|im_start|>assistant<|im_sep|>b<|im_end|>"
                 "<|im_start|>user<|im_sep|>c<|im_end|>"
                 "<|im_start|>assistant<|im_sep|>"},
        {"phi4_mini", "<|user|> a <|end|><|assistant|>b<|end|><|user|>c<|end|>"
                      "<|assistant|>"},
        {"glm4", "[gMASK]<sop><|user|>\n a <|assistant|>\nb<|user|>\nc"
                 "<|assistant|>\n"},
        {"glm5", "[gMASK]<sop><|user|> a <|assistant|></think>b<|user|>c"
                 "<|assistant|><think>"},
        {"glm5_2",
         "[gMASK]<sop><|system|>Reasoning Effort: Max<|user|> a "
         "<|assistant|><think></think>b<|user|>c<|assistant|><think>"},
    };
    json_t *m = of_text(chat);
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        struct err err = {0};
        struct tok_ids ids = {0};
        struct render *r = open_as(row[i].renderer);
        ck_assert_int_eq(render_prompt(r, m, 0, &ids, &err), 0);
        char *text = tok_decode(tok, ids.id, ids.n, false);
        ck_assert_str_eq(text, row[i].text);
        free(text);
        free(ids.id);
        render_close(r);
    }
    json_decref(m);
}
END_TEST

START_TEST(gemma3_puts_the_systems_text_into_the_first_turn) {
    struct err err = {0};
    struct tok_ids ids = {0};
    struct render *r = open_as("gemma3");
    json_t *m = of_text("[{\"role\":\"system\",\"content\":\" Be brief. \"},"
                        "{\"role\":\"user\",\"content\":\" a \"}]");
    ck_assert_int_eq(render_prompt(r, m, 0, &ids, &err), 0);
    char *text = tok_decode(tok, ids.id, ids.n, false);
    ck_assert_str_eq(text, "<bos><start_of_turn>user\n Be brief. \n\na"
                           "<end_of_turn>\n<start_of_turn>model\n");
    free(text);
    free(ids.id);
    json_decref(m);
    render_close(r);
}
END_TEST

/* Else a model learns to go on. */
START_TEST(an_answer_without_text_ends_too) {
    struct err err = {0};
    struct example e;
    struct render *r = open_as("deepseekv3");
    json_t *m = of_text("[{\"role\":\"user\",\"content\":\"a\"},"
                        "{\"role\":\"assistant\",\"content\":\"\"}]");
    ck_assert_int_eq(render_example(r, m, TRAIN_ALL_ASSISTANT, 0, &e, &err), 0);
    size_t last = e.tokens.n - 1;
    ck_assert_int_eq(e.tokens.id[last], tok_find(tok, "<｜end▁of▁sentence｜>"));
    ck_assert(e.weights[last] == 1);
    example_release(&e);
    json_decref(m);
    render_close(r);
}
END_TEST

/* ---- refusals ---- */

START_TEST(what_a_renderer_cannot_write_is_refused_by_name) {
    static const struct {
        const char *renderer, *chat, *part;
    } bad[] = {
        {"qwen3", "[]", "at least one"},
        {"qwen3", "[{\"role\":\"user\"}]", "messages[0]: content is missing"},
        {"qwen3", "[{\"content\":\"x\"}]", "role is missing"},
        {"qwen3", "[{\"role\":\"user\",\"content\":7}]", "a string or a list"},
        {"qwen3",
         "[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]",
         "images"},
        {"qwen3", "[{\"role\":\"user\",\"content\":[{\"type\":\"x\"}]}]",
         "type x is unknown"},
        {"llama3",
         "[{\"role\":\"assistant\",\"content\":\"\",\"reasoning_content\":"
         "\"x\"}]",
         "no words for reasoning"},
        {"llama3",
         "[{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{"
         "\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]}]",
         "no words for tool_calls"},
        {"llama3",
         "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"tools\":[{"
         "\"name\":\"f\"}]}",
         "tools: llama3"},
        {"qwen3",
         "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"tools\":[{}]"
         "}",
         "tools[0]"},
        {"qwen3",
         "[{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{"
         "\"function\":{\"name\":\"f\",\"arguments\":\"{\"}}]}]",
         "not JSON"},
        {"glm5_3_max_reasoning", "[{\"role\":\"developer\",\"content\":\"x\"}]",
         "no role developer"},
        {"kimi_k25",
         "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"tools\":[{"
         "\"name\":\"f\",\"parameters\":{\"type\":\"object\",\"properties\":{"
         "\"a\":{\"$ref\":\"#/$defs/no\"}}}}]}",
         "$ref"},
        {"qwen3", "[{\"role\":\"user\",\"content\":\"x\",\"trainable\":true}]",
         "only for train_on_what=customized"},
        {"qwen3", "[{\"role\":\"user\",\"content\":\"x\",\"weight\":-1}]",
         "messages[0]: weight: 0 or 1"},
        {"qwen3", "[{\"role\":\"user\",\"content\":\"x\",\"weight\":\"nan\"}]",
         "weight: 0 or 1"},
        {"qwen3",
         "[{\"role\":\"user\",\"content\":\"x\",\"tool_calls\":\"f\"}]",
         "tool_calls: a list"},
        {"qwen3",
         "[{\"role\":\"user\",\"content\":\"x\",\"reasoning_content\":[]}]",
         "reasoning_content: a text"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err err = {0};
        struct example e;
        struct render *r = open_as(bad[i].renderer);
        json_t *m = of_text(bad[i].chat);
        ck_assert_int_eq(render_example(r, m, TRAIN_ALL_ASSISTANT, 0, &e, &err),
                         -1);
        ck_assert_msg(strstr(err.msg, bad[i].part) != NULL, "%s", err.msg);
        json_decref(m);
        render_close(r);
    }
}
END_TEST

START_TEST(an_unknown_renderer_is_refused_with_near_names) {
    struct err err = {0};
    ck_assert_ptr_null(render_open("qwen4", tok, dir, &err));
    ck_assert_ptr_nonnull(strstr(err.msg, "qwen3_instruct"));
}
END_TEST

START_TEST(the_date_is_pinned_by_the_environment) {
    struct err err = {0};
    struct tok_ids ids = {0};
    json_t *m = of_text("[{\"role\":\"user\",\"content\":\"x\"}]");
    setenv("FETTLE_DATE", "1999-12-31", 1);
    struct render *r = open_as("gpt_oss_low_reasoning");
    ck_assert_int_eq(render_prompt(r, m, 0, &ids, &err), 0);
    char *text = tok_decode(tok, ids.id, ids.n, false);
    ck_assert_ptr_nonnull(strstr(text, "Current date: 1999-12-31\n"));
    setenv("FETTLE_DATE", "yesterday", 1);
    ck_assert_ptr_null(render_open("gpt_oss_low_reasoning", tok, dir, &err));
    free(text);
    free(ids.id);
    json_decref(m);
    render_close(r);
}
END_TEST

/* ---- Python's words ---- */

START_TEST(numbers_are_written_as_python_writes_them) {
    static const struct {
        const char *in, *out;
    } row[] = {
        {"1.0", "1.0"},
        {"0.1", "0.1"},
        {"1e16", "1e+16"},
        {"1e15", "1000000000000000.0"},
        {"123456.75", "123456.75"},
        {"0.0001", "0.0001"},
        {"0.00001", "1e-05"},
        {"-0.0", "-0.0"},
        {"1.5e-7", "1.5e-07"},
        {"1e300", "1e+300"},
        {"5e-324", "5e-324"},
        {"0.30000000000000004", "0.30000000000000004"},
        {"-12", "-12"},
        {"\"\\u00fc\\u0001\\uD83D\\uDC4B/\"",
         "\"\\u00fc\\u0001\\ud83d\\udc4b/\""},
        {"{\"b\":[1,null,true],\"a\":{}}",
         "{\"b\": [1, null, true], \"a\": {}}"},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        json_t *j = json_loads(row[i].in, JSON_DECODE_ANY, NULL);
        struct buf b;
        buf_init(&b, 1000);
        py_dumps(&b, j, PY_ASCII);
        ck_assert_str_eq(buf_str(&b), row[i].out);
        buf_release(&b);
        json_decref(j);
    }
}
END_TEST

Suite *text_render_suite(void) {
    Suite *s = suite_create("render");
    TCase *tc = tcase_create("render");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_test(
        tc, renderers_give_the_cookbooks_tokens_weights_prompts_and_stops);
    tcase_add_test(tc, text_without_control_tokens_is_the_same_without_compat);
    tcase_add_test(tc, no_renderer_makes_control_tokens_of_message_text);
    tcase_add_test(tc, an_answer_is_parsed_back_by_every_renderer);
    tcase_add_test(tc, reasoning_and_calls_are_parsed_back);
    tcase_add_test(
        tc, an_answer_without_its_stop_is_malformed_and_with_two_refused);
    tcase_add_test(tc, a_call_that_cannot_be_read_is_told_and_the_text_stays);
    tcase_add_test(tc, weight_0_takes_an_answer_out_and_never_puts_one_in);
    tcase_add_test(tc, origins_tell_message_text_from_the_formats);
    tcase_add_test(tc,
                   a_renderer_that_drops_reasoning_gives_one_example_a_turn);
    tcase_add_test(tc, turns_with_tools_are_split_where_their_prompts_differ);
    tcase_add_test(tc,
                   families_beyond_the_cookbook_write_what_their_templates_do);
    tcase_add_test(tc, an_answer_without_text_ends_too);
    tcase_add_test(tc, gemma3_puts_the_systems_text_into_the_first_turn);
    tcase_add_test(
        tc, an_answer_that_begins_with_its_reasoning_is_split_as_templates_do);
    tcase_add_test(tc, what_a_renderer_cannot_write_is_refused_by_name);
    tcase_add_test(tc, an_unknown_renderer_is_refused_with_near_names);
    tcase_add_test(tc, the_date_is_pinned_by_the_environment);
    tcase_add_test(tc, numbers_are_written_as_python_writes_them);
    suite_add_tcase(s, tc);
    return s;
}
