/* FileMetaData: the schema, and where every column of every row group lies. Nothing here is believed before it is held against the file. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "parquet/internal.h"

int parquet_damaged(const struct parquet *p, const char *what, const struct thrift *t, sail_err *err)
{
    return err_set(err, SAIL_FAILED, "%s: damaged Parquet %s: %s", p->path, what, t->failed);
}

const char *codec_name(int64_t codec)
{
    static const char *const name[] = {"none", "SNAPPY", "GZIP", "LZO", "BROTLI", "LZ4", "ZSTD", "LZ4_RAW"};
    return codec >= 0 && codec < (int64_t)(sizeof name / sizeof *name) ? name[codec] : "unknown to the format";
}

const char *encoding_name(int64_t encoding)
{
    static const char *const name[] = {"PLAIN", "GROUP_VAR_INT", "PLAIN_DICTIONARY", "RLE", "BIT_PACKED", "DELTA_BINARY_PACKED", "DELTA_LENGTH_BYTE_ARRAY",
                                       "DELTA_BYTE_ARRAY", "RLE_DICTIONARY", "BYTE_STREAM_SPLIT"};
    return encoding >= 0 && encoding < (int64_t)(sizeof name / sizeof *name) ? name[encoding] : "unknown to the format";
}

bool codec_known(int64_t codec) { return codec == CODEC_NONE || codec == CODEC_SNAPPY || codec == CODEC_GZIP || codec == CODEC_ZSTD; }

bool encoding_known(int64_t encoding)
{
    return encoding == ENCODING_PLAIN || encoding == ENCODING_PLAIN_DICTIONARY || encoding == ENCODING_RLE || encoding == ENCODING_RLE_DICTIONARY;
}

/* ColumnMetaData as it stands in the file. */
struct column_facts {
    bool there, encrypted, elsewhere;
    int64_t physical, codec, n_value, compressed, data_page, dictionary_page;
    int64_t unknown_encoding; /* -1: all known */
};

static void read_encodings(struct thrift *t, const struct thrift_field *f, struct column_facts *c)
{
    const size_t n = thrift_list(t, f, THRIFT_I32);
    for (size_t i = 0; i < n && !t->failed; i++) {
        const int64_t encoding = thrift_varint_signed(t);
        if (!encoding_known(encoding) && encoding != ENCODING_BIT_PACKED) c->unknown_encoding = encoding; // older writers list BIT_PACKED for levels that are not there
    }
}

static void read_meta(struct thrift *t, struct column_facts *c)
{
    int64_t *const number[12] = {[1] = &c->physical, [4] = &c->codec, [5] = &c->n_value, [7] = &c->compressed, [9] = &c->data_page, [11] = &c->dictionary_page};
    c->there = true;
    for (struct thrift_field f = {0}; thrift_next(t, &f);) {
        if (f.id < 12 && number[f.id])
            *number[f.id] = thrift_int(t, &f);
        else if (f.id == 2)
            read_encodings(t, &f, c);
        else
            thrift_skip(t, &f);
    }
}

static void read_column(struct thrift *t, struct column_facts *c)
{
    *c = (struct column_facts){.physical = -1, .codec = -1, .n_value = -1, .compressed = -1, .data_page = -1, .dictionary_page = -1, .unknown_encoding = -1};
    for (struct thrift_field f = {0}; thrift_next(t, &f);) {
        if (f.id == 3 && thrift_struct(t, &f)) {
            read_meta(t, c);
            continue;
        }
        c->elsewhere |= f.id == 1;
        c->encrypted |= f.id == 8 || f.id == 9;
        thrift_skip(t, &f);
    }
}

static void refuse_column(struct parquet *p, const struct leaf *leaf, const char *what, const char *name)
{
    char **refused = &p->root.child[leaf->top].refused;
    if (!*refused) *refused = mem_printf("'%s' %s%s", leaf->path, what, name);
}

static int check_column(struct parquet *p, int i, const struct column_facts *c, struct chunk *out, sail_err *err)
{
    const struct leaf *leaf = &p->leaf[i];
    if (c->encrypted || c->elsewhere || !c->there) {
        refuse_column(p, leaf, c->encrypted ? "is encrypted" : c->elsewhere ? "lies in another file" : "has no metadata", "");
        return SAIL_OK;
    }
    if (c->unknown_encoding >= 0) refuse_column(p, leaf, "has the encoding ", encoding_name(c->unknown_encoding));
    if (!codec_known(c->codec)) refuse_column(p, leaf, "is compressed with ", codec_name(c->codec));
    if (c->physical != (int64_t)leaf->physical)
        return err_set(err, SAIL_FAILED, "%s: column '%s', row group %zu: type %lld, but %d in the schema", p->path, leaf->path, p->n_group, (long long)c->physical,
                       (int)leaf->physical);
    const int64_t start = c->dictionary_page > 0 && c->dictionary_page < c->data_page ? c->dictionary_page : c->data_page;
    if (start < 4 || c->compressed < 0 || (uint64_t)start > p->data_end || (uint64_t)c->compressed > p->data_end - (uint64_t)start)
        return err_set(err, SAIL_FAILED, "%s: column '%s', row group %zu: %lld bytes at offset %lld do not fit into the %zu bytes before the footer", p->path, leaf->path,
                       p->n_group, (long long)c->compressed, (long long)start, p->data_end);
    if (c->n_value < 0) return err_set(err, SAIL_FAILED, "%s: column '%s', row group %zu: %lld values", p->path, leaf->path, p->n_group, (long long)c->n_value);
    *out = (struct chunk){.start = (size_t)start, .len = (size_t)c->compressed, .codec = (enum codec)c->codec, .n_value = c->n_value};
    return SAIL_OK;
}

static int read_group(struct parquet *p, struct thrift *t, sail_err *err)
{
    int64_t rows = -1;
    size_t n_column = 0;
    void *grown = realloc(p->group_rows, (p->n_group + 1) * sizeof *p->group_rows);
    if (!grown) return err_memory(err, p->n_group * sizeof *p->group_rows);
    p->group_rows = grown;
    for (struct thrift_field f = {0}; thrift_next(t, &f);) {
        if (f.id == 3) {
            rows = thrift_int(t, &f);
        } else if (f.id == 1) {
            n_column = thrift_list(t, &f, THRIFT_STRUCT);
            if (n_column != (size_t)p->n_leaf) break;
            grown = realloc(p->chunk, (p->n_group + 1) * n_column * sizeof *p->chunk); // each of them has bytes in the footer
            if (!grown) return err_memory(err, p->n_group * n_column * sizeof *p->chunk);
            p->chunk = grown;
            struct chunk *chunk = p->chunk + p->n_group * n_column;
            memset(chunk, 0, n_column * sizeof *chunk);
            for (size_t i = 0; i < n_column && !t->failed; i++) {
                struct column_facts c;
                read_column(t, &c);
                int rc = t->failed ? SAIL_OK : check_column(p, (int)i, &c, &chunk[i], err);
                if (rc) return rc;
            }
        } else
            thrift_skip(t, &f);
    }
    if (t->failed) return parquet_damaged(p, "row group", t, err);
    if (n_column != (size_t)p->n_leaf) return err_set(err, SAIL_FAILED, "%s: row group %zu has %zu columns, the schema has %d", p->path, p->n_group, n_column, p->n_leaf);
    if (rows < 0) return err_set(err, SAIL_FAILED, "%s: row group %zu: %lld rows", p->path, p->n_group, (long long)rows);
    for (int i = 0; i < p->n_leaf; i++) {
        const int64_t n = p->chunk[p->n_group * (size_t)p->n_leaf + (size_t)i].n_value;
        if (!p->root.child[p->leaf[i].top].refused && (p->leaf[i].max_rep ? n < rows : n != rows))
            return err_set(err, SAIL_FAILED, "%s: column '%s', row group %zu: %lld values for %lld rows", p->path, p->leaf[i].path, p->n_group, (long long)n, (long long)rows);
    }
    p->group_rows[p->n_group++] = rows;
    return SAIL_OK;
}

static int read_groups(struct parquet *p, struct thrift *t, const struct thrift_field *f, sail_err *err)
{
    const size_t n = thrift_list(t, f, THRIFT_STRUCT);
    if (n && !p->n_leaf) return err_set(err, SAIL_FAILED, "%s: row groups before the schema", p->path);
    int rc = SAIL_OK;
    for (size_t i = 0; !rc && i < n && !t->failed; i++) rc = read_group(p, t, err);
    return rc;
}

int footer_read(struct parquet *p, const uint8_t *data, size_t len, sail_err *err)
{
    struct thrift t = {.at = data, .end = data + len};
    int64_t rows = -1, sum = 0;
    int rc = SAIL_OK;
    for (struct thrift_field f = {0}; !rc && thrift_next(&t, &f);) {
        if (f.id == 2)
            rc = schema_read(p, &t, &f, err);
        else if (f.id == 3)
            rows = thrift_int(&t, &f);
        else if (f.id == 4)
            rc = read_groups(p, &t, &f, err);
        else
            thrift_skip(&t, &f);
    }
    if (rc) return rc;
    if (t.failed) return parquet_damaged(p, "footer", &t, err);
    if (!p->n_leaf) return err_set(err, SAIL_FAILED, "%s: the footer has no schema", p->path);
    for (size_t g = 0; g < p->n_group; g++)
        if (__builtin_add_overflow(sum, p->group_rows[g], &sum)) return err_set(err, SAIL_FAILED, "%s: more rows than can be counted", p->path);
    if (sum != rows) return err_set(err, SAIL_FAILED, "%s: %lld rows in the footer, %lld in its row groups", p->path, (long long)rows, (long long)sum);
    return SAIL_OK;
}
