/* oneDNN's matrix product behind one small header; its C API differs between versions 2 and 3, and both build. */
#ifndef SAIL_BENCH_ONEDNN_MATMUL_H
#define SAIL_BENCH_ONEDNN_MATMUL_H

#include <stdint.h>

#include "tensor/tensor.h"

struct onednn_matmul;

/* y (m, n) = x (m, k) W; W is row-major (n, k) when transposed, else (k, n), in the type of x and y. It is copied once into the layout that oneDNN asks for,
 * copies times over. Ends the program when oneDNN refuses. */
struct onednn_matmul *onednn_matmul_create(int64_t m, int64_t n, int64_t k, enum dtype type, const void *w, bool transposed, int copies);
/* One product with the copy of that number. */
void onednn_matmul_run(struct onednn_matmul *p, int copy, void *y, const void *x);
void onednn_matmul_free(struct onednn_matmul *p);

const char *onednn_matmul_kernel(const struct onednn_matmul *p);
/* "2.6.3" */
const char *onednn_release(void);

#endif
