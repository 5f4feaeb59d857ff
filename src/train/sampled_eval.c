#include "train/sampled_eval.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"

static int prompts_of(const struct dataset *d, struct prompt **out, sail_err *err)
{
    if (mem_alloc(out, (size_t)d->n, sizeof **out, err)) return SAIL_FAILED;
    for (int64_t i = 0; i < d->n; i++) (*out)[i] = (struct prompt){.ids = dataset_ids(d, d->example[i].prompt), .n = d->example[i].prompt.n, .key = (uint64_t)i};
    return SAIL_OK;
}

/* Log-probs of the answers to one prompt under both policies, scored alike: what the policy gained over the reference. */
static int score_kl(struct sampled_eval *e, struct policy policy, struct policy reference, const struct prompt *prompt, const struct answer *y, int64_t i, sail_err *err)
{
    const int64_t n = e->n_return;
    int64_t tokens = 0;
    for (int64_t k = 0; k < n; k++) tokens += prompt->n + y[k].n;
    int32_t *ids = NULL, *n_prompt = NULL;
    const int32_t **row = NULL;
    double *logp = NULL;
    int rc = mem_alloc(&ids, (size_t)tokens, sizeof *ids, err);
    if (!rc) rc = mem_alloc(&n_prompt, 3 * (size_t)n, sizeof *n_prompt, err);
    if (!rc) rc = mem_alloc(&row, (size_t)n, sizeof *row, err);
    if (!rc) rc = mem_alloc(&logp, 2 * (size_t)n, sizeof *logp, err);
    int32_t *at = ids;
    for (int64_t k = 0; !rc && k < n; k++) {
        row[k] = at;
        memcpy(at, prompt->ids, (size_t)prompt->n * sizeof *at);
        memcpy(at + prompt->n, y[k].ids, (size_t)y[k].n * sizeof *at);
        at += prompt->n + y[k].n;
        n_prompt[k] = prompt->n;
        n_prompt[n + k] = y[k].n; // the second n are the answers' lengths, the third the group (0)
    }
    const struct sequences s = {.n = n, .ids = row, .n_prompt = n_prompt, .n_tok = n_prompt + n, .group = n_prompt + 2 * n};
    if (!rc) rc = model_score(policy, &s, logp, NULL, err);
    if (!rc) rc = model_score(reference, &s, logp + n, NULL, err);
    for (int64_t k = 0; !rc && k < n; k++) e->kl[i * n + k] = logp[k] - logp[n + k];
    free(ids);
    free(n_prompt);
    free(row);
    free(logp);
    return rc;
}

static int reward_one(struct sampled_eval *e, struct rewarder *rewarder, const struct dataset *d, const struct prompt *prompt, const struct answer *y, int64_t i, sail_err *err)
{
    for (int64_t k = 0; k < e->n_return; k++) {
        double p;
        const int32_t *ids = y[k].ids;
        const struct reward_request q = {.key = i * e->n_return + k,
                                         .prompt_text = d->example[i].text >= 0 ? d->text + d->example[i].text : NULL,
                                         .row = d->row ? d->row[i] : NULL,
                                         .prompt = prompt->ids,
                                         .n_prompt = prompt->n,
                                         .n = 1,
                                         .ids = &ids,
                                         .n_tok = &y[k].n,
                                         .finish = &y[k].finish};
        int rc = rewarder_ask(rewarder, &q, &e->reward[i * e->n_return + k], &p, err);
        if (rc) return rc;
    }
    return SAIL_OK;
}

int sampled_eval_compare(struct rewarder *rewarder, const struct dataset *d, int64_t i, int64_t key, struct eval_answer a, struct eval_answer b, double *p, sail_err *err)
{
    const struct example *x = &d->example[i];
    const int32_t *ids[2] = {a.ids, b.ids}, n_tok[2] = {a.n, b.n};
    const enum finish finish[2] = {a.finish, b.finish};
    double reward[2];
    const struct reward_request q = {.key = key, .prompt_text = x->text >= 0 ? d->text + x->text : NULL, .row = d->row ? d->row[i] : NULL, .prompt = dataset_ids(d, x->prompt), .n_prompt = x->prompt.n,
                                     .n = 2, .ids = ids, .n_tok = n_tok, .finish = finish};
    return rewarder_ask(rewarder, &q, reward, p, err);
}

static int keep_ids(struct sampled_eval *e, const struct answer *y, int64_t at, sail_err *err)
{
    for (int64_t k = 0; k < e->n_return; k++, at++) {
        if (mem_alloc(&e->ids[at], (size_t)y[k].n, sizeof **e->ids, err)) return SAIL_FAILED;
        memcpy(e->ids[at], y[k].ids, (size_t)y[k].n * sizeof **e->ids);
        e->n_tok[at] = y[k].n;
        e->finish[at] = y[k].finish;
    }
    return SAIL_OK;
}

static int keep_text_of(struct sampled_eval *e, const struct text_pipeline *text, const struct answer *y, int64_t i, sail_err *err)
{
    for (int64_t k = 0; k < e->n_return; k++) {
        struct buf b;
        buf_init(&b, 0);
        int rc = tokenizer_decode(text->tokenizer, y[k].ids, (size_t)y[k].n, true, &b, err);
        e->text[i * e->n_return + k] = mem_strdup(b.data ? b.data : "");
        buf_release(&b);
        if (rc) return rc;
    }
    return SAIL_OK;
}

int sampled_eval_run(struct sampled_eval *e, struct sampler *sampler, struct policy policy, struct policy reference, const struct dataset *d,
                     const struct text_pipeline *text, struct rewarder *rewarder, const struct sampler_options *o, bool keep_text,
                     bool (*progress)(void *, int64_t, int64_t), void *context, sail_err *err)
{
    const int64_t n = d->n * o->n_return;
    *e = (struct sampled_eval){.n_prompt = d->n, .n_return = o->n_return};
    struct prompt *prompt = NULL;
    struct answer *answers = NULL;
    int rc = prompts_of(d, &prompt, err);
    if (!rc) rc = mem_alloc(&e->reward, (size_t)n, sizeof *e->reward, err);
    if (!rc) rc = mem_alloc(&e->kl, (size_t)n, sizeof *e->kl, err);
    if (!rc) rc = mem_alloc(&e->ids, (size_t)n, sizeof *e->ids, err);
    if (!rc) rc = mem_alloc(&e->n_tok, (size_t)n, sizeof *e->n_tok, err);
    if (!rc) rc = mem_alloc(&e->finish, (size_t)n, sizeof *e->finish, err);
    if (!rc && keep_text) rc = mem_alloc(&e->text, (size_t)n, sizeof *e->text, err);
    for (int64_t i = 0; !rc && i < n; i++) e->reward[i] = e->kl[i] = NAN;
    if (!rc) rc = sampler_run(sampler, policy, prompt, d->n, o, &answers, progress, context, err);
    for (int64_t i = 0; !rc && i < d->n; i++) rc = keep_ids(e, &answers[i * o->n_return], i * o->n_return, err);
    for (int64_t i = 0; !rc && i < d->n; i++) {
        const struct answer *y = &answers[i * o->n_return];
        if (reference.model) rc = score_kl(e, policy, reference, &prompt[i], y, i, err);
        if (!rc && rewarder && !rewarder_compares(rewarder)) rc = reward_one(e, rewarder, d, &prompt[i], y, i, err);
        if (!rc && keep_text && text->tokenizer) rc = keep_text_of(e, text, y, i, err);
        for (int64_t k = 0; !rc && k < o->n_return; k++) {
            e->length += (double)y[k].n / (double)n;
            e->eos_share += (y[k].finish == FINISH_EOS) / (double)n;
        }
    }
    free(prompt);
    if (rc) sampled_eval_release(e);
    return rc;
}

void sampled_eval_release(struct sampled_eval *e)
{
    for (int64_t i = 0; e->text && i < e->n_prompt * e->n_return; i++) free(e->text[i]);
    for (int64_t i = 0; e->ids && i < e->n_prompt * e->n_return; i++) free(e->ids[i]);
    free(e->text);
    free(e->ids);
    free(e->n_tok);
    free(e->finish);
    free(e->reward);
    free(e->kl);
    *e = (struct sampled_eval){0};
}

double sampled_eval_mean(const double *value, int64_t n)
{
    double sum = 0;
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++) {
        if (isnan(value[i])) continue;
        sum += value[i];
        count++;
    }
    return count ? sum / (double)count : NAN;
}
