/*
 * flow - the tokens of examples laid into lines of a width, for the screen and
 * for `fettle render --inspect`.
 *
 *     struct flow f;
 *     flow_make(&f, examples, n, 80, SHOW_TEXT);
 *     flow_draw(&f, s, rect, first_line);
 *     flow_release(&f);
 *
 * Every line begins with a mark that needs no colour: █ all of it is trained,
 * ▒ some, ░ nothing. One thread at a time; the examples are not kept.
 */
#ifndef FETTLE_VIEWS_FLOW_H
#define FETTLE_VIEWS_FLOW_H

#include "core/buf.h"
#include "tui/surf.h"
#include "views/inspect.h"

enum show {
    SHOW_TEXT,  /* the text as it will be read */
    SHOW_IDS,   /* token ids */
    SHOW_FACTS, /* a token a line: place, id, weight, origin, text */
    SHOW_N
};

struct flow_piece { /* of a line, in one look */
    int line, x;
    size_t at, len; /* bytes of flow.text */
    enum role role;
    bool is_token, is_trained; /* heads of examples are no tokens */
};

struct flow {
    int w, lines, x; /* x: where the next piece goes on the last line */
    struct flow_piece *piece; /* (n) by line */
    size_t n, cap;
    struct buf text;
};

/* Returns the number of lines. */
int flow_make(struct flow *f, const struct inspect *example, size_t n, int w,
              enum show how);
void flow_release(struct flow *f); /* zeroed; again is fine */

/* Borrowed from the flow. */
struct flow_line {
    const struct flow_piece *piece; /* (n) */
    size_t n;
    const char *mark; /* "" = no tokens on it */
    enum role mark_role;
};
struct flow_line flow_line(const struct flow *f, int line);
void flow_draw(const struct flow *f, struct surf *s, struct rect r, int first);
/* How a token looks. */
enum role flow_role(uint8_t origin, bool is_control, bool is_trained);

#endif
