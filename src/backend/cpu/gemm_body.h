/* Products from registers: MR rows by 2 LANES columns, or fewer rows by more panels. Needs simd.h, MR, and the macros
 *   UNIT(p)        a vector of the four bytes of A at p
 *   B_LOAD(p)      LANES columns of B at p, B_BYTES bytes
 *   MADD(c, a, b)  c + a b
 * and GEMM_NAME. */
#ifndef NR
#define NR (2 * LANES)
#endif

/* One tile's sums (mr, 2 np vectors): c = alpha sums + bias (+ c), where `columns` exist. */
static __attribute__((noinline)) TARGET void TILE_NAME(finish)(const struct gemm *g, const vf *sum, int mr, int vectors, char *c,
                                                               const float *bias, int64_t columns)
{
    const size_t size = g->ct == DTYPE_F32 ? 4 : 2;
    vf alpha = splat(g->alpha);
    if (g->ct == DTYPE_F32 && !bias && columns >= vectors * LANES) { // most tiles: nothing to ask inside the loop
        for (int i = 0; i < mr; i++) {
            float *row = (float *)(void *)c + i * g->ldc;
            for (int j = 0; j < vectors; j++)
                store_f32(row + j * LANES, sum[i * vectors + j] * alpha + (g->accumulate ? load_f32(row + j * LANES) : (vf){0}));
        }
        return;
    }
    for (int i = 0; i < mr; i++) {
        char *row = c + (size_t)(i * g->ldc) * size;
        for (int j = 0; j < vectors && j * LANES < columns; j++) {
            int64_t at = j * LANES, left = columns - at;
            vf v = sum[i * vectors + j] * alpha;
            if (bias) v += get(bias, DTYPE_F32, at, left);
            if (g->accumulate) v += get(row, g->ct, at, left);
            put(row, g->ct, at, left, v);
        }
    }
}

/* mr rows by np panels. Rows are reached from every third one, as base + {0, 1, 2} row: addresses that x86 has. */
FN void TILE_NAME(tile)(const struct gemm *g, int mr, int np, const char *a, const char *b, char *c, const float *bias,
                        int64_t columns, struct ahead ahead)
{
    const int64_t row = g->row, step = g->step, panel = g->panel;
    vf acc[MR * 2 > 8 ? MR * 2 : 8];
    const char *at[(MR + 2) / 3];
    if (g->accumulate) { // what the sums will be added to is on its way while they are made
        const size_t size = g->ct == DTYPE_F32 ? 4 : 2;
        for (int i = 0; i < mr; i++)
            for (size_t j = 0; j < (size_t)columns * size; j += 64) __builtin_prefetch(c + (size_t)(i * g->ldc) * size + j, 1);
    }
    UNROLL
    for (int i = 0; i < mr * np * 2; i++) acc[i] = (vf){0};
    UNROLL
    for (int i = 0; i < (mr + 2) / 3; i++) at[i] = a + 3 * i * row;
    for (int64_t k = g->k; k; k--) {
        vf bv[8];
        UNROLL
        for (int p = 0; p < np; p++) {
            bv[2 * p] = B_LOAD(b + p * panel);
            bv[2 * p + 1] = B_LOAD(b + p * panel + B_BYTES);
        }
        if (ahead.at) {
            UNROLL
            for (int p = 0; p < np; p++)
                for (int line = 0; line < 2 * B_BYTES; line += 64) __builtin_prefetch(ahead.at + p * panel + line);
            ahead.at += ahead.step;
        }
        UNROLL
        for (int i = 0; i < mr; i++) {
            vf av = UNIT(at[i / 3] + i % 3 * row);
            UNROLL
            for (int j = 0; j < 2 * np; j++) acc[i * 2 * np + j] = MADD(acc[i * 2 * np + j], av, bv[j]);
        }
        UNROLL
        for (int i = 0; i < (mr + 2) / 3; i++) at[i] += step;
        b += 2 * B_BYTES;
    }
    vf sum[MR * 2 > 8 ? MR * 2 : 8]; // a copy, so that the sums above live in registers
    UNROLL
    for (int i = 0; i < mr * np * 2; i++) sum[i] = acc[i];
    TILE_NAME(finish)(g, sum, mr, 2 * np, c, bias, columns);
}

/* How many panels a tile of mr rows takes: enough sums in flight to hide the latency of an addition. */
FN int TILE_NAME(panels)(int mr) { return mr == 1 ? 4 : 2 * mr <= MR ? 2 : 1; }

#define CASE(m)                                                                                                                  \
    case m:                                                                                                                      \
        if (np == 1)                                                                                                             \
            TILE_NAME(tile)(g, m, 1, a, b, c, bias, columns, ahead);                                                             \
        else                                                                                                                     \
            TILE_NAME(tile)(g, m, m == 1 ? 4 : 2 * m <= MR ? 2 : 1, a, b, c, bias, columns, ahead);                              \
        return;

static TARGET void TILE_NAME(dispatch)(const struct gemm *g, int mr, int np, const char *a, const char *b, char *c,
                                       const float *bias, int64_t columns, struct ahead ahead)
{
    switch (mr) {
        // clang-format off
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#if MR == 14
        CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12) CASE(13) CASE(14)
#endif
        // clang-format on
    default: BUG_ON(1, "a tile of %d rows", mr);
    }
}
#undef CASE

/* Tile t of few at panel p, `np` of them at once: its share of the panels that follow, so that they are on their way from memory while these are multiplied. */
static struct ahead TILE_NAME(share_of_next)(const struct gemm *g, int64_t t, int64_t tiles, int64_t p, int np, int64_t panels)
{
    if (tiles > FEW_TILES) return (struct ahead){0};
    const char *next = p + 2 * np <= panels ? g->b + (p + np) * g->panel : p + np < panels ? NULL : g->next;
    const int64_t step = 2 * B_BYTES / tiles;
    return (struct ahead){next ? next + t * step * g->k : NULL, step};
}

/* Panels in groups that stay in the second-level cache; every row tile meets all of a group before the next one does. Few tiles take panel by panel: they wait for
 * memory, and the next panel comes meanwhile. */
static TARGET void TILE_NAME(gemm)(const struct gemm *g)
{
    const int64_t cache = 384 << 10, panels = (g->n + NR - 1) / NR, tiles = (g->m + MR - 1) / MR;
    int64_t group = tiles <= FEW_TILES ? 4 : cache / (g->k * 2 * B_BYTES + 1) / 4 * 4;
    if (group < 4) group = 4;
    if (tiles > 1 && tiles <= FEW_TILES) group = TILE_NAME(panels)((int)(g->m / tiles));
    const size_t size = g->ct == DTYPE_F32 ? 4 : 2;
    for (int64_t p0 = 0; p0 < panels; p0 += group) {
        int64_t p1 = p0 + group < panels ? p0 + group : panels;
        for (int64_t t = 0; t < tiles; t++) {
            int64_t r0 = g->m * t / tiles, r1 = g->m * (t + 1) / tiles; // of nearly equal height
            const char *a = g->a + r0 * g->row;
            if (g->tile) {
                r0 = t * MR;
                r1 = r0 + MR < g->m ? r0 + MR : g->m;
                a = g->a + t * g->tile;
            }
            int mr = (int)(r1 - r0), wide = TILE_NAME(panels)(mr), np;
            for (int64_t p = p0; p < p1; p += np) {
                int64_t columns = g->n - p * NR;
                np = p + wide <= p1 ? wide : 1;
                if (columns > np * NR) columns = np * NR;
                TILE_NAME(dispatch)
                (g, mr, np, a, g->b + p * g->panel, g->c + (size_t)(r0 * g->ldc + p * NR) * size,
                 g->bias ? g->bias + p * NR : NULL, columns, TILE_NAME(share_of_next)(g, t, tiles, p, np, panels));
            }
        }
    }
}
