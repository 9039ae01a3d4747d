/*
 * norm - normalizers: change a text before it is cut.
 *
 *     struct norm *n = norm_new(conf, &err);        conf: "normalizer"
 *     struct norm_out out = {.want_at = true};
 *     norm_apply(n, text, len, &out);
 *     use(out.text, out.len);
 *     norm_out_release(&out);
 *
 * Immutable, shared by threads; a norm_out belongs to one and is used for
 * many texts.
 */
#ifndef FETTLE_CORE_TEXT_NORM_H
#define FETTLE_CORE_TEXT_NORM_H

#include "core/text/split.h"

struct norm_out {
    bool want_at;     /* set by the caller: fill `at` */
    size_t most;      /* and: bytes that replacing may make of the text, 0 =
                       * norm_most() */
    const char *text; /* the input itself when nothing changed */
    size_t len;
    /* Where in the input byte i comes from, (len); NULL when the text is the
     * input, or not wanted. */
    const struct span *at;
    struct norm_buf *buf; /* owned, norm_out_release() */
};

struct norm;
/* conf: "normalizer" of tokenizer.json; NULL or null changes nothing. */
struct norm *norm_new(const json_t *conf, struct err *err);
void norm_free(struct norm *n);
bool norm_is_none(const struct norm *n); /* it changes no text */
/* text: valid UTF-8 below 4 GiB, borrowed as long as out. */
void norm_apply(const struct norm *n, const char *text, size_t len,
                struct norm_out *out);
void norm_out_release(struct norm_out *out);
/* A file may ask for ten for one, ten times over: Replace and Prepend leave as
 * it is what would make more bytes than this of a text of len. */
size_t norm_most(size_t len);

#endif
