/* AOT on pairs (2406.05882): the gaps of the policy, u = lw - ll, and of the reference, v = rw - rl, are sorted over the batch each for itself, and
 * the i-th smallest meets the i-th smallest: L = mean_i -log s(beta (u_(i) - v_(i)) - m). The policy's gaps shall be larger than the reference's as a
 * distribution (stochastic dominance), not pair by pair. The slope goes to the pair whose gap u_(i) is; its label and margin count. */
#include <stdlib.h>

#include "base/err.h"
#include "objective/pair.h"

static int ascending(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    return x->value < y->value ? -1 : x->value > y->value ? 1 : (x->pair > y->pair) - (x->pair < y->pair);
}

static double margin(const struct objective_params *p, const struct pair *q) { return p->use_margin ? q->margin : 0; }

void aot_eval(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s)
{
    BUG_ON(!b->rank, "the batch has no room to sort %lld pairs", (long long)b->n_pair);
    struct ranked *policy = b->rank, *reference = b->rank + b->n_pair;
    size_t n = 0;
    for (int32_t k = 0; k < b->n_pair; k++) {
        const struct pair *q = &b->pair[k];
        if (q->unlabelled) continue;
        policy[n] = (struct ranked){b->logp[q->win] - b->logp[q->lose], k};
        reference[n++] = (struct ranked){b->logp_ref[q->win] - b->logp_ref[q->lose], k};
    }
    qsort(policy, n, sizeof *policy, ascending);
    qsort(reference, n, sizeof *reference, ascending);
    for (size_t i = 0; i < n; i++) {
        const struct pair *q = &b->pair[policy[i].pair];
        const struct logistic l = logistic(p->beta * (policy[i].value - reference[i].value) - margin(p, q), q->p);
        pair_add(b, q, scale, s, l.loss, p->beta * l.slope, -p->beta * l.slope);
        pair_measure(b, q, p->beta, s);
    }
}

double aot_at_reference(const struct objective_params *p, const struct pair *q) { return logistic(-margin(p, q), q->p).loss; }
