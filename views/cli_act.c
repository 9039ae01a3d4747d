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
#include "core/text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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
                            .foreground = cli_opt(c, "--foreground") != NULL,
                            .detach = cli_opt(c, "--detach") != NULL};
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
    const char *precision = cli_opt(c, "--precision");
    if (precision && strcmp(precision, "fp32") != 0)
        return err_set(err, ERR_UNSUPPORTED,
                       "worker: precision %.20s: the CPU computes in fp32",
                       precision);
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
    const char *as = cli_opt(c, "--precision");
    return call(c, "POST", "/fettle/v1/deployments",
                json_pack("{s:s, s:s, s:s}", "ckpt", c->arg[0], "name",
                          c->arg[1], "precision", as ? as : "exact"),
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

static json_t *probe_weights(const char *name, const char *dir,
                             struct err *err) {
    struct kern *k = NULL;
    int rc = kern_open(&k, &(struct kern_opts){.device = "cpu", .threads = 1});
    struct model *m = rc ? NULL : model_open(dir, k, err);
    json_t *body = NULL;
    if (rc) {
        err_kern(err, rc, "cpu");
    } else if (m) {
        const struct conf *conf = model_conf(m);
        body = json_pack("{s:s, s:s, s:s, s:I}", "name", name, "dir", dir,
                         "family", conf->family, "params",
                         (json_int_t)conf_params(conf));
    }
    model_close(m);
    if (k)
        k->ops->close(k);
    return body;
}

/* A tokenizer is enough for what needs no weights. */
json_t *cli_model_probe(const char *name, const char *dir, struct err *err) {
    char *real = realpath(dir, NULL);
    if (!real) {
        err_sys(err, "add model %s: %s", name, dir);
        return NULL;
    }
    json_t *body = cli_is_words(real)
                       ? json_pack("{s:s, s:s, s:s}", "name", name, "dir", real,
                                   "family", "tokenizer")
                       : probe_weights(name, real, err);
    free(real);
    return body;
}

/* A tokenizer that is damaged is an error, one that this program lacks or that
 * is not there a warning: tokens work without. */
static int model_text(const char *dir, struct err *no_text, struct err *err) {
    struct tok *t = tok_open(dir, no_text);
    tok_close(t);
    if (t || no_text->code == ERR_UNSUPPORTED || no_text->code == ERR_NOTFOUND)
        return 0;
    return err_set(err, no_text->code, "%s", no_text->msg);
}

int cli_model_add(struct cli *c, struct err *err) {
    struct err no_text = {0};
    json_t *body = cli_model_probe(c->arg[0], c->arg[1], err);
    if (!body)
        return -1;
    const char *dir = json_string_value(json_object_get(body, "dir"));
    if (model_text(dir, &no_text, err) < 0) {
        json_decref(body);
        return -1;
    }
    char *kept = fs_path("%s", dir);
    bool is_words = !json_object_get(body, "params");
    int rc = call(c, "POST", "/fettle/v1/models", body, "added", err);
    if (rc == 0 && !no_text.code)
        cli_parity_add(c, c->arg[0], kept);
    free(kept);
    if (rc == 0 && is_words)
        c->note("fettle: no model in it: for text only\n");
    if (rc == 0 && no_text.code) {
        c->note("fettle: text will not work: ");
        c->note(no_text.msg);
        c->note("\n");
    }
    return rc;
}

int cli_model_rm(struct cli *c, struct err *err) {
    int rc = call(c, "DELETE", "/fettle/v1/models",
                  json_pack("{s:s}", "name", c->arg[0]), "removed", err);
    if (rc == 0)
        cli_parity_rm(c, c->arg[0]);
    return rc;
}

/* ---- export ---- */

static int export_opts(const struct cli *c, enum ckpt_export *as, bool *is_bf16,
                       struct err *err) {
    const char *what = cli_opt(c, "--as"), *dtype = cli_opt(c, "--dtype");
    *as = what && strcmp(what, "peft") == 0 ? EXPORT_PEFT : EXPORT_HF;
    *is_bf16 = dtype && strcmp(dtype, "bf16") == 0;
    if (what && *as != EXPORT_PEFT && strcmp(what, "hf") != 0 &&
        strcmp(what, "merged") != 0)
        return err_set(err, ERR_USAGE, "--as %.40s: peft, hf or merged", what);
    if (dtype && !*is_bf16 && strcmp(dtype, "f32") != 0)
        return err_set(err, ERR_USAGE, "--dtype %.40s: f32 or bf16", dtype);
    if (!cli_opt(c, "-o"))
        return err_set(err, ERR_USAGE, "export: -o DIR is wanted");
    return 0;
}

int cli_export(struct cli *c, struct err *err) {
    const char *out = cli_opt(c, "-o");
    enum ckpt_export as;
    bool is_bf16;
    struct store_ckpts k = {0};
    struct store_models m = {0};
    if (export_opts(c, &as, &is_bf16, err) < 0)
        return -1;
    struct store *st = cli_store(c, err);
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
        rc = ckpt_export(path, m.row->dir, as, is_bf16, out, err);
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
