/*
 * utf8 - strict UTF-8, and foreign text made harmless.
 *
 * Ill-formed bytes read as U+FFFD, one for each maximal subpart. What
 * text_sanitize() returns holds no control byte, no escape, no invisible or
 * reordering character: C0 controls show as U+2400…, format characters as
 * <U+202E>, private and unassigned ones as U+FFFD. surf_text() applies the
 * same rules itself, so nothing foreign can reach the terminal; call this
 * where text leaves by another way (stdout, a title, a clipboard).
 *
 *     char safe[256];
 *     text_sanitize(safe, sizeof safe, name, strlen(name), TEXT_LINE);
 *
 * No state; any thread.
 */
#ifndef FETTLE_TUI_UTF8_H
#define FETTLE_TUI_UTF8_H

#include <stddef.h>
#include <stdint.h>

#define UTF8_BAD 0xFFFD

/* What text_sanitize keeps as it is. */
#define TEXT_LINE 0
#define TEXT_NL 1  /* newlines */
#define TEXT_TAB 2 /* tabs */

/* Bytes of the first code point of s[0..n), at least 1 when n > 0. */
size_t utf8_decode(const char *s, size_t n, uint32_t *cp);
/* Writes 1 to 4 bytes, no 0; what is no scalar value is written as U+FFFD. */
size_t utf8_encode(uint32_t cp, char out[4]);
/* The start of the code point before at (0 < at <= n of the text). */
size_t utf8_prev(const char *s, size_t at);

/* Like snprintf: fills dst[cap] with whole characters and a 0, returns the
 * bytes that all of it needs. */
size_t text_sanitize(char *dst, size_t cap, const char *src, size_t n,
                     unsigned keep);

#endif
