/* The members of an ensemble of labelers: from --evaluators, or one for each of several models of --reward-model. */
#ifndef SAIL_TRAIN_EVALUATORS_H
#define SAIL_TRAIN_EVALUATORS_H

#include "config/config.h"
#include "label/ensemble.h"

struct evaluator {
    char *name;
    double weight;
    sail_config *config; /* of the run, with this evaluator's labeler in it and no other */
};
struct evaluators {
    struct evaluator of[MAX_EVALUATORS];
    int n;
};
bool evaluators_given(const sail_config *config);
int evaluators_read(struct evaluators *out, const sail_config *config, sail_err *err); /* release it also after an error */
/* How they are combined, by --reward-combine, --spread-coef and --quorum. */
int evaluators_combine(struct ensemble *out, const struct evaluators *all, const sail_config *config, sail_err *err);
void evaluators_release(struct evaluators *all);

#endif
