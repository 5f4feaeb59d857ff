/* Conversions and layouts: what puts operands into panels. Needs simd.h. */

static TARGET void widen(float *y, const void *x, enum dtype xt, int64_t n)
{
    if (xt == DTYPE_F32) {
        memcpy(y, x, (size_t)n * sizeof *y);
        return;
    }
    if (xt == DTYPE_F16) {
        for (int64_t i = 0; i < n; i++) y[i] = f16_to_f32(((const h16_at *)x)[i]);
        return;
    }
    for (int64_t i = 0; i < n; i += LANES) put(y, DTYPE_F32, i, n - i, get(x, DTYPE_BF16, i, n - i));
}

static TARGET void narrow(void *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i += LANES) put(y, DTYPE_BF16, i, n - i, get(x, DTYPE_F32, i, n - i));
}

/* Elements i .. i + LANES of two bf16 rows as pairs; odd NULL: zeros. */
FN vf pairs_of(const char *even, const char *odd, int64_t i, int64_t left)
{
    const vu low = (vu)get(even, DTYPE_BF16, i, left) >> 16;
    return (vf)(odd ? low | (vu)get(odd, DTYPE_BF16, i, left) : low);
}

static TARGET void zip(void *y, const void *even, const void *odd, int64_t n)
{
    for (int64_t i = 0; i < n; i += LANES) put(y, DTYPE_F32, i, n - i, pairs_of(even, odd, i, n - i));
}

static TARGET void pair_rows(void *y, const float *even, const float *odd, int64_t n)
{
    for (int64_t i = 0; i < n; i += LANES) {
        const vu low = U32_FROM_U16(round_bf16(get(even, DTYPE_F32, i, n - i)));
        const vu high = odd ? U32_FROM_U16(round_bf16(get(odd, DTYPE_F32, i, n - i))) << 16 : (vu){0};
        put(y, DTYPE_F32, i, n - i, (vf)(low | high));
    }
}

static TARGET void tiles(char *out, int64_t block, int64_t width, const void *x, enum dtype t, int64_t ld, int64_t m, int64_t n, bool pair)
{
    const int64_t line = ld * (t == DTYPE_F32 ? 4 : 2), rows = pair ? 2 : 1;
    for (int64_t c = 0; c < n; c += width, out += block)
        for (int64_t r = 0; r < m; r += rows) {
            const char *from = (const char *)x + r * line, *odd = r + 1 < m ? from + line : NULL;
            char *to = out + r / rows * width * 4;
            for (int64_t j = 0; j < width; j += LANES) {
                const int64_t left = n - c - j;
                const vf v = left <= 0 ? (vf){0} : pair ? pairs_of(from, odd, c + j, left) : get(from, t, c + j, left);
                put(to, DTYPE_F32, j, width - j, v);
            }
        }
}

/* Lane l of the first result: a[l] where bit d of l is 0, else b[l - d]; of the second: a[l + d], else b[l]. */
#define LOW(l, d) ((l) & (d) ? LANES + (l) - (d) : (l))
#define HIGH(l, d) ((l) & (d) ? LANES + (l) : (l) + (d))
/* Of `rows` vectors whose elements are `wide` lanes: elements change places with those d rows and d elements away. */
#define EXCHANGE(rows, d, wide)                                                                                                  \
    for (int i = 0; i < (rows); i++)                                                                                             \
        if (!(i & (d))) {                                                                                                        \
            vf low = __builtin_shufflevector(r[i], r[i + (d)], EACH_LANE(LOW, (d) * (wide)));                                    \
            vf high = __builtin_shufflevector(r[i], r[i + (d)], EACH_LANE(HIGH, (d) * (wide)));                                  \
            r[i] = low;                                                                                                          \
            r[i + (d)] = high;                                                                                                   \
        }

/* r[i][j] <-> r[j][i] */
FN void transpose_lanes(vf *r)
{
    UNROLL
    EXCHANGE(LANES, 1, 1)
    UNROLL
    EXCHANGE(LANES, 2, 1)
#if LANES >= 8
    UNROLL
    EXCHANGE(LANES, 4, 1)
#endif
#if LANES >= 16
    UNROLL
    EXCHANGE(LANES, 8, 1)
#endif
}

/* The same of elements of two lanes. */
FN void transpose_twos(vf *r)
{
    UNROLL
    EXCHANGE(LANES / 2, 1, 2)
#if LANES >= 8
    UNROLL
    EXCHANGE(LANES / 2, 2, 2)
#endif
#if LANES >= 16
    UNROLL
    EXCHANGE(LANES / 2, 4, 2)
#endif
}

static TARGET void transpose(void *y, int64_t ldy, const void *x, int64_t ldx, int64_t n, int64_t k)
{
    for (int64_t i = 0; i < n; i += LANES)
        for (int64_t j = 0; j < k; j += LANES) {
            vf r[LANES];
            const char *from = (const char *)x + 4 * (i * ldx + j);
            char *to = (char *)y + 4 * (j * ldy + i);
            if (i + LANES > n || j + LANES > k) {
                for (int64_t a = 0; a < LANES && i + a < n; a++)
                    for (int64_t b = 0; b < LANES && j + b < k; b++) memcpy(to + 4 * (b * ldy + a), from + 4 * (a * ldx + b), 4);
                continue;
            }
            UNROLL
            for (int a = 0; a < LANES; a++) r[a] = load_f32(from + 4 * a * ldx);
            transpose_lanes(r);
            UNROLL
            for (int b = 0; b < LANES; b++) store_f32(to + 4 * b * ldy, r[b]);
        }
}

/* Tiles of NR by NR values from a panel of W^T to one of W. */
static TARGET void turn_f32(void *y, const void *x) { transpose(y, NR, x, NR, NR, NR); }

static TARGET void turn_bf16(void *y, const void *x)
{
    float values[NR * NR], turned[NR * NR];
    widen(values, x, DTYPE_BF16, NR * NR);
    transpose(turned, NR, values, NR, NR, NR);
    narrow(y, turned, NR * NR);
}

/* x[i / 2][o][i % 2] -> y[o / 2][i][o % 2]: blocks of two by two change places, and inside of each its two in the middle. */
static TARGET void turn_pair(void *y, const void *x)
{
    typedef uint64_t v64 __attribute__((vector_size(4 * LANES)));
    enum { H = LANES / 2 };
    const uint64_t outer = 0xFFFF00000000FFFFu, inner = 0xFFFF0000u;
    for (int a = 0; a < 2; a++)
        for (int b = 0; b < 2; b++) {
            vf r[H];
            UNROLL
            for (int i = 0; i < H; i++) r[i] = load_f32((const char *)x + 4 * ((a * H + i) * NR + b * LANES));
            transpose_twos(r);
            UNROLL
            for (int i = 0; i < H; i++) {
                const v64 v = (v64)r[i];
                store_f32((char *)y + 4 * ((b * H + i) * NR + a * LANES), (vf)((v & outer) | (v & inner) << 16 | (v >> 16 & inner)));
            }
        }
}
