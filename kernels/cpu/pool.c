/*
 * pool: persistent threads, one run of numbered tasks at a time. Every thread
 * has a share of them, neighbouring numbers, so that run after run it meets
 * the memory that it has written before; with its share done it takes over
 * tasks of the others', so that one that loses its core delays its own task
 * only. Between runs a thread spins for a moment and then sleeps.
 *
 * Invariants:
 * 1. A share's `ticket` is the run's number << 32 | tasks left. A task is taken
 *    by a compare-and-swap of ticket - 1; who succeeds holds a task of the
 *    current run, so that fn, arg and the share cannot change under him.
 * 2. `pending` counts the tasks not finished. pool_run returns, and the next
 *    run is written, only when it is 0.
 * 3. A thread that finds no task touches only tickets, runs and sleepers: none
 *    has to wake for a run that the others have finished.
 */
#include "kernels/cpu/cpu.h"

#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define POOL_SPIN_NS 20000 /* longer would steal the core from somebody */
#define POOL_LEFT UINT64_C(0xffffffff)

/* Tasks … end-1 of a run, the last `left` of them not taken. */
struct pool_share {
    _Alignas(64) _Atomic uint64_t ticket;
    int end;
};

struct pool_thread {
    struct pool *pool;
    pthread_t id;
    int index;
};

struct pool {
    int threads, started; /* wanted, with the caller; running, without him */
    struct pool_thread *others;
    struct pool_share *shares; /* one a thread, of those wanted at first */
    int n_shares;
    pool_fn *fn;
    void *arg;
    atomic_bool is_closing;
    /* Each on a cache line of its own. */
    _Alignas(64) atomic_uint pending; /* futex of the caller */
    _Alignas(64) atomic_uint runs;    /* futex of the others */
    atomic_uint sleepers;             /* on runs */
};

static void futex_wait(atomic_uint *at, unsigned seen) {
    syscall(SYS_futex, at, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

static void futex_wake(atomic_uint *at, int count) {
    syscall(SYS_futex, at, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

static int64_t pool_now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline void pool_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

/* Returns true as soon as *at is not `seen`, false after POOL_SPIN_NS. */
static bool pool_spin(atomic_uint *at, unsigned seen) {
    int64_t end = pool_now_ns() + POOL_SPIN_NS;
    do {
        for (int i = 0; i < 32; i++) {
            if (atomic_load(at) != seen)
                return true;
            pool_pause();
        }
    } while (pool_now_ns() < end);
    return false;
}

/* Runs a share's tasks until none is left to take. */
static void pool_take(struct pool *p, struct pool_share *s, int thread) {
    uint64_t t = atomic_load(&s->ticket);
    while ((t & POOL_LEFT) != 0) {
        if (!atomic_compare_exchange_weak(&s->ticket, &t, t - 1))
            continue;
        p->fn(p->arg, s->end - (int)(t & POOL_LEFT), thread);
        if (atomic_fetch_sub(&p->pending, 1) == 1)
            futex_wake(&p->pending, 1);
        t = atomic_load(&s->ticket);
    }
}

static void pool_work(struct pool *p, int thread) {
    for (int i = 0; i < p->n_shares; i++)
        pool_take(p, &p->shares[(thread + i) % p->n_shares], thread);
}

static void *pool_main(void *arg) {
    struct pool_thread *me = arg;
    struct pool *p = me->pool;
    for (;;) {
        unsigned seen = atomic_load(&p->runs);
        pool_work(p, me->index);
        if (atomic_load(&p->is_closing))
            return NULL;
        if (pool_spin(&p->runs, seen))
            continue;
        atomic_fetch_add(&p->sleepers, 1);
        futex_wait(&p->runs, seen);
        atomic_fetch_sub(&p->sleepers, 1);
    }
}

struct pool *pool_new(int threads) {
    struct pool *p = cpu_aligned(sizeof *p);
    if (!p)
        return NULL;
    *p = (struct pool){.threads = threads, .n_shares = threads};
    p->others = calloc((size_t)threads, sizeof *p->others);
    size_t bytes = (size_t)threads * sizeof *p->shares;
    p->shares = cpu_aligned(bytes);
    if (!p->others || !p->shares) {
        free(p->shares);
        free(p->others);
        free(p);
        return NULL;
    }
    memset(p->shares, 0, bytes);
    return p;
}

/* Raises `runs`; between a thread's look at it and its sleep, the futex sees
 * that it changed. */
static void pool_announce(struct pool *p) {
    atomic_fetch_add(&p->runs, 1);
    if (atomic_load(&p->sleepers) > 0)
        futex_wake(&p->runs, p->threads);
}

void pool_free(struct pool *p) {
    if (!p)
        return;
    atomic_store(&p->is_closing, true);
    pool_announce(p);
    for (int i = 0; i < p->started; i++)
        pthread_join(p->others[i].id, NULL);
    free(p->shares);
    free(p->others);
    free(p);
}

int pool_threads(const struct pool *p) { return p->threads; }

/* Threads that cannot be made are done without. */
static void pool_start(struct pool *p) {
    while (p->started < p->threads - 1) {
        struct pool_thread *t = &p->others[p->started];
        *t = (struct pool_thread){.pool = p, .index = p->started + 1};
        if (pthread_create(&t->id, NULL, pool_main, t) != 0) {
            p->threads = p->started + 1;
            return;
        }
        p->started++;
    }
}

void pool_run(struct pool *p, int n, pool_fn *fn, void *arg) {
    if (n > 1)
        pool_start(p);
    if (n <= 1 || p->threads == 1) {
        for (int i = 0; i < n; i++)
            fn(arg, i, 0);
        return;
    }
    p->fn = fn;
    p->arg = arg;
    atomic_store(&p->pending, (unsigned)n);
    uint64_t run = (atomic_load(&p->shares[0].ticket) >> 32) + 1;
    for (int i = 0, first = 0; i < p->threads; i++) {
        struct pool_share *s = &p->shares[i];
        s->end = (int)((int64_t)n * (i + 1) / p->threads);
        atomic_store(&s->ticket, run << 32 | (unsigned)(s->end - first));
        first = s->end;
    }
    pool_announce(p);
    pool_work(p, 0);
    unsigned left;
    while ((left = atomic_load(&p->pending)) != 0)
        if (!pool_spin(&p->pending, left))
            futex_wait(&p->pending, left);
}
