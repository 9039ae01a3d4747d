/*
 * st: safetensors. A file is u64 header length, a JSON header, the data.
 * Invariant: a struct st exists only if every tensor of it lies inside its
 * file, overlaps no other, and has the bytes that its shape and type say.
 */
#include "core/model/int.h"

#include "core/fs.h"
#include "core/json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define ST_HEADER_MAX (16 << 20)
#define ST_TENSORS_MAX 65536
#define ST_NAME_MAX 512
#define ST_FILES_MAX 1024

struct st_file {
    void *map;
    size_t len;
    json_t *header;
};

struct st {
    int n_files, n;
    struct st_file file[ST_FILES_MAX];
    struct st_tensor *t; /* sorted by name */
};

struct st_dtype {
    const char *name;
    enum kern_dtype t;
};
static const struct st_dtype st_dtypes[] = {
    {"F32", KERN_F32}, {"BF16", KERN_BF16}, {"F16", KERN_F16}};

static const char *st_dtype_name(enum kern_dtype t) {
    return t == KERN_F32 ? "F32" : t == KERN_BF16 ? "BF16" : "F16";
}

static int st_fail(struct err *err, const char *name, const char *why) {
    return err_set(err, ERR_CORRUPT, "tensor %.128s: %s", name, why);
}

static int st_shape(struct st_tensor *t, const json_t *shape, struct err *err) {
    size_t rank = json_array_size(shape);
    if (!json_is_array(shape) || rank > 8)
        return st_fail(err, t->name, "bad shape");
    t->rank = (int)rank;
    t->bytes = (int64_t)kern_dtype_size(t->dtype);
    for (size_t i = 0; i < rank; i++) {
        const json_t *v = json_array_get(shape, i);
        int64_t d = json_is_integer(v) ? json_integer_value(v) : -1;
        if (d < 0 || (d > 0 && t->bytes > ((int64_t)1 << 46) / d))
            return st_fail(err, t->name, "bad or absurd shape");
        t->shape[i] = d;
        t->bytes *= d;
    }
    return 0;
}

static int st_tensor_parse(struct st_tensor *t, const char *name,
                           const json_t *j, const struct st_file *f,
                           size_t data_at, struct err *err) {
    const char *dtype = json_string_value(json_object_get(j, "dtype"));
    const json_t *off = json_object_get(j, "data_offsets");
    t->name = name;
    if (strlen(name) > ST_NAME_MAX)
        return st_fail(err, name, "name is too long");
    if (!dtype || json_array_size(off) != 2)
        return st_fail(err, name, "dtype or data_offsets is missing");
    size_t i = 0, n = sizeof st_dtypes / sizeof *st_dtypes;
    while (i < n && strcmp(st_dtypes[i].name, dtype) != 0)
        i++;
    if (i == n)
        return err_set(err, ERR_UNSUPPORTED,
                       "tensor %.128s: dtype %.32s is not supported "
                       "(supported: F32, BF16, F16)",
                       name, dtype);
    t->dtype = st_dtypes[i].t;
    if (st_shape(t, json_object_get(j, "shape"), err) < 0)
        return -1;
    int64_t a = json_integer_value(json_array_get(off, 0));
    int64_t b = json_integer_value(json_array_get(off, 1));
    int64_t room = (int64_t)(f->len - data_at);
    if (a < 0 || b < a || b > room)
        return err_set(err, ERR_CORRUPT,
                       "tensor %.128s: ends at byte %lld of %lld: the file is "
                       "truncated or damaged",
                       name, (long long)b, (long long)room);
    if (b - a != t->bytes)
        return st_fail(err, name, "its size does not match its shape");
    t->data = (const char *)f->map + data_at + a;
    return 0;
}

static int st_header(struct st *s, struct st_file *f, struct err *err) {
    uint64_t len = 0;
    if (f->len < 8)
        return err_set(err, ERR_CORRUPT, "%zu bytes, no header", f->len);
    for (int i = 0; i < 8; i++)
        len |= (uint64_t)((const uint8_t *)f->map)[i] << (8 * i);
    if (len > ST_HEADER_MAX || len > f->len - 8)
        return err_set(err, ERR_CORRUPT,
                       "header of %llu bytes in a file of %zu: truncated or "
                       "not safetensors",
                       (unsigned long long)len, f->len);
    f->header = json_read((const char *)f->map + 8, (size_t)len, "header", err);
    if (!f->header)
        return -1;
    if (!json_is_object(f->header))
        return err_set(err, ERR_CORRUPT, "header is no JSON object");
    size_t more = json_object_size(f->header);
    if ((size_t)s->n + more > ST_TENSORS_MAX)
        return err_set(err, ERR_TOOBIG, "more than %d tensors", ST_TENSORS_MAX);
    struct st_tensor *t =
        realloc(s->t, ((size_t)s->n + more + 1) * sizeof *s->t);
    CHECK(t, "out of memory for tensors");
    s->t = t;
    const char *name;
    json_t *j;
    json_object_foreach(f->header, name, j) {
        if (strcmp(name, "__metadata__") == 0)
            continue;
        memset(&s->t[s->n], 0, sizeof *s->t);
        if (st_tensor_parse(&s->t[s->n], name, j, f, 8 + (size_t)len, err) < 0)
            return -1;
        s->n++;
    }
    return 0;
}

static int st_by_place(const void *a, const void *b) {
    const struct st_tensor *x = a, *y = b;
    if (x->data != y->data)
        return x->data < y->data ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

static int st_by_name(const void *a, const void *b) {
    return strcmp(((const struct st_tensor *)a)->name,
                  ((const struct st_tensor *)b)->name);
}

static int st_add(struct st *s, const char *path, struct err *err) {
    struct stat info;
    if (s->n_files == ST_FILES_MAX)
        return err_set(err, ERR_TOOBIG, "more than %d shards", ST_FILES_MAX);
    struct st_file *f = &s->file[s->n_files];
    int rc = -1, fd = fs_open_file(path, err);
    if (fd < 0)
        goto out;
    if (fstat(fd, &info) < 0) {
        err_sys(err, "open %s", path);
        goto out;
    }
    f->len = (size_t)info.st_size;
    f->map =
        f->len ? mmap(NULL, f->len, PROT_READ, MAP_PRIVATE, fd, 0) : MAP_FAILED;
    if (f->map == MAP_FAILED) {
        f->map = NULL;
        if (f->len)
            err_sys(err, "map %s", path);
        else
            err_set(err, ERR_CORRUPT, "%s: empty file", path);
        goto out;
    }
    s->n_files++;
    rc = st_header(s, f, err);
    if (rc < 0)
        err_ctx(err, "%s", path);
out:
    if (fd >= 0)
        close(fd);
    return rc;
}

static int st_finish(struct st *s, struct err *err) {
    qsort(s->t, (size_t)s->n, sizeof *s->t, st_by_place);
    for (int i = 1; i < s->n; i++)
        if ((const char *)s->t[i - 1].data + s->t[i - 1].bytes >
                (const char *)s->t[i].data &&
            s->t[i].bytes > 0)
            return st_fail(err, s->t[i].name, "overlaps another tensor");
    qsort(s->t, (size_t)s->n, sizeof *s->t, st_by_name);
    for (int i = 1; i < s->n; i++)
        if (strcmp(s->t[i - 1].name, s->t[i].name) == 0)
            return st_fail(err, s->t[i].name, "is in two files");
    return 0;
}

static struct st *st_new(void) {
    struct st *s = calloc(1, sizeof *s);
    CHECK(s, "out of memory for a safetensors index");
    return s;
}

struct st *st_open_file(const char *path, struct err *err) {
    struct st *s = st_new();
    if (st_add(s, path, err) == 0 && st_finish(s, err) == 0)
        return s;
    st_close(s);
    return NULL;
}

/* A shard's name: a plain file name. */
static bool st_shard_ok(const char *name) {
    return name && *name && name[0] != '.' && !strchr(name, '/') &&
           strlen(name) < 256;
}

static int st_index(struct st *s, const char *dir, const char *index,
                    struct err *err) {
    json_t *j = json_read_file(index, ST_HEADER_MAX, err), *v;
    json_t *map = json_object_get(j, "weight_map"), *seen = json_object();
    const char *tensor;
    int rc = j ? 0 : -1;
    if (j && !json_is_object(map))
        rc = err_set(err, ERR_CORRUPT, "%s: weight_map is missing", index);
    json_object_foreach(map, tensor, v) {
        const char *file = json_string_value(v);
        if (rc < 0)
            break;
        if (!st_shard_ok(file)) {
            rc = err_set(err, ERR_CORRUPT, "%s: bad file name for %.128s",
                         index, tensor);
            break;
        }
        if (json_object_get(seen, file))
            continue;
        json_object_set_new(seen, file, json_true());
        char *path = fs_path("%s/%s", dir, file);
        rc = st_add(s, path, err);
        free(path);
    }
    json_decref(seen);
    json_decref(j);
    return rc;
}

struct st *st_open_dir(const char *dir, struct err *err) {
    struct st *s = st_new();
    char *one = fs_path("%s/model.safetensors", dir);
    char *index = fs_path("%s/model.safetensors.index.json", dir);
    int rc = fs_exists(one)     ? st_add(s, one, err)
             : fs_exists(index) ? st_index(s, dir, index, err)
                                : err_set(err, ERR_NOTFOUND,
                                          "%s: neither model.safetensors nor "
                                          "model.safetensors.index.json is "
                                          "there",
                                          dir);
    if (rc == 0)
        rc = st_finish(s, err);
    free(one);
    free(index);
    if (rc == 0)
        return s;
    st_close(s);
    return NULL;
}

void st_forget(struct st *s) {
    for (int i = 0; i < s->n_files; i++)
        if (s->file[i].map)
            madvise(s->file[i].map, s->file[i].len, MADV_DONTNEED);
}

void st_close(struct st *s) {
    if (!s)
        return;
    for (int i = 0; i < s->n_files; i++) {
        json_decref(s->file[i].header);
        if (s->file[i].map)
            munmap(s->file[i].map, s->file[i].len);
    }
    free(s->t);
    free(s);
}

int st_count(const struct st *s) { return s->n; }
const struct st_tensor *st_at(const struct st *s, int i) { return &s->t[i]; }

const struct st_tensor *st_find(const struct st *s, const char *name) {
    struct st_tensor key = {.name = name};
    return bsearch(&key, s->t, (size_t)s->n, sizeof *s->t, st_by_name);
}

const char *st_meta(const struct st *s, const char *key) {
    if (s->n_files == 0)
        return NULL;
    const json_t *m = json_object_get(s->file[0].header, "__metadata__");
    return json_string_value(json_object_get(m, key));
}

/* ---- writing ---- */

int64_t st_out_bytes(const struct st_out *t) {
    int64_t n = (int64_t)kern_dtype_size(t->dtype);
    for (int i = 0; i < t->rank; i++)
        n *= t->shape[i];
    return n;
}

static json_t *st_out_header(const struct st_out *t, const int *order, int n,
                             const struct st_meta_kv *meta, int n_meta) {
    json_t *h = json_object();
    int64_t at = 0;
    if (n_meta > 0) {
        json_t *m = json_object();
        for (int i = 0; i < n_meta; i++)
            json_object_set_new(m, meta[i].key, json_string(meta[i].value));
        json_object_set_new(h, "__metadata__", m);
    }
    for (int i = 0; i < n; i++) {
        const struct st_out *o = &t[order[i]];
        json_t *shape = json_array();
        for (int d = 0; d < o->rank; d++)
            json_array_append_new(shape, json_integer(o->shape[d]));
        int64_t end = at + st_out_bytes(o);
        json_object_set_new(h, o->name,
                            json_pack("{s:s, s:o, s:[I,I]}", "dtype",
                                      st_dtype_name(o->dtype), "shape", shape,
                                      "data_offsets", (json_int_t)at,
                                      (json_int_t)end));
        at = end;
    }
    return h;
}

static int st_put(int fd, const void *data, size_t n, const char *path,
                  struct err *err) {
    for (const char *p = data; n > 0;) {
        ssize_t w = write(fd, p, n);
        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0)
            return err_sys(err, "write %s", path);
        p += w;
        n -= (size_t)w;
    }
    return 0;
}

static int *st_order(const struct st_out *t, int n) {
    int *order = calloc((size_t)n + 1, sizeof *order);
    CHECK(order, "out of memory for %d tensors", n);
    for (int i = 0; i < n; i++) { /* insertion: n is small or sorted */
        int j = i;
        for (; j > 0 && strcmp(t[order[j - 1]].name, t[i].name) > 0; j--)
            order[j] = order[j - 1];
        order[j] = i;
    }
    return order;
}

int st_write(const char *path, const struct st_out *t, int n,
             const struct st_meta_kv *meta, int n_meta, st_fill_fn *fill,
             void *arg, struct err *err) {
    int *order = st_order(t, n), rc = -1, fd = -1;
    json_t *h = st_out_header(t, order, n, meta, n_meta);
    char *text = json_dumps(h, JSON_COMPACT | JSON_PRESERVE_ORDER);
    void *data = NULL;
    int64_t big = 0;
    CHECK(text, "out of memory for a header");
    size_t len = strlen(text), pad = (8 - len % 8) % 8;
    uint8_t head[8];
    for (int i = 0; i < 8; i++)
        head[i] = (uint8_t)((uint64_t)(len + pad) >> (8 * i));
    for (int i = 0; i < n; i++)
        big = st_out_bytes(&t[i]) > big ? st_out_bytes(&t[i]) : big;
    data = malloc((size_t)big + 1);
    if (!data) {
        err_set(err, ERR_NOMEM, "write %s: no memory for %lld bytes", path,
                (long long)big);
        goto out;
    }
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        err_sys(err, "write %s", path);
        goto out;
    }
    if (st_put(fd, head, 8, path, err) < 0 ||
        st_put(fd, text, len, path, err) < 0 ||
        st_put(fd, "        ", pad, path, err) < 0)
        goto out;
    for (int i = 0; i < n; i++)
        if (fill(arg, order[i], data, err) < 0 ||
            st_put(fd, data, (size_t)st_out_bytes(&t[order[i]]), path, err) < 0)
            goto out;
    rc = fsync(fd) < 0 ? err_sys(err, "write %s", path) : 0;
out:
    if (fd >= 0 && close(fd) < 0 && rc == 0)
        rc = err_sys(err, "write %s", path);
    free(data);
    free(text);
    json_decref(h);
    free(order);
    return rc;
}
