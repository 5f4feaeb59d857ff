/* The constants of objectives from the options. */
#ifndef SAIL_TRAIN_PARAMS_H
#define SAIL_TRAIN_PARAMS_H

#include "config/config.h"
#include "objective/objective.h"

/* Reads every constant and refuses those that have no meaning for the objective, in the name of `method`. */
int params_read(struct objective_params *p, const struct objective *o, const sail_config *c, const char *method, sail_err *err);

#endif
