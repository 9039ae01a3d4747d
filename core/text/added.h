/*
 * added - tokens that are found in a text before it is cut: control tokens
 * and other words that stay whole.
 *
 *     struct added a = {0};
 *     added_put(&a, &(struct added_token){.text = "<s>", …}, &vocab);
 *     added_ready(&a, norm);
 *     for (f = added_find(&a, ADDED_RAW, s, len, 0, flags); f.token; …)
 *
 * Ids are those that Hugging Face's tokenizers give, whatever a file says:
 * the vocabulary's, or the next free one in the order of the file.
 * Immutable once ready.
 */
#ifndef FETTLE_CORE_TEXT_ADDED_H
#define FETTLE_CORE_TEXT_ADDED_H

#include "core/text/norm.h"
#include "core/text/vocab.h"

struct added_token {
    char *text; /* owned by the list */
    size_t len;
    uint32_t id;
    bool special, lstrip, rstrip, single_word, normalized;
    bool verbatim; /* of those in normalised text: as it is (convert.h) */
};

struct added_pattern {
    const struct added_token *token;
    char *text; /* owned */
    size_t len;
    uint32_t order; /* the first of equal ones is found */
};

struct added_set { /* sorted by text */
    struct added_pattern *at;
    size_t n;
    uint32_t from[257]; /* those that begin with byte b */
    int first;          /* the byte that all begin with, -1: they differ */
};

enum added_when { ADDED_RAW, ADDED_NORMALIZED };

struct added {
    struct added_token *token;
    size_t n, cap;
    struct vocab names; /* of all of them */
    int64_t last;       /* highest id of them, -1 = none */
    struct added_set set[2];
};

#define ADDED_MAX 256 /* bytes of one: search looks that far at each place */

/* Copies the token, but for its id. -1: there is no id left for it. */
int added_put(struct added *a, const struct added_token *t,
              const struct vocab *model);
void added_ready(struct added *a, const struct norm *norm);
void added_release(struct added *a);

struct added_hit {
    const struct added_token *token; /* NULL: none is left */
    size_t from, to;                 /* with the white space that it takes */
    size_t next;                     /* where to search on */
};
struct added_query {
    const char *s;
    size_t len;
    enum added_when when;
    bool control; /* special ones, too */
};
/* The first hit at or behind `at`; taken: the end of the hit before, within
 * which one may begin and even end when that hit took white space. */
struct added_hit added_find(const struct added *a, const struct added_query *q,
                            size_t at, size_t taken);

#endif
