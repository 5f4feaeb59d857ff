#include "objective/objective.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

double log_sigmoid(double x) { return fmin(x, 0) - log1p(exp(-fabs(x))); }

double sigmoid(double x)
{
    const double e = exp(-fabs(x));
    return x >= 0 ? 1 / (1 + e) : e / (1 + e);
}

double preference_entropy(double z) { return -(sigmoid(z) * log_sigmoid(z) + sigmoid(-z) * log_sigmoid(-z)); }

double log1m_exp(double x) { return x > -0.6931471805599453 ? log(-expm1(x)) : log1p(-exp(x)); }

const struct objective *objective_at(int i)
{
    static const struct objective *const lists[] = {objective_pairwise, objective_unpaired, objective_explore, objective_group, objective_iterate, objective_nash, objective_egpo, objective_terms};
    static const struct objective *const singles[] = {&objective_sail, &objective_listwise, &objective_two_level, &objective_reward};
    for (size_t k = 0; k < sizeof lists / sizeof *lists; k++)
        for (const struct objective *o = lists[k]; o->name; o++)
            if (!i--) return o;
    return i < (int)(sizeof singles / sizeof *singles) ? singles[i] : NULL;
}

const struct objective *objective_find(const char *name)
{
    if (strchr(name, ',')) return &objective_sum;
    for (int i = 0; objective_at(i); i++)
        if (!strcmp(objective_at(i)->name, name)) return objective_at(i);
    return NULL;
}

enum coupling objective_coupling(const struct objective *o, const struct objective_params *p)
{
    enum coupling widest = o->coupling;
    for (int k = 0; o == &objective_sum && k < p->sum.n; k++) {
        const enum coupling c = objective_coupling(p->sum.term[k], p);
        if (c > widest) widest = c;
    }
    const bool batch = (o->needs & BASELINES) && (p->baseline == BASELINE_BATCH || (p->baseline == BASELINE_LOO && !(o->needs & LOO_IN_GROUP)));
    return batch ? COUPLE_BATCH : widest;
}

uint32_t objective_needs(const struct objective *o, const struct objective_params *p)
{
    uint32_t needs = o->needs;
    for (int k = 0; o == &objective_sum && k < p->sum.n; k++) needs |= p->sum.term[k]->needs;
    return needs;
}

void objective_eval(const struct objective *o, const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s)
{
    BATCH_NEED(b, COL_ROWS | COL_LOGP | o->needs);
    for (int64_t i = 0; i < b->n; i++) b->coef[i] = 0;
    for (int64_t i = 0; b->pull && i < b->n; i++) b->pull[i] = 0;
    b->written |= COL_COEF;
    o->eval(p, b, scale, s);
}

int baseline_parse(const char *text, enum baseline *out, double *value, sail_err *err)
{
    static const struct {
        const char *name;
        enum baseline baseline;
    } names[] = {{"none", BASELINE_NONE}, {"log2", BASELINE_LOG2}, {"batch", BASELINE_BATCH}, {"loo", BASELINE_LOO}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(text, names[i].name)) return *out = names[i].baseline, SAIL_OK;
    char *end;
    *value = strtod(text, &end);
    if (end == text || *end || !isfinite(*value)) return err_set(err, SAIL_USAGE, "--baseline: expected none, log2, batch, loo or a number, got '%s'", text);
    *out = BASELINE_NUMBER;
    return SAIL_OK;
}

int objective_check(const struct objective *o, const struct objective_params *p, const char *method, sail_err *err)
{
    const char *refusal = o->refuse ? o->refuse(p) : NULL;
    uint32_t takes = o == &objective_sum ? ~(uint32_t)0 : o->takes; // a sum takes what all of its terms take
    for (int k = 0; o == &objective_sum && k < p->sum.n; k++) takes &= p->sum.term[k]->takes;
    if (p->divergence != DIVERGENCE_REVERSE_KL && !(takes & TAKES_DIVERGENCE))
        refusal = "--f-divergence needs a loss on the difference of both answers' log-ratios (dpo, cdpo, robust, r-dpo, ipo, hinge, exo-pair, discopop)";
    if (p->use_margin && !(takes & TAKES_MARGIN)) refusal = "--margin needs a loss on a logit that a margin can be taken off (reward, and the logistic objectives of docs/methods.md)";
    return refusal ? err_set(err, SAIL_USAGE, "--method %s: %s", method, refusal) : SAIL_OK;
}
