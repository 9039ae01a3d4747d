/* parity: reports as files, and what they say in a line. */
#include "views/parity.h"

#include "core/buf.h"
#include "core/fs.h"
#include "core/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define PARITY_BYTES (4u << 20)
#define CACHED_MAX 64 /* models; others are read each time */

/* A name may have a slash; a file may not. */
char *parity_path(const char *home, const char *name) {
    struct buf b;
    buf_init(&b, 4096);
    for (; *name; name++)
        if (*name == '/' || *name == '%')
            buf_printf(&b, "%%%02X", (unsigned)*name);
        else
            buf_u8(&b, (uint8_t)*name);
    char *path = fs_path("%s/models/%s.parity.json", home, buf_str(&b));
    buf_release(&b);
    return path;
}

json_t *parity_read(const char *home, const char *name) {
    struct err ignored = {0};
    char *path = parity_path(home, name);
    json_t *j = json_read_file(path, PARITY_BYTES, &ignored);
    free(path);
    return j;
}

static json_int_t count(const json_t *j, const char *key) {
    return json_integer_value(json_object_get(j, key));
}

/* "; differs: a, b and 3 more", the rows of one verdict. */
static void put_rows(struct buf *b, const json_t *j, const char *verdict,
                     const char *said) {
    enum { SHOWN = 3 };
    size_t i, n = 0;
    json_t *row;
    json_array_foreach(json_object_get(j, "rows"), i, row) {
        const char *v = json_string_value(json_object_get(row, "verdict"));
        const char *s = json_string_value(json_object_get(row, "scenario"));
        if (!v || !s || strcmp(v, verdict) != 0)
            continue;
        if (n++ < SHOWN)
            buf_printf(b, "%s%s", n > 1 ? ", " : said, s);
    }
    if (n > SHOWN)
        buf_printf(b, " and %zu more", n - SHOWN);
}

char *parity_line(const json_t *j) {
    struct buf b;
    json_int_t equal = count(j, "equal"), all = count(j, "scenarios");
    const char *name = json_string_value(json_object_get(j, "renderer"));
    buf_init(&b, 16384);
    if (!all)
        buf_printf(&b, "%s (no chat template to compare with)",
                   name ? name : "?");
    else
        buf_printf(&b, "%s: %lld of %lld scenarios equal to the template",
                   name ? name : "?", (long long)equal, (long long)all);
    put_rows(&b, j, "known", "; known: ");
    put_rows(&b, j, "different", "; differs: ");
    put_rows(&b, j, "vanished", "; expected to differ, but equal: ");
    if (2 * equal < all)
        buf_puts(&b, "; renderer=template follows the template");
    char *line = fs_path("%s", buf_str(&b));
    buf_release(&b);
    return line;
}

void parity_brief(const json_t *j, char *buf, size_t cap) {
    if (!count(j, "scenarios"))
        snprintf(buf, cap, "-");
    else
        snprintf(buf, cap, "%lld/%lld%s", (long long)count(j, "equal"),
                 (long long)count(j, "scenarios"),
                 count(j, "different") || count(j, "vanished") ? " !" : "");
}

/* ---- the cache ---- */

struct cached {
    char *path;
    struct timespec changed;
    off_t size;
    json_t *report;
};
struct parity_cache {
    struct cached row[CACHED_MAX];
    int n;
};

struct parity_cache *parity_cache_new(void) {
    struct parity_cache *c = calloc(1, sizeof *c);
    CHECK(c, "out of memory for reports");
    return c;
}

void parity_cache_free(struct parity_cache *c) {
    for (int i = 0; c && i < c->n; i++) {
        free(c->row[i].path);
        json_decref(c->row[i].report);
    }
    free(c);
}

/* The place of a path; NULL: all are taken. */
static struct cached *cached_at(struct parity_cache *c, const char *path) {
    for (int i = 0; i < c->n; i++)
        if (strcmp(c->row[i].path, path) == 0)
            return &c->row[i];
    if (c->n == CACHED_MAX)
        return NULL;
    c->row[c->n].path = fs_path("%s", path);
    return &c->row[c->n++];
}

json_t *parity_cached(struct parity_cache *c, const char *home,
                      const char *name) {
    char *path = parity_path(home, name);
    struct cached *at = cached_at(c, path);
    struct stat st = {0};
    bool is_there = stat(path, &st) == 0;
    free(path);
    if (!at)
        return is_there ? parity_read(home, name) : NULL;
    if (!is_there || st.st_size != at->size ||
        memcmp(&st.st_mtim, &at->changed, sizeof at->changed) != 0) {
        json_decref(at->report);
        at->report = is_there ? parity_read(home, name) : NULL;
        at->changed = st.st_mtim;
        at->size = st.st_size;
    }
    return json_incref(at->report);
}
