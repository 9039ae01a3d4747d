/* cli_parity: comparing a model's renderer with its own chat template. */
#include "views/cli.h"
#include "views/parity.h"

#include "core/fs.h"
#include "core/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A model without a template has a renderer all the same. */
static json_t *parity_make(const char *dir, const char *renderer,
                           struct err *err) {
    struct err no = {0};
    struct tok *t = tok_open(dir, err);
    json_t *j = t ? render_parity(renderer, t, dir, &no) : NULL;
    if (t && !j && no.code == ERR_NOTFOUND) {
        struct render *r = render_open(renderer, t, dir, err);
        j = r ? json_pack("{s:s}", "renderer", render_name(r)) : NULL;
        render_close(r);
    } else if (t && !j) {
        err_set(err, no.code, "%s", no.msg);
    }
    tok_close(t);
    return j;
}

static int parity_write(struct cli *c, const char *name, const json_t *j,
                        struct err *err) {
    char *path = parity_path(c->home, name);
    char *text = json_dumps(j, JSON_INDENT(1));
    int rc = text ? fs_write_atomic(path, text, strlen(text), err)
                  : err_set(err, ERR_BUG, "parity report: no JSON");
    free(text);
    free(path);
    return rc;
}

json_t *cli_parity_load(struct cli *c, const char *name, const char *dir) {
    json_t *j = parity_read(c->home, name);
    struct err why = {0};
    if (j)
        return j;
    j = parity_make(dir, "auto", &why);
    if (j)
        parity_write(c, name, j, &why);
    return j;
}

void cli_parity_add(struct cli *c, const char *name, const char *dir) {
    struct err why = {0};
    json_t *j = parity_make(dir, "auto", &why);
    if (j && parity_write(c, name, j, &why) == 0 && !c->json) {
        char *line = parity_line(j);
        printf("renderer %s\n", line);
        free(line);
    }
    if (why.code && why.code != ERR_NOTFOUND && why.code != ERR_UNSUPPORTED) {
        c->note("fettle: no comparison with the chat template: ");
        c->note(why.msg);
        c->note("\n");
    }
    json_decref(j);
}

void cli_parity_rm(const struct cli *c, const char *name) {
    char *path = parity_path(c->home, name);
    remove(path);
    free(path);
}

static void print_side(const json_t *row, const char *key) {
    const char *s = json_string_value(json_object_get(row, key));
    if (!s)
        return;
    char *text = json_dumps(json_object_get(row, key), JSON_ENCODE_ANY);
    printf("  %-9s", key);
    cli_print_text(text);
    putchar('\n');
    free(text);
}

static void print_report(const json_t *j) {
    size_t i;
    json_t *row;
    char *line = parity_line(j);
    puts(line);
    free(line);
    json_array_foreach(json_object_get(j, "rows"), i, row) {
        const char *why = json_string_value(json_object_get(row, "why"));
        printf("\n%s: %s%s%s\n",
               json_string_value(json_object_get(row, "scenario")),
               json_string_value(json_object_get(row, "verdict")),
               why ? ", " : "", why ? why : "");
        print_side(row, "ours");
        print_side(row, "template");
    }
}

int cli_model_parity(struct cli *c, struct err *err) {
    const char *renderer = cli_opt(c, "--renderer");
    char *dir = cli_model_dir(c, c->arg[0], err);
    json_t *j =
        dir ? parity_make(dir, renderer ? renderer : "auto", err) : NULL;
    if (j && !renderer)
        parity_write(c, c->arg[0], j, err);
    if (j && c->json)
        cli_print_json(json_incref(j), false);
    else if (j)
        print_report(j);
    json_decref(j);
    free(dir);
    return err->code ? -1 : 0;
}
