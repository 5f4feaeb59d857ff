/* The language-model head over the whole vocabulary, chunk by chunk: a chunk's logits live in a thread's scratch and are gone before the next. Threads
 * take chunks; what they hold for a row (largest logit and sum, or a gradient) is joined in the order of the threads. */
#include <math.h>

#include "backend/cpu/gemm.h"

enum { CHUNK = 256, ROW_BLOCK = 224 };

static float softcapped(float z, float cap) { return cap > 0 ? cap * tanhf(z / cap) : z; }

/* logits (rows, width) = softcap(scale * h W_chunk^T) */
static void chunk_logits(float *z, const struct weight *w, enum units u, const char *a, int64_t row, int64_t rows, int64_t v0, int64_t width, float scale)
{
    const size_t panel = panel_bytes(u, w->n_in);
    const struct gemm g = {.a = a, .row = row, .step = 1, .b = (const char *)w->pack_fwd + (size_t)(v0 / PANEL) * panel, .panel = panel, .m = rows, .n = width,
                           .k = units_in(u, w->n_in), .c = z, .ct = DTYPE_F32, .ldc = CHUNK, .alpha = scale};
    gemm_run(&g, u);
}

/* Joins a row of logits into its running largest value and sum. */
MANY_TARGETS static void join(float *max, float *sum, const float *z, int64_t n)
{
    float top = *max, s = 0;
#pragma omp simd reduction(max : top)
    for (int64_t j = 0; j < n; j++) top = z[j] > top ? z[j] : top;
#pragma omp simd reduction(+ : s)
    for (int64_t j = 0; j < n; j++) s += exp_fast(z[j] - top);
    *sum = *sum * (*max == -INFINITY ? 0 : exp_fast(*max - top)) + s;
    *max = top;
}

void cpu_head_fwd(float *logp, float *lse, const void *h, enum dtype t, int64_t ldh, const struct weight *w, const int32_t *target, int64_t n, float softcap, float scale)
{
    const enum units u = units_of(w->compute);
    const int threads = backend_thread_count();
    const int64_t chunks = (w->n_out + CHUNK - 1) / CHUNK;
    int64_t row;
    if (n <= 0) return;
    const char *a = units_of_rows(u, h, t, ldh, n, w->n_in, SCRATCH_A, &row);
    float *state = scratch(SCRATCH_SHARED, (size_t)threads * (size_t)n * 2 * sizeof *state); // (thread, row): largest, sum
    for (int64_t i = 0; i < threads * n; i++) {
        state[2 * i] = -INFINITY;
        state[2 * i + 1] = 0;
    }
    for (int64_t i = 0; i < n; i++) BUG_ON(target[i] < 0 || target[i] >= w->n_out, "token %d of a vocabulary of %lld", (int)target[i], (long long)w->n_out);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int part = 0; part < threads; part++) {
        float *z = scratch(SCRATCH_C, ROW_BLOCK * CHUNK * sizeof *z), *own = state + (size_t)part * (size_t)n * 2;
        for (int64_t c = chunks * part / threads; c < chunks * (part + 1) / threads; c++) {
            const int64_t v0 = c * CHUNK, width = w->n_out - v0 < CHUNK ? w->n_out - v0 : CHUNK;
            for (int64_t r = 0; r < n; r += ROW_BLOCK) {
                const int64_t rows = n - r < ROW_BLOCK ? n - r : ROW_BLOCK;
                chunk_logits(z, w, u, a + 4 * r * row, row, rows, v0, width, scale);
                for (int64_t i = 0; i < rows; i++) {
                    float *line = z + i * CHUNK;
                    for (int64_t j = 0; softcap > 0 && j < width; j++) line[j] = softcapped(line[j], softcap);
                    join(&own[2 * (r + i)], &own[2 * (r + i) + 1], line, width);
                    if (target[r + i] >= v0 && target[r + i] < v0 + width) logp[r + i] = line[target[r + i] - v0];
                }
            }
        }
    }
    for (int64_t i = 0; i < n; i++) {
        float top = -INFINITY;
        double sum = 0;
        for (int p = 0; p < threads; p++) top = fmaxf(top, state[2 * ((int64_t)p * n + i)]);
        for (int p = 0; p < threads; p++) {
            const float *s = &state[2 * ((int64_t)p * n + i)];
            if (s[1] > 0) sum += (double)s[1] * exp((double)s[0] - top);
        }
        const double total = top + log(sum);
        lse[i] = (float)total;
        logp[i] = (float)(logp[i] - total);
    }
}

/* z -> coef ([v = target] - exp(softcap(z) - lse)) slope, in place */
MANY_TARGETS static void gradient_row(float *z, int64_t n, float lse, float coef, float scale)
{
#pragma omp simd
    for (int64_t j = 0; j < n; j++) z[j] = -coef * scale * exp_fast(z[j] - lse);
}

static void gradient_row_capped(float *z, int64_t n, float lse, float coef, float scale, float cap)
{
    for (int64_t j = 0; j < n; j++) {
        const float th = tanhf(z[j] / cap);
        z[j] = -coef * scale * expf(cap * th - lse) * (1 - th * th);
    }
}

struct head_pass {
    const struct weight *w;
    enum units u;
    const char *a;
    int64_t row, n;
    const int32_t *target;
    const float *lse, *coef;
    float softcap, scale;
};

/* Gradient to the logits of rows [r, r + rows) in a chunk, into z. */
static void chunk_gradient(const struct head_pass *h, float *z, int64_t r, int64_t rows, int64_t v0, int64_t width)
{
    chunk_logits(z, h->w, h->u, h->a + 4 * r * h->row, h->row, rows, v0, width, h->scale);
    for (int64_t i = 0; i < rows; i++) {
        float *line = z + i * CHUNK;
        const int64_t at = h->target[r + i] - v0;
        const bool here = at >= 0 && at < width;
        const float th = h->softcap > 0 && here ? tanhf(line[at] / h->softcap) : 0, slope = 1 - th * th;
        if (h->softcap > 0)
            gradient_row_capped(line, width, h->lse[r + i], h->coef[r + i], h->scale, h->softcap);
        else
            gradient_row(line, width, h->lse[r + i], h->coef[r + i], h->scale);
        if (here) line[at] += h->coef[r + i] * h->scale * slope;
    }
}

/* dh (rows of this thread) += dz W_chunk: k runs over the chunk's tokens, a slice of the backward panels. */
static void chunk_to_hidden(const struct head_pass *h, const float *z, float *dh, int64_t r, int64_t rows, int64_t v0, int64_t width)
{
    const struct weight *w = h->w;
    const size_t panel = panel_bytes(h->u, w->n_out);
    struct gemm g = {.step = 1, .b = (const char *)w->pack_bwd + (size_t)units_in(h->u, v0) * PANEL * 4, .panel = panel, .m = rows, .n = w->n_in, .k = units_in(h->u, width),
                     .c = dh + r * w->n_in, .ct = DTYPE_F32, .ldc = w->n_in, .alpha = 1, .accumulate = true};
    if (h->u == UNITS_F32) {
        g.a = z;
        g.row = CHUNK;
    } else {
        uint16_t *pairs = scratch(SCRATCH_D, ROW_BLOCK * CHUNK * sizeof *pairs);
        for (int64_t i = 0; i < rows; i++) {
            tensor_convert(pairs + i * CHUNK, DTYPE_BF16, z + i * CHUNK, DTYPE_F32, width);
            if (width % 2) pairs[i * CHUNK + width] = 0;
        }
        g.a = pairs;
        g.row = CHUNK / 2;
    }
    gemm_run(&g, h->u);
}

void cpu_head_bwd(float *dh, float *dw, const void *h, enum dtype t, int64_t ldh, const struct weight *w, const int32_t *target, const float *lse, const float *coef, int64_t n, float softcap,
                  float scale)
{
    const enum units u = units_of(w->compute);
    const int threads = backend_thread_count();
    const int64_t chunks = (w->n_out + CHUNK - 1) / CHUNK, C = w->n_in;
    struct head_pass pass = {.w = w, .u = u, .n = n, .target = target, .lse = lse, .coef = coef, .softcap = softcap, .scale = scale};
    if (n <= 0) return;
    pass.a = units_of_rows(u, h, t, ldh, n, C, SCRATCH_A, &pass.row);
    float *sums = scratch(SCRATCH_SHARED, (size_t)threads * (size_t)(n * C) * sizeof *sums); // (thread, row, C)
    float *panels = NULL; // h as the right side of dW += dz^T h, in f32
    if (dw) pack_panels(panels = scratch(SCRATCH_SHARED_2, panel_bytes(UNITS_F32, n) * (size_t)panels_in(C)), UNITS_F32, h, t, ldh, 1, n, C);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int part = 0; part < threads; part++) {
        float *z = scratch(SCRATCH_C, ROW_BLOCK * CHUNK * sizeof *z), *own = sums + (size_t)part * (size_t)(n * C);
        memset(own, 0, (size_t)(n * C) * sizeof *own);
        for (int64_t c = chunks * part / threads; c < chunks * (part + 1) / threads; c++) {
            const int64_t v0 = c * CHUNK, width = w->n_out - v0 < CHUNK ? w->n_out - v0 : CHUNK;
            for (int64_t r = 0; r < n; r += ROW_BLOCK) {
                const int64_t rows = n - r < ROW_BLOCK ? n - r : ROW_BLOCK;
                chunk_gradient(&pass, z, r, rows, v0, width);
                chunk_to_hidden(&pass, z, own, r, rows, v0, width);
                if (!dw) continue;
                const struct gemm g = {.a = z, .row = 1, .step = CHUNK, .b = panels + (size_t)r * PANEL, .panel = panel_bytes(UNITS_F32, n), .m = width, .n = C, .k = rows,
                                       .c = dw + v0 * C, .ct = DTYPE_F32, .ldc = C, .alpha = 1, .accumulate = true};
                gemm_run(&g, UNITS_F32);
            }
        }
    }
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t i = 0; i < n * C; i++) {
        float sum = 0;
        for (int p = 0; p < threads; p++) sum += sums[(int64_t)p * n * C + i];
        dh[i] = sum;
    }
}
