/* What the files of the Parquet reader share: the schema as a tree, the file's column chunks, and a column's cursor over its pages. */
#ifndef SAIL_PARQUET_INTERNAL_H
#define SAIL_PARQUET_INTERNAL_H

#include <jansson.h>
#include <stdint.h>

#include "base/file.h"
#include "parquet/parquet.h"
#include "parquet/thrift.h"

/* Numbers of the format (parquet.thrift). */
enum physical { PHYSICAL_BOOLEAN, PHYSICAL_INT32, PHYSICAL_INT64, PHYSICAL_INT96, PHYSICAL_FLOAT, PHYSICAL_DOUBLE, PHYSICAL_BYTE_ARRAY, PHYSICAL_FIXED, PHYSICAL_COUNT };
enum repetition { REQUIRED, OPTIONAL, REPEATED };
enum encoding { ENCODING_PLAIN = 0, ENCODING_PLAIN_DICTIONARY = 2, ENCODING_RLE = 3, ENCODING_BIT_PACKED = 4, ENCODING_RLE_DICTIONARY = 8 };
enum codec { CODEC_NONE = 0, CODEC_SNAPPY = 1, CODEC_GZIP = 2, CODEC_ZSTD = 6 };

enum value_kind { VALUE_BOOL, VALUE_INT32, VALUE_UINT32, VALUE_INT64, VALUE_UINT64, VALUE_FLOAT, VALUE_DOUBLE, VALUE_TEXT };
enum node_kind { NODE_LEAF, NODE_STRUCT, NODE_LIST };

/* A value of the schema. It is null below definition level def; a list's elements begin at level def + 1 and repeat at level rep. */
struct node {
    enum node_kind kind;
    char *name;
    bool optional;
    int def, rep;
    int leaf, n_leaf;     /* the columns below it, in the file's order */
    struct node *child;   /* of a list: its element */
    int n_child;
    char *refused;        /* first level only: what the reader does not know in it; NULL: nothing */
};

/* A column of values. */
struct leaf {
    char *path; /* "prompt.list.element.content" */
    enum physical physical;
    enum value_kind kind;
    int max_def, max_rep;
    int top; /* its first-level node */
    bool needed;
};

/* A column's pages in one row group. */
struct chunk {
    size_t start, len;
    enum codec codec;
    int64_t n_value;
};

struct hybrid {
    const uint8_t *at, *end;
    int width; /* bits */
    uint64_t left; /* values of the present run */
    bool packed;
    uint32_t value; /* of a repeated run */
    unsigned bit; /* of a packed run: the next value's offset from `at` */
};

/* A column in the row group that is being read. */
struct column {
    const struct parquet *file;
    const struct leaf *leaf;
    struct chunk chunk;
    const uint8_t *at, *end; /* pages not read yet */
    int64_t left;            /* values of pages not read yet */
    int64_t page_left;       /* values of the present page */
    struct hybrid rep, def, index;
    uint8_t *page;           /* the present page, where it had to be unpacked */
    const uint8_t *value, *value_end;
    unsigned bit;            /* plain booleans: of *value */
    enum encoding encoding;
    json_t **dictionary;
    size_t n_dictionary;
    bool peeked;
    int next_rep, next_def;
};

struct parquet {
    char *path;
    struct file_map map;
    size_t data_end;    /* the footer begins here */
    struct node root;   /* a struct; its children are the columns of the first level */
    struct leaf *leaf;
    int n_leaf;
    struct chunk *chunk; /* (n_group, n_leaf) */
    int64_t *group_rows; /* (n_group) */
    size_t n_group;
    struct column *column; /* (n_leaf) */
    size_t group;          /* the row group being read, counted from 1; 0: none yet */
    int64_t rows_left;     /* of it */
    size_t given, most;    /* bytes of rows so far, and the limit */
};

/* thrift.c's failures, with the file and what was being read. */
int parquet_damaged(const struct parquet *p, const char *what, const struct thrift *t, sail_err *err);
/* "codec LZO", "encoding DELTA_BYTE_ARRAY": for messages; a static buffer each. */
const char *codec_name(int64_t codec);
const char *encoding_name(int64_t encoding);
bool codec_known(int64_t codec);
bool encoding_known(int64_t encoding);

/* footer.c, schema.c: file metadata into p. */
int footer_read(struct parquet *p, const uint8_t *data, size_t len, sail_err *err);
int schema_read(struct parquet *p, struct thrift *t, const struct thrift_field *f, sail_err *err);
void node_release(struct node *n);

/* codec.c: exactly n_out bytes into out; false: damaged. */
bool codec_unpack(enum codec codec, uint8_t *out, size_t n_out, const uint8_t *in, size_t n_in);

/* encoding.c: runs of equal values and of packed bits; false: it ends early. */
bool hybrid_next(struct hybrid *h, uint32_t *out);
/* The next plain value as JSON. */
int plain_next(struct column *c, json_t **out, sail_err *err);
int column_refuse(const struct column *c, sail_err *err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* column.c: a cursor over a chunk. After peek, next_rep and next_def are those of the next value; take consumes it: NULL below the leaf's
 * highest level. */
void column_start(struct column *c, const struct parquet *p, int leaf, const struct chunk *chunk);
void column_release(struct column *c);
int column_peek(struct column *c, sail_err *err);
int column_take(struct column *c, json_t **out, sail_err *err);
bool column_ended(const struct column *c);
/* assemble.c: the next row from the columns that are read. */
int assemble_row(struct parquet *p, json_t **out, sail_err *err);

/* page.c: the next page of values becomes the present one. */
int page_next(struct column *c, sail_err *err);

#endif
