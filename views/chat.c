/* chat: talk to a checkpoint, a deployment or a model. */
#include "views/app_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHAT_NEW "C-t" /* the key of chat.new that no line editor takes */

void chat_stop(struct app *a) {
    a->is_cut = a->talking;
    if (a->feed)
        feed_chat_stop(a->feed);
}

/* Nothing was said. An answer that is under way belongs to no talk then. */
void chat_new(struct app *a) {
    if (a->talking) {
        chat_stop(a);
        a->n_stale++;
        a->talking = false;
    }
    text_clear(a->talk);
    json_array_clear(a->messages);
    buf_clear(&a->answer);
}

void chat_open(struct app *a, const char *target) {
    if (strcmp(a->target, target) != 0) {
        snprintf(a->target, sizeof a->target, "%s", target);
        chat_new(a);
    }
    app_go(a, VIEW_CHAT);
    a->typing = true;
}

static void send(struct app *a) {
    const char *text = edit_text(a->say);
    if (!*text || a->talking || !*a->target)
        return;
    json_t *m = json_pack("{s:s, s:s}", "role", "user", "content", text);
    if (!m)
        return;
    json_array_append_new(a->messages, m);
    text_addf(a->talk, ROLE_PROMPT, "> %s\n", text);
    struct act act = {.kind = ACT_CHAT, .temperature = 0.7};
    snprintf(act.target, sizeof act.target, "%s", a->target);
    buf_clear(&a->answer);
    a->talking = true;
    a->is_cut = false;
    if (a->feed) {
        act.text = json_dumps(a->messages, JSON_COMPACT);
        feed_act(a->feed, &act);
    }
    edit_remember(a->say);
}

/* The daemon refused the prompt for its length; its words end so. */
static bool is_too_long(const char *why) {
    return strstr(why, "the context of ") || strstr(why, "the cache of ");
}

/* The turn that failed is no part of the talk; it is offered again. */
static void take_back(struct app *a, const char *why) {
    size_t last = json_array_size(a->messages) - 1; /* send() put it there */
    const char *said = json_string_value(
        json_object_get(json_array_get(a->messages, last), "content"));
    if (said && !*edit_text(a->say))
        edit_set(a->say, said);
    json_array_remove(a->messages, last);
    if (is_too_long(why))
        text_addf(a->talk, ROLE_BAD,
                  last > 0 ? "The talk no longer fits the context: " CHAT_NEW
                             " starts a new one.\n"
                           : "The question does not fit the context: make it "
                             "shorter.\n");
    text_addf(a->talk, ROLE_BAD, "%s\n", why);
}

void chat_result(struct app *a, const struct act_result *r) {
    if (a->n_stale > 0) { /* of a talk that is gone; one at a time */
        a->n_stale -= !r->is_partial;
        return;
    }
    if (r->is_partial) {
        buf_puts(&a->answer, r->text);
        text_add(a->talk, ROLE_TEXT, r->text, strlen(r->text));
        return;
    }
    if (!a->talking)
        return;
    a->talking = false;
    text_add(a->talk, ROLE_TEXT, "\n", 1);
    bool has_some = *buf_str(&a->answer) && a->is_cut;
    if (!r->ok && !has_some) {
        take_back(a, r->text);
        return;
    }
    if (!r->ok)
        text_addf(a->talk, ROLE_DIM, "%s\n", r->text);
    json_t *m = json_pack("{s:s, s:s}", "role", "assistant", "content",
                          buf_str(&a->answer));
    if (m)
        json_array_append_new(a->messages, m);
}

/* What the keys do while the line is typed: those that fit, whole. */
void chat_hints(const struct app *a, struct surf *s, int x, int y, int w) {
    const char *const hints[] = {a->talking ? "C-x stops the answer"
                                            : "Enter sends",
                                 CHAT_NEW " new talk", "Esc leaves the line"};
    for (size_t i = 0; i < sizeof hints / sizeof *hints; i++) {
        int k = (int)strlen(hints[i]);
        if (k > w)
            return;
        surf_text(s, x, y, k, ROLE_DIM, hints[i]);
        x += k + 2;
        w -= k + 2;
    }
}

static void draw(struct app *a, struct surf *s, struct rect r) {
    char title[300];
    snprintf(title, sizeof title, "Chat%s%s", *a->target ? " with " : "",
             a->target);
    surf_rule(s, r.x, r.y, r.w, true, title,
              a->talking ? "answering, C-x stops" : NULL);
    if (!*a->target) {
        surf_text(s, r.x, r.y + 1, r.w, ROLE_DIM, "Nobody to talk to yet.");
        surf_text(s, r.x, r.y + 3, r.w, ROLE_DIM,
                  "C on a checkpoint (3) or deployment (6)");
        surf_text(s, r.x, r.y + 4, r.w, ROLE_DIM, "or :chat NAME starts it.");
        return;
    }
    int rows = edit_rows(a->say, r.w);
    rows = rows > 4 ? 4 : rows;
    text_draw(a->talk, s, (struct rect){r.x, r.y + 1, r.w, r.h - 2 - rows});
    surf_hline(s, r.x, r.y + r.h - 1 - rows, r.w, ROLE_RULE);
    edit_draw(a->say, s, (struct rect){r.x, r.y + r.h - rows, r.w, rows},
              a->typing);
}

static bool key(struct app *a, const struct ev *ev) {
    if (!a->typing)
        return ev->kind == EV_KEY && text_key(a->talk, ev->key);
    switch (edit_event(a->say, ev)) {
    case EDIT_DONE: send(a); return true;
    case EDIT_CANCEL: a->typing = false; return true;
    case EDIT_IGNORED: return false;
    default: return true;
    }
}

const struct view view_chat = {"5:Chat", "chat", draw, key};
