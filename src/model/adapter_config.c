/* adapter_config.json: what PEFT's LoraConfig says, with PEFT's rules of matching; what would change the numbers and is not there is refused by name. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"
#include "base/file.h"
#include "model/adapter.h"

struct reader {
    struct adapter_config *c;
    const struct model *m;
    const char *path;
    sail_err *err;
};

static json_t *get(const struct reader *r, const char *key)
{
    json_t *v = json_object_get(r->c->json, key);
    return json_is_null(v) ? NULL : v;
}

/* null, false, 0 things: what a setting that is switched off looks like. */
static bool empty(const json_t *v)
{
    return !v || json_is_null(v) || json_is_false(v) || (json_is_object(v) && !json_object_size(v)) || (json_is_array(v) && !json_array_size(v));
}

static int refuse(const struct reader *r, const char *key, const char *expected)
{
    char *got = json_dumps(json_object_get(r->c->json, key), JSON_ENCODE_ANY);
    int rc = err_set(r->err, SAIL_FAILED, "%s: %s %.80s: expected %s", r->path, key, got ? got : "(absent)", expected);
    free(got);
    return rc;
}

/* Keys with a meaning here, and those that say nothing about the numbers of a trained adapter. Any other must be switched off. */
static int refuse_unknown(const struct reader *r)
{
    static const char *const known[] = {
        "peft_type", "task_type", "r", "lora_alpha", "lora_dropout", "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "rank_pattern",
        "alpha_pattern", "use_rslora", "use_dora", "bias", "fan_in_fan_out", "modules_to_save", "init_lora_weights", "base_model_name_or_path", "revision", "inference_mode",
        "auto_mapping", "peft_version", "megatron_core", "runtime_config", "qalora_group_size", "loftq_config", "eva_config"};
    const char *key;
    json_t *v;
    json_object_foreach(r->c->json, key, v)
    {
        bool found = empty(v);
        for (size_t i = 0; !found && i < sizeof known / sizeof *known; i++) found = !strcmp(key, known[i]);
        if (!found) return err_set(r->err, SAIL_FAILED, "%s: option '%s' is not supported", r->path, key);
    }
    return SAIL_OK;
}

/* Starts that move the base weights: the tensors would belong to another base. */
static int check_start(const struct reader *r)
{
    static const char *const harmless[] = {"gaussian", "eva", "orthogonal"};
    const char *start = json_string_value(get(r, "init_lora_weights"));
    for (size_t i = 0; start && i < sizeof harmless / sizeof *harmless; i++)
        if (!strcmp(start, harmless[i])) start = NULL;
    return start ? refuse(r, "init_lora_weights", "true, false, gaussian, eva or orthogonal (others change the base's weights)") : SAIL_OK;
}

static int check_flag(const struct reader *r, const char *key, bool *out)
{
    json_t *v = get(r, key);
    if (v && !json_is_boolean(v)) return refuse(r, key, "true or false");
    *out = json_is_true(v);
    return SAIL_OK;
}

static int read_numbers(const struct reader *r)
{
    struct adapter_config *c = r->c;
    json_t *rank = get(r, "r"), *alpha = get(r, "lora_alpha"), *dropout = get(r, "lora_dropout");
    c->r = rank ? json_integer_value(rank) : 8;
    c->alpha = alpha ? json_number_value(alpha) : 8;
    if ((rank && !json_is_integer(rank)) || c->r < 1 || c->r > 65536) return refuse(r, "r", "a whole number from 1 to 65536");
    if (alpha && (!json_is_number(alpha) || !isfinite(c->alpha))) return refuse(r, "lora_alpha", "a number");
    if (dropout && (!json_is_number(dropout) || !(json_number_value(dropout) >= 0) || json_number_value(dropout) >= 1)) return refuse(r, "lora_dropout", "a number from 0 to 1");
    bool unused; // how the base is stored is known from its family
    int rc = check_flag(r, "use_rslora", &c->rslora);
    if (!rc) rc = check_flag(r, "use_dora", &c->dora);
    return rc ? rc : check_flag(r, "fan_in_fan_out", &unused);
}

static int check_kind(const struct reader *r)
{
    const char *type = json_string_value(get(r, "peft_type")), *bias = json_string_value(get(r, "bias"));
    if (!type || strcmp(type, "LORA")) return refuse(r, "peft_type", "\"LORA\"");
    if (get(r, "bias") && (!bias || strcmp(bias, "none"))) return refuse(r, "bias", "\"none\" (trained biases are not supported)");
    return check_start(r);
}

/* A list of names, a regular expression over whole names, or nothing. */
static int read_names(const struct reader *r, const char *key, struct name_rule **out)
{
    json_t *v = get(r, key), *entry;
    size_t i;
    char what[4200];
    snprintf(what, sizeof what, "%s: %s", r->path, key);
    if (json_is_string(v)) return name_rule_create(out, "(?:", json_string_value(v), ")$", what, r->err);
    if (v && !json_is_array(v)) return refuse(r, key, "a list of names or a regular expression");
    json_array_foreach(v, i, entry) if (!json_is_string(entry)) return refuse(r, key, "names in the list");
    return SAIL_OK;
}

/* PEFT writes "all-linear" out as the names that it found. */
static int expand_all_linear(const struct reader *r)
{
    const char *s = json_string_value(get(r, "target_modules"));
    if (!s || strcasecmp(s, "all-linear")) return SAIL_OK;
    json_t *names = json_array();
    for (int id = 0; id < LINEAR_COUNT; id++) {
        const struct linear_names *n = &r->m->config.family->linear[id];
        for (int p = 0; p < n->n_part; p++) {
            json_t *name = json_string(strrchr(n->part[p], '.') + 1), *other;
            size_t i;
            bool twice = false; // gpt2's two c_proj
            json_array_foreach(names, i, other) twice = twice || json_equal(other, name);
            if (!twice) json_array_append(names, name);
            json_decref(name);
        }
    }
    return json_object_set_new(r->c->json, "target_modules", names) ? err_memory(r->err, 0) : SAIL_OK;
}

static int read_targets(const struct reader *r)
{
    int rc = expand_all_linear(r);
    r->c->by_tensors = !get(r, "target_modules");
    if (!rc) rc = read_names(r, "target_modules", &r->c->target);
    return rc ? rc : read_names(r, "exclude_modules", &r->c->exclude);
}

static int read_layers(const struct reader *r)
{
    json_t *only = get(r, "layers_to_transform"), *pattern = get(r, "layers_pattern"), *v;
    size_t i;
    if (empty(only) && empty(pattern)) return SAIL_OK;
    if (empty(only)) return refuse(r, "layers_pattern", "nothing without layers_to_transform");
    if (r->c->target) return refuse(r, "layers_to_transform", "nothing where target_modules is a regular expression");
    if (!json_is_integer(only) && !json_is_array(only)) return refuse(r, "layers_to_transform", "a layer's number or a list of them");
    json_array_foreach(only, i, v) if (!json_is_integer(v)) return refuse(r, "layers_to_transform", "a layer's number or a list of them");
    char what[4200];
    snprintf(what, sizeof what, "%s: layers_pattern", r->path);
    int rc = SAIL_OK;
    if (json_is_string(pattern)) return name_rules_add(&r->c->layers, "(?:|.*?\\.)(?:", json_string_value(pattern), ")\\.\\d+\\.", what, r->err);
    if (pattern && !json_is_array(pattern)) return refuse(r, "layers_pattern", "a name or a list of names");
    json_array_foreach(pattern, i, v)
    {
        if (!json_is_string(v)) return refuse(r, "layers_pattern", "a name or a list of names");
        if (!rc) rc = name_rules_add(&r->c->layers, "(?:|.*?\\.)(?:", json_string_value(v), ")\\.\\d+\\.", what, r->err);
    }
    return rc;
}

static int read_pattern(const struct reader *r, const char *name, bool whole, struct name_rules *out)
{
    json_t *map = get(r, name), *v;
    const char *key;
    char what[4200];
    snprintf(what, sizeof what, "%s: %s", r->path, name);
    int rc = SAIL_OK;
    if (map && !json_is_object(map)) return refuse(r, name, "an object of names and numbers");
    json_object_foreach(map, key, v)
    {
        const double x = json_number_value(v);
        if (whole ? !json_is_integer(v) || x < 1 || x > 65536 : !json_is_number(v) || !isfinite(x))
            return refuse(r, name, whole ? "names and whole numbers from 1 to 65536" : "names and numbers");
        if (!rc) rc = name_rules_add(out, "(?:.*\\.)?(?:", key, ")$", what, r->err);
    }
    return rc;
}

static int read_saved(const struct reader *r)
{
    json_t *list = get(r, "modules_to_save"), *v;
    const char *task = json_string_value(get(r, "task_type"));
    const bool reward = r->m->config.reward_head;
    size_t i;
    enum saved_id id = SAVED_HEAD;
    char path[96];
    if (list && !json_is_array(list)) return refuse(r, "modules_to_save", "a list of names");
    if (reward && task && !strcmp(task, "SEQ_CLS")) strcpy(r->c->saved[SAVED_HEAD], r->m->config.score_name); // as PEFT does by itself
    json_array_foreach(list, i, v)
    {
        const char *name = json_string_value(v);
        if (name && reward && !strcmp(name, "classifier")) continue; // PEFT lists both names that a score head may have
        if (!name || !saved_module_find(r->m, name, &id, path, sizeof path)) {
            char expected[200];
            snprintf(expected, sizeof expected, "names of the embeddings and the head (%s, %s)", r->m->config.family->embed, reward ? r->m->config.score_name : "lm_head");
            return refuse(r, "modules_to_save", expected);
        }
        strcpy(r->c->saved[id], path);
    }
    return SAIL_OK;
}

/* LoRA on embeddings and heads is another product; it must not be passed over in silence. */
static int refuse_outside_blocks(const struct reader *r)
{
    const struct family *f = r->m->config.family;
    const char *const names[] = {f->embed, f->position, f->head, "lm_head", r->m->config.score_name};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[96];
        struct module_plan plan;
        if (!names[i]) continue;
        snprintf(path, sizeof path, "%s%s", i < 2 ? f->prefix : "", names[i]);
        int rc = adapter_config_plan(r->c, path, -1, &plan, r->err);
        if (rc) return rc;
        if (plan.on && strcmp(path, r->c->saved[SAVED_EMBED]) && strcmp(path, r->c->saved[SAVED_HEAD]))
            return err_set(r->err, SAIL_FAILED, "%s: target_modules adapts '%s': LoRA on embeddings and heads is not supported (modules_to_save trains them in full)", r->path, path);
    }
    return SAIL_OK;
}

static int parse(struct adapter_config *c, const struct model *m, const char *path, sail_err *err)
{
    const struct reader r = {.c = c, .m = m, .path = path, .err = err};
    int rc = check_kind(&r);
    if (!rc) rc = refuse_unknown(&r);
    if (!rc) rc = read_numbers(&r);
    if (!rc) rc = read_targets(&r);
    if (!rc) rc = read_layers(&r);
    if (!rc) rc = read_pattern(&r, "rank_pattern", true, &c->rank);
    if (!rc) rc = read_pattern(&r, "alpha_pattern", false, &c->alphas);
    if (!rc) rc = read_saved(&r);
    if (!rc && !c->by_tensors) rc = refuse_outside_blocks(&r);
    return rc;
}

int adapter_config_open(struct adapter_config *c, const struct model *m, const char *folder, sail_err *err)
{
    char *path = path_join(folder, "adapter_config.json"), *text = NULL;
    size_t n;
    json_error_t why;
    *c = (struct adapter_config){0};
    int rc = file_read(path, (size_t)1 << 24, &text, &n, err);
    if (!rc) c->json = json_loadb(text, n, JSON_REJECT_DUPLICATES, &why);
    if (!rc && !json_is_object(c->json))
        rc = err_set(err, SAIL_FAILED, "%s:%d: not a JSON object: %s", path, c->json ? 1 : why.line, c->json ? "another value" : why.text);
    if (!rc) rc = parse(c, m, path, err);
    free(text);
    free(path);
    return rc;
}

/* A name never has these; a pattern mostly does. */
static bool is_regex(const char *s) { return strpbrk(s, "\\^$*+?()[]{}|") != NULL; }

/* "a,b" as a list, a pattern as it is. */
static json_t *names_json(const char *s)
{
    if (!s || !*s) return json_null();
    if (is_regex(s) || !strcasecmp(s, "all-linear")) return json_string(s);
    json_t *list = json_array();
    for (size_t n; *s; s += n + (s[n] == ',')) {
        n = strcspn(s, ",");
        if (n) json_array_append_new(list, json_stringn(s, n));
    }
    return list;
}

static int numbers_json(json_t **out, const char *s, sail_err *err)
{
    if (!s || !*s) return *out = json_null(), SAIL_OK;
    *out = json_array();
    for (char *end; *s; s = *end ? end + 1 : end) {
        json_array_append_new(*out, json_integer(strtoll(s, &end, 10)));
        if (end == s || (*end && *end != ',')) return err_set(err, SAIL_USAGE, "--lora-layers: expected layer numbers with commas between them, got '%.40s'", s);
    }
    return SAIL_OK;
}

static int map_json(json_t **out, const char *s, const char *flag, sail_err *err)
{
    json_error_t why;
    *out = s && *s ? json_loads(s, JSON_REJECT_DUPLICATES, &why) : json_object();
    if (json_is_object(*out)) return SAIL_OK;
    return err_set(err, SAIL_USAGE, "%s: expected {\"name\": number, ...} (in YAML a mapping), got '%.60s'", flag, s ? s : "");
}

static json_t *number_json(double x) { return x == floor(x) && fabs(x) < 1e15 ? json_integer((json_int_t)x) : json_real(x); }

int adapter_config_create(struct adapter_config *c, const struct model *m, const struct lora_options *o, sail_err *err)
{
    *c = (struct adapter_config){0};
    json_t *j = c->json = json_object(), *layers = NULL, *rank = NULL, *alpha = NULL;
    const bool reward = m->config.reward_head;
    int rc = map_json(&alpha, o->alpha_pattern, "--lora-alpha-pattern", err);
    json_object_set_new(j, "alpha_pattern", alpha);
    json_object_set_new(j, "base_model_name_or_path", json_string(m->path));
    json_object_set_new(j, "bias", json_string("none"));
    json_object_set_new(j, "exclude_modules", names_json(o->exclude));
    json_object_set_new(j, "fan_in_fan_out", json_boolean(m->config.family->conv1d));
    json_object_set_new(j, "inference_mode", json_true());
    json_object_set_new(j, "init_lora_weights", json_true());
    if (!rc) rc = numbers_json(&layers, o->layers, err);
    json_object_set_new(j, "layers_to_transform", layers);
    json_object_set_new(j, "lora_alpha", number_json(o->alpha));
    json_object_set_new(j, "lora_dropout", json_real(o->dropout));
    json_object_set_new(j, "modules_to_save", names_json(o->modules_to_save ? o->modules_to_save : reward ? m->config.score_name : NULL));
    json_object_set_new(j, "peft_type", json_string("LORA"));
    json_object_set_new(j, "r", json_integer(o->r));
    if (!rc) rc = map_json(&rank, o->rank_pattern, "--lora-rank-pattern", err);
    json_object_set_new(j, "rank_pattern", rank);
    json_object_set_new(j, "target_modules", names_json(o->targets && *o->targets ? o->targets : "all-linear"));
    json_object_set_new(j, "task_type", json_string(reward ? "SEQ_CLS" : "CAUSAL_LM"));
    json_object_set_new(j, "use_dora", json_boolean(o->dora));
    json_object_set_new(j, "use_rslora", json_boolean(o->rslora));
    return rc ? rc : parse(c, m, "LoRA options", err);
}

int adapter_config_save(const struct adapter_config *c, const struct model *m, const char *folder, sail_err *err)
{
    if (!json_is_string(json_object_get(c->json, "base_model_name_or_path"))) json_object_set_new(c->json, "base_model_name_or_path", json_string(m->path));
    json_object_set_new(c->json, "inference_mode", json_true());
    char *text = json_dumps(c->json, JSON_INDENT(2)), *path = path_join(folder, "adapter_config.json");
    int rc = text ? file_replace(path, text, strlen(text), err) : err_memory(err, 0);
    free(text);
    free(path);
    return rc;
}

void adapter_config_release(struct adapter_config *c)
{
    json_decref(c->json);
    name_rule_free(c->target);
    name_rule_free(c->exclude);
    name_rules_release(&c->rank);
    name_rules_release(&c->alphas);
    name_rules_release(&c->layers);
    *c = (struct adapter_config){0};
}
