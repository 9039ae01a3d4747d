/*
 * client - talks to a fettle daemon over its Unix socket, and starts one when
 * none runs (as tmux does). What the CLI, the TUI's actions and every recipe
 * use; it knows nothing of models or stores.
 *
 * A call retries through a daemon restart (connection errors and retryable
 * statuses, for at most CLIENT_RETRY_MS) so that killing the daemon is not
 * seen by who calls. Every mutating call is idempotent on the daemon's side.
 * Errors of the daemon come back with their own code and message.
 * One client is used by one thread; open several for several.
 */
#ifndef FETTLE_CORE_CLIENT_H
#define FETTLE_CORE_CLIENT_H

#include "core/wire.h"

#include <jansson.h>

#define CLIENT_RETRY_MS 300000

struct client;

struct client_opts {
    const char *home; /* absolute, from fs_home() */
    bool no_start;    /* UNAVAILABLE instead of starting a daemon */
    int retry_ms;     /* 0 = CLIENT_RETRY_MS; -1 = never retry */
};

struct client *client_open(const struct client_opts *opts, struct err *err);
void client_close(struct client *c);

/* One JSON exchange on a route of core/daemon.h. `body` is borrowed, NULL =
 * none. Returns the answer, the caller's; NULL and the daemon's error. */
json_t *client_call(struct client *c, const char *method, const char *path,
                    const json_t *body, struct err *err);

/* Makes a training model for run `run` (0 = none); its id into model[]. The
 * same (run, op) again gives the same id. op->model is filled by the daemon. */
int client_create(struct client *c, int64_t run, const struct op_create *create,
                  char model[WIRE_NAME_MAX], struct err *err);
/* Returns when the op is in the journal. Again with the same (model, seq)
 * and the same bytes: fine; other bytes: CONFLICT. */
int client_submit(struct client *c, const struct op *op, struct err *err);
/* Waits for the result of (model, seq); result_release() it. */
int client_wait(struct client *c, const char *model, uint64_t seq,
                struct result *res, struct err *err);

/* An unordered op (OP_SAMPLE with seq 0, OP_LOGPROBS) on TARGET: a model's
 * name, a checkpoint's id, a promoted or a deployment's name. `partial` may be
 * NULL; it is called with text as it is sampled and returns false to stop. */
typedef bool client_partial_fn(void *arg, uint32_t index, const char *text);
int client_run(struct client *c, const char *target, const struct op *op,
               client_partial_fn *partial, void *arg, struct result *res,
               struct err *err);

#endif
