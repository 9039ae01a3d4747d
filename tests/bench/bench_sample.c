/* bench_sample DIR THREADS ROUNDS: prompts and answers of the model in DIR,
 * exact and in fewer bits, beside what the memory gives when it is just read.
 * One JSON line a precision; the best of the rounds, which take turns. */
#include "core/clock.h"
#include "core/sample.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROBE_BYTES ((size_t)512 << 20)

static const struct {
    const char *name;
    enum kern_dtype t;
    double bytes; /* a weight */
} rows[] = {{"exact", KERN_BF16, 2},
            {"q8", KERN_Q8, 34.0 / 32},
            {"q4", KERN_Q4, 18.0 / 32}};
#define N_ROWS 3

static int fail(const struct err *err) {
    printf("bench_sample: %s\n", err->msg);
    return 1;
}

/* Bytes a second. */
static double probe(struct kern *k, float *block, double *sum) {
    int64_t t0 = clock_mono_us();
    k->ops->sumsq(k, sum, block, PROBE_BYTES / sizeof *block);
    return (double)PROBE_BYTES / ((double)(clock_mono_us() - t0) * 1e-6);
}

static void keep_best(double *best, double now) {
    *best = now > *best ? now : *best;
}

int main(int argc, char **argv) {
    struct err err = {0};
    struct kern *k;
    struct sample_speed one[N_ROWS] = {0}, many[N_ROWS] = {0}, now;
    double read = 0, matrix = 0;
    int rounds = argc > 3 ? (int)strtol(argv[3], NULL, 10) : 3;
    if (argc < 3 ||
        kern_open(&k, &(struct kern_opts){.device = "cpu",
                                          .threads = (int)strtol(
                                              argv[2], NULL, 10)}) != KERN_OK)
        return printf("usage: bench_sample DIR THREADS [ROUNDS]\n"), 2;
    struct model *m = model_open(argv[1], k, &err);
    if (!m)
        return fail(&err);
    struct sampler s = {.model = m, .kern = k, .net = net_new(m, k, &err)};
    struct policy p[N_ROWS] = {{model_weights(m), NULL}};
    for (int i = 1; i < N_ROWS; i++) {
        p[i].weights = weights_quant(model_weights(m), k, rows[i].t, &err);
        if (!p[i].weights)
            return fail(&err);
    }
    for (int i = 0; i < model_count(m); i++) {
        const struct weight_info *w = model_info(m, i);
        matrix += w->rank == 2 ? (double)(w->rows * w->cols) : 0;
    }
    float *block = k->ops->alloc(k, PROBE_BYTES);
    double sum;
    memset(block, 0, PROBE_BYTES);
    for (int r = 0; r < rounds; r++)
        for (int i = 0; i < N_ROWS; i++) {
            keep_best(&read, probe(k, block, &sum));
            if (sample_bench(&s, &p[i], 1, &now, &err) < 0)
                return fail(&err);
            keep_best(&one[i].prefill_tok_s, now.prefill_tok_s);
            keep_best(&one[i].decode_tok_s, now.decode_tok_s);
            if (sample_bench(&s, &p[i], 16, &now, &err) < 0)
                return fail(&err);
            keep_best(&many[i].decode_tok_s, now.decode_tok_s);
        }
    for (int i = 0; i < N_ROWS; i++)
        printf("{\"precision\":\"%s\",\"prefill_512\":%.1f,\"decode_1\":%.1f,"
               "\"decode_16\":%.1f,\"weights_gb_s\":%.2f,\"read_gb_s\":%.2f}\n",
               rows[i].name, one[i].prefill_tok_s, one[i].decode_tok_s,
               many[i].decode_tok_s,
               one[i].decode_tok_s * matrix * rows[i].bytes * 1e-9,
               read * 1e-9);
    return 0;
}
