/* wordpiece: the longest token of the vocabulary first; a word of which some
 * part is unknown is unknown. */
#include "core/text/wordpiece.h"

#include "core/text/unicode.h"

#include <stdlib.h>
#include <string.h>

#define PREFIX_MAX 64
#define TOKEN_MAX 1024 /* bytes: bounds the work of a byte of text */

struct wordpiece {
    const struct vocab *vocab;
    uint32_t unk;
    bool whole;
    char prefix[PREFIX_MAX];
    size_t prefix_len, longest; /* bytes of the longest token */
    int64_t chars_max;
};

static size_t longest_of(const struct vocab *v) {
    size_t most = 0;
    for (uint32_t i = 0; i < v->n; i++)
        most = v->entry[i].len > most ? v->entry[i].len : most;
    return most;
}

struct wordpiece *wordpiece_new(const struct wordpiece_conf *c,
                                struct err *err) {
    uint32_t unk = vocab_find(c->vocab, c->unk, strlen(c->unk));
    size_t n = c->prefix ? strlen(c->prefix) : 0;
    size_t longest = longest_of(c->vocab);
    if (unk == VOCAB_NONE) {
        err_set(err, ERR_INVAL, "unk_token '%.40s' is not in the vocabulary",
                c->unk);
        return NULL;
    }
    if (n >= PREFIX_MAX || (c->prefix && longest > TOKEN_MAX)) {
        err_set(err, ERR_UNSUPPORTED,
                "a prefix of %zu bytes (below %d), tokens of %zu (at most %d)",
                n, PREFIX_MAX, longest, TOKEN_MAX);
        return NULL;
    }
    struct wordpiece *w = calloc(1, sizeof *w);
    CHECK(w, "out of memory for a tokenizer");
    *w = (struct wordpiece){.vocab = c->vocab,
                            .unk = unk,
                            .whole = !c->prefix,
                            .prefix_len = n,
                            .longest = longest,
                            .chars_max = c->chars_max};
    memcpy(w->prefix, c->prefix ? c->prefix : "", n);
    return w;
}

void wordpiece_free(struct wordpiece *w) { free(w); }

static int64_t chars_of(const char *s, size_t len) {
    int64_t n = 0;
    for (size_t i = 0; i < len; i++)
        n += !uni_is_inner(s[i]);
    return n;
}

static uint32_t find(const struct wordpiece *w, const uint8_t *banned,
                     const char *s, size_t len) {
    uint32_t id = vocab_find(w->vocab, s, len);
    return id != VOCAB_NONE && banned && banned[id] ? VOCAB_NONE : id;
}

/* The longest token at `at`; it ends at *end. */
static uint32_t longest_at(const struct wordpiece *w, const uint8_t *banned,
                           const char *s, size_t at, size_t *end) {
    char key[PREFIX_MAX + TOKEN_MAX];
    size_t pre = at > 0 ? w->prefix_len : 0;
    size_t len = *end - at;
    len = len > w->longest ? w->longest : len;
    memcpy(key, w->prefix, pre);
    memcpy(key + pre, s + at, len);
    for (; len > 0; len--) {
        bool inside = at + len < *end && uni_is_inner(s[at + len]);
        uint32_t id = inside ? VOCAB_NONE : find(w, banned, key, pre + len);
        if (id != VOCAB_NONE) {
            *end = at + len;
            return id;
        }
    }
    return VOCAB_NONE;
}

static bool cut_word(const struct wordpiece *w, const uint8_t *banned,
                     const char *s, size_t len, struct tok_pieces *out) {
    for (size_t at = 0, end; at < len; at = end) {
        end = len;
        uint32_t id = longest_at(w, banned, s, at, &end);
        if (id == VOCAB_NONE)
            return false;
        tok_pieces_push(out,
                        (struct tok_piece){id, (uint32_t)at, (uint32_t)end});
    }
    return true;
}

void wordpiece_encode(const struct wordpiece *w, const uint8_t *banned,
                      const char *s, size_t len, struct tok_pieces *out) {
    size_t before = out->n;
    uint32_t id = w->whole ? find(w, banned, s, len) : VOCAB_NONE;
    if (id == VOCAB_NONE && !w->whole && chars_of(s, len) <= w->chars_max &&
        cut_word(w, banned, s, len, out))
        return;
    out->n = before;
    tok_pieces_push(out, (struct tok_piece){id != VOCAB_NONE ? id : w->unk, 0,
                                            (uint32_t)len});
}
