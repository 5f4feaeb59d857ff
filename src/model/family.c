#include "model/family.h"

#include <string.h>

#define LLAMA_NAMES                                                                                                             \
    .prefix = "model.", .layer = "layers.", .embed = "embed_tokens", .final_norm = "norm", .head = "lm_head", .gated = true,    \
    .linear = {[LINEAR_QKV] = {3, {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}},                                \
               [LINEAR_O] = {1, {"self_attn.o_proj"}},                                                                          \
               [LINEAR_GATE_UP] = {2, {"mlp.gate_proj", "mlp.up_proj"}},                                                        \
               [LINEAR_DOWN] = {1, {"mlp.down_proj"}}}
#define LLAMA_NORMS .norm = {[NORM_ATTENTION] = "input_layernorm", [NORM_MLP] = "post_attention_layernorm"}
#define GEMMA_NORMS                                                                                                             \
    .norm = {[NORM_ATTENTION] = "input_layernorm", [NORM_MLP] = "pre_feedforward_layernorm",                                    \
             [NORM_ATTENTION_OUT] = "post_attention_layernorm", [NORM_MLP_OUT] = "post_feedforward_layernorm"}
#define GEMMA                                                                                                                   \
    LLAMA_NAMES, .norm_offset = 1, .embed_by_sqrt = true, .tied = true, .act = "gelu_pytorch_tanh", .head_dim = 256, .eps = 1e-6
#define QK_NORMS .q_norm = "self_attn.q_norm", .k_norm = "self_attn.k_norm"

static const struct family families[] = {
    {.model_type = "llama", LLAMA_NAMES, LLAMA_NORMS, .context = 2048, .eps = 1e-6},
    {.model_type = "mistral", LLAMA_NAMES, LLAMA_NORMS, .context = 131072, .eps = 1e-6, .kv = 8, .window = WINDOW_ALWAYS, .sliding_window = 4096},
    {.model_type = "qwen2", LLAMA_NAMES, LLAMA_NORMS, .context = 32768, .eps = 1e-6, .kv = 32, .qkv_bias = true, .window = WINDOW_ASKED,
     .sliding_window = 4096},
    {.model_type = "qwen3", LLAMA_NAMES, LLAMA_NORMS, QK_NORMS, .context = 32768, .eps = 1e-6, .kv = 32, .qk_norm = QK_NORM_HEAD, .head_dim = 128,
     .window = WINDOW_ASKED, .sliding_window = 4096},
    {.model_type = "smollm3", LLAMA_NAMES, LLAMA_NORMS, .context = 32768, .eps = 1e-6, .kv = 4, .theta = 2e6, .tied = true,
     .window = WINDOW_NO_ROPE},
    {.model_type = "olmo2", LLAMA_NAMES, QK_NORMS, .context = 2048, .eps = 1e-5, .qk_norm = QK_NORM_FULL,
     .norm = {[NORM_ATTENTION_OUT] = "post_attention_layernorm", [NORM_MLP_OUT] = "post_feedforward_layernorm"}},
    {.model_type = "phi3", .prefix = "model.", .layer = "layers.", .embed = "embed_tokens", .final_norm = "norm", .head = "lm_head",
     .linear = {{1, {"self_attn.qkv_proj"}}, {1, {"self_attn.o_proj"}}, {1, {"mlp.gate_up_proj"}}, {1, {"mlp.down_proj"}}},
     LLAMA_NORMS, .gated = true, .context = 4096, .original_context = 4096, .eps = 1e-5, .partial = 1, .window = WINDOW_ALWAYS},
    {.model_type = "gemma", GEMMA, LLAMA_NORMS, .context = 8192, .kv = 16, .gelu_is_tanh = true},
    {.model_type = "gemma2", GEMMA, GEMMA_NORMS, .key_act = "hidden_activation", .context = 8192, .kv = 4, .query_pre_attn = 256, .attn_softcap = 50, .logit_softcap = 30,
     .window = WINDOW_EVEN, .sliding_window = 4096},
    {.model_type = "gemma3_text", GEMMA, GEMMA_NORMS, QK_NORMS, .qk_norm = QK_NORM_HEAD, .key_act = "hidden_activation", .context = 131072, .kv = 4,
     .query_pre_attn = 256,
     .window = WINDOW_PATTERN, .sliding_window = 4096, .theta = 1e6, .theta_local = 1e4},
    {.model_type = "gpt2", .prefix = "transformer.", .layer = "h.", .embed = "wte", .position = "wpe", .final_norm = "ln_f", .head = "lm_head",
     .linear = {{1, {"attn.c_attn"}}, {1, {"attn.c_proj"}}, {1, {"mlp.c_fc"}}, {1, {"mlp.c_proj"}}},
     .norm = {[NORM_ATTENTION] = "ln_1", [NORM_MLP] = "ln_2"}, .layernorm = true, .multi_head = true, .conv1d = true, .no_rope = true, .tied = true,
     .attention_bias = true, .mlp_bias = true, .act = "gelu_new", .context = 1024, .eps = 1e-5, .key_hidden = "n_embd", .key_layers = "n_layer",
     .key_heads = "n_head", .key_inter = "n_inner", .key_context = "n_positions", .key_eps = "layer_norm_epsilon",
     .key_act = "activation_function"},
    {.model_type = "gpt_neox", .prefix = "gpt_neox.", .layer = "layers.", .embed = "embed_in", .final_norm = "final_layer_norm",
     .head = "embed_out",
     .linear = {{1, {"attention.query_key_value"}}, {1, {"attention.dense"}}, {1, {"mlp.dense_h_to_4h"}}, {1, {"mlp.dense_4h_to_h"}}},
     .norm = {[NORM_ATTENTION] = "input_layernorm", [NORM_MLP] = "post_attention_layernorm"}, .layernorm = true, .multi_head = true, .per_head_qkv = true, .parallel = true,
     .key_parallel = "use_parallel_residual", .attention_bias = true, .mlp_bias = true, .act = "gelu", .context = 2048, .eps = 1e-5, .partial = 0.25, .key_eps = "layer_norm_eps",
     .key_theta = "rotary_emb_base", .key_partial = "rotary_pct"},
    {.model_type = "stablelm", LLAMA_NAMES, LLAMA_NORMS, .layernorm = true, .context = 4096, .eps = 1e-5, .kv = 32, .partial = 0.25,
     .key_eps = "layer_norm_eps", .key_parallel = "use_parallel_residual", .shared_norm = true, .key_qkv_bias = "use_qkv_bias",
     .key_qk_norm = "qk_layernorm", .qk_norm = QK_NORM_EACH, .q_norm = "self_attn.q_layernorm.norms.*", .k_norm = "self_attn.k_layernorm.norms.*"},
    {.model_type = "granite", LLAMA_NAMES, LLAMA_NORMS, .context = 2048, .eps = 1e-6, .multipliers = true},
    {.model_type = "cohere", LLAMA_NAMES, QK_NORMS, .norm = {[NORM_ATTENTION] = "input_layernorm"}, .layernorm = true, .norm_without_bias = true,
     .parallel = true, .shared_norm = true, .interleaved = true, .tied = true, .context = 8192, .eps = 1e-5, .theta = 5e5, .logit_scale = 0.0625,
     .key_eps = "layer_norm_eps", .key_qk_norm = "use_qk_norm", .qk_norm = QK_NORM_EACH},
};
enum { N_FAMILY = sizeof families / sizeof *families };

const struct family *family_find(const char *model_type)
{
    for (size_t i = 0; model_type && i < N_FAMILY; i++)
        if (!strcmp(model_type, families[i].model_type)) return &families[i];
    return NULL;
}

const char *family_list(void)
{
    static _Thread_local char list[256];
    list[0] = '\0';
    for (size_t i = 0; i < N_FAMILY; i++) {
        if (i) strcat(list, i + 1 < N_FAMILY ? ", " : " or ");
        strcat(list, families[i].model_type);
    }
    return list;
}
