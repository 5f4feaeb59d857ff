/* sail eval: a policy on held-out prompts (reward, KL to the reference, win rate against the data's answers or another model's) and on held-out rows
 * (perplexity, reward accuracy). One JSON object on stdout or in --out, a table on a terminal. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/file.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "jobs/jobs.h"
#include "train/sampled_eval.h"
#include "train/statistics.h"

struct evaluation {
    const sail_config *config;
    struct model *model, *reference_model, *versus_model;
    struct adapter *adapter;
    struct policy policy, reference, versus;
    struct text_pipeline text;
    struct dataset *data, *prompts;
    struct rewarder *rewarder;
    struct buf json;
};

static int open_models(struct evaluation *e, sail_err *err)
{
    const sail_config *c = e->config;
    const enum dtype compute = backend_compute(c->dtype);
    const struct model_options o = {.compute = compute, .micro_tokens = c->micro_tokens};
    int rc = model_open(&e->model, c->model, &o, err);
    if (!rc && c->adapter) rc = adapter_open(&e->adapter, e->model, c->adapter, false, err);
    if (!rc && c->ref) rc = model_open(&e->reference_model, c->ref, &o, err);
    if (!rc && c->versus) rc = model_open(&e->versus_model, c->versus, &o, err);
    e->policy = (struct policy){e->model, e->adapter};
    e->versus = (struct policy){e->versus_model, NULL};
    // With an adapter the reference is the model without it.
    e->reference = (struct policy){e->reference_model ? e->reference_model : e->adapter ? e->model : NULL, NULL};
    return rc;
}

static int open_rows(struct evaluation *e, sail_err *err)
{
    const sail_config *c = e->config;
    const struct model_facts *f = model_facts(e->model);
    int rc = text_pipeline_open(&e->text, c->model, f->eos, f->n_eos, c, err);
    struct dataset_options o = e->text.options;
    o.max_length = c->max_length < f->max_position ? c->max_length : f->max_position;
    o.max_prompt_length = c->max_prompt_length;
    if (!rc && c->data) rc = dataset_open(&e->data, c->data, &o, err);
    o.want_prompts_only = true;
    if (!o.max_prompt_length) o.max_prompt_length = o.max_length - c->max_new_tokens;
    if (!rc && o.max_prompt_length < 1)
        return err_set(err, SAIL_USAGE, "--max-new-tokens %lld leaves no room for a prompt in %lld tokens", (long long)c->max_new_tokens, (long long)o.max_length);
    const char *prompts = c->prompts ? c->prompts : c->data;
    if (!rc && prompts) rc = dataset_open(&e->prompts, prompts, &o, err);
    return rc ? rc : rewarder_open(&e->rewarder, c, &e->text, (struct run_policies){0}, err);
}

static void put_number(struct buf *b, const char *name, double value)
{
    buf_printf(b, "%s\"%s\": ", b->len > 1 ? ", " : "", name);
    buf_json_double(b, value);
}

static void put_interval(struct buf *b, const char *name, struct interval i)
{
    buf_printf(b, "%s\"%s\": {\"mean\": ", b->len > 1 ? ", " : "", name);
    buf_json_double(b, i.mean);
    buf_puts(b, ", \"low\": ");
    buf_json_double(b, i.low);
    buf_puts(b, ", \"high\": ");
    buf_json_double(b, i.high);
    buf_puts(b, "}");
}

/* The prompts are the units: answers of one prompt are not independent. *out: mean over the returns, NaN without a value. */
static int per_prompt(const double *value, int64_t n, int64_t k, double **out, sail_err *err)
{
    if (mem_alloc(out, (size_t)n, sizeof **out, err)) return SAIL_FAILED;
    for (int64_t i = 0; i < n; i++) (*out)[i] = sampled_eval_mean(value + i * k, k);
    return SAIL_OK;
}

static int put_means(struct evaluation *e, const char *name, const double *value, int64_t n, int64_t k, sail_err *err)
{
    double *mean = NULL;
    int rc = per_prompt(value, n, k, &mean, err);
    if (!rc) put_interval(&e->json, name, statistics_mean(mean, n));
    free(mean);
    return rc;
}

static bool keep_going(void *context, int64_t done, int64_t tokens)
{
    (void)context;
    static double last;
    if (clock_seconds() - last > 5) {
        log_note("%lld answers, %lld tokens", (long long)done, (long long)tokens);
        last = clock_seconds();
    }
    return !interrupt_asked();
}

static int sample(struct evaluation *e, struct policy policy, struct policy reference, struct sampled_eval *out, sail_err *err)
{
    const sail_config *c = e->config;
    const struct model_facts *f = model_facts(policy.model);
    const struct sampler_options o = {.temperature = c->temperature, .top_k = c->top_k, .top_p = c->top_p, .greedy = c->greedy, .max_new_tokens = c->max_new_tokens,
                                      .n_return = c->num_return, .seed = (uint64_t)c->seed, .eos = f->eos, .n_eos = f->n_eos};
    struct sampler *sampler;
    int rc = sampler_create(&sampler, policy.model, err);
    if (rc) return rc;
    rc = sampled_eval_run(out, sampler, policy, reference, e->prompts, &e->text, e->rewarder, &o, false, keep_going, NULL, err);
    sampler_free(sampler);
    return rc;
}

/* Rewards of the data's chosen answers, one for each prompt. */
static int reward_data(struct evaluation *e, double *reward, sail_err *err)
{
    for (int64_t i = 0; i < e->data->n; i++) {
        const struct example *x = &e->data->example[i];
        const struct span s = x->chosen.n ? x->chosen : x->completion;
        const int32_t *ids = dataset_ids(e->data, s);
        const enum finish finish = FINISH_EOS;
        const struct reward_request q = {.key = i, .prompt_text = x->text >= 0 ? e->data->text + x->text : NULL, .row = e->data->row ? e->data->row[i] : NULL,
                                         .prompt = dataset_ids(e->data, x->prompt), .n_prompt = x->prompt.n, .n = 1, .ids = &ids, .n_tok = &s.n, .finish = &finish};
        double p;
        reward[i] = NAN;
        int rc = s.n ? rewarder_ask(e->rewarder, &q, &reward[i], &p, err) : SAIL_OK;
        if (rc) return rc;
    }
    return SAIL_OK;
}

/* Share of answers with the larger reward, ties half; the other side has other_k answers for each prompt. */
static int put_wins(struct evaluation *e, const struct sampled_eval *mine, const double *other, int64_t other_k, sail_err *err)
{
    double *share;
    if (mem_alloc(&share, (size_t)mine->n_prompt, sizeof *share, err)) return SAIL_FAILED;
    for (int64_t i = 0; i < mine->n_prompt; i++) {
        double wins = 0;
        int64_t n = 0;
        for (int64_t a = 0; a < mine->n_return; a++)
            for (int64_t b = 0; b < other_k; b++) {
                const double d = mine->reward[i * mine->n_return + a] - other[i * other_k + b];
                if (isnan(d)) continue;
                wins += d > 0 ? 1 : d == 0 ? 0.5 : 0;
                n++;
            }
        share[i] = n ? wins / (double)n : NAN;
    }
    put_interval(&e->json, "win_rate", statistics_mean(share, mine->n_prompt));
    free(share);
    return SAIL_OK;
}

static int compare_answers(struct evaluation *e, const struct sampled_eval *mine, sail_err *err)
{
    if (!e->rewarder) return SAIL_OK;
    if (e->versus_model) {
        struct sampled_eval other = {0};
        int rc = sample(e, e->versus, (struct policy){0}, &other, err);
        if (!rc) rc = put_means(e, "versus_reward", other.reward, other.n_prompt, other.n_return, err);
        if (!rc) rc = put_wins(e, mine, other.reward, other.n_return, err);
        sampled_eval_release(&other);
        return rc;
    }
    if (!e->data || e->config->prompts || e->data->kind == DATA_PROMPTS) return SAIL_OK;
    double *reward;
    if (mem_alloc(&reward, (size_t)e->data->n, sizeof *reward, err)) return SAIL_FAILED;
    int rc = reward_data(e, reward, err);
    if (!rc) put_interval(&e->json, "data_reward", statistics_mean(reward, e->data->n));
    if (!rc) rc = put_wins(e, mine, reward, 1, err);
    free(reward);
    return rc;
}

static int evaluate_answers(struct evaluation *e, sail_err *err)
{
    struct sampled_eval mine = {0};
    int rc = sample(e, e->policy, e->reference, &mine, err);
    if (rc) return rc;
    put_number(&e->json, "prompts", (double)mine.n_prompt);
    put_number(&e->json, "answers_per_prompt", (double)mine.n_return);
    put_number(&e->json, "mean_length", mine.length);
    put_number(&e->json, "eos_share", mine.eos_share);
    if (e->rewarder) rc = put_means(e, "reward", mine.reward, mine.n_prompt, mine.n_return, err);
    if (!rc && e->reference.model) rc = put_means(e, "kl", mine.kl, mine.n_prompt, mine.n_return, err);
    if (!rc) rc = compare_answers(e, &mine, err);
    sampled_eval_release(&mine);
    return rc;
}

static int score_row(struct evaluation *e, struct policy policy, const struct example *x, struct span s, double *logp, sail_err *err)
{
    int32_t *ids;
    const int32_t n_prompt = x->prompt.n, group = 0;
    if (mem_alloc(&ids, (size_t)(x->prompt.n + s.n), sizeof *ids, err)) return SAIL_FAILED;
    memcpy(ids, dataset_ids(e->data, x->prompt), (size_t)x->prompt.n * sizeof *ids);
    memcpy(ids + x->prompt.n, dataset_ids(e->data, s), (size_t)s.n * sizeof *ids);
    const int32_t *row = ids;
    const struct sequences q = {.n = 1, .ids = &row, .n_prompt = &n_prompt, .n_tok = &s.n, .group = &group};
    char what[4200];
    snprintf(what, sizeof what, "%s:%lld", dataset_file(e->data, x), (long long)x->line);
    int rc = model_check(policy.model, ids, n_prompt, s.n, what, err);
    if (!rc) rc = model_score(policy, &q, logp, NULL, err);
    free(ids);
    return rc;
}

/* Perplexity of the chosen answers and, with a reference, how often the implicit reward prefers them. */
static int evaluate_rows(struct evaluation *e, sail_err *err)
{
    double sum = 0, *right = NULL, *margin = NULL;
    int64_t tokens = 0, n = e->data->n;
    const bool pairs = e->data->kind == DATA_PREFERENCE && e->reference.model;
    int rc = mem_alloc(&right, (size_t)n, sizeof *right, err);
    if (!rc) rc = mem_alloc(&margin, (size_t)n, sizeof *margin, err);
    for (int64_t i = 0; !rc && i < n; i++) {
        const struct example *x = &e->data->example[i];
        const struct span s = x->chosen.n ? x->chosen : x->completion;
        double lw = 0, ll = 0, rw = 0, rl = 0;
        rc = score_row(e, e->policy, x, s, &lw, err);
        sum += lw;
        tokens += s.n;
        if (rc || !pairs) continue;
        if (!(rc = score_row(e, e->policy, x, x->rejected, &ll, err)) && !(rc = score_row(e, e->reference, x, s, &rw, err)))
            rc = score_row(e, e->reference, x, x->rejected, &rl, err);
        margin[i] = e->config->beta * ((lw - rw) - (ll - rl));
        right[i] = margin[i] > 0;
    }
    if (!rc) put_number(&e->json, "rows", (double)n);
    if (!rc) put_number(&e->json, "perplexity", exp(-sum / (double)tokens));
    if (!rc && pairs) put_interval(&e->json, "reward_accuracy", statistics_mean(right, n));
    if (!rc && pairs) put_interval(&e->json, "reward_margin", statistics_mean(margin, n));
    free(right);
    free(margin);
    return rc;
}

static void print_table(const char *text)
{
    json_t *j = json_loads(text, 0, NULL), *value;
    const char *key;
    json_object_foreach(j, key, value)
    {
        if (json_is_object(value) && json_is_number(json_object_get(value, "mean")))
            printf("%-20s %10.4f  [%.4f, %.4f]\n", key, json_number_value(json_object_get(value, "mean")), json_number_value(json_object_get(value, "low")),
                   json_number_value(json_object_get(value, "high")));
        else if (json_is_number(value))
            printf("%-20s %10.4f\n", key, json_number_value(value));
    }
    json_decref(j);
}

int job_eval(const sail_config *config, sail_err *err)
{
    struct evaluation e = {.config = config};
    buf_init(&e.json, 0);
    backend_threads((int)config->threads);
    int rc = config_require(config, OPTION_model, err);
    if (!rc && !config->data && !config->prompts) rc = err_set(err, SAIL_USAGE, "`sail eval` needs --data (rows), --prompts, or both");
    if (!rc) rc = open_models(&e, err);
    if (!rc) rc = open_rows(&e, err);
    buf_putc(&e.json, '{');
    if (!rc && (config->prompts || e.rewarder)) rc = evaluate_answers(&e, err);
    if (!rc && e.data && e.data->kind != DATA_PROMPTS) rc = evaluate_rows(&e, err);
    buf_puts(&e.json, "}\n");
    if (!rc && e.json.failed) rc = err_memory(err, e.json.len);
    if (!rc && config->out) rc = file_replace(config->out, e.json.data, e.json.len, err);
    if (!rc && isatty(STDOUT_FILENO) && !config->json)
        print_table(e.json.data);
    else if (!rc && !config->out)
        fputs(e.json.data, stdout);
    rewarder_close(e.rewarder);
    dataset_free(e.data);
    dataset_free(e.prompts);
    text_pipeline_close(&e.text);
    adapter_close(e.adapter);
    model_close(e.model);
    model_close(e.reference_model);
    model_close(e.versus_model);
    buf_release(&e.json);
    return rc;
}
