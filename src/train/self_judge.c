/* The policy as a judge of its own answers (OSP, 2405.14103): it is asked which of two answers is better, and P(first beats second) is the probability of the choice that it
 * would say, over both choices and both orders of the answers. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "train/run.h"

static const char plain_prompt[] = "Which of two answers to a request is better?\n\nRequest:\n{prompt}\n\nAnswer A:\n{first}\n\nAnswer B:\n{second}\n\nThe better answer is Answer ";

struct self_judge {
    const struct text_pipeline *text;
    char *prompt;
    struct ids choice[2];
};

int self_judge_check(const struct run *r, sail_err *err)
{
    const sail_config *c = r->config;
    if (!c->self_judge) return c->judge_prompt || strcmp(c->judge_choices, "A,B") ? err_set(err, SAIL_USAGE, "--judge-prompt and --judge-choices are for --self-judge: give it, or drop them") : SAIL_OK;
    if (r->mixture.pr <= 0) return err_set(err, SAIL_USAGE, "--self-judge labels sampled answers, and method %s has none: --mix-pr above 0", r->preset->name);
    if (candidates_count(r) > 2 && !r->pairing->ask)
        return err_set(err, SAIL_USAGE, "--self-judge compares two answers, and there are %lld of each prompt: --pairing duels or tournament, or --num-samples 2", (long long)candidates_count(r));
    return SAIL_OK;
}

static int read_prompt(struct self_judge *j, const char *path, sail_err *err)
{
    static const char *const parts[] = {"{prompt}", "{first}", "{second}"};
    size_t n;
    if (!path) j->prompt = mem_strdup(plain_prompt);
    int rc = path ? file_read(path, 1 << 20, &j->prompt, &n, err) : SAIL_OK;
    for (int k = 0; !rc && k < 3; k++) {
        const char *at = strstr(j->prompt, parts[k]);
        if (!at || strstr(at + 1, parts[k])) rc = err_set(err, SAIL_USAGE, "%s: expected %s once, found it %s", path, parts[k], at ? "more often" : "nowhere");
    }
    return rc;
}

static int read_choices(struct self_judge *j, const char *choices, sail_err *err)
{
    const char *comma = strchr(choices, ',');
    if (!comma || strchr(comma + 1, ',')) return err_set(err, SAIL_USAGE, "--judge-choices %s: expected two texts with a comma between them", choices);
    int rc = tokenizer_encode(j->text->tokenizer, choices, (size_t)(comma - choices), false, &j->choice[0], err);
    if (!rc) rc = tokenizer_encode(j->text->tokenizer, comma + 1, strlen(comma + 1), false, &j->choice[1], err);
    if (rc) return rc;
    const struct ids *a = &j->choice[0], *b = &j->choice[1];
    if (!a->n || !b->n || (a->n == b->n && !memcmp(a->id, b->id, a->n * sizeof *a->id)))
        return err_set(err, SAIL_USAGE, "--judge-choices %s: expected two texts that are different tokens to the model", choices);
    return SAIL_OK;
}

int self_judge_open(struct self_judge **out, const sail_config *c, const struct text_pipeline *text, sail_err *err)
{
    *out = NULL;
    if (!c->self_judge) return SAIL_OK;
    if (mem_alloc(out, 1, sizeof **out, err)) return SAIL_FAILED;
    (*out)->text = text;
    int rc = read_prompt(*out, c->judge_prompt, err);
    return rc ? rc : read_choices(*out, c->judge_choices, err);
}

void self_judge_close(struct self_judge *j)
{
    if (!j) return;
    for (int k = 0; k < 2; k++) ids_release(&j->choice[k]);
    free(j->prompt);
    free(j);
}

/* The question with its three texts in their places. */
static void put_question(const struct self_judge *j, const char *prompt, const char *first, const char *second, struct buf *out)
{
    const struct {
        const char *name, *text;
    } part[3] = {{"{prompt}", prompt}, {"{first}", first}, {"{second}", second}};
    buf_clear(out);
    for (const char *s = j->prompt; *s;) {
        int k = 0;
        while (k < 3 && strncmp(s, part[k].name, strlen(part[k].name))) k++;
        if (k < 3)
            buf_puts(out, part[k].text);
        else
            buf_putc(out, *s);
        s += k < 3 ? strlen(part[k].name) : 1;
    }
}

/* log P(first choice) - log P(second choice) after the question; NaN where it is too long for the model. */
static int preference(const struct self_judge *j, struct policy policy, const struct buf *question, double *lead, sail_err *err)
{
    struct ids row[2] = {{0}, {0}};
    const int32_t *ids[2];
    int32_t n_prompt[2] = {0}, n_tok[2] = {0}, group[2] = {0};
    double logp[2] = {NAN, NAN};
    bool fits = true;
    int rc = question->failed ? err_memory(err, question->len) : SAIL_OK;
    for (int k = 0; !rc && k < 2; k++) {
        rc = tokenizer_leading_specials(j->text->tokenizer, &row[k], err);
        if (!rc) rc = tokenizer_encode(j->text->tokenizer, question->data, question->len, false, &row[k], err);
        n_prompt[k] = (int32_t)row[k].n;
        n_tok[k] = (int32_t)j->choice[k].n;
        for (size_t t = 0; !rc && t < j->choice[k].n; t++) rc = ids_push(&row[k], j->choice[k].id[t], err);
        fits &= (int64_t)row[k].n <= model_facts(policy.model)->max_position;
        ids[k] = row[k].id;
    }
    const struct sequences s = {.n = 2, .ids = ids, .n_prompt = n_prompt, .n_tok = n_tok, .group = group};
    if (!rc && fits) rc = model_score(policy, &s, logp, NULL, err);
    *lead = logp[0] - logp[1];
    for (int k = 0; k < 2; k++) ids_release(&row[k]);
    return rc;
}

int self_judge_ask(const struct self_judge *j, struct policy policy, const struct reward_request *q, double *p, sail_err *err)
{
    *p = NAN;
    if (q->n != 2) return SAIL_OK;
    struct buf text[4]; // both answers, the prompt, the question
    double lead[2] = {NAN, NAN};
    int rc = SAIL_OK;
    for (int k = 0; k < 4; k++) buf_init(&text[k], 0);
    for (int k = 0; !rc && k < 2; k++) rc = tokenizer_decode(j->text->tokenizer, q->ids[k], (size_t)q->n_tok[k], true, &text[k], err);
    if (!rc && !q->prompt_text) rc = tokenizer_decode(j->text->tokenizer, q->prompt, (size_t)q->n_prompt, true, &text[2], err);
    for (int k = 0; k < 3; k++) buf_puts(&text[k], ""); // at least an empty text
    for (int k = 0; !rc && k < 2; k++) {
        put_question(j, q->prompt_text ? q->prompt_text : text[2].data, text[k].data, text[1 - k].data, &text[3]);
        rc = preference(j, policy, &text[3], &lead[k], err);
    }
    if (!rc) *p = 0.5 * (1 / (1 + exp(-lead[0])) + 1 / (1 + exp(lead[1])));
    for (int k = 0; k < 4; k++) buf_release(&text[k]);
    return rc;
}
