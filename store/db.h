/*
 * db - private to store/: the open handle, one way to run SQL, one way to turn
 * SQLite's codes into ours, one way to collect rows.
 *
 *     int rc = tx_enter(st, "note run");
 *     if (rc < 0)
 *         return rc;
 *     rc = db_exec(st, "UPDATE run SET note=? WHERE id=?", "sl", note, run);
 *     return tx_leave(st, rc);
 *
 * SQL passed to db_query and db_exec is a literal: statements are prepared
 * once and kept by the address of their text.
 */
#ifndef FETTLE_STORE_DB_H
#define FETTLE_STORE_DB_H

#include "store/store.h"

#include <sqlite3.h>

#define STORE_APP_ID 0x66746c31 /* "ftl1", in the file's header */
#define STMT_SLOTS 512          /* a power of two, well above the literals */

struct stmt_slot {
    const char *sql;
    sqlite3_stmt *stmt;
};

/* Names of journal files, relative to the directory. */
struct names {
    char **v;
    int n, cap;
};

struct store {
    sqlite3 *db;
    enum store_mode mode;
    char *dir, *path;
    int lock_fd, hwm_fd;
    int dead;     /* status that every later write gets, 0 = healthy */
    bool in_tx;   /* the caller's transaction */
    bool tx_lost; /* SQLite rolled the caller's transaction back */
    int64_t commits;
    int wal_pages, wal_tried; /* in the log; when last checkpointed */
    int read_ms;
    int64_t deadline_ms;
    const char *doing;          /* what the public call attempts */
    struct names born;          /* files made in this transaction */
    struct names doomed;        /* files to remove once it is committed */
    int born_mark, doomed_mark; /* their lengths when the call began */
    struct stmt_slot slot[STMT_SLOTS];
    char msg[1024];
};

/* ---- errors ---- */

/* Sets "doing: fmt" as the message; returns status. */
int db_err(struct store *st, int status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* From SQLite's last error on the handle. */
int db_sqlite_err(struct store *st, int rc);
/* From errno, for a file of ours. */
int db_sys_err(struct store *st, int errnum, const char *path);

/* ---- statements ---- */

/* Prepares (or finds) and binds: types is one letter an argument: l int64_t,
 * d int, f double (NaN becomes NULL), s text (NULL becomes ""), b const void *
 * and size_t, n nothing (NULL). */
int db_query(struct store *st, sqlite3_stmt **q, const char *sql,
             const char *types, ...);
/* 1 = a row, 0 = no more, negative = status; resets q unless it gave a row. */
int db_next(struct store *st, sqlite3_stmt *q);
void db_end(sqlite3_stmt *q);
/* Runs to the end. */
int db_exec(struct store *st, const char *sql, const char *types, ...);
/* One integer; STORE_NOTFOUND when there is no row. */
int db_int(struct store *st, int64_t *v, const char *sql, const char *types,
           ...);
/* SQL that is not a literal, run once; for pragmas and migrations. */
int db_script(struct store *st, const char *sql);
/* Rows that the last statement changed. */
int db_changes(struct store *st);
double db_real(sqlite3_stmt *q, int col); /* NULL = NAN */

/* ---- transactions ---- */

/* For a call that writes: opens a transaction of its own, or a savepoint in
 * the caller's. tx_leave commits it when rc >= 0, else undoes it. */
int tx_enter(struct store *st, const char *doing);
int tx_leave(struct store *st, int rc);
/* For a call that reads. */
void read_enter(struct store *st, const char *doing);
/* Lets the log flow back into the file as far as readers allow. */
void db_checkpoint(struct store *st);

/* ---- rows ---- */

struct rows {
    int n, cap;
    size_t size;
    char *row;
    void *mem; /* chain of chunks with the strings */
    bool nomem;
};
typedef void row_fn(struct rows *r, sqlite3_stmt *q, void *row);

/* Runs q to its end, fn fills one zeroed row for each; on failure r is
 * empty. size is the row's. */
int rows_read(struct store *st, sqlite3_stmt *q, struct rows *r, size_t size,
              row_fn *fn);
/* Copies into the set; NULL and nomem when memory is out. */
void *rows_alloc(struct rows *r, size_t len);
const char *rows_text(struct rows *r, sqlite3_stmt *q, int col);

/* Moves rows r into a public set of any kind, and frees such a set. */
#define ROWS_MOVE(set, r) \
    ((set)->n = (r)->n, (set)->row = (void *)(r)->row, (set)->mem = (r)->mem)
#define ROWS_FREE(set) \
    do { \
        free((set)->row); \
        rows_mem_free((set)->mem); \
        (set)->n = 0, (set)->row = NULL, (set)->mem = NULL; \
    } while (0)
void rows_mem_free(void *mem);

/* ---- shared checks ---- */

/* A name of the kind `what`: 1 … 255 bytes, no control bytes. */
int name_check(struct store *st, const char *what, const char *name);
/* The same, and without '/', not only digits. */
int handle_check(struct store *st, const char *what, const char *name);
bool is_digits(const char *s);
int run_check(struct store *st, int64_t run); /* exists? */

/* ---- files of the journal ---- */

/* Makes DIR/journal/name with these bytes, durably; it goes again when the
 * transaction is rolled back. */
int blob_write(struct store *st, const char *name, const void *p, size_t len);
/* Into mem of r; STORE_CORRUPT when it is missing or of another length. */
int blob_read(struct store *st, const char *name, size_t len, struct rows *r,
              const void **p);
/* Removed once the transaction is committed. */
int blob_doom(struct store *st, const char *name);
/* Forgets what the call that just failed did. */
void blobs_undo(struct store *st);
/* How a transaction ended. After a COMMIT that failed nobody knows: the log
 * may hold it whole, and the next start finds it there. */
enum tx_end { TX_COMMITTED, TX_UNDONE, TX_UNKNOWN };
void blobs_settle(struct store *st, enum tx_end end);
/* Removes files that no row names; for the writer, at open. */
int blobs_sweep(struct store *st);
/* FNV-1a, 64 bits: notices damage to bytes at rest. */
int64_t blob_sum(const void *p, size_t len);

/* ---- schema ---- */

struct migration {
    int version; /* 1, 2, … */
    const char *sql;
};
/* Takes the store from its version to the table's last, one transaction a
 * step, after a backup when it holds data. */
int schema_migrate(struct store *st, const struct migration *m, int n);
/* The table of this build. */
const struct migration *schema_migrations(int *n);
/* Refuses files of others, of a newer fettle, and for a reader older ones;
 * writes nothing. */
int schema_check(struct store *st);
/* Migrates to this build's version. */
int schema_open(struct store *st);

/* Of ops.c, when a run goes: its training models, their ops and files. */
int ops_forget(struct store *st, int64_t run);

/* Parts of store_check: curves against their points, bytes of ops against
 * their sums. */
int series_check(struct store *st, store_report_fn *report, void *arg,
                 int *findings);
int ops_check(struct store *st, store_report_fn *report, void *arg,
              int *findings);

#endif
