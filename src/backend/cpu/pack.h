/* A weight in the layout of its products. */
#ifndef SAIL_BACKEND_CPU_PACK_H
#define SAIL_BACKEND_CPU_PACK_H

#include "backend/cpu/kernels.h"

/* The vocabulary's products run range by range, backward ones of all weights too; ranges begin at multiples of this (and end there or at n_out). */
enum { PACK_RANGE = 2048 };

/* Panels of B = W^T, n_in deep, n_out columns. Those of B = W for dy W are made from them while they are needed: a share of a thousandth of that product, for half
 * of the memory. */
struct pack {
    enum dtype compute;
    int64_t n_out, n_in;
    enum units units;
    char *panels;
};

struct product {
    void *y;
    enum dtype yt;
    int64_t ldy;
    const void *x;
    enum dtype xt;
    int64_t ldx;
    const float *bias;
    int64_t m;
    float alpha;
    bool accumulate;
};

/* y = alpha x W^T + bias (+ y), for rows from .. to of W alone: y begins at column `from`. */
void pack_forward(const struct pack *p, const struct product *q, int64_t from, int64_t to);
/* y = alpha x W (+ y), x being the columns from .. to of a longer one. An f32 y is summed range by range. */
void pack_backward(const struct pack *p, const struct product *q, int64_t from, int64_t to);

/* n values of row o of W from column i, as f32. */
void weight_row(const struct weight *w, int64_t o, int64_t i, int64_t n, float *out);

/* The rows of x as products of `compute` read them: x itself where its type allows, else a copy in scratch slot A made by
 * the whole team. *row gets the bytes from a row to the next. */
const char *rows_as_units(const void *x, enum dtype xt, int64_t ldx, int64_t m, int64_t k, enum dtype compute, enum units u,
                          int64_t *row);

#endif
