/* Attention of decoding: one query row a sequence against the cache. A block of the cache holds, for each key/value head, its keys and then its values as the
 * operands of products: keys in panels of nr keys across (depth d), values in panels of nr columns (depth CACHE_BLOCK keys). The query heads that share a key/value
 * head are rows of one product, and so are those of all sequences that share a prompt: its part of the cache is read once for all of them. */
#include <math.h>
#include <stdatomic.h>

#include "backend/cpu/kernels.h"

struct layout {
    enum units units;
    enum dtype dtype;
    int64_t d, nr, depth;              /* depth: units of a key */
    int64_t size;                      /* bytes of a unit in the cache */
    int64_t key_panel, value_panel;    /* bytes */
    int64_t values, head, block;       /* bytes: from a head's keys to its values, from a head to the next, from a block to the next */
};

static struct layout layout_of(enum dtype t, const struct attn_shape *shape)
{
    const bool pairs = t == DTYPE_BF16 && shape->d % 2 == 0 && kernels()->gemm[UNITS_PAIR];
    struct layout l = {.units = t == DTYPE_F32 ? UNITS_F32 : pairs ? UNITS_PAIR : UNITS_BF16, .dtype = t, .d = shape->d, .nr = kernels()->nr};
    l.depth = pairs ? l.d / 2 : l.d;
    l.size = l.units == UNITS_BF16 ? 2 : 4;
    l.key_panel = panel_bytes(l.units, l.d);
    l.value_panel = panel_bytes(l.units, CACHE_BLOCK);
    l.values = CACHE_BLOCK / l.nr * l.key_panel;
    l.head = l.values + (l.d + l.nr - 1) / l.nr * l.value_panel;
    l.block = shape->n_kv * l.head;
    return l;
}

size_t cpu_cache_block_bytes(enum dtype t, const struct attn_shape *shape) { return (size_t)layout_of(t, shape).block; }

/* ---------------------------------------------------------------- storing */

/* Keys 0 .. n of a block; consecutive keys are ldk elements apart. */
static void keys_put(const struct layout *l, char *keys, const char *k, int64_t ldk, int64_t n)
{
    const struct kernels *kernel = kernels();
    const int64_t row = ldk * (int64_t)dtype_size(l->dtype);
    for (int64_t j = 0; j < n; j += l->nr) {
        char *panel = keys + j / l->nr * l->key_panel;
        const int64_t width = n - j < l->nr ? n - j : l->nr;
        if (l->size == 4 && row % 4 == 0) {
            kernel->transpose(panel, l->nr, k + j * row, row / 4, width, l->depth);
            continue;
        }
        for (int64_t i = 0; i < l->depth; i++)
            for (int64_t c = 0; c < width; c++) memcpy(panel + (i * l->nr + c) * l->size, k + (j + c) * row + i * l->size, (size_t)l->size);
    }
}

/* Key j of a block. */
static void key_put(const struct layout *l, char *keys, int64_t j, const char *k)
{
    char *column = keys + j / l->nr * l->key_panel + j % l->nr * l->size;
    const int64_t step = l->nr * l->size;
    if (l->size == 4)
        for (int64_t i = 0; i < l->depth; i++) memcpy(column + i * step, k + 4 * i, 4);
    else
        for (int64_t i = 0; i < l->depth; i++) memcpy(column + i * step, k + 2 * i, 2);
}

/* Value j of a block, and where the next one (NULL: none yet, zero) belongs to the same unit, that one too. */
static void value_put(const struct layout *l, char *values, int64_t j, const char *v, const char *next)
{
    const size_t size = dtype_size(l->dtype);
    for (int64_t c = 0; c < l->d; c += l->nr) {
        const int64_t width = l->d - c < l->nr ? l->d - c : l->nr;
        char *panel = values + c / l->nr * l->value_panel;
        const char *from = v + (size_t)c * size;
        if (l->units != UNITS_PAIR)
            memcpy(panel + j * l->nr * l->size, from, (size_t)width * size);
        else if (j % 2 == 0)
            kernels()->zip(panel + j / 2 * l->nr * 4, from, next ? next + (size_t)c * size : NULL, width);
        else
            for (int64_t i = 0; i < width; i++) memcpy(panel + (j / 2 * l->nr + i) * 4 + 2, from + 2 * i, 2);
    }
}

static void values_put(const struct layout *l, char *values, const char *v, int64_t ldv, int64_t n)
{
    const int64_t row = ldv * (int64_t)dtype_size(l->dtype), together = l->units == UNITS_PAIR ? 2 : 1;
    for (int64_t j = 0; j < n; j += together) value_put(l, values, j, v + j * row, j + 1 < n ? v + (j + 1) * row : NULL);
}

static int64_t blocks_of(int64_t n) { return (n + CACHE_BLOCK - 1) / CACHE_BLOCK; }

void cpu_cache_store(void *cache, const void *k, const void *v, int64_t ldkv, enum dtype t, const struct cache_range *range, int64_t n, const struct attn_shape *shape)
{
    const struct layout l = layout_of(t, shape);
    const size_t size = dtype_size(t);
    int64_t blocks = 0;
    for (int64_t i = 0; i < n; i++) {
        BUG_ON(range[i].to % CACHE_BLOCK, "cache rows are stored from row %lld on: expected a block's first", (long long)range[i].to);
        blocks += blocks_of(range[i].n);
    }
#pragma omp parallel for num_threads(backend_thread_count()) schedule(static)
    for (int64_t item = 0; item < blocks * shape->n_kv; item++) {
        const struct cache_range *r = range;
        int64_t block = item / shape->n_kv, kv = item % shape->n_kv;
        while (block >= blocks_of(r->n)) block -= blocks_of(r++->n);
        const int64_t first = block * CACHE_BLOCK, left = r->n - first, m = left < CACHE_BLOCK ? left : CACHE_BLOCK;
        const size_t at = (size_t)((r->from + first) * ldkv + kv * l.d) * size;
        char *head = (char *)cache + (r->to / CACHE_BLOCK + block) * l.block + kv * l.head;
        keys_put(&l, head, (const char *)k + at, ldkv, m);
        values_put(&l, head + l.values, (const char *)v + at, ldkv, m);
    }
}

/* ---------------------------------------------------------------- attending */

struct decode {
    struct layout l;
    char *o;
    const char *q, *k, *v;
    int64_t ldo, ldq, ldkv;
    char *cache;
    const struct attn_cache_row *row;
    const struct attn_shape *shape;
};

/* Adjacent rows with the same prefix (or one row), and what a thread works in for one key/value head of them: `rows` queries, each row's group of heads together.
 * A query's weights: of the prefix from column 0 on, of the row's own keys from column `own` on. */
struct item {
    int64_t first, n; /* rows */
    int64_t rows, q_row, stride, own, lowest; /* bytes of a query; lowest: first key of the prefix that any of them sees */
    float *s, *out, *max, *sum; /* (rows, stride), (rows, d), (rows) */
    char *q;
};

static int64_t items_of(struct item *out, const struct attn_cache_row *row, int64_t n, int64_t most)
{
    int64_t count = 0;
    for (int64_t r = 0; r < n; r++) {
        struct item *last = count ? &out[count - 1] : NULL;
        if (last && last->n < most && row[r].n_prefix && row[r].prefix == row[r - 1].prefix && row[r].n_prefix == row[r - 1].n_prefix)
            last->n++;
        else
            out[count++] = (struct item){.first = r, .n = 1};
    }
    return count;
}

/* The first keys that a row's query sees, of the prefix and of its own. */
struct seen {
    int64_t prefix, own;
};

static struct seen first_seen(const struct attn_cache_row *row, int64_t window)
{
    const int64_t keys = row->n_prefix + row->n, low = window > 0 && keys > window ? keys - window : 0, prefix = low < row->n_prefix ? low : row->n_prefix;
    return (struct seen){prefix, low - prefix};
}

static void item_make(struct item *w, const struct decode *g)
{
    const struct attn_cache_row *row = g->row + w->first;
    int64_t longest = 0;
    w->lowest = row->n_prefix;
    for (int64_t r = 0; r < w->n; r++) {
        const int64_t prefix = first_seen(row + r, g->shape->window).prefix;
        if (row[r].n > longest) longest = row[r].n;
        if (prefix < w->lowest) w->lowest = prefix;
    }
    w->rows = w->n * (g->shape->n_head / g->shape->n_kv);
    w->q_row = g->l.depth * 4;
    w->own = blocks_of(row->n_prefix) * CACHE_BLOCK;
    w->stride = w->own + blocks_of(longest) * CACHE_BLOCK;
    w->s = scratch(SCRATCH_OWN, (size_t)(w->rows * (w->stride + 2 * g->l.d + 2)) * sizeof *w->s);
    w->out = w->s + w->rows * w->stride;
    w->max = w->out + w->rows * g->l.d;
    w->sum = w->max + w->rows;
    w->q = (char *)(w->sum + w->rows);
    memset(w->out, 0, (size_t)(w->rows * g->l.d) * sizeof *w->out);
}

/* A row's own key and value enter the cache. */
static void row_enter(const struct decode *g, const struct item *w, int64_t r, int64_t kv)
{
    const struct layout *l = &g->l;
    const struct attn_cache_row *row = g->row + w->first + r;
    const int64_t last = row->start + row->n - 1, at = ((w->first + r) * g->ldkv + kv * l->d) * (int64_t)dtype_size(l->dtype);
    char *head = g->cache + last / CACHE_BLOCK * l->block + kv * l->head;
    key_put(l, head, last % CACHE_BLOCK, g->k + at);
    value_put(l, head + l->values, last % CACHE_BLOCK, g->v + at, NULL);
}

/* A row's queries as rows of a product. */
static void row_queries(const struct decode *g, const struct item *w, int64_t r, int64_t kv)
{
    const struct layout *l = &g->l;
    const int64_t group = w->rows / w->n;
    const char *from = g->q + ((w->first + r) * g->ldq + kv * group * l->d) * (int64_t)dtype_size(l->dtype);
    char *q = w->q + r * group * w->q_row;
    if (l->units == UNITS_PAIR)
        memcpy(q, from, (size_t)(group * w->q_row));
    else
        kernels()->widen((float *)(void *)q, from, l->dtype, group * l->d);
}

static const char *block_at(const struct decode *g, int64_t row, int64_t kv) { return g->cache + row / CACHE_BLOCK * g->l.block + kv * g->l.head; }

static int64_t block_begin(int64_t row) { return row / CACHE_BLOCK * CACHE_BLOCK; }

/* Cache rows start + [from, n), from the beginning of a block on, that queries first .. first + rows meet; their scores are in s from `column` on. next: what is read afterwards. */
struct range {
    int64_t first, rows, column, start, from, n;
    const char *next;
};

static struct range prefix_range(const struct decode *g, const struct item *w)
{
    const struct attn_cache_row *row = g->row + w->first;
    return (struct range){.rows = w->rows, .start = row->prefix, .from = w->lowest, .n = row->n_prefix};
}

static struct range own_range(const struct decode *g, const struct item *w, int64_t r)
{
    const struct attn_cache_row *row = g->row + w->first + r;
    const int64_t group = w->rows / w->n;
    return (struct range){.first = r * group, .rows = group, .column = w->own, .start = row->start, .from = first_seen(row, g->shape->window).own, .n = row->n};
}

static const char *range_keys(const struct decode *g, struct range r, int64_t kv) { return block_at(g, r.start + block_begin(r.from), kv); }

static void range_scores(const struct decode *g, const struct item *w, struct range r, int64_t kv)
{
    const struct layout *l = &g->l;
    for (int64_t at = block_begin(r.from); r.from < r.n && at < r.n; at += CACHE_BLOCK) {
        const bool last = at + CACHE_BLOCK >= r.n;
        const struct gemm p = {.a = w->q + r.first * w->q_row, .row = w->q_row, .step = 4, .b = block_at(g, r.start + at, kv), .panel = l->key_panel,
                               .next = last ? r.next : block_at(g, r.start + at + CACHE_BLOCK, kv), .m = r.rows, .n = last ? r.n - at : CACHE_BLOCK, .k = l->depth,
                               .c = (char *)(w->s + r.first * w->stride + r.column + at), .ct = DTYPE_F32, .ldc = w->stride, .alpha = g->shape->scale};
        kernels()->gemm[l->units](&p);
    }
}

/* out += weights times the range's values; the next head's keys come meanwhile. */
static void range_values(const struct decode *g, const struct item *w, struct range r, int64_t kv, int64_t after, int64_t after_kv)
{
    const struct layout *l = &g->l;
    const bool pairs = l->units == UNITS_PAIR;
    for (int64_t at = block_begin(r.from); r.from < r.n && at < r.n; at += CACHE_BLOCK) {
        const bool last = at + CACHE_BLOCK >= r.n;
        const int64_t keys = last ? r.n - at : CACHE_BLOCK;
        const struct gemm p = {.a = (const char *)(w->s + r.first * w->stride + r.column) + at * (pairs ? 2 : 4), .row = w->stride * 4, .step = 4,
                               .b = block_at(g, r.start + at, kv) + l->values, .panel = l->value_panel, .next = after >= 0 ? block_at(g, after + at, after_kv) : NULL,
                               .m = r.rows, .n = l->d, .k = pairs ? (keys + 1) / 2 : keys, .c = (char *)(w->out + r.first * l->d), .ct = DTYPE_F32, .ldc = l->d, .alpha = 1, .accumulate = true};
        kernels()->gemm[l->units](&p);
    }
}

/* Weights [from, n) become an operand where they stand, from the beginning of a block on; an odd end is filled up with a zero. */
static void weights_as_operand(const struct layout *l, float *s, int64_t from, int64_t n)
{
    if (l->units != UNITS_PAIR || from >= n) return;
    const int64_t begin = block_begin(from);
    if (n % 2) s[n] = 0;
    kernels()->narrow((char *)s + begin * 2, s + begin, n + n % 2 - begin); // what is written never overtakes what is read
}

/* Query i's share of a range's values: they come from memory while the range's weights are made. */
static struct fetch share_of_values(const struct decode *g, struct range r, int64_t kv, int64_t i)
{
    const int64_t vectors = CACHE_BLOCK / kernels()->lanes, line = 64, step = ((g->l.head - g->l.values) / vectors / r.rows + line - 1) / line * line;
    return (struct fetch){range_keys(g, r, kv) + g->l.values + (i - r.first) * vectors * step, step, g->l.block};
}

/* Scores of query i, one of row r's -> weights; keys before the first that it sees weigh nothing. */
static void query_softmax(const struct decode *g, const struct item *w, int64_t i, int64_t r, int64_t kv)
{
    const struct kernels *kernel = kernels();
    const struct attn_cache_row *row = g->row + w->first + r;
    const struct seen seen = first_seen(row, g->shape->window);
    const int64_t begin = block_begin(w->lowest), n = row->n_prefix - seen.prefix;
    const struct fetch older_values = share_of_values(g, prefix_range(g, w), kv, i), own_values = share_of_values(g, own_range(g, w, r), kv, i);
    float *prefix = w->s + i * w->stride, *own = prefix + w->own;
    w->max[i] = -INFINITY, w->sum[i] = 0;
    if (begin < seen.prefix) memset(prefix + begin, 0, (size_t)(seen.prefix - begin) * sizeof *prefix);
    if (n) kernel->attn_softmax(prefix + seen.prefix, n, g->shape->softcap, &w->max[i], &w->sum[i], &older_values);
    memset(own + block_begin(seen.own), 0, (size_t)(seen.own - block_begin(seen.own)) * sizeof *own);
    const float older = kernel->attn_softmax(own + seen.own, row->n - seen.own, g->shape->softcap, &w->max[i], &w->sum[i], &own_values);
    if (n && older != 1) kernel->axpy(prefix + seen.prefix, DTYPE_F32, prefix + seen.prefix, DTYPE_F32, n, older, false);
    weights_as_operand(&g->l, prefix, w->lowest, row->n_prefix);
    weights_as_operand(&g->l, own, seen.own, row->n);
}

/* Of what is read next: the head, the cache rows where prefix and own keys begin; -1: unknown. */
struct next_keys {
    int64_t kv, prefix, own;
};

/* The keys that this thread reads next: of the same rows' next head, or of the first head of `next`, NULL: unknown. */
static struct next_keys keys_after(const struct decode *g, const struct item *w, int64_t kv, const struct item *next)
{
    const struct item *of = kv + 1 < g->shape->n_kv ? w : next;
    const struct attn_cache_row *row = of ? g->row + of->first : NULL;
    return (struct next_keys){of == w ? kv + 1 : 0, row ? row->prefix : -1, row ? row->start : -1};
}

static void decode_item(const struct decode *g, struct item w, int64_t kv, const struct item *next_item)
{
    const struct next_keys next = keys_after(g, &w, kv, next_item);
    item_make(&w, g);
    const int64_t group = w.rows / w.n, d = g->l.d;
    struct range prefix = prefix_range(g, &w), own = own_range(g, &w, 0);
    const char *values = range_keys(g, prefix.n ? prefix : own, kv) + g->l.values;
    for (int64_t r = 0; r < w.n; r++) row_queries(g, &w, r, kv);
    prefix.next = range_keys(g, own, kv);
    range_scores(g, &w, prefix, kv);
    for (int64_t r = 0; r < w.n; r++) {
        own = own_range(g, &w, r);
        own.next = r + 1 < w.n ? range_keys(g, own_range(g, &w, r + 1), kv) : values;
        row_enter(g, &w, r, kv); // its block has come meanwhile
        range_scores(g, &w, own, kv);
        for (int64_t i = r * group; i < (r + 1) * group; i++) query_softmax(g, &w, i, r, kv);
    }
    range_values(g, &w, prefix, kv, next.prefix, next.kv);
    for (int64_t r = 0; r < w.n; r++) {
        own = own_range(g, &w, r);
        range_values(g, &w, own, kv, next.own, next.kv);
        for (int64_t i = r * group; i < (r + 1) * group; i++)
            kernels()->axpy(g->o + (size_t)((w.first + r) * g->ldo + (kv * group + i - r * group) * d) * dtype_size(g->l.dtype), g->l.dtype, w.out + i * d, DTYPE_F32, d, 1 / w.sum[i], false);
    }
}

void cpu_attn_decode(void *o, int64_t ldo, void *cache, const void *q, int64_t ldq, const void *k, const void *v, int64_t ldkv, enum dtype t,
                     const struct attn_cache_row *row, int64_t n, const struct attn_shape *shape)
{
    const struct decode g = {layout_of(t, shape), o, q, k, v, ldo, ldq, ldkv, cache, row, shape};
    const int team = backend_thread_count();
    const int64_t most = n * shape->n_kv / (2 * team); // rows of an item: few enough that every thread gets some
    struct item *item = scratch(SCRATCH_A, (size_t)n * sizeof *item);
    for (int64_t r = 0; r < n; r++)
        BUG_ON(row[r].n < 1 || row[r].start % CACHE_BLOCK || (row[r].n_prefix && row[r].prefix % CACHE_BLOCK), "a cache row of %lld keys from %lld on, its prefix from %lld on", (long long)row[r].n,
               (long long)row[r].start, (long long)row[r].prefix);
    const int64_t count = items_of(item, row, n, most < 1 ? 1 : most > 16 ? 16 : most), items = count * shape->n_kv;
    const int64_t chunk = count >= 4 * team ? shape->n_kv : 1; // the heads of a row lie one after the other
    _Atomic int64_t taken = 0;
#pragma omp parallel num_threads(team)
    for (int64_t i = atomic_fetch_add(&taken, chunk), next; i < items; i = next) {
        next = atomic_fetch_add(&taken, chunk);
        for (int64_t at = i; at < i + chunk; at++) decode_item(&g, item[at / shape->n_kv], at % shape->n_kv, next < items && chunk == shape->n_kv ? &item[next / shape->n_kv] : NULL);
    }
}
