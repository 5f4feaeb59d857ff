#include "backend/ref/ref.h"

void ref_rmsnorm_fwd(void *y, enum dtype yt, float *rstd, const void *x, enum dtype xt, const float *w, int64_t rows, int64_t c,
                     float eps, float offset)
{
    for (int64_t r = 0; r < rows; r++) {
        double sum = 0;
        for (int64_t i = 0; i < c; i++) sum += element(x, xt, r * c + i) * element(x, xt, r * c + i);
        double s = 1 / sqrt(sum / (double)c + eps);
        rstd[r] = (float)s;
        for (int64_t i = 0; i < c; i++) element_set(y, yt, r * c + i, element(x, xt, r * c + i) * s * ((double)w[i] + offset));
    }
}

// y_i = x_i s g_i with s = (mean x^2 + eps)^(-1/2), g = w + offset:  dx_i = s (g_i dy_i - xhat_i mean(g dy xhat)), xhat = x s
void ref_rmsnorm_bwd_acc(float *dx, float *dw, const void *dy, enum dtype dyt, const void *x, enum dtype xt, const float *w,
                         const float *rstd, int64_t rows, int64_t c, float offset)
{
    for (int64_t r = 0; r < rows; r++) {
        double s = rstd[r], sum = 0;
        for (int64_t i = 0; i < c; i++)
            sum += ((double)w[i] + offset) * element(dy, dyt, r * c + i) * element(x, xt, r * c + i) * s;
        for (int64_t i = 0; i < c; i++) {
            double d = element(dy, dyt, r * c + i), xhat = element(x, xt, r * c + i) * s;
            dx[r * c + i] = (float)(dx[r * c + i] + s * (((double)w[i] + offset) * d - xhat * sum / (double)c));
        }
    }
    for (int64_t i = 0; dw && i < c; i++) {
        double sum = 0;
        for (int64_t r = 0; r < rows; r++) sum += element(dy, dyt, r * c + i) * element(x, xt, r * c + i) * rstd[r];
        dw[i] = (float)(dw[i] + sum);
    }
}

void ref_layernorm_fwd(void *y, enum dtype yt, float *stat, const void *x, enum dtype xt, const float *w, const float *b,
                       int64_t rows, int64_t c, float eps)
{
    for (int64_t r = 0; r < rows; r++) {
        double mean = 0, var = 0;
        for (int64_t i = 0; i < c; i++) mean += element(x, xt, r * c + i);
        mean /= (double)c;
        for (int64_t i = 0; i < c; i++) {
            double d = element(x, xt, r * c + i) - mean;
            var += d * d;
        }
        double s = 1 / sqrt(var / (double)c + eps);
        stat[2 * r] = (float)mean;
        stat[2 * r + 1] = (float)s;
        for (int64_t i = 0; i < c; i++)
            element_set(y, yt, r * c + i, (element(x, xt, r * c + i) - mean) * s * w[i] + (b ? b[i] : 0));
    }
}

// dx_i = s (g_i - mean(g) - xhat_i mean(g xhat)) with g = w dy, xhat = (x - mean) s
void ref_layernorm_bwd_acc(float *dx, float *dw, float *db, const void *dy, enum dtype dyt, const void *x, enum dtype xt,
                           const float *w, const float *stat, int64_t rows, int64_t c)
{
    for (int64_t r = 0; r < rows; r++) {
        double mean = stat[2 * r], s = stat[2 * r + 1], sum = 0, dot = 0;
        for (int64_t i = 0; i < c; i++) {
            double g = w[i] * element(dy, dyt, r * c + i);
            sum += g;
            dot += g * (element(x, xt, r * c + i) - mean) * s;
        }
        for (int64_t i = 0; i < c; i++) {
            double g = w[i] * element(dy, dyt, r * c + i), xhat = (element(x, xt, r * c + i) - mean) * s;
            dx[r * c + i] = (float)(dx[r * c + i] + s * (g - sum / (double)c - xhat * dot / (double)c));
        }
    }
    for (int64_t i = 0; i < c; i++) {
        double sum = 0, dot = 0;
        for (int64_t r = 0; r < rows; r++) {
            double d = element(dy, dyt, r * c + i);
            sum += d;
            dot += d * (element(x, xt, r * c + i) - stat[2 * r]) * stat[2 * r + 1];
        }
        if (dw) dw[i] = (float)(dw[i] + dot);
        if (db) db[i] = (float)(db[i] + sum);
    }
}
