#include "train/evaluators.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "label/yaml_json.h"
#include "train/rewarder.h"

/* The roles of AIME (arXiv 2410.03131). */
static const struct role {
    const char *name, *text;
} aime[] = {
    {"logic", "Look at its logic alone: steps that do not follow, cases that are forgotten, conditions the wrong way round."},
    {"syntax", "Look at its form alone: whether it is well-formed in the language that it is written in."},
    {"readability", "Look at its readability alone: whether another person follows it at the first reading."},
    {"redundancy", "Look at its redundancy alone: what is said or done twice, or to no purpose."},
    {"correctness", "Look at its correctness alone: whether it does what was asked, in every case."},
    {"runtime", "Look at its cost alone: whether it takes longer, or more memory, than what was asked for needs."},
};

/* What an evaluator may say. What else is given about judges, signs and deadlines beside the list holds for all that do not. */
static const char *const keys[] = {"reward_rule", "reward_model", "reward_sign", "reward_combine", "spread_coef", "quorum", "reward_table", "labeler_command", "labeler_deadline", "final_answer", "majority_share",
                                   "judge_model", "judge_rubric", "judge_role", "judge_samples", "judge_temperature", "judge_top_p", "judge_new_tokens"};
#define KEYS "a labeler's options: reward_rule, reward_model, reward_table, labeler_command, final_answer, judge_model, judge_rubric, judge_role ..."

bool evaluators_given(const sail_config *c) { return c->evaluators || (c->reward_model && strchr(c->reward_model, ',')); }

/* A member without a labeler yet. */
static int add(struct evaluators *all, struct evaluator **out, const sail_config *c, const char *name, sail_err *err)
{
    static const enum option_id of_the_whole[] = {OPTION_evaluators, OPTION_reward_combine, OPTION_spread_coef, OPTION_quorum, OPTION_reward_model};
    if (all->n == MAX_EVALUATORS) return err_set(err, SAIL_USAGE, "expected at most %d evaluators or reward models", MAX_EVALUATORS);
    for (int k = 0; k < all->n; k++)
        if (!strcmp(all->of[k].name, name)) return err_set(err, SAIL_USAGE, "'%s' stands there twice", name);
    struct evaluator *e = &all->of[all->n++];
    *e = (struct evaluator){.name = mem_strdup(name), .weight = 1, .config = config_copy(c)};
    if (!e->config) return err_memory(err, sizeof *c);
    for (size_t i = 0; i < sizeof of_the_whole / sizeof *of_the_whole; i++) config_reset(e->config, of_the_whole[i]);
    *out = e;
    return SAIL_OK;
}

static int set_option(struct evaluator *e, const char *key, const json_t *value, sail_err *err)
{
    bool known = false;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) known = known || !strcmp(key, keys[i]);
    if (!known) return err_set(err, SAIL_USAGE, "'%s' is not one of name, weight, or " KEYS, key);
    if (json_is_string(value)) return sail_config_set(e->config, key, json_string_value(value), err);
    if (!json_is_number(value)) return err_set(err, SAIL_USAGE, "%s: expected a text or a number", key);
    char *text = mem_printf("%.17g", json_number_value(value));
    int rc = sail_config_set(e->config, key, text, err);
    free(text);
    return rc;
}

static bool names_labeler(const char *key)
{
#define NAME(option) #option,
    static const char *const labelers[] = {REWARDER_OPTIONS(NAME)};
#undef NAME
    for (size_t i = 0; i < sizeof labelers / sizeof *labelers; i++)
        if (!strcmp(key, labelers[i])) return true;
    return false;
}

static int read_options(struct evaluator *e, json_t *j, sail_err *err)
{
    const char *key;
    json_t *v;
    int rc = SAIL_OK;
    json_object_foreach(j, key, v)
    {
        if (names_labeler(key)) config_reset(e->config, OPTION_judge_model); // it does without the judge of the others
    }
    json_object_foreach(j, key, v)
    {
        if (rc) break;
        if (!strcmp(key, "name")) continue;
        if (strcmp(key, "weight"))
            rc = set_option(e, key, v, err);
        else if (!json_is_number(v) || !((e->weight = json_number_value(v)) > 0))
            rc = err_set(err, SAIL_USAGE, "weight: expected a number above 0");
    }
    if (rc || rewarder_given(e->config) == 1) return rc;
    return err_set(err, SAIL_USAGE, rewarder_given(e->config) ? "one labeler for each evaluator, got %d" : "expected a labeler, or --judge-model for those that name none, got %d", rewarder_given(e->config));
}

static int read_file(struct evaluators *all, const sail_config *c, sail_err *err)
{
    json_t *j = NULL, *list, *one, *v;
    const char *key;
    size_t i;
    int rc = yaml_json_read(c->evaluators, &j, err);
    list = json_object_get(j, "evaluators");
    if (!rc && (!json_is_array(list) || json_array_size(list) < 2)) rc = err_set(err, SAIL_USAGE, "%s: expected evaluators: a list of two or more {name: ..., LABELER: ...}", c->evaluators);
    json_object_foreach(j, key, v) if (!rc && v != list) rc = err_set(err, SAIL_USAGE, "%s: '%s': expected evaluators: and nothing beside it", c->evaluators, key);
    json_array_foreach(list, i, one)
    {
        if (rc) break;
        const char *name = json_string_value(json_object_get(one, "name"));
        struct evaluator *e = NULL;
        rc = name && *name ? add(all, &e, c, name, err) : err_set(err, SAIL_USAGE, "expected a name");
        if (!rc) rc = read_options(e, one, err);
        if (rc) err_context(err, "%s: evaluator %zu%s%s%s", c->evaluators, i + 1, name ? " (" : "", name ? name : "", name ? ")" : "");
    }
    json_decref(j);
    return rc;
}

static int take_roles(struct evaluators *all, const sail_config *c, sail_err *err)
{
    int rc = SAIL_OK;
    if (!c->judge_model) return err_set(err, SAIL_USAGE, "--evaluators aime: six roles of one judge: give --judge-model");
    if (c->judge_role) return err_set(err, SAIL_USAGE, "--evaluators aime has roles of its own: drop --judge-role, or name the roles in a file");
    for (size_t i = 0; !rc && i < sizeof aime / sizeof *aime; i++) {
        struct evaluator *e = NULL;
        rc = add(all, &e, c, aime[i].name, err);
        if (!rc) rc = config_default(e->config, "judge_rubric", "aspect", err);
        if (!rc) rc = sail_config_set(e->config, "judge_role", aime[i].text, err);
    }
    return rc;
}

static int split_models(struct evaluators *all, const sail_config *c, sail_err *err)
{
    char *paths = mem_strdup(c->reward_model), *rest = paths;
    int rc = SAIL_OK;
    for (char *path; !rc && (path = strsep(&rest, ","));) {
        struct evaluator *e = NULL;
        rc = *path ? add(all, &e, c, path, err) : err_set(err, SAIL_USAGE, "a name between the commas is empty");
        if (!rc) e->config->reward_model = mem_strdup(path);
    }
    free(paths);
    return rc ? err_context(err, "--reward-model %s", c->reward_model) : SAIL_OK;
}

int evaluators_read(struct evaluators *out, const sail_config *c, sail_err *err)
{
    *out = (struct evaluators){0};
    return !c->evaluators ? split_models(out, c, err) : strcmp(c->evaluators, "aime") ? read_file(out, c, err) : take_roles(out, c, err);
}

int evaluators_combine(struct ensemble *out, const struct evaluators *all, const sail_config *c, sail_err *err)
{
    *out = (struct ensemble){.rule = ensemble_rule_find(c->reward_combine), .spread_coef = c->spread_coef, .n = all->n, .quorum = (int)c->quorum};
    if (c->quorum > all->n) return err_set(err, SAIL_USAGE, "--quorum %lld: there are %d evaluators", (long long)c->quorum, all->n);
    for (int k = 0; k < all->n; k++) {
        out->weight[k] = all->of[k].weight;
        if (out->rule == ENSEMBLE_MIN && out->weight[k] != 1)
            return err_set(err, SAIL_USAGE, "%s: evaluator %s has weight %g, which the least of all has no place for: drop it, or --reward-combine min", c->evaluators, all->of[k].name, out->weight[k]);
    }
    return SAIL_OK;
}

void evaluators_release(struct evaluators *all)
{
    for (int k = 0; k < all->n; k++) {
        free(all->of[k].name);
        sail_config_free(all->of[k].config);
    }
    all->n = 0;
}
