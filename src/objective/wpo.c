/* WPO (2406.11827, eq. 2): a pair counts by how likely the policy is to write both of its answers, token by token against a token of its own drawing:
 * w = min(1, exp(a(win) + a(lose))), a(y) = mean_t [log pi(y_t) - log sum_v pi(v)^2]; held constant. */
#include <math.h>

#include "objective/objective.h"

double wpo_weight(const struct batch *b, const struct pair *q) { return fmin(1, exp(b->adjusted[q->win] + b->adjusted[q->lose])); }

void wpo_weigh(struct batch *b)
{
    BATCH_NEED(b, COL_PAIRS | COL_ADJUSTED);
    for (struct pair *q = b->pair; q < b->pair + b->n_pair; q++)
        if (!q->unlabelled) q->weight *= wpo_weight(b, q);
}
