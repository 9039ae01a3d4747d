/* epoch: the order of rows in one pass over the data, a function of seed and
 * number. Packed, a step takes bins of rows; what a bin holds changes with the
 * epoch, how many there are does not: best fit sees lengths only. */
#include "core/recipe/int.h"

#include "core/rng.h"

#include <stdlib.h>
#include <string.h>

static void identity(uint32_t *perm, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        perm[i] = i;
}

/* Orders e->row by bins, and these by `place`; where each begins. */
static void epoch_sort(struct epoch *e, const uint32_t *bin,
                       const uint32_t *place) {
    uint32_t *at = calloc(e->n_bins + 1u, sizeof *at);
    uint32_t *row = malloc(e->n_rows * sizeof *row);
    CHECK(at && row, "out of memory for %u rows", e->n_rows);
    memset(e->start, 0, (e->n_bins + 1u) * sizeof *e->start);
    for (uint32_t i = 0; i < e->n_rows; i++)
        e->start[place[bin[i]] + 1]++;
    for (uint32_t b = 0; b < e->n_bins; b++)
        e->start[b + 1] += e->start[b];
    memcpy(at, e->start, e->n_bins * sizeof *at);
    for (uint32_t i = 0; i < e->n_rows; i++)
        row[at[place[bin[i]]]++] = e->row[i];
    memcpy(e->row, row, e->n_rows * sizeof *row);
    free(at);
    free(row);
}

static void epoch_pack(struct sft *s) {
    struct epoch *e = &s->epoch;
    uint32_t n = e->n_rows;
    uint32_t *length = malloc(n * sizeof *length);
    uint32_t *bin = malloc(n * sizeof *bin);
    uint32_t *place = malloc(n * sizeof *place);
    CHECK(length && bin && place, "out of memory for %u rows", n);
    for (uint32_t i = 0; i < n; i++)
        length[i] = (uint32_t)s->rows.row[e->row[i]].tokens.n;
    e->n_bins = bins_best_fit(length, n, (uint32_t)s->most, bin);
    identity(place, e->n_bins);
    if (s->c.shuffle)
        rng_shuffle(place, e->n_bins, (uint64_t)s->c.seed,
                    rng_stream("bins") + (uint64_t)e->at);
    epoch_sort(e, bin, place);
    free(length);
    free(bin);
    free(place);
}

static void epoch_go(struct sft *s, int64_t at) {
    struct epoch *e = &s->epoch;
    if (e->at == at)
        return;
    e->at = at;
    identity(e->row, e->n_rows);
    if (s->c.shuffle)
        rng_shuffle(e->row, e->n_rows, (uint64_t)s->c.seed, (uint64_t)at);
    if (s->c.packs)
        epoch_pack(s);
    else
        identity(e->start, e->n_bins + 1);
}

void epoch_open(struct sft *s) {
    struct epoch *e = &s->epoch;
    uint32_t n = (uint32_t)s->n_train;
    *e = (struct epoch){.at = -1, .n_rows = n, .n_bins = n};
    e->row = malloc(n * sizeof *e->row);
    e->start = malloc((n + 1u) * sizeof *e->start);
    CHECK(e->row && e->start, "out of memory for %u rows", n);
    epoch_go(s, 0);
}

void epoch_release(struct epoch *e) {
    free(e->row);
    free(e->start);
}

double sft_fill(const struct sft *s) {
    double tokens = 0;
    for (size_t i = 0; i < s->n_train; i++)
        tokens += (double)s->rows.row[i].tokens.n;
    return tokens / ((double)s->epoch.n_bins * (double)s->most);
}

const struct example **sft_batch(struct sft *s, int64_t k, size_t *n) {
    struct epoch *e = &s->epoch;
    epoch_go(s, k / s->per_epoch);
    size_t from = (size_t)(k % s->per_epoch * s->c.batch);
    size_t to = from + (size_t)s->c.batch;
    to = to < e->n_bins ? to : e->n_bins;
    *n = e->start[to] - e->start[from];
    const struct example **rows = malloc(*n * sizeof *rows);
    CHECK(rows, "out of memory for a batch of %zu rows", *n);
    for (size_t i = 0; i < *n; i++)
        rows[i] = &s->rows.row[e->row[e->start[from] + i]];
    return rows;
}
