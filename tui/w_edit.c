/*
 * w_edit.c - the text is bytes of UTF-8; the cursor stands between clusters.
 *
 * Invariants: 1. at <= n < max, text[n] = 0; 2. history is oldest first,
 * without neighbours that are equal; hist_at == nhist is the line being typed.
 */
#include "tui/w_edit.h"
#include "tui/utf8.h"

#include <stdlib.h>
#include <string.h>

struct edit {
    struct edit_opts o;
    const char *prompt;
    char *text; /* max bytes */
    size_t n, at;
    char *kill; /* what C-k, C-u, C-w took */
    char **hist;
    int nhist, hist_at;
    char *draft; /* the line being typed while the history is looked at */
    int tab_i;   /* completion under way: its number, -1 = none */
    size_t tab_from, tab_at;
    char *tab_line;
    int scroll; /* first cell (one row) or row shown */
};

struct edit *edit_new(struct edit_opts o) {
    struct edit *e = calloc(1, sizeof *e);
    if (!e)
        return NULL;
    e->o = o;
    e->o.max = o.max ? o.max : 4096;
    e->o.history = o.history ? o.history : 100;
    e->prompt = o.prompt ? o.prompt : "";
    e->text = calloc(1, e->o.max);
    e->hist = calloc((size_t)e->o.history, sizeof *e->hist);
    e->tab_i = -1;
    if (!e->text || !e->hist) {
        edit_free(e);
        return NULL;
    }
    return e;
}

void edit_free(struct edit *e) {
    if (!e)
        return;
    for (int i = 0; i < e->nhist; i++)
        free(e->hist[i]);
    free(e->hist);
    free(e->text);
    free(e->kill);
    free(e->draft);
    free(e->tab_line);
    free(e);
}

const char *edit_text(const struct edit *e) { return e->text; }
void edit_prompt(struct edit *e, const char *prompt) { e->prompt = prompt; }

/* ---- changes ---- */

static void insert(struct edit *e, const char *s, size_t n) {
    if (n > e->o.max - 1 - e->n) {
        n = e->o.max - 1 - e->n;
        while (n > 0 && ((unsigned char)s[n] & 0xC0) == 0x80)
            n--; /* no half characters */
    }
    memmove(e->text + e->at + n, e->text + e->at, e->n - e->at + 1);
    memcpy(e->text + e->at, s, n);
    e->n += n;
    e->at += n;
}

static void erase(struct edit *e, size_t from, size_t to) {
    memmove(e->text + from, e->text + to, e->n - to + 1);
    e->n -= to - from;
    e->at = from;
}

static void kill_range(struct edit *e, size_t from, size_t to) {
    if (from == to)
        return;
    free(e->kill);
    e->kill = strndup(e->text + from, to - from);
    erase(e, from, to);
}

void edit_set(struct edit *e, const char *text) {
    e->n = e->at = 0;
    e->text[0] = 0;
    e->tab_i = -1;
    insert(e, text, strlen(text));
}

/* Foreign bytes: well-formed, one line unless lines are allowed. */
static void paste(struct edit *e, const char *s, size_t n) {
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        char b[4];
        size_t used = utf8_decode(s + i, n - i, &cp);
        i += used;
        if (cp == '\r' || cp == '\n') {
            if (cp == '\r' && i < n && s[i] == '\n')
                i++;
            cp = e->o.multiline ? '\n' : ' ';
        } else if (cp == '\t') {
            cp = ' ';
        } else if (cp < 0x20 || (cp >= 0x7f && cp < 0xa0)) {
            continue;
        }
        insert(e, b, utf8_encode(cp, b));
    }
}

/* ---- motion ---- */

static size_t left_of(const struct edit *e, size_t at) {
    size_t i = 0, last = 0;
    while (i < at) { /* from the start: clusters are only found forwards */
        struct cluster c;
        last = i;
        i += text_next(e->text + i, e->n - i, &c);
    }
    return last;
}

static size_t right_of(const struct edit *e, size_t at) {
    struct cluster c;
    return at < e->n ? at + text_next(e->text + at, e->n - at, &c) : at;
}

static bool is_word(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
           (c >= 'A' && c <= 'Z') || c == '_' || (unsigned char)c >= 0x80;
}

static size_t word_left(const struct edit *e) {
    size_t i = e->at;
    while (i > 0 && !is_word(e->text[i - 1]))
        i--;
    while (i > 0 && is_word(e->text[i - 1]))
        i--;
    return i;
}

static size_t word_right(const struct edit *e) {
    size_t i = e->at;
    while (i < e->n && !is_word(e->text[i]))
        i++;
    while (i < e->n && is_word(e->text[i]))
        i++;
    return i;
}

/* The blank-delimited word before the cursor, as C-w takes it. */
static size_t blank_left(const struct edit *e) {
    size_t i = e->at;
    while (i > 0 && (e->text[i - 1] == ' ' || e->text[i - 1] == '\n'))
        i--;
    while (i > 0 && e->text[i - 1] != ' ' && e->text[i - 1] != '\n')
        i--;
    return i;
}

static size_t line_start(const struct edit *e) {
    size_t i = e->at;
    while (i > 0 && e->text[i - 1] != '\n')
        i--;
    return i;
}

static size_t line_end(const struct edit *e) {
    return e->at + strcspn(e->text + e->at, "\n");
}

/* ---- history, completion ---- */

static void show_history(struct edit *e, int at) {
    if (at < 0 || at > e->nhist || at == e->hist_at)
        return;
    if (e->hist_at == e->nhist) {
        free(e->draft);
        e->draft = strdup(e->text);
    }
    e->hist_at = at;
    edit_set(e, at < e->nhist ? e->hist[at] : e->draft ? e->draft : "");
}

void edit_remember(struct edit *e) {
    char *copy = NULL;
    if (e->n > 0 &&
        (e->nhist == 0 || strcmp(e->hist[e->nhist - 1], e->text) != 0))
        copy = strdup(e->text);
    if (copy && e->nhist == e->o.history) {
        free(e->hist[0]);
        memmove(e->hist, e->hist + 1, (size_t)(e->nhist - 1) * sizeof *e->hist);
        e->nhist--;
    }
    if (copy)
        e->hist[e->nhist++] = copy;
    e->hist_at = e->nhist;
    edit_set(e, "");
}

/* Tab again gives the next one, after the last the text as it was typed. */
static bool complete(struct edit *e) {
    char word[512];
    if (!e->o.complete)
        return false;
    if (e->tab_i < 0) {
        free(e->tab_line);
        e->tab_line = strdup(e->text);
        e->tab_at = e->at;
        for (e->tab_from = e->at;
             e->tab_from > 0 && e->text[e->tab_from - 1] != ' ';)
            e->tab_from--;
    }
    if (!e->tab_line)
        return false;
    int next = e->tab_i + 1;
    bool has = e->o.complete(e->o.arg, e->tab_line, e->tab_from, e->tab_at,
                             next, word, sizeof word);
    if (!has && next == 0)
        return false;
    size_t from = e->tab_from, at = e->tab_at;
    char *line = e->tab_line;
    e->tab_line = NULL;
    edit_set(e, line);
    e->tab_line = line;
    e->at = at;
    if (has) {
        erase(e, from, at);
        insert(e, word, strlen(word));
    }
    e->tab_i = has ? next : -1;
    return true;
}

/* ---- events ---- */

static enum edit_result moved_to(struct edit *e, size_t at) {
    e->at = at;
    return EDIT_MOVED;
}

static enum edit_result killed(struct edit *e, size_t from, size_t to) {
    kill_range(e, from, to);
    return EDIT_CHANGED;
}

static enum edit_result backspace(struct edit *e) {
    if (e->n == 0 && !e->o.keep_empty)
        return EDIT_CANCEL;
    if (e->at > 0)
        erase(e, left_of(e, e->at), e->at);
    return EDIT_CHANGED;
}

/* The table of keys, long because it is one. */
static enum edit_result on_key(struct edit *e, uint32_t key) {
    switch (key) {
    case KEY_ENTER: return EDIT_DONE;
    case KEY_ESC:
    case MOD_CTRL | 'c':
    case MOD_CTRL | 'g': return EDIT_CANCEL;
    case MOD_ALT | KEY_ENTER:
    case MOD_CTRL | 'j':
        if (!e->o.multiline)
            return key == (MOD_CTRL | 'j') ? EDIT_DONE : EDIT_IGNORED;
        insert(e, "\n", 1);
        return EDIT_CHANGED;
    case KEY_BACKSPACE: return backspace(e);
    case KEY_DELETE:
    case MOD_CTRL | 'd':
        erase(e, e->at, right_of(e, e->at));
        return EDIT_CHANGED;
    case KEY_LEFT:
    case MOD_CTRL | 'b': return moved_to(e, left_of(e, e->at));
    case KEY_RIGHT:
    case MOD_CTRL | 'f': return moved_to(e, right_of(e, e->at));
    case KEY_HOME:
    case MOD_CTRL | 'a': return moved_to(e, line_start(e));
    case KEY_END:
    case MOD_CTRL | 'e': return moved_to(e, line_end(e));
    case MOD_ALT | 'b':
    case MOD_CTRL | KEY_LEFT: return moved_to(e, word_left(e));
    case MOD_ALT | 'f':
    case MOD_CTRL | KEY_RIGHT: return moved_to(e, word_right(e));
    case MOD_CTRL | 'k': return killed(e, e->at, line_end(e));
    case MOD_CTRL | 'u': return killed(e, line_start(e), e->at);
    case MOD_CTRL | 'w': return killed(e, blank_left(e), e->at);
    case MOD_ALT | KEY_BACKSPACE: return killed(e, word_left(e), e->at);
    case MOD_ALT | 'd': return killed(e, e->at, word_right(e));
    case MOD_CTRL | 'y':
        if (e->kill)
            insert(e, e->kill, strlen(e->kill));
        return EDIT_CHANGED;
    case KEY_UP:
    case MOD_CTRL | 'p': show_history(e, e->hist_at - 1); return EDIT_CHANGED;
    case KEY_DOWN:
    case MOD_CTRL | 'n': show_history(e, e->hist_at + 1); return EDIT_CHANGED;
    default: return EDIT_IGNORED;
    }
}

enum edit_result edit_event(struct edit *e, const struct ev *ev) {
    if (ev->kind == EV_PASTE) {
        e->tab_i = -1;
        paste(e, ev->text, ev->n);
        return EDIT_CHANGED;
    }
    if (ev->kind != EV_KEY)
        return EDIT_IGNORED;
    if (ev->key == KEY_TAB)
        return complete(e) ? EDIT_CHANGED : EDIT_IGNORED;
    e->tab_i = -1;
    uint32_t cp = key_text(ev->key);
    if (cp) {
        char b[4];
        insert(e, b, utf8_encode(cp, b));
        return EDIT_CHANGED;
    }
    return on_key(e, ev->key);
}

/* ---- drawing ---- */

/* Walks prompt and text in rows of w cells; calls put for each cluster with
 * its place. Returns the number of rows; the cursor's place in cx, cy. */
struct walk {
    struct surf *s;
    struct rect r;
    int from_row, from_cell; /* what is scrolled away */
    int x, y, cx, cy;
};

static void walk_text(struct walk *k, int w, enum role role, const char *s,
                      size_t n, size_t cursor) {
    for (size_t i = 0; i <= n;) {
        struct cluster c;
        if (i == cursor) {
            k->cx = k->x;
            k->cy = k->y;
        }
        if (i == n)
            return;
        size_t used = text_next(s + i, n - i, &c);
        if (s[i] == '\n' && w > 0) {
            k->x = 0;
            k->y++;
            i += used;
            continue;
        }
        if (w > 0 && k->x + c.width > w) {
            k->x = 0;
            k->y++;
            if (i == cursor) {
                k->cx = 0;
                k->cy = k->y;
            }
        }
        if (k->s)
            surf_textn(k->s, k->r.x + k->x - k->from_cell,
                       k->r.y + k->y - k->from_row, c.width, role, s + i, used);
        k->x += c.width;
        i += used;
    }
}

/* w 0: one endless row. */
static void walk_all(const struct edit *e, struct walk *k, int w) {
    k->x = k->y = 0;
    walk_text(k, w, ROLE_PROMPT, e->prompt, strlen(e->prompt), SIZE_MAX);
    walk_text(k, w, ROLE_TEXT, e->text, e->n, e->at);
}

int edit_rows(const struct edit *e, int w) {
    struct walk k = {0};
    walk_all(e, &k, w > 1 ? w - 1 : 1); /* a cell for the cursor */
    return k.y + 1;
}

void edit_draw(struct edit *e, struct surf *s, struct rect r, bool focused) {
    struct walk k = {.r = r};
    bool is_line = r.h <= 1;
    int w = is_line ? 0 : r.w > 1 ? r.w - 1 : 1;
    struct rect old = surf_clip(s, r);
    walk_all(e, &k, w);
    int at = is_line ? k.cx : k.cy, room = is_line ? r.w : r.h;
    if (at < e->scroll)
        e->scroll = is_line && at > room / 2 ? at - room / 2 : at;
    if (at >= e->scroll + room)
        e->scroll = at - room + 1;
    if (at < room && (is_line ? k.x : k.y) < room)
        e->scroll = 0;
    k.s = s;
    k.from_cell = is_line ? e->scroll : 0;
    k.from_row = is_line ? 0 : e->scroll;
    walk_all(e, &k, w);
    if (focused)
        surf_cursor(s, r.x + k.cx - k.from_cell, r.y + k.cy - k.from_row);
    surf_unclip(s, old);
}
