/* rows: files of damaged data lines, read as training and its check do. */
#include "tests/fuzz/fuzz.h"

#include "core/err.h"
#include "core/text.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define DIR "core/starter/model"
#define MAX_LENGTH 48 /* short, so that rows are cut */

static void check(const char *path, const struct check_conf *c) {
    struct err err = {0}, why = {0};
    struct dataset rows;
    json_t *j = data_check(path, c, &err);
    if (!j) { /* nothing but blank lines */
        CHECK(err.code && dataset_read(&rows, path, &c->row, &why) < 0,
              "rows that the check does not see");
        return;
    }
    json_int_t fatal = json_integer_value(json_object_get(j, "fatal"));
    if (dataset_read(&rows, path, &c->row, &why) == 0) {
        CHECK(fatal == 0, "training takes what the check refuses");
        dataset_release(&rows);
    } else {
        json_int_t n = json_integer_value(json_object_get(j, "rows"));
        CHECK(why.code, "a refusal without a reason");
        CHECK(fatal > 0 || n == 0 || why.code == ERR_UNSUPPORTED,
              "training refuses what the check takes: %s", why.msg);
    }
    json_decref(j);
}

/* Opened once: that takes longer than a hundred inputs. */
static const struct row_conf *rows_conf(void) {
    static struct row_conf c = {
        .on = TRAIN_ALL_ASSISTANT, .format = -1, .max_length = MAX_LENGTH};
    struct err err = {0};
    if (!c.render) {
        c.tok = tok_open(DIR, &err);
        c.render = c.tok ? render_open("auto", c.tok, DIR, &err) : NULL;
        CHECK(c.render, "%s (run from the root of the tree)", err.msg);
        c.vocab = tok_size(c.tok);
    }
    return &c;
}

static int rows_run(const uint8_t *data, size_t len) {
    char path[64];
    struct check_conf c = {.row = *rows_conf(), .list_most = 3};
    int fd = memfd_create("rows", 0);
    CHECK(fd >= 0 && write(fd, data, len) == (ssize_t)len, "no file of rows");
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    c.eval = len % 2 ? path : NULL;
    check(path, &c);
    close(fd);
    return 0;
}

static const char *const seeds[] = {
    "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":"
    "\"assistant\",\"content\":\"b\",\"weight\":1}],\"tools\":[]}\n",
    "{\"conversations\":[{\"from\":\"human\",\"value\":\"a\"},{\"from\":"
    "\"gpt\",\"value\":\"b\"}]}\n\n{\"text\":\"one two three\"}\n",
    "{\"instruction\":\"a\",\"input\":\"b\",\"output\":\"c\"}\n"
    "{\"prompt\":\"a\",\"completion\":\"b\"}\n",
    "{\"prompt\":[{\"role\":\"user\",\"content\":\"a\"}],\"completion\":[{"
    "\"role\":\"assistant\",\"content\":\"b\"}]}\n",
    "{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"c\"}\n"
    "{\"chosen\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":"
    "\"assistant\",\"content\":\"b\"}],\"rejected\":[{\"role\":\"user\","
    "\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"c\"}]}\n",
    "{\"prompt\":\"a\",\"answer\":\"b\"}\n{\"messages\":[{\"role\":\"user\","
    "\"content\":\"a\"}],\"ground_truth\":\"4\"}\n",
    "{\"tokens\":[1,2,3],\"weights\":[0,1,0.5]}\r\n{\"tokens\":[1,2,3]}\n"};

static void rows_seeds(fuzz_seed_fn *add, void *arg) {
    for (size_t i = 0; i < sizeof seeds / sizeof *seeds; i++)
        add(arg, seeds[i], strlen(seeds[i]));
}

static const char *const words[] = {"{",
                                    "}",
                                    "[",
                                    "]",
                                    "\n",
                                    "null",
                                    "\"messages\":",
                                    "\"role\":",
                                    "\"user\"",
                                    "\"content\":",
                                    "\"assistant\"",
                                    "\"prompt\":",
                                    "\"chosen\":",
                                    "\"rejected\":",
                                    "\"text\":",
                                    "\"tokens\":",
                                    "\"weights\":",
                                    "\"tools\":",
                                    "\"from\":",
                                    "\"value\":",
                                    "1e400",
                                    "\\u0000",
                                    "<|im_end|>",
                                    "\xef\xbb\xbf",
                                    NULL};

const struct fuzz_target fuzz_rows = {"rows", rows_run, rows_seeds, words};
