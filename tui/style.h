/*
 * style - roles, and what they look like.
 *
 * Widgets paint roles, never colours: a cell says "this is a warning", and the
 * theme says how a warning looks with 256 colours, with 16, or with none. The
 * colours are the Okabe-Ito set, told apart by the colour-blind too.
 *
 *     surf_text(s, x, y, w, ROLE_WARN, "STALL");
 *
 * Constant tables; any thread.
 */
#ifndef FETTLE_TUI_STYLE_H
#define FETTLE_TUI_STYLE_H

#include <stdbool.h>
#include <stdint.h>

enum role {
    ROLE_TEXT,
    ROLE_DIM,
    ROLE_TITLE,
    ROLE_FOCUS, /* the title of the focused pane */
    ROLE_RULE,
    ROLE_AXIS,
    ROLE_SELECT, /* the selected row's marker and name */
    ROLE_MARK,   /* marked rows */
    ROLE_HEAD,   /* column heads */
    ROLE_OK,
    ROLE_WARN,
    ROLE_BAD,
    ROLE_INFO,
    ROLE_S1, /* series, eight of them */
    ROLE_S2,
    ROLE_S3,
    ROLE_S4,
    ROLE_S5,
    ROLE_S6,
    ROLE_S7,
    ROLE_S8,
    ROLE_SDIM, /* raw curve behind the smoothed one; band */
    ROLE_ADD,  /* diff */
    ROLE_DEL,
    ROLE_LP0, /* log-probability shades, likely to unlikely */
    ROLE_LP1,
    ROLE_LP2,
    ROLE_LP3,
    ROLE_FORM,    /* text by where it comes from: a format, */
    ROLE_FRAME,   /* a frame of the format around content, */
    ROLE_BODY,    /* content; */
    ROLE_SIGNAL,  /* what is no text but a sign */
    ROLE_FORM_ON, /* the same four where they count */
    ROLE_FRAME_ON,
    ROLE_BODY_ON,
    ROLE_SIGNAL_ON,
    ROLE_EDIT, /* markers */
    ROLE_FORK,
    ROLE_ALERT,
    ROLE_PROMPT, /* what is being typed */
    ROLE_KEY,    /* keys in the hint bar */
    ROLE_MATCH,  /* search hits */
    ROLE_STALE,
    ROLE_ODD, /* characters that are shown by name: <U+202E> */
    ROLE_N
};

/* Series i, counted from 0, wraps after eight. */
enum role role_series(int i);
const char *role_name(enum role r);
/* One printable ASCII character a role, '.' for plain text: golden planes. */
char role_letter(enum role r);

enum color_mode { COLOR_MONO, COLOR_16, COLOR_256, COLOR_MODES };

#define STYLE_BOLD 1
#define STYLE_DIM 2
#define STYLE_UNDERLINE 4
#define STYLE_REVERSE 8

struct style {
    int16_t fg, bg; /* palette index, -1 = the terminal's own */
    uint8_t attr;
};

struct style style_get(enum color_mode mode, bool light, enum role r);
/* The mode that environment and terminal allow: a NO_COLOR that is not empty
 * means none. colors: what the terminal has; want: -1 = auto, or a mode. */
enum color_mode style_mode(const char *no_color, int colors, int want);
/* sRGB of a palette index of the 256-colour cube and ramp (also 0-15). */
uint32_t style_rgb(int index);
/* WCAG contrast of two sRGB colours, 1 to 21. */
double style_contrast(uint32_t a, uint32_t b);

enum glyphs { GLYPH_BRAILLE, GLYPH_BLOCK, GLYPH_ASCII };

#endif
