/* Inside of the model: its architecture as data, its weights by layer, and the parts of a block that the full forward, the backward pass and
 * the cached decode share. A family is a row of facts in config.c, not a fork of this code. */
#ifndef SAIL_MODEL_INTERNAL_H
#define SAIL_MODEL_INTERNAL_H

#include "base/mem.h"
#include "io/weights.h"
#include "model/model.h"

enum rope_kind { ROPE_DEFAULT, ROPE_LINEAR, ROPE_LLAMA3, ROPE_YARN };

struct rope_config {
    enum rope_kind kind;
    double theta, factor;
    int64_t rot; /* turned elements of a head */
    double low_freq_factor, high_freq_factor;               /* llama3 */
    double beta_fast, beta_slow, attention_factor;          /* yarn; attention_factor multiplies cos and sin */
    bool truncate;                                          /* yarn: whole ends of the ramp */
    int64_t original_max_position;
};

struct model_config {
    char family[32], architecture[64];
    int64_t vocab, hidden, inter, n_layer, n_head, n_kv, head_dim, max_position;
    float norm_eps;
    enum activation act;
    bool qkv_bias, o_bias, mlp_bias, head_bias, tied;
    bool qk_norm;          /* RMS over each head of q and k, before RoPE */
    int64_t window;        /* sliding window; 0: none */
    int64_t window_from;   /* first layer with the window */
    struct rope_config rope;
    bool reward_head;
    int32_t bos, pad, eos[8];
    int n_eos;
};
/* From a config.json in either spelling; unknown architectures and options that change the mathematics are refused by name. */
int model_config_read(struct model_config *c, json_t *config, json_t *generation, const char *path, sail_err *err);

/* The four products of a block, and the modules that each is made of. */
enum linear_id { LINEAR_QKV, LINEAR_O, LINEAR_GATE_UP, LINEAR_DOWN, LINEAR_COUNT };
struct linear_names {
    int n_part;
    const char *part[WEIGHT_MAX_PARTS]; /* "self_attn.q_proj" */
};
extern const struct linear_names linear_names[LINEAR_COUNT];

struct linear {
    struct weight w;
    float *bias;                          /* (n_out) or NULL */
    struct param *dw[WEIGHT_MAX_PARTS];   /* trained in full: the parameter of each part, else NULL */
    struct param *dbias[WEIGHT_MAX_PARTS];
};

struct layer {
    struct linear linear[LINEAR_COUNT];
    float *norm1, *norm2;        /* (C) before attention, before the MLP */
    float *q_norm, *k_norm;      /* (D) or NULL */
    struct param *dnorm1, *dnorm2, *dq_norm, *dk_norm;
};

/* Activations that one layer leaves for its backward pass; N packed rows. */
struct layer_acts {
    float *x1, *x2;        /* (N, C) residual stream at the block's input and between attention and MLP */
    float *rstd1, *rstd2;  /* (N) */
    void *qkv_raw;         /* (N, Q) before the norms of q and k; only with qk_norm */
    float *rstd_q, *rstd_k; /* (N, H), (N, K) */
    void *qkv;             /* (N, Q) after RoPE; Q = (H + 2K) D */
    void *attn;            /* (N, H D) */
    float *lse;            /* (N, H) */
    void *gate_up;         /* (N, 2F) */
    void *lora[LINEAR_COUNT]; /* (N, sum of ranks) x A^T, or NULL */
};

/* How sequences lie in packed rows: each group's prompt once, then its completions; and which rows predict which tokens. */
struct packing {
    int64_t n_row, n_target, n_sequence, n_segment, longest;
    int32_t *id, *pos;             /* (n_row) */
    uint64_t *key;                 /* (n_row) group, member and position: what dropout is keyed by */
    struct attn_segment *segment;
    int32_t *target_row, *target;  /* (n_target) */
    int64_t *sequence_start;       /* (n_sequence + 1) into the targets */
    int32_t *completion_start;     /* (n_sequence) row of the first completion token */
    int32_t *last_row;             /* (n_sequence) reward heads: row of the last token */
};

struct model {
    struct model_config config;
    struct model_facts facts;
    struct model_options options;
    char *path;
    struct weights *file;
    struct weight embed, head; /* head: a copy of embed's handle when tied */
    float *final_norm, *score_bias;
    struct param *dembed, *dhead, *dfinal_norm, *dscore_bias;
    struct layer *layer;
    struct param *param;       /* trained in full */
    int64_t n_param;
    char **owned_names;
    void **owned;              /* buffers of weights that could not be mapped */
    size_t n_owned, owned_capacity;
    struct rope_table {
        int64_t n;
        float *cosine, *sine; /* (n, rot / 2) */
    } rope;
    struct session *session;
    size_t layout_bytes, weight_bytes;
};

/* LoRA on one product: the A's of all targeted parts are one stacked weight, the B's one each. */
struct lora_linear {
    bool on[WEIGHT_MAX_PARTS];
    int64_t r[WEIGHT_MAX_PARTS], r_start[WEIGHT_MAX_PARTS], r_sum;
    float scale[WEIGHT_MAX_PARTS];
    struct weight a;                    /* (r_sum, n_in) */
    struct weight b[WEIGHT_MAX_PARTS];  /* (n_out of the part, r) */
    struct param *pa[WEIGHT_MAX_PARTS], *pb[WEIGHT_MAX_PARTS];
};
struct adapter {
    struct model *model;
    struct lora_linear *linear; /* (n_layer, LINEAR_COUNT) */
    struct param *param;
    int64_t n_param;
    bool trainable;
    double alpha, dropout;
    int64_t r;
    bool rslora;
    bool dropping; /* a training forward */
    uint64_t seed, step;
    char *targets_json; /* as saved */
};
static inline struct lora_linear *adapter_linear(const struct adapter *a, int64_t layer, enum linear_id id)
{
    if (!a) return NULL;
    struct lora_linear *l = &a->linear[layer * LINEAR_COUNT + id];
    return l->r_sum ? l : NULL;
}

int packing_make(struct packing *p, struct arena *arena, const struct sequences *s, bool feed_last, sail_err *err);
size_t packing_bytes(const struct sequences *s);

int rope_ensure(struct model *m, int64_t n_pos, sail_err *err);
void rope_free(struct model *m);
/* Window of a layer for attention. */
static inline struct attn_shape layer_attn_shape(const struct model_config *c, int64_t layer)
{
    return (struct attn_shape){.n_head = c->n_head, .n_kv = c->n_kv, .d = c->head_dim, .scale = 1.0f / __builtin_sqrtf((float)c->head_dim),
                               .window = c->window && layer >= c->window_from ? c->window : 0};
}
static inline int64_t qkv_width(const struct model_config *c) { return (c->n_head + 2 * c->n_kv) * c->head_dim; }

/* Buffers of a block that nobody needs afterwards; rows m. */
struct block_scratch {
    void *h;       /* (m, C) normed input */
    void *act;     /* (m, F) */
    void *dropped; /* (m, widest input): only with dropout */
};
size_t block_scratch_bytes(const struct model *m, int64_t rows);
struct block_scratch block_scratch_take(const struct model *m, struct arena *a, int64_t rows);

/* y = x W^T + bias, and the adapter's part; lora_t (m, r_sum) receives x A^T. key: NULL outside training (no dropout). */
void linear_run(const struct model *m, const struct adapter *a, int64_t layer, enum linear_id id, void *y, enum dtype yt, const void *x, void *lora_t, int64_t rows, bool accumulate,
                const struct block_scratch *s, const uint64_t *key);
/* x1 -> acts->qkv: norm, projection, norms of q and k, RoPE. */
void block_qkv(const struct model *m, const struct adapter *a, int64_t layer, struct layer_acts *acts, const int32_t *pos, int64_t rows, const struct block_scratch *s, const uint64_t *key);
/* acts->attn and x1 -> x2 -> x3: output projection, norm, MLP. x2 may be x1, x3 may be x2 (in place). */
void block_rest(const struct model *m, const struct adapter *a, int64_t layer, struct layer_acts *acts, float *x3, int64_t rows, const struct block_scratch *s, const uint64_t *key);
/* Layer's activations for rows; keep: with what backward needs (else the residual is one buffer that all layers share, given as x). */
size_t layer_acts_bytes(const struct model *m, const struct adapter *a, int64_t rows, bool keep);
void layer_acts_take(struct layer_acts *acts, const struct model *m, const struct adapter *a, int64_t layer, struct arena *arena, int64_t rows, bool keep, float *x);

void session_free(struct session *s);

/* Reads a whole parameter as f32 into fresh memory that the model owns. */
int model_own(struct model *m, size_t n, size_t size, void *out, sail_err *err);

#endif
