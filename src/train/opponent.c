/* Pairs that never meet: the last of a prompt's three answers is the opponent, and the labeler says how often each of the other two beats it. The pair's margin is the difference. */
#include <math.h>
#include <string.h>

#include "base/err.h"
#include "base/rng.h"
#include "train/run.h"

enum { OPPONENT = 2 };

int opponent_check(const struct run *r, sail_err *err)
{
    const sail_config *c = r->config;
    const bool reads = (r->objective->needs & READS_OPPONENT) != 0, opponent = r->pairing->ask == opponent_ask;
    if (reads != opponent)
        return err_set(err, SAIL_USAGE, reads ? "method %s compares its pairs with an opponent: --pairing opponent" : "--pairing opponent: method %s does not read a lead against an opponent: choose best-worst, random or all",
                       r->preset->name);
    if (!reads) return SAIL_OK;
    if (mixture_offline(r->mixture) > 1e-12) return err_set(err, SAIL_USAGE, "method %s has no opponent on rows of the data: --mix-pr 1", r->preset->name);
    if (c->num_samples != 3 || candidates_count(r) != 3)
        return err_set(err, SAIL_USAGE, "method %s needs two answers and their opponent: --num-samples 3, --ref-samples 0, --data-answers 0", r->preset->name);
    const struct draw opponent_draw = draw_of(r, &(struct sampled_prompt){.shared = true}, OPPONENT);
    const double temperature = opponent_draw.temperature != 0 ? opponent_draw.temperature : config_whole_vocabulary(c) ? c->temperature : NAN;
    if (draw_source(opponent_draw) != SOURCE_POLICY || temperature != 1 || c->sampler_share < 1)
        return err_set(err, SAIL_USAGE, "method %s plays against the policy itself: --logit-weights 1:0,1:0,1:0@1 and --sampler-share 1", r->preset->name);
    if (c->pair_margin > 0 || c->pair_margin_own > 0 || c->pair_floor > -1e12) return err_set(err, SAIL_USAGE, "method %s learns from pairs however close they are: drop --pair-margin and --pair-floor", r->preset->name);
    if (c->eval_data) return err_set(err, SAIL_USAGE, "--eval-data: method %s has no opponent on rows of the data: give --eval-prompts", r->preset->name);
    return SAIL_OK;
}

int opponent_ask(struct run *r, int64_t i, int64_t first, sail_err *err)
{
    struct sampled_prompt *prompt = &r->sampled.prompt[i];
    struct sampled_answer *answer = &r->sampled.answer[i * r->sampled.k];
    int rc = SAIL_OK;
    for (int k = 0; !rc && k < OPPONENT; k++) {
        const int both[2] = {k, OPPONENT};
        double reward[2], p;
        if ((rc = labels_ask(r, i, first, both, 2, reward, &p, err))) return rc;
        prompt->beats[k] = !isnan(p) ? p : 1 / (1 + exp((reward[1] - reward[0]) / r->config->label_temperature));
        answer[k].reward = reward[0];
        answer[OPPONENT].reward = reward[1];
    }
    return rc;
}

/* soft: P itself; hard: who is likelier to win, half a win for a tie; sampled: one draw. */
static double verdict(const struct run *r, double p, double u)
{
    const char *rule = r->config->pr_label;
    if (isnan(p) || !strcmp(rule, "soft")) return p;
    return !strcmp(rule, "sampled") ? u < p : p == 0.5 ? 0.5 : p > 0.5;
}

struct pair opponent_pair(const struct run *r, int64_t i, int64_t first, const int *of)
{
    (void)of;
    const struct sampled_prompt *prompt = &r->sampled.prompt[i];
    const double m = verdict(r, prompt->beats[0], labels_uniform(r, i, 0)) - verdict(r, prompt->beats[1], labels_uniform(r, i, 1));
    return (struct pair){.win = (int32_t)first, .lose = (int32_t)first + 1, .p = 1, .margin = m, .unlabelled = isnan(m)};
}
