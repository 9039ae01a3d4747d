/* cli_act: verbs that act, through the daemon; and the processes themselves. */
#include "views/cli.h"

#include "core/ckpt.h"
#include "core/clock.h"
#include "core/daemon.h"
#include "core/engine.h"
#include "core/fs.h"
#include "core/json.h"
#include "core/model.h"
#include "core/recipe.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define WAIT_POLL_MS 100

/* ---- processes ---- */

int cli_serve(struct cli *c, struct err *err) {
    int64_t threads;
    char exe[4096];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (n < 0)
        return err_sys(err, "find the program");
    exe[n] = 0;
    if (cli_home(c, err) < 0 ||
        cli_opt_int(c, "--threads", 0, 0, 256, &threads, err) < 0)
        return -1;
    struct daemon_opts o = {.home = c->home,
                            .tcp = cli_opt(c, "--tcp"),
                            .token = getenv("FETTLE_TOKEN"),
                            .device = cli_opt(c, "--device"),
                            .exe = exe,
                            .threads = (int)threads,
                            .foreground = cli_opt(c, "--foreground") != NULL};
    return daemon_serve(&o, err);
}

int cli_worker(struct cli *c, struct err *err) {
    int64_t threads;
    if (cli_home(c, err) < 0 ||
        cli_opt_int(c, "--threads", 0, 0, 256, &threads, err) < 0)
        return -1;
    struct engine_opts o = {.home = c->home,
                            .name = cli_opt(c, "--model"),
                            .dir = cli_opt(c, "--dir"),
                            .device = cli_opt(c, "--device"),
                            .threads = (int)threads,
                            .fd = 3};
    if (!o.name || !o.dir)
        return err_set(err, ERR_USAGE, "worker: --model and --dir are wanted");
    return engine_worker(&o, err);
}

int cli_job(struct cli *c, struct err *err) {
    char *end;
    int64_t run = strtoll(c->arg[0], &end, 10);
    if (*end || run < 1)
        return err_set(err, ERR_USAGE, "job %.40s: a run's number is wanted",
                       c->arg[0]);
    if (cli_home(c, err) < 0)
        return -1;
    return recipe_job(c->home, run, err);
}

/* ---- one call ---- */

static int call(struct cli *c, const char *method, const char *path,
                json_t *body, const char *said, struct err *err) {
    struct client *cl = cli_client(c, true, err);
    json_t *got = cl ? client_call(cl, method, path, body, err) : NULL;
    json_decref(body);
    client_close(cl);
    if (!got)
        return -1;
    if (c->json) {
        cli_print_json(got, false);
    } else {
        puts(said);
        json_decref(got);
    }
    return 0;
}

int cli_stop(struct cli *c, struct err *err) {
    struct client *cl = cli_client(c, false, err);
    struct err no = {0};
    json_t *got =
        cl ? client_call(cl, "POST", "/fettle/v1/stop", NULL, &no) : NULL;
    client_close(cl);
    if (!cl)
        return -1;
    if (!got && no.code != ERR_UNAVAILABLE)
        return err_set(err, no.code, "%s", no.msg);
    char *lock = fs_path("%s/run/d.lock", c->home);
    for (int i = 0; got && i < 600; i++) { /* until it is gone */
        struct err busy = {0};
        int fd = fs_lock(lock, &busy);
        if (fd >= 0) {
            close(fd);
            break;
        }
        clock_sleep_ms(50);
    }
    free(lock);
    if (c->json)
        cli_print_json(got ? got : json_pack("{s:n}", "pid"), false);
    else
        puts(got ? "stopped" : "no daemon was running");
    if (!c->json)
        json_decref(got);
    return 0;
}

static int run_number(struct cli *c, const char *word, int64_t *run,
                      struct err *err) {
    struct store *st = cli_store(c, err);
    struct store_runs rows = {0};
    int rc = cli_run_find(c, st, word, &rows, err);
    if (rc == 0)
        *run = rows.row->id;
    store_runs_free(&rows);
    store_close(st);
    return rc;
}

static int run_act(struct cli *c, const char *act, const char *said,
                   struct err *err) {
    int64_t run = 0;
    if (run_number(c, c->arg[0], &run, err) < 0)
        return -1;
    char *path = fs_path("/fettle/v1/runs/%lld/%s", (long long)run, act);
    int rc = call(c, "POST", path, NULL, said, err);
    free(path);
    return rc;
}

int cli_pause(struct cli *c, struct err *err) {
    return run_act(c, "pause", "paused", err);
}
int cli_resume(struct cli *c, struct err *err) {
    return run_act(c, "resume", "resumed", err);
}
int cli_kill(struct cli *c, struct err *err) {
    return run_act(c, "kill", "killed", err);
}

int cli_promote(struct cli *c, struct err *err) {
    return call(c, "POST", "/fettle/v1/promote",
                json_pack("{s:s, s:s}", "ckpt", c->arg[0], "name", c->arg[1]),
                "promoted", err);
}

int cli_deploy(struct cli *c, struct err *err) {
    return call(c, "POST", "/fettle/v1/deployments",
                json_pack("{s:s, s:s}", "ckpt", c->arg[0], "name", c->arg[1]),
                "serving", err);
}

int cli_undeploy(struct cli *c, struct err *err) {
    return call(c, "DELETE", "/fettle/v1/deployments",
                json_pack("{s:s}", "name", c->arg[0]), "undeployed", err);
}

int cli_ckpt_rm(struct cli *c, struct err *err) {
    return call(c, "DELETE", "/fettle/v1/checkpoints",
                json_pack("{s:s}", "id", c->arg[0]), "deleted", err);
}

/* ---- models ---- */

int cli_model_add(struct cli *c, struct err *err) {
    struct kern *k = NULL;
    char *dir = realpath(c->arg[1], NULL);
    if (!dir)
        return err_sys(err, "add model %s: %s", c->arg[0], c->arg[1]);
    int rc = kern_open(&k, &(struct kern_opts){.device = "cpu", .threads = 1});
    struct model *m = rc ? NULL : model_open(dir, k, err);
    json_t *body = NULL;
    if (rc) {
        err_kern(err, rc, "cpu");
    } else if (m) {
        const struct conf *conf = model_conf(m);
        body = json_pack("{s:s, s:s, s:s, s:I}", "name", c->arg[0], "dir", dir,
                         "family", conf->family, "params",
                         (json_int_t)conf_params(conf));
    }
    model_close(m);
    if (k)
        k->ops->close(k);
    free(dir);
    return body ? call(c, "POST", "/fettle/v1/models", body, "added", err) : -1;
}

/* ---- runs ---- */

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
    snprintf(line, sizeof line, "%sstep %lld/%lld  nll %.4f  %.0f tok/s%s",
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

static int follow(struct cli *c, struct client *cl, int64_t run, bool loud,
                  struct err *err) {
    struct store *st = NULL;
    struct store_runs rows = {0};
    int64_t shown = 0;
    int rc = 0;
    for (int tick = 0;; tick++) {
        if (!st && !(st = cli_store(c, err)) && err->code)
            return -1;
        store_runs_free(&rows);
        int s = st ? store_run_get(st, run, &rows) : STORE_NOTFOUND;
        if (s != STORE_OK && s != STORE_BUSY) {
            store_close(st);
            st = NULL;
        }
        if (s == STORE_OK && loud)
            progress(c, st, rows.row, &shown);
        if (s == STORE_OK && rows.row->state > STORE_RUN_PAUSED)
            break;
        if (tick % 10 == 9)
            nudge(cl);
        clock_sleep_ms(WAIT_POLL_MS);
    }
    if (loud && isatty(STDERR_FILENO))
        c->note("\n");
    const struct store_run *r = rows.row;
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
static int64_t run_start(struct cli *c, struct client *cl, const char *recipe,
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
    int64_t run = run_start(c, cl, c->arg[0], name, c->arg + 1, c->n - 1, err);
    int rc = run < 0 ? -1 : 0;
    if (rc == 0 && wait)
        rc = follow(c, cl, run, true, err);
    else if (rc == 0 && c->json)
        cli_print_json(json_pack("{s:I}", "run", (json_int_t)run), false);
    else if (rc == 0)
        printf("%lld\n", (long long)run);
    client_close(cl);
    return rc;
}

/* ---- export ---- */

int cli_export(struct cli *c, struct err *err) {
    const char *as = cli_opt(c, "--as"), *out = cli_opt(c, "-o");
    struct store *st;
    struct store_ckpts k = {0};
    struct store_models m = {0};
    if (!out)
        return err_set(err, ERR_USAGE, "export: -o DIR is wanted");
    if (as && strcmp(as, "peft") != 0 && strcmp(as, "hf") != 0 &&
        strcmp(as, "merged") != 0)
        return err_set(err, ERR_USAGE, "--as %.40s: peft, hf or merged", as);
    st = cli_store(c, err);
    if (!st && err->code)
        return -1;
    int rc = st ? store_ckpt_get(st, c->arg[0], &k) : STORE_NOTFOUND;
    if (rc == STORE_OK)
        rc = store_model_get(st, k.row->model, &m);
    if (rc == STORE_NOTFOUND)
        err_set(err, ERR_NOTFOUND, "no checkpoint '%.100s' (fettle ckpt)",
                c->arg[0]);
    else if (rc != STORE_OK)
        cli_store_err(err, st, rc);
    else {
        char *path = fs_path("%s/ckpt/%s", c->home, k.row->id);
        rc = ckpt_export(
            path, m.row->dir,
            as && strcmp(as, "peft") == 0 ? EXPORT_PEFT : EXPORT_HF, out, err);
        free(path);
        if (rc == 0 && c->json)
            cli_print_json(
                json_pack("{s:s, s:s}", "checkpoint", k.row->id, "dir", out),
                false);
        else if (rc == 0)
            printf("wrote %s\n", out);
    }
    store_ckpts_free(&k);
    store_models_free(&m);
    store_close(st);
    return err->code ? -1 : 0;
}
