#include <math.h>

#include "backend/ref/ref.h"

double ref_square_sum(const float *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)x[i] * x[i];
    return sum;
}

void ref_adamw(float *value, float *m, float *v, float *most, float *grad, int64_t n, const struct adamw_step *s)
{
    for (int64_t i = 0; i < n; i++) {
        const double g = (float)(grad[i] * s->scale), mi = s->beta1 * m[i] + (1 - s->beta1) * g, vi = s->beta2 * v[i] + (1 - s->beta2) * g * g;
        m[i] = (float)mi;
        v[i] = (float)vi;
        if (most && vi > most[i]) most[i] = (float)vi;
        value[i] = (float)(value[i] * s->decay - s->rate * mi / (sqrt(most ? most[i] : vi) / s->root + s->eps));
        grad[i] = 0;
    }
}
