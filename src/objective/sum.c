/* Sums of objectives on the same pairs: L = sum_k w_k L_k, coef = sum_k w_k coef_k. Every term keeps the scale that it has alone: a mean over pairs, sft a
 * mean over the tokens of the winning answers. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "objective/objective.h"

static double term_scale(const struct objective *o, const struct batch *b, double scale)
{
    if (o->needs & COL_PAIRS) return scale;
    BUG_ON(b->n_pair && b->won_tokens <= 0, "a sum with %s, and nobody counted the winning answers' tokens", o->name);
    return b->n_pair ? 1.0 / (double)b->won_tokens : 0;
}

/* The pairs' metrics are those of the first term that knows the reference: each of them would count the pairs once more. */
static int leading_term(const struct objective_sum *sum)
{
    for (int k = 0; k < sum->n; k++)
        if (sum->term[k]->needs & COL_LOGP_REF) return k;
    return 0;
}

static void sum_eval(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s)
{
    const int lead = leading_term(&p->sum);
    for (int k = 0; k < p->sum.n; k++) {
        const struct objective *o = p->sum.term[k];
        struct objective_stats part = {0}, *into = k == lead ? s : &part;
        const double before = into->loss;
        BATCH_NEED(b, o->needs);
        o->eval(p, b, p->sum.weight[k] * term_scale(o, b, scale), into);
        const double loss = into->loss - before;
        if (k != lead) s->loss += loss;
        if (part.reference_point != 0) s->reference_point = part.reference_point;
        if (!o->at_reference) s->loss_elsewhere += loss;
        s->term_loss[k] += loss / p->sum.weight[k];
    }
}

static double sum_at_reference(const struct objective_params *p, const struct pair *q)
{
    double loss = 0;
    for (int k = 0; k < p->sum.n; k++)
        if (p->sum.term[k]->at_reference) loss += p->sum.weight[k] * p->sum.term[k]->at_reference(p, q);
    return loss;
}

static const char *sum_refuse(const struct objective_params *p)
{
    const char *refusal = NULL;
    for (int k = 0; !refusal && k < p->sum.n; k++) {
        const struct objective *o = p->sum.term[k];
        if (o->needs & ~(uint32_t)(COL_PAIRS | COL_LOGP_REF | COL_SHIFT)) return "a sum adds sft and methods that read a pair's log-probs; one of these reads more, or takes rows one by one: leave it out";
        if (o == &objective_reward) return "a reward model is no policy: leave reward out of the sum, and train it with `sail reward`";
        refusal = o->refuse ? o->refuse(p) : NULL;
    }
    return refusal;
}

const struct objective objective_sum = {"sum", COUPLE_PAIR, COL_PAIRS, sum_eval, sum_at_reference, "sum_k w_k L_k, w = --method-weights", "-", sum_refuse, 0};

/* One term of the list at *text, with the weight at *weights (NULL: 1); both move past it. */
static int read_term(struct objective_sum *sum, const char **text, const char **weights, sail_err *err)
{
    char name[64];
    const size_t n = strcspn(*text, ",");
    if (sum->n == SUM_TERMS) return err_set(err, SAIL_USAGE, "--method: a sum of more than %d methods", SUM_TERMS);
    snprintf(name, sizeof name, "%.*s", (int)n, *text);
    sum->term[sum->n] = objective_find(name);
    BUG_ON(!sum->term[sum->n], "no objective %s", name);
    double weight = 1;
    if (*weights) {
        char *end;
        weight = strtod(*weights, &end);
        const bool last = !(*text)[n];
        if (end == *weights || !(weight > 0 && weight <= 1e9) || *end != (last ? '\0' : ','))
            return err_set(err, SAIL_USAGE, "--method-weights %s: expected a number above 0 for each method of the sum, with commas between them", *weights);
        *weights = end + !last;
    }
    sum->weight[sum->n++] = weight;
    *text += n + ((*text)[n] == ',');
    return SAIL_OK;
}

int objective_sum_parse(struct objective_sum *sum, const char *objectives, const char *weights, sail_err *err)
{
    *sum = (struct objective_sum){0};
    if (!strchr(objectives, ',')) return weights ? err_set(err, SAIL_USAGE, "--method-weights weighs the terms of a sum (--method dpo,sft): drop it, or name a sum") : SAIL_OK;
    int rc = SAIL_OK;
    while (!rc && *objectives) rc = read_term(sum, &objectives, &weights, err);
    return rc;
}
