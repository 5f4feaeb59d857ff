/* A policy on held-out prompts: answers sampled from it, their rewards, and how far they are from the reference. */
#ifndef SAIL_TRAIN_SAMPLED_EVAL_H
#define SAIL_TRAIN_SAMPLED_EVAL_H

#include "data/dataset.h"
#include "data/text_pipeline.h"
#include "model/model.h"
#include "sample/sampler.h"
#include "train/rewarder.h"

struct sampled_eval {
    int64_t n_prompt, n_return;
    double *reward; /* (n_prompt, n_return), NaN: no verdict */
    double *kl;     /* (n_prompt, n_return): log pi - log ref of the answer; NaN without a reference */
    double length, eos_share;
    int32_t **ids, *n_tok; /* (n_prompt, n_return) */
    enum finish *finish;   /* (n_prompt, n_return) */
    char **text;    /* (n_prompt, n_return) or NULL: kept when asked for */
};
/* reference.model NULL: no KL. rewarder NULL: no rewards. o->n_return answers for each of the data set's prompts. */
int sampled_eval_run(struct sampled_eval *out, struct sampler *sampler, struct policy policy, struct policy reference, const struct dataset *prompts,
                     const struct text_pipeline *text, struct rewarder *rewarder, const struct sampler_options *o, bool keep_text,
                     bool (*progress)(void *, int64_t, int64_t), void *context, sail_err *err);
/* P(a beats b) of two answers to a prompt of the data set, by a labeler who compares; NaN: no verdict. */
struct eval_answer {
    const int32_t *ids;
    int32_t n;
    enum finish finish;
};
int sampled_eval_compare(struct rewarder *rewarder, const struct dataset *prompts, int64_t i, int64_t key, struct eval_answer a, struct eval_answer b, double *p, sail_err *err);
void sampled_eval_release(struct sampled_eval *e);
/* Mean over all answers that have a value. */
double sampled_eval_mean(const double *value, int64_t n);

#endif
