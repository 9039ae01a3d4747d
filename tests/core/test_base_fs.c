/* Files: atomic writes, committed directories, locks, names, hashes. */
#include "core/fs.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

Suite *base_fs_suite(void);

static char dir[64];

static void setup(void) {
    snprintf(dir, sizeof dir, "/tmp/fettle-fs-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void teardown(void) {
    struct err err = {0};
    fs_remove_tree(dir, &err);
}

START_TEST(fs_write_atomic_replaces_and_leaves_no_temporary) {
    struct err err = {0};
    char *path = fs_path("%s/f", dir);
    ck_assert_int_eq(fs_write_atomic(path, "one", 3, &err), 0);
    ck_assert_int_eq(fs_write_atomic(path, "two!", 4, &err), 0);
    size_t len;
    char *got = fs_read(path, 100, &len, &err);
    ck_assert_str_eq(got, "two!");
    ck_assert_uint_eq(len, 4);
    char *tmp = fs_path("%s.tmp-%d", path, (int)getpid());
    ck_assert(!fs_exists(tmp));
    free(tmp);
    free(got);
    free(path);
}
END_TEST

START_TEST(fs_read_refuses_too_big_missing_and_directories) {
    struct err a = {0}, b = {0}, c = {0};
    char *path = fs_path("%s/f", dir);
    fs_write_atomic(path, "12345", 5, &a);
    ck_assert_ptr_null(fs_read(path, 4, NULL, &a));
    ck_assert_int_eq(a.code, ERR_TOOBIG);
    ck_assert_ptr_null(fs_read("/nonexistent/x", 4, NULL, &b));
    ck_assert_int_eq(b.code, ERR_NOTFOUND);
    ck_assert_ptr_null(fs_read(dir, 4, NULL, &c));
    ck_assert_int_eq(c.code, ERR_INVAL);
    free(path);
}
END_TEST

/* As `--messages <(command)` does; one byte too many is told. */
START_TEST(fs_read_takes_all_that_a_pipe_gives) {
    struct err err = {0};
    int fd[2];
    char *text = malloc(50000), path[64];
    memset(text, 'x', 50000);
    ck_assert_int_eq(pipe(fd), 0);
    ck_assert_int_eq(write(fd[1], text, 50000), 50000);
    close(fd[1]);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd[0]);
    size_t len;
    char *got = fs_read_any(path, 50000, &len, &err);
    ck_assert_msg(got && len == 50000 && strlen(got) == len, "%s", err.msg);
    free(got);
    close(fd[0]);
    ck_assert_int_eq(pipe(fd), 0);
    ck_assert_int_eq(write(fd[1], text, 50000), 50000);
    close(fd[1]);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd[0]);
    ck_assert_ptr_null(fs_read_any(path, 49999, &len, &err));
    ck_assert_int_eq(err.code, ERR_TOOBIG);
    close(fd[0]);
    free(text);
}
END_TEST

/* More than a pipe holds, in pieces that end anywhere. */
START_TEST(fs_read_takes_all_of_a_long_pipe) {
    enum { PIECE = 30011, N = 40 };
    struct err err = {0};
    int fd[2], status;
    char *text = malloc(PIECE), path[64];
    memset(text, 'x', PIECE);
    ck_assert_int_eq(pipe(fd), 0);
    pid_t pid = fork();
    if (pid == 0) {
        for (int i = 0; i < N; i++)
            if (write(fd[1], text, PIECE) != PIECE)
                _exit(1);
        _exit(0);
    }
    close(fd[1]);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd[0]);
    size_t len;
    char *got = fs_read_any(path, N * PIECE, &len, &err);
    ck_assert_msg(got && len == N * PIECE && strlen(got) == len, "%s", err.msg);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    close(fd[0]);
    free(got);
    free(text);
}
END_TEST

START_TEST(fs_read_does_not_wait_for_a_pipe_in_a_directory) {
    struct err err = {0}, not_open = {0};
    char *path = fs_path("%s/config.json", dir);
    size_t len;
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    ck_assert_ptr_null(fs_read(path, 100, &len, &err));
    ck_assert_msg(strstr(err.msg, "not a regular file") != NULL, "%s", err.msg);
    ck_assert_int_eq(fs_open_file(path, &not_open), -1);
    ck_assert_int_eq(not_open.code, ERR_INVAL);
    unlink(path);
    free(path);
}
END_TEST

START_TEST(fs_dir_commit_refuses_to_replace) {
    struct err err = {0};
    char *tmp = fs_path("%s/.tmp", dir), *dst = fs_path("%s/final", dir);
    fs_mkdirs(tmp, &err);
    ck_assert_int_eq(fs_dir_commit(tmp, dst, &err), 0);
    ck_assert(fs_exists(dst) && !fs_exists(tmp));
    fs_mkdirs(tmp, &err);
    ck_assert_int_eq(fs_dir_commit(tmp, dst, &err), -1);
    ck_assert_int_eq(err.code, ERR_EXISTS);
    free(tmp);
    free(dst);
}
END_TEST

START_TEST(fs_remove_tree_does_not_follow_links) {
    struct err err = {0};
    char *keep = fs_path("%s/keep", dir), *t = fs_path("%s/t/sub", dir);
    char *link = fs_path("%s/t/sub/link", dir), *top = fs_path("%s/t", dir);
    fs_write_atomic(keep, "x", 1, &err);
    fs_mkdirs(t, &err);
    ck_assert_int_eq(symlink(dir, link), 0);
    ck_assert_int_eq(fs_remove_tree(top, &err), 0);
    ck_assert(fs_exists(keep) && !fs_exists(top));
    free(keep);
    free(t);
    free(link);
    free(top);
}
END_TEST

START_TEST(fs_lock_is_exclusive_until_closed) {
    struct err err = {0}, busy = {0};
    char *path = fs_path("%s/lock", dir);
    int a = fs_lock(path, &err);
    ck_assert_int_ge(a, 0);
    ck_assert_int_eq(fs_lock(path, &busy), -1);
    ck_assert_int_eq(busy.code, ERR_BUSY);
    close(a);
    int b = fs_lock(path, &err);
    ck_assert_int_ge(b, 0);
    close(b);
    free(path);
}
END_TEST

START_TEST(fs_check_name_takes_names_and_refuses_paths) {
    static const char *good[] = {"a", "final", "step-20", "1_x.y"};
    static const char *bad[] = {"",   "..",   "a/b", "-x",
                                ".x", "a..b", "ä",   "a b"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct err err = {0};
        ck_assert_int_eq(fs_check_name("run", good[i], &err), 0);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err err = {0};
        ck_assert_int_eq(fs_check_name("run", bad[i], &err), -1);
    }
}
END_TEST

START_TEST(fs_sha256_matches_the_standard_vector) {
    struct err err = {0};
    char hex[65], file[65];
    fs_sha256("abc", 3, hex);
    ck_assert_str_eq(hex, "ba7816bf8f01cfea414140de5dae2223"
                          "b00361a396177a9cb410ff61f20015ad");
    char *path = fs_path("%s/abc", dir);
    fs_write_atomic(path, "abc", 3, &err);
    ck_assert_int_eq(fs_sha256_file(path, file, &err), 0);
    ck_assert_str_eq(hex, file);
    free(path);
}
END_TEST

Suite *base_fs_suite(void) {
    Suite *s = suite_create("fs");
    TCase *tc = tcase_create("fs");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, fs_write_atomic_replaces_and_leaves_no_temporary);
    tcase_add_test(tc, fs_read_refuses_too_big_missing_and_directories);
    tcase_add_test(tc, fs_read_takes_all_that_a_pipe_gives);
    tcase_add_test(tc, fs_read_takes_all_of_a_long_pipe);
    tcase_add_test(tc, fs_read_does_not_wait_for_a_pipe_in_a_directory);
    tcase_add_test(tc, fs_dir_commit_refuses_to_replace);
    tcase_add_test(tc, fs_remove_tree_does_not_follow_links);
    tcase_add_test(tc, fs_lock_is_exclusive_until_closed);
    tcase_add_test(tc, fs_check_name_takes_names_and_refuses_paths);
    tcase_add_test(tc, fs_sha256_matches_the_standard_vector);
    suite_add_tcase(s, tc);
    return s;
}
