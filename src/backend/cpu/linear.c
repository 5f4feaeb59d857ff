/* Products with weights: packed once into panels for the forward product, and once more, the other way round, for the gradient to the input. */
#include <stdlib.h>

#include "backend/cpu/gemm.h"
#include "backend/ref/ref.h"

/* Panels of W^T (n_in, n_out) for y = x W^T, or of W (n_out, n_in) for dx = dy W: part by part into one matrix in memory first when there are several. */
static void pack_weight(struct weight *w, void *panels, bool backward)
{
    const enum units u = units_of(w->compute);
    const int64_t K = backward ? w->n_out : w->n_in, N = backward ? w->n_in : w->n_out;
    const bool rounds = w->compute == DTYPE_BF16 && u == UNITS_F32 && w->part[0].dtype != DTYPE_BF16; // bf16 products without bf16 instructions
    if (w->n_part == 1 && !rounds) {
        const struct weight_part *p = &w->part[0];
        const int64_t out_stride = p->transposed ? 1 : p->ld, in_stride = p->transposed ? p->ld : 1;
        pack_panels(panels, u, p->data, p->dtype, backward ? out_stride : in_stride, backward ? in_stride : out_stride, K, N);
        return;
    }
    const enum dtype t = w->compute;
    char *whole = scratch(SCRATCH_SHARED, (size_t)(w->n_out * w->n_in) * dtype_size(t));
    int64_t row = 0;
    for (int i = 0; i < w->n_part; i++) {
        const struct weight_part *p = &w->part[i];
        for (int64_t o = 0; o < p->n_out; o++, row++) {
            char *to = whole + (size_t)(row * w->n_in) * dtype_size(t);
            if (!p->transposed) {
                tensor_convert(to, t, (const char *)p->data + (size_t)(o * p->ld) * dtype_size(p->dtype), p->dtype, w->n_in);
                continue;
            }
            for (int64_t k = 0; k < w->n_in; k++)
                tensor_convert(to + (size_t)k * dtype_size(t), t, (const char *)p->data + (size_t)(k * p->ld + o) * dtype_size(p->dtype), p->dtype, 1);
        }
    }
    pack_panels(panels, u, whole, t, backward ? w->n_in : 1, backward ? 1 : w->n_in, K, N);
}

static int make_pack(struct weight *w, bool backward, void **out, sail_err *err)
{
    const enum units u = units_of(w->compute);
    const int64_t K = backward ? w->n_out : w->n_in, N = backward ? w->n_in : w->n_out;
    const size_t bytes = (panel_bytes(u, K) * (size_t)panels_in(N) + 4095) & ~(size_t)4095;
    *out = aligned_alloc(4096, bytes);
    if (!*out) return err_set(err, SAIL_FAILED, "out of memory: %zu bytes for a weight's layout", bytes);
    pack_weight(w, *out, backward);
    return SAIL_OK;
}

int cpu_weight_prepare(struct weight *w, enum dtype compute, unsigned uses, sail_err *err)
{
    int rc = ref_weight_prepare(w, compute, uses, err);
    if (!rc && (uses & WEIGHT_FWD)) rc = make_pack(w, false, &w->pack_fwd, err);
    if (!rc && (uses & WEIGHT_BWD)) rc = make_pack(w, true, &w->pack_bwd, err);
    w->self_contained = true;
    return rc;
}

void cpu_weight_refresh(struct weight *w)
{
    if (w->pack_fwd) pack_weight(w, w->pack_fwd, false);
    if (w->pack_bwd) pack_weight(w, w->pack_bwd, true);
}

void cpu_weight_release(struct weight *w)
{
    free(w->pack_fwd);
    free(w->pack_bwd);
    w->pack_fwd = w->pack_bwd = NULL;
}

void cpu_linear_fwd(void *y, enum dtype yt, int64_t ldy, const void *x, enum dtype xt, int64_t ldx, const struct weight *w, const float *bias, int64_t m, float alpha, bool accumulate)
{
    const enum units u = units_of(w->compute);
    struct gemm g = {.step = 1, .b = w->pack_fwd, .panel = panel_bytes(u, w->n_in), .m = m, .n = w->n_out, .k = units_in(u, w->n_in), .c = y, .ct = yt, .ldc = ldy, .alpha = alpha,
                     .bias = bias, .accumulate = accumulate};
    if (m <= 0) return;
    g.a = units_of_rows(u, x, xt, ldx, m, w->n_in, SCRATCH_A, &g.row);
    gemm_parallel(&g, u);
}

void cpu_linear_bwd_x(void *dx, enum dtype dxt, int64_t lddx, const void *dy, enum dtype dyt, int64_t lddy, const struct weight *w, int64_t m, float alpha, bool accumulate)
{
    const enum units u = units_of(w->compute);
    struct gemm g = {.step = 1, .b = w->pack_bwd, .panel = panel_bytes(u, w->n_out), .m = m, .n = w->n_in, .k = units_in(u, w->n_out), .c = dx, .ct = dxt, .ldc = lddx, .alpha = alpha,
                     .accumulate = accumulate};
    if (m <= 0) return;
    g.a = units_of_rows(u, dy, dyt, lddy, m, w->n_out, SCRATCH_A, &g.row);
    gemm_parallel(&g, u);
}

/* dw (n_out, n_in) += alpha dy^T x: rows of A are columns of dy, k runs over the m rows. */
void cpu_linear_bwd_w(float *dw, const void *dy, enum dtype dyt, int64_t lddy, const void *x, enum dtype xt, int64_t ldx, int64_t n_out, int64_t n_in, int64_t m, float alpha, bool transposed)
{
    const enum units u = dyt == DTYPE_BF16 && xt == DTYPE_BF16 ? units_of(DTYPE_BF16) : UNITS_F32;
    const void *left = transposed ? x : dy, *right = transposed ? dy : x;
    const enum dtype lt = transposed ? xt : dyt, rt = transposed ? dyt : xt;
    const int64_t ldl = transposed ? ldx : lddy, ldr = transposed ? lddy : ldx, rows = transposed ? n_in : n_out, columns = transposed ? n_out : n_in;
    if (m <= 0) return;
    void *panels = scratch(SCRATCH_B, panel_bytes(u, m) * (size_t)panels_in(columns));
    pack_panels(panels, u, right, rt, ldr, 1, m, columns);
    struct gemm g = {.b = panels, .panel = panel_bytes(u, m), .m = rows, .n = columns, .k = units_in(u, m), .c = dw, .ct = DTYPE_F32, .ldc = columns, .alpha = alpha, .accumulate = true};
    g.a = units_transposed(u, left, lt, ldl, m, rows, SCRATCH_A, &g.row, &g.step);
    gemm_parallel(&g, u);
}
