/* An adapter whose gradients do not vanish, and all gradients of a policy as one vector. */
#ifndef SAIL_TESTS_MODEL_GRADIENTS_H
#define SAIL_TESTS_MODEL_GRADIENTS_H

#include "test.h"

#include "model/model.h"

/* A fresh adapter has B = 0, so that half of its gradient vanishes; this one is moved. */
static inline struct adapter *moved_adapter(struct model *m, const struct lora_options *o)
{
    struct adapter *a;
    assert_ok(adapter_create(&a, m, o, err));
    struct param *q;
    const struct policy p = {m, a};
    for (int64_t i = 0, n = policy_params(p, &q); i < n; i++)
        for (int64_t k = 0; k < q[i].n; k++) q[i].value[k] += 0.04f * sinf((float)(7 * i + k));
    policy_params_changed(p);
    return a;
}

/* All gradients one after the other; free() them. */
static inline float *gradients(struct policy p, int64_t *n)
{
    struct param *q;
    const int64_t k = policy_params(p, &q);
    *n = 0;
    for (int64_t i = 0; i < k; i++) *n += q[i].n;
    float *g = malloc((size_t)*n * sizeof *g), *at = g;
    for (int64_t i = 0; i < k; i++) {
        memcpy(at, q[i].grad, (size_t)q[i].n * sizeof *g);
        at += q[i].n;
    }
    return g;
}

#endif
