/* Attention in tiles of BLOCK queries by BLOCK keys, all heads of a key's group together; scores never leave a tile. Each item
 * of work owns its outputs (queries, or keys in the second half of the backward pass) and walks the other side in order, so
 * that results do not depend on the number of threads.
 *
 * A tile has a row for a key and a column for a query: rows of keys and values are multiplied where they lie in memory, the panels of an item's queries are made
 * once, and what a softmax takes over keys runs down the columns, a vector of queries at a time.
 *
 * Products run in f32, or, where activations are bf16 and the processor multiplies pairs of them, in bf16 with f32 sums: then
 * the operands stay as they are in memory, and probabilities and their gradients are rounded before they are multiplied. */
#include <math.h>

#include "backend/cpu/kernels.h"

enum { BLOCK = 64 };

/* An item of the query side: rows [first, first + n) of a segment for the heads of one key/value head. */
struct query_block {
    const struct attn_segment *segment;
    int64_t first, n, kv;
};

static int64_t blocks_of(int64_t n) { return (n + BLOCK - 1) / BLOCK; }

static int64_t query_items(const struct attn_segment *segment, int64_t n_segment, const struct attn_shape *shape)
{
    int64_t n = 0;
    for (int64_t i = 0; i < n_segment; i++) n += blocks_of(segment[i].n);
    return n * shape->n_kv;
}

static struct query_block query_item(const struct attn_segment *segment, int64_t item, const struct attn_shape *shape)
{
    int64_t block = item / shape->n_kv;
    while (block >= blocks_of(segment->n)) block -= blocks_of(segment++->n);
    int64_t first = block * BLOCK, left = segment->n - first;
    return (struct query_block){segment, first, left < BLOCK ? left : BLOCK, item % shape->n_kv};
}

/* Keys [first, first + n) of one of a segment's two ranges: row of the first, its position. */
struct key_block {
    int64_t row, position, n;
};

/* The next block of keys that some query of b sees, from position *at on; false at the end. */
static bool key_block_next(struct key_block *k, int64_t *at, const struct query_block *b, int64_t window)
{
    const struct attn_segment *s = b->segment;
    int64_t first = s->n_prefix + b->first, end = first + b->n; // positions of the queries
    if (window > 0 && *at < first - window + 1) *at = first - window + 1;
    if (*at >= end) return false;
    bool prefix = *at < s->n_prefix;
    int64_t left = (prefix ? s->n_prefix : end) - *at;
    *k = (struct key_block){prefix ? s->prefix + *at : s->start + *at - s->n_prefix, *at, left < BLOCK ? left : BLOCK};
    *at += k->n;
    return true;
}

/* Columns [*from, *to) of a row whose visible positions are low .. high, columns being at position, position + 1, ... */
static void visible(int64_t low, int64_t high, int64_t position, int64_t n, int64_t *from, int64_t *to)
{
    *from = low > position ? low - position : 0;
    *to = high - position + 1 < n ? high - position + 1 : n;
    if (*from > n) *from = n;
    if (*to < *from) *to = *from;
}

static void zero_outside(float *row, int64_t n, int64_t from, int64_t to)
{
    memset(row, 0, (size_t)from * sizeof *row);
    memset(row + to, 0, (size_t)(n - to) * sizeof *row);
}

/* How the operands of the products are kept: f32 units, or pairs of bf16 along the depth. */
static enum units operand_units(enum dtype t, int64_t d)
{
    return t == DTYPE_BF16 && d % 2 == 0 && kernels()->gemm[UNITS_PAIR] ? UNITS_PAIR : UNITS_F32;
}

/* Units of a depth of n values. */
static int64_t depth(enum units u, int64_t n) { return u == UNITS_PAIR ? (n + 1) / 2 : n; }

/* rows (n, d) of operands = x, and zero rows up to a multiple of the panel's width. */
static void rows_load(enum units u, float *rows, const void *x, enum dtype t, int64_t ld, int64_t n, int64_t d)
{
    const struct kernels *k = kernels();
    const int64_t units = depth(u, d);
    for (int64_t r = 0; r < n; r++) {
        const char *from = (const char *)x + (size_t)(r * ld) * dtype_size(t);
        if (u == UNITS_PAIR)
            memcpy(rows + r * units, from, (size_t)units * sizeof *rows);
        else
            k->widen(rows + r * units, from, t, d);
    }
    memset(rows + n * units, 0, (size_t)((k->nr - n % k->nr) % k->nr * units) * sizeof *rows);
}

/* B = rows^T: depth d, a column a row. */
static void panels_across(enum units u, float *panels, const float *rows, int64_t n, int64_t d)
{
    const struct kernels *k = kernels();
    const int64_t units = depth(u, d);
    for (int64_t r = 0; r < n; r += k->nr) k->transpose(panels + r * units, k->nr, rows + r * units, units, k->nr, units);
}

/* The A of a product: rows `row` units apart, `step` units from one of its depth to the next. */
struct operand {
    const float *at;
    int64_t row, step;
};

/* n rows of x as an operand: where they are, or converted to `copy`. */
static struct operand rows_of(enum units u, const void *x, enum dtype t, int64_t ld, int64_t n, int64_t d, float *copy)
{
    const int64_t bytes = ld * (int64_t)dtype_size(t);
    if ((u == UNITS_PAIR || t == DTYPE_F32) && bytes % 4 == 0) return (struct operand){x, bytes / 4, 1};
    rows_load(u, copy, x, t, ld, n, d);
    return (struct operand){copy, depth(u, d), 1};
}

/* B = rows: depth n, d columns. */
static void panels_along(enum units u, float *panels, struct operand rows, int64_t n, int64_t d)
{
    const struct kernels *k = kernels();
    const int64_t together = u == UNITS_PAIR ? 2 : 1, units = depth(u, n), nr = k->nr;
    for (int64_t c = 0; c < d; c += nr) {
        int64_t width = d - c < nr ? d - c : nr;
        float *panel = panels + c * units;
        for (int64_t r = 0; r < units; r++) {
            const char *row = (const char *)(rows.at + r * together * rows.row) + (size_t)c * (u == UNITS_PAIR ? 2 : 4);
            if (u == UNITS_PAIR)
                k->zip(panel + r * nr, row, 2 * r + 1 < n ? row + rows.row * 4 : NULL, width);
            else
                memcpy(panel + r * nr, row, (size_t)width * sizeof *panel);
            if (width < nr) memset(panel + r * nr + width, 0, (size_t)(nr - width) * sizeof *panel);
        }
    }
}

/* A tile (n, columns), rows ld apart, as the operand whose rows are the tile's columns: pairs of rows become units where they stand. */
static struct operand columns_of(enum units u, float *tile, int64_t ld, int64_t n, int64_t columns)
{
    for (int64_t r = 0; u == UNITS_PAIR && r < n; r += 2) // what is written never overtakes what is read
        kernels()->pair_rows(tile + r / 2 * ld, tile + r * ld, r + 1 < n ? tile + (r + 1) * ld : NULL, columns);
    return (struct operand){tile, 1, ld};
}

/* c (m, n) (+)= alpha a (m, k) panels */
static void tile_product(enum units u, float *c, int64_t ldc, struct operand a, const float *panels, int64_t m, int64_t n, int64_t k,
                         float alpha, bool add)
{
    const struct kernels *kernel = kernels();
    struct gemm g = {.a = (const char *)a.at,
                     .row = a.row * 4,
                     .step = a.step * 4,
                     .b = (const char *)panels,
                     .panel = depth(u, k) * kernel->nr * 4,
                     .m = m,
                     .n = n,
                     .k = depth(u, k),
                     .c = (char *)c,
                     .ct = DTYPE_F32,
                     .ldc = ldc,
                     .alpha = alpha,
                     .accumulate = add};
    kernel->gemm[u](&g);
}

/* What a thread works in. Query side: rows (group * BLOCK, d), or panels of them; key side: (BLOCK, d). */
struct workspace {
    enum units units;
    float *rows, *out, *queries, *douts;              // query side
    float *k, *v, *across, *along, *across2, *along2; // key side
    float *s, *dp, *p;                                // tiles: (BLOCK, ld)
    int64_t ld;
    float *max, *sum, *older; // of a query
    int32_t *position;
};

static struct workspace workspace_make(const struct attn_shape *shape, enum dtype t)
{
    const int64_t nr = kernels()->nr, queries = shape->n_head / shape->n_kv * BLOCK, rows = queries + nr, keys = BLOCK + nr, wide = shape->d + nr;
    const int64_t row_size = (rows * wide + 15) / 16 * 16, key_size = (keys * wide + 15) / 16 * 16;
    const int64_t ld = queries + 16, tile = ld * BLOCK; // an odd number of cache lines: a tile's rows meet all sets of a cache
    float *p = scratch(SCRATCH_OWN, (size_t)(4 * row_size + 6 * key_size + 3 * tile + 4 * rows) * sizeof *p);
    struct workspace w = {.units = operand_units(t, shape->d), .ld = ld, .rows = p, .out = p + row_size, .queries = p + 2 * row_size, .douts = p + 3 * row_size};
    p += 4 * row_size;
    w.k = p, w.v = p + key_size, w.across = p + 2 * key_size, w.along = p + 3 * key_size, w.across2 = p + 4 * key_size,
    w.along2 = p + 5 * key_size;
    p += 6 * key_size;
    w.s = p, w.dp = p + tile, w.p = p + 2 * tile;
    p += 3 * tile;
    w.max = p, w.sum = p + rows, w.older = p + 2 * rows, w.position = (int32_t *)(void *)(p + 3 * rows);
    return w;
}

static const void *head_at(const void *p, enum dtype t, int64_t row, int64_t ld, int64_t column)
{
    return (const char *)p + (size_t)(row * ld + column) * dtype_size(t);
}

/* The block's rows of all heads of the group, one head after the other, as panels of columns. */
static void group_across(const struct workspace *w, float *panels, const void *x, enum dtype t, int64_t ld, const struct query_block *b,
                         const struct attn_shape *shape)
{
    const int64_t group = shape->n_head / shape->n_kv, d = shape->d;
    for (int64_t h = 0; h < group; h++)
        rows_load(w->units, w->rows + h * b->n * depth(w->units, d), head_at(x, t, b->segment->start + b->first, ld, (b->kv * group + h) * d), t, ld,
                  b->n, d);
    panels_across(w->units, panels, w->rows, group * b->n, d);
}

/* Positions of an item's queries, and nothing summed yet; up to whole vectors. */
static void queries_begin(const struct workspace *w, const struct query_block *b, int64_t rows)
{
    const int64_t lanes = kernels()->lanes;
    for (int64_t r = 0; r < (rows + lanes - 1) / lanes * lanes; r++) {
        w->position[r] = (int32_t)(b->segment->n_prefix + b->first + r % b->n);
        w->max[r] = -INFINITY, w->sum[r] = 0;
    }
}

static void fwd_item(const struct query_block *b, void *o, int64_t ldo, float *lse, const void *q, int64_t ldq, const void *k,
                     const void *v, int64_t ldkv, enum dtype t, const struct attn_shape *shape)
{
    const struct kernels *kernel = kernels();
    const int64_t group = shape->n_head / shape->n_kv, d = shape->d, rows = group * b->n;
    const struct workspace w = workspace_make(shape, t);
    const enum units u = w.units;
    struct key_block key;
    bool begun = false;
    group_across(&w, w.queries, q, t, ldq, b, shape);
    queries_begin(&w, b, rows);
    for (int64_t at = 0; key_block_next(&key, &at, b, shape->window); begun = true) {
        const struct operand keys = rows_of(u, head_at(k, t, key.row, ldkv, b->kv * d), t, ldkv, key.n, d, w.k);
        const struct operand values = rows_of(u, head_at(v, t, key.row, ldkv, b->kv * d), t, ldkv, key.n, d, w.v);
        const struct attn_tile tile = {w.s, w.ld, key.n, rows, w.position, key.position, shape->window, shape->softcap};
        tile_product(u, w.s, w.ld, keys, w.queries, key.n, rows, d, shape->scale, false);
        kernel->attn_softmax_down(&tile, w.max, w.sum, w.older);
        for (int64_t r = 0; begun && r < rows; r++)
            if (w.older[r] != 1) kernel->axpy(w.out + r * d, DTYPE_F32, w.out + r * d, DTYPE_F32, d, w.older[r], false);
        panels_along(u, w.along, values, key.n, d);
        tile_product(u, w.out, d, columns_of(u, w.s, w.ld, key.n, rows), w.along, rows, d, key.n, 1, begun);
    }
    for (int64_t r = 0; r < rows; r++) {
        int64_t row = b->segment->start + b->first + r % b->n, head = b->kv * group + r / b->n;
        kernel->axpy((void *)head_at(o, t, row, ldo, head * d), t, w.out + r * d, DTYPE_F32, d, 1 / w.sum[r], false);
        lse[row * shape->n_head + head] = w.max[r] + logf(w.sum[r]);
    }
}

void cpu_attn_fwd(void *o, int64_t ldo, float *lse, const void *q, int64_t ldq, const void *k, const void *v, int64_t ldkv,
                  enum dtype t, const struct attn_segment *segment, int64_t n_segment, const struct attn_shape *shape)
{
    const int64_t items = query_items(segment, n_segment, shape);
#pragma omp parallel for num_threads(backend_thread_count()) schedule(dynamic)
    for (int64_t i = items - 1; i >= 0; i--) { // the last blocks of a segment have the most keys
        struct query_block b = query_item(segment, i, shape);
        fwd_item(&b, o, ldo, lse, q, ldq, k, v, ldkv, t, shape);
    }
}

/* ---------------------------------------------------------------- backward
 * P = exp(S - lse), delta = rows of dout . o:  dV = P^T dO, dS = P (dO V^T - delta), dQ = scale dS K, dK = scale dS^T Q.
 * Scores are computed twice, for dQ with queries as rows and for dK, dV with keys as rows. */

struct attn_grads {
    void *dq, *dk, *dv;
    const void *dout, *q, *k, *v;
    int64_t lddq, lddkv, lddo, ldq, ldkv;
    const float *lse, *delta; // (row, head); delta's first row is `first`
    int64_t first, end;       // rows that the call reads or writes
    enum dtype t;
    const struct attn_segment *segment;
    int64_t n_segment;
    const struct attn_shape *shape;
};

static void bwd_query_item(const struct query_block *b, const struct attn_grads *g)
{
    const struct kernels *kernel = kernels();
    const struct attn_shape *shape = g->shape;
    const int64_t group = shape->n_head / shape->n_kv, d = shape->d, rows = group * b->n, first = b->segment->n_prefix + b->first;
    const struct workspace w = workspace_make(shape, g->t);
    const enum units u = w.units;
    float *lse = w.max, *delta = w.sum;
    struct key_block key;
    bool begun = false;
    group_across(&w, w.queries, g->q, g->t, g->ldq, b, shape);
    group_across(&w, w.douts, g->dout, g->t, g->lddo, b, shape);
    for (int64_t r = 0; r < rows; r++) {
        const int64_t row = b->segment->start + b->first + r % b->n, head = b->kv * group + r / b->n;
        lse[r] = g->lse[row * shape->n_head + head];
        delta[r] = g->delta[(row - g->first) * shape->n_head + head];
    }
    for (int64_t at = 0; key_block_next(&key, &at, b, shape->window); begun = true) {
        const struct operand keys = rows_of(u, head_at(g->k, g->t, key.row, g->ldkv, b->kv * d), g->t, g->ldkv, key.n, d, w.k);
        const struct operand values = rows_of(u, head_at(g->v, g->t, key.row, g->ldkv, b->kv * d), g->t, g->ldkv, key.n, d, w.v);
        tile_product(u, w.s, w.ld, keys, w.queries, key.n, rows, d, shape->scale, false);
        tile_product(u, w.dp, w.ld, values, w.douts, key.n, rows, d, 1, false);
        for (int64_t j = 0; j < key.n; j++) {
            const int64_t position = key.position + j;
            int64_t from, to;
            visible(position, shape->window > 0 ? position + shape->window - 1 : INT64_MAX - 1, first, b->n, &from, &to);
            for (int64_t c = 0; c < rows; c += b->n) { // the heads
                float *s = w.s + j * w.ld + c;
                zero_outside(s, b->n, from, to);
                kernel->attn_grad(s + from, NULL, w.dp + j * w.ld + c + from, to - from, shape->softcap, lse + c + from, delta + c + from, true);
            }
        }
        panels_along(u, w.along, keys, key.n, d);
        tile_product(u, w.out, d, columns_of(u, w.s, w.ld, key.n, rows), w.along, rows, d, key.n, 1, begun);
    }
    for (int64_t r = 0; r < rows; r++) {
        int64_t row = b->segment->start + b->first + r % b->n, head = b->kv * group + r / b->n;
        kernel->axpy((void *)head_at(g->dq, g->t, row, g->lddq, head * d), g->t, w.out + r * d, DTYPE_F32, d, shape->scale,
                     false);
    }
}

/* What query block b of head `head` gives to n keys from position `position` on, whose panels are w->across, w->across2. Here a tile has a row for a query. */
static void bwd_tile(struct workspace *w, float *dk, float *dv, int64_t position, int64_t n, const struct query_block *b,
                     int64_t head, const struct attn_grads *g)
{
    const struct kernels *kernel = kernels();
    const struct attn_shape *shape = g->shape;
    const int64_t d = shape->d, row = b->segment->start + b->first, first = b->segment->n_prefix + b->first, ld = w->ld;
    const enum units u = w->units;
    const struct operand queries = rows_of(u, head_at(g->q, g->t, row, g->ldq, head * d), g->t, g->ldq, b->n, d, w->rows);
    const struct operand douts = rows_of(u, head_at(g->dout, g->t, row, g->lddo, head * d), g->t, g->lddo, b->n, d, w->out);
    tile_product(u, w->s, ld, queries, w->across, b->n, n, d, shape->scale, false);
    tile_product(u, w->dp, ld, douts, w->across2, b->n, n, d, 1, false);
    for (int64_t i = 0; i < b->n; i++) {
        float *s = w->s + i * ld, *p = w->p + i * ld;
        int64_t query = first + i, from, to;
        visible(shape->window > 0 ? query - shape->window + 1 : 0, query, position, n, &from, &to);
        zero_outside(s, n, from, to);
        zero_outside(p, n, from, to);
        kernel->attn_grad(s + from, p + from, w->dp + i * ld + from, to - from, shape->softcap, g->lse + (row + i) * shape->n_head + head,
                          g->delta + (row + i - g->first) * shape->n_head + head, false);
    }
    panels_along(u, w->along, queries, b->n, d);
    panels_along(u, w->along2, douts, b->n, d);
    tile_product(u, dv, d, columns_of(u, w->p, ld, b->n, n), w->along2, n, d, b->n, 1, true);
    tile_product(u, dk, d, columns_of(u, w->s, ld, b->n, n), w->along, n, d, b->n, shape->scale, true);
}

/* Keys in rows [row, row + n), at positions from `position` on in segment s, against all queries of s that see them. */
static void bwd_keys(struct workspace *w, float *dk, float *dv, int64_t row, int64_t position, int64_t n,
                     const struct attn_segment *s, int64_t kv, const struct attn_grads *g)
{
    const struct attn_shape *shape = g->shape;
    const int64_t d = shape->d, group = shape->n_head / shape->n_kv;
    rows_load(w->units, w->k, head_at(g->k, g->t, row, g->ldkv, kv * d), g->t, g->ldkv, n, d);
    rows_load(w->units, w->v, head_at(g->v, g->t, row, g->ldkv, kv * d), g->t, g->ldkv, n, d);
    panels_across(w->units, w->across, w->k, n, d);
    panels_across(w->units, w->across2, w->v, n, d);
    for (int64_t block = 0; block < blocks_of(s->n); block++) {
        struct query_block b = {s, block * BLOCK, s->n - block * BLOCK < BLOCK ? s->n - block * BLOCK : BLOCK, kv};
        int64_t first = s->n_prefix + b.first, last = first + b.n - 1;
        if (last < position || (shape->window > 0 && first - shape->window >= position + n - 1)) continue;
        for (int64_t h = 0; h < group; h++) bwd_tile(w, dk, dv, position, n, &b, kv * group + h, g);
    }
}

/* Rows [row, row + BLOCK) as keys of every segment that has some of them. */
static void bwd_key_item(int64_t row, int64_t kv, const struct attn_grads *g)
{
    const struct kernels *kernel = kernels();
    const int64_t d = g->shape->d;
    struct workspace w = workspace_make(g->shape, g->t);
    float *dk = scratch(SCRATCH_B, (size_t)(2 * BLOCK * d) * sizeof *dk), *dv = dk + BLOCK * d;
    bool seen[BLOCK] = {false};
    memset(dk, 0, (size_t)(2 * BLOCK * d) * sizeof *dk);
    for (const struct attn_segment *s = g->segment; s < g->segment + g->n_segment; s++) {
        const int64_t range[2][3] = {{s->prefix, s->n_prefix, 0}, {s->start, s->n, s->n_prefix}}; // row, rows, position
        for (int i = 0; i < 2; i++) {
            int64_t from = range[i][0] > row ? range[i][0] : row, to = range[i][0] + range[i][1];
            if (to > row + BLOCK) to = row + BLOCK;
            if (from >= to) continue;
            bwd_keys(&w, dk + (from - row) * d, dv + (from - row) * d, from, range[i][2] + from - range[i][0], to - from, s, kv,
                     g);
            for (int64_t r = from; r < to; r++) seen[r - row] = true;
        }
    }
    for (int64_t r = 0; r < BLOCK; r++) {
        if (!seen[r]) continue;
        kernel->axpy((void *)head_at(g->dk, g->t, row + r, g->lddkv, kv * d), g->t, dk + r * d, DTYPE_F32, d, 1, false);
        kernel->axpy((void *)head_at(g->dv, g->t, row + r, g->lddkv, kv * d), g->t, dv + r * d, DTYPE_F32, d, 1, false);
    }
}

static void rows_span(struct attn_grads *g)
{
    g->first = INT64_MAX, g->end = 0;
    for (const struct attn_segment *s = g->segment; s < g->segment + g->n_segment; s++) {
        const int64_t range[2][2] = {{s->prefix, s->n_prefix}, {s->start, s->n}};
        for (int i = 0; i < 2; i++) {
            if (!range[i][1]) continue;
            if (range[i][0] < g->first) g->first = range[i][0];
            if (range[i][0] + range[i][1] > g->end) g->end = range[i][0] + range[i][1];
        }
    }
}

void cpu_attn_bwd(void *dq, int64_t lddq, void *dk, void *dv, int64_t lddkv, const void *dout, int64_t lddo, const void *o,
                  int64_t ldo, const float *lse, const void *q, int64_t ldq, const void *k, const void *v, int64_t ldkv,
                  enum dtype t, const struct attn_segment *segment, int64_t n_segment, const struct attn_shape *shape)
{
    struct attn_grads g = {dq,  dk,   dv,  dout, q, k, v, lddq,    lddkv,     lddo,
                           ldq, ldkv, lse, NULL, 0, 0, t, segment, n_segment, shape};
    rows_span(&g);
    if (g.end <= g.first) return;
    const int64_t n_head = shape->n_head, d = shape->d, queries = query_items(segment, n_segment, shape);
    const int64_t keys = blocks_of(g.end - g.first) * shape->n_kv;
    float *delta = scratch(SCRATCH_A, (size_t)((g.end - g.first) * n_head) * sizeof *delta);
    g.delta = delta;
#pragma omp parallel num_threads(backend_thread_count())
    {
        for (int64_t i = 0; i < n_segment; i++)
#pragma omp for nowait
            for (int64_t r = segment[i].start; r < segment[i].start + segment[i].n; r++)
                for (int64_t h = 0; h < n_head; h++)
                    delta[(r - g.first) * n_head + h] =
                        kernels()->dot(head_at(dout, t, r, lddo, h * d), t, head_at(o, t, r, ldo, h * d), t, d);
#pragma omp barrier
#pragma omp for schedule(dynamic) nowait
        for (int64_t i = queries - 1; i >= 0; i--) {
            struct query_block b = query_item(segment, i, shape);
            bwd_query_item(&b, &g);
        }
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < keys; i++) bwd_key_item(g.first + i / shape->n_kv * BLOCK, i % shape->n_kv, &g);
    }
}
