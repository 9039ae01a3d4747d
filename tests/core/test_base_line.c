/* Lines of files. */
#include "core/line.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

Suite *base_line_suite(void);

#define MAX 200000

static int file_of(const char *data, size_t len) {
    int fd = memfd_create("lines", 0);
    ck_assert_int_eq((int)write(fd, data, len), (int)len);
    ck_assert_int_eq((int)lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

START_TEST(lines_come_one_by_one_with_their_numbers) {
    static const char text[] = "\xef\xbb\xbfone\n\n\0b\r\nlast";
    static const struct {
        const char *s;
        size_t len;
    } want[] = {{"one", 3}, {"", 0}, {"\0b\r", 3}, {"last", 4}};
    struct err err = {0};
    struct lines l;
    int fd = file_of(text, sizeof text - 1);
    lines_init(&l, fd, "f", MAX);
    for (size_t i = 0; i < 4; i++) {
        ck_assert_int_eq(lines_next(&l, &err), 1);
        ck_assert_uint_eq(l.number, i + 1);
        ck_assert_uint_eq(l.len, want[i].len);
        ck_assert_int_eq(memcmp(l.line, want[i].s, l.len), 0);
    }
    ck_assert_int_eq(lines_next(&l, &err), 0);
    lines_release(&l);
    close(fd);
}
END_TEST

/* around the sizes at which the buffer is filled */
START_TEST(lines_of_all_lengths_come_whole_and_longer_ones_are_skipped) {
    static const size_t lens[] = {0,       1,       65535,  65536,   65537,
                                  131071,  131072,  131073, MAX - 1, MAX,
                                  MAX + 1, 3 * MAX, 5};
    size_t n = sizeof lens / sizeof *lens, all = 0;
    char *text = malloc(10 * MAX);
    struct err err = {0};
    struct lines l;
    for (size_t i = 0; i < n; i++) {
        memset(text + all, 'a' + (int)i, lens[i]);
        all += lens[i];
        text[all++] = '\n';
    }
    int fd = file_of(text, all);
    lines_init(&l, fd, "f", MAX);
    for (size_t i = 0; i < n; i++) {
        ck_assert_int_eq(lines_next(&l, &err), 1);
        ck_assert_int_eq(l.line != NULL, lens[i] <= MAX);
        if (!l.line)
            continue;
        ck_assert_uint_eq(l.len, lens[i]);
        for (size_t k = 0; k < l.len; k++)
            ck_assert_int_eq(l.line[k], 'a' + (int)i);
    }
    ck_assert_int_eq(lines_next(&l, &err), 0);
    lines_release(&l);
    close(fd);
    free(text);
}
END_TEST

START_TEST(lines_of_a_pipe_do_not_wait_for_the_next) {
    struct err err = {0};
    struct lines l;
    int p[2];
    ck_assert_int_eq(pipe(p), 0);
    ck_assert_int_eq((int)write(p[1], "a\nb", 3), 3);
    lines_init(&l, p[0], "f", MAX);
    ck_assert_int_eq(lines_next(&l, &err), 1);
    ck_assert_int_eq(l.line[0], 'a');
    close(p[1]);
    ck_assert_int_eq(lines_next(&l, &err), 1);
    ck_assert_int_eq(l.line[0], 'b');
    lines_release(&l);
    close(p[0]);
}
END_TEST

START_TEST(lines_name_what_cannot_be_read) {
    struct err err = {0};
    struct lines l;
    lines_init(&l, -1, "data", MAX);
    ck_assert_int_eq(lines_next(&l, &err), -1);
    ck_assert_str_eq(err.msg, "read data: Bad file descriptor");
    lines_release(&l);
}
END_TEST

Suite *base_line_suite(void) {
    Suite *s = suite_create("base_line");
    TCase *tc = tcase_create("line");
    tcase_add_test(tc, lines_come_one_by_one_with_their_numbers);
    tcase_add_test(tc,
                   lines_of_all_lengths_come_whole_and_longer_ones_are_skipped);
    tcase_add_test(tc, lines_of_a_pipe_do_not_wait_for_the_next);
    tcase_add_test(tc, lines_name_what_cannot_be_read);
    suite_add_tcase(s, tc);
    return s;
}
