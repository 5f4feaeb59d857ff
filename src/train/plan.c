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

int run_dry(const struct run *r, FILE *out, sail_err *err)
{
    print_method(r, out);
    const struct model_memory m = model_memory(r->model);
    size_t trained = 0, state = (size_t)optimizer_state_values(r->optimizer) * sizeof(float);
    for (int64_t i = 0; i < r->n_param; i++) trained += (size_t)r->param[i].n * 8; // value and gradient
    fprintf(out, "memory      weights %.0f MiB, layouts %.0f MiB, activations %.0f MiB, trained %.0f MiB, optimizer %.0f MiB", mib(m.weights), mib(m.layouts), mib(m.activations), mib(trained), mib(state));
    if (r->config->extragradient) fprintf(out, ", start of a step %.0f MiB", mib(trained / 2 + state));
    if (r->reference_model) {
        const struct model_memory other = model_memory(r->reference_model);
        fprintf(out, ", reference %.0f MiB", mib(other.weights + other.layouts + other.activations));
    }
    if (r->rewarder && rewarder_memory(r->rewarder)) fprintf(out, ", judges %.0f MiB", mib(rewarder_memory(r->rewarder)));
    if (r->two_level) {
        const struct model_memory judge = two_level_memory(r, &trained, &state);
        fprintf(out, ", reward model %.0f MiB, second policy and reward model's optimizer %.0f MiB", mib(judge.weights + judge.layouts + judge.activations + trained), mib(state));
    }
    fputs("\n", out);
    struct buf yaml;
    buf_init(&yaml, 0);
    config_write_yaml(r->config, &yaml);
    int rc = yaml.failed ? err_memory(err, yaml.len) : SAIL_OK;
    fprintf(out, "\n%s", yaml.data ? yaml.data : "");
    buf_release(&yaml);
    return rc;
}
