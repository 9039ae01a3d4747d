/*
 * store - opening and closing the file, and what belongs to no table.
 *
 * Invariants:
 * 1. A writer holds flock(store.lock) from before it opens the file until
 *    after it closed it.
 * 2. Nothing is written to a file that is not ours, is newer, or is damaged.
 */
#include "store/db.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#define PATH_CAP 4200
#define QUICK_CHECK_MAX (64ll << 20) /* bytes checked while one waits */
#define BLOB_LIMIT (64 << 20)

static const char *const status_names[] = {
    "ok",        "not_found", "exists",        "conflict",     "invalid",
    "busy",      "corrupt",   "newer_schema",  "older_schema", "disk_full",
    "forbidden", "io",        "out_of_memory", "internal",
};

const char *store_status_name(int status) {
    int n = (int)(sizeof status_names / sizeof status_names[0]);
    if (status > 0 || -status >= n)
        return "unknown";
    return status_names[-status];
}

const char *store_errmsg(const struct store *st) {
    return st ? st->msg : "open the store: out of memory";
}

/* ---- the place: file system, lock, high-water mark ---- */

/* The log needs memory shared between processes on one machine. */
static const struct {
    unsigned long magic;
    const char *name;
} refused_fs[] = {
    {0x6969, "NFS"},      {0x517b, "SMB"},      {0xff534d42, "CIFS"},
    {0xfe534d42, "SMB2"}, {0x65735546, "FUSE"}, {0x01021997, "9P"},
    {0x5346414f, "AFS"},  {0x00c36400, "Ceph"},
};

static int check_fs(struct store *st) {
    struct statfs fs;
    if (statfs(st->dir, &fs) < 0)
        return db_sys_err(st, errno, st->dir);
    for (size_t i = 0; i < sizeof refused_fs / sizeof refused_fs[0]; i++)
        if (((unsigned long)fs.f_type & 0xffffffffu) == refused_fs[i].magic)
            return db_err(st, STORE_INVAL,
                          "%s is on %s, where a database is not safe (set "
                          "FETTLE_HOME to a directory on a local disk)",
                          st->dir, refused_fs[i].name);
    return STORE_OK;
}

static int check_file(struct store *st) {
    struct stat s;
    if (stat(st->path, &s) < 0) {
        if (errno != ENOENT)
            return db_sys_err(st, errno, st->path);
        if (st->mode == STORE_WRITE)
            return STORE_OK;
        return db_err(st, STORE_NOTFOUND,
                      "%s does not exist yet (`fettle serve` or `fettle demo` "
                      "makes it)",
                      st->path);
    }
    if (!S_ISREG(s.st_mode))
        return db_err(st, STORE_INVAL, "%s is a %s, not a file (move it away)",
                      st->path,
                      S_ISDIR(s.st_mode) ? "directory" : "special file");
    return STORE_OK;
}

static int take_lock(struct store *st) {
    char path[PATH_CAP], pid[32] = "";
    snprintf(path, sizeof path, "%s/store.lock", st->dir);
    st->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (st->lock_fd < 0)
        return db_sys_err(st, errno, path);
    if (flock(st->lock_fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK)
            return db_sys_err(st, errno, path);
        ssize_t n = pread(st->lock_fd, pid, sizeof pid - 1, 0);
        pid[n > 0 ? strspn(pid, "0123456789") : 0] = 0;
        return db_err(st, STORE_BUSY,
                      "another fettle daemon%s%s writes to %s (`fettle "
                      "status`; `fettle stop` ends it)",
                      *pid ? ", process " : "", pid, st->path);
    }
    int len = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    if (ftruncate(st->lock_fd, 0) < 0 ||
        pwrite(st->lock_fd, pid, (size_t)len, 0) < 0)
        return db_sys_err(st, errno, path);
    return STORE_OK;
}

/* Made here for its mode 0600: SQLite gives the log that of the file. Nobody
 * has it open yet, so closing it drops nobody's locks. */
static int make_file(struct store *st) {
    int fd = open(st->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 && errno != EEXIST)
        return db_sys_err(st, errno, st->path);
    if (fd >= 0)
        close(fd);
    return STORE_OK;
}

static off_t size_of(const struct store *st, const char *suffix) {
    char path[PATH_CAP];
    struct stat s;
    snprintf(path, sizeof path, "%s%s", st->path, suffix);
    return stat(path, &s) < 0 ? -1 : s.st_size;
}

/* Commits that were acknowledged, as the file open as fd says; 0 = unknown. */
static int64_t hwm_read(int fd) {
    int64_t rec[2];
    if (pread(fd, rec, sizeof rec, 0) != sizeof rec ||
        rec[1] != blob_sum(rec, sizeof rec[0]))
        return 0;
    return rec[0];
}

/* Before a reader opens the file: was there ever anything in it? */
static bool was_written(const struct store *st) {
    char path[PATH_CAP];
    snprintf(path, sizeof path, "%s/store.hwm", st->dir);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return false;
    int64_t commits = hwm_read(fd);
    close(fd);
    return commits > 0;
}

/* The file must be at least as far as the last commit that was acknowledged:
 * without its log it looks fine, only older. */
static int check_hwm(struct store *st) {
    char path[PATH_CAP];
    snprintf(path, sizeof path, "%s/store.hwm", st->dir);
    st->hwm_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (st->hwm_fd < 0)
        return db_sys_err(st, errno, path);
    int64_t behind = hwm_read(st->hwm_fd) - st->commits;
    if (behind <= 0)
        return STORE_OK;
    return db_err(st, STORE_CORRUPT,
                  "%s lacks its last %lld transactions: %s-wal was removed or "
                  "is not its own; nothing was changed (put it back, or remove "
                  "%s to go on without them)",
                  st->path, (long long)behind, st->path, path);
}

/* ---- the connection ---- */

static const struct {
    int id, max;
} limits[] = {
    {SQLITE_LIMIT_LENGTH, BLOB_LIMIT}, {SQLITE_LIMIT_SQL_LENGTH, 100000},
    {SQLITE_LIMIT_COLUMN, 100},        {SQLITE_LIMIT_EXPR_DEPTH, 100},
    {SQLITE_LIMIT_VDBE_OP, 25000},     {SQLITE_LIMIT_ATTACHED, 0},
    {SQLITE_LIMIT_TRIGGER_DEPTH, 10},
};

static int on_progress(void *arg) {
    const struct store *st = arg;
    struct timespec t;
    if (st->deadline_ms == 0)
        return 0;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000 > st->deadline_ms;
}

static int on_wal(void *arg, sqlite3 *db, const char *name, int pages) {
    struct store *st = arg;
    (void)db, (void)name;
    st->wal_pages = pages;
    return SQLITE_OK;
}

static int connect_db(struct store *st, const char *path, int flags) {
    int rc = sqlite3_open_v2(path, &st->db, flags | SQLITE_OPEN_NOMUTEX, NULL);
    if (!st->db)
        return db_err(st, STORE_NOMEM, "out of memory");
    if (rc != SQLITE_OK)
        return db_sqlite_err(st, rc);
    sqlite3_extended_result_codes(st->db, 1);
    sqlite3_db_config(st->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++)
        sqlite3_limit(st->db, limits[i].id, limits[i].max);
    return STORE_OK;
}

static int set_up_writer(struct store *st) {
    sqlite3_stmt *q;
    int rc = db_query(st, &q, "PRAGMA journal_mode=WAL", "");
    if (rc == 0)
        rc = db_next(st, q);
    if (rc == 1) {
        const char *mode = (const char *)sqlite3_column_text(q, 0);
        bool ok = mode && strcmp(mode, "wal") == 0;
        db_end(q);
        rc = ok ? STORE_OK
                : db_err(st, STORE_IO, "%s: cannot keep a write-ahead log",
                         st->path);
    }
    if (rc < 0)
        return rc;
    rc = db_script(st, "PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=0;"
                       "PRAGMA journal_size_limit=16777216");
    sqlite3_wal_hook(st->db, on_wal, st);
    return rc;
}

static int set_up(struct store *st) {
    int rc = db_script(st, "PRAGMA foreign_keys=ON; PRAGMA trusted_schema=OFF;"
                           "PRAGMA cell_size_check=ON; PRAGMA mmap_size=0;"
                           "PRAGMA temp_store=MEMORY");
    if (rc < 0)
        return rc;
    sqlite3_busy_timeout(st->db, st->mode == STORE_WRITE ? 5000 : 250);
    if (st->mode == STORE_WRITE)
        return STORE_OK;
    if (st->read_ms > 0)
        sqlite3_progress_handler(st->db, 1000, on_progress, st);
    return db_script(st, "PRAGMA query_only=ON");
}

static void disconnect_db(struct store *st) {
    for (int i = 0; i < STMT_SLOTS; i++)
        sqlite3_finalize(st->slot[i].stmt);
    memset(st->slot, 0, sizeof st->slot);
    sqlite3_close(st->db);
    st->db = NULL;
}

/* ---- open ---- */

static int quick_check(struct store *st) {
    sqlite3_stmt *q;
    int rc = db_query(st, &q, "PRAGMA quick_check(1)", "");
    if (rc == 0)
        rc = db_next(st, q);
    if (rc <= 0)
        return rc;
    const char *found = (const char *)sqlite3_column_text(q, 0);
    if (!found || strcmp(found, "ok") != 0) {
        st->dead = STORE_CORRUPT;
        rc = db_err(st, STORE_CORRUPT,
                    "%s is damaged: %s (nothing was changed; `fettle doctor` "
                    "lists the damage, `sqlite3 %s .recover` prints what can "
                    "be saved)",
                    st->path, found ? found : "", st->path);
    }
    db_end(q);
    return rc < 0 ? rc : STORE_OK;
}

/* 0 in a file that is still empty. */
static int read_commits(struct store *st) {
    int64_t has_meta;
    int rc = db_int(st, &has_meta, "PRAGMA user_version", "");
    if (rc < 0 || !has_meta)
        return rc;
    return db_int(st, &st->commits,
                  "SELECT value FROM meta WHERE key='commits'", "");
}

static int open_writer(struct store *st) {
    int rc = take_lock(st);
    if (rc == 0)
        rc = make_file(st);
    if (rc < 0)
        return rc;
    bool unclean = size_of(st, "-wal") > 0;
    rc = connect_db(st, st->path, SQLITE_OPEN_READWRITE);
    if (rc == 0)
        rc = set_up(st);
    if (rc == 0 && unclean && size_of(st, "") < QUICK_CHECK_MAX)
        rc = quick_check(st);
    if (rc == 0)
        rc = schema_check(st);
    if (rc == 0)
        rc = read_commits(st);
    if (rc == 0)
        rc = check_hwm(st);
    if (rc == 0)
        rc = set_up_writer(st); /* the first that writes */
    if (rc == 0)
        rc = schema_open(st);
    return rc < 0 ? rc : blobs_sweep(st);
}

/* A URI that says: nobody writes here. For a store on read-only media, where
 * SQLite could not make its shared-memory file. */
static void immutable_uri(const struct store *st, char *uri, size_t cap) {
    size_t n = (size_t)snprintf(uri, cap, "file:");
    for (const char *p = st->path; *p && n + 20 < cap; p++)
        n += (size_t)snprintf(uri + n, cap - n,
                              strchr("%?#", *p) ? "%%%02x" : "%c",
                              (unsigned char)*p);
    snprintf(uri + n, cap - n, "?immutable=1");
}

static int open_reader(struct store *st) {
    int rc = connect_db(st, st->path, SQLITE_OPEN_READONLY);
    if (rc == 0)
        rc = set_up(st);
    if (rc == 0)
        rc = schema_check(st);
    if (rc != STORE_PERM || size_of(st, "-wal") > 0)
        return rc;
    char uri[3 * PATH_CAP];
    immutable_uri(st, uri, sizeof uri);
    disconnect_db(st);
    rc = connect_db(st, uri, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI);
    if (rc == 0)
        rc = set_up(st);
    return rc < 0 ? rc : schema_check(st);
}

static int open_checked(struct store *st, const struct store_opts *o) {
    int rc = o->any_fs ? STORE_OK : check_fs(st);
    bool is_reader = st->mode != STORE_WRITE, written = was_written(st);
    if (rc == 0)
        rc = check_file(st);
    if (rc == 0)
        rc = is_reader ? open_reader(st) : open_writer(st);
    if (rc == STORE_NOTFOUND && is_reader && written)
        return db_err(st, STORE_CORRUPT,
                      "%s is gone or empty, but was written to (put it back, "
                      "or remove %s/store.hwm to begin anew)",
                      st->path, st->dir);
    return rc;
}

int store_open(struct store **out, const struct store_opts *o) {
    struct store *st = calloc(1, sizeof *st);
    *out = st;
    if (!st)
        return STORE_NOMEM;
    st->lock_fd = st->hwm_fd = -1;
    st->doing = "open the store";
    st->mode = o->mode;
    st->read_ms = o->mode == STORE_READ ? o->read_ms : 0;
    if (!o->dir || !*o->dir || strlen(o->dir) > 4000)
        return db_err(st, STORE_INVAL, "no directory, or its name is too long");
    size_t cap = strlen(o->dir) + sizeof "/store.db";
    st->dir = strdup(o->dir);
    st->path = malloc(cap);
    if (!st->dir || !st->path)
        return db_err(st, STORE_NOMEM, "out of memory");
    snprintf(st->path, cap, "%s/store.db", o->dir);
    int rc = open_checked(st, o);
    if (rc < 0 && st->dead == 0)
        st->dead = rc; /* only store_errmsg and store_close from here */
    return rc < 0 ? rc : STORE_OK;
}

void store_close(struct store *st) {
    if (!st)
        return;
    store_rollback(st);
    if (st->db && st->mode == STORE_WRITE && !st->dead)
        sqlite3_wal_checkpoint_v2(st->db, NULL, SQLITE_CHECKPOINT_TRUNCATE,
                                  NULL, NULL);
    if (st->db && st->dead) /* what is damaged is left as it is */
        sqlite3_db_config(st->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    disconnect_db(st);
    blobs_settle(st, TX_UNDONE);
    free(st->born.v);
    free(st->doomed.v);
    if (st->hwm_fd >= 0)
        close(st->hwm_fd);
    if (st->lock_fd >= 0)
        close(st->lock_fd);
    free(st->dir);
    free(st->path);
    free(st);
}

/* ---- change, small values ---- */

int store_generation(struct store *st, int64_t *gen) {
    read_enter(st, "look for changes");
    int rc = db_int(st, gen, "PRAGMA data_version", "");
    if (rc == 0)
        *gen += st->commits; /* data_version leaves out one's own */
    return rc;
}

int store_ui_set(struct store *st, const char *key, const char *json) {
    int rc = tx_enter(st, "keep a setting");
    if (rc < 0)
        return rc;
    rc = name_check(st, "the key", key);
    if (rc == 0)
        rc = db_exec(st,
                     "INSERT INTO ui VALUES(?,?) ON CONFLICT(key)"
                     " DO UPDATE SET json=excluded.json",
                     "ss", key, json);
    return tx_leave(st, rc);
}

int store_ui_get(struct store *st, const char *key, char **json) {
    sqlite3_stmt *q;
    *json = NULL;
    read_enter(st, "read a setting");
    int rc = db_query(st, &q, "SELECT json FROM ui WHERE key=?", "s", key);
    if (rc == 0)
        rc = db_next(st, q);
    if (rc < 0)
        return rc;
    if (rc == 0)
        return db_err(st, STORE_NOTFOUND, "'%s' was never set", key);
    const char *text = (const char *)sqlite3_column_text(q, 0);
    *json = strdup(text ? text : "");
    db_end(q);
    return *json ? STORE_OK : db_err(st, STORE_NOMEM, "out of memory");
}
