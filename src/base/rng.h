/* Counter-based random numbers (Philox 4x32-10): a number is a function of (seed, stream, step, index) and of nothing
 * else, so that resume is exact and order does not matter. There is no state to save. */
#ifndef SAIL_BASE_RNG_H
#define SAIL_BASE_RNG_H

#include <stdint.h>

/* One stream per consumer; never reuse a stream for another purpose. */
enum rng_stream {
    RNG_DATA_ORDER = 1, /* step = epoch, index = row */
    RNG_ROUTE,          /* step = optimizer step, index = row of the batch */
    RNG_SAMPLE,         /* step = optimizer step (0 outside training), index = sequence * 65536 + token */
    RNG_LABEL,          /* Bernoulli labels: step, index = pair */
    RNG_DROPOUT,        /* step, index = (sequence, position, layer, module) hash */
    RNG_INIT,           /* weights: step = tensor number, index = element / 4 */
    RNG_BOOTSTRAP,      /* confidence intervals */
    RNG_TEST,
};

void rng_u32x4(uint32_t out[4], uint64_t seed, enum rng_stream stream, uint64_t step, uint64_t index);
uint64_t rng_u64(uint64_t seed, enum rng_stream stream, uint64_t step, uint64_t index);
/* Uniform in [0, 1) with 53 bits. */
double rng_uniform(uint64_t seed, enum rng_stream stream, uint64_t step, uint64_t index);
/* Standard normal (Box-Muller on one draw). */
double rng_normal(uint64_t seed, enum rng_stream stream, uint64_t step, uint64_t index);
/* perm[0..n) = a random permutation (Fisher-Yates on this stream). */
void rng_permutation(int64_t *perm, int64_t n, uint64_t seed, enum rng_stream stream, uint64_t step);

#endif
