/*
 * jinja: renders templates for tests/peer/jinja.py.
 *
 * Reads {"template":…,"vars":{…}} a line; writes {"text":…,"others":[[from,to],
 * …],"generated":[…]} (bytes) or {"error":…} a line. --bank: the scenarios.
 */
#include "core/text/jinja.h"
#include "core/text/scenario.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static json_t *spans(const struct jinja_out *out, uint8_t bit) {
    json_t *all = json_array();
    for (size_t i = 0; i < out->len; i++) {
        size_t from = i;
        while (i < out->len && out->mark[i] & bit)
            i++;
        if (i > from)
            json_array_append_new(
                all, json_pack("[I,I]", (json_int_t)from, (json_int_t)i));
    }
    return all;
}

static json_t *answer(const json_t *in) {
    const json_t *text = json_object_get(in, "template");
    struct err err = {0};
    struct jinja_out out = {0};
    json_t *r = json_object();
    struct jinja *j =
        jinja_parse(json_string_value(text), json_string_length(text), &err);
    if (j && jinja_render(j, json_object_get(in, "vars"), &out, &err) == 0) {
        json_object_set_new(r, "text", json_stringn(out.text, out.len));
        json_object_set_new(r, "others", spans(&out, JINJA_TEXT));
        json_object_set_new(r, "generated", spans(&out, JINJA_GENERATED));
    } else {
        json_object_set_new(r, "error", json_string(err.msg));
        json_object_set_new(r, "code", json_string(err_name(err.code)));
    }
    jinja_out_release(&out);
    jinja_free(j);
    return r;
}

static void print(json_t *r) {
    char *s = json_dumps(r, JSON_COMPACT);
    puts(s ? s : "{\"error\":\"not UTF-8\"}");
    fflush(stdout);
    free(s);
    json_decref(r);
}

int main(int argc, char **argv) {
    char *line = NULL;
    size_t cap = 0;
    bool bank = argc > 1 && strcmp(argv[1], "--bank") == 0;
    for (int i = 0; bank && i < SCENARIOS; i++) {
        json_t *s = scenario_json(i);
        json_object_set_new(s, "id", json_string(scenario_id(i)));
        json_object_set_new(s, "asks", json_boolean(scenario_asks(s)));
        print(s);
    }
    for (ssize_t n; (n = getline(&line, &cap, stdin)) > 0;) {
        json_t *in = json_loadb(line, (size_t)n, JSON_ALLOW_NUL, NULL);
        print(answer(in));
        json_decref(in);
    }
    free(line);
    return 0;
}
