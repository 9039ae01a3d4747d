/* convert_int - what the converters share. */
#ifndef FETTLE_CORE_TEXT_CONVERT_INT_H
#define FETTLE_CORE_TEXT_CONVERT_INT_H

#include "core/text/convert.h"
#include "core/text/int.h"
#include "core/text/vocab.h"

#define CONVERT_TOKEN_MAX 1024 /* bytes of a token that merges may make */

struct conv_token {
    const char *s; /* borrowed or of the converter's arena */
    uint32_t len;
    bool merges; /* merges may take and make it */
};

struct conv_added {
    const char *text;
    size_t len;
    char *own; /* the text, when it was made up here */
    int64_t id;
    bool special, lstrip, rstrip, single_word, normalized, verbatim;
};

/* A tokenizer that is being written: tokens by id, ids by bytes. */
struct conv {
    struct conv_token *token; /* (n) owned; s NULL = hole */
    size_t n;
    struct vocab ids;
    struct conv_added *added; /* (n_added) owned */
    size_t n_added;
    /* The text of a token as tokenizer.json writes it. */
    void (*put)(struct buf *out, const char *s, size_t len);
    const json_t *config; /* borrowed, may be NULL */
    struct buf *out;      /* borrowed */
};
void conv_release(struct conv *c);
void conv_add(struct conv *c, struct conv_added a);

/* s as a JSON string, quotes included; it is UTF-8. */
void conv_string(struct buf *out, const char *s, size_t len);
/* {"version":…,"added_tokens":[…], up to and without the next comma. */
void conv_begin(struct conv *c);
/* ,"post_processor":…: what tokenizer_config.json asks for. bos: the text of
 * a token to begin with when it says nothing, NULL = none. */
void conv_post(struct conv *c, const char *bos);
/* "vocab":{…} of all tokens; of added ones, too, when only so they keep their
 * ids: those in the file count for nothing (spec/renderers §6). */
void conv_vocab(struct conv *c);
/* "merges":[…]: each cut of each token of `order` (n ids) into two tokens,
 * best first. at_chars: cuts lie between characters. */
void conv_merges(struct conv *c, const uint32_t *order, size_t n,
                 bool at_chars);
/* added_tokens_decoder's entry of id; false: it has none. */
bool conv_config_added(const json_t *config, int64_t id, struct conv_added *a);

int convert_tiktoken(const char *name, const char *data, size_t len,
                     const json_t *config, struct buf *out, struct err *err);
int convert_sentencepiece(const char *data, size_t len, const json_t *config,
                          struct buf *out, struct err *err);

#endif
