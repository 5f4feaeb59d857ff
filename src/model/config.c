/* config.json in both spellings, to the facts that the engine runs on. */
#include <math.h>
#include <string.h>

#include "base/err.h"
#include "model/internal.h"

struct reader {
    json_t *j;
    const char *path;
    sail_err *err;
    int rc;
};

static json_t *key(const struct reader *r, const char *name)
{
    json_t *v = json_object_get(r->j, name);
    return json_is_null(v) ? NULL : v;
}

static int64_t integer(struct reader *r, const char *name, int64_t fallback, int64_t low, int64_t high)
{
    json_t *v = key(r, name);
    if (r->rc) return fallback;
    if (!v && fallback >= low) return fallback;
    double x = v ? json_number_value(v) : NAN;
    if (!json_is_number(v) || x < (double)low || x > (double)high || x != floor(x)) {
        r->rc = err_set(r->err, SAIL_FAILED, "%s: \"%s\": expected a whole number from %lld to %lld, got %s", r->path, name, (long long)low, (long long)high,
                        !v ? "nothing" : json_is_number(v) ? "another number" : "something else");
        return low;
    }
    return (int64_t)x;
}

static double number(struct reader *r, json_t *object, const char *name, double fallback)
{
    json_t *v = object ? json_object_get(object, name) : NULL;
    if (r->rc || !v || json_is_null(v)) return fallback;
    if (!json_is_number(v) || !isfinite(json_number_value(v))) r->rc = err_set(r->err, SAIL_FAILED, "%s: \"%s\": expected a number", r->path, name);
    return json_number_value(v);
}

static bool flag(const struct reader *r, const char *name, bool fallback)
{
    json_t *v = key(r, name);
    return v ? json_is_true(v) : fallback;
}

/* Families of this engine: what each fixes that its config.json does not say. */
struct family {
    const char *model_type;
    bool qkv_bias, qk_norm, window_always;
    int64_t head_dim;
    double theta, eps;
};
static const struct family families[] = {
    {.model_type = "llama", .theta = 10000, .eps = 1e-6},
    {.model_type = "mistral", .theta = 10000, .eps = 1e-6, .window_always = true},
    {.model_type = "qwen2", .theta = 10000, .eps = 1e-6, .qkv_bias = true},
    {.model_type = "qwen3", .theta = 10000, .eps = 1e-6, .qk_norm = true, .head_dim = 128},
};

static const struct family *find_family(struct reader *r, struct model_config *c)
{
    const char *type = json_string_value(key(r, "model_type")), *architecture = json_string_value(json_array_get(key(r, "architectures"), 0));
    snprintf(c->architecture, sizeof c->architecture, "%s", architecture ? architecture : "");
    if (key(r, "quantization_config")) {
        r->rc = err_set(r->err, SAIL_FAILED, "%s: quantization_config: quantised Hugging Face folders are not supported; use the original weights or a GGUF file", r->path);
        return NULL;
    }
    if (key(r, "num_experts") || key(r, "num_local_experts") || key(r, "n_routed_experts")) {
        r->rc = err_set(r->err, SAIL_FAILED, "%s: mixture-of-experts models are not supported", r->path);
        return NULL;
    }
    for (size_t i = 0; type && i < sizeof families / sizeof *families; i++)
        if (!strcmp(type, families[i].model_type)) return &families[i];
    r->rc = err_set(r->err, SAIL_FAILED, "%s: model_type '%s' (%s) is not supported: expected llama, mistral, qwen2 or qwen3", r->path, type ? type : "?",
                    architecture ? architecture : "no architectures");
    return NULL;
}

static double yarn_mscale(double factor, double m) { return factor <= 1 ? 1 : 0.1 * m * log(factor) + 1; }

static void read_yarn(struct reader *r, struct rope_config *rope, json_t *s)
{
    rope->beta_fast = number(r, s, "beta_fast", 32);
    rope->beta_slow = number(r, s, "beta_slow", 1);
    json_t *truncate = json_object_get(s, "truncate");
    rope->truncate = !json_is_false(truncate);
    const double mscale = number(r, s, "mscale", 0), all = number(r, s, "mscale_all_dim", 0);
    double factor = mscale != 0 && all != 0 ? yarn_mscale(rope->factor, mscale) / yarn_mscale(rope->factor, all) : yarn_mscale(rope->factor, 1);
    rope->attention_factor = number(r, s, "attention_factor", factor);
}

/* transformers 4: rope_theta + rope_scaling; transformers 5: rope_parameters. */
static void read_rope(struct reader *r, struct model_config *c, const struct family *f)
{
    json_t *v5 = key(r, "rope_parameters"), *v4 = key(r, "rope_scaling"), *s = v4 ? v4 : v5;
    struct rope_config *rope = &c->rope;
    *rope = (struct rope_config){.theta = number(r, s, "rope_theta", number(r, v5, "rope_theta", number(r, r->j, "rope_theta", f->theta))), .factor = 1, .attention_factor = 1};
    const char *kind = json_string_value(json_object_get(s, "rope_type"));
    if (!kind) kind = json_string_value(json_object_get(s, "type"));
    const double partial = number(r, s, "partial_rotary_factor", number(r, r->j, "partial_rotary_factor", 1));
    rope->rot = (int64_t)((double)c->head_dim * partial);
    rope->factor = number(r, s, "factor", 1);
    rope->original_max_position = (int64_t)number(r, s, "original_max_position_embeddings", number(r, r->j, "original_max_position_embeddings", (double)c->max_position));
    if (r->rc) return;
    if (!kind || !strcmp(kind, "default"))
        rope->kind = ROPE_DEFAULT;
    else if (!strcmp(kind, "linear"))
        rope->kind = ROPE_LINEAR;
    else if (!strcmp(kind, "llama3")) {
        rope->kind = ROPE_LLAMA3;
        rope->low_freq_factor = number(r, s, "low_freq_factor", 1);
        rope->high_freq_factor = number(r, s, "high_freq_factor", 4);
    } else if (!strcmp(kind, "yarn")) {
        rope->kind = ROPE_YARN;
        read_yarn(r, rope, s);
    } else
        r->rc = err_set(r->err, SAIL_FAILED, "%s: rope type '%s' is not supported: expected default, linear, llama3 or yarn", r->path, kind);
    if (!r->rc && (rope->theta <= 0 || rope->factor <= 0 || rope->rot < 2 || rope->rot > c->head_dim || rope->rot % 2 || rope->original_max_position < 1))
        r->rc = err_set(r->err, SAIL_FAILED, "%s: rope parameters out of range (theta %g, factor %g, %lld of %lld elements)", r->path, rope->theta, rope->factor, (long long)rope->rot,
                        (long long)c->head_dim);
}

static void read_window(struct reader *r, struct model_config *c, const struct family *f)
{
    const bool used = f->window_always ? key(r, "sliding_window") != NULL : flag(r, "use_sliding_window", false);
    if (!used) return;
    c->window = integer(r, "sliding_window", f->window_always ? -1 : 4096, 1, INT32_MAX);
    c->window_from = f->window_always ? 0 : integer(r, "max_window_layers", 28, 0, INT32_MAX);
    json_t *types = key(r, "layer_types"); // an explicit list wins; these families have it full first, then sliding
    if (!json_is_array(types)) return;
    int64_t full = 0, n = (int64_t)json_array_size(types);
    while (full < n && !strcmp(json_string_value(json_array_get(types, (size_t)full)) ? json_string_value(json_array_get(types, (size_t)full)) : "", "full_attention")) full++;
    for (int64_t i = full; i < n; i++)
        if (strcmp(json_string_value(json_array_get(types, (size_t)i)) ? json_string_value(json_array_get(types, (size_t)i)) : "", "sliding_attention"))
            r->rc = err_set(r->err, SAIL_FAILED, "%s: layer_types[%lld]: alternating attention is not supported for %s", r->path, (long long)i, f->model_type);
    c->window_from = full;
}

static void read_special(struct reader *r, struct model_config *c, json_t *generation)
{
    c->bos = (int32_t)integer(r, "bos_token_id", -1, -1, INT32_MAX);
    c->pad = (int32_t)integer(r, "pad_token_id", -1, -1, INT32_MAX);
    json_t *eos = json_object_get(generation, "eos_token_id");
    if (!eos || json_is_null(eos)) eos = key(r, "eos_token_id");
    const size_t n = json_is_array(eos) ? json_array_size(eos) : json_is_integer(eos) ? 1 : 0;
    for (size_t i = 0; i < n && c->n_eos < 8; i++) {
        json_t *one = json_is_array(eos) ? json_array_get(eos, i) : eos;
        if (json_is_integer(one) && json_integer_value(one) >= 0 && json_integer_value(one) <= INT32_MAX) c->eos[c->n_eos++] = (int32_t)json_integer_value(one);
    }
}

static void read_head(struct reader *r, struct model_config *c)
{
    c->reward_head = strstr(c->architecture, "ForSequenceClassification") != NULL;
    if (!c->reward_head) {
        if (!strstr(c->architecture, "ForCausalLM") && c->architecture[0])
            r->rc = err_set(r->err, SAIL_FAILED, "%s: architecture '%s' is not supported: expected ...ForCausalLM or ...ForSequenceClassification", r->path, c->architecture);
        return;
    }
    json_t *labels = key(r, "id2label");
    size_t n = json_is_object(labels) ? json_object_size(labels) : (size_t)integer(r, "num_labels", 2, 1, 1 << 20);
    if (n != 1) r->rc = err_set(r->err, SAIL_FAILED, "%s: a reward model has one label, this one has %zu (\"id2label\")", r->path, n);
}

int model_config_read(struct model_config *c, json_t *config, json_t *generation, const char *path, sail_err *err)
{
    *c = (struct model_config){0};
    struct reader r = {.j = config, .path = path, .err = err};
    const struct family *f = find_family(&r, c);
    if (r.rc) return r.rc;
    snprintf(c->family, sizeof c->family, "%s", f->model_type);
    const int64_t most = 1 << 24;
    c->vocab = integer(&r, "vocab_size", 0, 1, most);
    c->hidden = integer(&r, "hidden_size", 0, 1, most);
    c->inter = integer(&r, "intermediate_size", 0, 1, most);
    c->n_layer = integer(&r, "num_hidden_layers", 0, 1, 4096);
    c->n_head = integer(&r, "num_attention_heads", 0, 1, 65536);
    if (r.rc) return r.rc;
    c->n_kv = integer(&r, "num_key_value_heads", c->n_head, 1, c->n_head);
    c->head_dim = integer(&r, "head_dim", f->head_dim ? f->head_dim : c->hidden / c->n_head, 2, 4096);
    c->max_position = integer(&r, "max_position_embeddings", 2048, 1, (int64_t)1 << 32);
    c->norm_eps = (float)number(&r, config, "rms_norm_eps", f->eps);
    c->tied = flag(&r, "tie_word_embeddings", false);
    const bool bias = flag(&r, "attention_bias", false);
    c->qkv_bias = f->qkv_bias || bias;
    c->o_bias = bias && !f->qkv_bias;
    c->mlp_bias = flag(&r, "mlp_bias", false);
    c->qk_norm = f->qk_norm;
    const char *act = json_string_value(key(&r, "hidden_act"));
    if (act && strcmp(act, "silu")) return err_set(err, SAIL_FAILED, "%s: hidden_act '%s' is not supported for %s: expected silu", path, act, f->model_type);
    c->act = ACT_SILU;
    if (!r.rc && c->n_head % c->n_kv) return err_set(err, SAIL_FAILED, "%s: %lld heads do not divide by %lld key/value heads", path, (long long)c->n_head, (long long)c->n_kv);
    if (!r.rc) read_rope(&r, c, f);
    if (!r.rc) read_window(&r, c, f);
    if (!r.rc) read_special(&r, c, generation);
    if (!r.rc) read_head(&r, c);
    return r.rc;
}
