/*
 * split: a chain of stages. Each pulls a piece from the stage before it, and
 * either cuts it (Split and its kin) or changes it (Metaspace, prefixes,
 * byte letters); nothing is done before it is asked for.
 *
 *  1. A stage's piece stays where it is until all of it was handed on.
 *  2. A changed piece has spans, of whole characters of the text.
 *
 * What tokenizer.json means is what Hugging Face's tokenizers do with it, to
 * the order in which matches and gaps are merged.
 */
#include "core/text/split.h"
#include "core/text/int.h"
#include "core/text/regex.h"
#include "core/text/scan.h"
#include "core/text/unicode.h"

#include <stdlib.h>
#include <string.h>

#define STAGES_MAX 16
#define DEPTH_MAX 8

enum behavior { ISOLATED, REMOVED, PREVIOUS, NEXT, CONTIGUOUS };
static const char *const behaviors[] = {"Isolated", "Removed",
                                        "MergedWithPrevious", "MergedWithNext",
                                        "Contiguous"};
#define N_BEHAVIORS (sizeof behaviors / sizeof *behaviors)

enum scheme { ALWAYS, FIRST, NEVER };
static const char *const schemes[] = {"always", "first", "never"};

struct level;

struct stage {
    /* A cut: where matches are (one of these), and what becomes of them. */
    struct scan *scan;
    struct regex *regex;
    char *literal;
    bool (*is)(uint32_t c);      /* each such character */
    uint8_t (*kind)(uint32_t c); /* each run of one kind, but 0 */
    bool scripts;                /* each run of one script */
    size_t length;               /* so many characters */
    enum behavior behavior;
    bool invert;
    /* A change: writes in->len bytes or so into the level's text. */
    void (*change)(struct split_run *r, struct level *v);
    char mark[4]; /* Metaspace's replacement for a space */
    int mark_len;
    enum scheme scheme;
    char *pattern; /* of a regular expression that is not compiled yet */
};

struct split {
    struct stage stage[STAGES_MAX];
    int n;
    bool is_bytes;
};

struct seg {
    size_t from, to;
    bool match;
};

/* A stage at work. */
struct level {
    const struct stage *st;
    struct piece in; /* what is being cut */
    bool active;     /* there is more of it */
    size_t at;       /* up to here segments were made */
    size_t look;     /* from here the next match is looked for */
    size_t last;     /* the end of the last match */
    bool no_more, found, has_last, peeked;
    struct match match; /* when found */
    struct seg peek;    /* when peeked */
    struct regex_run regex;
    char *text; /* what a change wrote, (cap) */
    struct span *spans;
    size_t n, cap;
};

struct split_run {
    const struct split *split;
    const char *text;
    size_t len;
    bool first, given;
    uint64_t budget;
    struct level level[STAGES_MAX];
};

/* ---- kinds of characters ---- */

static bool is_number(uint32_t c) {
    enum uni_gc g = uni_gc(c);
    return g == UNI_ND || g == UNI_NL || g == UNI_NO ||
           UNI_IN(uni_number_new, c);
}

static bool is_punct(uint32_t c) { return UNI_IN(uni_bert_punct, c); }

/* Rust's \w: with the two joiners. */
static uint8_t word_kind(uint32_t c) {
    uint8_t k = uni_class(c);
    if (c == 0x200c || c == 0x200d || (k & UNI_WORD))
        return 1;
    return k & UNI_SPACE ? 0 : 2;
}

/* ---- finding matches ---- */

static bool find_char(struct level *v) {
    uint32_t c;
    int n;
    for (size_t i = v->look; i < v->in.len; i += (size_t)n) {
        n = uni_get(v->in.s + i, &c);
        if (v->st->is(c)) {
            v->match = (struct match){i, i + (size_t)n};
            return true;
        }
    }
    return false;
}

static bool find_kind(struct level *v) {
    size_t i = v->look;
    uint8_t k = 0, first = 0;
    for (uint32_t c; i < v->in.len;) {
        int n = uni_get(v->in.s + i, &c);
        k = v->st->kind(c);
        if (first && k != first)
            break;
        if (k && !first) {
            first = k;
            v->match.from = i;
        }
        i += (size_t)n;
    }
    v->match.to = i;
    return first;
}

/* A run of one script and of what goes with any; none begins with the
 * latter, so that what stands before the first run is dropped. */
static bool find_script(struct level *v) {
    size_t i = v->look;
    uint8_t script = 0;
    for (uint32_t c; i < v->in.len;) {
        int n = uni_get(v->in.s + i, &c);
        uint8_t k = uni_script(c);
        if (k && script && k != script)
            break;
        if (k && !script) {
            script = k;
            v->match.from = i;
        }
        i += (size_t)n;
    }
    v->match.to = i;
    return script;
}

static bool find_length(struct level *v) {
    size_t to = v->look;
    uint32_t c;
    for (size_t i = 0; i < v->st->length && to < v->in.len; i++)
        to += (size_t)uni_get(v->in.s + to, &c);
    v->match = (struct match){v->look, to};
    return to > v->look;
}

static bool find_literal(struct level *v) {
    size_t n = strlen(v->st->literal);
    const char *hit =
        memmem(v->in.s + v->look, v->in.len - v->look, v->st->literal, n);
    if (hit)
        v->match = (struct match){(size_t)(hit - v->in.s),
                                  (size_t)(hit - v->in.s) + n};
    return hit;
}

/* An empty match right behind the last match is none; then the search goes
 * on one character further. */
static bool find_regex(struct level *v) {
    while (v->look <= v->in.len) {
        uint32_t c;
        struct match *m = &v->match;
        if (!regex_find(&v->regex, v->in.s, v->in.len, v->look, m))
            return false;
        if (m->to > m->from || !v->has_last || v->last != m->to)
            return true;
        v->look +=
            v->look < v->in.len ? (size_t)uni_get(v->in.s + v->look, &c) : 1;
    }
    return false;
}

static bool find_scan(struct level *v) {
    if (v->look >= v->in.len)
        return false;
    v->match = (struct match){
        v->look, scan_next(v->st->scan, v->in.s, v->look, v->in.len)};
    return true;
}

static bool find(struct level *v) {
    const struct stage *st = v->st;
    bool hit = st->scan      ? find_scan(v)
               : st->is      ? find_char(v)
               : st->kind    ? find_kind(v)
               : st->literal ? find_literal(v)
               : st->scripts ? find_script(v)
               : st->length  ? find_length(v)
                             : find_regex(v);
    if (hit) {
        v->look = v->last = v->match.to;
        v->has_last = true;
    }
    return hit;
}

/* ---- segments: matches and gaps, in turn ---- */

static bool seg_make(struct level *v, struct seg *s) {
    if (!v->found && !v->no_more) {
        v->found = find(v);
        v->no_more = !v->found;
    }
    if (v->found && v->match.from <= v->at) {
        *s = (struct seg){v->match.from, v->match.to, !v->st->invert};
        v->found = false;
    } else {
        size_t to = v->found ? v->match.from : v->in.len;
        if (v->at >= to)
            return false;
        *s = (struct seg){v->at, to, v->st->invert};
    }
    v->at = s->to;
    return true;
}

static bool seg_peek(struct level *v) {
    if (!v->peeked)
        v->peeked = seg_make(v, &v->peek);
    return v->peeked;
}

static bool seg_take(struct level *v, struct seg *s) {
    if (!seg_peek(v))
        return false;
    *s = v->peek;
    v->peeked = false;
    return true;
}

/* The next piece of a cut, as the behaviour wants it; may be empty. */
static bool cut_next(struct level *v, struct seg *s) {
    do
        if (!seg_take(v, s))
            return false;
    while (v->st->behavior == REMOVED && s->match);
    switch (v->st->behavior) {
    case CONTIGUOUS:
        while (seg_peek(v) && v->peek.match == s->match) {
            s->to = v->peek.to;
            v->peeked = false;
        }
        break;
    case PREVIOUS:
    case NEXT:
        if (s->match == (v->st->behavior == NEXT) && seg_peek(v) &&
            v->peek.match != s->match) {
            s->to = v->peek.to;
            v->peeked = false;
        }
        break;
    case ISOLATED:
    case REMOVED: break;
    }
    return true;
}

/* ---- changes ---- */

static void put(struct level *v, const char *s, int n, struct span span) {
    if (v->n + 4 > v->cap) {
        v->cap = v->cap ? 2 * v->cap : 256;
        v->text = realloc(v->text, v->cap);
        v->spans = realloc(v->spans, v->cap * sizeof *v->spans);
        CHECK(v->text && v->spans, "out of memory for a text");
    }
    for (int i = 0; i < n; i++, v->n++) {
        v->text[v->n] = s[i];
        v->spans[v->n] = span;
    }
}

/* Where n bytes of the piece come from: a character's. */
static struct span span_of(const struct split_run *r, const struct piece *p,
                           size_t i, int n) {
    if (p->at)
        return p->at[i];
    size_t from = (size_t)(p->s - r->text) + i;
    return (struct span){(uint32_t)from, (uint32_t)from + (uint32_t)n};
}

static void change_done(struct level *v) {
    v->in = (struct piece){v->text, v->n, v->spans};
}

/* ByteLevel's add_prefix_space. */
static void change_prefix(struct split_run *r, struct level *v) {
    uint32_t c;
    if (v->in.s[0] == ' ')
        return;
    put(v, " ", 1, span_of(r, &v->in, 0, uni_get(v->in.s, &c)));
    for (size_t i = 0; i < v->in.len;) {
        int n = uni_get(v->in.s + i, &c);
        put(v, v->in.s + i, n, span_of(r, &v->in, i, n));
        i += (size_t)n;
    }
    change_done(v);
}

static void change_metaspace(struct split_run *r, struct level *v) {
    const struct stage *st = v->st;
    const char *s = v->in.s;
    size_t m = (size_t)st->mark_len;
    uint32_t c;
    struct span head = span_of(r, &v->in, 0, uni_get(s, &c));
    bool marked = s[0] == ' ' || (v->in.len >= m && !memcmp(s, st->mark, m));
    bool wanted = st->scheme == ALWAYS ||
                  (st->scheme == FIRST && r->first && head.from == 0);
    if (!(wanted && !marked) && !memchr(s, ' ', v->in.len))
        return;
    if (wanted && !marked)
        put(v, st->mark, st->mark_len, head);
    for (size_t i = 0; i < v->in.len;) {
        int n = uni_get(s + i, &c);
        struct span from = span_of(r, &v->in, i, n);
        put(v, c == ' ' ? st->mark : s + i, c == ' ' ? st->mark_len : n, from);
        i += (size_t)n;
    }
    change_done(v);
}

/* ByteLevel that is not the last stage: those behind it see byte letters… */
static void change_to_bytes(struct split_run *r, struct level *v) {
    for (size_t i = 0; i < v->in.len;) {
        uint32_t c;
        char letter[4];
        int n = uni_get(v->in.s + i, &c);
        struct span from = span_of(r, &v->in, i, n);
        for (int k = 0; k < n; k++, i++)
            put(v, letter,
                uni_put(byte_char((unsigned char)v->in.s[i]), letter), from);
    }
    change_done(v);
}

/* … and the model sees bytes. */
static void change_from_bytes(struct split_run *r, struct level *v) {
    uint8_t back[512] = {0};
    for (int b = 0; b < 256; b++)
        back[byte_char(b)] = (uint8_t)b;
    for (size_t i = 0; i < v->in.len;) {
        uint32_t c;
        int n = uni_get(v->in.s + i, &c);
        char b = (char)back[c & 511];
        put(v, &b, 1, span_of(r, &v->in, i, n));
        i += (size_t)n;
    }
    change_done(v);
}

/* ---- configuration ---- */

static struct stage *stage_add(struct split *s, struct err *err) {
    if (s->n == STAGES_MAX) {
        err_set(err, ERR_UNSUPPORTED, "more than %d pre-tokenizers in sequence",
                STAGES_MAX);
        return NULL;
    }
    return &s->stage[s->n++];
}

static char *dup_bytes(const char *s, size_t len) {
    char *d = malloc(len + 1);
    CHECK(d, "out of memory for a pattern");
    memcpy(d, s, len);
    d[len] = 0;
    return d;
}

static bool flag(const json_t *j, const char *name, bool dflt) {
    const json_t *v = json_object_get(j, name);
    return json_is_boolean(v) ? json_is_true(v) : dflt;
}

/* One of n names; dflt when there is none, -1: another. */
static int choice(const json_t *j, const char *key, const char *const *names,
                  int n, int dflt) {
    const json_t *v = json_object_get(j, key);
    if (!v || json_is_null(v))
        return dflt;
    for (int i = 0; i < n && json_is_string(v); i++)
        if (strcmp(json_string_value(v), names[i]) == 0)
            return i;
    return -1;
}

static int behavior_of(const json_t *j, int dflt, struct err *err) {
    int b = choice(j, "behavior", behaviors, N_BEHAVIORS, dflt);
    if (b < 0)
        err_set(err, ERR_UNSUPPORTED, "behavior '%.40s' is not supported",
                json_string_value(json_object_get(j, "behavior"))
                    ? json_string_value(json_object_get(j, "behavior"))
                    : "none");
    return b;
}

static int add_pattern(struct split *s, const char *pattern,
                       enum behavior behavior, bool invert, struct err *err) {
    struct stage *st = stage_add(s, err);
    if (!st)
        return -1;
    st->pattern = dup_bytes(pattern, strlen(pattern));
    st->behavior = behavior;
    st->invert = invert;
    return 0;
}

static int add_literal(struct split *s, const char *text, size_t len,
                       enum behavior behavior, bool invert, struct err *err) {
    struct stage *st = stage_add(s, err);
    if (!st)
        return -1;
    st->behavior = behavior;
    st->invert = invert;
    if (len && !memchr(text, 0, len))
        st->literal = dup_bytes(text, len);
    else if (!(st->regex = regex_literal(text, len, err)))
        return -1;
    return 0;
}

static int add_is(struct split *s, bool (*is)(uint32_t), enum behavior behavior,
                  struct err *err) {
    struct stage *st = stage_add(s, err);
    if (!st)
        return -1;
    st->is = is;
    st->behavior = behavior;
    return 0;
}

static int conf_split(struct split *s, const json_t *j, struct err *err) {
    const json_t *p = json_object_get(j, "pattern");
    const json_t *regex = json_object_get(p, "Regex");
    const json_t *string = json_is_string(p) ? p : json_object_get(p, "String");
    int b = behavior_of(j, -1, err);
    bool invert = flag(j, "invert", false);
    if (b < 0)
        return -1;
    if (json_is_string(string))
        return add_literal(s, json_string_value(string),
                           json_string_length(string), (enum behavior)b, invert,
                           err);
    if (!json_is_string(regex))
        return err_set(err, ERR_INVAL, "Split without a pattern");
    if (strlen(json_string_value(regex)) != json_string_length(regex))
        return err_set(err, ERR_UNSUPPORTED, "Split: a NUL in the pattern");
    return add_pattern(s, json_string_value(regex), (enum behavior)b, invert,
                       err);
}

static int conf_byte_level(struct split *s, const json_t *j, struct err *err) {
    const char *name, *const *gpt2;
    struct stage *st;
    CHECK(scan_known(0, &name, &gpt2) == 1, "the first family is gpt2");
    if (s->is_bytes)
        return err_set(err, ERR_UNSUPPORTED, "ByteLevel twice");
    s->is_bytes = true;
    if (flag(j, "add_prefix_space", true)) {
        if (!(st = stage_add(s, err)))
            return -1;
        st->change = change_prefix;
    }
    if (flag(j, "use_regex", true) &&
        add_pattern(s, gpt2[0], ISOLATED, false, err) < 0)
        return -1;
    if (!(st = stage_add(s, err))) /* dropped when it is the last */
        return -1;
    st->change = change_to_bytes;
    return 0;
}

static int conf_digits(struct split *s, const json_t *j, struct err *err) {
    bool each = flag(j, "individual_digits", false);
    return add_is(s, is_number, each ? ISOLATED : CONTIGUOUS, err);
}

static int conf_metaspace(struct split *s, const json_t *j, struct err *err) {
    const json_t *rep = json_object_get(j, "replacement");
    const char *mark = json_is_string(rep) ? json_string_value(rep) : "";
    int scheme = choice(j, "prepend_scheme", schemes, 3, ALWAYS);
    uint32_t c;
    struct stage *st = stage_add(s, err);
    if (!st)
        return -1;
    st->mark_len = *mark ? uni_get(mark, &c) : 0;
    if (!*mark || strlen(mark) != (size_t)st->mark_len || scheme < 0)
        return err_set(err, ERR_INVAL,
                       "Metaspace: a replacement of one character, and "
                       "prepend_scheme always, first or never are wanted");
    memcpy(st->mark, mark, (size_t)st->mark_len);
    st->change = change_metaspace;
    if (json_is_false(json_object_get(j, "add_prefix_space")))
        scheme = NEVER;
    st->scheme = (enum scheme)scheme;
    if (!flag(j, "split", true))
        return 0;
    return add_literal(s, mark, strlen(mark), NEXT, false, err);
}

static int conf_punctuation(struct split *s, const json_t *j, struct err *err) {
    int b = behavior_of(j, ISOLATED, err);
    return b < 0 ? -1 : add_is(s, is_punct, (enum behavior)b, err);
}

static int conf_space(struct split *s, const json_t *j, struct err *err) {
    (void)j;
    return add_is(s, uni_is_space, REMOVED, err);
}

static int conf_words(struct split *s, const json_t *j, struct err *err) {
    struct stage *st = stage_add(s, err);
    (void)j;
    if (!st)
        return -1;
    st->kind = word_kind;
    st->behavior = REMOVED;
    st->invert = true;
    return 0;
}

static int conf_scripts(struct split *s, const json_t *j, struct err *err) {
    struct stage *st = stage_add(s, err);
    (void)j;
    if (!st)
        return -1;
    st->scripts = true;
    st->behavior = REMOVED;
    st->invert = true;
    return 0;
}

static int conf_bert(struct split *s, const json_t *j, struct err *err) {
    if (conf_space(s, j, err) < 0)
        return -1;
    return add_is(s, is_punct, ISOLATED, err);
}

static int conf_char(struct split *s, const json_t *j, struct err *err) {
    const json_t *d = json_object_get(j, "delimiter");
    if (!json_is_string(d) || json_string_length(d) == 0)
        return err_set(err, ERR_INVAL, "CharDelimiterSplit without delimiter");
    return add_literal(s, json_string_value(d), json_string_length(d), REMOVED,
                       false, err);
}

static int conf_fixed(struct split *s, const json_t *j, struct err *err) {
    const json_t *n = json_object_get(j, "length");
    struct stage *st = stage_add(s, err);
    if (!st)
        return -1;
    if (!json_is_integer(n) || json_integer_value(n) < 1)
        return err_set(err, ERR_INVAL, "FixedLength without a length");
    st->length = (size_t)json_integer_value(n);
    return 0;
}

static int conf_any(struct split *s, const json_t *j, int depth,
                    struct err *err);

static int conf_sequence(struct split *s, const json_t *j, int depth,
                         struct err *err) {
    const json_t *all = json_object_get(j, "pretokenizers");
    if (!json_is_array(all) || depth == DEPTH_MAX)
        return err_set(err, ERR_INVAL, "Sequence without pretokenizers");
    for (size_t i = 0; i < json_array_size(all); i++)
        if (conf_any(s, json_array_get(all, i), depth + 1, err) < 0)
            return -1;
    return 0;
}

static int conf_any(struct split *s, const json_t *j, int depth,
                    struct err *err) {
    static const struct {
        const char *type;
        int (*add)(struct split *s, const json_t *j, struct err *err);
    } kinds[] = {
        {"Split", conf_split},
        {"ByteLevel", conf_byte_level},
        {"Digits", conf_digits},
        {"Metaspace", conf_metaspace},
        {"Punctuation", conf_punctuation},
        {"Whitespace", conf_words},
        {"WhitespaceSplit", conf_space},
        {"BertPreTokenizer", conf_bert},
        {"CharDelimiterSplit", conf_char},
        {"FixedLength", conf_fixed},
        {"UnicodeScripts", conf_scripts},
    };
    const char *type = json_string_value(json_object_get(j, "type"));
    if (type && strcmp(type, "Sequence") == 0)
        return conf_sequence(s, j, depth, err);
    for (size_t i = 0; type && i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(type, kinds[i].type) == 0)
            return kinds[i].add(s, j, err);
    return err_set(err, ERR_UNSUPPORTED, "'%.40s' is not supported",
                   type ? type : "no type");
}

/* ---- scanners for what is known, PCRE2 for the rest ---- */

static void stage_release(struct stage *st) {
    scan_free(st->scan);
    regex_free(st->regex);
    free(st->literal);
    free(st->pattern);
    memset(st, 0, sizeof *st);
}

static void stage_drop(struct split *s, int i, int n) {
    for (int k = i; k < i + n; k++)
        stage_release(&s->stage[k]);
    memmove(&s->stage[i], &s->stage[i + n],
            (size_t)(s->n - i - n) * sizeof *s->stage);
    s->n -= n;
    memset(&s->stage[s->n], 0, (size_t)n * sizeof *s->stage);
}

/* Matches are pieces, and so are gaps: scanners leave none. */
static bool is_plain(const struct stage *st) {
    return st->pattern && ((st->behavior == ISOLATED && !st->invert) ||
                           (st->behavior == REMOVED && st->invert));
}

/* A scanner for the stages from i on, if there is one. */
static void use_scan(struct split *s, int i) {
    for (int n = 3; n > 0; n--) {
        const char *patterns[3];
        bool plain = i + n <= s->n;
        for (int k = 0; plain && k < n; k++) {
            plain = is_plain(&s->stage[i + k]);
            patterns[k] = s->stage[i + k].pattern;
        }
        struct scan *x = plain ? scan_new(patterns, (size_t)n) : NULL;
        if (x) {
            stage_drop(s, i + 1, n - 1);
            stage_release(&s->stage[i]);
            s->stage[i] = (struct stage){.scan = x};
            return;
        }
    }
}

static int split_finish(struct split *s, struct err *err) {
    int last = s->n - 1;
    if (last >= 0 && s->stage[last].change == change_to_bytes)
        stage_drop(s, last, 1);
    for (int i = 0; i < s->n; i++)
        if (s->stage[i].change == change_to_bytes) {
            struct stage *st = stage_add(s, err);
            if (!st)
                return -1;
            st->change = change_from_bytes;
            break;
        }
    for (int i = 0; i < s->n; i++) {
        struct stage *st = &s->stage[i];
        if (st->pattern)
            use_scan(s, i);
        if (st->pattern) {
            st->regex = regex_new(st->pattern, strlen(st->pattern), err);
            if (!st->regex)
                return -1;
            free(st->pattern);
            st->pattern = NULL;
        }
    }
    return 0;
}

struct split *split_new(const json_t *conf, struct err *err) {
    struct split *s = calloc(1, sizeof *s);
    CHECK(s, "out of memory for a pre-tokenizer");
    if (!conf || json_is_null(conf))
        return s;
    if (conf_any(s, conf, 0, err) == 0 && split_finish(s, err) == 0)
        return s;
    err_ctx(err, "pre_tokenizer");
    split_free(s);
    return NULL;
}

void split_free(struct split *s) {
    if (!s)
        return;
    for (int i = 0; i < s->n; i++)
        stage_release(&s->stage[i]);
    free(s);
}

bool split_is_bytes(const struct split *s) { return s->is_bytes; }

/* ---- running ---- */

struct split_run *split_run_new(const struct split *s) {
    struct split_run *r = calloc(1, sizeof *r);
    CHECK(r, "out of memory for pieces");
    r->split = s;
    for (int i = 0; i < s->n; i++) {
        r->level[i].st = &s->stage[i];
        if (s->stage[i].regex)
            regex_run_init(&r->level[i].regex, s->stage[i].regex, &r->budget);
    }
    return r;
}

void split_run_free(struct split_run *r) {
    if (!r)
        return;
    for (int i = 0; i < r->split->n; i++) {
        regex_run_release(&r->level[i].regex);
        free(r->level[i].text);
        free(r->level[i].spans);
    }
    free(r);
}

void split_begin(struct split_run *r, const char *text, size_t len,
                 bool first) {
    CHECK(len < UINT32_MAX, "a text of %zu bytes", len);
    r->text = text;
    r->len = len;
    r->first = first;
    r->given = false;
    r->budget = regex_budget(len);
    for (int i = 0; i < r->split->n; i++) {
        r->level[i].active = false;
        r->level[i].regex.gave_up = false;
    }
}

static void level_start(struct level *v) {
    v->active = true;
    v->at = v->look = v->last = 0;
    v->no_more = v->found = v->has_last = v->peeked = false;
}

static bool text_next(struct split_run *r, struct piece *p) {
    if (r->given || !r->len)
        return false;
    r->given = true;
    *p = (struct piece){r->text, r->len, NULL};
    return true;
}

/* The next piece of stage i; of the text itself when i is -1. (A chain of at
 * most STAGES_MAX.) */
static bool stage_next(struct split_run *r, int i, struct piece *p) {
    if (i < 0)
        return text_next(r, p);
    struct level *v = &r->level[i];
    for (;;) {
        struct seg s;
        if (!v->active) {
            if (!stage_next(r, i - 1, &v->in))
                return false;
            if (v->st->change) {
                v->n = 0;
                v->st->change(r, v);
                *p = v->in;
                return true;
            }
            level_start(v);
        }
        while (cut_next(v, &s))
            if (s.to > s.from) {
                *p = (struct piece){v->in.s + s.from, s.to - s.from,
                                    v->in.at ? v->in.at + s.from : NULL};
                return true;
            }
        v->active = false;
    }
}

/* The short way for a scanner that is the last stage: it leaves no gaps. */
static size_t scan_fill(struct level *v, struct piece *p, size_t max) {
    size_t n = 0, at = v->look;
    const struct piece *in = &v->in;
    if (!v->active || !v->st->scan)
        return 0;
    for (; n < max && at < in->len; n++) {
        size_t to = scan_next(v->st->scan, in->s, at, in->len);
        p[n] = (struct piece){in->s + at, to - at, in->at ? in->at + at : NULL};
        at = to;
    }
    v->look = at;
    v->active = at < in->len;
    return n;
}

/* A piece that a stage changed stays until that stage is asked for another. */
size_t split_fill(struct split_run *r, struct piece *p, size_t max) {
    int last = r->split->n - 1;
    struct level *v = &r->level[last < 0 ? 0 : last];
    size_t n = scan_fill(v, p, max);
    while (n < max && (n == 0 || !p[n - 1].at) && stage_next(r, last, &p[n])) {
        n++;
        n += scan_fill(v, p + n, max - n);
    }
    return n;
}

bool split_next(struct split_run *r, struct piece *p) {
    return split_fill(r, p, 1) == 1;
}

bool split_gave_up(const struct split_run *r) {
    for (int i = 0; i < r->split->n; i++)
        if (r->level[i].regex.gave_up)
            return true;
    return false;
}
