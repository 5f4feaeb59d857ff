/* What is written once in terms of vectors and compiled for each kind of processor. A kernel runs on one thread.
 *
 * Products. A is read in units of four bytes: an f32, or a pair of bf16 along k. B is packed in panels of `nr` columns:
 *   UNITS_F32   panel[k][nr] f32
 *   UNITS_BF16  panel[k][nr] bf16, widened while it is read; A is f32 (processors without bf16 products)
 *   UNITS_PAIR  panel[k / 2][nr][2] bf16; A is bf16 pairs
 * Each sum runs over k from 0 upwards whatever the tile is, so that a row's result does not depend on its neighbours. */
#ifndef SAIL_BACKEND_CPU_KERNELS_H
#define SAIL_BACKEND_CPU_KERNELS_H

#include "backend/cpu/cpu.h"

enum units { UNITS_F32, UNITS_BF16, UNITS_PAIR, UNITS_COUNT };

/* c (m, n) = alpha a b + bias   [accumulate: c += ...] */
struct gemm {
    const char *a;
    int64_t row, step; // bytes from a row of A to the next, from a unit of k to the next
    int64_t tile;      // A packed in tiles of mr rows: bytes from one to the next; 0: it is not
    const char *b;
    int64_t panel;    // bytes from a panel to the next
    const char *next; // panels that the product after this one reads, of the same shape; NULL: unknown
    int64_t m, n, k; // k in units
    char *c;
    enum dtype ct;
    int64_t ldc; // elements
    float alpha;
    const float *bias;
    bool accumulate;
};

/* What a tile fetches from memory while it multiplies: so many bytes further with every unit of k; at NULL: nothing. */
struct ahead {
    const char *at;
    int64_t step;
};
enum { FEW_TILES = 8 };

/* What a softmax fetches meanwhile: `step` bytes with every vector of scores, and `block` bytes from the first of CACHE_BLOCK scores to that of the next. */
struct fetch {
    const char *at;
    int64_t step, block;
};

/* Scores of a tile: a row for a key, rows ld apart, a column for a query. Query c is at position[c], key j at key_position + j; window 0: all keys before. The columns' arrays
 * reach up to whole vectors. */
struct attn_tile {
    float *s;
    int64_t ld, keys, queries;
    const int32_t *position;
    int64_t key_position, window;
    float softcap;
};

struct kernels {
    int lanes, mr, nr;
    void (*gemm[UNITS_COUNT])(const struct gemm *g);

    void (*widen)(float *y, const void *x, enum dtype xt, int64_t n);   // F32, BF16, F16 -> f32
    void (*narrow)(void *y, const float *x, int64_t n);                 // f32 -> bf16
    void (*zip)(void *y, const void *even, const void *odd, int64_t n); // two bf16 rows -> pairs; odd NULL: zeros
    void (*pair_rows)(void *y, const float *even, const float *odd, int64_t n); // two f32 rows, rounded -> pairs; odd NULL: zeros; y may be even
    /* m rows of x as units of a product's depth, in blocks of `width` columns: unit u of block b is at out + b block + 4 u width. Pairs: a unit is two bf16
     * rows; else one, in f32. Zeros beyond the last row and column. */
    void (*tiles)(char *out, int64_t block, int64_t width, const void *x, enum dtype t, int64_t ld, int64_t m, int64_t n, bool pair);
    /* y[k][n] = x[n][k], four-byte units, strides in units. */
    void (*transpose)(void *y, int64_t ldy, const void *x, int64_t ldx, int64_t n, int64_t k);
    /* nr by nr values from a panel whose columns are rows of W to one whose columns are columns of W. */
    void (*turn_tile[UNITS_COUNT])(void *y, const void *x);

    void (*axpy)(void *y, enum dtype yt, const void *x, enum dtype xt, int64_t n, float alpha, bool accumulate); // y (+)= alpha x
    void (*column_sum)(float *db, const void *dy, enum dtype t, int64_t ld, int64_t m, int64_t n);

    float (*rmsnorm)(void *y, enum dtype yt, const void *x, enum dtype xt, const float *w, int64_t c, float eps, float offset);
    void (*rmsnorm_bwd)(float *dx, const void *dy, enum dtype dyt, const void *x, enum dtype xt, const float *w, float rstd,
                        int64_t c, float offset);
    void (*layernorm)(void *y, enum dtype yt, float stat[2], const void *x, enum dtype xt, const float *w, const float *b,
                      int64_t c, float eps);
    void (*layernorm_bwd)(float *dx, const void *dy, enum dtype dyt, const void *x, enum dtype xt, const float *w,
                          const float stat[2], int64_t c);
    /* Columns [from, from + n) of dw += sum over rows dy (x - mean) rstd; stat rows are (mean, rstd), or rstd alone. */
    void (*norm_bwd_w)(float *dw, const void *dy, enum dtype dyt, const void *x, enum dtype xt, const float *stat, bool with_mean,
                       int64_t rows, int64_t c, int64_t from, int64_t n);

    void (*turn)(void *x, enum dtype t, const float *cosine, const float *sine, float direction, int64_t half);

    /* y = act(gate) up; up NULL: act(gate). And dgate, dup from dy. */
    void (*act)(void *y, const void *gate, const void *up, enum dtype t, int64_t n, enum activation act);
    void (*act_bwd)(void *dgate, void *dup, const void *dy, const void *gate, const void *up, enum dtype t, int64_t n,
                    enum activation act);

    /* z[i] = softcap(z[i]); returns the largest; *sum = sum of exp(z - largest). */
    float (*softmax_sum)(float *z, int64_t n, float softcap, float *sum);
    /* z[i] -> coef (-exp(softcap(z[i]) - lse)) slope; out is F32 or BF16. The target's own term is the caller's. */
    void (*softmax_bwd)(void *out, enum dtype t, const float *z, int64_t n, float softcap, float lse, float coef);

    float (*largest)(const float *z, int64_t n);
    float (*exp_stretch)(float *e, const float *z, int64_t n, float max, float scale); // e = exp((z - max) scale); their sum

    /* Scores of a query's visible keys -> exp(score - max); max and sum go on from what they were, and what was summed
     * before must be multiplied by the value returned. fetch: what will be read next. */
    float (*attn_softmax)(float *s, int64_t n, float softcap, float *max, float *sum, const struct fetch *fetch);
    /* The same down the columns of a tile: max, sum and what was summed before is multiplied by (older), of each query. */
    void (*attn_softmax_down)(const struct attn_tile *t, float *max, float *sum, float *older);
    /* s -> ds = p (dp - delta) slope with p = exp(softcap(s) - lse), which is kept where p is not NULL. lse and delta: one
     * value, or one a column. */
    void (*attn_grad)(float *s, float *p, const float *dp, int64_t n, float softcap, const float *lse, const float *delta,
                      bool per_column);
    double (*square_sum)(const float *x, int64_t n);
    void (*adamw)(float *value, float *m, float *v, float *most, float *grad, int64_t n, const struct adamw_step *step);
    float (*dot)(const void *x, enum dtype xt, const void *y, enum dtype yt, int64_t n);
};

const struct kernels *kernels(void); // for cpu_level()
extern const struct kernels kernels_portable, kernels_avx2, kernels_avx512, kernels_avx512_bf16, kernels_amx;

/* How values of `compute` meet in a product on this processor. */
enum units units_of(enum dtype compute);
/* Units of k values; bytes of a panel so deep. */
int64_t units_deep(enum units u, int64_t k);
int64_t panel_bytes(enum units u, int64_t k);

/* Part `part` of `parts` of a product; all parts together are the whole. */
void gemm_part(const struct gemm *g, enum units u, int part, int parts);
/* The same without B: *own gets the part's rows and columns, *panel its first panel. False: nothing. */
bool gemm_share(struct gemm *own, int64_t *panel, const struct gemm *g, int part, int parts);

#endif
