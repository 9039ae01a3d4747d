/* int - what the files of core/starter share. */
#ifndef FETTLE_CORE_STARTER_INT_H
#define FETTLE_CORE_STARTER_INT_H

#include "core/buf.h"
#include "core/starter.h"

#include <stdint.h>

/* A source of numbers: row `row` of a corpus with its own counter. */
struct draw {
    uint64_t seed, row, at;
};
uint32_t draw_below(struct draw *d, uint32_t n); /* 0 … n-1 */

/* Appends a template; $a … $z stand for slot[0] … slot[25], $A for the same
 * with a capital letter. */
#define SLOTS_MAX 26
void say(struct buf *b, const char *tmpl, const char *const *slot);

/* One row of the corpus as a JSON line, with "\n". is_chat: {"messages"},
 * else {"text"}. Row i is a pure function of i. */
void corpus_row(struct buf *b, uint64_t i, bool *is_chat);
/* One conversation as a JSON line. */
void chat_line(struct buf *b, const char *const *message, int n);

/* The people of the town, who also walk through the corpus' stories. */
extern const char *const town_names[];
extern const int town_n;

#endif
