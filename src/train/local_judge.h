/* A language model on this machine as the writer of a judge's verdicts. */
#ifndef SAIL_TRAIN_LOCAL_JUDGE_H
#define SAIL_TRAIN_LOCAL_JUDGE_H

#include "label/judge.h"
#include "train/author.h"

/* author: borrowed. in_step: it judges in training steps, whose end an interrupt waits for. */
int local_judge_open(struct judge_writer *out, const sail_config *config, const struct author *author, bool in_step, sail_err *err);

#endif
