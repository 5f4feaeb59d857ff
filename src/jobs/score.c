/* sail score: log-probs of given completions, or a reward model's scores; a row out for each row in, in order. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "data/text_pipeline.h"
#include "jobs/jobs.h"
#include "jobs/rows.h"
#include "model/model.h"
#include "train/run.h"

struct scoring {
    const sail_config *config;
    struct model *model;
    struct adapter *adapter;
    struct text_pipeline text;
    struct dataset *data;
    struct batch batch;
    struct row_pool pool;
    float *token_logp;
    size_t token_capacity;
    struct file_writer out;
    int64_t n_bad; /* scores that are no numbers */
    const struct example *first_bad;
};

static int open_all(struct scoring *s, sail_err *err)
{
    const sail_config *c = s->config;
    const struct model_options o = {.compute = c->dtype ? backend_compute(c->dtype) : DTYPE_F32, .reward_head = c->adapter && adapter_is_reward(c->adapter), .micro_tokens = c->micro_tokens};
    int rc = model_open(&s->model, c->model, &o, err);
    if (rc) return rc;
    const struct model_facts *f = model_facts(s->model);
    if (c->adapter && (rc = adapter_open(&s->adapter, s->model, c->adapter, false, err))) return rc;
    if ((rc = text_pipeline_open(&s->text, c->model, f->eos, f->n_eos, c, err))) return rc;
    if ((rc = dataset_open(&s->data, c->data, &s->text.options, err))) return rc;
    if (!s->data->n || s->data->kind == DATA_PROMPTS) return dataset_refuse(s->data, SAIL_FAILED, "completion, or chosen and rejected", err);
    return rows_check(s->data, s->model, err);
}

static void put_tokens(struct buf *b, const char *prefix, const float *logp, int32_t n)
{
    buf_printf(b, ", \"%stoken_logps\": [", prefix);
    for (int32_t t = 0; t < n; t++) {
        if (t) buf_puts(b, ", ");
        buf_json_double(b, logp[t]);
    }
    buf_putc(b, ']');
}

static void put_side(const struct scoring *s, struct buf *b, const char *prefix, int64_t row, const float *token_logp)
{
    if (b->len > 1) buf_puts(b, ", ");
    if (model_facts(s->model)->reward_head) {
        buf_printf(b, "\"%sscore\": ", prefix);
        buf_json_double(b, s->batch.logp[row]);
        return;
    }
    buf_printf(b, "\"%slogp\": ", prefix);
    buf_json_double(b, s->batch.logp[row]);
    buf_printf(b, ", \"%sn\": %d", prefix, (int)s->batch.n_tok[row]);
    if (s->config->tokens) put_tokens(b, prefix, token_logp, s->batch.n_tok[row]);
}

static void count_bad(struct scoring *s, int64_t row, int64_t example)
{
    if (isfinite(s->batch.logp[row])) return;
    if (!s->n_bad++) s->first_bad = &s->data->example[example];
}

static int write_rows(struct scoring *s, int64_t from, int64_t n_example, sail_err *err)
{
    const bool pairs = s->data->kind == DATA_PREFERENCE;
    const float *t = s->token_logp;
    struct buf b;
    buf_init(&b, 0);
    int rc = SAIL_OK;
    for (int64_t i = 0; !rc && i < n_example; i++) {
        const int64_t row = pairs ? 2 * i : i;
        count_bad(s, row, from + i);
        if (pairs) count_bad(s, row + 1, from + i);
        buf_clear(&b);
        buf_putc(&b, '{');
        put_side(s, &b, pairs ? "chosen_" : "", row, t);
        t += s->batch.n_tok[row];
        if (pairs) {
            put_side(s, &b, "rejected_", row + 1, t);
            t += s->batch.n_tok[row + 1];
        }
        buf_puts(&b, "}\n");
        rc = b.failed ? err_memory(err, b.len) : file_writer_write(&s->out, b.data, b.len, err);
    }
    buf_release(&b);
    return rc;
}

static int score_batch(struct scoring *s, int64_t from, int64_t n, sail_err *err)
{
    int rc = rows_fill(&s->batch, &s->pool, s->data, from, n, err);
    if (rc) return rc;
    size_t tokens = 0;
    for (int64_t i = 0; i < s->batch.n; i++) tokens += (size_t)s->batch.n_tok[i];
    if (tokens > s->token_capacity) {
        free(s->token_logp);
        s->token_capacity = 0;
        if ((rc = mem_alloc(&s->token_logp, tokens, sizeof *s->token_logp, err))) return rc;
        s->token_capacity = tokens;
    }
    const struct policy p = {s->model, s->adapter};
    const struct sequences q = batch_sequences(&s->batch);
    rc = model_facts(s->model)->reward_head ? model_reward(p, &q, s->batch.logp, err) : model_score(p, &q, s->batch.logp, s->token_logp, err);
    return rc ? rc : write_rows(s, from, n, err);
}

static int score_all(struct scoring *s, sail_err *err)
{
    enum { BATCH = 32 };
    int rc = batch_init(&s->batch, 2 * BATCH, BATCH, err);
    if (!rc) rc = file_writer_open(&s->out, s->config->out, err);
    if (rc) return rc;
    for (int64_t from = 0; !rc && from < s->data->n; from += BATCH) {
        if (interrupt_asked()) rc = err_set(err, SAIL_FAILED, "interrupted after %lld of %lld rows: nothing written", (long long)from, (long long)s->data->n);
        if (!rc) rc = score_batch(s, from, s->data->n - from < BATCH ? s->data->n - from : BATCH, err);
    }
    if (!rc && s->n_bad)
        log_warning("%lld scores are not numbers (null in %s), the first at %s:%lld", (long long)s->n_bad, s->config->out, dataset_file(s->data, s->first_bad), (long long)s->first_bad->line);
    if (!rc) return file_writer_commit(&s->out, err);
    file_writer_abandon(&s->out);
    return rc;
}

int job_score(const sail_config *config, sail_err *err)
{
    struct scoring s = {.config = config};
    backend_threads((int)config->threads);
    int rc = config_require(config, OPTION_model, err);
    if (!rc) rc = config_require(config, OPTION_data, err);
    if (!rc) rc = config_require(config, OPTION_out, err);
    if (!rc) rc = open_all(&s, err);
    if (!rc) rc = score_all(&s, err);
    batch_release(&s.batch);
    row_pool_release(&s.pool);
    free(s.token_logp);
    dataset_free(s.data);
    text_pipeline_close(&s.text);
    adapter_close(s.adapter);
    model_close(s.model);
    return rc;
}
