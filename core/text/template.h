/*
 * template - a checkpoint's own chat template, as a renderer.
 *
 *     struct template *t = template_open(dir, &err);
 *     template_text(t, messages, n, tools, true, &out, &err);
 *     template_close(t);
 *
 * What counts of an answer is what {% generation %} encloses; a template that
 * has none is rendered up to each answer and with it, and the text between
 * the two is the answer's. Immutable after opening; any thread.
 */
#ifndef FETTLE_CORE_TEXT_TEMPLATE_H
#define FETTLE_CORE_TEXT_TEMPLATE_H

#include "core/text/jinja.h"
#include "core/text/render.h"

#define TEMPLATE "template" /* its name as a renderer */

struct template;

/* chat_template.jinja, or chat_template of tokenizer_config.json; NOTFOUND
 * when DIR has neither. */
struct template *template_open(const char *dir, struct err *err);
void template_close(struct template *t);
/* The first n messages, as written; ask: for an answer. tools may be NULL. */
int template_text(const struct template *t, const json_t *messages, size_t n,
                  const json_t *tools, bool ask, struct jinja_out *out,
                  struct err *err);
bool template_is_there(const char *dir);

/* Makes r one that renders by DIR's template: family, source and stops. */
int template_render(struct render *r, const char *dir, const json_t *conf,
                    struct err *err);

#endif
