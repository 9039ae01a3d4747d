/* cli_demo: from nothing to a model that answers, by the verbs that anybody
 * would use; and the files that the starter model is made of. */
#include "views/cli.h"

#include "core/fs.h"
#include "core/json.h"
#include "core/recipe.h"
#include "core/starter.h"
#include "views/app.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEMO_EPOCHS 15
#define DEMO_NAME "demo" /* what it is promoted to and served under */

int cli_starter(struct cli *c, struct err *err) {
    const char *dir = cli_opt(c, "-o");
    if (!dir)
        return err_set(err, ERR_USAGE, "starter: -o DIR is wanted");
    if (starter_write(dir, err) < 0)
        return -1;
    printf("wrote %s/model, %s/pretrain.jsonl and %s/town.jsonl\n", dir, dir,
           dir);
    return 0;
}

static int post(struct client *cl, const char *path, json_t *body,
                struct err *err) {
    json_t *got = client_call(cl, "POST", path, body, err);
    json_decref(body);
    json_decref(got);
    return got ? 0 : -1;
}

static void tell(const struct cli *c, const char *text) {
    if (!c->json)
        puts(text);
    fflush(stdout);
}

/* ---- steps ---- */

char *cli_starter_dir(const struct cli *c, struct err *err) {
    char exe[4096];
    ssize_t n = readlink(c->exe, exe, sizeof exe - 1);
    if (n < 0) {
        err_sys(err, "find the program");
        return NULL;
    }
    exe[n] = 0;
    return starter_find(exe, err);
}

static int add_starter(struct cli *c, struct client *cl, struct err *err) {
    char *dir = cli_starter_dir(c, err);
    json_t *body = dir ? cli_model_probe(STARTER_MODEL, dir, err) : NULL;
    int rc = body ? post(cl, "/fettle/v1/models", body, err) : -1;
    if (rc == 0) /* the screen shows it */
        json_decref(cli_parity_load(c, STARTER_MODEL, dir));
    free(dir);
    return rc;
}

static int64_t start(struct cli *c, struct client *cl, struct err *err) {
    int64_t epochs;
    if (cli_opt_int(c, "--epochs", DEMO_EPOCHS, 1, 1000, &epochs, err) < 0)
        return -1;
    char *passes = fs_path("num_epochs=%lld", (long long)epochs);
    char *dir = fs_path("%s/demo", c->home);
    char *town = fs_path("%s/town.jsonl", dir);
    char *data = fs_path("data=%s", town);
    char *words[] = {
        (char[]){"model=" STARTER_MODEL},
        data,
        (char[]){"test_size=40"},
        (char[]){"learning_rate=3e-3"},
        (char[]){"lr_schedule=cosine"},
        (char[]){"lora_rank=16"},
        (char[]){"batch_size=16"},
        passes,
        (char[]){"warmup_steps=20"},
        (char[]){"save_every=50"},
        (char[]){"sample_every=50"},
        (char[]){"sample_prompts=[\"Who is Mira?\",\"What pet "
                 "does Anton have?\",\"Where does Greta live?\"]"}};
    int64_t run = -1;
    if (fs_mkdirs(dir, err) == 0 && starter_town(town, err) == 0)
        run = cli_run_start(c, cl, "sft", NULL, words,
                            (int)(sizeof words / sizeof *words), err);
    free(passes);
    free(data);
    free(town);
    free(dir);
    return run;
}

static int serve(struct client *cl, int64_t run, struct err *err) {
    char ckpt[64];
    snprintf(ckpt, sizeof ckpt, "%lld/final", (long long)run);
    return post(cl, "/fettle/v1/promote",
                json_pack("{s:s, s:s}", "ckpt", ckpt, "name", DEMO_NAME),
                err) < 0 ||
                   post(
                       cl, "/fettle/v1/deployments",
                       json_pack("{s:s, s:s}", "ckpt", ckpt, "name", DEMO_NAME),
                       err) < 0
               ? -1
               : 0;
}

/* The deployment's answer, free() it. */
static char *ask(struct client *cl, const char *question, struct err *err) {
    json_t *m = json_pack("[{s:s, s:s}]", "role", "user", "content", question);
    char *text = json_dumps(m, JSON_COMPACT), *answer = NULL;
    json_decref(m);
    struct op op = {.kind = OP_SAMPLE, .model = ""};
    struct result res = {0};
    op.sample.target.ckpt = "";
    op.sample.prompt = PROMPT_MESSAGES;
    op.sample.text = text;
    op.sample.max_tokens = 64;
    op.sample.top_k = -1;
    op.sample.top_p = 1;
    op.sample.n = 1;
    op.sample.default_stop = true;
    if (client_run(cl, DEMO_NAME, &op, NULL, NULL, &res, err) == 0 &&
        res.n_samples == 1)
        answer = fs_path("%s", res.samples[0].text);
    result_release(&res);
    free(text);
    return answer;
}

static json_t *ask_all(struct cli *c, struct client *cl, struct err *err) {
    json_t *all = json_array();
    const struct starter_question *q;
    for (int i = 0; (q = starter_question(i)); i++) {
        char *answer = ask(cl, q->ask, err);
        if (!answer) {
            json_decref(all);
            return NULL;
        }
        bool right = strstr(answer, q->want) != NULL;
        if (!c->json) {
            printf("  you:  %s\n  demo: ", q->ask);
            cli_print_text(answer);
            puts(right ? "" : "   (wrong)");
        }
        json_array_append_new(all,
                              json_pack("{s:s, s:s, s:b}", "question", q->ask,
                                        "answer", answer, "right", right));
        free(answer);
    }
    return all;
}

/* ---- the verb ---- */

static int watch(struct cli *c, struct client *cl, int64_t run,
                 struct err *err) {
    bool screen = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && !c->json &&
                  !cli_opt(c, "--no-screen");
    if (screen &&
        app_run(&(struct app_opts){.home = c->home, .run = run}, err) < 0)
        return -1;
    struct store_runs rows = {0};
    if (cli_wait(c, cl, run, &rows, err) < 0)
        return -1;
    bool done = rows.row->state == STORE_RUN_DONE;
    store_runs_free(&rows);
    return done ? 0
                : err_set(err, ERR_UNAVAILABLE,
                          "demo: run %lld ended early (fettle logs %lld)",
                          (long long)run, (long long)run);
}

static int demo(struct cli *c, struct client *cl, struct err *err) {
    int64_t run = start(c, cl, err);
    if (run < 0)
        return -1;
    if (!c->json)
        printf("run %lld: the starter model learns who is who in a town\n",
               (long long)run);
    fflush(stdout);
    if (watch(c, cl, run, err) < 0 || serve(cl, run, err) < 0)
        return -1;
    tell(c, "promoted and deployed as " DEMO_NAME ":");
    json_t *answers = ask_all(c, cl, err);
    if (!answers)
        return -1;
    if (c->json)
        cli_print_json(json_pack("{s:I, s:s, s:o}", "run", (json_int_t)run,
                                 "deployment", DEMO_NAME, "answers",
                                 json_incref(answers)),
                       false);
    json_decref(answers);
    tell(c,
         "next:\n"
         "  fettle chat demo     talk to it (ask about Greta, Oskar, Petra)\n"
         "  fettle               the screen\n"
         "  fettle recipes sft   what else can be set\n"
         "  fettle stop          stop the daemon");
    return 0;
}

int cli_demo(struct cli *c, struct err *err) {
    struct client *cl = cli_client(c, true, err);
    int rc = cl && add_starter(c, cl, err) == 0 ? demo(c, cl, err) : -1;
    client_close(cl);
    return rc;
}
