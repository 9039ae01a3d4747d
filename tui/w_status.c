/* w_status.c - header, message line, the too-small notice. */
#include "tui/w_status.h"
#include "tui/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define FADE_MS 5000

/* A tab's label: all of it, or only what is before the colon. */
static int tab_label(const char *tab, bool is_short, char *buf, size_t cap) {
    int n = (int)strcspn(tab, ":");
    snprintf(buf, cap, "%.*s", is_short ? n : (int)strlen(tab), tab);
    return text_width(buf);
}

static int tabs_width(const char *const *tabs, int n, int active,
                      bool is_short) {
    char buf[64];
    int w = 0;
    for (int i = 0; i < n; i++)
        w += tab_label(tabs[i], is_short && i != active, buf, sizeof buf) + 1 +
             (i == active ? 2 : 0);
    return w;
}

void header_draw(struct surf *s, int y, int w, const char *name,
                 const char *const *tabs, int n, int active, const char *right,
                 int hit_cmd) {
    int x = surf_text(s, 0, y, w, ROLE_TITLE, name) + 1;
    bool is_short = x + tabs_width(tabs, n, active, false) > w;
    for (int i = 0; i < n; i++) {
        char buf[64];
        bool on = i == active;
        int k = tab_label(tabs[i], is_short && !on, buf, sizeof buf);
        if (x + k + (on ? 2 : 0) > w)
            break;
        struct rect r = {x, y, k + (on ? 2 : 0), 1};
        if (on) {
            surf_put(s, x++, y, ROLE_FOCUS, "[");
            x += surf_text(s, x, y, k, ROLE_FOCUS, buf);
            surf_put(s, x++, y, ROLE_FOCUS, "]");
        } else {
            x += surf_text(s, x, y, k, ROLE_DIM, buf);
        }
        if (hit_cmd)
            surf_hit(s, r, hit_cmd, i);
        x++;
    }
    int room = w - x - 1, rw = right ? text_width(right) : 0;
    if (rw > 0 && rw <= room)
        surf_text(s, w - rw, y, rw, ROLE_TEXT, right);
    else if (rw > 0 && room >= 6)
        surf_field(s, w - room, y, room, ALIGN_RIGHT, ROLE_TEXT, right);
}

void message_set(struct message *m, int64_t now_ms, enum role role,
                 const char *fmt, ...) {
    char buf[sizeof m->text];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(buf, sizeof buf, fmt, ap);
    va_end(ap);
    text_sanitize(m->text, sizeof m->text, buf, strlen(buf), TEXT_LINE);
    m->role = role;
    m->until_ms = role == ROLE_BAD ? 0 : now_ms + FADE_MS;
}

void message_clear(struct message *m) { m->text[0] = 0; }

bool message_live(const struct message *m, int64_t now_ms) {
    return m->text[0] && (m->until_ms == 0 || now_ms < m->until_ms);
}

void message_draw(const struct message *m, struct surf *s, int x, int y, int w,
                  int64_t now_ms) {
    if (message_live(m, now_ms))
        surf_field(s, x, y, w, ALIGN_LEFT, m->role, m->text);
}

bool too_small_draw(struct surf *s, int min_w, int min_h) {
    char buf[64];
    int w = surf_w(s), h = surf_h(s);
    if (w >= min_w && h >= min_h)
        return false;
    snprintf(buf, sizeof buf, "needs %dx%d, has %dx%d", min_w, min_h, w, h);
    int k = text_width(buf);
    surf_text(s, k < w ? (w - k) / 2 : 0, h / 2, w, ROLE_WARN, buf);
    return true;
}
