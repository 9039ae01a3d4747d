/* table: large ones are mappings of their own, aligned as huge pages are. */
#include "core/table.h"

#include "core/err.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#define HUGE_BYTES ((size_t)2 << 20)

static size_t rounded(size_t bytes) {
    return (bytes + HUGE_BYTES - 1) / HUGE_BYTES * HUGE_BYTES;
}

/* What lies around the aligned part of a larger mapping goes back. */
static void *map_new(size_t bytes) {
    size_t all = bytes + HUGE_BYTES;
    char *map = mmap(NULL, all, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED)
        return NULL;
    size_t before = -(uintptr_t)map % HUGE_BYTES, behind = HUGE_BYTES - before;
    if (before)
        munmap(map, before);
    if (behind)
        munmap(map + before + bytes, behind);
    madvise(map + before, bytes, MADV_HUGEPAGE); /* a wish */
    return map + before;
}

void *table_new(size_t bytes) {
    void *t = bytes < HUGE_BYTES ? calloc(1, bytes) : map_new(rounded(bytes));
    CHECK(t, "out of memory for a table of %zu bytes", bytes);
    return t;
}

void table_free(void *table, size_t bytes) {
    if (bytes < HUGE_BYTES)
        free(table);
    else if (table)
        munmap(table, rounded(bytes));
}
