/* cli_bench_text: what a tokenizer costs: opening it, and a text both ways. */
#include "views/cli.h"

#include "core/clock.h"
#include "core/fs.h"
#include "core/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS_MAX 64
#define MADE_BYTES (8u << 20)
#define FILE_MAX (256u << 20)

struct text_bench {
    struct cli *c;
    const struct tok *tok;
    int rounds;
    json_t *rows;
};

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *x, int n) {
    qsort(x, (size_t)n, sizeof *x, by_size);
    return n % 2 ? x[n / 2] : 0.5 * (x[n / 2 - 1] + x[n / 2]);
}

static void bench_row(struct text_bench *b, const char *name, const char *text,
                      size_t len) {
    double encode[ROUNDS_MAX], decode[ROUNDS_MAX], mb = 1e-6 * (double)len;
    struct tok_speed s = {0};
    for (int i = 0; i < b->rounds; i++) {
        s = tok_bench(b->tok, text, len);
        encode[i] = s.encode_s;
        decode[i] = s.decode_s;
    }
    double to = mb / median(encode, b->rounds);
    double from = mb / median(decode, b->rounds);
    if (!b->c->json)
        printf("%-20s %7.1f MB %9zu tokens  encode %7.1f MB/s  decode %7.1f "
               "MB/s\n",
               name, mb, s.tokens, to, from);
    fflush(stdout);
    json_array_append_new(b->rows,
                          json_pack("{s:s, s:f, s:I, s:f, s:f}", "text", name,
                                    "mb", mb, "tokens", (json_int_t)s.tokens,
                                    "encode_mb_s", to, "decode_mb_s", from));
}

static void bench_made(struct text_bench *b) {
    for (int k = 0; k < TOK_BENCH_N; k++) {
        char *text = tok_bench_text(b->tok, (enum tok_bench_kind)k, MADE_BYTES);
        bench_row(b, tok_bench_name((enum tok_bench_kind)k), text, MADE_BYTES);
        free(text);
    }
}

static int bench_files(struct text_bench *b, struct err *err) {
    for (int i = 2; i < b->c->n; i++) {
        size_t len;
        const char *path = b->c->arg[i], *slash = strrchr(path, '/');
        char *text = fs_read(path, FILE_MAX, &len, err);
        if (!text)
            return -1;
        if (len > 0)
            bench_row(b, slash ? slash + 1 : path, text, len);
        free(text);
    }
    return 0;
}

/* Opens it as often as there are rounds; the first time is the one that shows
 * in the process's peak. */
static struct tok *bench_open(const struct text_bench *b, const char *dir,
                              double *ms, double *peak_mib, struct err *err) {
    double took[ROUNDS_MAX];
    struct tok *t = NULL;
    for (int i = 0; i < b->rounds; i++) {
        tok_close(t);
        int64_t start = clock_mono_us();
        t = tok_open(dir, err);
        took[i] = 1e-3 * (double)(clock_mono_us() - start);
        if (!t)
            return NULL;
        if (i == 0)
            *peak_mib = cli_peak_mib();
    }
    *ms = median(took, b->rounds);
    return t;
}

static int bench_all(struct text_bench *b, const char *dir, struct err *err) {
    double ms, mib;
    struct tok *t = bench_open(b, dir, &ms, &mib, err);
    if (!t)
        return -1;
    b->tok = t;
    if (!b->c->json)
        printf("opened in %.1f ms, peak of the process %.1f MiB; one thread, "
               "medians of %d rounds\n",
               ms, mib, b->rounds);
    int rc = 0;
    if (b->c->n == 2)
        bench_made(b);
    else
        rc = bench_files(b, err);
    tok_close(t);
    if (rc == 0 && b->c->json)
        cli_print_json(json_pack("{s:f, s:f, s:i, s:O}", "open_ms", ms,
                                 "open_peak_mib", mib, "rounds", b->rounds,
                                 "rows", b->rows),
                       false);
    return rc;
}

int cli_bench_text(struct cli *c, struct err *err) {
    struct text_bench b = {.c = c};
    int64_t rounds;
    if (c->n < 2)
        return err_set(err, ERR_USAGE, "usage: fettle bench text DIR [FILE]");
    if (cli_opt_int(c, "--rounds", 5, 1, ROUNDS_MAX, &rounds, err) < 0)
        return -1;
    char *dir = cli_text_dir(c, c->arg[1], err);
    if (!dir)
        return -1;
    b.rounds = (int)rounds;
    b.rows = json_array();
    int rc = bench_all(&b, dir, err);
    json_decref(b.rows);
    free(dir);
    return rc;
}
