/* A language model on this machine as the writer of a judge's verdicts: a folder of its own, or the policy or reference of the run. */
#ifndef SAIL_TRAIN_LOCAL_JUDGE_H
#define SAIL_TRAIN_LOCAL_JUDGE_H

#include "config/config.h"
#include "data/text_pipeline.h"
#include "label/judge.h"
#include "model/model.h"

/* The policies of the run that asks, as they are at the time of asking; NULL where nothing is trained. */
struct run_policies {
    const struct policy *policy, *reference;
};
/* --judge-model; text: of the run's own model, borrowed. */
int local_judge_open(struct judge_writer *out, const sail_config *config, const struct text_pipeline *text, struct run_policies run, sail_err *err);

#endif
