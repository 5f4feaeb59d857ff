#if defined(__x86_64__)
#define LANES 16
#define MR 14
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")))
#include "backend/cpu/simd_avx512.h"
#include "backend/cpu/kernels_body.h"

const struct kernels kernels_avx512 = {KERNELS, .mr = MR};
#endif
