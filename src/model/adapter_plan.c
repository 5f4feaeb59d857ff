/* PEFT's rules of matching: is this module adapted, with which rank and scale. */
#include <math.h>

#include "model/adapter.h"

static bool in_list(const json_t *list, const char *module)
{
    size_t i;
    const json_t *v;
    json_array_foreach(list, i, v) if (name_ends_with(module, json_string_value(v))) return true;
    return false;
}

static int matches(const struct adapter_config *c, const char *key, const struct name_rule *rule, const char *module, bool *yes, sail_err *err)
{
    *yes = false;
    if (rule) return name_rule_matches(rule, module, yes, err);
    *yes = in_list(json_object_get(c->json, key), module);
    return SAIL_OK;
}

/* layers_to_transform, which acts on lists only; layers_pattern says where in the path the number stands. */
static int layer_chosen(const struct adapter_config *c, const char *module, int64_t layer, bool *yes, sail_err *err)
{
    const json_t *only = json_object_get(c->json, "layers_to_transform"), *v;
    size_t i;
    *yes = true;
    if (c->target || (!json_is_integer(only) && !json_array_size(only))) return SAIL_OK;
    int which = 0, rc = c->layers.n ? name_rules_find(&c->layers, module, &which, err) : SAIL_OK;
    *yes = json_is_integer(only) && json_integer_value(only) == layer;
    json_array_foreach(only, i, v) *yes = *yes || json_integer_value(v) == layer;
    *yes = *yes && layer >= 0 && which >= 0;
    return rc;
}

/* rank_pattern or alpha_pattern: the first key that matches. */
static int pattern_value(const struct adapter_config *c, const char *name, const struct name_rules *rules, const char *module, double *value, sail_err *err)
{
    int index, rc = name_rules_find(rules, module, &index, err);
    const char *key;
    json_t *v;
    if (rc || index < 0) return rc;
    json_object_foreach(json_object_get(c->json, name), key, v) if (!index--) *value = json_number_value(v);
    return SAIL_OK;
}

int adapter_config_plan(const struct adapter_config *c, const char *module, int64_t layer, struct module_plan *out, sail_err *err)
{
    bool excluded, targeted, chosen;
    double r = (double)c->r, alpha = c->alpha;
    *out = (struct module_plan){0};
    int rc = matches(c, "exclude_modules", c->exclude, module, &excluded, err);
    if (!rc) rc = matches(c, "target_modules", c->target, module, &targeted, err);
    if (!rc) rc = layer_chosen(c, module, layer, &chosen, err);
    if (!rc) rc = pattern_value(c, "rank_pattern", &c->rank, module, &r, err);
    if (!rc) rc = pattern_value(c, "alpha_pattern", &c->alphas, module, &alpha, err);
    if (rc) return rc;
    *out = (struct module_plan){.on = targeted && chosen && !excluded, .r = (int64_t)r, .scale = c->rslora ? alpha / sqrt(r) : alpha / r};
    return SAIL_OK;
}
