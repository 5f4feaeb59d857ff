#include <stdlib.h>

#include "backend/ref/ref.h"

static double logit(const void *h, enum dtype t, const struct weight *w, int64_t v, double softcap, double scale, double *slope)
{
    double sum = 0;
    for (int64_t i = 0; i < w->n_in; i++) sum += rounded(element(h, t, i), w->compute) * weight_element(w, v, i);
    return soft_cap(scale * sum, softcap, slope);
}

void ref_head_fwd(float *logp, float *lse, float *square, const void *h, enum dtype t, int64_t ldh, const struct weight *w,
                  const int32_t *target, int64_t n, float softcap, float scale)
{
#pragma omp parallel for num_threads(backend_thread_count())
    for (int64_t r = 0; r < n; r++) {
        const void *row = (const char *)h + (size_t)(r * ldh) * dtype_size(t);
        double max = -INFINITY, sum = 0, sum2 = 0, chosen = 0; // sums of exp(z - max) and its square
        BUG_ON(target[r] < 0 || target[r] >= w->n_out, "token %d of a vocabulary of %lld", target[r], (long long)w->n_out);
        for (int64_t v = 0; v < w->n_out; v++) {
            double z = logit(row, t, w, v, softcap, scale, NULL);
            if (v == target[r]) chosen = z;
            if (z > max) {
                sum = sum * exp(max - z) + 1;
                sum2 = sum2 * exp(2 * (max - z)) + 1;
                max = z;
            } else {
                sum += exp(z - max);
                sum2 += exp(2 * (z - max));
            }
        }
        lse[r] = (float)(max + log(sum));
        logp[r] = (float)(chosen - max - log(sum));
        if (square) square[r] = (float)(log(sum2) - 2 * log(sum));
    }
}

// d logp / d z_v = [v = target] - exp(z_v - lse)
void ref_head_bwd(float *dh, float *dw, const void *h, enum dtype t, int64_t ldh, const struct weight *w, const int32_t *target,
                  const float *lse, const float *coef, int64_t n, float softcap, float scale)
{
    int64_t c = w->n_in;
    double *sum = calloc((size_t)(n * c) + 1, sizeof *sum), *column = malloc((size_t)c * sizeof *column + 1);
    BUG_ON(!sum || !column, "out of memory in the reference head");
    for (int64_t v = 0; v < w->n_out; v++) {
        for (int64_t i = 0; i < c; i++) column[i] = 0;
        for (int64_t r = 0; r < n; r++) {
            const void *row = (const char *)h + (size_t)(r * ldh) * dtype_size(t);
            double slope, z = logit(row, t, w, v, softcap, scale, &slope);
            double dz = coef[r] * ((v == target[r]) - exp(z - lse[r])) * slope * scale;
            for (int64_t i = 0; i < c; i++) {
                sum[r * c + i] += dz * weight_element(w, v, i);
                column[i] += dz * rounded(element(row, t, i), w->compute);
            }
        }
        for (int64_t i = 0; dw && i < c; i++) dw[v * c + i] = (float)(dw[v * c + i] + column[i]);
    }
    for (int64_t i = 0; i < n * c; i++) dh[i] = (float)sum[i];
    free(sum);
    free(column);
}

// kl = sum_v r_v ((z'_v - lse') - (z_v - lse)), d kl / d z_v = p_v - r_v
void ref_head_kl_bwd_acc(float *kl, float *dh, float *dw, const void *h, enum dtype t, int64_t ldh, const struct weight *w, const float *lse, const void *ref_h,
                         int64_t ldr, const struct weight *ref_w, const float *ref_lse, const float *coef, int64_t n, float softcap, float scale)
{
    int64_t c = w->n_in;
    double *sum = calloc((size_t)(n * (c + 1)) + 1, sizeof *sum), *total = sum + n * c, *column = malloc((size_t)c * sizeof *column + 1);
    BUG_ON(!sum || !column, "out of memory in the reference head");
    for (int64_t v = 0; v < w->n_out; v++) {
        for (int64_t i = 0; i < c; i++) column[i] = 0;
        for (int64_t r = 0; r < n; r++) {
            const void *row = (const char *)h + (size_t)(r * ldh) * dtype_size(t), *other = (const char *)ref_h + (size_t)(r * ldr) * dtype_size(t);
            double slope, own = logit(row, t, w, v, softcap, scale, &slope) - lse[r], his = logit(other, t, ref_w, v, softcap, scale, NULL) - ref_lse[r];
            double dz = coef[r] * (exp(own) - exp(his)) * slope * scale;
            total[r] += exp(his) * (his - own);
            for (int64_t i = 0; i < c; i++) {
                sum[r * c + i] += dz * weight_element(w, v, i);
                column[i] += dz * rounded(element(row, t, i), w->compute);
            }
        }
        for (int64_t i = 0; dw && i < c; i++) dw[v * c + i] = (float)(dw[v * c + i] + column[i]);
    }
    for (int64_t i = 0; i < n * c; i++) dh[i] = (float)(dh[i] + sum[i]);
    for (int64_t r = 0; r < n; r++) kl[r] = (float)total[r];
    free(sum);
    free(column);
}

double ref_exp_weights(float *e, float *sum, float *max, const float *z, int64_t n, float inverse_temperature)
{
    double total = 0;
    *max = -INFINITY;
    for (int64_t i = 0; i < n; i++) *max = fmaxf(*max, z[i]);
    for (int64_t from = 0; from < n; from += WEIGHT_STRETCH) {
        double part = 0;
        for (int64_t i = from; i < n && i < from + WEIGHT_STRETCH; i++) {
            const double x = exp(((double)z[i] - *max) * inverse_temperature);
            e[i] = (float)x;
            part += x;
        }
        sum[from / WEIGHT_STRETCH] = (float)part;
        total += part;
    }
    return total;
}
