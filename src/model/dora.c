/* DoRA (arXiv 2402.09353): y = g (W x + s B A x) + bias with g = m / ||W + s B A||, row by row of W. As in PEFT the norm is a constant to the gradient
 * (section 4.3 of the paper), and dropout acts on everything that the adapter adds: y = W x + bias + (g - 1) W x' + g s B A x'.
 *
 * The norm needs W's source once, for its own rows; what B A adds comes from products: ||w + s b A||^2 = ||w||^2 + 2 s b (A w) + s^2 b (A A^T) b^T. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "model/adapter.h"

static const struct linear *linear_at(const struct model *m, int64_t i) { return &m->layer[i / LINEAR_COUNT].linear[i % LINEAR_COUNT]; }

/* The rows of one part of W, squared and summed, from the file. */
static int row_squares(const struct model *m, int64_t i, int part, double *out, sail_err *err)
{
    const struct weight *w = &linear_at(m, i)->w;
    const int64_t n_out = w->part[part].n_out, n_in = w->n_in;
    const bool transposed = w->part[part].transposed;
    char name[NAME_SIZE + 8];
    float *value;
    module_name(name, m, m->prefix, i / LINEAR_COUNT, m->config.family->linear[i % LINEAR_COUNT].part[part]);
    strcat(name, ".weight");
    const struct tensor *t = weights_find(m->file, name);
    BUG_ON(!t, "tensor '%s' was there when the model was opened", name);
    int rc = mem_alloc(&value, (size_t)(n_out * n_in), sizeof *value, err);
    if (!rc) rc = weights_load(m->file, t, value, DTYPE_F32, err);
    for (int64_t o = 0; !rc && o < n_out; o++) {
        out[o] = 0;
        for (int64_t k = 0; k < n_in; k++) {
            const double v = value[transposed ? k * n_out + o : o * n_in + k];
            out[o] += v * v;
        }
    }
    weights_drop(m->file, t);
    free(value);
    return rc;
}

/* Of dora_refresh's buffers: elements of cross and factor. */
static void count_buffers(const struct adapter *a, int64_t *cross, int64_t *factor)
{
    *cross = *factor = 0;
    for (int64_t i = 0; i < a->model->config.n_layer * LINEAR_COUNT; i++) {
        const struct lora_linear *l = &a->linear[i];
        const struct weight *w = &linear_at(a->model, i)->w;
        if (l->r_sum * w->n_out > *cross) *cross = l->r_sum * w->n_out;
        if (l->r_sum * w->n_in > *factor) *factor = l->r_sum * w->n_in;
    }
}

size_t dora_room(const struct adapter *a)
{
    int64_t cross, factor;
    count_buffers(a, &cross, &factor);
    const size_t rank = (size_t)adapter_max_rank(a);
    size_t bytes = (size_t)cross * sizeof *a->dora.cross + (size_t)factor * dtype_size(a->model->options.compute) + rank * rank * sizeof *a->dora.gram;
    for (int64_t i = 0; i < a->model->config.n_layer * LINEAR_COUNT; i++) {
        const struct lora_linear *l = &a->linear[i];
        if (l->r_sum) bytes += (size_t)linear_at(a->model, i)->w.n_out * (3 * sizeof *l->gain + sizeof *l->square);
    }
    return bytes;
}

static int take_buffers(struct adapter *a, sail_err *err)
{
    const struct model *m = a->model;
    int64_t cross, factor;
    count_buffers(a, &cross, &factor);
    int rc = mem_alloc(&a->dora.cross, (size_t)cross, sizeof *a->dora.cross, err);
    if (!rc) rc = mem_alloc(&a->dora.factor, (size_t)factor, dtype_size(m->options.compute), err);
    const int64_t rank = adapter_max_rank(a);
    return rc ? rc : mem_alloc(&a->dora.gram, (size_t)(rank * rank), sizeof *a->dora.gram, err);
}

int dora_prepare(struct adapter *a, bool fresh, sail_err *err)
{
    const struct model *m = a->model;
    if (!a->is_dora) return SAIL_OK;
    int rc = take_buffers(a, err);
    for (int64_t i = 0; !rc && i < m->config.n_layer * LINEAR_COUNT; i++) {
        struct lora_linear *l = &a->linear[i];
        const struct weight *w = &linear_at(m, i)->w;
        if (!l->r_sum) continue;
        rc = mem_alloc(&l->gain, (size_t)w->n_out * 3, sizeof *l->gain, err);
        if (!rc) rc = mem_alloc(&l->square, (size_t)w->n_out, sizeof *l->square, err);
        if (rc) return rc;
        l->extra = l->gain + w->n_out;
        l->inverse_norm = l->extra + w->n_out;
        for (int64_t o = 0; o < w->n_out; o++) l->gain[o] = 1;
        for (int64_t p = 0, at = 0; !rc && p < w->n_part; at += w->part[p++].n_out) {
            if (!l->on[p]) continue;
            rc = row_squares(m, i, (int)p, l->square + at, err);
            for (int64_t o = 0; !rc && fresh && o < w->part[p].n_out; o++) l->pm[p]->value[o] = (float)sqrt(l->square[at + o]); // B is zero
        }
    }
    if (!rc) dora_refresh(a);
    return rc;
}

void dora_release(struct adapter *a)
{
    for (int64_t i = 0; a->linear && i < a->model->config.n_layer * LINEAR_COUNT; i++) {
        free(a->linear[i].gain);
        free(a->linear[i].square);
    }
    free(a->dora.cross);
    free(a->dora.factor);
    free(a->dora.gram);
}

/* The gains of one part; cross (r, ldc) holds A W^T at the part's columns, gram (r, r_sum) A A^T at its ranks. */
static void part_gains(struct lora_linear *l, int p, int64_t at, const float *cross, int64_t ldc, const float *gram)
{
    const int64_t r = l->r[p], n_out = l->pb[p]->dim[0];
    const double s = l->scale[p];
#pragma omp parallel for num_threads(backend_thread_count()) schedule(static)
    for (int64_t o = 0; o < n_out; o++) {
        const float *b = l->pb[p]->value + o * r;
        double mixed = 0, own = 0;
        for (int64_t k = 0; k < r; k++) {
            float low = 0;
#pragma omp simd reduction(+ : low)
            for (int64_t j = 0; j < k; j++) low += b[j] * gram[k * l->r_sum + j];
            own += (double)b[k] * (2 * (double)low + (double)b[k] * gram[k * l->r_sum + k]);
            mixed += (double)b[k] * cross[k * ldc + o];
        }
        const double square = l->square[at + o] + 2 * s * mixed + s * s * own;
        const float norm = square > 0 ? (float)sqrt(square) : 0;
        // A row of zeros has no direction: it stays what it is.
        l->gain[at + o] = norm > 0 ? l->pm[p]->value[o] / norm : 1;
        l->inverse_norm[at + o] = norm > 0 ? 1 / norm : 0;
        l->extra[at + o] = l->gain[at + o] - 1;
    }
}

void dora_refresh(struct adapter *a)
{
    const struct model *m = a->model;
    const enum dtype t = m->options.compute;
    for (int64_t i = 0; a->is_dora && i < m->config.n_layer * LINEAR_COUNT; i++) {
        struct lora_linear *l = &a->linear[i];
        const struct weight *w = &linear_at(m, i)->w;
        if (!l->r_sum) continue;
        for (int p = 0; p < w->n_part; p++)
            if (l->on[p]) ops->convert(element_at(a->dora.factor, t, l->r_start[p] * w->n_in), t, l->pa[p]->value, DTYPE_F32, l->pa[p]->n);
        ops->linear_fwd(a->dora.cross, DTYPE_F32, w->n_out, a->dora.factor, t, w->n_in, w, NULL, l->r_sum, 1, false);
        ops->linear_fwd(a->dora.gram, DTYPE_F32, l->r_sum, a->dora.factor, t, w->n_in, &l->a, NULL, l->r_sum, 1, false);
        for (int64_t p = 0, at = 0; p < w->n_part; at += w->part[p++].n_out)
            if (l->on[p])
                part_gains(l, (int)p, at, a->dora.cross + l->r_start[p] * w->n_out + at, w->n_out, a->dora.gram + l->r_start[p] * (l->r_sum + 1));
    }
}

enum { CHUNK = 256 };

void columns_scale(void *y, enum dtype yt, int64_t ldy, const void *x, enum dtype xt, int64_t ldx, const float *gain, const float *bias, int64_t rows, int64_t n,
                   bool accumulate)
{
#pragma omp parallel for num_threads(backend_thread_count()) schedule(static)
    for (int64_t i = 0; i < rows; i++)
        for (int64_t from = 0; from < n; from += CHUNK) {
            const int64_t width = n - from < CHUNK ? n - from : CHUNK;
            float v[CHUNK], was[CHUNK];
            tensor_convert(v, DTYPE_F32, element_of(x, xt, i * ldx + from), xt, width);
            for (int64_t k = 0; k < width; k++) v[k] = gain[from + k] * v[k] + (bias ? bias[from + k] : 0);
            if (accumulate) {
                tensor_convert(was, DTYPE_F32, element_of(y, yt, i * ldy + from), yt, width);
                for (int64_t k = 0; k < width; k++) v[k] += was[k];
            }
            tensor_convert(element_at(y, yt, i * ldy + from), yt, v, DTYPE_F32, width);
        }
}

/* dm += (column sums of dy u) / norm */
static void magnitude_grad(float *dm, const void *dy, enum dtype t, int64_t ld, const float *u, const float *inverse_norm, int64_t rows, int64_t n)
{
#pragma omp parallel for num_threads(backend_thread_count()) schedule(static)
    for (int64_t from = 0; from < n; from += CHUNK) {
        const int64_t width = n - from < CHUNK ? n - from : CHUNK;
        float v[CHUNK];
        double sum[CHUNK] = {0};
        for (int64_t i = 0; i < rows; i++) {
            tensor_convert(v, DTYPE_F32, element_of(dy, t, i * ld + from), t, width);
            for (int64_t k = 0; k < width; k++) sum[k] += (double)v[k] * u[i * ld + from + k];
        }
        for (int64_t k = 0; k < width; k++) dm[from + k] += (float)(sum[k] * inverse_norm[from + k]);
    }
}

/* u += s B t, each part in its columns; add false: u = s B t there. */
static void add_low_rank(const struct model *m, const struct lora_linear *l, const struct weight *w, float *u, const void *lora_t, int64_t rows, bool add)
{
    const enum dtype t = m->options.compute;
    for (int64_t p = 0, at = 0; p < w->n_part; at += w->part[p++].n_out)
        if (l->on[p])
            ops->linear_fwd(u + at, DTYPE_F32, w->n_out, element_of(lora_t, t, l->r_start[p]), t, l->r_sum, &l->b[p], NULL, rows, l->scale[p], add);
}

void dora_run(const struct model *m, const struct adapter *a, int64_t layer, enum linear_id id, void *y, enum dtype yt, const void *x, void *lora_t, int64_t rows,
              bool accumulate, const struct block_scratch *s, const uint64_t *key)
{
    const struct linear *base = &m->layer[layer].linear[id];
    const struct lora_linear *l = adapter_linear(a, layer, id);
    const enum dtype t = m->options.compute;
    const int64_t n_in = base->w.n_in, n_out = base->w.n_out;
    const bool dropping = a->dropout > 0 && key;
    if (dropping) {
        ops->linear_fwd(y, yt, n_out, x, t, n_in, &base->w, base->bias, rows, 1, accumulate);
        lora_drop(a, layer, id, s->spare, x, t, key, rows, n_in);
        x = s->spare;
    }
    ops->linear_fwd(lora_t, t, l->r_sum, x, t, n_in, &l->a, NULL, rows, 1, false);
    ops->linear_fwd(s->whole, DTYPE_F32, n_out, x, t, n_in, &base->w, NULL, rows, 1, false);
    if (!dropping) {
        add_low_rank(m, l, &base->w, s->whole, lora_t, rows, true);
        columns_scale(y, yt, n_out, s->whole, DTYPE_F32, n_out, l->gain, base->bias, rows, n_out, accumulate);
        return;
    }
    columns_scale(y, yt, n_out, s->whole, DTYPE_F32, n_out, l->extra, NULL, rows, n_out, true);
    add_low_rank(m, l, &base->w, s->whole, lora_t, rows, false);
    for (int64_t p = 0, at = 0; p < base->w.n_part; at += base->w.part[p++].n_out)
        if (l->on[p]) columns_scale(element_at(y, yt, at), yt, n_out, s->whole + at, DTYPE_F32, n_out, l->gain + at, NULL, rows, base->w.part[p].n_out, true);
}

void dora_magnitude_backward(const struct model *m, const struct adapter *a, int64_t layer, enum linear_id id, const void *dy, const void *x, const void *lora_t, int64_t rows,
                             const struct block_scratch *s)
{
    const struct weight *w = &m->layer[layer].linear[id].w;
    const struct lora_linear *l = adapter_linear(a, layer, id);
    const enum dtype t = m->options.compute;
    // was: u = W x + s B t; made again: as wide as the product itself, and used once
    ops->linear_fwd(s->whole, DTYPE_F32, w->n_out, x, t, w->n_in, w, NULL, rows, 1, false);
    add_low_rank(m, l, w, s->whole, lora_t, rows, true);
    for (int64_t p = 0, at = 0; p < w->n_part; at += w->part[p++].n_out)
        if (l->on[p]) magnitude_grad(l->pm[p]->grad, element_of(dy, t, at), t, w->n_out, s->whole + at, l->inverse_norm + at, rows, w->part[p].n_out);
}
