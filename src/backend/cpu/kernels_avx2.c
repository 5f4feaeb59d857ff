#if defined(__x86_64__)
#include <immintrin.h>

#define LANES 8
#define MR 6
#define TARGET __attribute__((target("avx2,fma,f16c")))
#define VMAX(a, b) ((vf)_mm256_max_ps((__m256)(a), (__m256)(b)))
#define VMIN(a, b) ((vf)_mm256_min_ps((__m256)(a), (__m256)(b)))
#include "backend/cpu/kernels_body.h"

const struct kernels kernels_avx2 = {KERNELS, .mr = MR};
#endif
