/* Held-out rows: the method's objective on its offline route, no gradients. */
#include <math.h>

#include "base/err.h"
#include "train/calibration.h"
#include "train/run.h"

static void fill(struct run *r, int64_t from, int64_t n)
{
    struct batch *b = &r->batch;
    batch_clear(b);
    r->n_ids = 0;
    for (int64_t i = 0; i < n; i++) {
        if (r->unpaired)
            r->drawn[i] = from + i;
        else
            rollout_add_dataset(r, r->eval, from + i, ROUTE_OFFLINE);
    }
    if (r->unpaired) rollout_add_unpaired(r, r->eval, r->drawn, n);
    b->written |= COL_ROWS | COL_REWARD | (r->pairs ? COL_PAIRS : 0);
    if (r->config->ld_alpha < 1) batch_public_lengths(b, r->config->ld_alpha);
}

/* Scored slice by slice; the objective sees the whole batch, whatever it couples. */
static int evaluate_batch(struct run *r, double scale, struct objective_stats *stats, struct calibration *calibration, sail_err *err)
{
    struct batch *b = &r->batch, slice;
    for (int64_t from = 0, n; from < b->n; from += n) {
        n = micro_rows(r, b, from);
        batch_slice(&slice, b, from, n, r->slice_pair);
        const struct sequences s = policy_sequences(r, &slice);
        int rc = reference_score(r, &slice, &r->eval_cache, err);
        if (!rc) rc = r->reward ? model_reward(r->policy, &s, slice.logp, err) : model_score(r->policy, &s, slice.logp, NULL, err);
        if (rc) return rc;
    }
    b->shift = r->shift.mean;
    b->written |= COL_LOGP | (r->needs_reference ? COL_LOGP_REF : 0) | (r->shifts ? COL_SHIFT : 0) | (r->config->wpo ? COL_ADJUSTED : 0);
    if (r->config->wpo) wpo_weigh(b);
    objective_eval(r->objective, &r->params, b, scale, stats);
    for (int64_t k = 0; r->reward && k < b->n_pair; k++) calibration_add(calibration, b->logp[b->pair[k].win], b->logp[b->pair[k].lose]);
    return SAIL_OK;
}

/* Completion tokens that count. */
static int64_t eval_tokens(const struct dataset *d)
{
    int64_t n = 0;
    for (int64_t i = 0; i < d->n; i++) {
        const struct span s = d->kind == DATA_PREFERENCE ? d->example[i].chosen : d->example[i].completion;
        const unsigned char *counted = dataset_counted(d, s);
        for (int32_t t = 0; t < s.n; t++) n += !counted || counted[t];
    }
    return n;
}

int run_validate(struct run *r, double *loss, struct metric *m, int *n_metric, sail_err *err)
{
    struct objective_stats stats = {0};
    struct calibration calibration = {0};
    const int64_t tokens = eval_tokens(r->eval);
    r->batch.won_tokens = tokens;
    const double scale = r->pairs || r->unpaired ? 1.0 / (double)r->eval->n : tokens ? 1.0 / (double)tokens : 0;
    for (int64_t from = 0, n; from < r->eval->n; from += n) {
        n = r->eval->n - from < r->config->batch ? r->eval->n - from : r->config->batch;
        fill(r, from, n);
        int rc = evaluate_batch(r, scale, &stats, &calibration, err);
        if (rc) return rc;
    }
    *loss = stats.loss;
    int k = 0;
    m[k++] = (struct metric){"eval_loss", stats.loss};
    if (r->reward) {
        m[k++] = (struct metric){"eval_accuracy", stats.accuracy / stats.n_pair};
        m[k++] = (struct metric){"eval_margin", stats.margin / stats.n_pair};
        k += calibration_metrics(&calibration, m + k);
        if (r->step == r->total_steps && !r->config->quiet) calibration_print(&calibration, stdout);
    } else if (r->pairs) {
        m[k++] = (struct metric){"eval_rewards/chosen", stats.chosen / stats.n_pair};
        m[k++] = (struct metric){"eval_rewards/rejected", stats.rejected / stats.n_pair};
        m[k++] = (struct metric){"eval_rewards/margins", stats.margin / stats.n_pair};
        m[k++] = (struct metric){"eval_rewards/accuracies", stats.accuracy / stats.n_pair};
    }
    if (r->unpaired) {
        m[k++] = (struct metric){"eval_rewards/chosen", stats.chosen / stats.n_desirable};
        m[k++] = (struct metric){"eval_rewards/rejected", stats.rejected / stats.n_undesirable};
        m[k++] = (struct metric){"eval_rewards/margins", stats.chosen / stats.n_desirable - stats.rejected / stats.n_undesirable};
    }
    *n_metric = k;
    return SAIL_OK;
}
