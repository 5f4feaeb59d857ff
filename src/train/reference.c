/* What the reference does as the policy moves. A moving reference is a frozen copy of the adapter over the same base. */
#include <math.h>
#include <string.h>

#include "base/err.h"
#include "train/run.h"

static const struct reference_rule rules[] = {
    {.name = "init"},
    {.name = "previous", .moves = true, .steps = 1},
    {.name = "periodic", .moves = true, .steps = 512},
    {.name = "ema", .moves = true, .steps = 1, .blends = true},
};

const struct reference_rule *reference_rule_find(const char *name)
{
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (!strcmp(rules[i].name, name)) return &rules[i];
    return NULL;
}

int reference_check(const struct run *r, sail_err *err)
{
    const sail_config *c = r->config;
    if (!r->reference_rule->moves) return SAIL_OK;
    if (!r->needs_reference) return err_set(err, SAIL_USAGE, "--ref-rule %s: method %s has no reference", c->ref_rule, r->preset->name);
    if (c->full) return err_set(err, SAIL_USAGE, "--ref-rule %s needs a LoRA adapter: with --full every moving reference would be a second copy of the base; drop --full", c->ref_rule);
    if (c->ref && strcmp(c->ref, "init")) return err_set(err, SAIL_USAGE, "--ref-rule %s starts at the policy and follows it: drop --ref %s", c->ref_rule, c->ref);
    return SAIL_OK;
}

static void forget(struct reference_cache *cache)
{
    for (int64_t i = 0; cache->logp && i < 2 * cache->n; i++) cache->logp[i] = NAN;
}

void reference_forget(struct run *r)
{
    forget(&r->cache);
    forget(&r->eval_cache);
}

int64_t reference_steps(const struct run *r) { return r->config->ref_steps ? r->config->ref_steps : r->reference_rule->steps; }

void reference_follow(struct run *r)
{
    const struct reference_rule *rule = r->reference_rule;
    if (!rule->moves || r->step % reference_steps(r)) return;
    adapter_blend(r->reference_adapter, r->adapter, rule->blends ? r->config->ref_decay : 0);
    reference_forget(r);
}
