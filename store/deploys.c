/*
 * deploys - deployments and their versions. Versions are only ever added;
 * the deployment's row says which one is served.
 */
#include "store/db.h"

#include <stdlib.h>

static const char *const state_names[STORE_DEPLOY_STATES] = {
    [STORE_DEPLOY_LOADING] = "loading",
    [STORE_DEPLOY_SERVING] = "serving",
    [STORE_DEPLOY_FAILED] = "failed",
    [STORE_DEPLOY_STOPPED] = "stopped",
};

const char *store_deploy_state_name(enum store_deploy_state s) {
    return (unsigned)s < STORE_DEPLOY_STATES ? state_names[s] : "unknown";
}

static int no_deployment(struct store *st, const char *name) {
    return db_err(st, STORE_NOTFOUND,
                  "no deployment '%s' (`fettle deployments` lists them)",
                  name ? name : "");
}

/* The live version when it is of this very target, else 0. */
static int live_version(struct store *st, const char *name, const char *ckpt,
                        const char *model, const char *precision,
                        int64_t *version) {
    *version = 0;
    int rc = db_int(st, version,
                    "SELECT d.version FROM deployment d JOIN version v ON"
                    " v.deployment=d.name AND v.version=d.version"
                    " WHERE d.name=? AND d.state!=3 AND v.ckpt=?"
                    " AND (v.ckpt!='' OR v.model=?) AND v.precision=?",
                    "ssss", name, ckpt, model, precision);
    return rc == STORE_NOTFOUND ? STORE_OK : rc;
}

static int target_exists(struct store *st, const char *ckpt,
                         const char *model) {
    int64_t one;
    int rc = *ckpt ? db_int(st, &one,
                            "SELECT 1 FROM ckpt WHERE id=? AND is_deleting=0",
                            "s", ckpt)
                   : db_int(st, &one, "SELECT 1 FROM model WHERE name=?", "s",
                            model);
    if (rc == STORE_NOTFOUND)
        rc = db_err(st, rc, "no %s '%s'", *ckpt ? "checkpoint" : "model",
                    *ckpt ? ckpt : model);
    return rc;
}

static int version_insert(struct store *st, const char *name, const char *ckpt,
                          const char *model, const char *precision,
                          int64_t now_us, int64_t *version) {
    int rc = db_int(st, version,
                    "SELECT ifnull(max(version),0)+1 FROM version"
                    " WHERE deployment=?",
                    "s", name);
    if (rc == 0)
        rc = db_exec(st,
                     "INSERT INTO deployment VALUES(?1,?2,0,'',?3,?3)"
                     " ON CONFLICT(name) DO UPDATE SET version=?2, state=0,"
                     " error='', updated_us=?3",
                     "sll", name, *version, now_us);
    if (rc == 0)
        rc = db_exec(st,
                     "INSERT INTO version SELECT ?1,?2,?3,"
                     "ifnull((SELECT model FROM ckpt WHERE id=?3),?4),?5,?6",
                     "slssls", name, *version, ckpt, model, now_us, precision);
    return rc;
}

static int deploy(struct store *st, const char *name, const char *ckpt,
                  const char *model, const char *precision, int64_t now_us,
                  int64_t *version) {
    int rc = handle_check(st, "the deployment's name", name);
    if (rc == 0)
        rc = target_exists(st, ckpt, model);
    if (rc == 0)
        rc = live_version(st, name, ckpt, model, precision, version);
    if (rc == 0 && *version == 0)
        rc = version_insert(st, name, ckpt, model, precision, now_us, version);
    return rc;
}

int store_deploy(struct store *st, const char *name, const char *ckpt,
                 const char *model, const char *precision, int64_t now_us,
                 int *version) {
    int64_t v = 0;
    int rc = tx_enter(st, "deploy");
    if (rc < 0)
        return rc;
    rc = deploy(st, name, ckpt ? ckpt : "", model ? model : "",
                precision ? precision : "exact", now_us, &v);
    if (version)
        *version = (int)v;
    return tx_leave(st, rc);
}

int store_deploy_state(struct store *st, const char *name,
                       enum store_deploy_state state, const char *error,
                       int64_t now_us) {
    int rc = tx_enter(st, "set state of deployment");
    if (rc < 0)
        return rc;
    rc = db_exec(st,
                 "UPDATE deployment SET state=?,error=?,updated_us=?"
                 " WHERE name=?",
                 "dsls", (int)state, error, now_us, name);
    if (rc == 0 && db_changes(st) == 0)
        rc = no_deployment(st, name);
    return tx_leave(st, rc);
}

#define DEPLOYMENT_COLUMNS \
    "SELECT d.name,v.ckpt,v.model,d.state,d.error,d.version," \
    "(SELECT count(*) FROM version w WHERE w.deployment=d.name)," \
    "d.created_us,d.updated_us,v.precision FROM deployment d JOIN version v" \
    " ON v.deployment=d.name AND v.version=d.version "

static void deployment_row(struct rows *r, sqlite3_stmt *q, void *row) {
    *(struct store_deployment *)row = (struct store_deployment){
        .name = rows_text(r, q, 0),
        .ckpt = rows_text(r, q, 1),
        .model = rows_text(r, q, 2),
        .state = (enum store_deploy_state)sqlite3_column_int(q, 3),
        .error = rows_text(r, q, 4),
        .version = sqlite3_column_int(q, 5),
        .versions = sqlite3_column_int(q, 6),
        .created_us = sqlite3_column_int64(q, 7),
        .updated_us = sqlite3_column_int64(q, 8),
        .precision = rows_text(r, q, 9),
    };
}

static int deployments_read(struct store *st, sqlite3_stmt *q,
                            struct store_deployments *rows) {
    struct rows r = {0};
    int rc =
        rows_read(st, q, &r, sizeof(struct store_deployment), deployment_row);
    ROWS_MOVE(rows, &r);
    return rc;
}

int store_deployments(struct store *st, struct store_deployments *rows) {
    sqlite3_stmt *q;
    *rows = (struct store_deployments){0};
    read_enter(st, "list deployments");
    int rc = db_query(
        st, &q, DEPLOYMENT_COLUMNS "WHERE d.state!=3 ORDER BY d.name", "");
    return rc < 0 ? rc : deployments_read(st, q, rows);
}

int store_deployment_get(struct store *st, const char *name,
                         struct store_deployments *rows) {
    sqlite3_stmt *q;
    *rows = (struct store_deployments){0};
    read_enter(st, "find deployment");
    int rc = db_query(st, &q, DEPLOYMENT_COLUMNS "WHERE d.name=?", "s", name);
    if (rc == 0)
        rc = deployments_read(st, q, rows);
    return rc == 0 && rows->n == 0 ? no_deployment(st, name) : rc;
}

void store_deployments_free(struct store_deployments *rows) { ROWS_FREE(rows); }

static void version_row(struct rows *r, sqlite3_stmt *q, void *row) {
    *(struct store_version *)row = (struct store_version){
        .version = sqlite3_column_int(q, 0),
        .ckpt = rows_text(r, q, 1),
        .model = rows_text(r, q, 2),
        .time_us = sqlite3_column_int64(q, 3),
        .precision = rows_text(r, q, 4),
    };
}

int store_versions(struct store *st, const char *name,
                   struct store_versions *rows) {
    sqlite3_stmt *q;
    struct rows r = {0};
    *rows = (struct store_versions){0};
    read_enter(st, "list versions");
    int rc = db_query(st, &q,
                      "SELECT version,ckpt,model,time_us,precision FROM"
                      " version"
                      " WHERE deployment=? ORDER BY version DESC",
                      "s", name);
    if (rc == 0)
        rc = rows_read(st, q, &r, sizeof(struct store_version), version_row);
    ROWS_MOVE(rows, &r);
    return rc;
}

void store_versions_free(struct store_versions *rows) { ROWS_FREE(rows); }
