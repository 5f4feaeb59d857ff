/* The fast operations: OpenMP over rows, tiles or heads, and the widest vectors that this processor has, chosen at run
 * time. The drivers (linear.c, attention.c, ...) are plain C; what depends on the processor is in struct kernels. */
#ifndef SAIL_BACKEND_CPU_H
#define SAIL_BACKEND_CPU_H

#include "backend/backend.h"
#include "base/err.h"

enum cpu_level { CPU_PORTABLE, CPU_AVX2, CPU_AVX512, CPU_AVX512_BF16, CPU_AMX };
enum cpu_level cpu_level(void);
/* Tests only: run with fewer instructions than there are. Weights must be prepared again. */
void cpu_level_limit(enum cpu_level most);

#define OP(type, name, args) type cpu_##name args;
#include "backend/ops.def"
#undef OP

/* 64-byte aligned memory for temporary values, one block a slot and thread. It only grows, so that a call after the first
 * of its size allocates nothing; the contents do not outlive the next call with the same slot. */
enum scratch_slot { SCRATCH_A, SCRATCH_B, SCRATCH_C, SCRATCH_D, SCRATCH_E, SCRATCH_OWN, SCRATCH_TILE, SCRATCH_COUNT };
void *scratch(enum scratch_slot slot, size_t bytes);
/* The same kind of memory with an owner: free() it. NULL when there is none. */
void *block_alloc(size_t bytes);

/* Share `part` of `parts` of [0, n), in multiples of `grain`. */
static inline int64_t share_begin(int64_t n, int64_t grain, int part, int parts)
{
    int64_t grains = (n + grain - 1) / grain, at = grains * part / parts * grain;
    return at < n ? at : n;
}

#endif
