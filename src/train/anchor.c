/* Answers of the reference: drawn, and as rows that hold the policy to them. For KL(reference || policy) every step draws one fresh answer to each of --batch prompts, which are met in
 * an order of their own: the mean is over the prompts whatever routes the step's rows took. */
#include "base/err.h"
#include "base/log.h"
#include "train/run.h"

int reference_draw(struct run *r, const struct prompt *prompt, int64_t n, struct sampler_options o, uint64_t stream, struct answer **answers, sail_err *err)
{
    o.step = stream + (uint64_t)r->step;
    return sampler_run(r->reference_sampler ? r->reference_sampler : r->sampler, r->reference, prompt, n, &o, answers, run_keep_sampling, r, err);
}

int reference_reserve(struct run *r, int64_t longest, sail_err *err)
{
    struct sampler_options o = r->sampling;
    o.n_return = r->config->ref_samples > 1 ? r->config->ref_samples : 1;
    return sampler_reserve(r->reference_sampler ? r->reference_sampler : r->sampler, r->reference, r->config->batch, longest, &o, err);
}

bool anchors_wanted(const struct run *r) { return r->params.revkl > 0 && !r->params.revkl_on_batch; }

static int draw(struct run *r, sail_err *err)
{
    const int64_t size = r->config->batch;
    struct sampler_options o = sampler_whole(r->sampling, 1); // the reference itself, whatever the policy's answers are drawn with
    struct answer *answers;
    o.n_return = 1;
    for (int64_t j = 0; j < size; j++) {
        const int64_t g = r->step * size + j, row = rollout_visit(r->anchor_order, &r->anchor_order_epoch, r->prompts->n, g, (uint64_t)r->config->seed, (uint64_t)2 << 40);
        const struct span s = r->prompts->example[row].prompt;
        r->online[j] = (struct prompt){.ids = dataset_ids(r->prompts, s), .n = s.n, .key = (uint64_t)g};
    }
    int rc = reference_draw(r, r->online, size, o, (uint64_t)1 << 43, &answers, err);
    for (int64_t j = 0; !rc && j < size; j++) {
        // groups of their own: numbers that no other row can have
        const int64_t i = rollout_add_row(r, r->online[j].ids, r->online[j].n, answers[j].ids, answers[j].n, -1, r->batch.capacity + j);
        r->batch.source[i] = SOURCE_REFERENCE;
        r->batch.finish[i] = answers[j].finish;
        r->counts.sampled_tokens += answers[j].n;
    }
    return rc;
}

int anchors_fill(struct run *r, struct step_result *result, sail_err *err)
{
    struct batch *b = &r->batch;
    const double start = clock_seconds();
    int rc = anchors_wanted(r) ? draw(r, err) : SAIL_OK;
    result->timing.sample += clock_seconds() - start;
    for (int64_t i = 0; i < b->n; i++) b->n_reference += b->source[i] == SOURCE_REFERENCE;
    return rc;
}
