/*
 * ckpts - checkpoints, the names they are promoted to, and deployments.
 *
 * A checkpoint that a current promoted name or a deployment stands on cannot
 * be deleted, and one that is being deleted cannot be promoted or deployed.
 */
#include "store/db.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- checkpoints ---- */

static int ckpt_name_check(struct store *st, const struct store_ckpt *c) {
    int rc = name_check(st, "the checkpoint's name", c->name);
    if (rc < 0)
        return rc;
    if (strchr(c->name, '/') || c->name[0] == '.' || strlen(c->name) > 200)
        return db_err(st, STORE_INVAL,
                      "the checkpoint's name '%s' has a '/', begins with '.' "
                      "or is too long",
                      c->name);
    return c->run < 0
               ? db_err(st, STORE_INVAL, "no run %lld", (long long)c->run)
               : STORE_OK;
}

static int ckpt_insert(struct store *st, const struct store_ckpt *c) {
    char id[STORE_NAME_MAX];
    int64_t same;
    int rc = ckpt_name_check(st, c);
    if (rc == 0 && c->run > 0)
        rc = run_check(st, c->run);
    if (rc < 0)
        return rc;
    snprintf(id, sizeof id, "%lld/%s", (long long)c->run, c->name);
    rc = db_exec(st,
                 "INSERT OR IGNORE INTO ckpt(id,run,name,step,kind,model,bytes,"
                 "created_us,is_deleting) VALUES(?,?,?,?,?,?,?,?,0)",
                 "slslssll", id, c->run, c->name, c->step, c->kind, c->model,
                 c->bytes, c->created_us);
    if (rc < 0 || db_changes(st) == 1)
        return rc;
    rc = db_int(st, &same,
                "SELECT step=? AND kind=? AND is_deleting=0 FROM ckpt"
                " WHERE id=?",
                "lss", c->step, c->kind, id);
    if (rc == 0 && !same)
        rc = db_err(st, STORE_CONFLICT,
                    "%s exists with another step or kind, or is being deleted",
                    id);
    return rc;
}

int store_ckpt_add(struct store *st, const struct store_ckpt *c) {
    int rc = tx_enter(st, "record checkpoint");
    return rc < 0 ? rc : tx_leave(st, ckpt_insert(st, c));
}

static int no_ckpt(struct store *st, const char *id) {
    return db_err(st, STORE_NOTFOUND,
                  "no checkpoint '%s' (`fettle ckpt` lists them)",
                  id ? id : "");
}

/* Fails with what stands on the checkpoint: a query for one name. */
static int used_by(struct store *st, const char *id, const char *sql,
                   const char *what) {
    sqlite3_stmt *q;
    int rc = db_query(st, &q, sql, "s", id);
    if (rc == 0)
        rc = db_next(st, q);
    if (rc <= 0)
        return rc;
    rc = db_err(st, STORE_CONFLICT, "%s is in use: %s '%s' stands on it", id,
                what, (const char *)sqlite3_column_text(q, 0));
    db_end(q);
    return rc;
}

static int ckpt_free_check(struct store *st, const char *id) {
    int rc = used_by(st, id,
                     "SELECT name FROM promotion WHERE ckpt=? AND is_current=1",
                     "the promoted name");
    return rc < 0 ? rc
                  : used_by(st, id,
                            "SELECT name FROM deployment d JOIN version v ON"
                            " v.deployment=d.name AND v.version=d.version"
                            " WHERE v.ckpt=? AND d.state!=3",
                            "the deployment");
}

int store_ckpt_deleting(struct store *st, const char *id) {
    int rc = tx_enter(st, "delete checkpoint");
    if (rc < 0)
        return rc;
    rc = ckpt_free_check(st, id);
    if (rc == 0)
        rc = db_exec(st, "UPDATE ckpt SET is_deleting=1 WHERE id=?", "s", id);
    if (rc == 0 && db_changes(st) == 0)
        rc = no_ckpt(st, id);
    return tx_leave(st, rc);
}

int store_ckpt_rm(struct store *st, const char *id) {
    int rc = tx_enter(st, "delete checkpoint");
    if (rc < 0)
        return rc;
    rc = db_exec(st, "DELETE FROM ckpt WHERE id=? AND is_deleting=1", "s", id);
    if (rc == 0 && db_changes(st) == 0)
        rc = db_err(st, STORE_CONFLICT, "'%s' is not being deleted", id);
    return tx_leave(st, rc);
}

#define CKPT_COLUMNS \
    "SELECT id,run,name,step,kind,model,bytes,created_us,is_deleting," \
    "ifnull((SELECT group_concat(p.name,' ') FROM promotion p" \
    " WHERE p.ckpt=ckpt.id AND p.is_current=1),'') FROM ckpt "

static void ckpt_row(struct rows *r, sqlite3_stmt *q, void *row) {
    *(struct store_ckpt *)row = (struct store_ckpt){
        .id = rows_text(r, q, 0),
        .run = sqlite3_column_int64(q, 1),
        .name = rows_text(r, q, 2),
        .step = sqlite3_column_int64(q, 3),
        .kind = rows_text(r, q, 4),
        .model = rows_text(r, q, 5),
        .bytes = sqlite3_column_int64(q, 6),
        .created_us = sqlite3_column_int64(q, 7),
        .is_deleting = sqlite3_column_int(q, 8) != 0,
        .promoted = rows_text(r, q, 9),
    };
}

static int ckpts_read(struct store *st, sqlite3_stmt *q,
                      struct store_ckpts *rows) {
    struct rows r = {0};
    int rc = rows_read(st, q, &r, sizeof(struct store_ckpt), ckpt_row);
    ROWS_MOVE(rows, &r);
    return rc;
}

int store_ckpts(struct store *st, int64_t run, struct store_ckpts *rows) {
    sqlite3_stmt *q;
    *rows = (struct store_ckpts){0};
    read_enter(st, "list checkpoints");
    int rc = run < 0
                 ? db_query(st, &q, CKPT_COLUMNS "ORDER BY n DESC", "")
                 : db_query(st, &q, CKPT_COLUMNS "WHERE run=? ORDER BY n DESC",
                            "l", run);
    return rc < 0 ? rc : ckpts_read(st, q, rows);
}

int store_ckpt_get(struct store *st, const char *id, struct store_ckpts *rows) {
    sqlite3_stmt *q;
    *rows = (struct store_ckpts){0};
    read_enter(st, "find checkpoint");
    int rc = db_query(st, &q,
                      CKPT_COLUMNS "WHERE id=ifnull((SELECT ckpt FROM promotion"
                                   " WHERE name=?1 AND is_current=1),?1)",
                      "s", id);
    if (rc == 0)
        rc = ckpts_read(st, q, rows);
    return rc == 0 && rows->n == 0 ? no_ckpt(st, id) : rc;
}

void store_ckpts_free(struct store_ckpts *rows) { ROWS_FREE(rows); }

/* ---- promotion ---- */

static int ckpt_live_check(struct store *st, const char *id) {
    int64_t one;
    int rc = db_int(st, &one, "SELECT 1 FROM ckpt WHERE id=? AND is_deleting=0",
                    "s", id);
    return rc == STORE_NOTFOUND ? no_ckpt(st, id) : rc;
}

static int is_model(struct store *st, const char *name) {
    int64_t one;
    int rc = db_int(st, &one, "SELECT 1 FROM model WHERE name=?", "s", name);
    return rc == 0 ? 1 : rc == STORE_NOTFOUND ? 0 : rc;
}

static int promote_check(struct store *st, const char *name, const char *ckpt) {
    int rc = handle_check(st, "the name", name);
    if (rc == 0 && *ckpt)
        rc = ckpt_live_check(st, ckpt);
    if (rc == 0)
        rc = is_model(st, name);
    if (rc == 1)
        rc = db_err(st, STORE_EXISTS, "'%s' is the name of a base model", name);
    return rc;
}

static int promote(struct store *st, const char *name, const char *ckpt,
                   int64_t now_us) {
    int64_t same;
    int rc = promote_check(st, name, ckpt);
    if (rc < 0)
        return rc;
    rc = db_int(st, &same,
                "SELECT 1 FROM promotion WHERE name=? AND ckpt=?"
                " AND is_current=1",
                "ss", name, ckpt);
    if (rc != STORE_NOTFOUND)
        return rc;
    rc = db_exec(st,
                 "UPDATE promotion SET is_current=0 WHERE name=?"
                 " AND is_current=1",
                 "s", name);
    if (rc == 0 && !*ckpt && db_changes(st) == 0)
        rc = db_err(st, STORE_NOTFOUND, "no promoted name '%s'", name);
    if (rc == 0)
        rc = db_exec(st,
                     "INSERT INTO promotion(name,ckpt,time_us,is_current)"
                     " VALUES(?,?,?,?)",
                     "ssld", name, ckpt, now_us, *ckpt != 0);
    return rc;
}

int store_promote(struct store *st, const char *name, const char *ckpt,
                  int64_t now_us) {
    int rc = tx_enter(st, "promote");
    return rc < 0 ? rc
                  : tx_leave(st, promote(st, name, ckpt ? ckpt : "", now_us));
}

static void promotion_row(struct rows *r, sqlite3_stmt *q, void *row) {
    *(struct store_promotion *)row = (struct store_promotion){
        .name = rows_text(r, q, 0),
        .ckpt = rows_text(r, q, 1),
        .time_us = sqlite3_column_int64(q, 2),
    };
}

int store_promotions(struct store *st, const char *name,
                     struct store_promotions *rows) {
    sqlite3_stmt *q;
    struct rows r = {0};
    *rows = (struct store_promotions){0};
    read_enter(st, "list promotions");
    int rc = db_query(st, &q,
                      "SELECT name,ckpt,time_us FROM promotion"
                      " WHERE ?1='' OR name=?1 ORDER BY n DESC",
                      "s", name);
    if (rc == 0)
        rc =
            rows_read(st, q, &r, sizeof(struct store_promotion), promotion_row);
    ROWS_MOVE(rows, &r);
    return rc;
}

void store_promotions_free(struct store_promotions *rows) { ROWS_FREE(rows); }

/* ---- targets ---- */

/* 1 = found: the first row's columns. */
static int target_try(struct store *st, const char *sql, const char *name,
                      struct store_target *t) {
    sqlite3_stmt *q;
    int rc = db_query(st, &q, sql, "s", name);
    if (rc == 0)
        rc = db_next(st, q);
    if (rc != 1)
        return rc;
    snprintf(t->model, sizeof t->model, "%s",
             (const char *)sqlite3_column_text(q, 0));
    snprintf(t->ckpt, sizeof t->ckpt, "%s",
             (const char *)sqlite3_column_text(q, 1));
    snprintf(t->precision, sizeof t->precision, "%s",
             (const char *)sqlite3_column_text(q, 2));
    db_end(q);
    return 1;
}

int store_target(struct store *st, const char *target, struct store_target *t) {
    *t = (struct store_target){0};
    read_enter(st, "find target");
    int rc = target_try(st,
                        "SELECT v.model, v.ckpt, v.precision FROM deployment"
                        " d JOIN version"
                        " v ON v.deployment=d.name AND v.version=d.version"
                        " WHERE d.name=? AND d.state!=3",
                        target, t);
    if (rc == 0)
        rc = target_try(
            st,
            "SELECT c.model, c.id, 'exact' FROM promotion p JOIN ckpt c ON"
            " c.id=p.ckpt WHERE p.name=? AND p.is_current=1",
            target, t);
    if (rc == 0)
        rc = target_try(st,
                        "SELECT model, id, 'exact' FROM ckpt WHERE id=?"
                        " AND is_deleting=0",
                        target, t);
    if (rc == 0)
        rc = target_try(st, "SELECT name, '', 'exact' FROM model WHERE name=?",
                        target, t);
    if (rc == 0)
        return db_err(st, STORE_NOTFOUND,
                      "'%s' is no deployment, promoted name, checkpoint or "
                      "model (`fettle deployments`, `fettle ckpt`, `fettle "
                      "model list`)",
                      target ? target : "");
    return rc < 0 ? rc : STORE_OK;
}
