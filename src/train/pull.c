/* SAIL-RevKL over the whole vocabulary: the reference's predictions are kept while the policy's gradient is taken. */
#include <stdlib.h>

#include "base/err.h"
#include "train/run.h"

bool pull_wanted(const struct run *r) { return r->params.revkl > 0 && r->params.revkl_vocabulary; }

int pull_open(struct run *r, sail_err *err)
{
    if (!pull_wanted(r)) return SAIL_OK;
    int rc = mem_alloc(&r->pull.weight, (size_t)r->ids_capacity, sizeof *r->pull.weight, err);
    return rc ? rc : mem_alloc(&r->pull.kl, (size_t)r->ids_capacity, sizeof *r->pull.kl, err);
}

int pull_backward(struct run *r, const struct batch *slice, struct step_result *result, sail_err *err)
{
    const float *token_weight = batch_tokens(slice, slice->token_weight);
    if (!pull_wanted(r)) return model_backward(r->policy, slice->coef, token_weight, err);
    int64_t n = 0;
    for (int64_t i = 0; i < slice->n; i++)
        for (int32_t t = 0; t < slice->n_tok[i]; t++) r->pull.weight[n++] = (float)slice->pull[i];
    int rc = model_backward_pulled(r->policy, slice->coef, token_weight, &r->pull.of, r->pull.weight, r->pull.kl, err);
    for (int64_t k = 0; !rc && k < n; k++) {
        const double term = (double)r->pull.weight[k] * r->pull.kl[k];
        result->stats.loss += term;
        result->stats.reference += term;
    }
    return rc;
}

int pull_accumulate(struct run *r, struct step_result *result, sail_err *err)
{
    struct batch *b = &r->batch, slice;
    if (!pull_wanted(r)) {
        const struct sequences all = batch_sequences(b);
        return model_accumulate(r->policy, &all, b->coef, err);
    }
    int rc = SAIL_OK;
    for (int64_t from = 0, n; !rc && from < b->n; from += n) {
        n = micro_rows(r, b, from);
        batch_slice(&slice, b, from, n, r->slice_pair);
        const struct sequences s = batch_sequences(&slice);
        rc = model_predict(r->reference, &s, slice.logp_ref, &r->pull.of, err);
        if (!rc) rc = model_forward(r->policy, &s, slice.logp, NULL, err);
        if (!rc) rc = pull_backward(r, &slice, result, err);
    }
    return rc;
}

void pull_close(struct run *r)
{
    predictions_release(&r->pull.of);
    free(r->pull.weight);
    free(r->pull.kl);
}
