/*
 * parity: our renderer and the checkpoint's template, side by side over the
 * scenario bank.
 *
 * A difference that is known has a row in a table, and is expected strictly:
 * a row whose difference has gone is reported, so that no row outlives it.
 */
#include "core/text/template.h"
#include "core/text/scenario.h"

#include "core/fs.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum verdict { PARITY_EQUAL, PARITY_KNOWN, PARITY_VANISHED, PARITY_DIFFERENT };
static const char *const verdict_names[] = {
    [PARITY_EQUAL] = "equal",
    [PARITY_KNOWN] = "known",
    [PARITY_VANISHED] = "vanished",
    [PARITY_DIFFERENT] = "different",
};

/* Differences that are meant: the cookbook's way is the renderer's. */
static const struct {
    const char *renderer, *scenario, *why;
} known[] = {
    {NULL, NULL, NULL},
};

static const char *known_why(const char *renderer, const char *scenario) {
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].renderer && strcmp(known[i].renderer, renderer) == 0 &&
            strcmp(known[i].scenario, scenario) == 0)
            return known[i].why;
    return NULL;
}

/* ---- one side ---- */

struct side {
    struct tok_ids ids;
    char *text; /* of the ids; NULL: refused, see err */
    size_t len;
    struct err err;
};

static void side_fill(struct side *s, const struct render *r,
                      const struct tok *t, const json_t *scenario) {
    struct example e = {0};
    int rc;
    if (scenario_asks(scenario)) {
        rc = render_prompt(r, scenario, 0, &s->ids, &s->err);
    } else {
        rc = render_example(r, scenario, TRAIN_ALL_TOKENS, 0, &e, &s->err);
        s->ids = e.tokens;
        e.tokens = (struct tok_ids){0};
        example_release(&e);
    }
    if (rc == 0)
        s->text = tok_decode_all(t, s->ids.id, s->ids.n, &s->len, &s->err);
}

static void side_release(struct side *s) {
    free(s->ids.id);
    free(s->text);
}

/* ---- comparing ---- */

static bool same_ids(const struct side *a, const struct side *b) {
    return a->ids.n == b->ids.n &&
           (a->ids.n == 0 ||
            memcmp(a->ids.id, b->ids.id, a->ids.n * sizeof *a->ids.id) == 0);
}

static size_t common(const struct side *a, const struct side *b) {
    size_t i = 0;
    while (i < a->len && i < b->len && a->text[i] == b->text[i])
        i++;
    return i;
}

/* White space behind a whole conversation is no difference: nothing follows,
 * and nothing of it is trained or sampled. */
static bool ends_blank(const struct side *s, size_t at) {
    while (at < s->len && isspace((unsigned char)s->text[at]))
        at++;
    return at == s->len;
}

/* Some characters around a place, cut at whole characters. */
static json_t *around(const struct side *s, size_t at) {
    size_t from = at > 20 ? at - 20 : 0,
           to = at + 40 < s->len ? at + 40 : s->len;
    size_t len;
    char *text = utf8_lossy(s->text + from, to - from, &len);
    json_t *j = json_stringn(text, len);
    free(text);
    return j;
}

static enum verdict judge(const struct side *us, const struct side *them,
                          bool asks, json_t *row) {
    if (!us->text || !them->text) {
        json_object_set_new(row, "ours",
                            us->text ? json_string("renders")
                                     : json_string(us->err.msg));
        json_object_set_new(row, "template",
                            them->text ? json_string("renders")
                                       : json_string(them->err.msg));
        return us->text || them->text ? PARITY_DIFFERENT : PARITY_EQUAL;
    }
    size_t at = common(us, them);
    if (same_ids(us, them) ||
        (!asks && ends_blank(us, at) && ends_blank(them, at)))
        return PARITY_EQUAL;
    if (at == us->len && at == them->len) {
        json_object_set_new(row, "why",
                            json_string("same text, other tokens: ours are "
                                        "made of each piece on its own"));
        return PARITY_KNOWN;
    }
    json_object_set_new(row, "ours", around(us, at));
    json_object_set_new(row, "template", around(them, at));
    return PARITY_DIFFERENT;
}

static enum verdict compare(const struct render *ours,
                            const struct render *theirs, const struct tok *t,
                            int i, json_t *row) {
    struct side us = {0}, them = {0};
    json_t *s = scenario_json(i);
    const char *why = known_why(render_name(ours), scenario_id(i));
    side_fill(&us, ours, t, s);
    side_fill(&them, theirs, t, s);
    enum verdict v = judge(&us, &them, scenario_asks(s), row);
    if (why && v == PARITY_DIFFERENT)
        v = PARITY_KNOWN;
    else if (why && v == PARITY_EQUAL)
        v = PARITY_VANISHED;
    if (why)
        json_object_set_new(row, "why", json_string(why));
    json_object_set_new(row, "scenario", json_string(scenario_id(i)));
    json_object_set_new(row, "verdict", json_string(verdict_names[v]));
    side_release(&us);
    side_release(&them);
    json_decref(s);
    return v;
}

static json_t *report(const struct render *ours, const struct render *theirs,
                      const struct tok *t) {
    json_t *rows = json_array();
    int count[PARITY_DIFFERENT + 1] = {0};
    for (int i = 0; i < SCENARIOS; i++) {
        json_t *row = json_object();
        enum verdict v = compare(ours, theirs, t, i, row);
        count[v]++;
        if (v == PARITY_EQUAL)
            json_decref(row);
        else
            json_array_append_new(rows, row);
    }
    json_t *r = json_pack("{s:s, s:i}", "renderer", render_name(ours),
                          "scenarios", SCENARIOS);
    for (int v = 0; v <= PARITY_DIFFERENT; v++)
        json_object_set_new(r, verdict_names[v], json_integer(count[v]));
    json_object_set_new(r, "rows", rows);
    return r;
}

json_t *render_parity(const char *name, const struct tok *t,
                      const char *model_dir, struct err *err) {
    struct render *theirs = render_open(TEMPLATE, t, model_dir, err);
    struct render *ours = theirs ? render_open(name, t, model_dir, err) : NULL;
    json_t *r = ours ? report(ours, theirs, t) : NULL;
    render_close(ours);
    render_close(theirs);
    return r;
}
