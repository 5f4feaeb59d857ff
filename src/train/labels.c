/* Who won: rewards of the sampled rows, pairs from rewards. A missing verdict or a tie makes a pair unlabelled; unlabelled pairs are
 * counted and leave the batch before anything is computed on them. */
#include <math.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/rng.h"
#include "label/labeler.h"
#include "train/run.h"

static enum pair_label pair_rule(const sail_config *c)
{
    return !strcmp(c->pr_label, "soft") ? PAIR_LABEL_SOFT : !strcmp(c->pr_label, "sampled") ? PAIR_LABEL_SAMPLED : PAIR_LABEL_HARD;
}

static int ask(struct run *r, const struct pair *q, double *reward, double *p, sail_err *err)
{
    const struct batch *b = &r->batch;
    const struct dataset *d = r->prompts ? r->prompts : r->data;
    const struct example *e = &d->example[b->prompt_id[q->win]];
    const int32_t row[2] = {q->win, q->lose};
    const int32_t *ids[2], n_tok[2] = {b->n_tok[q->win], b->n_tok[q->lose]};
    enum finish finish[2];
    for (int k = 0; k < 2; k++) {
        ids[k] = b->ids[row[k]] + b->n_prompt[row[k]];
        finish[k] = b->finish[row[k]];
    }
    const struct reward_request request = {
        .key = r->step * r->config->batch + (q - b->pair),
        .prompt_text = e->text >= 0 ? d->text + e->text : NULL,
        .row = d->row ? d->row[b->prompt_id[q->win]] : NULL,
        .prompt = b->ids[q->win],
        .n_prompt = b->n_prompt[q->win],
        .n = 2,
        .ids = ids,
        .n_tok = n_tok,
        .finish = finish,
    };
    r->counts.labels += 2;
    return rewarder_ask(r->rewarder, &request, reward, p, err);
}

static int label_one(struct run *r, struct pair *q, sail_err *err)
{
    double reward[2] = {NAN, NAN}, p = NAN;
    int rc = ask(r, q, reward, &p, err);
    if (rc) return rc;
    r->batch.reward[q->win] = reward[0];
    r->batch.reward[q->lose] = reward[1];
    const double u = rng_uniform((uint64_t)r->config->seed, RNG_LABEL, (uint64_t)r->step, (uint64_t)(q - r->batch.pair));
    const enum route route = q->route;
    if (!isnan(p))
        *q = label_judged(q->win, q->lose, p, pair_rule(r->config), u);
    else
        *q = label_pair(q->win, q->lose, reward[0], reward[1], pair_rule(r->config), r->config->label_temperature, u);
    q->route = route;
    q->weight = 1;
    if (q->unlabelled) {
        bool tie = !isnan(p) || (!isnan(reward[0]) && !isnan(reward[1]));
        *(tie ? &r->counts.ties : &r->counts.unlabelled) += 1;
    }
    return SAIL_OK;
}

/* Takes unlabelled pairs and their two rows out of the table. Rows 2k and 2k + 1 belong to pair k. */
static void drop_unlabelled(struct batch *b)
{
    int64_t kept = 0;
    for (int64_t k = 0; k < b->n_pair; k++) {
        if (b->pair[k].unlabelled) continue;
        if (kept != k) {
            for (int64_t side = 0; side < 2; side++) batch_move_row(b, 2 * kept + side, 2 * k + side);
            struct pair q = b->pair[k];
            q.win += (int32_t)(2 * (kept - k));
            q.lose += (int32_t)(2 * (kept - k));
            b->pair[kept] = q;
        }
        kept++;
    }
    b->n_pair = kept;
    b->n = 2 * kept;
}

/* Means over the sampled rows, before ties leave. */
static void measure(const struct batch *b, struct step_result *result)
{
    double score = 0, margin = 0, eos = 0, length = 0;
    int64_t n = 0, n_score = 0, n_margin = 0;
    for (int64_t i = 0; i < b->n; i++) {
        if (b->source[i] != SOURCE_POLICY) continue;
        n++;
        eos += b->finish[i] == FINISH_EOS;
        length += b->n_tok[i];
        if (!isnan(b->reward[i])) {
            score += b->reward[i];
            n_score++;
        }
    }
    for (int64_t k = 0; k < b->n_pair; k++) {
        const double d = fabs(b->reward[b->pair[k].win] - b->reward[b->pair[k].lose]);
        if (b->pair[k].route != ROUTE_PR || isnan(d)) continue;
        margin += d;
        n_margin++;
    }
    result->eos_share = n ? eos / (double)n : NAN;
    result->answer_length = n ? length / (double)n : NAN;
    result->score = n_score ? score / (double)n_score : NAN;
    result->score_margin = n_margin ? margin / (double)n_margin : NAN;
}

int labels_fill(struct run *r, struct step_result *result, sail_err *err)
{
    struct batch *b = &r->batch;
    double start = clock_seconds();
    for (int64_t k = 0; k < b->n_pair; k++) {
        if (b->pair[k].route != ROUTE_PR) continue;
        int rc = label_one(r, &b->pair[k], err);
        if (rc) return rc;
    }
    b->written |= COL_REWARD;
    measure(b, result);
    if (r->pairs) drop_unlabelled(b);
    result->timing.label = clock_seconds() - start;
    return SAIL_OK;
}
