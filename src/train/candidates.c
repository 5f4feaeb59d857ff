/* The answers of a prompt of an online route: sampled from the policy, sampled from the reference, taken from the data row. */
#include <math.h>
#include <string.h>

#include "base/err.h"
#include "base/interrupt.h"
#include "train/run.h"

int64_t candidates_count(const struct run *r) { return r->config->num_samples + r->config->ref_samples + r->config->data_answers; }

enum source candidates_source(const struct run *r, const struct sampled_prompt *prompt, int64_t k)
{
    const sail_config *c = r->config;
    return k < c->num_samples ? draw_source(draw_of(r, prompt, k)) : k < c->num_samples + c->ref_samples ? SOURCE_REFERENCE : SOURCE_CANDIDATE;
}

int candidates_check(const struct run *r, sail_err *err)
{
    const sail_config *c = r->config;
    const long long n = (long long)candidates_count(r);
    const bool others = c->ref_samples > 0 || c->data_answers > 0;
    if (n < 2 || n > 64)
        return err_set(err, SAIL_USAGE, "%lld answers of each prompt (num_samples %lld + ref_samples %lld + data_answers %lld): expected 2 to 64", n, (long long)c->num_samples, (long long)c->ref_samples,
                       (long long)c->data_answers);
    if (c->ref_samples > 0 && !r->needs_reference) return err_set(err, SAIL_USAGE, "--ref-samples: method %s has no reference to sample from", r->preset->name);
    if (r->objective->needs & ON_REFERENCE && !(r->objective->needs & READS_ROUTE) && !c->ref_samples)
        return err_set(err, SAIL_USAGE, "method %s has a term on answers of the reference: give --ref-samples 1 or more", r->preset->name);
    if (c->data_answers > 0 && (!c->data || c->prompts)) return err_set(err, SAIL_USAGE, "--data-answers takes prompts and answers from the same rows: give --data and drop --prompts");
    if (others && r->mixture.pp > 0) return err_set(err, SAIL_USAGE, "route pp pairs the policy's own answers: drop --ref-samples and --data-answers, or --mix-pp");
    if (others && c->replay_steps > 0) return err_set(err, SAIL_USAGE, "--replay-steps weighs answers of the policy: drop --ref-samples and --data-answers, or --replay-steps");
    return SAIL_OK;
}

bool run_keep_sampling(void *context, int64_t done, int64_t tokens)
{
    struct run *r = context;
    if (r->writer) run_writer_progress(r->writer, r->step, NULL, 0, (double)tokens, interrupt_asked() ? "finishing the step" : "sampling");
    (void)done;
    return true;
}

void candidates_store(struct run *r, int64_t i, int64_t k, const struct answer *y)
{
    struct sampled *d = &r->sampled;
    const int64_t a = i * d->k + k;
    d->answer[a] = (struct sampled_answer){.n = y->n, .finish = y->finish, .logp = y->logp, .drawn = y->drawn, .reward = NAN};
    memcpy(d->ids + a * r->config->max_new_tokens, y->ids, (size_t)y->n * sizeof *d->ids);
    r->counts.sampled_tokens += y->n;
}

/* No answer is longer than a sampled one may be. */
static void store_data(struct run *r, int64_t first)
{
    struct sampled *d = &r->sampled;
    const int64_t most = r->config->max_new_tokens;
    for (int64_t i = 0; i < d->n; i++) {
        const struct example *e = &r->data->example[d->prompt[i].row];
        const struct span answer[2] = {e->chosen, e->rejected};
        for (int64_t k = 0; k < r->config->data_answers; k++) {
            const int64_t a = i * d->k + first + k, n = answer[k].n < most ? answer[k].n : most;
            d->answer[a] = (struct sampled_answer){.n = (int32_t)n, .finish = n < answer[k].n ? FINISH_LENGTH : FINISH_EOS, .logp = NAN, .drawn = NAN, .reward = NAN};
            memcpy(d->ids + a * most, dataset_ids(r->data, answer[k]), (size_t)n * sizeof *d->ids);
        }
    }
}

int candidates_sample(struct run *r, sail_err *err)
{
    const sail_config *c = r->config;
    struct sampler_options o = r->sampling;
    struct answer *answers;
    int rc = draws_sample(r, err);
    if (!rc && c->ref_samples) {
        o.n_return = c->ref_samples;
        o.greedy = c->ref_greedy;
        rc = reference_draw(r, r->online, r->sampled.n, o, (uint64_t)1 << 42, &answers, err);
        for (int64_t a = 0; !rc && a < r->sampled.n * c->ref_samples; a++) {
            struct answer y = answers[a]; // its log-prob is the reference's
            y.logp = NAN;
            candidates_store(r, y.i, c->num_samples + y.k, &y);
        }
    }
    if (!rc && c->data_answers) store_data(r, c->num_samples + c->ref_samples);
    return rc;
}
