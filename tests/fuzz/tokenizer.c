/* tokenizer: tokenizer.json, .tiktoken and tokenizer.model files, opened,
 * and a text through them there and back. */
#include "tests/fuzz/fuzz.h"

#include "core/text/base64.h"
#include "core/text/convert.h"
#include "core/text/int.h"
#include "core/text/tok.h"

#include <stdlib.h>
#include <string.h>

#define CONVERTED_MAX ((size_t)8 << 20)

static const char sample[] =
    "It's \xc3\xa9t\xc3\xa9, ABCd <s>x</s> [A]  12345\r\n\t\xe4\xb8\xad\xe6"
    "\x96\x87 <0x41> \xe2\x96\x81 aaaaaaaaaaaaaaaaaaaaaaaa e\xcc\x81!!?";

static void check_encoded(const struct tok *t, const struct tok_ids *ids,
                          const struct tok_spans *at, size_t len) {
    CHECK(at->n == ids->n, "as many places as tokens");
    for (size_t i = 0; i < ids->n; i++) {
        CHECK(at->at[i].to == at->at[i].from || /* a template's, as it says */
                  ids->id[i] < (uint32_t)tok_size(t),
              "an id out of range");
        CHECK(at->at[i].from <= at->at[i].to && at->at[i].to <= len,
              "a place outside of the text");
    }
}

static void check_text(const struct tok *t, const char *s, size_t len,
                       int flags) {
    struct tok_ids ids = {0}, alone = {0};
    struct tok_spans at = {0};
    tok_encode_at(t, s, len, flags, &ids, &at);
    tok_encode(t, s, len, flags, &alone);
    CHECK(ids.n == alone.n && (!ids.n || !memcmp(ids.id, alone.id, 4 * ids.n)),
          "places change the tokens");
    check_encoded(t, &ids, &at, len);
    char *back = tok_decode(t, ids.id, ids.n, false);
    CHECK(utf8_ok(back, strlen(back)), "text that is not UTF-8");
    struct tok_stream stream = {0};
    for (size_t i = 0; i <= ids.n; i++)
        free(tok_stream_next(t, &stream, i < ids.n ? ids.id[i] : UINT32_MAX));
    free(back);
    free(at.at);
    free(alone.id);
    free(ids.id);
}

static void check_json(const char *json, size_t len) {
    struct err err = {0};
    struct tok *t = calloc(1, sizeof *t);
    if (tok_load(t, json, len, &err) == 0) {
        check_text(t, sample, sizeof sample - 1, 0);
        check_text(t, sample, sizeof sample - 1, TOK_CONTROL | TOK_BOS);
    } else {
        CHECK(err.code, "a refusal without a reason");
    }
    tok_close(t);
}

static int tokenizer_run(const uint8_t *data, size_t len) {
    struct err err = {0};
    struct buf json;
    if (len > 0 && data[0] == '{') {
        check_json((const char *)data, len);
        return 0;
    }
    buf_init(&json, CONVERTED_MAX);
    if (convert_bytes("gpt2.tiktoken", (const char *)data, len, NULL, &json,
                      &err) == 0)
        check_json((const char *)json.data, json.len);
    else
        CHECK(err.code, "a refusal without a reason");
    buf_release(&json);
    return 0;
}

/* ---- seeds ---- */

#define SEED(added, chain, model) \
    "{\"version\":\"1.0\",\"added_tokens\":[" added "]," chain \
    ",\"model\":{" model "}}"
#define ADDED(id, text, flags) \
    "{\"id\":" id ",\"content\":\"" text "\"," flags "}"

static const char *const seeds[] = {
    SEED(ADDED("6", "<s>", "\"special\":true") "," ADDED(
             "7", "[A]", "\"lstrip\":true,\"rstrip\":true,\"normalized\":true"),
         "\"normalizer\":{\"type\":\"NFC\"},\"pre_tokenizer\":{\"type\":"
         "\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true},"
         "\"decoder\":{\"type\":\"ByteLevel\"},\"post_processor\":{\"type\":"
         "\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\","
         "\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],"
         "\"special_tokens\":{\"<s>\":{\"id\":\"<s>\",\"ids\":[6],\"tokens\":["
         "\"<s>\"]}}}",
         "\"type\":\"BPE\",\"ignore_merges\":true,\"vocab\":{\"a\":0,\"b\":1,"
         "\"aa\":2,\"aaaa\":3,\"\xc4\xa0\":4,\"\xc4\xa0"
         "aa\":5},\"merges\":[\"a a\",[\"aa\",\"aa\"],\"\xc4\xa0 aa\"]"),
    SEED(ADDED("1", "<s>", "\"special\":true,\"single_word\":true"),
         "\"normalizer\":{\"type\":\"Prepend\",\"prepend\":\"\xe2\x96\x81\"},"
         "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":"
         "\"Replace\",\"pattern\":{\"String\":\"\xe2\x96\x81\"},\"content\":"
         "\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},{\"type\":"
         "\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]}",
         "\"type\":\"BPE\",\"tied_merges\":true,\"byte_fallback\":true,"
         "\"fuse_unk\":true,\"unk_token\":\"<unk>\",\"vocab\":{\"<unk>\":0,"
         "\"<s>\":1,\"<0x41>\":2,\"a\":3,\"aa\":4,\"aaa\":5},\"merges\":[["
         "\"a\",\"a\"],[\"a\",\"aa\"],[\"aa\",\"a\"]]"),
    SEED("",
         "\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":"
         "\"\xe2\x96\x81\",\"prepend_scheme\":\"always\"},\"decoder\":{"
         "\"type\":\"Metaspace\",\"replacement\":\"\xe2\x96\x81\","
         "\"prepend_scheme\":\"always\"}",
         "\"type\":\"Unigram\",\"unk_id\":0,\"byte_fallback\":false,\"vocab\":"
         "[[\"<unk>\",0.0],[\"\xe2\x96\x81\",-2.5],[\"a\",-1],[\"aaa\","
         "-1.5],[\"x\",-7e0]]"),
    SEED(ADDED("2", "aa", "\"normalized\":true,\"verbatim\":true"),
         "\"normalizer\":{\"type\":\"SentencePiece\",\"user_defined\":[\"aa\","
         "\" b\"]},\"decoder\":{\"type\":\"SentencePiece\"}",
         "\"type\":\"Unigram\",\"unk_id\":0,\"byte_fallback\":true,\"vocab\":"
         "[[\"<unk>\",0.0],[\"\xe2\x96\x81\",-2.5],[\"aa\",-1],[\"a\",-1.5],"
         "[\"<0x41>\",0]],\"piece_types\":\"UNDNB\""),
    SEED("",
         "\"normalizer\":{\"type\":\"BertNormalizer\",\"lowercase\":true},"
         "\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},\"decoder\":{"
         "\"type\":\"WordPiece\",\"prefix\":\"##\",\"cleanup\":true}",
         "\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\","
         "\"continuing_subword_prefix\":\"##\",\"max_input_chars_per_word\":9,"
         "\"vocab\":{\"[UNK]\":0,\"a\":1,\"##a\":2,\"it\":3,\"'\":4}"),
    SEED("", "\"decoder\":{\"type\":\"CTC\",\"pad_token\":\"<pad>\"}",
         "\"type\":\"WordLevel\",\"unk_token\":\"[UNK]\",\"vocab\":{\"[UNK]\":"
         "0,\"<pad>\":1}"),
};

static void seed_ranks(fuzz_seed_fn *add, void *arg) {
    static const char *const more[] = {"ab", "aa", "aaa", "aaaa", " a", "\r\n"};
    struct buf b;
    buf_init(&b, FUZZ_MAX);
    for (int i = 0; i < 256; i++) {
        base64_encode(&b, &(uint8_t){(uint8_t)i}, 1);
        buf_printf(&b, " %d\n", i);
    }
    for (int i = 0; i < 6; i++) {
        base64_encode(&b, (const uint8_t *)more[i], strlen(more[i]));
        buf_printf(&b, " %d\n", 256 + i);
    }
    add(arg, b.data, b.len);
    buf_release(&b);
}

static void seed_pieces(fuzz_seed_fn *add, void *arg, uint8_t type) {
    static const struct {
        const char *s;
        uint8_t type;
    } piece[] = {{"<unk>", 2}, {"<s>", 3},          {"[A]", 4}, {"<0x41>", 6},
                 {"a", 1},     {"\xe2\x96\x81", 1}, {"aa", 1},  {"aaa", 1}};
    const uint8_t specs[] = {0x12, 5, 0x18, type, 0x98, 2, 1, 0x1a, 2, 0x20, 0};
    struct buf b;
    buf_init(&b, FUZZ_MAX);
    for (size_t i = 0; i < sizeof piece / sizeof *piece; i++) {
        size_t n = strlen(piece[i].s);
        buf_u8(&b, 0x0a);
        buf_u8(&b, (uint8_t)(n + 9));
        buf_u8(&b, 0x0a);
        buf_u8(&b, (uint8_t)n);
        buf_puts(&b, piece[i].s);
        buf_u8(&b, 0x15);
        buf_f32(&b, -(float)i);
        buf_u8(&b, 0x18);
        buf_u8(&b, piece[i].type);
    }
    buf_bytes(&b, specs, sizeof specs);
    add(arg, b.data, b.len);
    buf_release(&b);
}

static void tokenizer_seeds(fuzz_seed_fn *add, void *arg) {
    for (size_t i = 0; i < sizeof seeds / sizeof *seeds; i++)
        add(arg, seeds[i], strlen(seeds[i]));
    seed_ranks(add, arg);
    seed_pieces(add, arg, 1);
    seed_pieces(add, arg, 2);
}

static const char *const words[] = {"\"type\"",
                                    "\"BPE\"",
                                    "\"Unigram\"",
                                    "\"WordPiece\"",
                                    "\"byte_fallback\":true",
                                    "\"continuing_subword_prefix\":\"##\"",
                                    "\"end_of_word_suffix\":\"</w>\"",
                                    "[\"a\",\"a\"],",
                                    "\"a\":4294967295,",
                                    "-1e400",
                                    "null",
                                    "\\u0000",
                                    "\\ud800",
                                    "\"Strip\"",
                                    "\"ByteFallback\"",
                                    "\"lstrip\":true",
                                    "\"single_word\":true",
                                    "YWFhYQ== 300\n",
                                    "\x0a\x0c\x0a\x03",
                                    NULL};

const struct fuzz_target fuzz_tokenizer = {"tokenizer", tokenizer_run,
                                           tokenizer_seeds, words};
