/* Presets: a method's name is a row of defaults over sampler x labeler x objective x reference rule. */
#ifndef SAIL_TRAIN_PRESET_H
#define SAIL_TRAIN_PRESET_H

#include "config/config.h"
#include "sail.h"

struct preset {
    const char *name;      /* "sail-pr": lower-case with hyphens; underscores are accepted on lookup */
    const char *sampler;   /* "dataset", "policy", "dataset + policy" */
    const char *labeler;   /* "dataset", "self", "reward", ... */
    const char *objective; /* a row of the objective registry */
    const char *reference; /* "init", "ema", "periodic", "none" */
    const char *defaults;  /* "beta=0.1 mix_pr=0.3 gamma=0.3": options where the user said nothing */
    const char *paper;     /* "arXiv 2406.15567" */
};
const struct preset *preset_find(const char *name, sail_err *err); /* did you mean ... */

/* A method as it is asked for: a row, or a row made of several that learn from the data ("dpo,sft"). */
struct method {
    const struct preset *preset; /* NULL: not found */
    struct preset sum;           /* its room */
    char name[256], objective[256], defaults[256];
};
/* Of config->method. Rows that want different values of an option are refused unless the user gave one. */
int method_find(struct method *m, const sail_config *config, sail_err *err);
const struct preset *preset_at(int i); /* NULL after the last */
int preset_apply(const struct preset *p, sail_config *config, sail_err *err);

#endif
