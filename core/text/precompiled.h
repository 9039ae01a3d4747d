/*
 * precompiled - SentencePiece's charsmap: a trie of texts and what each
 * becomes, as T5, XLM-R and their kin carry it in tokenizer.json.
 *
 * Immutable; any thread.
 */
#ifndef FETTLE_CORE_TEXT_PRECOMPILED_H
#define FETTLE_CORE_TEXT_PRECOMPILED_H

#include "core/err.h"

struct precompiled;
/* base64: u32 size of the trie, the trie, texts that end with NUL. INVAL when
 * it is damaged. */
struct precompiled *precompiled_new(const char *base64, size_t len,
                                    struct err *err);
void precompiled_free(struct precompiled *p);
/* What the shortest known beginning of text becomes, *out_len bytes, borrowed;
 * NULL: none is known. */
const char *precompiled_find(const struct precompiled *p, const char *text,
                             size_t len, size_t *out_len);
/* The same of the longest known beginning, *used bytes. */
const char *precompiled_longest(const struct precompiled *p, const char *text,
                                size_t len, size_t *used, size_t *out_len);
/* The end of the cluster (grapheme) that begins at `at`; its characters. */
size_t precompiled_cluster(const char *text, size_t at, size_t len, int *chars);

#endif
