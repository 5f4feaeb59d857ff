/* The parts of `sail bench`, a file each, and what they share. */
#ifndef SAIL_JOBS_BENCH_H
#define SAIL_JOBS_BENCH_H

#include <jansson.h>

#include "config/config.h"
#include "data/text_pipeline.h"
#include "model/model.h"

struct bench_input {
    struct model *model;
    struct adapter *adapter;
    struct text_pipeline text;
    struct dataset *data;
    struct policy policy;
};
/* The model, its adapter, and the rows of path (NULL: none); prompts: rows are prompts with room for an answer. Unload what it filled also after an error. */
int bench_load(struct bench_input *l, const sail_config *c, const char *path, bool prompts, enum dtype dtype, sail_err *err);
void bench_unload(struct bench_input *l);

enum { BENCH_WARM_UP = 2 }; /* steps before those that are timed */
double bench_median(double *times, int64_t n); /* sorts them */
json_t *bench_machine(void);                   /* what the figures were measured on */
void bench_print_machine(void);                /* the same as a line */
void bench_print_head(const char *what, enum dtype dtype);
void bench_print_json(json_t *all); /* one line; takes the reference */

int bench_train(const sail_config *c, sail_err *err);
int bench_score(const sail_config *c, enum dtype dtype, sail_err *err);
int bench_generate(const sail_config *c, enum dtype dtype, sail_err *err);
int bench_tokenize(const sail_config *c, sail_err *err);

#endif
