/* Vectors of LANES floats, for inclusion by one kernels_*.c each with its TARGET. GCC and Clang vector extensions. */
#include <math.h>

#include "backend/cpu/kernels.h"

/* The following loop has few, constant turns: registers are indexed by it. */
#if !defined(__OPTIMIZE__)
#define UNROLL
#elif defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

#define FN static inline __attribute__((always_inline)) TARGET

typedef float vf __attribute__((vector_size(4 * LANES)));
typedef int32_t vi __attribute__((vector_size(4 * LANES)));
typedef uint32_t vu __attribute__((vector_size(4 * LANES)));
typedef uint16_t vh __attribute__((vector_size(2 * LANES)));
typedef float vf_at __attribute__((vector_size(4 * LANES), aligned(1), may_alias));
typedef uint16_t vh_at __attribute__((vector_size(2 * LANES), aligned(1), may_alias));
typedef float f32_at __attribute__((aligned(1), may_alias));
typedef uint16_t h16_at __attribute__((aligned(1), may_alias));

FN vf splat(float x) { return x - (vf){0}; }
FN vf load_f32(const void *p) { return *(const vf_at *)p; }
FN void store_f32(void *p, vf x) { *(vf_at *)p = x; }
/* Between 16 and 32 bits; processors with one instruction for it define their own. */
#ifndef U32_FROM_U16
#define U32_FROM_U16(x) __builtin_convertvector(x, vu)
#define U16_FROM_U32(x) __builtin_convertvector(x, vh)
#endif
FN vf load_bf16(const void *p) { return (vf)(U32_FROM_U16(*(const vh_at *)p) << 16); }
FN vf blend(vi mask, vf yes, vf no) { return (vf)((mask & (vi)yes) | (~mask & (vi)no)); }

/* To the nearest even. A NaN keeps its upper bits and one that keeps it a NaN. */
FN vh round_bf16(vf x)
{
#ifdef BF16_FROM_F32
    return BF16_FROM_F32(x);
#else
    vu u = (vu)x, r = u + 0x7FFF + (u >> 16 & 1), nan = (vu)(x != x);
    return U16_FROM_U32(((nan & (u | 0x400000)) | (~nan & r)) >> 16);
#endif
}

FN void store_bf16(void *p, vf x) { *(vh_at *)p = round_bf16(x); }

/* The last elements of a row, with zeros behind: a row ends where it ends. Out of line, for it is rare; with masks where there are any. */
#ifdef GET_PART
FN vf get_part(const char *at, enum dtype t, int64_t left) { return GET_PART(at, t, left); }
FN void put_part(char *at, enum dtype t, int64_t left, vf x) { PUT_PART(at, t, left, x); }
#else
static __attribute__((noinline, unused)) TARGET vf get_part(const char *at, enum dtype t, int64_t left)
{
    float part[LANES] = {0};
    for (int64_t j = 0; j < left; j++) part[j] = t == DTYPE_F32 ? ((const f32_at *)at)[j] : bf16_to_f32(((const h16_at *)at)[j]);
    return load_f32(part);
}

static __attribute__((noinline, unused)) TARGET void put_part(char *at, enum dtype t, int64_t left, vf x)
{
    float part[LANES];
    store_f32(part, x);
    for (int64_t j = 0; j < left; j++) {
        if (t == DTYPE_F32)
            ((f32_at *)at)[j] = part[j];
        else
            ((h16_at *)at)[j] = f32_to_bf16(part[j]);
    }
}
#endif

/* Elements i .. i + LANES of p, or the first `left` of them. */
FN vf get(const void *p, enum dtype t, int64_t i, int64_t left)
{
    const char *at = (const char *)p + (t == DTYPE_F32 ? 4 : 2) * i;
    if (left < LANES) return get_part(at, t, left);
    return t == DTYPE_F32 ? load_f32(at) : load_bf16(at);
}

FN void put(void *p, enum dtype t, int64_t i, int64_t left, vf x)
{
    char *at = (char *)p + (t == DTYPE_F32 ? 4 : 2) * i;
    if (left < LANES)
        put_part(at, t, left, x);
    else if (t == DTYPE_F32)
        store_f32(at, x);
    else
        store_bf16(at, x);
}

FN vf lane_numbers(void)
{
    float n[LANES];
    for (int i = 0; i < LANES; i++) n[i] = (float)i;
    return load_f32(n);
}

FN vf keep_first(vf x, int64_t left, float otherwise)
{
    if (left >= LANES) return x;
    return blend((vi)(lane_numbers() < splat((float)left)), x, splat(otherwise));
}

/* f(l, d) for every lane l. */
#if LANES == 16
#define EACH_LANE(f, d)                                                                                                          \
    f(0, d), f(1, d), f(2, d), f(3, d), f(4, d), f(5, d), f(6, d), f(7, d), f(8, d), f(9, d), f(10, d), f(11, d), f(12, d),      \
        f(13, d), f(14, d), f(15, d)
#elif LANES == 8
#define EACH_LANE(f, d) f(0, d), f(1, d), f(2, d), f(3, d), f(4, d), f(5, d), f(6, d), f(7, d)
#else
#define EACH_LANE(f, d) f(0, d), f(1, d), f(2, d), f(3, d)
#endif
#define ROTATED(l, d) (((l) + (d)) % LANES)
#define ROTATE(x, d) __builtin_shufflevector(x, x, EACH_LANE(ROTATED, d))

/* Pairwise, so that the order is fixed: lane i and lane i + n, for n = LANES / 2 and so on down to 1. */
FN float sum_lanes(vf x)
{
#if LANES >= 16
    x += ROTATE(x, 8);
#endif
#if LANES >= 8
    x += ROTATE(x, 4);
#endif
    x += ROTATE(x, 2);
    x += ROTATE(x, 1);
    return x[0];
}

/* b where either is NaN, as in the instructions of x86. */
#ifdef VMAX
FN vf vmax(vf a, vf b) { return VMAX(a, b); }
FN vf vmin(vf a, vf b) { return VMIN(a, b); }
#else
FN vf vmax(vf a, vf b) { return blend((vi)(a > b), a, b); }
FN vf vmin(vf a, vf b) { return blend((vi)(a < b), a, b); }
#endif
FN float max_lanes(vf x)
{
#if LANES >= 16
    x = vmax(x, ROTATE(x, 8));
#endif
#if LANES >= 8
    x = vmax(x, ROTATE(x, 4));
#endif
    x = vmax(x, ROTATE(x, 2));
    x = vmax(x, ROTATE(x, 1));
    return x[0];
}

FN vf vabs(vf x) { return (vf)((vi)x & 0x7FFFFFFF); }

/* x = n ln 2 + r with |r| <= ln 2 / 2; returns exp(r) - 1 by its Taylor series to r^7 (remainder below 2^-27). */
FN vf exp_reduce(vf x, vi *n)
{
    const float shift = 12582912.0f; // 1.5 * 2^23: adding it rounds to an integer
    vf t = x * 1.44269504f + shift, whole = t - shift;
    *n = (vi)t - 0x4B400000;
    vf r = x - whole * 0.693359375f; // the first constant has few bits: the product is exact
    r = r + whole * 2.12194440e-4f;
    vf q = r * (1.0f / 5040) + 1.0f / 720;
    q = q * r + 1.0f / 120;
    q = q * r + 1.0f / 24;
    q = q * r + 1.0f / 6;
    q = q * r + 0.5f;
    return r * r * q + r;
}

/* Within 2 ulp; underflows to 0 through the subnormals, overflows to infinity, NaN stays. */
FN vf vexp(vf x)
{
    x = vmin(splat(89.0f), vmax(splat(-104.0f), x));
    vi n;
    vf p = exp_reduce(x, &n) + 1.0f;
#ifdef TIMES_2_TO
    return TIMES_2_TO(p, n);
#else
    vi half = n >> 1; // in two factors: n reaches from -150 to 128
    return p * (vf)((half + 127) << 23) * (vf)((n - half + 127) << 23);
#endif
}

/* tanh |x| = e / (e + 2) with e = exp(2 |x|) - 1: nothing cancels near 0. */
FN vf vtanh(vf x)
{
    vf y = vabs(x) * 2.0f;
    y = vmin(splat(20.0f), y);
    vi n;
    vf p = exp_reduce(y, &n), s = (vf)((n + 127) << 23), e = s * p + (s - 1.0f);
    vf t = e / (e + 2.0f);
    return (vf)(((vi)t & 0x7FFFFFFF) | ((vi)x & (int32_t)0x80000000));
}
