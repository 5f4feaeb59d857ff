/* One row of logits made from two. */
#ifndef SAIL_SAMPLE_BLEND_H
#define SAIL_SAMPLE_BLEND_H

#include "sample/sampler.h"

/* reference (v) becomes blend->policy * policy + blend->reference * reference; outside the support it becomes minus infinity. scratch: 2 v floats. */
void blend_logits(float *reference, const float *policy, int64_t v, const struct blend *b, float *scratch);

#endif
