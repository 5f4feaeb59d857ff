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

static TARGET void zip(void *y, const void *even, const void *odd, int64_t n)
{
    const char *e = even, *o = odd;
    char *out = y;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vu pair = U32_FROM_U16(*(const vh_at *)(e + 2 * i));
        if (o) pair |= U32_FROM_U16(*(const vh_at *)(o + 2 * i)) << 16;
        store_f32(out + 4 * i, (vf)pair);
    }
    for (; i < n; i++) {
        uint16_t two[2] = {((const h16_at *)e)[i], 0};
        if (o) two[1] = ((const h16_at *)o)[i];
        memcpy(out + 4 * i, two, 4);
    }
}

/* Lane l of the first result: a[l] where bit d of l is 0, else b[l - d]; of the second: a[l + d], else b[l]. */
#define LOW(l, d) ((l) & (d) ? LANES + (l) - (d) : (l))
#define HIGH(l, d) ((l) & (d) ? LANES + (l) : (l) + (d))
#define EXCHANGE(d)                                                                                                              \
    for (int i = 0; i < LANES; i++)                                                                                              \
        if (!(i & (d))) {                                                                                                        \
            vf low = __builtin_shufflevector(r[i], r[i + (d)], EACH_LANE(LOW, d));                                               \
            vf high = __builtin_shufflevector(r[i], r[i + (d)], EACH_LANE(HIGH, d));                                             \
            r[i] = low;                                                                                                          \
            r[i + (d)] = high;                                                                                                   \
        }

/* r[i][j] <-> r[j][i] */
FN void transpose_lanes(vf *r)
{
    UNROLL
    EXCHANGE(1)
    UNROLL
    EXCHANGE(2)
#if LANES >= 8
    UNROLL
    EXCHANGE(4)
#endif
#if LANES >= 16
    UNROLL
    EXCHANGE(8)
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
