/* cli_read: verbs that look: straight from the store, daemon or not. */
#include "views/cli.h"
#include "views/parity.h"

#include "core/ckpt.h"
#include "core/clock.h"
#include "core/fs.h"
#include "core/json.h"
#include "core/model.h"
#include "core/recipe.h"
#include "core/text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* ---- numbers for people ---- */

static void fmt_bytes(int64_t n, char out[24]) {
    static const char *const unit[] = {"B", "kB", "MB", "GB", "TB"};
    double v = (double)n;
    int u = 0;
    for (; v >= 1000 && u < 4; u++)
        v /= 1000;
    snprintf(out, 24, u && v < 10 ? "%.1f %s" : "%.0f %s", v, unit[u]);
}

static void fmt_age(int64_t us, char out[24]) {
    double s = (double)(clock_wall_us() - us) / 1e6;
    if (us == 0)
        snprintf(out, 24, "-");
    else if (s < 120)
        snprintf(out, 24, "%.0fs", s < 0 ? 0 : s);
    else if (s < 7200)
        snprintf(out, 24, "%.0fm", s / 60);
    else if (s < 172800)
        snprintf(out, 24, "%.0fh", s / 3600);
    else
        snprintf(out, 24, "%.0fd", s / 86400);
}

static void fmt_num(double v, char out[24]) {
    if (isnan(v))
        snprintf(out, 24, "-");
    else
        snprintf(out, 24, "%.4g", v);
}

/* ---- runs ---- */

static json_t *metrics_last(struct store *st, int64_t run) {
    struct store_series_list s = {0};
    json_t *m = json_object();
    if (store_series_list(st, run, &s) == STORE_OK)
        for (int i = 0; i < s.n; i++)
            json_object_set_new(m, s.row[i].name, json_num(s.row[i].last));
    store_series_list_free(&s);
    return m;
}

json_t *cli_run_json(struct store *st, const struct store_run *r) {
    return json_pack("{s:I, s:s, s:s, s:s, s:s, s:I, s:I, s:f, s:s, s:o}",
                     "run", (json_int_t)r->id, "name", r->name, "recipe",
                     r->recipe, "model", r->model, "state",
                     store_run_state_name(r->state), "steps",
                     (json_int_t)r->cursor, "planned", (json_int_t)r->planned,
                     "created", (double)r->created_us / 1e6, "error", r->error,
                     "metrics", metrics_last(st, r->id));
}

static void run_line(struct store *st, const struct store_run *r) {
    double nll = NAN;
    char loss[24], age[24], steps[48];
    store_metric_last(st, r->id, "train_mean_nll", &nll);
    fmt_num(nll, loss);
    fmt_age(r->created_us, age);
    snprintf(steps, sizeof steps, "%lld/%lld", (long long)r->cursor,
             (long long)r->planned);
    printf("%5lld  ", (long long)r->id);
    cli_print_text(r->name);
    printf("%*s  %-8s %11s %9s %6s  ",
           (int)(20 - strlen(r->name)) > 0 ? (int)(20 - strlen(r->name)) : 0,
           "", store_run_state_name(r->state), steps, loss, age);
    cli_print_text(r->model);
    putchar('\n');
}

static int list_runs(struct cli *c, const char *filter, bool open_only,
                     struct err *err) {
    struct store *st = cli_store(c, err);
    struct store_runs rows = {0};
    json_t *all = json_array();
    int rc = err->code ? -1 : 0;
    if (st) {
        int s =
            store_runs(st, &(struct store_run_query){.filter = filter}, &rows);
        rc = s == STORE_OK ? 0 : cli_store_err(err, st, s);
    }
    if (rc == 0 && !c->json)
        printf("%5s  %-20s  %-8s %11s %9s %6s  %s\n", "RUN", "NAME", "STATE",
               "STEP", "LOSS", "AGE", "MODEL");
    for (int i = 0; rc == 0 && i < rows.n; i++) {
        const struct store_run *r = &rows.row[i];
        if (open_only && r->state > STORE_RUN_PAUSED)
            continue;
        if (c->json)
            json_array_append_new(all, cli_run_json(st, r));
        else
            run_line(st, r);
    }
    store_runs_free(&rows);
    store_close(st);
    if (rc == 0 && c->json)
        cli_print_json(json_incref(all), false);
    json_decref(all);
    return rc;
}

int cli_runs(struct cli *c, struct err *err) {
    return list_runs(c, c->n ? c->arg[0] : NULL, false, err);
}

int cli_jobs(struct cli *c, struct err *err) {
    return list_runs(c, NULL, true, err);
}

int cli_run_find(struct cli *c, struct store *st, const char *word,
                 struct store_runs *rows, struct err *err) {
    (void)c;
    if (!st)
        return err->code ? -1
                         : err_set(err, ERR_NOTFOUND,
                                   "no run '%.64s' (fettle runs)", word);
    int rc = store_run_find(st, word, rows);
    if (rc == STORE_NOTFOUND)
        return err_set(err, ERR_NOTFOUND, "no run '%.64s' (fettle runs)", word);
    return rc == STORE_OK ? 0 : cli_store_err(err, st, rc);
}

static json_t *ckpt_json(const struct store_ckpt *k) {
    return json_pack("{s:s, s:I, s:s, s:I, s:s, s:s, s:I, s:f, s:s}", "id",
                     k->id, "run", (json_int_t)k->run, "name", k->name, "step",
                     (json_int_t)k->step, "kind", k->kind, "model", k->model,
                     "bytes", (json_int_t)k->bytes, "created",
                     (double)k->created_us / 1e6, "promoted", k->promoted);
}

static json_t *ckpts_json(struct store *st, int64_t run) {
    struct store_ckpts rows = {0};
    json_t *all = json_array();
    if (store_ckpts(st, run, &rows) == STORE_OK)
        for (int i = 0; i < rows.n; i++)
            if (!rows.row[i].is_deleting)
                json_array_append_new(all, ckpt_json(&rows.row[i]));
    store_ckpts_free(&rows);
    return all;
}

static void show_text(struct store *st, const struct store_run *r) {
    struct store_config kv = {0};
    struct store_series_list s = {0};
    char v[24];
    printf("run %lld  ", (long long)r->id);
    cli_print_text(r->name);
    printf("\n  recipe  %s\n  state   %s  step %lld of %lld\n  model   ",
           r->recipe, store_run_state_name(r->state), (long long)r->cursor,
           (long long)r->planned);
    cli_print_text(r->model);
    if (*r->error) {
        printf("\n  error   ");
        cli_print_text(r->error);
    }
    puts("\nconfig");
    if (store_config(st, r->id, &kv) == STORE_OK)
        for (int i = 0; i < kv.n; i++) {
            printf("  %-20s ", kv.row[i].key);
            cli_print_text(kv.row[i].text);
            putchar('\n');
        }
    puts("metrics (last)");
    if (store_series_list(st, r->id, &s) == STORE_OK)
        for (int i = 0; i < s.n; i++) {
            fmt_num(s.row[i].last, v);
            printf("  %-20s %s  (step %lld)\n", s.row[i].name, v,
                   (long long)s.row[i].last_step);
        }
    store_config_free(&kv);
    store_series_list_free(&s);
}

int cli_show(struct cli *c, struct err *err) {
    struct store *st = cli_store(c, err);
    struct store_runs rows = {0};
    int rc = cli_run_find(c, st, c->arg[0], &rows, err);
    if (rc == 0 && c->json) {
        json_t *j = cli_run_json(st, rows.row);
        json_t *config = json_loads(rows.row->config, 0, NULL);
        json_object_set_new(j, "config", config ? config : json_object());
        json_object_set_new(j, "checkpoints", ckpts_json(st, rows.row->id));
        cli_print_json(j, false);
    } else if (rc == 0) {
        show_text(st, rows.row);
    }
    store_runs_free(&rows);
    store_close(st);
    return rc;
}

static int metrics_one(struct cli *c, struct store *st, int64_t run,
                       const char *name, struct err *err) {
    struct store_points p = {0};
    int64_t after = -1;
    int rc;
    do {
        rc = store_points(st, run, name, after, 4096, &p);
        for (int i = 0; rc == STORE_OK && i < p.n; i++) {
            after = p.row[i].step;
            if (c->json)
                cli_print_json(json_pack("{s:I, s:s, s:I, s:f, s:o}", "run",
                                         (json_int_t)run, "name", name, "step",
                                         (json_int_t)after, "time",
                                         (double)p.row[i].time_us / 1e6,
                                         "value", json_num(p.row[i].value)),
                               true);
            else
                printf("%-20s %8lld  %.9g\n", name, (long long)after,
                       p.row[i].value);
        }
        int n = p.n;
        store_points_free(&p);
        if (rc != STORE_OK || n < 4096)
            break;
    } while (true);
    if (rc == STORE_NOTFOUND)
        return err_set(err, ERR_NOTFOUND, "run %lld has no metric '%.64s'",
                       (long long)run, name);
    return rc == STORE_OK ? 0 : cli_store_err(err, st, rc);
}

int cli_metrics(struct cli *c, struct err *err) {
    struct store *st = cli_store(c, err);
    struct store_runs rows = {0};
    struct store_series_list s = {0};
    int rc = cli_run_find(c, st, c->arg[0], &rows, err);
    for (int i = 1; rc == 0 && i < c->n; i++)
        rc = metrics_one(c, st, rows.row->id, c->arg[i], err);
    if (rc == 0 && c->n == 1 &&
        store_series_list(st, rows.row->id, &s) == STORE_OK)
        for (int i = 0; rc == 0 && i < s.n; i++)
            rc = metrics_one(c, st, rows.row->id, s.row[i].name, err);
    store_series_list_free(&s);
    store_runs_free(&rows);
    store_close(st);
    return rc;
}

static void log_print(const struct cli *c, char *line, size_t n) {
    if (!c->json) {
        cli_print_text(line);
        return;
    }
    while (n > 0 && line[n - 1] == '\n')
        n--;
    line[n] = 0;
    json_t *j = json_stringn(line, n);
    if (!j) { /* what a program wrote need not be UTF-8 */
        for (char *p = line; *p; p++)
            *p = (unsigned char)*p < 0x80 ? *p : '?';
        j = json_string(line);
    }
    cli_print_json(json_pack("{s:o}", "line", j), true);
}

int cli_logs(struct cli *c, struct err *err) {
    struct store *st = cli_store(c, err);
    struct store_runs rows = {0};
    int rc = cli_run_find(c, st, c->arg[0], &rows, err);
    if (rc == 0) {
        int64_t run = rows.row->id;
        char *path = fs_path("%s/log/job-%lld.log", c->home, (long long)run);
        FILE *f = fopen(path, "re");
        char *line = NULL;
        size_t room = 0;
        ssize_t n;
        bool over = false;
        while (f && !over) {
            struct store_runs now = {0};
            over = !cli_opt(c, "-f") ||
                   (store_run_get(st, run, &now) == STORE_OK &&
                    now.row->state > STORE_RUN_PAUSED);
            store_runs_free(&now);
            while ((n = getline(&line, &room, f)) > 0) {
                if (!over && line[n - 1] != '\n') { /* still being written */
                    fseeko(f, -(off_t)n, SEEK_CUR);
                    break;
                }
                log_print(c, line, (size_t)n);
            }
            clearerr(f);
            fflush(stdout);
            if (!over)
                clock_sleep_ms(200);
        }
        if (f)
            fclose(f);
        free(line);
        free(path);
    }
    store_runs_free(&rows);
    store_close(st);
    return rc;
}

/* ---- checkpoints, deployments, models ---- */

int cli_ckpts(struct cli *c, struct err *err) {
    struct store *st = cli_store(c, err);
    struct store_runs run = {0};
    struct store_ckpts rows = {0};
    int rc = err->code ? -1 : 0;
    if (c->n > 0)
        rc = cli_run_find(c, st, c->arg[0], &run, err);
    int64_t id = run.n ? run.row->id : -1;
    if (rc == 0 && c->json) {
        cli_print_json(st ? ckpts_json(st, id) : json_array(), false);
    } else if (rc == 0) {
        printf("%-20s %8s %-8s %9s %6s  %-16s %s\n", "CHECKPOINT", "STEP",
               "KIND", "SIZE", "AGE", "PROMOTED", "MODEL");
        if (st && store_ckpts(st, id, &rows) == STORE_OK)
            for (int i = 0; i < rows.n; i++) {
                char bytes[24], age[24];
                const struct store_ckpt *k = &rows.row[i];
                fmt_bytes(k->bytes, bytes);
                fmt_age(k->created_us, age);
                printf("%-20s %8lld %-8s %9s %6s  %-16s ", k->id,
                       (long long)k->step, k->kind, bytes, age, k->promoted);
                cli_print_text(k->model);
                putchar('\n');
            }
        store_ckpts_free(&rows);
    }
    store_runs_free(&run);
    store_close(st);
    return rc;
}

int cli_deployments(struct cli *c, struct err *err) {
    struct store *st = cli_store(c, err);
    struct store_deployments rows = {0};
    json_t *all = json_array();
    if (err->code) {
        json_decref(all);
        return -1;
    }
    if (st)
        store_deployments(st, &rows);
    if (!c->json)
        printf("%-20s %-10s %4s  %-5s  %-20s %s\n", "NAME", "STATE", "VER",
               "BITS", "CHECKPOINT", "MODEL");
    for (int i = 0; i < rows.n; i++) {
        const struct store_deployment *d = &rows.row[i];
        if (c->json)
            json_array_append_new(
                all, json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:s}",
                               "name", d->name, "precision", d->precision,
                               "checkpoint", d->ckpt, "model", d->model,
                               "state", store_deploy_state_name(d->state),
                               "version", d->version, "versions", d->versions,
                               "error", d->error));
        else
            printf("%-20s %-10s %4d  %-5s  %-20s %s\n", d->name,
                   store_deploy_state_name(d->state), d->version, d->precision,
                   *d->ckpt ? d->ckpt : "(base)", d->model);
    }
    store_deployments_free(&rows);
    store_close(st);
    if (c->json)
        cli_print_json(all, false);
    else
        json_decref(all);
    return 0;
}

static json_t *model_json(const struct store_model *m) {
    return json_pack("{s:s, s:s, s:s, s:I}", "name", m->name, "dir", m->dir,
                     "family", m->family, "params", (json_int_t)m->params);
}

int cli_model_list(struct cli *c, struct err *err) {
    struct store *st = cli_store(c, err);
    struct store_models rows = {0};
    json_t *all = json_array();
    if (err->code) {
        json_decref(all);
        return -1;
    }
    if (st)
        store_models(st, &rows);
    for (int i = 0; i < rows.n; i++) {
        char n[24];
        fmt_bytes(rows.row[i].params, n);
        if (c->json)
            json_array_append_new(all, model_json(&rows.row[i]));
        else {
            n[strcspn(n, "B")] = 0;
            printf("%-28s %-8s %9s  ", rows.row[i].name, rows.row[i].family, n);
            cli_print_text(rows.row[i].dir);
            putchar('\n');
        }
    }
    store_models_free(&rows);
    store_close(st);
    if (c->json)
        cli_print_json(all, false);
    else
        json_decref(all);
    return 0;
}

char *cli_model_dir(struct cli *c, const char *target, struct err *err) {
    struct store *st = cli_store(c, err);
    struct store_target t;
    struct store_models m = {0};
    char *dir = NULL;
    int rc = st ? store_target(st, target, &t) : STORE_NOTFOUND;
    if (rc == STORE_OK)
        rc = store_model_get(st, t.model, &m);
    if (rc == STORE_OK)
        dir = fs_path("%s", m.row->dir);
    else if (rc == STORE_NOTFOUND)
        err_set(err, ERR_NOTFOUND,
                "no model, checkpoint or deployment '%.100s' (fettle model "
                "list)",
                target);
    else
        cli_store_err(err, st, rc);
    store_models_free(&m);
    store_close(st);
    return dir;
}

char *cli_text_dir(struct cli *c, const char *target, struct err *err) {
    struct err no = {0};
    char *dir = cli_model_dir(c, target, &no);
    char *conf = fs_path("%s/config.json", target), *text = tok_file(target);
    bool is_dir = fs_exists(conf) || text;
    if (!dir && no.code == ERR_NOTFOUND && is_dir)
        dir = fs_path("%s", target);
    else if (!dir)
        err_set(err, no.code, "%s", no.msg);
    free(conf);
    free(text);
    return dir;
}

bool cli_is_words(const char *dir) {
    static const char *const names[] = {"config.json", "model.safetensors",
                                        "model.safetensors.index.json"};
    char *tok = tok_file(dir);
    bool is = tok != NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *path = fs_path("%s/%s", dir, names[i]);
        is = is && !fs_exists(path);
        free(path);
    }
    free(tok);
    return is;
}

char *cli_text_renderer(struct cli *c, const char *target) {
    struct err ignored = {0};
    struct store *st = cli_store(c, &ignored);
    struct store_target t;
    char *name = NULL;
    if (st && store_target(st, target, &t) == STORE_OK && *t.ckpt) {
        char *path = fs_path("%s/ckpt/%s", c->home, t.ckpt);
        name = ckpt_renderer_of(path);
        free(path);
    }
    store_close(st);
    if (name && *name)
        return name;
    free(name);
    return fs_path("auto");
}

/* What only some families have. */
static void info_extra(json_t *j, const struct conf *c) {
    int slides = 0, sparse = 0;
    for (int l = 0; l < c->L; l++) {
        slides += conf_layer_is(c, l, LAYER_SLIDES);
        sparse += conf_layer_is(c, l, LAYER_SPARSE);
    }
    const struct {
        const char *key;
        int value;
        bool is_shown;
    } rows[] = {
        {"window", c->window, slides > 0},
        {"sliding_layers", slides, slides > 0},
        {"experts", c->E, sparse > 0},
        {"experts_per_token", c->top, sparse > 0},
        {"expert_size", c->expert_F, sparse > 0},
        {"sparse_layers", sparse, sparse > 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].is_shown)
            json_object_set_new(j, rows[i].key, json_integer(rows[i].value));
}

/* JSON has the whole report, a person its sum. */
static void info_parity(struct cli *c, const char *dir, json_t *j) {
    json_t *report = cli_parity_load(c, c->arg[0], dir);
    if (!report)
        return;
    char *line = parity_line(report);
    if (c->json)
        json_object_set(j, "parity", report);
    else
        json_object_set_new(j, "renderer", json_string(line));
    json_decref(report);
    free(line);
}

static int info_conf(const char *dir, json_t *j, struct err *err) {
    struct conf conf;
    if (conf_read(&conf, dir, err) < 0)
        return -1;
    json_t *more = json_pack(
        "{s:s, s:I, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:b}", "family",
        conf.family, "params", (json_int_t)conf_params(&conf), "layers", conf.L,
        "hidden_size", conf.C, "heads", conf.H, "kv_heads", conf.K, "head_dim",
        conf.D, "intermediate_size", conf.F, "vocab_size", conf.V, "context",
        conf.max_pos, "tied", conf.tied);
    json_object_update(j, more);
    info_extra(j, &conf);
    json_decref(more);
    conf_release(&conf);
    return 0;
}

static void info_print(const json_t *j) {
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)j, key, v) {
        char *text = json_dumps(v, JSON_ENCODE_ANY);
        printf("%-18s ", key);
        cli_print_text(json_is_string(v) ? json_string_value(v) : text);
        putchar('\n');
        free(text);
    }
}

int cli_model_info(struct cli *c, struct err *err) {
    char *dir = cli_model_dir(c, c->arg[0], err);
    if (!dir)
        return -1;
    char *tok = tok_file(dir);
    json_t *j = json_pack("{s:s, s:s}", "name", c->arg[0], "dir", dir);
    int rc = cli_is_words(dir) ? 0 : info_conf(dir, j, err);
    json_object_set_new(j, "tokenizer", json_boolean(tok != NULL));
    if (tok)
        json_object_set_new(j, "tokenizer_file", json_string(tok));
    if (rc == 0) {
        info_parity(c, dir, j);
        if (c->json)
            cli_print_json(json_incref(j), false);
        else
            info_print(j);
    }
    json_decref(j);
    free(tok);
    free(dir);
    return rc;
}

/* ---- the machine ---- */

int cli_status(struct cli *c, struct err *err) {
    struct client *cl = cli_client(c, false, err);
    json_t *j =
        cl ? client_call(cl, "GET", "/fettle/v1/status", NULL, err) : NULL;
    client_close(cl);
    if (!j)
        return -1;
    if (c->json) {
        cli_print_json(j, false);
        return 0;
    }
    printf("daemon   pid %lld on %s\njobs     %lld\n",
           (long long)json_integer_value(json_object_get(j, "pid")),
           json_string_value(json_object_get(j, "socket")),
           (long long)json_integer_value(json_object_get(j, "jobs")));
    size_t i;
    json_t *w;
    json_array_foreach(json_object_get(j, "workers"), i, w)
        printf("worker   pid %lld  %s  %s  %s\n",
               (long long)json_integer_value(json_object_get(w, "pid")),
               json_string_value(json_object_get(w, "model")),
               json_string_value(json_object_get(w, "device")),
               json_string_value(json_object_get(w, "state")));
    json_decref(j);
    return 0;
}

static void doctor_line(struct cli *c, json_t *all, const char *what, bool ok,
                        const char *text) {
    if (c->json)
        json_array_append_new(all, json_pack("{s:s, s:b, s:s}", "check", what,
                                             "ok", ok, "text", text));
    else
        printf("%s %-9s %s\n", ok ? "ok  " : "FAIL", what, text);
    if (!ok)
        c->status = 1;
}

/* Words of `doctor --plan`. */
static int plan_words(struct cli *c, struct plan_job *job, struct err *err) {
    int64_t rank = 32;
    const struct {
        const char *key;
        int64_t *v, min, max;
    } keys[] = {{"lora_rank=", &rank, 0, 4096},
                {"max_length=", &job->max_length, 1, 1 << 26},
                {"batch_size=", &job->batch_size, 1, 1 << 20}};
    for (int i = 0; i < c->n; i++) {
        size_t k = 0;
        while (k < 3 && strncmp(c->arg[i], keys[k].key, strlen(keys[k].key)))
            k++;
        char *end = NULL;
        long long v =
            k < 3 ? strtoll(c->arg[i] + strlen(keys[k].key), &end, 10) : 0;
        if (k == 3 || *end || v < keys[k].min || v > keys[k].max)
            return err_set(err, ERR_USAGE,
                           "doctor --plan: '%.64s' is none of lora_rank=, "
                           "max_length=, batch_size= (whole numbers)",
                           c->arg[i]);
        *keys[k].v = v;
    }
    job->lora.rank = (int32_t)rank;
    return 0;
}

static void plan_print_json(const char *model, const struct plan_job *job,
                            const struct plan *p) {
    json_t *classes = json_array();
    for (int i = 0; i < PLAN_CLASSES; i++)
        json_array_append_new(classes,
                              json_pack("{s:s, s:I, s:s}", "class",
                                        plan_name((enum plan_class)i), "bytes",
                                        (json_int_t)p->bytes[i], "what",
                                        plan_help((enum plan_class)i)));
    cli_print_json(json_pack("{s:s, s:i, s:I, s:I, s:o, s:i, s:I, s:I, s:b}",
                             "model", model, "lora_rank", job->lora.rank,
                             "max_length", (json_int_t)job->max_length,
                             "batch_size", (json_int_t)job->batch_size, "plan",
                             classes, "micro_batch_tokens", p->micro,
                             "total_bytes", (json_int_t)p->total,
                             "memory_bytes", (json_int_t)p->memory, "fits",
                             p->total <= p->memory),
                   false);
}

static void plan_print(const char *model, const struct plan_job *job,
                       const struct plan *p) {
    char bytes[24], memory[24], kind[32] = "full tuning";
    if (job->lora.rank)
        snprintf(kind, sizeof kind, "LoRA r=%d", job->lora.rank);
    printf("%s: %s, datums of %lld tokens, %lld a step, %d tokens a "
           "micro-batch\n",
           model, kind, (long long)job->max_length, (long long)job->batch_size,
           p->micro);
    for (int i = 0; i < PLAN_CLASSES; i++) {
        fmt_bytes(p->bytes[i], bytes);
        printf("%-12s %9s  %s\n", plan_name((enum plan_class)i),
               p->bytes[i] ? bytes : "-", plan_help((enum plan_class)i));
    }
    fmt_bytes(p->total, bytes);
    fmt_bytes(p->memory, memory);
    printf("%-12s %9s  %s of %s that are free%s\n", "in memory", bytes,
           p->total <= p->memory ? "fits: it is" : "does NOT fit: it is",
           memory, job->lora.rank ? "" : ", without the base model's file");
}

static int doctor_plan(struct cli *c, const char *model, struct err *err) {
    struct plan_job job = {
        .lora = {.alpha = 32, .attn = true, .mlp = true, .unembed = true},
        .max_length = 2048,
        .batch_size = 8};
    struct plan p;
    if (plan_words(c, &job, err) < 0)
        return -1;
    char *dir = cli_model_dir(c, model, err);
    struct model *m = dir ? model_outline(dir, err) : NULL;
    free(dir);
    if (!m)
        return -1;
    if (job.max_length > model_conf(m)->max_pos)
        job.max_length = model_conf(m)->max_pos;
    plan_make(m, &job, plan_memory(), &p);
    model_close(m);
    if (c->json)
        plan_print_json(model, &job, &p);
    else
        plan_print(model, &job, &p);
    c->status = p.total <= p.memory ? 0 : err_exit(ERR_NOMEM);
    return 0;
}

int cli_doctor(struct cli *c, struct err *err) {
    json_t *all = json_array();
    struct kern *k = NULL;
    struct err e = {0};
    char text[256];
    if (cli_opt(c, "--plan")) {
        json_decref(all);
        return doctor_plan(c, cli_opt(c, "--plan"), err);
    }
    if (c->n > 0) {
        json_decref(all);
        return err_set(err, ERR_USAGE, "doctor: '%.64s' goes with --plan",
                       c->arg[0]);
    }
    if (cli_home(c, err) < 0) {
        json_decref(all);
        return -1;
    }
    int rc = kern_open(&k, &(struct kern_opts){.device = "cpu"});
    doctor_line(c, all, "device", rc == 0,
                rc == 0 ? kern_describe(k) : kern_strerror(rc));
    if (k)
        k->ops->close(k);
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    snprintf(text, sizeof text, "%.1f GiB",
             (double)pages * (double)size / (1 << 30));
    doctor_line(c, all, "memory", pages > 0, text);
    struct statvfs v;
    bool disk = statvfs(c->home, &v) == 0;
    double room = disk ? (double)v.f_bavail * (double)v.f_frsize : 0;
    snprintf(text, sizeof text, "%.1f GiB free at %s", room / (1 << 30),
             c->home);
    doctor_line(c, all, "disk", room > 1e9, text);
    struct store *st = cli_store(c, &e);
    int s = st ? store_check(st, false, NULL, NULL) : STORE_OK;
    doctor_line(c, all, "store", e.code == 0 && s == STORE_OK,
                e.code ? e.msg
                : st   ? (s ? store_errmsg(st) : "sound")
                       : "none yet");
    store_close(st);
    struct err no = {0};
    struct client *cl = cli_client(c, false, &no);
    json_t *d = cl ? client_call(cl, "GET", "/healthz", NULL, &no) : NULL;
    doctor_line(c, all, "daemon", true, d ? "running" : "not running");
    json_decref(d);
    client_close(cl);
    if (c->json)
        cli_print_json(all, false);
    else
        json_decref(all);
    return 0;
}

struct fsck {
    bool json;
    json_t *findings; /* texts */
};

static void fsck_found(void *arg, const char *finding) {
    struct fsck *f = arg;
    json_t *text = json_string(finding);
    if (!f->json) {
        cli_print_text(finding);
        putchar('\n');
    }
    json_array_append_new(f->findings, text ? text : json_string("?"));
}

/* Every byte of every checkpoint that the store knows. */
static int fsck_ckpts(struct cli *c, struct store *st, struct fsck *f,
                      struct err *err) {
    struct store_ckpts rows = {0};
    int rc = store_ckpts(st, -1, &rows);
    if (rc != STORE_OK)
        return cli_store_err(err, st, rc);
    for (int i = 0; i < rows.n; i++) {
        char *path = fs_path("%s/ckpt/%s", c->home, rows.row[i].id);
        struct manifest m;
        struct err e = {0};
        if (ckpt_verify(path, &m, &e) < 0) {
            fsck_found(f, e.msg);
            err_set(err, ERR_CORRUPT, "fsck: checkpoint %s: %s", rows.row[i].id,
                    e.msg);
        }
        free(path);
    }
    store_ckpts_free(&rows);
    return err->code ? -1 : 0;
}

/* With --json the findings are the answer, and no error is told beside. */
int cli_fsck(struct cli *c, struct err *err) {
    struct store *st = cli_store(c, err);
    if (!st)
        return err->code ? -1 : 0;
    struct fsck f = {.json = c->json, .findings = json_array()};
    struct err bad = {0};
    int rc = store_check(st, true, fsck_found, &f);
    if (rc != STORE_OK)
        cli_store_err(&bad, st, rc);
    fsck_ckpts(c, st, &f, &bad); /* the first error stays */
    store_close(st);
    if (bad.code && (!c->json || json_array_size(f.findings) == 0)) {
        err_set(err, bad.code, "%s", bad.msg);
    } else if (c->json) {
        c->status = bad.code ? err_exit(bad.code) : 0;
        cli_print_json(json_pack("{s:b, s:O}", "ok", bad.code == 0, "findings",
                                 f.findings),
                       false);
    } else {
        puts("the store and its checkpoints are sound");
    }
    json_decref(f.findings);
    return err->code ? -1 : 0;
}

int cli_recipes(struct cli *c, struct err *err) {
    const struct recipe *r = c->n ? recipe_find(c->arg[0]) : NULL;
    json_t *all = json_array();
    if (c->n && !r) {
        json_decref(all);
        return err_set(err, ERR_NOTFOUND, "no recipe '%.64s' (fettle recipes)",
                       c->arg[0]);
    }
    for (int i = 0; !c->n && recipe_at(i); i++) {
        if (c->json)
            json_array_append_new(all, json_pack("{s:s, s:s}", "name",
                                                 recipe_at(i)->name, "help",
                                                 recipe_at(i)->help));
        else
            printf("%-10s %s\n", recipe_at(i)->name, recipe_at(i)->help);
    }
    for (int i = 0; r && i < r->n_keys; i++) {
        const struct recipe_key *k = &r->keys[i];
        if (c->json)
            json_array_append_new(
                all, json_pack("{s:s, s:s, s:s?, s:s, s:s, s:s?}", "name",
                               k->name, "type", key_type_name(k->type),
                               "default", k->dflt, "unit", k->unit, "help",
                               k->help, "choices", k->choices));
        else
            printf("%-20s %-8s %-22s %s%s%s%s%s\n", k->name,
                   key_type_name(k->type),
                   k->dflt ? (*k->dflt ? k->dflt : "none") : "(required)",
                   k->help, *k->help && *k->unit ? ", " : "", k->unit,
                   k->choices ? ": " : "", k->choices ? k->choices : "");
    }
    if (c->json)
        cli_print_json(all, false);
    else
        json_decref(all);
    return 0;
}
