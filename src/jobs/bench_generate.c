/* sail bench generate: prompts read and answers written, timed apart, beside what this machine multiplies and reads from memory at most. */
#include <stdlib.h>

#include "base/err.h"
#include "base/log.h"
#include "jobs/bench.h"
#include "sample/sampler.h"

struct generation {
    const sail_config *config;
    struct bench_input in;
    struct prompt *prompt;
    int32_t *made; /* (n_prompt, prompt_length) */
    int64_t n_prompt, n_answer;
    struct sampler *sampler;
    struct sampler_cost *run; /* (steps) */
    double prefill_flops, decode_flops;
    int64_t allocations; /* of all timed runs */
};

/* Prompts of one length that no tokenizer is needed for; other programs make the same ids (bench/made_ids.py). */
static int make_prompts(struct generation *g, sail_err *err)
{
    const int64_t n = g->config->prompt_length, vocab = model_facts(g->in.model)->vocab, room = model_facts(g->in.model)->max_position;
    if (n + g->config->max_new_tokens > room)
        return err_set(err, SAIL_FAILED, "--prompt-length %lld and --max-new-tokens %lld are more than the model's context of %lld", (long long)n, (long long)g->config->max_new_tokens, (long long)room);
    int rc = mem_alloc(&g->made, (size_t)g->n_prompt * (size_t)n, sizeof *g->made, err);
    for (int64_t i = 0; !rc && i < g->n_prompt; i++) {
        for (int64_t t = 0; t < n; t++) g->made[i * n + t] = (int32_t)((7919 * (t + 1) + 31 * i) % vocab);
        g->prompt[i] = (struct prompt){.ids = g->made + i * n, .n = (int32_t)n, .key = (uint64_t)i};
    }
    return rc;
}

static int open_all(struct generation *g, enum dtype dtype, sail_err *err)
{
    const sail_config *c = g->config;
    const char *path = c->prompt_length ? NULL : c->prompts ? c->prompts : c->data;
    if (!path && !c->prompt_length) return err_set(err, SAIL_USAGE, "`sail bench generate` needs --prompts or --prompt-length");
    if (c->batch % c->num_return) return err_set(err, SAIL_USAGE, "--batch %lld rows are no whole number of prompts with --num-return %lld answers each", (long long)c->batch, (long long)c->num_return);
    g->n_answer = c->batch;
    g->n_prompt = c->batch / c->num_return;
    int rc = bench_load(&g->in, c, path, true, dtype, err);
    if (!rc) rc = mem_alloc(&g->prompt, (size_t)g->n_prompt, sizeof *g->prompt, err);
    if (!rc) rc = mem_alloc(&g->run, (size_t)c->steps, sizeof *g->run, err);
    if (!rc) rc = sampler_create(&g->sampler, g->in.model, err);
    if (rc || !path) return rc ? rc : make_prompts(g, err);
    for (int64_t i = 0; i < g->n_prompt; i++) {
        const struct span s = g->in.data->example[i % g->in.data->n].prompt;
        g->prompt[i] = (struct prompt){.ids = dataset_ids(g->in.data, s), .n = s.n, .key = (uint64_t)i};
    }
    return rc;
}

/* Of one run; every answer of a prompt has the same length. */
static void count_flops(struct generation *g, const struct answer *answers)
{
    const int64_t K = g->config->num_return;
    for (int64_t i = 0; i < g->n_answer; i++) {
        const int32_t group[2] = {0, 0}, n_prompt[2] = {g->prompt[i / K].n, g->prompt[i / K].n}, n_tok[2] = {0, answers[i].n}, *ids[2] = {g->prompt[i / K].ids, g->prompt[i / K].ids};
        const struct sequences prompt = {.n = 1, .ids = ids, .n_prompt = n_prompt, .n_tok = n_tok, .group = group}, both = {.n = 2, .ids = ids, .n_prompt = n_prompt, .n_tok = n_tok, .group = group};
        if (i % K == 0) g->prefill_flops += model_prefill_flops(g->in.policy, n_prompt[0]);
        g->decode_flops += model_flops(g->in.policy, &both) - model_flops(g->in.policy, &prompt);
    }
}

static double seconds_of(const struct sampler_cost *c) { return c->prefill_s + c->decode_s; }

static int ascending(const void *a, const void *b)
{
    const double x = seconds_of(a), y = seconds_of(b);
    return x < y ? -1 : x > y;
}

static int run(struct generation *g, sail_err *err)
{
    const sail_config *c = g->config;
    const struct sampler_options o = {.temperature = c->temperature, .top_k = c->top_k, .top_p = c->top_p, .max_new_tokens = c->max_new_tokens, .n_return = c->num_return,
                                      .n_slot = c->batch, .seed = (uint64_t)c->seed, .ignore_eos = true};
    struct answer *answers = NULL;
    for (int64_t i = -1; i < c->steps; i++) { // one to warm up
        const int64_t allocations = mem_allocations();
        int rc = sampler_run(g->sampler, g->in.policy, g->prompt, g->n_prompt, &o, &answers, NULL, NULL, err);
        if (rc) return rc;
        if (i < 0) continue;
        g->allocations += mem_allocations() - allocations;
        g->run[i] = sampler_cost(g->sampler);
    }
    count_flops(g, answers);
    qsort(g->run, (size_t)c->steps, sizeof *g->run, ascending);
    return SAIL_OK;
}

static void print_generation(const struct generation *g, enum dtype dtype)
{
    const sail_config *c = g->config;
    const struct sampler_cost *m = &g->run[c->steps / 2]; // the median run
    const double peak = backend_peak_gflops(dtype), memory = backend_memory_gbs(), total = seconds_of(m), new = (double)m->decode_tokens, old = (double)m->prefill_tokens;
    const double prefill = g->prefill_flops / m->prefill_s / 1e9, decode = g->decode_flops / m->decode_s / 1e9, both = (g->prefill_flops + g->decode_flops) / total / 1e9;
    const double weights = model_step_bytes(g->in.policy) * (double)m->passes / m->decode_s / 1e9;
    const double allocations = (double)g->allocations / (double)c->steps;
    const char *type = dtype == DTYPE_BF16 ? "bf16" : "f32";
    if (c->json) {
        json_t *all = json_pack("{s:s, s:s, s:s, s:i, s:I, s:f, s:f, s:f, s:I, s:I, s:I, s:I}", "what", "generate", "model", c->model, "dtype", type, "threads", backend_thread_count(), "steps",
                                (json_int_t)c->steps, "pairs_per_s", 0.0, "tokens_per_s", new / total, "s_per_step", total, "rows", (json_int_t)g->n_answer, "returns", (json_int_t)c->num_return,
                                "prompt_tokens", (json_int_t)m->prefill_tokens, "new_tokens", (json_int_t)m->decode_tokens);
        json_t *prompts = json_pack("{s:f, s:f, s:f, s:f}", "prefill_s", m->prefill_s, "prefill_tokens_per_s", old / m->prefill_s, "prefill_gflops", prefill, "prefill_share_of_peak", prefill / peak);
        json_t *answers = json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "decode_s", m->decode_s, "decode_tokens_per_s", new / m->decode_s, "decode_gflops", decode, "decode_share_of_peak", decode / peak,
                                    "decode_weights_gbs", weights, "memory_gbs", memory, "decode_share_of_memory", weights / memory);
        json_t *machine = json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:{s:f, s:f}, s:o}", "useful_gflops", both, "peak_gflops", peak, "share_of_peak", both / peak, "peak_rss_mib", mem_peak_mib(), "allocations_per_step",
                                    allocations, "gflop_per_step", (g->prefill_flops + g->decode_flops) / 1e9, "ms_per_step", "prefill", 1e3 * m->prefill_s, "decode", 1e3 * m->decode_s, "machine", bench_machine());
        json_object_update(all, prompts);
        json_object_update(all, answers);
        json_object_update(all, machine);
        bench_print_json(all);
        json_decref(prompts);
        json_decref(answers);
        json_decref(machine);
        return;
    }
    bench_print_head("generate", dtype);
    printf("  rows             %10lld   %lld to a prompt\n", (long long)g->n_answer, (long long)c->num_return);
    printf("  new tokens/s     %10.1f   %.3f s, prompts included (median of %lld runs)\n", new / total, total, (long long)c->steps);
    printf("  prefill tokens/s %10.1f   %lld tokens in %.1f ms, %.1f GFLOP/s, %.1f %% of %.0f measured\n", old / m->prefill_s, (long long)m->prefill_tokens, 1e3 * m->prefill_s, prefill,
           100 * prefill / peak, peak);
    printf("  decode tokens/s  %10.1f   %lld tokens in %.1f ms, %.1f GFLOP/s, %.1f %%\n", new / m->decode_s, (long long)m->decode_tokens, 1e3 * m->decode_s, decode, 100 * decode / peak);
    printf("  decode GB/s      %10.1f   of weights, %.1f %% of %.1f measured; %.3f ms a pass\n", weights, 100 * weights / memory, memory, 1e3 * m->decode_s / (double)(m->passes ? m->passes : 1));
    printf("  useful GFLOP/s   %10.1f   %.1f %% of %.0f measured, prompts and answers together\n", both, 100 * both / peak, peak);
    printf("  peak memory MiB  %10.1f   %.3g allocations a run\n", mem_peak_mib(), allocations);
}

int bench_generate(const sail_config *c, enum dtype dtype, sail_err *err)
{
    struct generation g = {.config = c};
    int rc = open_all(&g, dtype, err);
    if (!rc) rc = run(&g, err);
    if (!rc) print_generation(&g, dtype);
    sampler_free(g.sampler);
    free(g.run);
    free(g.made);
    free(g.prompt);
    bench_unload(&g.in);
    return rc;
}
