/* Losses of methods that go from iterate to iterate: the reference is the policy pi_t that the iterate began with, and answers are its draws. d(y) = log pi - log pi_t. */
#include "objective/objective.h"

/* SPPO (2405.00675, eq. 4.6): L = [(d(y) - (P(y beats pi_t) - 1/2)/beta)^2] / 2 of the best and of the worst answer, 1/eta = --beta; P is estimated over the prompt's answers */
static void sppo_eval(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s)
{
    for (const struct pair *q = b->pair; q < b->pair + b->n_pair; q++) {
        if (q->unlabelled) continue;
        const double u = log_ratio(b, q->win) - (b->win_rate[q->win] - 0.5) / p->beta, v = log_ratio(b, q->lose) - (b->win_rate[q->lose] - 0.5) / p->beta;
        pair_add(b, q, scale, s, 0.5 * (u * u + v * v), u, v);
        pair_measure(b, q, p->beta, s);
    }
}

/* INPO (2407.00617): L = (h_t - (p - 1/2)/eta)^2, h_t = h(pi) - tau/eta h(pi_ref) - (1 - tau/eta) h(pi_t), h(.) the difference of log-probs, eta = --beta, pi_ref the run's first policy;
 * p = 1: (h_t - 1/(2 eta))^2 */
static void inpo_eval(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s)
{
    const double share = p->tau / p->beta;
    for (const struct pair *q = b->pair; q < b->pair + b->n_pair; q++) {
        if (q->unlabelled) continue;
        const double first = b->logp_init[q->win] - b->logp_init[q->lose], last = b->logp_ref[q->win] - b->logp_ref[q->lose];
        const double e = b->logp[q->win] - b->logp[q->lose] - share * first - (1 - share) * last - (q->p - 0.5) / p->beta;
        pair_add(b, q, scale, s, e * e, 2 * e, -2 * e);
        pair_measure(b, q, p->beta, s);
    }
}

static const char *refuse_inpo(const struct objective_params *p) { return p->tau > p->beta ? "--tau must be at most --beta (eta): beyond that the last iterate has a negative weight" : NULL; }
static double zero_inpo(const struct objective_params *p, const struct pair *q) { return (q->p - 0.5) * (q->p - 0.5) / (p->beta * p->beta); }

enum { REF = COL_PAIRS | COL_LOGP_REF };
const struct objective objective_iterate[] = {
    {"sppo", COUPLE_PAIR, REF | COL_WIN_RATE, sppo_eval, NULL, "[(d_w - (P_w - 1/2)/beta)^2 + (d_l - (P_l - 1/2)/beta)^2] / 2", "arXiv 2405.00675", NULL, 0},
    {"inpo", COUPLE_PAIR, REF | COL_LOGP_INIT, inpo_eval, zero_inpo, "(h_t - (p - 1/2)/beta)^2, h_t = h(pi) - tau/beta h(first) - (1 - tau/beta) h(pi_t)", "arXiv 2407.00617", refuse_inpo, 0},
    {.name = NULL},
};
