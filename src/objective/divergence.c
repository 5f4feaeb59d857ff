/* f-DPO (2309.16240): with an f-divergence in place of KL(pi || ref), beta f'(pi / ref) is the implicit reward in place of beta log(pi / ref). Written as a
 * function of d = log pi - log ref and shifted to 0 at d = 0, which every difference of two answers is free to do:
 *
 *   reverse-kl   d                                slope 1
 *   forward-kl   1 - e^-d                         e^-d
 *   js           log s(d) + log 2                 s(-d)
 *   alpha        (e^((a - 1) d) - 1) / (a - 1)    e^((a - 1) d)        a = 0: forward-kl, a = 1: reverse-kl
 *
 * Beyond e^80 the exponential goes on as its tangent, so that slopes fit a float. */
#include <math.h>
#include <string.h>

#include "objective/objective.h"

static const double steepest = 80;

static double exp_slope(double t) { return exp(fmin(t, steepest)); }
static double exp_less_one(double t) { return t <= steepest ? expm1(t) : exp(steepest) * (1 + t - steepest) - 1; }

double divergence_score(const struct objective_params *p, double d)
{
    const double k = p->f_alpha - 1;
    switch (p->divergence) {
    case DIVERGENCE_FORWARD_KL: return -exp_less_one(-d);
    case DIVERGENCE_JS: return log_sigmoid(d) - log_sigmoid(0);
    case DIVERGENCE_ALPHA: return k == 0 ? d : exp_less_one(k * d) / k;
    default: return d;
    }
}

double divergence_slope(const struct objective_params *p, double d)
{
    switch (p->divergence) {
    case DIVERGENCE_FORWARD_KL: return exp_slope(-d);
    case DIVERGENCE_JS: return sigmoid(-d);
    case DIVERGENCE_ALPHA: return exp_slope((p->f_alpha - 1) * d);
    default: return 1;
    }
}

enum divergence divergence_parse(const char *name)
{
    return !strcmp(name, "forward-kl") ? DIVERGENCE_FORWARD_KL : !strcmp(name, "js") ? DIVERGENCE_JS : !strcmp(name, "alpha") ? DIVERGENCE_ALPHA : DIVERGENCE_REVERSE_KL;
}
