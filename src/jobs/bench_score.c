/* sail bench score: log-probs of the rows of a file, a batch at a time. */
#include <stdlib.h>

#include "base/err.h"
#include "base/log.h"
#include "jobs/bench.h"
#include "jobs/rows.h"
#include "train/run.h"

/* Sums over the timed steps. */
struct score_result {
    double seconds, median_step_s, data_s; /* data_s: taking the steps' rows */
    int64_t pairs, tokens, allocations;
    double flops; /* useful */
};

static void print_result(const sail_config *c, const struct score_result *b, enum dtype dtype)
{
    const double peak = backend_peak_gflops(dtype), rate = b->flops / b->seconds / 1e9, pairs = (double)b->pairs / b->seconds, tokens = (double)b->tokens / b->seconds, step = b->seconds / (double)c->steps, n = (double)c->steps;
    if (c->json) {
        bench_print_json(json_pack("{s:s, s:s, s:s, s:i, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:{s:f, s:f}, s:o}", "what", "score", "model", c->model, "dtype",
                                   dtype == DTYPE_BF16 ? "bf16" : "f32", "threads", backend_thread_count(), "steps", (json_int_t)c->steps, "pairs_per_s", pairs, "tokens_per_s", tokens, "s_per_step", step,
                                   "median_step_s", b->median_step_s, "useful_gflops", rate, "peak_gflops", peak, "share_of_peak", rate / peak, "peak_rss_mib", mem_peak_mib(), "allocations_per_step",
                                   (double)b->allocations / n, "gflop_per_step", b->flops / n / 1e9, "ms_per_step", "data", 1e3 * b->data_s / n, "score", 1e3 * step, "machine", bench_machine()));
        return;
    }
    bench_print_head("score", dtype);
    printf("  pairs/s          %10.3f\n", pairs);
    printf("  tokens/s         %10.1f\n", tokens);
    printf("  s/step           %10.4f   (%lld steps, median %.4f)\n", step, (long long)c->steps, b->median_step_s);
    printf("  useful GFLOP/s   %10.1f   %.1f %% of %.0f measured\n", rate, 100 * rate / peak, peak);
    printf("  peak memory MiB  %10.1f   %.3g allocations a step\n", mem_peak_mib(), (double)b->allocations / n);
    printf("  ms/step          data %.1f, score %.1f\n", 1e3 * b->data_s / n, 1e3 * step);
}

static int time_steps(const sail_config *c, struct score_result *b, enum dtype dtype, sail_err *err)
{
    struct bench_input l = {0};
    struct batch batch = {0};
    struct row_pool pool = {0};
    double *times = NULL;
    int rc = bench_load(&l, c, c->data, false, dtype, err);
    if (!rc) rc = batch_init(&batch, 2 * c->batch, c->batch, err);
    if (!rc) rc = mem_alloc(&times, (size_t)c->steps, sizeof *times, err);
    for (int64_t i = 0; !rc && i < c->steps + BENCH_WARM_UP; i++) {
        const int64_t allocations = mem_allocations();
        const double begin = clock_seconds();
        if ((rc = rows_fill(&batch, &pool, l.data, i * c->batch, c->batch, err))) break;
        const struct sequences s = batch_sequences(&batch);
        const double start = clock_seconds();
        if ((rc = model_score(l.policy, &s, batch.logp, NULL, err)) || i < BENCH_WARM_UP) continue;
        times[i - BENCH_WARM_UP] = clock_seconds() - start;
        b->allocations += mem_allocations() - allocations;
        b->data_s += start - begin;
        b->seconds += times[i - BENCH_WARM_UP];
        for (int64_t k = 0; k < s.n; k++) b->tokens += s.n_prompt[k] + s.n_tok[k];
        b->pairs += c->batch;
        b->flops += model_flops(l.policy, &s);
    }
    if (!rc) b->median_step_s = bench_median(times, c->steps);
    free(times);
    row_pool_release(&pool);
    batch_release(&batch);
    bench_unload(&l);
    return rc;
}

int bench_score(const sail_config *c, enum dtype dtype, sail_err *err)
{
    struct score_result b = {0};
    int rc = config_require(c, OPTION_data, err);
    if (!rc) rc = time_steps(c, &b, dtype, err);
    if (!rc) print_result(c, &b, dtype);
    return rc;
}
