/* One transformer block, forward, for any number of rows: shared by scoring, training and cached decoding. */
#include <string.h>

#include "base/err.h"
#include "base/rng.h"
#include "model/adapter.h"

static int64_t widest(const struct model_config *c)
{
    int64_t w = c->hidden > c->inter ? c->hidden : c->inter;
    return w > q_width(c) ? w : q_width(c);
}

static bool has_stream(const struct model *m) { return m->config.family->position || m->config.residual_scale != 1 || m->layer[0].norm[NORM_ATTENTION_OUT].w; }

size_t arena_place(struct arena *arena, void *slot, size_t bytes)
{
    if (arena) {
        void *p = arena_take(arena, bytes);
        memcpy(slot, &p, sizeof p);
    }
    return arena_room(bytes);
}

int64_t widest_output(const struct model_config *c)
{
    const int64_t w = qkv_width(c) > up_width(c) ? qkv_width(c) : up_width(c);
    return w > c->hidden ? w : c->hidden;
}

static size_t place_scratch(struct block_scratch *s, const struct model *m, const struct adapter *adapter, struct arena *a, int64_t rows)
{
    const struct model_config *c = &m->config;
    const size_t size = dtype_size(m->options.compute), n = (size_t)rows;
    size_t bytes = arena_place(a, &s->h, n * (size_t)c->hidden * size);
    bytes += arena_place(a, &s->act, n * (size_t)c->inter * size);
    bytes += arena_place(a, &s->spare, n * (size_t)widest(c) * size);
    if (c->family->per_head_qkv) bytes += arena_place(a, &s->split, n * (size_t)qkv_width(c) * size);
    if (has_stream(m)) bytes += arena_place(a, &s->stream, n * (size_t)c->hidden * sizeof(float));
    if (adapter && adapter->is_dora) bytes += arena_place(a, &s->whole, n * (size_t)widest_output(c) * sizeof(float));
    return bytes;
}

size_t block_scratch_bytes(const struct model *m, const struct adapter *a, int64_t rows)
{
    struct block_scratch unused = {0};
    return place_scratch(&unused, m, a, NULL, rows);
}

struct block_scratch block_scratch_take(const struct model *m, const struct adapter *a, struct arena *arena, int64_t rows)
{
    struct block_scratch s = {0};
    place_scratch(&s, m, a, arena, rows);
    return s;
}

void norm_forward(const struct model_config *c, const struct norm *n, void *y, enum dtype yt, float *stat, const void *x,
                  enum dtype xt, int64_t rows, int64_t width)
{
    if (c->family->layernorm)
        ops->layernorm_fwd(y, yt, stat, x, xt, n->w, n->b, rows, width, c->norm_eps);
    else
        ops->rmsnorm_fwd(y, yt, stat, x, xt, n->w, rows, width, c->norm_eps, c->family->norm_offset);
}

void embed_rows(const struct model *m, const struct adapter *a, float *x, const int32_t *id, const int32_t *pos, int64_t rows, const struct block_scratch *s)
{
    ops->embed_fwd(x, embed_weight(m, a), id, rows, m->config.embed_scale);
    if (!m->config.family->position) return;
    ops->embed_fwd(s->stream, &m->position, pos, rows, 1);
    ops->add_acc(x, s->stream, DTYPE_F32, rows * m->config.hidden, 1);
}

/* Inverted dropout of an adapter's input. The mask is a function of (seed, step, row's key, layer, module), so backward draws it again. */
void lora_drop(const struct adapter *a, int64_t layer, enum linear_id id, void *out, const void *x, enum dtype t, const uint64_t *key,
               int64_t rows, int64_t width)
{
    const float keep = (float)(1.0 / (1.0 - a->dropout));
    const uint32_t threshold = (uint32_t)(a->dropout * 4294967296.0);
#pragma omp parallel for num_threads(backend_thread_count()) schedule(static)
    for (int64_t i = 0; i < rows; i++) {
        const uint64_t base = (key[i] * 8191 + (uint64_t)(layer * LINEAR_COUNT + id)) * 65537;
        for (int64_t j = 0; j < width; j += 4) {
            const int64_t n = width - j < 4 ? width - j : 4;
            uint32_t r[4];
            float v[4];
            rng_u32x4(r, a->seed, RNG_DROPOUT, a->step, base + (uint64_t)(j / 4));
            tensor_convert(v, DTYPE_F32, element_of(x, t, i * width + j), t, n);
            for (int64_t k = 0; k < n; k++) v[k] = r[k] < threshold ? 0 : v[k] * keep;
            tensor_convert(element_at(out, t, i * width + j), t, v, DTYPE_F32, n);
        }
    }
}

void linear_run(const struct model *m, const struct adapter *a, int64_t layer, enum linear_id id, void *y, enum dtype yt,
                const void *x, void *lora_t, int64_t rows, bool accumulate, const struct block_scratch *s, const uint64_t *key)
{
    const struct linear *l = &m->layer[layer].linear[id];
    const enum dtype t = m->options.compute;
    const int64_t n_in = l->w.n_in, n_out = l->w.n_out;
    const struct lora_linear *lora = adapter_linear(a, layer, id);
    if (lora && lora->gain) {
        dora_run(m, a, layer, id, y, yt, x, lora_t, rows, accumulate, s, key);
        return;
    }
    ops->linear_fwd(y, yt, n_out, x, t, n_in, &l->w, l->bias, rows, 1, accumulate);
    if (!lora) return;
    if (a->dropout > 0 && key) {
        lora_drop(a, layer, id, s->spare, x, t, key, rows, n_in);
        x = s->spare;
    }
    ops->linear_fwd(lora_t, t, lora->r_sum, x, t, n_in, &lora->a, NULL, rows, 1, false);
    int64_t column = 0;
    for (int p = 0; p < l->w.n_part; p++) {
        if (lora->on[p])
            ops->linear_fwd(element_at(y, yt, column), yt, n_out, element_at(lora_t, t, lora->r_start[p]), t, lora->r_sum, &lora->b[p], NULL,
                            rows, lora->scale[p], true);
        column += l->w.part[p].n_out;
    }
}

void block_input(const struct model *m, int64_t layer, enum norm_id id, struct layer_acts *acts, const float *x, int64_t rows,
                 const struct block_scratch *s)
{
    const struct norm *n = &m->layer[layer].norm[id];
    if (n->w)
        norm_forward(&m->config, n, s->h, m->options.compute, acts->stat[id], x, DTYPE_F32, rows, m->config.hidden);
    else
        ops->convert(s->h, m->options.compute, x, DTYPE_F32, rows * m->config.hidden);
}

/* q = norm(q) over each head, or over all heads of a token together; the same for k. */
static void norm_heads(const struct model *m, const struct layer *l, struct layer_acts *acts, int64_t rows, const struct block_scratch *s)
{
    const struct model_config *c = &m->config;
    const enum dtype t = m->options.compute;
    for (int keys = 0; keys < 2; keys++) {
        const int64_t n = qk_norm_count(c, keys), width = qk_norm_width(c, keys), total = rows * (keys ? kv_width(c) : q_width(c)), each = total / n, normed = each / width;
        void *raw = element_at(acts->qk_raw, t, keys ? rows * q_width(c) : 0);
        float *stat = keys ? acts->stat_k : acts->stat_q;
        heads_gather(c, raw, acts->qkv, t, rows, keys);
        for (int64_t h = 0; h < n; h++)
            norm_forward(c, (keys ? l->k_norm : l->q_norm) + h, element_at(s->spare, t, h * each), t, stat + h * normed * norm_stats(c), element_of(raw, t, h * each), t, normed, width);
        heads_scatter(c, acts->qkv, s->spare, t, rows, keys);
    }
}

void block_qkv(const struct model *m, const struct adapter *a, int64_t layer, struct layer_acts *acts, const struct turns *turn, int64_t rows,
               const struct block_scratch *s, const uint64_t *key)
{
    const struct model_config *c = &m->config;
    const enum dtype t = m->options.compute;
    const int64_t q = qkv_width(c);
    block_input(m, layer, NORM_ATTENTION, acts, acts->x1, rows, s);
    linear_run(m, a, layer, LINEAR_QKV, s->split ? s->split : acts->qkv, t, s->h, acts->lora[LINEAR_QKV], rows, false, s, key);
    if (s->split) heads_join(c, acts->qkv, s->split, t, rows);
    if (c->qk_norm) norm_heads(m, &m->layer[layer], acts, rows, s);
    if (c->kind[layer].rope < 0) return;
    const struct rope_table *r = &turn->table[c->kind[layer].rope];
    const int64_t rot = c->rope[c->kind[layer].rope].rot;
    if (c->family->interleaved) heads_unpair(c, acts->qkv, t, rows);
    ops->rope_fwd(acts->qkv, t, q, turn->row, r->cosine, r->sine, rows, c->n_head + c->n_kv, c->head_dim, rot); // keys lie behind queries
}

void mlp_activate(const struct model_config *c, void *y, const void *gate_up, enum dtype t, int64_t rows)
{
    if (c->family->gated)
        ops->glu_fwd(y, gate_up, t, rows, c->inter, c->act);
    else
        ops->act_fwd(y, gate_up, t, rows * c->inter, c->act);
}

/* act = the activation of gate and up; in one pass with their product where no adapter comes between. */
static void mlp_up(const struct model *m, const struct adapter *a, int64_t layer, struct layer_acts *acts, int64_t rows, const struct block_scratch *s, const uint64_t *key)
{
    const struct model_config *c = &m->config;
    const struct linear *l = &m->layer[layer].linear[LINEAR_GATE_UP];
    const enum dtype t = m->options.compute;
    if (c->family->gated && !adapter_linear(a, layer, LINEAR_GATE_UP)) {
        ops->linear_glu_fwd(s->act, acts->gate_up, t, s->h, &l->w, l->bias, rows, c->act);
        return;
    }
    linear_run(m, a, layer, LINEAR_GATE_UP, acts->gate_up, t, s->h, acts->lora[LINEAR_GATE_UP], rows, false, s, key);
    mlp_activate(c, s->act, acts->gate_up, t, rows);
}

/* x += W input + bias, or x += norm(W input + bias) where the family norms what a branch gives back, or x += scale (W input + bias). */
static void add_branch(const struct model *m, const struct adapter *a, int64_t layer, enum linear_id id, struct layer_acts *acts, float *x,
                       const void *input, int64_t rows, const struct block_scratch *s, const uint64_t *key)
{
    const int64_t C = m->config.hidden;
    const int which = id == LINEAR_DOWN;
    const enum norm_id after = which ? NORM_MLP_OUT : NORM_ATTENTION_OUT;
    const struct norm *n = &m->layer[layer].norm[after];
    if (!n->w && m->config.residual_scale == 1) {
        linear_run(m, a, layer, id, x, DTYPE_F32, input, acts->lora[id], rows, true, s, key);
        return;
    }
    linear_run(m, a, layer, id, n->w ? acts->branch[which] : s->stream, DTYPE_F32, input, acts->lora[id], rows, false, s, key);
    if (n->w) norm_forward(&m->config, n, s->stream, DTYPE_F32, acts->stat[after], acts->branch[which], DTYPE_F32, rows, C);
    ops->add_acc(x, s->stream, DTYPE_F32, rows * C, m->config.residual_scale);
}

void block_rest(const struct model *m, const struct adapter *a, int64_t layer, struct layer_acts *acts, float *x3, int64_t rows,
                const struct block_scratch *s, const uint64_t *key)
{
    const struct model_config *c = &m->config;
    const size_t stream = (size_t)(rows * c->hidden) * sizeof(float);
    if (c->parallel) block_input(m, layer, mlp_norm(c), acts, acts->x1, rows, s); // before x2 takes x1's place
    if (acts->x2 != acts->x1) memcpy(acts->x2, acts->x1, stream);
    add_branch(m, a, layer, LINEAR_O, acts, acts->x2, acts->attn, rows, s, key);
    if (!c->parallel) block_input(m, layer, NORM_MLP, acts, acts->x2, rows, s);
    mlp_up(m, a, layer, acts, rows, s, key);
    if (x3 != acts->x2) memcpy(x3, acts->x2, stream);
    add_branch(m, a, layer, LINEAR_DOWN, acts, x3, s->act, rows, s, key);
}

static size_t place_acts(struct layer_acts *k, const struct model *m, const struct adapter *a, int64_t layer, struct arena *arena,
                         int64_t rows, bool keep, float *x)
{
    const struct model_config *c = &m->config;
    const struct norm *norm = m->layer[layer].norm;
    const size_t size = dtype_size(m->options.compute), n = (size_t)rows, C = (size_t)c->hidden, stats = (size_t)norm_stats(c) * sizeof(float);
    size_t bytes = 0;
    k->x1 = k->x2 = x;
    if (keep && !x) bytes += arena_place(arena, &k->x1, n * C * sizeof(float));
    if (keep) bytes += arena_place(arena, &k->x2, n * C * sizeof(float));
    for (int i = 0; i < NORM_COUNT; i++)
        if (norm[i].w) bytes += arena_place(arena, &k->stat[i], n * stats);
    if (norm[NORM_ATTENTION_OUT].w) bytes += arena_place(arena, &k->branch[0], n * C * sizeof(float));
    if (norm[NORM_MLP_OUT].w) bytes += arena_place(arena, &k->branch[1], n * C * sizeof(float));
    bytes += arena_place(arena, &k->qkv, n * (size_t)qkv_width(c) * size);
    if (c->qk_norm) {
        bytes += arena_place(arena, &k->qk_raw, n * (size_t)(q_width(c) + kv_width(c)) * size);
        bytes += arena_place(arena, &k->stat_q, n * (size_t)c->n_head * stats);
        bytes += arena_place(arena, &k->stat_k, n * (size_t)c->n_kv * stats);
    }
    bytes += arena_place(arena, &k->attn, n * (size_t)q_width(c) * size);
    bytes += arena_place(arena, &k->lse, n * (size_t)c->n_head * sizeof(float));
    bytes += arena_place(arena, &k->gate_up, n * (size_t)up_width(c) * size);
    for (int id = 0; id < LINEAR_COUNT; id++) {
        const struct lora_linear *l = adapter_linear(a, layer, (enum linear_id)id);
        if (l) bytes += arena_place(arena, &k->lora[id], n * (size_t)l->r_sum * size);
    }
    return bytes;
}

size_t layer_acts_bytes(const struct model *m, const struct adapter *a, int64_t rows, bool keep)
{
    struct layer_acts unused = {0};
    float given; // a block that runs again finds its input among those of all blocks
    size_t most = 0;
    for (int64_t i = 0; i < m->config.n_layer; i++) {
        size_t n = place_acts(&unused, m, a, i, NULL, rows, keep, m->options.recompute ? &given : NULL);
        if (n > most) most = n;
    }
    return most;
}

size_t acts_bytes(const struct model *m, const struct adapter *a, int64_t rows, bool keep)
{
    const size_t layer = layer_acts_bytes(m, a, rows, keep), layers = (size_t)m->config.n_layer;
    if (!keep) return layer;
    return m->options.recompute ? layer + layers * arena_room((size_t)(rows * m->config.hidden) * sizeof(float)) : layers * layer;
}

void layer_acts_take(struct layer_acts *acts, const struct model *m, const struct adapter *a, int64_t layer, struct arena *arena,
                     int64_t rows, bool keep, float *x)
{
    *acts = (struct layer_acts){0};
    place_acts(acts, m, a, layer, arena, rows, keep, x);
}
