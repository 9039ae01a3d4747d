/*
 * query - private to store/: compiles the filter language of store_runs()
 * (store/store.h) into one SQL statement over table run, with every value of
 * the user's bound, never pasted.
 */
#ifndef FETTLE_STORE_QUERY_H
#define FETTLE_STORE_QUERY_H

#include "store/db.h"

#define QUERY_TERMS 64 /* of one filter */

struct query_value {
    char *text; /* owned; NULL = a number */
    double num;
};

struct query {
    char *sql; /* owned */
    size_t len, cap;
    struct query_value value[QUERY_TERMS * 2];
    int n_values;
    int n_terms;
};

/* sql = head, a condition, tail. On failure w is still to be released. */
int query_compile(struct store *st, struct query *w, const char *head,
                  const char *filter, const char *tail);
/* Finalize *q, on failure too. */
int query_prepare(struct store *st, struct query *w, sqlite3_stmt **q);
void query_release(struct query *w);

#endif
