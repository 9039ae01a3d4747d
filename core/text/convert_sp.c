/*
 * convert_sp: SentencePiece's ModelProto, read by hand. Of its fields:
 *
 *     1 pieces         1 text  2 score  3 type
 *     2 trainer_spec   3 model_type  24 treat_whitespace_as_suffix
 *                      35 byte_fallback
 *     3 normalizer     2 charsmap  3 add_dummy_prefix
 *                      4 remove_extra_whitespaces  5 escape_whitespaces
 */
#include "core/text/base64.h"
#include "core/text/convert_int.h"

#include <stdlib.h>
#include <string.h>

/* ---- the wire ---- */

struct wire {
    const uint8_t *p, *end;
    bool bad;
};

struct field {
    uint64_t number, value; /* value: of a varint or of fixed bits */
    const uint8_t *data;    /* of a string or a message, else NULL */
    size_t len;
};

static uint64_t wire_varint(struct wire *w) {
    uint64_t v = 0;
    for (int shift = 0; shift < 64 && w->p < w->end; shift += 7) {
        uint8_t b = *w->p++;
        v |= (uint64_t)(b & 0x7f) << shift;
        if (!(b & 0x80))
            return v;
    }
    w->bad = true;
    return 0;
}

static const uint8_t *wire_bytes(struct wire *w, uint64_t n) {
    const uint8_t *at = w->p;
    if (n > (uint64_t)(w->end - w->p)) {
        w->bad = true;
        return NULL;
    }
    w->p += n;
    return at;
}

static uint64_t wire_fixed(struct wire *w, int n) {
    const uint8_t *s = wire_bytes(w, (uint64_t)n);
    uint64_t v = 0;
    for (int i = 0; s && i < n; i++)
        v |= (uint64_t)s[i] << 8 * i;
    return v;
}

/* The next field; false: the end, or damage (w->bad). */
static bool wire_next(struct wire *w, struct field *f) {
    if (w->bad || w->p == w->end)
        return false;
    uint64_t key = wire_varint(w);
    *f = (struct field){.number = key >> 3};
    switch (key & 7) {
    case 0: f->value = wire_varint(w); break;
    case 1: f->value = wire_fixed(w, 8); break;
    case 2:
        f->len = (size_t)wire_varint(w);
        f->data = wire_bytes(w, f->len);
        break;
    case 5: f->value = wire_fixed(w, 4); break;
    default: w->bad = true;
    }
    return !w->bad;
}

static struct wire wire_of(const struct field *f) {
    return (struct wire){.p = f->data,
                         .end = f->data ? f->data + f->len : NULL};
}

/* ---- the model ---- */

enum { SP_NORMAL = 1, SP_UNKNOWN, SP_CONTROL, SP_USER, SP_UNUSED, SP_BYTE };
enum { SP_UNIGRAM = 1, SP_BPE, SP_WORD, SP_CHAR };

static const char type_letters[] = " NUCD-B"; /* unigram.h */

struct piece_info {
    float score;
    uint64_t type;
};

struct sp {
    struct conv c;
    struct piece_info *info; /* (c.n) */
    uint64_t model_type;
    bool byte_fallback, at_end, dummy_prefix, collapse, escape;
    const uint8_t *charsmap;
    size_t charsmap_len;
    int64_t unk;
};

static int check_piece(struct sp *m, size_t id, struct err *err) {
    struct conv_token *t = &m->c.token[id];
    const struct piece_info *p = &m->info[id];
    uint32_t twice = t->s ? vocab_find(&m->c.ids, t->s, t->len) : 0;
    if (!t->s || t->len == 0 || !utf8_ok(t->s, t->len))
        return err_set(err, ERR_INVAL, "piece %zu: no text in UTF-8", id);
    if (p->type == SP_UNUSED)
        return err_set(err, ERR_UNSUPPORTED,
                       "piece %zu is of type UNUSED, which is not supported",
                       id);
    if (p->type < SP_NORMAL || p->type > SP_BYTE || !(p->score > -1e30f) ||
        !(p->score < 1e30f))
        return err_set(err, ERR_INVAL, "piece %zu: bad type or score", id);
    if (p->type == SP_UNKNOWN && m->unk >= 0)
        return err_set(err, ERR_INVAL, "two pieces are the unknown one");
    if (p->type == SP_UNKNOWN)
        m->unk = (int64_t)id;
    if (twice != VOCAB_NONE)
        return err_set(err, ERR_INVAL, "pieces %u and %zu are the same", twice,
                       id);
    vocab_add(&m->c.ids, t->s, t->len, (uint32_t)id);
    if (p->type == SP_NORMAL && t->len > CONVERT_TOKEN_MAX)
        return err_set(err, ERR_INVAL, "piece %zu: %u bytes, at most %d", id,
                       t->len, CONVERT_TOKEN_MAX);
    t->merges = p->type == SP_NORMAL;
    return 0;
}

static int read_piece(struct sp *m, const struct field *f, struct err *err) {
    struct wire w = wire_of(f);
    struct field g;
    size_t id = m->c.n;
    if (id == VOCAB_IDS_MAX)
        return err_set(err, ERR_INVAL, "more than %u pieces", VOCAB_IDS_MAX);
    m->info[id].type = SP_NORMAL;
    while (wire_next(&w, &g)) {
        uint32_t bits = (uint32_t)g.value;
        if (g.number == 1)
            m->c.token[id] = (struct conv_token){(const char *)g.data,
                                                 (uint32_t)g.len, false};
        else if (g.number == 2)
            memcpy(&m->info[id].score, &bits, sizeof bits);
        else if (g.number == 3)
            m->info[id].type = g.value;
    }
    m->c.n++;
    return w.bad ? err_set(err, ERR_CORRUPT, "piece %zu is damaged", id)
                 : check_piece(m, id, err);
}

static int read_trainer(struct sp *m, const struct field *f, struct err *err) {
    struct wire w = wire_of(f);
    struct field g;
    while (wire_next(&w, &g)) {
        if (g.number == 3)
            m->model_type = g.value;
        else if (g.number == 24)
            m->at_end = g.value;
        else if (g.number == 35)
            m->byte_fallback = g.value;
    }
    return w.bad ? err_set(err, ERR_CORRUPT, "trainer_spec is damaged") : 0;
}

static int read_normalizer(struct sp *m, const struct field *f,
                           struct err *err) {
    struct wire w = wire_of(f);
    struct field g;
    while (wire_next(&w, &g)) {
        if (g.number == 2) {
            m->charsmap = g.data;
            m->charsmap_len = g.len;
        } else if (g.number == 3)
            m->dummy_prefix = g.value;
        else if (g.number == 4)
            m->collapse = g.value;
        else if (g.number == 5)
            m->escape = g.value;
    }
    return w.bad ? err_set(err, ERR_CORRUPT, "normalizer_spec is damaged") : 0;
}

static int check_model(const struct sp *m, struct err *err) {
    if (m->c.n == 0 || m->unk < 0)
        return err_set(err, ERR_INVAL, "no pieces, or none for the unknown");
    if (m->model_type == SP_WORD || m->model_type == SP_CHAR)
        return err_set(err, ERR_UNSUPPORTED,
                       "a SentencePiece model of type %s (supported: BPE, "
                       "Unigram)",
                       m->model_type == SP_WORD ? "WORD" : "CHAR");
    if (m->model_type != SP_UNIGRAM && m->model_type != SP_BPE)
        return err_set(err, ERR_INVAL, "trainer_spec: bad model_type");
    return 0;
}

static int read_model(struct sp *m, const char *data, size_t len,
                      struct err *err) {
    struct wire w = {(const uint8_t *)data, (const uint8_t *)data + len, false};
    struct field f;
    while (wire_next(&w, &f)) {
        int rc = f.number == 1   ? read_piece(m, &f, err)
                 : f.number == 2 ? read_trainer(m, &f, err)
                 : f.number == 3 ? read_normalizer(m, &f, err)
                                 : 0;
        if (rc < 0)
            return -1;
    }
    if (w.bad)
        return err_set(err, ERR_CORRUPT,
                       "damaged behind piece %zu: a SentencePiece model is "
                       "wanted",
                       m->c.n);
    return check_model(m, err);
}

/* ---- writing ---- */

static const char *bool_json(bool b) { return b ? "true" : "false"; }

/* What normalizer and decoder both have to know. */
static void write_spaces(const struct sp *m) {
    buf_printf(m->c.out,
               "\"type\":\"SentencePiece\",\"add_dummy_prefix\":%s,"
               "\"remove_extra_whitespaces\":%s",
               bool_json(m->dummy_prefix), bool_json(m->collapse));
}

static void write_normalizer(const struct sp *m) {
    struct buf *out = m->c.out;
    const char *comma = "";
    buf_puts(out, ",\"normalizer\":{");
    write_spaces(m);
    buf_printf(out,
               ",\"escape_whitespaces\":%s,"
               "\"treat_whitespace_as_suffix\":%s",
               bool_json(m->escape), bool_json(m->at_end));
    if (m->charsmap_len) {
        buf_puts(out, ",\"precompiled_charsmap\":\"");
        base64_encode(out, m->charsmap, m->charsmap_len);
        buf_puts(out, "\"");
    }
    buf_puts(out, ",\"user_defined\":[");
    for (size_t i = 0; i < m->c.n; i++) {
        if (m->info[i].type != SP_USER)
            continue;
        buf_puts(out, comma);
        conv_string(out, m->c.token[i].s, m->c.token[i].len);
        comma = ",";
    }
    buf_puts(out, "]}");
}

static void write_decoder(const struct sp *m) {
    buf_puts(m->c.out, ",\"decoder\":{");
    write_spaces(m);
    buf_puts(m->c.out, "}");
}

static void write_unigram(const struct sp *m) {
    struct buf *out = m->c.out;
    buf_printf(out, "\"type\":\"Unigram\",\"unk_id\":%lld,\"vocab\":[",
               (long long)m->unk);
    for (size_t i = 0; i < m->c.n; i++) {
        buf_puts(out, i ? ",[" : "[");
        conv_string(out, m->c.token[i].s, m->c.token[i].len);
        buf_printf(out, ",%.17g]", (double)m->info[i].score);
    }
    buf_puts(out, "],\"piece_types\":\"");
    for (size_t i = 0; i < m->c.n; i++)
        buf_u8(out, (uint8_t)type_letters[m->info[i].type]);
    buf_puts(out, "\"");
}

struct ranked {
    float score;
    uint32_t id;
};

static int by_score(const void *a, const void *b) {
    const struct ranked *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

static void write_bpe(struct sp *m) {
    struct ranked *r = malloc(m->c.n * sizeof *r);
    uint32_t *order = malloc(m->c.n * sizeof *order);
    size_t n = 0;
    CHECK(r && order, "out of memory for %zu pieces", m->c.n);
    for (uint32_t i = 0; i < m->c.n; i++)
        if (m->info[i].type == SP_NORMAL)
            r[n++] = (struct ranked){m->info[i].score, i};
    qsort(r, n, sizeof *r, by_score);
    for (size_t i = 0; i < n; i++)
        order[i] = r[i].id;
    buf_puts(m->c.out, "\"type\":\"BPE\",\"tied_merges\":true,"
                       "\"fuse_unk\":true,\"unk_token\":");
    conv_string(m->c.out, m->c.token[m->unk].s, m->c.token[m->unk].len);
    buf_puts(m->c.out, ",");
    conv_vocab(&m->c);
    buf_puts(m->c.out, ",");
    conv_merges(&m->c, order, n, true);
    free(order);
    free(r);
}

static void add_tokens(struct sp *m) {
    for (size_t i = 0; i < m->c.n; i++) {
        uint64_t type = m->info[i].type;
        struct conv_added a = {.text = m->c.token[i].s,
                               .len = m->c.token[i].len,
                               .id = (int64_t)i,
                               .special = type != SP_USER,
                               .normalized = type == SP_USER,
                               .verbatim = type == SP_USER};
        bool is_word = type == SP_USER && m->model_type == SP_UNIGRAM;
        if (type != SP_NORMAL && type != SP_BYTE && !is_word)
            conv_add(&m->c, a);
    }
    /* what a checkpoint added behind the pieces */
    struct conv_added a;
    for (size_t id = m->c.n; conv_config_added(m->c.config, (int64_t)id, &a);
         id++)
        conv_add(&m->c, a);
}

/* Families whose Python code begins each text with it unless told not to. */
static const char *default_bos(const json_t *config) {
    const char *class =
        json_string_value(json_object_get(config, "tokenizer_class"));
    bool has = class && (strncmp(class, "Llama", 5) == 0 ||
                         strncmp(class, "Gemma", 5) == 0);
    return !has ? NULL : *class == 'G' ? "<bos>" : "<s>";
}

static void write_json(struct sp *m) {
    add_tokens(m);
    conv_begin(&m->c);
    write_normalizer(m);
    buf_puts(m->c.out, ",\"pre_tokenizer\":null");
    conv_post(&m->c, default_bos(m->c.config));
    write_decoder(m);
    buf_printf(m->c.out, ",\"model\":{\"byte_fallback\":%s,",
               bool_json(m->byte_fallback));
    if (m->model_type == SP_UNIGRAM)
        write_unigram(m);
    else
        write_bpe(m);
    buf_puts(m->c.out, "}}");
}

int convert_sentencepiece(const char *data, size_t len, const json_t *config,
                          struct buf *out, struct err *err) {
    struct sp m = {.c = {.put = conv_string, .config = config, .out = out},
                   .model_type = SP_UNIGRAM,
                   .dummy_prefix = true,
                   .collapse = true,
                   .escape = true,
                   .unk = -1};
    /* a piece takes two bytes at least */
    size_t most = len / 2 < VOCAB_IDS_MAX ? len / 2 + 1 : VOCAB_IDS_MAX;
    m.c.token = calloc(most, sizeof *m.c.token);
    m.info = calloc(most, sizeof *m.info);
    CHECK(m.c.token && m.info, "out of memory for pieces");
    int rc = read_model(&m, data, len, err);
    if (rc == 0)
        write_json(&m);
    free(m.info);
    conv_release(&m.c);
    return rc;
}
