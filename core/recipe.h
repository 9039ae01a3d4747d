/*
 * recipe - training loops as clients: a table of recipes with typed keys, and
 * the process that runs one. A recipe renders, batches and submits ops over
 * the socket, like a script of somebody else's would; it never sees a weight.
 *
 * The number of every op is a pure function of config and step, so a loop
 * that starts again at its cursor submits the same ops under the same
 * numbers, and what was done is not done again.
 */
#ifndef FETTLE_CORE_RECIPE_H
#define FETTLE_CORE_RECIPE_H

#include "core/text.h"

#include <jansson.h>
#include <stdint.h>

enum key_type { KEY_STR, KEY_INT, KEY_NUM, KEY_BOOL, KEY_LIST };

enum {
    KEY_PATH = 1,  /* made absolute by who parses */
    KEY_BELOW = 2, /* max itself is not allowed */
};

struct recipe_key {
    const char *name;
    enum key_type type;
    const char *dflt;    /* as text; NULL = required, "" = none */
    double min, max;     /* of numbers */
    const char *choices; /* "a|b|c", NULL = free */
    const char *unit;
    const char *help;
    int flags; /* KEY_PATH, KEY_BELOW */
};

struct recipe {
    const char *name, *help;
    const struct recipe_key *keys;
    int n_keys;
};

const struct recipe *recipe_find(const char *name);
const struct recipe *recipe_at(int i); /* NULL behind the last */
const char *key_type_name(enum key_type t);

/* A whole config out of key=value words: checked, defaults filled in, paths
 * absolute. Unknown keys are refused with a suggestion. NULL and an error. */
json_t *recipe_config(const struct recipe *r, char *const *words, int n,
                      struct err *err);

/* What can be said before a run is made: reads data and tokenizer, names what
 * is wrong. steps (may be NULL): how many the run will have. The config gets
 * the name of the renderer that "auto" means, which stays the run's and its
 * checkpoints' whatever a later program would take. */
int recipe_check(const struct recipe *r, json_t *config, const char *model_dir,
                 int64_t *steps, struct err *err);

/* What makes examples of the rows of a config's data. In place: row borrows
 * the others. */
struct recipe_text {
    struct tok *tok;       /* NULL: rows of tokens only */
    struct render *render; /* NULL without tok */
    struct err no_text;    /* why tok is NULL */
    struct row_conf row;
    int64_t context; /* the model's, tokens */
};
int recipe_text_open(struct recipe_text *t, const json_t *config,
                     const char *model_dir, struct err *err);
void recipe_text_close(struct recipe_text *t);

/* The `fettle job` process: runs `run` to its end. Log lines go to stdout. */
int recipe_job(const char *home, int64_t run, struct err *err);

#endif
