#include "io/gguf_weights.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "io/gguf.h"
#include "io/gguf_dequant.h"

struct entry {
    struct tensor tensor; /* as Hugging Face has it */
    const struct gguf_tensor *source;
    int64_t permuted_heads; /* > 0: rows of each head are interleaved rotary pairs */
};
struct gguf_weights {
    struct gguf *g;
    struct entry *entry;
    int64_t n;
};

/* Architectures whose folders this maps to, and whether q and k rows are interleaved. */
static const struct {
    const char *arch, *model_type, *architecture;
    bool permuted;
} archs[] = {
    {"llama", "llama", "LlamaForCausalLM", true},
    {"qwen2", "qwen2", "Qwen2ForCausalLM", false},
    {"qwen3", "qwen3", "Qwen3ForCausalLM", false},
};

static const struct {
    const char *gguf, *hf;
} block_names[] = {
    {"attn_norm", "input_layernorm"},      {"ffn_norm", "post_attention_layernorm"}, {"attn_q", "self_attn.q_proj"},      {"attn_k", "self_attn.k_proj"},
    {"attn_v", "self_attn.v_proj"},        {"attn_output", "self_attn.o_proj"},      {"attn_q_norm", "self_attn.q_norm"}, {"attn_k_norm", "self_attn.k_norm"},
    {"ffn_gate", "mlp.gate_proj"},         {"ffn_up", "mlp.up_proj"},                {"ffn_down", "mlp.down_proj"},
};

/* "blk.3.attn_q.weight" -> "model.layers.3.self_attn.q_proj.weight"; NULL: a name that this engine does not know. */
static char *hf_name(const char *name)
{
    if (!strcmp(name, "token_embd.weight")) return mem_strdup("model.embed_tokens.weight");
    if (!strcmp(name, "output_norm.weight")) return mem_strdup("model.norm.weight");
    if (!strcmp(name, "output.weight")) return mem_strdup("lm_head.weight");
    int layer, n = 0;
    if (sscanf(name, "blk.%d.%n", &layer, &n) != 1 || !n) return NULL;
    const char *rest = name + n, *dot = strrchr(rest, '.');
    for (size_t i = 0; dot && i < sizeof block_names / sizeof *block_names; i++)
        if (strlen(block_names[i].gguf) == (size_t)(dot - rest) && !strncmp(rest, block_names[i].gguf, (size_t)(dot - rest)))
            return mem_printf("model.layers.%d.%s%s", layer, block_names[i].hf, dot);
    return NULL;
}

static uint64_t integer(const struct gguf *g, const char *arch, const char *key, uint64_t fallback)
{
    char name[160];
    uint64_t v = fallback;
    snprintf(name, sizeof name, "%s.%s", arch, key);
    gguf_u64(g, name, &v);
    return v;
}

static double number(const struct gguf *g, const char *arch, const char *key, double fallback)
{
    char name[160];
    double v = fallback;
    snprintf(name, sizeof name, "%s.%s", arch, key);
    gguf_f64(g, name, &v);
    return v;
}

static void put_id(json_t *j, const char *name, const struct gguf *g, const char *key)
{
    uint64_t id;
    json_object_set_new(j, name, gguf_u64(g, key, &id) ? json_integer((json_int_t)id) : json_null());
}

static int put_rope(json_t *j, const struct gguf *g, const char *arch, sail_err *err)
{
    char key[160];
    json_object_set_new(j, "rope_theta", json_real(number(g, arch, "rope.freq_base", 10000)));
    snprintf(key, sizeof key, "%s.rope.scaling.type", arch);
    const char *type = gguf_string(g, key);
    if (gguf_tensor_find(g, "rope_freqs.weight"))
        return err_set(err, SAIL_FAILED, "%s: per-dimension rope factors (rope_freqs.weight) are not supported in GGUF files; use the Hugging Face folder", gguf_path(g));
    if (!type || !strcmp(type, "none")) {
        json_object_set_new(j, "rope_scaling", json_null());
        return SAIL_OK;
    }
    if (strcmp(type, "linear") && strcmp(type, "yarn")) return err_set(err, SAIL_FAILED, "%s: rope scaling '%s' is not supported", gguf_path(g), type);
    json_object_set_new(j, "rope_scaling", json_pack("{ss sf sI}", "rope_type", type, "factor", number(g, arch, "rope.scaling.factor", 1), "original_max_position_embeddings",
                                                     (json_int_t)integer(g, arch, "rope.scaling.original_context_length", integer(g, arch, "context_length", 2048))));
    return SAIL_OK;
}

static int make_config(const struct gguf *g, int which, json_t **out, sail_err *err)
{
    const char *arch = archs[which].arch;
    const struct gguf_tensor *embed = gguf_tensor_find(g, "token_embd.weight");
    if (!embed || embed->n_dim != 2) return err_set(err, SAIL_FAILED, "%s: tensor 'token_embd.weight' is missing (a vocabulary-only file?)", gguf_path(g));
    const uint64_t heads = integer(g, arch, "attention.head_count", 0), hidden = integer(g, arch, "embedding_length", 0);
    if (!heads || !hidden) return err_set(err, SAIL_FAILED, "%s: %s.attention.head_count or %s.embedding_length is missing", gguf_path(g), arch, arch);
    json_t *j = json_pack("{ss s[s] sI sI sI sI sI sI sI sI sf sb ss}", "model_type", archs[which].model_type, "architectures", archs[which].architecture, "hidden_size", (json_int_t)hidden,
                          "intermediate_size", (json_int_t)integer(g, arch, "feed_forward_length", 0), "num_hidden_layers", (json_int_t)integer(g, arch, "block_count", 0),
                          "num_attention_heads", (json_int_t)heads, "num_key_value_heads", (json_int_t)integer(g, arch, "attention.head_count_kv", heads), "head_dim",
                          (json_int_t)integer(g, arch, "attention.key_length", hidden / heads), "max_position_embeddings", (json_int_t)integer(g, arch, "context_length", 2048), "vocab_size",
                          (json_int_t)embed->dim[1], "rms_norm_eps", number(g, arch, "attention.layer_norm_rms_epsilon", 1e-6), "tie_word_embeddings",
                          gguf_tensor_find(g, "output.weight") == NULL, "hidden_act", "silu");
    if (!j) return err_memory(err, 0);
    json_object_set_new(j, "attention_bias", json_boolean(strcmp(arch, "qwen2") && gguf_tensor_find(g, "blk.0.attn_q.bias") != NULL));
    json_object_set_new(j, "torch_dtype", json_string(embed->type == GGML_F32 ? "float32" : embed->type == GGML_F16 ? "float16" : "bfloat16"));
    put_id(j, "bos_token_id", g, "tokenizer.ggml.bos_token_id");
    put_id(j, "eos_token_id", g, "tokenizer.ggml.eos_token_id");
    put_id(j, "pad_token_id", g, "tokenizer.ggml.padding_token_id");
    int rc = put_rope(j, g, arch, err);
    if (rc)
        json_decref(j);
    else
        *out = j;
    return rc;
}

static int add_tensor(struct gguf_weights *w, const struct gguf_tensor *t, bool permuted, uint64_t heads, uint64_t kv_heads, sail_err *err)
{
    char *name = hf_name(t->name);
    if (!name) return err_set(err, SAIL_FAILED, "%s: tensor '%s' is not known for this architecture", gguf_path(w->g), t->name);
    struct entry *e = &w->entry[w->n++];
    *e = (struct entry){.source = t, .tensor = {.name = name, .n_dim = t->n_dim}};
    for (int i = 0; i < t->n_dim; i++) e->tensor.dim[i] = t->dim[t->n_dim - 1 - i];
    e->tensor.dtype = t->type == GGML_F32 ? DTYPE_F32 : t->type == GGML_F16 ? DTYPE_F16 : DTYPE_BF16;
    const bool q = strstr(t->name, "attn_q.") != NULL, k = strstr(t->name, "attn_k.") != NULL;
    if (permuted && (q || k)) {
        e->permuted_heads = (int64_t)(q ? heads : kv_heads);
        if (e->permuted_heads < 1 || e->tensor.dim[0] % (2 * e->permuted_heads))
            return err_set(err, SAIL_FAILED, "%s: tensor '%s': %lld rows do not divide into %lld heads", gguf_path(w->g), t->name, (long long)e->tensor.dim[0], (long long)e->permuted_heads);
    }
    return SAIL_OK;
}

static int open_all(struct gguf_weights *w, const char *path, const struct tensor ***list, int64_t *n, json_t **config, sail_err *err)
{
    int rc = gguf_open(&w->g, path, err), which = -1;
    if (rc) return rc;
    const char *arch = gguf_string(w->g, "general.architecture");
    for (int i = 0; arch && i < (int)(sizeof archs / sizeof *archs); i++)
        if (!strcmp(arch, archs[i].arch)) which = i;
    if (which < 0) return err_set(err, SAIL_FAILED, "%s: architecture '%s' is not supported: expected llama, qwen2 or qwen3", path, arch ? arch : "(absent)");
    if ((rc = make_config(w->g, which, config, err))) return rc;
    const uint64_t heads = integer(w->g, arch, "attention.head_count", 1), kv = integer(w->g, arch, "attention.head_count_kv", heads);
    rc = mem_alloc(&w->entry, (size_t)gguf_tensor_count(w->g), sizeof *w->entry, err);
    for (int64_t i = 0; !rc && i < gguf_tensor_count(w->g); i++) rc = add_tensor(w, gguf_tensor_at(w->g, i), archs[which].permuted, heads, kv, err);
    if (!rc) rc = mem_alloc(list, (size_t)w->n, sizeof **list, err);
    for (int64_t i = 0; !rc && i < w->n; i++) (*list)[i] = &w->entry[i].tensor;
    *n = w->n;
    return rc;
}

int gguf_weights_open(struct gguf_weights **out, const char *path, const struct tensor ***tensor, int64_t *n, json_t **config, sail_err *err)
{
    struct gguf_weights *w;
    *out = NULL;
    if (mem_alloc(&w, 1, sizeof *w, err)) return SAIL_FAILED;
    int rc = open_all(w, path, tensor, n, config, err);
    *out = w; // weights_close releases it in any case
    return rc;
}

void gguf_weights_close(struct gguf_weights *w)
{
    if (!w) return;
    for (int64_t i = 0; i < w->n; i++) free((char *)(uintptr_t)w->entry[i].tensor.name);
    free(w->entry);
    gguf_close(w->g);
    free(w);
}

static const struct entry *entry_of(const struct tensor *t) { return (const struct entry *)(const void *)t; } // tensor is the first member

const void *gguf_weights_map(const struct gguf_weights *w, const struct tensor *t)
{
    const struct entry *e = entry_of(t);
    const uint32_t type = e->source->type;
    (void)w;
    return !e->permuted_heads && (type == GGML_F32 || type == GGML_F16 || type == GGML_BF16) ? e->source->data : NULL;
}

/* Row of the file that holds row r of the folder: pairs (j, j + d/2) of a head lie side by side in the file. */
static int64_t source_row(const struct entry *e, int64_t r)
{
    if (!e->permuted_heads) return r;
    const int64_t d = e->tensor.dim[0] / e->permuted_heads, half = d / 2, head = r / d, i = r % d / half, j = r % half;
    return head * d + j * 2 + i;
}

int gguf_weights_load(const struct gguf_weights *w, const struct tensor *t, void *dst, enum dtype dt, sail_err *err)
{
    const struct entry *e = entry_of(t);
    const bool vector = t->n_dim < 2;
    const int64_t count = tensor_count(t), rows = vector ? (e->permuted_heads ? count : 1) : t->dim[0], width = count / (rows ? rows : 1);
    const bool quantised = e->source->type != GGML_F32 && e->source->type != GGML_F16 && e->source->type != GGML_BF16;
    float *row;
    if (mem_alloc(&row, (size_t)width, sizeof *row, err)) return SAIL_FAILED;
    (void)w;
    for (int64_t r = 0; r < rows; r++) {
        const size_t row_bytes = e->source->bytes / (size_t)rows;
        ggml_dequantise(row, e->source->data + (size_t)source_row(e, r) * row_bytes, e->source->type, width);
        for (int64_t i = 0; quantised && i < width; i++) row[i] = bf16_to_f32(f32_to_bf16(row[i]));
        tensor_convert((char *)dst + (size_t)(r * width) * dtype_size(dt), dt, row, DTYPE_F32, width);
    }
    free(row);
    return SAIL_OK;
}

void gguf_weights_drop(const struct gguf_weights *w, const struct tensor *t)
{
    (void)w;
    file_map_drop(entry_of(t)->source->data, entry_of(t)->source->bytes);
}
