#include "backend/cpu/gemm.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* ---------------------------------------------------------------- tiles: rows x 32 columns, sums in registers */

typedef float v16 __attribute__((vector_size(64)));
typedef float v8 __attribute__((vector_size(32)));
typedef float v16_at __attribute__((vector_size(64), aligned(4), may_alias));
typedef float v8_at __attribute__((vector_size(32), aligned(4), may_alias));

/* One function for each number of rows, so that the sums stay in registers. */
#define ROWS_SWITCH(call)                                                                                                                                   \
    switch (rows) {                                                                                                                                         \
    case 1: call(1); break;                                                                                                                                 \
    case 2: call(2); break;                                                                                                                                 \
    case 3: call(3); break;                                                                                                                                 \
    case 4: call(4); break;                                                                                                                                 \
    case 5: call(5); break;                                                                                                                                 \
    case 6: call(6); break;                                                                                                                                 \
    case 7: call(7); break;                                                                                                                                 \
    case 8: call(8); break;                                                                                                                                 \
    case 9: call(9); break;                                                                                                                                 \
    case 10: call(10); break;                                                                                                                               \
    case 11: call(11); break;                                                                                                                               \
    case 12: call(12); break;                                                                                                                               \
    case 13: call(13); break;                                                                                                                               \
    default: call(14); break;                                                                                                                               \
    }

#if defined(__x86_64__)
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,fma")))
#define AVX512_BF16 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma")))
#define AVX2 __attribute__((target("avx2,fma")))

static inline __attribute__((always_inline)) AVX512 void tile_f32_512(float *out, const float *a, int64_t row, int64_t step, const float *b, int64_t k, const int rows)
{
    v16 c[TILE_ROWS][2];
    for (int i = 0; i < rows; i++) c[i][0] = c[i][1] = (v16){0};
    for (int64_t p = 0; p < k; p++, b += PANEL) {
        const v16 b0 = *(const v16_at *)b, b1 = *(const v16_at *)(b + 16);
        for (int i = 0; i < rows; i++) {
            const float x = a[i * row + p * step];
            c[i][0] += x * b0;
            c[i][1] += x * b1;
        }
    }
    for (int i = 0; i < rows; i++) {
        *(v16_at *)(out + i * PANEL) = c[i][0];
        *(v16_at *)(out + i * PANEL + 16) = c[i][1];
    }
}
static AVX512 void f32_512(float *out, const void *a, int64_t row, int64_t step, const void *b, int64_t k, int rows)
{
#define CALL(n) tile_f32_512(out, a, row, step, b, k, n)
    ROWS_SWITCH(CALL)
#undef CALL
}

static inline __attribute__((always_inline)) AVX512_BF16 void tile_pair_512(float *out, const int32_t *a, int64_t row, int64_t step, const char *b, int64_t k, const int rows)
{
    __m512 c[TILE_ROWS][2];
    for (int i = 0; i < rows; i++) c[i][0] = c[i][1] = _mm512_setzero_ps();
    for (int64_t p = 0; p < k; p++, b += PANEL * 4) {
        const __m512bh b0 = (__m512bh)_mm512_loadu_si512(b), b1 = (__m512bh)_mm512_loadu_si512(b + 64);
        for (int i = 0; i < rows; i++) {
            int32_t pair;
            memcpy(&pair, a + i * row + p * step, 4);
            const __m512bh x = (__m512bh)_mm512_set1_epi32(pair);
            c[i][0] = _mm512_dpbf16_ps(c[i][0], x, b0);
            c[i][1] = _mm512_dpbf16_ps(c[i][1], x, b1);
        }
    }
    for (int i = 0; i < rows; i++) {
        _mm512_storeu_ps(out + i * PANEL, c[i][0]);
        _mm512_storeu_ps(out + i * PANEL + 16, c[i][1]);
    }
}
static AVX512_BF16 void pair_512(float *out, const void *a, int64_t row, int64_t step, const void *b, int64_t k, int rows)
{
#define CALL(n) tile_pair_512(out, a, row, step, b, k, n)
    ROWS_SWITCH(CALL)
#undef CALL
}

/* Three rows at a time: twelve sums in sixteen registers. */
static inline __attribute__((always_inline)) AVX2 void tile_f32_256(float *out, const float *a, int64_t row, int64_t step, const float *b, int64_t k, const int rows)
{
    v8 c[3][4];
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < 4; j++) c[i][j] = (v8){0};
    for (int64_t p = 0; p < k; p++, b += PANEL) {
        v8 x[4];
        for (int j = 0; j < 4; j++) x[j] = *(const v8_at *)(b + 8 * j);
        for (int i = 0; i < rows; i++)
            for (int j = 0; j < 4; j++) c[i][j] += a[i * row + p * step] * x[j];
    }
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < 4; j++) *(v8_at *)(out + i * PANEL + 8 * j) = c[i][j];
}
static AVX2 void f32_256(float *out, const void *a, int64_t row, int64_t step, const void *b, int64_t k, int rows)
{
    for (int i = 0; i < rows; i += 3) {
        const float *at = (const float *)a + i * row;
        if (rows - i >= 3)
            tile_f32_256(out + i * PANEL, at, row, step, b, k, 3);
        else if (rows - i == 2)
            tile_f32_256(out + i * PANEL, at, row, step, b, k, 2);
        else
            tile_f32_256(out + i * PANEL, at, row, step, b, k, 1);
    }
}
#endif

static void f32_portable(float *out, const void *a, int64_t row, int64_t step, const void *b, int64_t k, int rows)
{
    const float *x = a, *y = b;
    for (int i = 0; i < rows; i++) {
        float c[PANEL] = {0};
        for (int64_t p = 0; p < k; p++) {
            const float v = x[i * row + p * step];
#pragma omp simd
            for (int j = 0; j < PANEL; j++) c[j] += v * y[p * PANEL + j];
        }
        memcpy(out + i * PANEL, c, sizeof c);
    }
}

typedef void tile_function(float *out, const void *a, int64_t row, int64_t step, const void *b, int64_t k, int rows);

static tile_function *tile_of(enum units u)
{
#if defined(__x86_64__)
    if (u == UNITS_PAIR) return pair_512;
    if (cpu_level() >= CPU_AVX512) return f32_512;
    if (cpu_level() >= CPU_AVX2) return f32_256;
#endif
    BUG_ON(u == UNITS_PAIR, "no bf16 products on this processor");
    return f32_portable;
}

/* ---------------------------------------------------------------- tiles to the result */

MANY_TARGETS static void put_f32(float *c, int64_t ldc, const float *tile, int rows, int64_t columns, float alpha, const float *bias, bool accumulate)
{
    for (int i = 0; i < rows; i++, c += ldc, tile += PANEL) {
        if (accumulate)
#pragma omp simd
            for (int64_t j = 0; j < columns; j++) c[j] += alpha * tile[j];
        else
#pragma omp simd
            for (int64_t j = 0; j < columns; j++) c[j] = alpha * tile[j];
        for (int64_t j = 0; bias && j < columns; j++) c[j] += bias[j];
    }
}

static inline uint16_t round_bf16(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    const uint32_t rounded = (u + 0x7FFF + (u >> 16 & 1)) >> 16, nan = u >> 16 | 0x40;
    return (uint16_t)((u & 0x7FFFFFFFu) > 0x7F800000u ? nan : rounded);
}

MANY_TARGETS static void put_bf16(uint16_t *c, int64_t ldc, const float *tile, int rows, int64_t columns, float alpha, const float *bias, bool accumulate)
{
    for (int i = 0; i < rows; i++, c += ldc, tile += PANEL) {
        float sum[PANEL];
#pragma omp simd
        for (int64_t j = 0; j < columns; j++) sum[j] = alpha * tile[j];
        for (int64_t j = 0; bias && j < columns; j++) sum[j] += bias[j];
        if (accumulate)
            for (int64_t j = 0; j < columns; j++) {
                const uint32_t u = (uint32_t)c[j] << 16;
                float old;
                memcpy(&old, &u, 4);
                sum[j] += old;
            }
#pragma omp simd
        for (int64_t j = 0; j < columns; j++) c[j] = round_bf16(sum[j]);
    }
}

/* Rows [m0, m1) of the panels [p0, p1). */
static void gemm_part(const struct gemm *g, enum units u, int64_t m0, int64_t m1, int64_t p0, int64_t p1)
{
    tile_function *tile = tile_of(u);
    float out[TILE_ROWS * PANEL] __attribute__((aligned(64)));
    for (int64_t p = p0; p < p1; p++) {
        const int64_t columns = g->n - p * PANEL < PANEL ? g->n - p * PANEL : PANEL;
        const float *bias = g->bias ? g->bias + p * PANEL : NULL;
        for (int64_t i = m0; i < m1; i += TILE_ROWS) {
            const int rows = (int)(m1 - i < TILE_ROWS ? m1 - i : TILE_ROWS);
            tile(out, (const char *)g->a + 4 * i * g->row, g->row, g->step, (const char *)g->b + (size_t)p * g->panel, g->k, rows);
            char *c = (char *)g->c + (size_t)(i * g->ldc + p * PANEL) * dtype_size(g->ct);
            if (g->ct == DTYPE_F32)
                put_f32((float *)c, g->ldc, out, rows, columns, g->alpha, bias, g->accumulate);
            else
                put_bf16((uint16_t *)c, g->ldc, out, rows, columns, g->alpha, bias, g->accumulate);
        }
    }
}

void gemm_run(const struct gemm *g, enum units u) { gemm_part(g, u, 0, g->m, 0, panels_in(g->n)); }

/* Blocks of rows that stay in the second-level cache, times panels. */
void gemm_parallel(const struct gemm *g, enum units u)
{
    const int64_t panels = panels_in(g->n), room = (256 << 10) / (g->k > 0 ? 4 * g->k : 4);
    int64_t block = room / TILE_ROWS * TILE_ROWS;
    if (block < 4 * TILE_ROWS) block = 4 * TILE_ROWS;
    const int64_t blocks = (g->m + block - 1) / block, tasks = blocks * panels;
    if (g->m <= 0 || g->n <= 0) return;
#pragma omp parallel for schedule(static) num_threads(backend_thread_count())
    for (int64_t t = 0; t < tasks; t++) {
        const int64_t b = t / panels, p = t % panels, m1 = (b + 1) * block < g->m ? (b + 1) * block : g->m;
        gemm_part(g, u, b * block, m1, p, p + 1);
    }
}

/* ---------------------------------------------------------------- packing */

static inline float value_at(const char *p, enum dtype t)
{
    float f;
    uint16_t h;
    if (t == DTYPE_F32) {
        memcpy(&f, p, 4);
        return f;
    }
    memcpy(&h, p, 2);
    return t == DTYPE_BF16 ? bf16_to_f32(h) : f16_to_f32(h);
}

static inline uint16_t bf16_at(const char *p, enum dtype t)
{
    uint16_t h;
    if (t != DTYPE_BF16) return f32_to_bf16(value_at(p, t));
    memcpy(&h, p, 2);
    return h;
}

void pack_panels(void *panels, enum units u, const void *src, enum dtype t, int64_t ks, int64_t ns, int64_t k, int64_t n)
{
    const int64_t size = (int64_t)dtype_size(t), units = units_in(u, k);
#pragma omp parallel for schedule(static) num_threads(backend_thread_count()) if (n * k > 65536)
    for (int64_t p = 0; p < panels_in(n); p++) {
        char *out = (char *)panels + (size_t)p * panel_bytes(u, k);
        const int64_t columns = n - p * PANEL < PANEL ? n - p * PANEL : PANEL;
        memset(out, 0, panel_bytes(u, k));
        for (int64_t i = 0; i < units; i++)
            for (int64_t j = 0; j < columns; j++) {
                const char *at = (const char *)src + (u == UNITS_PAIR ? 2 * i : i) * ks * size + (p * PANEL + j) * ns * size;
                if (u == UNITS_F32) {
                    ((float *)out)[i * PANEL + j] = value_at(at, t);
                } else {
                    uint16_t *pair = (uint16_t *)out + (i * PANEL + j) * 2;
                    pair[0] = bf16_at(at, t);
                    if (2 * i + 1 < k) pair[1] = bf16_at(at + ks * size, t);
                }
            }
    }
}

const void *units_of_rows(enum units u, const void *x, enum dtype t, int64_t ld, int64_t m, int64_t k, enum scratch_slot slot, int64_t *row)
{
    if (u == UNITS_F32 && t == DTYPE_F32 && (uintptr_t)x % 4 == 0) return *row = ld, x;
    if (u == UNITS_PAIR && t == DTYPE_BF16 && k % 2 == 0 && ld % 2 == 0 && (uintptr_t)x % 4 == 0) return *row = ld / 2, x;
    const int64_t units = units_in(u, k), size = (int64_t)dtype_size(t);
    char *out = scratch(slot, (size_t)(m * units) * 4);
#pragma omp parallel for schedule(static) num_threads(backend_thread_count()) if (m * k > 65536)
    for (int64_t i = 0; i < m; i++) {
        const char *from = (const char *)x + i * ld * size;
        if (u == UNITS_F32) {
            tensor_convert(out + i * units * 4, DTYPE_F32, from, t, k);
        } else {
            tensor_convert(out + i * units * 4, DTYPE_BF16, from, t, k);
            if (k % 2) memset(out + i * units * 4 + 2 * k, 0, 2);
        }
    }
    *row = units;
    return out;
}

const void *units_transposed(enum units u, const void *x, enum dtype t, int64_t ld, int64_t m, int64_t n, enum scratch_slot slot, int64_t *row, int64_t *step)
{
    if (u == UNITS_F32 && t == DTYPE_F32 && (uintptr_t)x % 4 == 0) return *row = 1, *step = ld, x;
    const int64_t units = units_in(u, m), size = (int64_t)dtype_size(t);
    char *out = scratch(slot, (size_t)(units * n) * 4);
#pragma omp parallel for schedule(static) num_threads(backend_thread_count()) if (m * n > 65536)
    for (int64_t i = 0; i < units; i++) {
        const char *from = (const char *)x + (u == UNITS_PAIR ? 2 * i : i) * ld * size;
        if (u == UNITS_F32) {
            tensor_convert(out + i * n * 4, DTYPE_F32, from, t, n);
            continue;
        }
        uint16_t *pair = (uint16_t *)(out + i * n * 4);
        for (int64_t j = 0; j < n; j++) {
            pair[2 * j] = bf16_at(from + j * size, t);
            pair[2 * j + 1] = 2 * i + 1 < m ? bf16_at(from + (ld + j) * size, t) : 0;
        }
    }
    *row = 1;
    *step = n;
    return out;
}
