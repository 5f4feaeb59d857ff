/* Rotary embeddings of a config.json. transformers 4: rope_theta and rope_scaling; transformers 5: rope_parameters, one object or one for each kind of layer. */
#include <math.h>
#include <string.h>

#include "model/config_reader.h"

static double yarn_mscale(double factor, double m) { return factor <= 1 ? 1 : 0.1 * m * log(factor) + 1; }

static void read_yarn(struct reader *r, struct rope_config *rope, json_t *s)
{
    const double fast = config_number(r, s, "beta_fast", 0), slow = config_number(r, s, "beta_slow", 0);
    json_t *truncate = json_object_get(s, "truncate");
    rope->beta_fast = fast != 0 ? fast : 32;
    rope->beta_slow = slow != 0 ? slow : 1;
    rope->truncate = !truncate || json_is_true(truncate);
    const double mscale = config_number(r, s, "mscale", 0), all = config_number(r, s, "mscale_all_dim", 0);
    const double factor = mscale != 0 && all != 0 ? yarn_mscale(rope->factor, mscale) / yarn_mscale(rope->factor, all) : yarn_mscale(rope->factor, 1);
    rope->attention_factor = config_number(r, s, "attention_factor", factor);
    if (rope->beta_fast <= 0 || rope->beta_slow <= 0 || rope->theta == 1)
        config_refuse(r, "yarn: beta_fast %g and beta_slow %g must be positive, theta %g not 1", rope->beta_fast, rope->beta_slow, rope->theta);
}

static void read_extension(struct reader *r, struct rope_config *rope, json_t *s, const char *name, double *to)
{
    json_t *list = json_object_get(s, name);
    const int64_t n = rope->rot / 2;
    if (!json_is_array(list) || (int64_t)json_array_size(list) != n)
        config_refuse(r, "longrope: \"%s\": expected a list of %lld numbers, got %lld", name, (long long)n, (long long)json_array_size(list));
    for (int64_t i = 0; !r->rc && i < n; i++) {
        to[i] = json_number_value(json_array_get(list, (size_t)i));
        if (!(to[i] > 0) || !isfinite(to[i])) config_refuse(r, "longrope: \"%s\"[%lld]: expected a positive number", name, (long long)i);
    }
}

/* Sequences past `length` turn otherwise; a model has one such length. */
static void switch_at(struct reader *r, struct model_config *c, int64_t length)
{
    if (c->rope_switch && c->rope_switch != length) config_refuse(r, "two kinds of rotary embedding that change at different lengths, %lld and %lld", (long long)c->rope_switch, (long long)length);
    c->rope_switch = length;
}

static void read_longrope(struct reader *r, struct model_config *c, struct rope_config *rope, json_t *s)
{
    const double original = (double)rope->original_max_position, factor = config_number(r, s, "factor", (double)c->max_position / original);
    if (original < 2) config_refuse(r, "longrope: \"original_max_position_embeddings\" %g is too small", original);
    if (r->rc) return;
    rope->attention_factor = config_number(r, s, "attention_factor", factor <= 1 ? 1 : sqrt(1 + log(factor) / log(original)));
    if ((r->rc = mem_alloc(&rope->extension, (size_t)rope->rot, sizeof *rope->extension, r->err))) return;
    read_extension(r, rope, s, "short_factor", rope->extension);
    read_extension(r, rope, s, "long_factor", rope->extension + rope->rot / 2);
    switch_at(r, c, rope->original_max_position);
}

/* Past max_position_embeddings theta grows with the length of the sequence; factor times that length is as far as it is meant to reach. */
static void read_dynamic(struct reader *r, struct model_config *c, struct rope_config *rope)
{
    const double most = (double)c->max_position * rope->factor;
    if (rope->factor < 1 || rope->dim < 4 || most > INT32_MAX / 2)
        config_refuse(r, "dynamic: factor %g over %lld elements and %lld positions is out of range", rope->factor, (long long)rope->dim, (long long)c->max_position);
    switch_at(r, c, c->max_position);
    rope->original_max_position = c->max_position;
    c->rope_dynamic = true;
    if (!r->rc) c->context = (int64_t)most;
}

static void read_llama3(struct reader *r, struct rope_config *rope, json_t *s)
{
    rope->low_freq_factor = config_number(r, s, "low_freq_factor", 1);
    rope->high_freq_factor = config_number(r, s, "high_freq_factor", 4);
    if (!(rope->low_freq_factor > 0 && rope->high_freq_factor > rope->low_freq_factor))
        config_refuse(r, "llama3: expected 0 < low_freq_factor < high_freq_factor, got %g and %g", rope->low_freq_factor, rope->high_freq_factor);
}

static void read_kind(struct reader *r, struct model_config *c, struct rope_config *rope, json_t *s)
{
    static const char *const names[] = {[ROPE_DEFAULT] = "default", [ROPE_LINEAR] = "linear", [ROPE_DYNAMIC] = "dynamic", [ROPE_LLAMA3] = "llama3", [ROPE_YARN] = "yarn", [ROPE_LONG] = "longrope"};
    const char *kind = json_string_value(json_object_get(s, "rope_type"));
    if (!kind) kind = json_string_value(json_object_get(s, "type"));
    if (!kind) kind = "default";
    if (!strcmp(c->family->model_type, "phi3") && (!strcmp(kind, "su") || !strcmp(kind, "yarn"))) kind = "longrope"; // its first names
    size_t k = 0;
    while (k < sizeof names / sizeof *names && strcmp(kind, names[k])) k++;
    rope->kind = (enum rope_kind)k;
    json_t *factor = json_object_get(s, "factor");
    const bool needs = rope->kind == ROPE_LINEAR || rope->kind == ROPE_DYNAMIC || rope->kind == ROPE_LLAMA3;
    if (needs && !json_is_number(factor)) config_refuse(r, "rope type %s: \"factor\": expected a number", kind);
    if (rope->kind == ROPE_YARN && !json_is_number(factor)) rope->factor = (double)c->max_position / (double)rope->original_max_position;
    switch (rope->kind) {
    case ROPE_DEFAULT:
    case ROPE_LINEAR: return;
    case ROPE_DYNAMIC: read_dynamic(r, c, rope); return;
    case ROPE_LLAMA3: read_llama3(r, rope, s); return;
    case ROPE_YARN: read_yarn(r, rope, s); return;
    case ROPE_LONG: read_longrope(r, c, rope, s); return;
    }
    config_refuse(r, "rope type '%s' is not supported: expected default, linear, dynamic, llama3, yarn or longrope", kind);
}

/* One table from its parameters s (may be NULL); theta is used where s has none. */
static void read_table(struct reader *r, struct model_config *c, struct rope_config *rope, json_t *s, double theta, bool nested)
{
    const struct family *f = c->family;
    double partial = config_number(r, r->j, f->key_partial ? f->key_partial : "partial_rotary_factor", f->partial > 0 ? f->partial : 1);
    partial = config_number(r, s, "partial_rotary_factor", config_number(r, r->j, "partial_rotary_factor", partial));
    if (f->partial <= 0 && partial != 1) config_refuse(r, "\"partial_rotary_factor\" %g is not supported for %s: its heads turn whole", partial, f->model_type);
    if (!(partial > 0 && partial <= 1)) config_refuse(r, "\"partial_rotary_factor\": expected a number above 0 up to 1, got %g", partial);
    if (r->rc) return;
    *rope = (struct rope_config){.theta = config_positive(r, s, "rope_theta", theta), .factor = config_positive(r, s, "factor", 1), .attention_factor = 1};
    rope->dim = (int64_t)((double)c->head_dim * partial);
    rope->rot = rope->dim + rope->dim % 2; // an odd share is rounded up; frequencies are spread over the share itself
    // Outside the table's own parameters, the length wins over the one inside.
    const double inside = config_number(r, s, "original_max_position_embeddings", (double)(f->original_context && !nested ? f->original_context : c->max_position));
    rope->original_max_position = (int64_t)(nested ? inside : config_number(r, r->j, "original_max_position_embeddings", f->original_context ? (double)f->original_context : inside));
    if (rope->rot < 2 || rope->rot > c->head_dim || rope->original_max_position < 1)
        config_refuse(r, "rope parameters out of range (%lld of %lld elements, original length %lld)", (long long)rope->dim, (long long)c->head_dim, (long long)rope->original_max_position);
    if (!r->rc) read_kind(r, c, rope, s);
}

void config_read_rope(struct reader *r, struct model_config *c)
{
    const struct family *f = c->family;
    if (f->no_rope) return;
    json_t *v5 = config_key(r, "rope_parameters"), *v4 = config_key(r, "rope_scaling");
    if ((v5 && !json_is_object(v5)) || (v4 && !json_is_object(v4))) config_refuse(r, "\"%s\": expected an object", v5 && !json_is_object(v5) ? "rope_parameters" : "rope_scaling");
    const double theta = config_number(r, r->j, "rope_theta", config_number(r, r->j, f->key_theta ? f->key_theta : "rope_theta", f->theta > 0 ? f->theta : 10000));
    json_t *full = json_object_get(v5, "full_attention"), *sliding = json_object_get(v5, "sliding_attention");
    const bool nested = json_is_object(full) || json_is_object(sliding);
    if (!nested && !(f->theta_local > 0)) {
        read_table(r, c, &c->rope[0], v4 ? v4 : v5, theta, false);
        return;
    }
    if (!(f->theta_local > 0)) config_refuse(r, "\"rope_parameters\" of each kind of layer are not supported for %s", f->model_type);
    const double local = config_number(r, r->j, "rope_local_base_freq", f->theta_local);
    read_table(r, c, &c->rope[0], v4 ? v4 : nested ? full : v5, theta, true);
    if (!r->rc) read_table(r, c, &c->rope[1], sliding, local, true);
    for (int64_t i = 0; i < c->n_layer; i++)
        if (c->kind[i].window) c->kind[i].rope = 1;
}
