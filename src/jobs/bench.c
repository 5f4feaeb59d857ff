/* sail bench train|score|generate|tokenize: real work on real rows, timed after two warm-up steps, beside what this machine can do at most. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/machine.h"
#include "jobs/jobs.h"
#include "train/run.h"

enum { WARM_UP = 2 };

struct bench_result {
    const char *what;
    double seconds; /* median step times steps, for rates */
    double median_step_s;
    int64_t steps, pairs, tokens;
    double flops; /* useful, of all timed steps */
    enum dtype dtype;
};

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

double bench_median(double *times, int64_t n)
{
    qsort(times, (size_t)n, sizeof *times, ascending);
    return times[n / 2];
}

json_t *bench_machine(void)
{
    const struct machine m = machine_facts();
    return json_pack("{s:s, s:i, s:f, s:s}", "processor", m.processor, "cores", (int)m.cores, "memory_mib", m.memory_mib, "instructions", backend_describe());
}

void bench_print_head(const char *what, enum dtype dtype)
{
    const struct machine m = machine_facts();
    printf("%s, %s, %d threads\n%s, %ld cores, %.0f MiB, %s\n", what, dtype == DTYPE_BF16 ? "bf16" : "f32", backend_thread_count(), m.processor, m.cores, m.memory_mib, backend_describe());
}

static void print_result(const sail_config *c, const struct bench_result *b)
{
    const double peak = backend_peak_gflops(b->dtype), rate = b->flops / b->seconds / 1e9, pairs = (double)b->pairs / b->seconds, tokens = (double)b->tokens / b->seconds, step = b->seconds / (double)b->steps;
    if (c->json) {
        json_t *all = json_pack("{s:s, s:s, s:s, s:i, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:o}", "what", b->what, "model", c->model, "dtype", b->dtype == DTYPE_BF16 ? "bf16" : "f32", "threads",
                                backend_thread_count(), "steps", (json_int_t)b->steps, "pairs_per_s", pairs, "tokens_per_s", tokens, "s_per_step", step, "median_step_s", b->median_step_s, "useful_gflops", rate,
                                "peak_gflops", peak, "share_of_peak", rate / peak, "peak_rss_mib", mem_peak_mib(), "machine", bench_machine());
        json_dumpf(all, stdout, JSON_COMPACT | JSON_REAL_PRECISION(7));
        putchar('\n');
        json_decref(all);
        return;
    }
    bench_print_head(b->what, b->dtype);
    if (b->pairs) printf("  pairs/s          %10.3f\n", pairs);
    printf("  tokens/s         %10.1f\n", tokens);
    printf("  s/step           %10.4f   (%lld steps, median %.4f)\n", step, (long long)b->steps, b->median_step_s);
    printf("  useful GFLOP/s   %10.1f   %.1f %% of %.0f measured\n", rate, 100 * rate / peak, peak);
    printf("  peak memory MiB  %10.1f\n", mem_peak_mib());
}

struct loaded {
    struct model *model;
    struct adapter *adapter;
    struct text_pipeline text;
    struct dataset *data;
    struct policy policy;
};

static int load(struct loaded *l, const sail_config *c, const char *path, bool prompts, enum dtype dtype, sail_err *err)
{
    const struct model_options o = {.compute = dtype, .micro_tokens = c->micro_tokens};
    int rc = model_open(&l->model, c->model, &o, err);
    if (rc) return rc;
    const struct model_facts *f = model_facts(l->model);
    if (c->adapter && (rc = adapter_open(&l->adapter, l->model, c->adapter, false, err))) return rc;
    l->policy = (struct policy){l->model, l->adapter};
    if ((rc = text_pipeline_open(&l->text, c->model, f->eos, f->n_eos, c, err))) return rc;
    struct dataset_options d = l->text.options;
    d.max_length = c->max_length < f->max_position ? c->max_length : f->max_position;
    d.max_prompt_length = c->max_prompt_length;
    if (prompts && !d.max_prompt_length) d.max_prompt_length = d.max_length - c->max_new_tokens;
    d.want_prompts_only = prompts;
    return dataset_open(&l->data, path, &d, err);
}

static void unload(struct loaded *l)
{
    dataset_free(l->data);
    text_pipeline_close(&l->text);
    adapter_close(l->adapter);
    model_close(l->model);
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

static int bench_score(const sail_config *c, struct bench_result *b, sail_err *err)
{
    struct loaded l = {0};
    struct batch batch = {0};
    int32_t *pool = NULL;
    double *times = NULL;
    int rc = load(&l, c, c->data, false, b->dtype, err);
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
    unload(&l);
    return rc;
}

static int bench_generate(const sail_config *c, struct bench_result *b, sail_err *err)
{
    struct loaded l = {0};
    struct prompt *prompt = NULL;
    struct sampler *sampler = NULL;
    int rc = load(&l, c, c->prompts ? c->prompts : c->data, true, b->dtype, err);
    if (!rc) rc = mem_alloc(&prompt, (size_t)c->batch, sizeof *prompt, err);
    if (!rc) rc = sampler_create(&sampler, l.model, err);
    for (int64_t i = 0; !rc && i < c->batch; i++) {
        const struct span s = l.data->example[i % l.data->n].prompt;
        prompt[i] = (struct prompt){.ids = dataset_ids(l.data, s), .n = s.n, .key = (uint64_t)i};
    }
    struct sampler_options o = {.temperature = c->temperature, .top_k = c->top_k, .top_p = c->top_p, .max_new_tokens = c->max_new_tokens, .n_return = 1,
                                .n_slot = c->batch, .seed = (uint64_t)c->seed, .ignore_eos = true};
    double times[3];
    struct answer *answers;
    for (int i = 0; !rc && i < 4; i++) { // one to warm up
        const double start = clock_seconds();
        rc = sampler_run(sampler, l.policy, prompt, c->batch, &o, &answers, NULL, NULL, err);
        if (i) times[i - 1] = clock_seconds() - start;
    }
    if (!rc) {
        qsort(times, 3, sizeof *times, ascending);
        b->steps = 1;
        b->seconds = b->median_step_s = times[1];
        b->tokens = c->batch * c->max_new_tokens;
        for (int64_t i = 0; i < c->batch; i++) {
            const int32_t group = 0, *ids = prompt[i].ids;
            const struct sequences s = {.n = 1, .ids = &ids, .n_prompt = &prompt[i].n, .n_tok = &answers[i].n, .group = &group};
            b->flops += model_flops(l.policy, &s);
        }
    }
    sampler_free(sampler);
    free(prompt);
    unload(&l);
    return rc;
}

int job_bench(const sail_config *c, sail_err *err)
{
    struct bench_result b = {.what = c->action};
    b.dtype = backend_compute(c->dtype);
    backend_threads((int)c->threads);
    int rc = config_require(c, OPTION_model, err);
    if (rc) return rc;
    if (c->action && !strcmp(c->action, "tokenize")) return bench_tokenize(c, err);
    if (!c->data && !c->prompts) return err_set(err, SAIL_USAGE, "`sail bench` needs --data (train, score), --prompts (generate) or --text-file (tokenize)");
    if (!c->action)
        rc = err_set(err, SAIL_USAGE, "`sail bench` needs one of train, score, generate, tokenize");
    else if (!strcmp(c->action, "train"))
        return bench_train(c, err);
    else if (!strcmp(c->action, "score"))
        rc = c->data ? bench_score(c, &b, err) : config_require(c, OPTION_data, err);
    else if (!strcmp(c->action, "generate"))
        rc = bench_generate(c, &b, err);
    else
        rc = err_set(err, SAIL_USAGE, "`sail bench %s`: expected train, score, generate or tokenize", c->action);
    if (!rc) print_result(c, &b);
    return rc;
}
