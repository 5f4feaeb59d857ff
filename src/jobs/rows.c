#include "jobs/rows.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

void row_pool_release(struct row_pool *p)
{
    free(p->ids);
    *p = (struct row_pool){0};
}

static enum route route_of(const char *name) { return !strcmp(name, "dp") ? ROUTE_DP : !strcmp(name, "pp") ? ROUTE_PP : !strcmp(name, "pr") ? ROUTE_PR : ROUTE_OFFLINE; }

static int32_t *add_row(struct batch *b, const struct dataset *d, const struct example *e, struct span s, int64_t group, int32_t *at)
{
    const int64_t i = b->n++;
    memcpy(at, dataset_ids(d, e->prompt), (size_t)e->prompt.n * sizeof *at);
    memcpy(at + e->prompt.n, dataset_ids(d, s), (size_t)s.n * sizeof *at);
    b->prompt_id[i] = group;
    b->group[i] = (int32_t)group;
    b->ids[i] = at;
    b->n_prompt[i] = e->prompt.n;
    b->n_tok[i] = s.n;
    b->source[i] = SOURCE_DATASET;
    b->age[i] = 0;
    b->finish[i] = FINISH_EOS;
    b->logp_behaviour[i] = b->logp_drawn[i] = b->reward[i] = NAN;
    b->verdict[i] = VERDICT_NONE;
    return at + e->prompt.n + s.n;
}

static int reserve(struct row_pool *pool, size_t need, sail_err *err)
{
    if (need <= pool->capacity) return SAIL_OK;
    row_pool_release(pool);
    int rc = mem_alloc(&pool->ids, need, sizeof *pool->ids, err);
    if (!rc) pool->capacity = need;
    return rc;
}

static size_t tokens_of(const struct example *e) { return 2 * (size_t)e->prompt.n + (size_t)e->chosen.n + (size_t)e->rejected.n + (size_t)e->completion.n; }

/* Room for any n rows of the data set. */
static int reserve_any(struct row_pool *pool, const struct dataset *d, int64_t n, sail_err *err)
{
    size_t longest = 0, all = 0;
    for (int64_t i = 0; i < d->n; i++) {
        all += tokens_of(&d->example[i]);
        if (tokens_of(&d->example[i]) > longest) longest = tokens_of(&d->example[i]);
    }
    return reserve(pool, n == d->n ? all : (size_t)n * longest, err);
}

int rows_fill(struct batch *b, struct row_pool *pool, const struct dataset *d, int64_t from, int64_t n, sail_err *err)
{
    size_t need = 0;
    for (int64_t i = from; i < from + n; i++) need += tokens_of(&d->example[i % d->n]);
    int rc = need > pool->capacity ? reserve_any(pool, d, n, err) : SAIL_OK;
    if (rc) return rc;
    batch_clear(b);
    int32_t *at = pool->ids;
    for (int64_t i = from; i < from + n; i++) {
        const struct example *e = &d->example[i % d->n];
        if (d->kind == DATA_PREFERENCE) {
            at = add_row(b, d, e, e->chosen, i - from, at);
            at = add_row(b, d, e, e->rejected, i - from, at);
            b->pair[b->n_pair++] = (struct pair){.win = (int32_t)b->n - 2, .lose = (int32_t)b->n - 1, .route = route_of(e->route), .p = e->p, .margin = e->margin, .weight = 1};
        } else {
            at = add_row(b, d, e, e->completion, i - from, at);
        }
    }
    b->written |= COL_ROWS | COL_REWARD | (d->kind == DATA_PREFERENCE ? COL_PAIRS : 0);
    return SAIL_OK;
}

int rows_fill_unpaired(struct batch *b, struct row_pool *pool, const struct dataset *d, int64_t limit, sail_err *err)
{
    int64_t *rows;
    size_t need = 0, longest = 0;
    for (int64_t i = 0; i < d->n; i++) {
        need += 2 * (size_t)d->example[i].prompt.n + (size_t)d->example[i].completion.n;
        if ((size_t)d->example[i].completion.n > longest) longest = (size_t)d->example[i].completion.n;
    }
    int rc = reserve(pool, need + (size_t)d->n * longest, err);
    if (!rc) rc = mem_alloc(&rows, (size_t)d->n, sizeof *rows, err);
    if (rc) return rc;
    for (int64_t i = 0; i < d->n; i++) rows[i] = i;
    batch_clear(b);
    int32_t *at = pool->ids;
    for (int64_t i = 0; i < d->n; i++) {
        const struct example *e = &d->example[i];
        at = add_row(b, d, e, e->completion, i, at);
        b->verdict[b->n - 1] = e->label ? VERDICT_DESIRABLE : VERDICT_UNDESIRABLE;
        const int64_t other = limit > 0 ? dataset_mismatch(d, rows, d->n, i) : -1;
        if (other < 0) continue;
        struct span s = d->example[other].completion;
        if (s.n > limit - e->prompt.n) s.n = (int32_t)(limit - e->prompt.n);
        at = add_row(b, d, e, s, i, at);
        b->verdict[b->n - 1] = VERDICT_MISMATCHED;
    }
    b->written |= COL_ROWS | COL_REWARD | COL_VERDICT | (limit > 0 ? COL_MISMATCH : 0);
    free(rows);
    return SAIL_OK;
}

int rows_check(const struct dataset *d, const struct model *m, sail_err *err)
{
    struct ids row = {0};
    int rc = SAIL_OK;
    for (int64_t i = 0; !rc && i < d->n; i++) {
        const struct example *e = &d->example[i];
        const struct span completion[3] = {e->completion, e->chosen, e->rejected};
        static const char *const name[3] = {"completion", "chosen", "rejected"};
        for (int k = 0; !rc && k < 3; k++) {
            if (k == 0 ? d->kind == DATA_PREFERENCE || d->kind == DATA_PROMPTS : d->kind != DATA_PREFERENCE) continue;
            row.n = 0;
            for (int32_t t = 0; !rc && t < e->prompt.n; t++) rc = ids_push(&row, dataset_ids(d, e->prompt)[t], err);
            for (int32_t t = 0; !rc && t < completion[k].n; t++) rc = ids_push(&row, dataset_ids(d, completion[k])[t], err);
            char what[4300];
            snprintf(what, sizeof what, "%s:%lld: %s", dataset_file(d, e), (long long)e->line, name[k]);
            if (!rc) rc = model_check(m, row.id, e->prompt.n, completion[k].n, what, err);
        }
    }
    ids_release(&row);
    return rc;
}
