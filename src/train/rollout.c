/* The rows of a step: data-set rows, and fresh answers of the policy for the online routes. What a row is depends on (seed, step,
 * row) alone, never on what was drawn before. */
#include <math.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/rng.h"
#include "train/run.h"

/* sail.md 2.5: one multinomial draw for each row. */
static enum route draw_route(const struct run *r, int64_t step, int64_t j)
{
    double u = rng_uniform((uint64_t)r->config->seed, RNG_ROUTE, (uint64_t)step, (uint64_t)j);
    if ((u -= r->mixture.dp) < 0) return ROUTE_DP;
    if ((u -= r->mixture.pp) < 0) return ROUTE_PP;
    if ((u -= r->mixture.pr) < 0) return ROUTE_PR;
    return ROUTE_OFFLINE;
}

int64_t rollout_visit(int64_t *order, int64_t *order_epoch, int64_t n, int64_t g, uint64_t seed, uint64_t salt)
{
    int64_t epoch = g / n;
    if (*order_epoch != epoch) {
        rng_permutation(order, n, seed, RNG_DATA_ORDER, (uint64_t)epoch + salt);
        *order_epoch = epoch;
    }
    return order[g % n];
}

/* Appends prompt + completion to the step's id pool and a row to the batch. */
int64_t rollout_add_row(struct run *r, const int32_t *prompt, int64_t n_prompt, const int32_t *completion, int64_t n_tok, int64_t prompt_id, int64_t group)
{
    struct batch *b = &r->batch;
    BUG_ON(b->n >= b->capacity || r->n_ids + n_prompt + n_tok > r->ids_capacity, "batch of %lld rows is full", (long long)b->capacity);
    int32_t *ids = r->ids + r->n_ids;
    memcpy(ids, prompt, (size_t)n_prompt * sizeof *ids);
    memcpy(ids + n_prompt, completion, (size_t)n_tok * sizeof *ids);
    r->n_ids += n_prompt + n_tok;
    const int64_t i = b->n++;
    b->ids[i] = ids;
    b->n_prompt[i] = (int32_t)n_prompt;
    b->n_tok[i] = (int32_t)n_tok;
    b->counted[i] = NULL;
    b->prompt_id[i] = prompt_id;
    b->group[i] = (int32_t)group;
    b->source[i] = SOURCE_DATASET;
    b->age[i] = 0;
    b->finish[i] = FINISH_EOS;
    b->logp_behaviour[i] = b->logp_drawn[i] = b->reward[i] = NAN;
    b->verdict[i] = VERDICT_NONE;
    return i;
}

void rollout_add_dataset(struct run *r, const struct dataset *d, int64_t row, enum route route)
{
    const struct example *e = &d->example[row];
    struct batch *b = &r->batch;
    const int64_t group = b->n;
    const int32_t *prompt = dataset_ids(d, e->prompt);
    if (!r->pairs) {
        struct span s = d->kind == DATA_PREFERENCE ? e->chosen : e->completion;
        const int64_t i = rollout_add_row(r, prompt, e->prompt.n, dataset_ids(d, s), s.n, row, group);
        b->counted[i] = dataset_counted(d, s);
        return;
    }
    const int64_t win = rollout_add_row(r, prompt, e->prompt.n, dataset_ids(d, e->chosen), e->chosen.n, row, group);
    const int64_t lose = rollout_add_row(r, prompt, e->prompt.n, dataset_ids(d, e->rejected), e->rejected.n, row, group);
    b->pair[b->n_pair++] = (struct pair){.win = (int32_t)win, .lose = (int32_t)lose, .route = route, .p = e->p, .margin = e->margin, .weight = 1};
}

void rollout_add_unpaired(struct run *r, const struct dataset *d, const int64_t *rows, int64_t n)
{
    struct batch *b = &r->batch;
    for (int64_t i = 0; i < n; i++) {
        const struct example *e = &d->example[rows[i]];
        const int64_t group = b->n, row = rollout_add_row(r, dataset_ids(d, e->prompt), e->prompt.n, dataset_ids(d, e->completion), e->completion.n, rows[i], group);
        b->verdict[row] = e->label ? VERDICT_DESIRABLE : VERDICT_UNDESIRABLE;
        const int64_t other = r->mismatched ? dataset_mismatch(d, rows, n, i) : -1;
        if (other < 0) continue;
        const struct span s = d->example[other].completion;
        const int64_t room = r->longest - e->prompt.n;
        b->verdict[rollout_add_row(r, dataset_ids(d, e->prompt), e->prompt.n, dataset_ids(d, s), s.n < room ? s.n : room, rows[i], group)] = VERDICT_MISMATCHED;
    }
    b->written |= COL_VERDICT | (r->mismatched ? COL_MISMATCH : 0);
}

/* The prompts of this step's online rows. */
static void draw_prompts(struct run *r, int64_t born)
{
    struct sampled *d = &r->sampled;
    const int64_t size = r->config->batch;
    d->born = born;
    d->n = 0;
    for (int64_t j = 0; j < size; j++) {
        const enum route route = draw_route(r, born, j);
        if (route == ROUTE_OFFLINE || route == ROUTE_DP || (route == ROUTE_PR && archive_takes(r, j))) continue;
        const int64_t g = born * size + j, row = rollout_visit(r->prompt_order, &r->prompt_order_epoch, r->prompts->n, g, (uint64_t)r->config->seed, (uint64_t)1 << 40);
        const struct span prompt = r->prompts->example[row].prompt;
        r->online[d->n] = (struct prompt){.ids = dataset_ids(r->prompts, prompt), .n = prompt.n, .key = (uint64_t)g};
        d->prompt[d->n++] = (struct sampled_prompt){.row = row, .route = route, .key = (uint64_t)g, .p = NAN, .beats = {NAN, NAN}, .shared = draws_share(r, born, j)};
    }
}

/* Behind the new answers those of earlier iterates. */
static void recall(struct run *r)
{
    r->sampled.n_new = r->sampled.n;
    for (int64_t j = 0; r->archive && j < r->config->batch; j++)
        if (draw_route(r, r->step, j) == ROUTE_PR && archive_takes(r, j)) archive_recall(r, j);
}

static void add_sampled(struct run *r, int64_t age)
{
    const struct sampled *d = &r->sampled;
    struct batch *b = &r->batch;
    for (int64_t i = 0; i < d->n; i++) {
        const struct span prompt = r->prompts->example[d->prompt[i].row].prompt;
        const int64_t group = b->n;
        for (int64_t a = i * d->k; a < (i + 1) * d->k; a++) {
            const struct sampled_answer *y = &d->answer[a];
            const int64_t row = rollout_add_row(r, dataset_ids(r->prompts, prompt), prompt.n, d->ids + a * r->config->max_new_tokens, y->n, d->prompt[i].row, group);
            b->source[row] = age || i >= d->n_new ? SOURCE_REPLAY : candidates_source(r, &d->prompt[i], a - i * d->k);
            b->age[row] = (int32_t)age;
            b->finish[row] = y->finish;
            b->logp_behaviour[row] = y->logp;
            b->logp_drawn[row] = y->drawn;
        }
    }
}

int rollout_fill(struct run *r, struct step_result *result, sail_err *err)
{
    const int64_t size = r->config->batch, age = replay_age(r), born = r->step - age;
    const double begin = clock_seconds();
    int64_t n_drawn = 0;
    batch_clear(&r->batch);
    r->n_ids = 0;
    for (int64_t j = 0; j < size; j++) {
        const enum route route = draw_route(r, born, j);
        if (route != ROUTE_OFFLINE && route != ROUTE_DP) continue;
        const int64_t row = rollout_visit(r->order, &r->order_epoch, r->data->n, r->step * size + j, (uint64_t)r->config->seed, 0);
        if (r->unpaired)
            r->drawn[n_drawn++] = row;
        else
            rollout_add_dataset(r, r->data, row, route);
    }
    if (r->unpaired) rollout_add_unpaired(r, r->data, r->drawn, n_drawn);
    r->batch.written |= COL_ROWS | COL_BEHAVIOUR;
    result->timing.data = clock_seconds() - begin;
    if (!r->prompts) return SAIL_OK;
    if (!age) {
        draw_prompts(r, born);
        const double start = clock_seconds();
        int rc = r->sampled.n ? candidates_sample(r, err) : SAIL_OK;
        if (!rc && r->sampled.n && r->config->prefix_endings) rc = prefixes_judge(r, err);
        if (rc) return rc;
        result->timing.sample = clock_seconds() - start;
        recall(r);
    }
    add_sampled(r, age);
    return SAIL_OK;
}
