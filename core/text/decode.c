/* decode: a chain of steps, each from parts to parts. */
#include "core/text/decode.h"

#include "core/fs.h"
#include "core/json.h"
#include "core/text/int.h"
#include "core/text/norm.h"
#include "core/text/unicode.h"

#include <stdlib.h>
#include <string.h>

#define STEPS_MAX 16

struct step;
typedef void step_fn(const struct step *s, const struct parts *in,
                     struct parts *out);

struct step {
    step_fn *run;
    char *text, *more; /* owned: what a step looks for */
    int64_t start, stop;
    bool flag;
    struct norm *norm; /* of Replace, which is a normalizer's twin */
};

struct decoder {
    struct step step[STEPS_MAX];
    int n;
};

/* ---- parts ---- */

static void parts_reserve(struct parts *p, size_t len) {
    if (p->len + len + 1 <= p->cap)
        return;
    p->cap = 2 * (p->len + len) + 64;
    p->s = realloc(p->s, p->cap);
    CHECK(p->s, "out of memory for text");
}

void parts_put(struct parts *p, const char *s, size_t len) {
    parts_reserve(p, len);
    if (len)
        memcpy(p->s + p->len, s, len);
    p->len += len;
    p->s[p->len] = 0;
}

void parts_cut(struct parts *p) {
    if (p->n == p->n_cap) {
        p->n_cap = p->n_cap ? 2 * p->n_cap : 64;
        p->end = realloc(p->end, p->n_cap * sizeof *p->end);
        CHECK(p->end, "out of memory for text");
    }
    p->end[p->n++] = p->len;
}

void parts_clear(struct parts *p) {
    p->len = p->n = 0;
    if (p->s)
        *p->s = 0;
}

void parts_release(struct parts *p) {
    free(p->s);
    free(p->end);
    memset(p, 0, sizeof *p);
}

struct part {
    const char *s;
    size_t len;
};

static struct part part_at(const struct parts *p, size_t i) {
    size_t from = i ? p->end[i - 1] : 0;
    return (struct part){p->s ? p->s + from : "", p->end[i] - from};
}

/* The part's text with `to` for every `from`, appended to out. */
static void put_replaced(struct parts *out, struct part p, const char *from,
                         const char *to, bool all) {
    size_t n = strlen(from), at = 0;
    while (n > 0 && at + n <= p.len) {
        const char *hit = memmem(p.s + at, p.len - at, from, n);
        if (!hit)
            break;
        size_t next = (size_t)(hit - p.s);
        parts_put(out, p.s + at, next - at);
        parts_put(out, to, strlen(to));
        at = next + n;
        if (!all)
            break;
    }
    parts_put(out, p.s + at, p.len - at);
}

/* ---- steps ---- */

void decoder_bytes(struct parts *p, const char *s, size_t len) {
    size_t n = 0;
    parts_reserve(p, len);
    char *out = p->s + p->len;
    for (size_t i = 0; i < len; n++) {
        uint32_t c = (unsigned char)s[i];
        i += c < 0x80 ? 1 : (size_t)uni_get(s + i, &c);
        int b = c < 512 ? byte_of_char(c) : -1;
        if (b < 0) { /* not in letters of bytes: as it is */
            parts_put(p, s, len);
            return;
        }
        out[n] = (char)b;
    }
    out[n] = 0;
    p->len += n;
}

static void run_bytes(const struct step *s, const struct parts *in,
                      struct parts *out) {
    struct parts raw = {0};
    size_t n;
    (void)s;
    for (size_t i = 0; i < in->n; i++)
        decoder_bytes(&raw, part_at(in, i).s, part_at(in, i).len);
    char *text = utf8_lossy(raw.s ? raw.s : "", raw.len, &n);
    parts_put(out, text, n);
    parts_cut(out);
    free(text);
    parts_release(&raw);
}

/* As Rust reads two hexadecimal digits: one of them may be a plus. */
static int hex_byte(const char *s) {
    static const char digits[] = "0123456789abcdef0123456789ABCDEF";
    int v = 0;
    for (int i = 0; i < 2; i++) {
        const char *d = s[i] ? strchr(digits, s[i]) : NULL;
        if (!d && !(i == 0 && s[0] == '+'))
            return -1;
        v = d ? v * 16 + (int)((d - digits) & 15) : v;
    }
    return v;
}

static int fallback_byte(struct part p) {
    bool is = p.len == 6 && memcmp(p.s, "<0x", 3) == 0 && p.s[5] == '>';
    return is ? hex_byte(p.s + 3) : -1;
}

static void fallback_flush(struct parts *raw, struct parts *out) {
    if (raw->len == 0)
        return;
    if (utf8_ok(raw->s, raw->len)) {
        parts_put(out, raw->s, raw->len);
        parts_cut(out);
    } else {
        for (size_t i = 0; i < raw->len; i++) {
            parts_put(out, "\xef\xbf\xbd", 3);
            parts_cut(out);
        }
    }
    parts_clear(raw);
}

static void run_fallback(const struct step *s, const struct parts *in,
                         struct parts *out) {
    struct parts raw = {0};
    (void)s;
    for (size_t i = 0; i < in->n; i++) {
        struct part p = part_at(in, i);
        int b = fallback_byte(p);
        if (b >= 0) {
            char byte = (char)b;
            parts_put(&raw, &byte, 1);
            continue;
        }
        fallback_flush(&raw, out);
        parts_put(out, p.s, p.len);
        parts_cut(out);
    }
    fallback_flush(&raw, out);
    parts_release(&raw);
}

/* SentencePiece's bytes: a character, or U+FFFD for a byte. */
static void sp_flush(struct parts *raw, struct parts *out) {
    for (size_t i = 0, n; i < raw->len; i += n) {
        for (n = 1; n < 4 && i + n < raw->len && !utf8_ok(raw->s + i, n);)
            n++;
        bool ok = utf8_ok(raw->s + i, n);
        n = ok ? n : 1;
        parts_put(out, ok ? raw->s + i : "\xef\xbf\xbd", ok ? n : 3);
    }
    parts_clear(raw);
}

/* Its decoder as it is: with white space removed (flag) a mark less of each
 * token before there is text, else of the first that has one. */
static void run_sentencepiece(const struct step *s, const struct parts *in,
                              struct parts *out) {
    static const char mark[] = "\xe2\x96\x81";
    struct parts raw = {0};
    bool strip = s->start;
    for (size_t i = 0; i < in->n; i++) {
        struct part p = part_at(in, i);
        int b = fallback_byte(p);
        if (b >= 0) {
            parts_put(&raw, &(char){(char)b}, 1);
            continue;
        }
        sp_flush(&raw, out);
        strip = strip && out->len == 0;
        if (strip && p.len >= 3 && memcmp(p.s, mark, 3) == 0) {
            p = (struct part){p.s + 3, p.len - 3};
            strip = s->flag;
        }
        put_replaced(out, p, mark, " ", true);
    }
    sp_flush(&raw, out);
    parts_cut(out);
    parts_release(&raw);
}

static void run_fuse(const struct step *s, const struct parts *in,
                     struct parts *out) {
    (void)s;
    parts_put(out, in->s, in->len);
    parts_cut(out);
}

static void run_strip(const struct step *s, const struct parts *in,
                      struct parts *out) {
    size_t n = strlen(s->text);
    for (size_t i = 0; i < in->n; i++) {
        struct part p = part_at(in, i);
        for (int64_t k = 0; k < s->start && p.len >= n; k++) {
            if (memcmp(p.s, s->text, n) != 0)
                break;
            p.s += n;
            p.len -= n;
        }
        for (int64_t k = 0; k < s->stop && p.len >= n; k++) {
            if (memcmp(p.s + p.len - n, s->text, n) != 0)
                break;
            p.len -= n;
        }
        parts_put(out, p.s, p.len);
        parts_cut(out);
    }
}

static void run_replace(const struct step *s, const struct parts *in,
                        struct parts *out) {
    struct norm_out o = {0};
    for (size_t i = 0; i < in->n; i++) {
        struct part p = part_at(in, i);
        size_t others = out->len + in->len - in->end[i];
        o.most = out->most > others ? out->most - others : 1;
        norm_apply(s->norm, p.s, p.len, &o);
        parts_put(out, o.text, o.len);
        parts_cut(out);
    }
    norm_out_release(&o);
}

/* The first token loses all its marks when one was prepended. */
static void run_metaspace(const struct step *s, const struct parts *in,
                          struct parts *out) {
    for (size_t i = 0; i < in->n; i++) {
        put_replaced(out, part_at(in, i), s->text, i == 0 && s->flag ? "" : " ",
                     true);
        parts_cut(out);
    }
}

/* English as one writes it. */
static void put_clean(struct parts *out, struct part p) {
    static const char *const pairs[][2] = {
        {" .", "."},   {" ?", "?"},     {" !", "!"},     {" ,", ","},
        {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},   {" do not", " don't"},
        {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"},
    };
    struct parts a = {0}, b = {0};
    parts_put(&a, p.s, p.len);
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        parts_clear(&b);
        put_replaced(&b, (struct part){a.s, a.len}, pairs[i][0], pairs[i][1],
                     true);
        struct parts t = a;
        a = b;
        b = t;
    }
    parts_put(out, a.s, a.len);
    parts_release(&a);
    parts_release(&b);
}

static void run_wordpiece(const struct step *s, const struct parts *in,
                          struct parts *out) {
    struct parts one = {0};
    size_t n = strlen(s->text);
    for (size_t i = 0; i < in->n; i++) {
        struct part p = part_at(in, i);
        bool goes_on = p.len >= n && memcmp(p.s, s->text, n) == 0;
        parts_clear(&one);
        if (i > 0 && !goes_on)
            parts_put(&one, " ", 1);
        size_t cut = i > 0 && goes_on ? n : 0;
        parts_put(&one, p.s + cut, p.len - cut);
        if (s->flag)
            put_clean(out, (struct part){one.s, one.len});
        else
            parts_put(out, one.s, one.len);
        parts_cut(out);
    }
    parts_release(&one);
}

static void run_bpe(const struct step *s, const struct parts *in,
                    struct parts *out) {
    for (size_t i = 0; i < in->n; i++) {
        put_replaced(out, part_at(in, i), s->text, i + 1 == in->n ? "" : " ",
                     true);
        parts_cut(out);
    }
}

static bool same_part(struct part a, struct part b) {
    return a.len == b.len && memcmp(a.s, b.s, a.len) == 0;
}

static void run_ctc(const struct step *s, const struct parts *in,
                    struct parts *out) {
    struct parts one = {0}, clean = {0};
    for (size_t i = 0; i < in->n; i++) {
        if (i && same_part(part_at(in, i), part_at(in, i - 1)))
            continue;
        size_t before = out->len;
        parts_clear(&one);
        parts_clear(&clean);
        put_replaced(&one, part_at(in, i), s->text, "", true);
        if (s->flag) {
            put_clean(&clean, (struct part){one.s, one.len});
            put_replaced(out, (struct part){clean.s, clean.len}, s->more, " ",
                         true);
        } else {
            parts_put(out, one.s, one.len);
        }
        if (out->len > before)
            parts_cut(out);
    }
    parts_release(&one);
    parts_release(&clean);
}

static void run_spaces(const struct step *s, const struct parts *in,
                       struct parts *out) {
    (void)s;
    for (size_t i = 0; i < in->n; i++) {
        if (i)
            parts_put(out, " ", 1);
        parts_put(out, part_at(in, i).s, part_at(in, i).len);
    }
    parts_cut(out);
}

/* ---- configuration ---- */

static int load_text(char **to, const json_t *j, const char *key,
                     const char *dflt, struct err *err) {
    const char *v;
    if (json_get_str(j, key, &v, dflt, err) < 0)
        return -1;
    *to = fs_path("%s", v ? v : "");
    return 0;
}

static int load_none(struct step *s, const json_t *j, struct err *err) {
    (void)s, (void)j, (void)err;
    return 0;
}

static int load_strip(struct step *s, const json_t *j, struct err *err) {
    if (load_text(&s->text, j, "content", " ", err) < 0 ||
        json_get_int(j, "start", &s->start, 0, err) < 0 ||
        json_get_int(j, "stop", &s->stop, 0, err) < 0)
        return -1;
    return *s->text ? 0 : err_set(err, ERR_INVAL, "Strip of nothing");
}

static int load_sentencepiece(struct step *s, const json_t *j,
                              struct err *err) {
    bool dummy;
    if (json_get_bool(j, "add_dummy_prefix", &dummy, true, err) < 0 ||
        json_get_bool(j, "remove_extra_whitespaces", &s->flag, true, err) < 0)
        return -1;
    s->start = dummy || s->flag;
    return 0;
}

static int load_replace(struct step *s, const json_t *j, struct err *err) {
    s->norm = norm_new(j, err);
    return s->norm ? 0 : -1;
}

static int load_metaspace(struct step *s, const json_t *j, struct err *err) {
    const char *scheme;
    bool prefix;
    if (load_text(&s->text, j, "replacement", "\xe2\x96\x81", err) < 0 ||
        json_get_bool(j, "add_prefix_space", &prefix, true, err) < 0 ||
        json_get_str(j, "prepend_scheme", &scheme, prefix ? "always" : "never",
                     err) < 0)
        return -1;
    s->flag = strcmp(scheme, "never") != 0;
    return 0;
}

static int load_wordpiece(struct step *s, const json_t *j, struct err *err) {
    if (load_text(&s->text, j, "prefix", "##", err) < 0)
        return -1;
    return json_get_bool(j, "cleanup", &s->flag, true, err);
}

static int load_bpe(struct step *s, const json_t *j, struct err *err) {
    return load_text(&s->text, j, "suffix", "</w>", err);
}

static int load_ctc(struct step *s, const json_t *j, struct err *err) {
    if (load_text(&s->text, j, "pad_token", "<pad>", err) < 0 ||
        load_text(&s->more, j, "word_delimiter_token", "|", err) < 0)
        return -1;
    return json_get_bool(j, "cleanup", &s->flag, true, err);
}

static const struct {
    const char *type;
    int (*load)(struct step *s, const json_t *j, struct err *err);
    step_fn *run;
} steps[] = {
    {"ByteLevel", load_none, run_bytes},
    {"ByteFallback", load_none, run_fallback},
    {"Fuse", load_none, run_fuse},
    {"Strip", load_strip, run_strip},
    {"Replace", load_replace, run_replace},
    {"Metaspace", load_metaspace, run_metaspace},
    {"WordPiece", load_wordpiece, run_wordpiece},
    {"BPEDecoder", load_bpe, run_bpe},
    {"CTC", load_ctc, run_ctc},
    {"SentencePiece", load_sentencepiece, run_sentencepiece}, /* convert.h */
};
#define N_STEPS (sizeof steps / sizeof *steps)

static int decoder_add(struct decoder *d, const json_t *j, struct err *err) {
    const char *type = json_string_value(json_object_get(j, "type"));
    size_t i;
    json_t *e;
    if (type && strcmp(type, "Sequence") == 0) {
        json_array_foreach(json_object_get(j, "decoders"), i, e) {
            if (decoder_add(d, e, err) < 0)
                return -1;
        }
        return 0;
    }
    for (i = 0; i < N_STEPS; i++)
        if (type && strcmp(steps[i].type, type) == 0)
            break;
    if (i == N_STEPS || d->n == STEPS_MAX)
        return err_set(err, ERR_UNSUPPORTED, "decoder '%.40s' is not supported",
                       type ? type : "none");
    struct step *s = &d->step[d->n++];
    s->run = steps[i].run;
    return steps[i].load(s, j, err) < 0 ? err_ctx(err, "decoder %s", type) : 0;
}

struct decoder *decoder_new(const json_t *conf, struct err *err) {
    struct decoder *d = calloc(1, sizeof *d);
    CHECK(d, "out of memory for a decoder");
    if (!conf || json_is_null(conf)) {
        d->step[d->n++].run = run_spaces;
        return d;
    }
    if (decoder_add(d, conf, err) == 0)
        return d;
    decoder_free(d);
    return NULL;
}

void decoder_free(struct decoder *d) {
    for (int i = 0; d && i < d->n; i++) {
        free(d->step[i].text);
        free(d->step[i].more);
        norm_free(d->step[i].norm);
    }
    free(d);
}

bool decoder_is_bytes(const struct decoder *d) {
    return d->n == 1 && d->step[0].run == run_bytes;
}

void decoder_run(const struct decoder *d, struct parts *p) {
    struct parts out = {0};
    out.most = p->most = norm_most(p->len);
    for (int i = 0; i < d->n; i++) {
        parts_clear(&out);
        d->step[i].run(&d->step[i], p, &out);
        struct parts t = *p;
        *p = out;
        out = t;
    }
    parts_put(p, "", 0);
    parts_release(&out);
}
