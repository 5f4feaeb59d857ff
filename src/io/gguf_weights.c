#include "io/gguf_weights.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "io/gguf.h"
#include "io/gguf_config.h"
#include "io/gguf_dequant.h"

struct entry {
    struct tensor tensor; /* as the folder has it; the first member, so that a tensor leads back to its entry */
    const struct gguf_tensor *source;
    enum gguf_layout layout;
    int64_t row; /* of the source, where each row is a tensor of the folder */
};
struct gguf_weights {
    struct gguf *g;
    struct gguf_heads heads;
    struct entry *entry;
    int64_t n;
    size_t capacity;
    int64_t n_unknown;   /* tensors that no part of the architecture is called after */
    const char *unknown; /* the first of them */
};

static bool is_plain(uint32_t type) { return type == GGML_F32 || type == GGML_F16 || type == GGML_BF16; }

static bool is_rope_factor(const char *name) { return !strncmp(name, "rope_f", 6); } // they became part of the config

/* name is of all heads; each row becomes a tensor. */
static int add_heads(struct gguf_weights *w, const struct gguf_tensor *t, const char *name, sail_err *err)
{
    if (t->n_dim != 2 || t->type != GGML_F32 || (t->dim[1] != w->heads.q && t->dim[1] != w->heads.k))
        return err_set(err, SAIL_FAILED, "%s: tensor '%s': expected F32 with a row for each of %lld (%lld key) heads, got %s, %d dims, second %lld", gguf_path(w->g), t->name,
                       (long long)w->heads.q, (long long)w->heads.k, ggml_type_name(t->type), t->n_dim, (long long)t->dim[1]);
    for (int64_t h = 0; h < t->dim[1]; h++) {
        int rc = mem_grow(&w->entry, (size_t)w->n, &w->capacity, sizeof *w->entry, err);
        if (rc) return rc;
        const struct tensor one = {.name = hf_name_of_head(name, h), .dtype = DTYPE_F32, .n_dim = 1, .dim = {t->dim[0]}};
        w->entry[w->n++] = (struct entry){.source = t, .layout = LAYOUT_STACKED, .row = h, .tensor = one};
    }
    return SAIL_OK;
}

static int add_tensor(struct gguf_weights *w, const struct gguf_arch *arch, const struct gguf_tensor *t, sail_err *err)
{
    enum gguf_layout layout;
    char *name = gguf_name_to_hf(arch, t->name, &layout);
    const char *path = gguf_path(w->g);
    if (!name) {
        if (!w->n_unknown++) w->unknown = t->name;
        return SAIL_OK;
    }
    if (layout == LAYOUT_STACKED) {
        int rc = add_heads(w, t, name, err);
        free(name);
        return rc;
    }
    if (mem_grow(&w->entry, (size_t)w->n, &w->capacity, sizeof *w->entry, err)) {
        free(name);
        return SAIL_FAILED;
    }
    struct entry *e = &w->entry[w->n++];
    *e = (struct entry){.source = t, .layout = layout, .tensor = {.name = name, .n_dim = t->n_dim}};
    for (int i = 0; i < t->n_dim; i++) e->tensor.dim[i] = t->dim[layout == LAYOUT_TRANSPOSED ? i : t->n_dim - 1 - i];
    e->tensor.dtype = t->type == GGML_F32 ? DTYPE_F32 : t->type == GGML_F16 ? DTYPE_F16 : DTYPE_BF16;
    if (layout == LAYOUT_TRANSPOSED && t->n_dim != 2) return err_set(err, SAIL_FAILED, "%s: tensor '%s': expected 2 dims, got %d", path, t->name, t->n_dim);
    if (t->n_dim < 1 || t->n_dim > 2) return err_set(err, SAIL_FAILED, "%s: tensor '%s': expected 1 or 2 dims, got %d", path, t->name, t->n_dim);
    const bool grouped = layout != LAYOUT_SAME && layout != LAYOUT_PLUS_ONE;
    if (grouped && t->n_dim == 1 && !is_plain(t->type))
        return err_set(err, SAIL_FAILED, "%s: tensor '%s': a vector of %s: expected F32, F16 or BF16", path, t->name, ggml_type_name(t->type));
    if (!gguf_rows_divide(layout, w->heads, e->tensor.dim[0]))
        return err_set(err, SAIL_FAILED, "%s: tensor '%s': %lld rows do not divide into %lld (%lld key) heads", path, t->name,
                       (long long)e->tensor.dim[0], (long long)w->heads.q, (long long)w->heads.k);
    return SAIL_OK;
}

static int open_all(struct gguf_weights *w, const char *path, const struct tensor ***list, int64_t *n, json_t **config, json_t **generation,
                    sail_err *err)
{
    const struct gguf_arch *arch = NULL;
    int rc = gguf_open(&w->g, path, err);
    if (!rc) rc = gguf_config_read(w->g, &arch, config, generation, err);
    if (rc) return rc;
    json_t *heads = json_object_get(*config, "num_attention_heads"), *kv = json_object_get(*config, "num_key_value_heads");
    w->heads.q = json_integer_value(heads);
    w->heads.k = kv ? json_integer_value(kv) : w->heads.q;
    const int64_t all = gguf_tensor_count(w->g);
    for (int64_t i = 0; !rc && i < all; i++)
        if (!is_rope_factor(gguf_tensor_at(w->g, i)->name)) rc = add_tensor(w, arch, gguf_tensor_at(w->g, i), err);
    if (!rc && w->n_unknown)
        log_warning_once("%s: %lld of %lld tensors are not known for architecture %s and are not used, '%s' the first", path, (long long)w->n_unknown, (long long)all, arch->arch, w->unknown);
    if (!rc) rc = mem_alloc(list, (size_t)w->n, sizeof **list, err);
    for (int64_t i = 0; !rc && i < w->n; i++) (*list)[i] = &w->entry[i].tensor;
    *n = w->n;
    return rc;
}

int gguf_weights_open(struct gguf_weights **out, const char *path, const struct tensor ***tensor, int64_t *n, json_t **config,
                      json_t **generation, sail_err *err)
{
    if (mem_alloc(out, 1, sizeof **out, err)) return SAIL_FAILED;
    return open_all(*out, path, tensor, n, config, generation, err); // gguf_weights_close releases what a failure left
}

void gguf_weights_close(struct gguf_weights *w)
{
    if (!w) return;
    for (int64_t i = 0; i < w->n; i++) free((char *)(uintptr_t)w->entry[i].tensor.name);
    free(w->entry);
    gguf_close(w->g);
    free(w);
}

static const struct entry *entry_of(const struct tensor *t) { return (const struct entry *)(const void *)t; }

const char *gguf_weights_type(const struct tensor *t) { return ggml_type_name(((const struct entry *)t)->source->type); }

const void *gguf_weights_map(const struct gguf_weights *w, const struct tensor *t)
{
    const struct entry *e = entry_of(t);
    (void)w;
    return e->layout == LAYOUT_SAME && is_plain(e->source->type) ? e->source->data : NULL;
}

/* One row of the file as f32; quantised values are rounded to bf16, so that a folder made from the file is the same model. */
static void file_row(const struct entry *e, int64_t row, int64_t width, float *out)
{
    int values, block;
    ggml_block(e->source->type, &values, &block);
    ggml_dequantise(out, e->source->data + (size_t)(row * width / values) * (size_t)block, e->source->type, width);
    if (is_plain(e->source->type)) return;
    for (int64_t i = 0; i < width; i++) out[i] = bf16_to_f32(f32_to_bf16(out[i]));
}

int gguf_weights_load(const struct gguf_weights *w, const struct tensor *t, void *dst, enum dtype dt, sail_err *err)
{
    const struct entry *e = entry_of(t);
    const size_t size = dtype_size(dt);
    const bool transposed = e->layout == LAYOUT_TRANSPOSED;
    const bool by_element = t->n_dim == 1 && e->layout != LAYOUT_SAME && e->layout != LAYOUT_PLUS_ONE && e->layout != LAYOUT_STACKED;
    const int64_t count = tensor_count(t), width = by_element ? 1 : e->source->dim[0], rows = width ? count / width : 0;
    char *to = dst;
    float *row;
    if (mem_alloc(&row, (size_t)width, sizeof *row, err)) return SAIL_FAILED;
    for (int64_t r = 0; r < rows; r++) {
        file_row(e, transposed ? r : e->row + gguf_file_row(e->layout, w->heads, rows, r), width, row);
        for (int64_t i = 0; e->layout == LAYOUT_PLUS_ONE && i < width; i++) row[i] -= 1;
        if (transposed) {
            for (int64_t i = 0; i < width; i++) tensor_convert(to + (size_t)(i * rows + r) * size, dt, &row[i], DTYPE_F32, 1);
        } else {
            tensor_convert(to + (size_t)(r * width) * size, dt, row, DTYPE_F32, width);
        }
    }
    free(row);
    return SAIL_OK;
}

void gguf_weights_drop(const struct gguf_weights *w, const struct tensor *t)
{
    (void)w;
    file_map_drop(entry_of(t)->source->data, entry_of(t)->source->bytes);
}
