#include "backend/ref/ref.h"

void ref_gather_fwd(void *y, const void *x, enum dtype t, const int32_t *index, int64_t n, int64_t c)
{
    size_t row = (size_t)c * dtype_size(t);
    for (int64_t r = 0; r < n; r++) memcpy((char *)y + (size_t)r * row, (const char *)x + (size_t)index[r] * row, row);
}

void ref_gather_bwd_acc(float *dx, const float *dy, const int32_t *index, int64_t n, int64_t c)
{
    for (int64_t r = 0; r < n; r++)
        for (int64_t i = 0; i < c; i++) dx[index[r] * c + i] += dy[r * c + i];
}

void ref_convert(void *y, enum dtype yt, const void *x, enum dtype xt, int64_t n) { tensor_convert(y, yt, x, xt, n); }

void ref_add_acc(float *y, const void *x, enum dtype xt, int64_t n, float alpha)
{
    for (int64_t i = 0; i < n; i++) y[i] = (float)(y[i] + alpha * element(x, xt, i));
}
