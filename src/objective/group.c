/* Objectives on the judged answers of a prompt, all of them draws of the policy: K rows of one group, their rewards R. The sampler is differentiated: coefficients are score terms, with
 * everything that multiplies a log-prob held constant. scale is 1 / groups (GRPO: 1 / completion tokens) of the optimizer batch. */
#include <math.h>

#include "objective/objective.h"

static double mean(const double *x, int64_t from, int64_t end)
{
    double sum = 0;
    for (int64_t i = from; i < end; i++) sum += x[i];
    return sum / (double)(end - from);
}

/* R = r - beta d(y): the KL is in the reward, constant like it. */
static double penalised(const struct objective_params *p, const struct batch *b, int64_t i) { return b->reward[i] - p->beta * log_ratio(b, (int32_t)i); }

/* What R is compared with: the mean over the other answers of its prompt (loo), over the answers of the batch's other prompts (batch), or a number. None depends on the answer. */
static double reinforce_baseline(const struct objective_params *p, const struct batch *b, int64_t i, int64_t from, int64_t end)
{
    double sum = 0, n = 0;
    if (p->baseline == BASELINE_NUMBER) return p->baseline_value;
    if (p->baseline == BASELINE_NONE) return 0;
    for (int64_t j = 0; j < b->n; j++) {
        const bool own = j >= from && j < end;
        if (p->baseline == BASELINE_LOO ? !own || j == i : own) continue;
        sum += penalised(p, b, j);
        n++;
    }
    return n > 0 ? sum / n : 0;
}

/* REINFORCE; with the baseline loo RLOO (2402.14740): dL/dlog pi(y_k) = -(R_k - b_k) / K, the gradient of -(E[r] - beta KL(pi || ref)) */
static void reinforce_eval(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s)
{
    for (int64_t from = 0, end; from < b->n; from = end) {
        end = batch_group_end(b, from);
        const double each = scale / (double)(end - from);
        for (int64_t i = from; i < end; i++) {
            b->coef[i] = -each * (penalised(p, b, i) - reinforce_baseline(p, b, i, from, end));
            s->loss -= each * penalised(p, b, i);
        }
    }
}

/* A = R - mean, over the group's standard deviation (of a sample) + 1e-4 unless the rewards are taken as they are. */
static double group_advantage(const struct objective_params *p, const struct batch *b, int64_t i, int64_t from, int64_t end)
{
    const double m = mean(b->reward, from, end), n = (double)(end - from);
    double squares = 0;
    for (int64_t j = from; j < end; j++) squares += (b->reward[j] - m) * (b->reward[j] - m);
    return (b->reward[i] - m) / (p->scale_rewards ? sqrt(squares / fmax(1, n - 1)) + 1e-4 : 1);
}

/* GRPO (2402.03300) with one update a batch, so that the ratio is 1: dL/dlog pi(y_t) = -A / N, N the batch's completion tokens */
static void grpo_eval(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s)
{
    for (int64_t from = 0, end; from < b->n; from = end) {
        end = batch_group_end(b, from);
        for (int64_t i = from; i < end; i++) {
            const double A = group_advantage(p, b, i, from, end);
            b->coef[i] = -scale * A;
            s->loss -= scale * A * b->n_tok[i];
        }
    }
}

/* The same with beta (e^-x + x - 1) a token, x = log pi(y_t) - log ref(y_t), whose slope in log pi(y_t) is beta (1 - e^-x) */
static void grpo_kl_eval(const struct objective_params *p, struct batch *b, double scale, struct objective_stats *s)
{
    for (int64_t from = 0, end; from < b->n; from = end) {
        end = batch_group_end(b, from);
        for (int64_t i = from; i < end; i++) {
            const double A = group_advantage(p, b, i, from, end);
            b->coef[i] = scale;
            for (int64_t t = b->token_at[i]; t < b->token_at[i] + b->n_tok[i]; t++) {
                const double x = fmax((double)b->token_logp[t] - (double)b->token_logp_ref[t], -80); // e^-x stays in f32
                b->token_weight[t] = (float)(-A - p->beta * expm1(-x));
                s->loss += scale * (-A + p->beta * (expm1(-x) + x));
            }
        }
    }
}

static const char *refuse_reinforce(const struct objective_params *p) { return p->baseline == BASELINE_LOG2 ? "--baseline log2 is a preference loss's: loo, batch, none or a number" : NULL; }

enum { GROUP = COL_REWARD | GROUPS };
const struct objective objective_group[] = {
    {"reinforce", COUPLE_GROUP, GROUP | COL_LOGP_REF | BASELINES | LOO_IN_GROUP, reinforce_eval, NULL, "-(R - b) log pi(y), R = r - beta d(y), R and b held constant", "arXiv 2402.14740", refuse_reinforce, 0},
    {"grpo", COUPLE_GROUP, GROUP | TOKEN_MEAN, grpo_eval, NULL, "-A sum_t log pi(y_t) / N, A = (r - mean) / (std + 1e-4)", "arXiv 2402.03300", NULL, 0},
    {"grpo-kl", COUPLE_GROUP, GROUP | COL_LOGP_REF | COL_TOKENS | TOKEN_MEAN, grpo_kl_eval, NULL, "grpo + beta (e^-x + x - 1) / N a token, x = log pi(y_t) - log ref(y_t)", "arXiv 2402.03300", NULL, 0},
    {.name = NULL},
};
