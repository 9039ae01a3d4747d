/*
 * w_popup.c - the sheet and the menu. Both own copies of their texts.
 */
#include "tui/w_popup.h"
#include "tui/w_edit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- sheet ---- */

#define SHEET_ROWS 128
#define SHEET_FIELDS 16
#define LABEL_MAX 18

struct sheet_row {
    char *label, *text;
    enum role role;
};

struct sheet {
    char *title, *go, *must_type, *error;
    struct sheet_row row[SHEET_ROWS];
    int nrow;
    struct {
        char *label;
        struct edit *edit;
        bool suggested; /* what is typed first replaces the text */
    } field[SHEET_FIELDS];
    int nfield, focus; /* the field being edited */
    int top;           /* rows scrolled away */
    int label_w;
};

struct sheet *sheet_new(const char *title, const char *go) {
    struct sheet *sh = calloc(1, sizeof *sh);
    if (!sh)
        return NULL;
    sh->title = strdup(title);
    sh->go = strdup(go);
    if (!sh->title || !sh->go) {
        sheet_free(sh);
        return NULL;
    }
    return sh;
}

void sheet_free(struct sheet *sh) {
    if (!sh)
        return;
    for (int i = 0; i < sh->nrow; i++) {
        free(sh->row[i].label);
        free(sh->row[i].text);
    }
    for (int i = 0; i < sh->nfield; i++) {
        free(sh->field[i].label);
        edit_free(sh->field[i].edit);
    }
    free(sh->title);
    free(sh->go);
    free(sh->must_type);
    free(sh->error);
    free(sh);
}

static void widen(struct sheet *sh, const char *label) {
    int w = text_width(label);
    w = w < LABEL_MAX ? w : LABEL_MAX;
    if (w > sh->label_w)
        sh->label_w = w;
}

int sheet_row(struct sheet *sh, const char *label, enum role r,
              const char *text) {
    if (sh->nrow == SHEET_ROWS)
        return -1;
    struct sheet_row *row = &sh->row[sh->nrow];
    row->label = strdup(label);
    row->text = strdup(text);
    row->role = r;
    sh->nrow++;
    widen(sh, label);
    return row->label && row->text ? 0 : -1;
}

int sheet_field(struct sheet *sh, const char *label, const char *value) {
    if (sh->nfield == SHEET_FIELDS)
        return -1;
    struct edit *e = edit_new((struct edit_opts){.keep_empty = true});
    char *copy = strdup(label);
    if (!e || !copy) {
        edit_free(e);
        free(copy);
        return -1;
    }
    edit_set(e, value);
    sh->field[sh->nfield].label = copy;
    sh->field[sh->nfield].suggested = true;
    sh->field[sh->nfield++].edit = e;
    widen(sh, label);
    return 0;
}

/* The name to type is one more field, the last. */
int sheet_type(struct sheet *sh, const char *name) {
    char label[64];
    sh->must_type = strdup(name);
    snprintf(label, sizeof label, "type the name");
    return sh->must_type ? sheet_field(sh, label, "") : -1;
}

const char *sheet_value(const struct sheet *sh, int i) {
    return i >= 0 && i < sh->nfield ? edit_text(sh->field[i].edit) : "";
}

void sheet_error(struct sheet *sh, const char *text) {
    free(sh->error);
    sh->error = text ? strdup(text) : NULL;
}

/* Text replaces a suggestion; any other key makes it the user's own. */
static void type_in(struct sheet *sh, const struct ev *ev) {
    struct edit *e = sh->field[sh->focus].edit;
    bool text = ev->kind == EV_PASTE ||
                (ev->kind == EV_KEY && ev->key >= ' ' && ev->key < KEY_FIRST &&
                 ev->key != KEY_BACKSPACE);
    if (text && sh->field[sh->focus].suggested)
        edit_set(e, "");
    sh->field[sh->focus].suggested &= ev->kind != EV_KEY && !text;
    if (edit_event(e, ev) == EDIT_CHANGED)
        sheet_error(sh, NULL);
}

static enum popup_result sheet_go(struct sheet *sh) {
    if (sh->must_type &&
        strcmp(sheet_value(sh, sh->nfield - 1), sh->must_type) != 0) {
        char msg[300];
        snprintf(msg, sizeof msg, "type %s to go on, or Esc", sh->must_type);
        sheet_error(sh, msg);
        sh->focus = sh->nfield - 1;
        return POPUP_OPEN;
    }
    return POPUP_DONE;
}

enum popup_result sheet_event(struct sheet *sh, const struct ev *ev) {
    uint32_t key = ev->kind == EV_KEY ? ev->key : KEY_NONE;
    if (key == KEY_ESC || key == (MOD_CTRL | 'c') || key == (MOD_CTRL | 'g'))
        return POPUP_CANCEL;
    if (key == KEY_ENTER)
        return sheet_go(sh);
    if (key == KEY_PGDN || key == KEY_PGUP) {
        sh->top += key == KEY_PGDN ? 5 : -5;
        return POPUP_OPEN;
    }
    if (sh->nfield > 0) {
        if (key == KEY_TAB || key == KEY_DOWN)
            sh->focus = (sh->focus + 1) % sh->nfield;
        else if (key == (MOD_SHIFT | KEY_TAB) || key == KEY_UP)
            sh->focus = (sh->focus + sh->nfield - 1) % sh->nfield;
        else
            type_in(sh, ev);
        return POPUP_OPEN;
    }
    if (key == 'j' || key == KEY_DOWN)
        sh->top++;
    else if (key == 'k' || key == KEY_UP)
        sh->top--;
    else if (key == 'q')
        return POPUP_CANCEL;
    return POPUP_OPEN;
}

/* Draws label and wrapped text; s NULL: only counts. Returns its rows. */
static int put_row(const struct sheet *sh, const struct sheet_row *row,
                   struct surf *s, int x, int y, int w) {
    int lw = sh->label_w > 0 ? sh->label_w + 2 : 0, rows = 0;
    const char *p = row->text;
    w = w - lw > 8 ? w - lw : 8;
    if (s)
        surf_field(s, x, y, lw - 1, ALIGN_LEFT, ROLE_DIM, row->label);
    do {
        size_t line = strcspn(p, "\n"), k = text_head(p, line, w);
        if (k < line) { /* at a blank, when there is one */
            size_t b = k;
            while (b > 0 && p[b] != ' ')
                b--;
            k = b > 0 ? b : k > 0 ? k : 1;
        }
        if (s)
            surf_textn(s, x + lw, y + rows, w, row->role, p, k);
        rows++;
        p += k;
        while (k < line && *p == ' ')
            p++;
        if (k == line && *p == '\n')
            p++;
    } while (*p);
    return rows;
}

static int body_rows(const struct sheet *sh, int w) {
    int n = 0;
    for (int i = 0; i < sh->nrow; i++)
        n += put_row(sh, &sh->row[i], NULL, 0, 0, w);
    return n;
}

static void draw_buttons(const struct sheet *sh, struct surf *s, int x, int y,
                         int w) {
    char go[96];
    snprintf(go, sizeof go, "[ %s Enter ]", sh->go);
    int k = text_width(go), at = x + (w - k - 18) / 2;
    at = at > x ? at : x;
    at += surf_text(s, at, y, x + w - at, ROLE_KEY, go) + 4;
    surf_text(s, at, y, x + w - at, ROLE_TEXT, "[ Cancel Esc ]");
}

static void draw_fields(struct sheet *sh, struct surf *s, int x, int y, int w) {
    for (int i = 0; i < sh->nfield; i++) {
        bool on = i == sh->focus;
        char label[128];
        int lw = sh->label_w + 2;
        snprintf(label, sizeof label, "%s", sh->field[i].label);
        surf_field(s, x, y + i, lw - 1, ALIGN_LEFT, on ? ROLE_FOCUS : ROLE_DIM,
                   label);
        surf_put(s, x + lw, y + i, ROLE_RULE, "[");
        surf_put(s, x + w - 1, y + i, ROLE_RULE, "]");
        edit_draw(sh->field[i].edit, s,
                  (struct rect){x + lw + 1, y + i, w - lw - 2, 1}, on);
    }
}

void sheet_draw(struct sheet *sh, struct surf *s, struct rect area) {
    int w = area.w > 76 ? 72 : area.w - 4, inner = w - 4;
    int body = body_rows(sh, inner), head = 0;
    int foot = sh->nfield + (sh->nfield > 0) + (sh->error != NULL) + 2;
    struct rect box = rect_center(area, w, body + foot + 2);
    struct rect in = rect_inset(box, 2, 1);
    struct rect outer = surf_clip(s, area);
    surf_cursor_off(s);
    surf_box(s, box, sh->title);
    int room = in.h - foot > 0 ? in.h - foot : 0;
    sh->top = sh->top > body - room ? body - room : sh->top;
    sh->top = sh->top > 0 ? sh->top : 0;
    struct rect old = surf_clip(s, (struct rect){in.x, in.y, in.w, room});
    for (int i = 0; i < sh->nrow; i++)
        head += put_row(sh, &sh->row[i], s, in.x, in.y + head - sh->top, in.w);
    surf_unclip(s, old);
    if (body > room && room > 0 && box.w >= 24)
        surf_printf(s, box.x + box.w - 12, box.y, 10, ROLE_DIM, " %d/%d ",
                    sh->top + room, body);
    old = surf_clip(s, in);
    int y = in.y + room + (sh->nfield > 0);
    draw_fields(sh, s, in.x, y, in.w);
    y += sh->nfield;
    if (sh->error)
        surf_field(s, in.x, y++, in.w, ALIGN_LEFT, ROLE_BAD, sh->error);
    draw_buttons(sh, s, in.x, in.y + in.h - 1, in.w);
    surf_unclip(s, outer);
}

/* ---- menu ---- */

#define MENU_ITEMS 64

struct menu {
    char *title;
    struct {
        uint32_t key;
        char *text, *why;
    } item[MENU_ITEMS];
    int n, at, top;
};

struct menu *menu_new(const char *title) {
    struct menu *m = calloc(1, sizeof *m);
    if (m && !(m->title = strdup(title))) {
        free(m);
        m = NULL;
    }
    return m;
}

void menu_free(struct menu *m) {
    if (!m)
        return;
    for (int i = 0; i < m->n; i++) {
        free(m->item[i].text);
        free(m->item[i].why);
    }
    free(m->title);
    free(m);
}

int menu_add(struct menu *m, uint32_t key, const char *text, const char *why) {
    char *copy = m->n < MENU_ITEMS ? strdup(text) : NULL;
    char *reason = copy && why ? strdup(why) : NULL;
    if (!copy || (why && !reason)) {
        free(copy);
        return -1;
    }
    m->item[m->n].key = key;
    m->item[m->n].text = copy;
    m->item[m->n].why = reason;
    return m->n++;
}

int menu_chosen(const struct menu *m) { return m->n > 0 ? m->at : -1; }

static enum popup_result menu_pick(struct menu *m, int i) {
    m->at = i;
    return m->item[i].why ? POPUP_OPEN : POPUP_DONE;
}

enum popup_result menu_event(struct menu *m, const struct ev *ev) {
    uint32_t key = ev->kind == EV_KEY ? ev->key : KEY_NONE;
    if (key == KEY_ESC || key == (MOD_CTRL | 'c') || key == (MOD_CTRL | 'g'))
        return POPUP_CANCEL;
    for (int i = 0; i < m->n && key; i++)
        if (m->item[i].key == key)
            return menu_pick(m, i);
    if (key == KEY_ENTER && m->n > 0)
        return menu_pick(m, m->at);
    if ((key == 'j' || key == KEY_DOWN) && m->at + 1 < m->n)
        m->at++;
    else if ((key == 'k' || key == KEY_UP) && m->at > 0)
        m->at--;
    else if (key == 'q')
        return POPUP_CANCEL;
    return POPUP_OPEN;
}

void menu_draw(struct menu *m, struct surf *s, struct rect area) {
    int w = text_width(m->title) + 8;
    for (int i = 0; i < m->n; i++) {
        int k = text_width(m->item[i].text) + 9 +
                (m->item[i].why ? text_width(m->item[i].why) + 3 : 0);
        w = k > w ? k : w;
    }
    struct rect box = rect_center(area, w + 4, m->n + 2);
    struct rect in = rect_inset(box, 2, 1);
    struct rect outer = surf_clip(s, area);
    surf_cursor_off(s);
    surf_box(s, box, m->title);
    if (m->at < m->top)
        m->top = m->at;
    if (m->at >= m->top + in.h)
        m->top = m->at - in.h + 1;
    surf_clip(s, in);
    for (int i = m->top; i < m->n; i++) {
        int y = in.y + i - m->top;
        bool on = i == m->at, off = m->item[i].why != NULL;
        char key[24] = "";
        if (m->item[i].key)
            key_name(m->item[i].key, key, sizeof key);
        if (on)
            surf_put(s, in.x, y, ROLE_SELECT, ">");
        surf_field(s, in.x + 2, y, 5, ALIGN_LEFT, off ? ROLE_DIM : ROLE_KEY,
                   key);
        int k = surf_text(s, in.x + 8, y, in.w - 8,
                          off  ? ROLE_DIM
                          : on ? ROLE_SELECT
                               : ROLE_TEXT,
                          m->item[i].text);
        if (off)
            surf_printf(s, in.x + 8 + k + 1, y, in.w - 9 - k, ROLE_DIM, "(%s)",
                        m->item[i].why);
        if (on)
            surf_cursor(s, in.x, y);
    }
    surf_unclip(s, outer);
}
