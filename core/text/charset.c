/*
 * charset: ranges of characters.
 *
 * Categories are Unicode 16's, as Oniguruma's; PCRE2 may be of an older
 * edition, so a category is only named to it for what both agree upon
 * (uni_moved), and the rest is spelt out.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "core/text/charset.h"

#include <pcre2.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define BIT(gc) (1u << UNI_##gc)
#define L_BITS (BIT(LU) | BIT(LL) | BIT(LT) | BIT(LM) | BIT(LO))
#define M_BITS (BIT(MN) | BIT(MC) | BIT(ME))
#define N_BITS (BIT(ND) | BIT(NL) | BIT(NO))
#define P_BITS \
    (BIT(PC) | BIT(PD) | BIT(PS) | BIT(PE) | BIT(PI) | BIT(PF) | BIT(PO))
#define S_BITS (BIT(SM) | BIT(SC) | BIT(SK) | BIT(SO))
#define Z_BITS (BIT(ZS) | BIT(ZL) | BIT(ZP))
#define C_BITS (BIT(CC) | BIT(CF) | BIT(CO) | BIT(CS) | BIT(CN))
#define ALL_BITS ((1u << UNI_GC_N) - 1)

/* A name's characters: of a category, of a class bit, in ranges. */
struct prop {
    const char *name;
    uint32_t gc;
    uint8_t bits;
    const struct urange *r;
    const int *n;
};

static const struct prop props[] = {
#define PROP_GC(id, text) {text, 1u << UNI_##id, 0, NULL, NULL},
    UNI_GC(PROP_GC)
#undef PROP_GC
        {"L", L_BITS, 0, NULL, NULL},
    {"M", M_BITS, 0, NULL, NULL},
    {"N", N_BITS, 0, NULL, NULL},
    {"P", P_BITS, 0, NULL, NULL},
    {"S", S_BITS, 0, NULL, NULL},
    {"Z", Z_BITS, 0, NULL, NULL},
    {"C", C_BITS, 0, NULL, NULL},
    {"Letter", L_BITS, 0, NULL, NULL},
    {"Mark", M_BITS, 0, NULL, NULL},
    {"Number", N_BITS, 0, NULL, NULL},
    {"Punctuation", P_BITS, 0, NULL, NULL},
    {"Punct", P_BITS, 0, NULL, NULL},
    {"Symbol", S_BITS, 0, NULL, NULL},
    {"Separator", Z_BITS, 0, NULL, NULL},
    {"Other", C_BITS, 0, NULL, NULL},
    {"Any", ALL_BITS, 0, NULL, NULL},
    {"Han", 0, UNI_HAN, NULL, NULL},
    {"White_Space", 0, UNI_SPACE, NULL, NULL},
    {"Space", 0, UNI_SPACE, NULL, NULL},
    {"Word", 0, UNI_WORD, NULL, NULL},
    {"Alphabetic", 0, 0, uni_alpha, &uni_alpha_n},
    {"Alpha", 0, 0, uni_alpha, &uni_alpha_n},
    {"Alnum", BIT(ND), 0, uni_alpha, &uni_alpha_n},
    {"Uppercase", 0, 0, uni_upper, &uni_upper_n},
    {"Upper", 0, 0, uni_upper, &uni_upper_n},
    {"Lowercase", 0, 0, uni_lower, &uni_lower_n},
    {"Lower", 0, 0, uni_lower, &uni_lower_n},
    {"Digit", BIT(ND), 0, NULL, NULL},
    {"Cntrl", BIT(CC), 0, NULL, NULL},
};

static const struct urange hex[] = {{'0', '9'}, {'A', 'F'}, {'a', 'f'}};
static const struct urange tab[] = {{'\t', '\t'}}, ascii[] = {{0, 0x7f}};
static const int one = 1, three = 3;

#define GRAPH_BITS (ALL_BITS & ~(Z_BITS | BIT(CC) | BIT(CS) | BIT(CN)))

/* [[:name:]], where it is another set than the property's. */
static const struct prop brackets[] = {
    {"punct", P_BITS | S_BITS, 0, NULL, NULL},
    {"blank", BIT(ZS), 0, tab, &one},
    {"graph", GRAPH_BITS, 0, NULL, NULL},
    {"print", GRAPH_BITS | BIT(ZS), 0, NULL, NULL},
    {"xdigit", 0, 0, hex, &three},
    {"ascii", 0, 0, ascii, &one},
};

void charset_release(struct charset *s) {
    free(s->r);
    memset(s, 0, sizeof *s);
}

static void push(struct charset *s, uint32_t from, uint32_t to) {
    if (s->n == s->cap) {
        s->cap = s->cap ? 2 * s->cap : 16;
        s->r = realloc(s->r, (size_t)s->cap * sizeof *s->r);
        CHECK(s->r, "out of memory for a class of characters");
    }
    s->r[s->n++] = (struct urange){from, to};
}

static int by_from(const void *a, const void *b) {
    const struct urange *x = a, *y = b;
    return (x->from > y->from) - (x->from < y->from);
}

/* Sorted, and no two touch. */
static void tidy(struct charset *s) {
    int n = 0;
    qsort(s->r, (size_t)s->n, s->n ? sizeof *s->r : 1, by_from);
    for (int i = 0; i < s->n; i++) {
        if (n && s->r[i].from <= s->r[n - 1].to + 1) {
            if (s->r[i].to > s->r[n - 1].to)
                s->r[n - 1].to = s->r[i].to;
        } else {
            s->r[n++] = s->r[i];
        }
    }
    s->n = n;
}

void charset_add(struct charset *s, uint32_t from, uint32_t to) {
    push(s, from, to);
    if (s->n > 1)
        tidy(s);
}

void charset_union(struct charset *s, const struct charset *with) {
    for (int i = 0; i < with->n; i++)
        push(s, with->r[i].from, with->r[i].to);
    if (s->n)
        tidy(s);
}

void charset_invert(struct charset *s) {
    struct charset out = {0};
    uint32_t next = 0;
    for (int i = 0; i < s->n; i++) {
        if (s->r[i].from > next)
            push(&out, next, s->r[i].from - 1);
        next = s->r[i].to + 1;
    }
    if (next <= UNI_MAX)
        push(&out, next, UNI_MAX);
    charset_release(s);
    *s = out;
}

void charset_intersect(struct charset *s, const struct charset *with) {
    struct charset out = {0};
    for (int i = 0, j = 0; i < s->n && j < with->n;) {
        const struct urange *a = &s->r[i], *b = &with->r[j];
        uint32_t from = a->from > b->from ? a->from : b->from;
        uint32_t to = a->to < b->to ? a->to : b->to;
        if (from <= to)
            push(&out, from, to);
        if (a->to < b->to)
            i++;
        else
            j++;
    }
    charset_release(s);
    *s = out;
}

bool charset_has(const struct charset *s, uint32_t c) {
    return uni_in(s->r, s->n, c);
}

/* Is the block of 128 characters at c the same as the one before? */
static bool same_block(uint32_t c) {
    return c >= 128 && c % 128 == 0 &&
           uni_class_block[c >> 7] == uni_class_block[(c >> 7) - 1];
}

/* Characters whose category is in gc, or that have one of the class bits. */
static void add_classes(struct charset *s, uint32_t gc, uint8_t bits) {
    uint32_t from = 0;
    bool in = false, mixed = true; /* the last block has both kinds */
    for (uint32_t c = 0; c <= UNI_MAX; c++) {
        if (!mixed && same_block(c)) {
            c += 127;
            continue;
        }
        uint8_t v = uni_class(c);
        bool now = (gc >> (v & 31) & 1) || (v & bits);
        mixed = c % 128 && (mixed || now != in);
        if (now && !in)
            from = c;
        if (!now && in)
            push(s, from, c - 1);
        in = now;
    }
    if (in)
        push(s, from, UNI_MAX);
    if (s->n)
        tidy(s);
}

static bool same_name(const char *want, const char *name, size_t len) {
    size_t i = 0;
    for (;; want++) {
        while (i < len && strchr(" _-", name[i]))
            i++;
        while (*want == '_')
            want++;
        if (!*want || i == len)
            return !*want && i == len;
        if (strncasecmp(want, name + i++, 1) != 0)
            return false;
    }
}

static bool add_named(struct charset *s, const struct prop *p, size_t n,
                      const char *name, size_t len) {
    for (; n > 0; n--, p++) {
        if (!same_name(p->name, name, len))
            continue;
        if (p->gc || p->bits)
            add_classes(s, p->gc, p->bits);
        for (int i = 0; p->r && i < *p->n; i++)
            push(s, p->r[i].from, p->r[i].to);
        if (p->r)
            tidy(s);
        return true;
    }
    return false;
}

bool charset_prop(struct charset *s, const char *name, size_t len) {
    if (memchr(name, 0, len))
        return false;
    return add_named(s, props, sizeof props / sizeof *props, name, len);
}

bool charset_bracket(struct charset *s, const char *name, size_t len) {
    static const char *const as_prop[] = {"alnum", "alpha", "cntrl", "digit",
                                          "lower", "space", "upper", "word"};
    for (size_t i = 0; i < sizeof as_prop / sizeof *as_prop; i++)
        if (strlen(as_prop[i]) == len && memcmp(as_prop[i], name, len) == 0)
            return charset_prop(s, name, len);
    for (size_t i = 0; i < sizeof brackets / sizeof *brackets; i++)
        if (strlen(brackets[i].name) == len &&
            memcmp(brackets[i].name, name, len) == 0)
            return add_named(s, &brackets[i], 1, name, len);
    return false;
}

bool charset_fold(struct charset *s) {
    struct charset more = {0};
    bool all_simple = true;
    for (uint32_t c = 'a'; c <= 'z'; c++) {
        bool k = c == 'k' && charset_has(s, 0x212a); /* Kelvin */
        bool l = c == 's' && charset_has(s, 0x17f);  /* long s */
        if (!charset_has(s, c) && !charset_has(s, c - 32) && !k && !l)
            continue;
        push(&more, c, c);
        push(&more, c - 32, c - 32);
        if (c == 'k')
            push(&more, 0x212a, 0x212a);
        if (c == 's')
            push(&more, 0x17f, 0x17f);
    }
    charset_union(s, &more);
    charset_release(&more);
    for (int i = 0; i < uni_lowercase_n; i++)
        if (charset_has(s, uni_lowercase[i].from) !=
            charset_has(s, uni_lowercase[i].to))
            all_simple = false;
    return all_simple;
}

/* ---- for PCRE2 ---- */

/* Categories of which PCRE2's edition has no character that Unicode 16 has
 * elsewhere; all of them when it is of the same edition. */
static uint32_t safe_categories(void) {
    char version[32] = "";
    uint32_t safe = ALL_BITS;
    int n = pcre2_config(PCRE2_CONFIG_UNICODE_VERSION, NULL);
    if (n < 0 || n > (int)sizeof version)
        return 0;
    pcre2_config(PCRE2_CONFIG_UNICODE_VERSION, version);
    if (strcmp(version, uni_version) == 0)
        return safe;
    if (strncmp(version, "14.", 3) != 0 && strncmp(version, "15.", 3) != 0)
        return 0;
    for (int i = 0; i < uni_moved_n; i++)
        safe &= ~(1u << uni_moved[i].was);
    return safe;
}

/* Categories that lie in the set as a whole. */
static uint32_t whole_categories(const struct charset *s) {
    uint32_t whole = ALL_BITS, c = 0;
    for (int i = 0; i <= s->n; i++) {
        uint32_t from = c, end = i < s->n ? s->r[i].from : UNI_MAX + 1;
        while (c < end) {
            if (same_block(c) && c >= from + 128 && c + 128 <= end) {
                c += 128;
                continue;
            }
            whole &= ~(1u << uni_gc(c++));
        }
        if (i < s->n)
            c = s->r[i].to + 1;
    }
    return whole;
}

/* The members of s that the named categories leave out. */
static void subtract_named(struct charset *s, uint32_t named) {
    struct charset agreed = {0}, moved = {0};
    add_classes(&agreed, named | 1u << UNI_CS, 0);
    for (int i = 0; i < uni_moved_n; i++)
        push(&moved, uni_moved[i].from, uni_moved[i].to);
    tidy(&moved);
    charset_invert(&moved);
    charset_intersect(&agreed, &moved);
    charset_invert(&agreed);
    charset_intersect(s, &agreed);
    charset_release(&agreed);
    charset_release(&moved);
}

static void emit_names(uint32_t named, struct buf *out) {
    static const char *const names[] = {
#define NAME(id, text) text,
        UNI_GC(NAME)
#undef NAME
    };
    if ((named & L_BITS) == L_BITS) {
        buf_puts(out, "\\p{L}");
        named &= ~L_BITS;
    }
    for (int g = 0; g < UNI_GC_N; g++)
        if (named >> g & 1)
            buf_printf(out, "\\p{%s}", names[g]);
}

void charset_emit(const struct charset *s, struct buf *out) {
    struct charset rest = {0};
    if (s->n == 0) {
        buf_puts(out, "(?!)");
        return;
    }
    if (s->n == 1 && s->r[0].from == s->r[0].to) {
        buf_printf(out, "\\x{%x}", s->r[0].from);
        return;
    }
    /* Unassigned characters: in the set, so better say what is not in it. */
    bool not = charset_has(s, UNI_MAX) && (s->n > 1 || s->r[0].from > 0);
    charset_union(&rest, s);
    if (not )
        charset_invert(&rest);
    uint32_t named = whole_categories(&rest) & safe_categories();
    subtract_named(&rest, named);
    buf_puts(out, not ? "[^" : "[");
    emit_names(named, out);
    for (int i = 0; i < rest.n; i++) {
        const struct urange *r = &rest.r[i];
        buf_printf(out, r->to > r->from ? "\\x{%x}-\\x{%x}" : "\\x{%x}",
                   r->from, r->to);
    }
    /* (an empty class is none; text has no surrogates) */
    buf_puts(out, rest.n || named ? "]" : "\\p{Cs}]");
    charset_release(&rest);
}
