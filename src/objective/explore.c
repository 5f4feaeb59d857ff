/* Optimism: a preference loss, and a push that takes probability from what the reference would say, so that the policy goes where the reference does not. d(y) differs from the papers'
 * log pi(y) by log pi_ref(y), which no parameter moves; with it the term is 0 at the start. */
#include "objective/pair.h"

/* -log s(beta h), soft labels included */
static struct pair_loss preference(const struct objective_params *p, const struct pair_numbers *x)
{
    const struct logistic l = logistic(p->beta * (x->dw - x->dl), x->p);
    return (struct pair_loss){l.loss, p->beta * l.slope, -p->beta * l.slope};
}

/* XPO (2405.21046, alg. 1): L = -log s(beta h) + alpha log pi(y~), y~ drawn from the reference, whether it won or not: dL/dlog pi(y~) has + alpha */
static void xpo_eval(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s)
{
    pairs_eval(p, b, scale, s, preference);
    reference_add(b, p->alpha, s);
}

/* SELM (2405.19332, eq. 7): L = -log s(beta h) + alpha beta d(y_t), y_t the greedy answer of the reference, which is the policy at the iterate's start */
static void selm_eval(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s)
{
    pairs_eval(p, b, scale, s, preference);
    reference_add(b, p->alpha * p->beta, s);
}

static double at_reference(const struct objective_params *p, const struct pair *q) { return pairs_at_reference(p, q, preference); }

const struct objective objective_explore[] = {
    {"xpo", COUPLE_PAIR, COL_PAIRS | COL_LOGP_REF | ON_REFERENCE, xpo_eval, at_reference, "-log s(beta h) + alpha E_ref[log pi(y)]", "arXiv 2405.21046", NULL, 0},
    {"selm", COUPLE_PAIR, COL_PAIRS | COL_LOGP_REF | ON_REFERENCE, selm_eval, at_reference, "-log s(beta h) + alpha beta d(greedy answer of ref)", "arXiv 2405.19332", NULL, 0},
    {.name = NULL},
};
