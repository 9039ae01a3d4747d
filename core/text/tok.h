/*
 * tok - what a tokenizer is made of. load.c fills it, tok.c encodes with it,
 * stream.c and tok.c decode with it. Immutable once open.
 */
#ifndef FETTLE_CORE_TEXT_TOK_H
#define FETTLE_CORE_TEXT_TOK_H

#include "core/text.h"
#include "core/text/added.h"
#include "core/text/bpe.h"
#include "core/text/decode.h"
#include "core/text/unigram.h"
#include "core/text/wordpiece.h"

#define TOK_AROUND_MAX 16
#define TOK_TRIMS_MAX 4

/* A post-processor that takes the spaces at a token's edges out of what it
 * covers; has_prefix: but one that stands before all of the text. */
struct tok_trim {
    bool has_prefix;
    int before_n; /* tokens that are joined to the text's when it comes */
};

struct tok {
    struct vocab vocab; /* the model's */
    struct added added;
    struct norm *norm;
    struct split *split;
    struct bpe *bpe; /* one of these is the model */
    struct unigram *unigram;
    struct wordpiece *wordpiece;
    struct decoder *decoder;
    /* What the post-processor puts around a text; after_n tokens behind it. */
    uint32_t before[TOK_AROUND_MAX], after[TOK_AROUND_MAX];
    int before_n, after_n;
    int joined_n; /* of before[]: by post-processors that join (not templates)
                   */
    struct tok_trim trim[TOK_TRIMS_MAX];
    int trims;
    int32_t size;
    uint8_t *special;     /* (size) */
    bool special_is_word; /* the model's vocabulary has special tokens, too */
};

/* Reads the bytes of a tokenizer.json into t, which is zero. */
int tok_load(struct tok *t, const char *text, size_t len, struct err *err);
/* The string of a token; NULL when the id has none. */
const char *tok_text(const struct tok *t, uint32_t id, size_t *len);

#endif
