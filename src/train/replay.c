/* Answers that serve more than their own step: their age, the importance weights of stale pairs, and their form in a checkpoint. */
#include <math.h>
#include <string.h>

#include "base/err.h"
#include "train/run.h"

int64_t replay_age(const struct run *r) { return r->step % (r->config->replay_steps + 1); }

/* SAIL's score terms ask for draws of the policy; drawn at another temperature over the whole vocabulary they can be weighed into such. */
static bool tempered(const struct run *r)
{
    const sail_config *c = r->config;
    return !strcmp(c->tempered, "weigh") && c->temperature != 1 && config_whole_vocabulary(c) && (r->objective->needs & READS_ROUTE) && run_scores_sampler(r);
}

/* sail.md 7: w = clip(product over both completions of pi / mu), detached; it multiplies every term of the pair. mu is what they were drawn from: the policy of their step, at its
 * temperature. */
void replay_weigh(const struct run *r, struct batch *slice, struct step_result *result)
{
    const bool fresh_too = tempered(r);
    for (struct pair *q = slice->pair; q < slice->pair + slice->n_pair; q++) {
        if (q->unlabelled || !(slice->age[q->win] || (fresh_too && slice->source[q->win] == SOURCE_POLICY))) continue;
        BATCH_NEED(slice, COL_BEHAVIOUR | COL_LOGP);
        const double w = exp(slice->logp[q->win] - slice->logp_drawn[q->win] + slice->logp[q->lose] - slice->logp_drawn[q->lose]);
        q->weight = fmin(w, r->config->replay_clip);
        if (!result) continue;
        result->n_weighted++;
        result->stats.weight_clipped += w > r->config->replay_clip;
        result->stats.weight_sum += q->weight;
        result->stats.weight_square += q->weight * q->weight;
    }
}

enum { OF_PROMPT = 4, OF_ANSWER = 4 };

int64_t replay_size(const struct run *r) { return r->config->replay_steps ? 2 + r->config->batch * (OF_PROMPT + r->sampled.k * (OF_ANSWER + r->config->max_new_tokens)) : 0; }

void replay_pack(const struct run *r, double *out)
{
    const struct sampled *d = &r->sampled;
    const int64_t most = r->config->max_new_tokens;
    for (int64_t i = 0; i < replay_size(r); i++) out[i] = 0;
    *out++ = (double)d->born;
    *out++ = (double)d->n;
    for (int64_t i = 0; i < d->n; i++) {
        const struct sampled_prompt *q = &d->prompt[i];
        *out++ = (double)q->row;
        *out++ = q->route;
        *out++ = (double)q->key;
        *out++ = q->p;
    }
    for (int64_t a = 0; a < d->n * d->k; a++) {
        const struct sampled_answer *y = &d->answer[a];
        *out++ = y->n;
        *out++ = y->finish;
        *out++ = y->logp;
        *out++ = y->reward;
        for (int32_t t = 0; t < y->n; t++) *out++ = d->ids[a * most + t];
    }
}

bool replay_whole(double x, double low, double high) { return x >= low && x <= high && x == floor(x); }

int replay_unpack(struct run *r, const double *in, sail_err *err)
{
    struct sampled *d = &r->sampled;
    const int64_t most = r->config->max_new_tokens;
    bool good = replay_whole(in[0], 0, 0x1p53) && replay_whole(in[1], 0, (double)r->config->batch);
    d->born = good ? (int64_t)in[0] : 0;
    d->n = good ? (int64_t)in[1] : 0;
    in += 2;
    for (int64_t i = 0; good && i < d->n; i++, in += OF_PROMPT) {
        good = r->prompts && replay_whole(in[0], 0, (double)r->prompts->n - 1) && replay_whole(in[1], 0, ROUTE_COUNT - 1) && replay_whole(in[2], 0, 0x1p53);
        if (good) d->prompt[i] = (struct sampled_prompt){.row = (int64_t)in[0], .route = (enum route)in[1], .key = (uint64_t)in[2], .p = in[3]};
    }
    for (int64_t a = 0; good && a < d->n * d->k; a++) {
        good = replay_whole(in[0], 1, (double)most) && replay_whole(in[1], 0, FINISH_LENGTH);
        if (!good) break;
        d->answer[a] = (struct sampled_answer){.n = (int32_t)in[0], .finish = (enum finish)in[1], .logp = in[2], .drawn = in[2], .reward = in[3]};
        in += OF_ANSWER;
        for (int32_t t = 0; good && t < d->answer[a].n; t++) {
            good = replay_whole(*in, 0, (double)model_facts(r->model)->vocab - 1);
            if (good) d->ids[a * most + t] = (int32_t)*in++;
        }
    }
    return good ? SAIL_OK : err_set(err, SAIL_FAILED, "the replayed answers of the checkpoint do not fit this run (numbers out of range)");
}
