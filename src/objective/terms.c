/* Objectives on pairs that papers add to another one. Notation as in pairwise.c. */
#include "objective/pair.h"

/* The likelihood of the chosen answer by its own length: L = -lw / nw (IRPO, 2404.19733; MPO, 2411.10442) */
static struct pair_loss sft_mean(const struct objective_params *p, const struct pair_numbers *x) { return (void)p, (struct pair_loss){-x->lw / x->nw, -1 / x->nw, 0}; }

/* The likelihood of the whole chosen answer: L = -lw (RPO, 2405.16436) */
static struct pair_loss sft_sum(const struct objective_params *p, const struct pair_numbers *x) { return (void)p, (struct pair_loss){-x->lw, -1, 0}; }

/* BCO on pairs with its shift (2404.04656): L = -log s(beta d(win) - delta) - log s(delta - beta d(lose)); delta, the running mean of beta d, is held constant */
static struct pair_loss shifted(const struct objective_params *p, const struct pair_numbers *x)
{
    const double u = p->beta * x->dw - p->delta, v = p->beta * x->dl - p->delta;
    return (struct pair_loss){-log_sigmoid(u) - log_sigmoid(-v), -p->beta * sigmoid(-u), p->beta * sigmoid(v)};
}

static void bco_pair_shift_eval(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s)
{
    struct objective_params with = *p;
    with.delta = s->reference_point = b->shift;
    labels_eval(&with, b, scale, s, shifted);
}

PAIR_EVAL(sft_mean, labels)
PAIR_EVAL(sft_sum, labels)
static double two_log2(const struct objective_params *p, const struct pair *q) { return (void)p, (void)q, 2 * 0.6931471805599453; }

const struct objective objective_terms[] = {
    {"sft-mean", COUPLE_PAIR, COL_PAIRS, sft_mean_eval, NULL, "-l_w/n_w", "arXiv 2404.19733", NULL, 0},
    {"sft-sum", COUPLE_PAIR, COL_PAIRS, sft_sum_eval, NULL, "-l_w", "arXiv 2405.16436", NULL, 0},
    {"bco-pair-shift", COUPLE_BATCH, COL_PAIRS | COL_LOGP_REF | COL_SHIFT, bco_pair_shift_eval, two_log2, "-log s(beta d_w - delta) - log s(delta - beta d_l)", "arXiv 2404.04656", NULL, 0},
    {.name = NULL},
};
