/*
 * inspect - what a row becomes: each token's text, where it came from and
 * whether it is trained; for the terminal view and `fettle render --inspect`.
 *
 *     struct inspect x;
 *     inspect_make(&x, tok, &example, SIZE_MAX);
 *     for (size_t i = 0, end; i < x.n; i = end) {
 *         end = inspect_run(&x, i);     // tokens that look alike
 *         ... x.text + x.token[i].text
 *     inspect_release(&x);
 */
#ifndef FETTLE_VIEWS_INSPECT_H
#define FETTLE_VIEWS_INSPECT_H

#include "core/text.h"

/* Rows that give tokens as they are know no origin. */
#define ORIGIN_NONE 3

struct inspect_token {
    uint32_t id;
    uint32_t text, len; /* bytes of inspect.text; a character of several tokens
                         * is the text of the last of them */
    float weight;
    uint8_t origin; /* enum origin, or ORIGIN_NONE */
    bool is_control;
};

struct inspect {
    struct inspect_token *token; /* (n) */
    size_t n;
    char *text;     /* of all tokens, one after the other */
    size_t trained; /* of all of the example, whatever is shown */
    size_t lost;    /* cut off by max_length */
    size_t hidden;  /* behind the n tokens that are here */
};

/* At most `most` tokens of the example. tok NULL: ids stand for texts. */
void inspect_make(struct inspect *x, const struct tok *tok,
                  const struct example *e, size_t most);
void inspect_release(struct inspect *x);
/* The end of the run of tokens from i on that look alike: the same origin,
 * weight and kind. */
size_t inspect_run(const struct inspect *x, size_t i);
/* "template", "header", "content", "tokens". */
const char *inspect_origin(uint8_t origin);

enum inspect_how {
    INSPECT_PLAIN, /* a line for each run of tokens that are alike */
    INSPECT_COLOR, /* the text as the screen shows it, in a terminal's width */
};
void inspect_legend(enum inspect_how how);
void inspect_print(const struct inspect *x, enum inspect_how how);
/* {"length","trained","cut","tokens":[{"id","text","weight","origin","offset"}
 * ]}; offset: bytes of text before it. The caller's. */
json_t *inspect_json(const struct inspect *x);

#endif
