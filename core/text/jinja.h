/*
 * jinja - chat templates: the subset of Jinja that Hugging Face's models ship,
 * with the results of jinja2 as transformers sets it up (trim_blocks,
 * lstrip_blocks, loop controls, {% generation %}, its own tojson).
 *
 *     struct jinja *j = jinja_parse(text, len, &err);
 *     struct jinja_out out;
 *     if (jinja_render(j, vars, &out, &err) == 0)
 *         use(out.text, out.len, out.mark);
 *     jinja_out_release(&out);
 *     jinja_free(j);
 *
 * A template is a stranger's program: it reaches no file and no other template,
 * and its steps, memory, output, depth and time are bounded. Every byte of the
 * output knows where it came from, whatever the template did to it in between,
 * so that what a message says is never taken for a control token. A parsed
 * template is immutable; any thread.
 */
#ifndef FETTLE_CORE_TEXT_JINJA_H
#define FETTLE_CORE_TEXT_JINJA_H

#include "core/err.h"

#include <jansson.h>
#include <stdint.h>

#define JINJA_SOURCE_MAX (1 << 20)
#define JINJA_STEPS_MAX 4000000
#define JINJA_OUTPUT_MAX (16 << 20)
#define JINJA_MEMORY_MAX (256 << 20)
#define JINJA_DEPTH_MAX 400
#define JINJA_TIME_MS 2000

/* The marks of a byte of the output. */
enum {
    JINJA_TEXT = 1,      /* from a list or object of the variables, but for the
                          * names of roles */
    JINJA_GENERATED = 2, /* inside {% generation %} */
};

struct jinja;

/* UNSUPPORTED names a tag that reaches other templates; INVAL the line of what
 * is no Jinja. */
struct jinja *jinja_parse(const char *text, size_t len, struct err *err);
void jinja_free(struct jinja *j);
/* Does it say {% generation %}? */
bool jinja_has_generation(const struct jinja *j);

struct jinja_out {
    char *text; /* owned, with a 0 behind it */
    uint8_t *mark;
    size_t len;
    int64_t steps; /* that it took, on failure too */
};
/* Fewer steps than JINJA_STEPS_MAX for every run of j. */
void jinja_limit(struct jinja *j, int64_t steps);
/* vars: an object. INVAL is what the template itself refuses or gets wrong,
 * with its line; TOOBIG and TIMEOUT a bound. *out holds
 * nothing to release on failure. */
int jinja_render(const struct jinja *j, const json_t *vars,
                 struct jinja_out *out, struct err *err);
void jinja_out_release(struct jinja_out *out);

#endif
