#include "train/author.h"

#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "base/err.h"
#include "base/mem.h"

static int open_author(struct author *a, const sail_config *c, const struct text_pipeline *text, struct run_policies run, sail_err *err)
{
    const bool policy = !strcmp(a->name, "policy"), reference = !strcmp(a->name, "reference");
    if (policy && !run.policy) return err_set(err, SAIL_USAGE, "--judge-model policy: nothing is trained here: name the judge's folder");
    if (reference && !run.reference) return err_set(err, SAIL_USAGE, "--judge-model reference: there is no reference here: name the judge's folder%s", run.policy ? ", or take policy" : "");
    a->text = text;
    if (policy || reference) {
        a->policy = policy ? run.policy : run.reference;
    } else {
        const struct model_options o = {.compute = backend_compute(c->dtype), .micro_tokens = c->micro_tokens};
        int rc = model_open(&a->own, a->name, &o, err);
        if (rc) return rc;
        const struct model_facts *f = model_facts(a->own);
        if (f->reward_head) return err_set(err, SAIL_USAGE, "--judge-model %s is a reward model, which writes no verdicts: give it as --reward-model", a->name);
        rc = text_pipeline_open(&a->own_text, a->name, f->eos, f->n_eos, c, err);
        if (rc) return rc;
        a->text = &a->own_text;
        a->self = (struct policy){.model = a->own};
        a->policy = &a->self;
    }
    if (!a->text->tokenizer) return err_set(err, SAIL_USAGE, "--judge-model %s: a judge writes text and needs a tokenizer (tokenizer.json), and there is none", a->name);
    return sampler_create(&a->sampler, a->policy->model, err);
}

int author_find(struct author **out, struct authors *all, const sail_config *config, const struct text_pipeline *text, struct run_policies run, sail_err *err)
{
    for (struct author *a = all->first; a; a = a->next)
        if (!strcmp(a->name, config->judge_model)) return *out = a, SAIL_OK;
    struct author *a;
    int rc = mem_alloc(&a, 1, sizeof *a, err);
    if (rc) return rc;
    a->name = mem_strdup(config->judge_model);
    a->next = all->first;
    all->first = a;
    *out = a;
    return open_author(a, config, text, run, err);
}

void authors_close(struct authors *all)
{
    for (struct author *a = all->first, *next; a; a = next) {
        next = a->next;
        sampler_free(a->sampler);
        if (a->own) text_pipeline_close(&a->own_text);
        model_close(a->own);
        free(a->name);
        free(a);
    }
    all->first = NULL;
}
