/* bins: best fit decreasing. Bins are kept by the room that is left in them;
 * a tree over rooms finds the tightest that a row fits: O(n log room). */
#include "core/text.h"

#include <stdlib.h>

struct bins {
    uint32_t leaves; /* power of two above every room */
    uint8_t *any;    /* (2 leaves) is there a bin below this node? */
    uint32_t *head;  /* (leaves) bin + 1 with exactly this room, 0 = none */
    uint32_t *next;  /* (rows) of a bin: the next with the same room */
};

static void bins_put(struct bins *b, uint32_t room, uint32_t bin) {
    b->next[bin] = b->head[room];
    b->head[room] = bin + 1;
    for (uint32_t i = room + b->leaves; i && !b->any[i]; i /= 2)
        b->any[i] = 1;
}

/* The least room >= length that a bin has, 0 = none (length > 0). */
static uint32_t bins_tightest(const struct bins *b, uint32_t length) {
    uint32_t i = length + b->leaves;
    if (!b->any[i]) { /* up, to the first node on the right that has one */
        while (i > 1 && (i % 2 == 1 || !b->any[i + 1]))
            i /= 2;
        if (i <= 1)
            return 0;
        i++;
    }
    while (i < b->leaves)
        i = b->any[2 * i] ? 2 * i : 2 * i + 1;
    return i - b->leaves;
}

static uint32_t bins_take(struct bins *b, uint32_t room) {
    uint32_t bin = b->head[room] - 1;
    b->head[room] = b->next[bin];
    for (uint32_t i = room + b->leaves; i && !b->head[room]; i /= 2) {
        b->any[i] = i < b->leaves && (b->any[2 * i] || b->any[2 * i + 1]);
        if (b->any[i])
            break;
    }
    return bin;
}

/* Keys: longest first, then as given. */
static int by_key(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

uint32_t bins_best_fit(const uint32_t *length, uint32_t n, uint32_t room,
                       uint32_t *bin) {
    struct bins b = {.leaves = 1};
    uint32_t n_bins = 0;
    while (b.leaves <= room)
        b.leaves *= 2;
    b.any = calloc(2u * (size_t)b.leaves, 1);
    b.head = calloc(b.leaves, sizeof *b.head);
    b.next = calloc(n + 1u, sizeof *b.next);
    uint64_t *key = calloc(n + 1u, sizeof *key);
    CHECK(b.any && b.head && b.next && key, "out of memory for %u rows", n);
    for (uint32_t i = 0; i < n; i++) {
        CHECK(length[i] > 0 && length[i] <= room, "a row of %u tokens in %u",
              length[i], room);
        key[i] = (uint64_t)(room - length[i]) << 32 | i;
    }
    qsort(key, n, sizeof *key, by_key);
    for (uint32_t k = 0; k < n; k++) {
        uint32_t i = (uint32_t)key[k];
        uint32_t has = bins_tightest(&b, length[i]);
        bin[i] = has ? bins_take(&b, has) : n_bins++;
        bins_put(&b, (has ? has : room) - length[i], bin[i]);
    }
    free(key);
    free(b.any);
    free(b.head);
    free(b.next);
    return n_bins;
}
