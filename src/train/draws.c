/* What each answer of a prompt is drawn from: the policy, the reference, or the blended logits of both. Answers that are drawn alike are drawn in one call; the
 * reference is the base without the adapter wherever there is one. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/rng.h"
#include "train/run.h"

static const struct draw plain = {.policy = 1};

static bool is_plain(struct draw d) { return d.policy == 1 && d.reference == 0; }
static struct draw listed(const struct draws *d, int64_t k) { return d->of[d->n > 1 ? k : 0]; } /* of a prompt's k-th answer */
static bool alike(struct draw a, struct draw b) { return a.policy == b.policy && a.reference == b.reference && a.temperature == b.temperature; }

/* "W:V" or "W:V@T". */
static bool read_draw(struct draw *d, const char *text)
{
    char *end;
    *d = (struct draw){.policy = strtod(text, &end)};
    if (end == text || *end != ':') return false;
    text = end + 1;
    d->reference = strtod(text, &end);
    if (end == text || !isfinite(d->policy) || !isfinite(d->reference) || fabs(d->policy) > 100 || fabs(d->reference) > 100) return false;
    if (*end != '@') return !*end;
    text = end + 1;
    d->temperature = strtod(text, &end);
    return end != text && !*end && d->temperature >= 1e-3 && d->temperature <= 100;
}

int draws_parse(struct draws *d, const char *text, sail_err *err)
{
    char *copy = mem_strdup(text), *save = NULL;
    int rc = copy ? SAIL_OK : err_memory(err, strlen(text));
    d->n = 0;
    for (char *word = copy ? strtok_r(copy, ",", &save) : NULL; !rc && word; word = strtok_r(NULL, ",", &save)) {
        if (d->n == MAX_ANSWERS)
            rc = err_set(err, SAIL_USAGE, "--logit-weights: more than %d answers", MAX_ANSWERS);
        else if (!read_draw(&d->of[d->n++], word))
            rc = err_set(err, SAIL_USAGE, "--logit-weights: expected POLICY:REFERENCE or POLICY:REFERENCE@TEMPERATURE, numbers to 100 with commas between answers, got '%s'", word);
    }
    if (!rc && !d->n) rc = err_set(err, SAIL_USAGE, "--logit-weights: expected POLICY:REFERENCE, got nothing");
    free(copy);
    return rc;
}

/* Nash-MD: the first answer learns, the second is its opponent. */
static int check_first(const struct run *r, sail_err *err)
{
    const sail_config *c = r->config;
    const char *name = r->preset->name;
    if (mixture_offline(r->mixture) > 1e-12) return err_set(err, SAIL_USAGE, "method %s learns from its own answers only: --mix-pr 1", name);
    if (c->num_samples != 2) return err_set(err, SAIL_USAGE, "method %s plays one answer against one opponent: --num-samples 2", name);
    if (strcmp(c->pr_label, "soft")) return err_set(err, SAIL_USAGE, "method %s needs P(first beats second), whoever that favours: --pr-label soft (a small --label-temperature makes it 0 or 1)", name);
    const struct draw first = listed(&r->draws, 0);
    if (!is_plain(first) || (first.temperature != 0 && first.temperature != 1)) return err_set(err, SAIL_USAGE, "method %s differentiates the sampler of the first answer: --logit-weights 1:0,...", name);
    if (c->eval_data) return err_set(err, SAIL_USAGE, "--eval-data: method %s has no loss on answers that are not its own: give --eval-prompts", name);
    return SAIL_OK;
}

int draws_check(const struct run *r, bool scores_sampler, sail_err *err)
{
    const sail_config *c = r->config;
    const struct draws *d = &r->draws;
    bool blended = false, special = d->n > 1;
    for (int k = 0; k < d->n; k++) {
        blended |= !is_plain(d->of[k]);
        special |= blended || d->of[k].temperature != 0;
        if (d->of[k].policy == 0 && d->of[k].reference == 0) return err_set(err, SAIL_USAGE, "--logit-weights %s: 0:0 draws every token alike: give one of them a weight", c->logit_weights);
    }
    if (special && r->mixture.pp + r->mixture.pr <= 0) return err_set(err, SAIL_USAGE, "method %s samples no answers: drop --logit-weights", r->preset->name);
    if (blended && !r->needs_reference) return err_set(err, SAIL_USAGE, "--logit-weights %s: method %s has no reference: only 1:0 is there to draw from", c->logit_weights, r->preset->name);
    if (d->n > 1 && d->n != c->num_samples)
        return err_set(err, SAIL_USAGE, "--logit-weights names %d answers and --num-samples %lld: give one pair of weights for all, or one for each", d->n, (long long)c->num_samples);
    const bool tilted = r->pairing->weight != NULL, second = special || tilted;
    if (c->extragradient && r->mixture.pp + r->mixture.pr <= 0) return err_set(err, SAIL_USAGE, "--extragradient: method %s samples nothing that half a step would change", r->preset->name);
    if (c->extragradient && scores_sampler)
        return err_set(err, SAIL_USAGE, "--extragradient: method %s differentiates its sampler, and half a step ahead the answers are another policy's: drop it, or the score term (--gamma 0)", r->preset->name);
    if (c->extragradient && c->replay_steps > 0) return err_set(err, SAIL_USAGE, "--extragradient needs fresh answers in both halves of a step: drop --replay-steps");
    if (second && c->replay_steps > 0) return err_set(err, SAIL_USAGE, "--replay-steps weights stale answers by the policy's own probabilities: drop it, or --logit-weights and --pairing tilted");
    if (tilted && !strcmp(c->tilt_weight, "exact") && !strcmp(c->pr_label, "hard"))
        return err_set(err, SAIL_USAGE, "--pairing tilted: its weights belong to P = sigmoid(r - r'): --pr-label soft or sampled, or --tilt-weight one");
    if (blended && scores_sampler && !(r->objective->needs & SCORES_FIRST))
        return err_set(err, SAIL_USAGE, "--logit-weights %s: method %s differentiates its sampler, which is exact for answers of the policy only: drop it, or --gamma 0 --mix-pp 0", c->logit_weights, r->preset->name);
    if (!second && c->sampler_share < 1) return err_set(err, SAIL_USAGE, "--sampler-share %g: there is no second sampler to share prompts with: give --logit-weights or --pairing tilted, or drop it", c->sampler_share);
    return r->objective->needs & SCORES_FIRST ? check_first(r, err) : SAIL_OK;
}

bool draws_share(const struct run *r, int64_t step, int64_t row)
{
    return rng_uniform((uint64_t)r->config->seed, RNG_ROUTE, (uint64_t)step, (uint64_t)row | (uint64_t)1 << 40) < r->config->sampler_share;
}

struct draw draw_of(const struct run *r, const struct sampled_prompt *prompt, int64_t k) { return prompt->shared ? listed(&r->draws, k) : plain; }

enum source draw_source(struct draw d) { return is_plain(d) ? SOURCE_POLICY : d.policy == 0 && d.reference == 1 ? SOURCE_REFERENCE : SOURCE_MIXTURE; }

/* For answers first .. first + n - 1 of each prompt. */
static struct sampler_options drawn_with(const struct run *r, struct draw draw, int64_t first, int64_t n)
{
    struct sampler_options o = r->sampling;
    o.step = (uint64_t)r->step + r->stream;
    o.n_return = n;
    o.first_return = first;
    if (draw.temperature != 0) o = sampler_whole(o, draw.temperature);
    if (!is_plain(draw))
        o.blend = (struct blend){.with = r->reference, .policy = draw.policy, .reference = draw.reference, .support = draw.policy < 0 || draw.reference < 0 ? r->config->logit_support : 1};
    return o;
}

/* How many answers from the first-th on are drawn like it. */
static int64_t alike_from(const struct run *r, int64_t first)
{
    int64_t n = 1;
    while (first + n < r->config->num_samples && alike(listed(&r->draws, first), listed(&r->draws, first + n))) n++;
    return n;
}

int draws_reserve(struct run *r, int64_t longest, sail_err *err)
{
    const int64_t k = r->config->num_samples;
    struct sampler_options o = drawn_with(r, plain, 0, k);
    int rc = k ? sampler_reserve(r->sampler, r->policy, r->config->batch, longest, &o, err) : SAIL_OK;
    for (int64_t first = 0, n; !rc && first < k; first += n) {
        n = alike_from(r, first);
        o = drawn_with(r, listed(&r->draws, first), first, n);
        rc = sampler_reserve(r->sampler, r->policy, r->config->batch, longest, &o, err);
    }
    return rc;
}

/* Answers first .. first + n - 1 of the prompts that are shared (or not), all drawn alike. */
static int sample_alike(struct run *r, bool shared, struct draw draw, int64_t first, int64_t n, sail_err *err)
{
    struct sampled *d = &r->sampled;
    const struct sampler_options o = drawn_with(r, draw, first, n);
    int64_t n_prompt = 0;
    for (int64_t i = 0; i < d->n; i++)
        if (d->prompt[i].shared == shared) r->drawn_prompt[n_prompt++] = r->online[i];
    struct answer *answers = NULL;
    int rc = n_prompt ? sampler_run(r->sampler, r->policy, r->drawn_prompt, n_prompt, &o, &answers, run_keep_sampling, r, err) : SAIL_OK;
    for (int64_t i = 0; !rc && i < d->n; i++)
        for (int64_t k = 0; d->prompt[i].shared == shared && k < n; k++, answers++) candidates_store(r, i, answers->k, answers);
    return rc;
}

int draws_sample(struct run *r, sail_err *err)
{
    const int64_t k = r->config->num_samples;
    int rc = k ? sample_alike(r, false, plain, 0, k, err) : SAIL_OK;
    for (int64_t first = 0, n; !rc && first < k; first += n) {
        n = alike_from(r, first);
        rc = sample_alike(r, true, listed(&r->draws, first), first, n, err);
    }
    return rc;
}
