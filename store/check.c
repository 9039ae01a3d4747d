/*
 * check - what `fettle doctor` and `fettle fsck` ask: is the file whole, do
 * the tables agree with each other and with the files beside them.
 */
#include "store/db.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct check {
    struct store *st;
    store_report_fn *report;
    void *arg;
    int findings;
};

static void found(struct check *c, const char *text) {
    c->report(c->arg, text);
    c->findings++;
}

static void unheard(void *arg, const char *finding) {
    (void)arg;
    (void)finding;
}

/* SQLite's own lines; a page too damaged to be checked is a finding too. */
static int check_pages(struct check *c, bool full) {
    sqlite3_stmt *q;
    int rc = db_query(
        c->st, &q, full ? "PRAGMA integrity_check" : "PRAGMA quick_check", "");
    while (rc >= 0 && (rc = db_next(c->st, q)) == 1) {
        const char *line = (const char *)sqlite3_column_text(q, 0);
        if (line && strcmp(line, "ok") != 0)
            found(c, line);
    }
    if (rc == STORE_CORRUPT)
        found(c, store_errmsg(c->st));
    return rc;
}

static int check_references(struct check *c) {
    sqlite3_stmt *q;
    char text[256];
    int rc = db_query(c->st, &q, "PRAGMA foreign_key_check", "");
    while (rc >= 0 && (rc = db_next(c->st, q)) == 1) {
        snprintf(text, sizeof text, "a row of %s refers to a %s that is gone",
                 (const char *)sqlite3_column_text(q, 0),
                 (const char *)sqlite3_column_text(q, 2));
        found(c, text);
    }
    return rc;
}

/* Each counts rows that contradict what the code keeps. */
static const struct {
    const char *sql, *what;
} counts[] = {
    {"SELECT count(*) FROM promotion WHERE is_current=1 AND ckpt NOT IN"
     " (SELECT id FROM ckpt)",
     "promoted names stand on a checkpoint that is gone"},
    {"SELECT count(*) FROM deployment d WHERE NOT EXISTS(SELECT 1 FROM version"
     " v WHERE v.deployment=d.name AND v.version=d.version)",
     "deployments have no such version"},
    {"SELECT count(*) FROM tmodel WHERE applied_seq>=next_seq OR"
     " snapshot_seq>=next_seq",
     "training models are ahead of their journal"},
    {"SELECT count(*) FROM tmodel t JOIN op ON op.model=t.n WHERE"
     " t.state=0 AND op.seq>t.snapshot_seq AND op.place=0",
     "ops that a replay needs have no payload"},
};

static int check_counts(struct check *c) {
    char text[256];
    int64_t n = 0;
    int rc = STORE_OK;
    for (size_t i = 0; i < sizeof counts / sizeof counts[0] && rc == 0; i++) {
        rc = db_int(c->st, &n, counts[i].sql, "");
        if (rc == 0 && n > 0) {
            snprintf(text, sizeof text, "%lld %s", (long long)n,
                     counts[i].what);
            found(c, text);
        }
    }
    return rc;
}

static int check_files(struct check *c) {
    sqlite3_stmt *q;
    struct stat s;
    char path[4200], text[4300];
    int rc = db_query(c->st, &q,
                      "SELECT 'm'||model||'-'||seq||'.op', len FROM op WHERE"
                      " place=2 UNION ALL"
                      " SELECT 'm'||model||'-'||seq||'.res', result_len FROM op"
                      " WHERE result_place=2",
                      "");
    while (rc >= 0 && (rc = db_next(c->st, q)) == 1) {
        snprintf(path, sizeof path, "%s/journal/%s", c->st->dir,
                 (const char *)sqlite3_column_text(q, 0));
        if (stat(path, &s) == 0 && s.st_size == sqlite3_column_int64(q, 1))
            continue;
        snprintf(text, sizeof text, "%s is missing or has another size", path);
        found(c, text);
    }
    return rc;
}

int store_check(struct store *st, bool full, store_report_fn *report,
                void *arg) {
    struct check c = {
        .st = st, .report = report ? report : unheard, .arg = arg};
    read_enter(st, "check the store");
    int rc = check_pages(&c, full);
    bool whole = c.findings == 0; /* else nothing that is read counts */
    if (rc == 0 && whole)
        rc = check_references(&c);
    if (rc == 0 && whole)
        rc = check_counts(&c);
    if (rc == 0 && whole)
        rc = check_files(&c);
    if (rc == 0 && whole && full)
        rc = series_check(st, c.report, arg, &c.findings);
    if (rc == 0 && whole && full)
        rc = ops_check(st, c.report, arg, &c.findings);
    if (rc < 0 && c.findings == 0)
        return rc;
    if (c.findings == 0)
        return STORE_OK;
    return db_err(st, STORE_CORRUPT, "%d finding%s in %s", c.findings,
                  c.findings == 1 ? "" : "s", st->path);
}
