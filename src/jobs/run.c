/* From a configuration to its command's job. */
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "jobs/jobs.h"

static const struct {
    enum command command;
    int (*job)(const sail_config *, sail_err *);
} jobs[] = {
    {CMD_SCORE, job_score},
    {CMD_GRAD, job_grad},
    {CMD_GENERATE, job_generate},
    {CMD_TOKENIZE, job_tokenize},
    {CMD_ALIGN, job_align},
    {CMD_SFT, job_sft},
    {CMD_REWARD, job_reward},
    {CMD_EVAL, job_eval},
    {CMD_LABEL, job_label},
    {CMD_METHODS, job_methods},
    {CMD_BENCH, job_bench},
    {CMD_REPORT, job_report},
    {CMD_COMPARE, job_compare},
    {CMD_TEMPLATE, job_template},
    {CMD_CONVERT, job_convert},
    {CMD_INSPECT, job_inspect},
};

int sail_run(const sail_config *config, sail_err *err)
{
    log_quiet(config->quiet);
    if (config->command != CMD_CONVERT && config->dtype && strcmp(config->dtype, "f32") && strcmp(config->dtype, "bf16")) return err_set(err, SAIL_USAGE, "--dtype %s: products run in f32 or bf16", config->dtype);
    for (size_t i = 0; i < sizeof jobs / sizeof *jobs; i++)
        if (jobs[i].command == config->command) return jobs[i].job(config, err);
    return err_set(err, SAIL_USAGE, "`sail %s` is not in this build", config->command_name);
}
