/*
 * w_list.c - selection by id, marks as a sorted set, columns by priority.
 *
 * Invariants: 1. row is the index of id at the last sync, -1 when empty;
 * 2. top <= row < top + page after drawing; 3. marks are sorted, unique.
 */
#include "tui/w_list.h"
#include "tui/input.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX 2 /* selection marker, mark */

struct list {
    struct list_src src;
    const struct list_col *col;
    int ncol;
    const char *empty;
    bool has_head, keeps_top, untouched;
    int sort_col;
    bool sort_up;
    int hit_cmd;
    int64_t id;
    int row, count, top, page;
    int64_t *mark;
    int nmark, mark_cap;
};

struct list *list_new(struct list_src src, const struct list_col *cols, int n) {
    struct list *l = calloc(1, sizeof *l);
    if (!l)
        return NULL;
    l->src = src;
    l->col = cols;
    l->ncol = n < LIST_COLS_MAX ? n : LIST_COLS_MAX;
    l->empty = "";
    l->has_head = l->untouched = true;
    l->sort_col = l->row = -1;
    l->page = 1;
    list_sync(l);
    return l;
}

void list_free(struct list *l) {
    if (!l)
        return;
    free(l->mark);
    free(l);
}

void list_empty_text(struct list *l, const char *text) { l->empty = text; }
void list_head(struct list *l, bool show) { l->has_head = show; }
void list_keeps_top(struct list *l, bool on) { l->keeps_top = on; }
void list_hits(struct list *l, int hit_cmd) { l->hit_cmd = hit_cmd; }
int list_row(const struct list *l) { return l->row; }
int64_t list_id(const struct list *l) { return l->row < 0 ? 0 : l->id; }
int list_page(const struct list *l) { return l->page; }

void list_sort(struct list *l, int col, bool ascending) {
    l->sort_col = col;
    l->sort_up = ascending;
}

/* ---- selection ---- */

static void set_row(struct list *l, int row) {
    if (l->count == 0) {
        l->row = -1;
        l->id = 0;
        return;
    }
    l->row = row < 0 ? 0 : row >= l->count ? l->count - 1 : row;
    l->id = l->src.id(l->src.arg, l->row);
}

void list_select_row(struct list *l, int row) {
    l->untouched = false;
    set_row(l, row);
}

static int find_id(const struct list *l, int64_t id) {
    if (l->row >= 0 && l->row < l->count && l->src.id(l->src.arg, l->row) == id)
        return l->row; /* most often nothing moved */
    for (int i = 0; i < l->count; i++)
        if (l->src.id(l->src.arg, i) == id)
            return i;
    return -1;
}

bool list_sync(struct list *l) {
    int64_t id = l->id;
    int old = l->row;
    l->count = l->src.count(l->src.arg);
    if (l->keeps_top && l->untouched) {
        set_row(l, 0);
        return old >= 0 && l->id != id;
    }
    int row = l->count > 0 && old >= 0 ? find_id(l, id) : -1;
    if (row >= 0) {
        l->top += row - old; /* the row stays where it is on the screen */
        l->row = row;
        return false;
    }
    set_row(l, old < 0 ? 0 : old);
    return old >= 0;
}

bool list_select(struct list *l, int64_t id) {
    int row = find_id(l, id);
    if (row >= 0)
        list_select_row(l, row);
    return row >= 0;
}

void list_move(struct list *l, int delta) {
    if (l->row >= 0)
        list_select_row(l, delta > l->count - l->row ? l->count - 1
                                                     : l->row + delta);
}

bool list_key(struct list *l, uint32_t key) {
    int half = l->page / 2 > 0 ? l->page / 2 : 1;
    if (l->row < 0)
        return false;
    switch (key) {
    case 'j':
    case KEY_DOWN: list_move(l, 1); return true;
    case 'k':
    case KEY_UP: list_move(l, -1); return true;
    case 'g':
    case KEY_HOME: list_select_row(l, 0); return true;
    case 'G':
    case KEY_END: list_select_row(l, l->count - 1); return true;
    case MOD_CTRL | 'd': list_move(l, half); return true;
    case MOD_CTRL | 'u': list_move(l, -half); return true;
    case MOD_CTRL | 'f':
    case KEY_PGDN: list_move(l, l->page); return true;
    case MOD_CTRL | 'b':
    case KEY_PGUP: list_move(l, -l->page); return true;
    case ' ':
        list_mark(l, l->id, !list_marked(l, l->id));
        list_move(l, 1);
        return true;
    default: return false;
    }
}

/* ---- marks ---- */

/* Where id is, or would go. */
static int mark_at(const struct list *l, int64_t id) {
    int lo = 0, hi = l->nmark;
    while (lo < hi) {
        int mid = (lo + hi) / 2;
        if (l->mark[mid] < id)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

bool list_marked(const struct list *l, int64_t id) {
    int i = mark_at(l, id);
    return i < l->nmark && l->mark[i] == id;
}

void list_mark(struct list *l, int64_t id, bool on) {
    int i = mark_at(l, id);
    size_t tail = (size_t)(l->nmark - i) * sizeof *l->mark;
    if (list_marked(l, id) == on)
        return;
    if (!on) {
        memmove(l->mark + i, l->mark + i + 1, tail - sizeof *l->mark);
        l->nmark--;
        return;
    }
    if (l->nmark == l->mark_cap) {
        int cap = l->mark_cap ? l->mark_cap * 2 : 16;
        int64_t *m = realloc(l->mark, (size_t)cap * sizeof *m);
        if (!m)
            return;
        l->mark = m;
        l->mark_cap = cap;
    }
    memmove(l->mark + i + 1, l->mark + i, tail);
    l->mark[i] = id;
    l->nmark++;
}

void list_mark_all(struct list *l, bool on) {
    if (!on)
        l->nmark = 0;
    for (int i = 0; on && i < l->count; i++)
        list_mark(l, l->src.id(l->src.arg, i), true);
}

int list_marks(const struct list *l, int64_t *ids, int max) {
    for (int i = 0; i < l->nmark && i < max; i++)
        ids[i] = l->mark[i];
    return l->nmark;
}

/* ---- columns ---- */

static int ideal_of(const struct list_col *c) {
    return c->ideal > c->min ? c->ideal : c->min;
}

/* Width of each column, 0 = dropped. The first one is never dropped. */
static void column_widths(const struct list *l, int room, int *w) {
    int need = -1;
    for (int i = 0; i < l->ncol; i++) {
        w[i] = l->col[i].min;
        need += w[i] + 1;
    }
    while (need > room) {
        int weak = -1;
        for (int i = 1; i < l->ncol; i++)
            if (w[i] > 0 && (weak < 0 || l->col[i].prio <= l->col[weak].prio))
                weak = i;
        if (weak < 0)
            break;
        need -= w[weak] + 1;
        w[weak] = 0;
    }
    if (need > room)
        w[0] = room > 0 ? room : 0;
    int left = room - need;
    for (int i = 0; i < l->ncol && left > 0; i++) { /* up to ideal */
        int more = w[i] > 0 ? ideal_of(&l->col[i]) - w[i] : 0;
        more = more < left ? more : left;
        w[i] += more;
        left -= more;
    }
    int sum = 0;
    for (int i = 0; i < l->ncol; i++)
        sum += w[i] > 0 ? l->col[i].grow : 0;
    for (int i = 0; i < l->ncol && left > 0 && sum > 0; i++) {
        if (w[i] == 0 || l->col[i].grow == 0)
            continue;
        int part = left * l->col[i].grow / sum;
        sum -= l->col[i].grow;
        w[i] += part;
        left -= part;
    }
}

/* ---- drawing ---- */

static void draw_head(const struct list *l, struct surf *s, struct rect r,
                      const int *w) {
    int x = r.x + PREFIX;
    for (int i = 0; i < l->ncol; i++) {
        char title[128];
        if (w[i] == 0)
            continue;
        snprintf(title, sizeof title, "%s%s", l->col[i].title,
                 i != l->sort_col ? ""
                 : l->sort_up     ? "▲"
                                  : "▼");
        surf_field(s, x, r.y, w[i], l->col[i].align, ROLE_HEAD, title);
        x += w[i] + 1;
    }
}

static void draw_row(const struct list *l, struct surf *s, struct rect r,
                     int row, const int *w) {
    int64_t id = l->src.id(l->src.arg, row);
    bool is_selected = row == l->row;
    int x = r.x + PREFIX;
    if (is_selected)
        surf_put(s, r.x, r.y, ROLE_SELECT, ">");
    if (list_marked(l, id))
        surf_put(s, r.x + 1, r.y, ROLE_MARK, "*");
    for (int i = 0; i < l->ncol; i++) {
        char buf[LIST_CELL_BYTES] = "";
        enum role role = ROLE_TEXT;
        if (w[i] == 0)
            continue;
        l->src.cell(l->src.arg, row, i, buf, sizeof buf, &role);
        if (is_selected && i == 0)
            role = ROLE_SELECT;
        surf_field(s, x, r.y, w[i], l->col[i].align, role, buf);
        x += w[i] + 1;
    }
    if (l->hit_cmd)
        surf_hit(s, r, l->hit_cmd, id);
}

static void draw_empty(const struct list *l, struct surf *s, struct rect r) {
    const char *line = l->empty;
    for (int y = r.y; y < r.y + r.h && *line; y++) {
        size_t n = strcspn(line, "\n");
        surf_textn(s, r.x + PREFIX, y, r.w - PREFIX, ROLE_DIM, line, n);
        line += n + (line[n] == '\n');
    }
}

/* Keeps the selection in view, moving by half pages. */
static void scroll(struct list *l) {
    if (l->row < l->top || l->row >= l->top + l->page)
        l->top = l->row - l->page / 2;
    if (l->top > l->count - l->page)
        l->top = l->count - l->page;
    if (l->top < 0)
        l->top = 0;
}

void list_draw(struct list *l, struct surf *s, struct rect r, bool focused) {
    int w[LIST_COLS_MAX];
    struct rect old = surf_clip(s, r);
    column_widths(l, r.w - PREFIX, w);
    if (l->has_head && r.h > 1) {
        draw_head(l, s, r, w);
        r.y++;
        r.h--;
    }
    l->page = r.h > 0 ? r.h : 1;
    if (l->count == 0)
        draw_empty(l, s, r);
    scroll(l);
    for (int i = 0; i < r.h && l->top + i < l->count; i++)
        draw_row(l, s, (struct rect){r.x, r.y + i, r.w, 1}, l->top + i, w);
    if (focused && l->row >= 0)
        surf_cursor(s, r.x, r.y + l->row - l->top);
    surf_unclip(s, old);
}

void list_range(const struct list *l, char *buf, size_t cap) {
    int last = l->top + l->page < l->count ? l->top + l->page : l->count;
    if (cap > 0)
        buf[0] = 0;
    if (l->count > l->page)
        snprintf(buf, cap, "%d-%d of %d", l->top + 1, last, l->count);
}
