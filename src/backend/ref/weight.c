#include "backend/ref/ref.h"

int ref_weight_prepare(struct weight *w, enum dtype compute, sail_err *err)
{
    int64_t n_out = 0;
    BUG_ON(w->n_part < 1 || w->n_part > WEIGHT_MAX_PARTS, "a weight of %d parts", w->n_part);
    BUG_ON(compute != DTYPE_F32 && compute != DTYPE_BF16, "products run in F32 or BF16, not %s", dtype_name(compute));
    for (int i = 0; i < w->n_part; i++) {
        enum dtype t = w->part[i].dtype;
        if (t != DTYPE_F32 && t != DTYPE_BF16 && t != DTYPE_F16)
            return err_set(err, SAIL_FAILED, "weight part %d: expected F32, BF16 or F16, got %s", i, dtype_name(t));
        n_out += w->part[i].n_out;
    }
    BUG_ON(n_out != w->n_out, "parts of a weight have %lld rows, not %lld", (long long)n_out, (long long)w->n_out);
    w->compute = compute;
    w->pack = NULL;
    w->self_contained = false;
    return SAIL_OK;
}

size_t ref_weight_bytes(int64_t n_out, int64_t n_in, enum dtype compute)
{
    (void)n_out, (void)n_in, (void)compute;
    return 0; // the source serves
}

void ref_weight_refresh(struct weight *w) { (void)w; }

void ref_weight_release(struct weight *w) { w->pack = NULL; }
