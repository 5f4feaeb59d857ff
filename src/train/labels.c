/* Who won: rewards of the sampled rows, pairs from rewards. A missing verdict or a tie makes a pair unlabelled; unlabelled pairs are
 * counted and leave the batch, with the answers that no pair is left of, before anything is computed on them. */
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

/* Of two policies the labeler is asked about the answers of the second. */
static bool asks(const struct run *r) { return !r->two_level || r->params.second; }

int labels_ask_texts(struct run *r, int64_t i, struct reward_request q, double *reward, double *p, sail_err *err)
{
    const struct dataset *d = r->prompts;
    const struct sampled_prompt *prompt = &r->sampled.prompt[i];
    const struct example *e = &d->example[prompt->row];
    q.key = (int64_t)prompt->key;
    q.prompt_text = e->text >= 0 ? d->text + e->text : NULL;
    q.row = d->row ? d->row[prompt->row] : NULL;
    r->counts.labels += q.n;
    *p = NAN;
    for (int k = 0; k < q.n; k++) reward[k] = NAN;
    if (r->self_judge) return self_judge_ask(r->self_judge, r->policy, &q, p, err);
    return rewarder_ask(r->fitted ? r->fitted : r->rewarder, &q, reward, p, err);
}

int labels_ask(struct run *r, int64_t i, int64_t first, const int *which, int n, double *reward, double *p, sail_err *err)
{
    const struct batch *b = &r->batch;
    const int32_t *ids[MAX_ANSWERS];
    int32_t n_tok[MAX_ANSWERS];
    enum finish finish[MAX_ANSWERS];
    for (int k = 0; k < n; k++) {
        const int64_t row = first + which[k];
        ids[k] = b->ids[row] + b->n_prompt[row];
        n_tok[k] = b->n_tok[row];
        finish[k] = b->finish[row];
    }
    const struct reward_request q = {.prompt = b->ids[first], .n_prompt = b->n_prompt[first], .n = n, .ids = ids, .n_tok = n_tok, .finish = finish};
    return labels_ask_texts(r, i, q, reward, p, err);
}

/* Verdicts on all answers of prompt i, whose first row is given. */
static int ask(struct run *r, int64_t i, int64_t first, sail_err *err)
{
    const int n = (int)r->sampled.k;
    int all[MAX_ANSWERS] = {0};
    double reward[MAX_ANSWERS];
    for (int k = 0; k < n; k++) all[k] = k;
    double *p = &r->sampled.prompt[i].p;
    int rc = r->config->implicit_reward ? implicit_ask(r, first, n, reward, err) : labels_ask(r, i, first, all, n, reward, p, err);
    for (int k = 0; k < n; k++) {
        const bool cut = r->config->finished_only && r->batch.finish[first + k] == FINISH_LENGTH;
        r->sampled.answer[i * n + k].reward = cut ? NAN : reward[k];
        if (cut) *p = NAN;
    }
    return rc;
}

double labels_uniform(const struct run *r, int64_t i, int64_t index)
{
    return rng_uniform((uint64_t)r->config->seed, RNG_LABEL, (uint64_t)r->sampled.born + r->stream, (uint64_t)(i * 4096 + index));
}

struct pair labels_verdict(const struct run *r, int64_t i, int64_t first, const int *of, double p)
{
    return label_judged((int32_t)first + of[0], (int32_t)first + of[1], p, pair_rule(r->config), labels_uniform(r, i, of[0] * MAX_ANSWERS + of[1]));
}

/* Of the sampled answers of prompt i which say the same again and again. */
static void find_repetitive(struct run *r, int64_t i, int64_t first)
{
    const struct batch *b = &r->batch;
    const struct sampled *d = &r->sampled;
    for (int64_t k = 0; d->runs && k < d->k; k++) {
        const int64_t row = first + k;
        const double share = candidates_source(r, &d->prompt[i], k) == SOURCE_CANDIDATE ? 0 : label_repetition(b->ids[row] + b->n_prompt[row], b->n_tok[row], d->runs);
        d->answer[i * d->k + k].repeats = share > r->config->max_repetition;
    }
}

/* Of two answers one of which repeats itself, or both do: the other one wins if it may win at all. p: the verdict on both, NaN where they have rewards. */
static struct pair judge_repetition(const struct run *r, int64_t first, const int *of, bool second_repeats, bool both, double p)
{
    const bool judged = !isnan(p);
    const int32_t win = (int32_t)first + of[!second_repeats], lose = (int32_t)first + of[second_repeats];
    return (struct pair){.win = win, .lose = lose, .p = 1, .weight = 1, .unlabelled = both || !(judged || r->batch.reward[win] >= r->config->pair_floor)};
}

/* A judged pair of answers a, c of prompt i; replayed answers keep the label of their first step. */
static struct pair judge(struct run *r, int64_t i, int64_t first, const int *of)
{
    const struct sampled *d = &r->sampled;
    const double *rewards = r->batch.reward + first, u = labels_uniform(r, i, of[0] * MAX_ANSWERS + of[1]), p = d->prompt[i].p;
    const int32_t a = (int32_t)first + of[0], c = (int32_t)first + of[1];
    const bool again[2] = {d->answer[i * d->k + of[0]].repeats, d->answer[i * d->k + of[1]].repeats};
    if (again[0] || again[1]) return judge_repetition(r, first, of, again[1], again[0] && again[1], p);
    if (!isnan(p)) return labels_verdict(r, i, first, of, p);
    struct pair q = label_pair(a, c, rewards[of[0]], rewards[of[1]], pair_rule(r->config), r->config->label_temperature, u);
    const double ahead = fabs(rewards[of[0]] - rewards[of[1]]), best = fmax(rewards[of[0]], rewards[of[1]]);
    const bool own = candidates_source(r, &d->prompt[i], of[rewards[of[1]] > rewards[of[0]]]) != SOURCE_CANDIDATE;
    const double margin = own && r->config->pair_margin_own >= 0 ? r->config->pair_margin_own : r->config->pair_margin;
    if (ahead < margin || best < r->config->pair_floor) q.unlabelled = true; // counted as a tie
    return q;
}

/* Rewards in label temperatures: P(i beats j) = sigmoid(value_i - value_j). A verdict on two answers has its own. */
static void values(const struct run *r, int64_t i, const double *reward, double *value)
{
    const struct sampled *d = &r->sampled;
    const double p = d->prompt[i].p;
    for (int64_t k = 0; k < d->k; k++) value[k] = !isnan(p) ? (k == 0 ? log(p) - log1p(-p) : 0) : d->answer[i * d->k + k].repeats ? -INFINITY : reward[k] / r->config->label_temperature;
}

/* Pairs of the answers of prompt i. */
static void add_pairs(struct run *r, int64_t i, int64_t first, bool fresh)
{
    struct batch *b = &r->batch;
    const struct sampled *d = &r->sampled;
    const enum route route = d->prompt[i].route;
    int of[MAX_ANSWERS * (MAX_ANSWERS - 1) / 2][2] = {{0, 1}};
    const bool judged = route == ROUTE_PR && asks(r);
    const struct pairing *pairing = r->pairing->weight && !d->prompt[i].shared ? pairing_find("random") : r->pairing;
    double value[MAX_ANSWERS];
    values(r, i, b->reward + first, value);
    const int n = d->k == 2 ? 1 : pairing->choose((int)d->k, judged ? value : NULL, labels_uniform(r, i, 4095), of);
    const double weight = judged && pairing->weight && !strcmp(r->config->tilt_weight, "exact") ? pairing->weight((int)d->k, value) : 1;
    for (int k = 0; k < n; k++) {
        const int32_t x = (int32_t)first + of[k][0], y = (int32_t)first + of[k][1];
        struct pair q = judged ? (pairing->pair ? pairing->pair(r, i, first, of[k]) : judge(r, i, first, of[k])) : (struct pair){.win = x, .lose = y, .p = 1};
        q.route = route;
        q.weight = weight;
        if (q.unlabelled && fresh) {
            const bool tie = !pairing->pair && (!isnan(d->prompt[i].p) || (!isnan(b->reward[x]) && !isnan(b->reward[y])));
            *(tie ? &r->counts.ties : &r->counts.unlabelled) += 1;
        }
        b->pair[b->n_pair++] = q;
    }
}

/* Among the pairs from `from` on. */
static bool any_labelled(const struct batch *b, int64_t from)
{
    for (int64_t k = from; k < b->n_pair; k++)
        if (!b->pair[k].unlabelled) return true;
    return false;
}

/* Means over the sampled rows, before ties leave. */
static void measure(const struct run *r, struct step_result *result)
{
    const struct batch *b = &r->batch;
    const struct sampled *d = &r->sampled;
    double score = 0, margin = 0, eos = 0, length = 0, repetitive = 0;
    int64_t n = 0, n_score = 0, n_margin = 0, n_written = 0;
    for (int64_t i = 0; i < b->n; i++) {
        if (!source_is_fresh(b->source[i])) continue;
        n++;
        eos += b->finish[i] == FINISH_EOS;
        length += b->n_tok[i];
        if (!isnan(b->reward[i])) {
            score += b->reward[i];
            n_score++;
        }
    }
    for (int64_t k = 0; k < b->n_pair; k++) {
        const double ahead = fabs(b->reward[b->pair[k].win] - b->reward[b->pair[k].lose]);
        if (b->pair[k].route != ROUTE_PR || isnan(ahead)) continue;
        margin += ahead;
        n_margin++;
    }
    for (int64_t a = 0; a < d->n_new * d->k; a++) {
        repetitive += d->answer[a].repeats;
        n_written += candidates_source(r, &d->prompt[a / d->k], a % d->k) != SOURCE_CANDIDATE;
    }
    result->repeats = r->config->max_repetition < 1 && n_written ? repetitive / (double)n_written : NAN;
    result->eos_share = n ? eos / (double)n : NAN;
    result->answer_length = n ? length / (double)n : NAN;
    result->score = n_score ? score / (double)n_score : NAN;
    result->score_margin = n_margin ? margin / (double)n_margin : NAN;
}

int labels_fill(struct run *r, struct step_result *result, sail_err *err)
{
    struct batch *b = &r->batch;
    const struct sampled *d = &r->sampled;
    const bool fresh = !replay_age(r);
    const double start = clock_seconds();
    const int64_t online = b->n - d->n * d->k;
    int rc = SAIL_OK;
    for (int64_t i = 0; !rc && fresh && asks(r) && !r->config->prefix_endings && i < d->n_new; i++)
        if (d->prompt[i].route == ROUTE_PR) rc = (r->pairing->ask ? r->pairing->ask : ask)(r, i, online + i * d->k, err);
    if (!rc && fresh && r->config->implicit_reward) rc = implicit_correct(r, &result->length_coef, err);
    if (rc) return rc;
    for (int64_t i = 0; i < d->n; i++) {
        const int64_t first = online + i * d->k;
        for (int64_t k = 0; k < d->k; k++) b->reward[first + k] = d->answer[i * d->k + k].reward;
        find_repetitive(r, i, first);
        label_win_rates((int)d->k, b->reward + first, d->prompt[i].p, r->config->label_temperature, b->win_rate + first);
        const int64_t n_pair = b->n_pair;
        if (r->pairs) add_pairs(r, i, first, fresh && i < d->n_new);
        if (r->archive && i < d->n_new && any_labelled(b, n_pair) && (rc = archive_keep(r, i, err))) return rc;
    }
    b->written |= COL_REWARD | COL_WIN_RATE | (r->pairs ? COL_PAIRS : 0);
    measure(r, result);
    if (r->pairs && !r->two_level) batch_keep_paired(b, (r->objective->needs & ON_REFERENCE) != 0);
    if (r->groups) r->counts.unlabelled += groups_keep_judged(b);
    result->timing.label = clock_seconds() - start;
    return SAIL_OK;
}
