/* Products through tile registers: blocks of 32 rows by one panel of 32 columns, which is four tiles of sums. A tile holds 16 rows of 16 units; the panels of UNITS_PAIR are what
 * its products read. Needs the macros TILES_BEGIN(), TILES_END(), TILE_ZERO(t), TILE_LOAD(t, from, stride), TILE_STORE(t, to, stride), TILE_MADD(c, a, b), TILE_TARGET, and
 * TILE_FINISH with the arguments of gemm_body.h's finish. */
enum { TILE_SIDE = 16, BLOCK_ROWS = 2 * TILE_SIDE, BLOCK_COLUMNS = 2 * TILE_SIDE, PANEL_ROW = 4 * BLOCK_COLUMNS, TILE_GROUP = 1 << 20 };

static int64_t whole_tiles(int64_t units) { return (units + TILE_SIDE - 1) / TILE_SIDE * TILE_SIDE; }

/* Rows of A as tiles read them: as they are, or, where a tile would leave them or they are packed along k, copied, with zeros up to whole tiles. */
static const char *block_rows(const struct gemm *g, const char *a, int64_t rows, char *copy, int64_t *row)
{
    const int64_t side = rows > TILE_SIDE ? BLOCK_ROWS : TILE_SIDE, units = whole_tiles(g->k);
    *row = g->row;
    if (g->step == 4 && rows == side && units == g->k) return a;
    *row = units * 4;
    memset(copy, 0, (size_t)(side * *row));
    if (g->step == 4)
        for (int64_t r = 0; r < rows; r++) memcpy(copy + r * *row, a + r * g->row, (size_t)g->k * 4);
    else
        kernels()->transpose(copy, units, a, g->step / 4, g->k, rows);
    __asm__ volatile("" ::: "memory"); // tile loads are not seen as reads by every compiler
    return copy;
}

/* The end of a panel that is no whole tile deep, with zeros below. */
static const char *panel_end(const struct gemm *g, const char *b, char *copy)
{
    const int64_t left = g->k % TILE_SIDE;
    if (!left) return NULL;
    memset(copy, 0, TILE_SIDE * PANEL_ROW);
    memcpy(copy, b + (g->k - left) * PANEL_ROW, (size_t)(left * PANEL_ROW));
    __asm__ volatile("" ::: "memory");
    return copy;
}

/* sums (32, 32) of 32 rows and a panel; of 16 rows alone where there are no more. */
static TILE_TARGET void block_sums(float *sums, const char *a, int64_t row, const char *b, const char *end, int64_t units, bool both)
{
    TILE_ZERO(0);
    TILE_ZERO(1);
    TILE_ZERO(2);
    TILE_ZERO(3);
    for (int64_t u = 0; u < units; u += TILE_SIDE) {
        const char *panel = u + TILE_SIDE > units ? end : b + u * PANEL_ROW;
        TILE_LOAD(6, panel, PANEL_ROW);
        TILE_LOAD(7, panel + PANEL_ROW / 2, PANEL_ROW);
        TILE_LOAD(4, a + 4 * u, row);
        TILE_MADD(0, 4, 6);
        TILE_MADD(1, 4, 7);
        if (!both) continue;
        TILE_LOAD(5, a + TILE_SIDE * row + 4 * u, row);
        TILE_MADD(2, 5, 6);
        TILE_MADD(3, 5, 7);
    }
    TILE_STORE(0, sums, PANEL_ROW);
    TILE_STORE(1, sums + TILE_SIDE, PANEL_ROW);
    if (!both) return;
    TILE_STORE(2, sums + TILE_SIDE * BLOCK_COLUMNS, PANEL_ROW);
    TILE_STORE(3, sums + TILE_SIDE * BLOCK_COLUMNS + TILE_SIDE, PANEL_ROW);
}

/* Panels in groups that stay in the second-level cache, as in gemm_body.h. */
static TILE_TARGET void amx_gemm(const struct gemm *g)
{
    const int64_t panels = (g->n + BLOCK_COLUMNS - 1) / BLOCK_COLUMNS, units = whole_tiles(g->k), fit = TILE_GROUP / (g->k * PANEL_ROW + 1), group = fit > 1 ? fit : 1;
    const size_t size = g->ct == DTYPE_F32 ? 4 : 2;
    float *sums = scratch(SCRATCH_TILE, (size_t)(BLOCK_ROWS * (BLOCK_COLUMNS + units) + TILE_SIDE * BLOCK_COLUMNS) * sizeof *sums);
    char *end_copy = (char *)(sums + BLOCK_ROWS * BLOCK_COLUMNS), *row_copy = end_copy + TILE_SIDE * PANEL_ROW;
    TILES_BEGIN();
    for (int64_t p0 = 0; p0 < panels; p0 += group)
        for (int64_t r = 0; r < g->m; r += BLOCK_ROWS) {
            const int64_t rows = g->m - r < BLOCK_ROWS ? g->m - r : BLOCK_ROWS;
            int64_t row;
            const char *a = block_rows(g, g->tile ? g->a + r / BLOCK_ROWS * g->tile : g->a + r * g->row, rows, row_copy, &row);
            for (int64_t p = p0; p < panels && p < p0 + group; p++) {
                const char *b = g->b + p * g->panel;
                const int64_t columns = g->n - p * BLOCK_COLUMNS;
                block_sums(sums, a, row, b, panel_end(g, b, end_copy), g->k, rows > TILE_SIDE);
                TILE_FINISH(g, (const vf *)sums, (int)rows, 2, g->c + (size_t)(r * g->ldc + p * BLOCK_COLUMNS) * size, g->bias ? g->bias + p * BLOCK_COLUMNS : NULL,
                            columns < BLOCK_COLUMNS ? columns : BLOCK_COLUMNS);
            }
        }
    TILES_END();
}
