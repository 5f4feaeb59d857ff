/* Nash-MD by policy gradient (2312.00886, section 7): the first answer y of a pair is the policy's and learns, the second y' is drawn from the mixture
 * pi^(1-a) ref^a, token by token, and is held constant. Notation: p = P(y beats y'), d = log pi - log ref, tau = --beta.
 *
 * max over theta of E_y[p] - tau KL(pi || ref), a score term on y alone: dL/dlog pi(y) = -(p - 1/2 - tau d(y)). The 1/2 is a baseline. */
#include "objective/objective.h"

/* The whole answer's KL on every token of it. */
static void nash_md_eval(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s)
{
    for (const struct pair *q = b->pair; q < b->pair + b->n_pair; q++) {
        if (q->unlabelled) continue;
        const double gain = q->p - 0.5 - p->beta * log_ratio(b, q->win);
        pair_add(b, q, scale, s, -gain, -gain, 0);
        pair_measure(b, q, p->beta, s);
    }
}

/* Token t answers for the KL from t on only: what came before it cannot depend on it, so that the mean is the same and the noise less:
 * dL/dlog pi(y_t) = -(p - 1/2 - tau sum_{s >= t} [log pi(y_s) - log ref(y_s)]). */
static void nash_md_togo_eval(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s)
{
    for (const struct pair *q = b->pair; q < b->pair + b->n_pair; q++) {
        if (q->unlabelled) continue;
        const int64_t first = b->token_at[q->win];
        double kl = 0;
        for (int64_t t = first + b->n_tok[q->win] - 1; t >= first; t--) {
            kl += (double)b->token_logp[t] - (double)b->token_logp_ref[t];
            b->token_weight[t] = (float)(q->p - 0.5 - p->beta * kl);
        }
        pair_add(b, q, scale, s, -(q->p - 0.5 - p->beta * kl), -1, 0);
        pair_measure(b, q, p->beta, s);
    }
}

static double zero_nash(const struct objective_params *p, const struct pair *q) { return (void)p, 0.5 - q->p; }

enum { REF = COL_PAIRS | COL_LOGP_REF };
const struct objective objective_nash[] = {
    {"nash-md", COUPLE_PAIR, REF | SCORES_FIRST, nash_md_eval, zero_nash, "-[p - 1/2 - beta d(y)] log pi(y), [] held constant", "arXiv 2312.00886", NULL, 0},
    {"nash-md-togo", COUPLE_PAIR, REF | COL_TOKENS | SCORES_FIRST, nash_md_togo_eval, zero_nash, "-sum_t [p - 1/2 - beta d(y from t on)] log pi(y_t), [] held constant", "arXiv 2312.00886", NULL, 0},
    {.name = NULL},
};
