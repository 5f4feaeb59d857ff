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

/* Two folders with a tokenizer each, and not the same one. */
static bool other_tokenizer(const char *a, const char *b)
{
    char *pa = path_join(a, "tokenizer.json"), *pb = path_join(b, "tokenizer.json");
    const bool both = path_exists(pa) && path_exists(pb);
    free(pa);
    free(pb);
    return both && !text_pipeline_same_tokenizer(a, b);
}

static int open_models(struct evaluation *e, sail_err *err)
{
    const sail_config *c = e->config;
    const enum dtype compute = backend_compute(c->dtype);
    const struct model_options o = {.compute = compute, .micro_tokens = c->micro_tokens};
    int rc = model_open(&e->model, c->model, &o, err);
    if (!rc && c->adapter) rc = adapter_open(&e->adapter, e->model, c->adapter, false, err);
    if (!rc && c->ref) rc = model_open(&e->reference_model, c->ref, &o, err);
    if (!rc && c->versus) rc = model_open(&e->versus_model, c->versus, &o, err);
    if (!rc && e->reference_model && model_facts(e->reference_model)->vocab != model_facts(e->model)->vocab) rc = err_set(err, SAIL_USAGE, "--ref %s: another vocabulary than %s", c->ref, c->model);
    if (!rc && e->versus_model && (model_facts(e->versus_model)->vocab != model_facts(e->model)->vocab || other_tokenizer(c->model, c->versus)))
        rc = err_set(err, SAIL_USAGE, "--versus %s: its tokenizer is another one than that of %s, whose tokens the prompts are in", c->versus, c->model);
    e->policy = (struct policy){e->model, e->adapter};
    e->versus = (struct policy){e->versus_model, NULL};
    // With an adapter the reference is the model without it.
    e->reference = (struct policy){e->reference_model ? e->reference_model : e->adapter ? e->model : NULL, NULL};
    return rc;
}

/* The data's answers are what the policy's are compared with. */
static bool answers_in_data(const struct evaluation *e) { return e->data && !e->config->prompts && e->data->kind != DATA_PROMPTS; }

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
    if (!rc) rc = rewarder_open(&e->rewarder, c, &e->text, (struct run_policies){0}, err);
    if (!rc && e->rewarder && rewarder_compares(e->rewarder) && !e->versus_model && !answers_in_data(e))
        return err_set(err, SAIL_USAGE, "the judge compares two answers (a rubric of pairs, or --reward-combine vote), and there is only one: give --versus, answers in --data, or another rubric or rule");
    return rc;
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

/* The answers that a policy's are compared with, k for each prompt; where rewards were given, they decide. */
struct others {
    int64_t k;
    struct eval_answer *answer;
    double *reward;
};

static struct eval_answer answer_at(const struct sampled_eval *s, int64_t at) { return (struct eval_answer){s->ids[at], s->n_tok[at], s->finish[at]}; }

/* The data's chosen answers, one for each prompt, and their rewards. */
static int read_answers(struct evaluation *e, struct others *o, sail_err *err)
{
    o->k = 1;
    int rc = mem_alloc(&o->answer, (size_t)e->data->n, sizeof *o->answer, err);
    if (!rc) rc = mem_alloc(&o->reward, (size_t)e->data->n, sizeof *o->reward, err);
    for (int64_t i = 0; !rc && i < e->data->n; i++) {
        const struct example *x = &e->data->example[i];
        const struct span s = x->chosen.n ? x->chosen : x->completion;
        const int32_t *ids = dataset_ids(e->data, s);
        const enum finish finish = FINISH_EOS;
        o->answer[i] = (struct eval_answer){ids, s.n, finish};
        const struct reward_request q = {.key = i, .prompt_text = x->text >= 0 ? e->data->text + x->text : NULL, .row = e->data->row ? e->data->row[i] : NULL,
                                         .prompt = dataset_ids(e->data, x->prompt), .n_prompt = x->prompt.n, .n = 1, .ids = &ids, .n_tok = &s.n, .finish = &finish};
        double p;
        o->reward[i] = NAN;
        if (s.n && !rewarder_compares(e->rewarder)) rc = rewarder_ask(e->rewarder, &q, &o->reward[i], &p, err);
    }
    return rc;
}

static int copy_answers(struct others *o, const struct sampled_eval *s, sail_err *err)
{
    const int64_t n = s->n_prompt * s->n_return;
    o->k = s->n_return;
    int rc = mem_alloc(&o->answer, (size_t)n, sizeof *o->answer, err);
    if (!rc) rc = mem_alloc(&o->reward, (size_t)n, sizeof *o->reward, err);
    for (int64_t a = 0; !rc && a < n; a++) {
        o->answer[a] = answer_at(s, a);
        o->reward[a] = s->reward[a];
    }
    return rc;
}

/* What one answer wins over another: 1, a half or 0 by rewards, p by a judge who compares; NaN: no verdict. */
static int win(struct evaluation *e, const struct sampled_eval *mine, int64_t i, int64_t a, const struct others *o, int64_t b, double *out, sail_err *err)
{
    const double d = mine->reward[a] - o->reward[b];
    if (!rewarder_compares(e->rewarder)) return *out = isnan(d) ? NAN : d > 0 ? 1 : d == 0 ? 0.5 : 0, SAIL_OK;
    return o->answer[b].n ? sampled_eval_compare(e->rewarder, e->prompts, i, a * o->k + b % o->k, answer_at(mine, a), o->answer[b], out, err) : (*out = NAN, SAIL_OK);
}

/* Share of comparisons won, over every answer of either side. */
static int put_wins(struct evaluation *e, const struct sampled_eval *mine, const struct others *o, sail_err *err)
{
    double *share;
    if (mem_alloc(&share, (size_t)mine->n_prompt, sizeof *share, err)) return SAIL_FAILED;
    int rc = SAIL_OK;
    for (int64_t i = 0; !rc && i < mine->n_prompt; i++) {
        double wins = 0, n = 0;
        for (int64_t a = i * mine->n_return; !rc && a < (i + 1) * mine->n_return; a++)
            for (int64_t b = i * o->k; !rc && b < (i + 1) * o->k; b++) {
                double x = NAN;
                if ((rc = win(e, mine, i, a, o, b, &x, err)) || isnan(x)) continue;
                wins += x;
                n++;
            }
        share[i] = n ? wins / n : NAN;
    }
    if (!rc) put_interval(&e->json, "win_rate", statistics_share(share, mine->n_prompt));
    free(share);
    return rc;
}

static int compare_answers(struct evaluation *e, const struct sampled_eval *mine, sail_err *err)
{
    struct sampled_eval other = {0};
    struct others o = {0};
    const bool versus = e->versus_model != NULL, rewards = e->rewarder && !rewarder_compares(e->rewarder);
    if (!e->rewarder || (!versus && !answers_in_data(e))) return SAIL_OK;
    int rc = versus ? sample(e, e->versus, (struct policy){0}, &other, err) : read_answers(e, &o, err);
    if (!rc && versus) rc = copy_answers(&o, &other, err);
    if (!rc && rewards) rc = put_means(e, versus ? "versus_reward" : "data_reward", o.reward, mine->n_prompt, o.k, err);
    if (!rc) rc = put_wins(e, mine, &o, err);
    free(o.answer);
    free(o.reward);
    sampled_eval_release(&other);
    return rc;
}

static int evaluate_answers(struct evaluation *e, sail_err *err)
{
    const sail_config *c = e->config;
    struct sampled_eval mine = {0};
    if (e->reference.model && (c->greedy || !config_draws_policy(c)))
        log_warning("kl is the mean of log pi - log ref over answers as they are drawn, %s: at temperature 1 over the whole vocabulary it estimates KL(pi || ref)", c->greedy ? "greedily" : "not as the policy itself would");
    int rc = sample(e, e->policy, e->reference, &mine, err);
    if (rc) return rc;
    put_number(&e->json, "prompts", (double)mine.n_prompt);
    put_number(&e->json, "answers_per_prompt", (double)mine.n_return);
    put_number(&e->json, "mean_length", mine.length);
    put_number(&e->json, "eos_share", mine.eos_share);
    if (e->rewarder && !rewarder_compares(e->rewarder)) rc = put_means(e, "reward", mine.reward, mine.n_prompt, mine.n_return, err);
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
    if (!rc && pairs) put_interval(&e->json, "reward_accuracy", statistics_share(right, n));
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
