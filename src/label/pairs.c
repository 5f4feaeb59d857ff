/* From rewards or verdicts to pairs. */
#include <math.h>

#include "base/rng.h"
#include "label/labeler.h"

static double logistic(double x) { return x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x)); }

struct pair label_judged(int32_t i, int32_t j, double p, enum pair_label rule, double u)
{
    const bool swap = rule == PAIR_LABEL_SAMPLED ? u >= p : rule == PAIR_LABEL_HARD && p < 0.5;
    return (struct pair){.win = swap ? j : i,
                         .lose = swap ? i : j,
                         .p = rule == PAIR_LABEL_SOFT ? p : 1,
                         .weight = 1,
                         .unlabelled = isnan(p) || (rule != PAIR_LABEL_SOFT && p == 0.5)};
}

struct pair label_pair(int32_t i, int32_t j, double ri, double rj, enum pair_label rule, double temperature, double u)
{
    struct pair q = label_judged(i, j, logistic((ri - rj) / temperature), rule, u);
    q.margin = q.win == i ? ri - rj : rj - ri;
    q.unlabelled = isnan(ri) || isnan(rj) || (rule != PAIR_LABEL_SOFT && ri == rj);
    return q;
}

void label_win_rates(int n, const double *reward, double p, double temperature, double *rate)
{
    for (int k = 0; k < n; k++) {
        double sum = 0, judged = 0;
        for (int j = 0; j < n; j++) {
            if (isnan(reward[k]) || isnan(reward[j])) continue;
            sum += logistic((reward[k] - reward[j]) / temperature);
            judged++;
        }
        rate[k] = judged > 0 ? sum / judged : NAN;
        if (n == 2 && !isnan(p)) rate[k] = (0.5 + (k ? 1 - p : p)) / 2;
    }
}

void label_self(struct batch *b, int64_t first, double beta, uint64_t seed, uint64_t step)
{
    BATCH_NEED(b, COL_PAIRS | COL_LOGP | COL_LOGP_REF);
    for (int64_t k = 0; k < b->n_pair; k++) {
        struct pair *q = &b->pair[k];
        if (q->route != ROUTE_DP && q->route != ROUTE_PP) continue;
        const double z = beta * ((b->logp[q->win] - b->logp_ref[q->win]) - (b->logp[q->lose] - b->logp_ref[q->lose]));
        if (rng_uniform(seed, RNG_LABEL, step, (uint64_t)(first + k) | (uint64_t)1 << 40) < logistic(z)) continue;
        const int32_t t = q->win;
        q->win = q->lose;
        q->lose = t;
    }
}
