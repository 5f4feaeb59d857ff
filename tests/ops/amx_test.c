/* Products through tile registers, with the registers played by memory, so that their blocks, ends and copies are tried on every processor: exactly on small integers. (ops/cpu runs
 * the registers themselves where there are any.) */
#include "test.h"

#include "backend/cpu/kernels.h"
#include "base/rng.h"

static unsigned char tile[8][16][64];

static void tile_load(int t, const void *from, int64_t stride)
{
    for (int r = 0; r < 16; r++) memcpy(tile[t][r], (const char *)from + r * stride, 64);
}

static void tile_store(int t, void *to, int64_t stride)
{
    for (int r = 0; r < 16; r++) memcpy((char *)to + r * stride, tile[t][r], 64);
}

static void tile_madd(int c, int a, int b)
{
    for (int r = 0; r < 16; r++)
        for (int n = 0; n < 16; n++) {
            float sum;
            memcpy(&sum, tile[c][r] + 4 * n, 4);
            for (int k = 0; k < 32; k++) {
                uint16_t x, y;
                memcpy(&x, tile[a][r] + 2 * k, 2);
                memcpy(&y, tile[b][k / 2] + 4 * n + 2 * (k % 2), 2);
                sum += bf16_to_f32(x) * bf16_to_f32(y);
            }
            memcpy(tile[c][r] + 4 * n, &sum, 4);
        }
}

typedef float vf __attribute__((vector_size(64)));
typedef float vf_at __attribute__((vector_size(64), aligned(4), may_alias));

static void finish(const struct gemm *g, const vf *sum, int mr, int vectors, char *c, const float *bias, int64_t columns)
{
    assert_int_equal(vectors, 2);
    for (int i = 0; i < mr; i++)
        for (int64_t j = 0; j < columns; j++) {
            float *out = (float *)(void *)c + i * g->ldc + j, v = ((const float *)sum)[i * 32 + j] * g->alpha + (bias ? bias[j] : 0);
            *out = g->accumulate ? *out + v : v;
        }
}

#define TILE_TARGET
#define TILES_BEGIN() ((void)0)
#define TILES_END() ((void)0)
#define TILE_ZERO(t) memset(tile[t], 0, sizeof tile[t])
#define TILE_LOAD(t, from, stride) tile_load(t, from, stride)
#define TILE_STORE(t, to, stride) tile_store(t, to, stride)
#define TILE_MADD(c, a, b) tile_madd(c, a, b)
#define TILE_FINISH finish
#include "backend/cpu/gemm_amx.h"

static float small(int64_t i, uint64_t salt) { return (float)(int)(rng_uniform(3, RNG_TEST, salt, (uint64_t)i) * 9) - 4; }

static uint16_t half(float x) { return f32_to_bf16(x); }

/* How A lies: rows with something behind each; the same turned, as attention's tiles; packed along k in tiles of 32 rows, as the weights' gradients. */
enum layout { ROWS, COLUMNS, TILES, LAYOUTS };
static const char *const layout_name[] = {"rows", "columns", "tiles"};

/* A (m, 2k) by B (2k, n). Bytes outside A and B are NaNs. */
static void product(int64_t m, int64_t n, int64_t k, enum layout layout)
{
    const int64_t panels = (n + 31) / 32, ldc = n + 5, packed = layout == TILES ? 128 * k : 0;
    const int64_t row = layout == ROWS ? 4 * (k + 3) : 4, step = layout == ROWS ? 4 : layout == TILES ? 128 : 4 * (m + 3);
    const size_t bytes_a = (size_t)(layout == TILES ? (m + 31) / 32 * packed : layout == ROWS ? m * row : k * step) + 64, bytes_b = (size_t)(panels * k * 128) + 64;
    char *a = malloc(bytes_a), *b = malloc(bytes_b);
    float *c = malloc((size_t)(m * ldc) * sizeof *c), *bias = malloc((size_t)n * sizeof *bias);
    memset(a, 0xff, bytes_a);
    memset(b, 0xff, bytes_b);
    for (int64_t p = 0; p < panels * k * 32 * 2; p++) ((uint16_t *)(void *)b)[p] = 0;
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < 2 * k; j++) {
            const uint16_t v = half(small(i * 2 * k + j, 1));
            char *at = (packed ? a + i / 32 * packed + i % 32 * row : a + i * row) + j / 2 * step;
            memcpy(at + j % 2 * 2, &v, 2);
        }
    for (int64_t j = 0; j < 2 * k; j++)
        for (int64_t o = 0; o < n; o++) {
            const uint16_t v = half(small(j * n + o, 2));
            memcpy(b + o / 32 * k * 128 + j / 2 * 128 + o % 32 * 4 + j % 2 * 2, &v, 2);
        }
    for (int64_t i = 0; i < m * ldc; i++) c[i] = small(i, 3);
    for (int64_t i = 0; i < n; i++) bias[i] = small(i, 4);
    struct gemm g = {.a = a, .row = row, .step = step, .tile = packed, .b = b, .panel = 128 * k, .m = m, .n = n, .k = k, .c = (char *)c, .ct = DTYPE_F32,
                     .ldc = ldc, .alpha = 0.5f, .bias = bias, .accumulate = true};
    amx_gemm(&g);
    for (int64_t i = 0; i < m; i++)
        for (int64_t o = 0; o < ldc; o++) {
            double want = small(i * ldc + o, 3), sum = 0;
            for (int64_t j = 0; j < 2 * k && o < n; j++) sum += (double)small(i * 2 * k + j, 1) * small(j * n + o, 2);
            if (o < n) want += 0.5 * sum + bias[o];
            if (c[i * ldc + o] != (float)want) fail_msg("(%lld, %lld, %lld), %s: row %lld column %lld is %g, not %g", (long long)m, (long long)n, (long long)k, layout_name[layout], (long long)i, (long long)o, (double)c[i * ldc + o], want);
        }
    free(a), free(b), free(c), free(bias);
}

static void blocks_and_their_ends(void **state)
{
    (void)state;
    static const int64_t m[] = {1, 15, 16, 17, 31, 32, 33, 70}, n[] = {1, 32, 33, 96}, k[] = {1, 15, 16, 17, 64, 65};
    for (size_t i = 0; i < sizeof m / sizeof *m; i++)
        for (size_t j = 0; j < sizeof n / sizeof *n; j++)
            for (size_t l = 0; l < sizeof k / sizeof *k; l++)
                for (int layout = 0; layout < LAYOUTS; layout++) product(m[i], n[j], k[l], (enum layout)layout);
    product(40, 32 * 40, 600, ROWS); // more panels than a group
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(blocks_and_their_ends)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
