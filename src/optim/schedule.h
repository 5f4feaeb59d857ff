/* Learning-rate schedules with linear warm-up. */
#ifndef SAIL_OPTIM_SCHEDULE_H
#define SAIL_OPTIM_SCHEDULE_H

#include <stdint.h>

#include "sail.h"

enum schedule_kind { SCHEDULE_CONSTANT, SCHEDULE_LINEAR, SCHEDULE_COSINE, SCHEDULE_INVERSE_SQRT };
struct schedule {
    enum schedule_kind kind;
    int64_t warmup;    /* steps */
    double cycles;     /* cosine: waves of the run; 0.5 falls once */
    double min_rate;   /* cosine: share of the base rate at the bottom of the wave */
    int64_t timescale; /* inverse-sqrt: steps; 0: the warm-up's, or 10,000 */
};
int schedule_find(enum schedule_kind *out, const char *name, sail_err *err);
/* The factor of the base rate for the step-th update (0-based) of `total`. */
double schedule_factor(const struct schedule *s, int64_t step, int64_t total);

#endif
