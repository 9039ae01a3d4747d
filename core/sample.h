/*
 * sample - generation over a paged cache, many requests at a time; and the
 * logprobs of given tokens by both paths.
 *
 * Requests on the same weights share a running batch that others join at any
 * step; several weights take turns. Prompts are filled in pieces between the
 * steps of those that answer already. Pages of prompts and answers are found
 * again by their tokens. When pages run out the youngest sequence gives its
 * back and computes them anew later.
 *
 * Every random number is a function of (seed, sample, position), and every
 * logit of the sequence alone, so the same request gives the same tokens and
 * the same bits of logprobs whatever runs beside it. Filters in this order:
 * temperature, top-k, top-p on the renormalised rest, min-p; ties go to the
 * lower id. Reported logprobs are after temperature, before the filters; at
 * temperature 0 and 1 they are the bits that the trainer's forward pass gives.
 *
 *     struct sched *s = sched_new(&(struct sched_opts){...}, &err);
 *     sched_add(s, id, version, &policy, NULL, &op->sample, &err);
 *     while (sched_step(s)) ...          // answers by o->done
 *
 * One thread at a time for one net.
 */
#ifndef FETTLE_CORE_SAMPLE_H
#define FETTLE_CORE_SAMPLE_H

#include "core/model.h"
#include "core/text.h"
#include "core/wire.h"

/* A token of sample `index` as it comes. */
struct sample_partial {
    uint32_t index, token;
    float logprob;
    const char *text; /* what it adds; borrowed */
    uint32_t k;       /* the likeliest, when the op asks for them */
    const uint32_t *top_tokens;
    const float *top_logprobs;
};
typedef void sample_partial_fn(void *arg, uint64_t id,
                               const struct sample_partial *p);

struct sampler {
    const struct model *model;
    struct kern *kern;
    struct net *net;
    const struct tok *tok;       /* NULL: tokens only */
    const struct render *render; /* NULL with tok */
    const char *no_text;         /* why one is NULL; NULL = not known */
    sample_partial_fn *partial;  /* NULL = no streaming */
    void *arg;                   /* of partial, and of sched_opts.done */
};

/* ---- many requests ---- */

/* The end of a request: its result (the callee's, result_release() it) or, with
 * err, what went wrong. */
typedef void sample_done_fn(void *arg, uint64_t id, struct result *res,
                            const struct err *err);

struct sched_opts {
    struct sampler s;
    sample_done_fn *done;
    int32_t pages;  /* of the cache */
    int32_t budget; /* tokens a step, 0 = 512 */
    int32_t chunk;  /* tokens of one prompt a step, 0 = budget */
    bool no_prefix; /* pages are not found again */
};

/* Pages of a cache that takes an eighth of the machine's memory once all of
 * them are used. */
int32_t sample_pages(const struct model *m);

struct sched;
struct sched *sched_new(const struct sched_opts *o, struct err *err);
/* Requests that are not done are forgotten. */
void sched_free(struct sched *s);

/* Takes a request in. `version` is the weights' number: equal numbers mean
 * equal bits, for ever. render: of these weights, NULL = the sampler's. It,
 * policy->weights, policy->adapter and op must live until done. */
int sched_add(struct sched *s, uint64_t id, uint64_t version,
              const struct policy *policy, const struct render *render,
              const struct op_sample *op, struct err *err);
/* It ends at the next step, with what it has; unknown ids are ignored. */
void sched_cancel(struct sched *s, uint64_t id);
void sched_cancel_all(struct sched *s);
/* One step of one version's batch. false = there is nothing to do. */
bool sched_step(struct sched *s);
bool sched_uses(const struct sched *s, uint64_t version);
/* Drops the cached pages of weights that nobody uses any more. */
void sched_forget(struct sched *s, uint64_t version);

struct sched_stats {
    int64_t steps, tokens;  /* steps; rows computed */
    int64_t prompt, reused; /* prompt tokens of requests; of them reused */
    int64_t preempted;      /* sequences that gave their pages back */
    int32_t pages, pages_left;
};
struct sched_stats sched_stats(const struct sched *s);

/* ---- one request ---- */

int sample_run(const struct sampler *s, const struct policy *p,
               const struct op_sample *op, struct result *res, struct err *err);

/* Logprob of token i given the tokens before it; [0] is NAN. */
int sample_logprobs(const struct sampler *s, const struct policy *p,
                    const struct op_logprobs *op, struct result *res,
                    struct err *err);

/* ---- how fast ---- */

struct sample_speed {
    double prefill_tok_s; /* a prompt of 512 tokens, alone */
    double decode_tok_s;  /* all streams together, behind short prompts */
};
/* Random tokens, greedy; the caller repeats it and takes the best. */
int sample_bench(const struct sampler *s, const struct policy *p, int streams,
                 struct sample_speed *out, struct err *err);

#endif
