#!/usr/bin/env python3
"""core/text/unidata.c: what Hugging Face's tokenizers takes each character for.

usage: gen_unicode.py > core/text/unidata.c
       gen_unicode.py --scripts > core/text/uniscript.c

Measured, character by character, on the installed `tokenizers` (0.23.3 when
the tables were made), because its parts come from different editions of
Unicode: regular expressions (Oniguruma) from 16.0, Digits and Lowercase (Rust)
from 17.0, normal forms, accents and punctuation from crates of 2017. Raw
decomposition pairs and combining classes are those of unicodedata2 16.0.0.
Needs tokenizers and unicodedata2==16.0.0 (regex for --scripts); prints what it measured on stderr.
"""
import sys, unicodedata

import unicodedata2 as ucd
from tokenizers import Regex, __version__, normalizers as N, pre_tokenizers as P

SCALARS = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
ALL = "".join(map(chr, SCALARS))
SPACED = "a".join(map(chr, SCALARS))
GC = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co Cs Cn".split()
HANGUL = range(0xAC00, 0xD7A4)


def regex_class(pattern):
    left = set()
    for _, (a, b) in P.Split(Regex(pattern), "removed").pre_tokenize_str(ALL):
        left.update(range(a, b))
    return {c for i, c in enumerate(SCALARS) if i not in left}


def isolated(pre):
    return {ord(s) for s, (a, b) in pre.pre_tokenize_str(SPACED) if b - a == 1 and a % 2 == 0}


def changed(norm):
    return {c: t for c in SCALARS if (t := norm.normalize_str(chr(c))) != chr(c)}


def runs(points):
    out = []
    for c in sorted(points):
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def array(kind, name, items, per=8):
    print(f"\nconst {kind} {name}[] = {{")
    for i in range(0, len(items), per):
        print("    " + " ".join(f"{x}," for x in items[i:i + per]))
    print("};")


def ranges(name, points):
    r = [f"{{{a:#x}, {b:#x}}}" for a, b in runs(points)]
    array("struct urange", name, r, 5)
    print(f"const int {name}_n = {len(r)};")


def two_level(name, kind, value, shift):
    blocks, index = {}, []
    for hi in range(0x110000 >> shift):
        block = tuple(value(c) for c in range(hi << shift, (hi + 1) << shift))
        index.append(blocks.setdefault(block, len(blocks)))
    array("uint16_t", f"{name}_block", index, 16)
    array(kind, f"{name}_value", [v for b in blocks for v in b], 24)
    print(f"{name}: {len(blocks)} blocks", file=sys.stderr)


def classes():
    gc = {}
    for name in GC:
        for c in regex_class(r"\p{%s}" % name):
            assert c not in gc
            gc[c] = GC.index(name)
    assert all(GC[gc[c]] == ucd.category(chr(c)) for c in SCALARS), "Oniguruma is not at Unicode 16"
    space, han = regex_class(r"\s"), regex_class(r"\p{Han}")
    word = regex_class("[[:word:]]")
    for c in range(0xD800, 0xE000):
        gc[c] = GC.index("Cs")
    two_level("uni_class", "uint8_t",
              lambda c: gc[c] | (c in space) << 5 | (c in han) << 6 | (c in word) << 7, 7)
    moved = [(c, unicodedata.category(chr(c))) for c in SCALARS if unicodedata.category(chr(c)) != GC[gc[c]]]
    assert unicodedata.unidata_version == "14.0.0", "needs a Python whose unicodedata is 14.0.0"
    out = []
    for c, old in moved:
        if out and out[-1][1] == c - 1 and out[-1][2] == old:
            out[-1][1] = c
        else:
            out.append([c, c, old])
    array("struct umoved", "uni_moved", [f"{{{a:#x}, {b:#x}, UNI_{o.upper()}}}" for a, b, o in out], 4)
    print(f"const int uni_moved_n = {len(out)};")
    ranges("uni_alpha", regex_class("[[:alpha:]]"))
    ranges("uni_upper", regex_class("[[:upper:]]"))
    ranges("uni_lower", regex_class("[[:lower:]]"))
    number = {c for c in SCALARS if GC[gc[c]] in ("Nd", "Nl", "No")}
    digits = isolated(P.Digits(True))
    assert number < digits
    ranges("uni_number_new", digits - number)
    ranges("uni_bert_punct", isolated(P.Punctuation("isolated")))


def normal_forms():
    forms = {n: changed(getattr(N, n)()) for n in ("NFC", "NFD", "NFKC", "NFKD")}
    mark = set(changed(N.StripAccents()))
    mark = {c for c in mark if N.StripAccents().normalize_str(chr(c)) == ""}
    nonspacing = {c for c, t in changed(N.BertNormalizer(False, False, True, False)).items() if t == ""}
    clean = {c for c, t in changed(N.BertNormalizer(True, False, False, False)).items() if t == ""}
    ranges("uni_mark_old", mark)
    ranges("uni_nonspacing_old", nonspacing)
    ranges("uni_bert_control", clean)
    han = {c for c in SCALARS if N.BertNormalizer(False, True, False, False).normalize_str(chr(c)) != chr(c)}
    ranges("uni_bert_han", han)
    lower = changed(N.Lowercase())
    single = [(c, ord(t)) for c, t in lower.items() if len(t) == 1]
    assert [c for c, t in lower.items() if len(t) > 1] == [0x130]
    array("struct upair", "uni_lowercase", [f"{{{a:#x}, {b:#x}}}" for a, b in single], 5)
    print(f"const int uni_lowercase_n = {len(single)};")

    # A combining class belongs to a mark that their crate knows.
    ccc = {c: ucd.combining(chr(c)) for c in mark if ucd.combining(chr(c))}
    text, at = [], {"": 0}
    text.append(0)

    def place(t):
        if t not in at:
            at[t] = len(text)
            text.extend([len(t)] + [ord(x) for x in t])
        return at[t]
    pairs = []
    for c in SCALARS:
        raw = ucd.decomposition(chr(c)).split()
        if c in forms["NFD"] and c not in HANGUL and c not in forms["NFC"] and len(raw) == 2:
            a, b = (int(x, 16) for x in raw)
            assert N.NFC().normalize_str(chr(a) + chr(b)) == chr(c), hex(c)
            pairs.append((a, b, c))
    # May not stay as it is in NFC: composes backwards, is reordered, or changes.
    second = {b for _, b, _ in pairs} | set(range(0x1161, 0x1176)) | set(range(0x11A8, 0x11C3))
    unsafe = second | set(ccc) | set(forms["NFC"])
    records, of = {(0, 0, 0, 0): 0}, {}
    for c in SCALARS:
        if c in HANGUL:
            continue
        d, k = forms["NFD"].get(c, ""), forms["NFKD"].get(c, "")
        r = (ccc.get(c, 0), int(c in unsafe), place(d), place(k))
        of[c] = records.setdefault(r, len(records))
    two_level("uni_form", "uint16_t", lambda c: of.get(c, 0), 6)
    array("struct uform", "uni_forms", [f"{{{a}, {b}, {c}, {d}}}" for a, b, c, d in records], 8)
    array("uint32_t", "uni_form_text", [f"{x:#x}" if x > 9 else x for x in text], 12)

    array("struct ucompose", "uni_compose", [f"{{{a:#x}, {b:#x}, {c:#x}}}" for a, b, c in sorted(pairs)], 4)
    print(f"const int uni_compose_n = {len(pairs)};")



SCRIPTS = """Adlam Ahom Anatolian_Hieroglyphs Arabic Armenian Avestan Balinese Bamum Bassa_Vah Batak Bengali Bhaiksuki Bopomofo
Brahmi Braille Buginese Buhid Canadian_Aboriginal Carian Caucasian_Albanian Chakma Cham Cherokee Common Coptic Cuneiform Cypriot
Cyrillic Deseret Devanagari Duployan Egyptian_Hieroglyphs Elbasan Ethiopic Georgian Glagolitic Gothic Grantha Greek Gujarati
Gurmukhi Han Hangul Hanunoo Hatran Hebrew Hiragana Imperial_Aramaic Inherited Inscriptional_Pahlavi Inscriptional_Parthian Javanese
Kaithi Kannada Katakana Kayah_Li Kharoshthi Khmer Khojki Khudawadi Lao Latin Lepcha Limbu Linear_A Linear_B Lisu Lycian Lydian
Mahajani Malayalam Mandaic Manichaean Marchen Meetei_Mayek Mende_Kikakui Meroitic_Cursive Meroitic_Hieroglyphs Miao Modi Mongolian
Mro Multani Myanmar Nabataean New_Tai_Lue Newa Nko Ogham Ol_Chiki Old_Hungarian Old_Italic Old_North_Arabian Old_Permic Old_Persian
Old_South_Arabian Old_Turkic Oriya Osage Osmanya Pahawh_Hmong Palmyrene Pau_Cin_Hau Phags_Pa Phoenician Psalter_Pahlavi Rejang Runic
Samaritan Saurashtra Sharada Shavian Siddham SignWriting Sinhala Sora_Sompeng Sundanese Syloti_Nagri Syriac Tagalog Tagbanwa Tai_Le
Tai_Tham Tai_Viet Takri Tamil Tangut Telugu Thaana Thai Tibetan Tifinagh Tirhuta Ugaritic Vai Warang_Citi Yi""".split()
# Moved since their table, or put elsewhere by them.
SCRIPT_OF = {0x30FC: "Han", 0x953: "Devanagari", 0x954: "Devanagari", 0x589: "Common", 0x61C: "Common"}


def joined(before, chars, after):
    """Of chars, those that stay in one piece with what stands before them."""
    text = "".join(before + c + after for c in chars)
    starts = {a for _, (a, b) in P.UnicodeScripts().pre_tokenize_str(text)}
    return {c for i, c in enumerate(chars) if 3 * i + 1 not in starts}


def scripts():
    import regex
    of = {}
    for name in SCRIPTS:
        for m in regex.finditer(r"\p{sc=%s}+" % name, ALL):
            of.update((c, "Han" if name in ("Hiragana", "Katakana") else name) for c in m.group())
    of.update((chr(c), name) for c, name in SCRIPT_OF.items())
    any_ = joined("\u0431", sorted(joined("a", ALL, "\u0628")), "\u0628") | {c for c in ALL if c not in of}
    known = [c for c in ALL if c not in any_]
    for name in set(of.values()):
        chars = [c for c in known if of[c] == name]
        other = "\u0628" if name != "Arabic" else "a"
        assert len(joined(chars[0], chars, other)) == len(chars), name
    out = []
    for c in known:
        if out and out[-1][1] == ord(c) - 1 and out[-1][2] == of[c]:
            out[-1][1] = ord(c)
        else:
            out.append([ord(c), ord(c), of[c]])
    ids = sorted(set(of.values()))
    print(f"""/*
 * uniscript: made by tests/peer/gen_unicode.py --scripts, do not edit. What
 * UnicodeScripts of tokenizers {__version__} takes for one script.
 */
/* clang-format off */
#include "core/text/unicode.h\"""")
    array("struct uscript", "uni_scripts", [f"{{{a:#x}, {b:#x}, {ids.index(n) + 1}}}" for a, b, n in out], 4)
    print(f"const int uni_scripts_n = {len(out)};")


if "--scripts" in sys.argv:
    scripts()
    sys.exit()

print(f"""/*
 * unidata: made by tests/peer/gen_unicode.py, do not edit. From tokenizers
 * {__version__}; regular expressions see Unicode {ucd.unidata_version}.
 */
/* clang-format off */
#include "core/text/unicode.h"

const char *const uni_version = "{ucd.unidata_version}";""")
classes()
normal_forms()
