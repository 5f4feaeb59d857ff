/* Makes a run from its options: every contradiction is refused here, before any work. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "label/labeler.h"
#include "train/params.h"
#include "train/run.h"

static int read_options(struct run *r, sail_err *err)
{
    const sail_config *c = r->config;
    r->mixture = (struct mixture){c->mix_dp, c->mix_pp, c->mix_pr};
    r->reference_rule = reference_rule_find(c->ref_rule);
    BUG_ON(!r->reference_rule, "no reference rule %s", c->ref_rule);
    r->pairing = pairing_find(c->pairing);
    BUG_ON(!r->pairing, "no pairing %s", c->pairing);
    const int rc = draws_parse(&r->draws, c->logit_weights, err);
    return rc ? rc : params_read(&r->params, r->preset, c, err);
}

struct lora_options run_lora(const sail_config *c)
{
    const int64_t rank = c->lora_r ? c->lora_r : 16;
    return (struct lora_options){.r = rank, .alpha = c->lora_alpha > 0 ? c->lora_alpha : 2.0 * (double)rank, .dropout = c->lora_dropout,
                                 .rslora = c->lora_rslora, .dora = c->lora_dora, .targets = c->lora_targets, .exclude = c->lora_exclude, .layers = c->lora_layers, .rank_pattern = c->lora_rank_pattern,
                                 .alpha_pattern = c->lora_alpha_pattern, .modules_to_save = c->lora_modules_to_save, .seed = (uint64_t)c->seed};
}

static int open_models(struct run *r, sail_err *err)
{
    const sail_config *c = r->config;
    const enum dtype compute = backend_compute(c->dtype);
    const struct model_options train = {.compute = compute, .train_full = c->full, .backward = true, .reward_head = r->reward,
                                        .recompute = c->recompute, .repeat_prompts = c->repeat_prompts, .micro_tokens = c->micro_tokens};
    if (c->full && c->adapter) return err_set(err, SAIL_USAGE, "--full and --adapter: an adapter is trained, or every weight, not both");
    int rc = model_open(&r->model, c->model, &train, err);
    if (rc) return rc;
    r->policy.model = r->model;
    if (model_facts(r->model)->reward_head && !r->reward) return err_set(err, SAIL_USAGE, "--model %s is a reward model: expected a language model", c->model);
    const bool base = c->ref && !strcmp(c->ref, "base"), init = !c->ref || !strcmp(c->ref, "init");
    if (!c->full) {
        const struct lora_options lora = run_lora(c);
        rc = c->adapter ? adapter_open(&r->adapter, r->model, c->adapter, true, err) : adapter_create(&r->adapter, r->model, &lora, err);
        if (rc) return rc;
        r->policy.adapter = r->adapter;
        if (init && (c->adapter || r->reference_rule->moves) && r->needs_reference) rc = adapter_copy(&r->reference_adapter, r->adapter, err);
    }
    if (!rc && c->adapter && (r->objective->needs & COL_LOGP_INIT)) rc = adapter_copy(&r->init_adapter, r->adapter, err);
    r->init = (struct policy){.model = r->model, .adapter = r->init_adapter};
    r->reference = (struct policy){.model = r->model, .adapter = r->reference_adapter};
    if (!rc && r->needs_reference && (c->full || (!base && !init))) {
        const struct model_options frozen = {.compute = compute, .repeat_prompts = c->repeat_prompts, .micro_tokens = c->micro_tokens};
        rc = model_open(&r->reference_model, base || init ? c->model : c->ref, &frozen, err);
        if (!rc && model_facts(r->reference_model)->vocab != model_facts(r->model)->vocab)
            rc = err_set(err, SAIL_USAGE, "--ref %s: its vocabulary has %lld ids, the policy's %lld", c->ref, (long long)model_facts(r->reference_model)->vocab,
                         (long long)model_facts(r->model)->vocab);
        r->reference = (struct policy){.model = r->reference_model};
    }
    return rc;
}

static int check_rows(const struct run *r, const struct dataset *d, sail_err *err)
{
    for (int64_t i = 0; i < d->n; i++) {
        const struct example *e = &d->example[i];
        const struct span completion[3] = {e->completion, e->chosen, e->rejected};
        char what[4200];
        snprintf(what, sizeof what, "%s:%lld", dataset_file(d, e), (long long)e->line);
        int rc = d->kind == DATA_PROMPTS ? model_check_prompt(r->model, dataset_ids(d, e->prompt), e->prompt.n, what, err) : SAIL_OK;
        for (int k = 0; !rc && k < 3; k++) {
            if (!completion[k].n) continue;
            for (int64_t t = 0; !rc && t < e->prompt.n + completion[k].n; t++) {
                int32_t id = t < e->prompt.n ? dataset_ids(d, e->prompt)[t] : dataset_ids(d, completion[k])[t - e->prompt.n];
                if (id < 0 || id >= model_facts(r->model)->vocab)
                    rc = err_set(err, SAIL_FAILED, "%s: id %d is outside the model's vocabulary of %lld", what, (int)id, (long long)model_facts(r->model)->vocab);
            }
            if (!rc && e->prompt.n + completion[k].n > model_facts(r->model)->max_position)
                rc = err_set(err, SAIL_FAILED, "%s: %lld tokens, more than the model's context of %lld: lower --max-length", what,
                             (long long)(e->prompt.n + completion[k].n), (long long)model_facts(r->model)->max_position);
        }
        if (rc) return rc;
    }
    return SAIL_OK;
}

static int keep_desirable(struct dataset *d, sail_err *err)
{
    int64_t dropped;
    int rc = dataset_keep_desirable(d, &dropped, err);
    if (!rc && dropped) log_note("%s: left out %lld rows whose label is false: sft learns to write its rows", d->path, (long long)dropped);
    return rc;
}

static int open_file(struct run *r, struct dataset **out, const char *path, bool prompts, sail_err *err)
{
    if (!path) return SAIL_OK;
    struct dataset_options o = r->text.options;
    const int64_t context = model_facts(r->model)->max_position;
    o.max_length = r->longest = r->config->max_length < context ? r->config->max_length : context;
    o.max_prompt_length = r->config->max_prompt_length;
    o.want_prompts_only = prompts;
    o.assistant_only = r->config->assistant_only_loss;
    if (prompts && (!o.max_prompt_length || o.max_prompt_length > o.max_length - r->config->max_new_tokens)) {
        o.max_prompt_length = o.max_length - r->config->max_new_tokens;
        if (o.max_prompt_length < 1)
            return err_set(err, SAIL_USAGE, "--max-new-tokens %lld leaves no room for a prompt in --max-length %lld", (long long)r->config->max_new_tokens, (long long)o.max_length);
    }
    int rc = dataset_open(out, path, &o, err);
    if (!rc && r->unpaired && (*out)->kind == DATA_PREFERENCE) rc = dataset_unpair(*out, err);
    if (!rc && !prompts && r->imitates) rc = keep_desirable(*out, err);
    if (!rc && (*out)->n == 0) rc = err_set(err, SAIL_FAILED, "%s: no rows", path);
    if (!rc) rc = check_rows(r, *out, err);
    if (rc) return rc;
    const struct dataset *d = *out;
    if (d->n_truncated_prompts || d->n_truncated_completions)
        log_note("%s: cut %lld prompts and %lld completions to the length limits (%lld tokens dropped)", path, (long long)d->n_truncated_prompts,
                 (long long)d->n_truncated_completions, (long long)d->n_truncated_tokens);
    return SAIL_OK;
}

static int refuse_rows(const struct run *r, const struct dataset *d, const char *expected, sail_err *err)
{
    dataset_refuse(d, SAIL_USAGE, expected, err);
    return err_context(err, "method %s", r->preset->name);
}

static bool has_margins(const struct dataset *d)
{
    for (int64_t i = 0; i < d->n; i++)
        if (d->example[i].margin != 0) return true;
    return false;
}

static int open_data(struct run *r, sail_err *err)
{
    const sail_config *c = r->config;
    const struct model_facts *f = model_facts(r->model);
    if (c->keep_best && !c->eval_data) return err_set(err, SAIL_USAGE, "--keep-best %s needs held-out rows: give --eval-data", c->keep_best);
    const double start = clock_seconds();
    int rc = text_pipeline_open(&r->text, c->model, f->eos, f->n_eos, c, err);
    if (!rc) rc = open_file(r, &r->data, c->data, false, err);
    if (!rc) rc = open_file(r, &r->prompts, c->prompts, true, err);
    if (!rc) rc = open_file(r, &r->eval, c->eval_data, false, err);
    if (!rc) rc = open_file(r, &r->eval_prompts, c->eval_prompts, true, err);
    if (rc) return rc;
    const bool online = r->mixture.pp + r->mixture.pr > 0;
    if ((online || anchors_wanted(r)) && !r->prompts) rc = open_file(r, &r->prompts, c->data, true, err); // the data's prompts, cut to leave room for answers
    r->data_s = clock_seconds() - start;
    for (int k = 0; !rc && k < 2; k++) {
        const struct dataset *d = k ? r->eval : r->data;
        if (!d) continue;
        if (c->margin && !has_margins(d)) return err_set(err, SAIL_USAGE, "%s: --margin, but no row has a \"margin\"", d->path);
        if (r->pairs && d->kind != DATA_PREFERENCE && (k || mixture_offline(r->mixture) > 1e-12 || r->mixture.dp > 0))
            return refuse_rows(r, d, "preference rows (prompt, chosen, rejected)", err);
        if (!k && c->data_answers && (d->kind != DATA_PREFERENCE || d->n != r->prompts->n)) return err_set(err, SAIL_USAGE, "%s: --data-answers needs preference rows (prompt, chosen, rejected)", d->path);
        if (r->unpaired && d->kind != DATA_UNPAIRED)
            return refuse_rows(r, d, "rows with a label (prompt, completion, label true or false), or preference rows (prompt, chosen, rejected)", err);
        if (r->unpaired && (rc = unpaired_check(r, d, err))) return rc;
        if (!r->pairs && !r->groups && d->kind == DATA_PROMPTS) return refuse_rows(r, d, "rows with a completion", err);
    }
    return rc;
}

static int alloc_cache(struct reference_cache *cache, const struct dataset *d, sail_err *err)
{
    if (!d) return SAIL_OK;
    cache->n = d->n;
    if (mem_alloc(&cache->logp, 2 * (size_t)d->n, sizeof *cache->logp, err)) return SAIL_FAILED;
    for (int64_t i = 0; i < 2 * d->n; i++) cache->logp[i] = NAN;
    return SAIL_OK;
}

static int64_t longest_row(const struct run *r)
{
    int64_t longest = 0;
    const struct dataset *all[] = {r->data, r->eval};
    for (int k = 0; k < 2; k++)
        for (int64_t i = 0; all[k] && i < all[k]->n; i++) {
            const struct example *e = &all[k]->example[i];
            int64_t n = e->completion.n > e->chosen.n ? e->completion.n : e->chosen.n;
            if (e->rejected.n > n) n = e->rejected.n;
            if (e->prompt.n + n > longest) longest = e->prompt.n + n;
        }
    if (r->mismatched && unpaired_longest(r) > longest) longest = unpaired_longest(r);
    for (int64_t i = 0; r->prompts && i < r->prompts->n; i++)
        if (r->prompts->example[i].prompt.n + r->config->max_new_tokens > longest) longest = r->prompts->example[i].prompt.n + r->config->max_new_tokens;
    return longest;
}

static int open_buffers(struct run *r, sail_err *err)
{
    const size_t size = (size_t)r->config->batch;
    const size_t k = (size_t)candidates_count(r), rows = k * size + (anchors_wanted(r) ? size : 0), pairs = size * (r->pairing->all ? k * (k - 1) / 2 : 1);
    r->ids_capacity = longest_row(r) * (int64_t)rows;
    r->order_epoch = r->prompt_order_epoch = r->anchor_order_epoch = -1;
    r->sampled.k = (int64_t)k;
    int rc = batch_init(&r->batch, (int64_t)rows, (int64_t)pairs, err);
    if (!rc && (r->objective->needs & COL_TOKENS)) rc = batch_init_tokens(&r->batch, r->ids_capacity, err);
    if (!rc) rc = mem_alloc(&r->slice_pair, pairs, sizeof *r->slice_pair, err);
    if (!rc) rc = mem_alloc(&r->sampled.prompt, size, sizeof *r->sampled.prompt, err);
    if (!rc) rc = mem_alloc(&r->sampled.answer, size * k, sizeof *r->sampled.answer, err);
    if (!rc && r->pairing->all) rc = mem_alloc(&r->sampled.duel, pairs, sizeof *r->sampled.duel, err);
    if (!rc && r->prompts) rc = mem_alloc(&r->sampled.ids, size * k * (size_t)r->config->max_new_tokens, sizeof *r->sampled.ids, err);
    if (!rc && r->config->max_repetition < 1) rc = mem_alloc(&r->sampled.runs, (size_t)r->config->max_new_tokens, sizeof *r->sampled.runs, err);
    if (!rc) rc = mem_alloc(&r->ids, (size_t)r->ids_capacity, sizeof *r->ids, err);
    if (!rc) rc = pull_open(r, err);
    if (!rc) rc = mem_alloc(&r->online, size, sizeof *r->online, err);
    if (!rc) rc = mem_alloc(&r->drawn_prompt, size, sizeof *r->drawn_prompt, err);
    if (!rc && r->unpaired) rc = mem_alloc(&r->drawn, size, sizeof *r->drawn, err);
    if (!rc && r->data) rc = mem_alloc(&r->order, (size_t)r->data->n, sizeof *r->order, err);
    if (!rc && r->prompts) rc = mem_alloc(&r->prompt_order, (size_t)r->prompts->n, sizeof *r->prompt_order, err);
    if (!rc && r->prompts && anchors_wanted(r)) rc = mem_alloc(&r->anchor_order, (size_t)r->prompts->n, sizeof *r->anchor_order, err);
    if (!rc && r->needs_reference) rc = alloc_cache(&r->cache, r->data, err);
    if (!rc && r->needs_reference) rc = alloc_cache(&r->eval_cache, r->eval, err);
    return rc;
}

int run_open_optimizer(struct optimizer **out, struct optim_param **param, int64_t *n_param, struct policy policy, const sail_config *c, sail_err *err)
{
    struct optimizer_options o;
    enum optimizer_kind kind;
    int rc = optimizer_kind_find(&kind, c->optimizer, err);
    if (rc) return rc;
    optimizer_defaults(&o, kind);
    if (kind == OPTIM_ADAMW) {
        o.beta1 = c->beta1;
        o.beta2 = c->beta2;
        o.amsgrad = c->amsgrad;
    }
    if (kind == OPTIM_ADAMW || kind == OPTIM_RMSPROP) o.eps = c->optimizer_eps;
    o.alpha = c->smoothing;
    o.centered = c->centered;
    o.nesterov = c->nesterov;
    if (c->nesterov && (kind != OPTIM_SGD || c->momentum <= 0)) return err_set(err, SAIL_USAGE, "--nesterov needs --optimizer sgd and a --momentum above 0");
    o.weight_decay = c->weight_decay;
    o.momentum = c->momentum;
    struct param *p;
    *n_param = policy_params(policy, &p);
    if ((rc = mem_alloc(param, (size_t)*n_param, sizeof **param, err))) return rc;
    for (int64_t i = 0; i < *n_param; i++) {
        (*param)[i] = (struct optim_param){.name = p[i].name, .value = p[i].value, .grad = p[i].grad, .n = p[i].n, .n_dim = p[i].n_dim, .decay = p[i].n_dim > 1};
        memcpy((*param)[i].dim, p[i].dim, sizeof p[i].dim);
    }
    return optimizer_create(out, &o, *param, *n_param, err);
}

static int open_optimizer(struct run *r, sail_err *err)
{
    const sail_config *c = r->config;
    r->schedule = (struct schedule){.warmup = c->warmup_steps, .cycles = c->cycles, .min_rate = c->min_lr_rate, .timescale = c->timescale};
    int rc = schedule_find(&r->schedule.kind, c->schedule, err);
    if (!rc) rc = run_open_optimizer(&r->optimizer, &r->param, &r->n_param, r->policy, c, err);
    if (!rc) rc = archive_open(r, err);
    if (!rc && c->extragradient) rc = point_open(r, &r->start, err);
    return !rc && r->objective->needs & LEARNS_REWARD ? two_level_open(r, err) : rc;
}

static void plan_steps(struct run *r)
{
    const double offline = mixture_offline(r->mixture);
    r->total_steps = r->config->max_steps;
    if (!r->total_steps) r->total_steps = (int64_t)ceil(r->config->epochs * (double)r->data->n / (double)r->config->batch / offline - 1e-9);
    if (r->total_steps < 1) r->total_steps = 1;
}

static int open_sampling(struct run *r, sail_err *err)
{
    const sail_config *c = r->config;
    const struct model_facts *f = model_facts(r->model);
    r->sampling = (struct sampler_options){.temperature = c->temperature, .top_k = c->top_k, .top_p = c->top_p, .max_new_tokens = c->max_new_tokens,
                                           .n_return = c->num_samples, .seed = (uint64_t)c->seed, .eos = f->eos, .n_eos = f->n_eos};
    const bool of_reference = c->ref_samples || anchors_wanted(r);
    int rc = r->reward ? SAIL_OK : sampler_create(&r->sampler, r->model, err);
    if (!rc && r->reference_model && of_reference) rc = sampler_create(&r->reference_sampler, r->reference_model, err);
    if (rc || !r->prompts) return rc;
    int64_t longest = 1;
    for (int64_t i = 0; i < r->prompts->n; i++)
        if (r->prompts->example[i].prompt.n > longest) longest = r->prompts->example[i].prompt.n;
    if (r->mixture.pp + r->mixture.pr > 0) rc = draws_reserve(r, longest, err);
    return !rc && of_reference ? reference_reserve(r, longest, err) : rc;
}

static int choose_method(struct run *r, sail_err *err)
{
    sail_config *c = r->config;
    int rc = method_find(&r->method, c, err);
    if (rc) return rc;
    r->preset = r->method.preset;
    rc = preset_apply(r->preset, c, err);
    if (rc) return rc;
    r->objective = objective_find(r->preset->objective);
    BUG_ON(!r->objective, "preset %s names no objective", r->preset->name);
    r->reward = r->objective == &objective_reward;
    if (r->reward != (c->command == CMD_REWARD)) return err_set(err, SAIL_USAGE, "--method reward: reward models are trained by `sail reward`");
    if ((rc = read_options(r, err))) return rc;
    const uint32_t needs = objective_needs(r->objective, &r->params);
    r->pairs = (needs & COL_PAIRS) != 0;
    r->unpaired = (needs & COL_VERDICT) != 0;
    r->mismatched = (needs & COL_MISMATCH) != 0;
    r->groups = (needs & GROUPS) != 0;
    r->imitates = !r->pairs && !r->groups && !r->unpaired;
    r->needs_reference = (needs & COL_LOGP_REF) != 0;
    r->shifts = (needs & COL_SHIFT) != 0;
    if (r->mismatched && c->batch < 2)
        return err_set(err, SAIL_USAGE, "method %s estimates its reference point from the other rows of the batch: give --batch 2 or more", r->preset->name);
    return run_refuse(r, err);
}

int run_check(sail_config *config, sail_err *err)
{
    struct run r = {.config = config};
    return choose_method(&r, err);
}

static int open_all(struct run *r, sail_err *err)
{
    sail_config *c = r->config;
    int rc = config_require(c, OPTION_model, err);
    if (!rc && !c->dry_run) rc = config_require(c, OPTION_out, err);
    if (!rc) rc = choose_method(r, err);
    if (rc) return rc;
    r->best = INFINITY;
    backend_threads((int)c->threads);
    if ((rc = open_models(r, err)) || (rc = open_data(r, err))) return rc;
    if ((c->implicit_reward || c->self_judge || c->prefix_endings) && !r->text.tokenizer) return err_set(err, SAIL_USAGE, "%s: --implicit-reward, --self-judge and --prefix-endings read texts, and there is no tokenizer (tokenizer.json)", c->model);
    if ((rc = self_judge_open(&r->self_judge, c, &r->text, err))) return rc;
    if ((rc = rewarder_open(&r->rewarder, c, &r->text, (struct run_policies){&r->policy, r->needs_reference ? &r->reference : NULL}, err))) return rc;
    if (r->rewarder && r->eval_prompts && rewarder_compares(r->rewarder)) log_warning("--eval-prompts: the judge compares answers and has no reward for one: the curve is of KL and length alone");
    if ((rc = open_optimizer(r, err)) || (rc = open_sampling(r, err)) || (rc = open_buffers(r, err))) return rc;
    plan_steps(r);
    return SAIL_OK;
}

int run_open(struct run **out, const sail_config *config, sail_err *err)
{
    struct run *r;
    *out = NULL;
    if (mem_alloc(&r, 1, sizeof *r, err)) return SAIL_FAILED;
    r->config = config_copy(config);
    int rc = r->config ? open_all(r, err) : err_memory(err, sizeof *config);
    if (rc)
        run_close(r);
    else
        *out = r;
    return rc;
}

int run_label_by(struct run *r, const sail_config *labeler, sail_err *err) { return rewarder_open(&r->fitted, labeler, &r->text, (struct run_policies){0}, err); }

void run_close(struct run *r)
{
    if (!r) return;
    if (r->writer) run_writer_close(r->writer, NULL);
    sampler_free(r->sampler);
    sampler_free(r->reference_sampler);
    optimizer_free(r->optimizer);
    free(r->start.value);
    two_level_close(r->two_level);
    archive_close(r->archive);
    rewarder_close(r->rewarder);
    rewarder_close(r->fitted);
    self_judge_close(r->self_judge);
    adapter_close(r->adapter);
    adapter_close(r->reference_adapter);
    adapter_close(r->init_adapter);
    model_close(r->reference_model);
    model_close(r->model);
    dataset_free(r->data);
    dataset_free(r->prompts);
    dataset_free(r->eval);
    dataset_free(r->eval_prompts);
    text_pipeline_close(&r->text);
    batch_release(&r->batch);
    free(r->slice_pair);
    pull_close(r);
    free(r->ids);
    free(r->online);
    free(r->drawn_prompt);
    free(r->sampled.prompt);
    free(r->sampled.answer);
    free(r->sampled.duel);
    free(r->sampled.ids);
    free(r->sampled.runs);
    free(r->drawn);
    free(r->order);
    free(r->prompt_order);
    free(r->anchor_order);
    free(r->cache.logp);
    free(r->eval_cache.logp);
    free(r->param);
    sail_config_free(r->config);
    free(r);
}
