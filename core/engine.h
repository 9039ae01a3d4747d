/*
 * engine - the worker process: all model mathematics of one base model.
 *
 * Speaks the frames of core/wire.h on one socket. Three threads: one reads
 * frames, one executes the ordered ops of training models in their order, one
 * samples on immutable weights (the base, or checkpoints over it), so that a
 * deployment keeps answering while training goes on. The process dies with
 * the daemon: by PR_SET_PDEATHSIG and by the end of the socket.
 */
#ifndef FETTLE_CORE_ENGINE_H
#define FETTLE_CORE_ENGINE_H

#include "core/err.h"

struct engine_opts {
    const char *home;   /* FETTLE_HOME; checkpoints lie in home/ckpt */
    const char *name;   /* base model's registered name */
    const char *dir;    /* its directory */
    const char *device; /* "cpu" */
    int threads;        /* 0 = all cores */
    int fd;             /* the socket */
};

/* Returns after QUIT (0) or when the model cannot be served (-1, err). Ends
 * the process by itself when the daemon goes away. */
int engine_worker(const struct engine_opts *o, struct err *err);

#endif
