/* Chat templates against jinja2's results (tests/peer/jinja.py --golden). */
#include "core/text.h"
#include "core/text/jinja.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Suite *text_jinja_suite(void);

static struct jinja *parsed(const char *text) {
    struct err err = {0};
    struct jinja *j = jinja_parse(text, strlen(text), &err);
    ck_assert_msg(j != NULL, "%s: %s", text, err.msg);
    return j;
}

/* What it renders; NULL and the error when it refuses. */
static char *rendered(const char *text, const char *vars, struct err *err,
                      struct jinja_out *out) {
    json_t *v = json_loads(vars, 0, NULL);
    ck_assert_msg(v != NULL, "%s", vars);
    struct jinja *j = jinja_parse(text, strlen(text), err);
    if (j)
        jinja_render(j, v, out, err);
    jinja_free(j);
    json_decref(v);
    return out->text;
}

static void renders(const char *text, const char *vars, const char *want) {
    struct err err = {0};
    struct jinja_out out = {0};
    char *got = rendered(text, vars, &err, &out);
    ck_assert_msg(got != NULL, "%s: %s", text, err.msg);
    ck_assert_str_eq(got, want);
    jinja_out_release(&out);
}

static void refuses(const char *text, enum err_code code, const char *why) {
    struct err err = {0};
    struct jinja_out out = {0};
    ck_assert_ptr_null(rendered(text, "{\"d\":{},\"l\":[]}", &err, &out));
    ck_assert_msg(strstr(err.msg, why) != NULL, "%s: %s", text, err.msg);
    ck_assert_msg(err.code == code, "%s: %s", text, err_name(err.code));
}

/* The bytes that have a mark, others as dots. */
static void marks(const char *text, const char *vars, uint8_t bit,
                  const char *want) {
    struct err err = {0};
    struct jinja_out out = {0};
    ck_assert_ptr_nonnull(rendered(text, vars, &err, &out));
    for (size_t i = 0; i < out.len; i++)
        if (!(out.mark[i] & bit))
            out.text[i] = '.';
    ck_assert_str_eq(out.text, want);
    jinja_out_release(&out);
}

static size_t chars(const char *text, size_t bytes) {
    size_t n = 0;
    for (size_t i = 0; i < bytes; i++)
        n += ((unsigned char)text[i] & 0xc0) != 0x80;
    return n;
}

/* Spans count characters. */
static bool generated_at(const json_t *spans, size_t at) {
    size_t i;
    json_t *s;
    json_array_foreach((json_t *)spans, i, s) {
        if ((json_int_t)at >= json_integer_value(json_array_get(s, 0)) &&
            (json_int_t)at < json_integer_value(json_array_get(s, 1)))
            return true;
    }
    return false;
}

static void check_snippet(const json_t *c, int line) {
    const json_t *text = json_object_get(c, "text");
    const char *t = json_string_value(json_object_get(c, "template"));
    struct err err = {0};
    struct jinja_out out = {0};
    struct jinja *j = jinja_parse(t, strlen(t), &err);
    int rc = j ? jinja_render(j, json_object_get(c, "vars"), &out, &err) : -1;
    jinja_free(j);
    ck_assert_msg((rc == 0) == !json_is_null(text), "line %d: %s: %s", line, t,
                  rc ? err.msg : "is not refused");
    if (rc < 0)
        return;
    ck_assert_msg(out.len == json_string_length(text) &&
                      memcmp(out.text, json_string_value(text), out.len) == 0,
                  "line %d: %s: %s", line, t, out.text);
    for (size_t i = 0; i < out.len; i++)
        if (((unsigned char)out.text[i] & 0xc0) != 0x80)
            ck_assert_msg(((out.mark[i] & JINJA_GENERATED) != 0) ==
                              generated_at(json_object_get(c, "generated"),
                                           chars(out.text, i)),
                          "line %d: %s: byte %zu", line, t, i);
    jinja_out_release(&out);
}

START_TEST(drawn_snippets_render_as_in_jinja2) {
    FILE *f = fopen("tests/golden/jinja/snippets.jsonl", "re");
    char *line = NULL;
    size_t room = 0;
    int n = 0;
    ck_assert_ptr_nonnull(f);
    for (ssize_t len; (len = getline(&line, &room, f)) > 0;) {
        json_t *c = json_loadb(line, (size_t)len, 0, NULL);
        ck_assert_ptr_nonnull(c);
        check_snippet(c, ++n);
        json_decref(c);
    }
    ck_assert_int_gt(n, 300);
    free(line);
    fclose(f);
}
END_TEST

START_TEST(tags_take_indentation_and_one_newline) {
    renders("a\n  {% if true %}\n  b\n  {% endif %}\nc\n", "{}", "a\n  b\nc");
    renders("a {%- if true +%} b {%+ endif -%} c", "{}", "a b c");
    renders("x {{- 1 -}} y", "{}", "x1y");
    renders("\n  {# c #}\nz", "{}", "\nz");
}
END_TEST

START_TEST(json_is_as_json_dumps_writes_it) {
    renders("{{ x|tojson }}",
            "{\"x\":{\"b\":[1,2.0,1e-5,true,null],\"a\":\"\u00e9<\\\"\\n\"}}",
            "{\"b\": [1, 2.0, 1e-05, true, null], \"a\": \"\u00e9<\\\"\\n\"}");
    renders("{{ x|tojson(indent=1, ensure_ascii=true) }}",
            "{\"x\":{\"a\":[\"\U0001f600\"],\"b\":[]}}",
            "{\n \"a\": [\n  \"\\ud83d\\ude00\"\n ],\n \"b\": []\n}");
}
END_TEST

START_TEST(bytes_that_are_not_utf8_are_read_as_replacement_characters) {
    renders("{% for c in 'a\xc3' %}<{{ c }}>{% endfor %}\xff", "{}",
            "<a><\xef\xbf\xbd>\xef\xbf\xbd");
    renders("{{ 'a\xe2\x82'[1:]|length }}", "{}", "1");
}
END_TEST

START_TEST(quotients_are_rounded_down) {
    renders("{{ 7 // -2 }} {{ 7 % -2 }} {{ -7 // 2 }} {{ -7 % 2 }}", "{}",
            "-4 -1 -4 1");
    renders("{{ 9223372036854775807 % -105753210842676 }} {{ (0 - "
            "9223372036854775807 - 1) % -1 }} {{ 7.5 // -2 }}",
            "{}", "-54209 0 -4.0");
}
END_TEST

START_TEST(zero_keeps_its_sign_in_quotients) {
    renders("{{ -0.0 // 1 }} {{ 0.0 // -1 }} {{ -0.0 % 1 }} {{ 0.0 % -1 }}",
            "{}", "-0.0 -0.0 0.0 -0.0");
}
END_TEST

START_TEST(powers_that_are_no_number_are_refused) {
    refuses("{{ 2.0 ** 4000 }}", ERR_INVAL, "a power out of range");
    refuses("{{ 0.0 ** -1 }}", ERR_INVAL, "0.0 cannot be raised");
    refuses("{{ (-1) ** 0.5 }}", ERR_INVAL, "a complex number");
}
END_TEST

START_TEST(dicts_and_pairs_are_url_encoded_as_a_query) {
    renders("{{ {'a b': '/x y', 'c': 1}|urlencode }}", "{}", "a+b=%2Fx+y&c=1");
    renders("{{ [('k', 'v')]|urlencode }}{{ []|urlencode }}", "{}", "k=v");
    renders("{{ '/x y'|urlencode }}", "{}", "/x%20y");
    refuses("{{ [[1]]|urlencode }}", ERR_INVAL, "pairs of name and value");
}
END_TEST

START_TEST(what_is_undefined_fills_no_format_and_is_left_over_in_none) {
    renders("{{ 'ab' % nope }}", "{}", "ab");
}
END_TEST

START_TEST(characters_of_a_markup_are_plain) {
    renders("{{ 'a<'|e|list }}", "{}", "['a', '&', 'l', 't', ';']");
}
END_TEST

START_TEST(the_else_of_a_loop_does_not_know_what_its_body_sets) {
    renders("{% for x in [] %}{% set s = 1 %}{% else %}{{ s }}{% endfor %}",
            "{\"s\": 7}", "7");
}
END_TEST

START_TEST(unknown_filters_may_stand_in_a_condition_but_not_in_a_scope_there) {
    renders("{% if false %}{{ x|wrong }}{% endif %}a", "{}", "a");
    refuses(
        "{% if false %}{% for x in l %}{{ x|wrong }}{% endfor %}{% endif %}",
        ERR_UNSUPPORTED, "no filter named 'wrong'");
    refuses(
        "{% if false %}{% macro m() %}{{ 1|wrong }}{% endmacro %}{% endif %}",
        ERR_UNSUPPORTED, "no filter named 'wrong'");
    refuses("{% if false %}{% set v %}{{ 1|wrong }}{% endset %}{% endif %}",
            ERR_UNSUPPORTED, "no filter named 'wrong'");
    refuses("{% if false %}{% filter wrong %}{% endfilter %}{% endif %}",
            ERR_UNSUPPORTED, "no filter named 'wrong'");
}
END_TEST

START_TEST(int_refuses_what_is_beyond_64_bits) {
    refuses("{{ 1e20|int }}", ERR_INVAL, "beyond 64 bits");
    refuses("{{ '1e20'|int }}", ERR_INVAL, "beyond 64 bits");
    renders("{{ 'inf'|int(3) }} {{ 'x'|int }} {{ 2.9|int }}", "{}", "3 0 2");
}
END_TEST

START_TEST(dates_are_pinned_by_the_environment) {
    setenv("FETTLE_DATE", "2024-07-06", 1);
    renders("{{ strftime_now('%d %b %Y') }}", "{}", "06 Jul 2024");
}
END_TEST

START_TEST(marks_follow_text_through_whatever_is_done_to_it) {
    static const char v[] = "{\"m\":[{\"c\":\" <x> \"}],\"b\":\"<s>\"}";
    marks("{{ b }}[{{ m[0].c }}]", v, JINJA_TEXT, ".... <x> .");
    marks("{{ b + m[0].c|trim|upper + '<x>' }}", v, JINJA_TEXT, "...<X>...");
    marks("{{ m[0].c.strip().replace('x', '<x>') }}", v, JINJA_TEXT, "<...>");
    marks("{{ m[0].c.split('x')|join('<x>') }}", v, JINJA_TEXT, " <...> ");
    marks("{{ '%s|%s' % (m[0].c[1:4], '<x>') }}", v, JINJA_TEXT, "<x>....");
    marks("{{ m|tojson }}", v, JINJA_TEXT, "...c.... <x> ...");
    marks("{% set v %}a{{ m[0].c }}{% endset %}{{ v[1:] ~ 'z' }}", v,
          JINJA_TEXT, " <x> .");
    marks("{% macro f(x) %}<{{ x }}>{% endmacro %}{{ f(m[0].c) }}", v,
          JINJA_TEXT, ". <x> .");
}
END_TEST

START_TEST(generation_marks_what_it_encloses) {
    marks("a{% generation %}b{{ 'c' }}{% endgeneration %}d", "{}",
          JINJA_GENERATED, ".bc.");
}
END_TEST

START_TEST(templates_that_reach_out_are_refused_by_name_and_line) {
    refuses("a\n{% include 'x' %}", ERR_UNSUPPORTED, "line 2");
    refuses("{% include 'x' %}", ERR_UNSUPPORTED, "'include'");
    refuses("{% extends 'x' %}", ERR_UNSUPPORTED, "'extends'");
    refuses("{% import 'x' as y %}", ERR_UNSUPPORTED, "'import'");
    refuses("{% from 'x' import y %}", ERR_UNSUPPORTED, "'from'");
    refuses("{{ 1|frobnicate }}", ERR_UNSUPPORTED, "'frobnicate'");
    refuses("{% frobnicate %}", ERR_INVAL, "'frobnicate'");
}
END_TEST

START_TEST(what_is_no_template_is_refused_with_its_line) {
    refuses("{{", ERR_INVAL, "a tag without an end");
    refuses("\n\n{{ (1 }}", ERR_INVAL, "line 3");
    refuses("{% if x %}", ERR_INVAL, "the template ends before 'elif'");
    refuses("{% endif %}", ERR_INVAL, "unknown tag 'endif'");
    refuses("{% break %}", ERR_INVAL, "outside a loop");
    refuses("{{ 'a' | }}", ERR_INVAL, "expected a name");
    refuses("{{ 'a }}", ERR_INVAL, "a string without an end");
    refuses("{{ 99999999999999999999 }}", ERR_INVAL, "64 bits");
}
END_TEST

START_TEST(failures_of_a_run_name_what_and_where) {
    refuses("\n{{ raise_exception('roles must alternate') }}", ERR_INVAL,
            "line 2: the template refuses: roles must alternate");
    refuses("{{ nope.x }}", ERR_INVAL, "'nope' is undefined");
    refuses("{{ l.append(1) }}", ERR_INVAL, "undefined");
    refuses("{{ d.update({}) }}", ERR_INVAL, "undefined");
    refuses("{{ 1 + 'a' }}", ERR_INVAL, "'int' and 'str'");
    refuses("{{ 1 / 0 }}", ERR_INVAL, "division by zero");
}
END_TEST

START_TEST(a_template_without_end_is_stopped) {
    static const char *const endless[] = {
        "{% for a in range(99999) %}{% for b in range(99999) %}"
        "{% for c in range(99999) %}{% endfor %}{% endfor %}{% endfor %}",
        "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
        "{% set ns = namespace(s='x') %}{% for a in range(99) %}"
        "{% set ns.s = ns.s + ns.s %}{% endfor %}",
        "{% set ns = namespace(l=[1]) %}{% for a in range(99) %}"
        "{% set ns.l = ns.l + ns.l %}{% endfor %}",
        "{{ 'x' * 999999999999 }}",
        "{{ [1] * 999999999999 }}",
        "{{ '%9999999s' % 'x' * 9999 }}",
        "{% set ns = namespace(l=[]) %}{% for a in range(9999) %}"
        "{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}",
        "{{ 'x'|indent(99999999999) }}",
    };
    struct err err = {0};
    struct jinja_out out = {0};
    ck_assert_ptr_null(rendered(endless[_i], "{}", &err, &out));
    ck_assert_msg(strstr(err.msg, "line 1: ") != NULL, "%s", err.msg);
}
END_TEST

START_TEST(deep_nesting_is_refused) {
    size_t n = 20000;
    char *t = malloc(4 * n + 8);
    static const char *const what[] = {"not ", "-", "[", "{{ "};
    size_t w = strlen(what[_i]);
    memcpy(t, "{{ ", 3);
    for (size_t i = 0; i < n; i++)
        memcpy(t + 3 + i * w, what[_i], w);
    struct err err = {0};
    ck_assert_ptr_null(jinja_parse(t, 3 + n * w, &err));
    ck_assert_ptr_nonnull(strstr(err.msg, "line 1"));
    free(t);
}
END_TEST

START_TEST(a_long_sum_is_refused_or_added) {
    size_t n = 20000;
    char *t = malloc(2 * n + 16);
    memcpy(t, "{{ 1", 4);
    for (size_t i = 0; i < n; i++)
        memcpy(t + 4 + 2 * i, "+1", 2);
    memcpy(t + 4 + 2 * n, " }}", 4);
    refuses(t, ERR_INVAL, "nest too deep");
    free(t);
}
END_TEST

START_TEST(a_parsed_template_renders_again_and_again) {
    struct jinja *j = parsed("{% for m in l %}{{ m }}{% endfor %}");
    json_t *v = json_loads("{\"l\":[1,\"a\"]}", 0, NULL);
    for (int i = 0; i < 3; i++) {
        struct jinja_out out;
        struct err err = {0};
        ck_assert_int_eq(jinja_render(j, v, &out, &err), 0);
        ck_assert_str_eq(out.text, "1a");
        jinja_out_release(&out);
    }
    json_decref(v);
    jinja_free(j);
}
END_TEST

Suite *text_jinja_suite(void) {
    Suite *s = suite_create("jinja");
    TCase *tc = tcase_create("jinja");
    tcase_set_timeout(tc, 20);
    tcase_add_test(tc, drawn_snippets_render_as_in_jinja2);
    tcase_add_test(tc, tags_take_indentation_and_one_newline);
    tcase_add_test(tc, json_is_as_json_dumps_writes_it);
    tcase_add_test(tc,
                   bytes_that_are_not_utf8_are_read_as_replacement_characters);
    tcase_add_test(tc, quotients_are_rounded_down);
    tcase_add_test(tc, dates_are_pinned_by_the_environment);
    tcase_add_test(tc, marks_follow_text_through_whatever_is_done_to_it);
    tcase_add_test(tc, generation_marks_what_it_encloses);
    tcase_add_test(tc, templates_that_reach_out_are_refused_by_name_and_line);
    tcase_add_test(tc, what_is_no_template_is_refused_with_its_line);
    tcase_add_test(tc, failures_of_a_run_name_what_and_where);
    tcase_add_loop_test(tc, a_template_without_end_is_stopped, 0, 9);
    tcase_add_loop_test(tc, deep_nesting_is_refused, 0, 4);
    tcase_add_test(tc, a_long_sum_is_refused_or_added);
    tcase_add_test(tc, zero_keeps_its_sign_in_quotients);
    tcase_add_test(tc, powers_that_are_no_number_are_refused);
    tcase_add_test(tc, dicts_and_pairs_are_url_encoded_as_a_query);
    tcase_add_test(tc,
                   what_is_undefined_fills_no_format_and_is_left_over_in_none);
    tcase_add_test(tc, characters_of_a_markup_are_plain);
    tcase_add_test(tc, the_else_of_a_loop_does_not_know_what_its_body_sets);
    tcase_add_test(
        tc, unknown_filters_may_stand_in_a_condition_but_not_in_a_scope_there);
    tcase_add_test(tc, int_refuses_what_is_beyond_64_bits);
    tcase_add_test(tc, a_parsed_template_renders_again_and_again);
    suite_add_tcase(s, tc);
    return s;
}
