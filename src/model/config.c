/* config.json in both spellings, to the facts that the engine runs on. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "model/config_reader.h"

static bool says_something(const json_t *v)
{
    return v && !json_is_null(v) && !json_is_false(v) && !(json_is_object(v) && !json_object_size(v)) && !(json_is_array(v) && !json_array_size(v)) &&
           !(json_is_integer(v) && json_integer_value(v) == 0);
}

/* Mixtures of experts by what their configs have, and by name: mixtral, qwen2_moe, olmoe, granitemoe, ... */
static void refuse_experts(struct reader *r, const char *type)
{
    static const char *const keys[] = {"num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (says_something(config_key(r, keys[i]))) config_refuse(r, "model_type '%s' with \"%s\": mixture-of-experts models are not supported", type, keys[i]);
    if (strstr(type, "moe") || !strcmp(type, "mixtral")) config_refuse(r, "model_type '%s': mixture-of-experts models are not supported", type);
}

static const struct family *find_family(struct reader *r, struct model_config *c)
{
    const char *type = json_string_value(config_key(r, "model_type")), *architecture = json_string_value(json_array_get(config_key(r, "architectures"), 0));
    snprintf(c->architecture, sizeof c->architecture, "%s", architecture ? architecture : "");
    if (config_key(r, "quantization_config")) config_refuse(r, "quantization_config: quantised Hugging Face folders are not supported; use the original weights or a GGUF file");
    refuse_experts(r, type ? type : "?");
    const struct family *f = family_find(type);
    if (!f) config_refuse(r, "model_type '%s' (%s) is not supported: expected %s", type ? type : "?", architecture ? architecture : "no architectures", family_list());
    return f;
}

/* What families can be told to do and this engine does not: refused, because it changes the mathematics. */
static void refuse_unsupported(struct reader *r)
{
    static const char *const names[] = {"use_bidirectional_attention", "add_cross_attention", "is_encoder_decoder", "per_layer_config", "pruned_heads"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (says_something(config_key(r, names[i]))) config_refuse(r, "\"%s\" is not supported", names[i]);
}

static bool layer_slides(struct reader *r, const struct model_config *c, int64_t i, int64_t from, int64_t pattern)
{
    json_t *types = config_key(r, "layer_types"); // an explicit list wins
    if (json_is_array(types) && c->family->window != WINDOW_ALWAYS) {
        const char *type = json_string_value(json_array_get(types, (size_t)i));
        if (type && !strcmp(type, "sliding_attention")) return true;
        if ((!type || strcmp(type, "full_attention")) && !r->rc)
            config_refuse(r, "layer_types[%lld]: expected full_attention or sliding_attention, got %s", (long long)i, type ? type : "nothing");
        return false;
    }
    switch (c->family->window) {
    case WINDOW_ALWAYS: return true;
    case WINDOW_ASKED: return i >= from;
    case WINDOW_EVEN: return i % 2 == 0;
    case WINDOW_PATTERN: return (i + 1) % pattern != 0;
    case WINDOW_NO_ROPE: return c->kind[i].rope < 0;
    case WINDOW_NONE: break;
    }
    return false;
}

/* no_rope_layers[i] is 1 where the layer has RoPE; without the list every no_rope_layer_interval-th has none. */
static bool layer_turns(struct reader *r, int64_t i)
{
    json_t *list = config_key(r, "no_rope_layers");
    if (!list) return (i + 1) % config_integer(r, "no_rope_layer_interval", 4, 1, INT32_MAX) != 0;
    json_t *v = json_array_get(list, (size_t)i);
    if (!json_is_integer(v) && !json_is_boolean(v)) config_refuse(r, "no_rope_layers[%lld]: expected 0 or 1, got %s", (long long)i, v ? "something else" : "nothing");
    return json_is_true(v) || json_integer_value(v) != 0;
}

/* Which layers have a sliding window, and which turn their heads. */
static void read_layers(struct reader *r, struct model_config *c)
{
    const struct family *f = c->family;
    if ((r->rc = mem_alloc(&c->kind, (size_t)c->n_layer, sizeof *c->kind, r->err))) return;
    for (int64_t i = 0; i < c->n_layer; i++) c->kind[i].rope = f->no_rope || (f->window == WINDOW_NO_ROPE && !layer_turns(r, i)) ? -1 : 0;
    const bool asks = f->window == WINDOW_ASKED || f->window == WINDOW_NO_ROPE;
    const bool null = json_is_null(json_object_get(r->j, "sliding_window")), given = config_key(r, "sliding_window") != NULL;
    if (f->window == WINDOW_NONE || null || (asks && !config_flag(r, "use_sliding_window", false)) || (!given && !f->sliding_window)) return;
    const int64_t window = config_integer(r, "sliding_window", f->sliding_window ? f->sliding_window : -1, 1, INT32_MAX);
    const int64_t from = config_integer(r, "max_window_layers", 28, 0, INT32_MAX), pattern = config_integer(r, "sliding_window_pattern", 6, 1, INT32_MAX);
    for (int64_t i = 0; !r->rc && i < c->n_layer; i++)
        if (layer_slides(r, c, i, from, pattern)) c->kind[i].window = window;
}

static void read_special(struct reader *r, struct model_config *c, json_t *generation)
{
    c->bos = (int32_t)config_integer(r, "bos_token_id", -1, -1, INT32_MAX);
    c->pad = (int32_t)config_integer(r, "pad_token_id", -1, -1, INT32_MAX);
    json_t *eos = json_object_get(generation, "eos_token_id");
    if (!eos || json_is_null(eos)) eos = config_key(r, "eos_token_id");
    const size_t n = json_is_array(eos) ? json_array_size(eos) : eos != NULL;
    if (n > sizeof c->eos / sizeof *c->eos) config_refuse(r, "\"eos_token_id\": %zu ids: expected up to %zu", n, sizeof c->eos / sizeof *c->eos);
    for (size_t i = 0; !r->rc && i < n; i++) {
        json_t *one = json_is_array(eos) ? json_array_get(eos, i) : eos;
        if (!json_is_integer(one) || json_integer_value(one) > INT32_MAX) config_refuse(r, "\"eos_token_id\": expected a whole number or a list of them");
        else if (json_integer_value(one) >= 0) c->eos[c->n_eos++] = (int32_t)json_integer_value(one);
    }
}

/* Classes of reward models by the end of their name, and what they call the head. Labels are counted where the class counts them. */
static const struct {
    const char *end, *head;
    bool labels;
} reward_classes[] = {{"ForSequenceClassification", "score", true}, {"ModelForScore", "score_head", false}, {"EurusRewardModel", "regression_head", false}};

static void read_score_head(struct reader *r, bool labels)
{
    json_t *names = config_key(r, "id2label");
    const size_t n = json_is_object(names) ? json_object_size(names) : (size_t)config_integer(r, "num_labels", 2, 1, 1 << 20);
    if (labels && n != 1) config_refuse(r, "a reward model has one label, this one has %zu (\"id2label\")", n);
    const int64_t dim = config_integer(r, "score_dim", 1, 1, INT32_MAX);
    if (dim != 1) config_refuse(r, "a reward model has one score, this one has %lld (\"score_dim\")", (long long)dim);
    if (config_flag(r, "do_normalize", false)) // a running mean and variance around the score
        config_refuse(r, "\"do_normalize\": normalised scores are not supported; set it to false for the score itself");
}

static void read_head(struct reader *r, struct model_config *c)
{
    for (size_t i = 0; i < sizeof reward_classes / sizeof *reward_classes; i++)
        if (strstr(c->architecture, reward_classes[i].end)) {
            c->reward_head = true;
            c->score_name = reward_classes[i].head;
            read_score_head(r, reward_classes[i].labels);
            return;
        }
    if (!strstr(c->architecture, "ForCausalLM") && !strstr(c->architecture, "LMHeadModel") && c->architecture[0])
        config_refuse(r, "architecture '%s' is not supported: expected ...ForCausalLM or a reward model: ...ForSequenceClassification, ...ModelForScore, EurusRewardModel",
                      c->architecture);
}

static void read_activation(struct reader *r, struct model_config *c)
{
    static const struct {
        const char *name;
        enum activation act;
    } known[] = {{"silu", ACT_SILU}, {"swish", ACT_SILU}, {"gelu", ACT_GELU}, {"gelu_python", ACT_GELU}, {"gelu_new", ACT_GELU_TANH},
                 {"gelu_pytorch_tanh", ACT_GELU_TANH}, {"gelu_python_tanh", ACT_GELU_TANH}, {"gelu_fast", ACT_GELU_TANH}, {"gelu_accurate", ACT_GELU_TANH}, {"relu", ACT_RELU}};
    const struct family *f = c->family;
    const char *name = json_string_value(config_key(r, f->key_act ? f->key_act : "hidden_act"));
    if (!name) name = f->act ? f->act : "silu";
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(name, known[i].name)) {
            c->act = f->gelu_is_tanh && known[i].act == ACT_GELU ? ACT_GELU_TANH : known[i].act;
            return;
        }
    config_refuse(r, "activation '%s' is not supported: expected silu, gelu, gelu_new, gelu_pytorch_tanh or relu", name);
}

static void read_sizes(struct reader *r, struct model_config *c)
{
    const struct family *f = c->family;
    const int64_t most = 1 << 24;
    c->vocab = config_integer(r, "vocab_size", 0, 1, most);
    c->hidden = config_integer(r, f->key_hidden ? f->key_hidden : "hidden_size", 0, 1, most);
    c->inter = config_integer(r, f->key_inter ? f->key_inter : "intermediate_size", f->key_inter ? 4 * c->hidden : 0, 1, most);
    c->n_layer = config_integer(r, f->key_layers ? f->key_layers : "num_hidden_layers", 0, 1, 4096);
    c->n_head = config_integer(r, f->key_heads ? f->key_heads : "num_attention_heads", 0, 1, 65536);
    if (r->rc) return;
    const bool grouped = !f->multi_head;
    const int64_t kv = f->kv && !json_object_get(r->j, "num_key_value_heads") ? f->kv : c->n_head; // null: as many as heads
    c->n_kv = grouped ? config_integer(r, "num_key_value_heads", kv, 1, c->n_head) : c->n_head;
    c->head_dim = grouped ? config_integer(r, "head_dim", f->head_dim ? f->head_dim : c->hidden / c->n_head, 2, HEAD_DIM_MAX) : c->hidden / c->n_head;
    c->max_position = config_integer(r, f->key_context ? f->key_context : "max_position_embeddings", f->context, 1, INT32_MAX / 2);
    c->context = c->max_position;
    c->norm_eps = (float)config_positive(r, r->j, f->key_eps ? f->key_eps : "rms_norm_eps", f->eps);
    if (r->rc) return;
    if (c->n_head % c->n_kv)
        config_refuse(r, "%lld heads do not divide by %lld key/value heads", (long long)c->n_head, (long long)c->n_kv);
    else if (c->head_dim < 2 || c->head_dim > HEAD_DIM_MAX || (!grouped && c->hidden % c->n_head))
        config_refuse(r, "hidden size %lld does not divide by %lld heads of a size from 2 to 4096", (long long)c->hidden, (long long)c->n_head);
}

/* A cap may be null: none. */
static float softcap(struct reader *r, const char *name, double fallback)
{
    const double x = json_is_null(json_object_get(r->j, name)) ? 0 : config_number(r, r->j, name, fallback);
    if (x < 0) config_refuse(r, "\"%s\": expected a positive number, got %g", name, x);
    return (float)x;
}

static void read_scales(struct reader *r, struct model_config *c)
{
    const struct family *f = c->family;
    const double square = f->query_pre_attn > 0 ? config_positive(r, r->j, "query_pre_attn_scalar", f->query_pre_attn) : (double)c->head_dim;
    c->attn_scale = config_flag(r, "scale_attn_weights", true) ? (float)(1 / sqrt(square)) : 1;
    c->attn_scale_by_layer = config_flag(r, "scale_attn_by_inverse_layer_idx", false);
    c->attn_softcap = f->attn_softcap > 0 ? softcap(r, "attn_logit_softcapping", f->attn_softcap) : 0;
    c->logit_softcap = f->query_pre_attn > 0 ? softcap(r, "final_logit_softcapping", f->logit_softcap) : 0;
    c->logit_scale = f->logit_scale > 0 ? (float)config_positive(r, r->j, "logit_scale", f->logit_scale) : 1;
    c->embed_scale = f->embed_by_sqrt ? sqrtf((float)c->hidden) : 1;
    c->residual_scale = 1;
    if (!f->multipliers) return;
    c->attn_scale = (float)config_positive(r, r->j, "attention_multiplier", 1);
    c->embed_scale = (float)config_positive(r, r->j, "embedding_multiplier", 1);
    c->residual_scale = (float)config_positive(r, r->j, "residual_multiplier", 1);
    c->logit_scale = (float)(1 / config_positive(r, r->j, "logits_scaling", 1));
}

/* Parts that a family may have or not. */
static void read_parts(struct reader *r, struct model_config *c)
{
    const struct family *f = c->family;
    const bool bias = config_flag(r, "attention_bias", f->attention_bias);
    c->tied = config_flag(r, "tie_word_embeddings", f->tied);
    c->qkv_bias = f->key_qkv_bias ? config_flag(r, f->key_qkv_bias, false) : f->qkv_bias || bias;
    c->o_bias = bias && !f->qkv_bias && !f->key_qkv_bias;
    c->mlp_bias = f->mlp_bias || config_flag(r, "mlp_bias", false);
    c->parallel = f->key_parallel ? config_flag(r, f->key_parallel, f->parallel) : f->parallel;
    c->shared_norm = c->parallel && f->shared_norm;
    c->qk_norm = !f->key_qk_norm || config_flag(r, f->key_qk_norm, false) ? f->qk_norm : QK_NORM_NONE;
}

int model_config_read(struct model_config *c, json_t *config, json_t *generation, const char *path, sail_err *err)
{
    *c = (struct model_config){0};
    struct reader r = {.j = config, .path = path, .err = err};
    c->family = find_family(&r, c);
    if (r.rc) return r.rc;
    refuse_unsupported(&r);
    if (!r.rc) read_sizes(&r, c);
    if (r.rc) return r.rc;
    read_parts(&r, c);
    read_activation(&r, c);
    read_scales(&r, c);
    if (!r.rc) read_layers(&r, c);
    if (!r.rc) config_read_rope(&r, c);
    if (!r.rc) read_special(&r, c, generation);
    if (!r.rc) read_head(&r, c);
    return r.rc;
}

void model_config_release(struct model_config *c)
{
    free(c->kind);
    for (int i = 0; i < ROPE_MAX_TABLES; i++) free(c->rope[i].extension);
    *c = (struct model_config){0};
}
