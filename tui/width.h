/*
 * width - how many cells text takes, by a table of our own.
 *
 * A cluster is what one or two cells show: a base character with up to four
 * combining marks. Joiners, variation selectors and skin tones, about which
 * terminals disagree, are left out, so that a column is a column everywhere.
 *
 *     struct cluster c;
 *     for (size_t i = 0; i < n; i += text_next(s + i, n - i, &c))
 *         put(c.s, c.len, c.width, c.odd);
 *
 * No state; any thread.
 */
#ifndef FETTLE_TUI_WIDTH_H
#define FETTLE_TUI_WIDTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CLUSTER_BYTES 20

struct cluster {
    char s[CLUSTER_BYTES + 1]; /* sanitised, 0-terminated */
    uint8_t len;               /* bytes of s */
    uint8_t width;             /* cells: 0 (nothing to show), 1, 2; when odd,
                                  that many ASCII characters or one symbol */
    bool odd;                  /* stands for a character not shown as such */
};

/* 0 combining, 1, 2, or -1 for what must not be printed. */
int cp_width(uint32_t cp);
/* Takes the next cluster of s[0..n); returns its bytes, at least 1. */
size_t text_next(const char *s, size_t n, struct cluster *c);

/* Cells of a line of text. */
int text_width(const char *s);
int text_width_n(const char *s, size_t n);
/* The longest head of s[0..n) that takes at most w cells: its bytes. */
size_t text_head(const char *s, size_t n, int w);
/* Copies s into dst, cut to w cells, the last one … where something is lost;
 * keeps whole clusters. Returns the cells taken. */
int text_trunc(char *dst, size_t cap, const char *s, int w);

#endif
