/* What this machine can do at most: the ceilings that shares are taken of. */
#include <stdlib.h>
#include <sys/mman.h>

#include "backend/backend.h"
#include "backend/cpu/cpu.h"
#include "base/log.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include "backend/cpu/tiles.h"
#endif

enum { CHAINS = 12 }; // independent sums: more than latency times throughput of any multiply-add unit

typedef float v4 __attribute__((vector_size(16)));

/* Each burst does about the same work and returns its operations; the result is kept alive through *sink. */
static double burst_portable(int64_t n, float *sink)
{
    v4 a[CHAINS], x = {1, 1, 1, 1}, y = {1e-9f, 1e-9f, 1e-9f, 1e-9f};
    for (int c = 0; c < CHAINS; c++) a[c] = (v4){(float)c};
    for (int64_t i = 0; i < n; i++) {
        for (int c = 0; c < CHAINS; c++) a[c] = a[c] * x + y;
        __asm__ volatile("" : "+m"(x)); // the compiler must not see through the loop
    }
    for (int c = 0; c < CHAINS; c++) *sink += a[c][0];
    return 2.0 * 4 * CHAINS * (double)n;
}

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) static double burst_avx2(int64_t n, float *sink)
{
    __m256 a[CHAINS], x = _mm256_set1_ps(1), y = _mm256_set1_ps(1e-9f);
    for (int c = 0; c < CHAINS; c++) a[c] = _mm256_set1_ps((float)c);
    for (int64_t i = 0; i < n; i++) {
#pragma GCC unroll 12
        for (int c = 0; c < CHAINS; c++) a[c] = _mm256_fmadd_ps(x, y, a[c]);
        __asm__ volatile("" : "+x"(x), "+x"(y));
    }
    for (int c = 0; c < CHAINS; c++) *sink += _mm256_cvtss_f32(a[c]);
    return 2.0 * 8 * CHAINS * (double)n;
}

__attribute__((target("avx512f"))) static double burst_avx512(int64_t n, float *sink)
{
    __m512 a[CHAINS], x = _mm512_set1_ps(1), y = _mm512_set1_ps(1e-9f);
    for (int c = 0; c < CHAINS; c++) a[c] = _mm512_set1_ps((float)c);
    for (int64_t i = 0; i < n; i++) {
#pragma GCC unroll 12
        for (int c = 0; c < CHAINS; c++) a[c] = _mm512_fmadd_ps(x, y, a[c]);
        __asm__ volatile("" : "+v"(x), "+v"(y));
    }
    for (int c = 0; c < CHAINS; c++) *sink += _mm512_cvtss_f32(a[c]);
    return 2.0 * 16 * CHAINS * (double)n;
}

__attribute__((target("avx512f,avx512bf16"))) static double burst_bf16(int64_t n, float *sink)
{
    __m512 a[CHAINS];
    __m512i x = _mm512_set1_epi16(0x3F80), y = _mm512_set1_epi16(0x3080); // 1 and about 1e-9
    for (int c = 0; c < CHAINS; c++) a[c] = _mm512_set1_ps((float)c);
    for (int64_t i = 0; i < n; i++) {
#pragma GCC unroll 12
        for (int c = 0; c < CHAINS; c++) a[c] = _mm512_dpbf16_ps(a[c], (__m512bh)x, (__m512bh)y);
        __asm__ volatile("" : "+v"(x), "+v"(y));
    }
    for (int c = 0; c < CHAINS; c++) *sink += _mm512_cvtss_f32(a[c]);
    return 2.0 * 32 * CHAINS * (double)n;
}

/* Six tiles of sums; a product has 16 x 16 of them, 32 deep. */
__attribute__((target("amx-tile,amx-bf16"))) static double burst_tiles(int64_t n, float *sink)
{
    n /= 8; // a product is many times as long as a vector's
    float sums[16 * 16] = {0};
    _tile_loadconfig(&tile_shape);
    _tile_zero(6);
    _tile_zero(7);
    for (int64_t i = 0; i < n; i++) {
        _tile_dpbf16ps(0, 6, 7);
        _tile_dpbf16ps(1, 6, 7);
        _tile_dpbf16ps(2, 6, 7);
        _tile_dpbf16ps(3, 6, 7);
        _tile_dpbf16ps(4, 6, 7);
        _tile_dpbf16ps(5, 6, 7);
    }
    _tile_stored(0, sums, 64);
    _tile_release();
    *sink += sums[0];
    return 2.0 * 16 * 16 * 32 * 6 * (double)n;
}
#endif

static double (*burst_choose(enum dtype compute))(int64_t, float *)
{
    (void)compute;
#if defined(__x86_64__)
    enum cpu_level level = cpu_level();
    if (level == CPU_AMX && compute == DTYPE_BF16) return burst_tiles;
    if (level == CPU_AVX512_BF16 && compute == DTYPE_BF16) return burst_bf16;
    if (level >= CPU_AVX512) return burst_avx512;
    if (level >= CPU_AVX2) return burst_avx2;
#endif
    return burst_portable;
}

double backend_peak_gflops(enum dtype compute)
{
    double (*burst)(int64_t, float *) = burst_choose(compute), best = 0, until = clock_seconds() + 0.2;
    int threads = backend_thread_count();
    volatile float keep = 0;
    do {
        double work = 0, start = clock_seconds();
#pragma omp parallel num_threads(threads) reduction(+ : work)
        {
            float sink = 0;
            work += burst(200000, &sink);
            keep = sink;
        }
        double rate = work / (clock_seconds() - start) * 1e-9;
        if (rate > best) best = rate;
    } while (clock_seconds() < until);
    (void)keep;
    return best;
}

double backend_memory_gbs(void)
{
    const size_t bytes = (size_t)192 << 20; // far beyond the last cache
    uint64_t *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return 0;
    madvise(p, bytes, MADV_HUGEPAGE);
    int threads = backend_thread_count();
    int64_t n = (int64_t)(bytes / sizeof *p);
#pragma omp parallel for num_threads(threads)
    for (int64_t i = 0; i < n; i++) p[i] = (uint64_t)i;
    double best = 0;
    volatile uint64_t keep = 0;
    for (int turn = 0; turn < 6; turn++) {
        uint64_t sum = 0;
        double start = clock_seconds();
#pragma omp parallel for simd num_threads(threads) reduction(+ : sum)
        for (int64_t i = 0; i < n; i++) sum += p[i];
        keep = sum;
        double rate = (double)bytes / (clock_seconds() - start) * 1e-9;
        if (rate > best) best = rate;
    }
    (void)keep;
    munmap(p, bytes);
    return best;
}

const char *backend_describe(void)
{
    static const char *const level[] = {"portable", "AVX2", "AVX-512", "AVX-512 BF16", "AMX"};
    return level[cpu_level()];
}
