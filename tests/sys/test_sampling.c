/* Sampling over the socket, as OpenAI's clients ask for it. */
#include "tests/sys/sys.h"

#include <math.h>
#include <sys/socket.h>
#include <sys/un.h>

Suite *sampling_suite(void);

/* ---- HTTP over the socket ---- */

static int http_send(const char *path, const char *body) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(a.sun_path, sizeof a.sun_path, "%s/run/d.sock", sys_home);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    struct buf b;
    buf_init(&b, 1 << 20);
    buf_printf(&b,
               "POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
               "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
               path, strlen(body));
    buf_puts(&b, body);
    ck_assert_int_eq(write(fd, b.data, b.len), (ssize_t)b.len);
    buf_release(&b);
    return fd;
}

/* The body of the answer, free() it. */
static char *http_text(int fd, int *status) {
    struct buf b;
    buf_init(&b, 16 << 20);
    char piece[4096];
    for (ssize_t n; (n = read(fd, piece, sizeof piece)) > 0;)
        buf_bytes(&b, piece, (size_t)n);
    close(fd);
    const char *body = strstr(buf_str(&b), "\r\n\r\n");
    ck_assert_msg(body && sscanf(buf_str(&b), "HTTP/1.1 %d", status) == 1,
                  "no answer: %s", buf_str(&b));
    char *text = strdup(body + 4);
    buf_release(&b);
    return text;
}

static json_t *http_json(int fd, int want) {
    int status;
    char *text = http_text(fd, &status);
    json_t *j = json_loads(text, 0, NULL);
    ck_assert_msg(j && status == want, "status %d: %s", status, text);
    free(text);
    return j;
}

static json_t *ask(const char *path, const char *body) {
    return http_json(http_send(path, body), 200);
}

static const json_t *choice(const json_t *j, size_t i) {
    return json_array_get(json_object_get(j, "choices"), i);
}

static void start_daemon(void) {
    sys_add_starter();
    FETTLE_OK(NULL, "sample starter --prompt Hi --max-tokens 1");
}

/* ---- tests ---- */

#define BODY \
    "{\"model\":\"starter\",\"prompt\":\"Once %d\",\"max_tokens\":%d," \
    "\"seed\":%d,\"logprobs\":2,\"n\":%d,\"temperature\":%s}"

static void body_of(char *body, size_t size, int i) {
    snprintf(body, size, BODY, i, 20 + 7 * (i % 5), i, 1 + i % 3,
             i % 4 ? "1" : "0");
}

START_TEST(concurrent_requests_have_their_own_bits_while_training_goes_on) {
    enum { N = 12 };
    char body[512];
    json_t *alone[N];
    int fd[N];
    start_daemon();
    for (int i = 0; i < N; i++) {
        body_of(body, sizeof body, i);
        alone[i] = ask("/v1/completions", body);
    }
    char *data = sys_rows(64);
    FETTLE_OK(NULL,
              "run sft model=starter data=%s batch_size=4 num_epochs=200 "
              "save_every=0 sample_every=0",
              data);
    sys_wait_state(1, "running");
    for (int i = 0; i < N; i++) {
        body_of(body, sizeof body, i);
        fd[i] = http_send("/v1/completions", body);
    }
    for (int i = 0; i < N; i++) {
        json_t *j = http_json(fd[i], 200);
        ck_assert_msg(json_equal(json_object_get(j, "choices"),
                                 json_object_get(alone[i], "choices")),
                      "request %d has another answer beside others", i);
        ck_assert_uint_eq(json_array_size(json_object_get(j, "choices")),
                          (size_t)(1 + i % 3));
        json_decref(j);
        json_decref(alone[i]);
    }
    json_t *run = sys_run(1);
    ck_assert_str_eq(str_at(run, "state"), "running");
    json_decref(run);
    FETTLE_OK(NULL, "kill 1");
    free(data);
}
END_TEST

/* There is room for sixteen workers. */
START_TEST(more_models_than_workers_take_turns) {
    for (int i = 0; i < 18; i++) {
        FETTLE_OK(NULL, "model add m%d " STARTER, i);
        FETTLE_OK(NULL, "sample m%d --prompt Hi --max-tokens 1", i);
    }
    FETTLE_OK(NULL, "sample m0 --prompt Hi --max-tokens 1");
}
END_TEST

START_TEST(completions_tell_logprobs_of_prompt_and_answer) {
    start_daemon();
    json_t *j = ask("/v1/completions",
                    "{\"model\":\"starter\",\"prompt\":\"Once upon a\","
                    "\"max_tokens\":4,\"temperature\":0,\"logprobs\":3,"
                    "\"echo\":true}");
    const json_t *c = choice(j, 0), *lp = json_object_get(c, "logprobs");
    const json_t *tokens = json_object_get(lp, "tokens");
    const json_t *lps = json_object_get(lp, "token_logprobs");
    const json_t *top = json_object_get(lp, "top_logprobs");
    const json_t *offset = json_object_get(lp, "text_offset");
    size_t n = json_array_size(tokens);
    const char *text = str_at(c, "text");
    ck_assert_uint_gt(n, 4);
    ck_assert_int_eq(strncmp(text, "Once upon a", 11), 0);
    ck_assert_uint_eq(json_array_size(lps), n);
    ck_assert(json_is_null(json_array_get(lps, 0)));
    for (size_t i = 0; i < n; i++) {
        const char *t = json_string_value(json_array_get(tokens, i));
        size_t at = (size_t)json_integer_value(json_array_get(offset, i));
        ck_assert_int_eq(strncmp(text + at, t, strlen(t)), 0);
        const json_t *k = json_array_get(top, i);
        double v = json_number_value(json_array_get(lps, i));
        ck_assert(i == 0 ? json_is_null(k) : json_object_size(k) >= 2);
        ck_assert(i == 0 || json_number_value(json_object_get(k, t)) == v);
    }
    json_decref(j);
    j = ask("/v1/completions",
            "{\"model\":\"starter\",\"prompt\":[[5,9,100]],\"max_tokens\":0,"
            "\"logprobs\":0,\"echo\":true}");
    lp = json_object_get(choice(j, 0), "logprobs");
    ck_assert_uint_eq(json_array_size(json_object_get(lp, "tokens")), 3);
    ck_assert(num_at(json_object_get(j, "usage"), "completion_tokens") == 0);
    struct out o = fettle("{\"tokens\":[5,9,100]}\n", "logprobs starter");
    json_t *want = json_loads(o.out, 0, NULL);
    ck_assert(json_equal(json_object_get(want, "logprobs"),
                         json_object_get(lp, "token_logprobs")));
    json_decref(want);
    out_free(&o);
    json_decref(j);
}
END_TEST

START_TEST(chat_tells_logprobs_whole_and_streamed) {
    start_daemon();
    static const char body[] =
        "{\"model\":\"starter\",\"messages\":[{\"role\":\"user\",\"content\":"
        "\"Where does Greta live?\"}],\"max_tokens\":6,\"temperature\":0,"
        "\"logprobs\":true,\"top_logprobs\":2%s}";
    char text[512];
    snprintf(text, sizeof text, body, "");
    json_t *j = ask("/v1/chat/completions", text);
    const json_t *c = choice(j, 0);
    const json_t *told =
        json_object_get(json_object_get(c, "logprobs"), "content");
    size_t n = json_array_size(told), seen = 0;
    ck_assert_uint_ge(n, 3);
    const json_t *first = json_array_get(told, 0);
    const json_t *top = json_object_get(first, "top_logprobs");
    ck_assert_uint_eq(json_array_size(top), 2);
    ck_assert_str_eq(str_at(json_array_get(top, 0), "token"),
                     str_at(first, "token"));
    ck_assert_uint_eq(json_array_size(json_object_get(first, "bytes")),
                      strlen(str_at(first, "token")));
    snprintf(text, sizeof text, body, ",\"stream\":true");
    int status;
    char *events = http_text(http_send("/v1/chat/completions", text), &status);
    for (char *p = events; (p = strstr(p, "data: {")); p++) {
        json_t *e = json_loads(p + 6, JSON_DISABLE_EOF_CHECK, NULL);
        const json_t *one = json_object_get(
            json_object_get(choice(e, 0), "logprobs"), "content");
        if (json_is_array(one)) {
            ck_assert_msg(
                json_equal(json_array_get(one, 0), json_array_get(told, seen)),
                "token %zu streamed otherwise", seen);
            seen++;
        }
        json_decref(e);
    }
    ck_assert_uint_eq(seen, n);
    free(events);
    json_decref(j);
}
END_TEST

/* ---- calls of tools ---- */

#define GO "[{\"role\":\"user\",\"content\":\"Go\"}]"
#define TOOLS \
    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]"

/* A checkpoint that learned to call f. */
static void train_caller(void) {
    char *data = sys_file(
        "calls.jsonl",
        "{\"messages\":[{\"role\":\"user\",\"content\":\"Go\"},{\"role\":"
        "\"assistant\",\"content\":\"\",\"tool_calls\":[{\"type\":"
        "\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{"
        "\\\"a\\\":1}\"}}]}]," TOOLS "}\n");
    sys_add_starter();
    FETTLE_OK(NULL,
              "run sft model=starter data=%s batch_size=1 num_epochs=100 "
              "learning_rate=3e-3 lr_schedule=constant grad_clip_norm=1 "
              "eval_every=0 sample_every=0 save_every=0 --wait",
              data);
    free(data);
}

static void is_call(const json_t *message) {
    const json_t *call =
        json_array_get(json_object_get(message, "tool_calls"), 0);
    const json_t *f = json_object_get(call, "function");
    ck_assert_str_eq(str_at(call, "type"), "function");
    ck_assert_str_ne(str_at(call, "id"), "");
    ck_assert_str_eq(str_at(f, "name"), "f");
    ck_assert_str_eq(str_at(f, "arguments"), "{\"a\": 1}");
    ck_assert(json_is_null(json_object_get(message, "content")));
}

START_TEST(an_answer_that_calls_a_tool_says_so) {
    train_caller();
    json_t *j =
        ask("/v1/chat/completions", "{\"model\":\"1/final\",\"temperature\":0,"
                                    "\"messages\":" GO "," TOOLS "}");
    is_call(json_object_get(choice(j, 0), "message"));
    ck_assert_str_eq(str_at(choice(j, 0), "finish_reason"), "tool_calls");
    json_decref(j);
    int status;
    char *events =
        http_text(http_send("/v1/chat/completions",
                            "{\"model\":\"1/final\",\"temperature\":0,"
                            "\"messages\":" GO "," TOOLS ",\"stream\":true}"),
                  &status);
    j = json_loads(strstr(events, "data: {") + 6, JSON_DISABLE_EOF_CHECK, NULL);
    is_call(json_object_get(choice(j, 0), "delta"));
    ck_assert_ptr_nonnull(strstr(events, "\"finish_reason\":\"tool_calls\""));
    ck_assert_ptr_nonnull(strstr(events, "data: [DONE]"));
    json_decref(j);
    free(events);
}
END_TEST

START_TEST(what_cannot_be_is_refused_in_words) {
    static const struct {
        const char *path, *more, *want;
    } bad[] = {
        {"/v1/completions", "\"prompt\":\"x\",\"logprobs\":99", "0 to 32"},
        {"/v1/completions", "\"prompt\":[\"a\",\"b\"]", "one text"},
        {"/v1/completions", "\"prompt\":[1,-2]", "token ids"},
        {"/v1/completions", "\"prompt\":\"x\",\"max_tokens\":0", "max_tokens"},
        {"/v1/completions", "\"prompt\":\"x\",\"min_p\":2", "min_p"},
        {"/v1/completions", "\"prompt\":[99999]", "vocabulary"},
        {"/v1/chat/completions", "\"messages\":[],\"top_logprobs\":2",
         "logprobs: true"},
        {"/v1/chat/completions", "\"messages\":[],\"tools\":{}", "a list"},
        {"/v1/chat/completions", "\"messages\":[],\"tool_choice\":\"required\"",
         "auto, none"},
    };
    start_daemon();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char body[256];
        snprintf(body, sizeof body, "{\"model\":\"starter\",%s}", bad[i].more);
        json_t *j = http_json(http_send(bad[i].path, body), 400);
        const char *msg = str_at(json_object_get(j, "error"), "message");
        ck_assert_msg(strstr(msg, bad[i].want) != NULL, "%s: %s", bad[i].more,
                      msg);
        json_decref(j);
    }
}
END_TEST

START_TEST(sample_tells_the_likeliest_tokens) {
    start_daemon();
    json_t *j = FETTLE_JSON(NULL, "sample starter --prompt Once+upon "
                                  "--max-tokens 3 --temperature 0 "
                                  "--top-logprobs 2 --prompt-logprobs --json");
    const json_t *s = json_array_get(json_object_get(j, "samples"), 0);
    const json_t *top = json_object_get(s, "top_logprobs");
    ck_assert_uint_ge(json_array_size(top), 1);
    ck_assert_uint_eq(json_array_size(top),
                      json_array_size(json_object_get(s, "tokens")));
    const json_t *best = json_array_get(json_array_get(top, 0), 0);
    ck_assert(json_equal(json_object_get(best, "token"),
                         json_array_get(json_object_get(s, "tokens"), 0)));
    ck_assert(json_equal(json_object_get(best, "logprob"),
                         json_array_get(json_object_get(s, "logprobs"), 0)));
    const json_t *prompt = json_object_get(j, "prompt");
    ck_assert_uint_eq(json_array_size(json_object_get(prompt, "top_logprobs")),
                      json_array_size(json_object_get(prompt, "tokens")));
    json_decref(j);
    struct out o = fettle(NULL, "sample starter --prompt Once --max-tokens 2 "
                                "--temperature 0 --top-logprobs 2");
    int lines = 0;
    for (const char *p = o.out; (p = strchr(p, '\n')); p++)
        lines++;
    ck_assert_int_ge(lines, 3);
    out_free(&o);
}
END_TEST

/* The same weights three times: exact, in 8 and in 4 bits. */
START_TEST(deployments_in_fewer_bits_say_so_and_keep_their_parity) {
    static const char row[] = "{\"tokens\":[5,9,100,42,7,77,300,12,8,1000]}\n";
    static const char *const as[] = {"exact", "q8", "q4"};
    char *said[3];
    start_daemon();
    fettle_fails(fettle(NULL, "deploy starter x --precision q5"), 65,
                 "exact, q8 or q4");
    for (int i = 0; i < 3; i++) {
        FETTLE_OK(NULL, "deploy starter d-%s --precision %s", as[i], as[i]);
        struct out a = fettle(row, "logprobs d-%s", as[i]);
        struct out b = fettle(row, "logprobs d-%s --sampler", as[i]);
        ck_assert_int_eq(a.status, 0);
        ck_assert_str_eq(a.out, b.out);
        said[i] = strdup(a.out);
        out_free(&a);
        out_free(&b);
        FETTLE_OK(NULL, "sample d-%s --prompt Once --max-tokens 3", as[i]);
    }
    struct out base = fettle(row, "logprobs starter");
    ck_assert_str_eq(base.out, said[0]);
    ck_assert_str_ne(said[0], said[1]);
    ck_assert_str_ne(said[1], said[2]);
    out_free(&base);
    json_t *all = FETTLE_JSON(NULL, "deployments --json");
    ck_assert_uint_eq(json_array_size(all), 3);
    for (size_t i = 0; i < 3; i++) { /* d-exact, d-q4, d-q8 */
        const json_t *d = json_array_get(all, i);
        ck_assert_str_eq(str_at(d, "precision"), str_at(d, "name") + 2);
        free(said[i]);
    }
    json_decref(all);
}
END_TEST

Suite *sampling_suite(void) {
    Suite *s = suite_create("sampling");
    TCase *tc = tcase_create("sampling");
    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, sys_setup, sys_teardown);
    tcase_add_test(
        tc, concurrent_requests_have_their_own_bits_while_training_goes_on);
    tcase_add_test(tc, more_models_than_workers_take_turns);
    tcase_add_test(tc, completions_tell_logprobs_of_prompt_and_answer);
    tcase_add_test(tc, chat_tells_logprobs_whole_and_streamed);
    tcase_add_test(tc, an_answer_that_calls_a_tool_says_so);
    tcase_add_test(tc, what_cannot_be_is_refused_in_words);
    tcase_add_test(tc, sample_tells_the_likeliest_tokens);
    tcase_add_test(tc, deployments_in_fewer_bits_say_so_and_keep_their_parity);
    suite_add_tcase(s, tc);
    return s;
}
