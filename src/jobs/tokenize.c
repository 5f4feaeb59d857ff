/* sail tokenize: a line of text in, a line of ids out; --decode the other way. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "jobs/jobs.h"
#include "tok/tokenizer.h"

static int print_ids(const struct ids *v, struct buf *out)
{
    buf_putc(out, '[');
    for (size_t i = 0; i < v->n; i++) buf_printf(out, i ? ", %d" : "%d", (int)v->id[i]);
    return buf_puts(out, "]\n");
}

static int parse(const char *line, size_t n, json_t **out, const char *path, int64_t number, sail_err *err)
{
    json_error_t why;
    *out = json_loadb(line, n, JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
    return *out ? SAIL_OK : err_set(err, SAIL_FAILED, "%s:%lld: not JSON: %s", path, (long long)number, why.text);
}

static int encode_line(const sail_config *c, const struct tokenizer *t, const char *line, size_t n, const char *path, int64_t number, struct buf *out, sail_err *err)
{
    struct ids ids = {0};
    json_t *j = NULL;
    int rc = c->json_file ? parse(line, n, &j, path, number, err) : SAIL_OK;
    if (!rc && j && !json_is_string(j)) rc = err_set(err, SAIL_FAILED, "%s:%lld: expected a JSON string", path, (long long)number);
    if (!rc) rc = tokenizer_encode(t, j ? json_string_value(j) : line, j ? json_string_length(j) : n, c->special, &ids, err);
    if (!rc) print_ids(&ids, out);
    json_decref(j);
    ids_release(&ids);
    return rc;
}

static int decode_line(const sail_config *c, const struct tokenizer *t, const char *line, size_t n, const char *path, int64_t number, struct buf *out, sail_err *err)
{
    json_t *j, *v;
    size_t i;
    struct ids ids = {0};
    int rc = parse(line, n, &j, path, number, err);
    if (!rc && !json_is_array(j)) rc = err_set(err, SAIL_FAILED, "%s:%lld: expected an array of ids", path, (long long)number);
    json_array_foreach(j, i, v)
    {
        if (!rc && (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > INT32_MAX)) rc = err_set(err, SAIL_FAILED, "%s:%lld: element %zu is not an id", path, (long long)number, i);
        if (!rc) rc = ids_push(&ids, (int32_t)json_integer_value(v), err);
    }
    struct buf text;
    buf_init(&text, 0);
    if (!rc && (rc = tokenizer_decode(t, ids.id, ids.n, c->skip_special, &text, err))) err_context(err, "%s:%lld", path, (long long)number);
    if (!rc) {
        buf_json_string(out, text.data ? text.data : "", text.len);
        buf_putc(out, '\n');
    }
    buf_release(&text);
    ids_release(&ids);
    json_decref(j);
    return rc;
}

int job_tokenize(const sail_config *c, sail_err *err)
{
    const char *path = c->text_file ? c->text_file : c->json_file;
    int rc = config_require(c, OPTION_model, err);
    if (!rc && (!path || (c->text_file && c->json_file))) rc = err_set(err, SAIL_USAGE, "`sail tokenize` needs one of --text-file and --json-file");
    struct tokenizer *t = NULL;
    char *data = NULL;
    size_t len = 0;
    if (!rc) rc = tokenizer_open(&t, c->model, err);
    if (!rc) rc = file_read(path, (size_t)16 << 30, &data, &len, err);
    struct buf out;
    buf_init(&out, (size_t)32 << 30);
    int64_t number = 0;
    for (size_t at = 0; !rc && at < len;) {
        const char *end = memchr(data + at, '\n', len - at);
        const size_t n = end ? (size_t)(end - data) - at : len - at;
        rc = (c->decode ? decode_line : encode_line)(c, t, data + at, n, path, ++number, &out, err);
        if (!rc && (out.len > 1 << 16)) {
            fwrite(out.data, 1, out.len, stdout);
            buf_clear(&out);
        }
        at += n + 1;
    }
    if (!rc && out.failed) rc = err_memory(err, out.len);
    if (!rc && out.len) fwrite(out.data, 1, out.len, stdout);
    buf_release(&out);
    free(data);
    tokenizer_close(t);
    return rc;
}
