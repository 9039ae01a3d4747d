/*
 * golden - compares a drawn surface with tests/tui/golden/NAME.txt. With
 * FETTLE_GOLDEN=write in the environment the file is written instead; look at
 * the difference before committing it. Tests run in the repository root.
 */
#ifndef FETTLE_TESTS_TUI_GOLDEN_H
#define FETTLE_TESTS_TUI_GOLDEN_H

#include "tui/surf.h"

#include "tests/quick.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static inline void golden_check(const struct surf *s, const char *name) {
    char path[256], want[65536] = "";
    snprintf(path, sizeof path, "tests/tui/golden/%s.txt", name);
    char *got = surf_dump(s);
    ck_assert_ptr_nonnull(got);
    const char *mode = getenv("FETTLE_GOLDEN");
    bool is_writing = mode && strcmp(mode, "write") == 0;
    FILE *f = fopen(path, is_writing ? "w" : "r");
    ck_assert_msg(f, "%s cannot be opened", path);
    if (is_writing)
        fputs(got, f);
    else
        want[fread(want, 1, sizeof want - 1, f)] = 0;
    fclose(f);
    ck_assert_msg(is_writing || strcmp(got, want) == 0,
                  "%s differs. got:\n%swant:\n%s", path, got, want);
    free(got);
}

#endif
