/*
 * charset - sets of characters: what a [class] of a pattern means, exactly,
 * and how PCRE2 is told.
 *
 *     struct charset s = {0};
 *     charset_add(&s, 'a', 'z');
 *     charset_prop(&s, "Lu", 2);
 *     charset_invert(&s);
 *     charset_emit(&s, &out);       [^\x{61}-\x{7a}\p{Lu}...]
 *     charset_release(&s);
 *
 * Any thread; a set belongs to one.
 */
#ifndef FETTLE_CORE_TEXT_CHARSET_H
#define FETTLE_CORE_TEXT_CHARSET_H

#include "core/buf.h"
#include "core/text/unicode.h"

struct charset {
    struct urange *r; /* owned; sorted and apart, except while adding */
    int n, cap;
};
void charset_release(struct charset *s);
void charset_add(struct charset *s, uint32_t from, uint32_t to);
/* A property ("L", "Lu", "Han", "Alphabetic", …; case, spaces, _ and - do not
 * count), or a bracket ("alpha", "punct", …); false: none of that name. */
bool charset_prop(struct charset *s, const char *name, size_t len);
bool charset_bracket(struct charset *s, const char *name, size_t len);
void charset_union(struct charset *s, const struct charset *with);
void charset_intersect(struct charset *s, const struct charset *with);
void charset_invert(struct charset *s);
/* Adds the other case of every letter; false: one has more than the simple
 * other case of ASCII. */
bool charset_fold(struct charset *s);
bool charset_has(const struct charset *s, uint32_t c);
/* Appends the set in PCRE2's language. Whole categories are named where
 * PCRE2's edition of Unicode is known not to take them too wide. */
void charset_emit(const struct charset *s, struct buf *out);

#endif
