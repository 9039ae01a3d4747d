/*
 * fs - files: paths, whole reads, atomic writes, durable directories.
 *
 * Everything that fettle writes is either appended by SQLite or committed by
 * fs_write_atomic() / fs_dir_commit(): temporary name, fsync, rename, fsync
 * of the parent. A path returned as char * is the caller's; free() it.
 * Any thread.
 */
#ifndef FETTLE_CORE_FS_H
#define FETTLE_CORE_FS_H

#include "core/err.h"

#include <stdint.h>

/* printf into a fresh heap string; aborts only when out of memory. */
char *fs_path(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Home directory: `arg` if not NULL, else $FETTLE_HOME, else
 * $XDG_DATA_HOME/fettle, else ~/.local/share/fettle; absolute. Created 0700
 * with its folders (run models ckpt journal crash log). NULL on failure. */
char *fs_home(const char *arg, struct err *err);

/* mkdir -p, mode 0700 for what is created. */
int fs_mkdirs(const char *path, struct err *err);
bool fs_exists(const char *path);
int64_t fs_size(const char *path); /* bytes, -1 when absent */
/* rm -r; absent is fine; symbolic links are removed, never followed. */
int fs_remove_tree(const char *path, struct err *err);
int fs_copy_file(const char *from, const char *to, struct err *err);

/* The whole file with a 0 behind it; at most `max` bytes, else TOOBIG; INVAL
 * when it is none: a pipe in a stranger's directory would be waited for. */
char *fs_read(const char *path, size_t max, size_t *len, struct err *err);
/* The same, or all that a pipe or a terminal gives. */
char *fs_read_any(const char *path, size_t max, size_t *len, struct err *err);
/* A regular file, to be read; -1 when it is something else. CLOEXEC. */
int fs_open_file(const char *path, struct err *err);
/* Replaces `path` atomically and durably, mode 0600. */
int fs_write_atomic(const char *path, const void *data, size_t len,
                    struct err *err);
int fs_fsync_path(const char *path, struct err *err); /* file or directory */

/* A finished directory `tmp` (its files are fsynced) becomes `path`; EXISTS
 * when that is taken. Both have the same parent, which is fsynced. */
int fs_dir_commit(const char *tmp, const char *path, struct err *err);

/* Hex SHA-256, 64 characters and a 0. */
void fs_sha256(const void *data, size_t len, char hex[65]);
int fs_sha256_file(const char *path, char hex[65], struct err *err);

/* An exclusive flock on `path` (created), held until the fd is closed; -1 and
 * BUSY at once when another process holds it. CLOEXEC. */
int fs_lock(const char *path, struct err *err);

/* A name that may become a path component, a run's or a checkpoint's name:
 * [A-Za-z0-9][A-Za-z0-9_.-]{0,127} without "..". Errors say `what`. */
int fs_check_name(const char *what, const char *name, struct err *err);

#endif
