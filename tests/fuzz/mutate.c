/* mutate: one to eight small changes, most of them near the start, where
 * headers are. */
#include "tests/fuzz/fuzz.h"

#include "core/rng.h"

#include <stdio.h>
#include <string.h>

const struct fuzz_target *const fuzz_targets[] = {
    &fuzz_op,     &fuzz_result, &fuzz_frame, &fuzz_safetensors,
    &fuzz_config, &fuzz_model,  &fuzz_json,  &fuzz_template,
    &fuzz_split,  &fuzz_render, &fuzz_rows,  &fuzz_tokenizer,
    NULL};

const struct fuzz_target *fuzz_find(const char *name) {
    for (int i = 0; fuzz_targets[i]; i++)
        if (strcmp(fuzz_targets[i]->name, name) == 0)
            return fuzz_targets[i];
    return NULL;
}

/* Numbers drawn one after the other. */
struct draw {
    uint64_t seed, round, i;
};

static uint64_t draw(struct draw *d, uint64_t n) {
    return n ? rng_u64(d->seed, d->round, d->i++) % n : 0;
}

/* A place in 0 … n, rather a small one. */
static size_t place(struct draw *d, size_t n) {
    uint64_t most = draw(d, 3) ? n : n / 8 + 1;
    return (size_t)draw(d, most > n ? n + 1 : most + 1);
}

/* Cuts `cut` bytes at `at` and puts others there. */
static size_t replace(uint8_t *data, size_t len, size_t at, size_t cut,
                      const void *put, size_t n) {
    cut = cut > len - at ? len - at : cut;
    if (len - cut + n > FUZZ_MAX)
        return len;
    memmove(data + at + n, data + at + cut, len - at - cut);
    if (n)
        memcpy(data + at, put, n);
    return len - cut + n;
}

static const uint64_t edges[] = {0,          1,          0x7f,      0x80,
                                 0xff,       0x7fff,     0xffff,    0x7fffffff,
                                 0x80000000, 0xffffffff, INT64_MAX, UINT64_MAX,
                                 1ull << 32, 1ull << 48, 4096};
static const char *const numbers[] = {
    "0",      "-1",   "1e308",    "4294967296", "9223372036854775807",
    "1e-400", "0.5",  "16777216", "2147483647", "-9223372036854775808",
    "3",      "null", "\"nan\"",  "[]",         "99999999999999999999"};

static size_t put_number(uint8_t *data, size_t len, struct draw *d) {
    size_t at = place(d, len), end;
    for (; at < len && (data[at] < '0' || data[at] > '9'); at++)
        ;
    for (end = at; end < len && data[end] >= '0' && data[end] <= '9'; end++)
        ;
    const char *n = numbers[draw(d, sizeof numbers / sizeof *numbers)];
    return end > at ? replace(data, len, at, end - at, n, strlen(n)) : len;
}

static size_t put_word(uint8_t *data, size_t len, const char *const *words,
                       struct draw *d) {
    uint64_t n = 0;
    while (words && words[n])
        n++;
    if (n == 0)
        return len;
    const char *w = words[draw(d, n)];
    return replace(data, len, place(d, len), draw(d, 2) ? strlen(w) : 0, w,
                   strlen(w));
}

static size_t change(uint8_t *data, size_t len, const uint8_t *other,
                     size_t other_len, const char *const *words,
                     struct draw *d) {
    size_t at = place(d, len), n = (size_t)draw(d, 1 + len / 4 % 64);
    uint64_t edge = edges[draw(d, sizeof edges / sizeof *edges)];
    uint8_t byte = (uint8_t)draw(d, 256);
    switch (draw(d, 9)) {
    case 0: /* a bit */
        if (at < len)
            data[at] ^= (uint8_t)(1u << draw(d, 8));
        return len;
    case 1: return replace(data, len, at, 1, &byte, 1);
    case 2: return replace(data, len, at, n, NULL, 0);
    case 3: { /* twice */
        uint8_t copy[64];
        n = n > len - at ? len - at : n;
        memcpy(copy, data + at, n);
        return replace(data, len, at, 0, copy, n);
    }
    case 4: /* an edge of 1, 2, 4 or 8 bytes */
        n = (size_t)1 << draw(d, 4);
        return replace(data, len, at, n, &edge, n);
    case 5: return put_number(data, len, d);
    case 6: return put_word(data, len, words, d);
    case 7: { /* a piece of another input */
        size_t from = place(d, other_len);
        n = n > other_len - from ? other_len - from : n;
        return replace(data, len, at, (size_t)draw(d, n + 1), other + from, n);
    }
    default: return draw(d, 8) ? len : at; /* the end is missing */
    }
}

size_t fuzz_mutate(uint8_t *data, size_t len, const uint8_t *other,
                   size_t other_len, const char *const *words, uint64_t seed,
                   uint64_t round) {
    struct draw d = {seed, round, 0};
    for (uint64_t n = 1 + draw(&d, 8); n > 0; n--)
        len = change(data, len, other, other_len, words, &d);
    return len;
}
