/*
 * page: the rows of a file by number. The index of a file grows by pieces, so
 * that the thread which reads has time for other things; a row is read and
 * rendered when it is asked for.
 */
#include "views/page.h"

#include "core/fs.h"
#include "core/json.h"
#include "core/line.h"
#include "core/recipe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SCAN_BYTES (1 << 20)
#define SCAN_PIECES 32          /* of these in one step */
#define TEXT_FILE_MAX (1 << 20) /* of a .txt, which is one row */

struct row_at {
    uint64_t from;
    uint32_t len; /* UINT32_MAX = that or more */
    uint32_t line;
};

/* A data file's rows: its lines that are not blank. */
struct row_index {
    int fd;
    uint64_t read, line_from; /* bytes looked at; where the line began */
    uint32_t line;
    bool has_text; /* the line is not blank so far */
    bool is_all;
    struct row_at *row; /* (n) */
    size_t n, cap;
};

struct pages {
    struct page_want want; /* the source; the row that was made last */
    bool is_open, has_failed, has_row, said_all;
    struct recipe_text text;
    json_t *config;
    char *path; /* of the data; NULL = the bank */
    bool is_txt;
    struct row_index index;
    char source[512];
    char *scan; /* (SCAN_BYTES) */
};

/* ---- pages ---- */

bool page_same_source(const struct page_want *a, const struct page_want *b) {
    return a->run == b->run && a->is_eval == b->is_eval &&
           strcmp(a->model, b->model) == 0;
}

struct page *page_ref(struct page *g) {
    if (g)
        atomic_fetch_add(&g->refs, 1);
    return g;
}

void page_unref(struct page *g) {
    if (!g || atomic_fetch_sub(&g->refs, 1) > 1)
        return;
    for (size_t i = 0; i < g->n; i++)
        inspect_release(&g->example[i]);
    free(g->example);
    free(g);
}

static struct page *page_new(const struct pages *p, const struct page_want *w) {
    struct page *g = calloc(1, sizeof *g);
    CHECK(g, "out of memory for a page");
    atomic_init(&g->refs, 1);
    g->want = *w;
    snprintf(g->source, sizeof g->source, "%s", p->source);
    if (p->text.render)
        snprintf(g->renderer, sizeof g->renderer, "%s",
                 render_name(p->text.render));
    return g;
}

static void page_fail(struct page *g, const struct err *err) {
    snprintf(g->error, sizeof g->error, "%s", err->msg);
}

static void page_fill(struct page *g, const struct recipe_text *t,
                      const json_t *row, struct err *err) {
    struct row_conf c = t->row;
    struct examples x = {0};
    c.flags |= RENDER_ORIGIN;
    if (row_examples(&c, row, &x, err) < 0)
        return;
    g->example = calloc(x.n + 1, sizeof *g->example);
    CHECK(g->example, "out of memory for %zu examples", x.n);
    size_t room = PAGE_TOKENS;
    for (size_t i = 0; i < x.n; i++) {
        struct inspect *in = &g->example[g->n++];
        example_cut(&x.e[i], c.max_length);
        inspect_make(in, t->tok, &x.e[i], room);
        room -= in->n;
        g->tokens += in->n + in->hidden;
        g->trained += in->trained;
        g->lost += in->lost;
    }
    examples_release(&x);
}

/* ---- the index ---- */

static void index_add(struct row_index *x, uint64_t end) {
    uint64_t len = end - x->line_from;
    if (x->n == x->cap) {
        x->cap = x->cap ? 2 * x->cap : 1024;
        x->row = realloc(x->row, x->cap * sizeof *x->row);
        CHECK(x->row, "out of memory for %zu rows", x->cap);
    }
    x->row[x->n++] =
        (struct row_at){.from = x->line_from,
                        .len = len < UINT32_MAX ? (uint32_t)len : UINT32_MAX,
                        .line = x->line};
}

static void index_line_end(struct row_index *x, uint64_t end) {
    x->line++;
    if (x->has_text)
        index_add(x, end);
    x->line_from = end + 1;
    x->has_text = false;
}

static void index_bytes(struct row_index *x, const char *p, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const char *nl = x->has_text ? memchr(p + i, '\n', n - i) : NULL;
        if (x->has_text)
            i = nl ? (size_t)(nl - p) : n - 1;
        if (p[i] == '\n')
            index_line_end(x, x->read + i);
        else if (p[i] != ' ' && p[i] != '\t' && p[i] != '\r')
            x->has_text = true;
    }
    x->read += n;
}

/* Looks at some more of the file. */
static int index_step(struct pages *p, struct err *err) {
    struct row_index *x = &p->index;
    for (int i = 0; i < SCAN_PIECES && !x->is_all; i++) {
        ssize_t n = pread(x->fd, p->scan, SCAN_BYTES, (off_t)x->read);
        if (n < 0)
            return err_sys(err, "read data %s", p->path);
        if (n > 0) {
            index_bytes(x, p->scan, (size_t)n);
            continue;
        }
        if (x->has_text)
            index_line_end(x, x->read);
        x->is_all = true;
    }
    return 0;
}

/* The row as JSON; NULL and an error. */
static json_t *index_row(struct pages *p, const struct row_at *at,
                         struct err *err) {
    json_t *j = NULL;
    if (at->len > ROW_LINE_MAX) {
        err_set(err, ERR_TOOBIG, "more than %d bytes", ROW_LINE_MAX);
    } else {
        char *line = malloc(at->len + 1u);
        CHECK(line, "out of memory for a row");
        ssize_t n = pread(p->index.fd, line, at->len, (off_t)at->from);
        size_t skip = at->line == 1 && n > 0 ? line_mark(line, (size_t)n) : 0;
        if (n == (ssize_t)at->len)
            j = json_read_line(line + skip, (size_t)n - skip, false, err);
        else
            err_set(err, ERR_IO, "the file has become shorter");
        free(line);
    }
    if (!j)
        err_ctx(err, "%s:%u", p->path, at->line);
    return j;
}

/* ---- sources ---- */

static void pages_close(struct pages *p) {
    char *scan = p->scan;
    recipe_text_close(&p->text);
    json_decref(p->config);
    free(p->path);
    free(p->index.row);
    if (p->index.fd >= 0)
        close(p->index.fd);
    *p = (struct pages){.scan = scan, .index.fd = -1};
}

struct pages *pages_new(void) {
    struct pages *p = calloc(1, sizeof *p);
    char *scan = malloc(SCAN_BYTES);
    CHECK(p && scan, "out of memory for pages");
    *p = (struct pages){.scan = scan, .index.fd = -1};
    return p;
}

void pages_free(struct pages *p) {
    if (!p)
        return;
    pages_close(p);
    free(p->scan);
    free(p);
}

/* The renderer and rules of p->config; what is missing by name. */
static int text_open(struct pages *p, struct store *st, const char *model,
                     struct err *err) {
    struct store_models rows = {0};
    if (store_model_get(st, model, &rows) != STORE_OK)
        return err_set(err, ERR_NOTFOUND,
                       "model %s is no longer registered (fettle model add)",
                       model);
    int rc = recipe_text_open(&p->text, p->config, rows.row->dir, err);
    if (rc == 0 && !p->text.tok && !p->path)
        rc = err_set(err, ERR_UNSUPPORTED, "model %s has no tokenizer: %s",
                     model, p->text.no_text.msg);
    store_models_free(&rows);
    return rc;
}

static int file_open(struct pages *p, struct err *err) {
    size_t n = strlen(p->path);
    p->is_txt = n > 4 && strcmp(p->path + n - 4, ".txt") == 0;
    if (p->is_txt && fs_size(p->path) > TEXT_FILE_MAX)
        return err_set(err, ERR_TOOBIG,
                       "%s: a text of more than %d bytes is not shown", p->path,
                       TEXT_FILE_MAX);
    struct stat st;
    p->index.fd = open(p->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (p->index.fd < 0 || fstat(p->index.fd, &st) < 0)
        return err_sys(err, "open data %s", p->path);
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_INVAL, "open data %s: not a file", p->path);
    if (p->is_txt) { /* one row, if any */
        index_add(&p->index, 0);
        p->index.is_all = true;
    }
    return 0;
}

static int run_open(struct pages *p, struct store *st, int64_t id,
                    struct err *err) {
    struct store_runs rows = {0};
    if (store_run_get(st, id, &rows) != STORE_OK)
        return err_set(err, ERR_NOTFOUND, "run %lld is gone", (long long)id);
    const struct store_run *r = rows.row;
    const char *key = p->want.is_eval ? "eval_data" : "data", *data = NULL;
    p->config = json_read(r->config, strlen(r->config), "config", err);
    if (p->config)
        data = json_string_value(json_object_get(p->config, key));
    if (data && *data) {
        p->path = fs_path("%s", data);
        const char *base = strrchr(data, '/');
        snprintf(p->source, sizeof p->source, "%s%s", base ? base + 1 : data,
                 p->want.is_eval ? " (eval_data)" : "");
    } else if (p->config) {
        err_set(err, ERR_NOTFOUND, "run %lld has no %s", (long long)id, key);
    }
    int rc = p->path ? file_open(p, err) : -1;
    if (rc == 0)
        rc = text_open(p, st, r->model, err);
    store_runs_free(&rows);
    return rc;
}

static int bank_open(struct pages *p, struct store *st, const char *model,
                     struct err *err) {
    p->config = json_pack("{s:i}", "max_length", 1 << 30);
    snprintf(p->source, sizeof p->source, "scenarios by %.256s", model);
    while (scenario_id((int)p->index.n))
        index_add(&p->index, 0);
    p->index.is_all = true;
    return text_open(p, st, model, err);
}

static int pages_open(struct pages *p, struct store *st,
                      const struct page_want *w, struct err *err) {
    return w->run ? run_open(p, st, w->run, err)
                  : bank_open(p, st, w->model, err);
}

/* ---- rows ---- */

static int keep_row(void *arg, size_t line, const json_t *row,
                    const struct err *bad, struct err *err) {
    json_t **out = arg;
    (void)line;
    if (!row)
        return err_set(err, bad->code, "%s", bad->msg);
    *out = json_incref((json_t *)row);
    return 0;
}

static json_t *row_json(struct pages *p, int64_t row, struct err *err) {
    json_t *j = NULL;
    if (!p->path)
        return scenario_json((int)row - 1);
    if (!p->is_txt)
        return index_row(p, &p->index.row[row - 1], err);
    rows_each(p->path, keep_row, &j, err);
    if (!j)
        err_set(err, ERR_INVAL, "%s: no rows in it", p->path);
    return j;
}

static struct page *row_page(struct pages *p, const struct page_want *w) {
    const struct row_index *x = &p->index;
    struct page *g = page_new(p, w);
    struct err err = {0};
    g->rows = (int64_t)x->n;
    g->is_all = x->is_all;
    g->row = w->row < 1 ? 1 : w->row < g->rows ? w->row : g->rows;
    if (x->n == 0) {
        err_set(&err, ERR_INVAL, "%s: no rows in it", p->path);
    } else {
        json_t *j = row_json(p, g->row, &err);
        if (j)
            page_fill(g, &p->text, j, &err);
        json_decref(j);
        if (p->path && !p->is_txt)
            g->line = x->row[g->row - 1].line;
        if (!p->path)
            snprintf(g->name, sizeof g->name, "%s",
                     scenario_id((int)g->row - 1));
    }
    page_fail(g, &err);
    return g;
}

/* Once said; that source is tried again when it is asked for anew. */
static struct page *failed_page(struct pages *p, const struct page_want *w,
                                const struct err *err) {
    struct page *g = page_new(p, w);
    page_fail(g, err);
    g->is_all = p->has_failed = true;
    return g;
}

struct page *pages_step(struct pages *p, struct store *st,
                        const struct page_want *w, bool *more) {
    struct err err = {0};
    *more = false;
    if (!page_same_source(&p->want, w)) {
        pages_close(p);
        p->want = *w;
        p->want.row = 0;
    }
    if ((w->run == 0 && !*w->model) || p->has_failed)
        return NULL;
    if (!p->is_open && pages_open(p, st, w, &err) < 0)
        return failed_page(p, w, &err);
    p->is_open = true;
    if (!p->index.is_all && index_step(p, &err) < 0)
        return failed_page(p, w, &err);
    *more = !p->index.is_all;
    bool is_there = p->index.is_all || w->row <= (int64_t)p->index.n;
    bool is_shown = p->has_row && p->want.row == w->row;
    if (!is_there || (is_shown && p->said_all == p->index.is_all))
        return NULL;
    p->want.row = w->row;
    p->has_row = true;
    p->said_all = p->index.is_all;
    return row_page(p, w);
}
