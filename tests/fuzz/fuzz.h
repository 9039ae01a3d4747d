/*
 * fuzz - targets that take any bytes, and the mutations that make them. A
 * target must return, whatever it is given, without a crash, a leak, undefined
 * behaviour or more than a second; it checks properties with CHECK().
 *
 *     fuzz config -runs=200000 -seed=1        # tests/fuzz/main.c
 *
 * Built with -DFUZZ_LIBFUZZER=config instead, main.c exports
 * LLVMFuzzerTestOneInput for clang's driver.
 */
#ifndef FETTLE_TESTS_FUZZ_H
#define FETTLE_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

#define FUZZ_MAX ((size_t)64 << 10) /* bytes of an input */

typedef void fuzz_seed_fn(void *arg, const void *data, size_t len);

struct fuzz_target {
    const char *name;
    int (*run)(const uint8_t *data, size_t len); /* returns 0 */
    void (*seeds)(fuzz_seed_fn *add, void *arg); /* well-formed inputs */
    const char *const *words;                    /* NULL at the end */
};

extern const struct fuzz_target *const fuzz_targets[]; /* NULL at the end */
const struct fuzz_target *fuzz_find(const char *name);

/* Changes data (room for FUZZ_MAX) in a few places; the new length. The same
 * for the same seed and round. other: an input to splice from. */
size_t fuzz_mutate(uint8_t *data, size_t len, const uint8_t *other,
                   size_t other_len, const char *const *words, uint64_t seed,
                   uint64_t round);

extern const struct fuzz_target fuzz_op, fuzz_result, fuzz_frame,
    fuzz_safetensors, fuzz_config, fuzz_model, fuzz_json, fuzz_template,
    fuzz_split, fuzz_render, fuzz_rows, fuzz_tokenizer;

#endif
