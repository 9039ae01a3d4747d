/*
 * learn.c - a tokenizer out of text.
 *
 * The corpus is cut into pieces by the pre-tokenizer and kept as distinct
 * words with counts. Each round counts all neighbouring pairs anew: a corpus
 * of a small model has some thousand distinct words, so a round is a
 * millisecond and nothing needs to be kept in step.
 */
#include "core/text/int.h"

#include "core/fs.h"
#include "core/text/split.h"
#include "core/text/vocab.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#define SPLIT \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|" \
    " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

struct word {
    uint32_t *id; /* (n) what it is made of by now */
    uint32_t n, count;
};

struct learn {
    struct vocab index; /* piece to word */
    struct word *word;
    size_t n, cap;
    json_t *merges;
    char **name; /* (size) of each id, in the byte alphabet */
};

static void learn_piece(struct learn *l, const char *s, size_t len) {
    uint32_t at = vocab_find(&l->index, s, len);
    if (at != VOCAB_NONE) {
        l->word[at].count++;
        return;
    }
    if (l->n == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 1024;
        l->word = realloc(l->word, l->cap * sizeof *l->word);
        CHECK(l->word, "out of memory for words");
    }
    struct word *w = &l->word[l->n];
    *w = (struct word){malloc(len * sizeof *w->id), (uint32_t)len, 1};
    CHECK(w->id, "out of memory for a word");
    for (size_t i = 0; i < len; i++)
        w->id[i] = (uint8_t)s[i];
    vocab_add(&l->index, s, len, (uint32_t)l->n++);
}

/* The pair that occurs most, as left << 32 | right, UINT64_MAX = none is left
 * that occurs twice. count is (n_ids, n_ids) scratch of zeros. */
static uint64_t best_pair(const struct learn *l, uint32_t *count,
                          uint32_t n_ids) {
    uint64_t best = UINT64_MAX;
    uint32_t most = 1;
    for (size_t w = 0; w < l->n; w++)
        for (uint32_t i = 0; i + 1 < l->word[w].n; i++) {
            const uint32_t *id = l->word[w].id + i;
            count[(size_t)id[0] * n_ids + id[1]] += l->word[w].count;
        }
    for (size_t w = 0; w < l->n; w++)
        for (uint32_t i = 0; i + 1 < l->word[w].n; i++) {
            const uint32_t *id = l->word[w].id + i;
            uint32_t *c = &count[(size_t)id[0] * n_ids + id[1]];
            uint64_t pair = (uint64_t)id[0] << 32 | id[1];
            if (*c > most || (*c == most && *c > 1 && pair < best)) {
                most = *c;
                best = pair;
            }
        }
    for (size_t w = 0; w < l->n; w++)
        for (uint32_t i = 0; i + 1 < l->word[w].n; i++) {
            const uint32_t *id = l->word[w].id + i;
            count[(size_t)id[0] * n_ids + id[1]] = 0;
        }
    return best;
}

static void merge_pair(struct word *w, uint32_t left, uint32_t right,
                       uint32_t id) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < w->n; i++) {
        bool hit = i + 1 < w->n && w->id[i] == left && w->id[i + 1] == right;
        w->id[n++] = hit ? id : w->id[i];
        i += hit;
    }
    w->n = n;
}

/* Ids from 256 on, until `end` or no pair occurs twice; how many there are. */
static uint32_t learn_merges(struct learn *l, uint32_t end) {
    uint32_t *count = calloc((size_t)end * end, sizeof *count);
    CHECK(count, "out of memory for pairs");
    uint32_t id = 256;
    for (; id < end; id++) {
        uint64_t pair = best_pair(l, count, end);
        if (pair == UINT64_MAX)
            break;
        uint32_t a = (uint32_t)(pair >> 32), b = (uint32_t)pair;
        for (size_t w = 0; w < l->n; w++)
            merge_pair(&l->word[w], a, b, id);
        l->name[id] = fs_path("%s%s", l->name[a], l->name[b]);
        json_array_append_new(l->merges,
                              json_pack("[s, s]", l->name[a], l->name[b]));
    }
    free(count);
    return id;
}

static json_t *special_json(uint32_t id, const char *content) {
    return json_pack("{s:i, s:s, s:b, s:b, s:b, s:b, s:b}", "id", (int)id,
                     "content", content, "single_word", 0, "lstrip", 0,
                     "rstrip", 0, "normalized", 0, "special", 1);
}

static json_t *split_json(void) {
    return json_pack(
        "{s:s, s:[{s:s, s:{s:s}, s:s, s:b}, {s:s, s:b, s:b, s:b}]}", "type",
        "Sequence", "pretokenizers", "type", "Split", "pattern", "Regex", SPLIT,
        "behavior", "Isolated", "invert", 0, "type", "ByteLevel",
        "add_prefix_space", 0, "trim_offsets", 0, "use_regex", 0);
}

/* Takes merges and vocab. */
static json_t *tokenizer_json(json_t *vocab, json_t *merges, json_t *added) {
    json_t *model =
        json_pack("{s:s, s:n, s:n, s:s, s:s, s:b, s:b, s:b, s:o, s:o}", "type",
                  "BPE", "dropout", "unk_token", "continuing_subword_prefix",
                  "", "end_of_word_suffix", "", "fuse_unk", 0, "byte_fallback",
                  0, "ignore_merges", 0, "vocab", vocab, "merges", merges);
    return json_pack("{s:s, s:n, s:n, s:o, s:{s:s}, s:o, s:{s:s, s:b, s:b, "
                     "s:b}, s:{s:s, s:b, s:b, s:b}, s:o}",
                     "version", "1.0", "truncation", "padding", "added_tokens",
                     added, "normalizer", "type", "NFC", "pre_tokenizer",
                     split_json(), "post_processor", "type", "ByteLevel",
                     "add_prefix_space", 0, "trim_offsets", 0, "use_regex", 0,
                     "decoder", "type", "ByteLevel", "add_prefix_space", 0,
                     "trim_offsets", 0, "use_regex", 0, "model", model);
}

static int learn_write(struct learn *l, uint32_t n, const char *const *special,
                       const char *dir, struct err *err) {
    json_t *vocab = json_object(), *added = json_array();
    for (uint32_t i = 0; i < n; i++)
        json_object_set_new(vocab, l->name[i], json_integer(i));
    for (uint32_t i = 0; special[i]; i++)
        json_array_append_new(added, special_json(n + i, special[i]));
    json_t *j = tokenizer_json(vocab, json_incref(l->merges), added);
    char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
    CHECK(text, "out of memory for tokenizer.json");
    char *path = fs_path("%s/tokenizer.json", dir);
    int rc = fs_write_atomic(path, text, strlen(text), err);
    free(path);
    free(text);
    json_decref(j);
    return rc;
}

static void learn_release(struct learn *l, uint32_t n) {
    for (size_t w = 0; w < l->n; w++)
        free(l->word[w].id);
    for (uint32_t i = 0; i < n; i++)
        free(l->name[i]);
    free(l->word);
    free(l->name);
    vocab_release(&l->index);
    json_decref(l->merges);
}

static void learn_words(struct learn *l, const struct tok_learn *in,
                        struct err *err) {
    json_t *conf = split_json();
    struct split *split = split_new(conf, err);
    CHECK(split, "the pattern of Qwen 2 does not compile: %s", err->msg);
    struct split_run *run = split_run_new(split);
    struct piece p;
    split_begin(run, in->text, in->len, true);
    while (split_next(run, &p))
        learn_piece(l, p.s, p.len);
    split_run_free(run);
    split_free(split);
    json_decref(conf);
}

int tok_learn(const struct tok_learn *in, const char *dir, struct err *err) {
    uint32_t n_special = 0;
    while (in->special[n_special])
        n_special++;
    if (in->size < 256 + (int32_t)n_special || in->size > 1 << 14)
        return err_set(err, ERR_INVAL,
                       "learn a tokenizer: %" PRId32 " ids (256 bytes and the "
                       "special tokens at least, 16384 at most)",
                       in->size);
    uint32_t end = (uint32_t)in->size - n_special;
    struct learn l = {.merges = json_array()};
    l.name = calloc(end, sizeof *l.name);
    CHECK(l.name && l.merges, "out of memory for a vocabulary");
    for (int b = 0; b < 256; b++) {
        char c[5] = {0};
        utf8proc_encode_char((utf8proc_int32_t)byte_char(b),
                             (utf8proc_uint8_t *)c);
        l.name[b] = fs_path("%s", c);
    }
    learn_words(&l, in, err);
    uint32_t n = learn_merges(&l, end);
    int rc = learn_write(&l, n, in->special, dir, err);
    learn_release(&l, n);
    return rc;
}
