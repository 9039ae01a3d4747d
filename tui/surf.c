/*
 * surf.c - the grid.
 *
 * Invariants: 1. every cell outside a wide one's right half holds text of its
 * width; a right half follows its left half; 2. nothing is written outside the
 * clip, which lies inside the grid; 3. text enters only through text_next().
 */
#include "tui/surf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct surf {
    int w, h;
    struct rect clip;
    struct cell *cell;
    struct hit hit[SURF_MAX_HITS];
    int nhits;
    int cx, cy; /* cursor, -1 = off */
};

static int clampi(int v, int lo, int hi) {
    return v < lo ? lo : v > hi ? hi : v;
}

struct rect rect_cut(struct rect a, struct rect b) {
    int64_t x0 = a.x > b.x ? a.x : b.x, y0 = a.y > b.y ? a.y : b.y;
    int64_t x1 = (int64_t)a.x + a.w, y1 = (int64_t)a.y + a.h;
    if ((int64_t)b.x + b.w < x1)
        x1 = (int64_t)b.x + b.w;
    if ((int64_t)b.y + b.h < y1)
        y1 = (int64_t)b.y + b.h;
    return (struct rect){(int)x0, (int)y0, x1 > x0 ? (int)(x1 - x0) : 0,
                         y1 > y0 ? (int)(y1 - y0) : 0};
}

bool rect_has(struct rect r, int x, int y) {
    return x >= r.x && y >= r.y && x - r.x < r.w && y - r.y < r.h;
}

struct rect rect_inset(struct rect r, int nx, int ny) {
    r.x += nx;
    r.y += ny;
    r.w = r.w > 2 * nx ? r.w - 2 * nx : 0;
    r.h = r.h > 2 * ny ? r.h - 2 * ny : 0;
    return r;
}

struct rect rect_center(struct rect r, int w, int h) {
    w = clampi(w, 0, r.w);
    h = clampi(h, 0, r.h);
    return (struct rect){r.x + (r.w - w) / 2, r.y + (r.h - h) / 2, w, h};
}

static void blank(struct cell *c, enum role r) {
    *c = (struct cell){.s = " ", .width = 1, .role = (uint8_t)r};
}

struct surf *surf_new(int w, int h) {
    struct surf *s = calloc(1, sizeof *s);
    if (s && surf_resize(s, w, h) < 0) {
        free(s);
        return NULL;
    }
    return s;
}

void surf_free(struct surf *s) {
    if (!s)
        return;
    free(s->cell);
    free(s);
}

int surf_resize(struct surf *s, int w, int h) {
    w = clampi(w, 1, SURF_MAX_W);
    h = clampi(h, 1, SURF_MAX_H);
    if (w != s->w || h != s->h) {
        struct cell *c = malloc((size_t)w * (size_t)h * sizeof *c);
        if (!c)
            return -1;
        free(s->cell);
        s->cell = c;
        s->w = w;
        s->h = h;
    }
    surf_clear(s);
    return 0;
}

int surf_w(const struct surf *s) { return s->w; }
int surf_h(const struct surf *s) { return s->h; }

void surf_clear(struct surf *s) {
    for (int i = 0; i < s->w * s->h; i++)
        blank(&s->cell[i], ROLE_TEXT);
    s->nhits = 0;
    s->cx = s->cy = -1;
    s->clip = (struct rect){0, 0, s->w, s->h};
}

void surf_copy(struct surf *to, const struct surf *from) {
    if (to->w == from->w && to->h == from->h)
        memcpy(to->cell, from->cell,
               (size_t)to->w * (size_t)to->h * sizeof *to->cell);
}

static struct cell *at(const struct surf *s, int x, int y) {
    return &s->cell[(size_t)y * (size_t)s->w + (size_t)x];
}

const struct cell *surf_cell(const struct surf *s, int x, int y) {
    return x < 0 || y < 0 || x >= s->w || y >= s->h ? NULL : at(s, x, y);
}

struct rect surf_clip(struct surf *s, struct rect r) {
    struct rect old = s->clip;
    s->clip = rect_cut(old, r);
    return old;
}

void surf_unclip(struct surf *s, struct rect old) { s->clip = old; }
struct rect surf_bounds(const struct surf *s) {
    return s->clip;
}

/* Blanks the other half of a wide cell that is about to lose one. */
static void split_wide(struct surf *s, int x, int y) {
    struct cell *c = at(s, x, y);
    if (c->width == 0 && x > 0)
        blank(c - 1, c->role);
    else if (c->width == 2 && x + 1 < s->w)
        blank(c + 1, c->role);
}

/* One cluster of one or two cells; what the clip halves becomes a blank. */
static void set_cell(struct surf *s, int x, int y, enum role r,
                     const char *text, size_t n, int width) {
    bool left = rect_has(s->clip, x, y);
    bool right = width == 2 && rect_has(s->clip, x + 1, y);
    if (left) {
        split_wide(s, x, y);
        struct cell *c = at(s, x, y);
        blank(c, r);
        if (width == 1 || right) {
            memcpy(c->s, text, n);
            c->s[n] = 0;
            c->width = (uint8_t)width;
        }
    }
    if (right) {
        split_wide(s, x + 1, y);
        struct cell *c = at(s, x + 1, y);
        blank(c, r);
        if (left) {
            c->s[0] = 0;
            c->width = 0;
        }
    }
}

static int put_cluster(struct surf *s, int x, int y, int w, enum role r,
                       const struct cluster *c) {
    if (c->odd && c->width > 1) {
        int k = 0;
        for (; k < c->width && k < w; k++)
            set_cell(s, x + k, y, ROLE_ODD, c->s + k, 1, 1);
        return k;
    }
    if (c->width == 0)
        return 0;
    if (c->width > w) { /* half of a wide character */
        set_cell(s, x, y, r, " ", 1, 1);
        return 1;
    }
    set_cell(s, x, y, c->odd ? ROLE_ODD : r, c->s, c->len, c->width);
    return c->width;
}

int surf_textn(struct surf *s, int x, int y, int w, enum role r,
               const char *text, size_t n) {
    int used = 0;
    for (size_t i = 0; i < n && used < w;) {
        struct cluster c;
        if (text[i] == '\t' || text[i] == '\n') {
            set_cell(s, x + used++, y, r, " ", 1, 1);
            i++;
            continue;
        }
        i += text_next(text + i, n - i, &c);
        used += put_cluster(s, x + used, y, w - used, r, &c);
    }
    return used;
}

int surf_text(struct surf *s, int x, int y, int w, enum role r,
              const char *text) {
    return surf_textn(s, x, y, w, r, text, strlen(text));
}

int surf_printf(struct surf *s, int x, int y, int w, enum role r,
                const char *fmt, ...) {
    char buf[2048];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(buf, sizeof buf, fmt, ap);
    va_end(ap);
    return surf_text(s, x, y, w, r, buf);
}

void surf_field(struct surf *s, int x, int y, int w, enum align a, enum role r,
                const char *text) {
    char buf[2048];
    if (w <= 0)
        return;
    int used = text_trunc(buf, sizeof buf, text, w);
    int pad = a == ALIGN_RIGHT    ? w - used
              : a == ALIGN_CENTER ? (w - used) / 2
                                  : 0;
    surf_fill(s, (struct rect){x, y, w, 1}, r, " ");
    surf_text(s, x + pad, y, w - pad, r, buf);
}

void surf_put(struct surf *s, int x, int y, enum role r, const char *glyph) {
    struct cluster c;
    text_next(glyph, strlen(glyph), &c);
    put_cluster(s, x, y, c.width, r, &c);
}

void surf_fill(struct surf *s, struct rect area, enum role r,
               const char *glyph) {
    struct cluster c;
    text_next(glyph, strlen(glyph), &c);
    area = rect_cut(area, s->clip);
    for (int y = area.y; y < area.y + area.h; y++)
        for (int x = area.x; x < area.x + area.w; x++)
            set_cell(s, x, y, r, c.s, c.len, 1);
}

void surf_hline(struct surf *s, int x, int y, int w, enum role r) {
    surf_fill(s, (struct rect){x, y, w, 1}, r, "─");
}

void surf_vline(struct surf *s, int x, int y, int h, enum role r) {
    surf_fill(s, (struct rect){x, y, 1, h}, r, "│");
}

void surf_rule(struct surf *s, int x, int y, int w, bool focus,
               const char *title, const char *right) {
    char buf[1024];
    surf_hline(s, x, y, w, ROLE_RULE);
    int used = 0;
    if (title && *title && w > 6) {
        used = text_trunc(buf, sizeof buf, title, w - 4) + 4;
        surf_put(s, x + 1, y, ROLE_RULE, " ");
        surf_text(s, x + 2, y, used - 4, focus ? ROLE_FOCUS : ROLE_TITLE, buf);
        surf_put(s, x + used - 2, y, ROLE_RULE, " ");
    }
    int room = w - used - 4;
    if (right && *right && room >= 4) {
        int n = text_trunc(buf, sizeof buf, right, room);
        surf_put(s, x + w - n - 3, y, ROLE_RULE, " ");
        surf_text(s, x + w - n - 2, y, n, ROLE_DIM, buf);
        surf_put(s, x + w - 2, y, ROLE_RULE, " ");
    }
}

void surf_box(struct surf *s, struct rect a, const char *title) {
    if (a.w < 2 || a.h < 2)
        return;
    char buf[512];
    surf_fill(s, a, ROLE_TEXT, " ");
    int x1 = a.x + a.w - 1, y1 = a.y + a.h - 1;
    surf_hline(s, a.x, a.y, a.w, ROLE_RULE);
    surf_hline(s, a.x, y1, a.w, ROLE_RULE);
    surf_vline(s, a.x, a.y, a.h, ROLE_RULE);
    surf_vline(s, x1, a.y, a.h, ROLE_RULE);
    surf_put(s, a.x, a.y, ROLE_RULE, "┌");
    surf_put(s, x1, a.y, ROLE_RULE, "┐");
    surf_put(s, a.x, y1, ROLE_RULE, "└");
    surf_put(s, x1, y1, ROLE_RULE, "┘");
    if (!title || !*title || a.w < 8)
        return;
    int n = text_trunc(buf, sizeof buf, title, a.w - 6);
    surf_put(s, a.x + 2, a.y, ROLE_RULE, " ");
    surf_text(s, a.x + 3, a.y, n, ROLE_FOCUS, buf);
    surf_put(s, a.x + 3 + n, a.y, ROLE_RULE, " ");
}

void surf_role(struct surf *s, struct rect area, enum role r) {
    area = rect_cut(area, s->clip);
    for (int y = area.y; y < area.y + area.h; y++)
        for (int x = area.x; x < area.x + area.w; x++)
            at(s, x, y)->role = (uint8_t)r;
}

void surf_cursor(struct surf *s, int x, int y) {
    if (rect_has(s->clip, x, y)) {
        s->cx = x;
        s->cy = y;
    }
}

void surf_cursor_off(struct surf *s) { s->cx = s->cy = -1; }

bool surf_cursor_at(const struct surf *s, int *x, int *y) {
    *x = s->cx;
    *y = s->cy;
    return s->cx >= 0;
}

void surf_hit(struct surf *s, struct rect area, int cmd, int64_t arg) {
    area = rect_cut(area, s->clip);
    if (area.w > 0 && area.h > 0 && s->nhits < SURF_MAX_HITS)
        s->hit[s->nhits++] = (struct hit){area, cmd, arg};
}

const struct hit *surf_hit_at(const struct surf *s, int x, int y) {
    for (int i = s->nhits; i-- > 0;)
        if (rect_has(s->hit[i].r, x, y))
            return &s->hit[i];
    return NULL;
}

static char *dump(const struct surf *s, bool roles) {
    size_t cap = (size_t)s->h * ((size_t)s->w * CLUSTER_BYTES + 1) + 1;
    char *out = malloc(cap), *p = out;
    if (!out)
        return NULL;
    for (int y = 0; y < s->h; y++) {
        char *end = p; /* behind the last that is not blank */
        for (int x = 0; x < s->w; x++) {
            const struct cell *c = at(s, x, y);
            size_t n = roles ? 1 : strlen(c->s);
            if (roles)
                *p = role_letter((enum role)c->role);
            else
                memcpy(p, c->s, n);
            p += n;
            bool is_blank =
                roles ? c->role == ROLE_TEXT : strcmp(c->s, " ") == 0;
            if (!is_blank)
                end = p;
        }
        p = end;
        *p++ = '\n';
    }
    *p = 0;
    return out;
}

char *surf_dump(const struct surf *s) { return dump(s, false); }
char *surf_dump_roles(const struct surf *s) { return dump(s, true); }

void surf_to_ascii(struct surf *s) {
    for (int i = 0; i < s->w * s->h; i++) {
        struct cell *c = &s->cell[i];
        if ((unsigned char)c->s[0] < 0x80 && c->s[0] && !c->s[1])
            continue;
        char g = c->width == 0 ? ' ' : glyph_ascii(c->s);
        c->s[0] = g;
        c->s[1] = 0;
        c->width = 1;
    }
}
