/* The running batch: whatever runs beside a request, its tokens and the bits
 * of its logprobs are those that it has alone. */
#include "core/sample.h"

#include "core/fs.h"
#include "core/rng.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

Suite *sample_batch_suite(void);

#define STARTER "core/starter/model"
#define N 17 /* requests */

struct fixture {
    struct kern *kern;
    struct model *model;
    struct net *net;
    struct tok *tok;
    struct render *render;
    struct adapter *adapter;
    struct weights *q8, *q4;
    struct buf got[N]; /* what each request's result is, in bytes */
    int partials;
    struct sched *sched;
};

static void open_fixture(struct fixture *f, int threads, const char *isa) {
    struct err err = {0};
    *f = (struct fixture){0};
    ck_assert_int_eq(
        kern_open(&f->kern, &(struct kern_opts){"cpu", threads, isa}), KERN_OK);
    f->model = model_open(STARTER, f->kern, &err);
    ck_assert_msg(f->model != NULL, "%s", err.msg);
    f->net = net_new(f->model, f->kern, &err);
    f->tok = tok_open(STARTER, &err);
    ck_assert_msg(f->tok != NULL, "%s", err.msg);
    f->render = render_open("auto", f->tok, STARTER, &err);
    struct lora_conf lora = {
        .rank = 4, .alpha = 8, .attn = true, .mlp = true, .unembed = true};
    f->adapter = adapter_new(f->model, f->kern, &lora, 1, &err);
    float *w = calloc((size_t)f->adapter->floats, sizeof *w);
    for (int64_t i = 0; i < f->adapter->floats; i++)
        w[i] = 0.05f * (float)rng_normal(2, 0, (uint64_t)i);
    f->kern->ops->copy_in(f->kern, f->adapter->dev, w,
                          (size_t)f->adapter->floats * sizeof *w);
    free(w);
    f->q8 = weights_quant(model_weights(f->model), f->kern, KERN_Q8, &err);
    f->q4 = weights_quant(model_weights(f->model), f->kern, KERN_Q4, &err);
    ck_assert_msg(f->q8 && f->q4, "%s", err.msg);
}

static void close_fixture(struct fixture *f) {
    for (int i = 0; i < N; i++)
        buf_release(&f->got[i]);
    adapter_free(f->adapter);
    weights_free(f->q8);
    weights_free(f->q4);
    render_close(f->render);
    tok_close(f->tok);
    net_free(f->net);
    model_close(f->model);
    f->kern->ops->close(f->kern);
}

/* Which weights request i runs on; the index is their version. */
enum { BASE, TUNED, Q8, Q4_TUNED };

static struct policy policy(const struct fixture *f, int version) {
    const struct weights *w = version == Q8         ? f->q8
                              : version == Q4_TUNED ? f->q4
                                                    : model_weights(f->model);
    bool tuned = version == TUNED || version == Q4_TUNED;
    return (struct policy){w, tuned ? f->adapter : NULL};
}

static int version_of(int i) {
    return i % 5 == 3 ? TUNED : i % 8 == 4 ? Q8 : i % 8 == 7 ? Q4_TUNED : BASE;
}

static struct sampler sampler(struct fixture *f) {
    return (struct sampler){.model = f->model,
                            .kern = f->kern,
                            .net = f->net,
                            .tok = f->tok,
                            .render = f->render};
}

/* Prompts of all sizes around a page; many begin alike. */
static uint32_t prompt_tokens[400];
static void draw_prompts(void) {
    for (int i = 0; i < 400; i++)
        prompt_tokens[i] = (uint32_t)(rng_u64(4, 0, (uint64_t)i) % 900);
}

static struct op_sample request(int i) {
    static const uint32_t lens[N] = {1,   5, 63,  64, 65,  130, 200, 128, 129,
                                     130, 3, 190, 64, 128, 199, 40,  256};
    return (struct op_sample){.target = {.ckpt = ""},
                              .prompt = PROMPT_TOKENS,
                              .n_tokens = lens[i],
                              .tokens = prompt_tokens + (i % 3 == 1 ? i : 0),
                              .text = "",
                              .n = i % 4 == 2 ? 3 : 1,
                              .max_tokens = 10 + (uint32_t)(i % 7) * 9,
                              .temperature = i % 4 ? 1.0f : 0.7f * (i % 8),
                              .top_k = i % 6 == 5 ? 20 : -1,
                              .top_p = i % 6 == 4 ? 0.9f : 1,
                              .seed = (uint64_t)i + 1,
                              .prompt_logprobs = i % 7 == 2,
                              .top_k_out = i % 4 == 1 ? 3 : 0,
                              .prompt_top_k_out = i % 7 == 3 ? 2 : 0,
                              .pieces = i % 4 == 1};
}

static void keep(struct buf *b, struct result *r) {
    r->exec_us = 0;
    buf_init(b, 1 << 20);
    result_encode(r, b);
    ck_assert(!b->failed);
    result_release(r);
}

static void on_done(void *arg, uint64_t id, struct result *res,
                    const struct err *err) {
    struct fixture *f = arg;
    ck_assert_msg(err == NULL, "request %d: %s", (int)id, err ? err->msg : "");
    ck_assert_uint_lt(id, N);
    ck_assert_ptr_null(f->got[id].data);
    keep(&f->got[id], res);
}

/* The first n requests, each alone, on one thread. */
static void run_alone(struct fixture *f, int n) {
    open_fixture(f, 1, NULL);
    struct sampler s = sampler(f);
    for (int i = 0; i < n; i++) {
        struct op_sample op = request(i);
        struct policy p = policy(f, version_of(i));
        struct result res = {0};
        struct err err = {0};
        ck_assert_msg(sample_run(&s, &p, &op, &res, &err) == 0, "%s", err.msg);
        keep(&f->got[i], &res);
    }
}

struct way {
    const char *isa;
    int threads, pages, budget, chunk, n; /* n: of the requests */
    bool no_prefix, staggered;
};

static const struct way ways[] = {
    {"avx512", 1, 400, 512, 0, N, false, false},
    {"avx512", 2, 400, 512, 0, N, false, true},
    {"avx2", 2, 400, 96, 7, N, false, true},
    {"avx512", 2, 400, 40, 64, N, true, false},
    {"avx512", 1, 12, 512, 33, N, false, true}, /* pages run out */
    {"avx2", 2, 9, 128, 64, N, true, false},
    {"scalar", 2, 400, 128, 64, 3, false, true},
};
#define N_WAYS ((int)(sizeof ways / sizeof *ways))

/* All requests at once, or one more at every second step. */
static struct sched_stats run_together(struct fixture *f, const struct way *w) {
    struct err err = {0};
    struct op_sample op[N];
    struct sched_opts o = {.s = sampler(f),
                           .done = on_done,
                           .pages = w->pages,
                           .budget = w->budget,
                           .chunk = w->chunk,
                           .no_prefix = w->no_prefix};
    o.s.arg = f;
    struct sched *s = sched_new(&o, &err);
    ck_assert_msg(s != NULL, "%s", err.msg);
    for (int i = 0; i < w->n; i++) {
        struct policy p = policy(f, version_of(i));
        op[i] = request(i);
        ck_assert_msg(sched_add(s, (uint64_t)i, (uint64_t)version_of(i), &p,
                                NULL, &op[i], &err) == 0,
                      "%s", err.msg);
        for (int k = 0; w->staggered && k < 2; k++)
            sched_step(s);
    }
    while (sched_step(s))
        ;
    struct sched_stats st = sched_stats(s);
    sched_free(s);
    return st;
}

START_TEST(requests_have_the_bits_together_that_they_have_alone) {
    struct fixture alone, f;
    const struct way *w = &ways[_i];
    struct kern *k;
    draw_prompts();
    if (kern_open(&k, &(struct kern_opts){"cpu", 1, w->isa}) != KERN_OK)
        return; /* this processor has no such instructions */
    k->ops->close(k);
    run_alone(&alone, w->n);
    open_fixture(&f, w->threads, w->isa);
    struct sched_stats st = run_together(&f, w);
    for (int i = 0; i < w->n; i++) {
        ck_assert_msg(
            f.got[i].len == alone.got[i].len &&
                memcmp(f.got[i].data, alone.got[i].data, f.got[i].len) == 0,
            "request %d has other bits beside others", i);
    }
    if (w->no_prefix)
        ck_assert_int_eq(st.pages_left, w->pages);
    else if (w->staggered && w->budget == 512 && w->pages == 400)
        ck_assert_int_ge(st.reused, 5 * KERN_PAGE);
    ck_assert(st.reused == 0 || !w->no_prefix);
    ck_assert((st.preempted > 0) == (w->pages < 400));
    close_fixture(&f);
    close_fixture(&alone);
}
END_TEST

/* The logprobs of what was sampled, by the trainer's pass. */
START_TEST(sampled_logprobs_are_the_trainers_bits) {
    struct fixture f;
    draw_prompts();
    open_fixture(&f, 2, NULL);
    struct sampler s = sampler(&f);
    for (int i = 1; i < N; i += 4) {
        struct op_sample op = request(i);
        struct policy p = policy(&f, version_of(i));
        struct result res = {0}, want = {0};
        struct err err = {0};
        op.temperature = 1;
        op.prompt_logprobs = true;
        op.top_k_out = 4;
        ck_assert_int_eq(sample_run(&s, &p, &op, &res, &err), 0);
        uint32_t n = op.n_tokens + res.samples[0].n, at = op.n_tokens;
        uint32_t *all = calloc(n, sizeof *all);
        memcpy(all, op.tokens, at * sizeof *all);
        memcpy(all + at, res.samples[0].tokens, res.samples[0].n * sizeof *all);
        struct op_logprobs lp = {.target = {.ckpt = ""}, .n = n, .tokens = all};
        ck_assert_int_eq(sample_logprobs(&s, &p, &lp, &want, &err), 0);
        ck_assert_mem_eq(res.samples[0].logprobs, want.logprobs[0] + at,
                         res.samples[0].n * sizeof(float));
        ck_assert_mem_eq(res.prompt_logprobs + 1, want.logprobs[0] + 1,
                         (at - 1) * sizeof(float));
        for (uint32_t t = 0; t < res.samples[0].n; t++) { /* greedy is first */
            const struct top *top = &res.samples[0].top;
            ck_assert(top->logprobs[4 * t] >= res.samples[0].logprobs[t]);
            for (uint32_t k = 0; k < 4; k++)
                ck_assert(top->tokens[4 * t + k] != res.samples[0].tokens[t] ||
                          top->logprobs[4 * t + k] ==
                              res.samples[0].logprobs[t]);
        }
        free(all);
        result_release(&res);
        result_release(&want);
    }
    close_fixture(&f);
}
END_TEST

static void on_end(void *arg, uint64_t id, struct result *res,
                   const struct err *err) {
    struct fixture *f = arg;
    ck_assert(err == NULL && id < N);
    f->got[id].len = 1 + res->samples[0].stop;
    f->partials += (int)res->samples[0].n;
    result_release(res);
}

START_TEST(cancelled_requests_end_with_what_they_have) {
    struct fixture f;
    struct err err = {0};
    draw_prompts();
    open_fixture(&f, 2, NULL);
    struct op_sample op = request(5);
    struct policy p = policy(&f, BASE);
    struct sched_opts o = {.s = sampler(&f), .done = on_end, .pages = 100};
    o.s.arg = &f;
    struct sched *s = sched_new(&o, &err);
    op.max_tokens = 300;
    for (uint64_t i = 0; i < 3; i++)
        ck_assert_int_eq(sched_add(s, i, 0, &p, NULL, &op, &err), 0);
    for (int i = 0; i < 5; i++)
        sched_step(s);
    sched_cancel(s, 1);
    sched_cancel(s, 77);
    sched_step(s);
    ck_assert_uint_eq(f.got[1].len, 1 + STOP_CANCELED);
    ck_assert_uint_eq(f.got[0].len, 0);
    ck_assert_int_ge(f.partials, 4);
    ck_assert(sched_uses(s, 0));
    sched_cancel_all(s);
    ck_assert(!sched_step(s));
    ck_assert_uint_eq(f.got[2].len, 1 + STOP_CANCELED);
    ck_assert(!sched_uses(s, 0));
    sched_forget(s, 0);
    ck_assert_int_eq(sched_stats(s).pages_left, 100);
    sched_free(s);
    close_fixture(&f);
}
END_TEST

/* A prompt of many pages does not keep a short one from its answer. */
START_TEST(short_prompts_pass_long_ones) {
    struct fixture f;
    struct err err = {0};
    static uint32_t tokens[900];
    open_fixture(&f, 2, NULL);
    for (int i = 0; i < 900; i++)
        tokens[i] = (uint32_t)i % 700;
    struct op_sample big = request(5), small = request(1);
    big.tokens = tokens;
    big.n_tokens = 900;
    big.max_tokens = small.max_tokens = 2;
    small.default_stop = false;
    struct policy p = policy(&f, BASE);
    struct sched_opts o = {
        .s = sampler(&f), .done = on_end, .pages = 100, .budget = 128};
    o.s.arg = &f;
    struct sched *s = sched_new(&o, &err);
    sched_add(s, 0, 0, &p, NULL, &big, &err);
    sched_add(s, 1, 0, &p, NULL, &small, &err);
    for (int i = 0; i < 3; i++)
        sched_step(s);
    ck_assert_uint_eq(f.got[1].len, 1 + STOP_LENGTH);
    ck_assert_uint_eq(f.got[0].len, 0);
    while (sched_step(s))
        ;
    ck_assert_uint_eq(f.got[0].len, 1 + STOP_LENGTH);
    sched_free(s);
    close_fixture(&f);
}
END_TEST

START_TEST(requests_that_cannot_be_are_refused_at_once) {
    struct fixture f;
    draw_prompts();
    open_fixture(&f, 1, NULL);
    struct sched_opts o = {.s = sampler(&f), .done = on_end, .pages = 2};
    struct err none = {0};
    struct sched *s = sched_new(&o, &none);
    struct policy p = policy(&f, BASE);
    for (int i = 0; i < 7; i++) {
        uint32_t bad[] = {5, 1 << 20};
        struct err err = {0};
        struct op_sample op = request(1);
        op.n = i == 0 ? 0 : op.n;
        op.temperature = i == 1 ? NAN : op.temperature;
        op.min_p = i == 2 ? 1.5f : 0;
        op.max_tokens = i == 3 ? 500 : op.max_tokens; /* more than the cache */
        op.top_k_out = i == 4 ? WIRE_TOP_MAX + 1 : 0;
        op.n_tokens = i == 5 ? 0 : i == 6 ? 2 : op.n_tokens;
        op.tokens = i == 6 ? bad : op.tokens;
        ck_assert_int_eq(sched_add(s, 0, 0, &p, NULL, &op, &err), -1);
        ck_assert_int_eq(err.code, ERR_INVAL);
    }
    ck_assert(!sched_step(s));
    sched_free(s);
    close_fixture(&f);
}
END_TEST

/* ---- text ---- */

static void on_text(void *arg, uint64_t id, const struct sample_partial *p) {
    struct buf *b = arg;
    (void)id;
    buf_puts(b, p->text);
}

static struct result run_text(struct fixture *f, struct op_sample *op,
                              struct buf *streamed) {
    struct sampler s = sampler(f);
    struct policy p = policy(f, false);
    struct result res = {0};
    struct err err = {0};
    buf_init(streamed, 1 << 20);
    s.partial = on_text;
    s.arg = streamed;
    op->stream = true;
    ck_assert_msg(sample_run(&s, &p, op, &res, &err) == 0, "%s", err.msg);
    ck_assert_str_eq(buf_str(streamed), res.samples[0].text);
    return res;
}

/* Stops at every piece of three bytes of what the model says: it ends just
 * before the first such piece, however tokens cut it, and nothing of it is
 * streamed. */
START_TEST(stop_strings_end_the_text_across_tokens) {
    struct fixture f;
    struct buf streamed;
    open_fixture(&f, 1, NULL);
    struct op_sample op = {.target = {.ckpt = ""},
                           .prompt = PROMPT_MESSAGES,
                           .text = "[{\"role\":\"user\",\"content\":"
                                   "\"Where does Greta live?\"}]",
                           .n = 1,
                           .max_tokens = 24,
                           .top_k = -1,
                           .top_p = 1,
                           .default_stop = true};
    struct result whole = run_text(&f, &op, &streamed);
    const char *text = whole.samples[0].text;
    buf_release(&streamed);
    ck_assert_uint_ge(strlen(text), 12);
    for (size_t i = 0; i + 3 <= strlen(text); i++) {
        char stop[4] = {text[i], text[i + 1], text[i + 2], 0};
        char *stops[] = {"\x01never", stop};
        op.stops = stops;
        op.n_stops = 2;
        struct result res = run_text(&f, &op, &streamed);
        size_t want = (size_t)(strstr(text, stop) - text);
        ck_assert_int_eq(res.samples[0].stop, STOP_STRING);
        ck_assert_uint_eq(strlen(res.samples[0].text), want);
        ck_assert_int_eq(strncmp(res.samples[0].text, text, want), 0);
        buf_release(&streamed);
        result_release(&res);
    }
    uint32_t third = whole.samples[0].tokens[3];
    op.n_stops = 0;
    op.stop_tokens = &third;
    op.n_stop_tokens = 1;
    struct result res = run_text(&f, &op, &streamed);
    ck_assert_int_eq(res.samples[0].stop, STOP_TOKEN);
    ck_assert_uint_le(res.samples[0].n, 4);
    buf_release(&streamed);
    result_release(&res);
    result_release(&whole);
    close_fixture(&f);
}
END_TEST

START_TEST(pieces_join_to_the_text) {
    struct fixture f;
    struct buf streamed, joined;
    open_fixture(&f, 1, NULL);
    struct op_sample op = {.target = {.ckpt = ""},
                           .prompt = PROMPT_TEXT,
                           .text = "Once upon",
                           .n = 1,
                           .max_tokens = 20,
                           .temperature = 1,
                           .top_k = 40,
                           .top_p = 1,
                           .seed = 3,
                           .top_k_out = 2,
                           .pieces = true};
    struct result r = run_text(&f, &op, &streamed);
    buf_init(&joined, 1 << 16);
    for (uint32_t i = 0; i < r.samples[0].n; i++)
        buf_puts(&joined, result_piece(&r, r.samples[0].tokens[i]));
    ck_assert_str_eq(buf_str(&joined), r.samples[0].text);
    buf_clear(&joined);
    for (uint32_t i = 0; i < r.n_prompt; i++)
        buf_puts(&joined, result_piece(&r, r.prompt_tokens[i]));
    ck_assert_str_eq(buf_str(&joined), "Once upon");
    for (uint32_t i = 0; i < 2 * r.samples[0].n; i++)
        ck_assert_str_ne(result_piece(&r, r.samples[0].top.tokens[i]), "");
    buf_release(&joined);
    buf_release(&streamed);
    result_release(&r);
    close_fixture(&f);
}
END_TEST

/* Fewer bits move the logprobs by little, and less with eight than four. */
START_TEST(quantised_weights_are_near_the_exact_ones) {
    struct fixture f;
    double far[4] = {0};
    draw_prompts();
    open_fixture(&f, 2, NULL);
    struct sampler s = sampler(&f);
    struct op_logprobs op = {
        .target = {.ckpt = ""}, .n = 300, .tokens = prompt_tokens};
    struct result r[4] = {0};
    for (int v = 0; v < 4; v++) {
        struct policy p = policy(&f, v);
        struct result paged = {0};
        struct err err = {0};
        op.sampler = false;
        ck_assert_int_eq(sample_logprobs(&s, &p, &op, &r[v], &err), 0);
        op.sampler = true;
        ck_assert_int_eq(sample_logprobs(&s, &p, &op, &paged, &err), 0);
        ck_assert_mem_eq(paged.logprobs[0] + 1, r[v].logprobs[0] + 1,
                         299 * sizeof(float));
        result_release(&paged);
        for (int t = 1; t < 300; t++)
            far[v] += fabs((double)r[v].logprobs[0][t] -
                           (double)r[v == Q4_TUNED].logprobs[0][t]) /
                      299;
    }
    ck_assert_msg(far[Q8] > 0 && far[Q8] < 0.1, "q8: %g", far[Q8]);
    ck_assert_msg(far[Q4_TUNED] > far[Q8] && far[Q4_TUNED] < 0.6, "q4: %g",
                  far[Q4_TUNED]);
    for (int v = 0; v < 4; v++)
        result_release(&r[v]);
    close_fixture(&f);
}
END_TEST

static const char *const families[] = {"llama",   "phi3",      "gemma3",
                                       "gpt_oss", "qwen3_moe", "qwen3_tied"};
#define N_FAMILIES ((int)(sizeof families / sizeof *families))

/* Whatever matrices a family has: 8 bits change its logprobs, by little, and
 * both paths still agree to the bit. */
START_TEST(every_family_can_be_served_in_eight_bits) {
    char dir[128];
    struct kern *k = NULL;
    struct err err = {0};
    uint32_t tokens[40];
    snprintf(dir, sizeof dir, "tests/golden/models/%s", families[_i]);
    ck_assert_int_eq(kern_open(&k, &(struct kern_opts){.threads = 2}), KERN_OK);
    struct model *m = model_open(dir, k, &err);
    ck_assert_msg(m != NULL, "%s", err.msg);
    for (uint32_t i = 0; i < 40; i++)
        tokens[i] = (uint32_t)(rng_u64(8, 0, i) % (uint64_t)model_conf(m)->V);
    struct weights *q8 = weights_quant(model_weights(m), k, KERN_Q8, &err);
    ck_assert_msg(q8 != NULL, "%s", err.msg);
    struct sampler s = {.model = m, .kern = k, .net = net_new(m, k, &err)};
    struct op_logprobs op = {.target = {.ckpt = ""}, .n = 40, .tokens = tokens};
    struct policy exact = {model_weights(m), NULL}, cut = {q8, NULL};
    struct result r[3] = {0};
    ck_assert_int_eq(sample_logprobs(&s, &exact, &op, &r[0], &err), 0);
    ck_assert_int_eq(sample_logprobs(&s, &cut, &op, &r[1], &err), 0);
    op.sampler = true;
    ck_assert_int_eq(sample_logprobs(&s, &cut, &op, &r[2], &err), 0);
    ck_assert_mem_eq(r[1].logprobs[0] + 1, r[2].logprobs[0] + 1,
                     39 * sizeof(float));
    double far = 0;
    for (int t = 1; t < 40; t++)
        far += fabs((double)r[0].logprobs[0][t] - (double)r[1].logprobs[0][t]) /
               39;
    ck_assert_msg(far > 0 && far < 0.1, "%s: %g", families[_i], far);
    for (int i = 0; i < 3; i++)
        result_release(&r[i]);
    net_free(s.net);
    weights_free(q8);
    model_close(m);
    k->ops->close(k);
}
END_TEST

Suite *sample_batch_suite(void) {
    Suite *s = suite_create("sample batch");
    TCase *tc = tcase_create("batch");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(
        tc, requests_have_the_bits_together_that_they_have_alone, 0, N_WAYS);
    tcase_add_test(tc, sampled_logprobs_are_the_trainers_bits);
    tcase_add_test(tc, cancelled_requests_end_with_what_they_have);
    tcase_add_test(tc, short_prompts_pass_long_ones);
    tcase_add_test(tc, requests_that_cannot_be_are_refused_at_once);
    tcase_add_test(tc, stop_strings_end_the_text_across_tokens);
    tcase_add_test(tc, pieces_join_to_the_text);
    tcase_add_test(tc, quantised_weights_are_near_the_exact_ones);
    tcase_add_loop_test(tc, every_family_can_be_served_in_eight_bits, 0,
                        N_FAMILIES);
    suite_add_tcase(s, tc);
    return s;
}
