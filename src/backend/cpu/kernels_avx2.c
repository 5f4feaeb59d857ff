#if defined(__x86_64__)
#define LANES 8
#define MR 6
#define TARGET __attribute__((target("avx2,fma,f16c")))
#include "backend/cpu/kernels_body.h"

const struct kernels kernels_avx2 = {KERNELS, .mr = MR};
#endif
