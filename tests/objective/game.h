/* A game of three one-token answers that beat each other in a circle: what no reward explains. */
#ifndef SAIL_TESTS_GAME_H
#define SAIL_TESTS_GAME_H

#include "test.h"

enum { N = 3 };
static const double cycle[N][N] = {{.5, .9, .2}, {.1, .5, .8}, {.8, .2, .5}}, start[N] = {0, .2, -.3}; /* P(i beats j); the reference's logits */

static inline void log_softmax(double *logp, const double *logits)
{
    double z = 0;
    for (int i = 0; i < N; i++) z += exp(logits[i]);
    for (int i = 0; i < N; i++) logp[i] = logits[i] - log(z);
}

/* log pi of the regularised Nash policy pi = ref exp(P pi / tau) / z, by damped iteration. */
static inline void nash(double tau, double *logp)
{
    double ref[N];
    log_softmax(ref, start);
    memcpy(logp, ref, sizeof ref);
    for (int step = 0; step < 20000; step++) {
        double next[N];
        for (int i = 0; i < N; i++) {
            next[i] = 0.98 * logp[i] + 0.02 * ref[i];
            for (int j = 0; j < N; j++) next[i] += 0.02 * cycle[i][j] * exp(logp[j]) / tau;
        }
        log_softmax(logp, next);
    }
}

static inline double kl(const double *a, const double *b)
{
    double sum = 0;
    for (int i = 0; i < N; i++) sum += exp(a[i]) * (a[i] - b[i]);
    return sum;
}

#endif
