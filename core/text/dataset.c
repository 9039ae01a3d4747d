/* dataset: training rows out of files, named by line when they are wrong. */
#include "core/text/int.h"

#include "core/fs.h"
#include "core/json.h"
#include "core/line.h"

#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TEXT_FILE_MAX (256u << 20)
#define WEIGHT_MAX 1e6 /* sums of a batch's stay far from f32's end */

static int row_tokens(const json_t *j, int64_t vocab, struct example *e,
                      struct err *err) {
    const json_t *t = json_object_get(j, "tokens");
    const json_t *w = json_object_get(j, "weights");
    size_t n = json_array_size(t);
    if (!json_is_array(t) || n == 0)
        return err_set(err, ERR_INVAL, "tokens: a list of ids is wanted");
    if (w && (!json_is_array(w) || json_array_size(w) != n))
        return err_set(err, ERR_INVAL,
                       "weights: as many as tokens are wanted (%zu, not %zu)",
                       n, json_array_size(w));
    e->weights = malloc(n * sizeof *e->weights);
    CHECK(e->weights, "out of memory for a row");
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_array_get(t, i);
        int64_t v = json_is_integer(id) ? json_integer_value(id) : -1;
        double x = 1;
        if (v < 0 || v >= vocab)
            return err_set(err, ERR_INVAL,
                           "tokens[%zu]: an id from 0 to %lld is wanted", i,
                           (long long)vocab - 1);
        if (w && (!json_to_num(json_array_get(w, i), &x) ||
                  !(x >= 0 && x <= WEIGHT_MAX)))
            return err_set(err, ERR_INVAL,
                           "weights[%zu]: a number from 0 to %g is wanted", i,
                           WEIGHT_MAX);
        tok_ids_push(&e->tokens, (uint32_t)v);
        e->weights[i] = (float)x;
    }
    return 0;
}

void examples_release(struct examples *x) {
    for (size_t i = 0; i < x->n; i++)
        example_release(&x->e[i]);
    free(x->e);
    *x = (struct examples){0};
}

static struct example *examples_add(struct examples *x) {
    x->e = realloc(x->e, (x->n + 1) * sizeof *x->e);
    CHECK(x->e, "out of memory for %zu examples", x->n);
    x->e[x->n] = (struct example){0};
    return &x->e[x->n++];
}

/* All of a text counts, its end too, in pieces of max_length. */
static int text_examples(const struct row_conf *c, const json_t *row,
                         struct examples *out, struct err *err) {
    const json_t *text = json_object_get(row, "text");
    const char *const *strings;
    const uint32_t *stop;
    struct tok_ids ids = {0};
    int n_strings;
    if (!json_is_string(text))
        return err_set(err, ERR_INVAL, "text: a text is wanted");
    tok_encode(c->tok, json_string_value(text), json_string_length(text),
               TOK_BOS, &ids);
    if (c->render && render_stops(c->render, &stop, &strings, &n_strings) > 0)
        tok_ids_push(&ids, stop[0]);
    size_t most = c->max_length ? c->max_length : ids.n;
    for (size_t at = 0; at < ids.n; at += most) {
        struct example *e = examples_add(out);
        size_t n = ids.n - at < most ? ids.n - at : most;
        e->weights = malloc(n * sizeof *e->weights);
        CHECK(e->weights, "out of memory for a text");
        for (size_t i = 0; i < n; i++) {
            tok_ids_push(&e->tokens, ids.id[at + i]);
            e->weights[i] = 1;
        }
    }
    free(ids.id);
    return 0;
}

static int chat_examples(const struct row_conf *c, json_t *chat,
                         struct examples *out, struct err *err) {
    struct examples some = {0};
    int rc = chat ? render_examples(c->render, chat, c->on, c->flags, &some.e,
                                    &some.n, err)
                  : -1;
    for (size_t i = 0; rc == 0 && i < some.n; i++)
        *examples_add(out) = some.e[i];
    if (rc == 0)
        free(some.e);
    json_decref(chat);
    return rc;
}

int row_examples(const struct row_conf *c, const json_t *row,
                 struct examples *out, struct err *err) {
    int f = c->format, rc;
    if (!json_is_object(row) || f < 0)
        f = row_format(row, err);
    if (f < 0)
        return -1;
    if (f != ROW_TOKENS && (!c->tok || !c->render))
        return err_set(err, ERR_INVAL,
                       "a row of format %s needs a tokenizer (rows of tokens "
                       "do not): %s",
                       row_format_name((enum row_format)f), c->why);
    if (f == ROW_TOKENS)
        rc = row_tokens(row, c->vocab, examples_add(out), err);
    else if (f == ROW_TEXT)
        rc = text_examples(c, row, out, err);
    else
        rc = chat_examples(c, row_chat(row, (enum row_format)f, err), out, err);
    if (rc == 0 && f == ROW_PREFERENCE)
        rc = chat_examples(c, row_rejected(row, err), out, err);
    if (rc < 0)
        examples_release(out);
    return rc;
}

/* ---- judging ---- */

size_t example_trained(const struct example *e, size_t max_length) {
    size_t n = e->tokens.n, count = 0;
    if (max_length && n > max_length)
        n = max_length;
    for (size_t i = 1; i < n; i++)
        count += e->weights[i] != 0;
    return count;
}

void example_cut(struct example *e, size_t max_length) {
    if (max_length == 0 || e->tokens.n <= max_length)
        return;
    e->lost += e->tokens.n - max_length;
    e->tokens.n = max_length;
}

enum row_fault examples_judge(struct examples *x, size_t max_length) {
    size_t n = 0, lost = 0;
    for (size_t i = 0; i < x->n; i++) {
        if (example_trained(&x->e[i], max_length)) {
            x->e[n++] = x->e[i];
            continue;
        }
        lost += example_trained(&x->e[i], 0);
        example_release(&x->e[i]);
    }
    x->n = n;
    return n ? ROW_TRAINS : lost ? ROW_CUT_AWAY : ROW_UNTRAINED;
}

const char *row_fault_text(enum row_fault f) {
    static const char *const texts[] = {
        [ROW_TRAINS] = "",
        [ROW_UNTRAINED] = "no token of it is trained",
        [ROW_CUT_AWAY] = "max_length cuts off all its trained tokens",
    };
    return texts[f];
}

/* ---- files ---- */

static bool is_blank(const char *s, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (s[i] != ' ' && s[i] != '\t' && s[i] != '\r' && s[i] != '\n')
            return false;
    return true;
}

/* What a file begins with that is not JSON at all, however it reads. */
static int check_kind(const char *line, size_t n, const char *path,
                      struct err *err) {
    static const struct {
        const char *begin, *what;
    } kinds[] = {{"\x1f\x8b", "compressed (gzip): unpack it first"},
                 {"\x28\xb5\x2f\xfd", "compressed (zstd): unpack it first"},
                 {"PAR1", "Parquet: write its rows as JSONL first"},
                 {"PK\x03\x04", "a zip archive: unpack it first"},
                 {"\xff\xfe", "UTF-16: UTF-8 is wanted"},
                 {"\xfe\xff", "UTF-16: UTF-8 is wanted"}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (n >= strlen(kinds[i].begin) &&
            memcmp(line, kinds[i].begin, strlen(kinds[i].begin)) == 0)
            return err_set(err, ERR_INVAL, "read %s: the file is %s", path,
                           kinds[i].what);
    return 0;
}

static int one_line(const struct lines *l, row_fn *fn, void *arg,
                    struct err *err) {
    struct err bad = {0};
    json_t *row = NULL;
    if (l->line && is_blank(l->line, l->len))
        return 0;
    if (l->line)
        row = json_read_line(l->line, l->len, false, &bad);
    else
        err_set(&bad, ERR_TOOBIG, "more than %d bytes", ROW_LINE_MAX);
    int rc = fn(arg, l->number, row, &bad, err);
    json_decref(row);
    return rc;
}

static int each_line(int fd, const char *path, row_fn *fn, void *arg,
                     struct err *err) {
    struct lines l;
    int rc, more = 0;
    lines_init(&l, fd, path, ROW_LINE_MAX);
    do {
        rc = more = lines_next(&l, err);
        if (rc > 0 && l.number == 1 && l.line)
            rc = check_kind(l.line, l.len, path, err);
        if (rc >= 0 && more > 0)
            rc = one_line(&l, fn, arg, err);
    } while (rc >= 0 && more > 0);
    lines_release(&l);
    return rc;
}

static int whole_text(const char *path, row_fn *fn, void *arg,
                      struct err *err) {
    size_t len, n;
    char *bytes = fs_read_any(path, TEXT_FILE_MAX, &len, err);
    if (!bytes)
        return -1;
    char *text = utf8_lossy(bytes, len, &n);
    json_t *row = json_pack("{s:o}", "text", json_stringn_nocheck(text, n));
    struct err bad = {0};
    int rc = is_blank(bytes, len) ? 0 : fn(arg, 1, row, &bad, err);
    json_decref(row);
    free(text);
    free(bytes);
    return rc;
}

int rows_each(const char *path, row_fn *fn, void *arg, struct err *err) {
    size_t n = strlen(path);
    if (n > 4 && strcmp(path + n - 4, ".txt") == 0)
        return whole_text(path, fn, arg, err);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, "open data %s", path);
    int rc = each_line(fd, path, fn, arg, err);
    close(fd);
    return rc;
}

static void row_add(struct dataset *rows, size_t *cap, struct example *e,
                    size_t max_length) {
    if (rows->n == *cap) {
        *cap = *cap ? 2 * *cap : 256;
        rows->row = realloc(rows->row, *cap * sizeof *rows->row);
        CHECK(rows->row, "out of memory for %zu rows", *cap);
    }
    example_cut(e, max_length);
    rows->cut += e->lost > 0;
    rows->row[rows->n++] = *e;
}

struct reading {
    struct dataset *rows;
    const char *path;
    const struct row_conf *c;
    size_t cap;
};

/* An example of a text is a unit of its own: pieces share no token, as turns
 * of a conversation do. */
static void rows_add(struct reading *r, struct examples *x, bool is_text) {
    for (size_t i = 0; i < x->n; i++) {
        x->e[i].unit = r->rows->units + (is_text ? (uint32_t)i : 0);
        row_add(r->rows, &r->cap, &x->e[i], r->c->max_length);
    }
    r->rows->units += is_text ? (uint32_t)x->n : x->n > 0;
    free(x->e);
}

static int read_row(struct reading *r, const json_t *row, const struct err *bad,
                    struct err *err) {
    struct examples x = {0};
    if (!row)
        return err_set(err, bad->code, "%s", bad->msg);
    int f = r->c->format < 0 ? row_format(row, err) : r->c->format;
    if (f == ROW_PREFERENCE || f == ROW_ANSWER || f == ROW_GROUND_TRUTH)
        return err_set(err, ERR_UNSUPPORTED,
                       "a row of format %s has no answer that supervised "
                       "training could learn (chat, prompt, alpaca, sharegpt, "
                       "text and tokens have)",
                       row_format_name((enum row_format)f));
    if (f < 0 || row_examples(r->c, row, &x, err) < 0)
        return -1;
    enum row_fault fault = examples_judge(&x, r->c->max_length);
    if (fault != ROW_TRAINS && !r->c->skip) {
        examples_release(&x);
        return err_set(err, ERR_INVAL,
                       "%s (untrained_rows=skip leaves such rows out)",
                       row_fault_text(fault));
    }
    r->rows->skipped += fault != ROW_TRAINS;
    rows_add(r, &x, f == ROW_TEXT);
    return 0;
}

static int dataset_row(void *arg, size_t line, const json_t *row,
                       const struct err *bad, struct err *err) {
    struct reading *r = arg;
    if (read_row(r, row, bad, err) == 0)
        return 0;
    return err_ctx(err, "%s:%zu", r->path, line);
}

int dataset_read(struct dataset *rows, const char *path,
                 const struct row_conf *c, struct err *err) {
    struct reading r = {rows, path, c, 0};
    memset(rows, 0, sizeof *rows);
    int rc = rows_each(path, dataset_row, &r, err);
    if (rc == 0 && rows->n == 0)
        rc = err_set(err, ERR_INVAL, "%s: no rows in it%s", path,
                     rows->skipped ? " that train a token" : "");
    if (rc < 0)
        dataset_release(rows);
    return rc;
}

void dataset_release(struct dataset *rows) {
    for (size_t i = 0; i < rows->n; i++)
        example_release(&rows->row[i]);
    free(rows->row);
    memset(rows, 0, sizeof *rows);
}
