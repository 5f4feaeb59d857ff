/* The parameters stay in a ball: projected descent. */
#include <math.h>

#include "optim/optimizer.h"

double optimizer_project(const struct optim_param *p, int64_t n, double bound)
{
    double squares = 0;
    for (int64_t i = 0; i < n; i++) // one order: the sum is the same on any number of threads
        for (int64_t k = 0; k < p[i].n; k++) squares += (double)p[i].value[k] * p[i].value[k];
    const double norm = sqrt(squares);
    if (!(norm > bound)) return norm;
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < p[i].n; k++) p[i].value[k] = (float)(p[i].value[k] * (bound / norm));
    return norm;
}
