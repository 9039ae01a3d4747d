/* dataset: training rows out of JSONL, named by line when they are wrong. */
#include "core/text/int.h"

#include "core/json.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
        if (w && (!json_to_num(json_array_get(w, i), &x) || !isfinite(x)))
            return err_set(err, ERR_INVAL, "weights[%zu]: a number is wanted",
                           i);
        tok_ids_push(&e->tokens, (uint32_t)v);
        e->weights[i] = (float)x;
    }
    return 0;
}

/* A row's examples: several when its conversation is split by turns. */
struct row {
    struct example *e; /* owned */
    size_t n;
};

static int row_parse(const json_t *j, const struct render *r, const char *why,
                     enum train_on on, int64_t vocab, struct row *row,
                     struct err *err) {
    const json_t *messages = json_object_get(j, "messages");
    if (!json_is_object(j))
        return err_set(err, ERR_INVAL, "a JSON object is wanted");
    if (json_object_get(j, "tokens")) {
        row->e = calloc(1, sizeof *row->e);
        CHECK(row->e, "out of memory for a row");
        row->n = 1;
        return row_tokens(j, vocab, row->e, err);
    }
    if (!messages)
        return err_set(err, ERR_INVAL, "neither messages nor tokens in it");
    if (!r)
        return err_set(err, ERR_INVAL,
                       "messages need a tokenizer (rows of tokens do not): %s",
                       why);
    return render_examples(r, j, on, 0, &row->e, &row->n, err);
}

static void row_cut(struct dataset *rows, struct example *e,
                    size_t max_length) {
    if (max_length == 0 || e->tokens.n <= max_length)
        return;
    e->tokens.n = max_length;
    rows->cut++;
}

static void row_add(struct dataset *rows, size_t *cap, struct example *e,
                    size_t max_length) {
    if (rows->n == *cap) {
        *cap = *cap ? 2 * *cap : 256;
        rows->row = realloc(rows->row, *cap * sizeof *rows->row);
        CHECK(rows->row, "out of memory for %zu rows", *cap);
    }
    row_cut(rows, e, max_length);
    rows->row[rows->n++] = *e;
}

static int row_read(const char *line, size_t len, const struct render *r,
                    const char *why, enum train_on on, int64_t vocab,
                    struct row *row, struct err *err) {
    json_t *j = json_read_line(line, len, false, err);
    int rc = j ? row_parse(j, r, why, on, vocab, row, err) : -1;
    json_decref(j);
    for (size_t i = 0; rc < 0 && i < row->n; i++)
        example_release(&row->e[i]);
    if (rc < 0)
        free(row->e);
    return rc;
}

static bool is_blank(const char *s, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (s[i] != ' ' && s[i] != '\t' && s[i] != '\r' && s[i] != '\n')
            return false;
    return true;
}

int dataset_read(struct dataset *rows, const char *path, const struct render *r,
                 const char *why, enum train_on on, size_t max_length,
                 int64_t vocab, struct err *err) {
    memset(rows, 0, sizeof *rows);
    FILE *f = fopen(path, "re");
    char *line = NULL;
    size_t room = 0, cap = 0, number = 0;
    ssize_t len;
    int rc = 0;
    if (!f)
        return err_sys(err, "open data %s", path);
    errno = 0;
    while (rc == 0 && (len = getline(&line, &room, f)) >= 0) {
        size_t n = (size_t)len, skip = 0;
        struct row row = {0};
        number++;
        if (number == 1 && n >= 3 && memcmp(line, "\xef\xbb\xbf", 3) == 0)
            skip = 3;
        if (is_blank(line + skip, n - skip))
            continue;
        if (n > ROW_LINE_MAX)
            rc = err_set(err, ERR_TOOBIG, "more than %d bytes", ROW_LINE_MAX);
        else
            rc = row_read(line + skip, n - skip, r, why, on, vocab, &row, err);
        for (size_t i = 0; rc == 0 && i < row.n; i++)
            row_add(rows, &cap, &row.e[i], max_length);
        if (rc == 0)
            free(row.e);
        else
            err_ctx(err, "%s:%zu", path, number);
    }
    if (rc == 0 && ferror(f))
        rc = err_sys(err, "read %s", path);
    if (rc == 0 && rows->n == 0)
        rc = err_set(err, ERR_INVAL, "%s: no rows in it", path);
    free(line);
    fclose(f);
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
