#include "train/rewarder.h"

#include <math.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "label/labeler.h"
#include "model/model.h"

struct rewarder {
    struct labeler *labeler; /* judges texts */
    struct model *model;     /* judges ids: a reward model */
    double sign;
    struct text_pipeline reward_text; /* the reward model's own tokenizer, when it is not the policy's */
    bool own_tokenizer;
    const struct text_pipeline *text;
    struct buf completion[2], prompt, id;
};

static int open_model(struct rewarder *r, const sail_config *config, sail_err *err)
{
    const struct model_options o = {.compute = config->dtype && config->dtype[0] == 'b' ? DTYPE_BF16 : DTYPE_F32};
    int rc = model_open(&r->model, config->reward_model, &o, err);
    if (rc) return rc;
    const struct model_facts *f = model_facts(r->model);
    if (!f->reward_head)
        return err_set(err, SAIL_USAGE, "--reward-model %s: expected a ...ForSequenceClassification model, got %s without a score head", config->reward_model, f->family);
    r->sign = config->reward_sign;
    r->own_tokenizer = tokenizer_exists(config->reward_model) && !text_pipeline_same_tokenizer(config->model, config->reward_model);
    if (r->own_tokenizer) rc = text_pipeline_open(&r->reward_text, config->reward_model, f->eos, f->n_eos, err);
    return rc;
}

int rewarder_open(struct rewarder **out, const sail_config *config, const struct text_pipeline *text, sail_err *err)
{
    *out = NULL;
    const int n = (config->reward_rule != NULL) + (config->reward_table != NULL) + (config->labeler_command != NULL) + (config->reward_model != NULL);
    if (!n) return SAIL_OK;
    if (n > 1) return err_set(err, SAIL_USAGE, "one labeler at a time: --reward-rule, --reward-table, --labeler-command or --reward-model");
    struct rewarder *r;
    if (mem_alloc(&r, 1, sizeof *r, err)) return SAIL_FAILED;
    r->text = text;
    int rc = SAIL_OK;
    if (config->reward_model)
        rc = open_model(r, config, err);
    else if (!text->tokenizer)
        rc = err_set(err, SAIL_USAGE, "%s: a labeler of texts needs the model's tokenizer (tokenizer.json), and there is none", config->model);
    else if (config->reward_rule)
        rc = labeler_rule_open(&r->labeler, config->reward_rule, err);
    else if (config->reward_table)
        rc = labeler_table_open(&r->labeler, config->reward_table, err);
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
    model_close(r->model);
    if (r->own_tokenizer) text_pipeline_close(&r->reward_text);
    for (int k = 0; k < 2; k++) buf_release(&r->completion[k]);
    buf_release(&r->prompt);
    buf_release(&r->id);
    free(r);
}

const char *rewarder_name(const struct rewarder *r) { return r->model ? "reward model" : labeler_name(r->labeler); }

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
    const char *completion[2];
    bool finished[2];
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
                                          .n = q->n};
    struct label_answer answer = {.reward = reward, .p = NAN};
    if ((rc = labeler_ask(r->labeler, &request, &answer, err))) return rc;
    *p = answer.p;
    return SAIL_OK;
}

/* One score: the policy's ids as they are, or the texts through the reward model's own tokenizer. */
static int score_one(struct rewarder *r, const struct reward_request *q, int k, double *reward, sail_err *err)
{
    struct ids own = {0};
    int64_t n_prompt = q->n_prompt, n_tok = q->n_tok[k];
    int rc = SAIL_OK;
    if (r->own_tokenizer) {
        rc = decode_all(r, q, err);
        const char *prompt = q->prompt_text ? q->prompt_text : text_of(&r->prompt);
        if (!rc) rc = tokenizer_leading_specials(r->reward_text.tokenizer, &own, err);
        if (!rc) rc = tokenizer_encode(r->reward_text.tokenizer, prompt, strlen(prompt), false, &own, err);
        n_prompt = (int64_t)own.n;
        if (!rc) rc = tokenizer_encode(r->reward_text.tokenizer, text_of(&r->completion[k]), r->completion[k].len, false, &own, err);
        n_tok = (int64_t)own.n - n_prompt;
    } else {
        for (int64_t i = 0; !rc && i < n_prompt; i++) rc = ids_push(&own, q->prompt[i], err);
        for (int64_t i = 0; !rc && i < n_tok; i++) rc = ids_push(&own, q->ids[k][i], err);
    }
    if (!rc && n_tok > 0) rc = model_check(r->model, own.id, n_prompt, n_tok, "reward model", err);
    if (!rc && n_tok > 0) {
        const int32_t *ids = own.id, np = (int32_t)n_prompt, nt = (int32_t)n_tok, group = 0;
        const struct sequences s = {.n = 1, .ids = &ids, .n_prompt = &np, .n_tok = &nt, .group = &group};
        rc = model_reward((struct policy){.model = r->model}, &s, reward, err);
        *reward *= r->sign;
    }
    ids_release(&own);
    return rc;
}

int rewarder_ask(struct rewarder *r, const struct reward_request *q, double *reward, double *p, sail_err *err)
{
    BUG_ON(q->n > 2, "%d completions for a labeler of pairs", q->n);
    *p = NAN;
    for (int k = 0; k < q->n; k++) reward[k] = NAN;
    if (r->labeler) return ask_labeler(r, q, reward, p, err);
    for (int k = 0; k < q->n; k++) {
        int rc = score_one(r, q, k, &reward[k], err);
        if (rc) return rc;
    }
    return SAIL_OK;
}
