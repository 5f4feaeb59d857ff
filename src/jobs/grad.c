/* sail grad: the gradient of one batch, no optimizer; every trainable tensor under its name in the model's (or the adapter's) file. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "data/text_pipeline.h"
#include "io/safetensors.h"
#include "jobs/jobs.h"
#include "jobs/rows.h"
#include "label/labeler.h"
#include "objective/objective.h"
#include "train/params.h"
#include "train/preset.h"
#include "train/run.h"

struct gradient {
    sail_config *config;
    struct method method;
    const struct objective *objective;
    uint32_t needs;
    struct objective_params params;
    struct model *model, *reference_model;
    struct adapter *adapter;
    struct policy policy, reference;
    struct text_pipeline text;
    struct dataset *data;
    struct batch batch;
    struct row_pool pool;
    struct objective_stats stats;
};

static int find_objective(struct gradient *g, sail_err *err)
{
    int rc = method_find(&g->method, g->config, err);
    const struct preset *p = g->method.preset;
    if (!rc) rc = preset_apply(p, g->config, err);
    if (rc) return rc;
    g->objective = objective_find(p->objective);
    if (g->objective->needs & (GROUPS | COL_WIN_RATE | COL_LOGP_INIT | LEARNS_REWARD))
        return err_set(err, SAIL_USAGE, "--method %s learns from sampled answers and from what a run has gone through, which data rows do not have: its gradient is that of `sail align` only", p->name);
    if (g->objective->needs & COL_TOKENS) return err_set(err, SAIL_USAGE, "--method %s weighs token by token: its gradient is that of `sail align` only", p->name);
    if (g->objective->needs & READS_OPPONENT) return err_set(err, SAIL_USAGE, "--method %s compares its pairs with an opponent, which data rows do not have: its gradient is that of `sail align` only", p->name);
    rc = params_read(&g->params, p, g->config, err);
    g->needs = objective_needs(g->objective, &g->params);
    return rc;
}

static int refuse_rows(const struct gradient *g, const char *expected, sail_err *err)
{
    dataset_refuse(g->data, SAIL_FAILED, expected, err);
    return err_context(err, "--method %s", g->config->method);
}

static int open_all(struct gradient *g, sail_err *err)
{
    const sail_config *c = g->config;
    const enum dtype compute = c->dtype ? backend_compute(c->dtype) : DTYPE_F32;
    const struct model_options o = {.compute = compute, .train_full = !c->adapter, .backward = true, .recompute = c->recompute, .reward_head = c->adapter && adapter_is_reward(c->adapter), .micro_tokens = c->micro_tokens};
    int rc = model_open(&g->model, c->model, &o, err);
    if (rc) return rc;
    const struct model_facts *f = model_facts(g->model);
    const bool reward = g->objective == &objective_reward;
    if (f->reward_head != reward)
        return err_set(err, SAIL_USAGE, "--method %s on %s: %s", c->method, c->model, reward ? "expected a ...ForSequenceClassification model" : "expected a language model, got a reward model");
    if (c->adapter && (rc = adapter_open(&g->adapter, g->model, c->adapter, true, err))) return rc;
    g->policy = (struct policy){g->model, g->adapter};
    const bool needs = (g->needs & COL_LOGP_REF) != 0;
    if (needs && !c->ref && !c->adapter) return err_set(err, SAIL_USAGE, "--method %s needs a reference policy: --ref DIR", c->method);
    if (needs && c->ref) {
        const struct model_options frozen = {.compute = compute, .micro_tokens = c->micro_tokens};
        if ((rc = model_open(&g->reference_model, c->ref, &frozen, err))) return rc;
        if (model_facts(g->reference_model)->vocab != f->vocab) return err_set(err, SAIL_USAGE, "--ref %s: another vocabulary than %s", c->ref, c->model);
    }
    g->reference = (struct policy){g->reference_model ? g->reference_model : g->model, NULL};
    if ((rc = text_pipeline_open(&g->text, c->model, f->eos, f->n_eos, c, err))) return rc;
    if ((rc = dataset_open(&g->data, c->data, &g->text.options, err))) return rc;
    const bool sft = g->objective == objective_find("sft");
    if (g->data->n == 0) return dataset_refuse(g->data, SAIL_FAILED, "", err);
    if (g->needs & COL_VERDICT) {
        if (g->data->kind == DATA_PREFERENCE && (rc = dataset_unpair(g->data, err))) return rc;
        if (g->data->kind != DATA_UNPAIRED) return refuse_rows(g, "a label (true or false), or chosen and rejected", err);
        return rows_check(g->data, g->model, err);
    }
    if (!sft && g->data->kind != DATA_PREFERENCE) return refuse_rows(g, "chosen and rejected", err);
    int64_t dropped;
    if (sft && (rc = dataset_keep_desirable(g->data, &dropped, err))) return rc;
    if (sft && g->data->kind == DATA_PROMPTS) return refuse_rows(g, "completion, or chosen and rejected", err);
    return rows_check(g->data, g->model, err);
}

/* SFT learns the chosen answers only: the rejected rows leave. */
static void keep_chosen(struct batch *b)
{
    for (int64_t k = 0; k < b->n_pair; k++) batch_move_row(b, k, 2 * k);
    if (b->n_pair) b->n = b->n_pair;
    b->n_pair = 0;
    b->written &= ~(uint32_t)COL_PAIRS;
}

static int compute(struct gradient *g, sail_err *err)
{
    struct batch *b = &g->batch;
    const bool sft = g->objective == objective_find("sft");
    const bool unpaired = (g->needs & COL_VERDICT) != 0;
    const int64_t mismatched = g->needs & COL_MISMATCH ? model_facts(g->model)->max_position : 0;
    int rc = batch_init(b, 2 * g->data->n, g->data->n, err);
    if (!rc) rc = unpaired ? rows_fill_unpaired(b, &g->pool, g->data, mismatched, err) : rows_fill(b, &g->pool, g->data, 0, g->data->n, err);
    if (rc) return rc;
    if (sft) keep_chosen(b);
    int64_t tokens = 0;
    for (int64_t i = 0; i < b->n; i++) tokens += b->n_tok[i];
    batch_count_won(b);
    if (g->config->ld_alpha < 1) batch_public_lengths(b, g->config->ld_alpha);
    const struct sequences s = batch_sequences(b);
    struct sequences policy = s;
    if (g->config->wpo) policy.adjusted = b->adjusted;
    rc = model_facts(g->model)->reward_head ? model_reward(g->policy, &s, b->logp, err) : model_score(g->policy, &policy, b->logp, NULL, err);
    b->written |= COL_LOGP | (g->config->wpo ? COL_ADJUSTED : 0);
    if (!rc && (g->needs & COL_LOGP_REF)) {
        rc = model_score(g->reference, &s, b->logp_ref, NULL, err);
        b->written |= COL_LOGP_REF;
    }
    if (rc) return rc;
    if (g->config->wpo) wpo_weigh(b);
    if (g->params.label == LABEL_SAMPLED && g->objective == objective_find("sail")) label_self(b, 0, g->params.beta, (uint64_t)g->config->seed, 0);
    if (g->needs & COL_SHIFT) running_mean_add(&(struct running_mean){0}, b, g->params.beta);
    objective_eval(g->objective, &g->params, b, 1.0 / (double)(sft ? tokens : unpaired ? g->data->n : b->n_pair), &g->stats);
    policy_zero_grad(g->policy);
    return model_accumulate(g->policy, &s, b->coef, err);
}

static int write_gradient(const struct gradient *g, sail_err *err)
{
    struct param *p;
    struct tensor *t;
    const int64_t n = policy_params(g->policy, &p);
    double square = 0;
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < p[i].n; k++) square += (double)p[i].grad[k] * p[i].grad[k];
    if (!isfinite(g->stats.loss) || !isfinite(square))
        return err_set(err, SAIL_FAILED, "%s: the loss is %g and the gradient's norm %g: nothing written", g->config->data, g->stats.loss, sqrt(square));
    int rc = mem_alloc(&t, (size_t)n, sizeof *t, err);
    if (rc) return rc;
    for (int64_t i = 0; i < n; i++) {
        t[i] = (struct tensor){.name = p[i].name, .dtype = DTYPE_F32, .n_dim = p[i].n_dim, .data = p[i].grad};
        memcpy(t[i].dim, p[i].dim, sizeof p[i].dim);
    }
    char loss[40];
    snprintf(loss, sizeof loss, "%.17g", g->stats.loss);
    const char *const metadata[][2] = {{"loss", loss}, {"method", g->config->method}};
    rc = safetensors_write(g->config->out, t, n, metadata, 2, err);
    free(t);
    return rc;
}

int job_grad(const sail_config *config, sail_err *err)
{
    struct gradient g = {.config = config_copy(config)};
    backend_threads((int)config->threads);
    int rc = g.config ? config_require(config, OPTION_model, err) : err_memory(err, sizeof *config);
    if (!rc) rc = config_require(config, OPTION_data, err);
    if (!rc) rc = config_require(config, OPTION_out, err);
    if (!rc) rc = find_objective(&g, err);
    if (!rc) rc = open_all(&g, err);
    if (!rc) rc = compute(&g, err);
    if (!rc) rc = write_gradient(&g, err);
    batch_release(&g.batch);
    row_pool_release(&g.pool);
    dataset_free(g.data);
    text_pipeline_close(&g.text);
    adapter_close(g.adapter);
    model_close(g.reference_model);
    model_close(g.model);
    sail_config_free(g.config);
    return rc;
}
