/*
 * ops - training models and the op journal.
 *
 * Invariants:
 * 1. An op's row and its payload are committed together (a payload's file
 *    before the row), so what is acknowledged can be replayed.
 * 2. Payload and sha never change; the first result of an op stays.
 * 3. A payload is dropped only when a snapshot covers its op and the op has a
 *    result, or the model is closed. The row stays: (model, seq) is used up.
 */
#include "store/journal.h"
#include "store/db.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INLINE_MAX ((size_t)1 << 20)

enum place { PLACE_NONE, PLACE_ROW, PLACE_FILE };

#define FILE_NAME_CAP 64

/* ---- ids ---- */

static const char *const state_names[STORE_TMODEL_STATES] = {
    [STORE_TMODEL_LIVE] = "live",
    [STORE_TMODEL_CLOSED] = "closed",
    [STORE_TMODEL_FAILED] = "failed",
};

const char *store_tmodel_state_name(enum store_tmodel_state s) {
    return (unsigned)s < STORE_TMODEL_STATES ? state_names[s] : "unknown";
}

static int no_tmodel(struct store *st, const char *id) {
    return db_err(st, STORE_NOTFOUND, "no training model '%s'", id ? id : "");
}

/* "m12" is row 12. */
static int tmodel_number(struct store *st, const char *id, int64_t *n) {
    if (!id || id[0] != 'm' || !is_digits(id + 1) || id[1] == '0' ||
        strlen(id) > 18)
        return no_tmodel(st, id);
    *n = strtoll(id + 1, NULL, 10);
    return STORE_OK;
}

static void file_name(char out[FILE_NAME_CAP], int64_t model, int64_t seq,
                      const char *kind) {
    snprintf(out, FILE_NAME_CAP, "m%lld-%lld.%s", (long long)model,
             (long long)seq, kind);
}

/* ---- dropping what is not needed any more ---- */

/* Dooms the file of every (model, seq) that q gives, to its end. */
static int doom_all(struct store *st, sqlite3_stmt *q, const char *kind) {
    char name[FILE_NAME_CAP];
    int rc;
    while ((rc = db_next(st, q)) == 1) {
        file_name(name, sqlite3_column_int64(q, 0), sqlite3_column_int64(q, 1),
                  kind);
        rc = blob_doom(st, name);
        if (rc < 0) {
            db_end(q);
            return rc;
        }
    }
    return rc;
}

/* Payloads of ops up to seq; of unfinished ones only when `all`. The two
 * conditions on place are for the index, which knows place>0 alone. */
#define SQL_DROPPED " WHERE model=? AND seq<=? AND place>0 AND (status>0 OR ?)"

static int payloads_drop(struct store *st, int64_t model, int64_t seq,
                         bool all) {
    sqlite3_stmt *q;
    int rc =
        db_query(st, &q, "SELECT model,seq FROM op" SQL_DROPPED " AND place=2",
                 "lld", model, seq, (int)all);
    if (rc == 0)
        rc = doom_all(st, q, "op");
    if (rc < 0)
        return rc;
    return db_exec(st, "UPDATE op SET place=0,payload=NULL" SQL_DROPPED, "lld",
                   model, seq, (int)all);
}

/* Results that nobody can need: of ops under a snapshot or a closed model. */
#define SQL_EXPIRED \
    "op WHERE result_place>0 AND done_us<? AND seq<=(SELECT" \
    " iif(state=1,op.seq,snapshot_seq) FROM tmodel WHERE n=op.model)"

static int results_drop(struct store *st, int64_t before_us) {
    sqlite3_stmt *q;
    int rc = db_query(
        st, &q, "SELECT model,seq FROM " SQL_EXPIRED " AND result_place=2", "l",
        before_us);
    if (rc == 0)
        rc = doom_all(st, q, "res");
    if (rc < 0)
        return rc;
    return db_exec(st,
                   "UPDATE op SET result_place=0,result=NULL,is_expired=1"
                   " WHERE rowid IN (SELECT rowid FROM " SQL_EXPIRED ")",
                   "l", before_us);
}

int store_results_drop(struct store *st, int64_t before_us) {
    int rc = tx_enter(st, "drop old results");
    return rc < 0 ? rc : tx_leave(st, results_drop(st, before_us));
}

#define SQL_OF_RUN "model IN (SELECT n FROM tmodel WHERE run=?)"

int ops_forget(struct store *st, int64_t run) {
    sqlite3_stmt *q;
    int rc = db_query(st, &q,
                      "SELECT model,seq FROM op WHERE place=2 AND " SQL_OF_RUN,
                      "l", run);
    if (rc == 0)
        rc = doom_all(st, q, "op");
    if (rc == 0)
        rc = db_query(st, &q,
                      "SELECT model,seq FROM op WHERE result_place=2"
                      " AND " SQL_OF_RUN,
                      "l", run);
    if (rc == 0)
        rc = doom_all(st, q, "res");
    if (rc == 0)
        rc = db_exec(st, "DELETE FROM op WHERE " SQL_OF_RUN, "l", run);
    if (rc == 0)
        rc = db_exec(st, "DELETE FROM tmodel WHERE run=?", "l", run);
    return rc;
}

/* ---- training models ---- */

static int tmodel_insert(struct store *st, int64_t run, const char *base,
                         const uint8_t *sha, int64_t now_us, int64_t *n) {
    int rc = name_check(st, "the base model's name", base);
    if (rc == 0 && run > 0)
        rc = run_check(st, run);
    if (rc < 0)
        return rc;
    rc = db_int(st, n, "SELECT n FROM tmodel WHERE run=? AND sha=? AND run>0",
                "lb", run, (const void *)sha, (size_t)STORE_SHA_LEN);
    if (rc != STORE_NOTFOUND)
        return rc;
    rc = db_exec(st,
                 "INSERT INTO tmodel(run,base,sha,state,error,next_seq,"
                 "applied_seq,snapshot_seq,snapshot_dir,created_us)"
                 " VALUES(?,?,?,0,'',0,-1,-1,'',?)",
                 "lsbl", run, base, (const void *)sha, (size_t)STORE_SHA_LEN,
                 now_us);
    *n = sqlite3_last_insert_rowid(st->db);
    return rc;
}

int store_tmodel_add(struct store *st, int64_t run, const char *base,
                     const uint8_t sha[STORE_SHA_LEN], int64_t now_us,
                     char id[STORE_NAME_MAX]) {
    int64_t n = 0;
    id[0] = 0;
    int rc = tx_enter(st, "make training model");
    if (rc < 0)
        return rc;
    rc = tx_leave(st, tmodel_insert(st, run, base, sha, now_us, &n));
    if (rc == 0)
        snprintf(id, STORE_NAME_MAX, "m%lld", (long long)n);
    return rc;
}

static int tmodel_set_state(struct store *st, const char *id,
                            enum store_tmodel_state state, const char *error) {
    int64_t n;
    int rc = tmodel_number(st, id, &n);
    if (rc == 0)
        rc = db_exec(st, "UPDATE tmodel SET state=?,error=? WHERE n=?", "dsl",
                     (int)state, error, n);
    if (rc == 0 && db_changes(st) == 0)
        rc = no_tmodel(st, id);
    if (rc == 0 && state == STORE_TMODEL_CLOSED)
        rc = payloads_drop(st, n, INT64_MAX, true);
    return rc;
}

int store_tmodel_state(struct store *st, const char *id,
                       enum store_tmodel_state state, const char *error) {
    int rc = tx_enter(st, "set state of training model");
    return rc < 0 ? rc : tx_leave(st, tmodel_set_state(st, id, state, error));
}

#define TMODEL_COLUMNS \
    "SELECT 'm'||n,run,base,state,error,next_seq,applied_seq,snapshot_seq," \
    "snapshot_dir,created_us FROM tmodel "

static void tmodel_row(struct rows *r, sqlite3_stmt *q, void *row) {
    *(struct store_tmodel *)row = (struct store_tmodel){
        .id = rows_text(r, q, 0),
        .run = sqlite3_column_int64(q, 1),
        .base = rows_text(r, q, 2),
        .state = (enum store_tmodel_state)sqlite3_column_int(q, 3),
        .error = rows_text(r, q, 4),
        .next_seq = sqlite3_column_int64(q, 5),
        .applied_seq = sqlite3_column_int64(q, 6),
        .snapshot_seq = sqlite3_column_int64(q, 7),
        .snapshot_dir = rows_text(r, q, 8),
        .created_us = sqlite3_column_int64(q, 9),
    };
}

static int tmodels_read(struct store *st, sqlite3_stmt *q,
                        struct store_tmodels *rows) {
    struct rows r = {0};
    int rc = rows_read(st, q, &r, sizeof(struct store_tmodel), tmodel_row);
    ROWS_MOVE(rows, &r);
    return rc;
}

int store_tmodels(struct store *st, int state, struct store_tmodels *rows) {
    sqlite3_stmt *q;
    *rows = (struct store_tmodels){0};
    read_enter(st, "list training models");
    int rc = db_query(
        st, &q, TMODEL_COLUMNS "WHERE ?1<0 OR state=?1 ORDER BY n", "d", state);
    return rc < 0 ? rc : tmodels_read(st, q, rows);
}

int store_tmodel_get(struct store *st, const char *id,
                     struct store_tmodels *rows) {
    sqlite3_stmt *q;
    int64_t n;
    *rows = (struct store_tmodels){0};
    read_enter(st, "find training model");
    int rc = tmodel_number(st, id, &n);
    if (rc == 0)
        rc = db_query(st, &q, TMODEL_COLUMNS "WHERE n=?", "l", n);
    if (rc == 0)
        rc = tmodels_read(st, q, rows);
    return rc == 0 && rows->n == 0 ? no_tmodel(st, id) : rc;
}

void store_tmodels_free(struct store_tmodels *rows) { ROWS_FREE(rows); }

/* ---- putting ops ---- */

/* Where bytes go; writes the file when they are for one. */
static int place_bytes(struct store *st, int64_t model, int64_t seq,
                       const char *kind, const void *p, size_t len,
                       enum place *place) {
    char name[FILE_NAME_CAP];
    *place = len > INLINE_MAX ? PLACE_FILE : PLACE_ROW;
    if (*place == PLACE_ROW)
        return STORE_OK;
    file_name(name, model, seq, kind);
    return blob_write(st, name, p, len);
}

/* next_seq passes over what is there already. */
static int next_seq_advance(struct store *st, int64_t model, int64_t seq) {
    int64_t next, one;
    int rc =
        db_int(st, &next, "SELECT next_seq FROM tmodel WHERE n=?", "l", model);
    if (rc < 0 || seq != next)
        return rc;
    do
        rc = db_int(st, &one, "SELECT 1 FROM op WHERE model=? AND seq=?", "ll",
                    model, ++next);
    while (rc == 0);
    if (rc != STORE_NOTFOUND)
        return rc;
    return db_exec(st, "UPDATE tmodel SET next_seq=? WHERE n=?", "ll", next,
                   model);
}

static int op_insert(struct store *st, const struct store_op *op,
                     int64_t model) {
    enum place place;
    int rc = place_bytes(st, model, op->seq, "op", op->payload, op->payload_len,
                         &place);
    if (rc == 0)
        rc = db_exec(
            st,
            "INSERT INTO op(model,seq,kind,sha,place,len,sum,payload,"
            "created_us) VALUES(?,?,?,?,?,?,?,?,?)",
            "lldbdllbl", model, op->seq, op->kind, (const void *)op->sha,
            (size_t)STORE_SHA_LEN, (int)place, (int64_t)op->payload_len,
            blob_sum(op->payload, op->payload_len),
            place == PLACE_ROW ? op->payload : NULL,
            place == PLACE_ROW ? op->payload_len : (size_t)0, op->created_us);
    return rc < 0 ? rc : next_seq_advance(st, model, op->seq);
}

/* 1 = there with this sha, 0 = not there. */
static int op_known(struct store *st, const struct store_op *op,
                    int64_t model) {
    int64_t same;
    int rc =
        db_int(st, &same, "SELECT sha=? FROM op WHERE model=? AND seq=?", "bll",
               (const void *)op->sha, (size_t)STORE_SHA_LEN, model, op->seq);
    if (rc == STORE_NOTFOUND)
        return 0;
    if (rc == 0 && !same)
        return db_err(st, STORE_CONFLICT, "%s already has another op %lld",
                      op->model, (long long)op->seq);
    return rc < 0 ? rc : 1;
}

static int op_put(struct store *st, const struct store_op *op, bool *is_new) {
    int64_t model, live;
    int rc = tmodel_number(st, op->model, &model);
    if (rc == 0 && op->seq < 0)
        rc = db_err(st, STORE_INVAL, "no seq %lld", (long long)op->seq);
    if (rc == 0)
        rc = op_known(st, op, model);
    if (rc != 0)
        return rc;
    *is_new = true;
    rc = db_int(st, &live, "SELECT state=0 FROM tmodel WHERE n=?", "l", model);
    if (rc == STORE_NOTFOUND)
        return no_tmodel(st, op->model);
    if (rc == 0 && !live)
        return db_err(st, STORE_CONFLICT, "training model %s is not live",
                      op->model);
    return rc < 0 ? rc : op_insert(st, op, model);
}

int store_op_put(struct store *st, const struct store_op *op, bool *is_new) {
    bool fresh = false;
    int rc = tx_enter(st, "journal op");
    if (rc < 0)
        return rc;
    rc = tx_leave(st, op_put(st, op, &fresh));
    if (is_new)
        *is_new = fresh;
    return rc;
}

/* ---- snapshots ---- */

static int snapshot_commit(struct store *st, const char *id, int64_t seq,
                           const char *dir) {
    int64_t model, applied;
    int rc = tmodel_number(st, id, &model);
    if (rc == 0)
        rc = db_int(st, &applied,
                    "SELECT snapshot_seq<=?2 AND next_seq>?2 FROM tmodel"
                    " WHERE n=?1",
                    "ll", model, seq);
    if (rc == STORE_NOTFOUND)
        return no_tmodel(st, id);
    if (rc == 0 && !applied)
        rc = db_err(st, STORE_CONFLICT,
                    "a snapshot of %s at op %lld is older than the last, or "
                    "ahead of the journal",
                    id, (long long)seq);
    if (rc == 0)
        rc = db_exec(st,
                     "UPDATE tmodel SET snapshot_seq=?,snapshot_dir=?"
                     " WHERE n=?",
                     "lsl", seq, dir, model);
    return rc < 0 ? rc : payloads_drop(st, model, seq, false);
}

int store_snapshot_commit(struct store *st, const char *model, int64_t seq,
                          const char *dir) {
    int rc = tx_enter(st, "record snapshot");
    return rc < 0 ? rc : tx_leave(st, snapshot_commit(st, model, seq, dir));
}

/* ---- results ---- */

static int result_update(struct store *st, int64_t model, int64_t seq,
                         const struct store_result *r, int64_t now_us) {
    enum place place;
    int64_t covered;
    bool failed = r->status == STORE_OP_FAILED;
    int rc = place_bytes(st, model, seq, "res", r->data, r->len, &place);
    if (rc == 0)
        rc = db_exec(
            st,
            "UPDATE op SET status=?,result_place=?,result_len=?,"
            "result_sum=?,result=?,code=?,error=?,done_us=?"
            " WHERE model=? AND seq=?",
            "ddllbsslll", (int)r->status, (int)place, (int64_t)r->len,
            blob_sum(r->data, r->len), place == PLACE_ROW ? r->data : NULL,
            place == PLACE_ROW ? r->len : (size_t)0, failed ? r->code : "",
            failed ? r->error : "", now_us, model, seq);
    if (rc == 0)
        rc = db_exec(st,
                     "UPDATE tmodel SET applied_seq=max(applied_seq,?)"
                     " WHERE n=?",
                     "ll", seq, model);
    if (rc == 0)
        rc = db_int(st, &covered, "SELECT snapshot_seq FROM tmodel WHERE n=?",
                    "l", model);
    return rc < 0 ? rc : payloads_drop(st, model, covered, false);
}

static int op_result(struct store *st, const char *id, int64_t seq,
                     const struct store_result *r, int64_t now_us) {
    int64_t model, status;
    int rc = tmodel_number(st, id, &model);
    if (rc == 0 && r->status != STORE_OP_DONE && r->status != STORE_OP_FAILED)
        rc = db_err(st, STORE_INVAL, "a result is done or failed");
    if (rc < 0)
        return rc;
    rc = db_int(st, &status, "SELECT status FROM op WHERE model=? AND seq=?",
                "ll", model, seq);
    if (rc == STORE_NOTFOUND)
        return db_err(st, rc, "%s has no op %lld", id, (long long)seq);
    if (rc < 0 || status != STORE_OP_PENDING)
        return rc;
    return result_update(st, model, seq, r, now_us);
}

int store_op_result(struct store *st, const char *model, int64_t seq,
                    const struct store_result *r, int64_t now_us) {
    int rc = tx_enter(st, "record result");
    return rc < 0 ? rc : tx_leave(st, op_result(st, model, seq, r, now_us));
}

int store_op_fetched(struct store *st, const char *model, int64_t seq) {
    int64_t n;
    int rc = tx_enter(st, "mark result as read");
    if (rc < 0)
        return rc;
    rc = tmodel_number(st, model, &n);
    if (rc == 0)
        rc = db_exec(st, "UPDATE op SET is_fetched=1 WHERE model=? AND seq=?",
                     "ll", n, seq);
    if (rc == 0 && db_changes(st) == 0)
        rc = db_err(st, STORE_NOTFOUND, "%s has no op %lld", model,
                    (long long)seq);
    return tx_leave(st, rc);
}

static int op_retry(struct store *st, const char *id, int64_t seq) {
    int64_t model;
    int rc = tmodel_number(st, id, &model);
    if (rc == 0)
        rc = db_exec(st,
                     "UPDATE op SET status=0,code='',error='',done_us=0,"
                     "is_fetched=0 WHERE model=? AND seq=? AND status=2"
                     " AND place>0",
                     "ll", model, seq);
    if (rc == 0 && db_changes(st) == 0)
        return db_err(st, STORE_NOTFOUND, "%s has no op %lld to do again", id,
                      (long long)seq);
    return rc < 0 ? rc
                  : db_exec(st,
                            "UPDATE tmodel SET applied_seq=min(applied_seq,?)"
                            " WHERE n=?",
                            "ll", seq - 1, model);
}

int store_op_retry(struct store *st, const char *model, int64_t seq) {
    int rc = tx_enter(st, "do an op again");
    return rc < 0 ? rc : tx_leave(st, op_retry(st, model, seq));
}

/* ---- reading ops ---- */

#define OP_COLUMNS \
    "SELECT model,seq,kind,sha,created_us,status,code,error,is_fetched," \
    "is_expired,place,len,sum,payload,result_place,result_len,result_sum," \
    "result FROM op "

static void op_row(struct rows *r, sqlite3_stmt *q, void *row) {
    struct store_op *op = row;
    char *id = rows_alloc(r, 24);
    if (!id)
        return;
    snprintf(id, 24, "m%lld", (long long)sqlite3_column_int64(q, 0));
    *op = (struct store_op){
        .model = id,
        .seq = sqlite3_column_int64(q, 1),
        .kind = sqlite3_column_int(q, 2),
        .created_us = sqlite3_column_int64(q, 4),
        .result = {.status = (enum store_op_status)sqlite3_column_int(q, 5),
                   .code = rows_text(r, q, 6),
                   .error = rows_text(r, q, 7)},
        .is_fetched = sqlite3_column_int(q, 8) != 0,
        .is_expired = sqlite3_column_int(q, 9) != 0,
    };
    if (sqlite3_column_bytes(q, 3) == STORE_SHA_LEN)
        memcpy(op->sha, sqlite3_column_blob(q, 3), STORE_SHA_LEN);
}

/* Reads bytes that begin at column col: place, len, sum, blob. */
static int load_bytes(struct store *st, sqlite3_stmt *q, int col,
                      const char *kind, struct rows *r, const void **out,
                      size_t *out_len) {
    int place = sqlite3_column_int(q, col);
    int64_t len = sqlite3_column_int64(q, col + 1);
    char name[FILE_NAME_CAP];
    int rc = STORE_OK;
    if (place == PLACE_NONE)
        return STORE_OK;
    file_name(name, sqlite3_column_int64(q, 0), sqlite3_column_int64(q, 1),
              kind);
    if (place == PLACE_FILE) {
        rc = blob_read(st, name, (size_t)len, r, out);
    } else {
        const void *p = sqlite3_column_blob(q, col + 3);
        size_t have = (size_t)sqlite3_column_bytes(q, col + 3);
        char *copy = rows_alloc(r, have + 1);
        if (!copy)
            return db_err(st, STORE_NOMEM, "out of memory");
        if (have > 0)
            memcpy(copy, p, have);
        *out = copy;
        if (have != (size_t)len)
            rc = db_err(st, STORE_CORRUPT, "%s has %zu bytes, not %lld", name,
                        have, (long long)len);
    }
    if (rc == 0 &&
        blob_sum(*out, (size_t)len) != sqlite3_column_int64(q, col + 2))
        rc = db_err(st, STORE_CORRUPT, "%s in %s is damaged", name, st->path);
    *out_len = (size_t)len;
    return rc;
}

/* One row of q into a set of one. */
static int op_load(struct store *st, sqlite3_stmt *q, bool with_result,
                   struct store_ops *rows) {
    struct rows r = {0};
    struct store_op *op = calloc(1, sizeof *op);
    int rc = STORE_OK;
    if (op)
        op_row(&r, q, op);
    if (!op || r.nomem)
        rc = db_err(st, STORE_NOMEM, "out of memory");
    if (rc == 0)
        rc = load_bytes(st, q, 10, "op", &r, &op->payload, &op->payload_len);
    if (rc == 0 && with_result)
        rc =
            load_bytes(st, q, 14, "res", &r, &op->result.data, &op->result.len);
    *rows = (struct store_ops){.n = 1, .row = op, .mem = r.mem};
    if (rc < 0)
        store_ops_free(rows);
    return rc;
}

int store_op_get(struct store *st, const char *model, int64_t seq,
                 struct store_ops *rows) {
    sqlite3_stmt *q;
    int64_t n;
    *rows = (struct store_ops){0};
    read_enter(st, "read op");
    int rc = tmodel_number(st, model, &n);
    if (rc == 0)
        rc = db_query(st, &q, OP_COLUMNS "WHERE model=? AND seq=?", "ll", n,
                      seq);
    if (rc == 0)
        rc = db_next(st, q);
    if (rc < 0)
        return rc;
    if (rc == 0)
        return db_err(st, STORE_NOTFOUND, "%s has no op %lld", model,
                      (long long)seq);
    rc = op_load(st, q, true, rows);
    db_end(q);
    return rc;
}

void store_ops_free(struct store_ops *rows) { ROWS_FREE(rows); }

int store_ops_after(struct store *st, const char *model, int64_t after,
                    store_op_fn *fn, void *arg) {
    sqlite3_stmt *q;
    int64_t n;
    read_enter(st, "replay ops");
    int rc = tmodel_number(st, model, &n);
    if (rc == 0)
        rc = db_query(st, &q, OP_COLUMNS "WHERE model=? AND seq>? ORDER BY seq",
                      "ll", n, after);
    if (rc < 0)
        return rc;
    while ((rc = db_next(st, q)) == 1) {
        struct store_ops one;
        rc = op_load(st, q, false, &one);
        bool more = rc == 0 && fn(arg, one.row);
        store_ops_free(&one);
        if (!more) {
            db_end(q);
            return rc;
        }
    }
    return rc;
}

int store_ops_unread_errors(struct store *st, struct store_ops *rows) {
    sqlite3_stmt *q;
    struct rows r = {0};
    *rows = (struct store_ops){0};
    read_enter(st, "list errors");
    int rc = db_query(st, &q,
                      OP_COLUMNS "WHERE status=2 AND is_fetched=0"
                                 " ORDER BY model,seq",
                      "");
    if (rc == 0)
        rc = rows_read(st, q, &r, sizeof(struct store_op), op_row);
    ROWS_MOVE(rows, &r);
    return rc;
}

/* ---- fsck ---- */

int ops_check(struct store *st, store_report_fn *report, void *arg,
              int *findings) {
    sqlite3_stmt *q;
    int rc = db_query(st, &q, OP_COLUMNS, "");
    if (rc < 0)
        return rc;
    while ((rc = db_next(st, q)) == 1) {
        struct store_ops one;
        rc = op_load(st, q, true, &one);
        store_ops_free(&one);
        if (rc == STORE_CORRUPT) {
            report(arg, st->msg);
            ++*findings;
        } else if (rc < 0) {
            db_end(q);
            return rc;
        }
    }
    return rc;
}
