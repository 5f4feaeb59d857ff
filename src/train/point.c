/* A point that the run can be at: its trained parameters and everything that the optimizer remembers, kept aside and brought back bit for bit. An extragradient step returns to where it
 * started, so that the optimizer remembers one step's gradient, not two; two-level's second policy takes its turns in the place of the first. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "train/run.h"

int64_t point_count(const struct run *r)
{
    int64_t n = optimizer_state_values(r->optimizer);
    for (int64_t i = 0; i < r->n_param; i++) n += r->param[i].n;
    return n;
}

int point_open(struct run *r, struct point *at, sail_err *err) { return mem_alloc(&at->value, (size_t)point_count(r), sizeof *at->value, err); }

enum way { KEEP, RETURN, EXCHANGE };

static float *move(float *kept, float *live, int64_t n, enum way way)
{
    for (int64_t i = 0; i < n; i++) {
        const float was = live[i];
        if (way != KEEP) live[i] = kept[i];
        if (way != RETURN) kept[i] = was;
    }
    return kept + n;
}

static void move_all(struct run *r, struct point *at, enum way way)
{
    float *kept = at->value;
    for (int64_t i = 0; i < r->n_param; i++) kept = move(kept, r->param[i].value, r->param[i].n, way);
    for (int64_t i = 0; i < optimizer_state_count(r->optimizer); i++) {
        char name[64];
        float *data;
        int64_t n;
        optimizer_state_at(r->optimizer, i, name, &data, &n);
        kept = move(kept, data, n, way);
    }
    const int64_t steps = optimizer_steps(r->optimizer);
    if (way != KEEP) {
        optimizer_set_steps(r->optimizer, at->steps);
        policy_params_changed(r->policy);
    }
    if (way != RETURN) at->steps = steps;
}

void point_keep(struct run *r, struct point *at) { move_all(r, at, KEEP); }
void point_return(struct run *r, struct point *at) { move_all(r, at, RETURN); }
void point_exchange(struct run *r, struct point *at) { move_all(r, at, EXCHANGE); }
