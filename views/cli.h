/*
 * cli - the verbs of the command line: one table gives parsing, help, shell
 * completion and usage errors. A verb is a function from parsed words to
 * output; reads go to the store, actions to the daemon.
 */
#ifndef FETTLE_VIEWS_CLI_H
#define FETTLE_VIEWS_CLI_H

#include "core/client.h"
#include "core/err.h"
#include "store/series.h"
#include "store/store.h"

#include <jansson.h>

#define CLI_OPTS_MAX 16

struct cli;
typedef int cli_fn(struct cli *c, struct err *err);
/* A line to stderr; only main writes there. */
typedef void cli_note_fn(const char *text);

struct cli_opt {
    const char *name; /* "--max-tokens" */
    const char *arg;  /* "N"; NULL = a flag */
    const char *help;
};

struct cli_verb {
    const char *name; /* one word, or two: "model add" */
    const char *args; /* "NAME DIR" */
    const char *help; /* one line */
    const char *more; /* examples and remarks, "" = none */
    int min, max;     /* words; max -1 = any */
    bool is_hidden;   /* internal processes */
    cli_fn *fn;
    const struct cli_opt *opts; /* ends with a NULL name; NULL = none */
};

struct cli {
    const struct cli_verb *verb;
    char **arg; /* (n) words */
    int n;
    const char *opt[CLI_OPTS_MAX]; /* by index in verb->opts; NULL = absent */
    bool json;
    const char *home_arg;
    char *home; /* absolute, made by cli_home() */
    const char *exe;
    cli_note_fn *note;
    size_t line; /* of stdin, the one being read */
    int status;  /* exit status of a verb that ran, 0 unless it says more */
};

/* Runs the verb that the words name. Returns the exit status; on failure err
 * says why. */
int cli_main(int argc, char **argv, cli_note_fn *note, struct err *err,
             bool *json);

/* Value of an option of this verb, NULL = not given. */
const char *cli_opt(const struct cli *c, const char *name);
int cli_opt_int(const struct cli *c, const char *name, int64_t dflt,
                int64_t min, int64_t max, int64_t *v, struct err *err);
int cli_opt_num(const struct cli *c, const char *name, double dflt, double *v,
                struct err *err);

int cli_home(struct cli *c, struct err *err);
/* The store for reading; NULL and no error when there is none yet. */
struct store *cli_store(struct cli *c, struct err *err);
int cli_store_err(struct err *err, struct store *st, int rc);
struct client *cli_client(struct cli *c, bool start, struct err *err);

/* One JSON document, or line; takes the reference. */
void cli_print_json(json_t *j, bool line);
/* Foreign text, made safe when stdout is a terminal. */
void cli_print_text(const char *text);

/* ---- the verbs, by file ---- */
cli_fn cli_runs, cli_show, cli_metrics, cli_ckpts, cli_deployments, cli_jobs,
    cli_logs, cli_model_list, cli_model_info, cli_status, cli_doctor, cli_fsck,
    cli_recipes;
/* The comparison of a model's renderer with its chat template: made when the
 * model is added or first asked about, forgotten with it. */
void cli_parity_add(struct cli *c, const char *name, const char *dir);
void cli_parity_rm(const struct cli *c, const char *name);
json_t *cli_parity_load(struct cli *c, const char *name, const char *dir);

cli_fn cli_model_parity;
cli_fn cli_data_check;
cli_fn cli_serve, cli_stop, cli_worker, cli_job, cli_model_add, cli_model_rm,
    cli_run, cli_pause, cli_resume, cli_kill, cli_promote, cli_deploy,
    cli_undeploy, cli_export, cli_ckpt_rm, cli_demo, cli_starter;
cli_fn cli_sample, cli_chat, cli_logprobs, cli_tokenize, cli_detokenize,
    cli_render;
cli_fn cli_help, cli_completion, cli_bench, cli_bench_text;
/* Peak of this process's resident memory, in MiB; 0: not known. */
double cli_peak_mib(void);

/* A run's number from "3" or its name. */
int cli_run_find(struct cli *c, struct store *st, const char *word,
                 struct store_runs *rows, struct err *err);
/* Directory of the base model behind a TARGET's name; free() it. */
char *cli_model_dir(struct cli *c, const char *target, struct err *err);
/* The same, or `target` itself where no model has the name but a directory
 * with a config.json or a tokenizer.json. */
char *cli_text_dir(struct cli *c, const char *target, struct err *err);
/* Where the starter model lies, whether it is registered or not; free() it. */
char *cli_starter_dir(const struct cli *c, struct err *err);
/* A directory with a tokenizer, and nothing of a model. */
bool cli_is_words(const char *dir);
/* The renderer that a checkpoint was trained with, or "auto"; free() it. */
char *cli_text_renderer(struct cli *c, const char *target);
/* Checks what can be checked, then starts a run; its number or -1. */
int64_t cli_run_start(struct cli *c, struct client *cl, const char *recipe,
                      const char *name, char *const *words, int n,
                      struct err *err);
/* Stays until the run ends, with progress on stderr; the run into rows,
 * store_runs_free() it. */
int cli_wait(struct cli *c, struct client *cl, int64_t run,
             struct store_runs *rows, struct err *err);
/* Opens the model once to see that it can be used: what registers it, NULL
 * and what is wrong. */
json_t *cli_model_probe(const char *name, const char *dir, struct err *err);
json_t *cli_run_json(struct store *st, const struct store_run *r);
const struct cli_verb *cli_verbs(int i); /* NULL behind the last */

#endif
