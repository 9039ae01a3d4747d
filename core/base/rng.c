/* rng: Philox4x32-10. Constants from Salmon et al., SC'11. */
#include "core/rng.h"

#include <math.h>

struct rng_block rng_philox(uint64_t key, uint64_t stream, uint64_t index) {
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    uint32_t c[4] = {(uint32_t)index, (uint32_t)(index >> 32), (uint32_t)stream,
                     (uint32_t)(stream >> 32)};
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c[0];
        uint64_t p1 = (uint64_t)0xCD9E8D57u * c[2];
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c[1] ^ k0;
        uint32_t n2 = (uint32_t)(p0 >> 32) ^ c[3] ^ k1;
        c[1] = (uint32_t)p1;
        c[3] = (uint32_t)p0;
        c[0] = n0;
        c[2] = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return (struct rng_block){{c[0], c[1], c[2], c[3]}};
}

uint64_t rng_u64(uint64_t key, uint64_t stream, uint64_t index) {
    struct rng_block b = rng_philox(key, stream, index);
    return (uint64_t)b.x[1] << 32 | b.x[0];
}

float rng_uniform(uint64_t key, uint64_t stream, uint64_t index) {
    struct rng_block b = rng_philox(key, stream, index);
    return (float)(b.x[0] >> 8) * (1.0f / 16777216.0f);
}

double rng_normal(uint64_t key, uint64_t stream, uint64_t index) {
    struct rng_block b = rng_philox(key, stream, index);
    double u = ((double)b.x[0] + 1.0) / 4294967296.0;
    double v = (double)b.x[1] / 4294967296.0;
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

void rng_shuffle(uint32_t *perm, uint32_t n, uint64_t key, uint64_t stream) {
    for (uint32_t i = n; i > 1; i--) {
        uint32_t j = (uint32_t)(rng_u64(key, stream, i) % i);
        uint32_t t = perm[i - 1];
        perm[i - 1] = perm[j];
        perm[j] = t;
    }
}

uint64_t rng_stream(const char *name) {
    uint64_t h = 0xcbf29ce484222325u;
    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * 0x100000001b3u;
    return h;
}
