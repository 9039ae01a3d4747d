/*
 * convert - tokenizers that are not a tokenizer.json become one: `.tiktoken`
 * (a line a token: base64, space, rank) and SentencePiece's `tokenizer.model`
 * (protobuf; BPE and Unigram).
 *
 *     struct buf json;
 *     buf_init(&json, CONVERT_MAX);
 *     if (convert_dir(dir, &json, &err) == 0)
 *         load(json.data, json.len);
 *     buf_release(&json);
 *
 * Both kinds merge the two neighbours whose union ranks first, wherever it was
 * cut, the leftmost of equals. tokenizer.json ranks each cut by itself, so the
 * model says "tied_merges": true, a key of ours: merges in a row that make the
 * same token share one rank. Other keys of ours carry what SentencePiece does
 * otherwise than any pipeline of tokenizer.json: normalizer and decoder of type
 * "SentencePiece"; "verbatim": true of an added token that is sought in
 * normalised text as it is; "piece_types" of a Unigram model. Any thread.
 */
#ifndef FETTLE_CORE_TEXT_CONVERT_H
#define FETTLE_CORE_TEXT_CONVERT_H

#include "core/buf.h"

#include <jansson.h>

#define CONVERT_MAX ((size_t)256 << 20)

/* The name of the file in DIR to convert, free() it; NULL: there is none. Of
 * several .tiktoken files the first by name. */
char *convert_find(const char *dir);
/* DIR's tokenizer_config.json, with integers beyond 64 bits (model_max_length)
 * as floats; *config is the caller's, NULL: there is none. */
int convert_config(const char *dir, json_t **config, struct err *err);
/* The tokenizer.json of DIR's tiktoken.model, tokenizer.model or *.tiktoken,
 * appended; names of added tokens from its tokenizer_config.json. NOTFOUND:
 * it has none of them. */
int convert_dir(const char *dir, struct buf *out, struct err *err);
/* The same of a file's bytes. name: the file's, which may tell the pattern of
 * a .tiktoken; config: tokenizer_config.json, may be NULL. */
int convert_bytes(const char *name, const char *data, size_t len,
                  const json_t *config, struct buf *out, struct err *err);

#endif
