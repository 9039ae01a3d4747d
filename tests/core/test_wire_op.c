/* The op's bytes: canonical, complete, and safe to read when damaged. */
#include "core/rng.h"
#include "core/wire.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

Suite *wire_op_suite(void);

static uint32_t tokens[] = {1, 2, 3}, targets[] = {2, 3, 4};
static float weights[] = {0.0f, 1.0f, -0.5f};
static char *stops[] = {"\n\n", "END"};

static struct op sample_ops(int i) {
    static struct datum d[2];
    d[0] = (struct datum){.n = 3, .k = 1, .tokens = tokens, .targets = targets};
    d[0].field[DATUM_WEIGHTS] = weights;
    d[1] = (struct datum){.n = 1, .k = 3, .tokens = tokens, .targets = targets};
    d[1].field[DATUM_ADVANTAGES] = weights;
    struct op op = {.kind = (enum op_kind)i, .model = "m1", .seq = 7};
    switch (op.kind) {
    case OP_CREATE:
        op.create = (struct op_create){.base = "Qwen/Qwen3-0.6B",
                                       .from = "",
                                       .lora_rank = 8,
                                       .lora_alpha = 32,
                                       .seed = UINT64_MAX,
                                       .train_attn = true};
        break;
    case OP_FORWARD:
    case OP_FORWARD_BACKWARD:
        op.pass = (struct op_pass){.loss = LOSS_PPO,
                                   .clip_low = 0.8f,
                                   .clip_high = 1.2f,
                                   .beta = NAN,
                                   .n = 2,
                                   .datums = d};
        break;
    case OP_OPTIM_STEP:
        op.optim = (struct op_optim){.lr = 1e-4, .beta1 = 0.9, .eps = 1e-12};
        break;
    case OP_SAVE:
        op.save = (struct op_save){CKPT_SAMPLER, "3/final", 200};
        break;
    case OP_LOAD: op.load = (struct op_load){"3/step-20", true}; break;
    case OP_SAMPLE:
        op.sample = (struct op_sample){.target = {.ckpt = "3/final"},
                                       .prompt = PROMPT_MESSAGES,
                                       .n_tokens = 3,
                                       .tokens = tokens,
                                       .text = "[{}]",
                                       .n = 2,
                                       .top_k = -1,
                                       .top_p = 0.5f,
                                       .n_stops = 2,
                                       .stops = stops,
                                       .stream = true};
        break;
    case OP_LOGPROBS:
        op.logprobs = (struct op_logprobs){
            .target = {.ckpt = ""}, .n = 3, .tokens = tokens, .sampler = true};
        break;
    case OP_N: /* and a sample with every later field */
        op = sample_ops(OP_SAMPLE);
        op.sample.target.precision = PRECISION_Q8;
        op.sample.min_p = 0.125f;
        op.sample.top_k_out = 5;
        op.sample.prompt_top_k_out = 3;
        op.sample.pieces = true;
        break;
    }
    return op;
}

static void encode(const struct op *op, struct buf *b) {
    buf_init(b, WIRE_MAX);
    op_encode(op, b);
    ck_assert(!b->failed);
}

START_TEST(op_of_every_kind_survives_the_round_trip) {
    struct op op = sample_ops(_i), back;
    struct buf a, b;
    struct err err = {0};
    encode(&op, &a);
    ck_assert_msg(op_decode(&back, a.data, a.len, &err) == 0, "%s", err.msg);
    encode(&back, &b);
    ck_assert_uint_eq(a.len, b.len);
    ck_assert_mem_eq(a.data, b.data, a.len);
    ck_assert_str_eq(back.model, "m1");
    ck_assert_uint_eq(back.seq, 7);
    op_release(&back);
    buf_release(&a);
    buf_release(&b);
}
END_TEST

START_TEST(a_renderer_is_written_only_where_it_is_told) {
    struct op op = sample_ops(OP_CREATE), back;
    struct buf a, b;
    struct err err = {0}, bad = {0};
    encode(&op, &a);
    op.create.renderer = "";
    encode(&op, &b);
    ck_assert_uint_eq(b.len, a.len);
    buf_release(&b);
    op.create.renderer = "qwen3";
    encode(&op, &b);
    ck_assert_int_eq(op_decode(&back, b.data, b.len, &err), 0);
    ck_assert_str_eq(back.create.renderer, "qwen3");
    ck_assert_int_eq(back.create.tuning, TUNE_FP32);
    op_release(&back);
    memset(b.data + a.len + 1, 0, 4); /* one of no letters */
    ck_assert_int_eq(op_decode(&back, b.data, a.len + 5, &bad), -1);
    buf_release(&a);
    buf_release(&b);
}
END_TEST

START_TEST(precision_is_written_only_where_it_is_not_fp32) {
    struct op op = sample_ops(OP_CREATE), back;
    struct buf a, b;
    struct err err = {0}, bad = {0};
    encode(&op, &a);
    op.create.tuning = TUNE_BF16;
    encode(&op, &b);
    ck_assert_uint_eq(b.len, a.len + 1);
    ck_assert_int_eq(op_decode(&back, b.data, b.len, &err), 0);
    ck_assert_int_eq(back.create.tuning, TUNE_BF16);
    op_release(&back);
    ck_assert_int_eq(op_decode(&back, a.data, a.len, &err), 0);
    ck_assert_int_eq(back.create.tuning, TUNE_FP32);
    op_release(&back);
    b.data[a.len] = TUNE_FP32; /* a second encoding of the first op */
    ck_assert_int_eq(op_decode(&back, b.data, b.len, &bad), -1);
    b.data[a.len] = TUNES;
    ck_assert_int_eq(op_decode(&back, b.data, b.len, &bad), -1);
    buf_release(&a);
    buf_release(&b);
}
END_TEST

START_TEST(op_cut_at_any_byte_or_with_a_tail_is_refused) {
    struct op op = sample_ops(_i), back;
    struct buf a;
    encode(&op, &a);
    for (size_t n = 0; n < a.len; n++) {
        struct err err = {0};
        uint8_t *exact = malloc(n + 1);
        memcpy(exact, a.data, n);
        ck_assert_int_eq(op_decode(&back, exact, n, &err), -1);
        ck_assert_int_eq(err.code, ERR_INVAL);
        free(exact);
    }
    struct err err = {0};
    buf_u8(&a, 0);
    ck_assert_int_eq(op_decode(&back, a.data, a.len, &err), -1);
    buf_release(&a);
}
END_TEST

START_TEST(op_with_flipped_bytes_never_crashes) {
    struct op op = sample_ops(_i), back;
    struct buf a;
    encode(&op, &a);
    for (uint64_t round = 0; round < 20000; round++) {
        struct err err = {0};
        uint8_t *m = malloc(a.len);
        memcpy(m, a.data, a.len);
        for (uint64_t k = 0; k < 1 + round % 4; k++)
            m[rng_u64(1, round, 2 * k) % a.len] =
                (uint8_t)rng_u64(1, round, 2 * k + 1);
        if (op_decode(&back, m, a.len, &err) == 0)
            op_release(&back);
        free(m);
    }
    buf_release(&a);
}
END_TEST

/* Journals of before have samples without the later fields. */
START_TEST(sample_without_later_fields_keeps_its_bytes) {
    struct op op = sample_ops(OP_SAMPLE), back;
    struct buf a, b;
    struct err err = {0};
    encode(&op, &a);
    ck_assert_uint_eq(a.data[a.len - 1], 1); /* stream, and nothing behind */
    op.sample.pieces = true;
    encode(&op, &b);
    ck_assert_uint_eq(b.len, a.len + 14);
    ck_assert_mem_eq(a.data, b.data, a.len - 1);
    ck_assert_int_eq(op_decode(&back, a.data, a.len, &err), 0);
    ck_assert(!back.sample.pieces && back.sample.top_k_out == 0);
    op_release(&back);
    b.data[a.len + 13] = 2;
    ck_assert_int_eq(op_decode(&back, b.data, b.len, &err), 0);
    ck_assert(back.sample.parse && !back.sample.pieces);
    op_release(&back);
    memset(b.data + a.len, 0, 14); /* fields that say nothing: not canonical */
    ck_assert_int_eq(op_decode(&back, b.data, b.len, &err), -1);
    buf_release(&a);
    buf_release(&b);
}
END_TEST

START_TEST(likeliest_tokens_and_pieces_survive_the_round_trip) {
    uint32_t ids[] = {4, 5, 6, 7}, prompt[] = {0, 0, 9, 8};
    float lp[] = {-0.5f, -1, -2, -3};
    struct token_text pieces[] = {{1, "a"}, {4, "\xe2\x82\xac"}};
    struct sample s[2] = {
        {.n = 2, .tokens = tokens, .logprobs = weights, .text = "hi"},
        {.n = 1, .tokens = tokens, .logprobs = weights, .text = ""}};
    s[0].top = (struct top){2, ids, lp};
    s[1].message = "{\"role\":\"assistant\"}";
    struct result full = {.n_samples = 2,
                          .samples = s,
                          .n_prompt = 2,
                          .prompt_tokens = tokens,
                          .prompt_top = {2, prompt, lp},
                          .n_pieces = 2,
                          .pieces = pieces,
                          .exec_us = 6};
    struct result back;
    struct err err = {0};
    struct buf a;
    buf_init(&a, WIRE_MAX);
    result_encode(&full, &a);
    ck_assert_int_eq(result_decode(&back, a.data, a.len, &err), 0);
    ck_assert_uint_eq(back.samples[0].top.k, 2);
    ck_assert_uint_eq(back.samples[0].top.tokens[3], 7);
    ck_assert(back.samples[0].top.logprobs[2] == -2);
    ck_assert_uint_eq(back.samples[1].top.k, 0);
    ck_assert_uint_eq(back.prompt_top.tokens[2], 9);
    ck_assert_str_eq(result_piece(&back, 4), "\xe2\x82\xac");
    ck_assert_str_eq(result_piece(&back, 2), "");
    ck_assert_ptr_null(back.samples[0].message);
    ck_assert_str_eq(back.samples[1].message, s[1].message);
    result_release(&back);
    for (size_t n = 0; n < a.len; n++) {
        uint8_t *exact = malloc(n + 1);
        memcpy(exact, a.data, n);
        struct err e = {0};
        ck_assert_int_eq(result_decode(&back, exact, n, &e), -1);
        free(exact);
    }
    buf_release(&a);
}
END_TEST

START_TEST(result_survives_the_round_trip_and_damage) {
    struct result r = {0}, back;
    struct err err = {0};
    result_metric(&r, "loss:sum", 2.5);
    result_metric(&r, "bad", NAN);
    float lp[] = {NAN, -1.5f}, *rows[] = {lp};
    uint32_t len[] = {2};
    struct sample s = {.n = 2,
                       .tokens = tokens,
                       .logprobs = weights,
                       .text = "hi",
                       .stop = STOP_TOKEN};
    struct result full = {.n_metrics = r.n_metrics,
                          .metrics = r.metrics,
                          .n_logprobs = 1,
                          .logprobs = rows,
                          .logprobs_len = len,
                          .n_samples = 1,
                          .samples = &s,
                          .n_prompt = 2,
                          .prompt_tokens = tokens,
                          .prompt_logprobs = lp,
                          .bytes = 5,
                          .exec_us = 6};
    struct buf a;
    buf_init(&a, WIRE_MAX);
    result_encode(&full, &a);
    ck_assert_int_eq(result_decode(&back, a.data, a.len, &err), 0);
    ck_assert(result_get(&back, "loss:sum") == 2.5);
    ck_assert(isnan(result_get(&back, "none")));
    ck_assert_str_eq(back.samples[0].text, "hi");
    ck_assert(isnan(back.logprobs[0][0]) && back.logprobs[0][1] == -1.5f);
    result_release(&back);
    for (size_t n = 0; n < a.len; n++) {
        struct err e = {0};
        ck_assert_int_eq(result_decode(&back, a.data, n, &e), -1);
    }
    buf_release(&a);
    result_release(&r);
}
END_TEST

START_TEST(frame_crosses_a_socket_and_its_end_is_told_from_a_cut) {
    int fd[2];
    struct err err = {0};
    struct frame f;
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
    ck_assert_int_eq(frame_write(fd[0], FRAME_OP, 9, "abc", 3, &err), 0);
    ck_assert_int_eq(frame_read(fd[1], &f, &err), 1);
    ck_assert_int_eq(f.type, FRAME_OP);
    ck_assert_uint_eq(f.id, 9);
    ck_assert_str_eq((char *)f.data, "abc");
    free(f.data);
    ck_assert_int_eq(write(fd[0], "FFR1 half a head", 16), 16);
    close(fd[0]);
    ck_assert_int_eq(frame_read(fd[1], &f, &err), -1);
    close(fd[1]);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
    close(fd[0]);
    ck_assert_int_eq(frame_read(fd[1], &f, &err), 0);
    close(fd[1]);
}
END_TEST

Suite *wire_op_suite(void) {
    Suite *s = suite_create("wire");
    TCase *tc = tcase_create("op");
    tcase_set_timeout(tc, 30);
    tcase_add_loop_test(tc, op_of_every_kind_survives_the_round_trip, 0,
                        OP_N + 1);
    tcase_add_test(tc, a_renderer_is_written_only_where_it_is_told);
    tcase_add_test(tc, precision_is_written_only_where_it_is_not_fp32);
    tcase_add_loop_test(tc, op_cut_at_any_byte_or_with_a_tail_is_refused, 0,
                        OP_N + 1);
    tcase_add_loop_test(tc, op_with_flipped_bytes_never_crashes, 0, OP_N + 1);
    tcase_add_test(tc, sample_without_later_fields_keeps_its_bytes);
    tcase_add_test(tc, likeliest_tokens_and_pieces_survive_the_round_trip);
    tcase_add_test(tc, result_survives_the_round_trip_and_damage);
    tcase_add_test(tc, frame_crosses_a_socket_and_its_end_is_told_from_a_cut);
    suite_add_tcase(s, tc);
    return s;
}
