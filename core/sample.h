/*
 * sample - generation over a paged cache: one prompt, any number of samples
 * that share its prefill; and the logprobs of given tokens by both paths.
 *
 * Every random number is a function of (seed, sample, position), and every
 * logit of the sequence alone, so the same request gives the same tokens
 * whatever runs beside it. Filters in this order: temperature, top-k, top-p on
 * the renormalised rest; ties go to the lower id. Reported logprobs are after
 * temperature, before the filters; at temperature 0 and 1 they are the bits
 * that the trainer's forward pass gives.
 *
 *     struct sampler s = {.net = net, .kern = kern, .model = model, ...};
 *     sample_run(&s, &policy, &op->sample, &result, &err);
 *
 * One thread at a time for one net.
 */
#ifndef FETTLE_CORE_SAMPLE_H
#define FETTLE_CORE_SAMPLE_H

#include "core/model.h"
#include "core/text.h"
#include "core/wire.h"

#include <stdatomic.h>

/* Tokens and text as they come: of sample `index`, one token at a time. */
typedef void sample_partial_fn(void *arg, uint32_t index, uint32_t token,
                               float logprob, const char *text);

struct sampler {
    const struct model *model;
    struct kern *kern;
    struct net *net;
    const struct tok *tok;       /* NULL: tokens only */
    const struct render *render; /* NULL with tok */
    sample_partial_fn *partial;  /* NULL = no streaming */
    void *arg;
    const atomic_bool *cancel; /* NULL = never */
};

int sample_run(const struct sampler *s, const struct policy *p,
               const struct op_sample *op, struct result *res, struct err *err);

/* Logprob of token i given the tokens before it; [0] is NAN. */
int sample_logprobs(const struct sampler *s, const struct policy *p,
                    const struct op_logprobs *op, struct result *res,
                    struct err *err);

/* Draws from logits (V) with u in [0,1); the filters of the op. */
uint32_t sample_draw(const float *logits, int32_t V, float temperature,
                     int32_t top_k, float top_p, float u);
/* The distribution that sample_draw() draws from, (V). */
void sample_probs(const float *logits, int32_t V, float temperature,
                  int32_t top_k, float top_p, double *probs);

#endif
