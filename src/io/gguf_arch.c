#include "io/gguf_arch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* Rows of families that name their parts as Llama does; the arguments are layouts. */
#define BLOCK(gguf, hf, layout) {"blk.*." gguf, "model.layers.*." hf, layout}
#define ENDS(norm) {"token_embd", "model.embed_tokens", LAYOUT_SAME}, {"output_norm", "model.norm", norm}, {"output", "lm_head", LAYOUT_SAME}
#define NORMS(norm) BLOCK("attn_norm", "input_layernorm", norm), BLOCK("ffn_norm", "post_attention_layernorm", norm)
#define QK_NORMS(norm) BLOCK("attn_q_norm", "self_attn.q_norm", norm), BLOCK("attn_k_norm", "self_attn.k_norm", norm)
#define PRODUCTS(q, k)                                                                                                                                       \
    BLOCK("attn_q", "self_attn.q_proj", q), BLOCK("attn_k", "self_attn.k_proj", k), BLOCK("attn_v", "self_attn.v_proj", LAYOUT_SAME),                        \
        BLOCK("attn_output", "self_attn.o_proj", LAYOUT_SAME), BLOCK("ffn_gate", "mlp.gate_proj", LAYOUT_SAME), BLOCK("ffn_up", "mlp.up_proj", LAYOUT_SAME), \
        BLOCK("ffn_down", "mlp.down_proj", LAYOUT_SAME)
#define PLAIN_PRODUCTS PRODUCTS(LAYOUT_SAME, LAYOUT_SAME)

static const struct gguf_name llama_names[] = {ENDS(LAYOUT_SAME), NORMS(LAYOUT_SAME), PRODUCTS(LAYOUT_Q_PAIRS, LAYOUT_K_PAIRS), {0}};
static const struct gguf_name qwen_names[] = {ENDS(LAYOUT_SAME), NORMS(LAYOUT_SAME), PLAIN_PRODUCTS, QK_NORMS(LAYOUT_SAME), {0}};
static const struct gguf_name olmo2_names[] = {
    ENDS(LAYOUT_SAME),
    BLOCK("post_attention_norm", "post_attention_layernorm", LAYOUT_SAME),
    BLOCK("post_ffw_norm", "post_feedforward_layernorm", LAYOUT_SAME),
    PLAIN_PRODUCTS,
    QK_NORMS(LAYOUT_SAME),
    {0},
};
static const struct gguf_name stablelm_names[] = {
    ENDS(LAYOUT_SAME),
    NORMS(LAYOUT_SAME),
    PLAIN_PRODUCTS,
    BLOCK("attn_q_norm", "self_attn.q_layernorm.norms.#", LAYOUT_STACKED),
    BLOCK("attn_k_norm", "self_attn.k_layernorm.norms.#", LAYOUT_STACKED),
    {0},
};
/* Rotary pairs are neighbours in both. */
static const struct gguf_name cohere_names[] = {ENDS(LAYOUT_SAME), BLOCK("attn_norm", "input_layernorm", LAYOUT_SAME), PLAIN_PRODUCTS, QK_NORMS(LAYOUT_SAME), {0}};
static const struct gguf_name phi3_names[] = {
    ENDS(LAYOUT_SAME),
    NORMS(LAYOUT_SAME),
    BLOCK("attn_qkv", "self_attn.qkv_proj", LAYOUT_SAME),
    BLOCK("attn_output", "self_attn.o_proj", LAYOUT_SAME),
    BLOCK("ffn_up", "mlp.gate_up_proj", LAYOUT_SAME),
    BLOCK("ffn_down", "mlp.down_proj", LAYOUT_SAME),
    {0},
};
static const struct gguf_name gemma_names[] = {ENDS(LAYOUT_PLUS_ONE), NORMS(LAYOUT_PLUS_ONE), PLAIN_PRODUCTS, {0}};
static const struct gguf_name gemma2_names[] = { // and gemma3's
    ENDS(LAYOUT_PLUS_ONE),
    BLOCK("attn_norm", "input_layernorm", LAYOUT_PLUS_ONE),
    BLOCK("post_attention_norm", "post_attention_layernorm", LAYOUT_PLUS_ONE),
    BLOCK("ffn_norm", "pre_feedforward_layernorm", LAYOUT_PLUS_ONE),
    BLOCK("post_ffw_norm", "post_feedforward_layernorm", LAYOUT_PLUS_ONE),
    PLAIN_PRODUCTS,
    QK_NORMS(LAYOUT_PLUS_ONE),
    {0},
};
static const struct gguf_name gptneox_names[] = {
    {"token_embd", "gpt_neox.embed_in", LAYOUT_SAME},
    {"output_norm", "gpt_neox.final_layer_norm", LAYOUT_SAME},
    {"output", "embed_out", LAYOUT_SAME},
    {"blk.*.attn_norm", "gpt_neox.layers.*.input_layernorm", LAYOUT_SAME},
    {"blk.*.ffn_norm", "gpt_neox.layers.*.post_attention_layernorm", LAYOUT_SAME},
    {"blk.*.attn_qkv", "gpt_neox.layers.*.attention.query_key_value", LAYOUT_QKV_HEADS},
    {"blk.*.attn_output", "gpt_neox.layers.*.attention.dense", LAYOUT_SAME},
    {"blk.*.ffn_up", "gpt_neox.layers.*.mlp.dense_h_to_4h", LAYOUT_SAME},
    {"blk.*.ffn_down", "gpt_neox.layers.*.mlp.dense_4h_to_h", LAYOUT_SAME},
    {0},
};
static const struct gguf_name gpt2_names[] = {
    {"token_embd", "transformer.wte", LAYOUT_SAME},
    {"position_embd", "transformer.wpe", LAYOUT_SAME},
    {"output_norm", "transformer.ln_f", LAYOUT_SAME},
    {"output", "lm_head", LAYOUT_SAME},
    {"blk.*.attn_norm", "transformer.h.*.ln_1", LAYOUT_SAME},
    {"blk.*.ffn_norm", "transformer.h.*.ln_2", LAYOUT_SAME},
    {"blk.*.attn_qkv", "transformer.h.*.attn.c_attn", LAYOUT_TRANSPOSED},
    {"blk.*.attn_output", "transformer.h.*.attn.c_proj", LAYOUT_TRANSPOSED},
    {"blk.*.ffn_up", "transformer.h.*.mlp.c_fc", LAYOUT_TRANSPOSED},
    {"blk.*.ffn_down", "transformer.h.*.mlp.c_proj", LAYOUT_TRANSPOSED},
    {0},
};

static const struct gguf_arch archs[] = {
    {.arch = "llama", .model_type = "llama", .architecture = "LlamaForCausalLM", .names = llama_names, .act_key = "hidden_act", .act = "silu",
     .eps = 1e-6, .theta = 10000, .max_position = 2048, .attention_bias = true, .mlp_bias = true},
    {.arch = "llama", .model_type = "mistral", .architecture = "MistralForCausalLM", .names = llama_names, .act_key = "hidden_act",
     .act = "silu", .eps = 1e-6, .theta = 10000, .kv = 8, .max_position = 131072},
    {.arch = "qwen2", .model_type = "qwen2", .architecture = "Qwen2ForCausalLM", .names = qwen_names, .act_key = "hidden_act", .act = "silu",
     .eps = 1e-6, .theta = 10000, .kv = 32, .max_position = 32768},
    {.arch = "qwen3", .model_type = "qwen3", .architecture = "Qwen3ForCausalLM", .names = qwen_names, .act_key = "hidden_act", .act = "silu",
     .eps = 1e-6, .theta = 10000, .kv = 32, .head_dim = 128, .max_position = 32768},
    {.arch = "smollm3", .model_type = "smollm3", .architecture = "SmolLM3ForCausalLM", .names = llama_names, .act_key = "hidden_act", .act = "silu",
     .eps = 1e-6, .theta = 2e6, .kv = 4, .max_position = 32768, .tied = true},
    {.arch = "olmo2", .model_type = "olmo2", .architecture = "Olmo2ForCausalLM", .names = olmo2_names, .act_key = "hidden_act", .act = "silu",
     .eps = 1e-5, .theta = 10000, .max_position = 2048, .head = HEAD_ITS_OWN},
    {.arch = "granite", .model_type = "granite", .architecture = "GraniteForCausalLM", .names = llama_names, .act_key = "hidden_act", .act = "silu",
     .eps = 1e-6, .theta = 10000, .max_position = 2048, .attention_bias = true, .mlp_bias = true},
    {.arch = "stablelm", .model_type = "stablelm", .architecture = "StableLmForCausalLM", .names = stablelm_names, .act_key = "hidden_act", .act = "silu",
     .eps = 1e-5, .theta = 10000, .kv = 32, .max_position = 4096, .partial = 0.25, .layer_norm = true, .head = HEAD_ITS_OWN},
    {.arch = "command-r", .model_type = "cohere", .architecture = "CohereForCausalLM", .names = cohere_names, .act_key = "hidden_act", .act = "silu",
     .eps = 1e-5, .theta = 5e5, .max_position = 8192, .tied = true, .layer_norm = true, .head = HEAD_TIED},
    {.arch = "phi3", .model_type = "phi3", .architecture = "Phi3ForCausalLM", .names = phi3_names, .act_key = "hidden_act", .act = "silu",
     .eps = 1e-5, .theta = 10000, .max_position = 4096},
    {.arch = "gemma", .model_type = "gemma", .architecture = "GemmaForCausalLM", .names = gemma_names, .act_key = "hidden_act",
     .act = "gelu_pytorch_tanh", .eps = 1e-6, .theta = 10000, .kv = 16, .head_dim = 256, .max_position = 8192, .tied = true, .head = HEAD_TIED},
    {.arch = "gemma2", .model_type = "gemma2", .architecture = "Gemma2ForCausalLM", .names = gemma2_names, .act_key = "hidden_activation",
     .act = "gelu_pytorch_tanh", .eps = 1e-6, .theta = 10000, .kv = 4, .head_dim = 256, .max_position = 8192, .tied = true, .head = HEAD_TIED},
    {.arch = "gemma3", .model_type = "gemma3_text", .architecture = "Gemma3ForCausalLM", .names = gemma2_names, .act_key = "hidden_activation",
     .act = "gelu_pytorch_tanh", .eps = 1e-6, .theta = 1e6, .kv = 4, .head_dim = 256, .max_position = 131072, .tied = true},
    {.arch = "gptneox", .model_type = "gpt_neox", .architecture = "GPTNeoXForCausalLM", .names = gptneox_names, .act_key = "hidden_act",
     .act = "gelu", .eps = 1e-5, .theta = 10000, .max_position = 2048, .partial = 0.25, .layer_norm = true, .multi_head = true, .head = HEAD_ITS_OWN},
    {.arch = "gpt2", .model_type = "gpt2", .architecture = "GPT2LMHeadModel", .names = gpt2_names, .act_key = "activation_function",
     .act = "gelu_new", .eps = 1e-5, .theta = 10000, .max_position = 1024, .tied = true, .layer_norm = true, .multi_head = true},
};
enum { N_ARCHS = sizeof archs / sizeof *archs };

const struct gguf_arch *gguf_arch_find(const char *arch)
{
    for (int i = 0; arch && i < N_ARCHS; i++)
        if (!strcmp(arch, archs[i].arch)) return &archs[i];
    return NULL;
}

const struct gguf_arch *gguf_arch_of_model_type(const char *model_type)
{
    for (int i = 0; model_type && i < N_ARCHS; i++)
        if (!strcmp(model_type, archs[i].model_type)) return &archs[i];
    return NULL;
}

const char *gguf_arch_list(void) { return "llama, mistral, qwen2, qwen3, smollm3, olmo2, granite, stablelm, cohere, phi3, gemma, gemma2, gemma3_text, gpt_neox or gpt2"; }

/* Does `name` (its first n bytes) match the pattern? The digits for '*' go to layer. */
static bool matches(const char *pattern, const char *name, size_t n, char layer[12])
{
    const char *star = strchr(pattern, '*');
    layer[0] = '\0';
    if (!star) return strlen(pattern) == n && !memcmp(pattern, name, n);
    const size_t before = (size_t)(star - pattern), after = strlen(star + 1);
    if (n <= before + after || memcmp(pattern, name, before) || memcmp(star + 1, name + n - after, after)) return false;
    const size_t digits = n - before - after;
    if (digits > 9 || strspn(name + before, "0123456789") < digits || (digits > 1 && name[before] == '0')) return false;
    snprintf(layer, 12, "%.*s", (int)digits, name + before);
    return true;
}

static char *fill(const char *pattern, const char *layer, const char *suffix)
{
    const char *star = strchr(pattern, '*');
    return star ? mem_printf("%.*s%s%s%s", (int)(star - pattern), pattern, layer, star + 1, suffix) : mem_printf("%s%s", pattern, suffix);
}

/* The same with a number where the pattern ends with '#'. */
static bool matches_head(const char *pattern, const char *name, size_t n, char layer[12])
{
    size_t stem = n;
    while (stem && strchr("0123456789", name[stem - 1])) stem--;
    char *any = mem_printf("%.*s#", (int)stem, name);
    const bool same = stem < n && matches(pattern, any, stem + 1, layer);
    free(any);
    return same;
}

static char *translate(const struct gguf_arch *a, const char *name, bool to_hf, enum gguf_layout *layout)
{
    const char *suffix = strrchr(name, '.');
    char layer[12];
    if (!suffix || (strcmp(suffix, ".weight") && strcmp(suffix, ".bias"))) return NULL;
    for (const struct gguf_name *row = a->names; row->gguf; row++) {
        const size_t n = (size_t)(suffix - name);
        if (row->layout == LAYOUT_STACKED && !to_hf ? !matches_head(row->hf, name, n, layer) : !matches(to_hf ? row->gguf : row->hf, name, n, layer)) continue;
        *layout = row->layout == LAYOUT_TRANSPOSED && suffix[1] == 'b' ? LAYOUT_SAME : row->layout;
        return fill(to_hf ? row->hf : row->gguf, layer, suffix);
    }
    return NULL;
}

char *gguf_name_to_hf(const struct gguf_arch *a, const char *name, enum gguf_layout *layout) { return translate(a, name, true, layout); }

char *gguf_name_from_hf(const struct gguf_arch *a, const char *name, enum gguf_layout *layout)
{
    char *found = translate(a, name, false, layout);
    if (found || strcmp(a->arch, "gpt2")) return found;
    char *prefixed = mem_printf("transformer.%s", name); // the original files have no prefix
    found = translate(a, prefixed, false, layout);
    free(prefixed);
    return found;
}

char *hf_name_of_head(const char *name, int64_t head)
{
    const char *mark = strchr(name, '#');
    return mem_printf("%.*s%lld%s", (int)(mark - name), name, (long long)head, mark + 1);
}

bool hf_name_is_buffer(const char *name)
{
    static const char *const ends[] = {".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias"};
    const size_t n = strlen(name);
    if (strstr(name, "rotary_emb.")) return true;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (n >= strlen(ends[i]) && !strcmp(name + n - strlen(ends[i]), ends[i])) return true;
    return false;
}

static int64_t group_heads(enum gguf_layout layout, struct gguf_heads heads) { return layout == LAYOUT_K_PAIRS ? heads.k : heads.q; }

bool gguf_rows_divide(enum gguf_layout layout, struct gguf_heads heads, int64_t rows)
{
    const int64_t n = group_heads(layout, heads);
    if (layout == LAYOUT_Q_PAIRS || layout == LAYOUT_K_PAIRS) return n > 0 && rows % (2 * n) == 0;
    return layout != LAYOUT_QKV_HEADS || (n > 0 && rows % (3 * n) == 0);
}

int64_t gguf_file_row(enum gguf_layout layout, struct gguf_heads heads, int64_t rows, int64_t r)
{
    const int64_t n = group_heads(layout, heads);
    if (layout == LAYOUT_Q_PAIRS || layout == LAYOUT_K_PAIRS) {
        const int64_t d = rows / n, head = r / d, i = r % d / (d / 2), j = r % (d / 2);
        return head * d + 2 * j + i;
    }
    if (layout == LAYOUT_QKV_HEADS) {
        const int64_t d = rows / (3 * n), head = r / (3 * d), part = r % (3 * d) / d, e = r % d;
        return part * n * d + head * d + e;
    }
    return r;
}

int64_t gguf_folder_row(enum gguf_layout layout, struct gguf_heads heads, int64_t rows, int64_t f)
{
    const int64_t n = group_heads(layout, heads);
    if (layout == LAYOUT_Q_PAIRS || layout == LAYOUT_K_PAIRS) {
        const int64_t d = rows / n, head = f / d, i = f % 2, j = f % d / 2;
        return head * d + i * (d / 2) + j;
    }
    if (layout == LAYOUT_QKV_HEADS) {
        const int64_t d = rows / (3 * n), part = f / (n * d), head = f % (n * d) / d, e = f % d;
        return head * 3 * d + part * d + e;
    }
    return f;
}
