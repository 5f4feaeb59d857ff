/* The weights of a folder: one file, or shards of a given size and the index that tells them apart. One tensor is in memory at a time. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "io/safetensors.h"
#include "model/internal.h"

struct shards {
    struct policy policy;
    int dtype;
    struct tensor *tensor; /* (n) what will be written, without data */
    char head_name[NAME_SIZE];
    int64_t n;
    int64_t *end; /* (n_shard) one past a shard's last tensor */
    int64_t n_shard;
    int64_t start; /* of the shard that is being written */
    void *data;    /* of the tensor that is being written */
};

static size_t bytes_of(const struct tensor *t) { return (size_t)tensor_count(t) * dtype_size(t->dtype); }

static int list_tensors(struct shards *s, sail_err *err)
{
    const struct model *m = s->policy.model;
    const int64_t n_file = weights_count(m->file);
    int rc = mem_alloc(&s->tensor, (size_t)n_file + 2, sizeof *s->tensor, err);
    for (int64_t i = 0; !rc && i < n_file; i++)
        if (!score_head_replaces(m, weights_at(m->file, i)->name)) s->tensor[s->n++] = *weights_at(m->file, i);
    if (!rc && untied_head(s->policy, &s->tensor[s->n], s->head_name) && !weights_find(m->file, s->head_name)) s->n++;
    if (!rc && m->fresh_head) s->tensor[s->n++] = (struct tensor){.name = "score.weight", .dtype = m->facts.file_dtype, .n_dim = 2, .dim = {1, m->config.hidden}};
    for (int64_t i = 0; i < s->n; i++)
        if (s->dtype != SAVE_AS_IS) s->tensor[i].dtype = (enum dtype)s->dtype;
    return rc;
}

/* In the order of the tensors; one that is larger than the limit has a shard to itself. */
static int split(struct shards *s, uint64_t limit, sail_err *err)
{
    uint64_t filled = 0;
    int rc = mem_alloc(&s->end, (size_t)s->n + 1, sizeof *s->end, err);
    for (int64_t i = 0; !rc && i < s->n; i++) {
        const uint64_t bytes = bytes_of(&s->tensor[i]);
        if (!s->n_shard || filled + bytes > limit) {
            s->n_shard++;
            filled = 0;
        }
        filled += bytes;
        s->end[s->n_shard - 1] = i + 1;
    }
    return rc;
}

static int next_tensor(void *context, int64_t i, const void **data, sail_err *err)
{
    struct shards *s = context;
    struct tensor out;
    free(s->data);
    s->data = NULL;
    int rc = saved_tensor(s->policy, &s->tensor[s->start + i], s->dtype, &out, err);
    if (!rc) *data = s->data = (void *)(uintptr_t)out.data;
    return rc;
}

static char *shard_name(const struct shards *s, int64_t i)
{
    return s->n_shard == 1 ? mem_strdup("model.safetensors") : mem_printf("model-%05lld-of-%05lld.safetensors", (long long)i + 1, (long long)s->n_shard);
}

static int write_index(const struct shards *s, const char *folder, sail_err *err)
{
    uint64_t bytes = 0;
    json_t *map = json_object();
    for (int64_t i = 0, k = 0; i < s->n; i++) {
        if (i == s->end[k]) k++;
        char *name = shard_name(s, k);
        json_object_set_new(map, s->tensor[i].name, json_string(name));
        bytes += bytes_of(&s->tensor[i]);
        free(name);
    }
    json_t *index = json_pack("{s{sI}so}", "metadata", "total_size", (json_int_t)bytes, "weight_map", map);
    char *text = index ? json_dumps(index, JSON_INDENT(2) | JSON_SORT_KEYS) : NULL, *path = path_join(folder, "model.safetensors.index.json");
    int rc = text ? file_replace(path, text, strlen(text), err) : err_memory(err, 0);
    json_decref(index);
    free(text);
    free(path);
    return rc;
}

int save_weights(struct policy p, const char *folder, int dtype, uint64_t shard_bytes, sail_err *err)
{
    struct shards s = {.policy = p, .dtype = dtype};
    int rc = list_tensors(&s, err);
    if (!rc) rc = split(&s, shard_bytes, err);
    for (int64_t i = 0; !rc && i < s.n_shard; i++) {
        char *name = shard_name(&s, i), *path = path_join(folder, name);
        rc = safetensors_stream(path, s.tensor + s.start, s.end[i] - s.start, NULL, 0, next_tensor, &s, err);
        s.start = s.end[i];
        free(name);
        free(path);
    }
    if (!rc && s.n_shard > 1) rc = write_index(&s, folder, err);
    free(s.data);
    free(s.end);
    free(s.tensor);
    return rc;
}
