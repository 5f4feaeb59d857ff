/* Sampling: many rows at once with a key/value cache and continuous refill; the returns of one prompt share its prefill. */
#ifndef SAIL_SAMPLE_SAMPLER_H
#define SAIL_SAMPLE_SAMPLER_H

#include "model/model.h"
#include "batch/batch.h"

/* Answers are drawn from softmax(policy * logits of the policy + reference * logits of `with`): (1 - a, a) is the geometric mixture, token by token;
 * negative weights and weights above 1 extrapolate. */
struct blend {
    struct policy with; /* .model NULL: the policy alone, the weights are not read */
    double policy, reference;
    double support; /* only tokens among the policy's likeliest of this total probability; 1: all */
};

struct sampler_options {
    double temperature; /* 1: the policy itself */
    int64_t top_k;      /* 0: off */
    double top_p;       /* 1: off */
    bool greedy;
    int64_t max_new_tokens;
    int64_t n_return;     /* answers of each prompt */
    int64_t first_return; /* number of the first of them: random numbers are keyed by it */
    struct blend blend;
    int64_t n_slot;   /* rows decoded at once; 0: chosen */
    uint64_t seed, step;
    const int32_t *eos; /* any of these ends an answer (it is part of it) */
    int n_eos;
    bool ignore_eos; /* benchmarks */
};
/* The same, drawn at this temperature over the whole vocabulary. */
static inline struct sampler_options sampler_whole(struct sampler_options o, double temperature)
{
    o.temperature = temperature;
    o.top_k = 0;
    o.top_p = 1;
    return o;
}

struct prompt {
    const int32_t *ids;
    int32_t n;
    uint64_t key; /* random numbers are keyed by it: the prompt's global number */
};

struct answer {
    int64_t i, k;      /* prompt, return */
    int32_t *ids;      /* completion, EOS included; owned by the result */
    float *token_logp; /* under the policy: T = 1, full vocabulary, from the very logits that were sampled */
    float *token_drawn; /* under what the tokens were drawn from: the blend of logits, at its temperature, among the tokens that top-k and top-p leave */
    int32_t n;
    double logp, drawn; /* sums of both */
    enum finish finish;
};

struct sampler; /* the cache and buffers: kept between calls, grown when needed */
int sampler_create(struct sampler **out, struct model *m, sail_err *err);
void sampler_free(struct sampler *s);
/* Room from now on for calls with at most so many prompts, the longest of so many tokens, and such options: they ask the system for no memory. */
int sampler_reserve(struct sampler *s, struct policy p, int64_t n_prompt, int64_t longest, const struct sampler_options *o, sail_err *err);
size_t sampler_memory(const struct sampler *s); /* bytes of that room */

/* answers[i * n_return + k], .k counted from first_return; the memory belongs to the sampler until the next call. progress (may be NULL) is called with
 * finished answers and sampled tokens now and then; returning false stops with SAIL_FAILED "interrupted". */
int sampler_run(struct sampler *s, struct policy p, const struct prompt *prompt, int64_t n_prompt, const struct sampler_options *o,
                struct answer **answers, bool (*progress)(void *, int64_t done, int64_t tokens), void *context, sail_err *err);

/* What the last run took: prompts read, answers written. */
struct sampler_cost {
    double prefill_s, decode_s;
    int64_t prefill_tokens, decode_tokens, passes; /* passes: over the weights for new tokens, whatever the number of rows */
};
struct sampler_cost sampler_cost(const struct sampler *s);

#endif
