/*
 * rng - counter-based random numbers: Philox4x32-10 (Salmon et al. 2011).
 *
 * A number is a pure function of (key, stream, index), so that any of them
 * can be computed again after a restart, in any order, on any device.
 * `key` is a seed; `stream` separates uses (init of one tensor, one sampled
 * sequence); `index` counts within. Any thread; no state.
 */
#ifndef FETTLE_CORE_RNG_H
#define FETTLE_CORE_RNG_H

#include <stdint.h>

struct rng_block {
    uint32_t x[4];
};

struct rng_block rng_philox(uint64_t key, uint64_t stream, uint64_t index);
/* 64 random bits. */
uint64_t rng_u64(uint64_t key, uint64_t stream, uint64_t index);
/* Uniform in [0, 1): 24 bits, exact in float. */
float rng_uniform(uint64_t key, uint64_t stream, uint64_t index);
/* Standard normal, Box-Muller in double. */
double rng_normal(uint64_t key, uint64_t stream, uint64_t index);
/* Fisher-Yates over n entries, in place; a pure function of (key, stream). */
void rng_shuffle(uint32_t *perm, uint32_t n, uint64_t key, uint64_t stream);
/* A stream number out of a name (FNV-1a). */
uint64_t rng_stream(const char *name);

#endif
