/* From a configuration to its command's job. */
#include "base/err.h"
#include "base/log.h"
#include "jobs/jobs.h"

static const struct {
    enum command command;
    int (*job)(const sail_config *, sail_err *);
} jobs[] = {
    {0, NULL},
};

int sail_run(const sail_config *config, sail_err *err)
{
    log_quiet(config->quiet);
    for (size_t i = 0; i < sizeof jobs / sizeof *jobs; i++)
        if (jobs[i].command == config->command) return jobs[i].job(config, err);
    return err_set(err, SAIL_USAGE, "`sail %s` is not in this build", config->command_name);
}
