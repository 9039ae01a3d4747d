/*
 * render_token: messages of families whose roles are tokens of their own:
 * DeepSeek, GLM, Kimi, gpt-oss.
 */
#include "core/text/render_shape.h"

#include <stdlib.h>
#include <string.h>

static void put_end(struct turn *t) {
    turn_unit(t, true);
    script_fmt(t->s, t->f->tail[ROLE_ASSISTANT]);
}

static void put_open(struct turn *t) {
    turn_unit(t, false);
    script_fmt(t->s, t->f->open ? t->f->open : "");
}

static bool has_content(const struct msg *m) {
    return m->is_text ? m->part[0].text.text.len > 0 : m->n_part > 0;
}

/* ---- DeepSeek V3.1 ---- */

static void deepseek3_header(struct turn *t) {
    bool thinks = t->f->flags & FAM_THINKS, answer, past;
    bool follows = turn_follows(t, ROLE_TOOL);
    answer = t->m->role == ROLE_ASSISTANT && !follows;
    past = (t->f->flags & FAM_STRIPS) && !t->is_last;
    if (t->m->role == ROLE_ASSISTANT && follows)
        return;
    turn_head(t);
    if (answer && (!thinks || past)) {
        turn_unit(t, false);
        script_fmt(t->s, t->f->think[1]);
    }
    if (t->is_suffix)
        put_open(t);
}

/* Without <think>…</think>, wherever it stands. */
static void put_unthought(struct rich *to, struct view v) {
    int64_t open, shut;
    while ((open = view_find(&v, 0, "<think>")) >= 0 &&
           (shut = view_find(&v, (size_t)open + 7, "</think>")) >= 0) {
        rich_view(to, (struct view){v.rich, v.from, v.from + (size_t)open});
        v.from += (size_t)shut + strlen("</think>");
    }
    rich_view(to, v);
}

static int deepseek3_check(const struct turn *t, struct err *err) {
    if (t->m->role == ROLE_SYSTEM && t->i > 0)
        return err_set(err, ERR_UNSUPPORTED,
                       "messages[%zu]: %s has a system message at the start "
                       "only",
                       t->i, t->f->name);
    if (turn_check(t, err) < 0)
        return -1;
    return t->m->role == ROLE_ASSISTANT ? 0 : msg_check_text(t->c, t->i, err);
}

static int deepseek3_output(struct turn *t, struct err *err) {
    bool thinks = t->f->flags & FAM_THINKS, drops;
    bool follows = turn_follows(t, ROLE_TOOL);
    bool answer = t->m->role == ROLE_ASSISTANT && !follows;
    struct rich body, all;
    if (deepseek3_check(t, err) < 0)
        return -1;
    rich_init(&body);
    rich_init(&all);
    drops = (t->f->flags & FAM_STRIPS) && !t->m->n_call && !t->is_last;
    turn_parts(t, !drops && (thinks || !answer), &all);
    if (answer && !thinks && t->m->is_text && t->c->is_compat)
        put_unthought(&body, view_of(&all));
    else
        rich_view(&body, view_of(&all));
    bool ends = answer && !thinks ? body.text.len > 0 : has_content(t->m);
    if (answer && thinks && t->is_last && has_content(t->m) &&
        !msg_has_thinking(t->m, t->c->is_compat)) {
        turn_unit(t, true);
        script_fmt(t->s, "<think></think>");
    }
    int rc = calls_write(t, &body, err);
    turn_unit(t, true);
    script_rich(t->s, &body);
    if (t->m->role == ROLE_TOOL)
        script_fmt(t->s, t->f->tail[ROLE_TOOL]);
    /* The cookbook leaves a turn without text, of calls alone too, without an
     * end: a model so trained does not stop there. */
    if (t->m->role == ROLE_ASSISTANT && (ends || !t->c->is_compat))
        put_end(t);
    rich_release(&body);
    rich_release(&all);
    return rc;
}

/* ---- DeepSeek V4.1 ---- */

static bool is_user_turn(const struct msg *m) {
    return m->role == ROLE_USER || m->role == ROLE_TOOL;
}

/* A declaration first, or behind the first system message: its text is the
 * system's. */
static int declare4(struct chat *c, size_t i, struct err *err) {
    struct rich all, text;
    bool first = i == 0, second = i == 1 && c->m[0].role == ROLE_SYSTEM;
    if (!first && !second)
        return err_set(err, ERR_UNSUPPORTED,
                       "messages[%zu]: tool_declare comes first or right "
                       "behind the first system message",
                       i);
    rich_init(&all);
    rich_init(&text);
    msg_text(&c->m[i], &text);
    if (second)
        msg_text(&c->m[0], &all);
    rich_fmt(&all, "\n\n");
    int rc = tools_dsml(&text, &all, err);
    rich_view(msg_set_text(&c->m[0]), view_of(&all));
    if (second)
        msg_set_text(&c->m[1]);
    else
        c->m[0].role = ROLE_SYSTEM;
    rich_release(&all);
    rich_release(&text);
    return rc;
}

/* Position of the call that a tool's answer belongs to, among the calls. */
static size_t call_order(const struct msg *calls, const struct msg *m) {
    for (size_t k = calls ? calls->n_call : 0; m->call_id && k-- > 0;)
        if (calls->call[k].id && strcmp(calls->call[k].id, m->call_id) == 0)
            return k;
    return 0;
}

struct ranked {
    size_t order, at; /* of its call, and its own */
};

static int by_order(const void *a, const void *b) {
    const struct ranked *x = a, *y = b;
    if (x->order != y->order)
        return x->order < y->order ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* The tools' messages among from..end-1 in the order of the calls; free(). */
static struct ranked *rank_answers(const struct chat *c, size_t from,
                                   size_t end, const struct msg *calls) {
    struct ranked *list = calloc(end - from, sizeof *list);
    size_t n = 0;
    CHECK(list, "out of memory for %zu messages", end - from);
    for (size_t i = from; i < end; i++)
        if (c->m[i].role == ROLE_TOOL)
            list[n++] = (struct ranked){call_order(calls, &c->m[i]), i};
    qsort(list, n, sizeof *list, by_order);
    return list;
}

/* Users' and tools' messages in a row become the first of them. */
static void merge4(const struct family *f, struct chat *c, size_t from,
                   size_t end, const struct msg *calls) {
    struct ranked *answers = rank_answers(c, from, end, calls);
    struct rich all;
    size_t k = 0;
    rich_init(&all);
    for (size_t i = from; i < end; i++) {
        bool tool = c->m[i].role == ROLE_TOOL;
        rich_fmt(&all, i > from ? "\n\n" : "");
        rich_fmt(&all, tool ? f->result[0] : "");
        msg_text(&c->m[tool ? answers[k++].at : i], &all);
        rich_fmt(&all, tool ? f->result[1] : "");
    }
    for (size_t i = from; i < end; i++) {
        msg_set_text(&c->m[i]);
        c->m[i].is_merged = i > from;
    }
    rich_view(&c->m[from].part[0].text, view_of(&all));
    rich_release(&all);
    free(answers);
}

static int deepseek4_prepare(const struct render *r, struct chat *c,
                             struct err *err) {
    const struct msg *calls = NULL;
    for (size_t i = 0; i < c->n; i++) {
        if (c->m[i].role == ROLE_DECLARE) {
            c->is_declared = true;
            if (declare4(c, i, err) < 0)
                return -1;
        }
        if ((is_user_turn(&c->m[i]) || c->m[i].role == ROLE_SYSTEM) &&
            msg_check_text(c, i, err) < 0)
            return -1;
    }
    for (size_t i = 0, end; i < c->n; i = end) {
        end = i + 1;
        if (c->m[i].n_call)
            calls = &c->m[i];
        if (!is_user_turn(&c->m[i]))
            continue;
        while (end < c->n && is_user_turn(&c->m[end]))
            end++;
        merge4(r->family, c, i, end, calls);
    }
    for (size_t i = c->n; i-- > 0 && c->keep_from < 0;)
        if (is_user_turn(&c->m[i]) || (c->m[i].role == ROLE_SYSTEM && i > 0))
            c->keep_from = (int64_t)i;
    if (c->is_declared || !(r->family->flags & FAM_STRIPS))
        c->keep_from = -1;
    return 0;
}

static size_t deepseek4_start(const struct chat *c, size_t n) {
    for (size_t i = n; i-- > 0;)
        if (c->m[i].role == ROLE_USER || (c->m[i].role == ROLE_SYSTEM && i > 0))
            return i + 1;
    return 0;
}

static bool keeps4(const struct turn *t) {
    return t->f->effort && (int64_t)t->i > t->c->keep_from;
}

static void deepseek4_header(struct turn *t) {
    const struct msg *prev = t->i ? &t->c->m[t->i - 1] : NULL;
    const char *effort = t->i == 0 && t->f->effort ? t->f->effort : "";
    enum role role = t->m->role;
    turn_unit(t, false);
    if (t->m->is_merged || role == ROLE_DECLARE)
        return;
    script_fmt(t->s, effort);
    if (role == ROLE_SYSTEM && !*effort)
        script_fmt(t->s, t->f->head[role]);
    if (is_user_turn(t->m))
        script_fmt(t->s, t->f->head[role]);
    if (role == ROLE_ASSISTANT && prev &&
        (is_user_turn(prev) || (prev->role == ROLE_SYSTEM && t->i > 1))) {
        script_fmt(t->s, t->f->head[role]);
        script_fmt(t->s, t->f->think[keeps4(t) ? 0 : 1]);
    }
}

static int deepseek4_output(struct turn *t, struct err *err) {
    struct rich body;
    int rc = turn_check(t, err);
    if (rc < 0 || t->m->is_merged || t->m->role == ROLE_DECLARE)
        return rc;
    if (t->m->role == ROLE_SYSTEM) { /* one unit with its header */
        t->s->next.is_output = true;
        script_view(t->s, view_of(&t->m->part[0].text));
        return 0;
    }
    rich_init(&body);
    for (size_t i = 0; keeps4(t) && i < t->m->n_part; i++)
        if (t->m->part[i].is_thinking)
            rich_view(&body, view_of(&t->m->part[i].text));
    if (t->m->role == ROLE_ASSISTANT && keeps4(t))
        rich_fmt(&body, t->f->think[1]);
    msg_text(t->m, &body);
    rc = calls_write(t, &body, err);
    turn_unit(t, true);
    script_rich(t->s, &body);
    if (t->m->role == ROLE_ASSISTANT)
        put_end(t);
    rich_release(&body);
    return rc;
}

/* ---- GLM ---- */

static bool id_is_one_of(const char *id, const struct msg *calls) {
    for (size_t k = 0; k < calls->n_call; k++)
        if (strcmp(calls->call[k].id, id) == 0)
            return true;
    return false;
}

/* Can answers from..end-1 be put in the order of the calls? Only when every
 * id is there, once. */
static bool can_sort(const struct chat *c, size_t from, size_t end) {
    const struct msg *calls = from ? &c->m[from - 1] : NULL;
    if (!calls || calls->role != ROLE_ASSISTANT || !calls->n_call)
        return false;
    for (size_t k = 0; k < calls->n_call; k++)
        for (size_t j = 0; j <= k; j++)
            if (!calls->call[k].id || !*calls->call[k].id ||
                (j < k && strcmp(calls->call[k].id, calls->call[j].id) == 0))
                return false;
    for (size_t i = from; i < end; i++) {
        if (!c->m[i].call_id || !id_is_one_of(c->m[i].call_id, calls))
            return false;
        for (size_t j = from; j < i; j++)
            if (strcmp(c->m[i].call_id, c->m[j].call_id) == 0)
                return false;
    }
    return true;
}

/* Selection by the order of the calls; few answers follow one turn. */
static void sort_answers(struct chat *c, size_t from, size_t end) {
    const struct msg *calls = &c->m[from - 1];
    for (size_t k = 0; k < calls->n_call && from < end; k++)
        for (size_t i = from; i < end; i++)
            if (strcmp(c->m[i].call_id, calls->call[k].id) == 0) {
                struct msg m = c->m[i];
                c->m[i] = c->m[from];
                c->m[from++] = m;
                break;
            }
}

static int glm_prepare(const struct render *r, struct chat *c,
                       struct err *err) {
    (void)r;
    (void)err;
    for (size_t i = 0, end; i < c->n; i = end) {
        for (end = i + 1; end < c->n && c->m[i].role == ROLE_TOOL &&
                          c->m[end].role == ROLE_TOOL;
             end++)
            ;
        if (c->m[i].role == ROLE_TOOL && can_sort(c, i, end))
            sort_answers(c, i, end);
    }
    return 0;
}

/* The role token that ends answer i, NULL when another one comes: it is the
 * header of the next message, and the model says it. */
static const char *glm_end(const struct turn *t, size_t i) {
    enum role role = t->c->m[i].n_call ? ROLE_TOOL : ROLE_USER;
    if (i + 1 < t->c->n && t->c->m[i + 1].role != role)
        return NULL;
    return t->f->head[role];
}

/* GLM 5.1: an answer before the last message of a user is as if its prompt
 * had no open block. */
static bool glm_is_past(const struct turn *t) {
    return t->f->none_when == NONE_CURRENT && (int64_t)t->i <= t->last_user;
}

static void glm_header(struct turn *t) {
    bool said = turn_follows(t, ROLE_ASSISTANT) && glm_end(t, t->i - 1) &&
                (t->m->role == ROLE_USER || t->m->role == ROLE_TOOL);
    bool more = t->m->role == ROLE_TOOL && turn_follows(t, ROLE_TOOL);
    if (said || more)
        turn_unit(t, false);
    else
        turn_head(t);
    script_fmt(t->s, t->f->lead ? t->f->lead : "");
    if (t->m->role == ROLE_ASSISTANT && (t->is_suffix || !glm_is_past(t)))
        put_open(t);
}

/* Reasoning and text of an answer; false when there is no reasoning. */
static bool glm_split(const struct turn *t, struct rich *why,
                      struct rich *text) {
    const struct msg *m = t->m;
    bool has = false;
    struct view v;
    int64_t at, end = -1, last = -1;
    for (size_t i = 0; !m->is_text && i < m->n_part; i++) {
        has = has || m->part[i].is_thinking;
        rich_view(m->part[i].is_thinking ? why : text,
                  view_of(&m->part[i].text));
    }
    if (!m->is_text)
        return has;
    v = view_of(&m->part[0].text);
    for (at = -1; t->c->is_compat &&
                  (at = view_find(&v, (size_t)(at + 1), "</think>")) >= 0;) {
        end = end < 0 ? at : end;
        last = at;
    }
    if (end < 0) {
        rich_view(text, v);
        return false;
    }
    struct view head = {v.rich, v.from, v.from + (size_t)end};
    for (at = -1; (at = view_find(&head, 0, "<think>")) >= 0;)
        head.from += (size_t)at + strlen("<think>");
    rich_view(why, head);
    v.from += (size_t)last + strlen("</think>");
    rich_view(text, v);
    return true;
}

static int glm_answer(struct turn *t, struct err *err) {
    struct rich why, text;
    rich_init(&why);
    rich_init(&text);
    bool has = glm_split(t, &why, &text);
    bool keeps = !(t->f->flags & FAM_STRIPS) || (int64_t)t->i > t->last_user;
    struct rich body;
    rich_init(&body);
    if (has && keeps)
        rich_view(&body, view_of(&why));
    rich_fmt(&body, t->f->think[1] ? t->f->think[1] : "");
    rich_view(&body, t->f->think[1] ? view_strip(view_of(&text), NULL, BOTH)
                                    : view_of(&text));
    int rc = calls_write(t, &body, err);
    turn_unit(t, true);
    script_rich(t->s, &body);
    const char *end = glm_end(t, t->i);
    if (end && !(t->is_last && t->is_prompt)) {
        turn_unit(t, true);
        script_fmt(t->s, end);
    }
    rich_release(&body);
    rich_release(&why);
    rich_release(&text);
    return rc;
}

static int glm_output(struct turn *t, struct err *err) {
    bool tool = t->m->role == ROLE_TOOL;
    struct rich text;
    if (turn_check(t, err) < 0)
        return -1;
    if (t->m->role == ROLE_ASSISTANT && !(t->f->flags & FAM_THINKS) &&
        !t->m->is_text && msg_has_thinking(t->m, true))
        return msg_check_text(t->c, t->i, err);
    if (t->m->role == ROLE_ASSISTANT)
        return glm_answer(t, err);
    if (!t->m->is_text && msg_has_thinking(t->m, true))
        return msg_check_text(t->c, t->i, err);
    rich_init(&text);
    msg_text(t->m, &text);
    turn_unit(t, true);
    tool = tool && t->f->result[0];
    script_fmt(t->s, tool ? t->f->result[0] : "");
    script_rich(t->s, &text);
    script_fmt(t->s, tool ? t->f->result[1] : "");
    rich_release(&text);
    return 0;
}

/* ---- Kimi ---- */

static int kimi_prepare(const struct render *r, struct chat *c,
                        struct err *err) {
    size_t at = c->m[0].role == ROLE_DECLARE;
    (void)err;
    if (at < c->n && c->m[at].role == ROLE_SYSTEM)
        return 0;
    rich_fmt(msg_set_text(chat_insert(c, at, ROLE_SYSTEM, "system")),
             r->family->system);
    return 0;
}

/* Behind the last answer that calls no tool. */
static size_t kimi_start(const struct chat *c, size_t n) {
    for (size_t i = n; i-- > 0;)
        if (c->m[i].role == ROLE_ASSISTANT && !c->m[i].n_call)
            return i + 1;
    return 0;
}

static void kimi_header(struct turn *t) {
    turn_head(t);
    if (t->is_suffix)
        put_open(t);
}

static void kimi_think(const struct turn *t, struct rich *to) {
    bool keeps = t->is_current || !(t->f->flags & FAM_STRIPS);
    struct rich why;
    rich_init(&why);
    for (size_t i = 0; i < t->m->n_part; i++)
        if (t->m->part[i].is_thinking)
            rich_view(&why, view_of(&t->m->part[i].text));
    if (keeps && why.text.len) {
        rich_fmt(to, t->f->think[0]);
        rich_view(to, view_of(&why));
        rich_fmt(to, t->f->think[1]);
    } else {
        rich_fmt(to, t->f->none);
    }
    rich_release(&why);
}

/* A list of texts: each is encoded alone. */
static int kimi_parts(struct turn *t, struct err *err) {
    for (size_t i = 0; i < t->m->n_part; i++) {
        if (t->m->part[i].is_thinking)
            return msg_check_text(t->c, t->i, err);
        turn_unit(t, true);
        script_rich(t->s, &t->m->part[i].text);
    }
    put_end(t);
    return 0;
}

static int kimi_output(struct turn *t, struct err *err) {
    struct rich body;
    int rc = 0;
    if (turn_check(t, err) < 0)
        return -1;
    if (t->m->role != ROLE_ASSISTANT && !t->m->is_text && t->m->n_part != 1) {
        if (t->f->tools == TOOLS_KIMI_JSON && t->c->is_compat)
            return msg_check_text(t->c, t->i, err);
        return kimi_parts(t, err);
    }
    if (t->m->role != ROLE_ASSISTANT && msg_check_text(t->c, t->i, err) < 0)
        return -1;
    rich_init(&body);
    if (t->m->role == ROLE_ASSISTANT)
        kimi_think(t, &body);
    msg_text(t->m, &body);
    if (t->m->role == ROLE_ASSISTANT)
        rc = calls_write(t, &body, err);
    turn_unit(t, true);
    script_rich(t->s, &body);
    script_fmt(t->s, t->f->tail[t->m->role]);
    rich_release(&body);
    return rc;
}

/* ---- gpt-oss ---- */

static int harmony_prepare(const struct render *r, struct chat *c,
                           struct err *err) {
    const char *effort = r->family->effort;
    (void)err;
    if (!effort)
        return 0;
    struct rich *to = msg_set_text(chat_insert(c, 0, ROLE_BUILTIN, "system"));
    rich_fmt(to, "You are ChatGPT, a large language model trained by OpenAI.\n"
                 "Knowledge cutoff: 2024-06\nCurrent date: ");
    rich_fmt(to, r->date);
    rich_fmt(to, "\n\nReasoning: ");
    rich_fmt(to, effort);
    rich_fmt(to, "\n\n# Valid channels: analysis, commentary, final. Channel "
                 "must be included for every message.");
    return 0;
}

static void harmony_header(struct turn *t) { turn_head(t); }

static void harmony_answer(const struct turn *t, struct rich *to) {
    struct rich text, why;
    rich_init(&text);
    rich_init(&why);
    msg_text(t->m, &text);
    for (size_t i = 0; i < t->m->n_part; i++)
        if (t->m->part[i].is_thinking)
            rich_view(&why, view_of(&t->m->part[i].text));
    if (why.text.len) {
        rich_fmt(to, "<|channel|>analysis<|message|>");
        rich_view(to, view_of(&why));
        rich_fmt(to, "<|end|><|start|>assistant");
    }
    if (!t->m->n_call)
        rich_fmt(to, "<|channel|>final<|message|>");
    else if (text.text.len)
        rich_fmt(to, "<|channel|>commentary<|message|>");
    rich_view(to, view_of(&text));
    if (!t->m->n_call)
        rich_fmt(to, t->is_last ? "<|return|>" : "<|end|>");
    else if (text.text.len)
        rich_fmt(to, "<|end|><|start|>assistant");
    rich_release(&text);
    rich_release(&why);
}

static int harmony_output(struct turn *t, struct err *err) {
    struct rich body;
    enum role role = t->m->role;
    int rc = turn_check(t, err);
    if (rc == 0 && role != ROLE_ASSISTANT)
        rc = msg_check_text(t->c, t->i, err);
    if (rc < 0)
        return -1;
    rich_init(&body);
    if (role == ROLE_ASSISTANT) {
        harmony_answer(t, &body);
        rc = calls_write(t, &body, err);
    } else {
        rich_fmt(&body, role == ROLE_TOOL ? "<|channel|>commentary" : "");
        rich_fmt(&body, "<|message|>");
        rich_fmt(&body, role == ROLE_SYSTEM ? "# Instructions\n\n" : "");
        msg_text(t->m, &body);
        rich_fmt(&body, role == ROLE_SYSTEM ? "\n\n<|end|>" : "<|end|>");
    }
    turn_unit(t, true);
    script_rich(t->s, &body);
    rich_release(&body);
    return rc;
}

const struct shape shape_deepseek3 = {.header = deepseek3_header,
                                      .output = deepseek3_output,
                                      .parse = parse_deepseek3};
const struct shape shape_deepseek4 = {.prepare = deepseek4_prepare,
                                      .header = deepseek4_header,
                                      .output = deepseek4_output,
                                      .parse = parse_deepseek4,
                                      .turn_start = deepseek4_start};
const struct shape shape_glm = {.prepare = glm_prepare,
                                .header = glm_header,
                                .output = glm_output,
                                .parse = parse_glm};
const struct shape shape_kimi = {.prepare = kimi_prepare,
                                 .header = kimi_header,
                                 .output = kimi_output,
                                 .parse = parse_kimi,
                                 .turn_start = kimi_start};
const struct shape shape_harmony = {.prepare = harmony_prepare,
                                    .header = harmony_header,
                                    .output = harmony_output,
                                    .parse = parse_harmony};
