#include "train/statistics.h"

#include <math.h>

/* Two-sided 95 % points of Student's t for 1..29 degrees of freedom. */
static const double student[29] = {12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
                                   2.120,  2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045};

/* The mean, its interval still open, and the sum of squares around it. */
static struct interval moments(const double *value, int64_t n, double *square)
{
    struct interval r = {.mean = NAN, .low = NAN, .high = NAN};
    double sum = *square = 0;
    for (int64_t i = 0; i < n; i++) {
        if (isnan(value[i])) continue;
        sum += value[i];
        r.n++;
    }
    if (!r.n) return r;
    r.mean = sum / (double)r.n;
    for (int64_t i = 0; i < n; i++)
        if (!isnan(value[i])) *square += (value[i] - r.mean) * (value[i] - r.mean);
    return r;
}

struct interval statistics_mean(const double *value, int64_t n)
{
    double square;
    struct interval r = moments(value, n, &square);
    if (r.n < 2) return r;
    const double half = (r.n - 1 <= 29 ? student[r.n - 2] : 1.96) * sqrt(square / (double)(r.n - 1) / (double)r.n);
    r.low = r.mean - half;
    r.high = r.mean + half;
    return r;
}

struct interval statistics_share(const double *value, int64_t n)
{
    double square;
    struct interval r = moments(value, n, &square);
    if (!r.n) return r;
    const double answers = square > 0 ? (double)r.n * r.mean * (1 - r.mean) * (double)r.n / square : (double)r.n; // all alike: no more is known than of so many
    const double z2 = 1.96 * 1.96, middle = (r.mean + z2 / (2 * answers)) / (1 + z2 / answers);
    const double half = sqrt(z2 * (r.mean * (1 - r.mean) / answers + z2 / (4 * answers * answers))) / (1 + z2 / answers);
    r.low = fmax(0, middle - half);
    r.high = fmin(1, middle + half);
    return r;
}
