/* Layout: u64 little-endian header length, JSON header, data. The header's offsets must cover the data without hole or overlap, in order. */
#include "io/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"

enum { MAX_HEADER = 100000000, MAX_NAME = 512, MAX_DIMS = 8 };

static const char *const dtype_names[DTYPE_COUNT] = {"F32", "BF16", "F16", "F64", "I64", "I32", "U8"};

static int find_dtype(const char *name, enum dtype *out)
{
    for (int i = 0; i < DTYPE_COUNT; i++)
        if (name && !strcmp(name, dtype_names[i])) return *out = (enum dtype)i, 0;
    return -1;
}

/* One entry of the header, checked by itself. */
static int read_entry(const struct safetensors *s, const char *name, json_t *info, struct tensor *t, uint64_t span[2], sail_err *err)
{
    json_t *shape = json_object_get(info, "shape"), *offsets = json_object_get(info, "data_offsets");
    const char *dtype = json_string_value(json_object_get(info, "dtype"));
    *t = (struct tensor){.name = name, .n_dim = (int)json_array_size(shape)};
    if (strlen(name) > MAX_NAME) return err_set(err, SAIL_FAILED, "%s: a tensor name has more than %d bytes", s->path, MAX_NAME);
    if (find_dtype(dtype, &t->dtype)) return err_set(err, SAIL_FAILED, "%s: tensor '%s': dtype '%s' is not supported", s->path, name, dtype ? dtype : "(absent)");
    if (!json_is_array(shape) || json_array_size(shape) > MAX_DIMS) return err_set(err, SAIL_FAILED, "%s: tensor '%s': expected a shape of at most %d dims", s->path, name, MAX_DIMS);
    size_t count = 1;
    for (int i = 0; i < t->n_dim; i++) {
        json_t *d = json_array_get(shape, (size_t)i);
        if (!json_is_integer(d) || json_integer_value(d) < 0) return err_set(err, SAIL_FAILED, "%s: tensor '%s': shape[%d] is not a size", s->path, name, i);
        t->dim[i] = json_integer_value(d);
        if (!size_mul(&count, count, (size_t)t->dim[i])) return err_set(err, SAIL_FAILED, "%s: tensor '%s': the shape's product overflows", s->path, name);
    }
    size_t bytes;
    if (!size_mul(&bytes, count, dtype_size(t->dtype))) return err_set(err, SAIL_FAILED, "%s: tensor '%s': its size overflows", s->path, name);
    for (int i = 0; i < 2; i++) {
        json_t *o = json_array_get(offsets, (size_t)i);
        if (!json_is_integer(o) || json_integer_value(o) < 0 || json_array_size(offsets) != 2) return err_set(err, SAIL_FAILED, "%s: tensor '%s': data_offsets: expected [begin, end]", s->path, name);
        span[i] = (uint64_t)json_integer_value(o);
    }
    if (span[1] < span[0] || span[1] - span[0] != bytes)
        return err_set(err, SAIL_FAILED, "%s: tensor '%s': data_offsets [%llu, %llu] hold %lld bytes, its shape and dtype need %zu", s->path, name, (unsigned long long)span[0],
                       (unsigned long long)span[1], (long long)(span[1] - span[0]), bytes);
    return SAIL_OK;
}

struct entry {
    struct tensor tensor;
    uint64_t begin, end;
};

static int by_offset(const void *x, const void *y)
{
    const struct entry *a = x, *b = y;
    if (a->begin != b->begin) return a->begin < b->begin ? -1 : 1;
    if (a->end != b->end) return a->end < b->end ? -1 : 1;
    return strcmp(a->tensor.name, b->tensor.name);
}

/* Sorted by offset, the tensors must tile the data from 0 to the end of the file. */
static int place_tensors(struct safetensors *s, struct entry *e, int64_t n, uint64_t data_start, sail_err *err)
{
    qsort(e, (size_t)n, sizeof *e, by_offset);
    uint64_t at = 0;
    const uint64_t data_len = s->map.len - data_start;
    for (int64_t i = 0; i < n; i++) {
        if (e[i].begin != at)
            return err_set(err, SAIL_FAILED, "%s: tensor '%s': data begin at offset %llu, expected %llu (a hole or an overlap)", s->path, e[i].tensor.name, (unsigned long long)e[i].begin,
                           (unsigned long long)at);
        if (e[i].end > data_len)
            return err_set(err, SAIL_FAILED, "%s: tensor '%s': data end at offset %llu, the file has %llu bytes of data", s->path, e[i].tensor.name, (unsigned long long)e[i].end,
                           (unsigned long long)data_len);
        at = e[i].end;
        e[i].tensor.data = (void *)(uintptr_t)(s->map.data + data_start + e[i].begin);
        s->tensor[i] = e[i].tensor;
    }
    if (at != data_len)
        return err_set(err, SAIL_FAILED, "%s: the tensors end at offset %llu, the file has %llu bytes of data (cut short or with a tail)", s->path, (unsigned long long)at, (unsigned long long)data_len);
    return SAIL_OK;
}

static int read_tensors(struct safetensors *s, json_t *header, uint64_t data_start, sail_err *err)
{
    struct entry *e;
    int rc = mem_alloc(&e, json_object_size(header), sizeof *e, err);
    if (!rc) rc = mem_alloc(&s->tensor, json_object_size(header), sizeof *s->tensor, err);
    int64_t n = 0;
    const char *name;
    json_t *info;
    json_object_foreach(header, name, info)
    {
        if (rc || !strcmp(name, "__metadata__")) continue;
        uint64_t span[2];
        rc = read_entry(s, name, info, &e[n].tensor, span, err);
        e[n].begin = span[0];
        e[n++].end = span[1];
    }
    if (!rc) rc = place_tensors(s, e, n, data_start, err);
    s->n = n;
    free(e);
    return rc;
}

/* The header lives on: the tensors' names are its keys. */
static int check_metadata(struct safetensors *s, sail_err *err)
{
    json_t *m = json_object_get(s->metadata, "__metadata__"), *value;
    const char *key;
    if (!m || json_is_null(m)) return SAIL_OK;
    if (!json_is_object(m)) return err_set(err, SAIL_FAILED, "%s: __metadata__: expected an object of strings", s->path);
    json_object_foreach(m, key, value)
    {
        if (!json_is_string(value)) return err_set(err, SAIL_FAILED, "%s: __metadata__ '%s': expected a string", s->path, key);
    }
    return SAIL_OK;
}

int safetensors_open(struct safetensors *s, const char *path, sail_err *err)
{
    *s = (struct safetensors){.path = mem_strdup(path)};
    int rc = file_map_open(&s->map, path, err);
    uint64_t n = 0;
    if (!rc && s->map.len < 8) rc = err_set(err, SAIL_FAILED, "%s: %zu bytes are too few for a safetensors file", path, s->map.len);
    if (!rc) {
        for (int i = 7; i >= 0; i--) n = n << 8 | s->map.data[i];
        if (n > MAX_HEADER || n > s->map.len - 8)
            rc = err_set(err, SAIL_FAILED, "%s: a header of %llu bytes does not fit (file of %zu bytes, limit %d)", path, (unsigned long long)n, s->map.len, MAX_HEADER);
    }
    if (!rc) {
        json_error_t why;
        s->metadata = json_loadb((const char *)s->map.data + 8, n, JSON_REJECT_DUPLICATES, &why);
        if (!json_is_object(s->metadata)) rc = err_set(err, SAIL_FAILED, "%s: the header is not a JSON object: %s", path, s->metadata ? "another type" : why.text);
    }
    if (!rc) rc = check_metadata(s, err);
    if (!rc) rc = read_tensors(s, s->metadata, 8 + n, err);
    if (rc) safetensors_close(s);
    return rc;
}

void safetensors_close(struct safetensors *s)
{
    free(s->tensor);
    json_decref(s->metadata);
    file_map_close(&s->map);
    free(s->path);
    *s = (struct safetensors){0};
}

const struct tensor *safetensors_find(const struct safetensors *s, const char *name)
{
    for (int64_t i = 0; i < s->n; i++)
        if (!strcmp(s->tensor[i].name, name)) return &s->tensor[i];
    return NULL;
}

/* The reference writer's order of dtypes, widest first. */
static int dtype_rank(enum dtype t)
{
    static const int rank[DTYPE_COUNT] = {[DTYPE_I64] = 0, [DTYPE_F64] = 1, [DTYPE_F32] = 2, [DTYPE_I32] = 3, [DTYPE_BF16] = 4, [DTYPE_F16] = 5, [DTYPE_U8] = 6};
    return rank[t];
}

static int by_dtype_and_name(const void *x, const void *y)
{
    const struct tensor *a = *(const struct tensor *const *)x, *b = *(const struct tensor *const *)y;
    const int d = dtype_rank(a->dtype) - dtype_rank(b->dtype);
    return d ? d : strcmp(a->name, b->name);
}

static void write_header(struct buf *b, const struct tensor *const *t, int64_t n, const char *const (*metadata)[2], int n_metadata)
{
    buf_puts(b, "{\"__metadata__\":{\"format\":\"pt\"");
    for (int i = 0; i < n_metadata; i++) {
        buf_putc(b, ',');
        buf_json_string(b, metadata[i][0], strlen(metadata[i][0]));
        buf_putc(b, ':');
        buf_json_string(b, metadata[i][1], strlen(metadata[i][1]));
    }
    buf_putc(b, '}');
    uint64_t at = 0;
    for (int64_t i = 0; i < n; i++) {
        buf_putc(b, ',');
        buf_json_string(b, t[i]->name, strlen(t[i]->name));
        buf_printf(b, ":{\"dtype\":\"%s\",\"shape\":[", dtype_names[t[i]->dtype]);
        for (int d = 0; d < t[i]->n_dim; d++) buf_printf(b, d ? ",%lld" : "%lld", (long long)t[i]->dim[d]);
        const uint64_t end = at + (uint64_t)tensor_count(t[i]) * dtype_size(t[i]->dtype);
        buf_printf(b, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)at, (unsigned long long)end);
        at = end;
    }
    buf_putc(b, '}');
    while (b->len % 8) buf_putc(b, ' ');
}

static int write_all(struct file_writer *w, const struct buf *header, const struct tensor *const *t, int64_t n, sail_err *err)
{
    unsigned char length[8];
    for (int i = 0; i < 8; i++) length[i] = (unsigned char)((uint64_t)header->len >> (8 * i));
    int rc = file_writer_write(w, length, 8, err);
    if (!rc) rc = file_writer_write(w, header->data, header->len, err);
    for (int64_t i = 0; !rc && i < n; i++) rc = file_writer_write(w, t[i]->data, (size_t)tensor_count(t[i]) * dtype_size(t[i]->dtype), err);
    return rc;
}

int safetensors_write(const char *path, const struct tensor *tensor, int64_t n, const char *const (*metadata)[2], int n_metadata, sail_err *err)
{
    const struct tensor **order;
    if (mem_alloc(&order, (size_t)n, sizeof *order, err)) return SAIL_FAILED;
    for (int64_t i = 0; i < n; i++) order[i] = &tensor[i];
    qsort(order, (size_t)n, sizeof *order, by_dtype_and_name);
    struct buf header;
    buf_init(&header, MAX_HEADER);
    write_header(&header, order, n, metadata, n_metadata);
    struct file_writer w;
    int rc = header.failed ? err_set(err, SAIL_FAILED, "%s: the header has more than %d bytes", path, MAX_HEADER) : file_writer_open(&w, path, err);
    if (!rc) {
        rc = write_all(&w, &header, order, n, err);
        if (!rc)
            rc = file_writer_commit(&w, err);
        else
            file_writer_abandon(&w);
    }
    buf_release(&header);
    free(order);
    return rc;
}
