/*
 * render_turn: a message by the facts of its family: the plain shape, Qwen 3,
 * and what descends from Qwen 3.5.
 */
#include "core/text/render_shape.h"

#include <ctype.h>
#include <string.h>

/* ---- shared ---- */

bool turn_follows(const struct turn *t, enum role role) {
    return t->i > 0 && t->c->m[t->i - 1].role == role;
}

bool turn_precedes(const struct turn *t, enum role role) {
    return t->i + 1 < t->c->n && t->c->m[t->i + 1].role == role;
}

void turn_unit(struct turn *t, bool is_output) {
    script_unit(t->s, (int64_t)t->i, is_output);
}

static void put_colon_role(struct turn *t) {
    const char *s = t->m->role_name;
    for (size_t i = 0; s[i]; i++) {
        char c = (char)(i ? tolower((unsigned char)s[i])
                          : toupper((unsigned char)s[i]));
        script_data(t->s, &c, 1);
    }
}

static void put_name(struct turn *t) {
    const char *name = t->m->name, *head = t->f->name_head;
    if (!name || !*name) {
        script_fmt(t->s, t->f->name_none ? t->f->name_none : "");
        return;
    }
    if (head && strncmp(name, head, strlen(head)) != 0)
        script_fmt(t->s, head);
    script_data(t->s, name, strlen(name));
}

/* {role}, {name} and {id} of a header. */
static void put_field(struct turn *t, char which) {
    const char *id = t->m->call_id;
    if (which == 'n')
        put_name(t);
    else if (which == 'i')
        script_data(t->s, id ? id : "", id ? strlen(id) : 0);
    else if (t->f->flags & FAM_COLON)
        put_colon_role(t);
    else
        script_data(t->s, t->m->role_name, strlen(t->m->role_name));
}

void turn_head(struct turn *t) {
    const char *h = t->f->head[t->m->role], *at;
    struct rich text;
    turn_unit(t, false);
    if (t->i > 0 && t->f->sep)
        script_fmt(t->s, t->f->sep);
    while (h && (at = strchr(h, '{'))) {
        rich_init(&text);
        buf_bytes(&text.text, h, (size_t)(at - h));
        script_fmt(t->s, buf_str(&text.text));
        rich_release(&text);
        put_field(t, at[1]);
        h = strchr(at, '}') + 1;
    }
    script_fmt(t->s, h ? h : "");
}

void turn_parts(const struct turn *t, bool with_thinking, struct rich *to) {
    for (size_t i = 0; i < t->m->n_part; i++) {
        const struct part *p = &t->m->part[i];
        if (p->is_thinking && !with_thinking)
            continue;
        if (p->is_thinking)
            rich_fmt(to, t->f->think[0]);
        rich_view(to, view_of(&p->text));
        if (p->is_thinking)
            rich_fmt(to, t->f->think[1]);
    }
}

/* The cookbook keeps reasoning in the last message alone, templates in all of
 * the current turn. */
bool turn_strips(const struct turn *t) {
    bool current =
        t->is_last || (!t->c->is_compat && (int64_t)t->i > t->last_user);
    return (t->f->flags & FAM_STRIPS) && t->m->role == ROLE_ASSISTANT &&
           !current;
}

int turn_check(const struct turn *t, struct err *err) {
    const struct msg *m = t->m;
    if (!t->f->head[m->role])
        return err_set(err, ERR_UNSUPPORTED,
                       "messages[%zu]: %s has no role %.32s", t->i, t->f->name,
                       m->role_name);
    if (m->n_call && !t->f->calls_style && !t->c->is_compat)
        return err_set(err, ERR_UNSUPPORTED,
                       "messages[%zu]: %s has no words for tool_calls", t->i,
                       t->f->name);
    return 0;
}

static void put_tail(struct turn *t) {
    const char *tail = t->f->tail[t->m->role];
    script_fmt(t->s, tail ? tail : "");
}

static bool is_grouped(const struct turn *t) {
    unsigned groups = FAM_GROUPS | (t->c->is_compat ? 0 : FAM_JOINS);
    return (t->f->flags & groups) && t->m->role == ROLE_TOOL;
}

/* ---- plain ---- */

static void plain_header(struct turn *t) {
    if (is_grouped(t) && turn_follows(t, ROLE_TOOL)) {
        turn_unit(t, false);
        script_fmt(t->s, "\n");
        return;
    }
    turn_head(t);
    if (t->is_suffix && t->f->open)
        script_fmt(t->s, t->f->open);
}

/* A format without words for reasoning refuses it; several texts are one. */
static int plain_check(const struct turn *t, struct err *err) {
    const struct msg *m = t->m;
    if (turn_check(t, err) < 0)
        return -1;
    for (size_t i = 0; i < m->n_part; i++)
        if (m->part[i].is_thinking)
            return err_set(err, ERR_UNSUPPORTED,
                           "messages[%zu]: %s has no words for reasoning", t->i,
                           t->f->name);
    return t->c->is_compat ? msg_check_text(t->c, t->i, err) : 0;
}

static int plain_output(struct turn *t, struct err *err) {
    struct rich text, calls;
    bool tool = t->m->role == ROLE_TOOL && t->f->result[0];
    if (plain_check(t, err) < 0)
        return -1;
    rich_init(&text);
    rich_init(&calls);
    msg_text(t->m, &text);
    struct view v = view_of(&text);
    if ((t->f->flags & FAM_TRIMS) && !t->m->is_folded)
        v = view_strip(v, NULL, BOTH);
    turn_unit(t, true);
    if (t->f->flags & FAM_COLON)
        script_fmt(t->s, " ");
    script_fmt(t->s, tool ? t->f->result[0] : "");
    script_view(t->s, v);
    script_fmt(t->s, tool ? t->f->result[1] : "");
    int rc = calls_write(t, &calls, err);
    if (calls.text.len && view_len(&v) && t->f->calls_style == CALLS_JSON)
        script_fmt(t->s, "\n");
    script_rich(t->s, &calls);
    if (!is_grouped(t) || !turn_precedes(t, ROLE_TOOL))
        put_tail(t);
    rich_release(&text);
    rich_release(&calls);
    return rc;
}

/* The system's text opens the first turn of the user. */
static int fold_system(const struct render *r, struct chat *c,
                       struct err *err) {
    struct rich all;
    if (c->m[0].role != ROLE_SYSTEM)
        return 0;
    if (c->n < 2 || c->m[1].role != ROLE_USER)
        return err_set(err, ERR_UNSUPPORTED,
                       "messages[0]: %s puts the system's text into the first "
                       "user message, and that is missing",
                       r->family->name);
    rich_init(&all);
    msg_text(&c->m[0], &all);
    rich_fmt(&all, "\n\n");
    struct view v = view_of(&c->m[1].part[0].text);
    rich_view(&all, c->m[1].is_text && (r->family->flags & FAM_TRIMS)
                        ? view_strip(v, NULL, BOTH)
                        : v);
    c->m[1].is_folded = true;
    rich_release(&c->m[1].part[0].text);
    c->m[1].part[0].text = all;
    chat_remove(c, 0);
    return 0;
}

static int plain_prepare(const struct render *r, struct chat *c,
                         struct err *err) {
    const char *system = r->family->system;
    if (system && c->m[0].role != ROLE_SYSTEM)
        rich_fmt(msg_set_text(chat_insert(c, 0, ROLE_SYSTEM, "system")),
                 system);
    return r->family->flags & FAM_FOLDS ? fold_system(r, c, err) : 0;
}

/* ---- Qwen 3 ---- */

static void qwen3_header(struct turn *t) {
    if (is_grouped(t) && turn_follows(t, ROLE_TOOL)) {
        turn_unit(t, false);
        script_fmt(t->s, "\n");
        return;
    }
    turn_head(t);
    if (t->is_suffix && t->f->open)
        script_fmt(t->s, t->f->open);
}

/* Is this an answer whose reasoning is framed? The last one's even when there
 * is none. */
static bool qwen3_frames(const struct turn *t) {
    bool keeps = t->is_last || !(t->f->flags & FAM_STRIPS) ||
                 (!turn_strips(t) && msg_has_thinking(t->m, false));
    return (t->f->flags & FAM_THINKS) && t->m->role == ROLE_ASSISTANT &&
           t->last_user >= 0 && keeps;
}

static void put_frame(const struct turn *t, struct view v, struct rich *to) {
    rich_fmt(to, t->f->think[0]);
    rich_view(to, view_strip(v, "\n", BOTH));
    rich_fmt(to, t->f->think[1]);
}

static void qwen3_parts(const struct turn *t, bool frames, struct rich *to) {
    bool after = false;
    for (size_t i = 0; i < t->m->n_part; i++) {
        const struct part *p = &t->m->part[i];
        struct view v = view_of(&p->text);
        if (p->is_thinking && turn_strips(t))
            continue;
        if (!p->is_thinking) {
            rich_view(to, after ? view_strip(v, "\n", LEFT) : v);
        } else if (frames) {
            put_frame(t, v, to);
        } else {
            rich_fmt(to, "<think>");
            rich_view(to, v);
            rich_fmt(to, "</think>");
        }
        after = p->is_thinking && frames;
    }
}

/* In compat: a string with reasoning in it; false when there is none. */
static bool qwen3_string(const struct turn *t, struct rich *to) {
    struct view v = view_of(&t->m->part[0].text), why = v, rest = v;
    int64_t end = view_find(&v, 0, "</think>"), open = -1, at = -1;
    if (end < 0)
        return false;
    why.to = why.from + (size_t)end;
    rest.from += (size_t)end + strlen("</think>");
    while ((at = view_find(&why, (size_t)(at + 1), "<think>")) >= 0)
        open = at;
    if (open >= 0)
        why.from += (size_t)open + strlen("<think>");
    put_frame(t, why, to);
    rich_view(to, view_strip(rest, "\n", LEFT));
    return true;
}

static bool has_text_part(const struct msg *m) {
    for (size_t i = 0; i < m->n_part; i++)
        if (!m->part[i].is_thinking && m->part[i].text.text.len)
            return true;
    return false;
}

static void qwen3_body(const struct turn *t, struct rich *to) {
    bool frames = qwen3_frames(t);
    bool has = msg_has_thinking(t->m, t->c->is_compat);
    struct rich body;
    rich_init(&body);
    if (!t->m->is_text)
        qwen3_parts(t, frames, &body);
    else if (!frames || !t->c->is_compat || !qwen3_string(t, &body))
        rich_view(&body, view_of(&t->m->part[0].text));
    bool text = t->c->is_compat ? body.text.len > 0 : has_text_part(t->m);
    if (t->m->role == ROLE_TOOL)
        rich_fmt(to, t->f->result[0]);
    if (frames && !has)
        rich_fmt(to, "<think>\n\n</think>\n\n");
    rich_view(to, frames && !has ? view_strip(view_of(&body), "\n", LEFT)
                                 : view_of(&body));
    if (t->m->role == ROLE_TOOL)
        rich_fmt(to, t->f->result[1]);
    if (t->m->n_call && text)
        rich_fmt(to, "\n");
    rich_release(&body);
}

static int qwen3_output(struct turn *t, struct err *err) {
    struct rich body;
    if (turn_check(t, err) < 0)
        return -1;
    bool closed = t->f->flags & FAM_CLOSED;
    if (closed && t->m->role == ROLE_ASSISTANT && t->is_last &&
        t->last_user < 0 && (!t->m->is_text || t->m->part[0].text.text.len))
        return err_set(err, ERR_INVAL,
                       "%s: without a message of a user the model's template "
                       "has no empty think block before the answer, but the "
                       "prompt has (add one)",
                       t->f->name);
    rich_init(&body);
    qwen3_body(t, &body);
    int rc = calls_write(t, &body, err);
    turn_unit(t, true);
    t->s->next.is_literal = true;
    script_rich(t->s, &body);
    turn_unit(t, true);
    if (!is_grouped(t) || !turn_precedes(t, ROLE_TOOL))
        put_tail(t);
    rich_release(&body);
    return rc;
}

/* ---- Qwen 3.5 and what descends from it ---- */

static bool ends_line(const char *s) {
    size_t n = s ? strlen(s) : 0;
    return n && s[n - 1] == '\n';
}

/* Nemotron: every message of the current turn is as the last one. */
static bool xml_last(const struct turn *t) {
    return t->is_last ||
           (t->f->none_when == NONE_MARKED && (int64_t)t->i >= t->last_user);
}

/* Nemotron marks every answer without reasoning, also where it was dropped. */
static const char *marked_none(const struct turn *t, bool has) {
    bool past = (int64_t)t->i < t->last_user;
    if (has && (!past || !(t->f->flags & FAM_STRIPS)))
        return "";
    if (past && has && !t->m->is_text && has_text_part(t->m) && !t->m->n_call &&
        ends_line(t->f->think[1]))
        return "<think></think>\n";
    return t->f->none;
}

/* The empty block that the header of an answer without reasoning ends on. */
static const char *xml_none(const struct turn *t) {
    bool has = msg_has_thinking(t->m, t->c->is_compat);
    bool current = (int64_t)t->i > t->last_user;
    switch (t->f->none_when) {
    case NONE_CURRENT: return current && !has ? t->f->none : "";
    case NONE_EVER:
        has = has && !t->m->is_text;
        return has || ((t->f->flags & FAM_STRIPS) && !current) ? ""
                                                               : t->f->none;
    case NONE_MARKED: return marked_none(t, has);
    default: return "";
    }
}

static void xml_header(struct turn *t) {
    const char *none, *open = t->f->open ? t->f->open : "";
    bool answer = t->m->role == ROLE_ASSISTANT;
    if (is_grouped(t) && turn_follows(t, ROLE_TOOL)) {
        turn_unit(t, false);
        script_fmt(t->s, ends_line(t->f->result[1]) ? "" : "\n");
        return;
    }
    turn_head(t);
    if (t->is_suffix) {
        script_fmt(t->s, open);
        return;
    }
    none = answer ? xml_none(t) : "";
    if (*open && answer && xml_last(t) &&
        strncmp(none, open, strlen(open)) == 0) {
        script_fmt(t->s, open); /* what a prompt gives; the model the rest */
        turn_unit(t, true);
        script_fmt(t->s, none + strlen(open));
    } else {
        script_fmt(t->s, none);
    }
}

/* Part i without the white space at the ends of the whole text. */
static struct view xml_part(const struct turn *t, size_t i) {
    const struct msg *m = t->m;
    struct view v = view_of(&m->part[i].text);
    bool parts = t->f->flags & FAM_TRIMS_PARTS;
    bool first = true, last = true;
    if (!(t->f->flags & FAM_TRIMS) || m->part[i].is_thinking ||
        (!m->is_text && !parts))
        return v;
    for (size_t k = 0; k < m->n_part; k++) {
        struct view o = view_strip(view_of(&m->part[k].text), NULL, BOTH);
        if (!m->part[k].is_thinking && view_len(&o)) {
            first = first && k >= i;
            last = last && k <= i;
        }
    }
    return view_strip(v, NULL, (first ? LEFT : 0) | (last ? RIGHT : 0));
}

static void xml_text(const struct turn *t, struct rich *to) {
    bool keeps = !turn_strips(t) || xml_last(t);
    for (size_t i = 0; i < t->m->n_part; i++) {
        bool thinking = t->m->part[i].is_thinking;
        if (thinking && !keeps)
            continue;
        if (thinking)
            rich_fmt(to, t->f->think[0]);
        rich_view(to, xml_part(t, i));
        if (thinking)
            rich_fmt(to, t->f->think[1]);
    }
}

static bool xml_is_visible(const struct turn *t) {
    for (size_t i = 0; i < t->m->n_part; i++) {
        struct view v = view_strip(view_of(&t->m->part[i].text), NULL, BOTH);
        if (!t->m->part[i].is_thinking && view_len(&v))
            return true;
    }
    return false;
}

/* What stands between the text and the calls. */
static const char *xml_lead(const struct turn *t) {
    bool thinks = !t->m->is_text && msg_has_thinking(t->m, true) &&
                  (t->c->is_compat || !turn_strips(t) || xml_last(t));
    if (t->f->none_when == NONE_MARKED)
        return thinks && !has_text_part(t->m) && ends_line(t->f->think[1])
                   ? ""
                   : "\n";
    if (t->f->calls_style == CALLS_JSON)
        return t->c->is_compat || thinks || xml_is_visible(t) ? "\n" : "";
    return xml_is_visible(t) ? "\n\n" : "";
}

static int xml_output(struct turn *t, struct err *err) {
    bool tool = t->m->role == ROLE_TOOL;
    struct rich body;
    if (turn_check(t, err) < 0)
        return -1;
    rich_init(&body);
    rich_fmt(&body, tool ? t->f->result[0] : "");
    xml_text(t, &body);
    rich_fmt(&body, tool ? t->f->result[1] : "");
    if (t->m->n_call)
        rich_fmt(&body, xml_lead(t));
    int rc = calls_write(t, &body, err);
    if (t->m->n_call && t->f->none_when == NONE_MARKED)
        rich_fmt(&body, "\n");
    turn_unit(t, true);
    /* Nemotron's template strips the whole; the cookbook only strings. */
    bool whole = t->f->none_when == NONE_MARKED && !t->c->is_compat &&
                 t->m->role == ROLE_ASSISTANT && !t->m->n_call;
    script_view(t->s, whole ? view_strip(view_of(&body), NULL, RIGHT)
                            : view_of(&body));
    if (!is_grouped(t) || !turn_precedes(t, ROLE_TOOL))
        put_tail(t);
    rich_release(&body);
    return rc;
}

/* How much reasoning is wanted comes first in the system message (Qwen 3.8):
 * put there unless it is. */
static void put_effort(const struct render *r, struct chat *c) {
    const char *effort = r->family->effort;
    struct msg *m = &c->m[0];
    struct rich all, old;
    bool system = m->role == ROLE_SYSTEM;
    if (!system) {
        if (!effort)
            return;
        bool flags = false;
        for (size_t i = 0; i < c->n; i++)
            flags = flags || c->m[i].has_trainable;
        m = chat_insert(c, 0, ROLE_SYSTEM, "system");
        m->has_trainable = flags;
        rich_fmt(msg_set_text(m), effort);
        return;
    }
    rich_init(&old);
    rich_init(&all);
    msg_text(m, &old);
    struct view v = view_strip(view_of(&old), NULL, BOTH);
    size_t n = effort ? strlen(effort) : 0;
    bool there =
        view_len(&v) >= n && memcmp(view_str(&v), effort ? effort : "", n) == 0;
    there = there &&
            (view_len(&v) == n || (view_len(&v) >= n + 2 &&
                                   memcmp(view_str(&v) + n, "\n\n", 2) == 0));
    if (effort && !there) {
        rich_fmt(&all, effort);
        rich_fmt(&all, view_len(&v) ? "\n\n" : "");
    }
    rich_view(&all, v);
    rich_view(msg_set_text(m), view_of(&all));
    if (!all.text.len)
        chat_remove(c, 0);
    rich_release(&old);
    rich_release(&all);
}

static int xml_prepare(const struct render *r, struct chat *c,
                       struct err *err) {
    const struct family *f = r->family;
    int64_t user;
    (void)err;
    if (f->none_when == NONE_EVER)
        put_effort(r, c);
    if ((f->flags & FAM_SYSTEM) && c->m[0].role != ROLE_SYSTEM)
        msg_set_text(chat_insert(c, 0, ROLE_SYSTEM, "system"));
    if (f->hint && (user = chat_last(c, ROLE_USER)) >= 0 &&
        c->m[user].n_part > 0)
        rich_fmt(&c->m[user].part[c->m[user].n_part - 1].text, f->hint);
    return 0;
}

const struct shape shape_plain = {.prepare = plain_prepare,
                                  .header = plain_header,
                                  .output = plain_output,
                                  .parse = parse_plain};
const struct shape shape_qwen3 = {
    .header = qwen3_header, .output = qwen3_output, .parse = parse_qwen3};
const struct shape shape_xml = {.prepare = xml_prepare,
                                .header = xml_header,
                                .output = xml_output,
                                .parse = parse_xml};
