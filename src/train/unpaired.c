/* Runs on unpaired rows: what their data must have, their metrics, and the mismatched rows that only KTO's reference point reads. */
#include "base/err.h"
#include "base/log.h"
#include "train/run.h"

int unpaired_check(const struct run *r, const struct dataset *d, sail_err *err)
{
    int64_t desirable = 0;
    bool other_prompt = false;
    for (int64_t i = 0; i < d->n; i++) {
        const int64_t two[2] = {0, i};
        desirable += d->example[i].label;
        if (!other_prompt && i > 0) other_prompt = dataset_mismatch(d, two, 2, 0) > 0;
    }
    if (!desirable || desirable == d->n)
        return err_set(err, SAIL_FAILED, "%s: no row is %s, and method %s learns from the difference: add such rows, or use method sft on the good ones", d->path,
                       desirable ? "undesirable (\"label\": false)" : "desirable (\"label\": true)", r->preset->name);
    if (r->mismatched && !other_prompt)
        return err_set(err, SAIL_FAILED, "%s: every row has the same prompt, and method %s compares with completions of other prompts: use a method of pairs", d->path, r->preset->name);
    const double ratio = r->params.desirable_weight * (double)desirable / (r->params.undesirable_weight * (double)(d->n - desirable));
    if (r->mismatched && !(ratio >= 1 && ratio <= 1.5))
        log_note("%s: %lld desirable and %lld undesirable rows; with these weights they count as %.3g to 1, and the method's paper keeps that from 1 to 1.5 (--desirable-weight, --undesirable-weight)",
                 d->path, (long long)desirable, (long long)(d->n - desirable), ratio);
    return SAIL_OK;
}

int64_t unpaired_longest(const struct run *r)
{
    const struct dataset *all[] = {r->data, r->eval};
    int64_t prompt = 0, completion = 0;
    for (int k = 0; k < 2; k++)
        for (int64_t i = 0; all[k] && i < all[k]->n; i++) {
            const struct example *e = &all[k]->example[i];
            if (e->prompt.n > prompt) prompt = e->prompt.n;
            if (e->completion.n > completion) completion = e->completion.n;
        }
    return prompt + completion < r->longest ? prompt + completion : r->longest;
}

void batch_drop_mismatched(struct batch *b)
{
    int64_t rows = 0;
    for (int64_t i = 0; i < b->n; i++) {
        if (b->verdict[i] == VERDICT_MISMATCHED) continue;
        if (rows != i) batch_move_row(b, rows, i);
        rows++;
    }
    b->n = rows;
}
