#include <math.h>

#include "backend/cpu/pack.h"

/* Logits exist for some rows and a range of the vocabulary at a time. */
enum { TILE_LOGITS = 2 << 20, FWD_ROWS = 256 };

static int64_t tile_rows(int64_t n)
{
    const int64_t most = TILE_LOGITS / PACK_RANGE, tiles = (n + most - 1) / most;
    return n ? (n + tiles - 1) / tiles : 0; // of equal height: each makes the backward panels again
}

/* z (m, to - from) f32 = scale h W[from .. to]^T */
static void tile_logits(float *z, const void *h, enum dtype t, int64_t ldh, const struct weight *w, int64_t m, int64_t from,
                        int64_t to, float scale)
{
    struct product q = {.y = z, .yt = DTYPE_F32, .ldy = to - from, .x = h, .xt = t, .ldx = ldh, .m = m, .alpha = scale};
    pack_forward(w->pack, &q, from, to);
}

/* Log-sum-exp of one row so far: sums of exp(z - max) and of its square, and the target's logit once it was met. */
struct tally {
    double max, sum, square, target;
};

static void tally_add(struct tally *t, double max, double sum, double square)
{
    double top = max > t->max ? max : t->max;
    if (top == -INFINITY) return;
    const double old = exp(t->max - top), new = exp(max - top);
    t->sum = t->sum * old + sum * new;
    t->square = t->square * old * old + square * new * new;
    t->max = top;
}

/* Sum of exp(2 (z - max)); z is spoiled. */
static float square_sum(float *z, int64_t n)
{
    float sum;
    for (int64_t i = 0; i < n; i++) z[i] += z[i];
    kernels()->softmax_sum(z, n, 0, &sum);
    return sum;
}

/* Columns from .. to of the vocabulary for m rows, on one thread, in pieces whose logits stay in the second-level cache. */
static void fwd_share(struct tally *tally, const char *a, int64_t row, const struct pack *p, const int32_t *target, int64_t m,
                      int64_t from, int64_t to, float softcap, float scale, bool squares)
{
    const struct kernels *k = kernels();
    const int64_t nr = k->nr, cache = 256 << 10, piece = cache / 4 / m / nr > 4 ? cache / 4 / m / nr * nr : 4 * nr;
    float *z = scratch(SCRATCH_OWN, (size_t)(m * piece) * sizeof *z);
    for (int64_t r = 0; r < m; r++) tally[r] = (struct tally){.max = -INFINITY};
    for (int64_t v = from; v < to; v += piece) {
        int64_t n = to - v < piece ? to - v : piece;
        struct gemm g = {.a = a,
                         .row = row,
                         .step = 4,
                         .panel = panel_bytes(p->units, p->n_in),
                         .m = m,
                         .n = n,
                         .c = (char *)z,
                         .ct = DTYPE_F32,
                         .ldc = n,
                         .alpha = scale};
        g.k = units_deep(p->units, p->n_in);
        g.b = p->panels + v / nr * g.panel;
        k->gemm[p->units](&g);
        for (int64_t r = 0; r < m; r++) {
            float sum, max = k->softmax_sum(z + r * n, n, softcap, &sum);
            if (target[r] >= v && target[r] < v + n) tally[r].target = z[r * n + target[r] - v];
            tally_add(&tally[r], max, sum, squares ? square_sum(z + r * n, n) : 0);
        }
    }
}

void cpu_head_fwd(float *logp, float *lse, float *square, const void *h, enum dtype t, int64_t ldh, const struct weight *w,
                  const int32_t *target, int64_t n, float softcap, float scale)
{
    const struct pack *p = w->pack;
    const int team = backend_thread_count();
    BUG_ON(!p, "the head's weight is not prepared for products");
    for (int64_t r = 0; r < n; r++)
        BUG_ON(target[r] < 0 || target[r] >= w->n_out, "token %d of a vocabulary of %lld", target[r], (long long)w->n_out);
    for (int64_t r0 = 0; r0 < n; r0 += FWD_ROWS) {
        int64_t row, m = n - r0 < FWD_ROWS ? n - r0 : FWD_ROWS;
        const char *a =
            rows_as_units((const char *)h + (size_t)(r0 * ldh) * dtype_size(t), t, ldh, m, w->n_in, w->compute, p->units, &row);
        struct tally *tally = scratch(SCRATCH_C, (size_t)(team * m) * sizeof *tally); // (share of the vocabulary, row)
        // every share has its thread, even if the runtime gives fewer
#pragma omp parallel for num_threads(team) schedule(static)
        for (int i = 0; i < team; i++)
            fwd_share(tally + i * m, a, row, p, target + r0, m, share_begin(w->n_out, kernels()->nr, i, team),
                      share_begin(w->n_out, kernels()->nr, i + 1, team), softcap, scale, square);
        for (int64_t r = 0; r < m; r++) {
            struct tally *whole = tally + r;
            for (int i = 1; i < team; i++) {
                tally_add(whole, tally[i * m + r].max, tally[i * m + r].sum, tally[i * m + r].square);
                whole->target += tally[i * m + r].target; // zero in all shares but one
            }
            double l = whole->max + log(whole->sum);
            lse[r0 + r] = (float)l;
            logp[r0 + r] = (float)(whole->target - l);
            if (square) square[r0 + r] = (float)(log(whole->square) - 2 * log(whole->sum));
        }
    }
}

/* z -> dlogits = coef ([v = target] - exp(z - lse)) slope scale, in `t`, row by row. */
static void tile_bwd(void *dz, enum dtype t, const float *z, const int32_t *target, const float *lse, const float *coef,
                     int64_t m, int64_t from, int64_t to, float softcap, float scale)
{
    const struct kernels *k = kernels();
    const int64_t width = to - from;
#pragma omp parallel for num_threads(backend_thread_count())
    for (int64_t r = 0; r < m; r++) {
        const float *row = z + r * width;
        char *out = (char *)dz + (size_t)(r * width) * dtype_size(t);
        k->softmax_bwd(out, t, row, width, softcap, lse[r], coef[r] * scale);
        if (target[r] < from || target[r] >= to) continue;
        // the target's own: 1 - p in double, for p may be close to 1
        int64_t at = target[r] - from;
        double y = softcap > 0 ? tanh((double)row[at] / softcap) : 0, logit = softcap > 0 ? softcap * y : row[at];
        float d = (float)(-expm1(logit - lse[r]) * (1 - y * y) * coef[r] * scale);
        uint16_t half = f32_to_bf16(d);
        memcpy(out + (size_t)at * dtype_size(t), t == DTYPE_F32 ? (const void *)&d : &half, dtype_size(t));
    }
}

void cpu_head_bwd(float *dh, float *dw, const void *h, enum dtype t, int64_t ldh, const struct weight *w, const int32_t *target,
                  const float *lse, const float *coef, int64_t n, float softcap, float scale)
{
    const int64_t most = tile_rows(n), c = w->n_in;
    const enum dtype dt = w->compute;
    BUG_ON(!w->pack, "the head's weight is not prepared for products");
    float *z = scratch(SCRATCH_C, (size_t)(most * PACK_RANGE) * sizeof *z);
    char *dz = scratch(SCRATCH_D, (size_t)(most * PACK_RANGE) * sizeof(float));
    for (int64_t r0 = 0; r0 < n; r0 += most) {
        int64_t m = n - r0 < most ? n - r0 : most;
        const char *rows = (const char *)h + (size_t)(r0 * ldh) * dtype_size(t);
        for (int64_t v = 0; v < w->n_out; v += PACK_RANGE) {
            int64_t to = v + PACK_RANGE < w->n_out ? v + PACK_RANGE : w->n_out;
            tile_logits(z, rows, t, ldh, w, m, v, to, scale);
            tile_bwd(dz, dt, z, target + r0, lse + r0, coef + r0, m, v, to, softcap, scale);
            struct product q = {.y = dh + r0 * c,
                                .yt = DTYPE_F32,
                                .ldy = c,
                                .x = dz,
                                .xt = dt,
                                .ldx = to - v,
                                .m = m,
                                .alpha = 1,
                                .accumulate = v > 0};
            pack_backward(w->pack, &q, v, to);
            if (dw) cpu_linear_bwd_w(dw + v * c, dz, dt, to - v, rows, t, ldh, to - v, c, m, 1, false);
        }
    }
}

/* z, zr -> dlogits = coef (p - r) slope scale in `t`; the tile's share of each row's KL is added to `kl`. */
static void tile_kl(void *dz, enum dtype t, double *kl, const float *z, const float *lse, const float *zr, const float *ref_lse, const float *coef, int64_t m, int64_t width,
                    float softcap, float scale)
{
#pragma omp parallel for num_threads(backend_thread_count())
    for (int64_t r = 0; r < m; r++) {
        const float *row = z + r * width, *other = zr + r * width;
        char *out = (char *)dz + (size_t)(r * width) * dtype_size(t);
        double sum = 0;
        for (int64_t v = 0; v < width; v++) {
            const float y = softcap > 0 ? tanhf(row[v] / softcap) : 0, own = (softcap > 0 ? softcap * y : row[v]) - lse[r];
            const float his = (softcap > 0 ? softcap * tanhf(other[v] / softcap) : other[v]) - ref_lse[r], p = expf(his);
            const float d = (expf(own) - p) * (1 - y * y) * coef[r] * scale;
            sum += (double)p * (his - own);
            if (t == DTYPE_F32)
                ((float *)(void *)out)[v] = d;
            else
                ((uint16_t *)(void *)out)[v] = f32_to_bf16(d);
        }
        kl[r] += sum;
    }
}

void cpu_head_kl_bwd_acc(float *kl, float *dh, float *dw, const void *h, enum dtype t, int64_t ldh, const struct weight *w, const float *lse, const void *ref_h, int64_t ldr,
                         const struct weight *ref_w, const float *ref_lse, const float *coef, int64_t n, float softcap, float scale)
{
    const int64_t most = tile_rows(n), c = w->n_in;
    const enum dtype dt = w->compute;
    BUG_ON(!w->pack || !ref_w->pack, "the heads' weights are not prepared for products");
    BUG_ON(ref_w->n_out != w->n_out, "vocabularies of %lld and %lld", (long long)w->n_out, (long long)ref_w->n_out);
    float *z = scratch(SCRATCH_C, (size_t)(2 * most * PACK_RANGE) * sizeof *z), *zr = z + most * PACK_RANGE;
    double *total = scratch(SCRATCH_E, (size_t)most * sizeof *total);
    char *dz = scratch(SCRATCH_D, (size_t)(most * PACK_RANGE) * sizeof(float));
    for (int64_t r0 = 0; r0 < n; r0 += most) {
        int64_t m = n - r0 < most ? n - r0 : most;
        const char *rows = (const char *)h + (size_t)(r0 * ldh) * dtype_size(t), *others = (const char *)ref_h + (size_t)(r0 * ldr) * dtype_size(t);
        for (int64_t r = 0; r < m; r++) total[r] = 0;
        for (int64_t v = 0; v < w->n_out; v += PACK_RANGE) {
            int64_t to = v + PACK_RANGE < w->n_out ? v + PACK_RANGE : w->n_out;
            tile_logits(z, rows, t, ldh, w, m, v, to, scale);
            tile_logits(zr, others, t, ldr, ref_w, m, v, to, scale);
            tile_kl(dz, dt, total, z, lse + r0, zr, ref_lse + r0, coef + r0, m, to - v, softcap, scale);
            struct product q = {.y = dh + r0 * c, .yt = DTYPE_F32, .ldy = c, .x = dz, .xt = dt, .ldx = to - v, .m = m, .alpha = 1, .accumulate = true};
            pack_backward(w->pack, &q, v, to);
            if (dw) cpu_linear_bwd_w(dw + v * c, dz, dt, to - v, rows, t, ldh, to - v, c, m, 1, false);
        }
        for (int64_t r = 0; r < m; r++) kl[r0 + r] = (float)total[r];
    }
}

double cpu_exp_weights(float *e, float *sum, float *max, const float *z, int64_t n, float inverse_temperature)
{
    const struct kernels *k = kernels();
    double total = 0;
    *max = k->largest(z, n);
    for (int64_t i = 0; i < n; i += WEIGHT_STRETCH) total += sum[i / WEIGHT_STRETCH] = k->exp_stretch(e + i, z + i, n - i < WEIGHT_STRETCH ? n - i : WEIGHT_STRETCH, *max, inverse_temperature);
    return total;
}
