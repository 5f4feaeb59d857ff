/* One decoder-only transformer described by a config: scoring, gradients, adapters, saving. It knows nothing of pairs or
 * rewards: model_accumulate(rows, coef) adds sum_i coef_i * grad log pi(y_i | x_i), and that is the only door to gradients. */
#ifndef SAIL_MODEL_MODEL_H
#define SAIL_MODEL_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "backend/backend.h"
#include "sail.h"

struct model;
struct adapter;

/* What is run: base weights, and an adapter on top or none. Cheap to copy; borrows both. */
struct policy {
    struct model *model;
    struct adapter *adapter;
};

/* Sequences of a call, views into the batch's columns. Adjacent sequences with the same group number have the same prompt
 * and share its computation. */
struct sequences {
    int64_t n;
    const int32_t *const *ids; /* (n) n_prompt + n_tok ids each */
    const int32_t *n_prompt, *n_tok, *group;
    /* What token t of a completion counts in logp, and so in its gradient: nothing where counted has 0 (it is read, and no target), `tail` from n_whole on, else 1. */
    const unsigned char *const *counted; /* (n) n_tok flags each; NULL, and a NULL of a row: all count */
    const int32_t *n_whole;              /* (n) NULL: all count whole */
    double tail;
    double *adjusted; /* (n) receives the mean over the tokens that count of log pi(y_t) - log sum_v pi(v)^2; NULL: not asked for */
};

struct model_options {
    enum dtype compute;   /* F32 or BF16 products */
    bool train_full;      /* every parameter gets an f32 master and a gradient */
    bool backward;        /* gradients will be asked for (adapter training needs it too) */
    bool facts_only;      /* names and shapes are checked, the weights stay in the file: the model cannot run */
    bool reward_head;     /* a language model is opened as a reward model: a score head of zeros in place of its own head */
    bool recompute;       /* of a pass that a backward follows only the blocks' inputs stay; each block runs again in its backward: the same bits */
    bool repeat_prompts;  /* a group's sequences bring a prompt each: what sharing saves, for the bench */
    int64_t micro_tokens; /* most packed tokens of one forward/backward; 0: chosen by the engine */
};

int model_open(struct model **out, const char *path, const struct model_options *o, sail_err *err);
void model_close(struct model *m);

struct model_facts {
    char family[32];
    int64_t n_param, vocab, hidden, n_layer, n_head, n_kv, head_dim, inter;
    int64_t max_position; /* longest sequence */
    int64_t rope_switch;  /* past this length all positions of a sequence turn otherwise (LongRoPE, dynamic); 0: no such length */
    bool rope_dynamic;    /* ... by every token anew */
    int32_t eos[8];
    int n_eos; /* generation_config.json first, else config.json */
    int32_t bos, pad; /* -1: none */
    bool tied, reward_head;
    enum dtype file_dtype;
};
const struct model_facts *model_facts(const struct model *m);

/* Checks ids against the vocabulary, completions for emptiness and lengths against the context. what names the row in errors. */
/* Of a prompt alone: tokens there are, inside the vocabulary. */
int model_check_prompt(const struct model *m, const int32_t *ids, int64_t n, const char *what, sail_err *err);
int model_check(const struct model *m, const int32_t *ids, int64_t n_prompt, int64_t n_tok, const char *what, sail_err *err);

/* logp[i]: f64 sum over completion tokens, each as often as it counts. token_logp (NULL or ragged, the completions' counted tokens one after the other). */
int model_score(struct policy p, const struct sequences *s, double *logp, float *token_logp, sail_err *err);
/* Reward models: the head's value at the last real token of prompt + completion. */
int model_reward(struct policy p, const struct sequences *s, double *score, sail_err *err);

int64_t model_micro_tokens(const struct model *m); /* as asked for, or as the engine chose */
/* How many of the sequences from `from` on fit one forward/backward (whole groups while possible, at least one). */
int64_t model_micro_batch(const struct model *m, const struct sequences *s, int64_t from);
/* Forward with the activations kept, then backward of the very same sequences: gradients += sum_i coef_i grad log pi(y_i).
 * token_weight (NULL or ragged like token_logp) multiplies coef per token. On a reward model logp is the score; NULL: not asked for. */
int model_forward(struct policy p, const struct sequences *s, double *logp, float *token_logp, sail_err *err);
int model_backward(struct policy p, const double *coef, const float *token_weight, sail_err *err);
/* What a policy predicts after every prefix of some sequences' completions: the inputs of its head, from which the distributions are made again tile by tile. Zeroed: empty; grows. */
struct predictions {
    struct policy policy; /* whose */
    void *h;    /* (n, C) in the model's compute dtype */
    float *lse; /* (n) */
    int64_t n;
    size_t h_bytes, lse_bytes;
};
void predictions_release(struct predictions *q);
/* One pass: as many sequences as model_forward takes. logp as model_score. */
int model_predict(struct policy p, const struct sequences *s, double *logp, struct predictions *out, sail_err *err);
/* model_backward, and gradients += sum over completion tokens of pull[t] grad KL(of_t || policy_t) over the whole vocabulary; `of` predicts for the sequences of the
 * forward, with a head over the same vocabulary. pull: ragged like token_logp; kl: receives each token's KL. */
int model_backward_pulled(struct policy p, const double *coef, const float *token_weight, const struct predictions *of, const float *pull, float *kl, sail_err *err);
/* Both, micro-batch by micro-batch. */
int model_accumulate(struct policy p, const struct sequences *s, const double *coef, sail_err *err);

/* LoRA dropout of training forwards, off (0) until said here, whatever the adapter's file says: the mask is keyed by seed, step, sequence, position, layer, module. */
void adapter_dropout(struct adapter *a, double share, uint64_t seed, uint64_t step);

/* Trainable parameters of the policy: the adapter's, else (train_full) the model's. Borrowed; stable for the model's life. */
struct param {
    const char *name; /* as in the file that will be written: Hugging Face or PEFT name */
    int n_dim;
    int64_t dim[4];
    int64_t n;
    float *value, *grad; /* f32 */
};
int64_t policy_params(struct policy p, struct param **out);
void policy_zero_grad(struct policy p);
void policy_params_changed(struct policy p); /* after an optimizer step: compute copies are made again */

struct lora_options {
    int64_t r;
    double alpha, dropout;
    bool rslora, dora;
    /* NULL: not said. Names with commas between them, or a regular expression over whole paths. */
    const char *targets, *exclude;           /* targets: "all-linear" too, which is what NULL means */
    const char *layers;                      /* "0,5": of the targets only those in these layers */
    const char *rank_pattern, *alpha_pattern; /* JSON objects: {"q_proj": 4} */
    const char *modules_to_save;             /* embeddings and heads that are trained in full */
    uint64_t seed;
};
int adapter_create(struct adapter **out, struct model *m, const struct lora_options *o, sail_err *err); /* A random, B zero */
int adapter_open(struct adapter **out, struct model *m, const char *path, bool trainable, sail_err *err);
bool adapter_is_reward(const char *path); /* task_type SEQ_CLS: the base is opened with a score head */
int adapter_copy(struct adapter **out, const struct adapter *a, sail_err *err); /* frozen copy: the reference of a continued adapter */
/* copy = keep * copy + (1 - keep) * from, factor by factor; copy is a copy of an adapter with from's modules. */
void adapter_blend(struct adapter *copy, const struct adapter *from, double keep);
void adapter_close(struct adapter *a);
int adapter_save(const struct adapter *a, const char *folder, sail_err *err); /* PEFT: adapter_config.json, adapter_model.safetensors */

enum { SAVE_AS_IS = -1, SAVE_Q8_0 = 100 }; /* beside the values of enum dtype; SAVE_Q8_0: GGUF only */
struct save_options {
    int dtype;            /* of the written weights */
    uint64_t shard_bytes; /* folders: a file of weights is at most so large; 0: 5 GB */
};
/* A Hugging Face folder: config.json (a ...ForSequenceClassification where the model got a score head), generation_config.json and tokenizer files copied unchanged,
 * weights in one file or in shards with an index. With an adapter it is merged. Written durably. */
int model_save(struct policy p, const char *folder, const struct save_options *o, sail_err *err);
/* The same as one GGUF file with its tokenizer and chat template, for llama.cpp. Vectors are f32 there. Refuses by name what GGUF cannot say. */
int model_save_gguf(struct policy p, const char *path, const struct save_options *o, sail_err *err);

/* Bytes of a model and its adapter; for the memory plan. Not counted: what stays in the mapped file, the parameters that are trained, the kernels' own work space. */
struct model_memory {
    size_t weights;     /* read into memory as they are */
    size_t layouts;     /* made for the products, the adapter's too */
    size_t activations; /* of a pass over `rows` packed tokens that all predict one, its backward included where the model was opened for that */
};
struct model_memory model_memory(struct policy p, int64_t rows); /* rows 0: of a full micro-batch */
size_t adapter_memory(const struct adapter *a);                  /* of one beside the policy's: parameters and layouts */
/* Useful floating-point operations of a forward over these sequences (shared prompts once, head on completion tokens, attention
 * and adapters counted); backward of frozen weights is the same again, of trained ones twice. n_tok 0: the prompt is read, nothing is predicted. */
double model_flops(struct policy p, const struct sequences *s);
double model_attention_flops(struct policy p, const struct sequences *s); /* attention's part of them */
int64_t model_unique_tokens(const struct model *m, const struct sequences *s); /* shared prompts once */
/* Of reading a prompt of n tokens into the cache: the last layer computes nothing but keys and values of any token before the last. */
double model_prefill_flops(struct policy p, int64_t n);
/* Bytes of weights that a step of decoding reads, however many rows it has: all products' and the head's. */
double model_step_bytes(struct policy p);

#endif
