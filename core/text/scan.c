/*
 * scan: each family of patterns is a function over classes of characters.
 *
 * A class is one bit; a scanner's tables give it for ASCII and for a class
 * byte of unicode.h. Tables depend on the row of `families`: which letters,
 * how many digits, and so on. Where an alternative of the pattern could give
 * back what it took (letters of both cases), the comment says how that ends.
 */
#include "core/text/scan.h"
#include "core/err.h"
#include "core/text/unicode.h"

#include <endian.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum {                     /* classes */
       UP = 1,             /* Lu Lt */
       LOW = 2,            /* Ll */
       BOTH = 4,           /* Lm Lo: of both cases */
       MARK = 8,           /* M */
       NUM = 16,           /* N */
       WS = 32,            /* White_Space, not CR LF */
       CRLF = 64,          /* CR LF */
       OTHER = 128,        /* the rest */
       HAN = 256,          /* Script Han, where a row asks; beside another */
       PS = 512,           /* P S, where a row asks; otherwise OTHER */
       KANA_LETTER = 1024, /* what the second Split of deepseek3 takes */
       KANA_PS = 2048,
       KANA_OTHER = 4096,
       KANA_ANY = KANA_LETTER | KANA_PS | KANA_OTHER,
       LETTER = UP | LOW | BOTH,
       SPACE = WS | CRLF,
};

struct family;
typedef size_t scan_fn(const struct scan *x, const unsigned char *s, size_t at,
                       size_t len);

struct family {
    const char *name;
    const char *patterns[3];
    scan_fn *next;
    int digits;            /* in a piece */
    bool marks;            /* M are letters */
    bool contractions;     /* behind a word (cased) */
    bool end_first;        /* \s++$ comes before the other spaces */
    const char *tail;      /* what may follow other characters */
    bool han, signs, kana; /* classes that are told apart */
};

struct scan {
    const struct family *f;
    uint16_t ascii[128], wide[128]; /* wide: by uni_class() & 0x7f */
    uint16_t letters;               /* classes of a word */
    bool tail[128];
};

/* ---- steps ---- */

static inline uint32_t code_at(const unsigned char *s, size_t at, int *n) {
    uint32_t c;
    *n = uni_get((const char *)s + at, &c);
    return c;
}

static uint16_t wide_class(const struct scan *x, uint32_t c) {
    uint16_t k = x->wide[uni_class(c) & 0x7f];
    if (x->f->kana &&
        ((c >= 0x4e00 && c <= 0x9fa5) || (c >= 0x3040 && c <= 0x30ff)))
        k = k & (LETTER | MARK) ? KANA_LETTER : k & PS ? KANA_PS : KANA_OTHER;
    return k;
}

/* Class of the character at `at` and its bytes; 0 at the end. */
static inline uint16_t class_at(const struct scan *x, const unsigned char *s,
                                size_t at, size_t len, int *n) {
    *n = 1;
    if (at >= len)
        return 0;
    if (s[at] < 0x80)
        return x->ascii[s[at]];
    uint32_t c = code_at(s, at, n);
    return wide_class(x, c);
}

/* The end of the run of characters that have a class in `in` and none in
 * `out`. */
static inline size_t run(const struct scan *x, const unsigned char *s,
                         size_t at, size_t len, uint16_t in, uint16_t out) {
    while (at < len) {
        int n = 1;
        uint16_t k =
            s[at] < 0x80 ? x->ascii[s[at]] : wide_class(x, code_at(s, at, &n));
        if (!(k & in) || (k & out))
            break;
        at += (size_t)n;
    }
    return at;
}

/* The end of the ASCII letters from `at` on, eight at a time: a loop over
 * single ones mispredicts its end in every word. fold: upper case, too. */
static inline size_t ascii_letters(const unsigned char *s, size_t at,
                                   size_t len, bool fold) {
    const uint64_t ones = 0x0101010101010101u, tops = ones << 7;
    while (at + 8 <= len) {
        uint64_t x, y;
        memcpy(&x, s + at, 8);
        x = le64toh(x);
        y = (fold ? x | 0x20 * ones : x) & ~tops;
        uint64_t other = ~((y + 0x1f * ones) & ~(y + 0x05 * ones) & ~x) & tops;
        if (other)
            return at + (size_t)__builtin_ctzll(other) / 8;
        at += 8;
    }
    while (at < len && (s[at] | (fold ? 0x20 : 0)) >= 'a' &&
           (s[at] | (fold ? 0x20 : 0)) <= 'z')
        at++;
    return at;
}

/* The run of a word's letters, among which ASCII's are. */
static inline size_t word(const struct scan *x, const unsigned char *s,
                          size_t at, size_t len, uint16_t in) {
    at = ascii_letters(s, at, len, true);
    return at < len && s[at] >= 0x80 ? run(x, s, at, len, in, 0) : at;
}

/* 's 't 're 've 'm 'll 'd at the apostrophe; its bytes or 0. */
static size_t contraction(const unsigned char *s, size_t at, size_t len,
                          bool fold) {
    unsigned fold_bit = fold ? 0x20 : 0;
    size_t n = len - at;
    if (n < 2 || s[at] != '\'')
        return 0;
    unsigned a = s[at + 1] | fold_bit, b = n > 2 ? s[at + 2] | fold_bit : 0;
    if (s[at + 1] < 0x80 && (a == 's' || a == 't' || a == 'm' || a == 'd'))
        return 2;
    if (n > 2 && s[at + 1] < 0x80 && s[at + 2] < 0x80 &&
        ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') ||
         (a == 'l' && b == 'l')))
        return 3;
    return fold && n > 2 && s[at + 1] == 0xc5 && s[at + 2] == 0xbf ? 3 : 0;
}

/* Up to max characters of a class. */
static size_t run_few(const struct scan *x, const unsigned char *s, size_t at,
                      size_t len, uint16_t in, int max) {
    for (int i = 0, n; i < max && (class_at(x, s, at, len, &n) & in); i++)
        at += (size_t)n;
    return at;
}

/* \s*[\r\n]+|\s+(?!\S)|\s+ at white space. lines: the first alternative
 * is there. The text ends for them where an earlier Split cut it. */
static size_t space(const struct scan *x, const unsigned char *s, size_t at,
                    size_t len, bool lines) {
    size_t line = 0, last = at, to = at;
    int n;
    uint16_t k;
    while ((k = class_at(x, s, to, len, &n)) & SPACE) {
        last = to;
        to += (size_t)n;
        if (k & CRLF)
            line = to;
    }
    bool end = !k || (x->f->kana && (k & (NUM | KANA_ANY)));
    if (lines && line && !(end && x->f->end_first))
        return line;
    return end || last == at ? to : last;
}

/* ` ?[^\s\p{L}\p{N}]+` and what may follow, from the first of them. */
static size_t others(const struct scan *x, const unsigned char *s, size_t at,
                     size_t len, uint16_t in) {
    at = run(x, s, at, len, in, 0);
    while (at < len && s[at] < 0x80 && x->tail[s[at]])
        at++;
    return at;
}

/* ---- gpt2 ---- */

static size_t next_gpt2(const struct scan *x, const unsigned char *s, size_t at,
                        size_t len) {
    static const uint16_t kinds[] = {NUM, OTHER | MARK};
    size_t from = at, n = contraction(s, at, len, false);
    int bytes;
    if (n)
        return at + n;
    if (s[at] == ' ' && at + 1 < len)
        from++;
    uint16_t k = class_at(x, s, from, len, &bytes);
    if (k & LETTER)
        return word(x, s, from + (size_t)bytes, len, LETTER);
    for (int i = 0; i < 2; i++)
        if (k & kinds[i])
            return run(x, s, from + (size_t)bytes, len, kinds[i], 0);
    return space(x, s, at, len, false);
}

/* ---- llama3, qwen2, qwen35, cl100k ---- */

static size_t next_words(const struct scan *x, const unsigned char *s,
                         size_t at, size_t len) {
    uint16_t letters = x->letters, other = (OTHER | MARK) & ~letters;
    int n, n2;
    uint16_t k = class_at(x, s, at, len, &n);
    if (k & letters)
        return word(x, s, at + (size_t)n, len, letters);
    size_t short_form = contraction(s, at, len, true);
    if (short_form)
        return at + short_form;
    size_t second = at + (size_t)n;
    uint16_t k2 = class_at(x, s, second, len, &n2);
    if ((k2 & letters) && !(k & (CRLF | NUM)))
        return word(x, s, second + (size_t)n2, len, letters);
    if (k & NUM)
        return run_few(x, s, at, len, NUM, x->f->digits);
    if (k & other)
        return others(x, s, second, len, other);
    if (s[at] == ' ' && (k2 & other))
        return others(x, s, second, len, other);
    return space(x, s, at, len, true);
}

/* ---- o200k, tekken, kimi ---- */

/* U*L+ from `at`: the upper run, then the lower one. When no lower letter
 * follows, the run gives back down to its last letter of both cases, which
 * then is all that L+ takes. 0: no match; *upper: the end of the run. */
static size_t cased(const struct scan *x, const unsigned char *s, size_t at,
                    size_t len, size_t *upper) {
    size_t to = at, both = 0;
    int n;
    uint16_t k;
    while ((k = class_at(x, s, to, len, &n)) & (UP | BOTH | MARK) &&
           !(k & HAN)) {
        to += (size_t)n;
        if (k & (BOTH | MARK))
            both = to;
    }
    *upper = to;
    if (!(k & LOW) || (k & HAN))
        return both;
    to = ascii_letters(s, to, len, false);
    return to < len && s[to] >= 0x80
               ? run(x, s, to, len, LOW | BOTH | MARK, HAN)
               : to;
}

/* The four ways that a word can match, in their order; 0: none. */
static size_t cased_word(const struct scan *x, const unsigned char *s,
                         size_t at, size_t len, uint16_t k, int n) {
    size_t upper = at, upper2 = at, second = at + (size_t)n, to = 0;
    bool prefix = !(k & (CRLF | LETTER | NUM));
    if (prefix)
        to = cased(x, s, second, len, &upper2);
    if (!to && (k & (LETTER | MARK)))
        to = cased(x, s, at, len, &upper);
    if (!to && prefix && upper2 > second)
        to = upper2;
    if (!to && upper > at)
        to = upper;
    if (to && x->f->contractions)
        to += contraction(s, to, len, true);
    return to;
}

static size_t next_cased(const struct scan *x, const unsigned char *s,
                         size_t at, size_t len) {
    int n, n2;
    uint16_t k = class_at(x, s, at, len, &n);
    if (k & HAN)
        return run(x, s, at + (size_t)n, len, HAN, 0);
    size_t to = cased_word(x, s, at, len, k, n);
    if (to)
        return to;
    size_t second = at + (size_t)n;
    if (k & NUM)
        return run_few(x, s, at, len, NUM, x->f->digits);
    if (k & (OTHER | MARK))
        return others(x, s, second, len, OTHER | MARK);
    if (s[at] == ' ' && (class_at(x, s, second, len, &n2) & (OTHER | MARK)))
        return others(x, s, second, len, OTHER | MARK);
    return space(x, s, at, len, true);
}

/* ---- deepseek3 ---- */

/* No alternative takes characters like control codes and unassigned ones,
 * unless letters follow: those before are a piece. */
static size_t unmatched(const struct scan *x, const unsigned char *s, size_t at,
                        size_t len, uint16_t other, uint16_t letter) {
    int n, n2;
    while (class_at(x, s, at, len, &n) & other) {
        if (class_at(x, s, at + (size_t)n, len, &n2) & letter)
            break;
        at += (size_t)n;
    }
    return at;
}

static bool is_letter(unsigned char c) {
    return (c | 32) >= 'a' && (c | 32) <= 'z';
}

/* The first Split takes numbers, the second kana and ideographs; the third
 * never looks across the cuts of these, so they have classes of their own. */
static size_t next_deepseek(const struct scan *x, const unsigned char *s,
                            size_t at, size_t len) {
    int n, n2;
    uint16_t k = class_at(x, s, at, len, &n);
    bool kana = k & KANA_ANY;
    uint16_t letter = kana ? KANA_LETTER : LETTER | MARK;
    uint16_t sign = kana ? KANA_PS : PS, other = kana ? KANA_OTHER : OTHER;
    size_t second = at + (size_t)n;
    if (k & letter)
        return kana ? run(x, s, second, len, letter, 0)
                    : word(x, s, second, len, letter);
    if (k & NUM)
        return run_few(x, s, at, len, NUM, x->f->digits);
    if ((k & PS) && s[at] < 0x80 && second < len && is_letter(s[second]))
        return ascii_letters(s, second, len, true);
    uint16_t k2 = class_at(x, s, second, len, &n2);
    if ((k & (WS | other)) && (k2 & letter))
        return kana ? run(x, s, second + (size_t)n2, len, letter, 0)
                    : word(x, s, second + (size_t)n2, len, letter);
    if (k & sign)
        return kana ? run(x, s, second, len, sign, 0)
                    : others(x, s, second, len, sign);
    if (s[at] == ' ' && (k2 & PS))
        return others(x, s, second, len, PS);
    return k & SPACE ? space(x, s, at, len, true)
                     : unmatched(x, s, at, len, other, letter);
}

/* ---- the families ---- */

#define SHORT_FORMS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define LETTERS "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
#define OTHERS(more) " ?[^\\s\\p{L}\\p{N}]+[\\r\\n" more "]*|"
#define SPACES "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define PREFIX "[^\\r\\n\\p{L}\\p{N}]?"
#define UPPER "\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}"
#define LOWER "\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}"
/* Words in two alternatives; not: an intersection; end: short forms. */
#define CASED(not, end) \
    PREFIX \
    "[" UPPER not "]*[" LOWER not "]+" end "|" PREFIX \
                                  "[" UPPER not "]+[" LOWER not "]*" end "|"

static const struct family families[] = {
    {.name = "gpt2",
     .patterns = {"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+|"
                  " ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"},
     .next = next_gpt2},
    {.name = "llama3",
     .patterns = {SHORT_FORMS "|" LETTERS "\\p{N}{1,3}|" OTHERS("") SPACES},
     .next = next_words,
     .digits = 3,
     .tail = "\r\n"},
    {.name = "qwen2",
     .patterns = {SHORT_FORMS "|" LETTERS "\\p{N}|" OTHERS("") SPACES},
     .next = next_words,
     .digits = 1,
     .tail = "\r\n"},
    {.name = "qwen35",
     .patterns = {SHORT_FORMS "|" PREFIX "[\\p{L}\\p{M}]+|\\p{N}|"
                              " ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" SPACES},
     .next = next_words,
     .digits = 1,
     .marks = true,
     .tail = "\r\n"},
    {.name = "o200k",
     .patterns = {CASED("", SHORT_FORMS "?") "\\p{N}{1,3}|" OTHERS("/") SPACES},
     .next = next_cased,
     .digits = 3,
     .contractions = true,
     .tail = "\r\n/"},
    {.name = "tekken",
     .patterns = {CASED("", "") "\\p{N}|" OTHERS("/") SPACES},
     .next = next_cased,
     .digits = 1,
     .tail = "\r\n/"},
    {.name = "kimi",
     .patterns = {"[\\p{Han}]+|" CASED("&&[^\\p{Han}]", SHORT_FORMS
                                       "?") "\\p{N}{1,3}|" OTHERS("") SPACES},
     .next = next_cased,
     .digits = 3,
     .contractions = true,
     .tail = "\r\n",
     .han = true},
    /* tiktoken's own text, as Oniguruma reads it: {1,3}+ is any number */
    {.name = "cl100k",
     .patterns = {"'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}++|"
                  "\\p{N}{1,3}+| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*+|\\s++$|"
                  "\\s*[\\r\\n]|\\s+(?!\\S)|\\s"},
     .next = next_words,
     .digits = INT_MAX,
     .end_first = true,
     .tail = "\r\n"},
    {.name = "deepseek3",
     .patterns = {"\\p{N}{1,3}",
                  "[\xe4\xb8\x80-\xe9\xbe\xa5\xe3\x81\x80-\xe3\x82\x9f"
                  "\xe3\x82\xa0-\xe3\x83\xbf]+",
                  "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|"
                  "[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|"
                  " ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"},
     .next = next_deepseek,
     .digits = 3,
     .tail = "\r\n",
     .signs = true,
     .kana = true},
};
#define N_FAMILIES (sizeof families / sizeof *families)

static size_t count(const struct family *f) {
    size_t n = 0;
    while (n < sizeof f->patterns / sizeof *f->patterns && f->patterns[n])
        n++;
    return n;
}

static uint16_t class_of(const struct family *f, uint8_t byte) {
    static const uint16_t by_gc[UNI_GC_N] = {
        [UNI_LU] = UP,   [UNI_LT] = UP,   [UNI_LL] = LOW,  [UNI_LM] = BOTH,
        [UNI_LO] = BOTH, [UNI_MN] = MARK, [UNI_MC] = MARK, [UNI_ME] = MARK,
        [UNI_ND] = NUM,  [UNI_NL] = NUM,  [UNI_NO] = NUM,  [UNI_PC] = PS,
        [UNI_PD] = PS,   [UNI_PS] = PS,   [UNI_PE] = PS,   [UNI_PI] = PS,
        [UNI_PF] = PS,   [UNI_PO] = PS,   [UNI_SM] = PS,   [UNI_SC] = PS,
        [UNI_SK] = PS,   [UNI_SO] = PS};
    uint16_t k = by_gc[(byte & 31) % UNI_GC_N];
    if (byte & UNI_SPACE)
        return WS;
    if (!k || (k == PS && !f->signs))
        k = OTHER;
    return f->han && (byte & UNI_HAN) ? k | HAN : k;
}

static struct scan *scan_make(const struct family *f) {
    struct scan *x = calloc(1, sizeof *x);
    CHECK(x, "out of memory for a scanner");
    x->f = f;
    x->letters = f->marks ? LETTER | MARK : LETTER;
    for (int i = 0; i < 128; i++) {
        x->wide[i] = class_of(f, (uint8_t)i);
        x->ascii[i] = class_of(f, uni_class((uint32_t)i) & 0x7f);
    }
    x->ascii['\r'] = x->ascii['\n'] = CRLF;
    for (const char *c = f->tail; c && *c; c++)
        x->tail[(unsigned char)*c] = true;
    return x;
}

struct scan *scan_new(const char *const *patterns, size_t n) {
    for (size_t i = 0; i < N_FAMILIES; i++) {
        size_t same = 0, want = count(&families[i]);
        while (same < n && same < want &&
               strcmp(patterns[same], families[i].patterns[same]) == 0)
            same++;
        if (same == want && want == n)
            return scan_make(&families[i]);
    }
    return NULL;
}

void scan_free(struct scan *x) { free(x); }

size_t scan_next(const struct scan *x, const char *text, size_t at,
                 size_t len) {
    return x->f->next(x, (const unsigned char *)text, at, len);
}

size_t scan_known(int i, const char **name, const char *const **patterns) {
    if (i < 0 || (size_t)i >= N_FAMILIES)
        return 0;
    *name = families[i].name;
    *patterns = families[i].patterns;
    return count(&families[i]);
}
