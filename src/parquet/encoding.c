/* How values are written inside a page: runs of equal or bit-packed small integers, and plain values. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "parquet/internal.h"

/* ---------------------------------------------------------------- runs */

static bool next_run(struct hybrid *h)
{
    uint64_t head = 0;
    int shift = 0;
    const uint8_t *at = h->at;
    do {
        if (at >= h->end || shift > 35) return false;
        head |= (uint64_t)(*at & 0x7F) << shift;
        shift += 7;
    } while (*at++ & 0x80);
    h->packed = head & 1;
    h->left = h->packed ? (head >> 1) * 8 : head >> 1;
    h->at = at;
    h->bit = 0;
    if (h->packed) return true;
    const int bytes = (h->width + 7) / 8;
    if (h->end - h->at < bytes) return false;
    h->value = 0;
    for (int i = 0; i < bytes; i++) h->value |= (uint32_t)*h->at++ << 8 * i;
    return true;
}

/* The last run of a page may have fewer bytes than its groups of eight ask for: only bits that are used must be there. */
static bool next_packed(struct hybrid *h, uint32_t *out)
{
    uint64_t bits = 0;
    const unsigned n = (h->bit + (unsigned)h->width + 7) / 8;
    if ((size_t)(h->end - h->at) < n) return false;
    for (unsigned i = 0; i < n; i++) bits |= (uint64_t)h->at[i] << 8 * i;
    *out = (uint32_t)(bits >> h->bit & (((uint64_t)1 << h->width) - 1));
    h->bit += (unsigned)h->width;
    h->at += h->bit / 8;
    h->bit %= 8;
    return true;
}

bool hybrid_next(struct hybrid *h, uint32_t *out)
{
    while (!h->left)
        if (!next_run(h)) return false;
    h->left--;
    if (h->packed) return next_packed(h, out);
    *out = h->value;
    return true;
}

/* ---------------------------------------------------------------- plain values */

static uint64_t little_endian(const uint8_t *at, size_t n)
{
    uint64_t x = 0;
    for (size_t i = 0; i < n; i++) x |= (uint64_t)at[i] << 8 * i;
    return x;
}

/* A value that JSON does not have. Where nobody needs it, it is none. */
static int unspeakable(const struct column *c, json_t **out, sail_err *err, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
static int unspeakable(const struct column *c, json_t **out, sail_err *err, const char *fmt, ...)
{
    char what[100];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    *out = json_null();
    return c->leaf->needed ? column_refuse(c, err, "%s", what) : SAIL_OK;
}

static int take_text(struct column *c, json_t **out, sail_err *err)
{
    const size_t room = (size_t)(c->value_end - c->value);
    const uint64_t n = room < 4 ? UINT64_MAX : little_endian(c->value, 4);
    if (room < 4 || n > room - 4) return column_refuse(c, err, "a text is longer than its page");
    *out = json_stringn((const char *)c->value + 4, (size_t)n);
    c->value += 4 + n;
    return *out ? SAIL_OK : unspeakable(c, out, err, "expected text in UTF-8, got %llu other bytes", (unsigned long long)n);
}

static int take_boolean(struct column *c, json_t **out, sail_err *err)
{
    if (c->value >= c->value_end) return column_refuse(c, err, "its page has fewer values than it says");
    *out = json_boolean(*c->value >> c->bit & 1);
    c->bit = (c->bit + 1) % 8;
    if (!c->bit) c->value++;
    return SAIL_OK;
}

/* JSON has no NaN (pandas' missing number): null. */
static int take_real(const struct column *c, double x, json_t **out, sail_err *err)
{
    if (isinf(x)) return unspeakable(c, out, err, "expected a finite number, got %g", x);
    *out = isnan(x) ? json_null() : json_real(x);
    return *out ? SAIL_OK : err_memory(err, sizeof x);
}

int plain_next(struct column *c, json_t **out, sail_err *err)
{
    if (c->leaf->kind == VALUE_TEXT) return take_text(c, out, err);
    if (c->leaf->kind == VALUE_BOOL) return take_boolean(c, out, err);
    const size_t size = c->leaf->physical == PHYSICAL_INT64 || c->leaf->physical == PHYSICAL_DOUBLE ? 8 : 4;
    if ((size_t)(c->value_end - c->value) < size) return column_refuse(c, err, "its page has fewer values than it says");
    const uint64_t bits = little_endian(c->value, size);
    c->value += size;
    const uint32_t half = (uint32_t)bits;
    float f;
    double d;
    switch (c->leaf->kind) {
    case VALUE_FLOAT: memcpy(&f, &half, sizeof f); return take_real(c, (double)f, out, err);
    case VALUE_DOUBLE: memcpy(&d, &bits, sizeof d); return take_real(c, d, out, err);
    case VALUE_UINT64:
        if (bits > INT64_MAX) return unspeakable(c, out, err, "expected an integer of at most 9223372036854775807, got %llu", (unsigned long long)bits);
        *out = json_integer((json_int_t)bits);
        break;
    case VALUE_INT64: *out = json_integer((json_int_t)bits); break;
    case VALUE_UINT32: *out = json_integer((json_int_t)half); break;
    default: *out = json_integer((json_int_t)(int32_t)half);
    }
    return *out ? SAIL_OK : err_memory(err, size);
}
