/*
 * pretok: a chain of splits; each cuts the pieces of the one before into
 * matches and what lies between them. Patterns are tokenizer.json's, for
 * Oniguruma; \s and \S become \p{White_Space} so that PCRE2 agrees
 * (spec/renderers §9).
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "core/text/int.h"

#include "core/json.h"

#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PRETOK_MAX 8

static const char gpt2_pattern[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|"
    "\\s+(?!\\S)|\\s+";

struct pretok {
    int n;
    pcre2_code *code[PRETOK_MAX];
};

/* \s to \p{White_Space}, \S to \P{White_Space}. */
static char *pattern_translate(const char *p) {
    char *out = malloc(16 * strlen(p) + 1), *o = out;
    CHECK(out, "out of memory for a pattern");
    for (; *p; p++) {
        if (*p != '\\' || !p[1]) {
            *o++ = *p;
            continue;
        }
        char c = *++p;
        if (c == 's' || c == 'S') {
            const char *name =
                c == 's' ? "\\p{White_Space}" : "\\P{White_Space}";
            memcpy(o, name, strlen(name));
            o += strlen(name);
        } else {
            *o++ = '\\';
            *o++ = c;
        }
    }
    *o = 0;
    return out;
}

/* PCRE2 of Debian 12 knows no \p{White_Space}: its members, spelt out. */
static char *pattern_spell(char *p) {
    static const char ws[] = "\\t-\\r \\x{85}\\x{a0}\\x{1680}\\x{2000}-"
                             "\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}"
                             "\\x{3000}";
    size_t len = strlen(p);
    char *out = malloc(16 * len + 1), *o = out;
    bool in_class = false;
    CHECK(out, "out of memory for a pattern");
    for (char *s = p; *s;) {
        bool yes = strncmp(s, "\\p{White_Space}", 15) == 0;
        bool no = strncmp(s, "\\P{White_Space}", 15) == 0;
        if (yes || no) {
            const char *open = in_class ? "" : yes ? "[" : "[^";
            o += snprintf(o, 256, "%s%s%s", open, ws, in_class ? "" : "]");
            s += 15;
        } else if (*s == '\\' && s[1]) {
            *o++ = *s++;
            *o++ = *s++;
        } else {
            in_class = *s == '[' ? true : *s == ']' ? false : in_class;
            *o++ = *s++;
        }
    }
    *o = 0;
    free(p);
    return out;
}

static int pretok_add(struct pretok *p, const char *pattern, struct err *err) {
    int code;
    PCRE2_SIZE at;
    if (p->n == PRETOK_MAX)
        return err_set(err, ERR_UNSUPPORTED, "more than %d splits", PRETOK_MAX);
    char *text = pattern_spell(pattern_translate(pattern));
    pcre2_code *c = pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED,
                                  PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE,
                                  &code, &at, NULL);
    free(text);
    if (!c)
        return err_set(err, ERR_UNSUPPORTED,
                       "pre_tokenizer pattern '%.80s': error %d at %zu",
                       pattern, code, (size_t)at);
    pcre2_jit_compile(c, PCRE2_JIT_COMPLETE); /* slower without, not wrong */
    p->code[p->n++] = c;
    return 0;
}

static int pretok_conf(struct pretok *p, const json_t *j, bool *byte_level,
                       struct err *err);

static int pretok_split(struct pretok *p, const json_t *j, struct err *err) {
    const json_t *pat = json_object_get(j, "pattern");
    const char *regex = json_string_value(json_object_get(pat, "Regex"));
    const char *how = json_string_value(json_object_get(j, "behavior"));
    bool invert = json_is_true(json_object_get(j, "invert"));
    bool same = how && ((strcmp(how, "Isolated") == 0 && !invert) ||
                        (strcmp(how, "Removed") == 0 && invert));
    if (!regex || !same)
        return err_set(err, ERR_UNSUPPORTED,
                       "pre_tokenizer Split with behavior '%s' is not "
                       "supported",
                       how ? how : "none");
    return pretok_add(p, regex, err);
}

static int pretok_sequence(struct pretok *p, const json_t *j, bool *byte_level,
                           struct err *err) {
    const json_t *all = json_object_get(j, "pretokenizers"), *e;
    size_t i;
    json_array_foreach((json_t *)all, i,
                       e) if (pretok_conf(p, e, byte_level, err) < 0) return -1;
    return 0;
}

static int pretok_conf(struct pretok *p, const json_t *j, bool *byte_level,
                       struct err *err) {
    const char *type = json_string_value(json_object_get(j, "type"));
    if (!type)
        return err_set(err, ERR_UNSUPPORTED, "no pre_tokenizer");
    if (strcmp(type, "Sequence") == 0)
        return pretok_sequence(p, j, byte_level, err);
    if (strcmp(type, "Split") == 0)
        return pretok_split(p, j, err);
    if (strcmp(type, "Digits") == 0)
        return pretok_add(p,
                          json_is_true(json_object_get(j, "individual_digits"))
                              ? "\\p{N}"
                              : "\\p{N}+",
                          err);
    if (strcmp(type, "ByteLevel") == 0) {
        bool use = !json_is_false(json_object_get(j, "use_regex"));
        if (json_is_true(json_object_get(j, "add_prefix_space")))
            return err_set(err, ERR_UNSUPPORTED,
                           "ByteLevel with add_prefix_space is not supported");
        *byte_level = true;
        return use ? pretok_add(p, gpt2_pattern, err) : 0;
    }
    return err_set(err, ERR_UNSUPPORTED,
                   "pre_tokenizer '%.40s' is not supported", type);
}

struct pretok *pretok_new(const json_t *conf, bool *byte_level,
                          struct err *err) {
    struct pretok *p = calloc(1, sizeof *p);
    CHECK(p, "out of memory for a pre-tokenizer");
    *byte_level = false;
    if (pretok_conf(p, conf, byte_level, err) == 0 && *byte_level)
        return p;
    err_set(err, ERR_UNSUPPORTED,
            "a pre_tokenizer without ByteLevel is not "
            "supported");
    pretok_free(p);
    return NULL;
}

void pretok_free(struct pretok *p) {
    if (!p)
        return;
    for (int i = 0; i < p->n; i++)
        pcre2_code_free(p->code[i]);
    free(p);
}

struct pretok_run {
    const struct pretok *p;
    pcre2_match_data *match[PRETOK_MAX];
    pretok_fn *fn;
    void *arg;
};

static void pretok_level(const struct pretok_run *r, int level, const char *s,
                         size_t len) {
    if (len == 0)
        return;
    if (level == r->p->n) {
        r->fn(r->arg, s, len);
        return;
    }
    size_t at = 0;
    while (at < len) {
        int rc = pcre2_match(r->p->code[level], (PCRE2_SPTR)s, len, at,
                             PCRE2_NO_UTF_CHECK, r->match[level], NULL);
        const PCRE2_SIZE *v = pcre2_get_ovector_pointer(r->match[level]);
        if (rc < 0 || v[1] == v[0])
            break;
        size_t from = v[0], to = v[1];
        pretok_level(r, level + 1, s + at, from - at);
        pretok_level(r, level + 1, s + from, to - from);
        at = to;
    }
    pretok_level(r, level + 1, s + at, len - at);
}

void pretok_run(const struct pretok *p, const char *text, size_t len,
                pretok_fn *fn, void *arg) {
    struct pretok_run r = {.p = p, .fn = fn, .arg = arg};
    for (int i = 0; i < p->n; i++) {
        r.match[i] = pcre2_match_data_create(1, NULL);
        CHECK(r.match[i], "out of memory for a match");
    }
    pretok_level(&r, 0, text, len);
    for (int i = 0; i < p->n; i++)
        pcre2_match_data_free(r.match[i]);
}
