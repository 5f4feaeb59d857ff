/* Families of decoder-only transformers: what each fixes that its config.json does not say, and how its file names things. */
#ifndef SAIL_MODEL_FAMILY_H
#define SAIL_MODEL_FAMILY_H

#include <stdbool.h>
#include <stdint.h>

#include "backend/backend.h"

/* The four products of a block. */
enum linear_id { LINEAR_QKV, LINEAR_O, LINEAR_GATE_UP, LINEAR_DOWN, LINEAR_COUNT };
/* Norms of a block: of the inputs of attention and MLP, and of what they give back to the residual stream. */
enum norm_id { NORM_ATTENTION, NORM_MLP, NORM_ATTENTION_OUT, NORM_MLP_OUT, NORM_COUNT };
enum qk_norm {
    QK_NORM_NONE,
    QK_NORM_HEAD, /* each head by itself, one weight for all */
    QK_NORM_EACH, /* each head by itself, with its own weight */
    QK_NORM_FULL, /* all heads of a token together */
};
enum window_rule {
    WINDOW_NONE,
    WINDOW_ALWAYS,  /* sliding_window, on every layer, unless null */
    WINDOW_ASKED,   /* use_sliding_window, from layer max_window_layers on */
    WINDOW_EVEN,    /* layers 0, 2, ... */
    WINDOW_PATTERN, /* all but every sliding_window_pattern-th layer */
    WINDOW_NO_ROPE, /* use_sliding_window, on the layers without RoPE */
};

/* The modules that a product is made of: several are stacked along their outputs, one may hold all of them. */
struct linear_names {
    int n_part;
    const char *part[WEIGHT_MAX_PARTS]; /* "self_attn.q_proj" */
};

struct family {
    const char *model_type;
    /* Names in the file: prefix + layer + "3." + module + ".weight". */
    const char *prefix, *layer, *embed, *position, *final_norm, *head;
    struct linear_names linear[LINEAR_COUNT];
    const char *norm[NORM_COUNT], *q_norm, *k_norm; /* a '*' stands for the head, where each has a tensor of its own */

    bool layernorm;          /* else RMS */
    bool norm_without_bias;  /* layer norms with a weight only */
    float norm_offset;       /* RMS norms multiply by weight + offset */
    bool gated;              /* down(act(gate) * up); else down(act(up)) */
    bool conv1d;             /* matrices are stored (in, out) */
    bool per_head_qkv;       /* rows of the fused matrix: q, k, v of head 0, then of head 1, ... */
    bool multi_head;         /* a key for each query: no grouped heads, no head_dim in config.json */
    bool parallel;           /* attention and MLP both read the block's input; key_parallel may say otherwise */
    bool shared_norm;        /* ... through one norm */
    bool interleaved;        /* rotary pairs are neighbours: elements 2j and 2j + 1 */
    bool multipliers;        /* embedding, residual, attention and logits are scaled by config.json */
    bool no_rope;            /* positions are learned */
    bool embed_by_sqrt;      /* embeddings times sqrt(hidden) */
    bool qkv_bias, mlp_bias; /* there whatever config.json says */
    enum qk_norm qk_norm;
    enum window_rule window;

    /* Keys of config.json and the class's defaults; NULL and 0: the common ones. */
    const char *key_hidden, *key_layers, *key_heads, *key_inter, *key_context, *key_eps, *key_act, *key_theta, *key_partial;
    const char *key_parallel, *key_qk_norm, *key_qkv_bias; /* switches that only some families have */
    const char *act;
    int64_t kv, head_dim, context, sliding_window, original_context;
    double theta, theta_local, eps, query_pre_attn, attn_softcap, logit_softcap, logit_scale;
    double partial; /* share of a head that turns; 0: always the whole head */
    bool tied, attention_bias;
    bool gelu_is_tanh; /* files that say gelu mean the tanh form */
};
const struct family *family_find(const char *model_type); /* NULL: unknown */
const char *family_list(void);                            /* "gemma2, ..." for messages */

#endif
