/*
 * pool: persistent threads that spin for a moment and then sleep.
 * A run is a generation number; threads that see a new one take tasks from a
 * shared counter until it is spent. Invariants: a run's fields are written
 * before `gen` is raised and read after it is seen; a run ends only when every
 * thread that joined it has left (active == 0).
 */
#include "kernels/cpu/cpu.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define POOL_SPINS 4000 /* some 20 us */

struct pool {
    int threads, started;
    pthread_t ids[CPU_THREADS_MAX];
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    atomic_uint gen;
    bool stop;
    /* the current run */
    pool_fn *fn;
    void *arg;
    atomic_int n, next, active;
};

struct pool_start {
    struct pool *pool;
    int index;
};

static inline void pool_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static void pool_take(struct pool *p, int thread) {
    int i;
    while ((i = atomic_fetch_add(&p->next, 1)) < p->n)
        p->fn(p->arg, i, thread);
}

static unsigned pool_wait_gen(struct pool *p, unsigned seen) {
    for (int i = 0; i < POOL_SPINS; i++) {
        if (atomic_load(&p->gen) != seen)
            break;
        pool_pause();
    }
    pthread_mutex_lock(&p->lock);
    while (atomic_load(&p->gen) == seen && !p->stop)
        pthread_cond_wait(&p->work, &p->lock);
    unsigned gen = atomic_load(&p->gen);
    /* Joins under the lock, so that a run cannot end between. */
    if (!p->stop && atomic_load(&p->next) < p->n)
        atomic_fetch_add(&p->active, 1);
    else
        gen |= 1u << 31; /* nothing left to join */
    pthread_mutex_unlock(&p->lock);
    return gen;
}

static void *pool_main(void *arg) {
    struct pool_start s = *(struct pool_start *)arg;
    struct pool *p = s.pool;
    free(arg);
    unsigned seen = 0;
    for (;;) {
        unsigned gen = pool_wait_gen(p, seen);
        seen = gen & ~(1u << 31);
        if (gen == seen) {
            pool_take(p, s.index);
            pthread_mutex_lock(&p->lock);
            if (atomic_fetch_sub(&p->active, 1) == 1)
                pthread_cond_signal(&p->done);
            pthread_mutex_unlock(&p->lock);
        }
        pthread_mutex_lock(&p->lock);
        bool stop = p->stop;
        pthread_mutex_unlock(&p->lock);
        if (stop)
            return NULL;
    }
}

struct pool *pool_new(int threads) {
    struct pool *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->threads = threads;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->work, NULL);
    pthread_cond_init(&p->done, NULL);
    return p;
}

void pool_free(struct pool *p) {
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < p->started; i++)
        pthread_join(p->ids[i], NULL);
    pthread_cond_destroy(&p->work);
    pthread_cond_destroy(&p->done);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

int pool_threads(const struct pool *p) { return p->threads; }

/* Threads that cannot be made are done without. */
static void pool_start(struct pool *p) {
    while (p->started < p->threads - 1) {
        struct pool_start *s = malloc(sizeof *s);
        if (s)
            *s = (struct pool_start){p, p->started + 1};
        if (!s || pthread_create(&p->ids[p->started], NULL, pool_main, s)) {
            free(s);
            p->threads = p->started + 1;
            return;
        }
        p->started++;
    }
}

void pool_run(struct pool *p, int n, pool_fn *fn, void *arg) {
    if (n <= 1 || p->threads == 1) {
        for (int i = 0; i < n; i++)
            fn(arg, i, 0);
        return;
    }
    pool_start(p);
    pthread_mutex_lock(&p->lock);
    p->fn = fn;
    p->arg = arg;
    p->n = n;
    atomic_store(&p->next, 0);
    atomic_store(&p->gen, (atomic_load(&p->gen) + 1) & ~(1u << 31));
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    pool_take(p, 0);
    for (int i = 0; i < POOL_SPINS && atomic_load(&p->active) > 0; i++)
        pool_pause();
    pthread_mutex_lock(&p->lock);
    p->n = 0; /* nobody joins any more */
    while (atomic_load(&p->active) > 0)
        pthread_cond_wait(&p->done, &p->lock);
    pthread_mutex_unlock(&p->lock);
}
