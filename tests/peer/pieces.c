/*
 * pieces: what normalizers and pre-tokenizers make of texts, for splits.py.
 *
 * usage: pieces CONF < TEXTS > PIECES
 * CONF: a file {"pre_tokenizer":…} or {"normalizer":…}. TEXTS: u32 length and
 * bytes, each. PIECES, for each text: u32 count, then for each piece u32 from
 * and to (characters of the text), u32 length and bytes. A normalizer gives a
 * piece for each character. -p: just pieces, U+10FFFE between them and
 * U+10FFFD behind each text. -t times instead: one text, all of stdin.
 */
#include "core/fs.h"
#include "core/text/norm.h"
#include "core/text/split.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct out {
    uint32_t *at; /* (len + 1) character that byte i begins or is in */
    uint8_t *data;
    size_t n, cap;
    uint32_t count;
};

static void put(struct out *o, const void *p, size_t n) {
    if (o->n + n > o->cap) {
        o->cap = 2 * o->cap + n;
        o->data = realloc(o->data, o->cap);
        CHECK(o->data, "out of memory");
    }
    memcpy(o->data + o->n, p, n);
    o->n += n;
}

static void piece(struct out *o, const char *text, const char *s, size_t len,
                  const struct span *at) {
    uint32_t from = (uint32_t)(s - text), to = from + (uint32_t)len;
    if (at) {
        from = at[0].from;
        to = at[len - 1].to;
    }
    uint32_t v[3] = {o->at[from], o->at[to], (uint32_t)len};
    put(o, v, sizeof v);
    put(o, s, len);
    o->count++;
}

static void index_chars(struct out *o, const char *text, size_t len) {
    o->at = realloc(o->at, (len + 1) * sizeof *o->at);
    CHECK(o->at, "out of memory");
    uint32_t c = 0;
    for (size_t i = 0; i < len; i++) {
        c += ((unsigned char)text[i] & 0xc0) != 0x80;
        o->at[i] = c - 1;
    }
    o->at[len] = c;
}

static void normalize(struct out *o, const struct norm *n, struct norm_out *no,
                      const char *text, size_t len) {
    norm_apply(n, text, len, no);
    for (size_t i = 0, to; i < no->len; i = to) {
        for (to = i + 1; to < no->len && (no->text[to] & 0xc0) == 0x80; to++)
            ;
        piece(o, no->at ? no->text : text, no->text + i, to - i,
              no->at ? no->at + i : NULL);
    }
}

static void split(struct out *o, struct split_run *r, const char *text,
                  size_t len) {
    struct piece p;
    split_begin(r, text, len, true);
    while (split_next(r, &p))
        piece(o, text, p.s, p.len, p.at);
}

static void plain(struct out *o, struct split_run *r, const char *text,
                  size_t len) {
    struct piece p;
    split_begin(r, text, len, true);
    for (bool first = true; split_next(r, &p); first = false) {
        if (!first)
            put(o, "\xf4\x8f\xbf\xbe", 4);
        put(o, p.s, p.len);
    }
    put(o, "\xf4\x8f\xbf\xbd", 4);
}

static void timing(struct split_run *r, const struct norm *n) {
    size_t cap = 1 << 28, pieces = 0, len;
    char *text = malloc(cap);
    CHECK(text, "out of memory");
    len = fread(text, 1, cap, stdin);
    struct timespec a, b;
    double best = 1e9;
    struct norm_out no = {0};
    for (int i = 0; i < 5; i++) {
        struct piece p;
        clock_gettime(CLOCK_MONOTONIC, &a);
        pieces = 0;
        if (n)
            norm_apply(n, text, len, &no);
        else
            split_begin(r, text, len, true);
        while (!n && split_next(r, &p))
            pieces++;
        clock_gettime(CLOCK_MONOTONIC, &b);
        double s = (double)(b.tv_sec - a.tv_sec) +
                   (double)(b.tv_nsec - a.tv_nsec) / 1e9;
        best = s < best ? s : best;
    }
    printf("%zu bytes, %zu pieces, %.1f MB/s%s\n", len, pieces,
           (double)len / best / 1e6, r && split_gave_up(r) ? " (gave up)" : "");
    norm_out_release(&no);
    free(text);
}

int main(int argc, char **argv) {
    struct err err = {0};
    size_t n;
    if (argc < 2)
        return 64;
    char *conf = fs_read(argv[1], 64 << 20, &n, &err);
    json_t *j = conf ? json_loadb(conf, n, JSON_ALLOW_NUL, NULL) : NULL;
    json_t *nj = json_object_get(j, "normalizer");
    struct norm *norm = nj ? norm_new(nj, &err) : NULL;
    struct split *s =
        nj ? NULL : split_new(json_object_get(j, "pre_tokenizer"), &err);
    if (!norm && !s) {
        fprintf(stderr, "pieces: %s\n", err.msg);
        return 65;
    }
    struct split_run *r = s ? split_run_new(s) : NULL;
    struct norm_out no = {.want_at = true};
    struct out o = {0};
    uint32_t len;
    char *text = NULL;
    bool only = argc > 2 && strcmp(argv[2], "-p") == 0;
    if (argc > 2 && !only)
        timing(r, norm);
    while ((argc == 2 || only) && fread(&len, 4, 1, stdin) == 1) {
        text = realloc(text, len + 1);
        CHECK(text && fread(text, 1, len, stdin) == len, "a short text");
        if (only) {
            plain(&o, r, text, len);
            continue;
        }
        size_t head = o.n;
        o.count = 0;
        put(&o, &o.count, 4);
        index_chars(&o, text, len);
        if (norm)
            normalize(&o, norm, &no, text, len);
        else
            split(&o, r, text, len);
        memcpy(o.data + head, &o.count, 4);
    }
    fwrite(o.data, 1, o.n, stdout);
    norm_out_release(&no);
    split_run_free(r);
    split_free(s);
    norm_free(norm);
    json_decref(j);
    free(conf);
    free(text);
    free(o.data);
    free(o.at);
    return 0;
}
