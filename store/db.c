/*
 * db - statements, transactions, errors.
 *
 * Invariants:
 * 1. A statement is reset before its public call returns, so no read
 *    transaction outlives a call and the log can always flow back.
 * 2. Only the STORE_WRITE handle writes or checkpoints. SQLite before 3.51.3
 *    can damage a WAL file when two connections do; here there is one.
 * 3. A commit is acknowledged after SQLite synced the log; only then are the
 *    high-water mark written and doomed files removed.
 */
#include "store/db.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define WAL_PASSIVE 1000 /* pages in the log at which it flows back */
#define WAL_RESTART 4096 /* pages at which it should start anew */

/* ---- errors ---- */

int db_err(struct store *st, int status, const char *fmt, ...) {
    va_list ap;
    int used = 0;
    if (st->doing)
        used = snprintf(st->msg, sizeof st->msg, "%s: ", st->doing);
    va_start(ap, fmt);
    vsnprintf(st->msg + used, sizeof st->msg - (size_t)used, fmt, ap);
    va_end(ap);
    return status;
}

static const struct {
    int sqlite;
    int status;
    const char *advice; /* NULL = none */
} codes[] = {
    {SQLITE_BUSY, STORE_BUSY, "another program holds its lock; try again"},
    {SQLITE_LOCKED, STORE_BUSY, "it is locked; try again"},
    {SQLITE_INTERRUPT, STORE_BUSY, "took too long and was given up"},
    {SQLITE_FULL, STORE_NOSPACE, "nothing was written; free some space"},
    {SQLITE_CORRUPT, STORE_CORRUPT, NULL},
    {SQLITE_NOTADB, STORE_CORRUPT, NULL},
    {SQLITE_READONLY, STORE_PERM, "check permissions and the mount"},
    {SQLITE_CANTOPEN, STORE_PERM, "check permissions of it and its directory"},
    {SQLITE_PERM, STORE_PERM, "check permissions"},
    {SQLITE_AUTH, STORE_PERM, NULL},
    {SQLITE_NOMEM, STORE_NOMEM, NULL},
    {SQLITE_IOERR, STORE_IO, "look at the disk and at dmesg"},
    {SQLITE_TOOBIG, STORE_INVAL, "a text or blob is above 64 MiB"},
};

/* An I/O error for want of space is no broken disk. */
static int io_status(struct store *st, int status) {
    int e = sqlite3_system_errno(st->db);
    if (status == STORE_IO && (e == ENOSPC || e == EDQUOT))
        return STORE_NOSPACE;
    return status;
}

int db_sqlite_err(struct store *st, int rc) {
    int status = STORE_BUG;
    const char *advice = NULL;
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
        if (codes[i].sqlite == (rc & 0xff)) {
            status = io_status(st, codes[i].status);
            advice = codes[i].advice;
        }
    if (status == STORE_CORRUPT) {
        st->dead = STORE_CORRUPT;
        return db_err(st, status,
                      "%s is damaged: %s (nothing is written to it any more; "
                      "`fettle doctor` lists the damage, `sqlite3 %s .recover` "
                      "prints what can be saved)",
                      st->path, sqlite3_errmsg(st->db), st->path);
    }
    if (status == STORE_IO && st->mode == STORE_WRITE)
        st->dead = STORE_IO;
    if (status == STORE_NOSPACE)
        return db_err(st, status,
                      "%s: no space left on the disk (nothing was written; "
                      "free some space)",
                      st->path);
    return db_err(st, status, "%s: %s%s%s%s", st->path, sqlite3_errmsg(st->db),
                  advice ? " (" : "", advice ? advice : "", advice ? ")" : "");
}

int db_sys_err(struct store *st, int errnum, const char *path) {
    int status = STORE_IO;
    if (errnum == ENOSPC || errnum == EDQUOT)
        status = STORE_NOSPACE;
    else if (errnum == EACCES || errnum == EPERM || errnum == EROFS)
        status = STORE_PERM;
    else if (errnum == ENOENT)
        status = STORE_NOTFOUND;
    else if (errnum == ENOMEM)
        status = STORE_NOMEM;
    return db_err(st, status, "%s: %s", path, strerror(errnum));
}

/* ---- statements ---- */

static int64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Every literal has its slot, found by its address. */
static struct stmt_slot *slot_of(struct store *st, const char *sql) {
    size_t i = ((uintptr_t)sql * 0x9e3779b97f4a7c15u) >> 48;
    for (int tries = 0; tries < STMT_SLOTS; tries++, i++) {
        struct stmt_slot *s = &st->slot[i & (STMT_SLOTS - 1)];
        if (!s->sql || s->sql == sql)
            return s;
    }
    return NULL;
}

static int prepare(struct store *st, sqlite3_stmt **q, const char *sql) {
    struct stmt_slot *s = slot_of(st, sql);
    if (!s || (s->stmt && sqlite3_stmt_busy(s->stmt)))
        return db_err(st, STORE_BUG, "statement not free: %s", sql);
    if (!s->stmt) {
        int rc = sqlite3_prepare_v3(st->db, sql, -1, SQLITE_PREPARE_PERSISTENT,
                                    &s->stmt, NULL);
        if (rc != SQLITE_OK)
            return db_sqlite_err(st, rc);
        s->sql = sql;
    }
    *q = s->stmt;
    return STORE_OK;
}

static int bind_blob(sqlite3_stmt *q, int i, va_list *ap) {
    const void *p = va_arg(*ap, const void *);
    size_t len = va_arg(*ap, size_t);
    return sqlite3_bind_blob64(q, i, p ? p : "", len, SQLITE_STATIC);
}

static int bind_one(sqlite3_stmt *q, int i, char type, va_list *ap) {
    const char *s;
    switch (type) {
    case 'l': return sqlite3_bind_int64(q, i, va_arg(*ap, int64_t));
    case 'd': return sqlite3_bind_int(q, i, va_arg(*ap, int));
    case 'f': return sqlite3_bind_double(q, i, va_arg(*ap, double));
    case 's':
        s = va_arg(*ap, const char *);
        return sqlite3_bind_text(q, i, s ? s : "", -1, SQLITE_STATIC);
    case 'b': return bind_blob(q, i, ap);
    case 'n': return sqlite3_bind_null(q, i);
    }
    return SQLITE_MISUSE;
}

static int query_v(struct store *st, sqlite3_stmt **q, const char *sql,
                   const char *types, va_list *ap) {
    int rc = prepare(st, q, sql);
    if (rc < 0)
        return rc;
    for (int i = 0; types[i]; i++) {
        int b = bind_one(*q, i + 1, types[i], ap);
        if (b != SQLITE_OK) {
            rc = db_sqlite_err(st, b);
            db_end(*q);
            return rc;
        }
    }
    return STORE_OK;
}

int db_query(struct store *st, sqlite3_stmt **q, const char *sql,
             const char *types, ...) {
    va_list ap;
    va_start(ap, types);
    int rc = query_v(st, q, sql, types, &ap);
    va_end(ap);
    return rc;
}

int db_next(struct store *st, sqlite3_stmt *q) {
    int rc = sqlite3_step(q);
    if (rc == SQLITE_ROW)
        return 1;
    int status = rc == SQLITE_DONE ? 0 : db_sqlite_err(st, rc);
    db_end(q);
    return status;
}

void db_end(sqlite3_stmt *q) {
    sqlite3_reset(q);
    sqlite3_clear_bindings(q);
}

static int run_all(struct store *st, sqlite3_stmt *q) {
    int rc;
    while ((rc = db_next(st, q)) == 1)
        ;
    return rc;
}

int db_exec(struct store *st, const char *sql, const char *types, ...) {
    sqlite3_stmt *q;
    va_list ap;
    va_start(ap, types);
    int rc = query_v(st, &q, sql, types, &ap);
    va_end(ap);
    return rc < 0 ? rc : run_all(st, q);
}

int db_int(struct store *st, int64_t *v, const char *sql, const char *types,
           ...) {
    sqlite3_stmt *q;
    va_list ap;
    va_start(ap, types);
    int rc = query_v(st, &q, sql, types, &ap);
    va_end(ap);
    if (rc < 0)
        return rc;
    rc = db_next(st, q);
    if (rc == 0)
        return db_err(st, STORE_NOTFOUND, "nothing there");
    if (rc < 0)
        return rc;
    *v = sqlite3_column_int64(q, 0);
    db_end(q);
    return STORE_OK;
}

int db_script(struct store *st, const char *sql) {
    int rc = sqlite3_exec(st->db, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? STORE_OK : db_sqlite_err(st, rc);
}

int db_changes(struct store *st) { return sqlite3_changes(st->db); }

double db_real(sqlite3_stmt *q, int col) {
    if (sqlite3_column_type(q, col) == SQLITE_NULL)
        return NAN;
    return sqlite3_column_double(q, col);
}

/* ---- transactions ---- */

void read_enter(struct store *st, const char *doing) {
    st->doing = doing;
    st->deadline_ms = st->read_ms > 0 ? now_ms() + st->read_ms : 0;
}

static int may_write(struct store *st) {
    if (st->mode != STORE_WRITE)
        return db_err(st, STORE_PERM, "the store is open for reading only");
    if (st->dead)
        return db_err(st, st->dead,
                      "an earlier error of %s stopped all writing (close the "
                      "store and open it again)",
                      st->path);
    if (st->tx_lost)
        return db_err(st, STORE_IO,
                      "the transaction was undone by an earlier error");
    return STORE_OK;
}

/* Undoes without touching the message of what went wrong. */
static void quiet(struct store *st, const char *sql) {
    sqlite3_exec(st->db, sql, NULL, NULL, NULL);
}

/* SQLite may abort the whole transaction on its own when the disk fails. */
static void note_lost(struct store *st) {
    if (st->in_tx && sqlite3_get_autocommit(st->db))
        st->tx_lost = true;
}

/* The high-water mark lets the next start notice that the log was deleted:
 * store.db alone looks fine then, only older. No fsync: it may lag. */
static void hwm_write(struct store *st) {
    int64_t rec[2] = {st->commits, 0};
    rec[1] = blob_sum(rec, sizeof rec[0]);
    if (st->hwm_fd >= 0 && pwrite(st->hwm_fd, rec, sizeof rec, 0) < 0)
        return; /* it lags then, and notices less */
}

void db_checkpoint(struct store *st) {
    int mode = st->wal_pages > WAL_RESTART ? SQLITE_CHECKPOINT_RESTART
                                           : SQLITE_CHECKPOINT_PASSIVE;
    sqlite3_busy_timeout(st->db, 0); /* readers are not waited for */
    sqlite3_wal_checkpoint_v2(st->db, NULL, mode, NULL, NULL);
    sqlite3_busy_timeout(st->db, 5000);
    st->wal_tried = st->wal_pages;
}

/* Once a log that readers hold back has been tried, it is tried again after
 * as many pages more, not at every commit. */
static void checkpoint_if_due(struct store *st) {
    if (st->wal_pages < st->wal_tried)
        st->wal_tried = 0;
    if (st->wal_pages - st->wal_tried >= WAL_PASSIVE)
        db_checkpoint(st);
}

static int count_commit(struct store *st) {
    return db_exec(st, "UPDATE meta SET value=value+1 WHERE key='commits'", "");
}

static int commit(struct store *st) {
    enum tx_end end = TX_UNDONE;
    int rc = count_commit(st);
    if (rc == 0) {
        rc = db_exec(st, "COMMIT", "");
        end = rc == 0 ? TX_COMMITTED : TX_UNKNOWN;
    }
    if (rc == 0) {
        st->commits++;
        hwm_write(st);
    } else {
        quiet(st, "ROLLBACK");
    }
    blobs_settle(st, end);
    if (rc == 0)
        checkpoint_if_due(st);
    return rc;
}

int store_begin(struct store *st) {
    st->doing = "begin a transaction";
    int rc = may_write(st);
    if (rc < 0)
        return rc;
    if (st->in_tx)
        return db_err(st, STORE_BUG, "one is open already");
    rc = db_exec(st, "BEGIN IMMEDIATE", "");
    if (rc == 0)
        st->in_tx = true;
    return rc;
}

int store_commit(struct store *st) {
    st->doing = "commit";
    if (!st->in_tx)
        return db_err(st, STORE_BUG, "no transaction is open");
    int rc = may_write(st);
    if (rc < 0) {
        char keep[sizeof st->msg];
        memcpy(keep, st->msg, sizeof keep);
        store_rollback(st);
        memcpy(st->msg, keep, sizeof keep);
        return rc;
    }
    st->in_tx = false;
    return commit(st);
}

void store_rollback(struct store *st) {
    if (!st->in_tx)
        return;
    quiet(st, "ROLLBACK");
    st->in_tx = st->tx_lost = false;
    blobs_settle(st, TX_UNDONE);
}

int tx_enter(struct store *st, const char *doing) {
    st->doing = doing;
    int rc = may_write(st);
    if (rc < 0)
        return rc;
    st->born_mark = st->born.n;
    st->doomed_mark = st->doomed.n;
    return st->in_tx ? db_exec(st, "SAVEPOINT call", "")
                     : db_exec(st, "BEGIN IMMEDIATE", "");
}

int tx_leave(struct store *st, int rc) {
    if (rc >= 0)
        rc = st->in_tx ? db_exec(st, "RELEASE call", "") : commit(st);
    else if (st->in_tx) {
        note_lost(st);
        if (!st->tx_lost)
            quiet(st, "ROLLBACK TO call; RELEASE call");
        blobs_undo(st);
    } else {
        quiet(st, "ROLLBACK");
        blobs_settle(st, TX_UNDONE);
    }
    return rc;
}

/* ---- shared checks ---- */

bool is_digits(const char *s) { return *s && s[strspn(s, "0123456789")] == 0; }

int name_check(struct store *st, const char *what, const char *name) {
    size_t len = name ? strlen(name) : 0;
    if (len == 0)
        return db_err(st, STORE_INVAL, "%s is empty", what);
    if (len >= STORE_NAME_MAX)
        return db_err(st, STORE_INVAL, "%s has %zu bytes, may have %d", what,
                      len, STORE_NAME_MAX - 1);
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f)
            return db_err(st, STORE_INVAL, "%s has a control character", what);
    return STORE_OK;
}

int handle_check(struct store *st, const char *what, const char *name) {
    int rc = name_check(st, what, name);
    if (rc < 0)
        return rc;
    if (strchr(name, '/') || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return db_err(st, STORE_INVAL, "%s '%s' must not contain '/'", what,
                      name);
    if (is_digits(name))
        return db_err(st, STORE_INVAL,
                      "%s '%s' must not be only digits: that is a run's number",
                      what, name);
    return STORE_OK;
}

int run_check(struct store *st, int64_t run) {
    int64_t one;
    int rc = db_int(st, &one, "SELECT 1 FROM run WHERE id=?", "l", run);
    if (rc == STORE_NOTFOUND)
        return db_err(st, rc, "no run %lld", (long long)run);
    return rc;
}
