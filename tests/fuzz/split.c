/* split: configurations of normalizers and pre-tokenizers, their patterns
 * among them, and texts for them. */
#include "tests/fuzz/fuzz.h"

#include "core/text/int.h"
#include "core/text/norm.h"

#include <stdlib.h>
#include <string.h>

/* An input is JSON, a NUL, and the text. */
static const char *text_of(const uint8_t *data, size_t len, size_t *text_len) {
    const uint8_t *nul = memchr(data, 0, len);
    const uint8_t *text = nul ? nul + 1 : data + len;
    *text_len = (size_t)(data + len - text);
    return (const char *)text;
}

static bool is_utf8(const char *s, size_t len) {
    size_t n;
    char *same = utf8_lossy(s, len, &n);
    bool is = n == len && (!n || memcmp(s, same, n) == 0);
    free(same);
    return is;
}

static void check_span(struct span s, size_t len) {
    CHECK(s.from <= s.to && s.to <= len, "a place outside of the text");
}

static void run_split(const json_t *conf, const char *text, size_t len) {
    struct err err = {0};
    struct split *s = split_new(conf, &err);
    CHECK(s || err.code, "a refusal without a reason");
    if (!s)
        return;
    struct split_run *r = split_run_new(s);
    struct piece p;
    size_t pieces = 0;
    const char *last = text;
    split_begin(r, text, len, true);
    for (; split_next(r, &p); pieces++) {
        CHECK(p.len > 0, "an empty piece");
        for (size_t i = 0; p.at && i < p.len; i++)
            check_span(p.at[i], len);
        if (p.at)
            continue;
        CHECK(p.s >= last && p.s + p.len <= text + len, "pieces out of order");
        last = p.s + p.len;
    }
    CHECK(pieces <= 2 * len + 1, "more pieces than text");
    split_run_free(r);
    split_free(s);
}

static void run_norm(const json_t *conf, const char *text, size_t len) {
    struct err err = {0};
    struct norm_out with = {.want_at = true}, without = {.want_at = false};
    struct norm *n = norm_new(conf, &err);
    CHECK(n || err.code, "a refusal without a reason");
    if (!n)
        return;
    norm_apply(n, text, len, &with);
    norm_apply(n, text, len, &without);
    CHECK(is_utf8(with.text, with.len), "text that is not UTF-8");
    CHECK(with.len == without.len &&
              (!with.len || memcmp(with.text, without.text, with.len) == 0),
          "offsets change the text");
    for (size_t i = 0; with.at && i < with.len; i++)
        check_span(with.at[i], len);
    norm_out_release(&with);
    norm_out_release(&without);
    norm_free(n);
}

static int split_run_input(const uint8_t *data, size_t len) {
    size_t raw_len, text_len;
    const char *raw = text_of(data, len, &raw_len);
    char *text = utf8_lossy(raw, raw_len, &text_len);
    size_t conf_len = (size_t)(raw - (const char *)data);
    json_t *j = json_loadb((const char *)data, conf_len ? conf_len - 1 : 0,
                           JSON_ALLOW_NUL, NULL);
    if (json_object_get(j, "n"))
        run_norm(json_object_get(j, "n"), text, text_len);
    if (json_object_get(j, "p"))
        run_split(json_object_get(j, "p"), text, text_len);
    json_decref(j);
    free(text);
    return 0;
}

static const char text[] = "It's \xc3\xa9t\xc3\xa9, ABCd efG 12345\r\n  x\t\xe4"
                           "\xb8\xad\xe6\x96\x87 e\xcc\x81\xcc\xa3  !!?";

static void split_seeds(fuzz_seed_fn *add, void *arg) {
    static const char *const seeds[] = {
        "{\"p\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\","
        "\"pattern\":{\"Regex\":\"(?i:'s|'re)|[^\\\\r\\\\n\\\\p{L}]?\\\\p{L}+|"
        "\\\\p{N}{1,3}|\\\\s+(?!\\\\S)|[\\\\w&&[^a-c]]\"},\"behavior\":"
        "\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\","
        "\"add_prefix_space\":true,\"use_regex\":true},{\"type\":\"Digits\","
        "\"individual_digits\":true}]}}",
        "{\"p\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":"
        "\"Metaspace\",\"replacement\":\"\xe2\x96\x81\",\"prepend_scheme\":"
        "\"first\",\"split\":true},{\"type\":\"Punctuation\",\"behavior\":"
        "\"MergedWithNext\"},{\"type\":\"Whitespace\"},{\"type\":"
        "\"FixedLength\",\"length\":3}]}}",
        "{\"p\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(?:a|\\\\s){,3}+"
        "|(?<=\\\\p{Lu})x*?|\\\\b(?m:.)|^$|[[:alpha:]\\\\x{41}-z]\"},"
        "\"behavior\":\"MergedWithPrevious\",\"invert\":true}}",
        "{\"n\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFKC\"},"
        "{\"type\":\"NFD\"},{\"type\":\"StripAccents\"},{\"type\":"
        "\"Lowercase\"},{\"type\":\"Replace\",\"pattern\":{\"Regex\":"
        "\" {2,}|a*\"},\"content\":\"x\"},{\"type\":\"Prepend\",\"prepend\":"
        "\"\xe2\x96\x81\"},{\"type\":\"Strip\",\"strip_left\":true,"
        "\"strip_right\":true}]}}",
        "{\"n\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":"
        "\"BertNormalizer\",\"clean_text\":true,\"handle_chinese_chars\":true,"
        "\"strip_accents\":null,\"lowercase\":true},{\"type\":\"Nmt\"},"
        "{\"type\":\"NFC\"},{\"type\":\"ByteLevel\"}]}}",
        "{\"n\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":"
        "\"CAAAAAAEAABhAQAAYmMA\"}}"};
    for (size_t i = 0; i < sizeof seeds / sizeof *seeds; i++) {
        uint8_t data[2048];
        size_t n = strlen(seeds[i]) + 1;
        memcpy(data, seeds[i], n);
        memcpy(data + n, text, sizeof text - 1);
        add(arg, data, n + sizeof text - 1);
    }
}

static const char *const words[] = {"\\\\p{L}",
                                    "\\\\P{N}",
                                    "[^",
                                    "&&",
                                    "(?i:",
                                    "(?=",
                                    "(?<!",
                                    ")+",
                                    "*?",
                                    "{1,3}",
                                    "|",
                                    "\\\\s",
                                    "[[:",
                                    ":]]",
                                    "(?>",
                                    "Removed",
                                    "Contiguous",
                                    "\"Regex\"",
                                    "\"String\"",
                                    "\xcc\x81",
                                    "\xef\xbe\x9e",
                                    "NFKD",
                                    "CharDelimiterSplit",
                                    "BertPreTokenizer",
                                    NULL};
const struct fuzz_target fuzz_split = {"split", split_run_input, split_seeds,
                                       words};
