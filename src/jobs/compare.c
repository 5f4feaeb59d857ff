/* sail compare --config study.yaml: what is to be run, read from the study and checked whole. */
#include "jobs/compare.h"

#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "jobs/jobs.h"
#include "train/run.h"

enum { MAX_RUNS = 4096 };

static bool one_of(const char *key, const char *const *names)
{
    for (; *names; names++) {
        size_t i = 0;
        while (key[i] && (key[i] == (*names)[i] || (key[i] == '-' && (*names)[i] == '_'))) i++;
        if (!key[i] && !(*names)[i]) return true;
    }
    return false;
}
static const char *const set_by_study[] = {"out", "seed", "resume", "dry_run", "quiet", NULL};
static const char *const same_for_all[] = {"model", "adapter", NULL};
#define NAME(option) #option,
static const char *const judges[] = {REWARDER_OPTIONS(NAME) NULL};
#undef NAME
static const char *const combined[] = {"reward_combine", "spread_coef", "quorum", NULL};
static const char *const files[] = {"model", "adapter", "data", "prompts", "eval_data", "eval_prompts", "reward_rule", "reward_table", NULL};

static int set_options(const struct study *s, const struct study_options *o, sail_config *c, bool of_method, sail_err *err)
{
    for (size_t i = 0; i < o->n; i++) {
        const struct study_option *x = &o->item[i];
        int rc = SAIL_OK;
        if (c->command == CMD_ALIGN && one_of(x->key, set_by_study)) rc = err_set(err, SAIL_USAGE, "'%s' is set by the study itself", x->key);
        if (!rc && of_method && one_of(x->key, same_for_all)) rc = err_set(err, SAIL_USAGE, "'%s' belongs into base: all runs have the same start", x->key);
        if (!rc && !of_method && !strcmp(x->key, "method")) rc = err_set(err, SAIL_USAGE, "'method' belongs into an entry of methods");
        if (!rc) rc = sail_config_set(c, x->key, x->value, err);
        if (!rc && one_of(x->key, files) && !path_exists(x->value)) rc = err_set(err, SAIL_USAGE, "%s: there is no file or folder '%s'", x->key, x->value);
        if (rc) {
            err_context(err, "%s:%d", s->path, x->line);
            return SAIL_USAGE;
        }
    }
    return SAIL_OK;
}

/* --threads of the command counts; else the study's; else the cores are shared. */
static void set_threads(const struct comparison *c, sail_config *run, const sail_config *given)
{
    if (CONFIG_SET(given, threads)) run->threads = given->threads;
    if (!run->threads && c->jobs > 1) run->threads = c->jobs < backend_thread_count() ? backend_thread_count() / c->jobs : 1;
}

static int plan_run(struct comparison *c, struct compare_run *run, const sail_config *given, sail_err *err)
{
    const struct study *s = c->study;
    const struct study_method *m = run->method;
    int rc = sail_config_create(&run->config, "align", err);
    if (!rc) rc = set_options(s, &s->base, run->config, false, err);
    if (!rc) rc = set_options(s, &m->options, run->config, true, err);
    if (rc) return rc;
    sail_config *a = run->config;
    if (!CONFIG_SET(a, method)) rc = sail_config_set(a, "method", m->name, err);
    run->name = mem_printf("%s-seed%lld", m->name, (long long)run->seed);
    run->folder = path_join(c->out, run->name);
    free(a->out);
    a->out = mem_strdup(run->folder);
    a->seed = run->seed;
    a->is_set[OPTION_seed] = a->is_set[OPTION_out] = 1;
    a->quiet = given->quiet || c->jobs > 1; // the lines of several runs would overwrite each other
    set_threads(c, a, given);
    if (!rc && !a->model) return err_set(err, SAIL_USAGE, "%s:%d: base: 'model' is missing", s->path, s->base.line);
    if (!rc) rc = run_check(a, err);
    return rc ? err_context(err, "%s:%d: %s", s->path, m->line, m->name) : SAIL_OK;
}

/* How policies are judged: what `eval` says, else what the runs have. */
static int plan_eval(struct comparison *c, const sail_config *given, sail_err *err)
{
    const struct study *s = c->study;
    int rc = sail_config_create(&c->eval, "eval", err);
    if (!rc) rc = set_options(s, &s->eval, c->eval, true, err);
    bool own_judge = false;
    for (size_t i = 0; i < s->eval.n; i++) own_judge = own_judge || one_of(s->eval.item[i].key, judges);
    const char *held_out = NULL, *seen = NULL;
    for (size_t i = 0; !rc && i < s->base.n; i++) {
        const char *key = s->base.item[i].key, *value = s->base.item[i].value;
        if (!strcmp(key, "eval_prompts") || !strcmp(key, "eval-prompts") || (!held_out && (!strcmp(key, "eval_data") || !strcmp(key, "eval-data")))) held_out = value;
        if (!strcmp(key, "prompts") || (!seen && !strcmp(key, "data"))) seen = value;
        if (!strcmp(key, "prompts") || !strcmp(key, "data") || !strcmp(key, "ref") || (own_judge && (one_of(key, judges) || one_of(key, combined)))) continue;
        rc = config_default(c->eval, key, value, err);
    }
    if (rc) return rc;
    set_threads(c, c->eval, given);
    if (!rewarder_given(c->eval))
        return err_set(err, SAIL_USAGE, "%s:%d: no judge: expected reward_model, reward_rule, reward_table, labeler_command, judge_model, evaluators or final_answer in eval or base", s->path,
                       s->eval.line ? s->eval.line : s->base.line);
    if (!c->eval->prompts && !held_out && !seen)
        return err_set(err, SAIL_USAGE, "%s:%d: no prompts to judge on: expected 'prompts' in eval, or 'eval_prompts' in base", s->path, s->eval.line ? s->eval.line : s->base.line);
    if (!c->eval->prompts && !held_out) log_warning("%s: no held-out prompts (eval: prompts, or base: eval_prompts): judging on those of the training", s->path);
    return c->eval->prompts ? SAIL_OK : config_default(c->eval, "prompts", held_out ? held_out : seen, err);
}

static int plan(struct comparison *c, const sail_config *given, sail_err *err)
{
    struct study *s = NULL;
    if (!given->config) return err_set(err, SAIL_USAGE, "`sail compare` needs --config (a study: base, methods, seeds)");
    int rc = study_open(&c->study, given->config, err);
    if (!rc) s = c->study;
    if (!rc && given->seeds) rc = study_set_seeds(s, given->seeds, "--seeds", err);
    if (rc) return rc;
    if (!given->out && !s->out) return err_set(err, SAIL_USAGE, "`sail compare` needs --out (or 'out' in %s): the folder of the runs", s->path);
    c->out = mem_strdup(given->out ? given->out : s->out);
    c->jobs = (int)given->jobs;
    c->quiet = given->quiet;
    const size_t n_seed = s->seeds.n;
    if (s->n_method > MAX_RUNS || n_seed > MAX_RUNS || s->n_method * n_seed > MAX_RUNS)
        return err_set(err, SAIL_USAGE, "%s: %zu methods x %zu seeds: expected at most %d runs", s->path, s->n_method, n_seed, (int)MAX_RUNS);
    if ((rc = mem_alloc(&c->run, s->n_method * n_seed, sizeof *c->run, err))) return rc;
    for (size_t m = 0; !rc && m < s->n_method; m++)
        for (size_t k = 0; !rc && k < n_seed; k++) {
            const struct study_method *method = &s->method[m];
            if (method->seeds.n && !study_has_seed(&method->seeds, s->seeds.item[k])) continue;
            struct compare_run *run = &c->run[c->n_run++];
            *run = (struct compare_run){.method = method, .i_method = m, .i_seed = k, .seed = s->seeds.item[k]};
            rc = plan_run(c, run, given, err);
        }
    return rc ? rc : plan_eval(c, given, err);
}

/* The next line of a resolved config that says how a run was made; false at the end. */
static bool next_line(const char **at, char line[8192])
{
    static const char *const free_keys[] = {"out: ", "threads: ", "micro_tokens: ", "micro_batch: ", "recompute: ", "keep_checkpoints: ", "save_steps: "};
    while (**at) {
        const size_t n = strcspn(*at, "\n");
        bool skip = false;
        for (size_t i = 0; i < sizeof free_keys / sizeof *free_keys; i++) skip = skip || !strncmp(*at, free_keys[i], strlen(free_keys[i]));
        snprintf(line, 8192, "%.*s", (int)(n < 8191 ? n : 8191), *at);
        *at += n + ((*at)[n] == '\n');
        if (!skip) return true;
    }
    line[0] = '\0';
    return false;
}

int compare_check_folder(const struct compare_run *run, sail_err *err)
{
    char *path = path_join(run->folder, "config.yaml"), *text = NULL;
    size_t n;
    int rc = path_exists(path) ? file_read(path, (size_t)1 << 24, &text, &n, err) : SAIL_OK;
    if (text) {
        struct buf b;
        buf_init(&b, 0);
        config_write_yaml(run->config, &b);
        const char *was = text, *now = b.data;
        char old[8192], new[8192];
        for (bool more = true; !rc && more;) {
            more = next_line(&was, old);
            more = next_line(&now, new) || more;
            if (strcmp(old, new))
                rc = err_set(err, SAIL_USAGE, "%s holds a run with '%.200s', the study now says '%.200s': remove the folder, or give another --out", run->folder, old[0] ? old : "nothing",
                             new[0] ? new : "nothing");
        }
        buf_release(&b);
    }
    free(text);
    free(path);
    return rc;
}

static void release(struct comparison *c)
{
    for (size_t i = 0; i < c->n_run; i++) {
        struct compare_run *run = &c->run[i];
        sail_config_free(run->config);
        free(run->name);
        free(run->folder);
        free(run->answers.reward);
        free(run->answers.kl);
    }
    free(c->run);
    sail_config_free(c->eval);
    study_free(c->study);
    free(c->out);
}

int job_compare(const sail_config *config, sail_err *err)
{
    struct comparison c = {0};
    log_each_once(true); // what one run warns of all the others would
    int rc = plan(&c, config, err);
    if (!rc) rc = compare_run_all(&c, err);
    for (size_t i = 0; !rc && i < c.n_run; i++) rc = compare_answers_read(&c.run[i], err);
    if (!rc) rc = compare_write(&c, err);
    if (!rc) printf("%s/report.html\n", c.out);
    log_each_once(false);
    release(&c);
    return rc;
}
