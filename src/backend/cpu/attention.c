/* Ragged causal attention with shared prefixes: blocks of queries against all keys that they see, as products in f32. A segment's keys are its prefix's rows and
 * its own, joined in one buffer. Segments that share a prefix form a cluster: one task for each key/value head, so that the prefix's gradients are summed
 * in one place and in one order. */
#include <math.h>

#include "backend/cpu/gemm.h"

enum { QUERIES = 56 };

static inline void *at(void *p, enum dtype t, int64_t i) { return (char *)p + (size_t)i * dtype_size(t); }
static inline const void *at_const(const void *p, enum dtype t, int64_t i) { return (const char *)p + (size_t)i * dtype_size(t); }

/* First and last segment of each cluster: a segment without prefix and those after it that hang on its rows. */
static int64_t cluster_end(const struct attn_segment *s, int64_t n, int64_t from)
{
    int64_t to = from + 1;
    while (to < n && s[to].n_prefix > 0 && s[to].prefix == (s[from].n_prefix ? s[from].prefix : s[from].start)) to++;
    return to;
}

/* Rows of one key/value head as f32, prefix first: out (n_prefix + n, d). */
static void gather_head(float *out, const void *x, int64_t ld, enum dtype t, const struct attn_segment *s, int64_t column, int64_t d)
{
    for (int64_t i = 0; i < s->n_prefix + s->n; i++) {
        const int64_t row = i < s->n_prefix ? s->prefix + i : s->start + i - s->n_prefix;
        tensor_convert(out + i * d, DTYPE_F32, at_const(x, t, row * ld + column), t, d);
    }
}

struct span { /* keys [from, to) of a query */
    int64_t from, to;
};
static struct span keys_seen(const struct attn_segment *s, const struct attn_shape *shape, int64_t query)
{
    const int64_t position = s->n_prefix + query;
    const int64_t from = shape->window && position + 1 > shape->window ? position + 1 - shape->window : 0;
    return (struct span){from, position + 1};
}

MANY_TARGETS static float softmax_row(float *z, int64_t from, int64_t to, int64_t n, float softcap, float *lse)
{
    float top = -INFINITY, sum = 0;
    for (int64_t j = from; softcap > 0 && j < to; j++) z[j] = softcap * tanhf(z[j] / softcap);
#pragma omp simd reduction(max : top)
    for (int64_t j = from; j < to; j++) top = z[j] > top ? z[j] : top;
    for (int64_t j = 0; j < from; j++) z[j] = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = from; j < to; j++) {
        z[j] = exp_fast(z[j] - top);
        sum += z[j];
    }
    for (int64_t j = to; j < n; j++) z[j] = 0;
    *lse = top + logf(sum);
    return 1 / sum;
}

/* Probabilities from scores and the saved log-sum-exp; slope of the cap goes to `slope` when there is one. */
MANY_TARGETS static void probability_row(float *z, int64_t from, int64_t to, int64_t n, float lse)
{
    for (int64_t j = 0; j < from; j++) z[j] = 0;
#pragma omp simd
    for (int64_t j = from; j < to; j++) z[j] = exp_fast(z[j] - lse);
    for (int64_t j = to; j < n; j++) z[j] = 0;
}

MANY_TARGETS static void score_gradient_row(float *dp, const float *p, int64_t n, float delta, float scale)
{
#pragma omp simd
    for (int64_t j = 0; j < n; j++) dp[j] = p[j] * (dp[j] - delta) * scale;
}

MANY_TARGETS static float dot_row(const float *a, const float *b, int64_t n)
{
    float s = 0;
#pragma omp simd reduction(+ : s)
    for (int64_t j = 0; j < n; j++) s += a[j] * b[j];
    return s;
}

static int64_t padded(int64_t n) { return (n + PANEL - 1) / PANEL * PANEL; }

static struct gemm product(const float *a, int64_t row, int64_t step, const void *b, int64_t k_stride, int64_t m, int64_t n, int64_t k, float *c, int64_t ldc, float alpha, bool accumulate)
{
    return (struct gemm){.a = a, .row = row, .step = step, .b = b, .panel = panel_bytes(UNITS_F32, k_stride), .m = m, .n = n, .k = k, .c = c, .ct = DTYPE_F32, .ldc = ldc, .alpha = alpha, .accumulate = accumulate};
}

/* The buffers of a task: keys, values and their panels. */
struct task {
    int64_t keys, d;
    float *k, *v;      /* (keys, d) */
    float *kt_panels;  /* B = K^T (d, keys) */
    float *v_panels;   /* B = V (keys, d) */
    float *vt_panels, *k_panels; /* backward: B = V^T (d, keys), B = K (keys, d) */
    float *z, *dz;     /* (QUERIES, padded keys) */
    float *q, *o;      /* (QUERIES, d) */
    float *q_panels, *do_panels; /* backward: (QUERIES, d) */
    float *dout;       /* (QUERIES, d) */
};

static struct task make_task(int64_t keys, int64_t d, bool backward)
{
    struct task t = {.keys = keys, .d = d};
    const size_t kd = (size_t)(keys * d), kt = panel_bytes(UNITS_F32, d) / 4 * (size_t)panels_in(keys), kp = panel_bytes(UNITS_F32, keys) / 4 * (size_t)panels_in(d);
    const size_t zs = (size_t)QUERIES * (size_t)padded(keys), qd = (size_t)(QUERIES * d), qp = panel_bytes(UNITS_F32, QUERIES) / 4 * (size_t)panels_in(d);
    float *p = scratch(SCRATCH_E, (2 * kd + 2 * kt + 2 * kp + 2 * zs + 3 * qd + 2 * qp) * sizeof *p);
    t.k = p;
    t.v = p += kd;
    t.kt_panels = p += kd;
    t.v_panels = p += kt;
    t.z = p += kp;
    t.q = p += zs;
    t.o = p += qd;
    p += qd;
    if (!backward) return t;
    t.vt_panels = p;
    t.k_panels = p += kt;
    t.dz = p += kp;
    t.dout = p += zs;
    t.q_panels = p += qd;
    t.do_panels = p += qp;
    return t;
}

static void load_keys(struct task *t, const void *k, const void *v, int64_t ldkv, enum dtype type, const struct attn_segment *s, int64_t kv, bool backward)
{
    gather_head(t->k, k, ldkv, type, s, kv * t->d, t->d);
    gather_head(t->v, v, ldkv, type, s, kv * t->d, t->d);
    pack_panels(t->kt_panels, UNITS_F32, t->k, DTYPE_F32, 1, t->d, t->d, t->keys);
    pack_panels(t->v_panels, UNITS_F32, t->v, DTYPE_F32, t->d, 1, t->keys, t->d);
    if (!backward) return;
    pack_panels(t->vt_panels, UNITS_F32, t->v, DTYPE_F32, 1, t->d, t->d, t->keys);
    pack_panels(t->k_panels, UNITS_F32, t->k, DTYPE_F32, t->d, 1, t->keys, t->d);
}

static void load_rows(float *out, const void *x, int64_t ld, enum dtype t, int64_t row, int64_t n, int64_t column, int64_t d)
{
    for (int64_t i = 0; i < n; i++) tensor_convert(out + i * d, DTYPE_F32, at_const(x, t, (row + i) * ld + column), t, d);
}

static void forward_head(struct task *t, void *o, int64_t ldo, float *lse, const void *q, int64_t ldq, enum dtype type, const struct attn_segment *s, const struct attn_shape *shape, int64_t head)
{
    const int64_t d = t->d, ldz = padded(t->keys);
    for (int64_t from = 0; from < s->n; from += QUERIES) {
        const int64_t rows = s->n - from < QUERIES ? s->n - from : QUERIES, keys = s->n_prefix + from + rows;
        load_rows(t->q, q, ldq, type, s->start + from, rows, head * d, d);
        struct gemm g = product(t->q, d, 1, t->kt_panels, d, rows, keys, d, t->z, ldz, shape->scale, false);
        gemm_run(&g, UNITS_F32);
        float inverse[QUERIES];
        for (int64_t i = 0; i < rows; i++) {
            const struct span seen = keys_seen(s, shape, from + i);
            inverse[i] = softmax_row(t->z + i * ldz, seen.from, seen.to, keys, shape->softcap, &lse[(s->start + from + i) * shape->n_head + head]);
        }
        g = product(t->z, ldz, 1, t->v_panels, t->keys, rows, d, keys, t->o, d, 1, false);
        gemm_run(&g, UNITS_F32);
        for (int64_t i = 0; i < rows; i++) {
            for (int64_t j = 0; j < d; j++) t->o[i * d + j] *= inverse[i];
            tensor_convert(at(o, type, (s->start + from + i) * ldo + head * d), type, t->o + i * d, DTYPE_F32, d);
        }
    }
}

void cpu_attn_fwd(void *o, int64_t ldo, float *lse, const void *q, int64_t ldq, const void *k, const void *v, int64_t ldkv, enum dtype t, const struct attn_segment *segment, int64_t n_segment,
                  const struct attn_shape *shape)
{
    const int64_t group = shape->n_head / shape->n_kv;
#pragma omp parallel for schedule(dynamic) num_threads(backend_thread_count())
    for (int64_t task = 0; task < n_segment * shape->n_kv; task++) {
        const struct attn_segment *s = &segment[task / shape->n_kv];
        const int64_t kv = task % shape->n_kv;
        if (s->n <= 0) continue;
        struct task w = make_task(s->n_prefix + s->n, shape->d, false);
        load_keys(&w, k, v, ldkv, t, s, kv, false);
        for (int64_t h = kv * group; h < (kv + 1) * group; h++) forward_head(&w, o, ldo, lse, q, ldq, t, s, shape, h);
    }
}

struct gradients {
    void *dq;
    int64_t lddq;
    const void *dout, *o, *q;
    int64_t lddo, ldo, ldq;
    const float *lse;
    enum dtype type;
};

/* One query head: dq is written, dk and dv (keys, d) are added to. */
static void backward_head(struct task *t, const struct gradients *g, float *dk, float *dv, const struct attn_segment *s, const struct attn_shape *shape, int64_t head)
{
    const int64_t d = t->d, ldz = padded(t->keys);
    for (int64_t from = 0; from < s->n; from += QUERIES) {
        const int64_t rows = s->n - from < QUERIES ? s->n - from : QUERIES, keys = s->n_prefix + from + rows, row0 = s->start + from;
        load_rows(t->q, g->q, g->ldq, g->type, row0, rows, head * d, d);
        load_rows(t->dout, g->dout, g->lddo, g->type, row0, rows, head * d, d);
        load_rows(t->o, g->o, g->ldo, g->type, row0, rows, head * d, d);
        // was: z = scale q k^T; p = softmax(cap(z))
        struct gemm p = product(t->q, d, 1, t->kt_panels, d, rows, keys, d, t->z, ldz, shape->scale, false);
        gemm_run(&p, UNITS_F32);
        // dp = do v^T
        p = product(t->dout, d, 1, t->vt_panels, d, rows, keys, d, t->dz, ldz, 1, false);
        gemm_run(&p, UNITS_F32);
        for (int64_t i = 0; i < rows; i++) {
            const struct span seen = keys_seen(s, shape, from + i);
            float *z = t->z + i * ldz, *dz = t->dz + i * ldz;
            for (int64_t j = seen.from; shape->softcap > 0 && j < seen.to; j++) {
                const float th = tanhf(z[j] / shape->softcap);
                z[j] = shape->softcap * th;
            }
            const float delta = dot_row(t->dout + i * d, t->o + i * d, d);
            if (shape->softcap > 0) { // the cap's slope joins the gradient before the probabilities replace the scores
                for (int64_t j = seen.from; j < seen.to; j++) {
                    const float c = z[j] / shape->softcap, pr = expf(z[j] - g->lse[(row0 + i) * shape->n_head + head]);
                    dz[j] = pr * (dz[j] - delta) * (1 - c * c) * shape->scale;
                    z[j] = pr;
                }
                for (int64_t j = 0; j < seen.from; j++) z[j] = dz[j] = 0;
                for (int64_t j = seen.to; j < keys; j++) z[j] = dz[j] = 0;
            } else {
                probability_row(z, seen.from, seen.to, keys, g->lse[(row0 + i) * shape->n_head + head]);
                score_gradient_row(dz, z, keys, delta, shape->scale);
            }
        }
        // dq = dz k
        p = product(t->dz, ldz, 1, t->k_panels, t->keys, rows, d, keys, t->o, d, 1, false);
        gemm_run(&p, UNITS_F32);
        for (int64_t i = 0; i < rows; i++) tensor_convert(at(g->dq, g->type, (row0 + i) * g->lddq + head * d), g->type, t->o + i * d, DTYPE_F32, d);
        // dk += dz^T q, dv += p^T do
        pack_panels(t->q_panels, UNITS_F32, t->q, DTYPE_F32, d, 1, rows, d);
        pack_panels(t->do_panels, UNITS_F32, t->dout, DTYPE_F32, d, 1, rows, d);
        p = product(t->dz, 1, ldz, t->q_panels, rows, keys, d, rows, dk, d, 1, true);
        gemm_run(&p, UNITS_F32);
        p = product(t->z, 1, ldz, t->do_panels, rows, keys, d, rows, dv, d, 1, true);
        gemm_run(&p, UNITS_F32);
    }
}

static void store_rows(void *x, int64_t ld, enum dtype t, int64_t row, int64_t n, int64_t column, const float *from, int64_t d)
{
    for (int64_t i = 0; i < n; i++) tensor_convert(at(x, t, (row + i) * ld + column), t, from + i * d, DTYPE_F32, d);
}

static void add_rows(float *to, const float *from, int64_t n)
{
    for (int64_t i = 0; i < n; i++) to[i] += from[i];
}

void cpu_attn_bwd(void *dq, int64_t lddq, void *dk, void *dv, int64_t lddkv, const void *dout, int64_t lddo, const void *o, int64_t ldo, const float *lse, const void *q, int64_t ldq, const void *k,
                  const void *v, int64_t ldkv, enum dtype t, const struct attn_segment *segment, int64_t n_segment, const struct attn_shape *shape)
{
    const int64_t group = shape->n_head / shape->n_kv, d = shape->d;
    const struct gradients g = {dq, lddq, dout, o, q, lddo, ldo, ldq, lse, t};
    int64_t *first = scratch(SCRATCH_SHARED, (size_t)(n_segment + 1) * sizeof *first), n = 0;
    for (int64_t i = 0; i < n_segment; i = cluster_end(segment, n_segment, i)) first[n++] = i;
    first[n] = n_segment;
#pragma omp parallel for schedule(dynamic) num_threads(backend_thread_count())
    for (int64_t task = 0; task < n * shape->n_kv; task++) {
        const int64_t c = task / shape->n_kv, kv = task % shape->n_kv, from = first[c], to = first[c + 1];
        const struct attn_segment *head = &segment[from];
        const int64_t base = head->n_prefix ? head->prefix : head->start; // rows that the others may hang on
        int64_t shared = head->n_prefix ? head->n_prefix : head->n, longest = 0;
        for (int64_t i = from; i < to; i++) longest = segment[i].n_prefix + segment[i].n > longest ? segment[i].n_prefix + segment[i].n : longest;
        float *own = scratch(SCRATCH_F, (size_t)(2 * (shared + longest) * d) * sizeof *own), *sdk = own, *sdv = own + shared * d, *tdk = sdv + shared * d, *tdv = tdk + longest * d;
        memset(own, 0, (size_t)(2 * shared * d) * sizeof *own);
        for (int64_t i = from; i < to; i++) {
            const struct attn_segment *s = &segment[i];
            const int64_t keys = s->n_prefix + s->n;
            if (s->n <= 0) continue;
            struct task w = make_task(keys, d, true);
            load_keys(&w, k, v, ldkv, t, s, kv, true);
            memset(tdk, 0, (size_t)(keys * d) * sizeof *tdk);
            memset(tdv, 0, (size_t)(keys * d) * sizeof *tdv);
            for (int64_t h = kv * group; h < (kv + 1) * group; h++) backward_head(&w, &g, tdk, tdv, s, shape, h);
            const bool is_base = !s->n_prefix && s->start == base; // its rows are the shared ones
            add_rows(sdk, tdk, (is_base ? s->n : s->n_prefix) * d);
            add_rows(sdv, tdv, (is_base ? s->n : s->n_prefix) * d);
            if (is_base) continue;
            store_rows(dk, lddkv, t, s->start, s->n, kv * d, tdk + s->n_prefix * d, d);
            store_rows(dv, lddkv, t, s->start, s->n, kv * d, tdv + s->n_prefix * d, d);
        }
        store_rows(dk, lddkv, t, base, shared, kv * d, sdk, d);
        store_rows(dv, lddkv, t, base, shared, kv * d, sdv, d);
    }
}

/* ---------------------------------------------------------------- one query a row, against the cache */

MANY_TARGETS static void score_row(float *z, const float *q, const float *k, int64_t n, int64_t d, float scale)
{
    for (int64_t j = 0; j < n; j++) {
        float s = 0;
#pragma omp simd reduction(+ : s)
        for (int64_t i = 0; i < d; i++) s += q[i] * k[j * d + i];
        z[j] = s * scale;
    }
}

MANY_TARGETS static void mix_row(float *o, const float *p, const float *v, int64_t n, int64_t d, float scale)
{
    for (int64_t i = 0; i < d; i++) o[i] = 0;
    for (int64_t j = 0; j < n; j++)
#pragma omp simd
        for (int64_t i = 0; i < d; i++) o[i] += p[j] * v[j * d + i];
    for (int64_t i = 0; i < d; i++) o[i] *= scale;
}

MANY_TARGETS static void widen(float *out, const uint16_t *x, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const uint32_t u = (uint32_t)x[i] << 16;
        memcpy(&out[i], &u, 4);
    }
}

void cpu_attn_decode(void *o, int64_t ldo, const void *q, int64_t ldq, const void *kcache, const void *vcache, enum dtype t, const struct attn_cache_row *row, int64_t n, const struct attn_shape *shape)
{
    const int64_t group = shape->n_head / shape->n_kv, d = shape->d, width = shape->n_kv * d;
#pragma omp parallel for schedule(dynamic) num_threads(backend_thread_count())
    for (int64_t task = 0; task < n * shape->n_kv; task++) {
        const int64_t i = task / shape->n_kv, kv = task % shape->n_kv, keys = row[i].n_prefix + row[i].n;
        float *k = scratch(SCRATCH_E, (size_t)(2 * keys * d + keys + 2 * d) * sizeof *k), *v = k + keys * d, *z = v + keys * d, *x = z + keys, *y = x + d;
        for (int64_t j = 0; j < keys; j++) {
            const int64_t r = j < row[i].n_prefix ? row[i].prefix + j : row[i].start + j - row[i].n_prefix;
            if (t == DTYPE_BF16) {
                widen(k + j * d, (const uint16_t *)kcache + r * width + kv * d, d);
                widen(v + j * d, (const uint16_t *)vcache + r * width + kv * d, d);
            } else {
                memcpy(k + j * d, (const float *)kcache + r * width + kv * d, (size_t)d * sizeof *k);
                memcpy(v + j * d, (const float *)vcache + r * width + kv * d, (size_t)d * sizeof *v);
            }
        }
        const struct attn_segment s = {.n_prefix = row[i].n_prefix, .n = row[i].n};
        const struct span seen = keys_seen(&s, shape, row[i].n - 1);
        for (int64_t h = kv * group; h < (kv + 1) * group; h++) {
            float lse;
            tensor_convert(x, DTYPE_F32, at_const(q, t, i * ldq + h * d), t, d);
            score_row(z, x, k, keys, d, shape->scale);
            const float inverse = softmax_row(z, seen.from, seen.to, keys, shape->softcap, &lse);
            mix_row(y, z, v, keys, d, inverse);
            tensor_convert(at(o, t, i * ldo + h * d), t, y, DTYPE_F32, d);
        }
    }
}
