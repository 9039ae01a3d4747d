/*
 * paint.c - one full-screen curses window, written by spans of changed cells.
 *
 * Invariants: 1. `shown` is what curses' window holds; a row span that is equal
 * is not written again; 2. curses is told clusters whose width by its own
 * table is ours, anything else is sent as U+FFFD; 3. pairs go through the
 * extended colour argument: COLOR_PAIR() has only eight bits.
 */
#define NCURSES_WIDECHAR 1
#include "tui/paint.h"
#include "tui/utf8.h"

#include <curses.h>
#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <term.h>
#include <unistd.h>
#include <wchar.h>

struct paint {
    SCREEN *screen;
    int fd; /* the memory file */
    FILE *out, *in;
    struct surf *shown;
    bool is_fresh;    /* nothing shown yet: write every row */
    bool region_lost; /* a resize: the terminal's scroll region is unknown */
    bool utf8;
    char *bytes;
    size_t cap;
    enum color_mode mode;
    bool is_light, is_ascii;
    int pair[ROLE_N];
    attr_t attr[ROLE_N];
};

/* newterm() asks the environment for the size, since its file is no tty. */
static SCREEN *open_screen(const char *term, struct paint *p, int w, int h) {
    char num[16];
    const char *env_h = getenv("LINES"), *env_w = getenv("COLUMNS");
    char *old_h = env_h ? strdup(env_h) : NULL;
    char *old_w = env_w ? strdup(env_w) : NULL;
    snprintf(num, sizeof num, "%d", h);
    setenv("LINES", num, 1);
    snprintf(num, sizeof num, "%d", w);
    setenv("COLUMNS", num, 1);
    SCREEN *sc = newterm(term, p->out, p->in);
    old_h ? setenv("LINES", old_h, 1) : unsetenv("LINES");
    old_w ? setenv("COLUMNS", old_w, 1) : unsetenv("COLUMNS");
    free(old_h);
    free(old_w);
    return sc;
}

struct paint *paint_open(const char *term, int w, int h, char *why,
                         size_t cap) {
    struct paint *p = calloc(1, sizeof *p);
    if (!p) {
        snprintf(why, cap, "out of memory");
        return NULL;
    }
    p->fd = memfd_create("fettle-screen", MFD_CLOEXEC);
    int dup_fd = p->fd >= 0 ? dup(p->fd) : -1;
    p->out = dup_fd >= 0 ? fdopen(dup_fd, "w") : NULL;
    p->in = fopen("/dev/null", "re");
    p->shown = surf_new(w, h);
    if (!p->out || !p->in || !p->shown) {
        snprintf(why, cap, "cannot make a screen buffer (memory, open files)");
        goto fail;
    }
    setlocale(LC_CTYPE, "");
    p->utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    p->screen = term && *term ? open_screen(term, p, w, h) : NULL;
    if (!p->screen) {
        snprintf(why, cap,
                 "TERM=%s is not known here (set TERM, e.g. xterm-256color)",
                 term ? term : "");
        goto fail;
    }
    if (!cursor_address || !clear_screen) {
        snprintf(why, cap,
                 "a %s terminal cannot place its cursor (use the verbs: "
                 "fettle help)",
                 term);
        goto fail;
    }
    typeahead(-1);
    nonl();
    if (has_colors()) {
        start_color();
        use_default_colors();
    }
    resizeterm(h, w);
    leaveok(stdscr, FALSE);
    scrollok(stdscr, FALSE);
    paint_all(p);
    p->mode = COLOR_MODES; /* none yet */
    return p;
fail:
    paint_close(p);
    return NULL;
}

void paint_close(struct paint *p) {
    if (!p)
        return;
    if (p->screen)
        delscreen(p->screen);
    if (p->out)
        fclose(p->out);
    if (p->in)
        fclose(p->in);
    if (p->fd >= 0)
        close(p->fd);
    surf_free(p->shown);
    free(p->bytes);
    free(p);
}

int paint_colors(const struct paint *p) {
    (void)p;
    return has_colors() ? COLORS : 0;
}

bool paint_utf8(const struct paint *p) { return p->utf8; }

void paint_resize(struct paint *p, int w, int h) {
    resizeterm(h, w);
    surf_resize(p->shown, w, h);
    p->region_lost = true;
    paint_all(p);
}

void paint_all(struct paint *p) {
    clearok(curscr, TRUE);
    p->is_fresh = true;
}

/* Roles to pairs and attributes, when the theme changes. */
static void set_theme(struct paint *p, enum color_mode mode, bool light) {
    p->mode = mode;
    p->is_light = light;
    p->is_fresh = true;
    for (int r = 0; r < ROLE_N; r++) {
        struct style st = style_get(mode, light, (enum role)r);
        attr_t a = A_NORMAL;
        if (st.attr & STYLE_BOLD)
            a |= A_BOLD;
        if (st.attr & STYLE_DIM)
            a |= A_DIM;
        if (st.attr & STYLE_UNDERLINE)
            a |= A_UNDERLINE;
        if (st.attr & STYLE_REVERSE)
            a |= A_REVERSE;
        p->pair[r] = 0;
        if (mode != COLOR_MONO && (st.fg >= 0 || st.bg >= 0)) {
            int fg = st.fg, bg = st.bg;
            if (fg >= COLORS && fg < 16) { /* eight colours: bold is bright */
                fg -= 8;
                a |= A_BOLD;
            }
            if (bg >= COLORS)
                bg -= 8;
            int pair = alloc_pair(fg, bg);
            p->pair[r] = pair > 0 ? pair : 0;
        }
        p->attr[r] = a;
    }
}

/* One cell as curses wants it; returns the cells that it will take there. */
static int to_cchar(const struct paint *p, const struct cell *c, cchar_t *out) {
    wchar_t w[CCHARW_MAX + 1];
    int n = 0, width = c->width, pair = p->pair[c->role];
    size_t len = strlen(c->s);
    for (size_t i = 0; i < len && n < CCHARW_MAX && !p->is_ascii;) {
        uint32_t cp;
        i += utf8_decode(c->s + i, len - i, &cp);
        int cw = wcwidth((wchar_t)cp);
        if (n == 0 && cw != width) {
            w[n++] = UTF8_BAD;
            width = 1;
        } else if (n == 0 || cw == 0) {
            w[n++] = (wchar_t)cp;
        }
    }
    if (n == 0) {
        w[n++] = (wchar_t)glyph_ascii(c->s);
        width = 1;
    }
    w[n] = 0;
    if (setcchar(out, w, p->attr[c->role], 0, &pair) == ERR) {
        w[0] = L'?';
        w[1] = 0;
        width = 1;
        setcchar(out, w, p->attr[c->role], 0, &pair);
    }
    return width;
}

static bool same_cell(const struct cell *a, const struct cell *b) {
    return a->role == b->role && a->width == b->width && !strcmp(a->s, b->s);
}

static void paint_row(struct paint *p, const struct surf *s, int y) {
    int w = surf_w(s), x0 = 0, x1 = w;
    const struct cell *row = surf_cell(s, 0, y),
                      *old = surf_cell(p->shown, 0, y);
    if (!p->is_fresh) {
        while (x0 < w && same_cell(&row[x0], &old[x0]))
            x0++;
        if (x0 == w)
            return;
        while (x1 > x0 && same_cell(&row[x1 - 1], &old[x1 - 1]))
            x1--;
        if (row[x0].width == 0 && x0 > 0)
            x0--; /* whole wide characters only */
    }
    for (int x = x0; x < x1;) {
        cchar_t c[64];
        if (row[x].width == 0) { /* its left half ended the last batch */
            x++;
            continue;
        }
        int n = 0, at = x;
        for (; x < x1 && n < 63; x++) {
            if (row[x].width == 0)
                continue;
            if (to_cchar(p, &row[x], &c[n++]) < row[x].width) {
                struct cell blank = {" ", 1, row[x].role};
                to_cchar(p, &blank, &c[n++]);
            }
        }
        mvadd_wchnstr(y, at, c, n);
    }
}

void paint_frame(struct paint *p, const struct surf *s, enum color_mode mode,
                 bool light, bool ascii) {
    if (mode != p->mode || light != p->is_light || ascii != p->is_ascii) {
        p->is_ascii = ascii;
        set_theme(p, mode, light);
    }
    int w = surf_w(s), h = surf_h(s), cx, cy;
    if (w != surf_w(p->shown) || h != surf_h(p->shown))
        paint_resize(p, w, h);
    for (int y = 0; y < h; y++)
        paint_row(p, s, y);
    surf_copy(p->shown, s);
    p->is_fresh = false;
    bool has_cursor = surf_cursor_at(s, &cx, &cy);
    if (has_cursor)
        move(cy, cx);
    leaveok(stdscr, !has_cursor);
    curs_set(has_cursor);
    wnoutrefresh(stdscr);
    doupdate();
}

void paint_leave(struct paint *p) {
    curs_set(1);
    endwin();
    paint_all(p);
}

static int reserve(struct paint *p, size_t need) {
    if (need > p->cap) {
        char *b = realloc(p->bytes, need);
        if (!b)
            return -1;
        p->bytes = b;
        p->cap = need;
    }
    return 0;
}

/* Bytes of "repeat the last character" at s[0..n), 0 = it is none. */
static size_t parse_rep(const char *s, size_t n, size_t *count) {
    size_t i = 2;
    *count = 0;
    if (n < 4 || s[0] != 27 || s[1] != '[')
        return 0;
    for (; i < n && s[i] >= '0' && s[i] <= '9' && *count < 10000; i++)
        *count = *count * 10 + (size_t)(s[i] - '0');
    return i < n && i > 2 && s[i] == 'b' ? i + 1 : 0;
}

/* Writes repeats out: terminals built on libvterm misplace the character that
 * follows a repeat at the right margin. Returns the new length, 0 = no memory.
 */
static size_t expand_reps(struct paint *p, size_t n) {
    for (size_t i = 1; i < n; i++) {
        size_t count, used = parse_rep(p->bytes + i, n - i, &count);
        if (used == 0)
            continue;
        if (reserve(p, n - used + count) < 0)
            return 0;
        char *at = p->bytes + i;
        memmove(at + count, at + used, n - i - used);
        memset(at, at[-1], count);
        n = n - used + count;
        i += count > 0 ? count - 1 : 0;
    }
    return n;
}

size_t paint_take(struct paint *p, const char **bytes) {
    /* The whole screen scrolls again; homes the cursor, which is fine since
     * the frame after a resize begins by clearing. */
    static const char region[] = "\033[r";
    size_t head = p->region_lost && change_scroll_region ? 3 : 0;
    fflush(p->out);
    off_t size = lseek(p->fd, 0, SEEK_END);
    *bytes = "";
    if (size <= 0)
        return 0;
    size_t n = (size_t)size + head;
    bool is_read = reserve(p, n) == 0 &&
                   pread(p->fd, p->bytes + head, (size_t)size, 0) == size;
    if (ftruncate(p->fd, 0) < 0 || lseek(p->fd, 0, SEEK_SET) < 0)
        is_read = false;
    if (is_read) {
        memcpy(p->bytes, region, head);
        p->region_lost = false;
        n = expand_reps(p, n);
    }
    if (!is_read || n == 0) {
        paint_all(p); /* what the terminal shows is unknown */
        return 0;
    }
    *bytes = p->bytes;
    return n;
}

size_t paint_restore(const struct paint *p, char *buf, size_t cap) {
    (void)p;
    const char *part[] = {exit_attribute_mode, orig_pair, cursor_normal,
                          exit_ca_mode, keypad_local};
    size_t len = 0;
    for (size_t i = 0; i < sizeof part / sizeof *part; i++) {
        size_t n = part[i] ? strlen(part[i]) : 0;
        if (n > 0 && len + n < cap) {
            memcpy(buf + len, part[i], n);
            len += n;
        }
    }
    if (len + 2 < cap)
        memcpy(buf + len, "\r\n", 2), len += 2;
    return len;
}
