#include "backend/cpu/kernels.h"

enum { BLOCK = 4096, BLOCKS = 256 };

/* Sums of fixed blocks, added in order. */
double cpu_square_sum(const float *x, int64_t n)
{
    const struct kernels *k = kernels();
    const int64_t blocks = (n + BLOCK - 1) / BLOCK;
    double part[BLOCKS], total = 0;
    for (int64_t from = 0; from < blocks; from += BLOCKS) {
        const int64_t count = blocks - from < BLOCKS ? blocks - from : BLOCKS;
#pragma omp parallel for num_threads(backend_thread_count()) schedule(static) if (count > 8)
        for (int64_t b = 0; b < count; b++) {
            const int64_t at = (from + b) * BLOCK;
            part[b] = k->square_sum(x + at, n - at < BLOCK ? n - at : BLOCK);
        }
        for (int64_t b = 0; b < count; b++) total += part[b];
    }
    return total;
}

void cpu_adamw(float *value, float *m, float *v, float *most, float *grad, int64_t n, const struct adamw_step *step)
{
    const struct kernels *k = kernels();
#pragma omp parallel for num_threads(backend_thread_count()) schedule(static) if (n > 8 * BLOCK)
    for (int64_t i = 0; i < n; i += BLOCK)
        k->adamw(value + i, m + i, v + i, most ? most + i : NULL, grad + i, n - i < BLOCK ? n - i : BLOCK, step);
}
