/*
 * unicode - what characters are, as Hugging Face's tokenizers sees them: its
 * parts come from several editions of Unicode (tests/peer/gen_unicode.py).
 *
 *     uint32_t c;
 *     for (size_t i = 0; i < len; i += uni_get(s + i, &c))
 *         letters += uni_gc(c) <= UNI_LO;
 *
 * Constant tables; any thread.
 */
#ifndef FETTLE_CORE_TEXT_UNICODE_H
#define FETTLE_CORE_TEXT_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UNI_MAX 0x10ffff

/* General categories, grouped by their first letter. */
/* clang-format off */
#define UNI_GC(X) \
    X(LU, "Lu") X(LL, "Ll") X(LT, "Lt") X(LM, "Lm") X(LO, "Lo") X(MN, "Mn") \
    X(MC, "Mc") X(ME, "Me") X(ND, "Nd") X(NL, "Nl") X(NO, "No") X(PC, "Pc") \
    X(PD, "Pd") X(PS, "Ps") X(PE, "Pe") X(PI, "Pi") X(PF, "Pf") X(PO, "Po") \
    X(SM, "Sm") X(SC, "Sc") X(SK, "Sk") X(SO, "So") X(ZS, "Zs") X(ZL, "Zl") \
    X(ZP, "Zp") X(CC, "Cc") X(CF, "Cf") X(CO, "Co") X(CS, "Cs") X(CN, "Cn")
/* clang-format on */
enum uni_gc {
#define UNI_ENUM(id, name) UNI_##id,
    UNI_GC(UNI_ENUM)
#undef UNI_ENUM
        UNI_GC_N
};

/* ---- tables (unidata.c) ---- */

struct urange {
    uint32_t from, to;
};
struct umoved { /* had this category in Unicode 14, the oldest PCRE2's */
    uint32_t from, to;
    uint8_t was;
};
struct upair {
    uint32_t from, to;
};
struct uform {
    uint8_t ccc;       /* canonical combining class */
    uint8_t nfc_maybe; /* may not stay as it is in NFC */
    /* Offsets in uni_form_text (length, characters); 0 = itself. */
    uint16_t canonical, compatible;
};
struct ucompose {
    uint32_t a, b, c;
};

struct uscript {
    uint32_t from, to;
    uint8_t id; /* > 0; 0 goes with any other */
};

/* A class byte: category, and these. */
#define UNI_SPACE 0x20
#define UNI_HAN 0x40
#define UNI_WORD 0x80
extern const uint16_t uni_class_block[];
extern const uint8_t uni_class_value[];
extern const uint16_t uni_form_block[], uni_form_value[];
extern const struct uform uni_forms[];
extern const uint32_t uni_form_text[];

extern const char *const uni_version; /* of the classes */
extern const struct umoved uni_moved[];
extern const int uni_moved_n;
extern const struct upair uni_lowercase[];
extern const int uni_lowercase_n;
extern const struct ucompose uni_compose[];
extern const int uni_compose_n;
extern const struct uscript uni_scripts[]; /* uniscript.c */
extern const int uni_scripts_n;

#define UNI_RANGES(X) \
    X(uni_alpha)          /* [[:alpha:]] */ \
    X(uni_upper)          /* [[:upper:]] */ \
    X(uni_lower)          /* [[:lower:]] */ \
    X(uni_number_new)     /* numbers for Digits that \p{N} lacks */ \
    X(uni_bert_punct)     /* Punctuation, BertPreTokenizer */ \
    X(uni_bert_control)   /* what BertNormalizer cleans away */ \
    X(uni_bert_han)       /* what BertNormalizer puts spaces around */ \
    X(uni_mark_old)       /* StripAccents */ \
    X(uni_nonspacing_old) /* strip_accents of BertNormalizer */
#define UNI_EXTERN(name) \
    extern const struct urange name[]; \
    extern const int name##_n;
UNI_RANGES(UNI_EXTERN)
#undef UNI_EXTERN

/* ---- questions ---- */

static inline uint8_t uni_class(uint32_t c) {
    return uni_class_value[uni_class_block[c >> 7] * 128u + (c & 127)];
}
static inline enum uni_gc uni_gc(uint32_t c) {
    return (enum uni_gc)(uni_class(c) & 31);
}
static inline bool uni_is_space(uint32_t c) { return uni_class(c) & UNI_SPACE; }
static inline const struct uform *uni_form(uint32_t c) {
    return &uni_forms[uni_form_value[uni_form_block[c >> 6] * 64u + (c & 63)]];
}
/* Is c in sorted ranges? UNI_IN(uni_alpha, c) */
bool uni_in(const struct urange *r, int n, uint32_t c);
#define UNI_IN(name, c) uni_in(name, name##_n, c)

/* The lower case of c in out; how many characters. */
int uni_lower_of(uint32_t c, uint32_t out[2]);
/* The number of c's script, 0: of any. */
uint8_t uni_script(uint32_t c);
/* a and b composed, or 0. */
uint32_t uni_composed(uint32_t a, uint32_t b);
/* The full decomposition of c in out; how many characters. */
#define UNI_DECOMPOSED_MAX 18
int uni_decomposed(uint32_t c, bool compatible,
                   uint32_t out[UNI_DECOMPOSED_MAX]);

/* ---- UTF-8, valid ---- */

/* Not the first byte of a character. */
static inline bool uni_is_inner(char c) {
    return ((unsigned char)c & 0xc0) == 0x80;
}

/* The character at s; its bytes. */
static inline int uni_get(const char *text, uint32_t *c) {
    const unsigned char *s = (const unsigned char *)text;
    if (s[0] < 0x80) {
        *c = s[0];
        return 1;
    }
    if (s[0] < 0xe0) {
        *c = (s[0] & 0x1fu) << 6 | (s[1] & 0x3fu);
        return 2;
    }
    if (s[0] < 0xf0) {
        *c = (s[0] & 0xfu) << 12 | (s[1] & 0x3fu) << 6 | (s[2] & 0x3fu);
        return 3;
    }
    *c = (s[0] & 7u) << 18 | (s[1] & 0x3fu) << 12 | (s[2] & 0x3fu) << 6 |
         (s[3] & 0x3fu);
    return 4;
}
/* c at s; its bytes. */
int uni_put(uint32_t c, char s[4]);

#endif
