/* The rows of a step: data-set rows, and fresh answers of the policy for the online routes. What a row is depends on (seed, step,
 * row) alone, never on what was drawn before. */
#include <math.h>
#include <string.h>

#include "base/err.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/rng.h"
#include "train/run.h"

/* sail.md 2.5: one multinomial draw for each row. */
static enum route draw_route(const struct run *r, int64_t j)
{
    double u = rng_uniform((uint64_t)r->config->seed, RNG_ROUTE, (uint64_t)r->step, (uint64_t)j);
    if ((u -= r->mixture.dp) < 0) return ROUTE_DP;
    if ((u -= r->mixture.pp) < 0) return ROUTE_PP;
    if ((u -= r->mixture.pr) < 0) return ROUTE_PR;
    return ROUTE_OFFLINE;
}

/* The row of a data set that the g-th visit of the run meets: a new permutation every epoch. */
static int64_t visit(int64_t *order, int64_t *order_epoch, int64_t n, int64_t g, uint64_t seed, uint64_t salt)
{
    int64_t epoch = g / n;
    if (*order_epoch != epoch) {
        rng_permutation(order, n, seed, RNG_DATA_ORDER, (uint64_t)epoch + salt);
        *order_epoch = epoch;
    }
    return order[g % n];
}

/* Appends prompt + completion to the step's id pool and a row to the batch. */
static int64_t add_row(struct run *r, const int32_t *prompt, int64_t n_prompt, const int32_t *completion, int64_t n_tok, int64_t group)
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
    b->group[i] = (int32_t)group;
    b->source[i] = SOURCE_DATASET;
    b->age[i] = 0;
    b->finish[i] = FINISH_EOS;
    b->logp_behaviour[i] = b->reward[i] = NAN;
    return i;
}

static void add_pair(struct batch *b, int64_t win, int64_t lose, enum route route, double p, double margin)
{
    b->pair[b->n_pair++] = (struct pair){.win = (int32_t)win, .lose = (int32_t)lose, .route = route, .p = p, .margin = margin, .weight = 1};
}

void rollout_add_dataset(struct run *r, const struct dataset *d, int64_t row, int64_t group, enum route route)
{
    const struct example *e = &d->example[row];
    const int32_t *prompt = dataset_ids(d, e->prompt);
    if (!r->pairs) {
        struct span s = d->kind == DATA_PREFERENCE ? e->chosen : e->completion;
        r->batch.prompt_id[add_row(r, prompt, e->prompt.n, dataset_ids(d, s), s.n, group)] = row;
        return;
    }
    int64_t win = add_row(r, prompt, e->prompt.n, dataset_ids(d, e->chosen), e->chosen.n, group);
    int64_t lose = add_row(r, prompt, e->prompt.n, dataset_ids(d, e->rejected), e->rejected.n, group);
    r->batch.prompt_id[win] = r->batch.prompt_id[lose] = row;
    add_pair(&r->batch, win, lose, route, e->p, e->margin);
}

static bool keep_sampling(void *context, int64_t done, int64_t tokens)
{
    struct run *r = context;
    if (r->writer) run_writer_progress(r->writer, r->step, NULL, 0, (double)tokens, "sampling");
    (void)done;
    return !interrupt_asked();
}

/* Where the prompts of online rows come from: --prompts, else the data. */
static const struct dataset *prompt_source(const struct run *r) { return r->prompts ? r->prompts : r->data; }

static int64_t online_row(struct run *r, int64_t g, int64_t data_row)
{
    if (!r->prompts) return data_row;
    return visit(r->prompt_order, &r->prompt_order_epoch, r->prompts->n, g, (uint64_t)r->config->seed, (uint64_t)1 << 40);
}

static int sample_pairs(struct run *r, int64_t n_online, struct step_result *result, sail_err *err)
{
    struct batch *b = &r->batch;
    struct sampler_options o = r->sampling;
    o.step = (uint64_t)r->step;
    struct answer *answers;
    double start = clock_seconds();
    int rc = sampler_run(r->sampler, r->policy, r->online, n_online, &o, &answers, keep_sampling, r, err);
    if (rc) return rc;
    int64_t tokens = 0;
    for (int64_t i = 0; i < n_online; i++) {
        const struct answer *y = &answers[2 * i];
        int64_t row[2];
        for (int k = 0; k < 2; k++) {
            row[k] = add_row(r, r->online[i].ids, r->online[i].n, y[k].ids, y[k].n, b->n_pair);
            b->prompt_id[row[k]] = r->slot_row[i];
            b->source[row[k]] = SOURCE_POLICY;
            b->finish[row[k]] = y[k].finish;
            b->logp_behaviour[row[k]] = y[k].logp;
            tokens += y[k].n;
        }
        add_pair(b, row[0], row[1], r->slot_route[i], 1, 0);
    }
    r->counts.sampled_tokens += tokens;
    result->n_sampled = 2 * n_online;
    result->timing.sample = clock_seconds() - start;
    return SAIL_OK;
}

int rollout_fill(struct run *r, struct step_result *result, sail_err *err)
{
    const int64_t size = r->config->batch;
    batch_clear(&r->batch);
    r->n_ids = 0;
    int64_t n_online = 0;
    for (int64_t j = 0; j < size; j++) {
        const int64_t g = r->step * size + j;
        const enum route route = draw_route(r, j);
        int64_t row = r->data ? visit(r->order, &r->order_epoch, r->data->n, g, (uint64_t)r->config->seed, 0) : -1;
        if (route == ROUTE_OFFLINE || route == ROUTE_DP) {
            rollout_add_dataset(r, r->data, row, r->pairs ? r->batch.n_pair : r->batch.n, route);
            continue;
        }
        row = online_row(r, g, row);
        const struct span prompt = prompt_source(r)->example[row].prompt;
        r->online[n_online] = (struct prompt){.ids = dataset_ids(prompt_source(r), prompt), .n = prompt.n, .key = (uint64_t)g};
        r->slot_row[n_online] = row;
        r->slot_route[n_online++] = route;
    }
    r->batch.written |= COL_ROWS | (r->pairs ? COL_PAIRS : 0);
    if (!n_online) return SAIL_OK;
    r->batch.written |= COL_BEHAVIOUR;
    return sample_pairs(r, n_online, result, err);
}
