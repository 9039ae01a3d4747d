#!/usr/bin/env python3
"""Writes tui/width_table.h from Python's Unicode data. Run it again for a
newer Unicode: python3 tests/tui/gen_width.py > tui/width_table.h"""
import sys
import unicodedata as u

NAMED = set([0x61C, 0x200B, 0x200E, 0x200F, 0x2028, 0x2029, 0xFEFF, 0xAD,
             0x115F, 0x1160, 0x3164, 0xFFA0])
NAMED |= set(range(0x80, 0xA0)) | set(range(0x202A, 0x202F))
NAMED |= set(range(0x2060, 0x2070)) | set(range(0xFFF9, 0xFFFC))
NAMED |= set(range(0xE0000, 0xE0080)) | set(range(0xE0100, 0xE01F0))


def classify(cp):
    ch = chr(cp)
    cat = u.category(ch)
    if cp < 0x20 or cp == 0x7F:
        return 'C'
    if cp in (0x200C, 0x200D):
        return 'J'
    if 0xFE00 <= cp <= 0xFE0F or cp in (0x180B, 0x180C, 0x180D, 0x180F):
        return 'V'
    if cp in NAMED or cat == 'Cf':
        return 'N'
    if cat in ('Cn', 'Co', 'Cs'):
        return 'B'
    if cat in ('Mn', 'Me') or 0x1160 <= cp <= 0x11FF or 0xD7B0 <= cp <= 0xD7FF:
        return 'Z'
    if 0x1F3FB <= cp <= 0x1F3FF:
        return 'T'
    return 'W' if u.east_asian_width(ch) in 'WF' else ''


rows, start, last = [], 0, ''
for cp in range(0x110001):
    k = classify(cp) if cp < 0x110000 else None
    if k != last:
        if last:
            rows.append((start, cp - 1, last))
        start, last = cp, k
out = sys.stdout
out.write("/*\n * width_table - what kind of character each range is; a range"
          " that is not here\n * is printed in one cell. Unicode %s; written"
          " by tests/tui/gen_width.py.\n * Private to width.c.\n */\n"
          % u.unidata_version)
out.write("""#ifndef FETTLE_TUI_WIDTH_TABLE_H
#define FETTLE_TUI_WIDTH_TABLE_H

#include <stdint.h>

enum {
    KIND_PLAIN,   /* one cell */
    KIND_CONTROL, /* C0, DEL */
    KIND_JOINER,  /* U+200C, U+200D */
    KIND_VARIANT, /* variation selectors */
    KIND_NAMED,   /* invisible or reordering: shown by name */
    KIND_BAD,     /* unassigned, private, surrogate */
    KIND_ZERO,    /* combining */
    KIND_TONE,    /* emoji skin tones */
    KIND_WIDE     /* two cells */
};
#define C KIND_CONTROL
#define J KIND_JOINER
#define V KIND_VARIANT
#define N KIND_NAMED
#define B KIND_BAD
#define Z KIND_ZERO
#define T KIND_TONE
#define W KIND_WIDE

struct width_range {
    uint32_t lo, hi;
    uint8_t kind;
};

/* clang-format off */
static const struct width_range WIDTH_RANGES[] = {
""")
line = ''
for lo, hi, k in rows:
    item = '{0x%X,0x%X,%s},' % (lo, hi, k)
    if len(line) + len(item) > 79:
        out.write(line + '\n')
        line = ''
    line += item
out.write(line + '\n};\n/* clang-format on */\n\n')
for k in 'CJVNBZTW':
    out.write('#undef %s\n' % k)
out.write('\n#endif\n')
