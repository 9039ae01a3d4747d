/* template: chat templates, parsed and rendered over a few conversations. */
#include "tests/fuzz/fuzz.h"

#include "core/err.h"
#include "core/text/jinja.h"
#include "core/text/scenario.h"

#include <string.h>

#define STEPS 20000 /* of a run, so that many runs fit into a second */

/* Of all conversations these differ most: words, thoughts, tools. */
static const int picked[] = {4, 30, 48};

static json_t *variables(int scenario) {
    json_t *v = scenario_json(scenario);
    json_object_set_new(v, "bos_token", json_string("<s>"));
    json_object_set_new(v, "eos_token", json_string("</s>"));
    json_object_set_new(v, "add_generation_prompt", json_true());
    return v;
}

static int template_run(const uint8_t *data, size_t len) {
    struct err err = {0};
    struct jinja *j = jinja_parse((const char *)data, len, &err);
    CHECK(j || err.code, "a refusal without a reason");
    for (size_t i = 0; j && i < sizeof picked / sizeof *picked; i++) {
        struct jinja_out out;
        json_t *v = variables(picked[i]);
        struct err why = {0};
        jinja_limit(j, STEPS);
        int rc = jinja_render(j, v, &out, &why);
        CHECK(rc == 0 ? why.code == 0 && out.text[out.len] == 0 : why.code != 0,
              "neither a text nor a reason");
        for (size_t k = 0; k < out.len; k++)
            CHECK(out.mark[k] <= (JINJA_TEXT | JINJA_GENERATED),
                  "a mark that nothing has");
        jinja_out_release(&out);
        json_decref(v);
    }
    jinja_free(j);
    return 0;
}

static const char *const seeds[] = {
    "{{ bos_token }}{% for m in messages %}{{ '<|' + m.role + '|>\\n' }}"
    "{% if m['content'] is string %}{{ m.content | trim }}{% endif %}"
    "{{ '<|end|>\\n' }}{% endfor %}{% if add_generation_prompt %}<|a|>"
    "{% endif %}",
    "{%- set ns = namespace(n=0, last='') -%}{%- for m in messages[::-1] "
    "%}{%- set ns.n = ns.n + 1 %}{%- if loop.first and not loop.last -%}"
    "{%- set ns.last = m.role %}{%- continue %}{%- elif loop.index0 > 3 -%}"
    "{%- break %}{%- else -%}{{- m.content.split('</think>')[-1].lstrip('\\n')"
    " -}}{%- endif %}{%- endfor %}{{ ns.n ~ ns.last }}",
    "{% macro put(x, indent=2) %}{{ x | tojson(indent=indent) }}{% endmacro %}"
    "{% if tools %}{{ put(tools) }}{% for t in tools %}{{ put(x=t.function) }}"
    "{% for k, v in t.function.parameters.properties.items() | sort %}"
    "{{ loop.cycle('a', 'b') }}{{ '%s: %-8.3s|%05d' % (k, v.type, 42) }}"
    "{% endfor %}{% endfor %}{% endif %}",
    "{% for m in messages if m.role != 'system' %}{% generation %}"
    "{{ '{:>8}|{}'.format(m.role, m.get('content', none)) }}{% endgeneration "
    "%}{% else %}{{ raise_exception('none') }}{% endfor %}",
    "{% raw %}{{ x }}{% endraw %}{# c #}{% set v %}{{ messages | length }}"
    "{% endset %}{% filter upper %}{{ v }}x{% endfilter %}{% call put() %}y"
    "{% endcall %}{{ range(3) | list | join(',') }}{{ (1, 2.5, -3 ** 2, 7 // "
    "2, 'a' in 'cat', not none) }}",
    "{% with a = {'k': [1, 'x', true]}, b = messages | map(attribute='role') "
    "| unique | list %}{{ a.k[1:] }}{{ b | reject('eq', 'user') | list }}"
    "{{ messages | selectattr('role', 'in', ['user']) | map('length') | sum "
    "}}{{ a | dictsort }}{{ a.zz is defined }}{% endwith %}",
    "{% for a in [[1, [2]], [3]] recursive %}{% if a is iterable %}"
    "{{ loop(a) }}{% else %}{{ a }}{% endif %}{% endfor %}"
    "{{ strftime_now('%d %b %Y') }}{{ 'ab' * 3 ~ [1] * 2 }}",
};

static void template_seeds(fuzz_seed_fn *add, void *arg) {
    for (size_t i = 0; i < sizeof seeds / sizeof *seeds; i++)
        add(arg, seeds[i], strlen(seeds[i]));
}

static const char *const words[] = {
    "{%",      "%}",          "{{",         "}}",         "{#",
    "-%}",     "{%- ",        "if ",        "for x in ",  "endfor",
    "endif",   "set ",        "macro f(",   "endmacro",   "messages",
    "tools",   "|join('x')",  "|tojson",    "|map('",     "|sort",
    "is not ", "loop",        "namespace(", "[::-1]",     "[1:",
    "* 99999", "range(9999)", "''",         "\"%s\" % ",  ".format(",
    ".split(", ".replace('",  "|indent(9)", "recursive",  "|list",
    "**kw",    "*a",          "call ",      "generation", "endgeneration",
    "not ",    "1e308",       "|batch(2)",  "|groupby('", "(",
    ")",       "[",           "]",          "{",          "}",
    NULL};

const struct fuzz_target fuzz_template = {"template", template_run,
                                          template_seeds, words};
