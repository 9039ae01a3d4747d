/* keys: the table of recipes and their keys; words to configs. */
#include "core/recipe.h"

#include "core/fs.h"
#include "core/json.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BIG 9e15

static const struct recipe_key sft_keys[] = {
    {"model", KEY_STR, NULL, 0, 0, NULL, "", "base model's registered name", 0},
    {"data", KEY_STR, NULL, 0, 0, NULL, "",
     "JSONL or .txt file of rows to train on", KEY_PATH},
    {"eval_data", KEY_STR, "", 0, 0, NULL, "", "JSONL file of held-out rows",
     KEY_PATH},
    {"data_format", KEY_STR, "auto", 0, 0, NULL, "",
     "chat, prompt, alpaca, sharegpt, text or tokens; auto = what each row "
     "looks like",
     0},
    {"test_size", KEY_NUM, "0", 0, BIG, NULL, "",
     "rows of data held out: a count, or a share below 1; all turns of a "
     "conversation stay on one side",
     0},
    {"untrained_rows", KEY_STR, "error", 0, 0, "error|skip", "",
     "rows without a trained token within max_length: refused by their line, "
     "or left out",
     0},
    {"renderer", KEY_STR, "auto", 0, 0, NULL, "",
     "chat format; auto = what fits the model", 0},
    {"compat", KEY_BOOL, "false", 0, 0, NULL, "",
     "text of messages may make control tokens, as in tinker-cookbook: for "
     "comparisons only",
     0},
    {"train_on_what", KEY_STR, "all_assistant_messages", 0, 0,
     "last_assistant_message|last_assistant_turn|all_assistant_messages|"
     "all_messages|all_tokens|all_user_and_system_messages|customized",
     "", "which tokens of a conversation count", 0},
    {"learning_rate", KEY_NUM, "1e-4", 0, 1e3, NULL, "", "peak learning rate",
     0},
    {"lr_schedule", KEY_STR, "linear", 0, 0, "linear|cosine|constant", "",
     "how the learning rate falls", 0},
    {"warmup_steps", KEY_INT, "0", 0, BIG, NULL, "steps",
     "linear rise at the start", 0},
    {"batch_size", KEY_INT, "8", 1, 1e6, NULL, "sequences",
     "rows a step; with packing, bins of rows", 0},
    {"packing", KEY_STR, "off", 0, 0, "off|best_fit", "",
     "best_fit: a step takes bins, as many rows each as fit max_length tokens; "
     "rows stay apart (attention, positions, weights)",
     0},
    {"max_length", KEY_INT, "2048", 2, 1e6, NULL, "tokens",
     "longer rows are cut at the right", 0},
    {"num_epochs", KEY_INT, "1", 1, 1e9, NULL, "", "passes over the data", 0},
    {"max_steps", KEY_INT, "0", 0, 1e12, NULL, "steps", "0 = as epochs say", 0},
    {"lora_rank", KEY_INT, "32", 0, 4096, NULL, "", "0 = full tuning", 0},
    {"lora_alpha", KEY_NUM, "32", 0, 1e6, NULL, "",
     "the adapter counts alpha / rank", 0},
    {"precision", KEY_STR, "fp32", 0, 0, "fp32|bf16", "",
     "full tuning's weights, as passes see them; bf16 ones are rounded from an "
     "exact f32 master",
     0},
    {"reduction", KEY_STR, "mean", 0, 0, "mean|token|sum", "",
     "weights: each row sums to 1 | divided by the batch's sum | as they are",
     0},
    {"adam_beta1", KEY_NUM, "0.9", 0, 1, NULL, "", "", KEY_BELOW},
    {"adam_beta2", KEY_NUM, "0.95", 0, 1, NULL, "", "", KEY_BELOW},
    {"adam_eps", KEY_NUM, "1e-8", 0, 1, NULL, "", "", 0},
    {"weight_decay", KEY_NUM, "0", 0, 1e3, NULL, "", "decoupled, as AdamW", 0},
    {"grad_clip_norm", KEY_NUM, "0", 0, 1e9, NULL, "",
     "global L2 norm, 0 = off", 0},
    {"shuffle", KEY_BOOL, "true", 0, 0, NULL, "", "new order each epoch", 0},
    {"seed", KEY_INT, "0", 0, BIG, NULL, "", "of shuffle and adapter", 0},
    {"save_every", KEY_INT, "20", 0, BIG, NULL, "steps",
     "checkpoints; 0 = only the last, named final", 0},
    {"eval_every", KEY_INT, "10", 0, BIG, NULL, "steps", "0 = never", 0},
    {"sample_every", KEY_INT, "20", 0, BIG, NULL, "steps", "0 = never", 0},
    {"sample_prompts", KEY_LIST, "", 0, 0, NULL, "",
     "texts to answer at every sampling: one, or a JSON list; none = the first "
     "held-out rows' prompts",
     0},
    {"sample_max_tokens", KEY_INT, "64", 1, 1e6, NULL, "tokens", "", 0},
    {"sample_temperature", KEY_NUM, "0", 0, 100, NULL, "", "0 = greedy", 0},
    {"submit_ahead", KEY_INT, "1", 0, 64, NULL, "steps",
     "steps submitted before the first is done", 0},
};

static const struct recipe recipes[] = {
    {"sft", "supervised fine-tuning on conversations or token rows", sft_keys,
     sizeof sft_keys / sizeof *sft_keys},
};

const struct recipe *recipe_at(int i) {
    return i >= 0 && (size_t)i < sizeof recipes / sizeof *recipes ? &recipes[i]
                                                                  : NULL;
}

const struct recipe *recipe_find(const char *name) {
    const struct recipe *r;
    for (int i = 0; (r = recipe_at(i)); i++)
        if (strcmp(r->name, name) == 0)
            return r;
    return NULL;
}

const char *key_type_name(enum key_type t) {
    static const char *const names[] = {"text", "integer", "number", "bool",
                                        "list"};
    return names[t];
}

/* ---- suggestions ---- */

static int distance(const char *a, const char *b) {
    int row[64], n = (int)strlen(b);
    if (n > 60 || strlen(a) > 60)
        return 99;
    for (int j = 0; j <= n; j++)
        row[j] = j;
    for (int i = 1; a[i - 1]; i++) {
        int diag = row[0];
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            int up = row[j];
            int best = diag + (a[i - 1] != b[j - 1]);
            best = up + 1 < best ? up + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            row[j] = best;
            diag = up;
        }
    }
    return row[n];
}

static int key_unknown(const struct recipe *r, const char *name,
                       struct err *err) {
    int best = 0, least = 99;
    for (int i = 0; i < r->n_keys; i++) {
        int d = distance(name, r->keys[i].name);
        if (d < least) {
            least = d;
            best = i;
        }
    }
    if (3 * least <= (int)strlen(r->keys[best].name))
        return err_set(err, ERR_USAGE,
                       "%s has no key '%.64s' (did you mean "
                       "%s?)",
                       r->name, name, r->keys[best].name);
    return err_set(err, ERR_USAGE,
                   "%s has no key '%.64s' (fettle recipes %s lists them)",
                   r->name, name, r->name);
}

/* ---- values ---- */

static bool choice_ok(const char *choices, const char *v) {
    size_t n = strlen(v);
    for (const char *c = choices; c; c = strchr(c, '|')) {
        c += *c == '|';
        if (strncmp(c, v, n) == 0 && (c[n] == 0 || c[n] == '|') && n > 0)
            return true;
        if (!strchr(c, '|'))
            break;
    }
    return false;
}

static json_t *value_number(const struct recipe_key *k, const char *v,
                            struct err *err) {
    char *end;
    double d = strtod(v, &end);
    bool whole = d == floor(d);
    if (end == v || *end || !isfinite(d)) {
        err_set(err, ERR_USAGE, "%s=%.64s: %s is wanted", k->name, v,
                k->type == KEY_INT ? "an integer" : "a number");
        return NULL;
    }
    if (k->type == KEY_INT && !whole) {
        err_set(err, ERR_USAGE, "%s=%.64s: an integer is wanted", k->name, v);
        return NULL;
    }
    bool below = k->flags & KEY_BELOW;
    if (d < k->min || d > k->max || (below && d == k->max)) {
        err_set(err, ERR_USAGE, "%s=%.64s: from %g to %s%g is allowed", k->name,
                v, k->min, below ? "below " : "", k->max);
        return NULL;
    }
    return k->type == KEY_INT ? json_integer((json_int_t)d) : json_real(d);
}

static json_t *value_path(const char *v) {
    char cwd[4096];
    if (v[0] == '/' || !*v || !getcwd(cwd, sizeof cwd))
        return json_string(v);
    char *abs = fs_path("%s/%s", cwd, v);
    json_t *j = json_string(abs);
    free(abs);
    return j;
}

static json_t *value_list(const struct recipe_key *k, const char *v,
                          struct err *err) {
    json_t *j = v[0] == '[' ? json_loads(v, 0, NULL)
                : *v        ? json_pack("[s]", v)
                            : json_array();
    size_t i;
    json_t *e;
    bool ok = json_is_array(j);
    json_array_foreach(j, i, e) ok &= json_is_string(e);
    if (ok)
        return j;
    json_decref(j);
    err_set(err, ERR_USAGE, "%s: a text or a JSON list of texts is wanted",
            k->name);
    return NULL;
}

static json_t *value_of(const struct recipe_key *k, const char *v,
                        struct err *err) {
    switch (k->type) {
    case KEY_INT:
    case KEY_NUM: return value_number(k, v, err);
    case KEY_LIST: return value_list(k, v, err);
    case KEY_BOOL:
        if (strcmp(v, "true") == 0 || strcmp(v, "1") == 0)
            return json_true();
        if (strcmp(v, "false") == 0 || strcmp(v, "0") == 0)
            return json_false();
        err_set(err, ERR_USAGE, "%s=%.64s: true or false is wanted", k->name,
                v);
        return NULL;
    case KEY_STR: break;
    }
    if (k->choices && !choice_ok(k->choices, v)) {
        err_set(err, ERR_USAGE, "%s=%.64s: one of %s is wanted", k->name, v,
                k->choices);
        return NULL;
    }
    json_t *j = (k->flags & KEY_PATH) ? value_path(v) : json_string(v);
    if (!j)
        err_set(err, ERR_USAGE, "%s: not UTF-8", k->name);
    return j;
}

static const struct recipe_key *key_find(const struct recipe *r,
                                         const char *name) {
    for (int i = 0; i < r->n_keys; i++)
        if (strcmp(r->keys[i].name, name) == 0)
            return &r->keys[i];
    return NULL;
}

static int config_word(const struct recipe *r, const char *word, json_t *config,
                       struct err *err) {
    const char *eq = strchr(word, '=');
    char name[65];
    if (!eq || eq == word || (size_t)(eq - word) >= sizeof name)
        return err_set(err, ERR_USAGE, "'%.64s': key=value is wanted", word);
    snprintf(name, sizeof name, "%.*s", (int)(eq - word), word);
    const struct recipe_key *k = key_find(r, name);
    if (!k)
        return key_unknown(r, name, err);
    if (json_object_get(config, name))
        return err_set(err, ERR_USAGE, "%s is given twice", name);
    json_t *v = value_of(k, eq + 1, err);
    if (!v)
        return -1;
    json_object_set_new(config, name, v);
    return 0;
}

json_t *recipe_config(const struct recipe *r, char *const *words, int n,
                      struct err *err) {
    json_t *given = json_object(), *config = json_object();
    int rc = 0;
    for (int i = 0; i < n && rc == 0; i++)
        rc = config_word(r, words[i], given, err);
    for (int i = 0; i < r->n_keys && rc == 0; i++) {
        const struct recipe_key *k = &r->keys[i];
        json_t *v = json_incref(json_object_get(given, k->name));
        if (!v && !k->dflt)
            rc = err_set(err, ERR_USAGE, "%s: %s= is missing (%s)", r->name,
                         k->name, k->help);
        else if (!v && !(v = value_of(k, k->dflt, err)))
            rc = -1;
        if (v)
            json_object_set_new(config, k->name, v);
    }
    json_decref(given);
    if (rc == 0)
        return config;
    json_decref(config);
    return NULL;
}
