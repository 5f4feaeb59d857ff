#include "train/params.h"

#include <string.h>

/* What weighs pairs or their tokens needs pairs with log-probs. */
static int check_weights(const struct objective *o, const sail_config *c, const char *method, sail_err *err)
{
    if (!c->wpo && c->ld_alpha >= 1) return SAIL_OK;
    if (o == &objective_sum)
        return err_set(err, SAIL_USAGE, "--method %s: %s is about a preference loss, and the likelihood in a sum is of whole answers, all alike: drop it, or take one of the methods alone", method, c->wpo ? "--wpo" : "--ld-alpha");
    if ((o->needs & COL_PAIRS) && o != &objective_reward) return SAIL_OK;
    return err_set(err, SAIL_USAGE, "--method %s: %s needs pairs of answers and their log-probs: drop it, or choose a preference method", method, c->wpo ? "--wpo" : "--ld-alpha");
}

int params_read(struct objective_params *p, const struct preset *method, const sail_config *c, sail_err *err)
{
    *p = (struct objective_params){.beta = c->beta, .eps = c->eps, .delta = c->delta, .lambda = c->lambda, .gamma = c->gamma, .alpha = c->alpha, .tau = c->tau, .rho = c->rho, .pi = c->pi,
                                   .label_smoothing = c->label_smoothing, .center = c->center_coef, .use_margin = c->margin,
                                   .desirable_weight = c->desirable_weight, .undesirable_weight = c->undesirable_weight,
                                   .divergence = divergence_parse(c->f_divergence), .f_alpha = c->f_alpha,
                                   .revkl = c->revkl_coef, .robust_rho = c->robust_rho, .chi2_nu = c->chi2_nu, .kl_nu = c->kl_nu,
                                   .penalty = c->penalty,
                                   .scale_rewards = !strcmp(c->scale_rewards, "group"), .revkl_on_batch = !strcmp(c->revkl_on, "batch"),
                                   .revkl_vocabulary = !strcmp(c->revkl_estimator, "vocabulary")};
    p->label = !strcmp(c->label, "sampled") ? LABEL_SAMPLED : LABEL_EXACT;
    int rc = baseline_parse(c->baseline, &p->baseline, &p->baseline_value, err);
    const struct objective *o = objective_find(method->objective);
    if (!rc) rc = objective_sum_parse(&p->sum, method->objective, c->method_weights, err);
    if (!rc) rc = objective_check(o, p, method->name, err);
    return rc ? rc : check_weights(o, c, method->name, err);
}
