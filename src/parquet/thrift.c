#include "parquet/thrift.h"

enum { MAX_DEPTH = 32 };

static uint64_t fail(struct thrift *t, const char *why)
{
    if (!t->failed) t->failed = why;
    t->at = t->end;
    return 0;
}

static uint8_t take_byte(struct thrift *t)
{
    if (t->at < t->end) return *t->at++;
    return (uint8_t)fail(t, "it ends early");
}

static uint64_t varint(struct thrift *t)
{
    uint64_t x = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        const uint8_t b = take_byte(t);
        if (t->failed) return 0;
        if (shift == 63 && b > 1) break;
        x |= (uint64_t)(b & 0x7F) << shift;
        if (!(b & 0x80)) return x;
    }
    return fail(t, "an integer of more than 64 bits");
}

int64_t thrift_varint_signed(struct thrift *t)
{
    const uint64_t x = varint(t);
    return (int64_t)(x >> 1 ^ (~(x & 1) + 1));
}

bool thrift_next(struct thrift *t, struct thrift_field *f)
{
    const uint8_t head = take_byte(t);
    if (t->failed || !head) return false;
    const int64_t id = head >> 4 ? f->id + (head >> 4) : thrift_varint_signed(t);
    f->type = (enum thrift_type)(head & 15);
    if (f->type == THRIFT_STOP || f->type > THRIFT_STRUCT) fail(t, "an unknown type");
    if (id <= 0 || id > INT16_MAX) fail(t, "an impossible field number");
    f->id = (int32_t)(t->failed ? 0 : id);
    return !t->failed;
}

int64_t thrift_int(struct thrift *t, const struct thrift_field *f)
{
    if (f->type == THRIFT_BYTE) return (int8_t)take_byte(t);
    if (f->type < THRIFT_I16 || f->type > THRIFT_I64) return (int64_t)fail(t, "a field of another type, where an integer was expected");
    return thrift_varint_signed(t);
}

bool thrift_bool(struct thrift *t, const struct thrift_field *f)
{
    if (f->type != THRIFT_TRUE && f->type != THRIFT_FALSE) fail(t, "a field of another type, where true or false was expected");
    return f->type == THRIFT_TRUE;
}

struct thrift_text thrift_bytes(struct thrift *t)
{
    const uint64_t n = varint(t);
    if (n > (uint64_t)(t->end - t->at)) fail(t, "a string that is longer than the rest");
    struct thrift_text text = {(const char *)t->at, t->failed ? 0 : (size_t)n};
    t->at += text.n;
    return text;
}

struct thrift_text thrift_text(struct thrift *t, const struct thrift_field *f)
{
    if (f->type != THRIFT_BINARY) fail(t, "a field of another type, where a string was expected");
    return thrift_bytes(t);
}

static size_t list_head(struct thrift *t, enum thrift_type *element)
{
    const uint8_t head = take_byte(t);
    const uint64_t n = head >> 4 == 15 ? varint(t) : head >> 4;
    *element = (enum thrift_type)(head & 15);
    if (n > (uint64_t)(t->end - t->at)) return fail(t, "a list that is longer than the rest"); // an element has at least a byte
    return (size_t)n;
}

size_t thrift_list(struct thrift *t, const struct thrift_field *f, enum thrift_type element)
{
    enum thrift_type got = THRIFT_STOP;
    if (f->type != THRIFT_LIST) return fail(t, "a field of another type, where a list was expected");
    const size_t n = list_head(t, &got);
    if (n && got != element) return fail(t, "a list of other elements than expected");
    return n;
}

bool thrift_struct(struct thrift *t, const struct thrift_field *f)
{
    if (f->type != THRIFT_STRUCT) fail(t, "a field of another type, where a struct was expected");
    return !t->failed;
}

/* A boolean in a list or a map has a byte of its own; as a field, its type is its value. */
static void skip(struct thrift *t, enum thrift_type type, bool in_list, int depth)
{
    enum thrift_type key, value;
    size_t n;
    if (depth > MAX_DEPTH) fail(t, "too deep a nesting");
    if (t->failed) return;
    switch (type) {
    case THRIFT_TRUE:
    case THRIFT_FALSE:
        if (in_list) take_byte(t);
        break;
    case THRIFT_BYTE: take_byte(t); break;
    case THRIFT_I16:
    case THRIFT_I32:
    case THRIFT_I64: varint(t); break;
    case THRIFT_DOUBLE:
        if (t->end - t->at < 8)
            fail(t, "it ends early");
        else
            t->at += 8;
        break;
    case THRIFT_BINARY: thrift_bytes(t); break;
    case THRIFT_LIST:
    case THRIFT_SET:
        n = list_head(t, &value);
        for (size_t i = 0; i < n && !t->failed; i++) skip(t, value, true, depth + 1);
        break;
    case THRIFT_MAP:
        n = (size_t)varint(t);
        if (!n) break;
        if (n > (size_t)(t->end - t->at)) fail(t, "a map that is longer than the rest");
        key = (enum thrift_type)(take_byte(t));
        value = (enum thrift_type)(key & 15);
        key = (enum thrift_type)(key >> 4);
        for (size_t i = 0; i < n && !t->failed; i++) {
            skip(t, key, true, depth + 1);
            skip(t, value, true, depth + 1);
        }
        break;
    case THRIFT_STRUCT:
        for (struct thrift_field f = {0}; thrift_next(t, &f);) skip(t, f.type, false, depth + 1);
        break;
    default: fail(t, "an unknown type");
    }
}

void thrift_skip(struct thrift *t, const struct thrift_field *f) { skip(t, f->type, false, 0); }
