/*
 * notes - what a run says in words: samples of its fixed prompts, and events.
 */
#include "store/db.h"

#include <math.h>
#include <stdlib.h>

/* ---- samples ---- */

int store_sample_add(struct store *st, const struct store_sample *s) {
    int rc = tx_enter(st, "record sample");
    if (rc < 0)
        return rc;
    rc = run_check(st, s->run);
    if (rc == 0)
        rc = db_exec(st,
                     "INSERT OR IGNORE INTO sample VALUES(?,?,?,?,?,?,?,?,?)",
                     "lldssdsfl", s->run, s->step, s->prompt_index, s->prompt,
                     s->text, s->tokens, s->stop, s->logprob_sum, s->time_us);
    return tx_leave(st, rc);
}

static void sample_row(struct rows *r, sqlite3_stmt *q, void *row) {
    *(struct store_sample *)row = (struct store_sample){
        .run = sqlite3_column_int64(q, 0),
        .step = sqlite3_column_int64(q, 1),
        .prompt_index = sqlite3_column_int(q, 2),
        .prompt = rows_text(r, q, 3),
        .text = rows_text(r, q, 4),
        .tokens = sqlite3_column_int(q, 5),
        .stop = rows_text(r, q, 6),
        .logprob_sum = db_real(q, 7),
        .time_us = sqlite3_column_int64(q, 8),
    };
}

int store_samples(struct store *st, int64_t run, int64_t step, int prompt_index,
                  int limit, struct store_samples *rows) {
    sqlite3_stmt *q;
    struct rows r = {0};
    *rows = (struct store_samples){0};
    read_enter(st, "list samples");
    int rc = run_check(st, run);
    if (rc == 0)
        rc = db_query(st, &q,
                      "SELECT * FROM sample WHERE run=?1"
                      " AND (?2<0 OR step=?2) AND (?3<0 OR prompt_index=?3)"
                      " ORDER BY step,prompt_index LIMIT ?4",
                      "lldd", run, step, prompt_index, limit > 0 ? limit : -1);
    if (rc == 0)
        rc = rows_read(st, q, &r, sizeof(struct store_sample), sample_row);
    ROWS_MOVE(rows, &r);
    return rc;
}

void store_samples_free(struct store_samples *rows) { ROWS_FREE(rows); }

static void step_row(struct rows *r, sqlite3_stmt *q, void *row) {
    (void)r;
    *(int64_t *)row = sqlite3_column_int64(q, 0);
}

int store_sample_steps(struct store *st, int64_t run, int64_t **steps, int *n) {
    sqlite3_stmt *q;
    struct rows r = {0};
    *steps = NULL;
    *n = 0;
    read_enter(st, "list samples");
    int rc = run_check(st, run);
    if (rc == 0)
        rc = db_query(st, &q,
                      "SELECT DISTINCT step FROM sample WHERE run=?"
                      " ORDER BY step",
                      "l", run);
    if (rc == 0)
        rc = rows_read(st, q, &r, sizeof(int64_t), step_row);
    *steps = (void *)r.row;
    *n = r.n;
    return rc;
}

/* ---- events ---- */

static const char *const level_names[STORE_LEVELS] = {"info", "warn", "error"};

const char *store_level_name(enum store_level l) {
    return (unsigned)l < STORE_LEVELS ? level_names[l] : "unknown";
}

/* Information asks for nothing, so it is born read. */
int store_event_add(struct store *st, const struct store_event *e, bool once) {
    int rc = tx_enter(st, "record event");
    if (rc < 0)
        return rc;
    rc =
        db_exec(st,
                "INSERT OR IGNORE INTO event(time_us,run,step,kind,level,text,"
                "is_read,once) VALUES(?,?,?,?,?,?,?,?)",
                "lllsdsdd", e->time_us, e->run, e->step, e->kind, (int)e->level,
                e->text, e->level == STORE_INFO || e->is_read, (int)once);
    return tx_leave(st, rc);
}

static void event_row(struct rows *r, sqlite3_stmt *q, void *row) {
    *(struct store_event *)row = (struct store_event){
        .id = sqlite3_column_int64(q, 0),
        .time_us = sqlite3_column_int64(q, 1),
        .run = sqlite3_column_int64(q, 2),
        .step = sqlite3_column_int64(q, 3),
        .kind = rows_text(r, q, 4),
        .level = (enum store_level)sqlite3_column_int(q, 5),
        .text = rows_text(r, q, 6),
        .is_read = sqlite3_column_int(q, 7) != 0,
    };
}

/* Three texts, so that each walks its own index backwards. */
static int events_query(struct store *st, sqlite3_stmt **q,
                        const struct store_event_query *e) {
    int64_t before = e->before_id > 0 ? e->before_id : INT64_MAX;
    int limit = e->limit > 0 ? e->limit : -1;
    if (e->unread)
        return db_query(st, q,
                        "SELECT * FROM event WHERE is_read=0 AND id>?1 AND"
                        " id<?2 AND level>=?3 AND (?4=0 OR run=?4)"
                        " ORDER BY id DESC LIMIT ?5",
                        "lldld", e->after_id, before, (int)e->level, e->run,
                        limit);
    if (e->run > 0)
        return db_query(st, q,
                        "SELECT * FROM event WHERE id>?1 AND id<?2 AND"
                        " level>=?3 AND run=?4 ORDER BY id DESC LIMIT ?5",
                        "lldld", e->after_id, before, (int)e->level, e->run,
                        limit);
    return db_query(st, q,
                    "SELECT * FROM event WHERE id>? AND id<? AND level>=?"
                    " ORDER BY id DESC LIMIT ?",
                    "lldd", e->after_id, before, (int)e->level, limit);
}

int store_events(struct store *st, const struct store_event_query *e,
                 struct store_events *rows) {
    sqlite3_stmt *q;
    struct rows r = {0};
    *rows = (struct store_events){0};
    read_enter(st, "list events");
    int rc = events_query(st, &q, e);
    if (rc == 0)
        rc = rows_read(st, q, &r, sizeof(struct store_event), event_row);
    ROWS_MOVE(rows, &r);
    return rc;
}

int store_events_read(struct store *st, int64_t id) {
    int rc = tx_enter(st, "mark events as read");
    if (rc < 0)
        return rc;
    rc = db_exec(st, "UPDATE event SET is_read=1 WHERE is_read=0 AND id<=?",
                 "l", id);
    return tx_leave(st, rc);
}

void store_events_free(struct store_events *rows) { ROWS_FREE(rows); }
