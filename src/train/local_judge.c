#include "train/local_judge.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/interrupt.h"
#include "base/log.h"

struct local_judge {
    const struct author *author;
    struct sampler_options sampling;
    struct ids *question; /* (n_room) */
    struct prompt *prompt;
    struct buf *written; /* (n_room, samples) */
    size_t n_room, n_written;
    bool warned, in_step; /* in a training step: an interrupt waits for its end */
};

static void drop_room(struct local_judge *j)
{
    for (size_t i = 0; i < j->n_room && j->question; i++) ids_release(&j->question[i]);
    for (size_t i = 0; i < j->n_written && j->written; i++) buf_release(&j->written[i]);
    free(j->question);
    free(j->prompt);
    free(j->written);
    j->question = NULL;
    j->prompt = NULL;
    j->written = NULL;
    j->n_room = j->n_written = 0;
}

static int make_room(struct local_judge *j, size_t n, size_t samples, sail_err *err)
{
    if (n <= j->n_room && n * samples <= j->n_written) return SAIL_OK;
    drop_room(j);
    j->n_room = n;
    j->n_written = n * samples;
    int rc = mem_alloc(&j->question, n, sizeof *j->question, err);
    if (!rc) rc = mem_alloc(&j->prompt, n, sizeof *j->prompt, err);
    if (!rc) rc = mem_alloc(&j->written, j->n_written, sizeof *j->written, err);
    for (size_t i = 0; !rc && i < j->n_written; i++) buf_init(&j->written[i], 0);
    return rc;
}

/* A conversation through the judge's chat template. Templates without a system role get both in the user's turn. */
static int render(const struct local_judge *j, const char *system, const char *question, struct buf *out, sail_err *err)
{
    const struct template_options o = {.add_generation_prompt = true};
    int rc = SAIL_FAILED;
    for (int apart = system ? 1 : 0; rc && apart >= 0; apart--) {
        buf_clear(out);
        char *turn = system && !apart ? mem_printf("%s\n\n%s", system, question) : mem_strdup(question);
        json_t *row = apart ? json_pack("{s[{ssss}{ssss}]}", "messages", "role", "system", "content", system, "role", "user", "content", turn)
                            : json_pack("{s[{ssss}]}", "messages", "role", "user", "content", turn);
        rc = row ? template_render(j->author->text->template, row, &o, out, err) : err_set(err, SAIL_FAILED, "the judge's question is not UTF-8");
        json_decref(row);
        free(turn);
    }
    return rc ? err_context(err, "--judge-model: chat template") : SAIL_OK;
}

static int encode(const struct local_judge *j, const char *system, const char *question, struct ids *out, sail_err *err)
{
    struct buf text;
    buf_init(&text, 0);
    int rc = SAIL_OK;
    out->n = 0;
    if (j->author->text->template) {
        rc = render(j, system, question, &text, err);
    } else {
        rc = tokenizer_leading_specials(j->author->text->tokenizer, out, err);
        if (system) buf_printf(&text, "%s\n\n", system);
        buf_puts(&text, question);
    }
    if (!rc && text.failed) rc = err_memory(err, text.len);
    if (!rc) rc = tokenizer_encode(j->author->text->tokenizer, text.data ? text.data : "", text.len, false, out, err);
    buf_release(&text);
    return rc;
}

static bool go_on(void *context, int64_t done, int64_t tokens)
{
    const struct local_judge *j = context;
    (void)done;
    (void)tokens;
    return j->in_step || !interrupt_asked();
}

/* Random numbers are keyed by the request, the question in it and the sample. */
static uint64_t key_of(const char *id)
{
    return hash_add(HASH_START, id, strlen(id)) | (uint64_t)1 << 63; // apart from the steps of the policy's own draws
}

static int write_verdicts(void *context, const char *id, const char *system, const char *const *question, int n, int samples, struct verdict_text *out, sail_err *err)
{
    struct local_judge *j = context;
    const int64_t longest = model_facts(j->author->policy->model)->max_position;
    int64_t n_prompt = 0;
    int rc = make_room(j, (size_t)n, (size_t)samples, err);
    for (int i = 0; i < n * samples; i++) out[i] = (struct verdict_text){0};
    for (int i = 0; !rc && i < n; i++) {
        struct ids *q = &j->question[i];
        rc = encode(j, system, question[i], q, err);
        const bool fits = q->n && (int64_t)q->n + j->sampling.max_new_tokens <= longest;
        if (!rc && fits) j->prompt[n_prompt++] = (struct prompt){.ids = q->id, .n = (int32_t)q->n, .key = (uint64_t)i};
        if (rc || fits || j->warned) continue;
        j->warned = true;
        log_warning("--judge-model: a question of %lld tokens and a verdict of %lld do not fit into the judge's context of %lld; such answers stay unlabelled", (long long)q->n,
                    (long long)j->sampling.max_new_tokens, (long long)longest);
    }
    if (rc || !n_prompt) return rc;
    struct sampler_options o = j->sampling;
    struct answer *answers;
    o.n_return = samples;
    o.step = key_of(id);
    rc = sampler_run(j->author->sampler, *j->author->policy, j->prompt, n_prompt, &o, &answers, go_on, j, err);
    for (int64_t a = 0; !rc && a < n_prompt * samples; a++) {
        const struct answer *y = &answers[a];
        const size_t at = (size_t)j->prompt[y->i].key * (size_t)samples + (size_t)y->k;
        struct buf *b = &j->written[at];
        buf_clear(b);
        rc = tokenizer_decode(j->author->text->tokenizer, y->ids, (size_t)y->n, true, b, err);
        out[at] = (struct verdict_text){.text = b->data ? b->data : "", .finished = y->finish == FINISH_EOS};
    }
    return rc;
}

static void close_judge(void *context)
{
    struct local_judge *j = context;
    drop_room(j);
    free(j);
}

int local_judge_open(struct judge_writer *out, const sail_config *c, const struct author *author, bool in_step, sail_err *err)
{
    struct local_judge *j;
    int rc = mem_alloc(&j, 1, sizeof *j, err);
    if (rc) return rc;
    const struct model_facts *f = model_facts(author->policy->model);
    j->author = author;
    j->in_step = in_step;
    j->sampling = (struct sampler_options){.temperature = c->judge_temperature > 0 ? c->judge_temperature : 1, .top_p = c->judge_top_p, .greedy = c->judge_temperature == 0,
                                           .max_new_tokens = c->judge_new_tokens, .seed = (uint64_t)c->seed, .eos = f->eos, .n_eos = f->n_eos};
    *out = (struct judge_writer){.context = j, .write = write_verdicts, .close = close_judge};
    return SAIL_OK;
}
