/*
 * scan - hand-written scanners for the patterns of the families (spec §8):
 * the pieces that the regular expression finds, several times faster.
 *
 *     struct scan *x = scan_new(&pattern, 1);       NULL: not one of them
 *     for (size_t at = 0, to; at < len; at = to)
 *         piece(text + at, (to = scan_next(x, text, at, len)) - at);
 *
 * Chosen by the exact text of the patterns. Immutable, shared by threads.
 */
#ifndef FETTLE_CORE_TEXT_SCAN_H
#define FETTLE_CORE_TEXT_SCAN_H

#include <stddef.h>

struct scan;
/* n patterns of Splits in sequence, Isolated; their texts end with a NUL. */
struct scan *scan_new(const char *const *patterns, size_t n);
void scan_free(struct scan *x);
/* The end of the piece that begins at `at` < len in valid UTF-8. */
size_t scan_next(const struct scan *x, const char *text, size_t at, size_t len);

/* The patterns that are known, one by one: its name and texts; how many
 * texts, 0 = no more. */
size_t scan_known(int i, const char **name, const char *const **patterns);

#endif
