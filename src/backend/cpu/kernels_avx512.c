#if defined(__x86_64__)
#include <immintrin.h>

#define LANES 16
#define MR 14
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")))
#define U32_FROM_U16(x) ((vu)_mm512_cvtepu16_epi32((__m256i)(x)))
#define U16_FROM_U32(x) ((vh)_mm512_cvtepi32_epi16((__m512i)(x)))
#include "backend/cpu/masks_avx512.h"
#include "backend/cpu/kernels_body.h"

const struct kernels kernels_avx512 = {KERNELS, .mr = MR};
#endif
