/*
 * logit: from a row of logits to tokens.
 * Invariant: a row's candidates come in one order, falling, ties by id; only
 * as many of them are sorted as the draw can reach, which changes nothing.
 */
#include "core/sample/int.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct choice {
    double w; /* exp((x - max) / temperature) */
    float x;
    uint32_t id;
};

static int by_logit(const void *a, const void *b) {
    const struct choice *p = a, *q = b;
    if (p->w != q->w)
        return p->w > q->w ? -1 : 1;
    return p->id < q->id ? -1 : 1;
}

static uint32_t first_maximum(const struct row *r) {
    for (int32_t i = 0; i < r->V; i++)
        if ((double)r->logits[i] == r->max)
            return (uint32_t)i;
    return 0; /* none is a number */
}

static double weight_of(const struct row *r, float x) {
    double w = kern_exp(((double)x - r->max) / (double)r->temperature);
    return isnan(w) ? 0 : w;
}

static bool is_plain(float temperature) {
    return temperature == 0 || temperature == 1;
}

struct row row_of(const float *logits, int32_t V, float lse,
                  float temperature) {
    struct row r = {.logits = logits,
                    .V = V,
                    .lse = lse,
                    .temperature = temperature,
                    .max = -INFINITY};
    for (int32_t i = 0; i < V; i++)
        r.max = (double)logits[i] > r.max ? (double)logits[i] : r.max;
    if (temperature == 0)
        return r;
    if (temperature == 1 && fabsf(lse) < 64) { /* where it is exact enough */
        r.mass = kern_exp((double)lse - r.max);
        return r;
    }
    for (int32_t i = 0; i < V; i++)
        r.mass += weight_of(&r, logits[i]);
    return r;
}

float row_logprob(const struct row *r, uint32_t id) {
    if (is_plain(r->temperature))
        return r->logits[id] - r->lse;
    return (float)(((double)r->logits[id] - r->max) / (double)r->temperature -
                   kern_log(r->mass));
}

/* ---- candidates ---- */

/* Those at most `depth` temperatures below the maximum, sorted. */
static int32_t collect(const struct row *r, double depth, struct choice *c) {
    double least = r->max - depth * (double)r->temperature;
    int32_t n = 0;
    for (int32_t i = 0; i < r->V; i++)
        if (isinf(depth) || (double)r->logits[i] >= least)
            c[n++] = (struct choice){weight_of(r, r->logits[i]), r->logits[i],
                                     (uint32_t)i};
    qsort(c, (size_t)n, sizeof *c, by_logit);
    return n;
}

static double weight_sum(const struct choice *c, int32_t n) {
    double sum = 0;
    for (int32_t i = 0; i < n; i++)
        sum += c[i].w;
    return sum;
}

/* Whether n candidates of that depth hold all that the filters keep and that
 * a draw at u can reach. */
static bool is_enough(const struct row *r, const struct filter *f, double u,
                      double depth, const struct choice *c, int32_t n) {
    if (n == 0 || isinf(depth)) /* 0: no logit is a number */
        return isinf(depth);
    if (f->top_k > 0 && f->top_k < r->V)
        return n >= f->top_k;
    if (f->min_p > 0)
        return kern_exp(-depth) < (double)f->min_p;
    double want = f->top_p < 1 ? (double)f->top_p : u;
    return weight_sum(c, n) > want * r->mass;
}

/* The filters, in their order; *kept is the weight of all that they keep. */
static int32_t apply_filters(const struct row *r, const struct filter *f,
                             const struct choice *c, int32_t n, double *kept) {
    bool cut = false;
    *kept = r->mass;
    if (f->top_k > 0 && f->top_k < n) {
        n = f->top_k;
        cut = true;
    }
    if (f->top_k > 0 && f->top_k < r->V)
        *kept = weight_sum(c, n);
    if (f->top_p < 1) { /* the smallest set that reaches top_p of it */
        double cum = 0, want = (double)f->top_p * *kept;
        int32_t m = 0;
        while (m < n && (m == 0 || cum < want))
            cum += c[m++].w;
        n = m;
        cut = true;
    }
    if (f->min_p > 0) {
        int32_t m = 1;
        while (m < n && c[m].w >= (double)f->min_p * c[0].w)
            m++;
        n = m;
        cut = true;
    }
    if (cut)
        *kept = weight_sum(c, n);
    return n;
}

/* Candidates that a draw at u < 1 can reach; all that are kept for u = inf.
 * free() them. */
static struct choice *candidates(const struct row *r, const struct filter *f,
                                 double u, int32_t *n, double *kept) {
    static const double depths[] = {4, 12, 40, INFINITY};
    struct choice *c = malloc((size_t)r->V * sizeof *c);
    CHECK(c, "out of memory for %d candidates", r->V);
    int i = 0;
    do
        *n = collect(r, depths[i], c);
    while (!is_enough(r, f, u, depths[i], c, *n) && ++i);
    *n = apply_filters(r, f, c, *n, kept);
    return c;
}

uint32_t row_draw(const struct row *r, const struct filter *f, float u) {
    if (r->temperature == 0)
        return first_maximum(r);
    int32_t n;
    double kept, cum = 0;
    struct choice *c = candidates(r, f, (double)u, &n, &kept);
    uint32_t id = c[kept > 0 ? n - 1 : 0].id;
    for (int32_t i = 0; i < n && kept > 0; i++) {
        cum += c[i].w;
        if ((double)u * kept < cum) {
            id = c[i].id;
            break;
        }
    }
    free(c);
    return id;
}

void row_probs(const struct row *r, const struct filter *f, double *probs) {
    memset(probs, 0, (size_t)r->V * sizeof *probs);
    if (r->temperature == 0) {
        probs[first_maximum(r)] = 1;
        return;
    }
    int32_t n;
    double kept;
    struct choice *c = candidates(r, f, INFINITY, &n, &kept);
    for (int32_t i = 0; i < n; i++)
        probs[c[i].id] = kept > 0 ? c[i].w / kept : (i == 0);
    free(c);
}

/* ---- the likeliest ---- */

void row_top(const struct row *r, uint32_t k, uint32_t *ids, float *logprobs) {
    uint32_t n = 0;
    for (int32_t i = 0; i < r->V; i++) {
        float x = r->logits[i];
        if (n == k && !(x > r->logits[ids[n - 1]]))
            continue;
        uint32_t at = n < k ? n++ : k - 1;
        for (; at > 0 && x > r->logits[ids[at - 1]]; at--)
            ids[at] = ids[at - 1];
        ids[at] = (uint32_t)i;
    }
    for (uint32_t i = 0; i < n; i++)
        logprobs[i] = row_logprob(r, ids[i]);
    for (uint32_t i = n; i < k; i++) {
        ids[i] = 0;
        logprobs[i] = NAN;
    }
}
