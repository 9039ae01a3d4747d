/*
 * blob - bytes above STORE_INLINE_MAX live in DIR/journal as files: written
 * and synced first, then the row, so a crash leaves a file that no row names
 * (swept at the next start) and never a row whose file is missing.
 */
#include "store/db.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_CAP 4200
#define TMP_NAME "writing.tmp" /* one writer, one file at a time */

int64_t blob_sum(const void *p, size_t len) {
    const unsigned char *b = p;
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < len; i++)
        h = (h ^ b[i]) * 0x100000001b3u;
    return (int64_t)h;
}

static void path_of(const struct store *st, const char *name, char *path) {
    snprintf(path, PATH_CAP, "%s/journal/%s", st->dir, name);
}

/* ---- lists of names ---- */

static int names_add(struct store *st, struct names *l, const char *name) {
    if (l->n == l->cap) {
        int cap = l->cap ? l->cap * 2 : 8;
        char **v = realloc(l->v, (size_t)cap * sizeof *v);
        if (!v)
            return db_err(st, STORE_NOMEM, "out of memory");
        l->v = v;
        l->cap = cap;
    }
    l->v[l->n] = strdup(name);
    if (!l->v[l->n])
        return db_err(st, STORE_NOMEM, "out of memory");
    l->n++;
    return STORE_OK;
}

/* Down to the first `keep`. */
static void names_drop(struct store *st, struct names *l, int keep,
                       bool unlink_them) {
    char path[PATH_CAP];
    while (l->n > keep) {
        path_of(st, l->v[--l->n], path);
        if (unlink_them)
            unlink(path); /* what stays is swept at the next start */
        free(l->v[l->n]);
    }
}

void blobs_undo(struct store *st) {
    names_drop(st, &st->born, st->born_mark, true);
    names_drop(st, &st->doomed, st->doomed_mark, false);
}

/* What is left in doubt is swept at the next start. */
void blobs_settle(struct store *st, enum tx_end end) {
    names_drop(st, &st->born, 0, end == TX_UNDONE);
    names_drop(st, &st->doomed, 0, end == TX_COMMITTED);
}

int blob_doom(struct store *st, const char *name) {
    return names_add(st, &st->doomed, name);
}

/* ---- files ---- */

static int write_all(int fd, const char *p, size_t len) {
    while (len > 0) {
        ssize_t n = write(fd, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

static int sync_dir(struct store *st) {
    char path[PATH_CAP];
    path_of(st, "", path);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = 0;
    if (fd < 0 || fsync(fd) < 0)
        rc = db_sys_err(st, errno, path);
    if (fd >= 0)
        close(fd);
    return rc;
}

int blob_write(struct store *st, const char *name, const void *p, size_t len) {
    char tmp[PATH_CAP], path[PATH_CAP];
    path_of(st, TMP_NAME, tmp);
    path_of(st, name, path);
    int fd =
        open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return db_sys_err(st, errno, tmp);
    int rc = 0;
    if (write_all(fd, p, len) < 0 || fsync(fd) < 0)
        rc = db_sys_err(st, errno, path);
    if (close(fd) < 0 && rc == 0)
        rc = db_sys_err(st, errno, path);
    if (rc == 0)
        rc = names_add(st, &st->born, name);
    if (rc == 0 && rename(tmp, path) < 0)
        rc = db_sys_err(st, errno, path);
    if (rc == 0)
        return sync_dir(st);
    unlink(tmp);
    return rc;
}

static int read_all(int fd, char *p, size_t len) {
    while (len > 0) {
        ssize_t n = read(fd, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

int blob_read(struct store *st, const char *name, size_t len, struct rows *r,
              const void **p) {
    char path[PATH_CAP];
    struct stat s;
    path_of(st, name, path);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return db_err(st, STORE_CORRUPT, "%s: %s", path, strerror(errno));
    int rc = STORE_OK;
    char *data = NULL;
    if (fstat(fd, &s) < 0)
        rc = db_sys_err(st, errno, path);
    else if ((size_t)s.st_size != len)
        rc = db_err(st, STORE_CORRUPT, "%s has %lld bytes, not %zu", path,
                    (long long)s.st_size, len);
    else if (!(data = rows_alloc(r, len)))
        rc = db_err(st, STORE_NOMEM, "out of memory");
    else if (read_all(fd, data, len) < 0)
        rc = db_sys_err(st, errno ? errno : EIO, path);
    close(fd);
    *p = data;
    return rc;
}

/* ---- the sweep ---- */

/* "m12-345.op" names the payload of (12, 345), ".res" its result. */
static int is_named(struct store *st, const char *file, bool *named) {
    long long model, seq;
    int end = 0;
    *named = false;
    if (sscanf(file, "m%18lld-%18lld%n", &model, &seq, &end) != 2)
        return STORE_OK;
    int64_t one;
    int rc = STORE_NOTFOUND;
    if (strcmp(file + end, ".op") == 0)
        rc = db_int(st, &one,
                    "SELECT 1 FROM op WHERE model=? AND seq=? AND place=2",
                    "ll", (int64_t)model, (int64_t)seq);
    else if (strcmp(file + end, ".res") == 0)
        rc = db_int(st, &one,
                    "SELECT 1 FROM op WHERE model=? AND seq=?"
                    " AND result_place=2",
                    "ll", (int64_t)model, (int64_t)seq);
    *named = rc == STORE_OK;
    return rc == STORE_NOTFOUND ? STORE_OK : rc;
}

int blobs_sweep(struct store *st) {
    char path[PATH_CAP];
    path_of(st, "", path);
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return db_sys_err(st, errno, path);
    DIR *d = opendir(path);
    if (!d)
        return db_sys_err(st, errno, path);
    int rc = STORE_OK;
    struct dirent *e;
    while (rc == STORE_OK && (e = readdir(d))) {
        bool named;
        if (e->d_name[0] == '.')
            continue;
        rc = is_named(st, e->d_name, &named);
        if (rc == STORE_OK && !named)
            unlinkat(dirfd(d), e->d_name, 0);
    }
    closedir(d);
    return rc;
}
