/* Extragradient preference optimisation (2503.08942): the pair (y, y') comes from any sampler, m = P(y beats y'') - P(y' beats y'') is their lead against one opponent y'' of the policy that is
 * played against, and is held constant. The pair's margin is m. h = d(y) - d(y'), d = log pi - log ref.
 *
 * L = (h - m / beta)^2,  dL/dlog pi(y) = 2 (h - m / beta) = -dL/dlog pi(y') */
#include "objective/objective.h"

static void egpo_eval(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s)
{
    for (const struct pair *q = b->pair; q < b->pair + b->n_pair; q++) {
        if (q->unlabelled) continue;
        const double e = log_ratio(b, q->win) - log_ratio(b, q->lose) - q->margin / p->beta;
        pair_add(b, q, scale, s, e * e, 2 * e, -2 * e);
        pair_measure(b, q, p->beta, s);
    }
}

/* The authors' form for language models, on token means: L = (d(y)/n - d(y')/n' - m / beta)^2 */
static void egpo_mean_eval(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s)
{
    for (const struct pair *q = b->pair; q < b->pair + b->n_pair; q++) {
        if (q->unlabelled) continue;
        const double n = b->n_tok[q->win], m = b->n_tok[q->lose], e = log_ratio(b, q->win) / n - log_ratio(b, q->lose) / m - q->margin / p->beta;
        pair_add(b, q, scale, s, e * e, 2 * e / n, -2 * e / m);
        pair_measure(b, q, p->beta, s);
    }
}

static double zero_egpo(const struct objective_params *p, const struct pair *q) { return q->margin / p->beta * (q->margin / p->beta); }

enum { OPPONENT = COL_PAIRS | COL_LOGP_REF | READS_OPPONENT };
const struct objective objective_egpo[] = {
    {"egpo", COUPLE_PAIR, OPPONENT, egpo_eval, zero_egpo, "(h - [P(y beats y'') - P(y' beats y'')]/beta)^2, sums", "arXiv 2503.08942", NULL, 0},
    {"egpo-mean", COUPLE_PAIR, OPPONENT, egpo_mean_eval, zero_egpo, "(d/n - d'/n' - [P(y beats y'') - P(y' beats y'')]/beta)^2, token means", "arXiv 2503.08942", NULL, 0},
    {.name = NULL},
};
