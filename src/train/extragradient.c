/* The point that an extragradient step starts from: parameters and optimizer state are kept while the run looks half a step ahead, and brought back, bit for bit, before the step itself.
 * What the optimizer remembers is then one step's gradient, not two. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "train/run.h"

static int64_t count(const struct run *r)
{
    int64_t n = 0;
    for (int64_t i = 0; i < r->n_param; i++) n += r->param[i].n;
    for (int64_t i = 0; i < optimizer_state_count(r->optimizer); i++) {
        char name[64];
        float *data;
        int64_t size;
        optimizer_state_at(r->optimizer, i, name, &data, &size);
        n += size;
    }
    return n;
}

int extragradient_open(struct run *r, sail_err *err) { return r->config->extragradient ? mem_alloc(&r->start.value, (size_t)count(r), sizeof *r->start.value, err) : SAIL_OK; }

/* Between the run and the kept copy, one way or the other. */
static float *move(float *kept, float *live, int64_t n, bool keep)
{
    memcpy(keep ? kept : live, keep ? live : kept, (size_t)n * sizeof *live);
    return kept + n;
}

static void move_all(struct run *r, bool keep)
{
    float *kept = r->start.value;
    for (int64_t i = 0; i < r->n_param; i++) kept = move(kept, r->param[i].value, r->param[i].n, keep);
    for (int64_t i = 0; i < optimizer_state_count(r->optimizer); i++) {
        char name[64];
        float *data;
        int64_t n;
        optimizer_state_at(r->optimizer, i, name, &data, &n);
        kept = move(kept, data, n, keep);
    }
}

void extragradient_keep(struct run *r)
{
    move_all(r, true);
    r->start.steps = optimizer_steps(r->optimizer);
}

void extragradient_return(struct run *r)
{
    move_all(r, false);
    optimizer_set_steps(r->optimizer, r->start.steps);
    policy_params_changed(r->policy);
}
