/* render: damaged conversations through every renderer, and damaged answers
 * back. The first byte of an input names the renderer, the second what is done
 * with the rest. */
#include "tests/fuzz/fuzz.h"

#include "core/json.h"
#include "core/text/render.h"

#include <stdlib.h>
#include <string.h>

#define DIR "tests/golden/renderers/tokenizer"

static const char *const words[] = {"\"role\":",
                                    "\"content\":",
                                    "\"tool_calls\":",
                                    "\"tools\":",
                                    "\"trainable\":",
                                    "\"weight\":",
                                    "\"thinking\"",
                                    "\"text\"",
                                    "\"assistant\"",
                                    "\"tool\"",
                                    "\"system\"",
                                    "\"user\"",
                                    "\"arguments\":",
                                    "\"parameters\":",
                                    "\"properties\":",
                                    "\"$ref\":\"#\"",
                                    "\"anyOf\":[",
                                    "\"enum\":",
                                    "<think>",
                                    "</think>",
                                    "<tool_call>",
                                    "</tool_call>",
                                    "<|im_end|>",
                                    "<|tool_call>call:",
                                    "<|\\\"|>",
                                    "tool_declare",
                                    "null",
                                    "{\"a\":1}",
                                    NULL};

static const char chat[] =
    "{\"messages\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\","
    "\"content\":[{\"type\":\"text\",\"text\":\"u\"}]},{\"role\":\"assistant\","
    "\"content\":[{\"type\":\"thinking\",\"thinking\":\"t\"},{\"type\":"
    "\"text\","
    "\"text\":\"a\"}],\"tool_calls\":[{\"id\":\"functions.f:0\",\"type\":"
    "\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"x\\\":[1,"
    "null]}\"}}]},{\"role\":\"tool\",\"content\":\"r\",\"name\":\"f\","
    "\"tool_call_id\":\"functions.f:0\"},{\"role\":\"assistant\",\"content\":"
    "\"<think>w</think>b\",\"weight\":0}],\"tools\":[{\"type\":\"function\","
    "\"function\":{\"name\":\"f\",\"description\":\"d\",\"parameters\":{"
    "\"type\":\"object\",\"properties\":{\"x\":{\"type\":\"array\",\"items\":{"
    "\"type\":[\"string\",\"null\"]}},\"y\":{\"$ref\":\"#/$defs/N\"}},"
    "\"required\":[\"x\"],\"$defs\":{\"N\":{\"type\":\"object\"}}}}}]}";
static const char declared[] =
    "[{\"role\":\"tool_declare\",\"content\":\"[{\\\"name\\\":\\\"f\\\"}]\"},{"
    "\"role\":\"user\",\"content\":\"u\",\"trainable\":false},{\"role\":"
    "\"assistant\",\"content\":null,\"reasoning_content\":\"t\",\"trainable\":"
    "true,\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{\"k\":"
    "1.5}}}]}]";
static const char answer[] =
    "<think>t</think>\n<tool_call>\n<function=f>\n<parameter=x>\n1\n"
    "</parameter>\n</function>\n</tool_call><|tool_call>call:f{k:[1,{a:true}]}"
    "<tool_call|>\n\n<｜DSML｜ calls>\n<｜DSML｜ invoke name=\"f\">\n"
    "<｜DSML｜ parameter name=\"k\" string=\"false\">1</｜DSML｜ parameter>\n"
    "</｜DSML｜ invoke>\n</｜DSML｜ "
    "calls><|channel|>analysis<|message|>w<|end|>"
    "<|start|>assistant to=functions.f<|channel|>commentary<|message|>{}";

static void run_answer(const struct render *r, const uint8_t *data,
                       size_t len) {
    struct err err = {0};
    enum reply_end end;
    struct tok_ids ids = {0};
    tok_encode(r->tok, (const char *)data, len, TOK_CONTROL, &ids);
    if (r->n_stop)
        tok_ids_push(&ids, r->stop[0]);
    json_t *m = render_parse(r, ids.id, ids.n, &end, &err);
    CHECK(m || *err.msg, "a refusal without words");
    json_t *plain = m ? message_openai(m) : NULL;
    json_decref(plain);
    json_decref(m);
    free(ids.id);
}

static void run_chat(const struct render *r, const json_t *j, int what) {
    struct err err = {0};
    struct example *list;
    struct tok_ids ids = {0};
    size_t n;
    int flags =
        (what & 8 ? RENDER_COMPAT : 0) | (what & 16 ? RENDER_ORIGIN : 0);
    enum train_on on = (enum train_on)(what % TRAIN_ON_N);
    if (render_examples(r, j, on, flags, &list, &n, &err) == 0) {
        for (size_t i = 0; i < n; i++)
            example_release(&list[i]);
        free(list);
    } else {
        CHECK(*err.msg, "a refusal without words");
    }
    render_prompt(r, j, flags, &ids, &err);
    free(ids.id);
}

static void run_with(const struct render *r, const uint8_t *data, size_t len) {
    struct err no = {0};
    if (data[0] % 4 == 0) {
        run_answer(r, data + 1, len - 1);
        return;
    }
    json_t *j = json_read_line((const char *)data + 1, len - 1, true, &no);
    if (j)
        run_chat(r, j, data[0] / 4);
    json_decref(j);
}

#define FAMILIES 128

/* Opened once: that takes longer than a hundred inputs. NULL: the tokenizer
 * lacks what the family needs. */
static const struct render *renderer(size_t i) {
    static struct render *all[FAMILIES];
    static struct tok *tok;
    struct err err = {0};
    if (!tok)
        tok = tok_open(DIR, &err);
    CHECK(tok, "%s (run from the root of the tree)", err.msg);
    if (!all[i])
        all[i] = render_open(family_at(i)->name, tok, DIR, &err);
    return all[i];
}

static int run(const uint8_t *data, size_t len) {
    size_t n = 0;
    while (n < FAMILIES && family_at(n))
        n++;
    const struct render *r = len < 2 ? NULL : renderer(data[0] % n);
    if (r)
        run_with(r, data + 1, len - 1);
    return 0;
}

static void add_with(fuzz_seed_fn *add, void *arg, int i, int what,
                     const char *text) {
    size_t n = strlen(text);
    char *all = malloc(n + 3);
    CHECK(all, "out of memory for a seed");
    all[0] = (char)i;
    all[1] = (char)what;
    memcpy(all + 2, text, n);
    add(arg, all, n + 2);
    free(all);
}

static void seeds(fuzz_seed_fn *add, void *arg) {
    for (int i = 0; family_at((size_t)i) && i < 60; i += 3) {
        add_with(add, arg, i, 1 + 4 * i, chat);
        add_with(add, arg, i + 1, 2 + 4 * (i + 7), declared);
        add_with(add, arg, i + 2, 0, answer);
    }
}

const struct fuzz_target fuzz_render = {"render", run, seeds, words};
