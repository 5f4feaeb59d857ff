#include "backend/ref/ref.h"

/* act(x) and its derivative. */
static double activate(double x, enum activation act, double *slope)
{
    switch (act) {
    case ACT_SILU: {
        double s = 1 / (1 + exp(-x));
        *slope = s * (1 + x * (1 - s));
        return x * s;
    }
    case ACT_GELU: {
        double cdf = 0.5 * erfc(-x * M_SQRT1_2);
        *slope = cdf + x * exp(-0.5 * x * x) * (0.5 * M_SQRT1_2 * M_2_SQRTPI);
        return x * cdf;
    }
    case ACT_GELU_TANH: {
        double k = M_SQRT1_2 * M_2_SQRTPI, a = 0.044715, t = tanh(k * (x + a * x * x * x));
        *slope = 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * k * (1 + 3 * a * x * x);
        return 0.5 * x * (1 + t);
    }
    case ACT_RELU: *slope = x > 0; return x > 0 ? x : 0;
    }
    BUG_ON(1, "unknown activation %d", (int)act);
}

void ref_glu_fwd(void *y, const void *gu, enum dtype t, int64_t m, int64_t f, enum activation act)
{
    double slope;
    for (int64_t r = 0; r < m; r++)
        for (int64_t i = 0; i < f; i++)
            element_set(y, t, r * f + i,
                        activate(element(gu, t, r * 2 * f + i), act, &slope) * element(gu, t, r * 2 * f + f + i));
}

void ref_linear_glu_fwd(void *y, void *gu, enum dtype t, const void *x, const struct weight *w, const float *bias, int64_t m, enum activation act)
{
    ref_linear_fwd(gu, t, w->n_out, x, t, w->n_in, w, bias, m, 1, false);
    ref_glu_fwd(y, gu, t, m, w->n_out / 2, act);
}

void ref_glu_bwd(void *dgu, const void *dy, const void *gu, enum dtype t, int64_t m, int64_t f, enum activation act)
{
    for (int64_t r = 0; r < m; r++)
        for (int64_t i = 0; i < f; i++) {
            double slope, d = element(dy, t, r * f + i), up = element(gu, t, r * 2 * f + f + i);
            double a = activate(element(gu, t, r * 2 * f + i), act, &slope);
            element_set(dgu, t, r * 2 * f + i, d * up * slope);
            element_set(dgu, t, r * 2 * f + f + i, d * a);
        }
}

void ref_act_fwd(void *y, const void *x, enum dtype t, int64_t n, enum activation act)
{
    double slope;
    for (int64_t i = 0; i < n; i++) element_set(y, t, i, activate(element(x, t, i), act, &slope));
}

void ref_act_bwd(void *dx, const void *dy, const void *x, enum dtype t, int64_t n, enum activation act)
{
    for (int64_t i = 0; i < n; i++) {
        double slope, d = element(dy, t, i);
        activate(element(x, t, i), act, &slope);
        element_set(dx, t, i, d * slope);
    }
}
