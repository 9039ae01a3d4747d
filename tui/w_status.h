/*
 * w_status - the three fixed rows: header with tabs, message line, and (in
 * keymap.h) the hint bar.
 *
 *     static const char *tabs[] = {"1:Jobs", "2:Run", "3:Ckpt"};
 *     header_draw(s, 0, 80, "fettle", tabs, 3, active, "!2  local  14:02",
 *                 HIT_TAB);
 *     message_draw(&app->msg, s, 0, 22, 80, now);
 *
 * A message is said once and fades after its time; an error stays until the
 * next key. UI thread only.
 */
#ifndef FETTLE_TUI_W_STATUS_H
#define FETTLE_TUI_W_STATUS_H

#include "tui/surf.h"

/* Row y: name, tabs with the active one in [ ], right-aligned facts. When it
 * is narrow the facts are cut first, then inactive tabs show only their
 * number. Tabs are hit regions {hit_cmd, index}. */
void header_draw(struct surf *s, int y, int w, const char *name,
                 const char *const *tabs, int n, int active, const char *right,
                 int hit_cmd);

/* Caller's storage; {0} is silent. */
struct message {
    char text[512];
    enum role role;
    int64_t until_ms; /* 0 = until message_clear() or another */
};
/* Sets it, sanitised. role BAD stays, the others go after five seconds. */
void message_set(struct message *m, int64_t now_ms, enum role role,
                 const char *fmt, ...) __attribute__((format(printf, 4, 5)));
void message_clear(struct message *m);
/* True while there is something to show at this time. */
bool message_live(const struct message *m, int64_t now_ms);
void message_draw(const struct message *m, struct surf *s, int x, int y, int w,
                  int64_t now_ms);

/* Below 40×10: one line that says so, in the middle. True when too small. */
bool too_small_draw(struct surf *s, int min_w, int min_h);

#endif
