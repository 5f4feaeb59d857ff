#include "train/rewarder.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "label/labeler.h"
#include "model/model.h"

enum { MAX_MODELS = 16, MAX_ANSWERS = 64 }; /* of an ensemble; of one request */
enum combine { COMBINE_MEAN, COMBINE_MIN, COMBINE_MEAN_SPREAD };

/* A reward model; one of an ensemble. */
struct judge {
    struct model *model;
    struct text_pipeline text; /* its own tokenizer, when it is not the policy's */
    bool own_tokenizer;
};

struct rewarder {
    struct labeler *labeler; /* judges texts */
    struct judge judge[MAX_MODELS]; /* judge ids */
    int n_judge;
    enum combine combine;
    double sign, spread_coef;
    const struct text_pipeline *text;
    struct buf completion[MAX_ANSWERS], prompt, id;
};

static int open_judge(struct judge *j, const sail_config *config, const char *path, sail_err *err)
{
    const struct model_options o = {.compute = config->dtype && config->dtype[0] == 'b' ? DTYPE_BF16 : DTYPE_F32};
    int rc = model_open(&j->model, path, &o, err);
    if (rc) return rc;
    const struct model_facts *f = model_facts(j->model);
    if (!f->reward_head)
        return err_set(err, SAIL_USAGE, "--reward-model %s: expected a ...ForSequenceClassification model, got %s without a score head", path, f->family);
    j->own_tokenizer = tokenizer_exists(path) && !text_pipeline_same_tokenizer(config->model, path);
    if (j->own_tokenizer) rc = text_pipeline_open(&j->text, path, f->eos, f->n_eos, config, err);
    return rc;
}

static int open_judges(struct rewarder *r, const sail_config *config, sail_err *err)
{
    char *paths = mem_strdup(config->reward_model);
    int rc = SAIL_OK;
    r->sign = config->reward_sign;
    r->spread_coef = config->spread_coef;
    r->combine = !strcmp(config->reward_combine, "min") ? COMBINE_MIN : !strcmp(config->reward_combine, "mean") ? COMBINE_MEAN : COMBINE_MEAN_SPREAD;
    for (char *path = paths, *next; !rc && path; path = next) {
        next = strchr(path, ',');
        if (next) *next++ = '\0';
        if (!*path)
            rc = err_set(err, SAIL_USAGE, "--reward-model %s: a name between the commas is empty", config->reward_model);
        else if (r->n_judge == MAX_MODELS)
            rc = err_set(err, SAIL_USAGE, "--reward-model: expected at most %d models", MAX_MODELS);
        else
            rc = open_judge(&r->judge[r->n_judge++], config, path, err);
    }
    free(paths);
    return rc;
}

/* One reward from the models' scores. The spread is the standard deviation over the models (divided by n). */
static double combined(const struct rewarder *r, const double *score)
{
    double mean = 0, least = score[0], square = 0;
    for (int k = 0; k < r->n_judge; k++) {
        mean += score[k] / r->n_judge;
        least = fmin(least, score[k]);
    }
    for (int k = 0; k < r->n_judge; k++) square += (score[k] - mean) * (score[k] - mean) / r->n_judge;
    return r->combine == COMBINE_MIN ? least : r->combine == COMBINE_MEAN ? mean : mean - r->spread_coef * sqrt(square);
}

int rewarder_given(const sail_config *c)
{
    return (c->reward_rule != NULL) + (c->reward_table != NULL) + (c->labeler_command != NULL) + (c->reward_model != NULL) + (c->judge_model != NULL) + (strcmp(c->final_answer, "none") != 0);
}

static int open_text_judge(struct rewarder *r, const sail_config *config, struct run_policies run, sail_err *err)
{
    struct judge_writer writer;
    int rc = local_judge_open(&writer, config, r->text, run, err);
    return rc ? rc : labeler_judge_open(&r->labeler, config->judge_rubric, (int)config->judge_samples, &writer, err);
}

int rewarder_open(struct rewarder **out, const sail_config *config, const struct text_pipeline *text, struct run_policies run, sail_err *err)
{
    *out = NULL;
    if (!rewarder_given(config)) return SAIL_OK;
    if (rewarder_given(config) > 1) return err_set(err, SAIL_USAGE, "one labeler at a time: " REWARDERS " (none)");
    if (!strcmp(config->final_answer, "majority") && config->command != CMD_ALIGN)
        return err_set(err, SAIL_USAGE, "--final-answer majority is taken over all answers that a training step samples of a prompt: --final-answer gold");
    struct rewarder *r;
    if (mem_alloc(&r, 1, sizeof *r, err)) return SAIL_FAILED;
    r->text = text;
    int rc = SAIL_OK;
    if (config->reward_model)
        rc = open_judges(r, config, err);
    else if (!text->tokenizer)
        rc = err_set(err, SAIL_USAGE, "%s: a labeler of texts needs the model's tokenizer (tokenizer.json), and there is none", config->model);
    else if (config->judge_model)
        rc = open_text_judge(r, config, run, err);
    else if (config->reward_rule)
        rc = labeler_rule_open(&r->labeler, config->reward_rule, err);
    else if (config->reward_table)
        rc = labeler_table_open(&r->labeler, config->reward_table, err);
    else if (!config->labeler_command)
        rc = labeler_final_answer_open(&r->labeler, !strcmp(config->final_answer, "gold"), config->majority_share, err);
    else
        rc = labeler_command_open(&r->labeler, config->labeler_command, config->labeler_deadline, err);
    if (rc) {
        rewarder_close(r);
        return rc;
    }
    *out = r;
    return SAIL_OK;
}

void rewarder_close(struct rewarder *r)
{
    if (!r) return;
    labeler_close(r->labeler);
    for (int k = 0; k < r->n_judge; k++) {
        model_close(r->judge[k].model);
        if (r->judge[k].own_tokenizer) text_pipeline_close(&r->judge[k].text);
    }
    for (int k = 0; k < MAX_ANSWERS; k++) buf_release(&r->completion[k]);
    buf_release(&r->prompt);
    buf_release(&r->id);
    free(r);
}

const char *rewarder_name(const struct rewarder *r) { return r->n_judge > 1 ? "reward models" : r->n_judge ? "reward model" : labeler_name(r->labeler); }

bool rewarder_compares(const struct rewarder *r) { return r->labeler && labeler_compares(r->labeler); }

static int decode_all(struct rewarder *r, const struct reward_request *q, sail_err *err)
{
    int rc = SAIL_OK;
    for (int k = 0; !rc && k < q->n; k++) {
        buf_clear(&r->completion[k]);
        rc = tokenizer_decode(r->text->tokenizer, q->ids[k], (size_t)q->n_tok[k], true, &r->completion[k], err);
    }
    if (rc || q->prompt_text) return rc;
    buf_clear(&r->prompt);
    return tokenizer_decode(r->text->tokenizer, q->prompt, (size_t)q->n_prompt, true, &r->prompt, err);
}

static const char *text_of(const struct buf *b) { return b->data ? b->data : ""; }

static int ask_labeler(struct rewarder *r, const struct reward_request *q, double *reward, double *p, sail_err *err)
{
    int rc = decode_all(r, q, err);
    if (rc) return rc;
    const char *completion[MAX_ANSWERS];
    bool finished[MAX_ANSWERS];
    for (int k = 0; k < q->n; k++) {
        completion[k] = text_of(&r->completion[k]);
        finished[k] = q->finish[k] == FINISH_EOS;
    }
    buf_clear(&r->id);
    buf_printf(&r->id, "%lld", (long long)q->key);
    const struct label_request request = {.id = r->id.data,
                                          .prompt = q->prompt_text ? q->prompt_text : text_of(&r->prompt),
                                          .row = q->row,
                                          .completions = completion,
                                          .finished = finished,
                                          .n = q->n,
                                          .n_vote = q->n_vote};
    struct label_answer answer = {.reward = reward, .p = NAN};
    if ((rc = labeler_ask(r->labeler, &request, &answer, err))) return rc;
    *p = answer.p;
    return SAIL_OK;
}

/* One score: the policy's ids as they are, or the texts through the reward model's own tokenizer. */
static int score_one(struct rewarder *r, const struct judge *j, const struct reward_request *q, int k, double *score, sail_err *err)
{
    struct ids own = {0};
    int64_t n_prompt = q->n_prompt, n_tok = q->n_tok[k];
    int rc = SAIL_OK;
    if (j->own_tokenizer) {
        rc = decode_all(r, q, err);
        const char *prompt = q->prompt_text ? q->prompt_text : text_of(&r->prompt);
        if (!rc) rc = tokenizer_leading_specials(j->text.tokenizer, &own, err);
        if (!rc) rc = tokenizer_encode(j->text.tokenizer, prompt, strlen(prompt), false, &own, err);
        n_prompt = (int64_t)own.n;
        if (!rc) rc = tokenizer_encode(j->text.tokenizer, text_of(&r->completion[k]), r->completion[k].len, false, &own, err);
        n_tok = (int64_t)own.n - n_prompt;
    } else {
        for (int64_t i = 0; !rc && i < n_prompt; i++) rc = ids_push(&own, q->prompt[i], err);
        for (int64_t i = 0; !rc && i < n_tok; i++) rc = ids_push(&own, q->ids[k][i], err);
    }
    if (!rc && n_tok > 0) rc = model_check(j->model, own.id, n_prompt, n_tok, "reward model", err);
    if (!rc && n_tok > 0) {
        const int32_t *ids = own.id, np = (int32_t)n_prompt, nt = (int32_t)n_tok, group = 0;
        const struct sequences s = {.n = 1, .ids = &ids, .n_prompt = &np, .n_tok = &nt, .group = &group};
        rc = model_reward((struct policy){.model = j->model}, &s, score, err);
        *score *= r->sign;
    }
    ids_release(&own);
    return rc;
}

int rewarder_ask(struct rewarder *r, const struct reward_request *q, double *reward, double *p, sail_err *err)
{
    BUG_ON(q->n > MAX_ANSWERS, "%d completions in one request", q->n);
    *p = NAN;
    for (int k = 0; k < q->n; k++) reward[k] = NAN;
    if (r->labeler) return ask_labeler(r, q, reward, p, err);
    for (int k = 0; k < q->n; k++) {
        double score[MAX_MODELS] = {0};
        for (int j = 0; j < r->n_judge; j++) {
            score[j] = NAN;
            int rc = score_one(r, &r->judge[j], q, k, &score[j], err);
            if (rc) return rc;
        }
        reward[k] = combined(r, score);
    }
    return SAIL_OK;
}
