/* Inside of the model: its architecture as data, its weights by layer, and the parts of a block that the full forward, the
 * backward pass and the cached decode share. A family is a row of facts in family.c, not a fork of this code. */
#ifndef SAIL_MODEL_INTERNAL_H
#define SAIL_MODEL_INTERNAL_H

#include "base/mem.h"
#include "io/weights.h"
#include "model/family.h"
#include "model/model.h"

enum rope_kind { ROPE_DEFAULT, ROPE_LINEAR, ROPE_DYNAMIC, ROPE_LLAMA3, ROPE_YARN, ROPE_LONG };

struct rope_config {
    enum rope_kind kind;
    double theta, factor;
    int64_t rot, dim; /* turned elements of a head, and over how many the frequencies are spread (rot, or one less) */
    double low_freq_factor, high_freq_factor; /* llama3 */
    double beta_fast, beta_slow;              /* yarn */
    bool truncate;                            /* yarn: whole ends of the ramp */
    double attention_factor;                  /* yarn and longrope: multiplies cos and sin */
    double *extension;                        /* longrope: (2, rot / 2) short factors, then long ones; owned */
    int64_t original_max_position;
};

enum { ROPE_MAX_TABLES = 2, HEAD_DIM_MAX = 4096 };
struct layer_kind {
    int64_t window; /* sliding window; 0: none */
    int rope;       /* which table; -1: the layer turns nothing */
};

struct model_config {
    const struct family *family;
    char architecture[64];
    int64_t vocab, hidden, inter, n_layer, n_head, n_kv, head_dim, max_position;
    int64_t context; /* longest sequence: max_position, or more where rotary embeddings reach further */
    float norm_eps;
    enum activation act;
    bool qkv_bias, o_bias, mlp_bias, tied;
    bool parallel, shared_norm; /* attention and MLP both read the block's input; through one norm */
    enum qk_norm qk_norm;
    float attn_scale, attn_softcap, logit_softcap;     /* caps: 0 for none */
    float embed_scale, residual_scale, logit_scale;    /* of embeddings, of what a block adds, of logits before their cap */
    bool attn_scale_by_layer;                          /* gpt2: divided by the layer's number from 1 */
    struct rope_config rope[ROPE_MAX_TABLES];
    int64_t rope_switch;     /* sequences longer than this turn otherwise: by longrope's long factors, or by their own length; 0: no such switch */
    bool rope_dynamic;       /* ... each by its own length */
    struct layer_kind *kind; /* (n_layer), owned */
    bool reward_head;
    const char *score_name; /* module of the reward model's head: "score" */
    int32_t bos, pad, eos[8];
    int n_eos;
};
/* From a config.json in either spelling; unknown architectures and options that change the mathematics are refused by name. Release what it
 * fills also after an error. */
int model_config_read(struct model_config *c, json_t *config, json_t *generation, const char *path, sail_err *err);
void model_config_release(struct model_config *c);

static inline int64_t q_width(const struct model_config *c) { return c->n_head * c->head_dim; }
static inline int64_t kv_width(const struct model_config *c) { return c->n_kv * c->head_dim; }
static inline int64_t qkv_width(const struct model_config *c) { return q_width(c) + 2 * kv_width(c); }
static inline int64_t up_width(const struct model_config *c) { return c->family->gated ? 2 * c->inter : c->inter; }

struct linear {
    struct weight w;
    float *bias;                        /* (n_out) or NULL */
    struct param *dw[WEIGHT_MAX_PARTS]; /* trained in full: the parameter of each part, masters and gradients one behind the other, else NULL */
    struct param *dbias[WEIGHT_MAX_PARTS];
};

struct norm {
    float *w, *b;   /* b: layer norms only; w NULL: the family has no such norm */
    float *dw, *db; /* gradients; NULL: frozen */
};

struct layer {
    struct linear linear[LINEAR_COUNT];
    struct norm norm[NORM_COUNT];
    struct norm *q_norm, *k_norm; /* one, or one for each head */
};

/* Activations that one layer leaves for its backward pass; N packed rows. */
struct layer_acts {
    float *x1, *x2;         /* (N, C) residual stream at the block's input and between attention and MLP */
    float *stat[NORM_COUNT]; /* statistics of the norms, one or two floats a row */
    float *branch[2];       /* (N, C) what attention and MLP gave, before the norm that follows; only where one follows */
    void *qk_raw;           /* (N, H D) then (N, K D), before the norms of q and k */
    float *stat_q, *stat_k;
    void *qkv;              /* (N, Q) after RoPE; Q = (H + 2K) D */
    void *attn;             /* (N, H D) */
    float *lse;             /* (N, H) */
    void *gate_up;          /* (N, 2F), or (N, F) without a gate */
    void *lora[LINEAR_COUNT]; /* (N, sum of ranks) x A^T, or NULL */
};

struct rope_table {
    float *cosine, *sine;
};
/* Angles of packed rows. */
struct turns {
    int32_t *row; /* (n_row) row of the tables */
    struct rope_table table[ROPE_MAX_TABLES]; /* the model's, or of exactly these rows where angles depend on the sequence's length */
    bool own;
};

/* How sequences lie in packed rows: each group's prompt once, then its completions; and which rows predict which tokens. */
struct packing {
    int64_t n_row, n_target, n_sequence, n_segment;
    int32_t *id, *pos;             /* (n_row) token, position */
    struct turns turn;
    uint64_t *key;                 /* (n_row) tokens of the sequence and position: what dropout is keyed by */
    struct attn_segment *segment;
    int32_t *target_row, *target;  /* (n_target) */
    double *weight;                /* (n_target) what the token counts in its sequence's log-prob, and so in the gradient */
    int64_t *sequence_start;       /* (n_sequence + 1) into the targets */
    int32_t *last_row;             /* (n_sequence) reward heads: row of the last token */
};

struct model {
    struct model_config config;
    struct model_facts facts;
    struct model_options options;
    char *path;
    const char *prefix; /* of tensor names in this file */
    struct weights *file;
    bool *used; /* (tensors of the file, by weights_place) while it is opened: asked for */
    struct weight embed, position, head; /* head: a copy of embed's handle when tied */
    struct norm final_norm;
    float *score_bias;
    bool fresh_head; /* the file is a language model's; the score head is new */
    struct param *dembed, *dposition, *dhead, *dscore_bias;
    struct layer *layer;
    struct param *param; /* trained in full */
    int64_t n_param;
    struct arena trained; /* masters and gradients */
    void **owned;         /* buffers of weights that could not be mapped */
    size_t n_owned, owned_capacity;
    struct rope_table rope[ROPE_MAX_TABLES]; /* (n, rot / 2); with longrope's switch (2 n, rot / 2): short factors, then long ones */
    int64_t rope_n; /* positions in every table */
    struct session *session;
    size_t layout_bytes, weight_bytes;
};

/* leftovers.c: what the file holds and the model has not asked for. */
int leftovers_check(const struct model *m, sail_err *err);

/* score_head.c */
int score_head_config(const struct model *m, json_t *config, sail_err *err); /* a language model's config.json to its reward model's */
bool score_head_replaces(const struct model *m, const char *name); /* the tensor is the language model's head, which leaves */

/* Sequence i of the call shares the prompt rows of sequence i - 1: the same group, the same side of longrope's switch. */
bool sequences_share(const struct model *m, const struct sequences *s, int64_t i);
int packing_make(struct packing *p, struct arena *arena, const struct model *m, const struct sequences *s, sail_err *err);
size_t packing_bytes(const struct model *m, const struct sequences *s);
size_t packing_room(const struct model *m, int64_t tokens, int64_t targets, int64_t n, int64_t longest); /* of n sequences */

int rope_ensure(struct model *m, int64_t n_pos, sail_err *err);
void rope_free(struct model *m);
/* Room for the angles of rows whose longest sequence has `longest` tokens; and the angles of n rows from `at` on: positions from `first` on of a
 * sequence that is `length` tokens long in all. */
size_t turns_bytes(const struct model *m, int64_t rows, int64_t longest);
void turns_take(struct turns *t, const struct model *m, struct arena *arena, int64_t rows, int64_t longest);
void turns_put(struct turns *t, const struct model *m, int64_t at, int64_t first, int64_t n, int64_t length);

static inline struct attn_shape layer_attn_shape(const struct model_config *c, int64_t layer)
{
    const float scale = c->attn_scale_by_layer ? c->attn_scale / (float)(layer + 1) : c->attn_scale;
    return (struct attn_shape){.n_head = c->n_head, .n_kv = c->n_kv, .d = c->head_dim, .scale = scale,
                               .window = c->kind[layer].window, .softcap = c->attn_softcap};
}

/* y = norm(x), statistics for the backward pass; and the gradient: dx += ..., n->dw += ... where frozen is false. */
static inline int64_t norm_stats(const struct model_config *c) { return c->family->layernorm ? 2 : 1; }
void norm_forward(const struct model_config *c, const struct norm *n, void *y, enum dtype yt, float *stat, const void *x,
                  enum dtype xt, int64_t rows, int64_t width);
void norm_backward_acc(const struct model_config *c, const struct norm *n, float *dx, const void *dy, enum dtype dyt, const void *x,
                       enum dtype xt, const float *stat, int64_t rows, int64_t width, bool frozen);

/* Buffers of a block that nobody needs afterwards; rows m. */
struct block_scratch {
    void *h;       /* (m, C) input of a product */
    void *act;     /* (m, F) */
    void *spare;   /* (m, widest input) what dropout left; heads on their way to a norm */
    void *split;   /* (m, Q) only where the file has q, k, v head by head */
    float *stream; /* (m, C) what is added to the residual stream; only where that is not a product */
    float *whole;  /* (m, widest output) a product before DoRA's gains; only with DoRA */
};
size_t block_scratch_bytes(const struct model *m, const struct adapter *a, int64_t rows);
struct block_scratch block_scratch_take(const struct model *m, const struct adapter *a, struct arena *arena, int64_t rows);
int64_t widest_output(const struct model_config *c);

/* Token embeddings, the adapter's where it has its own, and positions where they are learned. */
void embed_rows(const struct model *m, const struct adapter *a, float *x, const int32_t *id, const int32_t *pos, int64_t rows, const struct block_scratch *s);
/* The input of attention's or the MLP's first product from the residual stream, in s->h. */
void block_input(const struct model *m, int64_t layer, enum norm_id id, struct layer_acts *acts, const float *x, int64_t rows,
                 const struct block_scratch *s);
/* y = x W^T + bias, and the adapter's part; lora_t (m, r_sum) receives x A^T. key: NULL outside training (no dropout). */
void linear_run(const struct model *m, const struct adapter *a, int64_t layer, enum linear_id id, void *y, enum dtype yt,
                const void *x, void *lora_t, int64_t rows, bool accumulate, const struct block_scratch *s, const uint64_t *key);
void lora_drop(const struct adapter *a, int64_t layer, enum linear_id id, void *out, const void *x, enum dtype t, const uint64_t *key,
               int64_t rows, int64_t width);
/* x1 -> acts->qkv: norm, projection, norms of q and k, RoPE. */
void block_qkv(const struct model *m, const struct adapter *a, int64_t layer, struct layer_acts *acts, const struct turns *turn, int64_t rows,
               const struct block_scratch *s, const uint64_t *key);
/* acts->attn and x1 -> x2 -> x3: output projection, norm, MLP. x2 may be x1, x3 may be x2 (in place). */
void block_rest(const struct model *m, const struct adapter *a, int64_t layer, struct layer_acts *acts, float *x3, int64_t rows,
                const struct block_scratch *s, const uint64_t *key);
void mlp_activate(const struct model_config *c, void *y, const void *gate_up, enum dtype t, int64_t rows);
/* Norms of q (or k) in a layer, what each is taken over, and its part of the rows' heads. */
static inline int64_t qk_norm_count(const struct model_config *c, bool keys) { return c->qk_norm != QK_NORM_EACH ? 1 : keys ? c->n_kv : c->n_head; }
static inline int64_t qk_norm_width(const struct model_config *c, bool keys) { return c->qk_norm != QK_NORM_FULL ? c->head_dim : keys ? kv_width(c) : q_width(c); }
/* Rows of q or k heads between (m, Q) and (m, H D), or (H, m, D) where each head has its own norm; q, k, v head by head <-> q of all heads, then k, then v;
 * neighbours of each q and k head <-> pairs half a head apart. */
void heads_gather(const struct model_config *c, void *heads, const void *qkv, enum dtype t, int64_t rows, bool keys);
void heads_scatter(const struct model_config *c, void *qkv, const void *heads, enum dtype t, int64_t rows, bool keys);
void heads_join(const struct model_config *c, void *qkv, const void *split, enum dtype t, int64_t rows);
void heads_split(const struct model_config *c, void *split, const void *qkv, enum dtype t, int64_t rows);
void heads_unpair(const struct model_config *c, void *qkv, enum dtype t, int64_t rows);
void heads_pair(const struct model_config *c, void *qkv, enum dtype t, int64_t rows);
/* The norm that the MLP's input passes. */
static inline enum norm_id mlp_norm(const struct model_config *c) { return c->shared_norm ? NORM_ATTENTION : NORM_MLP; }

/* Layer's activations for rows; keep: with what backward needs. x: the residual stream at the block's input where the caller has it, NULL: it is the
 * layer's own; without keep it is one buffer that all layers share. */
size_t layer_acts_bytes(const struct model *m, const struct adapter *a, int64_t rows, bool keep); /* the largest layer's */
size_t acts_bytes(const struct model *m, const struct adapter *a, int64_t rows, bool keep);       /* of a pass */
void layer_acts_take(struct layer_acts *acts, const struct model *m, const struct adapter *a, int64_t layer, struct arena *arena,
                     int64_t rows, bool keep, float *x);
/* A walk that serves sizes and pointers alike: with arena NULL nothing is taken. */
size_t arena_place(struct arena *arena, void *slot, size_t bytes);

void session_free(struct session *s);

/* "model.layers.3.self_attn.q_proj" as this file (or, for adapters, PEFT) spells it. */
enum { NAME_SIZE = 192 };
void module_name(char *out, const struct model *m, const char *prefix, int64_t layer, const char *module);

/* Zeroed memory that the model owns. */
int model_own(struct model *m, size_t n, size_t size, void *out, sail_err *err);

static inline void *element_at(void *base, enum dtype t, int64_t i) { return (char *)base + (size_t)i * dtype_size(t); }
static inline const void *element_of(const void *base, enum dtype t, int64_t i) { return (const char *)base + (size_t)i * dtype_size(t); }

/* save.c: tensor t of the file as it is to be written: trained, merged, in `dtype` (or SAVE_AS_IS). out->data is the caller's to free. */
int saved_tensor(struct policy p, const struct tensor *t, int dtype, struct tensor *out, sail_err *err);
/* save_shards.c: model.safetensors, or shards of at most shard_bytes and their index. */
int save_weights(struct policy p, const char *folder, int dtype, uint64_t shard_bytes, sail_err *err);
/* The head's tensor where it is tied to the embeddings and the adapter replaces one of them, so that they part. The file need not have it. */
bool untied_head(struct policy p, struct tensor *out, char name[NAME_SIZE]);

#endif
