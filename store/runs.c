/*
 * runs - base models, runs and their flattened configs. The filter language
 * of store_runs() is compiled in query.c.
 */
#include "store/query.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- base models ---- */

static int model_insert(struct store *st, const struct store_model *m) {
    int rc = name_check(st, "the model's name", m->name);
    if (rc == 0 && is_digits(m->name))
        rc = db_err(st, STORE_INVAL, "the model's name is only digits");
    if (rc == 0)
        rc = name_check(st, "the model's family", m->family);
    if (rc < 0)
        return rc;
    rc = db_exec(st,
                 "INSERT INTO model VALUES(?,?,?,?,?) ON CONFLICT(name) DO"
                 " UPDATE SET family=excluded.family, params=excluded.params"
                 " WHERE dir=excluded.dir",
                 "sssll", m->name, m->dir, m->family, m->params, m->added_us);
    if (rc == 0 && db_changes(st) == 0)
        rc = db_err(st, STORE_EXISTS,
                    "'%s' is registered with another directory (`fettle model "
                    "rm %s` first, or take another name)",
                    m->name, m->name);
    return rc;
}

int store_model_add(struct store *st, const struct store_model *m) {
    int rc = tx_enter(st, "add model");
    return rc < 0 ? rc : tx_leave(st, model_insert(st, m));
}

/* What stands on a base model, a text each. */
static const char model_users[] =
    "SELECT 'run '||id||' is not over (`fettle kill '||id||'` ends it)'"
    " FROM run WHERE model=?1 AND state<3"
    " UNION ALL SELECT 'run '||t.run||' can still be resumed (`fettle kill '||"
    "t.run||'` ends it)' FROM tmodel t JOIN run r ON r.id=t.run"
    " WHERE t.base=?1 AND t.state=0 AND r.state>=3"
    " UNION ALL SELECT 'training model m'||n||' is on it' FROM tmodel"
    " WHERE base=?1 AND state=0 AND run=0"
    " UNION ALL SELECT 'deployment '||d.name||' serves it (`fettle undeploy '||"
    "d.name||'`)' FROM deployment d JOIN version v ON v.deployment=d.name AND"
    " v.version=d.version WHERE v.model=?1 AND d.state!=3"
    " UNION ALL SELECT 'checkpoint '||id||' needs it (`fettle ckpt rm '||id||"
    "'`)' FROM ckpt WHERE model=?1";

/* STORE_CONFLICT names the first few that need the model. */
static int model_unused(struct store *st, const char *name) {
    enum { TOLD = 3 };
    sqlite3_stmt *q;
    char text[400] = "", more[40] = "";
    size_t len = 0;
    int n = 0, rc = db_query(st, &q, model_users, "s", name);
    while (rc >= 0 && (rc = db_next(st, q)) == 1) {
        if (n++ >= TOLD || len >= sizeof text)
            continue;
        len += (size_t)snprintf(text + len, sizeof text - len, "%s%s",
                                n > 1 ? "; " : "",
                                (const char *)sqlite3_column_text(q, 0));
    }
    if (rc < 0 || n == 0)
        return rc;
    if (n > TOLD)
        snprintf(more, sizeof more, "; and %d more", n - TOLD);
    return db_err(st, STORE_CONFLICT, "'%s' is in use: %s%s", name, text, more);
}

int store_model_rm(struct store *st, const char *name) {
    int rc = tx_enter(st, "remove model");
    if (rc < 0)
        return rc;
    rc = model_unused(st, name);
    if (rc == 0)
        rc = db_exec(st, "DELETE FROM model WHERE name=?", "s", name);
    if (rc == 0 && db_changes(st) == 0)
        rc = db_err(st, STORE_NOTFOUND, "no model '%s' (`fettle model list`)",
                    name);
    return tx_leave(st, rc);
}

static void model_row(struct rows *r, sqlite3_stmt *q, void *row) {
    *(struct store_model *)row = (struct store_model){
        .name = rows_text(r, q, 0),
        .dir = rows_text(r, q, 1),
        .family = rows_text(r, q, 2),
        .params = sqlite3_column_int64(q, 3),
        .added_us = sqlite3_column_int64(q, 4),
    };
}

static int models_read(struct store *st, sqlite3_stmt *q,
                       struct store_models *rows) {
    struct rows r = {0};
    int rc = rows_read(st, q, &r, sizeof(struct store_model), model_row);
    ROWS_MOVE(rows, &r);
    return rc;
}

int store_models(struct store *st, struct store_models *rows) {
    sqlite3_stmt *q;
    *rows = (struct store_models){0};
    read_enter(st, "list models");
    int rc = db_query(st, &q, "SELECT * FROM model ORDER BY name", "");
    return rc < 0 ? rc : models_read(st, q, rows);
}

int store_model_get(struct store *st, const char *name,
                    struct store_models *rows) {
    sqlite3_stmt *q;
    *rows = (struct store_models){0};
    read_enter(st, "find model");
    int rc = db_query(st, &q, "SELECT * FROM model WHERE name=?", "s", name);
    if (rc == 0)
        rc = models_read(st, q, rows);
    if (rc == 0 && rows->n == 0)
        rc = db_err(st, STORE_NOTFOUND,
                    "no model '%s' (`fettle model list` shows those there are)",
                    name ? name : "");
    return rc;
}

void store_models_free(struct store_models *rows) { ROWS_FREE(rows); }

/* ---- states ---- */

static const char *const state_names[STORE_RUN_STATES] = {
    [STORE_RUN_QUEUED] = "queued", [STORE_RUN_RUNNING] = "running",
    [STORE_RUN_PAUSED] = "paused", [STORE_RUN_DONE] = "done",
    [STORE_RUN_FAILED] = "failed", [STORE_RUN_KILLED] = "killed",
};

const char *store_run_state_name(enum store_run_state s) {
    return (unsigned)s < STORE_RUN_STATES ? state_names[s] : "unknown";
}

int store_run_state_by_name(const char *name) {
    for (int i = 0; i < STORE_RUN_STATES; i++)
        if (strcmp(name, state_names[i]) == 0)
            return i;
    return -1;
}

/* ---- writing runs ---- */

/* One row a leaf; json_tree gives paths such as $.optim."beta_1". */
static int config_flatten(struct store *st, int64_t run, const char *config) {
    int rc = db_exec(st, "DELETE FROM config_kv WHERE run=?", "l", run);
    if (rc < 0)
        return rc;
    return db_exec(st,
                   "INSERT OR REPLACE INTO config_kv(run,key,num,text)"
                   " SELECT ?, replace(substr(fullkey,3),'\"',''),"
                   "  CASE type WHEN 'integer' THEN atom WHEN 'real' THEN atom"
                   "   WHEN 'true' THEN 1 WHEN 'false' THEN 0 END,"
                   "  CASE type WHEN 'real' THEN printf('%.15g',atom)"
                   "   WHEN 'true' THEN type WHEN 'false' THEN type"
                   "   WHEN 'null' THEN type ELSE atom END"
                   " FROM json_tree(?) WHERE type NOT IN ('object','array')",
                   "ls", run, config);
}

static int config_check(struct store *st, const char *config) {
    int64_t ok = 0;
    int rc = db_int(st, &ok,
                    "SELECT CASE json_valid(?1) WHEN 1 THEN"
                    " json_type(?1)='object' ELSE 0 END",
                    "s", config);
    if (rc == 0 && !ok)
        rc = db_err(st, STORE_INVAL, "the config is not a JSON object");
    return rc;
}

static int run_name_check(struct store *st, const char *name) {
    if (!name || !*name)
        return STORE_OK;
    int rc = name_check(st, "the run's name", name);
    if (rc == 0 && is_digits(name))
        rc = db_err(st, STORE_INVAL,
                    "the run's name '%s' must not be only digits: that is a "
                    "run's number",
                    name);
    return rc;
}

static int run_insert(struct store *st, const struct store_run *r,
                      const char *config, int64_t *id) {
    int rc = run_name_check(st, r->name);
    if (rc == 0)
        rc = name_check(st, "the recipe", r->recipe);
    if (rc == 0)
        rc = config_check(st, config);
    if (rc == 0)
        rc =
            db_exec(st,
                    "INSERT INTO run(name,recipe,model,config,state,error,"
                    "cursor,planned,created_us,started_us,ended_us,run_us,"
                    "tmodel,note,tags) VALUES(?,?,?,?,0,'',0,?,?,0,0,0,'',?,?)",
                    "ssssllss", r->name, r->recipe, r->model, config,
                    r->planned, r->created_us, r->note, r->tags);
    if (rc < 0)
        return rc;
    *id = sqlite3_last_insert_rowid(st->db);
    rc = db_exec(st,
                 "UPDATE run SET name=recipe||'-'||id"
                 " WHERE id=? AND name=''",
                 "l", *id);
    return rc < 0 ? rc : config_flatten(st, *id, config);
}

int store_run_add(struct store *st, const struct store_run *r, int64_t *id) {
    const char *config = r->config && *r->config ? r->config : "{}";
    int rc = tx_enter(st, "add run");
    return rc < 0 ? rc : tx_leave(st, run_insert(st, r, config, id));
}

/* Ends a call whose UPDATE of one run was made with result rc. */
static int run_leave(struct store *st, int rc, int64_t run) {
    if (rc == 0 && db_changes(st) == 0)
        rc = db_err(st, STORE_NOTFOUND, "no run %lld", (long long)run);
    return tx_leave(st, rc);
}

int store_run_state(struct store *st, int64_t run, enum store_run_state state,
                    const char *error, int64_t now_us) {
    int rc = tx_enter(st, "set state of run");
    if (rc < 0)
        return rc;
    rc = db_exec(st,
                 "UPDATE run SET state=?1, error=?2,"
                 " started_us=CASE WHEN ?1=1 AND started_us=0 THEN ?3"
                 "  ELSE started_us END,"
                 " ended_us=CASE WHEN ?1>=3 THEN ?3 ELSE 0 END WHERE id=?4",
                 "dsll", (int)state, error, now_us, run);
    return run_leave(st, rc, run);
}

int store_run_advance(struct store *st, int64_t run, int64_t cursor,
                      int64_t run_us) {
    int rc = tx_enter(st, "advance run");
    if (rc < 0)
        return rc;
    rc = db_exec(st,
                 "UPDATE run SET cursor=max(cursor,?), run_us=run_us+?"
                 " WHERE id=?",
                 "lll", cursor, run_us, run);
    return run_leave(st, rc, run);
}

int store_run_plan(struct store *st, int64_t run, int64_t planned) {
    int rc = tx_enter(st, "plan run");
    if (rc < 0)
        return rc;
    rc = db_exec(st, "UPDATE run SET planned=? WHERE id=?", "ll", planned, run);
    return run_leave(st, rc, run);
}

static int config_set(struct store *st, int64_t run, const char *config) {
    int rc = run_check(st, run);
    if (rc == 0)
        rc = config_check(st, config);
    if (rc == 0)
        rc = db_exec(st, "UPDATE run SET config=? WHERE id=?", "sl", config,
                     run);
    return rc < 0 ? rc : config_flatten(st, run, config);
}

int store_run_config(struct store *st, int64_t run, const char *config) {
    int rc = tx_enter(st, "set config of run");
    return rc < 0 ? rc : tx_leave(st, config_set(st, run, config));
}

int store_run_tmodel(struct store *st, int64_t run, const char *tmodel) {
    int rc = tx_enter(st, "set model of run");
    if (rc < 0)
        return rc;
    rc = db_exec(st, "UPDATE run SET tmodel=? WHERE id=?", "sl", tmodel, run);
    return run_leave(st, rc, run);
}

int store_run_note(struct store *st, int64_t run, const char *note) {
    int rc = tx_enter(st, "note run");
    if (rc < 0)
        return rc;
    rc = db_exec(st, "UPDATE run SET note=? WHERE id=?", "sl", note, run);
    return run_leave(st, rc, run);
}

int store_run_tags(struct store *st, int64_t run, const char *tags) {
    int rc = tx_enter(st, "tag run");
    if (rc < 0)
        return rc;
    rc = db_exec(st, "UPDATE run SET tags=? WHERE id=?", "sl", tags, run);
    return run_leave(st, rc, run);
}

static int run_delete(struct store *st, int64_t run) {
    int64_t state, ckpts;
    int rc = run_check(st, run);
    if (rc == 0)
        rc = db_int(st, &state, "SELECT state FROM run WHERE id=?", "l", run);
    if (rc == 0)
        rc = db_int(st, &ckpts, "SELECT count(*) FROM ckpt WHERE run=?", "l",
                    run);
    if (rc < 0)
        return rc;
    if (state < STORE_RUN_DONE)
        return db_err(st, STORE_CONFLICT, "run %lld is %s (kill it first)",
                      (long long)run, state_names[state]);
    if (ckpts > 0)
        return db_err(st, STORE_CONFLICT,
                      "run %lld has %lld checkpoints (remove them first)",
                      (long long)run, (long long)ckpts);
    rc = ops_forget(st, run);
    if (rc == 0)
        rc = db_exec(st, "DELETE FROM event WHERE run=?", "l", run);
    return rc < 0 ? rc : db_exec(st, "DELETE FROM run WHERE id=?", "l", run);
}

int store_run_rm(struct store *st, int64_t run) {
    int rc = tx_enter(st, "remove run");
    return rc < 0 ? rc : tx_leave(st, run_delete(st, run));
}

/* ---- reading runs ---- */

static void run_row(struct rows *r, sqlite3_stmt *q, void *row) {
    *(struct store_run *)row = (struct store_run){
        .id = sqlite3_column_int64(q, 0),
        .name = rows_text(r, q, 1),
        .recipe = rows_text(r, q, 2),
        .model = rows_text(r, q, 3),
        .config = rows_text(r, q, 4),
        .state = (enum store_run_state)sqlite3_column_int(q, 5),
        .error = rows_text(r, q, 6),
        .cursor = sqlite3_column_int64(q, 7),
        .planned = sqlite3_column_int64(q, 8),
        .created_us = sqlite3_column_int64(q, 9),
        .started_us = sqlite3_column_int64(q, 10),
        .ended_us = sqlite3_column_int64(q, 11),
        .run_us = sqlite3_column_int64(q, 12),
        .tmodel = rows_text(r, q, 13),
        .note = rows_text(r, q, 14),
        .tags = rows_text(r, q, 15),
    };
}

static int runs_read(struct store *st, sqlite3_stmt *q,
                     struct store_runs *rows) {
    struct rows r = {0};
    int rc = rows_read(st, q, &r, sizeof(struct store_run), run_row);
    ROWS_MOVE(rows, &r);
    return rc;
}

/* The statement is made for this filter, so it is not kept. */
static int runs_query(struct store *st, const char *head, const char *filter,
                      const char *tail, sqlite3_stmt **q) {
    struct query w;
    int rc = query_compile(st, &w, head, filter, tail);
    if (rc == 0)
        rc = query_prepare(st, &w, q);
    query_release(&w);
    return rc;
}

int store_runs(struct store *st, const struct store_run_query *query,
               struct store_runs *rows) {
    sqlite3_stmt *q = NULL;
    char tail[96];
    *rows = (struct store_runs){0};
    read_enter(st, "list runs");
    snprintf(tail, sizeof tail, " ORDER BY id DESC LIMIT %d OFFSET %d",
             query->limit > 0 ? query->limit : -1, query->offset);
    int rc =
        runs_query(st, "SELECT * FROM run WHERE ", query->filter, tail, &q);
    if (rc == 0)
        rc = runs_read(st, q, rows);
    sqlite3_finalize(q);
    return rc;
}

int store_runs_count(struct store *st, const char *filter, int64_t *n) {
    sqlite3_stmt *q = NULL;
    *n = 0;
    read_enter(st, "count runs");
    int rc = runs_query(st, "SELECT count(*) FROM run WHERE ", filter, "", &q);
    if (rc == 0)
        rc = db_next(st, q);
    if (rc == 1)
        *n = sqlite3_column_int64(q, 0);
    sqlite3_finalize(q);
    return rc < 0 ? rc : STORE_OK;
}

int store_run_get(struct store *st, int64_t run, struct store_runs *rows) {
    sqlite3_stmt *q;
    *rows = (struct store_runs){0};
    read_enter(st, "find run");
    int rc = db_query(st, &q, "SELECT * FROM run WHERE id=?", "l", run);
    if (rc == 0)
        rc = runs_read(st, q, rows);
    if (rc == 0 && rows->n == 0)
        rc = db_err(st, STORE_NOTFOUND,
                    "no run %lld (`fettle runs` lists them)", (long long)run);
    return rc;
}

static int ambiguous(struct store *st, const char *name,
                     struct store_runs *rows) {
    int rc = db_err(st, STORE_CONFLICT,
                    "%d runs are named '%s' (newest: %lld, %lld); use a number",
                    rows->n, name, (long long)rows->row[0].id,
                    (long long)rows->row[1].id);
    store_runs_free(rows);
    return rc;
}

int store_run_find(struct store *st, const char *run, struct store_runs *rows) {
    sqlite3_stmt *q;
    if (is_digits(run) && strlen(run) < 19)
        return store_run_get(st, strtoll(run, NULL, 10), rows);
    *rows = (struct store_runs){0};
    read_enter(st, "find run");
    int rc = db_query(st, &q, "SELECT * FROM run WHERE name=? ORDER BY id DESC",
                      "s", run);
    if (rc == 0)
        rc = runs_read(st, q, rows);
    if (rc == 0 && rows->n > 1)
        rc = ambiguous(st, run, rows);
    else if (rc == 0 && rows->n == 0)
        rc = db_err(st, STORE_NOTFOUND,
                    "no run '%s' (`fettle runs` lists them)", run);
    return rc;
}

void store_runs_free(struct store_runs *rows) { ROWS_FREE(rows); }

/* ---- configs ---- */

static void config_row(struct rows *r, sqlite3_stmt *q, void *row) {
    *(struct store_config_kv *)row = (struct store_config_kv){
        .key = rows_text(r, q, 0),
        .text = rows_text(r, q, 2),
        .num = db_real(q, 1),
    };
}

int store_config(struct store *st, int64_t run, struct store_config *rows) {
    sqlite3_stmt *q;
    struct rows r = {0};
    *rows = (struct store_config){0};
    read_enter(st, "read config");
    int rc = run_check(st, run);
    if (rc == 0)
        rc = db_query(st, &q,
                      "SELECT key,num,text FROM config_kv WHERE run=?"
                      " ORDER BY key",
                      "l", run);
    if (rc == 0)
        rc = rows_read(st, q, &r, sizeof(struct store_config_kv), config_row);
    ROWS_MOVE(rows, &r);
    return rc;
}

void store_config_free(struct store_config *rows) { ROWS_FREE(rows); }
