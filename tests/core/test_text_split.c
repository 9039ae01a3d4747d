/* Pre-tokenizers and normalizers against Hugging Face's, scanners against
 * PCRE2, and what keeps both within bounds. */
#include "core/fs.h"
#include "core/text/decode.h"
#include "core/text/norm.h"
#include "core/text/regex.h"
#include "core/text/scan.h"
#include "core/text/split.h"
#include "core/text/unicode.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

Suite *text_split_suite(void);

#define GOLDEN "tests/golden/splits.jsonl"

/* ---- golden pieces ---- */

struct got {
    size_t from, to; /* characters of the text */
    const char *s;
    size_t len;
};

static size_t chars(const char *s, size_t len) {
    size_t n = 0;
    for (size_t i = 0; i < len; i++)
        n += (s[i] & 0xc0) != 0x80;
    return n;
}

static struct got located(const char *text, const char *s, size_t len,
                          const struct span *at) {
    size_t from = at ? at[0].from : (size_t)(s - text);
    size_t to = at ? at[len - 1].to : from + len;
    return (struct got){chars(text, from), chars(text, to), s, len};
}

static void same_piece(const struct got *g, const json_t *want,
                       const char *what) {
    const json_t *s = json_array_get(want, 2);
    ck_assert_msg(want, "%s: too many pieces", what);
    ck_assert_msg(
        (json_int_t)g->from == json_integer_value(json_array_get(want, 0)) &&
            (json_int_t)g->to == json_integer_value(json_array_get(want, 1)),
        "%s: %zu-%zu", what, g->from, g->to);
    ck_assert_msg(!s || (g->len == json_string_length(s) &&
                         memcmp(g->s, json_string_value(s), g->len) == 0),
                  "%s: '%.*s'", what, (int)g->len, g->s);
}

static void check_split(const struct split *s, const json_t *text,
                        const json_t *want, const char *name) {
    struct split_run *r = split_run_new(s);
    const char *t = json_string_value(text);
    struct piece p;
    size_t n = 0;
    split_begin(r, t, json_string_length(text), true);
    while (split_next(r, &p)) {
        struct got g = located(t, p.s, p.len, p.at);
        same_piece(&g, json_array_get(want, n++), name);
    }
    ck_assert_msg(n == json_array_size(want), "%s: %zu pieces of '%s'", name, n,
                  t);
    split_run_free(r);
}

static void check_norm(const struct norm *n, const json_t *text,
                       const json_t *want, const char *name) {
    struct norm_out out = {.want_at = true};
    const char *t = json_string_value(text);
    size_t k = 0;
    norm_apply(n, t, json_string_length(text), &out);
    for (size_t i = 0, len; i < out.len; i += len) {
        uint32_t c;
        len = (size_t)uni_get(out.text + i, &c);
        struct got g = located(out.at ? t : out.text, out.text + i, len,
                               out.at ? out.at + i : NULL);
        same_piece(&g, json_array_get(want, k++), name);
    }
    ck_assert_msg(k == json_array_size(want), "%s: %zu characters", name, k);
    struct norm_out plain = {.want_at = false};
    norm_apply(n, t, json_string_length(text), &plain);
    ck_assert_msg(plain.len == out.len &&
                      (!out.len || !memcmp(plain.text, out.text, out.len)),
                  "%s: another text without offsets", name);
    norm_out_release(&plain);
    norm_out_release(&out);
}

static void check_line(const json_t *line) {
    struct err err = {0};
    const char *name = json_string_value(json_object_get(line, "name"));
    const json_t *conf = json_object_get(line, "conf"), *one;
    const json_t *nj = json_object_get(conf, "normalizer");
    struct norm *n = norm_new(nj, &err);
    struct split *s = split_new(json_object_get(conf, "pre_tokenizer"), &err);
    ck_assert_msg(n && s, "%s: %s", name, err.msg);
    size_t i;
    json_array_foreach(json_object_get(line, "cases"), i, one) {
        const json_t *text = json_array_get(one, 0);
        const json_t *want = json_array_get(one, 1);
        if (nj)
            check_norm(n, text, want, name);
        else
            check_split(s, text, want, name);
    }
    split_free(s);
    norm_free(n);
}

START_TEST(pieces_characters_and_offsets_are_hugging_faces) {
    FILE *f = fopen(GOLDEN, "re");
    char *line = NULL;
    size_t room = 0;
    int n = 0;
    ck_assert_ptr_nonnull(f);
    for (ssize_t len; (len = getline(&line, &room, f)) > 0; n++) {
        json_t *j = json_loadb(line, (size_t)len, JSON_ALLOW_NUL, NULL);
        ck_assert_ptr_nonnull(j);
        check_line(j);
        json_decref(j);
    }
    ck_assert_int_ge(n, 100);
    free(line);
    fclose(f);
}
END_TEST

/* ---- scanners ---- */

static const uint32_t alphabet[] = {
    'a',    'B',    's',     'T',     'l',     'L',     'e',     'r',
    '\'',   '\'',   '\'',    ' ',     ' ',     ' ',     '\n',    '\r',
    '\t',   '1',    '2',     '.',     '/',     '-',     '_',     0,
    0x17f,  0x1c5,  0x2b0,   0xaa,    0x4e2d,  0x3007,  0x3005,  0x30fb,
    0x3042, 0x309b, 0x3040,  0x2e80,  0x301,   0x93f,   0xbd,    0x2167,
    0x85,   0xa0,   0x180e,  0x2028,  0x3000,  0x200d,  0x378,   0xe000,
    0xffff, 0x1c89, 0x10d4a, 0x10d40, 0x323af, 0x1f600, 0x2ebf0, 0x9fff};

/* The same seed gives the same text; its bytes. */
static size_t random_text(uint32_t *seed, char out[80]) {
    size_t len = 0, n = 1 + (*seed >> 8) % 16;
    for (size_t i = 0; i < n; i++) {
        *seed = *seed * 1664525u + 1013904223u;
        uint32_t pick = (*seed >> 10) % (sizeof alphabet / sizeof *alphabet);
        len += (size_t)uni_put(alphabet[pick], out + len);
    }
    return len;
}

static json_t *split_of(const char *const *patterns, size_t n,
                        const char *suffix) {
    json_t *all = json_array();
    for (size_t i = 0; i < n; i++) {
        char *p = fs_path("%s%s", patterns[i], suffix);
        json_array_append_new(
            all, json_pack("{s:s,s:{s:s},s:s,s:b}", "type", "Split", "pattern",
                           "Regex", p, "behavior", "Isolated", "invert", 0));
        free(p);
    }
    return json_pack("{s:s,s:o}", "type", "Sequence", "pretokenizers", all);
}

static struct split *split_from(json_t *conf) {
    struct err err = {0};
    struct split *s = split_new(conf, &err);
    ck_assert_msg(s != NULL, "%s", err.msg);
    json_decref(conf);
    return s;
}

START_TEST(scanner_cuts_where_the_regular_expression_does) {
    const char *name, *const *patterns;
    size_t n = scan_known(_i, &name, &patterns);
    ck_assert_uint_gt(n, 0);
    /* A comment makes the pattern's text an unknown one. */
    struct split *fast = split_from(split_of(patterns, n, ""));
    struct split *slow = split_from(split_of(patterns, n, "(?#)"));
    struct split_run *a = split_run_new(fast), *b = split_run_new(slow);
    uint32_t seed = 7;
    for (int i = 0; i < 8000; i++) {
        char text[80];
        struct piece p, q;
        size_t len = random_text(&seed, text);
        split_begin(a, text, len, true);
        split_begin(b, text, len, true);
        bool more;
        do {
            more = split_next(a, &p);
            ck_assert_msg(more == split_next(b, &q), "%s: '%.*s'", name,
                          (int)len, text);
            ck_assert_msg(!more || (p.s == q.s && p.len == q.len),
                          "%s: '%.*s' at %zu: %zu and %zu bytes", name,
                          (int)len, text, (size_t)(p.s - text), p.len, q.len);
        } while (more);
    }
    split_run_free(a);
    split_run_free(b);
    split_free(fast);
    split_free(slow);
}
END_TEST

START_TEST(unchanged_pieces_join_to_the_text_of_a_flood) {
    const char *name, *const *patterns;
    size_t n = scan_known(_i, &name, &patterns), len = 1 << 18;
    struct split *s = split_from(split_of(patterns, n, ""));
    struct split_run *r = split_run_new(s);
    static const char floods[] = "a A\n'1.\t\x01";
    char *text = malloc(len);
    for (const char *c = floods; *c; c++) {
        struct piece p;
        size_t at = 0;
        memset(text, *c, len);
        split_begin(r, text, len, true);
        while (split_next(r, &p)) {
            ck_assert(p.s == text + at && p.len > 0);
            at += p.len;
        }
        ck_assert_uint_eq(at, len);
    }
    free(text);
    split_run_free(r);
    split_free(s);
}
END_TEST

/* ---- regular expressions ---- */

START_TEST(backtracking_without_end_is_given_up_not_endured) {
    static const char *const patterns[] = {
        "(\\s+)+[yz]", "\\s*\\s*\\s*\\s*[yz]", "(?:\\s|\\s\\s|\\s\\s\\s)*[yz]",
        "(?=(?:\\s*)*[yz])", "(?:(?:\\s?){30}){30}[yz]"};
    size_t len = 100000;
    char *text = malloc(len);
    memset(text, ' ', len);
    text[len - 1] = 'x';
    struct split *s = split_from(split_of(&patterns[_i], 1, ""));
    struct split_run *r = split_run_new(s);
    struct piece p;
    split_begin(r, text, len, true);
    ck_assert(split_next(r, &p));
    ck_assert_uint_eq(p.len, len);
    ck_assert(!split_next(r, &p) && split_gave_up(r));
    split_begin(r, text, 1, true);
    ck_assert(split_next(r, &p) && !split_gave_up(r));
    split_run_free(r);
    split_free(s);
    free(text);
}
END_TEST

START_TEST(patterns_without_a_translation_are_named) {
    static const struct {
        const char *pattern, *part;
    } bad[] = {
        {"(a)\\1", "this escape"},
        {"\\p{Nonsense}", "this property"},
        {"(?<name>a)", "this group"},
        {"(?~a)", "this group"},
        {"a{2}?", "{n}?"},
        {"(?i:ss)", "(?i) with these letters"},
        {"(?i:\xc3\xa4)", "(?i) with"},
        {"[a", "without its ]"},
        {"(a", "without its )"},
        {"a)", "without its ("},
        {"*a", "a repeat of nothing"},
        {"a{2000}", "such a {}"},
        {"\\X", "this escape"},
        {"\\", "a backslash at the end"},
        {"[z-a]", "this range"},
        {"(?<=a+)b", "PCRE2 refuses it"},
    };
    struct err err = {0};
    struct regex *re =
        regex_new(bad[_i].pattern, strlen(bad[_i].pattern), &err);
    ck_assert_ptr_null(re);
    ck_assert_int_eq(err.code, ERR_UNSUPPORTED);
    ck_assert_msg(strstr(err.msg, bad[_i].part) != NULL, "%s", err.msg);
}
END_TEST

START_TEST(classes_are_of_unicode_16_whatever_pcre2_has) {
    static const struct {
        const char *pattern;
        uint32_t c;
        bool is;
    } rows[] = {
        {"\\p{L}", 0x323af, true},   {"\\P{L}", 0x323af, false},
        {"\\p{Cn}", 0x323af, false}, {"\\p{N}", 0x1ccf0, true},
        {"\\p{Mn}", 0x1734, false},  {"\\p{Mc}", 0x1734, true},
        {"\\s", 0x180e, false},      {"\\s", 0x85, true},
        {"[^\\S]", 0x3000, true},    {"\\p{Han}", 0x3007, true},
        {"\\p{Han}", 0x3001, false}, {"[\\p{L}&&[^\\p{Han}]]", 0x4e2d, false},
        {"\\w", 0xb2, true},         {"[[:word:]]", 0xb2, false},
        {"[[:punct:]]", '+', true},  {"\\p{P}", '+', false},
        {"\\h", 'f', true},          {"(?i:s)", 0x17f, true},
        {"(?i:[^k])", 0x212a, false}};
    struct err err = {0};
    struct match m;
    char text[4];
    uint64_t budget = 1000;
    struct regex_run run;
    struct regex *re =
        regex_new(rows[_i].pattern, strlen(rows[_i].pattern), &err);
    ck_assert_msg(re != NULL, "%s", err.msg);
    regex_run_init(&run, re, &budget);
    int n = uni_put(rows[_i].c, text);
    ck_assert(regex_find(&run, text, (size_t)n, 0, &m) == rows[_i].is);
    regex_run_release(&run);
    regex_free(re);
}
END_TEST

/* ---- configurations ---- */

START_TEST(configurations_that_are_wrong_are_named) {
    static const struct {
        const char *conf, *part;
    } bad[] = {
        {"{\"type\":\"Nonsense\"}", "'Nonsense' is not supported"},
        {"{}", "no type"},
        {"[]", "no type"},
        {"{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"}}", "behavior"},
        {"{\"type\":\"Split\",\"behavior\":\"Isolated\"}", "without a pattern"},
        {"{\"type\":\"Metaspace\",\"replacement\":\"ab\"}", "one character"},
        {"{\"type\":\"FixedLength\",\"length\":0}", "without a length"},
        {"{\"type\":\"Sequence\"}", "without pretokenizers"},
    };
    struct err err = {0};
    json_t *j = json_loads(bad[_i].conf, 0, NULL);
    ck_assert_ptr_nonnull(j);
    ck_assert_ptr_null(split_new(j, &err));
    ck_assert_msg(strstr(err.msg, "pre_tokenizer: ") == err.msg &&
                      strstr(err.msg, bad[_i].part),
                  "%s", err.msg);
    json_decref(j);
}
END_TEST

START_TEST(no_configuration_makes_one_piece_and_changes_nothing) {
    struct err err = {0};
    struct split *s = split_new(NULL, &err);
    struct norm *n = norm_new(NULL, &err);
    struct split_run *r = split_run_new(s);
    struct norm_out out = {.want_at = true};
    struct piece p;
    split_begin(r, "a b", 3, true);
    ck_assert(split_next(r, &p) && p.len == 3 && !split_next(r, &p));
    split_begin(r, "", 0, true);
    ck_assert(!split_next(r, &p) && norm_is_none(n));
    norm_apply(n, "a b", 3, &out);
    ck_assert(out.len == 3 && !out.at);
    norm_out_release(&out);
    split_run_free(r);
    split_free(s);
    norm_free(n);
}
END_TEST

/* ten for one, ten times over, would be 10 GB of one byte */
START_TEST(replacing_over_and_over_stops_at_a_bound) {
    static const char ten[] =
        "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":"
        "\"aaaaaaaaaa\"}";
    struct err err = {0};
    json_t *list = json_array();
    for (int i = 0; i < 10; i++)
        json_array_append_new(list, json_loads(ten, 0, NULL));
    json_t *j =
        json_pack("{s:s, s:o}", "type", "Sequence", "normalizers", list);
    struct norm *n = norm_new(j, &err);
    ck_assert_msg(n != NULL, "%s", err.msg);
    for (int at = 0; at < 2; at++) {
        struct norm_out out = {.want_at = at};
        norm_apply(n, "ba", 2, &out);
        ck_assert_uint_gt(out.len, 100000);
        ck_assert_uint_lt(out.len, 2 << 20);
        ck_assert(out.text[0] == 'b' && out.text[out.len - 1] == 'a');
        norm_out_release(&out);
    }
    norm_free(n);
    json_decref(j);
}
END_TEST

/* as a decoder's steps, each of which has no more room than all */
START_TEST(a_decoders_replacing_stops_at_a_bound) {
    static const char ten[] =
        "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":"
        "\"aaaaaaaaaa\"}";
    struct err err = {0};
    struct parts p = {0};
    json_t *list = json_array();
    for (int i = 0; i < 10; i++)
        json_array_append_new(list, json_loads(ten, 0, NULL));
    json_t *j = json_pack("{s:s, s:o}", "type", "Sequence", "decoders", list);
    struct decoder *d = decoder_new(j, &err);
    ck_assert_msg(d != NULL, "%s", err.msg);
    for (int i = 0; i < 1000; i++) {
        parts_put(&p, "a", 1);
        parts_cut(&p);
    }
    decoder_run(d, &p);
    ck_assert_uint_gt(p.len, 100000);
    ck_assert_uint_lt(p.len, 2 << 20);
    parts_release(&p);
    decoder_free(d);
    json_decref(j);
}
END_TEST

START_TEST(charsmap_that_is_damaged_is_refused) {
    static const char *const bad[] = {"!", "AAAA", "/////w==", "CAAAAAAA"};
    struct err err = {0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        json_t *j = json_pack("{s:s,s:s}", "type", "Precompiled",
                              "precompiled_charsmap", bad[i]);
        ck_assert_ptr_null(norm_new(j, &err));
        ck_assert_ptr_nonnull(strstr(err.msg, "Precompiled"));
        json_decref(j);
        err = (struct err){0};
    }
}
END_TEST

Suite *text_split_suite(void) {
    Suite *s = suite_create("split");
    TCase *tc = tcase_create("split");
    const char *name, *const *patterns;
    int families = 0;
    while (scan_known(families, &name, &patterns))
        families++;
    tcase_set_timeout(tc, 30);
    tcase_add_test(tc, pieces_characters_and_offsets_are_hugging_faces);
    tcase_add_loop_test(tc, scanner_cuts_where_the_regular_expression_does, 0,
                        families);
    tcase_add_loop_test(tc, unchanged_pieces_join_to_the_text_of_a_flood, 0,
                        families);
    tcase_add_loop_test(tc, backtracking_without_end_is_given_up_not_endured, 0,
                        5);
    tcase_add_loop_test(tc, patterns_without_a_translation_are_named, 0, 16);
    tcase_add_loop_test(tc, classes_are_of_unicode_16_whatever_pcre2_has, 0,
                        19);
    tcase_add_loop_test(tc, configurations_that_are_wrong_are_named, 0, 8);
    tcase_add_test(tc, no_configuration_makes_one_piece_and_changes_nothing);
    tcase_add_test(tc, replacing_over_and_over_stops_at_a_bound);
    tcase_add_test(tc, a_decoders_replacing_stops_at_a_bound);
    tcase_add_test(tc, charsmap_that_is_damaged_is_refused);
    suite_add_tcase(s, tc);
    return s;
}
