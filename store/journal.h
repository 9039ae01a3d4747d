/*
 * journal - training models and their ops: the record from which a model is
 * rebuilt bit for bit after a crash (DESIGN §3). state(model) = its snapshot,
 * or nothing, then the ops after it in seq order, the first being seq 0.
 *
 * (model, seq) is recorded once. A retry with the same hash is recognised;
 * another hash is STORE_CONFLICT. Payloads and results above 1 MiB are files
 * in DIR/journal, committed before the row that names them; nobody outside
 * sees the difference.
 *
 *     store_begin(st);
 *     store_tmodel_add(st, run, "Qwen/Qwen3-0.6B", sha, now, id);
 *     store_op_put(st, &(struct store_op){.model = id, .seq = 0}, &is_new);
 *     store_commit(st);                        // now acknowledge
 *     store_op_result(st, id, 0, &(struct store_result){.data = r, …}, now);
 *     store_snapshot_commit(st, id, 120, "m1/120"); // frees payloads 0 … 120
 *
 * Handle, errors, memory and threads: store/store.h.
 */
#ifndef FETTLE_STORE_JOURNAL_H
#define FETTLE_STORE_JOURNAL_H

#include "store/store.h"

#define STORE_SHA_LEN 32

enum store_tmodel_state {
    STORE_TMODEL_LIVE,   /* restored when the daemon starts */
    STORE_TMODEL_CLOSED, /* for good: its payloads are dropped */
    STORE_TMODEL_FAILED, /* cannot be rebuilt; error says why */
    STORE_TMODEL_STATES
};
const char *store_tmodel_state_name(enum store_tmodel_state s);

struct store_tmodel {
    const char *id;   /* "m1" */
    int64_t run;      /* 0 = none (an SDK's) */
    const char *base; /* base model's name */
    enum store_tmodel_state state;
    const char *error;
    int64_t next_seq;     /* lowest seq that is not in the journal */
    int64_t applied_seq;  /* all up to it have a result, -1 = none */
    int64_t snapshot_seq; /* -1 = none */
    const char *snapshot_dir;
    int64_t created_us;
};
struct store_tmodels {
    int n;
    struct store_tmodel *row;
    void *mem;
};
/* Mints an id. With a run: the same (run, sha) again gives the id that it gave
 * before; sha is of the create op as the client sent it. */
int store_tmodel_add(struct store *st, int64_t run, const char *base,
                     const uint8_t sha[STORE_SHA_LEN], int64_t now_us,
                     char id[STORE_NAME_MAX]);
int store_tmodel_state(struct store *st, const char *id,
                       enum store_tmodel_state state, const char *error);
/* All with this state (-1 = any) in order of creation; or one. */
int store_tmodels(struct store *st, int state, struct store_tmodels *rows);
int store_tmodel_get(struct store *st, const char *id,
                     struct store_tmodels *rows);
void store_tmodels_free(struct store_tmodels *rows);

enum store_op_status {
    STORE_OP_PENDING,
    STORE_OP_DONE,
    STORE_OP_FAILED,
    STORE_OP_STATUSES
};

/* The result of an op: bytes, or an error's code and text. */
struct store_result {
    enum store_op_status status; /* DONE or FAILED */
    const void *data;
    size_t len;
    const char *code, *error; /* of FAILED: wire name, message */
};

struct store_op {
    const char *model;
    int64_t seq;
    int kind; /* the wire's number; the store does not look into it */
    uint8_t sha[STORE_SHA_LEN];
    const void *payload; /* NULL once a snapshot made it unneeded */
    size_t payload_len;
    int64_t created_us;
    /* filled by reads */
    struct store_result result;
    bool is_fetched; /* a client has read the result */
    bool is_expired; /* the result was dropped by store_results_drop() */
};

/* Commits before the caller acknowledges. *is_new (may be NULL) is false for
 * a retry with the same sha. Any seq, also ahead of next_seq. */
int store_op_put(struct store *st, const struct store_op *op, bool *is_new);
/* The first result of an op stays; another is ignored. */
int store_op_result(struct store *st, const char *model, int64_t seq,
                    const struct store_result *r, int64_t now_us);
int store_op_fetched(struct store *st, const char *model, int64_t seq);
/* Takes the error of a FAILED op back: it is pending again. NOTFOUND when it
 * has not failed, or its payload is gone. */
int store_op_retry(struct store *st, const char *model, int64_t seq);

struct store_ops {
    int n;
    struct store_op *row;
    void *mem;
};
/* One op with payload and result, or STORE_NOTFOUND. Its sha is not verified
 * here: who executes the bytes hashes them. */
int store_op_get(struct store *st, const char *model, int64_t seq,
                 struct store_ops *rows);
void store_ops_free(struct store_ops *rows);
/* Calls fn for every op with seq > after in seq order, payload included,
 * result bytes not (status is); it may stop by returning false. *op is valid
 * during the call, which must not use st. */
typedef bool store_op_fn(void *arg, const struct store_op *op);
int store_ops_after(struct store *st, const char *model, int64_t after,
                    store_op_fn *fn, void *arg);
/* Failed ops whose result no client has read, without bytes: these become
 * alerts. */
int store_ops_unread_errors(struct store *st, struct store_ops *rows);

/* Records that state(model) after op seq is in directory `dir`, and in the
 * same transaction drops the payloads of ops ≤ seq that have a result (those
 * that get theirs later are dropped then). The caller removes the directory
 * of the snapshot before, after this returned. */
int store_snapshot_commit(struct store *st, const char *model, int64_t seq,
                          const char *dir);
/* Drops result bytes of ops that were finished before `before_us` and that a
 * snapshot covers, or whose model is closed; hash, status and error stay. */
int store_results_drop(struct store *st, int64_t before_us);

#endif
