/* Two levels with an explicit reward model (2410.15610), solved to first order by the penalty method of Kwon et al. (2309.01753). Notation: r the reward model's score, phi its parameters,
 * d = log pi - log ref, L = -p log s(r_w - r_l) - (1 - p) log s(r_l - r_w) of a pair of answers of the policy with the labeler's verdict p, c = --penalty.
 *
 *     min over phi of f(phi, pi) = E_{y, y' ~ pi}[L]   where pi minimises   J(pi, phi) = -E_{y ~ pi}[r(y) - beta d(y)]
 *
 * The lower level's answer to phi is followed by two policies: pi goes down J, pi2 goes down J + c f, and d/dphi of the whole is, as c -> 0,
 *     d/dphi f(phi, pi2) + [d/dphi J(pi2, phi) - d/dphi J(pi, phi)] / c,   d/dphi J(pi, phi) = -E_{y ~ pi} grad r(y)
 * A policy's gradient holds phi constant, the reward model's both policies. Both answers of a pair are draws of the policy. */
#include <math.h>

#include "objective/pair.h"

/* Sum of L over the pairs with a verdict, *n of them; score: the column that holds r. */
static double upper_sum(const struct batch *b, const double *score, double *n)
{
    double sum = *n = 0;
    for (const struct pair *q = b->pair; q < b->pair + b->n_pair; q++) {
        if (q->unlabelled) continue;
        sum += logistic(score[q->win] - score[q->lose], q->p).loss;
        ++*n;
    }
    return sum;
}

/* pi: dJ/dlog pi(y) = -(R(y) - R(y')) / 2, R = r - beta d, what the other answer got being the baseline. pi2: + c (L - b) on both, b the mean over the batch's other pairs (log 2: there is none). */
static void two_level_eval(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s)
{
    double n;
    const double sum = upper_sum(b, b->learned, &n);
    for (const struct pair *q = b->pair; q < b->pair + b->n_pair; q++) {
        const double rw = b->learned[q->win] - p->beta * log_ratio(b, q->win), rl = b->learned[q->lose] - p->beta * log_ratio(b, q->lose);
        pair_add(b, q, scale, s, -(rw + rl) / 2, (rl - rw) / 2, (rw - rl) / 2);
        if (!p->second || q->unlabelled) continue;
        const double L = logistic(b->learned[q->win] - b->learned[q->lose], q->p).loss, base = n > 1 ? (sum - L) / (n - 1) : log(2), pulled = p->penalty * (L - base);
        pair_add(b, q, scale * (double)b->n_pair / n, s, p->penalty * L, pulled, pulled);
    }
}

/* phi, the scores in the column logp. E_pi[r] - E_pi2[r] is 2 E[r tanh(a / 2)] over answers of either policy as often, a = log pi - log pi2: the same mean as E_pi - E_pi2 taken from each one's own
 * answers, and the less noise the nearer they are. So for every answer dL/dr(y) = tanh(a / 2) / 2c, and for those of pi2 Bradley-Terry's slope where there is a verdict. */
static void reward_eval(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s)
{
    double n;
    upper_sum(b, b->logp, &n);
    for (const struct pair *q = b->pair; q < b->pair + b->n_pair; q++) {
        const double rw = b->logp[q->win], rl = b->logp[q->lose], tw = tanh(b->ahead[q->win] / 2) / (2 * p->penalty), tl = tanh(b->ahead[q->lose] / 2) / (2 * p->penalty);
        struct objective_stats difference = {0};
        pair_add(b, q, scale, &difference, tw * rw + tl * rl, tw, tl);
        if (!p->second || q->unlabelled) continue;
        const struct logistic l = logistic(rw - rl, q->p);
        pair_add(b, q, scale * (double)b->n_pair / n, s, l.loss, l.slope, -l.slope);
        s->n_pair++;
        s->margin += rw - rl;
        s->accuracy += rw > rl;
    }
}

const struct objective objective_two_level = {"two-level", COUPLE_BATCH, COL_PAIRS | COL_LOGP_REF | COL_LEARNED | LEARNS_REWARD, two_level_eval, NULL,
                                              "-[r - beta d], r a reward model that learns from the answers; [] held constant", "arXiv 2410.15610", NULL, 0};
const struct objective objective_two_level_reward = {"two-level-reward", COUPLE_BATCH, COL_PAIRS | COL_LEARNED, reward_eval, NULL, "-log s(r_w - r_l) of the second policy + (E_pi[r] - E_pi2[r]) / c", "arXiv 2410.15610",
                                                     NULL, 0};
