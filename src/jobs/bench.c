/* sail bench train|score|generate|tokenize: real work on real rows, timed after warming up, beside what this machine can do at most. */
#include "jobs/bench.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/machine.h"
#include "jobs/jobs.h"

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

void bench_print_machine(void)
{
    const struct machine m = machine_facts();
    printf("%s, %ld cores, %.0f MiB, %s\n", m.processor, m.cores, m.memory_mib, backend_describe());
}

void bench_print_head(const char *what, enum dtype dtype)
{
    printf("%s, %s, %d threads\n", what, dtype == DTYPE_BF16 ? "bf16" : "f32", backend_thread_count());
    bench_print_machine();
}

void bench_print_json(json_t *all)
{
    json_dumpf(all, stdout, JSON_COMPACT | JSON_REAL_PRECISION(7));
    putchar('\n');
    json_decref(all);
}

int bench_load(struct bench_input *l, const sail_config *c, const char *path, bool prompts, enum dtype dtype, sail_err *err)
{
    const struct model_options o = {.compute = dtype, .micro_tokens = c->micro_tokens};
    int rc = model_open(&l->model, c->model, &o, err);
    if (rc) return rc;
    const struct model_facts *f = model_facts(l->model);
    if (c->adapter && (rc = adapter_open(&l->adapter, l->model, c->adapter, false, err))) return rc;
    l->policy = (struct policy){l->model, l->adapter};
    if (!path) return SAIL_OK;
    if ((rc = text_pipeline_open(&l->text, c->model, f->eos, f->n_eos, c, err))) return rc;
    struct dataset_options d = l->text.options;
    d.max_length = c->max_length < f->max_position ? c->max_length : f->max_position;
    d.max_prompt_length = c->max_prompt_length;
    if (prompts && !d.max_prompt_length) d.max_prompt_length = d.max_length - c->max_new_tokens;
    d.want_prompts_only = prompts;
    return dataset_open(&l->data, path, &d, err);
}

void bench_unload(struct bench_input *l)
{
    dataset_free(l->data);
    text_pipeline_close(&l->text);
    adapter_close(l->adapter);
    model_close(l->model);
}

int job_bench(const sail_config *c, sail_err *err)
{
    const enum dtype dtype = backend_compute(c->dtype);
    backend_threads((int)c->threads);
    int rc = config_require(c, OPTION_model, err);
    if (rc) return rc;
    if (!c->action) return err_set(err, SAIL_USAGE, "`sail bench` needs one of train, score, generate, tokenize");
    if (!strcmp(c->action, "train")) return bench_train(c, err);
    if (!strcmp(c->action, "score")) return bench_score(c, dtype, err);
    if (!strcmp(c->action, "generate")) return bench_generate(c, dtype, err);
    if (!strcmp(c->action, "tokenize")) return bench_tokenize(c, err);
    return err_set(err, SAIL_USAGE, "`sail bench %s`: expected train, score, generate or tokenize", c->action);
}
