/* Two levels (2410.15610): the run trains a reward model on answers of the policy, and the policy under that reward model. Equations: objective/two_level.c.
 *
 * A step, all three gradients at the point where it starts: the second policy takes the first one's place, answers, is judged and steps; the first answers the same prompts and steps; then the
 * reward model does. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "io/safetensors.h"
#include "train/run.h"
#include "train/statistics.h"

struct two_level {
    struct model *model;
    struct adapter *adapter;
    struct policy reward;
    struct optimizer *optimizer;
    struct optim_param *param;
    int64_t n_param;
    struct point other;           /* the policy whose turn it is not */
    struct point second;          /* the second policy as it was when the step began */
    struct objective_stats stats; /* of the reward model in this step */
    double judged;
};

int two_level_check(const struct run *r, sail_err *err)
{
    const sail_config *c = r->config;
    const char *name = r->preset->name;
    if (!(r->objective->needs & LEARNS_REWARD)) return SAIL_OK;
    if (r->mixture.pr < 1) return err_set(err, SAIL_USAGE, "method %s learns from the policy's answers alone: --mix-pr 1", name);
    if (candidates_count(r) != 2) return err_set(err, SAIL_USAGE, "method %s takes two answers of each prompt, got %lld: --num-samples 2", name, (long long)candidates_count(r));
    if (c->full) return err_set(err, SAIL_USAGE, "method %s trains two policies and a reward model: with --full these would be three more copies of the model; drop --full", name);
    if (c->replay_steps > 0) return err_set(err, SAIL_USAGE, "method %s takes one step on an answer: drop --replay-steps", name);
    if (c->eval_data) return err_set(err, SAIL_USAGE, "--eval-data: method %s has no loss on answers that are not its own: give --eval-prompts", name);
    if (c->implicit_reward || c->self_judge || (c->judge_model && !strcmp(c->judge_model, "policy")))
        return err_set(err, SAIL_USAGE, "--implicit-reward, --self-judge and --judge-model policy: method %s learns its reward from somebody else's verdicts: give a labeler", name);
    return SAIL_OK;
}

static int open_reward(struct two_level *t, const struct run *r, sail_err *err)
{
    const sail_config *c = r->config;
    const struct model_options o = {.compute = backend_compute(c->dtype), .backward = true, .reward_head = true, .micro_tokens = c->micro_tokens};
    const struct lora_options lora = run_lora(c);
    int rc = model_open(&t->model, c->model, &o, err);
    if (!rc) rc = adapter_create(&t->adapter, t->model, &lora, err);
    t->reward = (struct policy){t->model, t->adapter};
    return rc ? rc : run_open_optimizer(&t->optimizer, &t->param, &t->n_param, t->reward, c, err);
}

int two_level_open(struct run *r, sail_err *err)
{
    if (mem_alloc(&r->two_level, 1, sizeof *r->two_level, err)) return SAIL_FAILED;
    struct two_level *t = r->two_level;
    int rc = open_reward(t, r, err);
    if (!rc) rc = point_open(r, &t->other, err);
    if (!rc) rc = point_open(r, &t->second, err);
    if (!rc) point_keep(r, &t->other);
    return rc;
}

void two_level_close(struct two_level *t)
{
    if (!t) return;
    optimizer_free(t->optimizer);
    free(t->param);
    free(t->other.value);
    free(t->second.value);
    adapter_close(t->adapter);
    model_close(t->model);
    free(t);
}

void two_level_enter(struct run *r, bool second)
{
    r->params.second = second;
    point_exchange(r, &r->two_level->other);
    if (second) point_keep(r, &r->two_level->second);
}

/* How far the first policy is ahead of the second on the rows, both as they were when the step began; whose turn it is has not stepped yet. */
static int measure_lead(struct run *r, const struct sequences *s, sail_err *err)
{
    struct batch *b = &r->batch;
    struct point *away = r->params.second ? &r->two_level->other : &r->two_level->second;
    int rc = model_score(r->policy, s, b->ahead, NULL, err);
    if (rc) return rc;
    point_exchange(r, away);
    rc = model_score(r->policy, s, b->logp, NULL, err); // the column is written anew before anybody reads it
    point_exchange(r, away);
    for (int64_t i = 0; i < b->n; i++) b->ahead[i] = r->params.second ? b->logp[i] - b->ahead[i] : b->ahead[i] - b->logp[i];
    return rc;
}

/* The reward model steps at the end of this step. */
static bool due(const struct run *r) { return (r->step + 1) % r->config->reward_every == 0; }

int two_level_score(struct run *r, sail_err *err)
{
    struct two_level *t = r->two_level;
    struct batch *b = &r->batch;
    const struct sequences s = batch_sequences(b);
    int rc = b->n ? model_reward(t->reward, &s, b->learned, err) : SAIL_OK;
    b->written |= COL_LEARNED;
    if (r->params.second) { // its turn comes first
        t->stats = (struct objective_stats){0};
        t->judged = statistics_mean(b->reward, b->n).mean; // NaN where the labeler gives no rewards
        policy_zero_grad(t->reward);
    }
    if (!rc && b->n) rc = measure_lead(r, &s, err);
    if (rc || !b->n) return rc;
    struct batch scored = *b; // the same rows, their scores in place of log-probs
    scored.logp = b->learned;
    scored.written |= COL_LOGP;
    objective_eval(&objective_two_level_reward, &r->params, &scored, 1.0 / (double)b->n_pair, &t->stats);
    return due(r) ? model_accumulate(t->reward, &s, scored.coef, err) : SAIL_OK;
}

int two_level_learn(struct run *r, struct step_result *result, sail_err *err)
{
    struct two_level *t = r->two_level;
    const struct objective_stats *s = &t->stats;
    const sail_config *c = r->config;
    result->reward_loss = s->n_pair ? s->loss : NAN;
    result->reward_accuracy = s->accuracy / s->n_pair;
    result->reward_margin = s->margin / s->n_pair;
    result->judged = t->judged;
    if (!due(r)) return SAIL_OK;
    const double norm = optimizer_grad_norm(t->param, t->n_param), lr = c->reward_lr > 0 ? c->reward_lr : c->lr;
    if (!isfinite(norm) || !isfinite(s->loss)) return step_refuse(r, " of the reward model", s->loss, norm, err);
    const double scale = c->max_grad_norm > 0 ? optimizer_clip_scale(norm, c->max_grad_norm) : 1;
    optimizer_step(t->optimizer, t->param, t->n_param, lr * schedule_factor(&r->schedule, r->step, r->total_steps), scale);
    policy_params_changed(t->reward);
    return SAIL_OK;
}

/* What a checkpoint holds: the second policy's point, the reward model's parameters and the state of its optimizer, in this order. */
static int64_t vectors(const struct run *r, struct tensor **out, char (**name)[80], sail_err *err)
{
    struct two_level *t = r->two_level;
    const int64_t n_state = optimizer_state_count(t->optimizer), n = 1 + t->n_param + n_state;
    if (mem_alloc(out, (size_t)n, sizeof **out, err) || mem_alloc(name, (size_t)n, sizeof **name, err)) return 0;
    for (int64_t i = 0; i < n; i++) {
        struct tensor *x = &(*out)[i];
        char state[64];
        float *data = t->other.value;
        int64_t count = point_count(r);
        if (i == 0)
            snprintf((*name)[i], sizeof **name, "second");
        else if (i <= t->n_param) {
            snprintf((*name)[i], sizeof **name, "reward.%lld", (long long)i - 1);
            data = t->param[i - 1].value;
            count = t->param[i - 1].n;
        } else {
            optimizer_state_at(t->optimizer, i - 1 - t->n_param, state, &data, &count);
            snprintf((*name)[i], sizeof **name, "optimizer.%s", state);
        }
        *x = (struct tensor){.name = (*name)[i], .dtype = DTYPE_F32, .n_dim = 1, .dim = {count}, .data = data};
    }
    return n;
}

int two_level_write(const struct run *r, const char *folder, sail_err *err)
{
    struct tensor *x = NULL;
    char(*name)[80] = NULL, *path = path_join(folder, "two_level.safetensors");
    const int64_t n = vectors(r, &x, &name, err);
    int rc = n ? safetensors_write(path, x, n, NULL, 0, err) : SAIL_FAILED;
    free(x);
    free(name);
    free(path);
    return rc;
}

int two_level_read(struct run *r, const char *folder, sail_err *err)
{
    struct two_level *t = r->two_level;
    struct safetensors s;
    struct tensor *x = NULL;
    char(*name)[80] = NULL, *path = path_join(folder, "two_level.safetensors");
    int rc = safetensors_open(&s, path, err);
    free(path);
    if (rc) return rc;
    const int64_t n = vectors(r, &x, &name, err);
    if (!n) rc = SAIL_FAILED;
    for (int64_t i = 0; !rc && i < n; i++) {
        const struct tensor *got = safetensors_find(&s, x[i].name);
        if (!got || got->dtype != DTYPE_F32 || tensor_count(got) != x[i].dim[0])
            rc = err_set(err, SAIL_FAILED, "%s: '%s': expected %lld values of f32, got %s", s.path, x[i].name, (long long)x[i].dim[0], got ? "another shape or type" : "none");
        else
            memcpy(x[i].data, got->data, (size_t)x[i].dim[0] * sizeof(float));
    }
    if (!rc) policy_params_changed(t->reward);
    free(x);
    free(name);
    safetensors_close(&s);
    return rc;
}

/* Both policies have stepped as often as the run, the reward model once in --reward-every steps. */
void two_level_resume(struct run *r)
{
    r->two_level->other.steps = optimizer_steps(r->optimizer);
    optimizer_set_steps(r->two_level->optimizer, r->step / r->config->reward_every);
}

int two_level_save(const struct run *r, sail_err *err)
{
    char *path = path_join(r->config->out, "reward");
    int rc = adapter_save(r->two_level->adapter, path, err);
    free(path);
    return rc;
}

struct model_memory two_level_memory(const struct run *r, size_t *trained, size_t *state)
{
    const struct two_level *t = r->two_level;
    *trained = 0;
    for (int64_t i = 0; i < t->n_param; i++) *trained += (size_t)t->param[i].n * 8; // value and gradient
    *state = (size_t)(optimizer_state_values(t->optimizer) + 2 * point_count(r)) * sizeof(float);
    return model_memory((struct policy){t->model, t->adapter}, 0);
}
