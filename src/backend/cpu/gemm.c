#include "backend/cpu/kernels.h"

enum units units_of(enum dtype compute)
{
    if (compute == DTYPE_F32) return UNITS_F32;
    return kernels()->gemm[UNITS_PAIR] ? UNITS_PAIR : UNITS_BF16;
}

int64_t units_deep(enum units u, int64_t k) { return u == UNITS_PAIR ? (k + 1) / 2 : k; }

int64_t panel_bytes(enum units u, int64_t k)
{
    int64_t nr = kernels()->nr;
    return u == UNITS_F32 ? k * nr * 4 : u == UNITS_BF16 ? k * nr * 2 : (k + 1) / 2 * nr * 4;
}

/* The grid of shares with the least work in its largest; rows are cut before columns when it makes no difference. What is done once per panel, whatever
 * the number of rows (a panel is read, or made), counts like a tile. */
static int grid_rows(int64_t tiles, int64_t panels, int parts)
{
    int best = 1;
    int64_t least = INT64_MAX;
    for (int rows = parts; rows >= 1; rows--) {
        if (parts % rows) continue;
        int64_t columns = parts / rows, work = ((tiles + rows - 1) / rows + 1) * ((panels + columns - 1) / columns);
        if (work < least) least = work, best = rows;
    }
    return best;
}

bool gemm_share(struct gemm *own, int64_t *panel, const struct gemm *g, int part, int parts)
{
    const struct kernels *kernel = kernels();
    int64_t nr = kernel->nr, tiles = (g->m + kernel->mr - 1) / kernel->mr, panels = (g->n + nr - 1) / nr;
    int rows = grid_rows(tiles, panels, parts), columns = parts / rows;
    int64_t grain = g->tile ? kernel->mr : 1;
    int64_t r0 = share_begin(g->m, grain, part / columns, rows), r1 = share_begin(g->m, grain, part / columns + 1, rows);
    int64_t p0 = share_begin(g->n, nr, part % columns, columns), p1 = share_begin(g->n, nr, part % columns + 1, columns);
    if (r0 == r1 || p0 == p1) return false;
    *own = *g;
    *panel = p0 / nr;
    own->a += g->tile ? r0 / kernel->mr * g->tile : r0 * g->row;
    own->c += (size_t)(r0 * g->ldc + p0) * dtype_size(g->ct);
    own->bias = g->bias ? g->bias + p0 : NULL;
    own->m = r1 - r0;
    own->n = p1 - p0;
    return true;
}

void gemm_part(const struct gemm *g, enum units u, int part, int parts)
{
    struct gemm own;
    int64_t panel;
    if (!gemm_share(&own, &panel, g, part, parts)) return;
    own.b += panel * g->panel;
    kernels()->gemm[u](&own);
}
