/* Means with 95 % intervals. */
#ifndef SAIL_TRAIN_STATISTICS_H
#define SAIL_TRAIN_STATISTICS_H

#include <stdint.h>

struct interval {
    double mean, low, high; /* low, high NaN with fewer than two values */
    int64_t n;
};
/* Mean of the values that are not NaN, +- 1.96 standard errors (Student's t below 30 values). */
struct interval statistics_mean(const double *value, int64_t n);
/* The same of shares from 0 to 1 (who won, which pairs were ranked right): Wilson's interval for as many yes-or-no answers as have the values' variance. It stays within 0..1, and
 * values that are all alike are no certainty. */
struct interval statistics_share(const double *value, int64_t n);

#endif
