/* Reward models. Notation: rw, rl the scores of the two answers (column logp), m the row's margin, z = rw - rl - m, s(x) the logistic function. */
#include "objective/pair.h"

/* Bradley-Terry, with Llama 2's margin (2307.09288, eq. 2), smoothed labels and centred scores (2312.09244):
 * L = -t log s(z) - (1 - t) log s(-z) + c (rw + rl)^2,  dL/drw = s(z) - t + 2 c (rw + rl),  dL/drl = t - s(z) + 2 c (rw + rl), t the row's P(win beats
 * lose) smoothed by e: 1 - e for a certain one */
static void reward_eval(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s)
{
    for (const struct pair *q = b->pair; q < b->pair + b->n_pair; q++) {
        if (q->unlabelled) continue;
        const double rw = b->logp[q->win], rl = b->logp[q->lose], e = p->label_smoothing, sum = rw + rl, centre = 2 * p->center * sum;
        const struct logistic l = logistic(rw - rl - (p->use_margin ? q->margin : 0), e + (1 - 2 * e) * q->p);
        pair_add(b, q, scale, s, l.loss + p->center * sum * sum, l.slope + centre, centre - l.slope);
        s->n_pair++;
        s->chosen += rw;
        s->rejected += rl;
        s->margin += rw - rl;
        s->accuracy += rw > rl;
    }
}

const struct objective objective_reward = {"reward", COUPLE_PAIR, COL_PAIRS, reward_eval, NULL, "-log s(r_w - r_l)", "Bradley-Terry", NULL, TAKES_MARGIN};
