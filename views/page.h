/*
 * page - one row of a run's data, or one conversation of the scenario bank by
 * a model's renderer, as the inspector shows it.
 *
 *     struct pages *p = pages_new();
 *     struct page *g = pages_step(p, st, &want, &more);
 *     if (g) ... a new page; page_unref(g) when it is shown no more
 *
 * Pages are immutable and counted, for any thread; a struct pages belongs to
 * the thread that reads.
 */
#ifndef FETTLE_VIEWS_PAGE_H
#define FETTLE_VIEWS_PAGE_H

#include "store/store.h"
#include "views/inspect.h"

#include <stdatomic.h>

#define PAGE_TOKENS (1 << 18) /* of a row that are kept to be looked at */

/* A row of run's data, else, with run 0, a scenario by model's renderer;
 * neither: nothing. */
struct page_want {
    int64_t run;
    char model[STORE_NAME_MAX];
    int64_t row;  /* from 1; behind the last = the last */
    bool is_eval; /* of the run's eval_data, not its data */
};
/* Do both want the same file or bank? */
bool page_same_source(const struct page_want *a, const struct page_want *b);

struct page {
    atomic_int refs;
    struct page_want want;
    char error[512]; /* why there is nothing, "" = fine */
    char source[512], renderer[64], name[64]; /* name: a scenario's */
    int64_t row, line;                        /* line of the file, 0 = none */
    int64_t rows;                             /* known so far */
    bool is_all;                              /* there are no more of them */
    struct inspect *example;                  /* (n) */
    size_t n, tokens, trained, lost;
};

struct page *page_ref(struct page *g); /* NULL stays NULL */
void page_unref(struct page *g);

struct pages;
struct pages *pages_new(void);
void pages_free(struct pages *p);
/* Does a bounded piece of work: opens, indexes some of a file, reads a row. A
 * page when there is another one to show (the caller's reference), else NULL;
 * *more: call again soon. */
struct page *pages_step(struct pages *p, struct store *st,
                        const struct page_want *w, bool *more);

#endif
