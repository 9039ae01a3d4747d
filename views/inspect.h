/*
 * inspect - what a row becomes: each token's text, where it came from and
 * whether it is trained.
 *
 *     inspect_print(tok, &example, INSPECT_COLOR);
 */
#ifndef FETTLE_VIEWS_INSPECT_H
#define FETTLE_VIEWS_INSPECT_H

#include "core/text.h"

enum inspect_how {
    INSPECT_PLAIN, /* a line for each run of tokens that are alike */
    INSPECT_COLOR, /* the text in colours of a terminal */
};
void inspect_legend(enum inspect_how how);
void inspect_print(const struct tok *t, const struct example *e,
                   enum inspect_how how);
/* {"length","trained","cut","tokens":[{"id","text","weight","origin","offset"}]};
 * offset: bytes of text before it. The caller's. */
json_t *inspect_json(const struct tok *t, const struct example *e);

#endif
