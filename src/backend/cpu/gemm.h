/* Products of small and large matrices. A is read in units of four bytes: an f32, or a pair of bf16 along k. B is packed in panels of 32 columns, unit by unit:
 *   UNITS_F32   panel[k][32] f32
 *   UNITS_PAIR  panel[k / 2][32][2] bf16 (processors with bf16 dot products)
 * A sum runs over k from 0 upwards whatever the tile is, so that a row's result does not depend on its neighbours. */
#ifndef SAIL_BACKEND_CPU_GEMM_H
#define SAIL_BACKEND_CPU_GEMM_H

#include "backend/cpu/cpu.h"

enum units { UNITS_F32, UNITS_PAIR };
enum { PANEL = 32, TILE_ROWS = 14 };

/* How values of a compute dtype meet in a product on this processor. */
static inline enum units units_of(enum dtype compute) { return compute == DTYPE_BF16 && cpu_level() == CPU_AVX512_BF16 ? UNITS_PAIR : UNITS_F32; }
static inline int64_t units_in(enum units u, int64_t k) { return u == UNITS_PAIR ? (k + 1) / 2 : k; }
static inline int64_t panels_in(int64_t n) { return (n + PANEL - 1) / PANEL; }
static inline size_t panel_bytes(enum units u, int64_t k) { return (size_t)units_in(u, k) * PANEL * 4; }

/* c (m, n) = alpha a b + bias   [accumulate: c += ...] */
struct gemm {
    const void *a;
    int64_t row, step; /* in units: from a row of A to the next, from a unit of k to the next */
    const void *b;     /* panels, one after the other */
    size_t panel;      /* bytes from a panel to the next */
    int64_t m, n, k;   /* k in units */
    void *c;
    enum dtype ct;
    int64_t ldc;
    float alpha;
    const float *bias;
    bool accumulate;
};
/* On the calling thread alone. */
void gemm_run(const struct gemm *g, enum units u);
/* Spread over the threads. */
void gemm_parallel(const struct gemm *g, enum units u);

/* Panels of B (k, n): element (k, n) is at src + k * ks + n * ns elements of type t; k in values. n0, n1: only panels of these columns. */
void pack_panels(void *panels, enum units u, const void *src, enum dtype t, int64_t ks, int64_t ns, int64_t k, int64_t n);
/* x (m, k) as units with row stride units_in(k): itself when it fits, else a copy in scratch. */
const void *units_of_rows(enum units u, const void *x, enum dtype t, int64_t ld, int64_t m, int64_t k, enum scratch_slot slot, int64_t *row);
/* Transposed: units along m (pairs of rows), [m / 2][n] pairs or a plain f32 view; *row and *step for struct gemm with A = x^T (n, m). */
const void *units_transposed(enum units u, const void *x, enum dtype t, int64_t ld, int64_t m, int64_t n, enum scratch_slot slot, int64_t *row, int64_t *step);

#endif
