/* A model's weights from a folder of safetensors (one file or shards with an index) or a GGUF file: one face. */
#include "io/weights.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "io/gguf_weights.h"
#include "io/safetensors.h"

struct weights {
    char *path;
    json_t *config, *generation;
    struct safetensors *shard;
    int64_t n_shard;
    const struct tensor **tensor; /* of all shards, or of the GGUF file */
    const struct tensor **by_name;
    int64_t n;
    struct gguf_weights *gguf;    /* NULL: a folder */
};

static int load_json(const char *folder, const char *name, bool needed, size_t flags, json_t **out, sail_err *err)
{
    char *path = path_join(folder, name), *text;
    size_t n;
    int rc = SAIL_OK;
    *out = NULL;
    if (!path_exists(path)) {
        if (needed)
            rc = err_set(err, SAIL_FAILED,
                         "%s: no such file: expected a Hugging Face model folder (config.json, model.safetensors) or a .gguf file", path);
    } else if (!(rc = file_read(path, (size_t)1 << 28, &text, &n, err))) {
        json_error_t why;
        *out = json_loadb(text, n, flags, &why);
        free(text);
        if (!json_is_object(*out))
            rc = err_set(err, SAIL_FAILED, "%s:%d: expected a JSON object: %s", path, *out ? 1 : why.line, *out ? "got another type" : why.text);
    }
    free(path);
    return rc;
}

static int open_shard(struct weights *w, const char *name, sail_err *err)
{
    char *path = path_join(w->path, name);
    int rc = safetensors_open(&w->shard[w->n_shard], path, err);
    if (!rc) w->n_shard++;
    free(path);
    return rc;
}

/* A shard's name must stay inside the folder: decided on the text, since hub caches are symlinks that lead outside. */
static bool plain_name(const char *s)
{
    const size_t n = strlen(s);
    if (n < 13 || s[0] == '.' || strcmp(s + n - 12, ".safetensors")) return false;
    return strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == n;
}

static int64_t shard_index(const struct weights *w, const char *name)
{
    for (int64_t i = 0; i < w->n_shard; i++) {
        const char *slash = strrchr(w->shard[i].path, '/');
        if (!strcmp(slash ? slash + 1 : w->shard[i].path, name)) return i;
    }
    return -1;
}

static int open_index(struct weights *w, json_t *index, sail_err *err)
{
    static const char index_name[] = "model.safetensors.index.json";
    json_t *map = json_object_get(index, "weight_map"), *value;
    const char *name;
    if (!json_is_object(map)) return err_set(err, SAIL_FAILED, "%s/%s: \"weight_map\": expected an object", w->path, index_name);
    int rc = mem_alloc(&w->shard, json_object_size(map), sizeof *w->shard, err);
    json_object_foreach(map, name, value)
    {
        const char *file = json_string_value(value);
        if (rc) return rc;
        if (!file || !plain_name(file))
            return err_set(err, SAIL_FAILED, "%s/%s: tensor '%s': '%s': expected a plain .safetensors file name", w->path, index_name, name,
                           file ? file : "(no string)");
        int64_t at = shard_index(w, file);
        if (at < 0) {
            rc = open_shard(w, file, err);
            at = w->n_shard - 1;
        }
        if (!rc && !safetensors_find(&w->shard[at], name))
            rc = err_set(err, SAIL_FAILED, "%s/%s: no tensor '%s', which %s says is there", w->path, file, name, index_name);
    }
    for (int64_t s = 0; !rc && s < w->n_shard; s++)
        for (int64_t i = 0; !rc && i < w->shard[s].n; i++)
            if (!json_object_get(map, w->shard[s].tensor[i].name))
                rc = err_set(err, SAIL_FAILED, "%s: tensor '%s' is not in %s", w->shard[s].path, w->shard[s].tensor[i].name, index_name);
    return rc;
}

static int by_name(const void *x, const void *y)
{
    return strcmp((*(const struct tensor *const *)x)->name, (*(const struct tensor *const *)y)->name);
}

static int sort_names(struct weights *w, sail_err *err)
{
    int rc = mem_alloc(&w->by_name, (size_t)w->n, sizeof *w->by_name, err);
    if (rc) return rc;
    if (w->n) memcpy(w->by_name, w->tensor, (size_t)w->n * sizeof *w->by_name);
    qsort(w->by_name, (size_t)w->n, sizeof *w->by_name, by_name);
    for (int64_t i = 1; i < w->n; i++)
        if (!strcmp(w->by_name[i - 1]->name, w->by_name[i]->name))
            return err_set(err, SAIL_FAILED, "%s: tensor '%s' is there twice", w->path, w->by_name[i]->name);
    return SAIL_OK;
}

static int collect(struct weights *w, sail_err *err)
{
    for (int64_t s = 0; s < w->n_shard; s++) w->n += w->shard[s].n;
    int rc = mem_alloc(&w->tensor, (size_t)w->n, sizeof *w->tensor, err);
    int64_t n = 0;
    for (int64_t s = 0; !rc && s < w->n_shard; s++)
        for (int64_t i = 0; i < w->shard[s].n; i++) w->tensor[n++] = &w->shard[s].tensor[i];
    return rc;
}

static int open_folder(struct weights *w, sail_err *err)
{
    int rc = load_json(w->path, "config.json", true, 0, &w->config, err);
    if (!rc) rc = load_json(w->path, "generation_config.json", false, 0, &w->generation, err);
    if (rc) return rc;
    char *single = path_join(w->path, "model.safetensors");
    const bool one = path_exists(single);
    free(single);
    if (one) {
        rc = mem_alloc(&w->shard, 1, sizeof *w->shard, err);
        if (!rc) rc = open_shard(w, "model.safetensors", err);
    } else {
        json_t *index;
        if (!(rc = load_json(w->path, "model.safetensors.index.json", false, JSON_REJECT_DUPLICATES, &index, err)))
            rc = index ? open_index(w, index, err)
                       : err_set(err, SAIL_FAILED, "%s: no model.safetensors and no model.safetensors.index.json", w->path);
        json_decref(index);
    }
    return rc ? rc : collect(w, err);
}

int weights_open(struct weights **out, const char *path, sail_err *err)
{
    struct weights *w;
    *out = NULL;
    if (mem_alloc(&w, 1, sizeof *w, err)) return SAIL_FAILED;
    w->path = mem_strdup(path);
    const size_t n = strlen(path);
    int rc;
    if (n > 5 && !strcmp(path + n - 5, ".gguf")) {
        rc = gguf_weights_open(&w->gguf, path, &w->tensor, &w->n, &w->config, &w->generation, err);
    } else if (!path_is_dir(path)) {
        rc = err_set(err, SAIL_FAILED, "%s: expected a model folder or a .gguf file, got %s", path, path_exists(path) ? "another file" : "nothing there");
    } else {
        rc = open_folder(w, err);
    }
    if (!rc) rc = sort_names(w, err);
    if (rc)
        weights_close(w);
    else
        *out = w;
    return rc;
}

void weights_close(struct weights *w)
{
    if (!w) return;
    for (int64_t i = 0; i < w->n_shard; i++) safetensors_close(&w->shard[i]);
    free(w->shard);
    free(w->tensor);
    free(w->by_name);
    gguf_weights_close(w->gguf);
    json_decref(w->config);
    json_decref(w->generation);
    free(w->path);
    free(w);
}

const char *weights_path(const struct weights *w) { return w->path; }
bool weights_is_gguf(const struct weights *w) { return w->gguf != NULL; }
json_t *weights_config(const struct weights *w) { return w->config; }
json_t *weights_generation_config(const struct weights *w) { return w->generation; }
int64_t weights_count(const struct weights *w) { return w->n; }
const struct tensor *weights_at(const struct weights *w, int64_t i) { return w->tensor[i]; }

const char *weights_stored_type(const struct weights *w, const struct tensor *t) { return w->gguf ? gguf_weights_type(t) : dtype_name(t->dtype); }

int64_t weights_place(const struct weights *w, const char *name)
{
    const struct tensor key = {.name = name}, *wanted = &key;
    const struct tensor **found = w->n ? bsearch(&wanted, w->by_name, (size_t)w->n, sizeof *w->by_name, by_name) : NULL;
    return found ? found - w->by_name : -1;
}

const struct tensor *weights_find(const struct weights *w, const char *name)
{
    const int64_t i = weights_place(w, name);
    return i < 0 ? NULL : w->by_name[i];
}

const void *weights_map(const struct weights *w, const struct tensor *t)
{
    const void *data = w->gguf ? gguf_weights_map(w->gguf, t) : t->data;
    return data && (uintptr_t)data % dtype_size(t->dtype) ? NULL : data;
}

int weights_load(const struct weights *w, const struct tensor *t, void *dst, enum dtype dt, sail_err *err)
{
    if (w->gguf) return gguf_weights_load(w->gguf, t, dst, dt, err);
    if (!dtype_is_float(t->dtype))
        return err_set(err, SAIL_FAILED, "%s: tensor '%s': expected F32, BF16, F16 or F64, got %s", w->path, t->name, dtype_name(t->dtype));
    tensor_convert(dst, dt, t->data, t->dtype, tensor_count(t));
    return SAIL_OK;
}

void weights_drop(const struct weights *w, const struct tensor *t)
{
    if (w->gguf)
        gguf_weights_drop(w->gguf, t);
    else
        file_map_drop(t->data, (size_t)tensor_count(t) * dtype_size(t->dtype));
}
