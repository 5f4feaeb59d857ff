/* Thrift's compact protocol, reading only: what a Parquet footer and page headers are written in. A failure sticks: later reads give zeros,
 * and `failed` says what was wrong. */
#ifndef SAIL_PARQUET_THRIFT_H
#define SAIL_PARQUET_THRIFT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum thrift_type {
    THRIFT_STOP, THRIFT_TRUE, THRIFT_FALSE, THRIFT_BYTE, THRIFT_I16, THRIFT_I32, THRIFT_I64, THRIFT_DOUBLE, THRIFT_BINARY, THRIFT_LIST, THRIFT_SET, THRIFT_MAP, THRIFT_STRUCT
};

struct thrift {
    const uint8_t *at, *end;
    const char *failed; /* NULL: nothing */
};
struct thrift_field {
    int32_t id; /* start with 0 in every struct: ids are written as differences */
    enum thrift_type type;
};
struct thrift_text {
    const char *data; /* not terminated */
    size_t n;
};

/* The struct's next field; false at its end or after a failure. Its value must be read or skipped before the next call. */
bool thrift_next(struct thrift *t, struct thrift_field *f);
int64_t thrift_int(struct thrift *t, const struct thrift_field *f);
bool thrift_bool(struct thrift *t, const struct thrift_field *f);
struct thrift_text thrift_text(struct thrift *t, const struct thrift_field *f);
/* Number of a list's elements, which must be of this type; never more than the bytes that are left. */
size_t thrift_list(struct thrift *t, const struct thrift_field *f, enum thrift_type element);
/* True when the field is a struct: its fields follow. */
bool thrift_struct(struct thrift *t, const struct thrift_field *f);
int64_t thrift_varint_signed(struct thrift *t); /* an integer inside a list */
struct thrift_text thrift_bytes(struct thrift *t); /* a string inside a list */
void thrift_skip(struct thrift *t, const struct thrift_field *f);

#endif
