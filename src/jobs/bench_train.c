/* sail bench train: real steps of a method on real rows after two to warm up, what each phase took, and what they have to be compared with: the work that was
 * useful, the tokens with and without shared prompts, the time until the first step, the share of reading and tokenizing. */
#include <jansson.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "jobs/bench.h"
#include "train/run.h"

static const struct {
    const char *name;
    size_t at;
} phases[] = {
    {"data", offsetof(struct step_timing, data)},       {"sample", offsetof(struct step_timing, sample)},     {"label", offsetof(struct step_timing, label)},
    {"score", offsetof(struct step_timing, reference)}, {"forward", offsetof(struct step_timing, forward)},   {"backward", offsetof(struct step_timing, backward)},
    {"optimizer", offsetof(struct step_timing, optimizer)}, {"io", offsetof(struct step_timing, io)},
};
enum { N_PHASE = sizeof phases / sizeof *phases };

/* Sums over the timed steps. */
struct timed_steps {
    double *seconds; /* (steps) */
    double total, phase[N_PHASE];
    double flops, attention_flops; /* useful */
    double tokens, unique_tokens, pairs, allocations;
    double start;      /* seconds from the command's start to its first step */
    double data_share; /* of a step: its rows' reading and tokenizing */
};

/* Forward of the policy and of the reference, where it did not know the rows; gradient to the activations, and to the weights where they are trained. */
static void add_step(struct timed_steps *t, const struct run *r, const struct step_result *s, int64_t reference_rows)
{
    const struct sequences rows = batch_sequences(&r->batch);
    const double passes = 2 + (r->adapter ? 0 : 1) + (rows.n ? (double)reference_rows / (double)rows.n : 0);
    for (int k = 0; k < N_PHASE; k++) t->phase[k] += *(const double *)((const char *)&s->timing + phases[k].at);
    t->total += s->timing.total;
    t->flops += passes * model_flops(r->policy, &rows);
    t->attention_flops += passes * model_attention_flops(r->policy, &rows);
    t->tokens += (double)s->timing.tokens;
    t->unique_tokens += (double)model_unique_tokens(r->model, &rows);
    t->pairs += (double)s->n_pair;
}

static int run_steps(struct run *r, struct timed_steps *t, int64_t steps, sail_err *err)
{
    int rc = mem_alloc(&t->seconds, (size_t)steps, sizeof *t->seconds, err);
    for (int64_t i = 0; !rc && i < steps + BENCH_WARM_UP; i++) {
        struct step_result s;
        if (!r->config->reference_known) reference_forget(r);
        const int64_t before = mem_allocations(), scored = r->reference_rows;
        if ((rc = run_step(r, &s, err))) break;
        const int64_t allocations = mem_allocations() - before;
        if ((rc = run_record(r, &s, err)) || i < BENCH_WARM_UP) continue;
        t->allocations += (double)allocations;
        t->seconds[i - BENCH_WARM_UP] = s.timing.total;
        add_step(t, r, &s, r->reference_rows - scored);
    }
    const int64_t rows = r->data ? r->data->n : r->prompts->n;
    t->data_share = (t->phase[0] / (double)steps + r->data_s * (double)r->config->batch / (double)rows) / (t->total / (double)steps);
    return rc;
}

/* A run in a folder that goes away with it: metrics are written as a run writes them. */
static int measure(const sail_config *config, struct timed_steps *t, sail_err *err)
{
    const double start = clock_seconds();
    sail_config *c = config_copy(config);
    if (!c) return err_memory(err, sizeof *config);
    c->command = CMD_ALIGN;
    c->command_name = "align";
    c->dry_run = true; // no run directory is asked for
    c->max_steps = config->steps + BENCH_WARM_UP;
    struct run *r = NULL;
    char folder[] = "/tmp/sail-bench-XXXXXX";
    int rc = mkdtemp(folder) ? SAIL_OK : err_set(err, SAIL_FAILED, "%s: cannot make a folder there", folder);
    if (!rc) rc = run_open(&r, c, err);
    if (!rc) rc = run_writer_open(&r->writer, folder, -1, false, r->total_steps, err);
    t->start = clock_seconds() - start;
    if (!rc) rc = run_steps(r, t, config->steps, err);
    run_close(r);
    dir_remove(folder, NULL);
    sail_config_free(c);
    return rc;
}

/* Steps whose answers all tied did no work. */
static double attention_share(const struct timed_steps *t) { return t->flops > 0 ? t->attention_flops / t->flops : 0; }

static void print_json(const sail_config *c, const struct timed_steps *t, double median, enum dtype dtype)
{
    const double n = (double)c->steps, rate = t->flops / t->total / 1e9, peak = backend_peak_gflops(dtype);
    json_t *ms = json_object(), *all = json_pack("{s:s, s:s, s:s, s:s, s:i, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:o, s:o}", "what", "train", "method", c->method, "model", c->model,
                                                 "dtype", dtype == DTYPE_BF16 ? "bf16" : "f32", "threads", backend_thread_count(), "steps", (json_int_t)c->steps, "pairs_per_s", t->pairs / t->total,
                                                 "tokens_per_s", t->tokens / t->total, "s_per_step", t->total / n, "median_step_s", median, "useful_gflops", rate, "peak_gflops", peak, "share_of_peak", rate / peak,
                                                 "peak_rss_mib", mem_peak_mib(), "allocations_per_step", t->allocations / n, "tokens_per_step", t->tokens / n, "unique_tokens_per_step", t->unique_tokens / n,
                                                 "gflop_per_step", t->flops / n / 1e9, "attention_share", attention_share(t), "start_s", t->start, "data_share", t->data_share, "ms_per_step", ms, "machine",
                                                 bench_machine());
    for (int k = 0; k < N_PHASE; k++) json_object_set_new(ms, phases[k].name, json_real(1e3 * t->phase[k] / n));
    bench_print_json(all);
}

static void print_text(const sail_config *c, const struct timed_steps *t, double median, enum dtype dtype)
{
    const double n = (double)c->steps, rate = t->flops / t->total / 1e9, peak = backend_peak_gflops(dtype);
    bench_print_head("train", dtype);
    printf("  pairs/s          %10.3f\n", t->pairs / t->total);
    printf("  tokens/s         %10.1f   %.0f a step, %.0f with shared prompts once\n", t->tokens / t->total, t->tokens / n, t->unique_tokens / n);
    printf("  s/step           %10.4f   (%lld steps, median %.4f)\n", t->total / n, (long long)c->steps, median);
    printf("  useful GFLOP/s   %10.1f   %.1f %% of %.0f measured; attention %.1f %% of them\n", rate, 100 * rate / peak, peak, 100 * attention_share(t));
    printf("  peak memory MiB  %10.1f   %.3g allocations a step\n", mem_peak_mib(), t->allocations / n);
    printf("  start            %10.4f s until the first step; reading and tokenizing are %.3f %% of a step\n", t->start, 100 * t->data_share);
    printf("  ms/step         ");
    for (int k = 0; k < N_PHASE; k++) printf("%s %s %.1f", k ? "," : "", phases[k].name, 1e3 * t->phase[k] / n);
    putchar('\n');
}

int bench_train(const sail_config *config, sail_err *err)
{
    struct timed_steps t = {.seconds = NULL};
    int rc = measure(config, &t, err);
    if (!rc) (config->json ? print_json : print_text)(config, &t, bench_median(t.seconds, config->steps), backend_compute(config->dtype));
    free(t.seconds);
    return rc;
}
