/* Rewards without their taste for length: what a character has to cost so that winners are as long as losers. */
#include <math.h>

#include "label/labeler.h"

/* Length of the best minus length of the worst of k answers by reward - coef * length; the first of equals. */
static double lead_in_length(int k, const double *reward, const double *length, double coef)
{
    int best = -1, worst = -1;
    double most = 0, least = 0;
    for (int i = 0; i < k; i++) {
        if (isnan(reward[i])) continue;
        const double value = reward[i] - coef * length[i];
        if (best < 0 || value > most) best = i, most = value;
        if (worst < 0 || value < least) worst = i, least = value;
    }
    return best < 0 ? 0 : length[best] - length[worst];
}

double label_length_coef(int64_t n, int k, const double *reward, const double *length)
{
    enum { GRID = 1000 };
    double found = 0, smallest = INFINITY;
    for (int g = 0; g <= GRID; g++) {
        const double coef = (double)g / GRID;
        double sum = 0;
        for (int64_t i = 0; i < n; i++) sum += lead_in_length(k, reward + i * k, length + i * k, coef);
        if (fabs(sum) < smallest) smallest = fabs(sum), found = coef;
    }
    return found;
}
