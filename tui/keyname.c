/* keyname.c - keys as text, both ways. */
#include "tui/input.h"
#include "tui/utf8.h"

#include <stdio.h>
#include <string.h>

static const struct {
    uint32_t key;
    const char *name; /* the first of a key is the one it is shown by */
} NAMES[] = {
    {KEY_ENTER, "Enter"}, {KEY_TAB, "Tab"},      {KEY_ESC, "Esc"},
    {' ', "Space"},       {KEY_BACKSPACE, "BS"}, {KEY_BACKSPACE, "Backspace"},
    {KEY_UP, "Up"},       {KEY_DOWN, "Down"},    {KEY_LEFT, "Left"},
    {KEY_RIGHT, "Right"}, {KEY_HOME, "Home"},    {KEY_END, "End"},
    {KEY_PGUP, "PgUp"},   {KEY_PGDN, "PgDn"},    {KEY_INSERT, "Ins"},
    {KEY_DELETE, "Del"},
};
#define NNAMES (sizeof NAMES / sizeof *NAMES)

uint32_t key_parse(const char *s, size_t n) {
    uint32_t mods = 0, cp;
    while (n > 2 && s[1] == '-') {
        uint32_t m = s[0] == 'C'   ? MOD_CTRL
                     : s[0] == 'M' ? MOD_ALT
                     : s[0] == 'S' ? MOD_SHIFT
                                   : 0;
        if (!m)
            return KEY_NONE;
        mods |= m;
        s += 2;
        n -= 2;
    }
    for (size_t i = 0; i < NNAMES; i++)
        if (strlen(NAMES[i].name) == n && memcmp(NAMES[i].name, s, n) == 0)
            return mods | NAMES[i].key;
    if (n >= 2 && n <= 3 && s[0] == 'F') {
        uint32_t k = 0;
        for (size_t i = 1; i < n; i++) {
            if (s[i] < '0' || s[i] > '9')
                return KEY_NONE;
            k = k * 10 + (uint32_t)(s[i] - '0');
        }
        return k >= 1 && k <= 12 ? mods | (KEY_F1 + k - 1) : KEY_NONE;
    }
    if (n == 0 || utf8_decode(s, n, &cp) != n || cp < 0x21 || cp == 0x7f ||
        cp == UTF8_BAD)
        return KEY_NONE;
    if (mods & MOD_SHIFT || (mods & MOD_CTRL && cp >= 'A' && cp <= 'Z'))
        return KEY_NONE; /* capitals are written as such */
    return mods | cp;
}

size_t key_name(uint32_t key, char *buf, size_t cap) {
    char tmp[32], glyph[5] = "";
    const char *name = NULL;
    uint32_t base = key & ~MOD_MASK;
    for (size_t i = 0; i < NNAMES && !name; i++)
        if (NAMES[i].key == base)
            name = NAMES[i].name;
    if (!name && base >= KEY_F1 && base <= KEY_F12) {
        snprintf(tmp, sizeof tmp, "F%u", (unsigned)(base - KEY_F1 + 1));
        name = tmp;
    }
    if (!name) {
        if (base < KEY_FIRST)
            glyph[utf8_encode(base, glyph)] = 0;
        name = glyph;
    }
    int n =
        snprintf(buf, cap, "%s%s%s%s", key & MOD_CTRL ? "C-" : "",
                 key & MOD_ALT ? "M-" : "", key & MOD_SHIFT ? "S-" : "", name);
    return n > 0 ? (size_t)n : 0;
}

uint32_t key_text(uint32_t key) {
    if (key & MOD_MASK || key < 32 || key == 127 || key >= KEY_FIRST)
        return 0;
    return key;
}
