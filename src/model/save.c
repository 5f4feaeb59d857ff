/* A model as a Hugging Face folder: the tensors of the file that came in, in its names, shapes and types, with what was trained in their place. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "model/adapter.h"
#include "template/template.h"
#include "tok/tokenizer.h"

static const uint64_t DEFAULT_SHARD_BYTES = 5000000000; // as the hub's tools do

static const struct param *trained(const struct model *m, const char *name)
{
    for (int64_t i = 0; i < m->n_param; i++)
        if (!strcmp(m->param[i].name, name)) return &m->param[i];
    return NULL;
}

/* W += scale * B A, times DoRA's gains (those of the part); W is (out, in), or (in, out) where the family stores it so. */
static int merge_module(const struct lora_linear *l, int p, const float *gain, bool transposed, float *w, sail_err *err)
{
    const int64_t n_out = l->pb[p]->dim[0], n_in = l->pa[p]->dim[1], r = l->r[p];
    float *row;
    if (mem_alloc(&row, (size_t)n_in, sizeof *row, err)) return SAIL_FAILED;
    for (int64_t o = 0; o < n_out; o++) {
        memset(row, 0, (size_t)n_in * sizeof *row);
        for (int64_t k = 0; k < r; k++) {
            const float b = l->pb[p]->value[o * r + k], *x = l->pa[p]->value + k * n_in;
            for (int64_t j = 0; j < n_in; j++) row[j] += b * x[j];
        }
        for (int64_t j = 0; j < n_in; j++) {
            float *at = &w[transposed ? j * n_out + o : o * n_in + j];
            *at += l->scale[p] * row[j];
            if (gain) *at *= gain[o];
        }
    }
    free(row);
    return SAIL_OK;
}

/* For the module that `name` is the weight of. */
static int merge(const struct adapter *a, const char *name, float *w, sail_err *err)
{
    const struct model *m = a->model;
    for (int64_t i = 0; i < m->config.n_layer; i++)
        for (int id = 0; id < LINEAR_COUNT; id++)
            for (int64_t p = 0, from = 0; p < m->config.family->linear[id].n_part; from += m->layer[i].linear[id].w.part[p++].n_out) {
                const struct lora_linear *l = &a->linear[i * LINEAR_COUNT + id];
                char path[NAME_SIZE + 8];
                module_name(path, m, m->prefix, i, m->config.family->linear[id].part[p]);
                strcat(path, ".weight");
                if (l->on[p] && !strcmp(path, name)) return merge_module(l, (int)p, l->gain ? l->gain + from : NULL, m->config.family->conv1d, w, err);
            }
    return SAIL_OK;
}

static bool is_tensor_of(const char *name, const char *prefix, const char *module, const char *kind)
{
    char whole[NAME_SIZE];
    snprintf(whole, sizeof whole, "%s%s.%s", prefix, module, kind);
    return !strcmp(name, whole);
}

/* The adapter's own copy of the tensor: embeddings and heads (modules_to_save). */
static const struct param *replaced(const struct adapter *a, const char *name)
{
    const struct family *f = a->model->config.family;
    if (is_tensor_of(name, a->model->prefix, f->embed, "weight")) return a->saved[SAVED_EMBED].weight;
    const char *score = a->model->config.score_name;
    if (score && is_tensor_of(name, "", score, "bias")) return a->saved[SAVED_HEAD].bias;
    const bool head = score ? is_tensor_of(name, "", score, "weight") : is_tensor_of(name, "", f->head, "weight") || !strcmp(name, "lm_head.weight");
    return head ? a->saved[SAVED_HEAD].weight : NULL;
}

bool untied_head(struct policy p, struct tensor *out, char name[NAME_SIZE])
{
    const struct model *m = p.model;
    const struct adapter *a = p.adapter;
    snprintf(name, NAME_SIZE, "%s.weight", m->config.family->head);
    if (!a || m->config.reward_head || !m->config.tied || (!a->saved[SAVED_EMBED].weight && !a->saved[SAVED_HEAD].weight)) return false;
    *out = (struct tensor){.name = name, .dtype = m->facts.file_dtype, .n_dim = 2, .dim = {m->config.vocab, m->config.hidden}};
    return true;
}

/* What the tensor holds without training: the file's values; zeros of a new score head; the embeddings of a head that was tied to them. */
static int base_values(const struct model *m, const struct tensor *t, float *out, sail_err *err)
{
    const struct tensor *from = weights_find(m->file, t->name);
    char name[NAME_SIZE];
    snprintf(name, sizeof name, "%s%s.weight", m->prefix, m->config.family->embed);
    if (!from && !m->config.reward_head) from = weights_find(m->file, name);
    return from ? weights_load(m->file, from, out, DTYPE_F32, err) : SAIL_OK;
}

int saved_tensor(struct policy p, const struct tensor *t, int dtype, struct tensor *out, sail_err *err)
{
    const int64_t n = tensor_count(t);
    float *f32 = NULL;
    void *data = NULL;
    *out = *t;
    out->dtype = dtype == SAVE_AS_IS ? t->dtype : (enum dtype)dtype;
    const struct param *param = p.adapter ? replaced(p.adapter, t->name) : trained(p.model, t->name);
    int rc = mem_alloc(&f32, (size_t)n, sizeof *f32, err);
    if (!rc && param) memcpy(f32, param->value, (size_t)n * sizeof *f32);
    if (!rc && !param) rc = base_values(p.model, t, f32, err);
    if (!rc && p.adapter) rc = merge(p.adapter, t->name, f32, err);
    if (!rc) rc = mem_alloc(&data, (size_t)n, dtype_size(out->dtype), err);
    if (!rc) tensor_convert(data, out->dtype, f32, DTYPE_F32, n);
    free(f32);
    out->data = data;
    return rc;
}

static int write_json(const char *folder, const char *name, json_t *j, sail_err *err)
{
    if (!j) return SAIL_OK;
    char *text = json_dumps(j, JSON_INDENT(2)), *path = path_join(folder, name);
    int rc = text ? file_replace(path, text, strlen(text), err) : err_memory(err, 0);
    free(text);
    free(path);
    return rc;
}

/* What a GGUF has inside, as the files that a folder has beside its weights. */
static int write_inner_files(const struct model *m, const char *folder, sail_err *err)
{
    int rc = write_json(folder, "generation_config.json", weights_generation_config(m->file), err);
    if (!rc && tokenizer_exists(m->path)) rc = tokenizer_save_gguf(m->path, folder, err);
    char *source = rc ? NULL : template_source(m->path);
    if (source) {
        char *path = path_join(folder, "chat_template.jinja");
        rc = file_replace(path, source, strlen(source), err);
        free(path);
    }
    free(source);
    return rc;
}

/* Files beside the weights that other tools read: byte for byte. */
static int copy_others(const struct model *m, const char *folder, sail_err *err)
{
    static const char *const names[] = {"generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "tokenizer.model"};
    int rc = SAIL_OK;
    if (weights_is_gguf(m->file)) return write_inner_files(m, folder, err);
    for (size_t i = 0; !rc && i < sizeof names / sizeof *names; i++) {
        char *from = path_join(m->path, names[i]), *to = path_join(folder, names[i]), *data = NULL;
        size_t n;
        if (path_exists(from) && !(rc = file_read(from, (size_t)1 << 30, &data, &n, err))) rc = file_replace(to, data, n, err);
        free(data);
        free(from);
        free(to);
    }
    return rc;
}

int model_save(struct policy p, const char *folder, const struct save_options *o, sail_err *err)
{
    const struct model *m = p.model;
    json_t *config = json_deep_copy(weights_config(m->file));
    if (!config) return err_memory(err, 0);
    if (o->dtype != SAVE_AS_IS) {
        static const char *const name[] = {[DTYPE_F32] = "float32", [DTYPE_BF16] = "bfloat16", [DTYPE_F16] = "float16"};
        json_object_set_new(config, "torch_dtype", json_string(name[o->dtype]));
        if (json_object_get(config, "dtype")) json_object_set_new(config, "dtype", json_string(name[o->dtype]));
    }
    struct tensor head;
    char name[NAME_SIZE];
    if (untied_head(p, &head, name)) json_object_set_new(config, "tie_word_embeddings", json_false());
    struct dir_writer w;
    int rc = m->fresh_head ? score_head_config(m, config, err) : SAIL_OK;
    if (!rc && !(rc = dir_writer_open(&w, folder, err))) {
        rc = save_weights(p, w.temporary, o->dtype, o->shard_bytes ? o->shard_bytes : DEFAULT_SHARD_BYTES, err);
        if (!rc) rc = write_json(w.temporary, "config.json", config, err);
        if (!rc) rc = copy_others(m, w.temporary, err);
        if (!rc)
            rc = dir_writer_commit(&w, err);
        else
            dir_writer_abandon(&w);
    }
    json_decref(config);
    return rc;
}
