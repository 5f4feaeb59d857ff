/* What AVX-512 has instructions for, for simd.h. */
#include <immintrin.h>

#define U32_FROM_U16(x) ((vu)_mm512_cvtepu16_epi32((__m256i)(x)))
#define U16_FROM_U32(x) ((vh)_mm512_cvtepi32_epi16((__m512i)(x)))
#define VMAX(a, b) ((vf)_mm512_max_ps((__m512)(a), (__m512)(b)))
#define VMIN(a, b) ((vf)_mm512_min_ps((__m512)(a), (__m512)(b)))
#define TIMES_2_TO(x, n) ((vf)_mm512_scalef_ps((__m512)(x), _mm512_cvtepi32_ps((__m512i)(n))))

/* Parts of vectors, by masks. */
#define FIRST(left) ((__mmask16)((1u << (left)) - 1))
#define GET_PART(at, t, left)                                                                                                    \
    ((t) == DTYPE_F32 ? (vf)_mm512_maskz_loadu_ps(FIRST(left), at)                                                               \
                      : (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(FIRST(left), at)), 16))
#define PUT_PART(at, t, left, x)                                                                                                 \
    ((t) == DTYPE_F32 ? _mm512_mask_storeu_ps(at, FIRST(left), (__m512)(x))                                                      \
                      : _mm256_mask_storeu_epi16(at, FIRST(left), (__m256i)round_bf16(x)))
