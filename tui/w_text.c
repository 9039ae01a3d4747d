/*
 * w_text.c - a ring of lines, wrapped when drawn.
 *
 * Lines are numbered from the first ever added, so that a position holds while
 * old lines are forgotten. Invariants: 1. first <= top_line <= last number;
 * 2. a line's runs are ascending and the first starts at 0.
 */
#include "tui/w_text.h"
#include "tui/input.h"
#include "tui/utf8.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct run {
    uint32_t at; /* byte from which on the role holds */
    uint8_t role;
};

struct line {
    char *s;
    struct run *run;
    uint32_t n, cap, nrun, run_cap;
    int cells; /* for tabs */
};

struct text {
    struct line *line; /* ring of max */
    int max, n, first_slot;
    int64_t first;         /* number of the oldest line */
    bool is_open;          /* the last line goes on */
    bool no_wrap, is_free; /* is_free: does not follow */
    int indent;
    int64_t top_line; /* when not following */
    int top_row;
    int w, h; /* of the last drawing */
    char find[256];
};

struct text *text_new(int max_lines) {
    struct text *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    t->max = max_lines > 0 ? max_lines : 1;
    t->line = calloc((size_t)t->max, sizeof *t->line);
    t->indent = -1;
    t->w = 80;
    t->h = 24;
    if (!t->line) {
        free(t);
        return NULL;
    }
    return t;
}

static void line_release(struct line *l) {
    free(l->s);
    free(l->run);
    *l = (struct line){0};
}

void text_clear(struct text *t) {
    for (int i = 0; i < t->max; i++)
        line_release(&t->line[i]);
    t->n = t->first_slot = t->top_row = 0;
    t->first = t->top_line = 0;
    t->is_open = t->is_free = false;
}

void text_free(struct text *t) {
    if (!t)
        return;
    text_clear(t);
    free(t->line);
    free(t);
}

/* The line of this number, which exists. */
static struct line *line_at(const struct text *t, int64_t number) {
    return &t->line[(t->first_slot + (number - t->first)) % t->max];
}

static struct line *line_push(struct text *t) {
    if (t->n == t->max) {
        line_release(&t->line[t->first_slot]);
        t->first_slot = (t->first_slot + 1) % t->max;
        t->first++;
        t->n--;
        if (t->top_line < t->first) {
            t->top_line = t->first;
            t->top_row = 0;
        }
    }
    t->n++;
    t->is_open = true;
    return line_at(t, t->first + t->n - 1);
}

static int grow(void **p, uint32_t *cap, uint32_t need, size_t size) {
    if (need <= *cap)
        return 0;
    uint32_t want = need < 32 ? 32 : need * 2;
    void *q = realloc(*p, want * size);
    if (!q)
        return -1;
    *p = q;
    *cap = want;
    return 0;
}

static int line_add(struct line *l, enum role r, const char *s, size_t n) {
    if (n == 0)
        return 0;
    if (grow((void **)&l->s, &l->cap, l->n + (uint32_t)n, 1) < 0)
        return -1;
    if (l->nrun == 0 || l->run[l->nrun - 1].role != r) {
        if (grow((void **)&l->run, &l->run_cap, l->nrun + 1, sizeof *l->run) <
            0)
            return -1;
        l->run[l->nrun++] = (struct run){l->n, (uint8_t)r};
    }
    memcpy(l->s + l->n, s, n);
    l->n += (uint32_t)n;
    l->cells += text_width_n(s, n);
    return 0;
}

/* A piece without newlines; tabs become blanks. */
static int add_piece(struct text *t, enum role r, const char *s, size_t n) {
    static const char blanks[] = "        ";
    while (n > 0) {
        struct line *l =
            t->is_open ? line_at(t, t->first + t->n - 1) : line_push(t);
        if (l->n >= TEXT_LINE_MAX) {
            l = line_push(t);
        }
        const char *tab = memchr(s, '\t', n);
        size_t k = tab ? (size_t)(tab - s) : n;
        if (k > TEXT_LINE_MAX - l->n) {
            k = TEXT_LINE_MAX - l->n;
            tab = NULL;
        }
        if (line_add(l, r, s, k) < 0 ||
            (tab && line_add(l, r, blanks, (size_t)(8 - l->cells % 8)) < 0))
            return -1;
        s += k + (tab != NULL);
        n -= k + (tab != NULL);
    }
    return 0;
}

int text_add(struct text *t, enum role r, const char *s, size_t n) {
    while (n > 0) {
        const char *nl = memchr(s, '\n', n);
        size_t k = nl ? (size_t)(nl - s) : n;
        size_t body = nl && k > 0 && s[k - 1] == '\r' ? k - 1 : k;
        if (add_piece(t, r, s, body) < 0)
            return -1;
        if (nl) {
            if (!t->is_open)
                line_push(t);
            t->is_open = false;
        }
        s += k + (nl != NULL);
        n -= k + (nl != NULL);
    }
    return 0;
}

int text_addf(struct text *t, enum role r, const char *fmt, ...) {
    char buf[4096];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(buf, sizeof buf, fmt, ap);
    va_end(ap);
    if (n < 0)
        return -1;
    return text_add(t, r, buf,
                    (size_t)n < sizeof buf ? (size_t)n : sizeof buf - 1);
}

int text_lines(const struct text *t) { return t->n; }

/* ---- wrapping ---- */

static int indent_of(const struct text *t, const struct line *l, int w) {
    int k = t->indent;
    if (k < 0)
        for (k = 0; (uint32_t)k < l->n && l->s[k] == ' ';)
            k++;
    return k < w / 2 ? k : w / 2;
}

/* End of the row that starts at byte at; *next is where the one after starts.
 * Takes at least one cluster. */
static uint32_t row_end(const struct line *l, uint32_t at, int w,
                        uint32_t *next) {
    uint32_t i = at, blank = 0;
    int cells = 0;
    while (i < l->n) {
        struct cluster c;
        size_t used = text_next(l->s + i, l->n - i, &c);
        if (l->s[i] == ' ')
            blank = i;
        if (cells + c.width > w && i > at) {
            /* After the last blank, unless only the indent has one. */
            uint32_t b = blank;
            while (b > at && l->s[b - 1] == ' ')
                b--;
            uint32_t end = blank > at && b > at ? b : i;
            *next = end;
            while (*next < l->n && l->s[*next] == ' ')
                (*next)++;
            return end;
        }
        cells += c.width;
        i += (uint32_t)used;
    }
    *next = l->n;
    return l->n;
}

static int rows_of(const struct text *t, const struct line *l, int w) {
    uint32_t at = 0;
    int rows = 0, in = indent_of(t, l, w);
    if (t->no_wrap || l->n == 0)
        return 1;
    while (at < l->n) {
        row_end(l, at, rows == 0 ? w : w - in, &at);
        rows++;
    }
    return rows;
}

int text_rows(struct text *t, int w) {
    int rows = 0;
    for (int i = 0; i < t->n; i++)
        rows += rows_of(t, line_at(t, t->first + i), w > 0 ? w : 1);
    return rows;
}

void text_wrap(struct text *t, bool on) {
    t->no_wrap = !on;
    t->top_row = 0;
}
bool text_wrapped(const struct text *t) { return !t->no_wrap; }
void text_indent(struct text *t, int cells) { t->indent = cells; }

/* ---- position ---- */

/* The topmost position such that the end is just in view. */
static void bottom(const struct text *t, int64_t *line, int *row) {
    int left = t->h;
    *line = t->first;
    *row = 0;
    for (int i = t->n; i-- > 0;) {
        int rows = rows_of(t, line_at(t, t->first + i), t->w);
        if (rows >= left) {
            *line = t->first + i;
            *row = rows - left;
            return;
        }
        left -= rows;
    }
}

void text_follow(struct text *t, bool on) {
    if (!on && !t->is_free)
        bottom(t, &t->top_line, &t->top_row);
    t->is_free = !on;
}

bool text_following(const struct text *t) { return !t->is_free; }

void text_top(struct text *t) {
    t->is_free = true;
    t->top_line = t->first;
    t->top_row = 0;
}

void text_scroll(struct text *t, int rows) {
    int64_t end_line;
    int end_row;
    if (t->n == 0 || (rows > 0 && !t->is_free))
        return;
    text_follow(t, false);
    for (; rows < 0 && (t->top_line > t->first || t->top_row > 0); rows++) {
        if (t->top_row == 0) {
            t->top_line--;
            t->top_row = rows_of(t, line_at(t, t->top_line), t->w);
        }
        t->top_row--;
    }
    for (; rows > 0 && t->top_line < t->first + t->n; rows--)
        if (++t->top_row >= rows_of(t, line_at(t, t->top_line), t->w)) {
            if (t->top_line + 1 == t->first + t->n) {
                t->top_row--;
                break;
            }
            t->top_line++;
            t->top_row = 0;
        }
    bottom(t, &end_line, &end_row);
    if (t->top_line > end_line ||
        (t->top_line == end_line && t->top_row >= end_row))
        t->is_free = false; /* at the end again: follow */
}

bool text_key(struct text *t, uint32_t key) {
    int half = t->h / 2 > 0 ? t->h / 2 : 1;
    switch (key) {
    case 'j':
    case KEY_DOWN: text_scroll(t, 1); return true;
    case 'k':
    case KEY_UP: text_scroll(t, -1); return true;
    case MOD_CTRL | 'd': text_scroll(t, half); return true;
    case MOD_CTRL | 'u': text_scroll(t, -half); return true;
    case MOD_CTRL | 'f':
    case KEY_PGDN: text_scroll(t, t->h); return true;
    case MOD_CTRL | 'b':
    case KEY_PGUP: text_scroll(t, -t->h); return true;
    case 'g':
    case KEY_HOME: text_top(t); return true;
    case 'G':
    case KEY_END: text_follow(t, true); return true;
    case 'f': text_follow(t, t->is_free); return true;
    case 'w': text_wrap(t, t->no_wrap); return true;
    case 'n': return text_search_next(t, false);
    case 'N': return text_search_next(t, true);
    default: return false;
    }
}

/* ---- search ---- */

/* Byte of the first hit in l at or after from, or l->n. */
static uint32_t hit_from(const struct text *t, const struct line *l,
                         uint32_t from) {
    size_t k = strlen(t->find);
    for (uint32_t i = from; k > 0 && i + k <= l->n; i++) {
        size_t j = 0;
        while (j < k && tolower((unsigned char)l->s[i + j]) == t->find[j])
            j++;
        if (j == k)
            return i;
    }
    return l->n;
}

int text_search(struct text *t, const char *what) {
    size_t k =
        strlen(what) < sizeof t->find ? strlen(what) : sizeof t->find - 1;
    int hits = 0;
    int64_t last = -1;
    for (size_t i = 0; i < k; i++)
        t->find[i] = (char)tolower((unsigned char)what[i]);
    t->find[k] = 0;
    for (int i = 0; i < t->n && k > 0; i++) {
        const struct line *l = line_at(t, t->first + i);
        if (hit_from(t, l, 0) < l->n) {
            hits++;
            last = t->first + i;
        }
    }
    if (last >= 0) {
        text_follow(t, false);
        t->top_line = last;
        t->top_row = 0;
    }
    return hits;
}

bool text_search_next(struct text *t, bool up) {
    int64_t at = t->top_line, end = t->first + t->n;
    if (!t->find[0] || t->n == 0)
        return false;
    text_follow(t, false);
    for (int i = 0; i < t->n; i++) {
        at += up ? -1 : 1;
        at = at < t->first ? end - 1 : at >= end ? t->first : at;
        const struct line *l = line_at(t, at);
        if (hit_from(t, l, 0) < l->n) {
            t->top_line = at;
            t->top_row = 0;
            return true;
        }
    }
    return false;
}

/* ---- drawing ---- */

/* Bytes a..b of a line in their roles, hits in theirs. */
static void draw_part(const struct text *t, const struct line *l,
                      struct surf *s, int x, int y, int w, uint32_t a,
                      uint32_t b) {
    size_t k = strlen(t->find);
    uint32_t run = 0,
             hit = k ? hit_from(t, l, a > k ? a - (uint32_t)k : 0) : l->n;
    while (a < b && w > 0) {
        while (run + 1 < l->nrun && l->run[run + 1].at <= a)
            run++;
        while (hit < l->n && hit + k <= a)
            hit = hit_from(t, l, hit + 1);
        uint32_t end = run + 1 < l->nrun && l->run[run + 1].at < b
                           ? l->run[run + 1].at
                           : b;
        bool in_hit = hit < l->n && hit <= a;
        if (in_hit && hit + k < end)
            end = hit + (uint32_t)k;
        else if (!in_hit && hit < end)
            end = hit;
        int used = surf_textn(s, x, y, w,
                              in_hit ? ROLE_MATCH : (enum role)l->run[run].role,
                              l->s + a, end - a);
        x += used;
        w -= used;
        a = end;
    }
}

void text_draw(struct text *t, struct surf *s, struct rect r) {
    int64_t number;
    int skip, y = r.y;
    struct rect old = surf_clip(s, r);
    t->w = r.w > 0 ? r.w : 1;
    t->h = r.h > 0 ? r.h : 1;
    if (t->is_free) {
        number = t->top_line;
        skip = t->top_row;
    } else {
        bottom(t, &number, &skip);
    }
    for (; number < t->first + t->n && y < r.y + r.h; number++) {
        const struct line *l = line_at(t, number);
        int in = t->no_wrap ? 0 : indent_of(t, l, t->w), row = 0;
        uint32_t at = 0, next = l->n;
        do {
            int x = row > 0 ? in : 0;
            uint32_t end = t->no_wrap ? l->n : row_end(l, at, t->w - x, &next);
            if (row++ >= skip && y < r.y + r.h)
                draw_part(t, l, s, r.x + x, y++, t->w - x, at, end);
            at = next;
        } while (at < l->n);
        skip = 0;
    }
    surf_unclip(s, old);
}
