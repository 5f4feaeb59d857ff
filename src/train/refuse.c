/* Contradictions between a method and its options: each is refused before any work, in a sentence that says what to change. */
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "train/run.h"

/* Exact for fair draws of the policy only. */
bool run_scores_sampler(const struct run *r)
{
    const bool sail = (r->objective->needs & READS_ROUTE) != 0;
    return (sail && ((r->mixture.pr > 0 && r->params.gamma != 0) || (r->mixture.pp > 0 && r->params.pi != 0))) || (r->objective->needs & (SCORES_FIRST | GROUPS | LEARNS_REWARD)) != 0;
}

/* Where the rows come from. */
static int refuse_rows(const struct run *r, sail_err *err)
{
    const sail_config *c = r->config;
    const double offline = mixture_offline(r->mixture), online = r->mixture.pp + r->mixture.pr;
    if (offline < -1e-12)
        return err_set(err, SAIL_USAGE, "mix_dp + mix_pp + mix_pr = %g: expected at most 1", c->mix_dp + c->mix_pp + c->mix_pr);
    if (online > 0 && ((!r->pairs && !r->groups) || r->reward)) return err_set(err, SAIL_USAGE, "method %s learns from the data only: drop --mix-pp and --mix-pr", r->preset->name);
    if (r->mixture.dp + r->mixture.pp > 0 && !(r->objective->needs & READS_ROUTE))
        return err_set(err, SAIL_USAGE, "method %s does not label its own pairs: drop --mix-dp and --mix-pp, or take a sail-* method", r->preset->name);
    if ((offline > 1e-12 || r->mixture.dp > 0) && !c->data)
        return err_set(err, SAIL_USAGE, "method %s takes %.3g of its rows from --data, and there is none", r->preset->name, offline + r->mixture.dp);
    if (online > 0 && !c->data && !c->prompts) return err_set(err, SAIL_USAGE, "method %s samples answers: give --prompts or --data", r->preset->name);
    if (offline < 0.05 && !c->max_steps)
        return err_set(err, SAIL_USAGE, "only %.3g of the rows are offline, so epochs mean nothing: give --max-steps", offline > 0 ? offline : 0.0);
    return SAIL_OK;
}

/* Who judges them. */
static int refuse_labels(const struct run *r, sail_err *err)
{
    const sail_config *c = r->config;
    const bool itself = c->implicit_reward || c->self_judge;
    if (c->implicit_reward && c->self_judge) return err_set(err, SAIL_USAGE, "--implicit-reward and --self-judge both label the answers: drop one of them");
    if (r->mixture.pr > 0 && !rewarder_given(c) && !itself)
        return err_set(err, SAIL_USAGE, "method %s asks a labeler: give " REWARDERS, r->preset->name);
    if (c->finished_only && r->pairing->ask) return err_set(err, SAIL_USAGE, "--finished-only and --pairing %s: answers that are judged two by two keep their verdicts: drop one of them", c->pairing);
    return SAIL_OK;
}

/* Rounds of reward models that are refitted between the steps. */
static int refuse_rounds(const struct run *r, sail_err *err)
{
    const sail_config *c = r->config;
    if (!c->round_steps && (c->gallery || c->gallery_prompts || c->refit)) return err_set(err, SAIL_USAGE, "--gallery, --gallery-prompts and --refit are about rounds: give --round-steps, or --method itercomp");
    if (!c->round_steps) return SAIL_OK;
    if (!c->gallery) return err_set(err, SAIL_USAGE, "--round-steps %lld refits reward models on what a gallery of models answers: give --gallery", (long long)c->round_steps);
    if (r->mixture.pr <= 0) return err_set(err, SAIL_USAGE, "--round-steps: the refitted reward models label sampled answers, and method %s has none: --mix-pr 1, or --method itercomp", r->preset->name);
    if (c->implicit_reward || c->self_judge || r->objective->needs & LEARNS_REWARD)
        return err_set(err, SAIL_USAGE, "--round-steps: method %s has a reward of its own, and the refitted models would label nothing: take --method itercomp or online-dpo", r->preset->name);
    if (!c->max_steps) return err_set(err, SAIL_USAGE, "--round-steps: give --max-steps, the steps of all rounds");
    return SAIL_OK;
}

/* Terms that an objective has or does not have. */
static int refuse_terms(const struct run *r, sail_err *err)
{
    const sail_config *c = r->config;
    const double offline = mixture_offline(r->mixture);
    if (r->params.revkl_vocabulary && !(r->params.revkl > 0)) return err_set(err, SAIL_USAGE, "--revkl-estimator vocabulary says how KL(reference || policy) is taken, and --revkl-coef is 0: give it a weight");
    if (r->params.revkl > 0 && !(r->objective->needs & READS_ROUTE)) return err_set(err, SAIL_USAGE, "--revkl-coef: method %s has no such term; take a sail-* method", r->preset->name);
    const bool ball = r->params.chi2_nu > 0 || r->params.kl_nu > 0, robust = r->params.robust_rho > 0 || ball;
    if (robust && r->objective != &objective_listwise && !(r->objective->needs & READS_ROUTE && r->mixture.pr > 0))
        return err_set(err, SAIL_USAGE, "--robust-rho, --chi2-nu and --kl-nu are about a labeler's verdicts in route pr: take sail-pr, sail-mix, sail-listwise or online-dpo");
    if (ball && strcmp(c->pr_label, "soft"))
        return err_set(err, SAIL_USAGE, "--%s moves uncertain labels only, and --pr-label %s gives certain ones: --pr-label soft", r->params.chi2_nu > 0 ? "chi2-nu" : "kl-nu", c->pr_label);
    if ((r->objective->needs & COL_WIN_RATE) && offline > 1e-12)
        return err_set(err, SAIL_USAGE, "method %s needs every answer's rate of wins among several, which data rows do not have: --mix-pr 1", r->preset->name);
    if ((r->objective->needs & COL_WIN_RATE) && c->eval_data) return err_set(err, SAIL_USAGE, "--eval-data: method %s has no loss on data rows: give --eval-prompts", r->preset->name);
    if ((r->objective->needs & COL_LOGP_INIT) && c->full) return err_set(err, SAIL_USAGE, "method %s ties the policy to its start and to its last iterate: with --full these would be two more copies of the model; drop --full", r->preset->name);
    return SAIL_OK;
}

static int refuse_answers(const struct run *r, sail_err *err)
{
    const sail_config *c = r->config;
    const double online = r->mixture.pp + r->mixture.pr;
    const int64_t answers = candidates_count(r);
    if (answers > 2 && r->pairing->needs_reward && r->mixture.pp > 0)
        return err_set(err, SAIL_USAGE, "--pairing %s needs a labeler's rewards, and mix_pp %g of the rows have none: choose --pairing random or all", c->pairing, c->mix_pp);
    if (online <= 0 && (answers != 2 || c->replay_steps > 0)) return err_set(err, SAIL_USAGE, "method %s samples no answers: drop --num-samples, --ref-samples, --data-answers and --replay-steps", r->preset->name);
    if (online > 0 && c->ld_alpha < 1)
        return err_set(err, SAIL_USAGE, "--ld-alpha %g with sampled answers: their log-probs must be whole for the score term and for weights; choose a method that learns from the data only", c->ld_alpha);
    if (c->max_repetition < 1 && (!r->pairs || r->mixture.pr <= 0))
        return err_set(err, SAIL_USAGE, "--max-repetition says who loses in judged pairs, and method %s makes none: drop it", r->preset->name);
    if (c->max_repetition < 1 && (r->pairing->ask || r->pairing->weight || (r->objective->needs & COL_WIN_RATE)))
        return err_set(err, SAIL_USAGE, "--max-repetition decides a pair whatever its rewards: --pairing %s and methods that read rates of wins (%s) take them as they are: drop it", c->pairing, r->preset->name);
    if (c->replay_steps > 0 && !config_draws_policy(c))
        return err_set(err, SAIL_USAGE, "--replay-steps weights stale answers by the policy's own probabilities: sample with temperature 1, top-k 0 and top-p 1");
    return SAIL_OK;
}

/* What would bias a score term: answers or pairs that are no fair draws of the policy. */
static int refuse_beside_score_term(const struct run *r, sail_err *err)
{
    const sail_config *c = r->config;
    if (c->pair_margin > 0 || c->pair_margin_own > 0 || c->pair_floor > -1e12)
        return err_set(err, SAIL_USAGE, "--pair-margin and --pair-floor keep some draws of the policy and drop others, and the score term of method %s would be biased: drop them, or --gamma 0", r->preset->name);
    if (candidates_count(r) > 2 && r->pairs && r->pairing->skews && r->mixture.pr > 0)
        return err_set(err, SAIL_USAGE, "--pairing %s with gamma %g: a chosen pair is no draw of the policy and the score term would be biased: choose --pairing random or all, or --gamma 0", c->pairing, c->gamma);
    if (c->ref_samples > 0 || c->data_answers > 0)
        return err_set(err, SAIL_USAGE, "--ref-samples and --data-answers: the score term of method %s needs answers of the policy: --gamma 0, or num_samples alone", r->preset->name);
    if (c->max_repetition < 1)
        return err_set(err, SAIL_USAGE, "--max-repetition labels draws of the policy by what they say again, and drops some, and the score term of method %s would be biased: drop it, or --gamma 0", r->preset->name);
    if (c->finished_only)
        return err_set(err, SAIL_USAGE, "--finished-only keeps some draws of the policy and drops others, and the score term of method %s would be biased: drop it, or --gamma 0", r->preset->name);
    if (c->wpo)
        return err_set(err, SAIL_USAGE, "--wpo with a score term: pairs weighted by the policy itself are no fair sample of it, and the term would be biased: choose online-dpo, or drop --wpo");
    if (c->temperature != 1 && config_whole_vocabulary(c) && !strcmp(c->tempered, "weigh") && (r->objective->needs & READS_ROUTE))
        log_note("sampling with temperature %g: sampled pairs are weighed by the policy's probability over the sampler's, at most %g (--replay-clip; --tempered keep: as they are)", c->temperature, c->replay_clip);
    else if (!config_draws_policy(c))
        log_warning("sampling with temperature %g, top-k %lld, top-p %g is not sampling from the policy: the score term is biased", c->temperature, (long long)c->top_k, c->top_p);
    return SAIL_OK;
}

/* What is still measured on answers that are no draws of the policy itself. */
static void warn_of_measures(const struct run *r)
{
    const sail_config *c = r->config;
    if (r->mixture.pp + r->mixture.pr <= 0 || !r->needs_reference || !c->num_samples || config_draws_policy(c)) return;
    log_warning("sampling with temperature %g, top-k %lld, top-p %g: objective/kl is the mean of log pi - log ref over answers as they are drawn, which is not KL(pi || ref)", c->temperature,
                (long long)c->top_k, c->top_p);
}

int run_refuse(const struct run *r, sail_err *err)
{
    const bool scores = run_scores_sampler(r), online = r->mixture.pp + r->mixture.pr > 0;
    int rc = refuse_rows(r, err);
    if (!rc) rc = refuse_labels(r, err);
    if (!rc) rc = refuse_rounds(r, err);
    if (!rc) rc = two_level_check(r, err);
    if (!rc && online) rc = candidates_check(r, err);
    if (!rc) rc = refuse_terms(r, err);
    if (!rc) rc = refuse_answers(r, err);
    if (!rc && scores) rc = refuse_beside_score_term(r, err);
    if (!rc) rc = draws_check(r, scores, err);
    if (!rc) rc = opponent_check(r, err);
    if (!rc) rc = implicit_check(r, err);
    if (!rc) rc = self_judge_check(r, err);
    if (!rc) rc = duels_check(r, err);
    if (!rc) rc = prefixes_check(r, scores, err);
    if (!rc) rc = archive_check(r, scores, err);
    if (!rc && r->groups) rc = groups_check(r, err);
    if (!rc) rc = reference_check(r, err);
    if (!rc) warn_of_measures(r);
    return rc;
}
