/*
 * decode - the "decoder" of tokenizer.json: strings of tokens to text.
 *
 *     struct decoder *d = decoder_new(conf, &err);
 *     struct parts p = {0};
 *     parts_put(&p, "Ġa", 3);
 *     parts_cut(&p);                    again for each token
 *     decoder_run(d, &p);
 *     use(p.s, p.len);
 *     parts_release(&p);
 *
 * A decoder is immutable and shared by threads.
 */
#ifndef FETTLE_CORE_TEXT_DECODE_H
#define FETTLE_CORE_TEXT_DECODE_H

#include "core/err.h"

#include <jansson.h>

/* Strings end to end. */
struct parts {
    char *s; /* owned */
    size_t len, cap;
    size_t *end; /* (n) owned */
    size_t n, n_cap;
    size_t most; /* bytes that a decoder's replacing may make of all */
};
void parts_put(struct parts *p, const char *s, size_t len);
void parts_cut(struct parts *p); /* what was put since the last is a part */
void parts_clear(struct parts *p);
void parts_release(struct parts *p);

struct decoder;
/* NULL or null joins tokens with spaces, as Hugging Face's do. */
struct decoder *decoder_new(const json_t *conf, struct err *err);
void decoder_free(struct decoder *d);
/* The text in p->s; valid UTF-8 when the tokens were. */
void decoder_run(const struct decoder *d, struct parts *p);
/* All it does is to turn letters of bytes into bytes. */
bool decoder_is_bytes(const struct decoder *d);
/* The bytes of one token for such a decoder, appended to p. */
void decoder_bytes(struct parts *p, const char *s, size_t len);

#endif
