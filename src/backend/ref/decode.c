#include <stdlib.h>

#include "backend/ref/ref.h"

/* Cache rows one after the other: a row's keys (K, D), then its values. */
static int64_t cache_width(const struct attn_shape *shape) { return shape->n_kv * shape->d; }

size_t ref_cache_block_bytes(enum dtype t, const struct attn_shape *shape) { return CACHE_BLOCK * 2 * (size_t)cache_width(shape) * dtype_size(t); }

static void cache_row_put(void *cache, int64_t row, const void *k, const void *v, int64_t at, enum dtype t, int64_t width)
{
    for (int64_t e = 0; e < width; e++) {
        element_set(cache, t, 2 * row * width + e, element(k, t, at + e));
        element_set(cache, t, (2 * row + 1) * width + e, element(v, t, at + e));
    }
}

void ref_cache_store(void *cache, const void *k, const void *v, int64_t ldkv, enum dtype t, const struct cache_range *range, int64_t n, const struct attn_shape *shape)
{
    for (const struct cache_range *r = range; r < range + n; r++)
        for (int64_t i = 0; i < r->n; i++) cache_row_put(cache, r->to + i, k, v, (r->from + i) * ldkv, t, cache_width(shape));
}

void ref_attn_decode(void *o, int64_t ldo, void *cache, const void *q, int64_t ldq, const void *k, const void *v, int64_t ldkv, enum dtype t,
                     const struct attn_cache_row *row, int64_t n, const struct attn_shape *shape)
{
    const int64_t d = shape->d, width = cache_width(shape), group = shape->n_head / shape->n_kv;
    for (int64_t r = 0; r < n; r++) {
        // the query is the last of the row's own keys: a segment whose keys are [start, start + n)
        const struct attn_segment s = {.start = row[r].start, .n = row[r].n, .prefix = row[r].prefix, .n_prefix = row[r].n_prefix};
        const int64_t at = s.n_prefix + s.n - 1, from = first_key(shape, at);
        cache_row_put(cache, s.start + s.n - 1, k, v, r * ldkv, t, width);
        double *p = malloc((size_t)(at + 1) * sizeof *p + 1);
        BUG_ON(!p, "out of memory in the reference attention");
        for (int64_t h = 0; h < shape->n_head; h++) {
            double max = -INFINITY, sum = 0;
            for (int64_t j = from; j <= at; j++) {
                const double product = dot(q, r * ldq + h * d, cache, 2 * key_row(&s, j) * width + h / group * d, t, d);
                p[j] = soft_cap(shape->scale * product, shape->softcap, NULL);
                max = fmax(max, p[j]);
            }
            for (int64_t j = from; j <= at; j++) sum += p[j] = exp(p[j] - max);
            for (int64_t e = 0; e < d; e++) {
                double out = 0;
                for (int64_t j = from; j <= at; j++) out += p[j] * element(cache, t, (2 * key_row(&s, j) + 1) * width + h / group * d + e);
                element_set(o, t, r * ldo + h * d + e, out / sum);
            }
        }
        free(p);
    }
}
