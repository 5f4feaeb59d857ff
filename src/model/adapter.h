/* Adapters as PEFT stores them: adapter_config.json and adapter_model.safetensors. LoRA (arXiv 2106.09685), DoRA (arXiv 2402.09353), and modules that
 * are trained in full beside them. */
#ifndef SAIL_MODEL_ADAPTER_H
#define SAIL_MODEL_ADAPTER_H

#include "model/internal.h"
#include "model/name_rule.h"

/* Modules outside the blocks that an adapter may replace by a copy of its own (modules_to_save); the base's stay as they are. */
enum saved_id { SAVED_EMBED, SAVED_HEAD, SAVED_COUNT };
struct saved_module {
    struct weight w;
    struct param *weight, *bias; /* NULL: the base's own */
};

/* adapter_config.json: which modules are adapted, and how. */
struct adapter_config {
    json_t *json; /* as it is written */
    int64_t r;
    double alpha;
    bool rslora, dora;
    bool by_tensors;                        /* target_modules is null: the tensors in the file say it */
    struct name_rule *target, *exclude;     /* NULL: a list in json, or nothing */
    struct name_rules rank, alphas, layers; /* of rank_pattern, alpha_pattern, layers_pattern */
    char saved[SAVED_COUNT][96];            /* "model.embed_tokens"; empty: not saved */
};
/* What the rules give one module. */
struct module_plan {
    bool on;
    int64_t r;
    double scale;
};
int adapter_config_open(struct adapter_config *c, const struct model *m, const char *folder, sail_err *err);
int adapter_config_create(struct adapter_config *c, const struct model *m, const struct lora_options *o, sail_err *err);
int adapter_config_save(const struct adapter_config *c, const struct model *m, const char *folder, sail_err *err);
void adapter_config_release(struct adapter_config *c);
/* module: the path from the model's root, "model.layers.3.self_attn.q_proj"; layer: its number, -1 outside the blocks. */
int adapter_config_plan(const struct adapter_config *c, const char *module, int64_t layer, struct module_plan *out, sail_err *err);

/* LoRA on one product: the A's of all targeted parts are one stacked weight, the B's one each. */
struct lora_linear {
    bool on[WEIGHT_MAX_PARTS];
    int64_t r[WEIGHT_MAX_PARTS], r_start[WEIGHT_MAX_PARTS], r_sum;
    float scale[WEIGHT_MAX_PARTS];
    struct weight a;                   /* (r_sum, n_in) */
    struct weight b[WEIGHT_MAX_PARTS]; /* (n_out of the part, r) */
    struct param *pa[WEIGHT_MAX_PARTS], *pb[WEIGHT_MAX_PARTS];
    /* DoRA: magnitudes m of each part, and of all parts together (n_out): g = m / norm, g - 1, 1 / norm, ||w||^2. Where a part has none: 1, 0, 0, 0. */
    struct param *pm[WEIGHT_MAX_PARTS];
    float *gain, *extra, *inverse_norm; /* gain NULL: plain LoRA */
    double *square;
};
struct adapter {
    struct model *model;
    struct adapter_config config; /* of a copy: empty */
    struct lora_linear *linear;   /* (n_layer, LINEAR_COUNT) */
    struct saved_module saved[SAVED_COUNT];
    struct param *param;
    int64_t n_param;
    bool trainable, is_dora;
    struct { /* what dora_refresh works in */
        float *cross; /* (r_sum, n_out) A W^T */
        void *factor; /* (r_sum, n_in) A in the compute dtype */
        float *gram;  /* (r_sum, r_sum) A A^T */
    } dora;
    double dropout; /* of this forward */
    uint64_t seed, step;
};
static inline struct lora_linear *adapter_linear(const struct adapter *a, int64_t layer, enum linear_id id)
{
    if (!a) return NULL;
    struct lora_linear *l = &a->linear[layer * LINEAR_COUNT + id];
    return l->r_sum ? l : NULL;
}
int64_t adapter_max_rank(const struct adapter *a); /* most rows of a stacked A; 0 without an adapter */

/* A parameter of n_dim dimensions, zeros; takes over name (NULL: out of memory). */
int adapter_add_param(struct adapter *a, char *name, int n_dim, int64_t rows, int64_t columns, struct param **out, sail_err *err);

/* dora.c. prepare: after the factors are filled; fresh: magnitudes start as the norms. refresh: factors or magnitudes have changed. */
int dora_prepare(struct adapter *a, bool fresh, sail_err *err);
void dora_refresh(struct adapter *a);
void dora_release(struct adapter *a);
size_t dora_room(const struct adapter *a); /* bytes of all that */
/* linear_run where the adapter has gains. */
void dora_run(const struct model *m, const struct adapter *a, int64_t layer, enum linear_id id, void *y, enum dtype yt, const void *x, void *lora_t, int64_t rows,
              bool accumulate, const struct block_scratch *s, const uint64_t *key);
/* dm += ...; x is the input that the adapter saw (after dropout), lora_t = x A^T. Uses s->whole. */
void dora_magnitude_backward(const struct model *m, const struct adapter *a, int64_t layer, enum linear_id id, const void *dy, const void *x, const void *lora_t, int64_t rows,
                             const struct block_scratch *s);
/* y (rows, n) = gain x + bias, column by column   [accumulate: y += ...]; bias may be NULL */
void columns_scale(void *y, enum dtype yt, int64_t ldy, const void *x, enum dtype xt, int64_t ldx, const float *gain, const float *bias, int64_t rows, int64_t n,
                   bool accumulate);

/* saved_modules.c. The names that modules_to_save may have in this model, in PEFT's spelling; which of them `entry` means (false: none). */
bool saved_module_find(const struct model *m, const char *entry, enum saved_id *id, char *path, size_t size);
/* A copy of the base's module under its path, to be trained or read over. */
int saved_module_add(struct adapter *a, enum saved_id id, const char *path, sail_err *err);
int saved_modules_prepare(struct adapter *a, sail_err *err);
void saved_modules_refresh(struct adapter *a);
void saved_modules_release(struct adapter *a);
static inline const struct weight *embed_weight(const struct model *m, const struct adapter *a)
{
    return a && a->saved[SAVED_EMBED].weight ? &a->saved[SAVED_EMBED].w : &m->embed;
}
static inline const struct weight *head_weight(const struct model *m, const struct adapter *a)
{
    return a && a->saved[SAVED_HEAD].weight ? &a->saved[SAVED_HEAD].w : &m->head;
}
static inline const float *head_bias(const struct model *m, const struct adapter *a)
{
    return a && a->saved[SAVED_HEAD].bias ? a->saved[SAVED_HEAD].bias->value : m->score_bias;
}

#endif
