/* chat: talk to a checkpoint, a deployment or a model. */
#include "views/app_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void chat_open(struct app *a, const char *target) {
    if (strcmp(a->target, target) != 0) {
        snprintf(a->target, sizeof a->target, "%s", target);
        text_clear(a->talk);
        json_array_clear(a->messages);
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
    act.text = json_dumps(a->messages, JSON_COMPACT);
    buf_clear(&a->answer);
    a->talking = true;
    feed_act(a->feed, &act);
    edit_remember(a->say);
}

void chat_result(struct app *a, const struct act_result *r) {
    if (r->is_partial) {
        buf_puts(&a->answer, r->text);
        text_add(a->talk, ROLE_TEXT, r->text, strlen(r->text));
        return;
    }
    a->talking = false;
    text_add(a->talk, ROLE_TEXT, "\n", 1);
    if (!r->ok)
        text_addf(a->talk, ROLE_BAD, "%s\n", r->text);
    json_t *m = json_pack("{s:s, s:s}", "role", "assistant", "content",
                          buf_str(&a->answer));
    if (m)
        json_array_append_new(a->messages, m);
}

static void draw(struct app *a, struct surf *s, struct rect r) {
    char title[300];
    snprintf(title, sizeof title, "Chat%s%s", *a->target ? " with " : "",
             a->target);
    surf_rule(s, r.x, r.y, r.w, true, title,
              a->talking ? "answering, C-x stops" : NULL);
    if (!*a->target) {
        surf_text(s, r.x, r.y + 1, r.w, ROLE_DIM,
                  "Nobody to talk to yet: C on a checkpoint (3) or a "
                  "deployment (6), or :chat NAME.");
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
    if (ev->kind == EV_KEY && ev->key == (MOD_CTRL | 'x')) {
        feed_chat_stop(a->feed);
        return true;
    }
    if (!a->typing) {
        if (ev->kind == EV_KEY && (ev->key == 'i' || ev->key == KEY_ENTER)) {
            a->typing = true;
            return true;
        }
        return ev->kind == EV_KEY && text_key(a->talk, ev->key);
    }
    switch (edit_event(a->say, ev)) {
    case EDIT_DONE: send(a); return true;
    case EDIT_CANCEL: a->typing = false; return true;
    case EDIT_IGNORED: return false;
    default: return true;
    }
}

const struct view view_chat = {"5:Chat", "chat", draw, key};
