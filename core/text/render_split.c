/*
 * render_split: one conversation as the examples that prompts would ask for.
 *
 * A renderer that drops the reasoning of earlier turns shows a model, at each
 * turn, another text than the whole conversation holds. Trained on the whole
 * it would learn to answer without reasoning; so each turn becomes an example
 * of its own, with what its prompt shows before it.
 */
#include "core/text/render.h"

#include <stdlib.h>
#include <string.h>

#define SPLIT_TOKENS_MAX (64 << 20)

struct split {
    const struct render *r;
    const json_t *list;  /* all messages */
    const json_t *tools; /* may be NULL */
    int flags;
    bool custom; /* trainable says which answers count */
    struct example *out;
    size_t n, cap, tokens;
    struct err *err;
};

static bool has_role(const json_t *m, const char *role) {
    const char *s = json_string_value(json_object_get(m, "role"));
    return s && strcmp(s, role) == 0;
}

/* Is this an answer that is to be trained? */
static bool is_wanted(const struct split *s, size_t i) {
    const json_t *m = json_array_get(s->list, i);
    const json_t *w = json_object_get(m, "weight");
    if (!has_role(m, "assistant") ||
        (json_is_number(w) && !json_number_value(w)))
        return false;
    return !s->custom || json_is_true(json_object_get(m, "trainable"));
}

/* The first n messages as a conversation, without flags. */
static json_t *head_of(const struct split *s, size_t n) {
    json_t *list = json_array(), *all = json_pack("{s:o}", "messages", list);
    for (size_t i = 0; i < n; i++) {
        json_t *m = json_copy(json_array_get(s->list, i));
        json_object_del(m, "trainable");
        json_array_append_new(list, m);
    }
    if (s->tools)
        json_object_set(all, "tools", (json_t *)s->tools);
    return all;
}

static int split_add(struct split *s, struct example *e) {
    s->tokens += e->tokens.n;
    if (s->tokens > SPLIT_TOKENS_MAX) {
        example_release(e);
        return err_set(s->err, ERR_TOOBIG,
                       "a conversation of so many turns gives more than %d M "
                       "tokens, one example a turn (train_on_what="
                       "last_assistant_turn, or a renderer that preserves "
                       "thinking, takes it whole)",
                       SPLIT_TOKENS_MAX >> 20);
    }
    if (s->n == s->cap) {
        s->cap = s->cap ? 2 * s->cap : 4;
        s->out = realloc(s->out, s->cap * sizeof *s->out);
        CHECK(s->out, "out of memory for examples");
    }
    s->out[s->n++] = *e;
    return 0;
}

static int split_answer(struct split *s, size_t at) {
    struct example e;
    json_t *head = head_of(s, at + 1);
    int rc =
        render_example(s->r, head, TRAIN_LAST_ASSISTANT, s->flags, &e, s->err);
    json_decref(head);
    return rc == 0 ? split_add(s, &e) : rc;
}

/* Tokens of the prompt that asks for answer `at`; -1 = e begins otherwise. */
static int64_t prompt_len(const struct split *s, size_t at,
                          const struct example *e) {
    struct tok_ids ids = {0};
    struct err no = {0};
    json_t *head = head_of(s, at);
    int64_t n = -1;
    if (at > 0 && render_prompt(s->r, head, s->flags, &ids, &no) == 0 &&
        ids.n <= e->tokens.n &&
        memcmp(ids.id, e->tokens.id, ids.n * sizeof *ids.id) == 0)
        n = (int64_t)ids.n;
    json_decref(head);
    free(ids.id);
    return n;
}

/* A turn of several answers is one example when every prompt in it is a
 * beginning of it: 1, and 0 when it is not. */
static int split_whole(struct split *s, size_t first, size_t last) {
    struct example e;
    struct err no = {0};
    json_t *head = head_of(s, last + 1);
    int rc = render_example(s->r, head, TRAIN_ALL_ASSISTANT, s->flags, &e, &no);
    json_decref(head);
    if (rc < 0)
        return 0;
    int64_t from = prompt_len(s, first, &e);
    bool whole = from >= 0;
    for (size_t i = first + 1; whole && i <= last; i++)
        if (has_role(json_array_get(s->list, i), "assistant"))
            whole = is_wanted(s, i) && prompt_len(s, i, &e) >= 0;
    for (int64_t i = 0; whole && i < from; i++)
        e.weights[i] = 0;
    if (whole)
        return split_add(s, &e) < 0 ? -1 : 1;
    example_release(&e);
    return 0;
}

/* Messages from..end-1 follow one message of a user. */
static int split_turn(struct split *s, size_t from, size_t end) {
    size_t n = 0, first = 0, last = 0;
    for (size_t i = from; i < end; i++)
        if (is_wanted(s, i)) {
            first = n++ ? first : i;
            last = i;
        }
    int whole = n > 1 ? split_whole(s, first, last) : 0;
    if (whole)
        return whole < 0 ? -1 : 0;
    for (size_t i = first; n > 0 && i <= last; i++)
        if (is_wanted(s, i) && split_answer(s, i) < 0)
            return -1;
    return 0;
}

/* Can the mode be told turn by turn? Not when others than answers count. */
static bool is_split(const struct split *s, enum train_on on) {
    if (render_extends(s->r) ||
        (on != TRAIN_ALL_ASSISTANT && on != TRAIN_CUSTOMIZED))
        return false;
    for (size_t i = 0; i < json_array_size(s->list); i++) {
        const json_t *m = json_array_get(s->list, i);
        if (s->custom && !json_is_boolean(json_object_get(m, "trainable")))
            return false;
        if (s->custom && !has_role(m, "assistant") &&
            json_is_true(json_object_get(m, "trainable")))
            return false;
        if (!s->custom && json_object_get(m, "trainable"))
            return false;
    }
    return true;
}

static int split_turns(struct split *s) {
    size_t n = json_array_size(s->list), from = 0;
    for (size_t i = 0; i <= n; i++)
        if (i == n || has_role(json_array_get(s->list, i), "user")) {
            if (split_turn(s, from, i) < 0)
                return -1;
            from = i;
        }
    return 0;
}

int render_examples(const struct render *r, const json_t *messages,
                    enum train_on on, int flags, struct example **list,
                    size_t *n, struct err *err) {
    struct split s = {.r = r, .list = messages, .flags = flags, .err = err};
    struct example e;
    int rc = 0;
    if (json_is_object(messages)) {
        s.list = json_object_get(messages, "messages");
        s.tools = json_object_get(messages, "tools");
    }
    s.custom = on == TRAIN_CUSTOMIZED;
    if (is_split(&s, on))
        rc = split_turns(&s);
    /* No answer to train: the whole is one example, of weights 0. */
    if (rc == 0 && s.n == 0 &&
        (rc = render_example(r, messages, on, flags, &e, err)) == 0)
        rc = split_add(&s, &e);
    for (size_t i = 0; rc < 0 && i < s.n; i++)
        example_release(&s.out[i]);
    if (rc < 0) {
        free(s.out);
        return -1;
    }
    *list = s.out;
    *n = s.n;
    return 0;
}
