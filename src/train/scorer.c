/* Log-probs under the reference, and how the batch is cut into micro-batches. */
#include <math.h>

#include "base/err.h"
#include "train/run.h"

struct sequences batch_sequences(const struct batch *b)
{
    BATCH_NEED(b, COL_ROWS);
    return (struct sequences){.n = b->n, .ids = b->ids, .n_prompt = b->n_prompt, .n_tok = b->n_tok, .group = b->group, .counted = b->counted,
                              .n_whole = b->written & COL_WHOLE ? b->n_whole : NULL, .tail = b->tail};
}

struct sequences policy_sequences(const struct run *r, const struct batch *b)
{
    struct sequences s = batch_sequences(b);
    if (r->config->wpo) s.adjusted = b->adjusted;
    return s;
}

int64_t micro_rows(const struct run *r, const struct batch *b, int64_t from)
{
    const struct sequences s = batch_sequences(b);
    const int64_t most = model_micro_batch(r->model, &s, from);
    int64_t end = from, groups = 0; // a group's rows stay together: its pairs' coefficients need them
    while (end < b->n) {
        int64_t next = end + 1;
        while (next < b->n && b->group[next] == b->group[end]) next++;
        if (end > from && (next - from > most || (r->config->micro_batch && groups == r->config->micro_batch))) break;
        end = next;
        groups++;
    }
    return end - from;
}

/* Slot of a data-set row: prompt_id is its row of the file, rows come chosen, rejected. Mismatched rows meet another completion each time. */
static double *slot(struct reference_cache *cache, const struct batch *b, int64_t i)
{
    if (!cache || !cache->logp || b->source[i] != SOURCE_DATASET || b->verdict[i] == VERDICT_MISMATCHED) return NULL;
    const int64_t side = i > 0 && b->group[i] == b->group[i - 1];
    return &cache->logp[2 * b->prompt_id[i] + side];
}

/* Under the policy that the run began with. */
static int init_score(struct run *r, struct batch *slice, sail_err *err)
{
    if (!(r->objective->needs & COL_LOGP_INIT)) return SAIL_OK;
    const struct sequences s = batch_sequences(slice);
    slice->written |= COL_LOGP_INIT;
    return model_score(r->init, &s, slice->logp_init, NULL, err);
}

int reference_score(struct run *r, struct batch *slice, struct reference_cache *cache, sail_err *err)
{
    if (!r->needs_reference) return SAIL_OK;
    int init = init_score(r, slice, err);
    if (init) return init;
    if (pull_wanted(r)) { // with its predictions, in the same pass
        const struct sequences whole = batch_sequences(slice);
        int rc = model_predict(r->reference, &whole, slice->logp_ref, &r->pull.of, err);
        r->reference_rows += slice->n;
        slice->written |= COL_LOGP_REF;
        return rc;
    }
    bool all = !slice->token_logp_ref; // the cache holds sums
    for (int64_t i = 0; i < slice->n; i++) {
        const double *known = slot(cache, slice, i);
        if (known && !isnan(*known))
            slice->logp_ref[i] = *known;
        else
            all = false;
    }
    if (!all) {
        const struct sequences s = batch_sequences(slice);
        int rc = model_score(r->reference, &s, slice->logp_ref, batch_tokens(slice, slice->token_logp_ref), err);
        if (rc) return rc;
        r->reference_rows += slice->n;
        for (int64_t i = 0; i < slice->n; i++) {
            double *known = slot(cache, slice, i);
            if (known && isnan(*known)) *known = slice->logp_ref[i];
            if (known) slice->logp_ref[i] = *known; // one value for a row, however it was packed
        }
    }
    slice->written |= COL_LOGP_REF;
    return SAIL_OK;
}
