#include "train/rewarder.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "label/ensemble.h"
#include "train/author.h"
#include "train/evaluators.h"
#include "train/local_judge.h"

enum { MAX_ANSWERS = 64 }; /* of one request */

/* A labeler of texts, a reward model, or several rewarders as one. */
struct rewarder {
    char *name; /* of an evaluator; NULL: it is none */
    struct labeler *labeler;
    struct scoring {
        struct model *model;
        struct text_pipeline text; /* its own tokenizer, when it is not the policy's */
        bool own_tokenizer;
        double sign;
    } scoring;
    struct ensemble ensemble;
    struct rewarder *member[MAX_EVALUATORS]; /* (ensemble.n) */
    struct authors authors; /* of the judges below */
    bool warned;
    const struct text_pipeline *text;
    struct buf completion[MAX_ANSWERS], prompt, id;
    struct ids scored; /* of the text that the reward model reads */
};

static int open_scoring(struct scoring *s, const sail_config *config, const struct text_pipeline *policy, sail_err *err)
{
    const char *path = config->reward_model;
    const struct model_options o = {.compute = config->dtype && config->dtype[0] == 'b' ? DTYPE_BF16 : DTYPE_F32};
    int rc = model_open(&s->model, path, &o, err);
    if (rc) return rc;
    const struct model_facts *f = model_facts(s->model);
    if (!f->reward_head)
        return err_set(err, SAIL_USAGE, "--reward-model %s: expected a ...ForSequenceClassification model, got %s without a score head", path, f->family);
    s->sign = config->reward_sign;
    s->own_tokenizer = tokenizer_exists(path) && !text_pipeline_same_tokenizer(config->model, path);
    if (s->own_tokenizer && !policy->tokenizer) {
        s->own_tokenizer = false; // nothing is open yet
        return err_set(err, SAIL_USAGE, "--reward-model %s reads texts by its own tokenizer, and %s has none to make texts of its ids: put its tokenizer.json into that folder, or, "
                       "where both have the same ids, take the reward model's away", path, config->model);
    }
    if (!tokenizer_exists(path) && policy->tokenizer && tokenizer_size(policy->tokenizer) > f->vocab)
        return err_set(err, SAIL_USAGE, "--reward-model %s has no tokenizer, so that it would read the ids of %s, and knows %lld ids where that has %d: put the reward model's tokenizer.json "
                       "into its folder", path, config->model, (long long)f->vocab, (int)tokenizer_size(policy->tokenizer));
    if (s->own_tokenizer) rc = text_pipeline_open(&s->text, path, f->eos, f->n_eos, config, err);
    return rc;
}

int rewarder_given(const sail_config *c)
{
    return (c->reward_rule != NULL) + (c->reward_table != NULL) + (c->labeler_command != NULL) + (c->reward_model != NULL) + (c->evaluators || c->judge_model) + (strcmp(c->final_answer, "none") != 0);
}

static int open_text_judge(struct labeler **out, struct authors *authors, const sail_config *c, const struct text_pipeline *text, struct run_policies run, sail_err *err)
{
    struct author *author;
    struct judge_writer writer;
    int rc = author_find(&author, authors, c, text, run, err);
    if (!rc) rc = local_judge_open(&writer, c, author, run.policy != NULL, err);
    return rc ? rc : labeler_judge_open(out, c->judge_rubric, c->judge_role, (int)c->judge_samples, &writer, err);
}

static int open_single(struct rewarder *r, struct authors *authors, const sail_config *c, struct run_policies run, sail_err *err)
{
    if (!strcmp(c->final_answer, "majority") && c->command != CMD_ALIGN)
        return err_set(err, SAIL_USAGE, "--final-answer majority is taken over all answers that a training step samples of a prompt: --final-answer gold");
    if (c->quorum) return err_set(err, SAIL_USAGE, "--quorum %lld, and there is one labeler: give --evaluators, or several models to --reward-model", (long long)c->quorum);
    if (c->reward_model) return open_scoring(&r->scoring, c, r->text, err);
    if (!r->text->tokenizer) return err_set(err, SAIL_USAGE, "%s: a labeler of texts needs the model's tokenizer (tokenizer.json), and there is none", c->model);
    if (c->judge_model) return open_text_judge(&r->labeler, authors, c, r->text, run, err);
    if (c->reward_rule) return labeler_rule_open(&r->labeler, c->reward_rule, err);
    if (c->reward_table) return labeler_table_open(&r->labeler, c->reward_table, err);
    if (c->labeler_command) return labeler_command_open(&r->labeler, c->labeler_command, c->labeler_deadline, err);
    return labeler_final_answer_open(&r->labeler, !strcmp(c->final_answer, "gold"), c->majority_share, err);
}

static int open_one(struct rewarder **out, const char *name, struct authors *authors, const sail_config *config, const struct text_pipeline *text, struct run_policies run, sail_err *err);

static int open_ensemble(struct rewarder *r, struct authors *authors, const sail_config *c, struct run_policies run, sail_err *err)
{
    struct evaluators all;
    int rc = evaluators_read(&all, c, err);
    if (!rc) rc = evaluators_combine(&r->ensemble, &all, c, err);
    if (rc) r->ensemble.n = 0;
    for (int k = 0; !rc && k < r->ensemble.n; k++) {
        rc = open_one(&r->member[k], all.of[k].name, authors, all.of[k].config, r->text, run, err);
        if (!rc && r->ensemble.rule != ENSEMBLE_VOTE && rewarder_compares(r->member[k]))
            rc = err_set(err, SAIL_USAGE, "it compares two answers, and --reward-combine %s is about rewards: vote", c->reward_combine);
        if (rc && c->evaluators) err_context(err, "--evaluators %s: %s", c->evaluators, all.of[k].name);
    }
    evaluators_release(&all);
    return rc;
}

static int open_one(struct rewarder **out, const char *name, struct authors *authors, const sail_config *config, const struct text_pipeline *text, struct run_policies run, sail_err *err)
{
    struct rewarder *r;
    *out = NULL;
    int rc = mem_alloc(&r, 1, sizeof *r, err);
    if (rc) return rc;
    r->text = text;
    r->name = name ? mem_strdup(name) : NULL;
    if (!authors) authors = &r->authors;
    rc = evaluators_given(config) ? open_ensemble(r, authors, config, run, err) : open_single(r, authors, config, run, err);
    if (rc)
        rewarder_close(r);
    else
        *out = r;
    return rc;
}

int rewarder_open(struct rewarder **out, const sail_config *config, const struct text_pipeline *text, struct run_policies run, sail_err *err)
{
    *out = NULL;
    if (!rewarder_given(config)) return SAIL_OK;
    if (rewarder_given(config) > 1) return err_set(err, SAIL_USAGE, "one labeler at a time: " REWARDERS " (none)");
    return open_one(out, NULL, NULL, config, text, run, err);
}

void rewarder_close(struct rewarder *r)
{
    if (!r) return;
    labeler_close(r->labeler);
    for (int k = 0; k < r->ensemble.n; k++) rewarder_close(r->member[k]);
    authors_close(&r->authors);
    model_close(r->scoring.model);
    if (r->scoring.own_tokenizer) text_pipeline_close(&r->scoring.text);
    for (int k = 0; k < MAX_ANSWERS; k++) buf_release(&r->completion[k]);
    buf_release(&r->prompt);
    buf_release(&r->id);
    ids_release(&r->scored);
    free(r->name);
    free(r);
}

const char *rewarder_name(const struct rewarder *r) { return r->ensemble.n ? "ensemble" : r->labeler ? labeler_name(r->labeler) : "reward model"; }

/* Adds what a model holds to `sum`, whose activations are those of the largest. */
static void add_model(struct model_memory *sum, struct model *model)
{
    if (!model) return;
    const struct model_memory m = model_memory((struct policy){.model = model}, 0);
    sum->weights += m.weights;
    sum->layouts += m.layouts;
    if (m.activations > sum->activations) sum->activations = m.activations;
}

static void add_models(struct model_memory *sum, const struct rewarder *r)
{
    add_model(sum, r->scoring.model);
    for (const struct author *a = r->authors.first; a; a = a->next) add_model(sum, a->own);
    for (int k = 0; k < r->ensemble.n; k++) add_models(sum, r->member[k]);
}

size_t rewarder_memory(const struct rewarder *r)
{
    struct model_memory sum = {0};
    add_models(&sum, r);
    return sum.weights + sum.layouts + sum.activations;
}

bool rewarder_compares(const struct rewarder *r) { return r->labeler ? labeler_compares(r->labeler) : r->ensemble.n && r->ensemble.rule == ENSEMBLE_VOTE; }

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
    if (r->name) buf_printf(&r->id, "%s:", r->name); // evaluators that are asked the same draw verdicts of their own
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

/* One score: the policy's ids as they are, or the texts through the reward model's own tokenizer, where an answer that ended by itself ends with the reward model's own EOS, as text answers do. */
static int score_one(struct rewarder *r, const struct reward_request *q, int k, double *score, sail_err *err)
{
    const struct scoring *j = &r->scoring;
    struct ids *own = &r->scored;
    int64_t n_prompt = q->n_prompt, n_tok = q->n_tok[k];
    int rc = SAIL_OK;
    own->n = 0;
    if (j->own_tokenizer) {
        rc = decode_all(r, q, err);
        const char *prompt = q->prompt_text ? q->prompt_text : text_of(&r->prompt);
        if (!rc) rc = tokenizer_leading_specials(j->text.tokenizer, own, err);
        if (!rc) rc = tokenizer_encode(j->text.tokenizer, prompt, strlen(prompt), false, own, err);
        n_prompt = (int64_t)own->n;
        if (!rc) rc = tokenizer_encode(j->text.tokenizer, text_of(&r->completion[k]), r->completion[k].len, false, own, err);
        if (!rc && q->finish[k] == FINISH_EOS && j->text.options.eos >= 0) rc = ids_push(own, j->text.options.eos, err);
        n_tok = (int64_t)own->n - n_prompt;
    } else {
        for (int64_t i = 0; !rc && i < n_prompt; i++) rc = ids_push(own, q->prompt[i], err);
        for (int64_t i = 0; !rc && i < n_tok; i++) rc = ids_push(own, q->ids[k][i], err);
    }
    if (!rc && n_tok > 0) rc = model_check(j->model, own->id, n_prompt, n_tok, "reward model", err);
    if (!rc && n_tok > 0) {
        const int32_t *ids = own->id, np = (int32_t)n_prompt, nt = (int32_t)n_tok, group = 0;
        const struct sequences s = {.n = 1, .ids = &ids, .n_prompt = &np, .n_tok = &nt, .group = &group};
        rc = model_reward((struct policy){.model = j->model}, &s, score, err);
        *score *= j->sign;
    }
    return rc;
}

static int ask_members(struct rewarder *r, const struct reward_request *q, double *reward, double *p, sail_err *err)
{
    double all[MAX_EVALUATORS * MAX_ANSWERS], first[MAX_EVALUATORS];
    for (int k = 0; k < r->ensemble.n; k++) {
        int rc = rewarder_ask(r->member[k], q, all + k * q->n, &first[k], err);
        if (rc) return r->member[k]->name ? err_context(err, "%s", r->member[k]->name) : rc;
        if (isnan(first[k]) || r->ensemble.rule == ENSEMBLE_VOTE || r->warned) continue;
        r->warned = true;
        log_warning("evaluator %s says which of two answers wins and gives no rewards, which --reward-combine vote reads alone: it has no verdict here", r->member[k]->name);
    }
    struct label_answer a = {.reward = reward, .p = NAN};
    ensemble_combine(&r->ensemble, q->n, all, first, &a);
    *p = a.p;
    return SAIL_OK;
}

int rewarder_ask(struct rewarder *r, const struct reward_request *q, double *reward, double *p, sail_err *err)
{
    BUG_ON(q->n > MAX_ANSWERS, "%d completions in one request", q->n);
    *p = NAN;
    for (int k = 0; k < q->n; k++) reward[k] = NAN;
    if (r->ensemble.n) return ask_members(r, q, reward, p, err);
    if (r->labeler) return ask_labeler(r, q, reward, p, err);
    for (int k = 0; k < q->n; k++) {
        int rc = score_one(r, q, k, &reward[k], err);
        if (rc) return rc;
    }
    return SAIL_OK;
}
