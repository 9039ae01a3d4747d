/*
 * schema - the tables, as numbered migrations that only go forward. Each is
 * one transaction that ends with its number in user_version; a store that
 * holds data is copied to store.db.bak-v<old> first. What a released
 * migration says is never edited: a change is a new one.
 */
#include "store/db.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One fact, one place: series carries a curve's summary (what filters and
 * tables look at), pyramid its closed buckets of 8^level steps; both are
 * written with the point. kind: 0 finite, 1 NaN, 2 +Inf, 3 -Inf, 4 -0.0, since
 * SQLite keeps no NaN and no negative zero. place: where an op's bytes are,
 * 0 nowhere (dropped or none), 1 in the row, 2 in journal/. Runs are referred
 * to without a foreign key where 0 means none. */
static const char schema_1[] =
    "CREATE TABLE meta(key TEXT PRIMARY KEY, value ANY) STRICT,"
    " WITHOUT ROWID;"
    "INSERT INTO meta VALUES('commits',0);"
    "CREATE TABLE ui(key TEXT PRIMARY KEY, json TEXT NOT NULL) STRICT,"
    " WITHOUT ROWID;"
    "CREATE TABLE model("
    " name TEXT PRIMARY KEY, dir TEXT NOT NULL, family TEXT NOT NULL,"
    " params INTEGER NOT NULL, added_us INTEGER NOT NULL) STRICT;"

    "CREATE TABLE run("
    " id INTEGER PRIMARY KEY AUTOINCREMENT,"
    " name TEXT NOT NULL, recipe TEXT NOT NULL, model TEXT NOT NULL,"
    " config TEXT NOT NULL, state INTEGER NOT NULL, error TEXT NOT NULL,"
    " cursor INTEGER NOT NULL, planned INTEGER NOT NULL,"
    " created_us INTEGER NOT NULL, started_us INTEGER NOT NULL,"
    " ended_us INTEGER NOT NULL, run_us INTEGER NOT NULL,"
    " tmodel TEXT NOT NULL, note TEXT NOT NULL, tags TEXT NOT NULL) STRICT;"
    "CREATE INDEX run_name ON run(name);"
    "CREATE TABLE config_kv("
    " run INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,"
    " key TEXT NOT NULL, num REAL, text TEXT NOT NULL,"
    " PRIMARY KEY(run,key)) STRICT, WITHOUT ROWID;"

    "CREATE TABLE series("
    " id INTEGER PRIMARY KEY,"
    " run INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,"
    " name TEXT NOT NULL, first_step INTEGER NOT NULL,"
    " last_step INTEGER NOT NULL, last_us INTEGER NOT NULL,"
    " n INTEGER NOT NULL, nonfinite INTEGER NOT NULL,"
    " last REAL NOT NULL, kind INTEGER NOT NULL,"
    " min REAL, max REAL, sum REAL,"
    " min_step INTEGER NOT NULL, max_step INTEGER NOT NULL,"
    " UNIQUE(run,name)) STRICT;"
    "CREATE TABLE point("
    " series INTEGER NOT NULL REFERENCES series ON DELETE CASCADE,"
    " step INTEGER NOT NULL, value REAL NOT NULL, kind INTEGER NOT NULL,"
    " time_us INTEGER NOT NULL,"
    " PRIMARY KEY(series,step)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE pyramid("
    " series INTEGER NOT NULL REFERENCES series ON DELETE CASCADE,"
    " level INTEGER NOT NULL, bucket INTEGER NOT NULL,"
    " step0 INTEGER NOT NULL, step1 INTEGER NOT NULL,"
    " min REAL, max REAL, sum REAL, last REAL NOT NULL, kind INTEGER NOT NULL,"
    " n INTEGER NOT NULL, nonfinite INTEGER NOT NULL,"
    " PRIMARY KEY(series,level,bucket)) STRICT, WITHOUT ROWID;"

    "CREATE TABLE sample("
    " run INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,"
    " step INTEGER NOT NULL, prompt_index INTEGER NOT NULL,"
    " prompt TEXT NOT NULL, text TEXT NOT NULL, tokens INTEGER NOT NULL,"
    " stop TEXT NOT NULL, logprob_sum REAL, time_us INTEGER NOT NULL,"
    " UNIQUE(run,step,prompt_index)) STRICT;"
    "CREATE TABLE event("
    " id INTEGER PRIMARY KEY AUTOINCREMENT, time_us INTEGER NOT NULL,"
    " run INTEGER NOT NULL, step INTEGER NOT NULL, kind TEXT NOT NULL,"
    " level INTEGER NOT NULL, text TEXT NOT NULL, is_read INTEGER NOT NULL,"
    " once INTEGER NOT NULL) STRICT;"
    "CREATE INDEX event_run ON event(run,id);"
    "CREATE INDEX event_unread ON event(id) WHERE is_read=0;"
    "CREATE UNIQUE INDEX event_once ON event(run,step,kind,text)"
    " WHERE once=1;"

    "CREATE TABLE ckpt("
    " n INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,"
    " run INTEGER NOT NULL, name TEXT NOT NULL, step INTEGER NOT NULL,"
    " kind TEXT NOT NULL, model TEXT NOT NULL, bytes INTEGER NOT NULL,"
    " created_us INTEGER NOT NULL, is_deleting INTEGER NOT NULL) STRICT;"
    "CREATE INDEX ckpt_run ON ckpt(run);"
    "CREATE TABLE promotion("
    " n INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL,"
    " ckpt TEXT NOT NULL, time_us INTEGER NOT NULL,"
    " is_current INTEGER NOT NULL) STRICT;"
    "CREATE UNIQUE INDEX promotion_name ON promotion(name)"
    " WHERE is_current=1;"
    "CREATE INDEX promotion_ckpt ON promotion(ckpt) WHERE is_current=1;"
    "CREATE TABLE deployment("
    " name TEXT PRIMARY KEY, version INTEGER NOT NULL,"
    " state INTEGER NOT NULL, error TEXT NOT NULL,"
    " created_us INTEGER NOT NULL, updated_us INTEGER NOT NULL) STRICT;"
    "CREATE TABLE version("
    " deployment TEXT NOT NULL REFERENCES deployment ON DELETE CASCADE,"
    " version INTEGER NOT NULL, ckpt TEXT NOT NULL, model TEXT NOT NULL,"
    " time_us INTEGER NOT NULL,"
    " PRIMARY KEY(deployment,version)) STRICT, WITHOUT ROWID;"

    "CREATE TABLE tmodel("
    " n INTEGER PRIMARY KEY AUTOINCREMENT, run INTEGER NOT NULL,"
    " base TEXT NOT NULL, sha BLOB NOT NULL, state INTEGER NOT NULL,"
    " error TEXT NOT NULL, next_seq INTEGER NOT NULL,"
    " applied_seq INTEGER NOT NULL, snapshot_seq INTEGER NOT NULL,"
    " snapshot_dir TEXT NOT NULL, created_us INTEGER NOT NULL) STRICT;"
    "CREATE UNIQUE INDEX tmodel_once ON tmodel(run,sha) WHERE run>0;"
    "CREATE TABLE op("
    " model INTEGER NOT NULL REFERENCES tmodel, seq INTEGER NOT NULL,"
    " kind INTEGER NOT NULL, sha BLOB NOT NULL,"
    " place INTEGER NOT NULL, len INTEGER NOT NULL, sum INTEGER NOT NULL,"
    " payload BLOB, created_us INTEGER NOT NULL,"
    " status INTEGER NOT NULL DEFAULT 0,"
    " result_place INTEGER NOT NULL DEFAULT 0,"
    " result_len INTEGER NOT NULL DEFAULT 0,"
    " result_sum INTEGER NOT NULL DEFAULT 0, result BLOB,"
    " code TEXT NOT NULL DEFAULT '', error TEXT NOT NULL DEFAULT '',"
    " is_fetched INTEGER NOT NULL DEFAULT 0,"
    " is_expired INTEGER NOT NULL DEFAULT 0,"
    " done_us INTEGER NOT NULL DEFAULT 0,"
    " PRIMARY KEY(model,seq)) STRICT;"
    "CREATE INDEX op_payload ON op(model,seq) WHERE place>0;"
    "CREATE INDEX op_result ON op(done_us) WHERE result_place>0;"
    "CREATE INDEX op_unread ON op(model,seq)"
    " WHERE status=2 AND is_fetched=0;";

/* The precision that a version is served at. */
static const char schema_2[] =
    "ALTER TABLE version ADD COLUMN precision TEXT NOT NULL DEFAULT 'exact';";

static const struct migration migrations[] = {
    {1, schema_1},
    {2, schema_2},
};

const struct migration *schema_migrations(int *n) {
    *n = (int)(sizeof migrations / sizeof migrations[0]);
    return migrations;
}

static int pragma_int(struct store *st, const char *sql, int64_t *v) {
    return db_int(st, v, sql, "");
}

/* fsync of a file or directory that SQLite does not know. */
static int sync_path(struct store *st, const char *path, int flags) {
    int fd = open(path, flags | O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return db_sys_err(st, errno, path);
    int rc = fsync(fd) < 0 ? db_sys_err(st, errno, path) : STORE_OK;
    close(fd);
    return rc;
}

static int vacuum_into(struct store *st, const char *path) {
    if (unlink(path) < 0 && errno != ENOENT)
        return db_sys_err(st, errno, path);
    int was = sqlite3_limit(st->db, SQLITE_LIMIT_ATTACHED, 1);
    int rc = db_exec(st, "VACUUM INTO ?", "s", path);
    sqlite3_limit(st->db, SQLITE_LIMIT_ATTACHED, was);
    return rc;
}

/* A copy of the whole store beside it, durable before anything is changed. */
static int backup(struct store *st, int version) {
    char tmp[4200], path[4200];
    snprintf(tmp, sizeof tmp, "%s.bak-tmp", st->path);
    snprintf(path, sizeof path, "%s.bak-v%d", st->path, version);
    int rc = vacuum_into(st, tmp);
    if (rc == 0)
        rc = sync_path(st, tmp, 0);
    if (rc == 0 && rename(tmp, path) < 0)
        rc = db_sys_err(st, errno, path);
    if (rc == 0)
        rc = sync_path(st, st->dir, O_DIRECTORY);
    return rc;
}

static int migrate_one(struct store *st, const struct migration *m) {
    char head[128];
    snprintf(head, sizeof head,
             "PRAGMA application_id=%d; PRAGMA user_version=%d", STORE_APP_ID,
             m->version);
    int rc = db_script(st, "BEGIN IMMEDIATE");
    if (rc < 0)
        return rc;
    rc = db_script(st, m->sql);
    if (rc == 0)
        rc = db_script(st, head);
    if (rc == 0)
        rc = db_script(st, "COMMIT");
    if (rc < 0)
        sqlite3_exec(st->db, "ROLLBACK", NULL, NULL, NULL);
    return rc;
}

static int newer(struct store *st, int64_t version, int known) {
    return db_err(st, STORE_NEWER,
                  "%s was written by a newer fettle (schema %lld, this one "
                  "knows %d); nothing was changed (update fettle, or use "
                  "another FETTLE_HOME)",
                  st->path, (long long)version, known);
}

int schema_migrate(struct store *st, const struct migration *m, int n) {
    int64_t version;
    int known = m[n - 1].version;
    int rc = pragma_int(st, "PRAGMA user_version", &version);
    if (rc < 0 || version == known)
        return rc;
    if (version > known)
        return newer(st, version, known);
    if (version > 0)
        rc = backup(st, (int)version);
    for (int i = 0; i < n && rc == 0; i++)
        if (m[i].version > version)
            rc = migrate_one(st, &m[i]);
    return rc;
}

/* A file of another program is left alone; an empty one becomes a store. */
static int check_owner(struct store *st) {
    int64_t id, tables;
    int rc = pragma_int(st, "PRAGMA application_id", &id);
    if (rc < 0 || id == STORE_APP_ID)
        return rc;
    rc = db_int(st, &tables, "SELECT count(*) FROM sqlite_schema", "");
    if (rc < 0 || (id == 0 && tables == 0))
        return rc;
    return db_err(st, STORE_CORRUPT,
                  "%s is a database of another program; nothing was changed "
                  "(move it away, or use another FETTLE_HOME)",
                  st->path);
}

static int reader_check(struct store *st, int64_t version, int known) {
    if (version == 0)
        return db_err(st, STORE_NOTFOUND,
                      "%s is empty (the daemon fills it: `fettle serve`)",
                      st->path);
    if (version < known)
        return db_err(st, STORE_OLDER,
                      "%s has schema %lld, this fettle reads %d (the daemon "
                      "updates it: `fettle stop`, then `fettle serve`)",
                      st->path, (long long)version, known);
    return STORE_OK;
}

int schema_check(struct store *st) {
    int n;
    int64_t version;
    const struct migration *m = schema_migrations(&n);
    int rc = check_owner(st);
    if (rc == 0)
        rc = pragma_int(st, "PRAGMA user_version", &version);
    if (rc < 0)
        return rc;
    if (version > m[n - 1].version)
        return newer(st, version, m[n - 1].version);
    return st->mode == STORE_READ ? reader_check(st, version, m[n - 1].version)
                                  : STORE_OK;
}

int schema_open(struct store *st) {
    int n;
    const struct migration *m = schema_migrations(&n);
    return schema_migrate(st, m, n);
}
