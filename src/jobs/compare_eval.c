/* A run's final policy on the study's held-out prompts. The random numbers are the same for every policy. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/interrupt.h"
#include "jobs/compare.h"
#include "train/sampled_eval.h"
#include "train/statistics.h"

struct compare_judge {
    const sail_config *config;
    struct model *start;
    struct adapter *start_adapter;
    struct text_pipeline text;
    struct dataset *prompts;
    struct rewarder *rewarder;
};

static int open_all(struct compare_judge *j, sail_err *err)
{
    const sail_config *c = j->config;
    const struct model_options o = {.compute = backend_compute(c->dtype), .micro_tokens = c->micro_tokens};
    backend_threads((int)c->threads);
    int rc = model_open(&j->start, c->model, &o, err);
    if (!rc && model_facts(j->start)->reward_head) rc = err_set(err, SAIL_USAGE, "%s is a reward model: expected a language model", c->model);
    if (!rc && c->adapter) rc = adapter_open(&j->start_adapter, j->start, c->adapter, false, err);
    if (rc) return rc;
    const struct model_facts *f = model_facts(j->start);
    if ((rc = text_pipeline_open(&j->text, c->model, f->eos, f->n_eos, c, err))) return rc;
    struct dataset_options d = j->text.options;
    d.max_length = c->max_length < f->max_position ? c->max_length : f->max_position;
    d.max_prompt_length = c->max_prompt_length ? c->max_prompt_length : d.max_length - c->max_new_tokens;
    d.want_prompts_only = true;
    if (d.max_prompt_length < 1)
        return err_set(err, SAIL_USAGE, "max_new_tokens %lld leaves no room for a prompt in %lld tokens", (long long)c->max_new_tokens, (long long)d.max_length);
    if ((rc = dataset_open(&j->prompts, c->prompts, &d, err))) return rc;
    if (!j->prompts->n) return err_set(err, SAIL_FAILED, "%s: no rows", c->prompts);
    rc = rewarder_open(&j->rewarder, c, &j->text, (struct run_policies){0}, err);
    if (!rc && rewarder_compares(j->rewarder)) rc = err_set(err, SAIL_USAGE, "eval: the judge compares two answers (a rubric of pairs, or reward_combine vote): expected one that rewards single answers, such as a rubric of points");
    return rc;
}

int compare_judge_open(struct compare_judge **out, const struct comparison *c, sail_err *err)
{
    struct compare_judge *j;
    *out = NULL;
    if (mem_alloc(&j, 1, sizeof *j, err)) return SAIL_FAILED;
    j->config = c->eval;
    int rc = open_all(j, err);
    if (rc)
        compare_judge_close(j);
    else
        *out = j;
    return rc;
}

void compare_judge_close(struct compare_judge *j)
{
    if (!j) return;
    rewarder_close(j->rewarder);
    dataset_free(j->prompts);
    text_pipeline_close(&j->text);
    adapter_close(j->start_adapter);
    model_close(j->start);
    free(j);
}

static bool keep_going(void *context, int64_t done, int64_t tokens)
{
    (void)context;
    (void)done;
    (void)tokens;
    return !interrupt_asked();
}

static int write_answers(const struct sampled_eval *e, const char *folder, sail_err *err)
{
    struct buf b;
    buf_init(&b, 0);
    for (int64_t i = 0; i < e->n_prompt * e->n_return; i++) {
        buf_printf(&b, "{\"i\": %lld, \"k\": %lld, \"text\": ", (long long)(i / e->n_return), (long long)(i % e->n_return));
        const char *text = e->text ? e->text[i] : NULL;
        if (text)
            buf_json_string(&b, text, strlen(text));
        else
            buf_puts(&b, "null");
        buf_puts(&b, ", \"reward\": ");
        buf_json_double(&b, e->reward[i]);
        buf_puts(&b, ", \"kl\": ");
        buf_json_double(&b, e->kl[i]);
        buf_puts(&b, "}\n");
    }
    char *path = path_join(folder, "answers.jsonl");
    int rc = b.failed ? err_memory(err, b.len) : file_replace(path, b.data, b.len, err);
    free(path);
    buf_release(&b);
    return rc;
}

static int put_interval(struct buf *b, const char *name, const double *value, int64_t n, int64_t k, sail_err *err)
{
    double *mean;
    if (mem_alloc(&mean, (size_t)n, sizeof *mean, err)) return SAIL_FAILED;
    for (int64_t i = 0; i < n; i++) mean[i] = sampled_eval_mean(value + i * k, k);
    const struct interval v = statistics_mean(mean, n);
    free(mean);
    buf_printf(b, ", \"%s\": {\"mean\": ", name);
    buf_json_double(b, v.mean);
    buf_puts(b, ", \"low\": ");
    buf_json_double(b, v.low);
    buf_puts(b, ", \"high\": ");
    buf_json_double(b, v.high);
    buf_puts(b, "}");
    return SAIL_OK;
}

/* As `sail eval` writes it, intervals over the prompts of this one run. */
static int write_summary(const struct sampled_eval *e, const char *folder, sail_err *err)
{
    struct buf b;
    buf_init(&b, 0);
    buf_printf(&b, "{\"prompts\": %lld, \"answers_per_prompt\": %lld, \"mean_length\": ", (long long)e->n_prompt, (long long)e->n_return);
    buf_json_double(&b, e->length);
    buf_puts(&b, ", \"eos_share\": ");
    buf_json_double(&b, e->eos_share);
    int rc = put_interval(&b, "reward", e->reward, e->n_prompt, e->n_return, err);
    if (!rc) rc = put_interval(&b, "kl", e->kl, e->n_prompt, e->n_return, err);
    buf_puts(&b, "}\n");
    char *path = path_join(folder, "eval.json");
    if (!rc) rc = b.failed ? err_memory(err, b.len) : file_replace(path, b.data, b.len, err);
    free(path);
    buf_release(&b);
    return rc;
}

static int sample(struct compare_judge *j, struct policy policy, struct sampled_eval *e, sail_err *err)
{
    const sail_config *c = j->config;
    const struct model_facts *f = model_facts(policy.model);
    const struct sampler_options o = {.temperature = c->temperature, .top_k = c->top_k, .top_p = c->top_p, .greedy = c->greedy, .max_new_tokens = c->max_new_tokens,
                                      .n_return = c->num_return, .seed = (uint64_t)c->seed, .eos = f->eos, .n_eos = f->n_eos};
    struct sampler *sampler;
    int rc = sampler_create(&sampler, policy.model, err);
    if (rc) return rc;
    rc = sampled_eval_run(e, sampler, policy, (struct policy){j->start, j->start_adapter}, j->prompts, &j->text, j->rewarder, &o, true, keep_going, NULL, err);
    sampler_free(sampler);
    return rc;
}

int compare_judge_run(struct compare_judge *j, const struct compare_run *run, sail_err *err)
{
    const struct model_options o = {.compute = backend_compute(j->config->dtype), .micro_tokens = j->config->micro_tokens};
    struct model *model = NULL;
    struct adapter *adapter = NULL;
    struct sampled_eval e = {0};
    char *final = path_join(run->folder, "final");
    int rc = run->config->full ? model_open(&model, final, &o, err) : adapter_open(&adapter, j->start, final, false, err);
    if (!rc) rc = sample(j, (struct policy){model ? model : j->start, adapter}, &e, err);
    if (!rc && isnan(sampled_eval_mean(e.reward, e.n_prompt * e.n_return)))
        rc = err_set(err, SAIL_FAILED, "%s: the judge gave no reward for any answer: expected one that rewards single answers", run->folder);
    if (!rc) rc = write_answers(&e, run->folder, err);
    if (!rc) rc = write_summary(&e, run->folder, err);
    sampled_eval_release(&e);
    adapter_close(adapter);
    model_close(model);
    free(final);
    return rc;
}

bool compare_finished(const struct compare_run *run)
{
    char *path = path_join(run->folder, "eval.json");
    const bool there = path_exists(path);
    free(path);
    return there;
}

static double number(json_t *row, const char *key)
{
    json_t *v = json_object_get(row, key);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

static int read_rows(struct compare_answers *a, const char *path, sail_err *err)
{
    char *data, *save = NULL;
    size_t n;
    int64_t row = 0;
    int rc = file_read(path, (size_t)4 << 30, &data, &n, err);
    if (rc) return rc;
    for (char *line = strtok_r(data, "\n", &save); !rc && line; line = strtok_r(NULL, "\n", &save), row++) {
        json_t *j = json_loads(line, 0, NULL);
        if (!j || row == a->n_prompt * a->n_return) {
            rc = err_set(err, SAIL_FAILED, "%s:%lld: expected %lld rows of answers", path, (long long)row + 1, (long long)(a->n_prompt * a->n_return));
        } else {
            a->reward[row] = number(j, "reward");
            a->kl[row] = number(j, "kl");
        }
        json_decref(j);
    }
    if (!rc && row != a->n_prompt * a->n_return) rc = err_set(err, SAIL_FAILED, "%s: %lld rows, expected %lld", path, (long long)row, (long long)(a->n_prompt * a->n_return));
    free(data);
    return rc;
}

int compare_answers_read(struct compare_run *run, sail_err *err)
{
    struct compare_answers *a = &run->answers;
    char *path = path_join(run->folder, "eval.json"), *rows = path_join(run->folder, "answers.jsonl");
    json_t *j = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
    const double n = number(j, "prompts"), k = number(j, "answers_per_prompt");
    int rc = SAIL_OK;
    if (!(n >= 1 && n < 1e9 && k >= 1 && k <= 4096)) rc = err_set(err, SAIL_FAILED, "%s: expected a number of prompts and of answers", path);
    if (!rc) {
        *a = (struct compare_answers){.n_prompt = (int64_t)n, .n_return = (int64_t)k, .length = number(j, "mean_length"), .eos_share = number(j, "eos_share")};
        rc = mem_alloc(&a->reward, (size_t)(a->n_prompt * a->n_return), sizeof *a->reward, err);
        if (!rc) rc = mem_alloc(&a->kl, (size_t)(a->n_prompt * a->n_return), sizeof *a->kl, err);
        if (!rc) rc = read_rows(a, rows, err);
    }
    json_decref(j);
    free(path);
    free(rows);
    return rc;
}
