/* What GGUF calls the parts of a Hugging Face model, by architecture: names and layouts of tensors, and facts that neither file says. */
#ifndef SAIL_IO_GGUF_ARCH_H
#define SAIL_IO_GGUF_ARCH_H

#include <jansson.h>
#include <stdint.h>

#include "sail.h"

/* How a tensor lies in a GGUF file, seen from the Hugging Face folder. */
enum gguf_layout {
    LAYOUT_SAME,
    LAYOUT_Q_PAIRS,    /* rows of each head: the rotary pair (j, j + d/2) side by side */
    LAYOUT_K_PAIRS,    /* the same for the key heads */
    LAYOUT_QKV_HEADS,  /* folder: q, k, v of a head together; file: all q, all k, all v */
    LAYOUT_TRANSPOSED, /* folder: [in, out] */
    LAYOUT_PLUS_ONE,   /* the file's values are larger by one */
    LAYOUT_STACKED,    /* folder: a vector for each head; file: the rows of one matrix */
};

struct gguf_name {
    const char *gguf, *hf; /* without ".weight" or ".bias"; '*' stands for the layer's number, '#' for the head's */
    enum gguf_layout layout;
};

/* What llama.cpp takes for the head of an architecture. */
enum gguf_head {
    HEAD_EITHER,
    HEAD_ITS_OWN, /* always a tensor, be it the embeddings once more */
    HEAD_TIED,    /* always the embeddings */
};

struct gguf_arch {
    const char *arch, *model_type, *architecture;
    const struct gguf_name *names; /* ends with a NULL */
    /* config.json: what the class assumes where the key is absent (formats of transformers' configuration classes) */
    const char *act_key, *act;
    double eps, theta;
    double partial;                     /* share of a head that turns; 0: always the whole head */
    int64_t head_dim, kv, max_position; /* head_dim 0: hidden / heads; kv 0: heads */
    bool tied, layer_norm;              /* layer_norm: LayerNorm with its own key, else RMSNorm */
    bool multi_head;                    /* a key for each query; no head_dim */
    bool attention_bias, mlp_bias;      /* the config may ask for biases */
    enum gguf_head head;
};

/* NULL: not known. Of several model types that share an arch (llama, mistral) the first is found by gguf_arch_find. */
const struct gguf_arch *gguf_arch_find(const char *arch);
const struct gguf_arch *gguf_arch_of_model_type(const char *model_type);
const char *gguf_arch_list(void); /* "llama, qwen2, ...": model types, for messages */

/* Fresh strings, or NULL when the architecture has no such tensor. *layout is set then. A folder's name of LAYOUT_STACKED has a '#' still. */
char *gguf_name_to_hf(const struct gguf_arch *a, const char *name, enum gguf_layout *layout);
char *gguf_name_from_hf(const struct gguf_arch *a, const char *name, enum gguf_layout *layout);
char *hf_name_of_head(const char *name, int64_t head); /* the number in place of '#' */
/* Buffers of old folders that are no weights (masks, what rotary embeddings computed). */
bool hf_name_is_buffer(const char *name);

/* Heads by which rows are grouped in `layout`, given the model's numbers. */
struct gguf_heads {
    int64_t q, k;
};
/* Row of the file that holds row r of the folder's tensor of `rows` rows; the inverse. Not for LAYOUT_TRANSPOSED. */
int64_t gguf_file_row(enum gguf_layout layout, struct gguf_heads heads, int64_t rows, int64_t r);
int64_t gguf_folder_row(enum gguf_layout layout, struct gguf_heads heads, int64_t rows, int64_t f);
/* False when `rows` do not divide as the layout needs. */
bool gguf_rows_divide(enum gguf_layout layout, struct gguf_heads heads, int64_t rows);

#endif
