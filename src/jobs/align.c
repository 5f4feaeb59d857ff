/* sail align, sail sft, sail reward: a run directory from a configuration, new or resumed. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "config/yaml.h"
#include "jobs/jobs.h"
#include "jobs/rounds.h"
#include "train/run.h"

/* Keys that a resumed run may have otherwise than before: none of them changes what a finished step did. */
static bool may_differ(const char *key)
{
    static const char *const names[] = {"out", "max_steps", "epochs", "save_steps", "eval_steps", "sample_steps", "keep_checkpoints", "micro_tokens", "micro_batch", "recompute", "threads"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(names[i], key)) return true;
    return false;
}

static int take_saved(void *context, const char *key, const char *value, sail_err *err)
{
    // What the user says now wins here and is compared afterwards.
    return config_saved(context, key, value, err);
}

struct comparison {
    char *path;
    struct buf now;
};

static int compare_saved(void *context, const char *key, const char *value, sail_err *err)
{
    struct comparison *c = context;
    if (may_differ(key)) return SAIL_OK;
    struct buf line;
    buf_init(&line, 0);
    buf_printf(&line, "%s: ", key);
    size_t head = line.len;
    const char *at = strstr(c->now.data, line.data);
    while (at && at != c->now.data && at[-1] != '\n') at = strstr(at + 1, line.data);
    buf_clear(&line);
    if (at && at[head] == '"') // texts are written as JSON: with quotes and escapes
        buf_json_string(&line, value, strlen(value));
    else
        buf_puts(&line, value);
    const size_t n = at ? strcspn(at + head, "\n") : 0;
    const bool same = at && !line.failed && line.len == n && !strncmp(line.data, at + head, n);
    buf_release(&line);
    if (!at) return err_set(err, SAIL_USAGE, "--resume: option %s was %s, now it is absent", key, value);
    return same ? SAIL_OK : err_set(err, SAIL_USAGE, "--resume: option %s was %s in %s, now it is %.*s", key, value, c->path, (int)n, at + head);
}

static int save_config(const struct run *r, sail_err *err)
{
    struct buf yaml;
    buf_init(&yaml, 0);
    config_write_yaml(r->config, &yaml);
    char *path = path_join(r->config->out, "config.yaml");
    int rc = file_replace(path, yaml.data, yaml.len, err);
    free(path);
    buf_release(&yaml);
    return rc;
}

static int check_resumable(const struct run *r, const char *path, sail_err *err)
{
    struct comparison c = {.path = (char *)(uintptr_t)path};
    buf_init(&c.now, 0);
    config_write_yaml(r->config, &c.now);
    int rc = yaml_read_flat(path, compare_saved, &c, err);
    buf_release(&c.now);
    return rc;
}

/* The directory: empty for a new run, with a config.yaml for a resumed one. */
static int enter_directory(struct run *r, bool resume, const char *saved, sail_err *err)
{
    char *metrics = path_join(r->config->out, "metrics.jsonl");
    const bool used = path_exists(metrics);
    free(metrics);
    bool found = false;
    if (used && !resume) return err_set(err, SAIL_USAGE, "--out %s already holds a run: add --resume to go on with it, or name another folder", r->config->out);
    int rc = dir_create(r->config->out, err);
    if (!rc && resume && path_exists(saved)) rc = check_resumable(r, saved, err);
    if (!rc && resume) rc = checkpoint_load_newest(r, &found, err);
    if (rc) return rc;
    if (resume && !found) log_note("no checkpoint in %s: starting at step 0", r->config->out);
    if (found) log_note("going on after step %lld of %lld", (long long)r->step, (long long)r->total_steps);
    if ((rc = save_config(r, err))) return rc;
    return run_writer_open(&r->writer, r->config->out, found ? r->step : resume ? RUN_STARTS_OVER : RUN_IS_NEW, !r->config->quiet, r->total_steps, err);
}

/* The run to its end, or to that of the round that it is in; or what the next round needs, with nothing else open. */
static int one_round(const sail_config *config, const char *saved, bool *done, sail_err *err)
{
    struct run *r = NULL;
    struct rounds *rounds = NULL;
    int64_t prepare = 0;
    int rc = run_open(&r, config, err);
    if (!rc) rc = rounds_open(&rounds, r, err);
    if (!rc && config->dry_run) {
        *done = true;
        rc = run_dry(r, stdout, err);
    } else if (!rc) {
        rc = enter_directory(r, config->resume, saved, err);
        const int64_t n = rounds && r->step < r->total_steps ? rounds_number(rounds, r->step) : 0;
        if (!rc && n && !rounds_ready(rounds, n)) {
            prepare = n;
            rc = rounds_keep_policy(rounds, r, n, err);
        } else {
            if (!rc && n) rc = rounds_enter(rounds, r, n, err);
            if (!rc) rc = run_loop(r, n ? rounds_end(rounds, r->step) : r->total_steps, err);
            *done = r->step >= r->total_steps;
        }
    }
    run_close(r);
    if (!rc && prepare) rc = rounds_prepare(rounds, prepare, err);
    rounds_close(rounds);
    return rc;
}

static int train(const sail_config *given, const char *method, sail_err *err)
{
    sail_config *config = config_copy(given);
    if (!config) return err_memory(err, sizeof *given);
    char *saved = config->out ? path_join(config->out, "config.yaml") : NULL;
    int rc = SAIL_OK;
    if (method) {
        free(config->method);
        config->method = mem_strdup(method);
    }
    if (config->resume && saved && path_exists(saved)) rc = yaml_read_flat(saved, take_saved, config, err);
    for (bool done = false; !rc && !done; config->resume = true) rc = one_round(config, saved, &done, err);
    if (!rc && !config->dry_run) log_note("done: %s/final, %s/report.html", config->out, config->out);
    free(saved);
    sail_config_free(config);
    return rc;
}

int job_align(const sail_config *config, sail_err *err) { return train(config, NULL, err); }
int job_sft(const sail_config *config, sail_err *err) { return train(config, "sft", err); }
int job_reward(const sail_config *config, sail_err *err) { return train(config, "reward", err); }
