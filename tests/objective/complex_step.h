/* The complex step in long double: f(x + i h) has f in its real part and h f' in its imaginary one, and nothing cancels. Losses are written down as the methods page has them; the range of long
 * double holds e^10000. */
#ifndef SAIL_TESTS_COMPLEX_STEP_H
#define SAIL_TESTS_COMPLEX_STEP_H

#include "test.h"

#include <complex.h>

typedef complex long double num;
struct answer {
    num l, d; /* log pi; log pi - log ref */
    long double n;
};

/* log(1 + w) and e^w - 1 where the imaginary part is the step. */
static inline num log1p_of(num w) { return log1pl(creall(w)) + I * (cimagl(w) / (1 + creall(w))); }
static inline num expm1_of(num w) { return expm1l(creall(w)) + I * (cimagl(w) * expl(creall(w))); }
static inline num soft(num z) { return creall(z) > 0 ? z + log1p_of(cexpl(-z)) : log1p_of(cexpl(z)); } // -log s(-z)
static inline num logistic_of(num z) { return creall(z) > 0 ? 1 / (1 + cexpl(-z)) : cexpl(z) / (1 + cexpl(z)); }
static inline num positive(num z) { return creall(z) > 0 ? z : 0; }

struct point {
    double l[2], r[2];
    int32_t n[2];
};

/* One log-ratio or both far out, under lengths from 20 to 131072 tokens. */
enum { MOST_POINTS = 600 };
static inline int points(struct point *out)
{
    static const double far[] = {0, 1e-7, 0.3, 12, 345, 3000, 10000};
    static const int32_t length[][2] = {{30, 45}, {1000, 20}, {131072, 100000}};
    enum { FAR = sizeof far / sizeof *far };
    int n = 0;
    for (int a = 0; a < 2 * FAR; a++)
        for (int b = 0; b < 2 * FAR; b++)
            for (int k = 0; k < 3; k++) {
                const double base = -10000.5, dw = (a < FAR ? 1 : -1) * far[a % FAR], dl = (b < FAR ? 1 : -1) * far[b % FAR];
                if (fabs(dw - dl) > 10000) continue;
                // sums of eighths: the differences are the numbers above but for the smallest
                out[n++] = (struct point){.l = {base + dw, base + dl}, .r = {base, base}, .n = {length[k][0], length[k][1]}};
            }
    return n;
}

/* Loss and slopes of an oracle, a function of the winner, the loser and whatever else it reads. */
typedef num oracle_loss(struct answer w, struct answer l, const void *context);
static inline long double oracle_truth(oracle_loss *f, const void *context, const struct point *x, long double *slope)
{
    const long double step = 1e-60L;
    long double loss = 0;
    for (int side = 0; side < 2; side++) {
        struct answer a[2];
        for (int k = 0; k < 2; k++) {
            const num l = (long double)x->l[k] + (k == side ? I * step : 0);
            a[k] = (struct answer){l, l - (long double)x->r[k], x->n[k]};
        }
        const num v = f(a[0], a[1], context);
        loss = creall(v);
        slope[side] = cimagl(v) / step;
    }
    return loss;
}

/* cancels: the number is a difference of like ones somewhere, 1e-12 of the terms and not of what they leave. */
static inline void assert_exact(const char *name, const char *what, const struct point *x, double got, long double want, bool cancels)
{
    const double w = (double)want, tolerance = 1e-12 * fabs(w) + (cancels ? 1e-14 : 1e-300);
    if (!isfinite(got) || !(fabs(got - w) <= tolerance))
        fail_msg("%s, l = (%g, %g), ref (%g, %g), n (%d, %d): %s is %.17g, wanted %.17g", name, x->l[0], x->l[1], x->r[0], x->r[1], x->n[0], x->n[1], what, got, w);
}

#endif
