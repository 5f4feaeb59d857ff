#include <stdlib.h>

#include "backend/ref/ref.h"

void ref_attn_fwd(void *o, int64_t ldo, float *lse, const void *q, int64_t ldq, const void *k, const void *v, int64_t ldkv,
                  enum dtype t, const struct attn_segment *segment, int64_t n_segment, const struct attn_shape *shape)
{
    int64_t d = shape->d, group = shape->n_head / shape->n_kv;
    for (const struct attn_segment *s = segment; s < segment + n_segment; s++) {
        double *p = malloc((size_t)(s->n_prefix + s->n) * sizeof *p + 1);
        BUG_ON(!p, "out of memory in the reference attention");
        for (int64_t i = 0; i < s->n; i++)
            for (int64_t h = 0; h < shape->n_head; h++) {
                int64_t at = s->n_prefix + i, from = first_key(shape, at), row = s->start + i, kv = h / group * d;
                double max = -INFINITY, sum = 0;
                for (int64_t j = from; j <= at; j++) {
                    p[j] = soft_cap(shape->scale * dot(q, row * ldq + h * d, k, key_row(s, j) * ldkv + kv, t, d), shape->softcap,
                                    NULL);
                    max = fmax(max, p[j]);
                }
                for (int64_t j = from; j <= at; j++) sum += p[j] = exp(p[j] - max);
                for (int64_t e = 0; e < d; e++) {
                    double out = 0;
                    for (int64_t j = from; j <= at; j++) out += p[j] * element(v, t, key_row(s, j) * ldkv + kv + e);
                    element_set(o, t, row * ldo + h * d + e, out / sum);
                }
                lse[row * shape->n_head + h] = (float)(max + log(sum));
            }
        free(p);
    }
}

/* Sums of the gradients of all keys and values that any segment reads, until they are rounded once at the end. */
struct key_sums {
    double *dk, *dv; // (rows, K * D)
    int64_t first, rows, width;
};

static struct key_sums key_sums_make(const struct attn_segment *segment, int64_t n_segment, const struct attn_shape *shape)
{
    int64_t first = INT64_MAX, last = 0;
    for (const struct attn_segment *s = segment; s < segment + n_segment; s++) {
        int64_t begin = s->n_prefix && s->prefix < s->start ? s->prefix : s->start;
        int64_t end = s->n_prefix && s->prefix + s->n_prefix > s->start + s->n ? s->prefix + s->n_prefix : s->start + s->n;
        if (begin < first) first = begin;
        if (end > last) last = end;
    }
    struct key_sums g = {.first = first, .rows = last > first ? last - first : 0, .width = shape->n_kv * shape->d};
    g.dk = calloc((size_t)(g.rows * g.width) + 1, sizeof *g.dk);
    g.dv = calloc((size_t)(g.rows * g.width) + 1, sizeof *g.dv);
    BUG_ON(!g.dk || !g.dv, "out of memory in the reference attention");
    return g;
}

// P_ij = exp(s_ij - lse_i), D_i = dout_i . o_i:  dv_j += P_ij dout_i, ds_ij = P_ij (dout_i . v_j - D_i)
static void attn_bwd_row(double *dq, struct key_sums *g, const void *dout, const void *o, double lse, const void *q,
                         const void *k, const void *v, int64_t ldkv, int64_t kv, enum dtype t, const struct attn_segment *s,
                         int64_t at, const struct attn_shape *shape)
{
    int64_t d = shape->d;
    double delta = dot(dout, 0, o, 0, t, d), slope;
    for (int64_t e = 0; e < d; e++) dq[e] = 0;
    for (int64_t j = first_key(shape, at); j <= at; j++) {
        int64_t row = key_row(s, j), key = row * ldkv + kv;
        double p = exp(soft_cap(shape->scale * dot(q, 0, k, key, t, d), shape->softcap, &slope) - lse);
        double ds = p * (dot(dout, 0, v, key, t, d) - delta) * slope * shape->scale;
        double *dk = g->dk + (row - g->first) * g->width + kv, *dv = g->dv + (row - g->first) * g->width + kv;
        for (int64_t e = 0; e < d; e++) {
            dv[e] += p * element(dout, t, e);
            dq[e] += ds * element(k, t, key + e);
            dk[e] += ds * element(q, t, e);
        }
    }
}

static void key_rows_store(const struct key_sums *g, void *dk, void *dv, int64_t ld, enum dtype t, int64_t row, int64_t n)
{
    for (int64_t r = row; r < row + n; r++)
        for (int64_t e = 0; e < g->width; e++) {
            element_set(dk, t, r * ld + e, g->dk[(r - g->first) * g->width + e]);
            element_set(dv, t, r * ld + e, g->dv[(r - g->first) * g->width + e]);
        }
}

void ref_attn_bwd(void *dq, int64_t lddq, void *dk, void *dv, int64_t lddkv, const void *dout, int64_t lddo, const void *o,
                  int64_t ldo, const float *lse, const void *q, int64_t ldq, const void *k, const void *v, int64_t ldkv,
                  enum dtype t, const struct attn_segment *segment, int64_t n_segment, const struct attn_shape *shape)
{
    int64_t d = shape->d, group = shape->n_head / shape->n_kv;
    size_t size = dtype_size(t);
    struct key_sums g = key_sums_make(segment, n_segment, shape);
    double *sum = malloc((size_t)d * sizeof *sum + 1);
    BUG_ON(!sum, "out of memory in the reference attention");
    for (const struct attn_segment *s = segment; s < segment + n_segment; s++)
        for (int64_t i = 0; i < s->n; i++)
            for (int64_t h = 0; h < shape->n_head; h++) {
                int64_t row = s->start + i;
                attn_bwd_row(sum, &g, (const char *)dout + (size_t)(row * lddo + h * d) * size,
                             (const char *)o + (size_t)(row * ldo + h * d) * size, lse[row * shape->n_head + h],
                             (const char *)q + (size_t)(row * ldq + h * d) * size, k, v, ldkv, h / group * d, t, s,
                             s->n_prefix + i, shape);
                for (int64_t e = 0; e < d; e++) element_set(dq, t, row * lddq + h * d + e, sum[e]);
            }
    for (const struct attn_segment *s = segment; s < segment + n_segment; s++) {
        key_rows_store(&g, dk, dv, lddkv, t, s->prefix, s->n_prefix);
        key_rows_store(&g, dk, dv, lddkv, t, s->start, s->n);
    }
    free(sum);
    free(g.dk);
    free(g.dv);
}
