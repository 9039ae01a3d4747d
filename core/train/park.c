/*
 * park: activations of forward passes, kept for a backward pass over the same
 * datums (forward_backward_custom sends them twice), which then costs no
 * second forward pass. Invariant: a parked slot holds what net_pass() would
 * compute now; so whatever changes weights drops all of them, and whoever
 * uses a slot's net otherwise unparks it.
 */
#include "core/train/int.h"

#include <stdlib.h>
#include <string.h>

static bool park_same(const struct parked *s, const struct pack *p) {
    return s->is_parked && s->T == p->T && s->n_seq == p->n_seq &&
           memcmp(s->tokens, p->tokens, (size_t)p->T * sizeof *p->tokens) ==
               0 &&
           memcmp(s->start, p->start,
                  ((size_t)p->n_seq + 1) * sizeof *p->start) == 0;
}

struct parked *park_find(struct trainer *tr, const struct pack *p) {
    for (int i = 0; i < TRAIN_SLOTS; i++)
        if (park_same(&tr->park[i], p))
            return &tr->park[i];
    return NULL;
}

static int64_t park_bytes(const struct trainer *tr, const struct pack *p) {
    int32_t R = tr->adapter ? tr->adapter->conf.rank : 0;
    return net_bytes(model_conf(tr->model), p->T, R, p->k, true).keep;
}

static int64_t park_held(const struct trainer *tr) {
    int64_t n = 0;
    for (int i = 0; i < TRAIN_SLOTS; i++)
        n += tr->park[i].bytes;
    return n;
}

/* Free ones first, then a new one while memory lasts, then the oldest. */
static struct parked *park_pick(struct trainer *tr, int64_t need) {
    struct parked *old = &tr->park[0], *s = old;
    for (; s < tr->park + TRAIN_SLOTS && s->net; s++) {
        if (!s->is_parked)
            return s;
        if (s->tick < old->tick)
            old = s;
    }
    bool room = s == tr->park || park_held(tr) + need <= tr->park_max;
    return s < tr->park + TRAIN_SLOTS && room ? s : old;
}

struct parked *park_take(struct trainer *tr, const struct pack *p, bool *keep,
                         struct err *err) {
    int64_t need = park_bytes(tr, p);
    struct parked *s = park_pick(tr, need);
    if (!s->net && !(s->net = net_new(tr->model, tr->kern, err)))
        return NULL;
    s->is_parked = false;
    if (!*keep)
        *keep =
            need <= s->bytes || park_held(tr) - s->bytes + need <= tr->park_max;
    if (*keep && need > s->bytes)
        s->bytes = need;
    return s;
}

void park_mark(struct trainer *tr, struct parked *s, const struct pack *p) {
    size_t nt = (size_t)p->T * sizeof *s->tokens;
    size_t ns = ((size_t)p->n_seq + 1) * sizeof *s->start;
    s->tokens = realloc(s->tokens, nt + 1);
    s->start = realloc(s->start, ns);
    CHECK(s->tokens && s->start, "out of memory for %d tokens", p->T);
    memcpy(s->tokens, p->tokens, nt);
    memcpy(s->start, p->start, ns);
    s->T = p->T;
    s->n_seq = p->n_seq;
    s->is_parked = true;
    s->tick = ++tr->tick;
}

void park_drop(struct trainer *tr) {
    for (int i = 0; i < TRAIN_SLOTS; i++)
        tr->park[i].is_parked = false;
}

void park_release(struct trainer *tr) {
    for (int i = 0; i < TRAIN_SLOTS; i++) {
        net_free(tr->park[i].net);
        free(tr->park[i].tokens);
        free(tr->park[i].start);
    }
}

void trainer_park(struct trainer *tr, int64_t bytes) { tr->park_max = bytes; }
int64_t trainer_forwards(const struct trainer *tr) { return tr->forwards; }

struct net *trainer_net(struct trainer *tr) {
    tr->park[0].is_parked = false;
    return tr->park[0].net;
}
