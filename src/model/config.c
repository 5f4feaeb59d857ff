/* config.json in both spellings, to the facts that the engine runs on. */
#include <math.h>
#include <stdlib.h>
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
    const struct family *f = family_find(type);
    if (!f)
        r->rc = err_set(r->err, SAIL_FAILED, "%s: model_type '%s' (%s) is not supported: expected %s", r->path, type ? type : "?",
                        architecture ? architecture : "no architectures", family_list());
    return f;
}

/* What families can be told to do and this engine does not: refused, because it changes the mathematics. */
static void refuse_unsupported(struct reader *r)
{
    static const char *const names[] = {"use_bidirectional_attention", "add_cross_attention", "is_encoder_decoder"};
    for (size_t i = 0; !r->rc && i < sizeof names / sizeof *names; i++)
        if (flag(r, names[i], false)) r->rc = err_set(r->err, SAIL_FAILED, "%s: \"%s\" is not supported", r->path, names[i]);
}

static double yarn_mscale(double factor, double m) { return factor <= 1 ? 1 : 0.1 * m * log(factor) + 1; }

static void read_yarn(struct reader *r, struct rope_config *rope, json_t *s)
{
    rope->beta_fast = number(r, s, "beta_fast", 32);
    rope->beta_slow = number(r, s, "beta_slow", 1);
    rope->truncate = !json_is_false(json_object_get(s, "truncate"));
    const double mscale = number(r, s, "mscale", 0), all = number(r, s, "mscale_all_dim", 0);
    const double factor = mscale != 0 && all != 0 ? yarn_mscale(rope->factor, mscale) / yarn_mscale(rope->factor, all) : yarn_mscale(rope->factor, 1);
    rope->attention_factor = number(r, s, "attention_factor", factor);
    if (!r->rc && (rope->beta_fast <= 0 || rope->beta_slow <= 0 || rope->theta == 1))
        r->rc = err_set(r->err, SAIL_FAILED, "%s: yarn: beta_fast %g and beta_slow %g must be positive", r->path, rope->beta_fast, rope->beta_slow);
}

static void read_extension(struct reader *r, struct rope_config *rope, json_t *s, const char *name, double *to)
{
    json_t *list = json_object_get(s, name);
    const int64_t n = rope->rot / 2;
    if (!r->rc && (!json_is_array(list) || (int64_t)json_array_size(list) != n))
        r->rc = err_set(r->err, SAIL_FAILED, "%s: longrope: \"%s\": expected a list of %lld numbers, got %lld", r->path, name, (long long)n,
                        (long long)json_array_size(list));
    for (int64_t i = 0; !r->rc && i < n; i++) {
        to[i] = json_number_value(json_array_get(list, (size_t)i));
        if (!(to[i] > 0) || !isfinite(to[i]))
            r->rc = err_set(r->err, SAIL_FAILED, "%s: longrope: \"%s\"[%lld]: expected a positive number", r->path, name, (long long)i);
    }
}

static void read_longrope(struct reader *r, struct model_config *c, struct rope_config *rope, json_t *s)
{
    const double original = (double)rope->original_max_position, factor = number(r, s, "factor", (double)c->max_position / original);
    if (r->rc) return;
    if (original < 2) {
        r->rc = err_set(r->err, SAIL_FAILED, "%s: longrope: \"original_max_position_embeddings\" %g is too small", r->path, original);
        return;
    }
    rope->attention_factor = number(r, s, "attention_factor", factor <= 1 ? 1 : sqrt(1 + log(factor) / log(original)));
    if ((r->rc = mem_alloc(&rope->extension, (size_t)rope->rot, sizeof *rope->extension, r->err))) return;
    read_extension(r, rope, s, "short_factor", rope->extension);
    read_extension(r, rope, s, "long_factor", rope->extension + rope->rot / 2);
    c->rope_switch = rope->original_max_position;
}

/* Kinds of one table. "dynamic" differs from the default only past max_position_embeddings, where no sequence goes. */
static void read_rope_kind(struct reader *r, struct model_config *c, struct rope_config *rope, json_t *s)
{
    const char *kind = json_string_value(json_object_get(s, "rope_type"));
    if (!kind) kind = json_string_value(json_object_get(s, "type"));
    const bool phi3 = !strcmp(c->family->model_type, "phi3");
    if (!kind || !strcmp(kind, "default") || !strcmp(kind, "dynamic"))
        rope->kind = ROPE_DEFAULT;
    else if (!strcmp(kind, "longrope") || (phi3 && (!strcmp(kind, "su") || !strcmp(kind, "yarn")))) {
        rope->kind = ROPE_LONG;
        read_longrope(r, c, rope, s);
    } else if (!strcmp(kind, "linear"))
        rope->kind = ROPE_LINEAR;
    else if (!strcmp(kind, "llama3")) {
        rope->kind = ROPE_LLAMA3;
        rope->low_freq_factor = number(r, s, "low_freq_factor", 1);
        rope->high_freq_factor = number(r, s, "high_freq_factor", 4);
        if (!r->rc && !(rope->low_freq_factor > 0 && rope->high_freq_factor > rope->low_freq_factor))
            r->rc = err_set(r->err, SAIL_FAILED, "%s: llama3: expected 0 < low_freq_factor < high_freq_factor, got %g and %g", r->path, rope->low_freq_factor,
                            rope->high_freq_factor);
    } else if (!strcmp(kind, "yarn")) {
        rope->kind = ROPE_YARN;
        read_yarn(r, rope, s);
    } else
        r->rc = err_set(r->err, SAIL_FAILED, "%s: rope type '%s' is not supported: expected default, linear, dynamic, llama3, yarn or longrope", r->path, kind);
}

/* One table from its parameters s (may be NULL); theta is used where s has none. */
static void read_rope_table(struct reader *r, struct model_config *c, struct rope_config *rope, json_t *s, double theta, bool nested)
{
    const struct family *f = c->family;
    const double partial = number(r, r->j, "partial_rotary_factor", number(r, r->j, f->key_partial ? f->key_partial : "partial_rotary_factor", f->partial ? f->partial : 1));
    *rope = (struct rope_config){.theta = number(r, s, "rope_theta", theta), .factor = number(r, s, "factor", 1), .attention_factor = 1};
    rope->rot = (int64_t)((double)c->head_dim * number(r, s, "partial_rotary_factor", partial));
    // Outside the table's own parameters, the length wins over the one inside.
    const double inside = number(r, s, "original_max_position_embeddings", (double)(f->original_context && !nested ? f->original_context : c->max_position));
    rope->original_max_position = (int64_t)(nested ? inside : number(r, r->j, "original_max_position_embeddings", f->original_context ? (double)f->original_context : inside));
    if (!r->rc && (!(rope->theta > 0) || !(rope->factor > 0) || rope->rot < 2 || rope->rot > c->head_dim || rope->rot % 2 || rope->original_max_position < 1))
        r->rc = err_set(r->err, SAIL_FAILED, "%s: rope parameters out of range (theta %g, factor %g, %lld of %lld elements, original length %lld)", r->path, rope->theta,
                        rope->factor, (long long)rope->rot, (long long)c->head_dim, (long long)rope->original_max_position);
    if (!r->rc) read_rope_kind(r, c, rope, s);
}

/* transformers 4: rope_theta + rope_scaling; transformers 5: rope_parameters, one object or one for each kind of layer. */
static void read_rope(struct reader *r, struct model_config *c)
{
    const struct family *f = c->family;
    if (f->no_rope) return;
    json_t *v5 = key(r, "rope_parameters"), *v4 = key(r, "rope_scaling");
    const double theta = number(r, r->j, "rope_theta", number(r, r->j, f->key_theta ? f->key_theta : "rope_theta", f->theta ? f->theta : 10000));
    json_t *full = json_object_get(v5, "full_attention"), *sliding = json_object_get(v5, "sliding_attention");
    const bool nested = json_is_object(full) || json_is_object(sliding);
    if (!nested && !f->theta_local) {
        read_rope_table(r, c, &c->rope[0], v4 ? v4 : v5, theta, false);
        return;
    }
    const double local = number(r, r->j, "rope_local_base_freq", f->theta_local ? f->theta_local : theta);
    read_rope_table(r, c, &c->rope[0], v4 ? v4 : nested ? full : v5, theta, true);
    if (!r->rc) read_rope_table(r, c, &c->rope[1], sliding, local, true);
    for (int64_t i = 0; i < c->n_layer; i++)
        if (c->kind[i].window) c->kind[i].rope = 1;
}

static bool layer_slides(struct reader *r, const struct model_config *c, int64_t i, int64_t from, int64_t pattern)
{
    json_t *types = key(r, "layer_types"); // an explicit list wins
    if (json_is_array(types) && c->family->window != WINDOW_ALWAYS) {
        const char *type = json_string_value(json_array_get(types, (size_t)i));
        if (type && !strcmp(type, "sliding_attention")) return true;
        if ((!type || strcmp(type, "full_attention")) && !r->rc)
            r->rc = err_set(r->err, SAIL_FAILED, "%s: layer_types[%lld]: expected full_attention or sliding_attention, got %s", r->path, (long long)i, type ? type : "nothing");
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

/* Which layers have a sliding window, and which turn their heads. */
static void read_layers(struct reader *r, struct model_config *c)
{
    const struct family *f = c->family;
    if ((r->rc = mem_alloc(&c->kind, (size_t)c->n_layer, sizeof *c->kind, r->err))) return;
    json_t *turned = key(r, "no_rope_layers"); // 1: the layer has RoPE
    const bool some = f->window == WINDOW_NO_ROPE;
    const int64_t interval = some ? integer(r, "no_rope_layer_interval", 4, 1, INT32_MAX) : 0;
    for (int64_t i = 0; i < c->n_layer; i++) {
        bool rope = !some || (i + 1) % interval != 0;
        if (some && json_is_array(turned)) rope = json_integer_value(json_array_get(turned, (size_t)i)) != 0;
        c->kind[i].rope = f->no_rope || !rope ? -1 : 0;
    }
    const bool asks = f->window == WINDOW_ASKED || f->window == WINDOW_NO_ROPE;
    const bool null = json_is_null(json_object_get(r->j, "sliding_window")), given = key(r, "sliding_window") != NULL;
    if (f->window == WINDOW_NONE || null || (asks && !flag(r, "use_sliding_window", false)) || (!given && !f->sliding_window)) return;
    const int64_t window = integer(r, "sliding_window", f->sliding_window ? f->sliding_window : -1, 1, INT32_MAX);
    const int64_t from = integer(r, "max_window_layers", 28, 0, INT32_MAX), pattern = integer(r, "sliding_window_pattern", 6, 1, INT32_MAX);
    for (int64_t i = 0; !r->rc && i < c->n_layer; i++)
        if (layer_slides(r, c, i, from, pattern)) c->kind[i].window = window;
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

/* Classes of reward models by the end of their name, and what they call the head. Labels are counted where the class counts them. */
static const struct {
    const char *end, *head;
    bool labels;
} reward_classes[] = {{"ForSequenceClassification", "score", true}, {"ModelForScore", "score_head", false}, {"EurusRewardModel", "regression_head", false}};

static void read_score_head(struct reader *r, bool labels)
{
    json_t *names = key(r, "id2label");
    const size_t n = json_is_object(names) ? json_object_size(names) : (size_t)integer(r, "num_labels", 2, 1, 1 << 20);
    if (labels && n != 1) r->rc = err_set(r->err, SAIL_FAILED, "%s: a reward model has one label, this one has %zu (\"id2label\")", r->path, n);
    const int64_t dim = integer(r, "score_dim", 1, 1, INT32_MAX);
    if (!r->rc && dim != 1) r->rc = err_set(r->err, SAIL_FAILED, "%s: a reward model has one score, this one has %lld (\"score_dim\")", r->path, (long long)dim);
    if (!r->rc && flag(r, "do_normalize", false)) // a running mean and variance around the score
        r->rc = err_set(r->err, SAIL_FAILED, "%s: \"do_normalize\": normalised scores are not supported; set it to false for the score itself", r->path);
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
        r->rc = err_set(r->err, SAIL_FAILED, "%s: architecture '%s' is not supported: expected ...ForCausalLM or a reward model: ...ForSequenceClassification, ...ModelForScore, EurusRewardModel",
                        r->path, c->architecture);
}

static void read_activation(struct reader *r, struct model_config *c)
{
    static const struct {
        const char *name;
        enum activation act;
    } known[] = {{"silu", ACT_SILU}, {"swish", ACT_SILU}, {"gelu", ACT_GELU}, {"gelu_python", ACT_GELU},
                 {"gelu_new", ACT_GELU_TANH}, {"gelu_pytorch_tanh", ACT_GELU_TANH}, {"gelu_fast", ACT_GELU_TANH}};
    const struct family *f = c->family;
    const char *name = json_string_value(key(r, f->key_act ? f->key_act : "hidden_act"));
    if (!name) name = f->act ? f->act : "silu";
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(name, known[i].name)) {
            c->act = known[i].act;
            return;
        }
    r->rc = err_set(r->err, SAIL_FAILED, "%s: activation '%s' is not supported: expected silu, gelu, gelu_new or gelu_pytorch_tanh", r->path, name);
}

static void read_sizes(struct reader *r, struct model_config *c)
{
    const struct family *f = c->family;
    const int64_t most = 1 << 24;
    c->vocab = integer(r, "vocab_size", 0, 1, most);
    c->hidden = integer(r, f->key_hidden ? f->key_hidden : "hidden_size", 0, 1, most);
    c->inter = integer(r, f->key_inter ? f->key_inter : "intermediate_size", f->key_inter ? 4 * c->hidden : 0, 1, most);
    c->n_layer = integer(r, f->key_layers ? f->key_layers : "num_hidden_layers", 0, 1, 4096);
    c->n_head = integer(r, f->key_heads ? f->key_heads : "num_attention_heads", 0, 1, 65536);
    if (r->rc) return;
    const bool grouped = !f->multi_head;
    c->n_kv = grouped ? integer(r, "num_key_value_heads", c->n_head, 1, c->n_head) : c->n_head;
    c->head_dim = grouped ? integer(r, "head_dim", f->head_dim ? f->head_dim : c->hidden / c->n_head, 2, 4096) : c->hidden / c->n_head;
    c->max_position = integer(r, f->key_context ? f->key_context : "max_position_embeddings", f->context, 1, INT32_MAX / 2);
    c->norm_eps = (float)number(r, r->j, f->key_eps ? f->key_eps : "rms_norm_eps", f->eps);
    if (r->rc) return;
    if (c->n_head % c->n_kv)
        r->rc = err_set(r->err, SAIL_FAILED, "%s: %lld heads do not divide by %lld key/value heads", r->path, (long long)c->n_head, (long long)c->n_kv);
    else if (c->head_dim < 2 || (!grouped && c->hidden % c->n_head))
        r->rc = err_set(r->err, SAIL_FAILED, "%s: hidden size %lld does not divide by %lld heads", r->path, (long long)c->hidden, (long long)c->n_head);
}

static double positive(struct reader *r, const char *name, double fallback)
{
    const double x = json_is_null(json_object_get(r->j, name)) ? 0 : number(r, r->j, name, fallback);
    if (!r->rc && x < 0) r->rc = err_set(r->err, SAIL_FAILED, "%s: \"%s\": expected a positive number, got %g", r->path, name, x);
    return x;
}

static void read_scales(struct reader *r, struct model_config *c)
{
    const struct family *f = c->family;
    double square = (double)c->head_dim;
    if (f->query_pre_attn) {
        square = number(r, r->j, "query_pre_attn_scalar", f->query_pre_attn);
        if (!r->rc && !(square > 0)) r->rc = err_set(r->err, SAIL_FAILED, "%s: \"query_pre_attn_scalar\": expected a positive number, got %g", r->path, square);
    }
    c->attn_scale = flag(r, "scale_attn_weights", true) ? (float)(1 / sqrt(square)) : 1;
    c->attn_scale_by_layer = flag(r, "scale_attn_by_inverse_layer_idx", false);
    c->attn_softcap = f->attn_softcap ? (float)positive(r, "attn_logit_softcapping", f->attn_softcap) : 0;
    c->logit_softcap = f->query_pre_attn ? (float)positive(r, "final_logit_softcapping", f->logit_softcap) : 0;
    c->embed_scale = f->embed_by_sqrt ? sqrtf((float)c->hidden) : 1;
}

int model_config_read(struct model_config *c, json_t *config, json_t *generation, const char *path, sail_err *err)
{
    *c = (struct model_config){0};
    struct reader r = {.j = config, .path = path, .err = err};
    const struct family *f = c->family = find_family(&r, c);
    if (r.rc) return r.rc;
    refuse_unsupported(&r);
    if (!r.rc) read_sizes(&r, c);
    if (r.rc) return r.rc;
    c->tied = flag(&r, "tie_word_embeddings", f->tied);
    const bool bias = flag(&r, "attention_bias", f->attention_bias);
    c->qkv_bias = f->qkv_bias || bias;
    c->o_bias = bias && !f->qkv_bias;
    c->mlp_bias = f->mlp_bias || flag(&r, "mlp_bias", false);
    c->parallel = f->parallel && flag(&r, "use_parallel_residual", true);
    read_activation(&r, c);
    if (!r.rc) read_scales(&r, c);
    if (!r.rc) read_layers(&r, c);
    if (!r.rc) read_rope(&r, c);
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
