#include <omp.h>
#include <stdlib.h>

#include "backend/cpu/pack.h"
#include "backend/ref/ref.h"

void weight_row(const struct weight *w, int64_t o, int64_t i, int64_t n, float *out)
{
    const struct weight_part *p = w->part;
    while (o >= p->n_out) o -= p++->n_out;
    size_t size = dtype_size(p->dtype);
    if (!p->transposed) {
        kernels()->widen(out, (const char *)p->data + (size_t)(o * p->ld + i) * size, p->dtype, n);
        return;
    }
    for (int64_t j = 0; j < n; j++) out[j] = (float)element(p->data, p->dtype, (i + j) * p->ld + o);
}

/* Rows of B^T: panel[k][nr] from rows o0 .. o0 + nr of W, in stretches of k that stay in the first cache. */
static void panel_from_rows(const struct pack *p, const struct weight *w, int64_t o0, char *panel)
{
    enum { STRETCH = 128 };
    const struct kernels *kernel = kernels();
    const int64_t nr = kernel->nr, rows = o0 + nr < p->n_out ? nr : p->n_out - o0;
    float *values = scratch(SCRATCH_OWN, (size_t)(2 * nr * STRETCH) * sizeof *values), *block = values + nr * STRETCH;
    for (int64_t i = 0; i < p->n_in; i += STRETCH) {
        int64_t n = p->n_in - i < STRETCH ? p->n_in - i : STRETCH;
        memset(values, 0, (size_t)(nr * STRETCH) * sizeof *values);
        for (int64_t r = 0; r < rows; r++) {
            weight_row(w, o0 + r, i, n, values + r * STRETCH);
            if (p->units ==
                UNITS_PAIR) { // in place: what is written lies behind what is read; an odd n leaves half a float, zero it
                kernel->narrow(values + r * STRETCH, values + r * STRETCH, n);
                if (n % 2) memset((char *)(values + r * STRETCH) + 2 * n, 0, 2);
            }
        }
        int64_t units = p->units == UNITS_PAIR ? (n + 1) / 2 : n, first = p->units == UNITS_PAIR ? i / 2 : i;
        if (p->units == UNITS_BF16) {
            kernel->transpose(block, nr, values, STRETCH, nr, n);
            kernel->narrow(panel + first * nr * 2, block, n * nr);
        } else {
            kernel->transpose(panel + first * nr * 4, nr, values, STRETCH, nr, units);
        }
    }
}

static void pack_fill(struct pack *p, const struct weight *w)
{
    const int64_t nr = kernels()->nr, panels = (p->n_out + nr - 1) / nr, stride = panel_bytes(p->units, p->n_in);
#pragma omp parallel for num_threads(backend_thread_count())
    for (int64_t c = 0; c < panels; c++) panel_from_rows(p, w, c * nr, p->panels + c * stride);
}

static void pack_free(struct pack *p)
{
    if (!p) return;
    free(p->panels);
    free(p);
}

size_t cpu_weight_bytes(int64_t n_out, int64_t n_in, enum dtype compute)
{
    const int64_t nr = kernels()->nr;
    return (size_t)((n_out + nr - 1) / nr * panel_bytes(units_of(compute), n_in));
}

int cpu_weight_prepare(struct weight *w, enum dtype compute, sail_err *err)
{
    int status = ref_weight_prepare(w, compute, err);
    if (status != SAIL_OK) return status;
    struct pack *p = calloc(1, sizeof *p);
    if (!p) return err_memory(err, sizeof *p);
    *p = (struct pack){.compute = compute, .n_out = w->n_out, .n_in = w->n_in, .units = units_of(compute)};
    const size_t bytes = cpu_weight_bytes(w->n_out, w->n_in, compute);
    p->panels = block_alloc(bytes);
    if (!p->panels) {
        free(p);
        return err_memory(err, bytes);
    }
    pack_fill(p, w);
    w->pack = p;
    w->self_contained = true;
    return SAIL_OK;
}

void cpu_weight_refresh(struct weight *w)
{
    if (w->pack) pack_fill(w->pack, w);
}

void cpu_weight_release(struct weight *w)
{
    pack_free(w->pack);
    w->pack = NULL;
}
