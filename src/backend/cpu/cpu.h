/* The fast operations: OpenMP over rows, tiles or heads, and the widest vectors that this processor has, chosen at run time. */
#ifndef SAIL_BACKEND_CPU_H
#define SAIL_BACKEND_CPU_H

#include "backend/backend.h"
#include "base/err.h"

enum cpu_level { CPU_PORTABLE, CPU_AVX2, CPU_AVX512, CPU_AVX512_BF16 };
enum cpu_level cpu_level(void);
bool cpu_has_amx(void);
/* Tests only: run with fewer instructions than there are. Weights must be prepared again. */
void cpu_level_limit(enum cpu_level most);

#define OP(type, name, args) type cpu_##name args;
#include "backend/ops.def"
#undef OP

/* Memory for temporary values, a block for each slot and thread: it only grows, so that a call after the first of its size allocates nothing. */
enum scratch_slot { SCRATCH_A, SCRATCH_B, SCRATCH_C, SCRATCH_D, SCRATCH_E, SCRATCH_F, SCRATCH_SHARED, SCRATCH_SHARED_2, SCRATCH_COUNT };
void *scratch(enum scratch_slot slot, size_t bytes);

/* e^x for x <= 88, about 1 ulp, in a form that compilers vectorise: 2^n times a polynomial on [-ln2/2, ln2/2]. */
static inline float exp_fast(float x)
{
    const float clamped = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    const float n = __builtin_rintf(clamped * 1.44269504f), r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    const int32_t bits = ((int32_t)n + 127) << 23;
    float scale;
    memcpy(&scale, &bits, 4);
    return x < -87.0f ? 0.0f : p * scale;
}

/* Functions of plain loops, compiled for several processors. Sanitizers run before the choice could be made. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define MANY_TARGETS __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define MANY_TARGETS
#endif

#endif
