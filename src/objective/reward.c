/* Reward models. Notation: rw, rl the scores of the two answers (column logp), m the row's margin, z = rw - rl - m, s(x) the logistic function. */
#include <math.h>

#include "objective/objective.h"

/* Bradley-Terry, with Llama 2's margin (2307.09288, eq. 2), smoothed labels and centred scores (2312.09244):
 * L = -(1 - e) log s(z) - e log s(-z) + c (rw + rl)^2,  dL/drw = s(z) - (1 - e) + 2 c (rw + rl),  dL/drl = (1 - e) - s(z) + 2 c (rw + rl) */
static void reward_eval(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s)
{
    for (const struct pair *q = b->pair; q < b->pair + b->n_pair; q++) {
        if (q->unlabelled) continue;
        const double rw = b->logp[q->win], rl = b->logp[q->lose], e = p->label_smoothing, sum = rw + rl;
        const double z = rw - rl - (p->use_margin ? q->margin : 0), g = e - sigmoid(-z), centre = 2 * p->center * sum;
        pair_add(b, q, scale, s, -(1 - e) * log_sigmoid(z) - e * log_sigmoid(-z) + p->center * sum * sum, g + centre, centre - g);
        s->n_pair++;
        s->chosen += rw;
        s->rejected += rl;
        s->margin += rw - rl;
        s->accuracy += rw > rl;
    }
}

const struct objective objective_reward = {"reward", COUPLE_PAIR, COL_PAIRS, reward_eval, NULL, "-log s(r_w - r_l)", "Bradley-Terry", NULL, 0};
