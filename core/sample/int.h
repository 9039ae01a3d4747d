/* int - what the files of core/sample share: rows of logits, the prefix
 * cache, requests and their sequences. */
#ifndef FETTLE_CORE_SAMPLE_INT_H
#define FETTLE_CORE_SAMPLE_INT_H

#include "core/sample.h"

/* ---- logit: one row of logits ---- */

struct row {
    const float *logits; /* (V) */
    int32_t V;
    float lse, temperature;
    double max, mass; /* Σ exp((x - max) / temperature), unless that is 0 */
};
struct row row_of(const float *logits, int32_t V, float lse, float temperature);
/* After temperature. */
float row_logprob(const struct row *r, uint32_t id);
/* The k likeliest, falling; ids 0 and NAN behind the last of V. */
void row_top(const struct row *r, uint32_t k, uint32_t *ids, float *logprobs);

struct filter {
    int32_t top_k; /* <= 0 = off */
    float top_p;   /* 1 = off */
    float min_p;   /* 0 = off */
};
/* Draws with u in [0,1). */
uint32_t row_draw(const struct row *r, const struct filter *f, float u);
/* The distribution that row_draw() draws from, (V). */
void row_probs(const struct row *r, const struct filter *f, double *probs);

/* ---- prefix: whole pages by their tokens ---- */

struct prefix;
struct prefix *prefix_new(struct kv *kv, int32_t slots);
void prefix_free(struct prefix *p); /* before its kv */
/* The page of KERN_PAGE tokens behind slot `up` (-1 = at the beginning): its
 * slot, or -1. A slot stays while somebody holds its page. */
int32_t prefix_find(struct prefix *p, uint64_t version, int32_t up,
                    const uint32_t *tokens);
int32_t prefix_page(const struct prefix *p, int32_t slot);
/* Keeps a page that is filled; the slot, which may have another page of the
 * same contents. */
int32_t prefix_add(struct prefix *p, uint64_t version, int32_t up,
                   const uint32_t *tokens, int32_t page);
/* Gives the page back that was used longest ago; false = all are in use. */
bool prefix_evict(struct prefix *p);
void prefix_forget(struct prefix *p, uint64_t version);

/* ---- request: a prompt and its samples ---- */

struct req;

struct seq {
    struct req *req;
    uint32_t index;
    bool done;
    /* the cache: positions 0 … filled-1 are in it */
    int32_t *table; /* (blocks) pages */
    int32_t blocks, table_cap, filled;
    int32_t chunk;   /* rows of the step under way */
    int32_t up;      /* slot of the last page that prefix has, -1 = none */
    int32_t chained; /* pages that prefix has */
    /* the answer */
    struct tok_ids ids;
    float *logprobs;
    struct top top;
    size_t cap;
    struct tok_stream stream;
    struct buf text; /* decoded so far */
    size_t sent;     /* bytes of text given to the stream */
    enum stop_reason stop;
};

struct req {
    uint64_t id, version;
    const struct sampler *s;
    const struct render *render; /* NULL: there is none */
    const struct op_sample *op;
    struct policy policy;
    struct tok_ids prompt;
    uint32_t max_new;
    bool prefilled; /* sample 0 has the prompt: the others may begin */
    bool forks;     /* and has since this step */
    float *prompt_lp;
    struct top prompt_top;
    struct seq *seq; /* (op->n) */
    int64_t start_us;
    struct req *next;
};

/* render: NULL = the sampler's. room: positions that a sequence can have. NULL
 * and what is wrong. */
struct req *req_new(const struct sampler *s, const struct policy *p,
                    const struct render *render, const struct op_sample *op,
                    int32_t room, struct err *err);
void req_free(struct req *r);
bool req_is_done(const struct req *r);
/* Moves the answers out. */
void req_result(struct req *r, struct result *res);

int32_t seq_len(const struct seq *q); /* prompt and answer */
uint32_t seq_token(const struct seq *q, int32_t pos);
/* Draws the next token from the row behind the last one, and takes it. */
void seq_draw(struct seq *q, const float *logits, float lse);
/* What the row at a prompt's position tells of the next token. */
void req_prompt_row(struct req *r, int32_t pos, const float *logits, float lse,
                    float logprob);

#endif
