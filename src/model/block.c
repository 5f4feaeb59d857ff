/* One transformer block, forward, for any number of rows: shared by scoring, training and cached decoding. */
#include <string.h>

#include "base/err.h"
#include "base/rng.h"
#include "model/internal.h"

static int64_t widest(const struct model_config *c)
{
    int64_t w = c->hidden > c->inter ? c->hidden : c->inter;
    return w > c->n_head * c->head_dim ? w : c->n_head * c->head_dim;
}

size_t block_scratch_bytes(const struct model *m, int64_t rows)
{
    const size_t size = dtype_size(m->options.compute);
    return arena_room((size_t)(rows * m->config.hidden) * size) + arena_room((size_t)(rows * m->config.inter) * size) + arena_room((size_t)(rows * widest(&m->config)) * size);
}

struct block_scratch block_scratch_take(const struct model *m, struct arena *a, int64_t rows)
{
    const size_t size = dtype_size(m->options.compute);
    return (struct block_scratch){.h = arena_take(a, (size_t)(rows * m->config.hidden) * size),
                                  .act = arena_take(a, (size_t)(rows * m->config.inter) * size),
                                  .dropped = arena_take(a, (size_t)(rows * widest(&m->config)) * size)};
}

static inline void *at(void *base, enum dtype t, int64_t i) { return (char *)base + (size_t)i * dtype_size(t); }

/* Inverted dropout of an adapter's input. The mask is a function of (seed, step, row's key, layer, module), so backward draws it again. */
void lora_drop(const struct adapter *a, int64_t layer, enum linear_id id, void *out, const void *x, enum dtype t, const uint64_t *key, int64_t rows, int64_t width)
{
    const float keep = (float)(1.0 / (1.0 - a->dropout));
    const uint32_t threshold = (uint32_t)(a->dropout * 4294967296.0);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < width; j += 4) {
            uint32_t r[4];
            rng_u32x4(r, a->seed, RNG_DROPOUT, a->step, (key[i] * 8191 + (uint64_t)(layer * LINEAR_COUNT + id)) * 65537 + (uint64_t)(j / 4));
            for (int64_t k = 0; k < 4 && j + k < width; k++) {
                float v = 0;
                tensor_convert(&v, DTYPE_F32, at((void *)(uintptr_t)x, t, i * width + j + k), t, 1);
                v = r[k] < threshold ? 0 : v * keep;
                tensor_convert(at(out, t, i * width + j + k), t, &v, DTYPE_F32, 1);
            }
        }
}

void linear_run(const struct model *m, const struct adapter *a, int64_t layer, enum linear_id id, void *y, enum dtype yt, const void *x, void *lora_t, int64_t rows, bool accumulate,
                const struct block_scratch *s, const uint64_t *key)
{
    const struct linear *l = &m->layer[layer].linear[id];
    const enum dtype t = m->options.compute;
    const int64_t n_in = l->w.n_in, n_out = l->w.n_out;
    ops->linear_fwd(y, yt, n_out, x, t, n_in, &l->w, l->bias, rows, 1, accumulate);
    const struct lora_linear *lora = adapter_linear(a, layer, id);
    if (!lora) return;
    if (a->dropping && a->dropout > 0 && key) {
        lora_drop(a, layer, id, s->dropped, x, t, key, rows, n_in);
        x = s->dropped;
    }
    ops->linear_fwd(lora_t, t, lora->r_sum, x, t, n_in, &lora->a, NULL, rows, 1, false);
    int64_t column = 0;
    for (int p = 0; p < l->w.n_part; p++) {
        if (lora->on[p])
            ops->linear_fwd(at(y, yt, column), yt, n_out, at(lora_t, t, lora->r_start[p]), t, lora->r_sum, &lora->b[p], NULL, rows, lora->scale[p], true);
        column += l->w.part[p].n_out;
    }
}

void block_qkv(const struct model *m, const struct adapter *a, int64_t layer, struct layer_acts *acts, const int32_t *pos, int64_t rows, const struct block_scratch *s, const uint64_t *key)
{
    const struct model_config *c = &m->config;
    const struct layer *l = &m->layer[layer];
    const enum dtype t = m->options.compute;
    const int64_t q = qkv_width(c), k_at = c->n_head * c->head_dim;
    ops->rmsnorm_fwd(s->h, t, acts->rstd1, acts->x1, DTYPE_F32, l->norm1, rows, c->hidden, c->norm_eps, 0);
    linear_run(m, a, layer, LINEAR_QKV, acts->qkv, t, s->h, acts->lora[LINEAR_QKV], rows, false, s, key);
    if (c->qk_norm) {
        memcpy(acts->qkv_raw, acts->qkv, (size_t)(rows * q) * dtype_size(t));
        for (int64_t i = 0; i < rows; i++) { // heads of a row are contiguous, rows are not
            ops->rmsnorm_fwd(at(acts->qkv, t, i * q), t, acts->rstd_q + i * c->n_head, at(acts->qkv_raw, t, i * q), t, l->q_norm, c->n_head, c->head_dim, c->norm_eps, 0);
            ops->rmsnorm_fwd(at(acts->qkv, t, i * q + k_at), t, acts->rstd_k + i * c->n_kv, at(acts->qkv_raw, t, i * q + k_at), t, l->k_norm, c->n_kv, c->head_dim, c->norm_eps, 0);
        }
    }
    ops->rope_fwd(acts->qkv, t, q, pos, m->rope.cosine, m->rope.sine, rows, c->n_head, c->head_dim, c->rope.rot);
    ops->rope_fwd(at(acts->qkv, t, k_at), t, q, pos, m->rope.cosine, m->rope.sine, rows, c->n_kv, c->head_dim, c->rope.rot);
}

void block_rest(const struct model *m, const struct adapter *a, int64_t layer, struct layer_acts *acts, float *x3, int64_t rows, const struct block_scratch *s, const uint64_t *key)
{
    const struct model_config *c = &m->config;
    const struct layer *l = &m->layer[layer];
    const enum dtype t = m->options.compute;
    const size_t stream = (size_t)(rows * c->hidden) * sizeof(float);
    if (acts->x2 != acts->x1) memcpy(acts->x2, acts->x1, stream);
    linear_run(m, a, layer, LINEAR_O, acts->x2, DTYPE_F32, acts->attn, acts->lora[LINEAR_O], rows, true, s, key);
    ops->rmsnorm_fwd(s->h, t, acts->rstd2, acts->x2, DTYPE_F32, l->norm2, rows, c->hidden, c->norm_eps, 0);
    linear_run(m, a, layer, LINEAR_GATE_UP, acts->gate_up, t, s->h, acts->lora[LINEAR_GATE_UP], rows, false, s, key);
    ops->glu_fwd(s->act, acts->gate_up, t, rows, c->inter, c->act);
    if (x3 != acts->x2) memcpy(x3, acts->x2, stream);
    linear_run(m, a, layer, LINEAR_DOWN, x3, DTYPE_F32, s->act, acts->lora[LINEAR_DOWN], rows, true, s, key);
}

/* One walk serves the size and the pointers: with arena NULL nothing is taken. */
static size_t place(struct arena *arena, void *slot, size_t bytes)
{
    if (arena) {
        void *p = arena_take(arena, bytes);
        memcpy(slot, &p, sizeof p);
    }
    return arena_room(bytes);
}

static size_t place_acts(struct layer_acts *k, const struct model *m, const struct adapter *a, int64_t layer, struct arena *arena, int64_t rows, bool keep, float *x)
{
    const struct model_config *c = &m->config;
    const size_t size = dtype_size(m->options.compute), n = (size_t)rows, q = (size_t)qkv_width(c);
    size_t bytes = 0;
    if (keep) {
        bytes += place(arena, &k->x1, n * (size_t)c->hidden * sizeof(float));
        bytes += place(arena, &k->x2, n * (size_t)c->hidden * sizeof(float));
    } else {
        k->x1 = k->x2 = x;
    }
    bytes += place(arena, &k->rstd1, n * sizeof(float));
    bytes += place(arena, &k->rstd2, n * sizeof(float));
    bytes += place(arena, &k->qkv, n * q * size);
    if (c->qk_norm) {
        bytes += place(arena, &k->qkv_raw, n * q * size);
        bytes += place(arena, &k->rstd_q, n * (size_t)c->n_head * sizeof(float));
        bytes += place(arena, &k->rstd_k, n * (size_t)c->n_kv * sizeof(float));
    }
    bytes += place(arena, &k->attn, n * (size_t)(c->n_head * c->head_dim) * size);
    bytes += place(arena, &k->lse, n * (size_t)c->n_head * sizeof(float));
    bytes += place(arena, &k->gate_up, n * 2 * (size_t)c->inter * size);
    for (int id = 0; id < LINEAR_COUNT; id++) {
        const struct lora_linear *l = adapter_linear(a, layer, (enum linear_id)id);
        if (l) bytes += place(arena, &k->lora[id], n * (size_t)l->r_sum * size);
    }
    return bytes;
}

size_t layer_acts_bytes(const struct model *m, const struct adapter *a, int64_t rows, bool keep)
{
    struct layer_acts unused = {0};
    size_t most = 0;
    for (int64_t i = 0; i < m->config.n_layer; i++) {
        size_t n = place_acts(&unused, m, a, i, NULL, rows, keep, NULL);
        if (n > most) most = n;
    }
    return most;
}

void layer_acts_take(struct layer_acts *acts, const struct model *m, const struct adapter *a, int64_t layer, struct arena *arena, int64_t rows, bool keep, float *x)
{
    *acts = (struct layer_acts){0};
    place_acts(acts, m, a, layer, arena, rows, keep, x);
}
