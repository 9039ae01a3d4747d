/*
 * sched: the running batch.
 * A sequence is its prompt and answer so far; rows `filled` … len-1 are to be
 * computed, and the last one's logits give the next token. A step takes one
 * row of every sequence that answers, then pieces of prompts, up to the
 * budget.
 * Invariants: 1. sequences are ordered by (arrival, index), and only a younger
 * one's pages are taken away, so the oldest always goes on; 2. what is
 * computed anew has the bits that it had; 3. samples 1 … n-1 begin when sample
 * 0 has the prompt, on its pages; 4. callbacks come only out of sched_step().
 */
#include "core/sample/int.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SCHED_BUDGET 512
#define SCHED_SEATS 256 /* sequences of a step */

/* What a row of the head is for. */
struct use {
    struct seq *q;
    int32_t pos;
    bool draws; /* else it tells of a prompt token */
};

struct sched {
    struct sched_opts o;
    const struct conf *c;
    struct kv *kv;
    struct prefix *prefix; /* NULL = none */
    struct req *first, **end;
    uint64_t turn; /* version of the last step */
    struct sched_stats stats;
    /* of one step */
    struct seq *seat[SCHED_SEATS];
    int32_t n_seats, n_rows;
    int32_t *tokens, *seq, *pos, *rows, *targets; /* (budget) */
    bool *full;                                   /* (budget) */
    float *logprobs;                              /* (budget) */
    struct use *use;                              /* (budget) */
    int32_t *table;                               /* (table_cap) */
    size_t table_cap;
};

struct sched *sched_new(const struct sched_opts *o, struct err *err) {
    struct sched *s = calloc(1, sizeof *s);
    CHECK(s && o->done, "a scheduler without an end");
    s->o = *o;
    s->c = model_conf(o->s.model);
    s->end = &s->first;
    if (s->o.budget < 1)
        s->o.budget = SCHED_BUDGET;
    if (s->o.chunk < 1)
        s->o.chunk = s->o.budget;
    size_t n = (size_t)s->o.budget;
    s->tokens = calloc(5 * n, sizeof *s->tokens);
    s->full = calloc(n, sizeof *s->full);
    s->logprobs = calloc(n, sizeof *s->logprobs);
    s->use = calloc(n, sizeof *s->use);
    CHECK(s->tokens && s->full && s->logprobs && s->use,
          "out of memory for a step");
    s->seq = s->tokens + n;
    s->pos = s->tokens + 2 * n;
    s->rows = s->tokens + 3 * n;
    s->targets = s->tokens + 4 * n;
    s->kv = kv_new(o->s.model, o->s.kern, o->pages, err);
    if (!s->kv) {
        sched_free(s);
        return NULL;
    }
    if (!o->no_prefix)
        s->prefix = prefix_new(s->kv, o->pages);
    return s;
}

void sched_free(struct sched *s) {
    if (!s)
        return;
    for (struct req *r = s->first, *next; r; r = next) {
        next = r->next;
        req_free(r);
    }
    prefix_free(s->prefix);
    kv_free(s->kv);
    free(s->tokens);
    free(s->full);
    free(s->logprobs);
    free(s->use);
    free(s->table);
    free(s);
}

int sched_add(struct sched *s, uint64_t id, uint64_t version,
              const struct policy *policy, const struct render *render,
              const struct op_sample *op, struct err *err) {
    int64_t room = (int64_t)s->o.pages * KERN_PAGE;
    struct req *r = req_new(&s->o.s, policy, render, op,
                            room < INT32_MAX ? (int32_t)room : INT32_MAX, err);
    if (!r)
        return -1;
    r->id = id;
    r->version = version;
    *s->end = r;
    s->end = &r->next;
    s->stats.prompt += (int64_t)r->prompt.n;
    return 0;
}

static void req_cancel(struct req *r) {
    for (uint32_t i = 0; i < r->op->n; i++)
        if (!r->seq[i].done) {
            r->seq[i].done = true;
            r->seq[i].stop = STOP_CANCELED;
        }
}

void sched_cancel(struct sched *s, uint64_t id) {
    for (struct req *r = s->first; r; r = r->next)
        if (r->id == id)
            req_cancel(r);
}

void sched_cancel_all(struct sched *s) {
    for (struct req *r = s->first; r; r = r->next)
        req_cancel(r);
}

bool sched_uses(const struct sched *s, uint64_t version) {
    for (const struct req *r = s->first; r; r = r->next)
        if (r->version == version)
            return true;
    return false;
}

void sched_forget(struct sched *s, uint64_t version) {
    CHECK(!sched_uses(s, version), "weights %llu are in use",
          (unsigned long long)version);
    if (s->prefix)
        prefix_forget(s->prefix, version);
}

struct sched_stats sched_stats(const struct sched *s) {
    struct sched_stats st = s->stats;
    st.pages = s->o.pages;
    st.pages_left = kv_left(s->kv);
    return st;
}

/* ---- pages ---- */

static void seq_drop_pages(struct sched *s, struct seq *q) {
    for (int32_t i = 0; i < q->blocks; i++)
        kv_drop(s->kv, q->table[i]);
    q->blocks = q->filled = q->chained = q->chunk = 0;
    q->up = -1;
}

/* The youngest behind q that holds pages gives them back. */
static bool preempt(struct sched *s, const struct seq *q) {
    struct seq *victim = NULL;
    bool behind = false;
    for (struct req *r = s->first; r; r = r->next)
        for (uint32_t i = 0; i < r->op->n; i++) {
            if (behind && r->seq[i].blocks > 0)
                victim = &r->seq[i];
            behind |= &r->seq[i] == q;
        }
    if (!victim)
        return false;
    seq_drop_pages(s, victim);
    s->stats.preempted++;
    return true;
}

static void table_push(struct seq *q, int32_t page) {
    if (q->blocks == q->table_cap) {
        q->table_cap = q->table_cap ? 2 * q->table_cap : 8;
        q->table = realloc(q->table, (size_t)q->table_cap * sizeof *q->table);
        CHECK(q->table, "out of memory for a block table");
    }
    q->table[q->blocks++] = page;
}

static bool seq_page(struct sched *s, struct seq *q) {
    int32_t page;
    while ((page = kv_take(s->kv)) < 0)
        if (!(s->prefix && prefix_evict(s->prefix)) && !preempt(s, q))
            return false;
    table_push(q, page);
    return true;
}

/* Pages for positions below `upto`. */
static bool seq_pages(struct sched *s, struct seq *q, int32_t upto) {
    while ((int64_t)q->blocks * KERN_PAGE < upto)
        if (!seq_page(s, q))
            return false;
    return true;
}

static bool tells_of_prompt(const struct seq *q) {
    const struct req *r = q->req;
    return q->index == 0 && (r->prompt_lp || r->prompt_top.k);
}

static void page_tokens(const struct seq *q, int32_t page,
                        uint32_t out[KERN_PAGE]) {
    for (int32_t i = 0; i < KERN_PAGE; i++)
        out[i] = seq_token(q, page * KERN_PAGE + i);
}

/* At its beginning: the pages that somebody has filled before; not the last
 * row, whose logits are wanted. */
static void seq_reuse(struct sched *s, struct seq *q) {
    uint32_t tokens[KERN_PAGE];
    int32_t whole = (seq_len(q) - 1) / KERN_PAGE;
    if (!s->prefix || q->blocks > 0 || tells_of_prompt(q))
        return;
    while (q->blocks < whole) {
        page_tokens(q, q->blocks, tokens);
        int32_t slot = prefix_find(s->prefix, q->req->version, q->up, tokens);
        if (slot < 0)
            break;
        int32_t page = prefix_page(s->prefix, slot);
        kv_share(s->kv, page);
        table_push(q, page);
        q->up = slot;
    }
    q->chained = q->blocks;
    q->filled = q->blocks * KERN_PAGE;
    if (q->ids.n == 0)
        s->stats.reused += q->filled;
}

/* Gives the pages that are full by now to the prefix cache; where it has the
 * same already, that one is used from here on. */
static void seq_chain(struct sched *s, struct seq *q) {
    uint32_t tokens[KERN_PAGE];
    for (; s->prefix && (q->chained + 1) * KERN_PAGE <= q->filled;
         q->chained++) {
        int32_t *page = &q->table[q->chained];
        page_tokens(q, q->chained, tokens);
        q->up = prefix_add(s->prefix, q->req->version, q->up, tokens, *page);
        int32_t kept = prefix_page(s->prefix, q->up);
        if (kept == *page)
            continue;
        kv_share(s->kv, kept);
        kv_drop(s->kv, *page);
        *page = kept;
    }
}

/* Sample `to` takes over the prompt of sample 0: whole pages are shared, the
 * last, part full, is copied. Without pages it computes the prompt itself. */
static int seq_fork(struct sched *s, struct seq *to, const struct seq *from,
                    struct err *err) {
    int32_t n = (int32_t)to->req->prompt.n, whole = n / KERN_PAGE;
    if (to->done || to->blocks > 0 || from->filled < n)
        return 0;
    for (int32_t i = 0; i < whole; i++) {
        kv_share(s->kv, from->table[i]);
        table_push(to, from->table[i]);
    }
    if (n % KERN_PAGE && !seq_page(s, to)) {
        seq_drop_pages(s, to);
        return 0;
    }
    to->filled = n;
    to->up = from->up;
    to->chained = from->chained;
    if (n % KERN_PAGE == 0)
        return 0;
    return kv_copy(s->kv, to->table[whole], from->table[whole], err);
}

/* ---- planning a step ---- */

static bool seq_is_ready(const struct seq *q, uint64_t version) {
    return !q->done && q->req->version == version &&
           (q->index == 0 || q->req->prefilled);
}

static void seats_fill(struct sched *s, uint64_t version) {
    s->n_seats = 0;
    for (struct req *r = s->first; r; r = r->next)
        for (uint32_t i = 0; i < r->op->n; i++)
            if (s->n_seats < SCHED_SEATS && seq_is_ready(&r->seq[i], version))
                s->seat[s->n_seats++] = &r->seq[i];
}

/* Makes room for `rows` more rows of q in this step; what it got. */
static int32_t seq_grant(struct sched *s, struct seq *q, int32_t rows) {
    int32_t most = s->o.chunk - q->chunk;
    rows = rows < most ? rows : most;
    if (rows <= 0 || !seq_pages(s, q, q->filled + q->chunk + rows))
        return 0;
    q->chunk += rows;
    return rows;
}

static int32_t seq_wants(const struct seq *q) {
    return seq_len(q) - q->filled - q->chunk;
}

/* Answers first, one row each; then prompts by equal shares of whole pages,
 * so that a long one does not keep a short one waiting; then what is left in
 * their order. */
static void plan(struct sched *s) {
    int32_t left = s->o.budget, waiting = 0;
    for (int32_t i = 0; i < s->n_seats; i++) {
        struct seq *q = s->seat[i];
        seq_reuse(s, q);
        if (seq_wants(q) == 1 && left > 0)
            left -= seq_grant(s, q, 1);
        else
            waiting++;
    }
    int32_t share = waiting ? left / waiting / KERN_PAGE * KERN_PAGE : 0;
    if (share < KERN_PAGE)
        share = KERN_PAGE;
    for (int pass = 0; pass < 2; pass++)
        for (int32_t i = 0; i < s->n_seats && left > 0; i++) {
            struct seq *q = s->seat[i];
            int32_t want = seq_wants(q), most = pass ? left : share;
            if (q->filled == 0 && q->blocks == 0) /* preempted just now */
                seq_reuse(s, q);
            most = most < left ? most : left;
            left -= seq_grant(s, q, want < most ? want : most);
        }
}

/* Versions with something to do, in turn: the least above the last one. */
static bool next_version(const struct sched *s, uint64_t after, uint64_t *v) {
    bool above = false, any = false;
    for (const struct req *r = s->first; r; r = r->next) {
        bool is_above = r->version > after;
        if (!any || (is_above && !above) ||
            (is_above == above && r->version < *v))
            *v = r->version;
        above |= is_above;
        any = true;
    }
    return any;
}

/* ---- a step ---- */

static void add_row(struct sched *s, struct seq *q, int32_t at, int32_t pos) {
    bool draws = pos == seq_len(q) - 1;
    bool tells = tells_of_prompt(q) && pos + 1 < (int32_t)q->req->prompt.n;
    if (!draws && !tells)
        return;
    int32_t i = s->n_rows++;
    s->rows[i] = at;
    s->use[i] = (struct use){q, pos, draws};
    s->full[i] = draws || q->req->prompt_top.k;
    s->targets[i] = draws ? 0 : (int32_t)seq_token(q, pos + 1);
}

static int32_t *table_room(struct sched *s, size_t cells) {
    if (cells > s->table_cap) {
        s->table_cap = 2 * cells;
        s->table = realloc(s->table, s->table_cap * sizeof *s->table);
        CHECK(s->table, "out of memory for block tables");
    }
    return s->table;
}

static struct net_step build(struct sched *s) {
    struct net_step st = {.tokens = s->tokens,
                          .seq = s->seq,
                          .pos = s->pos,
                          .rows = s->rows,
                          .targets = s->targets,
                          .logprobs = s->logprobs,
                          .full = s->full,
                          .arg = s};
    int32_t n = 0;
    for (int32_t i = 0; i < s->n_seats; i++) {
        struct seq *q = s->seat[i];
        if (q->chunk == 0)
            continue;
        s->seat[n++] = q;
        st.max_blocks = q->blocks > st.max_blocks ? q->blocks : st.max_blocks;
    }
    s->n_seats = st.n_seq = n;
    s->n_rows = 0;
    st.table = table_room(s, (size_t)n * (size_t)st.max_blocks);
    for (int32_t i = 0; i < n; i++) {
        struct seq *q = s->seat[i];
        int32_t *row = s->table + (int64_t)i * st.max_blocks;
        memset(row, 0, (size_t)st.max_blocks * sizeof *row);
        memcpy(row, q->table, (size_t)q->blocks * sizeof *row);
        for (int32_t p = q->filled; p < q->filled + q->chunk; p++) {
            s->tokens[st.T] = (int32_t)seq_token(q, p);
            s->seq[st.T] = i;
            s->pos[st.T] = p;
            add_row(s, q, st.T++, p);
        }
    }
    st.n_rows = s->n_rows;
    return st;
}

static void on_row(void *arg, int32_t i, const float *logits, float lse,
                   float logprob) {
    struct sched *s = arg;
    const struct use *u = &s->use[i];
    struct req *r = u->q->req;
    if (!u->draws) {
        req_prompt_row(r, u->pos, logits, lse, logprob);
        return;
    }
    seq_draw(u->q, logits, lse);
    if (u->q->index != 0 || r->prefilled)
        return;
    r->prefilled = r->forks = true; /* all samples begin at this row */
    for (uint32_t k = 1; k < r->op->n; k++)
        seq_draw(&r->seq[k], logits, lse);
}

/* Behind the rows: pages are known by their tokens, samples fork. */
static int settle(struct sched *s, struct err *err) {
    int rc = 0;
    for (int32_t i = 0; i < s->n_seats; i++) {
        struct seq *q = s->seat[i];
        s->stats.tokens += q->chunk;
        q->filled += q->chunk;
        q->chunk = 0;
        seq_chain(s, q);
    }
    for (int32_t i = 0; i < s->n_seats; i++) {
        struct req *r = s->seat[i]->req;
        for (uint32_t k = 1; r->forks && k < r->op->n && rc == 0; k++)
            rc = seq_fork(s, &r->seq[k], &r->seq[0], err);
        r->forks = false;
    }
    return rc;
}

/* Takes a request out of the list at *at and tells its end. */
static void finish(struct sched *s, struct req **at, const struct err *err) {
    struct req *r = *at;
    struct result res = {0};
    if (!(*at = r->next))
        s->end = at;
    for (uint32_t i = 0; i < r->op->n; i++)
        seq_drop_pages(s, &r->seq[i]);
    if (!err)
        req_result(r, &res);
    uint64_t id = r->id;
    req_free(r); /* before the op's owner learns of it */
    s->o.done(s->o.s.arg, id, &res, err);
}

static bool is_seated(const struct sched *s, const struct req *r) {
    for (int32_t i = 0; i < s->n_seats; i++)
        if (s->seat[i]->req == r)
            return true;
    return false;
}

/* Samples that are done free their pages, requests that are done end. */
static void sweep(struct sched *s, const struct err *failed) {
    for (struct req **at = &s->first; *at;) {
        struct req *r = *at;
        bool lost = failed && is_seated(s, r);
        if (lost || req_is_done(r)) {
            finish(s, at, lost ? failed : NULL);
            continue;
        }
        for (uint32_t i = 0; i < r->op->n; i++)
            if (r->seq[i].done)
                seq_drop_pages(s, &r->seq[i]);
        at = &r->next;
    }
    s->n_seats = 0;
}

/* Plans for one version after the other until one has rows. */
static bool choose(struct sched *s) {
    uint64_t first, v;
    if (!next_version(s, s->turn, &first))
        return false;
    v = first;
    do {
        seats_fill(s, v);
        plan(s);
        for (int32_t i = 0; i < s->n_seats; i++)
            if (s->seat[i]->chunk > 0) {
                s->turn = v;
                return true;
            }
        next_version(s, v, &v);
    } while (v != first);
    CHECK(false, "no sequence can go on");
    return false;
}

bool sched_step(struct sched *s) {
    struct err err = {0};
    sweep(s, NULL); /* what was cancelled */
    if (!choose(s))
        return false;
    struct net_step st = build(s);
    st.row = on_row;
    int rc = net_step(s->o.s.net, &s->seat[0]->req->policy, s->kv, &st, &err);
    if (rc == 0)
        rc = settle(s, &err);
    s->stats.steps++;
    sweep(s, rc < 0 ? &err : NULL);
    return s->first != NULL;
}
