/* app - the screen: bare `fettle`. */
#ifndef FETTLE_VIEWS_APP_H
#define FETTLE_VIEWS_APP_H

#include "core/err.h"

#include <stdint.h>

struct app_opts {
    const char *home; /* absolute */
    int64_t run;      /* opened on this run, 0 = the list */
};

/* Returns when the user quits; jobs go on. */
int app_run(const struct app_opts *o, struct err *err);

#endif
