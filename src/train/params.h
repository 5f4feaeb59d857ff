/* The constants of objectives from the options. */
#ifndef SAIL_TRAIN_PARAMS_H
#define SAIL_TRAIN_PARAMS_H

#include "config/config.h"
#include "objective/objective.h"
#include "train/preset.h"

/* Reads every constant and refuses those that have no meaning for the method's objective. */
int params_read(struct objective_params *p, const struct preset *method, const sail_config *c, sail_err *err);

#endif
