#include "data/row_reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/file.h"
#include "base/mem.h"
#include "parquet/parquet.h"

static const size_t max_file = (size_t)16 << 30;

struct row_reader {
    const struct data_files *files;
    bool (*needs)(const void *context, const char *column);
    const void *context;
    int32_t next_file;
    int64_t line;
    char *data; /* JSON lines */
    size_t len, at;
    json_t *array;
    struct parquet *parquet;
};

static const char *path_of(const struct row_reader *s) { return s->files->path[s->next_file - 1]; }
int32_t row_reader_file(const struct row_reader *s) { return s->next_file - 1; }
int64_t row_reader_line(const struct row_reader *s) { return s->line; }

static int refuse(const struct row_reader *s, const char *what, const char *why, sail_err *err)
{
    return err_set(err, SAIL_FAILED, "%s:%lld: %s%s", path_of(s), (long long)s->line, what, why);
}

/* ---------------------------------------------------------------- one file */

static bool is_parquet(const char *path)
{
    const size_t n = strlen(path);
    char magic[4] = "";
    FILE *f = fopen(path, "rb");
    const bool has_magic = f && fread(magic, 1, 4, f) == 4 && !memcmp(magic, "PAR1", 4);
    if (f) fclose(f);
    return has_magic || (n > 8 && !strcmp(path + n - 8, ".parquet"));
}

static int open_array(struct row_reader *s, sail_err *err)
{
    json_error_t why;
    s->array = json_loadb(s->data, s->len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
    free(s->data);
    s->data = NULL;
    if (json_is_array(s->array)) return SAIL_OK;
    s->line = why.line;
    return refuse(s, "not a JSON array of rows: ", why.text, err);
}

static int open_file(struct row_reader *s, sail_err *err)
{
    s->next_file++;
    s->line = 0;
    s->at = 0;
    if (is_parquet(path_of(s))) {
        int rc = parquet_open(&s->parquet, path_of(s), s->needs, s->context, err);
        if (!rc && s->next_file == 1) parquet_warn_left_out(s->parquet); // the other shards have the same columns
        return rc;
    }
    int rc = file_read_gz(path_of(s), max_file, &s->data, &s->len, err);
    if (rc) return rc;
    return s->data[strspn(s->data, " \t\r\n")] == '[' ? open_array(s, err) : SAIL_OK;
}

static void close_file(struct row_reader *s)
{
    free(s->data);
    s->data = NULL;
    json_decref(s->array);
    s->array = NULL;
    parquet_close(s->parquet);
    s->parquet = NULL;
}

/* ---------------------------------------------------------------- rows; *row NULL: the file has no more */

static int next_line(struct row_reader *s, json_t **row, sail_err *err)
{
    while (s->at < s->len) {
        const char *line = s->data + s->at, *end = memchr(line, '\n', s->len - s->at);
        size_t n = end ? (size_t)(end - line) : s->len - s->at;
        s->at += n + (end ? 1 : 0);
        s->line++;
        while (n && (line[n - 1] == '\r' || line[n - 1] == ' ' || line[n - 1] == '\t')) n--;
        if (!n) continue;
        json_error_t why;
        *row = json_loadb(line, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
        return json_is_object(*row) ? SAIL_OK : refuse(s, "not a JSON object: ", *row ? "another type" : why.text, err);
    }
    return SAIL_OK;
}

static int next_element(struct row_reader *s, json_t **row, sail_err *err)
{
    *row = json_incref(json_array_get(s->array, (size_t)s->line));
    if (!*row) return SAIL_OK;
    s->line++;
    return json_is_object(*row) ? SAIL_OK : refuse(s, "expected an object", "", err);
}

static int next_in_file(struct row_reader *s, json_t **row, sail_err *err)
{
    if (s->data) return next_line(s, row, err);
    if (s->array) return next_element(s, row, err);
    if (!s->parquet) return SAIL_OK;
    int rc = parquet_next(s->parquet, row, err);
    if (!rc && *row) s->line++;
    return rc;
}

int row_reader_next(struct row_reader *s, json_t **row, sail_err *err)
{
    *row = NULL;
    for (;;) {
        int rc = next_in_file(s, row, err);
        if (rc) {
            json_decref(*row);
            *row = NULL;
        }
        if (rc || *row || s->next_file == s->files->n) return rc;
        close_file(s);
        if ((rc = open_file(s, err))) return rc;
    }
}

int row_reader_open(struct row_reader **out, const struct data_files *files, bool (*needs)(const void *context, const char *column), const void *context, sail_err *err)
{
    struct row_reader *s;
    *out = NULL;
    int rc = mem_alloc(&s, 1, sizeof *s, err);
    if (rc) return rc;
    *s = (struct row_reader){.files = files, .needs = needs, .context = context};
    *out = s;
    return SAIL_OK;
}

void row_reader_close(struct row_reader *s)
{
    if (!s) return;
    close_file(s);
    free(s);
}
