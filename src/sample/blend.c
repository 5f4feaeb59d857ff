#include "sample/blend.h"

#include "sample/select.h"

void blend_logits(float *reference, const float *policy, int64_t v, const struct blend *b, float *scratch)
{
    const double w = b->policy, u = b->reference;
#pragma omp simd
    for (int64_t i = 0; i < v; i++) reference[i] = (float)(w * (double)policy[i] + u * (double)reference[i]);
    if (b->support < 1) select_drop_outside(reference, policy, v, b->support, scratch);
}
