/* cli: the table of verbs, and what is made of it. */
#include "views/cli.h"

#include "core/fs.h"
#include "tui/utf8.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define END \
    { NULL, NULL, NULL }

static const struct cli_opt run_opts[] = {
    {"--name", "NAME", "name of the run"},
    {"--wait", NULL, "stay until it ends; exit 0 only when it is done"},
    {"--watch", NULL, "print a line a step, too"},
    END};
static const struct cli_opt serve_opts[] = {
    {"--foreground", NULL, "log to stderr, too"},
    {"--detach", NULL, "let go of the terminal once it listens"},
    {"--tcp", "HOST:PORT", "listen there, too (token in FETTLE_TOKEN)"},
    {"--device", "D", "cpu"},
    {"--threads", "N", "threads of a worker; 0 = all cores"},
    END};
static const struct cli_opt worker_opts[] = {
    {"--model", "NAME", "the base model's name"},
    {"--dir", "DIR", "its Hugging Face directory"},
    {"--device", "D", "where it computes: cpu"},
    {"--threads", "N", "compute threads [one a core]"},
    {"--precision", "P", "arithmetic: fp32, the CPU's only one [fp32]"},
    END};
static const struct cli_opt sample_opts[] = {
    {"--prompt", "TEXT", "continue this text"},
    {"--messages", "FILE", "answer this conversation (JSON; - = stdin)"},
    {"--max-tokens", "N", "at most so many tokens [256]"},
    {"--temperature", "T", "0 = greedy [1]"},
    {"--top-k", "N", "only the N likeliest [-1 = off]"},
    {"--top-p", "P", "only the likeliest that make up P [1 = off]"},
    {"--seed", "S", "same seed, same text [drawn]"},
    {"--n", "N", "how many samples [1]"},
    {"--stop", "TEXT", "end there"},
    {"--min-p", "P", "drop what is less likely than P times the likeliest"},
    {"--top-logprobs", "K", "tell the K likeliest tokens at each place"},
    {"--prompt-logprobs", NULL, "tell those of the prompt too (with --json)"},
    END};
static const struct cli_opt deploy_opts[] = {
    {"--precision", "exact|q8|q4", "of the weights that serve [exact]"}, END};
static const struct cli_opt chat_opts[] = {
    {"--system", "TEXT", "system message"},
    {"--max-tokens", "N", "of an answer [512]"},
    {"--temperature", "T", "0 = greedy [0.7]"},
    {"--seed", "S", "same seed, same answers [drawn]"},
    END};
static const struct cli_opt logprobs_opts[] = {
    {"--sampler", NULL, "by the sampler's path (paged cache, decode)"}, END};
static const struct cli_opt tokenize_opts[] = {
    {"--offsets", NULL, "what each token covers, in characters and in bytes"},
    {"--special", NULL, "with the tokens that the model wants around a text"},
    END};
static const struct cli_opt render_opts[] = {
    {"--renderer", "R", "chat format [the checkpoint's, or auto]"},
    {"--train-on", "W", "which tokens count [all_assistant_messages]"},
    {"--prompt", NULL, "the prompt that asks for the next answer"},
    {"--parse", NULL, "tokens of an answer to its message"},
    {"--inspect", NULL, "rows of data, token by token: origin, trained or not"},
    {"--max-length", "N", "cut rows as training would; 0 = never [0]"},
    {"--compat", NULL, "let text make control tokens (for comparisons)"},
    {"--list", NULL, "names of all renderers"},
    END};
static const struct cli_opt data_check_opts[] = {
    {"--model", "M", "whose tokenizer and renderer [fettle/starter]"},
    {"--renderer", "R", "chat format [auto]"},
    {"--format", "F", "that of all rows [what each looks like]"},
    {"--train-on", "W", "which tokens count [all_assistant_messages]"},
    {"--max-length", "N", "tokens of a row; 0 = the model's context [2048]"},
    {"--eval", "FILE", "held-out rows that must not be among these"},
    {"--list", "N", "findings of a kind that are listed [5]"},
    END};
static const struct cli_opt parity_opts[] = {
    {"--renderer", "R", "another renderer than the one that runs take"}, END};
static const struct cli_opt export_opts[] = {
    {"--as", "peft|hf|merged", "adapter, or a complete model [hf]"},
    {"--dtype", "f32|bf16", "of a complete model's weights [f32]"},
    {"-o", "DIR", "new directory to write"},
    END};
static const struct cli_opt logs_opts[] = {
    {"-f", NULL, "follow until the run ends"}, END};
static const struct cli_opt doctor_opts[] = {
    {"--plan", "MODEL", "memory that training this model takes"}, END};
static const struct cli_opt demo_opts[] = {
    {"--no-screen", NULL, "plain progress, also on a terminal"},
    {"--epochs", "N", "passes over the data; a few teach less [15]"},
    END};
static const struct cli_opt bench_opts[] = {
    {"--threads", "N", "compute threads [one a core]"},
    {"--rounds", "N", "measurements of each figure [5]"},
    {"--lora", "R", "step: an adapter of this rank [0 = full tuning]"},
    {"--tokens", "N", "step: tokens of a step, at most 512 [512]"},
    END};
static const struct cli_opt starter_opts[] = {
    {"-o", "DIR", "where, made when missing"}, END};

static const struct cli_verb verbs[] = {
    {"demo", "", "train the built-in starter model on built-in data", "", 0, 0,
     0, cli_demo, demo_opts},
    {"serve", "", "the daemon; other verbs start it by themselves", "", 0, 0, 0,
     cli_serve, serve_opts},
    {"status", "", "is a daemon running, and what does it do", "", 0, 0, 0,
     cli_status, NULL},
    {"stop", "", "stop the daemon, its workers and jobs cleanly",
     "Runs go on when a daemon starts again.", 0, 0, 0, cli_stop, NULL},
    {"doctor", "[KEY=VALUE...]", "check this machine and set-up",
     "  fettle doctor --plan MODEL lora_rank=0 max_length=1024 batch_size=8\n"
     "shows what training takes, and ends with status 71 when it does not "
     "fit.",
     0, -1, 0, cli_doctor, doctor_opts},
    {"fsck", "", "verify the store and all checkpoints", "", 0, 0, 0, cli_fsck,
     NULL},
    {"model add", "NAME DIR", "register a Hugging Face directory",
     "  fettle model add Qwen/Qwen3-0.6B ~/models/Qwen3-0.6B", 2, 2, 0,
     cli_model_add, NULL},
    {"model list", "", "registered models", "", 0, 0, 0, cli_model_list, NULL},
    {"model info", "NAME", "one model", "", 1, 1, 0, cli_model_info, NULL},
    {"model parity", "NAME",
     "its renderer beside its own chat template, difference by difference",
     "`model add` makes this comparison over a bank of conversations, `model "
     "info`\nsums it up.",
     1, 1, 0, cli_model_parity, parity_opts},
    {"model rm", "NAME", "forget a model; its files stay",
     "Refused while a run that is not over, a deployment or a checkpoint "
     "needs it.",
     1, 1, 0, cli_model_rm, NULL},
    {"run", "RECIPE KEY=VALUE...", "start a job",
     "  fettle run sft model=Qwen/Qwen3-0.6B data=chat.jsonl\n"
     "  fettle run sft model=m data=d.jsonl lora_rank=0 --wait --json\n"
     "`fettle recipes sft` lists the keys.",
     1, -1, 0, cli_run, run_opts},
    {"recipes", "[NAME]", "recipes, or the keys of one", "", 0, 1, 0,
     cli_recipes, NULL},
    {"jobs", "", "runs that are not over", "", 0, 0, 0, cli_jobs, NULL},
    {"pause", "RUN", "pause a run after the steps in flight", "", 1, 1, 0,
     cli_pause, NULL},
    {"resume", "RUN", "let a paused run go on", "", 1, 1, 0, cli_resume, NULL},
    {"kill", "RUN", "end a run; its checkpoints stay", "", 1, 1, 0, cli_kill,
     NULL},
    {"logs", "RUN", "what the run's job wrote", "", 1, 1, 0, cli_logs,
     logs_opts},
    {"runs", "[FILTER]", "all runs, newest first",
     "  fettle runs 'state:done cfg.learning_rate>=1e-5'", 0, 1, 0, cli_runs,
     NULL},
    {"show", "RUN", "one run: state, config, metrics, checkpoints", "", 1, 1, 0,
     cli_show, NULL},
    {"metrics", "RUN [NAME...]", "points of a run's curves", "", 1, -1, 0,
     cli_metrics, NULL},
    {"ckpt rm", "CKPT", "delete a checkpoint", "", 1, 1, 0, cli_ckpt_rm, NULL},
    {"ckpt", "[RUN]", "checkpoints", "", 0, 1, 0, cli_ckpts, NULL},
    {"promote", "CKPT NAME", "let NAME mean this checkpoint", "", 2, 2, 0,
     cli_promote, NULL},
    {"export", "CKPT", "write a checkpoint for peft or transformers",
     "  fettle export 3/final --as peft -o adapter/", 1, 1, 0, cli_export,
     export_opts},
    {"deploy", "CKPT NAME", "serve a checkpoint (or model) under NAME",
     "With --precision the matrices are cut to 8 or 4 bits, which is faster "
     "and no longer what the trainer computes; adapters stay f32 over a base "
     "that is cut.",
     2, 2, 0, cli_deploy, deploy_opts},
    {"deployments", "", "what is served", "", 0, 0, 0, cli_deployments, NULL},
    {"undeploy", "NAME", "stop serving NAME", "", 1, 1, 0, cli_undeploy, NULL},
    {"sample", "TARGET", "generate text",
     "TARGET is a model, a checkpoint (3/final), a promoted name or a "
     "deployment.\n  fettle sample demo --prompt 'Once upon' --n 3",
     1, 1, 0, cli_sample, sample_opts},
    {"chat", "TARGET", "talk to it; /exit or end of input leaves", "", 1, 1, 0,
     cli_chat, chat_opts},
    {"logprobs", "TARGET", "log-probabilities of tokens",
     "Reads {\"tokens\":[...]} a line on stdin.", 1, 1, 0, cli_logprobs,
     logprobs_opts},
    {"tokenize", "MODEL", "text to tokens",
     "Reads {\"text\":...} a line on stdin. \"offsets\" are Hugging Face's: "
     "characters from\nand to, without the spaces that a post-processor trims.",
     1, 1, 0, cli_tokenize, tokenize_opts},
    {"detokenize", "MODEL", "tokens to text",
     "Reads {\"tokens\":[...]} a line on stdin.", 1, 1, 0, cli_detokenize,
     NULL},
    {"render", "MODEL", "conversations to tokens with loss weights",
     "Reads {\"messages\":[...],\"tools\":[...]} a line on stdin; with "
     "--inspect rows of any\nformat that data check knows.\n"
     "  fettle render m --inspect < chat.jsonl",
     0, 1, 0, cli_render, render_opts},
    {"data check", "FILE", "what is wrong with training data",
     "  fettle data check chat.jsonl --model m --max-length 2048 --eval "
     "held.jsonl\n"
     "Rows are read as `run sft` reads them. Status 65 when training would "
     "refuse a row\nor get nothing from it.",
     1, 1, 0, cli_data_check, data_check_opts},
    {"bench", "cpu|step|text [DIR] [FILE...]",
     "measure this machine beside its own ceilings",
     "cpu: every kernel, a training step and decoding, of a model made in\n"
     "memory. step DIR: training steps of a Hugging Face directory. text DIR:\n"
     "opening its tokenizer, encoding and decoding on one thread, of the "
     "files\nor of texts made of its words.",
     1, -1, 0, cli_bench, bench_opts},
    {"completion", "bash|zsh", "shell completion",
     "  source <(fettle completion bash)", 1, 1, 0, cli_completion, NULL},
    {"help", "[VERB]", "this list, or one verb's help", "", 0, 2, 0, cli_help,
     NULL},
    {"starter", "", "make the starter model's files", "", 0, 0, 1, cli_starter,
     starter_opts},
    {"worker", "", "internal: a worker process", "", 0, 0, 1, cli_worker,
     worker_opts},
    {"job", "RUN", "internal: a recipe's process", "", 1, 1, 1, cli_job, NULL},
};
#define N_VERBS ((int)(sizeof verbs / sizeof *verbs))

const struct cli_verb *cli_verbs(int i) {
    return i >= 0 && i < N_VERBS ? &verbs[i] : NULL;
}

/* ---- finding a verb ---- */

/* The verb of the first one or two words; *used = how many. */
static const struct cli_verb *verb_find(char **word, int n, int *used) {
    char two[128] = "";
    if (n > 1)
        snprintf(two, sizeof two, "%s %s", word[0], word[1]);
    for (int i = 0; i < N_VERBS; i++)
        if (strcmp(verbs[i].name, two) == 0) {
            *used = 2;
            return &verbs[i];
        }
    for (int i = 0; n > 0 && i < N_VERBS; i++)
        if (strcmp(verbs[i].name, word[0]) == 0) {
            *used = 1;
            return &verbs[i];
        }
    return NULL;
}

static int common_prefix(const char *a, const char *b) {
    int n = 0;
    while (a[n] && a[n] == b[n])
        n++;
    return n;
}

static int verb_unknown(const char *word, struct err *err) {
    const struct cli_verb *best = NULL;
    int most = 1;
    for (int i = 0; i < N_VERBS; i++) {
        int n = common_prefix(word, verbs[i].name);
        if (!verbs[i].is_hidden && n > most) {
            most = n;
            best = &verbs[i];
        }
    }
    if (best)
        return err_set(err, ERR_USAGE, "no verb '%.64s' (did you mean %s?)",
                       word, best->name);
    return err_set(err, ERR_USAGE, "no verb '%.64s' (fettle help lists them)",
                   word);
}

/* ---- words to a struct cli ---- */

static int parse_option(struct cli *c, int argc, char **argv, int *i,
                        struct err *err) {
    const char *word = argv[*i], *eq = strchr(word, '=');
    size_t n = eq && word[1] == '-' ? (size_t)(eq - word) : strlen(word);
    const struct cli_opt *o = c->verb->opts;
    for (int k = 0; o && o[k].name; k++) {
        if (strlen(o[k].name) != n || strncmp(o[k].name, word, n) != 0)
            continue;
        if (!o[k].arg)
            c->opt[k] = "1";
        else if (word[n] == '=')
            c->opt[k] = word + n + 1;
        else if (*i + 1 < argc)
            c->opt[k] = argv[++*i];
        else
            return err_set(err, ERR_USAGE, "%s: %s wants %s", c->verb->name,
                           o[k].name, o[k].arg);
        return 0;
    }
    return err_set(err, ERR_USAGE, "%s has no option %.64s (fettle help %s)",
                   c->verb->name, word, c->verb->name);
}

static int parse(struct cli *c, int argc, char **argv, bool *help,
                 struct err *err) {
    bool plain = false;
    for (int i = 0; i < argc; i++) {
        char *w = argv[i];
        if (plain || w[0] != '-' || !w[1]) {
            c->arg[c->n++] = w;
        } else if (strcmp(w, "--") == 0) {
            plain = true;
        } else if (strcmp(w, "--json") == 0) {
            c->json = true;
        } else if (strcmp(w, "--help") == 0 || strcmp(w, "-h") == 0) {
            *help = true;
        } else if (strcmp(w, "--home") == 0) {
            if (i + 1 == argc)
                return err_set(err, ERR_USAGE, "--home wants a directory");
            c->home_arg = argv[++i];
        } else if (parse_option(c, argc, argv, &i, err) < 0) {
            return -1;
        }
    }
    if (*help)
        return 0;
    if (c->n < c->verb->min || (c->verb->max >= 0 && c->n > c->verb->max))
        return err_set(err, ERR_USAGE, "usage: fettle %s %s", c->verb->name,
                       c->verb->args);
    return 0;
}

const char *cli_opt(const struct cli *c, const char *name) {
    const struct cli_opt *o = c->verb->opts;
    for (int k = 0; o && o[k].name; k++)
        if (strcmp(o[k].name, name) == 0)
            return c->opt[k];
    CHECK(false, "verb %s has no option %s", c->verb->name, name);
    return NULL;
}

int cli_opt_num(const struct cli *c, const char *name, double dflt, double *v,
                struct err *err) {
    const char *text = cli_opt(c, name);
    char *end;
    *v = text ? strtod(text, &end) : dflt;
    if (text && (end == text || *end || !isfinite(*v)))
        return err_set(err, ERR_USAGE, "%s %.40s: a number is wanted", name,
                       text);
    return 0;
}

int cli_opt_int(const struct cli *c, const char *name, int64_t dflt,
                int64_t min, int64_t max, int64_t *v, struct err *err) {
    const char *text = cli_opt(c, name);
    char *end;
    errno = 0;
    *v = text ? strtoll(text, &end, 10) : dflt;
    if (text && (end == text || *end || errno || *v < min || *v > max))
        return err_set(err, ERR_USAGE,
                       "%s %.40s: an integer from %lld to %lld is wanted", name,
                       text, (long long)min, (long long)max);
    return 0;
}

/* ---- what verbs share ---- */

int cli_home(struct cli *c, struct err *err) {
    if (!c->home)
        c->home = fs_home(c->home_arg, err);
    return c->home ? 0 : -1;
}

int cli_store_err(struct err *err, struct store *st, int rc) {
    enum err_code code = err_by_name(store_status_name(rc));
    return err_set(err, code, "%s", store_errmsg(st));
}

struct store *cli_store(struct cli *c, struct err *err) {
    struct store *st = NULL;
    if (cli_home(c, err) < 0)
        return NULL;
    int rc = store_open(
        &st, &(struct store_opts){.dir = c->home, .mode = STORE_READ});
    if (rc == STORE_OK)
        return st;
    if (rc != STORE_NOTFOUND)
        cli_store_err(err, st, rc);
    store_close(st);
    return NULL;
}

struct client *cli_client(struct cli *c, bool start, struct err *err) {
    if (cli_home(c, err) < 0)
        return NULL;
    return client_open(&(struct client_opts){.home = c->home,
                                             .no_start = !start,
                                             .retry_ms = start ? 60000 : -1},
                       err);
}

void cli_print_json(json_t *j, bool line) {
    char *text = json_dumps(j, (line ? JSON_COMPACT : JSON_INDENT(1)) |
                                   JSON_PRESERVE_ORDER | JSON_ENCODE_ANY);
    json_decref(j);
    if (text)
        puts(text);
    free(text);
}

void cli_print_text(const char *text) {
    size_t n = strlen(text);
    if (!isatty(STDOUT_FILENO)) {
        fputs(text, stdout);
        return;
    }
    char *safe = malloc(16 * n + 1);
    CHECK(safe, "out of memory for text");
    text_sanitize(safe, 16 * n + 1, text, n, TEXT_NL | TEXT_TAB);
    fputs(safe, stdout);
    free(safe);
}

/* ---- help and completion ---- */

static void help_verb(const struct cli_verb *v) {
    printf("fettle %s%s%s\n    %s\n", v->name, *v->args ? " " : "", v->args,
           v->help);
    if (*v->more)
        printf("%s\n", v->more);
    puts("options:");
    for (int k = 0; v->opts && v->opts[k].name; k++)
        printf("  %-14s %-16s %s\n", v->opts[k].name,
               v->opts[k].arg ? v->opts[k].arg : "", v->opts[k].help);
    printf("  %-14s %-16s %s\n  %-14s %-16s %s\n", "--json", "",
           "machine-readable output", "--home", "DIR",
           "where fettle keeps its files");
}

static json_t *verb_json(const struct cli_verb *v) {
    json_t *opts = json_array();
    for (int k = 0; v->opts && v->opts[k].name; k++)
        json_array_append_new(
            opts, json_pack("{s:s, s:s?, s:s}", "name", v->opts[k].name, "arg",
                            v->opts[k].arg, "help", v->opts[k].help));
    return json_pack("{s:s, s:s, s:s, s:o}", "verb", v->name, "args", v->args,
                     "help", v->help, "options", opts);
}

int cli_help(struct cli *c, struct err *err) {
    if (c->n > 0) {
        int used;
        const struct cli_verb *v = verb_find(c->arg, c->n, &used);
        if (!v)
            return verb_unknown(c->arg[0], err);
        if (c->json)
            cli_print_json(verb_json(v), false);
        else
            help_verb(v);
        return 0;
    }
    json_t *all = json_array();
    if (!c->json)
        puts("fettle - a terminal workstation for fine-tuning language "
             "models\n\nfettle                       open the screen");
    for (int i = 0; i < N_VERBS; i++) {
        const struct cli_verb *v = &verbs[i];
        char left[80];
        if (v->is_hidden)
            continue;
        snprintf(left, sizeof left, "fettle %s %s", v->name, v->args);
        if (c->json)
            json_array_append_new(all, verb_json(v));
        else
            printf("%-28s %s\n", left, v->help);
    }
    if (c->json)
        cli_print_json(all, false);
    else
        puts("\nEvery verb takes --json, --home DIR and --help.");
    json_decref(c->json ? NULL : all);
    return 0;
}

static void complete_options(const struct cli_verb *v) {
    for (int k = 0; v->opts && v->opts[k].name; k++)
        printf("%s ", v->opts[k].name);
    printf("--json --home --help");
}

/* Both shells get one case a verb; zsh runs the same through bashcompinit. */
int cli_completion(struct cli *c, struct err *err) {
    bool zsh = strcmp(c->arg[0], "zsh") == 0;
    if (!zsh && strcmp(c->arg[0], "bash") != 0)
        return err_set(err, ERR_USAGE,
                       "completion %.40s: bash or zsh is wanted", c->arg[0]);
    if (zsh)
        puts("autoload -U +X bashcompinit && bashcompinit");
    printf("_fettle() {\n  local cur=${COMP_WORDS[COMP_CWORD]} words\n"
           "  case \"${COMP_WORDS[1]} ${COMP_WORDS[2]}\" in\n");
    for (int i = 0; i < N_VERBS; i++) {
        if (verbs[i].is_hidden)
            continue;
        bool two = strchr(verbs[i].name, ' ') != NULL;
        printf("  '%s'%s) words='", verbs[i].name, two ? "" : "' '*");
        complete_options(&verbs[i]);
        puts("' ;;");
    }
    printf("  *) words='");
    for (int i = 0; i < N_VERBS; i++)
        if (!verbs[i].is_hidden)
            printf("%s ", verbs[i].name);
    puts("' ;;\n  esac\n  [ $COMP_CWORD -eq 1 ] && words='");
    for (int i = 0; i < N_VERBS; i++)
        if (!verbs[i].is_hidden)
            printf("%s ", verbs[i].name);
    puts("'\n  COMPREPLY=($(compgen -W \"$words\" -- \"$cur\") "
         "$(compgen -f -- \"$cur\"))\n}\ncomplete -F _fettle fettle");
    return 0;
}

int cli_main(int argc, char **argv, cli_note_fn *note, struct err *err,
             bool *json) {
    int used = 0;
    bool help = false;
    for (int i = 1; i < argc; i++)
        *json |= strcmp(argv[i], "--json") == 0;
    const struct cli_verb *v = verb_find(argv + 1, argc - 1, &used);
    if (!v) {
        verb_unknown(argv[1], err);
        return err_exit(err->code);
    }
    struct cli c = {.verb = v, .note = note, .exe = "/proc/self/exe"};
    c.arg = calloc((size_t)argc + 1, sizeof *c.arg);
    CHECK(c.arg, "out of memory for words");
    int rc = parse(&c, argc - 1 - used, argv + 1 + used, &help, err);
    if (rc == 0 && help)
        help_verb(v);
    else if (rc == 0)
        rc = v->fn(&c, err);
    free(c.home);
    free(c.arg);
    return rc < 0 ? err_exit(err->code) : c.status;
}
