/* Norms, rotations, activations and copies: rows over the threads, plain loops that vectorise. bf16 rows go through f32 in a thread's scratch. */
#include <math.h>

#include "backend/cpu/cpu.h"
#include "backend/ref/ref.h"

static inline void *at(void *p, enum dtype t, int64_t i) { return (char *)p + (size_t)i * dtype_size(t); }
static inline const void *at_const(const void *p, enum dtype t, int64_t i) { return (const char *)p + (size_t)i * dtype_size(t); }

MANY_TARGETS static void widen(float *out, const uint16_t *x, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const uint32_t u = (uint32_t)x[i] << 16;
        memcpy(&out[i], &u, 4);
    }
}

MANY_TARGETS static void narrow(uint16_t *out, const float *x, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, &x[i], 4);
        const uint32_t r = (u + 0x7FFF + (u >> 16 & 1)) >> 16, nan = u >> 16 | 0x40;
        out[i] = (uint16_t)((u & 0x7FFFFFFFu) > 0x7F800000u ? nan : r);
    }
}

/* A row as f32: itself, or widened into the slot. */
static const float *row_f32(const void *x, enum dtype t, int64_t n, enum scratch_slot slot)
{
    if (t == DTYPE_F32 && (uintptr_t)x % 4 == 0) return x;
    float *out = scratch(slot, (size_t)n * sizeof *out);
    if (t == DTYPE_BF16 && (uintptr_t)x % 2 == 0)
        widen(out, x, n);
    else
        tensor_convert(out, DTYPE_F32, x, t, n);
    return out;
}

static void put_row(void *y, enum dtype t, const float *x, int64_t n)
{
    if (t == DTYPE_BF16 && (uintptr_t)y % 2 == 0)
        narrow(y, x, n);
    else if ((const void *)x != y)
        tensor_convert(y, t, x, DTYPE_F32, n);
}

MANY_TARGETS static float rmsnorm_row(float *y, const float *x, const float *w, int64_t c, float eps, float offset)
{
    double square = 0;
    for (int64_t from = 0; from < c; from += 64) {
        const int64_t to = from + 64 < c ? from + 64 : c;
        float part = 0;
#pragma omp simd reduction(+ : part)
        for (int64_t i = from; i < to; i++) part += x[i] * x[i];
        square += part;
    }
    const float rstd = (float)(1 / sqrt(square / (double)c + (double)eps));
#pragma omp simd
    for (int64_t i = 0; i < c; i++) y[i] = x[i] * rstd * (w[i] + offset);
    return rstd;
}

void cpu_rmsnorm_fwd(void *y, enum dtype yt, float *rstd, const void *x, enum dtype xt, const float *w, int64_t rows, int64_t c, float eps, float offset)
{
#pragma omp parallel for schedule(static) num_threads(backend_thread_count()) if (rows * c > 8192)
    for (int64_t r = 0; r < rows; r++) {
        float *out = scratch(SCRATCH_D, (size_t)c * sizeof *out);
        rstd[r] = rmsnorm_row(out, row_f32(at_const(x, xt, r * c), xt, c, SCRATCH_C), w, c, eps, offset);
        put_row(at(y, yt, r * c), yt, out, c);
    }
}

/* dx += rstd (g - xhat mean(g xhat)), g = dy (w + offset), xhat = x rstd */
MANY_TARGETS static void rmsnorm_bwd_row(float *dx, const float *dy, const float *x, const float *w, float rstd, int64_t c, float offset)
{
    double dot = 0;
    for (int64_t from = 0; from < c; from += 64) {
        const int64_t to = from + 64 < c ? from + 64 : c;
        float part = 0;
#pragma omp simd reduction(+ : part)
        for (int64_t i = from; i < to; i++) part += dy[i] * (w[i] + offset) * x[i];
        dot += part;
    }
    const float mean = (float)(dot * rstd / (double)c);
#pragma omp simd
    for (int64_t i = 0; i < c; i++) dx[i] += rstd * (dy[i] * (w[i] + offset) - x[i] * rstd * mean);
}

void cpu_rmsnorm_bwd_acc(float *dx, float *dw, const void *dy, enum dtype dyt, const void *x, enum dtype xt, const float *w, const float *rstd, int64_t rows, int64_t c, float offset)
{
#pragma omp parallel for schedule(static) num_threads(backend_thread_count()) if (rows * c > 8192)
    for (int64_t r = 0; r < rows; r++)
        rmsnorm_bwd_row(dx + r * c, row_f32(at_const(dy, dyt, r * c), dyt, c, SCRATCH_C), row_f32(at_const(x, xt, r * c), xt, c, SCRATCH_D), w, rstd[r], c, offset);
    if (!dw) return;
    // Sums over rows in a fixed order: each thread has columns of its own.
#pragma omp parallel for schedule(static) num_threads(backend_thread_count()) if (rows * c > 8192)
    for (int64_t block = 0; block < (c + 63) / 64; block++) {
        const int64_t from = block * 64, n = c - from < 64 ? c - from : 64;
        double sum[64] = {0};
        for (int64_t r = 0; r < rows; r++) {
            const float *g = row_f32(at_const(dy, dyt, r * c + from), dyt, n, SCRATCH_C), *v = row_f32(at_const(x, xt, r * c + from), xt, n, SCRATCH_D);
            for (int64_t i = 0; i < n; i++) sum[i] += (double)(g[i] * v[i] * rstd[r]);
        }
        for (int64_t i = 0; i < n; i++) dw[from + i] += (float)sum[i];
    }
}

MANY_TARGETS static void turn(float *x, const float *c, const float *s, int64_t half, float direction)
{
#pragma omp simd
    for (int64_t j = 0; j < half; j++) {
        const float a = x[j], b = x[j + half];
        x[j] = a * c[j] - direction * b * s[j];
        x[j + half] = b * c[j] + direction * a * s[j];
    }
}

static void rope(void *x, enum dtype t, int64_t ld, const int32_t *pos, const float *cosine, const float *sine, int64_t n, int64_t n_head, int64_t d, int64_t rot, float direction)
{
#pragma omp parallel for schedule(static) num_threads(backend_thread_count()) if (n * n_head * d > 8192)
    for (int64_t r = 0; r < n; r++)
        for (int64_t h = 0; h < n_head; h++) {
            void *head = at(x, t, r * ld + h * d);
            const float *from = row_f32(head, t, rot, SCRATCH_C);
            float *v = from == head ? head : (float *)(uintptr_t)from;
            turn(v, cosine + pos[r] * (rot / 2), sine + pos[r] * (rot / 2), rot / 2, direction);
            put_row(head, t, v, rot);
        }
}

void cpu_rope_fwd(void *x, enum dtype t, int64_t ld, const int32_t *pos, const float *cosine, const float *sine, int64_t n, int64_t n_head, int64_t d, int64_t rot)
{
    rope(x, t, ld, pos, cosine, sine, n, n_head, d, rot, 1);
}

void cpu_rope_bwd(void *dx, enum dtype t, int64_t ld, const int32_t *pos, const float *cosine, const float *sine, int64_t n, int64_t n_head, int64_t d, int64_t rot)
{
    rope(dx, t, ld, pos, cosine, sine, n, n_head, d, rot, -1);
}

MANY_TARGETS static void silu_glu(float *y, const float *gate, const float *up, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = gate[i] / (1 + exp_fast(-gate[i])) * up[i];
}

void cpu_glu_fwd(void *y, const void *gu, enum dtype t, int64_t m, int64_t f, enum activation act)
{
    if (act != ACT_SILU) {
        ref_glu_fwd(y, gu, t, m, f, act);
        return;
    }
#pragma omp parallel for schedule(static) num_threads(backend_thread_count()) if (m * f > 8192)
    for (int64_t r = 0; r < m; r++) {
        const float *x = row_f32(at_const(gu, t, r * 2 * f), t, 2 * f, SCRATCH_C);
        float *out = scratch(SCRATCH_D, (size_t)f * sizeof *out);
        silu_glu(out, x, x + f, f);
        put_row(at(y, t, r * f), t, out, f);
    }
}

/* y = g s(g) u:   dg = dy u s (1 + g (1 - s)),  du = dy g s */
MANY_TARGETS static void silu_glu_bwd(float *dg, float *du, const float *dy, const float *gate, const float *up, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const float s = 1 / (1 + exp_fast(-gate[i]));
        dg[i] = dy[i] * up[i] * s * (1 + gate[i] * (1 - s));
        du[i] = dy[i] * gate[i] * s;
    }
}

void cpu_glu_bwd(void *dgu, const void *dy, const void *gu, enum dtype t, int64_t m, int64_t f, enum activation act)
{
    if (act != ACT_SILU) {
        ref_glu_bwd(dgu, dy, gu, t, m, f, act);
        return;
    }
#pragma omp parallel for schedule(static) num_threads(backend_thread_count()) if (m * f > 8192)
    for (int64_t r = 0; r < m; r++) {
        const float *x = row_f32(at_const(gu, t, r * 2 * f), t, 2 * f, SCRATCH_C), *g = row_f32(at_const(dy, t, r * f), t, f, SCRATCH_D);
        float *out = scratch(SCRATCH_E, 2 * (size_t)f * sizeof *out);
        silu_glu_bwd(out, out + f, g, x, x + f, f);
        put_row(at(dgu, t, r * 2 * f), t, out, 2 * f);
    }
}

void cpu_convert(void *y, enum dtype yt, const void *x, enum dtype xt, int64_t n)
{
    enum { BLOCK = 16384 };
#pragma omp parallel for schedule(static) num_threads(backend_thread_count()) if (n > BLOCK)
    for (int64_t from = 0; from < n; from += BLOCK) {
        const int64_t k = n - from < BLOCK ? n - from : BLOCK;
        const bool fast = (uintptr_t)x % dtype_size(xt) == 0 && (uintptr_t)y % dtype_size(yt) == 0;
        if (fast && xt == DTYPE_F32 && yt == DTYPE_BF16)
            narrow((uint16_t *)y + from, (const float *)x + from, k);
        else if (fast && xt == DTYPE_BF16 && yt == DTYPE_F32)
            widen((float *)y + from, (const uint16_t *)x + from, k);
        else
            tensor_convert(at(y, yt, from), yt, at_const(x, xt, from), xt, k);
    }
}

void cpu_gather_fwd(void *y, const void *x, enum dtype t, const int32_t *index, int64_t n, int64_t c)
{
    const size_t bytes = (size_t)c * dtype_size(t);
#pragma omp parallel for schedule(static) num_threads(backend_thread_count()) if (n * c > 16384)
    for (int64_t i = 0; i < n; i++) memcpy((char *)y + (size_t)i * bytes, (const char *)x + (size_t)index[i] * bytes, bytes);
}

void cpu_embed_fwd(float *y, const struct weight *w, const int32_t *ids, int64_t n, float scale)
{
    const struct weight_part *p = &w->part[0];
    if (p->transposed) {
        ref_embed_fwd(y, w, ids, n, scale);
        return;
    }
#pragma omp parallel for schedule(static) num_threads(backend_thread_count()) if (n * w->n_in > 16384)
    for (int64_t i = 0; i < n; i++) {
        BUG_ON(ids[i] < 0 || ids[i] >= p->n_out, "token %d of a vocabulary of %lld", (int)ids[i], (long long)p->n_out);
        float *out = y + i * w->n_in;
        tensor_convert(out, DTYPE_F32, at_const(p->data, p->dtype, ids[i] * p->ld), p->dtype, w->n_in);
        for (int64_t k = 0; scale != 1 && k < w->n_in; k++) out[k] *= scale;
    }
}
