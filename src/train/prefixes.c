/* Beginnings of answers as what is learnt from (pDPO, 2411.16345): each sampled answer is cut at a place in its first part, the policy goes on from there several times, and the
 * beginning's reward is the mean of what the labeler gives to these endings. The whole answers vote where the labeler counts votes. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "train/run.h"

enum { FEWEST_LINES = 5 }; /* of an answer that is cut at the end of a line */
static const double first_part = 0.7;

int prefixes_check(const struct run *r, bool scores_sampler, sail_err *err)
{
    const sail_config *c = r->config;
    const long long n = (long long)(c->num_samples * (1 + c->prefix_endings));
    if (!c->prefix_endings) return strcmp(c->prefix_cut, "line") ? err_set(err, SAIL_USAGE, "--prefix-cut says where answers are cut, and none is: give --prefix-endings, or drop it") : SAIL_OK;
    if (r->mixture.pr <= 0) return err_set(err, SAIL_USAGE, "--prefix-endings judges beginnings of sampled answers, and method %s has none: --mix-pr above 0", r->preset->name);
    if (c->implicit_reward || c->self_judge) return err_set(err, SAIL_USAGE, "--prefix-endings needs a labeler of whole texts: --final-answer, --reward-rule, --reward-table, --reward-model or --labeler-command");
    if (scores_sampler) return err_set(err, SAIL_USAGE, "--prefix-endings: the score term of method %s needs whole draws of the policy: drop it, or --gamma 0", r->preset->name);
    if (r->mixture.pp > 0 || c->ref_samples || c->data_answers || draw_source(draw_of(r, &(struct sampled_prompt){.shared = true}, 0)) != SOURCE_POLICY || r->draws.n > 1)
        return err_set(err, SAIL_USAGE, "--prefix-endings cuts the policy's own judged answers: drop --mix-pp, --ref-samples, --data-answers and --logit-weights");
    if (r->pairing->ask) return err_set(err, SAIL_USAGE, "--prefix-endings gives every beginning a reward of its own, and --pairing %s asks about two at a time: --pairing all", c->pairing);
    if (c->finished_only) return err_set(err, SAIL_USAGE, "--finished-only: beginnings of answers are not finished: drop it, or --prefix-endings");
    if (c->replay_steps > 0) return err_set(err, SAIL_USAGE, "--prefix-endings keeps no log-probs of beginnings, which --replay-steps weighs by: drop one of them");
    if (n > MAX_ANSWERS) return err_set(err, SAIL_USAGE, "--prefix-endings %lld of --num-samples %lld answers are %lld texts to judge for a prompt: expected at most %d", (long long)c->prefix_endings,
                               (long long)c->num_samples, n, MAX_ANSWERS);
    return SAIL_OK;
}

static bool is_blank(const char *s, size_t n) { return strspn(s, " \t\r\n") >= n; }

/* Tokens up to the ends of the lines that hold anything, *n_line of them, an open last line among them. */
static int line_ends(const struct tokenizer *tokenizer, const int32_t *ids, int32_t n, int32_t *end, int *n_line, sail_err *err)
{
    struct buf piece;
    bool blank = true;
    int rc = SAIL_OK;
    *n_line = 0;
    buf_init(&piece, 0);
    for (int32_t t = 0; !rc && t < n; t++) {
        buf_clear(&piece);
        rc = tokenizer_decode(tokenizer, &ids[t], 1, true, &piece, err);
        if (rc || !piece.len) continue;
        const char *newline = memchr(piece.data, '\n', piece.len);
        blank &= is_blank(piece.data, newline ? (size_t)(newline - piece.data) : piece.len);
        if (!newline) continue;
        if (!blank) end[(*n_line)++] = t + 1;
        const char *rest = strrchr(piece.data, '\n') + 1;
        blank = is_blank(rest, strlen(rest));
    }
    if (!blank) end[(*n_line)++] = n;
    buf_release(&piece);
    return rc;
}

int prefix_cut(const struct tokenizer *tokenizer, bool lines, const int32_t *ids, int32_t n, double u, int32_t *room, int32_t *cut, sail_err *err)
{
    int choices = (int)(first_part * n), rc = SAIL_OK;
    if (lines) {
        int n_line;
        rc = line_ends(tokenizer, ids, n, room, &n_line, err);
        choices = n_line < FEWEST_LINES ? 0 : (int)(first_part * n_line);
    }
    const int32_t chosen = (int32_t)(u * choices);
    *cut = !choices ? 0 : lines ? room[chosen] : chosen + 1;
    return rc;
}

/* What a step needs to judge beginnings; all (prompts, answers). */
struct work {
    int32_t *ids, *room;    /* prompt + beginning of each, one after the other; of one answer's lines, then of one prompt's texts */
    struct prompt *prompt;  /* those that are gone on from */
    int32_t *cut;           /* 0: not cut */
    struct answer *endings; /* of prompt[], the sampler's */
};

static int lay_prefixes(struct run *r, struct work *w, int64_t *n, sail_err *err)
{
    const struct sampled *d = &r->sampled;
    const bool lines = !strcmp(r->config->prefix_cut, "line");
    int32_t *at = w->ids;
    *n = 0;
    for (int64_t a = 0; a < d->n * d->k; a++) {
        const int64_t i = a / d->k, k = a % d->k;
        const int32_t *ids = d->ids + a * r->config->max_new_tokens;
        if (d->prompt[i].route != ROUTE_PR) continue;
        int rc = prefix_cut(r->text.tokenizer, lines, ids, d->answer[a].n, labels_uniform(r, i, k * MAX_ANSWERS + k), w->room, &w->cut[a], err);
        if (rc) return rc;
        if (!w->cut[a]) continue;
        const struct prompt *p = &r->online[i];
        memcpy(at, p->ids, (size_t)p->n * sizeof *at);
        memcpy(at + p->n, ids, (size_t)w->cut[a] * sizeof *at);
        w->prompt[(*n)++] = (struct prompt){.ids = at, .n = p->n + w->cut[a], .key = d->prompt[i].key * MAX_ANSWERS + (uint64_t)k};
        at += p->n + w->cut[a];
    }
    return SAIL_OK;
}

/* Asks about the whole answers of prompt i and all endings of their beginnings; what stays of an answer is its beginning with the mean reward. */
static int judge(struct run *r, int64_t i, struct work *w, sail_err *err)
{
    struct sampled *d = &r->sampled;
    const int64_t most = r->config->max_new_tokens, n_ending = r->config->prefix_endings;
    const int32_t *ids[MAX_ANSWERS];
    int32_t n_tok[MAX_ANSWERS], *at = w->room;
    enum finish finish[MAX_ANSWERS];
    int n = 0;
    for (int64_t k = 0; k < d->k; k++, n++) {
        ids[n] = d->ids + (i * d->k + k) * most;
        n_tok[n] = d->answer[i * d->k + k].n;
        finish[n] = d->answer[i * d->k + k].finish;
    }
    for (int64_t a = i * d->k; a < (i + 1) * d->k; a++)
        for (int64_t e = 0; w->cut[a] && e < n_ending; e++, n++, w->endings++) {
            const int32_t room = (int32_t)most - w->cut[a], m = w->endings->n < room ? w->endings->n : room;
            memcpy(at, d->ids + a * most, (size_t)w->cut[a] * sizeof *at);
            memcpy(at + w->cut[a], w->endings->ids, (size_t)m * sizeof *at);
            ids[n] = at;
            n_tok[n] = w->cut[a] + m;
            finish[n] = m < w->endings->n ? FINISH_LENGTH : w->endings->finish;
            at += n_tok[n];
            r->counts.sampled_tokens += w->endings->n;
        }
    double reward[MAX_ANSWERS], p;
    const struct reward_request q = {.prompt = r->online[i].ids, .n_prompt = r->online[i].n, .n = n, .n_vote = (int)d->k, .ids = ids, .n_tok = n_tok, .finish = finish};
    int rc = labels_ask_texts(r, i, q, reward, &p, err);
    n = (int)d->k;
    for (int64_t a = i * d->k; !rc && a < (i + 1) * d->k; a++) {
        struct sampled_answer *y = &d->answer[a];
        *y = (struct sampled_answer){.n = w->cut[a] ? w->cut[a] : y->n, .finish = w->cut[a] ? FINISH_LENGTH : y->finish, .logp = NAN, .drawn = NAN, .reward = w->cut[a] ? 0 : NAN};
        for (int64_t e = 0; w->cut[a] && e < n_ending; e++) y->reward += reward[n++];
        y->reward /= (double)n_ending;
    }
    return rc;
}

static int alloc(const struct run *r, struct work *w, sail_err *err)
{
    const struct sampled *d = &r->sampled;
    const size_t n = (size_t)(d->n * d->k), most = (size_t)r->config->max_new_tokens;
    size_t tokens = n * most;
    for (int64_t i = 0; i < d->n; i++) tokens += (size_t)d->k * (size_t)r->online[i].n;
    int rc = mem_alloc(&w->ids, tokens, sizeof *w->ids, err);
    if (!rc) rc = mem_alloc(&w->room, MAX_ANSWERS * most, sizeof *w->room, err);
    if (!rc) rc = mem_alloc(&w->prompt, n, sizeof *w->prompt, err);
    return rc ? rc : mem_alloc(&w->cut, n, sizeof *w->cut, err);
}

int prefixes_judge(struct run *r, sail_err *err)
{
    struct work w = {0};
    struct sampler_options o = r->sampling;
    int64_t n = 0;
    int rc = alloc(r, &w, err);
    if (!rc) rc = lay_prefixes(r, &w, &n, err);
    o.step = (uint64_t)r->step + r->stream + ((uint64_t)1 << 45);
    o.n_return = r->config->prefix_endings;
    if (!rc && n) rc = sampler_run(r->sampler, r->policy, w.prompt, n, &o, &w.endings, run_keep_sampling, r, err);
    for (int64_t i = 0; !rc && i < r->sampled.n; i++)
        if (r->sampled.prompt[i].route == ROUTE_PR) rc = judge(r, i, &w, err);
    free(w.ids);
    free(w.room);
    free(w.prompt);
    free(w.cut);
    return rc;
}
