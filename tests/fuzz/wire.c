/* wire: ops, results, frames and JSON. */
#include "tests/fuzz/fuzz.h"

#include "core/json.h"
#include "core/wire.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- op: what decodes encodes to the same bytes ---- */

static int op_run(const uint8_t *data, size_t len) {
    struct op op;
    struct err err = {0};
    struct buf b;
    if (op_decode(&op, data, len, &err) < 0) {
        CHECK(err.code != ERR_NONE, "a refusal without a reason");
        return 0;
    }
    buf_init(&b, WIRE_MAX);
    op_encode(&op, &b);
    CHECK(b.len == len && memcmp(b.data, data, len) == 0,
          "an op of two encodings");
    buf_release(&b);
    op_release(&op);
    return 0;
}

static void op_add(fuzz_seed_fn *add, void *arg, const struct op *op) {
    struct buf b;
    buf_init(&b, WIRE_MAX);
    op_encode(op, &b);
    add(arg, b.data, b.len);
    buf_release(&b);
}

static void op_seeds(fuzz_seed_fn *add, void *arg) {
    uint32_t ids[] = {1, 2, 3, 4, 5, 6};
    float f[] = {0, 1, -0.5f, 2, NAN, INFINITY};
    char *stops[] = {"END", "\n"};
    struct datum d[2] = {{3, 2, ids, ids, {f, f, f, f, f}},
                         {1, 1, ids, ids, {f}}};
    struct op all[] = {
        {.kind = OP_CREATE,
         .create = {.base = "Qwen/Qwen3-0.6B", .from = "", .lora_rank = 8}},
        {.kind = OP_CREATE, .create = {.base = "m", .tuning = TUNE_BF16}},
        {.kind = OP_FORWARD, .pass = {LOSS_PPO, 0.8f, 1.2f, NAN, 2, d}},
        {.kind = OP_FORWARD_BACKWARD, .pass = {.n = 1, .datums = d + 1}},
        {.kind = OP_OPTIM_STEP, .optim = {1e-4, 0.9, 0.95, 1e-12, 0, 1}},
        {.kind = OP_SAVE, .save = {CKPT_SAMPLER, "3/final", 200}},
        {.kind = OP_LOAD, .load = {"3/step-20", true}},
        {.kind = OP_SAMPLE,
         .sample = {.prompt = PROMPT_TEXT,
                    .n_tokens = 6,
                    .tokens = ids,
                    .text = "hello",
                    .n = 2,
                    .top_k = -1,
                    .top_p = 1,
                    .n_stops = 2,
                    .stops = stops}},
        {.kind = OP_LOGPROBS, .logprobs = {{"3/final"}, 6, ids, true}}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        all[i].model = "m1";
        all[i].seq = i;
        op_add(add, arg, &all[i]);
    }
}

const struct fuzz_target fuzz_op = {"op", op_run, op_seeds, NULL};

/* ---- result ---- */

static int result_run(const uint8_t *data, size_t len) {
    struct result r, again;
    struct err err = {0};
    struct buf b;
    if (result_decode(&r, data, len, &err) < 0)
        return 0;
    buf_init(&b, WIRE_MAX);
    result_encode(&r, &b);
    CHECK(!b.failed && result_decode(&again, b.data, b.len, &err) == 0,
          "a result that does not come back: %s", err.msg);
    result_release(&again);
    result_release(&r);
    buf_release(&b);
    return 0;
}

static void result_seeds(fuzz_seed_fn *add, void *arg) {
    uint32_t ids[] = {1, 2, 3}, lens[] = {3, 0};
    float f[] = {-1, NAN, 0}, *rows[] = {f, f};
    struct metric m[] = {{"loss:sum", 1}, {"lr:mean", NAN}};
    struct sample s = {.n = 3,
                       .tokens = ids,
                       .logprobs = f,
                       .text = "text",
                       .stop = STOP_TOKEN};
    struct result r = {.n_metrics = 2,
                       .metrics = m,
                       .n_logprobs = 2,
                       .logprobs_len = lens,
                       .logprobs = rows,
                       .n_samples = 1,
                       .samples = &s,
                       .n_prompt = 3,
                       .prompt_tokens = ids,
                       .prompt_logprobs = f,
                       .bytes = 9,
                       .exec_us = 1};
    struct buf b;
    buf_init(&b, WIRE_MAX);
    result_encode(&r, &b);
    add(arg, b.data, b.len);
    buf_release(&b);
}

const struct fuzz_target fuzz_result = {"result", result_run, result_seeds,
                                        NULL};

/* ---- frame: a stream, whatever comes down it ---- */

static int frame_run(const uint8_t *data, size_t len) {
    int fd[2];
    struct frame f;
    struct err err = {0};
    CHECK(pipe(fd) == 0, "no pipe"); /* it holds FUZZ_MAX */
    ssize_t put = len ? write(fd[1], data, len) : 0;
    CHECK(put == (ssize_t)len, "a pipe too small");
    close(fd[1]);
    while (frame_read(fd[0], &f, &err) == 1) {
        CHECK(f.type < FRAME_N && f.len <= len, "a frame out of nothing");
        free(f.data);
    }
    close(fd[0]);
    return 0;
}

static void frame_seeds(fuzz_seed_fn *add, void *arg) {
    uint8_t out[4096];
    size_t len = 0;
    struct err err = {0};
    int fd[2];
    CHECK(pipe(fd) == 0, "no pipe");
    for (int t = 0; t < FRAME_N; t++)
        frame_write(fd[1], (enum frame_type)t, 7, "some payload", (size_t)t,
                    &err);
    close(fd[1]);
    for (ssize_t n; (n = read(fd[0], out + len, sizeof out - len)) > 0;)
        len += (size_t)n;
    close(fd[0]);
    add(arg, out, len);
}

const struct fuzz_target fuzz_frame = {"frame", frame_run, frame_seeds, NULL};

/* ---- json ---- */

static int json_run(const uint8_t *data, size_t len) {
    struct err err = {0};
    json_t *j = json_read((const char *)data, len, "input", &err);
    CHECK(j || err.code, "a refusal without a reason");
    json_decref(j);
    return 0;
}

static void json_seeds(fuzz_seed_fn *add, void *arg) {
    static const char *const all[] = {
        "{\"a\":[1,2.5,-3e4,true,null,\"\\u00e9\\ud83d\\ude00\"]}",
        "[[[[[[[[]]]]]]]]", "\"text\"", "{\"a\":{\"b\":{\"c\":{}}}}"};
    for (int i = 0; i < 4; i++)
        add(arg, all[i], strlen(all[i]));
}

static const char *const json_words[] = {
    "[[[[[[[[[[[[[[[[", "{\"a\":", "\\ud800", "\\u0000", "true", "1e999", NULL};
const struct fuzz_target fuzz_json = {"json", json_run, json_seeds, json_words};
