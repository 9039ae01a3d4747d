/*
 * regex: translation and search.
 *
 * A recursive descent over the pattern writes PCRE2's: literals as code
 * points, classes as computed sets (charset), anchors and groups as they are.
 * What Oniguruma's Ruby syntax means by them:
 *   ^ $       ends of lines            (?m:…)  the dot takes newlines
 *   X{1,3}+   the repeat repeated      (?i)    to the end of the group
 *   [a[bc]]   union                    [a&&b]  intersection
 *   \h        a hexadecimal digit      {,n}    from none to n
 * Whatever is not known to mean the same is refused.
 *
 * A callout follows each repeat: it counts the characters gone over since
 * the last one, forwards or back, so that no backtracking goes uncounted.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "core/text/regex.h"
#include "core/text/charset.h"

#include <ctype.h>
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 64
#define REPEAT_MAX 1000
#define SETS_MAX 200 /* classes of a pattern: each takes a millisecond */
#define STACK_MAX (64 << 20) /* bytes of what can be taken back */
#define CALLOUT "(?C1)"

struct regex {
    char *pattern; /* PCRE2's */
    pcre2_code *code;
};

struct regex_scratch {
    pcre2_match_data *match;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
    struct regex_run *run;
    size_t start, last; /* of the match; the last callout's */
};

/* ---- translation ---- */

struct trans {
    const char *p, *end;
    struct buf out;
    bool fold, extended; /* (?i), (?x) */
    int depth, sets;
    uint32_t literal; /* the letter before, under (?i) */
    struct err *err;
};

static int refuse(struct trans *t, const char *what) {
    return err_set(t->err, ERR_UNSUPPORTED, "%s is not supported, at '%.20s'",
                   what, t->p < t->end ? t->p : "its end");
}

static bool at(const struct trans *t, const char *s) {
    size_t n = strlen(s);
    return (size_t)(t->end - t->p) >= n && memcmp(t->p, s, n) == 0;
}

static bool take(struct trans *t, const char *s) {
    if (!at(t, s))
        return false;
    t->p += strlen(s);
    return true;
}

/* Up to max digits of base 8, 10 or 16; how many there were. */
static int number(struct trans *t, int base, int max, uint32_t *v) {
    int n = 0;
    for (*v = 0; n < max && t->p < t->end; n++, t->p++) {
        int c = (unsigned char)*t->p;
        int d = isdigit(c) ? c - '0' : isxdigit(c) ? (c | 32) - 'a' + 10 : 99;
        if (d >= base)
            break;
        *v = *v * (uint32_t)base + (uint32_t)d;
    }
    return n;
}

/* Escapes that are one character; 0: it is none, 1: *c. */
static int escaped_char(struct trans *t, uint32_t *c) {
    static const char from[] = "tnrfvae", to[] = "\t\n\r\f\v\a\x1b";
    const char *hit = strchr(from, *t->p);
    if (hit) {
        *c = (unsigned char)to[hit - from];
        t->p++;
        return 1;
    }
    if (take(t, "x{")) {
        if (number(t, 16, 6, c) < 1 || !take(t, "}") || *c > UNI_MAX)
            return refuse(t, "such a \\x{}");
        return 1;
    }
    if (take(t, "x")) {
        if (number(t, 16, 2, c) < 1 || *c > 0x7f)
            return refuse(t, "such a \\x");
        return 1;
    }
    if (take(t, "u")) {
        if (number(t, 16, 4, c) != 4)
            return refuse(t, "such a \\u");
        return 1;
    }
    if (*t->p == '0') {
        number(t, 8, 3, c);
        return *c > 0x7f ? refuse(t, "such an octal escape") : 1;
    }
    if (isalnum((unsigned char)*t->p))
        return 0;
    t->p += uni_get(t->p, c);
    return 1;
}

/* \p{…} behind the backslash. */
static int property(struct trans *t, struct charset *s) {
    if (++t->sets > SETS_MAX)
        return refuse(t, "this many classes");
    bool not = *t->p++ == 'P';
    if (!take(t, "{"))
        return refuse(t, "\\p without a name");
    if (take(t, "^"))
        not = !not ;
    const char *close = memchr(t->p, '}', (size_t)(t->end - t->p));
    struct charset set = {0};
    if (!close || !charset_prop(&set, t->p, (size_t)(close - t->p)))
        return charset_release(&set), refuse(t, "this property");
    t->p = close + 1;
    if (not )
        charset_invert(&set);
    charset_union(s, &set);
    charset_release(&set);
    return 1;
}

/* Escapes that are a set; 0: it is none, 1: added to s. in_class: between
 * brackets \w is [[:word:]], outside it has the six numbers of Latin-1. */
static int escaped_set(struct trans *t, struct charset *s, bool in_class) {
    static const struct {
        char name;
        const char *prop;
    } sets[] = {{'s', "space"}, {'d', "digit"}, {'w', "word"}, {'h', "xdigit"}};
    if (*t->p == 'p' || *t->p == 'P')
        return property(t, s);
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        if ((*t->p | 32) != sets[i].name)
            continue;
        if (++t->sets > SETS_MAX)
            return refuse(t, "this many classes");
        struct charset set = {0};
        charset_bracket(&set, sets[i].prop, strlen(sets[i].prop));
        if (sets[i].name == 'w' && !in_class) {
            charset_add(&set, 0xb2, 0xb3);
            charset_add(&set, 0xb9, 0xb9);
            charset_add(&set, 0xbc, 0xbe);
        }
        if (*t->p != sets[i].name)
            charset_invert(&set);
        charset_union(s, &set);
        charset_release(&set);
        t->p++;
        return 1;
    }
    return 0;
}

static int class_body(struct trans *t, struct charset *out);

/* [:name:] */
static int bracket(struct trans *t, struct charset *s) {
    if (++t->sets > SETS_MAX)
        return refuse(t, "this many classes");
    t->p += 2;
    bool not = take(t, "^");
    struct charset set = {0};
    const char *name = t->p;
    while (t->p < t->end && isalpha((unsigned char)*t->p))
        t->p++;
    if (!charset_bracket(&set, name, (size_t)(t->p - name)) || !take(t, ":]"))
        return charset_release(&set), refuse(t, "this [: :]");
    if (not )
        charset_invert(&set);
    charset_union(s, &set);
    charset_release(&set);
    return 0;
}

/* One character of a class, 0: a set was added instead. */
static int class_char(struct trans *t, struct charset *s, uint32_t *c) {
    if (*t->p != '\\') {
        t->p += uni_get(t->p, c);
        return 1;
    }
    if (++t->p == t->end)
        return refuse(t, "a backslash at the end");
    if (take(t, "b")) {
        *c = '\b';
        return 1;
    }
    int rc = escaped_set(t, s, true);
    if (rc)
        return rc < 0 ? -1 : 0;
    rc = escaped_char(t, c);
    return rc ? rc : refuse(t, "this escape");
}

static int class_item(struct trans *t, struct charset *s) {
    uint32_t from, to;
    if (at(t, "[:"))
        return bracket(t, s);
    if (take(t, "[")) {
        struct charset inner = {0};
        int rc = class_body(t, &inner);
        charset_union(s, &inner);
        charset_release(&inner);
        return rc;
    }
    int rc = class_char(t, s, &from);
    if (rc <= 0)
        return rc;
    to = from;
    if (at(t, "-") && !at(t, "-]") && t->end - t->p > 1) {
        if (at(t, "-[") || at(t, "-&&"))
            return refuse(t, "this range");
        t->p++;
        rc = class_char(t, s, &to);
        if (rc <= 0 || to < from)
            return rc < 0 ? -1 : refuse(t, "this range");
    }
    charset_add(s, from, to);
    return 0;
}

/* From behind '[' to behind ']'. */
static int class_body(struct trans *t, struct charset *out) {
    if (++t->sets > SETS_MAX)
        return refuse(t, "this many classes");
    struct charset part = {0};
    bool first = true, both = false;
    bool not = take(t, "^");
    if (++t->depth > DEPTH_MAX)
        return refuse(t, "nesting this deep");
    for (; t->p < t->end && (*t->p != ']' || first); first = false) {
        if (take(t, "&&")) {
            if (both)
                charset_intersect(out, &part);
            else
                charset_union(out, &part);
            charset_release(&part);
            both = true;
            continue;
        }
        if (class_item(t, &part) < 0) {
            charset_release(&part);
            return -1;
        }
    }
    if (both)
        charset_intersect(out, &part);
    else
        charset_union(out, &part);
    charset_release(&part);
    t->depth--;
    if (!take(t, "]"))
        return refuse(t, "a class without its ]");
    if (t->fold && !charset_fold(out))
        return refuse(t, "(?i) with letters beyond ASCII");
    if (not )
        charset_invert(out);
    return 0;
}

static void emit_word(struct trans *t, bool is) {
    struct charset w = {0};
    charset_bracket(&w, "word", 4);
    charset_add(&w, 0xb2, 0xb3);
    charset_add(&w, 0xb9, 0xb9);
    charset_add(&w, 0xbc, 0xbe);
    for (int turn = 0; turn < 2; turn++) {
        bool before = turn == 0, after = is ? !before : before;
        buf_puts(&t->out, turn ? "|" : "(?:");
        buf_puts(&t->out, before ? "(?<=" : "(?<!");
        charset_emit(&w, &t->out);
        buf_puts(&t->out, after ? ")(?=" : ")(?!");
        charset_emit(&w, &t->out);
        buf_puts(&t->out, ")");
    }
    buf_puts(&t->out, ")");
    charset_release(&w);
}

/* Under (?i) Oniguruma takes ß for ss, and such. */
static bool folds_together(uint32_t a, uint32_t b) {
    static const char pairs[] = "ssstfffifl";
    for (const char *p = pairs; *p; p += 2)
        if ((a | 32) == (uint32_t)p[0] && (b | 32) == (uint32_t)p[1])
            return true;
    return false;
}

static int emit_char(struct trans *t, uint32_t c) {
    if (c >= 0xd800 && c < 0xe000)
        return refuse(t, "a surrogate");
    if (!t->fold) {
        buf_printf(&t->out, "\\x{%x}", c);
        return 0;
    }
    struct charset s = {0};
    charset_add(&s, c, c);
    bool ok = charset_fold(&s) && !folds_together(t->literal, c) &&
              (c < 0x80 || !UNI_IN(uni_alpha, c));
    charset_emit(&s, &t->out);
    charset_release(&s);
    t->literal = c;
    return ok ? 0 : refuse(t, "(?i) with these letters");
}

static int emit_escape(struct trans *t) {
    static const char *const same[] = {"A", "z", "Z", "G"};
    struct charset s = {0};
    uint32_t c;
    if (++t->p == t->end)
        return refuse(t, "a backslash at the end");
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        if (take(t, same[i])) {
            buf_printf(&t->out, "\\%s", same[i]);
            return 0;
        }
    if (at(t, "b") || at(t, "B")) {
        if ((t->sets += 4) > SETS_MAX)
            return refuse(t, "this many classes");
        emit_word(t, *t->p++ == 'b');
        return 0;
    }
    int rc = escaped_set(t, &s, false);
    if (rc == 0) {
        rc = escaped_char(t, &c);
        return rc < 0 ? -1 : rc ? emit_char(t, c) : refuse(t, "this escape");
    }
    if (rc > 0 && t->fold && !charset_fold(&s))
        rc = refuse(t, "(?i) with letters beyond ASCII");
    if (rc > 0)
        charset_emit(&s, &t->out);
    charset_release(&s);
    return rc < 0 ? -1 : 0;
}

static int alternatives(struct trans *t);

/* (?imx-imx) and (?imx-imx:…); the flags hold inside. */
static int options(struct trans *t) {
    static const char *const open[] = {"(?-s:", "(?s:", "(?:"};
    bool on = true, fold = t->fold, extended = t->extended;
    int dot = 2; /* as it is */
    for (; t->p < t->end && strchr("imx-", *t->p); t->p++) {
        if (*t->p == '-')
            on = false;
        else if (*t->p == 'i')
            fold = on;
        else if (*t->p == 'x')
            extended = on;
        else
            dot = on;
    }
    bool was_fold = t->fold, was_extended = t->extended;
    bool colon = take(t, ":");
    if (!colon && !take(t, ")"))
        return refuse(t, "this group");
    buf_puts(&t->out, open[dot]);
    t->fold = fold;
    t->extended = extended;
    int rc = alternatives(t);
    t->fold = was_fold;
    t->extended = was_extended;
    buf_puts(&t->out, ")");
    if (rc < 0 || !colon) /* the ) is the outer group's */
        return rc;
    return take(t, ")") ? 0 : refuse(t, "a group without its )");
}

static int group(struct trans *t) {
    static const char *const same[] = {"?:", "?=", "?!", "?>", "?<=", "?<!"};
    if (take(t, "?#")) {
        while (t->p < t->end && *t->p != ')')
            t->p++;
        return take(t, ")") ? 0 : refuse(t, "a comment without its )");
    }
    const char *open = NULL;
    for (size_t i = 0; i < sizeof same / sizeof *same && !open; i++)
        if (take(t, same[i]))
            open = same[i];
    if (!open && take(t, "?"))
        return options(t);
    buf_printf(&t->out, "(%s", open ? open : "?:");
    if (alternatives(t) < 0)
        return -1;
    buf_puts(&t->out, ")");
    return take(t, ")") ? 0 : refuse(t, "a group without its )");
}

/* One atom; 0: something that nothing repeats, 1: written. */
static int atom(struct trans *t) {
    uint32_t c;
    struct charset s = {0};
    char first = *t->p;
    if (strchr("([.^$", first))
        t->literal = 0;
    if (take(t, "("))
        return group(t);
    if (first == '\\')
        return emit_escape(t);
    if (take(t, "[")) {
        int rc = class_body(t, &s);
        if (rc == 0)
            charset_emit(&s, &t->out);
        charset_release(&s);
        return rc;
    }
    if (first == '*' || first == '+' || first == '?')
        return refuse(t, "a repeat of nothing");
    if (first == '^' || first == '$' || first == '.') {
        buf_printf(&t->out, "%c", first);
        t->p++;
        return 0;
    }
    t->p += uni_get(t->p, &c);
    return emit_char(t, c);
}

/* {n} {n,} {,n} {n,m}: 1 and the counts, or 0: a brace. */
static int interval(struct trans *t, uint32_t *lo, uint32_t *hi) {
    const char *was = t->p;
    t->p++;
    bool low = number(t, 10, 6, lo) > 0, comma = take(t, ",");
    bool high = comma && number(t, 10, 6, hi) > 0;
    if (!comma)
        *hi = *lo;
    else if (!high)
        *hi = UINT32_MAX;
    if ((!low && !high) || !take(t, "}")) {
        t->p = was;
        return 0;
    }
    if (*lo > REPEAT_MAX || (*hi != UINT32_MAX && *hi > REPEAT_MAX) ||
        *lo > *hi)
        return refuse(t, "such a {}");
    return 1;
}

static bool put_wrap(struct trans *t, size_t from) {
    char open[] = "(?:";
    if (!buf_grow(&t->out, 3))
        return false;
    memmove(t->out.data + from + 3, t->out.data + from, t->out.len - 3 - from);
    memcpy(t->out.data + from, open, 3);
    buf_puts(&t->out, ")");
    return true;
}

/* Repeats of the atom that begins at out[from]. */
static int repeats(struct trans *t, size_t from) {
    for (int n = 0; t->p < t->end; n++) {
        uint32_t lo = 0, hi = 0;
        bool braces = *t->p == '{', simple = strchr("*+?", *t->p) != NULL;
        int is = braces ? interval(t, &lo, &hi) : simple;
        if (is <= 0)
            return is;
        t->literal = 0;
        if (n > 3)
            return refuse(t, "a repeat of repeats of repeats");
        if (n && !put_wrap(t, from))
            return 0; /* too long: told at the end */
        if (simple)
            buf_printf(&t->out, "%c", *t->p++);
        else if (hi == UINT32_MAX)
            buf_printf(&t->out, "{%u,}", lo);
        else
            buf_printf(&t->out, "{%u,%u}", lo, hi);
        if (braces && lo == hi && at(t, "?"))
            return refuse(t, "{n}?");
        if (take(t, "?"))
            buf_puts(&t->out, "?");
        else if (simple && take(t, "+"))
            buf_puts(&t->out, "+");
        buf_puts(&t->out, CALLOUT);
    }
    return 0;
}

static void skip_extended(struct trans *t) {
    while (t->extended && t->p < t->end) {
        if (*t->p == '#')
            while (t->p < t->end && *t->p != '\n')
                t->p++;
        else if (isspace((unsigned char)*t->p))
            t->p++;
        else
            return;
    }
}

/* a|b|c up to ')' or the end. */
static int alternatives(struct trans *t) {
    if (++t->depth > DEPTH_MAX)
        return refuse(t, "nesting this deep");
    for (;;) {
        skip_extended(t);
        if (t->p == t->end || *t->p == ')')
            break;
        if (take(t, "|")) {
            t->literal = 0;
            buf_puts(&t->out, "|");
            continue;
        }
        size_t from = t->out.len;
        if (atom(t) < 0 || repeats(t, from) < 0)
            return -1;
    }
    t->depth--;
    return 0;
}

/* PCRE2's pattern, or NULL. */
static char *translate(const char *pattern, size_t len, struct err *err) {
    struct trans t = {.p = pattern, .end = pattern + len, .err = err};
    buf_init(&t.out, 4 << 20);
    int rc = alternatives(&t);
    if (rc == 0 && t.p < t.end)
        rc = refuse(&t, "a ) without its (");
    if (rc == 0)
        rc = buf_check(&t.out, "its classes", err);
    buf_u8(&t.out, 0);
    size_t n;
    char *out = rc == 0 ? (char *)buf_take(&t.out, &n) : NULL;
    buf_release(&t.out);
    return out;
}

/* ---- the compiled pattern ---- */

static int compile(struct regex *re, struct err *err) {
    int code;
    PCRE2_SIZE where;
    PCRE2_UCHAR why[120] = "";
    pcre2_compile_context *c = pcre2_compile_context_create(NULL);
    CHECK(c, "out of memory for a pattern");
    pcre2_set_newline(c, PCRE2_NEWLINE_LF);
    re->code = pcre2_compile(
        (PCRE2_SPTR)re->pattern, PCRE2_ZERO_TERMINATED,
        PCRE2_UTF | PCRE2_MULTILINE | PCRE2_NO_AUTO_CAPTURE, &code, &where, c);
    pcre2_compile_context_free(c);
    if (!re->code) {
        pcre2_get_error_message(code, why, sizeof why);
        return err_set(err, ERR_UNSUPPORTED, "PCRE2 refuses it: %s", why);
    }
    pcre2_jit_compile(re->code, PCRE2_JIT_COMPLETE); /* or slower */
    return 0;
}

struct regex *regex_new(const char *pattern, size_t len, struct err *err) {
    struct regex *re = calloc(1, sizeof *re);
    CHECK(re, "out of memory for a pattern");
    if (len > REGEX_PATTERN_MAX)
        err_set(err, ERR_TOOBIG, "%zu bytes are too long", len);
    else
        re->pattern = translate(pattern, len, err);
    if (re->pattern && compile(re, err) == 0)
        return re;
    err_ctx(err, "pattern '%.60s'", pattern);
    regex_free(re);
    return NULL;
}

struct regex *regex_literal(const char *text, size_t len, struct err *err) {
    struct buf b;
    buf_init(&b, REGEX_PATTERN_MAX);
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)text[i] < 0x80 && !isalnum((unsigned char)text[i]))
            buf_u8(&b, '\\');
        buf_u8(&b, (uint8_t)text[i]);
    }
    struct regex *re = NULL;
    if (buf_check(&b, "a text to look for", err) == 0)
        re = regex_new(buf_str(&b), b.len, err);
    buf_release(&b);
    return re;
}

void regex_free(struct regex *re) {
    if (!re)
        return;
    if (re->code)
        pcre2_code_free(re->code);
    free(re->pattern);
    free(re);
}

const char *regex_pcre2(const struct regex *re) { return re->pattern; }

/* ---- search ---- */

uint64_t regex_budget(size_t text_len) {
    return 10000000 + 200 * (uint64_t)text_len;
}

/* Counts the way since the last callout, and ends the match when the budget
 * is used up. */
static int count_steps(pcre2_callout_block *b, void *arg) {
    struct regex_scratch *s = arg;
    uint64_t *budget = s->run->budget;
    size_t now = b->current_position;
    if (b->start_match != s->start)
        s->start = s->last = b->start_match;
    uint64_t way = now > s->last ? now - s->last : s->last - now;
    s->last = now;
    if (*budget <= way) {
        *budget = 0;
        return PCRE2_ERROR_CALLOUT;
    }
    *budget -= way + 1;
    return 0;
}

void regex_run_init(struct regex_run *run, const struct regex *re,
                    uint64_t *budget) {
    struct regex_scratch *s = calloc(1, sizeof *s);
    CHECK(s, "out of memory for a match");
    *run = (struct regex_run){.re = re, .budget = budget, .scratch = s};
    s->run = run;
    s->match = pcre2_match_data_create(1, NULL);
    s->context = pcre2_match_context_create(NULL);
    CHECK(s->match && s->context, "out of memory for a match");
    pcre2_set_callout(s->context, count_steps, s);
    s->stack = pcre2_jit_stack_create(32 << 10, STACK_MAX, NULL);
    if (s->stack)
        pcre2_jit_stack_assign(s->context, NULL, s->stack);
    pcre2_set_heap_limit(s->context, STACK_MAX / 1024);
}

void regex_run_release(struct regex_run *run) {
    if (!run->scratch)
        return;
    pcre2_match_data_free(run->scratch->match);
    pcre2_match_context_free(run->scratch->context);
    if (run->scratch->stack)
        pcre2_jit_stack_free(run->scratch->stack);
    free(run->scratch);
    run->scratch = NULL;
}

bool regex_find(struct regex_run *run, const char *text, size_t len, size_t at,
                struct match *m) {
    struct regex_scratch *s = run->scratch;
    s->run = run;
    s->start = s->last = at;
    if (*run->budget == 0) {
        run->gave_up = true;
        return false;
    }
    int rc = pcre2_match(run->re->code, (PCRE2_SPTR)text, len, at,
                         PCRE2_NO_UTF_CHECK, s->match, s->context);
    if (rc < 0) {
        run->gave_up |= rc != PCRE2_ERROR_NOMATCH;
        return false;
    }
    const PCRE2_SIZE *v = pcre2_get_ovector_pointer(s->match);
    m->from = v[0];
    m->to = v[1];
    return true;
}
