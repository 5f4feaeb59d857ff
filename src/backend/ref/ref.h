/* The reference: what every operation means, in scalar C with double accumulation. Clarity before speed. */
#ifndef SAIL_BACKEND_REF_H
#define SAIL_BACKEND_REF_H

#include <math.h>

#include "backend/backend.h"
#include "base/err.h"

#define OP(type, name, args) type ref_##name args;
#include "backend/ops.def"
#undef OP

/* Element i of an array of F32, BF16 or F16. Mapped files may be unaligned. */
static inline double element(const void *p, enum dtype t, int64_t i)
{
    uint16_t h;
    float f;
    if (t == DTYPE_F32) {
        memcpy(&f, (const char *)p + 4 * i, 4);
        return f;
    }
    memcpy(&h, (const char *)p + 2 * i, 2);
    BUG_ON(t != DTYPE_BF16 && t != DTYPE_F16, "no arithmetic on %s", dtype_name(t));
    return t == DTYPE_BF16 ? bf16_to_f32(h) : f16_to_f32(h);
}

static inline void element_set(void *p, enum dtype t, int64_t i, double v)
{
    float f = (float)v;
    if (t == DTYPE_F32) {
        memcpy((char *)p + 4 * i, &f, 4);
        return;
    }
    BUG_ON(t != DTYPE_BF16, "activations are F32 or BF16, not %s", dtype_name(t));
    uint16_t h = f32_to_bf16(f);
    memcpy((char *)p + 2 * i, &h, 2);
}

/* The value that a product in dtype t sees. */
static inline double rounded(double v, enum dtype t) { return t == DTYPE_BF16 ? bf16_to_f32(f32_to_bf16((float)v)) : v; }

/* W[o][i] as its products see it: rounded to the compute dtype. */
static inline double weight_element(const struct weight *w, int64_t o, int64_t i)
{
    const struct weight_part *p = w->part;
    while (o >= p->n_out) o -= p++->n_out;
    return rounded(element(p->data, p->dtype, p->transposed ? i * p->ld + o : o * p->ld + i), w->compute);
}

/* cap * tanh(s / cap), s itself without a cap; *slope is the derivative. */
static inline double soft_cap(double s, double cap, double *slope)
{
    double t = cap > 0 ? tanh(s / cap) : 0;
    if (slope) *slope = 1 - t * t;
    return cap > 0 ? cap * t : s;
}

/* Attention: key j of a query's list: prefix rows first, then the segment's own. */
static inline int64_t key_row(const struct attn_segment *s, int64_t j)
{
    return j < s->n_prefix ? s->prefix + j : s->start + j - s->n_prefix;
}

/* The first key position that a query at position p sees. */
static inline int64_t first_key(const struct attn_shape *a, int64_t p)
{
    return a->window > 0 && p - a->window + 1 > 0 ? p - a->window + 1 : 0;
}

static inline double dot(const void *a, int64_t i, const void *b, int64_t j, enum dtype t, int64_t n)
{
    double sum = 0;
    for (int64_t e = 0; e < n; e++) sum += element(a, t, i + e) * element(b, t, j + e);
    return sum;
}

#endif
