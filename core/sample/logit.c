/* logit: from logits to a token. */
#include "core/sample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct choice {
    double p;
    uint32_t id;
};

static int by_prob(const void *a, const void *b) {
    const struct choice *x = a, *y = b;
    if (x->p != y->p)
        return x->p > y->p ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

static uint32_t first_maximum(const float *logits, int32_t V) {
    uint32_t best = 0;
    for (int32_t i = 1; i < V; i++)
        if (logits[i] > logits[best])
            best = (uint32_t)i;
    return best;
}

/* Candidates by falling probability, renormalised; how many are left. */
static int32_t candidates(const float *logits, int32_t V, float temperature,
                          int32_t top_k, float top_p, struct choice *c) {
    double max = -INFINITY, kept = 0;
    for (int32_t i = 0; i < V; i++)
        max = logits[i] > max ? logits[i] : max;
    for (int32_t i = 0; i < V; i++) {
        double x = exp(((double)logits[i] - max) / temperature);
        c[i] = (struct choice){isnan(x) ? 0 : x, (uint32_t)i};
    }
    qsort(c, (size_t)V, sizeof *c, by_prob);
    int32_t n = top_k > 0 && top_k < V ? top_k : V;
    for (int32_t i = 0; i < n; i++)
        kept += c[i].p;
    if (top_p < 1) { /* the smallest set that reaches top_p of what is left */
        double cum = 0, want = top_p * kept;
        int32_t m = 0;
        while (m < n && (m == 0 || cum < want))
            cum += c[m++].p;
        n = m;
        kept = cum;
    }
    for (int32_t i = 0; i < n; i++)
        c[i].p = kept > 0 ? c[i].p / kept : (i == 0);
    return n;
}

uint32_t sample_draw(const float *logits, int32_t V, float temperature,
                     int32_t top_k, float top_p, float u) {
    if (temperature == 0)
        return first_maximum(logits, V);
    struct choice *c = malloc((size_t)V * sizeof *c);
    CHECK(c, "out of memory for %d candidates", V);
    int32_t n = candidates(logits, V, temperature, top_k, top_p, c);
    double cum = 0;
    uint32_t id = c[n - 1].id;
    for (int32_t i = 0; i < n; i++) {
        cum += c[i].p;
        if ((double)u < cum) {
            id = c[i].id;
            break;
        }
    }
    free(c);
    return id;
}

void sample_probs(const float *logits, int32_t V, float temperature,
                  int32_t top_k, float top_p, double *probs) {
    memset(probs, 0, (size_t)V * sizeof *probs);
    if (temperature == 0) {
        probs[first_maximum(logits, V)] = 1;
        return;
    }
    struct choice *c = malloc((size_t)V * sizeof *c);
    CHECK(c, "out of memory for %d candidates", V);
    int32_t n = candidates(logits, V, temperature, top_k, top_p, c);
    for (int32_t i = 0; i < n; i++)
        probs[c[i].id] = c[i].p;
    free(c);
}
