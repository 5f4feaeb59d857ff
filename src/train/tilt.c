/* The reward-tilted sampler of DPO-Mix-R (2409.19605): y1 with probability proportional to pi exp(r), y2 to pi exp(-r), r in label temperatures. Of a prompt's K
 * answers of pi it takes the ordered pair (i, j), i != j, with probability exp(r_i - r_j) / S; beside a plain pair such a pair weighs the paper's alpha_2 / alpha_1 =
 * E[exp(r - r')], here S / (K (K - 1)). Together they visit a pair with frequency 2 + e^D + e^-D = 1 / (s(D) s(-D)), D = r_i - r_j: where DPO's slope is flat it looks more often, and near
 * the optimum every direction of the loss is as steep as every other. Answers without a reward (NaN) are left out. */
#include <math.h>

#include "train/run.h"

/* Largest of r_i - r_j; how many have a reward. */
static double spread(int k, const double *r, int *n)
{
    double top = -INFINITY, low = INFINITY;
    *n = 0;
    for (int i = 0; i < k; i++) {
        if (isnan(r[i])) continue;
        top = fmax(top, r[i]);
        low = fmin(low, r[i]);
        ++*n;
    }
    return top - low;
}

static double frequency(const double *r, int i, int j, double most) { return i == j || isnan(r[i]) || isnan(r[j]) ? 0 : exp(r[i] - r[j] - most); }

static double total(int k, const double *r, double most)
{
    double sum = 0;
    for (int i = 0; i < k; i++)
        for (int j = 0; j < k; j++) sum += frequency(r, i, j, most);
    return sum;
}

int tilt_choose(int k, const double *r, double u, int (*out)[2])
{
    int n;
    const double most = spread(k, r, &n);
    out[0][0] = 0;
    out[0][1] = 1;
    if (n < 2) return 1; // no two verdicts: this pair will have none
    double rest = u * total(k, r, most);
    for (int i = 0; i < k; i++)
        for (int j = 0; j < k; j++) {
            const double f = frequency(r, i, j, most);
            if (f <= 0) continue;
            out[0][0] = i;
            out[0][1] = j;
            if (rest < f) return 1;
            rest -= f;
        }
    return 1; // rounding: the last pair that has any
}

double tilt_weight(int k, const double *r)
{
    int n;
    const double most = spread(k, r, &n);
    return n < 2 ? 1 : total(k, r, most) / (n * (n - 1.0)) * exp(most);
}
