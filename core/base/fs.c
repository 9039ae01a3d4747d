/* fs: durable files. Invariant: a final name never shows a half-written file.
 */
#include "core/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIPE_CAP 65536 /* first guess of what a pipe holds */

static const char *const fs_home_dirs[] = {
    "run", "models", "ckpt", "journal", "crash", "log",
};

char *fs_path(const char *fmt, ...) {
    char *s = NULL;
    va_list ap;
    va_start(ap, fmt);
    int n = vasprintf(&s, fmt, ap);
    va_end(ap);
    CHECK(n >= 0, "out of memory for a path");
    return s;
}

static char *fs_home_path(const char *arg) {
    const char *env = getenv("FETTLE_HOME"), *data = getenv("XDG_DATA_HOME");
    const char *home = getenv("HOME");
    if (arg && *arg)
        return fs_path("%s", arg);
    if (env && *env)
        return fs_path("%s", env);
    if (data && *data)
        return fs_path("%s/fettle", data);
    return home && *home ? fs_path("%s/.local/share/fettle", home) : NULL;
}

static int fs_check_private(const char *path, struct err *err) {
    struct stat st;
    if (stat(path, &st) < 0)
        return err_sys(err, "home %s", path);
    if (!S_ISDIR(st.st_mode))
        return err_set(err, ERR_CONFIG, "home %s: not a directory", path);
    if (st.st_uid != geteuid())
        return err_set(err, ERR_PERM, "home %s: belongs to another user", path);
    return 0;
}

char *fs_home(const char *arg, struct err *err) {
    char *path = fs_home_path(arg), *real = NULL;
    if (!path) {
        err_set(err, ERR_CONFIG,
                "home: neither HOME nor FETTLE_HOME is set (use --home DIR)");
        return NULL;
    }
    if (fs_mkdirs(path, err) < 0 || fs_check_private(path, err) < 0)
        goto out;
    real = realpath(path, NULL);
    if (!real) {
        err_sys(err, "home %s", path);
        goto out;
    }
    for (size_t i = 0; i < sizeof fs_home_dirs / sizeof *fs_home_dirs; i++) {
        char *dir = fs_path("%s/%s", real, fs_home_dirs[i]);
        int rc = fs_mkdirs(dir, err);
        free(dir);
        if (rc < 0) {
            free(real);
            real = NULL;
            goto out;
        }
    }
out:
    free(path);
    return real;
}

int fs_mkdirs(const char *path, struct err *err) {
    char *p = fs_path("%s", path);
    int rc = 0;
    for (char *s = p + 1; rc == 0; s++) {
        if (*s != '/' && *s != 0)
            continue;
        char c = *s;
        *s = 0;
        if (mkdir(p, 0700) < 0 && errno != EEXIST)
            rc = err_sys(err, "create directory %s", p);
        *s = c;
        if (c == 0)
            break;
    }
    struct stat st;
    if (rc == 0 && (stat(path, &st) < 0 || !S_ISDIR(st.st_mode)))
        rc = err_set(err, ERR_IO, "create directory %s: a file is in the way",
                     path);
    free(p);
    return rc;
}

bool fs_exists(const char *path) {
    struct stat st;
    return stat(path, &st) == 0;
}

int64_t fs_size(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 ? (int64_t)st.st_size : -1;
}

int fs_remove_tree(const char *path, struct err *err) {
    struct stat st;
    if (lstat(path, &st) < 0)
        return errno == ENOENT ? 0 : err_sys(err, "remove %s", path);
    if (!S_ISDIR(st.st_mode))
        return unlink(path) < 0 ? err_sys(err, "remove %s", path) : 0;
    DIR *d = opendir(path);
    if (!d)
        return err_sys(err, "remove %s", path);
    int rc = 0;
    for (struct dirent *e; rc == 0 && (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        char *sub = fs_path("%s/%s", path, e->d_name);
        rc = fs_remove_tree(sub, err);
        free(sub);
    }
    closedir(d);
    if (rc == 0 && rmdir(path) < 0)
        rc = err_sys(err, "remove %s", path);
    return rc;
}

static int fs_write_all(int fd, const char *data, size_t len) {
    while (len > 0) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

int fs_copy_file(const char *from, const char *to, struct err *err) {
    char chunk[1 << 16];
    int rc = -1, out = -1, in = open(from, O_RDONLY | O_CLOEXEC);
    if (in < 0)
        return err_sys(err, "copy %s", from);
    out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (out < 0) {
        err_sys(err, "copy to %s", to);
        goto out;
    }
    for (;;) {
        ssize_t n = read(in, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            err_sys(err, "copy %s", from);
            goto out;
        }
        if (n == 0)
            break;
        if (fs_write_all(out, chunk, (size_t)n) < 0) {
            err_sys(err, "copy to %s", to);
            goto out;
        }
    }
    rc = fsync(out) < 0 ? err_sys(err, "copy to %s", to) : 0;
out:
    if (out >= 0)
        close(out);
    close(in);
    if (rc < 0 && out >= 0)
        unlink(to);
    return rc;
}

/* What fd gives until its end; `size` is what a file says it has, 0 of a pipe.
 * One byte more than max is asked for, to know. */
static char *read_all(int fd, const char *path, size_t size, size_t max,
                      size_t *len, struct err *err) {
    size_t n = 0, cap = size ? size : PIPE_CAP;
    char *data = NULL;
    for (ssize_t r = 1; r != 0 && !(size && n == size);) {
        if (!data || n == cap) {
            if (data)
                cap = cap < max / 2 ? cap * 2 : max + 1;
            char *more = realloc(data, cap + 1);
            if (!more) {
                free(data);
                err_set(err, ERR_NOMEM, "read %s: no memory for %zu bytes",
                        path, cap);
                return NULL;
            }
            data = more;
        }
        r = read(fd, data + n, cap - n);
        if (r < 0 && errno != EINTR) {
            err_sys(err, "read %s", path);
            free(data);
            return NULL;
        }
        n += r > 0 ? (size_t)r : 0;
        if (n > max) {
            err_set(err, ERR_TOOBIG, "read %s: at most %zu bytes are taken",
                    path, max);
            free(data);
            return NULL;
        }
    }
    data[n] = 0;
    *len = n;
    return data;
}

/* flags: O_NONBLOCK when it has to be a file, so that nothing waits. */
static char *read_path(const char *path, int flags, size_t max, size_t *len,
                       struct err *err) {
    char *data = NULL;
    size_t n;
    int fd = open(path, O_RDONLY | O_CLOEXEC | flags);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        err_sys(err, "read %s", path);
    else if (S_ISDIR(st.st_mode))
        err_set(err, ERR_INVAL, "read %s: is a directory", path);
    else if (flags && !S_ISREG(st.st_mode))
        err_set(err, ERR_INVAL, "read %s: is not a regular file", path);
    else if (S_ISREG(st.st_mode) && (uint64_t)st.st_size > max)
        err_set(err, ERR_TOOBIG, "read %s: %lld bytes, at most %zu are taken",
                path, (long long)st.st_size, max);
    else
        data = read_all(fd, path, S_ISREG(st.st_mode) ? (size_t)st.st_size : 0,
                        max, &n, err);
    if (fd >= 0)
        close(fd);
    if (data && len)
        *len = n;
    return data;
}

char *fs_read(const char *path, size_t max, size_t *len, struct err *err) {
    return read_path(path, O_NONBLOCK, max, len, err);
}

char *fs_read_any(const char *path, size_t max, size_t *len, struct err *err) {
    return read_path(path, 0, max, len, err);
}

int fs_open_file(const char *path, struct err *err) {
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        return fd;
    if (fd < 0)
        return err_sys(err, "open %s", path);
    close(fd);
    return err_set(err, ERR_INVAL, "open %s: is not a regular file", path);
}

static char *fs_parent(const char *path) {
    const char *slash = strrchr(path, '/');
    if (!slash)
        return fs_path(".");
    return slash == path ? fs_path("/")
                         : fs_path("%.*s", (int)(slash - path), path);
}

static int fs_fsync_parent(const char *path, struct err *err) {
    char *dir = fs_parent(path);
    int rc = fs_fsync_path(dir, err);
    free(dir);
    return rc;
}

int fs_fsync_path(const char *path, struct err *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, "sync %s", path);
    int rc = fsync(fd) < 0 ? err_sys(err, "sync %s", path) : 0;
    close(fd);
    return rc;
}

int fs_write_atomic(const char *path, const void *data, size_t len,
                    struct err *err) {
    char *tmp = fs_path("%s.tmp-%d", path, (int)getpid());
    int rc = -1;
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        err_sys(err, "write %s", path);
        goto out;
    }
    bool ok = fs_write_all(fd, data, len) == 0 && fsync(fd) == 0;
    if (!ok)
        err_sys(err, "write %s", path);
    if (close(fd) < 0 && ok) {
        err_sys(err, "write %s", path);
        ok = false;
    }
    if (ok && rename(tmp, path) < 0) {
        err_sys(err, "write %s", path);
        ok = false;
    }
    if (!ok) {
        unlink(tmp);
        goto out;
    }
    rc = fs_fsync_parent(path, err);
out:
    free(tmp);
    return rc;
}

int fs_dir_commit(const char *tmp, const char *path, struct err *err) {
    if (fs_fsync_path(tmp, err) < 0)
        return err_ctx(err, "commit %s", path);
    if (renameat2(AT_FDCWD, tmp, AT_FDCWD, path, RENAME_NOREPLACE) < 0) {
        /* A file system without the flag; mkdir's own check stands in. */
        if (errno != EINVAL || fs_exists(path) || rename(tmp, path) < 0)
            return err_sys(err, "commit %s", path);
    }
    return fs_fsync_parent(path, err);
}

static void fs_hex(const unsigned char *md, char hex[65]) {
    for (int i = 0; i < 32; i++)
        snprintf(hex + 2 * i, 3, "%02x", md[i]);
}

void fs_sha256(const void *data, size_t len, char hex[65]) {
    unsigned char md[EVP_MAX_MD_SIZE];
    int ok = EVP_Digest(data, len, md, NULL, EVP_sha256(), NULL);
    CHECK(ok == 1, "SHA-256 failed");
    fs_hex(md, hex);
}

int fs_sha256_file(const char *path, char hex[65], struct err *err) {
    unsigned char md[EVP_MAX_MD_SIZE];
    char chunk[1 << 16];
    int rc = -1, fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, "hash %s", path);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    CHECK(ctx && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL), "SHA-256 failed");
    for (;;) {
        ssize_t n = read(fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            err_sys(err, "hash %s", path);
            goto out;
        }
        if (n == 0)
            break;
        EVP_DigestUpdate(ctx, chunk, (size_t)n);
    }
    EVP_DigestFinal_ex(ctx, md, NULL);
    fs_hex(md, hex);
    rc = 0;
out:
    EVP_MD_CTX_free(ctx);
    close(fd);
    return rc;
}

int fs_lock(const char *path, struct err *err) {
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_sys(err, "lock %s", path);
    if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        return fd;
    if (errno == EWOULDBLOCK)
        err_set(err, ERR_BUSY, "lock %s: held by another process", path);
    else
        err_sys(err, "lock %s", path);
    close(fd);
    return -1;
}

static bool fs_name_char(char c, bool first) {
    bool alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                 (c >= '0' && c <= '9');
    return alnum || (!first && (c == '_' || c == '.' || c == '-'));
}

int fs_check_name(const char *what, const char *name, struct err *err) {
    size_t n = name ? strlen(name) : 0;
    bool ok = n >= 1 && n <= 128 && !strstr(name, "..");
    for (size_t i = 0; ok && i < n; i++)
        ok = fs_name_char(name[i], i == 0);
    if (ok)
        return 0;
    return err_set(err, ERR_INVAL,
                   "%s '%.64s': 1 to 128 of letters, digits, '_', '.', '-', "
                   "a letter or digit first",
                   what, name ? name : "");
}
