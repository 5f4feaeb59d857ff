/* All kernels of one kind of processor: LANES, MR and TARGET are given. */
#include "backend/cpu/simd.h"

#define UNIT(p) splat(*(const f32_at *)(p))
#define MADD(c, a, b) ((c) + (a) * (b))

#define TILE_NAME(part) f32_##part
#define B_BYTES (4 * LANES)
#define B_LOAD(p) load_f32(p)
#include "backend/cpu/gemm_body.h"
#undef TILE_NAME
#undef B_BYTES
#undef B_LOAD

#define TILE_NAME(part) bf16_##part
#define B_BYTES (2 * LANES)
#define B_LOAD(p) load_bf16(p)
#include "backend/cpu/gemm_body.h"

#include "backend/cpu/pack_body.h"
#include "backend/cpu/row_body.h"
#include "backend/cpu/attention_body.h"
#include "backend/cpu/optim_body.h"

#define KERNELS                                                                                                                  \
    .lanes = LANES, .nr = NR, .gemm[UNITS_F32] = f32_gemm, .gemm[UNITS_BF16] = bf16_gemm, .widen = widen,              \
    .narrow = narrow, .zip = zip, .pair_rows = pair_rows, .tiles = tiles, .transpose = transpose, .turn_tile = {turn_f32, turn_bf16, turn_pair}, .axpy = axpy, .dot = dot, .column_sum = column_sum,                    \
    .rmsnorm = rmsnorm, .rmsnorm_bwd = rmsnorm_bwd, .layernorm = layernorm, .layernorm_bwd = layernorm_bwd,                      \
    .norm_bwd_w = norm_bwd_w, .turn = turn, .act = act, .act_bwd = act_bwd, .softmax_sum = softmax_sum,                          \
    .softmax_bwd = softmax_bwd, .attn_softmax = attn_softmax, .attn_softmax_down = attn_softmax_down, .attn_grad = attn_grad,            \
    .largest = largest, .exp_stretch = exp_stretch, .square_sum = square_sum, .adamw = adamw
