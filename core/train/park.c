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

static bool park_same(const struct parked *s, const struct trainer *tr,
                      const struct pack *p) {
    return s->is_parked && s->owner == tr && s->T == p->T &&
           s->n_seq == p->n_seq &&
           memcmp(s->tokens, p->tokens, (size_t)p->T * sizeof *p->tokens) ==
               0 &&
           memcmp(s->start, p->start,
                  ((size_t)p->n_seq + 1) * sizeof *p->start) == 0;
}

struct parked *park_find(struct trainer *tr, const struct pack *p) {
    struct parked *s = tr->buffers->park;
    for (int i = 0; i < TRAIN_SLOTS; i++)
        if (park_same(&s[i], tr, p))
            return &s[i];
    return NULL;
}

static int64_t park_bytes(const struct trainer *tr, const struct pack *p) {
    int32_t R = tr->adapter ? tr->adapter->conf.rank : 0;
    return net_bytes(model_conf(tr->model), p->T, R, p->k, true).keep;
}

static int64_t park_held(const struct buffers *b) {
    int64_t n = 0;
    for (int i = 0; i < TRAIN_SLOTS; i++)
        n += b->park[i].bytes;
    return n;
}

/* Free ones first, then a new one while memory lasts, then the oldest. */
static struct parked *park_pick(struct buffers *b, int64_t need) {
    struct parked *old = &b->park[0], *s = old;
    for (; s < b->park + TRAIN_SLOTS && s->net; s++) {
        if (!s->is_parked)
            return s;
        if (s->tick < old->tick)
            old = s;
    }
    bool room = park_held(b) + need <= b->park_max;
    return s < b->park + TRAIN_SLOTS && room ? s : old;
}

struct parked *park_take(struct trainer *tr, const struct pack *p, bool *keep,
                         struct err *err) {
    struct buffers *b = tr->buffers;
    int64_t need = park_bytes(tr, p);
    struct parked *s = park_pick(b, need);
    if (!s->net && !(s->net = net_new(tr->model, tr->kern, err)))
        return NULL;
    s->is_parked = false;
    if (!*keep)
        *keep =
            need <= s->bytes || park_held(b) - s->bytes + need <= b->park_max;
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
    s->owner = tr;
    s->tick = ++tr->buffers->tick;
}

void park_drop(struct trainer *tr) {
    struct parked *s = tr->buffers->park;
    for (int i = 0; i < TRAIN_SLOTS; i++)
        if (s[i].owner == tr)
            s[i].is_parked = false;
}

struct buffers *buffers_new(const struct model *m, struct kern *k,
                            int64_t park_max, struct err *err) {
    struct buffers *b = calloc(1, sizeof *b);
    CHECK(b, "out of memory for a trainer");
    b->refs = 1;
    b->park_max = park_max;
    b->park[0].net = net_new(m, k, err);
    return b;
}

void buffers_drop(struct buffers *b) {
    if (!b || --b->refs > 0)
        return;
    for (int i = 0; i < TRAIN_SLOTS; i++) {
        net_free(b->park[i].net);
        free(b->park[i].tokens);
        free(b->park[i].start);
    }
    free(b);
}

void trainer_share(struct trainer *tr, struct trainer *with) {
    CHECK(tr->model == with->model && tr->kern == with->kern,
          "buffers of another model or device");
    park_drop(tr);
    with->buffers->refs++;
    buffers_drop(tr->buffers);
    tr->buffers = with->buffers;
}

void trainer_park(struct trainer *tr, int64_t bytes) {
    tr->buffers->park_max = bytes;
}

int64_t trainer_forwards(const struct trainer *tr) { return tr->forwards; }

struct net *trainer_net(struct trainer *tr) {
    tr->buffers->park[0].is_parked = false;
    return tr->buffers->park[0].net;
}
