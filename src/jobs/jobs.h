/* A command's work, one file each: reads its options, calls the modules, writes its output. sail_run finds them here. */
#ifndef SAIL_JOBS_JOBS_H
#define SAIL_JOBS_JOBS_H

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
int job_label(const sail_config *config, sail_err *err);
int job_compare(const sail_config *config, sail_err *err);
int job_report(const sail_config *config, sail_err *err);

#endif
