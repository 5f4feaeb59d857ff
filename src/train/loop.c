/* Drives the steps: self-check at step 0, metrics, samples, evaluation, checkpoints, interrupts. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "train/run.h"
#include "train/sampled_eval.h"

enum { MAX_METRICS = 48, SAMPLE_PROMPTS = 4 };

struct metrics {
    struct metric m[MAX_METRICS];
    int n;
    char term[SUM_TERMS][48]; /* names */
};

static void put(struct metrics *all, const char *name, double value)
{
    if (isnan(value)) return; // not measured in this step
    BUG_ON(all->n == MAX_METRICS, "more than %d metrics", MAX_METRICS);
    all->m[all->n++] = (struct metric){name, value};
}

/* A batch may hold rows of one kind only. */
static void collect_unpaired(const struct run *r, const struct step_result *s, struct metrics *all)
{
    const struct objective_stats *t = &s->stats;
    const double chosen = t->chosen / t->n_desirable, rejected = t->rejected / t->n_undesirable; // NaN: none
    put(all, "rewards/chosen", chosen);
    put(all, "rewards/rejected", rejected);
    put(all, "rewards/margins", chosen - rejected);
    put(all, "logps/chosen", t->n_desirable ? s->logp_chosen : NAN);
    put(all, "logps/rejected", t->n_undesirable ? s->logp_rejected : NAN);
    put(all, "beta", r->params.beta);
    if (r->mismatched) put(all, "kl", t->reference_point);
}

/* TRL's names where one exists (methods.md C.3), over completion tokens only. */
static void collect(const struct run *r, const struct step_result *s, struct metrics *all)
{
    const struct objective_stats *t = &s->stats;
    const double offline = mixture_offline(r->mixture), rows = r->data ? (double)r->data->n : NAN;
    all->n = 0;
    put(all, "loss", t->loss);
    for (int k = 0; k < r->params.sum.n; k++) {
        snprintf(all->term[k], sizeof all->term[k], "loss/%s", r->params.sum.term[k]->name);
        put(all, all->term[k], t->term_loss[k]);
    }
    put(all, "grad_norm", s->grad_norm);
    put(all, "learning_rate", s->learning_rate);
    put(all, "param_norm", s->param_norm);
    put(all, "epoch", (double)(r->step * r->config->batch) * offline / rows);
    put(all, "num_tokens", (double)r->counts.trained_tokens);
    if (r->shifts) put(all, "delta", t->reference_point);
    if (r->unpaired) collect_unpaired(r, s, all);
    if (!r->pairs && !r->groups) return;
    if (r->reward) {
        put(all, "accuracy", t->accuracy / t->n_pair);
        put(all, "margin", t->margin / t->n_pair);
        put(all, "mean_reward", (t->chosen + t->rejected) / (2 * t->n_pair));
        return;
    }
    if (r->needs_reference) {
        put(all, "rewards/chosen", t->chosen / t->n_pair);
        put(all, "rewards/rejected", t->rejected / t->n_pair);
        put(all, "rewards/margins", t->margin / t->n_pair);
        put(all, "rewards/accuracies", t->accuracy / t->n_pair);
    }
    if ((r->objective->needs & ON_REFERENCE) && (r->batch.n_reference || r->params.revkl > 0)) put(all, "loss/reference", t->reference);
    put(all, "logps/chosen", s->logp_chosen);
    put(all, "logps/rejected", s->logp_rejected);
    if (r->pairs || r->needs_reference) put(all, "beta", r->params.beta);
    if (r->mixture.pp + r->mixture.pr <= 0) return;
    put(all, "reward/loss", s->reward_loss);
    put(all, "reward/accuracy", s->reward_accuracy);
    put(all, "reward/margin", s->reward_margin);
    put(all, "reward/scores", s->judged);
    put(all, "objective/kl", s->kl);
    put(all, "objective/scores", s->score);
    put(all, "objective/scores_margin", s->score_margin);
    put(all, "objective/length_coef", s->length_coef);
    put(all, "val/contain_eos_token", s->eos_share);
    put(all, "completions/mean_length", s->answer_length);
    put(all, "completions/repetitive", s->repeats);
    put(all, "sampler/blend_kl", s->blend_kl);
    put(all, "sampler/drift_mean", s->drift_mean);
    put(all, "sampler/drift_max", s->drift_max);
    put(all, "sampled_tokens", (double)r->counts.sampled_tokens);
    put(all, "labels", (double)r->counts.labels);
    put(all, "val/ties", (double)r->counts.ties);
    put(all, "val/unlabelled", (double)r->counts.unlabelled);
    if (r->archive) put(all, "replay/prompts", (double)(r->sampled.n - r->sampled.n_new));
    if (!s->n_weighted) return;
    put(all, "replay/pairs", (double)s->n_weighted);
    put(all, "replay/clip_share", t->weight_clipped / (double)s->n_weighted);
    put(all, "replay/mean_weight", t->weight_sum / (double)s->n_weighted);
    put(all, "replay/effective_pairs", t->weight_square > 0 ? t->weight_sum * t->weight_sum / t->weight_square : 0);
}

static void collect_timing(const struct step_result *s, struct metrics *all)
{
    const struct step_timing *t = &s->timing;
    all->n = 0;
    put(all, "step_s", t->total);
    put(all, "data_s", t->data);
    put(all, "sample_s", t->sample);
    put(all, "label_s", t->label);
    put(all, "reference_s", t->reference);
    put(all, "forward_s", t->forward);
    put(all, "backward_s", t->backward);
    put(all, "optimizer_s", t->optimizer);
    put(all, "io_s", t->io);
    put(all, "tokens_per_s", (double)t->tokens / t->total);
    put(all, "peak_rss_mib", mem_peak_mib());
}

/* Policy = reference: h must be exactly 0 and the loss the objective's own value there; anything else is a broken set-up. */
static int check_step_zero(const struct run *r, const struct step_result *s, bool same_policy, sail_err *err)
{
    if (!r->needs_reference || !same_policy) {
        log_note("step-0 check skipped: %s", r->needs_reference ? "the reference is another policy" : "the method has no reference");
        return SAIL_OK;
    }
    const struct batch *b = &r->batch;
    for (int64_t i = 0; i < b->n; i++)
        if (b->logp[i] != b->logp_ref[i])
            return err_set(err, SAIL_FAILED, "step-0 check: policy and reference are the same, but row %lld has log-probs %.9g and %.9g", (long long)i, b->logp[i], b->logp_ref[i]);
    if (!r->objective->at_reference || !(b->n_pair || r->unpaired)) return SAIL_OK; // no value is known beforehand
    double want = 0;
    for (int64_t k = 0; k < b->n_pair; k++) want += b->pair[k].weight * r->objective->at_reference(&r->params, &b->pair[k]) / (double)b->n_pair;
    for (int64_t i = 0; r->unpaired && i < b->n; i++) want += verdict_weight(&r->params, b->verdict[i]) * r->objective->at_reference(&r->params, NULL) / (double)b->n;
    const double known = s->stats.loss - s->stats.loss_elsewhere;
    if (fabs(known - want) > 1e-9 * (1 + fabs(want)))
        return err_set(err, SAIL_FAILED, "step-0 check: loss %.12g, expected %.12g where policy and reference are the same", known, want);
    return SAIL_OK;
}

/* Answers to the same few prompts as the run goes on: what samples.jsonl and the report show. */
static int write_samples(struct run *r, sail_err *err)
{
    const struct dataset *d = r->prompts ? r->prompts : r->eval ? r->eval : r->data;
    if (!d || !r->text.tokenizer || r->reward) return SAIL_OK;
    struct prompt prompt[SAMPLE_PROMPTS];
    int64_t n = 0;
    for (int64_t i = 0; i < d->n && n < SAMPLE_PROMPTS; i++) {
        const struct span s = d->example[i].prompt;
        if (s.n && s.n + 16 <= model_facts(r->model)->max_position) prompt[n++] = (struct prompt){.ids = dataset_ids(d, s), .n = s.n, .key = (uint64_t)i};
    }
    struct sampler_options o = r->sampling;
    o.n_return = 1;
    o.step = (uint64_t)1 << 40; // the same random numbers every time
    struct answer *answers;
    int rc = n ? sampler_run(r->sampler, r->policy, prompt, n, &o, &answers, NULL, NULL, err) : SAIL_OK;
    struct buf text, question;
    buf_init(&text, 0);
    buf_init(&question, 0);
    for (int64_t i = 0; !rc && i < n; i++) {
        buf_clear(&text);
        buf_clear(&question);
        rc = tokenizer_decode(r->text.tokenizer, answers[i].ids, (size_t)answers[i].n, true, &text, err);
        if (!rc) rc = tokenizer_decode(r->text.tokenizer, prompt[i].ids, (size_t)prompt[i].n, true, &question, err);
        double reward = NAN, p;
        const int32_t *ids = answers[i].ids;
        const struct reward_request q = {.key = (int64_t)prompt[i].key, .prompt = prompt[i].ids, .n_prompt = prompt[i].n, .n = 1, .ids = &ids,
                                         .n_tok = &answers[i].n, .finish = &answers[i].finish, .prompt_text = question.data,
                                         .row = d->row ? d->row[prompt[i].key] : NULL};
        if (!rc && r->rewarder) rc = rewarder_ask(r->rewarder, &q, &reward, &p, err);
        const struct sample_row row = {.step = r->step, .prompt_id = (int64_t)prompt[i].key, .prompt = question.data ? question.data : "",
                                       .completion = text.data ? text.data : "", .source = "policy", .reward = reward, .logp = answers[i].logp};
        if (!rc) rc = run_writer_sample(r->writer, &row, err);
    }
    buf_release(&text);
    buf_release(&question);
    return rc;
}

static int evaluate_rows(struct run *r, struct metrics *all, sail_err *err)
{
    int n;
    double loss;
    int rc = run_validate(r, &loss, all->m + all->n, &n, err);
    if (rc) return rc;
    all->n += n;
    if (!r->config->keep_best || !(loss < r->best)) return SAIL_OK;
    r->best = loss;
    return final_save(r, err);
}

static bool keep_sampling(void *context, int64_t done, int64_t tokens)
{
    const struct run *r = context;
    (void)done;
    (void)tokens;
    run_writer_progress(r->writer, r->step, NULL, 0, 0, interrupt_asked() ? "finishing the step" : "evaluating");
    return true;
}

/* Reward and KL of the policy's own answers to held-out prompts, at temperature 1 over the whole vocabulary however training samples, so that curves of methods are of one kind and the KL is one;
 * the random numbers are the same at every evaluation. */
static int evaluate_answers(struct run *r, struct metrics *all, sail_err *err)
{
    struct sampler_options o = sampler_whole(r->sampling, 1);
    o.n_return = 1;
    o.step = (uint64_t)1 << 41;
    struct sampled_eval e;
    int rc = sampled_eval_run(&e, r->sampler, r->policy, r->reference, r->eval_prompts, &r->text, r->rewarder, &o, false, keep_sampling, r, err);
    if (rc) return rc;
    put(all, "eval_reward", sampled_eval_mean(e.reward, e.n_prompt));
    put(all, "eval_kl", sampled_eval_mean(e.kl, e.n_prompt));
    put(all, "eval_length", e.length);
    sampled_eval_release(&e);
    return SAIL_OK;
}

static int evaluate(struct run *r, sail_err *err)
{
    struct metrics all = {.n = 0};
    int rc = r->eval ? evaluate_rows(r, &all, err) : SAIL_OK;
    if (!rc && r->eval_prompts) rc = evaluate_answers(r, &all, err);
    return rc ? rc : run_writer_metrics(r->writer, r->step, all.m, all.n, err);
}

static bool due(int64_t every, const struct run *r) { return every && r->step % every == 0; }

static bool saves(const struct run *r, int64_t until) { return due(r->config->save_steps, r) || r->step == until; }

/* What belongs after a step besides its metrics. */
static int after_step(struct run *r, int64_t until, sail_err *err)
{
    const sail_config *c = r->config;
    const bool last = r->step == r->total_steps;
    int64_t sample_steps = c->sample_steps ? c->sample_steps : (r->total_steps + 9) / 10;
    int rc = SAIL_OK;
    if (due(sample_steps, r) || last) rc = write_samples(r, err);
    if (!rc && (r->eval || r->eval_prompts) && (due(c->eval_steps, r) || last)) rc = evaluate(r, err);
    return rc || !saves(r, until) ? rc : checkpoint_save(r, err);
}

int run_record(struct run *r, struct step_result *result, sail_err *err)
{
    struct metrics all;
    const double start = clock_seconds();
    collect(r, result, &all);
    int rc = run_writer_metrics(r->writer, r->step, all.m, all.n, err);
    run_writer_progress(r->writer, r->step, all.m, all.n, (double)result->timing.tokens / result->timing.total, "training");
    result->timing.io = clock_seconds() - start;
    collect_timing(result, &all);
    return rc ? rc : run_writer_timing(r->writer, r->step, all.m, all.n, err);
}

static int one_step(struct run *r, int64_t until, bool same_policy, sail_err *err)
{
    struct step_result result;
    const bool first = r->step == 0;
    int rc = run_step(r, &result, err);
    if (!rc && first) rc = check_step_zero(r, &result, same_policy, err);
    if (rc) return rc;
    rc = run_record(r, &result, err);
    if (result.drift_mean > 2e-2) log_warning("step %lld: sampled and scored log-probs differ by %.3g a token on average", (long long)r->step, result.drift_mean);
    return rc ? rc : after_step(r, until, err);
}

int run_loop(struct run *r, int64_t until, sail_err *err)
{
    const sail_config *c = r->config;
    const bool same_policy = c->full || !r->reference_model ? !(c->adapter && c->ref && !strcmp(c->ref, "base")) && (!c->ref || !strcmp(c->ref, "init") || !strcmp(c->ref, "base")) : false;
    int rc = SAIL_OK;
    if (r->step == 0) rc = write_samples(r, err);
    if (!rc && r->step == 0 && r->eval_prompts) rc = evaluate(r, err); // the curve starts at the start policy
    bool stop = interrupt_asked(); // asked once a step: what is answered then is also saved
    if (until > r->total_steps) until = r->total_steps;
    while (!rc && !stop && r->step < until) {
        rc = one_step(r, until, same_policy, err);
        stop = interrupt_asked();
        if (!rc && stop && !saves(r, until)) rc = checkpoint_save(r, err);
    }
    if (!rc && stop && r->step < r->total_steps)
        return err_set(err, SAIL_FAILED, "interrupted after step %lld of %lld%s: go on with `sail %s --out %s --resume`", (long long)r->step, (long long)r->total_steps, r->step ? ", saved" : "",
                       c->command_name, c->out);
    if (rc || r->step < r->total_steps) return rc;
    if (!c->keep_best) rc = final_save(r, err);
    if (!rc) rc = run_writer_sync(r->writer, err);
    if (!rc) rc = report_write(c->out, err);
    return rc;
}
