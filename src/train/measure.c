/* What a step's log-probs say beside its loss: KL, drift of sampled against scored log-probs, log-probs of winners and losers. */
#include <math.h>

#include "train/run.h"

/* Means over pairs, or over desirable and undesirable rows; of the first of two policies nobody said which answer wins. */
static void measure_answers(const struct run *r, struct step_result *result)
{
    const struct batch *b = &r->batch;
    for (int64_t k = 0; k < b->n_pair; k++) {
        result->logp_chosen += b->logp[b->pair[k].win] / (double)b->n_pair;
        result->logp_rejected += b->logp[b->pair[k].lose] / (double)b->n_pair;
    }
    for (int64_t i = 0; r->unpaired && i < b->n; i++)
        *(b->verdict[i] == VERDICT_DESIRABLE ? &result->logp_chosen : &result->logp_rejected) +=
            b->logp[i] / (b->verdict[i] == VERDICT_DESIRABLE ? result->stats.n_desirable : result->stats.n_undesirable);
    if ((!b->n_pair && !r->unpaired) || r->two_level) result->logp_chosen = result->logp_rejected = NAN;
}

void step_measure(struct run *r, struct step_result *result)
{
    const struct batch *b = &r->batch;
    double kl = 0, drift = 0, worst = 0, blend = 0;
    int64_t n = 0, n_policy = 0, n_blend = 0;
    for (int64_t i = 0; i < b->n; i++) {
        result->timing.tokens += b->n_prompt[i] + b->n_tok[i];
        if (!source_is_fresh(b->source[i])) continue;
        n_policy += b->source[i] == SOURCE_POLICY;
        n_blend += b->source[i] == SOURCE_MIXTURE;
        if (b->source[i] == SOURCE_POLICY && r->needs_reference) kl += b->logp[i] - b->logp_ref[i];
        if (b->source[i] == SOURCE_MIXTURE) blend += b->logp_drawn[i] - b->logp_behaviour[i];
        const double d = fabs(b->logp[i] - b->logp_behaviour[i]) / b->n_tok[i];
        if (isnan(d) || r->config->extragradient) continue; // drawn by the reference, or half a step ahead: the policy's log-prob was not there to compare with
        n++;
        drift += d;
        worst = fmax(worst, d);
    }
    result->kl = n_policy && r->needs_reference ? kl / (double)n_policy : NAN;
    result->blend_kl = n_blend ? blend / (double)n_blend : NAN;
    result->drift_mean = n ? drift / (double)n : NAN;
    result->drift_max = n ? worst : NAN;
    measure_answers(r, result);
    result->n_pair = b->n_pair;
    r->counts.trained_tokens += result->timing.tokens;
}
