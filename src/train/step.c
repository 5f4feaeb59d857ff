/* One optimizer step: prompts, answers, labels, log-probs, coefficients, gradients, update. The step owns no mathematics. */
#include <math.h>

#include "base/err.h"
#include "base/log.h"
#include "label/labeler.h"
#include "train/run.h"

/* Weights of the pairs from the policy's log-probs, held constant. */
static void weigh(const struct run *r, struct batch *b, struct step_result *result)
{
    replay_weigh(r, b, result);
    if (!r->config->wpo) return;
    b->written |= COL_ADJUSTED;
    wpo_weigh(b);
}

/* Labels of the policy's own, where they are drawn, for pairs whose rows are scored; first: the number of the first of them in the step. */
static void label_own(const struct run *r, struct batch *b, int64_t first)
{
    if (r->params.label == LABEL_SAMPLED && (r->objective->needs & READS_ROUTE)) label_self(b, first, r->params.beta, (uint64_t)r->config->seed, (uint64_t)r->step);
}

/* Forward, coefficients and backward in one pass, micro-batch by micro-batch: the objective couples no more than a group. */
static int train_fused(struct run *r, struct step_result *result, sail_err *err)
{
    struct batch *b = &r->batch, slice;
    int64_t pairs = 0;
    for (int64_t from = 0, n; from < b->n; from += n) {
        n = micro_rows(r, b, from);
        batch_slice(&slice, b, from, n, r->slice_pair);
        const struct sequences s = policy_sequences(r, &slice);
        const double start = clock_seconds();
        int rc = reference_score(r, &slice, &r->cache, err);
        if (rc) return rc;
        const double scored = clock_seconds();
        result->timing.reference += scored - start;
        if (r->adapter) adapter_dropout(r->adapter, r->config->lora_dropout, (uint64_t)r->config->seed, (uint64_t)r->step);
        rc = model_forward(r->policy, &s, slice.logp, batch_tokens(&slice, slice.token_logp), err);
        if (rc) return rc;
        const double ran = clock_seconds();
        result->timing.forward += ran - scored;
        slice.written |= COL_LOGP | (slice.token_logp ? COL_TOKENS : 0);
        weigh(r, &slice, result);
        label_own(r, &slice, pairs);
        pairs += slice.n_pair;
        objective_eval(r->objective, &r->params, &slice, result->scale, &result->stats);
        if ((rc = pull_backward(r, &slice, result, err))) return rc;
        result->timing.backward += clock_seconds() - ran;
        if (r->adapter) adapter_dropout(r->adapter, 0, 0, 0);
    }
    b->written |= COL_LOGP | COL_COEF | (r->needs_reference ? COL_LOGP_REF : 0) | (r->config->wpo ? COL_ADJUSTED : 0);
    replay_weigh(r, b, NULL); // the slices had copies of the pairs
    if (r->config->wpo) wpo_weigh(b);
    label_own(r, b, 0);
    return SAIL_OK;
}

/* Score everything, then the coefficients of the whole batch, then accumulate: for baselines over the batch and reference points of the batch. */
static int train_two_pass(struct run *r, struct step_result *result, sail_err *err)
{
    struct batch *b = &r->batch, slice;
    for (int64_t from = 0, n; from < b->n; from += n) {
        n = micro_rows(r, b, from);
        batch_slice(&slice, b, from, n, r->slice_pair);
        const struct sequences s = policy_sequences(r, &slice);
        const double start = clock_seconds();
        int rc = reference_score(r, &slice, &r->cache, err);
        const double scored = clock_seconds();
        if (!rc) rc = model_score(r->policy, &s, slice.logp, NULL, err);
        if (rc) return rc;
        result->timing.reference += scored - start;
        result->timing.forward += clock_seconds() - scored;
    }
    b->written |= COL_LOGP | (r->needs_reference ? COL_LOGP_REF : 0);
    weigh(r, b, result);
    label_own(r, b, 0);
    if (r->shifts) running_mean_add(&r->shift, b, r->params.beta);
    objective_eval(r->objective, &r->params, b, result->scale, &result->stats);
    if (r->mismatched) batch_drop_mismatched(b);
    const double start = clock_seconds();
    const int rc = pull_accumulate(r, result, err); // without dropout: the scores had none
    result->timing.backward = clock_seconds() - start;
    return rc;
}

/* Loss terms are means over the labelled pairs, the unpaired rows or the groups of the whole batch; those of sft and GRPO over its completion tokens that count. */
static double loss_scale(const struct run *r)
{
    const struct batch *b = &r->batch;
    if (r->pairs) return b->n_pair ? 1.0 / (double)b->n_pair : 0;
    if (r->groups && !(r->objective->needs & TOKEN_MEAN)) return b->n ? 1.0 / (double)groups_count(b) : 0;
    int64_t n = r->unpaired ? 0 : batch_counted_tokens(b);
    for (int64_t i = 0; r->unpaired && i < b->n; i++) n += b->verdict[i] != VERDICT_MISMATCHED;
    return n ? 1.0 / (double)n : 0;
}

int step_refuse(const struct run *r, const char *whose, double loss, double norm, sail_err *err)
{
    const int64_t newest = checkpoint_newest(r);
    char saved[64] = "there is no checkpoint yet";
    if (newest >= 0) snprintf(saved, sizeof saved, "the checkpoint of step %lld is good", (long long)newest);
    return err_set(err, SAIL_FAILED, "step %lld%s is not finite (loss %g, gradient norm %g): nothing was updated; %s", (long long)r->step + 1, whose, loss, norm, saved);
}

static int update(struct run *r, struct step_result *result, sail_err *err)
{
    const double start = clock_seconds();
    result->grad_norm = optimizer_grad_norm(r->param, r->n_param);
    if (!isfinite(result->grad_norm) || !isfinite(result->stats.loss)) return step_refuse(r, "", result->stats.loss, result->grad_norm, err);
    const double scale = r->config->max_grad_norm > 0 ? optimizer_clip_scale(result->grad_norm, r->config->max_grad_norm) : 1;
    result->learning_rate = r->config->lr * schedule_factor(&r->schedule, r->step, r->total_steps);
    optimizer_step(r->optimizer, r->param, r->n_param, result->learning_rate, scale);
    if (r->config->param_bound > 0) result->param_norm = optimizer_project(r->param, r->n_param, r->config->param_bound);
    policy_params_changed(r->policy);
    result->timing.optimizer = clock_seconds() - start;
    return SAIL_OK;
}

/* The rows of a step and who won. */
static int gather(struct run *r, struct step_result *result, sail_err *err)
{
    *result = (struct step_result){.reward_loss = NAN, .reward_accuracy = NAN, .reward_margin = NAN, .judged = NAN, .kl = NAN, .score = NAN, .score_margin = NAN, .eos_share = NAN, .param_norm = NAN, .length_coef = NAN, .answer_length = NAN, .repeats = NAN};
    int rc = rollout_fill(r, result, err);
    if (!rc) rc = labels_fill(r, result, err);
    if (!rc) rc = anchors_fill(r, result, err);
    if (!rc && r->two_level) rc = two_level_score(r, err);
    if (rc) return rc;
    if (r->config->ld_alpha < 1) batch_public_lengths(&r->batch, r->config->ld_alpha);
    batch_lay_tokens(&r->batch);
    return SAIL_OK;
}

static int descend(struct run *r, struct step_result *result, sail_err *err)
{
    result->scale = loss_scale(r);
    batch_count_won(&r->batch);
    int rc = objective_coupling(r->objective, &r->params) <= COUPLE_GROUP ? train_fused(r, result, err) : train_two_pass(r, result, err);
    if (rc) return rc;
    step_measure(r, result);
    return update(r, result, err);
}

/* Extragradient: a whole step from where the run is, to meet there what the step itself will learn from. */
static int look_ahead(struct run *r, sail_err *err)
{
    struct step_result ahead;
    point_keep(r, &r->start);
    r->stream = (uint64_t)1 << 44;
    int rc = gather(r, &ahead, err);
    if (!rc) rc = descend(r, &ahead, err);
    r->stream = 0;
    return rc;
}

/* Two levels: the step of the policy that the upper level pulls, on the same prompts as the other's. */
static int second_step(struct run *r, sail_err *err)
{
    struct step_result second;
    two_level_enter(r, true);
    r->stream = (uint64_t)1 << 46;
    int rc = gather(r, &second, err);
    if (!rc) rc = descend(r, &second, err);
    r->stream = 0;
    two_level_enter(r, false);
    return rc;
}

int run_step(struct run *r, struct step_result *result, sail_err *err)
{
    const double start = clock_seconds();
    int rc = r->config->extragradient ? look_ahead(r, err) : r->two_level ? second_step(r, err) : SAIL_OK;
    if (!rc) rc = gather(r, result, err);
    if (r->config->extragradient) point_return(r, &r->start);
    if (!rc) rc = descend(r, result, err);
    if (!rc && r->two_level) rc = two_level_learn(r, result, err);
    if (rc) return rc;
    r->step++;
    reference_follow(r);
    result->timing.total = clock_seconds() - start;
    return SAIL_OK;
}
