/* sail generate: answers to prompts, a row each in order of prompt and return. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "data/text_pipeline.h"
#include "jobs/jobs.h"
#include "sample/sampler.h"

struct generation {
    const sail_config *config;
    struct model *model;
    struct adapter *adapter;
    struct text_pipeline text;
    struct dataset *data;
    struct sampler *sampler;
    struct prompt *prompt;
    double started, told;
};

static int open_all(struct generation *g, sail_err *err)
{
    const sail_config *c = g->config;
    const enum dtype compute = backend_compute(c->dtype);
    const struct model_options o = {.compute = compute, .micro_tokens = c->micro_tokens};
    int rc = model_open(&g->model, c->model, &o, err);
    if (rc) return rc;
    const struct model_facts *f = model_facts(g->model);
    if (f->reward_head) return err_set(err, SAIL_USAGE, "--model %s is a reward model: it has no words to generate", c->model);
    if (c->adapter && (rc = adapter_open(&g->adapter, g->model, c->adapter, false, err))) return rc;
    if ((rc = text_pipeline_open(&g->text, c->model, f->eos, f->n_eos, c, err))) return rc;
    struct dataset_options d = g->text.options;
    d.want_prompts_only = true;
    if ((rc = dataset_open(&g->data, c->prompts, &d, err))) return rc;
    if (!g->data->n) return dataset_refuse(g->data, SAIL_FAILED, "prompt", err);
    if ((rc = mem_alloc(&g->prompt, (size_t)g->data->n, sizeof *g->prompt, err))) return rc;
    for (int64_t i = 0; i < g->data->n; i++) {
        const struct span s = g->data->example[i].prompt;
        g->prompt[i] = (struct prompt){.ids = dataset_ids(g->data, s), .n = s.n, .key = (uint64_t)i};
        char what[4300];
        snprintf(what, sizeof what, "%s:%lld", dataset_file(g->data, &g->data->example[i]), (long long)g->data->example[i].line);
        if ((rc = model_check_prompt(g->model, g->prompt[i].ids, s.n, what, err))) return rc;
        if (s.n + c->max_new_tokens > f->max_position)
            return err_set(err, SAIL_FAILED, "%s: %d prompt tokens and --max-new-tokens %lld are more than the model's context of %lld", what, (int)s.n, (long long)c->max_new_tokens, (long long)f->max_position);
    }
    return sampler_create(&g->sampler, g->model, err);
}

static bool progress(void *context, int64_t done, int64_t tokens)
{
    struct generation *g = context;
    const double now = clock_seconds();
    if (now - g->told > 5) {
        log_note("%lld of %lld answers, %lld tokens, %.0f tokens/s", (long long)done, (long long)(g->data->n * g->config->num_return), (long long)tokens, (double)tokens / (now - g->started));
        g->told = now;
    }
    return !interrupt_asked();
}

static int write_answer(const struct generation *g, const struct answer *y, struct file_writer *w, sail_err *err)
{
    struct buf b, text;
    buf_init(&b, 0);
    buf_init(&text, 0);
    buf_printf(&b, "{\"i\": %lld, \"k\": %lld, \"text\": ", (long long)y->i, (long long)y->k);
    int rc = g->text.tokenizer ? tokenizer_decode(g->text.tokenizer, y->ids, (size_t)y->n, true, &text, err) : SAIL_OK;
    if (g->text.tokenizer)
        buf_json_string(&b, text.data ? text.data : "", text.len);
    else
        buf_puts(&b, "null");
    buf_puts(&b, ", \"ids\": [");
    for (int32_t t = 0; t < y->n; t++) buf_printf(&b, t ? ", %d" : "%d", (int)y->ids[t]);
    buf_puts(&b, "], \"logp\": ");
    buf_json_double(&b, y->logp);
    buf_printf(&b, ", \"finish\": \"%s\"}\n", y->finish == FINISH_EOS ? "eos" : "length");
    if (!rc) rc = b.failed ? err_memory(err, b.len) : file_writer_write(w, b.data, b.len, err);
    buf_release(&b);
    buf_release(&text);
    return rc;
}

static int generate(struct generation *g, sail_err *err)
{
    const sail_config *c = g->config;
    const struct model_facts *f = model_facts(g->model);
    const struct sampler_options o = {.temperature = c->temperature, .top_k = c->top_k, .top_p = c->top_p, .greedy = c->greedy, .max_new_tokens = c->max_new_tokens,
                                      .n_return = c->num_return, .seed = (uint64_t)c->seed, .eos = f->eos, .n_eos = f->n_eos};
    const struct policy p = {g->model, g->adapter};
    struct answer *answers = NULL;
    struct file_writer w;
    int rc = file_writer_open(&w, c->out, err); // before the work: what is wrong with it is said now
    if (rc) return rc;
    g->started = g->told = clock_seconds();
    rc = sampler_run(g->sampler, p, g->prompt, g->data->n, &o, &answers, progress, g, err);
    for (int64_t k = 0; !rc && k < g->data->n * c->num_return; k++) rc = write_answer(g, &answers[k], &w, err);
    if (rc) {
        file_writer_abandon(&w);
        return rc;
    }
    return file_writer_commit(&w, err);
}

int job_generate(const sail_config *config, sail_err *err)
{
    struct generation g = {.config = config};
    backend_threads((int)config->threads);
    int rc = config_require(config, OPTION_model, err);
    if (!rc) rc = config_require(config, OPTION_prompts, err);
    if (!rc) rc = config_require(config, OPTION_out, err);
    if (!rc) rc = open_all(&g, err);
    if (!rc) rc = generate(&g, err);
    sampler_free(g.sampler);
    free(g.prompt);
    dataset_free(g.data);
    text_pipeline_close(&g.text);
    adapter_close(g.adapter);
    model_close(g.model);
    return rc;
}
