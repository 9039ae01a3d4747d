/*
 * load: tokenizer.json. The file is walked once for where its parts lie;
 * vocabulary and merges are then read value by value, what is small becomes a
 * JSON tree. So the order of keys does not matter and a file of 15 MB costs
 * little more than what it says.
 */
#include "core/buf.h"
#include "core/json.h"
#include "core/text/convert.h"
#include "core/text/int.h"
#include "core/text/pull.h"
#include "core/text/tok.h"

#include <stdlib.h>
#include <string.h>

/* The parts of the file, and of its model. */
enum part {
    ADDED,
    NORMALIZER,
    PRE_TOKENIZER,
    POST_PROCESSOR,
    DECODER,
    MODEL, /* above: of the file; below: of its model */
    VOCAB = MODEL,
    MERGES,
    N_PARTS
};
static const char *const part_names[N_PARTS] = {
    "added_tokens", "normalizer", "pre_tokenizer", "post_processor",
    "decoder",      "vocab",      "merges"};

struct file {
    struct pull_str part[N_PARTS];
    size_t items[N_PARTS]; /* of them, as far as they are many */
    json_t *model;         /* its small values */
    const char *start;
};

/* Where a part's fault is in the file. */
static int part_error(const struct file *f, const struct pull *p,
                      const char *what, struct err *err) {
    if (!p->s)
        return err_set(err, ERR_INVAL, "model.%s is missing", what);
    return err_set(err, ERR_INVAL, "%s: %s (byte %zu)", what,
                   p->why ? p->why : "it is damaged",
                   (size_t)(p->s - f->start));
}

/* A small value of the model, into its tree. */
static void keep_small(struct file *f, const char *name, struct pull_str v) {
    json_t *j = json_loadb(v.s, v.len, JSON_DECODE_ANY, NULL);
    if (j)
        json_object_set_new(f->model, name, j);
}

static void keep_part(struct file *f, enum part i, struct pull *p) {
    f->part[i] = pull_skip(p);
    f->items[i] = p->items;
}

static void walk_model(struct file *f, struct pull *p) {
    json_decref(f->model);
    f->model = json_object();
    for (pull_open(p, '{'); pull_more(p, '}');) {
        char name[64] = "";
        struct pull_str key = pull_key(p), v;
        if (key.len < sizeof name)
            memcpy(name, key.s, key.len);
        if (strcmp(name, part_names[VOCAB]) == 0)
            keep_part(f, VOCAB, p);
        else if (strcmp(name, part_names[MERGES]) == 0)
            keep_part(f, MERGES, p);
        else if ((v = pull_skip(p)).len && *name)
            keep_small(f, name, v);
    }
}

static void walk_file(struct file *f, struct pull *p) {
    for (pull_open(p, '{'); pull_more(p, '}');) {
        struct pull_str key = pull_key(p);
        int i = 0;
        while (i < MODEL && !pull_is(key, part_names[i]))
            i++;
        if (i < MODEL)
            f->part[i] = pull_skip(p);
        else if (pull_is(key, "model") && pull_peek(p) == '{')
            walk_model(f, p);
        else
            pull_skip(p);
    }
}

/* A part as a tree; NULL and no error when it is absent or null. */
static json_t *part_tree(const struct file *f, enum part i, struct err *err) {
    struct pull_str v = f->part[i];
    if (v.len == 0 || pull_is(v, "null"))
        return NULL;
    return json_read(v.s, v.len, part_names[i], err);
}

/* ---- the vocabulary ---- */

/* Strings of the file that wait, to be looked up together. */
#define WORDS_MAX 128
struct words {
    struct vocab_key key[WORDS_MAX]; /* s: known once they are ready */
    size_t at[WORDS_MAX];            /* in the text */
    size_t n;
    struct buf text;
};

static void words_init(struct words *w) {
    w->n = 0;
    buf_init(&w->text, CONVERT_MAX);
}

static void words_put(struct words *w, struct pull_str s, uint32_t id) {
    w->key[w->n] = (struct vocab_key){NULL, s.len, id, 0};
    w->at[w->n++] = w->text.len;
    buf_bytes(&w->text, s.s, s.len);
}

static void words_ready(struct words *w) {
    const char *text = buf_str(&w->text);
    CHECK(!w->text.failed, "out of memory for a vocabulary");
    for (size_t i = 0; i < w->n; i++)
        w->key[i].s = text + w->at[i];
}

static void words_clear(struct words *w) {
    w->n = 0;
    buf_clear(&w->text);
}

static void words_add(struct words *w, struct vocab *v) {
    words_ready(w);
    vocab_add_all(v, w->key, w->n);
    words_clear(w);
}

static int load_vocab(struct tok *t, const struct file *f, struct err *err) {
    struct pull p;
    struct words w;
    words_init(&w);
    pull_init(&p, f->part[VOCAB].s, f->part[VOCAB].len);
    vocab_reserve(&t->vocab, f->items[VOCAB], f->part[VOCAB].len);
    for (pull_open(&p, '{'); pull_more(&p, '}');) {
        struct pull_str key = pull_key(&p);
        uint32_t id = pull_id(&p); /* no string: the key is still there */
        if (p.bad)
            break;
        if (id >= VOCAB_IDS_MAX) {
            p.bad = true;
            p.why = "an id above 1048575";
            break;
        }
        words_put(&w, key, id);
        if (w.n == WORDS_MAX)
            words_add(&w, &t->vocab);
    }
    words_add(&w, &t->vocab);
    int rc = p.bad ? part_error(f, &p, "vocab", err) : 0;
    buf_release(&w.text);
    pull_release(&p);
    return rc;
}

/* ---- BPE ---- */

struct merger {
    struct tok *t;
    const struct bpe_conf *c;
    struct words words; /* of merges: left, right, left, … */
    struct buf both;
    uint32_t rank, last; /* of the merge before: the id that it made */
    uint32_t n;          /* merges so far */
    bool tied;           /* see convert.h */
    const char *why;
};

/* What a merge makes: the right part loses the prefix of continued words. */
static struct pull_str both_of(struct merger *m, const struct vocab_key *left,
                               const struct vocab_key *right) {
    size_t cut = strlen(m->c->prefix), n = left->len + right->len;
    if (cut == 0 || right->len < cut)
        return (struct pull_str){left->s, n}; /* they lie side by side */
    buf_clear(&m->both);
    buf_bytes(&m->both, left->s, left->len);
    buf_bytes(&m->both, right->s + cut, right->len - cut);
    CHECK(!m->both.failed, "out of memory for merges");
    return (struct pull_str){buf_str(&m->both), n - cut};
}

/* The id of what a merge makes, which is mostly that of the merge before, or
 * the next one: those lie side by side, a look-up elsewhere. */
static uint32_t merged_id(const struct merger *m, struct pull_str both) {
    const struct vocab *v = &m->t->vocab;
    for (uint32_t id = m->last; id <= m->last + 1; id++) {
        size_t n;
        const char *s = vocab_text(v, id, &n);
        if (s && n == both.len && memcmp(s, both.s, n) == 0)
            return id;
    }
    return vocab_find(v, both.s, both.len);
}

/* The merges that wait; false: m->why says what merge m->n lacks. */
static bool merger_flush(struct merger *m) {
    struct bpe_merge merge[WORDS_MAX / 2];
    struct words *w = &m->words;
    size_t n = 0;
    words_ready(w);
    vocab_find_all(&m->t->vocab, w->key, w->n);
    for (const struct vocab_key *k = w->key; k < w->key + w->n; k += 2) {
        uint32_t before = m->last, id = merged_id(m, both_of(m, k, k + 1));
        if (k->id == VOCAB_NONE || k[1].id == VOCAB_NONE || id == VOCAB_NONE) {
            m->why = "a part or the whole of it is not in the vocabulary";
            return false;
        }
        m->last = id;
        m->rank += m->n > 0 && !(m->tied && id == before);
        if (m->rank == RANK_NONE) {
            m->why = "there are too many";
            return false;
        }
        m->n++;
        merge[n++] = (struct bpe_merge){k->id, k[1].id, m->rank, id};
    }
    bpe_merges(m->t->bpe, merge, n);
    words_clear(w);
    return true;
}

/* "a b", the older layout. */
static bool merge_line(struct words *w, struct pull_str v) {
    const char *space = memchr(v.s, ' ', v.len);
    if (v.len >= 8 && memcmp(v.s, "#version", 8) == 0)
        return true;
    if (!space || memchr(space + 1, ' ', v.len - (size_t)(space + 1 - v.s)))
        return false;
    struct pull_str left = {v.s, (size_t)(space - v.s)};
    words_put(w, left, 0);
    words_put(w, (struct pull_str){space + 1, v.len - left.len - 1}, 0);
    return true;
}

/* ["a", "b"] */
static bool merge_pair(struct words *w, struct pull *p) {
    size_t first = w->n, n = 0;
    for (pull_open(p, '['); pull_more(p, ']'); n++) {
        struct pull_str v = pull_string(p);
        if (n < 2)
            words_put(w, v, 0);
    }
    if (!p->bad && n == 2)
        return true;
    w->n = first;
    return false;
}

static int load_merges(struct tok *t, const struct bpe_conf *c,
                       const struct file *f, struct err *err) {
    struct pull p;
    struct merger m = {.t = t, .c = c};
    words_init(&m.words);
    buf_init(&m.both, CONVERT_MAX);
    int rc = json_get_bool(f->model, "tied_merges", &m.tied, false, err);
    pull_init(&p, f->part[MERGES].s, f->part[MERGES].len);
    for (pull_open(&p, '['); rc == 0 && pull_more(&p, ']');) {
        bool ok = pull_peek(&p) == '[' ? merge_pair(&m.words, &p)
                                       : merge_line(&m.words, pull_string(&p));
        if (ok && m.words.n < WORDS_MAX)
            continue;
        m.why = "not two parts";
        ok = merger_flush(&m) && ok;
        if (!ok && !p.bad)
            rc = err_set(err, ERR_INVAL, "merges[%u]: %s", m.n, m.why);
    }
    if (rc == 0 && !merger_flush(&m))
        rc = err_set(err, ERR_INVAL, "merges[%u]: %s", m.n, m.why);
    if (rc == 0 && p.bad)
        rc = part_error(f, &p, "merges", err);
    buf_release(&m.words.text);
    buf_release(&m.both);
    pull_release(&p);
    return rc;
}

static int load_affix(char out[BPE_AFFIX_MAX], const json_t *j, const char *key,
                      struct err *err) {
    const char *v;
    if (json_get_str(j, key, &v, "", err) < 0)
        return -1;
    if (strlen(v) >= BPE_AFFIX_MAX)
        return err_set(err, ERR_UNSUPPORTED, "%s of %zu bytes", key, strlen(v));
    memcpy(out, v, strlen(v) + 1);
    return 0;
}

static int load_bpe(struct tok *t, const struct file *f, struct err *err) {
    struct bpe_conf c = {.vocab = &t->vocab, .bytes = split_is_bytes(t->split)};
    const json_t *j = f->model;
    const char *unk;
    double dropout;
    if (json_get_bool(j, "ignore_merges", &c.ignore_merges, false, err) < 0 ||
        json_get_bool(j, "byte_fallback", &c.byte_fallback, false, err) < 0 ||
        json_get_bool(j, "fuse_unk", &c.fuse_unk, false, err) < 0 ||
        json_get_str(j, "unk_token", &unk, "", err) < 0 ||
        json_get_num(j, "dropout", &dropout, 0, err) < 0 ||
        load_affix(c.prefix, j, "continuing_subword_prefix", err) < 0 ||
        load_affix(c.suffix, j, "end_of_word_suffix", err) < 0)
        return -1;
    if (dropout != 0)
        return err_set(err, ERR_UNSUPPORTED,
                       "dropout %g: merges by chance are not supported",
                       dropout);
    if (load_vocab(t, f, err) < 0)
        return -1;
    c.unk = vocab_find(&t->vocab, unk, strlen(unk));
    if (!*unk)
        c.unk = VOCAB_NONE;
    c.merges = f->items[MERGES];
    t->bpe = bpe_new(&c);
    if (load_merges(t, &c, f, err) < 0)
        return -1;
    bpe_seal(t->bpe);
    return 0;
}

/* ---- other models ---- */

/* The scores of [["token", score], …], whose ids are their places; free(). */
static double *load_scores(struct tok *t, const struct file *f,
                           struct err *err) {
    struct pull p;
    double *score = NULL;
    uint32_t n = 0;
    pull_init(&p, f->part[VOCAB].s, f->part[VOCAB].len);
    for (pull_open(&p, '['); pull_more(&p, ']'); n++) {
        if (n % 4096 == 0) {
            score = realloc(score, (n + 4096) * sizeof *score);
            CHECK(score, "out of memory for a vocabulary");
        }
        pull_open(&p, '[');
        if (!pull_more(&p, ']') || n >= VOCAB_IDS_MAX)
            break;
        struct pull_str s = pull_string(&p);
        if (!p.bad)
            vocab_add(&t->vocab, s.s, s.len, n);
        bool is_pair = pull_more(&p, ']');
        score[n] = is_pair ? pull_number(&p) : 0;
        if (!is_pair || pull_more(&p, ']'))
            break;
    }
    if (pull_peek(&p) || n == 0 || p.bad) {
        p.why = p.why ? p.why : "pairs of token and score are wanted";
        part_error(f, &p, "vocab", err);
        free(score);
        score = NULL;
    }
    pull_release(&p);
    return score;
}

static int load_unigram(struct tok *t, const struct file *f, struct err *err) {
    struct unigram_conf c = {.vocab = &t->vocab};
    if (json_get_int(f->model, "unk_id", &c.unk, -1, err) < 0 ||
        json_get_bool(f->model, "byte_fallback", &c.byte_fallback, false, err) <
            0 ||
        json_get_str(f->model, "piece_types", &c.types, NULL, err) < 0)
        return -1;
    double *score = load_scores(t, f, err);
    uint32_t n = vocab_size(&t->vocab);
    if (!score)
        return -1;
    c.score = score;
    if (c.unk >= (int64_t)n)
        err_set(err, ERR_INVAL, "unk_id %lld: the vocabulary has %u",
                (long long)c.unk, n);
    else if (c.types && strlen(c.types) != n)
        err_set(err, ERR_INVAL, "%zu piece_types for %u pieces",
                strlen(c.types), n);
    else
        t->unigram = unigram_new(&c, err);
    free(score);
    return t->unigram ? 0 : -1;
}

static int load_words(struct tok *t, const struct file *f, bool whole,
                      struct err *err) {
    struct wordpiece_conf c = {.vocab = &t->vocab};
    if (json_get_str(f->model, "unk_token", &c.unk, "[UNK]", err) < 0 ||
        json_get_str(f->model, "continuing_subword_prefix", &c.prefix, "##",
                     err) < 0 ||
        json_get_int(f->model, "max_input_chars_per_word", &c.chars_max, 100,
                     err) < 0 ||
        load_vocab(t, f, err) < 0)
        return -1;
    if (whole)
        c.prefix = NULL;
    t->wordpiece = wordpiece_new(&c, err);
    return t->wordpiece ? 0 : -1;
}

static int load_wordpiece(struct tok *t, const struct file *f,
                          struct err *err) {
    return load_words(t, f, false, err);
}

static int load_wordlevel(struct tok *t, const struct file *f,
                          struct err *err) {
    return load_words(t, f, true, err);
}

/* ---- models ---- */

static const struct {
    const char *type;
    int (*load)(struct tok *t, const struct file *f, struct err *err);
} models[] = {{"BPE", load_bpe},
              {"Unigram", load_unigram},
              {"WordPiece", load_wordpiece},
              {"WordLevel", load_wordlevel}};
#define N_MODELS (sizeof models / sizeof *models)

static int load_model(struct tok *t, struct file *f, struct err *err) {
    const char *type;
    if (!f->model)
        return err_set(err, ERR_INVAL, "no model in it");
    if (json_get_str(f->model, "type", &type, "BPE", err) < 0)
        return -1;
    for (size_t i = 0; i < N_MODELS; i++) {
        if (strcmp(models[i].type, type) != 0)
            continue;
        if (i > 0 && split_is_bytes(t->split))
            return err_set(err, ERR_UNSUPPORTED,
                           "ByteLevel before model '%s' is not supported",
                           type);
        return models[i].load(t, f, err);
    }
    return err_set(err, ERR_UNSUPPORTED, "model '%.40s' is not supported",
                   type);
}

/* ---- added tokens ---- */

static int load_token(struct tok *t, const json_t *e, struct err *err) {
    struct added_token a = {0};
    const char *content;
    if (json_get_str(e, "content", &content, NULL, err) < 0 ||
        json_get_bool(e, "special", &a.special, false, err) < 0 ||
        json_get_bool(e, "lstrip", &a.lstrip, false, err) < 0 ||
        json_get_bool(e, "rstrip", &a.rstrip, false, err) < 0 ||
        json_get_bool(e, "single_word", &a.single_word, false, err) < 0 ||
        json_get_bool(e, "normalized", &a.normalized, !a.special, err) < 0 ||
        json_get_bool(e, "verbatim", &a.verbatim, false, err) < 0)
        return -1;
    if (!content)
        return err_set(err, ERR_INVAL, "no content");
    a.text = (char *)content;
    a.len = strlen(content);
    if (a.len > ADDED_MAX)
        return err_set(err, ERR_INVAL, "%zu bytes, at most %d are taken", a.len,
                       ADDED_MAX);
    if (added_put(&t->added, &a, &t->vocab) < 0)
        return err_set(err, ERR_INVAL, "no id is left for it");
    return 0;
}

static int load_added(struct tok *t, const struct file *f, struct err *err) {
    struct err why = {0};
    size_t i;
    json_t *e, *all = part_tree(f, ADDED, &why);
    int rc = why.code ? err_set(err, why.code, "%s", why.msg) : 0;
    t->added.last = -1;
    json_array_foreach(all, i, e) {
        if (rc == 0 && (rc = load_token(t, e, err)) < 0)
            err_ctx(err, "added_tokens[%zu]", i);
    }
    json_decref(all);
    added_ready(&t->added, t->norm);
    return rc;
}

static void load_special(struct tok *t) {
    uint32_t most = vocab_size(&t->vocab);
    if (t->added.last >= (int64_t)most)
        most = (uint32_t)t->added.last + 1;
    t->size = (int32_t)most;
    t->special = calloc(most + 1, 1);
    CHECK(t->special, "out of memory for tokens");
    for (size_t i = 0; i < t->added.n; i++) {
        const struct added_token *a = &t->added.token[i];
        if (!a->special)
            continue;
        t->special[a->id] = 1;
        t->special_is_word =
            t->special_is_word || a->id < vocab_size(&t->vocab);
    }
}

/* ---- post-processors ---- */

/* Outside of what is there already. */
static int around_put(struct tok *t, bool behind, int64_t id, struct err *err) {
    uint32_t *list = behind ? t->after : t->before;
    int *n = behind ? &t->after_n : &t->before_n;
    if (id < 0 || id >= VOCAB_IDS_MAX)
        return err_set(err, ERR_INVAL, "post_processor: no id");
    if (*n == TOK_AROUND_MAX)
        return err_set(err, ERR_UNSUPPORTED,
                       "post_processor: more than %d tokens", TOK_AROUND_MAX);
    list[(*n)++] = (uint32_t)id;
    return 0;
}

/* A special token of a template stands for a list of ids. */
static int template_special(struct tok *t, const json_t *j, const json_t *s,
                            bool behind, struct err *err) {
    const char *name = json_string_value(json_object_get(s, "id"));
    const json_t *ids = json_object_get(
        json_object_get(json_object_get(j, "special_tokens"), name), "ids");
    size_t i;
    json_t *e;
    if (!name || !json_is_array(ids))
        return err_set(err, ERR_INVAL, "post_processor: '%.40s' is no token",
                       name ? name : "");
    json_array_foreach((json_t *)ids, i, e) {
        int64_t id = json_is_integer(e) ? json_integer_value(e) : -1;
        if (around_put(t, behind, id, err) < 0)
            return -1;
    }
    return 0;
}

static void turn(uint32_t *list, int n) {
    for (int i = 0; i < n / 2; i++) {
        uint32_t id = list[i];
        list[i] = list[n - 1 - i];
        list[n - 1 - i] = id;
    }
}

static int post_template(struct tok *t, const json_t *j, struct err *err) {
    size_t i;
    json_t *e;
    int texts = 0, had = t->before_n;
    json_array_foreach(json_object_get(j, "single"), i, e) {
        const json_t *s = json_object_get(e, "SpecialToken");
        if (s && template_special(t, j, s, texts > 0, err) < 0)
            return -1;
        texts += s == NULL;
    }
    if (texts != 1)
        return err_set(err, ERR_UNSUPPORTED,
                       "post_processor: a template with %d texts", texts);
    /* before[] grows outwards: the last one is the outermost. */
    turn(t->before + had, t->before_n - had);
    return 0;
}

/* ByteLevel, of which nothing else matters here. */
static int post_trim(struct tok *t, const json_t *j, struct err *err) {
    bool on;
    struct tok_trim trim = {.before_n = t->joined_n};
    if (json_get_bool(j, "trim_offsets", &on, true, err) < 0 ||
        json_get_bool(j, "add_prefix_space", &trim.has_prefix, true, err) < 0)
        return -1;
    if (on && t->trims == TOK_TRIMS_MAX)
        return err_set(err, ERR_UNSUPPORTED,
                       "post_processor: offsets trimmed more than %d times",
                       TOK_TRIMS_MAX);
    if (on)
        t->trim[t->trims++] = trim;
    return 0;
}

static int post_pair(struct tok *t, const json_t *j, struct err *err) {
    static const char *const keys[] = {"cls", "sep"};
    for (int i = 0; i < 2; i++) {
        const json_t *id = json_array_get(json_object_get(j, keys[i]), 1);
        if (around_put(t, i, json_is_integer(id) ? json_integer_value(id) : -1,
                       err) < 0)
            return -1;
    }
    t->joined_n = t->before_n;
    return 0;
}

static int post_roberta(struct tok *t, const json_t *j, struct err *err) {
    return post_trim(t, j, err) < 0 ? -1 : post_pair(t, j, err);
}

static const struct {
    const char *type;
    int (*load)(struct tok *t, const json_t *j, struct err *err);
} posts[] = {{"TemplateProcessing", post_template},
             {"ByteLevel", post_trim},
             {"BertProcessing", post_pair},
             {"RobertaProcessing", post_roberta}};
#define N_POSTS (sizeof posts / sizeof *posts)

static int load_post(struct tok *t, const json_t *j, struct err *err) {
    const char *type = json_string_value(json_object_get(j, "type"));
    size_t i;
    json_t *e;
    if (!j || json_is_null(j))
        return 0;
    if (type && strcmp(type, "Sequence") == 0) {
        json_array_foreach(json_object_get(j, "processors"), i, e) {
            if (load_post(t, e, err) < 0)
                return -1;
        }
        return 0;
    }
    for (i = 0; i < N_POSTS; i++)
        if (type && strcmp(posts[i].type, type) == 0)
            return posts[i].load(t, j, err);
    return err_set(err, ERR_UNSUPPORTED,
                   "post_processor '%.40s' is not supported",
                   type ? type : "none");
}

/* ---- the file ---- */

static int load_chain(struct tok *t, const struct file *f, struct err *err) {
    struct err bad = {0};
    json_t *norm = part_tree(f, NORMALIZER, &bad);
    json_t *pre = part_tree(f, PRE_TOKENIZER, &bad);
    json_t *dec = part_tree(f, DECODER, &bad);
    if (bad.code)
        err_set(err, bad.code, "%s", bad.msg);
    else if ((t->norm = norm_new(norm, err)))
        if ((t->split = split_new(pre, err)))
            t->decoder = decoder_new(dec, err);
    json_decref(norm);
    json_decref(pre);
    json_decref(dec);
    return t->decoder ? 0 : -1;
}

static int load_around(struct tok *t, const struct file *f, struct err *err) {
    struct err bad = {0};
    json_t *post = part_tree(f, POST_PROCESSOR, &bad);
    int rc = bad.code ? err_set(err, bad.code, "%s", bad.msg)
                      : load_post(t, post, err);
    turn(t->before, t->before_n);
    json_decref(post);
    return rc;
}

int tok_load(struct tok *t, const char *text, size_t len, struct err *err) {
    struct file f = {.start = text};
    struct pull p;
    if (!utf8_ok(text, len))
        return err_set(err, ERR_INVAL, "it is not UTF-8");
    pull_init(&p, text, len);
    walk_file(&f, &p);
    if (pull_peek(&p)) {
        p.why = p.bad ? p.why : "more behind the end";
        p.bad = true;
    }
    int rc = p.bad ? part_error(&f, &p, "not JSON", err) : 0;
    pull_release(&p);
    if (rc == 0 && (load_chain(t, &f, err) < 0 || load_model(t, &f, err) < 0 ||
                    load_added(t, &f, err) < 0))
        rc = -1;
    json_decref(f.model);
    if (rc < 0)
        return -1;
    load_special(t);
    return load_around(t, &f, err);
}
