/* --dry-run: the resolved method, step by step, and what the run will need. */

#include "base/err.h"
#include "base/mem.h"
#include "train/run.h"

static double mib(size_t bytes) { return (double)bytes / (1 << 20); }

static void print_method(const struct run *r, FILE *out)
{
    const sail_config *c = r->config;
    const struct preset *p = r->preset;
    fprintf(out, "method      %s (%s)\n", p->name, p->paper);
    fprintf(out, "sampler     %s\n", p->sampler);
    fprintf(out, "labeler     %s%s%s\n", p->labeler, r->rewarder ? ": " : "", r->rewarder ? rewarder_name(r->rewarder) : "");
    fprintf(out, "objective   %s: %s\n", r->objective->name, r->objective->equation);
    for (int k = 0; k < r->params.sum.n; k++) fprintf(out, "  %8g    %s: %s\n", r->params.sum.weight[k], r->params.sum.term[k]->name, r->params.sum.term[k]->equation);
    fprintf(out, "reference   %s\n", !r->needs_reference ? "none" : r->reference_rule->moves ? r->reference_rule->name : c->ref ? c->ref : p->reference);
    if (mixture_offline(r->mixture) < 1) {
        fprintf(out, "mixture     offline %g, dp %g, pp %g, pr %g\n", mixture_offline(r->mixture), r->mixture.dp, r->mixture.pp, r->mixture.pr);
        fprintf(out, "constants   beta %g, rho %g, pi %g, gamma %g, baseline %s, label %s, pr-label %s\n", c->beta, c->rho, c->pi, c->gamma, c->baseline, c->label, c->pr_label);
    }
    if (c->round_steps) fprintf(out, "rounds      %lld of %lld steps; gallery: %s\n", (long long)((r->total_steps + c->round_steps - 1) / c->round_steps), (long long)c->round_steps, c->gallery);
    fprintf(out, "steps       %lld of %lld %s (%s, learning rate %g, %s)\n", (long long)r->total_steps, (long long)c->batch, r->pairs ? "pairs" : "rows", c->optimizer, c->lr, c->schedule);
}

/* Most tokens of a group, its prompt once: of a data row, or of a prompt and its sampled answers. */
static int64_t longest_group(const struct run *r)
{
    int64_t most = 1;
    for (int64_t i = 0; r->data && i < r->data->n; i++) {
        const struct example *e = &r->data->example[i];
        const int64_t n = e->prompt.n + (r->data->kind == DATA_PREFERENCE ? (int64_t)e->chosen.n + e->rejected.n : e->completion.n);
        if (n > most) most = n;
    }
    if (r->mismatched) most += unpaired_longest(r);
    for (int64_t i = 0; r->prompts && i < r->prompts->n; i++) {
        const int64_t n = r->prompts->example[i].prompt.n + candidates_count(r) * r->config->max_new_tokens;
        if (n > most) most = n;
    }
    return most;
}

/* Most packed tokens of one forward and backward: groups stay together, and a step has no more than its rows. */
static int64_t pass_rows(const struct run *r)
{
    const sail_config *c = r->config;
    const int64_t group = longest_group(r), of_step = group * (c->batch + (anchors_wanted(r) ? c->batch : 0));
    int64_t most = model_micro_tokens(r->model);
    if (c->micro_batch && c->micro_batch * group < most) most = c->micro_batch * group;
    if (most < group) most = group;
    return most < of_step ? most : of_step;
}

struct memory_sum {
    FILE *out;
    size_t total;
};

static void add_part(struct memory_sum *s, const char *what, size_t bytes)
{
    if (bytes) fprintf(s->out, "%s %.1f MiB, ", what, mib(bytes));
    s->total += bytes;
}

static size_t all_of(struct model_memory m) { return m.weights + m.layouts + m.activations; }

static void print_memory(const struct run *r, FILE *out)
{
    struct memory_sum sum = {.out = out};
    const int64_t rows = pass_rows(r);
    if (r->adapter) adapter_dropout(r->adapter, r->config->lora_dropout, 0, 0); // as in a step
    const struct model_memory m = model_memory(r->policy, rows);
    if (r->adapter) adapter_dropout(r->adapter, 0, 0, 0);
    size_t trained = 0, state = (size_t)optimizer_state_values(r->optimizer) * sizeof(float);
    for (int64_t i = 0; i < r->n_param; i++) trained += (size_t)r->param[i].n * 8; // value and gradient
    fputs("memory      ", out);
    add_part(&sum, "weights", m.weights);
    add_part(&sum, "layouts", m.layouts);
    add_part(&sum, "activations", m.activations);
    add_part(&sum, "trained", trained);
    add_part(&sum, "optimizer", state);
    if (r->config->extragradient) add_part(&sum, "start of a step", trained / 2 + state);
    if (r->reference_adapter) add_part(&sum, "the reference's adapter", adapter_memory(r->reference_adapter));
    if (r->init_adapter) add_part(&sum, "the first adapter", adapter_memory(r->init_adapter));
    if (r->reference_model) add_part(&sum, "reference", all_of(model_memory((struct policy){.model = r->reference_model}, rows)));
    if (r->sampler) add_part(&sum, "sampling", sampler_memory(r->sampler) + (r->reference_sampler ? sampler_memory(r->reference_sampler) : 0));
    if (r->rewarder) add_part(&sum, "judges", rewarder_memory(r->rewarder));
    if (r->two_level) {
        const struct model_memory judge = two_level_memory(r, &trained, &state);
        add_part(&sum, "reward model", all_of(judge) + trained);
        add_part(&sum, "second policy and reward model's optimizer", state);
    }
    fprintf(out, "together %.1f MiB for %lld tokens at a time\n", mib(sum.total), (long long)rows);
}

int run_dry(const struct run *r, FILE *out, sail_err *err)
{
    print_method(r, out);
    print_memory(r, out);
    struct buf yaml;
    buf_init(&yaml, 0);
    config_write_yaml(r->config, &yaml);
    int rc = yaml.failed ? err_memory(err, yaml.len) : SAIL_OK;
    fprintf(out, "\n%s", yaml.data ? yaml.data : "");
    buf_release(&yaml);
    return rc;
}
