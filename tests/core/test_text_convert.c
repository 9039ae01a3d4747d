/* Conversions of .tiktoken and SentencePiece files: what they say, and what
 * they refuse. That ids are tiktoken's and SentencePiece's is shown by
 * tests/peer/tokens.py. */
#include "core/fs.h"
#include "core/text/base64.h"
#include "core/text/convert.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

Suite *text_convert_suite(void);

static json_t *converted(const char *name, const void *data, size_t len,
                         const json_t *config, struct err *err) {
    struct buf out;
    json_t *j = NULL;
    buf_init(&out, 16 << 20);
    if (convert_bytes(name, data, len, config, &out, err) == 0) {
        j = json_loadb((const char *)out.data, out.len, JSON_REJECT_DUPLICATES,
                       NULL);
        ck_assert_msg(j != NULL, "not JSON: %s", buf_str(&out));
    }
    buf_release(&out);
    return j;
}

static const json_t *at(const json_t *j, const char *a, const char *b) {
    return json_object_get(json_object_get(j, a), b);
}

static bool same(const json_t *j, const char *text) {
    json_t *want = json_loads(text, JSON_DECODE_ANY, NULL);
    bool is = json_equal(j, want);
    char *got = json_dumps(j, JSON_ENCODE_ANY);
    if (!is)
        fprintf(stderr, "want %s\ngot  %s\n", text, got ? got : "(none)");
    free(got);
    json_decref(want);
    return is;
}

/* ---- .tiktoken ---- */

static void put_rank(struct buf *b, const char *s, size_t len, int rank) {
    base64_encode(b, (const uint8_t *)s, len);
    buf_printf(b, " %d\n", rank);
}

/* All bytes, then what is given, from rank 256. */
static void put_ranks(struct buf *b, const char *const *more) {
    buf_init(b, 1 << 20);
    for (int i = 0; i < 256; i++)
        put_rank(b, (char[]){(char)i}, 1, i);
    for (int i = 0; more[i]; i++)
        put_rank(b, more[i], strlen(more[i]), 256 + i);
}

START_TEST(a_tiktoken_file_gets_every_cut_of_a_token_as_a_merge) {
    struct buf b;
    struct err err = {0};
    put_ranks(&b, (const char *[]){"ab", "bc", "abc", " \"", NULL});
    json_t *j = converted("cl100k_base.tiktoken", b.data, b.len, NULL, &err);
    ck_assert_msg(j != NULL, "%s", err.msg);
    ck_assert(same(at(j, "model", "merges"),
                   "[[\"a\",\"b\"],[\"b\",\"c\"],[\"a\",\"bc\"],[\"ab\","
                   "\"c\"],[\"\xc4\xa0\",\"\\\"\"]]"));
    ck_assert(
        same(json_object_get(at(j, "model", "vocab"), "\xc4\xa0\""), "259"));
    ck_assert(json_is_true(at(j, "model", "tied_merges")));
    ck_assert(json_is_true(at(j, "model", "ignore_merges")));
    json_decref(j);
    buf_release(&b);
}
END_TEST

START_TEST(kimis_reserved_slots_take_names_from_the_configuration) {
    struct buf b;
    struct err err = {0};
    json_t *config = json_loads(
        "{\"added_tokens_decoder\":{\"257\":{\"content\":\"[EOS]\",\"special\":"
        "true},\"258\":{\"content\":\"<think>\",\"special\":false}},"
        "\"bos_token\":\"[EOS]\",\"add_bos_token\":true}",
        0, NULL);
    put_ranks(&b, (const char *[]){"ab", NULL});
    json_t *j = converted("tiktoken.model", b.data, b.len, config, &err);
    ck_assert_msg(j != NULL, "%s", err.msg);
    const json_t *added = json_object_get(j, "added_tokens");
    ck_assert_uint_eq(json_array_size(added), 256);
    ck_assert(same(json_object_get(json_array_get(added, 0), "content"),
                   "\"[EOS]\""));
    ck_assert(
        json_is_false(json_object_get(json_array_get(added, 1), "special")));
    ck_assert(same(json_object_get(json_array_get(added, 255), "content"),
                   "\"<|reserved_token_512|>\""));
    ck_assert(same(at(j, "post_processor", "single"),
                   "[{\"SpecialToken\":{\"id\":\"[EOS]\",\"type_id\":0}},"
                   "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}]"));
    json_decref(j);
    json_decref(config);
    buf_release(&b);
}
END_TEST

static const struct {
    const char *name, *line, *want;
} bad_lines[] = {
    {"gpt2.tiktoken", "YWI=", "line 257: base64, a space and a rank"},
    {"gpt2.tiktoken", "YWI= x", "line 257: base64, a space and a rank"},
    {"gpt2.tiktoken", "Y?I= 256", "line 257: base64, a space and a rank"},
    {"gpt2.tiktoken", "YWI= 99999999", "line 257: base64, a space and a rank"},
    {"gpt2.tiktoken", "YWI= 7", "line 257: rank 7 or its token comes twice"},
    {"gpt2.tiktoken", "YQ== 256", "line 257: rank 256 or its token comes"},
    {"other.tiktoken", "YWI= 256", "257 ranks belong to no known family"},
};

START_TEST(a_bad_line_is_named) {
    struct buf b;
    struct err err = {0};
    put_ranks(&b, (const char *[]){NULL});
    buf_puts(&b, bad_lines[_i].line);
    json_t *j = converted(bad_lines[_i].name, b.data, b.len, NULL, &err);
    ck_assert(j == NULL);
    ck_assert_msg(strstr(err.msg, bad_lines[_i].want) != NULL, "%s", err.msg);
    buf_release(&b);
}
END_TEST

START_TEST(a_tiktoken_file_without_a_byte_is_refused) {
    struct err err = {0};
    json_t *j = converted("gpt2.tiktoken", "YQ== 0\n", 7, NULL, &err);
    ck_assert(j == NULL);
    ck_assert_msg(strstr(err.msg, "byte 0x00 has no rank") != NULL, "%s",
                  err.msg);
}
END_TEST

/* ---- SentencePiece ---- */

static void put_piece(struct buf *b, const char *s, float score, int type) {
    size_t n = strlen(s);
    buf_u8(b, 0x0a);
    buf_u8(b, (uint8_t)(n + 9));
    buf_u8(b, 0x0a);
    buf_u8(b, (uint8_t)n);
    buf_puts(b, s);
    buf_u8(b, 0x15);
    buf_f32(b, score);
    buf_u8(b, 0x18);
    buf_u8(b, (uint8_t)type);
}

/* trainer_spec with model_type and byte_fallback, normalizer_spec without
 * remove_extra_whitespaces. */
static void put_specs(struct buf *b, int model_type) {
    const uint8_t specs[] = {
        0x12, 5, 0x18, (uint8_t)model_type, 0x98, 0x02, 1, 0x1a, 2, 0x20, 0};
    buf_bytes(b, specs, sizeof specs);
}

static void put_model(struct buf *b, int model_type) {
    buf_init(b, 1 << 20);
    put_piece(b, "<unk>", 0, 2);
    put_piece(b, "<s>", 0, 3);
    put_piece(b, "<0x41>", 0, 6);
    put_piece(b, "[U]", 0, 4);
    put_piece(b, "\xe2\x96\x81", -3, 1);
    put_piece(b, "b", -4, 1);
    put_piece(b,
              "\xe2\x96\x81"
              "b",
              -1, 1);
    put_piece(b, "bb", -0.5f, 1);
    put_specs(b, model_type);
}

START_TEST(sentencepiece_bpe_merges_by_score) {
    struct buf b;
    struct err err = {0};
    put_model(&b, 2);
    json_t *j = converted("tokenizer.model", b.data, b.len, NULL, &err);
    ck_assert_msg(j != NULL, "%s", err.msg);
    ck_assert(same(at(j, "model", "merges"),
                   "[[\"b\",\"b\"],[\"\xe2\x96\x81\",\"b\"]]"));
    ck_assert(json_is_true(at(j, "model", "byte_fallback")));
    ck_assert(same(at(j, "model", "unk_token"), "\"<unk>\""));
    const json_t *added = json_object_get(j, "added_tokens");
    ck_assert_uint_eq(json_array_size(added), 3);
    ck_assert(
        json_is_false(json_object_get(json_array_get(added, 2), "special")));
    json_decref(j);
    buf_release(&b);
}
END_TEST

START_TEST(sentencepiece_unigram_keeps_its_scores) {
    struct buf b;
    struct err err = {0};
    put_model(&b, 1);
    json_t *config = json_pack("{s:s}", "tokenizer_class", "LlamaTokenizer");
    json_t *j = converted("tokenizer.model", b.data, b.len, config, &err);
    ck_assert_msg(j != NULL, "%s", err.msg);
    ck_assert(
        same(json_array_get(at(j, "model", "vocab"), 7), "[\"bb\",-0.5]"));
    ck_assert(same(at(j, "model", "unk_id"), "0"));
    ck_assert(json_object_get(j, "post_processor") != NULL);
    json_decref(j);
    json_decref(config);
    buf_release(&b);
}
END_TEST

START_TEST(a_word_model_and_unused_pieces_are_refused_by_name) {
    struct buf b;
    struct err err = {0}, unused = {0};
    put_model(&b, 3);
    ck_assert(!converted("tokenizer.model", b.data, b.len, NULL, &err));
    ck_assert_int_eq(err.code, ERR_UNSUPPORTED);
    ck_assert(strstr(err.msg, "type WORD") != NULL);
    buf_clear(&b);
    put_piece(&b, "x", 0, 5);
    ck_assert(!converted("tokenizer.model", b.data, b.len, NULL, &unused));
    ck_assert(strstr(unused.msg, "piece 0 is of type UNUSED") != NULL);
    buf_release(&b);
}
END_TEST

START_TEST(a_model_cut_anywhere_is_refused_or_whole) {
    struct buf b;
    put_model(&b, 2);
    for (size_t n = 1; n < b.len; n++) {
        struct err err = {0};
        json_t *j = converted("tokenizer.model", b.data, n, NULL, &err);
        ck_assert_msg(j || err.code, "cut at %zu", n);
        json_decref(j);
    }
    buf_release(&b);
}
END_TEST

START_TEST(base64_comes_back) {
    struct buf b;
    uint8_t out[64];
    size_t n;
    for (size_t len = 0; len < 40; len++) {
        uint8_t in[40];
        for (size_t i = 0; i < len; i++)
            in[i] = (uint8_t)(37 * i + len);
        buf_init(&b, 100);
        base64_encode(&b, in, len);
        ck_assert_int_eq(base64_decode((const char *)b.data, b.len, out, &n),
                         0);
        ck_assert_uint_eq(n, len);
        ck_assert(len == 0 || memcmp(in, out, len) == 0);
        buf_release(&b);
    }
}
END_TEST

/* Llama 2's has 1000000000000000019884624838656 */
START_TEST(a_configuration_with_a_number_beyond_64_bits_is_read) {
    static const char text[] = "{\"model_max_length\":1000000000000000019884624"
                               "838656,\"add_bos_token\":true}";
    struct err err = {0};
    json_t *j;
    char *dir = fs_path("/tmp/fettle-convert-%d", (int)getpid());
    char *path = fs_path("%s/tokenizer_config.json", dir);
    ck_assert_int_eq(fs_mkdirs(dir, &err), 0);
    ck_assert_int_eq(convert_config(dir, &j, &err), 0);
    ck_assert_ptr_null(j);
    fs_write_atomic(path, text, sizeof text - 1, &err);
    ck_assert_msg(convert_config(dir, &j, &err) == 0, "%s", err.msg);
    ck_assert(json_is_true(json_object_get(j, "add_bos_token")));
    fs_remove_tree(dir, &err);
    json_decref(j);
    free(path);
    free(dir);
}
END_TEST

Suite *text_convert_suite(void) {
    Suite *s = suite_create("text convert");
    TCase *tc = tcase_create("convert");
    int n = sizeof bad_lines / sizeof *bad_lines;
    tcase_add_test(tc, a_tiktoken_file_gets_every_cut_of_a_token_as_a_merge);
    tcase_add_test(tc, kimis_reserved_slots_take_names_from_the_configuration);
    tcase_add_loop_test(tc, a_bad_line_is_named, 0, n);
    tcase_add_test(tc, a_tiktoken_file_without_a_byte_is_refused);
    tcase_add_test(tc, sentencepiece_bpe_merges_by_score);
    tcase_add_test(tc, sentencepiece_unigram_keeps_its_scores);
    tcase_add_test(tc, a_word_model_and_unused_pieces_are_refused_by_name);
    tcase_add_test(tc, a_model_cut_anywhere_is_refused_or_whole);
    tcase_add_test(tc, base64_comes_back);
    tcase_add_test(tc, a_configuration_with_a_number_beyond_64_bits_is_read);
    suite_add_tcase(s, tc);
    return s;
}
