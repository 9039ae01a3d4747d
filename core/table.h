/*
 * table - memory of tables that are read here and there.
 *
 *     struct slot *t = table_new(n * sizeof *t);
 *     table_free(t, n * sizeof *t);
 *
 * Large ones lie on huge pages where the system grants them: one fault for
 * two megabytes, and places that the processor finds without a walk.
 */
#ifndef FETTLE_CORE_TABLE_H
#define FETTLE_CORE_TABLE_H

#include <stddef.h>

/* Zeros. Out of memory ends the process. */
void *table_new(size_t bytes);
/* bytes: as it was made. NULL is allowed. */
void table_free(void *table, size_t bytes);

#endif
