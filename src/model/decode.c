#include "model/decode.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "model/adapter.h"

struct kv_cache {
    struct model *model;
    struct arena store; /* keys and values of all layers */
    void **layer;       /* (n_layer) blocks of rows, in the backend's layout */
    int64_t rows;
    struct arena work; /* buffers of one pass */
    size_t work_bytes; /* that a pass takes at most */
};

int kv_cache_create(struct kv_cache **out, struct model *m, sail_err *err)
{
    struct kv_cache *c;
    *out = NULL;
    int rc = mem_alloc(&c, 1, sizeof *c, err);
    if (rc) return rc;
    c->model = m;
    rc = mem_alloc(&c->layer, (size_t)m->config.n_layer, sizeof *c->layer, err);
    if (rc) {
        free(c);
        return rc;
    }
    *out = c;
    return SAIL_OK;
}

void kv_cache_free(struct kv_cache *c)
{
    if (!c) return;
    arena_release(&c->store);
    arena_release(&c->work);
    free(c->layer);
    free(c);
}

size_t kv_cache_bytes(const struct kv_cache *c) { return c->store.used + c->work_bytes; }

static size_t work_bytes(const struct model *m, const struct adapter *a, int64_t n, int64_t longest)
{
    const size_t C = (size_t)m->config.hidden, size = dtype_size(m->options.compute), rows = (size_t)n;
    return layer_acts_bytes(m, a, n, false) + block_scratch_bytes(m, a, n) + arena_room(rows * C * sizeof(float)) + arena_room(rows * C * size) + arena_room(rows * sizeof(float)) +
           2 * arena_room(rows * sizeof(int32_t)) + turns_bytes(m, n, longest) + 2 * arena_room(rows * sizeof(float)) + arena_room(rows * sizeof(struct attn_segment)) +
           arena_room(rows * sizeof(struct cache_range)) + (1 << 16);
}

int kv_cache_reserve(struct kv_cache *c, struct policy p, int64_t rows, int64_t most, int64_t n_pos, sail_err *err)
{
    struct model *m = c->model;
    int rc = rope_ensure(m, n_pos, err);
    if (!rc && rows > c->rows) {
        size_t each = 0; // of the layer that needs most: they share one arena
        for (int64_t i = 0; i < m->config.n_layer; i++) {
            const struct attn_shape shape = layer_attn_shape(&m->config, i);
            const size_t bytes = arena_room((size_t)((rows + CACHE_BLOCK - 1) / CACHE_BLOCK) * ops->cache_block_bytes(m->options.compute, &shape));
            if (bytes > each) each = bytes;
        }
        arena_release(&c->store);
        c->rows = 0;
        if (!(rc = arena_init(&c->store, each * (size_t)m->config.n_layer, err))) {
            for (int64_t i = 0; i < m->config.n_layer; i++) c->layer[i] = arena_take(&c->store, each);
            c->rows = rows;
        }
    }
    const size_t need = work_bytes(m, p.adapter, most, n_pos);
    if (need > c->work_bytes) c->work_bytes = need;
    if (!rc && need > c->work.capacity) {
        arena_release(&c->work);
        rc = arena_init(&c->work, need, err);
    }
    return rc;
}

struct pass {
    int64_t n;
    int32_t *id, *pos; /* token, position */
    struct turns turn;
    float *x;
    struct layer_acts acts;
    struct block_scratch scratch;
};

/* Buffers of a pass over n rows; what a layer needs lies above *mark and is laid out layer by layer (layers may be adapted unevenly). */
static struct pass start_pass(struct kv_cache *c, int64_t n, int64_t longest, size_t *mark)
{
    struct arena *w = &c->work;
    struct pass p = {.n = n};
    p.id = arena_take(w, (size_t)n * sizeof *p.id);
    p.pos = arena_take(w, (size_t)n * sizeof *p.pos);
    turns_take(&p.turn, c->model, w, n, longest);
    p.x = arena_take(w, (size_t)(n * c->model->config.hidden) * sizeof *p.x);
    *mark = arena_mark(w);
    return p;
}

static void layer_buffers(struct kv_cache *c, const struct adapter *a, int64_t layer, struct pass *p, size_t mark)
{
    arena_reset(&c->work, mark);
    layer_acts_take(&p->acts, c->model, a, layer, &c->work, p->n, false, p->x);
    p->scratch = block_scratch_take(c->model, a, &c->work, p->n);
}

/* What follows a prompt is read at its last token: in the last layer the others are keys and values and nothing else. */
static void only_last(struct attn_segment *segment, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const int64_t before = segment[i].n - 1;
        segment[i] = (struct attn_segment){.start = segment[i].start + before, .n = 1, .prefix = segment[i].start, .n_prefix = before};
    }
}

/* The rest of the last layer runs on the last rows alone: their attention moves to the front, their stream to x. */
static void gather_last(struct pass *p, float *x, const struct attn_segment *segment, int64_t n, int64_t hidden, int64_t attn_bytes)
{
    char *attn = p->acts.attn;
    for (int64_t i = 0; i < n; i++) {
        memmove(attn + i * attn_bytes, attn + segment[i].start * attn_bytes, (size_t)attn_bytes); // a row never moves up
        memcpy(x + i * hidden, p->x + segment[i].start * hidden, (size_t)hidden * sizeof *x);
    }
    p->acts.x1 = p->acts.x2 = x;
}

void kv_prefill(struct kv_cache *c, struct policy policy, const struct prefill *prompt, int64_t n, float *x)
{
    struct model *m = c->model;
    const struct model_config *f = &m->config;
    const enum dtype t = m->options.compute;
    int64_t rows = 0, longest = 0;
    for (int64_t i = 0; i < n; i++) {
        rows += prompt[i].n;
        if (prompt[i].n > longest) longest = prompt[i].n;
    }
    arena_reset(&c->work, 0);
    struct attn_segment *segment = arena_take(&c->work, (size_t)n * sizeof *segment);
    struct cache_range *range = arena_take(&c->work, (size_t)n * sizeof *range);
    size_t mark;
    struct pass p = start_pass(c, rows, longest, &mark);
    int64_t k = 0;
    for (int64_t i = 0; i < n; i++) {
        segment[i] = (struct attn_segment){.start = k, .n = prompt[i].n};
        range[i] = (struct cache_range){.from = k, .n = prompt[i].n, .to = prompt[i].row};
        turns_put(&p.turn, m, k, 0, prompt[i].n, prompt[i].n);
        for (int64_t j = 0; j < prompt[i].n; j++, k++) {
            p.id[k] = prompt[i].ids[j];
            p.pos[k] = (int32_t)j;
        }
    }
    layer_buffers(c, policy.adapter, 0, &p, mark);
    embed_rows(m, policy.adapter, p.x, p.id, p.pos, rows, &p.scratch);
    const int64_t q = qkv_width(f), k_at = q_width(f), v_at = k_at + kv_width(f);
    for (int64_t i = 0; i < f->n_layer; i++) {
        const struct attn_shape shape = layer_attn_shape(f, i);
        layer_buffers(c, policy.adapter, i, &p, mark);
        block_qkv(m, policy.adapter, i, &p.acts, &p.turn, rows, &p.scratch, NULL);
        const void *key = element_of(p.acts.qkv, t, k_at), *value = element_of(p.acts.qkv, t, v_at);
        ops->cache_store(c->layer[i], key, value, q, t, range, n, &shape);
        const bool last = i + 1 == f->n_layer;
        if (last) only_last(segment, n);
        ops->attn_fwd(p.acts.attn, k_at, p.acts.lse, p.acts.qkv, q, key, value, q, t, segment, n, &shape);
        if (last) gather_last(&p, x, segment, n, f->hidden, k_at * (int64_t)dtype_size(t));
        block_rest(m, policy.adapter, i, &p.acts, last ? x : p.x, last ? n : rows, &p.scratch, NULL);
    }
}

void kv_step(struct kv_cache *c, struct policy policy, const int32_t *id, const struct attn_cache_row *row, int64_t n, float *x)
{
    struct model *m = c->model;
    const struct model_config *f = &m->config;
    const enum dtype t = m->options.compute;
    size_t mark;
    arena_reset(&c->work, 0);
    struct pass p = start_pass(c, n, 0, &mark);
    for (int64_t i = 0; i < n; i++) {
        p.pos[i] = (int32_t)(row[i].n_prefix + row[i].n - 1);
        BUG_ON(f->rope_dynamic && p.pos[i] >= f->rope_switch, "a step past the length where every key turns anew");
        turns_put(&p.turn, m, i, p.pos[i], 1, p.pos[i] + 1);
    }
    layer_buffers(c, policy.adapter, 0, &p, mark);
    embed_rows(m, policy.adapter, p.x, id, p.pos, n, &p.scratch);
    const int64_t q = qkv_width(f), k_at = q_width(f), v_at = k_at + kv_width(f);
    for (int64_t i = 0; i < f->n_layer; i++) {
        const struct attn_shape shape = layer_attn_shape(f, i);
        layer_buffers(c, policy.adapter, i, &p, mark);
        block_qkv(m, policy.adapter, i, &p.acts, &p.turn, n, &p.scratch, NULL);
        ops->attn_decode(p.acts.attn, k_at, c->layer[i], p.acts.qkv, q, element_of(p.acts.qkv, t, k_at), element_of(p.acts.qkv, t, v_at), q, t, row, n, &shape);
        block_rest(m, policy.adapter, i, &p.acts, p.x, n, &p.scratch, NULL);
    }
    memcpy(x, p.x, (size_t)(n * f->hidden) * sizeof *x);
}

int64_t kv_logits_row(const struct model *m)
{
    enum { LINE = 64 / sizeof(float), PERIOD = 1024 / sizeof(float) };
    const int64_t row = (m->config.vocab + LINE - 1) / LINE * LINE;
    return row % PERIOD ? row : row + LINE;
}

void kv_logits(struct kv_cache *c, struct policy policy, const float *x, int64_t n, float *logits)
{
    struct model *m = c->model;
    const struct model_config *f = &m->config;
    const int64_t row = kv_logits_row(m);
    arena_reset(&c->work, 0);
    void *h = arena_take(&c->work, (size_t)(n * f->hidden) * dtype_size(m->options.compute));
    float *stat = arena_take(&c->work, (size_t)(n * norm_stats(f)) * sizeof *stat);
    norm_forward(f, &m->final_norm, h, m->options.compute, stat, x, DTYPE_F32, n, f->hidden);
    ops->linear_fwd(logits, DTYPE_F32, row, h, m->options.compute, f->hidden, head_weight(m, policy.adapter), NULL, n, f->logit_scale, false);
    const float cap = f->logit_softcap;
    if (cap == 0) return;
#pragma omp parallel for num_threads(backend_thread_count()) schedule(static)
    for (int64_t i = 0; i < n * row; i++) logits[i] = cap * tanhf(logits[i] / cap);
}
