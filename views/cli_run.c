/* cli_run: starting a run, and staying until it ends. */
#include "views/cli.h"

#include "core/clock.h"
#include "core/fs.h"
#include "core/recipe.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define WAIT_POLL_MS 100

static json_t *ckpts_of(struct store *st, int64_t run) {
    struct store_ckpts rows = {0};
    json_t *all = json_array();
    if (store_ckpts(st, run, &rows) == STORE_OK)
        for (int i = rows.n - 1; i >= 0; i--)
            json_array_append_new(all, json_string(rows.row[i].id));
    store_ckpts_free(&rows);
    return all;
}

static json_t *summary(struct store *st, const struct store_run *r) {
    json_t *j = cli_run_json(st, r);
    json_t *s = json_pack(
        "{s:I, s:s, s:I, s:f, s:O, s:o}", "run", (json_int_t)r->id, "state",
        store_run_state_name(r->state), "steps", (json_int_t)r->cursor,
        "seconds", (double)r->run_us / 1e6, "metrics",
        json_object_get(j, "metrics"), "checkpoints", ckpts_of(st, r->id));
    json_decref(j);
    return s;
}

/* A line of progress on stderr: overwritten on a terminal. */
static void progress(struct cli *c, struct store *st, const struct store_run *r,
                     int64_t *shown) {
    char line[160];
    double nll = 0, tps = 0;
    if (r->cursor == *shown || r->cursor == 0)
        return;
    *shown = r->cursor;
    store_metric_last(st, r->id, "train_mean_nll", &nll);
    store_metric_last(st, r->id, "tokens_per_s", &tps);
    snprintf(line, sizeof line, "%sstep %lld/%lld  nll %.4g  %.0f tok/s%s",
             isatty(STDERR_FILENO) ? "\r\033[K" : "", (long long)r->cursor,
             (long long)r->planned, nll, tps,
             isatty(STDERR_FILENO) ? "" : "\n");
    c->note(line);
}

/* Keeps the daemon up while somebody waits: it may be killed meanwhile. */
static void nudge(struct client *cl) {
    struct err ignored = {0};
    json_decref(client_call(cl, "GET", "/healthz", NULL, &ignored));
}

int cli_wait(struct cli *c, struct client *cl, int64_t run,
             struct store_runs *rows, struct err *err) {
    struct store *st = NULL;
    int64_t shown = 0;
    for (int tick = 0;; tick++) {
        if (!st && !(st = cli_store(c, err)) && err->code)
            return -1;
        store_runs_free(rows);
        int s = st ? store_run_get(st, run, rows) : STORE_NOTFOUND;
        if (s != STORE_OK && s != STORE_BUSY) {
            store_close(st);
            st = NULL;
        }
        if (s == STORE_OK)
            progress(c, st, rows->row, &shown);
        if (s == STORE_OK && rows->row->state > STORE_RUN_PAUSED)
            break;
        if (tick % 10 == 9)
            nudge(cl);
        clock_sleep_ms(WAIT_POLL_MS);
    }
    if (isatty(STDERR_FILENO) && shown)
        c->note("\n");
    store_close(st);
    return 0;
}

/* Stays until the run ends and prints how it went. */
static int follow(struct cli *c, struct client *cl, int64_t run,
                  struct err *err) {
    struct store_runs rows = {0};
    struct store *st = NULL;
    if (cli_wait(c, cl, run, &rows, err) < 0 || !(st = cli_store(c, err)))
        return -1;
    const struct store_run *r = rows.row;
    int rc = 0;
    if (c->json)
        cli_print_json(summary(st, r), false);
    else
        printf("run %lld %s after %lld steps\n", (long long)run,
               store_run_state_name(r->state), (long long)r->cursor);
    if (r->state != STORE_RUN_DONE) {
        c->status = 1;
        if (!c->json && *r->error)
            rc = err_set(err, ERR_INVAL, "run %lld: %s", (long long)run,
                         r->error);
    }
    store_runs_free(&rows);
    store_close(st);
    return rc;
}

static int64_t run_post(struct client *cl, const char *recipe, const char *name,
                        const json_t *config, struct err *err) {
    json_t *body = json_pack(
        "{s:s, s:s, s:s, s:O}", "recipe", recipe, "name", name ? name : "",
        "model", json_string_value(json_object_get(config, "model")), "config",
        config);
    json_t *got = client_call(cl, "POST", "/fettle/v1/runs", body, err);
    int64_t run = json_integer_value(json_object_get(got, "run"));
    json_decref(body);
    json_decref(got);
    return got ? run : -1;
}

/* Checks what can be checked, then posts; the run's number or -1. */
int64_t cli_run_start(struct cli *c, struct client *cl, const char *recipe,
                      const char *name, char *const *words, int n,
                      struct err *err) {
    const struct recipe *r = recipe_find(recipe);
    if (!r)
        return err_set(err, ERR_USAGE, "no recipe '%.64s' (fettle recipes)",
                       recipe);
    json_t *config = recipe_config(r, words, n, err);
    if (!config)
        return -1;
    const char *model = json_string_value(json_object_get(config, "model"));
    char *dir = cli_model_dir(c, model, err);
    int64_t run = -1;
    if (dir && recipe_check(r, config, dir, NULL, err) == 0)
        run = run_post(cl, recipe, name, config, err);
    free(dir);
    json_decref(config);
    return run;
}

int cli_run(struct cli *c, struct err *err) {
    const char *name = cli_opt(c, "--name");
    bool wait = cli_opt(c, "--wait") || cli_opt(c, "--watch");
    if (name && fs_check_name("--name", name, err) < 0)
        return -1;
    struct client *cl = cli_client(c, true, err);
    if (!cl)
        return -1;
    int64_t run =
        cli_run_start(c, cl, c->arg[0], name, c->arg + 1, c->n - 1, err);
    int rc = run < 0 ? -1 : 0;
    if (rc == 0 && wait)
        rc = follow(c, cl, run, err);
    else if (rc == 0 && c->json)
        cli_print_json(json_pack("{s:I}", "run", (json_int_t)run), false);
    else if (rc == 0)
        printf("%lld\n", (long long)run);
    client_close(cl);
    return rc;
}
