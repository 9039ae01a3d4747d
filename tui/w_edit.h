/*
 * w_edit - a line editor: the `:` and `/` prompts, chat input, form fields.
 *
 * Arrows and emacs keys (C-a C-e C-b C-f C-k C-u C-w C-d M-b M-f C-y), Up/Down
 * and C-p/C-n through the history, Tab completes, Enter accepts, Esc cancels,
 * M-Enter or C-j adds a line where that is allowed, pastes are inserted as
 * text (never as keys).
 *
 *     struct edit *e = edit_new((struct edit_opts){.prompt = ":"});
 *     switch (edit_event(e, ev)) {
 *     case EDIT_DONE: run(edit_text(e)); edit_remember(e); break;
 *     case EDIT_CANCEL: …
 *     }
 *     edit_draw(e, s, (struct rect){0, 22, 80, 1}, true);
 *
 * UI thread only.
 */
#ifndef FETTLE_TUI_W_EDIT_H
#define FETTLE_TUI_W_EDIT_H

#include "tui/input.h"
#include "tui/surf.h"

enum edit_result {
    EDIT_IGNORED, /* not for the editor */
    EDIT_MOVED,   /* only the cursor */
    EDIT_CHANGED, /* the text */
    EDIT_DONE,    /* Enter */
    EDIT_CANCEL   /* Esc, C-c, C-g, or Backspace when empty */
};

/* Writes the i-th completion of the word line[from..at) into buf (whole word);
 * false when there is none. */
typedef bool edit_complete_fn(void *arg, const char *line, size_t from,
                              size_t at, int i, char *buf, size_t cap);

struct edit_opts {
    const char *prompt; /* borrowed; "" or NULL = none */
    size_t max;         /* bytes of text, 0 = 4096 */
    int history;        /* entries kept, 0 = 100 */
    bool multiline;
    bool keep_empty; /* Backspace in an empty line does not cancel */
    edit_complete_fn *complete;
    void *arg;
};

struct edit;

struct edit *edit_new(struct edit_opts o); /* NULL when memory is short */
void edit_free(struct edit *e);
enum edit_result edit_event(struct edit *e, const struct ev *ev);
const char *edit_text(const struct edit *e); /* borrowed */
void edit_set(struct edit *e, const char *text);
void edit_prompt(struct edit *e, const char *prompt);
/* Puts the text into the history (once) and empties the line. */
void edit_remember(struct edit *e);
/* Scrolls sideways (one row) or wraps (more rows). Cursor when focused. */
void edit_draw(struct edit *e, struct surf *s, struct rect r, bool focused);
/* Rows that the text would like at a width, at least 1. */
int edit_rows(const struct edit *e, int w);

#endif
