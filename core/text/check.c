/*
 * check: what is wrong with training data, before it is trained on. Every row
 * is read as training reads it; what has been seen before is known by hashes.
 * A finding is a kind and a line; kinds that training would stop at, or get
 * nothing from, are fatal.
 */
#include "core/text/int.h"

#include "core/buf.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define KINDS(X) \
    X(REFUSED, "refused", true, "training would stop here") \
    X(UNTRAINED, "untrained", true, "no token of it is trained") \
    X(CUT_AWAY, "cut_away", true, "all its trained tokens are cut off") \
    X(CUT, "cut", false, "longer than max_length: its end is cut off") \
    X(DUPLICATE, "duplicate", false, "the same as an earlier row") \
    X(NEAR, "near_duplicate", false, \
      "the same but for case, spaces and punctuation") \
    X(OVERLAP, "overlap", false, "also among the held-out rows") \
    X(EMPTY, "empty_message", false, "a message without text") \
    X(ROLES, "roles", false, "user and assistant do not take turns") \
    X(UNANSWERED, "unanswered", false, "its last message is no answer") \
    X(CONTROL, "control_text", false, \
      "control tokens written in a message; they stay text") \
    X(FORMAT, "format", false, "of another format than the rows before")
enum kind {
#define KIND_ENUM(id, name, fatal, help) KIND_##id,
    KINDS(KIND_ENUM)
#undef KIND_ENUM
        KIND_N
};
static const struct {
    const char *name;
    bool is_fatal;
    const char *help;
} kinds[KIND_N] = {
#define KIND_ROW(id, name, fatal, help) [KIND_##id] = {name, fatal, help},
    KINDS(KIND_ROW)
#undef KIND_ROW
};

/* Hashes seen, each with its line; open addressing. */
struct seen {
    uint64_t *hash, *line; /* hash 0 = free */
    size_t n, cap;
};

#define HISTOGRAM 32 /* lengths by powers of two */

struct lengths {
    uint32_t *v;
    size_t n, cap;
};

struct check {
    const struct check_conf *c;
    json_t *found[KIND_N]; /* [{"line","what"}], at most list_most */
    size_t count[KIND_N];
    struct seen exact, near, eval, eval_near;
    size_t rows, fatal, formats[ROW_FORMATS_N], first_format;
    size_t total, trained, cut_tokens, histogram[HISTOGRAM];
    struct lengths all, kept; /* of examples; of those trained on, as cut */
};

/* ---- what was seen ---- */

static size_t seen_at(const struct seen *s, uint64_t hash) {
    size_t i = hash & (s->cap - 1);
    while (s->hash[i] && s->hash[i] != hash)
        i = (i + 1) & (s->cap - 1);
    return i;
}

static void seen_grow(struct seen *s) {
    struct seen old = *s;
    s->cap = old.cap ? 2 * old.cap : 1024;
    s->hash = calloc(s->cap, sizeof *s->hash);
    s->line = calloc(s->cap, sizeof *s->line);
    CHECK(s->hash && s->line, "out of memory for %zu rows", s->cap);
    for (size_t i = 0; i < old.cap; i++)
        if (old.hash[i]) {
            size_t at = seen_at(s, old.hash[i]);
            s->hash[at] = old.hash[i];
            s->line[at] = old.line[i];
        }
    free(old.hash);
    free(old.line);
}

/* The line of an earlier one, or 0, and from now on this is one. */
static size_t seen_add(struct seen *s, uint64_t hash, size_t line) {
    hash += hash == 0;
    if (2 * (s->n + 1) > s->cap)
        seen_grow(s);
    size_t at = seen_at(s, hash);
    if (s->hash[at])
        return s->line[at];
    s->hash[at] = hash;
    s->line[at] = line;
    s->n++;
    return 0;
}

static size_t seen_find(const struct seen *s, uint64_t hash) {
    hash += hash == 0;
    return s->cap ? s->line[seen_at(s, hash)] : 0;
}

static void seen_release(struct seen *s) {
    free(s->hash);
    free(s->line);
}

/* ---- what a row says, as bytes ---- */

static void say_value(struct buf *b, const json_t *v) {
    char *text = json_dumps(v, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
    CHECK(text, "out of memory for a row");
    buf_puts(b, text);
    free(text);
}

/* Letters and digits of ASCII in lower case, all other bytes from 128 up. */
static uint64_t near_hash(const struct buf *b) {
    XXH3_state_t *s = XXH3_createState();
    CHECK(s, "out of memory for a row");
    XXH3_64bits_reset(s);
    for (size_t i = 0; i < b->len; i++) {
        unsigned char c = b->data[i];
        bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (is_letter || (c >= '0' && c <= '9') || c >= 128) {
            c = is_letter ? (unsigned char)(c | 32) : c;
            XXH3_64bits_update(s, &c, 1);
        }
    }
    uint64_t hash = XXH3_64bits_digest(s);
    XXH3_freeState(s);
    return hash;
}

/* Of the content alone: other keys of a row, ids for instance, do not make it
 * another one. */
static void row_hashes(const json_t *row, const json_t *chat, uint64_t *exact,
                       uint64_t *near) {
    struct buf b;
    buf_init(&b, 4u * ROW_LINE_MAX);
    if (chat)
        say_value(&b, chat);
    else if (json_object_get(row, "tokens"))
        say_value(&b, json_object_get(row, "tokens"));
    else
        say_value(&b, json_object_get(row, "text"));
    *exact = XXH3_64bits(b.data, b.len);
    *near = near_hash(&b);
    buf_release(&b);
}

/* ---- findings ---- */

static void find(struct check *k, enum kind kind, size_t line,
                 const char *what) {
    k->count[kind]++;
    if (json_array_size(k->found[kind]) < k->c->list_most)
        json_array_append_new(k->found[kind],
                              json_pack("{s:I, s:s}", "line", (json_int_t)line,
                                        "what", what ? what : ""));
}

static void find_line(struct check *k, enum kind kind, size_t line,
                      const char *as, size_t other) {
    char what[64];
    snprintf(what, sizeof what, "%s %zu", as, other);
    find(k, kind, line, what);
}

static void check_seen(struct check *k, const json_t *row, const json_t *chat,
                       size_t line) {
    uint64_t exact, near;
    row_hashes(row, chat, &exact, &near);
    size_t same = seen_add(&k->exact, exact, line);
    size_t like = seen_add(&k->near, near, line);
    size_t held = seen_find(&k->eval, exact);
    size_t held_like = seen_find(&k->eval_near, near);
    if (same)
        find_line(k, KIND_DUPLICATE, line, "line", same);
    else if (like)
        find_line(k, KIND_NEAR, line, "line", like);
    if (held || held_like)
        find_line(k, KIND_OVERLAP, line, "line", held ? held : held_like);
}

/* The text of a message, its parts one after the other; "" for none. */
static void message_text(const json_t *message, struct buf *b) {
    const json_t *content = json_object_get(message, "content"), *part;
    size_t i;
    if (json_is_string(content))
        buf_bytes(b, json_string_value(content), json_string_length(content));
    json_array_foreach(content, i, part) {
        const char *text = json_string_value(json_object_get(part, "text"));
        buf_puts(b, text ? text : "");
    }
}

static bool has_control(const struct tok *t, const struct buf *b) {
    struct tok_ids ids = {0};
    bool has = false;
    if (!memchr(b->data ? (const char *)b->data : "", '<', b->len) &&
        !memchr(b->data ? (const char *)b->data : "", '[', b->len))
        return false;
    tok_encode(t, (const char *)b->data, b->len, TOK_CONTROL, &ids);
    for (size_t i = 0; i < ids.n && !has; i++)
        has = tok_is_special(t, ids.id[i]);
    free(ids.id);
    return has;
}

static void check_message(struct check *k, const json_t *message, size_t i,
                          size_t line) {
    const json_t *calls = json_object_get(message, "tool_calls");
    const char *role = json_string_value(json_object_get(message, "role"));
    struct buf b;
    char what[80];
    buf_init(&b, ROW_LINE_MAX);
    message_text(message, &b);
    snprintf(what, sizeof what, "messages[%zu], %.40s", i, role ? role : "?");
    if (b.len == 0 && json_array_size(calls) == 0)
        find(k, KIND_EMPTY, line, what);
    if (has_control(k->c->row.tok, &b))
        find(k, KIND_CONTROL, line, what);
    buf_release(&b);
}

static void check_chat(struct check *k, const json_t *chat, size_t line,
                       bool is_asked) {
    const json_t *messages = json_object_get(chat, "messages"), *m;
    const char *last = "", *before = "";
    bool turns = true;
    size_t i;
    json_array_foreach(messages, i, m) {
        const char *role = json_string_value(json_object_get(m, "role"));
        check_message(k, m, i, line);
        before = last;
        last = role ? role : "";
        bool is_turn =
            strcmp(last, "user") == 0 || strcmp(last, "assistant") == 0;
        turns = turns && !(is_turn && strcmp(last, before) == 0);
    }
    if (!turns)
        find(k, KIND_ROLES, line, "");
    if (!is_asked && strcmp(last, "assistant") != 0)
        find(k, KIND_UNANSWERED, line, last);
}

/* ---- lengths ---- */

static void lengths_push(struct lengths *l, size_t n) {
    if (l->n == l->cap) {
        l->cap = l->cap ? 2 * l->cap : 1024;
        l->v = realloc(l->v, l->cap * sizeof *l->v);
        CHECK(l->v, "out of memory for %zu rows", l->cap);
    }
    l->v[l->n++] = (uint32_t)n;
}

static void check_example(struct check *k, const struct example *e,
                          size_t line) {
    size_t most = k->c->row.max_length, n = e->tokens.n;
    int bin = 0;
    while (n >> (bin + 1))
        bin++;
    k->histogram[bin]++;
    lengths_push(&k->all, n);
    k->total += n;
    k->trained += example_trained(e, most);
    if (most && n > most) {
        k->cut_tokens += n - most;
        find_line(k, KIND_CUT, line, "tokens:", n);
    }
}

static void check_examples(struct check *k, struct examples *x, size_t line) {
    size_t most = k->c->row.max_length;
    for (size_t i = 0; i < x->n; i++)
        check_example(k, &x->e[i], line);
    enum row_fault fault = examples_judge(x, most);
    for (size_t i = 0; i < x->n; i++) {
        example_cut(&x->e[i], most);
        lengths_push(&k->kept, x->e[i].tokens.n);
    }
    if (fault == ROW_TRAINS)
        return;
    find(k, fault == ROW_CUT_AWAY ? KIND_CUT_AWAY : KIND_UNTRAINED, line, "");
    k->fatal++;
}

/* ---- rows ---- */

static void check_format(struct check *k, enum row_format f, size_t line) {
    if (k->rows == 1)
        k->first_format = f;
    else if (f != k->first_format)
        find(k, KIND_FORMAT, line, row_format_name(f));
    k->formats[f]++;
}

static int check_row(void *arg, size_t line, const json_t *row,
                     const struct err *bad, struct err *err) {
    struct check *k = arg;
    const struct row_conf *c = &k->c->row;
    struct err why = *bad;
    struct examples x = {0};
    json_t *chat = NULL;
    (void)err;
    k->rows++;
    int f = !row ? -1 : c->format >= 0 ? c->format : row_format(row, &why);
    bool is_asked = f == ROW_ANSWER || f == ROW_GROUND_TRUTH;
    int rc = f < 0 ? -1 : 0;
    if (rc == 0 && f != ROW_TOKENS && f != ROW_TEXT)
        rc = (chat = row_chat(row, (enum row_format)f, &why)) ? 0 : -1;
    if (rc == 0 && !is_asked)
        rc = row_examples(c, row, &x, &why);
    if (rc < 0) {
        find(k, KIND_REFUSED, line, why.msg);
        k->fatal++;
    } else {
        check_format(k, (enum row_format)f, line);
        check_seen(k, row, chat, line);
        if (chat)
            check_chat(k, chat, line, is_asked);
        if (!is_asked)
            check_examples(k, &x, line);
    }
    examples_release(&x);
    json_decref(chat);
    return 0;
}

/* Only what it says: its own faults are found when it is checked itself. */
static int eval_row(void *arg, size_t line, const json_t *row,
                    const struct err *bad, struct err *err) {
    struct check *k = arg;
    struct err no = {0};
    uint64_t exact, near;
    (void)bad;
    (void)err;
    int f = row ? row_format(row, &no) : -1;
    json_t *chat = f >= 0 && f != ROW_TOKENS && f != ROW_TEXT
                       ? row_chat(row, (enum row_format)f, &no)
                       : NULL;
    if (f >= 0 && (chat || f == ROW_TOKENS || f == ROW_TEXT)) {
        row_hashes(row, chat, &exact, &near);
        seen_add(&k->eval, exact, line);
        seen_add(&k->eval_near, near, line);
    }
    json_decref(chat);
    return 0;
}

/* ---- the report ---- */

static int by_length(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static json_int_t quantile(const struct check *k, double q) {
    if (k->all.n == 0)
        return 0;
    return k->all.v[(size_t)(q * (double)(k->all.n - 1) + 0.5)];
}

static json_t *report_tokens(struct check *k) {
    if (k->all.n)
        qsort(k->all.v, k->all.n, sizeof *k->all.v, by_length);
    return json_pack("{s:I, s:I, s:I, s:f, s:I, s:I, s:I, s:I, s:I}",
                     "examples", (json_int_t)k->all.n, "total",
                     (json_int_t)k->total, "trained", (json_int_t)k->trained,
                     "mean", k->all.n ? (double)k->total / (double)k->all.n : 0,
                     "min", quantile(k, 0), "p50", quantile(k, 0.5), "p90",
                     quantile(k, 0.9), "p99", quantile(k, 0.99), "max",
                     quantile(k, 1));
}

/* What packing=best_fit would make of them; null without a max_length. */
static json_t *report_packing(const struct check *k) {
    size_t most = k->c->row.max_length;
    double tokens = 0;
    if (!most || !k->kept.n)
        return json_null();
    uint32_t *bin = malloc(k->kept.n * sizeof *bin);
    CHECK(bin, "out of memory for %zu rows", k->kept.n);
    uint32_t bins =
        bins_best_fit(k->kept.v, (uint32_t)k->kept.n, (uint32_t)most, bin);
    free(bin);
    for (size_t i = 0; i < k->kept.n; i++)
        tokens += k->kept.v[i];
    return json_pack("{s:I, s:I, s:I, s:f}", "rows", (json_int_t)k->kept.n,
                     "bins", (json_int_t)bins, "max_length", (json_int_t)most,
                     "fill", tokens / ((double)bins * (double)most));
}

static json_t *report_findings(struct check *k) {
    json_t *all = json_array();
    for (int i = 0; i < KIND_N; i++)
        if (k->count[i])
            json_array_append_new(
                all, json_pack("{s:s, s:b, s:I, s:s, s:O}", "kind",
                               kinds[i].name, "is_fatal", kinds[i].is_fatal,
                               "count", (json_int_t)k->count[i], "help",
                               kinds[i].help, "rows", k->found[i]));
    return all;
}

static json_t *report(struct check *k) {
    json_t *formats = json_object(), *histogram = json_array();
    for (int f = 0; f < ROW_FORMATS_N; f++)
        if (k->formats[f])
            json_object_set_new(formats, row_format_name((enum row_format)f),
                                json_integer((json_int_t)k->formats[f]));
    for (int i = 0; i < HISTOGRAM; i++)
        if (k->histogram[i])
            json_array_append_new(
                histogram, json_pack("{s:I, s:I}", "from", (json_int_t)1 << i,
                                     "rows", (json_int_t)k->histogram[i]));
    return json_pack(
        "{s:I, s:o, s:o, s:o, s:{s:I, s:I}, s:o, s:o, s:I}", "rows",
        (json_int_t)k->rows, "formats", formats, "tokens", report_tokens(k),
        "histogram", histogram, "cut", "rows", (json_int_t)k->count[KIND_CUT],
        "tokens", (json_int_t)k->cut_tokens, "packing", report_packing(k),
        "findings", report_findings(k), "fatal", (json_int_t)k->fatal);
}

json_t *data_check(const char *path, const struct check_conf *c,
                   struct err *err) {
    struct check k = {.c = c};
    json_t *out = NULL;
    for (int i = 0; i < KIND_N; i++)
        k.found[i] = json_array();
    int rc = c->eval ? rows_each(c->eval, eval_row, &k, err) : 0;
    if (rc == 0)
        rc = rows_each(path, check_row, &k, err);
    if (rc == 0 && k.rows == 0)
        rc = err_set(err, ERR_INVAL, "%s: no rows in it", path);
    if (rc == 0)
        out = report(&k);
    for (int i = 0; i < KIND_N; i++)
        json_decref(k.found[i]);
    seen_release(&k.exact);
    seen_release(&k.near);
    seen_release(&k.eval);
    seen_release(&k.eval_near);
    free(k.all.v);
    free(k.kept.v);
    return out;
}
