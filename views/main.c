/* main: the one place that exits and writes to stderr. */
#include "views/cli.h"

#include "core/fs.h"
#include "views/app.h"

#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef FETTLE_VERSION
#define FETTLE_VERSION "0.1"
#endif

static void note(const char *text) { fprintf(stderr, "%s", text); }

static int fail(const struct err *err, bool json, int status) {
    if (json) {
        json_t *j = json_pack("{s:{s:s, s:s}}", "error", "code",
                              err_name(err->code), "message", err->msg);
        if (j)
            cli_print_json(j, false);
    }
    fprintf(stderr, "fettle: %s\n", err->msg);
    return status;
}

/* Bare `fettle`: the screen on a terminal, help elsewhere. */
static int screen(const char *home_arg) {
    struct err err = {0};
    char *home = fs_home(home_arg, &err);
    int rc = home ? app_run(&(struct app_opts){.home = home}, &err) : -1;
    free(home);
    return rc < 0 ? fail(&err, false, err_exit(err.code)) : 0;
}

int main(int argc, char **argv) {
    struct err err = {0};
    bool json = false;
    setlocale(LC_ALL, "");
    setlocale(LC_NUMERIC, "C");
    bool home = argc == 3 && strcmp(argv[1], "--home") == 0;
    if (argc > 1 && strcmp(argv[1], "--version") == 0) {
        puts("fettle " FETTLE_VERSION);
        return 0;
    }
    if (argc == 1 || home) {
        if (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO))
            return screen(home ? argv[2] : NULL);
        argc = 2;
        char *help[] = {argv[0], (char[]){"help"}, NULL};
        return cli_main(argc, help, note, &err, &json);
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        char *help[] = {argv[0], (char[]){"help"}, NULL};
        return cli_main(2, help, note, &err, &json);
    }
    int status = cli_main(argc, argv, note, &err, &json);
    fflush(stdout);
    return err.code != ERR_NONE ? fail(&err, json, status) : status;
}
