#include <omp.h>

#include "backend/cpu/pack.h"

const char *rows_as_units(const void *x, enum dtype xt, int64_t ldx, int64_t m, int64_t k, enum dtype compute, enum units u,
                          int64_t *row)
{
    const struct kernels *kernel = kernels();
    const size_t size = dtype_size(xt);
    *row = ldx * (int64_t)size;
    if (u == UNITS_F32 && xt == DTYPE_F32) return x;
    if (u == UNITS_PAIR && xt == DTYPE_BF16 && k % 2 == 0) return x;
    *row = u == UNITS_PAIR ? (k + 1) / 2 * 4 : k * 4;
    char *copy = scratch(SCRATCH_A, (size_t)(m * *row));
#pragma omp parallel for num_threads(backend_thread_count()) if (m * k > 16384)
    for (int64_t r = 0; r < m; r++) {
        const char *from = (const char *)x + (size_t)(r * ldx) * size;
        char *to = copy + r * *row;
        if (u == UNITS_PAIR) {
            if (k % 2) memset(to + *row - 2, 0, 2);
            if (xt == DTYPE_BF16)
                memcpy(to, from, (size_t)k * 2);
            else
                kernel->narrow(to, (const float *)from, k);
        } else if (xt == DTYPE_F32 && compute == DTYPE_BF16) {
            void *half = scratch(SCRATCH_OWN, (size_t)k * 2);
            kernel->narrow(half, (const float *)from, k);
            kernel->widen((float *)to, half, DTYPE_BF16, k);
        } else {
            kernel->widen((float *)to, from, xt, k);
        }
    }
    return copy;
}

static struct gemm gemm_of(const struct product *q)
{
    return (struct gemm){.step = 4, .m = q->m, .c = q->y, .ct = q->yt, .ldc = q->ldy, .alpha = q->alpha, .bias = q->bias, .accumulate = q->accumulate};
}

static void check_range(const struct pack *p, int64_t from, int64_t to)
{
    BUG_ON(from % PACK_RANGE || (to % PACK_RANGE && to != p->n_out), "a product with rows %lld to %lld of a weight", (long long)from, (long long)to);
}

/* g = x times all panels. */
static void forward_operands(struct gemm *g, const struct pack *p, const void *x, enum dtype xt, int64_t ldx)
{
    g->k = units_deep(p->units, p->n_in);
    g->panel = panel_bytes(p->units, p->n_in);
    g->b = p->panels;
    g->a = rows_as_units(x, xt, ldx, g->m, p->n_in, p->compute, p->units, &g->row);
}

void pack_forward(const struct pack *p, const struct product *q, int64_t from, int64_t to)
{
    check_range(p, from, to);
    if (q->m == 0 || from == to) return;
    struct gemm g = gemm_of(q);
    forward_operands(&g, p, q->x, q->xt, q->ldx);
    g.n = to - from;
    g.b += from / kernels()->nr * g.panel;
#pragma omp parallel num_threads(backend_thread_count())
    gemm_part(&g, p->units, omp_get_thread_num(), omp_get_num_threads());
}

/* Panel `column` of W from rows from .. to, tile by tile. */
static void panel_turn(char *out, const struct pack *p, int64_t column, int64_t from, int64_t to)
{
    const struct kernels *kernel = kernels();
    const int64_t nr = kernel->nr, panel = panel_bytes(p->units, p->n_in), tile = panel_bytes(p->units, nr), left = panel - column * tile;
    char *part = scratch(SCRATCH_B, (size_t)tile);
    for (int64_t o = from; o < to; o += nr, out += tile) {
        const char *x = p->panels + o / nr * panel + column * tile;
        if (left < tile) { // W^T ends inside of the tile
            memcpy(part, x, (size_t)left);
            memset(part + left, 0, (size_t)(tile - left));
            x = part;
        }
        kernel->turn_tile[p->units](out, x);
    }
}

/* A part's panels, a few at a time that stay in the second cache; all of its rows meet them there. */
static void backward_part(const struct gemm *g, const struct pack *p, int64_t from, int64_t to, int part, int parts)
{
    enum { CACHE = 512 << 10 };
    const struct kernels *kernel = kernels();
    const int64_t nr = kernel->nr;
    int64_t first;
    struct gemm own;
    if (!gemm_share(&own, &first, g, part, parts)) return;
    const int64_t columns = own.n, fit = CACHE / g->panel, group = nr * (fit < 1 ? 1 : fit);
    char *turned = scratch(SCRATCH_OWN, (size_t)(group / nr * g->panel));
    own.b = turned;
    for (int64_t c = 0; c < columns; c += group) {
        own.n = columns - c < group ? columns - c : group;
        for (int64_t k = 0; k < own.n; k += nr) panel_turn(turned + k / nr * g->panel, p, first + (c + k) / nr, from, to);
        kernel->gemm[p->units](&own);
        own.c += (size_t)own.n * dtype_size(own.ct);
    }
}

void pack_backward(const struct pack *p, const struct product *q, int64_t from, int64_t to)
{
    const int64_t nr = kernels()->nr, deepest = q->yt == DTYPE_F32 ? PACK_RANGE : to - from; // what is rounded to bf16 is summed at once
    check_range(p, from, to);
    if (q->m == 0 || from == to) return;
    for (int64_t o = from, end; o < to; o = end) {
        end = to - o < deepest ? to : o + deepest;
        struct gemm g = gemm_of(q);
        g.k = units_deep(p->units, end - o);
        g.n = p->n_in;
        g.panel = panel_bytes(p->units, (end - o + nr - 1) / nr * nr);
        g.accumulate = q->accumulate || o > from;
        g.a = rows_as_units((const char *)q->x + (size_t)(o - from) * dtype_size(q->xt), q->xt, q->ldx, q->m, end - o, p->compute, p->units, &g.row);
#pragma omp parallel num_threads(backend_thread_count())
        backward_part(&g, p, o, end, omp_get_thread_num(), omp_get_num_threads());
    }
}

static const struct pack *pack_of(const struct weight *w)
{
    BUG_ON(!w->pack, "a weight of %lld x %lld is not prepared for products", (long long)w->n_out, (long long)w->n_in);
    return w->pack;
}

void cpu_linear_fwd(void *y, enum dtype yt, int64_t ldy, const void *x, enum dtype xt, int64_t ldx, const struct weight *w,
                    const float *bias, int64_t m, float alpha, bool accumulate)
{
    pack_forward(pack_of(w), &(struct product){y, yt, ldy, x, xt, ldx, bias, m, alpha, accumulate}, 0, w->n_out);
}

/* A part's gates, the ups of the same columns, and their activation, which needs no other part. */
static void glu_part(const struct gemm *g, const struct pack *p, char *y, enum activation act, int part, int parts)
{
    const struct kernels *kernel = kernels();
    const int64_t f = g->n, size = (int64_t)dtype_size(g->ct), line = g->ldc * size;
    int64_t panel;
    struct gemm gate;
    if (!gemm_share(&gate, &panel, g, part, parts)) return;
    const int64_t row = (gate.c - g->c) / line;
    gate.b += panel * g->panel;
    struct gemm up = gate;
    up.b += f / kernel->nr * g->panel;
    up.c += f * size;
    if (up.bias) up.bias += f;
    gate.next = up.b;
    kernel->gemm[p->units](&gate);
    kernel->gemm[p->units](&up);
    for (int64_t r = 0; r < gate.m; r++) kernel->act(y + ((row + r) * f + panel * kernel->nr) * size, gate.c + r * line, up.c + r * line, g->ct, gate.n, act);
}

/* Many rows leave the cache before they are activated either way: then the panels are read once for gates and ups. */
void cpu_linear_glu_fwd(void *y, void *gu, enum dtype t, const void *x, const struct weight *w, const float *bias, int64_t m, enum activation act)
{
    const struct pack *p = pack_of(w);
    const int64_t f = w->n_out / 2;
    if (f % kernels()->nr || m > FEW_TILES * kernels()->mr) {
        cpu_linear_fwd(gu, t, w->n_out, x, t, w->n_in, w, bias, m, 1, false);
        cpu_glu_fwd(y, gu, t, m, f, act);
        return;
    }
    if (m == 0) return;
    struct gemm g = gemm_of(&(struct product){gu, t, w->n_out, x, t, w->n_in, bias, m, 1, false});
    forward_operands(&g, p, x, t, w->n_in);
    g.n = f;
#pragma omp parallel num_threads(backend_thread_count())
    glu_part(&g, p, y, act, omp_get_thread_num(), omp_get_num_threads());
}

void cpu_linear_bwd_x(void *dx, enum dtype dxt, int64_t lddx, const void *dy, enum dtype dyt, int64_t lddy,
                      const struct weight *w, int64_t m, float alpha, bool accumulate)
{
    pack_backward(pack_of(w), &(struct product){dx, dxt, lddx, dy, dyt, lddy, NULL, m, alpha, accumulate}, 0, w->n_out);
}

/* ---------------------------------------------------------------- dw += alpha dy^T x */

/* An operand whose rows are the depth of the product. */
struct deep {
    const void *data;
    enum dtype dtype;
    int64_t ld, n;
};
static const void *deep_at(const struct deep *d, int64_t row) { return (const char *)d->data + (size_t)(row * d->ld) * dtype_size(d->dtype); }

void cpu_linear_bwd_w(float *dw, const void *dy, enum dtype dyt, int64_t lddy, const void *x, enum dtype xt, int64_t ldx,
                      int64_t n_out, int64_t n_in, int64_t m, float alpha, bool transposed)
{
    // units at a time: dw is read and written once for each, and the operands' blocks stay in the second and third cache
    enum { DEPTH = 640, STRIP = 8 };
    const struct kernels *kernel = kernels();
    const bool pair = dyt == DTYPE_BF16 && xt == DTYPE_BF16 && kernel->gemm[UNITS_PAIR];
    const int64_t units = pair ? (m + 1) / 2 : m, passes = (units + DEPTH - 1) / DEPTH, deepest = passes ? ((units + passes - 1) / passes + STRIP - 1) / STRIP * STRIP : 0;
    struct deep a = {dy, dyt, lddy, n_out}, b = {x, xt, ldx, n_in};
    if (transposed) {
        struct deep other = a;
        a = b, b = other;
    }
    if (m == 0) return;
    char *pa = scratch(SCRATCH_A, (size_t)((a.n + kernel->mr - 1) / kernel->mr * kernel->mr * deepest * 4));
    char *pb = scratch(SCRATCH_B, (size_t)((b.n + kernel->nr - 1) / kernel->nr * kernel->nr * deepest * 4));
#pragma omp parallel num_threads(backend_thread_count())
    for (int64_t u = 0; u < units; u += deepest) {
        int64_t deep = units - u < deepest ? units - u : deepest;
        struct gemm g = {.a = pa,
                         .row = 4,
                         .step = kernel->mr * 4,
                         .tile = kernel->mr * 4 * deep,
                         .b = pb,
                         .panel = kernel->nr * 4 * deep,
                         .m = a.n,
                         .n = b.n,
                         .k = deep,
                         .c = (char *)dw,
                         .ct = DTYPE_F32,
                         .ldc = b.n,
                         .alpha = alpha,
                         .accumulate = true};
#pragma omp for
        for (int64_t i = 0; i < deep; i += STRIP) {
            const int64_t row = (u + i) * (pair ? 2 : 1), most = STRIP * (pair ? 2 : 1), rows = m - row < most ? m - row : most;
            kernel->tiles(pa + i * g.step, g.tile, kernel->mr, deep_at(&a, row), a.dtype, a.ld, rows, a.n, pair);
            kernel->tiles(pb + i * kernel->nr * 4, g.panel, kernel->nr, deep_at(&b, row), b.dtype, b.ld, rows, b.n, pair);
        }
        gemm_part(&g, pair ? UNITS_PAIR : UNITS_F32, omp_get_thread_num(), omp_get_num_threads());
#pragma omp barrier
    }
}
