/*
 * style.c - the themes as tables, one row a role.
 *
 * 256-colour indices on purpose: they cost half the bytes of RGB and every
 * terminal description has them. No role needs a coloured background over
 * more than a word.
 */
#include "tui/style.h"
#include "tui/surf.h"
#include "tui/utf8.h"

#include <math.h>
#include <string.h>

#define NONE (-1)
#define BOLD STYLE_BOLD
#define DIM STYLE_DIM
#define ULINE STYLE_UNDERLINE
#define REV STYLE_REVERSE

struct theme_row {
    const char *name;
    char letter;
    struct style dark, light; /* 256 colours */
    struct style ansi;        /* 16 colours */
    struct style mono;
};

/* clang-format off */
static const struct theme_row THEME[ROLE_N] = {
    [ROLE_TEXT]   = {"text", '.', {NONE,NONE,0}, {NONE,NONE,0}, {NONE,NONE,0}, {NONE,NONE,0}},
    [ROLE_DIM]    = {"dim", 'd', {245,NONE,0}, {241,NONE,0}, {NONE,NONE,DIM}, {NONE,NONE,DIM}},
    [ROLE_TITLE]  = {"title", 't', {250,NONE,0}, {238,NONE,0}, {NONE,NONE,0}, {NONE,NONE,0}},
    [ROLE_FOCUS]  = {"title.focus", 'T', {231,NONE,BOLD}, {16,NONE,BOLD}, {NONE,NONE,BOLD}, {NONE,NONE,BOLD}},
    [ROLE_RULE]   = {"rule", '-', {244,NONE,0}, {242,NONE,0}, {NONE,NONE,DIM}, {NONE,NONE,0}},
    [ROLE_AXIS]   = {"axis", '+', {244,NONE,0}, {242,NONE,0}, {NONE,NONE,DIM}, {NONE,NONE,0}},
    [ROLE_SELECT] = {"select", 'S', {231,NONE,BOLD}, {16,NONE,BOLD}, {NONE,NONE,BOLD}, {NONE,NONE,BOLD}},
    [ROLE_MARK]   = {"mark", '*', {227,NONE,0}, {94,NONE,0}, {11,NONE,0}, {NONE,NONE,0}},
    [ROLE_HEAD]   = {"head", 'h', {245,NONE,0}, {241,NONE,0}, {NONE,NONE,DIM}, {NONE,NONE,0}},
    [ROLE_OK]     = {"ok", 'o', {36,NONE,0}, {22,NONE,0}, {10,NONE,0}, {NONE,NONE,0}},
    [ROLE_WARN]   = {"warn", 'w', {214,NONE,0}, {94,NONE,0}, {11,NONE,0}, {NONE,NONE,BOLD}},
    [ROLE_BAD]    = {"bad", '!', {208,NONE,BOLD}, {160,NONE,BOLD}, {9,NONE,BOLD}, {NONE,NONE,REV}},
    [ROLE_INFO]   = {"info", 'i', {74,NONE,0}, {25,NONE,0}, {12,NONE,0}, {NONE,NONE,0}},
    [ROLE_S1]     = {"series.1", '1', {74,NONE,0}, {25,NONE,0}, {12,NONE,0}, {NONE,NONE,0}},
    [ROLE_S2]     = {"series.2", '2', {214,NONE,0}, {94,NONE,0}, {11,NONE,0}, {NONE,NONE,0}},
    [ROLE_S3]     = {"series.3", '3', {36,NONE,0}, {22,NONE,0}, {10,NONE,0}, {NONE,NONE,0}},
    [ROLE_S4]     = {"series.4", '4', {175,NONE,0}, {126,NONE,0}, {13,NONE,0}, {NONE,NONE,0}},
    [ROLE_S5]     = {"series.5", '5', {227,NONE,0}, {58,NONE,0}, {14,NONE,0}, {NONE,NONE,0}},
    [ROLE_S6]     = {"series.6", '6', {208,NONE,0}, {130,NONE,0}, {9,NONE,0}, {NONE,NONE,0}},
    [ROLE_S7]     = {"series.7", '7', {39,NONE,0}, {19,NONE,0}, {15,NONE,0}, {NONE,NONE,0}},
    [ROLE_S8]     = {"series.8", '8', {250,NONE,0}, {238,NONE,0}, {7,NONE,0}, {NONE,NONE,0}},
    [ROLE_SDIM]   = {"series.dim", 's', {243,NONE,0}, {243,NONE,0}, {NONE,NONE,DIM}, {NONE,NONE,DIM}},
    [ROLE_ADD]    = {"add", 'a', {36,NONE,ULINE}, {22,NONE,ULINE}, {10,NONE,ULINE}, {NONE,NONE,ULINE}},
    [ROLE_DEL]    = {"del", 'x', {208,NONE,0}, {160,NONE,0}, {9,NONE,0}, {NONE,NONE,DIM}},
    [ROLE_LP0]    = {"logp.0", 'A', {NONE,NONE,0}, {NONE,NONE,0}, {NONE,NONE,0}, {NONE,NONE,0}},
    [ROLE_LP1]    = {"logp.1", 'B', {116,NONE,0}, {24,NONE,0}, {14,NONE,0}, {NONE,NONE,0}},
    [ROLE_LP2]    = {"logp.2", 'C', {214,NONE,0}, {94,NONE,0}, {11,NONE,0}, {NONE,NONE,BOLD}},
    [ROLE_LP3]    = {"logp.3", 'D', {231,88,0}, {231,88,0}, {15,1,0}, {NONE,NONE,REV}},
    [ROLE_FORM]   = {"origin.form", 'g', {245,NONE,0}, {241,NONE,0}, {NONE,NONE,DIM}, {NONE,NONE,DIM}},
    [ROLE_FRAME]  = {"origin.frame", 'r', {74,NONE,0}, {25,NONE,0}, {6,NONE,0}, {NONE,NONE,ULINE}},
    [ROLE_BODY]   = {"origin.body", 'c', {NONE,NONE,0}, {NONE,NONE,0}, {NONE,NONE,0}, {NONE,NONE,0}},
    [ROLE_SIGNAL] = {"origin.signal", 'v', {245,NONE,REV}, {241,NONE,REV}, {NONE,NONE,DIM|REV}, {NONE,NONE,REV}},
    [ROLE_FORM_ON]   = {"origin.form.on", 'G', {214,NONE,BOLD}, {94,NONE,BOLD}, {11,NONE,BOLD}, {NONE,NONE,BOLD|DIM}},
    [ROLE_FRAME_ON]  = {"origin.frame.on", 'R', {39,NONE,BOLD}, {19,NONE,BOLD}, {14,NONE,BOLD}, {NONE,NONE,BOLD|ULINE}},
    [ROLE_BODY_ON]   = {"origin.body.on", 'Y', {36,NONE,BOLD}, {22,NONE,BOLD}, {10,NONE,BOLD}, {NONE,NONE,BOLD}},
    [ROLE_SIGNAL_ON] = {"origin.signal.on", 'V', {214,NONE,BOLD|REV}, {94,NONE,BOLD|REV}, {11,NONE,BOLD|REV}, {NONE,NONE,BOLD|REV}},
    [ROLE_EDIT]   = {"marker.edit", 'e', {175,NONE,0}, {126,NONE,0}, {13,NONE,0}, {NONE,NONE,BOLD}},
    [ROLE_FORK]   = {"marker.fork", 'f', {74,NONE,0}, {25,NONE,0}, {14,NONE,0}, {NONE,NONE,BOLD}},
    [ROLE_ALERT]  = {"marker.alert", 'l', {208,NONE,BOLD}, {160,NONE,BOLD}, {9,NONE,BOLD}, {NONE,NONE,REV}},
    [ROLE_PROMPT] = {"prompt", 'p', {231,NONE,BOLD}, {16,NONE,BOLD}, {NONE,NONE,BOLD}, {NONE,NONE,BOLD}},
    [ROLE_KEY]    = {"key", 'k', {231,NONE,BOLD}, {16,NONE,BOLD}, {NONE,NONE,BOLD}, {NONE,NONE,BOLD}},
    [ROLE_MATCH]  = {"match", 'm', {16,227,0}, {16,227,0}, {0,11,0}, {NONE,NONE,REV}},
    [ROLE_STALE]  = {"stale", 'z', {243,NONE,0}, {243,NONE,0}, {NONE,NONE,DIM}, {NONE,NONE,DIM}},
    [ROLE_ODD]    = {"odd", '?', {208,NONE,ULINE}, {160,NONE,ULINE}, {9,NONE,ULINE}, {NONE,NONE,ULINE}},
};
/* clang-format on */

enum role role_series(int i) { return (enum role)(ROLE_S1 + (unsigned)i % 8); }

const char *role_name(enum role r) {
    return (unsigned)r < ROLE_N ? THEME[r].name : "?";
}

char role_letter(enum role r) {
    return (unsigned)r < ROLE_N ? THEME[r].letter : '~';
}

struct style style_get(enum color_mode mode, bool light, enum role r) {
    if ((unsigned)r >= ROLE_N)
        r = ROLE_TEXT;
    const struct theme_row *t = &THEME[r];
    switch (mode) {
    case COLOR_256: return light ? t->light : t->dark;
    case COLOR_16: {
        /* On white, yellow and cyan are not readable: take the dark ones. */
        struct style s = t->ansi;
        if (light && s.bg == NONE && s.fg >= 9)
            s.fg = (int16_t)(s.fg - 8 == 7 || s.fg - 8 == 3 ? 0 : s.fg - 8);
        else if (light && s.fg == 7)
            s.fg = 0;
        return s;
    }
    default: return t->mono;
    }
}

enum color_mode style_mode(const char *no_color, int colors, int want) {
    if (want >= COLOR_MONO && want < COLOR_MODES) {
        if (want == COLOR_256 && colors < 256)
            want = COLOR_16;
        return colors < 8 ? COLOR_MONO : (enum color_mode)want;
    }
    if ((no_color && *no_color) || colors < 8)
        return COLOR_MONO;
    return colors >= 256 ? COLOR_256 : COLOR_16;
}

uint32_t style_rgb(int i) {
    static const uint32_t ansi[16] = {0x000000, 0xcd0000, 0x00cd00, 0xcdcd00,
                                      0x0000ee, 0xcd00cd, 0x00cdcd, 0xe5e5e5,
                                      0x7f7f7f, 0xff0000, 0x00ff00, 0xffff00,
                                      0x5c5cff, 0xff00ff, 0x00ffff, 0xffffff};
    static const uint8_t cube[6] = {0, 95, 135, 175, 215, 255};
    if (i < 0 || i > 255)
        return 0;
    if (i < 16)
        return ansi[i];
    if (i >= 232) {
        uint32_t g = 8u + 10u * (uint32_t)(i - 232);
        return g << 16 | g << 8 | g;
    }
    i -= 16;
    return (uint32_t)cube[i / 36] << 16 | (uint32_t)cube[i / 6 % 6] << 8 |
           cube[i % 6];
}

static double luminance(uint32_t rgb) {
    double y = 0;
    static const double weight[3] = {0.2126, 0.7152, 0.0722};
    for (int k = 0; k < 3; k++) {
        double c = (rgb >> (16 - 8 * k) & 255) / 255.0;
        y += weight[k] *
             (c <= 0.03928 ? c / 12.92 : pow((c + 0.055) / 1.055, 2.4));
    }
    return y;
}

double style_contrast(uint32_t a, uint32_t b) {
    double ya = luminance(a), yb = luminance(b);
    return ((ya > yb ? ya : yb) + 0.05) / ((ya > yb ? yb : ya) + 0.05);
}

/* The glyphs that the screens use, and what stands for each in ASCII. */
static const struct {
    const char *glyphs;
    char ascii;
} ASCII[] = {
    {"─━—–−╌═", '-'}, {"│┃║▏", '|'},
    {"┊┆╎", ':'},     {"┌┐└┘├┤┬┴┼╭╮╰╯╴╵╶╷", '+'},
    {"●▣", '@'},      {"◌○□·•", '.'},
    {"◆◇★☆", '*'},    {"▸▶→›»", '>'},
    {"◂◀←‹«", '<'},   {"▼↓▾", 'v'},
    {"▲↑▴⏎↵␍", '^'},  {"✓✔", 'y'},
    {"✗✘×", 'x'},     {"❚█▌▐", '#'},
    {"“”", '"'},      {"‘’", '\''},
    {"…", '~'},       {"δΔ", 'd'},
    {"σ", 's'},       {"α", 'a'},
    {"≠", '!'},       {"≥", '>'},
    {"≤", '<'},       {"␣", '_'},
    {"↔", '='},       {"±", '+'},
    {"░", '.'},       {"▒", ':'},
    {"▓", '#'},       {"▁▂▖▗▘▝", '.'},
    {"▃▄▀▚▞", ':'},   {"▅▆▙▛▜▟", '*'},
    {"▇", '#'},       {"µ", 'u'},
    {"°", 'o'},       {"\xc2\xa0", ' '},
};

char glyph_ascii(const char *glyph) {
    uint32_t cp, other;
    size_t n = strlen(glyph);
    utf8_decode(glyph, n, &cp);
    if (cp < 0x80)
        return cp >= 0x20 && cp < 0x7F ? (char)cp : '?';
    if (cp >= 0x2800 && cp <= 0x28FF) /* by the number of dots */
        return " .::+**##"[__builtin_popcount(cp & 0xFF)];
    for (size_t i = 0; i < sizeof ASCII / sizeof *ASCII; i++) {
        const char *g = ASCII[i].glyphs;
        for (size_t len = strlen(g), at = 0; at < len;) {
            at += utf8_decode(g + at, len - at, &other);
            if (other == cp)
                return ASCII[i].ascii;
        }
    }
    return '?';
}
