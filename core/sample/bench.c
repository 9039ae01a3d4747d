/* bench: how fast a policy fills a prompt and answers. */
#include "core/sample.h"

#include "core/clock.h"
#include "core/rng.h"

#include <stdlib.h>

#define BENCH_PROMPT 512
#define BENCH_SHORT 16
#define BENCH_WARM 2 /* steps before the clock runs */
#define BENCH_STEPS 24

static void bench_done(void *arg, uint64_t id, struct result *res,
                       const struct err *err) {
    struct err *out = arg;
    (void)id;
    if (err)
        err_set(out, err->code, "%s", err->msg);
    result_release(res);
}

/* Seconds: of the first step, which has whole prompts, and of a later one. */
static int bench_batch(const struct sampler *s, const struct policy *p,
                       int streams, uint32_t prompt, double *first,
                       double *later, struct err *err) {
    struct err failed = {0};
    struct sched_opts o = {.s = *s,
                           .done = bench_done,
                           .pages = streams * (BENCH_PROMPT / KERN_PAGE + 2),
                           .no_prefix = true};
    o.s.arg = &failed;
    o.s.partial = NULL;
    int32_t V = model_conf(s->model)->V;
    uint32_t *tokens = calloc((size_t)streams * prompt, sizeof *tokens);
    struct op_sample *op = calloc((size_t)streams, sizeof *op);
    struct sched *sched = sched_new(&o, err);
    CHECK(tokens && op, "out of memory for prompts");
    for (uint32_t i = 0; i < (uint32_t)streams * prompt; i++)
        tokens[i] = (uint32_t)(rng_u64(1, 0, i) % (uint64_t)V);
    int rc = sched ? 0 : -1;
    for (int i = 0; rc == 0 && i < streams; i++) {
        op[i] = (struct op_sample){.target = {.ckpt = ""},
                                   .prompt = PROMPT_TOKENS,
                                   .n_tokens = prompt,
                                   .tokens = tokens + (uint32_t)i * prompt,
                                   .text = "",
                                   .n = 1,
                                   .max_tokens = BENCH_WARM + BENCH_STEPS + 4,
                                   .top_k = -1,
                                   .top_p = 1};
        rc = sched_add(sched, (uint64_t)i, 0, p, NULL, &op[i], err);
    }
    int64_t t0 = clock_mono_us();
    if (rc == 0)
        sched_step(sched);
    *first = (double)(clock_mono_us() - t0) * 1e-6;
    for (int i = 0; rc == 0 && i < BENCH_WARM; i++)
        sched_step(sched);
    t0 = clock_mono_us();
    for (int i = 0; rc == 0 && i < BENCH_STEPS; i++)
        sched_step(sched);
    *later = (double)(clock_mono_us() - t0) * 1e-6 / BENCH_STEPS;
    sched_free(sched);
    free(tokens);
    free(op);
    return rc == 0 && failed.code ? err_set(err, failed.code, "%s", failed.msg)
                                  : rc;
}

int sample_bench(const struct sampler *s, const struct policy *p, int streams,
                 struct sample_speed *out, struct err *err) {
    double first, later, short_first;
    if (bench_batch(s, p, 1, BENCH_PROMPT, &first, &later, err) < 0 ||
        bench_batch(s, p, 1, BENCH_PROMPT, &first, &later, err) < 0)
        return -1;
    out->prefill_tok_s = BENCH_PROMPT / first;
    if (bench_batch(s, p, streams, BENCH_SHORT, &short_first, &later, err) < 0)
        return -1;
    out->decode_tok_s = streams / later;
    return 0;
}
