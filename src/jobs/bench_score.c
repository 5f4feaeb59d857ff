/* sail bench score: log-probs of the rows of a file, a batch at a time. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "batch/batch.h"
#include "jobs/bench.h"
#include "train/run.h"

enum { WARM_UP = 2 };

struct score_result {
    double seconds; /* median step times steps, for rates */
    double median_step_s;
    int64_t steps, pairs, tokens;
    double flops; /* useful, of all timed steps */
    enum dtype dtype;
};

static void print_result(const sail_config *c, const struct score_result *b)
{
    const double peak = backend_peak_gflops(b->dtype), rate = b->flops / b->seconds / 1e9, pairs = (double)b->pairs / b->seconds, tokens = (double)b->tokens / b->seconds, step = b->seconds / (double)b->steps;
    if (c->json) {
        json_t *all = json_pack("{s:s, s:s, s:s, s:i, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:o}", "what", "score", "model", c->model, "dtype", b->dtype == DTYPE_BF16 ? "bf16" : "f32", "threads",
                                backend_thread_count(), "steps", (json_int_t)b->steps, "pairs_per_s", pairs, "tokens_per_s", tokens, "s_per_step", step, "median_step_s", b->median_step_s, "useful_gflops", rate,
                                "peak_gflops", peak, "share_of_peak", rate / peak, "peak_rss_mib", mem_peak_mib(), "machine", bench_machine());
        json_dumpf(all, stdout, JSON_COMPACT | JSON_REAL_PRECISION(7));
        putchar('\n');
        json_decref(all);
        return;
    }
    bench_print_head("score", b->dtype);
    printf("  pairs/s          %10.3f\n", pairs);
    printf("  tokens/s         %10.1f\n", tokens);
    printf("  s/step           %10.4f   (%lld steps, median %.4f)\n", step, (long long)b->steps, b->median_step_s);
    printf("  useful GFLOP/s   %10.1f   %.1f %% of %.0f measured\n", rate, 100 * rate / peak, peak);
    printf("  peak memory MiB  %10.1f\n", mem_peak_mib());
}

/* The rows of one step as sequences: both answers of a preference row side by side. */
static int64_t fill_rows(const struct dataset *d, int64_t from, int64_t n, struct batch *b, int32_t *pool)
{
    batch_clear(b);
    int64_t tokens = 0;
    for (int64_t i = from; i < from + n; i++) {
        const struct example *e = &d->example[i % d->n];
        const struct span side[2] = {d->kind == DATA_PREFERENCE ? e->chosen : e->completion, e->rejected};
        for (int k = 0; k < (d->kind == DATA_PREFERENCE ? 2 : 1); k++) {
            memcpy(pool, dataset_ids(d, e->prompt), (size_t)e->prompt.n * sizeof *pool);
            memcpy(pool + e->prompt.n, dataset_ids(d, side[k]), (size_t)side[k].n * sizeof *pool);
            b->ids[b->n] = pool;
            b->n_prompt[b->n] = e->prompt.n;
            b->n_tok[b->n] = side[k].n;
            b->group[b->n++] = (int32_t)(i - from);
            pool += e->prompt.n + side[k].n;
            tokens += e->prompt.n + side[k].n;
        }
    }
    b->written |= COL_ROWS;
    return tokens;
}

static int time_steps(const sail_config *c, struct score_result *b, sail_err *err)
{
    struct bench_input l = {0};
    struct batch batch = {0};
    int32_t *pool = NULL;
    double *times = NULL;
    int rc = bench_load(&l, c, c->data, false, b->dtype, err);
    if (!rc) rc = batch_init(&batch, 2 * c->batch, c->batch, err);
    if (!rc) rc = mem_alloc(&pool, 2 * (size_t)c->batch * (size_t)model_facts(l.model)->max_position, sizeof *pool, err);
    if (!rc) rc = mem_alloc(&times, (size_t)c->steps, sizeof *times, err);
    for (int64_t i = 0; !rc && i < c->steps + WARM_UP; i++) {
        const int64_t tokens = fill_rows(l.data, i * c->batch, c->batch, &batch, pool);
        const struct sequences s = batch_sequences(&batch);
        const double start = clock_seconds();
        if ((rc = model_score(l.policy, &s, batch.logp, NULL, err)) || i < WARM_UP) continue;
        times[i - WARM_UP] = clock_seconds() - start;
        b->seconds += times[i - WARM_UP];
        b->tokens += tokens;
        b->pairs += c->batch;
        b->flops += model_flops(l.policy, &s);
    }
    if (!rc) {
        b->steps = c->steps;
        b->median_step_s = bench_median(times, b->steps);
    }
    free(times);
    free(pool);
    batch_release(&batch);
    bench_unload(&l);
    return rc;
}

int bench_score(const sail_config *c, enum dtype dtype, sail_err *err)
{
    struct score_result b = {.dtype = dtype};
    int rc = config_require(c, OPTION_data, err);
    if (!rc) rc = time_steps(c, &b, err);
    if (!rc) print_result(c, &b);
    return rc;
}
