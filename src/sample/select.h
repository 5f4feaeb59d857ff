/* Choosing a token from a row of logits. */
#ifndef SAIL_SAMPLE_SELECT_H
#define SAIL_SAMPLE_SELECT_H

#include <stdbool.h>
#include <stdint.h>

struct select_options {
    double temperature;
    int64_t top_k;
    double top_p;
    bool greedy;
};
int64_t select_scratch(int64_t v); /* floats of scratch that the functions below need */
/* logits (v): read only. u: uniform in [0, 1). *logp: of the token at T = 1 over the full vocabulary; *drawn: under the very distribution that it was drawn from (greedy: 0). Greedy takes
 * the lowest id among equals. -1: the logits are no distribution (NaN or infinity among them). temperature, then top-k
 * (ties of the k-th stay), then top-p (the smallest set of likeliest tokens that reaches it), as transformers. */
int32_t select_token(const float *logits, int64_t v, const struct select_options *o, double u, float *scratch, float *logp, float *drawn);
/* Of a given token: the same log-prob, by the same arithmetic. */
float select_logp(const float *logits, int64_t v, int32_t id, float *scratch);
/* logits become minus infinity outside the smallest set of tokens, likeliest by the logits `by`, that reaches probability p. */
void select_drop_outside(float *logits, const float *by, int64_t v, double p, float *scratch);

#endif
