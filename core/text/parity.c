/*
 * parity: our renderer and the checkpoint's template, side by side over the
 * scenario bank.
 *
 * A difference that is known has a row in a table, and is expected strictly:
 * a row whose difference has gone is reported, so that no row outlives it.
 */
#include "core/text/scenario.h"
#include "core/text/template.h"

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

/* Differences that are meant, of renderers and the templates that their models
 * came with. A name that ends in * stands for all that begin so. */
#define CALLS \
    "call call_answered call_pending_answer two_rounds parallel_calls " \
    "parallel_results_reversed text_and_call nested_arguments " \
    "arguments_as_text empty_arguments thought_and_call " \
    "thought_call_thought calls_of_an_old_turn "
#define TOOLS "tools_declared tools_and_system tools_of_other_scripts " CALLS
#define PARTS "user_parts assistant_parts "
#define DEVELOPERS "developer_first developer_later "
#define SPACES \
    "surrounding_spaces newline_first newline_last tab_first " \
    "spaces_only_user "
#define THOUGHTS \
    "thought thought_before_user thought_in_both thought_then_plain " \
    "thought_only "
#define UNEVEN "two_users two_assistants assistant_first "
#define SPELLED "thought_in_text thought_in_text_before_user "

#define MISTRAL "[SYSTEM_PROMPT]You are Mistral"
#define KNOWLEDGE "Cutting Knowledge Date: " /* Llama 3.1 and 3.2 */

static const char no_parts[] =
    "the template has no words for a content of several parts";
static const char drops_developer[] =
    "the template drops what a developer says";
static const char refuses_developer[] = "the template refuses developers";
static const char one_system[] =
    "the template refuses a system message that is not the first";
static const char spelled_out[] =
    "reasoning that an answer's text spells out is reasoning, for the "
    "template it is text";
static const char no_developer[] = "developers are refused, not dropped";
static const char alternate[] =
    "the template refuses turns that do not alternate";
static const char no_thoughts[] = "reasoning is refused, not dropped";
static const char no_tools[] = "tools are refused, not dropped";
static const char drops_thoughts[] = "the template drops reasoning";
static const char drops_systems[] =
    "the template drops a system message that is not the first";
struct known {
    const char *renderer, *scenarios, *why;
};
static const struct known known[] = {
    {"qwen2_5", PARTS, no_parts},
    {"qwen2_5", DEVELOPERS, drops_developer},
    {"qwen2_5",
     THOUGHTS "thought_and_call thought_call_thought calls_of_an_old_turn",
     no_thoughts},
    {"qwen3", PARTS, no_parts},
    {"qwen3", DEVELOPERS, drops_developer},
    {"qwen3_instruct", PARTS, no_parts},
    {"qwen3_instruct", DEVELOPERS, drops_developer},
    {"qwen3_instruct",
     "thought thought_in_both thought_only thought_and_call "
     "thought_call_thought",
     drops_thoughts},
    {"qwen3_vl_instruct", DEVELOPERS, drops_developer},
    {"qwen3_vl_instruct", "two_systems system_later", drops_systems},
    {"qwen3_vl_instruct",
     "thought thought_in_both thought_only thought_and_call "
     "thought_call_thought",
     drops_thoughts},
    {"qwen3_5*", DEVELOPERS, refuses_developer},
    {"qwen3_5*", "two_systems system_later", one_system},
    {"qwen3_8*", DEVELOPERS, refuses_developer},
    {"qwen3_8*", "two_systems system_later", one_system},
    {"qwen3_8*", SPELLED, spelled_out},
    {"nemotron3*", SPACES, "texts are stripped"},
    {"nemotron3*", PARTS, no_parts},
    {"nemotron3*", SPELLED, spelled_out},
    {"llama3", SPACES "spaces_only_answer", "texts are not stripped"},
    {"llama3", PARTS, no_parts},
    {"llama3", THOUGHTS, no_thoughts},
    {"llama3", TOOLS, no_tools},
    {"gpt_oss*", "empty_system", "an empty system message is kept"},
    {"gpt_oss*", "assistant_parts", no_parts},
    {"gpt_oss*", DEVELOPERS, "a developer's message stands as it is"},
    {"gpt_oss*", "two_systems system_later", drops_systems},
    {"gpt_oss*", "thought_before_user thought_in_both thought_then_plain",
     "reasoning of earlier turns is kept"},
    {"gpt_oss*", SPELLED, spelled_out},
    {"gpt_oss*", TOOLS, "tools are declared in the cookbook's TypeScript"},
    {"deepseekv3", "assistant_parts", no_parts},
    {"deepseekv3", DEVELOPERS, no_developer},
    {"deepseekv3", "two_systems system_later",
     "a system message that is not the first is refused, not moved there"},
    {"deepseekv3", "two_assistants assistant_first",
     "the template opens an answer behind a question only"},
    {"deepseekv3", SPELLED, spelled_out},
    {"deepseekv3", TOOLS, "the template declares no tools"},
    {"gemma", PARTS, no_parts},
    {"gemma", UNEVEN, alternate},
    {"gemma", THOUGHTS, no_thoughts},
    {"gemma",
     "tools_declared tools_of_other_scripts call nested_arguments "
     "arguments_as_text empty_arguments",
     no_tools},
    {"gemma3", UNEVEN, alternate},
    {"gemma3", THOUGHTS, no_thoughts},
    {"gemma3",
     "tools_declared tools_and_system tools_of_other_scripts call "
     "nested_arguments arguments_as_text empty_arguments",
     no_tools},
    {"gemma4*", SPELLED, spelled_out},
    {"phi4", PARTS, no_parts},
    {"phi4", DEVELOPERS, no_developer},
    {"phi4", UNEVEN,
     "the template opens an answer behind every question, and only there"},
    {"phi4", THOUGHTS, no_thoughts},
    {"phi4", TOOLS, no_tools},
    {"phi3", PARTS, no_parts},
    {"phi3", DEVELOPERS, no_developer},
    {"phi3", THOUGHTS, no_thoughts},
    {"phi3", TOOLS, no_tools},
    {"phi3",
     "single_turn multi_turn empty_system surrounding_spaces inner_newlines "
     "emoji_and_scripts two_assistants empty_answer spaces_only_answer "
     "thought_in_text",
     "the template ends a whole conversation with the tokenizer's end"},
};

/* Only beside a template that says this of a question alone; before the others,
 * the first row that fits. scenarios "*": all; why NULL: nothing differs. */
static const struct {
    const char *says;
    struct known known;
} beside[] = {
    {MISTRAL,
     {"mistral",
      "system_user multi_turn_ask empty_system surrounding_spaces two_systems "
      "thought_and_call thought_call_thought calls_of_an_old_turn " DEVELOPERS,
      NULL}},
    {MISTRAL,
     {"mistral", "*",
      "the template has a system message of its own, with the date, where a "
      "conversation has none, and other words for tools"}},
    {KNOWLEDGE, {"llama3", "parallel_calls parallel_results_reversed", NULL}},
    {KNOWLEDGE,
     {"llama3", "*",
      "the template opens with the dates of its knowledge and of today; the "
      "cookbook's llama3, which this is, does not"}},
};

static bool name_fits(const char *pattern, const char *name) {
    size_t n = strcspn(pattern, "*");
    return strncmp(pattern, name, n) == 0 && (pattern[n] || !name[n]);
}

static bool has_word(const char *words, const char *word) {
    size_t n = strlen(word);
    for (const char *at = words; (at = strstr(at, word)); at += n)
        if ((at == words || at[-1] == ' ') && (at[n] == ' ' || !at[n]))
            return true;
    return false;
}

static bool row_fits(const struct known *k, const char *renderer,
                     const char *scenario) {
    return name_fits(k->renderer, renderer) &&
           (*k->scenarios == '*' || has_word(k->scenarios, scenario));
}

/* said: what the template makes of a question alone. */
static const char *known_why(const char *renderer, const char *scenario,
                             const char *said) {
    for (size_t i = 0; i < sizeof beside / sizeof *beside; i++)
        if (strstr(said, beside[i].says) &&
            row_fits(&beside[i].known, renderer, scenario))
            return beside[i].known.why;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (row_fits(&known[i], renderer, scenario))
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

/* Two renderers on one tokenizer. */
struct pair_of {
    const struct render *ours, *theirs;
    const struct tok *tok;
    struct side said; /* by theirs, of a question alone */
    bool is_deaf;     /* theirs says nothing of tools */
    int64_t budget;
};

/* What theirs may take for all scenarios, in bytes of output; one that runs
 * into a bound takes a third of it. */
#define BUDGET ((int64_t)16 << 20)

static int64_t cost(const struct side *s) {
    bool is_bound = s->err.code == ERR_TIMEOUT || s->err.code == ERR_TOOBIG;
    return is_bound ? BUDGET / 3 + 1 : (int64_t)s->len;
}

static const char deaf[] = "the template has no words for tools";

static int scenario_of(const char *id) {
    int i = 0;
    while (strcmp(scenario_id(i), id) != 0)
        i++;
    return i;
}

/* Whether theirs says the same with tools as without. */
static bool is_deaf(struct pair_of *p) {
    struct side with = {0}, without = {0};
    json_t *s = scenario_json(scenario_of("tools_declared"));
    side_fill(&with, p->theirs, p->tok, s);
    json_object_del(s, "tools");
    side_fill(&without, p->theirs, p->tok, s);
    bool same = with.text && without.text && same_ids(&with, &without);
    p->budget -= cost(&with) + cost(&without);
    side_release(&with);
    side_release(&without);
    json_decref(s);
    return same;
}

static void pair_begin(struct pair_of *p) {
    json_t *s = scenario_json(0);
    side_fill(&p->said, p->theirs, p->tok, s);
    p->budget = BUDGET - cost(&p->said);
    json_decref(s);
}

static enum verdict compare(struct pair_of *p, int i, json_t *row) {
    struct side us = {0}, them = {0};
    json_t *s = scenario_json(i);
    const char *why = known_why(render_name(p->ours), scenario_id(i),
                                p->said.text ? p->said.text : "");
    side_fill(&us, p->ours, p->tok, s);
    bool is_tried = p->budget > 0;
    if (is_tried)
        side_fill(&them, p->theirs, p->tok, s);
    else
        err_set(&them.err, ERR_TOOBIG,
                "not tried: the template took too long, or said too much, in "
                "the scenarios before");
    p->budget -= cost(&them);
    enum verdict v = judge(&us, &them, scenario_asks(s), row);
    if (!why && v == PARITY_DIFFERENT && p->is_deaf &&
        json_object_get(s, "tools"))
        why = deaf;
    if (!is_tried)
        v = PARITY_DIFFERENT;
    else if (why && v == PARITY_DIFFERENT)
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

int scenarios_equal(const struct render *ours, const struct render *theirs,
                    const struct tok *t) {
    struct pair_of p = {.ours = ours, .theirs = theirs, .tok = t};
    int n = 0;
    pair_begin(&p);
    for (int i = 0; i < SCENARIOS; i++) {
        json_t *row = json_object();
        enum verdict v = compare(&p, i, row);
        n += v == PARITY_EQUAL || v == PARITY_VANISHED;
        json_decref(row);
    }
    side_release(&p.said);
    return n;
}

static json_t *report(const struct render *ours, const struct render *theirs,
                      const struct tok *t) {
    struct pair_of p = {.ours = ours, .theirs = theirs, .tok = t};
    json_t *rows = json_array();
    int count[PARITY_DIFFERENT + 1] = {0};
    pair_begin(&p);
    p.is_deaf = p.said.text && is_deaf(&p);
    for (int i = 0; i < SCENARIOS; i++) {
        json_t *row = json_object();
        enum verdict v = compare(&p, i, row);
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
    side_release(&p.said);
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
