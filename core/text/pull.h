/*
 * pull - JSON read value by value, for files too large for a tree.
 *
 *     struct pull p;
 *     pull_init(&p, text, len);
 *     for (pull_open(&p, '{'); pull_more(&p, '}');) {
 *         struct pull_str key = pull_key(&p);
 *         if (pull_is(key, "vocab")) vocab(&p); else pull_skip(&p);
 *     }
 *     if (p.bad) ...                    p.why, at p.s
 *
 * The first fault sets `bad`; then every call returns at once, loops end, and
 * strings are empty. The text is borrowed and was checked to be UTF-8.
 */
#ifndef FETTLE_CORE_TEXT_PULL_H
#define FETTLE_CORE_TEXT_PULL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pull {
    const char *s, *end;
    const char *why; /* what is wrong, when bad */
    bool bad, first; /* first: no comma is due */
    int depth;
    size_t items; /* of the object or list that was skipped last */
    char *room;   /* of strings with escapes; owned */
    size_t cap;
};

struct pull_str {
    const char *s; /* borrowed until the next string */
    size_t len;
};

void pull_init(struct pull *p, const char *text, size_t len);
void pull_release(struct pull *p);
/* The next value's first character, as '{', '"', 't', '-' or '7'; 0 = end. */
char pull_peek(struct pull *p);
void pull_open(struct pull *p, char bracket);
/* Is there another element? The closing bracket is consumed when not. */
bool pull_more(struct pull *p, char bracket);
struct pull_str pull_key(struct pull *p); /* with its colon */
struct pull_str pull_string(struct pull *p);
double pull_number(struct pull *p);
uint32_t pull_id(struct pull *p); /* a whole number below 2^32 - 1 */
bool pull_bool(struct pull *p);   /* null is false */
/* Any value; the bytes that it takes. */
struct pull_str pull_skip(struct pull *p);
bool pull_is(struct pull_str s, const char *name);

#endif
