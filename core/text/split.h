/*
 * split - pre-tokenizers: cut a text into the pieces that the model encodes.
 *
 *     struct split *s = split_new(conf, &err);      conf: "pre_tokenizer"
 *     struct split_run *r = split_run_new(s);
 *     struct piece p;
 *     split_begin(r, text, len, true);
 *     while (split_next(r, &p))
 *         encode(p.s, p.len);
 *
 * A split is immutable and shared by threads; a run belongs to one and is
 * used for many texts. Where nothing changes the text (no prefix, no
 * Metaspace) pieces lie in the text itself and a run allocates nothing.
 */
#ifndef FETTLE_CORE_TEXT_SPLIT_H
#define FETTLE_CORE_TEXT_SPLIT_H

#include "core/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes [from, to) of a source. */
struct span {
    uint32_t from, to;
};

struct piece {
    const char *s; /* borrowed until the next call */
    size_t len;    /* > 0 */
    /* Where in the text byte i of s comes from, (len); NULL: s is a part of
     * the text and byte i is its own source. */
    const struct span *at;
};

struct split;
/* conf: "pre_tokenizer" of tokenizer.json; NULL or null makes one piece of a
 * text. UNSUPPORTED names what is missing or can not be done in bounded time.
 */
struct split *split_new(const json_t *conf, struct err *err);
void split_free(struct split *s);
/* Its ByteLevel maps bytes to characters: the model sees bytes. The pieces
 * are those of the text, not mapped. */
bool split_is_bytes(const struct split *s);

struct split_run;
struct split_run *split_run_new(const struct split *s);
void split_run_free(struct split_run *r);
/* text: valid UTF-8 below 4 GiB, borrowed until the last piece. first: it
 * begins at offset 0 of what the user gave (Metaspace's "first"). */
void split_begin(struct split_run *r, const char *text, size_t len, bool first);
bool split_next(struct split_run *r, struct piece *p);
/* As many as there are, at most max; 0: no more. All are borrowed until the
 * next call. */
size_t split_fill(struct split_run *r, struct piece *p, size_t max);
/* Did a pattern give up on a text of this run (its work is bounded)? The rest
 * of that piece stayed whole. */
bool split_gave_up(const struct split_run *r);

#endif
