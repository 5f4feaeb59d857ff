/* A model as a GGUF file: config.json as keys, the tensors under GGUF's names in its layouts, the tokenizer and the chat template inside. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "io/gguf_config.h"
#include "io/gguf_dequant.h"
#include "io/gguf_writer.h"
#include "model/internal.h"
#include "template/template.h"
#include "tok/tokenizer.h"

struct source {
    const struct tensor *tensor; /* of the model's file; NULL: rope factors */
    const struct rope_factors *factors;
    enum gguf_layout layout;
};
struct gguf_save {
    struct policy policy;
    struct tensor head; /* that was tied and is a tensor of its own here */
    char head_name[NAME_SIZE];
    struct gguf_model_keys keys;
    struct gguf_tensor *tensor;
    struct source *source;
    int64_t n;
    void *data; /* of the tensor that is being written */
};

static enum dtype dtype_of(uint32_t ggml) { return ggml == GGML_F16 ? DTYPE_F16 : ggml == GGML_BF16 ? DTYPE_BF16 : DTYPE_F32; }

static bool is_norm(const char *name)
{
    static const char end[] = "_norm.weight";
    const size_t n = strlen(name), m = sizeof end - 1;
    return n > m && !strcmp(name + n - m, end);
}

/* Vectors, norms and learned positions are f32, as llama.cpp's operations want them; rows that do not fill blocks of 32 are f16 in a Q8_0 file, as its converter
 * writes them. */
static uint32_t type_of(const struct tensor *t, const struct gguf_tensor *g, int dtype)
{
    const enum dtype d = dtype == SAVE_AS_IS ? t->dtype : (enum dtype)dtype;
    if (t->n_dim == 1 || is_norm(g->name) || !strcmp(g->name, "position_embd.weight")) return GGML_F32;
    if (dtype == SAVE_Q8_0) return g->dim[0] % 32 ? GGML_F16 : GGML_Q8_0;
    return d == DTYPE_F32 ? GGML_F32 : d == DTYPE_F16 ? GGML_F16 : GGML_BF16;
}

/* Vectors of all heads in one matrix, where the first is met. */
static int add_stacked(struct gguf_save *s, const struct tensor *t, char *name)
{
    enum gguf_layout layout;
    char *any = gguf_name_to_hf(s->keys.arch, name, &layout), *first = hf_name_of_head(any, 0);
    int64_t n = 0;
    for (bool there = !strcmp(t->name, first); there; n += there) {
        char *next = hf_name_of_head(any, n);
        there = weights_find(s->policy.model->file, next) != NULL;
        free(next);
    }
    if (n) {
        s->source[s->n].tensor = t;
        s->tensor[s->n++] = (struct gguf_tensor){.name = name, .n_dim = 2, .dim = {t->dim[0], n}, .type = GGML_F32};
    } else {
        free(name);
    }
    free(any);
    free(first);
    return SAIL_OK;
}

static int add_tensor(struct gguf_save *s, const struct tensor *t, int dtype, sail_err *err)
{
    struct gguf_tensor *g = &s->tensor[s->n];
    struct source *from = &s->source[s->n];
    if (hf_name_is_buffer(t->name) || (s->keys.tied && !strcmp(t->name, "lm_head.weight"))) return SAIL_OK;
    char *name = gguf_name_from_hf(s->keys.arch, t->name, &from->layout);
    if (!name) return err_set(err, SAIL_FAILED, "%s: tensor '%s' has no GGUF name for %s", s->policy.model->path, t->name, s->keys.arch->model_type);
    if (from->layout == LAYOUT_STACKED) return add_stacked(s, t, name);
    *g = (struct gguf_tensor){.name = name, .n_dim = t->n_dim};
    from->tensor = t;
    s->n++;
    for (int i = 0; i < t->n_dim; i++) g->dim[i] = t->dim[from->layout == LAYOUT_TRANSPOSED ? i : t->n_dim - 1 - i];
    g->type = type_of(t, g, dtype);
    return gguf_rows_divide(from->layout, s->keys.heads, t->dim[0]) ? SAIL_OK : err_set(err, SAIL_FAILED, "%s: tensor '%s': %lld rows do not divide into heads", s->policy.model->path, t->name, (long long)t->dim[0]);
}

static int list_tensors(struct gguf_save *s, int dtype, sail_err *err)
{
    const struct weights *file = s->policy.model->file;
    const int64_t most = weights_count(file) + 3;
    int rc = mem_alloc(&s->tensor, (size_t)most, sizeof *s->tensor, err);
    if (!rc) rc = mem_alloc(&s->source, (size_t)most, sizeof *s->source, err);
    for (int i = 0; !rc && i < 2; i++) {
        const struct rope_factors *f = &s->keys.factors[i];
        if (!f->name) continue;
        s->source[s->n].factors = f;
        s->tensor[s->n++] = (struct gguf_tensor){.name = mem_strdup(f->name), .n_dim = 1, .dim = {f->n}, .type = GGML_F32};
    }
    for (int64_t i = 0; !rc && i < weights_count(file); i++) rc = add_tensor(s, weights_at(file, i), dtype, err);
    if (!rc && s->head.name && !weights_find(file, s->head.name)) rc = add_tensor(s, &s->head, dtype, err);
    return rc;
}

/* From the folder's layout to the file's. */
static void lay_out(const struct gguf_save *s, const struct source *from, float *to, const float *x)
{
    const struct tensor *t = from->tensor;
    const int64_t rows = t->dim[0], columns = t->n_dim > 1 ? t->dim[1] : 1;
    for (int64_t r = 0; r < rows; r++) {
        if (from->layout == LAYOUT_TRANSPOSED) {
            for (int64_t c = 0; c < columns; c++) to[c * rows + r] = x[r * columns + c];
            continue;
        }
        float *row = to + gguf_file_row(from->layout, s->keys.heads, rows, r) * columns;
        for (int64_t c = 0; c < columns; c++) row[c] = x[r * columns + c] + (from->layout == LAYOUT_PLUS_ONE);
    }
}

static int load_stacked(const struct gguf_save *s, const struct gguf_tensor *g, float *to, sail_err *err)
{
    enum gguf_layout layout;
    char *any = gguf_name_to_hf(s->keys.arch, g->name, &layout);
    int rc = SAIL_OK;
    for (int64_t h = 0; !rc && h < g->dim[1]; h++) {
        char *name = hf_name_of_head(any, h);
        struct tensor t = {0};
        if (!(rc = saved_tensor(s->policy, weights_find(s->policy.model->file, name), DTYPE_F32, &t, err))) memcpy(to + h * g->dim[0], t.data, (size_t)g->dim[0] * sizeof *to);
        free(t.data);
        free(name);
    }
    free(any);
    return rc;
}

static int load_laid_out(const struct gguf_save *s, int64_t i, float *to, sail_err *err)
{
    const struct source *from = &s->source[i];
    if (from->layout == LAYOUT_STACKED) return load_stacked(s, &s->tensor[i], to, err);
    struct tensor t = {0};
    int rc = saved_tensor(s->policy, from->tensor, DTYPE_F32, &t, err);
    if (!rc) lay_out(s, from, to, t.data);
    free(t.data);
    return rc;
}

static int tensor_data(void *context, int64_t i, const void **data, sail_err *err)
{
    struct gguf_save *s = context;
    const struct source *from = &s->source[i];
    float *laid = NULL;
    free(s->data);
    s->data = NULL;
    if (from->factors) {
        *data = from->factors->value;
        return SAIL_OK;
    }
    const int64_t n = s->tensor[i].dim[0] * (s->tensor[i].n_dim > 1 ? s->tensor[i].dim[1] : 1);
    const enum dtype d = dtype_of(s->tensor[i].type);
    int rc = mem_alloc(&laid, (size_t)n, sizeof *laid, err);
    if (!rc) rc = load_laid_out(s, i, laid, err);
    if (!rc) rc = mem_alloc(&s->data, (size_t)n, dtype_size(d), err);
    if (!rc && s->tensor[i].type == GGML_Q8_0) ggml_quantise_q8_0(s->data, laid, n);
    if (!rc && s->tensor[i].type != GGML_Q8_0) tensor_convert(s->data, d, laid, DTYPE_F32, n);
    free(laid);
    *data = s->data;
    return rc;
}

static int put_text_keys(struct gguf_writer *w, const struct gguf_save *s, sail_err *err)
{
    const struct model *m = s->policy.model;
    if (!tokenizer_exists(m->path)) {
        gguf_put_string(w, "tokenizer.ggml.model", "no_vocab");
        return SAIL_OK;
    }
    int rc = tokenizer_put_gguf(w, m->path, s->keys.vocab, m->config.n_eos ? m->config.eos[0] : -1, err);
    char *source = rc ? NULL : template_source(m->path);
    if (source) gguf_put_string(w, "tokenizer.chat_template", source);
    free(source);
    return rc;
}

/* A tied head that the folder has all the same counts, as in transformers, unless it is the embeddings once more. */
static bool folder_parts_head(const struct model *m, const struct tensor *embed, const char *head_name)
{
    const struct tensor *head = weights_find(m->file, head_name);
    if (!head) head = weights_find(m->file, "lm_head.weight");
    if (!head) return false;
    const void *a = weights_map(m->file, head), *b = weights_map(m->file, embed);
    return !a || !b || head->dtype != embed->dtype || memcmp(a, b, (size_t)tensor_count(head) * dtype_size(head->dtype));
}

/* Is the head of a tied model a tensor of its own in the file? Also where llama.cpp loads no file without one. */
static bool parts_head(struct gguf_save *s)
{
    const struct model *m = s->policy.model;
    const struct gguf_arch *arch = gguf_arch_of_model_type(m->config.family->model_type);
    char name[NAME_SIZE];
    snprintf(name, sizeof name, "%s%s.weight", m->prefix, m->config.family->embed);
    const struct tensor *embed = weights_find(m->file, name);
    if (untied_head(s->policy, &s->head, s->head_name)) return true;
    if (!m->config.tied || !embed) return false;
    if (!arch || arch->head != HEAD_ITS_OWN) return folder_parts_head(m, embed, s->head_name);
    s->head = *embed;
    s->head.name = s->head_name;
    return true;
}

int model_save_gguf(struct policy p, const char *path, const struct save_options *o, sail_err *err)
{
    struct gguf_save s = {.policy = p};
    struct gguf_writer w;
    if (p.model->config.reward_head) return err_set(err, SAIL_USAGE, "%s: reward models have no GGUF form here: give --out a folder", p.model->path);
    json_t *config = json_copy(weights_config(p.model->file));
    if (!config) return err_memory(err, 0);
    if (parts_head(&s)) json_object_set_new(config, "tie_word_embeddings", json_false());
    gguf_writer_init(&w);
    int rc = gguf_config_write(&w, &s.keys, config, p.model->path, err);
    if (!rc && o->dtype == SAVE_Q8_0) {
        gguf_put_u32(&w, "general.quantization_version", 2);
        gguf_put_u32(&w, "general.file_type", 7);
    }
    if (!rc) rc = put_text_keys(&w, &s, err);
    if (!rc) rc = list_tensors(&s, o->dtype, err);
    if (!rc) rc = gguf_writer_write(&w, path, s.tensor, s.n, tensor_data, &s, err);
    for (int64_t i = 0; i < s.n; i++) free(s.tensor[i].name);
    free(s.tensor);
    free(s.source);
    free(s.data);
    gguf_model_keys_release(&s.keys);
    gguf_writer_release(&w);
    json_decref(config);
    return rc;
}
