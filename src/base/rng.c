#include "base/rng.h"

#include <Random123/philox.h>
#include <math.h>

void rng_u32x4(uint32_t out[4], uint64_t seed, enum rng_stream stream, uint64_t step, uint64_t index)
{
    // 128 bits of counter: index 64, step 48, stream 16. 64 bits of key: the seed.
    philox4x32_ctr_t counter = {{(uint32_t)index, (uint32_t)(index >> 32), (uint32_t)step,
                                 (uint32_t)((step >> 32) & 0xFFFF) | ((uint32_t)stream << 16)}};
    philox4x32_key_t key = {{(uint32_t)seed, (uint32_t)(seed >> 32)}};
    philox4x32_ctr_t r = philox4x32(counter, key);
    for (int i = 0; i < 4; i++) out[i] = r.v[i];
}

uint64_t rng_u64(uint64_t seed, enum rng_stream stream, uint64_t step, uint64_t index)
{
    uint32_t r[4];
    rng_u32x4(r, seed, stream, step, index);
    return (uint64_t)r[0] << 32 | r[1];
}

static double to_unit(uint32_t hi, uint32_t lo)
{
    return (double)(((uint64_t)hi << 32 | lo) >> 11) * 0x1p-53;
}

double rng_uniform(uint64_t seed, enum rng_stream stream, uint64_t step, uint64_t index)
{
    uint32_t r[4];
    rng_u32x4(r, seed, stream, step, index);
    return to_unit(r[0], r[1]);
}

double rng_normal(uint64_t seed, enum rng_stream stream, uint64_t step, uint64_t index)
{
    uint32_t r[4];
    rng_u32x4(r, seed, stream, step, index);
    double u = 1.0 - to_unit(r[0], r[1]); // in (0, 1]
    return sqrt(-2.0 * log(u)) * cos(2.0 * 3.14159265358979323846 * to_unit(r[2], r[3]));
}

void rng_permutation(int64_t *perm, int64_t n, uint64_t seed, enum rng_stream stream, uint64_t step)
{
    for (int64_t i = 0; i < n; i++) perm[i] = i;
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t j = (int64_t)(rng_uniform(seed, stream, step, (uint64_t)i) * (double)(i + 1));
        int64_t t = perm[i];
        perm[i] = perm[j];
        perm[j] = t;
    }
}
