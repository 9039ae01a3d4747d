/* render_shape - the ways in which families write a message. */
#ifndef FETTLE_CORE_TEXT_RENDER_SHAPE_H
#define FETTLE_CORE_TEXT_RENDER_SHAPE_H

#include "core/text/render.h"

/* Header, text, end: by strings of the table alone. */
extern const struct shape shape_plain;
/* Qwen 3: reasoning framed, the end a token of its own. */
extern const struct shape shape_qwen3;
/* Qwen 3 VL, 3.5, Nemotron 3: an output is one text, calls may be XML. */
extern const struct shape shape_xml;
extern const struct shape shape_deepseek3;
extern const struct shape shape_deepseek4;
extern const struct shape shape_glm;
extern const struct shape shape_kimi;
extern const struct shape shape_harmony;
extern const struct shape shape_gemma4;

/* The text of an answer into parts and calls (render_parse.c). */
void parse_plain(const struct render *r, struct reply *p);
void parse_qwen3(const struct render *r, struct reply *p);
void parse_xml(const struct render *r, struct reply *p);
void parse_deepseek3(const struct render *r, struct reply *p);
void parse_deepseek4(const struct render *r, struct reply *p);
void parse_glm(const struct render *r, struct reply *p);
void parse_kimi(const struct render *r, struct reply *p);
void parse_harmony(const struct render *r, struct reply *p);
void parse_gemma4(const struct render *r, struct reply *p);

/* Gemma 4's notation (render_gemma4.c): a declaration, a call, and the
 * arguments of one, NULL when they are something else. */
void tools_gemma4(const json_t *function, struct rich *to);
int call_gemma4(const struct call *c, struct rich *to, struct err *err);
json_t *gemma4_args(const char *s, size_t len);

/* Separator and header of the table, as the beginning of a unit. */
void turn_head(struct turn *t);
void turn_unit(struct turn *t, bool is_output);
/* The parts' text, joined, with reasoning between the tags of the table. */
void turn_parts(const struct turn *t, bool with_thinking, struct rich *to);
bool turn_strips(const struct turn *t);
/* Refuses calls and parts that the family has no words for. */
int turn_check(const struct turn *t, struct err *err);

#endif
