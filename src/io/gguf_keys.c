/* A config.json, in either spelling, to GGUF keys. What the keys cannot say is refused by name. */
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "io/gguf_config.h"

struct maker {
    struct gguf_writer *w;
    const struct gguf_arch *a;
    json_t *config;
    const char *path;
    sail_err *err;
    int rc;
};

static int refuse(struct maker *m, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static int refuse(struct maker *m, const char *fmt, ...)
{
    char what[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    if (!m->rc) m->rc = err_set(m->err, SAIL_FAILED, "%s: config.json: %s", m->path, what);
    return m->rc;
}

static json_t *key(const struct maker *m, const char *name)
{
    json_t *v = json_object_get(m->config, name);
    return json_is_null(v) ? NULL : v;
}

/* fallback < 0: needed. */
static int64_t integer(struct maker *m, const char *name, int64_t fallback)
{
    json_t *v = key(m, name);
    if (!v && fallback >= 0) return fallback;
    if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > INT32_MAX) {
        refuse(m, "\"%s\": expected a whole number up to 2^31, got %s", name, v ? "something else" : "nothing");
        return 1;
    }
    return json_integer_value(v);
}

static double number_in(struct maker *m, json_t *object, const char *name, double fallback)
{
    json_t *v = json_object_get(object, name);
    if (!v || json_is_null(v)) return fallback;
    if (!json_is_number(v) || !isfinite(json_number_value(v))) refuse(m, "\"%s\": expected a number", name);
    return json_number_value(v);
}

static bool flag(const struct maker *m, const char *name, bool fallback) { return key(m, name) ? json_is_true(key(m, name)) : fallback; }
static bool is(const struct maker *m, const char *arch) { return !strcmp(m->a->arch, arch); }

static void put_u32(struct maker *m, const char *name, int64_t v)
{
    char full[160];
    snprintf(full, sizeof full, "%s.%s", m->a->arch, name);
    gguf_put_u32(m->w, full, (uint32_t)v);
}

static void put_f32(struct maker *m, const char *name, double v)
{
    char full[160];
    snprintf(full, sizeof full, "%s.%s", m->a->arch, name);
    gguf_put_f32(m->w, full, (float)v);
}

static void put_text(struct maker *m, const char *name, const char *v)
{
    char full[160];
    snprintf(full, sizeof full, "%s.%s", m->a->arch, name);
    gguf_put_string(m->w, full, v);
}

/* ---------------------------------------------------------------- rotary embeddings */

/* The object with the scaling: of layers with full attention, where each kind has its own. */
static json_t *rope_object(const struct maker *m)
{
    json_t *old = key(m, "rope_scaling"), *new = key(m, "rope_parameters"), *full = json_object_get(new, "full_attention");
    return old ? old : full ? full : new;
}

static double rope_theta(struct maker *m, json_t *scaling)
{
    json_t *new = key(m, "rope_parameters"), *full = json_object_get(new, "full_attention");
    double theta = number_in(m, m->config, "rotary_emb_base", m->a->theta);
    theta = number_in(m, m->config, "rope_theta", theta);
    theta = number_in(m, full ? full : new, "rope_theta", theta);
    theta = number_in(m, scaling, "rope_theta", theta);
    if (!(theta > 0)) refuse(m, "rope_theta %g: expected more than 0", theta);
    return theta;
}

static int put_factors(struct maker *m, struct rope_factors *f, const char *name, json_t *list, int64_t n)
{
    if (!json_is_array(list) || (int64_t)json_array_size(list) != n) return refuse(m, "%s: expected a list of %lld rope factors", name, (long long)n);
    f->name = name;
    f->n = n;
    if (!(f->value = malloc((size_t)n * sizeof *f->value))) return m->rc = err_memory(m->err, (size_t)n);
    for (int64_t i = 0; i < n; i++) f->value[i] = (float)json_number_value(json_array_get(list, (size_t)i));
    return SAIL_OK;
}

static void put_llama3(struct maker *m, struct gguf_model_keys *k, json_t *s, double theta, int64_t n, double original)
{
    const struct llama3_rope r = {number_in(m, s, "factor", 8), number_in(m, s, "low_freq_factor", 1), number_in(m, s, "high_freq_factor", 4), original};
    struct rope_factors *f = &k->factors[0];
    if (!(r.factor >= 1) || !(r.high > r.low) || !(r.low > 0)) refuse(m, "rope scaling llama3: factors %g, %g, %g are out of range", r.factor, r.low, r.high);
    if (m->rc) return;
    *f = (struct rope_factors){"rope_freqs.weight", malloc((size_t)n * sizeof(float)), n};
    if (!f->value) {
        m->rc = err_memory(m->err, (size_t)n);
        return;
    }
    llama3_factors(f->value, n, theta, r);
    put_u32(m, "rope.scaling.original_context_length", (int64_t)original);
}

static void put_longrope(struct maker *m, struct gguf_model_keys *k, json_t *s, int64_t n, double original)
{
    json_t *shorter = json_object_get(s, "short_factor"), *longer = json_object_get(s, "long_factor");
    const double scale = (double)integer(m, "max_position_embeddings", m->a->max_position) / original;
    const double natural = scale > 1 ? sqrt(1 + log(scale) / log(original)) : 1, attention = number_in(m, s, "attention_factor", natural);
    if (json_equal(shorter, longer) && attention == 1) { // plain divisors
        put_factors(m, &k->factors[0], "rope_freqs.weight", shorter, n);
        return;
    }
    if (!is(m, "phi3")) {
        refuse(m, "rope scaling longrope has no GGUF form for %s", m->a->model_type);
        return;
    }
    put_f32(m, "rope.scaling.attn_factor", attention);
    if (!put_factors(m, &k->factors[0], "rope_factors_short.weight", shorter, n)) put_factors(m, &k->factors[1], "rope_factors_long.weight", longer, n);
}

static void put_yarn(struct maker *m, json_t *s, double original)
{
    const double factor = number_in(m, s, "factor", (double)integer(m, "max_position_embeddings", m->a->max_position) / original), natural = factor > 1 ? 0.1 * log(factor) + 1 : 1;
    if (number_in(m, s, "mscale", 0) != number_in(m, s, "mscale_all_dim", 0) || json_is_false(json_object_get(s, "truncate")) ||
        fabs(number_in(m, s, "attention_factor", natural) - natural) > 1e-9)
        refuse(m, "rope scaling yarn with mscale, truncate or attention_factor of its own has no GGUF form");
    if (number_in(m, s, "mscale", 0) != 0) refuse(m, "rope scaling yarn with mscale has no GGUF form");
    put_text(m, "rope.scaling.type", "yarn");
    put_f32(m, "rope.scaling.factor", factor);
    put_u32(m, "rope.scaling.original_context_length", (int64_t)original);
    if (number_in(m, s, "beta_fast", 32) != 32) put_f32(m, "rope.scaling.yarn_beta_fast", number_in(m, s, "beta_fast", 32));
    if (number_in(m, s, "beta_slow", 1) != 1) put_f32(m, "rope.scaling.yarn_beta_slow", number_in(m, s, "beta_slow", 1));
}

static bool has_yarn(const struct maker *m) { return is(m, "llama") || is(m, "qwen2") || is(m, "qwen3") || is(m, "smollm3") || is(m, "olmo2") || is(m, "granite"); }

static void put_rope(struct maker *m, struct gguf_model_keys *k, int64_t head_dim)
{
    json_t *s = rope_object(m);
    const double theta = rope_theta(m, s);
    double partial = number_in(m, m->config, "rotary_pct", m->a->partial > 0 ? m->a->partial : 1);
    partial = number_in(m, m->config, "partial_rotary_factor", partial);
    partial = number_in(m, s, "partial_rotary_factor", partial);
    const int64_t turned = (int64_t)((double)head_dim * partial), n = turned / 2;
    const int64_t longest = integer(m, "max_position_embeddings", m->a->max_position);
    double original = number_in(m, s, "original_max_position_embeddings", number_in(m, m->config, "original_max_position_embeddings", (double)longest));
    const char *type = json_string_value(json_object_get(s, "rope_type"));
    if (!type) type = json_string_value(json_object_get(s, "type"));
    if (turned < 2 || turned % 2 || turned > head_dim) refuse(m, "%lld of %lld elements of a head are turned", (long long)turned, (long long)head_dim);
    if (!(original >= 1 && original <= INT32_MAX)) refuse(m, "original_max_position_embeddings %g is out of range", original);
    if (m->rc) return;
    put_u32(m, "rope.dimension_count", turned);
    put_f32(m, "rope.freq_base", theta);
    if (is(m, "phi3")) {
        original = number_in(m, m->config, "original_max_position_embeddings", original);
        put_u32(m, "rope.scaling.original_context_length", (int64_t)original);
    }
    if (!type || !strcmp(type, "default"))
        return;
    if (!strcmp(type, "linear")) {
        put_text(m, "rope.scaling.type", "linear");
        put_f32(m, "rope.scaling.factor", number_in(m, s, "factor", 1));
    } else if (!strcmp(type, "llama3")) {
        put_llama3(m, k, s, theta, n, original);
    } else if (!strcmp(type, "longrope") || (is(m, "phi3") && (!strcmp(type, "su") || !strcmp(type, "yarn")))) {
        put_longrope(m, k, s, n, original);
    } else if (!strcmp(type, "yarn") && has_yarn(m)) {
        put_yarn(m, s, original);
    } else {
        refuse(m, "rope scaling '%s' has no GGUF form for %s", type, m->a->model_type);
    }
}

/* ---------------------------------------------------------------- windows and caps */

static bool some_layer_slides(const struct maker *m, int64_t n_layer)
{
    json_t *types = key(m, "layer_types");
    if (json_is_array(types)) {
        for (size_t i = 0; i < json_array_size(types); i++) {
            const char *kind = json_string_value(json_array_get(types, i));
            if (kind && !strcmp(kind, "sliding_attention")) return true;
        }
        return false;
    }
    json_t *from = key(m, "max_window_layers");
    return flag(m, "use_sliding_window", false) && (json_is_integer(from) ? json_integer_value(from) : 28) < n_layer;
}

static void put_window(struct maker *m, int64_t n_layer)
{
    if (!strcmp(m->a->model_type, "mistral") || is(m, "phi3")) {
        const int64_t window = integer(m, "sliding_window", 0);
        if (window || is(m, "phi3")) put_u32(m, "attention.sliding_window", window);
    } else if (strcmp(m->a->model_type, "llama") && some_layer_slides(m, n_layer)) {
        refuse(m, "a sliding window in some layers has no GGUF form for %s", m->a->model_type);
    }
}

/* llama.cpp takes every fourth layer to have no rotary embedding. */
static void check_smollm3_pattern(struct maker *m, int64_t n_layer)
{
    json_t *list = key(m, "no_rope_layers");
    const int64_t interval = list ? 4 : integer(m, "no_rope_layer_interval", 4);
    if (interval != 4 && interval <= n_layer) refuse(m, "no_rope_layer_interval %lld: expected 4", (long long)interval);
    for (int64_t i = 0; json_is_array(list) && i < n_layer; i++) {
        json_t *v = json_array_get(list, (size_t)i);
        if ((json_is_true(v) || json_integer_value(v) != 0) != ((i + 1) % 4 != 0)) refuse(m, "no_rope_layers[%lld]: expected %d", (long long)i, (i + 1) % 4 != 0);
    }
    if (flag(m, "use_sliding_window", false) && key(m, "sliding_window")) refuse(m, "a sliding window has no GGUF form for smollm3");
}

static void put_multipliers(struct maker *m)
{
    put_f32(m, "attention.scale", number_in(m, m->config, "attention_multiplier", 1));
    put_f32(m, "embedding_scale", number_in(m, m->config, "embedding_multiplier", 1));
    put_f32(m, "residual_scale", number_in(m, m->config, "residual_multiplier", 1));
    put_f32(m, "logit_scale", number_in(m, m->config, "logits_scaling", 1));
}

/* llama.cpp looks for norms of heads in models of 64 layers or more only (Command R+). */
static void put_cohere(struct maker *m, int64_t n_layer)
{
    const bool norms = flag(m, "use_qk_norm", false);
    if (norms != (n_layer >= 64)) refuse(m, "\"use_qk_norm\" %s has no GGUF form in a model of %lld layers", norms ? "true" : "false", (long long)n_layer);
    put_f32(m, "logit_scale", number_in(m, m->config, "logit_scale", 0.0625));
}

/* The pattern that llama.cpp takes for granted: gemma2 every second layer, gemma3 five of six. */
static void check_gemma_pattern(struct maker *m)
{
    const size_t period = is(m, "gemma2") ? 2 : 6;
    json_t *types = key(m, "layer_types");
    for (size_t i = 0; json_is_array(types) && i < json_array_size(types); i++) {
        const char *kind = json_string_value(json_array_get(types, i));
        const char *want = (i + 1) % period ? "sliding_attention" : "full_attention";
        if (!kind || strcmp(kind, want)) {
            refuse(m, "layer_types[%zu]: expected %s", i, want);
            return;
        }
    }
    if (is(m, "gemma3") && !types && integer(m, "sliding_window_pattern", 6) != 6) refuse(m, "sliding_window_pattern: expected 6");
}

static void put_gemma(struct maker *m, int64_t hidden, int64_t heads, int64_t head_dim, int64_t n_layer)
{
    const bool two = is(m, "gemma2"), largest = n_layer == (two ? 46 : 62);
    const double scalar = number_in(m, m->config, "query_pre_attn_scalar", 256), want = (double)(largest ? hidden / heads : head_dim);
    if (scalar != want) refuse(m, "query_pre_attn_scalar %g: expected %g", scalar, want);
    check_gemma_pattern(m);
    put_u32(m, "attention.sliding_window", integer(m, "sliding_window", 4096));
    // Where a file has no caps llama.cpp takes Gemma 2's own.
    if (two && json_is_null(json_object_get(m->config, "attn_logit_softcapping"))) refuse(m, "\"attn_logit_softcapping\" null has no GGUF form for gemma2");
    if (two && json_is_null(json_object_get(m->config, "final_logit_softcapping"))) refuse(m, "\"final_logit_softcapping\" null has no GGUF form for gemma2");
    const double attention = two ? number_in(m, m->config, "attn_logit_softcapping", 50) : number_in(m, m->config, "attn_logit_softcapping", 0);
    const double final = number_in(m, m->config, "final_logit_softcapping", two ? 30 : 0);
    if (attention > 0) put_f32(m, "attn_logit_softcapping", attention);
    if (final > 0) put_f32(m, "final_logit_softcapping", final);
    if (two) return;
    if (attention > 0) refuse(m, "attn_logit_softcapping has no GGUF form for gemma3");
    json_t *sliding = json_object_get(key(m, "rope_parameters"), "sliding_attention");
    const double local = number_in(m, sliding, "rope_theta", number_in(m, m->config, "rope_local_base_freq", 10000));
    if (local != 10000) refuse(m, "rope_local_base_freq %g: expected 10000", local);
}

/* ---------------------------------------------------------------- all */

/* One name for each function: the tanh gelu has five, and the first Gemma's "gelu" is that one too. */
static const char *one_name(const struct maker *m, const char *act)
{
    static const char *const same[][2] = {{"swish", "silu"}, {"gelu_python", "gelu"}, {"gelu_new", "gelu_pytorch_tanh"}, {"gelu_fast", "gelu_pytorch_tanh"},
                                          {"gelu_accurate", "gelu_pytorch_tanh"}, {"gelu_python_tanh", "gelu_pytorch_tanh"}};
    if (is(m, "gemma") && !strcmp(act, "gelu")) return "gelu_pytorch_tanh";
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        if (!strcmp(act, same[i][0])) return same[i][1];
    return act;
}

static void check(struct maker *m)
{
    static const char *const unknown[] = {"quantization_config", "num_experts", "num_local_experts", "n_routed_experts"};
    const char *architecture = json_string_value(json_array_get(key(m, "architectures"), 0));
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++)
        if (key(m, unknown[i])) refuse(m, "\"%s\" is not supported", unknown[i]);
    if (architecture && !strstr(architecture, "CausalLM") && !strstr(architecture, "LMHeadModel"))
        refuse(m, "architecture '%s' has no GGUF form: expected a ...ForCausalLM", architecture);
    if (m->a->multi_head ? !flag(m, "attention_bias", true) : flag(m, "attention_bias", false) && !m->a->attention_bias && !is(m, "qwen2"))
        refuse(m, "\"attention_bias\" %s has no GGUF form for %s", m->a->multi_head ? "false" : "true", m->a->model_type);
    if (flag(m, "mlp_bias", false) && !m->a->mlp_bias) refuse(m, "\"mlp_bias\" true has no GGUF form for %s", m->a->model_type);
    const char *act = json_string_value(key(m, m->a->act_key));
    if (act && strcmp(one_name(m, act), one_name(m, m->a->act))) refuse(m, "\"%s\" '%s': expected %s", m->a->act_key, act, m->a->act);
}

static void put_sizes(struct maker *m, struct gguf_model_keys *k)
{
    const bool gpt2 = is(m, "gpt2");
    const int64_t hidden = integer(m, gpt2 ? "n_embd" : "hidden_size", -1), heads = integer(m, gpt2 ? "n_head" : "num_attention_heads", -1);
    k->n_layer = integer(m, gpt2 ? "n_layer" : "num_hidden_layers", -1);
    k->vocab = integer(m, "vocab_size", -1);
    k->tied = flag(m, "tie_word_embeddings", m->a->tied);
    if (m->a->head == HEAD_TIED && !k->tied) refuse(m, "\"tie_word_embeddings\" false has no GGUF form for %s", m->a->model_type);
    if (!m->rc && (!hidden || !heads || !k->n_layer || !k->vocab)) refuse(m, "a size is 0");
    if (m->rc) return;
    int64_t default_kv = m->a->kv && m->a->kv < heads ? m->a->kv : heads;
    if (json_object_get(m->config, "num_key_value_heads") && !key(m, "num_key_value_heads")) default_kv = heads; // null
    const int64_t kv = m->a->multi_head ? heads : integer(m, "num_key_value_heads", default_kv);
    const int64_t head_dim = m->a->multi_head ? hidden / heads : integer(m, "head_dim", m->a->head_dim ? m->a->head_dim : hidden / heads);
    k->heads = (struct gguf_heads){heads, kv};
    put_u32(m, "block_count", k->n_layer);
    put_u32(m, "context_length", integer(m, gpt2 ? "n_positions" : "max_position_embeddings", m->a->max_position));
    put_u32(m, "embedding_length", hidden);
    put_u32(m, "feed_forward_length", integer(m, gpt2 ? "n_inner" : "intermediate_size", gpt2 ? 4 * hidden : -1));
    put_u32(m, "attention.head_count", heads);
    put_u32(m, "attention.head_count_kv", kv);
    put_u32(m, "vocab_size", k->vocab);
    if (m->a->layer_norm)
        put_f32(m, "attention.layer_norm_epsilon", number_in(m, m->config, gpt2 ? "layer_norm_epsilon" : "layer_norm_eps", m->a->eps));
    else
        put_f32(m, "attention.layer_norm_rms_epsilon", number_in(m, m->config, "rms_norm_eps", m->a->eps));
    if (!m->a->multi_head) {
        put_u32(m, "attention.key_length", head_dim);
        put_u32(m, "attention.value_length", head_dim);
    }
    if (is(m, "gptneox")) gguf_put_bool(m->w, "gptneox.use_parallel_residual", flag(m, "use_parallel_residual", true));
    if (is(m, "stablelm")) gguf_put_bool(m->w, "stablelm.use_parallel_residual", flag(m, "use_parallel_residual", false));
    if (is(m, "granite")) put_multipliers(m);
    if (is(m, "smollm3")) check_smollm3_pattern(m, k->n_layer);
    if (is(m, "command-r")) put_cohere(m, k->n_layer);
    if (gpt2 && (flag(m, "scale_attn_by_inverse_layer_idx", false) || !flag(m, "scale_attn_weights", true)))
        refuse(m, "scale_attn_by_inverse_layer_idx or no scale_attn_weights: no GGUF form");
    if (!gpt2) put_rope(m, k, head_dim);
    if (is(m, "gemma2") || is(m, "gemma3"))
        put_gemma(m, hidden, heads, head_dim, k->n_layer);
    else if (!m->a->multi_head)
        put_window(m, k->n_layer);
}

void gguf_model_keys_release(struct gguf_model_keys *k)
{
    free(k->factors[0].value);
    free(k->factors[1].value);
    *k = (struct gguf_model_keys){0};
}

int gguf_config_write(struct gguf_writer *w, struct gguf_model_keys *k, json_t *config, const char *path, sail_err *err)
{
    const char *type = json_string_value(json_object_get(config, "model_type"));
    struct maker m = {.w = w, .a = gguf_arch_of_model_type(type), .config = config, .path = path, .err = err};
    *k = (struct gguf_model_keys){.arch = m.a};
    if (!m.a)
        return err_set(err, SAIL_FAILED, "%s: config.json: model_type '%.60s' has no GGUF form here: expected %s", path, type ? type : "(absent)",
                       gguf_arch_list());
    check(&m);
    if (m.rc) return m.rc;
    gguf_put_string(w, "general.architecture", m.a->arch);
    put_sizes(&m, k);
    if (m.rc) gguf_model_keys_release(k);
    return m.rc;
}
