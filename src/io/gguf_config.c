/* GGUF keys to a config.json in the spelling of transformers 4. */
#include "io/gguf_config.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "io/gguf_dequant.h"

struct reader {
    const struct gguf *g;
    const struct gguf_arch *a;
    json_t *out;
    sail_err *err;
    int rc;
};

static const char *full_key(const struct reader *r, char out[160], const char *key)
{
    snprintf(out, 160, "%s.%s", r->a->arch, key);
    return out;
}

static bool has(const struct reader *r, const char *key)
{
    char name[160];
    return gguf_has(r->g, full_key(r, name, key));
}

/* fallback < 0: the key is needed. */
static int64_t integer(struct reader *r, const char *key, int64_t fallback)
{
    char name[160];
    uint64_t v = 0;
    full_key(r, name, key);
    if (r->rc) return 0;
    if (!gguf_has(r->g, name) && fallback >= 0) return fallback;
    if (!gguf_u64(r->g, name, &v) || v > (uint64_t)1 << 40) {
        r->rc = err_set(r->err, SAIL_FAILED, "%s: key '%s': expected one whole number, got %s", gguf_path(r->g), name,
                        gguf_has(r->g, name) ? "something else" : "nothing");
        return 0;
    }
    return (int64_t)v;
}

static double number(struct reader *r, const char *key, double fallback)
{
    char name[160];
    double v = fallback;
    full_key(r, name, key);
    if (gguf_has(r->g, name) && (!gguf_f64(r->g, name, &v) || !isfinite(v)) && !r->rc)
        r->rc = err_set(r->err, SAIL_FAILED, "%s: key '%s': expected a number", gguf_path(r->g), name);
    return tidy_float(v);
}

static const char *text(const struct reader *r, const char *key)
{
    char name[160];
    return gguf_string(r->g, full_key(r, name, key));
}

static void put_int(struct reader *r, const char *name, int64_t v) { json_object_set_new(r->out, name, json_integer(v)); }
static void put_real(struct reader *r, const char *name, double v) { json_object_set_new(r->out, name, json_real(v)); }
static void put_text(struct reader *r, const char *name, const char *v) { json_object_set_new(r->out, name, json_string(v)); }
static void put_bool(struct reader *r, const char *name, bool v) { json_object_set_new(r->out, name, json_boolean(v)); }
static void put_null(struct reader *r, const char *name) { json_object_set_new(r->out, name, json_null()); }

static bool is(const struct reader *r, const char *arch) { return !strcmp(r->a->arch, arch); }

/* ---------------------------------------------------------------- rotary embeddings */

static int load_factors(struct reader *r, const char *name, int64_t n, float **out)
{
    const struct gguf_tensor *t = gguf_tensor_find(r->g, name);
    *out = NULL;
    if (!t) return SAIL_OK;
    if (t->n_dim != 1 || t->dim[0] != n || t->type != GGML_F32)
        return err_set(r->err, SAIL_FAILED, "%s: tensor '%s': expected %lld values of F32, got %lld of %s", gguf_path(r->g), name, (long long)n,
                       (long long)t->dim[0], ggml_type_name(t->type));
    *out = malloc((size_t)n * sizeof **out);
    if (!*out) return err_memory(r->err, (size_t)n * sizeof **out);
    ggml_dequantise(*out, t->data, GGML_F32, n);
    return SAIL_OK;
}

static json_t *float_list(const float *v, int64_t n)
{
    json_t *list = json_array();
    for (int64_t i = 0; i < n; i++) json_array_append_new(list, json_real(tidy_float(v[i])));
    return list;
}

/* Divisors of the frequencies: Llama 3's scaling where they are of that form, else written out as they are. */
static json_t *scaling_of_divisors(struct reader *r, const float *v, int64_t n, double theta)
{
    struct llama3_rope l;
    if (llama3_recognise(v, n, theta, (double)integer(r, "rope.scaling.original_context_length", 8192), &l))
        return json_pack("{ss sf sf sf sI}", "rope_type", "llama3", "factor", tidy_float(l.factor), "low_freq_factor", l.low, "high_freq_factor",
                         l.high, "original_max_position_embeddings", (json_int_t)l.original);
    return json_pack("{ss sf so so sI}", "rope_type", "longrope", "attention_factor", 1.0, "short_factor", float_list(v, n), "long_factor",
                     float_list(v, n), "original_max_position_embeddings", (json_int_t)integer(r, "context_length", 0));
}

static json_t *long_scaling(struct reader *r, const float *shorter, const float *longer, int64_t n, int64_t original)
{
    const double scale = (double)integer(r, "context_length", 0) / (double)original;
    const double natural = scale > 1 ? sqrt(1 + log(scale) / log((double)original)) : 1, stored = number(r, "rope.scaling.attn_factor", natural);
    json_t *s = json_pack("{ss ss so so}", "type", "longrope", "rope_type", "longrope", "short_factor", float_list(shorter, n), "long_factor",
                          float_list(longer, n));
    if (fabs(stored - natural) > 1e-6 * natural) json_object_set_new(s, "attention_factor", json_real(stored));
    return s;
}

static json_t *named_scaling(struct reader *r, const char *type)
{
    const int64_t original = integer(r, "rope.scaling.original_context_length", integer(r, "context_length", 0));
    const double factor = number(r, "rope.scaling.factor", 1);
    if (!strcmp(type, "linear")) return json_pack("{ss ss sf}", "type", "linear", "rope_type", "linear", "factor", factor);
    if (strcmp(type, "yarn")) {
        r->rc = err_set(r->err, SAIL_FAILED, "%s: rope scaling type '%s' is not supported: expected none, linear or yarn", gguf_path(r->g), type);
        return NULL;
    }
    json_t *s = json_pack("{ss ss sf sI}", "type", "yarn", "rope_type", "yarn", "factor", factor, "original_max_position_embeddings",
                          (json_int_t)original);
    if (has(r, "rope.scaling.yarn_beta_fast")) json_object_set_new(s, "beta_fast", json_real(number(r, "rope.scaling.yarn_beta_fast", 32)));
    if (has(r, "rope.scaling.yarn_beta_slow")) json_object_set_new(s, "beta_slow", json_real(number(r, "rope.scaling.yarn_beta_slow", 1)));
    return s;
}

static void put_rope(struct reader *r, int64_t head_dim)
{
    const double theta = number(r, "rope.freq_base", is(r, "gemma3") ? 1e6 : 10000);
    const int64_t turned = integer(r, "rope.dimension_count", head_dim);
    const char *type = text(r, "rope.scaling.type");
    float *divisor = NULL, *shorter = NULL, *longer = NULL;
    if (r->rc) return;
    if (turned < 2 || turned > head_dim || turned % 2) {
        r->rc = err_set(r->err, SAIL_FAILED, "%s: %s.rope.dimension_count %lld: expected an even number up to the head's %lld", gguf_path(r->g),
                        r->a->arch, (long long)turned, (long long)head_dim);
        return;
    }
    r->rc = load_factors(r, "rope_freqs.weight", turned / 2, &divisor);
    if (!r->rc) r->rc = load_factors(r, "rope_factors_short.weight", turned / 2, &shorter);
    if (!r->rc) r->rc = load_factors(r, "rope_factors_long.weight", turned / 2, &longer);
    const int64_t original = integer(r, "rope.scaling.original_context_length", integer(r, "context_length", 0));
    json_t *scaling = NULL;
    if (r->rc)
        ;
    else if (shorter && longer)
        scaling = long_scaling(r, shorter, longer, turned / 2, original);
    else if (divisor)
        scaling = scaling_of_divisors(r, divisor, turned / 2, theta);
    else if (type && strcmp(type, "none"))
        scaling = named_scaling(r, type);
    put_real(r, is(r, "gptneox") ? "rotary_emb_base" : "rope_theta", theta);
    json_object_set_new(r->out, "rope_scaling", scaling ? scaling : json_null());
    if (is(r, "phi3")) put_int(r, "original_max_position_embeddings", original);
    if (is(r, "gptneox"))
        put_real(r, "rotary_pct", (double)turned / (double)head_dim);
    else if (turned != head_dim || r->a->partial > 0)
        put_real(r, "partial_rotary_factor", (double)turned / (double)head_dim);
    free(divisor);
    free(shorter);
    free(longer);
}

/* ---------------------------------------------------------------- the rest */

static bool has_tensor(const struct reader *r, const char *name) { return gguf_tensor_find(r->g, name) != NULL; }

/* Which projections have biases must be what the class can say. */
static void put_biases(struct reader *r)
{
    const bool q = has_tensor(r, "blk.0.attn_q.bias"), k = has_tensor(r, "blk.0.attn_k.bias"), v = has_tensor(r, "blk.0.attn_v.bias"),
               o = has_tensor(r, "blk.0.attn_output.bias"), mlp = has_tensor(r, "blk.0.ffn_up.bias");
    const char *type = r->a->model_type;
    const bool may = r->a->attention_bias;
    if (r->a->multi_head || is(r, "phi3")) return;
    const bool fits = is(r, "qwen2") ? q && k && v && !o : is(r, "stablelm") ? q == k && q == v && !o : q == k && q == v && q == o && (!q || may);
    if (!fits || (mlp && !r->a->mlp_bias)) {
        r->rc = err_set(r->err, SAIL_FAILED, "%s: biases (q %d, k %d, v %d, output %d, mlp %d) are not those of a %s model", gguf_path(r->g), q, k, v,
                        o, mlp, type);
        return;
    }
    if (may) put_bool(r, "attention_bias", q);
    if (r->a->mlp_bias) put_bool(r, "mlp_bias", mlp);
    if (!is(r, "stablelm")) return;
    put_bool(r, "use_qkv_bias", q);
    put_bool(r, "qk_layernorm", has_tensor(r, "blk.0.attn_q_norm.weight"));
}

static void put_gemma(struct reader *r, int64_t hidden, int64_t heads, int64_t head_dim)
{
    const int64_t layers = integer(r, "block_count", -1);
    const bool largest = is(r, "gemma2") ? layers == 46 : layers == 62; // 27B: the scale is by hidden / heads
    put_int(r, "query_pre_attn_scalar", largest ? hidden / heads : head_dim);
    put_int(r, "sliding_window", integer(r, "attention.sliding_window", 4096));
    // Without its key a cap is Gemma 2's own, or none in Gemma 3.
    if (is(r, "gemma2") || has(r, "attn_logit_softcapping")) put_real(r, "attn_logit_softcapping", number(r, "attn_logit_softcapping", 50));
    else put_null(r, "attn_logit_softcapping");
    if (is(r, "gemma2") || has(r, "final_logit_softcapping")) put_real(r, "final_logit_softcapping", number(r, "final_logit_softcapping", 30));
    else put_null(r, "final_logit_softcapping");
    if (!is(r, "gemma3")) return;
    put_int(r, "sliding_window_pattern", 6);
    put_real(r, "rope_local_base_freq", number(r, "rope.freq_base_swa", 10000));
}

/* llama.cpp's attention scale is 1 / sqrt(head) where the file has none. */
static void put_multipliers(struct reader *r, int64_t head_dim)
{
    put_real(r, "attention_multiplier", number(r, "attention.scale", 1 / sqrt((double)head_dim)));
    put_real(r, "embedding_multiplier", number(r, "embedding_scale", 1));
    put_real(r, "residual_multiplier", number(r, "residual_scale", 1));
    put_real(r, "logits_scaling", number(r, "logit_scale", 1));
}

static void put_window(struct reader *r)
{
    const int64_t window = integer(r, "attention.sliding_window", 0);
    if (is(r, "phi3") || !strcmp(r->a->model_type, "mistral")) {
        if (window) put_int(r, "sliding_window", window);
        else put_null(r, "sliding_window");
    } else if (window && !r->rc) {
        r->rc = err_set(r->err, SAIL_FAILED, "%s: %s.attention.sliding_window %lld is not supported", gguf_path(r->g), r->a->arch, (long long)window);
    }
}

static void put_parallel(struct reader *r)
{
    char name[160];
    bool parallel = true;
    gguf_bool(r->g, full_key(r, name, "use_parallel_residual"), &parallel);
    put_bool(r, "use_parallel_residual", parallel);
}

static void put_sizes(struct reader *r, const struct gguf_tensor *embed)
{
    const bool gpt2 = is(r, "gpt2");
    const int64_t hidden = integer(r, "embedding_length", -1), heads = integer(r, "attention.head_count", -1);
    if (!r->rc && (hidden < 1 || heads < 1 || embed->dim[0] != hidden))
        r->rc = err_set(r->err, SAIL_FAILED, "%s: embedding_length %lld, %lld heads, rows of token_embd.weight %lld: they do not fit", gguf_path(r->g),
                        (long long)hidden, (long long)heads, (long long)embed->dim[0]);
    if (r->rc) return;
    const int64_t head_dim = integer(r, "attention.key_length", hidden / heads);
    if (integer(r, "attention.value_length", head_dim) != head_dim && !r->rc)
        r->rc = err_set(r->err, SAIL_FAILED, "%s: attention.key_length %lld is not attention.value_length", gguf_path(r->g), (long long)head_dim);
    put_int(r, gpt2 ? "n_embd" : "hidden_size", hidden);
    put_int(r, gpt2 ? "n_inner" : "intermediate_size", integer(r, "feed_forward_length", -1));
    put_int(r, gpt2 ? "n_layer" : "num_hidden_layers", integer(r, "block_count", -1));
    put_int(r, gpt2 ? "n_head" : "num_attention_heads", heads);
    put_int(r, gpt2 ? "n_positions" : "max_position_embeddings", integer(r, "context_length", -1));
    put_int(r, "vocab_size", embed->dim[1]);
    if (r->a->layer_norm)
        put_real(r, gpt2 ? "layer_norm_epsilon" : "layer_norm_eps", number(r, "attention.layer_norm_epsilon", r->a->eps));
    else
        put_real(r, "rms_norm_eps", number(r, "attention.layer_norm_rms_epsilon", r->a->eps));
    if (!r->a->multi_head) {
        put_int(r, "num_key_value_heads", integer(r, "attention.head_count_kv", heads));
        put_int(r, "head_dim", head_dim);
    }
    if (is(r, "gptneox") || is(r, "stablelm")) put_parallel(r);
    if (is(r, "smollm3")) put_int(r, "no_rope_layer_interval", 4); // llama.cpp knows no other
    if (is(r, "granite")) put_multipliers(r, head_dim);
    if (is(r, "command-r")) {
        put_real(r, "logit_scale", number(r, "logit_scale", 1));
        put_bool(r, "use_qk_norm", has_tensor(r, "blk.0.attn_q_norm.weight"));
    }
    if (!gpt2) put_rope(r, head_dim);
    if (is(r, "gemma2") || is(r, "gemma3"))
        put_gemma(r, hidden, heads, head_dim);
    else if (!r->a->multi_head)
        put_window(r);
}

static const char *torch_dtype(const struct gguf_tensor *embed)
{
    return embed->type == GGML_F32 ? "float32" : embed->type == GGML_F16 ? "float16" : "bfloat16";
}

static void put_id(const struct reader *r, json_t *j, const char *name, const char *key)
{
    uint64_t id;
    json_object_set_new(j, name, gguf_u64(r->g, key, &id) && id <= INT32_MAX ? json_integer((json_int_t)id) : json_null());
}

/* Ids that end an answer: the end of text, of a turn, of a message. */
static json_t *make_generation(const struct reader *r)
{
    static const char *const keys[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"};
    json_t *j = json_object(), *ends = json_array();
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        uint64_t id;
        bool there = !gguf_u64(r->g, keys[i], &id) || id > INT32_MAX;
        for (size_t k = 0; !there && k < json_array_size(ends); k++) there = (uint64_t)json_integer_value(json_array_get(ends, k)) == id;
        if (!there) json_array_append_new(ends, json_integer((json_int_t)id));
    }
    put_id(r, j, "bos_token_id", "tokenizer.ggml.bos_token_id");
    if (json_is_null(json_object_get(j, "bos_token_id"))) json_object_del(j, "bos_token_id");
    if (json_array_size(ends)) json_object_set(j, "eos_token_id", json_array_size(ends) == 1 ? json_array_get(ends, 0) : ends);
    json_decref(ends);
    put_id(r, j, "pad_token_id", "tokenizer.ggml.padding_token_id");
    if (json_is_null(json_object_get(j, "pad_token_id"))) json_object_del(j, "pad_token_id");
    return j;
}

int gguf_config_read(const struct gguf *g, const struct gguf_arch **arch, json_t **config, json_t **generation, sail_err *err)
{
    const char *name = gguf_string(g, "general.architecture");
    const struct gguf_tensor *embed = gguf_tensor_find(g, "token_embd.weight");
    struct reader r = {.g = g, .a = gguf_arch_find(name), .err = err};
    if (!r.a)
        return err_set(err, SAIL_FAILED, "%s: general.architecture '%.60s' is not supported: expected llama, qwen2, qwen3, smollm3, olmo2, granite, stablelm, command-r, phi3, gemma, gemma2, gemma3, gptneox or gpt2",
                       gguf_path(g), name ? name : "(absent)");
    uint64_t parts = 1;
    if (gguf_u64(g, "split.count", &parts) && parts > 1)
        return err_set(err, SAIL_FAILED, "%s: one part of %llu: expected the whole model in one file", gguf_path(g), (unsigned long long)parts);
    if (!embed || embed->n_dim != 2)
        return err_set(err, SAIL_FAILED, "%s: no tensor 'token_embd.weight' with two dims (a vocabulary-only file?)", gguf_path(g));
    if (is(&r, "llama") && integer(&r, "attention.sliding_window", 0)) r.a = gguf_arch_of_model_type("mistral");
    if (!(r.out = json_object())) return err_memory(err, 0);
    json_object_set_new(r.out, "architectures", json_pack("[s]", r.a->architecture));
    put_text(&r, "model_type", r.a->model_type);
    put_sizes(&r, embed);
    if (!r.rc) put_biases(&r);
    put_text(&r, r.a->act_key, r.a->act);
    put_bool(&r, "tie_word_embeddings", !has_tensor(&r, "output.weight"));
    put_text(&r, "torch_dtype", torch_dtype(embed));
    put_id(&r, r.out, "bos_token_id", "tokenizer.ggml.bos_token_id");
    put_id(&r, r.out, "eos_token_id", "tokenizer.ggml.eos_token_id");
    put_id(&r, r.out, "pad_token_id", "tokenizer.ggml.padding_token_id");
    if (r.rc) {
        json_decref(r.out);
        return r.rc;
    }
    *arch = r.a;
    *config = r.out;
    *generation = make_generation(&r);
    return SAIL_OK;
}
