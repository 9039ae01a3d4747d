/* cli_data: the verbs on training data. */
#include "views/cli.h"

#include "core/recipe.h"
#include "core/starter.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXIT_DATA 65
#define BAR 40 /* cells of the longest bar */

/* The rows as a run with these options would have them. */
static int text_open(struct cli *c, struct recipe_text *t, struct err *err) {
    const char *model = cli_opt(c, "--model"), *r = cli_opt(c, "--renderer");
    const char *on = cli_opt(c, "--train-on"), *f = cli_opt(c, "--format");
    int64_t most;
    if (cli_opt_int(c, "--max-length", 2048, 0, 1 << 30, &most, err) < 0)
        return -1;
    char *dir = model ? cli_text_dir(c, model, err) : cli_starter_dir(c, err);
    json_t *config = json_pack(
        "{s:s, s:s, s:s, s:I}", "renderer", r ? r : "auto", "train_on_what",
        on ? on : train_on_name(TRAIN_ALL_ASSISTANT), "data_format",
        f ? f : "auto", "max_length", (json_int_t)(most ? most : 1 << 30));
    int rc = -1;
    if (dir && !config)
        err_set(err, ERR_USAGE, "data check: an option is not UTF-8");
    else if (dir)
        rc = recipe_text_open(t, config, dir, err);
    json_decref(config);
    free(dir);
    return rc;
}

/* ---- the report for people ---- */

static json_int_t num(const json_t *o, const char *key) {
    return json_integer_value(json_object_get(o, key));
}

static void print_head(const json_t *j) {
    const json_t *t = json_object_get(j, "tokens"), *v;
    const json_t *cut = json_object_get(j, "cut");
    const json_t *pack = json_object_get(j, "packing");
    const char *name;
    printf("%lld rows", (long long)num(j, "rows"));
    json_object_foreach(json_object_get(j, "formats"), name, v)
        printf(", %lld %s", (long long)json_integer_value(v), name);
    printf("\n%lld tokens, %lld of them trained; %lld to %lld a row, median "
           "%lld, 90 %% below %lld, 99 %% below %lld\n",
           (long long)num(t, "total"), (long long)num(t, "trained"),
           (long long)num(t, "min"), (long long)num(t, "max"),
           (long long)num(t, "p50"), (long long)num(t, "p90"),
           (long long)num(t, "p99"));
    if (num(cut, "rows"))
        printf("%lld rows are cut, %lld tokens lost\n",
               (long long)num(cut, "rows"), (long long)num(cut, "tokens"));
    if (json_is_object(pack))
        printf("packing=best_fit: %lld rows into %lld bins of %lld tokens, "
               "%.0f %% full\n",
               (long long)num(pack, "rows"), (long long)num(pack, "bins"),
               (long long)num(pack, "max_length"),
               100 * json_real_value(json_object_get(pack, "fill")));
}

static void print_histogram(const json_t *bins) {
    const json_t *bin;
    json_int_t most = 1;
    size_t i;
    json_array_foreach(bins, i, bin) most =
        num(bin, "rows") > most ? num(bin, "rows") : most;
    json_array_foreach(bins, i, bin) {
        int cells = (int)(num(bin, "rows") * BAR / most);
        printf("%8lld+ ", (long long)num(bin, "from"));
        for (int k = 0; k < cells; k++)
            fputs("█", stdout);
        printf("%s%lld\n", cells ? " " : "", (long long)num(bin, "rows"));
    }
}

static void print_finding(const json_t *f, const char *path) {
    const json_t *rows = json_object_get(f, "rows"), *row;
    size_t i;
    printf("\n%s %s: %lld (%s)\n",
           json_is_true(json_object_get(f, "is_fatal")) ? "!" : "-",
           json_string_value(json_object_get(f, "kind")),
           (long long)num(f, "count"),
           json_string_value(json_object_get(f, "help")));
    json_array_foreach(rows, i, row) {
        const char *what = json_string_value(json_object_get(row, "what"));
        printf("    %s:%lld%s%s\n", path, (long long)num(row, "line"),
               *what ? ": " : "", what);
    }
    if ((json_int_t)json_array_size(rows) < num(f, "count"))
        printf(
            "    and %lld more\n",
            (long long)(num(f, "count") - (json_int_t)json_array_size(rows)));
}

static void print_report(const json_t *j, const char *path) {
    const json_t *f;
    size_t i;
    print_head(j);
    print_histogram(json_object_get(j, "histogram"));
    json_array_foreach(json_object_get(j, "findings"), i, f)
        print_finding(f, path);
    if (json_array_size(json_object_get(j, "findings")) == 0)
        puts("nothing to find fault with");
}

int cli_data_check(struct cli *c, struct err *err) {
    struct check_conf check = {.eval = cli_opt(c, "--eval")};
    struct recipe_text text = {0};
    int64_t list;
    json_t *j = NULL;
    if (cli_opt_int(c, "--list", 5, 0, 1 << 30, &list, err) == 0 &&
        text_open(c, &text, err) == 0) {
        check.row = text.row;
        check.list_most = (size_t)list;
        j = data_check(c->arg[0], &check, err);
    }
    recipe_text_close(&text);
    if (!j)
        return -1;
    c->status = num(j, "fatal") > 0 ? EXIT_DATA : 0;
    if (c->json)
        cli_print_json(j, false);
    else {
        print_report(j, c->arg[0]);
        json_decref(j);
    }
    return 0;
}
