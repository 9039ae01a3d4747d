/*
 * convert_tiktoken: ranks of byte strings, as tiktoken and the models that
 * use it (Kimi, Llama 3, Qwen 1) write them. The file has neither a pattern
 * nor special tokens: both are known by family.
 */
#include "core/fs.h"
#include "core/text/base64.h"
#include "core/text/convert_int.h"
#include "core/text/scan.h"
#include "core/text/unicode.h"

#include <stdlib.h>
#include <string.h>

#define ADDED_SLOTS 1024 /* ids behind the ranks that may have a name */

struct family {
    const char *file;    /* its name begins so */
    size_t ranks;        /* one above the highest, what else tells it */
    const char *pattern; /* scan_known()'s name */
    bool nfc;
    const char *bos;
    const char *reserved; /* name of a slot without one: before the number */
    int slots;            /* that have names, whether told or not */
    bool by_id;           /* the number is the id, not a count */
    struct {
        int slot; /* its id, less the ranks */
        const char *name;
    } names[9];
};

static const struct family families[] = {
    {.file = "tiktoken.model",
     .ranks = 163584,
     .pattern = "kimi",
     .reserved = "<|reserved_token_",
     .slots = 256,
     .by_id = true},
    {.file = "llama3",
     .ranks = 128000,
     .pattern = "llama3",
     .bos = "<|begin_of_text|>",
     .reserved = "<|reserved_special_token_",
     .slots = 256,
     .names = {{0, "<|begin_of_text|>"},
               {1, "<|end_of_text|>"},
               {4, "<|finetune_right_pad_id|>"},
               {6, "<|start_header_id|>"},
               {7, "<|end_header_id|>"},
               {8, "<|eom_id|>"},
               {9, "<|eot_id|>"},
               {10, "<|python_tag|>"}}},
    {.file = "qwen",
     .ranks = 151643,
     .pattern = "qwen2",
     .nfc = true,
     .reserved = "<|extra_",
     .slots = 208,
     .names = {{0, "<|endoftext|>"}, {1, "<|im_start|>"}, {2, "<|im_end|>"}}},
    {.file = "cl100k_base",
     .ranks = 100256,
     .pattern = "llama3", /* the same pieces as its own, which only tiktoken's
                             engine reads so (spec §9) */
     .names = {{1, "<|endoftext|>"},
               {2, "<|fim_prefix|>"},
               {3, "<|fim_middle|>"},
               {4, "<|fim_suffix|>"},
               {20, "<|endofprompt|>"}}},
    {.file = "o200k_base",
     .ranks = 199998,
     .pattern = "o200k",
     .names = {{1, "<|endoftext|>"}, {20, "<|endofprompt|>"}}},
    {.file = "p50k_base",
     .ranks = 50281,
     .pattern = "gpt2",
     .names = {{-25, "<|endoftext|>"}}},
    {.file = "multilingual",
     .ranks = 50257,
     .pattern = "gpt2",
     .names = {{-1, "<|endoftext|>"}}},
    {.file = "r50k_base",
     .ranks = 50256,
     .pattern = "gpt2",
     .names = {{0, "<|endoftext|>"}}},
    {.file = "gpt2",
     .ranks = 50256,
     .pattern = "gpt2",
     .names = {{0, "<|endoftext|>"}}},
};

static const struct family *family_of(const char *name, size_t ranks,
                                      struct err *err) {
    size_t n = sizeof families / sizeof *families;
    for (size_t i = 0; i < n; i++)
        if (families[i].ranks == ranks)
            return &families[i];
    for (size_t i = 0; i < n; i++)
        if (strncmp(name, families[i].file, strlen(families[i].file)) == 0)
            return &families[i];
    err_set(err, ERR_UNSUPPORTED,
            "%zu ranks belong to no known family, so that its pattern is not "
            "known; convert it to a tokenizer.json",
            ranks);
    return NULL;
}

/* ---- ranks ---- */

static void put_bytes(struct buf *out, const char *s, size_t len) {
    buf_u8(out, '"');
    for (size_t i = 0; i < len; i++) {
        char text[4];
        if (s[i] == '"' || s[i] == '\\')
            buf_u8(out, '\\');
        buf_bytes(out, text,
                  (size_t)uni_put(byte_char((unsigned char)s[i]), text));
    }
    buf_u8(out, '"');
}

/* The decimal number of all of s, or UINT32_MAX. */
static uint32_t number_of(const char *s, size_t len) {
    uint32_t v = 0;
    for (size_t i = 0; i < len; i++) {
        if (s[i] < '0' || s[i] > '9' || v >= VOCAB_IDS_MAX)
            return UINT32_MAX;
        v = 10 * v + (uint32_t)(s[i] - '0');
    }
    return len && v < VOCAB_IDS_MAX ? v : UINT32_MAX;
}

/* One line; its bytes go to *arena, which moves on. */
static int read_rank(struct conv *c, const char *line, size_t len,
                     uint8_t **arena, struct err *err) {
    const char *space = memchr(line, ' ', len);
    size_t n, key = space ? (size_t)(space - line) : 0;
    uint32_t rank = space ? number_of(space + 1, len - key - 1) : UINT32_MAX;
    if (rank == UINT32_MAX || base64_decode(line, key, *arena, &n) < 0)
        return err_set(err, ERR_INVAL, "base64, a space and a rank are wanted");
    if (n > CONVERT_TOKEN_MAX)
        return err_set(err, ERR_INVAL, "a token of %zu bytes, at most %d", n,
                       CONVERT_TOKEN_MAX);
    const char *s = (const char *)*arena;
    if (rank >= c->n)
        c->n = rank + 1;
    if (n == 0) /* keeps a rank free, as Whisper's does */
        return 0;
    if (c->token[rank].s || vocab_find(&c->ids, s, n) != VOCAB_NONE)
        return err_set(err, ERR_INVAL, "rank %u or its token comes twice",
                       rank);
    c->token[rank] = (struct conv_token){s, (uint32_t)n, true};
    vocab_add(&c->ids, s, n, rank);
    *arena += n;
    return 0;
}

static int read_ranks(struct conv *c, const char *data, size_t len,
                      uint8_t *arena, struct err *err) {
    for (size_t at = 0, line = 1; at < len; line++) {
        const char *end = memchr(data + at, '\n', len - at);
        size_t next = end ? (size_t)(end - data) + 1 : len;
        size_t to = end ? next - 1 : len;
        if (to > at && data[to - 1] == '\r')
            to--;
        if (to > at && read_rank(c, data + at, to - at, &arena, err) < 0)
            return err_ctx(err, "line %zu", line);
        at = next;
    }
    for (int b = 0; b < 256; b++)
        if (vocab_find(&c->ids, (char[]){(char)b}, 1) == VOCAB_NONE)
            return err_set(err, ERR_INVAL,
                           "byte 0x%02x has no rank: a .tiktoken file is "
                           "wanted",
                           (unsigned)b);
    return 0;
}

/* ---- added tokens ---- */

static const char *slot_name(const struct family *f, int64_t slot) {
    size_t n = sizeof f->names / sizeof *f->names;
    for (size_t i = 0; i < n && f->names[i].name; i++)
        if (f->names[i].slot == slot)
            return f->names[i].name;
    return NULL;
}

static void add_tokens(struct conv *c, const struct family *f) {
    int count = 0;
    for (size_t id = 0; id < c->n + ADDED_SLOTS; id++) {
        struct conv_added a;
        int64_t slot = (int64_t)id - (int64_t)c->n;
        const char *name = slot_name(f, slot);
        if (id < c->n && c->token[id].s)
            continue;
        bool is_reserved = slot >= 0 && slot < f->slots && !name;
        if (!conv_config_added(c->config, (int64_t)id, &a)) {
            char *own = name ? fs_path("%s", name) : NULL;
            if (is_reserved)
                own =
                    fs_path("%s%d|>", f->reserved, f->by_id ? (int)id : count);
            if (!own)
                continue;
            a = (struct conv_added){.text = own,
                                    .len = strlen(own),
                                    .own = own,
                                    .id = (int64_t)id,
                                    .special = true};
        }
        count += is_reserved;
        conv_add(c, a);
    }
}

/* ---- writing ---- */

static const char *pattern_of(const char *family) {
    const char *name, *const *patterns;
    for (int i = 0; scan_known(i, &name, &patterns); i++)
        if (strcmp(name, family) == 0)
            return patterns[0];
    return "";
}

static void write_json(struct conv *c, const struct family *f) {
    const char *pattern = pattern_of(f->pattern);
    uint32_t *order = malloc(c->n * sizeof *order);
    size_t n = 0;
    CHECK(order, "out of memory for %zu ranks", c->n);
    for (uint32_t i = 0; i < c->n; i++)
        if (c->token[i].s)
            order[n++] = i;
    conv_begin(c);
    buf_printf(c->out, ",\"normalizer\":%s",
               f->nfc ? "{\"type\":\"NFC\"}" : "null");
    buf_puts(c->out, ",\"pre_tokenizer\":{\"type\":\"Sequence\","
                     "\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":"
                     "{\"Regex\":");
    conv_string(c->out, pattern, strlen(pattern));
    buf_puts(c->out,
             "},\"behavior\":\"Isolated\",\"invert\":false},{\"type\":"
             "\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":false,"
             "\"use_regex\":false}]}");
    conv_post(c, f->bos);
    buf_puts(c->out, ",\"decoder\":{\"type\":\"ByteLevel\","
                     "\"add_prefix_space\":false,\"trim_offsets\":false,"
                     "\"use_regex\":false},\"model\":{\"type\":\"BPE\","
                     "\"ignore_merges\":true,\"tied_merges\":true,");
    conv_vocab(c);
    buf_puts(c->out, ",");
    conv_merges(c, order, n, false);
    buf_puts(c->out, "}}");
    free(order);
}

int convert_tiktoken(const char *name, const char *data, size_t len,
                     const json_t *config, struct buf *out, struct err *err) {
    struct conv c = {.put = put_bytes, .config = config, .out = out};
    uint8_t *arena = malloc(len + 1);
    const struct family *f;
    int rc = -1;
    c.token = calloc(VOCAB_IDS_MAX, sizeof *c.token);
    CHECK(arena && c.token, "out of memory for ranks");
    if (read_ranks(&c, data, len, arena, err) == 0 &&
        (f = family_of(name, c.n, err))) {
        add_tokens(&c, f);
        write_json(&c, f);
        rc = 0;
    }
    conv_release(&c);
    free(arena);
    return rc;
}
