/* A command's work, one file each: reads its options, calls the modules, writes its output. sail_run finds them here. */
#ifndef SAIL_JOBS_JOBS_H
#define SAIL_JOBS_JOBS_H

#include <jansson.h>

#include "backend/backend.h"
#include "config/config.h"
#include "sail.h"

int job_score(const sail_config *config, sail_err *err);
int job_grad(const sail_config *config, sail_err *err);
int job_generate(const sail_config *config, sail_err *err);
int job_tokenize(const sail_config *config, sail_err *err);
int job_template(const sail_config *config, sail_err *err);
int job_inspect(const sail_config *config, sail_err *err);
int job_convert(const sail_config *config, sail_err *err);
int job_align(const sail_config *config, sail_err *err);
int job_sft(const sail_config *config, sail_err *err);
int job_reward(const sail_config *config, sail_err *err);
int job_eval(const sail_config *config, sail_err *err);
int job_methods(const sail_config *config, sail_err *err);
int job_bench(const sail_config *config, sail_err *err);
/* Parts of job_bench, and what they share. */
int bench_tokenize(const sail_config *config, sail_err *err);
int bench_train(const sail_config *config, sail_err *err);
double bench_median(double *times, int64_t n); /* sorts them */
json_t *bench_machine(void);                   /* what the figures were measured on */
void bench_print_head(const char *what, enum dtype dtype);
int job_label(const sail_config *config, sail_err *err);
int job_compare(const sail_config *config, sail_err *err);
int job_report(const sail_config *config, sail_err *err);

#endif
