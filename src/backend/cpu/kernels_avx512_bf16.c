#if defined(__x86_64__)
#include <immintrin.h>

#include "backend/cpu/tiles.h"

#define LANES 16
#define MR 14
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx2,fma,f16c")))
/* One instruction; it takes subnormal numbers for zeros. */
#define BF16_FROM_F32(x) ((vh)_mm512_cvtneps_pbh((__m512)(x)))
#include "backend/cpu/simd_avx512.h"
#include "backend/cpu/kernels_body.h"

#undef UNIT
#undef MADD
#undef TILE_NAME
#undef B_BYTES
#undef B_LOAD
#define UNIT(p) load_pair(p)
#define MADD(c, a, b) ((vf)_mm512_dpbf16_ps((__m512)(c), (__m512bh)(a), (__m512bh)(b)))
#define TILE_NAME(part) pair_##part
#define B_BYTES (4 * LANES)
#define B_LOAD(p) load_f32(p)

typedef int32_t pair_at __attribute__((aligned(1), may_alias));
FN vf load_pair(const void *p) { return (vf)_mm512_set1_epi32(*(const pair_at *)p); }
#include "backend/cpu/gemm_body.h"

const struct kernels kernels_avx512_bf16 = {KERNELS, .mr = MR, .gemm[UNITS_PAIR] = pair_gemm};

/* The same processor with tile registers. */
#define TILE_TARGET __attribute__((target("amx-tile,amx-bf16,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx2,fma,f16c")))
#define TILES_BEGIN() _tile_loadconfig(&tile_shape)
#define TILES_END() _tile_release()
#define TILE_ZERO(t) _tile_zero(t)
#define TILE_LOAD(t, from, stride) _tile_loadd(t, from, stride)
#define TILE_STORE(t, to, stride) _tile_stored(t, to, stride)
#define TILE_MADD(c, a, b) _tile_dpbf16ps(c, a, b)
#define TILE_FINISH pair_finish
#include "backend/cpu/gemm_amx.h"

const struct kernels kernels_amx = {KERNELS, .mr = BLOCK_ROWS, .gemm[UNITS_PAIR] = amx_gemm};
#endif
